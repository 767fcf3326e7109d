//! What is reported when something fails: the call, the errno, why, and the way out; and exit codes.

use std::any::Any;
use std::borrow::Cow;
use std::ffi::CString;

use syscalls::Errno;

use crate::say::show;

/// The tool itself failed, or was used wrongly.
pub const FAILED: u8 = 125;
/// PROG was found and cannot be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// PROG was not found.
pub const NOT_FOUND: u8 = 127;

/// What a line of an error is made of: a text, or `format_args!`.
pub trait Words {
    /// The line.
    fn line(self) -> String;
}

impl Words for String {
    fn line(self) -> String {
        self
    }
}

impl<T: AsRef<str> + ?Sized> Words for &T {
    fn line(self) -> String {
        self.as_ref().into()
    }
}

impl Words for std::fmt::Arguments<'_> {
    fn line(self) -> String {
        std::fmt::format(self)
    }
}

/// What a call does with the file at a path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Use {
    /// It looks it up, and what is there decides the rest: stat(2), O_PATH, a mount point.
    Find,
    /// It opens it for reading.
    Read,
    /// It opens it for writing.
    Write,
    /// It opens it, and creates it first where it does not exist: O_CREAT.
    Open,
    /// It creates it: mkdir(2), mknod(2).
    Create,
    /// It removes or replaces its name: unlink(2), rename(2).
    Remove,
    /// It makes a directory the working directory or the root: chdir(2), chroot(2).
    Enter,
}

/// The path that a call was given.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The path, absolute or relative to the working directory.
    pub path: CString,
    /// What the call does with the file there.
    pub used: Use,
    /// Does it follow a symbolic link that the path ends in?
    pub follows: bool,
}

/// A failure, to be reported on standard error before the tool ends. One word, and nothing to drop, for
/// memory is never freed: both make the code of every call short.
#[derive(Debug)]
pub struct Error(&'static mut Said);

#[derive(Debug)]
struct Said {
    /// What failed: the call as it was made (of one that was expected to fail, its name), or what is refused.
    what: Cow<'static, str>,
    /// What the kernel answered; 0 where it was not the kernel that refused.
    errno: Errno,
    /// The path that the call was given, if it was given one.
    path: Option<Subject>,
    /// The violated precondition, a line each.
    why: Vec<String>,
    /// The way out.
    way_out: Vec<String>,
    /// The tool's exit status.
    status: u8,
    /// See [`Error::with_call`].
    call: Option<&'static dyn Any>,
}

impl Error {
    fn new(what: Cow<'static, str>, errno: Errno) -> Error {
        let (why, way_out) = (Vec::new(), Vec::new());
        let said = Said { what, errno, path: None, call: None, why, way_out, status: FAILED };
        Error(Box::leak(Box::new(said)))
    }

    /// A system call, as made, that failed with `errno`.
    pub fn call(call: Cow<'static, str>, errno: Errno) -> Error {
        Error::new(call, errno)
    }

    /// A call that failed was given this path.
    pub fn with_path(self, path: Subject) -> Error {
        self.0.path = Some(path);
        self
    }

    /// The path that the failed call was given.
    pub fn path(&self) -> Option<&Subject> {
        self.0.path.as_ref()
    }

    /// The call with its arguments, for [`crate::sys::probe`], which alone knows what that is.
    pub fn with_call(self, call: &'static dyn Any) -> Error {
        self.0.call = Some(call);
        self
    }

    /// That call.
    pub fn call_made(&self) -> Option<&'static dyn Any> {
        self.0.call
    }

    /// Forget why, and the way out: what was found now comes before all that.
    pub fn without_cause(self) -> Error {
        self.0.why.clear();
        self.0.way_out.clear();
        self
    }

    /// A refusal by td itself: a precondition that was checked and is not met.
    pub fn refusal(what: impl Words) -> Error {
        Error::new(what.line().into(), Errno::new(0))
    }

    /// Add the violated precondition, found by looking.
    pub fn because(self, why: impl Words) -> Error {
        self.add(why.line(), false)
    }

    /// Add the way out.
    pub fn way_out(self, what: impl Words) -> Error {
        self.add(what.line(), true)
    }

    fn add(self, line: String, is_way_out: bool) -> Error {
        let said = &mut *self.0;
        if is_way_out { &mut said.way_out } else { &mut said.why }.push(line);
        self
    }

    /// End with another status than 125.
    pub fn with_status(self, status: u8) -> Error {
        self.0.status = status;
        self
    }

    /// The tool's exit status.
    pub fn status(&self) -> u8 {
        self.0.status
    }

    /// Is this the kernel's answer `errno`?
    pub fn is(&self, errno: Errno) -> bool {
        self.0.errno == errno
    }

    /// The kernel's answer, where there was one.
    pub fn errno(&self) -> Option<Errno> {
        Some(self.0.errno).filter(|errno| errno.into_raw() != 0)
    }

    /// What failed, without the errno.
    pub fn what(&self) -> &str {
        &self.0.what
    }

    /// Why, a line each.
    pub fn why(&self) -> &[String] {
        &self.0.why
    }

    /// Is nothing known but the call and its errno?
    pub fn is_unexplained(&self) -> bool {
        self.0.why.is_empty() && self.0.way_out.is_empty()
    }

    /// The text: each line under the tool's name. A word that nobody has escaped before is escaped here.
    pub fn text(&self, tool: &str) -> String {
        let Said { what, why, way_out, .. } = &*self.0;
        let errno = self.errno().map_or(String::new(), |e| [": ", &show::errno(e)].concat());
        let mut text = String::new();
        let mut add = |line: &str| {
            text.push_str(tool);
            text.push_str(": ");
            show::escape(line.as_bytes(), b"", &mut text);
            text.push('\n');
        };
        add(&[what, &*errno].concat());
        [why, way_out].into_iter().flatten().for_each(|line| add(line));
        text
    }
}
