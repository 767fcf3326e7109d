//! tests/vm/boot.sh, which scripts/test-vm starts and ends its machines with: here qemu is a script.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::*;

const BOOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vm/boot.sh");

/// Boot a machine whose qemu is the script `qemu`, and do `steps` with it; return its log. A silence of two seconds is
/// too long, and so are 50 lines.
#[track_caller]
fn log_of(dir: &TempDir, qemu: &str, steps: &str) -> String {
    dir.dir("amd64/root/boot");
    dir.file("amd64/root/boot/vmlinuz-6.1", "");
    dir.dir("bin");
    dir.program("bin/qemu-system-x86_64", format!("#!/bin/sh\necho $$ >\"${{0%/*}}/pid\"\n{qemu}"));
    let set = "machine=m architecture=amd64 silence=2 most_lines=50";
    let steps = format!("#!/bin/sh\nset -eu\n. \"$1\"\nvm=$2 {set}\nstart boot words\n{steps}\n");
    let steps = dir.program("steps", steps);
    let path = format!("{}:{}", text(&dir.join("bin")), std::env::var("PATH").expect("PATH"));
    run(script(text(&steps), [BOOT, text(dir.path())]).env("PATH", path)).exits(0);
    fs::read_to_string(dir.join("m.boot.log")).expect("a log")
}

/// The pid that qemu had.
#[track_caller]
fn pid(dir: &TempDir) -> i32 {
    let text = fs::read_to_string(dir.join("bin/pid")).expect("qemu has begun");
    text.trim().parse().expect("a pid")
}

/// The lines that count as tests which failed.
fn faults(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.starts_with("not ok ")).collect()
}

#[test]
fn a_machine_is_watched_by_its_silence_and_not_by_how_long_it_runs() {
    let dir = TempDir::new();
    let qemu = "for n in 1 2 3 4 5 6 7 8; do echo $n; sleep 0.5; done; echo done; echo Power down";
    let log = log_of(&dir, qemu, "ends 'Power down'");
    assert_eq!(faults(&log), [""; 0], "{log}");
    assert!(log.starts_with("boot m boot with Linux 6.1\n1\n"), "{log}");
    assert!(log.ends_with("\nok boot: Power down\n"), "{log}");
}

#[test]
fn a_silent_machine_is_ended_and_says_what_it_was_doing() {
    let dir = TempDir::new();
    let qemu = "printf 'begin\\r\\ntest x has been running\\r\\n \\r\\n'; exec sleep 1000";
    let log = log_of(&dir, qemu, "ends 'Power down'");
    let line = "it has printed nothing for 2 seconds and was ended; the last line is: test x has been running";
    assert_eq!(faults(&log)[0], format!("not ok boot: {line}"), "{log}");
    assert!(log.contains("\nnot ok boot: qemu ended with "), "{log}");
    assert!(!is_alive(pid(&dir)));
}

#[test]
fn what_the_kernel_complains_of_is_no_progress() {
    let dir = TempDir::new();
    let qemu = "echo busy; while sleep 0.2; do echo '[   63.0] rcu: self-detected stall'; done";
    let log = log_of(&dir, qemu, "ends 'Power down'");
    let line = "and was ended; the last line is: [   63.0] rcu: self-detected stall";
    assert!(faults(&log)[0].ends_with(line), "{log}");
    assert!(!is_alive(pid(&dir)));
}

#[test]
fn a_machine_that_prints_for_ever_is_ended() {
    let dir = TempDir::new();
    let log = log_of(&dir, "while sleep 0.01; do echo again; done", "ends 'Power down'");
    let line = "it has printed more than 50 lines and was ended; the last line is: again";
    assert_eq!(faults(&log)[0], format!("not ok boot: {line}"));
    assert!(!is_alive(pid(&dir)));
}

#[test]
fn a_qemu_that_ignores_the_signal_is_killed() {
    let dir = TempDir::new();
    let qemu = "trap '' TERM; echo deaf; while :; do sleep 0.2; done";
    let log = log_of(&dir, qemu, "ends 'Power down'");
    assert!(log.contains("the last line is: deaf"), "{log}");
    assert!(!is_alive(pid(&dir)));
}

#[test]
fn what_is_awaited_is_awaited_as_long_as_the_machine_prints() {
    let dir = TempDir::new();
    let qemu =
        "for n in 1 2 3 4 5 6; do echo $n; sleep 0.5; done; echo done; printf '# '; read -r typed
        echo \"typed $typed\"; echo Power down";
    let log = log_of(&dir, qemu, "await '# '; enter 'off\n'; ends 'Power down'");
    assert_eq!(faults(&log), [""; 0], "{log}");
    assert!(log.contains("typed off\nPower down\n"), "{log}");
}

#[test]
fn a_machine_that_never_prints_what_is_awaited_is_ended_once() {
    let dir = TempDir::new();
    let log = log_of(&dir, "echo done; exec sleep 1000", "await ready; quit");
    let said =
        "not ok boot: it has printed nothing for 2 seconds and was ended; the last line is: done";
    assert_eq!(faults(&log), [said, "not ok boot: it has not printed: ready"], "{log}");
}

#[test]
fn a_machine_that_has_ended_is_not_awaited() {
    let dir = TempDir::new();
    let log = log_of(&dir, "echo oops", "await ready; ends 'Power down'");
    assert_eq!(faults(&log).len(), 3, "{log}");
    assert!(log.contains("not ok boot: it has not printed: ready"), "{log}");
    assert!(log.contains("not ok boot: its script has not come to its end"), "{log}");
    assert!(log.contains("not ok boot: qemu ended with 0, and not after: Power down"), "{log}");
}

#[test]
fn nothing_but_a_machine_is_accepted() {
    let test_vm = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/test-vm");
    for word in ["v3", "--bound=3"] {
        let said = format!("test-vm: {word}: no such option or machine, see --help\n");
        assert_eq!(run(Command::new(&test_vm).arg(word)).exits(125).err(), said);
    }
}
