//! Taking ids and groups, which a process then has, and giving its pipes to them: credentials(7).

use std::ffi::CStr;

use syscalls::Errno;

use crate::ids::caps::{self, CAP_SETGID, CAP_SETUID};
use crate::ids::passwd::User;
use crate::ids::user_namespace::is_mapped;
use crate::say::error::{Error, FAILED};
use crate::sys::structs::Statx;
use crate::sys::{self, Cx};

/// The file system of pipes without a name: linux/magic.h.
const PIPEFS_MAGIC: i64 = 0x5049_5045;

/// Take supplementary groups, before the ids: afterwards the right to do so is gone.
pub fn set_groups(cx: &Cx, groups: &[u32]) -> Result<(), Error> {
    sys::setgroups(cx, groups).map_err(|error| {
        let setgroups = sys::read_file(cx, None, c"/proc/self/setgroups").unwrap_or_default();
        if error.is(Errno::EPERM) && setgroups.starts_with(b"deny") {
            return error
                .because("setgroups(2) is denied in this user namespace")
                .way_out("leave out --user and --groups, or map a range of ids");
        }
        why(cx, c"/proc/self/gid_map", groups, CAP_SETGID, error)
    })
}

/// Give a user the pipes on the standard streams: only the owner may open them again, as `/dev/stdout`, where nginx,
/// httpd and php-fpm log. What has a name outside (a FIFO, a file, the caller's terminal) is not given away; a socket
/// cannot be opened at all. With `gid` the group goes too: in a user namespace both must be mapped for another user
/// there to have them next.
pub fn chown_pipes(cx: &Cx, uid: u32, gid: Option<u32>) -> Result<(), Error> {
    let mut given: Vec<Statx> = Vec::new();
    for file in [0, 1, 2].map(sys::standard_fd) {
        let stat = sys::fstatx(cx, file)?;
        if stat.file_type() != libc::S_IFIFO
            || stat.uid == uid
            || given.iter().any(|other| other.same_file(&stat))
            || sys::fstatfs(cx, file)?.f_type != PIPEFS_MAGIC
        {
            continue;
        }
        match sys::fchown(cx, file, Some(uid), gid) {
            // Without CAP_CHOWN, or where the owner is not mapped in this user namespace; or an id that is not mapped,
            // which setresuid(2) says. The pipe works all the same, but for being opened again.
            Err(e) if e.is(Errno::EPERM) || e.is(Errno::EINVAL) => {}
            other => other?,
        }
        given.push(stat);
    }
    Ok(())
}

/// Take a user's ids, the group's first: afterwards the right to do so is gone. With `keep_caps` the
/// permitted capabilities outlast that.
pub fn set_ids(cx: &Cx, user: &User, keep_caps: bool) -> Result<(), Error> {
    if keep_caps {
        sys::prctl_set_keepcaps(cx)?;
    }
    let (signal, parent) = (sys::prctl_get_pdeathsig(cx)?, sys::getppid(cx)?);
    sys::setresgid(cx, user.gid)
        .map_err(|e| why(cx, c"/proc/self/gid_map", &[user.gid], CAP_SETGID, e))?;
    sys::setresuid(cx, user.uid)
        .map_err(|e| why(cx, c"/proc/self/uid_map", &[user.uid], CAP_SETUID, e))?;
    if signal == 0 {
        return Ok(());
    }
    // The change of ids has cleared the signal that ends this process with its parent. Did the parent die meanwhile? A
    // parent that waits has passed on its pidfd, because in a new pid namespace getppid(2) is 0 whether it is alive or
    // not.
    sys::prctl_set_pdeathsig(cx, signal)?;
    let died = match cx.parent() {
        Some(parent) => sys::readable(cx, parent)?,
        None => sys::getppid(cx)? != parent,
    };
    if died { sys::exit(cx, FAILED) } else { Ok(()) }
}

/// Why ids were not taken: look whether they are mapped, and whether we may.
fn why(cx: &Cx, map: &CStr, ids: &[u32], cap: u64, error: Error) -> Error {
    let _looking = cx.looking();
    let text = sys::read_file(cx, None, map).unwrap_or_default();
    match ids.iter().find(|id| !is_mapped(&text, **id)) {
        Some(id) if error.is(Errno::EINVAL) && !text.is_empty() => {
            error.because(format_args!("the id {id} is not mapped in this user namespace"))
        }
        _ => caps::why(cx, cap, error),
    }
}

/// Give up all supplementary groups. False: we may not.
pub fn leave_groups(cx: &Cx) -> Result<bool, Error> {
    match sys::setgroups(cx.expects(&[Errno::EPERM]), &[]) {
        Err(e) if e.is(Errno::EPERM) => Ok(false),
        other => other.map(|()| true),
    }
}
