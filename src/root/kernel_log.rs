//! What the kernel writes into its log about a call that fails: a mount has no other place for its words, where they
//! do not fit into an errno.

use std::os::fd::{AsFd, OwnedFd};

use syscalls::Errno;

use crate::say::error::Error;
use crate::say::number::decimal;
use crate::say::show::ascii;
use crate::say::text::{lines, pair, split};
use crate::sys::{self, Cx};

/// No call that td makes is worth more of them.
const MOST: usize = 4;

/// Make a call that has failed once more, and return what the kernel then adds to its log, of which `is_of_call` tells
/// what belongs to such a call. `None`: this process may not read the log (`/dev/kmsg`), and the call is not made.
pub fn of(cx: &Cx, is_of_call: fn(&[u8]) -> bool, again: &dyn Fn()) -> Option<Vec<String>> {
    let log = open_at_end(cx).ok()?;
    again();
    let mut found: Vec<String> = Vec::new();
    // One record a read(2).
    let mut record = vec![0; 8192];
    while found.len() < MOST {
        match sys::read(cx.expects(&[Errno::EAGAIN]), log.as_fd(), &mut record) {
            Ok(n @ 1..) => {
                let text = record.get(..n).and_then(kernels_own).filter(|text| is_of_call(text));
                let text = text.map(ascii).filter(|text| !found.contains(text));
                found.extend(text);
            }
            // Records were overwritten before they were read; the next ones are there.
            Err(e) if e.is(Errno::EPIPE) => {}
            Ok(0) | Err(_) => break,
        }
    }
    Some(found)
}

/// Add lines of the log to an error.
pub fn add(mut error: Error, log: &[String]) -> Error {
    for line in log {
        error = error.because(["the kernel's log: ", line].concat());
    }
    error
}

fn open_at_end(cx: &Cx) -> Result<OwnedFd, Error> {
    let log = sys::openat(cx, None, c"/dev/kmsg", libc::O_RDONLY | libc::O_NONBLOCK)?;
    sys::seek_to_end(cx, log.as_fd())?;
    Ok(log)
}

/// The text of a record of `/dev/kmsg`, `PRIORITY,NUMBER,TIME,FLAGS[,...];TEXT` with more lines below, where the kernel
/// itself has written it: a process that writes there has another facility, which stands in the priority from bit 3 on.
fn kernels_own(record: &[u8]) -> Option<&[u8]> {
    let (head, text) = pair(record, b';')?;
    let priority = decimal(split(head, b',').next()?)?;
    lines(text).next().filter(|_| priority >> 3 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_the_kernel_is_its_first_line() {
        let text = b"overlayfs: failed to verify index dir 'upper' xattr";
        let record = [b"3,339,5140900,-;".as_slice(), text, b"\n SUBSYSTEM=x\n"].concat();
        assert_eq!(kernels_own(&record), Some(&text[..]));
        let record = [b"4,339,5140900,-,caller=T1;".as_slice(), text, b"\n"].concat();
        assert_eq!(kernels_own(&record), Some(&text[..]));
        assert_eq!(kernels_own(b"7,1,2,-;a;b"), Some(&b"a;b"[..]));
    }

    #[test]
    fn what_a_process_wrote_is_not_the_kernels() {
        // LOG_USER is facility 1: what root writes to /dev/kmsg has it.
        assert_eq!(kernels_own(b"12,340,5140900,-;overlayfs: not true\n"), None);
        assert_eq!(kernels_own(b"8,340,5140900,-;overlayfs: not true\n"), None);
    }

    #[test]
    fn no_bytes_are_too_odd() {
        for record in [
            &b""[..],
            b";",
            b"6",
            b"6,1,2,-",
            b",;x",
            b"-6,1;x",
            b"99999999999999999999999,1;x",
            b"\xff\x00;\xff",
        ] {
            assert_eq!(kernels_own(record), None, "{record:?}");
        }
        assert_eq!(kernels_own(b"6;"), Some(&b""[..]));
        assert_eq!(kernels_own(b"6;\n\n"), Some(&b""[..]));
    }
}
