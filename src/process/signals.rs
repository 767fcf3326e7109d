//! Signals that this process gets, passed on to the child for which it waits.

use std::cell::Cell;

use crate::say::error::Error;
use crate::say::show;
use crate::say::text;
use crate::sys::proc;
use crate::sys::structs::{SigInfo, SigSet};
use crate::sys::{self, Cx};

/// What a terminal sends to a process group: signal(7), termios(3).
const FROM_TERMINAL: [i32; 7] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGWINCH,
];

/// Is there one in a set of signals that is to terminate a process, and reaches none that is frozen?
pub fn has_terminating(set: u64) -> bool {
    const TERMINATING: [i32; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];
    let [a, b, c, d] = TERMINATING.map(|signal| 1 << (signal - 1));
    set & (a | b | c | d) != 0
}

/// The child that is waited for, and gets our signals.
pub struct Child {
    pub pid: i32,
    /// Does PROG have a session of its own? `None`: that is looked up, and whether the child passes signals on itself.
    session: Option<bool>,
    /// Was a signal refused, and has that been said?
    refused: Cell<bool>,
}

impl Child {
    /// A child, and what is known of it.
    pub fn new(pid: i32, session: Option<bool>) -> Child {
        Child { pid, session, refused: Cell::new(false) }
    }

    /// Is it PROG in a session of its own? Nobody there continues it, so that the kernel discards SIGTSTP and its kin
    /// unless PROG has a handler (an orphaned process group: setpgid(2)).
    fn leads_session(&self, cx: &Cx) -> bool {
        self.session.unwrap_or_else(|| {
            let pid = show::number(self.pid as u64);
            let stat = sys::read_file(cx, None, &proc::path(&["/proc/", &pid, "/stat"]));
            stat.is_ok_and(|stat| leads_session(&stat, self.pid as u64))
        })
    }
}

/// Does a process lead its session (field 6), and is it not td-init?
fn leads_session(stat: &[u8], pid: u64) -> bool {
    let name = text::split(stat, b' ').nth(1);
    proc::stat_field(stat, 6) == Some(pid) && name != Some(b"(td-init)")
}

/// Pass a signal on. The first that cannot be passed on is reported: a set-user-id program refuses those of a user.
pub fn pass_on(cx: &Cx, child: &Child, signal: &SigInfo) {
    if let Err(error) = send_or_stop(cx, child, signal.signo, signal.code) {
        if !child.refused.replace(true) {
            cx.say(&error.because("this is reported once, and the wait continues"));
        }
    }
}

/// Where the signal is one that stops, stop as well, as a shell expects, which waits for us to stop and not for the
/// child. The signal itself decides whether we do: not where the caller ignores it, nor where no shell could continue
/// us (an orphaned process group), which SIGSTOP would not ask.
fn send_or_stop(cx: &Cx, child: &Child, signal: i32, code: i32) -> Result<(), Error> {
    let stops = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU].contains(&signal);
    if !stops {
        return send(cx, child, signal, signal, code);
    }
    if sys::rt_sigpending(cx)?.0 & 1 << (libc::SIGCONT - 1) != 0 {
        return Ok(()); // which came later, and would be discarded
    }
    // Blocked, it stays pending until the child has its own, and a SIGCONT that comes meanwhile discards it; sent
    // later, it would discard that.
    sys::kill(cx, sys::getpid(cx)?, signal)?;
    let sent = send(cx, child, signal, libc::SIGSTOP, code);
    sys::rt_sigprocmask(cx, libc::SIG_UNBLOCK, SigSet(1 << (signal - 1)))?;
    sys::rt_sigprocmask(cx, libc::SIG_BLOCK, SigSet::ALL)?;
    sent
}

/// Send a signal to PROG; where that leads a session or a process group, `to_group` to all that it has started.
fn send(cx: &Cx, child: &Child, signal: i32, to_group: i32, code: i32) -> Result<(), Error> {
    // What the terminal sends goes to the whole process group, so that the child may have it already.
    // From the kernel comes also what is for us alone: a timer that the caller has set, a limit.
    let from_terminal = code == libc::SI_KERNEL && FROM_TERMINAL.contains(&signal);
    if from_terminal && sys::getpgid(cx, child.pid)? == sys::getpgid(cx, 0)? {
        return Ok(());
    }
    let is_job_control = to_group != signal || signal == libc::SIGCONT;
    // Where it has just ended, its SIGCHLD is on the way.
    if is_job_control && child.leads_session(cx) {
        // Before PROG leads a process group, it alone.
        let _ = kill(cx, child, -child.pid, to_group)? || kill(cx, child, child.pid, to_group)?;
    } else {
        kill(cx, child, child.pid, signal)?;
    }
    Ok(())
}

/// kill(2). False: nobody is there. Where one was refused before, the next takes no memory: who knows how many come.
fn kill(cx: &Cx, child: &Child, to: i32, signal: i32) -> Result<bool, Error> {
    match child.refused.get() {
        true => sys::kill_if_allowed(cx, to, signal),
        false => sys::kill_if_there(cx, to, signal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prog_in_a_session_of_its_own_is_known_by_its_stat() {
        assert!(leads_session(b"70 (a) 70 (sh)) S 1 70 70 34823 70 4194304", 70));
        assert!(!leads_session(b"70 (sh) S 1 70 71 34823 70 4194304", 70));
        assert!(!leads_session(b"70 (td-init) S 1 70 70 34823 70 4194304", 70));
        assert!(!leads_session(b"", 70));
    }
}
