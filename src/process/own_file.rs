//! The file of the running program: where it lies, and how it is executed so that nobody can write to it.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use syscalls::Errno;

use crate::process::why_not_executed;
use crate::say::error::{Error, FAILED};
use crate::say::flags::MFD_EXEC;
use crate::say::show::plain;
use crate::sys::structs::MountAttr;
use crate::sys::{self, Cx, cstring, proc};

/// The file of the running program, whatever its name was, and whatever has that name now.
const OWN_FILE: &CStr = c"/proc/self/exe";

/// The path of that file below /proc.
const IN_PROC: &CStr = c"self/exe";

/// The absolute path of the running program. `None`: it is not known, or not one of this root.
pub fn path(cx: &Cx) -> Result<Option<Vec<u8>>, Error> {
    if let Some(path) = cx.sealed() {
        return Ok(path.starts_with(b"/").then(|| path.to_vec()));
    }
    if is_by_descriptor(cx) {
        // A copy that the caller made in memory has no path, though its name may look like one.
        let name = cx.start.args.first().map(|name| name.to_bytes().to_vec());
        return Ok(located(cx).or(name.filter(|name| name.starts_with(b"/"))));
    }
    let path = cx.start.execfn.to_bytes();
    if path.starts_with(b"/") {
        return Ok(Some(path.to_vec()));
    }
    let mut absolute = sys::getcwd(cx)?;
    absolute.push(b'/');
    absolute.extend(path);
    Ok(Some(absolute))
}

/// Was this program executed by descriptor, as by fexecve(3)? Then the kernel gives no path. By now descriptor N may be
/// closed or another file, and for a script it is the script: it does not show which program runs.
fn is_by_descriptor(cx: &Cx) -> bool {
    cx.start.execfn.to_bytes().starts_with(b"/dev/fd/")
}

/// Where the running program lies, as /proc shows. `None`: it was removed, or is in memory or another root, or /proc is
/// not mounted.
fn located(cx: &Cx) -> Option<Vec<u8>> {
    let path = sys::readlinkat(cx, None, OWN_FILE).ok()?;
    let stat = |path: &CStr| sys::statx(cx, None, path, 0).ok();
    let is_there = path.starts_with(b"/") && stat(OWN_FILE)?.same_file(&stat(&cstring(&*path))?);
    is_there.then_some(path)
}

/// Execute this program again, [sealed](seal), unless the program that executed us says that it is already sealed: see
/// [`sys::SEALED`]. The other tools are still found beside the file.
pub fn continue_sealed(cx: &Cx, how: Seal) -> Result<(), Error> {
    if cx.sealed().is_some() {
        return Ok(());
    }
    let path = path(cx)?;
    let name = cstring(cx.tool());
    let file = seal(cx, &to_execute(cx)?, &name, how)?;
    let sealed = option(path.as_deref().unwrap_or_default());
    // A program of several tools is told by its name which of them it is.
    let (args, handed) = cx.command_line();
    let typed = args.first().filter(|_| cx.tools.is_empty());
    let mut argv = vec![typed.cloned().unwrap_or(name), sealed];
    argv.extend(handed);
    argv.extend_from_slice(args.get(1..).unwrap_or_default());
    sys::execveat(cx, file.as_fd(), &argv)
}

/// A path by which this program can be executed once more: its own, where that leads to it; else that in /proc.
pub fn to_execute(cx: &Cx) -> Result<CString, Error> {
    let path = known_path(cx)?;
    let stat = |at: sys::At, path: &CStr| sys::statx(cx, at, path, 0);
    match (proc::root(cx).and_then(|proc| stat(Some(proc.as_fd()), IN_PROC)), path) {
        (Ok(own), Some(path)) if stat(None, &path).is_ok_and(|it| it.same_file(&own)) => Ok(path),
        (Ok(_), _) => Ok(OWN_FILE.into()),
        (Err(_), Some(path)) => Ok(path),
        (Err(error), None) => Err(why_not_found(error)),
    }
}

/// What `file`, of [`to_execute`], is told where that is the sealed file from which we run.
pub fn still_sealed(cx: &Cx, file: &CStr) -> Option<CString> {
    cx.sealed().filter(|_| file == OWN_FILE).map(option)
}

/// [`sys::SEALED`], of `path`; empty: of one that lies nowhere in this root.
fn option(path: &[u8]) -> CString {
    let separator: &[u8] = if path.is_empty() { b"" } else { b"=" };
    cstring([sys::SEALED.as_bytes(), separator, path].concat())
}

/// [`path`], but not where it is only a guess: of a program that was started by descriptor.
fn known_path(cx: &Cx) -> Result<Option<CString>, Error> {
    let is_guess = cx.sealed().is_none() && is_by_descriptor(cx);
    Ok(if is_guess { None } else { path(cx)?.map(cstring) })
}

