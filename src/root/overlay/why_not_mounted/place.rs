//! Where the layers of an overlay lie: beside, inside or above each other, and in which other overlay.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::Cause;
use crate::root::mountinfo::{self, Mount};
use crate::root::mounts;
use crate::root::overlay::layer::Layer;
use crate::say::show::{number, plain};
use crate::say::text::{pair, split};
use crate::sys::structs::Statx;
use crate::sys::{self, Cx, cstring};

/// Upper and work must be beside each other.
pub fn apart(cx: &Cx, layers: &[Layer]) -> Cause {
    let [upper, work] =
        [c"upperdir", c"workdir"].map(|key| layers.iter().find(|layer| layer.key == key));
    let (upper, work) = (upper?, work?);
    let [above_upper, above_work] = [upper, work].map(|layer| ancestors(cx, layer.dir.as_fd()));
    let (upper_stat, work_stat) = (above_upper.first()?, above_work.first()?);
    let (upper, work) = (&upper.shown, &work.shown);
    let advice = "use two directories side by side";
    if upper_stat.mnt_id != work_stat.mnt_id {
        return Some((format!("{upper} and {work} are on different mounts"), advice));
    }
    if upper_stat.same_file(work_stat) {
        return Some((format!("{upper} and {work} are the same directory"), advice));
    }
    if above_work.iter().any(|above| above.same_file(upper_stat)) {
        return Some((format!("{work} is inside {upper}"), advice));
    }
    let is_above = above_upper.iter().any(|above| above.same_file(work_stat));
    is_above.then(|| (format!("{upper} is inside {work}"), advice))
}

/// A layer, where it is in its file system, whichever mounts lead there.
struct Spot<'a> {
    layer: &'a Layer,
    stat: Statx,
    /// It and the directories above it on its mount.
    above: Vec<Statx>,
    /// Its path in the file system, where that is known.
    path: Option<Vec<u8>>,
}

/// No lower layer may be another layer, or inside one. (An upper may be inside a lower.)
pub fn overlapping(cx: &Cx, layers: &[Layer]) -> Cause {
    let mounts = mounts::own_list(cx).unwrap_or_default();
    let spots: Vec<Spot> = layers.iter().filter_map(|layer| spot(cx, layer, &mounts)).collect();
    let mut lower = spots.iter().enumerate().filter(|(_, spot)| spot.layer.is_lower());
    lower.find_map(|(i, inner)| {
        spots.iter().enumerate().filter(|(j, _)| i != *j).find_map(|(_, outer)| {
            let (inside, outside) = (&inner.layer.shown, &outer.layer.shown);
            let why = match () {
                () if inner.stat.same_file(&outer.stat) => {
                    format!("{inside} and {outside} are the same directory")
                }
                () if inner.is_inside(outer) => format!("{inside} is inside {outside}"),
                () => return None,
            };
            Some((why, "give each directory once, and no --lower inside another"))
        })
    })
}

fn spot<'a>(cx: &Cx, layer: &'a Layer, mounts: &[Mount]) -> Option<Spot<'a>> {
    let above = ancestors(cx, layer.dir.as_fd());
    let stat = *above.first()?;
    let in_file_system = || {
        let mount = mounts.iter().find(|mount| mount.id == stat.mnt_id)?;
        let path = path(cx, layer.dir.as_fd())?;
        let rest = path.strip_prefix(without_slash(mount.point))?;
        Some([without_slash(mount.root), rest].concat())
    };
    let path = in_file_system();
    Some(Spot { layer, stat, above, path })
}

impl Spot<'_> {
    fn is_inside(&self, outer: &Spot) -> bool {
        let device = |stat: &Statx| (stat.dev_major, stat.dev_minor);
        let by_path = || match (&self.path, &outer.path) {
            (Some(inner), Some(above)) => is_inside(inner, above),
            _ => false,
        };
        self.above.iter().any(|above| above.same_file(&outer.stat))
            || device(&self.stat) == device(&outer.stat) && by_path()
    }
}

/// Which layer is the upper or work of an overlay in this mount namespace. (Of one that was mounted by paths that do
/// not begin at the root, nobody knows which they were.)
pub fn in_use(cx: &Cx, layers: &[Layer]) -> Cause {
    let mounts = mounts::own_list(cx).ok()?;
    for mount in mounts.iter().filter(|mount| mount.fstype == b"overlay") {
        for option in split(mount.super_options, b',') {
            let Some((b"upperdir" | b"workdir", path)) = pair(option, b'=') else { continue };
            let path = cstring(mountinfo::unescape(path));
            let Some(used) = stat_absolute(cx, &path) else { continue };
            let is_used = |layer: &&Layer| {
                sys::fstatx(cx, layer.dir.as_fd()).is_ok_and(|stat| stat.same_file(&used))
            };
            if let Some(layer) = layers.iter().find(is_used) {
                let point = plain(mount.point);
                let why = format!("{} is in use by the overlay on {point}", layer.shown);
                return Some((why, "unmount that overlay, or use other directories"));
            }
        }
    }
    None
}

fn stat_absolute(cx: &Cx, path: &CStr) -> Option<Statx> {
    let path = Some(path).filter(|path| path.to_bytes().starts_with(b"/"))?;
    sys::statx(cx, None, path, 0).ok()
}

/// The path of an open directory, as seen from the root of this process.
pub fn path(cx: &Cx, dir: BorrowedFd) -> Option<Vec<u8>> {
    let link = ["/proc/self/fd/", &number(dir.as_raw_fd() as u64)].concat();
    sys::readlinkat(cx, None, &cstring(link)).ok()
}

/// Is a path inside another, which is not the same?
pub fn is_inside(inner: &[u8], outer: &[u8]) -> bool {
    inner
        .strip_prefix(without_slash(outer))
        .is_some_and(|rest| rest.len() > 1 && rest.starts_with(b"/"))
}

/// A path without the slash that only the root ends with.
fn without_slash(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

/// A directory and all above it on the same mount. What is above a bind mount is not above its directory.
fn ancestors(cx: &Cx, dir: BorrowedFd) -> Vec<Statx> {
    let mut all: Vec<Statx> = Vec::new();
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let mut next = sys::openat(cx, Some(dir), c".", flags);
    while let Ok(dir) = next {
        let is_next = |stat: &Statx| {
            // Above the root is the root.
            all.last().is_none_or(|last| last.mnt_id == stat.mnt_id && !last.same_file(stat))
        };
        match sys::fstatx(cx, dir.as_fd()) {
            Ok(stat) if is_next(&stat) => all.push(stat),
            _ => break,
        }
        next = sys::openat(cx, Some(dir.as_fd()), c"..", flags);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::is_inside;

    #[test]
    fn a_path_is_inside_another_by_whole_names() {
        for (inner, outer, inside) in [
            ("/a/b", "/a", true),
            ("/a", "/", true),
            ("/ab", "/a", false),
            ("/a", "/a", false),
            ("/", "/", false),
            ("/a", "/a/b", false),
        ] {
            assert_eq!(is_inside(inner.as_bytes(), outer.as_bytes()), inside, "{inner} {outer}");
        }
    }
}
