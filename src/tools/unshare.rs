//! td-unshare: a process in new namespaces, born in a cgroup, that becomes PROG.

const HELP: &str = "\
usage: td-unshare [OPTION]... PROG [ARG]...

Become PROG in new namespaces. Where something is to be done outside a child
becomes PROG, and its parent waits; if the parent is killed, the child dies.
The first eight take =FILE, which keeps the namespace.

  -m, --mount         new mount namespace
  -u, --uts           new host and domain name
  -i, --ipc           new System V IPC and POSIX message queues
  -n, --net           new network, with a loopback interface
  -p, --pid           new process ids
  -C, --cgroup        new cgroup namespace, rooted at the current cgroup
  -U, --user          new user and group ids, and every capability there
  -T, --time          new offsets of clocks
  -r, --map-root-user     be root there (implies --user)
  -c, --map-current-user  keep one's ids there (implies --user)
      --map-user UID      be the user UID there (implies --user)
      --map-group GID     be in the group GID there (implies --user)
      --map-users IN:OUT:COUNT|auto  users OUT... as IN...; all of /etc/subuid
      --map-groups IN:OUT:COUNT|auto  the same of groups and /etc/subgid
      --setgroups allow|deny  let processes there change their groups, or not
      --propagation private|slave|shared|unchanged
                      of every mount (private)
      --hostname NAME set the host name (implies --uts)
      --loopback      bring the loopback interface up (implies --net)
      --monotonic SECONDS  offset of the monotonic clock (implies --time)
      --boottime SECONDS   offset of the boot clock (implies --time)
      --into-cgroup PATH   the child is born in this cgroup
      --remove-cgroup PATH at the end, remove this cgroup
      --cgroup-record FILE both, for the cgroups that FILE lists; remove FILE
      --pid-file FILE write the pid of the child to FILE while it lives
                      (repeatable)
      --record N:FILE create FILE and open it as descriptor N of PROG
      --remove DIR    at the end, remove DIR with all it holds
      --rmdir DIR     at the end, remove DIR if it is empty
      --fresh         remove each DIR of --remove at the beginning, too
      --state DIR     follow no symbolic link below DIR on the way to a FILE or
                      DIR above
";

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, RawFd};

use libc::{MS_PRIVATE, MS_SHARED, MS_SLAVE, c_int, c_ulong};

use crate::cgroup::memberships::{self, Memberships};
use crate::cgroup::record::{self, Record};
use crate::cgroup::{hierarchies, oom, places, tree};
use crate::cli::{Cli, Prog};
use crate::ids::caps;
use crate::ids::id_maps::{Asked, IdMaps};
use crate::process::chain::{self, Tool};
use crate::process::child::{self, Line, Side, Waited};
use crate::process::descriptors::Ran;
use crate::process::id_mapping::{self, Remove};
use crate::process::namespaces;
use crate::process::pid_file;
use crate::process::prog::{Found, Next};
use crate::root::directories::Place;
use crate::root::remove;
use crate::root::temporary_file::TemporaryFile;
use crate::say::error::{Error, FAILED};
use crate::say::flags;
use crate::say::number::{decimal, int};
use crate::say::show::plain;
use crate::say::text;
use crate::sys::structs::{IfReq, WaitStatus};
use crate::sys::{self, Cx, cstring};

/// The tool.
pub const TOOL: Tool = Tool {
    name: "td-unshare",
    step: |cx, args| chain::step(cx, (TOOL.name, HELP), args, parse, apply),
};

#[derive(Default)]
struct Opts {
    namespaces: u64,
    /// Namespaces that are kept in a file.
    pins: Vec<(u64, CString)>,
    ids: Asked,
    /// Propagation of all mounts in the new mount namespace; 0 leaves it as it is.
    propagation: c_ulong,
    hostname: Option<CString>,
    loopback: bool,
    /// Lines of timens_offsets.
    offsets: Vec<String>,
    into_cgroup: Option<CString>,
    remove_cgroup: Option<CString>,
    /// A file that lists the cgroups of the child.
    cgroup_record: Option<CString>,
    pid_files: Vec<CString>,
    /// A descriptor of PROG, and the file that it is.
    record: Option<(RawFd, CString)>,
    remove: Vec<CString>,
    rmdir: Vec<CString>,
    fresh: bool,
    /// No link is followed below it.
    state: Option<CString>,
    prog: Prog,
}

