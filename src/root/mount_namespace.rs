//! Whose mount namespace this is: mount_namespaces(7).

use std::os::fd::{AsFd, BorrowedFd};

use crate::root::mountinfo::list_in;
use crate::say::error::Error;
use crate::sys::{self, Cx};

/// Are we in the mount namespace of the PID 1 of a proc? `own` is our directory there. `None`: it cannot be
/// seen.
pub fn shared_with_pid_1(cx: &Cx, own: BorrowedFd) -> Option<bool> {
    let namespace = sys::statx(cx, Some(own), c"ns/mnt", 0).ok()?;
    if let Ok(first) = sys::statx(cx, Some(own), c"../1/ns/mnt", 0) {
        return Some(namespace.same_file(&first));
    }
    // That asks for the right to trace PID 1; mountinfo does not, and no two namespaces have a mount in
    // common.
    let first = list_in(cx, own, c"../1/mountinfo").ok()?;
    let own = list_in(cx, own, c"mountinfo").ok()?;
    Some(own.iter().any(|mount| first.iter().any(|other| other.id == mount.id)))
}

/// Whose mount namespace this is.
#[derive(PartialEq)]
pub enum Owner {
    /// PID 1 is in another.
    Other,
    /// It is that of PID 1, and this process is not PID 1.
    Pid1,
    /// It is that of PID 1, and this process is PID 1, which may change it.
    OurselvesAsPid1,
}

/// Look for it. `None`: it cannot be seen. `own`: as [`own_proc`](crate::root::mounts::own_proc).
pub fn owner(cx: &Cx, own: Option<BorrowedFd>) -> Option<Owner> {
    let is_pid_1 = |yes| if yes { Owner::OurselvesAsPid1 } else { Owner::Pid1 };
    match own.and_then(|own| shared_with_pid_1(cx, own)) {
        Some(false) => Some(Owner::Other),
        // /proc may show another pid namespace than ours, in which we are not its PID 1.
        Some(true) => sys::readlinkat(cx, own, c"../self").ok().map(|pid| is_pid_1(pid == b"1")),
        None if sys::getpid(cx).is_ok_and(|pid| pid == 1) => Some(Owner::OurselvesAsPid1),
        None => None,
    }
}

/// Say that what is mounted is mounted for the whole machine. A dry run has not made the namespace that a step before
/// it would have; and where no proc is mounted, process 1 is still about to.
pub fn warn_on_host(cx: &Cx) {
    if cx.dry() || cx.made_mount_namespace() {
        return;
    }
    let own = sys::openat(cx, None, c"/proc/self", libc::O_PATH | libc::O_DIRECTORY);
    let Ok(own) = own else { return };
    if owner(cx, Some(own.as_fd())) == Some(Owner::Pid1) {
        cx.say(&Error::refusal(
            "this is the mount namespace of PID 1: all its processes see this mount; td-unshare --mount prevents that",
        ));
    }
}
