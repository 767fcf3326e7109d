//! td-overlay: mount an overlay at TARGET, then become PROG.

const HELP: &str = "\
usage: td-overlay --lower DIR [OPTION]... TARGET PROG [ARG]...

Mount an overlay on the directory TARGET and become PROG. Writes go to --upper,
or are lost with --tmpfs; with neither, the overlay is read-only.

      --lower DIR     add a read-only layer; repeatable, the first is on top
      --upper DIR     set the layer that is written to (needs --work)
      --work DIR      set an empty directory on the same mount as --upper
      --tmpfs[=SIZE]  put upper and work on a new tmpfs of at most SIZE: bytes,
                      with K, M, G or T after them, or N% of the memory
      --mkdir         create --upper, --work and TARGET, with missing parents
      --state DIR     follow no symbolic link below DIR, also to a --lower
      --volatile      sync nothing to the disk: --upper can be used only once
      --option KEY[=VALUE]  set another option of the overlay (index=off, ...)
";

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use syscalls::Errno;

use crate::cli::{Cli, Prog, others};
use crate::process::chain::{self, Tool};
use crate::process::prog::Next;
use crate::root::directories::{self, Last, Place};
use crate::root::mount_namespace;
use crate::root::mounts::{self, Parameter};
use crate::root::overlay;
use crate::root::overlay::layer::{Layer, is_marked, open_directory};
use crate::root::remove;
use crate::say::error::Error;
use crate::say::number::{decimal, fits, parse_size};
use crate::say::show::{ascii, number, plain};
use crate::sys::{self, Cx};

/// The tool.
pub const TOOL: Tool = Tool {
    name: "td-overlay",
    step: |cx, args| chain::step(cx, (TOOL.name, HELP), args, parse, apply),
};

#[derive(Default)]
struct Opts {
    lower: Vec<CString>,
    /// Where upper and work are; `None` makes the overlay read-only.
    writable: Option<Writable>,
    mkdir: bool,
    /// No link is followed below it.
    state: Option<CString>,
    volatile: bool,
    options: Vec<(CString, Option<CString>)>,
    target: CString,
    prog: Prog,
}

enum Writable {
    Dirs {
        upper: CString,
        work: CString,
    },
    /// On a tmpfs that lies below the overlay, of this size.
    Tmpfs(Option<CString>),
}

fn parse(cli: &mut Cli) -> Result<Opts, Error> {
    let mut opts = Opts::default();
    let (mut upper, mut work, mut tmpfs) = (None, None, None);
    while let Some(option) = cli.option()? {
        match option.as_str() {
            "--lower" => opts.lower.push(cli.path()?),
            "--upper" => upper = Some(cli.path()?),
            "--work" => work = Some(cli.path()?),
            "--tmpfs" => tmpfs = Some(size(cli)?),
            "--mkdir" => opts.mkdir = true,
            "--state" => opts.state = Some(cli.path()?),
            "--volatile" => opts.volatile = true,
            "--option" => opts.options.push(key_value(cli)?),
            _ => return Err(cli.unknown(&option, others::OVERLAY)),
        }
    }
    opts.writable = match (upper, work, tmpfs) {
        (Some(upper), Some(work), None) => Some(Writable::Dirs { upper, work }),
        (None, None, Some(size)) => Some(Writable::Tmpfs(size)),
        (None, None, None) => None,
        (_, _, Some(_)) => {
            return Err(cli.usage("--tmpfs cannot be combined with --upper or --work"));
        }
        (Some(_), None, _) => return Err(cli.usage("--upper needs --work")),
        (None, Some(_), _) => return Err(cli.usage("--work needs --upper")),
    };
    if opts.lower.is_empty() {
        return Err(cli.usage("--lower is missing: an overlay has at least one"));
    }
    if opts.volatile && opts.writable.is_none() {
        return Err(cli.usage("--volatile needs --upper or --tmpfs"));
    }
    opts.target = cli.operand("TARGET")?;
    opts.prog = cli.prog()?;
    Ok(opts)
}

/// What tmpfs(5) takes as `size`.
fn size(cli: &mut Cli) -> Result<Option<CString>, Error> {
    let Some(value) = cli.optional() else { return Ok(None) };
    let text = ascii(value.as_encoded_bytes());
    let checked = match text.strip_suffix('%') {
        Some(percent) if fits(text.as_bytes()) => {
            decimal(percent.as_bytes()).map(|percent| number(percent) + "%")
        }
        Some(_) => None,
        None => parse_size(&text).map(|bytes| bytes.to_string()),
    };
    match checked {
        Some(size) => Ok(CString::new(size).ok()),
        None => {
            let value = plain(value.as_encoded_bytes());
            Err(cli.usage(format_args!("--tmpfs={value}: not a size")))
        }
    }
}

