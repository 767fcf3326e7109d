//! The layers of an overlay: directories, opened as fsconfig(2) takes them.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use syscalls::Errno;

use crate::root::why_no_path::why_unreachable;
use crate::say::error::Error;
use crate::say::show::plain;
use crate::sys::{self, Cx};

/// A layer, or the work directory.
pub struct Layer {
    /// What the kernel calls it: `lowerdir+`, `upperdir` or `workdir`.
    pub key: &'static CStr,
    /// What the user calls it.
    pub shown: String,
    /// FSCONFIG_SET_FD takes no descriptor that was opened with O_PATH.
    pub dir: OwnedFd,
    /// Is it a work directory with the mark of a volatile overlay? The kernel sets the mark before it
    /// looks at the other layers: after a failure it is too late to see whose it is.
    pub is_used: bool,
}

impl Layer {
    /// An existing layer; `dir` if it is already open for reading.
    pub fn open(
        cx: &Cx,
        key: &'static CStr,
        path: &CStr,
        dir: Option<OwnedFd>,
    ) -> Result<Layer, Error> {
        let option = match key.to_bytes() {
            b"upperdir" => "--upper",
            b"workdir" => "--work",
            _ => "--lower",
        };
        let shown = format!("{option} {}", plain(path.to_bytes()));
        let dir = match dir {
            Some(dir) => dir,
            None => open_directory(cx, option, path, libc::O_RDONLY)?,
        };
        let is_used = key == c"workdir" && is_marked(cx, dir.as_fd());
        Ok(Layer { key, shown, dir, is_used })
    }

    /// A new layer on a tmpfs.
    pub fn make(
        cx: &Cx,
        key: &'static CStr,
        tmpfs: BorrowedFd,
        name: &CStr,
    ) -> Result<Layer, Error> {
        sys::mkdirat(cx, Some(tmpfs), name, 0o700)?;
        let dir = sys::openat_made(cx, Some(tmpfs), name, libc::O_RDONLY | libc::O_DIRECTORY)?;
        let shown = format!("{} of --tmpfs", plain(name.to_bytes()));
        Ok(Layer { key, shown, dir, is_used: false })
    }

    /// The root of a tmpfs, as a lower layer in which there is nothing.
    pub fn empty(cx: &Cx, tmpfs: BorrowedFd) -> Result<Layer, Error> {
        let dir = sys::openat_made(cx, Some(tmpfs), c".", libc::O_RDONLY | libc::O_DIRECTORY)?;
        let shown = String::from("the empty layer");
        Ok(Layer { key: c"lowerdir+", shown, dir, is_used: false })
    }

    /// Is it a lower one?
    pub fn is_lower(&self) -> bool {
        self.key == c"lowerdir+"
    }
}

/// Has a work directory the mark of a volatile overlay?
pub fn is_marked(cx: &Cx, work: BorrowedFd) -> bool {
    sys::statx(cx, Some(work), c"work/incompat/volatile", 0).is_ok()
}

/// Open a directory. In a dry run, an earlier step would perhaps have created a missing one.
pub fn open_directory(
    cx: &Cx,
    what: &str,
    path: &CStr,
    flags: libc::c_int,
) -> Result<OwnedFd, Error> {
    let flags = flags | libc::O_DIRECTORY;
    let error = match sys::openat(cx, None, path, flags) {
        Err(e) if e.is(Errno::ENOENT) && cx.dry() => {
            return sys::openat_made(cx, None, path, flags);
        }
        Err(e) => e,
        opened => return opened,
    };
    let shown = plain(path.to_bytes());
    match sys::statx(cx, None, path, 0) {
        Ok(stat) if !stat.is_dir() => {
            Err(error.because(format_args!("{what} {shown} is not a directory")))
        }
        Err(e) if e.is(Errno::ENOENT) => {
            let why = why_unreachable(cx, path, &e);
            let is_itself = why.starts_with(&shown);
            let error = error.because(if is_itself { [what, " ", &why].concat() } else { why });
            Err(if what == "--lower" || path.is_empty() {
                error
            } else {
                error.way_out("create it: --mkdir")
            })
        }
        _ => Err(error),
    }
}
