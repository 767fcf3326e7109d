//! The one door: every system call of every tool is made here, traced, dry, and reported in one
//! place. Nothing else in this package is `unsafe`.
//!
//! A wrapper has the call's own name and argument order (section 2 of the manual). It writes its
//! arguments down once; registers, trace line, dry-run line and error text come from that. A call
//! either looks ([`Cx::read`]) or changes something ([`Cx::change`]): a dry run makes the first and
//! prints the second. Descriptors are always close-on-exec. Errors are those of the manual page, each
//! as an [`Error`] that holds the call as it was made.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::{Cell, UnsafeCell};
use std::ffi::{CStr, CString, c_char, c_int};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use syscalls::{Errno, Sysno};

use crate::error::{Error, FAILED};
use crate::flags::{self, Table};
use crate::number::decimal;
use crate::show::{self, Arg, Strings};
use crate::structs::*;
use crate::text::split;

// ---- the calls ----

/// A system call: its number on this machine, and its name.
#[derive(Clone, Copy)]
struct Call(Sysno, &'static str);

/// A constant for each call, so that a program holds the names of those that it makes, and not of all.
macro_rules! calls {
    ($($name:ident)*) => {
        /// Every system call that td makes.
        #[allow(non_upper_case_globals)]
        mod nr {
            use super::{Call, Sysno};
            $(pub const $name: Call = Call(Sysno::$name, Sysno::$name.name());)*
        }
    };
}

calls! {
    capget capset chdir chroot clock_nanosleep clone clone3 close_range dup3 execve execveat exit_group faccessat2
    fchdir fchmod fchown fchownat fcntl flock fsconfig fsmount fsopen fstatfs getcwd getdents64 getpgid getpid
    getppid ioctl keyctl kill memfd_create mkdirat mknodat mount mount_setattr move_mount open_tree openat
    openat2 pidfd_open pivot_root ppoll prctl pread64 prlimit64 read readlinkat reboot renameat2 rt_sigaction
    rt_sigpending rt_sigprocmask rt_sigtimedwait seccomp sendfile sendto setgroups sethostname setns setresgid setresuid setsid
    socket socketpair statx symlinkat sync umask umount2 unlinkat unshare wait4 write
}

// ---- the entry ----

/// The entry of a tool: C's `main`.
///
/// Rust's own start-up would ignore SIGPIPE for PROG as well, make some 20 calls, and double what a
/// step costs; and it panics where a standard stream is closed.
#[macro_export]
macro_rules! step {
    ($help:expr, $parse:expr, $apply:expr) => {
        #[global_allocator]
        static ALLOCATOR: $crate::sys::Allocator = $crate::sys::Allocator::new(concat!(
            env!("CARGO_BIN_NAME"),
            ": mmap: ENOMEM (Out of memory)\n"
        ));

        #[unsafe(no_mangle)]
        extern "C" fn main(
            _argc: std::ffi::c_int,
            argv: *const *const std::ffi::c_char,
            envp: *const *const std::ffi::c_char,
        ) -> std::ffi::c_int {
            let start = $crate::sys::Start::new(argv, envp);
            $crate::cli::run(env!("CARGO_BIN_NAME"), $help, &start, $parse, $apply)
        }
    };
}

/// Memory for a program that lives for a moment: it is taken and hardly ever given back, and a parent that
/// waits takes none. The C library's allocator would be 8 KB of each program.
///
/// Where the kernel gives no more there is a reserve. With it the step goes on to its next call, which fails: so what
/// the step did is undone, and is said. Where the reserve does not suffice either the program ends here, with 125 and
/// a line: to return a null pointer would have std abort.
pub struct Allocator {
    /// What is said where there is no memory to say more.
    last_words: &'static str,
    /// The first free byte, and the end of what was mapped.
    free: Cell<(usize, usize)>,
    is_reserve_used: Cell<bool>,
}

/// Apart from the allocator, which is in the program's file: this is zeros.
static RESERVE: Reserve = Reserve(UnsafeCell::new([0; Allocator::RESERVE]));

struct Reserve(UnsafeCell<[u8; Allocator::RESERVE]>);

/// The bytes that the kernel has refused to map, until a call has failed for that; else 0.
static REFUSED: AtomicUsize = AtomicUsize::new(0);

impl Allocator {
    const CHUNK: usize = 1 << 17;
    const RESERVE: usize = 1 << 16;

    /// One that has mapped nothing yet, with the line to end with.
    pub const fn new(last_words: &'static str) -> Allocator {
        Allocator { last_words, free: Cell::new((0, 0)), is_reserve_used: Cell::new(false) }
    }

    /// Take a block from what is free. `None`: it does not fit.
    fn take(&self, layout: Layout) -> Option<usize> {
        let (free, end) = self.free.get();
        let start = free.checked_next_multiple_of(layout.align())?;
        let after = start.checked_add(layout.size()).filter(|after| *after <= end)?;
        self.free.set((after, end));
        Some(start)
    }

    /// Have a new mapping of at least `size` bytes, or the reserve.
    fn grow(&self, size: usize) {
        let size = size.checked_next_multiple_of(Allocator::CHUNK).unwrap_or(usize::MAX);
        let (access, kind) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let [access, kind] = [access, kind].map(|flags| flags as usize);
        // SAFETY: it takes numbers, and touches no memory that is in use.
        match unsafe { syscalls::syscall6(Sysno::mmap, 0, size, access, kind, usize::MAX, 0) } {
            Ok(start) => self.free.set((start, start + size)),
            Err(_) if self.is_reserve_used.replace(true) => self.end(),
            Err(_) => {
                let start = RESERVE.0.get() as usize;
                self.free.set((start, start + Allocator::RESERVE));
                REFUSED.store(size, Ordering::Relaxed);
            }
        }
    }

    /// End without any memory.
    fn end(&self) -> ! {
        // Else a pipe that nobody reads would end us.
        let _ = raw(
            nr::rt_sigaction,
            &sigaction(libc::SIGPIPE, Arg::In(&SigAction::IGNORE), Arg::Null),
        );
        raw_write(libc::STDERR_FILENO, self.last_words.as_bytes());
        exit_now(FAILED)
    }
}

/// What [`Allocator`] was refused, for one call to fail with: the errno is that of mmap(2).
fn refused_memory() -> Option<Error> {
    let size = REFUSED.load(Ordering::Relaxed);
    if size == 0 {
        return None;
    }
    REFUSED.store(0, Ordering::Relaxed);
    let size = show::number(size as u64);
    let call = ["mmap(NULL, ", &size, ", PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)"];
    Some(Error::call(&call.concat(), Errno::ENOMEM))
}

// SAFETY: a tool has one thread.
unsafe impl Sync for Allocator {}

// SAFETY: the same; and only the allocator uses it.
unsafe impl Sync for Reserve {}

// SAFETY: a block has one owner until that gives it back; its mapping is private and never unmapped, and the reserve
// is given out once.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        loop {
            match self.take(layout) {
                Some(block) => return block as *mut u8,
                None => self.grow(layout.size().saturating_add(layout.align())),
            }
        }
    }

    // Zero is what the kernel maps, and what the reserve holds; nothing is given out twice.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller has it.
        unsafe { self.alloc(layout) }
    }

    // Of no effect, so that the compiler leaves out all the code that drops things.
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

/// What a program is given at its start.
pub struct Start {
    /// The arguments, of which the first is the tool's own name, as the caller wrote it.
    pub args: Vec<CString>,
    /// The environment, `NAME=VALUE` each. Both are copies, which `forget_start` leaves.
    pub env: Vec<CString>,
    /// The path that was executed, as the caller wrote it: `AT_EXECFN`.
    pub execfn: CString,
    /// The effective ids, as execve(2) left them in the auxiliary vector: getauxval(3).
    pub euid: u32,
    /// See `euid`.
    pub egid: u32,
    argv: *const *const c_char,
    envp: *const *const c_char,
    /// What ppoll(2) said of descriptors 0 to 2.
    standard: [PollFd; 3],
}

impl Start {
    /// Take what C's `main` was given, and fill descriptors 0 to 2 where they are closed: the next
    /// open would become one of them, and a message for the user land in `memory.max`.
    ///
    /// Takes raw pointers and is no `unsafe fn`, because its one caller is the macro [`step!`],
    /// which hands on what the kernel laid out.
    #[allow(clippy::not_unsafe_ptr_arg_deref)]
    pub fn new(argv: *const *const c_char, envp: *const *const c_char) -> Start {
        let mut standard = [0, 1, 2].map(|fd| PollFd { fd, events: 0, revents: 0 });
        // SAFETY: three pollfd and a zero timespec, valid for the call.
        unsafe {
            let now = TimeSpec { sec: 0, nsec: 0 };
            let fds = standard.as_mut_ptr() as usize;
            let _ = syscalls::syscall5(nr::ppoll.0, fds, 3, &raw const now as usize, 0, 0);
        }
        for _ in standard.iter().filter(|fd| fd.revents & libc::POLLNVAL != 0) {
            root_fd().into_iter().for_each(std::mem::forget);
        }
        let (args, env) = (copies(argv), copies(envp));
        // SAFETY: it takes a number. AT_EXECFN is a string of the block that argv is in.
        let (execfn, [euid, egid]) = unsafe {
            let execfn = libc::getauxval(libc::AT_EXECFN) as *const c_char;
            let execfn = if execfn.is_null() { c"" } else { CStr::from_ptr(execfn) };
            (execfn.to_owned(), [libc::AT_EUID, libc::AT_EGID].map(|id| libc::getauxval(id) as u32))
        };
        Start { args, env, execfn, euid, egid, argv, envp, standard }
    }

    /// Was descriptor `fd` (0 to 2) closed when the program began?
    pub fn was_closed(&self, fd: RawFd) -> bool {
        self.standard.iter().any(|p| p.fd == fd && p.revents & libc::POLLNVAL != 0)
    }

    /// The value of one variable.
    pub fn getenv(&self, name: &str) -> Option<Vec<u8>> {
        self.env.iter().find_map(|var| {
            let rest = var.to_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some(rest.to_vec())
        })
    }
}

/// A descriptor that the command line names, and what fcntl(2) said of it before the tool opened anything: a number
/// that is not open would soon be that of a file of ours.
#[derive(Clone, Copy)]
pub struct Checked(RawFd, Result<usize, Errno>);

impl Checked {
    /// `fcntl(fd, F_GETFD)`: fcntl(2).
    pub fn new(fd: RawFd) -> Checked {
        Checked(fd, raw(nr::fcntl, &Checked::args(fd)))
    }

    /// Its number.
    pub fn fd(self) -> RawFd {
        self.0
    }

    fn args(fd: RawFd) -> [Arg<'static>; 2] {
        [Arg::Fd(fd), name(libc::F_GETFD, flags::FCNTL)]
    }

