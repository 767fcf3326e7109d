//! td: a container run, one system call step at a time.
//!
//! A *tool* is one file in [`tools`]. It does one step to the calling process; then comes the rest of its
//! command line, PROG: by execve(2), or in the same process where PROG is a tool that the same program
//! has. Read a tool's `HELP` for what it is for and its `apply` for every system call that it makes, in
//! order. `src/bin` makes a program of each, and one of all. What the tools share lies in the groups of
//! modules below: each group uses only the groups above it in this list.

// The rules of this crate: `unsafe` in `sys` alone, and no way to a panic.
#![deny(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::string_slice)]
#![deny(clippy::panic, clippy::todo, clippy::unimplemented, clippy::unreachable)]
#![deny(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::dbg_macro,
    clippy::undocumented_unsafe_blocks
)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

/// How values are shown and read: calls, flags, capabilities and errnos as strace writes them; numbers, lines and
/// programs as the kernel reads them.
pub mod say {
    pub mod elf;
    pub mod error;
    pub mod flags;
    pub mod format;
    pub mod number;
    pub mod show;
    pub mod text;
}

pub mod sys;

pub mod cli;

/// Who a process is, and what it may do.
pub mod ids {
    pub mod caps;
    pub mod credentials;
    pub mod id_maps;
    pub mod passwd;
    pub mod policy;
    pub mod user_namespace;
}

/// Mounts and files: a root, what it is made of, and what a hostile one may hold.
pub mod root {
    pub mod devices;
    pub mod directories;
    pub mod dry_run;
    pub mod fill;
    pub mod initramfs;
    pub mod kernel_log;
    pub mod locked;
    pub mod mount_namespace;
    pub mod mountinfo;
    pub mod mounts;
    pub mod moves;
    pub mod namespaced;
    pub mod overlay;
    pub mod path_resolution;
    pub mod remove;
    pub mod restrict;
    pub mod temporary_file;
    pub mod undo;
    pub mod why_no_path;
    pub mod why_not_mounted;
    pub mod why_not_pivoted;
    pub mod working_directory;
}

/// cgroups(7): the file of one at the bottom; above it the hierarchies, limits, and what is done with a cgroup.
pub mod cgroup {
    pub mod amount;
    pub mod child_cgroups;
    pub mod controllers;
    pub mod cpuset;
    pub mod device_limits;
    pub mod empty;
    pub mod file;
    pub mod freezer;
    pub mod hierarchies;
    pub mod kill;
    pub mod limits;
    pub mod make;
    pub mod memberships;
    pub mod mount;
    pub mod oom;
    pub mod places;
    pub mod proc_pid_cgroup;
    pub mod record;
    pub mod stat;
    pub mod tree;
    pub mod value;
    pub mod wanted;
    pub mod why_no_value;
    pub mod why_not_made;
}

/// Processes: their command line, what they become, their children, and those that are entered.
pub mod process {
    pub mod buffer;
    pub mod callers_terminal;
    pub mod chain;
    pub mod child;
    pub mod container;
    pub mod descriptors;
    pub mod explain;
    pub mod file_to_execute;
    pub mod filter;
    pub mod grace;
    pub mod join;
    pub mod lock;
    pub mod lock_file;
    pub mod machine;
    pub mod map_child_ids;
    pub mod namespaces;
    pub mod own_file;
    pub mod pid_file;
    pub mod process_1;
    pub mod processes;
    pub mod prog;
    pub mod pty;
    pub mod ready;
    pub mod relay;
    pub mod session;
    pub mod signals;
    pub mod socket_pair;
    pub mod target;
    pub mod terminal;
    pub mod terminal_inside;
    pub mod wait;
    pub mod waiting_parent;
    pub mod why_no_child;
    pub mod why_no_prog;
    pub mod why_not_executed;
}

/// The tools, one a file.
pub mod tools {
    pub mod cgroup;
    pub mod enter;
    pub mod exec;
    pub mod init;
    pub mod lock;
    pub mod mount;
    pub mod overlay;
    pub mod pivot;
    pub mod tty;
    pub mod unshare;
}
