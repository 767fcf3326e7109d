//! The trace: a line for each call, as strace(1) prints it, and SIGPIPE, so that a reader who is gone changes nothing.

use std::cell::Cell;
use std::os::fd::RawFd;

use syscalls::Errno;

use crate::say::show;
use crate::sys::arg::{self, Arg};
use crate::sys::checked::Checked;
use crate::sys::context::Cx;
use crate::sys::output::raw_write;
use crate::sys::raw::{Call, nr, raw, sigaction};
use crate::sys::structs::{PollFd, SigAction, TimeSpec};

/// See [`Cx::looking`].
pub struct Looking<'a>(&'a Cx);

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        let (depth, is_said) = self.0.looking.get();
        self.0.looking.set((depth.saturating_sub(1), is_said));
    }
}

impl Cx {
    /// From here on this is a process that td created: its pid, in its own pid namespace, is printed before each line.
    /// (In a dry run, no process was created.)
    pub fn trace_child(&self) {
        self.dry_session.set(None);
        if let Some(fd) = self.trace_fd().filter(|_| !self.dry()) {
            let pid = raw(nr::getpid, &[]);
            self.hand_on(&|handed| handed.trace = Some((fd, pid.unwrap_or(0) as i32)));
            self.print(nr::getpid, &[], Some(pid));
        }
    }

    /// Print what was done before the first line, once no closed pipe can end the tool: a lost line changes nothing
    /// else.
    pub(in crate::sys) fn trace_start(&self, is_first: bool, checked: &[Checked]) {
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

    /// A message into a pipe that nobody reads is lost, and must not end this process. `held` are lines that had to
    /// wait for this.
    pub(in crate::sys) fn ignore_sigpipe(&self, held: &[String]) {
        let old = Cell::new(SigAction::DEFAULT);
        let args = sigaction(libc::SIGPIPE, Arg::In(&SigAction::IGNORE), Arg::Out(&old));
        let result = raw(nr::rt_sigaction, &args);
        self.sigpipe.set(Some(old.get()));
        if self.trace_fd().is_some() {
            held.iter().for_each(|line| self.line(line));
            self.print(nr::rt_sigaction, &args, Some(result));
        }
    }

    /// Restore the disposition of SIGPIPE before `call` executes a program. The lines of both calls are written first:
    /// afterwards a closed pipe would end this process.
    pub(in crate::sys) fn restore_sigpipe(&self, call: Call, exec: &[Arg]) {
        let old = self.sigpipe.take();
        let act = old.as_ref().map_or(Arg::Null, |old| Arg::In(old));
        let args = sigaction(libc::SIGPIPE, act, Arg::Null);
        if self.trace_fd().is_some() {
            self.print(nr::rt_sigaction, &args, Some(Ok(0))); // it was valid before
        }
        // A dry run has printed it already.
        if self.trace_fd().is_some() && !self.dry() {
            self.line(&(arg::call(call.1, exec, None) + " = ?"));
        }
        if old.is_some() {
            let _ = raw(nr::rt_sigaction, &args);
        }
    }

    /// What is called while this lives is no part of the step: it looks for the cause of a failure. A line of the trace
    /// separates it from the step.
    #[must_use]
    pub fn looking(&self) -> Looking<'_> {
        let (depth, is_said) = self.looking.get();
        self.looking.set((depth + 1, is_said));
        Looking(self)
    }

    /// The line between the step and the looking, before the first call of either: as strace(1) writes what is no call.
    fn separate(&self) {
        let (depth, is_said) = self.looking.get();
        if is_said != (depth > 0) {
            self.looking.set((depth, depth > 0));
            let what =
                if is_said { ": back to the step ---" } else { ": looking for the cause ---" };
            self.line(&["--- ", self.tool(), what].concat());
        }
    }

    /// A line of the trace, or of a dry run, which has no result.
    pub(in crate::sys) fn print(
        &self,
        call: Call,
        args: &[Arg],
        result: Option<Result<usize, Errno>>,
    ) {
        self.separate();
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
                    text.push_str(show::signal(n as i32));
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
        let (fd, pid) = self.handed().trace.unwrap_or((libc::STDOUT_FILENO, 0));
        // As strace does once there is a second process.
        if pid != 0 {
            show::signed("[pid ", pid.into(), &mut line);
            line.push_str("] ");
        }
        show::escape(text.as_bytes(), b"", &mut line);
        line.push('\n');
        raw_write(fd, line.as_bytes());
        self.line.set(line);
    }
}
