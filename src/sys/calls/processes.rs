//! Processes: made, executed, waited for, ended; time.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_int};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use syscalls::Errno;

use crate::say::error::Error;
use crate::say::flags;
use crate::say::show;
use crate::sys::arg::{self, Arg, Strings};
use crate::sys::context::Cx;
use crate::sys::raw::{At, Call, exit_now, fd, flags, name, nr, raw};
use crate::sys::structs::*;

/// `clone3({flags, exit_signal=SIGCHLD}, size)`: clone(2), Linux 5.3, as fork(2) does. Returns the
/// child's pid, and 0 in the child. A dry run continues as the child.
///
/// Made without the C library, which does not learn of it: never call its `raise` afterwards.
pub fn clone3(cx: &Cx, bits: u64, cgroup: At) -> Result<i32, Error> {
    let clone = CloneArgs::new(bits, cgroup.map(|fd| fd.as_raw_fd() as u64));
    fork(cx, nr::clone3, &[Arg::InSized(&clone)], bits)
}

/// `clone(flags|SIGCHLD, NULL)`: clone(2), for a system call policy that answers clone3(2) with ENOSYS. It takes
/// neither CLONE_INTO_CGROUP nor CLONE_NEWTIME.
pub fn clone(cx: &Cx, bits: u64) -> Result<i32, Error> {
    let bits = bits & SEPARATE & !(libc::CSIGNAL as u64);
    fork(cx, nr::clone, &[Arg::Clone(bits | libc::SIGCHLD as u64)], bits)
}

/// A call that returns in the child as well, which would print the line a second time: only the parent does,
/// with the pid. The child is in new namespaces `bits`.
fn fork(cx: &Cx, call: Call, args: &[Arg], bits: u64) -> Result<i32, Error> {
    if cx.dry() {
        cx.change(call, args)?;
        cx.enters_namespaces(bits, true);
        return Ok(0);
    }
    let result = raw(call, args);
    if cx.trace_fd().is_some() && result != Ok(0) {
        cx.print(call, args, Some(result));
    }
    match result {
        Ok(0) => {
            cx.enters_namespaces(bits, true);
            Ok(0)
        }
        Ok(pid) => {
            cx.mounts_change(); // others may change them while we wait
            Ok(pid as i32)
        }
        Err(errno) => Err(cx.failed(call, args, errno)),
    }
}

/// `execve(path, argv, envp)`: execve(2), in the environment of [`Cx::env`]. Returns when it failed, and in a dry run.
pub fn execve(cx: &Cx, path: &CStr, argv: &[CString]) -> Result<(), Error> {
    let (strings, env) = (Strings::new(argv), cx.changed_env().map(Strings::new));
    let args = [Arg::Path(path), Arg::Strs(&strings), env_arg(cx, env.as_ref())];
    exec(cx, nr::execve, &args).map_err(|e| cx.why_too_long(path, argv, e))
}

/// `execveat(fd, "", argv, envp, AT_EMPTY_PATH)`: execveat(2), of an open file; else as [`execve`].
pub fn execveat(cx: &Cx, file: BorrowedFd, argv: &[CString]) -> Result<(), Error> {
    let (strings, env) = (Strings::new(argv), cx.changed_env().map(Strings::new));
    let empty = flags(libc::AT_EMPTY_PATH, flags::AT);
    let args = [fd(file), Arg::Path(c""), Arg::Strs(&strings), env_arg(cx, env.as_ref()), empty];
    exec(cx, nr::execveat, &args).map_err(|e| cx.why_too_long(c"", argv, e))
}

/// In a dry run, execute the next tool for real: it prints its own calls, and makes none either.
pub fn execve_dry(cx: &Cx, path: &CStr, argv: &[CString]) -> Error {
    let (argv, env) = (Strings::new(argv), cx.changed_env().map(Strings::new));
    let args = [Arg::Path(path), Arg::Strs(&argv), env_arg(cx, env.as_ref())];
    cx.restore_sigpipe(nr::execve, &args);
    let errno = raw(nr::execve, &args).err().unwrap_or(Errno::ENOEXEC);
    cx.failed(nr::execve, &args, errno)
}

