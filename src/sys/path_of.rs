//! The path that a call was given, for whoever looks for the cause of its failure.

use std::os::fd::RawFd;

use crate::say::error::{Subject, Use};
use crate::say::show::ACCESS_MODE;
use crate::sys::arg::Arg;
use crate::sys::raw::{Call, nr};

/// The directory that a path begins at, and the path. An empty path is the file that is open. Calls that other
/// functions explain have none here: execve(2), pivot_root(2), and openat2(2), whose paths do not begin at our root.
pub(in crate::sys) fn path_of(call: Call, args: &[Arg]) -> Option<(RawFd, Subject)> {
    let is = |other: Call| call.0 == other.0;
    if [nr::execve, nr::execveat, nr::pivot_root, nr::openat2].into_iter().any(is) {
        return None;
    }
    if is(nr::write) {
        let written = Subject { path: c"".into(), used: Use::Write, follows: true };
        return args.first().and_then(file).map(|fd| (fd, written));
    }
    // The first path of symlinkat(2) is what the link says; of renameat2(2) both are in the same directory, and of
    // mount(2) the second is mounted on.
    let at = args.iter().rposition(|arg| matches!(arg, Arg::Path(_)))?;
    let Some(&Arg::Path(path)) = args.get(at) else { return None };
    let dirfd = at.checked_sub(1).and_then(|before| file(args.get(before)?));
    let (used, follows) = used(call, args);
    Some((dirfd.unwrap_or(libc::AT_FDCWD), Subject { path: path.into(), used, follows }))
}

/// What the call does with the file, and whether it follows a link at the end.
fn used(call: Call, args: &[Arg]) -> (Use, bool) {
    let is = |other: Call| call.0 == other.0;
    let flags = args.iter().find_map(|arg| match *arg {
        Arg::Open(flags) => Some(flags as i32),
        _ => None,
    });
    if let Some(flags) = flags {
        let used = match flags & ACCESS_MODE {
            _ if flags & libc::O_CREAT != 0 => Use::Open,
            _ if flags & libc::O_PATH != 0 => Use::Find,
            libc::O_RDONLY => Use::Read,
            _ => Use::Write,
        };
        return (used, flags & libc::O_NOFOLLOW == 0);
    }
    if is(nr::chdir) || is(nr::chroot) {
        return (Use::Enter, true);
    }
    if [nr::mkdirat, nr::mknodat, nr::symlinkat].into_iter().any(is) {
        return (Use::Create, false);
    }
    if [nr::unlinkat, nr::renameat2].into_iter().any(is) {
        return (Use::Remove, false);
    }
    let nofollow = libc::AT_SYMLINK_NOFOLLOW as u64;
    let stays = args.iter().any(|arg| matches!(arg, Arg::Flags(bits, _) if bits & nofollow != 0));
    (Use::Find, !(is(nr::readlinkat) || stays))
}

fn file(arg: &Arg) -> Option<RawFd> {
    match *arg {
        Arg::Fd(fd) => Some(fd),
        _ => None,
    }
}
