//! What is said when something fails: the call, the errno, why, and the way out; and exit codes.

use syscalls::Errno;

use crate::show;

/// The tool itself failed, or was used wrongly.
pub const FAILED: u8 = 125;
/// PROG was found and cannot be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// PROG was not found.
pub const NOT_FOUND: u8 = 127;

/// A failure, to be said on standard error before the tool ends.
#[derive(Debug)]
pub struct Error {
    /// What is said, a line each: the call with its errno, or the refusal; then why; then the way out.
    lines: Vec<String>,
    /// What the kernel answered, where it was the kernel that refused.
    errno: Option<Errno>,
    /// The tool's exit status.
    pub status: u8,
}

impl Error {
    /// A system call, as made, that failed with `errno`.
    pub fn call(call: &str, errno: Errno) -> Error {
        let line = format!("{call}: {}", show::errno(errno));
        Error { lines: vec![line], errno: Some(errno), status: FAILED }
    }

    /// A refusal of our own: a precondition that was looked at and is not met.
    pub fn refusal(what: impl Into<String>) -> Error {
        Error { lines: vec![what.into()], errno: None, status: FAILED }
    }

    /// Add the violated precondition, found by looking.
    pub fn because(mut self, why: impl Into<String>) -> Error {
        self.lines.push(why.into());
        self
    }

    /// Add the way out.
    pub fn way_out(self, what: impl Into<String>) -> Error {
        self.because(what)
    }

    /// End with another status than 125.
    pub fn with_status(mut self, status: u8) -> Error {
        self.status = status;
        self
    }

    /// Is this the kernel's answer `errno`?
    pub fn is(&self, errno: Errno) -> bool {
        self.errno == Some(errno)
    }

    /// The kernel's answer, where there was one.
    pub fn errno(&self) -> Option<Errno> {
        self.errno
    }

    /// The text: each line under the tool's name.
    pub fn text(&self, tool: &str) -> String {
        self.lines.iter().map(|line| format!("{tool}: {line}\n")).collect()
    }
}
