//! A file that names a process for other programs, and is there for as long as that process.

use std::ffi::CStr;
use std::os::fd::AsFd;

use syscalls::Errno;

use crate::directories::{self, Made, Place};
use crate::error::Error;
use crate::proc::{self, number};
use crate::show;
use crate::sys::{self, Cx, cstring};

/// For how long what a killed run has left may take to end.
const SECONDS: i64 = 2;

/// Where the file is to be.
pub struct PidFile {
    place: Place,
    /// Directories that were made for it, a parent first.
    made: Vec<Made>,
    written: bool,
}

impl PidFile {
    /// Make the directories that are missing. `path` has no slash at its end.
    pub fn new(cx: &Cx, state: Option<&CStr>, path: &CStr) -> Result<PidFile, Error> {
        let mut made = Vec::new();
        match Place::make(cx, state, path, &mut made) {
            Ok(place) => Ok(PidFile { place, made, written: false }),
            Err(error) => {
                let _ = directories::undo(cx, &made); // what is said is the first failure
                Err(error)
            }
        }
    }

    /// Name the process `pid` in it. It is moved to its place when it is whole.
    pub fn write(&mut self, cx: &Cx, pid: i32) -> Result<(), Error> {
        let directory = self.place.directory.as_fd();
        let new = cstring([self.place.name.to_bytes(), b".new"].concat());
        let make = || sys::mknodat(cx, Some(directory), &new, libc::S_IFREG | 0o644, 0);
        let remove = || sys::unlinkat(cx, Some(directory), &new, 0);
        match make() {
            // A run was killed just here.
            Err(e) if e.is(Errno::EEXIST) => remove().and_then(|()| make()),
            other => other,
        }?;
        let text = show::number(pid as u64) + "\n";
        sys::write_file(cx, Some(directory), &new, text.as_bytes())
            .and_then(|()| sys::renameat2(cx, directory, &new, directory, &self.place.name, 0))
            .inspect_err(|_| drop(remove()))?; // what is said is the first failure
        self.written = true;
        Ok(())
    }

    /// Remove it, if it was written.
    pub fn remove(&self, cx: &Cx) -> Result<(), Error> {
        if !self.written {
            return Ok(());
        }
        match sys::unlinkat(cx, Some(self.place.directory.as_fd()), &self.place.name, 0) {
            Err(e) if e.is(Errno::ENOENT) => Ok(()), // somebody else did it
            other => other,
        }
    }

    /// Once it is removed, remove the directories that were made for it, but for those that others use.
    pub fn undo(&self, cx: &Cx) {
        let _ = directories::undo(cx, &self.made);
    }
}

/// If the file is there, a killed run has left it: where the process that it names is a container that is
/// still dying, wait for its end. It is not killed here, for the number may be another's by now.
pub fn await_end(cx: &Cx, state: Option<&CStr>, path: &CStr) -> Result<(), Error> {
    let Some(place) = Place::find(cx, state, path)? else { return Ok(()) };
    let shown = place.shown();
    let Some(pid) = named(cx, &place, &shown)? else { return Ok(()) };
    // There is none (ESRCH), or it is a thread (EINVAL). Opened first: what is looked at next may be of a
    // later process with that number, but that is not waited for.
    let Ok(process) = sys::pidfd_open(cx, pid) else { return Ok(()) };
    let number = show::number(pid as u64);
    let status = proc::path(&["/proc/", &number, "/status"]);
    // Its number in each pid namespace that it is in, ours first.
    let numbers = proc::field(cx, &status, b"NSpid:\t").unwrap_or_default();
    if !numbers.ends_with(b"\t1") || sys::readable_within(cx, process.as_fd(), SECONDS)? {
        return Ok(());
    }
    let what =
        format!("process {number}, which {shown} names, lives, and is process 1 of a container");
    Err(Error::refusal(what)
        .way_out(format_args!("wait for its end; if it is another's, remove {shown}")))
}

/// The process that a pid file names. What is none is not overwritten.
fn named(cx: &Cx, place: &Place, shown: &str) -> Result<Option<i32>, Error> {
    // A FIFO must not hold us.
    let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let none = " is there, and is no pid file";
    let file = match sys::openat(cx, Some(place.directory.as_fd()), &place.name, flags) {
        Err(e) if e.is(Errno::ENOENT) => return Ok(None),
        Err(e) if e.is(Errno::ELOOP) => return Err(e.because(format_args!("{shown}{none}"))),
        other => other?,
    };
    let none = || Error::refusal(format_args!("{shown}{none}"));
    if sys::fstatx(cx, file.as_fd())?.file_type() != libc::S_IFREG {
        return Err(none());
    }
    let mut text = [0; 32];
    let n = sys::read(cx, file.as_fd(), &mut text)?;
    match text.get(..n).unwrap_or_default() {
        b"" => Ok(None), // made by mktemp(1), say
        text => match number(text).map(i32::try_from) {
            Some(Ok(pid)) => Ok(Some(pid)),
            _ => Err(none()),
        },
    }
}
