//! Memory is never given back, and what a container chooses shall take none: the waiting parent and process 1 are as
//! small after much as after little.

mod common;

use std::fs;
use std::process::Stdio;

use common::*;

mod root {
    use super::*;

    /// A directory with so many directories that are not empty: half of them in one, which also have names that the
    /// removal itself uses.
    fn fill(dir: &TempDir, many: usize) {
        let make = |path: String| {
            fs::create_dir_all(dir.join(&path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        };
        for n in 0..many / 2 {
            make(format!("run/wide/{n}/x"));
            make(format!("run/.td-{n}/x"));
        }
    }

    /// Remove it with no more memory than that.
    fn remove(dir: &TempDir, most: u64) -> Output {
        let run_dir = dir.join("run");
        let mut cmd = td("td-unshare", ["--pid", "--remove", text(&run_dir)]);
        cmd.arg(bin("td-exec")).arg("--version").env_clear();
        before_exec(&mut cmd, move || {
            let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
            // SAFETY: a number, and a structure that outlives the call.
            check(unsafe { libc::setrlimit(libc::RLIMIT_DATA, &limit) }).map(drop)
        });
        run(&mut cmd)
    }

    #[test]
    fn the_memory_to_remove_directories_does_not_grow_with_their_number() {
        private_mounts();
        let dir = TempDir::new();
        mount(["-t", "tmpfs", "tmpfs", text(dir.path())]);
        let enough = (1..64).map(|n| n << 15).find(|most| {
            fill(&dir, 8);
            let output = remove(&dir, *most);
            output.code == Some(0) && output.stderr.is_empty()
        });
        let enough = enough.expect("2 MiB suffice for a few");
        assert!(!dir.join("run").exists());
        fill(&dir, 20_000);
        remove(&dir, enough).ok();
        assert!(!dir.join("run").exists());
    }

    /// A container makes orphans, which process 1 reaps.
    #[test]
    fn the_memory_of_process_1_does_not_grow_with_orphans_traced_or_not() {
        private_mounts();
        for options in [&["--trace=100"][..], &[]] {
            let orphans = "orphans() { i=0; while [ $i -lt $1 ]; do (true &); i=$((i+1)); done; }";
            let script =
                format!("{orphans}; orphans 20; echo few; read x; orphans 600; echo many; read x");
            let mut cmd = td("td-unshare", options);
            cmd.args(["--pid", "td-init"]).arg(busybox()).args(["sh", "-c", &script]);
            give_fd(&mut cmd, 100, fs::File::create("/dev/null").expect("/dev/null"));
            let (reader, pipe) = house::pipe();
            cmd.stdin(reader).stdout(Stdio::piped()).stderr(Stdio::piped());
            let running = start_with(&mut cmd);
            let [first] = wait_for("process 1", || children_of(running.pid()).try_into().ok());
            let size = || status_of(first, "VmData");
            // One that is not reaped yet would be one whose memory is not seen.
            let reaped = || (children_of(first).len() == 1).then_some(());
            running.prints("few");
            wait_for("orphans", reaped);
            let few = size();
            std::io::Write::write_all(&mut &pipe, b"\n").expect("a line");
            running.prints("many");
            wait_for("orphans", reaped);
            assert_eq!(few, size(), "{options:?}");
            drop(pipe);
            running.wait();
        }
    }

    /// What a process has of its own, in KiB: what is in its file is given back where memory is short.
    fn private(pid: i32) -> u64 {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("it lives");
        let line = text.lines().find_map(|line| line.strip_prefix("Pss_Anon:"));
        let number = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse().ok());
        number.unwrap_or_else(|| panic!("{text}"))
    }

    /// The small `td` takes 16 KiB less than the usual programs, whose addresses the kernel relocates.
    #[test]
    fn process_1_and_a_relay_have_hardly_any_memory_of_their_own() {
        let house = super::house::House::new();
        let mut cmd = house.container(&[], &["sh", "-c", super::house::HOLD]);
        let held = super::house::hold(cmd.env_clear().env("PATH", "/usr/bin:/bin"));
        let [_, first, _] = held.processes();
        // A process that has just begun may not have left all behind.
        let few = wait_for("process 1 to sleep", || Some(private(first)).filter(|n| *n <= 88));
        assert!(few > 0);
        held.go_on().exits(0);
        let relay = start(td("td-tty", ["sleep", "1000"]).env_clear().env("PATH", "/usr/bin:/bin"));
        wait_for("PROG", || children_of(relay.pid()).first().map(drop));
        wait_for("the relay to sleep", || Some(private(relay.pid())).filter(|n| *n <= 64));
    }

    /// Whatever is looked at for a signal, and however often.
    #[test]
    fn no_signal_that_job_control_or_a_window_sends_takes_memory() {
        for tool in ["td-init", "td-unshare --pid", "td-tty", "td-init --group"] {
            let mut words = tool.split(' ');
            let mut cmd = td(words.next().unwrap_or_default(), words);
            let script = "trap '' CONT WINCH; echo ready; exec sleep 1000";
            let running = start(cmd.args(["sh", "-c", script]));
            running.prints("ready");
            let send = |times: u32| {
                for _ in 0..times {
                    for signal in [libc::SIGCONT, libc::SIGWINCH] {
                        running.kill(signal);
                        std::thread::sleep(std::time::Duration::from_micros(200));
                    }
                }
            };
            send(10); // what is taken once
            let few = status_of(running.pid(), "VmData");
            send(1000);
            assert_eq!(few, status_of(running.pid(), "VmData"), "{tool}");
        }
    }

    /// The same of signals that are passed on.
    #[test]
    fn the_memory_of_the_waiting_parent_does_not_grow_with_signals() {
        private_mounts();
        let script = "trap '' USR1; echo ready; read x";
        let mut cmd = td("td-unshare", ["--trace=100", "--pid", "td-init"]);
        cmd.arg(busybox()).args(["sh", "-c", script]);
        give_fd(&mut cmd, 100, fs::File::create("/dev/null").expect("/dev/null"));
        let (reader, pipe) = house::pipe();
        cmd.stdin(reader).stdout(Stdio::piped()).stderr(Stdio::piped());
        let running = start_with(&mut cmd);
        running.prints("ready");
        let size = || status_of(running.pid(), "VmData");
        let few = size();
        for _ in 0..2000 {
            running.kill(libc::SIGUSR1);
            std::thread::sleep(std::time::Duration::from_micros(300));
        }
        assert_eq!(few, size());
        drop(pipe);
        running.wait();
    }
}
