//! A policy as text, one rule a line, compiled: td-exec(8), "THE POLICY".
//!
//! The program finds a call by its number in a binary search, and then tests its arguments.

use syscalls::Errno;

use crate::error::Error;
use crate::policy::calls::{self, Arch, Call};
use crate::policy::default;
use crate::policy::parse::{self, Test, Wrong};
use crate::policy::program::{LONGEST, Program, answer, code};
use crate::show::{self, plain};
use crate::structs::BpfInstruction;
use crate::text::lines;

/// From here on the kernel takes numbers on x86-64 as those of x32, and shows programs the number as it is.
pub const X32: u32 = 0x4000_0000;

/// Offsets in `struct seccomp_data`; an argument has its low 32 bits first.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// The answer to a call that no rule decides, and to a number that is no call of the table. What they are, the whole
/// policy says. (No rule has these.)
const OTHER: u32 = 0;
const UNKNOWN: u32 = 1;

/// Where a comparison leads, while the distance is not known: to the next test, or behind the rule.
const HOLDS: u8 = 254;
const FAILS: u8 = 255;

/// What is done for one call: all its jumps lead into it.
type Part = Vec<BpfInstruction>;

/// Compile a policy for a machine, and a process that has the capabilities `caps`, bit n for capability n. `name` is
/// that of the text, for messages: file, line and word, escaped. `None`: the policy refuses nothing.
pub fn program(name: &str, text: &[u8], arch: Arch, caps: u64) -> Result<Option<Program>, Error> {
    let mut compiler = Compiler { parts: empty_parts(arch), arch, caps, unconfined: false };
    let empty = !compiler.text(name, text, true)?;
    if empty && compiler.unconfined {
        return Ok(None);
    }
    let program = compiler.program();
    if program.0.len() <= LONGEST {
        return Ok(Some(program));
    }
    Err(Error::refusal(
        "the policy compiles to more than the 4096 instructions that the kernel takes",
    ))
}

struct Compiler {
    arch: Arch,
    caps: u64,
    /// Is a call that no rule decides allowed?
    unconfined: bool,
    /// For each number what is done.
    parts: Vec<Part>,
}

impl Compiler {
    /// Compile a text. Returns whether it has a rule. Where it is not `outer`, it is the default as the program has it.
    fn text(&mut self, name: &str, text: &[u8], outer: bool) -> Result<bool, Error> {
        let mut has_rule = false;
        for (i, line) in lines(text).enumerate() {
            let words = words(line);
            match &words[..] {
                [] => continue,
                [b"unconfined"] => {
                    self.unconfined = true;
                    continue;
                }
                [b"default"] if outer => drop(self.text("default", default::TEXT, false)?),
                words => self.rule(words, outer).map_err(|(word, what)| {
                    let line = show::number(i as u64 + 1);
                    Error::refusal(format_args!("{name}, line {line}: {}: {what}", plain(word)))
                })?,
            }
            has_rule = true;
        }
        Ok(has_rule)
    }

