//! The descriptors that outlive a step, as the table of src/descriptors.rs has them, and what `--ready` tells of PROG.

mod common;

use std::fs::{self, File};
use std::process::{Command, Stdio};

use common::*;

/// The descriptors that the caller gives.
const TRACE: i32 = 50;
const READY: i32 = 51;
const OTHER: i32 = 52;
const POLICY: i32 = 53;
const KEPT: i32 = 54;
const RECORD: i32 = 55;

/// A tool, and which descriptors PROG, which is not a tool of ours, has behind it.
struct Row {
    /// `{T}` is the test's directory; `{}` is where the options `--trace` and `--ready` stand.
    line: &'static str,
    has: &'static [i32],
    /// How many it has besides, which the caller did not give.
    own: usize,
}

const fn row(line: &'static str, has: &'static [i32], own: usize) -> Row {
    Row { line, has, own }
}

/// What is given and not closed.
const ALL: &[i32] = &[TRACE, OTHER, POLICY, KEPT, RECORD];

const ROWS: &[Row] = &[
    row("td-unshare {}", ALL, 0),
    row("td-unshare {} -p", ALL, 0),
    row("td-unshare {} --rmdir {T}/none -c", ALL, 0),
    row("td-lock {} {T}/lock", ALL, 1),
    row("td-cgroup {} --fresh --pids 99 /td-test-descriptors-{P}", ALL, 0),
    row("td-unshare {} -m td-overlay --lower /etc {T}/mnt", ALL, 0),
    row("td-unshare {} -m td-mount --tmpfs /tmp {T}/mnt", ALL, 0),
    row("td-unshare {} -m td-pivot {T}/image", &[], 0),
    row("td-unshare {} -m td-pivot --keep-fd 54 {T}/image", &[KEPT], 0),
    row("td-unshare {} -m -p td-pivot --keep-fd 54 {T}/image td-exec", &[], 0),
    row(
        "td-unshare {} -m -p td-pivot --keep-fd 54 {T}/image td-exec --keep-fd 54 td-init",
        &[KEPT],
        0,
    ),
    row("td-exec {}", &[], 0),
    row("td-exec {} td-init", &[], 0),
    row("td-exec {} --keep-fd 54", &[KEPT], 0),
    row("td-exec {} --no-new-privs --seccomp-fd 53 --record-fd 55 td-init", &[], 0),
    row(
        "td-exec {} --seccomp-fd 53 --record-fd 55 --keep-fd 53 --keep-fd 55",
        &[POLICY, RECORD],
        0,
    ),
    row("td-lock {} {T}/lock td-exec", &[], 1),
    row("td-tty {}", ALL, 0),
    row("td-enter {}", &[], 0),
    row("td-enter {} --pid=/proc/self/ns/pid", &[], 0),
    row("td-enter {} --pid=/proc/self/ns/pid td-exec td-init", &[], 0),
    row("td-unshare {} -p td-unshare -p td-init td-enter", &[], 0),
];

/// A directory of a test's own, with what the lines name.
fn place() -> TempDir {
    let dir = TempDir::new();
    dir.dir("mnt");
    let root = dir.dir("image");
    image(&root);
    mount(["--rbind", "/proc", root.join("proc").to_str().expect("a plain path")]);
    dir.file("policy", "default\n");
    dir
}

/// A command: a line with options of its first tool, and PROG.
fn command(line: &str, options: &str, prog: &[&str], dir: &TempDir) -> Command {
    let line = line.replace("{T}", dir.path().to_str().expect("a plain path"));
    let line = line.replace("{P}", &std::process::id().to_string()).replace("{}", options);
    let mut words = line.split_whitespace();
    let mut cmd = td(words.next().expect("a tool"), words);
    cmd.args(prog);
    cmd
}

/// A cgroup that a line has made.
struct Cgroup(String);

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = td("td-cgroup", ["--remove", &self.0]).stderr(Stdio::null()).status();
    }
}

fn cgroup() -> Cgroup {
    Cgroup(format!("/td-test-descriptors-{}", std::process::id()))
}

/// As [`told_on`], on READY.
fn told(cmd: Command) -> (String, Running, File) {
    told_on(READY, cmd)
}

const OPTIONS: &str = "--ready 51";

mod root {
    use super::*;

