//! Why the kernel makes no new file system: of a type, from a device, or a proc.

use std::ffi::CStr;
use std::os::fd::AsFd;

use syscalls::Errno;

use crate::ids::user_namespace;
use crate::root::mountinfo;
use crate::root::mounts::{self, Parameter};
use crate::root::namespaced::why_no_view;
use crate::root::why_no_path::why_unreachable;
use crate::say::error::Error;
use crate::say::number::id;
use crate::say::show::{number, plain, unsigned};
use crate::say::text::{lines, split};
use crate::sys::{self, Cx, cstring};

/// The bytes by which a file system is known, and where they stand on its device: blkid(8) knows more.
const MARKS: [(&str, usize, &[u8]); 9] = [
    ("ext4", 1080, b"\x53\xEF"), // ext2 and ext3 too
    ("squashfs", 0, b"hsqs"),
    ("xfs", 0, b"XFSB"),
    ("btrfs", 0x10040, b"_BHRfS_M"),
    ("erofs", 1024, b"\xE2\xE1\xF5\xE0"),
    ("vfat", 82, b"FAT32   "),
    ("vfat", 54, b"FAT16   "),
    ("vfat", 54, b"FAT12   "),
    ("iso9660", 0x8001, b"CD001"),
];
/// They all stand in the first so many bytes.
const MARKED: usize = 0x10048;

/// fsconfig(2) takes a key and a value of so many bytes each.
const LONGEST: usize = 255;

/// Why there is no file system of type `fstype` with `options` on a mount with `attr` (MOUNT_ATTR_*). Its source may be
/// a device.
pub fn why(cx: &Cx, fstype: &CStr, options: &[Parameter], attr: u64, error: Error) -> Error {
    let _looking = cx.looking();
    if let Some(why) = unmapped(cx, options, &error) {
        return error.because(why).way_out("leave it out, or use an id that is mapped");
    }
    let is_long = |text: &CStr| text.count_bytes() > LONGEST;
    if options.iter().any(|(key, value)| is_long(key) || value.is_some_and(is_long)) {
        return error.because("an option or SRC may have at most 255 bytes");
    }
    let source = options.iter().find(|(key, _)| *key == c"source");
    let source = source.and_then(|(_, value)| *value).unwrap_or_default();
    let known = sys::read_file(cx, None, c"/proc/filesystems");
    let shown = plain(fstype.to_bytes());
    let is_of_device = match known.map(|text| takes_device(&text, fstype)) {
        Ok(None) if error.is(Errno::ENODEV) => {
            return error
                .because(["this kernel does not know the file system type ", &shown].concat())
                .way_out(["if it is a module: modprobe ", &shown].concat());
        }
        Ok(known) => known == Some(true),
        // Without /proc: ENODEV is of the type.
        Err(_) => source.to_bytes().starts_with(b"/") && !error.is(Errno::ENODEV),
    };
    match is_of_device {
        true => why_not_of(cx, &shown, source, error),
        false => why_no_view(cx, fstype, options, attr, error),
    }
}

/// Which id of the options has no id in this user namespace, if that is what the kernel has refused: it tells at once,
/// or before Linux 6.6 only when it creates the file system.
fn unmapped(cx: &Cx, options: &[Parameter], error: &Error) -> Option<String> {
    if !error.is(Errno::EINVAL) || user_namespace::is_initial(cx) {
        return None;
    }
    [("uid", c"/proc/self/uid_map"), ("gid", c"/proc/self/gid_map")].iter().find_map(
        |(key, map)| {
            let is_refused = match error.what().contains("FSCONFIG_SET") {
                true => error.what().contains(&["\"", key, "\""].concat()),
                false => true,
            };
            let (_, value) = options.iter().find(|(k, _)| k.to_bytes() == key.as_bytes())?;
            let id = id(value.filter(|_| is_refused)?.to_bytes())?;
            let map = sys::read_file(cx, None, map).ok()?;
            let why =
                || [key, " ", &number(id.into()), " is not mapped in this user namespace"].concat();
            (!user_namespace::is_mapped(&map, id)).then(why)
        },
    )
}

/// Does a file system take a device? The lines of `/proc/filesystems` are `nodev` or nothing, a tab, and a
/// type. `None`: the kernel does not know it.
fn takes_device(known: &[u8], fstype: &CStr) -> Option<bool> {
    let mut lines = lines(known).map(|line| split(line, b'\t'));
    lines.find_map(|mut line| {
        let first = line.next()?;
        (line.next()? == fstype.to_bytes()).then_some(first.is_empty())
    })
}

