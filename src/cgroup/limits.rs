//! Limits of a cgroup: for each option its controller, how much may be typed, and its files in version 1 and version 2.

use crate::cgroup::amount::{self, Amount, Parse};
use crate::cgroup::hierarchies::Hierarchy;
use crate::cgroup::value::{FileValue, LimitOption};

/// A limit that has an option of its own.
pub struct Limit {
    /// The option.
    pub asked: LimitOption,
    /// Whose limit it is.
    pub controller: &'static str,
    /// How much was typed for it.
    pub parse: Parse,
    /// The files of version 1, in the order in which they are written.
    pub v1: &'static [File],
    /// The files of version 2.
    pub v2: &'static [File],
}

/// A file of a limit.
pub struct File {
    /// Its name.
    pub name: &'static str,
    /// Where it is seen what the kernel took of it; empty: it takes all or nothing.
    pub taken: &'static str,
}

/// Memory and swap together, on version 1.
pub const MEMSW: &[u8] = b"memory.memsw.limit_in_bytes";
/// Microseconds a period, on version 1.
pub const QUOTA: &[u8] = b"cpu.cfs_quota_us";
/// That period, in microseconds.
pub const PERIOD: &[u8] = b"cpu.cfs_period_us";

const fn file(name: &'static str) -> File {
    File { name, taken: name }
}

/// Every limit, in the order in which they are written.
pub static LIMITS: &[Limit] = &[
    Limit {
        asked: LimitOption {
            option: "--memory",
            accepts: "a SIZE from 64k to 8388607t, or -1 for no limit",
        },
        controller: "memory",
        parse: amount::bytes,
        v1: &[file("memory.limit_in_bytes")],
        v2: &[file("memory.max")],
    },
    Limit {
        asked: LimitOption {
            option: "--memory-swap",
            accepts: "a SIZE for memory and swap together, at least --memory, or -1 for no limit",
        },
        controller: "memory",
        parse: amount::memory_and_swap,
        v1: &[file("memory.memsw.limit_in_bytes")],
        v2: &[file("memory.swap.max")],
    },
    Limit {
        asked: LimitOption {
            option: "--memory-high",
            accepts: "a SIZE from 64k to 8388607t, or -1 for no limit",
        },
        controller: "memory",
        parse: amount::bytes,
        v1: &[],
        v2: &[file("memory.high")],
    },
    Limit {
        asked: LimitOption {
            option: "--memory-low",
            accepts: "a SIZE from 64k to 8388607t, 0, or -1 for all",
        },
        controller: "memory",
        parse: amount::bytes_or_zero,
        v1: &[],
        v2: &[file("memory.low")],
    },
    Limit {
        asked: LimitOption {
            option: "--cpus",
            accepts: "a number from 0.01 to 100000, or -1 for no limit",
        },
        controller: "cpu",
        parse: amount::quota,
        v1: &[file("cpu.cfs_period_us"), file("cpu.cfs_quota_us")],
        v2: &[file("cpu.max")],
    },
    Limit {
        asked: LimitOption { option: "--cpu-shares", accepts: "a number from 2 to 262144" },
        controller: "cpu",
        parse: amount::shares,
        v1: &[file("cpu.shares")],
        v2: &[file("cpu.weight")],
    },
    Limit {
        asked: LimitOption { option: "--cpu-weight", accepts: "a number from 1 to 10000" },
        controller: "cpu",
        parse: amount::weight_of_version_2,
        v1: &[],
        v2: &[file("cpu.weight")],
    },
    Limit {
        asked: LimitOption {
            option: "--cpuset-cpus",
            accepts: "a list of existing processors, such as 0-3,8",
        },
        controller: "cpuset",
        parse: amount::list,
        // Version 1 refuses processors that the parent does not have.
        v1: &[File { name: "cpuset.cpus", taken: "" }],
        // Version 2 takes them, and goes without them.
        v2: &[File { name: "cpuset.cpus", taken: "cpuset.cpus.effective" }],
    },
    Limit {
        asked: LimitOption {
            option: "--cpuset-mems",
            accepts: "a list of existing memory nodes, such as 0-1",
        },
        controller: "cpuset",
        parse: amount::list,
        v1: &[File { name: "cpuset.mems", taken: "" }],
        v2: &[File { name: "cpuset.mems", taken: "cpuset.mems.effective" }],
    },
    Limit {
        asked: LimitOption {
            option: "--pids",
            accepts: "a number from 1 to 4194304, or 0 or -1 for no limit",
        },
        controller: "pids",
        parse: amount::processes,
        v1: &[file("pids.max")],
        v2: &[file("pids.max")],
    },
];

impl Limit {
    /// The files in which it is written.
    pub fn files(&self, v2: bool) -> &'static [File] {
        if v2 { self.v2 } else { self.v1 }
    }

    /// What is written.
    pub fn writes<'a>(
        &'static self,
        amount: &Amount,
        hierarchy: &'a Hierarchy,
        writes: &mut Vec<FileValue<'a>>,
    ) {
        for (file, value) in self.files(hierarchy.v2).iter().zip(amount.values(hierarchy.v2)) {
            writes.push(FileValue {
                hierarchy,
                controller: self.controller.as_bytes(),
                file: file.name.as_bytes(),
                value,
                device: None,
                asked: Some(&self.asked),
                taken: file.taken.as_bytes(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an option writes, in version 1 and version 2; `-` where the value is not accepted. For --memory-swap the
    /// value of --memory follows a blank.
    fn written(option: &str, value: &str) -> [String; 2] {
        let limit = LIMITS.iter().find(|limit| limit.asked.option == option).expect("an option");
        let (value, memory) = value.split_once(' ').unwrap_or((value, ""));
        let memory = amount::bytes(memory, None);
        let Some(amount) = (limit.parse)(value, memory.as_ref()) else {
            return ["-".into(), "-".into()];
        };
        [false, true].map(|v2| {
            let hierarchy = Hierarchy { v2, ..Hierarchy::default() };
            let mut writes = Vec::new();
            limit.writes(&amount, &hierarchy, &mut writes);
            let values = writes.iter().map(|write| String::from_utf8(write.text()).expect("text"));
            values.collect::<Vec<_>>().join(",")
        })
    }

    #[test]
    fn an_amount_has_a_value_for_each_file() {
        let memory = Amount::Bytes(Some(1024));
        for (limit, v2) in LIMITS.iter().flat_map(|limit| [(limit, false), (limit, true)]) {
            let mut parsed =
                ["-1", "1", "2", "64k"].iter().filter_map(|v| (limit.parse)(v, Some(&memory)));
            let amount = parsed.next().expect("one of them is accepted");
            let files = limit.files(v2).len();
            assert!(files == 0 || files == amount.values(v2).len(), "{}", limit.asked.option);
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
}
