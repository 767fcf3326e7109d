//! td-pivot: make NEW_ROOT the root of this mount namespace, let go of the old one, become PROG.
#![no_main]

const HELP: &str = "\
usage: td-pivot [OPTION]... NEW_ROOT PROG [ARG]...

Make NEW_ROOT the root directory, detach the old root, become PROG, which runs
in the new root. Descriptors above 2 are closed.

  -o, --put-old DIR    keep the old root, mounted on DIR inside NEW_ROOT
      --no-bind        where NEW_ROOT is no mount point of its own, fail instead
                       of binding it on itself
      --host-namespace do it in the mount namespace of PID 1 too
      --keep-fd N      do not close descriptor N
";

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd, RawFd};

use syscalls::Errno;
use td::chain::{self, Prog};
use td::cli::{Cli, Never};
use td::error::Error;
use td::mounts::{self, Mount};
use td::show::plain;
use td::structs::MountAttr;
use td::sys::{self, Cx};

td::step!(HELP, parse, apply);

struct Opts {
    /// Where the old root goes, seen from NEW_ROOT.
    put_old: Option<CString>,
    bind: bool,
    host_namespace: bool,
    keep_fds: Vec<RawFd>,
    new_root: CString,
    prog: Prog,
}

fn parse(cli: &mut Cli) -> Result<Opts, Error> {
    let (mut put_old, mut bind, mut host_namespace) = (None, true, false);
    let mut keep_fds = Vec::new();
    while let Some(option) = cli.option()? {
        match option.as_str() {
            "-o" | "--put-old" => put_old = Some(cli.path()?),
            "--no-bind" => bind = false,
            "--host-namespace" => host_namespace = true,
            "--keep-fd" => keep_fds.push(cli.fd()?),
            _ => return Err(cli.unknown(&option)),
        }
    }
    let new_root = cli.operand("NEW_ROOT")?;
    Ok(Opts { put_old, bind, host_namespace, keep_fds, new_root, prog: cli.prog()? })
}

fn apply(cx: &Cx, opts: &Opts) -> Result<Never, Error> {
    let prog = opts.prog.find(cx)?;
    if !prog.is_sibling() {
        chain::reexec_sealed(cx)?; // we execute a file of the new root ourselves, then
    }
    refuse_directories(cx)?;
    if !opts.host_namespace {
        refuse_host_namespace(cx)?;
    }
    let copy = prog.seal(cx)?; // before the step: it is not in the new root

    sys::chdir(cx, &opts.new_root).map_err(|e| why_no_directory(cx, &opts.new_root, e))?;
    match &opts.put_old {
        None => {
            pivot(cx, opts, c".")?;
            // The old root lies on the new one now: "." is the one that covers.
            sys::umount2(cx, c".", libc::MNT_DETACH)?;
        }
        Some(directory) => pivot(cx, opts, &inside(cx, directory)?)?,
    }
    sys::chdir(cx, c"/")?;

    let mut keep = opts.keep_fds.clone();
    keep.extend(cx.trace_fd().filter(|fd| prog.is_sibling() && *fd > 2));
    chain::close_on_exec(cx, &keep)?;
    match copy {
        Some(copy) => prog.exec_sealed(cx, &copy),
        None => prog.exec(cx),
    }
}

/// A directory on a standard stream would be a way back out of the new root.
fn refuse_directories(cx: &Cx) -> Result<(), Error> {
    for fd in (0..3).filter(|fd| !cx.start.was_closed(*fd)) {
        if sys::fstatx(cx, sys::standard_fd(fd))?.is_dir() {
            let what = format!("descriptor {fd} is a directory, which leads out of the new root");
            return Err(Error::refusal(what).way_out(format!("close it: {fd}<&-")));
        }
    }
    Ok(())
}

