//! A file that names a process for other programs, and is there for as long as that process.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use syscalls::Errno;

use crate::directories;
use crate::error::Error;
use crate::proc::{self, number};
use crate::show::{self, plain};
use crate::sys::{self, Cx, cstring};
use crate::text::split_name;

/// For how long what a killed run has left may take to end.
const SECONDS: i64 = 2;

/// Where the file is to be.
pub struct PidFile {
    directory: OwnedFd,
    name: CString,
    /// Directories that were made for it, a parent first.
    made: Vec<CString>,
    written: bool,
}

impl PidFile {
    /// Make the directories that are missing. `path` has no slash at its end.
    pub fn new(cx: &Cx, path: &CStr) -> Result<PidFile, Error> {
        let (directory, name) = split_name(path.to_bytes());
        let directory = if directory.is_empty() { b"." } else { directory };
        let (directory, name) = (cstring(directory), cstring(name));
        let mut made = Vec::new();
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        directories::make(cx, &directory, &mut made)
            .and_then(|_| sys::openat_made(cx, None, &directory, flags))
            .inspect_err(|_| undo(cx, &made))
            .map(|directory| PidFile { directory, name, made, written: false })
    }

    /// Name the process `pid` in it. It is moved to its place when it is whole.
    pub fn write(&mut self, cx: &Cx, pid: i32) -> Result<(), Error> {
        let directory = self.directory.as_fd();
        let new = cstring([self.name.to_bytes(), b".new"].concat());
        let make = || sys::mknodat(cx, Some(directory), &new, libc::S_IFREG | 0o644, 0);
        let remove = || sys::unlinkat(cx, Some(directory), &new, 0);
        match make() {
            // A run was killed just here.
            Err(e) if e.is(Errno::EEXIST) => remove().and_then(|()| make()),
            other => other,
        }?;
        let text = show::number(pid as u64) + "\n";
        sys::write_file(cx, Some(directory), &new, text.as_bytes())
            .and_then(|()| sys::renameat2(cx, directory, &new, directory, &self.name, 0))
            .inspect_err(|_| drop(remove()))?; // what is said is the first failure
        self.written = true;
        Ok(())
    }

    /// Remove it, if it was written.
    pub fn remove(&self, cx: &Cx) -> Result<(), Error> {
        if !self.written {
            return Ok(());
        }
        match sys::unlinkat(cx, Some(self.directory.as_fd()), &self.name, 0) {
            Err(e) if e.is(Errno::ENOENT) => Ok(()), // somebody else did it
            other => other,
        }
    }

    /// Once it is removed, remove the directories that were made for it.
    pub fn undo(&self, cx: &Cx) {
        undo(cx, &self.made);
    }
}

/// Remove the directories that were made, but for those that others use by now.
fn undo(cx: &Cx, made: &[CString]) {
    for directory in made.iter().rev() {
        if sys::unlinkat(cx, None, directory, libc::AT_REMOVEDIR).is_err() {
            return;
        }
    }
}

/// If the file is there, a killed run has left it: where the process that it names is a container that is
/// still dying, wait for its end. It is not killed here, for the number may be another's by now.
pub fn await_end(cx: &Cx, path: &CStr) -> Result<(), Error> {
    let shown = plain(path.to_bytes());
    let Some(pid) = named(cx, path, &shown)? else { return Ok(()) };
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
fn named(cx: &Cx, path: &CStr, shown: &str) -> Result<Option<i32>, Error> {
    // A FIFO must not hold us.
    let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let none = " is there, and is no pid file";
    let file = match sys::openat(cx, None, path, flags) {
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
