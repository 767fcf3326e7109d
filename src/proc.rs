//! What the files of `/proc` say: proc(5).

use std::ffi::{CStr, CString};

use crate::number::decimal;
use crate::sys::{self, Cx, cstring};
use crate::text::lines;

/// A path put together.
pub fn path(parts: &[&str]) -> CString {
    cstring(parts.concat())
}

/// What a line of `/proc/self/status` says behind `name`.
pub fn status(cx: &Cx, name: &[u8]) -> Option<Vec<u8>> {
    field(cx, c"/proc/self/status", name)
}

/// What a line of a file says behind `name`.
pub fn field(cx: &Cx, file: &CStr, name: &[u8]) -> Option<Vec<u8>> {
    let text = sys::read_file(cx, None, file).ok()?;
    lines(&text).find_map(|line| Some(line.strip_prefix(name)?.to_vec()))
}

/// A decimal number, which a newline may end.
pub fn number(text: &[u8]) -> Option<u64> {
    decimal(text.strip_suffix(b"\n").unwrap_or(text))
}
