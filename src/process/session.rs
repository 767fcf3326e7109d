//! A session, and the terminal that controls it: credentials(7).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, RawFd};

use syscalls::Errno;

use crate::ids::caps::CAP_SYS_ADMIN;
use crate::ids::policy::Confinement;
use crate::root::why_no_path::why_unreachable;
use crate::say::error::Error;
use crate::say::number::decimal;
use crate::say::show::{self, ascii, plain};
use crate::say::text;
use crate::sys::structs::Statx;
use crate::sys::{self, Cx, cstring, proc};

/// A controlling terminal: this device, or `None`, the console of the machine.
pub struct Terminal(pub Option<CString>);

/// Begin a new session, with a terminal that controls it and is descriptors 0 to 2, or without.
pub fn begin(cx: &Cx, terminal: Option<&Terminal>) -> Result<(), Error> {
    sys::setsid(cx).map_err(|e| why_no_session(cx, e))?;
    let Some(Terminal(device)) = terminal else { return Ok(()) };
    let device = device.as_ref().map_or_else(|| console(cx), |device| Ok(device.clone()))?;
    // Most terminals would become ours by being opened, and those of another session silently not.
    let file = sys::openat(cx, None, &device, libc::O_RDWR | libc::O_NOCTTY)
        .map_err(|e| why_not_opened(cx, &device, e))?;
    sys::set_controlling_terminal(cx, file.as_fd()).map_err(|e| why_not_ours(cx, &device, e))?;
    sys::dup_to_standard(cx, file.as_fd())
}

/// Join a session keyring of our own: keyrings(7). A kernel without keyrings has none to share.
pub fn join_keyring(cx: &Cx) -> Result<(), Error> {
    match sys::keyctl_join_session_keyring(cx) {
        Err(e) if e.is(Errno::ENOSYS) => match has_keyrings(cx) {
            Ok(false) => Ok(()),
            Ok(true) => Err(e
                .because("a filter refuses the call, because this kernel has keyrings: PROG would share the caller's")
                .way_out("let the filter allow keyctl(2)")),
            Err(_) => Err(e.because("/proc does not show whether this kernel has keyrings")),
        },
        other => other,
    }
}

/// ENOSYS may be the answer of a filter too.
fn has_keyrings(cx: &Cx) -> Result<bool, Error> {
    let proc = proc::root(cx)?;
    sys::statx(cx, Some(proc.as_fd()), c"sys/kernel", 0)?;
    match sys::statx(cx, Some(proc.as_fd()), c"sys/kernel/keys", 0) {
        Err(e) if e.is(Errno::ENOENT) => Ok(false),
        other => other.map(|_| true),
    }
}

/// Refuse a terminal on a standard stream that controls no session. That of a process inside could be the first, and
/// then type there (TIOCSTI, before Linux 6.2 always): what is typed is read by whoever reads there next, on the host.
/// Not where a policy refuses that, and not to who has CAP_SYS_ADMIN of its `capabilities`, who may type anywhere.
pub fn refuse_free_terminals(
    cx: &Cx,
    capabilities: u64,
    policy: Option<&Confinement>,
) -> Result<(), Error> {
    if capabilities & 1 << CAP_SYS_ADMIN != 0 || policy.is_some_and(Confinement::refuses_typing) {
        return Ok(());
    }
    let stream = |fd: &RawFd| !cx.start.was_closed(*fd) && is_free(cx, sys::standard_fd(*fd));
    let Some(fd) = (0..3).find(stream) else { return Ok(()) };
    let sysctl = sys::read_file(cx, None, c"/proc/sys/dev/tty/legacy_tiocsti");
    if sysctl.is_ok_and(|value| value.starts_with(b"0")) {
        return Ok(());
    }
    let fd = show::number(fd as u64);
    Err(Error::refusal(format_args!(
        "descriptor {fd} is a terminal that perhaps controls no session"
    ))
    .because(
        "PROG could make it its controlling terminal and type into it, because no policy refuses TIOCSTI",
    )
    .way_out(
        "give PROG pipes, or first make it the controlling terminal of a session: setsid --ctty",
    ))
}

/// Is this a terminal that controls neither our session nor, as far as /proc shows, another?
fn is_free(cx: &Cx, file: BorrowedFd) -> bool {
    if sys::terminal_session(cx.expects(&[Errno::ENOTTY]), file).is_ok()
        || !sys::is_terminal(cx, file)
    {
        return false;
    }
    !sys::fstatx(cx, file).is_ok_and(|stat| owner(cx, number(stat)).is_some())
}

/// The device number of a terminal.
fn number(stat: Statx) -> u64 {
    encoded(stat.rdev_major.into(), stat.rdev_minor.into())
}