fn parse(cli: &mut Cli) -> Result<Opts, Error> {
    let mut opts = Opts { propagation: MS_PRIVATE, ..Opts::default() };
    while let Some(option) = cli.option()? {
        if let Some(kind) = namespaces::of_option(&option) {
            opts.namespaces |= kind;
            opts.pins.extend(cli.optional_path().map(|file| (kind, file)));
            continue;
        }
        // An option never acts on the namespace of the host: it implies a new one.
        match option.as_str() {
            "-r" | "--map-root-user" | "-c" | "--map-current-user" | "--map-user"
            | "--map-group" | "--map-users" | "--map-groups" | "--setgroups" => {
                opts.add(libc::CLONE_NEWUSER);
                opts.ids.option(cli, &option)?;
            }
            "--propagation" => opts.propagation = propagation(cli)?,
            "--hostname" => {
                opts.add(libc::CLONE_NEWUTS);
                opts.hostname = Some(cli.path()?);
            }
            "--loopback" => {
                opts.add(libc::CLONE_NEWNET);
                opts.loopback = true;
            }
            "--monotonic" | "--boottime" => {
                opts.add(libc::CLONE_NEWTIME);
                opts.offsets.push(offset(cli, option)?);
            }
            "--into-cgroup" => opts.into_cgroup = Some(cli.path()?),
            "--remove-cgroup" => opts.remove_cgroup = Some(cli.path()?),
            "--cgroup-record" => opts.cgroup_record = Some(named(cli, "--cgroup-record")?),
            "--pid-file" => opts.pid_files.push(named(cli, "--pid-file")?),
            "--record" => opts.record = Some(record(cli)?),
            "--remove" => opts.remove.push(named(cli, "--remove")?),
            "--rmdir" => opts.rmdir.push(named(cli, "--rmdir")?),
            "--fresh" => opts.fresh = true,
            "--state" => opts.state = Some(cli.path()?),
            _ => return Err(cli.unknown(&option)),
        }
    }
    if opts.cgroup_record.is_some() && (opts.into_cgroup.is_some() || opts.remove_cgroup.is_some())
    {
        return Err(cli.usage("--cgroup-record excludes --into-cgroup and --remove-cgroup"));
    }
    opts.prog = cli.prog()?;
    Ok(opts)
}

fn propagation(cli: &mut Cli) -> Result<c_ulong, Error> {
    const WORDS: [(&str, c_ulong); 4] =
        [("private", MS_PRIVATE), ("slave", MS_SLAVE), ("shared", MS_SHARED), ("unchanged", 0)];
    let word = cli.word()?;
    let found = WORDS.iter().find(|(known, _)| *known == &*word);
    found.map(|(_, flag)| *flag).ok_or_else(|| {
        cli.usage(format_args!("--propagation {word}: private, slave, shared, unchanged"))
    })
}

/// `N:FILE`.
fn record(cli: &mut Cli) -> Result<(RawFd, CString), Error> {
    let typed = cli.path()?;
    let parts = text::pair(typed.to_bytes(), b':');
    let parts = parts.and_then(|(n, file)| Some((int(n)?, remove::named(&cstring(file))?)));
    parts.filter(|(fd, _)| *fd > 2).ok_or_else(|| {
        let typed = plain(typed.to_bytes());
        cli.usage(format_args!("--record {typed}: it is N:FILE, N a descriptor above 2"))
    })
}

fn named(cli: &mut Cli, option: &str) -> Result<CString, Error> {
    let typed = cli.path()?;
    remove::named(&typed).ok_or_else(|| {
        let typed = plain(typed.to_bytes());
        cli.usage(format_args!("{option} {typed}: this is no name in a directory"))
    })
}

/// `--monotonic SECONDS` as a line of timens_offsets: time_namespaces(7).
fn offset(cli: &mut Cli, option: String) -> Result<String, Error> {
    let seconds = cli.word()?;
    // The kernel takes what 64 bits hold of a larger number.
    let digits = seconds.strip_prefix('-').unwrap_or(&seconds);
    if decimal(digits.as_bytes()).is_none_or(|n| n > i64::MAX as u64) {
        return Err(cli.usage(format_args!("{seconds}: this is no number of seconds")));
    }
    let clock = option.strip_prefix("--").unwrap_or_default();
    Ok([clock, " ", &seconds, " 0"].concat())
}

impl Opts {
    /// Is there something to do outside of the new namespaces, so that a child becomes PROG?
    fn waits(&self, maps: &IdMaps) -> bool {
        self.has(libc::CLONE_NEWPID)
            || self.into_cgroup.is_some()
            || self.remove_cgroup.is_some()
            || self.cgroup_record.is_some()
            || !self.remove.is_empty()
            || !self.rmdir.is_empty()
            || self.meets(maps)
    }

