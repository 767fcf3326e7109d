//! The state of a process: prctl(2), capabilities, ids, limits, keys.

use std::cell::Cell;
use std::ffi::{CStr, c_int};

use crate::say::error::Error;
use crate::say::flags::{self, Table};
use crate::sys::arg::Arg;
use crate::sys::context::Cx;
use crate::sys::raw::{name, nr};
use crate::sys::structs::*;

fn prctl(cx: &Cx, option: c_int, args: &[Arg]) -> Result<usize, Error> {
    let mut all = vec![name(option, flags::PRCTL)];
    all.extend(args.iter().copied());
    cx.change(nr::prctl, &all)
}

/// `prctl(PR_SET_PDEATHSIG, signal)`: PR_SET_PDEATHSIG(2const). The signal that we get when the
/// thread that made us ends. A change of ids clears it.
pub fn prctl_set_pdeathsig(cx: &Cx, signal: c_int) -> Result<(), Error> {
    prctl(cx, libc::PR_SET_PDEATHSIG, &[name(signal, flags::SIGNAL)]).map(drop)
}

/// `prctl(PR_GET_PDEATHSIG, &signal)`: PR_GET_PDEATHSIG(2const). 0: none is set.
pub fn prctl_get_pdeathsig(cx: &Cx) -> Result<c_int, Error> {
    let signal = Cell::new(Signal(0));
    let args = [name(libc::PR_GET_PDEATHSIG, flags::PRCTL), Arg::Out(&signal)];
    cx.read(nr::prctl, &args)?;
    Ok(signal.get().0)
}

/// `prctl(PR_SET_NAME, name)`: PR_SET_NAME(2const), at most 15 bytes.
pub fn prctl_set_name(cx: &Cx, text: &CStr) -> Result<(), Error> {
    prctl(cx, libc::PR_SET_NAME, &[Arg::Str(text)]).map(drop)
}

/// `prctl(PR_SET_CHILD_SUBREAPER, 1)`: PR_SET_CHILD_SUBREAPER(2const). Orphans below us become ours.
pub fn prctl_set_child_subreaper(cx: &Cx) -> Result<(), Error> {
    prctl(cx, libc::PR_SET_CHILD_SUBREAPER, &[Arg::Size(1)]).map(drop)
}

/// `prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE)`: PR_SET_DUMPABLE(2const). Until the next execve(2) nobody without
/// CAP_SYS_PTRACE may trace us, read our memory, or follow our links in `/proc`.
pub fn prctl_set_undumpable(cx: &Cx) -> Result<(), Error> {
    prctl(cx, libc::PR_SET_DUMPABLE, &[name(0, flags::DUMP)]).map(drop)
}

/// `prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)`: PR_SET_NO_NEW_PRIVS(2const).
pub fn prctl_set_no_new_privs(cx: &Cx) -> Result<(), Error> {
    let zeros = [Arg::Size(1), Arg::Size(0), Arg::Size(0), Arg::Size(0)];
    prctl(cx, libc::PR_SET_NO_NEW_PRIVS, &zeros).map(drop)
}

/// `prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)`: PR_GET_NO_NEW_PRIVS(2const).
pub fn prctl_get_no_new_privs(cx: &Cx) -> Result<bool, Error> {
    let zero = Arg::Size(0);
    let args = [name(libc::PR_GET_NO_NEW_PRIVS, flags::PRCTL), zero, zero, zero, zero];
    cx.read(nr::prctl, &args).map(|set| set == 1)
}

/// `prctl(PR_GET_SECCOMP)`: PR_GET_SECCOMP(2const). 2: a filter is loaded. EINVAL: this kernel has none.
pub fn prctl_get_seccomp(cx: &Cx) -> Result<usize, Error> {
    cx.read(nr::prctl, &[name(libc::PR_GET_SECCOMP, flags::PRCTL)])
}

/// `seccomp(SECCOMP_SET_MODE_FILTER, 0, program)`: seccomp(2). The kernel runs the program before each system call of
/// this process, of what it executes and of its children, for good. EACCES: neither no_new_privs nor CAP_SYS_ADMIN;
/// EINVAL: a program that it does not take; ENOMEM: with those that are loaded it is too long.
pub fn seccomp_set_mode_filter(cx: &Cx, program: &[BpfInstruction]) -> Result<(), Error> {
    let program = BpfProgram::new(program);
    let operation = name(libc::SECCOMP_SET_MODE_FILTER, flags::SECCOMP);
    cx.change(nr::seccomp, &[operation, Arg::Size(0), Arg::In(&program)]).map(drop)
}

