//! Joining namespaces of a process, or namespaces that files hold: setns(2). The root, the working directory and the
//! cgroups that are entered with them are opened here too, because paths belong to the container once we are inside.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use syscalls::Errno;

use crate::cgroup::memberships::Memberships;
use crate::cgroup::record::{Record, Wanted};
use crate::ids::caps::{self, CAP_SYS_ADMIN, CAP_SYS_CHROOT};
use crate::ids::user_namespace;
use crate::process::namespaces;
use crate::process::target::Target;
use crate::root::dry_run::or_stand_in;
use crate::say::error::Error;
use crate::say::show::plain;
use crate::sys::{self, Cx};

/// The bits of two types of namespaces that need special treatment.
pub const USER: u64 = libc::CLONE_NEWUSER as u64;
pub const PID: u64 = libc::CLONE_NEWPID as u64;

/// Every kind.
pub const ALL: u64 = u64::MAX;

/// What the command line asks for.
#[derive(Default, PartialEq)]
pub struct Asked {
    /// The namespaces (CLONE_NEW*) of the process.
    pub namespaces: u64,
    /// Those that files hold.
    pub files: Vec<(u64, CString)>,
    /// A directory, or that of the process.
    pub root: Option<Option<CString>>,
    pub wd: Option<Option<CString>>,
    /// The cgroups of the process.
    pub cgroup: bool,
}

/// What is joined, opened while we are outside.
#[derive(Default)]
pub struct Opened {
    pub joins: Vec<Join>,
    pub cgroups: Memberships,
    pub root: Option<OwnedFd>,
    pub wd: Option<OwnedFd>,
    /// The ids that PROG will have if they change, as the caller's user namespace shows them.
    pub ids: [Option<u32>; 2],
}

impl Opened {
    /// Open what is asked for: of a process, or `all` of a container.
    pub fn new(cx: &Cx, asked: &Asked, target: Option<Target>, all: bool) -> Result<Opened, Error> {
        let mut opened = Opened::default();
        for (kind, path) in &asked.files {
            let file = or_stand_in(cx, sys::openat(cx, None, path, libc::O_RDONLY))?; // a tool makes it
            opened.joins.push(Join { file, kinds: *kind, path: path.clone() });
        }
        if let Some(Some(path)) = &asked.root {
            opened.root = Some(sys::openat(cx, None, path, libc::O_PATH | libc::O_DIRECTORY)?);
        }
        if let Some(target) = target {
            opened.open_process(cx, asked, target, all)?;
        }
        Ok(opened)
    }

    fn open_process(
        &mut self,
        cx: &Cx,
        asked: &Asked,
        target: Target,
        all: bool,
    ) -> Result<(), Error> {
        let by_file = asked.files.iter().fold(0, |kinds, (kind, _)| kinds | kind);
        let wanted = if all { ALL } else { asked.namespaces & !by_file };
        let kinds = target.others(cx, wanted)?;
        if all || asked.cgroup {
            let text = target.read(cx, c"cgroup")?;
            self.cgroups = Record::parse(cx, &text, Wanted::Others)?.open(cx)?;
        }
        if all || asked.root == Some(None) {
            self.root = Some(target.directory(cx, c"root")?);
        }
        if asked.wd == Some(None) {
            self.wd = Some(target.directory(cx, c"cwd")?);
        }
        if kinds & USER != 0 {
            for (id, map) in self.ids.iter_mut().zip([c"gid_map", c"uid_map"]) {
                let ids = user_namespace::smallest_mapped(&target.read(cx, map)?);
                *id = ids.map(|[_, outside]| outside);
            }
        }
        target.lives(cx)?;
        if kinds != 0 {
            self.joins.push(Join { path: target.path(), file: target.pidfd, kinds });
        }
        Ok(())
    }

    /// Is one of these kinds joined?
    pub fn joins(&self, kind: u64) -> bool {
        self.joins.iter().any(|join| join.kinds & kind != 0)
    }
}

/// A namespace, or those of a process.
pub struct Join {
    /// The namespace, or a pidfd.
    pub file: OwnedFd,
    /// CLONE_NEW*.
    pub kinds: u64,
    /// FILE, or `/proc/PID`.
    pub path: CString,
}

