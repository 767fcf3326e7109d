//! What a user namespace has inherited and may not change: whole mounts, and flags of mounts (mount_namespaces(7)). No
//! file shows it, so it is tried.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use syscalls::Errno;

use crate::ids::user_namespace;
use crate::root::mountinfo::{Mount, list};
use crate::say::error::Error;
use crate::say::show::plain;
use crate::say::text::{split, split_name};
use crate::sys::structs::MountAttr;
use crate::sys::{self, Cx, cstring};

/// A flag that may be locked, as mountinfo shows it, and what in `--options` clears it.
struct Flag {
    bits: u64,
    word: &'static str,
    way_out: &'static str,
}

const FLAGS: [Flag; 5] = [
    Flag { bits: libc::MOUNT_ATTR_RDONLY, word: "ro", way_out: "leave out --options rw" },
    Flag { bits: libc::MOUNT_ATTR_NOSUID, word: "nosuid", way_out: "leave out --options suid" },
    Flag {
        bits: libc::MOUNT_ATTR_NODEV,
        word: "nodev",
        way_out: "keep the mount flags: --dev-bind SRC DST",
    },
    Flag { bits: libc::MOUNT_ATTR_NOEXEC, word: "noexec", way_out: "leave out --options exec" },
    Flag {
        bits: libc::MOUNT_ATTR__ATIME,
        word: "relatime",
        way_out: "leave out --options noatime",
    },
];

/// Why a copy `tree` of the mounts at `file` does not lose attributes: try each mount of it alone.
pub fn why_locked(
    cx: &Cx,
    file: BorrowedFd,
    tree: BorrowedFd,
    attr: MountAttr,
    error: Error,
) -> Error {
    let _looking = cx.looking();
    if !error.is(Errno::EPERM) || user_namespace::is_initial(cx) {
        return error;
    }
    let link = cstring(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let (Ok(mounts), Ok(stat), Ok(path)) = (
        list(cx, c"/proc/self/mountinfo"),
        sys::fstatx(cx, file),
        sys::readlinkat(cx, None, &link),
    ) else {
        return error
            .because("perhaps a mount there has flags that are locked in this user namespace");
    };
    let above = path.strip_suffix(b"/").unwrap_or(&path);
    let mut covered = None;
    for mount in &mounts {
        let found = match mount.point.strip_prefix(above) {
            _ if mount.id == stat.mnt_id => locked_flag(cx, tree, mount, attr),
            // In a tree that is nowhere only its root is changed alone.
            Some([b'/', name @ ..]) => {
                let is_on_top = sys::statx(cx, Some(file), &cstring(name), NOFOLLOW)
                    .is_ok_and(|stat| stat.mnt_id == mount.id);
                match is_on_top {
                    true => locked_flag_below(cx, file, &cstring(name), mount, attr),
                    false => {
                        covered = covered.or_else(|| Some((mount, cleared(mount, attr).next()?)));
                        None
                    }
                }
            }
            _ => None,
        };
        if let Some(flag) = found {
            let (point, word) = (plain(mount.point), flag.word);
            let why =
                format!("the mount on {point} is {word}, which is locked in this user namespace");
            return error.because(why).way_out(flag.way_out);
        }
    }
    match covered {
        Some((mount, flag)) => {
            let (point, word) = (plain(mount.point), flag.word);
            error.because(format!(
                "perhaps the mount on {point} that another one covers is {word}, which is locked in this user namespace"
            ))
        }
        None => error,
    }
}

const NOFOLLOW: i32 = libc::AT_SYMLINK_NOFOLLOW;

/// The flags of a mount that `attr` clears.
fn cleared(mount: &Mount, attr: MountAttr) -> impl Iterator<Item = &'static Flag> {
    let has = |word: &str| split(mount.options, b',').any(|w| w == word.as_bytes());
    FLAGS.iter().filter(move |flag| attr.attr_clr & flag.bits != 0 && has(flag.word))
}

/// As [`locked_flag`], of the mount on a path below `file`.
fn locked_flag_below(
    cx: &Cx,
    file: BorrowedFd,
    name: &CStr,
    mount: &Mount,
    attr: MountAttr,
) -> Option<&'static Flag> {
    let flags = libc::OPEN_TREE_CLONE | (libc::AT_RECURSIVE | NOFOLLOW) as u32;
    let copy = sys::open_tree(cx, Some(file), name, flags).ok()?;
    locked_flag(cx, copy.as_fd(), mount, attr)
}

/// Which flag that `attr` clears is locked on a mount, of which `copy` is a copy that is nowhere.
fn locked_flag(cx: &Cx, copy: BorrowedFd, mount: &Mount, attr: MountAttr) -> Option<&'static Flag> {
    cleared(mount, attr).find(|flag| {
        // The access time is one value out of several.
        let attr_set = attr.attr_set & flag.bits & libc::MOUNT_ATTR__ATIME;
        let one = MountAttr { attr_set, attr_clr: flag.bits, ..MountAttr::default() };
        sys::mount_setattr(cx, copy, 0, one).is_err_and(|e| e.is(Errno::EPERM))
    })
}

/// The reason if the mount of `name` is locked, or if nobody can tell. `None`: it is not.
pub fn because(cx: &Cx, mounts: &[Mount], mount: &Mount, name: &str) -> Option<String> {
    if user_namespace::is_initial(cx) {
        return None;
    }
    match is_locked(cx, mounts, mount) {
        Some(false) => None,
        Some(true) => Some(locked("", name)),
        None => Some(locked("perhaps ", name)),
    }
}

/// The cause that is left if there is no other.
pub fn perhaps(name: &str) -> String {
    locked("perhaps ", name)
}

fn locked(perhaps: &str, name: &str) -> String {
    let why = " is locked: it was inherited from another user namespace (mount_namespaces(7))";
    [perhaps, "the mount of ", name, why].concat()
}

/// Is a mount locked to the one below it? That is one of the reasons for which a mount cannot be copied without those
/// on it, so the directory in which it is mounted is copied. `None`: there are others on which that may fail.
fn is_locked(cx: &Cx, mounts: &[Mount], mount: &Mount) -> Option<bool> {
    let below = mounts.iter().find(|below| below.id == mount.parent && !below.unbindable)?;
    let (directory, _) = split_name(mount.point);
    let file = sys::openat(cx, None, &cstring(directory), libc::O_PATH | libc::O_DIRECTORY).ok()?;
    if sys::fstatx(cx, file.as_fd()).ok()?.mnt_id != below.id {
        return None;
    }
    let flags = libc::OPEN_TREE_CLONE | libc::AT_EMPTY_PATH as u32;
    match sys::open_tree(cx, Some(file.as_fd()), c"", flags) {
        Ok(_) => Some(false),
        Err(e) if e.is(Errno::EINVAL) => {
            let is_there =
                |other: &&Mount| other.parent == below.id && other.point.starts_with(directory);
            (mounts.iter().filter(is_there).count() == 1).then_some(true)
        }
        Err(_) => None,
    }
}
