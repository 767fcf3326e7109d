//! A root that is filled with mounts: the paths in it may be hostile, and what was done there is undone
//! when a later step fails.

use std::ffi::{CStr, CString, c_int};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use syscalls::Errno;

use crate::root::mounts;
use crate::say::error::Error;
use crate::say::show::plain;
use crate::say::text;
use crate::sys::structs::{FileId, MountAttr, Statx};
use crate::sys::{self, Cx, cstring};

/// How often a path is looked up again when a rename or a mount got in the way.
const TRIES: u32 = 32;

/// A directory that is becoming a root. It is opened once; every path in it is looked up from there,
/// and no link of it leads out.
pub struct Root<'a> {
    cx: &'a Cx,
    path: &'a CStr,
    dir: OwnedFd,
    stat: Statx,
    done: Vec<Done>,
    /// Is what is attached now the kernel's word to the new root, so that no link shall lead there?
    pub guarded: bool,
    /// In a dry run, the paths that would be there by now.
    made: Vec<CString>,
}

/// What was done, for whoever has to undo it. A root may have more volumes than a process descriptors, so that none
/// is held for them: their paths are looked up again, and what is there must be what was mounted or made.
enum Done {
    /// The mount with this id was attached to a path, guarded or not.
    Attached(CString, u64, bool),
    /// This mount of the caller was moved here from what it had covered.
    Moved(OwnedFd, OwnedFd),
    /// The mount with this id at a path, which was there before and writable, became read-only.
    ReadOnly(CString, u64),
    /// A name in the directory at a path was made; with these flags unlinkat(2) removes it.
    Made(CString, CString, c_int, FileId),
}

/// A descriptor for a dry run, in place of what an earlier step would have made.
pub fn stand_in(cx: &Cx) -> Result<OwnedFd, Error> {
    sys::openat(cx, None, c"/", libc::O_PATH)
}

/// Open a file or directory of the caller, which an earlier step may have to make.
pub fn open_source(cx: &Cx, path: &CStr) -> Result<OwnedFd, Error> {
    match sys::openat(cx, None, path, libc::O_PATH) {
        Err(e) if e.is(Errno::ENOENT) && cx.dry() => stand_in(cx),
        other => other,
    }
}

/// Open what this step has made.
pub fn open_made(cx: &Cx, dir: BorrowedFd, name: &CStr) -> Result<OwnedFd, Error> {
    match cx.dry() {
        true => stand_in(cx),
        false => sys::openat(cx, Some(dir), name, libc::O_PATH | libc::O_NOFOLLOW),
    }
}

