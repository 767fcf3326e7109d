//! A process that is entered.
//!
//! All that is taken of it is looked at and opened from outside, before anything is joined: inside,
//! `/proc` and every file are the container's.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use syscalls::Errno;

use crate::process::namespaces::KINDS;
use crate::say::error::Error;
use crate::say::number::decimal;
use crate::say::text::lines;
use crate::sys::proc::{self, path};
use crate::sys::structs::Statx;
use crate::sys::{self, Cx};

/// A process, held so that no other can take its place.
pub struct Target {
    pub pid: i32,
    /// For setns(2).
    pub pidfd: OwnedFd,
    /// Its directory in `/proc`, which stays its own, and has no file once it has ended.
    dir: OwnedFd,
}

impl Target {
    /// Hold the process `pid`.
    pub fn open(cx: &Cx, pid: i32) -> Result<Target, Error> {
        // A pidfd is opened by the numbers of our own pid namespace; `/proc` may show another.
        let seen = sys::readlinkat(cx, None, c"/proc/self").map_err(|e| {
            proc::why_missing(cx, "processes are found through /proc, which must be mounted", e)
        })?;
        if number(&seen) != Some(sys::getpid(cx)?) {
            return Err(Error::refusal("/proc shows another pid namespace")
                .way_out("mount a new one: td-mount --proc /"));
        }
        let pidfd = sys::pidfd_open(cx, pid).map_err(|e| why_no_process(cx, pid, e))?;
        let dir = open_process(cx, pid).map_err(|e| why(cx, pid, Some(&pidfd), e))?;
        let target = Target { pid, pidfd, dir };
        target.lives(cx)?;
        Ok(target)
    }

    /// It has not ended: so what was looked at was this process, and no other with its pid.
    pub fn lives(&self, cx: &Cx) -> Result<(), Error> {
        match sys::readable(cx, self.pidfd.as_fd())? {
            true => Err(Error::refusal(format_args!("process {} has ended", self.pid))),
            false => Ok(()),
        }
    }

    /// Why it cannot be looked into.
    fn why(&self, cx: &Cx, error: Error) -> Error {
        why(cx, self.pid, Some(&self.pidfd), error)
    }

    /// Its directory in `/proc`, by name.
    pub fn path(&self) -> CString {
        path(&["/proc/", &self.pid.to_string()])
    }

    /// Those of the namespaces `wanted` (CLONE_NEW*) that are not ours already and that this kernel has.
    /// To join our own user namespace is EINVAL, and our own mount namespace a change of the root.
    pub fn others(&self, cx: &Cx, wanted: u64) -> Result<u64, Error> {
        let mut others = 0;
        for &(kind, name, _) in KINDS.iter().filter(|(kind, ..)| wanted & kind != 0) {
            let own = path(&["/proc/self/ns/", name]);
            let own = match sys::statx(cx, None, &own, 0) {
                Err(e) if e.is(Errno::ENOENT) => continue,
                other => other?,
            };
            if !self.stat(cx, &path(&["ns/", name]))?.same_file(&own) {
                others |= kind;
            }
        }
        Ok(others)
    }

    /// Open its `root` or `cwd`.
    pub fn directory(&self, cx: &Cx, name: &CStr) -> Result<OwnedFd, Error> {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        sys::openat(cx, Some(self.dir.as_fd()), name, flags).map_err(|e| self.why(cx, e))
    }

    /// A file of its directory in `/proc`, whole.
    pub fn read(&self, cx: &Cx, name: &CStr) -> Result<Vec<u8>, Error> {
        sys::read_file(cx, Some(self.dir.as_fd()), name).map_err(|e| self.why(cx, e))
    }

    /// Open a file of its directory in `/proc`.
    pub fn open_file(&self, cx: &Cx, name: &CStr) -> Result<OwnedFd, Error> {
        sys::openat(cx, Some(self.dir.as_fd()), name, libc::O_RDONLY).map_err(|e| self.why(cx, e))
    }

