//! Why a path cannot be used: the component that failed, found by walking the path as the kernel does:
//! path_resolution(7).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use syscalls::Errno;

use crate::ids::user_namespace;
use crate::root::mountinfo::{self, Mount};
use crate::say::error::{Error, Use};
use crate::say::number::decimal;
use crate::say::show::{number, octal, plain, unsigned};
use crate::say::text::{has, split};
use crate::sys::structs::{StatFs, Statx};
use crate::sys::{self, Cx, cstring, proc};

/// As many symbolic links are followed in a path: path_resolution(7).
const MOST_LINKS: u32 = 40;
/// The longest name of a file, and the longest path: NAME_MAX, PATH_MAX without its zero byte.
const LONGEST: [usize; 2] = [255, libc::PATH_MAX as usize - 1];

/// A failed call with the cause that its path shows, if it does.
pub fn explained(cx: &Cx, error: Error) -> Error {
    let _looking = cx.looking();
    let (Some((path, used)), Some(errno)) = (error.path(), error.errno()) else { return error };
    let (path, used) = (path.clone(), *used);
    match why(cx, &path, used, errno) {
        Some(why) => error.because(why),
        None => error,
    }
}

/// Why a call that used the file at `path` returned `errno`. `None`: the path does not show it.
pub fn why(cx: &Cx, path: &CStr, used: Use, errno: Errno) -> Option<String> {
    let _looking = cx.looking();
    let bytes = path.to_bytes();
    match errno {
        Errno::ENOENT if bytes.is_empty() => return Some("an empty path names no file".into()),
        Errno::ENOENT if !bytes.starts_with(b"/") => {
            if sys::getcwd(cx).is_err_and(|e| e.is(Errno::ENOENT)) {
                return Some("the working directory was removed".into());
            }
        }
        Errno::ENAMETOOLONG if bytes.len() > LONGEST[1] => {
            return Some(too_long("the path", bytes.len(), LONGEST[1]));
        }
        Errno::ENOENT
        | Errno::ENOTDIR
        | Errno::EACCES
        | Errno::ELOOP
        | Errno::ENAMETOOLONG
        | Errno::EROFS
        | Errno::ENOSPC
        | Errno::EDQUOT
        | Errno::EPERM
        | Errno::EISDIR
        | Errno::EOVERFLOW
        | Errno::ETXTBSY => {}
        _ => return None,
    }
    let mut walk = Walk::new(cx, bytes);
    match walk.go(used) {
        Ok(()) => walk.why_not_used(used, errno),
        Err((found, why)) => (found == errno).then(|| walk.by_link(why)),
    }
}

/// Where a walk stops before the end: a call would fail there with this errno, for this reason.
type Stop = (Errno, String);

/// A walk along a path.
struct Walk<'a> {
    cx: &'a Cx,
    /// The directory it has come to; `None`: the working directory, where it began.
    dir: Option<OwnedFd>,
    /// The path up to the next component.
    shown: Vec<u8>,
    /// The last component, where that is not a directory or is to be created or removed.
    last: Option<Vec<u8>>,
    /// The components that are left, the next one last.
    rest: Vec<Vec<u8>>,
    links: u32,
    /// The first symbolic link, and its target.
    link: Option<(String, String)>,
    /// Is the last component a symbolic link?
    ends_in_link: bool,
}

impl<'a> Walk<'a> {
    fn new(cx: &'a Cx, path: &[u8]) -> Walk<'a> {
        let (links, link, ends_in_link) = (0, None, false);
        let (shown, rest) = (Vec::new(), Vec::new());
        let mut walk = Walk { cx, dir: None, shown, last: None, rest, links, link, ends_in_link };
        walk.add(path);
        walk
    }

    /// A path lies before the walk: the one that was given, or the target of a link.
    fn add(&mut self, path: &[u8]) {
        self.rest.extend(split(path, b'/').rev().map(<[u8]>::to_vec));
        if path.starts_with(b"/") {
            self.shown = b"/".to_vec();
            self.dir = sys::openat(self.cx, None, c"/", libc::O_PATH | libc::O_DIRECTORY).ok();
        }
    }

    fn at(&self) -> Option<BorrowedFd<'_>> {
        self.dir.as_ref().map(AsFd::as_fd)
    }

