//! Has each candidate done its work? The floor is held against td-run call by call; of the others it is looked at what
//! a program sees that runs inside.

use std::collections::BTreeMap;
use std::fs;

use td::sys::Cx;

use crate::candidates::{self, OLD};
use crate::launch::Candidate;
use crate::place::Place;
use crate::report::{Table, cell};
use crate::{Result, plan};

/// Calls that change nothing that outlives a step: they look, or they are about our own signals and descriptors.
const LOOKS: &[&str] = &[
    "capget",
    "close",
    "exit_group",
    "faccessat2",
    "fstatfs",
    "getcwd",
    "getdents64",
    "getpgid",
    "getpid",
    "getppid",
    "getsid",
    "openat2",
    "pidfd_open",
    "ppoll",
    "pread64",
    "prlimit64",
    "read",
    "readlinkat",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigtimedwait",
    "statfs",
    "statx",
    "wait4",
];

/// What td-run does and the floor need not: where a call begins so, and why.
const NOT_OF_THE_FLOOR: &[(&str, &str)] = &[
    ("execve(", "one step becomes the next, where the floor is one process"),
    ("fcntl(N, F_SETFD", "a descriptor is left to the next step"),
    ("dup3(", "a descriptor is left to the next step under a number that it knows"),
    ("close_range(", "what a step has inherited"),
    ("prctl(PR_SET_NAME", "each step has the name of its tool"),
    ("openat(N, \"cgroups\", O_RDWR", "the record of an earlier run"),
];

/// What the floor does and td-run need not.
const OF_THE_FLOOR: &[(&str, &str)] = &[
    ("execve(\"/bin/true", "the command"),
    ("fcntl(N, F_SETFD", "the trace is left to its inner half"),
    ("close_range(", "the same"),
    ("prctl(PR_SET_NAME", "process 1 has the name of td-init"),
];

/// Every call of td-run that changes something is one of the floor, as often; and the floor makes none beyond them.
pub fn floor_makes_what_td_run_makes(cx: &Cx, place: &Place) -> Result<()> {
    let mut traced = candidates::floor(place, &place.state, &place.plan);
    traced.words.insert(1, "--trace=2".into());
    let (_, trace) = traced.line(&place.bundles, None).prints(cx, &place.log, &[0])?;
    for form in ["usual/separate", "usual/td"] {
        let plan = plan::of(cx, place, form, &place.state)?;
        compare(form, &changes(&plan.trace), &changes(&trace))?;
    }
    Ok(())
}

fn compare(form: &str, td_run: &Calls, floor: &Calls) -> Result<()> {
    let lacks = |has: &Calls, other: &Calls, but: &[(&str, &str)]| {
        let lacks = has.iter().filter_map(|(call, n)| {
            let in_other = other.get(call).copied().unwrap_or(0);
            let excepted = but.iter().any(|(start, _)| call.starts_with(start));
            (*n > in_other && !excepted).then(|| format!("  {n} to {in_other}: {call}"))
        });
        lacks.collect::<Vec<_>>().join("\n")
    };
    let left_out = lacks(td_run, floor, NOT_OF_THE_FLOOR);
    let beyond = lacks(floor, td_run, OF_THE_FLOOR);
    match (left_out.as_str(), beyond.as_str()) {
        ("", "") => Ok(()),
        _ => Err(format!(
            "the floor leaves out what td-run ({form}) does:\n{left_out}\nand does beyond it:\n{beyond}"
        )),
    }
}

/// Calls without what differs from run to run, and how often each was made.
type Calls = BTreeMap<String, usize>;

fn changes(trace: &str) -> Calls {
    let mut calls = Calls::new();
    for line in trace.lines() {
        let line = line
            .strip_prefix("[pid ")
            .and_then(|rest| rest.split_once("] "))
            .map_or(line, |(_, call)| call);
        let Some((call, result)) = line.rsplit_once(" = ") else { continue };
        if !result.starts_with('-') && is_change(call) {
            *calls.entry(plain(call)).or_default() += 1;
        }
    }
    calls
}

fn is_change(call: &str) -> bool {
    let Some((name, args)) = call.split_once('(') else { return false };
    match name {
        "openat" => args.contains("O_CREAT"),
        "fcntl" => !args.contains("F_DUPFD") && !args.contains("F_GETFD"),
        "ioctl" => !args.contains("TIOCG"),
        "prctl" => !args.contains("_READ") && !args.contains("PR_GET"),
        "umask" => false, // the process's own; td-mount restores it
        _ => !LOOKS.contains(&name),
    }
}

/// A call without what differs from run to run: numbers that are neither quoted nor modes, the pid file, and what has
/// a form of its own.
fn plain(call: &str) -> String {
    let (name, args) = call.split_once('(').unwrap_or((call, ""));
    let what = match name {
        "unlinkat" if args.contains("AT_REMOVEDIR") => "a directory",
        "unlinkat" => "a file",
        "execveat" => "a program",
        "open_tree" if args.starts_with("AT_FDCWD") => "a program",
        "seccomp" => "a policy",
        "write" if args.contains("start=") => "the pid file",
        "write" if args.contains("\"...") => "a record",
        _ => "",
    };
    if !what.is_empty() {
        return format!("{name}({what})");
    }
    let mut out = format!("{name}(");
    for (i, part) in args.split('"').enumerate() {
        match i % 2 {
            0 => out += &numberless(part),
            _ => out += &format!("\"{part}\""),
        }
    }
    out
}

