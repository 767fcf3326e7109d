//! User namespaces: which one this process is in, and whose another namespace is: user_namespaces(7).

use std::ffi::CStr;
use std::os::fd::AsFd;

use syscalls::Errno;

use crate::sys::{self, Cx};

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