    fn name(&self, part: &[u8]) -> Vec<u8> {
        let slash: &[u8] =
            if self.shown.is_empty() || self.shown.ends_with(b"/") { b"" } else { b"/" };
        [&self.shown, slash, part].concat()
    }

    /// The directory it has come to, as a word.
    fn directory(&self) -> String {
        if self.shown.is_empty() { "the working directory".into() } else { plain(&self.shown) }
    }

    /// Walk to the end of the path; a name that is to be created or removed need not be there.
    fn go(&mut self, used: Use) -> Result<(), Stop> {
        while let Some(part) = self.rest.pop() {
            if !part.is_empty() && part != b"." {
                self.step(part, used)?;
            }
        }
        Ok(())
    }

    fn stat_of_directory(&self) -> Option<Statx> {
        match self.at() {
            Some(dir) => sys::fstatx(self.cx, dir).ok(),
            None => sys::statx(self.cx, None, c".", 0).ok(),
        }
    }

    /// Go on to the next component.
    fn step(&mut self, part: Vec<u8>, used: Use) -> Result<(), Stop> {
        let is_last = self.rest.iter().all(Vec::is_empty);
        let name = cstring(&*part);
        let found = sys::statx(self.cx, self.at(), &name, libc::AT_SYMLINK_NOFOLLOW);
        let is_missing = found.as_ref().is_err_and(|e| e.is(Errno::ENOENT));
        if is_last && used == Use::Name && (found.is_ok() || is_missing) {
            self.last = Some(part);
            return Ok(());
        }
        let found = found.map_err(|e| self.why_not_found(&part, &e))?;
        let flags = match found.file_type() {
            libc::S_IFDIR => libc::O_PATH | libc::O_NOFOLLOW,
            libc::S_IFLNK if self.is_in_proc() => libc::O_PATH,
            libc::S_IFLNK => return self.follow(&part, &name, is_last),
            _ if self.rest.is_empty() => {
                self.last = Some(part);
                return Ok(());
            }
            _ => return Err((Errno::ENOTDIR, plain(&self.name(&part)) + " is not a directory")),
        };
        let opened = sys::openat(self.cx, self.at(), &name, flags);
        let dir = opened.map_err(|e| self.why_not_found(&part, &e))?;
        self.shown = self.name(&part);
        self.dir = Some(dir);
        Ok(())
    }

    /// The links of a proc file system lead to files, whatever their text says: proc(5).
    fn is_in_proc(&self) -> bool {
        let is = |fs: StatFs| fs.f_type == libc::PROC_SUPER_MAGIC;
        self.at().is_some_and(|dir| sys::fstatfs(self.cx, dir).is_ok_and(is))
    }

    fn follow(&mut self, part: &[u8], name: &CStr, is_last: bool) -> Result<(), Stop> {
        let shown = plain(&self.name(part));
        self.links += 1;
        if self.links > MOST_LINKS {
            let what = [&shown, " is one of more than 40 symbolic links: perhaps they form a loop"]
                .concat();
            return Err((Errno::ELOOP, what));
        }
        let target =
            sys::readlinkat(self.cx, self.at(), name).map_err(|e| self.why_not_found(part, &e))?;
        self.ends_in_link |= is_last && self.links == 1;
        self.link.get_or_insert_with(|| (shown, plain(&target)));
        self.add(&target);
        Ok(())
    }

    fn why_not_found(&self, part: &[u8], looked: &Error) -> Stop {
        let errno = looked.errno().unwrap_or(Errno::EIO);
        let what = match errno {
            Errno::ENOENT => plain(&self.name(part)) + " does not exist",
            Errno::EACCES => self.who("search", &self.directory(), self.stat_of_directory()),
            Errno::ENAMETOOLONG => too_long("a name in the path", part.len(), LONGEST[0]),
            _ => plain(&self.name(part)) + " cannot be examined",
        };
        (errno, what)
    }