    /// The descriptor, if we were started with it. One that is close-on-exec we were not: it fills a standard stream
    /// that was closed, see [`Start::new`].
    pub fn inherited(self) -> Result<RawFd, Error> {
        let Checked(fd, result) = self;
        let what = ["descriptor ", &show::number(fd as u64), " is not open"].concat();
        match result {
            Ok(0) => Ok(fd),
            Ok(_) => Err(Error::refusal(what)),
            Err(errno) => {
                let call = show::call(nr::fcntl.1, &Checked::args(fd), None);
                Err(Error::call(&call, errno).because(what))
            }
        }
    }

    /// The line of the trace.
    fn shown(&self) -> String {
        let call = show::call(nr::fcntl.1, &Checked::args(self.0), None);
        match self.1 {
            Ok(0) => call + " = 0",
            Ok(_) => call + " = 0x1 (flags FD_CLOEXEC)",
            Err(errno) => [&call, " = -1 ", &show::errno(errno)].concat(),
        }
    }
}

/// A string for the kernel. It is made of such strings and of our own words: there is no zero byte in it.
pub fn cstring(text: impl Into<Vec<u8>>) -> CString {
    CString::new::<Vec<u8>>(text.into()).unwrap_or_default()
}

/// The strings of the arguments or of the environment.
fn strings(mut list: *const *const c_char) -> impl Iterator<Item = *const c_char> {
    // SAFETY: the kernel ends either list with a null pointer, and it lives as long as the process.
    std::iter::from_fn(move || unsafe {
        let s = *list;
        list = list.add(1);
        (!s.is_null()).then_some(s)
    })
}

fn copies(list: *const *const c_char) -> Vec<CString> {
    let mut copies = Vec::new();
    for s in strings(list) {
        // SAFETY: the kernel ends each string with a zero byte.
        copies.push(unsafe { CStr::from_ptr(s) }.to_owned());
    }
    copies
}

/// A descriptor on `/` that can do nothing, at the lowest free number.
fn root_fd() -> Result<OwnedFd, Errno> {
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    raw(nr::openat, &[at(None), Arg::Path(c"/"), Arg::Open(flags as u64)]).map(owned)
}

// ---- the context: trace and dry run ----

/// `--lock=FD,...` tells the next tool of a chain that a td-lock before it has locks on descriptors. It is not for
/// people: who keeps the descriptor and who closes it says the table of [`crate::descriptors`].
pub const LOCK: &str = "--lock";

/// `--sealed=PATH` tells a tool that it runs from a sealed copy of PATH, and that the other tools are beside PATH;
/// `--sealed` that there are none in this root. It is not for people: where it is false, PROG can write to the file of
/// the tool.
pub const SEALED: &str = "--sealed";

/// What `--trace` and `--dry-run` ask for, and what the program was started with.
pub struct Cx<'a> {
    /// The tool's name, for messages.
    pub tool: &'static str,
    /// How the program was started.
    pub start: &'a Start,
    dry: bool,
    trace: Option<RawFd>,
    /// The pid that stands before each line, as strace does once there is a second process. 0: none.
    pid: Cell<i32>,
    /// What SIGPIPE did before we had it ignored.
    sigpipe: Cell<Option<SigAction>>,
    /// The signal mask that PROG gets, where it is not ours.
    mask: Cell<Option<SigSet>>,
    /// Room for what is read, of [`PIECE`] bytes each, that is not in use.
    pieces: Cell<Vec<Vec<u8>>>,
    /// The last call of the trace and its last line: the next are written in their place, for the heap only grows.
    text: Cell<String>,
    line: Cell<String>,
    /// See [`Cx::locks`].
    locks: Cell<&'static [u8]>,
    /// See [`Cx::sealed`].
    sealed: Cell<Option<&'static [u8]>>,
    /// Where it is said that PROG is executed: see [`crate::descriptors`].
    ready: Cell<Vec<RawFd>>,
}

/// How much is read at once. Files of /proc are best read in one piece; mountinfo is the large one.
const PIECE: usize = 32768;

impl<'a> Cx<'a> {
    /// A context. With `trace` (a descriptor, and the pid to print or 0) calls are printed, also those by which the
    /// descriptors of the command line were `checked`.
    pub fn new(
        tool: &'static str,
        start: &'a Start,
        trace: Option<(RawFd, i32)>,
        dry: bool,
        ready: Vec<RawFd>,
        checked: &[Checked],
    ) -> Cx<'a> {
        let pid = Cell::new(trace.map_or(0, |(_, pid)| pid));
        let trace = trace.map(|(fd, _)| fd);
        let (sigpipe, mask, pieces, text, line) = Default::default();
        let (locks, sealed) = Default::default();
        let ready = Cell::new(ready);
        let cx = Cx {
            tool,
            start,
            dry,
            trace,
            pid,
            sigpipe,
            mask,
            pieces,
            text,
            line,
            locks,
            sealed,
            ready,
        };
        if trace.is_some() {
            cx.trace_start(checked);
        }
        cx
    }

    /// Is this a dry run?
    pub fn dry(&self) -> bool {
        self.dry
    }

    /// The options that hand trace, dry run, signal mask, locks and the descriptors of `--ready` on to the next tool.
    pub fn handed_on(&self) -> Vec<CString> {
        let mut options = Vec::new();
        if let Some(fd) = self.trace {
            let mut option = String::new();
            show::signed("--trace=", fd.into(), &mut option);
            if self.pid.get() != 0 {
                show::signed(",", self.pid.get().into(), &mut option);
            }
            options.push(cstring(option));
        }
        if self.dry {
            options.push(c"--dry-run".into());
        }
        if let Some(SigSet(set)) = self.mask.get() {
            let mut option = String::new();
            show::hexadecimal("--signal-mask=", set, &mut option);
            options.push(cstring(option));
        }
        if !self.locks.get().is_empty() {
            options.push(cstring([b"--lock=", self.locks.get()].concat()));
        }
        for fd in self.ready() {
            let mut option = String::new();
            show::signed("--ready=", fd.into(), &mut option);
            options.push(cstring(option));
        }
        options
    }

    /// The descriptors on which this process, or its parent, has locks that are to outlive the step: see [`LOCK`].
    pub fn locks(&self) -> Vec<RawFd> {
        split(self.locks.get(), b',').filter_map(decimal).map(|fd| fd as RawFd).collect()
    }

    /// The path of the program of which we are a sealed copy, empty where it is not in this root. `None`: we are not a
    /// sealed copy. See [`SEALED`].
    pub fn sealed(&self) -> Option<&'static [u8]> {
        self.sealed.get()
    }

    /// We are a sealed copy of `path`.
    pub fn is_sealed_copy_of(&self, path: &'static [u8]) {
        self.sealed.set(Some(path));
    }

    /// These are the descriptors, with commas between.
    pub fn hold_locks(&self, list: &'static [u8]) {
        self.locks.set(list);
    }

    /// There is a lock on one more.
    pub fn hold_lock(&self, file: BorrowedFd) {
        let number = show::number(file.as_raw_fd() as u64);
        self.hold_locks([self.locks.get(), b",", number.as_bytes()].concat().leak());
    }

    /// The locks are the parent's from here on: close their descriptors, by close(2), which is in no trace.
    pub fn leave_locks(&self) {
        for fd in split(self.locks.take(), b',').filter_map(decimal) {
            // SAFETY: the caller has left it to us, and nothing of ours owns it.
            drop(unsafe { OwnedFd::from_raw_fd(fd.max(3) as RawFd) });
        }
    }

    /// Signals are blocked until PROG, which gets the mask `mask`, is none of our tools. A mask that was
    /// handed on to us is the older one.
    pub fn block_until_prog(&self, mask: SigSet) {
        self.mask.set(self.mask.get().or(Some(mask)));
    }

    /// The signal mask that PROG gets, where it is not ours.
    pub fn mask_of_prog(&self) -> Option<SigSet> {
        self.mask.get()
    }

    /// The descriptors on which it is said that PROG is executed.
    pub fn ready(&self) -> Vec<RawFd> {
        let ready = self.ready.take();
        self.ready.set(ready.clone());
        ready
    }

    /// One more of them.
    pub fn add_ready(&self, fd: RawFd) {
        let mut ready = self.ready.take();
        ready.push(fd);
        self.ready.set(ready);
    }

    /// Close them, in a process that does not become PROG.
    pub fn close_ready(&self) {
        self.ready.take().into_iter().for_each(|fd| drop(owned(fd as usize)));
    }

    /// Write to one of them, where the end of a reader changes nothing else.
    pub fn say_on(&self, fd: RawFd, bytes: &[u8]) -> Result<(), Error> {
        if self.sigpipe.get().is_none() {
            self.ignore_sigpipe(&[]);
        }
        // SAFETY: it is open until `close_ready`, which forgets its number.
        write(self, unsafe { BorrowedFd::borrow_raw(fd) }, bytes).map(drop)
    }

    /// The descriptor to which calls are traced.
    pub fn trace_fd(&self) -> Option<RawFd> {
        self.trace
    }

    /// From here on we are a process that td made: its pid, in its own pid namespace, goes before each
    /// line. (In a dry run no process was made.)
    pub fn trace_child(&self) {
        if self.trace.is_some() && !self.dry {
            let pid = raw(nr::getpid, &[]);
            self.pid.set(pid.unwrap_or(0) as i32);
            self.print(nr::getpid, &[], Some(pid));
        }
    }

    /// Print what the entry did, once no closed pipe can end the tool: a lost line changes nothing else.
    fn trace_start(&self, checked: &[Checked]) {
        let asked = [0, 1, 2].map(|fd| PollFd { fd, events: 0, revents: 0 });
        let zero = TimeSpec { sec: 0, nsec: 0 };
        let args = [Arg::In(&asked), Arg::Size(3), Arg::In(&zero), Arg::Null, Arg::Size(0)];
        let closed = |fd: &RawFd| self.start.was_closed(*fd);
        let mut ppoll = show::call(nr::ppoll.1, &args, None);
        show::unsigned(" = ", (0..3).filter(closed).count() as u64, &mut ppoll);
        let mut lines = vec![ppoll];
        let flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
        for fd in (0..3).filter(closed) {
            let args = [Arg::Fd(libc::AT_FDCWD), Arg::Path(c"/"), Arg::Open(flags)];
            let mut openat = show::call(nr::openat.1, &args, None);
            show::signed(" = ", fd.into(), &mut openat);
            lines.push(openat);
        }
        lines.extend(checked.iter().map(Checked::shown));
        self.ignore_sigpipe(&lines);
    }

    /// A message into a pipe that nobody reads is a lost line, and not our end. `held` are lines that
    /// had to wait for this.
    fn ignore_sigpipe(&self, held: &[String]) {
        let old = Cell::new(SigAction::DEFAULT);
        let args = sigaction(libc::SIGPIPE, Arg::In(&SigAction::IGNORE), Arg::Out(&old));
        let result = raw(nr::rt_sigaction, &args);
        self.sigpipe.set(Some(old.get()));
        if self.trace.is_some() {
            held.iter().for_each(|line| self.line(line));
            self.print(nr::rt_sigaction, &args, Some(result));
        }
    }

    /// Give SIGPIPE back what it did, before `call` executes a program. The lines of both calls are
    /// written before: afterwards a closed pipe would end us.
    fn restore_sigpipe(&self, call: Call, exec: &[Arg]) {
        let old = self.sigpipe.take();
        let act = old.as_ref().map_or(Arg::Null, |old| Arg::In(old));
        let args = sigaction(libc::SIGPIPE, act, Arg::Null);
        if self.trace.is_some() {
            self.print(nr::rt_sigaction, &args, Some(Ok(0))); // it was valid before
        }
        // A dry run has printed it already.
        if self.trace.is_some() && !self.dry {
            self.line(&(show::call(call.1, exec, None) + " = ?"));
        }
        if old.is_some() {
            let _ = raw(nr::rt_sigaction, &args);
        }
    }

    /// A call that looks: made in a dry run too.
    fn read(&self, call: Call, args: &[Arg]) -> Result<usize, Error> {
        self.make(call, args)?.map_err(|errno| self.failed(call, args, errno))
    }

    /// A call that changes something, of which the caller expects these failures: no text is made for them, which
    /// would stay for good.
    fn attempt(
        &self,
        call: Call,
        args: &[Arg],
        expected: &[Errno],
    ) -> Result<Result<usize, Errno>, Error> {
        if self.dry {
            self.print(call, args, None);
            return Ok(Ok(0));
        }
        match self.make(call, args)? {
            Err(errno) if !expected.contains(&errno) => Err(self.failed(call, args, errno)),
            other => Ok(other),
        }
    }

    /// A call that changes something: a dry run prints it and takes it to have returned 0.
    fn change(&self, call: Call, args: &[Arg]) -> Result<usize, Error> {
        if self.dry {
            self.print(call, args, None);
            return Ok(0);
        }
        self.read(call, args)
    }

    /// As `change`, for a call that returns a descriptor: a dry run gets one that can do nothing.
    fn change_fd(&self, call: Call, args: &[Arg]) -> Result<OwnedFd, Error> {
        if self.dry {
            self.print(call, args, None);
            return self.stand_in();
        }
        self.read(call, args).map(owned)
    }

    /// What a dry run has in place of a descriptor that a call would have returned.
    fn stand_in(&self) -> Result<OwnedFd, Error> {
        let flags = Arg::Open((libc::O_PATH | libc::O_CLOEXEC) as u64);
        let args = [at(None), Arg::Path(c"/"), flags];
        root_fd().map_err(|errno| self.failed(nr::openat, &args, errno))
    }

    /// Make the call, again where it was interrupted, and trace it.
    fn make(&self, call: Call, args: &[Arg]) -> Result<Result<usize, Errno>, Error> {
        if let Some(error) = refused_memory() {
            return Err(error);
        }
        loop {
            let result = raw(call, args);
            if self.trace.is_some() {
                self.print(call, args, Some(result));
            }
            // Who is stopped and continued meets it: a write to a file of a memory cgroup, for one. Nothing was done, and
            // it is done again; but a file system that could not be made is never made by its fsconfig(2).
            if result != Err(Errno::EINTR) || call.0 == nr::fsconfig.0 {
                return Ok(result);
            }
        }
    }

    /// A call that has failed. What any of them may fail with is explained here.
    fn failed(&self, call: Call, args: &[Arg], errno: Errno) -> Error {
        let error = Error::call(&show::call(call.1, args, None), errno);
        if errno != Errno::EMFILE {
            return error;
        }
        match getrlimit(self, libc::RLIMIT_NOFILE as u64, flags::RLIMIT) {
            Ok(limit) => error.because(
                ["as many files are open as RLIMIT_NOFILE allows: ", &show::number(limit.soft)]
                    .concat(),
            ),
            Err(_) => error,
        }
    }

    /// A line of the trace, or of a dry run, which has no result.
    fn print(&self, call: Call, args: &[Arg], result: Option<Result<usize, Errno>>) {
        let mut text = self.text.take();
        text.clear();
        show::append_call(call.1, args, result.and_then(Result::ok), &mut text);
        match result {
            None => {}
            Some(Ok(mode)) if call.0 == nr::umask.0 => show::octal(" = ", mode as u32, &mut text),
            Some(Ok(n)) => {
                show::signed(" = ", n as i64, &mut text);
                if call.0 == nr::rt_sigtimedwait.0 {
                    text.push_str(" (");
                    text.push_str(&show::signal(n as i32));
                    text.push(')');
                }
            }
            Some(Err(errno)) => {
                text.push_str(" = -1 ");
                show::append_errno(errno, &mut text);
            }
        }
        self.line(&text);
        self.text.set(text);
    }

    /// One line, one write: to the trace; for a dry run that is not traced, to standard output.
    fn line(&self, text: &str) {
        let mut line = self.line.take();
        line.clear();
        if self.pid.get() != 0 {
            show::signed("[pid ", self.pid.get().into(), &mut line);
            line.push_str("] ");
        }
        show::escape(text.as_bytes(), b"", &mut line);
        line.push('\n');
        raw_write(self.trace.unwrap_or(libc::STDOUT_FILENO), line.as_bytes());
        self.line.set(line);
    }

    /// Say something on standard error, in one write. What cannot be written is lost, and changes
    /// nothing else.
    pub fn say(&self, error: &Error) {
        if self.sigpipe.get().is_none() {
            self.ignore_sigpipe(&[]);
        }
        raw_write(libc::STDERR_FILENO, error.text(self.tool).as_bytes());
    }
}

