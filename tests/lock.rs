//! td-lock.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::*;

fn lock<'a>(options: &[&'a str], file: &'a Path, prog: &[&'a str]) -> Command {
    let file = file.to_str().expect("a plain path");
    td("td-lock", options.iter().copied().chain([file]).chain(prog.iter().copied()))
}

/// A process that has the lock, until it is dropped.
fn holder(options: &[&str], file: &Path) -> Running {
    let running = start(&mut lock(options, file, &["sh", "-c", "echo in; exec sleep 1000"]));
    running.prints("in");
    named(running.pid(), "sleep");
    running
}

/// Wait until a process has executed the program of this name.
#[track_caller]
fn named(pid: i32, name: &str) {
    wait_for(name, || {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        (comm.trim() == name).then_some(())
    });
}

/// The lock is taken at once, or it is not.
#[track_caller]
fn is_free(options: &[&str], file: &Path) -> bool {
    let options = [&["-n"], options].concat();
    let output = run(&mut lock(&options, file, &["echo", "run"]));
    let free = output.code == Some(0);
    assert_eq!(output.out(), if free { "run\n" } else { "" }, "{output}");
    assert!(free || output.err().contains(" is locked by "), "{output}");
    free
}

/// It is refused, and says so; PROG is not executed.
#[track_caller]
fn refuses(cmd: &mut Command) -> Output {
    let output = run(cmd).exits(125);
    assert_eq!(output.out(), "", "{output}");
    output
}

/// What flock(1) of the machine says of a file: does it get the lock at once?
#[track_caller]
fn flock_gets(options: &[&str], file: &Path) -> bool {
    let output = run(Command::new("flock").arg("-n").args(options).arg(file).args(["echo", "run"]));
    assert!([Some(0), Some(1)].contains(&output.code) && output.stderr.is_empty(), "{output}");
    output.out() == "run\n"
}

/// A process for which flock(1) has the lock, until it is dropped.
fn flock_holder(options: &[&str], file: &Path) -> Running {
    let mut cmd = Command::new("flock");
    cmd.arg("-F").args(options).arg(file).args(["sh", "-c", "echo in; exec sleep 1000"]);
    let running = start(&mut cmd);
    running.prints("in");
    named(running.pid(), "sleep");
    running
}

/// How many descriptors of a file a process has.
fn descriptors(pid: i32, file: &Path) -> usize {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("a process");
    let id = |path: &Path| fs::metadata(path).map(|stat| (stat.dev(), stat.ino()));
    let wanted = id(file).expect("the file");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| id(path).is_ok_and(|id| id == wanted)).count()
}

/// Wait until a process waits for a lock: proc_locks(5).
#[track_caller]
fn waits(pid: i32) {
    wait_for("a process that waits for its lock", || {
        let locks = fs::read_to_string("/proc/locks").expect("/proc/locks");
        let waiting = |line: &&str| line.contains("->") && line.contains(&format!(" {pid} "));
        locks.lines().find(waiting).map(drop)
    });
}

#[test]
fn a_second_one_is_told_who_has_it() {
    let dir = TempDir::new();
    let file = dir.join("lock");
    let first = holder(&[], &file);
    for option in ["-n", "--nb", "--nonblock"] {
        let output = refuses(&mut lock(&[option], &file, &["echo", "run"]));
        let output = output.says("flock(").says(", LOCK_EX|LOCK_NB): EAGAIN");
        output.says(&format!("{} is locked by process {} (sleep)\n", file.display(), first.pid()));
    }
    let output = run(&mut lock(&["-nE", "7"], &file, &["echo", "run"])).exits(7);
    assert_eq!(output.out(), "");
    assert_eq!(fs::read(&file).expect("the file"), b"", "nothing is written to it");
    assert_eq!(fs::metadata(&file).expect("the file").permissions().mode() & 0o7777, 0o600);
    // Of a name as well.
    let first = holder(&["--key", "it"], &file);
    let output = refuses(&mut lock(&["-n", "--key", "it"], &file, &["echo", "run"]));
    let output = output.says("fcntl(").says("F_SETLK, {l_type=F_WRLCK, l_whence=SEEK_SET");
    let says = format!("the name it of {} is locked by process ", file.display());
    output.says("EAGAIN").says(&format!("{says}{} (sleep)\n", first.pid()));
    run(&mut lock(&["-nE", "7", "--key", "it"], &file, &["echo", "run"])).exits(7);
}

#[test]
fn flock_of_the_machine_and_td_lock_exclude_each_other() {
    let dir = TempDir::new();
    let file = dir.join("lock");
    let ours = holder(&[], &file);
    assert!(!flock_gets(&[], &file) && !flock_gets(&["-s"], &file));
    drop(ours);
    let theirs = flock_holder(&[], &file);
    assert!(!is_free(&[], &file) && !is_free(&["-s"], &file));
    let says = format!("is locked by process {} (sleep)", theirs.pid());
    refuses(&mut lock(&["-n"], &file, &["true"])).says(&says);
    // Each waits for the other.
    let waiting = start(&mut lock(&[], &file, &["echo", "run"]));
    waits(waiting.pid());
    drop(theirs);
    assert_eq!(waiting.wait().ok().out(), "run\n");
    let ours = holder(&["-x"], &file);
    let waiting = start(Command::new("flock").arg(&file).args(["echo", "run"]));
    waits(waiting.pid());
    drop(ours);
    assert_eq!(waiting.wait().ok().out(), "run\n");
    let _theirs = flock_holder(&["-s"], &file);
    let _ours = holder(&["-s"], &file);
    assert!(flock_gets(&["-s"], &file) && !flock_gets(&[], &file) && !is_free(&["-e"], &file));
}

