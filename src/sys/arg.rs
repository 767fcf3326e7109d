//! One argument of a system call. Both the registers and the text are made from it, which is why a trace cannot say
//! other than what was called.
//!
//! What the kernel reads is borrowed, what it writes is a [`Cell`] of memory that may hold anything: a structure of
//! `structs` or bytes. An address comes from nowhere else, and a length from what lies there.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char};

use crate::say::flags::{self, Table};
use crate::say::show::*;
use crate::sys::entry::Vector;

/// A structure that the kernel reads.
///
/// # Safety
///
/// It is laid out as the kernel's headers have it, and what it points to lives as long as it does.
pub(in crate::sys) unsafe trait Layout: Show {}

/// A structure that the kernel may write.
///
/// # Safety
///
/// A structure that the kernel may write; it points to nothing, and whatever bytes are written there are a value.
pub(in crate::sys) unsafe trait Plain: Layout + Copy + 'static {}

/// Memory that the kernel may write: a cell of a structure, and nothing else.
pub(in crate::sys) trait Written: Show {}

impl<T: Plain> Written for Cell<T> {}

/// What the kernel wrote is shown as what it reads.
impl<T: Plain> Show for Cell<T> {
    fn show(&self, out: &mut String) {
        self.get().show(out);
    }
}

/// A list of strings, and what execve(2) reads: the pointers to them, and a null pointer at the end.
pub(in crate::sys) struct Strings<'a> {
    strings: &'a [CString],
    pointers: Vec<*const c_char>,
}

impl Strings<'_> {
    /// With their pointers.
    pub(in crate::sys) fn new(strings: &[CString]) -> Strings<'_> {
        let mut pointers: Vec<_> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Strings { strings, pointers }
    }
}

