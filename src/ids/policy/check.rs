//! Whether a policy allows the calls that td still has to make: checked before it is loaded, by running the program.

use std::ffi::{CStr, CString};

use syscalls::Sysno;

use crate::ids::policy::calls::Arch;
use crate::ids::policy::compile::X32;
use crate::ids::policy::program::{Data, Program, answer};
use crate::say::error::{Error, NOT_EXECUTABLE};
use crate::say::format::{Format, format_of};
use crate::say::show::{number, plain};
use crate::sys::{self, Cx, cstring};

/// A call that td makes: its number on this machine, its name, and its first arguments, of which a pointer is 0, for no
/// policy can know one. A program has those that it asks for, and not the table of all.
struct Made(u32, &'static str, &'static [i32]);

const fn made(call: Sysno, args: &'static [i32]) -> Made {
    Made(call.id() as u32, call.name(), args)
}

/// What td-init calls, but for kill(2) and clone3(2). In their order: it begins (PR_SET_CHILD_SUBREAPER, PR_SET_NAME,
/// PR_SET_DUMPABLE, TIOCGSID; its child PR_SET_PDEATHSIG and F_DUPFD_CLOEXEC); it closes what is open, waits, reaps
/// (any child, WNOHANG|WSTOPPED), has the terminal again (TIOCGPGRP, TIOCSPGRP), and learns whether PROG ran; asks for
/// process groups, and stops as PROG does (SIG_UNBLOCK, SIG_BLOCK); says what fails, SIGPIPE ignored, as much as there
/// is room for (F_GETFL, TCGETS); ends.
const OF_PROCESS_1: &[Made] = &[
    made(Sysno::prctl, &[36, 1]),
    made(Sysno::prctl, &[15]),
    made(Sysno::prctl, &[4]),
    made(Sysno::getsid, &[]),
    made(Sysno::ioctl, &[0, 0x5429]),
    made(Sysno::rt_sigprocmask, &[0, 0, 0, 8]),
    made(Sysno::rt_sigaction, &[17, 0, 0, 8]),
    made(Sysno::getpid, &[]),
    made(Sysno::pidfd_open, &[1]),
    made(Sysno::socketpair, &[1, 0x8_0801]),
    made(Sysno::prctl, &[1, 9]),
    made(Sysno::ppoll, &[0, 1]),
    made(Sysno::fcntl, &[3, 2, 0]),
    made(Sysno::fcntl, &[3, 1030, 3]),
    made(Sysno::rt_sigprocmask, &[2, 0, 0, 8]),
    made(Sysno::close, &[3]),
    made(Sysno::close_range, &[3, i32::MAX]),
    made(Sysno::rt_sigtimedwait, &[0, 0, 0, 8]),
    made(Sysno::rt_sigpending, &[0, 8]),
    made(Sysno::wait4, &[-1, 0, 3]),
    made(Sysno::ioctl, &[0, 0x540f]),
    made(Sysno::ioctl, &[0, 0x5410]),
    made(Sysno::openat, &[libc::AT_FDCWD]),
    made(Sysno::chdir, &[]),
    made(Sysno::fchdir, &[3]),
    made(Sysno::read, &[3, 0, 1]),
    made(Sysno::getpgid, &[2]),
    made(Sysno::getpgid, &[]),
    made(Sysno::rt_sigprocmask, &[1, 0, 0, 8]),
    made(Sysno::rt_sigaction, &[13, 0, 0, 8]),
    made(Sysno::fcntl, &[2, 3]),
    made(Sysno::ioctl, &[2, 0x5401]),
    made(Sysno::write, &[2, 0, 1]),
    made(Sysno::exit_group, &[]),
    made(Sysno::exit_group, &[255]),
];
const KILL: Made = made(Sysno::kill, &[]);
const SETPGID: Made = made(Sysno::setpgid, &[]);
const CLONE3: Made = made(Sysno::clone3, &[]);
const CLONE: Made = made(Sysno::clone, &[libc::SIGCHLD]);

/// What `ids::credentials` calls: PR_GET_PDEATHSIG and PR_SET_PDEATHSIG (SIGKILL) too.
const OF_IDS: &[Made] = &[
    made(Sysno::prctl, &[2]),
    made(Sysno::prctl, &[1, 9]),
    made(Sysno::getppid, &[]),
    made(Sysno::ppoll, &[0, 1]),
    made(Sysno::setresgid, &[]),
    made(Sysno::setresuid, &[]),
];

