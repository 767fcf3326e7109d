//! td-lock: hold a lock on FILE for as long as PROG runs, and become PROG.
#![no_main]

const HELP: &str = "\
usage: td-lock [OPTION]... FILE PROG [ARG]...

Lock FILE, which is made where it is missing, and become PROG, whose process
holds the lock until it ends; its children do not. Where another process has
the lock, end with 125 and its pid, and do not execute PROG.

  -s, --shared         let others have it that ask for a shared lock too
      --wait[=SECONDS] wait until it is free, or so long (as 0.5)
  -w SECONDS           the same as --wait=SECONDS
  -E, --conflict-exit-code N  end with N in place of 125 where another has it
      --key WORD       lock only what stands for WORD in FILE: one file serves
                       for many names, and nothing of a name is left in it
      --mkdir          make the directory of FILE where it is missing
";

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use syscalls::Errno;
use td::chain::{self, Prog};
use td::cli::{Cli, Never};
use td::directories::{self, Made, Place};
use td::error::{Error, FAILED};
use td::show::plain;
use td::structs::{Flock, Statx};
use td::sys::{self, Cx};
use td::{flags, lock};

td::step!(HELP, parse, apply);

struct Opts {
    shared: bool,
    /// For how many nanoseconds it is waited for. `None`: for ever.
    wait: Option<i64>,
    conflict: u8,
    key: Option<CString>,
    mkdir: bool,
    file: CString,
    prog: Prog,
}

fn parse(cli: &mut Cli) -> Result<Opts, Error> {
    let (mut shared, mut wait, mut conflict) = (false, Some(0), FAILED);
    let (mut key, mut mkdir) = (None, false);
    while let Some(option) = cli.option()? {
        match option.as_str() {
            "-s" | "--shared" => shared = true,
            "--wait" => wait = cli.optional_nanoseconds()?,
            "-w" => {
                let seconds = cli.value()?;
                wait = Some(cli.nanoseconds(&seconds)?);
            }
            "-E" | "--conflict-exit-code" => conflict = status(cli)?,
            "--key" => key = Some(cli.path()?),
            "--mkdir" => mkdir = true,
            _ => return Err(cli.unknown(&option)),
        }
    }
    let file = cli.operand("FILE")?;
    Ok(Opts { shared, wait, conflict, key, mkdir, file, prog: cli.prog()? })
}

fn status(cli: &mut Cli) -> Result<u8, Error> {
    let word = cli.word()?;
    word.parse().map_err(|_| cli.usage(format_args!("{word}: an exit status is 0 to 255")))
}

fn apply(cx: &Cx, opts: &Opts) -> Result<Never, Error> {
    let prog = opts.prog.find(cx)?;
    let file = match inherited(cx, opts) {
        Some(file) => file,
        None => open(cx, opts)?,
    };
    lock(cx, opts, file)?;
    prog.exec(cx)
}

/// A shell that is PROG opens its files at lower numbers: `exec 3>x` would close what is there. And to
/// close any descriptor of a file gives up every lock that this process has on it: fcntl(2).
const LOWEST: RawFd = 10;

/// The descriptor of FILE that a td-lock before us in the chain has left, so that its lock (of another
/// key) is not given up by opening FILE and closing that.
fn inherited(cx: &Cx, opts: &Opts) -> Option<BorrowedFd<'static>> {
    let mut open = (LOWEST..).map_while(|fd| sys::inherited_fd(cx, fd).ok()).peekable();
    open.peek()?;
    let file = sys::statx(cx, None, &opts.file, libc::AT_SYMLINK_NOFOLLOW).ok()?;
    open.find(|fd| sys::fstatx(cx, *fd).is_ok_and(|open| open.same_file(&file)))
}

/// Open FILE where PROG will not close it. It stays when a later step fails: another may be waiting for
/// it, and would have a lock on a file that nobody finds any more, while a third locks a new one.
fn open(cx: &Cx, opts: &Opts) -> Result<BorrowedFd<'static>, Error> {
    let mut made = Vec::new();
    let file = open_or_make(cx, opts, &mut made).inspect_err(|_| {
        directories::undo(cx, &made).unwrap_or_else(|error| cx.say(&error));
    })?;
    // Without close-on-exec. The first descriptor is closed before there is a lock to give up.
    sys::fcntl_dupfd(cx, file.as_fd(), LOWEST).map_err(|e| why_no_number(cx, e))
}

fn open_or_make(cx: &Cx, opts: &Opts, made: &mut Vec<Made>) -> Result<OwnedFd, Error> {
    // What td makes, it makes only where nobody else can lead it elsewhere.
    let place = match opts.mkdir {
        true => Some(Place::make(cx, None, &opts.file, made)?),
        false => None,
    };
    let directory = place.as_ref().map(|place| place.directory.as_fd());
    let name = place.as_ref().map_or(&opts.file, |place| &place.name);
    // No link, for in a directory of many another could lead us to a file of ours; and nothing that to
    // open would wait for (a FIFO), or that would become our terminal.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let opened = sys::openat_create(cx, directory, name, libc::O_RDWR | flags, 0o600);
    let file = opened.or_else(|error| {
        // A shared lock needs no right to write. And where others may write to a directory, root itself
        // may not open with O_CREAT what is there already: proc_sys_fs(5), protected_regular.
        let access = if opts.shared { libc::O_RDONLY } else { libc::O_RDWR };
        sys::openat(cx, directory, name, access | flags).map_err(|_| why(cx, opts, error))
    })?;
    match unfit(&sys::fstatx(cx, file.as_fd())?).filter(|_| !cx.dry()) {
        Some(what) => Err(Error::refusal(format_args!("{}{what}", plain(opts.file.to_bytes())))),
        None => Ok(file),
    }
}

