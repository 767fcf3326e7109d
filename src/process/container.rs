//! A container of td-run, found by its name in a state: which process is its process 1, and what that may do.
//!
//! Root may ask for the state of another user. Then root trusts that user, and nobody else, to say what the user's own
//! container is: no link is followed on the way to a file, and process 1 must be in a user namespace of that user.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;

use syscalls::Errno;

use crate::ids::caps::{self, CAP_SETGID, CAP_SETUID};
use crate::ids::policy::{self, Confinement};
use crate::ids::user_namespace;
use crate::process::join::USER;
use crate::process::lock;
use crate::process::pid_file::{self, Named};
use crate::process::prog;
use crate::process::session;
use crate::process::target::{Target, field, hexadecimal, number};
use crate::root::directories::Place;
use crate::root::mountinfo;
use crate::say::error::Error;
use crate::say::flags;
use crate::say::show::plain;
use crate::say::text::split;
use crate::sys::proc::{self, path};
use crate::sys::{self, Cx, cstring};

/// A container as process 1 of it shows it.
pub struct Container {
    /// The owner, a gid and a uid, if that is not the caller.
    pub owner: Option<[u32; 2]>,
    /// What process 1 and all that it has made can have: its bounding set.
    pub capabilities: u64,
    pub no_new_privs: bool,
    /// Which system calls its processes may make.
    pub policy: Option<Confinement>,
    /// The environment of the command, which is the container's: for a process of the container alone.
    pub environment: Vec<CString>,
}

/// For how long a container may still be set up, and between two looks, in nanoseconds.
const TIMEOUT: i64 = 2_000_000_000;
const INTERVAL: i64 = 10_000_000;

/// All that can be blocked, which is not KILL and STOP.
const EVERY_SIGNAL: u64 = !(1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1));

/// Larger environments and policies are refused: their owner controls their content.
const LARGEST: usize = 1 << 20;

impl Container {
    /// Find the container `name` of the state in the directory `state`, and its process 1.
    pub fn find(cx: &Cx, state: &CStr, name: &CStr) -> Result<(Target, Container), Error> {
        let state = State::new(cx, state, name)?;
        let first = state.first(cx)?;
        state.has(cx, &first)?;
        let command = set_up(cx, &first, &state.shown)?;
        // They are final only from here on.
        let status = first.read(cx, c"status")?;
        let capabilities = hexadecimal(field(&status, b"CapBnd:"));
        let no_new_privs = field(&status, b"NoNewPrivs:") == b"1";
        // If the command runs as another user than PROG will, that user must not choose the PATH of PROG, nor the
        // libraries that it loads.
        let ids = user_namespace::smallest_mapped(&first.read(cx, c"uid_map")?);
        let environment = match ids {
            Some([_, uid]) if command.is_of(cx, uid)? => environment(cx, &command)?,
            _ => vec![path(&["PATH=", prog::DEFAULT_PATH])],
        };
        let owner = state.is_anothers(cx).then_some([state.group, state.owner]);
        let policy = state.policy(cx, no_new_privs)?;
        Ok((first, Container { owner, capabilities, no_new_privs, policy, environment }))
    }

    /// Keep only the rights of its processes, and those that are needed until PROG starts.
    pub fn confine(&self, cx: &Cx) -> Result<(), Error> {
        session::join_keyring(cx)?;
        caps::bound(cx, self.capabilities)?;
        if self.no_new_privs {
            sys::prctl_set_no_new_privs(cx)?;
        }
        self.policy.as_ref().map_or(Ok(()), |policy| policy.load_before_ids(cx))?;
        keep(cx, self.capabilities | 1 << CAP_SETGID | 1 << CAP_SETUID)
    }

    /// The last of that, when the ids are those of PROG.
    pub fn keep_capabilities(&self, cx: &Cx) -> Result<(), Error> {
        keep(cx, self.capabilities)
    }
}

/// The state directory, where td-run has it.
pub fn usual_state(cx: &Cx) -> Result<CString, Error> {
    let variable = |name| cx.getenv(name).filter(|value| !value.is_empty());
    match (variable("XDG_DATA_HOME"), variable("HOME")) {
        _ if cx.start.euid == 0 => Ok(c"/var/lib/td".into()),
        (Some(data), _) => Ok(cstring([&data[..], b"/td"].concat())),
        (None, Some(home)) => Ok(cstring([&home[..], b"/.local/share/td"].concat())),
        (None, None) => {
            let what = "HOME is not set, so the directory of the containers is not known";
            Err(Error::refusal(what).way_out("name it: --state DIR"))
        }
    }
}

/// Of our capabilities keep only these.
fn keep(cx: &Cx, capabilities: u64) -> Result<(), Error> {
    // A user namespace gives all, and a dry run has joined none.
    let all = flags::CAPS.iter().fold(0, |all, (cap, _)| all | 1 << cap);
    let held = if cx.dry() { all } else { sys::capget(cx)?.permitted() };
    caps::set(cx, held & capabilities, false)
}

