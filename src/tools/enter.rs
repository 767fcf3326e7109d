//! td-enter: join the namespaces, the root and the cgroup of a process or a container, and become PROG.

const HELP: &str = "\
usage: td-enter -t PID [OPTION]... PROG [ARG]...
       td-enter --name NAME [OPTION]... PROG [ARG]...

Become PROG in namespaces that are there: those of process PID, those that files
hold, or all of the container NAME of td-run, as docker exec does. In another
pid namespace a child becomes PROG; its parent passes signals on, and ends as
PROG ended. If the parent is killed, the child dies. Descriptors above 2 are
closed.

  -t, --target PID    the process of the options that follow
  -a, --all           all its namespaces
  -m, --mount[=FILE]  its mount namespace, or the one that FILE holds; so also:
  -u, --uts[=FILE]    host and domain name
  -i, --ipc[=FILE]    System V IPC and POSIX message queues
  -n, --net[=FILE]    network
  -p, --pid[=FILE]    process ids
  -C, --cgroup[=FILE] the root of the visible cgroups
  -U, --user[=FILE]   user and group ids; be root there
  -T, --time[=FILE]   offsets of the monotonic and the boot clock
  -r, --root[=DIR]    its root directory, or DIR
  -w, --wd[=DIR]      its working directory, or DIR in the new root
      --join-cgroup   its cgroup, in every hierarchy
      --name NAME     the container NAME: all of this, and the capabilities and
                      the environment of its processes, in a new session
      --state DIR     where td-run keeps its containers
";

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use syscalls::Errno;

