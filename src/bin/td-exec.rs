//! td-exec: give a process its last state, and become PROG; with --init, be its PID 1.
#![no_main]

const HELP: &str = "\
usage: td-exec [OPTION]... PROG [ARG]...

Set the last state of this process, in the root where it runs, and become PROG.
Descriptors above 2 are closed.

      --init           stay: PROG runs in a child; pass signals on to it, reap
                       every orphan, and end as PROG ended
  -C, --chdir DIR      change the working directory
  -i, --clear-env      start with no environment
      --env NAME[=VALUE]  set a variable; without a value, take ours over
      --unset NAME     remove a variable
      --home           set HOME as /etc/passwd has it, unless --env does
      --user USER[:GROUP]  by name from /etc/passwd and /etc/group, or number
      --groups LIST    supplementary groups; '' is none; with --user and without
                       this they are that user's from /etc/group
      --cap-keep LIST|none|all  keep these capabilities, for good: in the
                       bounding, the permitted and the effective set
      --ambient        PROG's user, who is not root, has the kept ones as well
      --no-new-privs   nothing executed gains privileges, as by set-user-id
      --rlimit NAME=SOFT[:HARD]  a resource limit: nofile=1024, core=0:unlimited
      --setsid         a new session, without a controlling terminal
      --session-keyring  a new, empty session keyring
      --argv0 NAME     the name that PROG sees as its own
      --keep-fd N      do not close descriptor N
";

