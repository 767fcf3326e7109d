//! Limits that each are of one device, or of the pages of one size.

use std::ffi::CStr;
use std::os::fd::AsFd;

use syscalls::Errno;

use crate::cgroup::Hierarchy;
use crate::cgroup::limits::{Asked, unlimited};
use crate::cgroup::make::Write;
use crate::say::error::Error;
use crate::say::number::{decimal, parse_size};
use crate::say::show::{ascii, number, plain, unsigned};
use crate::say::text::{lines, pair, split};
use crate::sys::{self, Cx, cstring};

/// A limit of one device, or of the pages of one size.
pub struct DeviceLimit {
    asked: &'static Asked,
    typed: String,
}

const IO_MAX: Asked = Asked {
    option: "--io-max",
    accepts: "DEV,rbps=N,wbps=N,riops=N,wiops=N: MAJ:MIN or a block device, and one N at least, a SIZE or max",
};

/// What may be limited of a device, and in which file of version 1.
const IO: [(&[u8], &str); 4] = [
    (b"rbps", "blkio.throttle.read_bps_device"),
    (b"wbps", "blkio.throttle.write_bps_device"),
    (b"riops", "blkio.throttle.read_iops_device"),
    (b"wiops", "blkio.throttle.write_iops_device"),
];

const HUGETLB: Asked = Asked {
    option: "--hugetlb",
    accepts: "SIZE,LIMIT, as 2M,64M: the size of a page, and a multiple of it, or -1 for no limit",
};

impl DeviceLimit {
    /// From what was typed for `option`.
    pub fn parse(option: &str, typed: String) -> Result<DeviceLimit, &'static Asked> {
        let asked = if option == IO_MAX.option { &IO_MAX } else { &HUGETLB };
        let limit = DeviceLimit { asked, typed };
        if limit.files(false).is_some() { Ok(limit) } else { Err(asked) }
    }

    /// Whose limit it is, by its name on version 2.
    pub fn controller(&self) -> &'static [u8] {
        if self.asked.option == IO_MAX.option { b"io" } else { b"hugetlb" }
    }

    /// The files, each with its value, without the number of the device before that. `None`: what was typed is not
    /// accepted.
    fn files(&self, v2: bool) -> Option<Vec<(String, String)>> {
        let (first, rest) = pair(self.typed.as_bytes(), b',')?;
        if self.controller() == b"io" { io_max(rest, v2) } else { hugetlb(first, rest, v2) }
    }

    /// What is written. A device is looked up by its path.
    pub fn writes<'a>(
        &self,
        cx: &Cx,
        hierarchy: &'a Hierarchy,
        writes: &mut Vec<Write<'a>>,
    ) -> Result<(), Error> {
        let controller = self.controller();
        let of_device = controller == b"io";
        let number = if of_device { device_number(cx, &self.typed)? } else { String::new() };
        for (file, value) in self.files(hierarchy.v2).unwrap_or_default() {
            let file = file.leak().as_bytes();
            // Those of devices are in one file, and the kernel takes them as they are.
            let taken = if of_device { &[] } else { file as &[u8] };
            let value = [number.as_bytes(), value.as_bytes()].concat();
            let asked = Some(self.asked);
            writes.push(Write { hierarchy, controller, file, value, asked, taken });
        }
        Ok(())
    }
}

fn io_max(pairs: &[u8], v2: bool) -> Option<Vec<(String, String)>> {
    let (mut files, mut all) = (Vec::new(), String::new());
    for field in split(pairs, b',') {
        let (key, value) = pair(field, b'=')?;
        let (_, file) = IO.iter().find(|(known, _)| *known == key)?;
        let most =
            if value == b"max" { 0 } else { parse_size(&ascii(value)).filter(|n| *n > 0)? };
        let n = number(most);
        all.extend([" ", &ascii(key), "=", if most == 0 { "max" } else { &n }]);
        files.push((String::from(*file), [" ", &n].concat()));
    }
    Some(if v2 { vec![("io.max".into(), all)] } else { files })
}

