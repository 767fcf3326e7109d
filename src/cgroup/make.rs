//! Creating a cgroup and setting its limits so that a failure leaves nothing behind: what was created is removed, what
//! was changed gets its old value back, and processes that were moved are moved back.
//!
//! [`Made::make`] makes the directory; [`Made::write`] does the write(2) of a value; [`Made::move_process`] moves this
//! process.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;

use syscalls::Errno;

use crate::cgroup::controllers::Controllers;
use crate::cgroup::file::{self, check_directory, check_hierarchy, join, named, why_refused};
use crate::cgroup::hierarchies::Hierarchy;
use crate::cgroup::limits::{MEMSW, QUOTA};
use crate::cgroup::value::{FileValue, Value};
use crate::cgroup::wanted::{Used, Wanted};
use crate::cgroup::why_no_value::why_no_value;
use crate::cgroup::why_not_made::{
    why_no_directory, why_no_file, why_not_delegated, why_not_moved,
};
use crate::cgroup::{cpuset, device_limits, freezer, tree};
use crate::root::temporary_file::TemporaryFile;
use crate::say::error::Error;
use crate::say::number::decimal;
use crate::say::show::{ascii, number, plain};
use crate::say::text;
use crate::sys::{self, Cx};

/// What this process has made so far, and how it was before.
#[derive(Default)]
pub struct Made {
    /// Directories that were not there.
    directories: Vec<CString>,
    /// Files of a cgroup that was there, and what they held.
    values: Vec<(CString, Vec<u8>)>,
    /// Files that were delegated, and their old owners.
    owners: Vec<(CString, u32, u32)>,
    /// The files by which this process moves back to where it came from.
    back: Vec<CString>,
    /// The controllers of version 2.
    controllers: Controllers,
    /// The file that lists what is made. Then nothing of it may exist before.
    record: Option<TemporaryFile>,
    /// May a cgroup of that name be removed, if nothing lives in it?
    fresh: bool,
}

impl Made {
    /// Nothing yet. `move_to_leaf`: see [`Controllers`]; `fresh`: see there.
    pub fn new(move_to_leaf: Option<CString>, fresh: bool) -> Made {
        let controllers = Controllers::new(move_to_leaf);
        Made { controllers, fresh, ..Made::default() }
    }

    /// List in a file what will be made.
    pub fn record(
        &mut self,
        cx: &Cx,
        state: Option<&CStr>,
        file: &CStr,
        text: &[u8],
    ) -> Result<(), Error> {
        let file = self.record.insert(TemporaryFile::new(cx, state, file)?);
        file.write_in_place(cx, text)
    }

    /// Make the cgroup `name` in a hierarchy, or use what is there of it, and write to its files.
    pub fn make(
        &mut self,
        cx: &Cx,
        hierarchy: &Hierarchy,
        name: &[u8],
        writes: &[FileValue],
    ) -> Result<(), Error> {
        let Some((levels, there)) = hierarchy.levels(name) else {
            return Err(is_outside(hierarchy)
                .way_out("name the cgroup from the root of its hierarchy: /td/NAME"));
        };
        let Some((cgroup, above)) = levels.split_last() else { return Ok(()) };
        let writes: Vec<_> = writes.iter().filter(|write| write.hierarchy.is(hierarchy)).collect();
        if !hierarchy.is_assumed(cx) {
            check_hierarchy(cx, levels.first().unwrap_or(cgroup))?;
        }
        for (i, level) in levels.iter().enumerate().skip(there) {
            if self.directories.contains(level) {
                continue;
            }
            if i + 1 == levels.len() && self.record.is_some() {
                create(cx, level, self.fresh)?;
                self.directories.push(level.clone());
            } else {
                self.directory(cx, level)?;
            }
            if hierarchy.has(b"cpuset") {
                let is_new = !cx.dry() && self.directories.contains(level);
                cpuset::fill(cx, level, levels.get(..i).unwrap_or_default(), is_new)?;
            }
        }
        if hierarchy.v2 {
            for write in writes.iter().filter(|write| write.controller != b"cgroup") {
                self.controllers.turn_on(cx, above, write.controller)?;
            }
        }
        self.write_all(cx, cgroup, &writes)
    }

