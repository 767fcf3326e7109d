//! The door itself: the one place where a call of a step is made, traced, printed by a dry run, and reported.

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use syscalls::Errno;

use crate::say::error::Error;
use crate::say::flags;
use crate::say::show;
use crate::sys::arg::{self, Arg};
use crate::sys::entry::{Start, cstring, root_fd};
use crate::sys::memory::refused_memory;
use crate::sys::raw::{Call, at, close, name, nr, owned, raw, raw_write, sigaction};
use crate::sys::structs::{PollFd, RLimit, SigAction, SigSet, TimeSpec};

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
                let call = arg::call(nr::fcntl.1, &Checked::args(fd), None);
                Err(Error::call(call.into(), errno).because(what))
            }
        }
    }

    /// The line of the trace.
    fn shown(&self) -> String {
        let call = arg::call(nr::fcntl.1, &Checked::args(self.0), None);
        match self.1 {
            Ok(0) => call + " = 0",
            Ok(_) => call + " = 0x1 (flags FD_CLOEXEC)",
            Err(errno) => [&call, " = -1 ", &show::errno(errno)].concat(),
        }
    }
}

/// `--lock=FD,...` tells the next tool of a chain that a td-lock before it has locks on descriptors. It is not for
/// people: who keeps the descriptor and who closes it says the table of [`crate::process::descriptors`].
pub const LOCK: &str = "--lock";

/// `--sealed=PATH` tells a tool that it runs from a sealed copy of PATH, and that the other tools are beside PATH;
/// `--sealed` that there are none in this root. It is not for people: where it is false, PROG can write to the file of
/// the tool.
pub const SEALED: &str = "--sealed";

/// `--parent=FD` tells the next tool of a chain the pidfd of the parent that waits for it, with which it dies. It is not
/// for people: a tool that changes its ids needs it, for that clears the signal of PR_SET_PDEATHSIG(2const).
pub const PARENT: &str = "--parent";

/// What one tool hands on to the next: as values, or as options where execve(2) lies between.
#[derive(Clone, Default)]
pub struct Handed {
    /// `--trace`: the descriptor, and the pid to print or 0.
    pub trace: Option<(RawFd, i32)>,
    /// `--dry-run`.
    pub dry: bool,
    /// `--signal-mask`: the signal mask that PROG gets, where it is not ours.
    pub mask: Option<SigSet>,
    /// `--ready`: where it is said that PROG is executed.
    pub ready: Vec<RawFd>,
    /// See [`LOCK`].
    pub locks: Vec<RawFd>,
    /// See [`SEALED`].
    pub sealed: Option<&'static [u8]>,
    /// See [`PARENT`].
    pub parent: Option<RawFd>,
}

/// What is done before a file is executed as PROG.
pub type Before = Box<dyn Fn(&Cx, &CStr) -> Result<(), Error>>;

/// The state of a run: how the program was started, the step that it is in, and what one step hands on to the next.
pub struct Cx {
    /// How the program was started.
    pub start: &'static Start,
    /// The tools that this program has; none for a program of one, which has the others beside it.
    pub tools: &'static [&'static str],
    /// The tool whose step this is, for messages.
    tool: Cell<&'static str>,
    /// The tool whose name the process has, as far as that is known.
    name: Cell<&'static str>,
    /// Its command line, and what was handed on to it beside that.
    line_of_step: Cell<(&'static [CString], Handed)>,
    pub(in crate::sys) dry: Cell<bool>,
    pub(in crate::sys) trace: Cell<Option<RawFd>>,
    /// The pid that stands before each line, as strace does once there is a second process. 0: none.
    pub(in crate::sys) pid: Cell<i32>,
    /// What SIGPIPE did before we had it ignored.
    sigpipe: Cell<Option<SigAction>>,
    /// The signal mask that PROG gets, where it is not ours.
    mask: Cell<Option<SigSet>>,
    /// Room for what is read, of [`PIECE`] bytes each, that is not in use.
    pub(in crate::sys) pieces: Cell<Vec<Vec<u8>>>,
    /// The last call of the trace and its last line: the next are written in their place, for the heap only grows.
    text: Cell<String>,
    line: Cell<String>,
    /// See [`Cx::locks`].
    locks: Cell<Vec<RawFd>>,
    /// See [`Cx::sealed`].
    sealed: Cell<Option<&'static [u8]>>,
    /// Where it is said that PROG is executed: see [`crate::process::descriptors`].
    ready: Cell<Vec<RawFd>>,
    /// See [`PARENT`].
    parent: Cell<Option<RawFd>>,
    /// The environment, where a step before has changed it.
    env: Cell<Option<&'static [CString]>>,
    /// See [`Cx::before_prog`].
    before: Cell<Option<Before>>,
    /// Would a session have been begun, were this no dry run, and would it have a terminal?
    pub(in crate::sys) dry_session: Cell<Option<bool>>,
    /// See [`Cx::hold_until_next_step`].
    held: Cell<Vec<OwnedFd>>,
    /// See [`Cx::expects`].
    expected: Cell<&'static [Errno]>,
}

