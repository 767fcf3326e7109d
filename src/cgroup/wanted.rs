//! The settings that the options ask for, and the hierarchies in which they are written.

use std::ffi::CString;

use syscalls::Errno;

use crate::cgroup::amount::Amount;
use crate::cgroup::device_limits::{DeviceLimit, device_of};
use crate::cgroup::file::why_refused;
use crate::cgroup::hierarchies::{self, Hierarchy};
use crate::cgroup::limits::{LIMITS, Limit};
use crate::cgroup::value::{FileValue, Value};
use crate::cgroup::why_not_made;
use crate::cli::Cli;
use crate::say::error::Error;
use crate::say::show::plain;
use crate::say::text;
use crate::sys::structs::Statx;
use crate::sys::{self, Cx, cstring};

/// What is asked of a cgroup.
#[derive(Default)]
pub struct Wanted {
    /// Limits of `LIMITS`, in its order.
    pub limits: Vec<(&'static Limit, Amount)>,
    /// Those of which there may be several.
    pub devices: Vec<DeviceLimit>,
    /// Files that are written as they are.
    set: Vec<(CString, CString)>,
    /// Is the cgroup given to a user, who may ask for limits below it?
    pub delegated: bool,
    /// Is what it uses to be counted on version 2?
    pub count: bool,
}

/// Where the cgroup is created: a hierarchy, and its name there.
pub type Used<'a> = (&'a Hierarchy, Vec<u8>);

impl Wanted {
    /// Is nothing asked?
    pub fn is_empty(&self) -> bool {
        let none = self.limits.is_empty() && self.devices.is_empty();
        none && self.set.is_empty() && !self.delegated && !self.count
    }

    /// What was typed for each of `LIMITS`. Values are checked before anything is made.
    pub fn add_limits(&mut self, cli: &Cli, typed: &[Option<String>]) -> Result<(), Error> {
        for (limit, typed) in LIMITS.iter().zip(typed) {
            let Some(typed) = typed else { continue };
            let (option, mut before) = (limit.asked.option, self.limits.iter());
            let memory = before.find(|(limit, _)| limit.asked.option == "--memory");
            if option == "--memory-swap" && memory.is_none() {
                return Err(cli.usage("--memory-swap needs --memory"));
            }
            let amount = (limit.parse)(typed, memory.map(|(_, amount)| amount));
            let amount = amount.ok_or_else(|| refused(cli, option, typed, limit.asked.accepts))?;
            self.limits.push((limit, amount));
        }
        Ok(())
    }

    /// The limit of a device or of a size of pages.
    pub fn add_device(&mut self, cli: &Cli, option: &str, typed: &str) -> Result<(), Error> {
        let limit = DeviceLimit::parse(option, typed);
        self.devices.push(limit.map_err(|asked| refused(cli, option, typed, asked.accepts))?);
        Ok(())
    }

    /// The value of `--set`, FILE=VALUE.
    pub fn add_file(&mut self, cli: &mut Cli) -> Result<(), Error> {
        let both = cli.path()?;
        // The kernel takes an empty write for none.
        let pair = text::pair(both.to_bytes(), b'=').filter(|(_, value)| !value.is_empty());
        let Some((file, value)) = pair else {
            let both = plain(both.to_bytes());
            return Err(cli.usage(format_args!("--set {both}: must be FILE=VALUE")));
        };
        let controller = text::pair(file, b'.').unwrap_or_default().0;
        if controller.is_empty() || file.contains(&b'/') {
            let file = plain(file);
            return Err(cli.usage(format_args!("--set {file}: must be CONTROLLER.NAME=VALUE")));
        }
        self.set.push((cstring(file), cstring(value)));
        Ok(())
    }

    /// What is written, and in which hierarchy.
    pub fn writes<'a>(
        &'a self,
        cx: &Cx,
        hierarchies: &'a [Hierarchy],
    ) -> Result<Vec<FileValue<'a>>, Error> {
        let of = |controller: &[u8]| {
            let hierarchy = hierarchies::of_controller(hierarchies, controller);
            hierarchy.ok_or_else(|| why_not_made::why_nowhere(cx, controller))
        };
        let mut writes = Vec::new();
        for (limit, amount) in &self.limits {
            let hierarchy = of(limit.controller.as_bytes())?;
            if limit.files(hierarchy.v2).is_empty() {
                return Err(not_on_v1(limit));
            }
            limit.writes(amount, hierarchy, &mut writes);
        }
        for limit in &self.devices {
            limit.writes(cx, of(limit.controller())?, &mut writes)?;
        }
        for (file, value) in &self.set {
            let (file, text) = (file.to_bytes(), value.to_bytes());
            let controller = text::pair(file, b'.').unwrap_or_default().0;
            let hierarchy = of(controller)?;
            let of_device = matches!(controller, b"io" | b"blkio");
            let device = of_device.then(|| device_of(text).to_vec());
            let (value, asked, taken) = (Value::Text(text.into()), None, &b""[..]);
            writes.push(FileValue { hierarchy, controller, file, value, device, asked, taken });
        }
        Ok(writes)
    }

    /// Is a limit asked in this hierarchy, or may it be asked below?
    fn asks(&self, hierarchy: &Hierarchy, writes: &[FileValue]) -> bool {
        writes.iter().any(|write| write.hierarchy.is(hierarchy))
            || self.delegated && hierarchy.is_delegated()
    }

    /// The hierarchies in which the cgroup is made, or a cgroup `in_every` one: see [`Where`]; the primary one is that
    /// of version 2. If the caller may not create one there, a process of it has no more rights than the caller, in any
    /// namespace: the hierarchy is left out.
    pub fn used<'a>(
        &self,
        cx: &Cx,
        hierarchies: &'a [Hierarchy],
        name: &[u8],
        writes: &[FileValue],
        in_every: bool,
    ) -> Result<Vec<Used<'a>>, Error> {
        let primary = hierarchies::primary(hierarchies);
        let is_asked = hierarchies.iter().any(|hierarchy| self.asks(hierarchy, writes));
        let mut used = Vec::new();
        for hierarchy in hierarchies {
            let asked = self.asks(hierarchy, writes);
            let needed = match in_every {
                true => self.count && hierarchy.v2,
                false => primary.is_some_and(|primary| primary.is(hierarchy)),
            };
            let others_suffice = || is_asked && cannot_enter(cx, hierarchy, name);
            let may_create = || if in_every { may_create(cx, hierarchy) } else { Ok(false) };
            let place = Where::of(asked, needed, others_suffice, may_create)?;
            used.extend(place.name(name).map(|name| (hierarchy, name)));
        }
        Ok(used)
    }
}

