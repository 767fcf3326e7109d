//! Limits of a cgroup: for each option its controller, its files in version 1 and version 2, and how
//! the value that was typed is written there.

use std::ffi::CString;

use crate::cgroup::join;
use crate::cgroup::make::Write;
use crate::cli;
use crate::show::ascii;
use crate::sys::{self, Cx};

/// A limit that has an option of its own.
pub struct Limit {
    /// The option.
    pub option: &'static str,
    /// Whose limit it is.
    pub controller: &'static str,
    /// What it accepts, for messages.
    pub accepts: &'static str,
    /// The files of version 1, in the order in which they are written.
    pub v1: &'static [File],
    /// The files of version 2.
    pub v2: &'static [File],
}

/// A file of a limit.
pub struct File {
    /// Its name.
    pub name: &'static str,
    /// What is written for the value that was typed. `None`: that is not accepted.
    pub convert: fn(&str) -> Option<String>,
    /// Where it is seen what the kernel took.
    pub taken: &'static str,
}

const fn file(name: &'static str, convert: fn(&str) -> Option<String>) -> File {
    File { name, convert, taken: name }
}

/// The controllers of all limits.
pub const CONTROLLERS: [&[u8]; 4] = [b"memory", b"cpu", b"cpuset", b"pids"];

/// Every limit, in the order in which they are written.
pub const LIMITS: &[Limit] = &[
    Limit {
        option: "--memory",
        controller: "memory",
        accepts: "a SIZE from 64k to 8388607t, or -1 for none",
        v1: &[file("memory.limit_in_bytes", |v| bytes(v, "-1"))],
        v2: &[file("memory.max", |v| bytes(v, "max"))],
    },
    Limit {
        option: "--memory-swap",
        controller: "memory",
        accepts: "a SIZE, memory and swap together, not less than --memory, or -1 for none",
        v1: &[file("memory.memsw.limit_in_bytes", |v| memory_and_swap(v).map(|both| both.0))],
        v2: &[file("memory.swap.max", |v| memory_and_swap(v).map(|both| both.1))],
    },
    Limit {
        option: "--cpus",
        controller: "cpu",
        accepts: "a number from 0.01 to 100000, or -1 for no limit",
        v1: &[
            file("cpu.cfs_period_us", |_| Some(PERIOD.to_string())),
            file("cpu.cfs_quota_us", |v| quota(v, "-1")),
        ],
        v2: &[file("cpu.max", |v| quota(v, "max").map(|quota| format!("{quota} {PERIOD}")))],
    },
    Limit {
        option: "--cpu-shares",
        controller: "cpu",
        accepts: "a number from 2 to 262144",
        v1: &[file("cpu.shares", |v| shares(v).map(|n| n.to_string()))],
        v2: &[file("cpu.weight", |v| shares(v).map(|n| weight(n).to_string()))],
    },
    Limit {
        option: "--cpuset-cpus",
        controller: "cpuset",
        accepts: "a list of processors that are there, as 0-3,8",
        v1: &[file("cpuset.cpus", list)],
        // Version 2 takes processors that the parent does not have, and goes without them.
        v2: &[File { name: "cpuset.cpus", convert: list, taken: "cpuset.cpus.effective" }],
    },
    Limit {
        option: "--cpuset-mems",
        controller: "cpuset",
        accepts: "a list of memory nodes that are there, as 0-1",
        v1: &[file("cpuset.mems", list)],
        v2: &[File { name: "cpuset.mems", convert: list, taken: "cpuset.mems.effective" }],
    },
    Limit {
        option: "--pids",
        controller: "pids",
        accepts: "a number from 0 to 4194304, or -1 for none",
        v1: &[file("pids.max", pids)],
        v2: &[file("pids.max", pids)],
    },
];

