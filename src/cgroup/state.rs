//! The state of a cgroup's processes: frozen, killed, gone.
//!
//! Version 2 says in cgroup.events when it has come, and poll(2) waits for that. Version 1 must be looked at now
//! and then.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;

use syscalls::Errno;

use crate::cgroup::make::write_file;
use crate::cgroup::record::{Record, Wanted};
use crate::cgroup::tree::{self, DYING, Patience, is_gone};
use crate::cgroup::{self, Hierarchy, Place, join};
use crate::say::error::Error;
use crate::say::show::{number, plain};
use crate::say::text;
use crate::sys::proc;
use crate::sys::structs::SECOND;
use crate::sys::{self, Cx, cstring};

/// How long processes may take to become frozen, or to be gone after they were killed.
const LONG: i64 = 10 * SECOND;

/// The exit status when the time of `--wait-empty` is over, as timeout(1) has it.
const OVER: u8 = 124;

/// Whoever is in it could not wait for the end, nor undo anything.
fn refuse_own(places: &[Place]) -> Result<(), Error> {
    for Place { hierarchy, directory } in places {
        let own = hierarchy.directory(b"").unwrap_or_default();
        let below = own.to_bytes().strip_prefix(directory.to_bytes());
        if below.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")) {
            let directory = plain(directory.to_bytes());
            return Err(Error::refusal(format_args!("{directory}: this process is in it itself"))
                .way_out("run td-cgroup from outside of it"));
        }
    }
    Ok(())
}

/// Wait until cgroup.events of a cgroup of version 2 has this line; `time` is in nanoseconds, `None` without an
/// end. False: the time is over. A dry run does not wait.
fn event(cx: &Cx, directory: &CStr, line: &[u8], time: &mut Option<i64>) -> Result<bool, Error> {
    let path = join(directory, b"cgroup.events");
    loop {
        let file = sys::openat(cx, None, &path, libc::O_RDONLY)?;
        let mut text = [0; 256];
        let n = sys::read(cx, file.as_fd(), &mut text)?;
        if text::has(text.get(..n).unwrap_or_default(), b'\n', line) {
            return Ok(true);
        }
        if cx.dry() {
            return Ok(false);
        }
        // Whatever has changed since this descriptor was read is an event.
        match sys::ppoll(cx, file.as_fd(), libc::POLLPRI, *time)? {
            Some(left) => *time = time.map(|_| left),
            None => return Ok(false),
        }
    }
}

// ---- frozen ----

/// Freeze or thaw every process of a cgroup, and of those below it, and wait until all are, 10 seconds at most.
/// To freeze, one hierarchy is enough: where version 2 has it, all its processes are there too. Thawed it is in each,
/// whoever has frozen it there. `shown` is how a message names it.
pub fn freeze(cx: &Cx, places: &[Place], shown: &str, frozen: bool) -> Result<(), Error> {
    if frozen {
        refuse_own(places)?;
    }
    let mut found = false;
    for place in places.iter().filter(|place| can_freeze(place.hierarchy)) {
        if !(found && frozen) {
            freeze_in(cx, place, frozen)?;
        }
        found = true;
    }
    if found {
        return Ok(());
    }
    let why = ": neither version 2 nor the freezer of version 1 has it";
    Err(Error::refusal(format_args!("{shown}{why}")))
}

fn can_freeze(hierarchy: &Hierarchy) -> bool {
    hierarchy.v2 || hierarchy.has(b"freezer")
}

fn freeze_in(cx: &Cx, place: &Place, frozen: bool) -> Result<(), Error> {
    let was = is_frozen(cx, place.hierarchy, &place.directory)?;
    set_frozen(cx, place, frozen)?;
    if cx.dry() {
        return Ok(());
    }
    // Waiting would not help.
    let above = match frozen {
        true => None,
        false => state_of(cx, place.hierarchy, &tree::parent(&place.directory))?,
    };
    let is_so = if above.is_none() { wait_frozen(cx, place, frozen) } else { Ok(false) };
    let error = match is_so {
        Ok(true) => return Ok(()),
        Ok(false) => why_not(cx, place, frozen, above),
        Err(error) => error,
    };
    if was != frozen {
        set_frozen(cx, place, was).unwrap_or_else(|e| cx.say(&e));
    }
    Err(error)
}

