//! Whether PROG runs: what is reported to the readers of `--ready`, what a parent learns about its child, and the exit
//! status of a child that ended before it became PROG.

use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use syscalls::Errno;

use crate::say::error::{Error, FAILED};
use crate::say::show;
use crate::sys::structs::WaitStatus;
use crate::sys::{self, Cx};

/// Report to the readers of `--ready` that PROG, which is not one of our tools, is executed now. The end of file then
/// means that it runs.
pub fn say_ready(cx: &Cx) -> Result<(), Error> {
    let parent = cx.parent().map(|parent| parent.as_raw_fd());
    let mut ends = cx.ready().iter().copied().chain(parent);
    ends.try_for_each(|fd| sys::fcntl_setfd(cx, fd, libc::FD_CLOEXEC))?;
    say(cx, b"R")
}

/// Tell them that it could not be.
pub fn say_failed(cx: &Cx) {
    let _ = say(cx, b"F"); // what is said is why
}

fn say(cx: &Cx, byte: &[u8]) -> Result<(), Error> {
    for &fd in cx.ready() {
        match cx.say_on(fd, byte) {
            Err(e) if e.is(Errno::EPIPE) => {} // nobody wants to know any more
            other => other?,
        }
    }
    Ok(())
}

/// The signals that end a process although nobody asked for that: it reached a limit, or has a fault. (A signal that a
/// caller sends, and reboot(2), end a run on purpose.)
const FAILURES: [i32; 9] = [
    libc::SIGKILL,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGABRT,
    libc::SIGFPE,
    libc::SIGSYS,
    libc::SIGXCPU,
    libc::SIGXFSZ,
];

/// How a parent learns whether its child, or the tool that the child has become, has executed PROG: this is one of two
/// connected sockets; the child has the other, as a descriptor of `--ready`.
pub struct Ran(Option<OwnedFd>, Cell<Option<bool>>);

/// Both sockets, created before the clone.
pub struct Ready {
    parent: OwnedFd,
    child: OwnedFd,
}

impl Ready {
    /// Make them.
    pub fn new(cx: &Cx) -> Result<Ready, Error> {
        let (parent, child) = sys::socketpair(cx, libc::SOCK_NONBLOCK)?;
        Ok(Ready { parent, child })
    }

    /// The child's part: its socket is a descriptor of `--ready`, from here on.
    pub fn of_child(self, cx: &Cx) -> Result<(), Error> {
        let Ready { parent, child } = self;
        drop(parent);
        let end = sys::fcntl_dupfd(cx, child.as_fd(), 3)?;
        cx.add_ready(sys::leave_to_prog(cx, end)?.as_raw_fd());
        Ok(())
    }

    /// The parent's part: it has no descriptor by which a reader could still wait for PROG.
    pub fn of_parent(self, cx: &Cx) -> Ran {
        let Ready { parent, child } = self;
        drop(child);
        cx.close_ready();
        Ran(Some(parent), Cell::new(None))
    }
}

impl Ran {
    /// Of a child that does not become PROG.
    pub fn nothing() -> Ran {
        Ran(None, Cell::new(None))
    }

    /// The number of the descriptor.
    pub fn fd(&self) -> Option<RawFd> {
        self.0.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// When the child has ended: was PROG executed? (EAGAIN: what it has left behind is still on its way.)
    pub fn prog(&self, cx: &Cx) -> bool {
        let read = |socket: &OwnedFd| {
            let cx = cx.expects(&[Errno::EAGAIN]);
            sys::read(cx, socket.as_fd(), &mut [0]).is_ok_and(|n| n == 1)
        };
        let ran = self.1.get().unwrap_or_else(|| self.0.as_ref().is_none_or(read));
        self.1.set(Some(ran));
        ran
    }

    /// The exit status for the end of the child: 125 where a failure ended it before PROG.
    pub fn exit_status(&self, cx: &Cx, ended: WaitStatus) -> u8 {
        let signal = libc::WTERMSIG(ended.0);
        if !libc::WIFSIGNALED(ended.0) || !FAILURES.contains(&signal) || self.prog(cx) {
            return ended.exit_status();
        }
        let signal = show::signal(signal);
        cx.say(&Error::refusal([signal, " ended the process before it became PROG"].concat()));
        FAILED
    }
}
