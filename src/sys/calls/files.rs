//! Files: opening, reading, writing, names and attributes.

use std::cell::Cell;
use std::ffi::{CStr, c_int};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use syscalls::Errno;

use crate::say::error::Error;
use crate::say::flags;
use crate::say::show;
use crate::sys::arg::Arg;
use crate::sys::context::Cx;
use crate::sys::raw::{At, at, fd, flags, name, nr};
use crate::sys::structs::*;

/// `openat(dirfd, path, flags)`: open(2). Opening for writing is a change.
pub fn openat(cx: &Cx, dirfd: At, path: &CStr, flags: c_int) -> Result<OwnedFd, Error> {
    let args = [at(dirfd), Arg::Path(path), Arg::Open((flags | libc::O_CLOEXEC) as u64)];
    match flags & show::ACCESS_MODE {
        libc::O_RDONLY => cx.read_fd(nr::openat, &args),
        _ => cx.change_fd(nr::openat, &args),
    }
}

/// `openat(dirfd, path, flags|O_CREAT, mode)`: open(2). The file is made where it is missing.
pub fn openat_create(
    cx: &Cx,
    dirfd: At,
    path: &CStr,
    flags: c_int,
    mode: u32,
) -> Result<OwnedFd, Error> {
    let flags = Arg::Open((flags | libc::O_CREAT | libc::O_CLOEXEC) as u64);
    cx.change_fd(nr::openat, &[at(dirfd), Arg::Path(path), flags, Arg::Mode(mode)])
}

/// As [`openat`], of something that this step has made: a dry run takes it to be there, and prints
/// nothing, unless it is opened for writing.
pub fn openat_made(cx: &Cx, dirfd: At, path: &CStr, flags: c_int) -> Result<OwnedFd, Error> {
    if cx.dry() && flags & show::ACCESS_MODE == libc::O_RDONLY {
        return cx.stand_in();
    }
    let args = [at(dirfd), Arg::Path(path), Arg::Open((flags | libc::O_CLOEXEC) as u64)];
    cx.change_fd(nr::openat, &args)
}

/// `openat2(dirfd, path, {flags, mode, resolve}, size)`: openat2(2), Linux 5.6. `flags` never has O_CREAT; opening for
/// writing is a change. EAGAIN: a rename or mount got in the way of `..`; it may be tried again.
pub fn openat2(
    cx: &Cx,
    dirfd: BorrowedFd,
    path: &CStr,
    flags: c_int,
    resolve: u64,
) -> Result<OwnedFd, Error> {
    let how = OpenHow { flags: (flags | libc::O_CLOEXEC) as u64, mode: 0, resolve };
    let args = [fd(dirfd), Arg::Path(path), Arg::InSized(&how)];
    match flags & show::ACCESS_MODE {
        libc::O_RDONLY => cx.read_fd(nr::openat2, &args),
        _ => cx.change_fd(nr::openat2, &args),
    }
}

/// `read(fd, buf, count)`: read(2). Returns how many bytes were read; 0 at the end.
pub fn read(cx: &Cx, file: BorrowedFd, buffer: &mut [u8]) -> Result<usize, Error> {
    let cells = Cell::from_mut(buffer).as_slice_of_cells();
    cx.read(nr::read, &[fd(file), Arg::Buffer(cells)])
}

/// `pread64(fd, buf, count, offset)`: pread(2). It leaves the offset of the descriptor as it is. ESPIPE: a pipe, which
/// has none.
pub fn pread64(
    cx: &Cx,
    file: BorrowedFd,
    buffer: &mut [u8],
    offset: usize,
) -> Result<usize, Error> {
    let cells = Cell::from_mut(buffer).as_slice_of_cells();
    cx.read(nr::pread64, &[fd(file), Arg::Buffer(cells), Arg::Size(offset)])
}

/// `lseek(fd, 0, SEEK_END)`: lseek(2). What is read next is what comes from here on.
pub fn seek_to_end(cx: &Cx, file: BorrowedFd) -> Result<(), Error> {
    let end = name(libc::SEEK_END, flags::SEEK);
    cx.read(nr::lseek, &[fd(file), Arg::Size(0), end]).map(drop)
}

