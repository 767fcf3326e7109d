//! How calls and values are shown: in the notation of strace(1).

use syscalls::Errno;

use crate::say::flags::{self, Table};
use crate::say::number::int;
use crate::say::text::{lines, pair, split};

/// strace cuts what is not a path after so many bytes, and a list after so many members.
pub const CUT: usize = 32;

/// A structure that the kernel reads or writes.
pub trait Show {
    /// Append it as strace shows it.
    fn show(&self, out: &mut String);
}

/// Names and descriptions: line n is that of errno n, see errno(3). The words are those of the C library (glibc), which
/// strace(1) prints too; of the crate `syscalls` they would be others, and 5 KB more of each program.
const ERRNOS: &[u8] = include_bytes!("errno.txt");

/// `ENOENT (No such file or directory)`.
pub fn errno(e: Errno) -> String {
    let mut out = String::new();
    append_errno(e, &mut out);
    out
}

/// Append `ENOENT (No such file or directory)`.
pub fn append_errno(e: Errno, out: &mut String) {
    let errno = e.into_raw();
    match (errno, lines(ERRNOS).nth((errno - 1) as usize)) {
        // An internal number of the kernel, from 512 on, which it sometimes returns.
        (524, _) => out.push_str("ENOTSUPP (Operation is not supported)"),
        (_, Some(b"") | None) => unsigned("errno ", errno as u64, out),
        (_, Some(line)) => {
            let (name, words) = pair(line, b' ').unwrap_or_default();
            let text = [name, b" (", words, b")"].concat();
            out.push_str(&ascii(&text));
        }
    }
}

/// The number of the errno with this name.
pub fn errno_of(name: &[u8]) -> Option<usize> {
    let is = |line: &[u8]| split(line, b' ').next() == Some(name);
    lines(ERRNOS).position(is).filter(|_| !name.is_empty()).map(|line| line + 1)
}

/// `SIGTERM`, `SIGRT_3`: the name of a signal.
pub fn signal(signal: i32) -> &'static str {
    flags::name(flags::SIGNAL, signal as u64).unwrap_or("0")
}

/// The number of a signal: `15`, `TERM`, `SIGTERM`, and as kill(1) has them `RTMIN+1` and `RTMAX-1`. (The C library
/// keeps the first two that the kernel has for itself.)
pub fn signal_of(text: &[u8]) -> Option<i32> {
    let name = text.strip_prefix(b"SIG").unwrap_or(text);
    let is = |known: &str| known.as_bytes().strip_prefix(b"SIG") == Some(name);
    let found = flags::SIGNAL.iter().find(|(_, known)| is(known)).map(|(n, _)| n as i32);
    let from = |first: &[u8], sign: &[u8]| match name.strip_prefix(first)? {
        b"" => Some(0),
        rest => int(rest.strip_prefix(sign)?),
    };
    let number = int(text)
        .or_else(|| from(b"RTMIN", b"+").map(|n| 34 + n.min(64)))
        .or_else(|| from(b"RTMAX", b"-").map(|n| 64 - n.min(64)))
        .or(found);
    number.filter(|n| (1..=64).contains(n))
}

/// A number in decimal, for a message. (`Display` has code for each type of number, and for widths and signs.)
pub fn number(n: u64) -> String {
    let mut out = String::new();
    digits(n, 10, &mut out);
    out
}

/// A size in bytes, in the largest unit of 1024 that divides it: `64M`.
pub fn size(bytes: u64) -> String {
    for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return number(bytes >> shift) + unit;
        }
    }
    number(bytes)
}

/// Append what is before a number, and the number.
pub fn unsigned(before: &str, n: u64, out: &mut String) {
    out.push_str(before);
    digits(n, 10, out);
}

/// Append what is before a number that may be negative, and the number.
pub fn signed(before: &str, n: i64, out: &mut String) {
    out.push_str(before);
    unsigned(if n < 0 { "-" } else { "" }, n.unsigned_abs(), out);
}

/// Append what is before a number, and the number with `0x`.
pub fn hexadecimal(before: &str, n: u64, out: &mut String) {
    out.push_str(before);
    out.push_str("0x");
    digits(n, 16, out);
}

/// Append what is before permission bits, and the bits, three digits at least: `000`, `0755`.
pub fn octal(before: &str, mode: u32, out: &mut String) {
    out.push_str(before);
    out.push_str(if mode < 8 { "00" } else { "0" });
    digits(mode.into(), 8, out);
}

fn digits(n: u64, base: u64, out: &mut String) {
    if n >= base {
        digits(n / base, base, out);
    }
    out.extend(char::from_digit((n % base) as u32, base as u32));
}

/// `A|B|0x8`: the names of the bits that a table has, the others in hexadecimal; `0` for none.
pub fn bits(value: u64, table: Table, out: &mut String) {
    let start = out.len();
    let mut left = value;
    for (bit, name) in table.iter() {
        if bit != 0 && left & bit == bit {
            left &= !bit;
            separate(start, out);
            out.push_str(name);
        }
    }
    if left != 0 {
        separate(start, out);
        hexadecimal("", left, out);
    } else if value == 0 {
        out.push('0');
    }
}

