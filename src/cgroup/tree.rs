//! A cgroup with all those below it: its processes, and its removal.
//!
//! A container may create cgroups below its own, so deep that the path to the last would be too long.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use syscalls::Errno;

use crate::cgroup::file::{GONE, is_gone};
use crate::say::error::Error;
use crate::say::number::decimal;
use crate::say::show::{plain, signed, unsigned};
use crate::say::text;
use crate::sys::structs::SECOND;
use crate::sys::{self, At, Cx, cstring};

/// The position of a walk through a tree: one descriptor goes down and, by `..`, up again. Only names are kept for each
/// level.
pub struct Walk<'a> {
    /// The directory in which it began.
    top: &'a CStr,
    /// The directory in which it is.
    here: OwnedFd,
    /// What is still to be seen, the next last. Those that were entered are the way from `top` to `here`.
    left: Vec<(CString, bool)>,
}

const DIRECTORY: libc::c_int = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;

/// Act on each cgroup below the directory `top`, and on that itself, the lowest first: with the directory that
/// it is in, and its name there. False: there is none.
pub fn for_each(
    cx: &Cx,
    top: &CStr,
    act: &mut dyn FnMut(&Walk, At, &CStr) -> Result<(), Error>,
) -> Result<bool, Error> {
    let here = match sys::openat(cx.expects(GONE), None, top, DIRECTORY) {
        Err(e) if is_gone(&e) => return Ok(false),
        other => other?,
    };
    let mut walk = Walk { top, here, left: Vec::new() };
    walk.look(cx)?;
    loop {
        let here = Some(walk.here.as_fd());
        match walk.left.last_mut() {
            None => return act(&walk, None, top).map(|()| true),
            Some((name, entered @ false)) => {
                match sys::openat(cx.expects(GONE), here, name, DIRECTORY) {
                    Err(e) if is_gone(&e) => drop(walk.left.pop()),
                    other => {
                        *entered = true;
                        walk.here = other?;
                        walk.look(cx)?;
                    }
                }
            }
            Some(_) => {
                let above = sys::openat(cx, here, c"..", DIRECTORY)?;
                let name = walk.left.last().map_or(c"", |(name, _)| name);
                act(&walk, Some(above.as_fd()), name)?;
                walk.here = above;
                walk.left.pop();
            }
        }
    }
}

/// It is not a failure if it was removed meanwhile: a process that waits for the end of the killed ones may remove it.
pub fn unless_gone(result: Result<(), Error>) -> Result<(), Error> {
    result.or_else(|e| if is_gone(&e) { Ok(()) } else { Err(e) })
}

impl Walk<'_> {
    /// Go on with what is below `here`.
    fn look(&mut self, cx: &Cx) -> Result<(), Error> {
        let left = &mut self.left;
        let read = sys::for_each_entry(cx, self.here.as_fd(), &mut |name, kind| {
            if kind == libc::DT_DIR {
                left.push((name.to_owned(), false));
            }
            Ok(())
        });
        read.or_else(|e| if is_gone(&e) { Ok(()) } else { Err(e) })
    }

    /// The directory in which it is.
    pub fn here(&self) -> BorrowedFd<'_> {
        self.here.as_fd()
    }

    /// The path of that directory, for a message.
    fn path(&self) -> String {
        let mut path = self.top.to_bytes().to_vec();
        for (name, entered) in &self.left {
            if *entered {
                path.push(b'/');
                path.extend(name.to_bytes());
            }
        }
        plain(&path)
    }
}

// ---- processes ----

/// The processes in a file cgroup.procs: those in the cgroup, without those below it. One that our pid namespace
/// hides is 0 on version 2; version 1 leaves it out.
pub fn processes(cx: &Cx, directory: At, procs: &CStr) -> Result<Vec<i32>, Error> {
    let text = sys::read_file(cx, directory, procs)?;
    let mut pids = Vec::new();
    for line in text::lines(&text) {
        pids.extend(decimal(line).map(|pid| pid as i32));
    }
    Ok(pids)
}

/// The processes in a cgroup and in those below it. `None`: there is no such cgroup.
pub fn processes_below(cx: &Cx, directory: &CStr) -> Result<Option<Vec<i32>>, Error> {
    let mut pids = Vec::new();
    let found = for_each(cx, directory, &mut |walk, _, _| {
        match processes(cx.expects(GONE), Some(walk.here()), c"cgroup.procs") {
            Err(e) if is_gone(&e) => {}
            other => pids.extend(other?),
        }
        Ok(())
    })?;
    Ok(found.then_some(pids))
}

