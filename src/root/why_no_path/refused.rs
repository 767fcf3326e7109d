//! Why a file is refused that a path leads to, or that is to be created there.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use syscalls::Errno;

use crate::ids::user_namespace;
use crate::root::mountinfo::{self, Mount};
use crate::root::why_no_path::walk::{Looks, is_removed, may_not, parent_of};
use crate::root::why_no_path::{Start, id};
use crate::say::error::{Subject, Use};
use crate::say::number::decimal;
use crate::say::show::{number, plain};
use crate::say::text::has;
use crate::sys::structs::{StatFs, Statx};
use crate::sys::{self, proc};

/// The end of a path.
pub struct End<'a> {
    pub start: &'a Start<'a>,
    /// The path to the end: a link may have led there.
    pub path: &'a [u8],
    /// The file there; `None`: it is to be created.
    pub stat: Option<Statx>,
    /// What the call was given.
    pub subject: &'a Subject,
}

impl End<'_> {
    /// Why the call failed with `errno`.
    pub fn why_refused(&self, errno: Errno) -> Option<String> {
        let shown = || self.start.shown(self.path);
        let is_dir = self.stat.is_some_and(|stat| stat.is_dir());
        let is_link = self.stat.is_some_and(|stat| stat.file_type() == libc::S_IFLNK);
        match errno {
            Errno::ELOOP | Errno::ENOTDIR if is_link && !self.subject.follows => {
                Some(shown() + " is a symbolic link, which is not followed")
            }
            Errno::ENOTDIR if self.stat.is_some() && !is_dir => {
                Some(shown() + " is not a directory")
            }
            Errno::EISDIR if is_dir => Some(shown() + " is a directory"),
            Errno::EEXIST if self.stat.is_some() && self.subject.used == Use::Create => {
                Some(shown() + " exists already")
            }
            Errno::ENOENT if self.stat.is_none() => {
                let directory = parent_of(self.path);
                is_removed(self.start, directory)
                    .then(|| self.start.shown(directory) + " was removed")
            }
            Errno::EACCES => self.why_not_permitted(),
            Errno::EPERM => self.why_unchangeable(),
            Errno::EROFS => self.why_read_only(),
            Errno::ENOSPC | Errno::EDQUOT => self.why_full(errno),
            Errno::EOVERFLOW => self.why_no_owner(),
            Errno::ETXTBSY if self.subject.used == Use::Write => self.why_executed(),
            _ => None,
        }
    }

    /// Is the directory changed, not the file?
    fn changes_directory(&self) -> bool {
        self.stat.is_none() || matches!(self.subject.used, Use::Create | Use::Remove)
    }

    /// What is changed: the file, or the directory that it is in.
    fn changed(&self) -> &[u8] {
        if self.changes_directory() { parent_of(self.path) } else { self.path }
    }

    /// It, opened as a place.
    fn open(&self) -> Option<OwnedFd> {
        self.start.open(self.changed(), 0).ok()
    }

    fn fs(&self) -> Option<StatFs> {
        sys::fstatfs(self.start.cx, self.open()?.as_fd()).ok()
    }

    /// Its mount, as mountinfo shows it.
    fn mount(&self) -> Option<Mount> {
        let id = self.start.stat(self.changed(), true).ok()?.mnt_id;
        mountinfo::list_if_any(self.start.cx).ok()?.into_iter().find(|mount| mount.id == id)
    }

    fn why_read_only(&self) -> Option<String> {
        self.fs().filter(|fs| fs.f_flags as u64 & libc::ST_RDONLY != 0)?;
        Some(match self.mount() {
            Some(mount) if has(mount.options, b',', b"ro") => {
                plain(mount.point) + " is mounted read-only"
            }
            Some(mount) => {
                let kind = [" (", &*plain(mount.fstype), ") is read-only"].concat();
                ["the file system mounted on ", &*plain(mount.point), &*kind].concat()
            }
            None => self.start.shown(self.path) + " is on a read-only file system",
        })
    }

    fn why_full(&self, errno: Errno) -> Option<String> {
        let fs = self.fs()?;
        let on = match self.mount() {
            Some(mount) => [&*plain(mount.point), " (", &*plain(mount.fstype), ")"].concat(),
            None => self.start.shown(self.path),
        };
        let what = match errno {
            Errno::EDQUOT => "a quota of this user, of its group or of the project is used up on ",
            _ if fs.has_no_block() => "no block is free on ",
            _ if fs.has_no_inode() => "no inode is free on ",
            _ => return None,
        };
        Some([what, &*on].concat())
    }

    /// An immutable or append-only file or directory, or a sticky directory: chattr(1), unlink(2).
    fn why_unchangeable(&self) -> Option<String> {
        let used = self.subject.used;
        if !matches!(used, Use::Write | Use::Open | Use::Create | Use::Remove) {
            return None;
        }
        let directory = parent_of(self.path);
        let stat = |path| self.start.stat(path, true).ok();
        let is = |stat: &Statx, bit: i32| stat.attributes & bit as u64 != 0;
        // In an append-only directory files can be created.
        let is_kept = |stat: &Statx| match used {
            _ if is(stat, libc::STATX_ATTR_IMMUTABLE) => Some(" is immutable (chattr +i)"),
            _ if self.stat.is_none() || used == Use::Create => None,
            _ if is(stat, libc::STATX_ATTR_APPEND) => Some(" is append-only (chattr +a)"),
            _ => None,
        };
        let changed = Some(directory).filter(|_| self.changes_directory());
        if let Some((path, what)) = changed.and_then(|path| Some((path, is_kept(&stat(path)?)?))) {
            return Some(self.start.shown(path) + what);
        }
        let file = self.stat.filter(|_| used != Use::Create)?;
        if let Some(what) = is_kept(&file) {
            return Some(self.start.shown(self.path) + what);
        }
        let parent = stat(directory).filter(|_| used == Use::Remove)?;
        let own =
            id(self.start.cx, b"Uid:\t").filter(|own| ![file.uid, parent.uid].contains(own))?;
        let is_sticky = parent.permissions() & libc::S_ISVTX != 0 && own != 0;
        is_sticky.then(|| {
            let what = " is sticky: only its owner and that of the file may remove it";
            self.start.shown(directory) + what
        })
    }

    /// The permission that is missing.
    fn why_not_permitted(&self) -> Option<String> {
        let (mode, act) = match self.subject.used {
            Use::Find => return None,
            _ if self.changes_directory() => (libc::W_OK | libc::X_OK, "write in"),
            Use::Read => (libc::R_OK, "read"),
            Use::Enter => (libc::X_OK, "search"),
            _ => (libc::W_OK, "write"),
        };
        // A descriptor that is only a place can be asked for by its path in /proc.
        let file = self.start.root.and_then(|_| self.open());
        let path = match &file {
            Some(file) => {
                ["/proc/self/fd/", &number(file.as_raw_fd() as u64)].concat().into_bytes()
            }
            None => self.changed().to_vec(),
        };
        let refused = sys::faccessat2(self.start.cx, None, &sys::cstring(path), mode);
        if refused.is_err_and(|e| e.is(Errno::EACCES)) {
            return Some(may_not(self.start, act, self.changed()));
        }
        self.why_protected()
    }

    /// In a sticky directory that others may write to, nobody opens with O_CREAT what belongs to somebody else:
    /// proc_sys_fs(5), protected_regular.
    fn why_protected(&self) -> Option<String> {
        let file = self.stat.filter(|_| self.subject.used == Use::Open)?;
        let directory = parent_of(self.path);
        let parent = self.start.stat(directory, true).ok()?;
        let own = id(self.start.cx, b"Uid:\t")?;
        let is_on = sys::read_file(self.start.cx, None, c"/proc/sys/fs/protected_regular")
            .ok()
            .and_then(|text| proc::number(&text))?;
        let others = if is_on > 1 { 0o022 } else { 0o002 };
        let is_open =
            parent.permissions() & libc::S_ISVTX != 0 && parent.permissions() & others != 0;
        let is_others = file.uid != own && file.uid != parent.uid;
        (is_on > 0 && is_open && is_others && file.file_type() == libc::S_IFREG).then(|| {
            let owner = [" belongs to uid ", &*number(file.uid.into())].concat();
            let why = " is sticky and open to others (fs.protected_regular)";
            [&*self.start.shown(self.path), &*owner, ", and ", &*self.start.shown(directory), why]
                .concat()
        })
    }

    /// A file gets the ids of who creates it, for which its file system has no number if they are not mapped. To be
    /// changed in an overlay, a file is copied with the ids of its owner.
    fn why_no_owner(&self) -> Option<String> {
        let maps: [(&CStr, &str, &[u8]); 2] =
            [(c"/proc/self/uid_map", "uid", b"Uid:\t"), (c"/proc/self/gid_map", "gid", b"Gid:\t")];
        let fs = self.fs()?;
        let changed = self.start.stat(self.changed(), true).ok()?;
        maps.into_iter().find_map(|(map, kind, line)| {
            let map = sys::read_file(self.start.cx, None, map).ok()?;
            let is_unmapped = |id: u32| !user_namespace::is_mapped(&map, id);
            let owner = if kind == "uid" { changed.uid } else { changed.gid };
            if is_unmapped(id(self.start.cx, line)?) && self.changes_directory() {
                let what = [
                    "the ",
                    kind,
                    " of this process is not mapped in its user namespace: it can own no file",
                ];
                return Some(what.concat());
            }
            let is_overlay = fs.f_type == libc::OVERLAYFS_SUPER_MAGIC;
            (is_overlay && is_unmapped(owner)).then(|| {
                let shown = self.start.shown(self.changed());
                let what = " that is not mapped in this user namespace";
                let copy = ": the overlay cannot copy it to the upper directory";
                [&*shown, " belongs to a ", kind, what, copy].concat()
            })
        })
    }

    /// Processes that execute the file.
    fn why_executed(&self) -> Option<String> {
        let (cx, file) = (self.start.cx, self.stat?);
        let proc = proc::root(cx).ok()?;
        let proc = sys::openat(cx, Some(proc.as_fd()), c".", libc::O_RDONLY | libc::O_DIRECTORY);
        let mut pids = Vec::new();
        let listed = sys::for_each_entry(cx, proc.ok()?.as_fd(), &mut |name, _| {
            let pid = name.to_bytes();
            if decimal(pid).is_some() {
                let exe = sys::cstring([b"/proc/", pid, b"/exe"].concat());
                let executes = sys::statx(cx, None, &exe, 0).is_ok_and(|exe| exe.same_file(&file));
                pids.extend(executes.then(|| plain(pid)));
            }
            Ok(())
        });
        listed.ok().filter(|()| !pids.is_empty())?;
        let shown = self.start.shown(self.path);
        Some([&shown, " is executed by process ", &pids.join(", ")].concat())
    }
}