/// `write(fd, buf, count)`: write(2). Returns how many bytes were written.
pub fn write(cx: &Cx, file: BorrowedFd, bytes: &[u8]) -> Result<usize, Error> {
    cx.change(nr::write, &[fd(file), Arg::Bytes(bytes)])
}

/// The whole of a file, by openat(2) and read(2).
pub fn read_file(cx: &Cx, dirfd: At, path: &CStr) -> Result<Vec<u8>, Error> {
    let file = openat(cx, dirfd, path, libc::O_RDONLY)?;
    read_to_end(cx, file.as_fd())
}

/// The rest of an open file, by read(2).
pub fn read_to_end(cx: &Cx, file: BorrowedFd) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    with_piece(cx, &mut |piece| {
        loop {
            match read(cx, file, piece)? {
                0 => return Ok(()),
                n => bytes.extend_from_slice(piece.get(..n).unwrap_or_default()),
            }
        }
    })?;
    Ok(bytes)
}

/// The first bytes of a file, one page at most.
pub fn read_head(cx: &Cx, path: &CStr) -> Result<Vec<u8>, Error> {
    let mut head = vec![0; 4096];
    let file = openat(cx, None, path, libc::O_RDONLY)?;
    let n = read(cx, file.as_fd(), &mut head)?;
    head.truncate(n);
    Ok(head)
}

/// How much is read at once. Files of /proc are best read in one piece; mountinfo is the large one.
const PIECE: usize = 32768;

/// How much is read at once while the large piece is in use, as for a directory in a directory.
const NESTED: usize = 4096;

