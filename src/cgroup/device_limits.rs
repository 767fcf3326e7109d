//! Limits that each are of one device (io.max), or of the pages of one size (hugetlb).

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;

use syscalls::Errno;

use crate::cgroup::amount::unlimited;
use crate::cgroup::hierarchies::Hierarchy;
use crate::cgroup::value::{FileValue, LimitOption, Value};
use crate::say::error::Error;
use crate::say::number::{decimal, parse_size};
use crate::say::show::{ascii, number, plain, unsigned};
use crate::say::text::{lines, pair, split};
use crate::sys::{self, Cx, cstring};

/// A limit of one device, or of the pages of one size.
pub enum DeviceLimit {
    /// So much a second of a block device. `None`: as much as it can.
    IoMax(Device, Vec<(&'static Rate, Option<u64>)>),
    /// Bytes of huge pages of one size, whose file is the first on version 1 and the second on version 2.
    HugePages([String; 2], Option<u64>),
}

/// A block device, as it was named.
pub enum Device {
    /// `MAJ:MIN`.
    Number(u64, u64),
    /// The path of its file.
    Path(CString),
}

const IO_MAX: LimitOption = LimitOption {
    option: "--io-max",
    accepts: "DEV,rbps=N,wbps=N,riops=N,wiops=N, at least one of them; DEV is MAJ:MIN or a path, N a SIZE or max",
};

/// What may be limited of a device.
#[derive(Debug)]
pub struct Rate {
    /// Its key in `io.max` of version 2.
    key: &'static str,
    /// Its file in version 1.
    v1: &'static str,
}

static RATES: [Rate; 4] = [
    Rate { key: "rbps", v1: "blkio.throttle.read_bps_device" },
    Rate { key: "wbps", v1: "blkio.throttle.write_bps_device" },
    Rate { key: "riops", v1: "blkio.throttle.read_iops_device" },
    Rate { key: "wiops", v1: "blkio.throttle.write_iops_device" },
];

const HUGETLB: LimitOption = LimitOption {
    option: "--hugetlb",
    accepts: "SIZE,LIMIT, such as 2M,64M: the page size, and a multiple of it or -1 for no limit",
};

impl DeviceLimit {
    /// From what was typed for `option`.
    pub fn parse(option: &str, typed: &str) -> Result<DeviceLimit, &'static LimitOption> {
        let both = pair(typed.as_bytes(), b',');
        let (asked, limit) = match option {
            "--io-max" => (&IO_MAX, both.and_then(|(device, pairs)| io_max(device, pairs))),
            _ => (&HUGETLB, both.and_then(|(size, limit)| huge_pages(size, limit))),
        };
        limit.ok_or(asked)
    }

    /// Whose limit it is, by its name on version 2.
    pub fn controller(&self) -> &'static [u8] {
        match self {
            DeviceLimit::IoMax(..) => b"io",
            DeviceLimit::HugePages(..) => b"hugetlb",
        }
    }

    /// What is written. A device is looked up by its path.
    pub fn writes<'a>(
        &'a self,
        cx: &Cx,
        hierarchy: &'a Hierarchy,
        writes: &mut Vec<FileValue<'a>>,
    ) -> Result<(), Error> {
        let controller = self.controller();
        match self {
            DeviceLimit::HugePages([v1, v2], limit) => {
                let file = if hierarchy.v2 { v2 } else { v1 }.as_bytes();
                let (value, asked) =
                    (limit.map_or(Value::Unlimited, Value::Number), Some(&HUGETLB));
                writes.push(FileValue {
                    hierarchy,
                    controller,
                    file,
                    value,
                    device: None,
                    asked,
                    taken: file,
                });
            }
            DeviceLimit::IoMax(device, rates) => {
                let device = device.number(cx)?.into_bytes();
                for (file, text) in texts(rates, hierarchy.v2) {
                    let value = Value::Text([&device, text.as_bytes()].concat());
                    let (file, device) = (file.as_bytes(), Some(device.clone()));
                    // The kernel takes them as they are.
                    let (asked, taken) = (Some(&IO_MAX), &b""[..]);
                    writes.push(FileValue {
                        hierarchy,
                        controller,
                        file,
                        value,
                        device,
                        asked,
                        taken,
                    });
                }
            }
        }
        Ok(())
    }
}

