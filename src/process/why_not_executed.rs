//! Why a program is not executed: what kind of file it is, and what interprets it, to the end of that chain, by looking
//! at the files: execve(2), fs/exec.c.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;

use syscalls::Errno;

use crate::process::file_to_execute::{dangling, unfit, why_unreached};
use crate::process::processes;
use crate::process::why_no_child;
use crate::say::elf::{Damage, Elf, loader_damage};
use crate::say::error::{Error, NOT_EXECUTABLE, NOT_FOUND};
use crate::say::flags;
use crate::say::format::{Format, format_of};
use crate::say::show::{self, plain};
use crate::sys::{self, Cx, cstring};

/// The kernel follows as many interpreters of scripts: exec_binprm() of fs/exec.c.
const LEVELS: usize = 5;

/// The machine of this program, which a kernel that runs it executes, and the one of 32 bits that it may execute too.
const OWN: [u16; 2] = if cfg!(target_arch = "aarch64") {
    [libc::EM_AARCH64, libc::EM_ARM]
} else {
    [libc::EM_X86_64, libc::EM_386]
};

/// Why a program was not executed: look at it. 127 where there is none, else 126.
pub fn why(cx: &Cx, path: &CStr, error: Error) -> Error {
    let errno = match error.errno() {
        // That is ours, whatever the program is.
        None | Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM) => return error,
        Some(errno) => errno,
    };
    let _looking = cx.looking();
    if let Err(looked) = sys::statx(cx, None, path, 0) {
        let missing = looked.is(Errno::ENOENT) || looked.is(Errno::ENOTDIR);
        let status = if missing { NOT_FOUND } else { NOT_EXECUTABLE };
        return unreached(cx, path, &looked, error).with_status(status);
    }
    let error = error.with_status(NOT_EXECUTABLE);
    if errno == Errno::EAGAIN {
        return why_no_child::why_not_executed(cx, error);
    }
    let mut chain = Chain { cx, errno, files: vec![path.into()], hops: Vec::new() };
    let Some(Found { why, way_out }) = chain.walk() else { return error };
    let error = chain.hops.into_iter().fold(error, Error::because).because(why);
    match way_out {
        Some(way_out) => error.way_out(way_out),
        None => error,
    }
}

/// That a path leads nowhere; of a symbolic link, where it leads.
fn unreached(cx: &Cx, path: &CStr, looked: &Error, error: Error) -> Error {
    let error = error.because(why_unreached(cx, path, looked));
    match dangling(cx, path) {
        Some(target) if looked.is(Errno::ENOENT) => error.because(target),
        _ => error,
    }
}

/// A cause, and a way out.
struct Found {
    why: String,
    way_out: Option<String>,
}

impl Found {
    fn new(parts: &[&str]) -> Option<Found> {
        Some(Found { why: parts.concat(), way_out: None })
    }
}

/// What follows a file.
enum Next {
    /// Its interpreter, or its loader.
    Script(CString),
    Loader(CString),
    /// Nothing that would explain the errno.
    Nothing,
    Cause(Option<Found>),
}

/// A program, and what interprets it.
struct Chain<'a> {
    cx: &'a Cx,
    errno: Errno,
    files: Vec<CString>,
    /// What leads from one to the next, in words.
    hops: Vec<String>,
}

