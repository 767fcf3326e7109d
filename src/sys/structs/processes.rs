//! Structures of processes: how they are made and end, what they wait for, and time.

use crate::say::flags;
use crate::say::show::{Show, bits, signal, signed, unsigned};

/// `struct clone_args`: clone(2), as of Linux 5.7.
#[repr(C)]
#[derive(Default)]
pub struct CloneArgs {
    flags: u64,
    // Addresses, none of which is used.
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// What a new process may be made with: namespaces, and our parent as its own. Memory that it shares would be our stack
/// as well, and descriptors would be closed by both.
pub const SEPARATE: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWTIME
    | libc::CLONE_PARENT) as u64;

impl CloneArgs {
    /// A process with the bits of [`SEPARATE`] in `bits`, whose end SIGCHLD reports, in the cgroup of this descriptor.
    pub fn new(bits: u64, cgroup: Option<u64>) -> CloneArgs {
        let into = if cgroup.is_some() { flags::CLONE_INTO_CGROUP } else { 0 };
        CloneArgs {
            flags: bits & SEPARATE | into,
            exit_signal: libc::SIGCHLD as u64,
            cgroup: cgroup.unwrap_or(0),
            ..CloneArgs::default()
        }
    }
}

impl Show for CloneArgs {
    fn show(&self, out: &mut String) {
        out.push_str("{flags=");
        let into_cgroup = self.flags & flags::CLONE_INTO_CGROUP != 0;
        match self.flags & !flags::CLONE_INTO_CGROUP {
            0 if into_cgroup => out.push_str("CLONE_INTO_CGROUP"),
            others => {
                bits(others, flags::CLONE, out);
                out.push_str(if into_cgroup { "|CLONE_INTO_CGROUP" } else { "" });
            }
        }
        out.push_str(", exit_signal=");
        out.push_str(signal(self.exit_signal as i32));
        out.push_str(", stack=NULL, stack_size=0");
        if into_cgroup {
            unsigned(", cgroup=", self.cgroup, out);
        }
        out.push('}');
    }
}

/// How a child ended or was stopped: the `wstatus` of wait(2).
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct WaitStatus(pub i32);

impl WaitStatus {
    /// What a shell would say of it: the exit status, or 128+n for signal n.
    pub fn exit_status(self) -> u8 {
        if libc::WIFSIGNALED(self.0) {
            return (128 + libc::WTERMSIG(self.0)) as u8;
        }
        libc::WEXITSTATUS(self.0) as u8
    }
}

impl Show for WaitStatus {
    fn show(&self, out: &mut String) {
        if libc::WIFSIGNALED(self.0) {
            out.push_str("[{WIFSIGNALED(s) && WTERMSIG(s) == ");
            out.push_str(signal(libc::WTERMSIG(self.0)));
            out.push_str(if libc::WCOREDUMP(self.0) { " && WCOREDUMP(s)" } else { "" });
        } else if libc::WIFSTOPPED(self.0) {
            out.push_str("[{WIFSTOPPED(s) && WSTOPSIG(s) == ");
            out.push_str(signal(libc::WSTOPSIG(self.0)));
        } else {
            let code = libc::WEXITSTATUS(self.0);
            signed("[{WIFEXITED(s) && WEXITSTATUS(s) == ", code.into(), out);
        }
        out.push_str("}]");
    }
}

/// `struct timeval`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct TimeVal {
    pub sec: i64,
    pub usec: i64,
}

/// `struct rusage`: getrusage(2).
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct RUsage {
    pub user: TimeVal,
    pub system: TimeVal,
    rest: [i64; 14],
}

impl Show for RUsage {
    fn show(&self, out: &mut String) {
        for (before, time) in
            [("{ru_utime={tv_sec=", self.user), ("}, ru_stime={tv_sec=", self.system)]
        {
            signed(before, time.sec, out);
            signed(", tv_usec=", time.usec, out);
        }
        out.push_str("}, ...}");
    }
}

/// `struct pollfd`: poll(2).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PollFd {
    pub fd: i32,
    pub events: i16,
    pub revents: i16,
}

impl<const N: usize> Show for [PollFd; N] {
    fn show(&self, out: &mut String) {
        show_polls(self, out);
    }
}

/// Of any number: code for each would be the same again.
fn show_polls(polls: &[PollFd], out: &mut String) {
    out.push('[');
    for (i, poll) in polls.iter().enumerate() {
        signed(if i > 0 { ", {fd=" } else { "{fd=" }, poll.fd.into(), out);
        if poll.fd >= 0 {
            out.push_str(", events=");
            bits(poll.events as u64, flags::POLL, out);
        }
        out.push('}');
    }
    out.push(']');
}

/// `struct timespec`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TimeSpec {
    pub sec: i64,
    pub nsec: i64,
}

/// A second in nanoseconds.
pub const SECOND: i64 = 1_000_000_000;

impl TimeSpec {
    /// So many nanoseconds.
    pub fn new(nanoseconds: i64) -> TimeSpec {
        TimeSpec { sec: nanoseconds / SECOND, nsec: nanoseconds % SECOND }
    }
}

impl Show for TimeSpec {
    fn show(&self, out: &mut String) {
        signed("{tv_sec=", self.sec, out);
        signed(", tv_nsec=", self.nsec, out);
        out.push('}');
    }
}

/// The timeout of ppoll(2), which writes what is left of it over what was asked; that is shown.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Timeout {
    left: TimeSpec,
    asked: TimeSpec,
}

impl Timeout {
    /// So long.
    pub fn new(asked: TimeSpec) -> Timeout {
        Timeout { left: asked, asked }
    }

    /// What is left of it, in nanoseconds.
    pub fn left(&self) -> i64 {
        self.left.sec * SECOND + self.left.nsec
    }
}

impl Show for Timeout {
    fn show(&self, out: &mut String) {
        self.asked.show(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_structure_is_laid_out_as_the_c_librarys() {
        same! {
            CloneArgs clone_args: flags flags exit_signal exit_signal cgroup cgroup;
            PollFd pollfd: fd fd events events revents revents;
            TimeSpec timespec: sec tv_sec nsec tv_nsec;
            TimeVal timeval: sec tv_sec usec tv_usec;
            RUsage rusage: user ru_utime system ru_stime;
        }
    }
}
