//! Hiding parts of a root from its programs, or making them read-only.

use std::ffi::CStr;
use std::os::fd::AsFd;

use libc::{MOUNT_ATTR_NODEV, RESOLVE_NO_SYMLINKS};

use crate::root::devices::is_device;
use crate::root::dry_run::stand_in;
use crate::root::fill::Root;
use crate::root::mounts::{self, copy_tree, new_fs};
use crate::say::error::Error;
use crate::sys::{self, Cx};

/// The parts of proc and sysfs that show the whole machine. They are masked in containers, as docker does.
pub const MASKED: &[&CStr] = &[
    c"/proc/kcore",
    c"/proc/keys",
    c"/proc/timer_list",
    c"/proc/latency_stats",
    c"/proc/sched_debug",
    c"/proc/scsi",
    c"/proc/acpi",
    c"/proc/asound",
    c"/proc/interrupts",
    c"/sys/firmware",
    c"/sys/devices/virtual/powercap",
];

/// The parts of proc that change the whole machine when uid 0 writes to them, even without any capability.
pub const READ_ONLY: &[&CStr] =
    &[c"/proc/sys", c"/proc/sysrq-trigger", c"/proc/irq", c"/proc/bus", c"/proc/fs"];

/// Hide what is at a path: cover a directory with an empty one, and a file with the null device of the root. A path
/// that does not exist needs no hiding.
pub fn mask(cx: &Cx, root: &mut Root, path: &CStr, attr: u64) -> Result<(), Error> {
    let Some(target) = root.paths.find(path, 0)? else { return Ok(()) };
    let stat = sys::fstatx(cx, target.as_fd())?;
    if root.paths.is_root(&stat) {
        return Err(root.paths.refuse_itself(path));
    }
    if stat.is_dir() {
        let empty = [(c"nr_inodes", Some(c"1")), (c"mode", Some(c"555"))];
        let empty = new_fs(cx, c"tmpfs", &empty, attr).map_err(|e| mounts::why(cx, e))?;
        return root.attach(empty, target.as_fd(), path);
    }
    let null = root.paths.find(c"/dev/null", RESOLVE_NO_SYMLINKS)?;
    let null = null.map_or_else(|| stand_in(cx), Ok)?;
    if !is_device(&sys::fstatx(cx, null.as_fd())?, libc::makedev(1, 3)) && !cx.dry() {
        let (path, null) = (root.paths.name(path), root.paths.name(c"/dev/null"));
        return Err(Error::refusal(format!("{path} is a file, which is masked with {null}"))
            .because(format!("{null} is not the null device"))
            .way_out("put --dev before --mask"));
    }
    // It must be readable as what it is. Read-only: else a chmod would reach the device itself.
    let null = copy_tree(cx, null.as_fd(), attr & !MOUNT_ATTR_NODEV, 0)?;
    root.attach(null, target.as_fd(), path)
}

/// Make what is at a path read-only: the one mount that is there, or else all of it.
pub fn remount_ro(cx: &Cx, root: &mut Root, path: &CStr, attr: u64) -> Result<(), Error> {
    let Some(target) = root.paths.find(path, 0)? else { return Ok(()) };
    let stat = sys::fstatx(cx, target.as_fd())?;
    // (Before a dry run, nothing was mounted on ROOT.)
    if stat.is_mount_root() || cx.dry() && root.paths.is_root(&stat) {
        return root.set_read_only(target, path);
    }
    if root.paths.is_root(&stat) {
        return Err(root.paths.refuse_itself(path).because("and it is not a mount point"));
    }
    let tree = copy_tree(cx, target.as_fd(), attr, 0)?;
    root.attach(tree, target.as_fd(), path)
}