/// How much is read at once. Files of /proc are best read in one piece; mountinfo is the large one.
pub(in crate::sys) const PIECE: usize = 32768;

impl Handed {
    /// The same as options, for execve(2). Not `--sealed`: that is about this program alone.
    pub fn options(&self) -> Vec<CString> {
        let mut options = Vec::new();
        let numbers = |name: &str, numbers: &[i32]| {
            let mut option = name.to_string();
            for (i, n) in numbers.iter().enumerate() {
                show::signed(if i == 0 { "=" } else { "," }, (*n).into(), &mut option);
            }
            cstring(option)
        };
        if let Some((fd, pid)) = self.trace {
            let both = [fd, pid];
            let (first, _) = both.split_at(if pid == 0 { 1 } else { 2 });
            options.push(numbers("--trace", first));
        }
        if let Some(fd) = self.parent {
            options.push(numbers(PARENT, &[fd]));
        }
        if self.dry {
            options.push(c"--dry-run".into());
        }
        if let Some(SigSet(set)) = self.mask {
            let mut option = String::new();
            show::hexadecimal("--signal-mask=", set, &mut option);
            options.push(cstring(option));
        }
        if !self.locks.is_empty() {
            options.push(numbers(LOCK, &self.locks));
        }
        for fd in &self.ready {
            options.push(numbers("--ready", &[*fd]));
        }
        options
    }
}

fn copy(list: &Cell<Vec<RawFd>>) -> Vec<RawFd> {
    let own = list.take();
    list.set(own.clone());
    own
}

fn push(list: &Cell<Vec<RawFd>>, fd: RawFd) {
    let mut own = list.take();
    own.push(fd);
    list.set(own);
}

fn close_above_2(list: &[RawFd]) {
    list.iter().filter(|fd| **fd > 2).for_each(|fd| close(*fd));
}

impl Cx {
    /// The context of a program that has these tools.
    pub fn new(start: &'static Start, tools: &'static [&'static str]) -> Cx {
        Cx {
            start,
            tools,
            tool: Cell::default(),
            name: Cell::new(start.name_of(tools)),
            line_of_step: Cell::default(),
            dry: Cell::default(),
            trace: Cell::default(),
            pid: Cell::default(),
            sigpipe: Cell::default(),
            mask: Cell::default(),
            pieces: Cell::default(),
            text: Cell::default(),
            line: Cell::default(),
            locks: Cell::default(),
            sealed: Cell::default(),
            ready: Cell::default(),
            parent: Cell::default(),
            env: Cell::default(),
            before: Cell::default(),
            dry_session: Cell::default(),
            held: Cell::default(),
            expected: Cell::default(),
        }
    }

    /// Begin a step: that of `tool`, whose command line is `args`. `handed` is what the step before handed on, as changed
    /// by this command line. Where calls are traced, the fcntl(2) calls that `checked` its descriptors are traced too.
    pub fn begin(
        &self,
        tool: &'static str,
        args: &'static [CString],
        handed: Handed,
        checked: &[Checked],
    ) {
        let before = self.handed();
        let was_traced = before.trace.is_some();
        self.held.take();
        // Before the first step there is no tool, or `td`.
        let is_first = matches!(self.tool.replace(tool), "" | "td");
        self.line_of_step.set((args, before));
        self.trace.set(handed.trace.map(|(fd, _)| fd));
        self.pid.set(handed.trace.map_or(0, |(_, pid)| pid));
        self.dry.set(handed.dry);
        self.mask.set(handed.mask);
        self.ready.set(handed.ready);
        self.parent.set(handed.parent);
        self.locks.set(handed.locks);
        self.sealed.set(handed.sealed);
        match self.trace.get() {
            None => {}
            Some(_) if was_traced => checked.iter().for_each(|fd| self.line(&fd.shown())),
            Some(_) => self.trace_start(is_first, checked),
        }
    }

    /// Keep a descriptor open to the end of the step, as one that is close-on-exec and that nobody owns would be.
    pub fn hold_until_next_step(&self, file: OwnedFd) -> RawFd {
        let (fd, mut held) = (file.as_raw_fd(), self.held.take());
        held.push(file);
        self.held.set(held);
        fd
    }

    /// What is handed on to the next tool.
    pub fn handed(&self) -> Handed {
        Handed {
            trace: self.trace.get().map(|fd| (fd, self.pid.get())),
            dry: self.dry(),
            mask: self.mask.get(),
            ready: self.ready(),
            locks: self.locks(),
            sealed: self.sealed.get(),
            parent: self.parent.get(),
        }
    }

    /// The tool whose step this is, for messages.
    pub fn tool(&self) -> &'static str {
        self.tool.get()
    }

