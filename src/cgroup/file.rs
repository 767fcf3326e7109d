//! A file of a cgroup, and its directory: how they are named, opened, read and written.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use syscalls::Errno;

use crate::say::error::Error;
use crate::say::number::decimal;
use crate::say::show::{ascii, octal, plain, signed, unsigned};
use crate::say::text;
use crate::sys::structs::StatFs;
use crate::sys::{self, At, Cx, cstring};

/// The largest page of memory that a kernel has.
pub const PAGE: u64 = 65536;

/// A path, put together.
pub fn join(directory: &CStr, name: &[u8]) -> CString {
    let path = [directory.to_bytes(), name].join(&b'/');
    // Neither came with a zero byte inside: the one is a string already, the other a part of one.
    cstring(path)
}

/// The directory that a path lies in.
pub fn parent(path: &CStr) -> CString {
    let path = path.to_bytes();
    let end = path.iter().rposition(|b| *b == b'/').unwrap_or(0);
    cstring(path.get(..end).unwrap_or_default())
}

/// The file of a cgroup that lists its processes.
pub fn procs(directory: &CStr) -> CString {
    join(directory, b"cgroup.procs")
}

/// What is reported where it was removed meanwhile; ENODEV by an open file of it.
pub const GONE: &[Errno] = &[Errno::ENOENT, Errno::ENODEV];

/// Was it removed meanwhile?
pub fn is_gone(error: &Error) -> bool {
    GONE.iter().any(|errno| error.is(*errno))
}

/// What a file of a cgroup says, as text. `None`: it has no such file.
pub fn read_word(cx: &Cx, cgroup: &CStr, file: &[u8]) -> Result<Option<String>, Error> {
    match sys::read_file(cx.expects(GONE), None, &join(cgroup, file)) {
        Err(e) if is_gone(&e) => Ok(None),
        other => other.map(|text| Some(ascii(text.trim_ascii()))),
    }
}

/// What a file of a cgroup says, for a message. `None`: it has no such file, or it cannot be read.
pub fn shown_word(cx: &Cx, cgroup: &CStr, file: &[u8]) -> Option<String> {
    read_word(cx, cgroup, file).ok().flatten()
}

/// The sum of the numbers after a word, `None` where it is not there: `WORD N`, `WORD=N`.
pub fn sum(text: &[u8], word: &[u8]) -> Option<u64> {
    let mut words = text.split(|b| matches!(b, b' ' | b'=' | b'\n'));
    let mut sum = None;
    while let Some(found) = words.next() {
        if found == word {
            sum = Some(decimal(words.next()?)?.saturating_add(sum.unwrap_or(0)));
        }
    }
    sum
}

/// Wait until cgroup.events of a cgroup of version 2 has this line; `time` is in nanoseconds, `None` without an
/// end. False: the time is over. A dry run does not wait.
pub fn wait_for_event(
    cx: &Cx,
    directory: &CStr,
    line: &[u8],
    time: &mut Option<i64>,
) -> Result<bool, Error> {
    let path = join(directory, b"cgroup.events");
    loop {
        let file = sys::openat(cx, None, &path, libc::O_RDONLY)?;
        let mut text = [0; 256];
        let n = sys::read(cx, file.as_fd(), &mut text)?;
        if text::has(text.get(..n).unwrap_or_default(), b'\n', line) {
            return Ok(true);
        }
        if cx.dry() {
            return Ok(false);
        }
        // Whatever has changed since this descriptor was read is an event.
        match sys::ppoll(cx, file.as_fd(), libc::POLLPRI, *time)? {
            Some(left) => *time = time.map(|_| left),
            None => return Ok(false),
        }
    }
}

/// Check that this is a directory of a cgroup file system: it may be covered by another mount, or a control file may
/// have its name.
pub fn check_directory(cx: &Cx, directory: &CStr) -> Result<(), Error> {
    let found =
        sys::statfs(cx, &join(directory, b".")).map_err(|e| match e.is(Errno::ENOTDIR) {
            true => e.because(format_args!("{} is a control file", plain(directory.to_bytes()))),
            false => e,
        })?;
    check_type(&found, directory)
}

