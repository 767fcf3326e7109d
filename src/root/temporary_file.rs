//! A file that is removed at the end, with the directories that were created for it.

use std::ffi::CStr;
use std::os::fd::AsFd;

use syscalls::Errno;

use crate::root::directories::{self, Made, Place};
use crate::say::error::{Error, Subject, Use};
use crate::sys::{self, Cx, cstring};

/// Where the file is to be.
pub struct TemporaryFile {
    place: Place,
    /// Directories that were made for it, a parent first.
    made: Vec<Made>,
    written: bool,
}

impl TemporaryFile {
    /// Make the directories that are missing. `path` has no slash at its end.
    pub fn new(cx: &Cx, state: Option<&CStr>, path: &CStr) -> Result<TemporaryFile, Error> {
        let mut made = Vec::new();
        match Place::make(cx, state, path, &mut made) {
            Ok(place) => Ok(TemporaryFile { place, made, written: false }),
            Err(error) => {
                let _ = directories::undo(cx, &made); // what is said is the first failure
                Err(error)
            }
        }
    }

    /// Write a text to it. It is moved to its place when it is whole.
    pub fn write(&mut self, cx: &Cx, text: &[u8]) -> Result<(), Error> {
        let directory = self.place.directory.as_fd();
        let new = cstring([self.place.name.to_bytes(), b".new"].concat());
        let make = || sys::mknodat(cx, Some(directory), &new, libc::S_IFREG | 0o644, 0);
        let remove = || sys::unlinkat(cx, Some(directory), &new, 0);
        match make() {
            // A run was killed just here.
            Err(e) if e.is(Errno::EEXIST) => remove().and_then(|()| make()),
            other => other.map_err(|error| {
                let path = cstring([self.place.path.to_bytes(), b".new"].concat());
                error.with_path(Subject { path, ..self.place.subject(Use::Create) })
            }),
        }?;
        sys::write_file(cx, Some(directory), &new, text)
            .and_then(|()| sys::renameat2(cx, directory, &new, directory, &self.place.name, 0))
            .inspect_err(|_| drop(remove()))?; // what is said is the first failure
        self.written = true;
        Ok(())
    }

    /// Write a text to a new one, which may be seen empty. EEXIST: it is there.
    pub fn write_in_place(&mut self, cx: &Cx, text: &[u8]) -> Result<(), Error> {
        let (directory, flags) =
            (Some(self.place.directory.as_fd()), libc::O_WRONLY | libc::O_NOFOLLOW);
        let name = &self.place.name;
        let file = sys::openat_create(cx, directory, name, flags | libc::O_EXCL, 0o600)
            .map_err(|error| error.with_path(self.place.subject(Use::Create)))?;
        self.written = true;
        sys::write(cx, file.as_fd(), text).map(drop)
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
