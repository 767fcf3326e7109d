//! Namespaces: why the kernel refuses to make them, and what is set in them.

use std::ffi::CStr;
use std::os::fd::AsFd;

use syscalls::Errno;

use crate::cgroup::memberships::why_not_placed;
use crate::ids::caps::{self, CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_SYS_TIME};
use crate::ids::user_namespace;
use crate::root::mountinfo;
use crate::root::mounts;
use crate::say::error::Error;
use crate::say::show::{self, ascii, plain};
use crate::say::text::split;
use crate::sys::proc::{self, path, status};
use crate::sys::{self, Cx};

/// The kinds, by their bits for clone(2), their names in `/proc/self/ns` and `/proc/sys/user`, and their options.
pub const KINDS: [(u64, &str, [&str; 2]); 8] = [
    (libc::CLONE_NEWNS as u64, "mnt", ["-m", "--mount"]),
    (libc::CLONE_NEWUTS as u64, "uts", ["-u", "--uts"]),
    (libc::CLONE_NEWIPC as u64, "ipc", ["-i", "--ipc"]),
    (libc::CLONE_NEWNET as u64, "net", ["-n", "--net"]),
    (libc::CLONE_NEWPID as u64, "pid", ["-p", "--pid"]),
    (libc::CLONE_NEWCGROUP as u64, "cgroup", ["-C", "--cgroup"]),
    (libc::CLONE_NEWUSER as u64, "user", ["-U", "--user"]),
    (libc::CLONE_NEWTIME as u64, "time", ["-T", "--time"]),
];

/// The maximum depth of pid namespaces below the first: linux/pid_namespace.h. It is the same for user namespaces:
/// kernel/user_namespace.c.
const MAX_DEPTH: usize = 32;

const NO_MOUNT_POINT: &str = "/ is not a mount point: this process is in a chroot(2)";

/// Why clone3(2) or unshare(2) made none of the namespaces `wanted` (CLONE_NEW*), or no process in the
/// cgroup `into`.
pub fn why(cx: &Cx, wanted: u64, into: Option<&CStr>, error: Error) -> Error {
    let _looking = cx.looking();
    match (error.errno(), into) {
        (Some(Errno::EBUSY | Errno::EOPNOTSUPP | Errno::EACCES), Some(cgroup)) => {
            why_not_placed(cgroup.to_bytes(), error)
        }
        (Some(Errno::EPERM | Errno::EACCES), _) => why_forbidden(cx, wanted, error),
        (Some(Errno::EINVAL), _) => why_invalid(cx, wanted, error),
        (Some(Errno::ENOSPC), _) => why_too_many(cx, wanted, error),
        _ => error,
    }
}

/// In the order of the kernel: the user namespace is made first, and gives the right to the others.
fn why_forbidden(cx: &Cx, wanted: u64, error: Error) -> Error {
    let _looking = cx.looking();
    let privileged = sys::capget(cx).is_ok_and(|own| own.effective() >> CAP_SYS_ADMIN & 1 == 1);
    if wanted & libc::CLONE_NEWUSER as u64 == 0 {
        return match privileged {
            true => error,
            false => caps::why(cx, CAP_SYS_ADMIN, error)
                .way_out("add --map-root-user: root of a new user namespace has it"),
        };
    }
    if in_chroot(cx) {
        return error
            .because(NO_MOUNT_POINT)
            .way_out("create the user namespace before the chroot, or use td-pivot instead");
    }
    let ids = [(c"/proc/self/uid_map", cx.start.euid), (c"/proc/self/gid_map", cx.start.egid)];
    for (map, id) in ids {
        if sys::read_file(cx, None, map).is_ok_and(|text| !user_namespace::is_mapped(&text, id)) {
            let map = plain(map.to_bytes());
            return error
                .because(format_args!(
                    "the id of this process, shown as {}, is not mapped here: {map}",
                    show::number(id.into())
                ))
                .way_out("map it first, as td-unshare --map-root-user does");
        }
    }
    match user_namespace::restricted(cx) {
        Some(what) if !privileged => error.because(what).way_out(user_namespace::SYSCTL),
        _ => error,
    }
}

