//! The hierarchies of cgroups, version 1, 2 and hybrid: where a controller is, and where a cgroup lies in each of
//! them: cgroups(7).
//!
//! On a hybrid machine one name stands for several directories, one in each hierarchy that has it.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;

use syscalls::Errno;

use crate::cgroup::file::{self, join};
use crate::cgroup::mount;
use crate::cgroup::proc_pid_cgroup::{fields, name_on_v1, names, own};
use crate::root::mountinfo::{self, Mount};
use crate::say::error::Error;
use crate::say::show::{plain, signed};
use crate::say::text;
use crate::sys::{self, Cx, cstring};

/// A mounted hierarchy.
#[derive(Debug, Default)]
pub struct Hierarchy {
    /// Its number in `/proc/PID/cgroup`.
    pub id: &'static [u8],
    /// Where it is mounted: if in several places, the one that shows most of it.
    pub point: &'static [u8],
    /// The other places where it, or a part of it, is mounted.
    pub others: Vec<&'static [u8]>,
    /// Which of its cgroups is the root of what is seen there: a path of `/proc/PID/cgroup`.
    pub root: &'static [u8],
    /// Is it mounted by us, and attached nowhere? Then `point` is its descriptor in `/proc/self/fd`.
    pub detached: bool,
    /// Version 2, the unified one?
    pub v2: bool,
    /// Version 1: its controllers, or `name=…`. Version 2 says them in `cgroup.controllers`.
    pub controllers: &'static [u8],
    /// The caller's own cgroup in it, as seen from `point`. `None`: it lies outside what is mounted.
    pub own: Option<&'static [u8]>,
}

/// The controllers that are passed down to a user to whom a cgroup is given. The pages of hugetlb are reserved by root.
pub const CONTROLLERS: [&[u8]; 5] = [b"memory", b"cpu", b"cpuset", b"io", b"pids"];

/// The option for a container without cgroups.
pub const DISABLED: &str = "td-run --cgroups disabled creates none";

/// The hierarchies that this process can reach, from `/proc/self/cgroup` and mountinfo.
pub fn list(cx: &Cx) -> Result<Vec<Hierarchy>, Error> {
    let hierarchies = parse(own(cx)?, &mountinfo::known(cx)?);
    if hierarchies.is_empty() {
        return Err(Error::refusal("no cgroup hierarchy is mounted here")
            .way_out("mount -t cgroup2 cgroup2 /sys/fs/cgroup"));
    }
    Ok(hierarchies)
}

/// Every hierarchy, also one that is not mounted here: that is mounted, but attached nowhere. Version 2 is included
/// even if it is not mounted yet, because a container with a user namespace could mount it.
pub fn every(cx: &Cx) -> Result<Vec<Hierarchy>, Error> {
    let mut own = own(cx).map_err(|e| e.way_out(DISABLED))?;
    if !text::lines(own).any(|line| fields(line).is_some_and(|(names, _)| names.is_empty())) {
        own = [own, b"0::/\n"].concat().leak();
    }
    let mounts = mountinfo::known(cx)?;
    let mut hierarchies = Vec::with_capacity(text::lines(own).count());
    for line in text::lines(own) {
        let Some((controllers, path)) = fields(line) else { continue };
        if path.starts_with(b"/..") {
            let line = plain(line);
            return Err(Error::refusal(format_args!(
                "{line}: this cgroup is outside this cgroup namespace"
            ))
            .way_out(DISABLED));
        }
        match reach(cx, line, path, &mounts) {
            Ok(hierarchy) => hierarchies.push(hierarchy),
            // Version 2 that this kernel does not have, or that a user cannot look at.
            Err(e) if e.is(Errno::ENODEV) && controllers.is_empty() => {}
            Err(e) if path == b"/" && e.is(Errno::EPERM) && mount::in_initial_namespace(cx) => {}
            Err(e) => return Err(e.way_out(DISABLED)),
        }
    }
    Ok(hierarchies)
}

/// The hierarchy of a line of `/proc/self/cgroup`, where its cgroup `path` can be seen: as it is mounted here, else by
/// a mount that is attached nowhere.
pub fn reach(
    cx: &Cx,
    line: &'static [u8],
    path: &[u8],
    mounts: &[Mount],
) -> Result<Hierarchy, Error> {
    let mut unreached = None;
    if let Some(hierarchy) = parse_line(line, mounts) {
        let top = hierarchy.below(path).map(|_| cstring(hierarchy.point));
        match top.map(|top| file::check_hierarchy(cx, &top)) {
            Some(Ok(())) => return Ok(hierarchy),
            other => unreached = other.and_then(Result::err),
        }
    }
    let (controllers, own) = fields(line).unwrap_or_default();
    // Away from the numbers that a command line may name, and open to the end of the step: its number is in the path.
    const LOWEST: libc::c_int = 10;
    let mount = mount::detached(cx, controllers, mounts).map_err(|e| match unreached {
        // It is mounted here, but that mount cannot be used. (A user does not need one for the root of a hierarchy.)
        Some(unreached) if e.is(Errno::EPERM) && path != b"/" => unreached,
        _ => e,
    })?;
    let mount = cx.hold_until_next_step(sys::fcntl_dupfd(cx, mount.as_fd(), LOWEST)?);
    let mut point = String::new();
    signed("/proc/self/fd/", mount.into(), &mut point);
    let id = text::pair(line, b':').unwrap_or_default().0;
    Ok(Hierarchy {
        id,
        point: point.into_bytes().leak(),
        root: b"/",
        detached: true,
        v2: controllers.is_empty(),
        controllers,
        own: Some(own),
        others: Vec::new(),
    })
}

