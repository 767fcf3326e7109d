//! A child: cloning it, passing signals on to it, reaping, and how it ended.

use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use syscalls::Errno;

use crate::cgroup::memberships::Memberships;
use crate::cgroup::record;
use crate::process::descriptors::{Ran, Ready};
use crate::say::error::{Error, FAILED};
use crate::say::number::decimal;
use crate::say::show;
use crate::say::text;
use crate::sys::proc;
use crate::sys::structs::{SigAction, SigInfo, SigSet, WaitStatus};
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

/// Is there one in a set of signals that is to end a process, and reaches none that is frozen?
fn has_ending(set: u64) -> bool {
    const ENDING: [i32; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];
    let [a, b, c, d] = ENDING.map(|signal| 1 << (signal - 1));
    set & (a | b | c | d) != 0
}

/// Which side of a clone this process is.
pub enum Side {
    /// The child, with the dispositions that the caller had, and PROG with the signal mask.
    Child,
    /// The parent, with every signal blocked: the child's pid, and whether that has executed PROG.
    Parent(i32, Ran),
}

/// What the caller has given us, and a child gets back: its signal mask, and what SIGCHLD does.
pub struct Caller {
    mask: SigSet,
    sigchld: SigAction,
}

impl Caller {
    /// Block every signal, and have children left to us.
    pub fn new(cx: &Cx) -> Result<Caller, Error> {
        let mask = sys::rt_sigprocmask(cx, libc::SIG_BLOCK, SigSet::ALL)?;
        // A caller that ignores SIGCHLD has the kernel reap children, and takes their status from us.
        let sigchld = sys::rt_sigaction(cx, libc::SIGCHLD, Some(&SigAction::DEFAULT))?;
        Ok(Caller { mask, sigchld })
    }
}

/// Clone, with the namespaces `flags` of clone(2), into the version 2 cgroup of `cgroups`. The child dies when the
/// parent does. A dry run goes on as the child.
///
/// Signals are blocked before the clone, so that none is lost between it and the wait. Process 1 of a
/// new pid namespace keeps them blocked until PROG begins: for it the kernel throws away a signal that
/// would end another process, unless it is blocked (pid_namespaces(7)).
pub fn spawn(cx: &Cx, flags: u64, cgroups: &mut Memberships) -> Result<Side, Error> {
    spawn_for(cx, &Caller::new(cx)?, flags, cgroups)
}

/// The same once more, or the first time, of a parent that has several children in turn.
pub fn spawn_for(
    cx: &Cx,
    caller: &Caller,
    flags: u64,
    cgroups: &mut Memberships,
) -> Result<Side, Error> {
    let &Caller { mask, sigchld } = caller;
    let parent = sys::pidfd_open(cx, sys::getpid(cx)?)?;
    let ready = Ready::new(cx)?;
    match clone(cx, flags, cgroups)? {
        0 => cx.trace_child(),
        pid => return Ok(Side::Parent(pid, ready.of_parent(cx))),
    }
    let is_first = flags & libc::CLONE_NEWPID as u64 != 0;
    if is_first {
        cx.block_until_prog(mask);
    }
    // What the caller does after a failure is the parent's to do.
    let begun = be_child(cx, parent, &sigchld, (!is_first).then_some(mask));
    if let Err(error) = begun.and_then(|()| ready.of_child(cx)) {
        cx.say(&error);
        sys::exit(cx, FAILED);
    }
    Ok(Side::Child)
}

/// clone3(2), or clone(2) where a system call policy answers that the first does not exist: then the child has to
/// move itself to the version 2 cgroup as well, and makes a cgroup namespace when it is there.
fn clone(cx: &Cx, flags: u64, cgroups: &mut Memberships) -> Result<i32, Error> {
    match sys::clone3(cx, flags, cgroups.v2.as_ref().map(AsFd::as_fd)) {
        Err(e) if e.is(Errno::ENOSYS) => {}
        other => return other,
    }
    let later = if cgroups.without_clone3(cx)? { libc::CLONE_NEWCGROUP as u64 } else { 0 };
    sys::clone(cx, flags & !later)
}

