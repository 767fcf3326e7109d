//! Making a cgroup and setting its limits so that a failure leaves nothing behind: what was made is
//! removed, what was changed gets its value back, who moved goes back.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use syscalls::Errno;

use crate::cgroup::controllers::{Moved, why_on_v1};
use crate::cgroup::limits::{self, Asked};
use crate::cgroup::stat::sum;
use crate::cgroup::tree::parent;
use crate::cgroup::{self, Hierarchy, devices, join};
use crate::error::Error;
use crate::number::decimal;
use crate::show::{ascii, octal, plain, signed, unsigned};
use crate::sys::{self, Cx};
use crate::text;

/// What this process has made so far, and how it was before.
#[derive(Default)]
pub struct Made {
    /// The cgroup to which processes go that are in the way of controllers, if they may be moved at all.
    pub(super) move_to_leaf: Option<CString>,
    /// Directories that were not there.
    directories: Vec<CString>,
    /// Files of a cgroup that was there, and what they held.
    values: Vec<(CString, Vec<u8>)>,
    /// What was given away, and whose it was.
    owners: Vec<(CString, u32, u32)>,
    /// The files by which this process moves back to where it came from.
    back: Vec<CString>,
    /// The controllers that are on by now, each with its level: one of several limits need not look again.
    pub(super) turned_on: Vec<CString>,
    /// The levels of version 2 whose processes were moved to a leaf.
    pub(super) moved: Vec<Moved>,
}

/// A value for a file of a cgroup.
pub struct Write<'a> {
    /// Where.
    pub hierarchy: &'a Hierarchy,
    /// The controller, which on version 2 must be turned on first. `cgroup`: none.
    pub controller: &'a [u8],
    /// The file.
    pub file: &'a [u8],
    /// What is written.
    pub value: Vec<u8>,
    /// By which option; `None` for one that is written as it is.
    pub asked: Option<&'static Asked>,
    /// The file in which it is seen what the kernel took; empty: it is not looked at.
    pub taken: &'a [u8],
}

impl Made {
    /// Nothing yet. `move_to_leaf`: see there.
    pub fn new(move_to_leaf: Option<CString>) -> Made {
        Made { move_to_leaf, ..Made::default() }
    }

    /// Make the cgroup `name` in a hierarchy, or use what is there of it, and write to its files.
    pub fn make(
        &mut self,
        cx: &Cx,
        hierarchy: &Hierarchy,
        name: &[u8],
        writes: &[Write],
    ) -> Result<(), Error> {
        let Some((levels, there)) = hierarchy.levels(name) else {
            let point = plain(&hierarchy.point);
            let what = ["this process is in no cgroup that ", &point, " shows"].concat();
            return Err(Error::refusal(what)
                .way_out("name the cgroup from the root of its hierarchy: /td/NAME"));
        };
        let Some((cgroup, above)) = levels.split_last() else { return Ok(()) };
        let writes: Vec<_> = writes.iter().filter(|write| write.hierarchy == hierarchy).collect();
        check(cx, levels.first().unwrap_or(cgroup))?;
        for (i, level) in levels.iter().enumerate().skip(there) {
            if self.directories.contains(level) {
                continue;
            }
            self.directory(cx, level)?;
            if hierarchy.has(b"cpuset") {
                fill_cpuset(cx, level, levels.get(..i).unwrap_or_default())?;
            }
        }
        if hierarchy.v2 {
            for write in writes.iter().filter(|write| write.controller != b"cgroup") {
                self.turn_on(cx, above, write.controller)?;
            }
        }
        self.write_all(cx, cgroup, &writes)
    }

    fn directory(&mut self, cx: &Cx, directory: &CStr) -> Result<(), Error> {
        match sys::mkdirat(cx, None, directory, 0o755) {
            Ok(()) => self.directories.push(directory.into()),
            Err(e) if e.is(Errno::EEXIST) => check(cx, directory)?, // it is used as it is
            Err(e) => return Err(why_no_directory(cx, directory, e)),
        }
        Ok(())
    }

