//! Signals that this process gets, passed on to the child for which it waits.

use std::cell::{Cell, OnceCell};
use std::ffi::CString;
use std::os::fd::AsFd;

use crate::process::terminal;
use crate::say::error::Error;
use crate::say::show;
use crate::say::text;
use crate::sys::proc;
use crate::sys::structs::{SigInfo, SigSet, WaitStatus};
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

/// What td-init can be told about signals.
#[derive(Clone, Copy)]
pub struct Ways {
    /// PROG leads a process group, and the whole group gets them.
    pub group: bool,
    /// Say what is passed on, and what is reaped.
    pub verbose: bool,
    /// Say which orphans are reaped.
    pub warn: bool,
    /// What PROG gets for each: 0 for itself, [`DROPPED`] for nothing.
    pub rewrite: [u8; 65],
}

/// A signal that PROG does not get.
pub const DROPPED: u8 = u8::MAX;

impl Ways {
    /// As every tool does it: PROG gets each signal itself.
    pub const USUAL: Ways = Ways { group: false, verbose: false, warn: false, rewrite: [0; 65] };
}

/// The child that is waited for, and gets our signals.
pub struct Child {
    pub pid: i32,
    /// Does PROG have a session of its own? `None`: look it up, and also whether the child passes signals on itself.
    session: Option<bool>,
    ways: Ways,
    /// Its file in /proc.
    stat: OnceCell<CString>,
    /// Was a signal refused, and has that been said?
    refused: Cell<bool>,
    /// How it has ended.
    pub ended: Cell<Option<WaitStatus>>,
    /// The last line that was printed: the next is written in its place, for the heap only grows.
    line: Cell<String>,
}

impl Child {
    /// A child, and what is known of it.
    pub fn new(pid: i32, session: Option<bool>) -> Child {
        Child::with(pid, session, Ways::USUAL)
    }

    /// A child of td-init.
    pub fn with(pid: i32, session: Option<bool>, ways: Ways) -> Child {
        let (ended, line) = (Cell::new(None), Cell::default());
        let stat = OnceCell::new();
        Child { pid, session, ways, stat, refused: Cell::new(false), ended, line }
    }

    /// The signal that PROG gets for this one; 0: none.
    pub fn rewritten(&self, signal: i32) -> i32 {
        match self.ways.rewrite.get(signal as usize) {
            None | Some(0) => signal,
            Some(&DROPPED) => 0,
            Some(other) => i32::from(*other),
        }
    }

    /// Print a line, if that is asked for.
    fn tell(&self, cx: &Cx, asked: bool, write: &dyn Fn(&mut String)) {
        if asked {
            let mut line = self.line.take();
            line.clear();
            line.push_str(cx.tool());
            line.push_str(": ");
            write(&mut line);
            line.push('\n');
            cx.tell(&line);
            self.line.set(line);
        }
    }

    /// A process was reaped: this child, or another.
    pub fn has_reaped(&self, cx: &Cx, pid: i32, status: WaitStatus) {
        let is_prog = pid == self.pid;
        if is_prog {
            self.ended.set(Some(status));
        }
        self.tell(cx, self.ways.warn && !is_prog, &|line| {
            show::unsigned("Reaped zombie process with pid=", pid as u64, line); // which is what tini says
        });
        self.tell(cx, self.ways.verbose, &|line| {
            line.push_str(if is_prog { "PROG, " } else { "" });
            show::unsigned("process ", pid as u64, line);
            if libc::WIFSIGNALED(status.0) {
                line.push_str(", was killed by ");
                line.push_str(show::signal(libc::WTERMSIG(status.0)));
            } else {
                show::unsigned(", has ended with exit status ", status.exit_status().into(), line);
            }
        });
    }

