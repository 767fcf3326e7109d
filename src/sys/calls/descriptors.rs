//! Descriptors: their flags, locks and duplicates; terminals; memfds.

use std::cell::Cell;
use std::ffi::{CStr, c_int};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use crate::say::error::Error;
use crate::say::flags::{self};
use crate::say::show::Arg;
use crate::sys::door::Cx;
use crate::sys::raw::{fd, flags, name, nr, owned};
use crate::sys::structs::*;

/// `fcntl(fd, F_SETFD, flags)`: fcntl(2). 0 keeps the descriptor across execve(2). It may be a
/// number that the user gave, so that it is no `BorrowedFd`.
pub fn fcntl_setfd(cx: &Cx, fd: RawFd, flag: c_int) -> Result<(), Error> {
    let args = [Arg::Fd(fd), name(libc::F_SETFD, flags::FCNTL), flags(flag, flags::FD)];
    cx.change(nr::fcntl, &args).map(drop)
}

/// `fcntl(fd, F_GETFD)`: fcntl(2). Descriptor `fd`, if the caller has left it to us: then nothing closes
/// it. EBADF: there is none.
pub fn inherited_fd(cx: &Cx, fd: RawFd) -> Result<BorrowedFd<'static>, Error> {
    cx.read(nr::fcntl, &[Arg::Fd(fd), name(libc::F_GETFD, flags::FCNTL)])?;
    // SAFETY: it is open, and of none of our own descriptors the caller knows the number.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// As [`inherited_fd`], of one that an earlier step of the chain has made: a dry run takes it to be there.
pub fn inherited_fd_made(cx: &Cx, fd: RawFd) -> Result<BorrowedFd<'static>, Error> {
    if cx.dry() {
        // SAFETY: nothing is done with it but to print its number, which is not -1.
        return Ok(unsafe { BorrowedFd::borrow_raw(fd.max(0)) });
    }
    inherited_fd(cx, fd)
}

/// `fcntl(fd, F_DUPFD_CLOEXEC, lowest)`: fcntl(2). The same file at the lowest number that is free from `lowest`
/// up. It is ours alone, and a dry run makes it too, so that the calls after it have the right numbers. EMFILE: none
/// is free.
pub fn fcntl_dupfd(cx: &Cx, file: BorrowedFd, lowest: RawFd) -> Result<OwnedFd, Error> {
    let args = [fd(file), name(libc::F_DUPFD_CLOEXEC, flags::FCNTL_DUP), Arg::Int(lowest.into())];
    cx.read(nr::fcntl, &args).map(owned)
}

/// `fcntl(fd, F_SETFD, 0)`: fcntl(2). Leave a descriptor to PROG, and never close it. A dry run leaves it to the dry
/// tools behind it, by a duplicate of the same number.
pub fn leave_to_prog(cx: &Cx, file: OwnedFd) -> Result<BorrowedFd<'static>, Error> {
    let number = file.as_raw_fd();
    fcntl_setfd(cx, number, 0)?;
    if cx.dry() {
        let copy = fcntl_dupfd(cx, file.as_fd(), 0)?;
        drop(file);
        let lowest = Arg::Int(number.into());
        cx.read(nr::fcntl, &[fd(copy.as_fd()), name(libc::F_DUPFD, flags::FCNTL), lowest])?;
    } else {
        let _ = file.into_raw_fd();
    }
    // SAFETY: it was ours, and has no owner any more who could close it.
    Ok(unsafe { BorrowedFd::borrow_raw(number) })
}

/// `flock(fd, operation)`: flock(2). A lock of the open file description: whoever inherits a descriptor of it has it,
/// and it is free when the last of them is closed. EAGAIN: there is another's, and `operation` has LOCK_NB. EBADF on
/// NFS: an exclusive one needs the right to write.
pub fn flock(cx: &Cx, file: BorrowedFd, operation: c_int) -> Result<(), Error> {
    cx.change(nr::flock, &[fd(file), flags(operation, flags::FLOCK)]).map(drop)
}

/// `dup3(oldfd, newfd, 0)`: dup(2). `newfd`, a number of the caller's choice, is this file as well, for PROG too.
pub fn dup3(cx: &Cx, file: BorrowedFd, newfd: RawFd) -> Result<(), Error> {
    cx.change(nr::dup3, &[fd(file), Arg::Fd(newfd), Arg::Size(0)]).map(drop)
}

