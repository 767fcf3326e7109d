//! A pair of connected sockets, on which a parent and its new child wait for each other: socketpair(2).

use std::os::fd::{AsFd, OwnedFd};

use syscalls::Errno;

use crate::process::wait;
use crate::say::error::{Error, FAILED};
use crate::say::number::decimal;
use crate::say::show;
use crate::sys::{self, Cx};

/// Created before the clone, it has both sockets on either side; each side keeps its own, so that the end of the one is
/// an end of file to the other.
pub struct SocketPair {
    parent: OwnedFd,
    child: OwnedFd,
}

/// The socket of one side, whose peer is the other's.
pub struct Socket(OwnedFd);

impl SocketPair {
    /// Create it.
    pub fn new(cx: &Cx) -> Result<SocketPair, Error> {
        let (parent, child) = sys::socketpair(cx, 0)?;
        Ok(SocketPair { parent, child })
    }

    /// The child: be replaced by a sibling, whose parent is ours, in the pid namespace that this process has joined.
    /// This process itself is not in that, and ends when it has sent the parent the sibling's pid.
    pub fn continue_in_sibling(&self, cx: &Cx) -> Result<(), Error> {
        // A policy that is loaded may have no clone3(2), and nothing of that is needed.
        match sys::clone(cx, libc::CLONE_PARENT as u64)? {
            0 => {
                cx.trace_child();
                Ok(())
            }
            pid => {
                // Few policies refuse write(2).
                sys::write(cx, self.child.as_fd(), show::number(pid as u64).as_bytes())?;
                sys::exit(cx, 0)
            }
        }
    }

    /// The parent: receive the pid of the child's sibling. `None`: the child has failed.
    pub fn receive_sibling(self, cx: &Cx, child: i32) -> Result<Option<i32>, Error> {
        let SocketPair { child: other, parent } = self;
        drop(other);
        wait::until_readable(cx, parent.as_fd(), child)?;
        let mut pid = [0; 10];
        let n = sys::read(cx, parent.as_fd(), &mut pid)?;
        Ok(decimal(pid.get(..n).unwrap_or_default()).map(|pid| pid as i32))
    }

    /// The child: send that it is ready, and wait until the parent has done its part.
    pub fn wait_for_parent(self, cx: &Cx) -> Result<Socket, Error> {
        let SocketPair { child, parent } = self;
        drop(parent);
        sys::sendto(cx, child.as_fd(), b"1")?;
        // At an end of file the parent has failed, and says why. In a dry run there is none.
        if !cx.dry() && sys::read(cx, child.as_fd(), &mut [0])? == 0 {
            sys::exit(cx, FAILED);
        }
        Ok(Socket(child))
    }

    /// The parent: wait until the child is ready, do `part`, and let it continue. `None`: it has failed before, and
    /// says why.
    pub fn wait_for_child(
        self,
        cx: &Cx,
        child: i32,
        part: impl FnOnce() -> Result<(), Error>,
    ) -> Result<Option<Socket>, Error> {
        let SocketPair { child: other, parent } = self;
        drop(other);
        wait::until_readable(cx, parent.as_fd(), child)?;
        if sys::read(cx, parent.as_fd(), &mut [0])? == 0 {
            return Ok(None);
        }
        part()?;
        match sys::sendto(cx, parent.as_fd(), b"1") {
            Err(e) if e.is(Errno::EPIPE) => {} // it was killed
            other => other?,
        }
        Ok(Some(Socket(parent)))
    }
}

impl Socket {
    /// The child could not become PROG: tell the parent.
    pub fn send_failure(&self, cx: &Cx) {
        let _ = sys::sendto(cx, self.0.as_fd(), b"0"); // what is said is why
    }

    /// The child has ended: did it fail to become PROG? If it became PROG, execve(2) closed its socket, and the read
    /// returns 0. (If it was killed before, it has left unread what we sent: ECONNRESET.)
    pub fn has_failure(&self, cx: &Cx) -> bool {
        !sys::read(cx, self.0.as_fd(), &mut [0]).is_ok_and(|n| n == 0)
    }

    /// A change of the child's ids has cleared the signal that ends it with its parent: set it again, unless
    /// the parent has died meanwhile.
    pub fn die_with_parent(&self, cx: &Cx) -> Result<(), Error> {
        sys::prctl_set_pdeathsig(cx, libc::SIGKILL)?;
        if !cx.dry() && sys::readable(cx, self.0.as_fd())? {
            sys::exit(cx, FAILED);
        }
        Ok(())
    }
}
