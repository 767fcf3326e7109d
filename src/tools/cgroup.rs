//! td-cgroup: create a cgroup, or use an existing one, set its limits, and become PROG in it.

const HELP: &str = "\
usage: td-cgroup [OPTION]... PATH [PROG [ARG]...]
       td-cgroup --remove|--kill|--freeze|--thaw PATH
       td-cgroup --stat [--json] PATH
       td-cgroup --wait-empty[=SECONDS] PATH
       td-cgroup --record FILE --remove|--kill|... [PROG [ARG]...]

Create the cgroup PATH, or use it if it exists, and set limits. With PROG, move
into it and become PROG. PATH is /a/b from the root of the hierarchy, or a/b
below the caller's own cgroup. If a step fails, remove what was created.

  -m, --memory SIZE       limit memory, in bytes (k, m, g, t; -1: no limit)
      --memory-swap SIZE  limit memory and swap together (needs --memory)
      --memory-high SIZE  throttle and reclaim above SIZE (version 2)
      --memory-low SIZE   reclaim no memory below SIZE if possible (version 2)
      --cpus N            limit processor time, in processors, such as 0.5
      --cpu-shares N      set the share of processor time, 2 to 262144 (1024)
      --cpu-weight N      set it as a weight, 1 to 10000 (100; version 2)
      --cpuset-cpus LIST  use only these processors, such as 0-3,8
      --cpuset-mems LIST  use memory of these nodes only
      --pids N            limit processes and threads (0 or -1: no limit)
      --io-max DEV,rbps=N,wbps=N,riops=N,wiops=N  limit the I/O of a device
      --hugetlb SIZE,LIMIT  limit bytes in huge pages of SIZE, such as 2M,64M
      --set FILE=VALUE    write VALUE to FILE of the cgroup: pids.max=9
      --leaf NAME         create NAME below it, without limits, and move there
      --move-to-leaf NAME  move processes that prevent a limit into NAME below
                          their cgroup (version 2)
      --stay              become PROG without moving into the cgroup
      --fresh             first remove PATH, left by an earlier run; or kill
                          and remove the cgroups that FILE lists
      --record FILE       create a cgroup in every hierarchy (without a limit,
                          below the caller's own) and list them in FILE
      --state DIR         append the device and inode of DIR to PATH, and ignore
                          cgroups in FILE whose names do not end so
      --count             count what PATH uses (version 2)
      --delegate UID:GID  let this user create cgroups below PATH
      --remove            remove the cgroup and those below it
      --kill              kill every process in it and in those below it
      --freeze            freeze every process and wait until all are frozen
      --thaw              thaw every process
      --wait-empty[=SECONDS]  wait until no process is left, or exit with 124
      --stat              print usage and limits, one key and value per line
      --json              print --stat as JSON
";

use std::ffi::{CStr, CString};

use crate::cgroup::hierarchies::{self, Hierarchy};
use crate::cgroup::limits::LIMITS;
use crate::cgroup::make::Made;
use crate::cgroup::places::{self, ExistingCgroup};
use crate::cgroup::record::{self, Record};
use crate::cgroup::value::FileValue;
use crate::cgroup::wanted::{Used, Wanted};
use crate::cgroup::{empty, freezer, kill, stat, tree};
use crate::cli::{Cli, Prog, others};
use crate::process::chain::{self, Tool};
use crate::process::prog::Next;
use crate::root::directories::is_below;
use crate::say::error::Error;
use crate::say::number::decimal;
use crate::say::show::plain;
use crate::say::text;
use crate::sys::{self, Cx};

/// The tool.
pub const TOOL: Tool = Tool {
    name: "td-cgroup",
    step: |cx, args| chain::step(cx, (TOOL.name, HELP), args, parse, apply),
};

#[derive(Default)]
struct Opts {
    action: Action,
    wanted: Wanted,
    /// A cgroup below, for the processes.
    leaf: Option<CString>,
    /// A cgroup below, for processes that prevent a controller.
    move_to_leaf: Option<CString>,
    stay: bool,
    fresh: bool,
    /// The file that lists the cgroups.
    record: Option<CString>,
    /// The directory to which they belong.
    state: Option<CString>,
    /// To whom the cgroup is given.
    delegate: Option<(u32, u32)>,
    json: bool,
    path: CString,
    prog: Option<Prog>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Action {
    #[default]
    Make,
    Remove,
    Kill,
    Freeze,
    Thaw,
    /// For so many nanoseconds; `None`: without an end.
    WaitEmpty(Option<i64>),
    Stat,
}

const ALONE: &str = "--remove, --kill, --freeze, --thaw, --wait-empty and --stat exclude each other, and what is \
                     for a new cgroup: a limit, --leaf, PROG";

impl Opts {
    /// Does the action end every process?
    fn ends(&self) -> bool {
        matches!(self.action, Action::Kill | Action::Remove)
    }

    fn act(&mut self, cli: &mut Cli, option: &str) -> Result<(), Error> {
        let action = match option {
            "--remove" => Action::Remove,
            "--kill" => Action::Kill,
            "--freeze" => Action::Freeze,
            "--thaw" => Action::Thaw,
            "--wait-empty" => Action::WaitEmpty(cli.optional_nanoseconds()?),
            _ => Action::Stat,
        };
        match std::mem::replace(&mut self.action, action) {
            Action::Make => Ok(()),
            _ => Err(cli.usage(ALONE)),
        }
    }
}

fn parse(cli: &mut Cli) -> Result<Opts, Error> {
    let mut opts = Opts::default();
    let mut limits: [Option<String>; LIMITS.len()] = Default::default();
    while let Some(option) = cli.option()? {
        let option = if option == "-m" { "--memory" } else { option.as_str() };
        let mut all = LIMITS.iter().zip(&mut limits);
        if let Some((_, typed)) = all.find(|(limit, _)| limit.asked.option == option) {
            *typed = Some(cli.word()?.0); // of several the last counts
            continue;
        }
        match option {
            "--io-max" | "--hugetlb" => {
                let typed = cli.word()?;
                opts.wanted.add_device(cli, option, &typed)?;
            }
            "--set" => opts.wanted.add_file(cli)?,
            "--leaf" => opts.leaf = Some(cli.path()?),
            "--move-to-leaf" => opts.move_to_leaf = Some(cli.path()?),
            "--stay" => opts.stay = true,
            "--fresh" => opts.fresh = true,
            "--record" => opts.record = Some(cli.path()?),
            "--state" => opts.state = Some(cli.path()?),
            "--count" => opts.wanted.count = true,
            "--delegate" => opts.delegate = Some(ids(cli)?),
            "--remove" | "--kill" | "--freeze" | "--thaw" | "--wait-empty" | "--stat" => {
                opts.act(cli, option)?;
            }
            "--json" => opts.json = true,
            _ => return Err(cli.unknown(option, others::CGROUP)),
        }
    }
    opts.wanted.delegated = opts.delegate.is_some();
    opts.wanted.add_limits(cli, &limits)?;
    if opts.action == Action::Make || opts.record.is_none() {
        opts.path = cli.operand("PATH")?;
    }
    opts.prog = cli.optional_prog();
    check(cli, &opts).map(|()| opts)
}

/// What does not go together.
fn check(cli: &Cli, opts: &Opts) -> Result<(), Error> {
    let leaves = opts.leaf.is_some() || opts.move_to_leaf.is_some();
    if opts.json && opts.action != Action::Stat {
        return Err(cli.usage("--json needs --stat"));
    }
    let prog = opts.prog.is_some() && (opts.record.is_none() || opts.action == Action::Stat);
    let extra = prog || opts.stay || opts.fresh || leaves || !opts.wanted.is_empty();
    if opts.action != Action::Make && extra {
        return Err(cli.usage(ALONE));
    }
    if opts.stay && opts.prog.is_none() {
        return Err(cli.usage("--stay needs PROG"));
    }
    if opts.action == Action::Make && opts.record.is_some() && opts.leaf.is_none() {
        return Err(cli.usage("--record needs --leaf"));
    }
    if !opts.state.iter().all(|state| opts.record.iter().any(|file| is_below(file, state))) {
        return Err(cli.usage("--state DIR needs --record FILE, with FILE below DIR"));
    }
    let Some(leaf) = opts.move_to_leaf.as_deref().map(CStr::to_bytes) else { return Ok(()) };
    let bad = matches!(leaf, b"" | b"." | b"..") || leaf.contains(&b'/');
    if bad || text::has(opts.path.to_bytes(), b'/', leaf) {
        let leaf = plain(leaf);
        return Err(cli.usage(format_args!(
            "--move-to-leaf {leaf}: must be a single name that is not part of PATH"
        )));
    }
    Ok(())
}

/// `UID:GID`, of which -1 would change nothing: chown(2).
fn ids(cli: &mut Cli) -> Result<(u32, u32), Error> {
    const MOST: u64 = u32::MAX as u64 - 1;
    let word = cli.word()?;
    let (uid, gid) = text::pair(word.as_bytes(), b':').unwrap_or_default();
    match (decimal(uid), decimal(gid)) {
        (Some(uid @ 0..=MOST), Some(gid @ 0..=MOST)) => Ok((uid as u32, gid as u32)),
        _ => Err(cli.usage(format_args!("--delegate {word}: must be UID:GID, two numbers"))),
    }
}

fn apply(cx: &Cx, opts: &Opts) -> Result<Next, Error> {
    if opts.action == Action::Make {
        return make_and_become(cx, opts);
    }
    let prog = opts.prog.as_ref().map(|prog| prog.find_tool(cx)).transpose()?;
    match &opts.record {
        Some(file) => {
            let record = match Record::read(cx, opts.state.as_deref(), file)? {
                Some(record) => record,
                // The container may have just ended: then nothing is left of it, and PROG comes next.
                None if prog.is_some() && opts.ends() => Record::default(),
                None => return Err(record::missing(file)),
            };
            act(cx, opts, &record.places(cx, &tag(cx, opts)?)?, file)?;
        }
        None => {
            let hierarchies = hierarchies::list(cx)?;
            act(cx, opts, &places::existing(cx, &hierarchies, &opts.path)?, &opts.path)?;
        }
    }
    match prog {
        Some(prog) => prog.next(cx),
        None => sys::exit(cx, 0),
    }
}

/// Act on a cgroup, of which `shown` is PATH or FILE.
fn act(cx: &Cx, opts: &Opts, places: &[ExistingCgroup], shown: &CStr) -> Result<(), Error> {
    match opts.action {
        Action::Make => Ok(()),
        Action::Remove => {
            tree::remove(cx, &places::directories(places))?;
            let state = opts.state.as_deref();
            opts.record.as_ref().map_or(Ok(()), |file| record::unlink(cx, state, file))
        }
        Action::Kill => kill::kill(cx, places),
        Action::Freeze => freezer::freeze(cx, places, &plain(shown.to_bytes()), true),
        Action::Thaw => freezer::freeze(cx, places, &plain(shown.to_bytes()), false),
        Action::WaitEmpty(time) => empty::wait_empty(cx, places, time),
        Action::Stat => {
            stat::say_what_is_not_counted(cx, places)?;
            print(cx, &stat::text(cx, places, opts.json)?)
        }
    }
}

/// What the names of DIR's cgroups end with.
fn tag(cx: &Cx, opts: &Opts) -> Result<Vec<u8>, Error> {
    opts.state.as_ref().map_or(Ok(Vec::new()), |state| record::tag(cx, state))
}

fn print(cx: &Cx, text: &str) -> Result<(), Error> {
    sys::write(cx, sys::standard_fd(1), text.as_bytes()).map(drop)
}

fn make_and_become(cx: &Cx, opts: &Opts) -> Result<Next, Error> {
    let prog = opts.prog.as_ref().map(|prog| prog.find_tool(cx)).transpose()?;
    let mut made = Made::new(opts.move_to_leaf.clone(), opts.fresh);
    let done = match &opts.record {
        Some(file) => make_in_every(cx, opts, &mut made, file),
        None => make(cx, opts, &mut made),
    };
    done.and_then(|()| match prog {
        Some(prog) => prog.next(cx),
        None => sys::exit(cx, 0),
    })
    .inspect_err(|_| made.undo(cx))
}

fn make(cx: &Cx, opts: &Opts, made: &mut Made) -> Result<(), Error> {
    let hierarchies = hierarchies::list(cx)?;
    let mut name = places::name(&hierarchies, &opts.path)?;
    if opts.fresh {
        empty::remove_if_empty(cx, &hierarchies, &name)?;
    }
    let writes = opts.wanted.writes(cx, &hierarchies)?;
    let used = opts.wanted.used(cx, &hierarchies, &name, &writes, false)?;
    make_used(cx, opts, made, &used, &writes)?;
    if opts.prog.is_none() || opts.stay {
        return Ok(());
    }
    if let Some(leaf) = &opts.leaf {
        name = below(&name, leaf);
    }
    let is_used = |hierarchy: &Hierarchy| used.iter().any(|(used, _)| used.is(hierarchy));
    let all: Vec<Used> = hierarchies.iter().map(|hierarchy| (hierarchy, name.clone())).collect();
    made.move_process(cx, &all, &is_used)
}

/// Create the cgroups in every hierarchy. They are listed before the first is created.
fn make_in_every(cx: &Cx, opts: &Opts, made: &mut Made, file: &CStr) -> Result<(), Error> {
    let state = opts.state.as_deref();
    let hierarchies = hierarchies::every(cx)?;
    let tag = tag(cx, opts)?;
    let name = [places::name(&hierarchies, &opts.path)?, tag.clone()].concat();
    if opts.fresh {
        record::clear(cx, state, file, &tag)?;
    }
    let writes = opts.wanted.writes(cx, &hierarchies)?;
    let used = opts.wanted.used(cx, &hierarchies, &name, &writes, true)?;
    let leaf = opts.leaf.as_deref().unwrap_or_default();
    let leaves: Vec<Used> = used.iter().map(|(h, name)| (*h, below(name, leaf))).collect();
    made.record(cx, state, file, &record::text(&leaves))?;
    make_used(cx, opts, made, &used, &writes)?;
    if opts.prog.is_none() || opts.stay {
        return Ok(());
    }
    made.move_process(cx, &leaves, &|_| true)
}

/// Create the cgroup where it is used, with its limits and its leaf.
fn make_used(
    cx: &Cx,
    opts: &Opts,
    made: &mut Made,
    used: &[Used],
    writes: &[FileValue],
) -> Result<(), Error> {
    for (hierarchy, name) in used {
        made.make(cx, hierarchy, name, writes)?;
        if hierarchy.v2 {
            made.pass_down(cx, hierarchy, name, &opts.wanted)?;
        }
        made.delegate(cx, hierarchy, name, opts.delegate)?;
        if let Some(leaf) = &opts.leaf {
            let leaf = below(name, leaf);
            made.make(cx, hierarchy, &leaf, &[])?;
            made.delegate(cx, hierarchy, &leaf, opts.delegate)?;
        }
    }
    Ok(())
}

fn below(name: &[u8], leaf: &CStr) -> Vec<u8> {
    [name, leaf.to_bytes()].join(&b'/')
}