    /// `ANSWER NAME... [if TEST [and TEST]...]`. It decides before the rules that stand above it.
    fn rule<'a>(&mut self, words: &[&'a [u8]], outer: bool) -> Result<(), Wrong<'a>> {
        let Some((first, rest)) = words.split_first() else { return Ok(()) };
        let answer =
            parse::answer(first).ok_or((*first, "not allow, log, kill or the name of an errno"))?;
        let end = rest.iter().position(|word| *word == b"if").unwrap_or(rest.len());
        let (names, tests) = rest.split_at_checked(end).unwrap_or_default();
        if names.is_empty() {
            return Err((*first, "the name of a system call is missing"));
        }
        for name in names {
            let index = if outer { calls::position(name) } else { default::call(name) };
            let call = index
                .and_then(calls::call)
                .ok_or((*name, "not a system call of x86-64 or aarch64"))?;
            let Some(mut part) = self.tests(tests, &call)? else { continue };
            let number = call.number(self.arch).map_or(usize::MAX, |number| number as usize);
            let Some(old) = self.parts.get_mut(number) else { continue };
            let always = part.is_empty();
            part.push(ret(answer));
            if !always {
                part.append(old);
            }
            *old = part;
        }
        Ok(())
    }

    /// The tests, which lead over the next instruction, an answer, where one fails. `None`: one of the capabilities
    /// fails.
    fn tests<'a>(&self, words: &[&'a [u8]], call: &Call) -> Result<Option<Part>, Wrong<'a>> {
        let mut part = Vec::new();
        let mut holds = true;
        let mut left = words;
        while let Some((before, rest)) = left.split_first() {
            let end = rest.iter().position(|word| *word == b"and").unwrap_or(rest.len());
            let (words, behind) = rest.split_at_checked(end).unwrap_or_default();
            match parse::test(words)
                .map_err(|(word, what)| (if words.is_empty() { *before } else { word }, what))?
            {
                Test::Capability { number, held } => {
                    holds &= (self.caps >> number & 1 == 1) == held
                }
                Test::Argument { index, mask, compared, value, opposite } => {
                    let width = call.width(index);
                    if value & !width != 0 || mask != u64::MAX && mask & !width != 0 {
                        return Err((words[0], TOO_LARGE));
                    }
                    argument(&mut part, index, mask & width, compared, value, opposite);
                }
            }
            left = behind;
        }
        let length = part.len();
        if length >= usize::from(HOLDS) {
            return Err((&b"if"[..], "too many tests for one rule"));
        }
        for (i, instruction) in part.iter_mut().enumerate() {
            lead(instruction, FAILS, (length - i) as u8);
        }
        Ok(holds.then_some(part))
    }

    /// All parts, behind the machine that they are for.
    fn program(self) -> Program {
        let mut parts: Vec<(u32, Part)> = Vec::new();
        let mut add = |number: usize, part: Part| {
            if parts.last().is_none_or(|(_, last)| *last != part) {
                parts.push((number as u32, part));
            }
        };
        let newer = self.parts.len();
        for (number, part) in self.parts.into_iter().enumerate() {
            add(number, part);
        }
        add(newer, vec![ret(UNKNOWN)]);
        add(X32 as usize, vec![ret(refusal(Errno::ENOSYS))]);
        // Nothing of a program for another machine could go well: SIGSYS says why, and an errno would not.
        let other_machine = ret(answer::KILL_PROCESS);
        let is_own = jump(code::JEQ, self.arch.audit(), 1, 0);
        let mut all = vec![load(ARCH), is_own, other_machine, load(NUMBER)];
        search(&parts, &mut all);
        for instruction in &mut all {
            instruction.k = match (instruction.code, instruction.k, self.unconfined) {
                (code::RET, OTHER | UNKNOWN, true) => answer::ALLOW,
                (code::RET, OTHER, false) => refusal(Errno::EPERM),
                // A library takes an older call where a newer one does not exist.
                (code::RET, UNKNOWN, false) => refusal(Errno::ENOSYS),
                (_, k, _) => k,
            };
        }
        Program(all)
    }
}

const TOO_LARGE: &str = "it tests bits of an argument that the kernel does not read";

/// What is done for each number of a machine, up to that of its last call, as long as there is no rule.
fn empty_parts(arch: Arch) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for index in 0..calls::COUNT {
        let Some(number) = calls::call(index).and_then(|call| call.number(arch)) else { continue };
        while parts.len() <= number as usize {
            parts.push(vec![ret(UNKNOWN)]);
        }
        parts.iter_mut().skip(number as usize).take(1).for_each(|part| *part = vec![ret(OTHER)]);
    }
    parts
}

/// The words of a line, up to a comment.
fn words(line: &[u8]) -> Vec<&[u8]> {
    let mut words = Vec::new();
    let code = line.split(|byte| *byte == b'#').next().unwrap_or_default();
    for word in code.split(|byte| b" \t".contains(byte)) {
        if !word.is_empty() {
            words.push(word);
        }
    }
    words
}

/// Add a test: `(argument & mask) COMPARED value`, the high 32 bits first if there are any.
fn argument(part: &mut Part, index: u8, mask: u64, compared: u16, value: u64, opposite: bool) {
    let start = part.len();
    let (holds, fails) = if opposite { (FAILS, HOLDS) } else { (HOLDS, FAILS) };
    let half = |part: &mut Part, shift: u32| {
        part.push(load(ARGS + 8 * u32::from(index) + shift / 8));
        let mask = (mask >> shift) as u32;
        if mask != u32::MAX {
            part.push(jump(code::AND, mask, 0, 0));
        }
        (value >> shift) as u32
    };
    if (mask | value) >> 32 != 0 {
        let high = half(part, 32);
        if compared != code::JEQ {
            part.push(jump(code::JGT, high, holds, 0));
        }
        part.push(jump(code::JEQ, high, 0, fails));
    }
    let low = half(part, 0);
    part.push(jump(compared, low, holds, fails));
    let end = part.len();
    for (i, instruction) in part.iter_mut().enumerate().skip(start) {
        lead(instruction, HOLDS, (end - 1 - i) as u8);
    }
}

