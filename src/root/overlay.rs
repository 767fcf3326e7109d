//! Overlays: mounted as this kernel takes them.

pub mod layer;
mod why_not_mounted;

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use layer::Layer;
use syscalls::Errno;
use why_not_mounted::{why, why_no_layer};

use crate::root::mounts::{self, Parameter};
use crate::root::why_not_mounted::why as why_no_file_system;
use crate::say::error::Error;
use crate::say::show::ascii;
use crate::sys::{self, Cx, FsConfig, cstring};

/// A tmpfs that is not attached yet.
pub fn new_tmpfs(cx: &Cx, size: Option<&CStr>, attr: u64) -> Result<OwnedFd, Error> {
    let mut options = vec![(c"source", Some(c"tmpfs")), (c"mode", Some(c"700"))];
    options.extend(size.map(|size| (c"size", Some(size))));
    let attr = attr | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID;
    mounts::new_fs(cx, c"tmpfs", &options, attr).map_err(|e| mounts::why(cx, e))
}

/// An overlay of the layers, each lower one before the one below it, that is nowhere yet. `target` is
/// where it will go: older kernels need a place to mount on.
pub fn new(
    cx: &Cx,
    layers: &[Layer],
    options: &[Parameter],
    target: BorrowedFd,
) -> Result<OwnedFd, Error> {
    let Some(config) = configured(cx, layers, options)? else {
        return new_by_number(cx, layers, options, target);
    };
    let config = config.as_fd();
    let again = || {
        let again = configured(cx, layers, options);
        let _ =
            again.map(|again| again.map(|new| sys::fsconfig(cx, new.as_fd(), FsConfig::Create)));
    };
    let refused = |e| why(cx, layers, options, mounts::fs_log(cx, config, e), &again);
    sys::fsconfig(cx, config, FsConfig::Create).map_err(refused)?;
    sys::fsmount(cx, config, libc::MOUNT_ATTR_NODEV).map_err(refused)
}

/// The configuration of an overlay: its layers and options. `None`: this kernel does not take layers as descriptors.
fn configured(cx: &Cx, layers: &[Layer], options: &[Parameter]) -> Result<Option<OwnedFd>, Error> {
    let new =
        sys::fsopen(cx, c"overlay").map_err(|e| why_no_file_system(cx, c"overlay", &[], 0, e))?;
    let config = new.as_fd();
    for (i, layer) in layers.iter().enumerate() {
        cx.expects(if i == 0 { &[Errno::EOPNOTSUPP, Errno::EINVAL] } else { &[] });
        match sys::fsconfig(cx, config, FsConfig::Fd(layer.key, layer.dir.as_fd())) {
            // Linux before 6.5, and before 6.13; or the reason is another, and the fallback shows it too.
            Err(e) if i == 0 && (e.is(Errno::EOPNOTSUPP) || e.is(Errno::EINVAL)) => {
                return Ok(None);
            }
            other => {
                other.map_err(|e| why_no_layer(cx, layers, layer, mounts::fs_log(cx, config, e)))?
            }
        }
    }
    for (key, value) in [(c"source", Some(c"overlay"))].iter().chain(options) {
        let command = value.map_or(FsConfig::Flag(key), |value| FsConfig::String(key, value));
        sys::fsconfig(cx, config, command)
            .map_err(|e| why_no_option(*value, mounts::fs_log(cx, config, e)))?;
    }
    Ok(Some(new))
}

/// The kernel itself reports what is wrong with an option, except in this case.
fn why_no_option(value: Option<&CStr>, error: Error) -> Error {
    match value.map_or(0, CStr::count_bytes) {
        n @ 256.. => error
            .because(format_args!("fsconfig(2) takes at most 255 bytes, and this value has {n}")),
        _ => error,
    }
}

/// Before Linux 6.13 layers are paths in the text that mount(2) takes, where `:`, `,` and `\` mean
/// something, and which is cut after a page. So each is the number of its descriptor, looked up in
/// `/proc/self/fd`. mount(2) returns no descriptor: it mounts on a tmpfs of ours, where nobody can get
/// between, and what goes on TARGET is a clone.
fn new_by_number(
    cx: &Cx,
    layers: &[Layer],
    options: &[Parameter],
    target: BorrowedFd,
) -> Result<OwnedFd, Error> {
    let here = sys::openat(cx, None, c".", libc::O_PATH | libc::O_DIRECTORY)?;
    let stage = new_tmpfs(cx, None, 0)?;
    sys::mkdirat(cx, Some(stage.as_fd()), c"overlay", 0o700)?;
    sys::move_mount(cx, stage.as_fd(), target)?;
    let made = mount_on(cx, stage.as_fd(), layers, options);
    mounts::detach(cx, stage.as_fd())?;
    sys::fchdir(cx, here.as_fd())?;
    made
}

fn mount_on(
    cx: &Cx,
    stage: BorrowedFd,
    layers: &[Layer],
    options: &[Parameter],
) -> Result<OwnedFd, Error> {
    let data = mount_data(layers, options)?;
    let point = cstring(format!("{}/overlay", stage.as_raw_fd()));
    sys::chdir(cx, c"/proc/self/fd")
        .map_err(|e| e.because("before Linux 6.13, layers are passed through /proc"))?;
    let overlay = Some(c"overlay");
    let mount = || sys::mount(cx, overlay, &point, overlay, libc::MS_NODEV, Some(&data));
    let again = || {
        // What is mounted now is never used, and is detached with the tmpfs on which it is.
        let _ = mount();
    };
    mount().map_err(|e| why(cx, layers, options, e, &again))?;
    sys::open_tree(cx, Some(stage), c"overlay", libc::OPEN_TREE_CLONE)
}

/// `lowerdir=3:4:5,upperdir=6,workdir=7,volatile`
fn mount_data(layers: &[Layer], options: &[Parameter]) -> Result<CString, Error> {
    let number = |layer: &Layer| layer.dir.as_raw_fd().to_string();
    let (lower, others): (Vec<_>, Vec<_>) = layers.iter().partition(|layer| layer.is_lower());
    let lower: Vec<String> = lower.into_iter().map(number).collect();
    let mut data = format!("lowerdir={}", lower.join(":")).into_bytes();
    for layer in others {
        let key = ascii(layer.key.to_bytes());
        data.extend(format!(",{key}={}", number(layer)).bytes());
    }
    for (key, value) in options {
        data.push(b',');
        data.extend(key.to_bytes());
        data.extend(value.iter().flat_map(|value| [b"=", value.to_bytes()].concat()));
    }
    // The page ends with a zero byte.
    if data.len() > 4095 {
        let what = format!("the options of the overlay have {} bytes", data.len());
        return Err(Error::refusal(format_args!("{what}; before Linux 6.13 the maximum is 4095")));
    }
    Ok(cstring(data))
}
