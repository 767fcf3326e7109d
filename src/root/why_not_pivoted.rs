//! Why pivot_root(2) fails, and what can be done about it.

use std::ffi::CStr;

use syscalls::Errno;

use crate::root::locked;
use crate::root::mountinfo::Mount;
use crate::root::mounts;
use crate::say::error::Error;
use crate::say::show::plain;
use crate::sys::{self, Cx};

/// A precondition of pivot_root(2) that is not met.
pub struct Cause {
    because: String,
    way_out: &'static str,
    pub fallback: Fallback,
}

/// What this tool can do about it.
#[derive(Clone, Copy)]
pub enum Fallback {
    No,
    /// Bind NEW_ROOT on itself.
    Bind,
    /// Move NEW_ROOT over the initramfs.
    Cover,
}

/// Look for it. Causes that a bind does not remove come first, in whatever order the kernel checks them. The new root,
/// `typed` by the user, is the working directory; `bind`: it may be bound on itself.
pub fn why(cx: &Cx, typed: &CStr, bind: bool, put_old: &CStr, error: &Error) -> Option<Cause> {
    let _looking = cx.looking();
    if !error.is(Errno::EINVAL) && !error.is(Errno::EBUSY) {
        return None;
    }
    let new_root = sys::statx(cx, None, c".", 0).ok()?;
    let root = sys::statx(cx, None, c"/", 0).ok()?;
    let old = sys::statx(cx, None, put_old, 0).ok()?;
    let seen = mounts::own_list(cx);
    let is_seen = seen.is_ok();
    let list = seen.unwrap_or_default();
    let line = |id: u64| list.iter().find(|mount| mount.id == id);
    let parent = |mount: &Mount| line(mount.parent);

    let name = plain(typed.to_bytes());
    let own_parent = line(new_root.mnt_id).filter(|_| new_root.is_mount_root()).and_then(parent);
    let parts = [
        (format!("the mount of {name}"), line(old.mnt_id).filter(|_| put_old == c".")),
        (String::from("the mount of --put-old"), line(old.mnt_id)),
        (format!("the parent mount of {name}"), own_parent),
        (String::from("the parent mount of the root"), line(root.mnt_id).and_then(parent)),
    ];
    let cause = |because, way_out| Some(Cause { because, way_out, fallback: Fallback::No });
    let bound =
        |because| Some(Cause { because, way_out: "leave out --no-bind", fallback: Fallback::Bind });
    for (part, mount) in parts {
        if let Some(mount) = mount.filter(|mount| mount.shared) {
            let point = plain(mount.point);
            let what = format!("{part}, {point}, is shared, so the new root would propagate");
            return cause(what, "run it inside td-unshare --mount, or make it private first");
        }
    }
    if !root.is_mount_root() {
        let what = "the current root is not a mount point: this process is in a chroot(2)";
        return cause(what.into(), "run td-pivot before the chroot");
    }
    let is_initramfs = line(root.mnt_id).is_some_and(|mount| mount.id == mount.parent);
    if is_initramfs && (bind || new_root.is_mount_root()) {
        let because = "the current root is the initramfs, which has no parent mount".into();
        return Some(Cause { because, way_out: "leave out --put-old", fallback: Fallback::Cover });
    }
    if new_root.mnt_id == root.mnt_id {
        return bound(format!(
            "{name} is not a mount point, but lies on the mount of the current root"
        ));
    }
    if !new_root.is_mount_root() {
        return bound(format!("{name} is not a mount point"));
    }
    if !is_seen || !error.is(Errno::EINVAL) {
        return None;
    }
    let Some(mount) = line(new_root.mnt_id) else {
        return cause(format!("{name} is not below the current root"), "");
    };
    // What lies above the current root is not in mountinfo.
    let is_above_seen = line(root.mnt_id).is_none_or(|root| parent(root).is_some());
    match locked::because(cx, &list, mount, &name) {
        Some(why) if is_above_seen || !why.starts_with("perhaps") => bound(why),
        Some(why) => bound([&why, ", or the mount that holds the current root is shared"].concat()),
        None if is_above_seen => None,
        None => cause("perhaps the mount that holds the current root is shared".into(), ""),
    }
}

/// The error with its cause and the way out.
pub fn explain(cx: &Cx, cause: Option<Cause>, error: Error) -> Error {
    let _looking = cx.looking();
    match cause {
        None => mounts::why(cx, error),
        Some(Cause { because, way_out: "", .. }) => error.because(because),
        Some(cause) => error.because(cause.because).way_out(cause.way_out),
    }
}
