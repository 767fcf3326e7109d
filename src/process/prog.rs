//! PROG, the rest of the command line: recognized if it is one of our tools, else searched for in PATH, and executed,
//! also after a change of the root.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use syscalls::Errno;

use crate::cli::Prog;
use crate::process::descriptors;
use crate::process::file_to_execute;
use crate::process::own_file::{self, Seal};
use crate::process::ready;
use crate::process::why_not_executed;
use crate::say::error::{Error, NOT_FOUND};
use crate::say::show::plain;
use crate::say::text::{split, split_name};
use crate::sys::{self, Cx, cstring};

/// The tools. Each is in this program or beside it, whatever PATH says.
const TOOLS: [&str; 10] = [
    "td-cgroup",
    "td-unshare",
    "td-overlay",
    "td-mount",
    "td-pivot",
    "td-init",
    "td-exec",
    "td-enter",
    "td-lock",
    "td-tty",
];

/// Where bare names are looked up when PATH is not set: execvp(3) has such a default too.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What follows a successful step, if that is not another program: execve(2) does not return.
pub enum Next {
    /// A tool of this program, by its name, with its command line.
    Step(&'static str, &'static [CString]),
    /// The end, with this status.
    End(u8),
}

/// PROG, looked for as far as that must be done before the step.
pub struct Found {
    args: &'static [CString],
    name: &'static CStr,
    /// One of the tools that this program has, by its name.
    tool: Option<&'static str>,
    /// Another of our own tools, by the path of its program.
    sibling: Option<CString>,
}

impl Prog {
    /// Is it one of our own tools, wherever its file is? After `--` it is an ordinary program.
    fn is_ours(&self) -> bool {
        !self.is_behind_dashes()
            && TOOLS.iter().any(|tool| tool.as_bytes() == self.name().to_bytes())
    }

    /// Its name in messages after it has ended: by then one of our tools has become another program.
    pub fn shown(&self) -> String {
        if self.is_ours() { "PROG".into() } else { plain(self.name().to_bytes()) }
    }

    /// Find the program if it is one of our tools, before the working directory or the root changes. Any other program
    /// is searched for in PATH when it is executed, in the root where it will run. A tool is never searched for: a
    /// program of the image with its name would get all our rights.
    pub fn find_tool(&self, cx: &Cx) -> Result<Found, Error> {
        let name = self.args().first().map(CString::as_c_str).unwrap_or_default();
        let mut found = Found { args: self.args(), name, tool: None, sibling: None };
        if !self.is_ours() {
            return Ok(found);
        }
        found.tool = cx.tools.iter().find(|tool| tool.as_bytes() == found.name.to_bytes()).copied();
        if found.tool.is_none() {
            let Some(path) = own_file::path(cx)? else {
                return Err(own_file::why_unknown(cx).unwrap_or_else(|| no_tool(found.name)));
            };
            found.sibling = Some(sibling(cx, path, found.name));
        }
        Ok(found)
    }
}

/// A tool that is not in this program, which lies nowhere in this root.
fn no_tool(name: &CStr) -> Error {
    let name = plain(name.to_bytes());
    let what = ": tools are looked up in this program's directory, which is not in this root";
    Error::refusal([&name, what].concat())
        .way_out("put it before td-pivot, or use td, which has all tools; for a program of this root, put -- before it")
}

/// `name` beside the running program, `path`. If `path` is a link without `name` beside it, beside the target of the
/// link, and so on. (So a directory may contain links to all tools, under any names.)
fn sibling(cx: &Cx, mut path: Vec<u8>, name: &CStr) -> CString {
    let nearest = beside(&path, name);
    let mut found = nearest.clone();
    // The kernel follows as many: path_resolution(7).
    for _ in 0..=40 {
        if may_execute(cx, &found).is_ok_and(|is_there| is_there) {
            return found;
        }
        let Ok(target) = sys::readlinkat(cx, None, &cstring(&*path)) else { break };
        // From an absolute path, this and what follows it is all; `..` in it is the kernel's to resolve.
        path =
            if target.starts_with(b"/") { target } else { [split_name(&path).0, &target].concat() };
        found = beside(&path, name);
    }
    nearest
}

/// `name` in the directory of `path`, which has a slash.
fn beside(path: &[u8], name: &CStr) -> CString {
    cstring([split_name(path).0, name.to_bytes()].concat())
}

impl Found {
    /// Is it one of our own tools?
    pub fn is_tool(&self) -> bool {
        self.tool.is_some() || self.sibling.is_some()
    }

