//! The maps of a user namespace: which ids it has, which process writes them, and why that fails: user_namespaces(7).
//!
//! A process may map only its own id by itself, after it has given up setgroups(2). Any other map needs a right in the
//! parent namespace: the waiting parent writes the map, or newuidmap(1) writes it for a user to whom root has given ids
//! in subuid(5). [`IdMaps::write_own`] writes the `deny` into `/proc/self/setgroups`, in the new namespace.

use std::ffi::CString;

use crate::cli::Cli;
use crate::ids::caps::CAP_SETUID;
use crate::ids::id_maps::kind::{GROUPS, Kind, USERS};
use crate::ids::id_maps::range::{END, Range};
use crate::ids::id_maps::subordinate::{Subordinate, fill};
use crate::ids::user_namespace;
use crate::say::error::{Error, NOT_FOUND};
use crate::say::show::{self, plain};
use crate::sys::proc::{self, number};
use crate::sys::{self, Cx};

mod kind;
mod range;
mod subordinate;

/// What the command line asks for.
#[derive(Default)]
pub struct Asked {
    users: AskedMap,
    groups: AskedMap,
    /// Is setgroups(2) to be allowed?
    setgroups: Option<bool>,
}

#[derive(Default)]
struct AskedMap {
    /// What the caller's own id is inside.
    own: Option<Own>,
    ranges: Vec<Range>,
    /// Also all subordinate ids of the caller.
    auto: bool,
}

#[derive(Clone, Copy)]
enum Own {
    Is(u64),
    Same,
}

impl Asked {
    /// Read one of the options about ids.
    pub fn option(&mut self, cli: &mut Cli, option: &str) -> Result<(), Error> {
        let Asked { users, groups, setgroups } = self;
        match option {
            "-r" | "--map-root-user" => [users.own, groups.own] = [Some(Own::Is(0)); 2],
            "-c" | "--map-current-user" => [users.own, groups.own] = [Some(Own::Same); 2],
            "--setgroups" => {
                let word = cli.word()?;
                *setgroups = match &*word {
                    "allow" => Some(true),
                    "deny" => Some(false),
                    _ => {
                        return Err(
                            cli.usage(format_args!("--setgroups {word}: must be allow or deny"))
                        );
                    }
                };
            }
            "--map-user" => users.own = Some(id(cli)?),
            "--map-group" => groups.own = Some(id(cli)?),
            "--map-users" => users.add(cli, option)?,
            _ => groups.add(cli, option)?,
        }
        Ok(())
    }
}

impl AskedMap {
    fn add(&mut self, cli: &mut Cli, option: &str) -> Result<(), Error> {
        let word = cli.word()?;
        match Range::parse(word.as_bytes()) {
            Some(range) => self.ranges.push(range),
            None if *word == *"auto" => self.auto = true,
            None => {
                let form =
                    ": must be IN:OUT:COUNT with COUNT above 0 and ids below 4294967295, or auto";
                return Err(cli.usage(format_args!("{option} {word}{form}")));
            }
        }
        Ok(())
    }
}

fn id(cli: &mut Cli) -> Result<Own, Error> {
    let word = cli.word()?;
    let id = number(word.as_bytes()).filter(|id| *id < END);
    id.map(Own::Is).ok_or_else(|| cli.usage(format_args!("{word}: not an id")))
}

/// One map.
pub struct Map {
    kind: &'static Kind,
    /// The caller's own id.
    own: u64,
    ranges: Vec<Range>,
    /// Does the process write it itself?
    by_itself: bool,
}

/// Both maps, and whether setgroups(2) is given up.
pub struct IdMaps {
    users: Map,
    groups: Map,
    deny_setgroups: bool,
}

