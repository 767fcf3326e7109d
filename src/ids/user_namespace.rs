//! User namespaces: which one this process is in, whose another namespace is, and what uid_map and gid_map say:
//! user_namespaces(7).

use std::ffi::CStr;
use std::os::fd::AsFd;

use syscalls::Errno;

use crate::say::error::Error;
use crate::say::number::{decimal, id};
use crate::say::text::{lines, split};
use crate::sys::{self, Cx};

/// Who may make user namespaces: a file, what it says where few may, and that in words.
const SYSCTLS: [(&CStr, &[u8], &str); 2] = [
    (
        c"/proc/sys/kernel/unprivileged_userns_clone",
        b"0",
        "kernel.unprivileged_userns_clone is 0: only root may create a user namespace",
    ),
    (
        c"/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        b"1",
        "kernel.apparmor_restrict_unprivileged_userns is 1: a program needs an AppArmor profile for this",
    ),
];

/// The way out of what [`restricted`] has found.
pub const SYSCTL: &str = "root can change this: sysctl(8)";

/// The inode of the initial user namespace: PROC_USER_INIT_INO of linux/proc_ns.h.
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// Is this the machine's initial user namespace? Without /proc it is assumed to be.
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
    let _looking = cx.looking();
    if sys::statx(cx, None, c"/proc/self", 0).is_err_and(|e| e.is(Errno::ENOENT)) {
        return error.because("ids are mapped through /proc, which must be mounted");
    }
    if let Some(what) = restricted(cx) {
        return error.because(what).way_out(SYSCTL);
    }
    // By elimination: our sets are those of the new user namespace already.
    match error.errno() {
        Some(Errno::EPERM) if root => {
            error.because("perhaps the caller has no CAP_SETFCAP, which is needed to map uid 0")
        }
        _ => error,
    }
}

/// Does a line of uid_map or gid_map have the id? It has the first id, the first outside, and their count.
pub fn is_mapped(map: &[u8], id: u32) -> bool {
    lines(map).any(|line| {
        let mut numbers = split(line, b' ').filter_map(decimal);
        match (numbers.next(), numbers.nth(1)) {
            (Some(first), Some(count)) => (first..first.saturating_add(count)).contains(&id.into()),
            _ => false,
        }
    })
}

/// May another file be given an id that a file has? One without an id in our user namespace is seen as 65534.
pub fn may_own(cx: &Cx, map: &CStr, id: u32) -> Result<bool, Error> {
    const UNMAPPED: u32 = 65534; // linux/highuid.h
    if is_initial(cx) {
        return Ok(true);
    }
    Ok(id != UNMAPPED && is_mapped(&sys::read_file(cx, None, map)?, id))
}

/// The id to take in a user namespace with this map: root, or if root is not mapped the smallest mapped id; inside, and
/// outside. `None`: the map is empty.
pub fn smallest_mapped(map: &[u8]) -> Option<[u32; 2]> {
    let lines = lines(map).filter_map(|line| {
        let mut numbers = split(line, b' ').filter_map(id);
        Some([numbers.next()?, numbers.next()?])
    });
    lines.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_mapped_where_a_line_of_the_map_has_it() {
        let map = b"         0       1000          1\n     65536     100000      65536\n";
        for (id, mapped) in [(0, true), (1, false), (65535, false), (65536, true), (131072, false)]
        {
            assert_eq!(is_mapped(map, id), mapped, "{id}");
        }
        assert!(is_mapped(b"0 0 4294967295\n", u32::MAX - 1));
        assert!(!is_mapped(b"", 0));
    }

    #[test]
    fn one_is_root_where_root_is_mapped_and_else_the_smallest_id() {
        for (map, ids) in [
            (
                &b"         1     100000          9\n         0       1000          1\n"[..],
                Some([0, 1000]),
            ),
            (b"      1000      65534          1\n", Some([1000, 65534])),
            (b"         0          0 4294967295\n", Some([0, 0])),
            (b"", None),
        ] {
            assert_eq!(smallest_mapped(map), ids);
        }
    }
}
