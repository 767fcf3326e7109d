//! Numbers in text. The standard library has code of its own for each type of number, and for signs.

use crate::say::text;

/// A decimal number: digits, and nothing else.
pub fn decimal(text: &[u8]) -> Option<u64> {
    number(text, 10)
}

/// A number that the kernel has as an int, and that is not negative.
pub fn int(text: &[u8]) -> Option<i32> {
    i32::try_from(decimal(text)?).ok()
}

/// The id of a user or a group. The largest is not an id: for setresuid(2) it means *leave it*.
pub fn id(text: &[u8]) -> Option<u32> {
    u32::try_from(decimal(text)?).ok().filter(|id| *id != u32::MAX)
}

/// A number in hexadecimal, with or without `0x`.
pub fn hexadecimal(text: &[u8]) -> Option<u64> {
    number(text.strip_prefix(b"0x").unwrap_or(text), 16)
}

/// A decimal number with or without a fraction, of so many places at most, in units of the last of them.
pub fn fixed(text: &[u8], places: usize) -> Option<u64> {
    let (whole, fraction) = text::pair(text, b'.').unwrap_or((text, b""));
    let missing = places.checked_sub(fraction.len())?;
    (0..missing).try_fold(decimal(&[whole, fraction].concat())?, |n, _| n.checked_mul(10))
}

/// Does a number with a unit, as the kernel reads sizes, fit into 64 bits? The kernel would truncate one that does not,
/// or round it up to 0, which means no limit. A text that is not such a number fits.
pub fn fits(text: &[u8]) -> bool {
    let (digits, base) = match text.strip_prefix(b"0x").or_else(|| text.strip_prefix(b"0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    let is_digit = |byte: &&u8| char::from(**byte).is_digit(base);
    let (digits, unit) = digits.split_at(digits.iter().take_while(is_digit).count());
    let (factor, most) = match unit.to_ascii_lowercase().as_slice() {
        b"" => (1, i64::MAX as u64),
        b"%" => (1, 4095), // of 2^52 bytes, which is all that there can be
        [unit] => match b"kmgtpe".iter().position(|known| known == unit) {
            Some(power) => (1024 << (10 * power), i64::MAX as u64),
            None => return true,
        },
        _ => return true,
    };
    let size = number(digits, base).and_then(|n| n.checked_mul(factor));
    digits.is_empty() || size.is_some_and(|size| size <= most)
}

fn number(text: &[u8], base: u32) -> Option<u64> {
    let digit = |n: u64, byte: &u8| {
        n.checked_mul(base.into())?.checked_add(char::from(*byte).to_digit(base)?.into())
    };
    text.iter().try_fold(0, digit).filter(|_| !text.is_empty())
}

/// A size in bytes below 2^63: digits, and `b`, `k`, `m`, `g` or `t` for powers of 1024, in either case.
pub fn parse_size(text: &str) -> Option<u64> {
    let (digits, unit) = match text.as_bytes() {
        [digits @ .., unit] if !unit.is_ascii_digit() => (digits, *unit),
        digits => (digits, b'b'),
    };
    let shift = match unit.to_ascii_lowercase() {
        b'b' => 0,
        b'k' => 10,
        b'm' => 20,
        b'g' => 30,
        b't' => 40,
        _ => return None,
    };
    decimal(digits)?.checked_mul(1 << shift).filter(|size| *size <= i64::MAX as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_has_so_many_places_at_most() {
        for (text, expected) in [("1.5", 150_000), (".5", 50_000), ("2.", 200_000), ("0.00001", 1)]
        {
            assert_eq!(fixed(text.as_bytes(), 5), Some(expected), "{text}");
        }
        for text in ["", ".", "1.000001", "1.5.", "-1", "1e3", "184467440737096"] {
            assert_eq!(fixed(text.as_bytes(), 5), None, "{text}");
        }
    }

    #[test]
    fn a_size_fits_below_2_to_the_63() {
        for text in [
            "9223372036854775807",
            "0x7fffffffffffffff",
            "8388607t",
            "7E",
            "7fe",
            "4095%",
            "0",
            "",
            "k",
            "%",
            "x",
            "18446744073709551616x",
            "18446744073709551616:1",
        ] {
            assert!(fits(text.as_bytes()), "{text}");
        }
        for text in [
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "0x10000000000000000",
            "0X8000000000000000",
            "18014398509481984k",
            "16777216T",
            "8388608t",
            "16384p",
            "8e",
            "16E",
            "4096%",
            "99999999999999999999%",
        ] {
            assert!(!fits(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn a_number_is_digits_and_nothing_else() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(hexadecimal(b"ffffffffffffFFFF"), Some(u64::MAX));
        assert_eq!((hexadecimal(b"0x1f"), hexadecimal(b"0x")), (Some(31), None));
        for text in ["", "18446744073709551616", "+1", "-1", " 1", "1\n", "a"] {
            assert_eq!(decimal(text.as_bytes()), None, "{text}");
        }
    }
}
