//! The relay of td-tty: it has the caller's terminal, or pipes, on its standard streams, and the master of PROG's
//! terminal; it passes on what is typed and shown, sizes and signals, until its child has ended.
//!
//! It sleeps in one ppoll(2), without a timeout but where nobody has PROG's terminal open. Every signal is blocked, and
//! read when a signalfd(2) says that there is one. No failure to read or write makes a text, for memory is never freed.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use libc::{POLLHUP, POLLIN, POLLOUT};
use syscalls::Errno;

use crate::process::buffer::Buffer;
use crate::process::callers_terminal::{self, CallersTerminal};
use crate::process::signals::Child;
use crate::process::wait;
use crate::say::error::Error;
use crate::sys::structs::{SigSet, WaitStatus};
use crate::sys::{self, Cx};

/// After the end of PROG, no more of what it has written than this can be on its way: pty(7) keeps 8 KiB.
const REST: usize = 1 << 17;
/// How often to look whether PROG's terminal was opened again, in nanoseconds.
const AGAIN: i64 = 100_000_000;
const CLOSED: (RawFd, i16) = (-1, 0);

/// Where PROG's terminal is.
enum Terminal {
    /// Its master will come over this socket.
    Coming(OwnedFd),
    /// This is its master.
    Here(OwnedFd),
    /// Nobody has it open, but for this.
    Unused(OwnedFd),
    /// It was hung up.
    HungUp,
    /// It never came.
    Gone,
}

/// See above.
pub struct Relay<'a> {
    cx: &'a Cx,
    child: Child,
    terminal: Terminal,
    callers: CallersTerminal<'a>,
    /// Is standard input read?
    reads: bool,
    /// Has poll(2) said that nobody has PROG's terminal open?
    closed: bool,
    /// The last byte that was read there.
    last: u8,
    typed: Buffer,
    shown: Buffer,
    /// How the child has ended, and how much of what was shown may still be read.
    ended: Option<WaitStatus>,
    rest: usize,
    /// The signals that end a process and were passed on, a bit each; and did one come after the end of the child?
    told: u64,
    late: bool,
}