/// Print text for whoever asked for it (`--help`), and let it be lost where it cannot be written.
pub fn print(text: &str) {
    raw_write(libc::STDOUT_FILENO, text.as_bytes());
}

fn raw_write(fd: RawFd, text: &[u8]) {
    // SAFETY: the bytes live as long as the call.
    let done =
        unsafe { syscalls::syscall3(nr::write.0, fd as usize, text.as_ptr() as usize, text.len()) };
    if done == Err(Errno::EPIPE) {
        // Nobody reads it. Who has every signal blocked, to pass them on, has a SIGPIPE by this, which is nobody's.
        let (pipe, now) = (SigSet(1 << (libc::SIGPIPE - 1)), TimeSpec { sec: 0, nsec: 0 });
        let args = [Arg::In(&pipe), Arg::Null, Arg::In(&now), Arg::Size(size_of::<SigSet>())];
        let _ = raw(nr::rt_sigtimedwait, &args);
    }
}

/// The system call itself. Registers that it does not use are zero.
fn raw(call: Call, args: &[Arg]) -> Result<usize, Errno> {
    let mut r = [0; 6];
    for (register, arg) in r.iter_mut().zip(args) {
        *register = arg.register();
    }
    // SAFETY: every pointer in `args` was made from a reference that outlives the call. What the
    // kernel writes lies in `Cell`s of a size that the wrapper tells it; strings end with a zero
    // byte, being `CStr`; lists of strings end with a null pointer, see `Strings`.
    unsafe { syscalls::syscall6(call.0, r[0], r[1], r[2], r[3], r[4], r[5]) }
}

/// The owner of a descriptor that a call has just returned.
fn owned(fd: usize) -> OwnedFd {
    // SAFETY: the kernel returned it to us, so that nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}

/// Descriptor 0, 1 or 2. The entry has seen to it that they are open.
pub fn standard_fd(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: open since the start, and nothing closes them.
    unsafe { BorrowedFd::borrow_raw(fd.clamp(0, 2)) }
}

/// A descriptor that a path is relative to. `None` is the working directory, `AT_FDCWD`.
pub type At<'a> = Option<BorrowedFd<'a>>;

fn at(fd: At) -> Arg<'static> {
    Arg::Fd(fd.map_or(libc::AT_FDCWD, |fd| fd.as_raw_fd()))
}

fn fd(fd: BorrowedFd) -> Arg<'static> {
    Arg::Fd(fd.as_raw_fd())
}

fn flags(bits: impl Into<i64>, table: Table) -> Arg<'static> {
    Arg::Flags(bits.into() as u64, table)
}

fn name(value: impl Into<i64>, table: Table) -> Arg<'static> {
    Arg::Name(value.into() as u64, table)
}

// ---- files ----

/// `openat(dirfd, path, flags)`: open(2). Opening for writing is a change.
pub fn openat(cx: &Cx, dirfd: At, path: &CStr, flags: c_int) -> Result<OwnedFd, Error> {
    let args = [at(dirfd), Arg::Path(path), Arg::Open((flags | libc::O_CLOEXEC) as u64)];
    match flags & show::ACCESS_MODE {
        libc::O_RDONLY => cx.read(nr::openat, &args).map(owned),
        _ => cx.change_fd(nr::openat, &args),
    }
}

/// `openat(dirfd, path, flags|O_CREAT, mode)`: open(2). The file is made where it is missing.
pub fn openat_create(
    cx: &Cx,
    dirfd: At,
    path: &CStr,
    flags: c_int,
    mode: u32,
) -> Result<OwnedFd, Error> {
    let flags = Arg::Open((flags | libc::O_CREAT | libc::O_CLOEXEC) as u64);
    cx.change_fd(nr::openat, &[at(dirfd), Arg::Path(path), flags, Arg::Mode(mode)])
}

/// As [`openat`], of something that this step has made: a dry run takes it to be there, and prints
/// nothing, unless it is opened for writing.
pub fn openat_made(cx: &Cx, dirfd: At, path: &CStr, flags: c_int) -> Result<OwnedFd, Error> {
    if cx.dry && flags & show::ACCESS_MODE == libc::O_RDONLY {
        return cx.stand_in();
    }
    let args = [at(dirfd), Arg::Path(path), Arg::Open((flags | libc::O_CLOEXEC) as u64)];
    cx.change_fd(nr::openat, &args)
}

/// `openat2(dirfd, path, {flags, mode, resolve}, size)`: openat2(2), Linux 5.6. It only looks, so
/// `flags` never has O_CREAT. EAGAIN: a rename or mount got in the way of `..`; it may be tried again.
pub fn openat2(
    cx: &Cx,
    dirfd: BorrowedFd,
    path: &CStr,
    flags: c_int,
    resolve: u64,
) -> Result<OwnedFd, Error> {
    let how = OpenHow { flags: (flags | libc::O_CLOEXEC) as u64, mode: 0, resolve };
    let args = [fd(dirfd), Arg::Path(path), Arg::In(&how), Arg::Size(size_of::<OpenHow>())];
    cx.read(nr::openat2, &args).map(owned)
}

