//! Mounts that go along to a new root, each to the same path there, and back where a later part of the step
//! fails.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use syscalls::Errno;

use crate::chain::why_unreachable;
use crate::error::Error;
use crate::mounts::{self, Mount};
use crate::root::stand_in;
use crate::show::plain;
use crate::sys::{self, Cx};

/// What was moved, and the path from which.
#[derive(Default)]
pub struct Moves<'a>(Vec<(OwnedFd, &'a CStr)>);

impl<'a> Moves<'a> {
    /// Move the mounts on `paths` into the working directory, which is to become the root.
    pub fn make(&mut self, cx: &Cx, paths: &'a [CString]) -> Result<(), Error> {
        for path in paths {
            let shown = plain(path.to_bytes());
            let mount = mount_point(cx, path, &shown)?;
            let target = target(cx, path, &shown)?;
            sys::move_mount(cx, mount.as_fd(), target.as_fd())
                .map_err(|e| why(cx, &shown, mount.as_fd(), target.as_fd(), e))?;
            self.0.push((mount, path));
        }
        Ok(())
    }

    /// Move them back, the last first. The root may be another by now, so paths begin at the old one. What
    /// cannot be undone is said.
    pub fn undo(&self, cx: &Cx, old_root: BorrowedFd) {
        for (mount, path) in self.0.iter().rev() {
            let place = sys::openat2(cx, old_root, path, DIRECTORY, libc::RESOLVE_IN_ROOT);
            let moved = place.and_then(|place| sys::move_mount(cx, mount.as_fd(), place.as_fd()));
            if let Err(error) = moved {
                let what = [&plain(path.to_bytes()), " stays in NEW_ROOT"].concat();
                cx.say(&error.because(what));
            }
        }
    }
}

const DIRECTORY: i32 = libc::O_PATH | libc::O_DIRECTORY;

/// The mount at a path of the old root.
fn mount_point(cx: &Cx, path: &CStr, shown: &str) -> Result<OwnedFd, Error> {
    let mount = match sys::openat(cx, None, path, DIRECTORY) {
        Err(e) if e.is(Errno::ENOENT) && cx.dry() => return stand_in(cx),
        other => other.map_err(|e| match sys::statx(cx, None, path, 0) {
            Ok(_) => e.because([shown, " is no directory"].concat()),
            Err(looked) => e.because(why_unreachable(shown, &looked)),
        })?,
    };
    // (In a dry run, nothing was mounted there.)
    if !sys::fstatx(cx, mount.as_fd())?.is_mount_root() && !cx.dry() {
        let what = [shown, " is no mount point, so there is nothing to move"].concat();
        return Err(Error::refusal(what));
    }
    Ok(mount)
}

/// The same path in the new root, whose links may be hostile.
fn target(cx: &Cx, path: &CStr, shown: &str) -> Result<OwnedFd, Error> {
    let here = sys::openat(cx, None, c".", DIRECTORY)?;
    let within = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_SYMLINKS;
    match sys::openat2(cx, here.as_fd(), path, DIRECTORY, within) {
        Err(e) if e.is(Errno::ENOENT) && cx.dry() => stand_in(cx),
        other => other.map_err(|e| {
            e.because(["NEW_ROOT has no directory ", shown, " without a link on the way"].concat())
        }),
    }
}

/// Why a mount cannot be moved: look at it, and at what it would be moved to.
fn why(cx: &Cx, shown: &str, mount: BorrowedFd, target: BorrowedFd, error: Error) -> Error {
    let look = || {
        let own = mounts::own_proc(cx)?;
        let list = mounts::list_in(cx, own.as_fd(), c"mountinfo")?;
        Ok::<_, Error>((list, sys::fstatx(cx, mount)?.mnt_id, sys::fstatx(cx, target)?.mnt_id))
    };
    let Ok((list, mount, target)) = look() else { return error };
    let parent = |id: u64| {
        let parent = list.iter().find(|m| m.id == id)?.parent;
        list.iter().find(|m| m.id == parent)
    };
    if let Some(Mount { point, .. }) = parent(mount).filter(|parent| parent.shared) {
        let shared = ", is shared, so nothing can be moved away from it";
        let what = ["the parent mount of ", shown, ", ", &plain(point), shared].concat();
        return error.because(what).way_out("run it inside td-unshare --mount");
    }
    // As often as there are mounts: the lowest may be its own parent.
    let above = |id: &u64| parent(*id).map(|m| m.id);
    if std::iter::successors(Some(target), above).take(list.len()).any(|id| id == mount) {
        return error.because(["NEW_ROOT lies on ", shown, " itself"].concat());
    }
    if error.is(Errno::EINVAL) && !mounts::in_initial_user_namespace(cx) {
        // By elimination: nothing shows the lock.
        let locked = " came locked into the mount namespace of this user namespace";
        return error
            .because([shown, locked].concat())
            .way_out("bind it: td-mount --bind, before td-pivot");
    }
    mounts::why(cx, error)
}
