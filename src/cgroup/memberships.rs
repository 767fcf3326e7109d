//! The cgroups that a process will be a member of, opened so that it can start in them or move to them.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use syscalls::Errno;

use crate::cgroup::file::{self, join};
use crate::cgroup::hierarchies::{self, Hierarchy};
use crate::cgroup::{freezer, places, why_not_made};
use crate::say::error::Error;
use crate::say::show::plain;
use crate::sys::{self, Cx};

/// A cgroup in each hierarchy that has it, opened so that a process can move there.
#[derive(Default)]
pub struct Memberships {
    /// The directory in the version 2 hierarchy, for CLONE_INTO_CGROUP.
    pub v2: Option<OwnedFd>,
    /// `tasks` in each version 1 hierarchy that has the cgroup: a process that writes `0` to it moves itself. Moving by
    /// cgroup.procs would wait some milliseconds for an RCU grace period.
    pub tasks: Vec<Tasks>,
    /// The cgroup of version 2, as `/proc/PID/cgroup` has it.
    v2_cgroup: Vec<u8>,
}

/// A file of a cgroup, opened so that a process that writes `0` to it is moved there.
pub struct Tasks {
    file: OwnedFd,
    directory: CString,
    /// The cgroup, as `/proc/PID/cgroup` has it.
    cgroup: Vec<u8>,
}

impl Tasks {
    /// Move this process.
    fn enter(&self, cx: &Cx) -> Result<(), Error> {
        sys::write(cx, self.file.as_fd(), b"0")
            .map(drop)
            .map_err(|e| why_not_made::why_no_realtime(cx, &self.directory, e))
            .map_err(|e| if e.is_unexplained() { why_not_placed(&self.cgroup, e) } else { e })
    }
}

/// Why no process began in a cgroup, or got there: td-cgroup, which moves there as well, looks.
pub fn why_not_placed(cgroup: &[u8], error: Error) -> Error {
    let cgroup = plain(cgroup);
    error
        .because(format_args!("no process can start in the cgroup {cgroup}"))
        .way_out(format_args!("td-cgroup {cgroup} true tries the same, and reports the cause"))
}

impl Memberships {
    /// Move this process to all of them.
    pub fn enter(&self, cx: &Cx) -> Result<(), Error> {
        if let Some(directory) = &self.v2 {
            sys::write_file(cx, Some(directory.as_fd()), c"cgroup.procs", b"0")?;
        }
        self.enter_v1(cx)
    }

    /// Move this process to those of version 1, where it was created in that of version 2.
    pub fn enter_v1(&self, cx: &Cx) -> Result<(), Error> {
        self.tasks.iter().try_for_each(|tasks| tasks.enter(cx))
    }

    /// The cgroup of version 2 where a child starts, as `/proc/PID/cgroup` has it.
    pub fn start(&self) -> Option<&[u8]> {
        self.v2.as_ref().map(|_| self.v2_cgroup.as_slice())
    }

    /// Without CLONE_INTO_CGROUP the child moves itself to the version 2 cgroup too, by its cgroup.procs.
    /// Returns whether it has one.
    pub fn without_clone3(&mut self, cx: &Cx) -> Result<bool, Error> {
        let Some(directory) = self.v2.take() else { return Ok(false) };
        let procs = sys::openat(cx, Some(directory.as_fd()), c"cgroup.procs", libc::O_WRONLY)?;
        let cgroup = std::mem::take(&mut self.v2_cgroup);
        self.tasks.push(Tasks { file: procs, directory: CString::default(), cgroup });
        Ok(true)
    }

    /// Open one more, unless a process that enters it would stop. `made`: it was created by now, also where a dry run
    /// did not.
    pub fn add(
        &mut self,
        cx: &Cx,
        hierarchy: &Hierarchy,
        directory: &CStr,
        made: bool,
    ) -> Result<(), Error> {
        let cgroup = hierarchy.path(directory);
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let open = || match made {
            true => sys::openat_made(cx, None, directory, flags),
            false => sys::openat(cx, None, directory, flags),
        };
        if hierarchy.v2 {
            let opened = open()?;
            freezer::refuse_frozen(cx, hierarchy, directory)?;
            (self.v2, self.v2_cgroup) = (Some(opened), cgroup);
            return Ok(());
        }
        if cx.dry() {
            open()?; // is it there? A dry run does not open `tasks`
        }
        let path = join(directory, b"tasks");
        let file = file::open(cx, None, &path, &path)?;
        freezer::refuse_frozen(cx, hierarchy, directory)?;
        self.tasks.push(Tasks { file, directory: directory.into(), cgroup });
        Ok(())
    }
}

/// Open the cgroup `typed` wherever a hierarchy has it.
pub fn open(cx: &Cx, typed: &CStr) -> Result<Memberships, Error> {
    let hierarchies = hierarchies::list(cx)?;
    let name = places::name(&hierarchies, typed)?;
    let primary = hierarchies::primary(&hierarchies);
    let mut memberships = Memberships::default();
    for hierarchy in &hierarchies {
        let Some(directory) = hierarchy.directory(&name) else { continue };
        // A dry run cannot know more of what td-cgroup would have created.
        let made = primary.is_some_and(|primary| primary.is(hierarchy));
        match memberships.add(cx, hierarchy, &directory, made) {
            Err(e) if e.is(Errno::ENOENT) => {} // not a cgroup of this hierarchy
            other => other?,
        }
    }
    if memberships.v2.is_none() && memberships.tasks.is_empty() {
        return Err(places::none(typed));
    }
    Ok(memberships)
}