/// Die with the parent, whose pidfd is handed on; leave it the locks of the chain, and have the signals as the caller had
/// them, the mask too where it is given.
fn be_child(
    cx: &Cx,
    parent: OwnedFd,
    sigchld: &SigAction,
    mask: Option<SigSet>,
) -> Result<(), Error> {
    // The signal comes only for a parent that dies from now on. Is it dead already?
    sys::prctl_set_pdeathsig(cx, libc::SIGKILL)?;
    if sys::readable(cx, parent.as_fd())? {
        sys::exit(cx, FAILED);
    }
    cx.set_parent(Some(sys::leave_to_prog(cx, parent)?.as_raw_fd()));
    // The parent has them, which waits: they are free when that has ended, whoever lives on.
    cx.leave_locks();
    if sigchld.loses_children() {
        sys::rt_sigaction(cx, libc::SIGCHLD, Some(sigchld))?;
    }
    mask.map_or(Ok(()), |mask| sys::rt_sigprocmask(cx, libc::SIG_SETMASK, mask).map(drop))
}

/// The child that is waited for, and gets our signals.
pub struct Waited {
    pid: i32,
    /// Does PROG have a session of its own? `None`: that is looked up, and whether the child passes signals on itself.
    session: Option<bool>,
    /// Was a signal refused, and has that been said?
    refused: Cell<bool>,
}

impl Waited {
    /// A child, and what is known of it.
    pub fn new(pid: i32, session: Option<bool>) -> Waited {
        Waited { pid, session, refused: Cell::new(false) }
    }

    /// Is it PROG in a session of its own? Nobody there continues it, so that the kernel discards SIGTSTP and its kin
    /// unless PROG has a handler (an orphaned process group: setpgid(2)).
    fn is_apart(&self, cx: &Cx) -> bool {
        self.session.unwrap_or_else(|| {
            let pid = show::number(self.pid as u64);
            let stat = sys::read_file(cx, None, &proc::path(&["/proc/", &pid, "/stat"]));
            stat.is_ok_and(|stat| is_apart(&stat, self.pid as u64))
        })
    }
}

/// Does a process lead its session (field 6), and is it not td-init?
fn is_apart(stat: &[u8], pid: u64) -> bool {
    let name = text::split(stat, b' ').nth(1);
    proc::stat_field(stat, 6) == Some(pid) && name != Some(b"(td-init)")
}

/// Pass every signal on to the child and reap whatever ends, until the child has ended. Returns how.
/// Sleeps in one call: an idle container wakes nobody.
pub fn wait(cx: &Cx, child: &Waited) -> Result<WaitStatus, Error> {
    loop {
        let signal = next_signal(cx)?;
        if let Some(status) = handle(cx, child, &signal)? {
            return Ok(status);
        }
    }
}

