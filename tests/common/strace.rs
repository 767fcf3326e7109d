//! strace, and its lines and those of `--trace` made comparable: every flag, mode and signal set becomes
//! a number, comments go, and what is left must be equal to the letter.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::process::Command;

use super::{Output, TempDir, run};

/// A system call that a process made.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    pub name: String,
    pub args: Vec<String>,
    /// A number; `-1 ENOENT`; `?` where it did not return.
    pub result: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}({}) = {}", self.name, self.args.join(", "), self.result)
    }
}

/// What strace wrote about one process.
#[derive(Debug)]
pub struct Process {
    pub pid: i32,
    pub calls: Vec<Call>,
}

/// Run a command under `strace -ff` with more options: what it did, and the calls of each process, the
/// first one's first.
#[track_caller]
pub fn strace(options: &[&str], cmd: &Command) -> (Output, Vec<Process>) {
    let dir = TempDir::new();
    let output = run(&mut under_strace(options, cmd, &dir));
    (output, logs(&dir))
}

/// The command that runs `cmd` under `strace -ff`, the logs going into `dir`. What a command does before
/// its exec (`before_exec`) must be asked of the new one.
pub fn under_strace(options: &[&str], cmd: &Command, dir: &TempDir) -> Command {
    let mut strace = Command::new("strace");
    strace.arg("-ff").args(options).arg("-o").arg(dir.join("log")).arg("--");
    strace.arg(cmd.get_program()).args(cmd.get_args());
    for (name, value) in cmd.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    if let Some(dir) = cmd.get_current_dir() {
        strace.current_dir(dir);
    }
    strace
}

/// The logs that strace has left in `dir`, by process, the oldest first.
#[track_caller]
pub fn logs(dir: &TempDir) -> Vec<Process> {
    let mut processes: Vec<Process> = fs::read_dir(dir.path())
        .expect("the directory of the logs")
        .map(|entry| entry.expect("a log").path())
        .filter_map(|path| {
            let pid = path.file_name()?.to_str()?.strip_prefix("log.")?.parse().ok()?;
            let text = String::from_utf8_lossy(&fs::read(&path).ok()?).into_owned();
            Some(Process { pid, calls: calls(&text) })
        })
        .collect();
    assert!(!processes.is_empty(), "strace has written nothing: is it installed, may it trace?");
    // The first process begins with the execve(2) of strace; a pid may be smaller after a wrap.
    processes.sort_by_key(|p| (p.calls.first().is_none_or(|c| c.name != "execve"), p.pid));
    processes
}

/// The calls in a log of strace.
pub fn calls(text: &str) -> Vec<Call> {
    // Signals, and how the process ended.
    let lines = text.lines().filter(|line| !line.starts_with("---") && !line.starts_with("+++"));
    lines.map(call).collect()
}

/// Does a line of the trace separate the step from what is called to find the cause of a failure?
pub fn is_separator(line: &str) -> bool {
    let line = line
        .split_once("] ")
        .filter(|(pid, _)| pid.starts_with("[pid "))
        .map_or(line, |(_, rest)| rest);
    line.starts_with("--- td-") && line.ends_with(" ---")
}

/// The calls in a trace of ours, by the pid that stands before them: 0 for none.
pub fn traced(text: &str) -> BTreeMap<i32, Vec<Call>> {
    let mut processes: BTreeMap<i32, Vec<Call>> = BTreeMap::new();
    // Between the step and what looks for a cause there is a line.
    for line in text.lines().filter(|line| !is_separator(line)) {
        let (pid, line) = match line.strip_prefix("[pid ").and_then(|rest| rest.split_once("] ")) {
            Some((pid, rest)) => (pid.parse().expect("a pid"), rest),
            None => (0, line),
        };
        let calls = processes.entry(pid).or_default();
        match line.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>) = ")) {
            // It failed after all.
            Some((name, result)) => {
                let last = calls.last_mut().filter(|call| call.name == name && call.result == "?");
                last.unwrap_or_else(|| panic!("nothing to resume: {line}")).result =
                    outcome(result);
            }
            None => calls.push(call(line)),
        }
    }
    processes
}

