//! The cgroup that a name stands for: a directory in each hierarchy that has it.

use std::ffi::{CStr, CString};

use syscalls::Errno;

use crate::cgroup::file;
use crate::cgroup::hierarchies::Hierarchy;
use crate::say::error::Error;
use crate::say::show::plain;
use crate::say::text;
use crate::sys::Cx;

/// The name of a cgroup from what the user typed. A path of the file system, below the mount point of
/// a hierarchy, is understood as what it means there; another below `/sys/fs/cgroup` is refused, and
/// so is what does not name one cgroup: `/`, and a part that is empty, `.` or `..`.
pub fn name(hierarchies: &[Hierarchy], typed: &CStr) -> Result<Vec<u8>, Error> {
    let shown = plain(typed.to_bytes());
    let typed = typed.to_bytes();
    let typed = typed.strip_suffix(b"/").unwrap_or(typed);
    let below = |point: &[u8]| {
        typed.strip_prefix(point).filter(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    // One mount point may lie below another.
    let nearest = hierarchies.iter().filter_map(|h| below(h.point)).min_by_key(|rest| rest.len());
    let part = hierarchies.iter().find(|h| h.others.iter().any(|p| below(p).is_some()));
    let name = match (nearest, part) {
        (Some(name), _) => name,
        (None, Some(h)) => {
            let point = plain(h.point);
            return Err(Error::refusal(format_args!(
                "{shown}: this is a second mount of its hierarchy"
            ))
            .way_out(format_args!(
                "name the cgroup from the first mount point, {point}: /td/NAME"
            )));
        }
        (None, None) if below(b"/sys/fs/cgroup").is_some() => {
            return Err(Error::refusal(format_args!(
                "{shown}: no cgroup hierarchy is mounted there"
            ))
            .way_out("name a cgroup from the root of its hierarchy: /td/NAME"));
        }
        (None, None) => typed,
    };
    let mut parts = text::split(name.strip_prefix(b"/").unwrap_or(name), b'/');
    if parts.any(|part| matches!(part, b"" | b"." | b"..")) {
        return Err(Error::refusal(format_args!(
            "{shown}: not the name of a cgroup below the root"
        )));
    }
    Ok(name.to_vec())
}

/// No hierarchy has the cgroup that the user typed.
pub fn none(typed: &CStr) -> Error {
    let typed = plain(typed.to_bytes());
    Error::refusal(format_args!("{typed}: no hierarchy has this cgroup"))
        .way_out(format_args!("create it: td-cgroup {typed}"))
}

/// A cgroup that is there, in one of the hierarchies.
pub struct ExistingCgroup<'a> {
    /// That hierarchy.
    pub hierarchy: &'a Hierarchy,
    /// Its directory there.
    pub directory: CString,
}

/// The cgroup `name` in each hierarchy that has it, version 2 first.
pub fn find<'a>(
    cx: &Cx,
    hierarchies: &'a [Hierarchy],
    name: &[u8],
) -> Result<Vec<ExistingCgroup<'a>>, Error> {
    let mut places = Vec::new();
    for hierarchy in hierarchies {
        if let Some(directory) = hierarchy.directory(name) {
            add(cx, &mut places, hierarchy, directory)?;
        }
    }
    Ok(places)
}

/// Add a cgroup, if it exists.
pub fn add<'a>(
    cx: &Cx,
    places: &mut Vec<ExistingCgroup<'a>>,
    hierarchy: &'a Hierarchy,
    directory: CString,
) -> Result<(), Error> {
    match file::check_directory(cx, &directory) {
        Err(e) if e.is(Errno::ENOENT) => return Ok(()), // not a cgroup of this hierarchy
        other => other?,
    }
    let end = if hierarchy.v2 { 0 } else { places.len() };
    places.insert(end, ExistingCgroup { hierarchy, directory });
    Ok(())
}

/// Their directories.
pub fn directories(places: &[ExistingCgroup]) -> Vec<CString> {
    places.iter().map(|place| place.directory.clone()).collect()
}

/// Where the cgroup that was typed exists; at least one hierarchy must have it.
pub fn existing<'a>(
    cx: &Cx,
    hierarchies: &'a [Hierarchy],
    typed: &CStr,
) -> Result<Vec<ExistingCgroup<'a>>, Error> {
    let places = find(cx, hierarchies, &name(hierarchies, typed)?)?;
    if places.is_empty() { Err(none(typed)) } else { Ok(places) }
}

/// Refuse cgroups that contain this process: it could not wait for the end, or undo anything.
pub fn refuse_own(places: &[ExistingCgroup]) -> Result<(), Error> {
    for ExistingCgroup { hierarchy, directory } in places {
        let own = hierarchy.directory(b"").unwrap_or_default();
        let below = own.to_bytes().strip_prefix(directory.to_bytes());
        if below.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")) {
            let directory = plain(directory.to_bytes());
            return Err(Error::refusal(format_args!(
                "{directory}: this process is in that cgroup or below it"
            ))
            .way_out("run td-cgroup from outside it"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::hierarchies::tests::machine;

    #[test]
    fn a_path_of_the_file_system_is_understood_or_refused_and_never_nested() {
        let (v2, hybrid) = (machine!("v2"), machine!("hybrid"));
        let understood = |machine: &[Hierarchy], typed| name(machine, typed).ok();
        for typed in [c"/td/x", c"/td/x/", c"/sys/fs/cgroup/td/x"] {
            assert_eq!(understood(&v2, typed).as_deref(), Some(&b"/td/x"[..]), "{typed:?}");
        }
        for typed in [c"/sys/fs/cgroup/pids/td/x", c"/sys/fs/cgroup/unified/td/x"] {
            assert_eq!(understood(&hybrid, typed).as_deref(), Some(&b"/td/x"[..]), "{typed:?}");
        }
        for typed in [
            c"/sys/fs/cgroup",
            c"/sys/fs/cgroup/",
            c"/sys/fs/cgroup/td/x",
            c"/sys/fs/cgroup/pids",
            c"/mnt/pids/x",
            c"",
            c"/",
            c"a//b",
            c"./a",
            c"/a/../b",
        ] {
            assert_eq!(understood(&hybrid, typed), None, "{typed:?}");
        }
        assert_eq!(understood(&v2, c"/sys/fs/cgroup"), None);
        // Only a whole part of a path counts.
        assert_eq!(understood(&v2, c"/sys/fs/cgroups").as_deref(), Some(&b"/sys/fs/cgroups"[..]));
    }
}