fn why_not(cx: &Cx, place: &Place, frozen: bool, above: Option<Above>) -> Error {
    let shown = plain(place.directory.to_bytes());
    if let Some(above) = above {
        let what = format_args!("{shown} stays frozen, as all below {}", above.shown());
        return Error::refusal(what).way_out(above.way_out());
    }
    let pids = tree::processes_below(cx, &place.directory).unwrap_or_default();
    let names = tree::names(cx, &pids.unwrap_or_default());
    let what = if frozen { "not" } else { "still" };
    Error::refusal(format_args!(
        "{shown} is {what} frozen after 10 seconds, its processes: {names}"
    ))
}

/// Was this cgroup itself told to be frozen?
fn is_frozen(cx: &Cx, hierarchy: &Hierarchy, directory: &CStr) -> Result<bool, Error> {
    Ok(sys::read_file(cx, None, &join(directory, freezing(hierarchy)))?.starts_with(b"1"))
}

/// The file that says so.
fn freezing(hierarchy: &Hierarchy) -> &'static [u8] {
    if hierarchy.v2 { b"cgroup.freeze" } else { b"freezer.self_freezing" }
}

fn set_frozen(cx: &Cx, place: &Place, frozen: bool) -> Result<(), Error> {
    let (file, value): (&[u8], &[u8]) = match (place.hierarchy.v2, frozen) {
        (true, false) => (b"cgroup.freeze", b"0"),
        (true, true) => (b"cgroup.freeze", b"1"),
        (false, false) => (b"freezer.state", b"THAWED"),
        (false, true) => (b"freezer.state", b"FROZEN"),
    };
    write_file(cx, &join(&place.directory, file), value)
}

/// False: the time is over.
fn wait_frozen(cx: &Cx, place: &Place, frozen: bool) -> Result<bool, Error> {
    if place.hierarchy.v2 {
        let line = if frozen { b"frozen 1" } else { b"frozen 0" };
        return event(cx, &place.directory, line, &mut Some(LONG));
    }
    // Version 1 is FREEZING until the last process is FROZEN. Who has just gone to sleep may have missed it and
    // must be told again: freezer-subsystem.rst.
    let state: &[u8] = if frozen { b"FROZEN" } else { b"THAWED" };
    let file = join(&place.directory, b"freezer.state");
    let mut patience = Patience(LONG);
    while !sys::read_file(cx, None, &file)?.starts_with(state) {
        if !patience.wait(cx)? {
            return Ok(false);
        }
        set_frozen(cx, place, frozen)?;
    }
    Ok(true)
}

/// A cgroup that is frozen, with all below it.
enum Above {
    /// Its name from the mount point of the hierarchy.
    Named(String),
    /// The mount point, or one above that.
    Hidden(String),
}

impl Above {
    fn shown(&self) -> &str {
        let (Above::Named(shown) | Above::Hidden(shown)) = self;
        shown
    }

    fn way_out(&self) -> String {
        match self {
            Above::Named(name) => ["td-cgroup --thaw ", name].concat(),
            Above::Hidden(_) => "thaw it from outside".into(),
        }
    }
}

/// The nearest cgroup, from this one up, that was told to be frozen. One that does not exist yet is not.
fn state_of(cx: &Cx, hierarchy: &Hierarchy, directory: &CStr) -> Result<Option<Above>, Error> {
    let mut directory = CString::from(directory);
    loop {
        let name = match directory.to_bytes().strip_prefix(&hierarchy.point[..]) {
            None => return Ok(None),
            Some(b"") => break,
            Some(name) => name,
        };
        let frozen = is_frozen(cx, hierarchy, &directory);
        if frozen.or_else(|e| if is_gone(&e) { Ok(false) } else { Err(e) })? {
            return Ok(Some(Above::Named(plain(name))));
        }
        directory = tree::parent(&directory);
    }
    // What is mounted may be a part. The root of all cannot be frozen and has no such file.
    let file: &[u8] = if hierarchy.v2 { b"cgroup.events" } else { b"freezer.state" };
    let frozen = cgroup::read_word(cx, &directory, file)?.is_some_and(|state| match hierarchy.v2 {
        true => text::has(state.as_bytes(), b'\n', b"frozen 1"),
        false => state != "THAWED",
    });
    Ok(frozen.then(|| Above::Hidden(plain(directory.to_bytes()))))
}