    /// Does the process have the name of `tool`, or is that of no interest, in a program of one tool? From here on it has.
    pub fn has_name_of(&self, tool: &'static str) -> bool {
        self.tools.is_empty() || self.name.replace(tool) == tool
    }

    /// The command line of the step: the name, the options that were handed on as values, and the rest.
    pub fn command_line(&self) -> (&'static [CString], Vec<CString>) {
        let (args, handed) = self.line_of_step.take();
        let options = handed.options();
        self.line_of_step.set((args, handed));
        (args, options)
    }

    /// Is this a dry run?
    pub fn dry(&self) -> bool {
        self.dry.get()
    }

    /// The descriptors on which this process, or its parent, has locks that are to outlive the step: see [`LOCK`].
    pub fn locks(&self) -> Vec<RawFd> {
        copy(&self.locks)
    }

    /// The path of the program of which we are a sealed copy, empty where it is not in this root. `None`: we are not a
    /// sealed copy. See [`SEALED`].
    pub fn sealed(&self) -> Option<&'static [u8]> {
        self.sealed.get()
    }

    /// The list of [`LOCK`] has one descriptor more.
    pub fn hold_lock(&self, file: BorrowedFd) {
        push(&self.locks, file.as_raw_fd());
    }

    /// The locks are the parent's from here on: close their descriptors, by close(2), which is in no trace.
    pub fn leave_locks(&self) {
        close_above_2(&self.locks.take()); // nothing of ours is locked on a standard stream
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

    /// The pidfd of the parent that waits for this process: see [`PARENT`].
    pub fn parent(&self) -> Option<BorrowedFd<'static>> {
        // SAFETY: it was open when it was handed on, and only `set_parent` and close_range(2) close it, at the end of
        // what this process does with it.
        self.parent.get().map(|fd| unsafe { BorrowedFd::borrow_raw(fd) })
    }

    /// This process has another parent from here on, or none that waits: close the pidfd of the one before, by
    /// close(2), which is in no trace.
    pub fn set_parent(&self, fd: Option<RawFd>) {
        self.parent.replace(fd).into_iter().for_each(close);
    }

    /// Close descriptors above 2 that the caller has left to us, by close(2), which is in no trace.
    pub fn close_inherited(&self, fds: impl Iterator<Item = RawFd>) {
        fds.filter(|fd| *fd > 2 && !self.dry()).for_each(close);
    }

    /// The environment of this step, `NAME=VALUE` each.
    pub fn env(&self) -> &'static [CString] {
        self.env.get().unwrap_or(&self.start.env)
    }

    /// The environment that the steps after this one and PROG have. `None`: that with which the program was started.
    pub fn changed_env(&self) -> Option<&'static [CString]> {
        self.env.get()
    }

    /// Change it.
    pub fn set_env(&self, env: Vec<CString>) {
        self.env.set(Some(env.leak()));
    }

    /// The value of a variable of the environment.
    pub fn getenv(&self, name: &str) -> Option<Vec<u8>> {
        self.env().iter().find_map(|var| {
            let rest = var.to_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some(rest.to_vec())
        })
    }

    /// What a step wants done before PROG is executed, by a step after it.
    pub fn set_before_prog(&self, before: Before) {
        self.before.set(Some(before));
    }

    /// Do that. `path` is the file that is executed.
    pub fn before_prog(&self, path: &CStr) -> Result<(), Error> {
        let before = self.before.take();
        let done = before.as_ref().map_or(Ok(()), |before| before(self, path));
        self.before.set(before);
        done
    }

    /// The descriptors on which it is said that PROG is executed.
    pub fn ready(&self) -> Vec<RawFd> {
        copy(&self.ready)
    }

    /// One more of them.
    pub fn add_ready(&self, fd: RawFd) {
        push(&self.ready, fd);
    }

    /// Close them, in a process that does not become PROG.
    pub fn close_ready(&self) {
        close_above_2(&self.ready.take()); // of which none is told
    }

    /// Write to one of them, where the end of a reader changes nothing else.
    pub fn say_on(&self, fd: RawFd, bytes: &[u8]) -> Result<(), Error> {
        if self.sigpipe.get().is_none() {
            self.ignore_sigpipe(&[]);
        }
        let args = [Arg::Fd(fd), Arg::Bytes(bytes)];
        self.change(nr::write, &args).map(drop)
    }

    /// The descriptor to which calls are traced.
    pub fn trace_fd(&self) -> Option<RawFd> {
        self.trace.get()
    }

    /// From here on we are a process that td made: its pid, in its own pid namespace, goes before each
    /// line. (In a dry run no process was made.)
    pub fn trace_child(&self) {
        self.dry_session.set(None);
        if self.trace.get().is_some() && !self.dry() {
            let pid = raw(nr::getpid, &[]);
            self.pid.set(pid.unwrap_or(0) as i32);
            self.print(nr::getpid, &[], Some(pid));
        }
    }

    /// Print what was done before the first line, once no closed pipe can end the tool: a lost line changes nothing else.
    fn trace_start(&self, is_first: bool, checked: &[Checked]) {
        let mut lines = if is_first { self.entry() } else { Vec::new() };
        lines.extend(checked.iter().map(Checked::shown));
        match self.sigpipe.get() {
            None => self.ignore_sigpipe(&lines),
            Some(_) => lines.iter().for_each(|line| self.line(line)),
        }
    }

    /// What the entry did.
    fn entry(&self) -> Vec<String> {
        let asked = Cell::new([0, 1, 2].map(|fd| PollFd { fd, events: 0, revents: 0 }));
        let zero = Cell::new(TimeSpec { sec: 0, nsec: 0 });
        let args = [Arg::InOut(&asked), Arg::Size(3), Arg::InOut(&zero), Arg::Null, Arg::Size(0)];
        let closed = |fd: &RawFd| self.start.was_closed(*fd);
        let mut ppoll = arg::call(nr::ppoll.1, &args, None);
        show::unsigned(" = ", (0..3).filter(closed).count() as u64, &mut ppoll);
        let mut lines = vec![ppoll];
        let flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
        for fd in (0..3).filter(closed) {
            let args = [Arg::Fd(libc::AT_FDCWD), Arg::Path(c"/"), Arg::Open(flags)];
            let mut openat = arg::call(nr::openat.1, &args, None);
            show::signed(" = ", fd.into(), &mut openat);
            lines.push(openat);
        }
        lines
    }

    /// A message into a pipe that nobody reads is a lost line, and not our end. `held` are lines that
    /// had to wait for this.
    pub(in crate::sys) fn ignore_sigpipe(&self, held: &[String]) {
        let old = Cell::new(SigAction::DEFAULT);
        let args = sigaction(libc::SIGPIPE, Arg::In(&SigAction::IGNORE), Arg::Out(&old));
        let result = raw(nr::rt_sigaction, &args);
        self.sigpipe.set(Some(old.get()));
        if self.trace.get().is_some() {
            held.iter().for_each(|line| self.line(line));
            self.print(nr::rt_sigaction, &args, Some(result));
        }
    }

    /// Give SIGPIPE back what it did, before `call` executes a program. The lines of both calls are
    /// written before: afterwards a closed pipe would end us.
    pub(in crate::sys) fn restore_sigpipe(&self, call: Call, exec: &[Arg]) {
        let old = self.sigpipe.take();
        let act = old.as_ref().map_or(Arg::Null, |old| Arg::In(old));
        let args = sigaction(libc::SIGPIPE, act, Arg::Null);
        if self.trace.get().is_some() {
            self.print(nr::rt_sigaction, &args, Some(Ok(0))); // it was valid before
        }
        // A dry run has printed it already.
        if self.trace.get().is_some() && !self.dry() {
            self.line(&(arg::call(call.1, exec, None) + " = ?"));
        }
        if old.is_some() {
            let _ = raw(nr::rt_sigaction, &args);
        }
    }

    /// The next call may fail so, and the caller asks for no more than that: no text is made for it.
    pub fn expects(&self, errnos: &'static [Errno]) -> &Cx {
        self.expected.set(errnos);
        self
    }

    /// A call that looks: made in a dry run too.
    pub(in crate::sys) fn read(&self, call: Call, args: &[Arg]) -> Result<usize, Error> {
        let expected = self.expected.take();
        self.make(call, args)?.map_err(|errno| match expected.contains(&errno) {
            true => Error::call(call.1.into(), errno),
            false => self.failed(call, args, errno),
        })
    }

    /// The same, of one that returns a descriptor.
    pub(in crate::sys) fn read_fd(&self, call: Call, args: &[Arg]) -> Result<OwnedFd, Error> {
        self.read(call, args).map(owned)
    }

    /// A call that changes something, of which the caller expects these failures: no text is made for them, which
    /// would stay for good.
    pub(in crate::sys) fn attempt(
        &self,
        call: Call,
        args: &[Arg],
        expected: &[Errno],
    ) -> Result<Result<usize, Errno>, Error> {
        if self.dry() {
            self.print(call, args, None);
            return Ok(Ok(0));
        }
        match self.make(call, args)? {
            Err(errno) if !expected.contains(&errno) => Err(self.failed(call, args, errno)),
            other => Ok(other),
        }
    }

    /// A call that changes something: a dry run prints it and takes it to have returned 0.
    pub(in crate::sys) fn change(&self, call: Call, args: &[Arg]) -> Result<usize, Error> {
        if self.dry() {
            self.expected.take();
            self.print(call, args, None);
            return Ok(0);
        }
        self.read(call, args)
    }

    /// As `change`, for a call that returns a descriptor: a dry run gets one that can do nothing.
    pub(in crate::sys) fn change_fd(&self, call: Call, args: &[Arg]) -> Result<OwnedFd, Error> {
        if self.dry() {
            self.expected.take();
            self.print(call, args, None);
            return self.stand_in();
        }
        self.read_fd(call, args)
    }

    /// What a dry run has in place of a descriptor that a call would have returned.
    pub(in crate::sys) fn stand_in(&self) -> Result<OwnedFd, Error> {
        let flags = Arg::Open((libc::O_PATH | libc::O_CLOEXEC) as u64);
        let args = [at(None), Arg::Path(c"/"), flags];
        root_fd().map_err(|errno| self.failed(nr::openat, &args, errno))
    }

    /// Make the call, again where it was interrupted, and trace it.
    pub(in crate::sys) fn make(
        &self,
        call: Call,
        args: &[Arg],
    ) -> Result<Result<usize, Errno>, Error> {
        if let Some(error) = refused_memory() {
            return Err(error);
        }
        loop {
            let result = raw(call, args);
            if self.trace.get().is_some() {
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
    pub(in crate::sys) fn failed(&self, call: Call, args: &[Arg], errno: Errno) -> Error {
        let error = Error::call(arg::call(call.1, args, None).into(), errno);
        if errno != Errno::EMFILE {
            return error;
        }
        match self.limit_of_files() {
            Ok(limit) => error.because(
                ["as many files are open as RLIMIT_NOFILE allows: ", &show::number(limit.soft)]
                    .concat(),
            ),
            Err(_) => error,
        }
    }

    /// `prlimit64(0, RLIMIT_NOFILE, NULL, limit)`: getrlimit(2).
    fn limit_of_files(&self) -> Result<RLimit, Error> {
        let limit = Cell::new(RLimit { soft: 0, hard: 0 });
        let resource = Arg::Name(libc::RLIMIT_NOFILE as u64, flags::RLIMIT);
        self.read(nr::prlimit64, &[Arg::Size(0), resource, Arg::Null, Arg::Out(&limit)])?;
        Ok(limit.get())
    }

    /// A line of the trace, or of a dry run, which has no result.
    pub(in crate::sys) fn print(
        &self,
        call: Call,
        args: &[Arg],
        result: Option<Result<usize, Errno>>,
    ) {
        let mut text = self.text.take();
        text.clear();
        arg::append_call(call.1, args, result.and_then(Result::ok), &mut text);
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
    pub(in crate::sys) fn line(&self, text: &str) {
        let mut line = self.line.take();
        line.clear();
        if self.pid.get() != 0 {
            show::signed("[pid ", self.pid.get().into(), &mut line);
            line.push_str("] ");
        }
        show::escape(text.as_bytes(), b"", &mut line);
        line.push('\n');
        raw_write(self.trace.get().unwrap_or(libc::STDOUT_FILENO), line.as_bytes());
        self.line.set(line);
    }

    /// Say something on standard error, in one write. What cannot be written is lost, and changes
    /// nothing else.
    pub fn say(&self, error: &Error) {
        if self.sigpipe.get().is_none() {
            self.ignore_sigpipe(&[]);
        }
        raw_write(libc::STDERR_FILENO, error.text(self.tool()).as_bytes());
    }
}
