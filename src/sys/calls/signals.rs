//! Signals.

use std::cell::Cell;
use std::ffi::c_int;

use syscalls::Errno;

use crate::say::error::Error;
use crate::say::flags;
use crate::sys::arg::Arg;
use crate::sys::context::Cx;
use crate::sys::raw::{name, nr, sigaction};
use crate::sys::structs::*;

/// `rt_sigprocmask(how, set, oldset, 8)`: sigprocmask(2). Returns the mask before. The C library's
/// would keep signals 32 to 34 for itself.
pub fn rt_sigprocmask(cx: &Cx, how: c_int, set: SigSet) -> Result<SigSet, Error> {
    let old = Cell::new(SigSet(0));
    let how = name(how, flags::SIG_HOW);
    let args = [how, Arg::In(&set), Arg::Out(&old), Arg::Size(size_of::<SigSet>())];
    cx.read(nr::rt_sigprocmask, &args)?;
    Ok(old.get())
}

/// `rt_sigpending(set, 8)`: sigpending(2). The signals that are blocked and have arrived.
pub fn rt_sigpending(cx: &Cx) -> Result<SigSet, Error> {
    let set = Cell::new(SigSet(0));
    cx.read(nr::rt_sigpending, &[Arg::Out(&set), Arg::Size(size_of::<SigSet>())])?;
    Ok(set.get())
}

/// `rt_sigaction(signum, act, oldact, 8)`: sigaction(2), for SIG_DFL and SIG_IGN: a handler would
/// need a way back that only the C library has. Returns what was set before.
pub fn rt_sigaction(cx: &Cx, signal: c_int, act: Option<&SigAction>) -> Result<SigAction, Error> {
    let old = Cell::new(SigAction::DEFAULT);
    let args = sigaction(signal, act.map_or(Arg::Null, |act| Arg::In(act)), Arg::Out(&old));
    cx.read(nr::rt_sigaction, &args)?;
    Ok(old.get())
}

/// `rt_sigtimedwait(set, info, NULL, 8)`: sigwaitinfo(2): wait for a signal that is blocked.
pub fn rt_sigtimedwait(cx: &Cx, set: SigSet) -> Result<SigInfo, Error> {
    let info = Cell::new(SigInfo::default());
    let args = [Arg::In(&set), Arg::Out(&info), Arg::Null, Arg::Size(size_of::<SigSet>())];
    cx.read(nr::rt_sigtimedwait, &args)?;
    cx.mounts_change(); // others may have changed them meanwhile
    Ok(info.get())
}

/// `rt_sigtimedwait(set, info, timeout, 8)`: the same, for so many nanoseconds. `None`: no signal came.
pub fn rt_sigtimedwait_for(cx: &Cx, set: SigSet, time: i64) -> Result<Option<SigInfo>, Error> {
    let (info, time) = (Cell::new(SigInfo::default()), TimeSpec::new(time));
    let size = Arg::Size(size_of::<SigSet>());
    let args = [Arg::In(&set), Arg::Out(&info), Arg::In(&time), size];
    match cx.expects(&[Errno::EAGAIN]).read(nr::rt_sigtimedwait, &args) {
        Err(e) if e.is(Errno::EAGAIN) => Ok(None),
        other => other.map(|_| Some(info.get())),
    }
}

/// Give PROG the default disposition of every signal, and no signal mask.
pub fn default_signals(cx: &Cx) -> Result<(), Error> {
    for signal in (1..=64).filter(|n| ![libc::SIGKILL, libc::SIGSTOP].contains(n)) {
        rt_sigaction(cx, signal, Some(&SigAction::DEFAULT))?;
    }
    // If a line was written before, SIGPIPE is restored when PROG is executed.
    cx.sigpipe.set(cx.sigpipe.take().map(|_| SigAction::DEFAULT));
    cx.hand_on(&|handed| handed.mask = Some(SigSet(0)));
    Ok(())
}

/// `kill(pid, sig)`: kill(2), of a process that may have ended. False: it has, ESRCH.
pub fn kill_if_there(cx: &Cx, pid: i32, signal: c_int) -> Result<bool, Error> {
    let args = [Arg::Int(pid.into()), name(signal, flags::SIGNAL)];
    Ok(cx.attempt(nr::kill, &args, &[Errno::ESRCH])?.is_ok())
}

/// `kill(pid, sig)`: kill(2).
pub fn kill(cx: &Cx, pid: i32, signal: c_int) -> Result<(), Error> {
    cx.change(nr::kill, &[Arg::Int(pid.into()), name(signal, flags::SIGNAL)]).map(drop)
}

/// As [`kill_if_there`], of one that may refuse the signal: EPERM is false too.
pub fn kill_if_allowed(cx: &Cx, pid: i32, signal: c_int) -> Result<bool, Error> {
    let args = [Arg::Int(pid.into()), name(signal, flags::SIGNAL)];
    Ok(cx.attempt(nr::kill, &args, &[Errno::ESRCH, Errno::EPERM])?.is_ok())
}