/// The files of rates, each with what is written after the number of the device.
fn texts(rates: &[(&Rate, Option<u64>)], v2: bool) -> Vec<(&'static str, String)> {
    let (mut files, mut all) = (Vec::new(), String::new());
    for (Rate { key, v1 }, most) in rates {
        if v2 {
            all.extend([" ", key, "=", &most.map_or("max".into(), number)]);
        } else {
            files.push((*v1, [" ", &number(most.unwrap_or(0))].concat()));
        }
    }
    if v2 { vec![("io.max", all)] } else { files }
}

fn io_max(device: &[u8], pairs: &[u8]) -> Option<DeviceLimit> {
    let mut rates = Vec::new();
    for field in split(pairs, b',') {
        let (key, value) = pair(field, b'=')?;
        let rate = RATES.iter().find(|rate| rate.key.as_bytes() == key)?;
        let most = match value {
            b"max" => None,
            value => Some(parse_size(&ascii(value)).filter(|n| *n > 0)?),
        };
        rates.push((rate, most));
    }
    let (major, minor) = pair(device, b':').unwrap_or_default();
    let device = match (decimal(major), decimal(minor)) {
        (Some(major), Some(minor)) => Device::Number(major, minor),
        _ => Device::Path(cstring(device)),
    };
    Some(DeviceLimit::IoMax(device, rates))
}

fn huge_pages(size: &[u8], limit: &[u8]) -> Option<DeviceLimit> {
    let (size, limit) = (parse_size(&ascii(size))?, ascii(limit));
    let limit = match unlimited(&limit) {
        true => None,
        false => Some(parse_size(&limit).filter(|n| n.checked_rem(size) == Some(0))?),
    };
    // The kernel's names for sizes of pages.
    let (shift, unit) = *[(30, "GB"), (20, "MB"), (10, "KB")].iter().find(|u| size >> u.0 > 0)?;
    let file = |end| ["hugetlb.", &number(size >> shift), unit, end].concat();
    Some(DeviceLimit::HugePages([file(".limit_in_bytes"), file(".max")], limit))
}

impl Device {
    /// `MAJ:MIN`.
    fn number(&self, cx: &Cx) -> Result<String, Error> {
        let (major, minor) = match self {
            Device::Number(major, minor) => (*major, *minor),
            Device::Path(path) => {
                let stat = sys::statx(cx, None, path, 0)?;
                if stat.file_type() != libc::S_IFBLK {
                    let path = plain(path.to_bytes());
                    return Err(Error::refusal(format_args!("{path} is not a block device")));
                }
                (stat.rdev_major.into(), stat.rdev_minor.into())
            }
        };
        let mut text = number(major);
        unsigned(":", minor, &mut text);
        Ok(text)
    }
}

/// The device in what is written for one, or is read of one.
pub fn device_of(value: &[u8]) -> &[u8] {
    pair(value, b' ').unwrap_or((value, b"")).0
}

/// Why the kernel does not know this device: look at the devices that it has.
pub fn why_no_device(cx: &Cx, device: &[u8], error: Error) -> Error {
    let _looking = cx.looking();
    let device = ascii(device);
    let path = ["/sys/dev/block/", &device].concat();
    match sys::statx(cx, None, &cstring(path.as_str()), 0) {
        Err(e) if e.is(Errno::ENOENT) => {
            error.because(format_args!("block device {device} does not exist"))
        }
        Ok(_) if sys::statx(cx, None, &cstring(path + "/partition"), 0).is_ok() => {
            error.because(format_args!("{device} is a partition; limits apply to whole disks"))
        }
        _ => error,
    }
}

/// What gives a file its value back that was read from it. In a file with a line for each device that is the line of
/// the one that was written to, or one that takes its limits away.
pub fn to_write_back(file: &[u8], device: Option<&[u8]>, read: Vec<u8>) -> Vec<u8> {
    let Some(device) = device else { return read };
    let unlimited: &[u8] = match file {
        b"io.max" => b" rbps=max wbps=max riops=max wiops=max",
        _ if file.starts_with(b"blkio.throttle.") => b" 0",
        _ => return read,
    };
    let line = lines(&read).find(|line| device_of(line) == device);
    line.map_or_else(|| [device, unlimited].concat(), |line| line.to_vec())
}

