//! Why the kernel makes no overlay: looked at after the failure.

mod conflict;
mod place;

use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use syscalls::Errno;

use crate::root::directories::Place;
use crate::root::kernel_log;
use crate::root::mountinfo::Mount;
use crate::root::mounts::{self, Parameter};
use crate::root::overlay::layer::{self, Layer};
use crate::root::{overlay, remove};
use crate::say::error::Error;
use crate::say::show::plain;
use crate::sys::{self, Cx, FsConfig};

/// What was found by looking, and the way out.
type Cause = Option<(String, &'static str)>;

/// Why the kernel makes no overlay of these layers with these options. `again` makes the call that has failed again:
/// its errno has several causes, and only the kernel's log tells some of them apart.
pub fn why(
    cx: &Cx,
    layers: &[Layer],
    options: &[Parameter],
    error: Error,
    again: &dyn Fn(),
) -> Error {
    let _looking = cx.looking();
    let found = match error.errno() {
        Some(Errno::EPERM) => return mounts::why(cx, error),
        Some(Errno::ELOOP) => place::overlapping(cx, layers),
        Some(Errno::EBUSY) => place::in_use(cx, layers),
        Some(Errno::EINVAL) => too_many(layers)
            .or_else(|| conflict::among(cx, layers, options))
            .or_else(|| layers.iter().find_map(|layer| unfit(cx, layer)))
            .or_else(|| place::apart(cx, layers))
            .or_else(|| used_up(layers))
            .or_else(|| uncopied(cx, layers))
            .or_else(|| too_deep(cx, layers)),
        _ => None,
    };
    let log = match error.errno() {
        // These come from any call, and say all.
        Some(Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE | Errno::EINTR) => None,
        _ => log_of(cx, layers, again),
    };
    let found = found.or_else(|| left(layers, &error, log.is_some()));
    let error = match found {
        Some((cause, "")) => error.because(cause),
        Some((cause, way_out)) if cause.is_empty() => error.way_out(way_out),
        Some((cause, way_out)) => error.because(cause).way_out(way_out),
        // mount(2), which is used before Linux 6.13, has no other place for it.
        None if error.is(Errno::EINVAL) && error.is_unexplained() && log.is_none() => {
            error.way_out("the kernel's log names the cause: dmesg")
        }
        None => error,
    };
    kernel_log::add(error, &log.unwrap_or_default())
}

/// Why the kernel does not take a layer.
pub fn why_no_layer(cx: &Cx, layers: &[Layer], layer: &Layer, error: Error) -> Error {
    let _looking = cx.looking();
    if !error.is(Errno::EINVAL) {
        return mounts::why(cx, error);
    }
    match too_many(layers).or_else(|| unfit(cx, layer)) {
        Some((cause, "")) => error.because(cause),
        Some((cause, way_out)) => error.because(cause).way_out(way_out),
        None => error,
    }
}

/// The lines of the kernel's log. Where the call that has failed has marked the work directory as that of a volatile
/// overlay, the mark goes first, or it would be what fails next.
fn log_of(cx: &Cx, layers: &[Layer], again: &dyn Fn()) -> Option<Vec<String>> {
    let work = layers.iter().find(|layer| layer.key == c"workdir");
    if let Some(work) = work.filter(|work| !work.is_used && layer::is_marked(cx, work.dir.as_fd()))
    {
        let directory = sys::openat(cx, Some(work.dir.as_fd()), c".", libc::O_RDONLY).ok()?;
        let (name, path) = (c"work".into(), c"work".into());
        remove::remove_tree(cx, &Place { directory: Rc::new(directory), name, path }).ok()?;
    }
    let log = kernel_log::of(cx, |text| text.starts_with(b"overlayfs: "), again)?;
    Some(log).filter(|log| !log.is_empty())
}

/// The causes that are left, which only the kernel's log tells apart; what helps against all of them.
fn left(layers: &[Layer], error: &Error, is_in_log: bool) -> Cause {
    let [upper, work] = [c"upperdir", c"workdir"].map(|key| {
        layers.iter().find(|layer| layer.key == key).map_or("", |layer| layer.shown.as_str())
    });
    let perhaps =
        |text: String| if is_in_log { String::new() } else { ["perhaps ", &text].concat() };
    if upper.is_empty() {
        return None;
    }
    match error.errno() {
        Some(Errno::EBUSY) => {
            let who =
                format!("{upper}, {work} or a --lower is the upper or work of another overlay");
            Some((perhaps(who), "unmount the other overlay, or use other directories"))
        }
        Some(Errno::ESTALE) => {
            let what = format!(
                "{upper} was used with another --lower, or {work} with another --upper, which index=on refuses"
            );
            Some((perhaps(what), "use a new --upper and --work, or --option index=off"))
        }
        _ => None,
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
fn unfit(cx: &Cx, layer: &Layer) -> Cause {
    if layer.is_lower() {
        return None;
    }
    let fs = sys::fstatfs(cx, layer.dir.as_fd()).ok()?;
    if let Some((_, name)) = UNFIT.iter().find(|(magic, _)| *magic == fs.f_type) {
        let why = format!("{} is on {name}, which cannot hold upper or work", layer.shown);
        return Some((why, "put both on another file system, or use --tmpfs"));
    }
    let is_read_only = fs.f_flags as u64 & libc::ST_RDONLY != 0;
    let why = || format!("{} is on a read-only mount", layer.shown);
    is_read_only.then(|| (why(), "put both on a writable mount, or use --tmpfs"))
}

/// After a volatile overlay, its upper may be incomplete.
fn used_up(layers: &[Layer]) -> Cause {
    let work = layers.iter().find(|layer| layer.is_used)?;
    let why = "was last used by a --volatile overlay, whose upper may be incomplete";
    Some((format!("{} {why}", work.shown), "use a new --upper and --work"))
}

/// The kernel takes a copy of the mount of each layer, but of the work directory, without what is mounted below it:
/// the same as an open_tree(2) that fails for the same reasons.
fn uncopied(cx: &Cx, layers: &[Layer]) -> Cause {
    let mounts = mounts::own_list(cx).ok()?;
    layers.iter().filter(|layer| layer.key != c"workdir").find_map(|layer| {
        let flags = libc::OPEN_TREE_CLONE | libc::AT_EMPTY_PATH as u32;
        let refused = sys::open_tree(cx, Some(layer.dir.as_fd()), c"", flags).err()?;
        if !refused.is(Errno::EINVAL) {
            return None;
        }
        let id = sys::fstatx(cx, layer.dir.as_fd()).ok()?.mnt_id;
        let Some(mount) = mounts.iter().find(|mount| mount.id == id) else {
            return Some((format!("{} is in another mount namespace", layer.shown), ""));
        };
        if mount.unbindable {
            let (shown, point) = (&layer.shown, plain(mount.point));
            let why = format!("{shown} is on the mount on {point}, which is unbindable");
            return Some((why, "make that mount private: mount --make-private"));
        }
        let path = place::path(cx, layer.dir.as_fd())?;
        let below = |m: &&Mount| m.parent == id && place::is_inside(m.point, &path);
        let points: Vec<String> = mounts.iter().filter(below).map(|m| plain(m.point)).collect();
        if points.is_empty() {
            return None;
        }
        let why =
            "has mounts below it that this user namespace has inherited, and may not look under";
        let why = format!("{} {why}: {}", layer.shown, points.join(", "));
        Some((why, "use directories without such mounts, or td-overlay outside the user namespace"))
    })
}

/// Overlays nest two deep. procfs claims the maximum depth itself. Which of the layers is too deep is found by an
/// overlay of it and an empty directory.
fn too_deep(cx: &Cx, layers: &[Layer]) -> Cause {
    let kind = |layer: &Layer| sys::fstatfs(cx, layer.dir.as_fd()).map_or(0, |fs| fs.f_type);
    let mut lower = layers.iter().filter(|layer| layer.is_lower());
    if let Some(layer) = lower.clone().find(|layer| kind(layer) == libc::PROC_SUPER_MAGIC) {
        let why = format!("{} is on procfs, which cannot be a layer", layer.shown);
        return Some((why, ""));
    }
    let mut on_overlay = lower.clone().filter(|l| kind(l) == libc::OVERLAYFS_SUPER_MAGIC);
    on_overlay.clone().next()?;
    let deep = "is on an overlay, and overlays nest at most two deep";
    match refused_alone(cx, &mut lower) {
        Some(refused) => {
            let layer = on_overlay.find(|layer| refused.contains(&layer.shown.as_str()))?;
            Some((format!("{} {deep}", layer.shown), ""))
        }
        None => {
            let shown: Vec<&str> = on_overlay.map(|layer| layer.shown.as_str()).collect();
            Some((format!("perhaps {} {deep}", shown.join(" or ")), ""))
        }
    }
}

/// The layers of which the kernel makes no overlay even where the only other layer is an empty directory. `None`: this
/// cannot be tried here.
fn refused_alone<'a>(cx: &Cx, layers: &mut dyn Iterator<Item = &'a Layer>) -> Option<Vec<&'a str>> {
    let tmpfs = overlay::new_tmpfs(cx, None, 0).ok()?;
    let [one, other] = [c"1", c"2"].map(|name| Layer::make(cx, c"lowerdir+", tmpfs.as_fd(), name));
    let (one, other) = (one.ok()?, other.ok()?);
    let attempt = |dir: BorrowedFd| {
        let config = sys::fsopen(cx, c"overlay")?;
        for dir in [dir, other.dir.as_fd()] {
            sys::fsconfig(cx, config.as_fd(), FsConfig::Fd(c"lowerdir+", dir))?;
        }
        sys::fsconfig(cx, config.as_fd(), FsConfig::Create)
    };
    attempt(one.dir.as_fd()).ok()?;
    let refused = |l: &&Layer| attempt(l.dir.as_fd()).is_err_and(|e: Error| e.is(Errno::EINVAL));
    Some(layers.filter(refused).map(|layer| layer.shown.as_str()).collect())
}
