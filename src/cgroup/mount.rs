//! Mounting the hierarchies that are in use, all below `/sys/fs/cgroup`.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use libc::{MOUNT_ATTR_RDONLY, RESOLVE_NO_SYMLINKS};
use syscalls::Errno;

use crate::cgroup::file::join;
use crate::cgroup::proc_pid_cgroup::{fields, names};
use crate::root::fill::Root;
use crate::root::mountinfo::{self, Mount};
use crate::root::mounts::{self, Parameter, new_fs};
use crate::root::why_not_mounted::why;
use crate::say::error::Error;
use crate::say::show::plain;
use crate::say::text;
use crate::sys::{self, Cx, cstring};

const POINT: &CStr = c"/sys/fs/cgroup";

/// Mount version 2; where hierarchies of version 1 are in use, those instead, each in a directory of its
/// own, and version 2 beside them if that is in use as well. `options` are for version 2.
pub fn mount(cx: &Cx, root: &mut Root, options: &[Parameter], attr: u64) -> Result<(), Error> {
    if root.paths.find(POINT, RESOLVE_NO_SYMLINKS)?.is_none() && !cx.dry() {
        return Err(Error::refusal(format_args!("{} does not exist", root.paths.name(POINT)))
            .way_out("sysfs has this directory: put --sys before --cgroup"));
    }
    let own = match sys::read_file(cx, None, c"/proc/self/cgroup") {
        // Without /proc nothing is in use yet, as far as can be seen.
        Err(e) if e.is(Errno::ENOENT) => Vec::new(),
        other => other?,
    };
    let lines = text::lines(&own).filter_map(fields);
    let (v2, v1): (Vec<_>, Vec<_>) = lines.map(|(c, _)| c).partition(|c| c.is_empty());
    if v1.is_empty() {
        return version_2(cx, root, POINT, options, attr);
    }
    // Writable as long as directories are made in it.
    let mode = [(c"mode", Some(c"755"))];
    let tmpfs = new_fs(cx, c"tmpfs", &mode, attr & !MOUNT_ATTR_RDONLY);
    root.attach_on(tmpfs.map_err(|e| mounts::why(cx, e))?, POINT, RESOLVE_NO_SYMLINKS)?;
    for controllers in v1 {
        version_1(cx, root, controllers, attr)?;
    }
    if !v2.is_empty() {
        version_2(cx, root, &join(POINT, b"unified"), options, attr)?;
    }
    match root.paths.find(POINT, RESOLVE_NO_SYMLINKS)? {
        Some(tmpfs) if attr & MOUNT_ATTR_RDONLY != 0 => root.set_read_only(tmpfs, POINT),
        _ => Ok(()),
    }
}

/// A hierarchy, by its controllers (none: version 2), on a mount that is attached nowhere.
pub fn detached(cx: &Cx, controllers: &[u8], mounts: &[Mount]) -> Result<OwnedFd, Error> {
    let mounted = if !controllers.is_empty() {
        new_version_1(cx, controllers, 0)
    } else if mounts.iter().any(|mount| mount.fstype == b"cgroup2") {
        new_version_2(cx, mounts, &[], 0)
    } else {
        // It is mounted elsewhere, perhaps with options of the hierarchy's.
        let first = match mountinfo::list(cx, c"/proc/1/mountinfo") {
            Err(e) if e.is(Errno::ENOENT) => Vec::new(),
            // A process that may not examine process 1 is not root in the initial cgroup namespace: its mounts do not
            // change the options.
            Err(e) if e.is(Errno::EACCES) || e.is(Errno::EPERM) => Vec::new(),
            other => other?,
        };
        new_version_2(cx, &first, &[], 0)
    };
    mounted.map_err(|e| {
        if e.is(Errno::EPERM) {
            let is_v2 = controllers.is_empty();
            let name = if is_v2 { "version 2".into() } else { plain(controllers) };
            let what = " is not mounted here, and mounting it takes CAP_SYS_ADMIN";
            return e.because([&name, what].concat());
        }
        e
    })
}

/// Is this process in the machine's initial cgroup namespace?
pub fn in_initial_namespace(cx: &Cx) -> bool {
    const PROC_CGROUP_INIT_INO: u64 = 0xefff_fffb; // linux/proc_ns.h
    let own = sys::statx(cx, None, c"/proc/self/ns/cgroup", 0);
    own.is_ok_and(|own| own.ino == PROC_CGROUP_INIT_INO)
}

fn new_version_1(cx: &Cx, controllers: &[u8], attr: u64) -> Result<OwnedFd, Error> {
    let mut words: Vec<(CString, Option<CString>)> = Vec::new();
    for controller in names(controllers) {
        words.push(match controller.strip_prefix(b"name=") {
            Some(name) => (c"name".into(), Some(cstring(name))),
            None => (cstring(controller), None),
        });
    }
    let words: Vec<_> = words.iter().map(|(key, v)| (key.as_c_str(), v.as_deref())).collect();
    let options = [&[(c"source", Some(c"cgroup"))], &words[..]].concat();
    new_fs(cx, c"cgroup", &options, attr)
}

/// A hierarchy of version 1, by its controllers, in a directory of their names. One of several is found by
/// each of their names.
fn version_1(cx: &Cx, root: &mut Root, controllers: &[u8], attr: u64) -> Result<(), Error> {
    let hierarchy =
        new_version_1(cx, controllers, attr).map_err(|e| why(cx, c"cgroup", &[], attr, e))?;
    let mut directories = Vec::new();
    for controller in names(controllers) {
        directories.push(controller.strip_prefix(b"name=").unwrap_or(controller));
    }
    let directory = directories.join(&b',');
    let path = join(POINT, &directory);
    root.attach_on(hierarchy, &path, RESOLVE_NO_SYMLINKS)?;
    if directories.len() > 1 {
        let text = cstring(directory);
        directories.iter().try_for_each(|name| root.symlink(&text, &join(POINT, name)))?;
    }
    Ok(())
}

fn version_2(
    cx: &Cx,
    root: &mut Root,
    path: &CStr,
    options: &[Parameter],
    attr: u64,
) -> Result<(), Error> {
    // A mount without these options would remove them from a mounted hierarchy.
    let mounts = mountinfo::list_if_any(cx)?;
    let hierarchy = new_version_2(cx, &mounts, options, attr);
    let hierarchy = hierarchy.map_err(|e| why(cx, c"cgroup2", options, attr, e))?;
    root.attach_on(hierarchy, path, RESOLVE_NO_SYMLINKS)
}

fn new_version_2(
    cx: &Cx,
    mounts: &[Mount],
    options: &[Parameter],
    attr: u64,
) -> Result<OwnedFd, Error> {
    let kept = kept(mounts);
    let mut all = vec![(c"source", Some(c"cgroup2"))];
    all.extend(kept.iter().map(|key| (key.as_c_str(), None)));
    all.extend(options);
    new_fs(cx, c"cgroup2", &all, attr)
}

/// The options with which version 2 is already mounted. They belong to the hierarchy: a mount without them removes them
/// for the whole machine.
fn kept(mounts: &[Mount]) -> Vec<CString> {
    let v2 = mounts.iter().find(|mount| mount.fstype == b"cgroup2");
    let words = text::split(v2.map_or(b"", |mount| mount.super_options), b',');
    words.filter(|word| !matches!(*word, b"" | b"rw" | b"ro")).map(cstring).collect()
}