/// The files of a cgroup that are as `file`, a limit of huge pages: ` hugetlb.2MB.max hugetlb.1GB.max`.
pub fn alike(cx: &Cx, cgroup: &CStr, file: &[u8]) -> String {
    let end = split(file, b'.').next_back().unwrap_or_default();
    let mut names = String::new();
    let directory = sys::openat(cx, None, cgroup, libc::O_RDONLY | libc::O_DIRECTORY);
    let read = directory.and_then(|directory| {
        sys::for_each_entry(cx, directory.as_fd(), &mut |name, _| {
            let name = name.to_bytes();
            // Those of a reservation, such as hugetlb.2MB.rsvd.max, have a word more.
            if name.starts_with(b"hugetlb.")
                && name.ends_with(end)
                && split(name, b'.').count() == 3
            {
                names.extend([" ", &ascii(name)]);
            }
            Ok(())
        })
    });
    if read.is_ok() { names } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written in version 1 and in version 2, `FILE=VALUE` each.
    fn written(option: &str, typed: &str) -> Option<[Vec<String>; 2]> {
        let limit = DeviceLimit::parse(option, typed).ok()?;
        Some([false, true].map(|v2| match &limit {
            DeviceLimit::IoMax(_, rates) => {
                let texts = texts(rates, v2).into_iter();
                texts.map(|(file, text)| format!("{file}={text}")).collect()
            }
            DeviceLimit::HugePages(files, limit) => {
                let none = if v2 { "max" } else { "-1" };
                let value = limit.map_or(none.to_string(), number);
                vec![format!("{}={value}", files[usize::from(v2)])]
            }
        }))
    }

    #[test]
    fn a_limit_of_a_device_is_a_file_for_each_in_version_1_and_one_in_version_2() {
        let [v1, v2] = written("--io-max", "8:0,rbps=1m,wiops=max").expect("accepted");
        let expected =
            ["blkio.throttle.read_bps_device= 1048576", "blkio.throttle.write_iops_device= 0"];
        assert_eq!(v1, expected);
        assert_eq!(v2, ["io.max= rbps=1048576 wiops=max"]);
        for typed in ["", "8:0", "8:0,", "8:0,rbps", "8:0,rbps=0", "8:0,x=1", "8:0,rbps=-2"] {
            assert_eq!(written("--io-max", typed), None, "{typed}");
        }
    }

    #[test]
    fn pages_of_a_size_have_files_of_that_name() {
        for (typed, size, v1, v2) in [
            ("2M,64M", "2MB", "67108864", "67108864"),
            ("2048k,-1", "2MB", "-1", "max"),
            ("1g,0", "1GB", "0", "0"),
            ("64k,64k", "64KB", "65536", "65536"),
        ] {
            let expected =
                [format!("hugetlb.{size}.limit_in_bytes={v1}"), format!("hugetlb.{size}.max={v2}")];
            assert_eq!(
                written("--hugetlb", typed),
                Some(expected.map(|file| vec![file])),
                "{typed}"
            );
        }
        for typed in ["", "2M", "2M,", "2M,1M", "0,0", "x,1", "512,512"] {
            assert_eq!(written("--hugetlb", typed), None, "{typed}");
        }
    }

    #[test]
    fn what_is_written_back_is_the_line_of_the_device() {
        let back = |file: &str, device: Option<&str>, read: &str| {
            let back = to_write_back(file.as_bytes(), device.map(str::as_bytes), read.into());
            String::from_utf8(back).expect("text")
        };
        let read = "8:16 rbps=1 wbps=max\n8:1 rbps=2 wbps=max\n";
        assert_eq!(back("io.max", Some("8:1"), read), "8:1 rbps=2 wbps=max");
        assert_eq!(back("io.max", Some("8:0"), read), "8:0 rbps=max wbps=max riops=max wiops=max");
        assert_eq!(back("blkio.throttle.read_bps_device", Some("8:0"), "8:0 7\n"), "8:0 7");
        assert_eq!(back("blkio.throttle.read_bps_device", Some("8:0"), ""), "8:0 0");
        assert_eq!(back("pids.max", None, "max\n"), "max\n");
    }
}
