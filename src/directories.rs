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

use crate::error::Error;
use crate::show::plain;
use crate::structs::Statx;
use crate::sys::{self, Cx, cstring};
use crate::text::split_name;

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
        let mut walk = Walk::new(parent, state, Last::Checked);
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
    Walk::new(path.to_bytes(), state, last).run(cx, None)
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
    let before = made.len();
    let mut walk = Walk::new(path.to_bytes(), state, last);
    let found = walk.run(cx, Some(made))?;
    let last = made.get(before..).unwrap_or_default().last();
    let is_new = last.is_some_and(|last| last.path == walk.shown);
    // Whoever makes what is missing always arrives.
    found.map(|directory| (directory, is_new)).ok_or_else(|| Error::refusal("no directory"))
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
    /// What has been walked, as it was typed or as a link says.
    shown: Vec<u8>,
    /// What is left to walk.
    rest: Vec<u8>,
    /// When no more than this is left, the walk is in the state.
    below: usize,
    last: Last,
    /// Who is trusted in the caller's place.
    owner: Option<u32>,
    links: u32,
}

impl Walk {
    fn new(path: &[u8], state: Option<&CStr>, last: Last) -> Walk {
        let below = state.and_then(|state| within(path, state)).map_or(0, <[u8]>::len);
        Walk { shown: Vec::new(), rest: path.to_vec(), below, last, owner: None, links: 0 }
    }

    /// Walk to the end. With `made`, what is missing is made.
    fn run(&mut self, cx: &Cx, mut made: Option<&mut Vec<Made>>) -> Result<Option<OwnedFd>, Error> {
        let mut here = self.begin(cx)?;
        // In a dry run: this directory would have been made.
        let mut imagined = false;
        while let Some(name) = self.next() {
            let parent = here.as_fd();
            let flags = libc::O_PATH | DIRECTORY;
            let opened = match imagined {
                true => Err(None),
                false => sys::openat(cx, Some(parent), &name, flags).map_err(Some),
            };
            here = match opened {
                Ok(directory) => {
                    self.check_next(cx, directory.as_fd())?;
                    directory
                }
                Err(Some(e)) if e.is(Errno::ENOTDIR) || e.is(Errno::ELOOP) => {
                    match self.follow(cx, parent, &name, e)? {
                        true => self.begin(cx)?,
                        false => here,
                    }
                }
                Err(Some(e)) if !e.is(Errno::ENOENT) => return Err(e),
                _ => {
                    let Some(made) = &mut made else { return Ok(None) };
                    imagined = cx.dry();
                    self.make(cx, here, name, made)?
                }
            };
        }
        Ok(Some(here))
    }

    /// Open where the rest of the path begins.
    fn begin(&mut self, cx: &Cx) -> Result<OwnedFd, Error> {
        let start = if self.rest.starts_with(b"/") { c"/" } else { c"." };
        self.shown = start.to_bytes().to_vec();
        let directory = sys::openat(cx, None, start, libc::O_PATH | libc::O_DIRECTORY)?;
        self.check(cx, directory.as_fd())?;
        if start == c"." {
            self.shown.clear();
        }
        Ok(directory)
    }

