//! td-unshare: a process in new namespaces, created in a cgroup, that becomes PROG.

const HELP: &str = "\
usage: td-unshare [OPTION]... PROG [ARG]...

Become PROG in new namespaces. If something must be done outside them, a child
becomes PROG and its parent waits; if the parent is killed, the child dies.
The first eight options take =FILE, which keeps the namespace.

  -m, --mount         new mount namespace
  -u, --uts           new UTS namespace: host and domain name
  -i, --ipc           new IPC namespace: System V IPC, POSIX message queues
  -n, --net           new network namespace, with a loopback interface
  -p, --pid           new pid namespace
  -C, --cgroup        new cgroup namespace, rooted at the current cgroup
  -U, --user          new user namespace, with every capability in it
  -T, --time          new time namespace: offsets of clocks
  -r, --map-root-user     map the caller to root (implies --user)
  -c, --map-current-user  map the caller to the same ids (implies --user)
      --map-user UID      map the caller's user to UID (implies --user)
      --map-group GID     map the caller's group to GID (implies --user)
      --map-users IN:OUT:COUNT|auto  map users OUT... to IN...; or all of
                      /etc/subuid
      --map-groups IN:OUT:COUNT|auto  map groups; or all of /etc/subgid
      --setgroups allow|deny  allow or deny setgroups(2) there
      --propagation private|slave|shared|unchanged
                      set the propagation of every mount (private)
      --hostname NAME set the host name (implies --uts)
      --loopback      bring the loopback interface up (implies --net)
      --monotonic SECONDS  offset the monotonic clock (implies --time)
      --boottime SECONDS   offset the boot clock (implies --time)
      --into-cgroup PATH   create the child in this cgroup
      --remove-cgroup PATH remove this cgroup at the end
      --cgroup-record FILE do both for the cgroups in FILE, and remove FILE
      --pid-file FILE write the pid of the child to FILE while it lives
                      (repeatable)
      --record N:FILE create FILE and open it as descriptor N of PROG
      --remove DIR    remove DIR and its content at the end
      --rmdir DIR     remove DIR at the end if it is empty
      --fresh         remove each DIR of --remove at the start, too
      --state DIR     follow no symbolic link below DIR on the way to a FILE or
                      DIR above
";

use std::ffi::CString;
use std::os::fd::AsFd;

use libc::{MS_PRIVATE, MS_SHARED, MS_SLAVE, c_int, c_ulong};

use crate::cgroup::memberships::Memberships;
use crate::cli::{Cli, Prog, others};
use crate::ids::caps;
use crate::ids::id_maps::{self, IdMaps};
use crate::process::chain::{self, Tool};
use crate::process::child::{self, Side};
use crate::process::namespaces;
use crate::process::prog::{Found, Next};
use crate::process::waiting_parent::{self, WaitingParent};
use crate::say::error::Error;
use crate::say::flags;
use crate::say::number::decimal;
use crate::sys::structs::IfReq;
use crate::sys::{self, Cx};

/// The tool.
pub const TOOL: Tool = Tool {
    name: "td-unshare",
    step: |cx, args| chain::step(cx, (TOOL.name, HELP), args, parse, apply),
};

#[derive(Default)]
struct Opts {
    namespaces: u64,
    ids: id_maps::Asked,
    /// Propagation of all mounts in the new mount namespace; 0 leaves it as it is.
    propagation: c_ulong,
    hostname: Option<CString>,
    loopback: bool,
    /// Lines of timens_offsets.
    offsets: Vec<String>,
    /// What the parent does.
    outside: waiting_parent::ParentOptions,
    prog: Prog,
}

fn parse(cli: &mut Cli) -> Result<Opts, Error> {
    let mut opts = Opts { propagation: MS_PRIVATE, ..Opts::default() };
    while let Some(option) = cli.option()? {
        if let Some(kind) = namespaces::of_option(&option) {
            opts.namespaces |= kind;
            opts.outside.pins.extend(cli.optional_path().map(|file| (kind, file)));
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
            _ if opts.outside.option(cli, &option)? => {}
            _ => return Err(cli.unknown(&option, others::UNSHARE)),
        }
    }
    opts.outside.check(cli)?;
    opts.prog = cli.prog()?;
    Ok(opts)
}

fn propagation(cli: &mut Cli) -> Result<c_ulong, Error> {
    const WORDS: [(&str, c_ulong); 4] =
        [("private", MS_PRIVATE), ("slave", MS_SLAVE), ("shared", MS_SHARED), ("unchanged", 0)];
    let word = cli.word()?;
    let found = WORDS.iter().find(|(known, _)| *known == &*word);
    found.map(|(_, flag)| *flag).ok_or_else(|| {
        cli.usage(format_args!("--propagation {word}: must be private, slave, shared or unchanged"))
    })
}