fn key_value(cli: &mut Cli) -> Result<(CString, Option<CString>), Error> {
    let text = cli.value()?.into_vec();
    let mut halves = text.splitn(2, |b| *b == b'=');
    let mut half = || halves.next().and_then(|half| CString::new(half).ok());
    Ok((half().unwrap_or_default(), half()))
}

fn apply(cx: &Cx, opts: &Opts) -> Result<Next, Error> {
    let prog = opts.prog.find_tool(cx)?;
    mount_namespace::warn_on_host(cx);
    let mut made = Made::default();
    let next = build(cx, opts, &mut made).and_then(|()| prog.next(cx));
    next.inspect_err(|_| undo(cx, made))
}

/// What is to be undone when the step fails.
#[derive(Default)]
struct Made {
    /// Directories, a parent before what is in it.
    directories: Vec<directories::Made>,
    /// Mounts, one that is covered before the one that covers it.
    mounts: Vec<OwnedFd>,
    /// The work directory, where it was made: the kernel has filled it.
    work: Option<OwnedFd>,
    /// The work directory, where it was there: what is the kernel's in it is removed, if the call that failed got so
    /// far as to mark it. Else it may be in use by another overlay.
    filled: Option<OwnedFd>,
}

fn build(cx: &Cx, opts: &Opts, made: &mut Made) -> Result<(), Error> {
    let lower = opts.lower.iter().map(|path| {
        let dir = in_state(cx, opts, path)?;
        Layer::open(cx, c"lowerdir+", path, dir)
    });
    let mut layers = lower.collect::<Result<Vec<_>, _>>()?;
    let target = match opts.mkdir {
        true => make(cx, opts, &opts.target, made)?.0,
        false => open_directory(cx, "TARGET", &opts.target, libc::O_PATH)?,
    };
    add_layers(cx, opts, target.as_fd(), &mut layers, made)?;
    // From now on the mark may exist, even if the kernel refuses the rest, and it would prevent the next run.
    if opts.volatile && made.work.is_none() && !layers.iter().any(|layer| layer.is_used) {
        let work = layers.iter().find(|layer| layer.key == c"workdir");
        made.filled = work.map(|work| again(cx, work.dir.as_fd())).transpose()?;
    }
    let overlay = overlay::new(cx, &layers, &parameters(cx, opts)?, target.as_fd())?;
    verify(cx, &layers, overlay.as_fd())?;
    attach(cx, overlay, target.as_fd(), made)
}

/// Make a directory, and open it for reading. Returns it, and whether it was made.
fn make(cx: &Cx, opts: &Opts, path: &CStr, made: &mut Made) -> Result<(OwnedFd, bool), Error> {
    let (state, made) = (opts.state.as_deref(), &mut made.directories);
    let (directory, is_new) = directories::make(cx, state, path, Last::Anyones, made)?;
    Ok((again(cx, directory.as_fd())?, is_new))
}

/// A lower layer in the state, opened for reading. `None`: it is elsewhere, or does not exist.
fn in_state(cx: &Cx, opts: &Opts, path: &CStr) -> Result<Option<OwnedFd>, Error> {
    let Some(state) = opts.state.as_deref().filter(|state| directories::is_below(path, state))
    else {
        return Ok(None);
    };
    let directory = directories::open(cx, Some(state), path, Last::Anyones)?;
    directory.map(|directory| again(cx, directory.as_fd())).transpose()
}

/// Open a directory once more, for reading.
fn again(cx: &Cx, directory: BorrowedFd) -> Result<OwnedFd, Error> {
    sys::openat(cx, Some(directory), c".", libc::O_RDONLY | libc::O_DIRECTORY)
}

/// Beside the lower layers: an upper with its work directory, or their replacement.
fn add_layers(
    cx: &Cx,
    opts: &Opts,
    target: BorrowedFd,
    layers: &mut Vec<Layer>,
    made: &mut Made,
) -> Result<(), Error> {
    match &opts.writable {
        Some(Writable::Dirs { upper, work }) => {
            let (mut dirs, mut is_new) = ([None, None], false);
            if opts.mkdir {
                let (upper, new_upper) = make(cx, opts, upper, made)?;
                let (work, new_work) = make(cx, opts, work, made)?;
                if new_work {
                    made.work = Some(again(cx, work.as_fd())?);
                }
                (dirs, is_new) = ([Some(upper), Some(work)], new_upper);
            }
            let [upper_dir, work_dir] = dirs;
            let upper = Layer::open(cx, c"upperdir", upper, upper_dir)?;
            if is_new {
                like_the_lower(cx, &upper, layers)?;
            }
            layers.extend([upper, Layer::open(cx, c"workdir", work, work_dir)?]);
        }
        Some(Writable::Tmpfs(size)) => {
            let tmpfs = overlay::new_tmpfs(cx, size.as_deref(), 0)?;
            let upper = Layer::make(cx, c"upperdir", tmpfs.as_fd(), c"upper")?;
            like_the_lower(cx, &upper, layers)?;
            layers.extend([upper, Layer::make(cx, c"workdir", tmpfs.as_fd(), c"work")?]);
            attach(cx, tmpfs, target, made)?;
        }
        // Without an upper the kernel wants two lower layers. The second may be empty; on Linux 6.1 it must be mounted
        // somewhere, and below the overlay it is out of the way.
        None if layers.len() == 1 => {
            let tmpfs = overlay::new_tmpfs(cx, None, libc::MOUNT_ATTR_RDONLY)?;
            layers.push(Layer::empty(cx, tmpfs.as_fd())?);
            attach(cx, tmpfs, target, made)?;
        }
        None => {}
    }
    Ok(())
}