/// As [`wait`], of a child that may be frozen. When a signal is to end it, `release` does what is to be done first; a
/// child that is frozen still is killed. Where that does not end it, on version 1, that is a failure.
pub fn wait_unless_frozen(
    cx: &Cx,
    child: &Waited,
    release: &dyn Fn(),
) -> Result<WaitStatus, Error> {
    loop {
        let signal = next_signal(cx)?;
        if let Some(status) = handle(cx, child, &signal)? {
            return Ok(status);
        }
        if !has_ending(1 << (signal.signo - 1)) {
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

/// Wait until the child has said something on a line, and no longer than until a signal is to end a child that is
/// frozen. Signals are blocked, and the child gets them later.
fn await_child(cx: &Cx, line: &OwnedFd, child: i32) -> Result<(), Error> {
    while !sys::readable_within(cx, line.as_fd(), 1)? {
        if !has_ending(sys::rt_sigpending(cx)?.0) {
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

/// Pass a signal on to the child; or reap what has ended, and return how, if that was the child. The first signal that
/// cannot be passed on is said, and none ends the wait: a set-user-id program refuses those of a user.
pub fn handle(cx: &Cx, child: &Waited, signal: &SigInfo) -> Result<Option<WaitStatus>, Error> {
    if signal.signo == libc::SIGCHLD {
        return reap(cx, child.pid);
    }
    if let Err(error) = pass_on(cx, child, signal.signo, signal.code) {
        if !child.refused.replace(true) {
            cx.say(&error.because("this is reported once, and the wait continues"));
        }
    }
    Ok(None)
}

/// Kill the child and wait for its end, when [`wait`] has failed: nothing may be cleaned up while it lives. That is an
/// error, when it is frozen on version 1.
pub fn end(cx: &Cx, child: i32) -> Result<(), Error> {
    // What is said of the rest is the first failure.
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

/// A line on which a parent and its new child wait for each other. Made before the clone, it has both
/// ends on either side; each keeps its own, so that the end of the one is an end of file to the other.
pub struct Line {
    parent: OwnedFd,
    child: OwnedFd,
}

/// Go on as a sibling, whose parent is that of [`spawn`]: in the pid namespace that this process has joined. It has
/// no part in that itself, and ends when the parent has been told who goes on.
pub fn hand_over(cx: &Cx, line: &Line) -> Result<(), Error> {
    // A policy that is loaded may have no clone3(2), and nothing of that is needed.
    match sys::clone(cx, libc::CLONE_PARENT as u64)? {
        0 => {
            cx.trace_child();
            Ok(())
        }
        pid => {
            // Few policies refuse write(2).
            sys::write(cx, line.child.as_fd(), show::number(pid as u64).as_bytes())?;
            sys::exit(cx, 0)
        }
    }
}

/// The end of a line that one side has kept.
pub struct End(OwnedFd);

impl Line {
    /// Make one.
    pub fn new(cx: &Cx) -> Result<Line, Error> {
        let (parent, child) = sys::socketpair(cx, 0)?;
        Ok(Line { parent, child })
    }

    /// The parent's part: wait until the child has handed over, to the process that is returned. `None`: it has failed.
    pub fn successor(self, cx: &Cx, pid: i32) -> Result<Option<i32>, Error> {
        let Line { child, parent } = self;
        drop(child);
        await_child(cx, &parent, pid)?;
        let mut pid = [0; 10];
        let n = sys::read(cx, parent.as_fd(), &mut pid)?;
        Ok(decimal(pid.get(..n).unwrap_or_default()).map(|pid| pid as i32))
    }

    /// The child's part: say that it is ready, and wait until the parent has done its own.
    pub fn call(self, cx: &Cx) -> Result<End, Error> {
        let Line { child, parent } = self;
        drop(parent);
        sys::sendto(cx, child.as_fd(), b"1")?;
        // At an end of file the parent has failed, and says why. In a dry run there is none.
        if !cx.dry() && sys::read(cx, child.as_fd(), &mut [0])? == 0 {
            sys::exit(cx, FAILED);
        }
        Ok(End(child))
    }

    /// The parent's part: wait until the child is ready, do `act`, and let it go on. `None`: it has failed
    /// before, and says why.
    pub fn answer(
        self,
        cx: &Cx,
        pid: i32,
        act: impl FnOnce() -> Result<(), Error>,
    ) -> Result<Option<End>, Error> {
        let Line { child, parent } = self;
        drop(child);
        await_child(cx, &parent, pid)?;
        if sys::read(cx, parent.as_fd(), &mut [0])? == 0 {
            return Ok(None);
        }
        act()?;
        match sys::sendto(cx, parent.as_fd(), b"1") {
            Err(e) if e.is(Errno::EPIPE) => {} // it was killed
            other => other?,
        }
        Ok(Some(End(parent)))
    }
}

impl End {
    /// The child could not become PROG: tell the parent.
    pub fn give_up(&self, cx: &Cx) {
        let _ = sys::sendto(cx, self.0.as_fd(), b"0"); // what is said is why
    }

    /// When the child has ended: did it not become PROG? Who does closes this end, and no more comes. (Who is
    /// killed before that has left what we said unread: ECONNRESET.)
    pub fn gave_up(&self, cx: &Cx) -> bool {
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

/// What [`help`] calls on both sides.
pub type Part<'a> = dyn FnOnce(Side) -> Result<(), Error> + 'a;

/// Have a child, in new namespaces `flags`, do a part of our work, while we do ours: `part` is called on
/// both sides. Then wait for its end. Returns its exit status; what fails in it, it says itself.
pub fn help(cx: &Cx, flags: u64, part: Box<Part<'_>>) -> Result<u8, Error> {
    // As in `spawn`, but only where it must be: to set it discards a SIGCHLD that is pending, which may be
    // of another child (sigaction(3p)).
    let sigchld = sys::rt_sigaction(cx, libc::SIGCHLD, None)?;
    if sigchld.loses_children() {
        sys::rt_sigaction(cx, libc::SIGCHLD, Some(&SigAction::DEFAULT))?;
    }
    let parent = sys::getpid(cx)?;
    let child = clone(cx, flags, &mut Memberships::default())?;
    if child == 0 {
        cx.trace_child();
        cx.close_ready(); // what it may execute is not PROG
        cx.set_parent(None);
        let Err(error) = help_parent(cx, parent).and_then(|()| part(Side::Child)) else {
            sys::exit(cx, 0)
        };
        cx.say(&error);
        sys::exit(cx, error.status());
    }
    let done = part(Side::Parent(child, Ran::nothing())).inspect_err(|_| drop(end(cx, child)));
    let ended = done.and_then(|()| sys::wait4(cx, child, 0));
    if sigchld.loses_children() {
        sys::rt_sigaction(cx, libc::SIGCHLD, Some(&sigchld))?;
    }
    Ok(ended?.1.exit_status())
}

/// Die with the parent: when it is gone, what we work on may be another's.
fn help_parent(cx: &Cx, parent: i32) -> Result<(), Error> {
    sys::prctl_set_pdeathsig(cx, libc::SIGKILL)?;
    if sys::getppid(cx)? != parent {
        sys::exit(cx, FAILED);
    }
    Ok(())
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

/// Pass a signal on. Where it is one that stops, stop as well, as a shell expects, which waits for us to stop and not for
/// the child. The signal itself decides whether we do: not where the caller ignores it, nor where no shell could continue
/// us (an orphaned process group), which SIGSTOP would not ask.
fn pass_on(cx: &Cx, child: &Waited, signal: i32, code: i32) -> Result<(), Error> {
    let stops = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU].contains(&signal);
    if !stops {
        return pass_to(cx, child, signal, signal, code);
    }
    // Blocked, it stays pending until the child has its own, and a SIGCONT that comes meanwhile discards it; sent
    // later, it would discard that.
    sys::kill(cx, sys::getpid(cx)?, signal)?;
    let passed = pass_to(cx, child, signal, libc::SIGSTOP, code);
    sys::rt_sigprocmask(cx, libc::SIG_UNBLOCK, SigSet(1 << (signal - 1)))?;
    sys::rt_sigprocmask(cx, libc::SIG_BLOCK, SigSet::ALL)?;
    passed
}

/// Pass a signal on to PROG; where that leads a session or a process group, `to_group` to all that it has started.
fn pass_to(cx: &Cx, child: &Waited, signal: i32, to_group: i32, code: i32) -> Result<(), Error> {
    // What the terminal sends goes to the whole process group, so that the child may have it already.
    // From the kernel comes also what is for us alone: a timer that the caller has set, a limit.
    let from_terminal = code == libc::SI_KERNEL && FROM_TERMINAL.contains(&signal);
    if from_terminal && sys::getpgid(cx, child.pid)? == sys::getpgid(cx, 0)? {
        return Ok(());
    }
    let is_job_control = to_group != signal || signal == libc::SIGCONT;
    // Where it has just ended, its SIGCHLD is on the way.
    if is_job_control && child.is_apart(cx) {
        // Before PROG leads a process group, it alone.
        let _ = send(cx, child, -child.pid, to_group)? || send(cx, child, child.pid, to_group)?;
    } else {
        send(cx, child, child.pid, signal)?;
    }
    Ok(())
}

/// kill(2). False: nobody is there. Where one was refused before, the next takes no memory: who knows how many come.
fn send(cx: &Cx, child: &Waited, to: i32, signal: i32) -> Result<bool, Error> {
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
        assert!(is_apart(b"70 (a) 70 (sh)) S 1 70 70 34823 70 4194304", 70));
        assert!(!is_apart(b"70 (sh) S 1 70 71 34823 70 4194304", 70));
        assert!(!is_apart(b"70 (td-init) S 1 70 70 34823 70 4194304", 70));
        assert!(!is_apart(b"", 70));
    }
}