impl Chain<'_> {
    /// Look at each file, as the kernel does, until one explains the errno.
    fn walk(&mut self) -> Option<Found> {
        let mut is_loader = false;
        for level in 0.. {
            let file = self.files.last()?.clone();
            let shown = plain(file.to_bytes());
            let (next, role) = match self.look(&file, &shown, is_loader) {
                Next::Script(next) => (next, "interpreter"),
                Next::Loader(next) => (next, "loader"),
                Next::Nothing => break,
                Next::Cause(found) => return found,
            };
            is_loader = role == "loader";
            let next_shown = plain(next.to_bytes());
            if level == LEVELS && !is_loader {
                return self.too_deep(&next);
            }
            if let Err(looked) = sys::statx(self.cx, None, &next, 0) {
                return self.no_interpreter(&shown, role, &next, &looked);
            }
            self.hop(&shown, role, &next_shown);
            self.files.push(next);
        }
        match self.errno {
            Errno::ETXTBSY => self.written_unseen(),
            Errno::ENOENT => self.no_handler(),
            _ => None,
        }
    }

    /// What leads from one file to the next; once, where it is a circle.
    fn hop(&mut self, shown: &str, role: &str, next: &str) {
        let is = if role == "loader" { ": its loader is " } else { ": its interpreter is " };
        let hop = [shown, is, next].concat();
        if !self.hops.contains(&hop) {
            self.hops.push(hop);
        }
    }

    /// A file of the chain.
    fn look(&self, file: &CStr, shown: &str, is_loader: bool) -> Next {
        let Ok(stat) = sys::statx(self.cx, None, file, 0) else { return Next::Cause(None) };
        if stat.file_type() != libc::S_IFREG || self.errno == Errno::EACCES {
            if let Some(what) = unfit(self.cx, file, &stat) {
                let found = (self.errno == Errno::EACCES).then(|| Found::new(&[shown, what]));
                return Next::Cause(found.flatten());
            }
        }
        if self.errno == Errno::ETXTBSY {
            if let Some(writers) = processes::writers(self.cx, &stat) {
                return Next::Cause(Found::new(&[shown, " is open for writing: ", &writers]));
            }
        }
        let Ok(head) = sys::read_head(self.cx, file) else { return Next::Cause(None) };
        match format_of(&head) {
            Format::Elf(elf) if !is_loader => self.look_at_elf(file, shown, &elf, stat.size),
            format if is_loader => self.look_at_loader(shown, &format, stat.size),
            Format::Script(next) => Next::Script(cstring(next)),
            Format::BadLine(what) if matches!(self.errno, Errno::ENOEXEC | Errno::EACCES) => {
                Next::Cause(Found::new(&["the #! line of ", shown, " ", what]))
            }
            Format::Unknown if self.errno == Errno::ENOEXEC => {
                Next::Cause(no_program(&head, shown))
            }
            _ => Next::Nothing,
        }
    }

    fn look_at_elf(&self, file: &CStr, shown: &str, elf: &Elf, size: u64) -> Next {
        if !OWN.contains(&elf.machine) {
            return match self.errno {
                Errno::ENOEXEC => Next::Cause(foreign(shown, elf, "")),
                _ => Next::Nothing,
            };
        }
        let loader = match elf.damage(size) {
            None => loader_of(self.cx, file, elf),
            Some(damage) => Err(damage),
        };
        match (loader, self.errno) {
            (Ok(Some(loader)), _) => Next::Loader(loader),
            (Err(Damage(what)), Errno::ENOEXEC | Errno::EIO) => {
                Next::Cause(Found::new(&[shown, what]))
            }
            // A kernel may be without the programs of 32 bits.
            (Ok(None), Errno::ENOEXEC) if elf.is_32 => Next::Cause(foreign(shown, elf, "")),
            _ => Next::Nothing,
        }
    }

    /// What the kernel refuses in the loader of a program: it has to be one for the same machine.
    fn look_at_loader(&self, shown: &str, format: &Format, size: u64) -> Next {
        let is_short = size < 64;
        match (format, self.errno) {
            (_, Errno::EIO) if is_short => Next::Cause(Found::new(&[
                shown,
                " is truncated: it has fewer bytes than the header of an ELF program",
            ])),
            (Format::Elf(elf), Errno::ELIBBAD) if !OWN.contains(&elf.machine) => {
                Next::Cause(foreign(shown, elf, ""))
            }
            (Format::Elf(elf), Errno::ELIBBAD) => match elf.damage(size) {
                Some(Damage(what)) => Next::Cause(Found::new(&[shown, what])),
                None => Next::Nothing,
            },
            (_, Errno::ELIBBAD) => Next::Cause(Found::new(&[shown, " is not an ELF program"])),
            _ => Next::Nothing,
        }
    }

    fn too_deep(&self, next: &CStr) -> Option<Found> {
        if self.errno != Errno::ELOOP {
            return None;
        }
        let is_circle = self.files.iter().any(|file| **file == *next);
        Found::new(&[if is_circle {
            "the #! lines lead in a circle"
        } else {
            "the #! lines lead through more than 5 interpreters, the maximum"
        }])
    }

    /// What an interpreter that is not reached does to the one that needs it.
    fn no_interpreter(
        &mut self,
        shown: &str,
        role: &str,
        next: &CStr,
        looked: &Error,
    ) -> Option<Found> {
        if !looked.is(self.errno) {
            return None;
        }
        let next_shown = plain(next.to_bytes());
        if self.errno != Errno::ENOENT {
            self.hop(shown, role, &next_shown);
            return Found::new(&[&why_unreached(self.cx, next, looked)]);
        }
        let missing =
            [shown, " exists, but its ", role, " ", &next_shown, " does not exist in this root"]
                .concat();
        if let Some(target) = dangling(self.cx, next) {
            self.hops.push(missing);
            return Found::new(&[&target]);
        }
        let Some(name) = next.to_bytes().strip_suffix(b"\r") else {
            return Found::new(&[&missing]);
        };
        self.hops.push(missing);
        let exists = sys::faccessat2(self.cx, None, &cstring(name), libc::X_OK).is_ok();
        let way_out =
            exists.then(|| ["remove the carriage returns: sed -i 's/\\r$//' ", shown].concat());
        let why =
            ["the #! line of ", shown, " ends with a carriage return, as lines do on Windows"]
                .concat();
        Some(Found { why, way_out })
    }

    /// No process is seen that could have one of the files open.
    fn written_unseen(&mut self) -> Option<Found> {
        let files: Vec<String> = self.files.iter().map(|file| plain(file.to_bytes())).collect();
        let what = " is open for writing, perhaps by a process that cannot be seen here";
        Found::new(&[&files.join(" or "), what])
    }

    /// All are there: of a program that this machine does not run, the kernel may have been told another interpreter.
    fn no_handler(&mut self) -> Option<Found> {
        let file = self.files.last()?;
        let head = sys::read_head(self.cx, file).ok()?;
        let Format::Elf(elf) = format_of(&head) else { return None };
        let what =
            ": perhaps the interpreter that binfmt_misc has for it does not exist in this root";
        (!OWN.contains(&elf.machine))
            .then(|| foreign(&plain(file.to_bytes()), &elf, what))
            .flatten()
    }
}

