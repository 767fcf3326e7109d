//! Why a cgroup is not made, limited, given away or entered: looked for after the failure.

use std::ffi::CStr;

use syscalls::Errno;

use crate::cgroup::device_limits;
use crate::cgroup::file::{join, parent, read_word, shown_word, sum, why_refused};
use crate::cgroup::hierarchies::Hierarchy;
use crate::cgroup::proc_pid_cgroup::why_on_v1;
use crate::cgroup::value::FileValue;
use crate::say::error::Error;
use crate::say::number::decimal;
use crate::say::show::{plain, unsigned};
use crate::say::text;
use crate::sys::{self, Cx};

/// No hierarchy has this controller.
pub fn why_nowhere(cx: &Cx, controller: &[u8]) -> Error {
    let _looking = cx.looking();
    let name = plain(controller);
    let error = Error::refusal(format_args!("{name}: no mounted hierarchy has this controller"));
    if controller == b"cgroup" {
        return error.because("files called cgroup.* are those of version 2, which is not mounted");
    }
    why_on_v1(cx, controller, error)
}

/// Why a cgroup was not given away.
pub fn why_not_delegated(cx: &Cx, error: Error) -> Error {
    let _looking = cx.looking();
    match (error.errno(), cx.start.euid) {
        (Some(Errno::EPERM), we @ 1..) => {
            let mut why = String::from("only root may delegate a cgroup; this process has uid");
            unsigned(" ", we.into(), &mut why);
            error.because(why)
        }
        _ => error,
    }
}

/// Why a cgroup was not made.
pub fn why_no_directory(cx: &Cx, directory: &CStr, error: Error) -> Error {
    let _looking = cx.looking();
    let above = parent(directory);
    if !error.is(Errno::EAGAIN) {
        return why_refused(cx, &above, error);
    }
    // A cgroup above allows no more: check them from the lowest up.
    let mut level = above;
    let mut depth = 1;
    while let Some(text) = shown_word(cx, &level, b"cgroup.max.depth") {
        let shown = plain(level.to_bytes());
        if decimal(text.as_bytes()).is_some_and(|most| most < depth) {
            let what = "cgroup.max.depth allows";
            return error.because(format_args!("{shown}/{what} {text} levels below it"));
        }
        let most = shown_word(cx, &level, b"cgroup.max.descendants").unwrap_or_default();
        let stat = sys::read_file(cx, None, &join(&level, b"cgroup.stat")).unwrap_or_default();
        let now = sum(&stat, b"nr_descendants");
        if decimal(most.as_bytes()).is_some_and(|most| now.is_some_and(|now| now >= most)) {
            let what = "cgroup.max.descendants allows";
            return error.because(format_args!("{shown}/{what} {most} below it"));
        }
        level = parent(&level);
        depth += 1;
    }
    error
}

/// Why the file of a limit is not there.
pub fn why_no_file(cx: &Cx, cgroup: &CStr, write: &FileValue, error: Error) -> Error {
    let _looking = cx.looking();
    if !error.is(Errno::ENOENT) {
        return error;
    }
    let controller = plain(write.controller);
    let Ok(on) = read_word(cx, &parent(cgroup), b"cgroup.subtree_control") else { return error };
    if write.asked.is_some() && write.controller == b"hugetlb" {
        let sizes = device_limits::alike(cx, cgroup, write.file);
        if !sizes.is_empty() {
            return error
                .because(format_args!("there are no huge pages of this size, only{sizes}"));
        }
    }
    error.because(match on {
        Some(on) if !text::has(on.as_bytes(), b' ', write.controller) => {
            let parent = plain(parent(cgroup).to_bytes());
            [&controller, " is not on in ", &parent, "/cgroup.subtree_control"].concat()
        }
        Some(_) => [&controller, " of this kernel's version 2 has no such file"].concat(),
        None => [&controller, " is on version 1 here, which has no such file"].concat(),
    })
}

/// Version 1: a new cgroup has no time for processes with real-time scheduling, sched(7).
pub fn why_no_realtime(cx: &Cx, cgroup: &CStr, error: Error) -> Error {
    let _looking = cx.looking();
    if !error.is(Errno::EINVAL) {
        return error;
    }
    let stat = sys::read_file(cx, None, c"/proc/self/stat").unwrap_or_default();
    // The name, the second field, may have anything in it. Behind it a blank comes first.
    let fields = text::split(&stat, b')').next_back().unwrap_or_default();
    let policy = match text::split(fields, b' ').nth(41 - 2) {
        Some(b"1") => "SCHED_FIFO",
        Some(b"2") => "SCHED_RR",
        _ => return error,
    };
    let shown = plain(cgroup.to_bytes());
    match shown_word(cx, cgroup, b"cpu.rt_runtime_us") {
        Some(time) if time == "0" => error
            .because(format_args!("this process has {policy}, and {shown}/cpu.rt_runtime_us is 0"))
            .way_out("run it without real-time scheduling: chrt --other 0"),
        _ => error,
    }
}

/// Why this process did not get into the cgroup.
pub fn why_not_moved(cx: &Cx, hierarchy: &Hierarchy, name: &[u8], error: Error) -> Error {
    let _looking = cx.looking();
    let cgroup = &hierarchy.directory(name).unwrap_or_default();
    let shown = plain(cgroup.to_bytes());
    match error.errno() {
        Some(Errno::EINVAL) => why_no_realtime(cx, cgroup, error),
        Some(Errno::EBUSY) => match shown_word(cx, cgroup, b"cgroup.subtree_control") {
            Some(on) if !on.is_empty() => error
                .because(format_args!(
                    "{shown} passes controllers down ({on}), so it cannot have processes"
                ))
                .way_out("name a cgroup below it"),
            _ => error,
        },
        Some(Errno::EOPNOTSUPP) => match shown_word(cx, cgroup, b"cgroup.type") {
            Some(kind) => error
                .because(format_args!("{shown} is {kind}: no process from outside can join it"))
                .way_out("see cgroup.type in cgroups(7)"),
            None => error,
        },
        Some(Errno::ENOSPC) => {
            let empty =
                |file: &&str| shown_word(cx, cgroup, file.as_bytes()).is_some_and(|v| v.is_empty());
            match ["cpuset.cpus", "cpuset.mems"].iter().find(|file| empty(file)) {
                Some(file) => error
                    .because(format_args!("{shown}/{file} is empty"))
                    .way_out("create the cgroup with td-cgroup, which sets it"),
                None => error,
            }
        }
        Some(Errno::EACCES) if hierarchy.v2 => {
            why_refused(cx, &hierarchy.common_procs(name), error).way_out(
                "on version 2, root must start PROG inside it: td-cgroup --leaf NAME PATH PROG",
            )
        }
        _ => why_refused(cx, &join(cgroup, b"tasks"), error),
    }
}