use crate::cgroup::memberships::Memberships;
use crate::cli::{Cli, Prog};
use crate::ids::caps::{self, CAP_SYS_CHROOT};
use crate::ids::credentials;
use crate::ids::user_namespace;
use crate::process::chain::{self, Tool};
use crate::process::child::{self, Side};
use crate::process::container::Container;
use crate::process::descriptors;
use crate::process::join::{self, Asked, Opened, PID, USER};
use crate::process::namespaces;
use crate::process::own_file::{self, Seal};
use crate::process::prog::Next;
use crate::process::session;
use crate::process::signals::Child;
use crate::process::socket_pair::SocketPair;
use crate::process::target::Target;
use crate::process::wait;
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
            _ => return Err(cli.unknown(&option)),
        }
    }
    opts.prog = cli.prog()?;
    let Asked { namespaces, files, root, wd, cgroup } = &opts.asked;
    let of_process = *namespaces != 0 || *root == Some(None) || *cgroup;
    match (opts.target, &opts.name) {
        (Some(_), Some(_)) => Err(cli.usage("--target and --name exclude each other")),
        (_, Some(_)) if of_process || !files.is_empty() || root.is_some() => {
            Err(cli.usage("--name takes all that is the container's, and nothing else"))
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
    pid.ok_or_else(|| cli.usage(format_args!("--target {word}: not a process id")))
}

/// NAME, as td-run takes it.
fn name(cli: &mut Cli) -> Result<CString, Error> {
    let typed = cli.path()?;
    let name = typed.to_bytes();
    let fits = |b: &u8| b.is_ascii_alphanumeric() || b"._-".contains(b);
    if name.first().is_some_and(u8::is_ascii_alphanumeric) && name.iter().all(fits) {
        return Ok(typed);
    }
    Err(cli.usage(format_args!("--name {}: no container has such a name", plain(name))))
}

fn apply(cx: &Cx, opts: &Opts) -> Result<Next, Error> {
    // Whoever executes a PROG of the container, or is seen in it, must not run from a file of the host.
    // From here on: the sealed program, begun anew.
    own_file::continue_sealed(cx, Seal::Copy)?;
    let prog = opts.prog.find_tool(cx)?;
    let sealed = prog.seal(cx, Seal::Copy)?;
    descriptors::refuse_ways_out(cx)?;
    // Nor may anybody in there trace us or read our memory, until PROG begins.
    sys::prctl_set_undumpable(cx)?;
    let (target, found) = find(cx, opts)?;
    let container = found.as_ref();
    let policy = container.and_then(|container| container.policy.as_ref());
    if let Some(inside) = container {
        session::refuse_free_terminals(cx, inside.capabilities, policy)?;
    }
    let mut opened = Opened::new(cx, &opts.asked, target, container.is_some())?;

    let forks = opened.joins(PID);
    if !forks && (opened.root.is_some() || opened.joins(USER | libc::CLONE_NEWNS as u64)) {
        descriptors::refuse_locks(cx, &[])?; // nobody stays outside who could keep one
    }
    let death_signal = child::DeathSignal::new(cx, forks)?;
    // From here on: the child, if one is needed.
    let sockets = forks.then(|| continue_in_child(cx, &mut opened.cgroups)).transpose()?;
    opened.cgroups.enter(cx)?;
    enter(cx, opts, &opened, container)?;
    // What is seen in the pid namespace has no right any more that the container has not.
    // From here on: the child's sibling, where there is a child.
    sockets.map_or(Ok(()), |sockets| sockets.continue_in_sibling(cx).map_err(why_no_child))?;
    if container.is_some() {
        sys::setsid(cx)?; // a terminal of the host is not the controlling one
    }
    death_signal.set(cx)?;
    descriptors::close_on_exec(cx, &[], prog.is_tool())?;
    if let Some(env) = environment(cx, opts, &opened, container) {
        cx.set_env(env);
    }
    // The policy is loaded: what is left is whether PROG can run under it.
    if let Some(policy) = found.and_then(|container| container.policy) {
        cx.set_before_prog(Box::new(move |cx, path| policy.load_before_exec(cx, path)));
    }
    match sealed {
        Some(file) => prog.exec_sealed(cx, &file),
        None => prog.exec(cx),
    }
}

/// Find the process, and the container that it is of.
fn find(cx: &Cx, opts: &Opts) -> Result<(Option<Target>, Option<Container>), Error> {
    match (&opts.name, opts.target) {
        (Some(name), _) => {
            let (first, container) = Container::find(cx, &state(cx, opts)?, name)?;
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

/// The state directory, where td-run has it.
fn state(cx: &Cx, opts: &Opts) -> Result<CString, Error> {
    let variable = |name| cx.getenv(name).filter(|value| !value.is_empty());
    match (&opts.state, variable("XDG_DATA_HOME"), variable("HOME")) {
        (Some(state), ..) => Ok(state.clone()),
        _ if cx.start.euid == 0 => Ok(c"/var/lib/td".into()),
        (None, Some(data), _) => Ok(cstring([&data[..], b"/td"].concat())),
        (None, None, Some(home)) => Ok(cstring([&home[..], b"/.local/share/td"].concat())),
        (None, None, None) => {
            let what = "HOME is not set, so it is not known where containers are kept";
            Err(Error::refusal(what).way_out("say it: --state DIR"))
        }
    }
}

/// Clone a child, in the cgroups, that joins all that is to be joined and is then replaced by a sibling. The parent
/// stays outside of all that, and ends as PROG ended.
fn continue_in_child(cx: &Cx, cgroups: &mut Memberships) -> Result<SocketPair, Error> {
    let sockets = SocketPair::new(cx)?;
    let Side::Parent(child, ran) = child::spawn(cx, 0, cgroups)? else {
        cgroups.v2 = None; // it was created there
        return Ok(sockets);
    };
    let kill = |child| wait::kill(cx, child).unwrap_or_else(|error| cx.say(&error));
    let prog = sockets.receive_sibling(cx, child).inspect_err(|_| kill(child))?;
    let child = prog.unwrap_or(child); // which has failed
    descriptors::stay_alone(cx, ran.fd(), &|closed| {
        closed?;
        let ended = wait::wait_unless_frozen(cx, &Child::new(child, None), &|| {})
            .inspect_err(|_| kill(child))?;
        Ok(ran.exit_status(cx, ended))
    })
}

/// Enter the namespaces and the root, and what is in them.
fn enter(
    cx: &Cx,
    opts: &Opts,
    opened: &Opened,
    container: Option<&Container>,
) -> Result<(), Error> {
    let own = match container.is_some() || opened.joins(USER) {
        true => Some(sys::openat(cx, None, c"/proc/self", libc::O_PATH | libc::O_DIRECTORY)?),
        false => None,
    };
    // Groups of the host would still open its files. Who may not leave them has brought his own.
    let has_left = own.is_some() && leave_groups(cx)?;
    let [gid, uid] = opened.ids;
    if let Some(uid) = uid.filter(|uid| *uid != cx.start.euid) {
        credentials::chown_pipes(cx, uid, gid)?; // while who owns them has an id here
    }
    if let Some([gid, uid]) = container.and_then(|container| container.owner) {
        // From here on the kernel lets us go where that user may go, and nowhere else.
        sys::setresgid(cx, gid)?;
        sys::setresuid(cx, uid)?;
    }
    join::join(cx, &opened.joins)?;
    if own.is_some() && !has_left {
        leave_groups(cx)?;
    }
    if let Some(root) = &opened.root {
        sys::fchdir(cx, root.as_fd())?;
        sys::chroot(cx, c".").map_err(|e| caps::why(cx, CAP_SYS_CHROOT, e))?;
    }
    confine(cx, opts, opened, container, own.as_ref())
}

/// Take the ids that are mapped there, change the working directory, and have the limits of a container. `own` is our
/// own directory in `/proc`, where our ids change.
fn confine(
    cx: &Cx,
    opts: &Opts,
    opened: &Opened,
    container: Option<&Container>,
    own: Option<&OwnedFd>,
) -> Result<(), Error> {
    let outside = container.and_then(|container| container.owner);
    let outside = outside.map_or(cx.start.euid, |[_, uid]| uid);
    let there = working_directory::entered(change_directory(cx, opts, opened, outside))?;
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
        change_directory(cx, opts, opened, uid.unwrap_or(outside))?;
    }
    sys::prctl_set_undumpable(cx)?; // a change of ids may have undone it
    let policy = container.and_then(|container| container.policy.as_ref());
    policy.map_or(Ok(()), |policy| policy.load_after_ids(cx))
}

/// Change the working directory, as `uid`.
fn change_directory(cx: &Cx, opts: &Opts, opened: &Opened, uid: u32) -> Result<(), Error> {
    match (&opened.wd, &opts.asked.wd) {
        (Some(directory), _) => sys::fchdir(cx, directory.as_fd()),
        (None, Some(Some(path))) => working_directory::enter(cx, path, uid),
        _ => Ok(()),
    }
}

/// Give up all supplementary groups. False: we may not.
fn leave_groups(cx: &Cx) -> Result<bool, Error> {
    match sys::setgroups(cx.expects(&[Errno::EPERM]), &[]) {
        Err(e) if e.is(Errno::EPERM) => Ok(false),
        other => other.map(|()| true),
    }
}

/// Why there is no child: fork(2) has one reason more where it goes to another pid namespace.
fn why_no_child(error: Error) -> Error {
    match error.errno() {
        Some(Errno::ENOMEM) => error.because("process 1 of the pid namespace has ended"),
        _ => error,
    }
}
