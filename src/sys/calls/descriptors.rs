//! Descriptors: their flags, locks and duplicates; terminals; memfds.

use std::cell::Cell;
use std::ffi::{CStr, c_int};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use syscalls::Errno;

use crate::say::error::Error;
use crate::say::flags;
use crate::sys::arg::Arg;
use crate::sys::calls::processes::exit;
use crate::sys::context::Cx;
use crate::sys::raw::{fd, flags, name, nr, standard_fd};
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
    // SAFETY: it is open, and the caller does not know the number of any descriptor of ours.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// `write(fd, buf, count)`: write(2), until all is written, to a descriptor that an earlier step of the chain has made:
/// it is looked at as [`inherited_fd`] does, but a dry run takes it to be there.
pub fn write_inherited(cx: &Cx, fd: RawFd, bytes: &[u8]) -> Result<(), Error> {
    if !cx.dry() {
        inherited_fd(cx, fd)?;
    }
    let mut left = bytes;
    while !left.is_empty() {
        let n = cx.change(nr::write, &[Arg::Fd(fd), Arg::Bytes(left)])?;
        left = left.get(if cx.dry() { left.len() } else { n }..).unwrap_or_default();
    }
    Ok(())
}

/// `fcntl(fd, F_DUPFD_CLOEXEC, lowest)`: fcntl(2). The same file at the lowest number that is free from `lowest`
/// up. It is ours alone, and a dry run makes it too, so that the calls after it have the right numbers. EMFILE: none
/// is free.
pub fn fcntl_dupfd(cx: &Cx, file: BorrowedFd, lowest: RawFd) -> Result<OwnedFd, Error> {
    let args = [fd(file), name(libc::F_DUPFD_CLOEXEC, flags::FCNTL_DUP), Arg::Int(lowest.into())];
    cx.read_fd(nr::fcntl, &args)
}

/// `fcntl(fd, F_SETFD, 0)`: fcntl(2). Leave a descriptor to PROG, and never close it. A dry run leaves it to the dry
/// tools after it, by a duplicate of the same number.
pub fn leave_to_prog(cx: &Cx, file: OwnedFd) -> Result<BorrowedFd<'static>, Error> {
    fcntl_setfd(cx, file.as_raw_fd(), 0)?;
    let mut left = file;
    if cx.dry() {
        let copy = fcntl_dupfd(cx, left.as_fd(), 0)?;
        let lowest = Arg::Int(left.as_raw_fd().into());
        drop(left);
        let dup = name(libc::F_DUPFD, flags::FCNTL);
        left = cx.read_fd(nr::fcntl, &[fd(copy.as_fd()), dup, lowest])?;
    }
    // SAFETY: it was ours, and no longer has an owner that could close it.
    Ok(unsafe { BorrowedFd::borrow_raw(left.into_raw_fd()) })
}

/// `flock(fd, operation)`: flock(2). A lock of the open file description: whoever inherits a descriptor of it has it,
/// and it is free when the last of them is closed. EAGAIN: there is another's, and `operation` has LOCK_NB. EBADF on
/// NFS: an exclusive one needs the right to write.
pub fn flock(cx: &Cx, file: BorrowedFd, operation: c_int) -> Result<(), Error> {
    cx.change(nr::flock, &[fd(file), flags(operation, flags::FLOCK)]).map(drop)
}

fn dup3(cx: &Cx, file: BorrowedFd, newfd: RawFd) -> Result<(), Error> {
    cx.change(nr::dup3, &[fd(file), Arg::Fd(newfd), Arg::Size(0)]).map(drop)
}

/// `dup3(oldfd, newfd, 0)`: dup(2), for 0, 1 and 2: they are this file from here on.
pub fn dup_to_standard(cx: &Cx, file: BorrowedFd) -> Result<(), Error> {
    (0..3).try_for_each(|fd| dup3(cx, file, fd))
}

/// A number that the caller has chosen, and that no descriptor had when it was looked at.
#[derive(Clone, Copy)]
pub struct FreeFd(RawFd);

impl FreeFd {
    /// Does this file have the number by now?
    pub fn is(self, file: &OwnedFd) -> bool {
        file.as_raw_fd() == self.0
    }
}

/// `fcntl(fd, F_GETFD)`: fcntl(2). `None`: the number is in use.
pub fn free_fd(cx: &Cx, fd: RawFd) -> Option<FreeFd> {
    inherited_fd(cx.expects(&[Errno::EBADF]), fd).is_err().then_some(FreeFd(fd))
}

