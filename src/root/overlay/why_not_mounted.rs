//! Why the kernel makes no overlay: looked at after the failure.

use std::os::fd::{AsFd, BorrowedFd};

use syscalls::Errno;

use crate::root::mounts::{self, Parameter};
use crate::root::overlay::layer::Layer;
use crate::say::error::Error;
use crate::say::show::plain;
use crate::sys::structs::Statx;
use crate::sys::{self, Cx};

/// What was found by looking, and the way out.
type Cause = Option<(String, &'static str)>;

/// Why the kernel makes no overlay of these layers; without any, why it makes no tmpfs.
pub fn why(cx: &Cx, layers: &[Layer], options: &[Parameter], error: Error) -> Error {
    let found = match error.errno() {
        Some(Errno::EPERM) => return mounts::why(cx, error),
        Some(Errno::ELOOP) => overlapping(cx, layers),
        Some(Errno::EINVAL) => too_many(layers)
            .or_else(|| unfit(cx, layers))
            .or_else(|| apart(cx, layers))
            .or_else(|| used_up(layers))
            .or_else(|| too_deep(cx, layers))
            .or_else(|| conflicting(options)),
        _ => None,
    };
    match found {
        Some((cause, "")) => error.because(cause),
        Some((cause, way_out)) => error.because(cause).way_out(way_out),
        // mount(2), which is used before Linux 6.13, has no other place for it.
        None if error.is(Errno::EINVAL) && error.is_unexplained() => {
            error.way_out("the kernel's log names the cause: dmesg")
        }
        None => error,
    }
}

fn too_many(layers: &[Layer]) -> Cause {
    let n = layers.iter().filter(|layer| layer.is_lower()).count();
    (n > 500).then(|| (format!("there are {n} lower layers, and an overlay has at most 500"), ""))
}

/// File systems that can change independently, so that they cannot hold an upper.
const UNFIT: [(i64, &str); 4] = [
    (libc::OVERLAYFS_SUPER_MAGIC, "an overlay"),
    (libc::FUSE_SUPER_MAGIC, "a FUSE file system"),
    (libc::NFS_SUPER_MAGIC, "NFS"),
    (libc::PROC_SUPER_MAGIC, "procfs"),
];

/// Upper and work must be on a suitable file system that is mounted writable.
fn unfit(cx: &Cx, layers: &[Layer]) -> Cause {
    layers.iter().filter(|layer| !layer.is_lower()).find_map(|layer| {
        let fs = sys::fstatfs(cx, layer.dir.as_fd()).ok()?;
        if let Some((_, name)) = UNFIT.iter().find(|(magic, _)| *magic == fs.f_type) {
            let why = format!("{} is on {name}, which cannot hold upper or work", layer.shown);
            return Some((why, "put both on another file system, or use --tmpfs"));
        }
        let is_read_only = fs.f_flags as u64 & libc::ST_RDONLY != 0;
        let why = || format!("{} is on a read-only mount", layer.shown);
        is_read_only.then(|| (why(), "put both on a writable mount, or use --tmpfs"))
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
    let advice = "use two directories side by side";
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

/// After a volatile overlay, its upper may be incomplete.
fn used_up(layers: &[Layer]) -> Cause {
    let work = layers.iter().find(|layer| layer.is_used)?;
    let why = "was last used by a --volatile overlay, whose upper may be incomplete";
    Some((format!("{} {why}", work.shown), "use a new --upper and --work"))
}

/// Overlays nest two deep. procfs claims the maximum depth itself.
fn too_deep(cx: &Cx, layers: &[Layer]) -> Cause {
    layers.iter().filter(|layer| layer.is_lower()).find_map(|layer| {
        let why = match sys::fstatfs(cx, layer.dir.as_fd()).ok()?.f_type {
            libc::PROC_SUPER_MAGIC => "is on procfs, which cannot be a layer",
            libc::OVERLAYFS_SUPER_MAGIC => "is on an overlay, and overlays nest at most two deep",
            _ => return None,
        };
        Some((format!("{} {why}", layer.shown), ""))
    })
}

/// With these options, the kernel would trust xattrs of any user for renames and metadata.
fn conflicting(options: &[Parameter]) -> Cause {
    options.iter().find(|(key, _)| *key == c"userxattr")?;
    let (key, value) = options.iter().find_map(|(key, value)| match (*key, *value) {
        (key, Some(value)) if key == c"redirect_dir" && value != c"nofollow" => Some((key, value)),
        (key, Some(value)) if key == c"metacopy" && value != c"off" => Some((key, value)),
        _ => None,
    })?;
    let option = plain(&[key.to_bytes(), b"=", value.to_bytes()].concat());
    let why = "cannot be combined with userxattr, which a user namespace needs";
    Some((format!("--option {option} {why}"), ""))
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
