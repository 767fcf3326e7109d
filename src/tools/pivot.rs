//! td-pivot: make NEW_ROOT the root of this mount namespace, detach the old one, become PROG.

const HELP: &str = "\
usage: td-pivot [OPTION]... NEW_ROOT PROG [ARG]...

Make NEW_ROOT the root directory, detach the old root, and become PROG in the
new root. Descriptors above 2 are closed.

  -o, --put-old DIR    keep the old root, mounted on DIR inside NEW_ROOT
      --move LIST      move mounts to the same paths in NEW_ROOT:
                       /dev,/proc,/run
      --no-bind        fail if NEW_ROOT is not a mount point, instead of
                       binding it on itself
      --free-initramfs remove the files of the initramfs that was the root
      --host-namespace allow this in the mount namespace of PID 1, too
      --keep-fd N      do not close descriptor N
";

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use crate::cli::{Cli, Prog, others};
use crate::process::chain::{self, Tool};
use crate::process::descriptors;
use crate::process::own_file::{self, Seal};
use crate::process::prog::Next;
use crate::root::initramfs;
use crate::root::mount_namespace::{self, Owner};
use crate::root::mounts;
use crate::root::moves::Moves;
use crate::root::remove;
use crate::root::why_not_pivoted::{self, Fallback};
use crate::root::working_directory;
use crate::say::error::Error;
use crate::say::show::plain;
use crate::say::text;
use crate::sys::structs::MountAttr;
use crate::sys::{self, Cx, cstring};

/// The tool.
pub const TOOL: Tool = Tool {
    name: "td-pivot",
    step: |cx, args| chain::step(cx, (TOOL.name, HELP), args, parse, apply),
};

struct Opts {
    /// Where the old root goes, seen from NEW_ROOT.
    put_old: Option<CString>,
    moves: Vec<CString>,
    bind: bool,
    free_initramfs: bool,
    host_namespace: bool,
    keep_fds: Vec<RawFd>,
    new_root: CString,
    prog: Prog,
}

fn parse(cli: &mut Cli) -> Result<Opts, Error> {
    let (mut put_old, mut bind, mut host_namespace) = (None, true, false);
    let (mut moves, mut free_initramfs, mut keep_fds) = (Vec::new(), false, Vec::new());
    while let Some(option) = cli.option()? {
        match option.as_str() {
            "-o" | "--put-old" => put_old = Some(cli.path()?),
            "--move" => moves.extend(list(cli)?),
            "--no-bind" => bind = false,
            "--free-initramfs" => free_initramfs = true,
            "--host-namespace" => host_namespace = true,
            "--keep-fd" => keep_fds.push(cli.fd()?),
            _ => return Err(cli.unknown(&option, others::PIVOT)),
        }
    }
    let new_root = cli.operand("NEW_ROOT")?;
    let prog = cli.prog()?;
    Ok(Opts { put_old, moves, bind, free_initramfs, host_namespace, keep_fds, new_root, prog })
}

/// Absolute paths with commas between.
fn list(cli: &mut Cli) -> Result<Vec<CString>, Error> {
    let value = cli.value()?;
    let mut paths = Vec::new();
    for path in text::split(value.as_bytes(), b',') {
        if !path.starts_with(b"/") {
            let path = plain(path);
            return Err(cli.usage(format_args!("--move {path}: not an absolute path")));
        }
        paths.push(cstring(path));
    }
    Ok(paths)
}

fn apply(cx: &Cx, opts: &Opts) -> Result<Next, Error> {
    let prog = opts.prog.find_tool(cx)?;
    if !prog.is_tool() {
        // This process executes a file of the new root. From here on: the sealed program, begun anew.
        own_file::continue_sealed(cx, Seal::Mount)?;
    }
    descriptors::refuse_ways_out(cx)?;
    descriptors::refuse_locks(cx, &opts.keep_fds)?;
    let how = if opts.host_namespace { Seal::Copy } else { refuse_host_namespace(cx)? };
    let sealed = prog.seal(cx, how)?; // while its file can be reached: the new root does not have it

    let old_root = sys::openat(cx, None, c"/", libc::O_PATH | libc::O_DIRECTORY)?;
    working_directory::enter(cx, &opts.new_root)?;
    if opts.free_initramfs {
        initramfs::refuse_to_free(cx, old_root.as_fd())?;
    }
    let mut moves = Moves::default();
    moves
        .make(cx, &opts.moves)
        .and_then(|()| change_root(cx, opts, old_root.as_fd()))
        .inspect_err(|_| moves.undo(cx, old_root.as_fd()))?;
    sys::chdir(cx, c"/")?;
    if opts.free_initramfs {
        remove::empty(cx, old_root.as_fd())?;
    }

    descriptors::close_on_exec(cx, &opts.keep_fds, prog.is_tool())?;
    match sealed {
        Some(file) => prog.exec_sealed(cx, &file),
        None => prog.exec(cx),
    }
}

