//! A child: cloning it, so that it dies with its parent.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use syscalls::Errno;

use crate::cgroup::memberships::Memberships;
use crate::process::explain;
use crate::process::ready::{Ran, Ready};
use crate::process::wait;
use crate::process::why_no_child;
use crate::say::error::{Error, FAILED};
use crate::sys::structs::{SigAction, SigSet};
use crate::sys::{self, Cx};

/// Which side of a clone this process is.
pub enum Side {
    /// The child. It has the signal dispositions of the caller, and PROG gets the caller's signal mask.
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
        // If the caller ignores SIGCHLD, the kernel reaps our children, and we do not get their status.
        let sigchld = sys::rt_sigaction(cx, libc::SIGCHLD, Some(&SigAction::DEFAULT))?;
        Ok(Caller { mask, sigchld })
    }
}

/// Clone, with the namespaces `flags` of clone(2), into the version 2 cgroup of `cgroups`. The child dies when the
/// parent does. A dry run continues as the child.
///
/// Signals are blocked before the clone, so that none is lost between it and the wait. Process 1 of a
/// new pid namespace keeps them blocked until PROG begins: for it the kernel throws away a signal that
/// would end another process, unless it is blocked (pid_namespaces(7)).
pub fn spawn(cx: &Cx, flags: u64, cgroups: &mut Memberships) -> Result<Side, Error> {
    spawn_for(cx, &Caller::new(cx)?, flags, cgroups)
}

/// Clone as [`spawn`] does, for a parent that has several children in turn.
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
    // After a failure the parent does what the caller of this function does.
    let set_up = set_up_child(cx, parent, &sigchld, (!is_first).then_some(mask));
    if let Err(error) = set_up.and_then(|()| ready.of_child(cx)) {
        cx.say(&explain::explained(cx, error));
        sys::exit(cx, FAILED);
    }
    Ok(Side::Child)
}

/// clone3(2), or clone(2) if a seccomp filter answers that clone3(2) does not exist, or, for a child without
/// namespaces, that it is not permitted. With clone(2), the child has to move itself to the version 2 cgroup, and
/// creates a cgroup namespace after that.
fn clone(cx: &Cx, flags: u64, cgroups: &mut Memberships) -> Result<i32, Error> {
    match sys::clone3(cx, flags, cgroups.v2.as_ref().map(AsFd::as_fd)) {
        Err(e) if e.is(Errno::ENOSYS) || e.is(Errno::EPERM) && flags == 0 => {}
        other => return other.map_err(|e| why_no_child::why(cx, cgroups.start(), e)),
    }
    let later = if cgroups.without_clone3(cx)? { libc::CLONE_NEWCGROUP as u64 } else { 0 };
    sys::clone(cx, flags & !later).map_err(|e| why_no_child::why(cx, None, e))
}

/// Die with the parent, whose pidfd is passed on. Leave the locks of the chain to the parent, and restore the caller's
/// signal dispositions, and its mask if it is given.
fn set_up_child(
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
    // The waiting parent holds them: they are free when it has ended, even if other processes are still running.
    cx.leave_locks();
    if sigchld.loses_children() {
        sys::rt_sigaction(cx, libc::SIGCHLD, Some(sigchld))?;
    }
    mask.map_or(Ok(()), |mask| sys::rt_sigprocmask(cx, libc::SIG_SETMASK, mask).map(drop))
}

/// The signal that ends PROG with its parent: PR_SET_PDEATHSIG(2const).
pub struct DeathSignal {
    signal: i32,
    parent: Option<OwnedFd>,
}

impl DeathSignal {
    /// Look it up, and open the parent if it has not passed on its pidfd. (A process that clones passes on its own.)
    pub fn new(cx: &Cx, clones: bool) -> Result<DeathSignal, Error> {
        let signal = if clones { libc::SIGKILL } else { sys::prctl_get_pdeathsig(cx)? };
        match clones || signal == 0 {
            true => Ok(DeathSignal { signal, parent: None }),
            false => DeathSignal::of(cx, signal),
        }
    }

    /// That `signal` is to be it: the parent that is there now.
    pub fn of(cx: &Cx, signal: i32) -> Result<DeathSignal, Error> {
        // One that waits has handed on its pidfd.
        let parent = if cx.parent().is_none() { sys::getppid(cx)? } else { 0 };
        // A parent outside of our pid namespace has no pid here.
        let parent = if parent == 0 { None } else { Some(sys::pidfd_open(cx, parent)?) };
        Ok(DeathSignal { signal, parent })
    }

    /// A change of ids has cleared it, and no child has it: set it again. Is the parent dead already?
    pub fn set(self, cx: &Cx) -> Result<(), Error> {
        let DeathSignal { signal, parent } = self;
        if signal == 0 {
            return Ok(());
        }
        sys::prctl_set_pdeathsig(cx, signal)?;
        let parent = parent.as_ref().map(AsFd::as_fd).or(cx.parent());
        if parent.is_some_and(|parent| sys::readable(cx, parent).unwrap_or(true)) {
            sys::exit(cx, FAILED);
        }
        Ok(())
    }
}

/// What [`run_helper`] calls on both sides.
pub type Part<'a> = dyn FnOnce(Side) -> Result<(), Error> + 'a;

/// Clone a helper, in new namespaces `flags`, that does a part of the work while we do ours: `part` is called on both
/// sides. Then wait for its end. Returns its exit status; the helper reports its failures itself.
pub fn run_helper(cx: &Cx, flags: u64, part: Box<Part<'_>>) -> Result<u8, Error> {
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
        let Err(error) = die_with_parent(cx, parent).and_then(|()| part(Side::Child)) else {
            sys::exit(cx, 0)
        };
        let error = explain::explained(cx, error);
        cx.say(&error);
        sys::exit(cx, error.status());
    }
    let done =
        part(Side::Parent(child, Ran::nothing())).inspect_err(|_| drop(wait::kill(cx, child)));
    let ended = done.and_then(|()| {
        wait::until_ended(cx, child);
        sys::wait4(cx, child, 0)
    });
    if sigchld.loses_children() {
        sys::rt_sigaction(cx, libc::SIGCHLD, Some(&sigchld))?;
    }
    Ok(ended?.1.exit_status())
}

/// Die with the parent: when it has ended, the files that we work on may belong to another run.
fn die_with_parent(cx: &Cx, parent: i32) -> Result<(), Error> {
    sys::prctl_set_pdeathsig(cx, libc::SIGKILL)?;
    if sys::getppid(cx)? != parent {
        sys::exit(cx, FAILED);
    }
    Ok(())
}