/// What fcntl(2) could not lock, and where it lost its lock.
#[test]
fn what_can_be_opened_to_read_can_be_locked_and_prog_may_open_and_close_it() {
    let dir = TempDir::new();
    let read_only = dir.file("read-only", "x");
    chmod(&read_only, 0o444);
    let link = dir.join("link");
    symlink("read-only", &link).expect("a link");
    let program = dir.program("busybox", fs::read(busybox()).expect("busybox"));
    for file in [dir.path(), &read_only, &link, &program, Path::new("/proc/sys/kernel/ostype")] {
        let script = ": <\"$0\"; exec 3<\"$0\"; exec 3<&-; cat \"$0\" >/dev/null 2>&1; echo in; exec sleep 1000";
        let path = file.to_str().expect("a plain path");
        let running = start(&mut lock(&[], file, &["sh", "-c", script, path]));
        running.prints("in");
        named(running.pid(), "sleep");
        assert!(!is_free(&[], file) && !is_free(&["-s"], file), "{path}");
        assert!(!flock_gets(&[], file), "{path}");
        drop(running);
        assert!(is_free(&[], file), "{path}");
    }
    // The program that PROG is.
    let path = program.to_str().expect("a plain path");
    let running = start(&mut lock(&[], &program, &[path, "sleep", "1000"]));
    named(running.pid(), "busybox");
    assert!(!is_free(&[], &program) && !flock_gets(&[], &program));
}

/// The idiom of flock(1) for cron(8).
#[test]
fn a_script_that_locks_itself_runs_once() {
    let dir = TempDir::new();
    let tool = bin("td-lock");
    let text = format!(
        "#!/bin/sh\n[ \"${{LOCKER-}}\" = \"$0\" ] || exec env LOCKER=\"$0\" {} -en \"$0\" \"$0\" \"$@\"\n\
         echo in \"$1\"\nexec sleep 1000\n",
        tool.display()
    );
    let script = dir.program("job", text);
    symlink("job", dir.join("link")).expect("a link");
    let first = start(Command::new(&script).arg("first"));
    first.prints("in first");
    for path in [script, dir.join("link")] {
        let output = refuses(Command::new(path).arg("second"));
        output.says(&format!("is locked by process {} (", first.pid()));
    }
}

#[test]
fn a_holder_that_is_killed_has_it_no_longer() {
    let dir = TempDir::new();
    let file = dir.join("lock");
    let first = holder(&[], &file);
    first.kill(libc::SIGKILL);
    assert_eq!(first.wait().signal, Some(libc::SIGKILL));
    assert!(is_free(&[], &file));
}

#[test]
fn a_child_of_prog_has_the_lock_of_a_file_and_not_that_of_a_name() {
    let dir = TempDir::new();
    let file = dir.join("lock");
    let script = "sleep 1000 >/dev/null 2>&1 & echo $!";
    let child = |options: &[&str]| -> i32 {
        let child = run(&mut lock(options, &file, &["sh", "-c", script])).ok().out();
        child.trim().parse().expect("a pid")
    };
    let of_name = child(&["--key", "it"]);
    assert!(is_alive(of_name));
    assert!(is_free(&["--key", "it"], &file));
    kill(of_name, libc::SIGKILL);
    let of_file = child(&[]);
    let output = refuses(&mut lock(&["-n"], &file, &["true"]));
    output
        .says("was locked by process ")
        .says(", which has ended: a process that inherited the descriptor has the lock");
    kill(of_file, libc::SIGKILL);
    wait_for("the lock", || flock_gets(&[], &file).then_some(()));
}

#[test]
fn one_who_has_closed_the_descriptor_is_not_said_to_have_the_lock() {
    let dir = TempDir::new();
    let file = dir.join("lock");
    // Bash knows descriptors of two digits.
    let script = "sleep 1000 >/dev/null 2>&1 &
        for n in {10..99}; do eval \"exec $n<&-\"; done; echo $!; exec sleep 1000";
    let running = start(&mut lock(&[], &file, &["bash", "-c", script]));
    let child = wait_for("its child", || running.out().trim().parse::<i32>().ok());
    let output = refuses(&mut lock(&["-n"], &file, &["true"]));
    let says = format!("was locked by process {} (", running.pid());
    let output = output.says(&says);
    output.says("), which has closed it: a process that inherited the descriptor has the lock");
    kill(child, libc::SIGKILL);
    wait_for("the lock", || flock_gets(&[], &file).then_some(()));
}

#[test]
fn shared_goes_with_shared_and_not_with_exclusive() {
    let dir = TempDir::new();
    let file = dir.join("lock");
    let first = holder(&["-s"], &file);
    let second = holder(&["--shared"], &file);
    assert!(is_free(&["-s"], &file));
    assert!(!is_free(&[], &file));
    drop(first);
    assert!(!is_free(&[], &file));
    drop(second);
    let _exclusive = holder(&[], &file);
    assert!(!is_free(&["-s"], &file));
}

