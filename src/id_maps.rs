//! The maps of a user namespace: which ids it has, who writes that down, and why not: user_namespaces(7).
//!
//! Their own id, and that alone, a process may map itself, once it has given up setgroups(2). All else takes
//! a right in the parent namespace: the waiting parent writes the map, or newuidmap(1) does it for a user to
//! whom root has given ids in subuid(5).

use std::ffi::CStr;

use syscalls::Errno;

use crate::caps::{CAP_SETGID, CAP_SETUID};
use crate::chain::Prog;
use crate::child::{self, Line, Side};
use crate::cli::Cli;
use crate::error::{Error, NOT_FOUND};
use crate::namespaces::{self, number};
use crate::show::{self, plain, unsigned};
use crate::sys::{self, Cx};
use crate::text::{lines, split};
use crate::users;

/// What is no id any more: `(uid_t)-1`.
const END: u64 = u32::MAX as u64;

/// Consecutive ids: a line of uid_map.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Range {
    inside: u64,
    outside: u64,
    count: u64,
}

impl Range {
    /// `IN:OUT:COUNT`, of one id at least.
    fn parse(text: &[u8]) -> Option<Range> {
        let mut numbers = split(text, b':').map(number);
        let mut next = || numbers.next().flatten();
        let range = Range { inside: next()?, outside: next()?, count: next()? };
        let end = range.inside.max(range.outside).checked_add(range.count)?;
        (range.count > 0 && end <= END && numbers.next().is_none()).then_some(range)
    }

    fn overlaps(&self, other: &Range) -> bool {
        let meet = |a: u64, b: u64| a < b + other.count && b < a + self.count;
        meet(self.inside, other.inside) || meet(self.outside, other.outside)
    }

    fn has_outside(&self, id: u64) -> bool {
        id >= self.outside && id - self.outside < self.count
    }

    /// Of the ids outside.
    fn has_all_of(&self, other: &Range) -> bool {
        self.has_outside(other.outside) && self.has_outside(other.outside + other.count - 1)
    }

    /// The ids outside, in words.
    fn shown(&self) -> String {
        let last = show::number(self.outside + self.count - 1);
        format!("{} to {last}", show::number(self.outside))
    }

    fn join(&self, separator: &str) -> String {
        let mut text = String::new();
        unsigned("", self.inside, &mut text);
        unsigned(separator, self.outside, &mut text);
        unsigned(separator, self.count, &mut text);
        text
    }
}

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
            "--setgroups" => match cli.word()?.as_str() {
                "allow" => *setgroups = Some(true),
                "deny" => *setgroups = Some(false),
                odd => return Err(cli.usage(format_args!("--setgroups {odd}: allow, deny"))),
            },
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
            None if word == "auto" => self.auto = true,
            None => {
                let form = ": IN:OUT:COUNT, ids below 4294967295, one at least; or auto";
                return Err(cli.usage(format_args!("{option} {word}{form}")));
            }
        }
        Ok(())
    }
}

fn id(cli: &mut Cli) -> Result<Own, Error> {
    let word = cli.word()?;
    let id = number(word.as_bytes()).filter(|id| *id < END);
    id.map(Own::Is).ok_or_else(|| cli.usage(format_args!("{word}: this is no id")))
}

/// What differs between users and groups.
struct Kind {
    map: &'static str,
    /// Who has which ids beside his own.
    subordinate: &'static CStr,
    /// The program that maps them for him.
    program: &'static CStr,
    /// Who has it maps what he likes.
    cap: u64,
}

const USERS: Kind =
    Kind { map: "uid_map", subordinate: c"/etc/subuid", program: c"newuidmap", cap: CAP_SETUID };

const GROUPS: Kind =
    Kind { map: "gid_map", subordinate: c"/etc/subgid", program: c"newgidmap", cap: CAP_SETGID };

/// One map.
struct Map {
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
        // Who keeps setgroups(2) may map no group himself: he could leave one that is denied something.
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

    /// In the parent: what it maps for its child, as soon as that is in its cgroups.
    pub fn write_for(&self, cx: &Cx, child: i32) -> Result<(), Error> {
        let child = show::number(child as u64);
        for map in [&self.users, &self.groups].into_iter().filter(|map| !map.by_itself) {
            if sys::capget(cx)?.effective() >> map.kind.cap & 1 == 1 {
                map.write(cx, &child)?;
            } else {
                map.have_written(cx, &child)?;
            }
        }
        Ok(())
    }