/// Bring together `/proc/self/cgroup` (a line `ID:CONTROLLERS:PATH` a hierarchy) and the mounts.
pub fn parse(own: &'static [u8], mounts: &[Mount]) -> Vec<Hierarchy> {
    let mut hierarchies = Vec::new();
    for line in text::lines(own) {
        hierarchies.extend(parse_line(line, mounts));
    }
    hierarchies
}

fn parse_line(line: &'static [u8], mounts: &[Mount]) -> Option<Hierarchy> {
    let (controllers, path) = fields(line)?;
    let v2 = controllers.is_empty();
    let fstype: &[u8] = if v2 { b"cgroup2" } else { b"cgroup" };
    let is_of = |mount: &&Mount| {
        let has = |name| text::has(mount.super_options, b',', name);
        mount.fstype == fstype && names(controllers).all(has)
    };
    let places = || mounts.iter().filter(is_of);
    let mount = places().min_by_key(|mount| mount.root.len())?;
    let others = places().filter(|other| other.id != mount.id).map(|other| other.point);
    let mut hierarchy = Hierarchy {
        id: text::pair(line, b':')?.0,
        point: mount.point,
        others: others.collect(),
        root: mount.root,
        detached: false,
        v2,
        controllers,
        own: None,
    };
    hierarchy.own = hierarchy.below(path);
    Some(hierarchy)
}

/// The hierarchy in which a cgroup is made whatever limits are asked: version 2; where there is none,
/// the one of the freezer, which can stop all processes of a cgroup at once; else the first.
pub fn primary(hierarchies: &[Hierarchy]) -> Option<&Hierarchy> {
    let has = |controller| hierarchies.iter().find(|h| h.has(controller));
    let v2 = hierarchies.iter().find(|h| h.v2);
    v2.or_else(|| has(b"freezer")).or_else(|| has(b"pids")).or(hierarchies.first())
}

/// Where a controller is: in the version 1 hierarchy that has it, else in version 2, which may not
/// have it either: that is seen when it is turned on. `cgroup` stands for the core files of version 2.
pub fn of_controller<'a>(hierarchies: &'a [Hierarchy], name: &[u8]) -> Option<&'a Hierarchy> {
    let v1 = hierarchies.iter().find(|h| h.has(name));
    v1.or_else(|| hierarchies.iter().find(|h| h.v2))
}

impl Hierarchy {
    /// Are they one? Both are members of one list: the same one is at the same place.
    pub fn is(&self, other: &Hierarchy) -> bool {
        std::ptr::eq(self, other)
    }

