//! td-enter: join the namespaces, the root and the cgroup of a process or a container, and become PROG.

const HELP: &str = "\
usage: td-enter -t PID [OPTION]... PROG [ARG]...
       td-enter --name NAME [OPTION]... PROG [ARG]...

Become PROG in existing namespaces: those of process PID, those kept in files,
or all of the container NAME of td-run, as docker exec does. In another pid
namespace, a child becomes PROG; its parent passes signals on and ends as PROG
ended. If the parent is killed, the child dies. Descriptors above 2 are closed.

  -t, --target PID    apply the options that follow to process PID
  -a, --all           join all its namespaces
  -m, --mount[=FILE]  join its mount namespace, or the one in FILE; likewise:
  -u, --uts[=FILE]    host and domain name
  -i, --ipc[=FILE]    System V IPC and POSIX message queues
  -n, --net[=FILE]    network
  -p, --pid[=FILE]    process ids
  -C, --cgroup[=FILE] root of the visible cgroups
  -U, --user[=FILE]   user and group ids; PROG is root there
  -T, --time[=FILE]   offsets of the monotonic and the boot clock
  -r, --root[=DIR]    change to its root directory, or to DIR
  -w, --wd[=DIR]      change to its working directory, or to DIR in the new root
      --join-cgroup   move into its cgroup, in every hierarchy
      --name NAME     join all of the container NAME, with the capabilities and
                      the environment of its processes, in a new session
      --state DIR     look for containers of td-run in DIR
      --tty           give PROG a terminal of that root, for the caller's
";

use std::cell::Cell;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use syscalls::Errno;

use crate::cgroup::memberships::Memberships;
use crate::cli::{Cli, Prog, others};
use crate::ids::caps::{self, CAP_SYS_CHROOT};
use crate::ids::credentials;
use crate::ids::user_namespace;
use crate::process::chain::{self, Tool};
use crate::process::child::{self, Side};
use crate::process::container::{self, Container};
use crate::process::descriptors;
use crate::process::join::{self, Asked, Opened, PID, USER};
use crate::process::namespaces;
use crate::process::own_file::{self, Seal};
use crate::process::prog::Next;
use crate::process::pty;
use crate::process::relay::Relay;
use crate::process::session;
use crate::process::signals::Child;
use crate::process::socket_pair::SocketPair;
use crate::process::target::Target;
use crate::process::terminal_inside::TerminalInside;
use crate::process::{wait, why_no_prog};
use crate::root::working_directory;
use crate::say::error::Error;
use crate::say::show::plain;
use crate::sys::{self, Cx, cstring};

/// The tool.
pub const TOOL: Tool = Tool {
    name: "td-enter",
    step: |cx, args| chain::step(cx, (TOOL.name, HELP), args, parse, apply),
};

#[derive(Default)]
struct Opts {
    target: Option<i32>,
    name: Option<CString>,
    state: Option<CString>,
    asked: join::Asked,
    tty: bool,
    prog: Prog,
}

fn parse(cli: &mut Cli) -> Result<Opts, Error> {
    let mut opts = Opts::default();
    while let Some(option) = cli.option()? {
        if let Some(kind) = namespaces::of_option(&option) {
            match cli.optional_path() {
                Some(file) => opts.asked.files.push((kind, file)),
                None => opts.asked.namespaces |= kind,
            }
            continue;
        }
        match option.as_str() {
            "-t" | "--target" => opts.target = Some(pid(cli)?),
            "-a" | "--all" => opts.asked.namespaces = join::ALL,
            "-r" | "--root" => opts.asked.root = Some(cli.optional_path()),
            "-w" | "--wd" => opts.asked.wd = Some(cli.optional_path()),
            "--join-cgroup" => opts.asked.cgroup = true,
            "--name" => opts.name = Some(name(cli)?),
            "--state" => opts.state = Some(cli.path()?),
            "--tty" => opts.tty = true,
            _ => return Err(cli.unknown(&option, others::ENTER)),
        }
    }
    opts.prog = cli.prog()?;
    let Asked { namespaces, files, root, wd, cgroup } = &opts.asked;
    let of_process = *namespaces != 0 || *root == Some(None) || *cgroup;
    match (opts.target, &opts.name) {
        (Some(_), Some(_)) => Err(cli.usage("--target and --name cannot be combined")),
        (_, Some(_)) if of_process || !files.is_empty() || root.is_some() => {
            Err(cli.usage("--name can be combined only with --wd, --state and --tty"))
        }
        (Some(_), _) if !of_process && *wd != Some(None) => Err(cli.usage(
            "--target needs --all, --join-cgroup, or a namespace, --root or --wd without a value",
        )),
        (None, None) if of_process || *wd == Some(None) => {
            Err(cli.usage("--target PID is missing"))
        }
        _ => Ok(opts),
    }
}

