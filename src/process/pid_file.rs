//! A file that tells other programs the pid of a process, and exists as long as the process does.
//!
//! Its first line is the pid. A pid is given to another process later, so the second says when this one started:
//! `start=567890`, in the clock ticks of proc_pid_stat(5). It is one word that is not a number, so that
//! `kill $(cat FILE)` hits no other process.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use syscalls::Errno;

use crate::root::directories::Place;
use crate::root::temporary_file::TemporaryFile;
use crate::say::error::{Error, Use};
use crate::say::number::decimal;
use crate::say::show;
use crate::say::text::pair;
use crate::sys::proc;
use crate::sys::{self, Cx, Walked};

/// How long to wait for a process that a killed run has left to end.
const SECONDS: i64 = 2;

const START: &str = "start=";

/// Name the process `pid` in a file.
pub fn write(cx: &Cx, file: &mut TemporaryFile, pid: i32) -> Result<(), Error> {
    let mut text = show::number(pid as u64) + "\n";
    if let Some(start) = proc::start_time(cx, pid) {
        text.extend([START, &show::number(start), "\n"]);
    }
    file.write(cx, text.as_bytes())
}

/// A process, as a pid file names it.
#[derive(Debug, PartialEq)]
pub struct Named {
    pub pid: i32,
    /// See [`proc::start_time`]. Where a file was written without `/proc`, it does not say this.
    pub start: Option<u64>,
}

impl Named {
    /// What the file says. `None`: it is not a pid file.
    pub fn parse(text: &[u8]) -> Option<Named> {
        let (pid, rest) = pair(text, b'\n').unwrap_or((text, b""));
        let pid = i32::try_from(decimal(pid)?).ok()?;
        if rest.is_empty() {
            return Some(Named { pid, start: None });
        }
        let start = rest.strip_prefix(START.as_bytes())?.strip_suffix(b"\n")?;
        Some(Named { pid, start: Some(decimal(start)?) })
    }
}

/// Have PROG write to the new file `path` as descriptor `fd`: what td-exec leaves beside a pid file for td-enter.
pub fn record(cx: &Cx, state: Option<&CStr>, fd: RawFd, path: &CStr) -> Result<(), Error> {
    forget_walked(cx, fd);
    let Some(free) = sys::free_fd(cx, fd) else {
        let what = ["--record: descriptor ", &show::number(fd as u64), " is in use"];
        return Err(Error::refusal(what.concat()));
    };
    // Its directory is closed before: with every lower number in use, it may have this one.
    let file = new_file(cx, state, path)?;
    forget_walked(cx, fd);
    sys::leave_to_prog_as(cx, file, free)
}

/// No directory of ours that is only kept for the next walk has the number `fd`.
fn forget_walked(cx: &Cx, fd: RawFd) {
    let walked = cx.walked.take();
    let has_it = |walked: &Walked| walked.directories.iter().any(|(_, dir)| dir.as_raw_fd() == fd);
    cx.walked.set(walked.filter(|walked| !has_it(walked)));
}

fn new_file(cx: &Cx, state: Option<&CStr>, path: &CStr) -> Result<OwnedFd, Error> {
    let place = Place::make(cx, state, path, &mut Vec::new())?;
    let flags = libc::O_WRONLY | libc::O_EXCL | libc::O_NOFOLLOW;
    sys::openat_create(cx, Some(place.directory.as_fd()), &place.name, flags, 0o600)
        .map_err(|error| error.with_path(place.subject(Use::Create)))
}

/// If the file exists, a killed run has left it: if the process that it names is process 1 of a container that is still
/// dying, wait for its end. Do not kill it: if the file does not say when it started, another process may have the pid
/// by now.
pub fn await_end(cx: &Cx, state: Option<&CStr>, path: &CStr) -> Result<(), Error> {
    let Some(place) = Place::find(cx, state, path)? else { return Ok(()) };
    let shown = place.shown();
    let Some(Named { pid, start }) = named(cx, &place)? else { return Ok(()) };
    // There is none (ESRCH), or it is a thread (EINVAL). Opened first: what is looked at next may be of a
    // later process with that number, but that is not waited for.
    let process = match sys::pidfd_open(cx, pid) {
        Err(e) if e.is(Errno::ESRCH) || e.is(Errno::EINVAL) => return Ok(()),
        other => other?,
    };
    let number = show::number(pid as u64);
    let status = proc::path(&["/proc/", &number, "/status"]);
    // Its number in each pid namespace that it is in, ours first.
    let numbers = match sys::read_file(cx, None, &status) {
        // It has just ended, or there is no /proc.
        Err(e) if e.is(Errno::ENOENT) || e.is(Errno::ESRCH) => return Ok(()),
        other => proc::line(&other?, b"NSpid:\t").unwrap_or_default(),
    };
    let found = proc::start_time(cx, pid).filter(|_| start.is_some());
    if found.is_some() && found != start
        || !numbers.ends_with(b"\t1")
        || sys::readable_within(cx, process.as_fd(), SECONDS)?
    {
        return Ok(());
    }
    let what =
        format!("process {number}, which {shown} names, is alive and is process 1 of a container");
    Err(Error::refusal(what).way_out(format_args!(
        "wait until it ends; if it is another process by now, remove {shown}"
    )))
}

/// The process that a pid file names. A file that is not a pid file is not overwritten.
fn named(cx: &Cx, place: &Place) -> Result<Option<Named>, Error> {
    let what = || format!("{} exists and is not a pid file", place.shown());
    let text = match place.read(cx, LARGEST) {
        Err(e) if e.is(Errno::ENOENT) => return Ok(None),
        Err(e) if e.is(Errno::ELOOP) => return Err(e.because(what())),
        other => other?,
    };
    match text {
        Some(text) if text.is_empty() => Ok(None), // made by mktemp(1), say
        text => {
            let named = text.and_then(|text| Named::parse(&text));
            named.map(Some).ok_or_else(|| Error::refusal(what()))
        }
    }
}

/// No pid file is larger.
pub const LARGEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_is_a_pid_and_perhaps_a_start_and_nothing_else() {
        let named =
            |text: &str| Named::parse(text.as_bytes()).map(|named| (named.pid, named.start));
        assert_eq!(named("17"), Some((17, None)));
        assert_eq!(named("17\n"), Some((17, None)));
        assert_eq!(named("17\nstart=5\n"), Some((17, Some(5))));
        for text in [
            "",
            "\n",
            "x",
            "17 \n",
            "17\n\n",
            "17\nstart=5",
            "17\nstart=\n",
            "17\n5\n",
            "-1",
            "4294967296",
        ] {
            assert_eq!(named(text), None, "{text:?}");
        }
    }
}
