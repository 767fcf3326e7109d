//! td-lock: hold a lock on FILE for as long as PROG runs, and become PROG.

const HELP: &str = "\
usage: td-lock [OPTION]... FILE PROG [ARG]...

Lock FILE as flock(1) does, and become PROG. FILE is a file, which is created if
it does not exist, a directory or a block device. PROG and its children inherit
the descriptor that holds the lock: the lock is free when the last of them has
closed it or has ended.

  -n, --nb, --nonblock  fail at once if another process has the lock
  -w, --wait, --timeout SECONDS  fail after SECONDS, such as 0.5
  -E, --conflict-exit-code N  then exit with N instead of 125
  -e, -x, --exclusive   take an exclusive lock (default)
  -s, --shared          take a shared lock
  -F, --no-fork         accepted: td-lock always becomes PROG
      --key NAME        lock the byte that stands for NAME in FILE, by fcntl(2):
                        one file serves many names, and PROG's children do not
                        have the lock
      --mkdir           create the directory of FILE if it does not exist
";

use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;

use syscalls::Errno;

use crate::cli::{Cli, Prog, others};
use crate::process::chain::{self, Tool};
use crate::process::lock;
use crate::process::lock_file::{self, LockFile};
use crate::process::prog::Next;
use crate::say::error::{Error, FAILED};
use crate::say::number::decimal;
use crate::say::show::plain;
use crate::sys::structs::Flock;
use crate::sys::{self, Cx};

/// The tool.
pub const TOOL: Tool = Tool {
    name: "td-lock",
    step: |cx, args| chain::step(cx, (TOOL.name, HELP), args, parse, apply),
};

struct Opts {
    /// How long to wait for the lock, in nanoseconds. `None`: for ever.
    wait: Option<i64>,
    conflict: u8,
    key: Option<CString>,
    file: LockFile,
    prog: Prog,
}

fn parse(cli: &mut Cli) -> Result<Opts, Error> {
    let (mut shared, mut wait, mut conflict) = (false, None, FAILED);
    let (mut key, mut mkdir) = (None, false);
    while let Some(option) = cli.option()? {
        match option.as_str() {
            "-n" | "--nb" | "--nonblock" => wait = Some(0),
            "-w" | "--wait" | "--timeout" => {
                let seconds = cli.value()?;
                wait = Some(cli.nanoseconds(&seconds)?);
            }
            "-E" | "--conflict-exit-code" => conflict = status(cli)?,
            "-e" | "-x" | "--exclusive" => shared = false,
            "-s" | "--shared" => shared = true,
            "-F" | "--no-fork" => {}
            "--key" => key = Some(cli.path()?),
            "--mkdir" => mkdir = true,
            other => return Err(cli.unknown(other, others::LOCK)),
        }
    }
    let path = cli.operand("FILE")?;
    let Some(prog) = cli.optional_prog() else { return Err(no_prog(cli, &path)) };
    // flock(1) has this one after FILE.
    let name = prog.name().to_bytes();
    if matches!(name.strip_prefix(b"-"), Some(b"c" | b"-command")) {
        return Err(cli.unknown(&plain(name), others::LOCK));
    }
    let file = LockFile { path, by_byte: key.is_some(), shared, mkdir };
    Ok(Opts { wait, conflict, key, file, prog })
}

fn status(cli: &mut Cli) -> Result<u8, Error> {
    let word = cli.word()?;
    word.parse().map_err(|_| cli.usage(format_args!("{word}: not an exit status from 0 to 255")))
}

/// PROG is missing. Is it the `flock FD` of a shell script?
fn no_prog(cli: &Cli, file: &CStr) -> Error {
    match decimal(file.to_bytes()) {
        Some(fd) => Error::refusal(format_args!(
            "{fd}: PROG is missing, and td-lock cannot lock a descriptor of the caller"
        ))
        .way_out("td-lock FILE sh -c COMMANDS"),
        None => cli.usage("PROG is missing"),
    }
}

fn apply(cx: &Cx, opts: &Opts) -> Result<Next, Error> {
    let prog = opts.prog.find_tool(cx)?;
    match inherited(cx, opts)? {
        Some(file) => take(cx, opts, file)?,
        None => take_new(cx, opts)?,
    }
    prog.next(cx)
}

/// The descriptor of FILE on which a td-lock before us in the chain has its lock. On another one, that lock would be in
/// the way of ours.
fn inherited(cx: &Cx, opts: &Opts) -> Result<Option<BorrowedFd<'static>>, Error> {
    if opts.key.is_some() || cx.locks().is_empty() {
        return Ok(None);
    }
    match sys::statx(cx, None, &opts.file.path, 0) {
        Err(_) => Ok(None), // to open it fails too, and says why; or it is made
        Ok(file) => lock::same(cx, &file),
    }
}

