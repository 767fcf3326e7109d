//! Controllers of version 2: they are turned on from the root down, in each cgroup for those below it. A cgroup that
//! passes controllers down cannot have processes of its own: cgroups(7).

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;

use syscalls::Errno;

use crate::cgroup::file::{self, join, named, procs, read_word, shown_word, why_refused};
use crate::cgroup::hierarchies::{CONTROLLERS, Hierarchy};
use crate::cgroup::mount;
use crate::cgroup::proc_pid_cgroup::{bound_to_v1, why_on_v1};
use crate::cgroup::tree::{self, DYING, TimeLeft};
use crate::cgroup::wanted::Wanted;
use crate::say::error::Error;
use crate::say::show::{plain, signed};
use crate::say::text;
use crate::sys::{self, Cx};

/// A level whose processes were moved to a leaf below it.
struct Moved {
    level: CString,
    leaf: CString,
    /// Was the leaf created for that? Then every process in it is moved back.
    made: bool,
    /// Who was moved.
    pids: Vec<i32>,
    /// What turns the controllers off again that were turned on there since.
    off: Vec<Vec<u8>>,
}

/// The controllers that this process has turned on so far, and the processes that it has moved for that.
#[derive(Default)]
pub struct Controllers {
    /// The cgroup to which processes that prevent this are moved, if they may be moved.
    move_to_leaf: Option<CString>,
    /// The controllers that are on by now, each with its level, so that several limits need only one check.
    turned_on: Vec<CString>,
    /// The levels whose processes were moved to a leaf.
    moved: Vec<Moved>,
}

impl Controllers {
    /// None yet. `move_to_leaf`: see there.
    pub fn new(move_to_leaf: Option<CString>) -> Controllers {
        Controllers { move_to_leaf, ..Controllers::default() }
    }

    /// The cgroup of a process that was in the directory `level`: `level` itself, or the leaf to which it was moved.
    pub fn moved_from<'a>(&'a self, level: &'a CString) -> &'a CString {
        let moved = self.moved.iter().find(|moved| moved.level == *level);
        moved.map_or(level, |moved| &moved.leaf)
    }

    /// Turn controllers on, if version 2 has them. The first row that is true decides:
    ///
    /// | the cgroup `name` | controllers are on for | one that cannot be |
    /// |---|---|---|
    /// | is given away | those below it, and itself | is an error |
    /// | is to be counted, and has a `/` in its name | itself | is an error |
    /// | is a `container`'s, and the caller is not above it, or is in the root | itself | is left off |
    /// | is any other | nobody | |
    ///
    /// (The caller itself prevents controllers in its own cgroup, but not in the root.)
    pub fn pass_down(
        &mut self,
        cx: &Cx,
        hierarchy: &Hierarchy,
        name: &[u8],
        wanted: &Wanted,
        container: bool,
    ) -> Result<(), Error> {
        let levels = hierarchy.levels(name).map_or(Vec::new(), |(levels, _)| levels);
        let (Some((_, above)), Some(root)) = (levels.split_last(), levels.first()) else {
            return Ok(());
        };
        let apart = name.starts_with(b"/") || above.len() == 1 && !has_type(cx, root)?;
        let (levels, must) = match wanted {
            Wanted { delegated: true, .. } => (&levels[..], true),
            Wanted { count: true, .. } if name.contains(&b'/') => (above, true),
            _ if container && apart => (above, false),
            _ => return Ok(()),
        };
        let offered = read_word(cx, root, b"cgroup.controllers")?.unwrap_or_default(); // a dry run's may not exist
        for controller in CONTROLLERS {
            if text::has(offered.as_bytes(), b' ', controller) {
                // What is not counted there, --stat says.
                self.turn_on(cx, levels, controller)
                    .or_else(|e| if must { Err(e) } else { Ok(()) })?;
            }
        }
        Ok(())
    }

    /// Turn a controller on in each of these directories, from the root down, where it is not on.
    pub fn turn_on(&mut self, cx: &Cx, levels: &[CString], controller: &[u8]) -> Result<(), Error> {
        for level in levels {
            let turned_on = join(level, controller);
            if self.turned_on.contains(&turned_on) {
                continue;
            }
            self.turned_on.push(turned_on);
            let on = match sys::read_file(cx, None, &join(level, b"cgroup.subtree_control")) {
                Err(e) if cx.dry() && e.is(Errno::ENOENT) => Vec::new(), // not made
                other => other?,
            };
            if text::has(on.trim_ascii(), b' ', controller) {
                continue;
            }
            match (turn_on_in(cx, level, controller), &self.move_to_leaf) {
                (Err((_, true)), Some(leaf)) => {
                    let leaf = join(level, leaf.to_bytes());
                    self.empty(cx, level, leaf)?;
                    turn_on_in(cx, level, controller).map_err(|(e, _)| e)?;
                }
                (result, _) => result.map_err(|(e, _)| e)?,
            }
            if let Some(moved) = self.moved.iter_mut().find(|moved| moved.level == *level) {
                moved.off.push([b"-", controller].concat());
            }
        }
        Ok(())
    }

    /// Move the processes of a level to a leaf below it.
    fn empty(&mut self, cx: &Cx, level: &CStr, leaf: CString) -> Result<(), Error> {
        let made = match sys::mkdirat(cx, None, &leaf, 0o755) {
            Err(e) if e.is(Errno::EEXIST) => false,
            other => other.map(|()| true).map_err(|e| why_refused(cx, level, e))?,
        };
        let mut pids = Vec::new();
        let result = move_all(cx, level, &leaf, &mut pids);
        self.moved.push(Moved { level: level.into(), leaf, made, pids, off: Vec::new() });
        result
    }

