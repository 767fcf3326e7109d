//! The structure of mounts.

use crate::say::flags;
use crate::say::show::{Show, bits, unsigned};

/// `struct mount_attr`: mount_setattr(2). Zero changes nothing.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct MountAttr {
    pub attr_set: u64,
    pub attr_clr: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`, or 0.
    pub propagation: u64,
    pub userns_fd: u64,
}

impl Show for MountAttr {
    fn show(&self, out: &mut String) {
        out.push_str("{attr_set=");
        bits(self.attr_set, flags::MOUNT_ATTR, out);
        out.push_str(", attr_clr=");
        bits(self.attr_clr, flags::MOUNT_ATTR, out);
        out.push_str(", propagation=");
        bits(self.propagation, flags::MS, out);
        unsigned(", userns_fd=", self.userns_fd, out);
        out.push('}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_structure_is_laid_out_as_the_c_librarys() {
        same! {
            MountAttr mount_attr: attr_set attr_set attr_clr attr_clr propagation propagation
                userns_fd userns_fd;
        }
    }
}