/// Have a comparison lead so far.
fn lead(instruction: &mut BpfInstruction, mark: u8, distance: u8) {
    for to in [&mut instruction.jt, &mut instruction.jf] {
        if *to == mark {
            *to = distance;
        }
    }
}

/// Append a binary search for the part of a number, each of which begins with its first number.
fn search(parts: &[(u32, Part)], all: &mut Part) {
    let (left, right) = parts.split_at(parts.len() / 2);
    let Some((first, part)) = right.first() else { return };
    if left.is_empty() {
        all.extend_from_slice(part);
        return;
    }
    let at = all.len();
    all.push(jump(code::JGE, *first, 0, 0));
    search(left, all);
    let over = all.len() - at - 1;
    if let Ok(over) = u8::try_from(over) {
        all.iter_mut().skip(at).take(1).for_each(|jge| jge.jt = over);
    } else {
        // A comparison jumps over 255 instructions at most.
        all.iter_mut().skip(at).take(1).for_each(|jge| jge.jf = 1);
        all.insert(at + 1, jump(code::JA, over as u32, 0, 0));
    }
    search(right, all);
}

fn refusal(errno: Errno) -> u32 {
    answer::ERRNO | errno.into_raw() as u32
}

fn load(offset: u32) -> BpfInstruction {
    jump(code::LD_ABS, offset, 0, 0)
}

