//! Why a program is not executed, and why there is no new process: each cause is provoked, and beside it is a
//! situation that looks alike, where it is not named.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use common::strace::strace;
use common::*;

/// The program of this machine that a test makes unfit.
fn sound() -> Vec<u8> {
    fs::read(bin("td-exec")).expect("a program")
}

/// `td-exec ./NAME ARG...` in a directory.
fn exec(dir: &TempDir, name: &str) -> Command {
    let mut cmd = td("td-exec", [name]);
    cmd.current_dir(dir.path());
    cmd
}

/// It is not executed: 126, or another status, and each of these sentences.
#[track_caller]
fn refused(dir: &TempDir, name: &str, status: i32, says: &[&str]) {
    let output = run(&mut exec(dir, name)).exits(status);
    says.iter().fold(output, |output, text| output.says(text));
}

/// It is executed.
#[track_caller]
fn runs(dir: &TempDir, name: &str) {
    run(exec(dir, name).arg("--version")).exits(0);
}

/// None of these sentences is said.
#[track_caller]
fn says_none(output: &Output, texts: &[&str]) {
    for text in texts {
        assert!(!output.err().contains(text), "{text:?} should not be said: {output}");
    }
}

// ---- the chain of interpreters ----

#[test]
fn each_interpreter_of_an_interpreter_is_looked_at() {
    let dir = TempDir::new();
    for level in 1..=5 {
        dir.program(&format!("s{level}"), format!("#!./s{}\n", level + 1));
    }
    dir.program("s6", "#!./sh\n");
    symlink("/bin/sh", dir.join("sh")).expect("a link");
    // Five are followed, and the sixth file is a program.
    run(&mut exec(&dir, "./s2")).ok();
    let deep = "the #! lines lead through more than 5 interpreters, the maximum";
    refused(&dir, "./s1", 126, &["ELOOP (", "./s5: its interpreter is ./s6\n", deep]);
    dir.program("a", "#!./b\n");
    dir.program("b", "#!./a\n");
    refused(&dir, "./a", 126, &["ELOOP (", "the #! lines lead in a circle"]);
    // A circle of links is another thing.
    symlink("round", dir.join("round")).expect("a link");
    dir.program("to_round", "#!./round\n");
    let output = run(&mut exec(&dir, "./to_round")).exits(126).says("ELOOP (");
    says_none(&output, &["circle", "the maximum"]);
    fs::remove_file(dir.join("sh")).expect("it is there");
    let missing = "./s6 exists, but its interpreter ./sh does not exist in this root\n";
    refused(&dir, "./s2", 126, &["ENOENT (", "./s2: its interpreter is ./s3\n", missing]);
}

#[test]
fn a_loader_that_is_missing_is_named_also_behind_a_script() {
    let dir = TempDir::new();
    dir.program("prog", elf(None, Some("/nowhere/ld.so")));
    let missing = "./prog exists, but its loader /nowhere/ld.so does not exist in this root\n";
    refused(&dir, "./prog", 126, &["ENOENT (", missing]);
    dir.program("script", "#!./prog\n");
    refused(&dir, "./script", 126, &["ENOENT (", "./script: its interpreter is ./prog\n", missing]);
    // Wherever in the file its name is: patchelf(1) writes it to the end.
    let mut far = elf(None, Some("/nowhere/ld.so"));
    far[64 + 8..64 + 16].copy_from_slice(&9000_u64.to_le_bytes());
    far.resize(9000, 0);
    far.extend(b"/nowhere/ld.so\0");
    dir.program("far", far);
    refused(&dir, "./far", 126, &["./far exists, but its loader /nowhere/ld.so does not exist"]);
    // With a loader that is there, nothing is said to be missing.
    let there = dir
        .program("ld.so", "this is not a loader, but it is as long as the head of one: 64 bytes");
    dir.program("prog", elf(None, Some(text(&there))));
    let output = run(&mut exec(&dir, "./prog")).exits(126).says("ELIBBAD (");
    says_none(&output, &["does not exist"]);
    output.says("./prog: its loader is ").says("ld.so is not an ELF program");
}

