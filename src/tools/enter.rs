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
use crate::cgroup::record::{Record, Wanted};
use crate::cli::{Cli, Prog};
use crate::ids::caps::{self, CAP_SETGID, CAP_SETUID, CAP_SYS_CHROOT};
use crate::ids::policy::Confinement;
use crate::ids::users;
use crate::process::chain::{self, Tool};
use crate::process::child::{self, Line, Side, Waited};
use crate::process::container::Container;
use crate::process::descriptors;
use crate::process::join::{self, Join, PID, USER};
use crate::process::namespaces;
use crate::process::own_file;
use crate::process::prog::Next;
use crate::process::session;
use crate::process::target::Target;
use crate::root::fill;
use crate::root::working_directory;
use crate::say::error::{Error, FAILED};
use crate::say::flags;
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
    /// The namespaces of the process.
    namespaces: u64,
    /// Those that files hold.
    files: Vec<(u64, CString)>,
    /// A directory, or that of the process.
    root: Option<Option<CString>>,
    wd: Option<Option<CString>>,
    join_cgroup: bool,
    prog: Prog,
}

const ALL: u64 = u64::MAX;

fn parse(cli: &mut Cli) -> Result<Opts, Error> {
    let mut opts = Opts::default();
    while let Some(option) = cli.option()? {
        if let Some(kind) = namespaces::of_option(&option) {
            match cli.optional_path() {
                Some(file) => opts.files.push((kind, file)),
                None => opts.namespaces |= kind,
            }
            continue;
        }
        match option.as_str() {
            "-t" | "--target" => opts.target = Some(pid(cli)?),
            "-a" | "--all" => opts.namespaces = ALL,
            "-r" | "--root" => opts.root = Some(cli.optional_path()),
            "-w" | "--wd" => opts.wd = Some(cli.optional_path()),
            "--join-cgroup" => opts.join_cgroup = true,
            "--name" => opts.name = Some(name(cli)?),
            "--state" => opts.state = Some(cli.path()?),
            _ => return Err(cli.unknown(&option)),
        }
    }
    opts.prog = cli.prog()?;
    let of_process = opts.namespaces != 0 || opts.root == Some(None) || opts.join_cgroup;
    match (opts.target, &opts.name) {
        (Some(_), Some(_)) => Err(cli.usage("--target and --name: it is one of them")),
        (_, Some(_)) if of_process || !opts.files.is_empty() || opts.root.is_some() => {
            Err(cli.usage("--name takes all that is the container's, and nothing else"))
        }
        (Some(_), _) if !of_process && opts.wd != Some(None) => {
            Err(cli.usage("--target: and what of it? --all, --net, --root"))
        }
        (None, None) if of_process || opts.wd == Some(None) => {
            Err(cli.usage("of which process? --target PID"))
        }
        _ => Ok(opts),
    }
}