/// `12 (sh), 15 (sleep)`: processes for a message.
pub fn names(cx: &Cx, pids: &[i32]) -> String {
    const MOST: usize = 10;
    let mut names = String::new();
    for (i, pid) in pids.iter().take(MOST).enumerate() {
        let before = if i > 0 { ", " } else { "" };
        if *pid == 0 {
            names.extend([before, "one of another pid namespace"]);
            continue;
        }
        let mut path = String::new();
        signed("/proc/", (*pid).into(), &mut path);
        signed(before, (*pid).into(), &mut names);
        // It may have just ended.
        if let Ok(comm) = sys::read_file(cx, None, &cstring(path + "/comm")) {
            names.extend([" (", &plain(comm.trim_ascii_end()), ")"]);
        }
    }
    if pids.len() > MOST {
        unsigned(", and ", (pids.len() - MOST) as u64, &mut names);
        names.push_str(" more");
    }
    names
}

/// `PATH still has processes: 12 (sh)`.
pub fn still_has(cx: &Cx, path: &str, pids: &[i32]) -> String {
    match pids {
        [] => [path, " still has processes of another pid namespace"].concat(),
        pids => [path, " still has processes: ", &names(cx, pids)].concat(),
    }
}

/// For how long we wait, in all, and between two looks, in nanoseconds, where the kernel tells us nothing.
pub struct TimeLeft(pub i64);

/// For processes that are dying.
pub const DYING: i64 = 2 * SECOND;
/// How long processes may take to become frozen, or to be gone after they were killed.
pub const LONG: i64 = 10 * SECOND;
const INTERVAL: i64 = 2_000_000;

impl TimeLeft {
    /// Wait a little. False: it is used up; and in a dry run, in which nothing happens meanwhile.
    pub fn wait(&mut self, cx: &Cx) -> Result<bool, Error> {
        if self.0 <= 0 || cx.dry() {
            return Ok(false);
        }
        self.0 -= INTERVAL;
        sys::sleep(cx, INTERVAL).map(|()| true)
    }
}

// ---- removal ----

/// Remove these cgroups, each with those below it first. Waits for what is dying in them, 2 seconds at most. One that
/// does not exist is not a failure.
pub fn remove(cx: &Cx, directories: &[CString]) -> Result<(), Error> {
    let (mut time_left, mut failed) = (TimeLeft(DYING), None);
    for directory in directories {
        // If one directory cannot be removed, still remove the others.
        if let Err(error) = remove_tree(cx, directory, &mut time_left) {
            failed = failed.or(Some(error));
        }
    }
    failed.map_or(Ok(()), Err)
}

fn remove_tree(cx: &Cx, directory: &CStr, time_left: &mut TimeLeft) -> Result<(), Error> {
    loop {
        let mut remove =
            |walk: &Walk, at: At, name: &CStr| remove_one(cx, walk, at, name, time_left);
        match for_each(cx, directory, &mut remove) {
            // Processes that are dying, or another cgroup was made in it meanwhile.
            Err(e) if e.is(Errno::EBUSY) && time_left.wait(cx)? => {}
            other => return other.map(drop),
        }
    }
}

/// Remove the directory in which a walk is.
fn remove_one(
    cx: &Cx,
    walk: &Walk,
    above: At,
    name: &CStr,
    time_left: &TimeLeft,
) -> Result<(), Error> {
    let is_last = time_left.0 <= 0 || cx.dry();
    cx.expects(if is_last { &[Errno::ENOENT] } else { &[Errno::ENOENT, Errno::EBUSY] });
    match sys::unlinkat(cx, above, name, libc::AT_REMOVEDIR) {
        Err(e) if e.is(Errno::ENOENT) => Ok(()), // another was quicker
        Err(e) if e.is(Errno::EBUSY) && is_last => {
            let pids = processes(cx, Some(walk.here()), c"cgroup.procs");
            let Ok(pids) = pids else { return Err(e) };
            Err(e.because(match pids.as_slice() {
                [] => {
                    [&walk.path(), " is in use, but none of its processes is visible here"].concat()
                }
                pids => still_has(cx, &walk.path(), pids),
            }))
        }
        other => other,
    }
}
