//! Opening a file to lock it, at a descriptor number that PROG does not use, and without closing another descriptor of
//! the same file.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use syscalls::Errno;

use crate::root::directories::{self, Made, Place};
use crate::root::why_no_path::why_unreachable;
use crate::say::error::Error;
use crate::say::flags;
use crate::say::show::plain;
use crate::sys::structs::Statx;
use crate::sys::{self, At, Cx};

/// A file that is to be locked.
pub struct LockFile {
    pub path: CString,
    /// By a byte of it, see [`crate::process::lock::place`]: it is a regular file, and no link is followed to it.
    pub by_byte: bool,
    /// For a shared lock.
    pub shared: bool,
    /// Make its directory where it is missing.
    pub mkdir: bool,
}

/// A shell that is PROG opens its files at lower numbers: `exec 3>x` would close what is there.
const LOWEST: RawFd = 10;

/// Use up the lower descriptors, so that FILE is opened at its final number: closing any descriptor of a file releases
/// every fcntl(2) lock that this process has on it.
fn fill(cx: &Cx) -> Result<Vec<OwnedFd>, Error> {
    let why = |e| why_no_number(cx, e);
    let mut fillers = vec![sys::openat(cx, None, c"/", libc::O_PATH).map_err(why)?];
    while let Some(last) = fillers.last().filter(|last| last.as_raw_fd() < LOWEST - 1) {
        let next = sys::fcntl_dupfd(cx, last.as_fd(), 0).map_err(why)?;
        fillers.push(next);
    }
    Ok(fillers)
}

/// Open FILE, for flock(2) with this access, at a number that PROG will not close. FILE is not removed when a later
/// step fails: another process may be waiting for it, and would then have a lock on a removed file while a third
/// process locks a new one.
pub fn open(cx: &Cx, file: &LockFile, access: i32) -> Result<BorrowedFd<'static>, Error> {
    let mut made = Vec::new();
    let opened = open_or_make(cx, file, access, &mut made).inspect_err(|_| {
        directories::undo(cx, &made).unwrap_or_else(|error| cx.say(&error));
    })?;
    sys::leave_to_prog(cx, opened)
}

fn open_or_make(
    cx: &Cx,
    file: &LockFile,
    access: i32,
    made: &mut Vec<Made>,
) -> Result<OwnedFd, Error> {
    // td creates a directory only if no other user can redirect the path to it.
    let place = match file.mkdir {
        true => Some(Place::make(cx, None, &file.path, made)?),
        false => None,
    };
    let directory = place.as_ref().map(|place| place.directory.as_fd());
    let name = place.as_ref().map_or(&file.path, |place| &place.name);
    let _fillers = fill(cx)?;
    let opened = match file.by_byte {
        true => open_to_write(cx, file, directory, name)?,
        false => open_as_it_is(cx, file, directory, name, access)?,
    };
    match unfit(file, &sys::fstatx(cx, opened.as_fd())?).filter(|_| !cx.dry()) {
        Some(what) => Err(Error::refusal([&plain(file.path.to_bytes()), what].concat())),
        None => Ok(opened),
    }
}

/// Do not wait for a FIFO, and do not let a terminal become our controlling terminal.
const FLAGS: i32 = libc::O_NONBLOCK | libc::O_NOCTTY;

/// For flock(2), read permission is enough to lock a file. A symbolic link is followed to an existing file, and no file
/// is created through a link.
fn open_as_it_is(
    cx: &Cx,
    file: &LockFile,
    directory: At,
    name: &CStr,
    access: i32,
) -> Result<OwnedFd, Error> {
    let opened = match sys::openat(cx, directory, name, access | FLAGS) {
        Err(e) if e.is(Errno::ENOENT) => {
            sys::openat_create(cx, directory, name, access | FLAGS | libc::O_NOFOLLOW, 0o600)
        }
        other => other,
    };
    opened.map_err(|e| why(cx, file, e))
}

