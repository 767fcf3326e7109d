//! The entry: what a program finds when it begins.

use std::ffi::{CStr, CString, c_char};
use std::os::fd::{OwnedFd, RawFd};

use syscalls::Errno;

use crate::say::show::Arg;
use crate::say::text::split_name;
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
    argv: *const *const c_char,
    pub(in crate::sys) envp: *const *const c_char,
    /// What ppoll(2) said of descriptors 0 to 2.
    standard: [PollFd; 3],
}

impl Start {
    /// Take what C's `main` was given, and fill descriptors 0 to 2 where they are closed: the next
    /// open would become one of them, and a message for the user land in `memory.max`.
    ///
    /// Takes raw pointers and is no `unsafe fn`, because its one caller is the macro [`crate::program!`],
    /// which hands on what the kernel laid out.
    #[allow(clippy::not_unsafe_ptr_arg_deref)]
    pub fn new(argv: *const *const c_char, envp: *const *const c_char) -> Start {
        let mut standard = [0, 1, 2].map(|fd| PollFd { fd, events: 0, revents: 0 });
        // SAFETY: three pollfd and a zero timespec, valid for the call.
        unsafe {
            let now = TimeSpec { sec: 0, nsec: 0 };
            let fds = standard.as_mut_ptr() as usize;
            let _ = syscalls::syscall5(nr::ppoll.0, fds, 3, &raw const now as usize, 0, 0);
        }
        for _ in standard.iter().filter(|fd| fd.revents & libc::POLLNVAL != 0) {
            root_fd().into_iter().for_each(std::mem::forget);
        }
        let (args, env) = (copies(argv), copies(envp));
        // SAFETY: it takes a number. AT_EXECFN is a string of the block that argv is in.
        let (execfn, [euid, egid]) = unsafe {
            let execfn = libc::getauxval(libc::AT_EXECFN) as *const c_char;
            let execfn = if execfn.is_null() { c"" } else { CStr::from_ptr(execfn) };
            (execfn.to_owned(), [libc::AT_EUID, libc::AT_EGID].map(|id| libc::getauxval(id) as u32))
        };
        Start { args, env, execfn, euid, egid, argv, envp, standard }
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
        for s in strings(self.argv).chain(strings(self.envp)) {
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

/// The strings of the arguments or of the environment.
fn strings(mut list: *const *const c_char) -> impl Iterator<Item = *const c_char> {
    // SAFETY: the kernel ends either list with a null pointer, and it lives as long as the process.
    std::iter::from_fn(move || unsafe {
        let s = *list;
        list = list.add(1);
        (!s.is_null()).then_some(s)
    })
}

fn copies(list: *const *const c_char) -> Vec<CString> {
    let mut copies = Vec::new();
    for s in strings(list) {
        // SAFETY: the kernel ends each string with a zero byte.
        copies.push(unsafe { CStr::from_ptr(s) }.to_owned());
    }
    copies
}

/// A descriptor on `/` that can do nothing, at the lowest free number.
pub(super) fn root_fd() -> Result<OwnedFd, Errno> {
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    raw(nr::openat, &[at(None), Arg::Path(c"/"), Arg::Open(flags as u64)]).map(owned)
}