use std::ffi::{CStr, CString, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStringExt;

use syscalls::Errno;
use td::chain::{self, Prog};
use td::child::{self, Side};
use td::cli::{self, Cli, Never};
use td::error::Error;
use td::flags;
use td::structs::{CapData, RLimit};
use td::sys::{self, Cx};
use td::users::{Databases, User};

td::step!(HELP, parse, apply);

#[derive(Default)]
struct Opts {
    init: bool,
    chdir: Option<CString>,
    clear_env: bool,
    /// Changes of the environment, in their order.
    env: Vec<(Vec<u8>, Variable)>,
    home: bool,
    user: Option<Vec<u8>>,
    groups: Option<Vec<u8>>,
    /// Bit n for capability n.
    cap_keep: Option<u64>,
    ambient: bool,
    no_new_privs: bool,
    rlimits: Vec<(u64, RLimit)>,
    setsid: bool,
    session_keyring: bool,
    argv0: Option<CString>,
    keep_fds: Vec<RawFd>,
    prog: Prog,
}

/// What becomes of a variable.
enum Variable {
    Set(Vec<u8>),
    Unset,
    /// It is as it was before --clear-env.
    Keep,
}

fn parse(cli: &mut Cli) -> Result<Opts, Error> {
    let mut opts = Opts::default();
    while let Some(option) = cli.option()? {
        match option.as_str() {
            "--init" => opts.init = true,
            "-C" | "--chdir" => opts.chdir = Some(cli.path()?),
            "-i" | "--clear-env" => opts.clear_env = true,
            "--env" => opts.env.push(variable(cli)?),
            "--unset" => opts.env.push((cli.value()?.into_vec(), Variable::Unset)),
            "--home" => opts.home = true,
            "--user" => opts.user = Some(cli.value()?.into_vec()),
            "--groups" => opts.groups = Some(cli.value()?.into_vec()),
            "--cap-keep" => opts.cap_keep = Some(capabilities(cli)?),
            "--ambient" => opts.ambient = true,
            "--no-new-privs" => opts.no_new_privs = true,
            "--rlimit" => opts.rlimits.push(rlimit(cli)?),
            "--setsid" => opts.setsid = true,
            "--session-keyring" => opts.session_keyring = true,
            "--argv0" => opts.argv0 = Some(cli.path()?),
            "--keep-fd" => opts.keep_fds.push(cli.fd()?),
            _ => return Err(cli.unknown(&option)),
        }
    }
    if opts.ambient && (opts.user.is_none() || opts.cap_keep.is_none()) {
        return Err(cli.usage("--ambient needs --user and --cap-keep"));
    }
    opts.prog = cli.prog()?;
    Ok(opts)
}

fn variable(cli: &mut Cli) -> Result<(Vec<u8>, Variable), Error> {
    let text = cli.value()?.into_vec();
    let mut parts = text.splitn(2, |b| *b == b'=').map(<[u8]>::to_vec);
    match (parts.next().unwrap_or_default(), parts.next()) {
        (name, _) if name.is_empty() => Err(cli.usage("--env takes NAME or NAME=VALUE")),
        (name, Some(value)) => Ok((name, Variable::Set(value))),
        (name, None) => Ok((name, Variable::Keep)),
    }
}

/// Names with commas between them, with or without `cap_`, in either case.
fn capabilities(cli: &mut Cli) -> Result<u64, Error> {
    let list = cli.word()?;
    match list.as_str() {
        "all" => return Ok(u64::MAX),
        "none" => return Ok(0),
        _ => {}
    }
    list.split(',').try_fold(0, |set, name| {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let is = |known: &str| known.strip_prefix("CAP_") == Some(bare);
        match flags::CAPS.iter().find(|(_, known)| is(known)) {
            Some((cap, _)) => Ok(set | 1 << cap),
            None => Err(cli.usage(&format!("--cap-keep {name}: there is no such capability"))),
        }
    })
}

/// `nofile=1024:4096`; one number is both limits.
fn rlimit(cli: &mut Cli) -> Result<(u64, RLimit), Error> {
    let word = cli.word()?;
    let number = |text: &str| match text {
        "unlimited" | "infinity" => Some(libc::RLIM64_INFINITY),
        _ => cli::size(text),
    };
    let limit = word.split_once('=').and_then(|(name, limits)| {
        let name = format!("RLIMIT_{}", name.to_ascii_uppercase());
        let (resource, _) = flags::RLIMIT.iter().find(|(_, known)| *known == name)?;
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        Some((*resource, RLimit { soft: number(soft)?, hard: number(hard)? }))
    });
    limit.ok_or_else(|| cli.usage(&format!("--rlimit {word}: NAME=SOFT[:HARD], see getrlimit(2)")))
}

fn apply(cx: &Cx, opts: &Opts) -> Result<Never, Error> {
    let prog = opts.prog.find(cx)?;
    let needs_names = opts.user.is_some() || opts.groups.is_some() || opts.home;
    let databases = if needs_names { Databases::read(cx) } else { Databases::default() };
    let user = opts.user.as_ref().map(|user| databases.user(user)).transpose()?;
    let groups = opts.groups.as_ref().map(|list| databases.groups(list)).transpose()?;
    let env = environment(cx, opts, user.as_ref(), &databases);

    chain::close_on_exec(cx, &opts.keep_fds)?;
    if opts.session_keyring {
        match sys::keyctl_join_session_keyring(cx) {
            Err(e) if e.is(Errno::ENOSYS) => {} // a kernel without keyrings: there is none to share
            other => other?,
        }
    }
    if opts.init {
        be_init(cx, opts, user.as_ref())?;
    }
    if opts.setsid {
        sys::setsid(cx).map_err(why_no_session)?;
    }
    for &(resource, limit) in &opts.rlimits {
        sys::setrlimit(cx, resource, limit)?;
    }
    if let Some(directory) = &opts.chdir {
        sys::chdir(cx, directory)?;
    }
    become_user(cx, opts, user.as_ref(), groups)?;
    prog.exec_as(cx, Some(&env), opts.argv0.as_ref())
}

/// PROG's environment: ours or none, changed in the order of the options.
fn environment(cx: &Cx, opts: &Opts, user: Option<&User>, databases: &Databases) -> Vec<CString> {
    let ours: Vec<Vec<u8>> = cx.start.environ().into_iter().map(CString::into_bytes).collect();
    let mut env = if opts.clear_env { Vec::new() } else { ours.clone() };
    let is = |var: &[u8], name: &[u8]| var.strip_prefix(name).is_some_and(|v| v.starts_with(b"="));
    let mut change = |name: &[u8], var: Option<Vec<u8>>| {
        env.retain(|old| !is(old, name));
        env.extend(var);
    };
    if opts.home {
        let own = cx.start.euid.to_string();
        let looked_up = user.is_none().then(|| databases.user(own.as_bytes()).unwrap_or_default());
        let home = user.or(looked_up.as_ref()).map(|user| &user.home[..]);
        let home = home.filter(|home| !home.is_empty()).unwrap_or(b"/");
        change(b"HOME", Some([b"HOME=", home].concat()));
    }
    for (name, variable) in &opts.env {
        match variable {
            Variable::Set(value) => change(name, Some([name, &b"="[..], value].concat())),
            Variable::Unset => change(name, None),
            Variable::Keep => change(name, ours.iter().find(|var| is(var, name)).cloned()),
        }
    }
    env.into_iter().map(|var| cli::cstring(OsString::from_vec(var))).collect()
}

/// Fork. The child comes back, to become PROG; the parent stays here, until that has ended.
fn be_init(cx: &Cx, opts: &Opts, user: Option<&User>) -> Result<(), Error> {
    if opts.setsid {
        match sys::setsid(cx) {
            // We lead a process group, being a shell's job and no PID 1. PROG has its own session.
            Err(e) if e.is(Errno::EPERM) => {}
            other => other?,
        }
    }
    // PID 1 of a pid namespace inherits every orphan anyway; elsewhere those below us.
    sys::prctl_set_child_subreaper(cx)?;
    // What we were started with is of the host: inside, /proc/1 would show it.
    sys::prctl_set_name(cx, c"td-init")?;
    sys::forget_start(cx, c"td-init");
    let Side::Parent(child) = child::spawn(cx, 0, None)? else { return Ok(()) };

    let trace = cx.trace_fd().filter(|fd| *fd > 2);
    sys::close_range(cx, 3, trace.map_or(RawFd::MAX, |fd| fd - 1), 0)?;
    if let Some(fd) = trace {
        sys::close_range(cx, fd + 1, RawFd::MAX, 0)?;
    }
    // Our ids stay: a change of them would clear the signal that ends us with our parent. Signals are
    // passed on to PROG, whoever it has become, by CAP_KILL.
    let kept = kept_capabilities(cx, opts, user) | 1 << CAP_KILL;
    if opts.cap_keep.is_some() {
        bound_capabilities(cx, opts.cap_keep.unwrap_or(u64::MAX) | 1 << CAP_KILL)?;
    }
    let held = sys::capget(cx)?.permitted();
    sys::capset(cx, &CapData::new(held & kept, held & kept, 0))?;
    let ended = child::wait(cx, child)?;
    sys::exit(cx, ended.exit_status())
}

/// Its number in capabilities(7).
const CAP_KILL: u64 = 5;

/// The capabilities that PROG may have: none, where its user is not root and --ambient is not said.
fn kept_capabilities(cx: &Cx, opts: &Opts, user: Option<&User>) -> u64 {
    let root = user.map_or(cx.start.euid, |user| user.uid) == 0;
    if root || opts.ambient { opts.cap_keep.unwrap_or(u64::MAX) } else { 0 }
}

/// Let no execve(2) bring back a capability that is not in `keep`.
fn bound_capabilities(cx: &Cx, keep: u64) -> Result<(), Error> {
    for cap in (0..64).filter(|cap| keep >> cap & 1 == 0) {
        // What is only printed does not fail at the kernel's last one.
        if cx.dry() && sys::prctl_capbset_read(cx, cap).is_err() {
            break;
        }
        match sys::prctl_capbset_drop(cx, cap) {
            Err(e) if e.is(Errno::EINVAL) => break, // the last one was the kernel's last
            Err(e) if e.is(Errno::EPERM) => {
                return Err(e.because("only CAP_SETPCAP takes capabilities from the bounding set"));
            }
            other => other?,
        }
    }
    Ok(())
}

/// Ids, groups and capabilities, in the one order that works: each step needs what a later one takes.
fn become_user(
    cx: &Cx,
    opts: &Opts,
    user: Option<&User>,
    groups: Option<Vec<u32>>,
) -> Result<(), Error> {
    if let Some(keep) = opts.cap_keep {
        bound_capabilities(cx, keep)?;
    }
    let held = sys::capget(cx)?.permitted();
    if opts.ambient {
        sys::prctl_set_keepcaps(cx)?;
    }
    if let Some(groups) = groups.as_ref().or(user.map(|user| &user.groups)) {
        sys::setgroups(cx, groups).map_err(|e| why_no_groups(cx, e))?;
    }
    if let Some(user) = user {
        let parent_death = sys::prctl_get_pdeathsig(cx)?;
        sys::setresgid(cx, user.gid)
            .map_err(|e| why_no_id(cx, c"/proc/self/gid_map", user.gid, e))?;
        sys::setresuid(cx, user.uid)
            .map_err(|e| why_no_id(cx, c"/proc/self/uid_map", user.uid, e))?;
        if parent_death != 0 {
            sys::prctl_set_pdeathsig(cx, parent_death)?; // the change of ids has cleared it
        }
    }
    // Inheritable capabilities stay empty, or a file of the image could turn them into permitted ones
    // (CVE-2022-24769); with them the ambient ones go that td-unshare may have raised.
    let kept = held & kept_capabilities(cx, opts, user);
    let inheritable = if opts.ambient { kept } else { 0 };
    sys::capset(cx, &CapData::new(kept, kept, inheritable))?;
    if opts.ambient {
        for cap in (0..64).filter(|cap| kept >> cap & 1 == 1) {
            sys::prctl_cap_ambient_raise(cx, cap)?;
        }
    }
    if opts.no_new_privs {
        sys::prctl_set_no_new_privs(cx)?;
    }
    Ok(())
}

/// Why there is no new session.
fn why_no_session(error: Error) -> Error {
    if !error.is(Errno::EPERM) {
        return error;
    }
    // The one precondition of setsid(2).
    error
        .because("this process leads a process group")
        .way_out("with --init PROG has its own process")
}

/// Why the supplementary groups were not set.
fn why_no_groups(cx: &Cx, error: Error) -> Error {
    let setgroups = sys::read_file(cx, None, c"/proc/self/setgroups").unwrap_or_default();
    if setgroups.starts_with(b"deny") {
        return error
            .because("setgroups(2) is denied in this user namespace, which maps one id alone");
    }
    error
}

/// Why an id was not taken.
fn why_no_id(cx: &Cx, map: &CStr, id: u32, error: Error) -> Error {
    let text = sys::read_file(cx, None, map).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mapped = text.lines().any(|line| {
        let mut numbers = line.split_whitespace().filter_map(|n| n.parse::<u64>().ok());
        match (numbers.next(), numbers.nth(1)) {
            (Some(first), Some(count)) => (first..first + count).contains(&id.into()),
            _ => false,
        }
    });
    if mapped || text.is_empty() {
        return error;
    }
    error.because(format!("the id {id} is not mapped in this user namespace"))
}
