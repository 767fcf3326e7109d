//! Limits of a cgroup: for each option its controller, its files in version 1 and version 2, and how
//! the value that was typed is written there.

use crate::cgroup::Hierarchy;
use crate::cgroup::make::Write;
use crate::cgroup::stat::PAGE;
use crate::say::number::{decimal, fixed, parse_size};
use crate::say::show::{ascii, number};
use crate::say::text::pair;

/// A limit that has an option of its own.
pub struct Limit {
    /// The option.
    pub asked: Asked,
    /// Whose limit it is.
    pub controller: &'static str,
    /// The files of version 1, in the order in which they are written.
    pub v1: &'static [File],
    /// The files of version 2.
    pub v2: &'static [File],
}

/// A file of a limit.
pub struct File {
    /// Its name.
    pub name: &'static str,
    /// What is written for the value that was typed, in version 2 or not. `None`: that is not accepted.
    pub convert: Convert,
    /// Where it is seen what the kernel took of it; empty: it takes all or nothing.
    pub taken: &'static str,
}

/// By which option a value was asked, and what that accepts.
#[derive(Clone, Copy)]
pub struct Asked {
    pub option: &'static str,
    pub accepts: &'static str,
}

impl Asked {
    /// The reason for which a value was not taken.
    pub fn takes(self) -> String {
        [self.option, " takes ", self.accepts].concat()
    }
}

type Convert = fn(&str, bool) -> Option<String>;

const fn file(name: &'static str, convert: Convert) -> File {
    File { name, convert, taken: name }
}

/// The controllers that are passed down to a user to whom a cgroup is given. The pages of hugetlb are reserved by root.
pub const CONTROLLERS: [&[u8]; 5] = [b"memory", b"cpu", b"cpuset", b"io", b"pids"];

/// Those of them that count what is used.
pub const COUNTING: [&[u8]; 4] = [b"memory", b"cpu", b"io", b"pids"];

/// Every limit, in the order in which they are written.
pub static LIMITS: &[Limit] = &[
    Limit {
        asked: Asked { option: "--memory", accepts: "a SIZE from 64k to 8388607t, or -1 for none" },
        controller: "memory",
        v1: &[file("memory.limit_in_bytes", bytes)],
        v2: &[file("memory.max", bytes)],
    },
    Limit {
        asked: Asked {
            option: "--memory-swap",
            accepts: "a SIZE, memory and swap together, not less than --memory, or -1 for none",
        },
        controller: "memory",
        v1: &[file("memory.memsw.limit_in_bytes", memory_and_swap)],
        v2: &[file("memory.swap.max", memory_and_swap)],
    },
    Limit {
        asked: Asked {
            option: "--memory-high",
            accepts: "a SIZE from 64k to 8388607t, or -1 for none",
        },
        controller: "memory",
        v1: &[],
        v2: &[file("memory.high", bytes)],
    },
    Limit {
        asked: Asked {
            option: "--memory-low",
            accepts: "a SIZE from 64k to 8388607t, 0, or -1 for all",
        },
        controller: "memory",
        v1: &[],
        v2: &[file("memory.low", bytes_or_none)],
    },
    Limit {
        asked: Asked {
            option: "--cpus",
            accepts: "a number from 0.01 to 100000, or -1 for no limit",
        },
        controller: "cpu",
        v1: &[
            file("cpu.cfs_period_us", |_, _| Some(PERIOD.into())),
            file("cpu.cfs_quota_us", quota),
        ],
        v2: &[file("cpu.max", quota)],
    },
    Limit {
        asked: Asked { option: "--cpu-shares", accepts: "a number from 2 to 262144" },
        controller: "cpu",
        v1: &[file("cpu.shares", shares)],
        v2: &[file("cpu.weight", shares)],
    },
    Limit {
        asked: Asked { option: "--cpu-weight", accepts: "a number from 1 to 10000" },
        controller: "cpu",
        v1: &[],
        v2: &[file("cpu.weight", |v, _| within(v, 1, 10_000).map(number))],
    },
    Limit {
        asked: Asked {
            option: "--cpuset-cpus",
            accepts: "a list of processors that are there, as 0-3,8",
        },
        controller: "cpuset",
        // Version 1 refuses processors that the parent does not have.
        v1: &[File { name: "cpuset.cpus", convert: list, taken: "" }],
        // Version 2 takes them, and goes without them.
        v2: &[File { name: "cpuset.cpus", convert: list, taken: "cpuset.cpus.effective" }],
    },
    Limit {
        asked: Asked {
            option: "--cpuset-mems",
            accepts: "a list of memory nodes that are there, as 0-1",
        },
        controller: "cpuset",
        v1: &[File { name: "cpuset.mems", convert: list, taken: "" }],
        v2: &[File { name: "cpuset.mems", convert: list, taken: "cpuset.mems.effective" }],
    },
    Limit {
        asked: Asked {
            option: "--pids",
            accepts: "a number from 1 to 4194304, or 0 or -1 for none",
        },
        controller: "pids",
        v1: &[file("pids.max", pids)],
        v2: &[file("pids.max", pids)],
    },
];