    /// Is it td-init, of this program?
    pub fn is_init(&self) -> bool {
        self.tool == Some("td-init")
    }

    /// Is it td-tty?
    pub fn is_terminal(&self) -> bool {
        self.is_tool() && self.name == c"td-tty"
    }

    /// Is it td-init, or td-tty --inside with td-init after it?
    pub fn leads_to_init(&self) -> bool {
        let mut words = self.args.iter().map(|word| word.to_bytes()).skip(1);
        let mut word = if self.is_terminal() { words.next() } else { None };
        while let Some(option) = word.filter(|word| word.starts_with(b"-") && *word != b"--") {
            // Those whose value is the next word, where it is not behind `=`.
            if [&b"--inside"[..], b"--fd", b"--ready", b"--signal-mask"].contains(&option) {
                words.next();
            }
            word = words.next();
        }
        self.is_init() || word == Some(b"td-init")
    }

    /// The file to execute for one of our own tools.
    fn file(&self, cx: &Cx) -> Result<Option<CString>, Error> {
        match self.tool {
            Some(_) => own_file::to_execute(cx).map(Some),
            None => Ok(self.sibling.clone()),
        }
    }

    /// PROG comes next, in this process where it is a tool of this program.
    pub fn next(&self, cx: &Cx) -> Result<Next, Error> {
        match self.tool {
            Some(tool) => Ok(Next::Step(tool, self.args)),
            None => self.exec(cx),
        }
    }

    /// Execute PROG, also where that is a tool of this program: execve(2) makes a process what its ids, its
    /// capabilities and its user namespace allow.
    pub fn exec(&self, cx: &Cx) -> Result<Next, Error> {
        self.exec_as(cx, None)
    }

    /// Become PROG under the name `argv0` (`None`: as it was written). A dry run ends here, unless PROG is one of our
    /// tools: that continues dry.
    pub fn exec_as(&self, cx: &Cx, argv0: Option<&CString>) -> Result<Next, Error> {
        // A program of several tools is told by its name which of them it is.
        let file = self.file(cx)?;
        let sealed = file.as_ref().and_then(|file| own_file::still_sealed(cx, file));
        let argv = self.argv(cx, argv0.filter(|_| !self.is_tool()), sealed);
        if let Some(path) = &file {
            cx.before_prog(path)?;
            descriptors::leave_trace(cx)?;
            sys::execve(cx, path, &argv).map_err(|e| own_file::why_no_tool(cx, path, e))?;
            return Err(sys::execve_dry(cx, path, &argv));
        }
        if let Some(mask) = cx.mask_of_prog() {
            sys::rt_sigprocmask(cx, libc::SIG_SETMASK, mask)?;
        }
        ready::say_ready(cx)?;
        let failed = self.exec_prog(cx, &argv).inspect_err(|_| ready::say_failed(cx));
        failed.map_err(|error| self.why_an_option(cx, error))
    }

    /// Execute PROG, which is not one of our tools.
    fn exec_prog(&self, cx: &Cx, argv: &[CString]) -> Result<Next, Error> {
        if self.name.to_bytes().contains(&b'/') {
            cx.before_prog(self.name)?;
            sys::execve(cx, self.name, argv)
                .map_err(|e| why_not_executed::why(cx, self.name, e))?;
            sys::exit_now(0);
        }
        let path = cx.getenv("PATH");
        self.search(cx, &path.unwrap_or_else(|| DEFAULT_PATH.into()), argv)
    }

    /// The arguments. One of our tools gets the options that the user gave once for the whole chain.
    /// `first` comes right after the name, before those.
    fn argv(&self, cx: &Cx, argv0: Option<&CString>, first: Option<CString>) -> Vec<CString> {
        let mut argv = Vec::new();
        argv.extend(argv0.or(self.args.first()).cloned());
        argv.extend(first);
        if self.is_tool() {
            argv.extend(cx.handed().options());
        }
        argv.extend_from_slice(self.args.get(1..).unwrap_or_default());
        argv
    }