fn hugetlb(size: &[u8], limit: &[u8], v2: bool) -> Option<Vec<(String, String)>> {
    let (size, limit) = (parse_size(&ascii(size))?, ascii(limit));
    let (file, none) = if v2 { (".max", "max") } else { (".limit_in_bytes", "-1") };
    let value = match unlimited(&limit) {
        true => none.into(),
        false => parse_size(&limit).filter(|n| n.checked_rem(size) == Some(0)).map(number)?,
    };
    // The kernel's names for sizes of pages.
    let (shift, unit) = *[(30, "GB"), (20, "MB"), (10, "KB")].iter().find(|u| size >> u.0 > 0)?;
    Some(vec![(["hugetlb.", &number(size >> shift), unit, file].concat(), value)])
}

/// `MAJ:MIN` of the block device that was typed.
fn device_number(cx: &Cx, typed: &str) -> Result<String, Error> {
    let device = pair(typed.as_bytes(), b',').unwrap_or_default().0;
    let numbers = pair(device, b':').unwrap_or_default();
    if decimal(numbers.0).is_some() && decimal(numbers.1).is_some() {
        return Ok(ascii(device));
    }
    let stat = sys::statx(cx, None, &cstring(device), 0)?;
    if stat.file_type() != libc::S_IFBLK {
        return Err(Error::refusal(format_args!("{} is no block device", plain(device))));
    }
    let mut number = number(stat.rdev_major.into());
    unsigned(":", stat.rdev_minor.into(), &mut number);
    Ok(number)
}

/// The device in what is written for one.
fn device_of(value: &[u8]) -> &[u8] {
    pair(value, b' ').unwrap_or((value, b"")).0
}

/// Why the kernel knows no such device: look at what it has.
pub fn why_no_device(cx: &Cx, value: &[u8], error: Error) -> Error {
    let device = ascii(device_of(value));
    let path = ["/sys/dev/block/", &device].concat();
    match sys::statx(cx, None, &cstring(path.as_str()), 0) {
        Err(e) if e.is(Errno::ENOENT) => {
            error.because(format_args!("there is no block device {device}"))
        }
        Ok(_) if sys::statx(cx, None, &cstring(path + "/partition"), 0).is_ok() => {
            error.because(format_args!("{device} is a partition, and the limit is one of its disk"))
        }
        _ => error,
    }
}

/// What gives a file its value back that was read from it. In a file with a line for each device that is the line of
/// the one that `value` was written for, or one that takes its limits away.
pub fn to_write_back(file: &[u8], value: &[u8], read: Vec<u8>) -> Vec<u8> {
    let unlimited: &[u8] = match file {
        b"io.max" => b" rbps=max wbps=max riops=max wiops=max",
        _ if file.starts_with(b"blkio.throttle.") => b" 0",
        _ => return read,
    };
    let device = device_of(value);
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
        let limit = DeviceLimit::parse(option, typed.into()).ok()?;
        Some([false, true].map(|v2| {
            let files = limit.files(v2).expect("it was accepted");
            files.iter().map(|(file, value)| format!("{file}={value}")).collect()
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
        let back = |file: &str, value: &str, read: &str| {
            let back = to_write_back(file.as_bytes(), value.as_bytes(), read.into());
            String::from_utf8(back).expect("text")
        };
        let read = "8:16 rbps=1 wbps=max\n8:1 rbps=2 wbps=max\n";
        assert_eq!(back("io.max", "8:1 rbps=9", read), "8:1 rbps=2 wbps=max");
        assert_eq!(back("io.max", "8:0 rbps=9", read), "8:0 rbps=max wbps=max riops=max wiops=max");
        assert_eq!(back("blkio.throttle.read_bps_device", "8:0 9", "8:0 7\n"), "8:0 7");
        assert_eq!(back("blkio.throttle.read_bps_device", "8:0 9", ""), "8:0 0");
        assert_eq!(back("pids.max", "9", "max\n"), "max\n");
    }
}
