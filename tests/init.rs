//! td-init: process 1, of a container and of a machine.

mod common;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use common::*;

/// PROG, a shell script, under td-init with these options (words without blanks).
fn prog(options: &str, script: &str) -> Command {
    let mut cmd = td("td-init", options.split_whitespace());
    cmd.args(["sh", "-c", script]);
    cmd
}

#[test]
fn init_passes_on_how_prog_ended() {
    for status in [0, 7, 125, 255] {
        run(&mut prog("", &format!("exit {status}"))).exits(status);
    }
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGHUP] {
        run(&mut prog("", &format!("kill -{signal} $$"))).exits(128 + signal);
    }
    run(&mut td("td-init", ["/nowhere"])).exits(127).says("/nowhere does not exist");
    run(&mut td("td-init", ["/etc/passwd"])).exits(126);
}

#[test]
fn outside_a_pid_namespace_init_adopts_and_reaps_orphans() {
    let script = "pid=$(sh -c 'sleep 1000 >/dev/null & echo $!'); cat /proc/$PPID/comm; \
        until grep -q \"^PPid:.*[[:blank:]]$PPID\\$\" /proc/$pid/status; do :; done; \
        kill -9 $pid; until [ ! -e /proc/$pid ]; do :; done; echo reaped";
    assert_eq!(run(&mut prog("", script)).ok().out(), "td-init\nreaped\n");
}

#[test]
fn prog_dies_with_an_init_that_is_killed() {
    let running = start(&mut prog("", "echo $$; exec sleep 1000"));
    let text = running.prints("\n");
    let pid: i32 = text.trim().parse().expect("a pid");
    running.kill(libc::SIGKILL);
    assert_eq!(running.wait().signal, Some(libc::SIGKILL));
    wait_for("PROG to die", || (!is_alive(pid)).then_some(()));
}

#[test]
fn only_process_1_has_something_to_do_on_exit() {
    for word in ["poweroff", "reboot", "halt", "respawn"] {
        let output = run(&mut prog(&format!("--on-exit {word}"), "echo PROG ran")).exits(125);
        let output = output.says("--on-exit needs process 1, but this is process ");
        assert_eq!(output.says("td-unshare --pid").out(), "");
    }
    for (options, why) in [
        ("--on-exit stop", "--on-exit stop: must be poweroff, reboot, halt or respawn"),
        ("--on-exit halt --no-such-option", "--no-such-option: no such option"),
    ] {
        run(&mut prog(options, "echo PROG ran")).exits(125).says(why);
    }
}

// ---- options ----

#[test]
fn an_exit_status_of_prog_becomes_another_and_no_other_does() {
    for (options, status, expected) in [
        ("-e 3", 3, 0),
        ("--map-exit 3=7", 3, 7),
        ("-e 3=7 -e 0=255", 0, 255),
        ("-e 3=7 -e 3=8", 3, 8),
        ("-e 255=0", 255, 0),
        ("-e 3 -e 5", 4, 4),
    ] {
        run(&mut prog(options, &format!("exit {status}"))).exits(expected);
    }
    run(&mut prog("-e 143", "kill -TERM $$")).exits(0);
    run(&mut td("td-init", ["-e", "127=9", "/nowhere"])).exits(9);
    for status in 0..256 {
        let all = (0..256).filter(|n| *n != status).flat_map(|n| ["-e".into(), n.to_string()]);
        let mut cmd = td("td-init", all.collect::<Vec<String>>());
        run(cmd.args(["sh", "-c", &format!("exit {status}")])).exits(status);
    }
}

#[test]
fn a_wrong_value_of_an_option_is_named_and_runs_nothing() {
    for (options, why) in [
        ("-e 256", "-e 256: an exit status is 0 to 255"),
        ("-e 1=256", "-e 1=256: an exit status is 0 to 255"),
        ("-e 1=", "-e 1=: an exit status is 0 to 255"),
        ("-e -1", "-e -1: an exit status is 0 to 255"),
        ("-r 15", "-r 15: must be two signals, S:D, or S:0"),
        ("-r 15::12", "15::12: not a signal"),
        ("-r 0:15", "0:15: not a signal"),
        ("-r TERM:65", "TERM:65: not a signal"),
        ("-r TERM:RTMIN+31", "TERM:RTMIN+31: not a signal"),
        ("-r KILL:TERM", "SIGKILL is not passed on"),
        ("-r STOP:TERM", "SIGSTOP is not passed on"),
        ("-r 17:TERM", "SIGCHLD is not passed on"),
        ("-p 0", "0: not a signal"),
        ("-p KILLED", "KILLED: not a signal"),
        ("--grace soon", "soon: not a number of seconds"),
        ("--on-exit halt --grace 1", "--on-exit takes no -e, -p, -w and no --grace"),
    ] {
        let output = run(&mut prog(options, "echo PROG ran")).exits(125).says(why);
        assert_eq!(output.out(), "", "{options}");
    }
}

/// A script that prints the number of each signal that it gets, ends with 9 at SIGUSR2, and is ready then.
fn prints_signals() -> String {
    let traps = |n| format!("trap 'echo {n}' {n}; ");
    let signals = (1..32).filter(|n| ![libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD].contains(n));
    signals.chain(34..65).map(traps).collect::<String>()
        + "trap 'exit 9' USR2; echo ready; while :; do sleep 0.01; done"
}

#[test]
fn a_signal_is_rewritten_or_dropped_by_its_number_or_its_name() {
    let options = "-r 15:INT --rewrite SIGINT:15 -r HUP:0 -r TSTP:TERM -r RTMIN+1:RTMAX-1 -r RTMAX:3 \
        -r 1:0 -r USR1:0 -r USR1:14 -r WINCH:USR2";
    let running = start(&mut prog(options, &prints_signals()));
    running.prints("ready\n");
    for (sent, got) in [
        (libc::SIGTERM, libc::SIGINT),
        (libc::SIGINT, libc::SIGTERM),
        (35, 63),
        (64, libc::SIGQUIT),
        (libc::SIGUSR1, libc::SIGALRM),
        (40, 40),
    ] {
        running.kill(libc::SIGHUP); // dropped
        let before = running.out();
        running.kill(sent);
        wait_for("the signal", || (running.out() == format!("{before}{got}\n")).then_some(()));
    }
    // And td-init stops at the signal that it gets, if the caller's shell could continue it.
    running.kill(libc::SIGTSTP);
    running.prints(&format!("40\n{}\n", libc::SIGTERM));
    running.kill(libc::SIGCONT);
    running.kill(libc::SIGWINCH);
    let out = running.wait().exits(9).out();
    assert!(!out.contains(&format!("\n{}\n", libc::SIGHUP)), "{out}");
}