/// Join them all.
pub fn join(cx: &Cx, joins: &[Join]) -> Result<(), Error> {
    let has_user = joins.iter().any(|join| join.kinds & USER != 0);
    // With a pidfd all are joined at once, the user namespace first, because it gives the rights over the others.
    if let [all] = joins {
        match sys::setns(cx, all.file.as_fd(), all.kinds) {
            Err(e) if e.is(Errno::EPERM) && has_user && all.kinds != USER => {}
            other => return other.map_err(|e| why(cx, all, all.kinds, e)),
        }
    }
    // A namespace that belongs to an outer user namespace is joined before, with the rights that we have there: they
    // end when the new user namespace is joined.
    let mut refused = Vec::new();
    for join in joins.iter().filter(|join| join.kinds != USER) {
        match sys::setns(cx, join.file.as_fd(), join.kinds & !USER) {
            Err(e) if e.is(Errno::EPERM) && has_user => refused.push(join),
            other => other.map_err(|e| why(cx, join, join.kinds & !USER, e))?,
        }
    }
    for join in joins.iter().filter(|join| join.kinds & USER != 0) {
        sys::setns(cx, join.file.as_fd(), USER).map_err(|e| why(cx, join, USER, e))?;
    }
    for join in refused {
        let kinds = join.kinds & !USER;
        sys::setns(cx, join.file.as_fd(), kinds).map_err(|e| why(cx, join, kinds, e))?;
    }
    Ok(())
}

/// Why a namespace was not joined.
fn why(cx: &Cx, join: &Join, kinds: u64, error: Error) -> Error {
    let _looking = cx.looking();
    let shown = plain(join.path.to_bytes());
    match error.errno() {
        // A pidfd is readable when its process has ended.
        Some(Errno::ESRCH) if sys::readable(cx, join.file.as_fd()).unwrap_or(false) => {
            error.because(format_args!("{shown} has ended"))
        }
        Some(Errno::EINVAL) => why_not_this(cx, join, &shown, error),
        Some(Errno::EPERM) => why_forbidden(cx, join, kinds, &shown, error),
        _ => error,
    }
}

/// Is FILE not a namespace, or not a namespace that can be joined?
fn why_not_this(cx: &Cx, join: &Join, shown: &str, error: Error) -> Error {
    let _looking = cx.looking();
    let kind = match sys::ns_get_nstype(cx, join.file.as_fd()) {
        Ok(kind) => kind,
        Err(e) if e.is(Errno::ENOTTY) => {
            return error.because(format_args!("{shown} is not a namespace"));
        }
        Err(_) => return error,
    };
    if kind != join.kinds {
        let [is, asked] = [kind, join.kinds].map(namespaces::name);
        return error.because(format_args!("{shown} is a namespace of type {is}, not {asked}"));
    }
    let own = sys::statx(cx, None, c"/proc/self/ns/user", 0);
    match (kind, sys::fstatx(cx, join.file.as_fd()), own) {
        (PID, ..) => error.because(format_args!(
            "{shown} is neither this process's pid namespace nor one below it"
        )),
        (USER, Ok(stat), Ok(own)) if stat.same_file(&own) => {
            error.because(format_args!("{shown} is the user namespace of this process"))
        }
        _ => error,
    }
}

/// Which right is missing?
fn why_forbidden(cx: &Cx, join: &Join, kinds: u64, shown: &str, error: Error) -> Error {
    let _looking = cx.looking();
    if kinds == USER {
        return error
            .because(format_args!(
                "this process has no CAP_SYS_ADMIN in the user namespace of {shown}"
            ))
            .way_out("enter as root, or as the user who created it");
    }
    let lacks = |cap: u64| sys::capget(cx).is_ok_and(|own| own.effective() >> cap & 1 == 0);
    if lacks(CAP_SYS_ADMIN) {
        return caps::why(cx, CAP_SYS_ADMIN, error)
            .way_out("enter its user namespace as well: add --user");
    }
    if kinds & libc::CLONE_NEWNS as u64 != 0 && lacks(CAP_SYS_CHROOT) {
        return caps::why(cx, CAP_SYS_CHROOT, error);
    }
    let owner = sys::ns_get_userns(cx, join.file.as_fd());
    if owner.is_err_and(|e| e.is(Errno::EPERM)) {
        return error.because(format_args!("{shown} belongs to another user namespace"));
    }
    error
}