/// Why there is no file system `fstype` of the device `source`: look at it.
fn why_not_of(cx: &Cx, fstype: &str, source: &CStr, error: Error) -> Error {
    let _looking = cx.looking();
    if error.is(Errno::EPERM) {
        return match user_namespace::is_initial(cx) {
            true => mounts::why(cx, error),
            false => error.because("a user namespace cannot mount a file system from a device"),
        };
    }
    let shown = plain(source.to_bytes());
    let stat = match sys::statx(cx, None, source, 0) {
        Ok(stat) => stat,
        Err(looked) => return error.because(why_unreachable(cx, source, &looked)),
    };
    if stat.file_type() != libc::S_IFBLK {
        let error = error.because([&shown, " is not a block device"].concat());
        return match stat.file_type() {
            libc::S_IFREG => error.way_out(["losetup --find --show ", &shown].concat()),
            _ => error,
        };
    }
    let mut number = String::new();
    unsigned("", stat.rdev_major.into(), &mut number);
    unsigned(":", stat.rdev_minor.into(), &mut number);
    match error.errno() {
        Some(Errno::EACCES) if is_read_only(cx, &number) => error
            .because([&shown, " is read-only"].concat())
            .way_out("mount it read-only: --options ro"),
        Some(Errno::EBUSY) => why_in_use(cx, source, &number, error),
        Some(Errno::EINVAL) => match mark(cx, source) {
            Err(_) => error,
            Ok(Some(there)) if is_kind_of(there, fstype) => error,
            Ok(Some(there)) => {
                error.because([&shown, " holds another file system: ", there].concat())
            }
            Ok(None) if MARKS.iter().any(|(known, ..)| is_kind_of(known, fstype)) => {
                error.because([&shown, " holds no file system of type ", fstype].concat())
            }
            Ok(None) => error,
        },
        _ => error,
    }
}

/// Can a block device not be written to? `number` is `MAJOR:MINOR`.
fn is_read_only(cx: &Cx, number: &str) -> bool {
    let file = cstring(["/sys/dev/block/", number, "/ro"].concat());
    sys::read_file(cx, None, &file).is_ok_and(|text| text.starts_with(b"1"))
}

/// Who uses a device: a visible mount, or another user with exclusive access.
fn why_in_use(cx: &Cx, source: &CStr, number: &str, error: Error) -> Error {
    let _looking = cx.looking();
    let shown = plain(source.to_bytes());
    let Ok(text) = sys::read_file(cx, None, c"/proc/self/mountinfo") else { return error };
    let mut lines = lines(text.leak());
    let is_of = |line: &&[u8]| split(line, b' ').nth(2) == Some(number.as_bytes());
    if let Some(mount) = lines.find(is_of).and_then(|line| mountinfo::parse(line).pop()) {
        let (point, fstype) = (plain(mount.point), plain(mount.fstype));
        let how = if mount.super_options.starts_with(b"ro") { ", ro" } else { ", rw" };
        return error
            .because([&shown, " is mounted on ", &point, ": ", &fstype, how].concat())
            .way_out("a second mount needs the same type, and the same of ro and rw");
    }
    let alone = sys::openat(cx, None, source, libc::O_RDONLY | libc::O_EXCL);
    match alone.is_err_and(|e| e.is(Errno::EBUSY)) {
        true => error.because(
            [&shown, " is in use: by a mount elsewhere, as swap, or for a mapping"].concat(),
        ),
        false => error,
    }
}

/// The file system whose mark a device has.
fn mark(cx: &Cx, source: &CStr) -> Result<Option<&'static str>, Error> {
    let file = sys::openat(cx, None, source, libc::O_RDONLY)?;
    let mut bytes = vec![0; MARKED];
    let n = sys::read(cx, file.as_fd(), &mut bytes)?;
    bytes.truncate(n);
    let has = |at: usize, mark| bytes.get(at..).is_some_and(|rest| rest.starts_with(mark));
    Ok(MARKS.iter().find(|(_, at, mark)| has(*at, mark)).map(|(name, ..)| *name))
}

/// Has a file system of type `fstype` the mark of `name`? Three have one.
fn is_kind_of(name: &str, fstype: &str) -> bool {
    name == fstype || name == "ext4" && matches!(fstype, "ext2" | "ext3")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_known_with_or_without_a_device() {
        let known = b"nodev\ttmpfs\n\text4\nnodev\tcgroup2\n";
        assert_eq!(takes_device(known, c"ext4"), Some(true));
        assert_eq!(takes_device(known, c"tmpfs"), Some(false));
        assert_eq!(takes_device(known, c"cgroup"), None);
        assert_eq!(takes_device(b"", c""), None);
    }

    #[test]
    fn every_mark_stands_in_what_is_read() {
        assert!(MARKS.iter().all(|(_, at, mark)| at + mark.len() <= MARKED));
    }
}
