//! Options of an overlay that exclude each other, whatever the layers are.

use std::ffi::CStr;

use super::Cause;
use crate::ids::user_namespace;
use crate::root::mounts::Parameter;
use crate::root::overlay::layer::Layer;
use crate::say::show::plain;
use crate::sys::{self, Cx};

/// The kernel's rules, in its order: `ovl_fs_params_verify()` of fs/overlayfs/params.c. An option has no influence
/// unless it was given, for the kernel then chooses what fits.
pub fn among(cx: &Cx, layers: &[Layer], options: &[Parameter]) -> Cause {
    let has_upper = layers.iter().any(|layer| layer.key == c"upperdir");
    let last = |key: &CStr| options.iter().rev().find(|(k, _)| *k == key);
    let value = |key: &CStr| last(key).and_then(|(_, value)| *value);
    let is = |key: &CStr, text: &CStr| value(key) == Some(text);
    let shown = |key: &CStr| {
        let value = value(key).unwrap_or_default();
        ["--option ", &plain(&[key.to_bytes(), b"=", value.to_bytes()].concat())].concat()
    };
    let pair = |one: &CStr, other: &CStr| {
        let why = [&shown(one), " and ", &shown(other), " exclude each other"].concat();
        Some((why, "leave out one of them"))
    };
    let follows = value(c"redirect_dir").filter(|value| !redirects(cx, value, has_upper));
    if follows.is_some() && is(c"metacopy", c"on") {
        return pair(c"metacopy", c"redirect_dir");
    }
    if is(c"nfs_export", c"on") && (has_upper || is(c"redirect_dir", c"nofollow")) {
        if is(c"index", c"off") {
            return pair(c"nfs_export", c"index");
        }
        if is(c"metacopy", c"on") {
            return pair(c"nfs_export", c"metacopy");
        }
    }
    last(c"userxattr")?;
    // Anybody can write xattrs of users, so they must not redirect to another file.
    let key = match value(c"redirect_dir") {
        Some(value) if !is_nofollow(cx, value) => c"redirect_dir",
        _ if is(c"metacopy", c"on") => c"metacopy",
        _ => return None,
    };
    let why = match user_namespace::is_initial(cx) {
        true => " cannot be combined with userxattr",
        false => " cannot be combined with userxattr, which a user namespace needs",
    };
    Some(([&shown(key), why].concat(), ""))
}

/// Does a value of redirect_dir mean that directories are redirected? Without an upper there are none to redirect, and
/// to follow them is the same.
fn redirects(cx: &Cx, value: &CStr, has_upper: bool) -> bool {
    value == c"on" || !has_upper && !is_nofollow(cx, value)
}

/// Does it mean that redirects are not followed?
fn is_nofollow(cx: &Cx, value: &CStr) -> bool {
    const ALWAYS: &CStr = c"/sys/module/overlay/parameters/redirect_always_follow";
    let never = || sys::read_file(cx, None, ALWAYS).is_ok_and(|text| text.starts_with(b"N"));
    value == c"nofollow" || value == c"off" && never()
}
