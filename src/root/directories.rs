//! The way to what td makes, removes and keeps: directories that nobody but root and the caller can change.
//!
//! A path is walked one name at a time, each by the descriptor of the directory before it. Every directory on
//! the way, the first included, belongs to root or to the caller, and nobody else may write to it; one with the
//! sticky bit, as `/tmp`, may be passed through, since what follows in it is checked as well. So what was found
//! stays what it is. A symbolic link is followed where these rules hold for the directory that it is in and for
//! the link's own owner (`/var/run`, `/home`), but none below a state directory: to make a hostile state one's
//! own with `chown -R` makes its links one's own, too.
//!
//! Who owns the root directory is trusted as well: a path begins there. In a user namespace that does not map
//! root, that is how root's directories look.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use syscalls::Errno;

use crate::say::error::Error;
use crate::say::show::{number, plain};
use crate::say::text::{split, split_name};
use crate::sys::structs::Statx;
use crate::sys::{self, Cx, cstring};

/// A name in a directory that is held open.
pub struct Place {
    /// The directory.
    pub directory: OwnedFd,
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

    /// The same of the user `owner`, who is trusted in the caller's place: what is found is as that user says.
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

    /// The same. Directories that are missing are made and appended to `made`.
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
        // A FIFO must not hold us, nor a terminal become ours.
        let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = sys::openat(cx, Some(self.directory.as_fd()), &self.name, flags)?;
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

    /// How a message names it.
    pub fn shown(&self) -> String {
        plain(self.path.to_bytes())
    }
}

/// A directory that was made.
pub struct Made {
    parent: OwnedFd,
    name: CString,
    /// The path that led to it.
    path: Vec<u8>,
}

/// What is asked of the last directory of a path.
#[derive(Clone, Copy, PartialEq)]
pub enum Last {
    /// The same as of those before it.
    Checked,
    /// That it is no link. It may belong to anybody, as the root of an image does.
    Anyones,
}

/// Open the directory `path` with O_PATH. `None`: it does not exist.
pub fn open(
    cx: &Cx,
    state: Option<&CStr>,
    path: &CStr,
    last: Last,
) -> Result<Option<OwnedFd>, Error> {
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
) -> Result<(OwnedFd, bool), Error> {
    let mut walk = Walk::new(path, state, last);
    let found = walk.run(cx, Some(made))?;
    // What is missing is made, so there always is one.
    found.map(|directory| (directory, walk.is_new)).ok_or_else(|| Error::refusal("no directory"))
}

/// Does `path` begin with `state`, so that it leads into it?
pub fn is_below(path: &CStr, state: &CStr) -> bool {
    within(path.to_bytes(), state).is_some()
}

/// What is behind `state` in a path.
fn within<'a>(path: &'a [u8], state: &CStr) -> Option<&'a [u8]> {
    path.strip_prefix(state.to_bytes()).filter(|rest| rest.starts_with(b"/"))
}

/// Remove the directories that were made. The first that cannot be removed keeps its parents, too.
pub fn undo(cx: &Cx, made: &[Made]) -> Result<(), Error> {
    made.iter().rev().try_for_each(|made| {
        match sys::unlinkat(cx, Some(made.parent.as_fd()), &made.name, libc::AT_REMOVEDIR) {
            Err(e) if e.is(Errno::ENOENT) => Ok(()), // somebody else did it
            other => other,
        }
    })
}

/// For so many links the kernel follows a path: path_resolution(7).
const MOST_LINKS: u32 = 40;

const DIRECTORY: i32 = libc::O_DIRECTORY | libc::O_NOFOLLOW;

struct Walk {
    /// The path, in which a link is replaced by what it says.
    path: Vec<u8>,
    /// Where the name begins and ends that was taken last.
    name: [usize; 2],
    /// When no more than this is left, the walk is in the state.
    below: usize,
    last: Last,
    /// Who is trusted in the caller's place.
    owner: Option<u32>,
    links: u32,
    /// Was the directory made that was taken last?
    is_new: bool,
}