#[test]
fn a_link_that_leads_nowhere_is_followed_to_its_end() {
    let dir = TempDir::new();
    symlink("second", dir.join("first")).expect("a link");
    symlink("/nowhere/prog", dir.join("second")).expect("a link");
    let link = "./first is a symbolic link to second, that to /nowhere/prog";
    refused(&dir, "./first", 127, &["ENOENT (", link]);
    dir.program("script", "#!./first\n");
    refused(
        &dir,
        "./script",
        126,
        &["its interpreter ./first does not exist in this root\n", link],
    );
    // In PATH, too: a link of a busybox that is not there.
    let path = ["/nowhere", text(dir.path())].join(":");
    let said = format!(
        "{0}/first is a symbolic link to second, that to /nowhere/prog, which",
        text(dir.path())
    );
    let found = |name: &str| run(td("td-exec", [name]).env("PATH", &path));
    found("first").exits(127).says("first: not found in PATH, ").says(&said);
    says_none(&found("third").exits(127), &["symbolic link"]);
    // One that leads to a program is none of that.
    dir.program("real", sound());
    fs::remove_file(dir.join("second")).expect("a link");
    symlink("real", dir.join("second")).expect("a link");
    runs(&dir, "./first");
    assert_eq!(run(td("td-exec", ["first", "--version"]).env("PATH", &path)).code, Some(0));
}

#[test]
fn what_keeps_an_interpreter_from_being_executed_is_said_of_the_interpreter() {
    let dir = TempDir::new();
    dir.dir("directory");
    dir.file("plain", "#!/bin/sh\n");
    for (name, says) in [("directory", "is a directory"), ("plain", "has no execute permission")] {
        dir.program("script", format!("#!./{name}\n"));
        let hop = format!("./script: its interpreter is ./{name}\n");
        refused(&dir, "./script", 126, &["EACCES (", &hop, &format!("./{name} {says}\n")]);
        dir.program("prog", elf(None, Some(&format!("./{name}"))));
        let hop = format!("./prog: its loader is ./{name}\n");
        refused(&dir, "./prog", 126, &["EACCES (", &hop, &format!("./{name} {says}\n")]);
    }
    // The same file, as one that may be executed.
    chmod(dir.join("plain"), 0o755);
    dir.program("script", "#!./plain\n");
    let output = run(exec(&dir, "./script").arg("-c"));
    says_none(&output, &["permission"]);
}

#[test]
fn a_carriage_return_in_the_first_line_is_named_and_the_way_out_works() {
    let dir = TempDir::new();
    dir.program("crlf", "#!/bin/sh\r\nexit 7\r\n");
    let output = run(&mut exec(&dir, "./crlf")).exits(126).says("ENOENT (");
    let output = output.says("the #! line of ./crlf ends with a carriage return");
    let way_out = "remove the carriage returns: ";
    let line = output.err().lines().find_map(|line| Some(line.split_once(way_out)?.1.to_string()));
    run(sh(&line.expect("a way out")).current_dir(dir.path())).ok();
    run(&mut exec(&dir, "./crlf")).exits(7);
    // Where the name would not lead anywhere without it either, that is no way out.
    dir.program("other", "#!/nowhere/sh\r\n");
    says_none(&run(&mut exec(&dir, "./other")).exits(126), &[way_out]);
    // Behind an argument it is no part of the name.
    dir.program("argument", "#!/bin/sh -e \r\n");
    says_none(&run(&mut exec(&dir, "./argument")), &["carriage"]);
}

// ---- what a file is ----

#[test]
fn a_first_line_that_the_kernel_does_not_use_is_named() {
    let dir = TempDir::new();
    let long = |length: usize| format!("#!/{} -x\n", "a".repeat(length - 1));
    for (text, says) in [
        (long(254), "the #! line of ./file is too long: the kernel reads 256 bytes"),
        ("#!\n/bin/sh\n".into(), "the #! line of ./file names no interpreter"),
        ("#! \t".into(), "the #! line of ./file names no interpreter"),
        (String::new(), "./file is empty"),
        ("\u{feff}#!/bin/sh\n".into(), "./file has a byte order mark before its #! line"),
        ("\n#!/bin/sh\n".into(), "./file has no #! line and is not an ELF program"),
    ] {
        dir.program("file", text);
        refused(&dir, "./file", 126, &[says]);
    }
    // One byte less, and it is the name of an interpreter.
    dir.program("file", long(253));
    let output = run(&mut exec(&dir, "./file")).exits(126);
    says_none(&output, &["too long"]);
}