/// Make the working directory the root, and detach the old one or keep it.
fn change_root(cx: &Cx, opts: &Opts, old_root: BorrowedFd) -> Result<(), Error> {
    match &opts.put_old {
        None => match pivot(cx, opts, c".", old_root)? {
            Old::OverNew => detach(cx, old_root),
            Old::BelowNew => Ok(()),
        },
        Some(directory) => pivot(cx, opts, &inside(cx, directory)?, old_root).map(drop),
    }
}

/// Detach the old root. It is stacked on the new one, so `.` names the old.
fn detach(cx: &Cx, old_root: BorrowedFd) -> Result<(), Error> {
    // What is unmounted from a shared mount is unmounted for its peers as well, which are the host's.
    let slave = MountAttr { propagation: libc::MS_SLAVE, ..MountAttr::default() };
    sys::mount_setattr(cx, old_root, libc::AT_RECURSIVE, slave)?;
    sys::umount2(cx, c".", libc::MNT_DETACH)
}

/// In the mount namespace of the machine's PID 1, pivot_root(2) gives every process there the new root
/// and nothing stops it, if `/` happens to be private. PID 1 itself is meant to do that. Returns how a tool is sealed:
/// where a machine gets a new root, no mount keeps the file system of the old one in use.
fn refuse_host_namespace(cx: &Cx) -> Result<Seal, Error> {
    // In a dry run the step that makes a mount namespace was dry too.
    if cx.dry() || cx.made_mount_namespace() {
        return Ok(Seal::Mount);
    }
    let own = mounts::own_proc(cx).ok();
    let refusal = match mount_namespace::owner(cx, own.as_ref().map(AsFd::as_fd)) {
        Some(Owner::Other) => return Ok(Seal::Mount),
        Some(Owner::OurselvesAsPid1) => return Ok(Seal::Copy),
        Some(Owner::Pid1) => {
            "this is the mount namespace of PID 1: every process there would get the new root"
        }
        None => "/proc does not show whether this is the mount namespace of PID 1",
    };
    Err(Error::refusal(refusal)
        .way_out("run it inside td-unshare --mount, or use --host-namespace if you want this"))
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
        .map_err(|e| e.because(format_args!("{shown} is not a directory inside the new root")))?;
    let (old, new) = (sys::fstatx(cx, old.as_fd())?, sys::fstatx(cx, here.as_fd())?);
    if old.same_file(&new) {
        let what = format!("--put-old {shown}: the old root would cover the new one");
        return Err(Error::refusal(what).way_out("name a directory below NEW_ROOT"));
    }
    Ok(path)
}

/// Where the old root is now.
enum Old {
    OverNew,
    BelowNew,
}

/// Pivot to the working directory, or make it the root in another way.
fn pivot(cx: &Cx, opts: &Opts, put_old: &CStr, old_root: BorrowedFd) -> Result<Old, Error> {
    let Err(error) = sys::pivot_root(cx, c".", put_old) else { return Ok(Old::OverNew) };
    let cause = why_not_pivoted::why(cx, &opts.new_root, opts.bind, put_old, &error);
    match cause.as_ref().map(|cause| cause.fallback) {
        Some(Fallback::Bind) if opts.bind => {
            bind_and_pivot(cx, opts, put_old).map(|()| Old::OverNew)
        }
        Some(Fallback::Cover) if opts.put_old.is_none() => {
            initramfs::cover(cx, old_root, opts.bind)?;
            let new_root = plain(opts.new_root.to_bytes());
            let what = "the root is the initramfs, which cannot be pivoted";
            cx.say(&Error::refusal(format_args!("{what}: {new_root} was moved onto it")));
            Ok(Old::BelowNew)
        }
        _ => Err(why_not_pivoted::explain(cx, cause, error)),
    }
}

/// The working directory is not a mount point: bind it on itself, and try again.
fn bind_and_pivot(cx: &Cx, opts: &Opts, put_old: &CStr) -> Result<(), Error> {
    let here = sys::openat(cx, None, c".", libc::O_PATH | libc::O_DIRECTORY)?;
    let copy = mounts::copy_tree(cx, here.as_fd(), 0, 0)?;
    sys::move_mount(cx, copy.as_fd(), here.as_fd())?;
    let again = sys::fchdir(cx, copy.as_fd()).and_then(|()| {
        let second = sys::pivot_root(cx, c".", put_old);
        second.map_err(|error| {
            why_not_pivoted::explain(
                cx,
                why_not_pivoted::why(cx, &opts.new_root, opts.bind, put_old, &error),
                error,
            )
        })
    });
    again.map_err(|error| match sys::umount2(cx, c".", libc::MNT_DETACH) {
        Ok(()) => error,
        Err(_) => {
            error.because("NEW_ROOT stays bound on itself, because umount2(2) failed as well")
        }
    })
}