    /// Try the directories of PATH in their order, as execvp(3) does. A directory that may not be entered, or a file
    /// that may not be executed, is skipped; it is reported if there is no other.
    fn search(&self, cx: &Cx, path: &[u8], argv: &[CString]) -> Result<Next, Error> {
        let mut refused = None;
        // An empty name does not name a program, though it would be found in every directory.
        let directories = split(path, b':').filter(|_| !self.name.is_empty());
        for directory in directories {
            let file = in_directory(directory, self.name);
            match may_execute(cx, &file) {
                Err(e) if e.is(Errno::ENOENT) || e.is(Errno::ENOTDIR) => {}
                Err(e) => refused = refused.or(Some((file, e))),
                Ok(is_there) => {
                    cx.before_prog(&file)?;
                    match sys::execve(cx, &file, argv) {
                        Ok(()) => sys::exit_now(0), // a dry run ends where PROG would begin
                        Err(e) if !is_there && (e.is(Errno::ENOENT) || e.is(Errno::ENOTDIR)) => {}
                        Err(e) if e.is(Errno::EACCES) => refused = refused.or(Some((file, e))),
                        Err(e) => return Err(why_not_executed::why(cx, &file, e)),
                    }
                }
            }
        }
        if let Some((file, e)) = refused {
            return Err(why_not_executed::why(cx, &file, e));
        }
        if cx.dry() {
            // The root in which it will be looked up may be one that this dry run did not change to.
            cx.before_prog(self.name)?;
            sys::execve(cx, self.name, argv)?;
            sys::exit_now(0);
        }
        let name = plain(self.name.to_bytes());
        let error = Error::refusal(format_args!("{name}: not found in PATH, {}", plain(path)));
        let mut links =
            split(path, b':').filter(|_| !self.name.is_empty()).filter_map(|directory| {
                file_to_execute::dangling(cx, &in_directory(directory, self.name))
            });
        Err(match links.next() {
            Some(link) => error.because(link + ", which does not exist in this root"),
            None => error,
        }
        .with_status(NOT_FOUND))
    }

    /// PROG was not found. Is it an option that stands behind an operand?
    fn why_an_option(&self, cx: &Cx, error: Error) -> Error {
        let _looking = cx.looking();
        if error.status() != NOT_FOUND || !self.name.to_bytes().starts_with(b"-") {
            return error;
        }
        if let Some(hint) = cx.handed().hint {
            return error.because(&hint.to_string_lossy());
        }
        let (line, _) = cx.command_line();
        let before = line.len().checked_sub(self.args.len() + 1).and_then(|i| line.get(i));
        match before.map(|word| word.to_bytes()) {
            Some(b"--") | None => error,
            Some(operand) => {
                error.because(["the options of ", cx.tool(), " end at ", &plain(operand)].concat())
            }
        }
    }

    /// PROG, one of our tools, sealed before the root changes, to be executed after.
    pub fn seal(&self, cx: &Cx, how: Seal) -> Result<Option<OwnedFd>, Error> {
        self.file(cx)?.map(|path| own_file::seal(cx, &path, self.name, how)).transpose()
    }

    /// Become what was sealed.
    pub fn exec_sealed(&self, cx: &Cx, file: &OwnedFd) -> Result<Next, Error> {
        let argv = self.argv(cx, None, Some(cstring(sys::SEALED)));
        descriptors::leave_trace(cx)?;
        sys::execveat(cx, file.as_fd(), &argv)?;
        // A dry run has sealed none.
        let path = self.file(cx)?.unwrap_or_default();
        Err(sys::execve_dry(cx, &path, &self.argv(cx, None, None)))
    }
}

/// A name in a directory of PATH, where an empty one is the working directory.
fn in_directory(directory: &[u8], name: &CStr) -> CString {
    let directory = if directory.is_empty() { b"." } else { directory };
    cstring([directory, b"/", name.to_bytes()].concat())
}

/// May this process execute the file? False: only execve(2) can tell, because a policy refuses faccessat2(2).
fn may_execute(cx: &Cx, file: &CStr) -> Result<bool, Error> {
    // The errors of a policy, or of a kernel without the call; the check itself never returns them.
    const EXPECTED: &[Errno] = &[Errno::ENOENT, Errno::ENOTDIR, Errno::ENOSYS, Errno::EPERM];
    let refused = |e: &Error| e.is(Errno::ENOSYS) || e.is(Errno::EPERM);
    match sys::faccessat2(cx.expects(EXPECTED), None, file, libc::X_OK) {
        Err(e) if refused(&e) => match sys::statx(cx.expects(EXPECTED), None, file, 0) {
            Err(e) if refused(&e) => Ok(false),
            other => other.map(|_| true),
        },
        other => other.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sibling_is_in_the_same_directory() {
        assert_eq!(beside(b"/usr/bin/td-unshare", c"td-exec").as_c_str(), c"/usr/bin/td-exec");
        assert_eq!(beside(b"/td-unshare", c"td-exec").as_c_str(), c"/td-exec");
    }
}
