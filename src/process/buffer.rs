//! Bytes on their way from one file to another. No failure makes a text here: memory is never freed.

use std::os::fd::BorrowedFd;

use syscalls::Errno;

use crate::sys::{self, Cx};

/// What a pipe takes at once without waiting, and a terminal gives at once.
const SIZE: usize = 4096;

/// They are read when it is empty, and written as far as there is room.
pub struct Buffer {
    bytes: [u8; SIZE],
    start: usize,
    end: usize,
}

impl Buffer {
    /// No bytes.
    pub const EMPTY: Buffer = Buffer { bytes: [0; SIZE], start: 0, end: 0 };

    /// Are none left?
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The last of them.
    pub fn last(&self) -> Option<u8> {
        self.left().last().copied()
    }

    /// Have `n` times this byte.
    pub fn set(&mut self, byte: u8, n: usize) {
        self.bytes.iter_mut().take(n).for_each(|place| *place = byte);
        (self.start, self.end) = (0, n);
    }

    /// Forget them.
    pub fn clear(&mut self) {
        self.start = self.end;
    }

    /// Read; returns how many there are.
    pub fn read(&mut self, cx: &Cx, from: BorrowedFd) -> Result<usize, Errno> {
        let n = sys::try_read(cx, from, &mut self.bytes)?;
        (self.start, self.end) = (0, n);
        Ok(n)
    }

    /// Write what there is room for.
    pub fn write(&mut self, cx: &Cx, to: BorrowedFd) -> Result<(), Errno> {
        self.write_part(cx, to, |left| left)
    }

    /// Write a part. To a terminal a long write would wait for the reader, and nothing but SIGKILL would end that.
    pub fn write_part(
        &mut self,
        cx: &Cx,
        to: BorrowedFd,
        part: fn(&[u8]) -> &[u8],
    ) -> Result<(), Errno> {
        match sys::try_write(cx, to, part(self.left())) {
            Ok(n) => self.start += n,
            Err(Errno::EAGAIN) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    fn left(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }
}
