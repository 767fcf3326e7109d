//! A call that was answered by EPERM, EACCES or ENOSYS: has the kernel refused it, or a filter of system calls before
//! it, such as container engines and service managers load; or is the kernel older than the call: seccomp(2).

use std::ffi::CStr;

use syscalls::Errno;

use crate::ids::caps::{CAP_SETGID, CAP_SETPCAP, CAP_SYS_ADMIN, CAP_SYS_BOOT};
use crate::ids::user_namespace;
use crate::say::error::Error;
use crate::say::number::decimal;
use crate::say::show;
use crate::say::text::split;
use crate::sys::probe::{self, Asks};
use crate::sys::{self, Cx};

/// The calls of td that are younger than Linux 4.19, and the version that has them first.
const SINCE: [(&str, [u64; 2]); 11] = [
    ("clone3", [5, 3]),
    ("close_range", [5, 9]),
    ("faccessat2", [5, 8]),
    ("fsconfig", [5, 2]),
    ("fsmount", [5, 2]),
    ("fsopen", [5, 2]),
    ("mount_setattr", [5, 12]),
    ("move_mount", [5, 2]),
    ("open_tree", [5, 2]),
    ("openat2", [5, 6]),
    ("pidfd_open", [5, 3]),
];

/// The calls of td that a kernel can be built without, but for seccomp(2): where there is a filter, there is that.
const OPTIONAL: [&str; 4] = ["flock", "keyctl", "memfd_create", "signalfd4"];

/// SECCOMP_MODE_FILTER of linux/seccomp.h.
const FILTER: usize = 2;

/// What was found about a call that failed.
pub enum Found {
    Nothing,
    /// By elimination.
    Perhaps(String),
    /// A filter has refused it: the kernel has not looked at any other cause.
    Filter(String),
    /// This kernel does not have it.
    Old(String),
}

impl Found {
    /// Does it come before every other cause?
    pub fn is_certain(&self) -> bool {
        matches!(self, Found::Filter(_) | Found::Old(_))
    }

    /// Say it.
    pub fn add_to(self, error: Error) -> Error {
        match self {
            Found::Nothing => error,
            Found::Perhaps(what) | Found::Old(what) => error.because(what),
            Found::Filter(call) => error
                .because(["a seccomp filter of this process refuses ", &*call].concat())
                .way_out(["let the filter allow ", &*call].concat()),
        }
    }
}

/// Was the call of `error` refused by a filter, or does this kernel not have it?
pub fn look(cx: &Cx, error: &Error) -> Found {
    let call = called(error);
    match error.errno() {
        Some(Errno::EPERM | Errno::EACCES) if !call.is_empty() => refused(cx, &call, error),
        Some(Errno::ENOSYS) if !call.is_empty() => {
            let release = sys::read_file(cx, None, c"/proc/sys/kernel/osrelease");
            unknown(&call, &release.unwrap_or_default(), is_filtered(cx))
        }
        _ => Found::Nothing,
    }
}

/// The name of the call that failed; of a refusal that no call has made, nothing.
fn called(error: &Error) -> String {
    let what = error.what();
    let end = what.find('(').unwrap_or(what.len());
    what.get(..end).unwrap_or_default().into()
}

/// Is there a filter? Without one, and without support for it, there is none.
fn is_filtered(cx: &Cx) -> bool {
    match sys::prctl_get_seccomp(cx) {
        Ok(mode) => mode == FILTER,
        // The kernel knows no other answer for this option: a filter has refused it too.
        Err(e) => !e.is(Errno::EINVAL),
    }
}

fn refused(cx: &Cx, call: &str, error: &Error) -> Found {
    if !is_filtered(cx) {
        return Found::Nothing;
    }
    let Some(answer) = probe::again(cx, error) else { return perhaps(call, "") };
    if !answer.is_err_and(|errno| error.is(errno)) {
        return Found::Nothing; // the kernel's own answer: the filter has let the call through
    }
    match probe::asks(error).and_then(|asks| may(cx, asks)) {
        Some(true) => by_filter(call),
        // The kernel would refuse it too.
        Some(false) => Found::Nothing,
        None => perhaps(call, ""),
    }
}

fn by_filter(call: &str) -> Found {
    Found::Filter([call, "(2)"].concat())
}

fn perhaps(call: &str, or: &str) -> Found {
    let what = ["perhaps a seccomp filter of this process refuses ", call, "(2)", or];
    Found::Perhaps(what.concat())
}

