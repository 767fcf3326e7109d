//! Values for files of a cgroup, each with the option by which it was asked. They are written in `make.rs`.

use crate::cgroup::file::PAGE;
use crate::cgroup::hierarchies::Hierarchy;
use crate::say::number::decimal;
use crate::say::show::number;

/// A value for a file of a cgroup.
pub struct FileValue<'a> {
    /// Where.
    pub hierarchy: &'a Hierarchy,
    /// The controller, which on version 2 must be turned on first. `cgroup`: none.
    pub controller: &'a [u8],
    /// The file.
    pub file: &'a [u8],
    /// What is written.
    pub value: Value,
    /// The block device that the value is for, `MAJ:MIN`.
    pub device: Option<Vec<u8>>,
    /// By which option; `None` for one that is written as it is.
    pub asked: Option<&'static LimitOption>,
    /// The file that shows the value that the kernel set; empty: it is not checked.
    pub taken: &'a [u8],
}

/// A value, before it is text.
pub enum Value {
    /// No limit: `max` on version 2, `-1` on version 1.
    Unlimited,
    /// A decimal number.
    Number(u64),
    /// Anything else.
    Text(Vec<u8>),
}

impl FileValue<'_> {
    /// The value as it is written.
    pub fn text(&self) -> Vec<u8> {
        match &self.value {
            Value::Unlimited => (if self.hierarchy.v2 { "max" } else { "-1" }).into(),
            Value::Number(n) => number(*n).into_bytes(),
            Value::Text(text) => text.clone(),
        }
    }

    /// Did the kernel set the value that was written, `written` in its own notation? `read` is the file afterwards.
    /// Bytes are rounded down to pages; no limit is a large number in version 1.
    pub fn is_taken(&self, written: &[u8], read: &[u8]) -> bool {
        if read == written {
            return true;
        }
        let Some(read) = decimal(read) else { return false };
        match self.value {
            Value::Number(n) => self.file.starts_with(b"memory.") && read <= n && n - read < PAGE,
            // So many, rounded down to pages, also huge ones.
            Value::Unlimited => !self.hierarchy.v2 && read > i64::MAX as u64 >> 1,
            Value::Text(_) => false,
        }
    }
}

/// The option by which a value is asked, and what that accepts.
#[derive(Clone, Copy)]
pub struct LimitOption {
    /// The option.
    pub option: &'static str,
    /// What may be typed for it.
    pub accepts: &'static str,
}

impl LimitOption {
    /// The reason for which a value was not taken.
    pub fn takes(self) -> String {
        [self.option, " takes ", self.accepts].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_took_is_compared_by_meaning() {
        use Value::{Number, Text, Unlimited};
        for (is_taken, v2, file, value, read) in [
            (true, true, "memory.max", Number(100_000), "98304"),
            (true, false, "memory.limit_in_bytes", Unlimited, "9223372036854771712"),
            (true, true, "memory.max", Unlimited, "max"),
            (true, true, "pids.max", Number(10), "10"),
            (true, false, "pids.max", Text("max".into()), "max"),
            (false, true, "memory.max", Number(100_000), "100001"),
            (false, true, "memory.max", Number(100_000), "4096"),
            (false, true, "memory.max", Number(100_000), "max"),
            (false, true, "memory.max", Unlimited, "9223372036854771712"),
            (false, false, "memory.limit_in_bytes", Unlimited, "4096"),
            (false, true, "pids.max", Number(10), "9"),
            (false, true, "cpu.max", Text("100000 100000".into()), "5"),
        ] {
            let (hierarchy, file) = (Hierarchy { v2, ..Hierarchy::default() }, file.as_bytes());
            let (controller, device, asked) = (&b"x"[..], None, None);
            let write = FileValue {
                hierarchy: &hierarchy,
                controller,
                file,
                value,
                device,
                asked,
                taken: file,
            };
            let written = write.text();
            let shown = String::from_utf8_lossy(&written);
            assert_eq!(write.is_taken(&written, read.as_bytes()), is_taken, "{shown} {read}");
        }
    }
}
