//! `/proc/PID/cgroup`: a line `ID:CONTROLLERS:PATH` for each hierarchy, with the cgroup of the process in it:
//! proc_pid_cgroup(5).

use crate::say::error::Error;
use crate::say::show::plain;
use crate::say::text;
use crate::sys::proc;
use crate::sys::{self, Cx};

/// The caller's own cgroup in each hierarchy: `/proc/self/cgroup`.
pub fn own(cx: &Cx) -> Result<&'static [u8], Error> {
    match sys::read_file(cx, None, c"/proc/self/cgroup") {
        Ok(own) => Ok(own.leak()), // memory is never given back anyway
        Err(e) => {
            Err(proc::why_missing(cx, "cgroups are found through /proc, which must be mounted", e))
        }
    }
}

/// The controllers of a line of `/proc/self/cgroup`, with commas between them, and the path. Version 2 has none there.
pub fn fields(line: &[u8]) -> Option<(&[u8], &[u8])> {
    text::pair(text::pair(line, b':')?.1, b':')
}

/// The names of controllers with commas between them.
pub fn names(controllers: &[u8]) -> impl Iterator<Item = &[u8]> {
    text::split(controllers, b',').filter(|name| !name.is_empty())
}

/// Is this controller bound to a version 1 hierarchy, mounted or not?
pub fn bound_to_v1(cx: &Cx, controller: &[u8]) -> Result<bool, Error> {
    let own = own(cx)?;
    let has = |line: &[u8]| {
        fields(line).is_some_and(|(all, _)| text::has(all, b',', name_on_v1(controller)))
    };
    Ok(text::lines(own).any(has))
}

/// The controller of input and output has another name on version 1.
pub fn name_on_v1(controller: &[u8]) -> &[u8] {
    if controller == b"io" { b"blkio" } else { controller }
}

/// A controller is not there for version 2 when version 1 has it.
pub fn why_on_v1(cx: &Cx, controller: &[u8], error: Error) -> Error {
    let _looking = cx.looking();
    if !matches!(bound_to_v1(cx, controller), Ok(true)) {
        return error;
    }
    let name = plain(controller);
    error.because(format_args!("{name} is on a version 1 hierarchy that is not mounted here"))
}