#[test]
fn one_that_waits_gets_it() {
    let dir = TempDir::new();
    let file = dir.join("lock");
    for key in [&[][..], &["--key", "it"]] {
        let first = holder(key, &file);
        let second = start(&mut lock(key, &file, &["echo", "run"]));
        let third =
            start(&mut lock(&[key, &["--timeout", "50"]].concat(), &file, &["echo", "run"]));
        waits(second.pid());
        assert_eq!(second.out() + &third.out(), "");
        drop(first);
        assert_eq!(second.wait().ok().out(), "run\n");
        assert_eq!(third.wait().ok().out(), "run\n");
    }
}

#[test]
fn one_that_waits_so_long_asks_often_enough_and_not_all_the_time() {
    let dir = TempDir::new();
    let file = dir.join("lock");
    let _first = holder(&[], &file);
    let output = refuses(&mut lock(&["--trace", "-w", "1"], &file, &["echo", "run"]));
    // Pauses of 1, 2, 4 ms, and so on up to 64.
    let asked = output.err().lines().filter(|line| line.starts_with("flock(")).count();
    assert!((16..=25).contains(&asked), "{asked} times");
}

#[test]
fn one_that_waits_dies_of_a_signal_as_any_program() {
    let dir = TempDir::new();
    let file = dir.join("lock");
    for key in [&[][..], &["--key", "it"]] {
        let _first = holder(key, &file);
        let second = start(&mut lock(key, &file, &["echo", "run"]));
        waits(second.pid());
        second.kill(libc::SIGTERM);
        assert_eq!(second.wait().signal, Some(libc::SIGTERM));
    }
}

#[test]
fn one_that_waits_so_long_gives_up_and_is_told_who_has_it() {
    let dir = TempDir::new();
    let file = dir.join("lock");
    let first = holder(&[], &file);
    let says = format!("is locked by process {} (sleep)", first.pid());
    for options in [&["--wait=0.3"][..], &["-w", ".01"], &["-w", "0"], &["--wait", "0.000000001"]] {
        refuses(&mut lock(options, &file, &["echo", "run"])).says("EAGAIN").says(&says);
    }
    let begun = std::time::Instant::now();
    let output = run(&mut lock(&["--wait=0.3", "-E", "9"], &file, &["echo", "run"])).exits(9);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(output.out(), "");
}

#[test]
fn keys_of_other_words_are_other_locks() {
    let dir = TempDir::new();
    let file = dir.join("lock");
    let first = holder(&["--key", "a"], &file);
    let _second = holder(&["--key", "b"], &file);
    for word in ["", "ab", "c", "\u{e9}"] {
        assert!(is_free(&["--key", word], &file), "{word}");
    }
    assert!(!is_free(&["--key", "a"], &file));
    assert!(!is_free(&["-s", "--key", "b"], &file));
    assert!(is_free(&[], &file) && flock_gets(&[], &file), "the file is another lock");
    drop(first);
    assert!(is_free(&["--key", "a"], &file));
    assert_eq!(fs::metadata(&file).expect("the file").len(), 0);
}

/// Each lock of a chain, though all but one are on the same file: to open and close it would free those of names.
#[test]
fn all_in_a_chain_hold() {
    let dir = TempDir::new();
    let path = |name| dir.join(name).to_str().expect("a plain path").to_string();
    let (file, other) = (path("lock"), path("other"));
    let tool = bin("td-lock");
    let tool = tool.to_str().expect("a plain path");
    let all = |rest: &[&str]| {
        let line = [
            "--key", "a", &file, "td-lock", &file, "td-lock", &other, "td-lock", "--key", "b",
            &file,
        ];
        let line = [&line[..], &["td-lock", &file], rest].concat();
        let running = start(&mut td("td-lock", line));
        running.prints("in");
        for key in ["a", "b"] {
            assert!(!is_free(&["--key", key], Path::new(&file)), "{key} {rest:?}");
        }
        assert!(is_free(&["--key", "c"], Path::new(&file)), "{rest:?}");
        for file in [&file, &other] {
            assert!(!flock_gets(&[], Path::new(file)), "{file} {rest:?}");
        }
    };
    let script = "echo in; exec sleep 1000";
    all(&["sh", "-c", script]);
    // A program between tells the next one nothing, and closes some of them.
    all(&["sh", "-c", "exec \"$0\" --key c \"$1\" sh -c \"$2\"", tool, &other, script]);
    // Hole after hole: below the first, and between.
    let holes = "exec 10</dev/null 12</dev/null 14</dev/null; \"$0\" --key a \"$1\" \
        bash -c 'exec 10<&- 12<&-; exec \"$0\" --key b \"$1\" bash -c \"exec 14<&-; exec \\\"\\$0\\\" \\\"\\$1\\\" \
        sh -c \\\"echo in; exec sleep 1000\\\"\" \"$0\" \"$1\"' \"$0\" \"$1\"";
    let running = start(Command::new("bash").args(["-c", holes, tool, &file]));
    running.prints("in");
    for key in ["a", "b"] {
        assert!(!is_free(&["--key", key], Path::new(&file)), "{key}");
    }
    assert!(!flock_gets(&[], Path::new(&file)));
}

#[test]
fn a_second_lock_in_a_chain_changes_the_kind_of_the_first() {
    let dir = TempDir::new();
    let file = dir.join("lock");
    let path = file.to_str().expect("a plain path");
    let script = ["sh", "-c", "echo in; exec sleep 1000"];
    for (first, second, shared) in [("-s", "-x", false), ("-x", "-s", true)] {
        let running =
            start(&mut lock(&[first], &file, &[&["td-lock", second, path], &script[..]].concat()));
        running.prints("in");
        assert_eq!(flock_gets(&["-s"], &file), shared, "{first} {second}");
        assert!(!flock_gets(&[], &file), "{first} {second}");
        assert_eq!(descriptors(running.pid(), &file), 1);
    }
}

