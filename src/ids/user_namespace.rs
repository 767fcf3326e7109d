//! User namespaces: which one this process is in, and whose another namespace is: user_namespaces(7).

use std::ffi::CStr;
use std::os::fd::AsFd;

use syscalls::Errno;

use crate::say::error::Error;
use crate::sys::{self, Cx};

/// Who may make user namespaces: a file, what it says where few may, and that in words.
const SYSCTLS: [(&CStr, &[u8], &str); 2] = [
    (
        c"/proc/sys/kernel/unprivileged_userns_clone",
        b"0",
        "kernel.unprivileged_userns_clone is 0: only root may make a user namespace",
    ),
    (
        c"/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        b"1",
        "kernel.apparmor_restrict_unprivileged_userns is 1: a program needs a profile for this",
    ),
];

/// The way out of what [`restricted`] has found.
pub const SYSCTL: &str = "root can change it: sysctl(8)";

/// The inode of the initial user namespace: PROC_USER_INIT_INO of linux/proc_ns.h.
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// Are we in the user namespace that the machine began with? Without /proc it is taken to be so.
pub fn is_initial(cx: &Cx) -> bool {
    match sys::statx(cx, None, c"/proc/self/ns/user", 0) {
        Ok(stat) => stat.ino == INITIAL_USER_NAMESPACE,
        Err(_) => true,
    }
}

/// Does a namespace belong to a user namespace over which our capabilities have no power?
pub fn is_foreign(cx: &Cx, ns: &CStr) -> bool {
    let owner =
        sys::openat(cx, None, ns, libc::O_RDONLY).and_then(|ns| sys::ns_get_userns(cx, ns.as_fd()));
    owner.is_err_and(|e| e.is(Errno::EPERM))
}

/// The setting that keeps user namespaces from those who are not root.
pub fn restricted(cx: &Cx) -> Option<&'static str> {
    let is_set = |path, few| sys::read_file(cx, None, path).is_ok_and(|text| text.starts_with(few));
    SYSCTLS.iter().find(|(path, few, _)| is_set(path, few)).map(|(.., what)| *what)
}

/// Why the ids of a new user namespace were not mapped; `root`: uid 0 outside was among them.
pub fn why_not_mapped(cx: &Cx, root: bool, error: Error) -> Error {
    if sys::statx(cx, None, c"/proc/self", 0).is_err_and(|e| e.is(Errno::ENOENT)) {
        return error.because("ids are mapped through /proc, which must be mounted");
    }
    if let Some(what) = restricted(cx) {
        return error.because(what).way_out(SYSCTL);
    }
    // By elimination: our sets are those of the new user namespace already.
    match error.errno() {
        Some(Errno::EPERM) if root => {
            error.because("perhaps CAP_SETFCAP is missing outside, which mapping its uid 0 takes")
        }
        _ => error,
    }
}
