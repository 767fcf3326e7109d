//! Capabilities: capabilities(7). A set of them is a number, bit n for capability n.

use syscalls::Errno;

use crate::say::error::Error;
use crate::say::flags;
use crate::say::show;
use crate::sys::structs::CapData;
use crate::sys::{self, Cx};

/// All of them, also those that td has no name for.
pub const ALL: u64 = u64::MAX;

// Their numbers: linux/capability.h.
pub const CAP_KILL: u64 = 5;
pub const CAP_SETGID: u64 = 6;
pub const CAP_SETUID: u64 = 7;
pub const CAP_SETPCAP: u64 = 8;
pub const CAP_NET_ADMIN: u64 = 12;
pub const CAP_SYS_CHROOT: u64 = 18;
pub const CAP_SYS_ADMIN: u64 = 21;
pub const CAP_SYS_BOOT: u64 = 22;
pub const CAP_SYS_RESOURCE: u64 = 24;
pub const CAP_SYS_TIME: u64 = 25;

/// `all`, `none`, or names with commas between them, with or without `cap_`, in either case. An error
/// is the name that is none.
pub fn parse(list: &str) -> Result<u64, &str> {
    match list {
        "all" => return Ok(ALL),
        "none" => return Ok(0),
        _ => {}
    }
    list.split(',').try_fold(0, |set, name| {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let is = |known: &str| known.strip_prefix("CAP_") == Some(bare);
        let (cap, _) = flags::CAPS.iter().find(|(_, known)| is(known)).ok_or(name)?;
        Ok(set | 1 << cap)
    })
}

/// Let no execve(2) bring back a capability that is not in `keep`, for good: the bounding set.
pub fn bound(cx: &Cx, keep: u64) -> Result<(), Error> {
    for cap in (0..64).filter(|cap| keep >> cap & 1 == 0) {
        // Those that td has no name for go too, as far as this kernel has more.
        if !flags::CAPS.values.contains(&(cap as u32)) {
            match sys::prctl_capbset_read(cx.expects(&[Errno::EINVAL]), cap) {
                Err(e) if e.is(Errno::EINVAL) => break,
                other => other?,
            };
        }
        sys::prctl_capbset_drop(cx, cap).map_err(|e| why(cx, CAP_SETPCAP, e))?;
    }
    Ok(())
}

/// Have the capabilities `set`, of those that are permitted, and no other. With `ambient` they outlast
/// the execve(2) of a user who is not root. Without, what such a user executes has none, and nobody's
/// inheritable set turns the capabilities of a file into permitted ones (CVE-2022-24769).
pub fn set(cx: &Cx, set: u64, ambient: bool) -> Result<(), Error> {
    // The kernel takes from the ambient set what is not inheritable any more.
    let inheritable = if ambient { set } else { 0 };
    sys::capset(cx, &CapData::new(set, set, inheritable))
        .map_err(|e| why_beyond(cx, set, "not permitted here", CapData::permitted, e))?;
    for cap in (0..64).filter(|cap| ambient && set >> cap & 1 == 1) {
        let usable = |own: &CapData| own.permitted() & own.inheritable();
        sys::prctl_cap_ambient_raise(cx, cap).map_err(|e| {
            why_beyond(cx, 1 << cap, "not both permitted and inheritable here", usable, e)
        })?;
    }
    Ok(())
}

/// Why `set` was refused: look whether all of it is in those of our own sets that it must be in.
fn why_beyond(cx: &Cx, set: u64, what: &str, of: fn(&CapData) -> u64, error: Error) -> Error {
    let _looking = cx.looking();
    let own = sys::capget(cx).map_or(ALL, |own| of(&own));
    let mut names = String::new();
    for cap in (0..64).filter(|cap| (set & !own) >> cap & 1 == 1) {
        names.push_str(if names.is_empty() { ": " } else { ", " });
        names.push_str(&shown(cap));
    }
    if names.is_empty() {
        return error;
    }
    error.because(format_args!("{what}{names}"))
}

fn shown(cap: u64) -> String {
    flags::name(flags::CAPS, cap)
        .map_or_else(|| format!("capability {}", show::number(cap)), String::from)
}

/// Why a call was refused that needs `cap`: look whether we have it.
pub fn why(cx: &Cx, cap: u64, error: Error) -> Error {
    let _looking = cx.looking();
    let lacks = |caps: CapData| caps.effective() >> cap & 1 == 0;
    match flags::name(flags::CAPS, cap) {
        Some(name) if error.is(Errno::EPERM) && sys::capget(cx).is_ok_and(lacks) => {
            error.because(format_args!("this process has no {name}"))
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_with_or_without_cap_in_either_case() {
        assert_eq!(parse("kill,CAP_CHOWN,cap_Checkpoint_Restore"), Ok(1 << 5 | 1 | 1 << 40));
        assert_eq!(parse("none"), Ok(0));
        assert_eq!(parse("all"), Ok(u64::MAX));
    }

    #[test]
    fn a_name_that_is_none_is_an_error() {
        assert_eq!(parse("kill,fly"), Err("fly"));
        assert_eq!(parse(""), Err(""));
        assert_eq!(parse("kill,"), Err(""));
        assert_eq!(parse("kill,all"), Err("all"));
        assert_eq!(parse("cap_cap_kill"), Err("cap_cap_kill"));
    }
}