/// To wait would never end.
#[test]
fn a_process_that_has_the_lock_itself_is_refused_a_second_one() {
    let dir = TempDir::new();
    let file = dir.join("lock");
    let tool = bin("td-lock");
    let [path, tool] = [&file, &tool].map(|path| path.to_str().expect("a plain path"));
    let again = ["sh", "-c", "exec \"$0\" \"$1\" echo run", tool, path];
    let output = refuses(&mut lock(&[], &file, &again)).says("EAGAIN");
    let output = output.says("this process has locked ").says("lock itself, on another descriptor");
    output.says("close that one, or leave out the second td-lock");
}

/// A network file system, NFS, gives an exclusive lock to those alone who may write.
#[test]
fn where_an_exclusive_lock_needs_the_right_to_write_the_file_is_opened_so() {
    let dir = TempDir::new();
    let file = dir.file("lock", "");
    let options = ["-P", text(&file), "-e", "inject=flock:error=EBADF:when=1"];
    let (output, processes) = strace::strace(&options, &lock(&[], &file, &["echo", "run"]));
    assert_eq!(output.ok().out(), "run\n");
    let calls = &processes[0].calls;
    let opened = calls.iter().filter(|call| call.name == "openat");
    let access = opened.map(|call| call.args[2].parse::<i32>().expect("flags") & libc::O_ACCMODE);
    assert_eq!(access.collect::<Vec<_>>(), [libc::O_RDONLY, libc::O_RDWR]);
    assert_eq!(calls.iter().filter(|call| call.name == "flock").count(), 2, "{calls:?}");
}

#[test]
fn a_shell_that_opens_and_closes_descriptors_keeps_it() {
    let dir = TempDir::new();
    let file = dir.join("lock");
    let script = "exec 3>/dev/null 9>&3; exec 3>&- 9>&-; x=$(echo y); echo in; exec sleep 1000";
    let running = start(&mut lock(&[], &file, &["sh", "-c", script]));
    running.prints("in");
    assert!(!is_free(&[], &file));
}

#[test]
fn of_fifty_at_once_exactly_one_gets_it() {
    let dir = TempDir::new();
    let file = dir.join("lock");
    let script = ["sh", "-c", "echo run; exec sleep 1000"];
    let all: Vec<Running> = (0..50).map(|_| start(&mut lock(&["-n"], &file, &script))).collect();
    let first = wait_for("the one", || all.iter().find(|running| running.out() == "run\n"));
    let first = first.pid();
    let says = format!("is locked by process {first} (");
    let (winner, losers): (Vec<_>, Vec<_>) = all.into_iter().partition(|r| r.pid() == first);
    for loser in losers {
        let output = loser.wait().exits(125).says(&says);
        assert_eq!(output.out(), "");
    }
    assert!(is_alive(winner[0].pid()));
}

#[test]
fn of_fifty_that_wait_each_has_it_alone() {
    let dir = TempDir::new();
    let file = dir.join("lock");
    let alone = dir.join("alone");
    // mkdir(1) fails where another is there.
    let script = format!("mkdir {0} && rmdir {0}", alone.display());
    let prog = ["sh", "-c", &script];
    let options: [&[&str]; 2] = [&[], &["--wait=50"]];
    let all = (0..50).map(|i| start(&mut lock(options[i % 2], &file, &prog)));
    for running in all.collect::<Vec<_>>() {
        running.wait().ok();
    }
}

#[test]
fn to_wait_for_one_another_is_refused() {
    let dir = TempDir::new();
    let (a, b) = (dir.join("a"), dir.join("b"));
    let go = dir.join("go");
    let script = "echo in; while ! test -e \"$2\"; do :; done; exec \"$0\" --key k \"$1\" echo run";
    let tool = bin("td-lock");
    let crossed = |file, other: &Path| {
        let words = [tool.as_path(), other, go.as_path()].map(|p| p.to_str().expect("plain"));
        start(&mut lock(&["--key", "k"], file, &[&["sh", "-c", script], &words[..]].concat()))
    };
    let (first, second) = (crossed(&a, &b), crossed(&b, &a));
    first.prints("in");
    second.prints("in");
    dir.file("go", "");
    let ended = [first.wait(), second.wait()];
    let (refused, got): (Vec<_>, Vec<_>) = ended.into_iter().partition(|o| o.code == Some(125));
    assert_eq!((refused.len(), got[0].code), (1, Some(0)), "{refused:?} {got:?}");
    let says = "the holder waits, directly or through others, for a lock that this process has";
    let output = refused.into_iter().next().expect("one").says("EDEADLK").says(says);
    output
        .says("is locked by process ")
        .says("let all processes take their locks in the same order");
}

