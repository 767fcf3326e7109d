//! td-unshare: what the kernel says of the processes that it makes.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
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
        ("--propagation up true", "--propagation up: private, slave, shared, unchanged"),
        ("--monotonic soon true", "soon: this is no number of seconds"),
        ("--boottime 1.5 true", "1.5: this is no number of seconds"),
        ("--remove-cgroup true", "--remove-cgroup needs --into-cgroup"),
    ] {
        run(&mut unshare(line)).exits(125).says(says);
    }
}

mod root {
    use super::*;

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
        for options in ["-p", "-p -r", "--rmdir /nowhere", "-r --rmdir /nowhere"] {
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
            34,
            64,
        ];
        for options in ["-p", "-r -p", "--rmdir /nowhere"] {
            for signal in signals {
                let script = format!("trap 'exit 9' {signal}; echo ready; while :; do :; done");
                let running = start(unshare_sh(options, &script).arg("sh"));
                running.prints("ready\n");
                running.kill(signal);
                assert!(ended_within(running.pid(), Duration::from_secs(5)), "{options}: {signal}");
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
        assert!(!output.stderr.is_empty(), "it should say that this is no directory");
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
}
