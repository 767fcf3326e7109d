//! The foreground of the terminal on standard input, if that controls our session: given to the process group of PROG,
//! and taken back.

use crate::say::error::Error;
use crate::sys::structs::SigSet;
use crate::sys::{self, Cx};

/// Lead a process group, as PROG does. It is in the foreground if the one before was: there, and not in the parent, so
/// that PROG never begins in the background.
pub fn lead_group(cx: &Cx) -> Result<(), Error> {
    let was_in_foreground = sys::terminal_group(cx) == Some(sys::getpgid(cx, 0)?);
    sys::setpgid(cx)?;
    if was_in_foreground {
        let ttou = SigSet(1 << (libc::SIGTTOU - 1));
        let mask = sys::rt_sigprocmask(cx, libc::SIG_BLOCK, ttou)?;
        sys::set_terminal_group(cx, sys::getpid(cx)?)?;
        sys::rt_sigprocmask(cx, libc::SIG_SETMASK, mask)?;
    }
    Ok(())
}

/// Was PROG stopped by its terminal, which is ours too, or while it was in the foreground there?
pub fn is_stopped_there(cx: &Cx, child: i32, signal: i32) -> bool {
    let Some(foreground) = sys::terminal_group(cx) else { return false };
    signal != libc::SIGSTOP || sys::getpgid(cx, child).is_ok_and(|group| group == foreground)
}

/// PROG has ended or is stopped: if the group that it leads is in the foreground, ours is from here on. A failure (a
/// terminal that is gone) changes nothing for us.
pub fn take_back(cx: &Cx, child: i32) {
    if sys::terminal_group(cx) == Some(child) {
        let _ = sys::getpgid(cx, 0).and_then(|group| sys::set_terminal_group(cx, group));
    }
}

/// A shell has put our group into the foreground, and continues it: that is meant for PROG. If PROG is in another
/// session, this fails.
pub fn give_again(cx: &Cx, child: i32) {
    let foreground =
        sys::terminal_group(cx).filter(|group| sys::getpgid(cx, 0).ok() == Some(*group));
    let of_prog = foreground.and_then(|_| sys::getpgid(cx, child).ok());
    if let Some(group) = of_prog.filter(|group| Some(*group) != foreground) {
        let _ = sys::set_terminal_group(cx, group);
    }
}