#[test]
fn mkdir_makes_what_is_missing_and_leaves_nothing_where_it_fails() {
    let dir = TempDir::new();
    let file = dir.join("a/b/lock");
    let output = refuses(&mut lock(&[], &file, &["echo", "run"]));
    let says = format!("{} does not exist", dir.join("a").display());
    output.says("ENOENT").says(&says).says("create it: --mkdir");
    let long = dir.join(format!("a/b/{}", "x".repeat(300)));
    refuses(&mut lock(&["--mkdir"], &long, &["echo", "run"])).says("ENAMETOOLONG");
    assert!(!dir.join("a").exists());
    let out = run(&mut lock(&["--mkdir"], &file, &["echo", "run"])).ok().out();
    assert_eq!(out, "run\n");
    for name in ["a", "a/b"] {
        let mode = fs::metadata(dir.join(name)).expect("a directory").permissions().mode();
        assert_eq!(mode & 0o7777, 0o700, "{name}");
    }
}

#[test]
fn what_cannot_be_locked_is_refused_by_name() {
    let dir = TempDir::new();
    let refused = |options: &[&str], file: &Path, why: &str| {
        for kind in [&[][..], &["-s"]] {
            refuses(&mut lock(&[options, kind].concat(), file, &["echo", "run"]))
                .says(&format!("{} {why}\n", file.display()));
        }
    };
    run(Command::new("mkfifo").arg(dir.join("fifo"))).ok();
    let _listener = std::os::unix::net::UnixListener::bind(dir.join("socket")).expect("a socket");
    let neither = "is not a regular file, a directory or a block device";
    for name in ["fifo", "socket"] {
        refused(&[], &dir.join(name), neither);
        refused(&["--key", "it"], &dir.join(name), "is not a regular file");
    }
    refused(&[], Path::new("/dev/null"), neither);
    symlink("target", dir.join("link")).expect("a link");
    refused(&[], &dir.join("link"), "is a symbolic link to a file that does not exist");
    assert!(!dir.join("target").exists());
    dir.file("target", "");
    refused(&["--key", "it"], &dir.join("link"), "is a symbolic link, which --key does not follow");
    let why = "is a directory, in which --key has no byte to lock";
    refused(&["--key", "it"], dir.path(), why);
    for (name, says) in
        [("target/lock", "target is not a directory"), ("target/a/lock", "is not a directory")]
    {
        refuses(&mut lock(&[], &dir.join(name), &["echo", "run"])).says("ENOTDIR").says(says);
    }
    let says = "circle is a symbolic link that leads to itself";
    symlink("circle", dir.join("circle")).expect("a link");
    for name in ["circle", "circle/lock"] {
        refuses(&mut lock(&[], &dir.join(name), &["echo", "run"])).says("ELOOP").says(says);
    }
}

#[test]
fn a_file_that_may_be_written_and_not_made_is_opened_without_making_it() {
    let dir = TempDir::new();
    let path = dir.file("lock", "");
    // As root is refused the file of another in a directory for all, where fs.protected_regular is set.
    let options = ["-P", path.to_str().expect("plain"), "-e", "inject=openat:error=EACCES:when=1"];
    let cmd = lock(&["--key", "it"], &path, &["echo", "run"]);
    let (output, processes) = strace::strace(&options, &cmd);
    assert_eq!(output.ok().out(), "run\n");
    let opened: Vec<_> = processes[0].calls.iter().filter(|call| call.name == "openat").collect();
    assert_eq!(opened.len(), 2, "{opened:?}");
    assert_eq!(opened[0].result, "-1 EACCES");
}

#[test]
fn without_a_number_for_its_descriptor_it_says_so() {
    let dir = TempDir::new();
    let file = dir.join("lock");
    for most in [3, 9, 10] {
        let mut cmd = sh(&format!("ulimit -n {most}; exec \"$@\""));
        let inner = lock(&[], &file, &["echo", "run"]);
        let output = refuses(cmd.arg("sh").arg(inner.get_program()).args(inner.get_args()));
        let says = format!(
            "the lock needs a descriptor numbered 10 or above, and RLIMIT_NOFILE is {most}\n"
        );
        output.says("EMFILE").says(&says).says("raise it: ulimit -n");
    }
    // No other failure there has to do with that limit.
    let open = ["-P", "/", "-e", "inject=openat:error=ENFILE:when=1"];
    for options in [&open[..], &["-e", "inject=fcntl:error=ENOMEM:when=1"]] {
        let (output, _) = strace::strace(options, &lock(&["--key", "it"], &file, &["echo", "run"]));
        let output = output.exits(125);
        assert!(output.err().contains("ENFILE") || output.err().contains("ENOMEM"), "{output}");
        assert!(!output.err().contains("RLIMIT_NOFILE"), "{output}");
    }
}

#[test]
fn what_flock_has_and_td_does_otherwise_is_answered() {
    let dir = TempDir::new();
    let file = dir.join("lock");
    let path = file.to_str().expect("a plain path");
    for (line, says) in [
        (&["-c", "true"][..], "td-lock FILE sh -c COMMAND"),
        (&[path, "-c", "echo run"], "td-lock FILE sh -c COMMAND"),
        (&[path, "--command", "echo run"], "td-lock FILE sh -c COMMAND"),
        (&["-n", "9"], "td-lock FILE sh -c COMMANDS"),
        (&["-o", path, "echo", "run"], "td-lock FILE td-init PROG"),
        (&["--close", path, "echo", "run"], "td-lock FILE td-init PROG"),
        (&["-u", path, "echo", "run"], "a lock is free when every process that has it has ended"),
        (&["--unlock", "9"], "a lock is free when every process that has it has ended"),
    ] {
        refuses(&mut td("td-lock", line)).says(says);
    }
    assert!(!file.exists());
    // What is answered is a way.
    let out = run(&mut td("td-lock", ["-F", path, "sh", "-c", "echo run"])).ok().out();
    assert_eq!(out, "run\n");
    let out = run(&mut td("td-lock", ["--no-fork", path, "td-init", "echo", "run"]));
    assert_eq!(out.ok().out(), "run\n");
}