impl Limit {
    /// The files in which it is written.
    pub fn files(&self, v2: bool) -> &'static [File] {
        if v2 { self.v2 } else { self.v1 }
    }

    /// What is written for a value that was accepted.
    pub fn writes<'a>(
        &'static self,
        value: &str,
        hierarchy: &'a Hierarchy,
        writes: &mut Vec<Write<'a>>,
    ) {
        for file in self.files(hierarchy.v2) {
            writes.push(Write {
                hierarchy,
                controller: self.controller.as_bytes(),
                file: file.name.as_bytes(),
                value: (file.convert)(value, hierarchy.v2).unwrap_or_default().into_bytes(),
                asked: Some(&self.asked),
                taken: file.taken.as_bytes(),
            });
        }
    }

    /// Is this a value for it, whichever version it will be written to?
    pub fn accepts(&self, value: &str) -> bool {
        let accept = |v2| self.files(v2).iter().all(|file| (file.convert)(value, v2).is_some());
        accept(false) && accept(true)
    }
}

fn within(value: &str, least: u64, most: u64) -> Option<u64> {
    decimal(value.as_bytes()).filter(|n| (least..=most).contains(n))
}

/// Is no limit asked for? Docker says it by -1, the files of version 2 by `max`.
pub fn unlimited(value: &str) -> bool {
    matches!(value, "-1" | "max" | "unlimited")
}

/// A size in bytes. Less than a page would be a limit of 0, at which the first process is killed. Version 1
/// would wrap silently above 2^64, and takes 2^63 for none.
fn size(value: &str) -> Option<u64> {
    parse_size(value).filter(|n| (PAGE..=8_388_607 << 40).contains(n))
}

/// How a file says that there is no limit.
fn none(v2: bool) -> Option<String> {
    Some(String::from(if v2 { "max" } else { "-1" }))
}

fn bytes(value: &str, v2: bool) -> Option<String> {
    if unlimited(value) { none(v2) } else { size(value).map(number) }
}

fn bytes_or_none(value: &str, v2: bool) -> Option<String> {
    if value == "0" { Some(value.into()) } else { bytes(value, v2) }
}

/// What --memory-swap writes needs the value of --memory too: `SWAP MEMORY`. For version 1 memory and
/// swap together, for version 2 swap alone.
fn memory_and_swap(value: &str, v2: bool) -> Option<String> {
    let (swap, memory) = pair(value.as_bytes(), b' ')?;
    let (swap, memory) = (ascii(swap), ascii(memory));
    if unlimited(&swap) {
        return none(v2);
    }
    let both = size(&swap)?;
    let alone = both.checked_sub(size(&memory)?)?;
    Some(number(if v2 { alone } else { both }))
}

/// The period of a processor limit in microseconds, the kernel's default.
const PERIOD: &str = "100000";