    /// Where our own ids are not mapped, become root. Returns whether an id has changed.
    ///
    /// This is the last that is done inside: afterwards our files in `/proc` are not ours until the next
    /// execve(2), see PR_SET_DUMPABLE(2const).
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

/// Something that removes a path.
pub type Remove = fn(&Cx, &CStr) -> Result<(), Error>;

impl IdMaps {
    /// Do `remove` as the caller; where that is refused (another of the mapped ids owns it, or its mode forbids
    /// it), in a user namespace with these maps, whose root may.
    pub fn remove(&self, cx: &Cx, path: &CStr, remove: Remove) -> Result<(), Error> {
        match remove(cx, path) {
            Err(e) if e.is(Errno::EACCES) || e.is(Errno::EPERM) => {}
            other => return other,
        }
        if cx.dry() {
            return Ok(()); // there it would go well
        }
        let line = Line::new(cx)?;
        let part = Box::new(|side| match side {
            Side::Child => {
                self.write_own(cx)?;
                line.call(cx)?;
                remove(cx, path)
            }
            Side::Parent(child) => line.answer(cx, || self.write_for(cx, child)).map(drop),
        });
        match child::help(cx, libc::CLONE_NEWUSER as u64, part)? {
            0 => Ok(()),
            _ => Err(Error::refusal(format_args!("{} is not removed", plain(path.to_bytes())))),
        }
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

    /// Write the map of a process: once, and in one write(2).
    fn write(&self, cx: &Cx, process: &str) -> Result<(), Error> {
        if self.ranges.is_empty() {
            return Ok(());
        }
        let path = namespaces::path(&["/proc/", process, "/", self.kind.map]);
        sys::write_file(cx, None, &path, self.text().as_bytes()).map_err(|e| self.why(cx, e))
    }

    /// Have newuidmap(1) or newgidmap(1) write it.
    fn have_written(&self, cx: &Cx, process: &str) -> Result<(), Error> {
        if self.ranges.iter().all(|range| self.is_own(range)) {
            let what = "setgroups(2) stays allowed only where a privileged process maps the groups";
            return Err(Error::refusal(what).way_out("map a range of groups, or leave this out"));
        }
        let program = self.kind.program;
        let mut args = vec![program.to_owned()];
        // Each number is an argument of its own.
        let line = format!("{process} {}", self.text());
        args.extend(line.split_ascii_whitespace().map(|word| namespaces::path(&[word])));
        let Some(prog) = Prog::new(args) else { return Ok(()) };
        let part = Box::new(|side| match side {
            Side::Child => prog.find(cx)?.exec(cx).map(|never| match never {}),
            Side::Parent(_) => Ok(()),
        });
        let status = child::help(cx, 0, part)?;
        if status == 0 {
            return Ok(());
        }
        let program = plain(program.to_bytes());
        let shown = show::number(status.into());
        let error = Error::refusal(format_args!("{program}: exit status {shown}"));
        Err(self.why_not_written(cx, &program, status, error))
    }

    /// Why newuidmap(1), which has said something itself, refused.
    fn why_not_written(&self, cx: &Cx, program: &str, status: u8, error: Error) -> Error {
        if status == NOT_FOUND {
            return error
                .because(format_args!("{program} maps ranges of ids for a user, and is not there"))
                .way_out("root installs it: its package is uidmap, shadow or shadow-utils");
        }
        if namespaces::status(cx, b"NoNewPrivs:\t").is_some_and(|set| set == b"1") {
            let what = [program, " gains no privilege, as no_new_privs is set for this process"];
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
                let error = error
                    .because(format_args!("{} gives {} no ids {ids}", given.file, given.caller));
                given.add_line(error)
            }
        }
    }

    /// Why the kernel took no map.
    fn why(&self, cx: &Cx, error: Error) -> Error {
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
            return error.because("a map has 340 lines and 4095 bytes at most");
        }
        let here = namespaces::path(&["/proc/self/", self.kind.map]);
        let here = sys::read_file(cx, None, &here).unwrap_or_default();
        let mapped = |id: u64| users::is_mapped(&here, id as u32);
        let all = |range: &&Range| mapped(range.outside) && mapped(range.outside + range.count - 1);
        match self.ranges.iter().find(|range| !all(range)) {
            Some(range) if !self.by_itself && !here.is_empty() => {
                let ids = range.shown();
                error.because(format_args!("this user namespace does not have all ids {ids}"))
            }
            _ => {
                let maps_root = self.kind.cap == CAP_SETUID && self.inside(0).is_some();
                namespaces::why_not_mapped(cx, maps_root, error)
            }
        }
    }
}

/// What root has given the caller: subuid(5), subgid(5).
struct Subordinate {
    /// The file that says so.
    file: String,
    /// The caller's name, or number.
    caller: String,
    /// They are nowhere inside yet.
    ranges: Vec<Range>,
    /// The first id that has been given to nobody.
    free: u64,
}

impl Subordinate {
    fn read(cx: &Cx, kind: &Kind) -> Result<Subordinate, Error> {
        let text = match sys::read_file(cx, None, kind.subordinate) {
            Err(e) if e.is(Errno::ENOENT) => Vec::new(), // then nobody has been given any
            other => other?,
        };
        // A user whom this file does not have is known by his number.
        let passwd = sys::read_file(cx, None, c"/etc/passwd").unwrap_or_default();
        let number = show::number(cx.start.euid.into());
        let name = lines(&passwd).find_map(|line| {
            let mut fields = split(line, b':');
            let name = fields.next()?;
            (fields.nth(1)? == number.as_bytes()).then_some(name)
        });
        let name = name.unwrap_or(number.as_bytes());
        let (ranges, free) = given(&text, [name, number.as_bytes()]);
        let file = plain(kind.subordinate.to_bytes());
        Ok(Subordinate { file, caller: plain(name), ranges, free })
    }