fn ret(answer: u32) -> BpfInstruction {
    jump(code::RET, answer, 0, 0)
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> BpfInstruction {
    BpfInstruction { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::program::Data;

    const ENOSYS: u32 = answer::ERRNO | 38;
    const EPERM: u32 = answer::ERRNO | 1;

    fn compiled(text: &str, arch: Arch, caps: u64) -> Program {
        program("test", text.as_bytes(), arch, caps).expect("a policy").expect("a program")
    }

    fn number(name: &str, arch: Arch) -> u32 {
        calls::find(name.as_bytes()).expect(name).number(arch).expect("a number here")
    }

    #[track_caller]
    fn asked(program: &Program, arch: Arch, name: &str, args: [u64; 6]) -> u32 {
        let data = Data { number: number(name, arch), arch: arch.audit(), args };
        program.evaluate(&data).expect("a valid program")
    }

    #[test]
    fn each_comparison_is_that_of_64_bits_or_of_what_the_kernel_reads() {
        let values = [
            0,
            1,
            7,
            8,
            9,
            0x7fff_ffff,
            0xffff_ffff,
            1 << 32,
            (1 << 32) + 7,
            (1 << 32) + 8,
            7 << 32,
            (8 << 32) + 1,
            u64::MAX,
            u64::MAX - 1,
        ];
        type Compare = fn(u64, u64) -> bool;
        let operators: [(&str, Compare); 6] = [
            ("=", |a, b| a == b),
            ("!=", |a, b| a != b),
            ("<", |a, b| a < b),
            ("<=", |a, b| a <= b),
            (">", |a, b| a > b),
            (">=", |a, b| a >= b),
        ];
        for arch in [Arch::X86_64, Arch::Aarch64] {
            // mprotect(2) takes three longs; the second argument of ioctl(2) is an unsigned int.
            for (name, index, width) in [("mprotect", 2, u64::MAX), ("ioctl", 1, 0xffff_ffff)] {
                for wanted in values.into_iter().filter(|value| value & !width == 0) {
                    for (operator, compare) in operators {
                        for mask in [width, 0xff, 0x8000_0001] {
                            let and =
                                if mask == width { String::new() } else { format!("& {mask} ") };
                            let rule =
                                format!("allow {name} if arg{index} {and}{operator} {wanted}");
                            let program = compiled(&rule, arch, 0);
                            for value in values {
                                let mut args = [0x5555_5555_5555_5555; 6];
                                args[index] = value;
                                let expected = compare(value & mask, wanted);
                                let allowed = asked(&program, arch, name, args) == answer::ALLOW;
                                assert_eq!(allowed, expected, "{rule}: {value:#x}");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_last_rule_that_holds_decides() {
        let text = "allow ioctl prctl\nEPERM ioctl if arg1 = 5\nENOSYS ioctl if arg1 > 3 and arg2 & 6\n\
            log ioctl if arg1 = 5 and arg2 & 6 = 6 and arg0 = 0";
        let program = compiled(text, Arch::OWN, 0);
        for (args, expected) in [
            ([0, 4, 0], answer::ALLOW),
            ([0, 5, 0], EPERM),
            ([0, 5, 2], ENOSYS),
            ([0, 5, 6], answer::LOG),
            ([1, 5, 6], ENOSYS),
            ([0, 4, 4], ENOSYS),
        ] {
            let [a, b, c] = args;
            assert_eq!(
                asked(&program, Arch::OWN, "ioctl", [a, b, c, 0, 0, 0]),
                expected,
                "{args:?}"
            );
        }
        assert_eq!(asked(&program, Arch::OWN, "prctl", [0; 6]), answer::ALLOW);
        assert_eq!(asked(&program, Arch::OWN, "getpid", [0; 6]), EPERM);
    }

    #[test]
    fn a_capability_is_looked_up_when_it_is_compiled() {
        let text = "allow mount if CAP_SYS_ADMIN\nENOSYS bpf if not CAP_BPF and not CAP_SYS_ADMIN";
        for (caps, mount, bpf) in
            [(0, EPERM, ENOSYS), (1 << 21, answer::ALLOW, EPERM), (1 << 39, EPERM, EPERM)]
        {
            let program = compiled(text, Arch::OWN, caps);
            assert_eq!(asked(&program, Arch::OWN, "mount", [0; 6]), mount, "{caps:#x}");
            assert_eq!(asked(&program, Arch::OWN, "bpf", [0; 6]), bpf, "{caps:#x}");
        }
    }

    #[test]
    fn other_machines_newer_calls_and_x32_are_refused() {
        for (text, newer) in [("allow read", ENOSYS), ("unconfined\nEPERM read", answer::ALLOW)] {
            for arch in [Arch::X86_64, Arch::Aarch64] {
                let program = compiled(text, arch, 0);
                let ask = |number, arch| program.evaluate(&Data { number, arch, args: [0; 6] });
                for other in [0x4000_0003, 0x4000_0028, 0xc000_00f3, 0] {
                    assert_eq!(ask(0, other), Ok(answer::KILL_PROCESS), "{other:#x}");
                }
                for number in [470, 511, 512, 547, X32 - 1] {
                    assert_eq!(ask(number, arch.audit()), Ok(newer), "{number}");
                }
                for number in [0, 1, 59, 470, 520, u32::MAX - X32] {
                    assert_eq!(ask(number | X32, arch.audit()), Ok(ENOSYS), "x32 {number}");
                }
            }
        }
    }

    #[test]
    fn a_search_goes_over_more_than_255_instructions() {
        // A different answer for each call: nothing can be merged.
        let (mut text, mut expected) = (String::new(), Vec::new());
        for index in 0..calls::COUNT {
            let name = calls::name(index);
            let Some(number) = calls::call(index).and_then(|c| c.number(Arch::OWN)) else {
                continue;
            };
            let errno = ["EPERM", "ENOENT", "ESRCH"][number as usize % 3];
            text.push_str(&format!("{errno} {name} if arg0 = 5\nallow {name} if arg0 = 6\n"));
            expected.push((name, answer::ERRNO | (number % 3 + 1)));
        }
        let program = compiled(&text, Arch::OWN, 0);
        assert!(program.0.len() > 2000 && program.0.len() < LONGEST);
        for (name, answer) in expected {
            assert_eq!(asked(&program, Arch::OWN, &name, [5, 0, 0, 0, 0, 0]), answer, "{name}");
            let other = asked(&program, Arch::OWN, &name, [6, 0, 0, 0, 0, 0]);
            assert_eq!(other, answer::ALLOW, "{name}");
            assert_eq!(asked(&program, Arch::OWN, &name, [7; 6]), EPERM, "{name}");
        }
    }

    #[test]
    fn what_becomes_too_long_is_refused() {
        let mut many = String::new();
        (0..2000).for_each(|n| many.push_str(&format!("allow mmap if arg2 = {n}\n")));
        let said = program("x", many.as_bytes(), Arch::OWN, 0).expect_err("too long").text("x");
        assert!(said.contains("more than the 4096 instructions"), "{said}");
        let many = format!("allow mmap if {}", vec!["arg2 != 5"; 100].join(" and "));
        let said = program("x", many.as_bytes(), Arch::OWN, 0).expect_err("too long").text("x");
        assert!(said.contains("too many tests for one rule"), "{said}");
    }

    #[track_caller]
    fn refused(text: &[u8], expected: &str) {
        let error = program(&plain(b"a file\x1b"), text, Arch::OWN, 0).err();
        let said = error.unwrap_or_else(|| panic!("accepted: {text:?}")).text("x");
        assert_eq!(said, format!("x: \"a file\\33\", {expected}\n"));
    }

    #[test]
    fn what_is_wrong_is_named_by_file_line_and_word() {
        refused(
            b"allow read\n\nallow raed",
            "line 3: raed: not a system call of x86-64 or aarch64",
        );
        refused(
            b"allow read\x1b[2J",
            "line 1: \"read\\33[2J\": not a system call of x86-64 or aarch64",
        );
        refused(b"deny read", "line 1: deny: not allow, log, kill or the name of an errno");
        refused(b"EPER read", "line 1: EPER: not allow, log, kill or the name of an errno");
        refused(b"allow", "line 1: allow: the name of a system call is missing");
        refused(b"allow # read", "line 1: allow: the name of a system call is missing");
        refused(b"allow if arg0 = 1", "line 1: allow: the name of a system call is missing");
        refused(b"allow read if", "line 1: if: a test is missing");
        refused(b"allow read if arg0 = 1 and", "line 1: and: a test is missing");
        let shape = "a test is: argN OPERATOR VALUE, or argN & MASK";
        refused(b"allow read if arg0", &format!("line 1: arg0: {shape}"));
        refused(b"allow read if arg0 =", &format!("line 1: arg0: {shape}"));
        refused(b"allow read if arg0 = 1 2", &format!("line 1: arg0: {shape}"));
        let start = "not a test: argN, CAP_NAME or not CAP_NAME";
        refused(b"allow read if arg6 = 1", &format!("line 1: arg6: {start}"));
        refused(b"allow read if fd = 1", &format!("line 1: fd: {start}"));
        refused(b"allow read if not", &format!("line 1: not: {start}"));
        refused(b"allow read if arg0 == 1", "line 1: ==: not an operator: = != < <= > >=");
        refused(b"allow read if arg0 = -1", "line 1: -1: not a number, decimal or with 0x");
        refused(b"allow read if arg0 & x", "line 1: x: not a number, decimal or with 0x");
        refused(b"allow read if CAP_FLY", "line 1: CAP_FLY: not a capability");
        refused(b"allow read if not CAP_FLY", "line 1: CAP_FLY: not a capability");
        // Also where a capability has decided already, and where this machine has no such call.
        refused(
            b"allow open if CAP_KILL and arg0 = x",
            "line 1: x: not a number, decimal or with 0x",
        );
        refused(b"default read", "line 1: default: not allow, log, kill or the name of an errno");
        refused(b"allow read\r\n", "line 1: \"read\\r\": not a system call of x86-64 or aarch64");
        for test in ["arg0 = 0x100000000", "arg0 < 0x100000000", "arg0 & 0x100000001"] {
            let text = format!("allow socket if {test}");
            refused(text.as_bytes(), &format!("line 1: arg0: {TOO_LARGE}"));
        }
    }

    #[test]
    fn a_line_takes_over_the_default_and_comments_are_left_out() {
        let text = "# all of it\ndefault\n\n  EPERM\tread connect # no network\nallow keyctl\n";
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let program = compiled(text, arch, 0);
            for (name, expected) in [
                ("read", EPERM),
                ("connect", EPERM),
                ("write", answer::ALLOW),
                ("keyctl", answer::ALLOW),
                ("add_key", EPERM),
                ("clone3", ENOSYS),
            ] {
                assert_eq!(asked(&program, arch, name, [0; 6]), expected, "{arch:?} {name}");
            }
        }
    }

    #[test]
    fn unconfined_is_no_program_and_with_rules_refuses_those_alone() {
        for text in ["unconfined", "# nothing\n\nunconfined\n"] {
            assert_eq!(program("x", text.as_bytes(), Arch::OWN, 0).expect("a policy"), None);
        }
        let program = compiled("EPERM keyctl\nunconfined", Arch::OWN, 0);
        assert_eq!(asked(&program, Arch::OWN, "keyctl", [0; 6]), EPERM);
        assert_eq!(asked(&program, Arch::OWN, "bpf", [0; 6]), answer::ALLOW);
    }
}
