//! Memory: what Rust's containers are given.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::{Cell, UnsafeCell};
use std::sync::atomic::{AtomicUsize, Ordering};

use syscalls::{Errno, Sysno};

use crate::say::error::{Error, FAILED};
use crate::say::show;
use crate::sys::arg::Arg;
use crate::sys::output::raw_write;
use crate::sys::raw::{exit_now, nr, raw, sigaction};
use crate::sys::structs::SigAction;

/// Memory for a program that lives for a moment: it is taken and hardly ever freed, and a parent that
/// waits takes none. The C library's allocator would be 8 KB of each program.
///
/// If the kernel gives no more memory, there is a reserve. With it, the step continues to its next change, which fails:
/// so what the step did is undone, and the failure is reported. If the reserve does not suffice either, the program
/// ends here, with 125 and a line: std would abort if a null pointer were returned.
pub struct Allocator {
    /// What is reported where there is no memory to say more.
    last_words: &'static str,
    /// The first free byte, and the end of what was mapped.
    free: Cell<(usize, usize)>,
    is_reserve_used: Cell<bool>,
}

/// Apart from the allocator, which is in the program's file: this is zeros.
static RESERVE: Reserve = Reserve(UnsafeCell::new([0; Allocator::RESERVE]));

struct Reserve(UnsafeCell<[u8; Allocator::RESERVE]>);

/// The bytes that the kernel has refused to map, until a change has failed for that; else 0.
static REFUSED: AtomicUsize = AtomicUsize::new(0);

impl Allocator {
    const CHUNK: usize = 1 << 17;
    const RESERVE: usize = 1 << 16;

    /// One that has mapped nothing yet, with the line to end with.
    ///
    /// # Safety
    ///
    /// The program has one thread, and no other allocator of this kind.
    pub const unsafe fn new(last_words: &'static str) -> Allocator {
        Allocator { last_words, free: Cell::new((0, 0)), is_reserve_used: Cell::new(false) }
    }

    /// Take a block from what is free. `None`: it does not fit.
    fn take(&self, layout: Layout) -> Option<usize> {
        let (free, end) = self.free.get();
        let start = free.checked_next_multiple_of(layout.align())?;
        let after = start.checked_add(layout.size()).filter(|after| *after <= end)?;
        self.free.set((after, end));
        Some(start)
    }

    /// Have a new mapping of at least `size` bytes, or the reserve.
    fn grow(&self, size: usize) {
        let size = size.checked_next_multiple_of(Allocator::CHUNK).unwrap_or(usize::MAX);
        let (access, kind) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let [access, kind] = [access, kind].map(|flags| flags as usize);
        // SAFETY: it takes numbers, and touches no memory that is in use.
        match unsafe { syscalls::syscall6(Sysno::mmap, 0, size, access, kind, usize::MAX, 0) } {
            Ok(start) => self.free.set((start, start + size)),
            Err(_) if self.is_reserve_used.replace(true) => self.end(),
            Err(_) => {
                let start = RESERVE.0.get() as usize;
                self.free.set((start, start + Allocator::RESERVE));
                REFUSED.store(size, Ordering::Relaxed);
            }
        }
    }

    /// End without any memory.
    fn end(&self) -> ! {
        // Else a pipe that nobody reads would end us.
        let _ = raw(
            nr::rt_sigaction,
            &sigaction(libc::SIGPIPE, Arg::In(&SigAction::IGNORE), Arg::Null),
        );
        raw_write(libc::STDERR_FILENO, self.last_words.as_bytes());
        exit_now(FAILED)
    }
}

/// What [`Allocator`] was refused, for the next call to fail with that changes something: the errno is that of mmap(2).
/// (A call that looks may fail without any consequence, and the step would go on.)
pub(super) fn refused_memory() -> Result<(), Error> {
    let size = REFUSED.load(Ordering::Relaxed);
    if size == 0 {
        return Ok(());
    }
    REFUSED.store(0, Ordering::Relaxed);
    let size = show::number(size as u64);
    let call = ["mmap(NULL, ", &size, ", PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)"];
    Err(Error::call(call.concat().into(), Errno::ENOMEM))
}

// SAFETY: the program has one thread, see `new`.
unsafe impl Sync for Allocator {}

// SAFETY: the same; and only the allocator uses it.
unsafe impl Sync for Reserve {}

// SAFETY: a block has one owner until that gives it back; its mapping is private and never unmapped, and the reserve
// is given out once.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        loop {
            match self.take(layout) {
                Some(block) => return block as *mut u8,
                None => self.grow(layout.size().saturating_add(layout.align())),
            }
        }
    }

    // Zero is what the kernel maps, and what the reserve holds; nothing is given out twice.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller has it.
        unsafe { self.alloc(layout) }
    }

    // The last block grows where it is: what is put together piece by piece is not copied for each piece. None gives
    // back what it does not need, for memory that was given out is not zero.
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (free, end) = self.free.get();
        let start = block as usize;
        if size <= layout.size() {
            return block;
        }
        if start + layout.size() == free && size <= end - start {
            self.free.set((start + size, end));
            return block;
        }
        // SAFETY: as the caller has it, who gives a size that fits the alignment; the blocks are two, and the new one
        // is the larger.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            std::ptr::copy_nonoverlapping(block, new, layout.size());
            new
        }
    }

    // This does nothing, so the compiler leaves out all code that drops values.
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_block_grows_where_it_is_and_what_was_given_out_is_not_given_out_again() {
        let layout = |size| Layout::from_size_align(size, 8).expect("a layout");
        // SAFETY: each block is used in its size, by this thread.
        unsafe {
            let memory = Allocator::new("");
            let block = memory.alloc(layout(64));
            assert_eq!(memory.realloc(block, layout(64), 128), block);
            block.write_bytes(0xff, 128);
            assert_eq!(memory.realloc(block, layout(128), 8), block);
            let zeros = memory.alloc_zeroed(layout(256));
            assert!((0..256).all(|i| *zeros.add(i) == 0));
            zeros.write_bytes(0xee, 256);
            let moved = memory.realloc(block, layout(8), 128);
            assert!(moved != block && (0..8).all(|i| *moved.add(i) == 0xff));
            assert!((0..256).all(|i| *zeros.add(i) == 0xee));
            // What does not fit into the rest of a mapping goes to another.
            let large = memory.realloc(moved, layout(128), Allocator::CHUNK * 2);
            assert!(large != moved && (0..8).all(|i| *large.add(i) == 0xff));
            assert!((0..8).all(|i| *memory.alloc_zeroed(layout(8)).add(i) == 0));
        }
    }
}