fn attach(cx: &Cx, mount: OwnedFd, target: BorrowedFd, made: &mut Made) -> Result<(), Error> {
    sys::move_mount(cx, mount.as_fd(), target)?;
    made.mounts.push(mount);
    Ok(())
}

/// The root of the container is the upper directory, which shall look as the root of the image does.
fn like_the_lower(cx: &Cx, upper: &Layer, layers: &[Layer]) -> Result<(), Error> {
    let Some(lower) = layers.first() else { return Ok(()) };
    let lower = sys::fstatx(cx, lower.dir.as_fd())?;
    match sys::fchown(cx, upper.dir.as_fd(), Some(lower.uid), Some(lower.gid)) {
        // In a user namespace where that owner is not mapped, the caller owns the root.
        Err(e) if e.is(Errno::EPERM) || e.is(Errno::EINVAL) => {}
        other => other?,
    }
    sys::fchmod(cx, upper.dir.as_fd(), lower.permissions())
}

/// Undo what would outlive this process. What cannot be undone is reported, and the rest is still undone.
fn undo(cx: &Cx, made: Made) {
    let mut results: Vec<Result<(), Error>> = Vec::new();
    if !made.mounts.is_empty() {
        let here = sys::openat(cx, None, c".", libc::O_PATH | libc::O_DIRECTORY);
        let mounts = made.mounts.into_iter().rev();
        results.extend(mounts.map(|mount| mounts::detach(cx, mount.as_fd())));
        results.push(here.and_then(|here| sys::fchdir(cx, here.as_fd())));
    }
    results.extend(made.work.map(|work| remove::empty(cx, work.as_fd())));
    let filled = made.filled.filter(|work| is_marked(cx, work.as_fd()));
    results.extend(filled.map(|directory| {
        let (name, path) = (c"work".into(), c"work".into());
        remove::remove_tree(cx, &Place { directory: directory.into(), name, path })
    }));
    results.push(directories::undo(cx, &made.directories));
    for error in results.into_iter().filter_map(Result::err) {
        cx.say(&error);
    }
}

fn parameters<'a>(cx: &Cx, opts: &'a Opts) -> Result<Vec<Parameter<'a>>, Error> {
    let given = opts.options.iter().map(|(key, value)| (key.as_c_str(), value.as_deref()));
    let mut all: Vec<_> = given.collect();
    if opts.volatile {
        all.push((c"volatile", None));
    }
    // Elsewhere whiteouts and opaque directories are trusted.* xattrs, which only the initial user
    // namespace may write: without this option they would be lost, silently.
    if in_user_namespace(cx)? {
        all.push((c"userxattr", None));
    }
    Ok(all)
}

/// Is this a user namespace other than the initial one, whose inode is fixed? Without /proc, it is assumed to be the
/// initial one.
fn in_user_namespace(cx: &Cx) -> Result<bool, Error> {
    const PROC_USER_INIT_INO: u64 = 0xEFFF_FFFD; // linux/proc_ns.h
    match sys::statx(cx, None, c"/proc/self/ns/user", 0) {
        Err(e) if e.is(Errno::ENOENT) => Ok(false),
        other => Ok(other?.ino != PROC_USER_INIT_INO),
    }
}

/// The kernel makes an overlay that is read-only, and says nothing, when it cannot use the work
/// directory.
fn verify(cx: &Cx, layers: &[Layer], overlay: BorrowedFd) -> Result<(), Error> {
    if cx.dry() {
        return Ok(());
    }
    let fs = sys::fstatfs(cx, overlay)?;
    if fs.f_type != libc::OVERLAYFS_SUPER_MAGIC {
        return Err(Error::refusal("what was mounted is not an overlay"));
    }
    match layers.iter().find(|layer| layer.key == c"workdir") {
        Some(work) if fs.f_flags as u64 & libc::ST_RDONLY != 0 => {
            let what = "the overlay is read-only, though an upper was given";
            let why = format!("the kernel could not empty or create {}/work", work.shown);
            let error = Error::refusal(what).because(why);
            Err(match sys::fstatfs(cx, work.dir.as_fd()) {
                Ok(fs) if fs.is_full() => error.because("its file system is full"),
                _ => error.way_out("give a new --work directory"),
            })
        }
        _ => Ok(()),
    }
}
