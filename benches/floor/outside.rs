//! What td-lock, td-cgroup and td-unshare do, and the process outside that waits.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use libc::{
    O_DIRECTORY, O_EXCL, O_NOCTTY, O_NOFOLLOW, O_NONBLOCK, O_PATH, O_RDONLY, O_RDWR, O_WRONLY,
};
use td::say::error::Error;
use td::say::show;
use td::sys::structs::{Flock, IfReq, SigSet};
use td::sys::{self, Cx, proc};

use crate::{Asked, remove, root};

/// The directories of the container, and what is open of its state.
pub struct Place {
    pub containers: OwnedFd,
    pub dir: OwnedFd,
    pub run: OwnedFd,
    pub record: OwnedFd,
    _lock: OwnedFd,
}

/// What the two processes say to each other.
struct Pair {
    sync: (OwnedFd, OwnedFd),
    ready: (OwnedFd, OwnedFd),
    parent: OwnedFd,
    policy: OwnedFd,
}

pub fn run(cx: &Cx, asked: &Asked) -> Result<u8, Error> {
    let place = asked.state.map(|state| place(cx, asked, state)).transpose()?;
    for (word, path) in &asked.words {
        match (*word, word.strip_prefix(b"write ")) {
            (b"cgroup", _) => sys::mkdirat(cx, None, path, 0o755)?,
            (_, Some(value)) => sys::write_file(cx, None, path, value)?,
            _ => {}
        }
    }
    let tasks = asked.paths(b"tasks").map(|file| sys::openat(cx, None, file, O_WRONLY));
    let tasks = tasks.collect::<Result<Vec<_>, _>>()?;
    let into = asked.paths(b"into").next();
    let into =
        into.map(|cgroup| sys::openat(cx, None, cgroup, O_RDONLY | O_DIRECTORY)).transpose()?;
    let pair = Pair {
        policy: sys::openat(cx, None, asked.policy, O_RDONLY)?,
        sync: sys::socketpair(cx, 0)?,
        parent: sys::pidfd_open(cx, sys::getpid(cx)?)?,
        ready: sys::socketpair(cx, libc::SOCK_NONBLOCK)?,
    };
    sys::rt_sigprocmask(cx, libc::SIG_BLOCK, SigSet::ALL)?;
    // A cgroup of version 1 is entered by the child, and its namespace is made after that.
    let late = if place.is_some() { 0 } else { libc::CLONE_NEWCGROUP };
    let kinds = libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWPID;
    let bits = (kinds | libc::CLONE_NEWNET | late) as u64;
    match sys::clone3(cx, bits, into.as_ref().map(AsFd::as_fd))? {
        0 => child(cx, asked, place.as_ref(), &pair, &tasks),
        pid => parent(cx, asked, place, pair, pid),
    }
}

/// The lock, the directories and the record.
fn place(cx: &Cx, asked: &Asked, state: &CStr) -> Result<Place, Error> {
    let state = sys::openat(cx, None, state, O_PATH | O_DIRECTORY)?;
    let flags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
    let lock = sys::openat_create(cx, Some(state.as_fd()), c"lock", flags, 0o600)?;
    sys::fcntl_setlk(cx, lock.as_fd(), false, &Flock::new(libc::F_WRLCK, 1, 1))?;
    let flags = O_PATH | O_DIRECTORY | O_NOFOLLOW;
    let containers = sys::openat(cx, Some(state.as_fd()), c"containers", flags)?;
    let dir = make_dir(cx, containers.as_fd(), asked.name)?;
    let new = |dir: &OwnedFd, name| {
        let flags = O_WRONLY | O_NOFOLLOW | O_EXCL;
        sys::openat_create(cx, Some(dir.as_fd()), name, flags, 0o600)
    };
    let cgroups = asked.paths(b"record").next().unwrap_or_default();
    sys::write(cx, new(&dir, c"cgroups")?.as_fd(), cgroups.to_bytes())?;
    let run = make_dir(cx, dir.as_fd(), c"run")?;
    let record = new(&run, c"policy")?;
    Ok(Place { containers, dir, run, record, _lock: lock })
}

/// A directory that is ours alone, whatever the umask and the access control list above it say.
pub fn make_dir(cx: &Cx, at: BorrowedFd, name: &CStr) -> Result<OwnedFd, Error> {
    sys::mkdirat(cx, Some(at), name, 0o700)?;
    let dir = sys::openat(cx, Some(at), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)?;
    sys::fchmod(cx, dir.as_fd(), 0o700)?;
    Ok(dir)
}

/// Process 1, up to its root.
fn child(
    cx: &Cx,
    asked: &Asked,
    place: Option<&Place>,
    pair: &Pair,
    tasks: &[OwnedFd],
) -> Result<u8, Error> {
    sys::prctl_set_pdeathsig(cx, libc::SIGKILL)?;
    if sys::readable(cx, pair.parent.as_fd())? {
        return Err(Error::refusal("the parent has ended"));
    }
    for file in tasks {
        sys::write(cx, file.as_fd(), b"0")?;
    }
    if place.is_some() {
        sys::unshare(cx, libc::CLONE_NEWCGROUP as u64)?;
    }
    sys::mount(cx, None, c"/", None, libc::MS_REC | libc::MS_PRIVATE, None)?;
    sys::sethostname(cx, asked.name.to_bytes())?;
    let socket = sys::socket_inet(cx)?;
    sys::set_interface_flags(cx, socket.as_fd(), &IfReq::LOOPBACK_UP)?;
    sys::sendto(cx, pair.sync.1.as_fd(), b"1")?;
    sys::read(cx, pair.sync.1.as_fd(), &mut [0])?;
    root::enter(cx, asked, place, &[&pair.parent, &pair.ready.1, &pair.policy])
}

/// The parent: the pid file, the end of the child, and the removal of what was made.
fn parent(cx: &Cx, asked: &Asked, place: Option<Place>, pair: Pair, pid: i32) -> Result<u8, Error> {
    let Pair { sync, ready, .. } = pair;
    drop((sync.1, ready.1));
    sys::read(cx, sync.0.as_fd(), &mut [0])?;
    if let Some(place) = &place {
        write_pid(cx, place.dir.as_fd(), pid)?;
    }
    sys::sendto(cx, sync.0.as_fd(), b"1")?;
    let status = loop {
        sys::rt_sigtimedwait(cx, SigSet::ALL)?;
        match sys::wait4(cx, -1, libc::WNOHANG)? {
            (0, _) => {}
            (_, status) => break status.exit_status(),
        }
    };
    let ran = sys::read(cx, ready.0.as_fd(), &mut [0])?;
    if let Some(place) = &place {
        remove::all(cx, asked, place)?;
    }
    match ran {
        0 => Err(Error::refusal("COMMAND was not executed")),
        _ => Ok(status),
    }
}

/// The pid file, with the time at which the process began.
fn write_pid(cx: &Cx, dir: BorrowedFd, pid: i32) -> Result<(), Error> {
    let pid = show::number(pid as u64);
    let stat = sys::read_file(cx, None, &proc::path(&["/proc/", &pid, "/stat"]))?;
    let start = show::number(proc::stat_field(&stat, 22).unwrap_or(0));
    sys::mknodat(cx, Some(dir), c"pid.new", libc::S_IFREG | 0o644, 0)?;
    let file = sys::openat(cx, Some(dir), c"pid.new", O_WRONLY)?;
    sys::write(cx, file.as_fd(), [&pid, "\nstart=", &start, "\n"].concat().as_bytes())?;
    sys::renameat2(cx, dir, c"pid.new", dir, c"pid", 0)
}
