//! td-lock.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
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
    let output = run(&mut lock(options, file, &["echo", "run"]));
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
    let output = refuses(&mut lock(&[], &file, &["echo", "run"]));
    let output = output.says("fcntl(").says("F_SETLK, {l_type=F_WRLCK, l_whence=SEEK_SET");
    let output = output.says("EAGAIN").says("--wait waits until it is free");
    output.says(&format!("{} is locked by process {} (sleep)", file.display(), first.pid()));
    let output = run(&mut lock(&["-E", "7"], &file, &["echo", "run"])).exits(7);
    assert_eq!(output.out(), "");
    assert_eq!(fs::read(&file).expect("the file"), b"", "nothing is written to it");
    assert_eq!(fs::metadata(&file).expect("the file").permissions().mode() & 0o7777, 0o600);
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
fn no_child_of_prog_has_it() {
    let dir = TempDir::new();
    let file = dir.join("lock");
    let script = "sleep 1000 >/dev/null 2>&1 & echo $!";
    let child = run(&mut lock(&[], &file, &["sh", "-c", script])).ok().out();
    let child: i32 = child.trim().parse().expect("a pid");
    assert!(is_alive(child));
    assert!(is_free(&[], &file));
    kill(child, libc::SIGKILL);
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
    let first = holder(&[], &file);
    let second = start(&mut lock(&["--wait"], &file, &["echo", "run"]));
    let third = start(&mut lock(&["--wait=50"], &file, &["echo", "run"]));
    waits(second.pid());
    assert_eq!(second.out() + &third.out(), "");
    drop(first);
    assert_eq!(second.wait().ok().out(), "run\n");
    assert_eq!(third.wait().ok().out(), "run\n");
}

#[test]
fn one_that_waits_dies_of_a_signal_as_any_program() {
    let dir = TempDir::new();
    let file = dir.join("lock");
    let _first = holder(&[], &file);
    let second = start(&mut lock(&["--wait"], &file, &["echo", "run"]));
    waits(second.pid());
    second.kill(libc::SIGTERM);
    assert_eq!(second.wait().signal, Some(libc::SIGTERM));
}

#[test]
fn one_that_waits_so_long_gives_up_and_is_told_who_has_it() {
    let dir = TempDir::new();
    let file = dir.join("lock");
    let first = holder(&[], &file);
    let says = format!("is locked by process {} (sleep)", first.pid());
    for options in [&["--wait=0.3"][..], &["-w", ".01"], &["-w", "0"], &["--wait=0.000000001"]] {
        refuses(&mut lock(options, &file, &["echo", "run"])).says("EAGAIN").says(&says);
    }
    let begun = std::time::Instant::now();
    refuses(&mut lock(&["--wait=0.3"], &file, &["true"]));
    assert!(begun.elapsed() >= Duration::from_millis(300));
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
    assert!(!is_free(&[], &file), "the whole of it is not free");
    drop(first);
    assert!(is_free(&["--key", "a"], &file));
    assert_eq!(fs::metadata(&file).expect("the file").len(), 0);
}

#[test]
fn two_in_a_chain_both_hold() {
    let dir = TempDir::new();
    let file = dir.join("lock");
    let other = dir.join("other");
    let path = |file: &Path| file.to_str().expect("a plain path").to_string();
    let (file_path, other_path) = (path(&file), path(&other));
    let inner = ["td-lock", &other_path, "td-lock", "--key", "b", &file_path];
    let prog = [&inner[..], &["sh", "-c", "echo in; exec sleep 1000"]].concat();
    let running = start(&mut lock(&["--key", "a"], &file, &prog));
    running.prints("in");
    assert!(!is_free(&["--key", "a"], &file));
    assert!(!is_free(&["--key", "b"], &file));
    assert!(is_free(&["--key", "c"], &file));
    assert!(!is_free(&[], &other));
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
    let all: Vec<Running> = (0..50).map(|_| start(&mut lock(&[], &file, &script))).collect();
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
    let options = |i| if i % 2 == 0 { ["--wait"] } else { ["--wait=50"] };
    let all = (0..50).map(|i| start(&mut lock(&options(i), &file, &prog)));
    for running in all.collect::<Vec<_>>() {
        running.wait().ok();
    }
}

