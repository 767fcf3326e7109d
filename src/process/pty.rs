//! A terminal of PROG's own, a pair of pty(7): opening it, its beginning, and the session that it controls.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use syscalls::Errno;

use crate::root::dry_run::or_stand_in;
use crate::root::why_no_path::why_unreachable;
use crate::say::error::Error;
use crate::sys::structs::{Beginning, WinSize};
use crate::sys::{self, Cx};

const DIRECTORY: i32 = libc::O_PATH | libc::O_DIRECTORY;
const ACCESS: i32 = libc::O_RDWR | libc::O_NOCTTY;

/// Both ends.
pub struct Pty {
    /// That of whoever types and sees.
    pub master: OwnedFd,
    /// The terminal of PROG, which belongs to the user of this process.
    pub slave: OwnedFd,
}

impl Pty {
    /// A new one, of the devpts that this root has.
    pub fn open(cx: &Cx) -> Result<Pty, Error> {
        let master = open_multiplexer(cx)?;
        sys::unlock_pty(cx, master.as_fd())?;
        let slave = sys::open_pty_peer(cx, master.as_fd())?;
        Ok(Pty { master, slave })
    }

    /// Let it begin so.
    pub fn begin(&self, cx: &Cx, beginning: &Beginning) -> Result<(), Error> {
        let slave = self.slave.as_fd();
        if beginning.size != WinSize::default() {
            sys::set_window_size(cx, slave, &beginning.size)?;
        }
        sys::set_terminal_modes(cx, slave, &beginning.modes)
    }

    /// It controls the session that this process leads, and is descriptors 0 to 2. Returns the other end.
    pub fn take(self, cx: &Cx) -> Result<OwnedFd, Error> {
        control_session(cx, self.slave.as_fd())?;
        self.be_standard(cx)
    }

    /// It is descriptors 0 to 2. Returns the other end.
    pub fn be_standard(self, cx: &Cx) -> Result<OwnedFd, Error> {
        sys::dup_to_standard(cx, self.slave.as_fd())?;
        Ok(self.master)
    }
}

/// The terminal controls the session that this process leads.
pub fn control_session(cx: &Cx, terminal: BorrowedFd) -> Result<(), Error> {
    sys::set_controlling_terminal(cx, terminal).map_err(|e| why_no_session(cx, e))
}

/// Open the multiplexer of the devpts that this root has, and nothing else: who has made the root may have put a
/// device, a FIFO, or a link to a file of ours at its path.
fn open_multiplexer(cx: &Cx) -> Result<OwnedFd, Error> {
    let root = sys::openat(cx, None, c"/", DIRECTORY)?;
    let within = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    let devpts = or_stand_in(cx, sys::openat2(cx, root.as_fd(), c"dev/pts", DIRECTORY, within))
        .map_err(|e| why_no_devpts(cx, e))?;
    if !cx.dry() && sys::fstatfs(cx, devpts.as_fd())?.f_type != libc::DEVPTS_SUPER_MAGIC {
        let what = "/dev/pts is not a devpts";
        return Err(Error::refusal(what).way_out(MOUNT));
    }
    // Nobody creates a file there: it is what the kernel has made, or something is mounted on it.
    let itself = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_XDEV;
    match sys::openat2(cx, devpts.as_fd(), c"ptmx", ACCESS, itself) {
        // Its mode is 0 without the mount option ptmxmode: then a device is beside the devpts.
        Err(e) if e.is(Errno::EACCES) => open_device(cx, root.as_fd()).ok_or(e),
        other => other.map_err(why_not_opened),
    }
}

/// Open `/dev/ptmx`, which opens the devpts on the `pts` beside it. `None`: it is not the device. (If it was replaced
/// since, the next call is refused: ENOTTY.)
fn open_device(cx: &Cx, root: BorrowedFd) -> Option<OwnedFd> {
    const PTMX: &CStr = c"dev/ptmx";
    let file = sys::statx(cx, Some(root), PTMX, libc::AT_SYMLINK_NOFOLLOW).ok()?;
    if file.file_type() != libc::S_IFCHR || (file.rdev_major, file.rdev_minor) != (5, 2) {
        return None;
    }
    let itself = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_SYMLINKS;
    sys::openat2(cx, root, PTMX, ACCESS, itself).ok()
}

const MOUNT: &str = "mount devices: td-mount --dev";

fn why_no_devpts(cx: &Cx, error: Error) -> Error {
    let _looking = cx.looking();
    match sys::statx(cx, None, c"/dev/pts", 0) {
        Err(looked) => error.because(why_unreachable(cx, c"/dev/pts", &looked)).way_out(MOUNT),
        Ok(_) => error,
    }
}

fn why_not_opened(error: Error) -> Error {
    match error.errno() {
        Some(Errno::ENOSPC) => {
            error.because("as many terminals are open as /proc/sys/kernel/pty/max allows")
        }
        Some(Errno::EXDEV) => error.because("something else is mounted on /dev/pts/ptmx"),
        _ => error,
    }
}

/// TIOCSCTTY(2const) has two preconditions.
fn why_no_session(cx: &Cx, error: Error) -> Error {
    let _looking = cx.looking();
    match (sys::getpid(cx), sys::getsid(cx)) {
        (Ok(pid), Ok(session)) if pid != session && error.is(Errno::EPERM) => error
            .because("this process does not lead a session")
            .way_out("start one before: td-exec --setsid"),
        (Ok(_), Ok(_)) if error.is(Errno::EPERM) => error
            .because("perhaps this session already has a controlling terminal")
            .way_out("start a new one before: td-exec --setsid"),
        _ => error,
    }
}