/// What a state has of a container.
struct State<'a> {
    path: &'a CStr,
    name: &'a CStr,
    /// The user who is trusted there, and a group of that user.
    owner: u32,
    group: u32,
    /// The container's directory, for messages.
    shown: String,
}

impl<'a> State<'a> {
    fn new(cx: &Cx, path: &'a CStr, name: &'a CStr) -> Result<State<'a>, Error> {
        let shown = plain(&[path.to_bytes(), b"/containers/", name.to_bytes()].concat());
        let stat = match sys::statx(cx, None, path, 0) {
            Err(e) if e.is(Errno::ENOENT) => return Err(e.because(is_missing(&shown))),
            other => other?,
        };
        let is_root = cx.start.euid == 0;
        let owner = if is_root { stat.uid } else { cx.start.euid };
        Ok(State { path, name, owner, group: stat.gid, shown })
    }

    /// Is it of a user, and root asks?
    fn is_anothers(&self, cx: &Cx) -> bool {
        self.owner != cx.start.euid
    }

    /// A file below the state. `None`: its directory does not exist.
    fn file(&self, cx: &Cx, parts: &[&[u8]]) -> Result<Option<Place>, Error> {
        let path = cstring([self.path.to_bytes(), &parts.concat()].concat());
        Place::find_of(cx, self.owner, Some(self.path), &path)
    }

    /// Who holds the lock of its name: see [`lock::holder`].
    fn holder(&self, cx: &Cx) -> Result<Option<i32>, Error> {
        let file = self.file(cx, &[b"/lock"])?;
        file.map_or(Ok(None), |file| lock::holder(cx, &file, self.name))
    }

    /// Find process 1. What is not there while somebody holds the lock may still be set up.
    fn first(&self, cx: &Cx) -> Result<Target, Error> {
        let mut left = TIMEOUT;
        loop {
            let error = match self.named(cx) {
                Err(e) => e,
                found => return found,
            };
            if self.holder(cx)?.is_none() {
                return Err(
                    error.because(format_args!("the container {} is not running", self.shown))
                );
            }
            if left <= 0 || cx.dry() {
                return Err(error);
            }
            left -= INTERVAL;
            sys::sleep(cx, INTERVAL)?;
        }
    }

    /// The process that the pid file names, if it is still the same process, is process 1 of a pid namespace, and its
    /// parent holds the lock.
    fn named(&self, cx: &Cx) -> Result<Target, Error> {
        let shown = [&self.shown, "/pid"].concat();
        let Some(file) = self.file(cx, &[b"/containers/", self.name.to_bytes(), b"/pid"])? else {
            return Err(Error::refusal(is_missing(&self.shown)));
        };
        let text = file.read(cx, pid_file::LARGEST)?.and_then(|text| Named::parse(&text));
        let Some(Named { pid, start }) = text else {
            return Err(Error::refusal([&shown, " is not a pid file"].concat()));
        };
        let Some(start) = start else {
            let what = format!("{shown} does not say when process {pid} started");
            return Err(Error::refusal(what)
                .because("so another process may have that pid by now")
                .way_out(format_args!(
                    "if it is process 1 of the container, enter it: --target {pid}"
                )));
        };
        let first = Target::open(cx, pid)?;
        if proc::stat_field(&first.read(cx, c"stat")?, 22) != Some(start) {
            let what =
                format!("process {pid} is not the process that {shown} names, which has ended");
            return Err(Error::refusal(what));
        }
        let status = first.read(cx, c"status")?;
        let mut pids = field(&status, b"NSpid:").split(|b| *b == b'\t').rev();
        if pids.next() != Some(b"1") || pids.next().is_none() {
            return Err(Error::refusal(format_args!(
                "process {pid} is not process 1 of a container"
            )));
        }
        // The order matters: as long as a process has a parent, the parent keeps its pid.
        self.is_locked_by(cx, number(field(&status, b"PPid:")), pid)?;
        first.lives(cx).map(|()| first)
    }

    /// Is the lock held by the parent of process `pid`? (Of one in another pid namespace there is no pid.)
    fn is_locked_by(&self, cx: &Cx, parent: Option<i32>, pid: i32) -> Result<(), Error> {
        let name = plain(self.name.to_bytes());
        match self.holder(cx)? {
            Some(holder) if Some(holder) == parent => Ok(()),
            None => Err(Error::refusal(format_args!("no process holds the lock of {name}"))),
            Some(holder) => {
                let what = lock::why(cx, &["the name ", &name].concat(), holder);
                let why = format!("which is not the parent of process {pid}");
                Err(Error::refusal(what).because(why))
            }
        }
    }

    /// The policy that td-exec has left, compiled, checked for what is left to do under it. `None`: the file is empty,
    /// for the container has no policy.
    fn policy(&self, cx: &Cx, no_new_privs: bool) -> Result<Option<Confinement>, Error> {
        let shown = [&self.shown, "/run/policy"].concat();
        let file = self.file(cx, &[b"/containers/", self.name.to_bytes(), b"/run/policy"])?;
        let read = match file.map(|file| file.read(cx, LARGEST)) {
            Some(Err(e)) if !e.is(Errno::ENOENT) => return Err(e),
            Some(Ok(bytes)) => bytes,
            _ => {
                let what = [&shown, " does not exist: the policy of the container is not known"];
                return Err(Error::refusal(what.concat()));
            }
        };
        let bytes = read.ok_or_else(|| {
            Error::refusal([&shown, " is not a regular file of at most 1048576 bytes"].concat())
        })?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let policy = Confinement::of(policy::compiled(&shown, &bytes)?, no_new_privs)?;
        policy.check_entry().map(|()| Some(policy))
    }

    /// Is the process in a user namespace of the owner of the state? A user's state must not lead root to a process of
    /// another user.
    fn has(&self, cx: &Cx, first: &Target) -> Result<(), Error> {
        if !self.is_anothers(cx) {
            return Ok(());
        }
        let (pid, owner) = (first.pid, self.owner);
        let what = match first.others(cx, USER)? {
            0 => format!("process {pid} is in the caller's user namespace"),
            _ => {
                let namespace = first.open_file(cx, c"ns/user")?;
                match sys::ns_get_owner_uid(cx, namespace.as_fd())? {
                    uid if uid == owner => return Ok(()),
                    uid => format!("process {pid} is in a user namespace of uid {uid}"),
                }
            }
        };
        Err(Error::refusal(what).because(format_args!(
            "so it does not belong to a container of uid {owner}, the owner of the state directory"
        )))
    }
}

