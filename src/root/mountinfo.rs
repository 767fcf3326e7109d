//! What is mounted, where, and whether shared: proc_pid_mountinfo(5).

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use syscalls::Errno;

use crate::say::error::Error;
use crate::say::number::decimal;
use crate::say::text::{lines, split};
use crate::sys::{self, Cx};

/// A line of mountinfo.
#[derive(Debug, Default, PartialEq)]
pub struct Mount {
    /// The mount id, which statx(2) also returns for a file.
    pub id: u64,
    /// The id of the mount that this one is mounted on; its own for the initramfs.
    pub parent: u64,
    /// The root of the mount within its file system.
    pub root: &'static [u8],
    /// The mount point, as seen from the root of the process.
    pub point: &'static [u8],
    /// The options of the mount: `rw,nosuid` …
    pub options: &'static [u8],
    /// Is it in a peer group, so that what is mounted below it is mounted for the others as well?
    pub shared: bool,
    /// Is it unbindable?
    pub unbindable: bool,
    /// The type of the file system.
    pub fstype: &'static [u8],
    /// The options of the file system.
    pub super_options: &'static [u8],
}

/// The mounts in a mountinfo file (`/proc/self/mountinfo`), in the order of the kernel: one that covers
/// another comes later.
pub fn list(cx: &Cx, mountinfo: &CStr) -> Result<Vec<Mount>, Error> {
    Ok(parse(sys::read_file(cx, None, mountinfo)?.leak()))
}

/// The mounts of this process, by [`sys::mountinfo`].
pub fn known(cx: &Cx) -> Result<Vec<Mount>, Error> {
    sys::mountinfo(cx).map(parse)
}

/// The mounts of this process; none where no proc is mounted.
pub fn list_if_any(cx: &Cx) -> Result<Vec<Mount>, Error> {
    match list(cx, c"/proc/self/mountinfo") {
        Err(e) if e.is(Errno::ENOENT) => Ok(Vec::new()),
        other => other,
    }
}

/// The mounts in a mountinfo file in the directory of a process.
pub fn list_in(cx: &Cx, process: BorrowedFd, mountinfo: &CStr) -> Result<Vec<Mount>, Error> {
    Ok(parse(sys::read_file(cx, Some(process), mountinfo)?.leak()))
}

/// Parse the text of a mountinfo file. A line that is not understood is left out.
pub fn parse(text: &'static [u8]) -> Vec<Mount> {
    let mut mounts = Vec::with_capacity(lines(text).count());
    for line in lines(text) {
        mounts.extend(parse_line(line));
    }
    mounts
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_line(line: &'static [u8]) -> Option<Mount> {
    let mut fields = split(line, b' ');
    let mut next = || fields.next();
    let [id, parent, _device, root, point, options] =
        [next()?, next()?, next()?, next()?, next()?, next()?];
    let (mut shared, mut unbindable) = (false, false);
    // Optional fields, as many as there are, up to a lone hyphen.
    for field in fields.by_ref().take_while(|field| *field != b"-") {
        shared |= field.starts_with(b"shared:");
        unbindable |= field == b"unbindable";
    }
    let [fstype, _source, super_options] = [fields.next()?, fields.next()?, fields.next()?];
    Some(Mount {
        id: decimal(id)?,
        parent: decimal(parent)?,
        root: unescape(root),
        point: unescape(point),
        options,
        shared,
        unbindable,
        fstype,
        super_options,
    })
}

/// A blank, a tab, a newline and a backslash stand in mountinfo as `\` and three octal digits.
pub fn unescape(text: &'static [u8]) -> &'static [u8] {
    if !text.contains(&b'\\') {
        return text;
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = |digits: &[u8]| {
            digits.iter().try_fold(0u8, |n, d| {
                (b'0'..=b'7').contains(d).then(|| n.wrapping_mul(8).wrapping_add(d - b'0'))
            })
        };
        match (byte, after.split_at_checked(3)) {
            (b'\\', Some((digits, behind))) if octal(digits).is_some() => {
                out.extend(octal(digits));
                rest = behind;
            }
            _ => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out.leak()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_line_with_and_without_optional_fields() {
        let text =
            b"36 35 98:0 /a /mnt\\0402 rw,noatime shared:7 master:1 - ext3 /dev/root rw,x=y\n\
                     27 1 254:0 / / rw - ext4 /dev/vda rw\n\
                     garbage\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 2);
        let first = mounts.first().expect("a first mount");
        assert_eq!((first.id, first.parent, first.shared), (36, 35, true));
        assert_eq!((first.root, first.point), (&b"/a"[..], &b"/mnt 2"[..]));
        assert_eq!((first.options, first.fstype), (&b"rw,noatime"[..], &b"ext3"[..]));
        assert_eq!(first.super_options, b"rw,x=y");
        assert!(mounts.get(1).is_some_and(|m| !m.shared && m.point == b"/"));
    }

    #[test]
    fn unescapes_octal_and_nothing_else() {
        assert_eq!(unescape(b"a\\134b\\011\\9"), b"a\\b\t\\9");
    }
}