/// What `ids::caps` calls: PR_SET_KEEPCAPS, PR_CAP_AMBIENT_RAISE.
const OF_AMBIENT: &[Made] = &[made(Sysno::prctl, &[8, 1]), made(Sysno::prctl, &[47, 2])];
const OF_CAPABILITIES: &[Made] = &[made(Sysno::capset, &[])];

/// What td-enter calls between the policy and PROG: the clone of a sibling (CLONE_PARENT|SIGCHLD), whom it names, and
/// its own end; there a session, PR_SET_PDEATHSIG, whether the parent lives, and the end of what is open.
const OF_ENTRY: &[Made] = &[
    made(Sysno::clone, &[0x8011]),
    made(Sysno::write, &[3, 0, 1]),
    made(Sysno::exit_group, &[]),
    made(Sysno::setsid, &[]),
    made(Sysno::prctl, &[1, 9]),
    made(Sysno::ppoll, &[0, 1]),
    made(Sysno::close_range, &[3, i32::MAX, 4]),
];

/// What `process::pty` calls to open a terminal, and td-tty --inside to receive how it begins and to send its other end
/// out; with the requests of ioctl(2), of which the last is what it takes to control the session.
const OF_TERMINAL: &[Made] = &[
    made(Sysno::openat2, &[3]),
    made(Sysno::fstatfs, &[3]),
    made(Sysno::recvfrom, &[3]),
    made(Sysno::sendmsg, &[3]),
    made(Sysno::dup3, &[3]),
];
const IOCTL: Made = made(Sysno::ioctl, &[]);
const CONTROL: i32 = libc::TIOCSCTTY as i32;
const REQUESTS: [i32; 5] = [
    libc::TIOCSPTLCK as i32,
    libc::TIOCGPTPEER as i32,
    libc::TIOCSWINSZ as i32,
    libc::TCSETS as i32,
    CONTROL,
];

/// What `process::ready` calls when PROG is executed: F_SETFD (FD_CLOEXEC), SIGPIPE ignored, a byte if there is room.
const OF_READY: &[Made] = &[
    made(Sysno::fcntl, &[3, 2, 1]),
    made(Sysno::rt_sigaction, &[13, 0, 0, 8]),
    made(Sysno::ppoll, &[0, 1]),
    made(Sysno::write, &[3, 0, 1]),
];

/// What [`machine`] calls.
const OF_LOOK: &[Made] = &[
    made(Sysno::statx, &[]),
    made(Sysno::openat, &[libc::AT_FDCWD]),
    made(Sysno::read, &[3]),
    made(Sysno::close, &[3]),
];

const OF_PROG: &[Made] = &[made(Sysno::execve, &[])];

/// Does the policy allow the calls of td-enter?
pub fn entry(program: &Program) -> Result<(), Error> {
    all(program, OF_ENTRY, "which td-enter needs").map_err(|error| {
        error.way_out("allow it in the policy, or enter without a policy: --target PID")
    })
}

/// Does it let PROG have a terminal of its own, or, with `opened`, one that is opened before?
pub fn terminal(program: &Program, opened: bool) -> Result<(), Error> {
    let doing = "which PROG's terminal needs";
    let (calls, requests) =
        if opened { (&[][..], &[CONTROL][..]) } else { (OF_TERMINAL, &REQUESTS[..]) };
    let mut requests = requests.iter();
    let mut asks = || requests.try_for_each(|request| may(program, &IOCTL, &[3, *request], doing));
    all(program, calls, doing)
        .and_then(|()| asks())
        .map_err(|error| error.way_out("allow it in the policy, or leave out the terminal"))
}

/// If it is loaded before PROG is executed, does it allow the report that PROG is executed?
pub fn ready(program: &Program) -> Result<(), Error> {
    all(program, OF_READY, "which reports that PROG runs").map_err(|error| {
        error.way_out("allow it in the policy, or load the policy last: --no-new-privs")
    })
}

/// Does it allow the calls that examine the file that will be executed?
pub fn may_look(program: &Program) -> bool {
    all(program, OF_LOOK, "").is_ok()
}

/// Does the policy allow PROG to be executed?
pub fn prog(program: &Program) -> Result<(), Error> {
    all(program, OF_PROG, "which executes PROG")
        .map_err(|error| error.way_out("allow it in the policy"))
}