/// Where a cgroup is made in a hierarchy.
///
/// | a limit is asked there, or may be asked below | it is needed there: primary, or `--count` on version 2 | others suffice | made in every hierarchy | where |
/// |---|---|---|---|---|
/// | yes | | | | as it is named |
/// | no | yes | no | | as it is named |
/// | no | yes | yes | no | nowhere |
/// | no | no | | no | nowhere |
/// | no | yes | yes | yes | below the caller's, if the caller may create one; else nowhere |
/// | no | no | | yes | below the caller's, if the caller may create one; else nowhere |
///
/// Others suffice: an ordinary user enters a cgroup of version 2 only from one that is delegated too. Where nothing is
/// limited there, those of version 1 do.
#[derive(Debug, PartialEq)]
enum Where {
    Named,
    /// With the last component of its name, so that the limits of the caller apply to it too.
    BelowCallers,
    Nowhere,
}

impl Where {
    /// Both questions are asked only where the answer matters.
    fn of(
        asked: bool,
        needed: bool,
        others_suffice: impl FnOnce() -> bool,
        may_create: impl FnOnce() -> Result<bool, Error>,
    ) -> Result<Where, Error> {
        if asked || needed && !others_suffice() {
            return Ok(Where::Named);
        }
        Ok(if may_create()? { Where::BelowCallers } else { Where::Nowhere })
    }

    /// The name there of the cgroup `name`.
    fn name(&self, name: &[u8]) -> Option<Vec<u8>> {
        match self {
            Where::Named => Some(name.to_vec()),
            Where::BelowCallers => Some(text::split_name(name).1.to_vec()),
            Where::Nowhere => None,
        }
    }
}

/// May this process create a cgroup below its own, and move there?
fn may_create(cx: &Cx, hierarchy: &Hierarchy) -> Result<bool, Error> {
    if hierarchy.is_assumed(cx) {
        return Ok(true);
    }
    let Some(own) = hierarchy.directory(b"") else { return Ok(false) };
    match sys::faccessat2(cx, None, &own, libc::W_OK) {
        Err(e) if e.is(Errno::EACCES) => return Ok(false),
        // A policy, or a kernel without the call, does not say.
        Err(e) if e.is(Errno::ENOSYS) || e.is(Errno::EPERM) => {
            if !looks_writable(cx, &sys::statx(cx, None, &own, 0)?) {
                return Ok(false);
            }
        }
        other => other.map_err(|e| why_refused(cx, &own, e).way_out(hierarchies::DISABLED))?,
    }
    Ok(!cannot_enter(cx, hierarchy, b""))
}

/// May this process write to it, as far as owner and mode tell?
fn looks_writable(cx: &Cx, stat: &Statx) -> bool {
    let bit = match cx.start.euid {
        0 => return true,
        uid if uid == stat.uid => 0o200,
        _ if cx.start.egid == stat.gid => 0o020,
        _ => 0o002,
    };
    stat.permissions() & bit != 0
}

fn refused(cli: &Cli, option: &str, typed: &str, accepts: &str) -> Error {
    cli.usage(format_args!("{option} {}: must be {accepts}", plain(typed.as_bytes())))
}

/// A limit that only version 2 has.
fn not_on_v1(limit: &Limit) -> Error {
    let (option, controller) = (limit.asked.option, limit.controller);
    let error = Error::refusal(format_args!(
        "{option}: {controller} is on version 1 here, which has no such limit"
    ));
    if limit.asked.option == "--cpu-weight" {
        return error.way_out("use shares instead: --cpu-shares N");
    }
    error
}

fn cannot_enter(cx: &Cx, hierarchy: &Hierarchy, name: &[u8]) -> bool {
    let refused = |e: Error| e.is(Errno::EACCES);
    let procs = hierarchy.common_procs(name);
    hierarchy.v2 && sys::faccessat2(cx, None, &procs, libc::W_OK).is_err_and(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_made_as_named_below_the_callers_or_nowhere() {
        use Where::{BelowCallers, Named, Nowhere};
        for (asked, needed, others_suffice, may_create, place) in [
            (true, false, true, false, Named),
            (true, true, true, true, Named),
            (false, true, false, true, Named),
            (false, true, true, false, Nowhere),
            (false, false, false, false, Nowhere),
            (false, true, true, true, BelowCallers),
            (false, false, false, true, BelowCallers),
        ] {
            let found = Where::of(asked, needed, || others_suffice, || Ok(may_create));
            assert_eq!(found.ok(), Some(place), "{asked} {needed} {others_suffice} {may_create}");
        }
        assert_eq!(Named.name(b"/td/x").as_deref(), Some(&b"/td/x"[..]));
        assert_eq!(BelowCallers.name(b"/td/x").as_deref(), Some(&b"x"[..]));
        assert_eq!(Nowhere.name(b"/td/x"), None);
    }
}
