//! td-cgroup: make a cgroup, or use one that is there, set its limits, and become PROG in it.
#![no_main]

const HELP: &str = "\
usage: td-cgroup [OPTION]... PATH [PROG [ARG]...]
       td-cgroup --remove|--kill|--stat PATH

Make the cgroup PATH, or use it as it is, and set limits. With PROG, move in and
become PROG. PATH is /a/b from the root of the hierarchy, a/b below one's own
cgroup. A limit that cannot be applied is an error; what was made is removed.

  -m, --memory SIZE       bytes of memory (k, m, g, t; -1: no limit)
      --memory-swap SIZE  bytes of memory and swap together (needs --memory)
      --cpus N            processors, as 0.5 or 2
      --cpu-shares N      share of the processors, 2 to 262144, usually 1024
      --cpuset-cpus LIST  these processors only, as 0-3,8
      --cpuset-mems LIST  memory of these nodes only
      --pids N            processes and threads
      --set FILE=VALUE    write VALUE to FILE of the cgroup; what stands before
                          the first dot of FILE names the controller
      --leaf NAME         make NAME below it and move in there: with a cgroup
                          namespace PROG then cannot reach the limits
      --stay              become PROG without moving in
      --fresh             first remove what an earlier run has left of PATH;
                          living processes in it are an error
      --delegate UID:GID  let this user make cgroups below PATH, but not change
                          its limits
      --remove            remove the cgroup and those below it
      --kill              kill every process in it and in those below it
      --stat              print what it uses and may use, a key and value a line
";

use std::ffi::{CStr, CString};

use syscalls::Errno;
use td::cgroup::limits::{self, LIMITS};
use td::cgroup::make::{self, Made, Write};
use td::cgroup::{self, Hierarchy};
use td::chain::Prog;
use td::cli::{Cli, Never};
use td::error::Error;
use td::show::plain;
use td::sys::{self, Cx, cstring};

td::step!(HELP, parse, apply);

#[derive(Default)]
struct Opts {
    action: Action,
    /// A value for each of `LIMITS`.
    limits: [Option<String>; LIMITS.len()],
    set: Vec<(CString, CString)>,
    /// A cgroup below, for the processes.
    leaf: Option<CString>,
    stay: bool,
    fresh: bool,
    /// To whom the cgroup is given.
    delegate: Option<(u32, u32)>,
    path: CString,
    prog: Option<Prog>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Action {
    #[default]
    Make,
    Remove,
    Kill,
    Stat,
}

fn parse(cli: &mut Cli) -> Result<Opts, Error> {
    let mut opts = Opts::default();
    while let Some(option) = cli.option()? {
        let option = if option == "-m" { "--memory" } else { option.as_str() };
        let limit = LIMITS.iter().zip(&mut opts.limits).find(|(limit, _)| limit.option == option);
        if let Some((_, value)) = limit {
            *value = Some(cli.word()?); // of several the last counts
            continue;
        }
        match option {
            "--set" => opts.set.push(file_and_value(cli)?),
            "--leaf" => opts.leaf = Some(cli.path()?),
            "--stay" => opts.stay = true,
            "--fresh" => opts.fresh = true,
            "--delegate" => opts.delegate = Some(ids(cli)?),
            "--remove" => opts.action = Action::Remove,
            "--kill" => opts.action = Action::Kill,
            "--stat" => opts.action = Action::Stat,
            _ => return Err(cli.unknown(option)),
        }
    }
    check_limits(cli, &mut opts.limits)?;
    opts.path = cli.operand("PATH")?;
    opts.prog = cli.optional_prog();
    let extra = opts.prog.is_some()
        || opts.stay
        || opts.fresh
        || opts.delegate.is_some()
        || opts.leaf.is_some()
        || opts.limits.iter().any(Option::is_some)
        || !opts.set.is_empty();
    if opts.action != Action::Make && extra {
        return Err(cli.usage("--remove, --kill and --stat take PATH and nothing else"));
    }
    if opts.stay && opts.prog.is_none() {
        return Err(cli.usage("--stay needs PROG"));
    }
    Ok(opts)
}

/// `UID:GID`, of which -1 would change nothing: chown(2).
fn ids(cli: &mut Cli) -> Result<(u32, u32), Error> {
    const MOST: u64 = u32::MAX as u64 - 1;
    let word = cli.word()?;
    let (uid, gid) = word.split_once(':').unwrap_or_default();
    match (uid.parse(), gid.parse()) {
        (Ok(uid @ 0..=MOST), Ok(gid @ 0..=MOST)) => Ok((uid as u32, gid as u32)),
        _ => Err(cli.usage(format_args!(
            "--delegate {}: UID:GID is wanted, two numbers",
            plain(word.as_bytes())
        ))),
    }
}

fn file_and_value(cli: &mut Cli) -> Result<(CString, CString), Error> {
    let both = cli.path()?;
    let mut parts = both.to_bytes().splitn(2, |b| *b == b'=');
    let (file, value) = (parts.next().unwrap_or_default(), parts.next());
    // The kernel takes an empty write for none.
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Err(
            cli.usage(format_args!("--set {}: FILE=VALUE is wanted", plain(both.to_bytes())))
        );
    };
    let controller = file.iter().position(|b| *b == b'.').unwrap_or(0);
    if controller == 0 || file.contains(&b'/') {
        let file = plain(file);
        return Err(cli.usage(format_args!("--set {file}: a file CONTROLLER.NAME is wanted")));
    }
    Ok((cstring(file), cstring(value)))
}

