//! Was a process of a cgroup killed because memory ran out, and which limit did it reach?

use std::cell::Cell;
use std::ffi::CStr;

use syscalls::Errno;

use crate::cgroup::file::join;
use crate::cgroup::hierarchies::{self, Hierarchy};
use crate::cgroup::places;
use crate::say::number::decimal;
use crate::say::show;
use crate::say::text::lines;
use crate::sys::{self, Cx};

/// How a process was killed because memory ran out.
pub struct Killed {
    /// In words, which follow the name of the process.
    pub how: String,
    /// The limit that was reached, in bytes, if it is one of the cgroup that was asked about.
    pub limit: Option<u64>,
}

/// How a process was killed because memory ran out, as far as the cgroup `limited` and the cgroup
/// `leaf` below it, where the processes were, can tell. `None`: they have counted none.
pub fn how_killed(cx: &Cx, limited: &CStr, leaf: &CStr) -> Option<Killed> {
    let hierarchies = hierarchies::list(cx).ok()?;
    let memory = hierarchies::of_controller(&hierarchies, b"memory")?;
    let directory = |typed| memory.directory(&places::name(&hierarchies, typed).ok()?);
    how_killed_in(cx, memory, &directory(limited)?, &directory(leaf)?)
}

/// How a process was killed, of the directories of both cgroups in the hierarchy of memory.
pub fn how_killed_in(cx: &Cx, memory: &Hierarchy, limited: &CStr, leaf: &CStr) -> Option<Killed> {
    // If a file cannot be read, its limit is not assumed to be unreached.
    let unread = Cell::new(false);
    let count = |cgroup: &CStr, file: &[u8], key: &[u8]| {
        let text = sys::read_file(cx, None, &join(cgroup, file));
        let text = text.inspect_err(|e| unread.set(unread.get() || !e.is(Errno::ENOENT))).ok()?;
        lines(&text).find_map(|line| decimal(line.strip_prefix(key)?))
    };
    // Version 1 counts a killed process only in its own cgroup, not in those above: Linux 4.13.
    let kills: &[u8] = if memory.v2 { b"memory.events" } else { b"memory.oom_control" };
    let killed = |cgroup| count(cgroup, kills, b"oom_kill ") > Some(0);
    if !killed(limited) && !killed(leaf) {
        return None;
    }
    let limit = |file| count(limited, file, b"");
    // Each of these files is there for one version alone. The last limit, of memory and swap together, has a
    // memory.memsw.failcnt, which Linux 6.18 leaves at 0.
    let swap = limit(b"memory.memsw.limit_in_bytes");
    let reached = if count(limited, b"memory.events.local", b"oom ") > Some(0) {
        limit(b"memory.max")
    } else if limit(b"memory.failcnt") > Some(0) {
        limit(b"memory.limit_in_bytes")
    } else {
        swap.filter(|_| limit(b"memory.memsw.max_usage_in_bytes") >= swap)
    };
    let how = match reached {
        Some(limit) => format!("was killed by the memory limit of {}", show::size(limit)),
        None if unread.get() => "was killed because memory ran out".into(),
        None => "was killed because the memory of the machine or of another cgroup ran out".into(),
    };
    Some(Killed { how, limit: reached })
}
