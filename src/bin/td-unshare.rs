//! td-unshare: a process in new namespaces, born in a cgroup, that becomes PROG.
#![no_main]

const HELP: &str = "\
usage: td-unshare [OPTION]... PROG [ARG]...

Become PROG in new namespaces. With --pid, --into-cgroup, --remove or --rmdir a
child becomes PROG; its parent stays outside, passes signals on, and ends as
PROG ended. If the parent is killed, the child dies.

  -m, --mount         new mount namespace
  -u, --uts           new host and domain name
  -i, --ipc           new System V IPC and POSIX message queues
  -n, --net           new network, with nothing but a loopback interface
  -p, --pid           new process ids, the child being number 1
  -C, --cgroup        the cgroup becomes the root of the visible ones
  -U, --user          new user and group ids, and every capability over the
                      other namespaces
  -T, --time          new offsets of the monotonic and the boot clock
  -r, --map-root-user     be root there (implies --user)
  -c, --map-current-user  keep one's ids there (implies --user)
      --propagation private|slave|shared|unchanged
                      of every mount in the new mount namespace (private)
      --hostname NAME set the host name (implies --uts)
      --loopback      bring the loopback interface up (implies --net)
      --monotonic SECONDS  offset of the monotonic clock (implies --time)
      --boottime SECONDS   offset of the boot clock (implies --time)
      --into-cgroup PATH   the child is born in this cgroup, which td-cgroup
                      has made, wherever a hierarchy has it
      --remove-cgroup PATH when the child has ended, remove this cgroup
      --remove DIR    when the child has ended, remove DIR with all it holds
      --rmdir DIR     when the child has ended, remove DIR if it is empty
";

use std::ffi::CString;
use std::os::fd::AsFd;

use libc::{MS_PRIVATE, MS_SHARED, MS_SLAVE, c_int, c_ulong};
use syscalls::Errno;
use td::cgroup::{self, Cradle};
use td::chain::Prog;
use td::child::{self, Side};
use td::cli::{Cli, Never};
use td::error::Error;
use td::show::plain;
use td::structs::IfReq;
use td::sys::{self, Cx};
use td::{caps, flags, namespaces, remove};

td::step!(HELP, parse, apply);

#[derive(Default)]
struct Opts {
    namespaces: u64,
    map: Option<Map>,
    /// Propagation of all mounts in the new mount namespace; 0 leaves it as it is.
    propagation: c_ulong,
    hostname: Option<CString>,
    loopback: bool,
    /// Lines of timens_offsets.
    offsets: Vec<String>,
    into_cgroup: Option<CString>,
    remove_cgroup: Option<CString>,
    remove: Vec<CString>,
    rmdir: Vec<CString>,
    prog: Prog,
}

/// The options for one namespace each, with its bit for clone(2).
const NAMESPACES: [(&str, &str, c_int); 8] = [
    ("-m", "--mount", libc::CLONE_NEWNS),
    ("-u", "--uts", libc::CLONE_NEWUTS),
    ("-i", "--ipc", libc::CLONE_NEWIPC),
    ("-n", "--net", libc::CLONE_NEWNET),
    ("-p", "--pid", libc::CLONE_NEWPID),
    ("-C", "--cgroup", libc::CLONE_NEWCGROUP),
    ("-U", "--user", libc::CLONE_NEWUSER),
    ("-T", "--time", libc::CLONE_NEWTIME),
];

/// As whom the caller is seen in the new user namespace.
#[derive(Clone, Copy, PartialEq)]
enum Map {
    Root,
    Current,
}

fn parse(cli: &mut Cli) -> Result<Opts, Error> {
    let mut opts = Opts { propagation: MS_PRIVATE, ..Opts::default() };
    while let Some(option) = cli.option()? {
        let is = |(short, long, _): &&(&str, &str, c_int)| option == *short || option == *long;
        if let Some((.., namespace)) = NAMESPACES.iter().find(is) {
            opts.add(*namespace);
            continue;
        }
        // An option never acts on the namespace of the host: it implies a new one.
        match option.as_str() {
            "-r" | "--map-root-user" => opts.map(Map::Root),
            "-c" | "--map-current-user" => opts.map(Map::Current),
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
            "--remove" => opts.remove.push(named(cli, "--remove")?),
            "--rmdir" => opts.rmdir.push(named(cli, "--rmdir")?),
            _ => return Err(cli.unknown(&option)),
        }
    }
    opts.prog = cli.prog()?;
    Ok(opts)
}

fn propagation(cli: &mut Cli) -> Result<c_ulong, Error> {
    let word = cli.word()?;
    let words =
        [("private", MS_PRIVATE), ("slave", MS_SLAVE), ("shared", MS_SHARED), ("unchanged", 0)];
    let found = words.iter().find(|(known, _)| *known == word);
    found.map(|(_, flag)| *flag).ok_or_else(|| {
        cli.usage(&["--propagation ", &word, ": private, slave, shared, unchanged"].concat())
    })
}

fn named(cli: &mut Cli, option: &str) -> Result<CString, Error> {
    let typed = cli.path()?;
    remove::named(&typed).ok_or_else(|| {
        let typed = plain(typed.to_bytes());
        cli.usage(&[option, " ", &typed, ": this is no name of a directory in another"].concat())
    })
}

/// `--monotonic SECONDS` as a line of timens_offsets: time_namespaces(7).
fn offset(cli: &mut Cli, option: String) -> Result<String, Error> {
    let seconds = cli.word()?;
    let digits = seconds.strip_prefix('-').unwrap_or(&seconds);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(cli.usage(&[&seconds, ": this is no number of seconds"].concat()));
    }
    let clock = option.strip_prefix("--").unwrap_or_default();
    Ok([clock, " ", &seconds, " 0"].concat())
}

