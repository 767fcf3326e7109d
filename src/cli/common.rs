//! The options that every tool has, but for --help and --version; and the descriptors that options name.

use std::ffi::OsStr;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;

use crate::say::error::{Error, Words};
use crate::say::number::{hexadecimal, int};
use crate::say::show::plain;
use crate::say::text::split;
use crate::sys::structs::SigSet;
use crate::sys::{Checked, Handed};

/// The help on the options that every tool has. They end the list of options.
pub const COMMON: &str = "      --trace[=FD]  print every system call on standard error or FD
      --dry-run     print the calls that would change something; make none
      --ready FD    write R to FD before executing PROG, and F if that fails
      --signal-mask=SET  start PROG with the signals of SET blocked
      --help        print this help
      --version     print the version
";

/// What the command line of a tool says by them.
pub struct Common {
    tool: &'static str,
    /// What was handed on, with what this command line says of it.
    pub handed: Handed,
    /// Descriptors that were asked for.
    pub checked: Vec<Checked>,
}

impl Common {
    /// Of `tool`, to which this was handed on.
    pub fn new(tool: &'static str, handed: Handed) -> Common {
        Common { tool, handed, checked: Vec::new() }
    }

    /// `--trace`, or `--trace=FD`, which a tool hands on as `--trace=FD,PID` when it is one of several processes.
    pub fn trace(&mut self, value: Option<&OsStr>) -> Result<(), Error> {
        self.handed.trace = Some(match value {
            Some(value) => self.trace_to(value.as_bytes())?,
            None => (2, 0),
        });
        Ok(())
    }

    fn trace_to(&mut self, value: &[u8]) -> Result<(RawFd, i32), Error> {
        let mut numbers = split(value, b',').map(int);
        match (numbers.next().flatten(), numbers.next().unwrap_or(Some(0)), numbers.next()) {
            // A standard stream that is closed takes no lines and is not a file of another.
            (Some(fd @ 0..3), Some(pid), None) => Ok((fd, pid)),
            (Some(fd), Some(pid), None) => self.inherited(fd).map(|fd| (fd, pid)),
            _ => {
                let value = plain(value);
                Err(self.usage(format_args!("--trace={value}: not a file descriptor")))
            }
        }
    }

    /// `--lock=FD,...`: see [`crate::sys::LOCK`].
    pub fn locks(&mut self, value: &OsStr) -> Result<(), Error> {
        self.handed.locks = &[];
        for number in split(value.as_bytes(), b',') {
            let fd = self.open_descriptor(number)?;
            self.handed.add_lock(fd);
        }
        Ok(())
    }

    /// `--parent=FD`: see [`crate::sys::PARENT`].
    pub fn parent(&mut self, value: &OsStr) -> Result<(), Error> {
        self.handed.parent = Some(self.open_descriptor(value.as_bytes())?);
        Ok(())
    }

    /// `--signal-mask=SET`, bit n-1 for signal n, as proc_pid_status(5) shows one.
    pub fn signal_mask(&mut self, text: &str) -> Result<(), Error> {
        let set = hexadecimal(text.as_bytes()).map(SigSet);
        self.handed.mask = Some(set.ok_or_else(|| {
            let text = plain(text.as_bytes());
            self.usage(format_args!("--signal-mask={text}: not a set of signals"))
        })?);
        Ok(())
    }

    /// `--ready FD`, of a descriptor that no step opens, and that is not a standard stream: PROG does not have it.
    pub fn ready(&mut self, value: &OsStr) -> Result<(), Error> {
        let fd = self.number(value.as_bytes())?;
        if fd < 3 {
            return Err(self.usage(format_args!("--ready {fd}: must be above 2")));
        }
        let is_of_trace = self.handed.trace.is_some_and(|(trace, _)| trace == fd);
        if is_of_trace || self.checked.iter().any(|checked| checked.fd() == fd) {
            return Err(self.is_of_ready(fd));
        }
        let fd = self.inherited(fd)?;
        self.handed.add_ready(fd);
        Ok(())
    }

    /// The number of a descriptor, which the caller has opened.
    pub fn fd(&mut self, value: &OsStr) -> Result<RawFd, Error> {
        let fd = self.number(value.as_bytes())?;
        // In a dry run an earlier step has not opened it.
        if self.handed.dry { Ok(fd) } else { self.inherited(fd) }
    }

    fn open_descriptor(&mut self, number: &[u8]) -> Result<RawFd, Error> {
        let fd = self.number(number)?;
        self.inherited(fd)
    }

    fn number(&self, number: &[u8]) -> Result<RawFd, Error> {
        let refused = || self.usage(format_args!("{}: not a file descriptor", plain(number)));
        int(number).ok_or_else(refused)
    }

    /// If another option kept it open, a reader of --ready would wait for its end.
    fn is_of_ready(&self, fd: RawFd) -> Error {
        self.usage(format_args!("descriptor {fd} belongs to --ready"))
    }

    /// Refuse a descriptor that is not open, before a file of ours can get its number.
    fn inherited(&mut self, fd: RawFd) -> Result<RawFd, Error> {
        if self.handed.ready.contains(&fd) {
            return Err(self.is_of_ready(fd));
        }
        let checked = Checked::new(fd);
        self.checked.push(checked);
        checked.inherited()
    }

    fn usage(&self, what: impl Words) -> Error {
        usage(self.tool, what)
    }
}

/// The command line of a tool is wrong.
pub fn usage(tool: &str, what: impl Words) -> Error {
    Error::refusal(what).way_out(format_args!("see {tool} --help"))
}
