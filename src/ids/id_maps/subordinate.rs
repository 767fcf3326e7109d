//! The ids that root has given a user: subuid(5), subgid(5).

use syscalls::Errno;

use crate::ids::id_maps::kind::Kind;
use crate::ids::id_maps::range::{END, Range};
use crate::say::error::Error;
use crate::say::number::decimal;
use crate::say::show::{self, plain};
use crate::say::text::{lines, split};
use crate::sys::{self, Cx};

/// What root has given the caller: subuid(5), subgid(5).
pub struct Subordinate {
    /// The file that says so.
    pub file: String,
    /// The caller's name, or number.
    pub caller: String,
    /// They are nowhere inside yet.
    pub ranges: Vec<Range>,
    /// The first id that has been given to nobody.
    pub free: u64,
}

impl Subordinate {
    pub(super) fn read(cx: &Cx, kind: &Kind) -> Result<Subordinate, Error> {
        let text = match sys::read_file(cx, None, kind.subordinate) {
            Err(e) if e.is(Errno::ENOENT) => Vec::new(), // then nobody has been given any
            other => other?,
        };
        // A user whom this file does not have is known by his number.
        let passwd = match sys::read_file(cx, None, c"/etc/passwd") {
            Err(e) if e.is(Errno::ENOENT) => Vec::new(),
            other => other.map_err(|e| e.because("so the ranges of the caller are not known"))?,
        };
        let number = show::number(cx.start.euid.into());
        let name = lines(&passwd).find_map(|line| {
            let mut fields = split(line, b':');
            let name = fields.next()?;
            (fields.nth(1)? == number.as_bytes()).then_some(name)
        });
        // A name that is all digits is another user's number in that file.
        let name = name.filter(|name| decimal(name).is_none()).unwrap_or(number.as_bytes());
        let (ranges, free) = given(&text, [name, number.as_bytes()]);
        let file = plain(kind.subordinate.to_bytes());
        Ok(Subordinate { file, caller: plain(name), ranges, free })
    }

    pub fn add_line(&self, error: Error) -> Error {
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
pub fn fill(ranges: &mut Vec<Range>, given: &[Range]) {
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
    use crate::ids::id_maps::range::tests::range;

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
