//! The end of what PROG leaves behind: `td-init --grace`.

use std::os::fd::AsFd;

use crate::process::signals::{self, Child};
use crate::process::wait;
use crate::say::error::Error;
use crate::say::number::int;
use crate::say::show;
use crate::say::text::split;
use crate::sys::proc;
use crate::sys::structs::{SECOND, SigInfo, SigSet, WaitStatus};
use crate::sys::{self, Cx};

/// Our children, as long as we have one thread: proc_pid_task(5).
const CHILDREN: &std::ffi::CStr = c"/proc/thread-self/children";

const WITHOUT_PROC: &str = "--grace outside of a pid namespace needs /proc";

/// What is done about the processes of PROG.
pub struct Grace {
    /// How long they have from SIGTERM on, in nanoseconds.
    time: i64,
    pid: i32,
    /// When they are killed.
    deadline: Option<i64>,
    has_sent_term: bool,
    has_killed: bool,
}

impl Grace {
    /// So much time. What it needs is looked at before PROG begins.
    pub fn new(cx: &Cx, time: i64) -> Result<Grace, Error> {
        let grace = Grace {
            time,
            pid: sys::getpid(cx)?,
            deadline: None,
            has_sent_term: false,
            has_killed: false,
        };
        if !grace.is_first() {
            sys::openat(cx, None, CHILDREN, libc::O_RDONLY)
                .map_err(|e| proc::why_missing(cx, WITHOUT_PROC, e))?;
            check_proc(cx, grace.pid)?;
        }
        Ok(grace)
    }

    /// Are we process 1 of a pid namespace? Then all others there are those of PROG.
    fn is_first(&self) -> bool {
        self.pid == 1
    }

    /// Wait as [`wait::wait`] does, until PROG and all its processes have ended.
    pub fn wait(mut self, cx: &Cx, child: &Child) -> Result<WaitStatus, Error> {
        let mut left = true;
        loop {
            match self.next_signal(cx, left)? {
                None => {}
                Some(signal) if signal.signo == libc::SIGCHLD => left = wait::reap(cx, child)?,
                Some(signal) => self.pass_on(cx, child, &signal)?,
            }
            if let Some(ended) = child.ended.get() {
                if !left && self.is_nobody_left(cx) {
                    return Ok(ended);
                }
                self.terminate(cx)?;
            }
            if self.has_killed || self.time_left(cx)?.is_some_and(|left| left <= 0) {
                self.kill(cx)?;
            }
        }
    }

    /// Wait for a signal; no longer than there is something to do. Process 1 is not told of the end of those that have
    /// entered the namespace.
    fn next_signal(&self, cx: &Cx, left: bool) -> Result<Option<SigInfo>, Error> {
        match self.time_left(cx)? {
            Some(time) if !self.has_killed => {
                let time = if left { time } else { time.min(SECOND / 20) };
                sys::rt_sigtimedwait_for(cx, SigSet::ALL, time.max(0))
            }
            _ => wait::next_signal(cx).map(Some),
        }
    }

    fn time_left(&self, cx: &Cx) -> Result<Option<i64>, Error> {
        self.deadline.map(|deadline| Ok(deadline - sys::clock_gettime(cx)?)).transpose()
    }

    /// A signal for PROG. SIGTERM is for all, once each; if it is rewritten, PROG alone has to end first.
    fn pass_on(&mut self, cx: &Cx, child: &Child, signal: &SigInfo) -> Result<(), Error> {
        let for_prog = child.rewritten(signal.signo);
        if signal.signo == libc::SIGTERM && for_prog != 0 && self.deadline.is_none() {
            self.begin(cx)?;
            if for_prog == libc::SIGTERM {
                return self.terminate(cx);
            }
        }
        if child.ended.get().is_none() {
            signals::pass_on(cx, child, signal);
        }
        Ok(())
    }

    fn begin(&mut self, cx: &Cx) -> Result<(), Error> {
        let now = sys::clock_gettime(cx)?;
        self.deadline = self.deadline.or(Some(now.saturating_add(self.time)));
        Ok(())
    }

    /// Send all of them SIGTERM, once.
    fn terminate(&mut self, cx: &Cx) -> Result<(), Error> {
        self.begin(cx)?;
        if !std::mem::replace(&mut self.has_sent_term, true) {
            if self.is_first() {
                self.to_all(cx, libc::SIGTERM);
                return Ok(());
            }
            for pid in below(cx, self.pid)? {
                let _ = sys::kill_if_allowed(cx, pid, libc::SIGTERM)?;
            }
        }
        Ok(())
    }

    /// Kill all of them. Elsewhere than in a pid namespace: our children, and when one has ended, those that it leaves
    /// to us. What is not in the buffer has its turn then too.
    fn kill(&mut self, cx: &Cx) -> Result<(), Error> {
        if self.is_first() {
            if !std::mem::replace(&mut self.has_killed, true) {
                self.to_all(cx, libc::SIGKILL);
            }
            return Ok(());
        }
        self.has_killed = true;
        let mut buffer = [0; 4096];
        let file = sys::openat(cx, None, CHILDREN, libc::O_RDONLY)?;
        let n = sys::read(cx, file.as_fd(), &mut buffer)?;
        // Behind the last blank is nothing, or a part of a number.
        let all = split(buffer.get(..n).unwrap_or_default(), b' ').rev().skip(1);
        for pid in all.filter_map(int) {
            let _ = sys::kill_if_allowed(cx, pid, libc::SIGKILL)?;
        }
        Ok(())
    }

    /// kill(2) of all in this pid namespace but us. If they refuse it, they are waited for.
    fn to_all(&self, cx: &Cx, signal: i32) {
        if let Err(error) = sys::kill_if_there(cx, -1, signal) {
            cx.say(&error);
        }
    }

    /// There is no child. Are those gone that have entered the namespace?
    fn is_nobody_left(&self, cx: &Cx) -> bool {
        self.has_killed
            || !self.is_first()
            || sys::kill_if_there(cx, -1, 0).is_ok_and(|there| !there)
    }
}

/// Does /proc show this process, `pid`, and those below it?
fn check_proc(cx: &Cx, pid: i32) -> Result<(), Error> {
    let root = proc::root(cx).map_err(|e| proc::why_missing(cx, WITHOUT_PROC, e))?;
    let own = sys::readlinkat(cx, Some(root.as_fd()), c"self")?;
    if int(&own) != Some(pid) {
        return Err(Error::refusal("/proc shows another pid namespace").way_out(WITHOUT_PROC));
    }
    Ok(())
}

/// The descendants of the process `pid`, which is this one.
fn below(cx: &Cx, pid: i32) -> Result<Vec<i32>, Error> {
    check_proc(cx, pid)?;
    let root = sys::openat(cx, None, c"/proc", libc::O_RDONLY | libc::O_DIRECTORY)?;
    let mut all = Vec::new();
    sys::for_each_entry(cx, root.as_fd(), &mut |name, _| {
        let Some(pid) = int(name.to_bytes()) else { return Ok(()) };
        let stat = proc::path(&["/proc/", &show::number(pid as u64), "/stat"]);
        // It may have ended.
        let stat = sys::read_file(cx, None, &stat).unwrap_or_default();
        all.extend(proc::stat_field(&stat, 4).map(|parent| (pid, parent as i32)));
        Ok(())
    })?;
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&of) = found.get(next) {
        found.extend(all.iter().filter(|(_, parent)| *parent == of).map(|(pid, _)| *pid));
        next += 1;
    }
    found.remove(0);
    Ok(found)
}
