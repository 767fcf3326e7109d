//! The initramfs as the root. Before Linux 7.0 pivot_root(2) cannot leave it: it is mounted on nothing. Instead, it can
//! be covered, which is as safe: no path leads under a mount on `/`, neither `..` nor setns(2), not even after a
//! chroot(2). Only a process that may unmount in this mount namespace can reach it.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use syscalls::Errno;

use crate::ids::caps::{self, CAP_SYS_CHROOT};
use crate::root::mountinfo::{self, Mount};
use crate::root::{locked, mounts};
use crate::say::error::Error;
use crate::say::show::plain;
use crate::sys::structs::{MountAttr, Statx};
use crate::sys::{self, Cx, cstring};

/// The inode of the initial pid namespace: PROC_PID_INIT_INO of linux/proc_ns.h.
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Move the mount of the working directory onto the root, which is the initramfs, and be in it. Where it
/// cannot be moved and `bind` is set, a copy of it. What else is mounted on the initramfs goes.
pub fn cover(cx: &Cx, old_root: BorrowedFd, bind: bool) -> Result<(), Error> {
    let list = mounts::own_list(cx)?; // later they are not seen
    let here = sys::openat(cx, None, c".", libc::O_PATH | libc::O_DIRECTORY)?;
    let new_root = match put_over(cx, here.as_fd(), old_root) {
        Err(e) if e.is(Errno::EINVAL) && bind => {
            let copy = mounts::copy_tree(cx, here.as_fd(), 0, 0)?;
            put_over(cx, copy.as_fd(), old_root)?;
            copy
        }
        // By elimination: the kernel does not show locks.
        Err(e) if e.is(Errno::EINVAL) => {
            return Err(e.because(locked::perhaps("NEW_ROOT")).way_out("leave out --no-bind"));
        }
        other => other.map(|()| here)?,
    };
    uncover(cx, old_root, &list, &sys::fstatx(cx, new_root.as_fd())?)
}

/// Change to a mount, and move it over the initramfs. In this order there is nothing to undo if the second step fails,
/// because the first affects only this process.
fn put_over(cx: &Cx, mount: BorrowedFd, old_root: BorrowedFd) -> Result<(), Error> {
    sys::fchdir(cx, mount)?;
    sys::chroot(cx, c".").map_err(|e| caps::why(cx, CAP_SYS_CHROOT, e))?;
    sys::move_mount(cx, mount, old_root)
}

/// Detach what is mounted on the initramfs, but for the new root and what may lie below that.
fn uncover(cx: &Cx, initramfs: BorrowedFd, list: &[Mount], new_root: &Statx) -> Result<(), Error> {
    let lowest = sys::fstatx(cx, initramfs)?.mnt_id;
    sys::fchdir(cx, initramfs)?;
    let others = list.iter().filter(|m| m.parent == lowest && m.id != new_root.mnt_id);
    let mut points: Vec<_> = others.filter_map(|m| m.point.strip_prefix(b"/")).collect();
    // One that covers another has the shorter path, and goes first. One on `/` lies below the new root.
    points.sort_unstable_by_key(|point| point.len());
    points.retain(|point| !point.is_empty());
    points.into_iter().try_for_each(|point| detach(cx, lowest, &cstring(point)))
}

/// Detach all mounts at a path from the working directory, which is on the mount `lowest`.
fn detach(cx: &Cx, lowest: u64, path: &CStr) -> Result<(), Error> {
    loop {
        let mount = sys::openat(cx, None, path, libc::O_PATH | libc::O_NOFOLLOW)?;
        if sys::fstatx(cx, mount.as_fd())?.mnt_id == lowest {
            return Ok(());
        }
        // As for any old root: its peers, which are the host's, keep what is mounted below it.
        let slave = MountAttr { propagation: libc::MS_SLAVE, ..MountAttr::default() };
        sys::mount_setattr(cx, mount.as_fd(), libc::AT_RECURSIVE, slave)?;
        match sys::umount2(cx, path, libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) {
            // The mount is locked, because this user namespace inherited it. Then it stays, covered like the initramfs.
            Err(e) if e.is(Errno::EINVAL) => return Ok(()),
            other => other?,
        }
    }
}

/// Refuse to remove the files of the old root where they are not those of the initramfs, or are needed. The
/// new root is the working directory.
pub fn refuse_to_free(cx: &Cx, old_root: BorrowedFd) -> Result<(), Error> {
    if cx.dry() {
        return Ok(()); // the steps that mount the new root were dry too
    }
    let way_out = "leave out --free-initramfs";
    let refuse = |what: &str| Err(Error::refusal(what).way_out(way_out));
    let own = mounts::own_proc(cx)?;
    let own = own.as_fd();
    let list = mountinfo::list_in(cx, own, c"mountinfo")?;
    let (root, here) = (sys::fstatx(cx, old_root)?, sys::statx(cx, None, c".", 0)?);
    let is_rootfs = |m: &&Mount| m.fstype == b"rootfs";
    if !list.iter().any(|m| m.id == root.mnt_id && m.root == b"/" && is_rootfs(&m)) {
        return refuse("the root is not the initramfs, so there is nothing to free");
    }
    // A bind mount of one of its directories, as the new root or below it, would lose its files.
    let kept = list.iter().filter(is_rootfs).find(|m| m.id != root.mnt_id);
    let kept = kept.map(|m| plain(m.point));
    if let Some(point) = kept.or((here.mnt_id == root.mnt_id).then(|| "NEW_ROOT".into())) {
        let what = "is a directory of the initramfs, and would be emptied";
        return refuse(&format!("{point} {what}"));
    }
    // The initramfs is the root of every mount namespace that was made from it, and of the other processes.
    let pids = sys::statx(cx, Some(own), c"ns/pid", 0)?;
    if pids.ino != INITIAL_PID_NAMESPACE || sys::readlinkat(cx, Some(own), c"../self")? != b"1" {
        return refuse(
            "only PID 1 of the machine may free the initramfs, which other processes need",
        );
    }
    Ok(())
}
