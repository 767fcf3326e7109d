//! What td-overlay, td-mount and td-pivot do.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libc::{
    AT_EMPTY_PATH, AT_RECURSIVE, MOUNT_ATTR_NODEV as NODEV, MOUNT_ATTR_NOEXEC as NOEXEC,
    MOUNT_ATTR_NOSUID as NOSUID, MOUNT_ATTR_RDONLY as RDONLY, O_DIRECTORY, O_PATH, OPEN_TREE_CLONE,
};
use td::root::devices::{LINKS, NODES};
use td::say::error::Error;
use td::say::show;
use td::sys::structs::MountAttr;
use td::sys::{self, Cx, FsConfig, cstring};

use crate::Asked;
use crate::outside::{Place, make_dir};

type Options<'a> = &'a [(&'a CStr, Option<&'a CStr>)];

/// Mount everything, go there, and become what goes on inside. `left` are the descriptors that it needs.
pub fn enter(
    cx: &Cx,
    asked: &Asked,
    place: Option<&Place>,
    left: &[&OwnedFd],
) -> Result<u8, Error> {
    let own = own_file(cx)?;
    sys::umask(cx, 0)?;
    let root = match place {
        Some(_) => overlay(cx, asked)?,
        None => bind(cx, asked.image)?,
    };
    let root = root.as_fd();
    proc_and_sys(cx, root)?;
    dev(cx, root)?;
    for (word, path) in &asked.words {
        let target = || find(cx, root, path);
        match *word {
            b"mask-file" => clone_onto(
                cx,
                find(cx, root, c"/dev/null")?.as_fd(),
                target()?,
                RDONLY | NOSUID | NOEXEC,
            )?,
            b"mask-dir" => {
                let empty = [(c"nr_inodes", Some(c"1")), (c"mode", Some(c"555"))];
                let empty = new_fs(cx, c"tmpfs", &empty, RDONLY | NOSUID | NODEV | NOEXEC)?;
                sys::move_mount(cx, empty.as_fd(), target()?.as_fd())?;
            }
            b"read-only" => {
                let target = target()?;
                clone_onto(cx, target.as_fd(), find(cx, root, path)?, RDONLY)?;
            }
            _ => {}
        }
    }
    sys::umask(cx, 0o022)?;
    pivot(cx, asked)?;
    go_inside(cx, asked, place, &own, left)
}

/// Our own file, as nothing inside can write to it.
fn own_file(cx: &Cx) -> Result<OwnedFd, Error> {
    let tree = sys::open_tree(cx, None, &cx.start.execfn, OPEN_TREE_CLONE)?;
    let attr = MountAttr { attr_set: RDONLY, ..MountAttr::default() };
    sys::mount_setattr(cx, tree.as_fd(), 0, attr)?;
    Ok(tree)
}

/// Where the root is mounted.
fn path(asked: &Asked) -> CString {
    let Some(state) = asked.state else { return asked.image.into() };
    let parts = [state.to_bytes(), b"/containers/", asked.name.to_bytes(), b"/run/root"];
    cstring(parts.concat())
}

fn overlay(cx: &Cx, asked: &Asked) -> Result<OwnedFd, Error> {
    // By its path, for what is open is of the parent's mount namespace.
    let run = path(asked);
    let run = cstring(run.to_bytes().strip_suffix(b"/root").unwrap_or_default());
    let run = sys::openat(cx, None, &run, O_PATH | O_DIRECTORY)?;
    let run = run.as_fd();
    let [target, upper, work] = [c"root", c"upper", c"work"].map(|name| make_dir(cx, run, name));
    let (target, upper, work) = (target?, upper?, work?);
    sys::fchown(cx, upper.as_fd(), Some(0), Some(0))?;
    sys::fchmod(cx, upper.as_fd(), 0o755)?;
    let lower = sys::openat(cx, None, asked.image, libc::O_RDONLY | O_DIRECTORY)?;
    let config = sys::fsopen(cx, c"overlay")?;
    let set = |command| sys::fsconfig(cx, config.as_fd(), command);
    set(FsConfig::Fd(c"lowerdir+", lower.as_fd()))?;
    set(FsConfig::Fd(c"upperdir", upper.as_fd()))?;
    set(FsConfig::Fd(c"workdir", work.as_fd()))?;
    set(FsConfig::String(c"source", c"overlay"))?;
    set(FsConfig::Flag(c"volatile"))?;
    set(FsConfig::Create)?;
    let root = sys::fsmount(cx, config.as_fd(), NODEV)?;
    sys::move_mount(cx, root.as_fd(), target.as_fd())?;
    Ok(root)
}

/// The image itself, as a mount.
fn bind(cx: &Cx, image: &CStr) -> Result<OwnedFd, Error> {
    let dir = sys::openat(cx, None, image, O_PATH | O_DIRECTORY)?;
    let root = sys::open_tree(cx, Some(dir.as_fd()), c"", OPEN_TREE_CLONE | AT_EMPTY_PATH as u32)?;
    let attr = MountAttr { attr_set: NODEV, ..MountAttr::default() };
    sys::mount_setattr(cx, root.as_fd(), 0, attr)?;
    sys::move_mount(cx, root.as_fd(), dir.as_fd())?;
    Ok(root)
}

