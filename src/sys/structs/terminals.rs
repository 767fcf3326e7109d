//! Structures of terminals, and of a descriptor that is sent over a socket.

use std::cell::Cell;

use crate::say::flags;
use crate::say::show::{Show, bits, hexadecimal, quote, signed, unsigned};
use crate::sys::arg::Written;

/// `struct winsize`: TIOCGWINSZ(2const).
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq)]
pub struct WinSize([u16; 4]);

impl Show for WinSize {
    fn show(&self, out: &mut String) {
        let names = ["{ws_row=", ", ws_col=", ", ws_xpixel=", ", ws_ypixel="];
        names.iter().zip(self.0).for_each(|(name, n)| unsigned(name, n.into(), out));
        out.push('}');
    }
}

/// The kernel's `struct termios`, which is not the C library's: the modes of a terminal, TCGETS(2const).
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq)]
pub struct Termios {
    input: u32,
    output: u32,
    control: u32,
    local: u32,
    line: u8,
    characters: [u8; 19],
}

impl Termios {
    /// Those of a new terminal: tty_std_termios of the kernel.
    pub const NEW: Termios = Termios {
        input: libc::ICRNL | libc::IXON,
        output: libc::OPOST | libc::ONLCR,
        control: libc::B38400 | libc::CS8 | libc::CREAD,
        local: libc::ISIG
            | libc::ICANON
            | libc::ECHO
            | libc::ECHOE
            | libc::ECHOK
            | libc::ECHOCTL
            | libc::ECHOKE
            | libc::IEXTEN,
        line: 0,
        characters: *b"\x03\x1c\x7f\x15\x04\0\x01\0\x11\x13\x1a\0\x12\x0f\x17\x16\0\0\0",
    };

    /// As cfmakeraw(3) has them: what is typed is passed on byte for byte, and what is shown is not changed.
    pub fn raw(mut self) -> Termios {
        self.input &= !(libc::IGNBRK
            | libc::BRKINT
            | libc::PARMRK
            | libc::ISTRIP
            | libc::INLCR
            | libc::IGNCR
            | libc::ICRNL
            | libc::IXON);
        self.output &= !libc::OPOST;
        self.local &= !(libc::ECHO | libc::ECHONL | libc::ICANON | libc::ISIG | libc::IEXTEN);
        self.control = self.control & !(libc::CSIZE | libc::PARENB) | libc::CS8;
        for (index, n) in [(libc::VMIN, 1), (libc::VTIME, 0)] {
            self.characters.get_mut(index).into_iter().for_each(|character| *character = n);
        }
        self
    }

    /// What is typed is not shown.
    pub fn without_echo(mut self) -> Termios {
        self.local &= !libc::ECHO;
        self
    }

    /// The character that ends the input where lines are read, and whether they are.
    pub fn end_of_file(&self) -> (u8, bool) {
        let character = self.characters.get(libc::VEOF).copied().unwrap_or_default();
        (character, self.local & libc::ICANON != 0)
    }
}

impl Show for Termios {
    fn show(&self, out: &mut String) {
        let flags = [self.input, self.output, self.control, self.local];
        let names = ["{c_iflag=", ", c_oflag=", ", c_cflag=", ", c_lflag="];
        names.iter().zip(flags).for_each(|(name, bits)| hexadecimal(name, bits.into(), out));
        out.push_str(", ...}");
    }
}

/// How a terminal begins, as it is sent to the process that opens it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Beginning {
    pub size: WinSize,
    pub modes: Termios,
}

impl Show for Beginning {
    fn show(&self, out: &mut String) {
        let Termios { input, output, control, local, line, characters } = self.modes;
        let mut bytes = Vec::new();
        self.size.0.iter().for_each(|n| bytes.extend(n.to_ne_bytes()));
        [input, output, control, local].iter().for_each(|n| bytes.extend(n.to_ne_bytes()));
        bytes.push(line);
        bytes.extend(characters);
        quote(&bytes, crate::say::show::CUT, out);
    }
}

/// `struct iovec`, of the bytes that are sent or received.
#[repr(C)]
struct IoVec<'a> {
    base: &'a Cell<[u8; LEN]>,
    len: usize,
}