fn pid(cli: &mut Cli) -> Result<i32, Error> {
    let word = cli.word()?;
    let pid = word.parse().ok().filter(|pid| *pid > 0);
    pid.ok_or_else(|| {
        let what = format!("--target {word}: not a process id");
        Error::refusal(what)
            .way_out("for a container, as docker exec -it: td-enter --tty --name NAME PROG")
    })
}

/// NAME, as td-run takes it.
fn name(cli: &mut Cli) -> Result<CString, Error> {
    let typed = cli.path()?;
    let name = typed.to_bytes();
    let fits = |b: &u8| b.is_ascii_alphanumeric() || b"._-".contains(b);
    if name.first().is_some_and(u8::is_ascii_alphanumeric) && name.iter().all(fits) {
        return Ok(typed);
    }
    Err(cli.usage(format_args!("--name {}: not a valid container name", plain(name))))
}

fn apply(cx: &Cx, opts: &Opts) -> Result<Next, Error> {
    // A process that executes a PROG of the container, or is visible in it, must not run from a file of the host. From
    // here on: the sealed program, begun anew.
    own_file::continue_sealed(cx, Seal::Copy)?;
    let prog = opts.prog.find_tool(cx)?;
    let sealed = prog.seal(cx, Seal::Copy)?;
    descriptors::refuse_ways_out(cx)?;
    // No process inside may trace this one or read its memory until PROG starts.
    sys::prctl_set_undumpable(cx)?;
    let (target, found) = find(cx, opts)?;
    let container = found.as_ref();
    let policy = container.and_then(|container| container.policy.as_ref());
    if let Some(inside) = container.filter(|_| !opts.tty) {
        session::refuse_free_terminals(cx, inside.capabilities, policy)?;
    }
    let terminal = opts.tty.then(|| TerminalInside::new(cx, policy)).transpose()?;
    let mut opened = Opened::new(cx, &opts.asked, target, container.is_some())?;

    let forks = opts.tty || opened.joins(PID);
    if !forks && (opened.root.is_some() || opened.joins(USER | libc::CLONE_NEWNS as u64)) {
        descriptors::refuse_locks(cx, &[])?; // nobody stays outside who could keep one
    }
    let death_signal = child::DeathSignal::new(cx, forks)?;
    // From here on: the child, if one is needed.
    let (sockets, terminal) = match forks {
        true => continue_in_child(cx, &mut opened.cgroups, terminal)?,
        false => (None, None),
    };
    opened.cgroups.enter(cx)?;
    enter(cx, opts, &opened, container, terminal.as_ref())?;
    // A process that is visible in the pid namespace must not have more rights than the container. From here on: the
    // child's sibling, where there is a child.
    sockets.map_or(Ok(()), |sockets| {
        sockets.continue_in_sibling(cx).map_err(|e| why_no_child(&opened, e))
    })?;
    let env = environment(cx, opts, &opened, container);
    let policy = found.and_then(|container| container.policy);
    begin_session(cx, opts)?;
    death_signal.set(cx)?;
    descriptors::close_on_exec(cx, &[], prog.is_tool())?;
    if let Some(env) = env {
        cx.set_env(env);
    }
    // The policy is loaded: what is left is whether PROG can run under it.
    if let Some(policy) = policy {
        cx.set_before_prog(Box::new(move |cx, path| policy.load_before_exec(cx, path)));
    }
    match sealed {
        Some(file) => prog.exec_sealed(cx, &file),
        None => prog.exec(cx).map_err(|e| {
            let asked = opts.name.is_none().then_some(&opts.asked);
            why_no_prog::why(cx, (asked, opts.state.as_deref()), opts.prog.name(), e)
        }),
    }
}

