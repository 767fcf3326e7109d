//! td-init as process 1, of a container or of a machine: what PROG and its children see of it.

use crate::say::error::Error;
use crate::sys::{self, Cx};

/// Be process 1 as PROG and its children may see it.
pub fn hide(cx: &Cx) -> Result<(), Error> {
    // Our arguments and environment come from the host: inside, /proc/1 would show them.
    sys::prctl_set_name(cx, c"td-init")?;
    if !cx.dry() {
        cx.set_env(cx.env().to_vec());
        cx.start.forget(c"td-init");
    }
    // PROG, which has our capabilities, must not find them in our memory or trace us either.
    sys::prctl_set_undumpable(cx)
}
