//! td-unshare: what the kernel says of the processes that it makes.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::*;

/// td-unshare with the words of `line`; a word is what stands between two spaces.
fn unshare(line: &str) -> Command {
    td("td-unshare", line.split(' '))
}

/// td-unshare with options, and a script as PROG.
fn unshare_sh(options: &str, script: &str) -> Command {
    let mut cmd = td("td-unshare", options.split_whitespace());
    cmd.args(["sh", "-c", script]);
    cmd
}

/// A user who is nobody here.
const USER: u32 = 12345;

/// Let a command be run by that user.
fn as_user(cmd: &mut Command) -> &mut Command {
    cmd.uid(USER).gid(USER)
}

#[test]
fn without_an_option_it_becomes_prog() {
    let mut cmd = unshare_sh("", "echo $$");
    let running = start(&mut cmd);
    let pid = running.pid().to_string();
    assert_eq!(running.wait().ok().out().trim(), pid);
}

#[test]
fn wrong_values_are_refused_by_name() {
    for (line, says) in [
        ("--propagation up true", "--propagation up: must be private, slave, shared or unchanged"),
        ("--monotonic soon true", "soon: not a number of seconds"),
        ("--boottime 1.5 true", "1.5: not a number of seconds"),
        ("--monotonic 18446744073709551617 true", ": not a number of seconds"),
        ("--boottime -9223372036854775808 true", ": not a number of seconds"),
        ("--record 4294967299:f true", "with a descriptor N above 2"),
        ("--remove / true", "--remove /: must end in a name other than . and .."),
        ("--remove x/.. true", "--remove x/..: must end in a name"),
        ("--rmdir . true", "--rmdir .: must end in a name"),
        ("--pid-file x/.. true", "--pid-file x/..: must end in a name"),
        ("--map-user me true", "me: not an id"),
        ("--map-group 4294967295 true", "4294967295: not an id"),
        ("--map-users all true", "--map-users all: must be IN:OUT:COUNT"),
        ("--map-users 0:100000:0 true", "--map-users 0:100000:0: must be IN:OUT:COUNT"),
        ("--map-groups 0:4294967290:6 true", "--map-groups 0:4294967290:6: must be IN:OUT:COUNT"),
        ("--setgroups perhaps true", "--setgroups perhaps: must be allow or deny"),
        ("--map-root-user=0 true", "--map-root-user=0: this option takes no value"),
    ] {
        run(&mut unshare(line)).exits(125).says(says);
    }
}

mod root {
    use super::*;

    /// PROG would be in the cgroups of the caller, and nobody would know.
    /// Else he would be told to add a range that he has.
    #[test]
    fn a_passwd_that_cannot_be_read_is_said_and_no_missing_range() {
        private_mounts();
        let dir = TempDir::new();
        let passwd = dir.file("passwd", "");
        chmod(&passwd, 0o600);
        mount(["--bind", text(&passwd), "/etc/passwd"]);
        let words = ["--map-root-user", "--map-users", "auto", "--map-groups", "auto", "true"];
        let mut cmd = td("td-unshare", words);
        std::os::unix::process::CommandExt::uid(&mut cmd, 65534);
        let output = run(&mut cmd).exits(125).says("EACCES");
        assert!(!output.err().contains("add a line"), "{output}");
    }

    #[test]
    fn a_record_of_cgroups_that_does_not_exist_is_refused() {
        let dir = TempDir::new();
        for record in ["record", "nowhere/record"] {
            let file = dir.join(record);
            let file = file.to_str().expect("a plain path");
            let cmd = ["--pid", "--cgroup-record", file, "echo", "it runs"];
            let output = run(&mut td("td-unshare", cmd)).exits(125);
            assert_eq!(output.out(), "");
            output.says("record does not exist");
        }
    }

    const KINDS: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

    #[test]
    fn the_namespaces_that_are_asked_for_are_new_and_no_others() {
        private_mounts();
        for (options, new) in [
            ("", ""),
            ("-m", "mnt"),
            ("--mount", "mnt"),
            ("-u", "uts"),
            ("--uts", "uts"),
            ("-i", "ipc"),
            ("--ipc", "ipc"),
            ("-n", "net"),
            ("--net", "net"),
            ("-p", "pid"),
            ("--pid", "pid"),
            ("-C", "cgroup"),
            ("--cgroup", "cgroup"),
            ("-U", "user"),
            ("--user", "user"),
            ("-T", "time"),
            ("--time", "time"),
            ("-r", "user"),
            ("--map-root-user", "user"),
            ("-c", "user"),
            ("--map-current-user", "user"),
            ("--map-user 7", "user"),
            ("--map-group 7", "user"),
            ("--map-users 0:0:9", "user"),
            ("--map-groups 0:0:9", "user"),
            ("--setgroups deny", "user"),
            ("--pid-file /tmp/td-test-no-namespace.pid", ""),
            ("--hostname x", "uts"),
            ("--loopback", "net"),
            ("--monotonic 1", "time"),
            ("--boottime 1", "time"),
            ("--propagation slave", ""),
            ("--rmdir /nowhere", ""),
            ("-muinpCUT", "cgroup ipc mnt net pid time user uts"),
            ("-p -r --hostname x --loopback --monotonic 1", "net pid time user uts"),
        ] {
            let script = "for kind; do readlink /proc/self/ns/$kind; done";
            let mut cmd = unshare_sh(options, script);
            let out = run(cmd.arg("sh").args(KINDS)).ok().out();
            let changed: Vec<&str> = KINDS
                .into_iter()
                .zip(out.lines())
                .filter(|(kind, link)| ns("thread-self", kind) != *link)
                .map(|(kind, _)| kind)
                .collect();
            assert_eq!(out.lines().count(), KINDS.len(), "{out}");
            assert_eq!(changed.join(" "), new, "{options}");
        }
    }

    #[test]
    fn map_root_user_makes_any_user_root_there() {
        private_mounts();
        let script = "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups";
        for options in ["-r", "-r -p", "-r -m -n"] {
            let out = run(as_user(&mut unshare_sh(options, script))).ok().out();
            let words: Vec<&str> = out.split_whitespace().collect();
            assert_eq!(
                words,
                ["0", "0", "0", "12345", "1", "0", "12345", "1", "deny"],
                "{options}"
            );
        }
    }

