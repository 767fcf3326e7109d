//! A lock that stands for a word: of a byte of a file, by fcntl(2). The lock of a container's name is the truth about
//! what runs.

use std::ffi::CStr;
use std::os::fd::AsFd;

use syscalls::Errno;

use crate::cgroup::tree;
use crate::directories::Place;
use crate::error::Error;
use crate::structs::Flock;
use crate::sys::{self, Cx};

/// The byte that stands for a word, which the file need not have: a hash of 62 bits, FNV-1a. A file for each
/// name would have to be removed some day, and who waits for a lock on a removed file has one on nothing.
pub fn place(word: &CStr) -> i64 {
    let hash = word.to_bytes().iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash >> 2) as i64
}

/// Who holds the lock of `word` in a file, without taking it: the pid, and where there is none what F_GETLK says in
/// its place, see [`Flock`]. `None`: nobody, or the caller.
pub fn holder(cx: &Cx, file: &Place, word: &CStr) -> Result<Option<i32>, Error> {
    let opened = match file.open(cx) {
        Err(e) if e.is(Errno::ENOENT) => return Ok(None),
        other => other?,
    };
    let Some(opened) = opened else {
        return Err(Error::refusal([&file.shown(), " is not a regular file"].concat()));
    };
    let wanted = Flock::new(libc::F_WRLCK, place(word), 1);
    let found = sys::fcntl_getlk(cx, opened.as_fd(), wanted)?;
    Ok(if found.is_free() { None } else { Some(found.pid) })
}

/// What is locked, and by whom: `x is locked by process 12 (y)`.
pub fn why(cx: &Cx, what: &str, holder: i32) -> String {
    let by = match holder {
        1.. => [" is locked by process ", &tree::names(cx, &[holder])].concat(),
        0 => " is locked by a process of another pid namespace".into(),
        _ => " is locked by an open file description, or from another machine".into(),
    };
    [what, &by].concat()
}
