//! Why a limit was not accepted: the value, the cgroups above, or those below. Looked for after the failure.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;

use syscalls::Errno;

use crate::cgroup::device_limits;
use crate::cgroup::file::{join, parent, shown_word};
use crate::cgroup::limits::{PERIOD, QUOTA};
use crate::cgroup::value::FileValue;
use crate::say::error::Error;
use crate::say::number::decimal;
use crate::say::show::plain;
use crate::say::text::{pair, split};
use crate::sys::{self, Cx};

const RT_RUNTIME: &[u8] = b"cpu.rt_runtime_us";
const RT_PERIOD: &[u8] = b"cpu.rt_period_us";
const FULL: &str = "raise that first, or ask for less";
const LESS: &str = "lower that first, or ask for more";

/// Why a value was not accepted.
pub fn why_no_value(cx: &Cx, cgroup: &CStr, write: &FileValue, error: Error) -> Error {
    let _looking = cx.looking();
    if error.is(Errno::EBUSY) && write.file.starts_with(b"memory.") {
        let Some(used) = shown_word(cx, cgroup, b"memory.usage_in_bytes") else { return error };
        return error
            .because(format_args!("the cgroup uses {used} bytes, of which too few can be freed"));
    }
    if let (true, b"io", Some(device)) = (error.is(Errno::ENODEV), write.controller, &write.device)
    {
        return device_limits::why_no_device(cx, device, error);
    }
    let refused = [Errno::EINVAL, Errno::ERANGE, Errno::EACCES, Errno::EBUSY];
    if !refused.iter().any(|e| error.is(*e)) {
        return error;
    }
    match write.file {
        QUOTA | PERIOD => why_no_time(cx, cgroup, write, (QUOTA, PERIOD), error),
        RT_RUNTIME | RT_PERIOD => why_no_time(cx, cgroup, write, (RT_RUNTIME, RT_PERIOD), error),
        b"cpuset.cpus" | b"cpuset.mems" if !write.hierarchy.v2 => {
            why_no_list(cx, cgroup, write, error)
        }
        b"memory.limit_in_bytes" => {
            let most = shown_word(cx, cgroup, b"memory.memsw.limit_in_bytes");
            let is_above = |most: &String| decimal(&write.text()) > decimal(most.as_bytes());
            match most.filter(is_above) {
                Some(most) => error
                    .because(format_args!(
                        "it cannot exceed memory.memsw.limit_in_bytes, which is {most}"
                    ))
                    .way_out("set both: --memory-swap"),
                None => takes(write, error),
            }
        }
        _ => takes(write, error),
    }
}

/// What the option accepts, where the kernel has refused the value itself.
fn takes(write: &FileValue, error: Error) -> Error {
    match write.asked {
        Some(asked) if !error.is(Errno::EBUSY) => error.because(asked.takes()),
        _ => error,
    }
}

/// So many microseconds in each period. `None`: no limit.
#[derive(Clone, Copy)]
struct Time {
    quota: Option<u64>,
    period: u64,
}

impl Time {
    /// What a cgroup has, in these two files.
    fn of(cx: &Cx, cgroup: &CStr, (quota, period): (&[u8], &[u8])) -> Option<Time> {
        let quota = shown_word(cx, cgroup, quota)?;
        let period = decimal(shown_word(cx, cgroup, period)?.as_bytes())?;
        Some(Time { quota: decimal(quota.as_bytes()), period })
    }

    /// Is it more of the time of a processor?
    fn exceeds(self, other: Time) -> bool {
        let part = |one: Time, other: Time| {
            u128::from(one.quota.unwrap_or_default()) * u128::from(other.period)
        };
        other.quota.is_some() && (self.quota.is_none() || part(self, other) > part(other, self))
    }
}

/// Version 1: a cgroup has at most as much time as the nearest limited one above it, and none below it has more.
fn why_no_time(
    cx: &Cx,
    cgroup: &CStr,
    write: &FileValue,
    files: (&[u8], &[u8]),
    error: Error,
) -> Error {
    let _looking = cx.looking();
    let Some(mut asked) = Time::of(cx, cgroup, files).filter(|_| error.is(Errno::EINVAL)) else {
        return error;
    };
    let (is_period, value) = (write.file == files.1, decimal(&write.text()));
    match (is_period, value) {
        (true, Some(period)) => asked.period = period,
        (true, None) => return error,
        (false, quota) => asked.quota = quota,
    }
    // max_bw_quota_period_us and min_bw_quota_period_us of kernel/sched/core.c.
    if files.0 == QUOTA {
        if !(1_000..=1_000_000).contains(&asked.period) {
            return error.because("a period has from 1000 to 1000000 microseconds");
        }
        if asked.quota.is_some_and(|quota| quota < 1_000) {
            return error.because("a quota has at least 1000 microseconds, or is -1 for no limit");
        }
    } else if asked.quota.is_some_and(|quota| quota > asked.period) {
        return error.because("cpu.rt_runtime_us cannot exceed cpu.rt_period_us");
    }
    if asked.quota.is_none() {
        return error;
    }
    let mut level = parent(cgroup);
    while let Some(time) = Time::of(cx, &level, files) {
        if let Some(quota) = time.quota {
            if !asked.exceeds(time) {
                break;
            }
            let (path, period) = (plain(join(&level, files.0).to_bytes()), time.period);
            return error
                .because(format_args!("{path} allows only {quota} in a period of {period}"))
                .way_out(FULL);
        }
        level = parent(&level);
    }
    match more_below(cx, cgroup, files, asked) {
        Some((below, Time { quota, period })) => {
            let (path, quota) =
                (plain(join(&below, files.0).to_bytes()), quota.unwrap_or_default());
            error
                .because(format_args!("below it, {path} is more: {quota} in a period of {period}"))
                .way_out(LESS)
        }
        None => error,
    }
}