fn pid(cli: &mut Cli) -> Result<i32, Error> {
    let word = cli.word()?;
    let pid = word.parse().ok().filter(|pid| *pid > 0);
    pid.ok_or_else(|| cli.usage(format_args!("--target {word}: this is no pid")))
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

/// What is joined, opened while we are outside.
#[derive(Default)]
struct Entry {
    joins: Vec<Join>,
    cgroups: Memberships,
    root: Option<OwnedFd>,
    wd: Option<OwnedFd>,
    /// Who PROG will be where the ids change, as the caller has it.
    ids: [Option<u32>; 2],
}

fn apply(cx: &Cx, opts: &Opts) -> Result<Next, Error> {
    // Whoever executes a PROG of the container, or is seen in it, must not run from a file of the host.
    own_file::reexec_sealed(cx)?;
    let prog = opts.prog.find(cx)?;
    let copy = prog.seal(cx)?;
    descriptors::refuse_ways_out(cx)?;
    // Nor may anybody in there trace us or read our memory, until PROG begins.
    sys::prctl_set_undumpable(cx)?;
    let (target, container) = match (&opts.name, opts.target) {
        (Some(name), _) => {
            let (first, container) = Container::find(cx, &state(cx, opts)?, name)?;
            (Some(first), Some(container))
        }
        (None, Some(pid)) => (Some(Target::open(cx, pid)?), None),
        (None, None) => (None, None),
    };
    let policy = container.as_ref().and_then(|container| container.policy.as_ref());
    if let Some(inside) = &container {
        session::refuse_free_terminals(cx, inside.capabilities, policy)?;
    }
    let mut entry = open(cx, opts, target, container.is_some())?;

    let forks = entry.joins(PID);
    if !forks && (entry.root.is_some() || entry.joins(USER | libc::CLONE_NEWNS as u64)) {
        descriptors::refuse_locks(cx, &[])?; // nobody stays outside who could keep one
    }
    let signal = if forks { libc::SIGKILL } else { sys::prctl_get_pdeathsig(cx)? };
    // One that waits has handed on its pidfd.
    let parent = if forks || signal == 0 || cx.parent().is_some() { 0 } else { sys::getppid(cx)? };
    // Of a parent outside of our pid namespace there is no pid.
    let parent = if parent == 0 { None } else { Some(sys::pidfd_open(cx, parent)?) };
    let line = match forks {
        true => Some(stay_outside(cx, &mut entry.cgroups)?),
        false => None,
    };
    move_in(cx, &entry.cgroups)?;
    enter(cx, opts, &entry, container.as_ref(), policy)?;
    if let Some(line) = line {
        // What is seen in the pid namespace has no right any more that the container has not.
        child::hand_over(cx, &line).map_err(why_no_child)?;
    }
    if container.is_some() {
        sys::setsid(cx)?; // a terminal of the host is not the controlling one
    }
    if signal != 0 {
        // A change of ids has cleared this, and no child has it. Is the parent dead already?
        sys::prctl_set_pdeathsig(cx, signal)?;
        let parent = parent.as_ref().map(AsFd::as_fd).or(cx.parent());
        if parent.is_some_and(|parent| sys::readable(cx, parent).unwrap_or(true)) {
            sys::exit(cx, FAILED);
        }
    }
    descriptors::close_on_exec(cx, &[], prog.is_tool())?;
    if let Some(env) = environment(cx, opts, &entry, container.as_ref()) {
        cx.set_env(env);
    }
    // The policy is loaded: what is left is whether PROG can run under it.
    if let Some(policy) = container.and_then(|container| container.policy) {
        cx.set_before_prog(Box::new(move |cx, path| policy.begin(cx, path)));
    }
    match copy {
        Some(copy) => prog.exec_sealed(cx, &copy),
        None => prog.exec(cx),
    }
}

/// PROG's environment: the container's or our own, with the working directory where that is another. `None`: our own.
fn environment(
    cx: &Cx,
    opts: &Opts,
    entry: &Entry,
    container: Option<&Container>,
) -> Option<Vec<CString>> {
    let moves = opts.wd.is_some() || entry.root.is_some() || entry.joins(libc::CLONE_NEWNS as u64);
    let old = match container {
        None if !moves => return None,
        container => container.map_or(cx.env(), |container| &container.environment),
    };
    let is_pwd = |variable: &&CString| variable.to_bytes().starts_with(b"PWD=");
    let mut env: Vec<CString> = old.iter().filter(|variable| !is_pwd(variable)).cloned().collect();
    let wd = opts.wd.as_ref().and_then(Option::as_ref).map(|directory| directory.to_bytes());
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

/// Open what is asked for: of a process, or `all` of a container.
fn open(cx: &Cx, opts: &Opts, target: Option<Target>, all: bool) -> Result<Entry, Error> {
    let mut entry = Entry::default();
    let directory = |path| sys::openat(cx, None, path, libc::O_PATH | libc::O_DIRECTORY);
    for (kind, path) in &opts.files {
        let file = match sys::openat(cx, None, path, libc::O_RDONLY) {
            Err(e) if e.is(Errno::ENOENT) && cx.dry() => fill::stand_in(cx)?, // a tool makes it
            other => other?,
        };
        entry.joins.push(Join { file, kinds: *kind, path: path.clone() });
    }
    if let Some(Some(path)) = &opts.root {
        entry.root = Some(directory(path)?);
    }
    if let Some(target) = target {
        entry.open_process(cx, opts, target, all)?;
    }
    Ok(entry)
}

impl Entry {
    fn joins(&self, kind: u64) -> bool {
        self.joins.iter().any(|join| join.kinds & kind != 0)
    }

    fn open_process(
        &mut self,
        cx: &Cx,
        opts: &Opts,
        target: Target,
        all: bool,
    ) -> Result<(), Error> {
        let by_file = opts.files.iter().fold(0, |kinds, (kind, _)| kinds | kind);
        let wanted = if all { ALL } else { opts.namespaces & !by_file };
        let kinds = target.others(cx, wanted)?;
        if all || opts.join_cgroup {
            self.cgroups =
                Record::parse(cx, &target.read(cx, c"cgroup")?, Wanted::Others)?.open(cx)?;
        }
        if all || opts.root == Some(None) {
            self.root = Some(target.directory(cx, c"root")?);
        }
        if opts.wd == Some(None) {
            self.wd = Some(target.directory(cx, c"cwd")?);
        }
        if kinds & USER != 0 {
            for (id, map) in self.ids.iter_mut().zip([c"gid_map", c"uid_map"]) {
                let ids = users::smallest_mapped(&target.read(cx, map)?);
                *id = ids.map(|[_, outside]| outside);
            }
        }
        target.lives(cx)?;
        if kinds != 0 {
            self.joins.push(Join { path: target.path(), file: target.pidfd, kinds });
        }
        Ok(())
    }
}

/// Begin a child, in the cgroups, that joins all that is to be joined and then hands over to another. The parent
/// stays outside of all that, and ends as PROG ended.
fn stay_outside(cx: &Cx, cgroups: &mut Memberships) -> Result<Line, Error> {
    let line = Line::new(cx)?;
    let Side::Parent(child, ran) = child::spawn(cx, 0, cgroups)? else {
        cgroups.v2 = None; // it was born there
        return Ok(line);
    };
    let end = |child| child::end(cx, child).unwrap_or_else(|error| cx.say(&error));
    let prog = line.successor(cx, child).inspect_err(|_| end(child))?;
    descriptors::close_all(cx, ran.fd())?;
    let child = prog.unwrap_or(child); // which has failed
    let waited = Waited::new(child, None);
    let ended = child::wait_unless_frozen(cx, &waited, &|| {}).inspect_err(|_| end(child))?;
    sys::exit(cx, ran.exit_status(cx, ended))
}

/// Go to the cgroups in which this process was not born.
fn move_in(cx: &Cx, cgroups: &Memberships) -> Result<(), Error> {
    if let Some(directory) = &cgroups.v2 {
        sys::write_file(cx, Some(directory.as_fd()), c"cgroup.procs", b"0")?;
    }
    cgroups.tasks.iter().try_for_each(|tasks| tasks.enter(cx))
}

/// Go in: namespaces, root, ids, and the limits of a container.
fn enter(
    cx: &Cx,
    opts: &Opts,
    entry: &Entry,
    container: Option<&Container>,
    policy: Option<&Confinement>,
) -> Result<(), Error> {
    // Our own directory in `/proc`, where our ids change.
    let own = match container.is_some() || entry.joins(USER) {
        true => Some(sys::openat(cx, None, c"/proc/self", libc::O_PATH | libc::O_DIRECTORY)?),
        false => None,
    };
    // Groups of the host would still open its files. Who may not leave them has brought his own.
    let has_left = own.is_some() && leave_groups(cx)?;
    let [gid, uid] = entry.ids;
    if let Some(uid) = uid.filter(|uid| *uid != cx.start.euid) {
        users::give_pipes(cx, uid, gid)?; // while who owns them has an id here
    }
    if let Some([gid, uid]) = container.and_then(|container| container.owner) {
        // From here on the kernel lets us go where that user may go, and nowhere else.
        sys::setresgid(cx, gid)?;
        sys::setresuid(cx, uid)?;
    }
    join::join(cx, &entry.joins)?;
    if own.is_some() && !has_left {
        leave_groups(cx)?;
    }
    if let Some(root) = &entry.root {
        sys::fchdir(cx, root.as_fd())?;
        sys::chroot(cx, c".").map_err(|e| caps::why(cx, CAP_SYS_CHROOT, e))?;
    }
    let outside = container.and_then(|container| container.owner);
    let outside = outside.map_or(cx.start.euid, |[_, uid]| uid);
    let there = working_directory::entered(change_directory(cx, opts, entry, outside))?;
    let mut ids = [None, None];
    for (id, map) in ids.iter_mut().zip([c"gid_map", c"uid_map"]) {
        if let Some(own) = &own {
            let map = sys::read_file(cx, Some(own.as_fd()), map)?;
            *id = users::smallest_mapped(&map).map(|[inside, _]| inside);
        }
    }
    container.map_or(Ok(()), |container| confine(cx, container, policy))?;
    be(cx, ids, container)?;
    if !there {
        change_directory(cx, opts, entry, ids[1].unwrap_or(outside))?;
    }
    sys::prctl_set_undumpable(cx)?; // a change of ids may have undone it
    policy.map_or(Ok(()), |policy| policy.load_last(cx))
}

/// Change the working directory, as `uid`.
fn change_directory(cx: &Cx, opts: &Opts, entry: &Entry, uid: u32) -> Result<(), Error> {
    match (&entry.wd, &opts.wd) {
        (Some(directory), _) => sys::fchdir(cx, directory.as_fd()),
        (None, Some(Some(path))) => working_directory::enter(cx, path, uid),
        _ => Ok(()),
    }
}

/// Give up all supplementary groups. False: we may not.
fn leave_groups(cx: &Cx) -> Result<bool, Error> {
    match sys::setgroups(cx, &[]) {
        Err(e) if e.is(Errno::EPERM) => Ok(false),
        other => other.map(|()| true),
    }
}

/// Have no more rights than the container's processes, but for what is needed until PROG begins.
fn confine(cx: &Cx, container: &Container, policy: Option<&Confinement>) -> Result<(), Error> {
    session::join_keyring(cx)?;
    caps::bound(cx, container.capabilities)?;
    if container.no_new_privs {
        sys::prctl_set_no_new_privs(cx)?;
    }
    policy.map_or(Ok(()), |policy| policy.load_first(cx))?;
    keep(cx, container.capabilities | 1 << CAP_SETGID | 1 << CAP_SETUID)
}

/// Of our capabilities keep only these.
fn keep(cx: &Cx, capabilities: u64) -> Result<(), Error> {
    // A user namespace gives all, and a dry run has joined none.
    let all = flags::CAPS.iter().fold(0, |all, (cap, _)| all | 1 << cap);
    let held = if cx.dry() { all } else { sys::capget(cx)?.permitted() };
    caps::set(cx, held & capabilities, false)
}

/// Be who one is in there, with the capabilities of the container.
fn be(cx: &Cx, [gid, uid]: [Option<u32>; 2], container: Option<&Container>) -> Result<(), Error> {
    gid.map_or(Ok(()), |gid| sys::setresgid(cx, gid))?;
    uid.map_or(Ok(()), |uid| sys::setresuid(cx, uid))?;
    container.map_or(Ok(()), |container| keep(cx, container.capabilities))
}

/// Why there is no child: fork(2) has one reason more where it goes to another pid namespace.
fn why_no_child(error: Error) -> Error {
    match error.errno() {
        Some(Errno::ENOMEM) => error.because("process 1 of the pid namespace has ended"),
        _ => error,
    }
}
