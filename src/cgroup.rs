//! cgroups, version 1, 2 and hybrid: where a controller lives, and where a cgroup lies in each
//! hierarchy: cgroups(7).
//!
//! On a hybrid machine one name stands for several directories, one in each hierarchy that has it.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use syscalls::Errno;

use crate::error::Error;
use crate::mounts::{self, Mount};
use crate::show::plain;
use crate::sys::{self, Cx};

/// A mounted hierarchy.
#[derive(Debug, PartialEq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub point: Vec<u8>,
    /// Version 2, the unified one?
    pub v2: bool,
    /// Version 1: its controllers, or `name=…`. Version 2 says them in `cgroup.controllers`.
    pub controllers: Vec<Vec<u8>>,
    /// The caller's own cgroup in it, as seen from `point`. `None`: it lies outside what is mounted.
    pub own: Option<Vec<u8>>,
}

/// The hierarchies that this process can reach, from `/proc/self/cgroup` and mountinfo.
pub fn hierarchies(cx: &Cx) -> Result<Vec<Hierarchy>, Error> {
    let own = sys::read_file(cx, None, c"/proc/self/cgroup")
        .map_err(|e| e.because("cgroups are found through /proc, which must be mounted"))?;
    Ok(parse(&own, &mounts::list(cx, c"/proc/self/mountinfo")?))
}

/// Bring together `/proc/self/cgroup` (a line `ID:CONTROLLERS:PATH` a hierarchy) and the mounts.
pub fn parse(own: &[u8], mounts: &[Mount]) -> Vec<Hierarchy> {
    own.split(|b| *b == b'\n').filter_map(|line| parse_line(line, mounts)).collect()
}

fn parse_line(line: &[u8], mounts: &[Mount]) -> Option<Hierarchy> {
    let mut fields = line.splitn(3, |b| *b == b':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let v2 = controllers.is_empty();
    let controllers: Vec<Vec<u8>> =
        controllers.split(|b| *b == b',').filter(|c| !c.is_empty()).map(<[u8]>::to_vec).collect();
    // A hierarchy may be mounted more than once: best where its root is seen.
    let found = mounts.iter().filter(|mount| match v2 {
        true => mount.fstype == b"cgroup2",
        false => {
            let options: Vec<&[u8]> = mount.super_options.split(|b| *b == b',').collect();
            mount.fstype == b"cgroup" && controllers.iter().all(|c| options.contains(&&c[..]))
        }
    });
    let mount = found.min_by_key(|mount| mount.root.len())?;
    let below = match mount.root.as_slice() {
        b"/" => Some(path),
        root => path.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with(b"/")),
    };
    let own = below.filter(|path| !path.starts_with(b"/..")).map(<[u8]>::to_vec);
    Some(Hierarchy { point: mount.point.clone(), v2, controllers, own })
}

impl Hierarchy {
    /// The directory of the cgroup `path`: `/a/b` from the root of the hierarchy, `a/b` below the
    /// caller's own cgroup. `None`: the caller's own lies outside what is mounted.
    pub fn directory(&self, path: &[u8]) -> Option<CString> {
        let mut directory = self.point.clone();
        if !path.starts_with(b"/") {
            directory.extend(self.own.as_ref()?.strip_suffix(b"/").or(self.own.as_deref())?);
            directory.push(b'/');
        }
        directory.extend(path);
        CString::new(directory).ok()
    }
}

/// The name of a cgroup from what the user typed. A path of the file system, below the mount point of
/// a hierarchy, is understood as what it means there; another below `/sys/fs/cgroup` is refused, and
/// so is what does not name one cgroup: `/`, and a part that is empty, `.` or `..`.
pub fn name(hierarchies: &[Hierarchy], typed: &CStr) -> Result<Vec<u8>, Error> {
    let shown = plain(typed.to_bytes());
    let typed = typed.to_bytes();
    let typed = typed.strip_suffix(b"/").unwrap_or(typed);
    let below = |h: &Hierarchy| {
        typed.strip_prefix(&h.point[..]).filter(|rest| rest.starts_with(b"/")).map(<[u8]>::to_vec)
    };
    let name = match hierarchies.iter().find_map(below) {
        Some(name) => name,
        None if typed.starts_with(b"/sys/fs/cgroup") => {
            return Err(Error::refusal(format!("{shown}: no cgroup hierarchy is mounted there"))
                .way_out("name a cgroup from the root of its hierarchy: /td/NAME"));
        }
        None => typed.to_vec(),
    };
    let parts = name.strip_prefix(b"/").unwrap_or(&name).split(|b| *b == b'/');
    if parts.into_iter().any(|part| matches!(part, b"" | b"." | b"..")) {
        return Err(Error::refusal(format!("{shown}: this does not name one cgroup")));
    }
    Ok(name)
}