    #[test]
    fn behind_each_tool_prog_has_the_descriptors_of_the_table_and_no_other() {
        private_mounts();
        let _removed = cgroup();
        for Row { line, has, own } in ROWS {
            let dir = place();
            let (trace, policy, record) =
                (dir.file("trace", ""), dir.join("policy"), dir.file("r", ""));
            let options = "--trace=50 --ready 51";
            let mut cmd = command(line, options, &["ls", "-l", "/proc/self/fd"], &dir);
            let append = |path| File::options().append(true).open(path).expect("a file");
            give_fd(&mut cmd, TRACE, append(&trace));
            give_fd(&mut cmd, RECORD, append(&record));
            give_fd(&mut cmd, POLICY, File::open(policy).expect("the policy"));
            for fd in [OTHER, KEPT] {
                give_fd(&mut cmd, fd, File::open("/dev/null").expect("a file"));
            }
            let (text, running, _held) = told(cmd);
            let output = running.wait().exits(0);
            assert_eq!(text, "R", "{line}: {output:#}");
            let out = output.out();
            let open = out.lines().filter_map(|line| {
                let (fd, to) = line.split_once(" -> ")?;
                let fd: i32 = fd.rsplit(' ').next()?.parse().ok()?;
                assert!(!to.contains("pidfd") && !to.contains("socket:"), "{line}");
                (fd > 2 && !to.ends_with("/fd")).then_some(fd)
            });
            let (given, others): (Vec<i32>, Vec<i32>) = open.partition(|fd| *fd >= TRACE);
            assert_eq!(given, *has, "{line}: {out}");
            assert_eq!(others.len(), *own, "{line}: {out}");
            // Each tool of the chain went on with the trace.
            let trace = fs::read_to_string(trace).expect("the trace");
            assert_eq!(trace.matches("write(51, \"R\", 1) = 1\n").count(), 1, "{trace}");
            // All in one program, a tool that follows in the same process gives that its name.
            let executed = trace.matches("execve").count() + trace.matches("PR_SET_NAME").count();
            assert!(
                executed >= line.matches("td-").count() - line.matches("-test-").count() - 1,
                "{trace}"
            );
        }
    }

    #[test]
    fn an_end_of_file_behind_r_says_that_prog_runs() {
        private_mounts();
        let _removed = cgroup();
        for Row { line, .. } in ROWS.iter().filter(|row| !row.line.contains("-fd 5")) {
            let dir = place();
            let prog = ["sh", "-c", "read x; exit 7"];
            let (text, running, held) = told(command(line, OPTIONS, &prog, &dir));
            assert_eq!(text, "R", "{line}");
            assert!(
                !ended_within(running.pid(), std::time::Duration::ZERO),
                "{line}: it has ended"
            );
            drop(held);
            running.wait().exits(7);
        }
    }

    #[test]
    fn f_says_that_prog_could_not_be_executed() {
        private_mounts();
        let _removed = cgroup();
        for Row { line, .. } in ROWS.iter().filter(|row| !row.line.contains("-fd 5")) {
            let dir = place();
            for (prog, status) in [("/nowhere/prog", 127), ("no-such-program", 127), ("/proc", 126)]
            {
                let (text, running, _held) = told(command(line, OPTIONS, &[prog], &dir));
                let output = running.wait().exits(status);
                assert_eq!(text, "RF", "{line} {prog}: {output:#}");
            }
        }
    }

    #[test]
    fn nothing_says_that_prog_never_ran() {
        private_mounts();
        let _removed = cgroup();
        let dir = place();
        let outside =
            ["td-unshare {}", "td-unshare {} -p", "td-exec {} td-init", "td-lock {} {T}/lock"];
        let lines = ROWS.iter().map(|row| row.line).filter(|line| outside.contains(line));
        for line in lines {
            for (prog, status) in [
                (&["td-exec", "--chdir", "/nowhere", "true"][..], 125),
                (&["td-mount", "--nonsense"], 125),
                (&["td-exec", "--version"], 0),
            ] {
                let (text, running, _held) = told(command(line, OPTIONS, prog, &dir));
                let output = running.wait().exits(status);
                assert_eq!(text, "", "{line} {prog:?}: {output:#}");
            }
        }
        let missing = "td-unshare {} -m td-pivot {T}/nowhere";
        let (text, running, _held) = told(command(missing, OPTIONS, &["true"], &dir));
        running.wait().exits(125);
        assert_eq!(text, "");
    }

