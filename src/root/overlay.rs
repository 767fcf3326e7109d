//! Overlays: their layers, how they are mounted, and why the kernel refuses.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use syscalls::Errno;

use crate::ids::caps::CAP_SYS_ADMIN;
use crate::root::mounts;
use crate::say::error::Error;
use crate::say::show::{ascii, plain};
use crate::sys::structs::Statx;
use crate::sys::{self, Cx, FsConfig, cstring};

/// A layer, or the work directory.
pub struct Layer {
    /// What the kernel calls it: `lowerdir+`, `upperdir` or `workdir`.
    pub key: &'static CStr,
    /// What the user calls it.
    pub shown: String,
    /// FSCONFIG_SET_FD takes no descriptor that was opened with O_PATH.
    pub dir: OwnedFd,
    /// Is it a work directory with the mark of a volatile overlay? The kernel sets the mark before it
    /// looks at the other layers: after a failure it is too late to see whose it is.
    pub is_used: bool,
}

impl Layer {
    /// One that is there; `dir` where it is open already, for reading.
    pub fn open(
        cx: &Cx,
        key: &'static CStr,
        path: &CStr,
        dir: Option<OwnedFd>,
    ) -> Result<Layer, Error> {
        let option = match key.to_bytes() {
            b"upperdir" => "--upper",
            b"workdir" => "--work",
            _ => "--lower",
        };
        let shown = format!("{option} {}", plain(path.to_bytes()));
        let dir = match dir {
            Some(dir) => dir,
            None => open_directory(cx, option, path, libc::O_RDONLY)?,
        };
        let mark = || sys::statx(cx, Some(dir.as_fd()), c"work/incompat/volatile", 0);
        let is_used = key == c"workdir" && mark().is_ok();
        Ok(Layer { key, shown, dir, is_used })
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
        let shown = format!("{} of --tmpfs", plain(name.to_bytes()));
        Ok(Layer { key, shown, dir, is_used: false })
    }

    /// The root of a tmpfs, as a lower layer in which there is nothing.
    pub fn empty(cx: &Cx, tmpfs: BorrowedFd) -> Result<Layer, Error> {
        let dir = sys::openat_made(cx, Some(tmpfs), c".", libc::O_RDONLY | libc::O_DIRECTORY)?;
        let shown = String::from("the empty layer");
        Ok(Layer { key: c"lowerdir+", shown, dir, is_used: false })
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
        Ok(stat) if !stat.is_dir() => {
            Err(error.because(format_args!("{what} {shown} is no directory")))
        }
        Err(e) if e.is(Errno::ENOENT) => {
            let error = error.because(format_args!("there is no {what} {shown}"));
            Err(if what == "--lower" { error } else { error.way_out("--mkdir makes it") })
        }
        _ => Err(error),
    }
}

// ---- mounting ----

/// An option of the overlay: a key, and a value or none.
pub type Parameter<'a> = (&'a CStr, Option<&'a CStr>);

/// A tmpfs that is nowhere yet.
pub fn new_tmpfs(cx: &Cx, size: Option<&CStr>, attr: u64) -> Result<OwnedFd, Error> {
    let mut options = vec![(c"source", Some(c"tmpfs")), (c"mode", Some(c"700"))];
    options.extend(size.map(|size| (c"size", Some(size))));
    let attr = attr | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID;
    mounts::new_fs(cx, c"tmpfs", &options, attr).map_err(|e| why(cx, &[], &[], e))
}

/// An overlay of the layers, each lower one before the one below it, that is nowhere yet. `target` is
/// where it will go: older kernels need a place to mount on.
pub fn new(
    cx: &Cx,
    layers: &[Layer],
    options: &[Parameter],
    target: BorrowedFd,
) -> Result<OwnedFd, Error> {
    let config = sys::fsopen(cx, c"overlay").map_err(|e| why(cx, layers, options, e))?;
    let config = config.as_fd();
    let refused = |e| why(cx, layers, options, mounts::fs_log(cx, config, e));
    for (i, layer) in layers.iter().enumerate() {
        cx.expects(if i == 0 { &[Errno::EOPNOTSUPP, Errno::EINVAL] } else { &[] });
        match sys::fsconfig(cx, config, FsConfig::Fd(layer.key, layer.dir.as_fd())) {
            // Linux before 6.5, and before 6.13; or the reason is another, and the fallback shows it too.
            Err(e) if i == 0 && (e.is(Errno::EOPNOTSUPP) || e.is(Errno::EINVAL)) => {
                return new_by_number(cx, layers, options, target);
            }
            other => other.map_err(refused)?,
        }
    }
    for (key, value) in [(c"source", Some(c"overlay"))].iter().chain(options) {
        let command = value.map_or(FsConfig::Flag(key), |value| FsConfig::String(key, value));
        sys::fsconfig(cx, config, command)
            .map_err(|e| why_no_option(*value, mounts::fs_log(cx, config, e)))?;
    }
    sys::fsconfig(cx, config, FsConfig::Create).map_err(refused)?;
    sys::fsmount(cx, config, libc::MOUNT_ATTR_NODEV).map_err(refused)
}

/// The kernel says itself what is wrong with an option, but for this.
fn why_no_option(value: Option<&CStr>, error: Error) -> Error {
    match value.map_or(0, CStr::count_bytes) {
        n @ 256.. => {
            error.because(format_args!("fsconfig(2) takes 255 bytes at most, and these are {n}"))
        }
        _ => error,
    }
}

