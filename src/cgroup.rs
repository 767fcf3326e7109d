//! cgroups, version 1, 2 and hybrid: where a controller lives, and where a cgroup lies in each
//! hierarchy: cgroups(7).
//!
//! On a hybrid machine one name stands for several directories, one in each hierarchy that has it.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, IntoRawFd};

use syscalls::Errno;

use crate::root::mounts::{self, Mount};
use crate::say::error::Error;
use crate::say::show::{ascii, plain, signed};
use crate::say::text;
use crate::sys::proc;
use crate::sys::{self, Cx, cstring};

pub mod asked;
pub mod causes;
pub mod controllers;
pub mod cradle;
pub mod devices;
pub mod limits;
pub mod make;
pub mod mount;
pub mod oom;
pub mod record;
pub mod stat;
pub mod state;
pub mod tree;

/// A mounted hierarchy.
#[derive(Debug, Default)]
pub struct Hierarchy {
    /// Its number in `/proc/PID/cgroup`.
    pub id: Vec<u8>,
    /// Where it is mounted; of several places that where most of it is seen.
    pub point: Vec<u8>,
    /// The other places where it, or a part of it, is mounted.
    pub others: Vec<Vec<u8>>,
    /// Which of its cgroups is the root of what is seen there: a path of `/proc/PID/cgroup`.
    pub root: Vec<u8>,
    /// Is it mounted by us, and attached nowhere? Then `point` is its descriptor in `/proc/self/fd`.
    pub detached: bool,
    /// Version 2, the unified one?
    pub v2: bool,
    /// Version 1: its controllers, or `name=…`. Version 2 says them in `cgroup.controllers`.
    pub controllers: Vec<Vec<u8>>,
    /// The caller's own cgroup in it, as seen from `point`. `None`: it lies outside what is mounted.
    pub own: Option<Vec<u8>>,
}

/// What makes a container without cgroups.
pub const DISABLED: &str = "td-run --cgroups disabled creates none";

/// The caller's own cgroup in each hierarchy: `/proc/self/cgroup`.
fn own(cx: &Cx) -> Result<Vec<u8>, Error> {
    sys::read_file(cx, None, c"/proc/self/cgroup").map_err(|e| {
        proc::why_missing(cx, "cgroups are found through /proc, which must be mounted", e)
    })
}

/// The hierarchies that this process can reach, from `/proc/self/cgroup` and mountinfo.
pub fn hierarchies(cx: &Cx) -> Result<Vec<Hierarchy>, Error> {
    let hierarchies = parse(&own(cx)?, &mounts::list(cx, c"/proc/self/mountinfo")?);
    if hierarchies.is_empty() {
        return Err(Error::refusal("no cgroup hierarchy is mounted here")
            .way_out("mount -t cgroup2 cgroup2 /sys/fs/cgroup"));
    }
    Ok(hierarchies)
}

