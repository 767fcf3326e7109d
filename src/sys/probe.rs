//! Who has refused a call: made again with arguments that the kernel refuses before it asks for any right, the kernel
//! answers with another errno, but a filter with the same.
//!
//! Such a call can change nothing: a descriptor in it is -1, an address is nowhere, flags are none that exist. A filter
//! sees only numbers; those that need not be wrong stay as they were.

use syscalls::{Errno, Sysno};

use crate::say::error::Error;
use crate::sys::arg::Arg;
use crate::sys::context::Cx;
use crate::sys::raw::{Call, nr};

/// A call that has failed: its numbers, and no address.
struct Failed {
    call: Call,
    args: Vec<Arg<'static>>,
}

/// Let `error` know its call, if it may have been refused by a filter.
pub(in crate::sys) fn remember(call: Call, args: &[Arg], error: Error) -> Error {
    if !matches!(error.errno(), Some(Errno::EPERM | Errno::EACCES | Errno::ENOSYS)) {
        return error;
    }
    let args = args.iter().flat_map(Arg::without_address).flatten().collect();
    error.with_call(Box::leak(Box::new(Failed { call, args })))
}

/// The right that the kernel asks for before it looks at the arguments of a call.
#[derive(Clone, Copy, PartialEq)]
pub enum Asks {
    /// For none.
    Nothing,
    /// CAP_SYS_ADMIN over the mount namespace.
    Mounts,
    /// CAP_SYS_ADMIN over the UTS namespace.
    Names,
    /// CAP_SYS_BOOT over the pid namespace.
    Boot,
    /// CAP_SETGID, and setgroups(2) is not denied.
    Groups,
    /// CAP_SETPCAP.
    Bounding,
    /// For CAP_SYS_ADMIN, on a kernel of which a sysctl keeps user namespaces for root: Debian's and Ubuntu's look at
    /// that before the flags.
    Users,
}

/// What the call that failed asks for first. `None`: it is not known here.
pub fn asks(error: &Error) -> Option<Asks> {
    failed(error)?.broken().map(|(asks, _)| asks)
}

/// Make it again, so that it cannot succeed. `None`: there is no such way.
pub fn again(cx: &Cx, error: &Error) -> Option<Result<usize, Errno>> {
    let failed = failed(error)?;
    let (_, args) = failed.broken()?;
    Some(cx.make(failed.call, &args))
}

fn failed(error: &Error) -> Option<&'static Failed> {
    error.call_made()?.downcast_ref()
}

/// Flags that no call has, all of them.
const ALL: Arg<'static> = Arg::Int(-1);
const NO_FD: Arg<'static> = Arg::Fd(-1);

impl Failed {
    /// What the kernel asks for first, and the arguments that it refuses next.
    fn broken(&self) -> Option<(Asks, Vec<Arg<'static>>)> {
        let (asks, wrong) = wrong(self.call, &self.args)?;
        let mut args = self.args.clone();
        for (i, arg) in wrong.iter().enumerate() {
            match (arg, args.get_mut(i)) {
                (Some(arg), Some(old)) => *old = *arg,
                (Some(arg), None) => args.push(*arg),
                (None, _) => {}
            }
        }
        Some((asks, args))
    }
}

fn of_new_user(flags: usize) -> Asks {
    if flags & libc::CLONE_NEWUSER as usize != 0 { Asks::Users } else { Asks::Nothing }
}