#[test]
fn a_signal_is_for_the_whole_group_only_if_it_is_asked_for() {
    // A program that was executed has no trap any more, as the copy of the shell before it still has for a moment.
    let script = "trap p=1 USR1; read -r text </proc/$$/stat; set -- ${text##*) }; echo $(($3 == $$)); \
        sh -c 'echo ready; exec sleep 1000' & until [ \"$p\" ]; do sleep 0.01; done; kill $!; wait $!; exit $?";
    for (options, leads, ended_by) in
        [("", 0, libc::SIGTERM), ("-g", 1, libc::SIGUSR1), ("--group", 1, libc::SIGUSR1)]
    {
        let running = start(&mut prog(options, script));
        assert_eq!(running.prints("ready\n"), format!("{leads}\nready\n"));
        running.kill(libc::SIGUSR1);
        running.wait().exits(128 + ended_by);
    }
}

#[test]
fn orphans_are_reported_only_if_that_is_asked_for() {
    let script = "for i in 1 2 3; do (sleep 0.01 &); done; until [ $(ps -o pid= --ppid $PPID | wc -l) = 1 ]; \
        do sleep 0.01; done; exit 4";
    for options in ["-w", "--warn"] {
        let output = run(&mut prog(options, script)).exits(4);
        let lines: Vec<_> = output.err().lines().map(String::from).collect();
        assert_eq!(lines.len(), 3, "{output}");
        for line in lines {
            let pid = line.strip_prefix("td-init: Reaped zombie process with pid=").expect(&line);
            assert!(pid.parse::<u32>().is_ok_and(|pid| pid > 1), "{line}");
        }
        assert_eq!(run(&mut prog(options, "exit 4")).exits(4).err(), "");
    }
    assert_eq!(run(&mut prog("", script)).exits(4).err(), "");
}

#[test]
fn what_is_passed_on_and_reaped_is_said_if_that_is_asked_for() {
    let script = "trap 'exit 5' TERM; echo $$; kill -USR1 $PPID; while :; do sleep 0.01; done";
    for options in ["-v", "--verbose", "-vvv"] {
        let options = format!("{options} -r USR1:0 -r HUP:TERM");
        let running = start(&mut prog(&options, script));
        let pid = running.prints("\n").trim().to_string();
        wait_for("the first line", || running.err().contains("dropped\n").then_some(()));
        running.kill(libc::SIGHUP);
        let said = format!(
            "td-init: SIGUSR1: dropped\ntd-init: SIGHUP: PROG is sent SIGTERM\n\
             td-init: PROG, process {pid}, has ended with exit status 5\n"
        );
        assert_eq!(running.wait().exits(5).err(), said);
    }
    let output = run(&mut prog("-v", "kill -KILL $$")).exits(137);
    assert!(output.err().ends_with(", was killed by SIGKILL\n"), "{output}");
}

#[test]
fn the_end_of_the_parent_is_a_signal_if_that_is_asked_for() {
    for options in ["-p USR1", "--parent-death=SIGUSR1", "-p 10"] {
        let dir = TempDir::new();
        let out = dir.join("out");
        let script =
            "trap 'echo told >$0; exit 0' USR1; kill -KILL $1; while :; do sleep 0.01; done";
        let mut cmd = sh("\"$@\" \"$out\" $$; exit 0");
        cmd.env("out", &out).arg("sh").arg(bin("td-init")).args(options.split(' '));
        let output = run(cmd.args(["sh", "-c", script]));
        assert_eq!(output.signal, Some(libc::SIGKILL), "{output}");
        wait_for("PROG to be told", || {
            fs::read_to_string(&out).is_ok_and(|text| text == "told\n").then_some(())
        });
    }
}

/// Processes with this in their command lines.
fn with_word(word: &str) -> Vec<i32> {
    let is = |pid: &i32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.split(|byte| *byte == 0).any(|arg| arg == word.as_bytes()))
    };
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(is).collect()
}

/// Leaves three processes behind, which ignore SIGTERM, in a session of their own, or are stopped.
const LEAVES: &str = "sh -c 'trap \"\" TERM; sleep $0 & wait' $0 & setsid sleep $0 & sleep $0 & \
    until [ $(ps ax -o args= | grep -c \"^sleep $0\") = 3 ]; do sleep 0.01; done; kill -STOP $!;";

#[test]
fn nothing_of_prog_outlives_its_end_when_grace_is_given() {
    let word = format!("{}.5", 100_000 + std::process::id());
    let begin = Instant::now();
    let script = format!("{LEAVES} exit 6");
    run(prog("--grace 0.5", &script).arg(&word)).exits(6);
    assert!(begin.elapsed() >= Duration::from_millis(500), "{:?}", begin.elapsed());
    assert_eq!(with_word(&word), [] as [i32; 0]);
    // No longer than they take.
    let begin = Instant::now();
    run(prog("--grace=200", "setsid sleep $0 & sleep $0 & exit 7").arg(&word)).exits(7);
    run(prog("--grace=200", "exit 7").arg(&word)).exits(7);
    assert!(begin.elapsed() < Duration::from_secs(100), "{:?}", begin.elapsed());
    assert_eq!(with_word(&word), [] as [i32; 0]);
}

#[test]
fn a_tree_that_is_deep_and_wide_and_ignores_sigterm_ends_with_grace() {
    let word = format!("{}.6", 100_000 + std::process::id());
    // 2000 processes, more than a buffer has room for; and a chain of parents.
    let script = "trap '' TERM; i=0; while [ $i -lt 1000 ]; do (sleep $0 & sleep $0 &) ; i=$((i + 1)); done; \
        chain() { [ $1 = 0 ] && exec sleep $0; (chain $(($1 - 1))); wait; }; chain 40 & exit 8";
    run(prog("--grace 0.2", script).arg(&word)).exits(8);
    assert_eq!(with_word(&word), [] as [i32; 0]);
}

