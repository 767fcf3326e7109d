//! Locks: of a file, by flock(2), and of a byte that stands for a name, by fcntl(2). The lock of a container's name
//! tells whether the container is running. The two types do not exclude each other.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use syscalls::Errno;

use crate::cgroup::tree;
use crate::root::directories::Place;
use crate::say::error::Error;
use crate::say::number::{decimal, hexadecimal};
use crate::say::show::number;
use crate::say::text::{lines, split};
use crate::sys::structs::{Flock, Statx};
use crate::sys::{self, Cx, cstring};

/// The byte that stands for a word; it need not exist in the file: a hash of 62 bits, FNV-1a. A separate file for each
/// name would have to be removed at some time, and a process that waits for a lock on a removed file would then lock
/// nothing.
pub fn place(word: &CStr) -> i64 {
    let hash = word.to_bytes().iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash >> 2) as i64
}

/// Find out who holds the lock of `word` in a file, without taking it: the pid, or what F_GETLK returns if there is no
/// pid, see [`Flock`]. `None`: nobody, or the caller.
pub fn holder(cx: &Cx, file: &Place, word: &CStr) -> Result<Option<i32>, Error> {
    // Opening the file and closing it would release the locks of this process on it: fcntl(2).
    if let Some(held) = held(cx, file)? {
        return ask(cx, held, word);
    }
    let opened = match file.open(cx) {
        Err(e) if e.is(Errno::ENOENT) => return Ok(None),
        other => other?,
    };
    let Some(opened) = opened else {
        return Err(Error::refusal([&file.shown(), " is not a regular file"].concat()));
    };
    ask(cx, opened.as_fd(), word)
}

fn ask(cx: &Cx, file: BorrowedFd, word: &CStr) -> Result<Option<i32>, Error> {
    let wanted = Flock::new(libc::F_WRLCK, place(word), 1);
    let found = sys::fcntl_getlk(cx, file, wanted)?;
    Ok(if found.is_free() { None } else { Some(found.pid) })
}

/// The descriptor of the file on which a td-lock before us in the chain has its lock.
fn held(cx: &Cx, file: &Place) -> Result<Option<BorrowedFd<'static>>, Error> {
    if cx.locks().is_empty() {
        return Ok(None);
    }
    let directory = Some(file.directory.as_fd());
    match sys::statx(cx, directory, &file.name, libc::AT_SYMLINK_NOFOLLOW) {
        Err(e) if e.is(Errno::ENOENT) => Ok(None),
        other => same(cx, &other?),
    }
}

/// The descriptor of a td-lock before us in the chain that has locked this file.
pub fn same(cx: &Cx, file: &Statx) -> Result<Option<BorrowedFd<'static>>, Error> {
    for &fd in cx.locks() {
        let Ok(lock) = sys::inherited_fd(cx, fd) else { continue };
        if sys::fstatx(cx, lock)?.same_file(file) {
            return Ok(Some(lock));
        }
    }
    Ok(None)
}

/// What is locked, and by whom: `x is locked by process 12 (y)`.
pub fn why(cx: &Cx, what: &str, holder: i32) -> String {
    let _looking = cx.looking();
    let by = match holder {
        1.. => [" is locked by process ", &tree::names(cx, &[holder])].concat(),
        0 => " is locked by a process of another pid namespace".into(),
        _ => " is locked by an open file description, or from another machine".into(),
    };
    [what, &by].concat()
}

/// What is locked by flock(2), and by whom. The kernel does not name the holder of such a lock.
pub fn why_held(cx: &Cx, what: &str, file: &Statx) -> String {
    let _looking = cx.looking();
    let Some(pid) = owner(cx, file) else {
        return [what, " is locked: /proc/locks does not show by whom"].concat();
    };
    let owner = tree::names(cx, &[pid]);
    match descriptors(cx, pid, file) {
        Ok(0) => [
            what,
            " was locked by process ",
            &owner,
            ", which has closed it: a process that inherited the descriptor has the lock",
        ]
        .concat(),
        Err(e) if e.is(Errno::ENOENT) => [
            what,
            " was locked by process ",
            &owner,
            ", which has ended: a process that inherited the descriptor has the lock",
        ]
        .concat(),
        _ => [what, " is locked by process ", &owner].concat(),
    }
}

