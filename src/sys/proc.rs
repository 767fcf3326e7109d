//! What the files of `/proc` say: proc(5).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use syscalls::Errno;

use crate::say::error::Error;
use crate::say::number::decimal;
use crate::say::show;
use crate::say::text::{lines, split};
use crate::sys::{self, Cx, cstring};

/// A path put together.
pub fn path(parts: &[&str]) -> CString {
    cstring(parts.concat())
}

/// `/proc`, where a proc is mounted there: an image may hold anything of that name.
pub fn root(cx: &Cx) -> Result<OwnedFd, Error> {
    let proc = sys::openat(cx, None, c"/proc", libc::O_PATH | libc::O_DIRECTORY)?;
    match sys::fstatfs(cx, proc.as_fd())?.f_type {
        libc::PROC_SUPER_MAGIC => Ok(proc),
        _ => Err(Error::refusal("/proc is not a proc file system")),
    }
}

/// What a line of `/proc/self/status` says after `name`.
pub fn status(cx: &Cx, name: &[u8]) -> Option<Vec<u8>> {
    field(cx, c"/proc/self/status", name)
}

/// What a line of a file says after `name`.
pub fn field(cx: &Cx, file: &CStr, name: &[u8]) -> Option<Vec<u8>> {
    line(&sys::read_file(cx, None, file).ok()?, name)
}

/// What a line of a text says after `name`.
pub fn line(text: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    lines(text).find_map(|line| Some(line.strip_prefix(name)?.to_vec()))
}

/// Why a file below /proc could not be opened: is none mounted there, which `why` says?
pub fn why_missing(cx: &Cx, why: &str, error: Error) -> Error {
    let _looking = cx.looking();
    let is_there = || sys::statx(cx, None, c"/proc/self", 0);
    match error.is(Errno::ENOENT) && is_there().is_err_and(|e| e.is(Errno::ENOENT)) {
        true => error.because(why),
        false => error,
    }
}

/// A decimal number, which a newline may end.
pub fn number(text: &[u8]) -> Option<u64> {
    decimal(text.strip_suffix(b"\n").unwrap_or(text))
}

/// A field of `/proc/PID/stat`, by its number in proc_pid_stat(5), from 3 on. The name, the second field, may have
/// anything in it.
pub fn stat_field(stat: &[u8], number: usize) -> Option<u64> {
    let fields = split(stat, b')').next_back()?;
    split(fields, b' ').nth(number.checked_sub(2)?).and_then(decimal)
}

/// When the process `pid` of our pid namespace started, in clock ticks after the machine did: no other process has
/// both its pid and this. `None`: `/proc` is not there, or shows another pid namespace, or not this process.
pub fn start_time(cx: &Cx, pid: i32) -> Option<u64> {
    let own = sys::readlinkat(cx, None, c"/proc/self").ok()?;
    if decimal(&own) != Some(sys::getpid(cx).ok()? as u64) {
        return None;
    }
    let stat = path(&["/proc/", &show::number(pid as u64), "/stat"]);
    stat_field(&sys::read_file(cx, None, &stat).ok()?, 22)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_stat_is_found_behind_any_name() {
        let stat = b"70 (a) 70 (sh) 3) S 1 70 70 34823 70 4194304";
        for (number, expected) in [(4, Some(1)), (7, Some(34823)), (3, None), (22, None), (1, None)]
        {
            assert_eq!(stat_field(stat, number), expected, "{number}");
        }
    }
}