    /// Have controllers of version 2 on: see [`Controllers::pass_down`].
    pub fn pass_down(
        &mut self,
        cx: &Cx,
        hierarchy: &Hierarchy,
        name: &[u8],
        wanted: &Wanted,
    ) -> Result<(), Error> {
        // Those of a container are recorded.
        self.controllers.pass_down(cx, hierarchy, name, wanted, self.record.is_some())
    }

    fn directory(&mut self, cx: &Cx, directory: &CStr) -> Result<(), Error> {
        match sys::mkdirat(cx.expects(&[Errno::EEXIST]), None, directory, 0o755) {
            Ok(()) => self.directories.push(directory.into()),
            Err(e) if e.is(Errno::EEXIST) => check_directory(cx, directory)?, // it is used as it is
            Err(e) => return Err(why_no_directory(cx, directory, e)),
        }
        Ok(())
    }

    /// Delegate the cgroup `name` of a hierarchy to a user, who may then make others below it and move
    /// processes there, but not change its limits: cgroups(7), "Cgroups delegation".
    pub fn delegate(
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
            sys::fchownat(cx, None, &path, uid, gid).map_err(|e| why_not_delegated(cx, e))?;
        }
        Ok(())
    }

    /// Write each value. Version 1 wants memory.limit_in_bytes never above memory.memsw.limit_in_bytes: both are
    /// lowered in this order, and raised in the other. So is it with a period and the quota of it.
    fn write_all(&mut self, cx: &Cx, cgroup: &CStr, writes: &[&FileValue]) -> Result<(), Error> {
        let mut left = writes;
        while let Some((first, rest)) = left.split_first() {
            left = rest;
            match (self.write(cx, cgroup, first), rest.split_first()) {
                (Err(e), Some((second, rest)))
                    if e.is(Errno::EINVAL) && (second.file == MEMSW || second.file == QUOTA) =>
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

    fn write(&mut self, cx: &Cx, cgroup: &CStr, write: &FileValue) -> Result<(), Error> {
        let path = join(cgroup, write.file);
        let reused = !cx.dry() && !self.directories.iter().any(|made| made.as_c_str() == cgroup);
        let mut old = None;
        if reused {
            let read = sys::read_file(cx, None, &path).map_err(|e| why_refused(cx, &path, e));
            old = match (read, write.asked) {
                // A file of several lines, or one that cannot be read, is not restored: --set accepts any file.
                (Ok(read), None) if text::lines(read.trim_ascii()).count() > 1 => None,
                (Err(_), None) => None,
                (read, _) => {
                    let read = read.map_err(|e| why_no_file(cx, cgroup, write, e))?;
                    Some(device_limits::to_write_back(write.file, write.device.as_deref(), read))
                }
            };
            compare_with_use(cx, cgroup, write)?;
        }
        let file =
            file::open(cx, None, &path, &path).map_err(|e| why_no_file(cx, cgroup, write, e))?;
        sys::write(cx, file.as_fd(), &write.text())
            .map_err(|e| why_no_value(cx, cgroup, write, named(&file, &path, e)))?;
        if cx.dry() {
            return Ok(());
        }
        self.values.extend(old.map(|old| (path, old)));
        read_back(cx, cgroup, write)
    }

    /// Move this process into each of these cgroups that exists. `made`: this one was made now, also where
    /// a dry run did not.
    pub fn move_process(
        &mut self,
        cx: &Cx,
        cgroups: &[Used],
        made: &dyn Fn(&Hierarchy) -> bool,
    ) -> Result<(), Error> {
        for (hierarchy, name) in cgroups {
            let there = hierarchy.directory(name);
            there.map_or(Ok(()), |there| freezer::refuse_frozen(cx, hierarchy, &there))?;
        }
        for &(hierarchy, ref name) in cgroups {
            let Some(there) = hierarchy.directory(name) else { continue };
            let flags = libc::O_RDONLY | libc::O_DIRECTORY;
            let directory = match made(hierarchy) {
                true => sys::openat_made(cx, None, &there, flags),
                false => sys::openat(cx.expects(&[Errno::ENOENT]), None, &there, flags),
            };
            let directory = match directory {
                Err(e) if e.is(Errno::ENOENT) => continue, // not a cgroup of this hierarchy
                other => other?,
            };
            let file = if hierarchy.v2 { c"cgroup.procs" } else { c"tasks" };
            let path = join(&there, file.to_bytes());
            let enter = file::open(cx, Some(directory.as_fd()), file, &path)?;
            // It could not go back.
            let Some(own) = hierarchy.directory(b"") else { return Err(is_outside(hierarchy)) };
            // The old cgroup may pass controllers down by now.
            let own = self.controllers.moved_from(&own);
            sys::write(cx, enter.as_fd(), b"0")
                .map_err(|e| why_not_moved(cx, hierarchy, name, e))?;
            self.back.push(join(own, file.to_bytes()));
        }
        Ok(())
    }

    /// Restore everything, the last change first. What cannot be restored is reported. Controllers that were turned on
    /// stay on: another cgroup may count on them by now.
    pub fn undo(&self, cx: &Cx) {
        let mut results = Vec::new();
        for file in self.back.iter().rev() {
            results.push(file::write(cx, file, b"0"));
        }
        for (path, uid, gid) in self.owners.iter().rev() {
            results.push(sys::fchownat(cx, None, path, *uid, *gid));
        }
        for (file, old) in self.values.iter().rev() {
            results.push(file::write(cx, file, old));
        }
        for directory in self.directories.iter().rev() {
            match sys::unlinkat(cx, None, directory, libc::AT_REMOVEDIR) {
                Err(e) if e.is(Errno::EBUSY) => {} // another has made a cgroup in it meanwhile
                other => results.push(other),
            }
        }
        self.controllers.undo(cx, &mut results);
        results.extend(self.record.iter().map(|file| file.remove(cx)));
        for error in results.into_iter().filter_map(Result::err) {
            cx.say(&error);
        }
        self.record.iter().for_each(|file| file.undo(cx));
    }
}

/// Create a cgroup that only this run uses. With `fresh`, an existing cgroup of that name, left by a run whose record
/// is lost, is removed if it has no live processes.
fn create(cx: &Cx, directory: &CStr, fresh: bool) -> Result<(), Error> {
    let create = || sys::mkdirat(cx, None, directory, 0o755);
    let created = match create() {
        Err(e) if e.is(Errno::EEXIST) && !fresh => {
            let shown = plain(directory.to_bytes());
            return Err(e
                .because(format_args!("{shown} already exists, and no record lists it"))
                .way_out("choose another PATH; --fresh removes it if no process is in it"));
        }
        Err(e) if e.is(Errno::EEXIST) => {
            check_directory(cx, directory)?;
            tree::remove(cx, &[directory.into()])?;
            create()
        }
        other => other,
    };
    created.map_err(|e| why_no_directory(cx, directory, e))
}

/// The caller's own cgroup lies outside of what is mounted.
fn is_outside(hierarchy: &Hierarchy) -> Error {
    let point = plain(hierarchy.point);
    Error::refusal(format_args!("{point} does not show the cgroup of this process"))
}

/// Version 2 takes a limit below what is used, and then kills: better to refuse it.
fn compare_with_use(cx: &Cx, cgroup: &CStr, write: &FileValue) -> Result<(), Error> {
    if write.file != b"memory.max" || write.asked.is_none() {
        return Ok(());
    }
    let used = sys::read_file(cx, None, &join(cgroup, b"memory.current"))?;
    let used = used.trim_ascii();
    match (decimal(used), &write.value) {
        (Some(now), Value::Number(most)) if now > *most => {
            let (cgroup, used, most) = (plain(cgroup.to_bytes()), ascii(used), number(*most));
            Err(Error::refusal(format_args!("{cgroup} uses {used} bytes, more than {most}"))
                .way_out("its processes would be killed; end them first, or set a higher limit"))
        }
        _ => Ok(()),
    }
}

/// The kernel may take another value than was written, and not say so.
fn read_back(cx: &Cx, cgroup: &CStr, write: &FileValue) -> Result<(), Error> {
    let Some(asked) = write.asked.filter(|_| !write.taken.is_empty()) else { return Ok(()) };
    let read = |file| sys::read_file(cx, None, &join(cgroup, file));
    let taken = read(write.taken)?;
    // A list may be written in several ways: the kernel's own are compared.
    let written = if write.taken == write.file { write.text() } else { read(write.file)? };
    let (taken, written) = (taken.trim_ascii(), written.trim_ascii());
    if write.is_taken(written, taken) {
        return Ok(());
    }
    let path = plain(join(cgroup, write.taken).to_bytes());
    let (taken, written) = (plain(taken), plain(written));
    Err(Error::refusal(format_args!("{written} was written to {path}, which now reads {taken}"))
        .because(asked.takes()))
}
