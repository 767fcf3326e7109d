//! Structures of sockets and network interfaces.

use crate::say::flags;
use crate::say::show::{Show, bits, quote, signed};

/// The descriptors that socketpair(2) returns.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct FdPair(pub [i32; 2]);

impl Show for FdPair {
    fn show(&self, out: &mut String) {
        let [first, second] = self.0;
        signed("[", first.into(), out);
        signed(", ", second.into(), out);
        out.push(']');
    }
}

/// `struct ifreq` with flags: netdevice(7).
#[repr(C)]
pub struct IfReq {
    name: [u8; libc::IFNAMSIZ],
    flags: i16,
    rest: [u8; 22],
}

impl IfReq {
    /// A request to bring the loopback interface up.
    pub const LOOPBACK_UP: IfReq = IfReq {
        name: *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        flags: libc::IFF_UP as i16,
        rest: [0; 22],
    };
}

impl Show for IfReq {
    fn show(&self, out: &mut String) {
        out.push_str("{ifr_name=");
        let name = self.name.split(|b| *b == 0).next().unwrap_or_default();
        quote(name, usize::MAX, out);
        out.push_str(", ifr_flags=");
        bits(self.flags as u64, flags::IFF, out);
        out.push('}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_structure_is_laid_out_as_the_c_librarys() {
        same! {
            IfReq ifreq: name ifr_name flags ifr_ifru;
        }
    }
}
