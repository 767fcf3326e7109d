//! What was done in a root, and how it is undone when a later step fails.

use std::ffi::{CStr, CString, c_int};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use syscalls::Errno;

use crate::root::mounts;
use crate::root::path_resolution::Paths;
use crate::say::error::Error;
use crate::sys::structs::{FileId, MountAttr, Statx};
use crate::sys::{self, Cx, cstring};

/// What was done, so that it can be undone. A root may have more volumes than a process can have descriptors, so no
/// descriptor is kept: paths are looked up again, and must still lead to what was mounted or created.
pub enum Done {
    /// The mount with this id was attached to a path, guarded or not.
    Attached(CString, u64, bool),
    /// This mount of the caller was moved here from what it had covered.
    Moved(OwnedFd, OwnedFd),
    /// The mount with this id at a path, which was there before and writable, became read-only.
    ReadOnly(CString, u64),
    /// A name in the directory at a path was made; with these flags unlinkat(2) removes it.
    Made(CString, CString, c_int, FileId),
}

impl Done {
    /// A name was made in `directory`, which is at the path `parent`.
    pub fn made(
        cx: &Cx,
        parent: &CStr,
        directory: BorrowedFd,
        name: CString,
        flags: c_int,
    ) -> Result<Done, Error> {
        let stat = stat_made(cx, directory, &name)
            .map_err(|e| e.because("so this step was not undone"))?;
        Ok(Done::Made(parent.to_owned(), name, flags, stat.id()))
    }

    /// Undo it.
    pub fn undo(&self, cx: &Cx, paths: &Paths) -> Result<(), Error> {
        match self {
            Done::Made(parent, name, flags, id) => {
                let directory = paths.look_up(parent, libc::O_DIRECTORY, 0)?;
                if stat_made(cx, directory.as_fd(), name)?.id() != *id {
                    return Err(refuse_another(paths, parent));
                }
                sys::unlinkat(cx, Some(directory.as_fd()), name, *flags)
            }
            Done::ReadOnly(path, id) => {
                let mount = mount_again(cx, paths, path, *id)?;
                let attr = MountAttr { attr_clr: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
                sys::mount_setattr(cx, mount.as_fd(), 0, attr)
            }
            Done::Moved(mount, place) => sys::move_mount(cx, mount.as_fd(), place.as_fd()),
            // There is no umount by descriptor, and the path may now lead elsewhere. So change to the directory, which
            // does not need /proc.
            Done::Attached(path, id, _) => {
                let mount = mount_again(cx, paths, path, *id)?;
                match mounts::detach(cx, mount.as_fd()) {
                    Err(e) if e.is(Errno::ENOTDIR) => {
                        let path = format!("/proc/self/fd/{}", mount.as_raw_fd());
                        sys::umount2(cx, &cstring(path), libc::MNT_DETACH)
                    }
                    other => other,
                }
            }
        }
    }
}

/// The mount with this id, which is at a path unless somebody has changed what that leads to.
fn mount_again(cx: &Cx, paths: &Paths, path: &CStr, id: u64) -> Result<OwnedFd, Error> {
    let mount = paths.look_up(path, 0, 0)?;
    let stat = sys::fstatx(cx, mount.as_fd())?;
    match stat.mnt_id == id && stat.is_mount_root() {
        true => Ok(mount),
        false => Err(refuse_another(paths, path)),
    }
}

fn refuse_another(paths: &Paths, path: &CStr) -> Error {
    Error::refusal(format_args!("{} now leads elsewhere", paths.name(path)))
}

/// What a name is that was made in a directory.
fn stat_made(cx: &Cx, directory: BorrowedFd, name: &CStr) -> Result<Statx, Error> {
    sys::statx(cx, Some(directory), name, libc::AT_SYMLINK_NOFOLLOW)
}
