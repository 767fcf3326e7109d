//! File systems that show a namespace or the machine, such as proc: why a user namespace gets no new one.

use std::ffi::CStr;

use libc::{MOUNT_ATTR_NOATIME, MOUNT_ATTR_RDONLY};
use syscalls::Errno;

use crate::ids::user_namespace;
use crate::root::mountinfo::{self, Mount};
use crate::root::mounts::{self, Parameter};
use crate::say::error::Error;
use crate::say::show::{ascii, plain};
use crate::sys::{self, Cx};

/// What is mounted only by who has power over a namespace: the type, the namespace, that it is not ours, and what makes
/// a new one.
const OF_NAMESPACES: [(&CStr, &CStr, &str, &str); 4] = [
    (
        c"sysfs",
        c"/proc/self/ns/net",
        "the net namespace belongs to another user namespace",
        "run it inside td-unshare --net",
    ),
    (
        c"mqueue",
        c"/proc/self/ns/ipc",
        "the ipc namespace belongs to another user namespace",
        "run it inside td-unshare --ipc",
    ),
    (c"cgroup", CGROUP, FOREIGN_CGROUP, NEW_CGROUP),
    (c"cgroup2", CGROUP, FOREIGN_CGROUP, NEW_CGROUP),
];
const CGROUP: &CStr = c"/proc/self/ns/cgroup";
const FOREIGN_CGROUP: &str = "the cgroup namespace belongs to another user namespace";
const NEW_CGROUP: &str = "run it inside td-unshare --cgroup";

/// Why there is no file system of type `fstype` with `options` on a mount with `attr`: look at our rights, at the
/// namespace that it shows, then at those that are mounted already.
pub fn why_no_view(
    cx: &Cx,
    fstype: &CStr,
    options: &[Parameter],
    attr: u64,
    error: Error,
) -> Error {
    let _looking = cx.looking();
    let known = error.why().len();
    let error = mounts::why(cx, error);
    if !error.is(Errno::EPERM) || error.why().len() > known {
        return error;
    }
    if fstype == c"proc" && user_namespace::is_foreign(cx, c"/proc/self/ns/pid") {
        return why_foreign_pids(cx, error);
    }
    let mut of_namespaces = OF_NAMESPACES.iter().filter(|(of, ..)| *of == fstype);
    if let Some((.., why, way_out)) =
        of_namespaces.find(|(_, ns, ..)| user_namespace::is_foreign(cx, ns))
    {
        return error.because(why).way_out(way_out);
    }
    match error.what().starts_with("fsmount") && (fstype == c"proc" || fstype == c"sysfs") {
        true => why_too_revealing(cx, fstype, options, attr, error),
        false => error,
    }
}

fn why_foreign_pids(cx: &Cx, error: Error) -> Error {
    let _looking = cx.looking();
    let error = error.because("the pid namespace belongs to another user namespace");
    let inode = |path| sys::statx(cx, None, path, 0).map(|stat| stat.ino).ok();
    // Until its first process is there, a new one cannot be looked at.
    match (inode(c"/proc/self/ns/pid_for_children"), inode(c"/proc/self/ns/pid")) {
        (_, None) => error,
        (children, own) if children == own => error.way_out("run it inside td-unshare --pid"),
        _ => error.way_out("the new pid namespace starts with the next child: fork first"),
    }
}

/// A user namespace gets no proc or sysfs that shows or allows more than one that it has inherited: which has flags
/// that the new one has not, or is covered in part.
fn why_too_revealing(
    cx: &Cx,
    fstype: &CStr,
    options: &[Parameter],
    attr: u64,
    error: Error,
) -> Error {
    let _looking = cx.looking();
    let name = ascii(fstype.to_bytes());
    let flags = [
        (MOUNT_ATTR_RDONLY, "ro"),
        (MOUNT_ATTR_NOATIME, "noatime"),
        (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME, "ro,noatime"),
    ];
    let works = |bits| mounts::new_fs(cx, fstype, options, attr | bits).is_ok();
    if let Some((_, words)) = flags.iter().find(|(bits, _)| works(*bits)) {
        return error
            .because(format!(
                "the existing {name} is {words}, which is locked in this user namespace"
            ))
            .way_out(["mount the new one so too: --options ", words].concat());
    }
    match hidden(cx, fstype) {
        Err(e) if e.is(Errno::ENOENT) => error.because(format!(
            "a new {name} must not show more than an existing one, and perhaps none is mounted: \
             there is no /proc/self/mountinfo"
        )),
        Err(_) => error,
        Ok(None) => error.because(format!(
            "a new {name} must not show more than an existing one, and none is mounted"
        )),
        Ok(Some(hidden)) if hidden.is_empty() => error,
        Ok(Some(hidden)) => {
            let (path, what) =
                if fstype == c"proc" { ("/proc", "proc") } else { ("/sys", "sysfs") };
            error
                .because(format!(
                    "a new {what} would show what is covered in the existing one: {hidden}"
                ))
                .way_out(format!("use --bind {path} {path}, or run it where nothing covers {path}"))
        }
    }
}

/// Where something is mounted on a part of a file system of that type. `None`: there is none.
fn hidden(cx: &Cx, fstype: &CStr) -> Result<Option<String>, Error> {
    let mounts = mountinfo::list(cx, c"/proc/self/mountinfo")?;
    let is_one = |m: &&Mount| m.fstype == fstype.to_bytes() && m.root == b"/";
    let existing: Vec<&Mount> = mounts.iter().filter(is_one).collect();
    let hides = |m: &&Mount| {
        let parent = existing.iter().find(|one| one.id == m.parent);
        parent.is_some_and(|parent| !is_only_mounted_on(m.point, parent.point))
    };
    let points: Vec<String> = mounts.iter().filter(hides).map(|m| plain(m.point)).collect();
    Ok((!existing.is_empty()).then(|| points.join(", ")))
}

/// Has a directory of the proc or sysfs at `above` nothing to hide, for it is there only to be mounted on? Those are
/// the kernel's own, made by `proc_create_mount_point()` and `sysfs_create_mount_point()`.
fn is_only_mounted_on(point: &[u8], above: &[u8]) -> bool {
    const DIRECTORIES: [&[u8]; 12] = [
        b"/fs/nfsd",
        b"/openprom",
        b"/sys/fs/binfmt_misc",
        b"/fs/bpf",
        b"/fs/cgroup",
        b"/fs/fuse/connections",
        b"/fs/pstore",
        b"/fs/selinux",
        b"/kernel/config",
        b"/kernel/debug",
        b"/kernel/security",
        b"/kernel/tracing",
    ];
    point.strip_prefix(above).is_some_and(|below| DIRECTORIES.contains(&below))
}
