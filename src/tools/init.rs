//! td-init: be process 1, of a container or of a machine. PROG runs in a child.
//! How signals are passed on to it is in [`crate::process::signals`].

const HELP: &str = "\
usage: td-init [OPTION]... PROG [ARG]...

Run PROG in a child, pass signals on to it, reap every orphan, and end as PROG
ended. In a container, put td-init after td-exec, so that process 1 has the same
rights as PROG.

  -g, --group          run PROG in a process group of its own, in the foreground
                       of the terminal, and send signals to that group
  -r, --rewrite S:D    send PROG signal D when S arrives; if D is 0, nothing
  -e, --map-exit N=M   exit with M if PROG exits with N; N alone means N=0
  -p, --parent-death SIGNAL
                       receive SIGNAL when the parent ends
      --grace SECONDS  when PROG ends, or SIGTERM arrives, send SIGTERM to all
                       other processes, after SECONDS SIGKILL, and wait for them
      --default-signals
                       run PROG with no signal ignored or blocked
  -s, --subreaper      reap orphans outside of a pid namespace (always on)
  -w, --warn           report each orphan that is reaped
  -v, --verbose        report each signal and each process that ends
      --on-exit WHAT   be process 1 of a machine, which never ends: after PROG
                       poweroff, reboot, halt or respawn
";

use std::cell::Cell;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use syscalls::Errno;

use crate::cgroup::memberships::Memberships;
use crate::cli::{Cli, Prog, others};
use crate::process::chain::{self, Tool};
use crate::process::child::{self, DeathSignal, Side};
use crate::process::descriptors;
use crate::process::grace::Grace;
use crate::process::machine::{self, OnExit};
use crate::process::process_1;
use crate::process::prog::Next;
use crate::process::ready::Ran;
use crate::process::signals::{Child, DROPPED, Ways};
use crate::process::terminal;
use crate::process::wait;
use crate::say::error::Error;
use crate::say::number::decimal;
use crate::say::show::{self, plain, signal_of};
use crate::say::text::pair;
use crate::sys::{self, Cx};

/// The tool.
pub const TOOL: Tool = Tool {
    name: "td-init",
    step: |cx, args| chain::step(cx, (TOOL.name, HELP), args, parse, apply),
};

struct Opts {
    on_exit: Option<OnExit>,
    /// What is wrong on the command line of a process 1 that must not end.
    wrong: Cell<Option<Error>>,
    ways: Ways,
    /// The exit status for each of PROG.
    map: [u8; 256],
    death: Option<i32>,
    grace: Option<i64>,
    default_signals: bool,
    prog: Prog,
}

fn parse(cli: &mut Cli) -> Result<Opts, Error> {
    let mut opts = Opts {
        on_exit: None,
        wrong: Cell::default(),
        ways: Ways::USUAL,
        map: std::array::from_fn(|n| n as u8),
        death: None,
        grace: None,
        default_signals: false,
        prog: Prog::default(),
    };
    match read(cli, &mut opts) {
        Err(error) if opts.on_exit.is_some() => opts.wrong.set(Some(error)),
        other => other?,
    }
    Ok(opts)
}

fn read(cli: &mut Cli, opts: &mut Opts) -> Result<(), Error> {
    while let Some(option) = cli.option()? {
        match option.as_str() {
            "-g" | "--group" => opts.ways.group = true,
            "-r" | "--rewrite" => rewrite(cli, opts)?,
            "-e" | "--map-exit" => map_exit(cli, opts)?,
            "-p" | "--parent-death" => {
                let value = cli.value()?;
                opts.death = Some(signal(cli, &value, value.as_bytes())?);
            }
            "--grace" => opts.grace = Some(cli.value().and_then(|value| cli.nanoseconds(&value))?),
            "--default-signals" => opts.default_signals = true,
            "-s" | "--subreaper" => {}
            "-w" | "--warn" => opts.ways.warn = true,
            "-v" | "--verbose" => opts.ways.verbose = true,
            "--on-exit" => {
                opts.on_exit = Some(OnExit::Halt); // also of a machine whose word is none
                opts.on_exit = Some(OnExit::parse(cli)?);
            }
            _ => return Err(cli.unknown(&option, others::INIT)),
        }
    }
    opts.prog = cli.prog()?;
    let ends = opts.death.is_some() || opts.grace.is_some() || opts.ways.warn;
    if opts.on_exit.is_some() && (ends || opts.map.iter().zip(0..).any(|(to, n)| *to != n)) {
        return Err(
            cli.usage("--on-exit takes no -e, -p, -w and no --grace: process 1 does not end")
        );
    }
    Ok(())
}

/// `-r S:D`.
fn rewrite(cli: &mut Cli, opts: &mut Opts) -> Result<(), Error> {
    let value = cli.value()?;
    let Some((from, to)) = pair(value.as_bytes(), b':') else {
        let value = plain(value.as_bytes());
        return Err(cli.usage(format_args!("-r {value}: must be two signals, S:D, or S:0")));
    };
    let from = signal(cli, &value, from)?;
    if [libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD].contains(&from) {
        let what = [show::signal(from), " is not passed on"].concat();
        return Err(cli.usage(what));
    }
    let to = if to == b"0" { DROPPED } else { signal(cli, &value, to)? as u8 };
    opts.ways.rewrite.iter_mut().skip(from as usize).take(1).for_each(|entry| *entry = to);
    Ok(())
}

