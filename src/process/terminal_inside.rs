//! A terminal for a process that is brought into a root: opened in there, and relayed outside.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::ids::policy::Confinement;
use crate::process::callers_terminal;
use crate::process::pty::Pty;
use crate::say::error::Error;
use crate::sys::structs::Beginning;
use crate::sys::{self, Cx};

/// Created before the clone, it has both sockets over which the one end goes outside.
pub struct TerminalInside {
    outside: OwnedFd,
    inside: OwnedFd,
    beginning: Beginning,
}

impl TerminalInside {
    /// For whoever types on standard input, which must be a terminal. PROG will be under this policy.
    pub fn new(cx: &Cx, policy: Option<&Confinement>) -> Result<TerminalInside, Error> {
        if !sys::is_terminal(cx, sys::standard_fd(0)) {
            let what = "--tty: standard input is not a terminal";
            return Err(Error::refusal(what).way_out("leave out --tty"));
        }
        policy.map_or(Ok(()), Confinement::check_control)?;
        let beginning = callers_terminal::beginning(cx);
        let (outside, inside) = sys::socketpair(cx, 0)?;
        Ok(TerminalInside { outside, inside, beginning })
    }

    /// Inside: open it as the user of this process, in this root, and send the other end outside. From here on it is
    /// descriptors 0 to 2, and nothing of the caller's terminal is left.
    pub fn open(&self, cx: &Cx) -> Result<(), Error> {
        let pty = Pty::open(cx)?;
        pty.begin(cx, &self.beginning)?;
        sys::send_fd(cx, self.inside.as_raw_fd(), pty.master.as_fd())?;
        drop(pty.be_standard(cx)?);
        sys::setsid(cx).map(drop) // else it would still control us, until the process inside leads a session
    }

    /// Outside, when it was opened or the process inside has failed: the other end.
    pub fn receive(self, cx: &Cx) -> Result<Option<OwnedFd>, Error> {
        let TerminalInside { outside, inside, .. } = self;
        drop(inside);
        sys::receive_fd(cx, outside.as_fd())
    }
}
