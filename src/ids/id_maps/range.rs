//! Ranges of ids: the lines of uid_map and of subuid(5).

use crate::say::show::{self, unsigned};
use crate::say::text::split;
use crate::sys::proc::number;

/// Not an id any more: `(uid_t)-1`.
pub const END: u64 = u32::MAX as u64;

/// Consecutive ids: a line of uid_map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    pub inside: u64,
    pub outside: u64,
    pub count: u64,
}

impl Range {
    /// `IN:OUT:COUNT`, of one id at least.
    pub fn parse(text: &[u8]) -> Option<Range> {
        let mut numbers = split(text, b':').map(number);
        let mut next = || numbers.next().flatten();
        let range = Range { inside: next()?, outside: next()?, count: next()? };
        let end = range.inside.max(range.outside).checked_add(range.count)?;
        (range.count > 0 && end <= END && numbers.next().is_none()).then_some(range)
    }

    /// Have they an id in common, inside or outside?
    pub fn overlaps(&self, other: &Range) -> bool {
        let overlap = |a: u64, b: u64| a < b + other.count && b < a + self.count;
        overlap(self.inside, other.inside) || overlap(self.outside, other.outside)
    }

    /// Is this id of the parent namespace one of them?
    pub fn has_outside(&self, id: u64) -> bool {
        id >= self.outside && id - self.outside < self.count
    }

    /// Of the ids outside.
    pub fn has_all_of(&self, other: &Range) -> bool {
        self.has_outside(other.outside) && self.has_outside(other.outside + other.count - 1)
    }

    /// The ids outside, in words.
    pub fn shown(&self) -> String {
        let last = show::number(self.outside + self.count - 1);
        format!("{} to {last}", show::number(self.outside))
    }

    /// Its numbers, with `separator` between.
    pub fn join(&self, separator: &str) -> String {
        let mut text = String::new();
        unsigned("", self.inside, &mut text);
        unsigned(separator, self.outside, &mut text);
        unsigned(separator, self.count, &mut text);
        text
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::say::show::ascii;

    pub fn range(inside: u64, outside: u64, count: u64) -> Range {
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
}
