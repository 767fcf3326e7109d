//! Mounts, and file systems that are not mounted yet.

use std::ffi::{CStr, c_int};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::say::error::Error;
use crate::say::flags;
use crate::sys::arg::Arg;
use crate::sys::calls::files::read_file;
use crate::sys::context::Cx;
use crate::sys::raw::{At, Call, at, fd, flags, name, nr};
use crate::sys::structs::*;

/// `mount(source, target, fstype, flags, data)`: mount(2). Where `data` is of no use it is NULL.
pub fn mount(
    cx: &Cx,
    source: Option<&CStr>,
    target: &CStr,
    fstype: Option<&CStr>,
    bits: libc::c_ulong,
    data: Option<&CStr>,
) -> Result<(), Error> {
    let args = [
        source.map_or(Arg::Null, Arg::Path),
        Arg::Path(target),
        fstype.map_or(Arg::Null, Arg::Str),
        Arg::Flags(bits, flags::MS),
        data.map_or(Arg::Null, Arg::Str),
    ];
    change_mounts(cx, nr::mount, &args)
}

/// `umount2(target, flags)`: umount(2).
pub fn umount2(cx: &Cx, target: &CStr, flag: c_int) -> Result<(), Error> {
    change_mounts(cx, nr::umount2, &[Arg::Path(target), flags(flag, flags::UMOUNT)])
}

/// `pivot_root(new_root, put_old)`: pivot_root(2), change the root mount.
pub fn pivot_root(cx: &Cx, new_root: &CStr, put_old: &CStr) -> Result<(), Error> {
    change_mounts(cx, nr::pivot_root, &[Arg::Path(new_root), Arg::Path(put_old)])
}

/// `fsopen(fsname, FSOPEN_CLOEXEC)`: fsopen(2), Linux 5.2. A configuration of a new file system,
/// whose descriptor can be read for the kernel's own words when a later call fails.
pub fn fsopen(cx: &Cx, fsname: &CStr) -> Result<OwnedFd, Error> {
    let cloexec = flags(libc::FSOPEN_CLOEXEC, flags::FSOPEN);
    cx.change_fd(nr::fsopen, &[Arg::Str(fsname), cloexec])
}

/// One command of fsconfig(2).
pub enum FsConfig<'a> {
    /// A parameter without a value.
    Flag(&'a CStr),
    /// A parameter with text, of at most 255 bytes.
    String(&'a CStr, &'a CStr),
    /// A parameter that is a file. Overlay: Linux 6.13.
    Fd(&'a CStr, BorrowedFd<'a>),
    /// Make the superblock.
    Create,
}

/// `fsconfig(fd, cmd, key, value, aux)`: fsconfig(2), Linux 5.2.
pub fn fsconfig(cx: &Cx, config: BorrowedFd, command: FsConfig) -> Result<(), Error> {
    let (cmd, key, value, aux) = match command {
        FsConfig::Flag(key) => (libc::FSCONFIG_SET_FLAG, Arg::Str(key), Arg::Null, 0),
        FsConfig::String(key, value) => {
            (libc::FSCONFIG_SET_STRING, Arg::Str(key), Arg::Str(value), 0)
        }
        FsConfig::Fd(key, file) => {
            (libc::FSCONFIG_SET_FD, Arg::Str(key), Arg::Null, file.as_raw_fd())
        }
        FsConfig::Create => (libc::FSCONFIG_CMD_CREATE, Arg::Null, Arg::Null, 0),
    };
    let args = [fd(config), name(cmd, flags::FSCONFIG), key, value, Arg::Int(aux.into())];
    cx.change(nr::fsconfig, &args).map(drop)
}

/// `fsmount(fd, FSMOUNT_CLOEXEC, attr)`: fsmount(2), Linux 5.2. A mount that is not attached yet.
pub fn fsmount(cx: &Cx, config: BorrowedFd, attr: u64) -> Result<OwnedFd, Error> {
    let cloexec = flags(libc::FSMOUNT_CLOEXEC, flags::FSMOUNT);
    cx.change_fd(nr::fsmount, &[fd(config), cloexec, Arg::Flags(attr, flags::MOUNT_ATTR)])
}

/// `open_tree(dirfd, path, flags)`: open_tree(2), Linux 5.2. With OPEN_TREE_CLONE, a copy of the mount that is not
/// attached yet; with AT_RECURSIVE, also of the mounts below it.
pub fn open_tree(cx: &Cx, dirfd: At, path: &CStr, bits: u32) -> Result<OwnedFd, Error> {
    let bits = flags(bits | libc::OPEN_TREE_CLOEXEC, flags::OPEN_TREE);
    cx.change_fd(nr::open_tree, &[at(dirfd), Arg::Path(path), bits])
}

/// `move_mount(from_fd, "", to_fd, "", …)`: move_mount(2), Linux 5.2. Attach a mount, both by
/// descriptor, so that no path is looked up twice.
pub fn move_mount(cx: &Cx, from: BorrowedFd, to: BorrowedFd) -> Result<(), Error> {
    let empty = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    let empty = flags(empty, flags::MOVE_MOUNT);
    let args = [fd(from), Arg::Path(c""), fd(to), Arg::Path(c""), empty];
    change_mounts(cx, nr::move_mount, &args)
}

/// `mount_setattr(fd, "", flags, attr, size)`: mount_setattr(2), Linux 5.12. With AT_RECURSIVE in
/// `flag`, of the mounts below too.
pub fn mount_setattr(
    cx: &Cx,
    mount: BorrowedFd,
    flag: c_int,
    attr: MountAttr,
) -> Result<(), Error> {
    let args = [
        fd(mount),
        Arg::Path(c""),
        flags(flag | libc::AT_EMPTY_PATH, flags::AT),
        Arg::InSized(&attr),
    ];
    change_mounts(cx, nr::mount_setattr, &args)
}

/// A call after which [`mountinfo`] reads otherwise.
fn change_mounts(cx: &Cx, call: Call, args: &[Arg]) -> Result<(), Error> {
    cx.mounts_change();
    cx.change(call, args).map(drop)
}

/// The text of `/proc/self/mountinfo`. It is read again only after this process has changed a mount, entered a
/// namespace, cloned or waited, because the kernel takes some microseconds for each mount.
pub fn mountinfo(cx: &Cx) -> Result<&'static [u8], Error> {
    if let Some(text) = cx.mountinfo.get() {
        return Ok(text);
    }
    let text = read_file(cx, None, c"/proc/self/mountinfo")?.leak();
    cx.mountinfo.set(Some(text));
    Ok(text)
}