fn why_invalid(cx: &Cx, wanted: u64, error: Error) -> Error {
    let _looking = cx.looking();
    if wanted & libc::CLONE_NEWPID as u64 != 0 && children_elsewhere(cx) {
        return error
            .because("this process has already created a pid namespace for its children")
            .way_out("fork first: unshare --pid --fork");
    }
    let look = |name| sys::statx(cx, None, &path(&["/proc/self/ns/", name]), 0);
    let mut kinds = kinds(wanted);
    match kinds.find(|name| look(name).is_err_and(|e| e.is(Errno::ENOENT))) {
        Some(name) if look("").is_ok() => {
            error.because(format_args!("this kernel has no {name} namespaces"))
        }
        _ => error,
    }
}

fn why_too_many(cx: &Cx, wanted: u64, mut error: Error) -> Error {
    let _looking = cx.looking();
    let pids = status(cx, b"NSpid:\t").unwrap_or_default();
    let depth = split(&pids, b'\t').count();
    if wanted & libc::CLONE_NEWPID as u64 != 0 && depth > MAX_DEPTH {
        return error.because("this process is 32 pid namespaces deep, the maximum");
    }
    let mut found = String::new();
    for name in kinds(wanted) {
        let path = path(&["/proc/sys/user/max_", name, "_namespaces"]);
        let Ok(text) = sys::read_file(cx, None, &path) else { continue };
        let line = format!("{} is {}", plain(path.to_bytes()), ascii(text.trim_ascii()));
        if text.starts_with(b"0") {
            return error.because(line);
        }
        found.push_str(if found.is_empty() { "" } else { ", " });
        found.push_str(&line);
    }
    // The kernel does not show how many are in use, nor the outer limits, nor the depth of user namespaces.
    if found.is_empty() {
        found.push_str("/proc/sys/user, which holds the limits of namespaces, cannot be read here");
    }
    error = error
        .because(found)
        .because("one of these limits is reached, here or in an ancestor user namespace");
    match wanted & libc::CLONE_NEWUSER as u64 {
        0 => error,
        _ => error.because("or user namespaces are nested 32 deep, the maximum"),
    }
}

/// Will our children be in another pid namespace than we are?
fn children_elsewhere(cx: &Cx) -> bool {
    let ino = |ns| sys::statx(cx, None, ns, 0).map(|stat| stat.ino);
    // While it has no process yet there is no such link.
    match (ino(c"/proc/self/ns/pid"), ino(c"/proc/self/ns/pid_for_children")) {
        (Ok(own), Ok(children)) => own != children,
        (own, children) => own.is_ok() && children.is_err_and(|e| e.is(Errno::ENOENT)),
    }
}

fn in_chroot(cx: &Cx) -> bool {
    sys::statx(cx, None, c"/", 0).is_ok_and(|root| !root.is_mount_root())
}

/// Keep a namespace (CLONE_NEW*) of the process `child` in `file`, which is made where it is missing.
/// Returns whether it was.
pub fn pin(cx: &Cx, child: i32, namespace: u64, file: &CStr) -> Result<bool, Error> {
    let made = match sys::mknodat(cx, None, file, libc::S_IFREG | 0o600, 0) {
        Err(e) if e.is(Errno::EEXIST) => false,
        other => other.map(|()| true)?,
    };
    let child = show::number(child as u64);
    let kind = kinds(namespace).next().unwrap_or_default();
    let link = path(&["/proc/", &child, "/ns/", kind]);
    match sys::mount(cx, Some(&link), file, None, libc::MS_BIND, None) {
        Ok(()) => Ok(made),
        Err(error) => {
            let error = why_not_pinned(cx, namespace, file, error);
            remove_pin(cx, file, made).unwrap_or_else(|error| cx.say(&error));
            Err(error)
        }
    }
}

/// Detach it.
pub fn unpin(cx: &Cx, file: &CStr, made: bool) -> Result<(), Error> {
    sys::umount2(cx, file, libc::MNT_DETACH)?;
    remove_pin(cx, file, made)
}

fn remove_pin(cx: &Cx, file: &CStr, made: bool) -> Result<(), Error> {
    if made { sys::unlinkat(cx, None, file, 0) } else { Ok(()) }
}

