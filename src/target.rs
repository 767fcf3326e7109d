//! A process that is entered, and the container that it is the first process of.
//!
//! All that is taken of it is looked at and opened from outside, before anything is joined: inside,
//! `/proc` and every file are the container's.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use syscalls::Errno;

use crate::error::Error;
use crate::namespaces::KINDS;
use crate::proc::path;
use crate::show::plain;
use crate::structs::Statx;
use crate::sys::{self, Cx, cstring};
use crate::text::{lines, split};
use crate::{chain, mounts, users};

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
        let seen = sys::readlinkat(cx, None, c"/proc/self")?;
        if number(&seen) != Some(sys::getpid(cx)?) {
            return Err(Error::refusal("/proc shows another pid namespace than ours")
                .way_out("mount one that shows ours: td-mount --proc /"));
        }
        let pidfd = sys::pidfd_open(cx, pid).map_err(|e| why(pid, e))?;
        let dir = open_process(cx, pid)?;
        let target = Target { pid, pidfd, dir };
        target.lives(cx)?;
        Ok(target)
    }

    /// It has not ended: so what was looked at was this process, and no other with its pid.
    pub fn lives(&self, cx: &Cx) -> Result<(), Error> {
        match sys::readable(cx, self.pidfd.as_fd())? {
            true => Err(Error::refusal(no_process(self.pid))),
            false => Ok(()),
        }
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
            let own = match sys::statx(cx, None, &path(&["/proc/self/ns/", name]), 0) {
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
        sys::openat(cx, Some(self.dir.as_fd()), name, flags).map_err(|e| why(self.pid, e))
    }

    /// A file of its directory in `/proc`, whole.
    pub fn read(&self, cx: &Cx, name: &CStr) -> Result<Vec<u8>, Error> {
        sys::read_file(cx, Some(self.dir.as_fd()), name).map_err(|e| why(self.pid, e))
    }

    /// Are all its ids this one?
    fn is_of(&self, cx: &Cx, uid: u32) -> Result<bool, Error> {
        let status = self.read(cx, c"status")?;
        let uid = uid.to_string();
        Ok(field(&status, b"Uid:").split(|b| *b == b'\t').all(|field| field == uid.as_bytes()))
    }

    /// Has its last execve(2) come to its end? `/proc` shows the new program before its environment, at whose end
    /// it is: env_end, proc_pid_stat(5).
    fn is_executed(&self, cx: &Cx) -> Result<bool, Error> {
        let stat = self.read(cx, c"stat")?;
        // The name, the second field, may have anything in it. Behind it a blank comes first.
        let fields = stat.rsplit(|b| *b == b')').next().unwrap_or_default();
        Ok(split(fields, b' ').nth(51 - 2).is_some_and(|env_end| env_end != b"0"))
    }

    fn stat(&self, cx: &Cx, name: &CStr) -> Result<Statx, Error> {
        sys::statx(cx, Some(self.dir.as_fd()), name, 0).map_err(|e| why(self.pid, e))
    }
}

/// A container as process 1 of it shows it.
pub struct Container {
    /// What process 1 and all that it has made can have: its bounding set.
    pub capabilities: u64,
    pub no_new_privs: bool,
    /// The environment of the command, which is the container's: for a process of the container alone.
    pub environment: Vec<CString>,
}

/// For how long a container may still be set up, and between two looks, in nanoseconds.
const PATIENCE: i64 = 2_000_000_000;
const PAUSE: i64 = 10_000_000;

/// All that can be blocked, which is not KILL and STOP.
const EVERY_SIGNAL: u64 = !(1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1));

/// No environment is larger: the process whose it is can have it say anything.
const LARGEST: usize = 1 << 20;

impl Container {
    /// Find the container that has the directory `directory` in the state, and its process 1.
    pub fn find(cx: &Cx, directory: &[u8]) -> Result<(Target, Container), Error> {
        let shown = plain(directory);
        let first = Target::open(cx, first_pid(cx, directory, &shown)?)
            .map_err(|e| e.because(not_running(&shown)))?;
        // A run that was killed leaves its file, and its pid to another process.
        let status = first.read(cx, c"status")?;
        let mut pids = field(&status, b"NSpid:").split(|b| *b == b'\t').rev();
        if pids.next() != Some(b"1") || pids.next().is_none() {
            let what = ["process ", &first.pid.to_string(), " is not the first of a container"];
            return Err(Error::refusal(what.concat()).because(not_running(&shown)));
        }
        let command = set_up(cx, &first, &shown)?;
        // Only now are they what they will be.
        let status = first.read(cx, c"status")?;
        let capabilities = hexadecimal(field(&status, b"CapBnd:"));
        let no_new_privs = field(&status, b"NoNewPrivs:") == b"1";
        // One who is not who PROG will be shall not choose its PATH, nor what is loaded into it.
        let ids = users::smallest_mapped(&first.read(cx, c"uid_map")?);
        let environment = match ids {
            Some([_, uid]) if command.is_of(cx, uid)? => environment(cx, &command)?,
            _ => vec![path(&["PATH=", chain::DEFAULT_PATH])],
        };
        Ok((first, Container { capabilities, no_new_privs, environment }))
    }
}

