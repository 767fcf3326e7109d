//! Users and groups.

use std::ffi::CStr;

use crate::ids::caps::{CAP_SETGID, CAP_SETUID};

/// What differs between users and groups.
pub struct Kind {
    pub map: &'static str,
    /// The file that gives users more ids than their own.
    pub subordinate: &'static CStr,
    /// The program that maps them for a user.
    pub program: &'static CStr,
    /// The capability that allows any map.
    pub cap: u64,
}

pub const USERS: Kind =
    Kind { map: "uid_map", subordinate: c"/etc/subuid", program: c"newuidmap", cap: CAP_SETUID };

pub const GROUPS: Kind =
    Kind { map: "gid_map", subordinate: c"/etc/subgid", program: c"newgidmap", cap: CAP_SETGID };