impl<'a> Root<'a> {
    /// Open the directory `path`.
    pub fn open(cx: &'a Cx, path: &'a CStr) -> Result<Root<'a>, Error> {
        let dir = match sys::openat(cx, None, path, libc::O_PATH | libc::O_DIRECTORY) {
            Err(e) if e.is(Errno::ENOENT) && cx.dry() => stand_in(cx)?,
            other => other?,
        };
        let stat = sys::fstatx(cx, dir.as_fd())?;
        Ok(Root { cx, path, dir, stat, done: Vec::new(), guarded: false, made: Vec::new() })
    }

    /// A path in the root, as the caller of the tool sees it.
    pub fn name(&self, path: &CStr) -> String {
        let root = self.path.to_bytes();
        let path = path.to_bytes();
        let start = path.iter().position(|b| *b != b'/').unwrap_or(path.len());
        let root = root.strip_suffix(b"/").unwrap_or(root);
        plain(&[root, b"/", path.get(start..).unwrap_or_default()].concat())
    }

    /// Is this the directory itself?
    pub fn is(&self, stat: &Statx) -> bool {
        stat.mnt_id == self.stat.mnt_id && stat.same_file(&self.stat)
    }

    /// Look a path up, for O_PATH, `flags` and more conditions (RESOLVE_*).
    fn look_up(&self, path: &CStr, flags: c_int, resolve: u64) -> Result<OwnedFd, Error> {
        let (flags, resolve) = (flags | libc::O_PATH, resolve | libc::RESOLVE_IN_ROOT);
        let mut tries = 1;
        loop {
            match sys::openat2(self.cx, self.dir.as_fd(), path, flags, resolve) {
                Err(e) if e.is(Errno::EAGAIN) && tries < TRIES => tries += 1,
                other => return other,
            }
        }
    }

    /// Look a path up to mount there, or to make something. A link on the way may not lead to what
    /// `--proc`, `--dev` or `--sys` has mounted: what the container learns there is the kernel's word
    /// (CVE-2019-19921). A path without a link is what the caller wrote, and means it.
    fn reach(&self, path: &CStr, flags: c_int, resolve: u64) -> Result<OwnedFd, Error> {
        match self.look_up(path, flags, resolve | libc::RESOLVE_NO_SYMLINKS) {
            Err(e) if e.is(Errno::ELOOP) && resolve & libc::RESOLVE_NO_SYMLINKS == 0 => {}
            other => return other,
        }
        let file = self.look_up(path, flags, resolve)?;
        let mount = sys::fstatx(self.cx, file.as_fd())?.mnt_id;
        if !self.guarded_mounts()?.contains(&mount) {
            return Ok(file);
        }
        let what = "leads through a symbolic link to what --proc, --dev or --sys has mounted";
        Err(Error::refusal(format_args!("{} {what}", self.name(path)))
            .way_out("if this is what you want, write the path without a link"))
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
            for mount in mounts::list_if_any(self.cx)? {
                if ids.contains(&mount.parent) {
                    ids.push(mount.id);
                }
            }
        }
        Ok(ids)
    }

    /// What is at a path, if anything is.
    pub fn find(&self, path: &CStr, resolve: u64) -> Result<Option<OwnedFd>, Error> {
        self.cx.expects(&[Errno::ENOENT]);
        match self.look_up(path, 0, resolve) {
            Err(e) if e.is(Errno::ENOENT) => Ok(None),
            other => other.map(Some).map_err(|e| self.why(path, e)),
        }
    }

    /// A directory (`dir`), or else what is there; made where nothing is. `None`: a dry run has not made it.
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
        file.map(Some).map_err(|e| self.why(path, e))
    }

    /// A directory, made where nothing is.
    pub fn directory(&mut self, path: &CStr) -> Result<OwnedFd, Error> {
        let directory = self.reach_or_make(path, true, 0)?;
        directory.map_or_else(|| stand_in(self.cx), Ok)
    }

    /// A symbolic link that says `text`, made where nothing is.
    pub fn symlink(&mut self, text: &CStr, path: &CStr) -> Result<(), Error> {
        let bytes = path.to_bytes();
        let Some(end) = bytes.iter().rposition(|b| *b != b'/') else {
            return Err(self.refuse_itself(path));
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
                        let what = " is there already, and is no such link";
                        return Err(e.because(format_args!("{}{what}", self.name(path))));
                    }
                }
            }
            other => other?,
        }
        self.has_made(&above, parent.as_fd(), name, 0)
    }

    /// Is anything at a path, be it a link?
    pub fn has(&self, path: &CStr) -> Result<bool, Error> {
        self.cx.expects(&[Errno::ENOENT]);
        match self.look_up(path, libc::O_NOFOLLOW, 0) {
            Err(e) if e.is(Errno::ENOENT) => Ok(false),
            other => other.map(|_| true),
        }
    }

    /// Where a directory (`dir`), or else a file, can be mounted; made where nothing is.
    pub fn target(&mut self, path: &CStr, dir: bool, resolve: u64) -> Result<OwnedFd, Error> {
        let Some(target) = self.reach_or_make(path, dir, resolve)? else {
            return stand_in(self.cx);
        };
        let stat = sys::fstatx(self.cx, target.as_fd())?;
        if self.is(&stat) {
            return Err(self.refuse_itself(path));
        }
        if stat.is_dir() && !dir {
            let what = format!("{} is a directory: no file can be mounted on it", self.name(path));
            return Err(Error::refusal(what));
        }
        Ok(target)
    }

    /// What is mounted on the root itself would not be seen by whoever has it open, as we do.
    pub fn refuse_itself(&self, path: &CStr) -> Error {
        let root = plain(self.path.to_bytes());
        let path = plain(path.to_bytes());
        Error::refusal(format_args!("{path} is the root {root} itself, and must lie below it"))
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
            match self.look_up(&path, 0, resolve) {
                Err(e) if e.is(Errno::ENOENT) && self.made.contains(&path) => {}
                Err(e) if e.is(Errno::ENOENT) => {
                    let name = cstring(name);
                    self.make_one(&parent, name, &path, dir || names.peek().is_some())?;
                }
                other => drop(other.map_err(|e| self.why(&path, e))?),
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
        let shown = self.name(path);
        if self.has(path)? {
            let what = format!("{shown} is a symbolic link to something that is not there");
            return Err(Error::refusal(what));
        }
        let directory = match self.reach(parent, libc::O_DIRECTORY, 0) {
            Err(e) if e.is(Errno::ENOENT) && self.cx.dry() => stand_in(self.cx)?,
            other => other?,
        };
        let at = Some(directory.as_fd());
        let made = match dir {
            true => sys::mkdirat(self.cx, at, &name, 0o755),
            false => sys::mknodat(self.cx, at, &name, libc::S_IFREG | 0o644, 0),
        };
        match made {
            Err(e) if e.is(Errno::EEXIST) => return Ok(()), // another was quicker; it is looked at
            other => {
                other.map_err(|e| e.because(format_args!("{shown} is not there, and is needed")))?
            }
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
            let stat = stat_made(self.cx, directory, &name)
                .map_err(|e| e.because("so this was not undone"))?;
            self.done.push(Done::Made(parent.to_owned(), name, flags, stat.id()));
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
        // What it has covered, to which it goes back.
        let place = open_source(cx, source).map_err(|e| e.because("so this was not undone"))?;
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

    /// Undo all that was done, the last first. What cannot be undone is said.
    pub fn undo(&mut self) {
        if self.cx.dry() {
            return;
        }
        while let Some(done) = self.done.pop() {
            if let Err(error) = self.undo_one(&done) {
                self.cx.say(&error.because("so this was not undone"));
            }
        }
    }

    fn undo_one(&self, done: &Done) -> Result<(), Error> {
        let cx = self.cx;
        match done {
            Done::Made(parent, name, flags, id) => {
                let directory = self.look_up(parent, libc::O_DIRECTORY, 0)?;
                if stat_made(cx, directory.as_fd(), name)?.id() != *id {
                    return Err(self.refuse_another(parent));
                }
                sys::unlinkat(cx, Some(directory.as_fd()), name, *flags)
            }
            Done::ReadOnly(path, id) => {
                let mount = self.mount_again(path, *id)?;
                let attr = MountAttr { attr_clr: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
                sys::mount_setattr(cx, mount.as_fd(), 0, attr)
            }
            Done::Moved(mount, place) => sys::move_mount(cx, mount.as_fd(), place.as_fd()),
            // There is no umount by descriptor, and a path may by now lead elsewhere. In a directory we
            // can stand, which needs no /proc.
            Done::Attached(path, id, _) => {
                let mount = self.mount_again(path, *id)?;
                match mounts::detach(cx, mount.as_fd()) {
                    Err(e) if e.is(Errno::ENOTDIR) => {
                        let path = format!("/proc/self/fd/{}", mount.as_raw_fd());
                        sys::umount2(cx, &cstring(path), libc::MNT_DETACH)
                    }
                    other => other,
                }
            }
        }
    }

    /// The mount with this id, which is at a path unless somebody has changed what that leads to.
    fn mount_again(&self, path: &CStr, id: u64) -> Result<OwnedFd, Error> {
        let mount = self.look_up(path, 0, 0)?;
        let stat = sys::fstatx(self.cx, mount.as_fd())?;
        match stat.mnt_id == id && stat.is_mount_root() {
            true => Ok(mount),
            false => Err(self.refuse_another(path)),
        }
    }

    fn refuse_another(&self, path: &CStr) -> Error {
        Error::refusal(format_args!("{} leads elsewhere by now", self.name(path)))
    }

    /// Why a path cannot be used: look at what it leads to.
    fn why(&self, path: &CStr, error: Error) -> Error {
        let at_path = || {
            let file = self.look_up(path, libc::O_NOFOLLOW, 0).ok()?;
            sys::fstatx(self.cx, file.as_fd()).ok()
        };
        let shown = self.name(path);
        let is_link = |stat: Statx| stat.file_type() == libc::S_IFLNK;
        if error.is(Errno::ELOOP) && at_path().is_some_and(is_link) {
            return error.because(format_args!("{shown} is a symbolic link in the image"));
        }
        let magic = || self.look_up(path, 0, libc::RESOLVE_NO_MAGICLINKS);
        if error.is(Errno::EXDEV) && magic().is_err_and(|e| e.is(Errno::ELOOP)) {
            let what = "leads through a link that the kernel keeps for a process";
            return error.because(format_args!("{shown} {what}"));
        }
        // The path itself, or what it leads through.
        let mut rest = Some(path.to_bytes()).filter(|_| error.is(Errno::ENOTDIR));
        while let Some(part) = rest {
            let path = cstring(part);
            let file =
                self.look_up(&path, 0, 0).and_then(|file| sys::fstatx(self.cx, file.as_fd()));
            if file.is_ok_and(|stat| !stat.is_dir()) {
                return error.because(format_args!("{} is no directory", self.name(&path)));
            }
            rest = part.rsplitn(2, |b| *b == b'/').nth(1);
        }
        error
    }
}

/// What a name is that was made in a directory.
fn stat_made(cx: &Cx, directory: BorrowedFd, name: &CStr) -> Result<Statx, Error> {
    sys::statx(cx, Some(directory), name, libc::AT_SYMLINK_NOFOLLOW)
}