#[test]
fn told_to_end_it_gives_prog_and_all_others_the_same_time() {
    let word = format!("{}.7", 100_000 + std::process::id());
    let ignores = format!("trap '' TERM; {LEAVES} echo ready; while :; do sleep 0.05; done");
    let running = start(prog("--grace 0.5", &ignores).arg(&word));
    running.prints("ready\n");
    let begin = Instant::now();
    running.kill(libc::SIGTERM);
    running.wait().exits(128 + libc::SIGKILL);
    assert!(begin.elapsed() >= Duration::from_millis(500), "{:?}", begin.elapsed());
    assert_eq!(with_word(&word), [] as [i32; 0]);
    // One that listens gets it once, and what it gets instead is no reason to wait.
    for (options, signal) in [("", "TERM"), ("-r TERM:QUIT", "QUIT")] {
        let script = format!(
            "trap 'n=$((n + 1)); echo got $n' {signal}; (trap 'exit 3' TERM; while :; do sleep 0.01; done) & \
             echo ready; until [ \"$n\" ]; do sleep 0.01; done; sleep 0.2; echo $n in all; exit 4"
        );
        let running = start(&mut prog(&format!("--grace 100 {options}"), &script));
        running.prints("ready\n");
        running.kill(libc::SIGTERM);
        let output = running.wait().exits(4);
        assert!(output.out().ends_with("got 1\n1 in all\n"), "{output}");
    }
}

mod root {
    use super::common::pty::Pty;
    use super::common::strace::under_strace;
    use super::*;

    /// As PID 1 of a pid namespace with its own /proc, behind td-exec with these options.
    fn as_pid_1(options: &str, script: &str) -> Command {
        with_proc(&format!("td-exec {options} td-init"), script)
    }

    /// A tool as PID 1, with its words, and PROG.
    fn with_proc(line: &str, script: &str) -> Command {
        private_mounts();
        let mut words = line.split_whitespace();
        let mut cmd = td("td-unshare", ["-m", "-p", "sh", "-c"]);
        let outer = "mount -t proc proc /proc; td=$1; shift; exec \"$td\" \"$@\"";
        let tool = bin(words.next().expect("a tool"));
        cmd.args([outer.as_ref(), "sh".as_ref(), tool.as_os_str()]);
        cmd.args(words).args(["sh", "-c", script]);
        cmd
    }

