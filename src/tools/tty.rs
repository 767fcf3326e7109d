//! td-tty: give PROG a terminal of its own, and relay between that and the caller's.

const HELP: &str = "\
usage: td-tty [OPTION]... PROG [ARG]...
       td-tty --fd N [OPTION]... PROG [ARG]...
       td-tty --inside N [OPTION]... PROG [ARG]...

Run PROG in a child, in a new session with a new terminal. Pass on what is
typed, what PROG shows, the size of the window and signals, and end as PROG
ended. The caller's terminal then has the modes that it had.

      --fd N           open no terminal; wait for one that td-tty --inside N,
                       a later step of PROG, sends over the socket N
      --inside N       become PROG on a new terminal of this root and this
                       session, and send its other end over the socket N
";

use std::os::fd::{AsFd, OwnedFd, RawFd};

use syscalls::Errno;

use crate::cgroup::memberships::Memberships;
use crate::cli::{Cli, Prog, others};
use crate::process::callers_terminal;
use crate::process::chain::{self, Tool};
use crate::process::child::{self, Side};
use crate::process::prog::{Found, Next};
use crate::process::pty::Pty;
use crate::process::ready::Ran;
use crate::process::relay::Relay;
use crate::say::error::Error;
use crate::say::show;
use crate::sys::structs::SigSet;
use crate::sys::{self, Cx};

/// The tool.
pub const TOOL: Tool = Tool {
    name: "td-tty",
    step: |cx, args| chain::step(cx, (TOOL.name, HELP), args, parse, apply),
};

/// What of it may follow behind a pivot.
pub mod inner {
    use super::*;

    /// The tool, without the relay.
    pub const TOOL: Tool = Tool {
        name: "td-tty",
        step: |cx, args| chain::step(cx, (TOOL.name, HELP), args, parse, apply),
    };

    fn apply(cx: &Cx, opts: &Opts) -> Result<Next, Error> {
        let Some(socket) = opts.inside else {
            let what = "this program contains only td-tty --inside";
            return Err(Error::refusal(what)
                .way_out("put td-tty before td-exec, or use td, which has all tools"));
        };
        inside(cx, &opts.prog.find_tool(cx)?, socket)
    }
}

#[derive(Default)]
struct Opts {
    /// The number that the chain is to have for the socket.
    fd: Option<RawFd>,
    /// The number that it has.
    inside: Option<RawFd>,
    prog: Prog,
}

fn parse(cli: &mut Cli) -> Result<Opts, Error> {
    let mut opts = Opts::default();
    while let Some(option) = cli.option()? {
        match option.as_str() {
            "--fd" => opts.fd = Some(number(cli)?),
            "--inside" => opts.inside = Some(cli.fd()?),
            _ => return Err(cli.unknown(&option, others::TTY)),
        }
    }
    if opts.fd.is_some() && opts.inside.is_some() {
        return Err(cli.usage("--fd and --inside cannot be combined"));
    }
    opts.prog = cli.prog()?;
    Ok(opts)
}

/// The number of a descriptor that is not open yet.
fn number(cli: &mut Cli) -> Result<RawFd, Error> {
    let word = cli.word()?;
    let number = word.parse().ok().filter(|fd| *fd > 2);
    number.ok_or_else(|| cli.usage(format_args!("--fd {word}: not a number above 2")))
}

fn apply(cx: &Cx, opts: &Opts) -> Result<Next, Error> {
    let prog = opts.prog.find_tool(cx)?;
    match (opts.inside, opts.fd) {
        (Some(socket), _) => inside(cx, &prog, socket),
        (None, Some(fd)) => outside(cx, &prog, fd),
        (None, None) => alone(cx, &prog),
    }
}

/// Open the terminal here, for a child that leads its session.
fn alone(cx: &Cx, prog: &Found) -> Result<Next, Error> {
    let pty = Pty::open(cx)?;
    pty.begin(cx, &callers_terminal::beginning(cx))?;
    match child::spawn(cx, 0, &mut Memberships::default())? {
        Side::Child => {
            sys::setsid(cx)?;
            drop(pty.take(cx)?);
            prog.next(cx)
        }
        Side::Parent(child, ran) => {
            let Pty { master, slave } = pty;
            drop(slave);
            relay(cx, &ran, Relay::of_master(cx, child, master)?)
        }
    }
}

/// Leave the socket to the chain, of which a later step opens the terminal.
fn outside(cx: &Cx, prog: &Found, fd: RawFd) -> Result<Next, Error> {
    let ours = leave_socket(cx, fd)?;
    sys::send_beginning(cx, ours.as_fd(), &callers_terminal::beginning(cx))?;
    match child::spawn(cx, 0, &mut Memberships::default())? {
        Side::Child => {
            drop(ours);
            // What is sent to our process group reaches the chain once, from the relay. What its steps say in the
            // background stops none of them: termios(3), TOSTOP.
            sys::setpgid(cx)?;
            let ttou = SigSet(1 << (libc::SIGTTOU - 1));
            cx.block_until_prog(sys::rt_sigprocmask(cx, libc::SIG_BLOCK, ttou)?);
            prog.next(cx)
        }
        Side::Parent(child, ran) => {
            cx.close_inherited([fd].into_iter());
            relay(cx, &ran, Relay::of_socket(cx, child, ours))
        }
    }
}

/// A pair of sockets, of which PROG has one under this number. Returns the other.
fn leave_socket(cx: &Cx, fd: RawFd) -> Result<OwnedFd, Error> {
    let Some(free) = sys::free_fd(cx, fd) else {
        let fd = show::number(fd as u64);
        return Err(Error::refusal(["descriptor ", &fd, " is already open"].concat())
            .way_out("name a number that is not in use; if it is a socket of an engine, td-tty --inside is enough"));
    };
    let (mut ours, mut theirs) = sys::socketpair(cx, 0)?;
    if free.is(&ours) {
        std::mem::swap(&mut ours, &mut theirs);
    }
    sys::leave_to_prog_as(cx, theirs, free)?;
    Ok(ours)
}

/// Relay, and end as PROG ended.
fn relay(cx: &Cx, ran: &Ran, relay: Relay) -> Result<Next, Error> {
    let ended = relay.run()?;
    Ok(Next::End(ran.exit_status(cx, ended)))
}

/// Open the terminal in this root, as this user, and send its other end outside.
fn inside(cx: &Cx, prog: &Found, socket: RawFd) -> Result<Next, Error> {
    let pty = Pty::open(cx)?;
    let beginning = sys::receive_beginning(cx, socket).map_err(|e| why_not_sent(socket, e))?;
    beginning.map_or(Ok(()), |beginning| pty.begin(cx, &beginning))?;
    // First: if this process had the terminal already, a failure could not be reported, and would end it by SIGHUP.
    sys::send_fd(cx, socket, pty.master.as_fd()).map_err(|e| why_not_sent(socket, e))?;
    cx.close_inherited([socket].into_iter());
    drop(pty.take(cx)?);
    prog.next(cx)
}

fn why_not_sent(socket: RawFd, error: Error) -> Error {
    match error.errno() {
        Some(Errno::ENOTSOCK) => {
            let socket = show::number(socket as u64);
            error.because(["descriptor ", &socket, " is not a socket"].concat())
        }
        Some(Errno::EPIPE) => error.because("nobody waits for the terminal at its other end"),
        _ => error,
    }
}