    /// Is some of that done when the child is there, and has not become PROG yet?
    fn meets(&self, maps: &IdMaps) -> bool {
        maps.need_parent() || !self.pins.is_empty() || !self.pid_files.is_empty()
    }

    fn add(&mut self, namespace: c_int) {
        self.namespaces |= namespace as u64;
    }

    fn has(&self, namespace: c_int) -> bool {
        self.namespaces & namespace as u64 != 0
    }
}

fn apply(cx: &Cx, opts: &Opts) -> Result<Next, Error> {
    let prog = opts.prog.find(cx)?;
    let cgroups = match &opts.cgroup_record {
        Some(file) => match Record::read(cx, opts.state.as_deref(), file)? {
            // A dry run has not written it.
            None if !cx.dry() => return Err(record::missing(file)),
            read => read,
        },
        None => None,
    };
    let mut outside = Outside { cgroups, ..Outside::default() };
    for path in &opts.pid_files {
        // Until that process has ended, the directories are still in use.
        pid_file::await_end(cx, opts.state.as_deref(), path)
            .inspect_err(|_| remove_cgroups(cx, opts, &outside))?;
    }
    // Where others can change the way to what is removed at the end, nothing is begun.
    let mut removed = opts.remove.iter().chain(&opts.rmdir);
    removed
        .try_for_each(|path| Place::find(cx, opts.state.as_deref(), path).map(drop))
        .inspect_err(|_| remove_cgroups(cx, opts, &outside))?;
    let maps = IdMaps::new(cx, &opts.ids).inspect_err(|_| clean_up(cx, opts, None, &outside))?;
    if !opts.waits(&maps) {
        if opts.namespaces != 0 {
            sys::unshare(cx, opts.namespaces).map_err(|e| why(cx, opts, e))?;
        }
        settle(cx, opts, &maps)?;
        return go_on(cx, opts, &prog);
    }
    // The parent enters no namespace: what it does when the container has ended, it does outside.
    let ended = match give_birth(cx, opts, &maps, &mut outside) {
        Ok((Side::Child, memberships, line)) => {
            move_in(cx, opts, &memberships)?;
            settle(cx, opts, &maps)?;
            return finish(cx, opts, &maps, line, &prog);
        }
        Ok((Side::Parent(child, ran), _, line)) => {
            let ended = attend(cx, opts, &maps, child, line, &mut outside);
            ended.map(|ended| outside.learn(cx, &ran, ended))
        }
        Err(error) => Err(error),
    };
    outside.failed |= ended.is_err();
    clean_up(cx, opts, Some(&maps), &outside);
    ended.map(Next::End)
}

/// What the parent has made outside of the new namespaces, and how that ended.
#[derive(Default)]
struct Outside<'a> {
    /// The cgroups of the child.
    cgroups: Option<Record>,
    pid_files: Vec<TemporaryFile>,
    /// Files with a namespace each, and whether they were made.
    pins: Vec<(&'a CStr, bool)>,
    /// The next program was never there.
    failed: bool,
    /// PROG has run.
    ran: bool,
    /// The exit status of PROG.
    status: u8,
}

impl Outside<'_> {
    /// The child has ended: did PROG run, and with which status do we end?
    fn learn(&mut self, cx: &Cx, ran: &Ran, ended: WaitStatus) -> u8 {
        self.ran = ran.prog(cx);
        self.status = ran.exit_status(cx, ended);
        self.status
    }
}

/// See to what a killed run has left, then clone, into the version 2 cgroup and into all namespaces but
/// those of `later`.
fn give_birth(
    cx: &Cx,
    opts: &Opts,
    maps: &IdMaps,
    outside: &mut Outside,
) -> Result<(Side, Memberships, Option<Line>), Error> {
    for path in opts.remove.iter().filter(|_| opts.fresh) {
        remove_as(cx, opts, Some(maps), path, remove::remove_tree)?;
    }
    // First, as long as nothing of ours can have its number.
    if let Some((fd, file)) = &opts.record {
        pid_file::record(cx, opts.state.as_deref(), *fd, file)?;
    }
    for path in &opts.pid_files {
        outside.pid_files.push(TemporaryFile::new(cx, opts.state.as_deref(), path)?);
    }
    let mut memberships = match (&opts.into_cgroup, &outside.cgroups) {
        (Some(path), _) => memberships::open(cx, path)?,
        (None, Some(record)) => record.open(cx)?,
        (None, None) => Memberships::default(),
    };
    let line = opts.meets(maps).then(|| Line::new(cx)).transpose()?;
    let at_once = opts.namespaces & !later(opts, &memberships);
    let side = child::spawn(cx, at_once, &mut memberships)
        .map_err(|e| why_no_child(cx, opts, outside, e))?;
    Ok((side, memberships, line))
}