/// Have we the right that a call asks for? `None`: it cannot be seen.
fn may(cx: &Cx, asks: Asks) -> Option<bool> {
    let over = |ns: &CStr| {
        sys::openat(cx, None, ns, libc::O_RDONLY).ok()?;
        Some(!user_namespace::is_foreign(cx, ns))
    };
    let (cap, reaches) = match asks {
        Asks::Nothing => return Some(true),
        Asks::Mounts => (CAP_SYS_ADMIN, over(c"/proc/self/ns/mnt")),
        Asks::Names => (CAP_SYS_ADMIN, over(c"/proc/self/ns/uts")),
        Asks::Boot => (CAP_SYS_BOOT, over(c"/proc/self/ns/pid")),
        Asks::Bounding => (CAP_SETPCAP, Some(true)),
        Asks::Users if user_namespace::restricted(cx).is_none() => return Some(true),
        Asks::Users => (CAP_SYS_ADMIN, Some(true)),
        Asks::Groups => {
            let allowed = sys::read_file(cx, None, c"/proc/self/setgroups");
            let mapped = sys::read_file(cx, None, c"/proc/self/gid_map");
            let both = allowed.ok().zip(mapped.ok());
            (CAP_SETGID, both.map(|(text, map)| text.starts_with(b"allow") && !map.is_empty()))
        }
    };
    match sys::capget(cx).ok()?.effective() >> cap & 1 {
        0 => Some(false),
        _ => reaches,
    }
}

/// Does a kernel `release`, which is empty where it is not known, lack a call, or has a filter answered so?
fn unknown(call: &str, release: &[u8], filtered: bool) -> Found {
    let since = SINCE.iter().find(|(name, _)| *name == call).map(|(_, since)| *since);
    let is_optional = OPTIONAL.contains(&call);
    let built = [", or this kernel was built without ", call, "(2)"].concat();
    match (since, version(release)) {
        (Some(since), Some(own)) if own < since => {
            let [own, since] = [own, since].map(shown);
            Found::Old(
                [call, "(2) came with Linux ", &since, ", and this is Linux ", &own].concat(),
            )
        }
        (Some(since), None) if filtered => {
            perhaps(call, &[", or this kernel is older than Linux ", &shown(since)].concat())
        }
        _ if filtered && is_optional => perhaps(call, &built),
        _ if filtered => by_filter(call),
        _ if is_optional => {
            Found::Perhaps(["perhaps this kernel was built without ", call, "(2)"].concat())
        }
        _ => Found::Nothing,
    }
}

/// `6.1.0-18-amd64` is 6.1.
fn version(release: &[u8]) -> Option<[u64; 2]> {
    let mut numbers = split(release, b'.').map(|part| {
        let digits = part.iter().take_while(|b| b.is_ascii_digit()).count();
        decimal(part.get(..digits)?)
    });
    Some([numbers.next()??, numbers.next()??])
}

fn shown([major, minor]: [u64; 2]) -> String {
    [&*show::number(major), ".", &*show::number(minor)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(call: &str, release: &str, filtered: bool) -> String {
        let found = unknown(call, release.as_bytes(), filtered);
        let error = found.add_to(Error::call("call".into(), Errno::ENOSYS));
        error.why().join("; ")
    }

    #[test]
    fn a_kernel_is_too_old_only_for_a_call_that_came_later() {
        let old = "mount_setattr(2) came with Linux 5.12, and this is Linux 5.10";
        // Then a filter has nothing to do with it.
        assert_eq!(says("mount_setattr", "5.10.0-32-amd64", false), old);
        assert_eq!(says("mount_setattr", "5.10", true), old);
        assert_eq!(says("mount_setattr", "5.12.0", false), "");
        assert_eq!(says("openat2", "6.18.5+", false), "");
        assert_eq!(says("mkdirat", "4.4.0", false), "");
    }

    #[test]
    fn a_filter_is_certain_where_every_kernel_of_this_version_has_the_call() {
        let by = |call: &str| ["a seccomp filter of this process refuses ", call, "(2)"].concat();
        assert_eq!(says("openat2", "6.18.5", true), by("openat2"));
        assert_eq!(says("mkdirat", "", true), by("mkdirat"));
        let or = "perhaps a seccomp filter of this process refuses openat2(2), or this kernel is older than Linux 5.6";
        assert_eq!(says("openat2", "", true), or);
        let or = ", or this kernel was built without signalfd4(2)";
        let or = ["perhaps ", &by("signalfd4"), or].concat();
        assert_eq!(says("signalfd4", "6.18.5", true), or);
        assert_eq!(
            says("signalfd4", "6.18.5", false),
            "perhaps this kernel was built without signalfd4(2)"
        );
    }
}
