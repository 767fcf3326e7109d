//! A terminal, and who types there.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::{LIMIT, check, within};

/// A terminal of a test's own: `/dev/pts/N`, and its other end.
pub struct Pty {
    master: File,
    /// Its name.
    pub path: String,
    /// What was read from it.
    text: String,
}

impl Pty {
    /// A new one.
    #[track_caller]
    pub fn new() -> Pty {
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC;
        let mut name = [0; 64];
        // SAFETY: a new descriptor, which is nobody else's, and room for a name.
        let master = unsafe {
            let master = File::from_raw_fd(check(libc::posix_openpt(flags)).expect("a terminal"));
            check(libc::unlockpt(master.as_raw_fd())).expect("it is ours");
            check(libc::ptsname_r(master.as_raw_fd(), name.as_mut_ptr(), name.len()))
                .expect("a name");
            master
        };
        let path = name.iter().take_while(|c| **c != 0).map(|c| char::from(*c as u8)).collect();
        let terminal = Pty { master, path, text: String::new() };
        let kind = fs::metadata(&terminal.path).map(|file| file.file_type());
        assert!(kind.is_ok_and(|kind| kind.is_char_device()), "no devpts at {}", terminal.path);
        terminal
    }

    /// Open it without having it as controlling terminal.
    pub fn open(&self) -> File {
        let mut options = File::options();
        let file = options.read(true).write(true).custom_flags(libc::O_NOCTTY).open(&self.path);
        file.expect("the terminal")
    }

    /// Have this size, in rows and columns.
    pub fn resizes(&self, rows: u16, columns: u16) {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: it reads the structure.
        let done = unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        check(done).expect("a terminal");
    }

    /// Is what is typed passed on byte for byte?
    pub fn is_raw(&self) -> bool {
        // SAFETY: a structure of integers, which it writes.
        let modes = unsafe {
            let mut modes: libc::termios = std::mem::zeroed();
            check(libc::tcgetattr(self.master.as_raw_fd(), &mut modes)).expect("a terminal");
            modes
        };
        modes.c_lflag & (libc::ICANON | libc::ISIG | libc::ECHO) == 0
    }

    /// Type this.
    #[track_caller]
    pub fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("room for what is typed");
    }

    /// What types bytes.
    pub fn keyboard(&self) -> File {
        self.master.try_clone().expect("a copy")
    }

    /// Wait until it shows `text`; return what it has shown up to there, after the last time.
    #[track_caller]
    pub fn shows(&mut self, text: &str) -> String {
        let (master, shown) = (&mut self.master, &mut self.text);
        let found = within(LIMIT, || {
            let mut buffer = [0; 4096];
            // EIO: just now nobody has it open.
            if let Ok(n) = master.read(&mut buffer) {
                shown.push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
            let end = shown.find(text)? + text.len();
            Some(shown.drain(..end).collect())
        });
        found.unwrap_or_else(|| panic!("waited in vain for {text:?}; it shows {shown:?}"))
    }

    /// Its modes, as tcgetattr(3) has them.
    pub fn modes(&self) -> String {
        // SAFETY: a structure of integers, which it writes.
        unsafe {
            let mut modes: libc::termios = std::mem::zeroed();
            check(libc::tcgetattr(self.master.as_raw_fd(), &mut modes)).expect("a terminal");
            format!("{modes:?}")
        }
    }

    /// A session on it that this process group does not belong to runs `cmd`.
    pub fn controls<'a>(&self, cmd: &'a mut Command) -> &'a mut Command {
        cmd.stdin(self.open()).stdout(self.open()).stderr(self.open());
        // SAFETY: two calls that take numbers.
        unsafe {
            cmd.pre_exec(|| {
                check(libc::setsid())?;
                check(libc::ioctl(0, libc::TIOCSCTTY, 0)).map(drop)
            })
        }
    }

    /// An interactive shell with this prompt has job control on it, and ends with 9.
    #[track_caller]
    pub fn has_job_control(&mut self, prompt: &str) {
        let begin = self.shows(prompt);
        assert!(!begin.contains("job control"), "{begin}");
        // In two pieces, for the terminal shows what is typed as well.
        self.types("sh -c 'echo be''gun; exec sleep 1000'\n");
        self.shows("begun\r\n");
        self.types("\x03");
        self.shows(prompt);
        self.types("echo status $?\n");
        self.shows(&format!("status {}\r\n", 128 + libc::SIGINT));
        self.types("exit 9\n");
    }
}

/// The master that comes over a socket, as recvtty of runc has it: one message, with one descriptor and its name.
#[track_caller]
pub fn received(socket: &UnixStream) -> (File, String) {
    let mut name = [0_u8; 4096];
    // CMSG_SPACE of one descriptor.
    let mut control = [0_u64; 3];
    // SAFETY: what it writes is ours, of the sizes that are said; the descriptor is new.
    unsafe {
        let mut data = libc::iovec { iov_base: name.as_mut_ptr().cast(), iov_len: name.len() };
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&mut data, 1);
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        let n = libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC);
        let name = name.get(..n.max(0) as usize).expect("as much as there is room for");
        assert!(!name.is_empty(), "{}", std::io::Error::last_os_error());
        assert_eq!(message.msg_controllen as usize, size_of_val(&control));
        let header = libc::CMSG_FIRSTHDR(&message);
        assert!(!header.is_null() && (*header).cmsg_type == libc::SCM_RIGHTS, "no descriptor");
        assert_eq!((*header).cmsg_len as usize, libc::CMSG_LEN(4) as usize, "not one descriptor");
        let master = File::from_raw_fd(libc::CMSG_DATA(header).cast::<i32>().read_unaligned());
        let modes = check(libc::fcntl(master.as_raw_fd(), libc::F_GETFL)).expect("it is open");
        assert_eq!(modes & libc::O_NONBLOCK, 0, "a reader would not wait");
        (master, String::from_utf8_lossy(name).into_owned())
    }
}

/// The number that a terminal has shown after the last `before`.
#[track_caller]
pub fn number(shown: &str, before: &str) -> i32 {
    let (_, rest) = shown.rsplit_once(before).unwrap_or_else(|| panic!("{shown}"));
    rest.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{shown}"))
}