/// The namespaces that the child makes itself. *time*: its offsets are written while it has no process.
/// *cgroup*, where the child moves itself (on version 1): its root is where the child is then.
fn later(opts: &Opts, memberships: &Memberships) -> u64 {
    let cgroup = if memberships.tasks.is_empty() { 0 } else { libc::CLONE_NEWCGROUP };
    opts.namespaces & (libc::CLONE_NEWTIME | cgroup) as u64
}

/// The child's way into the cgroups in which it was not born, before its ids are mapped: afterwards it is refused.
fn move_in(cx: &Cx, opts: &Opts, memberships: &Memberships) -> Result<(), Error> {
    memberships.tasks.iter().try_for_each(|tasks| tasks.enter(cx))?;
    match later(opts, memberships) {
        0 => Ok(()),
        namespaces => sys::unshare(cx, namespaces).map_err(|e| why(cx, opts, e)),
    }
}

/// What is to be done inside the new namespaces. The right to it comes with the user namespace, whether ids
/// are mapped or not.
fn settle(cx: &Cx, opts: &Opts, maps: &IdMaps) -> Result<(), Error> {
    maps.write_own(cx)?;
    if opts.has(libc::CLONE_NEWUSER) && !maps.is_root() {
        keep_capabilities(cx)?;
    }
    if opts.has(libc::CLONE_NEWTIME) {
        namespaces::enter_time(cx, &opts.offsets)?;
    }
    if opts.has(libc::CLONE_NEWNS) && opts.propagation != 0 {
        sys::mount(cx, None, c"/", None, libc::MS_REC | opts.propagation, None)
            .map_err(|e| namespaces::why_not_propagated(cx, e))?;
    }
    if let Some(name) = &opts.hostname {
        sys::sethostname(cx, name.to_bytes())
            .map_err(|e| namespaces::why_not_named(cx, name.to_bytes(), e))?;
    }
    if opts.loopback {
        let socket = sys::socket_inet(cx)?;
        sys::set_interface_flags(cx, socket.as_fd(), &IfReq::LOOPBACK_UP)
            .map_err(|e| namespaces::why_not_up(cx, e))?;
    }
    Ok(())
}

/// An id that is not 0 loses its capabilities at the next execve(2), unless they are ambient:
/// capabilities(7). td-exec takes them away again.
fn keep_capabilities(cx: &Cx) -> Result<(), Error> {
    // All of them in a new user namespace, which a dry run has not made.
    let all = flags::CAPS.iter().fold(0, |all, (cap, _)| all | 1 << cap);
    let held = if cx.dry() { all } else { sys::capget(cx)?.permitted() };
    caps::set(cx, held, true)
}

/// The child's last part: have the parent do what it has to do outside, take one's ids, become PROG.
fn finish(
    cx: &Cx,
    opts: &Opts,
    maps: &IdMaps,
    line: Option<Line>,
    prog: &Found,
) -> Result<Next, Error> {
    let Some(line) = line else { return go_on(cx, opts, prog) };
    let end = line.call(cx)?;
    let taken = match maps.take(cx) {
        Ok(true) => end.die_with_parent(cx),
        other => other.map(drop),
    };
    taken.and_then(|()| go_on(cx, opts, prog)).inspect_err(|_| end.give_up(cx))
}

/// In a new user namespace PROG is executed, also where it is a tool of this program: the ids that we have there are not
/// those that we were started with, and a process that was not executed there cannot be entered by its owner.
fn go_on(cx: &Cx, opts: &Opts, prog: &Found) -> Result<Next, Error> {
    if opts.has(libc::CLONE_NEWUSER) { prog.exec(cx) } else { prog.go_on(cx) }
}

/// The parent's part: what is to be done outside, then to wait.
fn attend<'a>(
    cx: &Cx,
    opts: &'a Opts,
    maps: &IdMaps,
    child: i32,
    line: Option<Line>,
    outside: &mut Outside<'a>,
) -> Result<WaitStatus, Error> {
    let publish = || {
        id_mapping::write_for(cx, maps, child)?;
        for (namespace, file) in &opts.pins {
            outside.pins.push((file, namespaces::pin(cx, child, *namespace, file)?));
        }
        outside.pid_files.iter_mut().try_for_each(|file| pid_file::write(cx, file, child))
    };
    let met = line.map_or(Ok(None), |line| line.answer(cx, child, publish));
    let release = || {
        let released = outside.cgroups.as_ref().map_or(Ok(()), |record| record.release(cx));
        released.unwrap_or_else(|error| cx.say(&error));
    };
    let waited = Waited::new(child, None);
    let ended = met.and_then(|end| Ok((child::wait_unless_frozen(cx, &waited, &release)?, end)));
    let (ended, end) = match ended {
        Ok(ended) => ended,
        Err(error) => {
            release();
            let Err(lives) = child::end(cx, child) else { return Err(error) };
            // What would be cleaned up is in use: the next run does it.
            cx.say(&error);
            cx.say(&lives);
            sys::exit(cx, FAILED);
        }
    };
    outside.failed = end.is_none_or(|end| end.gave_up(cx));
    Ok(ended)
}

