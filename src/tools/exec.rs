//! td-exec: give a process its final state, and become PROG.

const HELP: &str = "\
usage: td-exec [OPTION]... PROG [ARG]...

Set the final state of this process, in its current root, and become PROG.
Descriptors above 2 are closed.

  -C, --chdir DIR      change the working directory
  -i, --clear-env      start with an empty environment
      --env NAME[=VALUE]  set a variable; without a value, keep the caller's
      --unset NAME     remove a variable
      --home           set HOME from /etc/passwd, unless --env sets it
      --user USER[:GROUP]  change to a user, by name in /etc/passwd or by number
      --groups LIST    set the supplementary groups; '' is none; the default
                       with --user is that user's groups in /etc/group
      --cap-keep LIST|none|all  drop all other capabilities, for good: from the
                       bounding, the permitted and the effective set
      --ambient        give the kept capabilities to a user who is not root, too
      --no-new-privs   let nothing executed gain privileges, as by set-user-id
      --seccomp POLICY  allow only the system calls of POLICY: default,
                       unconfined (all), or a file in this root
      --seccomp-fd N   read the policy, text or compiled, from descriptor N
      --record-fd N    write the compiled policy to descriptor N
      --rlimit NAME=SOFT[:HARD]  set a limit: nofile=1024, core=0:unlimited
      --setsid         start a new session without a controlling terminal
      --ctty[=DEV]     start a new session on the terminal DEV, or the console
      --session-keyring  join a new, empty session keyring
      --argv0 NAME     set the name that PROG sees as its own
      --keep-fd N      do not close descriptor N
";

use std::ffi::CString;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStringExt;

use syscalls::Errno;

use crate::cli::{Cli, Prog, Word, others};
use crate::ids::caps::{self, CAP_SYS_RESOURCE};
use crate::ids::credentials;
use crate::ids::passwd::{Databases, User};
use crate::ids::policy::{self, Confinement, Policy};
use crate::ids::user_namespace;
use crate::process::chain::{self, Tool};
use crate::process::descriptors;
use crate::process::prog::{Found, Next};
use crate::process::session::{self, Terminal};
use crate::root::working_directory;
use crate::say::error::Error;
use crate::say::flags;
use crate::say::number::parse_size;
use crate::say::show;
use crate::sys::structs::RLimit;
use crate::sys::{self, Cx, cstring, proc};

/// The tool.
pub const TOOL: Tool = Tool {
    name: "td-exec",
    step: |cx, args| chain::step(cx, (TOOL.name, HELP), args, parse, apply),
};

#[derive(Default)]
struct Opts {
    chdir: Option<CString>,
    clear_env: bool,
    /// Changes of the environment, in their order.
    env: Vec<(Vec<u8>, Variable)>,
    home: bool,
    user: Option<Vec<u8>>,
    groups: Option<Vec<u8>>,
    cap_keep: Option<u64>,
    ambient: bool,
    no_new_privs: bool,
    policy: Option<policy::Source>,
    record: Option<RawFd>,
    rlimits: Vec<(u64, RLimit)>,
    setsid: bool,
    ctty: Option<Terminal>,
    session_keyring: bool,
    argv0: Option<CString>,
    keep_fds: Vec<RawFd>,
    prog: Prog,
}

/// What becomes of a variable.
enum Variable {
    Set(Vec<u8>),
    Unset,
    /// It keeps the value that it had before --clear-env.
    Keep,
}

fn parse(cli: &mut Cli) -> Result<Opts, Error> {
    let mut opts = Opts::default();
    while let Some(option) = cli.option()? {
        match option.as_str() {
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
            "--seccomp" => opts.policy = Some(policy::Source::of_option(cli)?),
            "--seccomp-fd" => opts.policy = Some(policy::Source::Fd(cli.fd()?)),
            "--record-fd" => opts.record = Some(cli.fd()?),
            "--rlimit" => opts.rlimits.push(rlimit(cli)?),
            "--setsid" => opts.setsid = true,
            "--ctty" => {
                opts.setsid = true;
                opts.ctty = Some(Terminal(cli.optional().map(|dev| cstring(dev.into_vec()))));
            }
            "--session-keyring" => opts.session_keyring = true,
            "--argv0" => opts.argv0 = Some(cli.path()?),
            "--keep-fd" => opts.keep_fds.push(cli.fd()?),
            _ => return Err(cli.unknown(&option, others::EXEC)),
        }
    }
    if opts.ambient && opts.cap_keep.is_none() {
        return Err(cli.usage("--ambient needs --cap-keep"));
    }
    opts.prog = cli.prog()?;
    Ok(opts)
}

