//! Waiting for a child, which may be frozen: its signals, its end, and how to end it.
//!
//! How signals are passed on is in [`crate::process::signals`]. The exit status for the end, 128+n for signal n, is
//! [`WaitStatus::exit_status`]; [`crate::process::ready`] makes it 125 where a failure ended the child before PROG.

use std::os::fd::{AsFd, BorrowedFd};

use syscalls::Errno;

use crate::cgroup::record;
use crate::process::signals::{self, Child};
use crate::say::error::Error;
use crate::say::show;
use crate::sys::structs::{SigInfo, SigSet, WaitStatus};
use crate::sys::{self, Cx};

/// Pass every signal on to the child and reap whatever ends, until the child has ended. Returns how.
/// Sleeps in one call: an idle container wakes nobody.
pub fn wait(cx: &Cx, child: &Child) -> Result<WaitStatus, Error> {
    loop {
        let signal = next_signal(cx)?;
        if let Some(status) = handle(cx, child, &signal)? {
            return Ok(status);
        }
    }
}

/// As [`wait`], of a child that may be frozen. When a signal is to end it, `release` does what is to be done first; a
/// child that is frozen still is killed. Where that does not end it, on version 1, that is a failure.
pub fn wait_unless_frozen(cx: &Cx, child: &Child, release: &dyn Fn()) -> Result<WaitStatus, Error> {
    loop {
        let signal = next_signal(cx)?;
        if let Some(status) = handle(cx, child, &signal)? {
            return Ok(status);
        }
        if !signals::has_terminating(1 << (signal.signo - 1)) {
            continue;
        }
        release();
        let child = child.pid;
        match record::frozen_process(cx, child) {
            Some(frozen) if frozen.v2 => {
                cx.say(&frozen.add_to(killed(child)));
                sys::kill(cx, child, libc::SIGKILL)?;
            }
            Some(frozen) => return Err(frozen.add_to(killed(child))),
            None => {}
        }
    }
}

fn killed(child: i32) -> Error {
    Error::refusal(["process ", &show::number(child as u64), " is killed"].concat())
}

/// Wait until the child has written to its socket, and no longer than until a signal is to end a child that is frozen.
/// Signals are blocked, and the child gets them later.
pub fn until_readable(cx: &Cx, socket: BorrowedFd, child: i32) -> Result<(), Error> {
    while !sys::readable_within(cx, socket, 1)? {
        if !signals::has_terminating(sys::rt_sigpending(cx)?.0) {
            continue;
        }
        if let Some(frozen) = record::frozen_process(cx, child) {
            return Err(frozen.add_to(killed(child)));
        }
    }
    Ok(())
}

/// Wait for a signal.
pub fn next_signal(cx: &Cx) -> Result<SigInfo, Error> {
    sys::rt_sigtimedwait(cx, SigSet::ALL)
}

/// Pass a signal on to the child; or reap what has ended, and return how, if that was the child. No signal that is
/// refused ends the wait.
pub fn handle(cx: &Cx, child: &Child, signal: &SigInfo) -> Result<Option<WaitStatus>, Error> {
    if signal.signo == libc::SIGCHLD {
        return reap(cx, child.pid);
    }
    signals::pass_on(cx, child, signal);
    Ok(None)
}

/// Reap all that has ended. One SIGCHLD may stand for several.
fn reap(cx: &Cx, child: i32) -> Result<Option<WaitStatus>, Error> {
    loop {
        match sys::wait4(cx, -1, libc::WNOHANG)? {
            (0, _) => return Ok(None), // the others live
            (pid, status) if pid == child => return Ok(Some(status)),
            _ => {} // an orphan of the container
        }
    }
}

/// Kill the child and wait for its end, when [`wait`] has failed: nothing may be cleaned up while it lives. That is an
/// error, when it is frozen on version 1.
pub fn kill(cx: &Cx, child: i32) -> Result<(), Error> {
    // Of the rest the first failure is reported.
    let process = match sys::pidfd_open(cx, child) {
        Err(e) if e.is(Errno::ESRCH) => return Ok(()),
        other => other.inspect_err(|_| drop(sys::kill(cx, child, libc::SIGKILL)))?,
    };
    let _ = sys::kill(cx, child, libc::SIGKILL); // who refuses that is waited for
    while !sys::readable_within(cx, process.as_fd(), 1).unwrap_or(true) {
        match record::frozen_process(cx, child) {
            Some(frozen) if !frozen.v2 => {
                let child = show::number(child as u64);
                let what =
                    ["process ", &child, " dies when it is thawed; until then nothing is removed"];
                return Err(Error::refusal(what.concat()));
            }
            _ => {}
        }
    }
    let _ = sys::wait4(cx, child, 0);
    Ok(())
}