/// Every hierarchy, also one that is not mounted here: that is mounted, but attached nowhere. Version 2 is among them
/// where nobody has mounted it yet, since a container with a user namespace could.
pub fn every(cx: &Cx) -> Result<Vec<Hierarchy>, Error> {
    let mut own = own(cx).map_err(|e| e.way_out(DISABLED))?;
    if !text::lines(&own).any(|line| fields(line).is_some_and(|(names, _)| names.is_empty())) {
        own.extend(b"0::/\n");
    }
    let mounts = mounts::list(cx, c"/proc/self/mountinfo")?;
    let mut hierarchies = Vec::new();
    for line in text::lines(&own) {
        let Some((controllers, path)) = fields(line) else { continue };
        if path.starts_with(b"/..") {
            let line = plain(line);
            return Err(Error::refusal(format_args!(
                "{line}: this cgroup leads above the root of this cgroup namespace"
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
fn reach(cx: &Cx, line: &[u8], path: &[u8], mounts: &[Mount]) -> Result<Hierarchy, Error> {
    let mut unreached = None;
    if let Some(hierarchy) = parse_line(line, mounts) {
        let top = hierarchy.below(path).map(|_| cstring(&hierarchy.point[..]));
        match top.map(|top| make::check(cx, &top)) {
            Some(Ok(())) => return Ok(hierarchy),
            other => unreached = other.and_then(Result::err),
        }
    }
    let (controllers, own) = fields(line).unwrap_or_default();
    // Away from the numbers that a command line may name, and open to the end: its number is in the path.
    const LOWEST: libc::c_int = 10;
    let mount = mount::detached(cx, &controllers, mounts).map_err(|e| match unreached {
        // It is mounted here, and that mount cannot be used. (Of a hierarchy's root a user needs none.)
        Some(unreached) if e.is(Errno::EPERM) && path != b"/" => unreached,
        _ => e,
    })?;
    let mount = sys::fcntl_dupfd(cx, mount.as_fd(), LOWEST)?.into_raw_fd();
    let mut point = String::new();
    signed("/proc/self/fd/", mount.into(), &mut point);
    let id = text::pair(line, b':').unwrap_or_default().0;
    Ok(Hierarchy {
        id: id.to_vec(),
        point: point.into_bytes(),
        root: b"/".to_vec(),
        detached: true,
        v2: controllers.is_empty(),
        controllers: controllers.iter().map(|name| name.to_vec()).collect(),
        own: Some(own.to_vec()),
        others: Vec::new(),
    })
}

/// Bring together `/proc/self/cgroup` (a line `ID:CONTROLLERS:PATH` a hierarchy) and the mounts.
pub fn parse(own: &[u8], mounts: &[Mount]) -> Vec<Hierarchy> {
    let mut hierarchies = Vec::new();
    for line in text::lines(own) {
        hierarchies.extend(parse_line(line, mounts));
    }
    hierarchies
}

/// The controllers of a line of `/proc/self/cgroup`, none for version 2, and the path.
fn fields(line: &[u8]) -> Option<(Vec<&[u8]>, &[u8])> {
    let (controllers, path) = text::pair(text::pair(line, b':')?.1, b':')?;
    let names =
        if controllers.is_empty() { Vec::new() } else { text::split(controllers, b',').collect() };
    Some((names, path))
}

fn parse_line(line: &[u8], mounts: &[Mount]) -> Option<Hierarchy> {
    let (controllers, path) = fields(line)?;
    let v2 = controllers.is_empty();
    let fstype: &[u8] = if v2 { b"cgroup2" } else { b"cgroup" };
    let is_of = |mount: &&Mount| {
        let has = |c: &&[u8]| text::has(&mount.super_options, b',', c);
        mount.fstype == fstype && controllers.iter().all(has)
    };
    let places: Vec<&Mount> = mounts.iter().filter(is_of).collect();
    let mount = *places.iter().min_by_key(|mount| mount.root.len())?;
    let mut others = Vec::new();
    for other in places {
        if other.id != mount.id {
            others.push(other.point.clone());
        }
    }
    let mut hierarchy = Hierarchy {
        id: text::pair(line, b':')?.0.to_vec(),
        point: mount.point.clone(),
        others,
        root: mount.root.clone(),
        detached: false,
        v2,
        controllers: controllers.iter().map(|name| name.to_vec()).collect(),
        own: None,
    };
    hierarchy.own = hierarchy.below(path).map(<[u8]>::to_vec);
    Some(hierarchy)
}

/// The hierarchy in which a cgroup is made whatever limits are asked: version 2; where there is none,
/// the one of the freezer, which can stop all processes of a cgroup at once; else the first.
pub fn home(hierarchies: &[Hierarchy]) -> Option<&Hierarchy> {
    let has = |controller| hierarchies.iter().find(|h| h.has(controller));
    let v2 = hierarchies.iter().find(|h| h.v2);
    v2.or_else(|| has(b"freezer")).or_else(|| has(b"pids")).or(hierarchies.first())
}

/// Where a controller lives: in the version 1 hierarchy that has it, else in version 2, which may not
/// have it either: that is seen when it is turned on. `cgroup` stands for the core files of version 2.
pub fn of_controller<'a>(hierarchies: &'a [Hierarchy], name: &[u8]) -> Option<&'a Hierarchy> {
    let v1 = hierarchies.iter().find(|h| h.has(name));
    v1.or_else(|| hierarchies.iter().find(|h| h.v2))
}

/// Is this controller bound to a version 1 hierarchy, mounted or not?
pub fn bound_to_v1(cx: &Cx, controller: &[u8]) -> Result<bool, Error> {
    let own = own(cx)?;
    let has = |line: &[u8]| {
        fields(line).is_some_and(|(names, _)| names.contains(&name_on_v1(controller)))
    };
    Ok(text::lines(&own).any(has))
}

/// The controller of input and output has another name on version 1.
fn name_on_v1(controller: &[u8]) -> &[u8] {
    if controller == b"io" { b"blkio" } else { controller }
}

/// A path, put together.
pub fn join(directory: &CStr, name: &[u8]) -> CString {
    let path = [directory.to_bytes(), name].join(&b'/');
    // Neither came with a zero byte inside: the one is a string already, the other a part of one.
    cstring(path)
}

/// What a file of a cgroup says, as text. `None`: it has no such file.
pub fn read_word(cx: &Cx, cgroup: &CStr, file: &[u8]) -> Result<Option<String>, Error> {
    match sys::read_file(cx, None, &join(cgroup, file)) {
        Err(e) if tree::is_gone(&e) => Ok(None),
        other => other.map(|text| Some(ascii(text.trim_ascii()))),
    }
}

/// The same for a message, which says nothing of a file that it cannot read. `None`: it has none, or that.
pub fn shown_word(cx: &Cx, cgroup: &CStr, file: &[u8]) -> Option<String> {
    read_word(cx, cgroup, file).ok().flatten()
}

impl Hierarchy {
    /// Are they one? Both are members of one list: the same one is at the same place.
    pub fn is(&self, other: &Hierarchy) -> bool {
        std::ptr::eq(self, other)
    }

    /// A path of `/proc/PID/cgroup` as it is seen from `point`. `None`: it lies outside what is mounted.
    fn below<'a>(&self, path: &'a [u8]) -> Option<&'a [u8]> {
        let below = match self.root.as_slice() {
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
        let root = self.root.strip_suffix(b"/").unwrap_or(&self.root);
        let below = directory.to_bytes().strip_prefix(self.point.as_slice()).unwrap_or_default();
        [root, below].concat()
    }

    /// Does a dry run only imagine the mount?
    pub fn is_imagined(&self, cx: &Cx) -> bool {
        cx.dry() && self.detached
    }

    /// Is this the version 1 hierarchy of `controller`, which is named as on version 2?
    pub fn has(&self, controller: &[u8]) -> bool {
        self.controllers.iter().any(|c| c == name_on_v1(controller))
    }

    /// Does this hierarchy of version 1 have a controller that is passed down to users?
    pub fn is_delegated(&self) -> bool {
        limits::CONTROLLERS.iter().any(|controller| self.has(controller))
    }

    /// The directories from the mount point down to the cgroup `name`, each by its path, and how many
    /// of them are there whatever happens. `/a/b` is named from the mount point, `a/b` from the
    /// caller's own cgroup. `None`: that one lies outside what is mounted.
    pub fn levels(&self, name: &[u8]) -> Option<(Vec<CString>, usize)> {
        let own = if name.starts_with(b"/") { b"" } else { self.own.as_deref()? };
        let mut levels = vec![CString::new(self.point.clone()).ok()?];
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

/// The name of a cgroup from what the user typed. A path of the file system, below the mount point of
/// a hierarchy, is understood as what it means there; another below `/sys/fs/cgroup` is refused, and
/// so is what does not name one cgroup: `/`, and a part that is empty, `.` or `..`.
pub fn name(hierarchies: &[Hierarchy], typed: &CStr) -> Result<Vec<u8>, Error> {
    let shown = plain(typed.to_bytes());
    let typed = typed.to_bytes();
    let typed = typed.strip_suffix(b"/").unwrap_or(typed);
    let below = |point: &[u8]| {
        typed.strip_prefix(point).filter(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    // One mount point may lie below another.
    let nearest = hierarchies.iter().filter_map(|h| below(&h.point)).min_by_key(|rest| rest.len());
    let part = hierarchies.iter().find(|h| h.others.iter().any(|p| below(p).is_some()));
    let name = match (nearest, part) {
        (Some(name), _) => name,
        (None, Some(h)) => {
            let point = plain(&h.point);
            return Err(Error::refusal(format_args!("{shown}: a second mount of this hierarchy"))
                .way_out(format_args!("name the cgroup from its first, {point}: /td/NAME")));
        }
        (None, None) if below(b"/sys/fs/cgroup").is_some() => {
            return Err(Error::refusal(format_args!(
                "{shown}: no cgroup hierarchy is mounted there"
            ))
            .way_out("name a cgroup from the root of its hierarchy: /td/NAME"));
        }
        (None, None) => typed,
    };
    let mut parts = text::split(name.strip_prefix(b"/").unwrap_or(name), b'/');
    if parts.any(|part| matches!(part, b"" | b"." | b"..")) {
        return Err(Error::refusal(format_args!(
            "{shown}: this does not name one cgroup below the root"
        )));
    }
    Ok(name.to_vec())
}

/// No hierarchy has the cgroup that the user typed.
pub fn none(typed: &CStr) -> Error {
    let typed = plain(typed.to_bytes());
    Error::refusal(format_args!("{typed}: no hierarchy has such a cgroup"))
        .way_out(format_args!("td-cgroup {typed} makes it"))
}

/// A cgroup that is there, in one of the hierarchies.
pub struct Place<'a> {
    pub hierarchy: &'a Hierarchy,
    pub directory: CString,
}

/// The cgroup `name` in each hierarchy that has it, version 2 first.
pub fn places<'a>(
    cx: &Cx,
    hierarchies: &'a [Hierarchy],
    name: &[u8],
) -> Result<Vec<Place<'a>>, Error> {
    let mut places = Vec::new();
    for hierarchy in hierarchies {
        if let Some(directory) = hierarchy.directory(name) {
            add_place(cx, &mut places, hierarchy, directory)?;
        }
    }
    Ok(places)
}

/// Add a cgroup, if it exists.
fn add_place<'a>(
    cx: &Cx,
    places: &mut Vec<Place<'a>>,
    hierarchy: &'a Hierarchy,
    directory: CString,
) -> Result<(), Error> {
    match make::check(cx, &directory) {
        Err(e) if e.is(Errno::ENOENT) => return Ok(()), // not a cgroup of this hierarchy
        other => other?,
    }
    let end = if hierarchy.v2 { 0 } else { places.len() };
    places.insert(end, Place { hierarchy, directory });
    Ok(())
}

/// Their directories.
pub fn directories(places: &[Place]) -> Vec<CString> {
    places.iter().map(|place| place.directory.clone()).collect()
}

/// The same of what was typed, which at least one must have.
pub fn existing<'a>(
    cx: &Cx,
    hierarchies: &'a [Hierarchy],
    typed: &CStr,
) -> Result<Vec<Place<'a>>, Error> {
    let places = places(cx, hierarchies, &name(hierarchies, typed)?)?;
    if places.is_empty() { Err(none(typed)) } else { Ok(places) }
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! machine {
        ($name:literal) => {
            parse(
                include_bytes!(concat!("../tests/fixtures/", $name, ".cgroup")),
                &mounts::parse(include_bytes!(concat!("../tests/fixtures/", $name, ".mountinfo"))),
            )
        };
    }

    /// Where a controller lives, and there the cgroup that was typed.
    fn place(machine: &[Hierarchy], controller: &[u8], typed: &CStr) -> Option<String> {
        let name = name(machine, typed).expect("a name");
        let hierarchy = of_controller(machine, controller)?;
        hierarchy.directory(&name).map(|path| path.into_string().expect("plain"))
    }

    fn home_point(machine: &[Hierarchy]) -> &[u8] {
        &home(machine).expect("a home").point
    }

    #[test]
    fn version_2_alone_has_every_controller_in_one_tree() {
        let machine = machine!("v2");
        assert_eq!(machine.len(), 1);
        assert_eq!(home_point(&machine), b"/sys/fs/cgroup");
        for controller in [b"memory".as_slice(), b"pids", b"cgroup"] {
            let at = place(&machine, controller, c"/td/x");
            assert_eq!(at.as_deref(), Some("/sys/fs/cgroup/td/x"));
        }
        let own = "/sys/fs/cgroup/user.slice/user-1000.slice/session-3.scope/x";
        assert_eq!(place(&machine, b"cpu", c"x").as_deref(), Some(own));
        let (levels, there) = machine[0].levels(b"x/y").expect("levels");
        assert_eq!((levels.len(), there), (6, 4), "{levels:?}");
    }

    #[test]
    fn version_1_alone_has_a_tree_for_each_and_the_freezer_is_home() {
        let machine = machine!("v1");
        assert_eq!(machine.len(), 12);
        assert_eq!(home_point(&machine), b"/sys/fs/cgroup/freezer");
        let shared = Some("/sys/fs/cgroup/cpu,cpuacct/td/x".into());
        assert_eq!(place(&machine, b"cpu", c"/td/x"), shared);
        assert_eq!(place(&machine, b"cpuacct", c"/td/x"), shared);
        let own = "/sys/fs/cgroup/memory/system.slice/ssh.service/x";
        assert_eq!(place(&machine, b"memory", c"x").as_deref(), Some(own));
        assert_eq!(place(&machine, b"cgroup", c"/x"), None);
        assert_eq!(place(&machine, b"misc", c"/x"), None);
    }

    #[test]
    fn a_hybrid_machine_has_both() {
        let machine = machine!("hybrid");
        assert_eq!(home_point(&machine), b"/sys/fs/cgroup/unified");
        let at = |controller, typed| place(&machine, controller, typed);
        assert_eq!(at(b"pids", c"/td").as_deref(), Some("/sys/fs/cgroup/pids/td"));
        assert_eq!(at(b"hugetlb", c"/td").as_deref(), Some("/sys/fs/cgroup/unified/td"));
        assert_eq!(at(b"pids", c"x").as_deref(), Some("/sys/fs/cgroup/pids/build/x"));
        // Only a part of this one is mounted.
        assert_eq!(at(b"memory", c"x").as_deref(), Some("/sys/fs/cgroup/memory/17/x"));
    }

    #[test]
    fn a_cgroup_outside_what_is_mounted_has_no_place() {
        let mounts = mounts::parse(b"35 31 0:32 /a /cg rw - cgroup cgroup rw,memory\n");
        for own in [&b"4:memory:/ab"[..], b"4:memory:/b", b"4:memory:/../a"] {
            let machine = parse(own, &mounts);
            assert_eq!(machine[0].own, None);
            assert_eq!((place(&machine, b"memory", c"x"), machine[0].levels(b"")), (None, None));
        }
        let machine = parse(b"4:memory:/a", &mounts);
        assert_eq!(place(&machine, b"memory", c"x").as_deref(), Some("/cg/x"));
    }

    #[test]
    fn a_path_of_the_file_system_is_understood_or_refused_and_never_nested() {
        let (v2, hybrid) = (machine!("v2"), machine!("hybrid"));
        let understood = |machine: &[Hierarchy], typed| name(machine, typed).ok();
        for typed in [c"/td/x", c"/td/x/", c"/sys/fs/cgroup/td/x"] {
            assert_eq!(understood(&v2, typed).as_deref(), Some(&b"/td/x"[..]), "{typed:?}");
        }
        for typed in [c"/sys/fs/cgroup/pids/td/x", c"/sys/fs/cgroup/unified/td/x"] {
            assert_eq!(understood(&hybrid, typed).as_deref(), Some(&b"/td/x"[..]), "{typed:?}");
        }
        for typed in [
            c"/sys/fs/cgroup",
            c"/sys/fs/cgroup/",
            c"/sys/fs/cgroup/td/x",
            c"/sys/fs/cgroup/pids",
            c"/mnt/pids/x",
            c"",
            c"/",
            c"a//b",
            c"./a",
            c"/a/../b",
        ] {
            assert_eq!(understood(&hybrid, typed), None, "{typed:?}");
        }
        assert_eq!(understood(&v2, c"/sys/fs/cgroup"), None);
        // Only a whole part of a path counts.
        assert_eq!(understood(&v2, c"/sys/fs/cgroups").as_deref(), Some(&b"/sys/fs/cgroups"[..]));
    }
}