/// In the mount namespace of the machine's PID 1, pivot_root(2) gives every process there the new root
/// and nothing stops it, if `/` happens to be private. PID 1 itself is meant to do that.
fn refuse_host_namespace(cx: &Cx) -> Result<(), Error> {
    if cx.dry() {
        return Ok(()); // the step that makes a mount namespace was dry too
    }
    let refusal = match shares_mounts_with_pid_1(cx) {
        Some(false) => return Ok(()),
        Some(true) if sys::readlinkat(cx, None, c"/proc/self")? == b"1" => return Ok(()),
        Some(true) => {
            "this is the mount namespace of PID 1: every process there would get the new root"
        }
        // The initramfs, before /proc is mounted.
        None if sys::getpid(cx)? == 1 => return Ok(()),
        None => "without /proc it cannot be seen whether this is the mount namespace of PID 1",
    };
    Err(Error::refusal(refusal)
        .way_out("run it inside td-unshare --mount, or say --host-namespace if it is meant"))
}

/// Are we in the mount namespace of the PID 1 that `/proc` shows? `None`: it cannot be seen.
fn shares_mounts_with_pid_1(cx: &Cx) -> Option<bool> {
    let own = sys::statx(cx, None, c"/proc/self/ns/mnt", 0).ok()?;
    if let Ok(first) = sys::statx(cx, None, c"/proc/1/ns/mnt", 0) {
        return Some(own.same_file(&first));
    }
    // That asks for the right to trace PID 1; mountinfo does not, and no two namespaces have a mount in
    // common.
    let own = mounts::list(cx, c"/proc/self/mountinfo").ok()?;
    let first = mounts::list(cx, c"/proc/1/mountinfo").ok()?;
    Some(own.iter().any(|mount| first.iter().any(|other| other.id == mount.id)))
}

/// DIR of --put-old as a path from the working directory, which is NEW_ROOT. It may not go through a
/// link, which pivot_root(2) would follow out of NEW_ROOT.
fn inside(cx: &Cx, directory: &CStr) -> Result<CString, Error> {
    let bytes = directory.to_bytes();
    let start = bytes.iter().position(|b| *b != b'/').unwrap_or(bytes.len());
    let path = CString::new(bytes.get(start..).unwrap_or_default()).unwrap_or_default();
    let here = sys::openat(cx, None, c".", libc::O_PATH | libc::O_DIRECTORY)?;
    let within = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS;
    if !cx.dry() {
        sys::openat2(cx, here.as_fd(), &path, libc::O_PATH | libc::O_DIRECTORY, within).map_err(
            |e| e.because(format!("{} is no directory inside the new root", plain(bytes))),
        )?;
    }
    Ok(path)
}

/// Pivot to the working directory. Where that is no mount of its own, bind it on itself and try again.
fn pivot(cx: &Cx, opts: &Opts, put_old: &CStr) -> Result<(), Error> {
    let Err(error) = sys::pivot_root(cx, c".", put_old) else { return Ok(()) };
    let cause = why(cx, put_old, &error);
    if !opts.bind || !cause.as_ref().is_some_and(Cause::cured_by_bind) {
        return Err(explain(opts, cause, error));
    }
    let bind = bind_on_itself(cx)?;
    sys::pivot_root(cx, c".", put_old).map_err(|error| {
        let error = explain(opts, why(cx, put_old, &error), error);
        match sys::umount2(cx, c".", libc::MNT_DETACH) {
            Ok(()) => error,
            Err(left) => {
                error.because(format!("and the bind is left behind: {}", left.text(cx.tool)))
            }
        }
    })?;
    drop(bind);
    Ok(())
}

/// Bind the working directory on itself with all that is mounted below it, and enter the new mount.
fn bind_on_itself(cx: &Cx) -> Result<OwnedFd, Error> {
    let here = sys::openat(cx, None, c".", libc::O_PATH | libc::O_DIRECTORY)?;
    let recursive = libc::OPEN_TREE_CLONE | libc::AT_RECURSIVE as u32;
    let tree = sys::open_tree(cx, None, c".", recursive)?;
    let private = MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() };
    sys::mount_setattr(cx, tree.as_fd(), libc::AT_RECURSIVE, private)?;
    sys::move_mount(cx, tree.as_fd(), here.as_fd())?;
    sys::fchdir(cx, tree.as_fd())?;
    Ok(tree)
}

