//! Whom a directory may belong to, and who may write to it.

use crate::say::error::Error;
use crate::say::show::number;
use crate::sys::structs::Statx;
use crate::sys::{self, Cx};

/// Can nobody but root and the caller change what is in this directory, of which a message says `shown`? `owner` is
/// trusted in the caller's place.
pub fn check(cx: &Cx, owner: Option<u32>, stat: &Statx, shown: &str) -> Result<(), Error> {
    check_owner(cx, owner, stat, shown)?;
    let mode = stat.permissions();
    // With a umask of 002, the group is usually the user's own and has the same number. In a user namespace the numbers
    // may differ.
    let caller = (cx.start.euid, cx.start.egid);
    let is_own = |stat: &Statx| {
        stat.uid == stat.gid
            || (stat.uid, stat.gid) == caller && owner_of_root(cx).is_ok_and(|owner| owner != 0)
    };
    if mode & libc::S_ISVTX != 0
        || mode & libc::S_IWOTH == 0 && (mode & libc::S_IWGRP == 0 || is_own(stat))
    {
        return Ok(());
    }
    Err(Error::refusal(["others can write to ", shown, ", and replace what is in it"].concat())
        .way_out(["chmod go-w ", shown, ", or choose another directory"].concat()))
}

/// Refuse what belongs neither to root nor to the caller, or to `owner` in the caller's place.
pub fn check_owner(cx: &Cx, owner: Option<u32>, stat: &Statx, shown: &str) -> Result<(), Error> {
    is_trusted(cx, stat.uid, owner.unwrap_or(cx.start.euid), shown)
        .map_err(|e| e.way_out("choose a directory that belongs to root or to the caller"))
}

/// Refuse an `owner` that is neither root nor the caller.
pub fn is_trusted(cx: &Cx, owner: u32, caller: u32, shown: &str) -> Result<(), Error> {
    if owner == 0 || owner == caller || owner == owner_of_root(cx)? {
        return Ok(());
    }
    let [owner, caller] = [owner, caller].map(|id| number(id.into()));
    let whom = [" belongs to uid ", &owner, ", whom uid ", &caller, " does not trust"];
    Err(Error::refusal([shown, &whom.concat()].concat()))
}

fn owner_of_root(cx: &Cx) -> Result<u32, Error> {
    sys::statx(cx, None, c"/", 0).map(|root| root.uid)
}