    /// Give the cgroup `name` of a hierarchy to a user, who may then make others below it and move
    /// processes there, but not change its limits: cgroups(7), "Cgroups delegation".
    pub fn give(
        &mut self,
        cx: &Cx,
        hierarchy: &Hierarchy,
        name: &[u8],
        user: Option<(u32, u32)>,
    ) -> Result<(), Error> {
        let Some((uid, gid)) = user else { return Ok(()) };
        let cgroup = hierarchy.directory(name).unwrap_or_default();
        let files: &[&[u8]] = match hierarchy.v2 {
            true => &[b"cgroup.procs", b"cgroup.threads", b"cgroup.subtree_control"],
            false => &[b"cgroup.procs", b"tasks"],
        };
        // The directory last: until then the user can do nothing.
        for path in files.iter().map(|file| join(&cgroup, file)).chain([cgroup.clone()]) {
            if !cx.dry() {
                let old = sys::statx(cx, None, &path, libc::AT_SYMLINK_NOFOLLOW)?;
                self.owners.push((path.clone(), old.uid, old.gid));
            }
            sys::fchownat(cx, None, &path, uid, gid).map_err(|e| why_not_given(cx, e))?;
        }
        Ok(())
    }

    /// Write each value. Version 1 wants memory.limit_in_bytes never above memory.memsw.limit_in_bytes:
    /// both are lowered in this order, and raised in the other.
    fn write_all(&mut self, cx: &Cx, cgroup: &CStr, writes: &[&Write]) -> Result<(), Error> {
        let mut left = writes;
        while let Some((first, rest)) = left.split_first() {
            left = rest;
            match (self.write(cx, cgroup, first), rest.split_first()) {
                (Err(e), Some((second, rest)))
                    if e.is(Errno::EINVAL) && second.file == b"memory.memsw.limit_in_bytes" =>
                {
                    self.write(cx, cgroup, second)?;
                    self.write(cx, cgroup, first)?;
                    left = rest;
                }
                (result, _) => result?,
            }
        }
        Ok(())
    }

    fn write(&mut self, cx: &Cx, cgroup: &CStr, write: &Write) -> Result<(), Error> {
        let path = join(cgroup, write.file);
        let reused = !cx.dry() && !self.directories.iter().any(|made| made.as_c_str() == cgroup);
        let mut old = None;
        if reused && write.asked.is_some() {
            let read = sys::read_file(cx, None, &path);
            let read = read.map_err(|e| why_no_file(cx, cgroup, write, e))?;
            old = Some(devices::to_write_back(write.file, &write.value, read));
            compare_with_use(cx, cgroup, write)?;
        }
        let file = open(cx, &path).map_err(|e| why_no_file(cx, cgroup, write, e))?;
        sys::write(cx, file.as_fd(), &write.value)
            .map_err(|e| why_no_value(cx, cgroup, write, named(&file, &path, e)))?;
        if cx.dry() {
            return Ok(());
        }
        self.values.extend(old.map(|old| (path, old)));
        read_back(cx, cgroup, write)
    }

    /// Move this process into the cgroup `name` of every hierarchy that has it. `made`: this one was
    /// made now, also where a dry run did not.
    pub fn move_in(
        &mut self,
        cx: &Cx,
        hierarchies: &[Hierarchy],
        name: &[u8],
        made: impl Fn(&Hierarchy) -> bool,
    ) -> Result<(), Error> {
        for hierarchy in hierarchies {
            let (Some(own), Some(there)) = (hierarchy.directory(b""), hierarchy.directory(name))
            else {
                continue;
            };
            let mut cradle = cgroup::cradle(cx, std::slice::from_ref(hierarchy), name, &made)?;
            let file: &[u8] = if hierarchy.v2 { b"cgroup.procs" } else { b"tasks" };
            if let Some(directory) = &cradle.v2 {
                let procs =
                    sys::openat(cx, Some(directory.as_fd()), c"cgroup.procs", libc::O_WRONLY)
                        .map_err(|e| why_refused(cx, &join(&there, file), e))?;
                cradle.tasks.push(procs);
            }
            // Where it was may pass controllers down by now.
            let moved = self.moved.iter().find(|moved| moved.level == own);
            let own = moved.map_or(&own, |moved| &moved.leaf);
            for file_to_enter in &cradle.tasks {
                sys::write(cx, file_to_enter.as_fd(), b"0")
                    .map_err(|e| why_not_moved(cx, hierarchy, name, e))?;
                self.back.push(join(own, file));
            }
        }
        Ok(())
    }

