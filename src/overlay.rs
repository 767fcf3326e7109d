//! The layers of an overlay, and why the kernel refuses them.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use syscalls::Errno;

use crate::error::Error;
use crate::show::plain;
use crate::structs::Statx;
use crate::sys::{self, Cx};

/// A layer, or the work directory.
pub struct Layer {
    /// What the kernel calls it: `lowerdir+`, `upperdir` or `workdir`.
    pub key: &'static CStr,
    /// What the user calls it.
    pub shown: String,
    /// FSCONFIG_SET_FD takes no descriptor that was opened with O_PATH.
    pub dir: OwnedFd,
}

impl Layer {
    /// One that is there.
    pub fn open(cx: &Cx, key: &'static CStr, path: &CStr) -> Result<Layer, Error> {
        let option = match key.to_bytes() {
            b"upperdir" => "--upper",
            b"workdir" => "--work",
            _ => "--lower",
        };
        let shown = format!("{option} {}", plain(path.to_bytes()));
        Ok(Layer { key, shown, dir: open_directory(cx, option, path, libc::O_RDONLY)? })
    }

    /// A new one on a tmpfs.
    pub fn make(
        cx: &Cx,
        key: &'static CStr,
        tmpfs: BorrowedFd,
        name: &CStr,
    ) -> Result<Layer, Error> {
        sys::mkdirat(cx, Some(tmpfs), name, 0o700)?;
        let dir = sys::openat_made(cx, Some(tmpfs), name, libc::O_RDONLY | libc::O_DIRECTORY)?;
        Ok(Layer { key, shown: format!("{} of --tmpfs", plain(name.to_bytes())), dir })
    }

    /// The root of a tmpfs, as a lower layer in which there is nothing.
    pub fn empty(cx: &Cx, tmpfs: BorrowedFd) -> Result<Layer, Error> {
        let dir = sys::openat_made(cx, Some(tmpfs), c".", libc::O_RDONLY | libc::O_DIRECTORY)?;
        Ok(Layer { key: c"lowerdir+", shown: String::from("the empty layer"), dir })
    }

    fn is_lower(&self) -> bool {
        self.key == c"lowerdir+"
    }
}

/// Open a directory. One that is missing in a dry run may be one that an earlier step would have made.
pub fn open_directory(
    cx: &Cx,
    what: &str,
    path: &CStr,
    flags: libc::c_int,
) -> Result<OwnedFd, Error> {
    let flags = flags | libc::O_DIRECTORY;
    let error = match sys::openat(cx, None, path, flags) {
        Err(e) if e.is(Errno::ENOENT) && cx.dry() => {
            return sys::openat_made(cx, None, path, flags);
        }
        Err(e) => e,
        opened => return opened,
    };
    let shown = plain(path.to_bytes());
    match sys::statx(cx, None, path, 0) {
        Ok(stat) if !stat.is_dir() => Err(error.because(format!("{what} {shown} is no directory"))),
        Err(e) if e.is(Errno::ENOENT) => {
            let error = error.because(format!("there is no {what} {shown}"));
            Err(if what == "--lower" { error } else { error.way_out("--mkdir makes it") })
        }
        _ => Err(error),
    }
}

/// An option of the file system: a key, and a value or none.
pub type Parameter<'a> = (&'a CStr, Option<&'a CStr>);