fn variable(cli: &mut Cli) -> Result<(Vec<u8>, Variable), Error> {
    let text = cli.value()?.into_vec();
    let mut parts = text.splitn(2, |b| *b == b'=').map(<[u8]>::to_vec);
    match (parts.next().filter(|name| !name.is_empty()), parts.next()) {
        (Some(name), value) => Ok((name, value.map_or(Variable::Keep, Variable::Set))),
        _ => Err(cli.usage("--env needs NAME or NAME=VALUE")),
    }
}

fn capabilities(cli: &mut Cli) -> Result<u64, Error> {
    let list = cli.word()?;
    caps::parse(&list)
        .map_err(|name| Word(name.into()))
        .map_err(|name| cli.usage(format_args!("--cap-keep {name}: no such capability")))
}

/// `nofile=1024:4096`; one number is both limits.
fn rlimit(cli: &mut Cli) -> Result<(u64, RLimit), Error> {
    let word = cli.word()?;
    let number = |text: &str| match text {
        "unlimited" | "infinity" => Some(libc::RLIM64_INFINITY),
        _ => parse_size(text),
    };
    let limit = word.split_once('=').and_then(|(name, limits)| {
        let name = format!("RLIMIT_{}", name.to_ascii_uppercase());
        let (resource, _) = flags::RLIMIT.iter().find(|(_, known)| *known == name)?;
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let limit = RLimit { soft: number(soft)?, hard: number(hard)? };
        (limit.soft <= limit.hard).then_some((resource, limit))
    });
    limit.ok_or_else(|| {
        cli.usage(format_args!("--rlimit {word}: must be NAME=SOFT[:HARD]; see getrlimit(2)"))
    })
}

fn apply(cx: &Cx, opts: &Opts) -> Result<Next, Error> {
    let policy = opts.policy.as_ref().map(|source| Policy::read(cx, source)).transpose()?;
    let prog = opts.prog.find_tool(cx)?;
    let needs_names = opts.user.is_some() || opts.groups.is_some() || opts.home;
    let names = if needs_names { Databases::read(cx)? } else { Databases::default() };
    let user = opts.user.as_ref().map(|user| names.user(user)).transpose()?;
    let groups = opts.groups.as_ref().map(|list| names.groups(list)).transpose()?;
    let groups = groups.as_ref().or(user.as_ref().map(|user| &user.groups));
    let home = user.as_ref().map_or_else(|| names.home(cx.start.euid), |user| user.home.clone());
    let env = environment(cx, opts, &home);
    let is_root = user.as_ref().map_or(cx.start.euid, |user| user.uid) == 0;
    let keep = if is_root || opts.ambient { opts.cap_keep.unwrap_or(caps::ALL) } else { 0 };
    let held = sys::capget(cx)?.permitted();
    let policy =
        policy.map_or(Ok(None), |policy| confinement(cx, opts, &policy, &prog, held, !is_root))?;
    if let (Some(policy), Some(fd)) = (&policy, opts.record) {
        policy.record(cx, fd)?;
    }

    if opts.setsid && opts.ctty.is_none() {
        session::refuse_free_terminals(cx, held & keep, policy.as_ref())?;
    }
    descriptors::close_on_exec(cx, &opts.keep_fds, prog.is_tool())?;
    if opts.session_keyring {
        session::join_keyring(cx)?;
    }
    // The order from here on is the only one that works: each action needs a right that a later one gives up.
    if let Some(keep) = opts.cap_keep {
        caps::bound(cx, keep)?;
    }
    if let Some(groups) = groups {
        credentials::set_groups(cx, groups)?;
    }
    if opts.no_new_privs {
        sys::prctl_set_no_new_privs(cx)?;
    }
    let there = settle(cx, opts, user.as_ref())?;
    policy.as_ref().map_or(Ok(()), |policy| policy.load_before_ids(cx))?;
    let ambient = opts.ambient && !is_root;
    if let Some(user) = &user {
        credentials::set_ids(cx, user, ambient)?;
    }
    caps::set(cx, held & keep, ambient)?;
    if let (false, Some(directory)) = (there, &opts.chdir) {
        working_directory::enter(cx, directory)?;
    }
    cx.set_env(env);
    become_prog(cx, opts, &prog, policy)
}

/// Become PROG under the policy. With td-init, this process continues as process 1, with the rights of PROG.
fn become_prog(
    cx: &Cx,
    opts: &Opts,
    prog: &Found,
    policy: Option<Confinement>,
) -> Result<Next, Error> {
    if prog.is_init() {
        let policy_fd = match opts.policy {
            Some(policy::Source::Fd(fd)) => Some(fd),
            _ => None,
        };
        descriptors::keep_from_prog(cx, &opts.keep_fds, &[policy_fd, opts.record])?;
        policy.as_ref().map_or(Ok(()), |policy| policy.load_after_ids(cx))?;
    }
    if let Some(policy) = policy {
        cx.set_before_prog(Box::new(move |cx, path| policy.load_before_exec(cx, path)));
    }
    if prog.is_init() { prog.next(cx) } else { prog.exec_as(cx, opts.argv0.as_ref()) }
}