/// One argument of a system call, or two that belong together.
#[derive(Clone, Copy)]
pub(in crate::sys) enum Arg<'a> {
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
    /// Bytes, and their number.
    Bytes(&'a [u8]),
    /// A list of strings.
    Strs(&'a Strings<'a>),
    /// An environment, which is shown by the number of its variables.
    Env(&'a Strings<'a>),
    /// That with which we were started, and the number of its variables.
    OwnEnv(Vector, usize),
    /// The null pointer.
    Null,
    /// An address where nothing is, nor can be: what the kernel would read or write there is EFAULT.
    Nowhere,
    /// The number of ids, and a list of them.
    Ids(&'a [u32]),
    /// A structure that the kernel reads.
    In(&'a dyn Layout),
    /// A structure that the kernel reads, and its size.
    InSized(&'a dyn Layout),
    /// A structure that the kernel reads, and may write: shown as it was before.
    InOut(&'a dyn Written),
    /// A structure that the kernel writes.
    Out(&'a dyn Written),
    /// A structure that the kernel writes only if it returns more than 0.
    OutIf(&'a dyn Written),
    /// Room for bytes, of which the kernel writes as many as it returns, and its size.
    Buffer(&'a [Cell<u8>]),
    /// Room for a path, whose zero byte at the end is counted.
    PathBuffer(&'a [Cell<u8>]),
    /// Room for what getdents64(2) writes, and its size.
    Entries(&'a [Cell<u8>]),
}

/// Where something lies.
fn address<T: ?Sized>(it: &T) -> usize {
    std::ptr::from_ref(it).cast::<u8>() as usize
}

impl Arg<'_> {
    /// What the kernel is given after [`Arg::register`], for an argument that is two.
    pub(in crate::sys) fn second(&self) -> Option<usize> {
        match *self {
            Arg::Bytes(b) => Some(b.len()),
            Arg::Ids(ids) => Some(address(ids)),
            Arg::InSized(s) => Some(size_of_val(s)),
            Arg::Buffer(b) | Arg::PathBuffer(b) | Arg::Entries(b) => Some(b.len()),
            _ => None,
        }
    }

    /// What the kernel is given.
    pub(in crate::sys) fn register(&self) -> usize {
        match *self {
            Arg::Int(n) => n as usize,
            Arg::Size(n) => n,
            Arg::Fd(fd) => fd as usize, // sign-extended, for AT_FDCWD
            Arg::Mode(mode) | Arg::FileMode(mode) => mode as usize,
            Arg::Dev(n) | Arg::Flags(n, _) | Arg::Name(n, _) => n as usize,
            Arg::Open(n) | Arg::Clone(n) => n as usize,
            Arg::Path(s) | Arg::Str(s) => s.as_ptr() as usize,
            Arg::Strs(s) | Arg::Env(s) => s.pointers.as_ptr() as usize,
            Arg::OwnEnv(vector, _) => vector.address(),
            Arg::Bytes(b) => address(b),
            Arg::Ids(ids) => ids.len(),
            Arg::Null => 0,
            Arg::Nowhere => usize::MAX,
            Arg::In(s) | Arg::InSized(s) => address(s),
            Arg::InOut(s) | Arg::Out(s) | Arg::OutIf(s) => address(s),
            Arg::Buffer(b) | Arg::PathBuffer(b) | Arg::Entries(b) => address(b),
        }
    }

    /// The same, with no address in it that is any: a number, and the size that belongs to an address, stay.
    pub(in crate::sys) fn without_address(&self) -> [Option<Arg<'static>>; 2] {
        let number = match *self {
            Arg::Int(n) => Arg::Int(n),
            Arg::Size(n) => Arg::Size(n),
            Arg::Fd(fd) => Arg::Fd(fd),
            Arg::Mode(mode) => Arg::Mode(mode),
            Arg::FileMode(mode) => Arg::FileMode(mode),
            Arg::Dev(n) => Arg::Dev(n),
            Arg::Flags(n, table) => Arg::Flags(n, table),
            Arg::Name(n, table) => Arg::Name(n, table),
            Arg::Open(n) => Arg::Open(n),
            Arg::Clone(n) => Arg::Clone(n),
            Arg::Null => Arg::Null,
            Arg::Ids(ids) => return [Some(Arg::Size(ids.len())), Some(Arg::Nowhere)],
            _ => return [Some(Arg::Nowhere), self.second().map(Arg::Size)],
        };
        [Some(number), None]
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
            Arg::Clone(value) => clone_flags(value, out),
            Arg::Path(s) => quote(s.to_bytes(), usize::MAX, out),
            Arg::Str(s) => quote(s.to_bytes(), CUT, out),
            Arg::Strs(s) => list(s.strings, out, |s, out| quote(s.to_bytes(), CUT, out)),
            Arg::Env(s) => variables(address(&*s.pointers), s.strings.len(), out),
            Arg::OwnEnv(vector, n) => variables(vector.address(), n, out),
            Arg::Null => out.push_str("NULL"),
            Arg::In(s) | Arg::InSized(s) => s.show(out),
            Arg::InOut(s) => s.show(out),
            Arg::Out(s) if returned.is_some() => s.show(out),
            Arg::OutIf(s) if returned.is_some_and(|n| n > 0) => s.show(out),
            Arg::Bytes(b) => quote(b, CUT, out),
            Arg::Ids(ids) => {
                unsigned("", ids.len() as u64, out);
                out.push_str(", ");
                return list(ids, out, |id, out| unsigned("", (*id).into(), out));
            }
            Arg::Buffer(b) if returned.is_some() => filled(b, returned.unwrap_or(0), CUT, out),
            Arg::PathBuffer(b) if returned.is_some_and(|n| n > 0) => {
                filled(b, returned.unwrap_or(0) - 1, usize::MAX, out);
            }
            _ => hexadecimal("", self.register() as u64, out),
        }
        if let Some(size) = self.second() {
            unsigned(", ", size as u64, out);
        }
    }
}

/// The flags of clone(2) as strace has them, who names a stack of its own too.
fn clone_flags(value: u64, out: &mut String) {
    out.push_str("child_stack=NULL, flags=");
    let signals = libc::CSIGNAL as u64;
    if value & !signals != 0 {
        bits(value & !signals, flags::CLONE, out);
        out.push('|');
    }
    out.push_str(signal((value & signals) as i32));
}

/// So many variables of an environment.
fn variables(address: usize, n: usize, out: &mut String) {
    hexadecimal("", address as u64, out);
    unsigned(" /* ", n as u64, out);
    out.push_str(if n == 1 { " var */" } else { " vars */" });
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
pub(in crate::sys) fn call(name: &str, args: &[Arg], returned: Option<usize>) -> String {
    let mut out = String::new();
    append_call(name, args, returned, &mut out);
    out
}

/// Append `name(argument, argument)`.
pub(in crate::sys) fn append_call(
    name: &str,
    args: &[Arg],
    returned: Option<usize>,
    out: &mut String,
) {
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