fn numberless(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut out = String::new();
    for piece in text.split_inclusive(|c| !is_word(c)) {
        let word = piece.trim_end_matches(|c| !is_word(c));
        let mode =
            word.len() > 1 && word.bytes().all(|b| b.is_ascii_digit()) && word.starts_with('0');
        let number = word.starts_with(|c: char| c.is_ascii_digit()) && !mode;
        out += if number { "N" } else { word };
        out += &piece[word.len()..];
    }
    out
}

/// What a program sees inside of each, and whether the limit of memory holds.
pub fn what_each_does(cx: &Cx, place: &Place, all: &[Candidate]) -> Result<Table> {
    let mut table = Table::new(
        "What each does",
        "As a program sees it that runs inside: namespaces of its own, mounts, the file system of its root, whether a \
         policy and no_new_privs hold, how many capabilities it may have, and whether it is ended when it uses more \
         than the 64 MB that were asked for.",
        &[
            "candidate",
            "namespaces",
            "mounts",
            "root",
            "policy",
            "no_new_privs",
            "capabilities",
            "limit holds",
            "note",
        ],
    );
    for candidate in all {
        let (_, text) =
            candidate.line(&place.bundles, Some("probe")).prints(cx, &place.log, &[42])?;
        let (eaten, _) =
            candidate.line(&place.bundles, Some("eat")).prints(cx, &place.log, &[0, 137])?;
        let row = seen(candidate, &text, eaten == 137)?;
        // Those that do the same share a row, and all ways to run td a name.
        let is_td = ["td-run, ", "chain alone, "].iter().any(|start| row[0].starts_with(start));
        let name =
            if is_td { "td-run and the chain alone, in every way".into() } else { row[0].clone() };
        match table.rows.iter_mut().find(|other| other[1..] == row[1..]) {
            Some(other) if other[0].split("; ").any(|known| known == name) => {}
            Some(other) => other[0] += &format!("; {name}"),
            None => table.rows.push([&[name], &row[1..]].concat()),
        }
    }
    nothing_is_left(place)?;
    Ok(table)
}

/// What a program said of itself.
struct Seen<'a>(&'a str);

impl<'a> Seen<'a> {
    fn values(&self, key: &'a str) -> impl DoubleEndedIterator<Item = &'a str> {
        self.0.lines().filter_map(move |line| line.strip_prefix(key)?.strip_prefix(' '))
    }

    fn one(&self, key: &'a str) -> &'a str {
        self.values(key).next().unwrap_or_default()
    }

    /// The namespaces that are not those of the measurer.
    fn namespaces(&self) -> Vec<&'a str> {
        let own = |kind: &str, ns: &str| {
            fs::read_link(format!("/proc/self/ns/{kind}"))
                .is_ok_and(|link| link.to_str() != Some(ns))
        };
        self.values("ns")
            .filter_map(|ns| ns.split(':').next().filter(|kind| own(kind, ns)))
            .collect()
    }
}

/// A row of the table, of a candidate that has done its work.
fn seen(candidate: &Candidate, text: &str, limited: bool) -> Result<Vec<String>> {
    let seen = Seen(text);
    let (namespaces, mounts) = (seen.namespaces(), seen.values("mount").count());
    let root = seen.values("mount").rev().find_map(|mount| mount.strip_prefix("/ ")).unwrap_or("?");
    let caps = u64::from_str_radix(seen.one("caps"), 16).unwrap_or(0).count_ones();
    let (policy, nnp) = (seen.one("seccomp") == "2", seen.one("nnp") == "1");
    let is_container =
        ["mnt", "pid", "net"].iter().all(|kind| namespaces.contains(kind)) && mounts > 3;
    // Whoever has no excuse in the note does all of it.
    let does_all = limited && nnp && root == "overlay" && caps == 13;
    if !is_container || !policy && candidate.name != OLD || candidate.note.is_empty() && !does_all {
        let name = &candidate.name;
        return Err(format!(
            "{name} did not do its work; a program sees inside:\n{text}limit: {limited}"
        ));
    }
    let yes = |yes: bool| cell(if yes { "yes" } else { "no" });
    let (name, namespaces) = (candidate.name.clone(), namespaces.join(" "));
    let (mounts, caps, note) = (cell(mounts), cell(caps), candidate.note.into());
    Ok(vec![name, namespaces, mounts, root.into(), yes(policy), yes(nnp), caps, yes(limited), note])
}

/// Nothing of a container is left, once it has ended.
pub fn nothing_is_left(place: &Place) -> Result<()> {
    let mut left: Vec<_> = place
        .plan
        .words
        .chunks(2)
        .filter(|pair| pair[0] == "cgroup")
        .map(|pair| pair[1].clone())
        .collect();
    left.extend(
        [&place.state, &place.tmpfs]
            .map(|state| state.join("containers").join(&place.name).display().to_string()),
    );
    left.retain(|path| fs::exists(path).unwrap_or(true));
    if left.is_empty() { Ok(()) } else { Err(format!("this was left: {}", left.join(" "))) }
}
