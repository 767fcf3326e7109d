//! Why PROG of a td-enter that enters nothing does not exist: it may be the name of a container.

use std::ffi::CStr;

use crate::process::container::usual_state;
use crate::process::join::Asked;
use crate::say::error::{Error, NOT_FOUND};
use crate::say::show::plain;
use crate::sys::{self, Cx, cstring};

/// PROG was not executed. If nothing was `asked` for, and it was not found: is it a container of the state?
pub fn why(
    cx: &Cx,
    (asked, state): (Option<&Asked>, Option<&CStr>),
    prog: &CStr,
    error: Error,
) -> Error {
    let _looking = cx.looking();
    let enters_nothing = asked.is_some_and(|asked| *asked == Asked::default());
    if error.status() != NOT_FOUND || !enters_nothing || prog.to_bytes().contains(&b'/') {
        return error;
    }
    let state = state.map_or_else(|| usual_state(cx), |state| Ok(state.into()));
    let is_there = state.is_ok_and(|state| {
        let path = cstring([state.to_bytes(), b"/containers/", prog.to_bytes()].concat());
        sys::statx(cx, None, &path, 0).is_ok_and(|stat| stat.is_dir())
    });
    if !is_there {
        return error;
    }
    let name = plain(prog.to_bytes());
    error
        .because(format_args!("{name} is the name of a container"))
        .way_out(format_args!("td-enter --name {name} PROG"))
}