    #[test]
    fn a_reader_who_is_gone_does_not_end_prog_and_a_descriptor_that_cannot_be_written_to_does() {
        private_mounts();
        let _removed = cgroup();
        // td-tty shows all this on its terminal.
        let is_here = |row: &&Row| !row.line.contains("-fd 5") && !row.line.starts_with("td-tty");
        for Row { line, .. } in ROWS.iter().filter(is_here) {
            let dir = place();
            let prog = ["sh", "-c", "echo PROG ran; exit 7"];
            let mut cmd = command(line, OPTIONS, &prog, &dir);
            give_fd(&mut cmd, READY, broken_pipe());
            assert_eq!(run(&mut cmd).exits(7).out(), "PROG ran\n");
            for (file, errno) in [("/dev/full", "ENOSPC"), ("/dev/zero", "EBADF")] {
                let mut cmd = command(line, OPTIONS, &prog, &dir);
                let file = File::options().read(true).write(errno == "ENOSPC").open(file);
                give_fd(&mut cmd, READY, file.expect("a device"));
                let output = run(&mut cmd).exits(125).says("\"R\"").says(errno);
                assert_eq!(output.out(), "", "{line}");
            }
        }
    }

    #[test]
    fn a_descriptor_of_ready_is_no_other() {
        private_mounts();
        for option in ["--keep-fd=51", "--seccomp-fd=51", "--trace=51", "--ready=51"] {
            for options in [["--ready=51", option], [option, "--ready=51"]] {
                let mut cmd = td("td-exec", options.iter().chain(&["true"]));
                give_fd(&mut cmd, READY, broken_pipe());
                run(&mut cmd).exits(125).says("descriptor 51 belongs to --ready");
            }
        }
        // It must not be the descriptor of a trace that an earlier tool passes on.
        let dir = place();
        let line = "td-lock --trace=51 {T}/lock td-mount --ready 51 --dir /none";
        let mut cmd = command(line, "", &[text(dir.path()), "true"], &dir);
        give_fd(&mut cmd, READY, File::create(dir.join("trace")).expect("a file"));
        run(&mut cmd).exits(125).says("descriptor 51 belongs to --ready");
        for fd in 0..3 {
            let option = format!("--ready={fd}");
            let says = format!("--ready {fd}: must be above 2");
            run(&mut td("td-exec", [&option, "true"])).exits(125).says(&says);
        }
    }

    #[test]
    fn a_dry_run_says_nothing_and_shows_what_would_be_said() {
        private_mounts();
        let _removed = cgroup();
        for Row { line, .. } in ROWS.iter().filter(|row| !row.line.contains("-fd 5")) {
            let dir = place();
            let options = "--dry-run --ready 51";
            let (text, running, _held) =
                told(command(line, options, &["sh", "-c", "echo PROG\\ ran"], &dir));
            let output = running.wait();
            assert_eq!(text, "", "{line}: {output:#}");
            // What a dry run does not make it may miss: its status is of no matter here.
            let shown = output.out();
            let cloexec = shown.find("fcntl(51, F_SETFD, FD_CLOEXEC)").expect("it is not PROG's");
            assert!(shown.find("write(51, \"R\", 1)").expect("it is said") > cloexec, "{line}");
            assert!(!shown.contains("PROG ran\n"), "{line}");
            let closed = "descriptor 60 is not open";
            run(&mut command(line, "--dry-run --ready 60", &["true"], &dir))
                .exits(125)
                .says(closed);
        }
    }

    #[test]
    fn however_many_wait_each_learns_whether_prog_ran_and_prog_has_no_descriptor_of_theirs() {
        private_mounts();
        let dir = place();
        let line = "td-unshare {} --rmdir {T}/none ".to_owned()
            + &"td-unshare --rmdir {T}/none ".repeat(11);
        let ls = ["ls", "-l", "/proc/self/fd"];
        let (text, running, _held) = told(command(&line, OPTIONS, &ls, &dir));
        let output = running.wait().exits(0);
        assert_eq!(text, "R");
        assert_eq!(output.out().matches(" -> ").count(), 4, "{output}");
        let (held, reads, keep) = told(command("td-lock {} {T}/lock", OPTIONS, &["cat"], &dir));
        assert_eq!(held, "R");
        let lock = dir.join("lock");
        let prog = ["td-lock", lock.to_str().expect("a plain path"), "true"];
        let running = start(&mut command(&line, "", &prog, &dir));
        kill(descendant(&running, "td-lock"), libc::SIGKILL);
        let output = running.wait().exits(125);
        assert_eq!(output.err().matches("SIGKILL ended the process").count(), 1, "{output:#}");
        drop(keep);
        reads.wait().exits(0);
        // The caller may have as many readers.
        let options = (60..72).map(|fd| format!("--ready {fd}")).collect::<Vec<_>>().join(" ");
        let files: Vec<_> = (60..72).map(|fd| (fd, dir.file(&format!("ready{fd}"), ""))).collect();
        let mut cmd = command("td-unshare {} -p td-exec", &options, &ls, &dir);
        for (fd, file) in &files {
            give_fd(&mut cmd, *fd, File::options().append(true).open(file).expect("a file"));
        }
        assert_eq!(run(&mut cmd).exits(0).out().matches(" -> ").count(), 4);
        for (fd, file) in &files {
            assert_eq!(fs::read_to_string(file).expect("a file"), "R", "{fd}");
        }
    }

