//! Why a program is not executed: what kind of file it is, by looking at it: execve(2).

use std::ffi::CStr;
use std::os::fd::AsFd;

use syscalls::Errno;

use crate::say::error::{Error, NOT_EXECUTABLE, NOT_FOUND, why_unreachable};
use crate::say::flags;
use crate::say::format::{Format, format_of};
use crate::say::show::{self, plain};
use crate::sys::structs::{StatFs, Statx};
use crate::sys::{self, Cx};

/// Why a program was not executed: look at it. 127 where there is none, else 126.
pub fn why(cx: &Cx, path: &CStr, error: Error) -> Error {
    let _looking = cx.looking();
    // That is ours, whatever the program is.
    if let Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM) = error.errno() {
        return error;
    }
    let shown = plain(path.to_bytes());
    let stat = match sys::statx(cx, None, path, 0) {
        Ok(stat) => stat,
        Err(looked) => {
            let missing = looked.is(Errno::ENOENT) || looked.is(Errno::ENOTDIR);
            let status = if missing { NOT_FOUND } else { NOT_EXECUTABLE };
            return error.because(why_unreachable(&shown, &looked)).with_status(status);
        }
    };
    let error = error.with_status(NOT_EXECUTABLE);
    if let Some(what) = unfit(cx, path, &stat) {
        return error.because(format_args!("{shown}{what}"));
    }
    let Ok(head) = sys::read_head(cx, path) else { return error };
    match (format_of(&head), error.errno()) {
        (Format::Script(interpreter) | Format::Elf(_, Some(interpreter)), Some(Errno::ENOENT)) => {
            let interpreter = plain(interpreter);
            error
                .because(format_args!("{shown} exists, but its interpreter {interpreter} does not"))
        }
        (Format::Elf(machine, _), Some(Errno::ENOEXEC)) => {
            let mut name = String::new();
            show::name(machine.into(), flags::MACHINES, &mut name);
            let what = ", which this machine cannot run";
            error.because(format_args!("{shown} is a program for {name}{what}"))
        }
        (Format::Unknown, Some(Errno::ENOEXEC)) => error
            .because(format_args!("{shown} has no #! line and is not an ELF program"))
            .way_out(format_args!("if it is a shell script: sh {shown}")),
        _ => error,
    }
}

/// What keeps a file from being executed, whatever is in it.
fn unfit(cx: &Cx, path: &CStr, stat: &Statx) -> Option<&'static str> {
    if stat.is_dir() {
        return Some(" is a directory");
    }
    if stat.file_type() != libc::S_IFREG {
        return Some(" is not a regular file"); // to open it might wait for ever
    }
    if stat.permissions() & 0o111 == 0 {
        return Some(" has no execute permission");
    }
    let noexec = |fs: StatFs| fs.f_flags as u64 & libc::ST_NOEXEC != 0;
    let file = sys::openat(cx, None, path, libc::O_PATH).ok()?;
    if sys::fstatfs(cx, file.as_fd()).is_ok_and(noexec) {
        return Some(" is on a file system that is mounted noexec");
    }
    let refused = sys::faccessat2(cx, None, path, libc::X_OK);
    refused.is_err_and(|e| e.is(Errno::EACCES)).then_some(" may not be executed by this process")
}
