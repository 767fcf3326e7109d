//! Sockets, and the interfaces that are set up by one.

use std::cell::Cell;
use std::ffi::c_int;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::say::error::Error;
use crate::say::flags;
use crate::sys::arg::Arg;
use crate::sys::context::Cx;
use crate::sys::raw::{fd, flags, name, nr, owned};
use crate::sys::structs::*;

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
