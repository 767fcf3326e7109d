//! What any call may fail with because too much is open, and execve(2) because its strings are too long.

use std::cell::Cell;
use std::ffi::{CStr, CString};

use syscalls::Errno;

use crate::say::error::Error;
use crate::say::flags;
use crate::say::number::decimal;
use crate::say::show::{number, plain};
use crate::say::text::{pair, split};
use crate::sys::arg::Arg;
use crate::sys::calls::files::read_file;
use crate::sys::context::Cx;
use crate::sys::entry::page_size;
use crate::sys::raw::{Call, nr};
use crate::sys::structs::RLimit;

/// The calls that return a descriptor of this process. For others, as mount(2), EMFILE is about something else.
const OPEN: [Call; 12] = [
    nr::openat,
    nr::openat2,
    nr::fcntl,
    nr::fsopen,
    nr::fsmount,
    nr::ioctl,
    nr::open_tree,
    nr::memfd_create,
    nr::pidfd_open,
    nr::signalfd4,
    nr::socket,
    nr::socketpair,
];

/// What the arguments and the environment may take at most, whatever RLIMIT_STACK is: fs/exec.c.
const MOST: u64 = 6 << 20;
/// And what they may take in any case: ARG_MAX of linux/limits.h.
const LEAST: u64 = 128 << 10;

impl Cx {
    /// Why a call failed, if that is the same for all calls.
    pub(in crate::sys) fn explained(&self, call: Call, errno: Errno, error: Error) -> Error {
        match errno {
            Errno::EMFILE if OPEN.iter().any(|open| open.0 == call.0) => {
                let _looking = self.looking();
                match self.limit(libc::RLIMIT_NOFILE as u64) {
                    Ok(limit) => error.because(
                        ["as many files are open as RLIMIT_NOFILE allows: ", &number(limit.soft)]
                            .concat(),
                    ),
                    Err(_) => error,
                }
            }
            Errno::ENFILE => self.why_no_file(error),
            _ => error,
        }
    }

    /// `prlimit64(0, resource, NULL, limit)`: getrlimit(2).
    fn limit(&self, resource: u64) -> Result<RLimit, Error> {
        let limit = Cell::new(RLimit { soft: 0, hard: 0 });
        let resource = Arg::Name(resource, flags::RLIMIT);
        self.read(nr::prlimit64, &[Arg::Size(0), resource, Arg::Null, Arg::Out(&limit)])?;
        Ok(limit.get())
    }

    /// The files of the whole machine. Where there can be no more, the number of them cannot be read either; where
    /// it is far from the limit, that is not the cause.
    fn why_no_file(&self, error: Error) -> Error {
        let _looking = self.looking();
        const WHAT: &str = "perhaps as many files are open on this machine as fs.file-max allows";
        match read_file(
            self.expects(&[Errno::ENFILE, Errno::ENOENT]),
            None,
            c"/proc/sys/fs/file-nr",
        ) {
            Err(looked) if looked.is(Errno::ENFILE) => error.because(WHAT),
            Ok(text) => match open_files(&text) {
                // It is an estimate.
                Some((open, most)) if open.saturating_add(open / 8) >= most => {
                    error.because([WHAT, ": ", &number(most)].concat())
                }
                _ => error,
            },
            Err(_) => error,
        }
    }

    /// Why execve(2) found its strings too long: one of them, or all.
    pub(in crate::sys) fn why_too_long(
        &self,
        file: &CStr,
        argv: &[CString],
        error: Error,
    ) -> Error {
        if !error.is(Errno::E2BIG) {
            return error;
        }
        let longest = 32 * page_size(); // MAX_ARG_STRLEN of linux/binfmts.h, with the zero byte
        let size = |string: &CString| string.as_bytes_with_nul().len() as u64;
        let allowed = [" bytes; one string may have ", &number(longest - 1)].concat();
        if let Some(at) = argv.iter().position(|arg| size(arg) > longest) {
            let length = argv.get(at).map_or(0, size) - 1;
            return error.because(
                ["argument ", &number(at as u64), " of PROG has ", &number(length), &allowed]
                    .concat(),
            );
        }
        if let Some(variable) = self.env().iter().find(|variable| size(variable) > longest) {
            let name = plain(pair(variable.to_bytes(), b'=').unwrap_or_default().0);
            let length = number(size(variable) - 1);
            return error.because(
                ["the environment variable ", &name, " has ", &length, &allowed].concat(),
            );
        }
        let strings = || argv.iter().chain(self.env());
        let sizes =
            strings().fold(file.to_bytes_with_nul().len() as u64, |all, one| all + size(one) + 8);
        let _looking = self.looking();
        let Ok(limit) = self.limit(libc::RLIMIT_STACK as u64) else { return error };
        let allowed = (limit.soft / 4).clamp(LEAST, MOST);
        if sizes <= allowed {
            return error; // a #! line adds to them
        }
        let what = ["the arguments and the environment take ", &number(sizes), " bytes; "].concat();
        if allowed == MOST {
            return error.because([&what, "the maximum is ", &number(MOST)].concat());
        }
        let soft = number(limit.soft);
        let error = error.because(
            [&what, "a quarter of RLIMIT_STACK (", &soft, "), ", &number(allowed), ", is allowed"]
                .concat(),
        );
        match sizes <= MOST && sizes <= limit.hard / 4 {
            true => error.way_out(["raise it: ulimit -s ", &number(sizes.div_ceil(256))].concat()),
            false => error,
        }
    }
}

/// How many files are open, and may be, by `/proc/sys/fs/file-nr`: `OPEN\t0\tMOST\n`.
fn open_files(text: &[u8]) -> Option<(u64, u64)> {
    let mut fields = split(text.trim_ascii(), b'\t').map(decimal);
    Some((fields.next()??, fields.nth(1)??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_the_machine_are_counted() {
        assert_eq!(open_files(b"1088\t0\t9223372036854775807\n"), Some((1088, i64::MAX as u64)));
        for text in [&b""[..], b"\n", b"1\t0", b"1\t0\tx\n", b"x\t0\t1\n"] {
            assert_eq!(open_files(text), None);
        }
    }
}