/// `prctl(PR_SET_KEEPCAPS, 1)`: PR_SET_KEEPCAPS(2const). The permitted capabilities outlast a change
/// of the uid, until the next execve(2).
pub fn prctl_set_keepcaps(cx: &Cx) -> Result<(), Error> {
    prctl(cx, libc::PR_SET_KEEPCAPS, &[Arg::Size(1)]).map(drop)
}

/// `prctl(PR_CAPBSET_DROP, cap)`: PR_CAPBSET_DROP(2const). EINVAL: this kernel has no such capability.
pub fn prctl_capbset_drop(cx: &Cx, cap: u64) -> Result<(), Error> {
    prctl(cx, libc::PR_CAPBSET_DROP, &[Arg::Name(cap, flags::CAPS)]).map(drop)
}

/// `prctl(PR_CAPBSET_READ, cap)`: PR_CAPBSET_READ(2const). EINVAL: this kernel has no such capability.
pub fn prctl_capbset_read(cx: &Cx, cap: u64) -> Result<bool, Error> {
    let args = [name(libc::PR_CAPBSET_READ, flags::PRCTL), Arg::Name(cap, flags::CAPS)];
    cx.read(nr::prctl, &args).map(|set| set == 1)
}

/// `prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0)`: PR_CAP_AMBIENT(2const). EPERM: it is not
/// both permitted and inheritable.
pub fn prctl_cap_ambient_raise(cx: &Cx, cap: u64) -> Result<(), Error> {
    let raise = name(libc::PR_CAP_AMBIENT_RAISE, flags::AMBIENT);
    let args = [raise, Arg::Name(cap, flags::CAPS), Arg::Size(0), Arg::Size(0)];
    prctl(cx, libc::PR_CAP_AMBIENT, &args).map(drop)
}

/// `capget({version 3, pid 0}, data)`: capget(2). Our own sets.
pub fn capget(cx: &Cx) -> Result<CapData, Error> {
    let data = Cell::new(CapData::default());
    cx.read(nr::capget, &[Arg::InOut(&Cell::new(CapHeader::SELF)), Arg::Out(&data)])?;
    Ok(data.get())
}

/// `capset({version 3, pid 0}, data)`: capget(2).
pub fn capset(cx: &Cx, data: &CapData) -> Result<(), Error> {
    cx.change(nr::capset, &[Arg::InOut(&Cell::new(CapHeader::SELF)), Arg::In(data)]).map(drop)
}

/// `setgroups(size, list)`: getgroups(2).
pub fn setgroups(cx: &Cx, groups: &[u32]) -> Result<(), Error> {
    cx.change(nr::setgroups, &[Arg::Ids(groups)]).map(drop)
}

/// `setresgid(gid, gid, gid)`: setresuid(2).
pub fn setresgid(cx: &Cx, gid: u32) -> Result<(), Error> {
    let gid = gid as usize;
    cx.change(nr::setresgid, &[Arg::Size(gid), Arg::Size(gid), Arg::Size(gid)]).map(drop)
}

/// `setresuid(uid, uid, uid)`: setresuid(2).
pub fn setresuid(cx: &Cx, uid: u32) -> Result<(), Error> {
    let uid = uid as usize;
    cx.change(nr::setresuid, &[Arg::Size(uid), Arg::Size(uid), Arg::Size(uid)]).map(drop)
}

/// `prlimit64(0, resource, NULL, old)`: getrlimit(2). `table` has the resource's name.
pub fn getrlimit(cx: &Cx, resource: u64, table: Table) -> Result<RLimit, Error> {
    let old = Cell::new(RLimit { soft: 0, hard: 0 });
    let resource = Arg::Name(resource, table);
    cx.read(nr::prlimit64, &[Arg::Size(0), resource, Arg::Null, Arg::Out(&old)])?;
    Ok(old.get())
}

/// `prlimit64(0, resource, limit, NULL)`: getrlimit(2).
pub fn setrlimit(cx: &Cx, resource: u64, limit: RLimit) -> Result<(), Error> {
    let resource = Arg::Name(resource, flags::RLIMIT);
    let args = [Arg::Size(0), resource, Arg::In(&limit), Arg::Null];
    cx.change(nr::prlimit64, &args).map(drop)
}

/// `keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)`: KEYCTL_JOIN_SESSION_KEYRING(2const). A new, empty one.
pub fn keyctl_join_session_keyring(cx: &Cx) -> Result<(), Error> {
    let join = name(libc::KEYCTL_JOIN_SESSION_KEYRING, flags::KEYCTL);
    cx.change(nr::keyctl, &[join, Arg::Null]).map(drop)
}