fn new_fs(cx: &Cx, kind: &CStr, options: Options, attr: u64) -> Result<OwnedFd, Error> {
    let config = sys::fsopen(cx, kind)?;
    for (key, value) in options {
        let command = value.map_or(FsConfig::Flag(key), |value| FsConfig::String(key, value));
        sys::fsconfig(cx, config.as_fd(), command)?;
    }
    sys::fsconfig(cx, config.as_fd(), FsConfig::Create)?;
    sys::fsmount(cx, config.as_fd(), attr)
}

/// A path of the new root, without a way out of it.
fn find(cx: &Cx, root: BorrowedFd, path: &CStr) -> Result<OwnedFd, Error> {
    sys::openat2(cx, root, path, O_PATH, libc::RESOLVE_IN_ROOT)
}

/// A copy of what is mounted at `from`, with more attributes, onto `target`.
fn clone_onto(cx: &Cx, from: BorrowedFd, target: OwnedFd, attr: u64) -> Result<(), Error> {
    let flags = OPEN_TREE_CLONE | (AT_EMPTY_PATH | AT_RECURSIVE) as u32;
    let tree = sys::open_tree(cx, Some(from), c"", flags)?;
    let propagation = libc::MS_PRIVATE;
    let attr = MountAttr { attr_set: attr, propagation, ..MountAttr::default() };
    sys::mount_setattr(cx, tree.as_fd(), AT_RECURSIVE, attr)?;
    sys::move_mount(cx, tree.as_fd(), target.as_fd())
}

fn proc_and_sys(cx: &Cx, root: BorrowedFd) -> Result<(), Error> {
    let proc = new_fs(cx, c"proc", &[], NOSUID | NODEV | NOEXEC)?;
    sys::move_mount(cx, proc.as_fd(), find(cx, root, c"/proc")?.as_fd())?;
    let sysfs = new_fs(cx, c"sysfs", &[], RDONLY | NOSUID | NODEV | NOEXEC)?;
    sys::move_mount(cx, sysfs.as_fd(), find(cx, root, c"/sys")?.as_fd())
}

const SHM: Options = &[(c"mode", Some(c"1777")), (c"size", Some(c"65536k"))];
const PTS: Options = &[
    (c"newinstance", None),
    (c"ptmxmode", Some(c"0666")),
    (c"mode", Some(c"0620")),
    (c"gid", Some(c"5")),
];

fn dev(cx: &Cx, root: BorrowedFd) -> Result<(), Error> {
    let dev = new_fs(cx, c"tmpfs", &[(c"mode", Some(c"755")), (c"size", Some(c"65536k"))], NOSUID)?;
    let at = Some(dev.as_fd());
    for (name, target) in LINKS {
        sys::symlinkat(cx, target, at, name)?;
    }
    for (name, major, minor) in NODES {
        sys::mknodat(cx, at, name, libc::S_IFCHR | 0o666, libc::makedev(major, minor))?;
    }
    let within: [(&CStr, &CStr, Options, u64); 3] = [
        (c"pts", c"devpts", PTS, NOSUID | NOEXEC),
        (c"shm", c"tmpfs", SHM, NOSUID | NODEV | NOEXEC),
        (c"mqueue", c"mqueue", &[], NOSUID | NODEV | NOEXEC),
    ];
    for (name, ..) in within {
        sys::mkdirat(cx, at, name, 0o755)?;
    }
    sys::move_mount(cx, dev.as_fd(), find(cx, root, c"/dev")?.as_fd())?;
    for (name, kind, options, attr) in within {
        let mount = new_fs(cx, kind, options, attr)?;
        let target = sys::openat(cx, at, name, O_PATH | O_DIRECTORY)?;
        sys::move_mount(cx, mount.as_fd(), target.as_fd())?;
    }
    Ok(())
}

fn pivot(cx: &Cx, asked: &Asked) -> Result<(), Error> {
    let old_root = sys::openat(cx, None, c"/", O_PATH | O_DIRECTORY)?;
    sys::chdir(cx, &path(asked))?;
    sys::pivot_root(cx, c".", c".")?;
    let attr = MountAttr { propagation: libc::MS_SLAVE, ..MountAttr::default() };
    sys::mount_setattr(cx, old_root.as_fd(), AT_RECURSIVE, attr)?;
    sys::umount2(cx, c".", libc::MNT_DETACH)?;
    sys::chdir(cx, c"/")
}

/// Become what goes on inside, with the descriptors that it needs and no other.
fn go_inside(
    cx: &Cx,
    asked: &Asked,
    place: Option<&Place>,
    own: &OwnedFd,
    left: &[&OwnedFd],
) -> Result<u8, Error> {
    sys::close_range_cloexec(cx, 3)?;
    let mut argv = vec![cstring("floor"), cstring("--inside")];
    if let Some(fd) = cx.trace_fd() {
        argv.push(cstring(["--trace=", &show::number(fd as u64)].concat()));
        sys::fcntl_setfd(cx, fd, 0)?;
    }
    for file in left.iter().copied().chain(place.map(|place| &place.record)) {
        sys::fcntl_setfd(cx, file.as_raw_fd(), 0)?;
        argv.push(cstring(show::number(file.as_raw_fd() as u64)));
    }
    argv.push(cstring("--"));
    argv.extend_from_slice(asked.command);
    sys::execveat(cx, own.as_fd(), &argv)?;
    Ok(0)
}