impl Walk {
    fn new(path: &CStr, state: Option<&CStr>, last: Last) -> Walk {
        let path = path.to_bytes();
        let below = state.and_then(|state| within(path, state)).map_or(0, <[u8]>::len);
        Walk {
            path: path.to_vec(),
            name: [0; 2],
            below,
            last,
            owner: None,
            links: 0,
            is_new: false,
        }
    }

    /// Walk to the end. With `made`, what is missing is made.
    fn run(&mut self, cx: &Cx, mut made: Option<&mut Vec<Made>>) -> Result<Option<OwnedFd>, Error> {
        let mut here = self.begin(cx)?;
        // In a dry run: this directory would have been made.
        let mut assumed = false;
        while let Some(name) = self.next() {
            let flags = libc::O_PATH | DIRECTORY;
            let opened = match assumed {
                false => {
                    sys::openat(cx.expects(&[Errno::ENOENT]), Some(here.as_fd()), &name, flags)
                }
                true => Err(Error::refusal("")),
            };
            let error = match opened {
                Ok(directory) => {
                    self.is_new = false;
                    here = self.checked(cx, directory)?;
                    continue;
                }
                Err(error) => error,
            };
            if error.is(Errno::ENOTDIR) {
                if self.follow(cx, here.as_fd(), &name, error)? {
                    here = self.begin(cx)?;
                }
            } else if assumed || error.is(Errno::ENOENT) {
                let Some(made) = &mut made else { return Ok(None) };
                assumed = cx.dry();
                here = self.make(cx, here, name, made)?;
            } else {
                return Err(error);
            }
        }
        Ok(Some(here))
    }

    /// Open where the path begins.
    fn begin(&mut self, cx: &Cx) -> Result<OwnedFd, Error> {
        let is_absolute = self.path.starts_with(b"/");
        self.name = [0, is_absolute.into()];
        let start = if is_absolute { c"/" } else { c"." };
        let directory = sys::openat(cx, None, start, libc::O_PATH | libc::O_DIRECTORY)?;
        self.check(cx, directory.as_fd())?;
        Ok(directory)
    }

    /// Take the next name.
    fn next(&mut self) -> Option<CString> {
        loop {
            let rest = self.rest();
            let start = rest.iter().position(|byte| *byte != b'/')?;
            let name = split(rest.get(start..)?, b'/').next()?;
            let is_here = name == b".";
            let (start, found) = (self.name[1] + start, cstring(name));
            self.name = [start, start + found.count_bytes()];
            if !is_here {
                return Some(found);
            }
        }
    }

    /// What is left to walk.
    fn rest(&self) -> &[u8] {
        self.path.get(self.name[1]..).unwrap_or_default()
    }

    /// What has been walked.
    fn shown(&self) -> String {
        match self.path.get(..self.name[1]) {
            Some([]) | None => ".".into(),
            Some(walked) => plain(walked),
        }
    }

    /// Put in place of the link `name` what it says. Returns whether the path begins anew.
    fn follow(
        &mut self,
        cx: &Cx,
        parent: BorrowedFd,
        name: &CStr,
        error: Error,
    ) -> Result<bool, Error> {
        let link = sys::statx(cx, Some(parent), name, libc::AT_SYMLINK_NOFOLLOW)?;
        if link.file_type() != libc::S_IFLNK {
            return Err(error.because([&self.shown(), " is not a directory"].concat()));
        }
        if self.is_anyones() || self.rest().len() < self.below {
            return Err(error
                .because(
                    [&self.shown(), " is a symbolic link, which is not followed here"].concat(),
                )
                .way_out("mount the directory there, or give its own path"));
        }
        self.check_owner(cx, &link)?;
        self.links += 1;
        if self.links > MOST_LINKS {
            return Err(error.because(["too many symbolic links: ", &self.shown()].concat()));
        }
        let target = sys::readlinkat(cx, Some(parent), name)?;
        let is_absolute = target.starts_with(b"/");
        let before = if is_absolute { 0 } else { self.name[0] };
        let walked = self.path.get(..before).unwrap_or_default();
        self.path = [walked, &target, self.rest()].concat();
        self.name = [before; 2];
        Ok(is_absolute)
    }

