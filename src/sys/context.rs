//! The context of a run: how the program was started, its current step, and what that step passes on to the next.

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use syscalls::Errno;

use crate::say::error::Error;
use crate::sys::entry::Start;
use crate::sys::handed::Handed;
use crate::sys::raw::close;
use crate::sys::structs::{SigAction, SigSet};

/// What is done before a file is executed as PROG.
pub type Before = Box<dyn Fn(&Cx, &CStr) -> Result<(), Error>>;

/// The directories to which this step has walked last, from that of `--state` on: the next walk that leads through one
/// of them begins there. To open a directory and close it again takes as long as ten simple calls.
pub struct Walked {
    /// The path.
    pub path: Vec<u8>,
    /// Who was trusted beside root.
    pub owner: u32,
    /// Where in the path the name of a directory ends, and the directory; a parent first.
    pub directories: Vec<(usize, Rc<OwnedFd>)>,
}

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
    line_of_step: Cell<(&'static [CString], &'static Handed)>,
    /// What is handed on to the next tool: by its address, for each call asks whether it is traced.
    handed: Cell<&'static Handed>,
    /// The environment, where a step before has changed it.
    env: Cell<Option<&'static [CString]>>,
    /// See [`Cx::before_prog`].
    before: Cell<Option<Before>>,
    /// See [`Cx::hold_until_next_step`].
    held: Cell<Vec<OwnedFd>>,
    /// See [`Walked`].
    pub walked: Cell<Option<Walked>>,
    /// See [`Cx::made_mount_namespace`].
    made_mount_namespace: Cell<bool>,
    /// See [`crate::sys::mountinfo`].
    pub(in crate::sys) mountinfo: Cell<Option<&'static [u8]>>,
    /// Where hierarchies of cgroups are mounted, as far as it was checked since this process has last changed a mount.
    pub hierarchies: Cell<Vec<CString>>,
    /// How many functions look for the cause of a failure, one within the other; and is that in the trace?
    pub(in crate::sys) looking: Cell<(u32, bool)>,
    /// See [`Cx::expects`].
    pub(in crate::sys) expected: Cell<&'static [Errno]>,
    /// In a dry run: would a session have been started, and would it have a terminal?
    pub(in crate::sys) dry_session: Cell<Option<bool>>,
    /// The disposition of SIGPIPE before this program ignored it.
    pub(in crate::sys) sigpipe: Cell<Option<SigAction>>,
    /// The last call of the trace and its last line: the next are written in their place, for the heap only grows.
    pub(in crate::sys) text: Cell<String>,
    /// See `text`.
    pub(in crate::sys) line: Cell<String>,
    /// Room that is not in use: see [`crate::sys::with_piece`].
    pub(in crate::sys) pieces: Cell<Vec<Vec<u8>>>,
    /// Is the large one of them there?
    pub(in crate::sys) has_piece: Cell<bool>,
}

impl Cx {
    /// The context of a program that has these tools.
    pub fn new(start: &'static Start, tools: &'static [&'static str]) -> Cx {
        Cx {
            start,
            tools,
            tool: Cell::default(),
            name: Cell::new(start.name_of(tools)),
            line_of_step: Cell::new((&[], &Handed::NOTHING)),
            handed: Cell::new(&Handed::NOTHING),
            env: Cell::default(),
            before: Cell::default(),
            held: Cell::default(),
            walked: Cell::default(),
            made_mount_namespace: Cell::default(),
            mountinfo: Cell::default(),
            hierarchies: Cell::default(),
            looking: Cell::default(),
            expected: Cell::default(),
            dry_session: Cell::default(),
            sigpipe: Cell::default(),
            text: Cell::default(),
            line: Cell::default(),
            pieces: Cell::default(),
            has_piece: Cell::default(),
        }
    }

    /// This is the step of `tool`: see [`Cx::begin`]. Returns the tool before it.
    pub(in crate::sys) fn enter(
        &self,
        tool: &'static str,
        args: &'static [CString],
        handed: Handed,
    ) -> &'static str {
        self.line_of_step.set((args, self.handed.replace(Box::leak(Box::new(handed)))));
        self.tool.replace(tool)
    }

