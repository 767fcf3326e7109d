//! Making directories that are missing.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;

use syscalls::Errno;

use crate::error::Error;
use crate::sys::{self, Cx, cstring};

/// Make the directory `path` and the parents that are missing, all of them with mode 0700, and append
/// them to `made`, a parent first. Returns whether `path` itself was made.
pub fn make(cx: &Cx, path: &CStr, made: &mut Vec<CString>) -> Result<bool, Error> {
    let mut is_new = false;
    for directory in missing(cx, path, made)? {
        match sys::mkdirat(cx, None, &directory, 0o700) {
            // Another was quicker, and it is theirs.
            Err(e) if e.is(Errno::EEXIST) => {
                is_new = false;
                continue;
            }
            other => other?,
        }
        is_new = true;
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let opened = sys::openat_made(cx, None, &directory, flags);
        made.push(directory);
        // The umask, a default ACL or a set-group-id parent may have made 0700 something else.
        sys::fchmod(cx, opened?.as_fd(), 0o700)?;
    }
    Ok(is_new)
}

/// What is missing of `path`, a parent first. In a dry run what is in `made` is taken to be there.
fn missing(cx: &Cx, path: &CStr, made: &[CString]) -> Result<Vec<CString>, Error> {
    let mut missing = Vec::new();
    let mut rest = path.to_bytes();
    while let Some(end) = rest.iter().rposition(|b| *b != b'/') {
        rest = rest.get(..=end).unwrap_or_default();
        let directory = cstring(rest);
        match sys::statx(cx, None, &directory, 0) {
            Err(e) if e.is(Errno::ENOENT) && !made.contains(&directory) => missing.push(directory),
            Err(e) if !e.is(Errno::ENOENT) => return Err(e),
            _ => break,
        }
        rest = rest.rsplitn(2, |b| *b == b'/').nth(1).unwrap_or_default();
    }
    missing.reverse();
    Ok(missing)
}