/// A program of another machine.
fn foreign(shown: &str, elf: &Elf, what: &str) -> Option<Found> {
    let mut name = String::new();
    show::name(elf.machine.into(), flags::MACHINES, &mut name);
    let bits = if elf.is_32 { " of 32 bits" } else { "" };
    let what = if what.is_empty() { ", which this machine cannot run" } else { what };
    Found::new(&[shown, " is a program for ", &name, bits, what])
}

/// The loader of an ELF program: its PT_INTERP.
fn loader_of(cx: &Cx, file: &CStr, elf: &Elf) -> Result<Option<CString>, Damage> {
    let Ok(file) = sys::openat(cx, None, file, libc::O_RDONLY) else { return Ok(None) };
    let read = |at: u64, size: usize| {
        let mut bytes = vec![0; size];
        let n = sys::pread64(cx, file.as_fd(), &mut bytes, at as usize).unwrap_or(0);
        bytes.truncate(n);
        bytes
    };
    let (at, size) = elf.table();
    let Some((at, size)) = elf.loader(&read(at, size)) else { return Ok(None) };
    let name = read(at, size.min(libc::PATH_MAX as u64) as usize);
    match loader_damage(&name, size) {
        Some(damage) => Err(damage),
        None => Ok(Some(cstring(name.split(|byte| *byte == 0).next().unwrap_or_default()))),
    }
}

/// A file that begins with no format that the kernel knows.
fn no_program(head: &[u8], shown: &str) -> Option<Found> {
    if head.is_empty() {
        return Found::new(&[shown, " is empty"]);
    }
    if head.starts_with(b"\xef\xbb\xbf#!") {
        return Found::new(&[shown, " has a byte order mark before its #! line"]);
    }
    let why = [shown, " has no #! line and is not an ELF program"].concat();
    let way_out = ["if it is a shell script: sh ", shown].concat();
    Some(Found { why, way_out: (!head.contains(&0)).then_some(way_out) })
}
