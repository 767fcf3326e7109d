//! Namespaces: made, joined, asked about, and what is set in one.

use std::cell::Cell;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::say::error::Error;
use crate::say::flags;
use crate::sys::arg::Arg;
use crate::sys::context::Cx;
use crate::sys::raw::{fd, name, nr};
use crate::sys::structs::*;

/// `unshare(flags)`: unshare(2).
pub fn unshare(cx: &Cx, bits: u64) -> Result<(), Error> {
    cx.change(nr::unshare, &[Arg::Flags(bits, flags::CLONE)])?;
    cx.mounts_change();
    Ok(())
}

/// `setns(fd, nstype)`: setns(2). `fd` is a namespace, or a pidfd (Linux 5.8): then all the kinds in
/// `bits` are joined, the user namespace first, or none.
pub fn setns(cx: &Cx, file: BorrowedFd, bits: u64) -> Result<(), Error> {
    cx.change(nr::setns, &[fd(file), Arg::Flags(bits, flags::CLONE)])?;
    cx.enters_namespaces(bits, false);
    Ok(())
}

/// `sethostname(name, len)`: sethostname(2).
pub fn sethostname(cx: &Cx, text: &[u8]) -> Result<(), Error> {
    cx.change(nr::sethostname, &[Arg::Bytes(text)]).map(drop)
}

/// `ioctl(ns, NS_GET_USERNS)`: ioctl_ns(2). The user namespace that owns a namespace. EPERM: it is
/// neither ours nor below ours, so that our capabilities do not reach it.
pub fn ns_get_userns(cx: &Cx, ns: BorrowedFd) -> Result<OwnedFd, Error> {
    let request = name(libc::NS_GET_USERNS as i64, flags::IOCTL);
    cx.read_fd(nr::ioctl, &[fd(ns), request])
}

/// `ioctl(ns, NS_GET_OWNER_UID, &uid)`: ioctl_ns(2). Who has made a user namespace.
pub fn ns_get_owner_uid(cx: &Cx, ns: BorrowedFd) -> Result<u32, Error> {
    let uid = Cell::new(Number(0));
    let request = name(libc::NS_GET_OWNER_UID as i64, flags::IOCTL);
    cx.read(nr::ioctl, &[fd(ns), request, Arg::Out(&uid)])?;
    Ok(uid.get().0)
}

/// `ioctl(ns, NS_GET_NSTYPE)`: ioctl_ns(2). Which kind of namespace it is: CLONE_NEW*. ENOTTY: none.
pub fn ns_get_nstype(cx: &Cx, ns: BorrowedFd) -> Result<u64, Error> {
    let request = name(libc::NS_GET_NSTYPE as i64, flags::IOCTL);
    cx.read(nr::ioctl, &[fd(ns), request]).map(|kind| kind as u64)
}
