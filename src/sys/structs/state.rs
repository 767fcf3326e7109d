//! Structures of the state of a process: capabilities, the system call policy, limits.

use std::marker::PhantomData;

use crate::say::flags;
use crate::say::show::{Show, hexadecimal, unsigned};

/// `struct __user_cap_header_struct`: capget(2). The kernel writes into it which version it knows, where that is not
/// ours.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CapHeader {
    version: u32,
    pid: i32,
}

impl CapHeader {
    /// Our own process, sets of 64 bits: `_LINUX_CAPABILITY_VERSION_3`.
    pub const SELF: CapHeader = CapHeader { version: 0x2008_0522, pid: 0 };
}

impl Show for CapHeader {
    fn show(&self, out: &mut String) {
        out.push_str("{version=_LINUX_CAPABILITY_VERSION_3, pid=0}");
    }
}

/// `struct __user_cap_data_struct`, twice: bits 0 to 31, then 32 to 63, of each set.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct CapData([CapHalf; 2]);

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapHalf {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

impl CapData {
    /// From three sets, bit n for capability n.
    pub fn new(effective: u64, permitted: u64, inheritable: u64) -> CapData {
        CapData([0, 32].map(|shift| CapHalf {
            effective: (effective >> shift) as u32,
            permitted: (permitted >> shift) as u32,
            inheritable: (inheritable >> shift) as u32,
        }))
    }

    /// The permitted set.
    pub fn permitted(&self) -> u64 {
        u64::from(self.0[1].permitted) << 32 | u64::from(self.0[0].permitted)
    }

    /// The effective set.
    pub fn effective(&self) -> u64 {
        u64::from(self.0[1].effective) << 32 | u64::from(self.0[0].effective)
    }

    /// The inheritable set.
    pub fn inheritable(&self) -> u64 {
        u64::from(self.0[1].inheritable) << 32 | u64::from(self.0[0].inheritable)
    }
}

impl Show for CapData {
    fn show(&self, out: &mut String) {
        out.push_str("{effective=");
        caps(self.effective(), out);
        out.push_str(", permitted=");
        caps(self.permitted(), out);
        out.push_str(", inheritable=");
        caps(self.inheritable(), out);
        out.push('}');
    }
}

/// `1<<CAP_CHOWN|1<<CAP_KILL`, as strace writes a set of capabilities.
fn caps(set: u64, out: &mut String) {
    let start = out.len();
    let mut left = set;
    for (cap, name) in flags::CAPS.iter().filter(|(cap, _)| set >> cap & 1 == 1) {
        left &= !(1 << cap);
        out.push_str(if out.len() > start { "|1<<" } else { "1<<" });
        out.push_str(name);
    }
    if left != 0 || set == 0 {
        hexadecimal(if out.len() > start { "|" } else { "" }, left, out);
    }
}

/// `struct sock_filter`: an instruction of classic BPF, linux/filter.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BpfInstruction {
    pub code: u16,
    /// How many instructions a comparison that holds jumps over; `jf`, where it does not.
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// `struct sock_fprog`: a program of such instructions, at most 65535.
#[repr(C)]
pub struct BpfProgram<'a> {
    len: u16,
    filter: *const BpfInstruction,
    instructions: PhantomData<&'a [BpfInstruction]>,
}

impl BpfProgram<'_> {
    /// As seccomp(2) reads it. What is too long has the length 0, which the kernel refuses.
    pub fn new(instructions: &[BpfInstruction]) -> BpfProgram<'_> {
        let len = u16::try_from(instructions.len()).unwrap_or(0);
        BpfProgram { len, filter: instructions.as_ptr(), instructions: PhantomData }
    }
}

impl Show for BpfProgram<'_> {
    fn show(&self, out: &mut String) {
        unsigned("{len=", self.len.into(), out);
        hexadecimal(", filter=", self.filter as u64, out);
        out.push('}');
    }
}

/// `struct rlimit64`: getrlimit(2).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RLimit {
    pub soft: u64,
    pub hard: u64,
}

impl Show for RLimit {
    fn show(&self, out: &mut String) {
        for (before, n) in [("{rlim_cur=", self.soft), (", rlim_max=", self.hard)] {
            match n {
                u64::MAX => out.push_str(&[before, "RLIM64_INFINITY"].concat()),
                _ if n > 1024 && n % 1024 == 0 => {
                    unsigned(before, n / 1024, out);
                    out.push_str("*1024");
                }
                _ => unsigned(before, n, out),
            }
        }
        out.push('}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_structure_is_laid_out_as_the_c_librarys() {
        same! {
            RLimit rlimit: soft rlim_cur hard rlim_max;
            BpfInstruction sock_filter: code code jt jt jf jf k k;
        }
        assert_eq!(size_of::<BpfProgram>(), size_of::<libc::sock_fprog>());
        assert_eq!(
            std::mem::offset_of!(BpfProgram, filter),
            std::mem::offset_of!(libc::sock_fprog, filter)
        );
    }
}
