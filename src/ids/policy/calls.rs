//! The system calls that a policy may name: their numbers, and how much of each argument the kernel reads.

use std::cmp::Ordering;

use crate::say::show::ascii;
use crate::say::text::lines;

/// A line for each call that Linux 6.18 has: its name, its number on x86-64 and on aarch64 (`-`: it does not
/// exist there), and the arguments of which the kernel reads less than 64 bits: a digit is the index of one of
/// 32 bits, a letter that of one of 16 bits (`a` is 0). In the order of the names. The kernel takes the flags of
/// clone(2) as a long, and reads their low 32 bits. Source: the kernel's tables of system calls, and the types in its
/// tracefs (events/syscalls). The program has them in arrays instead, which are smaller.
const TABLE: &[u8] = include_bytes!("calls.txt");

/// A machine, as seccomp(2) and the tables of system calls know it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Arch {
    X86_64,
    Aarch64,
}

impl Arch {
    /// The one that this program is made for.
    pub const OWN: Arch = if cfg!(target_arch = "x86_64") { Arch::X86_64 } else { Arch::Aarch64 };

    /// The `arch` of `struct seccomp_data`, linux/audit.h: the machine of elf(5), 64 bits, little-endian.
    pub const fn audit(self) -> u32 {
        match self {
            Arch::X86_64 => 0xc000_003e,
            Arch::Aarch64 => 0xc000_00b7,
        }
    }
}

/// One system call.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Its number on x86-64 and on aarch64; `NONE`: it does not exist there.
    numbers: [u16; 2],
    /// Bit n: of argument n the kernel reads 32 bits. Bits 6 and 7: the index of the one of which it reads 16; 0: of
    /// none.
    narrow: u8,
}

const NONE: u16 = u16::MAX;

impl Call {
    /// Its number, where the machine has it.
    pub fn number(&self, arch: Arch) -> Option<u32> {
        let [x86_64, aarch64] = self.numbers;
        let number = if arch == Arch::X86_64 { x86_64 } else { aarch64 };
        (number != NONE).then_some(number.into())
    }

    /// The bits of argument `index` (0 to 5) that the kernel reads: what is in those above changes nothing, and must
    /// not make a test fail.
    pub fn width(&self, index: u8) -> u64 {
        if self.narrow >> index & 1 == 1 {
            return u32::MAX.into();
        }
        let short = self.narrow >> 6;
        if short != 0 && short == index { u16::MAX.into() } else { u64::MAX }
    }
}

/// How many calls there are, and how long their names are with a newline after each.
#[allow(clippy::indexing_slicing)] // when td is built, an index out of bounds is an error
const SIZES: (usize, usize) = {
    let (mut count, mut length, mut at, mut in_name) = (0, 0, 0, true);
    while at < TABLE.len() {
        count += (TABLE[at] == b'\n') as usize;
        length += in_name as usize;
        in_name = in_name && TABLE[at] != b' ' || TABLE[at] == b'\n';
        at += 1;
    }
    (count, length)
};

/// How many calls there are.
pub const COUNT: usize = SIZES.0;

/// The table as it is read when td is built: the calls, where the name of each begins, and the names, a line each.
struct Read {
    calls: [Call; COUNT],
    starts: [usize; COUNT],
    names: [u8; SIZES.1],
}

#[allow(clippy::indexing_slicing)] // when td is built, an index out of bounds is an error
const READ: Read = {
    let mut read = Read {
        calls: [Call { numbers: [NONE; 2], narrow: 0 }; COUNT],
        starts: [0; COUNT],
        names: [b'\n'; SIZES.1],
    };
    let (mut index, mut at, mut end) = (0, 0, 0);
    while index < COUNT {
        read.starts[index] = end;
        while TABLE[at] != b' ' {
            read.names[end] = TABLE[at];
            (end, at) = (end + 1, at + 1);
        }
        end += 1;
        let mut field = 0;
        while TABLE[at] != b'\n' {
            let call = &mut read.calls[index];
            match (TABLE[at], field) {
                (b' ', _) => field += 1,
                (b'-', _) => {}
                (digit, 1 | 2) => {
                    let number = &mut call.numbers[field - 1];
                    let before = if *number == NONE { 0 } else { *number };
                    *number = before * 10 + (digit - b'0') as u16;
                }
                (letter @ b'a'..=b'f', _) => call.narrow |= (letter - b'a') << 6,
                (digit, _) => call.narrow |= 1 << (digit - b'0'),
            }
            at += 1;
        }
        (index, at) = (index + 1, at + 1);
    }
    read
};

