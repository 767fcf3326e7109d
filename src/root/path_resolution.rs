//! Paths in a directory that becomes a root, where links may be hostile: path_resolution(7), openat2(2).

use std::ffi::{CStr, c_int};
use std::os::fd::{AsFd, OwnedFd};

use syscalls::Errno;

use crate::root::dry_run::or_stand_in;
use crate::root::why_no_path::{self, Start};
use crate::say::error::{Error, Subject, Use};
use crate::say::show::plain;
use crate::sys::structs::Statx;
use crate::sys::{self, Cx, cstring};

/// How often a path is looked up again when a rename or a mount got in the way.
const TRIES: u32 = 32;

/// The paths of a root. Its directory is opened once; each is looked up from there, and no link leads out.
pub struct Paths<'a> {
    cx: &'a Cx,
    path: &'a CStr,
    dir: OwnedFd,
    stat: Statx,
}

impl<'a> Paths<'a> {
    /// Those in the directory `path`.
    pub fn open(cx: &'a Cx, path: &'a CStr) -> Result<Paths<'a>, Error> {
        let dir = sys::openat(cx, None, path, libc::O_PATH | libc::O_DIRECTORY);
        let dir = or_stand_in(cx, dir)?;
        let stat = sys::fstatx(cx, dir.as_fd())?;
        Ok(Paths { cx, path, dir, stat })
    }

    /// A path in the root, as the caller of the tool sees it.
    pub fn name(&self, path: &CStr) -> String {
        let root = self.path.to_bytes();
        let path = path.to_bytes();
        let start = path.iter().position(|b| *b != b'/').unwrap_or(path.len());
        let root = root.strip_suffix(b"/").unwrap_or(root);
        plain(&[root, b"/", path.get(start..).unwrap_or_default()].concat())
    }

    /// Is this the directory of the root itself?
    pub fn is_root(&self, stat: &Statx) -> bool {
        stat.mnt_id == self.stat.mnt_id && stat.same_file(&self.stat)
    }

    /// Look a path up, for O_PATH, `flags` and more conditions (RESOLVE_*).
    pub fn look_up(&self, path: &CStr, flags: c_int, resolve: u64) -> Result<OwnedFd, Error> {
        let (flags, resolve) = (flags | libc::O_PATH, resolve | libc::RESOLVE_IN_ROOT);
        let mut tries = 1;
        loop {
            match sys::openat2(self.cx, self.dir.as_fd(), path, flags, resolve) {
                Err(e) if e.is(Errno::EAGAIN) && tries < TRIES => tries += 1,
                other => return other,
            }
        }
    }

    /// What is at a path, if anything is.
    pub fn find(&self, path: &CStr, resolve: u64) -> Result<Option<OwnedFd>, Error> {
        self.cx.expects(&[Errno::ENOENT]);
        match self.look_up(path, 0, resolve) {
            Err(e) if e.is(Errno::ENOENT) => Ok(None),
            other => other.map(Some).map_err(|e| self.why(path, e)),
        }
    }

    /// Does a path exist, even as a link?
    pub fn has(&self, path: &CStr) -> Result<bool, Error> {
        self.cx.expects(&[Errno::ENOENT]);
        match self.look_up(path, libc::O_NOFOLLOW, 0) {
            Err(e) if e.is(Errno::ENOENT) => Ok(false),
            other => other.map(|_| true),
        }
    }

    /// A mount on the root itself would not be visible to processes that have the root open, such as this one.
    pub fn refuse_itself(&self, path: &CStr) -> Error {
        let root = plain(self.path.to_bytes());
        let path = plain(path.to_bytes());
        Error::refusal(format_args!("{path} is the root {root} itself, not a path below it"))
    }

    /// Why a path cannot be used: look at what it leads to.
    pub fn why(&self, path: &CStr, error: Error) -> Error {
        let magic = || self.look_up(path, 0, libc::RESOLVE_NO_MAGICLINKS);
        if error.is(Errno::EXDEV) && magic().is_err_and(|e| e.is(Errno::ELOOP)) {
            let shown = self.name(path);
            return error.because(format_args!("{shown} leads through a magic link (symlink(7))"));
        }
        let error = match error.is(Errno::ELOOP).then(|| self.first_link(path)).flatten() {
            Some(link) => error.because([&link, " is a symbolic link in the image"].concat()),
            None => error,
        };
        self.why_not(path, Use::Find, error)
    }

    /// The first link of a path.
    fn first_link(&self, path: &CStr) -> Option<String> {
        let path = path.to_bytes();
        let is_end = |end: &usize| matches!(path.get(*end), None | Some(b'/'));
        let parts = (1..=path.len()).filter(is_end).filter_map(|end| path.get(..end));
        let link = parts.map(cstring).find(|part| {
            let file = self.look_up(part, libc::O_NOFOLLOW, 0);
            let stat = file.and_then(|file| sys::fstatx(self.cx, file.as_fd()));
            stat.is_ok_and(|stat| stat.file_type() == libc::S_IFLNK)
        });
        link.map(|link| self.name(&link))
    }

    /// Why the file at a path cannot be used so: the component that failed, or what the file there refuses.
    pub fn why_not(&self, path: &CStr, used: Use, error: Error) -> Error {
        let root = self.path.to_bytes();
        let start = Start::within(self.cx, self.dir.as_fd(), root, libc::RESOLVE_IN_ROOT);
        let follows = used == Use::Find;
        why_no_path::why(&start, &Subject { path: path.into(), used, follows }, error)
    }
}
