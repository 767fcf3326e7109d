//! Users and groups.

use std::ffi::CStr;

use crate::ids::caps::{CAP_SETGID, CAP_SETUID};

/// What differs between users and groups.
pub struct Kind {
    pub map: &'static str,
    /// Who has which ids beside his own.
    pub subordinate: &'static CStr,
    /// The program that maps them for him.
    pub program: &'static CStr,
    /// Who has it maps what he likes.
    pub cap: u64,
}

pub const USERS: Kind =
    Kind { map: "uid_map", subordinate: c"/etc/subuid", program: c"newuidmap", cap: CAP_SETUID };

pub const GROUPS: Kind =
    Kind { map: "gid_map", subordinate: c"/etc/subgid", program: c"newgidmap", cap: CAP_SETGID };
