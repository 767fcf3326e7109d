//! A call itself: its number, its arguments in registers, nothing else. What needs no context is here too.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use syscalls::{Errno, Sysno};

use crate::say::flags::{self, Table};
use crate::sys::arg::Arg;
use crate::sys::structs::SigSet;

/// A system call: its number on this machine, and its name.
#[derive(Clone, Copy)]
pub(in crate::sys) struct Call(pub(in crate::sys) Sysno, pub(in crate::sys) &'static str);

/// A constant for each call, so that a program holds the names of those that it makes, and not of all.
macro_rules! calls {
    ($($name:ident)*) => {
        /// Every system call that td makes.
        #[allow(non_upper_case_globals)]
        pub(in crate::sys) mod nr {
            use super::{Call, Sysno};
            $(pub const $name: Call = Call(Sysno::$name, Sysno::$name.name());)*
        }
    };
}

calls! {
    capget capset chdir chroot clock_gettime clock_nanosleep clone clone3 close close_range dup3 execve execveat
    exit_group faccessat2 fchdir fchmod fchown fchownat fcntl flock fsconfig fsmount fsopen fstatfs getcwd getdents64
    getpgid getpid getppid getsid ioctl keyctl kill lseek memfd_create mkdirat mknodat mount mount_setattr move_mount
    open_tree openat openat2 pidfd_open pivot_root ppoll prctl pread64 prlimit64 read readlinkat reboot recvfrom recvmsg
    renameat2 rt_sigaction rt_sigpending rt_sigprocmask rt_sigtimedwait seccomp sendfile sendmsg sendto setgroups
    sethostname setns setpgid setresgid setresuid setsid signalfd4 socket socketpair statfs statx symlinkat sync umask
    umount2 unlinkat unshare wait4 write
}

/// The system call itself. Registers that it does not use are zero.
pub(in crate::sys) fn raw(call: Call, args: &[Arg]) -> Result<usize, Errno> {
    let mut r = [0; 6];
    let mut next = r.iter_mut();
    let mut put = |value| next.next().into_iter().for_each(|register| *register = value);
    for arg in args {
        put(arg.register());
        arg.second().into_iter().for_each(&mut put);
    }
    // SAFETY: every address in `args` was made from a reference that outlives the call, or is of the kernel's own
    // making. What the kernel writes lies in `Cell`s: bytes, with their number, or a structure of its size. Strings end
    // with a zero byte, being `CStr`; lists of strings end with a null pointer, see `Strings`. Which argument stands
    // where is the wrapper's to know.
    unsafe { syscalls::syscall6(call.0, r[0], r[1], r[2], r[3], r[4], r[5]) }
}

/// The owner of a descriptor that a call has just returned: a number from 0 up.
pub(in crate::sys) fn owned(fd: usize) -> OwnedFd {
    // SAFETY: the kernel returned it to us, so that nobody else owns it; and it is not -1.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd & RawFd::MAX) }
}

/// `close(fd)`: close(2), in no trace. For a number that was left to us, and that nothing of ours owns.
pub(in crate::sys) fn close(fd: RawFd) {
    let _ = raw(nr::close, &[Arg::Fd(fd)]);
}

/// Descriptor 0, 1 or 2. The entry has seen to it that they are open.
pub fn standard_fd(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: open since the start, and nothing closes them.
    unsafe { BorrowedFd::borrow_raw(fd.clamp(0, 2)) }
}

/// A descriptor that a path is relative to. `None` is the working directory, `AT_FDCWD`.
pub type At<'a> = Option<BorrowedFd<'a>>;

pub(in crate::sys) fn at(fd: At) -> Arg<'static> {
    Arg::Fd(fd.map_or(libc::AT_FDCWD, |fd| fd.as_raw_fd()))
}

pub(in crate::sys) fn fd(fd: BorrowedFd) -> Arg<'static> {
    Arg::Fd(fd.as_raw_fd())
}

pub(in crate::sys) fn flags(bits: impl Into<i64>, table: Table) -> Arg<'static> {
    Arg::Flags(bits.into() as u64, table)
}

pub(in crate::sys) fn name(value: impl Into<i64>, table: Table) -> Arg<'static> {
    Arg::Name(value.into() as u64, table)
}

pub(in crate::sys) fn sigaction<'a>(signal: c_int, act: Arg<'a>, old: Arg<'a>) -> [Arg<'a>; 4] {
    [name(signal, flags::SIGNAL), act, old, Arg::Size(size_of::<SigSet>())]
}

/// `exit_group(status)`: _exit(2), without a line in the trace.
pub fn exit_now(status: u8) -> ! {
    loop {
        // SAFETY: it takes a number and does not return.
        let _ = unsafe { syscalls::syscall1(nr::exit_group.0, status.into()) };
    }
}
