//! Mounts that go along to a new root, each to the same path there, and back where a later part of the step
//! fails.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::root::dry_run::or_stand_in;
use crate::root::mounts::why_not_moved;
use crate::root::why_no_path::why_unreachable;
use crate::say::error::Error;
use crate::say::show::plain;
use crate::sys::{self, Cx};

/// A mount that was moved, and its old path.
#[derive(Default)]
pub struct Moves<'a>(Vec<(OwnedFd, &'a CStr)>);

impl<'a> Moves<'a> {
    /// Move the mounts on `paths` into the working directory, which is to become the root.
    pub fn make(&mut self, cx: &Cx, paths: &'a [CString]) -> Result<(), Error> {
        for path in paths {
            let mount = source(cx, path)?;
            let target = target(cx, path)?;
            sys::move_mount(cx, mount.as_fd(), target.as_fd())
                .map_err(|e| why_not_moved(cx, path, mount.as_fd(), target.as_fd(), e))?;
            self.0.push((mount, path));
        }
        Ok(())
    }

    /// Move them back, the last first. The root may have changed, so paths start at the old root. What cannot be undone
    /// is reported.
    pub fn undo(&self, cx: &Cx, old_root: BorrowedFd) {
        for (mount, path) in self.0.iter().rev() {
            let place = sys::openat2(cx, old_root, path, DIRECTORY, libc::RESOLVE_IN_ROOT);
            let moved = place.and_then(|place| sys::move_mount(cx, mount.as_fd(), place.as_fd()));
            if let Err(error) = moved {
                let shown = plain(path.to_bytes());
                cx.say(&error.because(format_args!("{shown} stays in NEW_ROOT")));
            }
        }
    }
}

const DIRECTORY: i32 = libc::O_PATH | libc::O_DIRECTORY;

/// The mount at a path of the old root.
fn source(cx: &Cx, path: &CStr) -> Result<OwnedFd, Error> {
    or_stand_in(cx, sys::openat(cx, None, path, DIRECTORY)).map_err(|e| {
        let shown = plain(path.to_bytes());
        match sys::statx(cx, None, path, 0) {
            Ok(_) => e.because(format_args!("{shown} is not a directory")),
            Err(looked) => e.because(why_unreachable(cx, path, &looked)),
        }
    })
}

/// The mount point for `path` in the new root, whose links may be hostile.
fn target(cx: &Cx, path: &CStr) -> Result<OwnedFd, Error> {
    let here = sys::openat(cx, None, c".", DIRECTORY)?;
    let within = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_SYMLINKS;
    or_stand_in(cx, sys::openat2(cx, here.as_fd(), path, DIRECTORY, within)).map_err(|e| {
        let shown = plain(path.to_bytes());
        e.because(format_args!(
            "NEW_ROOT has no directory {shown} that is reached without symbolic links"
        ))
    })
}