/// What td-unshare --pid-file has written.
fn first_pid(cx: &Cx, directory: &[u8], shown: &str) -> Result<i32, Error> {
    let open = |name: &[u8]| {
        let path = cstring([directory, name].concat());
        sys::openat(cx, None, &path, libc::O_RDONLY)
    };
    match open(b"/pid") {
        Ok(file) => {
            let mut text = [0; 32];
            let n = sys::read(cx, file.as_fd(), &mut text)?;
            number(text.get(..n).unwrap_or_default())
                .ok_or_else(|| Error::refusal(format_args!("{shown}/pid: this is no pid")))
        }
        Err(e) if e.is(Errno::ENOENT) && open(b"").is_ok() => Err(e.because(not_running(shown))),
        Err(e) if e.is(Errno::ENOENT) => {
            Err(e.because(format_args!("there is no container {shown}")))
        }
        Err(e) => Err(e),
    }
}

fn not_running(shown: &str) -> String {
    ["the container ", shown, " does not run"].concat()
}

/// Wait until the container is what it will be. Returns its command.
fn set_up(cx: &Cx, first: &Target, shown: &str) -> Result<Target, Error> {
    let mut left = PATIENCE;
    loop {
        let found = command(cx, first);
        first.lives(cx)?;
        match found {
            Ok(Some(command)) => return Ok(command),
            // In a dry run nothing happens meanwhile. While it changes its ids, nobody may look at it.
            found if left <= 0 || cx.dry() => {
                found?;
                let what = ["the container ", shown, " is still being set up"];
                return Err(Error::refusal(what.concat()));
            }
            _ => left -= PAUSE,
        }
        sys::sleep(cx, PAUSE)?;
    }
}

/// The container's command, if that has begun. Until then process 1, and the child of it that becomes
/// the command, run tools of td.
fn command(cx: &Cx, first: &Target) -> Result<Option<Target>, Error> {
    if first.stat(cx, c"root")?.same_file(&sys::statx(cx, None, c"/", 0)?) {
        return Ok(None); // before pivot_root(2)
    }
    // Without --init it is process 1 itself. That has every signal blocked until the last tool executes
    // it (td-unshare --pid), long after pivot_root(2), and a tool is then in no mount of the container.
    let blocked = hexadecimal(field(&first.read(cx, c"status")?, b"SigBlk:"));
    let program = first.stat(cx, c"exe")?;
    let mounts = mounts::parse(&first.read(cx, c"mountinfo")?);
    if blocked != EVERY_SIGNAL && mounts.iter().any(|mount| mount.id == program.mnt_id) {
        let command = Target::open(cx, first.pid)?;
        return Ok(command.is_executed(cx)?.then_some(command));
    }
    let children = first.read(cx, &path(&["task/", &first.pid.to_string(), "/children"]))?;
    let Some(child) = number(split(&children, b' ').next().unwrap_or_default()) else {
        return Ok(None);
    };
    let child = Target::open(cx, child)?;
    // Is it still the child, and no other process with its pid?
    let parent = number(field(&child.read(cx, c"status")?, b"PPid:"));
    let began = !child.stat(cx, c"exe")?.same_file(&program) && child.is_executed(cx)?;
    Ok((began && parent == Some(first.pid)).then_some(child))
}

/// The environment that a process shows, of which it can make anything.
fn environment(cx: &Cx, command: &Target) -> Result<Vec<CString>, Error> {
    let file = sys::openat(cx, Some(command.dir.as_fd()), c"environ", libc::O_RDONLY)
        .map_err(|e| why(command.pid, e))?;
    let (mut text, mut block) = (Vec::new(), [0; 4096]);
    loop {
        match sys::read(cx, file.as_fd(), &mut block).map_err(|e| why(command.pid, e))? {
            0 => break,
            n => text.extend_from_slice(block.get(..n).unwrap_or_default()),
        }
        if text.len() > LARGEST {
            let pid = command.pid.to_string();
            return Err(Error::refusal(format_args!(
                "the environment of process {pid} has more than 1048576 bytes"
            )));
        }
    }
    let variables = text.split(|b| *b == 0).filter(|v| v.iter().skip(1).any(|b| *b == b'='));
    Ok(variables.filter_map(|variable| CString::new(variable).ok()).collect())
}

fn open_process(cx: &Cx, pid: i32) -> Result<OwnedFd, Error> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    sys::openat(cx, None, &path(&["/proc/", &pid.to_string()]), flags).map_err(|e| why(pid, e))
}

fn no_process(pid: i32) -> String {
    ["there is no process ", &pid.to_string()].concat()
}

/// Why a process cannot be looked into: proc(5) asks for the right to trace it.
fn why(pid: i32, error: Error) -> Error {
    match error.errno() {
        Some(Errno::ESRCH | Errno::ENOENT) => error.because(no_process(pid)),
        Some(Errno::EACCES | Errno::EPERM) => error
            .because(format_args!("this process may not trace process {pid}"))
            .way_out("enter as root, or as the user who made its user namespace"),
        _ => error,
    }
}

/// What a line of `/proc/PID/status` says behind `name`.
fn field<'a>(status: &'a [u8], name: &[u8]) -> &'a [u8] {
    let mut lines = lines(status);
    lines.find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim_ascii()
}

/// A pid.
fn number(text: &[u8]) -> Option<i32> {
    std::str::from_utf8(text.trim_ascii()).ok()?.parse().ok().filter(|pid| *pid > 0)
}

/// A set, as `/proc/PID/status` has it: nothing where there is none.
fn hexadecimal(text: &[u8]) -> u64 {
    let digits = text.iter().filter_map(|b| char::from(*b).to_digit(16));
    digits.fold(0, |set, digit| set << 4 | u64::from(digit))
}