/// `fcntl(fd, F_SETLK, lock)`: fcntl(2). A lock of this process: it outlasts execve(2), no child has it,
/// and to close *any* descriptor of the file gives it up. EAGAIN: another process has it; with `wait`,
/// `F_SETLKW`, it is waited for.
pub fn fcntl_setlk(cx: &Cx, file: BorrowedFd, wait: bool, lock: &Flock) -> Result<(), Error> {
    let command = if wait { libc::F_SETLKW } else { libc::F_SETLK };
    cx.change(nr::fcntl, &[fd(file), name(command, flags::FCNTL), Arg::In(lock)]).map(drop)
}

/// `fcntl(fd, F_GETLK, lock)`: fcntl(2). The first lock that is in the way of this one.
pub fn fcntl_getlk(cx: &Cx, file: BorrowedFd, lock: Flock) -> Result<Flock, Error> {
    let holder = Cell::new(Holder(lock));
    let args = [fd(file), name(libc::F_GETLK, flags::FCNTL), Arg::Out(&holder)];
    cx.read(nr::fcntl, &args)?;
    Ok(holder.get().0)
}

/// `close_range(first, last, flags)`: close_range(2), Linux 5.9; CLOSE_RANGE_CLOEXEC Linux 5.11.
pub fn close_range(cx: &Cx, first: RawFd, last: RawFd, bits: u32) -> Result<(), Error> {
    let bits = flags(bits, flags::CLOSE_RANGE);
    let args = [Arg::Size(first as usize), Arg::Size(last as usize), bits];
    cx.change(nr::close_range, &args).map(drop)
}

/// `ioctl(fd, TIOCSCTTY, 0)`: TIOCSCTTY(2const). The terminal controls our session, and we are its foreground
/// process group. EPERM: we lead no session, or that has a terminal, or another session has this one.
pub fn set_controlling_terminal(cx: &Cx, terminal: BorrowedFd) -> Result<(), Error> {
    let request = name(libc::TIOCSCTTY as i64, flags::IOCTL);
    cx.change(nr::ioctl, &[fd(terminal), request, Arg::Size(0)]).map(drop)
}

/// `ioctl(fd, TIOCGSID, &sid)`: TIOCGSID(2const). The session that the terminal controls, where that is ours. ENOTTY: it
/// is not, or the file is not a terminal.
pub fn terminal_session(cx: &Cx, file: BorrowedFd) -> Result<i32, Error> {
    ioctl_int(cx, file, libc::TIOCGSID as i64)
}

/// `ioctl(fd, TIOCGETD, &discipline)`: TIOCSETD(2const). Every terminal answers it, and nothing else: ENOTTY.
pub fn is_terminal(cx: &Cx, file: BorrowedFd) -> bool {
    ioctl_int(cx, file, libc::TIOCGETD as i64).is_ok()
}

fn ioctl_int(cx: &Cx, file: BorrowedFd, request: i64) -> Result<i32, Error> {
    let number = Cell::new(Int::default());
    cx.read(nr::ioctl, &[fd(file), name(request, flags::IOCTL), Arg::Out(&number)])?;
    Ok(number.get().0)
}

/// `sync()`: sync(2). All that is written is on its devices, of every file system.
pub fn sync(cx: &Cx) -> Result<(), Error> {
    cx.change(nr::sync, &[]).map(drop)
}

/// `memfd_create(name, flags)`: memfd_create(2).
pub fn memfd_create(cx: &Cx, text: &CStr, bits: u64) -> Result<OwnedFd, Error> {
    let args = [Arg::Str(text), Arg::Flags(bits | libc::MFD_CLOEXEC as u64, flags::MEMFD)];
    cx.change_fd(nr::memfd_create, &args)
}

/// `fcntl(fd, F_ADD_SEALS, seals)`: fcntl(2).
pub fn fcntl_add_seals(cx: &Cx, memfd: BorrowedFd, seals: c_int) -> Result<(), Error> {
    let args = [fd(memfd), name(libc::F_ADD_SEALS, flags::FCNTL), flags(seals, flags::SEAL)];
    cx.change(nr::fcntl, &args).map(drop)
}

/// `sendfile(out_fd, in_fd, NULL, count)`: sendfile(2). Returns how many bytes were copied.
pub fn sendfile(cx: &Cx, to: BorrowedFd, from: BorrowedFd, count: usize) -> Result<usize, Error> {
    cx.change(nr::sendfile, &[fd(to), fd(from), Arg::Null, Arg::Size(count)])
}