/// Values are checked before anything is made. What --memory-swap means depends on --memory.
fn check_limits(cli: &Cli, limits: &mut [Option<String>]) -> Result<(), Error> {
    let mut memory = None;
    for (limit, value) in LIMITS.iter().zip(limits) {
        let Some(value) = value else { continue };
        let typed = value.clone();
        match (limit.option, &memory) {
            ("--memory", _) => memory = Some(typed.clone()),
            ("--memory-swap", None) => return Err(cli.usage("--memory-swap needs --memory")),
            ("--memory-swap", Some(memory)) => *value = format!("{typed} {memory}"),
            _ => {}
        }
        if !limit.accepts(value) {
            let typed = plain(typed.as_bytes());
            return Err(
                cli.usage(format_args!("{} {typed}: it takes {}", limit.option, limit.accepts))
            );
        }
    }
    Ok(())
}

fn apply(cx: &Cx, opts: &Opts) -> Result<Never, Error> {
    let found = match opts.action {
        Action::Make => return make_and_become(cx, opts),
        Action::Remove => cgroup::remove(cx, &opts.path)?,
        Action::Kill => cgroup::kill(cx, &opts.path)?,
        Action::Stat => stat(cx, &opts.path)?,
    };
    if found == 0 {
        return Err(cgroup::none(&opts.path));
    }
    sys::exit(cx, 0)
}

fn make_and_become(cx: &Cx, opts: &Opts) -> Result<Never, Error> {
    let prog = opts.prog.as_ref().map(|prog| prog.find(cx)).transpose()?;
    let mut made = Made::default();
    make(cx, opts, &mut made)
        .and_then(|()| match prog {
            Some(prog) => prog.exec(cx),
            None => sys::exit(cx, 0),
        })
        .inspect_err(|_| made.undo(cx))
}

fn make(cx: &Cx, opts: &Opts, made: &mut Made) -> Result<(), Error> {
    let hierarchies = cgroup::hierarchies(cx)?;
    let mut name = cgroup::name(&hierarchies, &opts.path)?;
    if opts.fresh {
        cgroup::remove_dead(cx, &hierarchies, &name)?;
    }
    let used = used(cx, opts, &hierarchies, &name)?;
    for (hierarchy, writes) in &used {
        made.make(cx, hierarchy, &name, writes)?;
        if hierarchy.v2 && opts.delegate.is_some() {
            made.turn_all_on(cx, hierarchy, &name)?;
        }
        made.give(cx, hierarchy, &name, opts.delegate)?;
    }
    if let Some(leaf) = &opts.leaf {
        let below = [&name, &b"/"[..], leaf.to_bytes()].concat();
        name = cgroup::name(&hierarchies, &cstring(below))?;
        for (hierarchy, _) in &used {
            made.make(cx, hierarchy, &name, &[])?;
            made.give(cx, hierarchy, &name, opts.delegate)?;
        }
    }
    if opts.prog.is_none() || opts.stay {
        return Ok(());
    }
    let is_used = |hierarchy: &Hierarchy| used.iter().any(|(h, _)| *h == hierarchy);
    made.move_in(cx, &hierarchies, &name, is_used)
}

