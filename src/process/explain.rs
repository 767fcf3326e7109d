//! What is said of a failure that the step itself has not explained: the causes that any call may have.

use crate::root::why_no_path;
use crate::say::error::Error;
use crate::sys::Cx;

/// A failure with its cause, where that can be seen. One that has a cause stays as it is.
pub fn explained(cx: &Cx, error: Error) -> Error {
    let _looking = cx.looking();
    if !error.is_unexplained() {
        return error;
    }
    why_no_path::explained(cx, error)
}
