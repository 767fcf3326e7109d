//! The way to what td makes, removes and keeps: directories that nobody but root and the caller can change.
//!
//! A path is walked one name at a time, each by the descriptor of the directory before it. (If no link is on the way
//! and nothing is missing, a look at each directory by its path is as safe.) Every directory on the way, the first
//! included, belongs to root or to the caller, and nobody else may write to it; one with the sticky bit, as `/tmp`, may
//! be passed through, since what follows in it is checked as well. So what was found cannot be replaced. A symbolic
//! link is followed if these rules hold for its directory and for its own owner (`/var/run`, `/home`), but never below
//! a state directory: a `chown -R` of a hostile state also changes the owner of its links.
//!
//! The owner of the root directory is trusted too, because every path starts there. In a user namespace that does not
//! map root, it is the owner of root's directories.

mod trust;
mod walk;

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use walk::Walk;
pub use walk::{Last, Made, is_below, undo};

use crate::say::error::{Error, Subject, Use};
use crate::say::show::plain;
use crate::say::text::split_name;
use crate::sys::{self, Cx, cstring};

/// A name in a directory that is held open.
pub struct Place {
    /// The directory.
    pub directory: Rc<OwnedFd>,
    /// The last name of the path.
    pub name: CString,
    /// The path as it was given.
    pub path: CString,
}

impl Place {
    /// The place that `path` names, which has no slash at its end. Below `state` no link is followed. `None`:
    /// the directory does not exist.
    pub fn find(cx: &Cx, state: Option<&CStr>, path: &CStr) -> Result<Option<Place>, Error> {
        Place::find_of(cx, cx.start.euid, state, path)
    }

    /// The place that `path` names for the user `owner`, who is trusted in the caller's place.
    pub fn find_of(
        cx: &Cx,
        owner: u32,
        state: Option<&CStr>,
        path: &CStr,
    ) -> Result<Option<Place>, Error> {
        let (parent, name) = split_name(path.to_bytes());
        let mut walk = Walk::new(&cstring(parent), state, Last::Checked);
        walk.owner = Some(owner);
        let directory = walk.run(cx, None)?;
        let place = |directory| Place { directory, name: cstring(name), path: path.into() };
        Ok(directory.map(place))
    }

    /// The place that `path` names. Directories that are missing are created and appended to `made`.
    pub fn make(
        cx: &Cx,
        state: Option<&CStr>,
        path: &CStr,
        made: &mut Vec<Made>,
    ) -> Result<Place, Error> {
        let (parent, name) = split_name(path.to_bytes());
        let (directory, _) = make(cx, state, &cstring(parent), Last::Checked, made)?;
        Ok(Place { directory, name: cstring(name), path: path.into() })
    }

    /// Open the file there to read it. `None`: it is not a regular file. ELOOP: it is a symbolic link, ENOENT: it does
    /// not exist.
    pub fn open(&self, cx: &Cx) -> Result<Option<OwnedFd>, Error> {
        // A FIFO must not block us, and a terminal must not become our controlling terminal.
        let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        let opened = sys::openat(cx, Some(self.directory.as_fd()), &self.name, flags);
        let file = opened.map_err(|error| error.with_path(self.subject(Use::Read)))?;
        let is_regular = sys::fstatx(cx, file.as_fd())?.file_type() == libc::S_IFREG;
        Ok(is_regular.then_some(file))
    }

    /// What the file there says. `None`: it is not a regular file, or larger than `most`. Errors: as of `open`.
    pub fn read(&self, cx: &Cx, most: usize) -> Result<Option<Vec<u8>>, Error> {
        let Some(file) = self.open(cx)? else { return Ok(None) };
        let mut text = vec![0; most + 1];
        let mut length = 0;
        while let Some(room @ [_, ..]) = text.get_mut(length..) {
            match sys::read(cx, file.as_fd(), room)? {
                0 => {
                    text.truncate(length);
                    return Ok(Some(text));
                }
                n => length += n,
            }
        }
        Ok(None)
    }

    /// The path, for whoever asks why the file there cannot be used so.
    pub fn subject(&self, used: Use) -> Subject {
        Subject { path: self.path.clone(), used, follows: false }
    }

    /// How a message names it.
    pub fn shown(&self) -> String {
        plain(self.path.to_bytes())
    }
}

/// Open the directory `path` with O_PATH. `None`: it does not exist.
pub fn open(
    cx: &Cx,
    state: Option<&CStr>,
    path: &CStr,
    last: Last,
) -> Result<Option<Rc<OwnedFd>>, Error> {
    Walk::new(path, state, last).run(cx, None)
}

/// Make the directory `path` and the parents that are missing, all of them with mode 0700, and append them to
/// `made`, a parent first. Returns `path`, opened, and whether it was made.
pub fn make(
    cx: &Cx,
    state: Option<&CStr>,
    path: &CStr,
    last: Last,
    made: &mut Vec<Made>,
) -> Result<(Rc<OwnedFd>, bool), Error> {
    let mut walk = Walk::new(path, state, last);
    let found = walk.run(cx, Some(made))?;
    // Missing directories are created, so there is always one.
    found.map(|directory| (directory, walk.is_new)).ok_or_else(|| Error::refusal("no directory"))
}

/// Refuse a file, of which a message says `shown`, that belongs neither to root nor to the caller.
pub fn check_owner(cx: &Cx, file: BorrowedFd, shown: &str) -> Result<(), Error> {
    trust::is_trusted(cx, sys::fstatx(cx, file)?.uid, cx.start.euid, shown)
}