/// A cgroup in which no process goes on.
pub struct Frozen {
    /// On version 2 SIGKILL ends a process in it; on version 1 it must be thawed for that.
    pub v2: bool,
    above: Above,
}

impl Frozen {
    /// What is so, and the way out.
    pub fn add_to(&self, error: Error) -> Error {
        error.because(self.what()).way_out(self.above.way_out())
    }

    fn what(&self) -> String {
        [self.above.shown(), " is frozen: no process in it goes on"].concat()
    }
}

/// Is a cgroup frozen, itself or by one above it? Whoever enters it stops for ever.
pub fn frozen(cx: &Cx, hierarchy: &Hierarchy, directory: &CStr) -> Result<Option<Frozen>, Error> {
    if !can_freeze(hierarchy) {
        return Ok(None);
    }
    let above = state_of(cx, hierarchy, directory)?;
    Ok(above.map(|above| Frozen { v2: hierarchy.v2, above }))
}

/// Refuse to enter one that is.
pub fn refuse_frozen(cx: &Cx, hierarchy: &Hierarchy, directory: &CStr) -> Result<(), Error> {
    match frozen(cx, hierarchy, directory)? {
        Some(frozen) => Err(Error::refusal(frozen.what()).way_out(frozen.above.way_out())),
        None => Ok(()),
    }
}

/// Is the cgroup of a process frozen? Where `/proc` does not say it, it is taken to go on.
pub fn frozen_process(cx: &Cx, pid: i32) -> Option<Frozen> {
    let path = proc::path(&["/proc/", &number(pid as u64), "/cgroup"]);
    let text = sys::read_file(cx, None, &path).ok()?;
    Record::parse(cx, &text, Wanted::Freezers).ok()?.frozen(cx).ok()?
}

/// Thaw a cgroup that was told to be frozen, and do not wait for it.
pub fn thaw(cx: &Cx, place: &Place) -> Result<(), Error> {
    let told = can_freeze(place.hierarchy) && is_frozen(cx, place.hierarchy, &place.directory)?;
    if told { unless_gone(set_frozen(cx, place, false)) } else { Ok(()) }
}

// ---- killed ----

/// Kill every process of a cgroup, and of those below it, in every hierarchy that has it.
/// Waits until they are gone, 10 seconds at most.
pub fn kill(cx: &Cx, places: &[Place]) -> Result<(), Error> {
    refuse_own(places)?;
    for place in places.iter().filter(|place| place.hierarchy.v2) {
        // All at once, those that are just being born too, and those that a pid namespace hides from us.
        unless_gone(write_file(cx, &join(&place.directory, b"cgroup.kill"), b"1"))?;
    }
    // Version 1: where they are frozen nobody can fork while we read who they are.
    let freezer = places.iter().find(|place| place.hierarchy.has(b"freezer"));
    if let Some(place) = freezer {
        let frozen = set_frozen(cx, place, true).and_then(|()| wait_frozen(cx, place, true));
        let killed = unless_gone(frozen.map(drop)).and_then(|()| kill_all(cx, places));
        thaw_all(cx, place)?;
        killed?;
    }
    // Without it, again and again.
    let mut patience = Patience(DYING);
    while kill_all(cx, places)? && patience.wait(cx)? {}
    if cx.dry() { Ok(()) } else { gone(cx, places, Some(LONG)) }
}