/// The policy compiled for the capabilities that are kept, and checked for what is left to do under it.
fn confinement(
    cx: &Cx,
    opts: &Opts,
    policy: &Policy,
    prog: &Found,
    held: u64,
    other_user: bool,
) -> Result<Option<Confinement>, Error> {
    let caps = held & opts.cap_keep.unwrap_or(caps::ALL);
    let policy = Confinement::new(policy, caps, opts.no_new_privs)?;
    let Some(policy) = policy else { return Ok(None) };
    policy.check_change(opts.user.is_some(), opts.ambient && other_user)?;
    if prog.is_terminal() {
        policy.check_terminal()?;
    }
    if prog.leads_to_init() {
        // If it has a terminal, PROG is in its foreground.
        policy.check_process_1(prog.is_init() && opts.setsid && opts.ctty.is_none())?;
    }
    if prog.leads_to_init() || !cx.ready().is_empty() {
        policy.check_ready()?;
    }
    Ok(Some(policy))
}

/// PROG's environment: ours or none, changed in the order of the options.
fn environment(cx: &Cx, opts: &Opts, home: &[u8]) -> Vec<CString> {
    let ours: Vec<Vec<u8>> = cx.env().iter().map(|var| var.to_bytes().to_vec()).collect();
    let mut env = if opts.clear_env { Vec::new() } else { ours.clone() };
    let is = |var: &[u8], name: &[u8]| var.strip_prefix(name).is_some_and(|v| v.starts_with(b"="));
    let home = opts.home.then(|| (b"HOME".to_vec(), Variable::Set(home.to_vec())));
    // The working directory of PROG, as it was written; for a relative path it is not known, and the old value would be
    // wrong.
    let pwd = opts.chdir.as_ref().map(|directory| match directory.to_bytes() {
        directory @ [b'/', ..] => (b"PWD".to_vec(), Variable::Set(directory.to_vec())),
        _ => (b"PWD".to_vec(), Variable::Unset),
    });
    for (name, variable) in home.iter().chain(&pwd).chain(&opts.env) {
        env.retain(|old| !is(old, name));
        env.extend(match variable {
            Variable::Set(value) => Some([name, &b"="[..], value].concat()),
            Variable::Unset => None,
            Variable::Keep => ours.iter().find(|var| is(var, name)).cloned(),
        });
    }
    env.into_iter().map(cstring).collect()
}

/// Settings for PROG but not for PID 1, before the ids change to those of `user`. False: try the working directory
/// again as that user.
fn settle(cx: &Cx, opts: &Opts, user: Option<&User>) -> Result<bool, Error> {
    if opts.setsid {
        session::begin(cx, opts.ctty.as_ref())?;
    }
    for &(resource, limit) in &opts.rlimits {
        sys::setrlimit(cx, resource, limit).map_err(|e| why_no_limit(cx, resource, limit, e))?;
    }
    if let Some(user) = user.filter(|user| user.uid != cx.start.euid) {
        credentials::chown_pipes(cx, user.uid, None)?;
    }
    let Some(directory) = &opts.chdir else { return Ok(true) };
    let done = working_directory::enter(cx, directory);
    if user.is_some() { working_directory::entered(done) } else { done.map(|()| true) }
}

/// Why a limit was not set: look at the one that is, and at the kernel's own of descriptors, which binds root too.
fn why_no_limit(cx: &Cx, resource: u64, limit: RLimit, error: Error) -> Error {
    if !error.is(Errno::EPERM) {
        return error;
    }
    let _looking = cx.looking();
    if resource == libc::RLIMIT_NOFILE as u64 {
        let most = sys::read_file(cx, None, c"/proc/sys/fs/nr_open").ok();
        if let Some(most) =
            most.and_then(|text| proc::number(&text)).filter(|most| limit.hard > *most)
        {
            let most = show::number(most);
            return error
                .because(
                    ["fs.nr_open is ", &most, ": nobody may have a higher hard limit"].concat(),
                )
                .way_out("lower it, or raise fs.nr_open: sysctl(8)");
        }
    }
    match sys::getrlimit(cx, resource, flags::RLIMIT) {
        Ok(old) if limit.hard > old.hard => {
            let error = match user_namespace::is_initial(cx) {
                true => caps::why(cx, CAP_SYS_RESOURCE, error),
                false => error.because(
                    "raising a hard limit takes CAP_SYS_RESOURCE in the initial user namespace",
                ),
            };
            error.because(format_args!("the hard limit is {}, and this would raise it", old.hard))
        }
        _ => error,
    }
}
