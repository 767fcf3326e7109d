//! A file that was to be executed, whatever is in it: whether a path leads to one, and whether it may be executed.

use std::ffi::CStr;
use std::os::fd::AsFd;

use syscalls::Errno;

use crate::root::why_no_path::why_unreachable;
use crate::say::error::Error;
use crate::say::show::plain;
use crate::say::text::split_name;
use crate::sys::structs::{StatFs, Statx};
use crate::sys::{self, Cx, cstring};

/// Why statx(2) did not reach a file that is to be executed: the component that failed.
pub fn why_unreached(cx: &Cx, path: &CStr, looked: &Error) -> String {
    // Where a link leads is said beside it.
    let is_link = || sys::statx(cx, None, path, libc::AT_SYMLINK_NOFOLLOW).is_ok();
    if looked.is(Errno::ENOENT) && is_link() {
        return plain(path.to_bytes()) + " does not exist in this root";
    }
    why_unreachable(cx, path, looked)
}

/// Where a path that does not exist is a symbolic link: where that leads, to the end.
pub fn dangling(cx: &Cx, path: &CStr) -> Option<String> {
    let _looking = cx.looking();
    let mut at = path.to_owned();
    let mut said = plain(path.to_bytes());
    // The kernel follows as many: path_resolution(7).
    for links in 0..=40 {
        let Ok(target) = sys::readlinkat(cx.expects(&[Errno::EINVAL, Errno::ENOENT]), None, &at)
        else {
            return (links > 0).then_some(said);
        };
        said.push_str(if links == 0 { " is a symbolic link to " } else { ", that to " });
        said.push_str(&plain(&target));
        at = match target.first() {
            Some(b'/') => cstring(target),
            _ => cstring([split_name(at.to_bytes()).0, &target].concat()),
        };
    }
    Some(said)
}

/// What keeps a file from being executed, whatever is in it.
pub fn unfit(cx: &Cx, path: &CStr, stat: &Statx) -> Option<&'static str> {
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
