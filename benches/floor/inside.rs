//! What td-exec and td-init do.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use td::ids::caps;
use td::ids::policy::program::Program;
use td::say::error::Error;
use td::say::number::decimal;
use td::sys::structs::{CapData, SigSet};
use td::sys::{self, Cx, cstring};

/// What a container may do by default: as docker's, less mknod.
const KEEP: &str = "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,setfcap,net_bind_service,net_raw,\
    sys_chroot,audit_write";

/// `args` are the descriptors that were left to us, and COMMAND behind `--`.
pub fn run(cx: &Cx, args: &'static [CString]) -> Result<u8, Error> {
    let refuse = || Error::refusal("the command line is that of the floor itself");
    let end = args.iter().position(|arg| arg.as_bytes() == b"--").ok_or_else(refuse)?;
    let (fds, command) = args.split_at(end);
    let mut left = Vec::new();
    for fd in fds {
        let fd = decimal(fd.to_bytes()).ok_or_else(refuse)?;
        left.push(sys::inherited_fd(cx, fd as i32)?);
    }
    let (&[parent, ready, policy], record) = left
        .split_at_checked(3)
        .and_then(|(a, b)| Some((a.try_into().ok()?, b)))
        .ok_or_else(refuse)?;
    confine(cx, policy, record.first().copied())?;
    init(cx, parent, ready, &command[1..])
}

/// The last state of the process.
fn confine(cx: &Cx, policy: BorrowedFd, record: Option<BorrowedFd>) -> Result<(), Error> {
    let bytes = sys::read_to_end(cx, policy)?;
    let program = Program::from_bytes(&bytes).ok_or_else(|| Error::refusal("POLICY was cut"))?;
    if let Some(record) = record {
        sys::write(cx, record, &bytes)?;
    }
    sys::close_range_cloexec(cx, 3)?;
    sys::keyctl_join_session_keyring(cx)?;
    let keep = caps::parse(KEEP).map_err(Error::refusal)?;
    caps::bound(cx, keep)?;
    sys::setgroups(cx, &[])?;
    sys::prctl_set_no_new_privs(cx)?;
    sys::setsid(cx)?;
    sys::capset(cx, &CapData::new(keep, keep, 0))?;
    program.load(cx)
}

/// Process 1: it makes COMMAND, reaps, and ends as that ends. Every signal is blocked since the beginning.
fn init(cx: &Cx, parent: BorrowedFd, ready: BorrowedFd, command: &[CString]) -> Result<u8, Error> {
    sys::prctl_set_name(cx, c"td-init")?;
    sys::prctl_set_child_subreaper(cx)?;
    sys::prctl_set_undumpable(cx)?;
    let own = sys::pidfd_open(cx, 1)?;
    let (told, tell) = sys::socketpair(cx, libc::SOCK_NONBLOCK)?;
    let here = sys::openat(cx, None, c".", libc::O_PATH | libc::O_DIRECTORY)?;
    sys::chdir(cx, c"/")?; // no file system is kept busy
    let prog = sys::clone(cx, 0)?;
    if prog == 0 {
        sys::fchdir(cx, here.as_fd())?;
        sys::prctl_set_pdeathsig(cx, libc::SIGKILL)?;
        if sys::readable(cx, own.as_fd())? || sys::readable(cx, parent)? {
            return Err(Error::refusal("the parent has ended"));
        }
        sys::setpgid(cx)?;
        sys::rt_sigprocmask(cx, libc::SIG_SETMASK, SigSet(0))?;
        sys::write(cx, ready, b"R")?;
        sys::write(cx, tell.as_fd(), b"R")?;
        cx.set_env(vec![cstring("PATH=/usr/sbin:/usr/bin:/sbin:/bin")]);
        let path = command.first().cloned().unwrap_or_default();
        return sys::execve(cx, &path, command).map(|()| 0);
    }
    let keep = [Some(told.as_raw_fd()), cx.trace_fd()];
    let keep: Vec<_> = keep.into_iter().flatten().collect();
    sys::stay_alone(cx, &keep, &|closed| {
        closed?;
        loop {
            sys::rt_sigtimedwait(cx, SigSet::ALL)?;
            while let (pid @ 1.., status) = sys::wait4(cx, -1, libc::WNOHANG)? {
                if pid == prog {
                    return Ok(status.exit_status());
                }
            }
        }
    })
}
