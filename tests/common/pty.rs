//! A terminal, and who types there.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use super::{check, wait_for};

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

    /// Type this.
    #[track_caller]
    pub fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("room for what is typed");
    }

    /// Wait until it shows `text`; return what it has shown up to there, after the last time.
    #[track_caller]
    pub fn shows(&mut self, text: &str) -> String {
        let (master, shown) = (&mut self.master, &mut self.text);
        wait_for(&format!("the terminal to show {text:?}"), || {
            let mut buffer = [0; 4096];
            // EIO: just now nobody has it open.
            if let Ok(n) = master.read(&mut buffer) {
                shown.push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
            let end = shown.find(text)? + text.len();
            Some(shown.drain(..end).collect())
        })
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