    /// Put everything back, the last first. What cannot be is said. Controllers that were turned on
    /// stay on: another cgroup may count on them by now.
    pub fn undo(&self, cx: &Cx) {
        let mut results = Vec::new();
        for file in self.back.iter().rev() {
            results.push(write_file(cx, file, b"0"));
        }
        for (path, uid, gid) in self.owners.iter().rev() {
            results.push(sys::fchownat(cx, None, path, *uid, *gid));
        }
        for (file, old) in self.values.iter().rev() {
            results.push(write_file(cx, file, old));
        }
        for directory in self.directories.iter().rev() {
            match sys::unlinkat(cx, None, directory, libc::AT_REMOVEDIR) {
                Err(e) if e.is(Errno::EBUSY) => {} // another has made a cgroup in it meanwhile
                other => results.push(other),
            }
        }
        self.undo_moved(cx, &mut results);
        for error in results.into_iter().filter_map(Result::err) {
            cx.say(&error);
        }
    }
}

/// A write(2) says which descriptor it was, and nothing of the file.
pub fn named(file: &OwnedFd, path: &CStr, error: Error) -> Error {
    let mut which = String::new();
    signed("", file.as_raw_fd().into(), &mut which);
    error.because(format_args!("{which} is {}", plain(path.to_bytes())))
}

/// Open a file of a cgroup for writing: a limit written to a plain file would limit nothing.
fn open(cx: &Cx, path: &CStr) -> Result<OwnedFd, Error> {
    let file = sys::openat(cx, None, path, libc::O_WRONLY)?;
    if !cx.dry() {
        check_type(cx, file.as_fd(), path)?;
    }
    Ok(file)
}

/// Write to a file of a cgroup.
pub fn write_file(cx: &Cx, path: &CStr, value: &[u8]) -> Result<(), Error> {
    let file = open(cx, path).map_err(|e| why_refused(cx, path, e))?;
    sys::write(cx, file.as_fd(), value).map(drop).map_err(|e| named(&file, path, e))
}

/// Is this a directory of a cgroup file system? Not where something else was mounted over it, and not
/// where a file of the kernel has the name.
pub fn check(cx: &Cx, directory: &CStr) -> Result<(), Error> {
    let opened = sys::openat(cx, None, directory, libc::O_PATH | libc::O_DIRECTORY);
    let opened = opened.map_err(|e| match e.is(Errno::ENOTDIR) {
        true => e.because(format_args!("{} is a file of the kernel", plain(directory.to_bytes()))),
        false => e,
    })?;
    check_type(cx, opened.as_fd(), directory)
}

fn check_type(cx: &Cx, file: BorrowedFd, path: &CStr) -> Result<(), Error> {
    let kind = sys::fstatfs(cx, file)?.f_type;
    if [libc::CGROUP_SUPER_MAGIC, libc::CGROUP2_SUPER_MAGIC].contains(&kind) {
        return Ok(());
    }
    let path = plain(path.to_bytes());
    Err(Error::refusal(format_args!("{path}: another file system lies over the cgroups here")))
}

/// Version 1: no process can be in a cpuset without processors or without memory nodes, and a new one
/// has none. It gets those of the nearest level above that has some.
fn fill_cpuset(cx: &Cx, level: &CStr, above: &[CString]) -> Result<(), Error> {
    for file in [b"cpuset.cpus".as_slice(), b"cpuset.mems"] {
        let read = |directory: &CStr| match sys::read_file(cx, None, &join(directory, file)) {
            Err(e) if cx.dry() && e.is(Errno::ENOENT) => Ok(Vec::new()), // not made
            other => other,
        };
        let mut value = read(level)?;
        if !value.trim_ascii().is_empty() {
            continue;
        }
        for directory in above.iter().rev() {
            value = read(directory)?;
            if !value.trim_ascii().is_empty() {
                break;
            }
        }
        write_file(cx, &join(level, file), value.trim_ascii())?;
    }
    Ok(())
}

/// Version 2 takes a limit below what is used, and then kills: better to refuse it.
fn compare_with_use(cx: &Cx, cgroup: &CStr, write: &Write) -> Result<(), Error> {
    if write.file != b"memory.max" {
        return Ok(());
    }
    let used = sys::read_file(cx, None, &join(cgroup, b"memory.current"))?;
    let used = used.trim_ascii();
    match (decimal(used), decimal(&write.value)) {
        (Some(now), Some(most)) if now > most => {
            let (cgroup, used, most) = (plain(cgroup.to_bytes()), ascii(used), ascii(&write.value));
            Err(Error::refusal(format_args!("{cgroup} uses {used} bytes, more than {most}"))
                .way_out("its processes would be killed; end them first, or take less away"))
        }
        _ => Ok(()),
    }
}