/// Microseconds a period for a number of processors. The kernel takes 1 ms at least.
fn quota(value: &str, v2: bool) -> Option<String> {
    // A processor's worth of a period is 10^5.
    let quota = fixed(value.as_bytes(), 5).filter(|n| (1000..=10_000_000_000).contains(n));
    let quota = if unlimited(value) { none(v2) } else { quota.map(number) }?;
    Some(if v2 { [&quota, " ", PERIOD].concat() } else { quota })
}

/// The shares of version 1. The kernel would silently move other values into this range.
fn shares(value: &str, v2: bool) -> Option<String> {
    let shares = within(value, 2, 262_144)?;
    Some(number(if v2 { weight(shares) } else { shares }))
}

/// The weight of version 2 (1 to 10000, usually 100) for the shares of version 1 (2 to 262144, usually
/// 1024): a curve through these three points, as runc has it since 1.3.2.
///
/// Logarithm and power are worked out here: those of the C library bring 11 KB of tables.
fn weight(shares: u64) -> u64 {
    let l = log2(shares as f64);
    // (l^2 + 125 l) / 612 - 7 / 34 in one fraction; e^x by its series, all of whose terms are positive.
    let x = (l * l + 125.0 * l - 126.0) / 612.0 * std::f64::consts::LN_10;
    let power = (1..64).fold((1.0, 1.0), |(sum, term), n| {
        let term = term * x / f64::from(n);
        (sum + term, term)
    });
    // Rounded up, but for what the arithmetic adds to a whole number.
    (power.0 - 1e-9) as u64 + 1
}

/// The binary logarithm of a number from 1 up: its whole part by halving, then a bit of the rest with
/// each squaring.
fn log2(mut n: f64) -> f64 {
    let mut log = 0.0;
    while n >= 2.0 {
        n /= 2.0;
        log += 1.0;
    }
    (1..53).fold(log, |log, bit| {
        n *= n;
        if n < 2.0 {
            return log;
        }
        n /= 2.0;
        log + 1.0 / (1u64 << bit) as f64
    })
}

/// A list. The kernel knows more of what it may name; but an empty one it would take for no write.
fn list(value: &str, _: bool) -> Option<String> {
    (!value.as_bytes().trim_ascii().is_empty()).then(|| String::from(value))
}

/// No limit is written alike in both versions. Docker says it by 0 as well, and no process fits into none.
fn pids(value: &str, _: bool) -> Option<String> {
    match within(value, 0, 4_194_304) {
        Some(0) => none(true),
        Some(most) => Some(number(most)),
        None if unlimited(value) => none(true),
        None => None,
    }
}

