//! A record of the cgroups of a container: a file with a line for each hierarchy, as `/proc/PID/cgroup` of its
//! processes has it. They are in a leaf; the cgroup above that is the container's.
//!
//! It is written before the first of them is created, so that whatever is left after a crash can be found.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;

use syscalls::Errno;

use crate::cgroup::file::parent;
use crate::cgroup::freezer::{self, Frozen};
use crate::cgroup::hierarchies::{self, Hierarchy};
use crate::cgroup::memberships::Memberships;
use crate::cgroup::places::{self, ExistingCgroup};
use crate::cgroup::proc_pid_cgroup::{fields, own};
use crate::cgroup::wanted::Used;
use crate::cgroup::{kill, tree};
use crate::root::directories;
use crate::root::mountinfo;
use crate::say::error::Error;
use crate::say::show::{number, plain, unsigned};
use crate::say::text;
use crate::sys::proc;
use crate::sys::structs::Statx;
use crate::sys::{self, Cx, cstring};

/// Which lines are wanted of those of a process.
#[derive(Clone, Copy, PartialEq)]
pub enum Wanted {
    All,
    /// Those of cgroups that are not ours.
    Others,
    /// Those of hierarchies that can freeze.
    Freezers,
}

/// The cgroups that a record lists.
#[derive(Default)]
pub struct Record {
    hierarchies: Vec<Hierarchy>,
    /// The directory of the leaf in each of them.
    leaves: Vec<CString>,
}

impl Record {
    /// Read the file, to which no link below `state` leads. `None`: it does not exist, or in a dry run was not
    /// written.
    pub fn read(cx: &Cx, state: Option<&CStr>, file: &CStr) -> Result<Option<Record>, Error> {
        let Some(place) = directories::Place::find(cx, state, file)? else { return Ok(None) };
        let opened = match place.open(cx) {
            Err(e) if e.is(Errno::ENOENT) => return Ok(None),
            other => other?,
        };
        let Some(opened) = opened else {
            let what = format!("{} is not a record of cgroups", plain(file.to_bytes()));
            return Err(Error::refusal(what));
        };
        // In a directory with the sticky bit, as /tmp, it may be anybody's, and name the cgroups of others.
        directories::check_owner(cx, opened.as_fd(), &place.shown())?;
        Record::parse(cx, &sys::read_to_end(cx, opened.as_fd())?, Wanted::All).map(Some)
    }

    /// The cgroups in `text`, lines of `/proc/PID/cgroup`. A hierarchy that does not exist any more has none.
    pub fn parse(cx: &Cx, text: &[u8], wanted: Wanted) -> Result<Record, Error> {
        let (own, mounts) = (own(cx)?, mountinfo::known(cx)?);
        let mut record = Record::default();
        for line in text::lines(text) {
            let Some((controllers, path)) = fields(line) else { continue };
            let is_asked = match wanted {
                Wanted::All => true,
                Wanted::Others => !text::has(own, b'\n', line),
                Wanted::Freezers => {
                    controllers.is_empty() || text::has(controllers, b',', b"freezer")
                }
            };
            if !is_asked {
                continue;
            }
            let is_it = |own: &&[u8]| fields(own).is_some_and(|(names, _)| names == controllers);
            let Some(own) = text::lines(own).find(is_it) else { continue };
            let unseen = format!(
                "the cgroup {} is not below a cgroup mount point of this mount namespace",
                plain(line)
            );
            if path.starts_with(b"/..") {
                return Err(Error::refusal(unseen));
            }
            let found =
                hierarchies::reach(cx, own, path, &mounts).map_err(|e| e.because(unseen))?;
            let below = found.below(path).unwrap_or_default();
            record.leaves.push(cstring([found.point, below].concat()));
            record.hierarchies.push(found);
        }
        Ok(record)
    }

