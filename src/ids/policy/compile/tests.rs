//! A text compiled, and the program asked.

use super::*;
use crate::ids::policy::program::Data;

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
                        let and = if mask == width { String::new() } else { format!("& {mask} ") };
                        let rule = format!("allow {name} if arg{index} {and}{operator} {wanted}");
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
        assert_eq!(asked(&program, Arch::OWN, "ioctl", [a, b, c, 0, 0, 0]), expected, "{args:?}");
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
    refused(b"allow read\n\nallow raed", "line 3: raed: not a system call of x86-64 or aarch64");
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
    refused(b"allow open if CAP_KILL and arg0 = x", "line 1: x: not a number, decimal or with 0x");
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
