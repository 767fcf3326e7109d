//! Mounts that are not attached yet: new file systems, and copies; and why one is not created, copied or moved.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use syscalls::Errno;

use crate::ids::caps::CAP_SYS_ADMIN;
use crate::ids::user_namespace;
use crate::root::locked::{self, why_locked};
use crate::root::mountinfo::{Mount, list, list_in};
use crate::say::error::Error;
use crate::say::show::{ascii, plain};
use crate::sys::structs::MountAttr;
use crate::sys::{self, Cx, FsConfig};

/// The mounts of this mount namespace, even if no proc is mounted.
pub fn own_list(cx: &Cx) -> Result<Vec<Mount>, Error> {
    list_in(cx, own_proc(cx)?.as_fd(), c"mountinfo")
}

/// `/proc/self`, or if no proc is mounted that of a new proc that is not attached: so a failure in an initramfs has its
/// cause too. It has the directories of the other processes beside it, as `../1`.
pub fn own_proc(cx: &Cx) -> Result<OwnedFd, Error> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    sys::openat(cx, None, c"/proc/self", flags).or_else(|_| {
        let proc = new_fs(cx, c"proc", &[], 0)?;
        sys::openat(cx, Some(proc.as_fd()), c"self", flags)
    })
}

/// A parameter of a file system, for fsconfig(2): a key, and a value or none.
pub type Parameter<'a> = (&'a CStr, Option<&'a CStr>);

/// A new file system of type `fsname` with `options` on a mount with the
/// attributes `attr` (MOUNT_ATTR_*), which is nowhere yet. A failure has the kernel's own words.
pub fn new_fs(cx: &Cx, fsname: &CStr, options: &[Parameter], attr: u64) -> Result<OwnedFd, Error> {
    let config = sys::fsopen(cx, fsname)?;
    let commands = options.iter().map(|&(key, value)| match value {
        Some(value) => FsConfig::String(key, value),
        None => FsConfig::Flag(key),
    });
    for command in commands.chain([FsConfig::Create]) {
        sys::fsconfig(cx, config.as_fd(), command).map_err(|e| fs_log(cx, config.as_fd(), e))?;
    }
    sys::fsmount(cx, config.as_fd(), attr).map_err(|e| fs_log(cx, config.as_fd(), e))
}

/// Add what the kernel wrote into the log of a configuration (fsopen(2)) to an error: one message a
/// read, `e ` before an error, `w ` before a warning.
pub fn fs_log(cx: &Cx, config: BorrowedFd, mut error: Error) -> Error {
    let mut message = [0; 1024];
    while let Ok(n @ 1..) = sys::read(cx, config, &mut message) {
        let text = ascii(message.get(..n).unwrap_or_default());
        let text = text.get(2..).unwrap_or_default().trim_ascii_end();
        error = error.because(format_args!("the kernel says: {text}"));
    }
    error
}

/// A copy of the mount at an open file, and of all below it, which is nowhere yet. All of it gets the
/// attributes `set` (MOUNT_ATTR_*) and loses those of `clear`. It is private, so that what is mounted
/// below it later reaches nobody else.
pub fn copy_tree(cx: &Cx, file: BorrowedFd, set: u64, clear: u64) -> Result<OwnedFd, Error> {
    let flags = libc::OPEN_TREE_CLONE | (libc::AT_EMPTY_PATH | libc::AT_RECURSIVE) as u32;
    let tree = sys::open_tree(cx, Some(file), c"", flags).map_err(|e| why_no_copy(cx, file, e))?;
    // The access time setting is one value out of several, so the old one must be cleared before the new one is set.
    let times = if set & libc::MOUNT_ATTR_NOATIME != 0 { libc::MOUNT_ATTR__ATIME } else { 0 };
    let attr_clr = clear | times;
    let attr = MountAttr { attr_set: set, attr_clr, propagation: libc::MS_PRIVATE, userns_fd: 0 };
    sys::mount_setattr(cx, tree.as_fd(), libc::AT_RECURSIVE, attr)
        .map_err(|e| why_locked(cx, file, tree.as_fd(), attr, e))?;
    Ok(tree)
}

/// Why a mount cannot be copied: look at it.
fn why_no_copy(cx: &Cx, file: BorrowedFd, error: Error) -> Error {
    let _looking = cx.looking();
    if !error.is(Errno::EINVAL) {
        return why(cx, error);
    }
    let (Ok(mounts), Ok(stat)) = (list(cx, c"/proc/self/mountinfo"), sys::fstatx(cx, file)) else {
        return error;
    };
    match mounts.iter().find(|m| m.id == stat.mnt_id) {
        None => error.because("the source is not in this mount namespace"),
        Some(m) if m.unbindable => {
            error.because(format_args!("the mount on {} is unbindable", plain(m.point)))
        }
        Some(_) => error,
    }
}

/// Why what is mounted on `source` cannot be moved: look at it, at what holds it, and at the target.
pub fn why_not_moved(
    cx: &Cx,
    source: &CStr,
    mount: BorrowedFd,
    target: BorrowedFd,
    error: Error,
) -> Error {
    let _looking = cx.looking();
    let (Ok(from), Ok(to)) = (sys::fstatx(cx, mount), sys::fstatx(cx, target)) else {
        return error;
    };
    let shown = plain(source.to_bytes());
    if !from.is_mount_root() {
        return error
            .because(format_args!("{shown} is not a mount point"))
            .way_out(format_args!("bind it instead: td-mount --bind {shown} DST"));
    }
    let Ok(mounts) = own_list(cx) else { return why(cx, error) };
    let find = |id| mounts.iter().find(|mount| mount.id == id);
    if error.is(Errno::ELOOP) {
        let mut above = Some(to.mnt_id);
        while above.is_some_and(|id| id != from.mnt_id) {
            above = above.and_then(find).filter(|m| m.id != m.parent).map(|mount| mount.parent);
        }
        return match above {
            Some(_) => error.because(format_args!("the target lies below {shown} itself")),
            None => error,
        };
    }
    match find(from.mnt_id).map(|mount| find(mount.parent)) {
        _ if !error.is(Errno::EINVAL) => why(cx, error),
        None => error.because("the source is not in this mount namespace"),
        Some(Some(parent)) if parent.shared => error
            .because(format_args!("the mount that holds {shown} is shared"))
            .way_out("run it inside td-unshare --mount, or make that mount private first"),
        _ => {
            match find(from.mnt_id).and_then(|mount| locked::because(cx, &mounts, mount, &shown)) {
                Some(why) => error
                    .because(why)
                    .way_out(format_args!("bind it instead: td-mount --bind {shown} DST")),
                None => error,
            }
        }
    }
}

/// Why a mount, old or new, was refused: look at our rights.
pub fn why(cx: &Cx, error: Error) -> Error {
    let _looking = cx.looking();
    if !error.is(Errno::EPERM) {
        return error;
    }
    if sys::capget(cx).is_ok_and(|caps| caps.effective() >> CAP_SYS_ADMIN & 1 == 0) {
        return error
            .because("this process has no CAP_SYS_ADMIN")
            .way_out("run it inside td-unshare --map-root-user --mount");
    }
    if user_namespace::is_foreign(cx, c"/proc/self/ns/mnt") {
        return error
            .because("the mount namespace belongs to another user namespace")
            .way_out("run it inside td-unshare --mount");
    }
    error
}

/// Detach a mount by its descriptor: no path leads to one that is covered. Changes the directory.
pub fn detach(cx: &Cx, mount: BorrowedFd) -> Result<(), Error> {
    sys::fchdir(cx, mount)?;
    sys::umount2(cx, c".", libc::MNT_DETACH)
}
