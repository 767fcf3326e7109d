//! td-mount: fill a root with mounts, then become PROG.

const HELP: &str = "\
usage: td-mount [OPTION]... ROOT PROG [ARG]...

Mount what the options say in the directory ROOT, in the order given, then
become PROG. Every DIR, DST and PATH is in ROOT: no symbolic link leads out of
it. A DIR or DST that is missing is created; a PATH that is missing is ignored.

      --proc          mount proc on /proc: the processes of this pid namespace
      --dev           mount a small /dev: null, zero, full, random, urandom,
                      tty, pts, shm, mqueue, and links to the standard streams
      --devtmpfs      mount the machine's /dev, with every device, for its init
      --sys           mount sysfs on /sys, read-only
      --sys-rw        mount sysfs on /sys, writable
      --cgroup        mount the cgroups on /sys/fs/cgroup: version 2, or the
                      hierarchies of version 1 that are in use
      --tmpfs DIR     mount an empty tmpfs on DIR, with the owner and the mode
                      that DIR has if it exists
      --fs TYPE SRC DST  mount the file system TYPE of the device SRC on DST;
                      if TYPE needs no device, SRC is any word
      --bind SRC DST  mount the caller's file or directory SRC on DST, with all
                      mounts below it
      --ro-bind SRC DST  do the same, read-only
      --dev-bind SRC DST  do as --bind, but let devices work
      --move SRC DST  move the caller's mount from SRC to DST
      --mask PATH     cover a directory with an empty one, a file with /dev/null
      --remount-ro PATH  make PATH read-only; of a mount point, only that mount
      --restrict      mask, or make read-only, what in /proc and /sys belongs to
                      the whole machine, as td-run and docker do
      --dir DST       create a directory
      --symlink TEXT DST  create a symbolic link to TEXT
      --options LIST  set options of the mount just before, with commas between:
                      ro, rw, noexec, nosuid, dev ..., and those of the file
                      system: size=SIZE, mode=MODE ... of tmpfs, hidepid=2 ...
";

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use libc::{
    MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, RESOLVE_NO_SYMLINKS,
};
use syscalls::Errno;

use crate::cgroup;
use crate::cli::{Cli, Prog, others};
use crate::ids::user_namespace;
use crate::process::chain::{self, Tool};
use crate::process::prog::Next;
use crate::root::devices;
use crate::root::dry_run::open_source;
use crate::root::fill::Root;
use crate::root::mount_namespace;
use crate::root::mounts::{Parameter, copy_tree, new_fs};
use crate::root::namespaced::why_no_view;
use crate::root::restrict;
use crate::root::why_not_mounted;
use crate::say::error::Error;
use crate::say::number::fits;
use crate::say::show::{self, plain};
use crate::say::text;
use crate::sys::{self, Cx, cstring};

/// The tool.
pub const TOOL: Tool = Tool {
    name: "td-mount",
    step: |cx, args| chain::step(cx, (TOOL.name, HELP), args, parse, apply),
};

struct Opts {
    ops: Vec<Op>,
    root: CString,
    prog: Prog,
}

/// One mount, or one thing that is made.
struct Op {
    what: What,
    target: CString,
    /// Of the file system: a key, and a value or none.
    options: Vec<(CString, Option<CString>)>,
    /// Of the mount: MOUNT_ATTR_*.
    attr: u64,
    /// The attributes of the source that a bind removes.
    clear: u64,
}