#[test]
fn wrong_values_are_refused() {
    let file = Path::new("/nowhere/lock");
    for seconds in ["", ".", "1e3", "-1", "x", "1.0000000001", "1.5s", "99999999999"] {
        let says = if seconds.is_empty() { "\"\"" } else { seconds };
        let says = format!("{says}: not a number of seconds");
        refuses(&mut lock(&["-w", seconds], file, &["true"])).says(&says);
    }
    for status in ["", "256", "-1", "x"] {
        refuses(&mut lock(&["-E", status], file, &["true"]))
            .says(": not an exit status from 0 to 255");
    }
    refuses(&mut td("td-lock", ["--key"])).says("--key: this option needs a value");
    refuses(&mut td("td-lock", [] as [&str; 0])).says("FILE is missing");
    refuses(&mut td("td-lock", ["file"])).says("PROG is missing");
}

#[test]
fn a_lock_that_no_process_has_is_told_from_others() {
    let dir = TempDir::new();
    let path = dir.file("lock", "");
    let file = fs::File::options().write(true).open(&path).expect("the file");
    // SAFETY: all of it are numbers.
    let mut whole: libc::flock = unsafe { std::mem::zeroed() };
    whole.l_type = libc::F_WRLCK as i16;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
    // SAFETY: a structure that outlives the call.
    check(unsafe { libc::fcntl(fd, libc::F_OFD_SETLK, &raw const whole) }).expect("a lock");
    let output = refuses(&mut lock(&["-n", "--key", "it"], &path, &["echo", "run"]));
    output.says("is locked by an open file description, or from another machine");
}

#[test]
fn a_dry_run_makes_nothing() {
    let dir = TempDir::new();
    let file = dir.join("a/lock");
    for (options, call) in [
        (&[][..], "flock(10, LOCK_EX|LOCK_NB)"),
        (&["-n", "--key", "it"], "F_SETLK, {l_type=F_WRLCK, "),
    ] {
        let options = [options, &["--dry-run", "--mkdir"]].concat();
        // The next tool is told of a lock that was not taken.
        let prog = ["td-exec", "td-lock", "other", "echo", "run"];
        let out = run(&mut lock(&options, &file, &prog)).ok().out();
        for part in ["mkdirat(", "O_CREAT", call, "\"--lock=", "execve("] {
            assert!(out.contains(part), "{part}: {out}");
        }
    }
    assert!(!dir.join("a").exists() && !Path::new("other").exists());
}

mod root {
    use super::*;

    #[test]
    fn the_parent_of_td_unshare_has_it_and_no_end_of_the_child_but_its_own_frees_it() {
        must_be_root();
        let dir = TempDir::new();
        let file = dir.join("lock");
        let script = "echo in; sh -c 'exec true'; read x; exec sh -c 'echo on; exec sleep 1000'";
        let prog = ["td-unshare", "--pid", "sh", "-c", script];
        let mut cmd = lock(&["--key", "name"], &file, &prog);
        cmd.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let running = start_with(&mut cmd);
        running.prints("in");
        let says = format!("is locked by process {} (td-unshare)", running.pid());
        let refused = || refuses(&mut lock(&["-n", "--key", "name"], &file, &["true"])).says(&says);
        refused();
        let child = children_of(running.pid())[0];
        fs::write(format!("/proc/{child}/fd/0"), "\n").expect("its input");
        running.prints("on");
        refused();
        kill(child, libc::SIGKILL);
        running.wait().exits(128 + libc::SIGKILL);
        assert!(is_free(&["--key", "name"], &file));
    }

    #[test]
    fn a_holder_outside_of_the_pid_namespace_has_no_pid() {
        must_be_root();
        let dir = TempDir::new();
        let file = dir.join("lock");
        let inside = |options: &[&str]| {
            let _first = holder(options, &file);
            let inner = lock(&[&["-n"], options].concat(), &file, &["echo", "run"]);
            let mut cmd = Command::new("unshare");
            cmd.args(["-pf", "--mount-proc"]);
            refuses(cmd.arg(inner.get_program()).args(inner.get_args()))
        };
        inside(&["--key", "it"]).says("is locked by a process of another pid namespace");
        inside(&[]).says("lock is locked: /proc/locks does not show by whom");
    }

    #[test]
    fn without_proc_the_pid_is_all_that_is_said() {
        private_mounts();
        let dir = TempDir::new();
        let file = dir.join("lock");
        let first = holder(&["--key", "it"], &file);
        let inner = lock(&["-n", "--key", "it"], &file, &["echo", "run"]);
        let mut cmd = Command::new("unshare");
        cmd.args(["-m", "sh", "-c", "umount -l /proc && exec \"$@\"", "sh"]);
        let output = refuses(cmd.arg(inner.get_program()).args(inner.get_args()));
        output.says(&format!("is locked by process {}\n", first.pid()));
    }