impl Limit {
    fn files(&self, v2: bool) -> &'static [File] {
        if v2 { self.v2 } else { self.v1 }
    }

    /// What is written for a value that was accepted.
    pub fn writes(&'static self, value: &str, v2: bool) -> Vec<Write<'static>> {
        let write = |file: &'static File| Write {
            controller: self.controller.as_bytes(),
            file: file.name.as_bytes(),
            value: (file.convert)(value).unwrap_or_default().into_bytes(),
            limit: Some((self, file.taken)),
        };
        self.files(v2).iter().map(write).collect()
    }

    /// Is this a value for it, whichever version it will be written to?
    pub fn accepts(&self, value: &str) -> bool {
        self.v1.iter().chain(self.v2).all(|file| (file.convert)(value).is_some())
    }
}

/// The pages of the kernel have at most 64 KiB. Less than one would be a limit of 0, at which the
/// first process is killed.
const PAGE: u64 = 65536;

/// Is no limit asked for? Docker says it by -1, the files of version 2 by `max`.
fn unlimited(value: &str) -> bool {
    matches!(value, "-1" | "max" | "unlimited")
}

/// A size in bytes. Version 1 would wrap silently above 2^64, and takes 2^63 for none.
fn size(value: &str) -> Option<u64> {
    cli::size(value).filter(|n| (PAGE..=8_388_607 << 40).contains(n))
}

fn bytes(value: &str, none: &str) -> Option<String> {
    if unlimited(value) {
        return Some(String::from(none));
    }
    size(value).map(|n| n.to_string())
}

/// What --memory-swap writes needs the value of --memory too: `SWAP MEMORY`. For version 1 memory and
/// swap together, for version 2 swap alone.
fn memory_and_swap(value: &str) -> Option<(String, String)> {
    let (swap, memory) = value.split_once(' ')?;
    if unlimited(swap) {
        return Some((String::from("-1"), String::from("max")));
    }
    let (swap, memory) = (size(swap)?, size(memory)?);
    Some((swap.to_string(), swap.checked_sub(memory)?.to_string()))
}

/// The period of a processor limit in microseconds, the kernel's default.
const PERIOD: u64 = 100_000;

/// Microseconds a period for a number of processors. The kernel takes 1 ms at least.
fn quota(value: &str, none: &str) -> Option<String> {
    if unlimited(value) {
        return Some(String::from(none));
    }
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let digits = format!("{whole}{fraction:0<5}");
    let exact = fraction.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit());
    let quota: u64 = digits.parse().ok().filter(|_| exact)?;
    (1000..=100_000 * PERIOD).contains(&quota).then(|| quota.to_string())
}

/// The shares of version 1. The kernel would silently move other values into this range.
fn shares(value: &str) -> Option<u64> {
    value.parse().ok().filter(|n| (2..=262_144).contains(n))
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
    (power.0 - 1e-9).ceil() as u64
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
fn list(value: &str) -> Option<String> {
    (!value.as_bytes().trim_ascii().is_empty()).then(|| String::from(value))
}

fn pids(value: &str) -> Option<String> {
    if unlimited(value) {
        return Some(String::from("max"));
    }
    let n: u64 = value.parse().ok()?;
    (n <= 4_194_304).then(|| n.to_string())
}

/// Did the kernel take what was written? `read` is the file afterwards. Bytes are rounded down to
/// pages; no limit is a large number in version 1; a list may be written in another way.
pub fn taken(file: &str, written: &str, read: &str) -> bool {
    let read = read.trim_ascii();
    if read == written {
        return true;
    }
    if file.starts_with("cpuset.") {
        return members(written).is_none_or(|list| Some(list) == members(read));
    }
    let Ok(read) = read.parse::<u64>() else { return false };
    match written.parse::<u64>() {
        Ok(written) => file.starts_with("memory.") && read <= written && written - read < PAGE,
        Err(_) => written == "-1" && read > i64::MAX as u64 - PAGE,
    }
}

/// The members of a list such as `0-2,8`, a bit each. `None`: it is written in another way, which only
/// the kernel can judge.
fn members(list: &str) -> Option<[u64; 1024]> {
    let mut all = [0; 1024];
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        for n in first.parse::<u16>().ok()?..=last.parse::<u16>().ok()? {
            all[usize::from(n / 64)] |= 1 << (n % 64);
        }
    }
    Some(all)
}