enum What {
    Proc,
    Dev,
    Devtmpfs,
    Sys,
    Cgroup,
    Tmpfs,
    /// A file system of this type.
    Fs(CString),
    Bind(CString),
    Move(CString),
    Mask,
    RemountRo,
    Dir,
    Symlink(CString),
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
    let mut ops: Vec<Op> = Vec::new();
    while let Some(option) = cli.option()? {
        ops.push(match option.as_str() {
            "--proc" => op(What::Proc, c"/proc".into(), NOTHING),
            "--dev" => op(What::Dev, c"/dev".into(), MOUNT_ATTR_NOSUID),
            "--devtmpfs" => op(What::Devtmpfs, c"/dev".into(), MOUNT_ATTR_NOSUID),
            "--sys" => op(What::Sys, c"/sys".into(), NOTHING | MOUNT_ATTR_RDONLY),
            "--sys-rw" => op(What::Sys, c"/sys".into(), NOTHING),
            "--cgroup" => op(What::Cgroup, c"/sys/fs/cgroup".into(), NOTHING),
            "--tmpfs" => op(What::Tmpfs, cli.path()?, NODEV),
            "--fs" => {
                let (what, source) = (What::Fs(cli.path()?), (c"source".into(), Some(cli.path()?)));
                Op { options: vec![source], ..op(what, cli.path()?, MOUNT_ATTR_NODEV) }
            }
            "--bind" => op(What::Bind(cli.path()?), cli.path()?, MOUNT_ATTR_NODEV),
            "--ro-bind" => {
                op(What::Bind(cli.path()?), cli.path()?, MOUNT_ATTR_NODEV | MOUNT_ATTR_RDONLY)
            }
            "--dev-bind" => op(What::Bind(cli.path()?), cli.path()?, 0),
            "--move" => op(What::Move(cli.path()?), cli.path()?, 0),
            "--mask" => mask(cli.path()?),
            "--remount-ro" => remount_ro(cli.path()?),
            "--restrict" => {
                ops.extend(restrict::MASKED.iter().map(|path| mask((*path).into())));
                ops.extend(restrict::READ_ONLY.iter().map(|path| remount_ro((*path).into())));
                continue;
            }
            "--dir" => op(What::Dir, cli.path()?, 0),
            "--symlink" => op(What::Symlink(cli.path()?), cli.path()?, 0),
            "--options" => {
                options(cli, ops.last_mut())?;
                continue;
            }
            _ => return Err(cli.unknown(&option, others::MOUNT)),
        });
    }
    Ok(Opts { ops, root: cli.operand("ROOT")?, prog: cli.prog()? })
}

fn op(what: What, target: CString, attr: u64) -> Op {
    Op { what, target, options: Vec::new(), attr, clear: 0 }
}

fn mask(path: CString) -> Op {
    op(What::Mask, path, NOTHING | MOUNT_ATTR_RDONLY)
}

fn remount_ro(path: CString) -> Op {
    op(What::RemountRo, path, MOUNT_ATTR_RDONLY)
}

/// `--options LIST`: words for the mount, others for the file system.
fn options(cli: &mut Cli, op: Option<&mut Op>) -> Result<(), Error> {
    let list = cli.value()?;
    let Some(op) = op else {
        return Err(cli.usage("--options must follow the mount to which it applies"));
    };
    let (is_fs, is_bind) = match op.what {
        What::Proc | What::Cgroup | What::Tmpfs | What::Fs(_) => (true, false),
        What::Bind(_) => (false, true),
        What::Sys => (false, false),
        _ => {
            let takers = "--proc, --sys, --sys-rw, --cgroup, --tmpfs, --fs, --bind, --ro-bind and --dev-bind";
            return Err(cli.usage(format_args!("--options applies to {takers}")));
        }
    };
    for word in text::split(list.as_bytes(), b',').filter(|word| !word.is_empty()) {
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
                // If the caller's /sys replaces a new one, it stays as it is.
                op.clear |= if is_bind { bit } else { 0 };
            }
            _ if !is_fs => {
                let what = format!("--options {}: this mount has no such option", plain(word));
                return Err(cli.usage(what));
            }
            (.., None) => op.options.push((cstring(word), None)),
            (.., Some(i)) => {
                let (key, value) = word.split_at(i);
                let value = value.strip_prefix(b"=").unwrap_or_default();
                if !fits(value) {
                    let word = plain(word);
                    return Err(
                        cli.usage(format_args!("--options {word}: this number is too large"))
                    );
                }
                op.options.push((cstring(key), Some(cstring(value))));
            }
        }
    }
    Ok(())
}

fn apply(cx: &Cx, opts: &Opts) -> Result<Next, Error> {
    let prog = opts.prog.find_tool(cx)?;
    let mut root = Root::open(cx, &opts.root)?;
    if opts.ops.iter().any(|op| !matches!(op.what, What::Dir | What::Symlink(_))) {
        mount_namespace::warn_on_host(cx);
    }
    // What is made has the modes that are written here, whatever the caller's umask.
    let umask = sys::umask(cx, 0)?;
    let done = opts.ops.iter().try_for_each(|op| mount(cx, &mut root, op));
    let next = done.and_then(|()| {
        sys::umask(cx, umask)?;
        prog.next(cx)
    });
    next.inspect_err(|_| root.undo())
}