/// The device that `/dev/console` stands for: the last of those that are in use (Documentation/ABI/stable/sysfs-tty).
/// The kernel hangs up the terminal of a session that ends for all who have it open, but not for those who have
/// opened `/dev/console`.
fn console(cx: &Cx) -> Result<CString, Error> {
    let active = match sys::read_file(cx, None, c"/sys/class/tty/console/active") {
        // An earlier step of this dry run may have mounted it.
        Err(_) if cx.dry() => b"console".to_vec(),
        other => other.map_err(|e| why_unknown(cx, e))?,
    };
    match text::split(active.trim_ascii(), b' ').next_back() {
        Some(name) if !name.is_empty() => Ok(cstring([b"/dev/", name].concat())),
        _ => Err(Error::refusal("this machine has no console").way_out(NAME_ONE)),
    }
}

const NAME_ONE: &str = "name the terminal: --ctty=/dev/ttyS0";

fn why_unknown(cx: &Cx, error: Error) -> Error {
    let _looking = cx.looking();
    let error = match sys::statx(cx, None, c"/sys/class/tty", 0) {
        Err(e) if e.is(Errno::ENOENT) => {
            error.because("sysfs, which names the console, is not mounted on /sys")
        }
        _ => error,
    };
    error.way_out(NAME_ONE)
}

/// Why there is no new session: setsid(2) has one precondition.
fn why_no_session(cx: &Cx, error: Error) -> Error {
    let _looking = cx.looking();
    match (sys::getpid(cx), sys::getpgid(cx, 0)) {
        (Ok(pid), Ok(group)) if pid == group && error.is(Errno::EPERM) => error
            .because("this process is the leader of a process group")
            .way_out("put td-init before td-exec; td-init must not lead a session"),
        _ => error,
    }
}

fn why_not_opened(cx: &Cx, device: &CStr, error: Error) -> Error {
    let _looking = cx.looking();
    let shown = plain(device.to_bytes());
    match (sys::statx(cx, None, device, 0), error.errno()) {
        (Err(looked), _) => error.because(why_unreachable(cx, device, &looked)),
        (Ok(stat), _) if stat.file_type() != libc::S_IFCHR => is_no_terminal(&shown, error),
        (Ok(_), Some(Errno::ENXIO | Errno::ENODEV)) => {
            error.because(format_args!("the device of {shown} does not exist"))
        }
        _ => error,
    }
}

fn is_no_terminal(shown: &str, error: Error) -> Error {
    error.because(format_args!("{shown} is not a terminal"))
}

/// Why a terminal does not control our session, which is new.
fn why_not_ours(cx: &Cx, device: &CStr, error: Error) -> Error {
    let _looking = cx.looking();
    let shown = plain(device.to_bytes());
    if error.is(Errno::ENOTTY) {
        return is_no_terminal(&shown, error); // it is what the request is answered by other files
    }
    match sys::statx(cx, None, device, 0).ok().and_then(|stat| owner(cx, number(stat))) {
        Some(pid) => {
            let pid = ascii(&pid);
            let why = format!("{shown} controls the session of process {pid}");
            error.because(why).way_out("end that session, or name another terminal")
        }
        None => error,
    }
}

/// The process, seen in /proc, that leads the session which a terminal controls.
fn owner(cx: &Cx, terminal: u64) -> Option<Vec<u8>> {
    let proc = sys::openat(cx, None, c"/proc", libc::O_RDONLY | libc::O_DIRECTORY).ok()?;
    let mut pids = Vec::new();
    let add = &mut |name: &CStr, _| {
        pids.extend(decimal(name.to_bytes()).map(|_| name.to_bytes().to_vec()));
        Ok(())
    };
    sys::for_each_entry(cx, proc.as_fd(), add).ok()?;
    pids.into_iter().find(|pid| {
        let path = cstring([pid, &b"/stat"[..]].concat());
        let mut stat = [0; 512];
        sys::openat(cx, Some(proc.as_fd()), &path, libc::O_RDONLY)
            .and_then(|file| sys::read(cx, file.as_fd(), &mut stat))
            .is_ok_and(|n| leads(stat.get(..n).unwrap_or_default(), pid, terminal))
    })
}

/// A device number as `/proc/PID/stat` has it, new_encode_dev() of linux/kdev_t.h: the lower bits of the
/// minor are below the major.
fn encoded(major: u64, minor: u64) -> u64 {
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}

/// `2 (name) S PPID PGRP SESSION TTY_NR …`: proc_pid_stat(5). The name may have anything in it.
fn leads(stat: &[u8], pid: &[u8], terminal: u64) -> bool {
    let after_name = text::split(stat, b')').next_back().unwrap_or_default();
    let mut fields = text::split(after_name, b' ').skip(4);
    fields.next() == Some(pid) && fields.next().and_then(decimal) == Some(terminal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_leader_with_the_terminal_is_known_by_its_stat() {
        let stat = b"70 (a) 70 (sh)) S 1 70 70 34823 70 4194304";
        assert!(leads(stat, b"70", encoded(136, 7)));
        assert!(!leads(stat, b"70", encoded(136, 8)));
        assert!(!leads(stat, b"71", encoded(136, 7)));
        assert!(leads(b"5 (sh) S 1 5 5 1083409 5 0", b"5", encoded(136, 0x111)));
        for length in 0..stat.len() - 20 {
            assert!(!leads(&stat[..length], b"70", encoded(136, 7)));
        }
    }
}
