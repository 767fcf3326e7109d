//! The door itself: the one place where a step begins, and where its calls are made, printed by a dry run, and
//! reported.

use std::cell::Cell;
use std::ffi::CString;
use std::os::fd::{OwnedFd, RawFd};

use syscalls::Errno;

use crate::say::error::{Error, Subject, Use};
use crate::say::flags;
use crate::sys::arg::{self, Arg};
use crate::sys::calls::files::{readlinkat, statx};
use crate::sys::checked::Checked;
use crate::sys::context::Cx;
use crate::sys::entry::{cstring, root_fd};
use crate::sys::handed::Handed;
use crate::sys::memory::refused_memory;
use crate::sys::output::{has_room, hurry, raw_write};
use crate::sys::path_of::path_of;
use crate::sys::probe;
use crate::sys::raw::{Call, at, nr, owned, raw};
use crate::sys::structs::{SigSet, Statx};

impl Cx {
    /// Begin a step: that of `tool`, whose command line is `args`. `handed` is what the step before handed on, as
    /// changed by this command line. Where calls are traced, the fcntl(2) calls that `checked` its descriptors are
    /// traced too.
    pub fn begin(
        &self,
        tool: &'static str,
        args: &'static [CString],
        handed: Handed,
        checked: &[Checked],
    ) {
        let was_traced = self.trace_fd().is_some();
        // Before the first step there is no tool, or `td`.
        let is_first = matches!(self.enter(tool, args, handed), "" | "td");
        match self.trace_fd() {
            None => {}
            Some(_) if was_traced => checked.iter().for_each(|fd| self.line(&fd.shown())),
            Some(_) => self.trace_start(is_first, checked),
        }
    }

    /// The next call may fail with this error, and the caller needs only the errno: no text is created for it.
    pub fn expects(&self, errnos: &'static [Errno]) -> &Cx {
        self.expected.set(errnos);
        self
    }

    /// A call that looks: made in a dry run too.
    pub(in crate::sys) fn read(&self, call: Call, args: &[Arg]) -> Result<usize, Error> {
        let expected = self.expected.take();
        self.make(call, args).map_err(|errno| match expected.contains(&errno) {
            true => Error::call(call.1.into(), errno),
            false => self.failed(call, args, errno),
        })
    }

    /// A call that looks, and returns a descriptor.
    pub(in crate::sys) fn read_fd(&self, call: Call, args: &[Arg]) -> Result<OwnedFd, Error> {
        self.read(call, args).map(owned)
    }

    /// A call that changes something, of which the caller expects these failures: no text is made for them, which
    /// would stay for good.
    pub(in crate::sys) fn attempt(
        &self,
        call: Call,
        args: &[Arg],
        expected: &[Errno],
    ) -> Result<Result<usize, Errno>, Error> {
        if self.dry() {
            self.print(call, args, None);
            return Ok(Ok(0));
        }
        refused_memory()?;
        match self.make(call, args) {
            Err(errno) if !expected.contains(&errno) => Err(self.failed(call, args, errno)),
            other => Ok(other),
        }
    }

    /// A call that changes something: a dry run prints it and takes it to have returned 0.
    pub(in crate::sys) fn change(&self, call: Call, args: &[Arg]) -> Result<usize, Error> {
        if self.dry() {
            self.expected.take();
            self.print(call, args, None);
            return Ok(0);
        }
        refused_memory()?;
        self.read(call, args)
    }

    /// As `change`, for a call that returns a descriptor: a dry run gets one that can do nothing.
    pub(in crate::sys) fn change_fd(&self, call: Call, args: &[Arg]) -> Result<OwnedFd, Error> {
        if self.dry() {
            self.expected.take();
            self.print(call, args, None);
            return self.stand_in();
        }
        refused_memory()?;
        self.read_fd(call, args)
    }

    /// What a dry run has in place of a descriptor that a call would have returned.
    pub(in crate::sys) fn stand_in(&self) -> Result<OwnedFd, Error> {
        let flags = Arg::Open((libc::O_PATH | libc::O_CLOEXEC) as u64);
        let args = [at(None), Arg::Path(c"/"), flags];
        root_fd().map_err(|errno| self.failed(nr::openat, &args, errno))
    }