fn mount(cx: &Cx, root: &mut Root, op: &Op) -> Result<(), Error> {
    use What::*;
    root.guarded = matches!(op.what, Proc | Dev | Devtmpfs | Sys | Cgroup);
    let keys = op.options.iter().map(|(key, value)| (key.as_c_str(), value.as_deref()));
    let keys: Vec<Parameter> = keys.collect();
    let target = op.target.as_c_str();
    match &op.what {
        Proc => {
            let proc = new_fs(cx, c"proc", &keys, op.attr)
                .map_err(|e| why_no_view(cx, c"proc", &keys, op.attr, e))?;
            root.attach_on(proc, target, RESOLVE_NO_SYMLINKS)
        }
        Dev => devices::mount_own(cx, root, op.attr),
        Devtmpfs => devices::mount_machines(cx, root, op.attr),
        Sys => match new_fs(cx, c"sysfs", &keys, op.attr) {
            // The network namespace belongs to another user namespace: its files below /sys may be visible, as they are
            // to the caller.
            Err(e) if e.is(Errno::EPERM) => {
                let what = "a new sysfs is refused (EPERM)";
                let instead = "binding the caller's /sys instead, with the cgroups mounted there";
                cx.say(&Error::refusal(format_args!("{what}: {instead}")));
                bind(cx, root, c"/sys", op, RESOLVE_NO_SYMLINKS)
            }
            sysfs => root.attach_on(sysfs?, target, RESOLVE_NO_SYMLINKS),
        },
        Cgroup => cgroup::mount::mount(cx, root, &keys, op.attr),
        Tmpfs => tmpfs(cx, root, op, keys),
        Fs(fstype) => {
            let new = new_of_type(cx, fstype, keys, op.attr)?;
            root.attach_on(new, target, 0)
        }
        Bind(source) => bind(cx, root, source, op, 0),
        Move(source) => root.move_from(source, target),
        Symlink(text) => root.symlink(text, target),
        Dir => root.directory(target).map(drop),
        Mask => restrict::mask(cx, root, target, op.attr),
        RemountRo => restrict::remount_ro(cx, root, target, op.attr),
    }
}

fn new_of_type(
    cx: &Cx,
    fstype: &CStr,
    mut keys: Vec<Parameter>,
    attr: u64,
) -> Result<OwnedFd, Error> {
    // The file system itself shall not write to its device.
    if attr & MOUNT_ATTR_RDONLY != 0 {
        keys.push((c"ro", None));
    }
    new_fs(cx, fstype, &keys, attr).map_err(|e| why_not_mounted::why(cx, fstype, &keys, attr, e))
}

/// Unless its options say otherwise, a tmpfs gets the mode and the owner of the directory that it covers, so that a
/// private directory of an image is not open to all. On a new directory it keeps its default mode, 1777.
fn tmpfs(cx: &Cx, root: &mut Root, op: &Op, keys: Vec<Parameter>) -> Result<(), Error> {
    let covers = root.paths.find(&op.target, 0)?.is_some();
    let target = root.target(&op.target, true, 0)?;
    let mut more = Vec::new();
    if covers {
        let stat = sys::fstatx(cx, target.as_fd())?;
        let mut mode = String::new();
        show::octal("", stat.permissions(), &mut mode);
        more.push((c"mode", cstring(mode)));
        for (key, id, own, map) in [
            (c"uid", stat.uid, cx.start.euid, c"/proc/self/uid_map"),
            (c"gid", stat.gid, cx.start.egid, c"/proc/self/gid_map"),
        ] {
            if id != own && user_namespace::may_own(cx, map, id)? {
                more.push((key, cstring(show::number(id.into()))));
            }
        }
    }
    more.retain(|(key, _)| !keys.iter().any(|(said, _)| said == key));
    let more = more.iter().map(|(key, value)| (*key, Some(value.as_c_str())));
    let keys = keys.into_iter().chain(more).collect();
    let new = new_of_type(cx, c"tmpfs", keys, op.attr)?;
    root.attach(new, target.as_fd(), &op.target)
}

fn bind(cx: &Cx, root: &mut Root, source: &CStr, op: &Op, resolve: u64) -> Result<(), Error> {
    let file = open_source(cx, source)?;
    let is_dir = sys::fstatx(cx, file.as_fd())?.is_dir();
    let tree = copy_tree(cx, file.as_fd(), op.attr, op.clear)?;
    let target = root.target(&op.target, is_dir, resolve)?;
    root.attach(tree, target.as_fd(), &op.target)
}
