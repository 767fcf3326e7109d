//! The cgroups of a child: it begins there, is killed there when memory runs out, and when it has ended they are
//! removed.

use std::ffi::{CStr, CString};

use crate::cgroup::memberships::{self, Memberships};
use crate::cgroup::oom::Killed;
use crate::cgroup::record::{self, Record};
use crate::cgroup::{hierarchies, oom, places, tree};
use crate::say::error::Error;
use crate::sys::Cx;

/// What the command line asks for.
#[derive(Default)]
pub struct Asked {
    /// The cgroup in which the child begins.
    pub into: Option<CString>,
    /// The one that is removed at the end.
    pub remove: Option<CString>,
    /// A file that lists those that are both.
    pub record: Option<CString>,
}

/// The cgroups of a child.
pub struct ChildCgroups<'a> {
    asked: &'a Asked,
    /// No link is followed below it.
    state: Option<&'a CStr>,
    /// What the file lists.
    record: Option<Record>,
}

impl<'a> ChildCgroups<'a> {
    /// Read the file.
    pub fn read(
        cx: &Cx,
        asked: &'a Asked,
        state: Option<&'a CStr>,
    ) -> Result<ChildCgroups<'a>, Error> {
        let mut record = None;
        if let Some(file) = &asked.record {
            record = Record::read(cx, state, file)?;
            // A dry run has not written it.
            if record.is_none() && !cx.dry() {
                return Err(record::missing(file));
            }
        }
        Ok(ChildCgroups { asked, state, record })
    }

    /// Open those in which the child begins.
    pub fn open(&self, cx: &Cx) -> Result<Memberships, Error> {
        match (&self.asked.into, &self.record) {
            (Some(path), _) => memberships::open(cx, path),
            (None, Some(record)) => record.open(cx),
            (None, None) => Ok(Memberships::default()),
        }
    }

    /// The cgroup for CLONE_INTO_CGROUP, for messages.
    pub fn clone_into(&self) -> Option<CString> {
        let leaf = self.record.as_ref().and_then(Record::leaf_in_v2);
        leaf.or_else(|| self.asked.into.clone())
    }

    /// A signal was sent that is to end the child: see [`Record::release`].
    pub fn release(&self, cx: &Cx) -> Result<(), Error> {
        self.record.as_ref().map_or(Ok(()), |record| record.release(cx))
    }

    /// How a process was killed because memory ran out. `None`: none was, as far as they show.
    pub fn how_killed(&self, cx: &Cx) -> Option<Killed> {
        match (&self.record, &self.asked.remove) {
            (Some(record), _) => record.memory().and_then(|(memory, limited, leaf)| {
                oom::how_killed_in(cx, memory, &limited, &leaf)
            }),
            (None, Some(limited)) => {
                oom::how_killed(cx, limited, self.asked.into.as_ref().unwrap_or(limited))
            }
            (None, None) => None,
        }
    }

    /// Remove them.
    pub fn remove(&self, cx: &Cx) -> Result<(), Error> {
        match (&self.record, &self.asked.record, &self.asked.remove) {
            // The file last: what is left is found by it.
            (Some(record), Some(file), _) => {
                record.remove(cx).and_then(|()| record::unlink(cx, self.state, file))
            }
            (_, _, Some(path)) => {
                let hierarchies = hierarchies::list(cx)?;
                let places = places::find(cx, &hierarchies, &places::name(&hierarchies, path)?)?;
                tree::remove(cx, &places::directories(&places))
            }
            _ => Ok(()),
        }
    }
}
