//! The context of a run: how the program was started, the step that it is in, and what that hands on to the next.

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use syscalls::Errno;

use crate::say::error::Error;
use crate::sys::entry::Start;
use crate::sys::handed::Handed;
use crate::sys::raw::close;
use crate::sys::structs::{SigAction, SigSet};

/// What is done before a file is executed as PROG.
pub type Before = Box<dyn Fn(&Cx, &CStr) -> Result<(), Error>>;

/// The state of a run.
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
    /// What is handed on to the next tool.
    handed: Cell<Handed>,
    /// The environment, where a step before has changed it.
    env: Cell<Option<&'static [CString]>>,
    /// See [`Cx::before_prog`].
    before: Cell<Option<Before>>,
    /// See [`Cx::hold_until_next_step`].
    held: Cell<Vec<OwnedFd>>,
    /// See [`Cx::expects`].
    pub(in crate::sys) expected: Cell<&'static [Errno]>,
    /// Would a session have been begun, were this no dry run, and would it have a terminal?
    pub(in crate::sys) dry_session: Cell<Option<bool>>,
    /// What SIGPIPE did before we had it ignored.
    pub(in crate::sys) sigpipe: Cell<Option<SigAction>>,
    /// The last call of the trace and its last line: the next are written in their place, for the heap only grows.
    pub(in crate::sys) text: Cell<String>,
    /// See `text`.
    pub(in crate::sys) line: Cell<String>,
    /// Room that is not in use: see [`crate::sys::with_piece`].
    pub(in crate::sys) pieces: Cell<Vec<Vec<u8>>>,
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
            handed: Cell::default(),
            env: Cell::default(),
            before: Cell::default(),
            held: Cell::default(),
            expected: Cell::default(),
            dry_session: Cell::default(),
            sigpipe: Cell::default(),
            text: Cell::default(),
            line: Cell::default(),
            pieces: Cell::default(),
        }
    }

    /// This is the step of `tool`: see [`Cx::begin`]. Returns the tool before it.
    pub(in crate::sys) fn enter(
        &self,
        tool: &'static str,
        args: &'static [CString],
        handed: Handed,
    ) -> &'static str {
        self.held.take();
        self.line_of_step.set((args, self.handed.replace(handed)));
        self.tool.replace(tool)
    }

    /// Keep a descriptor open to the end of the step, as one that is close-on-exec and that nobody owns would be.
    pub fn hold_until_next_step(&self, file: OwnedFd) -> RawFd {
        let (fd, mut held) = (file.as_raw_fd(), self.held.take());
        held.push(file);
        self.held.set(held);
        fd
    }

    /// The tool whose step this is, for messages.
    pub fn tool(&self) -> &'static str {
        self.tool.get()
    }

    /// Does the process have the name of `tool`, or is that of no interest, in a program of one tool? From here on it
    /// has.
    pub fn has_name_of(&self, tool: &'static str) -> bool {
        self.tools.is_empty() || self.name.replace(tool) == tool
    }

    /// The command line of the step: the name, the options that were handed on as values, and the rest.
    pub fn command_line(&self) -> (&'static [CString], Vec<CString>) {
        let (args, handed) = self.line_of_step.get();
        (args, handed.options())
    }

    /// What is handed on to the next tool.
    pub fn handed(&self) -> Handed {
        self.handed.get()
    }

    /// Change that.
    pub(in crate::sys) fn hand_on(&self, change: impl FnOnce(&mut Handed)) {
        let mut handed = self.handed.get();
        change(&mut handed);
        self.handed.set(handed);
    }

    /// Is this a dry run?
    pub fn dry(&self) -> bool {
        self.handed().dry
    }

    /// The descriptor to which calls are traced.
    pub fn trace_fd(&self) -> Option<RawFd> {
        self.handed().trace.map(|(fd, _)| fd)
    }

    /// The descriptors on which this process, or its parent, has locks that are to outlive the step: see
    /// [`crate::sys::LOCK`].
    pub fn locks(&self) -> &'static [RawFd] {
        self.handed().locks
    }

    /// There is one more.
    pub fn hold_lock(&self, file: BorrowedFd) {
        self.hand_on(|handed| handed.add_lock(file.as_raw_fd()));
    }

    /// The locks are the parent's from here on: close their descriptors, by close(2), which is in no trace.
    pub fn leave_locks(&self) {
        close_above_2(self.locks()); // nothing of ours is locked on a standard stream
        self.hand_on(|handed| handed.locks = &[]);
    }

    /// The path of our program where it runs sealed, empty where it is not in this root. `None`: it is not sealed. See
    /// [`crate::sys::SEALED`].
    pub fn sealed(&self) -> Option<&'static [u8]> {
        self.handed().sealed
    }

    /// Signals are blocked until PROG, which gets the mask `mask`, is none of our tools. A mask that was
    /// handed on to us is the older one.
    pub fn block_until_prog(&self, mask: SigSet) {
        self.hand_on(|handed| handed.mask = handed.mask.or(Some(mask)));
    }

    /// The signal mask that PROG gets, where it is not ours.
    pub fn mask_of_prog(&self) -> Option<SigSet> {
        self.handed().mask
    }

    /// The pidfd of the parent that waits for this process: see [`crate::sys::PARENT`].
    pub fn parent(&self) -> Option<BorrowedFd<'static>> {
        // SAFETY: it was open when it was handed on, and only `set_parent` and close_range(2) close it, at the end of
        // what this process does with it.
        self.handed().parent.map(|fd| unsafe { BorrowedFd::borrow_raw(fd) })
    }

    /// This process has another parent from here on, or none that waits: close the pidfd of the one before, by
    /// close(2), which is in no trace.
    pub fn set_parent(&self, fd: Option<RawFd>) {
        self.handed().parent.into_iter().for_each(close);
        self.hand_on(|handed| handed.parent = fd);
    }

    /// The descriptors on which it is reported that PROG is executed.
    pub fn ready(&self) -> &'static [RawFd] {
        self.handed().ready
    }

    /// One more of them.
    pub fn add_ready(&self, fd: RawFd) {
        self.hand_on(|handed| handed.add_ready(fd));
    }

    /// Close them, in a process that does not become PROG.
    pub fn close_ready(&self) {
        close_above_2(self.ready()); // of which none is told
        self.hand_on(|handed| handed.ready = &[]);
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
}

fn close_above_2(list: &[RawFd]) {
    list.iter().filter(|fd| **fd > 2).for_each(|fd| close(*fd));
}
