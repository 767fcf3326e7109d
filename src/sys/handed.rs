//! What one tool passes on to the next: as values, or as options if there is an execve(2) between them.

use std::ffi::{CStr, CString};
use std::os::fd::RawFd;

use crate::say::show;
use crate::sys::entry::cstring;
use crate::sys::structs::SigSet;

/// `--lock=FD,...` tells the next tool of a chain that a td-lock before it has locks on descriptors. It is internal:
/// the table in [`crate::process::descriptors`] says who keeps the descriptor and who closes it.
pub const LOCK: &str = "--lock";

/// `--sealed=PATH` tells a tool that nobody can write to the file from which it runs, and that the other tools are
/// beside PATH; `--sealed` that there are none in this root. It is internal: if it were not true, PROG could write to
/// the file of the tool.
pub const SEALED: &str = "--sealed";

/// `--parent=FD` tells the next tool of a chain the pidfd of the parent that waits for it, with which it dies. It is
/// internal: a tool that changes its ids needs it, because that clears the signal of PR_SET_PDEATHSIG(2const).
pub const PARENT: &str = "--parent";

/// `--hint=TEXT` tells the tool that executes PROG what to say if PROG is not found. It is internal: td-run knows its own
/// options, and an option that stands behind NAME has become the name of PROG.
pub const HINT: &str = "--hint";

/// What a tool was handed, with what its own command line and its step have changed. A new list is created for each
/// additional number: there are few, though memory is never freed.
#[derive(Clone, Copy)]
pub struct Handed {
    /// `--trace`: the descriptor, and the pid to print or 0.
    pub trace: Option<(RawFd, i32)>,
    /// `--dry-run`.
    pub dry: bool,
    /// `--signal-mask`: the signal mask that PROG gets, where it is not ours.
    pub mask: Option<SigSet>,
    /// `--ready`: where it is reported that PROG is executed.
    pub ready: &'static [RawFd],
    /// See [`LOCK`].
    pub locks: &'static [RawFd],
    /// See [`SEALED`].
    pub sealed: Option<&'static [u8]>,
    /// See [`PARENT`].
    pub parent: Option<RawFd>,
    /// See [`HINT`].
    pub hint: Option<&'static CStr>,
}

impl Handed {
    /// As a program begins.
    pub const NOTHING: Handed = Handed {
        trace: None,
        dry: false,
        mask: None,
        ready: &[],
        locks: &[],
        sealed: None,
        parent: None,
        hint: None,
    };

    /// These values as options, for execve(2). Not `--sealed`: that is about this program alone.
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
            options.push(numbers(LOCK, self.locks));
        }
        if let Some(hint) = self.hint {
            options.push(cstring([HINT.as_bytes(), b"=", hint.to_bytes()].concat()));
        }
        for fd in self.ready {
            options.push(numbers("--ready", &[*fd]));
        }
        options
    }

    /// The list of `--ready` has one descriptor more.
    pub fn add_ready(&mut self, fd: RawFd) {
        self.ready = [self.ready, &[fd]].concat().leak();
    }

    /// That of [`LOCK`] has.
    pub fn add_lock(&mut self, fd: RawFd) {
        self.locks = [self.locks, &[fd]].concat().leak();
    }
}
