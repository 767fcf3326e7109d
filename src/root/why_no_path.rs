//! Why a path cannot be used: the component that failed, found by walking the path as the kernel does
//! (path_resolution(7)), or what the file there, its directory and its file system refuse.

mod refused;
mod walk;

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use syscalls::Errno;

use crate::say::error::{Error, Subject, Use};
use crate::say::number::decimal;
use crate::say::show::{self, number, plain};
use crate::say::text::split;
use crate::sys::structs::Statx;
use crate::sys::{self, Cx, cstring, proc};
use refused::End;
use walk::{Fault, Looks, Walk};

/// What a path can show the cause of.
const SHOWN: [Errno; 13] = [
    Errno::ENOENT,
    Errno::ENOTDIR,
    Errno::EISDIR,
    Errno::EEXIST,
    Errno::ELOOP,
    Errno::ENAMETOOLONG,
    Errno::EACCES,
    Errno::EPERM,
    Errno::EROFS,
    Errno::ENOSPC,
    Errno::EDQUOT,
    Errno::EOVERFLOW,
    Errno::ETXTBSY,
];

/// A failed call with the cause that its path shows, if it does.
pub fn explained(cx: &Cx, error: Error) -> Error {
    match error.path().cloned() {
        Some(subject) => why(&Start::here(cx), &subject, error),
        None => error,
    }
}

/// A failed call with the cause that `subject` shows, a path that begins at `start`. An errno that has another cause, or
/// none that can be seen, is left as it is.
pub fn why(start: &Start, subject: &Subject, error: Error) -> Error {
    let Some(errno) = error.errno().filter(|errno| SHOWN.contains(errno)) else { return error };
    let _looking = start.cx.looking();
    let path = subject.path.to_bytes();
    let end = |path, stat| End { start, path, stat, subject };
    let why = match Walk::new(start).go(path, subject.follows) {
        Ok(stat) => end(path, Some(stat)).why_refused(errno),
        // That a file does not exist is what a call that creates it is for.
        Err(Fault { missing: Some(missing), .. })
            if matches!(subject.used, Use::Open | Use::Create) =>
        {
            end(&missing, None).why_refused(errno)
        }
        Err(fault) => fault.why.filter(|_| fault.errno == errno),
    };
    match why {
        Some(why) => error.because(why),
        None => error,
    }
}

/// What keeps a path from leading to a file, as statx(2) has `looked` for it: for those who add more to it.
pub fn why_unreachable(cx: &Cx, path: &CStr, looked: &Error) -> String {
    let _looking = cx.looking();
    let found = Walk::new(&Start::here(cx)).go(path.to_bytes(), true);
    let why = found.err().filter(|fault| looked.is(fault.errno)).and_then(|fault| fault.why);
    why.unwrap_or_else(|| {
        let errno = looked.errno().map_or(String::new(), |e| [": ", &show::errno(e)].concat());
        [&plain(path.to_bytes()), " cannot be examined", &errno].concat()
    })
}

/// Where a path begins, and how it is looked up.
pub struct Start<'a> {
    cx: &'a Cx,
    /// The directory in which it stays whatever it says, how a message calls that, and RESOLVE_*: openat2(2).
    root: Option<(BorrowedFd<'a>, &'a [u8], u64)>,
}

impl<'a> Start<'a> {
    /// In the working directory, or at the root.
    pub fn here(cx: &'a Cx) -> Start<'a> {
        Start { cx, root: None }
    }

    /// In the directory `root`, which a message calls `name`, and on the conditions `resolve`.
    pub fn within(cx: &'a Cx, root: BorrowedFd<'a>, name: &'a [u8], resolve: u64) -> Start<'a> {
        Start { cx, root: Some((root, name, resolve)) }
    }

    /// Open a path only as a place.
    fn open(&self, path: &[u8], flags: i32) -> Result<OwnedFd, Error> {
        let (path, flags) = (cstring(path), flags | libc::O_PATH);
        match self.root {
            Some((root, _, resolve)) => sys::openat2(self.cx, root, &path, flags, resolve),
            None => sys::openat(self.cx, None, &path, flags),
        }
    }
}

impl Looks for Start<'_> {
    fn stat(&self, path: &[u8], follow: bool) -> Result<Statx, Error> {
        self.cx.expects(&[Errno::ENOENT, Errno::EACCES, Errno::ELOOP, Errno::ENAMETOOLONG]);
        if self.root.is_none() {
            let flags = if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
            return sys::statx(self.cx, None, &cstring(path), flags);
        }
        let file = self.open(path, if follow { 0 } else { libc::O_NOFOLLOW })?;
        sys::fstatx(self.cx, file.as_fd())
    }

    fn link(&self, path: &[u8]) -> Result<Vec<u8>, Error> {
        if self.root.is_none() {
            return sys::readlinkat(self.cx, None, &cstring(path));
        }
        let link = self.open(path, libc::O_NOFOLLOW)?;
        sys::readlinkat(self.cx, Some(link.as_fd()), c"")
    }

    fn shown(&self, path: &[u8]) -> String {
        let Some((_, name, _)) = self.root else { return plain(path) };
        let Some(start) = path.iter().position(|byte| *byte != b'/') else { return plain(name) };
        let name = name.strip_suffix(b"/").unwrap_or(name);
        plain(&[name, b"/", path.get(start..).unwrap_or_default()].concat())
    }

    fn place(&self) -> &'static str {
        if self.root.is_some() { "" } else { " in this root" }
    }

    fn who(&self) -> String {
        match id(self.cx, b"Uid:\t") {
            Some(uid) => ["uid ", &number(uid.into())].concat(),
            None => "this process".into(),
        }
    }
}

/// The effective id of a line of /proc/self/status, which a step may have changed.
fn id(cx: &Cx, line: &[u8]) -> Option<u32> {
    let ids = proc::status(cx, line)?;
    decimal(split(&ids, b'\t').nth(1)?).and_then(|id| u32::try_from(id).ok())
}