/// `read(fd, buf, count)`: read(2). Returns how many bytes were read; 0 at the end.
pub fn read(cx: &Cx, file: BorrowedFd, buffer: &mut [u8]) -> Result<usize, Error> {
    let size = Arg::Size(buffer.len());
    let cells = Cell::from_mut(buffer).as_slice_of_cells();
    cx.read(nr::read, &[fd(file), Arg::Buffer(cells), size])
}

/// `pread64(fd, buf, count, offset)`: pread(2). It leaves the offset of the descriptor as it is. ESPIPE: a pipe, which has none.
pub fn pread64(
    cx: &Cx,
    file: BorrowedFd,
    buffer: &mut [u8],
    offset: usize,
) -> Result<usize, Error> {
    let size = Arg::Size(buffer.len());
    let cells = Cell::from_mut(buffer).as_slice_of_cells();
    cx.read(nr::pread64, &[fd(file), Arg::Buffer(cells), size, Arg::Size(offset)])
}

/// `write(fd, buf, count)`: write(2). Returns how many bytes were written.
pub fn write(cx: &Cx, file: BorrowedFd, bytes: &[u8]) -> Result<usize, Error> {
    cx.change(nr::write, &[fd(file), Arg::Bytes(bytes), Arg::Size(bytes.len())])
}

/// The whole of a file, by openat(2) and read(2).
pub fn read_file(cx: &Cx, dirfd: At, path: &CStr) -> Result<Vec<u8>, Error> {
    let file = openat(cx, dirfd, path, libc::O_RDONLY)?;
    read_to_end(cx, file.as_fd())
}

/// The rest of an open file, by read(2).
pub fn read_to_end(cx: &Cx, file: BorrowedFd) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    with_piece(cx, &mut |piece| {
        loop {
            match read(cx, file, piece)? {
                0 => return Ok(()),
                n => bytes.extend_from_slice(piece.get(..n).unwrap_or_default()),
            }
        }
    })?;
    Ok(bytes)
}

/// Call `act` with a piece of memory to read into. It is not on the stack, which may be small, and the next who reads
/// has it again: the heap only grows, and some files are read many times.
pub fn with_piece(
    cx: &Cx,
    act: &mut dyn FnMut(&mut [u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut unused = cx.pieces.take();
    let mut piece = unused.pop().unwrap_or_else(|| vec![0; PIECE]);
    cx.pieces.set(unused);
    let done = act(&mut piece);
    let mut unused = cx.pieces.take();
    unused.push(piece);
    cx.pieces.set(unused);
    done
}

/// Write to a file that is there already, in one write(2): a file of the kernel takes a value whole
/// or not at all. Without O_CREAT, which cgroup file systems refuse.
pub fn write_file(cx: &Cx, dirfd: At, path: &CStr, bytes: &[u8]) -> Result<(), Error> {
    let file = openat(cx, dirfd, path, libc::O_WRONLY)?;
    write(cx, file.as_fd(), bytes).map(drop)
}

/// `mkdirat(dirfd, path, mode)`: mkdir(2).
pub fn mkdirat(cx: &Cx, dirfd: At, path: &CStr, mode: u32) -> Result<(), Error> {
    cx.change(nr::mkdirat, &[at(dirfd), Arg::Path(path), Arg::Mode(mode)]).map(drop)
}

/// `mknodat(dirfd, path, mode, dev)`: mknod(2). `mode` has the file type.
pub fn mknodat(cx: &Cx, dirfd: At, path: &CStr, mode: u32, dev: u64) -> Result<(), Error> {
    let args = [at(dirfd), Arg::Path(path), Arg::FileMode(mode), Arg::Dev(dev)];
    // strace leaves the device out where there is none.
    let shown = if dev == 0 { &args[..3] } else { &args[..] };
    cx.change(nr::mknodat, shown).map(drop)
}

/// `symlinkat(target, dirfd, path)`: symlink(2).
pub fn symlinkat(cx: &Cx, target: &CStr, dirfd: At, path: &CStr) -> Result<(), Error> {
    cx.change(nr::symlinkat, &[Arg::Path(target), at(dirfd), Arg::Path(path)]).map(drop)
}

/// `unlinkat(dirfd, path, flags)`: unlink(2); with AT_REMOVEDIR, rmdir(2).
pub fn unlinkat(cx: &Cx, dirfd: At, path: &CStr, flag: c_int) -> Result<(), Error> {
    let args = [at(dirfd), Arg::Path(path), flags(flag, flags::UNLINK)];
    cx.change(nr::unlinkat, &args).map(drop)
}

/// The same where failures are expected: which it was.
pub fn unlinkat_unless(
    cx: &Cx,
    dirfd: BorrowedFd,
    path: &CStr,
    flag: c_int,
    expected: &[Errno],
) -> Result<Option<Errno>, Error> {
    let args = [fd(dirfd), Arg::Path(path), flags(flag, flags::UNLINK)];
    Ok(cx.attempt(nr::unlinkat, &args, expected)?.err())
}

/// `renameat2(olddirfd, oldpath, newdirfd, newpath, RENAME_NOREPLACE)`: rename(2). False: the name is in use, EEXIST.
pub fn rename_to_free(
    cx: &Cx,
    from: BorrowedFd,
    old: &CStr,
    to: BorrowedFd,
    new: &CStr,
) -> Result<bool, Error> {
    let bits = flags(libc::RENAME_NOREPLACE, flags::RENAME);
    let args = [fd(from), Arg::Path(old), fd(to), Arg::Path(new), bits];
    Ok(cx.attempt(nr::renameat2, &args, &[Errno::EEXIST])?.is_ok())
}

/// `renameat2(olddirfd, oldpath, newdirfd, newpath, flags)`: rename(2).
pub fn renameat2(
    cx: &Cx,
    from: BorrowedFd,
    old: &CStr,
    to: BorrowedFd,
    new: &CStr,
    bits: u32,
) -> Result<(), Error> {
    let bits = flags(bits, flags::RENAME);
    cx.change(nr::renameat2, &[fd(from), Arg::Path(old), fd(to), Arg::Path(new), bits]).map(drop)
}

/// `umask(mask)`: umask(2). Returns the mask before. Ours alone, and given back before PROG: a dry run
/// makes it too, and so knows what to give back.
pub fn umask(cx: &Cx, mask: u32) -> Result<u32, Error> {
    cx.read(nr::umask, &[Arg::Mode(mask)]).map(|old| old as u32)
}

/// `fchmod(fd, mode)`: chmod(2).
pub fn fchmod(cx: &Cx, file: BorrowedFd, mode: u32) -> Result<(), Error> {
    cx.change(nr::fchmod, &[fd(file), Arg::Mode(mode)]).map(drop)
}

/// `fchown(fd, owner, group)`: chown(2). `None` stays as it is.
pub fn fchown(
    cx: &Cx,
    file: BorrowedFd,
    owner: Option<u32>,
    group: Option<u32>,
) -> Result<(), Error> {
    let id = |id: Option<u32>| Arg::Int(id.map_or(-1, i64::from));
    cx.change(nr::fchown, &[fd(file), id(owner), id(group)]).map(drop)
}

/// `fchownat(dirfd, path, owner, group, AT_SYMLINK_NOFOLLOW)`: chown(2).
pub fn fchownat(cx: &Cx, dirfd: At, path: &CStr, owner: u32, group: u32) -> Result<(), Error> {
    let (owner, group) = (Arg::Size(owner as usize), Arg::Size(group as usize));
    let nofollow = flags(libc::AT_SYMLINK_NOFOLLOW, flags::AT);
    cx.change(nr::fchownat, &[at(dirfd), Arg::Path(path), owner, group, nofollow]).map(drop)
}

/// `readlinkat(dirfd, path, buf, size)`: readlink(2). What the link says.
pub fn readlinkat(cx: &Cx, dirfd: At, path: &CStr) -> Result<Vec<u8>, Error> {
    let mut buffer = vec![0; libc::PATH_MAX as usize];
    let size = Arg::Size(buffer.len());
    let cells = Cell::from_mut(buffer.as_mut_slice()).as_slice_of_cells();
    let n = cx.read(nr::readlinkat, &[at(dirfd), Arg::Path(path), Arg::Buffer(cells), size])?;
    buffer.truncate(n);
    Ok(buffer)
}

/// `statx(dirfd, path, flags, mask, buf)`: statx(2), with the mount id. An empty path with
/// AT_EMPTY_PATH is `dirfd` itself.
pub fn statx(cx: &Cx, dirfd: At, path: &CStr, flag: c_int) -> Result<Statx, Error> {
    let buf = Cell::new(Statx::default());
    let mask = libc::STATX_BASIC_STATS | libc::STATX_MNT_ID;
    let args = [
        at(dirfd),
        Arg::Path(path),
        flags(flag, flags::AT),
        flags(mask, flags::STATX),
        Arg::Out(&buf),
    ];
    cx.read(nr::statx, &args)?;
    Ok(buf.get())
}

/// [`statx`] of an open file.
pub fn fstatx(cx: &Cx, file: BorrowedFd) -> Result<Statx, Error> {
    statx(cx, Some(file), c"", libc::AT_EMPTY_PATH)
}

/// `fstatfs(fd, buf)`: statfs(2).
pub fn fstatfs(cx: &Cx, file: BorrowedFd) -> Result<StatFs, Error> {
    let buf = Cell::new(StatFs::default());
    cx.read(nr::fstatfs, &[fd(file), Arg::Out(&buf)])?;
    Ok(buf.get())
}

/// `faccessat2(dirfd, path, mode, flags)`: access(2) for the effective ids, Linux 5.8.
pub fn faccessat2(cx: &Cx, dirfd: At, path: &CStr, mode: c_int) -> Result<(), Error> {
    let args = [
        at(dirfd),
        Arg::Path(path),
        flags(mode, flags::ACCESS),
        flags(libc::AT_EACCESS, flags::ACCESS_AT),
    ];
    cx.read(nr::faccessat2, &args).map(drop)
}

/// The same without keeping the names: a hostile directory may have more of them than there is memory.
pub fn for_each_entry(
    cx: &Cx,
    dir: BorrowedFd,
    act: &mut dyn FnMut(&CStr, u8) -> Result<(), Error>,
) -> Result<(), Error> {
    with_piece(cx, &mut |piece| {
        loop {
            let size = Arg::Size(piece.len());
            let cells = Cell::from_mut(&mut *piece).as_slice_of_cells();
            let n = cx.read(nr::getdents64, &[fd(dir), Arg::Entries(cells), size])?;
            if n == 0 {
                return Ok(());
            }
            for (name, kind) in entries(piece.get(..n).unwrap_or_default()) {
                if !matches!(name.to_bytes(), b"." | b"..") {
                    act(name, kind)?;
                }
            }
        }
    })
}

/// `getcwd(buf, size)`: getcwd(2).
pub fn getcwd(cx: &Cx) -> Result<Vec<u8>, Error> {
    let mut buffer = vec![0; libc::PATH_MAX as usize];
    let size = Arg::Size(buffer.len());
    let cells = Cell::from_mut(buffer.as_mut_slice()).as_slice_of_cells();
    // Its result counts the zero byte, which is not part of the text.
    let n = cx.read(nr::getcwd, &[Arg::PathBuffer(cells), size])?;
    buffer.truncate(n.saturating_sub(1));
    Ok(buffer)
}

/// `chdir(path)`: chdir(2).
pub fn chdir(cx: &Cx, path: &CStr) -> Result<(), Error> {
    cx.change(nr::chdir, &[Arg::Path(path)]).map(drop)
}

/// `fchdir(fd)`: chdir(2).
pub fn fchdir(cx: &Cx, dir: BorrowedFd) -> Result<(), Error> {
    cx.change(nr::fchdir, &[fd(dir)]).map(drop)
}

/// `chroot(path)`: chroot(2).
pub fn chroot(cx: &Cx, path: &CStr) -> Result<(), Error> {
    cx.change(nr::chroot, &[Arg::Path(path)]).map(drop)
}

/// `fcntl(fd, F_SETFD, flags)`: fcntl(2). 0 keeps the descriptor across execve(2). It may be a
/// number that the user gave, so that it is no `BorrowedFd`.
pub fn fcntl_setfd(cx: &Cx, fd: RawFd, flag: c_int) -> Result<(), Error> {
    let args = [Arg::Fd(fd), name(libc::F_SETFD, flags::FCNTL), flags(flag, flags::FD)];
    cx.change(nr::fcntl, &args).map(drop)
}

/// `fcntl(fd, F_GETFD)`: fcntl(2). Descriptor `fd`, if the caller has left it to us: then nothing closes
/// it. EBADF: there is none.
pub fn inherited_fd(cx: &Cx, fd: RawFd) -> Result<BorrowedFd<'static>, Error> {
    cx.read(nr::fcntl, &[Arg::Fd(fd), name(libc::F_GETFD, flags::FCNTL)])?;
    // SAFETY: it is open, and of none of our own descriptors the caller knows the number.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// As [`inherited_fd`], of one that an earlier step of the chain has made: a dry run takes it to be there.
pub fn inherited_fd_made(cx: &Cx, fd: RawFd) -> Result<BorrowedFd<'static>, Error> {
    if cx.dry {
        // SAFETY: nothing is done with it but to print its number, which is not -1.
        return Ok(unsafe { BorrowedFd::borrow_raw(fd.max(0)) });
    }
    inherited_fd(cx, fd)
}

/// `fcntl(fd, F_DUPFD_CLOEXEC, lowest)`: fcntl(2). The same file at the lowest number that is free from `lowest`
/// up. It is ours alone, and a dry run makes it too, so that the calls after it have the right numbers. EMFILE: none
/// is free.
pub fn fcntl_dupfd(cx: &Cx, file: BorrowedFd, lowest: RawFd) -> Result<OwnedFd, Error> {
    let args = [fd(file), name(libc::F_DUPFD_CLOEXEC, flags::FCNTL_DUP), Arg::Int(lowest.into())];
    cx.read(nr::fcntl, &args).map(owned)
}

/// `fcntl(fd, F_SETFD, 0)`: fcntl(2). Leave a descriptor to PROG, and never close it. A dry run leaves it to the dry
/// tools behind it, by a duplicate of the same number.
pub fn leave_to_prog(cx: &Cx, file: OwnedFd) -> Result<BorrowedFd<'static>, Error> {
    let number = file.as_raw_fd();
    fcntl_setfd(cx, number, 0)?;
    if cx.dry {
        let copy = fcntl_dupfd(cx, file.as_fd(), 0)?;
        drop(file);
        let lowest = Arg::Int(number.into());
        cx.read(nr::fcntl, &[fd(copy.as_fd()), name(libc::F_DUPFD, flags::FCNTL), lowest])?;
    } else {
        let _ = file.into_raw_fd();
    }
    // SAFETY: it was ours, and has no owner any more who could close it.
    Ok(unsafe { BorrowedFd::borrow_raw(number) })
}

