//! What is set in a namespace, and sockets.

use std::cell::Cell;
use std::ffi::c_int;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::say::error::Error;
use crate::say::flags;
use crate::sys::arg::Arg;
use crate::sys::context::Cx;
use crate::sys::raw::{fd, flags, name, nr, owned};
use crate::sys::structs::*;

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

/// `socket(AF_INET, SOCK_DGRAM, 0)`: socket(2), for requests about interfaces.
pub fn socket_inet(cx: &Cx) -> Result<OwnedFd, Error> {
    let args = [
        name(libc::AF_INET, flags::AF),
        flags(libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, flags::SOCK),
        name(libc::IPPROTO_IP, flags::IPPROTO),
    ];
    cx.change_fd(nr::socket, &args)
}

/// `socketpair(AF_UNIX, SOCK_STREAM, 0, sv)`: socketpair(2). Two sockets: what is written to the one is
/// read from the other. `bits` may have SOCK_NONBLOCK.
pub fn socketpair(cx: &Cx, bits: c_int) -> Result<(OwnedFd, OwnedFd), Error> {
    let pair = Cell::new(FdPair([0; 2]));
    let args = [
        name(libc::AF_UNIX, flags::AF),
        flags(libc::SOCK_STREAM | libc::SOCK_CLOEXEC | bits, flags::SOCK),
        Arg::Size(0),
        Arg::Out(&pair),
    ];
    cx.change(nr::socketpair, &args)?;
    if cx.dry() {
        return Ok((cx.stand_in()?, cx.stand_in()?));
    }
    let FdPair([first, second]) = pair.get();
    Ok((owned(first as usize), owned(second as usize)))
}

/// `sendto(socket, buf, len, MSG_NOSIGNAL, NULL, 0)`: send(2). EPIPE: the other end is closed.
pub fn sendto(cx: &Cx, socket: BorrowedFd, bytes: &[u8]) -> Result<(), Error> {
    let bits = flags(libc::MSG_NOSIGNAL, flags::MSG);
    let args = [fd(socket), Arg::Bytes(bytes), bits, Arg::Null, Arg::Size(0)];
    cx.change(nr::sendto, &args).map(drop)
}

/// `ioctl(socket, SIOCSIFFLAGS, {name, flags})`: netdevice(7).
pub fn set_interface_flags(cx: &Cx, socket: BorrowedFd, request: &IfReq) -> Result<(), Error> {
    let set = name(libc::SIOCSIFFLAGS as i64, flags::IOCTL);
    cx.change(nr::ioctl, &[fd(socket), set, Arg::In(request)]).map(drop)
}
