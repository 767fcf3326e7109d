//! The processes that /proc shows, looked at after a failure: who has a file open, and how many a user has. One that
//! ends meanwhile, or that may not be looked at, is left out.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use syscalls::Errno;

use crate::say::error::Error;
use crate::say::number::{decimal, int};
use crate::say::show::{self, plain};
use crate::say::text::split;
use crate::sys::proc::{self, path};
use crate::sys::structs::Statx;
use crate::sys::{self, Cx};

/// A directory of /proc, and the numbers in it, which its entries are named by.
struct Numbers {
    dir: OwnedFd,
    all: Vec<i32>,
}

impl Numbers {
    fn of(cx: &Cx, at: sys::At, directory: &CStr) -> Result<Numbers, Error> {
        let dir = sys::openat(cx, at, directory, libc::O_RDONLY | libc::O_DIRECTORY)?;
        let mut all = Vec::new();
        sys::for_each_entry(cx, dir.as_fd(), &mut |name, _| {
            all.extend(int(name.to_bytes()));
            Ok(())
        })?;
        Ok(Numbers { dir, all })
    }

    /// A file below one of them.
    fn read(&self, cx: &Cx, number: i32, file: &str) -> Option<Vec<u8>> {
        let file = path(&[&show::number(number as u64), file]);
        sys::read_file(cx, Some(self.dir.as_fd()), &file).ok()
    }
}

/// Every process, where a proc is mounted.
fn processes(cx: &Cx) -> Option<Numbers> {
    let proc = proc::root(cx).ok()?;
    Numbers::of(cx, Some(proc.as_fd()), c".").ok()
}

/// The processes that have a file open for writing, three of them at most: `process 7 (cat)`. `None`: none is seen.
pub fn writers(cx: &Cx, file: &Statx) -> Option<String> {
    let processes = processes(cx)?;
    let mut found = String::new();
    let mut count = 0;
    for &pid in &processes.all {
        if count < 3 && writes(cx, &processes, pid, file) == Some(true) {
            let name = processes.read(cx, pid, "/comm").unwrap_or_default();
            let name = plain(name.trim_ascii());
            let pid = show::number(pid as u64);
            let before = if found.is_empty() { "process " } else { ", process " };
            found = [&found, before, &pid, " (", &name, ")"].concat();
            count += 1;
        }
    }
    (count > 0).then_some(found)
}

/// Does a process have it open for writing?
fn writes(cx: &Cx, processes: &Numbers, pid: i32, file: &Statx) -> Option<bool> {
    let pid = show::number(pid as u64);
    let files = Numbers::of(cx, Some(processes.dir.as_fd()), &path(&[&pid, "/fdinfo"])).ok()?;
    Some(files.all.iter().any(|fd| {
        let info = files.read(cx, *fd, "").unwrap_or_default();
        let number = |name| proc::line(&info, name).unwrap_or_default();
        // Whether it is that file of the same number on that file system is asked only then.
        may_write(&number(b"flags:\t")) && decimal(&number(b"ino:\t")) == Some(file.ino) && {
            let link = path(&[&pid, "/fd/", &show::number(*fd as u64)]);
            let stat = sys::statx(cx, Some(processes.dir.as_fd()), &link, 0);
            stat.is_ok_and(|stat| stat.same_file(file))
        }
    }))
}

/// Do the flags of an open file, in octal, let it be written to?
fn may_write(flags: &[u8]) -> bool {
    let digit = |at: usize| flags.iter().rev().nth(at).map_or(0, |digit| digit & 7);
    let is_path = digit(7) & 1 != 0; // O_PATH: 010000000
    !is_path && digit(0) & 3 != 0
}

/// How many processes and threads there are.
#[derive(Debug, Default, PartialEq)]
pub struct Count {
    /// Of the user, by the real user id.
    pub of_user: u64,
    pub all: u64,
}

/// How many of them are there, by what /proc shows? `None`: no proc is mounted.
pub fn count(cx: &Cx, uid: u32) -> Option<Count> {
    let processes = processes(cx)?;
    let mut count = Count::default();
    for &pid in &processes.all {
        count.add(&processes.read(cx, pid, "/status").unwrap_or_default(), uid);
    }
    Some(count)
}

impl Count {
    /// A process, by its `/proc/PID/status`.
    fn add(&mut self, status: &[u8], uid: u32) {
        let threads = proc::line(status, b"Threads:\t").and_then(|n| decimal(&n)).unwrap_or(0);
        self.all = self.all.saturating_add(threads);
        if real_uid(status) == Some(uid) {
            self.of_user = self.of_user.saturating_add(threads);
        }
    }
}

/// The real user id in a `/proc/PID/status`.
pub fn real_uid(status: &[u8]) -> Option<u32> {
    let uids = proc::line(status, b"Uid:\t")?;
    split(&uids, b'\t').next().and_then(decimal).and_then(|uid| u32::try_from(uid).ok())
}

/// Does process 1 of the pid namespace `ns`, which is below that of /proc, live? `None`: it cannot be seen.
pub fn first_lives(cx: &Cx, ns: &Statx) -> Option<bool> {
    let processes = processes(cx)?;
    let own = depth(&sys::read_file(cx, None, c"/proc/self/status").ok()?);
    let mut unseen = false;
    for &pid in &processes.all {
        let link = path(&[&show::number(pid as u64), "/ns/pid"]);
        match sys::statx(cx, Some(processes.dir.as_fd()), &link, 0) {
            Ok(stat) if stat.same_file(ns) => {
                let status = processes.read(cx, pid, "/status")?;
                let pids = proc::line(&status, b"NSpid:\t")?;
                if split(&pids, b'\t').next_back() == Some(b"1") {
                    return Some(!proc::line(&status, b"State:\t")?.starts_with(b"Z"));
                }
            }
            // Only one that has more pids than we have can be in it.
            Err(e) if e.is(Errno::EACCES) || e.is(Errno::EPERM) => {
                unseen |= depth(&processes.read(cx, pid, "/status")?) > own;
            }
            _ => {} // of another namespace, or it has ended
        }
    }
    (!unseen).then_some(false)
}

/// In how many pid namespaces a process has a pid, by its `/proc/PID/status`.
fn depth(status: &[u8]) -> usize {
    split(&proc::line(status, b"NSpid:\t").unwrap_or_default(), b'\t').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_file_may_be_written_to_by_its_access_mode() {
        for flags in ["0100001", "0100002", "02100002", "1", "2"] {
            assert!(may_write(flags.as_bytes()), "{flags}");
        }
        for flags in ["0100000", "012100000", "010000002", "0", ""] {
            assert!(!may_write(flags.as_bytes()), "{flags}");
        }
    }

    #[test]
    fn threads_are_counted_by_the_real_user() {
        let mut count = Count::default();
        count.add(b"Name:\tx\nUid:\t7\t0\t0\t0\nThreads:\t3\n", 7);
        count.add(b"Name:\tx\nUid:\t0\t7\t7\t7\nThreads:\t2\n", 7);
        for odd in [&b""[..], b"Uid:\t7\t7\t7\t7\n", b"Threads:\tx\n", b"Uid:\tx\nThreads:\t1\n"] {
            count.add(odd, 7);
        }
        assert_eq!(count, Count { of_user: 3, all: 6 });
    }
}