/// The same without waiting, nor for those that are born meanwhile on version 1.
pub fn kill_now(cx: &Cx, places: &[Place]) -> Result<(), Error> {
    for place in places.iter().filter(|place| place.hierarchy.v2) {
        unless_gone(write_file(cx, &join(&place.directory, b"cgroup.kill"), b"1"))?;
    }
    kill_all(cx, places)?;
    let mut freezers = places.iter().filter(|place| place.hierarchy.has(b"freezer"));
    freezers.try_for_each(|place| thaw_all(cx, place))
}

/// Who waits for the end of those that are killed may remove the cgroup.
fn unless_gone(result: Result<(), Error>) -> Result<(), Error> {
    result.or_else(|e| if is_gone(&e) { Ok(()) } else { Err(e) })
}

/// Kill who is in these cgroups of version 1 now. False: nobody is.
fn kill_all(cx: &Cx, places: &[Place]) -> Result<bool, Error> {
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

/// Those below may have been frozen by themselves: who is frozen does not die.
fn thaw_all(cx: &Cx, place: &Place) -> Result<(), Error> {
    let thaw = &mut |walk: &tree::Walk, _: sys::At, _: &CStr| {
        unless_gone(sys::write_file(cx, Some(walk.here()), c"freezer.state", b"THAWED"))
    };
    tree::for_each(cx, &place.directory, thaw).map(drop)
}

/// Was a cgroup, or one of those below it, told to be frozen?
pub fn has_frozen(cx: &Cx, hierarchy: &Hierarchy, directory: &CStr) -> Result<bool, Error> {
    if !can_freeze(hierarchy) {
        return Ok(false);
    }
    let (file, mut frozen) = (cstring(freezing(hierarchy)), false);
    tree::for_each(cx, directory, &mut |walk, _, _| {
        match sys::read_file(cx, Some(walk.here()), &file) {
            Err(e) if is_gone(&e) => {}
            other => frozen |= other?.starts_with(b"1"),
        }
        Ok(())
    })?;
    Ok(frozen)
}

// ---- gone ----

/// Wait until no process is in a cgroup nor in those below it; `time` is in nanoseconds, `None` without an end.
pub fn wait_empty(cx: &Cx, places: &[Place], time: Option<i64>) -> Result<(), Error> {
    refuse_own(places)?;
    if cx.dry() {
        return Ok(());
    }
    gone(cx, places, time).map_err(|e| if e.errno().is_none() { e.with_status(OVER) } else { e })
}

/// Wait until nobody is in any of these cgroups, nor below them. A refusal: the time is over.
fn gone(cx: &Cx, places: &[Place], mut time: Option<i64>) -> Result<(), Error> {
    for place in places {
        let empty = match place.hierarchy.v2 {
            true => event(cx, &place.directory, b"populated 0", &mut time),
            false => wait_for_each(cx, &place.directory, &mut time),
        };
        match empty {
            Err(e) if is_gone(&e) => {} // removed, so it was empty
            Ok(false) => {
                let pids = tree::processes_below(cx, &place.directory)?.unwrap_or_default();
                let directory = plain(place.directory.to_bytes());
                let error = Error::refusal(tree::living(cx, &directory, &pids));
                // Who is frozen ends neither by itself nor, on version 1, by a signal.
                let mut all = places.iter();
                let frozen = |p: &Place| frozen(cx, p.hierarchy, &p.directory).ok().flatten();
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

/// Version 1: wait for the end of one process after the other. Now and then we look whether it is still there,
/// for it may have moved away: more and more rarely, since a look costs memory that is never given back.
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
    let count = cgroup::read_word(cx, directory, b"pids.current")?;
    Ok(own.ino != PID_NS_INIT_INO && count.is_some_and(|count| count != "0"))
}

/// Remove what an earlier run has left of the cgroup `name`; but where something lives in it, nothing.
pub fn remove_dead(cx: &Cx, hierarchies: &[Hierarchy], name: &[u8]) -> Result<(), Error> {
    let places = cgroup::places(cx, hierarchies, name)?;
    let way_out = || ["td-cgroup --kill ", &plain(name), " ends them"].concat();
    gone(cx, &places, Some(DYING))
        .map_err(|e| if e.errno().is_none() { e.way_out(way_out()) } else { e })?;
    tree::remove(cx, &cgroup::directories(&places))
}