/// Before Linux 6.13 layers are paths in the text that mount(2) takes, where `:`, `,` and `\` mean
/// something, and which is cut after a page. So each is the number of its descriptor, looked up in
/// `/proc/self/fd`. mount(2) returns no descriptor: it mounts on a tmpfs of ours, where nobody can get
/// between, and what goes on TARGET is a clone.
fn new_by_number(
    cx: &Cx,
    layers: &[Layer],
    options: &[Parameter],
    target: BorrowedFd,
) -> Result<OwnedFd, Error> {
    let data = mount_data(layers, options)?;
    let here = sys::openat(cx, None, c".", libc::O_PATH | libc::O_DIRECTORY)?;
    let stage = new_tmpfs(cx, None, 0)?;
    sys::mkdirat(cx, Some(stage.as_fd()), c"overlay", 0o700)?;
    sys::move_mount(cx, stage.as_fd(), target)?;
    let made = mount_on(cx, stage.as_fd(), &data).map_err(|e| why(cx, layers, options, e));
    mounts::detach(cx, stage.as_fd())?;
    sys::fchdir(cx, here.as_fd())?;
    made
}

fn mount_on(cx: &Cx, stage: BorrowedFd, data: &CStr) -> Result<OwnedFd, Error> {
    let point = cstring(format!("{}/overlay", stage.as_raw_fd()));
    sys::chdir(cx, c"/proc/self/fd")
        .map_err(|e| e.because("before Linux 6.13 layers are given through /proc"))?;
    let overlay = Some(c"overlay");
    sys::mount(cx, overlay, &point, overlay, libc::MS_NODEV, Some(data))?;
    sys::open_tree(cx, Some(stage), c"overlay", libc::OPEN_TREE_CLONE)
}

/// `lowerdir=3:4:5,upperdir=6,workdir=7,volatile`
fn mount_data(layers: &[Layer], options: &[Parameter]) -> Result<CString, Error> {
    let number = |layer: &Layer| layer.dir.as_raw_fd().to_string();
    let (lower, others): (Vec<_>, Vec<_>) = layers.iter().partition(|layer| layer.is_lower());
    let lower: Vec<String> = lower.into_iter().map(number).collect();
    let mut data = format!("lowerdir={}", lower.join(":")).into_bytes();
    for layer in others {
        let key = ascii(layer.key.to_bytes());
        data.extend(format!(",{key}={}", number(layer)).bytes());
    }
    for (key, value) in options {
        data.push(b',');
        data.extend(key.to_bytes());
        data.extend(value.iter().flat_map(|value| [b"=", value.to_bytes()].concat()));
    }
    // The page ends with a zero byte.
    if data.len() > 4095 {
        let what = format!("the options of the overlay have {} bytes", data.len());
        return Err(Error::refusal(format_args!(
            "{what}, and before Linux 6.13 it takes at most 4095"
        )));
    }
    Ok(cstring(data))
}

// ---- why ----

/// What was found by looking, and the way out.
type Cause = Option<(String, &'static str)>;

/// Why the kernel makes no overlay of these layers; without any, why it makes no tmpfs.
pub fn why(cx: &Cx, layers: &[Layer], options: &[Parameter], error: Error) -> Error {
    let found = match error.errno() {
        Some(Errno::EPERM) => not_allowed(cx),
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
            error.way_out("the kernel's log says what it refuses: dmesg")
        }
        None => error,
    }
}

fn not_allowed(cx: &Cx) -> Cause {
    if sys::capget(cx).ok()?.effective() >> CAP_SYS_ADMIN & 1 == 0 {
        let why = "mounting takes CAP_SYS_ADMIN, which this process does not have";
        return Some((why.into(), "run it inside td-unshare --map-root-user --mount"));
    }
    let ours = sys::statx(cx, None, c"/proc/self/ns/user", 0).ok()?;
    let mounts = sys::openat(cx, None, c"/proc/self/ns/mnt", libc::O_RDONLY).ok()?;
    // EPERM: the owner is a user namespace above ours.
    let owner = sys::ns_get_userns(cx, mounts.as_fd()).and_then(|ns| sys::fstatx(cx, ns.as_fd()));
    match owner {
        Ok(owner) if owner.same_file(&ours) => return None,
        Err(e) if !e.is(Errno::EPERM) => return None,
        _ => {}
    }
    let why = "the mount namespace belongs to another user namespace than ours";
    Some((why.into(), "run it inside td-unshare --mount"))
}

fn too_many(layers: &[Layer]) -> Cause {
    let n = layers.iter().filter(|layer| layer.is_lower()).count();
    (n > 500).then(|| (format!("there are {n} lower layers, and an overlay has at most 500"), ""))
}

/// File systems that change by themselves, so that no upper can be there.
const UNFIT: [(i64, &str); 4] = [
    (libc::OVERLAYFS_SUPER_MAGIC, "an overlay"),
    (libc::FUSE_SUPER_MAGIC, "a FUSE file system"),
    (libc::NFS_SUPER_MAGIC, "NFS"),
    (libc::PROC_SUPER_MAGIC, "procfs"),
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
fn used_up(layers: &[Layer]) -> Cause {
    let work = layers.iter().find(|layer| layer.is_used)?;
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

/// What a rename or a change of mode leaves in the upper by these would be taken from any user's xattrs.
fn conflicting(options: &[Parameter]) -> Cause {
    options.iter().find(|(key, _)| *key == c"userxattr")?;
    let (key, value) = options.iter().find_map(|(key, value)| match (*key, *value) {
        (key, Some(value)) if key == c"redirect_dir" && value != c"nofollow" => Some((key, value)),
        (key, Some(value)) if key == c"metacopy" && value != c"off" => Some((key, value)),
        _ => None,
    })?;
    let option = plain(&[key.to_bytes(), b"=", value.to_bytes()].concat());
    let why = "does not go with userxattr, which a user namespace needs";
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
