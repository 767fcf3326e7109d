//! td-cgroup: make a cgroup, or use one that is there, set its limits, and become PROG in it.
#![no_main]

const HELP: &str = "\
usage: td-cgroup [OPTION]... PATH [PROG [ARG]...]
       td-cgroup --remove|--kill|--freeze|--thaw PATH
       td-cgroup --stat [--json] PATH
       td-cgroup --wait-empty[=SECONDS] PATH

Make the cgroup PATH, or use it as it is, and set limits. With PROG, move in and
become PROG. PATH is /a/b from the root of the hierarchy, a/b below one's own
cgroup. A limit that cannot be applied is an error; what was made is removed.

  -m, --memory SIZE       bytes of memory (k, m, g, t; -1: no limit)
      --memory-swap SIZE  bytes of memory and swap together (needs --memory)
      --memory-high SIZE  above this it is slowed down (version 2)
      --memory-low SIZE   spared up to this when memory is short (version 2)
      --cpus N            processors, as 0.5 or 2
      --cpu-shares N      share of the processors, 2 to 262144, usually 1024
      --cpu-weight N      as version 2 has it, 1 to 10000, usually 100
      --cpuset-cpus LIST  these processors only, as 0-3,8
      --cpuset-mems LIST  memory of these nodes only
      --pids N            processes and threads
      --io-max DEV,rbps=N,wbps=N,riops=N,wiops=N  a second, of a block device
      --hugetlb SIZE,LIMIT  bytes of huge pages of a size, as 2M,64M
      --set FILE=VALUE    write VALUE to FILE of the cgroup, as in pids.max=9
      --leaf NAME         make NAME below it, without limits, and move in there
      --move-to-leaf NAME  move processes that are in the way of a limit to
                          NAME below their cgroup (version 2)
      --stay              become PROG without moving in
      --fresh             first remove what an earlier run has left of PATH
      --delegate UID:GID  let this user make cgroups below PATH
      --remove            remove the cgroup and those below it
      --kill              kill every process in it and in those below it
      --freeze            have them stop, and wait until all have
      --thaw              have them go on
      --wait-empty[=SECONDS]  wait until the last has ended, else 124
      --stat              print what it uses and may use, a key and value a line
      --json              the same in JSON
";

use std::ffi::CString;

use td::cgroup::asked::Wanted;
use td::cgroup::limits::LIMITS;
use td::cgroup::make::Made;
use td::cgroup::{self, Hierarchy, stat, state, tree};
use td::chain::Prog;
use td::cli::{Cli, Never};
use td::error::Error;
use td::number::decimal;
use td::show::plain;
use td::sys::{self, Cx, cstring};
use td::text;

td::step!(HELP, parse, apply);

