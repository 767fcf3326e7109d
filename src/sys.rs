//! The one door: every system call of every step is made here, traced, dry, and reported in one place.
//! (What the entry does before a trace can begin is traced afterwards; memory, close(2) and the trace's
//! own lines, with the wait for room, are not traced.) Nothing else in the library is `unsafe`.
//!
//! A wrapper has the call's own name and argument order (section 2 of the manual). It writes its
//! arguments down once; registers, trace line, dry-run line and error text come from that. A call
//! either looks ([`Cx::read`]) or changes something ([`Cx::change`]): a dry run makes the first and
//! prints the second. Descriptors are always close-on-exec. Errors are those of the manual page, each
//! as an [`Error`] that holds the call as it was made.

#![allow(unsafe_code)]

mod arg;
mod checked;
mod context;
mod door;
pub mod entry;
mod handed;
mod limits;
pub mod memory;
mod output;
mod path_of;
pub mod probe;
pub mod proc;
mod raw;
pub mod structs;
mod trace;

/// The wrappers, by subject.
mod calls {
    pub mod descriptors;
    pub mod files;
    pub mod mounts;
    pub mod namespaces;
    pub mod processes;
    pub mod signals;
    pub mod sockets;
    pub mod state;
    pub mod terminals;
}

pub use calls::descriptors::*;
pub use calls::files::*;
pub use calls::mounts::*;
pub use calls::namespaces::*;
pub use calls::processes::*;
pub use calls::signals::*;
pub use calls::sockets::*;
pub use calls::state::*;
pub use calls::terminals::*;
pub use checked::Checked;
pub use context::{Cx, Walked};
pub use entry::{Start, cstring};
pub use handed::{HINT, Handed, LOCK, PARENT, SEALED};
pub use memory::Allocator;
pub use output::{OF_TERMINAL, piece_for_terminal, print};
pub use raw::{At, exit_now, standard_fd};