    #[test]
    fn a_process_that_waits_has_the_descriptors_of_the_table_and_no_other() {
        private_mounts();
        let given = [TRACE, OTHER, POLICY, KEPT, RECORD];
        for (line, has) in [
            ("td-unshare {} -p", &given[..]),
            ("td-unshare {} --rmdir {T}/none", &given),
            ("td-lock {} {T}/lock td-unshare -p", &[10, TRACE, OTHER, POLICY, KEPT, RECORD]),
            ("td-exec {} --keep-fd 54 td-init", &[TRACE]),
            ("td-lock {} {T}/lock td-exec --keep-fd 54 td-init", &[10, TRACE]),
            ("td-enter {} --pid=/proc/self/ns/pid", &[TRACE]),
        ] {
            let dir = place();
            let mut cmd = command(line, "--trace=50 --ready 51", &["cat"], &dir);
            for fd in given {
                let file = File::options().append(true).open("/dev/null");
                give_fd(&mut cmd, fd, file.expect("a file"));
            }
            let (text, running, held) = told(cmd);
            assert_eq!(text, "R");
            // One that still closes has more.
            let has: Vec<i32> = has.to_vec();
            let fds = || {
                let directory = format!("/proc/{}/fd", running.pid());
                let entries = fs::read_dir(directory).expect("its descriptors");
                let mut fds = Vec::new();
                for entry in entries.map(|entry| entry.expect("a descriptor")) {
                    let fd: i32 = entry.file_name().to_str().expect("text").parse().expect("fd");
                    // Its own end of the line to its child.
                    let to = fs::read_link(entry.path()).unwrap_or_default();
                    fds.extend(
                        Some(fd).filter(|_| fd > 2 && !to.to_string_lossy().starts_with("socket:")),
                    );
                }
                fds.sort();
                fds
            };
            let seen = within(std::time::Duration::from_secs(10), || {
                Some(fds()).filter(|fds| *fds == has)
            });
            assert!(seen.is_some(), "{line}: it has {:?}", fds());
            drop(held);
            running.wait().exits(0);
        }
    }

