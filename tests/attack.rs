//! Attacks: what hostile code inside a container tries, and what bad luck does to a clean-up.

mod common;

mod root {
    use std::fs;

    use crate::common::*;

    const TD_RUN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/td-run");

    /// Run a script in a container as td-run makes it by default.
    #[track_caller]
    fn inside(name: &str, script: &str) -> String {
        private_mounts();
        let dir = TempDir::new();
        image(&dir.dir("images/default"));
        let mut cmd = std::process::Command::new(TD_RUN);
        cmd.arg("--state").arg(dir.path()).args([name, "sh", "-c", script]);
        run(cmd.env("SECRET", "of the host")).ok().out()
    }

    /// Its memory has copies of the host's environment.
    #[test]
    fn root_in_a_container_can_neither_read_nor_trace_pid_1() {
        let script = "for f in mem maps environ exe root cwd fd/0; do \
            { head -c 1 /proc/1/$f || readlink /proc/1/$f; } 2>/dev/null && echo $f; \
            { echo >>/proc/1/$f; } 2>/dev/null && echo write $f; done; \
            readlink /proc/$$/exe; cat /proc/1/comm";
        assert_eq!(inside("attack-pid-1", script), "/bin/busybox\ntd-init\n");
    }

    /// What removes it is in no cgroup of the container.
    #[test]
    fn a_directory_of_many_files_is_removed_with_little_memory() {
        private_mounts();
        let dir = TempDir::new();
        let tree = dir.dir("tree");
        for n in 0..20000 {
            fs::File::create(tree.join(format!("{n:0>250}"))).expect("a file");
        }
        let mut cmd = sh("ulimit -v 4000; exec \"$0\" --remove \"$1\" \"$2\" true");
        run(cmd.arg(bin("td-unshare")).arg(&tree).arg(busybox())).ok();
        assert!(!tree.exists());
    }

    /// Else root on the host removes a tree in which hostile code is still at work.
    #[test]
    fn nothing_is_cleaned_up_before_the_child_is_dead() {
        private_mounts();
        let dir = TempDir::new();
        let (tree, log) = (dir.dir("tree"), dir.join("log"));
        let mut cmd = std::process::Command::new("strace");
        cmd.args(["-f", "-e", "inject=rt_sigtimedwait:error=EIO", "-o"]).arg(&log);
        cmd.arg(bin("td-unshare")).args(["--pid", "--remove"]).arg(&tree).args(["sleep", "1000"]);
        run(&mut cmd).exits(125).says("rt_sigtimedwait");
        assert!(!tree.exists());
        let log = fs::read_to_string(log).expect("the log");
        let line = |text: &str| log.lines().position(|line| line.contains(text)).expect(text);
        assert!(line("killed by SIGKILL") < line("unlinkat("), "{log}");
    }
}
