//! Which system calls a process may make, and all that it executes: seccomp(2).
//!
//! A policy is a text, see [`compile`], or a program of classic BPF that others have compiled. A text is compiled for
//! the capabilities that are kept; then it is checked that it lets td do what is left to do, and loaded: seccomp(2)
//! takes no_new_privs, or CAP_SYS_ADMIN, which a change of ids and capabilities gives up.
//!
//! | tool | no_new_privs | seccomp(2) is called |
//! |---|---|---|
//! | td-exec | no | before ids and capabilities change: [`Confinement::load_before_ids`] |
//! | td-exec | yes | last, before execve(2): [`Confinement::load_before_exec`]; where td-init follows in this process, before that: [`Confinement::load_after_ids`] |
//! | td-enter | no | before ids and capabilities change: [`Confinement::load_before_ids`] |
//! | td-enter | yes | when they have changed, before a process begins in the pid namespace: [`Confinement::load_after_ids`] |

pub mod calls;
pub mod check;
pub mod compile;
mod default;
mod parse;
pub mod program;
mod why_not_loaded;

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use calls::Arch;
use program::{Data, Program, answer};
use syscalls::{Errno, Sysno};

use crate::cli::Cli;
use crate::say::error::Error;
use crate::say::show::{number, plain};
use crate::sys::{self, Cx};

/// No policy is larger: the longest program has 32 KB.
const LARGEST: usize = 1 << 20;

/// Where a policy comes from.
pub enum Source {
    /// A text of one word: `default`, or `unconfined`.
    Word(&'static str),
    /// A file, in the root where this is read.
    File(CString),
    /// A descriptor that the caller has left to us.
    Fd(RawFd),
}

impl Source {
    /// The value of `--seccomp`: a word, or a file.
    pub fn of_option(cli: &mut Cli) -> Result<Source, Error> {
        let value = cli.path()?;
        Ok(match value.to_bytes() {
            b"default" => Source::Word("default"),
            b"unconfined" => Source::Word("unconfined"),
            _ => Source::File(value),
        })
    }
}

/// A policy as it was read.
pub struct Policy {
    /// What a message calls it.
    name: String,
    bytes: Vec<u8>,
}

impl Policy {
    /// Read a policy.
    pub fn read(cx: &Cx, source: &Source) -> Result<Policy, Error> {
        let (name, bytes) = match source {
            Source::Word(word) => (word.to_string(), word.as_bytes().to_vec()),
            Source::File(path) => {
                let name = plain(path.to_bytes());
                let bytes = match open(cx, path) {
                    // A dry run may be in another root than the one that has it.
                    Err(e) if cx.dry() && e.is(Errno::ENOENT) => b"default".to_vec(),
                    file => contents(cx, &name, file?.as_fd())?,
                };
                (name, bytes)
            }
            Source::Fd(fd) => {
                let name = ["descriptor ", &number(*fd as u64)].concat();
                let bytes = contents(cx, &name, sys::inherited_fd(cx, *fd)?)?;
                (name, bytes)
            }
        };
        Ok(Policy { name, bytes })
    }

    /// The program, for a process of this machine that has the capabilities `caps`, bit n for capability n. `None`:
    /// it refuses nothing. What has zero bytes is not text, but compiled already.
    pub fn compile(&self, caps: u64) -> Result<Option<Program>, Error> {
        if !self.bytes.contains(&0) {
            return compile::program(&self.name, &self.bytes, Arch::OWN, caps);
        }
        compiled(&self.name, &self.bytes).map(Some)
    }
}

/// A policy that is compiled already. `name` is what a message calls it.
pub fn compiled(name: &str, bytes: &[u8]) -> Result<Program, Error> {
    Program::from_bytes(bytes).ok_or_else(|| {
        let what = "it is compiled, but its size is not a multiple of 8 bytes";
        Error::refusal(format_args!("{name}: {what}"))
    })
}

/// A policy that is to be loaded, and when.
pub struct Confinement {
    program: Program,
    /// With it the policy is loaded after ids and capabilities have changed. Without, before, and it has to let them
    /// change.
    no_new_privs: bool,
    loaded: Cell<bool>,
}

impl Confinement {
    /// Compile a policy for the capabilities `caps`, and check that PROG can begin under it. `None`: it refuses
    /// nothing.
    pub fn new(
        policy: &Policy,
        caps: u64,
        no_new_privs: bool,
    ) -> Result<Option<Confinement>, Error> {
        let program = policy.compile(caps)?;
        program.map(|program| Confinement::of(program, no_new_privs)).transpose()
    }