impl IdMaps {
    /// Lay the maps out.
    pub fn new(cx: &Cx, asked: &Asked) -> Result<IdMaps, Error> {
        let setgroups = asked.setgroups;
        let users = Map::new(cx, &USERS, &asked.users, cx.start.euid)?;
        let mut groups = Map::new(cx, &GROUPS, &asked.groups, cx.start.egid)?;
        // A process that keeps setgroups(2) may not map a group itself: it could leave a group in order to evade a
        // restriction.
        groups.by_itself &= setgroups != Some(true) || groups.ranges.is_empty();
        let deny_setgroups = !setgroups.unwrap_or(!groups.by_itself || groups.ranges.is_empty());
        Ok(IdMaps { users, groups, deny_setgroups })
    }

    /// Must the parent map ids?
    pub fn need_parent(&self) -> bool {
        !(self.users.by_itself && self.groups.by_itself)
    }

    /// Is the process root, once it has taken its ids?
    pub fn is_root(&self) -> bool {
        self.users.inside(self.users.own).unwrap_or(0) == 0 && self.users.has_0()
    }

    /// In the new namespace: what the process maps itself.
    pub fn write_own(&self, cx: &Cx) -> Result<(), Error> {
        if self.deny_setgroups {
            let path = c"/proc/self/setgroups";
            sys::write_file(cx, None, path, b"deny").map_err(|e| self.users.why(cx, e))?;
        }
        for map in [&self.users, &self.groups].into_iter().filter(|map| map.by_itself) {
            map.write(cx, "self")?;
        }
        Ok(())
    }

    /// What the parent maps.
    pub fn of_parent(&self) -> impl Iterator<Item = &Map> {
        [&self.users, &self.groups].into_iter().filter(|map| !map.by_itself)
    }

    /// Where our own ids are not mapped, become root. Returns whether an id has changed.
    ///
    /// This is the last action inside: afterwards our files in `/proc` belong to root until the next execve(2), see
    /// PR_SET_DUMPABLE(2const).
    pub fn take(&self, cx: &Cx) -> Result<bool, Error> {
        let group = self.groups.must_become_0();
        if group {
            if !self.deny_setgroups {
                sys::setgroups(cx, &[])?;
            }
            sys::setresgid(cx, 0)?;
        }
        let user = self.users.must_become_0();
        if user {
            sys::setresuid(cx, 0)?;
        }
        Ok(user || group)
    }
}

impl Map {
    fn new(cx: &Cx, kind: &'static Kind, asked: &AskedMap, own: u32) -> Result<Map, Error> {
        let own = own.into();
        let mut ranges = asked.ranges.clone();
        if let Some(inside) = asked.own {
            let inside = if let Own::Is(id) = inside { id } else { own };
            ranges.push(Range { inside, outside: own, count: 1 });
        }
        if asked.auto {
            let given = Subordinate::read(cx, kind)?;
            if given.ranges.is_empty() {
                let no_ids =
                    Error::refusal(format_args!("{} has no ids in {}", given.caller, given.file));
                return Err(given.add_line(no_ids));
            }
            fill(&mut ranges, &given.ranges);
        }
        let mut map = Map { kind, own, ranges, by_itself: false };
        map.by_itself = map.ranges.len() < 2 && map.ranges.iter().all(|range| map.is_own(range));
        Ok(map)
    }

    /// Is it the caller's own id?
    fn is_own(&self, range: &Range) -> bool {
        range.outside == self.own && range.count == 1
    }

    /// What an id outside is inside.
    fn inside(&self, id: u64) -> Option<u64> {
        let range = self.ranges.iter().find(|range| range.has_outside(id))?;
        Some(range.inside + (id - range.outside))
    }

    fn has_0(&self) -> bool {
        self.ranges.iter().any(|range| range.inside == 0)
    }

    fn must_become_0(&self) -> bool {
        self.inside(self.own).is_none() && self.has_0()
    }

    /// The map as the kernel takes it.
    fn text(&self) -> String {
        self.ranges.iter().map(|range| range.join(" ") + "\n").collect()
    }

    /// May this process write it, whoever is in it?
    pub fn is_free(&self, cx: &Cx) -> Result<bool, Error> {
        Ok(sys::capget(cx)?.effective() >> self.kind.cap & 1 == 1)
    }