    /// Make the directory `name`, which does not exist.
    fn make(
        &mut self,
        cx: &Cx,
        parent: OwnedFd,
        name: CString,
        made: &mut Vec<Made>,
    ) -> Result<OwnedFd, Error> {
        let dir = Some(parent.as_fd());
        let flags = libc::O_RDONLY | DIRECTORY;
        let path = self.path.get(..self.name[1]).unwrap_or_default();
        // A dry run has made it already where an earlier path led through it.
        self.is_new = !(cx.dry() && made.iter().any(|made| made.path == path));
        if !self.is_new {
            return sys::openat_made(cx, dir, &name, flags);
        }
        match sys::mkdirat(cx, dir, &name, 0o700) {
            // Another was quicker, and it is theirs.
            Err(e) if e.is(Errno::EEXIST) => {
                self.is_new = false;
                let directory = sys::openat(cx, dir, &name, libc::O_PATH | DIRECTORY)?;
                return self.checked(cx, directory);
            }
            other => other?,
        }
        let opened = sys::openat_made(cx, dir, &name, flags);
        made.push(Made { path: path.to_vec(), parent, name });
        let opened = opened?;
        // The umask, a default ACL or a set-group-id parent may have made 0700 something else.
        sys::fchmod(cx, opened.as_fd(), 0o700)?;
        Ok(opened)
    }

    /// Is the name that was last taken the last of the path, and anyone's?
    fn is_anyones(&self) -> bool {
        self.last == Last::Anyones && self.rest().iter().all(|byte| *byte == b'/')
    }

    fn checked(&self, cx: &Cx, directory: OwnedFd) -> Result<OwnedFd, Error> {
        if !self.is_anyones() {
            self.check(cx, directory.as_fd())?;
        }
        Ok(directory)
    }

    /// Can nobody but root and the caller change what is in this directory?
    fn check(&self, cx: &Cx, directory: BorrowedFd) -> Result<(), Error> {
        let stat = sys::fstatx(cx, directory)?;
        self.check_owner(cx, &stat)?;
        let mode = stat.permissions();
        // Where the umask is 002, the group is the user's own and has the user's number. In a user namespace
        // it may look like another.
        let caller = (cx.start.euid, cx.start.egid);
        let is_own = |stat: &Statx| {
            stat.uid == stat.gid
                || (stat.uid, stat.gid) == caller && owner_of_root(cx).is_ok_and(|owner| owner != 0)
        };
        if mode & libc::S_ISVTX != 0
            || mode & libc::S_IWOTH == 0 && (mode & libc::S_IWGRP == 0 || is_own(&stat))
        {
            return Ok(());
        }
        let shown = self.shown();
        Err(Error::refusal(
            ["others can write to ", &shown, ", and replace what is in it"].concat(),
        )
        .way_out(["chmod go-w ", &shown, ", or choose another directory"].concat()))
    }

    fn check_owner(&self, cx: &Cx, stat: &Statx) -> Result<(), Error> {
        let caller = self.owner.unwrap_or(cx.start.euid);
        is_trusted(cx, stat.uid, caller, &self.shown())
            .map_err(|e| e.way_out("choose a directory that belongs to root or to the caller"))
    }
}

/// Refuse a file, of which a message says `shown`, that belongs neither to root nor to the caller.
pub fn check_owner(cx: &Cx, file: BorrowedFd, shown: &str) -> Result<(), Error> {
    is_trusted(cx, sys::fstatx(cx, file)?.uid, cx.start.euid, shown)
}

fn is_trusted(cx: &Cx, owner: u32, caller: u32, shown: &str) -> Result<(), Error> {
    if owner == 0 || owner == caller || owner == owner_of_root(cx)? {
        return Ok(());
    }
    let [owner, caller] = [owner, caller].map(|id| number(id.into()));
    let whom = [" belongs to uid ", &owner, ", whom uid ", &caller, " does not trust"];
    Err(Error::refusal([shown, &whom.concat()].concat()))
}

fn owner_of_root(cx: &Cx) -> Result<u32, Error> {
    sys::statx(cx, None, c"/", 0).map(|root| root.uid)
}