    /// Check a compiled program in the same way.
    pub fn of(program: Program, no_new_privs: bool) -> Result<Confinement, Error> {
        check::prog(&program)?;
        Ok(Confinement { program, no_new_privs, loaded: Cell::new(false) })
    }

    /// Check that ids and capabilities can still be changed where that comes later.
    pub fn check_change(&self, ids: bool, ambient: bool) -> Result<(), Error> {
        if self.no_new_privs { Ok(()) } else { check::change(&self.program, ids, ambient) }
    }

    /// Check that it can be reported that PROG is executed, where that comes later: `--ready`.
    pub fn check_ready(&self) -> Result<(), Error> {
        if self.no_new_privs { Ok(()) } else { check::ready(&self.program) }
    }

    /// Check that process 1 of a container can do its work under it.
    /// `apart`: PROG is to lead a process group in its session.
    pub fn check_process_1(&self, apart: bool) -> Result<(), Error> {
        check::process_1(&self.program, apart)
    }

    /// Write the program to descriptor `fd`, for td-enter: [`Program::from_bytes`] reads it. (Where there is no policy,
    /// nothing is written.)
    pub fn record(&self, cx: &Cx, fd: RawFd) -> Result<(), Error> {
        sys::write_inherited(cx, fd, &self.program.to_bytes())
    }

    /// Check that td-enter can bring in a process under it.
    pub fn check_entry(&self) -> Result<(), Error> {
        self.check_change(true, false)?;
        self.check_ready()?;
        check::entry(&self.program)
    }

    /// Check that td-enter can give what it brings in a terminal under it.
    pub fn check_control(&self) -> Result<(), Error> {
        check::terminal(&self.program, self.no_new_privs)
    }

    /// Check that td-tty --inside can do its work under it.
    pub fn check_terminal(&self) -> Result<(), Error> {
        check::terminal(&self.program, false)
    }

    /// Does it refuse to type into a terminal?
    #[allow(clippy::unnecessary_cast)] // an int in musl
    pub fn refuses_typing(&self) -> bool {
        let typing = Data::own(Sysno::ioctl.id() as u32, &[0, libc::TIOCSTI as u64]);
        self.program.evaluate(&typing).is_ok_and(|answer| !answer::allows(answer))
    }

    /// Before ids and capabilities change: load it where no_new_privs is not set.
    pub fn load_before_ids(&self, cx: &Cx) -> Result<(), Error> {
        if self.no_new_privs { Ok(()) } else { self.program.load(cx) }
    }

    /// After they have changed: load it, unless it is.
    pub fn load_after_ids(&self, cx: &Cx) -> Result<(), Error> {
        if self.no_new_privs && !self.loaded.replace(true) { self.program.load(cx) } else { Ok(()) }
    }

    /// PROG, the file `path`, is executed now. Refuse it where nothing of it could run under the policy, else load
    /// that, unless it is.
    pub fn load_before_exec(&self, cx: &Cx, path: &CStr) -> Result<(), Error> {
        // A dry run may be in another root than PROG. Under the policy it might be the last that we do.
        let is_loaded = !self.no_new_privs || self.loaded.get();
        if !cx.dry() && (!is_loaded || check::may_look(&self.program)) {
            check::machine(cx, &self.program, path)?;
        }
        self.load_after_ids(cx)
    }
}

/// A file of the root where we are, which may be hostile: a FIFO must not hold us.
fn open(cx: &Cx, path: &CString) -> Result<OwnedFd, Error> {
    let file = sys::openat(cx, None, path, libc::O_RDONLY | libc::O_NONBLOCK)?;
    if sys::fstatx(cx, file.as_fd())?.file_type() == libc::S_IFREG {
        return Ok(file);
    }
    Err(Error::refusal(format_args!("{}: not a regular file", plain(path.to_bytes()))))
}

/// The whole of an open file, from its beginning where it has one.
fn contents(cx: &Cx, name: &str, file: BorrowedFd) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    sys::with_piece(cx, &mut |piece| {
        while bytes.len() <= LARGEST {
            let read = match sys::pread64(cx, file, piece, bytes.len()) {
                Err(e) if e.is(Errno::ESPIPE) => sys::read(cx, file, piece),
                other => other,
            };
            match read? {
                0 => return Ok(()),
                n => bytes.extend_from_slice(piece.get(..n).unwrap_or_default()),
            }
        }
        Err(Error::refusal(format_args!("{name}: larger than {LARGEST} bytes")))
    })?;
    Ok(bytes)
}
