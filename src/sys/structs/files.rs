//! Structures of files: their paths, attributes, file systems, names and locks.

use std::ffi::CStr;

use crate::say::flags;
use crate::say::show::{Show, bits, hexadecimal, octal, signed, unsigned};

/// `struct open_how`: openat2(2).
#[repr(C)]
pub struct OpenHow {
    pub flags: u64,
    pub mode: u64,
    pub resolve: u64,
}

impl Show for OpenHow {
    fn show(&self, out: &mut String) {
        out.push_str("{flags=");
        crate::say::show::open_flags(self.flags, out);
        out.push_str(", resolve=");
        bits(self.resolve, flags::RESOLVE, out);
        out.push('}');
    }
}

/// `struct statx_timestamp`.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq)]
pub struct StatxTime {
    pub sec: i64,
    pub nsec: u32,
    pad: i32,
}

/// `struct statx`: statx(2).
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Statx {
    pub mask: u32,
    pub blksize: u32,
    pub attributes: u64,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub mode: u16,
    pad: u16,
    pub ino: u64,
    pub size: u64,
    pub blocks: u64,
    pub attributes_mask: u64,
    pub times: [StatxTime; 4],
    pub rdev_major: u32,
    pub rdev_minor: u32,
    pub dev_major: u32,
    pub dev_minor: u32,
    pub mnt_id: u64,
    spare: [u64; 13],
}

impl Statx {
    /// The file type alone: `libc::S_IFDIR` …
    pub fn file_type(&self) -> u32 {
        u32::from(self.mode) & libc::S_IFMT
    }

    /// Is it a directory?
    pub fn is_dir(&self) -> bool {
        self.file_type() == libc::S_IFDIR
    }

    /// The permission bits, with set-user-id and its kin.
    pub fn permissions(&self) -> u32 {
        u32::from(self.mode) & 0o7777
    }

    /// Is it the root of a mount?
    pub fn is_mount_root(&self) -> bool {
        self.attributes & libc::STATX_ATTR_MOUNT_ROOT as u64 != 0
    }

    /// Is it the same file, whichever path led to it?
    pub fn same_file(&self, other: &Statx) -> bool {
        self.id() == other.id()
    }

    /// What no other file has.
    pub fn id(&self) -> FileId {
        (self.dev_major, self.dev_minor, self.ino)
    }
}

/// A device, and an inode there.
pub type FileId = (u32, u32, u64);

impl Show for Statx {
    fn show(&self, out: &mut String) {
        out.push_str("{stx_mask=");
        bits(self.mask.into(), flags::STATX, out);
        out.push_str(", stx_attributes=");
        bits(self.attributes, flags::STATX_ATTR, out);
        out.push_str(", stx_mode=");
        crate::say::show::name(self.file_type().into(), flags::FILE_TYPE, out);
        octal("|", self.permissions(), out);
        unsigned(", stx_size=", self.size, out);
        out.push_str(", ...}");
    }
}

/// `struct statfs`: statfs(2).
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct StatFs {
    /// Which file system: `libc::TMPFS_MAGIC` …
    pub f_type: i64,
    f_bsize: i64,
    f_blocks: u64,
    f_bfree: u64,
    f_bavail: u64,
    f_files: u64,
    f_ffree: u64,
    f_fsid: [u32; 2],
    f_namelen: i64,
    f_frsize: i64,
    /// `ST_RDONLY` …
    pub f_flags: i64,
    spare: [i64; 4],
}

impl StatFs {
    /// Is no block left, or no inode? A file system that does not count them has none in all.
    pub fn is_full(&self) -> bool {
        self.has_no_block() || self.has_no_inode()
    }

    /// Is no block left for an ordinary user?
    pub fn has_no_block(&self) -> bool {
        self.f_bavail == 0 && self.f_blocks > 0
    }