    /// Is it PROG in a session of its own? No process there can continue it, so the kernel discards SIGTSTP, SIGTTIN
    /// and SIGTTOU unless PROG has a handler (an orphaned process group: setpgid(2)).
    fn leads_session(&self, cx: &Cx) -> bool {
        self.session.unwrap_or_else(|| {
            // Asked for each SIGCONT: what it takes is taken once, for memory is never freed.
            let file = self
                .stat
                .get_or_init(|| proc::path(&["/proc/", &show::number(self.pid as u64), "/stat"]));
            let mut stat = [0; 512];
            let read = sys::openat(cx, None, file, libc::O_RDONLY)
                .and_then(|file| sys::read(cx, file.as_fd(), &mut stat));
            let stat = stat.get(..read.unwrap_or(0)).unwrap_or_default();
            leads_session(stat, self.pid as u64)
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
            cx.say(&error.because("the wait continues; further failures are not reported"));
        }
    }
}

/// If the signal stops a process, stop too: a shell waits for us to stop, not for the child.
fn send_or_stop(cx: &Cx, child: &Child, signal: i32, code: i32) -> Result<(), Error> {
    if ![libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU].contains(&signal) {
        if signal == libc::SIGCONT {
            terminal::give_again(cx, child.pid);
        }
        return send(cx, child, signal, signal, code);
    }
    if child.rewritten(signal) == 0 {
        return send(cx, child, signal, signal, code);
    }
    let own = sys::getpid(cx)?;
    stop_self(cx, own, signal, &|| send(cx, child, signal, libc::SIGSTOP, code))
}

/// Stop, after `before`. Send ourselves (`who`; 0: our process group) the signal itself, not SIGSTOP: then we do not stop if the caller ignores the
/// signal, or if no shell could continue us (an orphaned process group).
fn stop_self(
    cx: &Cx,
    who: i32,
    signal: i32,
    before: &dyn Fn() -> Result<(), Error>,
) -> Result<(), Error> {
    if sys::rt_sigpending(cx)?.0 & 1 << (libc::SIGCONT - 1) != 0 {
        return Ok(()); // which came later, and would be discarded
    }
    // Blocked, it stays pending until the child has its own, and a SIGCONT that comes meanwhile discards it; sent
    // later, it would discard that.
    sys::kill(cx, who, signal)?;
    let done = before();
    take_effect(cx, signal)?;
    done
}

/// Let a signal that is pending do what it does: one that stops a process stops us here, until we are continued.
pub fn take_effect(cx: &Cx, signal: i32) -> Result<(), Error> {
    sys::rt_sigprocmask(cx, libc::SIG_UNBLOCK, SigSet(1 << (signal - 1)))?;
    sys::rt_sigprocmask(cx, libc::SIG_BLOCK, SigSet::ALL).map(drop)
}

/// PROG was stopped. If it was on our terminal, a shell waits for us to stop, and to leave the terminal to it.
pub fn stop_too(cx: &Cx, child: i32, signal: i32) -> Result<(), Error> {
    if terminal::is_stopped_there(cx, child, signal) {
        // The rest of a pipeline too, where the terminal has told the process group of PROG alone.
        let is_apart = sys::getpgid(cx, child)? != sys::getpgid(cx, 0)?;
        let who = if is_apart { 0 } else { sys::getpid(cx)? };
        stop_self(cx, who, libc::SIGTSTP, &|| {
            terminal::take_back(cx, child);
            Ok(())
        })?;
        // Also if we did not stop, because no shell could continue us.
        terminal::give_again(cx, child);
    }
    Ok(())
}

/// Send a signal to PROG. If PROG leads a session or a process group, send `to_group` to the whole group.
fn send(cx: &Cx, child: &Child, signal: i32, to_group: i32, code: i32) -> Result<(), Error> {
    // The terminal sends a signal to the whole process group, so the child may have it already. But the kernel also
    // sends signals for us alone: a timer that the caller has set, a limit.
    let from_terminal = code == libc::SI_KERNEL && FROM_TERMINAL.contains(&signal);
    // Of a terminal that is hung up, only the process that leads the session gets SIGHUP.
    let for_us_alone = signal == libc::SIGHUP && sys::getsid(cx)? == sys::getpid(cx)?;
    let from_terminal = from_terminal && !for_us_alone;
    if from_terminal && sys::getpgid(cx, child.pid)? == sys::getpgid(cx, 0)? {
        child.tell(cx, child.ways.verbose, &|line| {
            line.push_str(show::signal(signal));
            line.push_str(": PROG has received it from the terminal");
        });
        return Ok(());
    }
    let other = child.rewritten(signal);
    let is_job_control = other == signal && (to_group != signal || signal == libc::SIGCONT);
    let as_group = is_job_control && child.leads_session(cx);
    let sent = if as_group { to_group } else { other };
    child.tell(cx, child.ways.verbose, &|line| {
        line.push_str(show::signal(signal));
        match sent {
            0 => line.push_str(": dropped"),
            _ => line.push_str(": PROG is sent "),
        }
        (sent != 0).then(|| line.push_str(show::signal(sent)));
    });
    // If it has just ended, its SIGCHLD is pending.
    if sent != 0 {
        // Before PROG leads a process group, it alone.
        let _ = (as_group || child.ways.group) && kill(cx, child, -child.pid, sent)?
            || kill(cx, child, child.pid, sent)?;
    }
    Ok(())
}

/// kill(2). False: there is no such process. After one refusal, further ones take no memory: their number has no limit.
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
