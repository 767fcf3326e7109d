//! The entry: C's `main`, and what a program finds when it starts.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char};
use std::os::fd::{OwnedFd, RawFd};

use syscalls::Errno;

use crate::say::text::split_name;
use crate::sys::arg::Arg;
use crate::sys::raw::{at, nr, owned, raw};
use crate::sys::structs::{PollFd, TimeSpec};

/// What a program is given at its start.
pub struct Start {
    /// The arguments, of which the first is the program's name, as the caller wrote it.
    pub args: Vec<CString>,
    /// The environment, `NAME=VALUE` each. Both are copies, which `forget` leaves.
    pub env: Vec<CString>,
    /// The path that was executed, as the caller wrote it: `AT_EXECFN`.
    pub execfn: CString,
    /// The effective ids, as execve(2) left them in the auxiliary vector: getauxval(3).
    pub euid: u32,
    /// See `euid`.
    pub egid: u32,
    argv: Vector,
    pub(in crate::sys) envp: Vector,
    /// What ppoll(2) said of descriptors 0 to 2.
    standard: [PollFd; 3],
}

impl Start {
    /// Take the arguments of C's `main`, and open descriptors 0 to 2 if they are closed: otherwise the next opened file
    /// would get one of these numbers, and a message for the user could be written to `memory.max`.
    ///
    /// # Safety
    ///
    /// `argv` and `envp` are those of C's `main`, and nobody else uses what they lead to.
    pub unsafe fn new(argv: *const *const c_char, envp: *const *const c_char) -> Start {
        // SAFETY: the kernel ends either list with a null pointer, and both live as long as the process.
        let (argv, envp) = unsafe { (Vector::new(argv), Vector::new(envp)) };
        let standard = Cell::new([0, 1, 2].map(|fd| PollFd { fd, events: 0, revents: 0 }));
        let now = Cell::new(TimeSpec { sec: 0, nsec: 0 });
        let args = [Arg::InOut(&standard), Arg::Size(3), Arg::InOut(&now), Arg::Null, Arg::Null];
        let _ = raw(nr::ppoll, &args);
        let standard = standard.get();
        for _ in standard.iter().filter(|fd| fd.revents & libc::POLLNVAL != 0) {
            root_fd().into_iter().for_each(std::mem::forget);
        }
        // SAFETY: it takes a number. AT_EXECFN is a string of the block that argv is in.
        let (execfn, [euid, egid]) = unsafe {
            let execfn = libc::getauxval(libc::AT_EXECFN) as *const c_char;
            let execfn = if execfn.is_null() { c"" } else { CStr::from_ptr(execfn) };
            (execfn.to_owned(), [libc::AT_EUID, libc::AT_EGID].map(|id| libc::getauxval(id) as u32))
        };
        Start { args: argv.copies(), env: envp.copies(), execfn, euid, egid, argv, envp, standard }
    }

    /// The one of `names` by which we were called. None: empty.
    pub fn name_of(&self, names: &[&'static str]) -> &'static str {
        let called = self.args.first().map(|word| split_name(word.to_bytes()).1);
        let found = names.iter().find(|name| Some(name.as_bytes()) == called);
        found.copied().unwrap_or_default()
    }

    /// Was descriptor `fd` (0 to 2) closed when the program began?
    pub fn was_closed(&self, fd: RawFd) -> bool {
        self.standard.iter().any(|p| p.fd == fd && p.revents & libc::POLLNVAL != 0)
    }

    /// Overwrite the memory from which `/proc/self/environ` and `/proc/self/cmdline` are read: the first
    /// becomes empty, the second `text`, as far as there is room. No system call.
    pub fn forget(&self, text: &CStr) {
        let mut text = text.to_bytes().iter().copied();
        for s in self.argv.strings().chain(self.envp.strings()) {
            // SAFETY: the kernel laid these strings out in our own writable stack. `Start` copies them
            // and hands out no reference to them. The zero byte at the end stays.
            unsafe {
                for i in 0..libc::strlen(s) {
                    *s.cast_mut().add(i) = text.next().unwrap_or(0) as c_char;
                }
            }
            text.by_ref().for_each(drop); // what did not fit into argv[0] does not go on in argv[1]
        }
    }
}

/// A string for the kernel. It is made of such strings and of our own words: there is no zero byte in it.
pub fn cstring(text: impl Into<Vec<u8>>) -> CString {
    CString::new::<Vec<u8>>(text.into()).unwrap_or_default()
}

/// The arguments or the environment, as the kernel laid them out: the addresses of strings, and a null pointer.
#[derive(Clone, Copy)]
pub(in crate::sys) struct Vector(*const *const c_char);

impl Vector {
    /// # Safety
    ///
    /// The list ends with a null pointer, each string with a zero byte, and all live as long as the process.
    unsafe fn new(list: *const *const c_char) -> Vector {
        Vector(list)
    }

    /// Where the list lies.
    pub(in crate::sys) fn address(self) -> usize {
        self.0 as usize
    }

    fn strings(self) -> impl Iterator<Item = *const c_char> {
        let mut list = self.0;
        // SAFETY: the list is as `new` has it, and is left at the null pointer.
        std::iter::from_fn(move || unsafe {
            let s = *list;
            if s.is_null() {
                return None;
            }
            list = list.add(1);
            Some(s)
        })
    }

    fn copies(self) -> Vec<CString> {
        let mut copies = Vec::with_capacity(self.strings().count());
        for s in self.strings() {
            // SAFETY: each ends with a zero byte.
            copies.push(unsafe { CStr::from_ptr(s) }.to_owned());
        }
        copies
    }
}

/// C's `main`, and the allocator: the entry of a program, which is `$run` of the [`Start`]. Here is the only `unsafe`
/// outside of `sys`, in each program once.
#[macro_export]
macro_rules! entry {
    (|$start:ident| $run:expr) => {
        #[allow(unsafe_code)]
        #[global_allocator]
        // SAFETY: the program has one thread, and this is its one allocator.
        static ALLOCATOR: $crate::sys::Allocator = unsafe {
            $crate::sys::Allocator::new(concat!(
                env!("CARGO_BIN_NAME"),
                ": mmap: ENOMEM (Cannot allocate memory)\n"
            ))
        };

        /// # Safety
        ///
        /// Called by the C library alone, once.
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn main(
            _argc: std::ffi::c_int,
            argv: *const *const std::ffi::c_char,
            envp: *const *const std::ffi::c_char,
        ) -> std::ffi::c_int {
            // SAFETY: these are the arguments of C's main.
            let $start = Box::leak(Box::new(unsafe { $crate::sys::Start::new(argv, envp) }));
            $run
        }
    };
}

/// A descriptor on `/` that can do nothing, at the lowest free number.
pub(super) fn root_fd() -> Result<OwnedFd, Errno> {
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    raw(nr::openat, &[at(None), Arg::Path(c"/"), Arg::Open(flags as u64)]).map(owned)
}

/// How large a page is, in bytes.
pub(in crate::sys) fn page_size() -> u64 {
    // SAFETY: it takes a number, and returns one.
    unsafe { libc::getauxval(libc::AT_PAGESZ) }
}