/// PROG has failed: was it killed because memory ran out, or a process of it? Looked for while there is a cgroup
/// that has counted it. Who ends with 0 has coped with it.
fn say_how_killed(cx: &Cx, opts: &Opts, outside: &Outside) {
    const KILLED: u8 = 128 + libc::SIGKILL as u8; // so a shell and td-init end, too
    if outside.status == 0 {
        return;
    }
    let how = match (&outside.cgroups, &opts.remove_cgroup) {
        (Some(record), _) => record
            .memory()
            .and_then(|(memory, limited, home)| oom::how_killed_in(cx, memory, &limited, &home)),
        (None, Some(limited)) => {
            oom::how_killed(cx, limited, opts.into_cgroup.as_ref().unwrap_or(limited))
        }
        (None, None) => None,
    };
    if let Some(how) = how {
        let who = match outside.status {
            _ if !outside.ran => "the process that was to become ",
            KILLED => "",
            _ => "a process of ",
        };
        cx.say(&Error::refusal(format_args!("{who}{} {how}", opts.prog.shown())));
    }
}

/// When the container has ended: what is not removed is said, and changes nothing else. What would outlive
/// it goes too where PROG was never there.
fn clean_up(cx: &Cx, opts: &Opts, maps: Option<&IdMaps>, outside: &Outside) {
    let say = |result: Result<(), Error>| result.unwrap_or_else(|error| cx.say(&error));
    outside.pid_files.iter().for_each(|file| say(file.remove(cx)));
    for &(file, made) in outside.pins.iter().filter(|_| outside.failed) {
        say(namespaces::unpin(cx, file, made));
    }
    say_how_killed(cx, opts, outside);
    remove_cgroups(cx, opts, outside);
    opts.remove.iter().for_each(|path| say(remove_as(cx, opts, maps, path, remove::remove_tree)));
    opts.rmdir.iter().for_each(|path| say(remove_as(cx, opts, maps, path, remove::remove_empty)));
    outside.pid_files.iter().rev().filter(|_| outside.failed).for_each(|file| file.undo(cx));
}

fn remove_cgroups(cx: &Cx, opts: &Opts, outside: &Outside) {
    let removed = match (&outside.cgroups, &opts.cgroup_record, &opts.remove_cgroup) {
        // The file last: what is left is found by it.
        (Some(record), Some(file), _) => {
            record.remove(cx).and_then(|()| record::unlink(cx, opts.state.as_deref(), file))
        }
        (_, _, Some(path)) => remove_cgroup(cx, path),
        _ => Ok(()),
    };
    removed.unwrap_or_else(|error| cx.say(&error));
}

fn remove_cgroup(cx: &Cx, path: &CStr) -> Result<(), Error> {
    let hierarchies = hierarchies::list(cx)?;
    let places = places::find(cx, &hierarchies, &places::name(&hierarchies, path)?)?;
    tree::remove(cx, &places::directories(&places))
}

/// Remove as the caller, or as root of the new user namespace.
fn remove_as(
    cx: &Cx,
    opts: &Opts,
    maps: Option<&IdMaps>,
    path: &CStr,
    how: Remove,
) -> Result<(), Error> {
    let Some(place) = Place::find(cx, opts.state.as_deref(), path)? else { return Ok(()) };
    match maps {
        Some(maps) if opts.has(libc::CLONE_NEWUSER) => id_mapping::remove(cx, maps, &place, how),
        _ => how(cx, &place),
    }
}

/// Why there are no new namespaces.
fn why(cx: &Cx, opts: &Opts, error: Error) -> Error {
    namespaces::why(cx, opts.namespaces, None, error)
}

/// Why there is no child.
fn why_no_child(cx: &Cx, opts: &Opts, outside: &Outside, error: Error) -> Error {
    let leaf = outside.cgroups.as_ref().and_then(Record::leaf_in_v2);
    let into = leaf.as_deref().or(opts.into_cgroup.as_deref());
    namespaces::why(cx, opts.namespaces, into, error)
}
