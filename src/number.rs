//! Numbers in text. The standard library has code of its own for each type of number, and for signs.

use crate::text;

/// A decimal number: digits, and nothing else.
pub fn decimal(text: &[u8]) -> Option<u64> {
    number(text, 10)
}

/// The same in hexadecimal, with or without `0x`.
pub fn hexadecimal(text: &[u8]) -> Option<u64> {
    number(text.strip_prefix(b"0x").unwrap_or(text), 16)
}

/// A decimal number with or without a fraction, of so many places at most, in units of the last of them.
pub fn fixed(text: &[u8], places: usize) -> Option<u64> {
    let (whole, fraction) = text::pair(text, b'.').unwrap_or((text, b""));
    let missing = places.checked_sub(fraction.len())?;
    (0..missing).try_fold(decimal(&[whole, fraction].concat())?, |n, _| n.checked_mul(10))
}

fn number(text: &[u8], base: u32) -> Option<u64> {
    let digit = |n: u64, byte: &u8| {
        n.checked_mul(base.into())?.checked_add(char::from(*byte).to_digit(base)?.into())
    };
    text.iter().try_fold(0, digit).filter(|_| !text.is_empty())
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
