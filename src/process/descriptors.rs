//! Descriptors that outlive a step: who keeps each, who closes it, and what the next tool is told.
//!
//! | descriptor | a step that forks | td-pivot, td-exec, td-enter | a tool that is PROG is told | any other PROG |
//! |---|---|---|---|---|
//! | of `--trace=FD` | both sides keep it | keep it for a tool | `--trace=FD`, in a child `--trace=FD,PID` | has it, but not after those three |
//! | of `--ready FD` | the child keeps it | keep it for a tool | `--ready=FD` | does not have it |
//! | of a parent that waits: its own `--ready` | the child keeps it | keep it for a tool | `--ready=FD` | does not have it |
//! | of a lock that td-lock holds | the parent, which waits, keeps it | keep it; refused for another root | `--lock=FD,...` | has it where no parent waits |
//! | of `--keep-fd N` | both sides keep it | keep it | nothing | has it |
//! | of `--seccomp-fd N`, `--record-fd N` | both sides keep it | close it | nothing: `--keep-fd N` | has it, but not after those three |
//! | the socket of td-tty `--fd N` | the child of td-tty has it; then both sides keep it | close it; `--keep-fd N` keeps it | nothing: `--inside N` | has it, but not after those three; `--inside N` closes it |
//! | the pidfd of the parent that waits | the child keeps it | keep it for a tool | `--parent=FD` | does not have it |
//! | any other above 2 | both sides keep it | close it | nothing | has it, but not after those three |
//!
//! Of a parent that waits after td-init or td-enter, the column of those three is true as well: it has the
//! trace, locks, and the socket by which it learns whether PROG ran, and no other.

use std::os::fd::{AsRawFd, RawFd};

use crate::process::explain;
use crate::say::error::Error;
use crate::say::show;
use crate::sys::{self, Cx};

/// Have descriptors above 2 closed when PROG is executed, but for those of `keep`, for locks and, where PROG is one of
/// our tools, for those that it is told of.
pub fn close_on_exec(cx: &Cx, keep: &[RawFd], is_tool: bool) -> Result<(), Error> {
    sys::close_range_cloexec(cx, 3)?;
    let told = cx.trace_fd().filter(|fd| *fd > 2).into_iter().chain(cx.ready().iter().copied());
    let told = told.chain(cx.parent().map(|parent| parent.as_raw_fd()));
    let mut kept =
        keep.iter().copied().chain(cx.locks().iter().copied()).chain(told.filter(|_| is_tool));
    kept.try_for_each(|fd| sys::fcntl_setfd(cx, fd, 0))
}

/// Close descriptors for td-init, which follows in this process: what it is told of is its own, and not PROG's. What
/// this step has `used` is closed at once, for PROG may look at process 1 before that has closed the rest.
pub fn keep_from_prog(cx: &Cx, keep: &[RawFd], used: &[Option<RawFd>]) -> Result<(), Error> {
    cx.set_parent(None);
    cx.close_inherited(used.iter().flatten().copied().filter(|fd| !keep.contains(fd)));
    let fd = cx.trace_fd().filter(|fd| *fd > 2 && !keep.contains(fd));
    fd.map_or(Ok(()), |fd| sys::fcntl_setfd(cx, fd, libc::FD_CLOEXEC))
}

/// Close every descriptor above 2, but for the trace, locks and `keep`; do the `rest`, and end with its status.
pub fn stay_alone(cx: &Cx, keep: &[Option<RawFd>], rest: &sys::Rest) -> ! {
    let mut kept = cx.locks().to_vec();
    kept.extend(cx.trace_fd());
    kept.extend(keep.iter().flatten());
    sys::stay_alone(cx, &kept, &|closed| {
        rest(closed).map_err(|error| explain::explained(cx, error))
    })
}

/// Refuse a lock on a descriptor that is not one of `keep`, where PROG gets another root: closed, the lock would be
/// free; kept, it would be a file of the host in there.
pub fn refuse_locks(cx: &Cx, keep: &[RawFd]) -> Result<(), Error> {
    let Some(fd) = cx.locks().iter().find(|fd| !keep.contains(fd)) else { return Ok(()) };
    let fd = show::number(*fd as u64);
    Err(Error::refusal(["an earlier td-lock has its lock on descriptor ", &fd].concat())
        .because("closing it would free the lock; keeping it would give PROG a file of the host")
        .way_out(
            "put td-lock before td-unshare --pid or td-init, whose parent keeps the lock, or after this tool",
        ))
}

/// Refuse what is a way out of the new root on a standard stream: a directory leads there, and a block device can be
/// opened again inside, for writing too, through `/proc/self/fd`.
pub fn refuse_ways_out(cx: &Cx) -> Result<(), Error> {
    for fd in (0..3).filter(|fd| !cx.start.was_closed(*fd)) {
        let (what, way_out) = match sys::fstatx(cx, sys::standard_fd(fd))?.file_type() {
            libc::S_IFDIR => {
                let way_out = format!("close it: {fd}<&-");
                ("is a directory, which leads out of the new root", way_out)
            }
            libc::S_IFBLK => {
                let pipe = if fd == 0 { "cat DEV |" } else { "| cat >DEV" };
                let way_out = ["pass its content through a pipe: ", pipe].concat();
                ("is a block device, which can be opened for writing inside", way_out)
            }
            _ => continue,
        };
        return Err(Error::refusal(format_args!("descriptor {fd} {what}")).way_out(way_out));
    }
    Ok(())
}

/// A tool that is executed has the trace, also after td-init.
pub fn leave_trace(cx: &Cx) -> Result<(), Error> {
    let fd = cx.trace_fd().filter(|fd| *fd > 2);
    fd.map_or(Ok(()), |fd| sys::fcntl_setfd(cx, fd, 0))
}
