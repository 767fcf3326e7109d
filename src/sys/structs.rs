//! Structures that the kernel reads and writes, laid out as its headers have them, and shown as strace
//! shows them. All of them are the same on every 64-bit machine.

use crate::say::show::{Show, signed, unsigned};
use crate::sys::arg::{Layout, Plain};

/// Are structures of the same size, and fields at the same place, as in the C library?
#[cfg(test)]
macro_rules! same {
    ($($ours:ident $theirs:ident: $($our:ident $their:ident)*;)*) => {$(
        assert_eq!(size_of::<$ours>(), size_of::<libc::$theirs>(), stringify!($theirs));
        $(assert_eq!(
            std::mem::offset_of!($ours, $our),
            std::mem::offset_of!(libc::$theirs, $their),
            concat!(stringify!($theirs), ".", stringify!($their))
        );)*
    )*};
}

mod files;
mod mounts;
mod processes;
mod signals;
mod sockets;
mod state;
mod terminals;

pub use files::*;
pub use mounts::*;
pub use processes::*;
pub use signals::*;
pub use sockets::*;
pub use state::*;
pub use terminals::*;

/// Structures with their sizes, those that the kernel only reads and those that it writes as well.
macro_rules! structures {
    (read: $($read:ty: $read_size:literal)*; written: $($written:ty: $written_size:literal)*;) => {
        $(const _: () = assert!(size_of::<$read>() == $read_size);
        // SAFETY: laid out as in C, of the size that the kernel's headers give it.
        unsafe impl Layout for $read {})*
        $(const _: () = assert!(size_of::<$written>() == $written_size);
        // SAFETY: the same.
        unsafe impl Layout for $written {}
        // SAFETY: made of integers.
        unsafe impl Plain for $written {})*
    };
}

structures! {
    read:
        OpenHow: 24
        MountAttr: 32
        CloneArgs: 88
        BpfProgram<'_>: 16
        Message<'_>: 56
        IfReq: 40;
    written:
        Statx: 256
        StatFs: 120
        Holder: 32
        Flock: 32
        WaitStatus: 4
        [PollFd; 1]: 8
        [PollFd; 3]: 24
        [PollFd; 4]: 32
        WinSize: 8
        Termios: 36
        Beginning: 44
        TimeSpec: 16
        Timeout: 32 // the kernel knows the first half
        FdPair: 8
        Number: 4
        Signal: 4
        SigSet: 8
        SigAction: 32
        Int: 4
        SigInfo: 128
        CapHeader: 8
        CapData: 24
        RLimit: 16
        RUsage: 144;
}

const _: () = assert!(
    size_of::<StatxTime>() == 16 && size_of::<BpfInstruction>() == 8 && size_of::<Rights>() == 24
);

/// A number that the kernel writes.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Number(pub u32);

impl Show for Number {
    fn show(&self, out: &mut String) {
        unsigned("[", self.0.into(), out);
        out.push(']');
    }
}

/// An `int` that the kernel writes.
#[repr(transparent)]
#[derive(Clone, Copy, Default)]
pub struct Int(pub i32);

impl Show for Int {
    fn show(&self, out: &mut String) {
        signed("[", self.0.into(), out);
        out.push(']');
    }
}