/// In a container and with a terminal of its own, PROG leads a session. A terminal of the host does not control that.
fn begin_session(cx: &Cx, opts: &Opts) -> Result<(), Error> {
    if opts.tty || opts.name.is_some() {
        sys::setsid(cx)?;
    }
    if opts.tty { pty::control_session(cx, sys::standard_fd(0)) } else { Ok(()) }
}

/// Find the process, and the container that it is of.
fn find(cx: &Cx, opts: &Opts) -> Result<(Option<Target>, Option<Container>), Error> {
    match (&opts.name, opts.target) {
        (Some(name), _) => {
            let state = opts.state.clone().map_or_else(|| container::usual_state(cx), Ok)?;
            let (first, container) = Container::find(cx, &state, name)?;
            Ok((Some(first), Some(container)))
        }
        (None, Some(pid)) => Ok((Some(Target::open(cx, pid)?), None)),
        (None, None) => Ok((None, None)),
    }
}

/// PROG's environment: the container's or our own, with the working directory where that is another. `None`: our own.
fn environment(
    cx: &Cx,
    opts: &Opts,
    opened: &Opened,
    container: Option<&Container>,
) -> Option<Vec<CString>> {
    let moves =
        opts.asked.wd.is_some() || opened.root.is_some() || opened.joins(libc::CLONE_NEWNS as u64);
    let old = match container {
        None if !moves => return None,
        container => container.map_or(cx.env(), |container| &container.environment),
    };
    let is_pwd = |variable: &&CString| variable.to_bytes().starts_with(b"PWD=");
    let mut env: Vec<CString> = old.iter().filter(|variable| !is_pwd(variable)).cloned().collect();
    let wd = opts.asked.wd.as_ref().and_then(Option::as_ref).map(|directory| directory.to_bytes());
    env.extend(wd.filter(|wd| wd.starts_with(b"/")).map(|wd| cstring([b"PWD=", wd].concat())));
    Some(env)
}

/// Clone a child, in the cgroups, that joins everything and is then replaced by a sibling. The parent joins nothing,
/// and ends as PROG ended.
fn continue_in_child(
    cx: &Cx,
    cgroups: &mut Memberships,
    terminal: Option<TerminalInside>,
) -> Result<(Option<SocketPair>, Option<TerminalInside>), Error> {
    let sockets = SocketPair::new(cx)?;
    let Side::Parent(child, ran) = child::spawn(cx, 0, cgroups)? else {
        cgroups.v2 = None; // it was created there
        return Ok((Some(sockets), terminal));
    };
    let kill = |child| wait::kill(cx, child).unwrap_or_else(|error| cx.say(&error));
    let prog = sockets.receive_sibling(cx, child).inspect_err(|_| kill(child))?;
    let child = prog.unwrap_or(child); // which has failed
    let master = terminal.map_or(Ok(None), |terminal| terminal.receive(cx));
    let master = master.inspect_err(|_| kill(child))?;
    let master = (master.as_ref().map(AsRawFd::as_raw_fd), Cell::new(master));
    descriptors::stay_alone(cx, &[ran.fd(), master.0], &|closed| {
        closed?;
        let ended = match master.1.take() {
            Some(master) => Relay::of_master(cx, child, master)?.run()?,
            None => wait::wait_unless_frozen(cx, &Child::new(child, None), &|| {})
                .inspect_err(|_| kill(child))?,
        };
        Ok(ran.exit_status(cx, ended))
    })
}