/// A success leaves nobody to print a result, so the line comes first and ends in `= ?`, as strace
/// has it for a call that does not return; a failure resumes it in a second line, as strace has it.
fn exec(cx: &Cx, call: Call, args: &[Arg]) -> Result<(), Error> {
    if cx.dry() {
        return cx.change(call, args).map(drop);
    }
    cx.restore_sigpipe(call, args);
    let errno = raw(call, args).err().unwrap_or(Errno::ENOEXEC);
    if cx.trace_fd().is_some() {
        let resumed = format!("<... {} resumed>) = -1 {}", call.1, show::errno(errno));
        cx.ignore_sigpipe(&[resumed]);
    }
    Err(cx.failed(call, args, errno))
}

fn env_arg<'a>(cx: &Cx, env: Option<&'a Strings>) -> Arg<'a> {
    match env {
        Some(env) => Arg::Env(env),
        None => Arg::OwnEnv(cx.start.envp, cx.start.env.len()),
    }
}

/// `wait4(pid, wstatus, options, NULL)`: wait4(2). -1 is any child. Returns the pid, 0 where WNOHANG
/// found none, and how that child ended, or with WSTOPPED was stopped.
pub fn wait4(cx: &Cx, pid: i32, options: c_int) -> Result<(i32, WaitStatus), Error> {
    let status = Cell::new(WaitStatus(0));
    let args = [Arg::Int(pid.into()), Arg::OutIf(&status), flags(options, flags::WAIT), Arg::Null];
    let pid = cx.read(nr::wait4, &args)?;
    Ok((pid as i32, status.get()))
}

/// `wait4(pid, wstatus, 0, rusage)`: wait4(2). The same, waiting for that child, and what it used with all the children
/// that it has waited for.
pub fn wait4_usage(cx: &Cx, pid: i32) -> Result<(WaitStatus, RUsage), Error> {
    let (status, usage) = (Cell::new(WaitStatus(0)), Cell::new(RUsage::default()));
    let args = [Arg::Int(pid.into()), Arg::OutIf(&status), Arg::Size(0), Arg::OutIf(&usage)];
    cx.read(nr::wait4, &args)?;
    Ok((status.get(), usage.get()))
}

/// `exit_group(status)`: _exit(2).
pub fn exit(cx: &Cx, status: u8) -> ! {
    if cx.trace_fd().is_some() {
        cx.line(&(arg::call(nr::exit_group.1, &[Arg::Size(status.into())], None) + " = ?"));
    }
    exit_now(status)
}

/// `getpid()`: getpid(2), in our own pid namespace.
pub fn getpid(cx: &Cx) -> Result<i32, Error> {
    cx.read(nr::getpid, &[]).map(|pid| pid as i32)
}

/// `getppid()`: getpid(2). 0: our parent is outside of our pid namespace.
pub fn getppid(cx: &Cx) -> Result<i32, Error> {
    cx.read(nr::getppid, &[]).map(|pid| pid as i32)
}

/// `getpgid(pid)`: getpgid(2). 0 is the caller.
pub fn getpgid(cx: &Cx, pid: i32) -> Result<i32, Error> {
    cx.read(nr::getpgid, &[Arg::Int(pid.into())]).map(|pgid| pgid as i32)
}

/// `getsid(0)`: getsid(2). 0: our session is that of a process outside of this pid namespace. A dry run that would have
/// begun one leads it.
pub fn getsid(cx: &Cx) -> Result<i32, Error> {
    let sid = cx.read(nr::getsid, &[Arg::Int(0)])?;
    if cx.dry_session.get().is_some() { getpid(cx) } else { Ok(sid as i32) }
}

/// `setpgid(0, 0)`: setpgid(2). Lead a process group.
pub fn setpgid(cx: &Cx) -> Result<(), Error> {
    cx.change(nr::setpgid, &[Arg::Int(0), Arg::Int(0)]).map(drop)
}

/// `setsid()`: setsid(2). EPERM: the caller leads a process group.
pub fn setsid(cx: &Cx) -> Result<(), Error> {
    cx.dry_session.set(cx.dry().then_some(false));
    cx.change(nr::setsid, &[]).map(drop)
}

fn reboot_args(command: c_int) -> [Arg<'static>; 3] {
    // As the tables have them: the kernel takes no more than 32 bits of each.
    let magic = |number: c_int| name(number as u32, flags::REBOOT_MAGIC);
    let command = name(command as u32, flags::REBOOT);
    [magic(libc::LINUX_REBOOT_MAGIC1), magic(libc::LINUX_REBOOT_MAGIC2), command]
}