    /// Make the call, again where it was interrupted, and trace it.
    pub(in crate::sys) fn make(&self, call: Call, args: &[Arg]) -> Result<usize, Errno> {
        loop {
            let result = raw(call, args);
            if call.0 == nr::rt_sigtimedwait.0 && result.is_ok_and(ends_a_process) {
                hurry();
            }
            if self.trace_fd().is_some() {
                self.print(call, args, Some(result));
            }
            // A process that is stopped and continued may see it, for example in a write to a file of a memory cgroup.
            // Nothing was done, so the call is repeated; but after a failure, an fsconfig(2) that creates a file system
            // can never succeed.
            if result != Err(Errno::EINTR) || call.0 == nr::fsconfig.0 {
                return result;
            }
        }
    }

    /// A call that has failed. What any of them may fail with is explained here.
    pub(in crate::sys) fn failed(&self, call: Call, args: &[Arg], errno: Errno) -> Error {
        let error = Error::call(arg::call(call.1, args, None).into(), errno);
        let mut error = probe::remember(call, args, error);
        if let Some((dirfd, given)) = path_of(call, args) {
            error = match self.whole_path(dirfd, &given, errno) {
                Some(path) => error.with_path(Subject { path, ..given }),
                None => error,
            };
        }
        self.explained(call, errno, error)
    }

    /// A path that a call was given, with that of the directory where it begins. What was only looked at there has
    /// none: td looks much from open directories, and knows what to make of what it finds.
    fn whole_path(&self, dirfd: RawFd, given: &Subject, errno: Errno) -> Option<CString> {
        let path = given.path.to_bytes();
        if dirfd == libc::AT_FDCWD || path.starts_with(b"/") {
            return Some(given.path.clone());
        }
        let refuses = [
            Errno::EACCES,
            Errno::EPERM,
            Errno::EROFS,
            Errno::ENOSPC,
            Errno::EDQUOT,
            Errno::EOVERFLOW,
        ];
        if matches!(given.used, Use::Find | Use::Read) || !refuses.contains(&errno) {
            return None;
        }
        let _looking = self.looking();
        let mut whole = readlinkat(self, None, &cstring(format!("/proc/self/fd/{dirfd}"))).ok()?;
        // A mount that is nowhere has paths as well, which lead elsewhere.
        let found = statx(self, None, &cstring(&*whole), 0).ok()?;
        let file = self.stat_of_descriptor(dirfd)?;
        if !found.same_file(&file) || found.mnt_id != file.mnt_id {
            return None;
        }
        if !path.is_empty() {
            whole.push(b'/');
            whole.extend(path);
        }
        Some(cstring(whole))
    }

    /// `statx(fd, "", AT_EMPTY_PATH, mask, buf)`: statx(2).
    fn stat_of_descriptor(&self, fd: RawFd) -> Option<Statx> {
        let buf = Cell::new(Statx::default());
        let empty = Arg::Flags(libc::AT_EMPTY_PATH as u64, flags::AT);
        let mask = (libc::STATX_BASIC_STATS | libc::STATX_MNT_ID) as u64;
        let mask = Arg::Flags(mask, flags::STATX);
        self.read(nr::statx, &[Arg::Fd(fd), Arg::Path(c""), empty, mask, Arg::Out(&buf)]).ok()?;
        Some(buf.get())
    }

    /// Say something on standard error, in one write. What cannot be written is lost, and changes
    /// nothing else.
    pub fn say(&self, error: &Error) {
        self.tell(&error.text(self.tool()));
    }

    /// Write these lines to standard error, as [`Cx::say`] does.
    pub fn tell(&self, text: &str) {
        if self.sigpipe.get().is_none() {
            self.ignore_sigpipe(&[]);
        }
        raw_write(libc::STDERR_FILENO, text.as_bytes());
    }

    /// Write to a descriptor of `--ready`, where the end of a reader changes nothing else. EAGAIN: there was no room,
    /// and a signal has come that should end this process; PROG is not to run then.
    pub fn say_on(&self, fd: RawFd, bytes: &[u8]) -> Result<(), Error> {
        if self.sigpipe.get().is_none() {
            self.ignore_sigpipe(&[]);
        }
        let args = [Arg::Fd(fd), Arg::Bytes(bytes)];
        if !self.dry() && !has_room(fd) {
            return Err(self.failed(nr::write, &args, Errno::EAGAIN));
        }
        self.change(nr::write, &args).map(drop)
    }
}

/// Is the signal that rt_sigtimedwait(2) returned one that should end a process?
fn ends_a_process(signal: usize) -> bool {
    (1..=64).contains(&signal) && SigSet(1 << (signal - 1)).has_terminating()
}