/// Between two tries of a lock that is waited for only so long, in nanoseconds: the first pause, and the
/// longest.
const PAUSES: (i64, i64) = (1_000_000, 64_000_000);

/// Take the lock. F_SETLKW waits without a limit of time: only a signal that has a handler would end it,
/// and a handler needs a way back that only the C library has. So with a limit we ask again and again.
fn lock(cx: &Cx, opts: &Opts, file: BorrowedFd) -> Result<(), Error> {
    let kind = if opts.shared { libc::F_RDLCK } else { libc::F_WRLCK };
    let (start, length) = opts.key.as_ref().map_or((0, 0), |key| (lock::place(key), 1));
    let lock = Flock::new(kind, start, length);
    let (mut pause, longest) = PAUSES;
    let mut left = opts.wait.unwrap_or(0);
    loop {
        let error = match sys::fcntl_setlk(cx, file, opts.wait.is_none(), &lock) {
            Err(e) if e.is(Errno::EAGAIN) || e.is(Errno::EDEADLK) => e,
            other => return other.map_err(|e| why_no_lock(opts, e)),
        };
        if left > 0 {
            pause = pause.min(left);
            sys::sleep(cx, pause)?;
            left -= pause;
            pause = longest.min(pause * 2);
            continue;
        }
        let holder = sys::fcntl_getlk(cx, file, lock)?;
        if !holder.is_free() {
            return Err(why_locked(cx, opts, holder.pid, error));
        }
        // It has ended meanwhile.
    }
}

/// The directory that FILE is in, if it is not the working directory.
fn parent(file: &CStr) -> Option<CString> {
    let path = file.to_bytes();
    let slash = path.iter().rposition(|b| *b == b'/')?;
    CString::new(path.get(..slash.max(1))?).ok()
}

/// Who has the lock?
fn why_locked(cx: &Cx, opts: &Opts, pid: i32, error: Error) -> Error {
    let file = plain(opts.file.to_bytes());
    let waits = error.is(Errno::EDEADLK);
    let error = error.because(lock::why(cx, &file, pid));
    match opts.wait {
        None if waits => error
            .because("the holder waits, itself or by others, for a lock that this process has")
            .way_out("have all of them take their locks in one order"),
        Some(0) => error.way_out("--wait waits until it is free"),
        _ => error,
    }
    .with_status(opts.conflict)
}

/// Why there can be no lock, whoever has one.
fn why_no_lock(opts: &Opts, error: Error) -> Error {
    if !error.is(Errno::EBADF) {
        return error;
    }
    let what = match opts.shared {
        true => " was open already, and not for reading",
        false => " was open already, and not for writing",
    };
    error.because(format_args!("{}{what}", plain(opts.file.to_bytes())))
}

/// Why there is no descriptor where we want one.
fn why_no_number(cx: &Cx, error: Error) -> Error {
    match sys::getrlimit(cx, libc::RLIMIT_NOFILE as u64, flags::RLIMIT) {
        Ok(limit) => {
            let most = limit.soft;
            let what = format!(
                "the lock is on a descriptor from {LOWEST} up, and RLIMIT_NOFILE is {most}"
            );
            error.because(what).way_out("raise it: ulimit -n")
        }
        Err(_) => error,
    }
}

/// Why FILE was not opened.
fn why(cx: &Cx, opts: &Opts, error: Error) -> Error {
    let shown = plain(opts.file.to_bytes());
    let stat = match sys::statx(cx, None, &opts.file, libc::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(_) => return why_not_made(cx, opts, error),
    };
    match unfit(&stat) {
        Some(what) => error.because(format_args!("{shown}{what}")),
        None if error.is(Errno::EACCES) => why_refused(cx, &shown, &stat, error),
        None => error,
    }
}

/// What is no file to lock.
fn unfit(stat: &Statx) -> Option<&'static str> {
    match stat.file_type() {
        libc::S_IFREG => None,
        libc::S_IFDIR => Some(" is a directory"),
        libc::S_IFLNK => Some(" is a link"),
        _ => Some(" is no regular file"),
    }
}

/// Why FILE, which is not there, was not made.
fn why_not_made(cx: &Cx, opts: &Opts, error: Error) -> Error {
    let directory = parent(&opts.file).unwrap_or_else(|| CString::from(c"."));
    let shown = plain(directory.to_bytes());
    match sys::statx(cx, None, &directory, 0) {
        Ok(stat) if !stat.is_dir() => error.because(format_args!("{shown} is no directory")),
        Ok(stat) if error.is(Errno::EACCES) => why_refused(cx, &shown, &stat, error),
        Ok(_) => error,
        Err(looked) => {
            let error = error.because(chain::why_unreachable(&shown, &looked));
            if looked.is(Errno::ENOENT) { error.way_out("--mkdir makes it") } else { error }
        }
    }
}

/// Whose is it?
fn why_refused(cx: &Cx, shown: &str, stat: &Statx, error: Error) -> Error {
    let (owner, mode, we) = (stat.uid, stat.permissions(), cx.start.euid);
    error.because(format_args!("{shown} belongs to uid {owner} (mode {mode:04o}), we are {we}"))
}