type Wrong = [Option<Arg<'static>>; 5];

/// The arguments to replace. An address is nowhere already.
fn wrong(call: Call, args: &[Arg<'static>]) -> Option<(Asks, Wrong)> {
    let is = |calls: &[Call]| calls.iter().any(|other| other.0 == call.0);
    let number = |i: usize| args.get(i).map_or(0, Arg::register);
    let kept: Wrong = [None; 5];
    let with = |i: usize, arg| {
        let mut wrong = kept;
        wrong.get_mut(i).into_iter().for_each(|place| *place = Some(arg));
        wrong
    };
    let at = |i, arg| Some((Asks::Nothing, with(i, arg)));
    match call.0 {
        // EINVAL: unshare(2) does not take the signal of clone(2); a thread needs CLONE_SIGHAND; a size of 0.
        Sysno::unshare => Some((
            of_new_user(number(0)),
            with(0, Arg::Flags(number(0) as u64 | 1, crate::say::flags::CLONE)),
        )),
        Sysno::clone => Some((
            of_new_user(number(0)),
            with(0, Arg::Clone(number(0) as u64 | libc::CLONE_THREAD as u64)),
        )),
        Sysno::clone3 => at(1, Arg::Size(0)),
        // ESRCH: nobody has this pid.
        Sysno::kill | Sysno::getpgid | Sysno::getsid => at(0, Arg::Int(i32::MIN.into())),
        // EINVAL.
        Sysno::pidfd_open => at(0, ALL),
        Sysno::close_range => {
            Some((Asks::Nothing, [Some(Arg::Size(1)), Some(Arg::Size(0)), None, None, None]))
        }
        Sysno::dup3 => Some((Asks::Nothing, [Some(NO_FD), Some(NO_FD), None, None, None])),
        _ if is(&[
            nr::setpgid,
            nr::umount2,
            nr::memfd_create,
            nr::socket,
            nr::socketpair,
            nr::seccomp,
        ]) =>
        {
            at(1, ALL)
        }
        _ if is(&[nr::wait4, nr::mount_setattr, nr::open_tree, nr::unlinkat]) => at(2, ALL),
        // Nothing changes.
        Sysno::setresuid | Sysno::setresgid => {
            Some((Asks::Nothing, [Some(ALL), Some(ALL), Some(ALL), None, None]))
        }
        Sysno::keyctl => at(1, Arg::Nowhere),
        Sysno::prctl => of_prctl(number(0)),
        // Behind a right.
        Sysno::fsopen => Some((Asks::Mounts, with(1, ALL))),
        Sysno::fsmount => Some((Asks::Mounts, [Some(NO_FD), Some(ALL), None, None, None])),
        Sysno::move_mount | Sysno::pivot_root => Some((Asks::Mounts, kept)),
        Sysno::sethostname => Some((Asks::Names, with(1, ALL))),
        Sysno::setgroups => Some((Asks::Groups, with(0, ALL))),
        Sysno::reboot => Some((Asks::Boot, with(0, Arg::Size(0)))),
        // EBADF.
        _ if is(OF_A_FILE) => at(0, NO_FD),
        // EFAULT.
        _ if is(OF_AN_ADDRESS) => Some((Asks::Nothing, kept)),
        _ => None,
    }
}

/// What no option takes; of one that asks for no right first, and sets nothing at that.
fn of_prctl(option: usize) -> Option<(Asks, Wrong)> {
    let all = [None, Some(ALL), Some(ALL), Some(ALL), Some(ALL)];
    match option as i32 {
        libc::PR_CAPBSET_DROP => Some((Asks::Bounding, all)),
        libc::PR_CAP_AMBIENT => {
            Some((Asks::Nothing, [None, None, Some(ALL), Some(ALL), Some(ALL)]))
        }
        libc::PR_SET_KEEPCAPS
        | libc::PR_SET_NO_NEW_PRIVS
        | libc::PR_SET_PDEATHSIG
        | libc::PR_SET_DUMPABLE
        | libc::PR_CAPBSET_READ => Some((Asks::Nothing, all)),
        _ => None,
    }
}

const OF_A_FILE: &[Call] = &[
    nr::fchdir,
    nr::fchmod,
    nr::fchown,
    nr::fcntl,
    nr::flock,
    nr::fsconfig,
    nr::fstatfs,
    nr::getdents64,
    nr::ioctl,
    nr::pread64,
    nr::read,
    nr::recvfrom,
    nr::recvmsg,
    nr::sendfile,
    nr::sendmsg,
    nr::sendto,
    nr::setns,
    nr::write,
];

const OF_AN_ADDRESS: &[Call] = &[
    nr::capget,
    nr::capset,
    nr::chdir,
    nr::chroot,
    nr::execve,
    nr::execveat,
    nr::clock_gettime,
    nr::clock_nanosleep,
    nr::faccessat2,
    nr::fchownat,
    nr::getcwd,
    nr::mkdirat,
    nr::mknodat,
    nr::mount,
    nr::openat,
    nr::openat2,
    nr::ppoll,
    nr::prlimit64,
    nr::readlinkat,
    nr::renameat2,
    nr::rt_sigaction,
    nr::rt_sigpending,
    nr::rt_sigprocmask,
    nr::rt_sigtimedwait,
    nr::signalfd4,
    nr::statfs,
    nr::statx,
    nr::symlinkat,
];