    /// Each cgroup of the container that exists, version 2 first. With `tag`, only those whose name ends with it.
    pub fn places(&self, cx: &Cx, tag: &[u8]) -> Result<Vec<ExistingCgroup<'_>>, Error> {
        let mut places = Vec::new();
        for (hierarchy, leaf) in self.hierarchies.iter().zip(&self.leaves) {
            let directory = parent(leaf);
            if directory.to_bytes().ends_with(tag) {
                places::add(cx, &mut places, hierarchy, directory)?;
            }
        }
        Ok(places)
    }

    /// The hierarchy of memory, the container's cgroup in it, and its leaf.
    pub fn memory(&self) -> Option<(&Hierarchy, CString, CString)> {
        let memory = hierarchies::of_controller(&self.hierarchies, b"memory")?;
        let mut all = self.hierarchies.iter().zip(&self.leaves);
        let (hierarchy, leaf) = all.find(|(hierarchy, _)| hierarchy.is(memory))?;
        Some((hierarchy, parent(leaf), leaf.clone()))
    }

    /// The leaf in version 2, as `/proc/PID/cgroup` has it.
    pub fn leaf_in_v2(&self) -> Option<CString> {
        let mut all = self.hierarchies.iter().zip(&self.leaves);
        let (hierarchy, leaf) = all.find(|(hierarchy, _)| hierarchy.v2)?;
        Some(cstring(hierarchy.path(leaf)))
    }

    /// A signal was sent that is to end the container. If it was frozen from outside, thaw it. If it has frozen a part
    /// of itself, which it could do again, kill it.
    pub fn release(&self, cx: &Cx) -> Result<(), Error> {
        let (places, mut frozen) = (self.places(cx, b"")?, false);
        for (hierarchy, leaf) in self.hierarchies.iter().zip(&self.leaves) {
            frozen |= freezer::has_frozen(cx, hierarchy, leaf)?;
        }
        if frozen {
            return kill::kill_now(cx, &places);
        }
        places.iter().try_for_each(|place| freezer::thaw(cx, place))
    }

    /// The frozen cgroup that stops the processes in the leaves: one of version 1 first, because it also keeps them
    /// from dying.
    pub fn frozen(&self, cx: &Cx) -> Result<Option<Frozen>, Error> {
        let mut found = None;
        for (hierarchy, leaf) in self.hierarchies.iter().zip(&self.leaves) {
            match freezer::frozen(cx, hierarchy, leaf)? {
                Some(frozen) if !frozen.v2 => return Ok(Some(frozen)),
                Some(frozen) => found = Some(frozen),
                None => {}
            }
        }
        Ok(found)
    }

    /// Remove the cgroups.
    pub fn remove(&self, cx: &Cx) -> Result<(), Error> {
        let rmdir = |path: &CStr| sys::unlinkat(cx, None, path, libc::AT_REMOVEDIR);
        let mut left = Vec::new();
        for leaf in &self.leaves {
            let cgroup = parent(leaf);
            // Mostly nothing lies below the leaf, and nobody is dying in it.
            if rmdir(leaf).and_then(|()| rmdir(&cgroup)).is_err() {
                left.push(cgroup);
            }
        }
        tree::remove(cx, &left)
    }

    /// The leaves, opened so that a process can go there.
    pub fn open(&self, cx: &Cx) -> Result<Memberships, Error> {
        let mut memberships = Memberships::default();
        for (hierarchy, leaf) in self.hierarchies.iter().zip(&self.leaves) {
            memberships.add(cx, hierarchy, leaf, hierarchy.is_assumed(cx))?;
        }
        Ok(memberships)
    }
}

/// Is the cgroup of a process frozen? If `/proc` does not show it, it is assumed not to be.
pub fn frozen_process(cx: &Cx, pid: i32) -> Option<Frozen> {
    let path = proc::path(&["/proc/", &number(pid as u64), "/cgroup"]);
    let text = sys::read_file(cx, None, &path).ok()?;
    Record::parse(cx, &text, Wanted::Freezers).ok()?.frozen(cx).ok()?
}

/// FILE does not exist.
pub fn missing(file: &CStr) -> Error {
    let file = plain(file.to_bytes());
    Error::refusal(format_args!("{file} does not exist"))
        .because("perhaps the container is not running, or was run with --cgroups disabled")
}

/// What a record of these leaves says.
pub fn text(leaves: &[Used]) -> Vec<u8> {
    let mut text = Vec::new();
    for (hierarchy, name) in leaves {
        let path = hierarchy.path(&hierarchy.directory(name).unwrap_or_default());
        text.extend([hierarchy.id, hierarchy.controllers, &path].join(&b':'));
        text.push(b'\n');
    }
    text
}

/// The end of the names of the cgroups that belong to this directory: `-MAJOR.MINOR-INODE`.
pub fn tag(cx: &Cx, directory: &CStr) -> Result<Vec<u8>, Error> {
    let stat = match sys::statx(cx, None, directory, 0) {
        Err(e) if cx.dry() && e.is(Errno::ENOENT) => Statx::default(), // not created
        other => other?,
    };
    let mut tag = String::new();
    unsigned("-", stat.dev_major.into(), &mut tag);
    unsigned(".", stat.dev_minor.into(), &mut tag);
    unsigned("-", stat.ino, &mut tag);
    Ok(tag.into_bytes())
}

/// Kill and remove what a killed run has left of the cgroups that the file lists, as far as their names end with `tag`;
/// and the file.
pub fn clear(cx: &Cx, state: Option<&CStr>, file: &CStr, tag: &[u8]) -> Result<(), Error> {
    let Some(record) = Record::read(cx, state, file)? else { return Ok(()) };
    let places = record.places(cx, tag)?;
    kill::kill(cx, &places)?;
    tree::remove(cx, &places::directories(&places))?;
    unlink(cx, state, file)
}

/// Remove the file.
pub fn unlink(cx: &Cx, state: Option<&CStr>, file: &CStr) -> Result<(), Error> {
    let Some(place) = directories::Place::find(cx, state, file)? else { return Ok(()) };
    match sys::unlinkat(cx, Some(place.directory.as_fd()), &place.name, 0) {
        Err(e) if e.is(Errno::ENOENT) => Ok(()), // somebody else did it
        other => other,
    }
}
