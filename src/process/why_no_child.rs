//! Why there is no new process, or why a process may not go on: fork(2), clone(2), execve(2), EAGAIN and ENOMEM.
//!
//! A limit that is seen to be reached is the cause. What cannot be seen, or has room again by now, is said with
//! "perhaps", each candidate in a line. A limit that does not bind this process is never named.

use std::ffi::CStr;

use syscalls::Errno;

use crate::cgroup::file;
use crate::cgroup::hierarchies::{self, Hierarchy};
use crate::ids::caps::{CAP_SYS_ADMIN, CAP_SYS_RESOURCE};
use crate::ids::user_namespace;
use crate::process::processes::{self, Count};
use crate::say::error::Error;
use crate::say::flags::{self, Names, Table};
use crate::say::number::decimal;
use crate::say::show::{self, plain};
use crate::say::text::{lines, pair, split};
use crate::sys::proc::{self, number};
use crate::sys::{self, Cx};

/// Of a limit that is outside of what this process sees.
const UNSEEN: &str = " is reached, which cannot be seen here";

/// Why clone(2) made no process; `into`: the cgroup of version 2 where it was to start, as `/proc/PID/cgroup` has it.
pub fn why(cx: &Cx, into: Option<&[u8]>, error: Error) -> Error {
    let _looking = cx.looking();
    // Behind that, names may lead anywhere.
    let has_proc = || proc::root(cx).is_ok();
    match error.errno() {
        Some(Errno::EAGAIN) if has_proc() => why_too_many(cx, into, error),
        Some(Errno::EAGAIN) => candidates(error, own_limit(cx, true).into_iter().map(perhaps_own)),
        Some(Errno::ENOMEM) if has_proc() => why_no_memory(cx, error),
        _ => error,
    }
}

/// Why execve(2) was refused with EAGAIN: the user has had more processes than RLIMIT_NPROC allows since the last
/// change of ids. That binds everybody but root, whatever capabilities there are.
pub fn why_not_executed(cx: &Cx, error: Error) -> Error {
    let Some(limit) = own_limit(cx, false) else { return error };
    match limit.count.as_ref() {
        Some(count) if limit.is_exact && count.of_user > limit.most => {
            error.because(limit.reached())
        }
        _ => candidates(error, [perhaps_own(limit)]),
    }
}

/// A reason by elimination each: the first with "perhaps", the others with "or perhaps".
fn candidates(mut error: Error, all: impl IntoIterator<Item = String>) -> Error {
    for (i, candidate) in all.into_iter().enumerate() {
        error =
            error.because([if i == 0 { "perhaps " } else { "or perhaps " }, &candidate].concat());
    }
    error
}

fn why_too_many(cx: &Cx, into: Option<&[u8]>, error: Error) -> Error {
    let hierarchies = hierarchies::list(cx).unwrap_or_default();
    let cgroups = Cgroups::of(cx, hierarchies::of_controller(&hierarchies, b"pids"), into);
    if let Some(reached) = cgroups.reached {
        return error.because(reached);
    }
    let own = own_limit(cx, true);
    let count = own.as_ref().and_then(|limit| limit.count.as_ref());
    if let (Some(limit), Some(count)) = (&own, count) {
        if limit.is_exact && count.of_user >= limit.most {
            return error.because(limit.reached());
        }
    }
    let ids = ids_used_up(cx);
    candidates(error, own.map(perhaps_own).into_iter().chain(cgroups.perhaps).chain(ids))
}

/// The limits of processes in the cgroup where the process would have been, and above it.
struct Cgroups {
    /// One that is reached, in words.
    reached: Option<String>,
    /// Those that may have been.
    perhaps: Vec<String>,
}

impl Cgroups {
    fn of(cx: &Cx, pids: Option<&Hierarchy>, into: Option<&[u8]>) -> Cgroups {
        let mut found = Cgroups { reached: None, perhaps: Vec::new() };
        // On version 1 the child goes there by itself.
        let levels = pids.and_then(|pids| {
            let into = into.filter(|_| pids.v2);
            let name = into.map_or(Some(&b""[..]), |path| pids.below(path))?;
            pids.levels(name)
        });
        let Some((levels, _)) = levels else {
            found.perhaps.push(["pids.max of a cgroup", UNSEEN].concat());
            return found;
        };
        for (depth, level) in levels.iter().enumerate() {
            let read = |name: &[u8]| sys::read_file(cx, None, &file::join(level, name)).ok();
            let Some(most) = read(b"pids.max") else { continue };
            let shown = plain(level.to_bytes());
            if depth == 0 {
                // The root of a hierarchy has no such file.
                found.perhaps.push(["pids.max of a cgroup above ", &shown, UNSEEN].concat());
            }
            let Some(most) = number(&most) else { continue }; // max
            let now = read(b"pids.current").and_then(|now| number(&now)).unwrap_or(0);
            let refused = read(b"pids.events").is_some_and(|events| has_refused(&events));
            let [shown_most, shown_now] = [most, now].map(show::number);
            if now >= most {
                let parts = [
                    &shown,
                    "/pids.max allows ",
                    &shown_most,
                    " processes, and ",
                    &shown_now,
                    " exist",
                ];
                found.reached = Some(parts.concat());
            } else if refused {
                let parts = [
                    &shown,
                    "/pids.max was reached: it allows ",
                    &shown_most,
                    ", and now ",
                    &shown_now,
                    " exist",
                ];
                found.perhaps.push(parts.concat());
            }
        }
        found
    }
}

/// Has a limit of processes been reached since the cgroup was made? `max N`.
fn has_refused(events: &[u8]) -> bool {
    lines(events).any(|line| line.strip_prefix(b"max ").and_then(decimal).is_some_and(|n| n > 0))
}