/// Follow no link: in a directory that others can write to, another user could make us lock a different file of ours.
fn open_to_write(cx: &Cx, file: &LockFile, directory: At, name: &CStr) -> Result<OwnedFd, Error> {
    let flags = FLAGS | libc::O_NOFOLLOW;
    let opened = sys::openat_create(cx, directory, name, libc::O_RDWR | flags, 0o600);
    opened.or_else(|error| {
        // A shared lock does not need write permission. And in a directory that others may write to, not even root may
        // open an existing file with O_CREAT: proc_sys_fs(5), protected_regular.
        let access = if file.shared { libc::O_RDONLY } else { libc::O_RDWR };
        sys::openat(cx, directory, name, access | flags).map_err(|_| why(cx, file, error))
    })
}

/// The directory that FILE is in, if it is not the working directory.
fn parent(file: &CStr) -> Option<CString> {
    let path = file.to_bytes();
    let slash = path.iter().rposition(|b| *b == b'/')?;
    CString::new(path.get(..slash.max(1))?).ok()
}

/// Why there is no descriptor where we want one.
fn why_no_number(cx: &Cx, error: Error) -> Error {
    if !error.is(Errno::EMFILE) {
        return error;
    }
    let _looking = cx.looking();
    match sys::getrlimit(cx, libc::RLIMIT_NOFILE as u64, flags::RLIMIT) {
        Ok(limit) => {
            let most = limit.soft;
            let what = format!(
                "the lock needs a descriptor numbered {LOWEST} or above, and RLIMIT_NOFILE is {most}"
            );
            error.because(what).way_out("raise it: ulimit -n")
        }
        Err(_) => error,
    }
}

/// Why FILE was not opened.
fn why(cx: &Cx, file: &LockFile, error: Error) -> Error {
    let _looking = cx.looking();
    let shown = plain(file.path.to_bytes());
    if error.is(Errno::EMFILE) {
        return why_no_number(cx, error);
    }
    let mut stat = match sys::statx(cx, None, &file.path, libc::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(_) => return why_not_made(cx, file, error),
    };
    if stat.file_type() == libc::S_IFLNK && !file.by_byte {
        stat = match sys::statx(cx, None, &file.path, 0) {
            Err(e) if e.is(Errno::ENOENT) => stat,
            Err(e) => return error.because(why_unreachable(cx, &file.path, &e)),
            Ok(target) => target,
        };
    }
    match unfit(file, &stat) {
        Some(what) => error.because([&shown, what].concat()),
        None if error.is(Errno::EACCES) => why_refused(cx, &shown, &stat, error),
        None => error,
    }
}

/// Why this file cannot be locked.
fn unfit(file: &LockFile, stat: &Statx) -> Option<&'static str> {
    match (stat.file_type(), file.by_byte) {
        (libc::S_IFREG, _) | (libc::S_IFDIR | libc::S_IFBLK, false) => None,
        (libc::S_IFLNK, false) => Some(" is a symbolic link to a file that does not exist"),
        (_, false) => Some(" is not a regular file, a directory or a block device"),
        (libc::S_IFLNK, true) => Some(" is a symbolic link, which --key does not follow"),
        (libc::S_IFDIR, true) => Some(" is a directory, in which --key has no byte to lock"),
        (_, true) => Some(" is not a regular file"),
    }
}

/// Why FILE, which is not there, was not made.
fn why_not_made(cx: &Cx, file: &LockFile, error: Error) -> Error {
    let _looking = cx.looking();
    let directory = parent(&file.path).unwrap_or_else(|| CString::from(c"."));
    let shown = plain(directory.to_bytes());
    match sys::statx(cx, None, &directory, 0) {
        Ok(stat) if !stat.is_dir() => error.because(format_args!("{shown} is not a directory")),
        Ok(stat) if error.is(Errno::EACCES) => why_refused(cx, &shown, &stat, error),
        Ok(_) => error,
        Err(looked) => {
            let error = error.because(why_unreachable(cx, &file.path, &looked));
            if looked.is(Errno::ENOENT) { error.way_out("create it: --mkdir") } else { error }
        }
    }
}

/// Whose is it?
fn why_refused(cx: &Cx, shown: &str, stat: &Statx, error: Error) -> Error {
    let _looking = cx.looking();
    let (owner, mode, we) = (stat.uid, stat.permissions(), cx.start.euid);
    error.because(format_args!(
        "{shown} belongs to uid {owner} (mode {mode:04o}); this process has uid {we}"
    ))
}
