//! A descriptor number of the command line, checked before the tool opens anything.

use std::os::fd::RawFd;

use syscalls::Errno;

use crate::say::error::Error;
use crate::say::flags;
use crate::say::show;
use crate::sys::arg::{self, Arg};
use crate::sys::raw::{name, nr, raw};

/// A descriptor that the command line names, and what fcntl(2) said of it before the tool opened anything: a number
/// that is not open would soon be that of a file of ours.
#[derive(Clone, Copy)]
pub struct Checked(RawFd, Result<usize, Errno>);

impl Checked {
    /// `fcntl(fd, F_GETFD)`: fcntl(2).
    pub fn new(fd: RawFd) -> Checked {
        Checked(fd, raw(nr::fcntl, &Checked::args(fd)))
    }

    /// Its number.
    pub fn fd(self) -> RawFd {
        self.0
    }

    fn args(fd: RawFd) -> [Arg<'static>; 2] {
        [Arg::Fd(fd), name(libc::F_GETFD, flags::FCNTL)]
    }

    /// The descriptor, if we were started with it. One that is close-on-exec we were not: it fills a standard stream
    /// that was closed, see [`Start::new`].
    pub fn inherited(self) -> Result<RawFd, Error> {
        let Checked(fd, result) = self;
        let what = ["descriptor ", &show::number(fd as u64), " is not open"].concat();
        match result {
            Ok(0) => Ok(fd),
            Ok(_) => Err(Error::refusal(what)),
            Err(errno) => {
                let call = arg::call(nr::fcntl.1, &Checked::args(fd), None);
                Err(Error::call(call.into(), errno).because(what))
            }
        }
    }

    /// The line of the trace.
    pub(in crate::sys) fn shown(&self) -> String {
        let call = arg::call(nr::fcntl.1, &Checked::args(self.0), None);
        match self.1 {
            Ok(0) => call + " = 0",
            Ok(_) => call + " = 0x1 (flags FD_CLOEXEC)",
            Err(errno) => [&call, " = -1 ", &show::errno(errno)].concat(),
        }
    }
}