    /// The descendant of a program, without children, whose first argument is `name`.
    #[track_caller]
    fn descendant(running: &Running, name: &str) -> i32 {
        wait_for(name, || {
            let ended = ended_within(running.pid(), std::time::Duration::ZERO);
            assert!(!ended, "it has ended before {name} began: {}", running.err());
            let mut pids = vec![running.pid()];
            while let Some(pid) = pids.pop() {
                let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}"));
                let (comm, line) = (read("comm").unwrap_or_default(), read("cmdline"));
                // In one program the first word is that of its first tool; a sealed copy is called memfd:NAME.
                let is_named = comm.trim_end() == name
                    || line.is_ok_and(|line| line.split('\0').next() == Some(name));
                // The last of the chain that waits for the lock.
                let file = format!("/proc/{pid}/task/{pid}/children");
                let children = fs::read_to_string(file).unwrap_or_default();
                let children = children.split_whitespace().map(|pid| pid.parse().expect("a pid"));
                let children: Vec<i32> = children.collect();
                if is_named && children.is_empty() {
                    return Some(pid);
                }
                pids.extend(children);
            }
            None
        })
    }

    #[test]
    fn a_signal_before_prog_is_a_failure_of_ours_and_one_behind_it_is_not() {
        private_mounts();
        for line in [
            "td-unshare {} -p",
            "td-unshare {} --rmdir {T}/none",
            "td-unshare {} --pid-file {T}/pid -m",
            "td-exec {} td-init",
            "td-unshare {} -p td-exec td-init",
            "td-enter {} --pid=/proc/self/ns/pid",
        ] {
            let dir = place();
            let lock = dir.join("lock");
            let lock = lock.to_str().expect("a plain path");
            let (held, _reads, keep) = told(command("td-lock {}", OPTIONS, &[lock, "cat"], &dir));
            assert_eq!(held, "R");
            // It waits for the lock, and so never becomes PROG.
            let prog = ["td-lock", lock, "sh", "-c", "echo PROG ran"];
            // Process 1 has every signal blocked until then: to that, and below it, only SIGKILL comes.
            let others = [libc::SIGXCPU, libc::SIGXFSZ, libc::SIGSEGV];
            let asked = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];
            let all = [&[libc::SIGKILL], &others[..], &asked].concat();
            let is_first = line.contains(" -p") || line.contains("td-init");
            for signal in all.iter().take(if is_first { 1 } else { all.len() }) {
                let running = start(&mut command(line, "", &prog, &dir));
                kill(descendant(&running, "td-lock"), *signal);
                let is_asked = asked.contains(signal);
                let output = running.wait().exits(if is_asked { 128 + signal } else { 125 });
                let says = "ended the process before it became PROG";
                assert_eq!(output.err().contains(says), !is_asked, "{line} {signal}: {output:#}");
                assert_eq!(output.out(), "", "{line}");
            }
            drop(keep);
            let running = start(&mut command(line, "", &["sleep", "1000"], &dir));
            kill(descendant(&running, "sleep"), libc::SIGKILL);
            let output = running.wait().exits(128 + libc::SIGKILL);
            assert!(!output.err().contains("before it became"), "{output:#}");
        }
    }

    #[test]
    fn a_tool_that_is_missing_or_cannot_be_executed_is_a_failure_of_ours() {
        private_mounts();
        let dir = place();
        for name in ["td-unshare", "td-pivot", "td-enter"] {
            fs::copy(bin(name), dir.join(name)).expect("a copy");
        }
        let unshare = dir.join("td-unshare");
        let image = dir.join("image");
        for kind in ["missing", "no program", "not executable"] {
            match kind {
                "missing" => {}
                "no program" => drop(dir.program("td-exec", "")),
                _ => chmod(dir.join("td-exec"), 0o644),
            }
            let mut direct = Command::new(&unshare);
            direct.args(["-p", "td-exec", "true"]);
            let mut pivot = Command::new(&unshare);
            pivot.args(["-m", "td-pivot"]).arg(&image).args(["td-exec", "true"]);
            let mut enter = Command::new(dir.join("td-enter"));
            enter.args(["td-exec", "true"]);
            for cmd in [&mut direct, &mut pivot, &mut enter] {
                run(cmd).exits(125).says("td-exec");
            }
        }
    }
}

#[test]
fn prog_is_found_where_a_policy_refuses_to_say_whether_a_file_is_there() {
    const NONE: &[libc::c_long] = &[libc::SYS_faccessat2];
    const BOTH: &[libc::c_long] = &[libc::SYS_faccessat2, libc::SYS_statx];
    let path = std::env::var("PATH").expect("a PATH");
    for (calls, errno) in
        [NONE, BOTH].into_iter().flat_map(|calls| [(calls, libc::ENOSYS), (calls, libc::EPERM)])
    {
        let dir = TempDir::new();
        dir.file("sh", "not executable");
        let path = format!("/nowhere:/etc/passwd:{}:{path}", dir.path().display());
        let mut cmd = td("td-unshare", ["sh", "-c", "exit 7"]);
        refuse_calls(cmd.env("PATH", &path), calls, errno);
        run(&mut cmd).exits(7);
        // A tool that is called by a link finds the others beside what it leads to.
        let link = dir.join("td-unshare");
        std::os::unix::fs::symlink(bin("td-unshare"), &link).expect("a link");
        let mut cmd = Command::new(&link);
        refuse_calls(cmd.args(["td-unshare", "sh", "-c", "exit 7"]), NONE, errno);
        run(&mut cmd).exits(7);
        let mut cmd = td("td-unshare", ["no-such-program"]);
        refuse_calls(cmd.env("PATH", &path), calls, errno);
        run(&mut cmd).exits(127).says("no-such-program: not found in PATH");
        let mut cmd = td("td-unshare", ["/etc/passwd"]);
        refuse_calls(&mut cmd, calls, errno);
        let output = run(&mut cmd).exits(126);
        assert!(!output.err().contains("does not exist"), "{output:#}");
    }
}
