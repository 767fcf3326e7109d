//! The path that a call was given, for whoever looks for the cause of its failure.

use std::ffi::CStr;
use std::os::fd::RawFd;

use crate::say::error::Use;
use crate::say::show::ACCESS_MODE;
use crate::sys::arg::Arg;
use crate::sys::raw::{Call, nr};

/// The directory that a path begins at, the path, and what the call does with the file there. An empty path is the
/// file that is open. Calls that other functions explain have none here: execve(2), pivot_root(2).
pub(in crate::sys) fn path_of<'a>(call: Call, args: &[Arg<'a>]) -> Option<(RawFd, &'a CStr, Use)> {
    let is = |other: Call| call.0 == other.0;
    if is(nr::execve) || is(nr::execveat) || is(nr::pivot_root) {
        return None;
    }
    if is(nr::write) {
        return args.first().and_then(file).map(|fd| (fd, c"", Use::Write));
    }
    // Of two paths the second is the one that is created, or that is mounted on.
    let at = args.iter().rposition(|arg| matches!(arg, Arg::Path(_)))?;
    let Some(&Arg::Path(path)) = args.get(at) else { return None };
    let dirfd = at.checked_sub(1).and_then(|before| file(args.get(before)?));
    let flags = args.iter().find_map(|arg| match *arg {
        Arg::Open(flags) => Some(flags as i32),
        _ => None,
    });
    let used = match flags {
        Some(flags) if flags & libc::O_CREAT != 0 => Use::Name,
        Some(flags) if flags & libc::O_PATH != 0 => Use::Find,
        Some(flags) if flags & ACCESS_MODE != libc::O_RDONLY => Use::Write,
        Some(_) => Use::Read,
        None if is(nr::chdir) || is(nr::chroot) => Use::Enter,
        None if [nr::mkdirat, nr::mknodat, nr::symlinkat, nr::unlinkat, nr::renameat2]
            .into_iter()
            .any(is) =>
        {
            Use::Name
        }
        None => Use::Find,
    };
    Some((dirfd.unwrap_or(libc::AT_FDCWD), path, used))
}

fn file(arg: &Arg) -> Option<RawFd> {
    match *arg {
        Arg::Fd(fd) => Some(fd),
        _ => None,
    }
}