    /// Write the map of a process: once, and in one write(2).
    pub fn write(&self, cx: &Cx, process: &str) -> Result<(), Error> {
        if self.ranges.is_empty() {
            return Ok(());
        }
        let path = proc::path(&["/proc/", process, "/", self.kind.map]);
        sys::write_file(cx, None, &path, self.text().as_bytes()).map_err(|e| self.why(cx, e))
    }

    /// The command line by which newuidmap(1) or newgidmap(1) writes it.
    pub fn command(&self, process: &str) -> Result<Vec<CString>, Error> {
        if self.ranges.iter().all(|range| self.is_own(range)) {
            let what = "setgroups(2) can stay allowed only if a privileged process maps the groups";
            return Err(Error::refusal(what)
                .way_out("map a range of groups, or leave out --setgroups allow"));
        }
        let mut args = vec![self.kind.program.to_owned()];
        // Each number is an argument of its own.
        let line = format!("{process} {}", self.text());
        args.extend(line.split_ascii_whitespace().map(|word| proc::path(&[word])));
        Ok(args)
    }

    /// Why that program, which has said something itself, ended with a status that is not 0.
    pub fn why_not_written(&self, cx: &Cx, status: u8) -> Error {
        let _looking = cx.looking();
        let program = plain(self.kind.program.to_bytes());
        let shown = show::number(status.into());
        let error = Error::refusal(format_args!("{program}: exit status {shown}"));
        if status == NOT_FOUND {
            return error
                .because(format_args!(
                    "{program}, which maps ranges of ids for a user, was not found"
                ))
                .way_out("root can install it: the package is uidmap, shadow or shadow-utils");
        }
        if proc::status(cx, b"NoNewPrivs:\t").is_some_and(|set| set == b"1") {
            let what = [&*program, " gains no privileges, because no_new_privs is set"];
            return error.because(what.concat());
        }
        let Ok(given) = Subordinate::read(cx, self.kind) else { return error };
        let may = |range: &&Range| {
            self.is_own(range) || given.ranges.iter().any(|given| given.has_all_of(range))
        };
        match self.ranges.iter().find(|range| !may(range)) {
            None => self.why(cx, error),
            Some(range) => {
                let ids = range.shown();
                let error = error.because(format_args!(
                    "{} does not give {} the ids {ids}",
                    given.file, given.caller
                ));
                given.add_line(error)
            }
        }
    }

    /// Why the kernel took no map.
    fn why(&self, cx: &Cx, error: Error) -> Error {
        let _looking = cx.looking();
        const LINES: usize = 340; // UID_GID_MAP_MAX_EXTENTS of linux/user_namespace.h
        const BYTES: usize = 4095; // kernel/user_namespace.c
        for (i, range) in self.ranges.iter().enumerate() {
            if let Some(other) = self.ranges.iter().skip(i + 1).find(|other| range.overlaps(other))
            {
                let both = format!("{} and {}", range.join(":"), other.join(":"));
                return error.because(format_args!("an id is in both {both}"));
            }
        }
        if self.ranges.len() > LINES || self.text().len() > BYTES {
            return error.because("a map has at most 340 lines and 4095 bytes");
        }
        let here = proc::path(&["/proc/self/", self.kind.map]);
        let here = sys::read_file(cx, None, &here).unwrap_or_default();
        let mapped = |id: u64| user_namespace::is_mapped(&here, id as u32);
        let all = |range: &&Range| mapped(range.outside) && mapped(range.outside + range.count - 1);
        match self.ranges.iter().find(|range| !all(range)) {
            Some(range) if !self.by_itself && !here.is_empty() => {
                let ids = range.shown();
                error.because(format_args!("not all ids {ids} are mapped in this user namespace"))
            }
            _ => {
                let maps_root = self.kind.cap == CAP_SETUID && self.inside(0).is_some();
                user_namespace::why_not_mapped(cx, maps_root, error)
            }
        }
    }
}