    #[test]
    fn map_current_user_keeps_the_ids_and_the_capabilities_for_the_whole_chain() {
        private_mounts();
        let script = "id -u; id -g; readlink /proc/self/ns/mnt; grep -E 'Cap(Prm|Eff|Amb)' /proc/self/status";
        let mut cmd = unshare("-c td-unshare -m td-unshare --propagation slave sh -c");
        let out = run(as_user(cmd.arg(script))).ok().out();
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[..2], ["12345", "12345"]);
        assert_ne!(lines[2], ns("thread-self", "mnt"));
        let last: u64 =
            fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap().trim().parse().unwrap();
        let all = format!("{:016x}", (1_u64 << (last + 1)) - 1);
        assert_eq!(lines.len(), 6);
        assert!(lines[3..].iter().all(|line| line.ends_with(&all)), "{out}");
    }

    #[test]
    fn a_user_namespace_without_a_map_has_no_ids_and_all_capabilities() {
        private_mounts();
        let script = "id -u; cat /proc/self/uid_map; td=$1; exec $td -m true";
        let mut cmd = unshare_sh("-U", script);
        let out = run(as_user(cmd.arg("sh").arg(bin("td-unshare")))).ok().out();
        assert_eq!(out, "65534\n");
    }

    #[test]
    fn propagation_is_private_unless_told() {
        private_mounts();
        let dir = TempDir::new();
        let path = dir.path().to_str().unwrap();
        mount(["-t", "tmpfs", "tmpfs", path]);
        mount(["--make-rshared", "/"]);
        for (options, shared, master) in [
            ("-m", false, false),
            ("-m --propagation private", false, false),
            ("-m --propagation slave", false, true),
            ("-m --propagation shared", true, true),
            ("-m --propagation unchanged", true, false),
            ("-m -p", false, false),
        ] {
            let out = run(&mut unshare_sh(options, "cat /proc/self/mountinfo")).ok().out();
            let line = out.lines().find(|line| line.split(' ').nth(4) == Some(path)).unwrap();
            // A shared mount that is copied stays in its peer group; what was private gets a new one.
            let shared_now = line.contains(" shared:");
            let master_now = line.contains(" master:");
            let master = master && !shared;
            assert_eq!((shared_now, master_now), (shared, master), "{options}: {line}");
            for line in out.lines().filter(|_| options == "-m") {
                assert!(!line.contains(" shared:") && !line.contains(" master:"), "{line}");
            }
        }
    }

    #[test]
    fn a_mount_made_inside_is_seen_inside_alone() {
        private_mounts();
        let dir = TempDir::new();
        mount(["-t", "tmpfs", "tmpfs", dir.path().to_str().unwrap()]);
        mount(["--make-rshared", "/"]);
        let before = own_mountinfo();
        let script = "mount -t tmpfs inside $0 && grep -c ' - tmpfs inside ' /proc/self/mountinfo";
        let out = run(unshare_sh("-m", script).arg(dir.path())).ok().out();
        assert_eq!(out, "1\n");
        assert_eq!(own_mountinfo(), before);
    }

    #[test]
    fn loopback_is_down_until_asked_for() {
        private_mounts();
        for (options, up) in [("-n", false), ("--loopback", true), ("-p -r --loopback", true)] {
            let mut cmd = td("td-unshare", options.split(' '));
            let out = run(cmd.arg(busybox()).args(["ifconfig", "lo"])).ok().out();
            assert!(out.contains("LOOPBACK"), "{out}");
            assert_eq!(out.contains(" UP "), up, "{options}: {out}");
        }
    }

    #[test]
    fn the_host_name_is_set_inside_alone() {
        private_mounts();
        let name = || run(Command::new("uname").arg("-n")).ok().out();
        let before = name();
        for new in ["x", "a name", &"n".repeat(64)] {
            let mut cmd = td("td-unshare", ["--hostname", new, "uname", "-n"]);
            assert_eq!(run(&mut cmd).ok().out().trim_end(), new);
        }
        let mut cmd = td("td-unshare", ["--hostname", &"n".repeat(65), "true"]);
        run(&mut cmd).exits(125).says("sethostname(\"nnn").says(": EINVAL (");
        assert_eq!(name(), before);
    }

    #[test]
    fn clocks_have_their_offsets() {
        private_mounts();
        let uptime = |text: &str| text.split('.').next().unwrap().parse::<i64>().unwrap();
        for options in ["", "-p ", "-r -p "] {
            let before = uptime(&fs::read_to_string("/proc/uptime").unwrap());
            let options = format!("{options}--monotonic 5000 --boottime 1000000");
            let script = "cat /proc/uptime /proc/self/timens_offsets";
            let out = run(&mut unshare_sh(&options, script)).ok().out();
            assert!((999_999..1_000_060).contains(&(uptime(&out) - before)), "{options}: {out}");
            let words: Vec<&str> = out.split_whitespace().skip(2).collect();
            assert_eq!(words, ["monotonic", "5000", "0", "boottime", "1000000", "0"], "{options}");
        }
        let out = run(&mut unshare("--monotonic -1 cat /proc/self/timens_offsets")).ok().out();
        assert_eq!(out.split_whitespace().nth(1), Some("-1"));
    }

    #[test]
    fn the_child_is_process_1_of_a_new_pid_namespace() {
        private_mounts();
        let out = run(&mut unshare_sh("-p", "echo $$ $PPID")).ok().out();
        assert_eq!(out, "1 0\n");
    }

    // ---- the parent that waits ----

    /// A PROG that does nothing until it is killed, with its pid as the host sees it.
    fn idle(options: &str) -> (Running, i32) {
        let running = start(&mut unshare_sh(options, "echo ready; exec sleep 1000"));
        running.prints("ready\n");
        let child = wait_for("one child", || match children_of(running.pid())[..] {
            [child] => Some(child),
            _ => None,
        });
        wait_for("sleep", || Some(()).filter(|()| status_of(child, "Name") == "sleep"));
        (running, child)
    }

    #[test]
    fn the_parent_stays_in_the_namespaces_and_the_root_of_the_host() {
        private_mounts();
        let (before, root) = (own_mountinfo(), fs::read_link("/proc/thread-self/root").unwrap());
        let (parent, child) = idle("-muinpCT -r --hostname x --loopback");
        for kind in KINDS {
            assert_eq!(ns(parent.pid(), kind), ns("thread-self", kind));
            assert_ne!(ns(child, kind), ns("thread-self", kind));
        }
        for kind in ["pid_for_children", "time_for_children"] {
            assert_eq!(ns(parent.pid(), kind), ns("thread-self", kind));
        }
        assert_eq!(mountinfo_of(parent.pid()), before);
        assert_eq!(own_mountinfo(), before);
        assert_eq!(fs::read_link(format!("/proc/{}/root", parent.pid())).unwrap(), root);
    }

    #[test]
    fn no_other_process_is_there() {
        private_mounts();
        let (parent, child) = idle("-p");
        assert_eq!(children_of(parent.pid()), [child]);
        assert_eq!(children_of(child), []);
    }

    #[test]
    fn a_killed_parent_takes_the_child_with_it() {
        private_mounts();
        for options in [
            "-p",
            "-p -r",
            "--rmdir /nowhere",
            "-r --rmdir /nowhere",
            "--map-users 0:700000:9 --map-groups 0:700000:9",
            "-p --map-users 0:700000:9 --map-groups 0:700000:9",
        ] {
            let (parent, child) = idle(options);
            parent.kill(libc::SIGKILL);
            assert!(ended_within(child, LIMIT), "{options}: the child lives on");
            assert_eq!(parent.wait().signal, Some(libc::SIGKILL));
        }
    }

    #[test]
    fn a_signal_to_the_parent_reaches_prog_at_once() {
        private_mounts();
        let signals = [
            libc::SIGHUP,
            libc::SIGINT,
            libc::SIGQUIT,
            libc::SIGUSR1,
            libc::SIGUSR2,
            libc::SIGALRM,
            libc::SIGTERM,
            libc::SIGWINCH,
            libc::SIGPIPE,
            34,
            64,
        ];
        for options in ["-p", "-r -p", "--rmdir /nowhere"] {
            for signal in signals {
                let script = format!("trap 'exit 9' {signal}; echo ready; while :; do :; done");
                let running = start(unshare_sh(options, &script).arg("sh"));
                running.prints("ready\n");
                running.kill(signal);
                assert!(ended_within(running.pid(), LIMIT), "{options}: {signal}");
                running.wait().exits(9);
            }
        }
    }

    #[test]
    fn an_unhandled_signal_ends_prog_and_is_the_exit_status() {
        private_mounts();
        let (parent, _) = idle("--rmdir /nowhere");
        parent.kill(libc::SIGTERM);
        parent.wait().exits(128 + libc::SIGTERM);
    }

    #[test]
    fn a_stopped_and_continued_parent_goes_on_waiting() {
        private_mounts();
        let (parent, child) = idle("-p");
        parent.kill(libc::SIGSTOP);
        wait_for("the stop", || {
            Some(()).filter(|()| status_of(parent.pid(), "State").starts_with('T'))
        });
        parent.kill(libc::SIGCONT);
        wait_for("the wait", || {
            Some(()).filter(|()| status_of(parent.pid(), "State").starts_with('S'))
        });
        kill(child, libc::SIGKILL);
        parent.wait().exits(128 + libc::SIGKILL);
    }

    #[test]
    fn a_caller_that_ignores_sigchld_gets_the_exit_status_too() {
        private_mounts();
        let mut cmd = unshare_sh("-p", "sh -c 'exit 3'; exit 7");
        before_exec(&mut cmd, || {
            // SAFETY: two numbers, of which one is SIG_IGN.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
            Ok(())
        });
        run(&mut cmd).exits(7);
    }

    #[test]
    fn an_interrupt_of_the_terminal_reaches_prog_once() {
        private_mounts();
        for options in ["-p", "--rmdir /nowhere"] {
            let dir = TempDir::new();
            let (mut master, slave) = terminal();
            let file = fs::File::create(dir.join("trace")).unwrap();
            let script =
                "trap 'echo interrupted' INT; trap 'exit 9' TERM; echo ready; while :; do :; done";
            let mut cmd = unshare_sh(&format!("--trace=99 {options}"), script);
            give_fd(&mut cmd, 99, file);
            lead_terminal(&mut cmd, slave);
            let running = start(&mut cmd);
            running.prints("ready\n");
            std::io::Write::write_all(&mut master, b"\x03").unwrap();
            running.prints("interrupted\n");
            running.kill(libc::SIGTERM); // taken after SIGINT, which has the smaller number
            let out = running.wait().exits(9).out();
            assert_eq!(out.matches("interrupted").count(), 1);
            let trace = fs::read_to_string(dir.join("trace")).unwrap();
            let calls = &strace::traced(&trace)[&0];
            let taken =
                calls.iter().any(|call| call.name == "rt_sigtimedwait" && call.result == "2");
            assert!(taken, "the parent has the signal as well: {trace}");
            let kills: Vec<String> =
                calls.iter().filter(|c| c.name == "kill").map(|c| c.args[1].clone()).collect();
            assert_eq!(kills, ["15"], "the interrupt is not passed on: {trace}");
        }
    }

    #[test]
    fn a_timer_of_the_caller_reaches_prog_though_it_comes_from_the_kernel() {
        private_mounts();
        let mut cmd = unshare_sh("--rmdir /nowhere", "exec sleep 1000");
        before_exec(&mut cmd, || {
            // SAFETY: a number. The timer outlasts execve(2).
            unsafe { libc::alarm(1) };
            Ok(())
        });
        run(&mut cmd).exits(128 + libc::SIGALRM);
    }

    /// `T` stopped, `S` asleep: proc_pid_status(5).
    fn state(pid: i32) -> String {
        status_of(pid, "State").chars().take(1).collect()
    }

    #[test]
    fn a_stop_signal_stops_the_parent_with_prog_where_a_shell_can_continue_them() {
        private_mounts();
        let script = "echo ready; exec sleep 1000";
        let mut cmd = unshare_sh("--rmdir /nowhere", script);
        // A group of its own, whose leader's parent is in another group of the session.
        cmd.process_group(0);
        let running = start(&mut cmd);
        running.prints("ready\n");
        let child = children_of(running.pid())[0];
        for _ in 0..2 {
            running.kill(libc::SIGTSTP);
            wait_for("the stop", || Some(()).filter(|()| state(running.pid()) == "T"));
            wait_for("PROG to stop", || Some(()).filter(|()| state(child) == "T"));
            running.kill(libc::SIGCONT);
            wait_for("the wait", || Some(()).filter(|()| state(running.pid()) == "S"));
            wait_for("PROG to go on", || Some(()).filter(|()| state(child) == "S"));
        }
        running.kill(libc::SIGTERM);
        running.wait().exits(128 + libc::SIGTERM);
    }

    #[test]
    fn a_stop_signal_stops_nobody_where_it_is_ignored_or_no_shell_is_there() {
        private_mounts();
        for ignored in [true, false] {
            let mut cmd = unshare_sh("--rmdir /nowhere", "echo ready; exec sleep 1000");
            before_exec(&mut cmd, move || {
                // SAFETY: numbers, of which one is SIG_IGN.
                unsafe {
                    if ignored {
                        libc::signal(libc::SIGTSTP, libc::SIG_IGN);
                        return check(libc::setpgid(0, 0)).map(drop);
                    }
                    check(libc::setsid()).map(drop) // its group is an orphan
                }
            });
            let running = start(&mut cmd);
            running.prints("ready\n");
            running.kill(libc::SIGTSTP);
            running.kill(libc::SIGTERM); // taken before SIGTSTP, which has the larger number
            assert!(ended_within(running.pid(), LIMIT), "{ignored}: it is stopped");
            running.wait().exits(128 + libc::SIGTERM);
        }
    }

    /// The kernel discards SIGTSTP for a process in a session of its own, because no process there could continue it.
    #[test]
    fn a_stop_signal_stops_and_a_continue_continues_a_prog_in_a_session_of_its_own() {
        private_mounts();
        let script = "sleep 1000 & echo ready; wait";
        for signal in [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
            for options in ["-p td-exec --setsid", "--rmdir /nowhere td-exec --setsid td-init"] {
                let mut cmd = td("td-unshare", options.split(' '));
                let running = start(cmd.args(["sh", "-c", script]).process_group(0));
                running.prints("ready\n");
                let mut prog = running.pid();
                let mut processes = vec![];
                while let [child] = children_of(prog)[..] {
                    processes.push(child);
                    prog = child;
                }
                let [.., shell, sleep] = processes[..] else { panic!("{processes:?}") };
                let both = |letter| {
                    let what = format!("{letter}: {options} {signal}");
                    wait_for(&what, || {
                        (state(shell) == letter && state(sleep) == letter).then_some(())
                    });
                };
                for _ in 0..2 {
                    running.kill(signal);
                    both("T");
                    wait_for("our stop", || (state(running.pid()) == "T").then_some(()));
                    running.kill(libc::SIGCONT);
                    both("S");
                    wait_for("the wait", || (state(running.pid()) == "S").then_some(()));
                }
                kill(shell, libc::SIGKILL);
                // Nobody outlives process 1 of a pid namespace.
                if !options.starts_with("-p") {
                    kill(sleep, libc::SIGKILL);
                }
                running.wait().exits(128 + libc::SIGKILL);
            }
        }
    }

    /// A new terminal: the side that types, and the side of programs.
    fn terminal() -> (fs::File, fs::File) {
        let (mut master, mut slave) = (0, 0);
        let null = std::ptr::null_mut();
        // SAFETY: room for two descriptors; the other pointers may be null.
        unsafe {
            check(libc::openpty(&mut master, &mut slave, null, null.cast(), null.cast())).unwrap();
            use std::os::fd::FromRawFd;
            for fd in [master, slave] {
                libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            }
            (fs::File::from_raw_fd(master), fs::File::from_raw_fd(slave))
        }
    }

    /// Let a command lead a session of its own, with this as its terminal.
    fn lead_terminal(cmd: &mut Command, slave: fs::File) {
        use std::os::fd::AsRawFd;
        before_exec(cmd, move || {
            // SAFETY: numbers only.
            unsafe {
                check(libc::setsid())?;
                check(libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0))?;
            }
            Ok(())
        });
    }

    #[test]
    fn an_idle_td_unshare_wakes_nobody() {
        private_mounts();
        let (parent, _) = idle("-p");
        let dir = TempDir::new();
        let log = dir.join("log");
        let pid = parent.pid().to_string();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-p", &pid, "-o"]).arg(&log);
        let strace = start(&mut strace);
        wait_for("strace", || Some(()).filter(|()| strace.err().contains("attached")));
        // Not to wait for something, but to see that nothing happens.
        std::thread::sleep(Duration::from_secs(1));
        strace.kill(libc::SIGINT);
        strace.wait();
        let text = fs::read_to_string(log).unwrap();
        // The call in which it slept, and is left.
        assert!(text.contains("rt_sigtimedwait("), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }

    // ---- what is removed afterwards ----

    /// Remove a tree when PROG, which exits with 7, has ended.
    fn remove(dir: &TempDir, name: &str) -> Output {
        let mut cmd = td("td-unshare", ["--remove"]);
        run(cmd.arg(dir.join(name)).args(["sh", "-c", "exit 7"])).exits(7)
    }

    #[track_caller]
    fn assert_silent(output: &Output) {
        assert!(output.stderr.is_empty(), "{output}");
    }

    #[test]
    fn a_tree_is_removed_when_prog_has_ended() {
        private_mounts();
        let dir = TempDir::new();
        dir.dir("tree/a/b/c");
        dir.file("tree/a/file", "x");
        dir.file("kept", "x");
        let script = "test -d $0/tree/a/b/c && touch $0/tree/a/b/new";
        let mut cmd = td("td-unshare", ["--remove"]);
        run(cmd.arg(dir.join("tree")).args(["sh", "-c", script]).arg(dir.path())).ok();
        assert!(!dir.join("tree").exists());
        assert!(dir.join("kept").exists());
        assert_silent(&remove(&dir, "never-there"));
    }

    #[test]
    fn a_tree_of_any_depth_is_removed() {
        private_mounts();
        let dir = TempDir::new();
        // Deeper than a path may be long, so one step at a time. The thread has a working directory of
        // its own since it has a mount namespace of its own.
        std::env::set_current_dir(dir.dir("tree")).unwrap();
        for _ in 0..5000 {
            fs::create_dir("d").unwrap();
            fs::write("f", "").unwrap();
            std::env::set_current_dir("d").unwrap();
        }
        std::env::set_current_dir("/").unwrap();
        assert_silent(&remove(&dir, "tree"));
        assert!(!dir.join("tree").exists());
    }

    /// A descriptor for each of some directories, as far as there are descriptors.
    #[test]
    fn a_deep_tree_is_removed_with_as_few_descriptors_as_one_of_two_directories() {
        private_mounts();
        let dir = TempDir::new();
        let limited = |most: u64, depth: usize| {
            dir.dir(&format!("tree{}", "/d".repeat(depth)));
            let mut cmd = td("td-unshare", ["--pid", "--remove"]);
            cmd.arg(dir.join("tree")).args(["--", "true"]);
            before_exec(&mut cmd, move || {
                let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
                // SAFETY: a number, and a structure that outlives the call.
                check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }).map(drop)
            });
            let output = run(&mut cmd);
            let is_removed = output.code == Some(0) && output.err().is_empty();
            assert_eq!(dir.join("tree").exists(), !is_removed, "{most}, {depth}: {output}");
            is_removed
        };
        // What is empty is removed without being opened.
        let fewest = (4..64).find(|most| limited(*most, 2)).expect("so many are enough");
        assert!(fewest > 4);
        assert!(limited(fewest, 20));
    }

    #[test]
    fn a_broad_tree_is_removed() {
        private_mounts();
        let dir = TempDir::new();
        for i in 0..100 {
            for j in 0..30 {
                dir.dir(&format!("tree/directory-{i}/with-a-long-name-{j}"));
                dir.file(&format!("tree/directory-{i}/with-a-long-name-{j}/file"), "");
            }
        }
        assert_silent(&remove(&dir, "tree"));
        assert!(!dir.join("tree").exists());
    }

    #[test]
    fn names_and_modes_of_a_tree_may_be_hostile() {
        private_mounts();
        let dir = TempDir::new();
        for name in [
            ".td-0",
            ".td-1/.td-0/.td-2",
            ".td-2/.td-0",
            "a/.td-0/.td-1",
            "new\nline",
            "...",
            "-rf",
        ] {
            dir.dir(&format!("tree/{name}"));
        }
        dir.file("tree/.td-3", "");
        dir.file("tree/a/.td-3", "");
        run(Command::new("mkfifo").arg(dir.join("tree/a/pipe"))).ok();
        chmod(dir.dir("tree/closed/inside"), 0);
        chmod(dir.join("tree/closed"), 0);
        assert_silent(&remove(&dir, "tree"));
        assert!(!dir.join("tree").exists());
    }

    #[test]
    fn links_that_lead_out_of_a_tree_are_not_followed() {
        private_mounts();
        let dir = TempDir::new();
        dir.dir("outside");
        dir.file("outside/file", "kept");
        dir.dir("tree/a");
        for (to, name) in [
            ("outside", "tree/out"),
            ("..", "tree/a/up"),
            ("/", "tree/a/root"),
            ("loop", "tree/loop"),
        ] {
            symlink(if to == "outside" { dir.join(to) } else { to.into() }, dir.join(name))
                .unwrap();
        }
        assert_silent(&remove(&dir, "tree"));
        assert!(!dir.join("tree").exists());
        assert_eq!(fs::read_to_string(dir.join("outside/file")).unwrap(), "kept");
        // Nor is the tree itself one.
        symlink("outside", dir.join("link")).unwrap();
        let output = remove(&dir, "link");
        assert!(!output.stderr.is_empty(), "it should say that this is not a directory");
        let output = remove(&dir, "link/");
        assert!(!output.stderr.is_empty(), "nor is it with a slash");
        assert_eq!(fs::read_to_string(dir.join("outside/file")).unwrap(), "kept");
    }

    #[test]
    fn what_is_mounted_in_a_tree_is_not_touched() {
        private_mounts();
        for place in ["tree/mounted", "tree/a/mounted", "tree/a/b/c/mounted"] {
            let dir = TempDir::new();
            dir.dir("outside");
            dir.file("outside/file", "kept");
            let mounted = dir.dir(place);
            mount(["--bind".as_ref(), dir.join("outside").as_os_str(), mounted.as_os_str()]);
            let mounts = own_mountinfo().lines().count();
            remove(&dir, "tree")
                .says(": EBUSY (")
                .says("mounted is a mount point, and what is mounted is not removed");
            assert_eq!(own_mountinfo().lines().count(), mounts, "{place}");
            assert_eq!(fs::read_to_string(dir.join("outside/file")).unwrap(), "kept");
        }
        let dir = TempDir::new();
        let mounted = dir.dir("mounted");
        mount(["-t", "tmpfs", "tmpfs", mounted.to_str().unwrap()]);
        fs::write(mounted.join("file"), "kept").unwrap();
        remove(&dir, "mounted")
            .says("mounted is a mount point, and what is mounted is not removed");
        assert_eq!(fs::read_to_string(mounted.join("file")).unwrap(), "kept");
    }

    #[test]
    fn rmdir_removes_an_empty_directory_and_leaves_a_full_one() {
        private_mounts();
        let dir = TempDir::new();
        let (empty, full) = (dir.dir("empty"), dir.dir("full"));
        dir.file("full/file", "");
        let mut cmd = td("td-unshare", ["--rmdir"]);
        cmd.arg(&empty).arg("--rmdir").arg(&full).arg("--rmdir").arg(dir.join("none")).arg("true");
        run(&mut cmd).ok();
        assert!(!empty.exists());
        assert!(full.join("file").exists());
    }

    #[test]
    fn what_is_removed_is_removed_also_when_prog_could_not_be_executed() {
        private_mounts();
        let dir = TempDir::new();
        let tree = dir.dir("tree");
        run(td("td-unshare", ["-p", "--remove"]).arg(&tree).arg("/nowhere")).exits(127);
        assert!(!tree.exists());
    }

    // ---- ids ----

    /// The lines of uid_map, gid_map and setgroups of the process that runs it.
    const MAPS: &str = "cd /proc/self; while read -r line; do echo $line; done <uid_map; echo -; \
        while read -r line; do echo $line; done <gid_map; echo -; cat setgroups";

    /// What that prints, in one line, each map sorted by its inner ids.
    #[track_caller]
    fn maps(cmd: &mut Command) -> String {
        let out = run(cmd.args(["sh", "-c", MAPS])).ok().out();
        let parts = out.split("-\n").map(|part| {
            let mut lines: Vec<&str> = part.lines().collect();
            lines.sort_by_key(|line| line.split(' ').next().unwrap().parse::<u32>().ok());
            lines.join(", ")
        });
        parts.collect::<Vec<_>>().join(" | ")
    }

    const GIVEN: &str = "ranges:700000:65536\n";

    /// td-unshare, run by that user.
    fn by_ranges(options: &str) -> Command {
        let mut cmd = td("td-unshare", options.split_whitespace());
        cmd.uid(RANGES).gid(RANGES);
        cmd
    }

    #[test]
    fn a_user_can_have_any_one_id_there() {
        private_mounts();
        for (options, expected) in [
            ("--map-user 1000 --map-group 1001", "1000 65534 1 | 1001 65534 1 | deny"),
            ("--map-user 1000 --map-group 0 -p", "1000 65534 1 | 0 65534 1 | deny"),
            ("-r --map-user 7", "7 65534 1 | 0 65534 1 | deny"),
            ("--map-users 7:65534:1 --map-groups 8:65534:1", "7 65534 1 | 8 65534 1 | deny"),
            ("--map-user 1000", "1000 65534 1 |  | allow"),
            ("--map-group 1000", " | 1000 65534 1 | deny"),
            ("-U --setgroups deny", " |  | deny"),
        ] {
            let mut cmd = td("td-unshare", options.split(' '));
            assert_eq!(maps(cmd.uid(65534).gid(65534)), expected, "{options}");
        }
        let script = "id -u; id -g; grep CapEff /proc/self/status";
        let mut cmd = unshare("--map-user 1000 --map-group 1001 td-unshare -m sh -c");
        let out = run(cmd.arg(script).uid(65534).gid(65534)).ok().out();
        assert!(out.starts_with("1000\n1001\nCapEff:\t000001ff"), "{out}");
    }

    #[test]
    fn one_id_is_mapped_without_a_child() {
        private_mounts();
        let mut cmd = unshare_sh("--map-user 1000 --map-group 1000 -m", "echo $$");
        let running = start(cmd.uid(65534).gid(65534));
        let pid = running.pid().to_string();
        assert_eq!(running.wait().ok().out().trim(), pid);
    }

    #[test]
    fn who_may_map_what_he_likes_does_it_without_newuidmap() {
        private_mounts();
        for (options, expected) in [
            ("--map-users 0:700000:10 --map-groups 0:800000:9", "0 700000 10 | 0 800000 9 | allow"),
            ("-r --map-users 1:700000:10", "0 0 1, 1 700000 10 | 0 0 1 | deny"),
            ("-r --map-groups 1:700000:10", "0 0 1 | 0 0 1, 1 700000 10 | allow"),
            ("-r --setgroups allow", "0 0 1 | 0 0 1 | allow"),
            (
                "-r --map-users 1:7:2 --map-users 9:9:1 --map-groups 1:7:2 --setgroups deny -p",
                "0 0 1, 1 7 2, 9 9 1 | 0 0 1, 1 7 2 | deny",
            ),
        ] {
            let mut cmd = td("td-unshare", options.split(' '));
            let dir = TempDir::new();
            chmod(dir.path(), 0o755);
            symlink("/bin/sh", dir.join("sh")).unwrap();
            symlink(busybox(), dir.join("cat")).unwrap();
            assert_eq!(maps(cmd.env("PATH", dir.path())), expected, "{options}");
        }
    }

    #[test]
    fn a_user_maps_the_ids_that_root_has_given_him() {
        private_mounts();
        let two = "someone:100000:65536\nranges:700000:5\n54321:800000:5\n";
        for (given, options, users) in [
            (GIVEN, "@", "0 700000 65536"),
            (GIVEN, "-r @", "0 54321 1, 1 700000 65536"),
            (GIVEN, "-r -p -m @", "0 54321 1, 1 700000 65536"),
            (
                GIVEN,
                "--map-user 1000 --map-group 1000 @",
                "0 700000 1000, 1000 54321 1, 1001 701000 64536",
            ),
            (two, "@", "0 700000 5, 5 800000 5"),
            (two, "-r --map-users 7:700001:3 --map-groups 7:700001:3", "0 54321 1, 7 700001 3"),
        ] {
            let _etc = give_ids(given);
            let options = options.replace('@', "--map-users auto --map-groups auto");
            let expected = format!("{users} | {users} | allow");
            assert_eq!(maps(&mut by_ranges(&options)), expected, "{options}");
            run(Command::new("umount").arg("/etc")).ok();
        }
    }

    #[test]
    fn a_child_that_is_killed_while_its_ids_are_mapped_is_not_waited_for_in_vain() {
        private_mounts();
        let dir = give_ids(GIVEN);
        let real = run(&mut sh("command -v newuidmap")).ok().out();
        let script = format!("#!/bin/sh\n{} \"$@\"\nkill -KILL $1\n", real.trim());
        dir.program("newuidmap", script);
        let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
        let mut cmd = by_ranges("-r --map-users auto echo ran");
        let output = run(cmd.env("PATH", path)).exits(125);
        let output = output.says("SIGKILL ended the process before it became PROG");
        assert_eq!(output.out(), "");
    }

    #[test]
    fn who_is_not_in_his_map_becomes_its_root_in_no_group() {
        private_mounts();
        let _etc = give_ids(GIVEN);
        let options = "-m --map-users auto --map-groups auto";
        let mut cmd = by_ranges(options);
        let running =
            start(cmd.args(["sh", "-c", "id; read line"]).stdin(std::process::Stdio::null()));
        let out = running.wait().out();
        assert_eq!(out, "uid=0(root) gid=0(root) groups=0(root)\n");
        // Root of the machine had groups, which it leaves.
        let options = "--map-users 0:700000:9 --map-groups 0:800000:9";
        let script = "grep -E '^(Uid|Gid|Groups|CapEff)' /proc/self/status";
        let mut cmd = Command::new("setpriv");
        cmd.args(["--groups", "0,7", "--"]).arg(bin("td-unshare")).args(options.split(' '));
        let out = run(cmd.args(["sh", "-c", script])).ok().out();
        let words: Vec<&str> = out.split_whitespace().collect();
        assert_eq!(
            words[..11],
            ["Uid:", "0", "0", "0", "0", "Gid:", "0", "0", "0", "0", "Groups:"]
        );
        assert!(words.len() == 13 && words[12].starts_with("000001ff"), "{out}");
        let (_parent, child) = idle(options);
        assert_eq!(status_of(child, "Uid"), "700000\t700000\t700000\t700000");
        assert_eq!(status_of(child, "Gid"), "800000\t800000\t800000\t800000");
        assert_eq!(status_of(child, "Groups"), "");
    }

    #[test]
    fn chown_and_su_work_where_ranges_are_mapped() {
        private_mounts();
        let dir = give_ids(GIVEN);
        let root = dir.dir("root");
        image(&root);
        fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\napp:x:5:6::/:/bin/sh\n")
            .unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\napps:x:6:\n").unwrap();
        run(Command::new("chown").args(["-R", "54321:54321"]).arg(&root)).ok();
        let script = "echo >/tmp/file && chown app:apps /tmp/file && su app -c 'id; stat -c %u:%g /tmp/file; \
            echo >/tmp/own'";
        let mut cmd = by_ranges("-r --map-users auto --map-groups auto -m td-pivot");
        let out = run(cmd.arg(&root).args(["/bin/sh", "-c", script])).ok().out();
        assert_eq!(out, "uid=5(app) gid=6(apps) groups=6(apps)\n5:6\n");
        for name in ["file", "own"] {
            use std::os::unix::fs::MetadataExt;
            let stat = fs::metadata(root.join("tmp").join(name)).unwrap();
            assert_eq!((stat.uid(), stat.gid()), (700_004, 700_005), "{name}");
        }
    }

    #[test]
    fn what_is_owned_by_other_mapped_ids_or_closed_is_removed() {
        private_mounts();
        let dir = give_ids(GIVEN);
        let state = dir.dir("state");
        run(Command::new("chown").arg("54321:54321").arg(&state)).ok();
        let left = |path: &Path| fs::read_dir(path).unwrap().count();
        let range = "-m -r --map-users auto --map-groups auto";
        let owned =
            "mkdir -p tree/a/b; echo >tree/a/b/c; chown -R 5:6 tree/a; chmod 0 tree/a/b tree/a";
        let closed = "mkdir -p tree/a/b; echo >tree/a/b/c; chmod 0 tree/a/b tree/a";
        let without_own = "--map-users auto --map-groups auto -m";
        let in_tree = "mkdir tree/a; echo >tree/a/b; chmod 0 tree/a";
        for (options, before, script) in [
            (range, "", owned),
            (range, "", closed),
            ("-r -p", "", closed),
            ("-c --setgroups deny", "", closed),
            (without_own, "mkdir -m 777 tree", in_tree),
        ] {
            // When PROG has ended.
            let by = |options: &str, script: &str| {
                run(by_ranges(options).args(["sh", "-c", script]).current_dir(&state)).ok()
            };
            by("", before);
            by(&format!("{options} --remove tree --rmdir tree"), script);
            assert_eq!(left(&state), 0, "{options}: {script}");
            // What was left is removed before, and not without --fresh.
            by("", before);
            by(options, script);
            assert_eq!(left(&state), 1, "{options}: {script}");
            let there = by(&format!("{options} --remove tree"), "echo *").out();
            assert_eq!(there, "tree\n", "{options}");
            by("", before);
            by(options, script);
            let there = by(&format!("{options} --remove tree --fresh"), "echo *").out();
            assert_eq!(there, "*\n", "{options}");
            assert_eq!(left(&state), 0);
        }
    }

    #[test]
    fn what_is_owned_by_an_id_that_is_not_mapped_stays_and_is_said() {
        private_mounts();
        let dir = give_ids(GIVEN);
        let state = dir.dir("state/tree/of-root").parent().unwrap().parent().unwrap().to_path_buf();
        dir.file("state/tree/of-root/file", "");
        let mut chown = Command::new("chown");
        run(chown.arg("54321:54321").arg(&state).arg(state.join("tree"))).ok();
        let mut cmd = by_ranges("-r --map-users auto --map-groups auto --remove tree sh -c");
        let output = run(cmd.arg("exit 7").current_dir(&state)).exits(7);
        output.says("unlinkat(").says("EACCES (").says("tree is not removed");
        assert!(state.join("tree/of-root/file").exists());
        let mut cmd = by_ranges("-r --fresh --remove tree echo ran");
        let output = run(cmd.current_dir(&state)).exits(125).says("tree is not removed");
        assert_eq!(output.out(), "", "PROG must not run");
    }

    #[test]
    fn ranges_are_mapped_when_the_child_is_in_its_cgroups() {
        private_mounts();
        let own = Cgroup::new("ranges");
        own.make("", &["--pids", "50"]);
        let options =
            format!("--into-cgroup {} -C -p --map-users 0:700000:9 --map-groups 0:700000:9", own.0);
        let (_parent, child) = idle(&options);
        let cgroups = fs::read_to_string(format!("/proc/{child}/cgroup")).unwrap();
        let is_it = |line: &&str| line.contains(":pids:") || line.starts_with("0::"); // which is the last
        let pids = cgroups.lines().find(is_it).unwrap();
        assert!(pids.ends_with(&own.0), "{cgroups}");
        assert!(status_of(child, "Uid").starts_with("700000"));
    }

    #[test]
    fn a_map_that_is_refused_has_its_reason() {
        private_mounts();
        let _etc = give_ids("someone:900000:65536\nranges:700000:65536\nbroken\n");
        let line = "root can add a line to /etc/subuid: ranges:965536:65536";
        for (options, says) in [
            (
                "-r --map-users 1:800000:5",
                &["/etc/subuid does not give ranges the ids 800000 to 800004", line][..],
            ),
            (
                "-r --map-users 1:765535:2",
                &["newuidmap: exit status 1", "the ids 765535 to 765536"],
            ),
            (
                "-r --map-groups 1:5:1",
                &["newgidmap: exit status 1", "/etc/subgid does not give ranges the ids 5 to 5"],
            ),
            ("-r --map-users 0:700000:5", &["an id is in both 0:700000:5 and 0:54321:1"]),
            (
                "--map-users 0:700000:5 --map-users 9:700004:1",
                &["in both 0:700000:5 and 9:700004:1"],
            ),
            (
                "-r --setgroups allow",
                &["setgroups(2) can stay allowed only if a privileged process maps the groups"],
            ),
        ] {
            let mut output = run(by_ranges(options).args(["echo", "ran"])).exits(125);
            for text in says {
                output = output.says(text);
            }
            assert_eq!(output.out(), "", "{options}");
        }
        let mut cmd = unshare("-r --map-users auto echo ran");
        run(as_user(&mut cmd)).exits(125).says("12345 has no ids in /etc/subuid");
        let mut cmd = unshare("-r --map-groups auto echo ran");
        let output = run(cmd.uid(65534).gid(65534)).exits(125);
        output.says("nobody has no ids in /etc/subgid").says("/etc/subgid: nobody:965536:65536");
        let mut cmd = by_ranges("-r --map-users auto echo ran");
        let output = run(cmd.env("PATH", "/nowhere")).exits(125);
        output.says("newuidmap, which maps ranges of ids for a user, was not found");
        let mut cmd = by_ranges("-r --map-users auto echo ran");
        before_exec(&mut cmd, || {
            // SAFETY: numbers.
            check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(drop)
        });
        run(&mut cmd).exits(125).says("newuidmap gains no privileges, because no_new_privs is set");
        mount(["-t", "tmpfs", "-o", "mode=755", "tmpfs", "/etc"]);
        let mut cmd = by_ranges("-r --map-users auto echo ran");
        let output = run(&mut cmd).exits(125).says("54321 has no ids in /etc/subuid");
        output.says("root can add a line to /etc/subuid: 54321:100000:65536");
    }

    #[test]
    fn a_map_that_the_kernel_refuses_to_root_has_its_reason() {
        private_mounts();
        refused(
            "$td --map-users 0:0:2 --map-users 5:1:1 echo ran",
            &["EINVAL (", "in both 0:0:2 and 5:1:1"],
        );
        refused(
            "$td $(for i in $(seq 0 400); do echo --map-users $i:$i:1; done) echo ran",
            &["EINVAL (", "a map has at most 340 lines and 4095 bytes"],
        );
        refused(
            "td=$td; $td -r $td --map-users 0:5:5 echo ran",
            &["EPERM (", "not all ids 5 to 9 are mapped in this user namespace"],
        );
        refused(
            "setpriv --bounding-set -setfcap $td --map-users 0:0:2 echo ran",
            &["EPERM (", "perhaps the caller has no CAP_SETFCAP, which is needed to map uid 0"],
        );
        refused(
            "unshare -m sh -c 'umount -l /proc; exec \"$0\" --map-users 0:7:2 echo ran' \"$td\"",
            &["ENOENT (", "ids are mapped through /proc, which must be mounted"],
        );
    }

    // ---- the pid file ----

    /// td-unshare with a pid file, and more words.
    fn with_pid_file(file: &Path, options: &str) -> Command {
        let mut cmd = td("td-unshare", ["--pid-file"]);
        cmd.arg(file).args(options.split_whitespace());
        cmd
    }

    /// However many lower numbers the caller has left open.
    #[test]
    fn a_record_is_written_by_the_number_that_is_asked_for() {
        let dir = TempDir::new();
        for above in 3..=9 {
            let open: String = (3..above).map(|fd| format!("{fd}</dev/null ")).collect();
            let file = dir.join(format!("record-{above}"));
            let mut cmd = sh(&format!("exec {open} \"$@\""));
            let record = format!("9:{}", text(&file));
            cmd.arg("sh").arg(bin("td-unshare")).args(["-p", "--record", &record]);
            cmd.arg("--pid-file").arg(dir.join("pid"));
            run(cmd.args(["sh", "-c", "echo written >&9"])).ok();
            assert_eq!(fs::read_to_string(&file).expect("a record"), "written\n", "{open}");
        }
    }

    #[test]
    fn a_record_is_created_also_where_nothing_else_is_asked_for() {
        let dir = TempDir::new();
        let file = dir.join("record");
        let mut cmd = td("td-unshare", ["--record", &format!("9:{}", text(&file))]);
        run(cmd.args(["sh", "-c", "echo written >&9"])).ok();
        assert_eq!(fs::read_to_string(&file).expect("a record"), "written\n");
    }

    #[test]
    fn the_pid_file_names_prog_for_as_long_as_it_is_there() {
        private_mounts();
        for options in ["", "-p", "-r", "-r -p -m"] {
            let dir = TempDir::new();
            let file = dir.join("a/b/pid");
            let script = "cat $0; echo ready; read line";
            let mut cmd = with_pid_file(&file, options);
            cmd.args(["sh", "-c", script]).arg(&file);
            cmd.stdin(std::process::Stdio::piped());
            let running = start_with(cmd.stdout(std::process::Stdio::piped()));
            let out = running.prints("ready\n");
            let [child] = children_of(running.pid())[..] else { panic!("one child") };
            assert_eq!(out, format!("{}ready\n", pid_text(child)));
            assert_eq!(fs::read_to_string(&file).unwrap(), pid_text(child));
            // As scripts read it.
            let mut read =
                sh("read pid <\"$0\"; echo $pid; head -n 1 \"$0\"; kill -0 $(cat \"$0\")");
            let output = run(read.arg(&file));
            assert_eq!(output.out(), format!("{child}\n{child}\n"));
            assert!(output.err().contains("start="), "no process is named by that: {output}");
            for made in ["a", "a/b"] {
                let mode = fs::metadata(dir.join(made)).unwrap().permissions();
                assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o7777, 0o700);
            }
            kill(child, libc::SIGKILL);
            running.wait().exits(137);
            assert_eq!(fs::read_dir(dir.join("a/b")).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_reader_sees_a_whole_pid_file_or_none() {
        private_mounts();
        let dir = TempDir::new();
        let file = dir.join("pid");
        let other = file.clone();
        let (ended, end) = std::sync::mpsc::channel::<()>();
        let reader = std::thread::spawn(move || {
            let mut seen = 0;
            while end.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                if let Ok(text) = fs::read_to_string(&other) {
                    let (pid, start) = text.split_once("\nstart=").expect("two lines");
                    pid.parse::<i32>().expect("a number");
                    start
                        .strip_suffix('\n')
                        .expect("a whole line")
                        .parse::<u64>()
                        .expect("a number");
                    seen += 1;
                }
            }
            seen
        });
        for _ in 0..100 {
            run(with_pid_file(&file, "true").args(["-x"])).ok();
        }
        drop(ended);
        assert!(reader.join().expect("a pid file was not whole") > 0);
    }

    #[test]
    fn where_prog_never_begins_no_pid_file_and_no_directory_is_left() {
        private_mounts();
        let long = "n".repeat(65);
        for (options, status) in [
            ("/nowhere", 127),
            ("-r -p /nowhere", 127),
            (&format!("--hostname {long} true"), 125), // the child fails before it has called
            ("-r --map-users 0:0:1 true", 125),        // the parent's part fails
            ("--into-cgroup /nowhere/at-all true", 125),
            ("--net=/proc/nowhere true", 125),
        ] {
            let dir = TempDir::new();
            let pin = dir.join("pin");
            let mut cmd = td("td-unshare", ["--pid-file"]);
            cmd.arg(dir.join("a/b/pid")).arg(format!("--uts={}", pin.display()));
            let output = run(cmd.args(options.split(' '))).exits(status);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{options}: {output}");
            assert!(!own_mountinfo().contains("pin"), "{options}");
        }
    }

    #[test]
    fn a_pid_file_that_cannot_be_written_is_an_error_and_prog_is_not_executed() {
        private_mounts();
        let dir = TempDir::new();
        mount(["-t", "tmpfs", "-o", "nr_inodes=3", "tmpfs", dir.path().to_str().unwrap()]);
        let mut cmd = with_pid_file(&dir.join("a/pid"), "-p echo ran");
        assert_eq!(run(&mut cmd).ok().out(), "ran\n"); // three: the root, the directory, the file
        dir.file("a/full", "");
        let output = run(&mut with_pid_file(&dir.join("a/pid"), "-p echo ran")).exits(125);
        assert_eq!(output.says("mknodat(").says("ENOSPC (").out(), "");
        fs::remove_file(dir.join("a/full")).unwrap();
        mount(["-o", "remount,ro", dir.path().to_str().unwrap()]);
        let output = run(&mut with_pid_file(&dir.join("b/pid"), "-p echo ran")).exits(125);
        assert_eq!(output.says("mkdirat(").says("EROFS (").out(), "");
        let output = run(&mut with_pid_file(&dir.join("a/pid"), "-p echo ran")).exits(125);
        assert_eq!(output.says("mknodat(").says("EROFS (").out(), "");
    }

    #[test]
    fn a_pid_file_of_a_process_that_is_no_container_or_gone_is_replaced() {
        private_mounts();
        let dir = TempDir::new();
        let gone = run(&mut sh("echo $$")).ok().out();
        let own = format!("{}\n", std::process::id());
        let own_start = pid_text(std::process::id() as i32);
        for text in [&gone, &own, &own_start, "1\n", "1", "", "0\n", "2147483647\nstart=1\n"] {
            let file = dir.file("pid", text);
            dir.file("pid.new", "left by one that was killed");
            let out = run(with_pid_file(&file, "-p cat").arg(&file)).ok().out();
            assert_ne!(out, text, "it is replaced");
            assert!(out.lines().next().unwrap().parse::<i32>().unwrap() > 1);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    /// What is another after a file has been replaced or written to.
    fn unchanged(file: &Path) -> (u64, u64, i64) {
        use std::os::unix::fs::MetadataExt;
        let stat = fs::symlink_metadata(file).unwrap();
        (stat.ino(), stat.size(), stat.mtime_nsec())
    }

    #[test]
    fn what_is_no_pid_file_is_not_touched() {
        private_mounts();
        let dir = TempDir::new();
        dir.dir("directory");
        dir.file("text", "17 and more\n");
        dir.file("large", "4294967296\n");
        dir.file("more", "1\nstart=1\n\n");
        dir.file("long", ["1\nstart=", &"0".repeat(100), "1\n"].concat());
        dir.file("pid", "1\n");
        symlink("pid", dir.join("link")).unwrap();
        symlink("none", dir.join("dangling")).unwrap();
        run(Command::new("mkfifo").arg(dir.join("pipe"))).ok();
        for name in ["directory", "text", "large", "more", "long", "link", "dangling", "pipe"] {
            let file = dir.join(name);
            let before = unchanged(&file);
            let output = run(&mut with_pid_file(&file, "echo ran")).exits(125);
            let says = format!("{} exists and is not a pid file", file.display());
            assert_eq!(output.says(&says).out(), "");
            assert_eq!(unchanged(&file), before, "{name}");
        }
    }

    #[test]
    fn each_of_several_pid_files_is_written_and_removed() {
        private_mounts();
        let dir = TempDir::new();
        let [first, second] = ["a/pid", "b/c/pid"].map(|name| dir.join(name));
        let mut cmd = with_pid_file(&first, "-p --pid-file");
        cmd.arg(&second).args(["sh", "-c", "cat $0 $1; exit 3"]).args([&first, &second]);
        let out = run(&mut cmd).exits(3).out();
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!((lines.len(), &lines[..2]), (4, &lines[2..]), "{out}");
        assert!(!first.exists() && !second.exists());
        // One that cannot be written: the other is not left, nor a directory that was made for it.
        let dir = TempDir::new();
        dir.file("plain", "");
        let mut cmd = with_pid_file(&dir.join("a/pid"), "-p --pid-file");
        run(cmd.arg(dir.join("plain/pid")).args(["echo", "ran"])).exits(125);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    /// In a pid namespace of its own a test can have a number given again.
    const RECYCLE: &str = "
        start() { \"$td\" -p sh -c 'sleep 1000; :' & parent=$!
            while child= && read -r child _ </proc/$parent/task/$parent/children; [ -z \"$child\" ]; do :; done; }
        \"$td\" -p --pid-file pid sh -c 'sleep 1000; :' & parent=$!
        until [ -s pid ]; do sleep 0.01; done
        read -r pid <pid
        kill -9 $parent
        while [ -d /proc/$pid ]; do sleep 0.01; done
        sleep 0.1 # ten clock ticks
        tries=0
        until start; [ $child = $pid ]; do
            kill -9 $parent
            tries=$((tries + 1))
            [ $tries -lt 100 ] || exit 9
            # start() takes a number for its parent first.
            echo $((pid - 2)) >/proc/sys/kernel/ns_last_pid
        done
        grep -c '^NSpid.*[^0-9]1$' /proc/$pid/status
        before=$(date +%s%N)
        \"$td\" -p --pid-file pid --fresh --remove tree echo ran
        echo $((($(date +%s%N) - before) / 1000000))
        kill -9 $parent";

    #[test]
    fn another_container_that_has_got_the_pid_is_not_waited_for() {
        private_mounts();
        let dir = TempDir::new();
        let mut cmd = Command::new("unshare");
        cmd.args(["-pf", "--mount-proc", "sh", "-c", RECYCLE]).env("td", bin("td-unshare"));
        let output = run(cmd.current_dir(dir.path())).exits(0);
        let out = output.out();
        let [first, ran, milliseconds] = out.lines().collect::<Vec<_>>()[..] else {
            panic!("{output}")
        };
        assert_eq!((first, ran), ("1", "ran"), "it is process 1 of a pid namespace: {output}");
        assert!(milliseconds.parse::<u32>().unwrap() < 2000, "{output}");
    }

    /// A container with a pid file whose parent is killed, and whose process 1 does not end before the
    /// `strace` is continued: one process of the container is its tracee, and stays until that looks.
    fn dying(dir: &TempDir) -> Running {
        let mut cmd = with_pid_file(&dir.join("pid"), "-p sh -c");
        let parent = start(cmd.arg("sleep 1000 & echo ready; wait"));
        parent.prints("ready\n");
        let [first] = children_of(parent.pid())[..] else { panic!("one child") };
        let [second] = children_of(first)[..] else { panic!("one grandchild") };
        let mut strace = Command::new("strace");
        let strace = start(strace.args(["-o", "/dev/null", "-p", &second.to_string()]));
        wait_for("strace", || Some(()).filter(|()| strace.err().contains("attached")));
        strace.kill(libc::SIGSTOP);
        wait_for("the stop", || Some(()).filter(|()| state(strace.pid()) == "T"));
        drop(parent); // which kills it
        assert!(is_alive(first), "process 1 waits for its child");
        strace
    }

    #[test]
    fn a_container_that_is_dying_is_waited_for() {
        private_mounts();
        let dir = TempDir::new();
        let strace = dying(&dir);
        dir.dir("tree/left");
        let mut cmd = with_pid_file(&dir.join("pid"), "-p --fresh --remove");
        let next = start(cmd.arg(dir.join("tree")).args(["sh", "-c", "echo $0/*"]).arg(dir.path()));
        let waits = || fs::read_to_string(format!("/proc/{}/syscall", next.pid())).ok();
        let ppoll = format!("{} ", libc::SYS_ppoll);
        wait_for("the wait", || waits().filter(|call| call.starts_with(&ppoll)));
        assert!(dir.join("tree/left").exists(), "nothing is removed before");
        strace.kill(libc::SIGCONT);
        assert_eq!(next.wait().ok().out(), format!("{}/pid\n", dir.path().display()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_container_that_does_not_end_is_named_and_left_as_it_is() {
        private_mounts();
        let dir = TempDir::new();
        let (pid, tree) = (dir.join("pid"), dir.dir("tree"));
        let options = format!("-p --pid-file {}", pid.display());
        let (_parent, child) = idle(&options);
        let mut cmd = with_pid_file(&pid, "-p --fresh --remove");
        let output = run(cmd.arg(&tree).args(["echo", "ran"])).exits(125);
        let says = format!(
            "process {child}, which {} names, is alive and is process 1 of a container",
            pid.display()
        );
        assert_eq!(output.says(&says).out(), "");
        assert!(is_alive(child) && tree.exists());
        assert_eq!(fs::read_to_string(&pid).unwrap(), pid_text(child));
    }

    // ---- namespaces in files ----

    /// `net:[4026531840]` of the namespace that a file holds.
    fn held(file: &Path, kind: &str) -> String {
        use std::os::unix::fs::MetadataExt;
        format!("{kind}:[{}]", fs::metadata(file).unwrap().ino())
    }

    #[test]
    fn a_namespace_stays_in_its_file_when_its_processes_have_ended() {
        stay_on_this_processor();
        private_mounts();
        for (options, kinds) in [
            ("-m=%m", "mnt"),
            ("--mount=%m", "mnt"),
            ("-u=%u", "uts"),
            ("--uts=%u", "uts"),
            ("-i=%i", "ipc"),
            ("--ipc=%i", "ipc"),
            ("-n=%n", "net"),
            ("--net=%n", "net"),
            ("-p=%p", "pid"),
            ("--pid=%p", "pid"),
            ("-C=%C", "cgroup"),
            ("--cgroup=%C", "cgroup"),
            ("-U=%U", "user"),
            ("--user=%U", "user"),
            ("-T=%T", "time"),
            ("--time=%T", "time"),
            ("-mpn=%n", "net"),
            ("-rmun=%n --ipc=%i -T=%T --boottime 5000", "net ipc time"),
        ] {
            let dir = TempDir::new();
            let options = options.replace('%', &format!("{}/", dir.path().display()));
            let script = "for kind; do readlink /proc/self/ns/$kind; done";
            let mut cmd = unshare_sh(&options, script);
            let kinds: Vec<&str> = kinds.split(' ').collect();
            let out = run(cmd.arg("sh").args(&kinds)).ok().out();
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), kinds.len(), "{options}");
            for (kind, link) in kinds.iter().zip(out.lines()) {
                let letter = match *kind {
                    "mnt" => "m",
                    "cgroup" => "C",
                    "user" => "U",
                    "time" => "T",
                    other => &other[..1],
                };
                assert_eq!(held(&dir.join(letter), kind), link, "{options}");
                assert_ne!(ns("thread-self", kind), link);
                run(Command::new("umount").arg(dir.join(letter))).ok();
            }
        }
    }

    /// Let this thread and what it starts run on one processor. On Linux 6.18 each has its own numbers for
    /// mount namespaces, and one can be mounted only where it has a higher number than its place.
    fn stay_on_this_processor() {
        // SAFETY: a set that outlives the calls; the first call has a number below its size.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(libc::sched_getcpu() as usize, &mut set);
            check(libc::sched_setaffinity(0, size_of_val(&set), &set)).unwrap();
        }
    }

    #[test]
    fn a_file_with_a_namespace_takes_other_processes_into_it() {
        private_mounts();
        let dir = TempDir::new();
        let (net, uts) = (dir.join("net"), dir.file("uts", "kept"));
        let mut cmd = td("td-unshare", ["--hostname", "kept-name", "--loopback"]);
        cmd.arg(format!("--net={}", net.display())).arg(format!("--uts={}", uts.display()));
        run(cmd.arg("true")).ok();
        let mut cmd = Command::new("nsenter");
        cmd.arg(format!("--net={}", net.display())).arg(format!("--uts={}", uts.display()));
        let script = "uname -n; $0 ifconfig lo";
        let out = run(cmd.args(["sh", "-c", script]).arg(busybox())).ok().out();
        assert!(out.starts_with("kept-name\n") && out.contains(" UP "), "{out}");
        run(Command::new("umount").args([&net, &uts])).ok();
        assert_eq!(fs::read_to_string(uts).unwrap(), "kept");
        assert_eq!(fs::read_to_string(net).unwrap(), "");
    }

    #[test]
    fn a_file_that_takes_no_namespace_has_its_reason_and_the_others_are_undone() {
        stay_on_this_processor();
        private_mounts();
        let dir = TempDir::new();
        let (shared, net) = (dir.dir("shared"), dir.join("net"));
        mount(["-t", "tmpfs", "tmpfs", shared.to_str().unwrap()]);
        mount(["--make-shared", shared.to_str().unwrap()]);
        let mut other = Command::new("unshare");
        other.args(["-m", "--propagation", "unchanged", "sh", "-c", "echo ready; exec sleep 1000"]);
        let other = start(&mut other);
        other.prints("ready\n");
        let td = bin("td-unshare");
        let command = format!(
            "$td --net={} --mount={}/mnt --pid-file {}/pid echo ran",
            net.display(),
            shared.display(),
            shared.display()
        );
        let says =
            format!("the mount on {} is shared, so it cannot hold a mount", shared.display());
        refused(&command, &["EINVAL (", &says]);
        assert!(!net.exists() && fs::read_dir(&shared).unwrap().count() == 0);
        assert!(!own_mountinfo().contains("net:["));
        let mut cmd = Command::new(td);
        cmd.arg(format!("-rn={}", net.display())).args(["echo", "ran"]);
        chmod(dir.path(), 0o777);
        run(as_user(&mut cmd)).exits(125).says("mount(").says("this process has no CAP_SYS_ADMIN");
        assert!(!net.exists());
    }

    // ---- why the kernel refuses ----

    /// What is run by `sh -c` with `$td` for td-unshare ends with 125 and says all of `says`; PROG,
    /// `echo ran`, does not run.
    #[track_caller]
    fn refused(script: &str, says: &[&str]) {
        let script = format!("td='{}'; {script}", bin("td-unshare").display());
        let mut output = run(&mut sh(&script)).exits(125);
        for text in says {
            output = output.says(text);
        }
        assert_eq!(output.out(), "", "PROG must not run");
    }

    const AS_USER: &str = "setpriv --reuid 12345 --regid 12345 --clear-groups";

    #[test]
    fn who_has_no_cap_sys_admin_is_told_of_user_namespaces() {
        private_mounts();
        let dir = program_for_all();
        for (options, call) in [("-m", "unshare(CLONE_NEWNS): EPERM"), ("-p", "clone3(")] {
            let td = dir.join("td-unshare");
            refused(
                &format!("{AS_USER} {} {options} echo ran", td.display()),
                &[
                    call,
                    "this process has no CAP_SYS_ADMIN",
                    "add --map-root-user: root of a new user namespace has it",
                ],
            );
        }
    }

    /// td-unshare where every user reaches it.
    fn program_for_all() -> TempDir {
        let dir = TempDir::new();
        chmod(dir.path(), 0o755);
        dir.program("td-unshare", fs::read(bin("td-unshare")).unwrap());
        dir
    }

    #[test]
    fn a_chroot_is_named_where_it_is_in_the_way() {
        private_mounts();
        let dir = program_for_all();
        image(&dir.dir("root"));
        fs::copy(dir.join("td-unshare"), dir.join("root/td-unshare")).unwrap();
        let root = dir.join("root");
        for (options, out) in [
            ("-r", "create the user namespace before the chroot"),
            ("-U -p", "create the user namespace before the chroot"),
            ("-m", "add --propagation unchanged"),
        ] {
            let chroot = format!("chroot {} /td-unshare {options} echo ran", root.display());
            refused(&chroot, &["/ is not a mount point: this process is in a chroot(2)", out]);
        }
        let chroot =
            format!("chroot {} /td-unshare -m --propagation unchanged true", root.display());
        run(&mut sh(&chroot)).ok();
    }

    #[test]
    fn an_id_that_is_not_mapped_is_named() {
        private_mounts();
        for options in ["-U", "-r -p"] {
            refused(
                &format!("unshare -U \"$td\" {options} echo ran"),
                &["the id of this process, shown as 65534, is not mapped here: /proc/self/uid_map"],
            );
        }
    }

    #[test]
    fn a_seccomp_filter_that_refuses_namespaces_is_named() {
        private_mounts();
        for errno in [libc::EPERM, libc::ENOSYS] {
            for options in ["-m", "-U", "-p"] {
                let mut cmd = unshare(&format!("{options} echo ran"));
                refuse_calls(
                    &mut cmd,
                    &[libc::SYS_unshare, libc::SYS_clone3, libc::SYS_clone],
                    errno,
                );
                let output = run(&mut cmd).exits(125);
                let output = output.says("a seccomp filter of this process refuses ");
                assert_eq!(output.out(), "");
            }
        }
    }

    /// A system call policy that has no clone3 answers ENOSYS, so that libraries take clone(2).
    #[test]
    fn where_clone3_does_not_exist_clone_does_the_same() {
        private_mounts();
        let own = Cgroup::new("fallback");
        let script = "for kind; do readlink /proc/self/ns/$kind; done >&2; \
            cat /proc/self/cgroup; id -u; uname -n; exit 7";
        for options in ["-muinpCUT -r --hostname x", "-p -C --hostname y", "-C -n -u", "-c -p -T"] {
            for cgroup in ["", &format!("--into-cgroup {}", own.0)] {
                let seen = |without: bool| {
                    let mut cmd = unshare(options);
                    cmd.args(cgroup.split_whitespace())
                        .args(["sh", "-c", script, "sh"])
                        .args(KINDS);
                    if without {
                        refuse_calls(&mut cmd, &[libc::SYS_clone3], libc::ENOSYS);
                    }
                    let output = run(&mut cmd).exits(7);
                    let changed = |(kind, link): &(&str, &str)| ns("thread-self", kind) != *link;
                    let spaces = output.err();
                    assert_eq!(spaces.lines().count(), KINDS.len(), "{output}");
                    let new = KINDS.into_iter().zip(spaces.lines()).filter(changed);
                    (new.map(|(kind, _)| kind).collect::<Vec<_>>(), output.out())
                };
                assert_eq!(seen(true), seen(false), "{options} {cgroup}");
            }
        }
    }

    #[test]
    fn who_may_not_clone_is_told_so_and_clone_is_not_tried() {
        private_mounts();
        let mut cmd = unshare("--trace -p echo ran");
        refuse_calls(&mut cmd, &[libc::SYS_clone3], libc::EPERM);
        let output = run(&mut cmd).exits(125).says("clone3(").says("EPERM");
        assert!(!output.err().contains("clone("), "{output}");
    }

    /// Not every kernel has these files: one of ours lies in their place, and a filter refuses.
    #[test]
    fn a_sysctl_that_keeps_user_namespaces_for_root_is_named() {
        private_mounts();
        let dir = program_for_all();
        mount(["-t", "tmpfs", "-o", "mode=755", "tmpfs", "/proc/sys/kernel"]);
        for (name, value) in
            [("unprivileged_userns_clone", "0"), ("apparmor_restrict_unprivileged_userns", "1")]
        {
            let path = format!("/proc/sys/kernel/{name}");
            fs::write(&path, format!("{value}\n")).unwrap();
            let says = format!("kernel.{name} is {value}: ");
            let refused = |user: bool| {
                let mut cmd = Command::new(dir.join("td-unshare"));
                cmd.args(["-r", "echo", "ran"]);
                if user {
                    as_user(&mut cmd);
                }
                refuse_calls(&mut cmd, &[libc::SYS_unshare, libc::SYS_clone3], libc::EPERM);
                run(&mut cmd).exits(125)
            };
            refused(true).says(&says);
            refused(false).says("a seccomp filter");
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn a_limit_of_namespaces_that_is_zero_is_named() {
        private_mounts();
        for (kind, options) in [
            ("mnt", "-m"),
            ("uts", "-u"),
            ("ipc", "-i"),
            ("net", "-n"),
            ("pid", "-p"),
            ("cgroup", "-C"),
            ("user", "-r"),
            ("time", "-T"),
            ("uts", "-uip"),
        ] {
            let path = format!("/proc/sys/user/max_{kind}_namespaces");
            refused(
                &format!("td=$td unshare -r sh -c 'echo 0 >{path}; exec $td {options} echo ran'"),
                &["ENOSPC (", &format!("{path} is 0")],
            );
        }
    }

    #[test]
    fn a_limit_of_namespaces_that_is_reached_is_named() {
        private_mounts();
        let path = "/proc/sys/user/max_net_namespaces";
        refused(
            &format!("td=$td unshare -r sh -c 'echo 1 >{path}; exec $td -n $td -n echo ran'"),
            &[
                &format!("{path} is 1"),
                "one of these limits is reached, here or in an ancestor user namespace",
            ],
        );
    }

    #[test]
    fn namespaces_that_are_too_deep_are_named() {
        private_mounts();
        let chain =
            |option: &str| format!("$td {option} {}", format!("td-unshare {option} ").repeat(33));
        refused(
            &format!("{} echo ran", chain("-p")),
            &["ENOSPC (", "this process is 32 pid namespaces deep, the maximum"],
        );
        refused(
            &format!("{} echo ran", chain("-r")),
            &["ENOSPC (", "or user namespaces are nested 32 deep, the maximum"],
        );
    }

    #[test]
    fn a_pid_namespace_whose_process_1_has_ended_is_named() {
        private_mounts();
        refused(
            "td=$td unshare -p sh -c '/bin/true & wait; exec $td --rmdir /nowhere echo ran'",
            &["ENOMEM (", "process 1 of the pid namespace for new children has ended"],
        );
    }

    #[test]
    fn a_second_pid_namespace_before_the_fork_is_named() {
        private_mounts();
        refused(
            "unshare -p $td -p echo ran",
            &["EINVAL (", "this process has already created a pid namespace for its children"],
        );
    }

    #[test]
    fn too_many_processes_of_a_user_are_counted() {
        private_mounts();
        let dir = program_for_all();
        let td = dir.join("td-unshare");
        // A user of this test's own.
        let user = "setpriv --reuid 12346 --regid 12346 --clear-groups prlimit --nproc=1:1";
        refused(
            &format!("{user} {} -r -p echo ran", td.display()),
            &["EAGAIN (", "RLIMIT_NPROC allows uid 12346 1 processes and threads, and 1 exist"],
        );
    }

    #[test]
    fn ids_that_cannot_be_mapped_have_their_reason() {
        private_mounts();
        refused(
            "setpriv --bounding-set -setfcap $td -r echo ran",
            &["EPERM (", "perhaps the caller has no CAP_SETFCAP, which is needed to map uid 0"],
        );
        refused(
            "unshare -m sh -c 'umount -l /proc; exec \"$0\" -r echo ran' \"$td\"",
            &["ENOENT (", "ids are mapped through /proc, which must be mounted"],
        );
    }

    #[test]
    fn what_cannot_be_set_inside_has_its_reason() {
        private_mounts();
        for (command, says) in [
            ("$td --monotonic 9223372036854775807", "a clock may not exceed 4611686018 seconds"),
            ("$td --boottime -99999999999", "the clock would be negative"),
            ("setpriv --bounding-set -sys_time $td --monotonic 1", "has no CAP_SYS_TIME"),
            ("setpriv --bounding-set -net_admin $td --loopback", "has no CAP_NET_ADMIN"),
            (
                "unshare -m sh -c 'umount -l /proc; exec \"$0\" -T \"$@\"' \"$td\"",
                "a clock is set through /proc, which must be mounted",
            ),
        ] {
            refused(&format!("{command} echo ran"), &[says]);
        }
        let name = "n".repeat(65);
        refused(
            &format!("$td --hostname {name} echo ran"),
            &["EINVAL (", "the name has 65 bytes; the maximum is 64"],
        );
    }

    // ---- why no process came into a cgroup ----

    /// A cgroup of this test's own, where td-cgroup makes one, removed with those below it.
    struct Cgroup(String);

    impl Cgroup {
        fn new(label: &str) -> Cgroup {
            let cgroup = Cgroup(format!("/td-test-unshare-{label}-{}", std::process::id()));
            cgroup.make("", &[]);
            cgroup
        }

        /// Make one below it.
        #[track_caller]
        fn make(&self, below: &str, options: &[&str]) {
            run(td("td-cgroup", options).arg(format!("{}{below}", self.0))).ok();
        }

        /// Its directory in the hierarchy that is mounted as `kind` with the option `option`.
        fn directory(&self, kind: &str, option: &str) -> std::path::PathBuf {
            let mounts = host_mountinfo();
            let point = mounts.lines().find_map(|line| {
                let (before, after) = line.split_once(" - ")?;
                let words: Vec<&str> = after.split(' ').collect();
                let has = words[2].split(',').any(|o| o == option);
                (words[0] == kind && has).then(|| before.split(' ').nth(4))?
            });
            Path::new(point.expect("it is mounted here")).join(&self.0[1..])
        }
    }

    impl Drop for Cgroup {
        fn drop(&mut self) {
            run(&mut td("td-cgroup", ["--remove", &self.0]));
        }
    }

    mod v2 {
        use super::*;

        #[test]
        fn a_cgroup_that_is_not_delegated_is_named() {
            private_mounts();
            let own = Cgroup::new("owner");
            let says = format!("no process can start in the cgroup {}", own.0);
            refused_to_a_user(&own, &["clone3(", "EACCES (", &says]);
        }

        #[test]
        fn a_cgroup_of_threads_takes_no_process() {
            private_mounts();
            let own = Cgroup::new("threads");
            own.make("/a", &[]);
            own.make("/b", &[]);
            fs::write(own.directory("cgroup2", "rw").join("a/cgroup.type"), "threaded").unwrap();
            refused(
                &format!("$td --into-cgroup {}/b echo ran", own.0),
                &["EOPNOTSUPP (", "no process can start in the cgroup "],
            );
        }

        #[test]
        fn a_cgroup_that_passes_controllers_down_takes_no_process() {
            private_mounts();
            let own = Cgroup::new("busy");
            let v2 = own.directory("cgroup2", "rw");
            let offered = fs::read_to_string(v2.join("cgroup.controllers")).unwrap();
            own.make("/a", &["--set", "hugetlb.2MB.max=0"]);
            refused(
                &format!("$td --into-cgroup {} echo ran", own.0),
                &["EBUSY (", "no process can start in the cgroup "],
            );
            drop(own);
            if offered.is_empty() {
                let _ = fs::write(v2.parent().unwrap().join("cgroup.subtree_control"), "-hugetlb");
            }
        }
    }

    /// Begin in a cgroup of root as an ordinary user.
    #[track_caller]
    fn refused_to_a_user(own: &Cgroup, says: &[&str]) {
        let dir = program_for_all();
        let td = dir.path().display();
        refused(&format!("{AS_USER} {td}/td-unshare --into-cgroup {} echo ran", own.0), says);
    }

    // ---- who was killed for lack of memory ----

    /// Run `script` in the cgroup `own`/a, with a limit of memory for `own`/`limited`, and remove `own`/a afterwards.
    #[track_caller]
    fn in_want_of_memory(own: &Cgroup, limited: &str, script: &str) -> Output {
        own.make("/a/leaf", &["--memory", "max"]);
        own.make(limited, &["--memory", "16M"]);
        let options = format!("--into-cgroup {0}/a/leaf --remove-cgroup {0}/a", own.0);
        run(&mut unshare_sh(&options, script))
    }

    #[test]
    fn a_process_that_the_limit_of_its_cgroup_has_killed_is_reported_by_name() {
        private_mounts();
        let own = Cgroup::new("oom");
        let output = in_want_of_memory(&own, "/a", "exec busybox tail -n 1 /dev/zero").exits(137);
        assert_eq!(output.err(), "td-unshare: sh was killed by the memory limit of 16M\n");
        // What the cgroup before it had counted went with it.
        let output = in_want_of_memory(&own, "/a", "kill -KILL $$").exits(137);
        assert_eq!(output.err(), "");
    }

    #[test]
    fn a_process_that_another_limit_has_killed_is_reported_without_one() {
        private_mounts();
        let own = Cgroup::new("oom-above");
        let output = in_want_of_memory(&own, "", "exec busybox tail -n 1 /dev/zero").exits(137);
        let says = "sh was killed because the memory of the machine or of another cgroup ran out\n";
        assert_eq!(output.err(), format!("td-unshare: {says}"));
    }

    mod v1 {
        use super::*;

        #[test]
        fn the_owner_of_a_cgroup_that_is_not_delegated_is_named() {
            private_mounts();
            let own = Cgroup::new("owner");
            own.make("", &["--pids", "10"]);
            let tasks = own.directory("cgroup", "pids").join("tasks");
            let says = format!(
                "{} belongs to uid 0 (mode 0644); this process has uid 12345",
                tasks.display()
            );
            refused_to_a_user(&own, &["/tasks\"", "EACCES (", &says]);
        }

        #[test]
        fn a_cgroup_with_too_many_processes_is_named() {
            private_mounts();
            let own = Cgroup::new("pids");
            own.make("", &["--pids", "1"]);
            let pids = own.directory("cgroup", "pids");
            refused(
                &format!("echo $$ >{}/tasks; exec $td -p echo ran", pids.display()),
                &[
                    "EAGAIN (",
                    &format!("{}/pids.max allows 1 processes, and 1 exist", pids.display()),
                ],
            );
        }

        #[test]
        fn a_cgroup_without_processors_is_named() {
            private_mounts();
            let own = Cgroup::new("empty");
            let cpuset = own.directory("cgroup", "cpuset");
            fs::create_dir(&cpuset).unwrap();
            refused(
                &format!("$td --into-cgroup {} echo ran", own.0),
                &["ENOSPC (", &format!("no process can start in the cgroup {}", own.0)],
            );
        }
    }
}