    #[test]
    fn pid_1_is_called_td_init_and_shows_nothing_of_the_host() {
        let script = "cat /proc/1/comm; tr '\\0' '|' </proc/1/cmdline; echo; \
            tr -d '\\0' </proc/1/environ | wc -c; ls /proc/1/fd | tr '\\n' ' '; echo $$ $PPID";
        let mut cmd = as_pid_1("--clear-env", script);
        give_fd(&mut cmd, 77, fs::File::open("/").expect("a directory"));
        let text = run(cmd.env("SECRET", "host")).ok().out();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "td-init");
        assert_eq!(lines[1].trim_end_matches('|'), "td-init");
        // And the end of the line to its child.
        assert_eq!(lines[2..], ["0", "0 1 2 5 3 1"]);
    }

    #[test]
    fn pid_1_is_what_prog_is() {
        let script = "ids() { grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp)' /proc/$1/status; \
            cut -d' ' -f6 /proc/$1/stat; }; ids 1; echo and; ids self";
        for options in [
            "",
            "--cap-keep chown",
            "--cap-keep none --setsid --session-keyring",
            "--user 7:8 --groups 9,10 --cap-keep all --no-new-privs --seccomp default",
            "--cap-keep chown --user 7 --ambient",
        ] {
            let text = run(&mut as_pid_1(options, script)).ok().out();
            let (first, prog) = text.split_once("and\n").expect("both");
            assert_eq!(first, prog, "{options}");
            let uid = if options.contains("--user 7") { 7 } else { 0 };
            assert!(first.starts_with(&format!("Uid:\t{uid}\t")), "{first}");
        }
    }

    /// A tool of an image would have all our rights: its name never leads there, but behind `--`.
    #[test]
    fn behind_a_pivot_the_name_of_a_tool_is_a_program_of_the_image_only_behind_dashes() {
        private_mounts();
        let dir = image_on_tmpfs("mnt");
        for tool in programs() {
            for directory in ["bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin"] {
                dir.dir(&format!("mnt/{directory}"));
                let file = format!("mnt/{directory}/{tool}");
                dir.program(&file, "#!/bin/sh\necho the image\n");
            }
        }
        for first in ["td-exec", "td-init", "td-exec td-init", "td-init td-exec", "td-enter --wd=/"]
        {
            let behind = |prog: &str| {
                let root = dir.join("mnt");
                let root = text(&root);
                let line = format!("-m -p td-mount --proc {root} td-pivot {root} {first} {prog}");
                run(&mut td("td-unshare", line.split(' ')))
            };
            for tool in programs() {
                let output = behind(&format!("{tool} --version"));
                match output.code {
                    Some(0) => assert!(output.out().starts_with(&format!("{tool} ")), "{output}"),
                    _ => {
                        let output = output.exits(125).says("which is not in this root");
                        assert_eq!(output.out(), "", "{first} {tool}");
                        let has = ["td-exec", "td-init", "td-tty"].contains(&&*tool);
                        assert!(first.starts_with("td-enter") || !has, "{first} has {tool}");
                    }
                }
                assert_eq!(behind(&format!("-- {tool} --version")).ok().out(), "the image\n");
            }
        }
    }

    /// PROG may be there before process 1 has closed what it has open.
    #[test]
    fn what_td_exec_has_used_is_closed_before_prog_can_look_at_process_1() {
        private_mounts();
        let dir = TempDir::new();
        let line = "-p -m td-mount --proc / td-exec --seccomp unconfined --record-fd 9 td-init ls /proc/1/fd";
        let cmd = td("td-unshare", line.split(' '));
        let held_up = ["-e", "inject=close_range:delay_enter=1000000:when=2"];
        let mut cmd = under_strace(&held_up, &cmd, &dir);
        give_fd(&mut cmd, 9, fs::File::create(dir.join("secret")).expect("a file"));
        let out = run(&mut cmd).ok().out();
        assert!(out.starts_with("0\n1\n2\n") && !out.contains('9'), "{out}");
    }

    #[test]
    fn a_tool_behind_it_has_the_ids_of_now() {
        must_be_root();
        for first in ["td-exec --user 65534 td-init", "td-init td-exec --user 65534"] {
            let line = format!("{first} td-exec --home sh -c");
            let mut words = line.split(' ');
            let mut cmd = td(words.next().expect("a tool"), words);
            assert_eq!(run(cmd.arg("echo $HOME")).ok().out(), "/nonexistent\n", "{first}");
        }
    }

    /// With the error of each such line comes a signal, which would be passed on, and that traced.
    /// The next signal is sent when the last has come back: two that wait at once are one.
    #[test]
    fn a_limit_of_file_sizes_that_its_trace_reaches_ends_neither_prog_nor_the_wait() {
        must_be_root();
        let dir = TempDir::new();
        let trace = fs::File::create(dir.join("trace")).expect("a file");
        let script = "trap 'passed=1' USR1; i=0; \
            while [ $i -lt 300 ]; do passed=; kill -USR1 $PPID || exit 3; \
            until [ \"$passed\" ]; do :; done; i=$((i + 1)); done; exit 7";
        let mut cmd = td("td-exec", "--trace=90 --rlimit fsize=12000 td-init sh -c".split(' '));
        give_fd(cmd.arg(script), 90, trace);
        run(&mut cmd).exits(7);
        assert_eq!(fs::metadata(dir.join("trace")).expect("it").len(), 12000, "it was reached");
    }

    #[test]
    fn a_descriptor_that_is_kept_is_kept_also_where_it_is_the_traces() {
        let mut cmd = td("td-exec", "--trace=9 --keep-fd 9 td-init sh -c".split(' '));
        give_fd(cmd.arg("echo kept >&9"), 9, broken_pipe());
        run(&mut cmd).exits(141);
    }

    #[test]
    fn pid_1_passes_signals_on_also_to_another_user() {
        let script = "trap 'echo got; exit 9' USR1; echo ready; while :; do sleep 0.05; done";
        for options in ["", "--user 7 --cap-keep none", "--setsid"] {
            let running = start(&mut as_pid_1(options, script));
            running.prints("ready");
            running.kill(libc::SIGUSR1);
            assert_eq!(running.wait().exits(9).out(), "ready\ngot\n", "{options}");
        }
    }

    #[test]
    fn init_has_left_the_directory_when_prog_begins_there() {
        let dir = TempDir::new();
        let here = format!("{}\n", text(&dir.dir("here")));
        let script = "readlink /proc/$PPID/cwd /proc/self/cwd";
        for options in ["", "-g", "--grace 1"] {
            let output = run(prog(options, script).current_dir(dir.join("here"))).exits(0);
            assert_eq!(output.out(), ["/\n", &here].concat(), "{options}");
        }
        // Where it could not return, it stays: as a user who may not search it.
        let dir = set_user_id();
        let here = dir.dir("here");
        chmod(&here, 0o700);
        let mut cmd = Command::new("setpriv");
        cmd.args(["--reuid=4242", "--regid=4242", "--clear-groups"]).arg(dir.join("td-init"));
        let output = run(cmd.args(["readlink", "/proc/self/cwd"]).current_dir(&here)).exits(0);
        assert_eq!(output.out(), format!("{}\n", text(&here)));
    }

    /// A directory that every user may search, with td-exec, which is root whoever executes `root`.
    fn set_user_id() -> TempDir {
        private_mounts();
        let dir = TempDir::new();
        chmod(dir.path(), 0o755);
        for (name, copy, mode) in [
            ("td-exec", "td-exec", "755"),
            ("td-unshare", "td-unshare", "755"),
            ("td-init", "td-init", "755"),
            ("td-exec", "root/td-exec", "4755"),
        ] {
            // By another process: a file that we have open for writing cannot be executed.
            let mut cmd = Command::new("install");
            run(cmd.args(["-D", "-m", mode]).args([bin(name), dir.join(copy)])).ok();
        }
        dir
    }

    #[test]
    fn a_signal_that_prog_refuses_is_said_once_and_ends_no_wait() {
        let dir = set_user_id();
        let path = |name: &str| text(&dir.join(name)).to_string();
        for (tool, options, name) in [
            ("td-init", "", "td-init"),
            ("td-exec", "--setsid td-init", "td-init"),
            ("td-unshare", "--rmdir /nowhere", "td-unshare"),
        ] {
            let mut cmd = Command::new(path("td-exec"));
            cmd.args(["--user", "4242:4242", &path(tool)]).args(options.split_whitespace());
            cmd.args([&path("root/td-exec"), "--user", "0:0", "--groups", "", "sh", "-c"]);
            let running =
                start(cmd.arg("trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done"));
            running.prints("ready");
            let prog = children_of(running.pid())[0];
            running.kill(libc::SIGTERM);
            wait_for("the refusal", || running.err().contains("EPERM").then_some(()));
            for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGUSR2, 40] {
                running.kill(signal);
            }
            wait_for("all", || {
                let pending = status_of(running.pid(), "ShdPnd");
                (pending == "0000000000000000").then_some(())
            });
            assert!(
                is_alive(running.pid()) && is_alive(prog),
                "{tool} {options}: {}",
                running.err()
            );
            kill(prog, libc::SIGUSR1);
            let output = running.wait().exits(9);
            let said = format!(
                "{name}: kill({prog}, SIGTERM): EPERM (Operation not permitted)\n\
                 {name}: the wait continues; further failures are not reported\n"
            );
            assert_eq!(output.err(), said);
        }
    }

    #[test]
    fn process_1_passes_on_every_signal_but_those_that_are_its_own() {
        let numbers = (1..32).chain(34..65).filter(|n| {
            let own = [libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD, libc::SIGCONT];
            !own.contains(n) && ![libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU].contains(n)
        });
        must_be_root();
        let traps = numbers.clone().map(|n| format!("trap 'echo {n}' {n}; ")).collect::<String>();
        let script = traps + "trap 'exit 9' USR2; echo ready; while :; do sleep 0.01; done";
        for options in [&[][..], &["--setsid"]] {
            let mut cmd = td("td-exec", options);
            cmd.arg("td-init");
            let running = start(cmd.args(["sh", "-c", &script]));
            running.prints("ready\n");
            for number in numbers.clone().filter(|n| *n != libc::SIGUSR2) {
                running.kill(number);
                running.prints(&format!("\n{number}\n"));
            }
            running.kill(libc::SIGUSR2);
            running.wait().exits(9);
        }
    }

    /// What stops a process discards a SIGCONT that is pending: it must not be the one that came after.
    #[test]
    fn a_continue_that_comes_while_the_process_that_waits_is_about_to_stop_is_not_lost() {
        use std::os::unix::process::CommandExt;
        must_be_root();
        for signal in [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
            let dir = TempDir::new();
            let mut cmd = Command::new("strace");
            cmd.args(["-e", "inject=kill,rt_sigprocmask:delay_enter=300000", "-o"]);
            cmd.arg(dir.join("log")).arg(bin("td-init")).process_group(0);
            let running = start(cmd.args(["sh", "-c", "echo ready; exec sleep 1000"]));
            running.prints("ready\n");
            let init = wait_for("td-init", || {
                let is = |pid: &i32| {
                    fs::read(format!("/proc/{pid}/comm")).is_ok_and(|c| c == b"td-init\n")
                };
                children_of(running.pid()).into_iter().find(is)
            });
            let prog = children_of(init)[0];
            let is = |letter: &str| {
                let what = format!("{letter} after signal {signal}");
                wait_for(&what, || status_of(prog, "State").starts_with(letter).then_some(()));
            };
            is("S");
            kill(init, signal);
            is("T");
            kill(init, libc::SIGCONT);
            is("S");
            kill(prog, libc::SIGKILL);
            running.wait().exits(128 + libc::SIGKILL);
        }
    }

    #[test]
    fn lines_that_nobody_reads_send_prog_no_signal() {
        must_be_root();
        let script = "trap 'echo pipe' PIPE; trap 'echo got' USR1; trap 'exit 9' TERM; \
            echo ready; while :; do sleep 0.05; done";
        let mut cmd = prog("--trace=99", script);
        give_fd(&mut cmd, 99, broken_pipe());
        let running = start(&mut cmd);
        running.prints("ready\n");
        running.kill(libc::SIGUSR1);
        running.prints("got\n");
        running.kill(libc::SIGTERM);
        assert_eq!(running.wait().exits(9).out(), "ready\ngot\n");
    }

    #[test]
    fn the_container_dies_with_the_parent_also_after_a_change_of_ids() {
        for options in ["", "--user 7"] {
            for init in [true, false] {
                let mut cmd = match init {
                    true => as_pid_1(options, "echo ready; exec sleep 1000"),
                    false => {
                        let mut cmd = td("td-unshare", ["-p", "td-exec"]);
                        cmd.args(options.split_whitespace());
                        cmd.args(["sh", "-c", "echo ready; exec sleep 1000"]);
                        cmd
                    }
                };
                let running = start(&mut cmd);
                running.prints("ready");
                let child = children_of(running.pid())[0];
                running.kill(libc::SIGKILL);
                wait_for("its end", || (!is_alive(child)).then_some(()));
            }
        }
    }

    /// The change of ids clears the signal of PR_SET_PDEATHSIG(2const), and getppid(2) is 0 in there before and after.
    #[test]
    fn a_parent_that_dies_while_the_ids_change_takes_the_container_with_it() {
        must_be_root();
        for line in ["-p td-exec --user 7 sleep 1000", "-p td-exec --user 7 td-init sleep 1000"] {
            let dir = TempDir::new();
            let cmd = td("td-unshare", line.split(' '));
            let held_up = ["-f", "-e", "inject=setresuid:delay_exit=1000000"];
            let running = start(&mut under_strace(&held_up, &cmd, &dir));
            // strace(1) begins with a child of another kind.
            let named = |of, name| {
                let is = |pid: &i32| fs::read(format!("/proc/{pid}/comm")).is_ok_and(|c| c == name);
                wait_for("a child", || children_of(of).into_iter().find(is))
            };
            let parent = named(running.pid(), b"td-unshare\n");
            let first = wait_for("a child", || children_of(parent).first().copied());
            wait_for("its ids", || status_of(first, "Uid").starts_with("7\t7").then_some(()));
            assert_eq!(children_of(first), [] as [i32; 0], "{line}: not in time");
            kill(parent, libc::SIGKILL);
            wait_for("its end", || (!is_alive(first)).then_some(()));
            running.wait();
        }
    }

    #[test]
    fn progs_mask_and_dispositions_are_the_callers() {
        let state = |cmd: &mut Command| {
            before_exec(cmd, || {
                // SAFETY: a set of the stack's own, and signal numbers.
                unsafe {
                    let mut set = std::mem::zeroed();
                    libc::sigemptyset(&mut set);
                    libc::sigaddset(&mut set, libc::SIGUSR1);
                    libc::sigaddset(&mut set, libc::SIGCHLD);
                    libc::signal(libc::SIGPIPE, libc::SIG_IGN);
                    libc::signal(libc::SIGCHLD, libc::SIG_IGN);
                    check(libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut()))
                }
                .map(drop)
            });
            run(cmd).ok().out()
        };
        let grep = ["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"];
        let direct = state(&mut td("td-exec", grep));
        assert!(direct.contains("SigBlk:\t0000000000010200\n"), "{direct}");
        assert!(direct.contains("11000\nSigCgt"), "{direct}");
        assert_eq!(state(td("td-init", [] as [&str; 0]).args(grep)), direct);
    }

    #[test]
    fn an_idle_init_wakes_nobody() {
        must_be_root();
        let dir = TempDir::new();
        let mut cmd = under_strace(&[], &prog("", "echo $$; exec sleep 1000"), &dir);
        let running = start(&mut cmd);
        let pid: i32 = running.prints("\n").trim().parse().expect("a pid");
        let init: i32 = status_of(pid, "PPid").parse().expect("a pid");
        let log = || fs::read_to_string(dir.join(format!("log.{init}"))).expect("its log");
        let waits = || {
            log()
                .lines()
                .last()
                .is_some_and(|call| call.starts_with("rt_sigtimedwait(") && !call.contains(" = "))
        };
        wait_for("init to wait", || waits().then_some(()));
        let (calls, switches) = (log(), status_of(init, "voluntary_ctxt_switches"));
        run(Command::new("sleep").arg("1")).ok();
        assert_eq!((log(), status_of(init, "voluntary_ctxt_switches")), (calls, switches));
        kill(pid, libc::SIGKILL);
        running.wait().exits(128 + libc::SIGKILL);
    }

    /// Ignore and block every signal that can be, also those that the C library keeps for itself.
    fn ignores_and_blocks_all() -> std::io::Result<()> {
        let set = u64::MAX;
        // SAFETY: the kernel's structures of these calls, which are the stack's own.
        unsafe {
            for signal in 1..65 {
                let ignore: [u64; 4] = [1, 0, 0, 0];
                libc::syscall(libc::SYS_rt_sigaction, signal, &ignore, 0, 8);
            }
            libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &set, 0, 8);
        }
        Ok(())
    }

    #[test]
    fn every_disposition_and_the_mask_are_the_callers_or_the_default() {
        let all = format!("{:016x}", !(1_u64 << 8 | 1 << 18)); // but KILL and STOP
        let state = |line: &str| {
            let mut words = line.split(' ');
            let mut cmd = td(words.next().expect("a tool"), words);
            // grep would handle SIGSEGV.
            before_exec(cmd.args(["cat", "/proc/self/status"]), ignores_and_blocks_all);
            let out = run(&mut cmd).exits(0).out();
            let is = |line: &&str| line.starts_with("SigBlk") || line.starts_with("SigIgn");
            out.split_inclusive('\n').filter(is).collect::<String>()
        };
        let same = format!("SigBlk:\t{all}\nSigIgn:\t{all}\n");
        let none = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n";
        for line in ["td-init", "td-init -g", "td-init -v", "td-unshare -p td-init --grace 1"] {
            assert_eq!(state(line), same, "{line}");
        }
        for line in [
            "td-init --default-signals",
            "td-init -v --default-signals",
            "td-unshare -p td-init --default-signals",
            "td-init --default-signals td-exec",
            "td-init --default-signals --signal-mask=ff --",
        ] {
            assert_eq!(state(line), none, "{line}");
        }
    }

    /// PROG blocks them all, so each that it has got is pending there.
    #[test]
    fn each_of_64_signals_is_passed_on_or_named_in_the_manual() {
        let named = |n| [libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD].contains(&n);
        for options in [&[][..], &["-g"]] {
            for signal in (1..65).filter(|n| !named(*n)) {
                let mut cmd = td("td-init", options);
                cmd.args(["sh", "-c", "echo $$; read -r never"]);
                cmd.stdin(std::process::Stdio::piped());
                before_exec(&mut cmd, || {
                    let set = u64::MAX;
                    // SAFETY: the kernel's set, which is the stack's own.
                    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, 2, &set, 0, 8) };
                    Ok(())
                });
                let cmd =
                    cmd.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
                let running = start_with(cmd);
                let pid: i32 = running.prints("\n").trim().parse().expect("a pid");
                running.kill(signal);
                let bit = 1_u64 << (signal - 1);
                let has = || {
                    u64::from_str_radix(&status_of(pid, "ShdPnd"), 16)
                        .is_ok_and(|set| set & bit != 0)
                };
                wait_for(&format!("signal {signal}"), || has().then_some(()));
                running.kill(libc::SIGCONT);
                kill(pid, libc::SIGKILL);
                running.wait().exits(128 + libc::SIGKILL);
            }
        }
        let manual = fs::read_to_string("src/tools/td-init.8").expect("the manual");
        let table = manual
            .split(".Bl -column")
            .nth(1)
            .and_then(|rest| rest.split(".El").next())
            .expect("a table");
        let names: Vec<&str> =
            table.lines().filter_map(|l| l.strip_prefix(".It ")?.split(" Ta ").next()).collect();
        let names: Vec<&str> = names.iter().flat_map(|names| names.split(' ')).collect();
        for signal in 1..32 {
            let out =
                run(Command::new("bash").args(["-c", &format!("kill -l {signal}")])).ok().out();
            assert!(names.contains(&out.trim()), "{out}");
        }
        assert!(table.contains("32 to 64"));
    }

    #[test]
    fn pid_1_reaps_ten_thousand_orphans_and_its_memory_does_not_grow() {
        let script = "grep VmSize /proc/1/status; i=0; while [ $i -lt 100 ]; do \
            sh -c 'i=0; while [ $i -lt 100 ]; do (: & ); i=$((i + 1)); done' & i=$((i + 1)); done; wait; \
            until [ $(ls -d /proc/[0-9]* | wc -l) -le 5 ]; do sleep 0.1; done; \
            grep -l zombie /proc/*/status; grep VmSize /proc/1/status; exit 7";
        for (options, lines) in [("", 0), ("-w", 10_000), ("--grace 1", 0), ("-v", 10_000)] {
            let line = format!("td-exec td-init {options}");
            let output = run(&mut with_proc(line.trim(), script)).exits(7);
            let out = output.out();
            let (before, after) = out.split_once("\n").expect("two lines");
            assert_eq!(before, after.trim_end(), "{options}");
            assert!(output.err().lines().count() >= lines, "{options}");
        }
    }

    #[test]
    fn with_grace_nothing_of_a_pid_namespace_is_left_when_process_1_ends() {
        must_be_root();
        let word = format!("{}.8", 100_000 + std::process::id());
        // Process 1 is not told of the end of one that has entered.
        let script = "echo ready; until [ -e \"$1\" ]; do sleep 0.01; done; exit 6";
        for (term, least) in [("trap 'echo ended; exit' TERM", 0), ("trap '' TERM", 500)] {
            let dir = TempDir::new();
            let mut cmd = td("td-unshare", ["-p", "td-init", "--grace", "0.5"]);
            let running = start(cmd.args(["sh", "-c", script, &word]).arg(dir.join("go")));
            running.prints("ready\n");
            let first = children_of(running.pid())[0];
            let mut enter = td("td-enter", ["-t", &first.to_string(), "-p", "sh", "-c"]);
            let inner = format!("{term}; echo entered; while :; do sleep 0.01; done");
            let entered = start(enter.args([&inner, &word]));
            entered.prints("entered\n");
            let begin = Instant::now();
            dir.file("go", "");
            running.wait().exits(6);
            assert!(begin.elapsed() >= Duration::from_millis(least), "{:?}", begin.elapsed());
            assert_eq!(entered.wait().out().contains("ended"), least == 0);
            assert_eq!(with_word(&word), [] as [i32; 0]);
        }
        // And PROG gets one SIGTERM, as all others do.
        let script = "trap 'n=$((n + 1)); echo got $n' TERM; (trap 'exit' TERM; while :; do sleep 0.01; done) & \
            echo ready; until [ \"$n\" ]; do sleep 0.01; done; sleep 0.2; echo $n in all; exit 4";
        let mut cmd = td("td-unshare", ["-p", "td-init", "--grace", "100", "sh", "-c", script]);
        let running = start(&mut cmd);
        running.prints("ready\n");
        running.kill(libc::SIGTERM);
        assert!(running.wait().exits(4).out().ends_with("got 1\n1 in all\n"));
    }

    // ---- a terminal ----

    /// An interactive shell on a terminal, which waits for td-init as for any job.
    fn on_terminal() -> (Pty, Running) {
        let mut terminal = Pty::new();
        let ctty = format!("--ctty={}", terminal.path);
        let mut cmd = td("td-exec", [&ctty, "bash", "--norc", "--noprofile", "-i"]);
        let running = start(cmd.env("PS1", "outer> ").env("init", bin("td-init")));
        terminal.shows("outer> ");
        (terminal, running)
    }

    #[test]
    fn what_runs_on_a_terminal_stops_and_continues_as_a_job() {
        for options in ["", "-g"] {
            let (mut terminal, running) = on_terminal();
            terminal.types(&format!("$init {options} sh -c 'echo be''gun; exec sleep 1000'\n"));
            terminal.shows("begun\r\n");
            terminal.types("\x1a");
            terminal.shows("outer> ");
            for _ in 0..2 {
                terminal.types("fg; echo con''tinued\n");
                terminal.shows("sleep 1000'\r\n");
                let sleeps = || {
                    with_word("1000").iter().any(|pid| status_of(*pid, "State").starts_with('S'))
                };
                wait_for("PROG to go on", || sleeps().then_some(()));
                terminal.types("\x1a");
                terminal.shows("outer> ");
            }
            terminal.types("fg\n");
            terminal.shows("sleep 1000'\r\n");
            terminal.types("\x03");
            terminal.shows("outer> ");
            terminal.types("echo status $?\n");
            terminal.shows(&format!("status {}\r\n", 128 + libc::SIGINT));
            terminal.types("exit 9\n");
            running.wait().exits(9);
        }
    }

    #[test]
    fn an_interactive_shell_as_prog_has_job_control_and_can_be_suspended() {
        for options in ["", "-g"] {
            let (mut terminal, running) = on_terminal();
            terminal
                .types(&format!("PS1='in''ner> ' $init {options} bash --norc --noprofile -i\n"));
            let begin = terminal.shows("inner> ");
            assert!(!begin.contains("job control"), "{begin}");
            for _ in 0..2 {
                terminal.types("suspend\n");
                terminal.shows("outer> ");
                terminal.types("fg\n");
                terminal.shows("-i\r\n");
                terminal.types("sh -c 'echo be''gun; exec sleep 1000'\n");
                terminal.shows("begun\r\n");
                terminal.types("\x1a");
                terminal.shows("inner> ");
                terminal.types("kill %1; fg; echo go''ne\n"); // fg waits for its end, wait(1) not for a stopped one
                terminal.shows("gone\r\n");
            }
            terminal.types("exit 5\n");
            terminal.shows("outer> ");
            terminal.types("echo status $?\n");
            terminal.shows("status 5\r\n");
            terminal.types("exit 9\n");
            running.wait().exits(9);
        }
    }

    #[test]
    fn the_foreground_is_given_to_the_group_of_prog_and_taken_back() {
        // Whose group is in the foreground: 1 that of this process.
        let at =
            "at() { read -r text </proc/$$/stat; set -- ${text##*) }; echo $1.$(($3 == $6)); }; ";
        let at = at.replace("$1.", "");
        for (options, end) in
            [("-g", "exit 5"), ("-g", "kill -KILL $$"), ("", "exit 5"), ("", "kill -KILL $$")]
        {
            let mut terminal = Pty::new();
            let ctty = format!("--ctty={}", terminal.path);
            let mut cmd = td("td-exec", [&ctty, "sh", "-c"]);
            // The shell that waits has no job control, and would not take it back.
            let script = format!(
                "{at} at; \"$init\" {options} sh -c '{at} at; {end}'; at; read -r line; exit $line"
            );
            let running = start(cmd.arg(script).env("init", bin("td-init")));
            let shown = terminal.shows("1\r\n1\r\n");
            assert!(!shown.contains('0'), "{shown}");
            terminal.shows("1\r\n");
            terminal.types("7\n");
            running.wait().exits(7);
        }
        // In the background it stays there.
        let (mut terminal, running) = on_terminal();
        terminal.types(&format!("$init -g sh -c '{at} at; echo do''ne' & wait\n"));
        let shown = terminal.shows("done\r\n");
        assert!(shown.ends_with("0\r\ndone\r\n"), "{shown}");
        terminal.types("exit 9\n");
        running.wait().exits(9);
    }

    // ---- process 1 of a machine: here, of a pid namespace ----

    fn machine(options: &str, script: &str) -> Command {
        must_be_root();
        let mut cmd = td("td-unshare", ["-p", "td-init"]);
        cmd.args(options.split_whitespace()).args(["sh", "-c", script]);
        cmd
    }

    const POWERED_OFF: i32 = 128 + libc::SIGINT;
    const RESTARTED: i32 = 128 + libc::SIGHUP;

    #[test]
    fn when_prog_has_ended_the_namespace_ends_as_reboot_ends_it() {
        for (word, status) in
            [("poweroff", POWERED_OFF), ("halt", POWERED_OFF), ("reboot", RESTARTED)]
        {
            let options = format!("--on-exit {word}");
            let output = run(&mut machine(&options, "echo PROG ran")).exits(status);
            assert_eq!((output.out().as_str(), output.err().as_str()), ("PROG ran\n", ""));
            let output = run(&mut machine(&options, "exit 3")).exits(status);
            assert_eq!(output.err(), "td-init: PROG has ended with exit status 3\n");
            let output = run(&mut machine(&options, "kill -KILL $$")).exits(status);
            assert_eq!(output.err(), "td-init: PROG was killed by SIGKILL\n");
        }
    }

    #[test]
    fn prog_has_the_environment_of_process_1_each_time_and_process_1_shows_none() {
        let script = "echo $GIVEN $SET $(tr -d '\\0' </proc/1/environ | wc -c); exec kill -9 $$";
        let options = "--on-exit respawn td-exec --env SET=it";
        let running = start(machine(options, script).env("GIVEN", "was"));
        wait_for("a second one", || (running.out() == "was it 0\nwas it 0\n").then_some(()));
    }

    #[test]
    fn no_failure_ends_process_1_without_what_is_to_be_done_then() {
        let on_exit = "--on-exit poweroff";
        for (options, why) in [
            ("--on-exit off", "--on-exit off: must be poweroff, reboot, halt or respawn"),
            (&format!("{on_exit} --nonsense"), "--nonsense: no such option"),
            (
                &format!("{on_exit} td-exec --user nobody-of-this-name"),
                "does not exist in /etc/passwd",
            ),
            (&format!("{on_exit} td-exec --ctty=/dev/null"), "/dev/null is not a terminal"),
            (&format!("{on_exit} td-exec --chdir /nowhere"), "/nowhere does not exist"),
            (&format!("{on_exit} td-exec --keep-fd 77"), "descriptor 77 is not open"),
        ] {
            let output = run(&mut machine(options, "echo PROG ran")).exits(POWERED_OFF).says(why);
            let output = output.says("td-init: PROG has ended with exit status 125\n");
            assert_eq!(output.out(), "");
        }
        let words = |prog: &str| {
            let mut cmd = td("td-unshare", ["-p", "td-init"]);
            cmd.args(on_exit.split(' ')).args(prog.split_whitespace());
            run(&mut cmd).exits(POWERED_OFF)
        };
        words("").says("PROG is missing");
        words("/nowhere").says("PROG has ended with exit status 127");
        words("/etc/passwd").says("PROG has ended with exit status 126");
    }

    #[test]
    fn no_call_that_fails_ends_process_1_as_long_as_reboot_works() {
        must_be_root();
        // The reboot(2) that ends the namespace is not the first.
        for fault in [
            "prctl:error=EPERM",
            "rt_sigprocmask:error=EINVAL",
            "rt_sigaction:error=EINVAL",
            "pidfd_open:error=EMFILE",
            "clone3:error=EAGAIN",
            "rt_sigtimedwait:error=ENOSYS",
            "wait4:error=EINVAL",
            "kill:error=EPERM",
            "reboot:error=EPERM:when=1",
        ] {
            let mut cmd = td("td-unshare", ["-p", "strace"]);
            let inject = format!("inject={fault}");
            // So strace is no parent of process 1; with all others it is killed at last.
            cmd.args(["-D", "-f", "-o", "/dev/null", "-e", &inject]).arg(bin("td-init"));
            let output = run(cmd.args(["--on-exit", "reboot", "true"])).exits(RESTARTED);
            let errno = fault.split(['=', ':']).nth(2).expect("an errno");
            output.says(&format!(": {errno} ("));
        }
    }

    #[test]
    fn where_reboot_fails_process_1_says_so_and_stays() {
        must_be_root();
        let mut cmd = td("td-unshare", ["-p", "td-exec", "--cap-keep", "kill", "td-init"]);
        let running = start(cmd.args(["--on-exit", "halt", "true"]));
        let last = "reboot(2) did not stop this machine: process 1 waits forever\n";
        wait_for("process 1 to say so", || running.err().contains(last).then_some(()));
        let why = "LINUX_REBOOT_CMD_HALT): EPERM (Operation not permitted)\n\
            td-init: this process has no CAP_SYS_BOOT\n";
        assert!(running.err().contains(why), "{}", running.err());
        let first = children_of(running.pid())[0];
        kill(first, libc::SIGTERM);
        kill(first, libc::SIGINT);
        assert!(!ended_within(running.pid(), Duration::from_millis(300)), "{}", running.err());
        running.kill(libc::SIGKILL);
        running.wait();
    }

    #[test]
    fn who_does_not_end_at_sigterm_is_killed_in_the_end() {
        let script = "(trap '' TERM; echo left; exec sleep 1000) & \
            (trap 'echo ended by TERM; exit' TERM; echo ready; while :; do sleep 0.1; done) & \
            until [ -e \"$0\" ]; do sleep 0.1; done";
        let dir = TempDir::new();
        let running = start(machine("--on-exit poweroff", script).arg(dir.join("go")));
        running.prints("left\n");
        running.prints("ready\n");
        dir.file("go", "");
        let output = running.wait().exits(POWERED_OFF);
        assert!(output.out().ends_with("ended by TERM\n"), "{output}");
    }

    #[test]
    fn prog_is_started_again_after_a_second_each_time() {
        let begin = Instant::now();
        let mut cmd = machine("--on-exit respawn", "echo begun; exit 7");
        let running = start(&mut cmd);
        running.prints("begun\nbegun\nbegun\n");
        assert!(begin.elapsed() >= Duration::from_secs(2), "{:?}", begin.elapsed());
        let again = "td-init: PROG has ended with exit status 7; restarting it\n";
        assert!(running.err().starts_with(&again.repeat(2)), "{}", running.err());
        running.kill(libc::SIGKILL);
        running.wait();
        // The same of a PROG that is not there.
        let mut cmd = td("td-unshare", ["-p", "td-init", "--on-exit", "respawn"]);
        let running = start(cmd.arg("/nowhere"));
        let again = "td-init: PROG has ended with exit status 127; restarting it\n";
        wait_for("a second try", || (running.err().matches(again).count() >= 2).then_some(()));
        running.kill(libc::SIGKILL);
        running.wait();
    }

    #[test]
    fn each_prog_has_the_mask_and_the_dispositions_of_the_first() {
        let script = "grep -E '^Sig(Blk|Ign)' /proc/self/status; echo end";
        let mut cmd = machine("--on-exit respawn", script);
        before_exec(&mut cmd, || {
            // SAFETY: numbers.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
            Ok(())
        });
        let running = start(&mut cmd);
        let text = wait_for("two of them", || {
            Some(running.out()).filter(|out| out.matches("end\n").count() >= 2)
        });
        let mut each = text.split_inclusive("end\n");
        let (first, second) = (each.next().expect("one"), each.next().expect("two"));
        assert_eq!(first, second);
        assert!(first.contains("SigBlk:\t0000000000000000\n"), "{first}");
        running.kill(libc::SIGKILL);
        running.wait();
    }

    #[test]
    fn a_signal_is_for_prog_and_between_two_of_them_for_the_next() {
        let script = "trap 'echo got it; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
        let running = start(&mut machine("--on-exit respawn", script));
        running.prints("ready\n");
        running.kill(libc::SIGTERM);
        running.prints("got it\n");
        // It lies between two of them, and has a second for it.
        running.kill(libc::SIGTERM);
        running.kill(libc::SIGUSR1);
        running.prints("got it\nready\n");
        running.kill(libc::SIGTERM);
        running.prints("ready\ngot it\n");
        running.kill(libc::SIGKILL);
        running.wait();
    }

    #[test]
    fn each_prog_has_the_terminal_anew() {
        must_be_root();
        let mut terminal = Pty::new();
        let line = format!("td-init --on-exit respawn td-exec --ctty={}", terminal.path);
        // What the last one has left is hung up: it can neither read what is typed nor write.
        let script = format!("{SESSION}; (trap '' HUP; sleep 1000) & read -r line; exit $line");
        let running = start(&mut with_proc(&line, &script));
        for status in ["0", "4", "5"] {
            terminal.shows("1 1 1\r\n");
            terminal.types(&format!("{status}\n"));
        }
        terminal.shows("1 1 1\r\n");
        for status in ["0", "4", "5"] {
            let said = format!("exit status {status}; restarting it\n");
            // Standard error is collected beside the terminal, and may lag behind it.
            wait_for(&said, || running.err().contains(&said).then_some(()));
        }
        running.kill(libc::SIGKILL);
        running.wait();
    }

    #[test]
    fn the_memory_of_process_1_does_not_grow_with_each_prog() {
        let running = start(&mut machine("--on-exit respawn td-exec --setsid", "echo begun"));
        running.prints("begun\n");
        let first = children_of(running.pid())[0];
        let memory = || status_of(first, "VmSize");
        let before = memory();
        running.prints(&"begun\n".repeat(4));
        assert_eq!(memory(), before);
        running.kill(libc::SIGKILL);
        running.wait();
    }
}
