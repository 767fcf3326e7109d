//! Cgroups opened so that a process can begin in them, or go there.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use syscalls::Errno;

use crate::cgroup::{Hierarchy, hierarchies, home, join, make, name, none, parse_line};
use crate::error::Error;
use crate::mounts;
use crate::show::plain;
use crate::sys::{self, Cx};
use crate::text;

/// A cgroup wherever a hierarchy has it, opened so that a process can go there.
#[derive(Default)]
pub struct Cradle {
    /// The directory in the version 2 hierarchy, for CLONE_INTO_CGROUP.
    pub v2: Option<OwnedFd>,
    /// `tasks` in each version 1 hierarchy that has the cgroup: who writes `0` to it moves itself.
    /// Moving by cgroup.procs would wait some milliseconds for an RCU grace period.
    pub tasks: Vec<OwnedFd>,
}

impl Cradle {
    /// Without CLONE_INTO_CGROUP the child moves itself to the version 2 cgroup too, by its cgroup.procs.
    /// Returns whether it has one.
    pub fn without_clone3(&mut self, cx: &Cx) -> Result<bool, Error> {
        let Some(directory) = self.v2.take() else { return Ok(false) };
        let procs = sys::openat(cx, Some(directory.as_fd()), c"cgroup.procs", libc::O_WRONLY)?;
        self.tasks.push(procs);
        Ok(true)
    }
}

/// Open the cgroup `typed` wherever a hierarchy has it.
pub fn open(cx: &Cx, typed: &CStr) -> Result<Cradle, Error> {
    let hierarchies = hierarchies(cx)?;
    let name = name(&hierarchies, typed)?;
    // A dry run cannot know more of what td-cgroup would have made.
    let home = home(&hierarchies);
    let cradle = open_name(cx, &hierarchies, &name, |hierarchy| {
        home.is_some_and(|home| home.is(hierarchy))
    })?;
    if cradle.v2.is_none() && cradle.tasks.is_empty() {
        return Err(none(typed));
    }
    Ok(cradle)
}

/// The same by its name. `made`: in this hierarchy td-cgroup has made it, also where a dry run did not.
pub fn open_name(
    cx: &Cx,
    hierarchies: &[Hierarchy],
    name: &[u8],
    made: impl Fn(&Hierarchy) -> bool,
) -> Result<Cradle, Error> {
    let mut cradle = Cradle::default();
    for hierarchy in hierarchies {
        let Some(directory) = hierarchy.directory(name) else { continue };
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let opened = match made(hierarchy) {
            true => sys::openat_made(cx, None, &directory, flags),
            false => sys::openat(cx, None, &directory, flags),
        };
        let opened = match opened {
            Err(e) if e.is(Errno::ENOENT) => continue, // not a cgroup of this hierarchy
            other => other?,
        };
        if hierarchy.v2 {
            cradle.v2 = Some(opened);
        } else {
            let path = join(&directory, b"tasks");
            cradle.tasks.push(make::open(cx, Some(opened.as_fd()), c"tasks", &path)?);
        }
    }
    Ok(cradle)
}

/// The cgroups of the process that says so in its `/proc/PID/cgroup`, those that are not ours already,
/// opened so that another can go there.
pub fn of_process(cx: &Cx, theirs: &[u8]) -> Result<Cradle, Error> {
    let ours = sys::read_file(cx, None, c"/proc/self/cgroup")?;
    let mounts = mounts::list(cx, c"/proc/self/mountinfo")?;
    let is_ours = |line: &[u8]| text::has(&ours, b'\n', line);
    let mut hierarchies = Vec::new();
    for line in text::lines(theirs) {
        if line.is_empty() || is_ours(line) {
            continue;
        }
        match parse_line(line, &mounts).filter(|hierarchy| hierarchy.own.is_some()) {
            Some(hierarchy) => hierarchies.push(hierarchy),
            None => {
                return Err(Error::refusal(format_args!(
                    "the cgroup {} is not in what is mounted of cgroups here",
                    plain(line)
                )));
            }
        }
    }
    open_name(cx, &hierarchies, b"", |_| false)
}
