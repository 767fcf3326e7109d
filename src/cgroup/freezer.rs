//! Freezing a cgroup and thawing it, and whether it is frozen.
//!
//! Version 2 says in cgroup.events when it is so, and poll(2) waits for that. Version 1 must be looked at now and then.

use std::ffi::{CStr, CString};

use crate::cgroup::file::{self, is_gone, join, parent, read_word};
use crate::cgroup::hierarchies::Hierarchy;
use crate::cgroup::places::{self, ExistingCgroup};
use crate::cgroup::tree::{self, LONG, TimeLeft, unless_gone};
use crate::say::error::Error;
use crate::say::show::plain;
use crate::say::text;
use crate::sys::{self, Cx, cstring};

/// Freeze or thaw every process of a cgroup, and of those below it, and wait until all are, 10 seconds at most. To
/// freeze, one hierarchy is enough: where version 2 has it, all its processes are there too. It is thawed in each
/// hierarchy, whoever has frozen it there. `shown` is how a message names it.
pub fn freeze(cx: &Cx, places: &[ExistingCgroup], shown: &str, frozen: bool) -> Result<(), Error> {
    if frozen {
        places::refuse_own(places)?;
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
    let why = ": this cgroup is neither in version 2 nor in the freezer of version 1";
    Err(Error::refusal(format_args!("{shown}{why}")))
}

fn can_freeze(hierarchy: &Hierarchy) -> bool {
    hierarchy.v2 || hierarchy.has(b"freezer")
}

fn freeze_in(cx: &Cx, place: &ExistingCgroup, frozen: bool) -> Result<(), Error> {
    let was = is_frozen(cx, place.hierarchy, &place.directory)?;
    set_frozen(cx, place, frozen)?;
    if cx.dry() {
        return Ok(());
    }
    // Waiting would not help.
    let above = match frozen {
        true => None,
        false => state_of(cx, place.hierarchy, &parent(&place.directory))?,
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

fn why_not(cx: &Cx, place: &ExistingCgroup, frozen: bool, above: Option<Above>) -> Error {
    let _looking = cx.looking();
    let shown = plain(place.directory.to_bytes());
    if let Some(above) = above {
        let what = format!("{shown} stays frozen, because {} is frozen", above.shown());
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

pub(super) fn set_frozen(cx: &Cx, place: &ExistingCgroup, frozen: bool) -> Result<(), Error> {
    let (file, value): (&[u8], &[u8]) = match (place.hierarchy.v2, frozen) {
        (true, false) => (b"cgroup.freeze", b"0"),
        (true, true) => (b"cgroup.freeze", b"1"),
        (false, false) => (b"freezer.state", b"THAWED"),
        (false, true) => (b"freezer.state", b"FROZEN"),
    };
    file::write(cx, &join(&place.directory, file), value)
}

/// False: the time is over.
pub(super) fn wait_frozen(cx: &Cx, place: &ExistingCgroup, frozen: bool) -> Result<bool, Error> {
    if place.hierarchy.v2 {
        let line = if frozen { b"frozen 1" } else { b"frozen 0" };
        return file::wait_for_event(cx, &place.directory, line, &mut Some(LONG));
    }
    // Version 1 is FREEZING until the last process is FROZEN. A process that has just gone to sleep may have missed it
    // and must be told again: freezer-subsystem.rst.
    let state: &[u8] = if frozen { b"FROZEN" } else { b"THAWED" };
    let file = join(&place.directory, b"freezer.state");
    let mut time_left = TimeLeft(LONG);
    while !sys::read_file(cx, None, &file)?.starts_with(state) {
        if !time_left.wait(cx)? {
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
    // Version 1 says of all levels at once that none is. (Version 2 says it when the last process has stopped.)
    if !hierarchy.v2 && read_word(cx, directory, b"freezer.state")?.is_some_and(|is| is == "THAWED")
    {
        return Ok(None);
    }
    let mut directory = CString::from(directory);
    loop {
        let name = match directory.to_bytes().strip_prefix(hierarchy.point) {
            None => return Ok(None),
            Some(b"") => break,
            Some(name) => name,
        };
        let frozen = is_frozen(cx, hierarchy, &directory);
        if frozen.or_else(|e| if is_gone(&e) { Ok(false) } else { Err(e) })? {
            return Ok(Some(Above::Named(plain(name))));
        }
        directory = parent(&directory);
    }
    // What is mounted may be a part. The root of all cannot be frozen and has no such file.
    let file: &[u8] = if hierarchy.v2 { b"cgroup.events" } else { b"freezer.state" };
    let frozen = read_word(cx, &directory, file)?.is_some_and(|state| match hierarchy.v2 {
        true => text::has(state.as_bytes(), b'\n', b"frozen 1"),
        false => state != "THAWED",
    });
    Ok(frozen.then(|| Above::Hidden(plain(directory.to_bytes()))))
}

/// A cgroup in which no process runs.
pub struct Frozen {
    /// On version 2 SIGKILL ends a process in it; on version 1 it must be thawed for that.
    pub v2: bool,
    above: Above,
}

impl Frozen {
    /// The cause, and the way out.
    pub fn add_to(&self, error: Error) -> Error {
        error.because(self.what()).way_out(self.above.way_out())
    }

    fn what(&self) -> String {
        [self.above.shown(), " is frozen: no process in it runs"].concat()
    }
}

/// Is a cgroup frozen, itself or by one above it? A process that enters it stops until it is thawed.
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

/// Thaw a cgroup that was told to be frozen, and do not wait for it.
pub fn thaw(cx: &Cx, place: &ExistingCgroup) -> Result<(), Error> {
    let told = can_freeze(place.hierarchy) && is_frozen(cx, place.hierarchy, &place.directory)?;
    if told { unless_gone(set_frozen(cx, place, false)) } else { Ok(()) }
}

/// Cgroups below it may be frozen separately, and a frozen process does not die.
pub(super) fn thaw_all(cx: &Cx, place: &ExistingCgroup) -> Result<(), Error> {
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
