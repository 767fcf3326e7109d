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
use std::os::fd::{AsFd, BorrowedFd, RawFd};

use syscalls::Errno;
use td::chain::{self, Prog};
use td::cli::{Cli, Never};
use td::error::Error;
use td::mounts::{self, Mount};
use td::show::plain;
use td::structs::MountAttr;
use td::sys::{self, Cx, cstring};

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
    chain::refuse_directories(cx)?;
    if !opts.host_namespace {
        refuse_host_namespace(cx)?;
    }
    let copy = prog.seal(cx)?; // before the step: it is not in the new root

    let old_root = sys::openat(cx, None, c"/", libc::O_PATH | libc::O_DIRECTORY)?;
    chain::enter(cx, &opts.new_root)?;
    match &opts.put_old {
        None => {
            pivot(cx, opts, c".")?;
            let_go(cx, old_root.as_fd())?;
        }
        Some(directory) => pivot(cx, opts, &inside(cx, directory)?)?,
    }
    sys::chdir(cx, c"/")?;

    prog.close_on_exec(cx, &opts.keep_fds)?;
    match copy {
        Some(copy) => prog.exec_sealed(cx, &copy, None),
        None => prog.exec(cx),
    }
}

/// Detach the old root, which lies on the new one: `.` is the one that covers.
fn let_go(cx: &Cx, old_root: BorrowedFd) -> Result<(), Error> {
    // What is unmounted from a shared mount is unmounted for its peers as well, which are the host's.
    let slave = MountAttr { propagation: libc::MS_SLAVE, ..MountAttr::default() };
    sys::mount_setattr(cx, old_root, libc::AT_RECURSIVE, slave)?;
    sys::umount2(cx, c".", libc::MNT_DETACH)
}

/// In the mount namespace of the machine's PID 1, pivot_root(2) gives every process there the new root
/// and nothing stops it, if `/` happens to be private. PID 1 itself is meant to do that.
fn refuse_host_namespace(cx: &Cx) -> Result<(), Error> {
    if cx.dry() {
        return Ok(()); // the step that makes a mount namespace was dry too
    }
    let refusal = match mounts::shared_with_pid_1(cx) {
        Some(false) => return Ok(()),
        // /proc may show another pid namespace than ours, in which we are not its PID 1.
        Some(true) if sys::readlinkat(cx, None, c"/proc/self")? == b"1" => return Ok(()),
        Some(true) => {
            "this is the mount namespace of PID 1: every process there would get the new root"
        }
        // The initramfs, before /proc is mounted.
        None if sys::getpid(cx)? == 1 => return Ok(()),
        None => "it cannot be seen in /proc whether this is the mount namespace of PID 1",
    };
    Err(Error::refusal(refusal)
        .way_out("run it inside td-unshare --mount, or say --host-namespace if it is meant"))
}

/// DIR of --put-old as a path from the working directory, which is NEW_ROOT. It may not go through a
/// link, which pivot_root(2) would follow out of NEW_ROOT.
fn inside(cx: &Cx, directory: &CStr) -> Result<CString, Error> {
    let shown = plain(directory.to_bytes());
    let start = directory.to_bytes().iter().take_while(|b| **b == b'/').count();
    let path = directory.to_bytes().get(start..).unwrap_or_default();
    let path = cstring(if path.is_empty() { b"." } else { path });
    if cx.dry() {
        return Ok(path); // the step that makes it was dry too
    }
    let here = sys::openat(cx, None, c".", libc::O_PATH | libc::O_DIRECTORY)?;
    let within = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS;
    let old = sys::openat2(cx, here.as_fd(), &path, libc::O_PATH | libc::O_DIRECTORY, within)
        .map_err(|e| e.because(format!("{shown} is no directory inside the new root")))?;
    let (old, new) = (sys::fstatx(cx, old.as_fd())?, sys::fstatx(cx, here.as_fd())?);
    if old.same_file(&new) {
        let what = format!("--put-old {shown}: there the old root would cover the new one");
        return Err(Error::refusal(what).way_out("name a directory below NEW_ROOT"));
    }
    Ok(path)
}