/// What was found by looking, and the way out.
type Cause = Option<(String, &'static str)>;

/// Why there is no overlay, or no tmpfs.
pub fn why(cx: &Cx, layers: &[Layer], options: &[Parameter], error: Error) -> Error {
    let found = match error.errno() {
        Some(Errno::EPERM) => not_allowed(cx),
        Some(Errno::ELOOP) => overlapping(cx, layers),
        Some(Errno::EINVAL) => too_many(layers)
            .or_else(|| too_long(options))
            .or_else(|| unfit(cx, layers))
            .or_else(|| apart(cx, layers))
            .or_else(|| used_up(cx, layers))
            .or_else(|| too_deep(cx, layers)),
        _ => None,
    };
    match found {
        Some((cause, "")) => error.because(cause),
        Some((cause, way_out)) => error.because(cause).way_out(way_out),
        None => error,
    }
}

fn not_allowed(cx: &Cx) -> Cause {
    const CAP_SYS_ADMIN: u64 = 21;
    if sys::capget(cx).ok()?.effective() >> CAP_SYS_ADMIN & 1 == 0 {
        let why = "mounting takes CAP_SYS_ADMIN, which this process does not have";
        return Some((why.into(), "run it inside td-unshare --map-root-user --mount"));
    }
    let ours = sys::statx(cx, None, c"/proc/self/ns/user", 0).ok()?;
    let mounts = sys::openat(cx, None, c"/proc/self/ns/mnt", libc::O_RDONLY).ok()?;
    // EPERM: the owner is a user namespace above ours.
    let owner = sys::ns_get_userns(cx, mounts.as_fd()).and_then(|ns| sys::fstatx(cx, ns.as_fd()));
    if owner.is_ok_and(|owner| owner.same_file(&ours)) {
        return None;
    }
    let why = "the mount namespace belongs to another user namespace than ours";
    Some((why.into(), "run it inside td-unshare --mount"))
}

fn too_many(layers: &[Layer]) -> Cause {
    let n = layers.iter().filter(|layer| layer.is_lower()).count();
    (n > 500).then(|| (format!("there are {n} lower layers, and an overlay has at most 500"), ""))
}

fn too_long(options: &[Parameter]) -> Cause {
    options.iter().find_map(|(key, value)| {
        let n = value.map_or(0, |value| value.count_bytes());
        let key = plain(key.to_bytes());
        let why = || format!("the value of {key} has {n} bytes; fsconfig(2) takes at most 255");
        (n > 255).then(|| (why(), ""))
    })
}

/// File systems that change by themselves, or lack what an upper needs, so that it cannot be there.
const UNFIT: [(i64, &str); 9] = [
    (libc::OVERLAYFS_SUPER_MAGIC, "an overlay"),
    (libc::FUSE_SUPER_MAGIC, "a FUSE file system"),
    (libc::NFS_SUPER_MAGIC, "NFS"),
    (libc::PROC_SUPER_MAGIC, "procfs"),
    (libc::SYSFS_MAGIC, "sysfs"),
    (libc::CGROUP_SUPER_MAGIC, "a cgroup file system"),
    (libc::CGROUP2_SUPER_MAGIC, "a cgroup file system"),
    (libc::MSDOS_SUPER_MAGIC, "a FAT file system"),
    (0x0102_1997, "9p"), // V9FS_MAGIC
];

/// What is written to must be on a file system that is fit for it, and may be written to.
fn unfit(cx: &Cx, layers: &[Layer]) -> Cause {
    layers.iter().filter(|layer| !layer.is_lower()).find_map(|layer| {
        let fs = sys::fstatfs(cx, layer.dir.as_fd()).ok()?;
        if let Some((_, name)) = UNFIT.iter().find(|(magic, _)| *magic == fs.f_type) {
            let why = format!("{} is on {name}, where no upper or work can be", layer.shown);
            return Some((why, "put both on another file system, or use --tmpfs"));
        }
        let is_read_only = fs.f_flags as u64 & libc::ST_RDONLY != 0;
        let why = || format!("{} is on a mount that is read-only", layer.shown);
        is_read_only.then(|| (why(), "put both where they can be written, or use --tmpfs"))
    })
}

/// Upper and work must be beside each other.
fn apart(cx: &Cx, layers: &[Layer]) -> Cause {
    let [upper, work] =
        [c"upperdir", c"workdir"].map(|key| layers.iter().find(|layer| layer.key == key));
    let (upper, work) = (upper?, work?);
    let [above_upper, above_work] = [upper, work].map(|layer| ancestors(cx, layer.dir.as_fd()));
    let (upper_stat, work_stat) = (above_upper.first()?, above_work.first()?);
    let (upper, work) = (&upper.shown, &work.shown);
    let advice = "use two directories beside each other";
    if upper_stat.same_file(work_stat) {
        return Some((format!("{upper} and {work} are the same directory"), advice));
    }
    if above_work.iter().any(|above| above.same_file(upper_stat)) {
        return Some((format!("{work} is inside {upper}"), advice));
    }
    if above_upper.iter().any(|above| above.same_file(work_stat)) {
        return Some((format!("{upper} is inside {work}"), advice));
    }
    let why = format!("{upper} and {work} are on different mounts");
    (upper_stat.mnt_id != work_stat.mnt_id).then_some((why, advice))
}

/// After a volatile overlay nobody knows whether its upper is whole.
fn used_up(cx: &Cx, layers: &[Layer]) -> Cause {
    let work = layers.iter().find(|layer| layer.key == c"workdir")?;
    sys::statx(cx, Some(work.dir.as_fd()), c"work/incompat/volatile", 0).ok()?;
    let why = "was last used by a --volatile overlay, whose upper may be incomplete";
    Some((format!("{} {why}", work.shown), "use a new --upper and --work"))
}

/// Overlays stack two deep. procfs says of itself that it is as deep as anything may be.
fn too_deep(cx: &Cx, layers: &[Layer]) -> Cause {
    layers.iter().filter(|layer| layer.is_lower()).find_map(|layer| {
        let why = match sys::fstatfs(cx, layer.dir.as_fd()).ok()?.f_type {
            libc::PROC_SUPER_MAGIC => "is on procfs, which cannot be a layer",
            libc::OVERLAYFS_SUPER_MAGIC => "is on an overlay, and overlays stack at most two deep",
            _ => return None,
        };
        Some((format!("{} {why}", layer.shown), ""))
    })
}

/// No lower layer may be another layer, or inside one. (An upper may be inside a lower.)
fn overlapping(cx: &Cx, layers: &[Layer]) -> Cause {
    let stats: Vec<_> =
        layers.iter().map(|layer| sys::fstatx(cx, layer.dir.as_fd()).ok()).collect();
    layers.iter().enumerate().filter(|(_, layer)| layer.is_lower()).find_map(|(i, inner)| {
        let above = ancestors(cx, inner.dir.as_fd());
        layers.iter().zip(&stats).enumerate().find_map(|(j, (outer, stat))| {
            let outer_stat = stat.as_ref()?;
            let depth = above.iter().position(|above| above.same_file(outer_stat))?;
            let (inner, outer) = (&inner.shown, &outer.shown);
            let why = match depth {
                0 => format!("{inner} and {outer} are the same directory"),
                _ => format!("{inner} is inside {outer}"),
            };
            (i != j).then_some((why, "give each directory once, and no --lower inside another"))
        })
    })
}

/// A directory and all above it, up to the root.
fn ancestors(cx: &Cx, dir: BorrowedFd) -> Vec<Statx> {
    let mut all: Vec<Statx> = Vec::new();
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let mut next = sys::openat(cx, Some(dir), c".", flags);
    while let Ok(dir) = next {
        match sys::fstatx(cx, dir.as_fd()) {
            // Above the root is the root.
            Ok(stat) if !all.last().is_some_and(|last| last.same_file(&stat)) => all.push(stat),
            _ => break,
        }
        next = sys::openat(cx, Some(dir.as_fd()), c"..", flags);
    }
    all
}
