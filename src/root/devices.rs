//! What `/dev` holds: a small one of a container's own, or the kernel's with all devices of the machine.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use libc::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, RESOLVE_NO_SYMLINKS};
use syscalls::Errno;

use crate::ids::user_namespace;
use crate::root::dry_run::open_made;
use crate::root::fill::Root;
use crate::root::mounts::{self, Parameter, copy_tree, new_fs};
use crate::root::why_not_mounted;
use crate::say::error::Error;
use crate::say::show::plain;
use crate::sys::structs::Statx;
use crate::sys::{self, Cx, cstring};

const DEV: &CStr = c"/dev";

/// By device number: Documentation/admin-guide/devices.txt.
pub const NODES: [(&CStr, u32, u32); 6] = [
    (c"null", 1, 3),
    (c"zero", 1, 5),
    (c"full", 1, 7),
    (c"random", 1, 8),
    (c"urandom", 1, 9),
    (c"tty", 5, 0),
];
/// Links there: the name, and where it leads.
pub const LINKS: [(&CStr, &CStr); 5] = [
    (c"fd", c"/proc/self/fd"),
    (c"stdin", c"/proc/self/fd/0"),
    (c"stdout", c"/proc/self/fd/1"),
    (c"stderr", c"/proc/self/fd/2"),
    (c"ptmx", c"pts/ptmx"), // of this instance
];
const SIZE: Parameter = (c"size", Some(c"65536k"));

/// The `/dev` of a container: a tmpfs with only harmless devices.
///
/// What is mounted below it is made, and its targets opened, before the first is attached: where ROOT is
/// `/`, the caller's nodes would be covered.
pub fn mount_own(cx: &Cx, root: &mut Root, attr: u64) -> Result<(), Error> {
    let dev = new_fs(cx, c"tmpfs", &[(c"mode", Some(c"755")), SIZE], attr);
    let dev = dev.map_err(|e| mounts::why(cx, e))?;
    for (name, text) in LINKS {
        sys::symlinkat(cx, text, Some(dev.as_fd()), name)?;
    }
    let mut below = nodes(cx, dev.as_fd())?;
    for (name, mount) in kernels_own(cx, &[SIZE])? {
        sys::mkdirat(cx, Some(dev.as_fd()), name, 0o755)?;
        let target = open_made(cx, dev.as_fd(), name)?;
        below.extend(mount.map(|mount| (name, mount, target)));
    }
    root.attach_on(dev, DEV, RESOLVE_NO_SYMLINKS)?;
    below
        .into_iter()
        .try_for_each(|(name, mount, target)| root.attach(mount, target.as_fd(), &below_dev(name)))
}

/// The `/dev` of the machine: the only devtmpfs, in which the kernel has created every device. Missing files are
/// created in it; existing ones belong to others, and stay.
pub fn mount_machines(cx: &Cx, root: &mut Root, attr: u64) -> Result<(), Error> {
    let dev = new_fs(cx, c"devtmpfs", &[], attr).map_err(|e| why_no_devtmpfs(cx, e))?;
    root.attach_on(dev, DEV, RESOLVE_NO_SYMLINKS)?;
    for (name, text) in LINKS {
        // `ptmx` is a device here, which opens the instance on the `pts` beside it: Linux 4.7.
        let path = below_dev(name);
        if !root.paths.has(&path)? {
            root.symlink(text, &path)?;
        }
    }
    for (name, mount) in kernels_own(cx, &[])? {
        let path = below_dev(name);
        match mount {
            Some(mount) => root.attach_on(mount, &path, RESOLVE_NO_SYMLINKS)?,
            None => drop(root.directory(&path)?),
        }
    }
    Ok(())
}

fn below_dev(name: &CStr) -> CString {
    cstring([DEV.to_bytes(), b"/", name.to_bytes()].concat())
}