/// `--monotonic SECONDS` as a line of timens_offsets: time_namespaces(7).
fn offset(cli: &mut Cli, option: String) -> Result<String, Error> {
    let seconds = cli.word()?;
    // The kernel would truncate a larger number to 64 bits.
    let digits = seconds.strip_prefix('-').unwrap_or(&seconds);
    if decimal(digits.as_bytes()).is_none_or(|n| n > i64::MAX as u64) {
        return Err(cli.usage(format_args!("{seconds}: not a number of seconds")));
    }
    let clock = option.strip_prefix("--").unwrap_or_default();
    Ok([clock, " ", &seconds, " 0"].concat())
}

impl Opts {
    fn add(&mut self, namespace: c_int) {
        self.namespaces |= namespace as u64;
    }

    fn has(&self, namespace: c_int) -> bool {
        self.namespaces & namespace as u64 != 0
    }
}

fn apply(cx: &Cx, opts: &Opts) -> Result<Next, Error> {
    let prog = opts.prog.find_tool(cx)?;
    let mut parent = WaitingParent::new(cx, &opts.outside, opts.prog)?;
    let maps = IdMaps::new(cx, &opts.ids).inspect_err(|_| parent.clean_up(cx))?;
    if !opts.has(libc::CLONE_NEWPID) && !opts.outside.needs_parent(&maps) {
        unshare(cx, opts, opts.namespaces)?;
        set_up(cx, opts, &maps)?;
        return become_prog(cx, opts, &prog);
    }
    // The parent enters no namespace: what it does when the container has ended, it does outside.
    let of_user = opts.has(libc::CLONE_NEWUSER).then_some(&maps);
    let cloned = parent.prepare(cx, of_user).and_then(|(mut cgroups, sockets)| {
        let at_once = opts.namespaces & !made_by_child(opts, &cgroups);
        let side = child::spawn(cx, at_once, &mut cgroups)
            .map_err(|e| parent.why_no_child(cx, opts.namespaces, e))?;
        Ok((side, cgroups, sockets))
    });
    let ended = match cloned {
        Ok((Side::Parent(child, ran), _cgroups, sockets)) => parent.wait(cx, child, &ran, sockets),
        Ok((Side::Child, cgroups, sockets)) => {
            cgroups.enter_v1(cx)?; // before our ids are mapped: afterwards it is refused
            unshare(cx, opts, made_by_child(opts, &cgroups))?;
            set_up(cx, opts, &maps)?;
            let Some(sockets) = sockets else { return become_prog(cx, opts, &prog) };
            let socket = sockets.wait_for_parent(cx)?;
            let changed = maps.take(cx).and_then(|changed| match changed {
                true => socket.die_with_parent(cx),
                false => Ok(()),
            });
            return changed
                .and_then(|()| become_prog(cx, opts, &prog))
                .inspect_err(|_| socket.send_failure(cx));
        }
        Err(error) => Err(error),
    };
    parent.end(cx, ended)
}

/// The namespaces that the child makes itself. *time*: its offsets are written while it has no process.
/// *cgroup*, where the child moves itself (on version 1): its root is where the child is then.
fn made_by_child(opts: &Opts, cgroups: &Memberships) -> u64 {
    let cgroup = if cgroups.tasks.is_empty() { 0 } else { libc::CLONE_NEWCGROUP };
    opts.namespaces & (libc::CLONE_NEWTIME | cgroup) as u64
}

fn unshare(cx: &Cx, opts: &Opts, namespaces: u64) -> Result<(), Error> {
    if namespaces == 0 {
        return Ok(());
    }
    sys::unshare(cx, namespaces).map_err(|e| namespaces::why(cx, opts.namespaces, None, e))
}

/// Set up what is in the new namespaces. The right to it comes with the user namespace, whether ids
/// are mapped or not.
fn set_up(cx: &Cx, opts: &Opts, maps: &IdMaps) -> Result<(), Error> {
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

/// In a new user namespace PROG is executed, also where it is a tool of this program: the ids that we have there are
/// not those that we were started with, and a process that was not executed there cannot be entered by its owner.
fn become_prog(cx: &Cx, opts: &Opts, prog: &Found) -> Result<Next, Error> {
    if opts.has(libc::CLONE_NEWUSER) { prog.exec(cx) } else { prog.next(cx) }
}