/// A hierarchy, and what is written in it.
type Used<'a> = (&'a Hierarchy, Vec<Write<'a>>);

/// The hierarchies in which the cgroup is made: that of version 2, and each of version 1 in which a limit
/// is asked, or may be asked below.
fn used<'a>(
    cx: &Cx,
    opts: &'a Opts,
    hierarchies: &'a [Hierarchy],
    name: &[u8],
) -> Result<Vec<Used<'a>>, Error> {
    let mut used: Vec<Used> = hierarchies.iter().map(|h| (h, Vec::new())).collect();
    for (limit, value) in LIMITS.iter().zip(&opts.limits) {
        let Some(value) = value else { continue };
        let (hierarchy, writes) = entry(cx, hierarchies, &mut used, limit.controller.as_bytes())?;
        writes.extend(limit.writes(value, hierarchy.v2));
    }
    for (file, value) in &opts.set {
        let (file, value) = (file.to_bytes(), value.to_bytes().to_vec());
        let controller = file.split(|b| *b == b'.').next().unwrap_or_default();
        let (_, writes) = entry(cx, hierarchies, &mut used, controller)?;
        writes.push(Write { controller, file, value, limit: None });
    }
    let home = cgroup::home(hierarchies);
    let asked = |(hierarchy, writes): &Used| {
        let below = || limits::CONTROLLERS.iter().any(|controller| hierarchy.has(controller));
        !writes.is_empty() || opts.delegate.is_some() && below()
    };
    // An ordinary user enters a cgroup of version 2 only from one that is delegated too. Where nothing is
    // limited there, those of version 1 are enough.
    let enough = used.iter().any(asked) && home.is_some_and(|home| cannot_enter(cx, home, name));
    used.retain(|entry| asked(entry) || Some(entry.0) == home && !enough);
    Ok(used)
}

/// That of a controller.
fn entry<'a, 'b>(
    cx: &Cx,
    hierarchies: &'a [Hierarchy],
    used: &'b mut [Used<'a>],
    controller: &[u8],
) -> Result<&'b mut Used<'a>, Error> {
    let hierarchy = cgroup::of_controller(hierarchies, controller);
    let entry = used.iter_mut().find(|(h, _)| Some(*h) == hierarchy);
    entry.ok_or_else(|| make::why_nowhere(cx, controller))
}

fn cannot_enter(cx: &Cx, hierarchy: &Hierarchy, name: &[u8]) -> bool {
    let refused = |e: Error| e.is(Errno::EACCES);
    let procs = hierarchy.common_procs(name);
    hierarchy.v2 && sys::faccessat2(cx, None, &procs, libc::W_OK).is_err_and(refused)
}

/// Print what the cgroup uses and may use. Returns how many hierarchies have it.
fn stat(cx: &Cx, path: &CStr) -> Result<usize, Error> {
    let hierarchies = cgroup::hierarchies(cx)?;
    let name = cgroup::name(&hierarchies, path)?;
    let mut found = Vec::new();
    for directory in hierarchies.iter().filter_map(|h| h.directory(&name)) {
        match sys::openat(cx, None, &directory, libc::O_PATH | libc::O_DIRECTORY) {
            Err(e) if e.is(Errno::ENOENT) => {} // not a cgroup of this hierarchy
            other => {
                other?;
                found.push(directory);
            }
        }
    }
    if !found.is_empty() {
        let mut text = String::new();
        for key in limits::KEYS {
            if let Some(value) = key.value(cx, &found) {
                text.extend([key.key, " ", &value, "\n"]);
            }
        }
        let populated = found.iter().try_fold(false, |any, directory| {
            cgroup::processes_below(cx, directory).map(|pids| any || !pids.is_empty())
        })?;
        text.push_str(if populated { "populated 1\n" } else { "populated 0\n" });
        sys::write(cx, sys::standard_fd(1), text.as_bytes())?;
    }
    Ok(found.len())
}