fn signal(cli: &Cli, value: &OsString, name: &[u8]) -> Result<i32, Error> {
    let typed = || plain(value.as_bytes());
    signal_of(name).ok_or_else(|| cli.usage(format_args!("{}: not a signal", typed())))
}

/// `-e N=M`, or `-e N`.
fn map_exit(cli: &mut Cli, opts: &mut Opts) -> Result<(), Error> {
    let value = cli.value()?;
    let (from, to) = pair(value.as_bytes(), b'=').unwrap_or((value.as_bytes(), b"0"));
    let status = |text| decimal(text).and_then(|n| u8::try_from(n).ok());
    let (Some(from), Some(to)) = (status(from), status(to)) else {
        let value = plain(value.as_bytes());
        return Err(cli.usage(format_args!("-e {value}: an exit status is 0 to 255")));
    };
    opts.map.iter_mut().skip(from.into()).take(1).for_each(|entry| *entry = to);
    Ok(())
}

fn apply(cx: &Cx, opts: &Opts) -> Result<Next, Error> {
    if let Some(on_exit) = opts.on_exit {
        // Everything that may fail is done in a child, so that a failure cannot end process 1. From here on: a child,
        // of a process 1 that never returns.
        let begun = machine::continue_in_child(cx, on_exit, opts.ways);
        opts.wrong.take().map_or(begun, Err)?;
        prepare(cx, opts, false)?;
        return opts.prog.find_tool(cx)?.next(cx);
    }
    let prog = opts.prog.find_tool(cx)?;
    let grace = opts.grace.map(|time| Grace::new(cx, time)).transpose()?;
    // Process 1 of a pid namespace inherits every orphan anyway; any other those below it.
    sys::prctl_set_child_subreaper(cx)?;
    process_1::hide(cx)?;
    let apart = leads_session_without_terminal(cx)?;
    if let Some(signal) = opts.death {
        DeathSignal::of(cx, signal)?.set(cx)?;
    }
    // We keep no file system busy. Where we may not leave the directory, or not return there, we stay.
    let here = sys::openat(cx, None, c".", libc::O_PATH | libc::O_DIRECTORY).ok();
    let here = here.filter(|_| sys::chdir(cx, c"/").is_ok());
    match child::spawn(cx, 0, &mut Memberships::default()).map_err(why_no_child)? {
        Side::Child => {
            here.map_or(Ok(()), |here| sys::fchdir(cx, here.as_fd()))?;
            prepare(cx, opts, apart)?;
            // A tool of this program too: our ids may not be those that it was started with, and we are not dumpable.
            prog.exec(cx)
        }
        Side::Parent(child, ran) => {
            let child = Child::with(child, apart.then_some(true), opts.ways);
            wait_for_prog(cx, opts, &child, &ran, grace)
        }
    }
}

/// What PROG is told to be.
fn prepare(cx: &Cx, opts: &Opts, apart: bool) -> Result<(), Error> {
    if opts.ways.group {
        terminal::lead_group(cx)?;
    } else if apart {
        sys::setpgid(cx)?;
    }
    if opts.default_signals { sys::default_signals(cx) } else { Ok(()) }
}

/// Does this process lead a session, as td-exec --setsid leaves it, whose terminal is not on standard input? Then PROG
/// leads a process group: what stops and continues it is not for process 1. (With a terminal it is in the foreground.)
fn leads_session_without_terminal(cx: &Cx) -> Result<bool, Error> {
    Ok(sys::getsid(cx)? == sys::getpid(cx)? && !sys::has_terminal(cx))
}

/// Wait until PROG has ended, and end as it did.
fn wait_for_prog(cx: &Cx, opts: &Opts, child: &Child, ran: &Ran, grace: Option<Grace>) -> ! {
    let grace = Cell::new(grace);
    // PROG may already be running. If we fail, it must not survive: a set-user-id program does not end with its parent.
    descriptors::stay_alone(cx, &[ran.fd()], &|closed| {
        let ended = closed
            .and_then(|()| match grace.take() {
                Some(grace) => grace.wait(cx, child),
                None => wait::wait(cx, child),
            })
            .inspect_err(|_| drop(sys::kill(cx, child.pid, libc::SIGKILL)))?;
        terminal::take_back(cx, child.pid);
        let status = ran.exit_status(cx, ended);
        Ok(opts.map.get(usize::from(status)).copied().unwrap_or(status))
    })
}

/// Limits of processes are seen outside.
fn why_no_child(error: Error) -> Error {
    match error.errno() {
        // Unless one is seen to be reached.
        Some(Errno::EAGAIN) if error.why().iter().all(|why| why.contains("perhaps ")) => error.because(
            "process 1 and PROG are two processes: perhaps a limit such as --pids 1 allows fewer",
        ),
        _ => error,
    }
}
