//! Terminals: a new one, its size and its modes; waiting for several files at once; a descriptor sent over a socket.

use std::cell::Cell;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use syscalls::Errno;

use crate::say::error::Error;
use crate::say::flags;
use crate::sys::arg::Arg;
use crate::sys::context::Cx;
use crate::sys::raw::{fd, flags, name, nr, owned};
use crate::sys::structs::*;

fn request(request: libc::c_ulong) -> Arg<'static> {
    name(request as i64, flags::IOCTL)
}

/// `ioctl(master, TIOCSPTLCK, [0])`: TIOCSPTLCK(2const). Let the other end of a new terminal be opened.
pub fn unlock_pty(cx: &Cx, master: BorrowedFd) -> Result<(), Error> {
    let unlocked = Int(0);
    cx.change(nr::ioctl, &[fd(master), request(libc::TIOCSPTLCK as _), Arg::In(&unlocked)])
        .map(drop)
}

/// `ioctl(master, TIOCGPTPEER, flags)`: TIOCGPTPEER(2const), Linux 4.13. The other end of a terminal, opened without
/// its path, which in another root may be another's.
pub fn open_pty_peer(cx: &Cx, master: BorrowedFd) -> Result<OwnedFd, Error> {
    let bits = Arg::Open((libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) as u64);
    cx.change_fd(nr::ioctl, &[fd(master), request(libc::TIOCGPTPEER as _), bits])
}

/// `ioctl(fd, TIOCGWINSZ, &size)`: TIOCGWINSZ(2const). `None`: the file is not a terminal. It is asked again and again:
/// no error is made, whose memory would never be freed.
pub fn window_size(cx: &Cx, file: BorrowedFd) -> Option<WinSize> {
    let size = Cell::new(WinSize::default());
    let args = [fd(file), request(libc::TIOCGWINSZ as _), Arg::Out(&size)];
    cx.make(nr::ioctl, &args).is_ok().then(|| size.get())
}

/// `ioctl(fd, TIOCSWINSZ, size)`: TIOCSWINSZ(2const), by either end. If it is another size, the foreground process
/// group gets SIGWINCH.
pub fn set_window_size(cx: &Cx, terminal: BorrowedFd, size: &WinSize) -> Result<(), Error> {
    cx.change(nr::ioctl, &[fd(terminal), request(libc::TIOCSWINSZ as _), Arg::In(size)]).map(drop)
}

/// `ioctl(fd, TCGETS, &termios)`: TCGETS(2const). The modes of a terminal, by either end. ENOTTY: the file is not one.
pub fn terminal_modes(cx: &Cx, terminal: BorrowedFd) -> Result<Termios, Error> {
    let modes = Cell::new(Termios::default());
    cx.read(nr::ioctl, &[fd(terminal), request(libc::TCGETS as _), Arg::Out(&modes)])?;
    Ok(modes.get())
}

/// `ioctl(fd, TCSETS, termios)`: TCSETS(2const), at once. EIO: the terminal was hung up.
pub fn set_terminal_modes(cx: &Cx, terminal: BorrowedFd, modes: &Termios) -> Result<(), Error> {
    cx.change(nr::ioctl, &[fd(terminal), request(libc::TCSETS as _), Arg::In(modes)]).map(drop)
}

/// `signalfd4(-1, set, 8, flags)`: signalfd(2). It can be read while a signal of the set, all blocked, has arrived.
pub fn signalfd(cx: &Cx, set: SigSet) -> Result<OwnedFd, Error> {
    let bits = flags(libc::SFD_CLOEXEC, flags::SFD);
    let args = [Arg::Int(-1), Arg::In(&set), Arg::Size(size_of::<SigSet>()), bits];
    cx.read_fd(nr::signalfd4, &args)
}

/// `fcntl(fd, F_SETFL, O_RDWR|O_NONBLOCK)`: fcntl(2). No read and no write waits, of whoever has this open file.
pub fn set_nonblocking(cx: &Cx, file: BorrowedFd) -> Result<(), Error> {
    let bits = Arg::Open((libc::O_RDWR | libc::O_NONBLOCK) as u64);
    cx.change(nr::fcntl, &[fd(file), name(libc::F_SETFL, flags::FCNTL_FL), bits]).map(drop)
}

