//! Structures of signals.

use crate::say::flags;
use crate::say::show::{Show, bits, hexadecimal, signal, signed, unsigned};

/// A signal number that the kernel writes.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Signal(pub i32);

impl Show for Signal {
    fn show(&self, out: &mut String) {
        let signal = signal(self.0);
        out.push_str(&["[", signal, "]"].concat());
    }
}

/// The kernel's `sigset_t`: bit n-1 is signal n.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SigSet(pub u64);

impl SigSet {
    /// Every signal; the kernel leaves out KILL and STOP by itself.
    pub const ALL: SigSet = SigSet(u64::MAX);
    /// Those that should end a process, and that a frozen process does not receive.
    pub const TERMINATING: SigSet = SigSet(
        1 << (libc::SIGTERM - 1)
            | 1 << (libc::SIGINT - 1)
            | 1 << (libc::SIGHUP - 1)
            | 1 << (libc::SIGQUIT - 1),
    );

    /// Is one of those in it?
    pub fn has_terminating(self) -> bool {
        self.0 & SigSet::TERMINATING.0 != 0
    }
}

impl Show for SigSet {
    fn show(&self, out: &mut String) {
        // strace names those that are missing where most are there.
        let (sign, set) = if self.0.count_ones() > 42 { ("~[", !self.0) } else { ("[", self.0) };
        out.push_str(sign);
        let start = out.len();
        for n in (1..=64).filter(|n| set >> (n - 1) & 1 == 1) {
            if out.len() > start {
                out.push(' ');
            }
            let name = signal(n);
            out.push_str(name.strip_prefix("SIG").unwrap_or(name));
        }
        out.push(']');
    }
}

/// The kernel's `struct sigaction`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SigAction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: SigSet,
}

impl SigAction {
    /// `SIG_DFL`.
    pub const DEFAULT: SigAction = SigAction { handler: 0, flags: 0, restorer: 0, mask: SigSet(0) };
    /// `SIG_IGN`.
    pub const IGNORE: SigAction = SigAction { handler: 1, ..SigAction::DEFAULT };

    /// Would children be reaped by the kernel, were this set for SIGCHLD?
    pub fn loses_children(&self) -> bool {
        self.handler == 1 || self.flags & libc::SA_NOCLDWAIT as u64 != 0
    }
}

impl Show for SigAction {
    fn show(&self, out: &mut String) {
        match self.handler {
            0 => out.push_str("{sa_handler=SIG_DFL"),
            1 => out.push_str("{sa_handler=SIG_IGN"),
            address => hexadecimal("{sa_handler=", address as u64, out),
        }
        out.push_str(", sa_mask=");
        self.mask.show(out);
        out.push_str(", sa_flags=");
        bits(self.flags, flags::SA, out);
        out.push('}');
    }
}

/// The kernel's `siginfo_t`, as far as kill(2), SIGCHLD and the terminal fill it in.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct SigInfo {
    pub signo: i32,
    errno: i32,
    pub code: i32,
    pad: i32,
    pub pid: i32,
    uid: u32,
    status: i32,
    rest: [i32; 25],
}

impl Show for SigInfo {
    fn show(&self, out: &mut String) {
        out.push_str("{si_signo=");
        out.push_str(signal(self.signo));
        signed(", si_code=", self.code.into(), out);
        let from_user = self.code <= 0;
        if from_user || self.pid != 0 {
            signed(", si_pid=", self.pid.into(), out);
            unsigned(", si_uid=", self.uid.into(), out);
        }
        if !from_user && self.signo == libc::SIGCHLD {
            signed(", si_status=", self.status.into(), out);
            out.push_str(", ...");
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
            SigInfo siginfo_t: signo si_signo code si_code;
        }
    }
}