impl<'a> Relay<'a> {
    /// Of a child that leads the session of a terminal, whose master this is.
    pub fn of_master(cx: &'a Cx, child: i32, master: OwnedFd) -> Result<Relay<'a>, Error> {
        sys::set_nonblocking(cx, master.as_fd())?;
        Ok(Relay::new(cx, Child::new(child, Some(true)), Terminal::Here(master)))
    }

    /// Of a child that sends one over this socket.
    pub fn of_socket(cx: &'a Cx, child: i32, socket: OwnedFd) -> Relay<'a> {
        Relay::new(cx, Child::new(child, None), Terminal::Coming(socket))
    }

    fn new(cx: &'a Cx, child: Child, terminal: Terminal) -> Relay<'a> {
        Relay {
            cx,
            child,
            terminal,
            callers: CallersTerminal::new(cx),
            reads: true,
            closed: false,
            last: b'\n',
            typed: Buffer::EMPTY,
            shown: Buffer::EMPTY,
            ended: None,
            rest: REST,
            told: 0,
            late: false,
        }
    }

    /// Relay until the child has ended; then the caller's terminal is as it was. Returns how.
    pub fn run(mut self) -> Result<WaitStatus, Error> {
        let ended = self.relay();
        self.callers.give_back();
        ended.inspect_err(|_| drop(wait::kill(self.cx, self.child.pid)))
    }

    fn relay(&mut self) -> Result<WaitStatus, Error> {
        let signals = sys::signalfd(self.cx, SigSet::ALL)?;
        if matches!(self.terminal, Terminal::Here(_)) {
            self.resume()?;
        }
        loop {
            let is_done = self.ended.is_some() && self.shown.is_empty() && !self.read_shown();
            if let Some(status) = self.ended.filter(|_| is_done) {
                return Ok(status);
            }
            let files = self.files(signals.as_raw_fd());
            let unused = matches!(self.terminal, Terminal::Unused(_)) && self.ended.is_none();
            let hurries = self.hurries();
            let time = if hurries { Some(0) } else { unused.then_some(AGAIN) };
            let [signal, input, pty, output] = sys::ppoll_all(self.cx, files, time)?;
            if hurries && output == 0 {
                self.shown.clear();
                self.rest = 0;
            }
            let comes = matches!(self.terminal, Terminal::Coming(_)) && pty != 0;
            if comes {
                self.hear()?; // first, for the child may have ended meanwhile
            }
            if signal != 0 {
                self.take_signal()?;
                continue; // it may have taken long, and another process may have read what was there to be read
            }
            if output != 0 {
                self.write_shown()?;
                if self.shown.is_empty() {
                    self.read_shown(); // perhaps there is more already: one call less for each piece
                }
            }
            if pty & POLLOUT != 0 {
                self.write_typed();
            }
            self.closed = pty & POLLHUP != 0 || self.closed && !self.shown.is_empty();
            if !comes && pty & !POLLOUT != 0 || unused {
                self.hear()?;
            }
            if input != 0 {
                self.read_typed()?;
            }
        }
    }

    /// Has nobody to read the rest? If a signal that was passed on has ended PROG, or if one came after its end.
    fn hurries(&self) -> bool {
        let Some(status) = self.ended else { return false };
        let by = u32::from(status.exit_status()).checked_sub(129);
        self.late || by.is_some_and(|n| self.told.checked_shr(n).is_some_and(|told| told & 1 != 0))
    }

    /// What to wait for: no more is read than was written.
    fn files(&self, signals: RawFd) -> [(RawFd, i16); 4] {
        let (mut input, mut pty) = (CLOSED, CLOSED);
        match &self.terminal {
            _ if self.ended.is_some() => {}
            Terminal::Coming(socket) => pty = (socket.as_raw_fd(), POLLIN),
            // Nobody has it open. Whether that is all is seen when there is room for more that was shown.
            Terminal::Here(_) if self.closed && !self.shown.is_empty() => {}
            Terminal::Here(master) => {
                let reads = if self.shown.is_empty() { POLLIN } else { 0 };
                let writes = if self.typed.is_empty() { 0 } else { POLLOUT };
                // Without an event, the end of PROG's use of it would still be reported, at once and again.
                let used = reads | writes != 0;
                pty = if used { (master.as_raw_fd(), reads | writes) } else { CLOSED };
                if self.reads && self.typed.is_empty() && !self.cx.start.was_closed(0) {
                    input = (0, POLLIN);
                }
            }
            _ => {}
        }
        let output = if self.shown.is_empty() { CLOSED } else { (1, POLLOUT) };
        [(signals, POLLIN), input, pty, output]
    }

    /// Something has come from PROG's side.
    fn hear(&mut self) -> Result<(), Error> {
        let Terminal::Coming(socket) = &self.terminal else {
            if self.shown.is_empty() {
                self.read_shown();
            }
            return Ok(());
        };
        self.terminal = match sys::receive_fd(self.cx, socket.as_fd())? {
            Some(master) => {
                sys::set_nonblocking(self.cx, master.as_fd())?;
                Terminal::Here(master)
            }
            None => Terminal::Gone, // the child has failed, or PROG is not what opens one
        };
        self.resume()
    }

    /// Read what PROG shows. False: just now there is no more.
    fn read_shown(&mut self) -> bool {
        let (Terminal::Here(master) | Terminal::Unused(master)) = &self.terminal else {
            return false;
        };
        if self.ended.is_some() && self.rest == 0 {
            return false;
        }
        match self.shown.read(self.cx, master.as_fd()) {
            Ok(n) => {
                self.rest -= if self.ended.is_some() { self.rest.min(n) } else { 0 };
                self.use_again(true);
                n > 0
            }
            Err(Errno::EAGAIN) => {
                self.use_again(true);
                false
            }
            Err(_) => {
                self.use_again(false); // EIO: nobody has it open
                false
            }
        }
    }

    /// PROG's terminal is open there, or it is not. As long as it is not, the caller's is as it was: what other tools
    /// say is read there.
    fn use_again(&mut self, used: bool) {
        self.terminal = match std::mem::replace(&mut self.terminal, Terminal::Gone) {
            Terminal::Here(master) if !used => {
                self.callers.give_back();
                Terminal::Unused(master)
            }
            Terminal::Unused(master) if used => {
                self.terminal = Terminal::Here(master);
                if self.ended.is_none() {
                    let _ = self.resume(); // a failure leaves the modes as they are
                }
                return;
            }
            other => other,
        };
    }

    /// Write what PROG has shown.
    fn write_shown(&mut self) -> Result<(), Error> {
        if self.cx.start.was_closed(1) {
            self.shown.clear();
        } else if let Err(errno) = self.callers.show(&mut self.shown) {
            self.shown.clear();
            if errno != Errno::EPIPE && errno != Errno::EIO {
                let what = Error::call("write(1, ...)".into(), errno);
                self.cx.say(&what.because("what PROG shows is lost, and its terminal is closed"));
            }
            self.hang_up()?;
        }
        Ok(())
    }

    /// Read what is typed.
    fn read_typed(&mut self) -> Result<(), Error> {
        match self.typed.read(self.cx, sys::standard_fd(0)) {
            Ok(n) if n > 0 => {
                self.last = self.typed.last().unwrap_or(b'\n');
                self.write_typed();
                Ok(())
            }
            Err(Errno::EAGAIN) => Ok(()),
            // As a read in the background, where SIGTTIN is blocked.
            Err(Errno::EIO) if !self.callers.is_in_foreground()? => self.suspend(libc::SIGTTIN),
            _ if self.callers.is_one() => self.hang_up(),
            _ => {
                self.end_input();
                Ok(())
            }
        }
    }

    /// A pipe has ended: PROG's terminal has a character for that. In a line that has begun, the first only ends what
    /// is read at once.
    fn end_input(&mut self) {
        let Terminal::Here(master) = &self.terminal else { return };
        self.reads = false;
        let Ok(modes) = sys::terminal_modes(self.cx, master.as_fd()) else { return };
        let (character, in_lines) = modes.end_of_file();
        self.typed.set(character, if in_lines && self.last != b'\n' { 2 } else { 1 });
        self.write_typed();
    }

    /// Pass on what was typed, as much as there is room for.
    fn write_typed(&mut self) {
        let Terminal::Here(master) = &self.terminal else { return };
        if self.typed.write(self.cx, master.as_fd()).is_err() {
            self.typed.clear();
        }
    }

    /// Take one signal.
    fn take_signal(&mut self) -> Result<(), Error> {
        let signal = wait::next_signal(self.cx)?;
        match signal.signo {
            libc::SIGWINCH => self.resize(),
            libc::SIGCONT => self.resume()?,
            libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => self.suspend(signal.signo)?,
            libc::SIGPIPE => {} // of our own writing
            libc::SIGHUP => self.hang_up()?,
            _ if self.ended.is_none() => {
                self.ended = wait::handle(self.cx, &self.child, &signal)?;
            }
            _ => {}
        }
        let bit = 1 << (signal.signo - 1);
        if SigSet(bit).has_terminating() {
            self.told |= bit;
            self.late |= self.ended.is_some();
            if self.ended.is_none() {
                wait::kill_if_frozen(self.cx, self.child.pid)?;
            }
        }
        Ok(())
    }

    /// The caller's terminal has another size.
    fn resize(&self) {
        let Terminal::Here(master) = &self.terminal else { return };
        if let Some(size) = callers_terminal::size(self.cx) {
            let _ = sys::set_window_size(self.cx, master.as_fd(), &size); // without it, it is only shown badly
        }
    }

    /// Stop as a signal asks, with the modes that the caller's terminal had, and go on when continued.
    fn suspend(&mut self, signal: i32) -> Result<(), Error> {
        self.callers.give_back();
        self.callers.stop(signal)?;
        self.resume()
    }

    /// Have the caller's terminal: its size, and what is typed there byte for byte.
    fn resume(&mut self) -> Result<(), Error> {
        self.resize();
        if self.reads && self.cx.start.was_closed(0) {
            self.end_input();
        }
        if self.reads && matches!(self.terminal, Terminal::Here(_)) {
            self.reads = self.callers.make_raw()?;
        }
        Ok(())
    }

    /// Hang up PROG's terminal: the kernel sends SIGHUP to who leads its session. Where nobody does, the child gets it.
    fn hang_up(&mut self) -> Result<(), Error> {
        // The end of the caller's terminal is seen several times: by a signal, in what is read, in what is written.
        if matches!(self.terminal, Terminal::HungUp) && self.callers.is_hung_up()? {
            return Ok(());
        }
        self.callers.give_back();
        self.reads = false;
        let was = std::mem::replace(&mut self.terminal, Terminal::HungUp);
        let is_told = matches!(&was, Terminal::Here(master)
            if sys::ppoll(self.cx, master.as_fd(), 0, Some(0))?.is_none());
        drop(was);
        if !is_told && self.ended.is_none() {
            sys::kill_if_there(self.cx, self.child.pid, libc::SIGHUP)?;
        }
        Ok(())
    }
}