    #[test]
    fn closed_standard_streams_stay_closed_and_are_not_the_lock() {
        must_be_root();
        let dir = TempDir::new();
        let file = dir.join("lock");
        for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
            let mut cmd = sh(&format!("exec \"$@\" {closed}"));
            let inner = lock(&[], &file, &["sleep", "1000"]);
            cmd.arg("sh").arg(inner.get_program()).args(inner.get_args());
            let running = start(&mut cmd);
            named(running.pid(), "sleep");
            for fd in 0..10 {
                let link = fs::read_link(format!("/proc/{}/fd/{fd}", running.pid()));
                assert!(link.is_err() || link.is_ok_and(|path| path != file), "{fd} {closed}");
            }
            assert!(!is_free(&[], &file), "{closed}");
        }
    }

    #[test]
    fn on_a_read_only_file_system_a_file_is_locked_and_a_name_for_sharing_alone() {
        private_mounts();
        let dir = TempDir::new();
        let place = dir.dir("place");
        let file = dir.file("place/lock", "");
        let path = place.to_str().expect("a plain path");
        mount(["--bind", path, path]);
        mount(["-o", "remount,bind,ro", path]);
        let key = ["--key", "it"];
        refuses(&mut lock(&key, &file, &["echo", "run"])).says("EROFS").says("Read-only");
        refuses(&mut lock(&["--mkdir"], &place.join("a/lock"), &["true"])).says("EROFS");
        refuses(&mut lock(&["-s"], &place.join("missing"), &["true"])).says("EROFS");
        let shared = ["-s", "--key", "it"];
        let _first = holder(&shared, &file);
        assert!(is_free(&shared, &file));
        let _second = holder(&[], &file);
        assert!(!is_free(&["-s"], &file) && !flock_gets(&[], &file));
    }

    #[test]
    fn on_a_full_file_system_a_file_that_is_there_is_locked() {
        private_mounts();
        let dir = TempDir::new();
        let place = dir.dir("place");
        let path = place.to_str().expect("a plain path");
        mount(["-t", "tmpfs", "-o", "nr_inodes=2,size=4k", "tmpfs", path]);
        let file = dir.file("place/lock", "x");
        refuses(&mut lock(&[], &place.join("other"), &["echo", "run"])).says("ENOSPC");
        refuses(&mut lock(&["--mkdir"], &place.join("a/lock"), &["true"])).says("ENOSPC");
        let _first = holder(&[], &file);
        assert!(!is_free(&[], &file));
        assert_eq!(fs::read(&file).expect("the file"), b"x");
    }

    /// A command as an ordinary user, with a copy of the tool that this user may execute.
    fn as_user(dir: &TempDir, cmd: &Command) -> Command {
        let tool = dir.join("td-lock");
        if !tool.exists() {
            dir.program("td-lock", fs::read(bin("td-lock")).expect("the tool"));
        }
        let mut user = Command::new("setpriv");
        user.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        user.arg(tool).args(cmd.get_args());
        user
    }

    #[test]
    fn an_ordinary_user_is_told_whose_it_is_and_needs_no_more_than_to_read_it() {
        must_be_root();
        let dir = TempDir::new();
        chmod(dir.path(), 0o755);
        let file = dir.file("lock", "");
        chmod(&file, 0o644);
        let user = |options: &[&str], file: &Path| {
            refuses(&mut as_user(&dir, &lock(options, file, &["echo", "run"]))).says("EACCES")
        };
        user(&["--key", "it"], &file)
            .says("lock belongs to uid 0 (mode 0644); this process has uid 65534");
        let secret = dir.file("secret", "");
        chmod(&secret, 0o600);
        user(&[], &secret).says("secret belongs to uid 0 (mode 0600); this process has uid 65534");
        let says = format!("{} belongs to uid 0 (mode 0755)", dir.path().display());
        user(&[], &dir.join("missing")).says(&says);
        user(&["--mkdir"], &dir.join("a/missing"));
        let private = dir.dir("private");
        chmod(&private, 0o700);
        user(&[], &private.join("below/lock"))
            .says(&format!("uid 65534 may not search {}, which", private.display()));
        for options in [&["-s", "--key", "it"][..], &["-s"], &[]] {
            let held = lock(options, &file, &["sh", "-c", "echo in; exec sleep 1000"]);
            let running = start(&mut as_user(&dir, &held));
            running.prints("in");
            let options: Vec<_> = options.iter().copied().filter(|o| *o != "-s").collect();
            assert!(!is_free(&options, &file), "{options:?}");
        }
    }

    #[test]
    fn a_block_device_is_locked() {
        private_mounts();
        let dir = TempDir::new();
        let device = block_device(&dir);
        let _first = holder(&[], &device);
        assert!(!flock_gets(&[], &device));
    }

    /// Who has the lock while PROG runs.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Keeper {
        /// PROG, the process that td-lock was.
        Prog,
        /// The process that td-lock was, which waits; PROG has no descriptor of the file.
        Parent,
        /// It is refused.
        Nobody,
    }

    /// What stands between td-lock and PROG: each tool, and how it is told to do what.
    const BETWEEN: &[(&str, Keeper)] = &[
        ("td-cgroup {N}", Keeper::Prog),
        ("td-cgroup --stay {N} td-unshare --into-cgroup {N} --remove-cgroup {N}", Keeper::Parent),
        ("td-unshare", Keeper::Prog),
        ("td-unshare -m -u -r", Keeper::Prog),
        ("td-unshare -p", Keeper::Parent),
        ("td-unshare --rmdir {T}/none", Keeper::Parent),
        ("td-unshare -p -r -m --pid-file {T}/pid", Keeper::Parent),
        ("td-unshare -m td-overlay --lower /etc {T}/mnt", Keeper::Prog),
        ("td-unshare -m td-mount --tmpfs /tmp {T}/mnt", Keeper::Prog),
        ("td-unshare -m td-pivot {T}/image", Keeper::Nobody),
        ("td-unshare -m td-pivot {T}/image td-exec", Keeper::Nobody),
        ("td-unshare -m td-pivot {T}/image td-exec td-init", Keeper::Nobody),
        ("td-unshare -m -p td-pivot {T}/image", Keeper::Parent),
        ("td-init td-unshare -m td-pivot {T}/image", Keeper::Parent),
        ("td-unshare -m td-pivot --keep-fd 10 {T}/image td-exec", Keeper::Prog),
        ("td-exec", Keeper::Prog),
        ("td-exec --", Keeper::Prog),
        (
            "td-exec --user 12345:12345 --cap-keep none --no-new-privs --seccomp default",
            Keeper::Prog,
        ),
        ("td-exec td-exec td-unshare -u td-exec", Keeper::Prog),
        ("td-exec td-init", Keeper::Parent),
        ("td-tty", Keeper::Parent),
        (
            "td-tty --fd 9 td-unshare -p td-exec --keep-fd 9 --setsid td-tty --inside 9",
            Keeper::Parent,
        ),
        ("td-init td-exec --setsid td-exec", Keeper::Parent),
        ("td-unshare -u td-exec --user 12345:12345 --seccomp default td-init", Keeper::Parent),
        ("td-enter", Keeper::Prog),
        ("td-enter --net=/proc/self/ns/net -u=/proc/self/ns/uts", Keeper::Prog),
        ("td-enter --pid=/proc/self/ns/pid", Keeper::Parent),
        ("td-enter --pid=/proc/self/ns/pid -r={T}/image", Keeper::Parent),
        ("td-enter -r={T}/image", Keeper::Nobody),
        ("td-enter -m=/proc/self/ns/mnt", Keeper::Nobody),
        ("td-init td-enter -m=/proc/self/ns/mnt -r={T}/image", Keeper::Parent),
        ("td-lock {T}/other", Keeper::Prog),
        ("td-lock {T}/other td-exec td-lock --key other {T}/other", Keeper::Prog),
        ("td-lock --key other {T}/lock td-exec", Keeper::Prog),
        ("td-lock {T}/lock td-unshare -p td-lock --key other {T}/lock td-exec", Keeper::Parent),
    ];

    #[test]
    fn each_tool_behind_it_keeps_the_lock_or_refuses() {
        private_mounts();
        for tool in programs() {
            let stands = |line: &str| line.split(' ').any(|word| word == tool);
            assert!(BETWEEN.iter().any(|(line, _)| stands(line)), "{tool} has no line in BETWEEN");
        }
        for (i, (line, keeper)) in BETWEEN.iter().enumerate() {
            for key in [&[][..], &["--key", "it"]] {
                let cgroup = cgroups::Cgroup::new(&format!("lock{i}{}", key.len()));
                let dir = TempDir::new();
                dir.dir("mnt");
                if line.contains("{T}/image") {
                    image(&dir.dir("image"));
                }
                chmod(dir.path(), 0o755);
                let line = line.replace("{T}", text(dir.path())).replace("{N}", &cgroup.0);
                keeps(&dir.join("lock"), key, &line, *keeper);
            }
        }
    }

    /// PROG under a lock, behind the tools of `line`.
    #[track_caller]
    fn keeps(file: &Path, key: &[&str], line: &str, keeper: Keeper) {
        let line = format!("{line} sh -c");
        let prog: Vec<&str> = line.split(' ').chain(["echo in; exec sleep 1000"]).collect();
        let mut cmd = lock(key, file, &prog);
        if keeper == Keeper::Nobody {
            let output = refuses(&mut cmd).says("has its lock on descriptor 10\n");
            output.says("closing it would free the lock").says("whose parent keeps the lock");
            return;
        }
        let running = start(&mut cmd);
        running.prints("in");
        // The one kind is not taken for the other.
        let by_file = key.is_empty() || line.contains(&format!("td-lock {}", text(file)));
        assert!(!is_free(key, file), "{key:?} {line}");
        assert_eq!(flock_gets(&[], file), !by_file, "{key:?} {line}");
        let pid = running.pid();
        let mut last = pid;
        let mut below = Vec::new();
        while let Some(child) = children_of(last).first().copied() {
            below.push(child);
            last = child;
        }
        assert!(descriptors(pid, file) > 0, "{key:?} {line}");
        assert_eq!(below.is_empty(), keeper == Keeper::Prog, "{key:?} {line}: {below:?}");
        if !line.contains("td-lock") {
            for child in &below {
                assert_eq!(descriptors(*child, file), 0, "{key:?} {line}");
            }
        }
        kill(last, libc::SIGKILL);
        drop(running);
        assert!(is_free(key, file), "{key:?} {line}");
    }

    #[test]
    fn a_lock_that_is_told_of_and_is_not_there_is_refused() {
        must_be_root();
        let output = refuses(&mut td("td-exec", ["--lock=99", "echo", "run"])).says("EBADF");
        output.says("fcntl(99, F_GETFD)").says("td-exec: descriptor 99 is not open\n");
        for list in ["", "x", "-1", "99999999999", "99,"] {
            refuses(&mut td("td-exec", [&*format!("--lock={list}"), "echo", "run"]));
        }
    }
}