/// [`check_directory`] of the place where a hierarchy is mounted, once for all tools of a chain in this process.
pub fn check_hierarchy(cx: &Cx, point: &CStr) -> Result<(), Error> {
    let mut checked = cx.hierarchies.take();
    let mut result = Ok(());
    if !checked.iter().any(|checked| checked.as_c_str() == point) {
        result = check_directory(cx, point).map(|()| checked.push(point.into()));
    }
    cx.hierarchies.set(checked);
    result
}

/// Open a file of a cgroup for writing: a write to an ordinary file would have no effect. `path` is the whole of it,
/// for a message.
pub fn open(cx: &Cx, at: At, name: &CStr, path: &CStr) -> Result<OwnedFd, Error> {
    let file = sys::openat(cx, at, name, libc::O_WRONLY).map_err(|e| why_refused(cx, path, e))?;
    if !cx.dry() {
        check_type(&sys::fstatfs(cx, file.as_fd())?, path)?;
    }
    Ok(file)
}

/// Write to a file of a cgroup.
pub fn write(cx: &Cx, path: &CStr, value: &[u8]) -> Result<(), Error> {
    let file = open(cx, None, path, path)?;
    sys::write(cx, file.as_fd(), value).map(drop).map_err(|e| named(&file, path, e))
}

/// The text of a write(2) has only the descriptor, not the name of the file.
pub fn named(file: &OwnedFd, path: &CStr, error: Error) -> Error {
    let mut which = String::new();
    signed("", file.as_raw_fd().into(), &mut which);
    error.because(format_args!("{which} is {}", plain(path.to_bytes())))
}

fn check_type(found: &StatFs, path: &CStr) -> Result<(), Error> {
    if [libc::CGROUP_SUPER_MAGIC, libc::CGROUP2_SUPER_MAGIC].contains(&found.f_type) {
        return Ok(());
    }
    let path = plain(path.to_bytes());
    Err(Error::refusal(format_args!("{path}: another file system covers the cgroups here")))
}

/// The id that is shown for an id that is not mapped in this user namespace: user_namespaces(7).
const OVERFLOW: u32 = 65534;

/// Why a file or directory may not be written to: whose is it?
pub fn why_refused(cx: &Cx, path: &CStr, error: Error) -> Error {
    let _looking = cx.looking();
    let shown = plain(path.to_bytes());
    match error.errno() {
        Some(Errno::EROFS) => {
            error.because(format_args!("the cgroups at {shown} are mounted read-only"))
        }
        Some(Errno::EACCES | Errno::EPERM) => match sys::statx(cx, None, path, 0) {
            Ok(stat) => {
                let mut why = shown;
                unsigned(" belongs to uid ", stat.uid.into(), &mut why);
                octal(" (mode ", stat.permissions(), &mut why);
                unsigned("); this process has uid ", cx.start.euid.into(), &mut why);
                let error = error.because(why);
                // In a user namespace that has no id for the owner, ours is not the one to give it to.
                if stat.uid == OVERFLOW { error } else { error.way_out(way_to_be_given(cx, path)) }
            }
            Err(_) => error,
        },
        _ => error,
    }
}

/// How a user can get limits. If the cgroup is already delegated, delegating it again would change nothing.
fn way_to_be_given(cx: &Cx, path: &CStr) -> String {
    let above = sys::statx(cx, None, &parent(path), 0);
    if above.is_ok_and(|above| above.uid == cx.start.euid) {
        return "only the limits of the cgroups below it were delegated".into();
    }
    let mut way_out = String::from("as root: td-cgroup --delegate");
    unsigned(" ", cx.start.euid.into(), &mut way_out);
    unsigned(":", cx.start.egid.into(), &mut way_out);
    unsigned(" /td/u-", cx.start.euid.into(), &mut way_out);
    way_out + " (for limits below it)"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_by_its_whole_word_and_summed_over_devices() {
        let oom = b"oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!((sum(oom, b"oom_kill"), sum(oom, b"oom")), (Some(3), None));
        let v2 =
            b"8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353\n8:0 rbytes=90 wbytes=1\n";
        assert_eq!((sum(v2, b"rbytes"), sum(v2, b"wios")), (Some(1_459_290), Some(353)));
        let v1 = b"8:0 Read 5\n8:0 Write 7\n8:0 Total 12\n8:16 Read 4\nTotal 16\n";
        let sums = (sum(v1, b"Read"), sum(v1, b"Write"), sum(b"", b"Read"));
        assert_eq!(sums, (Some(9), Some(7), None));
    }
}