    /// The step has ended: close what was kept open for it.
    pub fn end_step(&self) {
        self.held.take();
        self.walked.take();
        self.looking.take();
    }

    /// Keep a descriptor open to the end of the step, as one that is close-on-exec and that nobody owns would be.
    pub fn hold_until_next_step(&self, file: OwnedFd) -> RawFd {
        let (fd, mut held) = (file.as_raw_fd(), self.held.take());
        held.push(file);
        self.held.set(held);
        fd
    }

    /// Was this process cloned in a new mount namespace, since it was last executed? (PID 1 may unshare its own.)
    pub fn made_mount_namespace(&self) -> bool {
        self.made_mount_namespace.get()
    }

    /// The process is in other namespaces from here on, which it has `made` or joined: CLONE_NEW*.
    pub(in crate::sys) fn enters_namespaces(&self, kinds: u64, made: bool) {
        if kinds & libc::CLONE_NEWNS as u64 != 0 {
            self.made_mount_namespace.set(made);
        }
        self.mounts_change();
    }

    /// Forget what is known of the mounts: this process changes them, or others may have done so.
    pub(in crate::sys) fn mounts_change(&self) {
        self.mountinfo.take();
        self.hierarchies.take();
        self.walked.take();
    }

    /// The tool whose step this is, for messages.
    pub fn tool(&self) -> &'static str {
        self.tool.get()
    }

    /// Does the process have the name of `tool`, or does that not matter, in a program of one tool? It has from here
    /// on.
    pub fn has_name_of(&self, tool: &'static str) -> bool {
        self.tools.is_empty() || self.name.replace(tool) == tool
    }

    /// The command line of the step: the name, the options that were handed on as values, and the rest.
    pub fn command_line(&self) -> (&'static [CString], Vec<CString>) {
        let (args, handed) = self.line_of_step.get();
        (args, handed.options())
    }

    /// What is handed on to the next tool.
    pub fn handed(&self) -> &'static Handed {
        self.handed.get()
    }

    /// Change that.
    pub(in crate::sys) fn hand_on(&self, change: &dyn Fn(&mut Handed)) {
        let mut handed = *self.handed.get();
        change(&mut handed);
        self.handed.set(Box::leak(Box::new(handed)));
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
        self.hand_on(&|handed| handed.add_lock(file.as_raw_fd()));
    }

    /// The locks belong to the parent from here on: close their descriptors with close(2), which is not traced.
    pub fn leave_locks(&self) {
        close_above_2(self.locks()); // nothing of ours is locked on a standard stream
        self.hand_on(&|handed| handed.locks = &[]);
    }

    /// The path of our program where it runs sealed, empty where it is not in this root. `None`: it is not sealed. See
    /// [`crate::sys::SEALED`].
    pub fn sealed(&self) -> Option<&'static [u8]> {
        self.handed().sealed
    }

    /// Signals are blocked until PROG, which gets the mask `mask`, is none of our tools. A mask that was
    /// handed on to us is the older one.
    pub fn block_until_prog(&self, mask: SigSet) {
        self.hand_on(&|handed| handed.mask = handed.mask.or(Some(mask)));
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
        self.hand_on(&|handed| handed.parent = fd);
    }

    /// The descriptors on which it is reported that PROG is executed.
    pub fn ready(&self) -> &'static [RawFd] {
        self.handed().ready
    }

    /// One more of them.
    pub fn add_ready(&self, fd: RawFd) {
        self.hand_on(&|handed| handed.add_ready(fd));
    }

    /// Close them, in a process that does not become PROG.
    pub fn close_ready(&self) {
        close_above_2(self.ready()); // of which none is told
        self.hand_on(&|handed| handed.ready = &[]);
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

    /// What an earlier step wants done before a later step executes PROG.
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