fn is_missing(shown: &str) -> String {
    ["the container ", shown, " does not exist"].concat()
}

/// Wait until the container is set up. Returns its command.
fn set_up(cx: &Cx, first: &Target, shown: &str) -> Result<Target, Error> {
    let mut left = TIMEOUT;
    loop {
        let found = command(cx, first);
        first.lives(cx)?;
        match found {
            Ok(Some(command)) => return Ok(command),
            // In a dry run nothing happens meanwhile. While it changes its ids, nobody may look at it.
            found if left <= 0 || cx.dry() => {
                found?;
                let what = ["the container ", shown, " is still being set up"];
                return Err(Error::refusal(what.concat()));
            }
            _ => left -= INTERVAL,
        }
        sys::sleep(cx, INTERVAL)?;
    }
}

/// The container's command, if that has begun. Until then process 1, and the child of it that becomes
/// the command, run tools of td.
fn command(cx: &Cx, first: &Target) -> Result<Option<Target>, Error> {
    if first.stat(cx, c"root")?.same_file(&sys::statx(cx, None, c"/", 0)?) {
        return Ok(None); // before pivot_root(2)
    }
    // Without td-init it is process 1 itself. That has every signal blocked until the last tool executes
    // it (td-unshare --pid), long after pivot_root(2), and a tool is then in no mount of the container.
    let blocked = hexadecimal(field(&first.read(cx, c"status")?, b"SigBlk:"));
    let program = first.stat(cx, c"exe")?;
    let mounts = mountinfo::parse(first.read(cx, c"mountinfo")?.leak());
    if blocked != EVERY_SIGNAL && mounts.iter().any(|mount| mount.id == program.mnt_id) {
        let command = Target::open(cx, first.pid)?;
        return Ok(command.is_executed(cx)?.then_some(command));
    }
    let children = first.read(cx, &path(&["task/", &first.pid.to_string(), "/children"]))?;
    let Some(child) = number(split(&children, b' ').next().unwrap_or_default()) else {
        return Ok(None);
    };
    let child = Target::open(cx, child)?;
    // Is it still the child, and no other process with its pid?
    let parent = number(field(&child.read(cx, c"status")?, b"PPid:"));
    let began = !child.stat(cx, c"exe")?.same_file(&program) && child.is_executed(cx)?;
    Ok((began && parent == Some(first.pid)).then_some(child))
}

/// The environment that a process shows, of which it can make anything.
fn environment(cx: &Cx, command: &Target) -> Result<Vec<CString>, Error> {
    let file = command.open_file(cx, c"environ")?;
    let (mut text, mut block) = (Vec::new(), [0; 4096]);
    loop {
        match sys::read(cx, file.as_fd(), &mut block)? {
            0 => break,
            n => text.extend_from_slice(block.get(..n).unwrap_or_default()),
        }
        if text.len() > LARGEST {
            let pid = command.pid.to_string();
            return Err(Error::refusal(format_args!(
                "the environment of process {pid} has more than 1048576 bytes"
            )));
        }
    }
    let variables = text.split(|b| *b == 0).filter(|v| v.iter().skip(1).any(|b| *b == b'='));
    Ok(variables.filter_map(|variable| CString::new(variable).ok()).collect())
}
