//! Whether a policy lets td do what is left to do: looked at before it is loaded, by running the program.

use std::ffi::CStr;

use crate::error::{Error, NOT_EXECUTABLE};
use crate::executable;
use crate::policy::calls::{self, Arch};
use crate::policy::compile::X32;
use crate::policy::parse;
use crate::policy::program::{Data, Program, answer};
use crate::show::{ascii, number, plain};
use crate::sys::Cx;
use crate::text::{lines, split};

/// What `td::init` calls when PROG runs, but for kill(2). A line has a call with its arguments; a pointer is 0, for no
/// policy can know one. In their order: it waits; reaps (any child, WNOHANG); asks for process groups, and
/// stops as PROG does (SIG_UNBLOCK, SIG_BLOCK); says what fails, SIGPIPE ignored; ends.
const OF_PROCESS_1: &str = "rt_sigtimedwait 0 0 0 8
wait4 0xffffffffffffffff 0 1
getpgid 2
getpgid
getpid
rt_sigprocmask 1 0 0 8
rt_sigprocmask 0 0 0 8
rt_sigaction 13 0 0 8
write 2 0 1
exit_group
exit_group 255";

/// What `td::users` calls: PR_GET_PDEATHSIG and PR_SET_PDEATHSIG (SIGKILL) too.
const OF_IDS: &str = "prctl 2
prctl 1 9
getppid
setresgid
setresuid";

/// What `td::caps` calls: PR_SET_KEEPCAPS, PR_CAP_AMBIENT_RAISE.
const OF_AMBIENT: &str = "prctl 8 1
prctl 47 2";

/// What td-enter calls between the policy and PROG: the clone of a sibling (CLONE_PARENT|SIGCHLD), whom it names, and
/// its own end; there a session, PR_SET_PDEATHSIG, whether the parent lives, and the end of what is open.
const OF_ENTRY: &str = "clone 0x8011
write 3 0 1
exit_group
setsid
prctl 1 9
ppoll 0 1
close_range 3 0x7fffffff 4";

/// Does the policy let td-enter bring in a process?
pub fn entry(program: &Program) -> Result<(), Error> {
    all(program, OF_ENTRY, "which brings a process into the container").map_err(|error| {
        error.way_out("allow it in the policy, or enter without a policy: --target PID")
    })
}

/// Does the policy let PROG begin?
pub fn prog(program: &Program) -> Result<(), Error> {
    all(program, "execve", "which executes PROG")
        .map_err(|error| error.way_out("allow it in the policy"))
}

/// Does it let process 1 of a container wait, reap, forward signals and end?
pub fn process_1(program: &Program) -> Result<(), Error> {
    let doing = "which lets process 1 wait, reap and forward signals";
    let mut refused = all(program, OF_PROCESS_1, doing);
    for signal in 1..=64 {
        refused = refused.and_then(|()| may(program, "kill", &[2, signal], doing));
    }
    refused.map_err(|error| {
        error.way_out("allow it in the policy, or leave out --init (of td-run: --no-init)")
    })
}

/// Loaded before ids and capabilities change, does it let them change?
pub fn change(program: &Program, ids: bool, ambient: bool) -> Result<(), Error> {
    for (wanted, calls) in [(ids, OF_IDS), (ambient, OF_AMBIENT), (true, "capset")] {
        if wanted {
            all(program, calls, "which changes ids and capabilities").map_err(|error| {
                error.way_out("allow it in the policy, or load that last: --no-new-privs")
            })?;
        }
    }
    Ok(())
}

/// Does the policy allow these calls, a line each?
fn all(program: &Program, calls: &str, doing: &str) -> Result<(), Error> {
    for line in lines(calls.as_bytes()) {
        let mut words = split(line, b' ');
        let name = ascii(words.next().unwrap_or_default());
        let mut args = [0; 6];
        for (arg, word) in args.iter_mut().zip(words) {
            *arg = parse::number(word).unwrap_or(0);
        }
        may(program, &name, &args, doing)?;
    }
    Ok(())
}

/// Does the policy allow a call?
fn may(program: &Program, name: &str, args: &[u64], doing: &str) -> Result<(), Error> {
    let call = calls::find(name.as_bytes());
    let Some(nr) = call.and_then(|call| call.number(Arch::OWN)) else { return Ok(()) };
    match program.evaluate(&Data::own(nr, args)) {
        Ok(answer) if answer::allows(answer) => Ok(()),
        Ok(_) => Err(Error::refusal(format_args!("the policy refuses {name}(2), {doing}"))),
        Err(at) => Err(not_a_program(at)),
    }
}

/// The instruction `at` is none of those that seccomp(2) takes.
pub fn not_a_program(at: usize) -> Error {
    let at = number(at as u64);
    Error::refusal(format_args!("seccomp(2) does not take instruction {at} of the policy"))
}

/// Is PROG, the file `path`, for a machine of 32 bits whose calls the policy refuses? Nothing of it could run.
pub fn machine(cx: &Cx, program: &Program, path: &CStr) -> Result<(), Error> {
    let Some((file, machine, true)) = executable::machine(cx, path) else { return Ok(()) };
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
                .way_out("run one of 64 bits, or run it unconfined: --seccomp unconfined")
                .with_status(NOT_EXECUTABLE))
        }
    }
}
