//! What a dry run uses in place of what this step, or an earlier one, would have created.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};

use syscalls::Errno;

use crate::say::error::Error;
use crate::sys::{self, Cx};

/// A descriptor for a dry run, in place of what an earlier step would have created.
pub fn stand_in(cx: &Cx) -> Result<OwnedFd, Error> {
    sys::openat(cx, None, c"/", libc::O_PATH)
}

/// What was `opened`; in a dry run a stand-in for what does not exist.
pub fn or_stand_in(cx: &Cx, opened: Result<OwnedFd, Error>) -> Result<OwnedFd, Error> {
    match opened {
        Err(e) if e.is(Errno::ENOENT) && cx.dry() => stand_in(cx),
        other => other,
    }
}

/// Open a file or directory of the caller, which an earlier step may have to make.
pub fn open_source(cx: &Cx, path: &CStr) -> Result<OwnedFd, Error> {
    or_stand_in(cx, sys::openat(cx, None, path, libc::O_PATH))
}

/// Open what this step has made.
pub fn open_made(cx: &Cx, dir: BorrowedFd, name: &CStr) -> Result<OwnedFd, Error> {
    match cx.dry() {
        true => stand_in(cx),
        false => sys::openat(cx, Some(dir), name, libc::O_PATH | libc::O_NOFOLLOW),
    }
}
