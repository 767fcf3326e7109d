//! Text that is written: messages, the trace, help. Nobody has to read it for a process to end by a signal.

use std::cell::Cell;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::POLLOUT;
use syscalls::Errno;

use crate::sys::arg::Arg;
use crate::sys::raw::{nr, raw};
use crate::sys::structs::{PollFd, SECOND, SigSet, Statx, Termios, TimeSpec};

/// What a pipe with room takes at once: a page, pipe(7).
const OF_PIPE: usize = 4096;
/// What a terminal with room takes at once: a pty has a block of 256 bytes free then, a serial line more.
pub const OF_TERMINAL: usize = 256;
/// How long to wait for room before looking for a signal, in nanoseconds.
const WAIT: i64 = SECOND / 10;

/// Has a signal come that should end a process? Then no text waits longer than [`WAIT`].
static HURRIES: AtomicBool = AtomicBool::new(false);
/// Was a text lost since? Then the next does not wait at all.
static LOST: AtomicBool = AtomicBool::new(false);

/// Print text for whoever asked for it (`--help`), and let it be lost where it cannot be written.
pub fn print(text: &str) {
    raw_write(libc::STDOUT_FILENO, text.as_bytes());
}

/// A signal was taken that should end a process.
pub(in crate::sys) fn hurry() {
    HURRIES.store(true, Ordering::Relaxed);
}

/// Write text, in one write(2) where that cannot wait for a reader.
pub(in crate::sys) fn raw_write(fd: RawFd, text: &[u8]) {
    if is_terminal(fd) {
        let mut left = text;
        while !left.is_empty() && has_room(fd) && write(fd, piece_for_terminal(left)) {
            left = left.get(piece_for_terminal(left).len()..).unwrap_or_default();
        }
        return;
    }
    let is_whole = text.len() > OF_PIPE && is_regular_file(fd);
    let most = if is_whole { text.len() } else { OF_PIPE };
    let _ = text.chunks(most).all(|piece| has_room(fd) && write(fd, piece));
}

/// What can be written to a terminal that has room: a character that it may change to others needs room of its own.
pub fn piece_for_terminal(text: &[u8]) -> &[u8] {
    let plain = text.iter().take(OF_TERMINAL).take_while(|byte| **byte >= b' ').count();
    text.get(..plain.max(1)).unwrap_or(text)
}

/// Returns whether it could be written.
fn write(fd: RawFd, text: &[u8]) -> bool {
    let done = raw(nr::write, &[Arg::Fd(fd), Arg::Bytes(text)]);
    // Some errors come with a signal: write(2). If all signals are blocked, in order to be passed on, it is pending
    // now: take it, or the child would get it.
    let signal = match done {
        Err(Errno::EPIPE) => libc::SIGPIPE,
        Err(Errno::EFBIG) => libc::SIGXFSZ,
        other => return other.is_ok(),
    };
    let (set, now) = (SigSet(1 << (signal - 1)), TimeSpec { sec: 0, nsec: 0 });
    let args = [Arg::In(&set), Arg::Null, Arg::In(&now), Arg::Size(size_of::<SigSet>())];
    let _ = raw(nr::rt_sigtimedwait, &args);
    false
}

/// Wait until a write of one piece does not wait. Where every signal is blocked, in order to be passed on, nothing but
/// SIGKILL would end a write(2) that waits. False: a signal has come that should end a process, and there is no room.
pub(in crate::sys) fn has_room(fd: RawFd) -> bool {
    loop {
        let wait = if LOST.load(Ordering::Relaxed) { 0 } else { WAIT };
        let (asked, time) =
            (Cell::new([PollFd { fd, events: POLLOUT, revents: 0 }]), TimeSpec::new(wait));
        let time = Cell::new(time);
        let args = [Arg::InOut(&asked), Arg::Size(1), Arg::InOut(&time), Arg::Null, Arg::Size(0)];
        match raw(nr::ppoll, &args) {
            Ok(0) => {}
            Err(Errno::EINTR) => continue,
            _ => break,
        }
        if is_read_only(fd) {
            break; // which no wait changes
        }
        let pending = Cell::new(SigSet(0));
        let _ = raw(nr::rt_sigpending, &[Arg::Out(&pending), Arg::Size(size_of::<SigSet>())]);
        if pending.get().has_terminating() {
            hurry();
        }
        if HURRIES.load(Ordering::Relaxed) {
            LOST.store(true, Ordering::Relaxed);
            return false;
        }
    }
    LOST.store(false, Ordering::Relaxed);
    true
}

fn is_read_only(fd: RawFd) -> bool {
    let flags = raw(nr::fcntl, &[Arg::Fd(fd), Arg::Size(libc::F_GETFL as usize)]);
    flags.is_ok_and(|flags| flags as i32 & libc::O_ACCMODE == libc::O_RDONLY)
}

fn is_terminal(fd: RawFd) -> bool {
    let modes = Cell::new(Termios::default());
    raw(nr::ioctl, &[Arg::Fd(fd), Arg::Size(libc::TCGETS as usize), Arg::Out(&modes)]).is_ok()
}

/// In a file, a line of another process cannot come between the pieces.
fn is_regular_file(fd: RawFd) -> bool {
    let stat = Cell::new(Statx::default());
    let args = [
        Arg::Fd(fd),
        Arg::Str(c""),
        Arg::Size(libc::AT_EMPTY_PATH as usize),
        Arg::Size(libc::STATX_TYPE as usize),
        Arg::Out(&stat),
    ];
    raw(nr::statx, &args).is_ok() && stat.get().file_type() == libc::S_IFREG
}