/// `flock(fd, operation)`: flock(2). A lock of the open file description: whoever inherits a descriptor of it has it,
/// and it is free when the last of them is closed. EAGAIN: there is another's, and `operation` has LOCK_NB. EBADF on
/// NFS: an exclusive one needs the right to write.
pub fn flock(cx: &Cx, file: BorrowedFd, operation: c_int) -> Result<(), Error> {
    cx.change(nr::flock, &[fd(file), flags(operation, flags::FLOCK)]).map(drop)
}

/// `dup3(oldfd, newfd, 0)`: dup(2). `newfd`, a number of the caller's choice, is this file as well, for PROG too.
pub fn dup3(cx: &Cx, file: BorrowedFd, newfd: RawFd) -> Result<(), Error> {
    cx.change(nr::dup3, &[fd(file), Arg::Fd(newfd), Arg::Size(0)]).map(drop)
}

/// `fcntl(fd, F_SETLK, lock)`: fcntl(2). A lock of this process: it outlasts execve(2), no child has it,
/// and to close *any* descriptor of the file gives it up. EAGAIN: another process has it; with `wait`,
/// `F_SETLKW`, it is waited for.
pub fn fcntl_setlk(cx: &Cx, file: BorrowedFd, wait: bool, lock: &Flock) -> Result<(), Error> {
    let command = if wait { libc::F_SETLKW } else { libc::F_SETLK };
    cx.change(nr::fcntl, &[fd(file), name(command, flags::FCNTL), Arg::In(lock)]).map(drop)
}

/// `fcntl(fd, F_GETLK, lock)`: fcntl(2). The first lock that is in the way of this one.
pub fn fcntl_getlk(cx: &Cx, file: BorrowedFd, lock: Flock) -> Result<Flock, Error> {
    let holder = Cell::new(Holder(lock));
    let args = [fd(file), name(libc::F_GETLK, flags::FCNTL), Arg::Out(&holder)];
    cx.read(nr::fcntl, &args)?;
    Ok(holder.get().0)
}

/// `close_range(first, last, flags)`: close_range(2), Linux 5.9; CLOSE_RANGE_CLOEXEC Linux 5.11.
pub fn close_range(cx: &Cx, first: RawFd, last: RawFd, bits: u32) -> Result<(), Error> {
    let bits = flags(bits, flags::CLOSE_RANGE);
    let args = [Arg::Size(first as usize), Arg::Size(last as usize), bits];
    cx.change(nr::close_range, &args).map(drop)
}

/// `ioctl(fd, TIOCSCTTY, 0)`: TIOCSCTTY(2const). The terminal controls our session, and we are its foreground
/// process group. EPERM: we lead no session, or that has a terminal, or another session has this one.
pub fn set_controlling_terminal(cx: &Cx, terminal: BorrowedFd) -> Result<(), Error> {
    let request = name(libc::TIOCSCTTY as i64, flags::IOCTL);
    cx.change(nr::ioctl, &[fd(terminal), request, Arg::Size(0)]).map(drop)
}

/// `ioctl(fd, TIOCGSID, &sid)`: TIOCGSID(2const). The session that the terminal controls, where that is ours. ENOTTY: it
/// is not, or the file is not a terminal.
pub fn terminal_session(cx: &Cx, file: BorrowedFd) -> Result<i32, Error> {
    ioctl_int(cx, file, libc::TIOCGSID as i64)
}

/// `ioctl(fd, TIOCGETD, &discipline)`: TIOCSETD(2const). Every terminal answers it, and nothing else: ENOTTY.
pub fn is_terminal(cx: &Cx, file: BorrowedFd) -> bool {
    ioctl_int(cx, file, libc::TIOCGETD as i64).is_ok()
}

fn ioctl_int(cx: &Cx, file: BorrowedFd, request: i64) -> Result<i32, Error> {
    let number = Cell::new(Int::default());
    cx.read(nr::ioctl, &[fd(file), name(request, flags::IOCTL), Arg::Out(&number)])?;
    Ok(number.get().0)
}

/// `sync()`: sync(2). All that is written is on its devices, of every file system.
pub fn sync(cx: &Cx) -> Result<(), Error> {
    cx.change(nr::sync, &[]).map(drop)
}

/// `memfd_create(name, flags)`: memfd_create(2).
pub fn memfd_create(cx: &Cx, text: &CStr, bits: u64) -> Result<OwnedFd, Error> {
    let args = [Arg::Str(text), Arg::Flags(bits | libc::MFD_CLOEXEC as u64, flags::MEMFD)];
    cx.change_fd(nr::memfd_create, &args)
}

/// `fcntl(fd, F_ADD_SEALS, seals)`: fcntl(2).
pub fn fcntl_add_seals(cx: &Cx, memfd: BorrowedFd, seals: c_int) -> Result<(), Error> {
    let args = [fd(memfd), name(libc::F_ADD_SEALS, flags::FCNTL), flags(seals, flags::SEAL)];
    cx.change(nr::fcntl, &args).map(drop)
}

/// `sendfile(out_fd, in_fd, NULL, count)`: sendfile(2). Returns how many bytes were copied.
pub fn sendfile(cx: &Cx, to: BorrowedFd, from: BorrowedFd, count: usize) -> Result<usize, Error> {
    cx.change(nr::sendfile, &[fd(to), fd(from), Arg::Null, Arg::Size(count)])
}

// ---- mounts ----

/// `mount(source, target, fstype, flags, data)`: mount(2). Where `data` is of no use it is NULL.
pub fn mount(
    cx: &Cx,
    source: Option<&CStr>,
    target: &CStr,
    fstype: Option<&CStr>,
    bits: libc::c_ulong,
    data: Option<&CStr>,
) -> Result<(), Error> {
    let args = [
        source.map_or(Arg::Null, Arg::Path),
        Arg::Path(target),
        fstype.map_or(Arg::Null, Arg::Str),
        Arg::Flags(bits, flags::MS),
        data.map_or(Arg::Null, Arg::Str),
    ];
    cx.change(nr::mount, &args).map(drop)
}

/// `umount2(target, flags)`: umount(2).
pub fn umount2(cx: &Cx, target: &CStr, flag: c_int) -> Result<(), Error> {
    cx.change(nr::umount2, &[Arg::Path(target), flags(flag, flags::UMOUNT)]).map(drop)
}

