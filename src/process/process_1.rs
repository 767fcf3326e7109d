//! td-init as process 1, of a container or of a machine: what PROG and its children see of it.

use crate::say::error::Error;
use crate::sys::{self, Cx};

/// Be process 1 as PROG and its children may see it.
pub fn hide(cx: &Cx) -> Result<(), Error> {
    // What we were started with is of the host: inside, /proc/1 would show it.
    sys::prctl_set_name(cx, c"td-init")?;
    if !cx.dry() {
        cx.set_env(cx.env().to_vec());
        cx.start.forget(c"td-init");
    }
    // Nor may PROG, with the capabilities that we have, look for it in our memory or trace us.
    sys::prctl_set_undumpable(cx)
}