    /// A reason, with the link that led to where it is.
    fn by_link(&self, why: String) -> String {
        match &self.link {
            Some((link, target)) if !why.starts_with(&**link) => {
                [link, " is a symbolic link to ", target, ", and ", &*why].concat()
            }
            _ => why,
        }
    }

    /// What is at the end of the path.
    fn end(&self) -> String {
        match &self.last {
            Some(last) => plain(&self.name(last)),
            None => self.directory(),
        }
    }

    /// Its name in the directory that the walk has come to, which may be that directory itself.
    fn end_name(&self) -> CString {
        cstring(self.last.as_deref().unwrap_or(b"."))
    }

    /// The file at the end, or the directory it would be in.
    fn open_end(&self) -> Option<OwnedFd> {
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let open = |name: &CStr| sys::openat(self.cx, self.at(), name, flags).ok();
        open(&self.end_name()).or_else(|| open(c"."))
    }

    /// Its mount, as mountinfo shows it.
    fn mount(&self) -> Option<Mount> {
        let id = sys::fstatx(self.cx, self.open_end()?.as_fd()).ok()?.mnt_id;
        mountinfo::list_if_any(self.cx).ok()?.into_iter().find(|mount| mount.id == id)
    }

    /// `uid 1000 may not search /root: it belongs to uid 0, gid 0 (mode 0700)`
    fn who(&self, what: &str, shown: &str, stat: Option<Statx>) -> String {
        let mut text =
            ["uid ", &*number(effective_uid(self.cx)), " may not ", what, " ", shown].concat();
        if let Some(stat) = stat {
            unsigned(", which belongs to uid ", stat.uid.into(), &mut text);
            unsigned(", gid ", stat.gid.into(), &mut text);
            octal(" (mode ", stat.permissions(), &mut text);
            text.push(')');
        }
        text
    }

    /// Why the file at the end was not used as asked: its directory, the file itself, or its file system.
    fn why_not_used(&self, used: Use, errno: Errno) -> Option<String> {
        let stat = self.open_end().and_then(|file| sys::fstatx(self.cx, file.as_fd()).ok());
        let path = self.end();
        match errno {
            Errno::EROFS => self.why_read_only(),
            Errno::ENOSPC | Errno::EDQUOT => self.why_full(errno),
            Errno::ENOTDIR => {
                stat.filter(|stat| !stat.is_dir()).map(|_| path + " is not a directory")
            }
            Errno::EISDIR => stat.filter(Statx::is_dir).map(|_| path + " is a directory"),
            Errno::ELOOP if self.ends_in_link => self
                .link
                .as_ref()
                .map(|(link, _)| [link, " is a symbolic link, which is not followed"].concat()),
            Errno::EPERM => self.why_unchangeable(stat, used),
            Errno::EACCES => self.why_refused(stat, used),
            Errno::EOVERFLOW => self.why_no_owner(),
            _ => None,
        }
    }

    fn why_read_only(&self) -> Option<String> {
        let is_read_only = |fs: StatFs| fs.f_flags as u64 & libc::ST_RDONLY != 0;
        if !sys::fstatfs(self.cx, self.open_end()?.as_fd()).is_ok_and(is_read_only) {
            return None;
        }
        Some(match self.mount() {
            Some(mount) if has(mount.options, b',', b"ro") => {
                plain(mount.point) + " is mounted read-only"
            }
            Some(mount) => [
                "the file system (",
                &*plain(mount.fstype),
                ") mounted on ",
                &*plain(mount.point),
                " is read-only",
            ]
            .concat(),
            None => self.end() + " is on a read-only file system",
        })
    }