#[test]
fn a_text_is_run_by_the_way_out_and_what_is_no_text_has_none() {
    let dir = TempDir::new();
    dir.program("text", "exit 7\n");
    let output = run(&mut exec(&dir, "./text")).exits(126).says("ENOEXEC (");
    let output = output.says("./text has no #! line and is not an ELF program");
    let line =
        output.err().lines().find_map(|l| Some(l.split_once("shell script: ")?.1.to_string()));
    run(sh(&line.expect("a way out")).current_dir(dir.path())).exits(7);
    dir.program("data", b"exit\0 7\n");
    let output = run(&mut exec(&dir, "./data")).exits(126).says("./data has no #! line");
    says_none(&output, &["shell script"]);
}

#[test]
fn a_damaged_program_of_this_machine_is_not_called_foreign() {
    let dir = TempDir::new();
    let changed = |at: usize, bytes: &[u8]| {
        let mut file = elf(None, Some("/nowhere/ld.so"));
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let cut = |length: usize| elf(None, Some("/nowhere/ld.so"))[..length].to_vec();
    let cases: [(&[&str], Vec<u8>); 9] = [
        (&["is an object file", "ld(1)"], changed(16, &[1, 0])),
        (&["is a core dump"], changed(16, &[4, 0])),
        (&["its type is not that of a program"], changed(16, &[0, 0])),
        (&["has no program headers"], changed(56, &[0, 0])),
        (&["the size or the number of its program headers"], changed(54, &[32, 0])),
        (&["is truncated", "than the header of an ELF"], cut(40)),
        (&["is truncated", "its program headers"], cut(100)),
        (&["is truncated", "the name of its loader"], cut(124)),
        (&["the name of its loader does not end with a zero byte"], changed(134, b"x")),
    ];
    for (says, file) in cases {
        dir.program("file", file);
        let output = run(&mut exec(&dir, "./file")).exits(126);
        says_none(&output, &["which this machine cannot run", "does not exist"]);
        says.iter().fold(output, |output, text| output.says(text));
    }
    // The same head for another machine is foreign, and nothing is found to be damaged.
    dir.program("file", elf(Some(243), None));
    let output = run(&mut exec(&dir, "./file")).exits(126);
    let output = output.says("./file is a program for EM_RISCV, which this machine cannot run");
    says_none(&output, &["damaged", "truncated", "program headers"]);
    // A program whose headers are whole is executed, whatever is cut off behind them: that is a signal's to tell.
    let whole = sound();
    dir.program("file", &whole[..whole.len() / 2]);
    let output = run(&mut exec(&dir, "./file"));
    says_none(&output, &["truncated"]);
}

// ---- arguments ----

#[test]
fn arguments_that_are_too_long_together_are_counted_and_the_way_out_works() {
    let word = "x".repeat(100_000);
    let cmd = |limit: &str, words: usize| {
        let mut cmd = td("td-exec", ["-i", "--rlimit", limit, "/bin/true"]);
        cmd.args(vec![&word; words]);
        cmd
    };
    let output = run(&mut cmd("stack=512k:8m", 2)).exits(126).says("E2BIG (");
    let output = output.says("the arguments and the environment take 200046 bytes; ");
    let output = output.says("a quarter of RLIMIT_STACK (524288), 131072, is allowed\n");
    let size =
        output.err().lines().find_map(|line| Some(line.split_once("ulimit -s ")?.1.to_string()));
    let size = size.expect("a way out");
    run(&mut cmd(&format!("stack={size}k:8m"), 2)).ok();
    run(&mut cmd("stack=512k:8m", 1)).ok();
    // Where no limit is high enough, that is no way out.
    let output = run(&mut cmd("stack=512k:513k", 2)).exits(126).says("RLIMIT_STACK (524288)");
    says_none(&output, &["ulimit"]);
}

mod root {
    use super::common::cgroups::{Cgroup, cgroup, v1 as v1_of};
    use super::*;

    // ---- execve(2) ----

    #[test]
    fn a_string_that_is_too_long_is_named() {
        private_mounts();
        let dir = TempDir::new();
        for (length, fits) in [(131_066, true), (131_067, false)] {
            let passwd = format!("long:x:7:7::{}:/bin/sh\n", "x".repeat(length));
            mount([
                "--bind".as_ref(),
                dir.file("passwd", passwd).as_os_str(),
                "/etc/passwd".as_ref(),
            ]);
            let mut cmd = td("td-exec", ["-i", "--user", "long", "--home", "/bin/true"]);
            let output = run(&mut cmd);
            if fits {
                output.ok();
            } else {
                let says =
                    "the environment variable HOME has 131072 bytes; one string may have 131071";
                output.exits(126).says("E2BIG (").says(says);
            }
        }
    }

    #[test]
    fn an_interpreter_on_a_noexec_mount_is_named() {
        private_mounts();
        let dir = TempDir::new();
        let below = dir.dir("below");
        mount(["-t", "tmpfs", "-o", "noexec", "tmpfs", text(&below)]);
        dir.program("below/sh", fs::read("/bin/sh").expect("a shell"));
        dir.program("script", "#!./below/sh\n");
        dir.program("dynamic", elf(None, Some("./below/sh")));
        for name in ["./script", "./dynamic"] {
            let says = "./below/sh is on a file system that is mounted noexec\n";
            refused(&dir, name, 126, &["EACCES (", "./below/sh\n", says]);
        }
        mount(["-o", "remount,exec", text(&below)]);
        run(&mut exec(&dir, "./script")).ok();
        let output = run(&mut exec(&dir, "./dynamic"));
        says_none(&output, &["noexec"]);
    }

    #[test]
    fn who_writes_to_a_program_is_named_where_it_can_be_seen() {
        private_mounts();
        let dir = TempDir::new();
        dir.program("prog", sound());
        dir.program("script", "#!./prog\n");
        runs(&dir, "./prog");
        let hold = |how: &str| {
            let mut cmd =
                sh(&format!("exec 9{how}{}; echo ready; exec sleep 1000", text(&dir.join("prog"))));
            cmd.current_dir(dir.path());
            let holder = start(&mut cmd);
            holder.prints("ready");
            wait_for("sleep(1)", || {
                Some(()).filter(|()| status_of(holder.pid(), "Name") == "sleep")
            });
            holder
        };
        let reader = hold("<");
        runs(&dir, "./prog");
        drop(reader);
        let writer = hold(">>");
        let says = format!("./prog is open for writing: process {} (sleep)\n", writer.pid());
        refused(&dir, "./prog", 126, &["ETXTBSY (", &says]);
        refused(&dir, "./script", 126, &["ETXTBSY (", "its interpreter is ./prog\n", &says]);
        // From another pid namespace it cannot be seen.
        let mut cmd = Command::new("unshare");
        cmd.args(["-p", "-f", "--mount-proc"]).arg(bin("td-exec")).arg("./prog");
        let output = run(cmd.current_dir(dir.path())).exits(126).says("ETXTBSY (");
        output.says("./prog is open for writing, perhaps by a process that cannot be seen here\n");
        drop(writer);
        runs(&dir, "./prog");
    }

    #[test]
    fn the_limit_of_processes_after_a_change_of_ids_is_named_and_never_roots() {
        private_mounts();
        let cmd = |user: &str, limit: &str| {
            td("td-exec", ["--rlimit", limit, "--user", user, "/bin/true"])
        };
        // The first process of a user passes.
        run(&mut cmd("23461", "nproc=0")).ok();
        let other = start(Command::new("setpriv").args([
            "--reuid=23461",
            "--regid=23461",
            "--clear-groups",
            "sleep",
            "1000",
        ]));
        wait_for("sleep(1)", || Some(()).filter(|()| status_of(other.pid(), "Name") == "sleep"));
        let says = "RLIMIT_NPROC allows uid 23461 0 processes and threads, and 2 exist\n";
        let output = run(&mut cmd("23461", "nproc=0")).exits(126).says("EAGAIN (").says(says);
        says_none(&output, &["perhaps"]);
        run(&mut cmd("23461", "nproc=1")).ok();
        run(&mut cmd("0", "nproc=0")).ok();
        // Where they cannot be counted.
        mount(["-t", "tmpfs", "covers", "/proc"]);
        let says = "perhaps RLIMIT_NPROC is reached: it allows this user 0 processes\n";
        run(&mut cmd("23461", "nproc=0")).exits(126).says("EAGAIN (").says(says);
    }

    // ---- fork(2) ----

    /// Command lines that fork, as root, each by another tool.
    const FORKS: [&str; 5] = [
        "td-init true",
        "td-unshare -p true",
        "td-unshare --rmdir /nowhere/td true",
        "td-tty true",
        "td-enter --pid=/proc/PID/ns/pid true",
    ];

    /// Tools where an ordinary user may reach them.
    fn for_all(tools: &[&str]) -> TempDir {
        let dir = TempDir::new();
        tools.iter().for_each(|tool| drop(dir.program(tool, fs::read(bin(tool)).expect("it"))));
        chmod(dir.path(), 0o755);
        dir
    }

    fn line(line: &str) -> Command {
        let mut words = line.split(' ');
        td(words.next().expect("a tool"), words)
    }

    #[test]
    fn a_limit_of_processes_binds_whom_it_binds_in_every_tool_that_forks() {
        private_mounts();
        let dir = for_all(&["td-init", "td-unshare"]);
        for tool in ["td-init", "td-unshare"] {
            let mut cmd = Command::new("setpriv");
            cmd.args(["--reuid", "23462", "--regid", "23462", "--clear-groups", "prlimit"]);
            cmd.arg("--nproc=1:1").arg(dir.join(tool));
            if tool == "td-unshare" {
                cmd.args(["-r", "-p"]);
            }
            let output = run(cmd.arg("true")).exits(125).says("EAGAIN (");
            says_none(&output, &["perhaps"]);
            output.says("RLIMIT_NPROC allows uid 23462 1 processes and threads, and 1 exist\n");
        }
        // Root passes, and so does who has CAP_SYS_RESOURCE.
        for tool in ["td-init true", "td-unshare -p true"] {
            let mut cmd = Command::new("prlimit");
            run(cmd.arg("--nproc=0:0").args(words(&line(tool)))).ok();
        }
    }

    #[test]
    fn memory_that_is_refused_is_no_ended_process_1() {
        private_mounts();
        let fault = "--inject=clone3:error=ENOMEM";
        let (output, _) = strace(&["-f", fault], &line("td-unshare -p true"));
        says_none(&output.exits(125).says("ENOMEM ("), &["process 1 of the pid namespace"]);
        let (output, _) = strace(&["-f", fault], &line("td-init true"));
        says_none(&output.exits(125).says("ENOMEM ("), &["process 1 of the pid namespace"]);
        // In one that lives: its process 1 is the first child of the shell.
        let td = bin("td-unshare");
        let script = "sleep 1000 & \"$@\"; status=$?; kill -9 $!; exit $status";
        let mut living = Command::new("unshare");
        living.args(["-p", "sh", "-c", script, "sh", "strace", "-f", "-o", "/dev/null", "-e"]);
        living.arg("inject=clone3:error=ENOMEM").arg(&td).args(["--rmdir", "/nowhere", "true"]);
        let output = run(&mut living).exits(125).says("ENOMEM (");
        says_none(&output, &["process 1 of the pid namespace"]);
        // And in one that does not.
        let script = "/bin/true & wait; exec \"$@\"";
        let mut dead = Command::new("unshare");
        dead.args(["-p", "sh", "-c", script, "sh"]).arg(&td).args(["--rmdir", "/nowhere", "true"]);
        let output = run(&mut dead).exits(125).says("ENOMEM (");
        let says = "process 1 of the pid namespace for new children has ended\n";
        says_none(&output, &["perhaps"]);
        output.says(says);
    }

    #[test]
    fn process_ids_that_are_used_up_are_named_perhaps() {
        private_mounts();
        assert!(linux_is(6, 14), "kernel.pid_max is the machine's, and not ours to change");
        // The ids from 300 on are given out again and again, and with this one there are 20 of them.
        let fill = |sleepers: u32| {
            let script = format!(
                "echo 320 >/proc/sys/kernel/pid_max || exit 9; i=0\n\
                 while [ $i -lt 298 ]; do (exit 0); i=$((i + 1)); done; i=0\n\
                 while [ $i -lt {sleepers} ]; do sleep 1000 & i=$((i + 1)); done\n\
                 \"$@\"; exit $?"
            );
            let mut cmd = Command::new("unshare");
            cmd.args(["-p", "-f", "--mount-proc", "sh", "-c", &script, "sh"]);
            run(cmd.args(words(&line("td-init true"))))
        };
        fill(10).ok();
        let output = fill(19).exits(125).says("EAGAIN (");
        output.says("perhaps kernel.pid_max is reached: all process ids are below 320, and ");
    }

    mod v1 {
        use super::*;

        #[test]
        fn a_full_cgroup_is_named_by_every_tool_that_forks() {
            private_mounts();
            let other =
                start(Command::new("unshare").args(["-p", "-f", "--kill-child", "sleep", "1000"]));
            let first = wait_for("a child", || children_of(other.pid()).pop());
            for tool in FORKS {
                let tool = tool.replace("PID", &first.to_string());
                let own = Cgroup::new("forks");
                run(&mut cgroup(["--pids", "1", &own.0])).ok();
                let pids = v1_of("pids").join(&own.0[1..]);
                let script = format!("echo $$ >{}/tasks; exec \"$@\"", pids.display());
                let mut cmd = sh(&script);
                let output =
                    run(cmd.arg("sh").args(words(&line(&tool)))).exits(125).says("EAGAIN (");
                says_none(&output, &["perhaps", "RLIMIT_NPROC"]);
                output.says(&format!(
                    "{}/pids.max allows 1 processes, and 1 exist\n",
                    pids.display()
                ));
            }
        }

        #[test]
        fn a_limit_above_the_cgroup_namespace_is_not_blamed_on_rlimit_nproc() {
            private_mounts();
            let own = Cgroup::new("above");
            run(&mut cgroup(["--pids", "2", &own.0])).ok();
            run(&mut cgroup(["--pids", "50", &own.below("leaf")])).ok();
            let pids = v1_of("pids").join(&own.0[1..]);
            // The shell is one process, and what it waits for another.
            let script = format!(
                "echo $$ >{}/leaf/tasks; exec unshare -C -m sh -c 'umount {1} && \
                 mount -t cgroup -o pids x {1}; \"$@\"; exit $?' sh \"$@\"",
                pids.display(),
                v1_of("pids").display()
            );
            let mut cmd = Command::new("prlimit");
            cmd.args(["--nproc=99:99", "sh", "-c", &script, "sh"]);
            let output = run(cmd.args(words(&line("td-init true")))).exits(125).says("EAGAIN (");
            says_none(&output, &["RLIMIT_NPROC"]);
            output
                .says("perhaps pids.max of a cgroup above ")
                .says(", which cannot be seen here\n");
        }
    }

    // ---- descriptors and limits ----

    #[test]
    fn an_errno_that_is_of_descriptors_elsewhere_is_not_blamed_on_rlimit_nofile() {
        private_mounts();
        let dir = TempDir::new();
        dir.dir("a");
        let words = ["--tmpfs", "/a", text(dir.path()), "true"];
        let (output, _) = strace(&["--inject=fsconfig:error=EMFILE"], &td("td-mount", words));
        says_none(&output.exits(125).says("EMFILE ("), &["RLIMIT_NOFILE"]);
        let mut cmd = Command::new("prlimit");
        cmd.arg("--nofile=4:4").arg(bin("td-mount")).args(words);
        run(&mut cmd)
            .exits(125)
            .says("EMFILE (")
            .says("as many files are open as RLIMIT_NOFILE allows: 4\n");
    }

    #[test]
    fn the_files_of_the_machine_are_blamed_only_where_their_number_allows_it() {
        private_mounts();
        let dir = TempDir::new();
        let cmd = td("td-lock", [text(&dir.join("lock")), "true"]);
        let lock = dir.file("lock", "");
        let fault = ["-P", text(&lock), "--inject=openat:error=ENFILE"];
        let (output, _) = strace(&fault, &cmd);
        says_none(&output.exits(125).says("ENFILE ("), &["fs.file-max"]);
        let full = dir.file("full", "1000\t0\t1010\n");
        mount(["--bind", text(&full), "/proc/sys/fs/file-nr"]);
        let (output, _) = strace(&fault, &cmd);
        output
            .exits(125)
            .says("perhaps as many files are open on this machine as fs.file-max allows: 1010\n");
    }

    #[test]
    fn a_limit_that_nobody_may_have_is_told_from_one_that_needs_a_capability() {
        private_mounts();
        let most: u64 = fs::read_to_string("/proc/sys/fs/nr_open").unwrap().trim().parse().unwrap();
        let cmd = |limit: String| td("td-exec", ["--rlimit", &limit, "true"]);
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a number, and a structure that outlives the call.
        check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }).expect("a limit");
        let own = limit.rlim_max.min(most);
        run(&mut cmd(format!("nofile=64:{own}"))).ok();
        let says = format!("fs.nr_open is {most}: nobody may have a higher hard limit\n");
        let output = run(&mut cmd(format!("nofile=64:{}", most + 1))).exits(125);
        says_none(&output, &["CAP_SYS_RESOURCE", "the hard limit is"]);
        output.says("RLIMIT_NOFILE").says("EPERM (").says(&says);
        run(&mut cmd("nofile=unlimited".into())).exits(125).says(&says);
        // The right is asked for in the initial user namespace.
        let mut cmd = Command::new("prlimit");
        cmd.arg("--core=5:5")
            .arg(bin("td-unshare"))
            .args(["-r", "td-exec", "--rlimit", "core=6", "true"]);
        let output = run(&mut cmd).exits(125).says("RLIMIT_CORE").says("EPERM (");
        says_none(&output, &["fs.nr_open", "this process has no"]);
        let right = "raising a hard limit takes CAP_SYS_RESOURCE in the initial user namespace\n";
        output.says(right).says("the hard limit is 5, and this would raise it\n");
    }

    // ---- processes that are entered ----

    #[test]
    fn a_thread_is_not_a_process_and_its_process_is_the_way_out() {
        private_mounts();
        // This test runs in a thread of its own.
        // SAFETY: it takes nothing.
        let thread = unsafe { libc::gettid() };
        let process = std::process::id();
        assert_ne!(thread as u32, process);
        let enter = |pid: &str| run(&mut td("td-enter", ["--target", pid, "--net", "true"]));
        let output = enter(&thread.to_string()).exits(125).says("pidfd_open(");
        says_none(&output, &["does not exist"]);
        let says = format!("{thread} is a thread of process {process}, and not a process\n");
        let output = output.says(&says);
        let way_out = "name the process: --target ";
        let pid =
            output.err().lines().find_map(|line| Some(line.split_once(way_out)?.1.to_string()));
        enter(&pid.expect("a way out")).ok();
        let output = enter("2147483647").exits(125).says("ESRCH (");
        says_none(&output, &["thread"]);
        output.says("process 2147483647 does not exist\n");
    }

    #[test]
    fn a_process_that_proc_hides_exists() {
        private_mounts();
        let dir = for_all(&["td-enter"]);
        // In a pid namespace of its own, for a mount option of proc is that of all of its mounts.
        let script = "mount -t proc -o hidepid=invisible proc /proc || exit 9\n\
            exec setpriv --reuid 23463 --regid 23463 --clear-groups \"$@\"";
        let mut cmd = Command::new("unshare");
        cmd.args([
            "-p",
            "-f",
            "-m",
            "sh",
            "-c",
            &format!("sleep 1000 & {script} --target $! --net true"),
            "sh",
        ]);
        let output = run(cmd.arg(dir.join("td-enter"))).exits(125);
        says_none(&output, &["does not exist"]);
        output.says("process 2 exists, but /proc does not show it: see hidepid in proc(5)\n");
    }
}