#[derive(Default)]
struct Opts {
    action: Action,
    wanted: Wanted,
    /// A cgroup below, for the processes.
    leaf: Option<CString>,
    /// The same for those that are in the way.
    move_to_leaf: Option<CString>,
    stay: bool,
    fresh: bool,
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

const ALONE: &str = "what is done to a cgroup that is there takes PATH and nothing else";

impl Opts {
    fn act(&mut self, cli: &Cli, action: Action) -> Result<(), Error> {
        match std::mem::replace(&mut self.action, action) {
            Action::Make => Ok(()),
            _ => Err(cli.usage(ALONE)),
        }
    }
}

fn parse(cli: &mut Cli) -> Result<Opts, Error> {
    let mut opts = Opts::default();
    while let Some(option) = cli.option()? {
        let option = if option == "-m" { "--memory" } else { option.as_str() };
        let values = &mut opts.wanted.limits;
        if let Some((_, value)) = LIMITS.iter().zip(values).find(|(l, _)| l.asked.option == option)
        {
            *value = Some(cli.word()?.0); // of several the last counts
            continue;
        }
        match option {
            "--io-max" | "--hugetlb" => {
                let typed = cli.word()?;
                opts.wanted.add_device(cli, option, typed.0)?;
            }
            "--set" => opts.wanted.set.push(file_and_value(cli)?),
            "--leaf" => opts.leaf = Some(cli.path()?),
            "--move-to-leaf" => opts.move_to_leaf = Some(cli.path()?),
            "--stay" => opts.stay = true,
            "--fresh" => opts.fresh = true,
            "--delegate" => opts.delegate = Some(ids(cli)?),
            "--remove" => opts.act(cli, Action::Remove)?,
            "--kill" => opts.act(cli, Action::Kill)?,
            "--freeze" => opts.act(cli, Action::Freeze)?,
            "--thaw" => opts.act(cli, Action::Thaw)?,
            "--wait-empty" => {
                let time = cli.optional_nanoseconds()?;
                opts.act(cli, Action::WaitEmpty(time))?;
            }
            "--stat" => opts.act(cli, Action::Stat)?,
            "--json" => opts.json = true,
            _ => return Err(cli.unknown(option)),
        }
    }
    opts.wanted.delegated = opts.delegate.is_some();
    opts.wanted.check(cli)?;
    opts.path = cli.operand("PATH")?;
    opts.prog = cli.optional_prog();
    check(cli, &opts).map(|()| opts)
}

/// What does not go together.
fn check(cli: &Cli, opts: &Opts) -> Result<(), Error> {
    let leaves = opts.leaf.is_some() || opts.move_to_leaf.is_some();
    if opts.json && opts.action != Action::Stat {
        return Err(cli.usage("--json needs --stat"));
    }
    let extra = opts.prog.is_some() || opts.stay || opts.fresh || leaves || !opts.wanted.is_empty();
    if opts.action != Action::Make && extra {
        return Err(cli.usage(ALONE));
    }
    if opts.stay && opts.prog.is_none() {
        return Err(cli.usage("--stay needs PROG"));
    }
    let Some(leaf) = &opts.move_to_leaf else { return Ok(()) };
    let leaf = leaf.to_bytes();
    let bad = matches!(leaf, b"" | b"." | b"..") || leaf.contains(&b'/');
    if bad || text::has(opts.path.to_bytes(), b'/', leaf) {
        let leaf = plain(leaf);
        return Err(cli.usage(format_args!("--move-to-leaf {leaf}: a name beside PATH is wanted")));
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
        _ => Err(cli.usage(format_args!("--delegate {word}: UID:GID is wanted, two numbers"))),
    }
}

fn file_and_value(cli: &mut Cli) -> Result<(CString, CString), Error> {
    let both = cli.path()?;
    // The kernel takes an empty write for none.
    let pair = text::pair(both.to_bytes(), b'=').filter(|(_, value)| !value.is_empty());
    let Some((file, value)) = pair else {
        let both = plain(both.to_bytes());
        return Err(cli.usage(format_args!("--set {both}: FILE=VALUE is wanted")));
    };
    let controller = text::pair(file, b'.').unwrap_or_default().0;
    if controller.is_empty() || file.contains(&b'/') {
        let file = plain(file);
        return Err(cli.usage(format_args!("--set {file}: a file CONTROLLER.NAME is wanted")));
    }
    Ok((cstring(file), cstring(value)))
}

fn apply(cx: &Cx, opts: &Opts) -> Result<Never, Error> {
    let path = opts.path.as_c_str();
    match opts.action {
        Action::Make => return make_and_become(cx, opts),
        Action::Remove => {
            if tree::remove(cx, path)? == 0 {
                return Err(cgroup::none(path));
            }
        }
        Action::Kill => state::kill(cx, path)?,
        Action::Freeze => state::freeze(cx, path, true)?,
        Action::Thaw => state::freeze(cx, path, false)?,
        Action::WaitEmpty(time) => state::wait_empty(cx, path, time)?,
        Action::Stat => print(cx, &stat::text(cx, path, opts.json)?)?,
    }
    sys::exit(cx, 0)
}

fn print(cx: &Cx, text: &str) -> Result<(), Error> {
    sys::write(cx, sys::standard_fd(1), text.as_bytes()).map(drop)
}

fn make_and_become(cx: &Cx, opts: &Opts) -> Result<Never, Error> {
    let prog = opts.prog.as_ref().map(|prog| prog.find(cx)).transpose()?;
    let mut made = Made::new(opts.move_to_leaf.clone());
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
        state::remove_dead(cx, &hierarchies, &name)?;
    }
    let writes = opts.wanted.writes(cx, &hierarchies)?;
    let used = opts.wanted.used(cx, &hierarchies, &name, &writes);
    for hierarchy in &used {
        made.make(cx, hierarchy, &name, &writes)?;
        if hierarchy.v2 && opts.delegate.is_some() {
            made.turn_all_on(cx, hierarchy, &name)?;
        }
        made.give(cx, hierarchy, &name, opts.delegate)?;
    }
    if let Some(leaf) = &opts.leaf {
        let below = [&name, &b"/"[..], leaf.to_bytes()].concat();
        name = cgroup::name(&hierarchies, &cstring(below))?;
        for hierarchy in &used {
            made.make(cx, hierarchy, &name, &[])?;
            made.give(cx, hierarchy, &name, opts.delegate)?;
        }
    }
    if opts.prog.is_none() || opts.stay {
        return Ok(());
    }
    let is_used = |hierarchy: &Hierarchy| used.iter().any(|used| used.is(hierarchy));
    made.move_in(cx, &hierarchies, &name, is_used)
}