impl Opts {
    fn map(&mut self, map: Map) {
        self.add(libc::CLONE_NEWUSER);
        self.map = Some(map);
    }

    fn add(&mut self, namespace: c_int) {
        self.namespaces |= namespace as u64;
    }

    fn has(&self, namespace: c_int) -> bool {
        self.namespaces & namespace as u64 != 0
    }
}

fn apply(cx: &Cx, opts: &Opts) -> Result<Never, Error> {
    let prog = opts.prog.find(cx)?;
    let waits = opts.has(libc::CLONE_NEWPID)
        || opts.into_cgroup.is_some()
        || opts.remove_cgroup.is_some()
        || !opts.remove.is_empty()
        || !opts.rmdir.is_empty();
    if !waits {
        if opts.namespaces != 0 {
            sys::unshare(cx, opts.namespaces).map_err(|e| why(cx, opts, e))?;
        }
        settle(cx, opts)?;
        return prog.exec(cx);
    }
    // The parent enters no namespace: what it does when the container has ended, it does outside.
    let ended = match give_birth(cx, opts) {
        Ok((Side::Child, cradle)) => {
            move_in(cx, opts, &cradle)?;
            settle(cx, opts)?;
            return prog.exec(cx);
        }
        Ok((Side::Parent(child), _)) => {
            child::wait(cx, child).inspect_err(|_| child::end(cx, child))
        }
        Err(error) => Err(error),
    };
    clean_up(cx, opts);
    sys::exit(cx, ended?.exit_status())
}

/// Clone, into the version 2 cgroup and into all namespaces but those of `later`.
fn give_birth(cx: &Cx, opts: &Opts) -> Result<(Side, Cradle), Error> {
    let cradle = match &opts.into_cgroup {
        Some(path) => cgroup::open_cradle(cx, path)?,
        None => Cradle::default(),
    };
    let at_once = opts.namespaces & !later(opts, &cradle);
    let side = child::spawn(cx, at_once, cradle.v2.as_ref().map(AsFd::as_fd))
        .map_err(|e| why(cx, opts, e))?;
    Ok((side, cradle))
}

/// The namespaces that the child makes itself. *time*: its offsets are written while it has no process,
/// and it is entered by execve(2). *cgroup*, on version 1: its root is where the child is then, and
/// there it moves itself.
fn later(opts: &Opts, cradle: &Cradle) -> u64 {
    let cgroup = if cradle.tasks.is_empty() { 0 } else { libc::CLONE_NEWCGROUP };
    opts.namespaces & (libc::CLONE_NEWTIME | cgroup) as u64
}

/// The child's way into its version 1 cgroups, before its ids are mapped: afterwards it is refused.
fn move_in(cx: &Cx, opts: &Opts, cradle: &Cradle) -> Result<(), Error> {
    for tasks in &cradle.tasks {
        let cgroup = opts.into_cgroup.as_deref().unwrap_or_default();
        sys::write(cx, tasks.as_fd(), b"0").map_err(|e| namespaces::why_not_born(cgroup, e))?;
    }
    match later(opts, cradle) {
        0 => Ok(()),
        namespaces => sys::unshare(cx, namespaces).map_err(|e| why(cx, opts, e)),
    }
}

/// What is to be done inside the new namespaces, in this order: the user namespace gives the right to
/// do the rest.
fn settle(cx: &Cx, opts: &Opts) -> Result<(), Error> {
    if let Some(map) = opts.map {
        map_ids(cx, map)?;
    }
    if opts.has(libc::CLONE_NEWUSER) && opts.map != Some(Map::Root) {
        keep_capabilities(cx)?;
    }
    for line in &opts.offsets {
        sys::write_file(cx, None, c"/proc/self/timens_offsets", line.as_bytes())
            .map_err(|e| namespaces::why_no_offset(cx, line.contains('-'), e))?;
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

/// Map one id, the caller's own, which needs no privilege once setgroups(2) is given up:
/// user_namespaces(7).
fn map_ids(cx: &Cx, map: Map) -> Result<(), Error> {
    let outside = (cx.start.euid, cx.start.egid);
    let inside = if map == Map::Root { (0, 0) } else { outside };
    let line = |inside, outside| format!("{inside} {outside} 1");
    for (file, text) in [
        (c"/proc/self/setgroups", String::from("deny")),
        (c"/proc/self/uid_map", line(inside.0, outside.0)),
        (c"/proc/self/gid_map", line(inside.1, outside.1)),
    ] {
        sys::write_file(cx, None, file, text.as_bytes())
            .map_err(|e| namespaces::why_not_mapped(cx, outside.0, e))?;
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

/// When the container has ended: what is not removed is said, and changes nothing else.
fn clean_up(cx: &Cx, opts: &Opts) {
    let say = |result: Result<(), Error>| result.unwrap_or_else(|error| cx.say(&error));
    opts.remove_cgroup.iter().for_each(|path| say(cgroup::remove(cx, path).map(drop)));
    opts.remove.iter().for_each(|path| say(remove::remove_tree(cx, path)));
    opts.rmdir.iter().for_each(|path| say(remove_empty(cx, path)));
}

fn remove_empty(cx: &Cx, path: &CString) -> Result<(), Error> {
    match sys::unlinkat(cx, None, path, libc::AT_REMOVEDIR) {
        Err(e) if e.is(Errno::ENOTEMPTY) || e.is(Errno::ENOENT) => Ok(()), // as --rmdir says
        other => other,
    }
}

/// Why there are no new namespaces, or no child.
fn why(cx: &Cx, opts: &Opts, error: Error) -> Error {
    namespaces::why(cx, opts.namespaces, opts.into_cgroup.as_deref(), error)
}