/// Pivot to the working directory. Where that is no mount of its own, bind it on itself and try again.
fn pivot(cx: &Cx, opts: &Opts, put_old: &CStr) -> Result<(), Error> {
    let Err(error) = sys::pivot_root(cx, c".", put_old) else { return Ok(()) };
    let cause = why(cx, opts, put_old, &error);
    if !opts.bind || !cause.as_ref().is_some_and(|cause| cause.bind_helps) {
        return Err(explain(cx, cause, error));
    }
    let here = sys::openat(cx, None, c".", libc::O_PATH | libc::O_DIRECTORY)?;
    let copy = mounts::copy_tree(cx, here.as_fd(), 0, 0)?;
    sys::move_mount(cx, copy.as_fd(), here.as_fd())?;
    let again = sys::fchdir(cx, copy.as_fd()).and_then(|()| {
        let second = sys::pivot_root(cx, c".", put_old);
        second.map_err(|error| explain(cx, why(cx, opts, put_old, &error), error))
    });
    again.map_err(|error| match sys::umount2(cx, c".", libc::MNT_DETACH) {
        Ok(()) => error,
        Err(_) => error.because("NEW_ROOT stays bound on itself, for umount2(2) failed as well"),
    })
}

/// A precondition of pivot_root(2) that is not met.
struct Cause {
    because: String,
    way_out: &'static str,
    /// Is it met once NEW_ROOT is bound on itself?
    bind_helps: bool,
}

/// Look for it. What a bind does not cure comes first, whichever the kernel was the first to see.
fn why(cx: &Cx, opts: &Opts, put_old: &CStr, error: &Error) -> Option<Cause> {
    if !error.is(Errno::EINVAL) && !error.is(Errno::EBUSY) {
        return None;
    }
    let new_root = sys::statx(cx, None, c".", 0).ok()?;
    let root = sys::statx(cx, None, c"/", 0).ok()?;
    let old = sys::statx(cx, None, put_old, 0).ok()?;
    let list = mounts::list(cx, c"/proc/self/mountinfo").unwrap_or_default();
    let line = |id: u64| list.iter().find(|mount| mount.id == id);
    let parent = |mount: &Mount| line(mount.parent);

    let name = plain(opts.new_root.to_bytes());
    let own_parent = line(new_root.mnt_id).filter(|_| new_root.is_mount_root()).and_then(parent);
    let parts = [
        (format!("the mount of {name}"), line(old.mnt_id).filter(|_| put_old == c".")),
        (String::from("the mount of --put-old"), line(old.mnt_id)),
        (format!("the parent mount of {name}"), own_parent),
        (String::from("the parent mount of the root"), line(root.mnt_id).and_then(parent)),
    ];
    let cause = |because, way_out| Some(Cause { because, way_out, bind_helps: false });
    let curable =
        |because| Some(Cause { because, way_out: "leave out --no-bind", bind_helps: true });
    for (part, mount) in parts {
        if let Some(mount) = mount.filter(|mount| mount.shared) {
            let point = plain(&mount.point);
            let what = format!("{part}, {point}, is shared, so the new root would propagate");
            return cause(what, "run it inside td-unshare --mount, or make it private first");
        }
    }
    if !root.is_mount_root() {
        let what = "the current root is no mount point: this process is in a chroot(2)";
        return cause(
            what.into(),
            "pivot before the chroot, or mount something on the current root",
        );
    }
    if line(root.mnt_id).is_some_and(|mount| mount.id == mount.parent) {
        let what = "the current root is the initramfs, which has no parent mount";
        return cause(what.into(), "switch_root(8) moves a new root onto that one");
    }
    if new_root.mnt_id == root.mnt_id {
        return curable(format!("{name} is no mount point, but on the mount of the current root"));
    }
    if !new_root.is_mount_root() {
        return curable(format!("{name} is no mount point"));
    }
    if mounts::in_initial_user_namespace(cx) {
        return None;
    }
    // By elimination: nothing shows the lock.
    curable(format!("{name} came locked into the mount namespace of this user namespace"))
}

/// The error with its cause and the way out.
fn explain(cx: &Cx, cause: Option<Cause>, error: Error) -> Error {
    match cause {
        None => mounts::why(cx, error),
        Some(cause) => error.because(cause.because).way_out(cause.way_out),
    }
}