static CALLS: [Call; COUNT] = READ.calls;
static NAMES: [u8; SIZES.1] = READ.names;

/// The call of this index.
pub fn call(index: usize) -> Option<Call> {
    CALLS.get(index).copied()
}

/// The index of the call of this name.
pub fn position(name: &[u8]) -> Option<usize> {
    lines(&NAMES).position(|known| known == name).filter(|_| !name.is_empty())
}

/// The index of a call when td is built, by a binary search.
#[allow(clippy::indexing_slicing)] // when td is built, an index out of bounds is an error
pub const fn const_position(name: &[u8]) -> Option<usize> {
    let (mut from, mut to) = (0, COUNT);
    while from < to {
        let middle = (from + to) / 2;
        match order(name, READ.starts[middle]) {
            Ordering::Equal => return Some(middle),
            Ordering::Less => to = middle,
            Ordering::Greater => from = middle + 1,
        }
    }
    None
}

/// How a name stands to the one that begins there.
#[allow(clippy::indexing_slicing)] // when td is built, an index out of bounds is an error
const fn order(name: &[u8], start: usize) -> Ordering {
    let mut i = 0;
    loop {
        let here = READ.names[start + i];
        match (i < name.len(), here == b'\n') {
            (false, true) => return Ordering::Equal,
            (false, false) => return Ordering::Less,
            (true, true) => return Ordering::Greater,
            _ if name[i] < here => return Ordering::Less,
            _ if name[i] > here => return Ordering::Greater,
            _ => i += 1,
        }
    }
}

/// The call of this name.
pub fn find(name: &[u8]) -> Option<Call> {
    call(position(name)?)
}

/// The name of the call of this index.
pub fn name(index: usize) -> String {
    ascii(lines(&NAMES).nth(index).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_no_number_stands_twice() {
        let find = |name: &[u8]| (position(name), const_position(name));
        for index in 0..COUNT {
            assert!(index == 0 || name(index - 1) < name(index), "{}", name(index));
            assert_eq!(find(name(index).as_bytes()), (Some(index), Some(index)));
        }
        for absent in ["", "a", "zzz", "rea", "reads", "read ", "read\nreadahead"] {
            assert_eq!(find(absent.as_bytes()), (None, None), "{absent}");
        }
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let mut numbers: Vec<_> = (0..COUNT).filter_map(|i| call(i)?.number(arch)).collect();
            let all = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), all, "{arch:?}");
            assert_eq!(numbers.last(), Some(&469), "{arch:?}");
        }
    }

    #[test]
    fn the_numbers_are_those_of_the_crate() {
        for sysno in syscalls::Sysno::iter() {
            let call = find(sysno.name().as_bytes()).unwrap_or_else(|| panic!("{sysno:?}"));
            assert_eq!(call.number(Arch::OWN), Some(sysno as u32), "{sysno:?}");
        }
        // From 424 on a call has the same number on every machine: scripts/syscall.tbl of the kernel.
        for call in (0..COUNT).filter_map(call).filter(|c| c.number(Arch::X86_64) >= Some(424)) {
            assert_eq!(call.number(Arch::X86_64), call.number(Arch::Aarch64), "{call:?}");
        }
    }

    #[test]
    fn an_argument_has_the_bits_that_the_kernel_reads() {
        for (name, index, width) in [
            ("socket", 0, 0xffff_ffff),
            ("ioctl", 1, 0xffff_ffff),
            ("ioctl", 2, u64::MAX),
            ("clone", 0, 0xffff_ffff),
            ("unshare", 0, u64::MAX),
            ("personality", 0, 0xffff_ffff),
            ("chmod", 1, 0xffff),
            ("mmap", 2, u64::MAX),
            ("getpid", 5, u64::MAX),
        ] {
            let call = find(name.as_bytes()).expect(name);
            assert_eq!(call.width(index), width, "{name} {index}");
        }
    }
}