    /// Are all its ids this one?
    pub fn is_of(&self, cx: &Cx, uid: u32) -> Result<bool, Error> {
        let status = self.read(cx, c"status")?;
        let uid = uid.to_string();
        Ok(field(&status, b"Uid:").split(|b| *b == b'\t').all(|field| field == uid.as_bytes()))
    }

    /// Has its last execve(2) come to its end? `/proc` shows the new program before its environment, at whose end
    /// it is: env_end, proc_pid_stat(5).
    pub fn is_executed(&self, cx: &Cx) -> Result<bool, Error> {
        let env_end = proc::stat_field(&self.read(cx, c"stat")?, 51);
        Ok(env_end.is_some_and(|env_end| env_end != 0))
    }

    pub fn stat(&self, cx: &Cx, name: &CStr) -> Result<Statx, Error> {
        sys::statx(cx, Some(self.dir.as_fd()), name, 0).map_err(|e| self.why(cx, e))
    }
}

fn open_process(cx: &Cx, pid: i32) -> Result<OwnedFd, Error> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    sys::openat(cx, None, &path(&["/proc/", &pid.to_string()]), flags)
}

fn no_process(pid: i32) -> String {
    ["process ", &pid.to_string(), " does not exist"].concat()
}

/// Why there is no pidfd of a process: a thread has a number too, which is not that of a process.
fn why_no_process(cx: &Cx, pid: i32, error: Error) -> Error {
    let _looking = cx.looking();
    // Before Linux 6.16 a thread is EINVAL.
    if !matches!(error.errno(), Some(Errno::ESRCH | Errno::ENOENT | Errno::EINVAL)) {
        return error;
    }
    let status = path(&["/proc/", &pid.to_string(), "/status"]);
    let group =
        sys::read_file(cx, None, &status).ok().and_then(|text| number(field(&text, b"Tgid:")));
    match group {
        Some(group) if group != pid => error
            .because(format_args!("{pid} is a thread of process {group}, and not a process"))
            .way_out(format_args!("name the process: --target {group}")),
        None if error.is(Errno::ESRCH) => error.because(no_process(pid)),
        _ => error,
    }
}

/// Why a process cannot be looked into: proc(5) asks for the right to trace it.
fn why(cx: &Cx, pid: i32, pidfd: Option<&OwnedFd>, error: Error) -> Error {
    let _looking = cx.looking();
    match error.errno() {
        Some(Errno::ESRCH | Errno::ENOENT) => {
            // It may have ended since; else proc hides it, or has no such file.
            let lives = pidfd.map(|pidfd| sys::readable(cx, pidfd.as_fd()));
            match lives {
                Some(Ok(true)) => error.because(no_process(pid)),
                Some(Ok(false))
                    if sys::statx(cx, None, &path(&["/proc/", &pid.to_string()]), 0).is_err() =>
                {
                    error.because(format_args!(
                        "process {pid} exists, but /proc does not show it: see hidepid in proc(5)"
                    ))
                }
                _ => error,
            }
        }
        Some(Errno::EACCES | Errno::EPERM) => error
            .because(format_args!("this process may not trace process {pid}"))
            .way_out("enter as root, or as the user who created its user namespace"),
        _ => error,
    }
}

/// What a line of `/proc/PID/status` says after `name`.
pub fn field<'a>(status: &'a [u8], name: &[u8]) -> &'a [u8] {
    let mut lines = lines(status);
    lines.find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim_ascii()
}

/// A pid.
pub fn number(text: &[u8]) -> Option<i32> {
    i32::try_from(decimal(text.trim_ascii())?).ok().filter(|pid| *pid > 0)
}

/// A set, as `/proc/PID/status` has it: nothing where there is none.
pub fn hexadecimal(text: &[u8]) -> u64 {
    let digits = text.iter().filter_map(|b| char::from(*b).to_digit(16));
    digits.fold(0, |set, digit| set << 4 | u64::from(digit))
}