    /// The next name. It goes over to what is shown.
    fn next(&mut self) -> Option<CString> {
        loop {
            let start = self.rest.iter().position(|byte| *byte != b'/')?;
            let rest = self.rest.split_off(start);
            let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
            let (name, rest) = rest.split_at(end);
            self.rest = rest.to_vec();
            if name != b"." {
                if !matches!(self.shown.last(), None | Some(b'/')) {
                    self.shown.push(b'/');
                }
                self.shown.extend(name);
                return Some(cstring(name));
            }
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
        let shown = plain(&self.shown);
        let link = sys::statx(cx, Some(parent), name, libc::AT_SYMLINK_NOFOLLOW)?;
        if link.file_type() != libc::S_IFLNK {
            return Err(error.because(format_args!("{shown} is not a directory")));
        }
        if self.is_anyones() {
            let what = format!("{shown} is a symbolic link, and not a directory");
            return Err(Error::refusal(what).way_out("give the directory itself"));
        }
        if self.rest.len() < self.below {
            let what =
                format!("{shown} is a symbolic link, and in a state directory none is followed");
            return Err(Error::refusal(what)
                .way_out(format_args!("remove it, or mount the directory there")));
        }
        self.check_owner(cx, &link)?;
        self.links += 1;
        if self.links > MOST_LINKS {
            return Err(
                error.because(format_args!("too many symbolic links on the way to {shown}"))
            );
        }
        let mut target = sys::readlinkat(cx, Some(parent), name)?;
        let begins = target.starts_with(b"/");
        target.append(&mut self.rest);
        self.rest = target;
        self.shown.truncate(self.shown.len() - name.count_bytes());
        Ok(begins)
    }

    /// Make the directory `name`, which does not exist.
    fn make(
        &self,
        cx: &Cx,
        parent: OwnedFd,
        name: CString,
        made: &mut Vec<Made>,
    ) -> Result<OwnedFd, Error> {
        let dir = Some(parent.as_fd());
        let flags = libc::O_RDONLY | DIRECTORY;
        // A dry run has made it already where an earlier path led through it.
        if cx.dry() && made.iter().any(|made| made.path == self.shown) {
            return sys::openat_made(cx, dir, &name, flags);
        }
        match sys::mkdirat(cx, dir, &name, 0o700) {
            // Another was quicker, and it is theirs.
            Err(e) if e.is(Errno::EEXIST) => {
                let directory = sys::openat(cx, dir, &name, libc::O_PATH | DIRECTORY)?;
                self.check_next(cx, directory.as_fd())?;
                return Ok(directory);
            }
            other => other?,
        }
        let opened = sys::openat_made(cx, dir, &name, flags);
        made.push(Made { parent, name, path: self.shown.clone() });
        let opened = opened?;
        // The umask, a default ACL or a set-group-id parent may have made 0700 something else.
        sys::fchmod(cx, opened.as_fd(), 0o700)?;
        Ok(opened)
    }

    /// Is the name that was last taken the last of the path, and anyone's?
    fn is_anyones(&self) -> bool {
        self.last == Last::Anyones && self.rest.iter().all(|byte| *byte == b'/')
    }

    fn check_next(&self, cx: &Cx, directory: BorrowedFd) -> Result<(), Error> {
        if self.is_anyones() { Ok(()) } else { self.check(cx, directory) }
    }

    /// Can nobody but root and the caller change what is in this directory?
    fn check(&self, cx: &Cx, directory: BorrowedFd) -> Result<(), Error> {
        let stat = sys::fstatx(cx, directory)?;
        self.check_owner(cx, &stat)?;
        let mode = stat.permissions();
        if mode & (libc::S_IWGRP | libc::S_IWOTH) == 0 || mode & libc::S_ISVTX != 0 {
            return Ok(());
        }
        // Where the umask is 002, the group is the user's own and has the user's number. In a user namespace
        // it may look like another.
        let caller = (cx.start.euid, cx.start.egid);
        let own = stat.uid == stat.gid || (stat.uid, stat.gid) == caller && owner_of_root(cx)? != 0;
        if own && mode & libc::S_IWOTH == 0 {
            return Ok(());
        }
        let shown = plain(&self.shown);
        let what =
            format!("others can write to {shown} (mode {mode:04o}), and replace what is in it");
        Err(Error::refusal(what)
            .way_out(format_args!("chmod go-w {shown}, or choose another directory")))
    }

    fn check_owner(&self, cx: &Cx, stat: &Statx) -> Result<(), Error> {
        let (owner, caller) = (stat.uid, self.owner.unwrap_or(cx.start.euid));
        if owner == 0 || owner == caller || owner == owner_of_root(cx)? {
            return Ok(());
        }
        let what = format!(
            "{} belongs to uid {owner}, whom uid {caller} does not trust",
            plain(&self.shown)
        );
        let own = if caller == 0 { "root" } else { "root or to the caller" };
        Err(Error::refusal(what).way_out(format_args!("choose a directory that belongs to {own}")))
    }
}

fn owner_of_root(cx: &Cx) -> Result<u32, Error> {
    sys::statx(cx, None, c"/", 0).map(|root| root.uid)
}