/// The file systems below `/dev`, each with the name of its directory. `None`: it stays empty.
fn kernels_own(
    cx: &Cx,
    size: &[Parameter],
) -> Result<[(&'static CStr, Option<OwnedFd>); 3], Error> {
    let attr = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    let pts = devpts(cx)?;
    let shm = new_fs(cx, c"tmpfs", &[&[(c"mode", Some(c"1777"))], size].concat(), attr)?;
    let queues = match new_fs(cx, c"mqueue", &[], attr) {
        // The ipc namespace belongs to another user namespace, or the kernel has no message queues: there is nothing to
        // mount.
        Err(e) if e.is(Errno::EPERM) || e.is(Errno::ENODEV) => {
            let errno = if e.is(Errno::EPERM) { "EPERM" } else { "ENODEV" };
            let what = format!("a new mqueue is refused ({errno}): /dev/mqueue stays empty");
            cx.say(&Error::refusal(what));
            None
        }
        other => Some(other?),
    };
    Ok([(c"pts", Some(pts)), (c"shm", Some(shm)), (c"mqueue", queues)])
}

/// Make the device nodes in the directory `dev`. In a user namespace nobody can: returns copies of the
/// caller's, and the files on which they are to be mounted.
fn nodes(cx: &Cx, dev: BorrowedFd) -> Result<Vec<(&'static CStr, OwnedFd, OwnedFd)>, Error> {
    let mut copies = Vec::new();
    for (name, major, minor) in NODES {
        let number = libc::makedev(major, minor);
        match sys::mknodat(
            cx.expects(&[Errno::EPERM]),
            Some(dev),
            name,
            libc::S_IFCHR | 0o666,
            number,
        ) {
            Err(e) if e.is(Errno::EPERM) => {
                let node = callers_node(cx, name, number)?;
                sys::mknodat(cx, Some(dev), name, libc::S_IFREG | 0o666, 0)?;
                copies.push((name, node, open_made(cx, dev, name)?));
            }
            other => other?,
        }
    }
    Ok(copies)
}

/// A new instance of the terminals. Group 5 is `tty` everywhere; where it is not mapped, the slaves get
/// the group of who opens the master.
fn devpts(cx: &Cx) -> Result<OwnedFd, Error> {
    let options = [(c"newinstance", None), (c"ptmxmode", Some(c"0666")), (c"mode", Some(c"0620"))];
    let tty = (c"gid", Some(c"5"));
    let attr = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
    match new_fs(cx, c"devpts", &[&options[..], &[tty]].concat(), attr) {
        Err(e) if e.is(Errno::EINVAL) => new_fs(cx, c"devpts", &options, attr),
        other => other,
    }
}

/// A copy of the mount at a device node of the caller's `/dev`.
fn callers_node(cx: &Cx, name: &CStr, number: u64) -> Result<OwnedFd, Error> {
    let path = below_dev(name);
    let needed = "device nodes cannot be created here, so the caller's is needed";
    let file = sys::openat(cx, None, &path, libc::O_PATH).map_err(|e| e.because(needed))?;
    if !is_device(&sys::fstatx(cx, file.as_fd())?, number) {
        let what = format!("{} is not the expected device", plain(path.to_bytes()));
        return Err(Error::refusal(what).because(needed));
    }
    copy_tree(cx, file.as_fd(), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, 0)
}

/// Is this the character device with that number?
pub fn is_device(stat: &Statx, number: u64) -> bool {
    stat.file_type() == libc::S_IFCHR
        && (stat.rdev_major, stat.rdev_minor) == (libc::major(number), libc::minor(number))
}

fn why_no_devtmpfs(cx: &Cx, error: Error) -> Error {
    let _looking = cx.looking();
    if error.is(Errno::EPERM) && !user_namespace::is_initial(cx) {
        return error
            .because("devtmpfs belongs to the whole machine: a user namespace cannot mount it")
            .way_out("use --dev, which has only harmless devices");
    }
    why_not_mounted::why(cx, c"devtmpfs", &[], 0, error)
}