/// `dup3(oldfd, newfd, 0)`: dup(2). Leave a file to PROG, under a number that was free.
pub fn leave_to_prog_as(cx: &Cx, file: OwnedFd, FreeFd(fd): FreeFd) -> Result<(), Error> {
    if file.as_raw_fd() == fd {
        return fcntl_setfd(cx, file.into_raw_fd(), 0); // dup3(2) refuses to duplicate onto itself
    }
    dup3(cx, file.as_fd(), fd)
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

/// `close_range(first, ~0, CLOSE_RANGE_CLOEXEC)`: close_range(2), Linux 5.11.
pub fn close_range_cloexec(cx: &Cx, first: RawFd) -> Result<(), Error> {
    close_range(cx, first, RawFd::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

/// What a process has left to do after [`stay_alone`], given whether its descriptors were closed: its exit status.
pub type Rest<'a> = dyn Fn(Result<(), Error>) -> Result<u8, Error> + 'a;

/// `close_range(first, last, 0)`: close_range(2), Linux 5.9. Close every descriptor above 2 but those of `keep`, do the
/// `rest`, and end as that says. It does not return, for whoever owns a descriptor that is closed here would close its
/// number once more.
pub fn stay_alone(cx: &Cx, keep: &[RawFd], rest: &Rest) -> ! {
    let status = rest(close_others(cx, keep)).unwrap_or_else(|error| {
        cx.say(&error);
        error.status()
    });
    exit(cx, status)
}

fn close_others(cx: &Cx, keep: &[RawFd]) -> Result<(), Error> {
    let mut first = 3;
    while let Some(&next) = keep.iter().filter(|fd| **fd >= first).min() {
        if next > first {
            close_range(cx, first, next - 1, 0)?;
        }
        first = next.saturating_add(1);
    }
    close_range(cx, first, RawFd::MAX, 0)
}

fn close_range(cx: &Cx, first: RawFd, last: RawFd, bits: u32) -> Result<(), Error> {
    let bits = flags(bits, flags::CLOSE_RANGE);
    let args = [Arg::Size(first as usize), Arg::Size(last as usize), bits];
    cx.change(nr::close_range, &args).map(drop)
}

/// `ioctl(fd, TIOCSCTTY, 0)`: TIOCSCTTY(2const). The terminal controls our session, and we are its foreground
/// process group. EPERM: we lead no session, or that has a terminal, or another session has this one.
pub fn set_controlling_terminal(cx: &Cx, terminal: BorrowedFd) -> Result<(), Error> {
    cx.dry_session.set(cx.dry().then_some(true));
    let request = name(libc::TIOCSCTTY as i64, flags::IOCTL);
    cx.change(nr::ioctl, &[fd(terminal), request, Arg::Size(0)]).map(drop)
}

/// `ioctl(fd, TIOCGSID, &sid)`: TIOCGSID(2const). The session that the terminal controls, where that is ours. ENOTTY:
/// it is not, or the file is not a terminal.
pub fn terminal_session(cx: &Cx, file: BorrowedFd) -> Result<i32, Error> {
    ioctl_int(cx, file, libc::TIOCGSID as i64)
}

/// Does the terminal on standard input control our session? Asked as [`terminal_session`] asks.
pub fn has_terminal(cx: &Cx) -> bool {
    let found = ask_int(cx, standard_fd(0), libc::TIOCGSID as i64).is_some();
    cx.dry_session.get().unwrap_or(found)
}

/// `ioctl(0, TIOCGPGRP, &group)`: TIOCGPGRP(2const). The foreground process group of the terminal on standard input, if
/// that controls our session. 0: it is outside of our pid namespace.
pub fn terminal_group(cx: &Cx) -> Option<i32> {
    ask_int(cx, standard_fd(0), libc::TIOCGPGRP as i64)
}

/// `ioctl(0, TIOCSPGRP, &group)`: TIOCSPGRP(2const). Put a process group of our session into the foreground. In the
/// background, this sends SIGTTOU, unless that is blocked.
pub fn set_terminal_group(cx: &Cx, group: i32) -> Result<(), Error> {
    let request = name(libc::TIOCSPGRP as i64, flags::IOCTL);
    cx.change(nr::ioctl, &[fd(standard_fd(0)), request, Arg::In(&Int(group))]).map(drop)
}

/// `ioctl(fd, TIOCGETD, &discipline)`: TIOCSETD(2const). Every terminal answers it, and nothing else: ENOTTY.
pub fn is_terminal(cx: &Cx, file: BorrowedFd) -> bool {
    ask_int(cx, file, libc::TIOCGETD as i64).is_some()
}

fn ioctl_int(cx: &Cx, file: BorrowedFd, request: i64) -> Result<i32, Error> {
    let number = Cell::new(Int::default());
    cx.read(nr::ioctl, &[fd(file), name(request, flags::IOCTL), Arg::Out(&number)])?;
    Ok(number.get().0)
}

/// As [`ioctl_int`], for one that is asked again and again: no error is made, whose memory would never be freed.
fn ask_int(cx: &Cx, file: BorrowedFd, request: i64) -> Option<i32> {
    let number = Cell::new(Int::default());
    cx.make(nr::ioctl, &[fd(file), name(request, flags::IOCTL), Arg::Out(&number)]).ok()?;
    Some(number.get().0)
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
