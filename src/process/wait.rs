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

/// Pass every signal on to the child and reap whatever ends, until the child has ended. Returns how. The process sleeps
/// in one call: an idle container causes no wakeups.
pub fn wait(cx: &Cx, child: &Child) -> Result<WaitStatus, Error> {
    loop {
        let signal = next_signal(cx)?;
        if let Some(status) = handle(cx, child, &signal)? {
            return Ok(status);
        }
    }
}

/// Like [`wait`], for a child that may be frozen. When a signal should end it, `release` is called first; a child that
/// is still frozen is killed. If that does not end it, on version 1, this fails.
pub fn wait_unless_frozen(cx: &Cx, child: &Child, release: &dyn Fn()) -> Result<WaitStatus, Error> {
    loop {
        let signal = next_signal(cx)?;
        if let Some(status) = handle(cx, child, &signal)? {
            return Ok(status);
        }
        if !SigSet(1 << (signal.signo - 1)).has_terminating() {
            continue;
        }
        release();
        kill_if_frozen(cx, child.pid)?;
    }
}

/// The child was sent a signal that should end it, which a frozen process does not receive: kill that. If this does not
/// end it, on version 1, it fails.
pub fn kill_if_frozen(cx: &Cx, child: i32) -> Result<(), Error> {
    match record::frozen_process(cx, child) {
        Some(frozen) if frozen.v2 => {
            cx.say(&frozen.add_to(killed(child)));
            sys::kill(cx, child, libc::SIGKILL)
        }
        Some(frozen) => Err(frozen.add_to(killed(child))),
        None => Ok(()),
    }
}

fn killed(child: i32) -> Error {
    Error::refusal(["process ", &show::number(child as u64), " is killed"].concat())
}

/// Wait until the child has written to its socket, or until a signal arrives that should end a frozen child. Signals
/// are blocked, and the child gets them later; if it does not get on, for nobody reads what it prints, one that should
/// end it at once.
pub fn until_readable(cx: &Cx, socket: BorrowedFd, child: i32) -> Result<(), Error> {
    let passes_on = Child::new(child, None);
    while !sys::readable_within(cx, socket, 1)? {
        if !sys::rt_sigpending(cx)?.has_terminating() {
            continue;
        }
        if let Some(frozen) = record::frozen_process(cx, child) {
            return Err(frozen.add_to(killed(child)));
        }
        signals::pass_on(cx, &passes_on, &sys::rt_sigtimedwait(cx, SigSet::TERMINATING)?);
    }
    Ok(())
}

/// Wait until a helper has ended. It has no signals of its own, and its signals are blocked as ours are: one that
/// should end us ends its waiting for a reader of what it prints.
pub fn until_ended(cx: &Cx, helper: i32) {
    let Ok(process) = sys::pidfd_open(cx, helper) else { return };
    while !sys::readable_within(cx, process.as_fd(), 1).unwrap_or(true) {
        if sys::rt_sigpending(cx).is_ok_and(SigSet::has_terminating) {
            let _ = sys::kill_if_there(cx, helper, libc::SIGTERM);
        }
    }
}

/// Wait for a signal.
pub fn next_signal(cx: &Cx) -> Result<SigInfo, Error> {
    sys::rt_sigtimedwait(cx, SigSet::ALL)
}

/// Pass a signal on to the child; or reap what has ended, and return how, if that was the child. No signal that is
/// refused ends the wait.
pub fn handle(cx: &Cx, child: &Child, signal: &SigInfo) -> Result<Option<WaitStatus>, Error> {
    match signal.signo {
        libc::SIGCHLD => drop(reap(cx, child)?),
        _ => signals::pass_on(cx, child, signal),
    }
    Ok(child.ended.get())
}

/// Reap all that has ended. One SIGCHLD may stand for several. Returns whether children are left.
pub fn reap(cx: &Cx, child: &Child) -> Result<bool, Error> {
    loop {
        match sys::wait4(cx.expects(&[Errno::ECHILD]), -1, libc::WNOHANG | libc::WUNTRACED) {
            Ok((0, _)) => return Ok(true),
            Ok((pid, status)) if !libc::WIFSTOPPED(status.0) => child.has_reaped(cx, pid, status),
            Ok((pid, status)) if pid == child.pid => {
                signals::stop_too(cx, pid, libc::WSTOPSIG(status.0))?;
            }
            Ok(_) => {}
            Err(e) if e.is(Errno::ECHILD) => return Ok(false),
            Err(e) => return Err(e),
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