/// A cgroup below, with a limit, that has more time. One without a limit has what is above it.
fn more_below(
    cx: &Cx,
    cgroup: &CStr,
    files: (&[u8], &[u8]),
    most: Time,
) -> Option<(CString, Time)> {
    children(cx, cgroup).into_iter().find_map(|child| {
        let time = Time::of(cx, &child, files)?;
        match time.quota {
            Some(_) if time.exceeds(most) => Some((child, time)),
            Some(_) => None,
            None => more_below(cx, &child, files, most),
        }
    })
}

/// Version 1: a cpuset has what the one above it has or less, and what those below it have or more.
fn why_no_list(cx: &Cx, cgroup: &CStr, write: &FileValue, error: Error) -> Error {
    let _looking = cx.looking();
    let text = write.text();
    let Some(asked) = ranges(&text) else { return takes(write, error) };
    let has = |cgroup: &CStr| {
        let value = shown_word(cx, cgroup, write.file)?;
        Some((plain(join(cgroup, write.file).to_bytes()), ranges(value.as_bytes())?, value))
    };
    if error.is(Errno::EBUSY) {
        let lacks = |child: &CString| has(child).filter(|(_, list, _)| !is_within(list, &asked));
        return match children(cx, cgroup).iter().find_map(lacks) {
            Some((path, _, value)) => {
                error.because(format_args!("below it, {path} is more: {value}")).way_out(LESS)
            }
            None => error,
        };
    }
    let above = parent(cgroup);
    if let Some((path, _, value)) = has(&above).filter(|(_, list, _)| !is_within(&asked, list)) {
        return takes(write, error)
            .because(format_args!("{path} allows only {value}"))
            .way_out(FULL);
    }
    error
}

/// The cgroups in a cgroup.
fn children(cx: &Cx, cgroup: &CStr) -> Vec<CString> {
    let mut found = Vec::new();
    if let Ok(directory) = sys::openat(cx, None, cgroup, libc::O_RDONLY | libc::O_DIRECTORY) {
        let _ = sys::for_each_entry(cx, directory.as_fd(), &mut |name, kind| {
            if kind == libc::DT_DIR {
                found.push(join(cgroup, name.to_bytes()));
            }
            Ok(())
        });
    }
    found
}

/// A list of processors or memory nodes, `0-3,8`: the first and the last of each range. `None`: it is not one.
fn ranges(list: &[u8]) -> Option<Vec<(u64, u64)>> {
    let mut found: Vec<(u64, u64)> = Vec::new();
    for part in split(list.trim_ascii(), b',').filter(|part| !part.is_empty()) {
        let (first, last) = pair(part, b'-').unwrap_or((part, part));
        found.push((decimal(first)?, decimal(last)?));
    }
    found.iter().all(|(first, last)| first <= last).then_some(found)
}

/// Has a list, with its ranges as the kernel puts them together, all of another?
fn is_within(inner: &[(u64, u64)], outer: &[(u64, u64)]) -> bool {
    inner
        .iter()
        .all(|(first, last)| outer.iter().any(|range| range.0 <= *first && *last <= range.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_within_another_by_numbers() {
        for (inner, outer, within) in [
            ("0-1", "0-3", true),
            ("0,2", "0-3,8", true),
            ("8", "0-3,8", true),
            ("3-4", "0-3,8", false),
            ("10", "1", false),
            ("", "1", true),
            ("0\n", "0\n", true),
        ] {
            let list = |text: &str| ranges(text.as_bytes()).expect("a list");
            assert_eq!(is_within(&list(inner), &list(outer)), within, "{inner} {outer}");
        }
        for text in ["x", "1-", "-1", "3-1", "1,x", "99999999999999999999"] {
            assert_eq!(ranges(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn time_is_compared_by_its_part_of_a_period() {
        let time = |quota, period| Time { quota, period };
        for (one, other, more) in [
            (time(Some(50_000), 100_000), time(Some(100_000), 1_000_000), true),
            (time(Some(500_000), 1_000_000), time(Some(50_000), 100_000), false),
            (time(None, 100_000), time(Some(50_000), 100_000), true),
            (time(Some(u64::MAX), 1), time(None, 1), false),
            (time(Some(u64::MAX), 1), time(Some(1), u64::MAX), true),
        ] {
            assert_eq!(one.exceeds(other), more);
        }
    }
}
