//! The working directory: going there, and why not.

use std::ffi::CStr;
use std::os::fd::AsFd;

use syscalls::Errno;

use crate::root::why_no_path::{Start, why, why_unreachable};
use crate::say::error::{Error, Subject, Use};
use crate::say::show::plain;
use crate::sys::{self, Cx};

/// Change the working directory.
pub fn enter(cx: &Cx, directory: &CStr) -> Result<(), Error> {
    sys::chdir(cx, directory).map_err(|error| why_not_entered(cx, directory, error))
}

/// The same in the root of others, while descriptors of the caller's root are open: no magic link (symlink(7)) such as
/// `/proc/self/fd/3` may lead there.
pub fn enter_of_others(cx: &Cx, directory: &CStr) -> Result<(), Error> {
    let here = sys::openat(cx, None, c".", libc::O_PATH | libc::O_DIRECTORY)?;
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let magic = libc::RESOLVE_NO_MAGICLINKS;
    sys::openat2(cx, here.as_fd(), directory, flags, magic)
        .and_then(|directory| sys::fchdir(cx, directory.as_fd()))
        .map_err(|error| why_not_entered(cx, directory, error))
}

fn why_not_entered(cx: &Cx, directory: &CStr, error: Error) -> Error {
    let _looking = cx.looking();
    let shown = plain(directory.to_bytes());
    let entered = Subject { path: directory.into(), used: Use::Enter, follows: true };
    match sys::statx(cx, None, directory, 0) {
        Ok(stat) if !stat.is_dir() => error.because(format_args!("{shown} is not a directory")),
        Ok(_) if error.is(Errno::EACCES) => why(&Start::here(cx), &entered, error),
        Ok(_) if error.is(Errno::ELOOP) => {
            error.because([&shown, " leads through a magic link (symlink(7))"].concat())
        }
        Ok(_) => error,
        Err(looked) => error.because(why_unreachable(cx, directory, &looked)),
    }
}

/// Was the working directory changed before our ids change? False: try again after the change. The directory may be
/// accessible only to the new ids (mode 0700 and a root without CAP_DAC_OVERRIDE, NFS with root squash, FUSE of a
/// user).
pub fn entered(done: Result<(), Error>) -> Result<bool, Error> {
    match done {
        Err(e) if e.is(Errno::EACCES) => Ok(false),
        other => other.map(|()| true),
    }
}