    fn add_line(&self, error: Error) -> Error {
        let Subordinate { file, caller, free, .. } = self;
        let free = show::number(*free);
        error.way_out(format_args!("root can add a line to {file}: {caller}:{free}:65536"))
    }
}

/// The ranges of one of these owners, and the first id that nobody has been given.
fn given(text: &[u8], owners: [&[u8]; 2]) -> (Vec<Range>, u64) {
    let (mut ranges, mut free) = (Vec::new(), 100_000); // SUB_UID_MIN of login.defs(5)
    for line in lines(text) {
        let (owner, ids) = line.split_at(line.iter().position(|b| *b == b':').unwrap_or(0));
        // In the form of a map they would be nowhere inside yet.
        let Some(range) = Range::parse(&[b"0", ids].concat()) else { continue };
        free = free.max(range.outside + range.count);
        if owners.contains(&owner) {
            ranges.push(range);
        }
    }
    (ranges, free)
}

/// Lay ids that are given over those inside that no range has yet, from 0 upwards.
fn fill(ranges: &mut Vec<Range>, given: &[Range]) {
    let mut inside = 0;
    for &Range { mut outside, mut count, .. } in given {
        while count > 0 && inside < END {
            let has =
                |range: &&Range| inside >= range.inside && inside - range.inside < range.count;
            if let Some(taken) = ranges.iter().find(has) {
                inside = taken.inside + taken.count;
                continue;
            }
            let above = ranges.iter().map(|range| range.inside).filter(|first| *first > inside);
            let n = count.min(above.min().unwrap_or(END) - inside);
            ranges.push(Range { inside, outside, count: n });
            (inside, outside, count) = (inside + n, outside + n, count - n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::ascii;

    fn range(inside: u64, outside: u64, count: u64) -> Range {
        Range { inside, outside, count }
    }

    #[test]
    fn a_range_is_three_numbers_and_none_of_its_ids_is_the_last() {
        assert_eq!(Range::parse(b"0:100000:65536"), Some(range(0, 100_000, 65536)));
        assert_eq!(Range::parse(b"4294967294:0:1"), Some(range(4_294_967_294, 0, 1)));
        let wrong: [&[u8]; 9] = [
            b"",
            b"0",
            b"0:1",
            b"0:1:",
            b"0:1:1:1",
            b"0:1:0",
            b"0:-1:1",
            b"4294967295:0:1",
            b"0:1:4294967295",
        ];
        for text in wrong {
            assert_eq!(Range::parse(text), None, "{}", ascii(text));
        }
    }

    #[test]
    fn ranges_overlap_where_they_have_an_id_in_common_inside_or_outside() {
        let own = range(10, 100, 10);
        for (other, expected) in [
            (range(20, 110, 5), false),
            (range(0, 90, 10), false),
            (range(19, 200, 1), true),
            (range(0, 109, 1), true),
            (range(0, 99, 2), true),
            (range(0, 0, 4_294_967_295), true),
        ] {
            assert_eq!(own.overlaps(&other), expected, "{other:?}");
            assert_eq!(other.overlaps(&own), expected, "{other:?}");
        }
    }

    #[test]
    fn given_ids_lie_around_those_that_are_mapped_already() {
        for (mapped, given, expected) in [
            (vec![], vec![range(0, 500, 10)], vec![range(0, 500, 10)]),
            (
                vec![range(0, 7, 1)],
                vec![range(0, 500, 10)],
                vec![range(0, 7, 1), range(1, 500, 10)],
            ),
            (
                vec![range(1000, 7, 1)],
                vec![range(0, 500, 3000)],
                vec![range(1000, 7, 1), range(0, 500, 1000), range(1001, 1500, 2000)],
            ),
            (
                vec![range(2, 7, 1), range(3, 8, 1)],
                vec![range(0, 500, 1), range(0, 900, 4)],
                vec![
                    range(2, 7, 1),
                    range(3, 8, 1),
                    range(0, 500, 1),
                    range(1, 900, 1),
                    range(4, 901, 3),
                ],
            ),
            (vec![range(0, 7, END)], vec![range(0, 500, 1)], vec![range(0, 7, END)]),
        ] {
            let mut ranges = mapped;
            fill(&mut ranges, &given);
            assert_eq!(ranges, expected);
        }
    }

    #[test]
    fn ids_are_given_by_name_or_number_and_the_next_line_takes_none_of_them() {
        let text = b"root:100000:65536\nalice:165536:65536\n1000:300000:10\nalice:5\nbob:x:1\n\
            alice:7:0\nalice:4294967295:1\n";
        let (ranges, free) = given(text, [b"alice", b"1000"]);
        assert_eq!(ranges, [range(0, 165_536, 65536), range(0, 300_000, 10)]);
        assert_eq!(free, 300_010);
        assert_eq!(given(b"", [b"alice", b"1000"]), (vec![], 100_000));
    }
}