    fn why_full(&self, errno: Errno) -> Option<String> {
        let fs = sys::fstatfs(self.cx, self.open_end()?.as_fd()).ok()?;
        let mount = self.mount();
        let on = mount.as_ref().map_or(self.end(), |mount| plain(mount.point));
        let kind = mount
            .as_ref()
            .map_or(String::new(), |mount| [" (", &*plain(mount.fstype), ")"].concat());
        let what = match errno {
            Errno::EDQUOT => "a quota of this user, of its group or of the project is used up on ",
            _ if fs.has_no_block() => "no block is free on ",
            _ if fs.has_no_inode() => "no inode is free on ",
            _ => "blocks and inodes are free, so perhaps a quota is used up on ",
        };
        Some([what, &*on, &*kind].concat())
    }

    /// Of a name the directory is changed; of a file that is written, the file.
    fn why_unchangeable(&self, stat: Option<Statx>, used: Use) -> Option<String> {
        let directory = self.stat_of_directory().filter(|_| used == Use::Name);
        let file = |stat: Statx| (self.end(), stat.attributes);
        let changed = [directory.map(|stat| (self.directory(), stat.attributes)), stat.map(file)];
        let has = |attributes: u64, bit: i32| attributes & bit as u64 != 0;
        changed.into_iter().flatten().find_map(|(shown, attributes)| {
            if has(attributes, libc::STATX_ATTR_IMMUTABLE) {
                Some(shown + " is immutable (chattr +i)")
            } else if has(attributes, libc::STATX_ATTR_APPEND) {
                Some(shown + " is append-only (chattr +a)")
            } else {
                None
            }
        })
    }

    fn why_refused(&self, stat: Option<Statx>, used: Use) -> Option<String> {
        let may = |name: &CStr, mode: i32| match sys::faccessat2(self.cx, self.at(), name, mode) {
            Err(e) => !e.is(Errno::EACCES),
            Ok(()) => true,
        };
        let last = self.end_name();
        let (name, mode, what) = match used {
            Use::Find => return None,
            Use::Read => (&*last, libc::R_OK, "read"),
            Use::Write => (&*last, libc::W_OK, "write"),
            Use::Enter => (&*last, libc::X_OK, "search"),
            Use::Name => (c".", libc::W_OK | libc::X_OK, "write in"),
        };
        if may(name, mode) {
            return None;
        }
        Some(match used {
            Use::Name => self.who(what, &self.directory(), self.stat_of_directory()),
            _ => self.who(what, &self.end(), stat),
        })
    }

    /// A file gets the ids of who creates it, which its file system has no number for if they are not mapped.
    fn why_no_owner(&self) -> Option<String> {
        let maps =
            [(c"/proc/self/uid_map", "uid", b"Uid:"), (c"/proc/self/gid_map", "gid", b"Gid:")];
        maps.into_iter().find_map(|(map, kind, field)| {
            let id = effective(self.cx, field)?;
            let map = sys::read_file(self.cx, None, map).ok()?;
            let is_mapped = user_namespace::is_mapped(&map, id);
            (!is_mapped).then(|| {
                [
                    "the ",
                    kind,
                    " of this process has no id in its user namespace, and ",
                    &*self.directory(),
                    " cannot get a file without an owner",
                ]
                .concat()
            })
        })
    }
}

/// The effective uid, which a step may have changed.
fn effective_uid(cx: &Cx) -> u64 {
    effective(cx, b"Uid:").unwrap_or(cx.start.euid).into()
}

/// The effective id of a line of /proc/self/status.
fn effective(cx: &Cx, field: &[u8]) -> Option<u32> {
    let line = proc::status(cx, field)?;
    let number = split(&line, b'\t').filter(|id| !id.is_empty()).nth(1)?;
    decimal(number).and_then(|id| u32::try_from(id).ok())
}

fn too_long(what: &str, length: usize, most: usize) -> String {
    [
        what,
        " has ",
        &*number(length as u64),
        " bytes, and the kernel allows ",
        &*number(most as u64),
    ]
    .concat()
}