/// `ppoll(fds, 4, timeout, NULL, 0)`: poll(2), of several files; one whose number is -1 is left out. Returns what has
/// happened to each.
pub fn ppoll_all(
    cx: &Cx,
    files: [(RawFd, i16); 4],
    nanoseconds: Option<i64>,
) -> Result<[i16; 4], Error> {
    let asked = Cell::new(files.map(|(fd, events)| PollFd { fd, events, revents: 0 }));
    let time = Cell::new(Timeout::new(TimeSpec::new(nanoseconds.unwrap_or(0))));
    let timeout = nanoseconds.map_or(Arg::Null, |_| Arg::InOut(&time));
    let args = [Arg::InOut(&asked), Arg::Size(4), timeout, Arg::Null, Arg::Size(0)];
    cx.read(nr::ppoll, &args)?;
    Ok(asked.get().map(|poll| poll.revents))
}

/// `read(fd, buf, count)`: read(2), in a loop that may read for long: no text is made of a failure.
pub fn try_read(cx: &Cx, file: BorrowedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let cells = Cell::from_mut(buffer).as_slice_of_cells();
    cx.make(nr::read, &[fd(file), Arg::Buffer(cells)])
}

/// `write(fd, buf, count)`: write(2), in the same way.
pub fn try_write(cx: &Cx, file: BorrowedFd, bytes: &[u8]) -> Result<usize, Errno> {
    cx.make(nr::write, &[fd(file), Arg::Bytes(bytes)])
}

/// `sendmsg(socket, msg, MSG_NOSIGNAL)`: send(2). Send a master, with its name, over a Unix socket: unix(7).
pub fn send_fd(cx: &Cx, socket: RawFd, file: BorrowedFd) -> Result<(), Error> {
    let (name, rights) = (Cell::new(MASTER), Cell::new(Rights::new(file.as_raw_fd())));
    let data = Data::new(&name);
    let message = Message::new(&data, &rights);
    let bits = flags(libc::MSG_NOSIGNAL, flags::MSG);
    cx.change(nr::sendmsg, &[Arg::Fd(socket), Arg::In(&message), bits]).map(drop)
}

/// `recvmsg(socket, msg, MSG_CMSG_CLOEXEC)`: recv(2). Receive one. `None`: the other end is closed, or sent none.
pub fn receive_fd(cx: &Cx, socket: BorrowedFd) -> Result<Option<OwnedFd>, Error> {
    let (name, rights) = (Cell::new(Default::default()), Cell::new(Rights::NONE));
    let data = Data::new(&name);
    let message = Message::new(&data, &rights);
    let bits = flags(libc::MSG_CMSG_CLOEXEC, flags::MSG);
    // Closed with something unread, it was reset.
    let read =
        cx.expects(&[Errno::ECONNRESET]).read(nr::recvmsg, &[fd(socket), Arg::Out(&message), bits]);
    let n = read.or_else(|e| if e.is(Errno::ECONNRESET) { Ok(0) } else { Err(e) })?;
    let received = rights.get().fd().filter(|fd| n > 0 && *fd >= 0);
    Ok(received.map(|fd| owned(fd as usize)))
}

/// `sendto(socket, beginning, len, MSG_NOSIGNAL, NULL, 0)`: send(2), before there is a terminal.
pub fn send_beginning(cx: &Cx, socket: BorrowedFd, beginning: &Beginning) -> Result<(), Error> {
    let bits = flags(libc::MSG_NOSIGNAL, flags::MSG);
    let args = [fd(socket), Arg::InSized(beginning), bits, Arg::Null, Arg::Size(0)];
    cx.change(nr::sendto, &args).map(drop)
}

/// `recvfrom(socket, beginning, len, MSG_DONTWAIT, NULL, NULL)`: recv(2). `None`: nothing was sent before.
pub fn receive_beginning(cx: &Cx, socket: RawFd) -> Result<Option<Beginning>, Error> {
    let beginning = Cell::new(Beginning::default());
    let size = Arg::Size(size_of::<Beginning>());
    let bits = flags(libc::MSG_DONTWAIT, flags::MSG);
    let args = [Arg::Fd(socket), Arg::Out(&beginning), size, bits, Arg::Null, Arg::Null];
    if cx.dry() {
        return Ok(None); // an earlier step has not made the socket
    }
    match cx.expects(&[Errno::EAGAIN]).read(nr::recvfrom, &args) {
        Err(e) if e.is(Errno::EAGAIN) => Ok(None),
        other => other.map(|n| Some(beginning.get()).filter(|_| n == size_of::<Beginning>())),
    }
}