/// The kernel may take another value than was written, and not say so.
fn read_back(cx: &Cx, cgroup: &CStr, write: &Write) -> Result<(), Error> {
    let Some(asked) = write.asked.filter(|_| !write.taken.is_empty()) else { return Ok(()) };
    let read = |file| sys::read_file(cx, None, &join(cgroup, file));
    let taken = read(write.taken)?;
    // A list may be written in several ways: the kernel's own are compared.
    let written = if write.taken == write.file { write.value.clone() } else { read(write.file)? };
    let (taken, written) = (taken.trim_ascii(), written.trim_ascii());
    if limits::taken(write.taken, written, taken) {
        return Ok(());
    }
    let path = plain(join(cgroup, write.taken).to_bytes());
    let (taken, written) = (plain(taken), plain(written));
    Err(Error::refusal(format_args!("{path}: {written} was written, and it says {taken}"))
        .because(asked.takes()))
}

/// No hierarchy has this controller.
pub fn why_nowhere(cx: &Cx, controller: &[u8]) -> Error {
    let name = plain(controller);
    let error = Error::refusal(format_args!("{name}: no mounted hierarchy has this controller"));
    if controller == b"cgroup" {
        return error.because("files called cgroup.* are those of version 2, which is not mounted");
    }
    why_on_v1(cx, controller, error)
}

/// Why a file or directory may not be written to: whose is it?
pub fn why_refused(cx: &Cx, path: &CStr, error: Error) -> Error {
    let shown = plain(path.to_bytes());
    match error.errno() {
        Some(Errno::EROFS) => {
            error.because(format_args!("the cgroups at {shown} are mounted read-only"))
        }
        Some(Errno::EACCES | Errno::EPERM) => match sys::statx(cx, None, path, 0) {
            Ok(stat) => {
                let (owner, mode, we) = (stat.uid, stat.permissions(), cx.start.euid);
                let group = cx.start.egid;
                let mut delegate = String::from("as root: td-cgroup --delegate");
                unsigned(" ", we.into(), &mut delegate);
                unsigned(":", group.into(), &mut delegate);
                unsigned(" /td/u-", we.into(), &mut delegate);
                let mut why = shown;
                unsigned(" belongs to uid ", owner.into(), &mut why);
                octal(" (mode ", mode, &mut why);
                unsigned("), we are ", we.into(), &mut why);
                error.because(why).way_out(delegate)
            }
            Err(_) => error,
        },
        _ => error,
    }
}

/// Why a cgroup was not given away.
fn why_not_given(cx: &Cx, error: Error) -> Error {
    match (error.errno(), cx.start.euid) {
        (Some(Errno::EPERM), we @ 1..) => {
            let mut why = String::from("only root may give a cgroup away, we are uid");
            unsigned(" ", we.into(), &mut why);
            error.because(why)
        }
        _ => error,
    }
}

/// Why a cgroup was not made.
fn why_no_directory(cx: &Cx, directory: &CStr, error: Error) -> Error {
    let above = parent(directory);
    if !error.is(Errno::EAGAIN) {
        return why_refused(cx, &above, error);
    }
    // Some level above allows no more: look from below.
    let mut level = above;
    let mut depth = 1;
    while let Some(text) = read_word(cx, &level, b"cgroup.max.depth") {
        let shown = plain(level.to_bytes());
        if decimal(text.as_bytes()).is_some_and(|most| most < depth) {
            let what = "cgroup.max.depth allows";
            return error.because(format_args!("{shown}/{what} {text} levels below it"));
        }
        let most = read_word(cx, &level, b"cgroup.max.descendants").unwrap_or_default();
        let stat = sys::read_file(cx, None, &join(&level, b"cgroup.stat")).unwrap_or_default();
        let now = sum(&stat, b"nr_descendants");
        if decimal(most.as_bytes()).is_some_and(|most| now.is_some_and(|now| now >= most)) {
            let what = "cgroup.max.descendants allows";
            return error.because(format_args!("{shown}/{what} {most} below it"));
        }
        level = parent(&level);
        depth += 1;
    }
    error
}

/// What a file of a cgroup says, as text. `None`: it has no such file.
pub fn read_word(cx: &Cx, cgroup: &CStr, file: &[u8]) -> Option<String> {
    let text = sys::read_file(cx, None, &join(cgroup, file)).ok()?;
    Some(ascii(text.trim_ascii()))
}

