//! td-init: be process 1, of a container or of a machine. PROG runs in a child.
//! How signals are passed on to it is in [`crate::process::signals`].

const HELP: &str = "\
usage: td-init [OPTION]... PROG [ARG]...

Run PROG in a child, pass signals on to it, reap every orphan, and end as PROG
ended. In a container put it after td-exec, so that process 1 is what PROG is.

      --on-exit WHAT   be process 1 of a machine, which never ends: after PROG
                       poweroff, reboot, halt or respawn
";

use std::cell::Cell;

use syscalls::Errno;

use crate::cgroup::memberships::Memberships;
use crate::cli::{Cli, Prog};
use crate::process::chain::{self, Tool};
use crate::process::child::{self, Side};
use crate::process::descriptors;
use crate::process::machine::{self, OnExit};
use crate::process::process_1;
use crate::process::prog::Next;
use crate::process::ready::Ran;
use crate::process::signals::Child;
use crate::process::wait;
use crate::say::error::Error;
use crate::sys::{self, Cx};

/// The tool.
pub const TOOL: Tool = Tool {
    name: "td-init",
    step: |cx, args| chain::step(cx, (TOOL.name, HELP), args, parse, apply),
};

#[derive(Default)]
struct Opts {
    on_exit: Option<OnExit>,
    /// What is wrong on the command line of a process 1 that must not end.
    wrong: Cell<Option<Error>>,
    prog: Prog,
}

fn parse(cli: &mut Cli) -> Result<Opts, Error> {
    let mut opts = Opts::default();
    match read(cli, &mut opts) {
        Err(error) if opts.on_exit.is_some() => opts.wrong.set(Some(error)),
        other => other?,
    }
    Ok(opts)
}

fn read(cli: &mut Cli, opts: &mut Opts) -> Result<(), Error> {
    while let Some(option) = cli.option()? {
        match option.as_str() {
            "--on-exit" => {
                opts.on_exit = Some(OnExit::Halt); // also of a machine whose word is none
                opts.on_exit = Some(OnExit::parse(cli)?);
            }
            _ => return Err(cli.unknown(&option)),
        }
    }
    opts.prog = cli.prog()?;
    Ok(())
}

fn apply(cx: &Cx, opts: &Opts) -> Result<Next, Error> {
    if let Some(on_exit) = opts.on_exit {
        // All that may fail is done in a child, so that no failure ends process 1.
        // From here on: a child, of a process 1 that never returns.
        let begun = machine::continue_in_child(cx, on_exit);
        opts.wrong.take().map_or(begun, Err)?;
        return opts.prog.find_tool(cx)?.next(cx);
    }
    let prog = opts.prog.find_tool(cx)?;
    // Process 1 of a pid namespace inherits every orphan anyway; any other those below it.
    sys::prctl_set_child_subreaper(cx)?;
    process_1::hide(cx)?;
    let apart = leads_session_without_terminal(cx)?;
    match child::spawn(cx, 0, &mut Memberships::default()).map_err(why_no_child)? {
        Side::Child => {
            if apart {
                sys::setpgid(cx)?;
            }
            // A tool of this program too: our ids may not be those that it was started with, and we are not dumpable.
            prog.exec(cx)
        }
        Side::Parent(child, ran) => wait_for_prog(cx, child, &ran, apart),
    }
}

/// Does this process lead a session, as td-exec --setsid leaves it, whose terminal is not on standard input? Then PROG
/// leads a process group: what stops and continues it is not for process 1. (With a terminal it is in the foreground.)
fn leads_session_without_terminal(cx: &Cx) -> Result<bool, Error> {
    Ok(sys::getsid(cx)? == sys::getpid(cx)? && !sys::has_terminal(cx))
}

/// Wait until PROG has ended, and end as it did.
fn wait_for_prog(cx: &Cx, child: i32, ran: &Ran, apart: bool) -> ! {
    // PROG may run already. If we fail, it shall not live on: a set-user-id program does not end with its parent.
    descriptors::stay_alone(cx, ran.fd(), &|closed| {
        let ended = closed
            .and_then(|()| wait::wait(cx, &Child::new(child, apart.then_some(true))))
            .inspect_err(|_| drop(sys::kill(cx, child, libc::SIGKILL)))?;
        Ok(ran.exit_status(cx, ended))
    })
}

/// Limits of processes are seen outside.
fn why_no_child(error: Error) -> Error {
    match error.errno() {
        Some(Errno::EAGAIN) => error.because(
            "process 1 and PROG are two processes: perhaps a limit allows fewer, as --pids 1 does",
        ),
        _ => error,
    }
}
