//! The caller's terminal, on standard input where there is one: how a new one begins like it, its modes while what is
//! typed there is for another, and stopping as a job of it.

use syscalls::Errno;

use crate::process::buffer::Buffer;
use crate::process::signals;
use crate::say::error::Error;
use crate::sys::structs::{Beginning, Termios, WinSize};
use crate::sys::{self, Cx};

/// See above.
pub struct CallersTerminal<'a> {
    cx: &'a Cx,
    /// The modes that it had, where standard input is one.
    modes: Option<Termios>,
    /// The modes that we have given it, while it is raw.
    raw: Option<Termios>,
    /// Is standard output a terminal?
    shows: bool,
}

impl<'a> CallersTerminal<'a> {
    /// As it is.
    pub fn new(cx: &'a Cx) -> CallersTerminal<'a> {
        CallersTerminal {
            cx,
            modes: modes(cx),
            raw: None,
            shows: sys::is_terminal(cx, sys::standard_fd(1)),
        }
    }

    /// Is standard input a terminal?
    pub fn is_one(&self) -> bool {
        self.modes.is_some()
    }

    /// Write what is shown, as much as standard output takes at once. A terminal that is raw changes nothing of it.
    pub fn show(&self, shown: &mut Buffer) -> Result<(), Errno> {
        let part: fn(&[u8]) -> &[u8] = match self.shows {
            false => |left| left,
            true if self.raw.is_some() => |left| left.get(..sys::OF_TERMINAL).unwrap_or(left),
            true => sys::piece_for_terminal,
        };
        shown.write_part(self.cx, sys::standard_fd(1), part)
    }

    /// Is it one that was hung up?
    pub fn is_hung_up(&self) -> Result<bool, Error> {
        Ok(self.is_one() && sys::ppoll(self.cx, sys::standard_fd(0), 0, Some(0))?.is_some())
    }

    /// Have what is typed passed on byte for byte, as soon as this process is in the foreground. False: nobody can
    /// bring it there.
    pub fn make_raw(&mut self) -> Result<bool, Error> {
        let Some(modes) = self.modes else { return Ok(true) };
        // Blocked, SIGTTOU would let a process in the background change the modes of the shell.
        while !self.is_in_foreground()? {
            self.raw = None;
            if !self.stop(libc::SIGTTOU)? {
                return Ok(false);
            }
        }
        let terminal = sys::standard_fd(0);
        sys::set_terminal_modes(self.cx, terminal, &modes.raw())?;
        // As the driver has taken them.
        self.raw = Some(sys::terminal_modes(self.cx, terminal).unwrap_or(modes.raw()));
        Ok(true)
    }

    /// Give it back with the modes that it had; but not if another program, as a pager behind us in a pipeline, has
    /// given it its own meanwhile. One that was hung up has none.
    pub fn give_back(&mut self) {
        let (Some(raw), Some(modes)) = (self.raw.take(), &self.modes) else { return };
        let terminal = sys::standard_fd(0);
        if sys::terminal_modes(self.cx, terminal).is_ok_and(|now| now == raw) {
            let _ = sys::set_terminal_modes(self.cx, terminal, modes);
        }
    }

    /// Is this process in its foreground, or is it not the terminal that controls it?
    pub fn is_in_foreground(&self) -> Result<bool, Error> {
        let Some(group) = sys::terminal_group(self.cx) else { return Ok(true) };
        Ok(group == sys::getpgid(self.cx, 0)?)
    }

    /// Send ourselves the signal, which then stops us if the caller does not ignore it, and if a shell can continue us
    /// (an orphaned process group: setpgid(2)). Returns whether it did.
    pub fn stop(&self, signal: i32) -> Result<bool, Error> {
        let cx = self.cx;
        sys::kill(cx, sys::getpid(cx)?, signal)?;
        signals::take_effect(cx, signal)?;
        Ok(sys::rt_sigpending(cx)?.0 & 1 << (libc::SIGCONT - 1) != 0)
    }
}

/// How a terminal of PROG's own begins: with the size of the first standard stream that is a terminal, and the modes of
/// that on standard input. Where there is none, what is typed is not shown: it is shown nowhere else either.
pub fn beginning(cx: &Cx) -> Beginning {
    let size = size(cx).unwrap_or_default();
    let modes = modes(cx).unwrap_or_else(|| Termios::NEW.without_echo());
    Beginning { size, modes }
}

/// The size of the first standard stream that is a terminal.
pub fn size(cx: &Cx) -> Option<WinSize> {
    (0..3).find_map(|fd| sys::window_size(cx, sys::standard_fd(fd)))
}

/// The modes of the terminal on standard input. `None`: it is not one.
fn modes(cx: &Cx) -> Option<Termios> {
    sys::terminal_modes(cx.expects(&[Errno::ENOTTY]), sys::standard_fd(0)).ok()
}
