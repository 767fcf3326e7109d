//! td-mount: fill a root with mounts, then become PROG.
#![no_main]

const HELP: &str = "\
usage: td-mount [OPTION]... ROOT PROG [ARG]...

Mount in the directory ROOT what the options say, in their order, then become
PROG. Every DIR, DST and PATH lies in ROOT: no link of it leads out. DIR and DST
are made where they are missing; a PATH that is missing is left out.

      --proc          the processes of this pid namespace, on /proc
      --dev           a small /dev: null, zero, full, random, urandom, tty, pts,
                      shm, mqueue, and links to the standard streams
      --sys           the kernel's objects, on /sys, read-only
      --tmpfs DIR     an empty file system in memory
      --bind SRC DST  the file or directory SRC of the caller, with all that is
                      mounted below it
      --ro-bind SRC DST  the same, read-only
      --mask PATH     nothing: an empty directory, or /dev/null on a file
      --remount-ro PATH  make PATH read-only, if it is a mount only that mount
      --options LIST  of the mount just before, with commas between: ro, rw,
                      noexec, nosuid, dev ..., for a tmpfs size=SIZE, mode=MODE
                      ..., for proc hidepid=2 ...
";

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use libc::{
    MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, RESOLVE_NO_SYMLINKS,
};
use syscalls::Errno;
use td::chain::Prog;
use td::cli::{Cli, Never};
use td::error::Error;
use td::mounts::{self, Mount, copy_tree, is_foreign, new_fs, why};
use td::root::{self, Root};
use td::show::plain;
use td::structs::Statx;
use td::sys::{self, Cx, cstring};

td::step!(HELP, parse, apply);

struct Opts {
    ops: Vec<Op>,
    root: CString,
    prog: Prog,
}

/// One mount.
struct Op {
    what: What,
    target: CString,
    /// Of the file system: a key, and a value or none.
    options: Vec<(CString, Option<CString>)>,
    /// Of the mount: MOUNT_ATTR_*.
    attr: u64,
    /// What a bind shall lose of those that its source has.
    clear: u64,
}

enum What {
    Proc,
    Dev,
    Sys,
    Tmpfs,
    Bind(CString),
    Mask,
    RemountRo,
}

const NODEV: u64 = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
const NOTHING: u64 = NODEV | MOUNT_ATTR_NOEXEC;