/// `pivot_root(new_root, put_old)`: pivot_root(2), change the root mount.
pub fn pivot_root(cx: &Cx, new_root: &CStr, put_old: &CStr) -> Result<(), Error> {
    cx.change(nr::pivot_root, &[Arg::Path(new_root), Arg::Path(put_old)]).map(drop)
}

/// `fsopen(fsname, FSOPEN_CLOEXEC)`: fsopen(2), Linux 5.2. A configuration of a new file system,
/// whose descriptor can be read for the kernel's own words when a later call fails.
pub fn fsopen(cx: &Cx, fsname: &CStr) -> Result<OwnedFd, Error> {
    let cloexec = flags(libc::FSOPEN_CLOEXEC, flags::FSOPEN);
    cx.change_fd(nr::fsopen, &[Arg::Str(fsname), cloexec])
}

/// One command of fsconfig(2).
pub enum FsConfig<'a> {
    /// A parameter without a value.
    Flag(&'a CStr),
    /// A parameter with text, of at most 255 bytes.
    String(&'a CStr, &'a CStr),
    /// A parameter that is a file. Overlay: Linux 6.13.
    Fd(&'a CStr, BorrowedFd<'a>),
    /// Make the superblock.
    Create,
}

/// `fsconfig(fd, cmd, key, value, aux)`: fsconfig(2), Linux 5.2.
pub fn fsconfig(cx: &Cx, config: BorrowedFd, command: FsConfig) -> Result<(), Error> {
    let (cmd, key, value, aux) = match command {
        FsConfig::Flag(key) => (libc::FSCONFIG_SET_FLAG, Arg::Str(key), Arg::Null, 0),
        FsConfig::String(key, value) => {
            (libc::FSCONFIG_SET_STRING, Arg::Str(key), Arg::Str(value), 0)
        }
        FsConfig::Fd(key, file) => {
            (libc::FSCONFIG_SET_FD, Arg::Str(key), Arg::Null, file.as_raw_fd())
        }
        FsConfig::Create => (libc::FSCONFIG_CMD_CREATE, Arg::Null, Arg::Null, 0),
    };
    let args = [fd(config), name(cmd, flags::FSCONFIG), key, value, Arg::Int(aux.into())];
    cx.change(nr::fsconfig, &args).map(drop)
}

/// `fsmount(fd, FSMOUNT_CLOEXEC, attr)`: fsmount(2), Linux 5.2. A mount that is nowhere yet.
pub fn fsmount(cx: &Cx, config: BorrowedFd, attr: u64) -> Result<OwnedFd, Error> {
    let cloexec = flags(libc::FSMOUNT_CLOEXEC, flags::FSMOUNT);
    cx.change_fd(nr::fsmount, &[fd(config), cloexec, Arg::Flags(attr, flags::MOUNT_ATTR)])
}

/// `open_tree(dirfd, path, flags)`: open_tree(2), Linux 5.2. With OPEN_TREE_CLONE a copy of the
/// mount that is nowhere yet, with AT_RECURSIVE the mounts below it too.
pub fn open_tree(cx: &Cx, dirfd: At, path: &CStr, bits: u32) -> Result<OwnedFd, Error> {
    let bits = flags(bits | libc::OPEN_TREE_CLOEXEC, flags::OPEN_TREE);
    cx.change_fd(nr::open_tree, &[at(dirfd), Arg::Path(path), bits])
}

/// `move_mount(from_fd, "", to_fd, "", …)`: move_mount(2), Linux 5.2. Attach a mount, both by
/// descriptor, so that no path is looked up twice.
pub fn move_mount(cx: &Cx, from: BorrowedFd, to: BorrowedFd) -> Result<(), Error> {
    let empty = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    let empty = flags(empty, flags::MOVE_MOUNT);
    let args = [fd(from), Arg::Path(c""), fd(to), Arg::Path(c""), empty];
    cx.change(nr::move_mount, &args).map(drop)
}

/// `mount_setattr(fd, "", flags, attr, size)`: mount_setattr(2), Linux 5.12. With AT_RECURSIVE in
/// `flag`, of the mounts below too.
pub fn mount_setattr(
    cx: &Cx,
    mount: BorrowedFd,
    flag: c_int,
    attr: MountAttr,
) -> Result<(), Error> {
    let args = [
        fd(mount),
        Arg::Path(c""),
        flags(flag | libc::AT_EMPTY_PATH, flags::AT),
        Arg::In(&attr),
        Arg::Size(size_of::<MountAttr>()),
    ];
    cx.change(nr::mount_setattr, &args).map(drop)
}

// ---- processes ----

/// `unshare(flags)`: unshare(2).
pub fn unshare(cx: &Cx, bits: u64) -> Result<(), Error> {
    cx.change(nr::unshare, &[Arg::Flags(bits, flags::CLONE)]).map(drop)
}

/// `setns(fd, nstype)`: setns(2). `fd` is a namespace, or a pidfd (Linux 5.8): then all the kinds in
/// `bits` are joined, the user namespace first, or none.
pub fn setns(cx: &Cx, file: BorrowedFd, bits: u64) -> Result<(), Error> {
    cx.change(nr::setns, &[fd(file), Arg::Flags(bits, flags::CLONE)]).map(drop)
}

/// `clone3({flags, exit_signal=SIGCHLD}, size)`: clone(2), Linux 5.3, as fork(2) does. Returns the
/// child's pid, and 0 in the child. A dry run goes on as the child.
///
/// Made without the C library, which does not learn of it: never call its `raise` afterwards.
pub fn clone3(cx: &Cx, bits: u64, cgroup: At) -> Result<i32, Error> {
    let into = if cgroup.is_some() { flags::CLONE_INTO_CGROUP } else { 0 };
    let cgroup = cgroup.map_or(0, |fd| fd.as_raw_fd() as u64);
    let clone = CloneArgs {
        flags: bits | into,
        exit_signal: libc::SIGCHLD as u64,
        cgroup,
        ..CloneArgs::default()
    };
    fork(cx, nr::clone3, &[Arg::In(&clone), Arg::Size(size_of::<CloneArgs>())])
}

/// `clone(flags|SIGCHLD, NULL)`: clone(2), for a system call policy that answers clone3(2) with ENOSYS. It takes
/// neither CLONE_INTO_CGROUP nor CLONE_NEWTIME.
pub fn clone(cx: &Cx, bits: u64) -> Result<i32, Error> {
    fork(cx, nr::clone, &[Arg::Clone(bits | libc::SIGCHLD as u64)])
}

/// A call that returns in the child as well, which would print the line a second time: only the parent does,
/// with the pid.
fn fork(cx: &Cx, call: Call, args: &[Arg]) -> Result<i32, Error> {
    if cx.dry {
        return cx.change(call, args).map(|_| 0);
    }
    let result = raw(call, args);
    if cx.trace.is_some() && result != Ok(0) {
        cx.print(call, args, Some(result));
    }
    match result {
        Ok(pid) => Ok(pid as i32),
        Err(errno) => Err(cx.failed(call, args, errno)),
    }
}

/// `execve(path, argv, envp)`: execve(2). Returns when it failed, and in a dry run. `env` is the
/// environment; `None` the one that this program was started with.
pub fn execve(
    cx: &Cx,
    path: &CStr,
    argv: &[CString],
    env: Option<&[CString]>,
) -> Result<(), Error> {
    let (argv, env) = (Strings::new(argv), env.map(Strings::new));
    exec(cx, nr::execve, &[Arg::Path(path), Arg::Strs(&argv), env_arg(cx, env.as_ref())])
}

/// `execveat(fd, "", argv, envp, AT_EMPTY_PATH)`: execveat(2), of an open file; else as [`execve`].
pub fn execveat(
    cx: &Cx,
    file: BorrowedFd,
    argv: &[CString],
    env: Option<&[CString]>,
) -> Result<(), Error> {
    let (argv, env) = (Strings::new(argv), env.map(Strings::new));
    let empty = flags(libc::AT_EMPTY_PATH, flags::AT);
    let args = [fd(file), Arg::Path(c""), Arg::Strs(&argv), env_arg(cx, env.as_ref()), empty];
    exec(cx, nr::execveat, &args)
}

/// In a dry run, execute the next tool for real: it prints its own calls, and makes none either.
pub fn execve_dry(cx: &Cx, path: &CStr, argv: &[CString]) -> Error {
    let argv = Strings::new(argv);
    let args = [Arg::Path(path), Arg::Strs(&argv), env_arg(cx, None)];
    cx.restore_sigpipe(nr::execve, &args);
    let errno = raw(nr::execve, &args).err().unwrap_or(Errno::ENOEXEC);
    cx.failed(nr::execve, &args, errno)
}

/// A success leaves nobody to print a result, so the line comes first and ends in `= ?`, as strace
/// has it for a call that does not return; a failure resumes it in a second line, as strace has it.
fn exec(cx: &Cx, call: Call, args: &[Arg]) -> Result<(), Error> {
    if cx.dry {
        return cx.change(call, args).map(drop);
    }
    cx.restore_sigpipe(call, args);
    let errno = raw(call, args).err().unwrap_or(Errno::ENOEXEC);
    if cx.trace.is_some() {
        let resumed = format!("<... {} resumed>) = -1 {}", call.1, show::errno(errno));
        cx.ignore_sigpipe(&[resumed]);
    }
    Err(cx.failed(call, args, errno))
}

fn env_arg<'a>(cx: &Cx, env: Option<&'a Strings>) -> Arg<'a> {
    match env {
        Some(env) => Arg::Env(env.pointers.as_ptr(), env.strings.len()),
        None => Arg::Env(cx.start.envp, cx.start.env.len()),
    }
}

/// `wait4(pid, wstatus, options, NULL)`: wait4(2). -1 is any child. Returns the pid, 0 where WNOHANG
/// found none, and how that child ended.
pub fn wait4(cx: &Cx, pid: i32, options: c_int) -> Result<(i32, WaitStatus), Error> {
    let status = Cell::new(WaitStatus(0));
    let args = [Arg::Int(pid.into()), Arg::OutIf(&status), flags(options, flags::WAIT), Arg::Null];
    let pid = cx.read(nr::wait4, &args)?;
    Ok((pid as i32, status.get()))
}

/// `exit_group(status)`: _exit(2).
pub fn exit(cx: &Cx, status: u8) -> ! {
    if cx.trace.is_some() {
        cx.line(&(show::call(nr::exit_group.1, &[Arg::Size(status.into())], None) + " = ?"));
    }
    exit_now(status)
}

/// The same before there is anything to trace.
pub fn exit_now(status: u8) -> ! {
    loop {
        // SAFETY: it takes a number and does not return.
        let _ = unsafe { syscalls::syscall1(nr::exit_group.0, status.into()) };
    }
}