/// Enter the namespaces and the root, and what is in them.
fn enter(
    cx: &Cx,
    opts: &Opts,
    opened: &Opened,
    container: Option<&Container>,
    terminal: Option<&TerminalInside>,
) -> Result<(), Error> {
    let own = match container.is_some() || opened.joins(USER) {
        true => Some(sys::openat(cx, None, c"/proc/self", libc::O_PATH | libc::O_DIRECTORY)?),
        false => None,
    };
    // Groups of the host would still give access to its files. A caller that may not give them up is in its own groups.
    let has_left = own.is_some() && credentials::leave_groups(cx)?;
    let [gid, uid] = opened.ids;
    if let Some(uid) = uid.filter(|uid| *uid != cx.start.euid && terminal.is_none()) {
        credentials::chown_pipes(cx, uid, gid)?; // while who owns them has an id here
    }
    if let Some([gid, uid]) = container.and_then(|container| container.owner) {
        // From here on the kernel lets this process enter only what that user may enter.
        sys::setresgid(cx, gid)?;
        sys::setresuid(cx, uid)?;
    }
    join::join(cx, &opened.joins)?;
    if own.is_some() && !has_left {
        credentials::leave_groups(cx)?;
    }
    if let Some(root) = &opened.root {
        sys::fchdir(cx, root.as_fd())?;
        sys::chroot(cx, c".").map_err(|e| caps::why(cx, CAP_SYS_CHROOT, e))?;
    }
    confine(cx, opts, opened, (container, terminal), own.as_ref())
}

/// Take the ids that are mapped there, change the working directory, and have the limits of a container. `own` is our
/// own directory in `/proc`, where our ids change.
fn confine(
    cx: &Cx,
    opts: &Opts,
    opened: &Opened,
    (container, terminal): (Option<&Container>, Option<&TerminalInside>),
    own: Option<&OwnedFd>,
) -> Result<(), Error> {
    let there = working_directory::entered(change_directory(cx, opts, opened))?;
    let mut ids = [None, None];
    for (id, map) in ids.iter_mut().zip([c"gid_map", c"uid_map"]) {
        if let Some(own) = own {
            let map = sys::read_file(cx, Some(own.as_fd()), map)?;
            *id = user_namespace::smallest_mapped(&map).map(|[inside, _]| inside);
        }
    }
    container.map_or(Ok(()), |container| container.confine(cx))?;
    let [gid, uid] = ids;
    gid.map_or(Ok(()), |gid| sys::setresgid(cx, gid))?;
    uid.map_or(Ok(()), |uid| sys::setresuid(cx, uid))?;
    container.map_or(Ok(()), |container| container.keep_capabilities(cx))?;
    if !there {
        change_directory(cx, opts, opened)?;
    }
    sys::prctl_set_undumpable(cx)?; // a change of ids may have undone it
    terminal.map_or(Ok(()), |terminal| terminal.open(cx))?;
    let policy = container.and_then(|container| container.policy.as_ref());
    policy.map_or(Ok(()), |policy| policy.load_after_ids(cx))
}

/// Change the working directory.
fn change_directory(cx: &Cx, opts: &Opts, opened: &Opened) -> Result<(), Error> {
    match (&opened.wd, &opts.asked.wd) {
        (Some(directory), _) => sys::fchdir(cx, directory.as_fd()),
        (None, Some(Some(path))) => working_directory::enter_of_others(cx, path),
        _ => Ok(()),
    }
}

/// Why there is no child. What is seen here is the container's, which could show anything: limits are not looked at.
fn why_no_child(opened: &Opened, error: Error) -> Error {
    match error.errno() {
        Some(Errno::ENOMEM) if opened.joins(PID) => {
            error.because("perhaps process 1 of the pid namespace has ended, or memory has run out")
        }
        Some(Errno::EAGAIN) => error.because(
            "perhaps a limit of processes is reached: pids.max of a cgroup, RLIMIT_NPROC, or kernel.pid_max there",
        ),
        _ => error,
    }
}