/// Why a namespace was not bound to a file.
fn why_not_pinned(cx: &Cx, namespace: u64, file: &CStr, error: Error) -> Error {
    let _looking = cx.looking();
    let is_dir = || sys::statx(cx, None, file, 0).is_ok_and(|stat| stat.is_dir());
    if error.is(Errno::ENOTDIR) && is_dir() {
        let what = " is a directory: a namespace is kept on a file";
        return error.because([&plain(file.to_bytes()), what].concat());
    }
    if !error.is(Errno::EINVAL) || namespace != libc::CLONE_NEWNS as u64 {
        return mounts::why(cx, error);
    }
    let mounts = mountinfo::list(cx, c"/proc/self/mountinfo");
    let (Ok(mounts), Ok(stat)) = (mounts, sys::statx(cx, None, file, 0)) else { return error };
    match mounts.iter().find(|mount| stat.mnt_id == mount.id) {
        Some(mount) if mount.shared => {
            let point = plain(mount.point);
            let what =
                ["the mount on ", &point, " is shared, so it cannot hold a mount namespace"];
            error.because(what.concat()).way_out("choose a file on a private mount: see mount(8)")
        }
        // By elimination. Linux 6.18 numbers them by processor, so that a new one may have a lower number.
        _ => error
            .because("perhaps the new mount namespace has a lower number, so the kernel takes it for an outer one")
            .way_out(
                "start it on the CPU where the current mount namespace was created: taskset(1)",
            ),
    }
}

/// Give the time namespace that unshare(2) has made for our children its offsets, lines of timens_offsets, and
/// go there: time_namespaces(7). Before Linux 6.2 execve(2) does not, and until it is done vfork(2) is EINVAL.
pub fn enter_time(cx: &Cx, offsets: &[String]) -> Result<(), Error> {
    let made =
        sys::openat(cx, None, c"/proc/self/ns/time_for_children", libc::O_RDONLY).map_err(|e| {
            proc::why_missing(cx, "a clock is set through /proc, which must be mounted", e)
        })?;
    for line in offsets {
        sys::write_file(cx, None, c"/proc/self/timens_offsets", line.as_bytes())
            .map_err(|e| why_no_offset(cx, line.contains('-'), e))?;
    }
    sys::setns(cx, made.as_fd(), libc::CLONE_NEWTIME as u64)
}

/// Why a clock did not take an offset: time_namespaces(7).
fn why_no_offset(cx: &Cx, negative: bool, error: Error) -> Error {
    let _looking = cx.looking();
    match error.errno() {
        Some(Errno::ERANGE) if negative => error.because("the clock would be negative"),
        Some(Errno::ERANGE) => {
            error.because("a clock may not exceed 4611686018 seconds, 146 years")
        }
        _ => caps::why(cx, CAP_SYS_TIME, error),
    }
}

/// Why the mounts of a new mount namespace kept their propagation.
pub fn why_not_propagated(cx: &Cx, error: Error) -> Error {
    let _looking = cx.looking();
    if error.is(Errno::EINVAL) && in_chroot(cx) {
        return error.because(NO_MOUNT_POINT).way_out("add --propagation unchanged");
    }
    caps::why(cx, CAP_SYS_ADMIN, error)
}

/// Why a host name was not set.
pub fn why_not_named(cx: &Cx, name: &[u8], error: Error) -> Error {
    let _looking = cx.looking();
    const MOST: usize = 64; // __NEW_UTS_LEN of linux/utsname.h
    match name.len() {
        length if length > MOST => error.because(format_args!(
            "the name has {} bytes; the maximum is 64",
            show::number(length as u64)
        )),
        _ => caps::why(cx, CAP_SYS_ADMIN, error),
    }
}

/// Why the loopback interface did not come up.
pub fn why_not_up(cx: &Cx, error: Error) -> Error {
    let _looking = cx.looking();
    caps::why(cx, CAP_NET_ADMIN, error)
}

/// The kind that an option asks for, as its bit.
pub fn of_option(option: &str) -> Option<u64> {
    KINDS.iter().find(|(.., options)| options.contains(&option)).map(|(bit, ..)| *bit)
}

/// The name of one kind.
pub fn name(kind: u64) -> &'static str {
    kinds(kind).next().unwrap_or_default()
}

/// The names of the kinds in a set.
fn kinds(wanted: u64) -> impl Iterator<Item = &'static str> {
    KINDS.iter().filter(move |(bit, ..)| wanted & bit != 0).map(|(_, name, _)| *name)
}