/// Did the kernel take what was written? `read` is the file afterwards. Bytes are rounded down to
/// pages; no limit is a large number in version 1.
pub fn taken(file: &[u8], written: &[u8], read: &[u8]) -> bool {
    if read == written {
        return true;
    }
    let Some(read) = decimal(read) else { return false };
    match decimal(written) {
        Some(written) => file.starts_with(b"memory.") && read <= written && written - read < PAGE,
        None => written == b"-1" && read > i64::MAX as u64 >> 1, // so many, rounded down to pages, also huge ones
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an option writes, in version 1 and version 2; `-` where the value is not accepted.
    fn written(option: &str, value: &str) -> [String; 2] {
        let limit = LIMITS.iter().find(|limit| limit.asked.option == option).expect("an option");
        [false, true].map(|v2| {
            if !limit.accepts(value) {
                return String::from("-");
            }
            let hierarchy = Hierarchy { v2, ..Hierarchy::default() };
            let mut writes = Vec::new();
            limit.writes(value, &hierarchy, &mut writes);
            let values = writes.iter().map(|write| String::from_utf8_lossy(&write.value));
            values.collect::<Vec<_>>().join(",")
        })
    }

    #[test]
    fn the_weight_of_all_shares_is_that_of_the_c_librarys_logarithm_and_power() {
        for shares in 2..=262_144 {
            let l = (shares as f64).log2();
            let exact = 10f64.powf((l * l + 125.0 * l - 126.0) / 612.0).ceil() as u64;
            assert_eq!(weight(shares), exact, "of {shares} shares");
        }
    }

    #[test]
    fn values_are_written_as_each_version_wants_them() {
        for (option, value, v1, v2) in [
            ("--memory", "64M", "67108864", "67108864"),
            ("--memory", "65536", "65536", "65536"),
            ("--memory", "-1", "-1", "max"),
            ("--memory", "unlimited", "-1", "max"),
            ("--memory-swap", "3m 1m", "3145728", "2097152"),
            ("--memory-swap", "1m 1m", "1048576", "0"),
            ("--memory-swap", "-1 1m", "-1", "max"),
            ("--cpus", "1.5", "100000,150000", "150000 100000"),
            ("--cpus", ".5", "100000,50000", "50000 100000"),
            ("--cpus", "0.01", "100000,1000", "1000 100000"),
            ("--cpus", "2", "100000,200000", "200000 100000"),
            ("--cpus", "-1", "100000,-1", "max 100000"),
            ("--cpu-shares", "1024", "1024", "100"),
            ("--cpuset-cpus", "0-3,8", "0-3,8", "0-3,8"),
            ("--memory-high", "1g", "", "1073741824"),
            ("--memory-high", "-1", "", "max"),
            ("--memory-low", "0", "", "0"),
            ("--cpu-weight", "10000", "", "10000"),
            ("--pids", "0", "max", "max"),
            ("--pids", "00", "max", "max"),
            ("--pids", "1", "1", "1"),
            ("--pids", "-1", "max", "max"),
        ] {
            assert_eq!(written(option, value), [v1, v2], "{option} {value}");
        }
    }

    #[test]
    fn values_that_the_kernel_would_refuse_or_change_are_not_accepted() {
        for (option, values) in [
            ("--memory", &["", "0", "1", "65535", "-2", "x", "1.5g", "8388608t", "1e3"][..]),
            ("--memory-swap", &["1m", "1m 2m", "x 1m", "1m -1", "1 1"]),
            ("--cpus", &["", "0", "0.009", "x", "1e3", "inf", "1.000001", "100001", "-0.5", "+1"]),
            ("--cpu-shares", &["1", "262145", "-1", "0", "x", "1.5"]),
            ("--memory-high", &["", "0", "1", "x"]),
            ("--memory-low", &["", "1", "x"]),
            ("--cpu-weight", &["", "0", "10001", "-1", "1.5"]),
            ("--cpuset-cpus", &["", " "]),
            ("--pids", &["", "-2", "4194305", "x", "1.5"]),
        ] {
            for value in values {
                assert_eq!(written(option, value), ["-", "-"], "{option} {value:?}");
            }
        }
    }

    #[test]
    fn shares_become_weights_on_the_curve_that_runc_has() {
        for (shares, expected) in [(2, 1), (1024, 100), (262_144, 10_000), (512, 59), (2048, 174)] {
            assert_eq!(weight(shares), expected, "{shares} shares");
        }
    }

    #[test]
    fn what_the_kernel_took_is_compared_by_meaning() {
        for (file, written, read) in [
            ("memory.max", "100000", "98304\n"),
            ("memory.limit_in_bytes", "-1", "9223372036854771712\n"),
            ("memory.max", "max", "max\n"),
            ("pids.max", "10", "10\n"),
        ] {
            assert!(
                taken(file.as_bytes(), written.as_bytes(), read.trim().as_bytes()),
                "{file} {written} {read}"
            );
        }
        for (file, written, read) in [
            ("memory.max", "100000", "100001\n"),
            ("memory.max", "100000", "4096\n"),
            ("memory.max", "100000", "max\n"),
            ("memory.limit_in_bytes", "-1", "4096\n"),
            ("pids.max", "10", "9\n"),
        ] {
            assert!(
                !taken(file.as_bytes(), written.as_bytes(), read.trim().as_bytes()),
                "{file} {written} {read}"
            );
        }
    }
}