/// Call `act` with memory to read into. It is not on the stack, which may be small, and the next reader uses it again:
/// the heap only grows, and some files are read many times.
pub fn with_piece(
    cx: &Cx,
    act: &mut dyn FnMut(&mut [u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut unused = cx.pieces.take();
    let size = if cx.has_piece.replace(true) { NESTED } else { PIECE };
    let mut piece = unused.pop().unwrap_or_else(|| vec![0; size]);
    cx.pieces.set(unused);
    let done = act(&mut piece);
    let mut unused = cx.pieces.take();
    unused.push(piece);
    cx.pieces.set(unused);
    done
}

/// Write to a file that is there already, in one write(2): a file of the kernel takes a value whole
/// or not at all. Without O_CREAT, which cgroup file systems refuse.
pub fn write_file(cx: &Cx, dirfd: At, path: &CStr, bytes: &[u8]) -> Result<(), Error> {
    let file = openat(cx, dirfd, path, libc::O_WRONLY)?;
    write(cx, file.as_fd(), bytes).map(drop)
}

/// `mkdirat(dirfd, path, mode)`: mkdir(2).
pub fn mkdirat(cx: &Cx, dirfd: At, path: &CStr, mode: u32) -> Result<(), Error> {
    cx.change(nr::mkdirat, &[at(dirfd), Arg::Path(path), Arg::Mode(mode)]).map(drop)
}

/// `mknodat(dirfd, path, mode, dev)`: mknod(2). `mode` has the file type.
pub fn mknodat(cx: &Cx, dirfd: At, path: &CStr, mode: u32, dev: u64) -> Result<(), Error> {
    let args = [at(dirfd), Arg::Path(path), Arg::FileMode(mode), Arg::Dev(dev)];
    // strace leaves the device out where there is none.
    let shown = if dev == 0 { &args[..3] } else { &args[..] };
    cx.change(nr::mknodat, shown).map(drop)
}

/// `symlinkat(target, dirfd, path)`: symlink(2).
pub fn symlinkat(cx: &Cx, target: &CStr, dirfd: At, path: &CStr) -> Result<(), Error> {
    cx.change(nr::symlinkat, &[Arg::Path(target), at(dirfd), Arg::Path(path)]).map(drop)
}

/// `unlinkat(dirfd, path, flags)`: unlink(2); with AT_REMOVEDIR, rmdir(2).
pub fn unlinkat(cx: &Cx, dirfd: At, path: &CStr, flag: c_int) -> Result<(), Error> {
    let args = [at(dirfd), Arg::Path(path), flags(flag, flags::UNLINK)];
    cx.change(nr::unlinkat, &args).map(drop)
}

/// unlinkat(2) where failures are expected: which it was.
pub fn unlinkat_unless(
    cx: &Cx,
    dirfd: BorrowedFd,
    path: &CStr,
    flag: c_int,
    expected: &[Errno],
) -> Result<Option<Errno>, Error> {
    let args = [fd(dirfd), Arg::Path(path), flags(flag, flags::UNLINK)];
    Ok(cx.attempt(nr::unlinkat, &args, expected)?.err())
}

/// `renameat2(olddirfd, oldpath, newdirfd, newpath, RENAME_NOREPLACE)`: rename(2). False: the name is in use, EEXIST.
pub fn rename_to_free(
    cx: &Cx,
    from: BorrowedFd,
    old: &CStr,
    to: BorrowedFd,
    new: &CStr,
) -> Result<bool, Error> {
    let bits = flags(libc::RENAME_NOREPLACE, flags::RENAME);
    let args = [fd(from), Arg::Path(old), fd(to), Arg::Path(new), bits];
    Ok(cx.attempt(nr::renameat2, &args, &[Errno::EEXIST])?.is_ok())
}

/// `renameat2(olddirfd, oldpath, newdirfd, newpath, flags)`: rename(2).
pub fn renameat2(
    cx: &Cx,
    from: BorrowedFd,
    old: &CStr,
    to: BorrowedFd,
    new: &CStr,
    bits: u32,
) -> Result<(), Error> {
    let bits = flags(bits, flags::RENAME);
    cx.change(nr::renameat2, &[fd(from), Arg::Path(old), fd(to), Arg::Path(new), bits]).map(drop)
}

/// `umask(mask)`: umask(2). Returns the mask before. Ours alone, and given back before PROG: a dry run
/// makes it too, and so knows what to give back.
pub fn umask(cx: &Cx, mask: u32) -> Result<u32, Error> {
    cx.read(nr::umask, &[Arg::Mode(mask)]).map(|old| old as u32)
}

/// `fchmod(fd, mode)`: chmod(2).
pub fn fchmod(cx: &Cx, file: BorrowedFd, mode: u32) -> Result<(), Error> {
    cx.change(nr::fchmod, &[fd(file), Arg::Mode(mode)]).map(drop)
}

/// `fchown(fd, owner, group)`: chown(2). `None` stays as it is.
pub fn fchown(
    cx: &Cx,
    file: BorrowedFd,
    owner: Option<u32>,
    group: Option<u32>,
) -> Result<(), Error> {
    let id = |id: Option<u32>| Arg::Int(id.map_or(-1, i64::from));
    cx.change(nr::fchown, &[fd(file), id(owner), id(group)]).map(drop)
}

/// `fchownat(dirfd, path, owner, group, AT_SYMLINK_NOFOLLOW)`: chown(2).
pub fn fchownat(cx: &Cx, dirfd: At, path: &CStr, owner: u32, group: u32) -> Result<(), Error> {
    let (owner, group) = (Arg::Size(owner as usize), Arg::Size(group as usize));
    let nofollow = flags(libc::AT_SYMLINK_NOFOLLOW, flags::AT);
    cx.change(nr::fchownat, &[at(dirfd), Arg::Path(path), owner, group, nofollow]).map(drop)
}

/// `readlinkat(dirfd, path, buf, size)`: readlink(2). What the link says.
pub fn readlinkat(cx: &Cx, dirfd: At, path: &CStr) -> Result<Vec<u8>, Error> {
    let mut buffer = vec![0; libc::PATH_MAX as usize];
    let cells = Cell::from_mut(buffer.as_mut_slice()).as_slice_of_cells();
    let n = cx.read(nr::readlinkat, &[at(dirfd), Arg::Path(path), Arg::Buffer(cells)])?;
    buffer.truncate(n);
    Ok(buffer)
}

/// `statx(dirfd, path, flags, mask, buf)`: statx(2), with the mount id. An empty path with
/// AT_EMPTY_PATH is `dirfd` itself.
pub fn statx(cx: &Cx, dirfd: At, path: &CStr, flag: c_int) -> Result<Statx, Error> {
    let buf = Cell::new(Statx::default());
    let mask = libc::STATX_BASIC_STATS | libc::STATX_MNT_ID;
    let args = [
        at(dirfd),
        Arg::Path(path),
        flags(flag, flags::AT),
        flags(mask, flags::STATX),
        Arg::Out(&buf),
    ];
    cx.read(nr::statx, &args)?;
    Ok(buf.get())
}

/// [`statx`] of an open file.
pub fn fstatx(cx: &Cx, file: BorrowedFd) -> Result<Statx, Error> {
    statx(cx, Some(file), c"", libc::AT_EMPTY_PATH)
}

/// `statfs(path, buf)`: statfs(2).
pub fn statfs(cx: &Cx, path: &CStr) -> Result<StatFs, Error> {
    let buf = Cell::new(StatFs::default());
    cx.read(nr::statfs, &[Arg::Path(path), Arg::Out(&buf)])?;
    Ok(buf.get())
}

/// `fstatfs(fd, buf)`: statfs(2).
pub fn fstatfs(cx: &Cx, file: BorrowedFd) -> Result<StatFs, Error> {
    let buf = Cell::new(StatFs::default());
    cx.read(nr::fstatfs, &[fd(file), Arg::Out(&buf)])?;
    Ok(buf.get())
}

/// `faccessat2(dirfd, path, mode, flags)`: access(2) for the effective ids, Linux 5.8.
pub fn faccessat2(cx: &Cx, dirfd: At, path: &CStr, mode: c_int) -> Result<(), Error> {
    let args = [
        at(dirfd),
        Arg::Path(path),
        flags(mode, flags::ACCESS),
        flags(libc::AT_EACCESS, flags::ACCESS_AT),
    ];
    cx.read(nr::faccessat2, &args).map(drop)
}

/// Each entry of a directory. The names are not kept: a hostile directory may have more of them than there is memory.
pub fn for_each_entry(
    cx: &Cx,
    dir: BorrowedFd,
    act: &mut dyn FnMut(&CStr, u8) -> Result<(), Error>,
) -> Result<(), Error> {
    with_piece(cx, &mut |piece| {
        loop {
            let cells = Cell::from_mut(&mut *piece).as_slice_of_cells();
            let n = cx.read(nr::getdents64, &[fd(dir), Arg::Entries(cells)])?;
            if n == 0 {
                return Ok(());
            }
            for (name, kind) in entries(piece.get(..n).unwrap_or_default()) {
                if !matches!(name.to_bytes(), b"." | b"..") {
                    act(name, kind)?;
                }
            }
        }
    })
}

/// `getcwd(buf, size)`: getcwd(2).
pub fn getcwd(cx: &Cx) -> Result<Vec<u8>, Error> {
    let mut buffer = vec![0; libc::PATH_MAX as usize];
    let cells = Cell::from_mut(buffer.as_mut_slice()).as_slice_of_cells();
    // Its result counts the zero byte, which is not part of the text.
    let n = cx.read(nr::getcwd, &[Arg::PathBuffer(cells)])?;
    buffer.truncate(n.saturating_sub(1));
    Ok(buffer)
}

/// `chdir(path)`: chdir(2).
pub fn chdir(cx: &Cx, path: &CStr) -> Result<(), Error> {
    cx.change(nr::chdir, &[Arg::Path(path)]).map(drop)
}

/// `fchdir(fd)`: chdir(2).
pub fn fchdir(cx: &Cx, dir: BorrowedFd) -> Result<(), Error> {
    cx.change(nr::fchdir, &[fd(dir)]).map(drop)
}

/// `chroot(path)`: chroot(2).
pub fn chroot(cx: &Cx, path: &CStr) -> Result<(), Error> {
    cx.change(nr::chroot, &[Arg::Path(path)]).map(drop)
}

/// `sync()`: sync(2). All that is written is on its devices, of every file system.
pub fn sync(cx: &Cx) -> Result<(), Error> {
    cx.change(nr::sync, &[]).map(drop)
}