/// `getpid()`: getpid(2), in our own pid namespace.
pub fn getpid(cx: &Cx) -> Result<i32, Error> {
    cx.read(nr::getpid, &[]).map(|pid| pid as i32)
}

/// `getppid()`: getpid(2). 0: our parent is outside of our pid namespace.
pub fn getppid(cx: &Cx) -> Result<i32, Error> {
    cx.read(nr::getppid, &[]).map(|pid| pid as i32)
}

/// `getpgid(pid)`: getpgid(2). 0 is the caller.
pub fn getpgid(cx: &Cx, pid: i32) -> Result<i32, Error> {
    cx.read(nr::getpgid, &[Arg::Int(pid.into())]).map(|pgid| pgid as i32)
}

/// `setsid()`: setsid(2). EPERM: the caller leads a process group.
pub fn setsid(cx: &Cx) -> Result<(), Error> {
    cx.change(nr::setsid, &[]).map(drop)
}

fn reboot_args(command: c_int) -> [Arg<'static>; 3] {
    // As the tables have them: the kernel takes no more than 32 bits of each.
    let magic = |number: c_int| name(number as u32, flags::REBOOT_MAGIC);
    let command = name(command as u32, flags::REBOOT);
    [magic(libc::LINUX_REBOOT_MAGIC1), magic(libc::LINUX_REBOOT_MAGIC2), command]
}

/// `reboot(MAGIC1, MAGIC2, LINUX_REBOOT_CMD_CAD_OFF)`: reboot(2). Ctrl-Alt-Del is a SIGINT for process 1. EINVAL:
/// we are in a pid namespace, below that of the machine.
pub fn reboot_cad_off(cx: &Cx) -> Result<(), Error> {
    cx.change(nr::reboot, &reboot_args(libc::LINUX_REBOOT_CMD_CAD_OFF)).map(drop)
}

/// `reboot(MAGIC1, MAGIC2, command)`: reboot(2). End the machine, or the pid namespace and so its process 1. Does
/// not return where that goes well, so that its line comes first, see `exec`.
pub fn reboot(cx: &Cx, command: c_int) -> Result<(), Error> {
    let args = reboot_args(command);
    if cx.dry {
        return cx.change(nr::reboot, &args).map(drop);
    }
    let text = show::call(nr::reboot.1, &args, None);
    let trace = |rest: &[&str]| cx.trace.iter().for_each(|_| cx.line(&rest.concat()));
    trace(&[&text, " = ?"]);
    let Err(errno) = raw(nr::reboot, &args) else { return Ok(()) };
    trace(&["<... reboot resumed>) = -1 ", &show::errno(errno)]);
    Err(Error::call(&text, errno))
}

/// `pidfd_open(pid, 0)`: pidfd_open(2), Linux 5.3.
pub fn pidfd_open(cx: &Cx, pid: i32) -> Result<OwnedFd, Error> {
    cx.read(nr::pidfd_open, &[Arg::Int(pid.into()), Arg::Size(0)]).map(owned)
}

/// `ppoll(fds, 1, timeout, NULL, 0)`: poll(2), of one file: wait for an event (POLLIN, POLLPRI) for so many
/// nanoseconds, `None`: without an end. Returns how many of them are left, `None` when the time is over.
pub fn ppoll(
    cx: &Cx,
    file: BorrowedFd,
    events: i16,
    nanoseconds: Option<i64>,
) -> Result<Option<i64>, Error> {
    let asked = Cell::new([PollFd { fd: file.as_raw_fd(), events, revents: 0 }]);
    let time = Cell::new(Timeout::new(TimeSpec::new(nanoseconds.unwrap_or(0))));
    let timeout = nanoseconds.map_or(Arg::Null, |_| Arg::In(&time));
    let args = [Arg::In(&asked), Arg::Size(1), timeout, Arg::Null, Arg::Size(0)];
    cx.read(nr::ppoll, &args).map(|n| (n > 0).then_some(time.get().left()))
}

/// The same without waiting: is there something to read? Of a pidfd: has the process ended?
pub fn readable(cx: &Cx, file: BorrowedFd) -> Result<bool, Error> {
    readable_within(cx, file, 0)
}

/// The same, waiting for that so many seconds.
pub fn readable_within(cx: &Cx, file: BorrowedFd, seconds: i64) -> Result<bool, Error> {
    ppoll(cx, file, libc::POLLIN, Some(seconds * SECOND)).map(|left| left.is_some())
}

/// `clock_nanosleep(CLOCK_MONOTONIC, 0, {nanoseconds}, NULL)`: clock_nanosleep(2).
pub fn sleep(cx: &Cx, nanoseconds: i64) -> Result<(), Error> {
    let time = TimeSpec::new(nanoseconds);
    let clock = name(libc::CLOCK_MONOTONIC, flags::CLOCK);
    let args = [clock, Arg::Size(0), Arg::In(&time), Arg::Null];
    cx.change(nr::clock_nanosleep, &args).map(drop)
}

// ---- signals ----

/// `rt_sigprocmask(how, set, oldset, 8)`: sigprocmask(2). Returns the mask before. The C library's
/// would keep signals 32 to 34 for itself.
pub fn rt_sigprocmask(cx: &Cx, how: c_int, set: SigSet) -> Result<SigSet, Error> {
    let old = Cell::new(SigSet(0));
    let how = name(how, flags::SIG_HOW);
    let args = [how, Arg::In(&set), Arg::Out(&old), Arg::Size(size_of::<SigSet>())];
    cx.read(nr::rt_sigprocmask, &args)?;
    Ok(old.get())
}

/// `rt_sigpending(set, 8)`: sigpending(2). The signals that are blocked and have arrived.
pub fn rt_sigpending(cx: &Cx) -> Result<SigSet, Error> {
    let set = Cell::new(SigSet(0));
    cx.read(nr::rt_sigpending, &[Arg::Out(&set), Arg::Size(size_of::<SigSet>())])?;
    Ok(set.get())
}

/// `rt_sigaction(signum, act, oldact, 8)`: sigaction(2), for SIG_DFL and SIG_IGN: a handler would
/// need a way back that only the C library has. Returns what was set before.
pub fn rt_sigaction(cx: &Cx, signal: c_int, act: Option<&SigAction>) -> Result<SigAction, Error> {
    let old = Cell::new(SigAction::DEFAULT);
    let args = sigaction(signal, act.map_or(Arg::Null, |act| Arg::In(act)), Arg::Out(&old));
    cx.read(nr::rt_sigaction, &args)?;
    Ok(old.get())
}

fn sigaction<'a>(signal: c_int, act: Arg<'a>, old: Arg<'a>) -> [Arg<'a>; 4] {
    [name(signal, flags::SIGNAL), act, old, Arg::Size(size_of::<SigSet>())]
}

/// `rt_sigtimedwait(set, info, NULL, 8)`: sigwaitinfo(2): wait for a signal that is blocked.
pub fn rt_sigtimedwait(cx: &Cx, set: SigSet) -> Result<SigInfo, Error> {
    let info = Cell::new(SigInfo::default());
    let args = [Arg::In(&set), Arg::Out(&info), Arg::Null, Arg::Size(size_of::<SigSet>())];
    cx.read(nr::rt_sigtimedwait, &args)?;
    Ok(info.get())
}

/// `kill(pid, sig)`: kill(2), of a process that may have ended. False: it has, ESRCH.
pub fn kill_if_there(cx: &Cx, pid: i32, signal: c_int) -> Result<bool, Error> {
    let args = [Arg::Int(pid.into()), name(signal, flags::SIGNAL)];
    Ok(cx.attempt(nr::kill, &args, &[Errno::ESRCH])?.is_ok())
}

/// `kill(pid, sig)`: kill(2).
pub fn kill(cx: &Cx, pid: i32, signal: c_int) -> Result<(), Error> {
    cx.change(nr::kill, &[Arg::Int(pid.into()), name(signal, flags::SIGNAL)]).map(drop)
}

/// As [`kill_if_there`], of one that may refuse the signal: EPERM is false too.
pub fn kill_if_allowed(cx: &Cx, pid: i32, signal: c_int) -> Result<bool, Error> {
    let args = [Arg::Int(pid.into()), name(signal, flags::SIGNAL)];
    Ok(cx.attempt(nr::kill, &args, &[Errno::ESRCH, Errno::EPERM])?.is_ok())
}

// ---- the state of a process ----

fn prctl(cx: &Cx, option: c_int, args: &[Arg]) -> Result<usize, Error> {
    let mut all = vec![name(option, flags::PRCTL)];
    all.extend(args.iter().copied());
    cx.change(nr::prctl, &all)
}

/// `prctl(PR_SET_PDEATHSIG, signal)`: PR_SET_PDEATHSIG(2const). The signal that we get when the
/// thread that made us ends. A change of ids clears it.
pub fn prctl_set_pdeathsig(cx: &Cx, signal: c_int) -> Result<(), Error> {
    prctl(cx, libc::PR_SET_PDEATHSIG, &[name(signal, flags::SIGNAL)]).map(drop)
}

/// `prctl(PR_GET_PDEATHSIG, &signal)`: PR_GET_PDEATHSIG(2const). 0: none is set.
pub fn prctl_get_pdeathsig(cx: &Cx) -> Result<c_int, Error> {
    let signal = Cell::new(Signal(0));
    let args = [name(libc::PR_GET_PDEATHSIG, flags::PRCTL), Arg::Out(&signal)];
    cx.read(nr::prctl, &args)?;
    Ok(signal.get().0)
}

/// `prctl(PR_SET_NAME, name)`: PR_SET_NAME(2const), at most 15 bytes.
pub fn prctl_set_name(cx: &Cx, text: &CStr) -> Result<(), Error> {
    prctl(cx, libc::PR_SET_NAME, &[Arg::Str(text)]).map(drop)
}

/// `prctl(PR_SET_CHILD_SUBREAPER, 1)`: PR_SET_CHILD_SUBREAPER(2const). Orphans below us become ours.
pub fn prctl_set_child_subreaper(cx: &Cx) -> Result<(), Error> {
    prctl(cx, libc::PR_SET_CHILD_SUBREAPER, &[Arg::Size(1)]).map(drop)
}

/// `prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE)`: PR_SET_DUMPABLE(2const). Until the next execve(2) nobody without
/// CAP_SYS_PTRACE may trace us, read our memory, or follow our links in `/proc`.
pub fn prctl_set_undumpable(cx: &Cx) -> Result<(), Error> {
    prctl(cx, libc::PR_SET_DUMPABLE, &[name(0, flags::DUMP)]).map(drop)
}

