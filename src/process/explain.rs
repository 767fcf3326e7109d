//! What is said of a failure that the step itself has not explained: the causes that any call may have.

use crate::process::filter;
use crate::root::why_no_path;
use crate::say::error::Error;
use crate::sys::Cx;

/// A failure with its cause, where that can be seen. One that has a cause stays as it is; unless a filter has refused
/// the call, so that the kernel has never looked at what the step took for the cause.
pub fn explained(cx: &Cx, error: Error) -> Error {
    if error.errno().is_none() {
        return error; // td itself has refused, and has said why
    }
    let _looking = cx.looking();
    let found = filter::look(cx, &error);
    if found.is_certain() {
        return found.add_to(error.without_cause());
    }
    if !error.is_unexplained() {
        return error;
    }
    let error = why_no_path::explained(cx, error);
    if error.is_unexplained() { found.add_to(error) } else { error }
}