/// Why the file of a limit was not opened.
fn why_no_file(cx: &Cx, cgroup: &CStr, write: &Write, error: Error) -> Error {
    if !error.is(Errno::ENOENT) {
        return why_refused(cx, &join(cgroup, write.file), error);
    }
    let controller = plain(write.controller);
    let on = read_word(cx, &parent(cgroup), b"cgroup.subtree_control");
    if write.asked.is_some() && write.controller == b"hugetlb" {
        let sizes = devices::alike(cx, cgroup, write.file);
        if !sizes.is_empty() {
            return error.because(format_args!("huge pages of this size are not here, but{sizes}"));
        }
    }
    error.because(match on {
        Some(on) if !text::has(on.as_bytes(), b' ', write.controller) => {
            let parent = plain(parent(cgroup).to_bytes());
            [&controller, " is not on in ", &parent, "/cgroup.subtree_control"].concat()
        }
        Some(_) => [&controller, " of this kernel's version 2 has no such file"].concat(),
        None => [&controller, " is on version 1 here, which has no such file"].concat(),
    })
}

/// Why a value was not accepted.
fn why_no_value(cx: &Cx, cgroup: &CStr, write: &Write, error: Error) -> Error {
    if error.is(Errno::EBUSY) && write.file.starts_with(b"memory.") {
        let used = read_word(cx, cgroup, b"memory.usage_in_bytes").unwrap_or_default();
        return error
            .because(format_args!("the cgroup uses {used} bytes, of which too few can be freed"));
    }
    if error.is(Errno::ENODEV) && write.controller == b"io" {
        return devices::why_no_device(cx, &write.value, error);
    }
    let refused = [Errno::EINVAL, Errno::ERANGE, Errno::EACCES].iter().any(|e| error.is(*e));
    let (true, Some(asked)) = (refused, write.asked) else { return error };
    let most = match write.file {
        b"memory.limit_in_bytes" => read_word(cx, cgroup, b"memory.memsw.limit_in_bytes"),
        _ => None,
    };
    if let Some(most) = most {
        return error
            .because(format_args!(
                "it cannot be above memory.memsw.limit_in_bytes, which is {most}"
            ))
            .way_out("set both: --memory-swap");
    }
    let error = error.because(asked.takes());
    // Of processors and memory nodes a cgroup has no more than the one above it.
    let above = join(&parent(cgroup), write.file);
    match read_word(cx, &parent(cgroup), write.file).filter(|_| write.controller == b"cpuset") {
        Some(value) => error.because(format_args!("{} has {value}", plain(above.to_bytes()))),
        None => error,
    }
}

/// Why this process did not get into the cgroup.
fn why_not_moved(cx: &Cx, hierarchy: &Hierarchy, name: &[u8], error: Error) -> Error {
    let cgroup = &hierarchy.directory(name).unwrap_or_default();
    let shown = plain(cgroup.to_bytes());
    match error.errno() {
        Some(Errno::EBUSY) => match read_word(cx, cgroup, b"cgroup.subtree_control") {
            Some(on) if !on.is_empty() => error
                .because(format_args!(
                    "{shown} passes controllers down ({on}), so it may have no processes"
                ))
                .way_out("name a cgroup below it"),
            _ => error,
        },
        Some(Errno::EOPNOTSUPP) => match read_word(cx, cgroup, b"cgroup.type") {
            Some(kind) => error
                .because(format_args!("{shown} is {kind}, where no process of elsewhere may be"))
                .way_out("see cgroup.type in cgroups(7)"),
            None => error,
        },
        Some(Errno::ENOSPC) => {
            let empty =
                |file: &&str| read_word(cx, cgroup, file.as_bytes()).is_some_and(|v| v.is_empty());
            match ["cpuset.cpus", "cpuset.mems"].iter().find(|file| empty(file)) {
                Some(file) => error
                    .because(format_args!("{shown}/{file} is empty"))
                    .way_out("make the cgroup with td-cgroup, which fills it"),
                None => error,
            }
        }
        Some(Errno::EACCES) if hierarchy.v2 => {
            why_refused(cx, &hierarchy.common_procs(name), error)
                .way_out("and on version 2 have root start PROG inside of it: --leaf NAME PROG")
        }
        _ => why_refused(cx, &join(cgroup, b"tasks"), error),
    }
}