/// The calls that a dry run prints: they have no result.
pub fn dry(text: &str) -> Vec<Call> {
    text.lines().map(call).collect()
}

/// One line.
#[track_caller]
pub fn call(line: &str) -> Call {
    // Two drivers have the number of TCSETS.
    let line = &line.replace("SNDCTL_TMR_START or ", "");
    // Killed in the middle of the call.
    let line = match line.split_once(" <unfinished ...>") {
        Some((start, _)) => format!("{start}) = ?"),
        None => String::from(line),
    };
    let Some((name, rest)) = line.split_once('(') else { panic!("this is no call: {line}") };
    let tokens = tokens(rest);
    let mut depth = 1;
    let end = tokens.iter().position(|token| {
        match token.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    let end = end.unwrap_or_else(|| panic!("this call does not end: {line}"));
    let result: String = tokens[end + 1..].concat();
    let result = result.trim_start().strip_prefix('=').unwrap_or_default();
    let mut args = arguments(&numbers(&sets(&tokens[..end])));
    // strace leaves out flags that openat(2) does not have; on some files it prints a device though there is none.
    args.retain(|arg| !arg.is_empty());
    Call { name: name.to_string(), args, result: outcome(result) }
}

/// A result without the words for it: `-1 ENOENT`, `17`.
fn outcome(text: &str) -> String {
    let text = text.split(" (").next().unwrap_or_default().trim();
    // A flag of fcntl(F_GETFD) and its kin.
    text.split(" /*").next().unwrap_or_default().to_string()
}

/// Strings, words, spaces and single marks. A comment is no token, but for the number of variables of an
/// environment, which is the only thing shown of it.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => string_length(rest),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |at| at + 2),
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        if !token.starts_with("/*") || token.ends_with(" vars */") || token.ends_with(" var */") {
            tokens.push(token.to_string());
        } else if tokens.last().is_some_and(|t| t == " ") {
            tokens.pop();
        }
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// A string with its quotes, and the dots behind one that was cut.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    let end = text[1..].find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    let end = end.map_or(text.len(), |at| at + 2);
    if text[end..].starts_with("...") { end + 3 } else { end }
}

/// `[CHLD TERM]` and `~[KILL STOP]` as numbers.
fn sets(tokens: &[String]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut i = 0;
    while let Some(token) = tokens.get(i) {
        let inverted = token == "~";
        let open = if inverted { i + 1 } else { i };
        let length = || tokens[open..].iter().position(|t| t == "]");
        let opens = tokens.get(open).is_some_and(|t| t == "[");
        let found = opens.then(length).flatten().and_then(|length| {
            let set = set(&tokens[open + 1..open + length])?;
            (inverted || set != 0).then_some((set, length))
        });
        match found {
            Some((set, length)) => {
                out.push(format!("{}", if inverted { !set } else { set }));
                i = open + length + 1;
            }
            None => {
                out.push(token.clone());
                i += 1;
            }
        }
    }
    out
}

fn set(tokens: &[String]) -> Option<u64> {
    let names = tokens.iter().filter(|t| t.trim() != "");
    names.map(|name| signal(name).map(|n| 1 << (n - 1))).sum()
}

fn signal(name: &str) -> Option<u64> {
    match name {
        "RTMIN" => Some(32),
        _ => match name.strip_prefix("RT_") {
            Some(n) => n.parse::<u64>().ok().map(|n| 32 + n),
            None => value(&format!("SIG{name}")),
        },
    }
}

/// Names and sums of bits as one number: `A|B`, `S_IFDIR|0755`, `1<<CAP_KILL|1<<CAP_CHOWN`, `8*1024`.
fn numbers(tokens: &[String]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let (number, next) = sum(tokens, i);
        match number {
            // The name of a field, and of makedev(), is no value.
            Some(number) if !tokens.get(next).is_some_and(|t| t == "=" || t == "(") => {
                out.push(number.to_string());
                i = next;
            }
            _ => {
                out.push(tokens[i].clone());
                i += 1;
            }
        }
    }
    out
}

