//! A root that is filled: what is missing is made, and mounts are attached.

use std::ffi::{CStr, CString, c_int};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use syscalls::Errno;

use crate::root::dry_run::{open_source, or_stand_in, stand_in};
use crate::root::mountinfo;
use crate::root::mounts;
use crate::root::path_resolution::Paths;
use crate::root::undo::Done;
use crate::say::error::{Error, Use};
use crate::say::text;
use crate::sys::structs::MountAttr;
use crate::sys::{self, Cx, cstring};

/// A directory that is becoming a root.
pub struct Root<'a> {
    cx: &'a Cx,
    /// The paths in it.
    pub paths: Paths<'a>,
    done: Vec<Done>,
    /// Is the mount that is attached now one in which the kernel speaks to the new root, so that no link may lead
    /// there?
    pub guarded: bool,
    /// In a dry run, the paths that would exist by now.
    made: Vec<CString>,
}

impl<'a> Root<'a> {
    /// Open the directory `path`.
    pub fn open(cx: &'a Cx, path: &'a CStr) -> Result<Root<'a>, Error> {
        let paths = Paths::open(cx, path)?;
        Ok(Root { cx, paths, done: Vec::new(), guarded: false, made: Vec::new() })
    }

    /// Look up a path to mount on it or to create something. A link on the way must not lead to a mount of `--proc`,
    /// `--dev` or `--sys`: what the container reads there must come from the kernel (CVE-2019-19921). A path without a
    /// link was written by the caller, and is accepted.
    fn reach(&self, path: &CStr, flags: c_int, resolve: u64) -> Result<OwnedFd, Error> {
        match self.paths.look_up(path, flags, resolve | libc::RESOLVE_NO_SYMLINKS) {
            Err(e) if e.is(Errno::ELOOP) && resolve & libc::RESOLVE_NO_SYMLINKS == 0 => {}
            other => return other,
        }
        let file = self.paths.look_up(path, flags, resolve)?;
        let mount = sys::fstatx(self.cx, file.as_fd())?.mnt_id;
        if !self.guarded_mounts()?.contains(&mount) {
            return Ok(file);
        }
        let what = "leads through a symbolic link to what --proc, --dev or --sys has mounted";
        Err(Error::refusal(format_args!("{} {what}", self.paths.name(path)))
            .way_out("if you want this, write the path without a symbolic link"))
    }

    /// The ids of the guarded mounts. In a dry run none is there.
    fn guarded_mounts(&self) -> Result<Vec<u64>, Error> {
        let mut ids = Vec::new();
        for done in self.done.iter().filter(|_| !self.cx.dry()) {
            if let Done::Attached(_, id, true) = done {
                ids.push(*id);
            }
        }
        if !ids.is_empty() {
            // A copy of the caller's `/sys` has brought what is mounted below it, each after its parent.
            for mount in mountinfo::list_if_any(self.cx)? {
                if ids.contains(&mount.parent) {
                    ids.push(mount.id);
                }
            }
        }
        Ok(ids)
    }

    /// A directory (`dir`), or any existing file; created if it does not exist. `None`: a dry run has not created it.
    fn reach_or_make(
        &mut self,
        path: &CStr,
        dir: bool,
        resolve: u64,
    ) -> Result<Option<OwnedFd>, Error> {
        let flags = if dir { libc::O_DIRECTORY } else { 0 };
        self.cx.expects(&[Errno::ENOENT]);
        let file = match self.reach(path, flags, resolve) {
            Err(e) if e.is(Errno::ENOENT) => {
                self.make(path, dir, resolve)?;
                if self.cx.dry() {
                    return Ok(None);
                }
                self.reach(path, flags, resolve)
            }
            other => other,
        };
        file.map(Some).map_err(|e| self.paths.why(path, e))
    }

    /// A directory, which is created if it does not exist.
    pub fn directory(&mut self, path: &CStr) -> Result<OwnedFd, Error> {
        let directory = self.reach_or_make(path, true, 0)?;
        directory.map_or_else(|| stand_in(self.cx), Ok)
    }

    /// A symbolic link to `text`, which is created if it does not exist.
    pub fn symlink(&mut self, text: &CStr, path: &CStr) -> Result<(), Error> {
        let bytes = path.to_bytes();
        let Some(end) = bytes.iter().rposition(|b| *b != b'/') else {
            return Err(self.paths.refuse_itself(path));
        };
        let mut parts = bytes.get(..=end).unwrap_or_default().rsplitn(2, |b| *b == b'/');
        let name = cstring(parts.next().unwrap_or_default());
        let above = cstring([parts.next().unwrap_or_default(), b"/"].concat());
        let parent = self.directory(&above)?;
        match sys::symlinkat(self.cx, text, Some(parent.as_fd()), &name) {
            Err(e) if e.is(Errno::EEXIST) => {
                match sys::readlinkat(self.cx, Some(parent.as_fd()), &name) {
                    Ok(old) if old == text.to_bytes() => return Ok(()),
                    _ => {
                        let what = " exists and is not that symbolic link";
                        return Err(e.because(format_args!("{}{what}", self.paths.name(path))));
                    }
                }
            }
            other => other?,
        }
        self.has_made(&above, parent.as_fd(), name, 0)
    }

    /// Where a directory (`dir`), or else a file, can be mounted; made where nothing is.
    pub fn target(&mut self, path: &CStr, dir: bool, resolve: u64) -> Result<OwnedFd, Error> {
        let Some(target) = self.reach_or_make(path, dir, resolve)? else {
            return stand_in(self.cx);
        };
        let stat = sys::fstatx(self.cx, target.as_fd())?;
        if self.paths.is_root(&stat) {
            return Err(self.paths.refuse_itself(path));
        }
        if stat.is_dir() && !dir {
            let what =
                format!("{} is a directory: a file cannot be mounted on it", self.paths.name(path));
            return Err(Error::refusal(what));
        }
        Ok(target)
    }

    /// Make what is missing of a path: directories, and last a directory or an empty file.
    fn make(&mut self, path: &CStr, dir: bool, resolve: u64) -> Result<(), Error> {
        let mut parent = CString::from(c"/");
        let mut whole = Vec::new();
        let mut names = text::split(path.to_bytes(), b'/').filter(|n| !n.is_empty()).peekable();
        while let Some(name) = names.next() {
            whole.push(b'/');
            whole.extend(name);
            let path = cstring(whole.clone());
            self.cx.expects(&[Errno::ENOENT]);
            match self.paths.look_up(&path, 0, resolve) {
                Err(e) if e.is(Errno::ENOENT) && self.made.contains(&path) => {}
                Err(e) if e.is(Errno::ENOENT) => {
                    let name = cstring(name);
                    self.make_one(&parent, name, &path, dir || names.peek().is_some())?;
                }
                other => drop(other.map_err(|e| self.paths.why(&path, e))?),
            }
            parent = path;
        }
        Ok(())
    }

    /// Make `name` in the directory `parent`; `path` is both.
    fn make_one(
        &mut self,
        parent: &CStr,
        name: CString,
        path: &CStr,
        dir: bool,
    ) -> Result<(), Error> {
        let shown = self.paths.name(path);
        if self.paths.has(path)? {
            let what = format!("{shown} is a symbolic link to a file that does not exist");
            return Err(Error::refusal(what));
        }
        let directory = or_stand_in(self.cx, self.reach(parent, libc::O_DIRECTORY, 0))?;
        let at = Some(directory.as_fd());
        let made = match dir {
            true => sys::mkdirat(self.cx, at, &name, 0o755),
            false => sys::mknodat(self.cx, at, &name, libc::S_IFREG | 0o644, 0),
        };
        match made {
            Err(e) if e.is(Errno::EEXIST) => return Ok(()), // another was quicker; it is looked at
            other => other.map_err(|e| {
                let needed = [&shown, " does not exist, and is needed"].concat();
                self.paths.why_not(path, Use::Create, e).because(needed)
            })?,
        }
        let flags = if dir { libc::AT_REMOVEDIR } else { 0 };
        if self.cx.dry() {
            self.made.push(path.to_owned());
        }
        self.has_made(parent, directory.as_fd(), name, flags)
    }

    /// Remember what was made, for [`Root::undo`].
    fn has_made(
        &mut self,
        parent: &CStr,
        directory: BorrowedFd,
        name: CString,
        flags: c_int,
    ) -> Result<(), Error> {
        if !self.cx.dry() {
            self.done.push(Done::made(self.cx, parent, directory, name, flags)?);
        }
        Ok(())
    }

    /// Attach a mount that is nowhere yet to `target`, which is at `path`.
    pub fn attach(&mut self, mount: OwnedFd, target: BorrowedFd, path: &CStr) -> Result<(), Error> {
        let id = sys::fstatx(self.cx, mount.as_fd())?.mnt_id;
        sys::move_mount(self.cx, mount.as_fd(), target)?;
        self.done.push(Done::Attached(path.to_owned(), id, self.guarded));
        Ok(())
    }

    /// Attach a mount that is nowhere yet to a directory.
    pub fn attach_on(&mut self, mount: OwnedFd, path: &CStr, resolve: u64) -> Result<(), Error> {
        let target = self.target(path, true, resolve)?;
        self.attach(mount, target.as_fd(), path)
    }

    /// Move what is mounted on `source`, a path of the caller, with all that is mounted below it.
    pub fn move_from(&mut self, source: &CStr, path: &CStr) -> Result<(), Error> {
        let cx = self.cx;
        let mount = open_source(cx, source)?;
        let is_dir = sys::fstatx(cx, mount.as_fd())?.is_dir();
        let target = self.target(path, is_dir, 0)?;
        sys::move_mount(cx, mount.as_fd(), target.as_fd())
            .map_err(|e| mounts::why_not_moved(cx, source, mount.as_fd(), target.as_fd(), e))?;
        // The directory that it covered, to which it is moved back.
        let place =
            open_source(cx, source).map_err(|e| e.because("so this step was not undone"))?;
        self.done.push(Done::Moved(mount, place));
        Ok(())
    }

    /// Make a mount that is there, at `path`, read-only: it alone, not what is mounted below it.
    pub fn set_read_only(&mut self, mount: OwnedFd, path: &CStr) -> Result<(), Error> {
        let id = sys::fstatx(self.cx, mount.as_fd())?.mnt_id;
        let was = sys::fstatfs(self.cx, mount.as_fd())?.f_flags as u64 & libc::ST_RDONLY != 0;
        let attr = MountAttr { attr_set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
        sys::mount_setattr(self.cx, mount.as_fd(), 0, attr)?;
        if !was {
            self.done.push(Done::ReadOnly(path.to_owned(), id));
        }
        Ok(())
    }

    /// Undo all that was done, the last first. What cannot be undone is reported.
    pub fn undo(&mut self) {
        if self.cx.dry() {
            return;
        }
        while let Some(done) = self.done.pop() {
            if let Err(error) = done.undo(self.cx, &self.paths) {
                self.cx.say(&error.because("so this step was not undone"));
            }
        }
    }
}
