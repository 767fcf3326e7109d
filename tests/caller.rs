//! What a test inherits from its caller: a program that a test starts finds the same state for every caller.

mod common;

use std::process::Command;

use common::*;

/// What is ignored or blocked, the mode mask, limits, groups, descriptors and variables.
const LOOK: &str = "umask; ulimit -n; ulimit -c; ulimit -f; grep -E '^(Sig(Ign|Blk)|Groups):' /proc/self/status
    for fd in 3 4 5 6 7 8 9; do if [ -e /proc/$$/fd/$fd ]; then echo descriptor $fd; fi; done
    env | grep -E '^(LC_.*|LANG.*|TERM|TAR_OPTIONS|POSIXLY_CORRECT|CDPATH|ENV|XDG_.*)=' | sed 's/^/variable /'";

/// What a caller may have.
const HOSTILE: &str = "umask 077; ulimit -c 1000; ulimit -S -n 256; ulimit -S -f 10000
    trap '' HUP INT QUIT TERM CHLD USR1 ALRM PIPE
    export LC_ALL=tr_TR.UTF-8 LANG=tr_TR.UTF-8 LANGUAGE=tr TERM=dumb XDG_DATA_HOME=/nowhere TAR_OPTIONS=--nope \\
      POSIXLY_CORRECT=1 CDPATH=/ ENV=/nowhere
    unset HOME
    exec setsid \"$@\" </dev/null 3</etc/passwd 4</dev/null 5</ 6>/dev/null 7</dev/null 8</dev/null 9</etc";

#[test]
fn a_program_that_a_test_starts_has_nothing_of_the_caller() {
    let found = run(&mut sh(LOOK)).ok().out();
    let (groups, found): (Vec<&str>, Vec<&str>) =
        found.lines().partition(|line| line.starts_with("Groups:"));
    // A user who is not root keeps the groups. SAFETY: it takes and changes nothing.
    let is_root = unsafe { libc::geteuid() } == 0;
    assert!(!is_root || groups[0].trim() == "Groups:", "{groups:?}");
    // posix_spawn(3) of the C library has its own two, 32 and 33, ignored.
    let found = found
        .iter()
        .map(|line| line.replace("SigIgn:\t0000000180000000", "SigIgn:\t0000000000000000"));
    let none = "0000000000000000";
    let (blocked, ignored) = (format!("SigBlk:\t{none}"), format!("SigIgn:\t{none}"));
    let expected = ["0022", "1024", "0", "unlimited", &blocked, &ignored, "variable LC_ALL=C"];
    assert_eq!(found.collect::<Vec<_>>(), expected);
}

#[test]
fn that_is_so_whoever_the_caller_is() {
    let ourselves = std::env::current_exe().expect("the test program");
    for caller in
        [HOSTILE, "exec nohup \"$@\" </dev/null", "exec \"$@\" <&- 2>&1", "\"$@\" & wait $!"]
    {
        let mut cmd = Command::new("sh");
        cmd.args(["-c", caller, "sh"]).arg(&ourselves);
        cmd.args(["--exact", "a_program_that_a_test_starts_has_nothing_of_the_caller"]);
        let output = run(&mut cmd);
        let output = output.exits(0);
        assert!(output.out().contains("1 passed"), "{output}");
    }
}