fn take_new(cx: &Cx, opts: &Opts) -> Result<(), Error> {
    let mut file = lock_file::open(cx, &opts.file, libc::O_RDONLY)?;
    match take(cx, opts, file) {
        // NFS gives an exclusive lock only to a process that may write: flock(2).
        Err(e) if e.is(Errno::EBADF) && opts.key.is_none() && !opts.file.shared => {
            file = lock_file::open(cx, &opts.file, libc::O_RDWR)?;
            take(cx, opts, file)?;
        }
        other => other?,
    }
    cx.hold_lock(file);
    Ok(())
}

/// With a time limit, the pauses between two attempts, in nanoseconds: the first, and the longest.
const PAUSES: (i64, i64) = (1_000_000, 64_000_000);

/// Take the lock. Neither flock(2) nor fcntl(2) takes a limit of time: only a signal with a handler interrupts
/// them, and a handler needs a way back that only the C library has. So with a limit we try again and again.
fn take(cx: &Cx, opts: &Opts, file: BorrowedFd) -> Result<(), Error> {
    let (mut pause, longest) = PAUSES;
    let mut left = opts.wait;
    // flock(2) could wait for this very process: try once without waiting, and look.
    let mut waits = left.is_none() && opts.key.is_some();
    loop {
        if matches!(left, Some(1..)) {
            cx.expects(&[Errno::EAGAIN, Errno::EDEADLK]); // it is asked again
        }
        let error = match ask(cx, opts, file, waits) {
            Err(e) if e.is(Errno::EAGAIN) || e.is(Errno::EDEADLK) => e,
            other => return other,
        };
        match &mut left {
            Some(left @ 1..) => {
                pause = pause.min(*left);
                sys::sleep(cx, pause)?;
                *left -= pause;
                pause = longest.min(pause * 2);
            }
            None if !waits => {
                refuse_own(cx, opts, file, error)?;
                waits = true;
            }
            _ => conflict(cx, opts, file, error)?,
        }
    }
}

fn ask(cx: &Cx, opts: &Opts, file: BorrowedFd, waits: bool) -> Result<(), Error> {
    if let Some(key) = &opts.key {
        return sys::fcntl_setlk(cx, file, waits, &record(opts, key));
    }
    let kind = if opts.file.shared { libc::LOCK_SH } else { libc::LOCK_EX };
    sys::flock(cx, file, if waits { kind } else { kind | libc::LOCK_NB })
}

/// The byte of a key.
fn record(opts: &Opts, key: &CStr) -> Flock {
    let kind = if opts.file.shared { libc::F_RDLCK } else { libc::F_WRLCK };
    Flock::new(kind, lock::place(key), 1)
}

/// Say who has the lock. Of a key, it may have become free meanwhile.
fn conflict(cx: &Cx, opts: &Opts, file: BorrowedFd, error: Error) -> Result<(), Error> {
    let _looking = cx.looking();
    let shown = plain(opts.file.path.to_bytes());
    let Some(key) = &opts.key else {
        let stat = sys::fstatx(cx, file)?;
        return Err(error.because(lock::why_held(cx, &shown, &stat)).with_status(opts.conflict));
    };
    let holder = sys::fcntl_getlk(cx, file, record(opts, key))?;
    if holder.is_free() {
        return Ok(());
    }
    let is_deadlock = error.is(Errno::EDEADLK);
    let what = ["the name ", &plain(key.to_bytes()), " of ", &shown].concat();
    let error = error.because(lock::why(cx, &what, holder.pid));
    Err(match is_deadlock {
        true => error
            .because(
                "the holder waits, directly or through others, for a lock that this process has",
            )
            .way_out("let all processes take their locks in the same order"),
        false => error,
    }
    .with_status(opts.conflict))
}

/// If a td-lock became a program that executes another td-lock for the same file, this would wait for itself.
fn refuse_own(cx: &Cx, opts: &Opts, file: BorrowedFd, error: Error) -> Result<(), Error> {
    match lock::is_own(cx, &sys::fstatx(cx, file)?) {
        false => Ok(()),
        true => {
            let shown = plain(opts.file.path.to_bytes());
            let why = format!("this process has locked {shown} itself, on another descriptor");
            Err(error.because(why).way_out("close that one, or leave out the second td-lock"))
        }
    }
}