fn sum(tokens: &[String], start: usize) -> (Option<u64>, usize) {
    let (mut total, mut next) = product(tokens, start);
    while total.is_some() && tokens.get(next).is_some_and(|t| t == "|") {
        let (more, after) = product(tokens, next + 1);
        total = total.zip(more).map(|(a, b)| a | b);
        next = after;
    }
    (total, next)
}

fn product(tokens: &[String], start: usize) -> (Option<u64>, usize) {
    let at = |i: usize| tokens.get(i).map(String::as_str);
    let number = |i: usize| at(i).and_then(value);
    match (at(start + 1), at(start + 2)) {
        (Some("<"), Some("<")) => {
            (number(start).zip(number(start + 3)).map(|(a, b)| a << b), start + 4)
        }
        (Some("*"), _) => (number(start).zip(number(start + 2)).map(|(a, b)| a * b), start + 3),
        _ => (number(start), start + 1),
    }
}

/// The value of a name or of a number.
fn value(word: &str) -> Option<u64> {
    if let Some(digits) = word.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok();
    }
    if word.len() > 1 && word.starts_with('0') {
        return u64::from_str_radix(word, 8).ok();
    }
    word.parse().ok().or_else(|| {
        let ours = td::say::flags::ALL.iter().flat_map(|table| table.iter());
        ours.chain(OTHERS.iter().copied()).find(|(_, name)| *name == word).map(|(value, _)| value)
    })
}

/// Names that stand in no table of td.
const OTHERS: &[(u64, &str)] = &[
    (libc::AT_FDCWD as u64, "AT_FDCWD"),
    (0, "O_RDONLY"),
    (0, "SIG_DFL"),
    (1, "SIG_IGN"),
    (u64::MAX, "RLIM64_INFINITY"),
    (td::say::flags::CLONE_INTO_CGROUP, "CLONE_INTO_CGROUP"),
    (0, "AT_STATX_SYNC_AS_STAT"),
    (libc::ICRNL as u64, "ICRNL"),
    (libc::IXON as u64, "IXON"),
    (0, "NL0"),
    (0, "CR0"),
    (0, "TAB0"),
    (0, "BS0"),
    (0, "VT0"),
    (0, "FF0"),
    (libc::OPOST as u64, "OPOST"),
    (libc::ONLCR as u64, "ONLCR"),
    (libc::B38400 as u64, "B38400"),
    (libc::CS8 as u64, "CS8"),
    (libc::CREAD as u64, "CREAD"),
    (libc::ISIG as u64, "ISIG"),
    (libc::ICANON as u64, "ICANON"),
    (libc::ECHOE as u64, "ECHOE"),
    (libc::ECHOK as u64, "ECHOK"),
    (libc::IEXTEN as u64, "IEXTEN"),
    (libc::ECHOCTL as u64, "ECHOCTL"),
    (libc::ECHOKE as u64, "ECHOKE"),
    (0, "SI_USER"),
    (0x80, "SI_KERNEL"),
    (u64::MAX, "SI_QUEUE"),
    (1, "CLD_EXITED"),
    (2, "CLD_KILLED"),
    (3, "CLD_DUMPED"),
    (0x8000, "O_LARGEFILE"),
    (libc::S_ISUID as u64, "S_ISUID"),
    (libc::S_ISGID as u64, "S_ISGID"),
    (libc::S_ISVTX as u64, "S_ISVTX"),
    (libc::OVERLAYFS_SUPER_MAGIC as u64, "OVERLAYFS_SUPER_MAGIC"),
    (libc::TMPFS_MAGIC as u64, "TMPFS_MAGIC"),
    (libc::PROC_SUPER_MAGIC as u64, "PROC_SUPER_MAGIC"),
    (libc::CGROUP_SUPER_MAGIC as u64, "CGROUP_SUPER_MAGIC"),
    (libc::CGROUP2_SUPER_MAGIC as u64, "CGROUP2_SUPER_MAGIC"),
    (libc::XFS_SUPER_MAGIC as u64, "XFS_SUPER_MAGIC"),
    (libc::BTRFS_SUPER_MAGIC as u64, "BTRFS_SUPER_MAGIC"),
    (libc::NFS_SUPER_MAGIC as u64, "NFS_SUPER_MAGIC"),
    (libc::FUSE_SUPER_MAGIC as u64, "FUSE_SUPER_MAGIC"),
    (1, "ST_RDONLY"),
    (2, "ST_NOSUID"),
    (4, "ST_NODEV"),
    (8, "ST_NOEXEC"),
    (0x10, "ST_SYNCHRONOUS"),
    (0x20, "ST_VALID"),
    (0x40, "ST_MANDLOCK"),
    (0x400, "ST_NOATIME"),
    (0x800, "ST_NODIRATIME"),
    (0x1000, "ST_RELATIME"),
    (0x2000, "ST_NOSYMFOLLOW"),
    (0x1cd1, "DEVPTS_SUPER_MAGIC"),
    (0xef53, "EXT2_SUPER_MAGIC"),
    (0x6265_6572, "SYSFS_MAGIC"),
    (0x6e73_6673, "NSFS_MAGIC"),
    (0x5049_5045, "PIPEFS_MAGIC"),
    (0x8584_58f6, "RAMFS_MAGIC"),
    (0x7371_7368, "SQUASHFS_MAGIC"),
];