/// `struct cmsghdr` with one descriptor: cmsg(3), SCM_RIGHTS.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Rights {
    len: usize,
    level: i32,
    kind: i32,
    fd: i32,
    pad: i32,
}

impl Rights {
    const LEN: usize = 20;
    /// No descriptor.
    pub const NONE: Rights = Rights { len: 0, level: 0, kind: 0, fd: -1, pad: 0 };

    /// This one.
    pub fn new(fd: i32) -> Rights {
        let (level, kind) = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
        Rights { len: Rights::LEN, level, kind, fd, pad: 0 }
    }

    /// The number of the descriptor that has come.
    pub fn fd(&self) -> Option<i32> {
        let is_one =
            (self.len, self.level, self.kind) == (Rights::LEN, libc::SOL_SOCKET, libc::SCM_RIGHTS);
        is_one.then_some(self.fd)
    }
}

/// The name of a master, which goes with it: engines that start runc read one.
pub const MASTER: [u8; LEN] = *b"/dev/ptmx";
const LEN: usize = 9;

/// `struct msghdr`: send(2), recv(2). A name, and room for one descriptor.
#[repr(C)]
pub struct Message<'a> {
    name: usize,
    name_len: Cell<u32>,
    data: &'a Data<'a>,
    data_len: usize,
    control: &'a Cell<Rights>,
    control_len: Cell<usize>,
    flags: Cell<i32>,
}

/// What is sent or received with a descriptor.
#[repr(transparent)]
pub struct Data<'a>(IoVec<'a>);

impl<'a> Data<'a> {
    /// These bytes.
    pub fn new(name: &'a Cell<[u8; LEN]>) -> Data<'a> {
        Data(IoVec { base: name, len: LEN })
    }
}

const _: () = assert!(size_of::<Data>() == size_of::<libc::iovec>());

impl<'a> Message<'a> {
    /// With this descriptor, or room for one.
    pub fn new(data: &'a Data<'a>, control: &'a Cell<Rights>) -> Message<'a> {
        let control_len = Cell::new(Rights::LEN); // a second descriptor has no room
        let (name_len, flags) = (Cell::new(0), Cell::new(0));
        Message { name: 0, name_len, data, data_len: 1, control, control_len, flags }
    }
}

impl Written for Message<'_> {}

impl Show for Message<'_> {
    fn show(&self, out: &mut String) {
        out.push_str("{msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base=");
        quote(&self.data.0.base.get(), LEN, out);
        out.push_str(", iov_len=9}], msg_iovlen=1, ");
        if let Some(fd) = self.control.get().fd().filter(|_| self.control_len.get() > 0) {
            out.push_str("msg_control=[{cmsg_len=20, cmsg_level=SOL_SOCKET, cmsg_type=SCM_RIGHTS");
            signed(", cmsg_data=[", fd.into(), out);
            out.push_str("]}], ");
        }
        unsigned("msg_controllen=", self.control_len.get() as u64, out);
        out.push_str(", msg_flags=");
        bits(self.flags.get() as u64, flags::MSG, out);
        out.push('}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_structure_is_laid_out_as_the_c_librarys() {
        same! {
            Message msghdr: name msg_name name_len msg_namelen data msg_iov data_len msg_iovlen
                control msg_control control_len msg_controllen flags msg_flags;
            Data iovec: ;
            WinSize winsize: ;
        }
    }

    #[test]
    fn raw_modes_are_those_of_the_c_library() {
        // SAFETY: a structure of integers.
        let mut theirs: libc::termios = unsafe { std::mem::zeroed() };
        (theirs.c_iflag, theirs.c_oflag) = (!0, !0);
        (theirs.c_cflag, theirs.c_lflag) = (!0, !0);
        // SAFETY: it is ours.
        unsafe { libc::cfmakeraw(&mut theirs) };
        let ours = Termios { input: !0, output: !0, control: !0, local: !0, ..Termios::default() };
        let ours = ours.raw();
        let flags = (theirs.c_iflag, theirs.c_oflag, theirs.c_cflag, theirs.c_lflag);
        assert_eq!((ours.input, ours.output, ours.control, ours.local), flags);
        assert_eq!((ours.characters[libc::VMIN], ours.characters[libc::VTIME]), (1, 0));
    }
}