/// `prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)`: PR_SET_NO_NEW_PRIVS(2const).
pub fn prctl_set_no_new_privs(cx: &Cx) -> Result<(), Error> {
    let zeros = [Arg::Size(1), Arg::Size(0), Arg::Size(0), Arg::Size(0)];
    prctl(cx, libc::PR_SET_NO_NEW_PRIVS, &zeros).map(drop)
}

/// `prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)`: PR_GET_NO_NEW_PRIVS(2const).
pub fn prctl_get_no_new_privs(cx: &Cx) -> Result<bool, Error> {
    let zero = Arg::Size(0);
    let args = [name(libc::PR_GET_NO_NEW_PRIVS, flags::PRCTL), zero, zero, zero, zero];
    cx.read(nr::prctl, &args).map(|set| set == 1)
}

/// `seccomp(SECCOMP_SET_MODE_FILTER, 0, program)`: seccomp(2). The kernel runs the program before each system call of
/// this process, of what it executes and of its children, for good. EACCES: neither no_new_privs nor CAP_SYS_ADMIN;
/// EINVAL: a program that it does not take; ENOMEM: with those that are loaded it is too long.
pub fn seccomp_set_mode_filter(cx: &Cx, program: &[BpfInstruction]) -> Result<(), Error> {
    let program = BpfProgram::new(program);
    let operation = name(libc::SECCOMP_SET_MODE_FILTER, flags::SECCOMP);
    cx.change(nr::seccomp, &[operation, Arg::Size(0), Arg::In(&program)]).map(drop)
}

/// `prctl(PR_SET_KEEPCAPS, 1)`: PR_SET_KEEPCAPS(2const). The permitted capabilities outlast a change
/// of the uid, until the next execve(2).
pub fn prctl_set_keepcaps(cx: &Cx) -> Result<(), Error> {
    prctl(cx, libc::PR_SET_KEEPCAPS, &[Arg::Size(1)]).map(drop)
}

/// `prctl(PR_CAPBSET_DROP, cap)`: PR_CAPBSET_DROP(2const). EINVAL: this kernel has no such capability.
pub fn prctl_capbset_drop(cx: &Cx, cap: u64) -> Result<(), Error> {
    prctl(cx, libc::PR_CAPBSET_DROP, &[Arg::Name(cap, flags::CAPS)]).map(drop)
}

/// `prctl(PR_CAPBSET_READ, cap)`: PR_CAPBSET_READ(2const). EINVAL: this kernel has no such capability.
pub fn prctl_capbset_read(cx: &Cx, cap: u64) -> Result<bool, Error> {
    let args = [name(libc::PR_CAPBSET_READ, flags::PRCTL), Arg::Name(cap, flags::CAPS)];
    cx.read(nr::prctl, &args).map(|set| set == 1)
}

/// `prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0)`: PR_CAP_AMBIENT(2const). EPERM: it is not
/// both permitted and inheritable.
pub fn prctl_cap_ambient_raise(cx: &Cx, cap: u64) -> Result<(), Error> {
    let raise = name(libc::PR_CAP_AMBIENT_RAISE, flags::AMBIENT);
    let args = [raise, Arg::Name(cap, flags::CAPS), Arg::Size(0), Arg::Size(0)];
    prctl(cx, libc::PR_CAP_AMBIENT, &args).map(drop)
}

/// `capget({version 3, pid 0}, data)`: capget(2). Our own sets.
pub fn capget(cx: &Cx) -> Result<CapData, Error> {
    let data = Cell::new(CapData::default());
    cx.read(nr::capget, &[Arg::In(&CapHeader::SELF), Arg::Out(&data)])?;
    Ok(data.get())
}

/// `capset({version 3, pid 0}, data)`: capget(2).
pub fn capset(cx: &Cx, data: &CapData) -> Result<(), Error> {
    cx.change(nr::capset, &[Arg::In(&CapHeader::SELF), Arg::In(data)]).map(drop)
}

/// `setgroups(size, list)`: getgroups(2).
pub fn setgroups(cx: &Cx, groups: &[u32]) -> Result<(), Error> {
    cx.change(nr::setgroups, &[Arg::Size(groups.len()), Arg::Ids(groups)]).map(drop)
}

/// `setresgid(gid, gid, gid)`: setresuid(2).
pub fn setresgid(cx: &Cx, gid: u32) -> Result<(), Error> {
    let gid = gid as usize;
    cx.change(nr::setresgid, &[Arg::Size(gid), Arg::Size(gid), Arg::Size(gid)]).map(drop)
}

/// `setresuid(uid, uid, uid)`: setresuid(2).
pub fn setresuid(cx: &Cx, uid: u32) -> Result<(), Error> {
    let uid = uid as usize;
    cx.change(nr::setresuid, &[Arg::Size(uid), Arg::Size(uid), Arg::Size(uid)]).map(drop)
}

/// `prlimit64(0, resource, NULL, old)`: getrlimit(2). `table` has the resource's name.
pub fn getrlimit(cx: &Cx, resource: u64, table: Table) -> Result<RLimit, Error> {
    let old = Cell::new(RLimit { soft: 0, hard: 0 });
    let resource = Arg::Name(resource, table);
    cx.read(nr::prlimit64, &[Arg::Size(0), resource, Arg::Null, Arg::Out(&old)])?;
    Ok(old.get())
}

/// `prlimit64(0, resource, limit, NULL)`: getrlimit(2).
pub fn setrlimit(cx: &Cx, resource: u64, limit: RLimit) -> Result<(), Error> {
    let resource = Arg::Name(resource, flags::RLIMIT);
    let args = [Arg::Size(0), resource, Arg::In(&limit), Arg::Null];
    cx.change(nr::prlimit64, &args).map(drop)
}

/// `keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)`: KEYCTL_JOIN_SESSION_KEYRING(2const). A new, empty one.
pub fn keyctl_join_session_keyring(cx: &Cx) -> Result<(), Error> {
    let join = name(libc::KEYCTL_JOIN_SESSION_KEYRING, flags::KEYCTL);
    cx.change(nr::keyctl, &[join, Arg::Null]).map(drop)
}

/// Overwrite the memory from which `/proc/self/environ` and `/proc/self/cmdline` are read: the first
/// becomes empty, the second `text`, as far as there is room. No system call.
pub fn forget_start(cx: &Cx, text: &CStr) {
    if cx.dry {
        return;
    }
    let mut text = text.to_bytes().iter().copied();
    for s in strings(cx.start.argv).chain(strings(cx.start.envp)) {
        // SAFETY: the kernel laid these strings out in our own writable stack. `Start` copies them
        // and hands out no reference to them. The zero byte at the end stays.
        unsafe {
            for i in 0..libc::strlen(s) {
                *s.cast_mut().add(i) = text.next().unwrap_or(0) as c_char;
            }
        }
        text.by_ref().for_each(drop); // what did not fit into argv[0] does not go on in argv[1]
    }
}

// ---- namespaces ----

/// `sethostname(name, len)`: sethostname(2).
pub fn sethostname(cx: &Cx, text: &[u8]) -> Result<(), Error> {
    cx.change(nr::sethostname, &[Arg::Bytes(text), Arg::Size(text.len())]).map(drop)
}

/// `ioctl(ns, NS_GET_USERNS)`: ioctl_ns(2). The user namespace that owns a namespace. EPERM: it is
/// neither ours nor below ours, so that our capabilities do not reach it.
pub fn ns_get_userns(cx: &Cx, ns: BorrowedFd) -> Result<OwnedFd, Error> {
    let request = name(libc::NS_GET_USERNS as i64, flags::IOCTL);
    cx.read(nr::ioctl, &[fd(ns), request]).map(owned)
}

/// `ioctl(ns, NS_GET_OWNER_UID, &uid)`: ioctl_ns(2). Who has made a user namespace.
pub fn ns_get_owner_uid(cx: &Cx, ns: BorrowedFd) -> Result<u32, Error> {
    let uid = Cell::new(Number(0));
    let request = name(libc::NS_GET_OWNER_UID as i64, flags::IOCTL);
    cx.read(nr::ioctl, &[fd(ns), request, Arg::Out(&uid)])?;
    Ok(uid.get().0)
}

/// `ioctl(ns, NS_GET_NSTYPE)`: ioctl_ns(2). Which kind of namespace it is: CLONE_NEW*. ENOTTY: none.
pub fn ns_get_nstype(cx: &Cx, ns: BorrowedFd) -> Result<u64, Error> {
    let request = name(libc::NS_GET_NSTYPE as i64, flags::IOCTL);
    cx.read(nr::ioctl, &[fd(ns), request]).map(|kind| kind as u64)
}

/// `socket(AF_INET, SOCK_DGRAM, 0)`: socket(2), for requests about interfaces.
pub fn socket_inet(cx: &Cx) -> Result<OwnedFd, Error> {
    let args = [
        name(libc::AF_INET, flags::AF),
        flags(libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, flags::SOCK),
        name(libc::IPPROTO_IP, flags::IPPROTO),
    ];
    cx.change_fd(nr::socket, &args)
}

/// `socketpair(AF_UNIX, SOCK_STREAM, 0, sv)`: socketpair(2). Two sockets: what is written to the one is
/// read from the other. `bits` may have SOCK_NONBLOCK.
pub fn socketpair(cx: &Cx, bits: c_int) -> Result<(OwnedFd, OwnedFd), Error> {
    let pair = Cell::new(FdPair([0; 2]));
    let args = [
        name(libc::AF_UNIX, flags::AF),
        flags(libc::SOCK_STREAM | libc::SOCK_CLOEXEC | bits, flags::SOCK),
        Arg::Size(0),
        Arg::Out(&pair),
    ];
    cx.change(nr::socketpair, &args)?;
    if cx.dry {
        return Ok((cx.stand_in()?, cx.stand_in()?));
    }
    let FdPair([first, second]) = pair.get();
    Ok((owned(first as usize), owned(second as usize)))
}

/// `sendto(socket, buf, len, MSG_NOSIGNAL, NULL, 0)`: send(2). EPIPE: the other end is closed.
pub fn sendto(cx: &Cx, socket: BorrowedFd, bytes: &[u8]) -> Result<(), Error> {
    let bits = flags(libc::MSG_NOSIGNAL, flags::MSG);
    let (bytes, size) = (Arg::Bytes(bytes), Arg::Size(bytes.len()));
    cx.change(nr::sendto, &[fd(socket), bytes, size, bits, Arg::Null, Arg::Size(0)]).map(drop)
}

/// `ioctl(socket, SIOCSIFFLAGS, {name, flags})`: netdevice(7).
pub fn set_interface_flags(cx: &Cx, socket: BorrowedFd, request: &IfReq) -> Result<(), Error> {
    let set = name(libc::SIOCSIFFLAGS as i64, flags::IOCTL);
    cx.change(nr::ioctl, &[fd(socket), set, Arg::In(request)]).map(drop)
}
