//! How a call is written down: as strace(1) writes it, so that whoever reads the one reads the other.
//!
//! An [`Arg`] is one argument of a system call. Both the register and the text are made from it, which
//! is why a trace cannot say other than what was called.

use std::borrow::Cow;
use std::cell::Cell;
use std::ffi::{CStr, CString, c_char};

use syscalls::Errno;

use crate::say::flags::{self, Table};
use crate::say::text::{lines, split};

/// strace cuts what is no path after so many bytes, and a list after so many members.
const CUT: usize = 32;

/// A structure that the kernel reads or writes.
pub trait Show {
    /// Append it as strace shows it.
    fn show(&self, out: &mut String);
}

/// A list of strings, and what execve(2) reads: the pointers to them, and a null pointer at the end.
pub struct Strings<'a> {
    pub strings: &'a [CString],
    pub pointers: Vec<*const c_char>,
}

impl Strings<'_> {
    /// With their pointers.
    pub fn new(strings: &[CString]) -> Strings<'_> {
        let mut pointers: Vec<_> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Strings { strings, pointers }
    }
}

/// One argument of a system call.
#[derive(Clone, Copy)]
pub enum Arg<'a> {
    /// A signed number, in decimal.
    Int(i64),
    /// A size or a count, in decimal.
    Size(usize),
    /// A descriptor, or `AT_FDCWD`.
    Fd(i32),
    /// Permission bits, in octal.
    Mode(u32),
    /// A file type with permission bits.
    FileMode(u32),
    /// A device number.
    Dev(u64),
    /// Any number of bits of a table.
    Flags(u64, Table),
    /// One value of a table.
    Name(u64, Table),
    /// The flags of open(2): an access mode, and bits.
    Open(u64),
    /// The flags of clone(2), with the signal at the child's end. The other arguments are zero.
    Clone(u64),
    /// A path: never cut.
    Path(&'a CStr),
    /// Another string that ends with a zero byte.
    Str(&'a CStr),
    /// Bytes whose length is the next argument.
    Bytes(&'a [u8]),
    /// A list of strings.
    Strs(&'a Strings<'a>),
    /// An environment that is shown by the number of its variables.
    Env(*const *const c_char, usize),
    /// The null pointer.
    Null,
    /// A list of ids.
    Ids(&'a [u32]),
    /// A structure that the kernel reads.
    In(&'a dyn Show),
    /// A structure that the kernel writes.
    Out(&'a dyn Show),
    /// The same where the kernel writes only if it returns more than 0.
    OutIf(&'a dyn Show),
    /// Room for bytes, of which the kernel writes as many as it returns.
    Buffer(&'a [Cell<u8>]),
    /// The same for a path, whose zero byte at the end is counted.
    PathBuffer(&'a [Cell<u8>]),
    /// Room for what getdents64(2) writes.
    Entries(&'a [Cell<u8>]),
}

impl Arg<'_> {
    /// What the kernel is given.
    pub fn register(&self) -> usize {
        match *self {
            Arg::Int(n) => n as usize,
            Arg::Size(n) => n,
            Arg::Fd(fd) => fd as usize, // sign-extended, for AT_FDCWD
            Arg::Mode(mode) | Arg::FileMode(mode) => mode as usize,
            Arg::Dev(n) | Arg::Flags(n, _) | Arg::Name(n, _) => n as usize,
            Arg::Open(n) | Arg::Clone(n) => n as usize,
            Arg::Path(s) | Arg::Str(s) => s.as_ptr() as usize,
            Arg::Bytes(b) => b.as_ptr() as usize,
            Arg::Strs(s) => s.pointers.as_ptr() as usize,
            Arg::Env(pointers, _) => pointers as usize,
            Arg::Null => 0,
            Arg::Ids(ids) => ids.as_ptr() as usize,
            Arg::In(s) | Arg::Out(s) | Arg::OutIf(s) => std::ptr::from_ref(s).cast::<u8>() as usize,
            Arg::Buffer(b) | Arg::PathBuffer(b) | Arg::Entries(b) => b.as_ptr() as usize,
        }
    }

    /// Append the text. What the kernel fills in is shown when the call has returned `Some` number.
    fn show(&self, returned: Option<usize>, out: &mut String) {
        match *self {
            Arg::Int(n) => signed("", n, out),
            Arg::Size(n) => unsigned("", n as u64, out),
            Arg::Fd(libc::AT_FDCWD) => out.push_str("AT_FDCWD"),
            Arg::Fd(fd) => signed("", fd.into(), out),
            Arg::Mode(mode) => octal("", mode, out),
            Arg::FileMode(mode) => {
                name((mode & libc::S_IFMT).into(), flags::FILE_TYPE, out);
                octal("|", mode & !libc::S_IFMT, out);
            }
            Arg::Dev(dev) => {
                hexadecimal("makedev(", libc::major(dev).into(), out);
                hexadecimal(", ", libc::minor(dev).into(), out);
                out.push(')');
            }
            Arg::Flags(value, table) => bits(value, table, out),
            Arg::Name(value, table) => name(value, table, out),
            Arg::Open(value) => open_flags(value, out),
            Arg::Clone(value) => {
                out.push_str("child_stack=NULL, flags=");
                let signals = libc::CSIGNAL as u64;
                if value & !signals != 0 {
                    bits(value & !signals, flags::CLONE, out);
                    out.push('|');
                }
                out.push_str(&signal((value & signals) as i32));
            }
            Arg::Path(s) => quote(s.to_bytes(), usize::MAX, out),
            Arg::Str(s) => quote(s.to_bytes(), CUT, out),
            Arg::Bytes(b) => quote(b, CUT, out),
            Arg::Strs(s) => list(s.strings, out, |s, out| quote(s.to_bytes(), CUT, out)),
            Arg::Env(pointers, n) => {
                hexadecimal("", pointers as u64, out);
                unsigned(" /* ", n as u64, out);
                out.push_str(if n == 1 { " var */" } else { " vars */" });
            }
            Arg::Null => out.push_str("NULL"),
            Arg::Ids(ids) => list(ids, out, |id, out| unsigned("", (*id).into(), out)),
            Arg::In(s) => s.show(out),
            Arg::Out(s) if returned.is_some() => s.show(out),
            Arg::OutIf(s) if returned.is_some_and(|n| n > 0) => s.show(out),
            Arg::Buffer(b) if returned.is_some() => filled(b, returned.unwrap_or(0), CUT, out),
            Arg::PathBuffer(b) if returned.is_some_and(|n| n > 0) => {
                filled(b, returned.unwrap_or(0) - 1, usize::MAX, out);
            }
            _ => hexadecimal("", self.register() as u64, out),
        }
    }
}

/// What the kernel wrote into a buffer.
fn filled(buffer: &[Cell<u8>], n: usize, most: usize, out: &mut String) {
    let bytes: Vec<u8> = buffer.iter().take(n.min(most)).map(Cell::get).collect();
    quote(&bytes, most, out);
    if n > most {
        out.push_str("...");
    }
}

/// `name(argument, argument)`; with `returned`, what the kernel filled in as well.
pub fn call(name: &str, args: &[Arg], returned: Option<usize>) -> String {
    let mut out = String::new();
    append_call(name, args, returned, &mut out);
    out
}

/// The same, appended.
pub fn append_call(name: &str, args: &[Arg], returned: Option<usize>, out: &mut String) {
    out.push_str(name);
    out.push('(');
    for (i, arg) in args.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        arg.show(returned, out);
    }
    out.push(')');
}

/// Names and descriptions: line n is that of errno n, see errno(3). The words are those of the crate
/// `syscalls`, whose own code for them would be 5 KB more of each program. Those of STREAMS, RFS, XENIX and a.out,
/// none of which Linux has, have no description.
const ERRNOS: &[u8] = include_bytes!("errno.txt");

/// `ENOENT (No such file or directory)`.
pub fn errno(e: Errno) -> String {
    let mut out = String::new();
    append_errno(e, &mut out);
    out
}

/// The same, appended.
pub fn append_errno(e: Errno, out: &mut String) {
    let errno = e.into_raw();
    match (errno, lines(ERRNOS).nth((errno - 1) as usize)) {
        // One of the kernel's own, from 512 on, which it lets out at times.
        (524, _) => out.push_str("ENOTSUPP (Operation is not supported)"),
        (_, Some(b"") | None) => unsigned("errno ", errno as u64, out),
        (_, Some(line)) => out.extend(line.iter().copied().map(char::from)),
    }
}

/// The number of the errno with this name.
pub fn errno_of(name: &[u8]) -> Option<usize> {
    let is = |line: &[u8]| split(line, b' ').next() == Some(name);
    lines(ERRNOS).position(is).filter(|_| !name.is_empty()).map(|line| line + 1)
}

/// `SIGTERM`, `SIGRT_3`: the name of a signal.
pub fn signal(signal: i32) -> Cow<'static, str> {
    match (flags::name(flags::SIGNAL, signal as u64), signal) {
        (Some(name), _) => name.into(),
        (None, 32) => "SIGRTMIN".into(),
        (None, _) => ["SIGRT_", &number((signal - 32) as u64)].concat().into(),
    }
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

/// The same of one that may be negative.
pub fn signed(before: &str, n: i64, out: &mut String) {
    out.push_str(before);
    unsigned(if n < 0 { "-" } else { "" }, n.unsigned_abs(), out);
}

/// The same with `0x`.
pub fn hexadecimal(before: &str, n: u64, out: &mut String) {
    out.push_str(before);
    out.push_str("0x");
    digits(n, 16, out);
}

/// The same for permission bits, of which there are three digits at least: `000`, `0755`.
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
fn list<T>(members: &[T], out: &mut String, show: impl Fn(&T, &mut String)) {
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

/// Append bytes: those that are not printable ASCII as C escapes them, those in `special` behind a backslash.
/// What is said and traced is written by this alone, so that no byte of others reaches a terminal, and no word
/// begins a line.
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
            // A digit behind an escape would be read as part of it, unless that has three digits.
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
    fn a_size_is_shown_in_the_largest_unit_that_divides_it() {
        for (bytes, shown) in
            [(0, "0"), (1023, "1023"), (1 << 26, "64M"), (3 << 29, "1536M"), (1 << 50, "1024T")]
        {
            assert_eq!(size(bytes), shown);
        }
    }

    #[test]
    fn an_errno_has_the_words_of_the_crate_but_those_that_linux_has_not() {
        let mut alone = 0;
        for number in (1..512).chain([524, 4095]) {
            let e = Errno::new(number);
            let words = match (e.name(), e.description()) {
                (Some(name), _) if errno(e) == name => {
                    alone += 1;
                    name.into()
                }
                (Some(name), Some(words)) => format!("{name} ({words})"),
                _ => format!("errno {number}"),
            };
            assert_eq!(errno(e), words);
        }
        assert_eq!(alone, 34);
    }
}