/// The arguments, split at the commas between them.
fn arguments(tokens: &[String]) -> Vec<String> {
    let mut args = vec![String::new()];
    let mut depth = 0;
    for token in tokens {
        match token.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            "," if depth == 0 => {
                args.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(arg) = args.last_mut() {
            arg.push_str(token);
        }
    }
    args.into_iter().map(|arg| arg.trim().to_string()).collect()
}

// ---- what is compared ----

/// Is the call one of the C library's start and of its memory, or close(2)? These are in no trace.
pub fn is_run_time(call: &Call) -> bool {
    const CALLS: [&str; 9] = [
        "arch_prctl",
        "brk",
        "close",
        "madvise",
        "mmap",
        "mprotect",
        "mremap",
        "munmap",
        "set_tid_address",
    ];
    CALLS.contains(&call.name.as_str())
}

/// Does it only look? What is not known here is taken for a change.
pub fn only_looks(call: &Call) -> bool {
    let arg = |i: usize| call.args.get(i).map(String::as_str).unwrap_or_default();
    let is = |i: usize, name: &str| arg(i) == value(name).expect(name).to_string();
    match call.name.as_str() {
        "read" | "pread64" | "readlinkat" | "statx" | "fstatfs" | "statfs" | "faccessat2"
        | "getdents64" | "getcwd" => true,
        "getpid" | "getppid" | "getpgid" | "getsid" | "pidfd_open" | "ppoll" | "wait4"
        | "capget" => true,
        // What a process does with its own signals and umask is given back before PROG.
        "rt_sigprocmask" | "rt_sigaction" | "rt_sigtimedwait" | "umask" => true,
        "openat" => {
            let flags: i32 = arg(2).parse().expect("flags");
            flags & (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC) == libc::O_RDONLY
        }
        "openat2" => !arg(2).contains("mode="),
        "prctl" => is(0, "PR_GET_PDEATHSIG") || is(0, "PR_CAPBSET_READ"),
        "prlimit64" => arg(2) == "NULL",
        // A descriptor of its own, which a dry run has too, so that it prints the right number.
        "fcntl" => {
            is(1, "F_GETFD") || is(1, "F_GETLK") || is(1, "F_DUPFD") || is(1, "F_DUPFD_CLOEXEC")
        }
        "ioctl" => {
            let looks = [
                "NS_GET_USERNS",
                "NS_GET_NSTYPE",
                "SIOCGIFFLAGS",
                "TIOCGSID",
                "TIOCGETD",
                "TIOCGWINSZ",
                "TCGETS",
            ];
            looks.iter().any(|request| is(1, request))
        }
        _ => false,
    }
}

/// The program that a successful execve(2) or execveat(2) executed: the last part of its path, or, of a
/// file without one, its first argument.
pub fn executed(call: &Call) -> Option<String> {
    if !call.name.starts_with("execve") || call.result.starts_with('-') {
        return None;
    }
    let text = call.args.iter().find(|arg| arg.len() > 2 && arg.starts_with(['"', '[']))?;
    let path = text.split('"').nth(1)?;
    Some(path.rsplit('/').next()?.to_string())
}

/// Does it write to this descriptor?
pub fn writes_to(call: &Call, fd: i32) -> bool {
    call.name == "write" && call.args.first() == Some(&fd.to_string())
}

/// Is it what a tool says on standard error, which is no part of its step? On a terminal the end of a line has a
/// write(2) of its own.
fn is_message(call: &Call) -> bool {
    writes_to(call, 2) && (call.args[1].starts_with("\"td-") || call.args[1] == "\"\\n\"")
}

/// Does it look how much of a text can be written at once? That is no part of the step either.
pub fn looks_for_room(call: &Call, fd: i32) -> bool {
    let arg = |i: usize| call.args.get(i).map(String::as_str).unwrap_or_default();
    let is = |i: usize, name: &str| arg(i) == value(name).expect(name).to_string();
    match call.name.as_str() {
        "ppoll" => arg(0).contains(&format!("events={}", libc::POLLOUT)) && arg(1) == "1",
        "ioctl" => is(1, "TCGETS") && [2, fd].iter().any(|fd| arg(0) == fd.to_string()),
        _ => false,
    }
}

/// Of a log of strace, what a trace on descriptor `fd` has: up to the first PROG that is no tool of
/// ours.
pub fn comparable(process: &Process, fd: i32) -> Vec<Call> {
    let mut calls = Vec::new();
    // The program that strace itself executed could not be traced.
    let begun = process.calls.first().is_some_and(|call| executed(call).is_some());
    for call in process.calls.iter().skip(begun.into()) {
        if is_run_time(call) || writes_to(call, fd) || is_message(call) || looks_for_room(call, fd)
        {
            continue;
        }
        let mut call = call.clone();
        let program = executed(&call);
        if program.is_some() {
            call.result = String::from("?"); // nobody is left to print a result
        }
        calls.push(call);
        if program.is_some_and(|name| !(name == "td" || name == "exe" || name.starts_with("td-"))) {
            break;
        }
    }
    calls
}

/// Are they the same call? Where ours leaves something out it says so by `...`: then what it shows of the
/// structure must be in strace's.
pub fn same(ours: &Call, strace: &Call) -> bool {
    let same_arg = |(ours, strace): (&String, &String)| match ours.strip_suffix(", ...}") {
        Some(shown) if !strace.ends_with(", ...}") => strace.starts_with(&format!("{shown}, ")),
        _ => ours == strace,
    };
    ours.name == strace.name
        && ours.result == strace.result
        && ours.args.len() == strace.args.len()
        && ours.args.iter().zip(&strace.args).all(same_arg)
}

/// Fail, with the first difference, unless the trace has the calls of strace in the same order.
#[track_caller]
pub fn assert_same(what: &str, ours: &[Call], strace: &[Call]) {
    assert!(!ours.is_empty(), "{what}: the trace is empty");
    assert!(!strace.is_empty(), "{what}: strace has no call");
    for i in 0..ours.len().max(strace.len()) {
        let (a, b) = (ours.get(i), strace.get(i));
        if a.zip(b).is_some_and(|(a, b)| same(a, b)) {
            continue;
        }
        let show = |call: Option<&Call>| call.map_or(String::from("(no more)"), Call::to_string);
        let before = i.checked_sub(1).and_then(|i| ours.get(i));
        panic!(
            "{what}: call {i} differs\n after: {}\n trace: {}\nstrace: {}",
            show(before),
            show(a),
            show(b)
        );
    }
}