/// RLIMIT_NPROC of a process that it binds.
struct OwnLimit {
    most: u64,
    uid: u32,
    /// What /proc shows of the user's processes.
    count: Option<Count>,
    /// Does the kernel count what /proc shows? In another user namespace it counts apart.
    is_exact: bool,
}

impl OwnLimit {
    fn reached(&self) -> String {
        let count = self.count.as_ref().map_or(0, |count| count.of_user);
        let [most, uid, count] = [self.most, self.uid.into(), count].map(show::number);
        [
            "RLIMIT_NPROC allows uid ",
            &uid,
            " ",
            &most,
            " processes and threads, and ",
            &count,
            " exist",
        ]
        .concat()
    }
}

fn perhaps_own(limit: OwnLimit) -> String {
    let most = show::number(limit.most);
    ["RLIMIT_NPROC is reached: it allows this user ", &most, " processes"].concat()
}

/// RLIMIT_NPROC, where it binds this process: not root of the machine and, `of_fork`, none whose capabilities there
/// let it pass: kernel/fork.c, fs/exec.c.
fn own_limit(cx: &Cx, of_fork: bool) -> Option<OwnLimit> {
    const NPROC: Table =
        &Names { values: &[flags::fitting(libc::RLIMIT_NPROC as u64)], names: "RLIMIT_NPROC" };
    let limit = sys::getrlimit(cx, libc::RLIMIT_NPROC as u64, NPROC).ok()?;
    if limit.soft == libc::RLIM64_INFINITY {
        return None;
    }
    let is_initial = user_namespace::is_initial(cx);
    let most = limit.soft;
    let status = proc::root(cx).and_then(|_| sys::read_file(cx, None, c"/proc/self/status"));
    let uid = status.ok().and_then(|status| processes::real_uid(&status));
    let Some(uid) = uid else {
        // Of a process without /proc only the effective id is known, which may have changed.
        return Some(OwnLimit { most, uid: cx.start.euid, count: None, is_exact: false });
    };
    let map = if is_initial {
        Vec::new()
    } else {
        sys::read_file(cx, None, c"/proc/self/uid_map").ok()?
    };
    let is_root = if is_initial { uid == 0 } else { is_root_outside(&map, uid) };
    let passes = 1 << CAP_SYS_ADMIN | 1 << CAP_SYS_RESOURCE;
    let has_right =
        of_fork && is_initial && sys::capget(cx).is_ok_and(|own| own.effective() & passes != 0);
    if is_root || has_right {
        return None;
    }
    let count = processes::count(cx, uid);
    Some(OwnLimit { most, uid, count, is_exact: is_initial })
}

/// Is an id of a user namespace, by its uid_map, the id 0 of the one outside?
fn is_root_outside(map: &[u8], uid: u32) -> bool {
    lines(map).any(|line| {
        let mut fields = split(line, b' ').filter(|field| !field.is_empty()).map(decimal);
        let mut next = || fields.next().flatten();
        matches!((next(), next()), (Some(inside), Some(0)) if inside == u64::from(uid))
    })
}

/// Are so many process ids in use that there may be none left? Those below 300 are given out once only:
/// RESERVED_PIDS of linux/threads.h.
fn ids_used_up(cx: &Cx) -> Option<String> {
    let most = number(&sys::read_file(cx, None, c"/proc/sys/kernel/pid_max").ok()?)?;
    // `0.5 0.4 0.3 RUNNING/ALL LAST`: of the whole machine.
    let load = sys::read_file(cx, None, c"/proc/loadavg").ok()?;
    let machine = split(&load, b' ').nth(3).and_then(|n| decimal(pair(n, b'/')?.1))?;
    if machine.saturating_add(300) < most {
        return None;
    }
    let all = processes::count(cx, u32::MAX)?.all;
    if all.saturating_add(300) < most {
        return None;
    }
    let [most, all] = [most, all].map(show::number);
    Some(
        [
            "kernel.pid_max is reached: all process ids are below ",
            &most,
            ", and ",
            &all,
            " processes and threads exist",
        ]
        .concat(),
    )
}

/// In a pid namespace whose process 1 has ended there is no other. (Memory that has run out needs no explanation.)
fn why_no_memory(cx: &Cx, error: Error) -> Error {
    const ENDED: &str = "process 1 of the pid namespace for new children has ended";
    let look = |ns: &CStr| sys::statx(cx, None, ns, 0);
    // While it has no process yet there is no such link.
    let (Ok(own), Ok(children)) =
        (look(c"/proc/self/ns/pid"), look(c"/proc/self/ns/pid_for_children"))
    else {
        return error;
    };
    if own.same_file(&children) {
        return error;
    }
    let error = match processes::first_lives(cx, &children) {
        Some(true) => return error,
        Some(false) => error.because(ENDED),
        None => candidates(error, [ENDED.into()]),
    };
    error.way_out("create a new one: unshare --pid --fork")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_was_reached_has_counted_it() {
        assert!(has_refused(b"max 3\n"));
        for text in [&b"max 0\n"[..], b"", b"max x\n", b"maximum 3\n"] {
            assert!(!has_refused(text));
        }
    }

    #[test]
    fn root_outside_is_known_by_the_map() {
        assert!(is_root_outside(b"         0          0 4294967295\n", 0));
        assert!(is_root_outside(b"5 0 1\n0 1000 1\n", 5));
        for (map, uid) in [(&b"0 1000 1\n"[..], 0), (b"0 0 1\n", 1), (b"", 0), (b"0\n", 0)] {
            assert!(!is_root_outside(map, uid));
        }
    }
}