fn separate(start: usize, out: &mut String) {
    if out.len() > start {
        out.push('|');
    }
}

/// The one name of a value, or the value in hexadecimal.
pub fn name(value: u64, table: Table, out: &mut String) {
    match flags::name(table, value) {
        Some(name) => out.push_str(name),
        None => hexadecimal("", value, out),
    }
}

/// The access mode of open(2): a number of two bits, of which `O_RDONLY` is 0. The C library musl
/// counts O_PATH to its O_ACCMODE, which is why that is not used.
pub const ACCESS_MODE: libc::c_int = libc::O_WRONLY | libc::O_RDWR;

/// An access mode, and bits.
pub fn open_flags(value: u64, out: &mut String) {
    out.push_str(match value as libc::c_int & ACCESS_MODE {
        libc::O_WRONLY => "O_WRONLY",
        libc::O_RDWR => "O_RDWR",
        _ => "O_RDONLY",
    });
    let rest = value & !(ACCESS_MODE as u64);
    if rest != 0 {
        out.push('|');
        bits(rest, flags::OPEN, out);
    }
}

/// `[a, b]`, cut as strace cuts a list.
pub fn list<T>(members: &[T], out: &mut String, show: impl Fn(&T, &mut String)) {
    out.push('[');
    for (i, member) in members.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        if i == CUT {
            out.push_str("...");
            break;
        }
        show(member, out);
    }
    out.push(']');
}

/// A string in quotes, its odd bytes escaped as C does, cut after `most` bytes.
pub fn quote(bytes: &[u8], most: usize, out: &mut String) {
    let shown = bytes.get(..most).unwrap_or(bytes);
    out.push('"');
    escape(shown, b"\"\\", out);
    out.push('"');
    if shown.len() < bytes.len() {
        out.push_str("...");
    }
}

/// Append bytes: those that are not printable ASCII as C escapes them, those in `special` after a backslash. Every
/// message and trace line is written by this function, so that no control byte of a hostile name reaches a terminal,
/// and no name can begin a line.
pub fn escape(bytes: &[u8], special: &[u8], out: &mut String) {
    for (i, &byte) in bytes.iter().enumerate() {
        match byte {
            _ if special.contains(&byte) => {
                out.push('\\');
                out.push(byte.into());
            }
            b'\n' => out.push_str("\\n"),
            b'\t' => out.push_str("\\t"),
            b'\r' => out.push_str("\\r"),
            0x0b => out.push_str("\\v"),
            0x0c => out.push_str("\\f"),
            0x20..=0x7e => out.push(byte.into()),
            // A digit after an escape would be read as part of it, unless that has three digits.
            _ if bytes.get(i + 1).is_some_and(u8::is_ascii_digit) => {
                out.push_str(match byte {
                    0..0o10 => "\\00",
                    0o10..0o100 => "\\0",
                    _ => "\\",
                });
                digits(byte.into(), 8, out);
            }
            _ => {
                out.push('\\');
                digits(byte.into(), 8, out);
            }
        }
    }
}

/// Bytes for a message: as they are where they are plain, in quotes and escaped where not.
pub fn plain(bytes: &[u8]) -> String {
    let odd = |b: &u8| !(0x21..=0x7e).contains(b) || *b == b'"';
    if bytes.is_empty() || bytes.iter().any(odd) {
        let mut out = String::new();
        quote(bytes, usize::MAX, &mut out);
        return out;
    }
    ascii(bytes)
}

/// ASCII, as what the kernel writes, as text. (Another byte becomes the character of that number.)
pub fn ascii(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_found_by_its_number_and_by_its_names() {
        for (text, expected) in [
            ("15", Some(15)),
            ("TERM", Some(15)),
            ("SIGTERM", Some(15)),
            ("64", Some(64)),
            ("RTMIN", Some(34)),
            ("SIGRTMIN+1", Some(35)),
            ("RTMAX", Some(64)),
            ("RTMAX-30", Some(34)),
            ("SIGRT_3", Some(35)),
            ("RTMIN+31", None),
            ("RTMIN-1", None),
            ("RTMAX-64", None),
            ("0", None),
            ("65", None),
            ("", None),
            ("SIG", None),
            ("SIG15", None),
            ("term", None),
        ] {
            assert_eq!(signal_of(text.as_bytes()), expected, "{text}");
        }
        assert!((1..65).all(|n| n == 32 || signal_of(signal(n).as_bytes()) == Some(n)));
    }

    #[test]
    fn a_size_is_shown_in_the_largest_unit_that_divides_it() {
        for (bytes, shown) in
            [(0, "0"), (1023, "1023"), (1 << 26, "64M"), (3 << 29, "1536M"), (1 << 50, "1024T")]
        {
            assert_eq!(size(bytes), shown);
        }
    }

    #[test]
    fn an_errno_has_the_name_that_the_crate_knows() {
        for number in (1..512).chain([524, 4095]) {
            let e = Errno::new(number);
            match e.name() {
                Some(name) => assert!(errno(e).starts_with(&[name, " ("].concat()), "{number}"),
                None => assert_eq!(errno(e), format!("errno {number}")),
            }
        }
    }
}
