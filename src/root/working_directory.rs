//! The working directory: going there, and why not.

use std::ffi::CStr;

use syscalls::Errno;

use crate::say::error::{Error, why_unreachable};
use crate::say::show::{number, plain};
use crate::sys::{self, Cx};

/// Change the working directory. `uid` is who we are, for messages.
pub fn enter(cx: &Cx, directory: &CStr, uid: u32) -> Result<(), Error> {
    sys::chdir(cx, directory).map_err(|error| {
        let shown = plain(directory.to_bytes());
        let who = || ["uid ", &number(uid.into()), " may not search "].concat();
        match sys::statx(cx, None, directory, 0) {
            Ok(stat) if !stat.is_dir() => error.because(format_args!("{shown} is not a directory")),
            Ok(_) if error.is(Errno::EACCES) => error.because([who(), shown].concat()),
            Ok(_) => error,
            Err(looked) if looked.is(Errno::EACCES) => {
                error.because([&who(), "a directory on the way to ", &shown].concat())
            }
            Err(looked) => error.because(why_unreachable(&shown, &looked)),
        }
    })
}

/// Was the working directory changed before our ids change? False: the directory may be open to who we shall be, and
/// is closed to us (mode 0700 to a root without CAP_DAC_OVERRIDE, NFS that squashes root, FUSE of a user): it is to be
/// tried again then.
pub fn entered(done: Result<(), Error>) -> Result<bool, Error> {
    match done {
        Err(e) if e.is(Errno::EACCES) => Ok(false),
        other => other.map(|()| true),
    }
}