/// Something that `--stat` prints, under the same key on version 1 and version 2.
pub struct Key {
    /// The key.
    pub key: &'static str,
    /// Where it may stand: a file, the word before it where the file has a line for each, and what a
    /// unit of it is divided by.
    places: &'static [(&'static str, Option<&'static str>, u64)],
}

/// What `--stat` prints, as far as the controllers are there.
pub const KEYS: &[Key] = &[
    Key {
        key: "memory.current",
        places: &[("memory.current", None, 1), ("memory.usage_in_bytes", None, 1)],
    },
    Key {
        key: "memory.max",
        places: &[("memory.max", None, 1), ("memory.limit_in_bytes", None, 1)],
    },
    Key {
        key: "memory.oom_kill",
        places: &[
            ("memory.events", Some("oom_kill"), 1),
            ("memory.oom_control", Some("oom_kill"), 1),
        ],
    },
    Key {
        key: "cpu.usage_usec",
        places: &[("cpu.stat", Some("usage_usec"), 1), ("cpuacct.usage", None, 1000)],
    },
    Key { key: "pids.current", places: &[("pids.current", None, 1)] },
    Key { key: "pids.max", places: &[("pids.max", None, 1)] },
];

impl Key {
    /// The value, from the first file that has it in one of the directories of a cgroup.
    pub fn value(&self, cx: &Cx, directories: &[CString]) -> Option<String> {
        self.places.iter().find_map(|(file, word, divisor)| {
            directories.iter().find_map(|directory| {
                let text = sys::read_file(cx, None, &join(directory, file.as_bytes())).ok()?;
                let value = match word {
                    Some(word) => field(&text, word)?,
                    None => ascii(text.trim_ascii()),
                };
                Some(match value.parse::<u64>() {
                    Ok(n) if n > i64::MAX as u64 - PAGE => String::from("max"),
                    Ok(n) => (n / divisor).to_string(),
                    Err(_) => value,
                })
            })
        })
    }
}

/// The value behind a word, in a file with a line for each.
pub fn field(text: &[u8], word: &str) -> Option<String> {
    text.split(|b| *b == b'\n').find_map(|line| {
        let value = line.strip_prefix(word.as_bytes())?.strip_prefix(b" ")?;
        Some(ascii(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an option writes, in version 1 and version 2; `-` where the value is not accepted.
    fn written(option: &str, value: &str) -> [String; 2] {
        let limit = LIMITS.iter().find(|limit| limit.option == option).expect("an option");
        [false, true].map(|v2| {
            if !limit.accepts(value) {
                return String::from("-");
            }
            let writes = limit.writes(value, v2);
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
            ("--pids", "0", "0", "0"),
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
            ("cpuset.cpus", "0,1,2", "0-2\n"),
            ("cpuset.cpus", "all", "0-2\n"),
        ] {
            assert!(taken(file, written, read), "{file} {written} {read}");
        }
        for (file, written, read) in [
            ("memory.max", "100000", "100001\n"),
            ("memory.max", "100000", "4096\n"),
            ("memory.max", "100000", "max\n"),
            ("memory.limit_in_bytes", "-1", "4096\n"),
            ("pids.max", "10", "9\n"),
            ("cpuset.cpus.effective", "0-9", "0-1\n"),
            ("cpuset.cpus.effective", "0", "\n"),
        ] {
            assert!(!taken(file, written, read), "{file} {written} {read}");
        }
    }

    #[test]
    fn a_field_is_found_by_its_whole_word() {
        let text = b"oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(field(text, "oom_kill").as_deref(), Some("3"));
        assert_eq!(field(text, "oom"), None);
    }
}
