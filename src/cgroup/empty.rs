//! Waiting until no process is in a cgroup.
//!
//! Version 2 says in cgroup.events when the last has ended, and poll(2) waits for that. Version 1 must be looked at now
//! and then.

use std::ffi::CStr;
use std::os::fd::AsFd;

use crate::cgroup::file::{self, is_gone, read_word};
use crate::cgroup::freezer;
use crate::cgroup::hierarchies::Hierarchy;
use crate::cgroup::places::{self, ExistingCgroup};
use crate::cgroup::tree::{self, DYING};
use crate::say::error::Error;
use crate::say::show::plain;
use crate::sys::structs::SECOND;
use crate::sys::{self, Cx};

/// The exit status when the time of `--wait-empty` is over, as timeout(1) has it.
const OVER: u8 = 124;

/// Wait until no process is in a cgroup nor in those below it; `time` is in nanoseconds, `None` without an end.
pub fn wait_empty(cx: &Cx, places: &[ExistingCgroup], time: Option<i64>) -> Result<(), Error> {
    places::refuse_own(places)?;
    if cx.dry() {
        return Ok(());
    }
    until_empty(cx, places, time)
        .map_err(|e| if e.errno().is_none() { e.with_status(OVER) } else { e })
}

/// Wait until nobody is in any of these cgroups, nor below them. A refusal: the time is over.
pub fn until_empty(cx: &Cx, places: &[ExistingCgroup], mut time: Option<i64>) -> Result<(), Error> {
    for place in places {
        let empty = match place.hierarchy.v2 {
            true => file::wait_for_event(cx, &place.directory, b"populated 0", &mut time),
            false => wait_for_each(cx, &place.directory, &mut time),
        };
        match empty {
            Err(e) if is_gone(&e) => {} // removed, so it was empty
            Ok(false) => {
                let pids = tree::processes_below(cx, &place.directory)?.unwrap_or_default();
                let directory = plain(place.directory.to_bytes());
                let error = Error::refusal(tree::still_has(cx, &directory, &pids));
                // A frozen process does not end by itself, nor, on version 1, by a signal.
                let mut all = places.iter();
                let frozen = |p: &ExistingCgroup| {
                    freezer::frozen(cx, p.hierarchy, &p.directory).ok().flatten()
                };
                return Err(match all.find_map(|p| frozen(p).filter(|f| !f.v2)) {
                    Some(frozen) => frozen.add_to(error),
                    None => error,
                });
            }
            other => drop(other?),
        }
    }
    Ok(())
}

/// Version 1: wait for the end of one process after the other. Check from time to time whether it is still in the
/// cgroup, because it may have moved away: less and less often, since each check costs memory that is never freed.
fn wait_for_each(cx: &Cx, directory: &CStr, time: &mut Option<i64>) -> Result<bool, Error> {
    let mut pause = SECOND / 100;
    loop {
        let pids = tree::processes_below(cx, directory)?.unwrap_or_default();
        if pids.is_empty() && !has_hidden(cx, directory)? {
            return Ok(true);
        }
        let most = time.unwrap_or(pause).min(pause);
        pause = (pause * 2).min(60 * SECOND);
        if most <= 0 || cx.dry() {
            return Ok(false);
        }
        let left = match pids.first().map(|pid| sys::pidfd_open(cx, *pid)) {
            Some(Ok(process)) => {
                sys::ppoll(cx, process.as_fd(), libc::POLLIN, Some(most))?.unwrap_or(0)
            }
            // It has just ended, or is hidden.
            _ => sys::sleep(cx, most).map(|()| 0)?,
        };
        *time = time.map(|time| time - most + left);
    }
}

/// Version 1 does not list a process that our pid namespace hides, but the controller of pids counts it. In the first
/// pid namespace none is hidden, and what is counted is a zombie.
fn has_hidden(cx: &Cx, directory: &CStr) -> Result<bool, Error> {
    const PID_NS_INIT_INO: u64 = 0xefff_fffc; // linux/nsfs.h
    let own = sys::statx(cx, None, c"/proc/self/ns/pid", 0)?;
    let count = read_word(cx, directory, b"pids.current")?;
    Ok(own.ino != PID_NS_INIT_INO && count.is_some_and(|count| count != "0"))
}

/// Remove what an earlier run has left of the cgroup `name`, unless a live process is in it.
pub fn remove_if_empty(cx: &Cx, hierarchies: &[Hierarchy], name: &[u8]) -> Result<(), Error> {
    let places = places::find(cx, hierarchies, name)?;
    let way_out = || ["td-cgroup --kill ", &plain(name), " ends them"].concat();
    until_empty(cx, &places, Some(DYING))
        .map_err(|e| if e.errno().is_none() { e.way_out(way_out()) } else { e })?;
    tree::remove(cx, &places::directories(&places))
}