#[test]
fn to_wait_for_one_another_is_refused() {
    let dir = TempDir::new();
    let (a, b) = (dir.join("a"), dir.join("b"));
    let go = dir.join("go");
    let script = "echo in; while ! test -e \"$2\"; do :; done; exec \"$0\" --wait \"$1\" echo run";
    let tool = bin("td-lock");
    let crossed = |file, other: &Path| {
        let words = [tool.as_path(), other, go.as_path()].map(|p| p.to_str().expect("plain"));
        start(&mut lock(&[], file, &[&["sh", "-c", script], &words[..]].concat()))
    };
    let (first, second) = (crossed(&a, &b), crossed(&b, &a));
    first.prints("in");
    second.prints("in");
    dir.file("go", "");
    let ended = [first.wait(), second.wait()];
    let (refused, got): (Vec<_>, Vec<_>) = ended.into_iter().partition(|o| o.code == Some(125));
    assert_eq!((refused.len(), got[0].code), (1, Some(0)), "{refused:?} {got:?}");
    let says = "the holder waits, itself or by others, for a lock that this process has";
    let output = refused.into_iter().next().expect("one").says("EDEADLK").says(says);
    output.says("is locked by process ").says("have all of them take their locks in one order");
}

#[test]
fn mkdir_makes_what_is_missing_and_leaves_nothing_where_it_fails() {
    let dir = TempDir::new();
    let file = dir.join("a/b/lock");
    let output = refuses(&mut lock(&[], &file, &["echo", "run"]));
    let says = format!("there is no {} in this root", dir.join("a/b").display());
    output.says("ENOENT").says(&says).says("--mkdir makes it");
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
fn what_is_no_file_of_ones_own_is_refused_by_name() {
    let dir = TempDir::new();
    let refused = |file: &Path, why: &str| {
        for options in [&[][..], &["-s"]] {
            refuses(&mut lock(options, file, &["echo", "run"]))
                .says(&format!("{} {why}", file.display()));
        }
    };
    refused(dir.path(), "is a directory");
    symlink("target", dir.join("link")).expect("a link");
    refused(&dir.join("link"), "is a link");
    assert!(!dir.join("target").exists());
    run(Command::new("mkfifo").arg(dir.join("fifo"))).ok();
    refused(&dir.join("fifo"), "is no regular file");
    let _listener = std::os::unix::net::UnixListener::bind(dir.join("socket")).expect("a socket");
    refused(&dir.join("socket"), "is no regular file");
    dir.file("plain", "");
    for (name, says) in [
        ("plain/lock", "plain is no directory"),
        ("plain/a/lock", "there is a file in the place of a directory"),
    ] {
        refuses(&mut lock(&[], &dir.join(name), &["echo", "run"])).says("ENOTDIR").says(says);
    }
    let says = "lead in a circle";
    symlink("circle", dir.join("circle")).expect("a link");
    refuses(&mut lock(&[], &dir.join("circle/lock"), &["echo", "run"])).says("ELOOP").says(says);
}

#[test]
fn a_file_that_may_be_written_and_not_made_is_opened_without_making_it() {
    let dir = TempDir::new();
    let path = dir.file("lock", "");
    // As root is refused the file of another in a directory for all, where fs.protected_regular is set.
    let options = ["-P", path.to_str().expect("plain"), "-e", "inject=openat:error=EACCES:when=1"];
    let (output, processes) = strace::strace(&options, &lock(&[], &path, &["echo", "run"]));
    assert_eq!(output.ok().out(), "run\n");
    let opened: Vec<_> = processes[0].calls.iter().filter(|call| call.name == "openat").collect();
    assert_eq!(opened.len(), 2, "{opened:?}");
    assert_eq!(opened[0].result, "-1 EACCES");
}

#[test]
fn without_a_number_for_its_descriptor_it_says_so() {
    let dir = TempDir::new();
    let file = dir.join("lock");
    let mut cmd = sh("ulimit -n 9; exec \"$@\"");
    let inner = lock(&[], &file, &["echo", "run"]);
    let output = refuses(cmd.arg("sh").arg(inner.get_program()).args(inner.get_args()));
    output.says("EINVAL").says("the lock is on a descriptor from 10 up, and RLIMIT_NOFILE is 9");
}

#[test]
fn wrong_values_are_refused() {
    let file = Path::new("/nowhere/lock");
    for seconds in ["", ".", "1e3", "-1", "x", "1.0000000001", "1.5s", "99999999999"] {
        let says = if seconds.is_empty() { "\"\"" } else { seconds };
        let says = format!("{says}: this is no number of seconds");
        refuses(&mut lock(&["-w", seconds], file, &["true"])).says(&says);
    }
    for status in ["", "256", "-1", "x"] {
        refuses(&mut lock(&["-E", status], file, &["true"])).says(": an exit status is 0 to 255");
    }
    refuses(&mut td("td-lock", ["--key"])).says("--key: its value is missing");
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
    let output = refuses(&mut lock(&[], &path, &["echo", "run"]));
    output.says("is locked by an open file description, or from another machine");
}

#[test]
fn a_dry_run_makes_nothing() {
    let dir = TempDir::new();
    let file = dir.join("a/lock");
    let out = run(&mut lock(&["--dry-run", "--mkdir"], &file, &["echo", "run"])).ok().out();
    for part in ["mkdirat(", "O_CREAT", "F_SETLK, {l_type=F_WRLCK, ", "execve("] {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert!(!dir.join("a").exists());
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
        refuses(&mut lock(&["--key", "name"], &file, &["true"])).says(&says);
        let child = children_of(running.pid())[0];
        fs::write(format!("/proc/{child}/fd/0"), "\n").expect("its input");
        running.prints("on");
        refuses(&mut lock(&["--key", "name"], &file, &["true"])).says(&says);
        kill(child, libc::SIGKILL);
        running.wait().exits(128 + libc::SIGKILL);
        assert!(is_free(&["--key", "name"], &file));
    }

    #[test]
    fn a_holder_outside_of_the_pid_namespace_has_no_pid() {
        must_be_root();
        let dir = TempDir::new();
        let file = dir.join("lock");
        let _first = holder(&[], &file);
        let inner = lock(&[], &file, &["echo", "run"]);
        let mut cmd = td("td-unshare", ["--pid"]);
        let output = refuses(cmd.arg(inner.get_program()).args(inner.get_args()));
        output.says("is locked by a process of another pid namespace");
    }

    #[test]
    fn without_proc_the_pid_is_all_that_is_said() {
        private_mounts();
        let dir = TempDir::new();
        let file = dir.join("lock");
        let first = holder(&[], &file);
        let inner = lock(&[], &file, &["echo", "run"]);
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
    fn on_a_read_only_file_system_a_shared_one_is_held() {
        private_mounts();
        let dir = TempDir::new();
        let place = dir.dir("place");
        let file = dir.file("place/lock", "");
        let path = place.to_str().expect("a plain path");
        mount(["--bind", path, path]);
        mount(["-o", "remount,bind,ro", path]);
        refuses(&mut lock(&[], &file, &["echo", "run"])).says("EROFS").says("Read-only");
        refuses(&mut lock(&["--mkdir"], &place.join("a/lock"), &["true"])).says("EROFS");
        refuses(&mut lock(&["-s"], &place.join("missing"), &["true"])).says("EROFS");
        let _first = holder(&["-s"], &file);
        assert!(is_free(&["-s"], &file));
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
        user(&[], &file).says("lock belongs to uid 0 (mode 0644), we are 65534");
        let says = format!("{} belongs to uid 0 (mode 0755)", dir.path().display());
        user(&[], &dir.join("missing")).says(&says);
        user(&["--mkdir"], &dir.join("a/missing"));
        let private = dir.dir("private");
        chmod(&private, 0o700);
        user(&[], &private.join("below/lock")).says("may not be searched");
        let shared = lock(&["-s"], &file, &["sh", "-c", "echo in; exec sleep 1000"]);
        let running = start(&mut as_user(&dir, &shared));
        running.prints("in");
        assert!(!is_free(&[], &file));
        drop(running);
        let tool = dir.join("td-lock");
        let path = [&tool, &file].map(|path| path.to_str().expect("a plain path"));
        let again = lock(&["-s"], &file, &[&path[..], &["echo", "run"]].concat());
        let output = refuses(&mut as_user(&dir, &again)).says("EBADF");
        output.says("was open already, and not for writing");
    }
}
