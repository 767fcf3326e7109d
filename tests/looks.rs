//! A look that fails: it is no answer. What must be known is a failure then, and what only explains is left out.

mod common;

use std::process::Command;

use common::*;

mod root {
    use super::common::cgroups::{Cgroup, cgroup, v1};
    use super::common::strace::strace;
    use super::*;

    /// Its output, where each call `call` that has to do with `path` fails.
    #[track_caller]
    fn blind(path: &str, call: &str, cmd: &Command) -> Output {
        let (output, processes) = strace(&["-P", path, &format!("--inject={call}:error=EIO")], cmd);
        let failed = processes.iter().flat_map(|p| &p.calls).any(|call| call.result == "-1 EIO");
        assert!(failed, "nobody has looked at {path}: {output}");
        output
    }

    /// What `path` would have said is not said, and nothing in its place.
    #[track_caller]
    fn says_no_cause(path: &str, call: &str, cmd: &Command, code: i32, cause: &str) {
        let output = blind(path, call, cmd).exits(code);
        assert!(!output.err().contains(cause), "{path}: {output}");
    }

    #[test]
    fn a_cause_that_could_not_be_looked_for_is_not_stated() {
        private_mounts();
        let proc = "through /proc, which must be mounted";
        says_no_cause("/proc/self/cgroup", "openat", &cgroup(["/td-x", "true"]), 125, proc);
        let cmd = td("td-enter", ["--net=/etc/passwd", "true"]);
        says_no_cause("/etc/passwd", "ioctl", &cmd, 125, "is not a namespace");
        let dir = TempDir::new();
        let garbage = dir.program("garbage", "nothing that a kernel executes\n");
        let cmd = td("td-exec", [text(&garbage)]);
        says_no_cause(text(&garbage), "openat", &cmd, 126, "no #! line");
        // As one meets it: who may execute it may not read it.
        chmod(dir.path(), 0o755);
        chmod(&garbage, 0o711);
        let output = run(&mut td("td-exec", ["--user", "7", text(&garbage)])).exits(126);
        assert!(!output.err().contains("no #! line"), "{output}");
    }

    #[test]
    fn a_proc_that_cannot_be_looked_for_is_not_missing() {
        private_mounts();
        let dir = image_on_tmpfs("image");
        let image = dir.join("image");
        mount(["-t", "tmpfs", "covers", "/proc/fs"]);
        let words =
            ["--map-root-user", "--mount", "--pid", "td-mount", "--proc", text(&image), "true"];
        let cause = "and none is mounted";
        says_no_cause("/proc/self/mountinfo", "openat", &td("td-unshare", words), 125, cause);
    }

    /// Whoever enters a frozen cgroup stops for ever.
    mod v1 {
        use super::*;

        #[test]
        fn a_cgroup_that_may_be_frozen_is_not_entered() {
            let own = Cgroup::new("look");
            run(&mut cgroup([&own.0])).ok();
            let file = v1("freezer").join(&own.0[1..]).join("freezer.state");
            let output =
                blind(text(&file), "openat", &cgroup([&own.0, "echo", "entered"])).exits(125);
            output.says("freezer.state").says("EIO");
        }

        #[test]
        fn what_a_cgroup_uses_is_not_left_out_because_it_cannot_be_read() {
            let own = Cgroup::new("look-stat");
            run(&mut cgroup(["--pids", "7", &own.0])).ok();
            let file = v1("pids").join(&own.0[1..]).join("pids.max");
            assert!(run(&mut cgroup(["--stat", &own.0])).ok().out().contains("pids.max 7\n"));
            blind(text(&file), "openat", &cgroup(["--stat", &own.0])).exits(125).says("pids.max");
        }
    }

    /// A killed run may have left a process 1 that is still dying: the next one must not begin beside it.
    #[test]
    fn a_container_of_before_that_cannot_be_looked_at_has_not_ended() {
        private_mounts();
        let dir = TempDir::new();
        let file = dir.join("pid");
        let old = start(&mut td(
            "td-unshare",
            ["--pid", "--pid-file", text(&file), "sh", "-c", "echo on; exec sleep 60"],
        ));
        old.prints("on\n");
        let pid = std::fs::read_to_string(&file).expect("a pid file");
        let copy = dir.file("copy", &pid);
        let status = format!("/proc/{}/status", pid.lines().next().expect("a pid"));
        let cmd =
            td("td-unshare", ["--pid", "--fresh", "--pid-file", text(&copy), "echo", "began"]);
        let output = blind(&status, "openat", &cmd).exits(125).says(&status);
        assert!(!output.out().contains("began"), "{output}");
        old.kill(libc::SIGTERM);
    }
}