/// A cgroup wherever a hierarchy has it, opened so that a child can be born in it.
#[derive(Default)]
pub struct Cradle {
    /// The directory in the version 2 hierarchy, for CLONE_INTO_CGROUP.
    pub v2: Option<OwnedFd>,
    /// `tasks` in each version 1 hierarchy that has the cgroup: who writes `0` to it moves itself.
    /// Moving by cgroup.procs would wait some milliseconds for an RCU grace period.
    pub tasks: Vec<OwnedFd>,
}

/// Open the cgroup `typed` wherever a hierarchy has it.
pub fn open_cradle(cx: &Cx, typed: &CStr) -> Result<Cradle, Error> {
    let hierarchies = hierarchies(cx)?;
    let name = name(&hierarchies, typed)?;
    let mut cradle = Cradle::default();
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    for hierarchy in &hierarchies {
        let Some(directory) = hierarchy.directory(&name) else { continue };
        // td-cgroup has made the version 2 one, also where a dry run did not.
        let opened = match hierarchy.v2 {
            true => sys::openat_made(cx, None, &directory, flags),
            false => sys::openat(cx, None, &directory, flags | libc::O_PATH),
        };
        let opened = match opened {
            Err(e) if e.is(Errno::ENOENT) => continue, // not a cgroup of this hierarchy
            other => other?,
        };
        match hierarchy.v2 {
            true => cradle.v2 = Some(opened),
            false => {
                let tasks = sys::openat(cx, Some(opened.as_fd()), c"tasks", libc::O_WRONLY)?;
                cradle.tasks.push(tasks);
            }
        }
    }
    if cradle.v2.is_none() && cradle.tasks.is_empty() {
        let typed = plain(typed.to_bytes());
        return Err(Error::refusal(format!("{typed}: no hierarchy has such a cgroup"))
            .way_out(format!("td-cgroup {typed} makes it")));
    }
    Ok(cradle)
}

/// For how long a removal waits for processes that are dying, in all, and between two looks.
const PATIENCE: i64 = 2_000_000_000;
const PAUSE: i64 = 2_000_000;

/// Remove the cgroup `typed` from every hierarchy that has it, those below it first. Waits for what is
/// dying in it, 2 seconds at most. Returns how many directories it was.
pub fn remove(cx: &Cx, typed: &CStr) -> Result<usize, Error> {
    let hierarchies = hierarchies(cx)?;
    let name = name(&hierarchies, typed)?;
    let mut removed = 0;
    for hierarchy in &hierarchies {
        let Some(directory) = hierarchy.directory(&name) else { continue };
        removed += usize::from(remove_directory(cx, &directory)?);
    }
    Ok(removed)
}

/// Remove one directory and those below it. False: there is none.
fn remove_directory(cx: &Cx, directory: &CStr) -> Result<bool, Error> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let opened = match sys::openat(cx, None, directory, flags) {
        Err(e) if e.is(Errno::ENOENT) => return Ok(false),
        other => other?,
    };
    // Version 1: what the memory controller still holds in caches would pin the removed cgroup.
    match sys::write_file(cx, Some(opened.as_fd()), c"memory.force_empty", b"0") {
        Err(e) if e.is(Errno::ENOENT) || e.is(Errno::EBUSY) => {} // not that controller; in use: see rmdir
        other => other?,
    }
    let mut waited = 0;
    loop {
        let error = match sys::unlinkat(cx, None, directory, libc::AT_REMOVEDIR) {
            Err(e) if e.is(Errno::ENOENT) => return Ok(true), // another was quicker
            Err(e) if e.is(Errno::EBUSY) => e,
            other => return other.map(|()| true),
        };
        for (name, _) in sys::read_dir(cx, opened.as_fd())?.iter().filter(|e| e.1 == libc::DT_DIR) {
            let mut below = directory.to_bytes().to_vec();
            below.push(b'/');
            below.extend(name.to_bytes());
            remove_directory(cx, &CString::new(below).unwrap_or_default())?;
        }
        if waited >= PATIENCE {
            return Err(why_busy(cx, directory, &opened, error));
        }
        sys::sleep(cx, PAUSE)?;
        waited += PAUSE;
    }
}

/// Who is still there.
fn why_busy(cx: &Cx, directory: &CStr, opened: &OwnedFd, error: Error) -> Error {
    let pids = sys::read_file(cx, Some(opened.as_fd()), c"cgroup.procs").unwrap_or_default();
    let pids = String::from_utf8_lossy(&pids).split_whitespace().collect::<Vec<_>>().join(" ");
    let directory = plain(directory.to_bytes());
    if pids.is_empty() {
        return error
            .because(format!("{directory} is in use, and no process of it is visible here"));
    }
    error.because(format!("{directory} still has processes: {pids}"))
}