/// Does it let process 1 of a container start PROG, wait, reap, forward signals and end? `apart`: PROG is to lead a
/// process group.
pub fn process_1(program: &Program, apart: bool) -> Result<(), Error> {
    let doing = "which process 1 needs to start PROG, reap, and forward signals";
    // Where the answer is that clone3(2) does not exist, or that it is not permitted, clone(2) is called.
    let answer = program.evaluate(&Data::own(CLONE3.0, &[])).map_err(not_a_program)?;
    let falls_back =
        [libc::ENOSYS, libc::EPERM].iter().any(|e| answer == answer::ERRNO | *e as u32);
    let clone = if falls_back { CLONE } else { CLONE3 };
    let mut refused =
        all(program, OF_PROCESS_1, doing).and_then(|()| all(program, OF_READY, doing));
    refused = refused.and_then(|()| may(program, &clone, clone.2, doing));
    if apart {
        refused = refused.and_then(|()| may(program, &SETPGID, SETPGID.2, doing));
    }
    for signal in 1..=64 {
        refused = refused.and_then(|()| may(program, &KILL, &[2, signal], doing));
    }
    for signal in [libc::SIGSTOP, libc::SIGCONT] {
        refused = refused.and_then(|()| may(program, &KILL, &[-2, signal], doing));
    }
    refused.map_err(|error| {
        error.way_out("allow it in the policy, or leave out td-init (td-run: --no-init)")
    })
}

/// Loaded before ids and capabilities change, does it let them change?
pub fn change(program: &Program, ids: bool, ambient: bool) -> Result<(), Error> {
    for (wanted, calls) in [(ids, OF_IDS), (ambient, OF_AMBIENT), (true, OF_CAPABILITIES)] {
        if wanted {
            all(program, calls, "which changes ids and capabilities").map_err(|error| {
                error.way_out("allow it in the policy, or load the policy last: --no-new-privs")
            })?;
        }
    }
    Ok(())
}

/// Does the policy allow these calls?
fn all(program: &Program, calls: &[Made], doing: &str) -> Result<(), Error> {
    calls.iter().try_for_each(|call| may(program, call, call.2, doing))
}

/// Does the policy allow a call with these arguments?
fn may(program: &Program, call: &Made, args: &[i32], doing: &str) -> Result<(), Error> {
    let Made(nr, name, _) = *call;
    let mut values = [0; 6]; // no Vec: process 1 keeps what is allocated here
    values.iter_mut().zip(args).for_each(|(value, arg)| *value = *arg as u64);
    match program.evaluate(&Data::own(nr, &values)) {
        Ok(answer) if answer::allows(answer) => Ok(()),
        Ok(_) => Err(Error::refusal(format_args!("the policy refuses {name}(2), {doing}"))),
        Err(at) => Err(not_a_program(at)),
    }
}

/// seccomp(2) does not accept the instruction `at`.
pub fn not_a_program(at: usize) -> Error {
    let at = number(at as u64);
    Error::refusal(format_args!("seccomp(2) does not accept instruction {at} of the policy"))
}

/// Is PROG, the file `path`, for a machine of 32 bits whose calls the policy refuses? It could not run at all.
pub fn machine(cx: &Cx, program: &Program, path: &CStr) -> Result<(), Error> {
    let Some((file, machine, true)) = machine_of(cx, path) else { return Ok(()) };
    // exit_group(2), which every program makes. Of `arch`: linux/audit.h.
    let (arch, nr) = match machine {
        libc::EM_386 => (0x4000_0003, 252),
        libc::EM_ARM => (0x4000_0028, 248),
        libc::EM_X86_64 => (Arch::X86_64.audit(), X32 | 231),
        _ => return Ok(()),
    };
    match program.evaluate(&Data { number: nr, arch, args: [0; 6] }) {
        Ok(answer) if answer::allows(answer) => Ok(()),
        _ => {
            let file = plain(file.to_bytes());
            let what = "is a 32-bit program, which the policy refuses";
            Err(Error::refusal(format_args!("{file} {what}"))
                .way_out("run a 64-bit program or use --seccomp unconfined (td-run: --security-opt seccomp=unconfined)")
                .with_status(NOT_EXECUTABLE))
        }
    }
}

/// The program `path`, or what interprets it: that file, its machine, and whether it is one of 32 bits.
fn machine_of(cx: &Cx, path: &CStr) -> Option<(CString, u16, bool)> {
    let mut path = path.to_owned();
    // The kernel follows as many interpreters: fs/exec.c.
    for _ in 0..5 {
        if sys::statx(cx, None, &path, 0).ok()?.file_type() != libc::S_IFREG {
            return None;
        }
        let head = sys::read_head(cx, &path).ok()?;
        match format_of(&head) {
            Format::Script(interpreter) => path = cstring(interpreter),
            Format::Elf(elf) => return Some((path, elf.machine, elf.is_32)),
            Format::BadLine(_) | Format::Unknown => return None,
        }
    }
    None
}
