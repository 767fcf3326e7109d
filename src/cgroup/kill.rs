//! Killing the processes of a cgroup.

use syscalls::Errno;

use crate::cgroup::file::{self, join};
use crate::cgroup::places::{self, ExistingCgroup};
use crate::cgroup::tree::{self, DYING, LONG, TimeLeft, unless_gone};
use crate::cgroup::{empty, freezer};
use crate::say::error::Error;
use crate::sys::{self, Cx};

/// Kill every process of a cgroup, and of those below it, in every hierarchy that has it.
/// Waits until they are gone, 10 seconds at most.
pub fn kill(cx: &Cx, places: &[ExistingCgroup]) -> Result<(), Error> {
    places::refuse_own(places)?;
    for place in places.iter().filter(|place| place.hierarchy.v2) {
        // This kills all at once, also processes that are just being forked, and those that a pid namespace hides from
        // us.
        unless_gone(file::write(cx, &join(&place.directory, b"cgroup.kill"), b"1"))?;
    }
    // Version 1: frozen processes cannot fork while we read the list of processes.
    let freezer = places.iter().find(|place| place.hierarchy.has(b"freezer"));
    if let Some(place) = freezer {
        let frozen = freezer::set_frozen(cx, place, true)
            .and_then(|()| freezer::wait_frozen(cx, place, true));
        let killed = unless_gone(frozen.map(drop)).and_then(|()| kill_all(cx, places));
        freezer::thaw_all(cx, place)?;
        killed?;
    }
    // Without it, again and again.
    let mut time_left = TimeLeft(DYING);
    while kill_all(cx, places)? && time_left.wait(cx)? {}
    if cx.dry() { Ok(()) } else { empty::until_empty(cx, places, Some(LONG)) }
}

/// Kill the processes of a cgroup without waiting for their end. On version 1, processes that are forked meanwhile are
/// not killed.
pub fn kill_now(cx: &Cx, places: &[ExistingCgroup]) -> Result<(), Error> {
    for place in places.iter().filter(|place| place.hierarchy.v2) {
        unless_gone(file::write(cx, &join(&place.directory, b"cgroup.kill"), b"1"))?;
    }
    kill_all(cx, places)?;
    let mut freezers = places.iter().filter(|place| place.hierarchy.has(b"freezer"));
    freezers.try_for_each(|place| freezer::thaw_all(cx, place))
}

/// Kill who is in these cgroups of version 1 now. False: nobody is.
fn kill_all(cx: &Cx, places: &[ExistingCgroup]) -> Result<bool, Error> {
    let mut found = false;
    for place in places.iter().filter(|place| !place.hierarchy.v2) {
        for pid in tree::processes_below(cx, &place.directory)?.unwrap_or_default() {
            found = true;
            match sys::kill(cx, pid, libc::SIGKILL) {
                Err(e) if e.is(Errno::ESRCH) => {} // it has just ended
                other => other?,
            }
        }
    }
    Ok(found)
}
