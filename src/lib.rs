//! td: a container run, one system call step at a time.
//!
//! A *tool* is one file in `src/bin`. It does one step to the calling process and then becomes the
//! rest of its command line, PROG. Read its `HELP` for what it is for and its `apply` for every
//! system call that it makes, in order. What the tools share:
//!
//! - [`sys`]: the one door, through which every system call goes, and the entry
//! - [`show`]: how a call is written down, as strace writes it
//! - [`structs`]: what the kernel reads and writes, and how strace shows it
//! - [`flags`]: the names of flag bits
//! - [`error`]: what is said when a call fails, and exit codes
//! - [`text`], [`number`]: lines, fields and numbers in text
//! - [`proc`]: what the files of `/proc` say
//! - [`cli`]: help, version, trace, dry run, paths, sizes, lists
//! - [`chain`]: PROG: finding it, executing it, also across a change of root
//! - [`executable`]: why a program is not executed: what kind of file it is
//! - [`child`]: clone, signals passed on, reaping, how a child ended
//! - [`init`]: process 1, of a container and of a machine
//! - [`session`]: a session, and the terminal that controls it
//! - [`namespaces`]: why the kernel refuses to make them, and what is set in them
//! - [`id_maps`]: the maps of a user namespace, and who writes them
//! - [`pid_file`]: a file that names a process for other programs
//! - [`join`]: joining namespaces, and why the kernel refuses it
//! - [`target`]: a process that is entered
//! - [`container`]: a container of td-run, found by its name: its process 1, and what that may do
//! - [`mounts`]: what is mounted, where, and whether shared
//! - [`file_systems`]: why the kernel makes no new one: of a type, from a device, or a proc
//! - [`descriptors`]: the descriptors that outlive a step: who keeps each, who closes it
//! - [`devices`]: what `/dev` holds
//! - [`restrict`]: what a root has and its programs shall not see, or not write to
//! - [`pivot`]: why the root cannot be changed, and what can be done about it
//! - [`lock`]: locks, and who holds them
//! - [`lock_file`]: opening a file to lock it
//! - [`moves`]: mounts that go along to a new root
//! - [`initramfs`]: the initramfs as the root: leaving it, and freeing its memory
//! - [`overlay`]: the layers of an overlay, how they are mounted, why the kernel refuses
//! - [`directories`]: the way to what td makes, removes and keeps, which nobody else can change
//! - [`root`]: a root that is filled: hostile paths in it, and undoing what was done there
//! - [`remove`]: removing a directory with all it holds
//! - [`users`]: users and groups of a root, and taking their ids
//! - [`caps`]: capabilities, by name and as sets
//! - [`policy`]: which system calls a process may make: a policy read, compiled, checked, loaded
//! - [`cgroup`]: version 1, 2 and hybrid: where a cgroup lies; its limits; making it; mounting the hierarchies

pub mod caps;
pub mod cgroup;
pub mod chain;
pub mod child;
pub mod cli;
pub mod container;
pub mod descriptors;
pub mod devices;
pub mod directories;
pub mod error;
pub mod executable;
pub mod file_systems;
pub mod flags;
pub mod id_maps;
pub mod init;
pub mod initramfs;
pub mod join;
pub mod lock;
pub mod lock_file;
pub mod mounts;
pub mod moves;
pub mod namespaces;
pub mod number;
pub mod overlay;
pub mod pid_file;
pub mod pivot;
pub mod policy;
pub mod proc;
pub mod remove;
pub mod restrict;
pub mod root;
pub mod session;
pub mod show;
pub mod structs;
pub mod sys;
pub mod target;
pub mod text;
pub mod users;