/// The words of `--options` that are attributes of a mount, set or cleared.
const SET: &[(u64, &str)] = &[
    (MOUNT_ATTR_RDONLY, "ro"),
    (MOUNT_ATTR_NOSUID, "nosuid"),
    (MOUNT_ATTR_NODEV, "nodev"),
    (MOUNT_ATTR_NOEXEC, "noexec"),
    (MOUNT_ATTR_NOATIME, "noatime"),
    (MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow"),
];
const CLEAR: &[(u64, &str)] = &[
    (MOUNT_ATTR_RDONLY, "rw"),
    (MOUNT_ATTR_NOSUID, "suid"),
    (MOUNT_ATTR_NODEV, "dev"),
    (MOUNT_ATTR_NOEXEC, "exec"),
];

fn parse(cli: &mut Cli) -> Result<Opts, Error> {
    let mut ops = Vec::new();
    while let Some(option) = cli.option()? {
        ops.push(match option.as_str() {
            "--proc" => op(What::Proc, c"/proc".into(), NOTHING),
            "--dev" => op(What::Dev, c"/dev".into(), MOUNT_ATTR_NOSUID),
            "--sys" => op(What::Sys, c"/sys".into(), NOTHING | MOUNT_ATTR_RDONLY),
            "--tmpfs" => op(What::Tmpfs, cli.path()?, NODEV),
            "--bind" => op(What::Bind(cli.path()?), cli.path()?, MOUNT_ATTR_NODEV),
            "--ro-bind" => {
                op(What::Bind(cli.path()?), cli.path()?, MOUNT_ATTR_NODEV | MOUNT_ATTR_RDONLY)
            }
            "--mask" => op(What::Mask, cli.path()?, NOTHING | MOUNT_ATTR_RDONLY),
            "--remount-ro" => op(What::RemountRo, cli.path()?, MOUNT_ATTR_RDONLY),
            "--options" => {
                options(cli, ops.last_mut())?;
                continue;
            }
            _ => return Err(cli.unknown(&option)),
        });
    }
    Ok(Opts { ops, root: cli.operand("ROOT")?, prog: cli.prog()? })
}

fn op(what: What, target: CString, attr: u64) -> Op {
    Op { what, target, options: Vec::new(), attr, clear: 0 }
}

/// `--options LIST`: words for the mount, others for the file system.
fn options(cli: &mut Cli, op: Option<&mut Op>) -> Result<(), Error> {
    let list = cli.value()?;
    let Some(op) = op else {
        return Err(cli.usage("--options stands behind the mount that it is for"));
    };
    let new = matches!(op.what, What::Proc | What::Tmpfs);
    let is_bind = matches!(op.what, What::Bind(_));
    if !new && !is_bind && !matches!(op.what, What::Sys) {
        return Err(cli.usage("--options is for --proc, --sys, --tmpfs, --bind and --ro-bind"));
    }
    for word in list.as_bytes().split(|b| *b == b',').filter(|word| !word.is_empty()) {
        let bit = |words: &[(u64, &str)]| {
            words.iter().find(|(_, w)| w.as_bytes() == word).map(|(b, _)| *b)
        };
        match (bit(SET), bit(CLEAR), word.iter().position(|b| *b == b'=')) {
            (Some(bit), ..) => {
                op.attr |= bit;
                op.clear &= !bit;
            }
            (_, Some(bit), _) => {
                op.attr &= !bit;
                // The caller's /sys, where it stands in, stays as it is.
                op.clear |= if is_bind { bit } else { 0 };
            }
            _ if !new => {
                let what = format!("--options {}: this mount has no such option", plain(word));
                return Err(cli.usage(&what));
            }
            (.., None) => op.options.push((cstring(word), None)),
            (.., Some(i)) => {
                let (key, value) = word.split_at(i);
                let value = value.strip_prefix(b"=").unwrap_or_default();
                op.options.push((cstring(key), Some(cstring(value))));
            }
        }
    }
    Ok(())
}

fn apply(cx: &Cx, opts: &Opts) -> Result<Never, Error> {
    let prog = opts.prog.find(cx)?;
    let mut root = Root::open(cx, &opts.root)?;
    // What is made has the modes that are written here, whatever the caller's umask.
    let umask = sys::umask(cx, 0)?;
    let done = opts.ops.iter().try_for_each(|op| mount(cx, &mut root, op));
    let Err(error) = done.and_then(|()| {
        sys::umask(cx, umask)?;
        prog.exec(cx)
    });
    root.undo();
    Err(error)
}

fn mount(cx: &Cx, root: &mut Root, op: &Op) -> Result<(), Error> {
    root.guarded = matches!(op.what, What::Proc | What::Dev | What::Sys);
    let keys = op.options.iter().map(|(key, value)| (key.as_c_str(), value.as_deref()));
    let keys: Vec<(&CStr, Option<&CStr>)> = keys.collect();
    match &op.what {
        What::Proc => {
            let proc = new_fs(cx, c"proc", &keys, op.attr).map_err(|e| why_no_proc(cx, e))?;
            attach(root, proc, &op.target, RESOLVE_NO_SYMLINKS)
        }
        What::Tmpfs => {
            let tmpfs = new_fs(cx, c"tmpfs", &keys, op.attr).map_err(|e| why(cx, e))?;
            attach(root, tmpfs, &op.target, 0)
        }
        What::Dev => dev(cx, root, op),
        What::Sys => match new_fs(cx, c"sysfs", &keys, op.attr) {
            // The network is not ours: what it has below /sys may be seen, as far as the caller sees it.
            Err(e) if e.is(Errno::EPERM) => bind(cx, root, c"/sys", op, RESOLVE_NO_SYMLINKS),
            sysfs => attach(root, sysfs?, &op.target, RESOLVE_NO_SYMLINKS),
        },
        What::Bind(source) => bind(cx, root, source, op, 0),
        What::Mask => mask(cx, root, op),
        What::RemountRo => remount_ro(cx, root, op),
    }
}

/// Attach a file system to a directory.
fn attach(root: &mut Root, mount: OwnedFd, path: &CStr, resolve: u64) -> Result<(), Error> {
    let target = root.target(path, true, resolve)?;
    root.attach(mount, target.as_fd())
}

fn bind(cx: &Cx, root: &mut Root, source: &CStr, op: &Op, resolve: u64) -> Result<(), Error> {
    let file = match sys::openat(cx, None, source, libc::O_PATH) {
        Err(e) if e.is(Errno::ENOENT) && cx.dry() => root::stand_in(cx)?,
        other => other?,
    };
    let is_dir = sys::fstatx(cx, file.as_fd())?.is_dir();
    let tree = copy_tree(cx, file.as_fd(), op.attr, op.clear)?;
    let target = root.target(&op.target, is_dir, resolve)?;
    root.attach(tree, target.as_fd())
}

/// What `/dev` holds, by device number: Documentation/admin-guide/devices.txt.
const NODES: [(&CStr, u32, u32); 6] = [
    (c"null", 1, 3),
    (c"zero", 1, 5),
    (c"full", 1, 7),
    (c"random", 1, 8),
    (c"urandom", 1, 9),
    (c"tty", 5, 0),
];
const LINKS: [(&CStr, &CStr); 5] = [
    (c"fd", c"/proc/self/fd"),
    (c"stdin", c"/proc/self/fd/0"),
    (c"stdout", c"/proc/self/fd/1"),
    (c"stderr", c"/proc/self/fd/2"),
    (c"ptmx", c"pts/ptmx"), // of this instance
];

/// What is mounted below `/dev` is made, and its targets opened, before the first is attached: where
/// ROOT is `/`, the caller's nodes would be covered.
fn dev(cx: &Cx, root: &mut Root, op: &Op) -> Result<(), Error> {
    let size = (c"size", Some(c"65536k"));
    let dev = new_fs(cx, c"tmpfs", &[(c"mode", Some(c"755")), size], op.attr);
    let dev = dev.map_err(|e| why(cx, e))?;
    for (name, text) in LINKS {
        sys::symlinkat(cx, text, Some(dev.as_fd()), name)?;
    }
    let directory = |name| {
        sys::mkdirat(cx, Some(dev.as_fd()), name, 0o755)?;
        root::open_made(cx, dev.as_fd(), name)
    };
    let mut below = nodes(cx, dev.as_fd())?;
    below.push((devpts(cx)?, directory(c"pts")?));
    let shm = new_fs(cx, c"tmpfs", &[(c"mode", Some(c"1777")), size], NOTHING)?;
    below.push((shm, directory(c"shm")?));
    let queues = directory(c"mqueue")?;
    match new_fs(cx, c"mqueue", &[], NOTHING) {
        // The ipc namespace is not ours, or the kernel has no queues: there is nothing to be seen.
        Err(e) if e.is(Errno::EPERM) || e.is(Errno::ENODEV) => {}
        other => below.push((other?, queues)),
    }
    attach(root, dev, &op.target, RESOLVE_NO_SYMLINKS)?;
    below.into_iter().try_for_each(|(mount, target)| root.attach(mount, target.as_fd()))
}

/// Make the device nodes in the directory `dev`. In a user namespace nobody can: returns copies of the
/// caller's, and the files on which they are to be mounted.
fn nodes(cx: &Cx, dev: BorrowedFd) -> Result<Vec<(OwnedFd, OwnedFd)>, Error> {
    let mut copies = Vec::new();
    for (name, major, minor) in NODES {
        let number = libc::makedev(major, minor);
        match sys::mknodat(cx, Some(dev), name, libc::S_IFCHR | 0o666, number) {
            Err(e) if e.is(Errno::EPERM) => {
                let node = callers_node(cx, name, number)?;
                sys::mknodat(cx, Some(dev), name, libc::S_IFREG | 0o666, 0)?;
                copies.push((node, root::open_made(cx, dev, name)?));
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
    let path = [b"/dev/", name.to_bytes()].concat();
    let path = cstring(path);
    let needed = "no device node may be made here, so that the caller's is needed";
    let file = sys::openat(cx, None, &path, libc::O_PATH).map_err(|e| e.because(needed))?;
    if !is_device(&sys::fstatx(cx, file.as_fd())?, number) {
        let what = format!("{} is another file than it should be", plain(path.to_bytes()));
        return Err(Error::refusal(what).because(needed));
    }
    copy_tree(cx, file.as_fd(), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, 0)
}

fn is_device(stat: &Statx, number: u64) -> bool {
    stat.file_type() == libc::S_IFCHR
        && (stat.rdev_major, stat.rdev_minor) == (libc::major(number), libc::minor(number))
}

fn mask(cx: &Cx, root: &mut Root, op: &Op) -> Result<(), Error> {
    let Some(target) = root.find(&op.target, 0)? else { return Ok(()) };
    let stat = sys::fstatx(cx, target.as_fd())?;
    if root.is(&stat) {
        return Err(root.refuse_itself(&op.target));
    }
    if stat.is_dir() {
        let empty = [(c"nr_inodes", Some(c"1")), (c"mode", Some(c"555"))];
        let empty = new_fs(cx, c"tmpfs", &empty, op.attr).map_err(|e| why(cx, e))?;
        return root.attach(empty, target.as_fd());
    }
    let null = root.find(c"/dev/null", RESOLVE_NO_SYMLINKS)?;
    let null = null.map_or_else(|| root::stand_in(cx), Ok)?;
    if !is_device(&sys::fstatx(cx, null.as_fd())?, libc::makedev(1, 3)) && !cx.dry() {
        let (path, null) = (root.name(&op.target), root.name(c"/dev/null"));
        return Err(Error::refusal(format!("{path} is a file, to be masked by {null}"))
            .because(format!("{null} is not the null device"))
            .way_out("put --dev before --mask"));
    }
    // It must be readable as what it is. Read-only: else a chmod would reach the device itself.
    let null = copy_tree(cx, null.as_fd(), op.attr & !MOUNT_ATTR_NODEV, 0)?;
    root.attach(null, target.as_fd())
}

fn remount_ro(cx: &Cx, root: &mut Root, op: &Op) -> Result<(), Error> {
    let Some(target) = root.find(&op.target, 0)? else { return Ok(()) };
    let stat = sys::fstatx(cx, target.as_fd())?;
    // (Before a dry run, nothing was mounted on ROOT.)
    if stat.is_mount_root() || cx.dry() && root.is(&stat) {
        return root.set_read_only(target);
    }
    if root.is(&stat) {
        return Err(root.refuse_itself(&op.target).because("and it is no mount point"));
    }
    let tree = copy_tree(cx, target.as_fd(), op.attr, 0)?;
    root.attach(tree, target.as_fd())
}

/// Why there is no proc: look at the pid namespace, then at the procs that are there.
fn why_no_proc(cx: &Cx, error: Error) -> Error {
    if !error.is(Errno::EPERM) || is_foreign(cx, c"/proc/self/ns/mnt") {
        return why(cx, error);
    }
    if is_foreign(cx, c"/proc/self/ns/pid") {
        let error = error.because("the pid namespace belongs to a user namespace that is not ours");
        let inode = |path| sys::statx(cx, None, path, 0).map(|stat| stat.ino).ok();
        // Until its first process is there, a new one cannot be looked at.
        return match inode(c"/proc/self/ns/pid_for_children") {
            children if children == inode(c"/proc/self/ns/pid") => {
                error.way_out("run it inside td-unshare --pid")
            }
            _ => error.way_out("a new one was made, and begins with the next child: fork first"),
        };
    }
    match hidden(cx) {
        None => error.because("a new proc must not show more than an old one, and there is none"),
        Some(hidden) if hidden.is_empty() => why(cx, error),
        Some(hidden) => error
            .because(format!("a new proc would show what is covered in the old: {hidden}"))
            .way_out("--bind /proc /proc, or run it where /proc is whole"),
    }
}

/// Where something is mounted on a part of a proc. `None`: there is no proc.
fn hidden(cx: &Cx) -> Option<String> {
    let mounts = mounts::list(cx, c"/proc/self/mountinfo").ok()?;
    let is_proc = |m: &&Mount| m.fstype == b"proc" && m.root == b"/";
    let procs: Vec<&Mount> = mounts.iter().filter(is_proc).collect();
    // A directory that is there only to be mounted on has nothing to hide.
    let hides = |m: &&Mount| m.fstype != b"binfmt_misc" && m.fstype != b"autofs";
    let children = mounts.iter().filter(|m| procs.iter().any(|proc| proc.id == m.parent));
    let points: Vec<String> = children.filter(hides).map(|m| plain(&m.point)).collect();
    (!procs.is_empty()).then(|| points.join(", "))
}
