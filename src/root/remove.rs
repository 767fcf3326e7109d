//! Removing a directory with its content, which may be hostile.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};

use syscalls::Errno;

use crate::root::directories::Place;
use crate::say::error::Error;
use crate::say::show::{self, plain};
use crate::say::text::split_name;
use crate::sys::{self, Cx, cstring};

const MOUNTED: &str = "is a mount point, and what is mounted is not removed";

/// The path of a directory to remove, without the slashes after its name: with them a link would be followed. `None`:
/// the path does not end in a name but is `/`, ends in `.` or `..`, or is empty. A script that writes `$dir/` must not
/// remove the root when `$dir` is empty.
pub fn named(typed: &CStr) -> Option<CString> {
    let mut path = typed.to_bytes();
    while let Some(rest) = path.strip_suffix(b"/") {
        path = rest;
    }
    match split_name(path).1 {
        b"" | b"." | b".." => None,
        _ => Some(cstring(path)),
    }
}

/// Remove the directory at `place` and everything below it: no link is followed, no mount is entered. It is not a
/// failure if it does not exist.
pub fn remove_tree(cx: &Cx, place: &Place) -> Result<(), Error> {
    let parent = place.directory.as_fd();
    let top = match sys::openat(cx, Some(parent), &place.name, FLAGS) {
        Err(e) if e.is(Errno::ENOENT) => return Ok(()),
        other => other.map_err(|e| e.because(format_args!("{} is not removed", place.shown())))?,
    };
    if sys::fstatx(cx, top.as_fd())?.is_mount_root() {
        let what = format!("{} {MOUNTED}", place.shown());
        return Err(Error::refusal(what).way_out("unmount it first"));
    }
    empty(cx, top.as_fd())?;
    sys::unlinkat(cx, Some(parent), &place.name, libc::AT_REMOVEDIR)
}

/// Remove the directory at `place` if it is empty. It is not a failure if it does not exist.
pub fn remove_empty(cx: &Cx, place: &Place) -> Result<(), Error> {
    let parent = place.directory.as_fd();
    match sys::unlinkat(cx, Some(parent), &place.name, libc::AT_REMOVEDIR) {
        Err(e) if e.is(Errno::ENOTEMPTY) || e.is(Errno::ENOENT) => Ok(()),
        other => other.map_err(|e| e.because(format_args!("{} is not removed", place.shown()))),
    }
}

/// Remove everything that is in a directory: no link is followed, no mount is entered.
///
/// What lies deeper than [`DEPTH`] is moved up to the top before it is emptied. So neither the stack nor the number of
/// descriptors grows with the depth of a tree, which a container chooses; and memory, which is never freed, not with
/// the number of directories: no name is kept.
pub fn empty(cx: &Cx, top: BorrowedFd) -> Result<(), Error> {
    let mut to_top = ToTop { top, number: 0, name: String::new() };
    loop {
        let moved = to_top.number;
        // Reading a descriptor continues at its offset, so each pass over the directory opens its own.
        let again = sys::openat(cx, Some(top), c".", FLAGS)?;
        empty_to_depth(cx, again.as_fd(), DEPTH, &mut to_top)?;
        if to_top.number == moved {
            return Ok(());
        }
    }
}

/// How many directories are open at once: as deep as the work directory of an overlay is.
const DEPTH: u32 = 6;

const FLAGS: i32 = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;

/// Remove everything that is in a directory, but for directories at `depth`, which are moved to the top.
fn empty_to_depth(
    cx: &Cx,
    directory: BorrowedFd,
    depth: u32,
    to_top: &mut ToTop,
) -> Result<(), Error> {
    remove_entries(cx, directory, &mut |name| {
        if depth == 0 {
            return to_top.rename(cx, directory, name);
        }
        // What lies below a mount point must not be removed.
        let within = libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_SYMLINKS;
        let below = match sys::openat2(cx, directory, name, FLAGS, within) {
            // As deep as descriptors allow.
            Err(e) if e.is(Errno::EMFILE) && depth < DEPTH => {
                return to_top.rename(cx, directory, name);
            }
            other => other?,
        };
        empty_to_depth(cx, below.as_fd(), depth - 1, to_top)?;
        sys::unlinkat(cx, Some(directory), name, libc::AT_REMOVEDIR)
    })
}

/// Remove the content of a directory, except directories that are not empty: `left` is called with the name of each.
fn remove_entries(
    cx: &Cx,
    directory: BorrowedFd,
    left: &mut dyn FnMut(&CStr) -> Result<(), Error>,
) -> Result<(), Error> {
    // ENOENT: another was quicker.
    let expected = [Errno::ENOTEMPTY, Errno::EISDIR, Errno::ENOENT];
    sys::for_each_entry(cx, directory, &mut |name, kind| {
        let flag = if kind == libc::DT_DIR { libc::AT_REMOVEDIR } else { 0 };
        let failed = sys::unlinkat_unless(cx, directory, name, flag, &expected)
            .map_err(|e| why(cx, directory, name, e))?;
        match failed {
            Some(Errno::ENOTEMPTY | Errno::EISDIR) => left(name),
            _ => Ok(()),
        }
    })
}

/// Why something is not removed.
fn why(cx: &Cx, directory: BorrowedFd, name: &CStr, error: Error) -> Error {
    let _looking = cx.looking();
    match sys::statx(cx, Some(directory), name, libc::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) if error.is(Errno::EBUSY) && stat.is_mount_root() => {
            let what = format!("{} {MOUNTED}", plain(name.to_bytes()));
            error.because(what).way_out("unmount it first")
        }
        _ => error,
    }
}

/// Directories are moved to the top under names that are free there.
struct ToTop<'a> {
    top: BorrowedFd<'a>,
    number: u64,
    /// The last name, in whose place the next is written.
    name: String,
}

impl ToTop<'_> {
    fn rename(&mut self, cx: &Cx, from: BorrowedFd, name: &CStr) -> Result<(), Error> {
        loop {
            self.name.clear();
            show::unsigned(".td-", self.number, &mut self.name);
            self.name.push('\0');
            self.number += 1;
            let free = CStr::from_bytes_until_nul(self.name.as_bytes()).unwrap_or_default();
            if sys::rename_to_free(cx, from, name, self.top, free)? {
                return Ok(());
            }
        }
    }
}