/// Why [`path`] is not known. `None`: nothing but that the program lies nowhere in this root.
pub fn why_unknown(cx: &Cx) -> Option<Error> {
    let _looking = cx.looking();
    if cx.sealed().is_some() { None } else { proc::root(cx).err().map(why_not_found) }
}

fn why_not_found(error: Error) -> Error {
    match error.errno() {
        None | Some(Errno::ENOENT) => error
            .because("the path of this program is not known, and its file can be found only through /proc")
            .way_out("mount proc on /proc, or start the program by its path"),
        _ => error,
    }
}

/// What replaces a file of the host when a program of the container is executed. That program could otherwise write to
/// the file through `/proc/PID/exe` (CVE-2019-5736).
#[derive(Clone, Copy, PartialEq)]
pub enum Seal {
    /// The file, on a new read-only mount that is not attached. It costs no memory. A process that may trace us can
    /// clear the read-only flag as long as the descriptor of the mount is open; but it could also open the file itself.
    Mount,
    /// A copy in memory. For td-enter: processes of the container see it, and must not trace it before execve(2) has
    /// made it another program; the descriptor of a mount would be open for a moment then, and they could clear the
    /// flag. Also for process 1 of a machine: it would keep the file system of the old root in use.
    Copy,
}

/// The program `path`, sealed so that nobody can write to it: in one way, or if that is refused, in the other.
pub fn seal(cx: &Cx, path: &CStr, name: &CStr, how: Seal) -> Result<OwnedFd, Error> {
    if how == Seal::Mount {
        // We may not mount here; the mount is unbindable or not of this mount namespace; a filter has no such call.
        const REFUSED: &[Errno] = &[Errno::EPERM, Errno::EINVAL, Errno::ENOSYS];
        cx.expects(REFUSED);
        match read_only(cx, path) {
            Err(e) if e.errno().is_some_and(|errno| REFUSED.contains(&errno)) => {}
            other => return other.map_err(|e| why_no_tool(cx, path, e)),
        }
    }
    match copy(cx, path, name) {
        // The file may be executed and not read, or vm.memfd_noexec is 2: nothing in memory may be executed.
        Err(no_copy) if no_copy.is(Errno::EACCES) => read_only(cx, path).map_err(|e| {
            why_no_tool(cx, path, e).because(["and it cannot be copied: ", no_copy.what()].concat())
        }),
        other => other,
    }
}

/// A copy of the program `path` in memory, to which nobody can write, not even through `/proc`.
fn copy(cx: &Cx, path: &CStr, name: &CStr) -> Result<OwnedFd, Error> {
    let file = sys::openat(cx, None, path, libc::O_RDONLY).map_err(|e| why_no_tool(cx, path, e))?;
    let file = file.as_fd();
    let bits = libc::MFD_ALLOW_SEALING as u64;
    cx.expects(&[Errno::EINVAL]);
    let memfd = match sys::memfd_create(cx, name, bits | MFD_EXEC) {
        // Before Linux 6.3 there is no MFD_EXEC, and no need of it.
        Err(e) if e.is(Errno::EINVAL) => sys::memfd_create(cx, name, bits)?,
        other => other?,
    };
    let mut left = sys::fstatx(cx, file)?.size as usize;
    while left > 0 {
        match sys::sendfile(cx, memfd.as_fd(), file, left)? {
            0 if cx.dry() => break,
            0 => {
                return Err(Error::refusal(format_args!(
                    "{} was truncated",
                    plain(path.to_bytes())
                )));
            }
            n => left = left.saturating_sub(n),
        }
    }
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // EBUSY: the kernel still has a page of it in its own hands, and has waited some 150 ms for that: mm/memfd.c.
    let mut tries = 10;
    loop {
        match sys::fcntl_add_seals(cx, memfd.as_fd(), seals) {
            Err(e) if e.is(Errno::EBUSY) && tries > 1 => tries -= 1,
            other => return other.map(|()| memfd),
        }
    }
}

/// The program `path` on a mount of its own, which is nowhere and read-only.
fn read_only(cx: &Cx, path: &CStr) -> Result<OwnedFd, Error> {
    let tree = sys::open_tree(cx, None, path, libc::OPEN_TREE_CLONE)?;
    let attr = MountAttr { attr_set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    sys::mount_setattr(cx, tree.as_fd(), 0, attr)?;
    Ok(tree)
}

/// Why one of our tools was not executed. That is a failure of ours, and not of PROG.
pub fn why_no_tool(cx: &Cx, path: &CStr, error: Error) -> Error {
    let _looking = cx.looking();
    why_not_executed::why(cx, path, error).with_status(FAILED)
}
