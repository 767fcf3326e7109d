//! A policy as text, one rule a line, compiled: td-exec(8), "THE POLICY".
//!
//! The program finds a call by its number in a binary search, and then tests its arguments.

use syscalls::Errno;

use crate::ids::policy::calls::{self, Arch, Call};
use crate::ids::policy::default;
use crate::ids::policy::parse::{self, Test, Wrong};
use crate::ids::policy::program::{LONGEST, Program, answer, code};
use crate::say::error::Error;
use crate::say::show::{self, plain};
use crate::say::text::{lines, split};
use crate::sys::structs::BpfInstruction;

/// From here on the kernel takes numbers on x86-64 as those of x32, and shows programs the number as it is.
pub const X32: u32 = 0x4000_0000;

/// Offsets in `struct seccomp_data`; an argument has its low 32 bits first.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// The answer to a call that no rule decides, and to a number that is not a call of the table. What they are, the whole
/// policy says. (No rule has these.)
const OTHER: u32 = 0;
const UNKNOWN: u32 = 1;

/// Where a comparison leads, while the distance is not known: to the next test, or to what follows the rule.
const HOLDS: u8 = 254;
const FAILS: u8 = 255;

/// What is done for one call: all its jumps lead into it.
type Part = Box<[BpfInstruction]>;

/// Compile a policy for a machine, and a process that has the capabilities `caps`, bit n for capability n. `name` is
/// that of the text, for messages: file, line and word, escaped. `None`: the policy refuses nothing.
pub fn program(name: &str, text: &[u8], arch: Arch, caps: u64) -> Result<Option<Program>, Error> {
    let mut compiler = Compiler::new(arch, caps);
    let empty = !compiler.text(name, text, true)?;
    if empty && compiler.unconfined {
        return Ok(None);
    }
    let program = compiler.program();
    if program.0.len() <= LONGEST {
        return Ok(Some(program));
    }
    Err(Error::refusal(
        "the policy compiles to more than the 4096 instructions that the kernel accepts",
    ))
}

struct Compiler {
    arch: Arch,
    caps: u64,
    /// Is a call that no rule decides allowed?
    unconfined: bool,
    /// The numbers up to the largest: is there a call of that number?
    known: Vec<bool>,
    /// For each number what is done; nothing as long as there is no rule.
    parts: Vec<Part>,
}

impl Compiler {
    fn new(arch: Arch, caps: u64) -> Compiler {
        let known = numbers(arch);
        let parts = known.iter().map(|_| Part::default()).collect();
        Compiler { arch, caps, unconfined: false, known, parts }
    }

    /// Compile a text. Returns whether it has a rule. Where it is not `outer`, it is the default as the program has it.
    fn text(&mut self, name: &str, text: &[u8], outer: bool) -> Result<bool, Error> {
        let mut has_rule = false;
        let mut words = Vec::new(); // one for all lines: process 1 keeps what is allocated here
        for (i, line) in lines(text).enumerate() {
            set_words(&mut words, line);
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
            if part.is_empty() {
                *old = Box::new([ret(answer)]); // of just this size: there is one for each call
                continue;
            }
            part.push(ret(answer));
            if old.is_empty() {
                part.push(ret(OTHER));
            }
            part.extend_from_slice(old);
            *old = part.into();
        }
        Ok(())
    }

    /// The tests, which lead over the next instruction, an answer, where one fails. `None`: one of the capabilities
    /// fails.
    fn tests<'a>(
        &self,
        words: &[&'a [u8]],
        call: &Call,
    ) -> Result<Option<Vec<BpfInstruction>>, Wrong<'a>> {
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
                        return Err((words.first().copied().unwrap_or(before), TOO_LARGE));
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

    /// All parts, after the machine that they are for.
    fn program(self) -> Program {
        let mut parts: Vec<(u32, Part)> = Vec::with_capacity(self.parts.len() + 2);
        let mut add = |number: usize, part: Part| {
            if parts.last().is_none_or(|(_, last)| *last != part) {
                parts.push((number as u32, part));
            }
        };
        let newer = self.parts.len();
        for (number, (part, known)) in self.parts.into_iter().zip(self.known).enumerate() {
            let none = || -> Part { Box::new([ret(if known { OTHER } else { UNKNOWN })]) };
            add(number, if part.is_empty() { none() } else { part });
        }
        add(newer, Box::new([ret(UNKNOWN)]));
        add(X32 as usize, Box::new([ret(refusal(Errno::ENOSYS))]));
        // A program for another machine cannot work at all: SIGSYS shows the cause, an errno would not.
        let other_machine = ret(answer::KILL_PROCESS);
        let is_own = jump(code::JEQ, self.arch.audit(), 1, 0);
        let mut all = vec![load(ARCH), is_own, other_machine, load(NUMBER)];
        search(&parts, &mut all);
        for instruction in &mut all {
            instruction.k = match (instruction.code, instruction.k, self.unconfined) {
                (code::RET, OTHER | UNKNOWN, true) => answer::ALLOW,
                (code::RET, OTHER, false) => refusal(Errno::EPERM),
                // A library falls back to an older call if a newer one does not exist.
                (code::RET, UNKNOWN, false) => refusal(Errno::ENOSYS),
                (_, k, _) => k,
            };
        }
        Program(all)
    }
}

const TOO_LARGE: &str = "it tests bits of an argument that the kernel does not read";

/// The numbers of a machine, from 0 to the largest: is there a call of that number?
fn numbers(arch: Arch) -> Vec<bool> {
    let known = || (0..calls::COUNT).filter_map(|i| calls::call(i)?.number(arch));
    let mut numbers = vec![false; known().max().map_or(0, |number| number as usize + 1)];
    for number in known() {
        numbers.iter_mut().skip(number as usize).take(1).for_each(|is_known| *is_known = true);
    }
    numbers
}

/// The words of a line, up to a comment.
fn set_words<'a>(words: &mut Vec<&'a [u8]>, line: &'a [u8]) {
    words.clear();
    let code = split(line, b'#').next().unwrap_or_default();
    for word in code.split(|byte| matches!(byte, b' ' | b'\t')) {
        if !word.is_empty() {
            words.push(word);
        }
    }
}

/// Add a test: `(argument & mask) COMPARED value`, the high 32 bits first if there are any.
fn argument(
    part: &mut Vec<BpfInstruction>,
    index: u8,
    mask: u64,
    compared: u16,
    value: u64,
    opposite: bool,
) {
    let start = part.len();
    let (holds, fails) = if opposite { (FAILS, HOLDS) } else { (HOLDS, FAILS) };
    let half = |part: &mut Vec<BpfInstruction>, shift: u32| {
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

/// Set the distance of a jump.
fn lead(instruction: &mut BpfInstruction, mark: u8, distance: u8) {
    for to in [&mut instruction.jt, &mut instruction.jf] {
        if *to == mark {
            *to = distance;
        }
    }
}

/// Append a binary search for the part of a number, each of which begins with its first number.
fn search(parts: &[(u32, Part)], all: &mut Vec<BpfInstruction>) {
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
mod tests;