    /// Move the processes back from where they were moved, as far as nobody else counts on it by now.
    pub fn undo(&self, cx: &Cx, results: &mut Vec<Result<(), Error>>) {
        for Moved { level, leaf, made, pids, off } in self.moved.iter().rev() {
            for word in off {
                results.push(file::write(cx, &join(level, b"cgroup.subtree_control"), word));
            }
            if *made {
                results.push(move_all(cx, leaf, level, &mut Vec::new()));
                results.push(sys::unlinkat(cx, None, leaf, libc::AT_REMOVEDIR));
            } else {
                results.push(move_each(cx, pids, level));
            }
        }
    }
}

/// Only the root of version 2 has no type.
fn has_type(cx: &Cx, cgroup: &CStr) -> Result<bool, Error> {
    read_word(cx, cgroup, b"cgroup.type").map(|kind| kind.is_some())
}

/// Turn a controller on in one directory. An error says also whether processes prevent it.
fn turn_on_in(cx: &Cx, level: &CStr, controller: &[u8]) -> Result<(), (Error, bool)> {
    let control = join(level, b"cgroup.subtree_control");
    if let Err(e) = file::write(cx, &control, &[b"+", controller].concat()) {
        let busy = e.is(Errno::EBUSY);
        return Err((why_not_on(cx, level, controller, e), busy));
    }
    // Some controllers can be turned on in a cgroup with processes, but then the cgroups below it are only for threads.
    let kind = read_word(cx, level, b"cgroup.type").map_err(|e| (e, false))?.unwrap_or_default();
    if kind != "domain threaded" {
        return Ok(());
    }
    file::write(cx, &control, &[b"-", controller].concat()).map_err(|e| (e, false))?;
    let (name, shown) = (plain(controller), plain(level.to_bytes()));
    let error = Error::refusal(format_args!(
        "turning {name} on would make {shown} {kind}, and cgroups below it invalid"
    ));
    Err((why_in_the_way(cx, level, error), true))
}

/// Move every process of one directory to another, and note who was moved. Processes that are forked meanwhile are
/// moved in the next round; if they fork too fast, the kernel's error names the cause.
fn move_all(cx: &Cx, from: &CStr, to: &CStr, moved: &mut Vec<i32>) -> Result<(), Error> {
    let mut time_left = TimeLeft(DYING);
    loop {
        let pids = tree::processes(cx, None, &procs(from))?;
        // To write 0 would move this process.
        if pids.is_empty() || pids.contains(&0) {
            return Ok(());
        }
        moved.extend(&pids);
        move_each(cx, &pids, to)?;
        if !time_left.wait(cx)? {
            return Ok(());
        }
    }
}

fn move_each(cx: &Cx, pids: &[i32], to: &CStr) -> Result<(), Error> {
    let to = procs(to);
    let file = file::open(cx, None, &to, &to)?;
    for pid in pids {
        let mut text = String::new();
        signed("", (*pid).into(), &mut text);
        match sys::write(cx, file.as_fd(), text.as_bytes()) {
            Err(e) if e.is(Errno::ESRCH) => {} // it has just ended
            other => drop(other.map_err(|e| named(&file, &to, e))?),
        }
    }
    Ok(())
}

/// Is the root of what is mounted here not that of the machine?
fn is_root_of_namespace(cx: &Cx) -> bool {
    sys::statx(cx, None, c"/proc/self/ns/cgroup", 0).is_ok() && !mount::in_initial_namespace(cx)
}

/// Why a controller was not turned on.
fn why_not_on(cx: &Cx, level: &CStr, controller: &[u8], error: Error) -> Error {
    let _looking = cx.looking();
    let (name, shown) = (plain(controller), plain(level.to_bytes()));
    match error.errno() {
        Some(Errno::ENOENT | Errno::EINVAL) => {
            let Some(offered) = shown_word(cx, level, b"cgroup.controllers") else { return error };
            if text::has(offered.as_bytes(), b' ', controller) {
                return error;
            }
            let offered = if offered.is_empty() { "none" } else { &offered };
            let error =
                error.because(format_args!("{shown} does not offer {name}; it offers: {offered}"));
            let is_on_v2 = matches!(bound_to_v1(cx, controller), Ok(false));
            let error = why_on_v1(cx, controller, error);
            // ENOENT is only of a controller that the kernel has, and a cgroup has what the one above it passes down.
            match error.is(Errno::ENOENT) && is_on_v2 && is_root_of_namespace(cx) {
                true => error.because(
                    "a cgroup above it, outside this cgroup namespace, does not pass it down",
                ),
                false => error,
            }
        }
        Some(Errno::EBUSY) => why_in_the_way(cx, level, error),
        Some(Errno::EOPNOTSUPP) => match shown_word(cx, level, b"cgroup.type") {
            Some(kind) => {
                error.because(format_args!("{shown} is {kind}: {name} cannot be turned on there"))
            }
            None => error,
        },
        _ => error,
    }
}

fn why_in_the_way(cx: &Cx, level: &CStr, error: Error) -> Error {
    let _looking = cx.looking();
    let pids = tree::processes(cx, None, &procs(level)).unwrap_or_default();
    if pids.is_empty() {
        return error;
    }
    let (shown, pids) = (plain(level.to_bytes()), tree::names(cx, &pids));
    error
        .because(format_args!("{shown} has processes of its own: {pids}"))
        .way_out(
            "a cgroup that passes controllers down cannot have processes: --move-to-leaf NAME moves them",
        )
}