/// A precondition of pivot_root(2) that is not met.
enum Cause {
    NoPrivilege,
    /// A mount that must be private, by its part in the call, and where it is.
    Shared(&'static str, Vec<u8>),
    RootIsNoMount,
    RootHasNoParent,
    OnRootMount,
    NoMountPoint,
    Locked,
}

impl Cause {
    fn cured_by_bind(&self) -> bool {
        matches!(self, Cause::OnRootMount | Cause::NoMountPoint | Cause::Locked)
    }
}

/// Look for it, in the order in which the kernel checks.
fn why(cx: &Cx, put_old: &CStr, error: &Error) -> Option<Cause> {
    if error.is(Errno::EPERM) {
        return Some(Cause::NoPrivilege);
    }
    let new_root = sys::statx(cx, None, c".", 0).ok()?;
    let root = sys::statx(cx, None, c"/", 0).ok()?;
    let old = sys::statx(cx, None, put_old, 0).ok()?;
    let list = mounts::list(cx, c"/proc/self/mountinfo").unwrap_or_default();
    let line = |id: u64| list.iter().find(|mount| mount.id == id);
    let parent = |mount: &Mount| line(mount.parent);

    let own = line(new_root.mnt_id);
    let parts = [
        ("the mount of NEW_ROOT", own),
        ("the mount that holds the old root's new place", line(old.mnt_id)),
        ("the parent mount of NEW_ROOT", own.filter(|_| new_root.is_mount_root()).and_then(parent)),
        ("the parent mount of the current root", line(root.mnt_id).and_then(parent)),
    ];
    let shared = parts.iter().find_map(|(part, mount)| Some((*part, mount.filter(|m| m.shared)?)));
    if let Some((part, mount)) = shared {
        return Some(Cause::Shared(part, mount.point.clone()));
    }
    if !root.is_mount_root() {
        return Some(Cause::RootIsNoMount);
    }
    if line(root.mnt_id).is_some_and(|m| m.id == m.parent) {
        return Some(Cause::RootHasNoParent);
    }
    if new_root.mnt_id == root.mnt_id {
        return Some(Cause::OnRootMount);
    }
    if !new_root.is_mount_root() {
        return Some(Cause::NoMountPoint);
    }
    (!mounts::in_initial_user_namespace(cx)).then_some(Cause::Locked)
}

/// The error with its cause and the way out.
fn explain(opts: &Opts, cause: Option<Cause>, error: Error) -> Error {
    let new_root = plain(opts.new_root.to_bytes());
    let not_a_mount = format!("{new_root} is no mount point");
    match cause {
        None => error,
        Some(Cause::NoPrivilege) => error
            .because("no CAP_SYS_ADMIN in the user namespace that owns this mount namespace")
            .way_out("run it inside td-unshare --mount --map-root-user"),
        Some(Cause::Shared(part, point)) => error
            .because(format!(
                "{part}, {}, is shared, so the new root would propagate",
                plain(&point)
            ))
            .way_out("run it inside td-unshare --mount, or make it private first"),
        Some(Cause::RootIsNoMount) => error
            .because("the current root is no mount point: this process is in a chroot(2)")
            .way_out("pivot before the chroot, or mount something on the current root"),
        Some(Cause::RootHasNoParent) => {
            error.because("the current root is the initramfs, which has no parent mount")
        }
        Some(Cause::OnRootMount) => error
            .because(format!("{not_a_mount}, but a directory of the current root's mount"))
            .way_out("leave out --no-bind"),
        Some(Cause::NoMountPoint) => error.because(not_a_mount).way_out("leave out --no-bind"),
        Some(Cause::Locked) => error
            .because(format!("{new_root} came locked into this user namespace's mount namespace"))
            .way_out("leave out --no-bind"),
    }
}

/// Why NEW_ROOT cannot be entered.
fn why_no_directory(cx: &Cx, path: &CStr, error: Error) -> Error {
    let shown = plain(path.to_bytes());
    match sys::statx(cx, None, path, 0) {
        Ok(stat) if !stat.is_dir() => error.because(format!("{shown} is no directory")),
        Ok(_) => error,
        Err(_) => error.because(format!("there is no directory {shown}")),
    }
}