    /// Is no inode left?
    pub fn has_no_inode(&self) -> bool {
        self.f_ffree == 0 && self.f_files > 0
    }
}

impl Show for StatFs {
    fn show(&self, out: &mut String) {
        // The numbers, where strace has names: the tables of those would be in every program.
        hexadecimal("{f_type=", self.f_type as u64, out);
        signed(", f_bsize=", self.f_bsize, out);
        unsigned(", f_blocks=", self.f_blocks, out);
        unsigned(", f_bfree=", self.f_bfree, out);
        unsigned(", f_bavail=", self.f_bavail, out);
        unsigned(", f_files=", self.f_files, out);
        unsigned(", f_ffree=", self.f_ffree, out);
        hexadecimal(", f_fsid={val=[", self.f_fsid[0].into(), out);
        hexadecimal(", ", self.f_fsid[1].into(), out);
        signed("]}, f_namelen=", self.f_namelen, out);
        signed(", f_frsize=", self.f_frsize, out);
        hexadecimal(", f_flags=", self.f_flags as u64, out);
        out.push('}');
    }
}

/// The names and types in what getdents64(2) wrote: `struct linux_dirent64` after another.
pub fn entries(bytes: &[u8]) -> impl Iterator<Item = (&CStr, u8)> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        // d_ino and d_off have 8 bytes each, then d_reclen 2, d_type 1, and the name.
        let reclen = u16::from_ne_bytes(rest.get(16..18)?.try_into().ok()?);
        let (entry, after) = rest.split_at_checked(reclen.into())?;
        rest = after;
        Some((CStr::from_bytes_until_nul(entry.get(19..)?).ok()?, *entry.get(18)?))
    })
}

/// `struct flock`: fcntl(2). A lock on the bytes of a file from `start` on; `len` 0: to its end, however
/// far that moves.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Flock {
    kind: i16,
    whence: i16,
    start: i64,
    len: i64,
    /// Whose lock it is, where the kernel has been asked. 0: of a process that has no number here; -1:
    /// of an open file description.
    pub pid: i32,
}

impl Flock {
    /// A lock that is asked for: `F_RDLCK` or `F_WRLCK`.
    pub fn new(kind: i32, start: i64, len: i64) -> Flock {
        Flock { kind: kind as i16, whence: libc::SEEK_SET as i16, start, len, pid: 0 }
    }

    /// Did the kernel find nothing that is in its way?
    pub fn is_free(&self) -> bool {
        i32::from(self.kind) == libc::F_UNLCK
    }

    fn show_wanted(&self, out: &mut String) {
        out.push_str("{l_type=");
        crate::say::show::name(self.kind as u64, flags::LOCK, out);
        out.push_str(", l_whence=");
        crate::say::show::name(self.whence as u64, flags::WHENCE, out);
        signed(", l_start=", self.start, out);
        signed(", l_len=", self.len, out);
    }
}

impl Show for Flock {
    fn show(&self, out: &mut String) {
        self.show_wanted(out);
        out.push('}');
    }
}

/// A lock as `F_GETLK` has filled it in.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Holder(pub Flock);

impl Show for Holder {
    fn show(&self, out: &mut String) {
        self.0.show_wanted(out);
        signed(", l_pid=", self.0.pid.into(), out);
        out.push('}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_structure_is_laid_out_as_the_c_librarys() {
        same! {
            OpenHow open_how: flags flags mode mode resolve resolve;
            Statx statx: mask stx_mask attributes stx_attributes uid stx_uid gid stx_gid mode stx_mode
                ino stx_ino size stx_size times stx_atime dev_major stx_dev_major
                dev_minor stx_dev_minor mnt_id stx_mnt_id;
            StatxTime statx_timestamp: sec tv_sec nsec tv_nsec;
            StatFs statfs: f_type f_type f_bavail f_bavail f_ffree f_ffree;
            Flock flock: kind l_type whence l_whence start l_start len l_len pid l_pid;
        }
    }
}
