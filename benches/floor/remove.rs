//! The removal of what was made outside.

use std::os::fd::AsFd;

use libc::AT_REMOVEDIR;
use td::say::error::Error;
use td::sys::{self, Cx};

use crate::Asked;
use crate::outside::Place;

pub fn all(cx: &Cx, asked: &Asked, place: &Place) -> Result<(), Error> {
    let dir = Some(place.dir.as_fd());
    sys::unlinkat(cx, dir, c"pid", 0)?;
    for cgroup in asked.paths(b"cgroup").rev() {
        sys::unlinkat(cx, None, cgroup, AT_REMOVEDIR)?;
    }
    sys::unlinkat(cx, dir, c"cgroups", 0)?;
    let run = Some(place.run.as_fd());
    sys::unlinkat(cx, run, c"policy", 0)?;
    // What an overlay that is volatile leaves.
    sys::unlinkat(cx, run, c"work/work/incompat/volatile/dirty", 0)?;
    for left in [
        c"work/work/incompat/volatile",
        c"work/work/incompat",
        c"work/work",
        c"work",
        c"upper",
        c"root",
    ] {
        sys::unlinkat(cx, run, left, AT_REMOVEDIR)?;
    }
    sys::unlinkat(cx, dir, c"run", AT_REMOVEDIR)?;
    sys::unlinkat(cx, Some(place.containers.as_fd()), asked.name, AT_REMOVEDIR)
}