/// Does this process itself hold the flock(2) lock of a file, on another descriptor than the one that it has just
/// opened?
pub fn is_own(cx: &Cx, file: &Statx) -> bool {
    let own = sys::readlinkat(cx, None, c"/proc/self").ok().and_then(|own| decimal(&own));
    let owner = owner(cx, file).filter(|owner| own == Some(*owner as u64));
    owner.is_some_and(|pid| descriptors(cx, pid, file).is_ok_and(|count| count > 1))
}

/// The process that took the flock(2) lock of a file, if /proc shows it: proc_locks(5). It may have ended, and a
/// process that inherited the descriptor may hold the lock.
fn owner(cx: &Cx, file: &Statx) -> Option<i32> {
    let locks = sys::read_file(cx, None, c"/proc/locks").ok()?;
    lines(&locks).find_map(|line| parse(line, file)).map(|pid| pid as i32)
}

/// `1: FLOCK  ADVISORY  WRITE 12 fe:01:131 0 EOF`. One that waits has a `->` after the number.
fn parse(line: &[u8], file: &Statx) -> Option<u64> {
    let mut words = split(line, b' ').filter(|word| !word.is_empty()).skip(1);
    if words.next()? != b"FLOCK" {
        return None;
    }
    let (pid, id) = (words.nth(2)?, words.next()?);
    let mut id = split(id, b':');
    let device = [hexadecimal(id.next()?)?, hexadecimal(id.next()?)?];
    let is_it = device == [file.dev_major.into(), file.dev_minor.into()];
    (is_it && decimal(id.next()?)? == file.ino).then(|| decimal(pid)).flatten()
}

/// How many descriptors of a file a process has open. ENOENT: it has ended. EACCES: it is another user's.
fn descriptors(cx: &Cx, pid: i32, file: &Statx) -> Result<usize, Error> {
    let path = cstring(["/proc/", &number(pid as u64), "/fd"].concat());
    let directory = sys::openat(cx, None, &path, libc::O_RDONLY | libc::O_DIRECTORY)?;
    let mut count = 0;
    let add = &mut |name: &CStr, _| {
        let open = sys::statx(cx, Some(directory.as_fd()), name, 0);
        count += usize::from(open.is_ok_and(|open| open.same_file(file)));
        Ok(())
    };
    sys::for_each_entry(cx, directory.as_fd(), add).map(|()| count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_taken_the_lock_of_a_file_is_in_a_line_of_proc_locks() {
        let mut file = Statx::default();
        (file.dev_major, file.dev_minor, file.ino) = (0xfe, 1, 131);
        let found = |line: &str| parse(line.as_bytes(), &file);
        assert_eq!(found("1: FLOCK  ADVISORY  WRITE 12 fe:01:131 0 EOF"), Some(12));
        assert_eq!(found("12: FLOCK  ADVISORY  READ  0 fe:01:131 0 EOF"), Some(0));
        for line in [
            "",
            "1:",
            "1: FLOCK",
            "1: -> FLOCK  ADVISORY  WRITE 12 fe:01:131 0 EOF",
            "1: POSIX  ADVISORY  WRITE 12 fe:01:131 0 EOF",
            "1: FLOCK  ADVISORY  WRITE 12 fe:02:131 0 EOF",
            "1: FLOCK  ADVISORY  WRITE 12 fe:01:13 0 EOF",
            "1: FLOCK  ADVISORY  WRITE x fe:01:131 0 EOF",
        ] {
            assert_eq!(found(line), None, "{line}");
        }
    }
}