/// `reboot(MAGIC1, MAGIC2, LINUX_REBOOT_CMD_CAD_OFF)`: reboot(2). Ctrl-Alt-Del is a SIGINT for process 1. EINVAL:
/// we are in a pid namespace, below that of the machine.
pub fn reboot_cad_off(cx: &Cx) -> Result<(), Error> {
    cx.change(nr::reboot, &reboot_args(libc::LINUX_REBOOT_CMD_CAD_OFF)).map(drop)
}

/// `reboot(MAGIC1, MAGIC2, command)`: reboot(2). End the machine, or the pid namespace and so its process 1. Does
/// not return where that goes well, so that its line comes first, see `exec`.
pub fn reboot(cx: &Cx, command: c_int) -> Result<(), Error> {
    let args = reboot_args(command);
    if cx.dry() {
        return cx.change(nr::reboot, &args).map(drop);
    }
    let text = arg::call(nr::reboot.1, &args, None);
    let trace = |rest: &[&str]| cx.trace_fd().iter().for_each(|_| cx.line(&rest.concat()));
    trace(&[&text, " = ?"]);
    let Err(errno) = raw(nr::reboot, &args) else { return Ok(()) };
    trace(&["<... reboot resumed>) = -1 ", &show::errno(errno)]);
    Err(Error::call(text.into(), errno))
}

/// `pidfd_open(pid, 0)`: pidfd_open(2), Linux 5.3.
pub fn pidfd_open(cx: &Cx, pid: i32) -> Result<OwnedFd, Error> {
    cx.read_fd(nr::pidfd_open, &[Arg::Int(pid.into()), Arg::Size(0)])
}

/// `ppoll(fds, 1, timeout, NULL, 0)`: poll(2), of one file: wait for an event (POLLIN, POLLPRI) for so many
/// nanoseconds, `None`: without an end. Returns how many of them are left, `None` when the time is over.
pub fn ppoll(
    cx: &Cx,
    file: BorrowedFd,
    events: i16,
    nanoseconds: Option<i64>,
) -> Result<Option<i64>, Error> {
    let asked = Cell::new([PollFd { fd: file.as_raw_fd(), events, revents: 0 }]);
    let time = Cell::new(Timeout::new(TimeSpec::new(nanoseconds.unwrap_or(0))));
    let timeout = nanoseconds.map_or(Arg::Null, |_| Arg::InOut(&time));
    let args = [Arg::InOut(&asked), Arg::Size(1), timeout, Arg::Null, Arg::Size(0)];
    let ready = cx.read(nr::ppoll, &args)?;
    cx.mounts_change(); // others may have changed them meanwhile
    Ok((ready > 0).then_some(time.get().left()))
}

/// poll(2) without waiting: is there something to read? Of a pidfd: has the process ended?
pub fn readable(cx: &Cx, file: BorrowedFd) -> Result<bool, Error> {
    readable_within(cx, file, 0)
}

/// poll(2), waiting so many seconds for something to read.
pub fn readable_within(cx: &Cx, file: BorrowedFd, seconds: i64) -> Result<bool, Error> {
    ppoll(cx, file, libc::POLLIN, Some(seconds * SECOND)).map(|left| left.is_some())
}

/// `clock_gettime(CLOCK_MONOTONIC, &time)`: clock_gettime(2), in nanoseconds.
pub fn clock_gettime(cx: &Cx) -> Result<i64, Error> {
    let time = Cell::new(TimeSpec { sec: 0, nsec: 0 });
    cx.read(nr::clock_gettime, &[name(libc::CLOCK_MONOTONIC, flags::CLOCK), Arg::Out(&time)])?;
    Ok(time.get().sec * SECOND + time.get().nsec)
}

/// `clock_nanosleep(CLOCK_MONOTONIC, 0, {nanoseconds}, NULL)`: clock_nanosleep(2).
pub fn sleep(cx: &Cx, nanoseconds: i64) -> Result<(), Error> {
    let time = TimeSpec::new(nanoseconds);
    let clock = name(libc::CLOCK_MONOTONIC, flags::CLOCK);
    let args = [clock, Arg::Size(0), Arg::In(&time), Arg::Null];
    cx.change(nr::clock_nanosleep, &args).map(drop)
}