    /// A path of `/proc/PID/cgroup` as it is seen from `point`. `None`: it lies outside what is mounted.
    pub fn below<'a>(&self, path: &'a [u8]) -> Option<&'a [u8]> {
        let below = match self.root {
            b"/" => Some(path),
            root => {
                path.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with(b"/"))
            }
        };
        // `/..` leads out of the root of our cgroup namespace.
        below.filter(|path| !path.starts_with(b"/.."))
    }

    /// The cgroup of which this is the directory, as `/proc/PID/cgroup` shows it to us.
    pub fn path(&self, directory: &CStr) -> Vec<u8> {
        let root = self.root.strip_suffix(b"/").unwrap_or(self.root);
        let below = directory.to_bytes().strip_prefix(self.point).unwrap_or_default();
        [root, below].concat()
    }

    /// Does a dry run only assume the mount?
    pub fn is_assumed(&self, cx: &Cx) -> bool {
        cx.dry() && self.detached
    }

    /// Is this the version 1 hierarchy of `controller`, which is named as on version 2?
    pub fn has(&self, controller: &[u8]) -> bool {
        text::has(self.controllers, b',', name_on_v1(controller))
    }

    /// Does this hierarchy of version 1 have a controller that is passed down to users?
    pub fn is_delegated(&self) -> bool {
        CONTROLLERS.iter().any(|controller| self.has(controller))
    }

    /// The directories from the mount point down to the cgroup `name`, each by its path, and how many
    /// of them are there whatever happens. `/a/b` is named from the mount point, `a/b` from the
    /// caller's own cgroup. `None`: that one lies outside what is mounted.
    pub fn levels(&self, name: &[u8]) -> Option<(Vec<CString>, usize)> {
        let own = if name.starts_with(b"/") { b"" } else { self.own? };
        let mut levels = vec![cstring(self.point)];
        let mut there = 0;
        for path in [own, name] {
            there = if path == name { levels.len() } else { there };
            for part in text::split(path, b'/') {
                if !part.is_empty() {
                    levels.push(join(levels.last()?, part));
                }
            }
        }
        Some((levels, there))
    }

    /// The file that a process of version 2 must be able to write to, in order to go to the cgroup `name`,
    /// beside that one's own: cgroup.procs of the nearest cgroup that holds both it and the caller's.
    pub fn common_procs(&self, name: &[u8]) -> CString {
        let parts = |name| self.levels(name).map_or(Vec::new(), |(levels, _)| levels);
        let (own, there) = (parts(b""), parts(name));
        let both = own.iter().zip(&there).take_while(|(a, b)| a == b).last();
        both.map_or(CString::default(), |(common, _)| join(common, b"cgroup.procs"))
    }

    /// The directory of the cgroup `name`, as in [`Hierarchy::levels`].
    pub fn directory(&self, name: &[u8]) -> Option<CString> {
        self.levels(name)?.0.pop()
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    macro_rules! machine {
        ($name:literal) => {
            $crate::cgroup::hierarchies::parse(
                include_bytes!(concat!("../../tests/fixtures/", $name, ".cgroup")),
                &$crate::root::mountinfo::parse(include_bytes!(concat!(
                    "../../tests/fixtures/",
                    $name,
                    ".mountinfo"
                ))),
            )
        };
    }
    pub(in crate::cgroup) use machine;

    /// Where a controller is, and there the cgroup of this name.
    fn place(machine: &[Hierarchy], controller: &[u8], name: &str) -> Option<String> {
        let hierarchy = of_controller(machine, controller)?;
        hierarchy.directory(name.as_bytes()).map(|path| path.into_string().expect("plain"))
    }

    fn primary_point(machine: &[Hierarchy]) -> &[u8] {
        primary(machine).expect("one").point
    }

    #[test]
    fn version_2_alone_has_every_controller_in_one_tree() {
        let machine = machine!("v2");
        assert_eq!(machine.len(), 1);
        assert_eq!(primary_point(&machine), b"/sys/fs/cgroup");
        for controller in [b"memory".as_slice(), b"pids", b"cgroup"] {
            let at = place(&machine, controller, "/td/x");
            assert_eq!(at.as_deref(), Some("/sys/fs/cgroup/td/x"));
        }
        let own = "/sys/fs/cgroup/user.slice/user-1000.slice/session-3.scope/x";
        assert_eq!(place(&machine, b"cpu", "x").as_deref(), Some(own));
        let (levels, there) = machine[0].levels(b"x/y").expect("levels");
        assert_eq!((levels.len(), there), (6, 4), "{levels:?}");
    }

    #[test]
    fn version_1_alone_has_a_tree_for_each_and_the_freezers_is_primary() {
        let machine = machine!("v1");
        assert_eq!(machine.len(), 12);
        assert_eq!(primary_point(&machine), b"/sys/fs/cgroup/freezer");
        let shared = Some("/sys/fs/cgroup/cpu,cpuacct/td/x".into());
        assert_eq!(place(&machine, b"cpu", "/td/x"), shared);
        assert_eq!(place(&machine, b"cpuacct", "/td/x"), shared);
        let own = "/sys/fs/cgroup/memory/system.slice/ssh.service/x";
        assert_eq!(place(&machine, b"memory", "x").as_deref(), Some(own));
        assert_eq!(place(&machine, b"cgroup", "/x"), None);
        assert_eq!(place(&machine, b"misc", "/x"), None);
    }

    #[test]
    fn a_hybrid_machine_has_both() {
        let machine = machine!("hybrid");
        assert_eq!(primary_point(&machine), b"/sys/fs/cgroup/unified");
        let at = |controller, name| place(&machine, controller, name);
        assert_eq!(at(b"pids", "/td").as_deref(), Some("/sys/fs/cgroup/pids/td"));
        assert_eq!(at(b"hugetlb", "/td").as_deref(), Some("/sys/fs/cgroup/unified/td"));
        assert_eq!(at(b"pids", "x").as_deref(), Some("/sys/fs/cgroup/pids/build/x"));
        // Only a part of this one is mounted.
        assert_eq!(at(b"memory", "x").as_deref(), Some("/sys/fs/cgroup/memory/17/x"));
    }

    #[test]
    fn a_cgroup_outside_what_is_mounted_has_no_place() {
        let mounts = mountinfo::parse(b"35 31 0:32 /a /cg rw - cgroup cgroup rw,memory\n");
        for own in [&b"4:memory:/ab"[..], b"4:memory:/b", b"4:memory:/../a"] {
            let machine = parse(own, &mounts);
            assert_eq!(machine[0].own, None);
            assert_eq!((place(&machine, b"memory", "x"), machine[0].levels(b"")), (None, None));
        }
        let machine = parse(b"4:memory:/a", &mounts);
        assert_eq!(place(&machine, b"memory", "x").as_deref(), Some("/cg/x"));
    }
}
