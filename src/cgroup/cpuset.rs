//! Version 1: no process can be in a cpuset without processors or without memory nodes, and a new one has none.

use std::ffi::{CStr, CString};

use syscalls::Errno;

use crate::cgroup::file::{self, join};
use crate::say::error::Error;
use crate::sys::{self, Cx};

/// Give the cpuset `level` what it lacks: what the nearest of those `above` has. A new one has nothing, or, by
/// cgroup.clone_children, the same.
pub fn fill(cx: &Cx, level: &CStr, above: &[CString], is_new: bool) -> Result<(), Error> {
    for file in [b"cpuset.cpus", b"cpuset.mems"] {
        let read = |directory: &CStr| match sys::read_file(cx, None, &join(directory, file)) {
            Err(e) if cx.dry() && e.is(Errno::ENOENT) => Ok(Vec::new()), // not created
            other => other,
        };
        let mut list = if is_new { Vec::new() } else { read(level)? };
        if !list.trim_ascii().is_empty() {
            continue;
        }
        for directory in above.iter().rev() {
            list = read(directory)?;
            if !list.trim_ascii().is_empty() {
                break;
            }
        }
        file::write(cx, &join(level, file), list.trim_ascii())?;
    }
    Ok(())
}
