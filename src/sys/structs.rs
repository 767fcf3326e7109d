//! Structures that the kernel reads and writes, laid out as its headers have them, and shown as strace
//! shows them. All of them are the same on every 64-bit machine.

use std::ffi::CStr;
use std::marker::PhantomData;

use crate::say::flags;
use crate::say::show::{Show, bits, hexadecimal, octal, signal, signed, unsigned};
use crate::sys::arg::{Layout, Plain};

/// Structures with their sizes, those that the kernel only reads and those that it writes as well.
macro_rules! structures {
    (read: $($read:ty: $read_size:literal)*; written: $($written:ty: $written_size:literal)*;) => {
        $(const _: () = assert!(size_of::<$read>() == $read_size);
        // SAFETY: laid out as in C, of the size that the kernel's headers give it.
        unsafe impl Layout for $read {})*
        $(const _: () = assert!(size_of::<$written>() == $written_size);
        // SAFETY: the same.
        unsafe impl Layout for $written {}
        // SAFETY: made of integers.
        unsafe impl Plain for $written {})*
    };
}

structures! {
    read:
        OpenHow: 24
        MountAttr: 32
        CloneArgs: 88
        BpfProgram<'_>: 16
        IfReq: 40;
    written:
        Statx: 256
        StatFs: 120
        Holder: 32
        Flock: 32
        WaitStatus: 4
        [PollFd; 1]: 8
        [PollFd; 3]: 24
        TimeSpec: 16
        Timeout: 32 // the kernel knows the first half
        FdPair: 8
        Number: 4
        Signal: 4
        SigSet: 8
        SigAction: 32
        Int: 4
        SigInfo: 128
        CapHeader: 8
        CapData: 24
        RLimit: 16;
}

const _: () = assert!(size_of::<StatxTime>() == 16 && size_of::<BpfInstruction>() == 8);

// ---- files ----

/// `struct open_how`: openat2(2).
#[repr(C)]
pub struct OpenHow {
    pub flags: u64,
    pub mode: u64,
    pub resolve: u64,
}

impl Show for OpenHow {
    fn show(&self, out: &mut String) {
        out.push_str("{flags=");
        crate::say::show::open_flags(self.flags, out);
        out.push_str(", resolve=");
        bits(self.resolve, flags::RESOLVE, out);
        out.push('}');
    }
}

/// `struct statx_timestamp`.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq)]
pub struct StatxTime {
    pub sec: i64,
    pub nsec: u32,
    pad: i32,
}

/// `struct statx`: statx(2).
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Statx {
    pub mask: u32,
    pub blksize: u32,
    pub attributes: u64,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub mode: u16,
    pad: u16,
    pub ino: u64,
    pub size: u64,
    pub blocks: u64,
    pub attributes_mask: u64,
    pub times: [StatxTime; 4],
    pub rdev_major: u32,
    pub rdev_minor: u32,
    pub dev_major: u32,
    pub dev_minor: u32,
    pub mnt_id: u64,
    spare: [u64; 13],
}

impl Statx {
    /// The file type alone: `libc::S_IFDIR` …
    pub fn file_type(&self) -> u32 {
        u32::from(self.mode) & libc::S_IFMT
    }

    /// Is it a directory?
    pub fn is_dir(&self) -> bool {
        self.file_type() == libc::S_IFDIR
    }

    /// The permission bits, with set-user-id and its kin.
    pub fn permissions(&self) -> u32 {
        u32::from(self.mode) & 0o7777
    }

    /// Is it the root of a mount?
    pub fn is_mount_root(&self) -> bool {
        self.attributes & libc::STATX_ATTR_MOUNT_ROOT as u64 != 0
    }

    /// Is it the same file, whichever path led to it?
    pub fn same_file(&self, other: &Statx) -> bool {
        self.id() == other.id()
    }

    /// What no other file has.
    pub fn id(&self) -> FileId {
        (self.dev_major, self.dev_minor, self.ino)
    }
}

/// A device, and an inode there.
pub type FileId = (u32, u32, u64);

impl Show for Statx {
    fn show(&self, out: &mut String) {
        out.push_str("{stx_mask=");
        bits(self.mask.into(), flags::STATX, out);
        out.push_str(", stx_attributes=");
        bits(self.attributes, flags::STATX_ATTR, out);
        out.push_str(", stx_mode=");
        crate::say::show::name(self.file_type().into(), flags::FILE_TYPE, out);
        octal("|", self.permissions(), out);
        unsigned(", stx_size=", self.size, out);
        out.push_str(", ...}");
    }
}

/// `struct statfs`: statfs(2).
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct StatFs {
    /// Which file system: `libc::TMPFS_MAGIC` …
    pub f_type: i64,
    f_bsize: i64,
    f_blocks: u64,
    f_bfree: u64,
    f_bavail: u64,
    f_files: u64,
    f_ffree: u64,
    f_fsid: [u32; 2],
    f_namelen: i64,
    f_frsize: i64,
    /// `ST_RDONLY` …
    pub f_flags: i64,
    spare: [i64; 4],
}

impl StatFs {
    /// Is no block left, or no inode? A file system that does not count them has none in all.
    pub fn is_full(&self) -> bool {
        self.f_bavail == 0 && self.f_blocks > 0 || self.f_ffree == 0 && self.f_files > 0
    }
}

impl Show for StatFs {
    fn show(&self, out: &mut String) {
        // The numbers, where strace has names: the tables of those would be in every program.
        hexadecimal("{f_type=", self.f_type as u64, out);
        signed(", f_bsize=", self.f_bsize, out);
        unsigned(", f_blocks=", self.f_blocks, out);
        unsigned(", f_bfree=", self.f_bfree, out);
        unsigned(", f_bavail=", self.f_bavail, out);
        unsigned(", f_files=", self.f_files, out);
        unsigned(", f_ffree=", self.f_ffree, out);
        hexadecimal(", f_fsid={val=[", self.f_fsid[0].into(), out);
        hexadecimal(", ", self.f_fsid[1].into(), out);
        signed("]}, f_namelen=", self.f_namelen, out);
        signed(", f_frsize=", self.f_frsize, out);
        hexadecimal(", f_flags=", self.f_flags as u64, out);
        out.push('}');
    }
}

/// The names and types in what getdents64(2) wrote: `struct linux_dirent64` after another.
pub fn entries(bytes: &[u8]) -> impl Iterator<Item = (&CStr, u8)> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        // d_ino and d_off have 8 bytes each, then d_reclen 2, d_type 1, and the name.
        let reclen = u16::from_ne_bytes(rest.get(16..18)?.try_into().ok()?);
        let (entry, after) = rest.split_at_checked(reclen.into())?;
        rest = after;
        Some((CStr::from_bytes_until_nul(entry.get(19..)?).ok()?, *entry.get(18)?))
    })
}

/// `struct flock`: fcntl(2). A lock on the bytes of a file from `start` on; `len` 0: to its end, however
/// far that moves.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Flock {
    kind: i16,
    whence: i16,
    start: i64,
    len: i64,
    /// Whose lock it is, where the kernel has been asked. 0: of a process that has no number here; -1:
    /// of an open file description.
    pub pid: i32,
}

impl Flock {
    /// A lock that is asked for: `F_RDLCK` or `F_WRLCK`.
    pub fn new(kind: i32, start: i64, len: i64) -> Flock {
        Flock { kind: kind as i16, whence: libc::SEEK_SET as i16, start, len, pid: 0 }
    }

    /// Did the kernel find nothing that is in its way?
    pub fn is_free(&self) -> bool {
        i32::from(self.kind) == libc::F_UNLCK
    }

    fn show_wanted(&self, out: &mut String) {
        out.push_str("{l_type=");
        crate::say::show::name(self.kind as u64, flags::LOCK, out);
        out.push_str(", l_whence=");
        crate::say::show::name(self.whence as u64, flags::WHENCE, out);
        signed(", l_start=", self.start, out);
        signed(", l_len=", self.len, out);
    }
}

impl Show for Flock {
    fn show(&self, out: &mut String) {
        self.show_wanted(out);
        out.push('}');
    }
}

/// The same as `F_GETLK` has filled it in.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Holder(pub Flock);

impl Show for Holder {
    fn show(&self, out: &mut String) {
        self.0.show_wanted(out);
        signed(", l_pid=", self.0.pid.into(), out);
        out.push('}');
    }
}

// ---- mounts ----

/// `struct mount_attr`: mount_setattr(2). Zero changes nothing.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct MountAttr {
    pub attr_set: u64,
    pub attr_clr: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`, or 0.
    pub propagation: u64,
    pub userns_fd: u64,
}

impl Show for MountAttr {
    fn show(&self, out: &mut String) {
        out.push_str("{attr_set=");
        bits(self.attr_set, flags::MOUNT_ATTR, out);
        out.push_str(", attr_clr=");
        bits(self.attr_clr, flags::MOUNT_ATTR, out);
        out.push_str(", propagation=");
        bits(self.propagation, flags::MS, out);
        unsigned(", userns_fd=", self.userns_fd, out);
        out.push('}');
    }
}

// ---- processes ----

/// `struct clone_args`: clone(2), as of Linux 5.7.
#[repr(C)]
#[derive(Default)]
pub struct CloneArgs {
    flags: u64,
    // Addresses, none of which is used.
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// What a new process may be made with: namespaces, and our parent as its own. Memory that it shares would be our stack
/// as well, and descriptors would be closed by both.
pub const SEPARATE: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWTIME
    | libc::CLONE_PARENT) as u64;

impl CloneArgs {
    /// A process with the bits of [`SEPARATE`] in `bits`, whose end is said by SIGCHLD, in the cgroup of this descriptor.
    pub fn new(bits: u64, cgroup: Option<u64>) -> CloneArgs {
        let into = if cgroup.is_some() { flags::CLONE_INTO_CGROUP } else { 0 };
        CloneArgs {
            flags: bits & SEPARATE | into,
            exit_signal: libc::SIGCHLD as u64,
            cgroup: cgroup.unwrap_or(0),
            ..CloneArgs::default()
        }
    }
}

impl Show for CloneArgs {
    fn show(&self, out: &mut String) {
        out.push_str("{flags=");
        let into_cgroup = self.flags & flags::CLONE_INTO_CGROUP != 0;
        match self.flags & !flags::CLONE_INTO_CGROUP {
            0 if into_cgroup => out.push_str("CLONE_INTO_CGROUP"),
            others => {
                bits(others, flags::CLONE, out);
                out.push_str(if into_cgroup { "|CLONE_INTO_CGROUP" } else { "" });
            }
        }
        out.push_str(", exit_signal=");
        out.push_str(&signal(self.exit_signal as i32));
        out.push_str(", stack=NULL, stack_size=0");
        if into_cgroup {
            unsigned(", cgroup=", self.cgroup, out);
        }
        out.push('}');
    }
}

/// How a child ended: the `wstatus` of wait(2).
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct WaitStatus(pub i32);

impl WaitStatus {
    /// What a shell would say of it: the exit status, or 128+n for signal n.
    pub fn exit_status(self) -> u8 {
        if libc::WIFSIGNALED(self.0) {
            return (128 + libc::WTERMSIG(self.0)) as u8;
        }
        libc::WEXITSTATUS(self.0) as u8
    }
}

impl Show for WaitStatus {
    fn show(&self, out: &mut String) {
        if libc::WIFSIGNALED(self.0) {
            out.push_str("[{WIFSIGNALED(s) && WTERMSIG(s) == ");
            out.push_str(&signal(libc::WTERMSIG(self.0)));
            out.push_str(if libc::WCOREDUMP(self.0) { " && WCOREDUMP(s)" } else { "" });
        } else {
            let code = libc::WEXITSTATUS(self.0);
            signed("[{WIFEXITED(s) && WEXITSTATUS(s) == ", code.into(), out);
        }
        out.push_str("}]");
    }
}

/// `struct pollfd`: poll(2).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PollFd {
    pub fd: i32,
    pub events: i16,
    pub revents: i16,
}

impl<const N: usize> Show for [PollFd; N] {
    fn show(&self, out: &mut String) {
        show_polls(self, out);
    }
}

/// Of any number: code for each would be the same again.
fn show_polls(polls: &[PollFd], out: &mut String) {
    out.push('[');
    for (i, poll) in polls.iter().enumerate() {
        signed(if i > 0 { ", {fd=" } else { "{fd=" }, poll.fd.into(), out);
        out.push_str(", events=");
        bits(poll.events as u64, flags::POLL, out);
        out.push('}');
    }
    out.push(']');
}

/// `struct timespec`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TimeSpec {
    pub sec: i64,
    pub nsec: i64,
}

/// A second in nanoseconds.
pub const SECOND: i64 = 1_000_000_000;

impl TimeSpec {
    /// So many nanoseconds.
    pub fn new(nanoseconds: i64) -> TimeSpec {
        TimeSpec { sec: nanoseconds / SECOND, nsec: nanoseconds % SECOND }
    }
}

impl Show for TimeSpec {
    fn show(&self, out: &mut String) {
        signed("{tv_sec=", self.sec, out);
        signed(", tv_nsec=", self.nsec, out);
        out.push('}');
    }
}

/// The timeout of ppoll(2), which writes what is left of it over what was asked; that is shown.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Timeout {
    left: TimeSpec,
    asked: TimeSpec,
}

impl Timeout {
    /// So long.
    pub fn new(asked: TimeSpec) -> Timeout {
        Timeout { left: asked, asked }
    }

    /// What is left of it, in nanoseconds.
    pub fn left(&self) -> i64 {
        self.left.sec * SECOND + self.left.nsec
    }
}

impl Show for Timeout {
    fn show(&self, out: &mut String) {
        self.asked.show(out);
    }
}

/// The descriptors that socketpair(2) returns.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct FdPair(pub [i32; 2]);

impl Show for FdPair {
    fn show(&self, out: &mut String) {
        let [first, second] = self.0;
        signed("[", first.into(), out);
        signed(", ", second.into(), out);
        out.push(']');
    }
}

// ---- signals ----

/// A number that the kernel writes.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Number(pub u32);

impl Show for Number {
    fn show(&self, out: &mut String) {
        unsigned("[", self.0.into(), out);
        out.push(']');
    }
}

/// A signal number that the kernel writes.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Signal(pub i32);

impl Show for Signal {
    fn show(&self, out: &mut String) {
        let signal = if self.0 == 0 { "0".into() } else { signal(self.0) };
        out.push_str(&["[", &signal, "]"].concat());
    }
}

/// The kernel's `sigset_t`: bit n-1 is signal n.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SigSet(pub u64);

impl SigSet {
    /// Every signal; the kernel leaves out KILL and STOP by itself.
    pub const ALL: SigSet = SigSet(u64::MAX);
}

impl Show for SigSet {
    fn show(&self, out: &mut String) {
        // strace names those that are missing where most are there.
        let (sign, set) = if self.0.count_ones() > 42 { ("~[", !self.0) } else { ("[", self.0) };
        out.push_str(sign);
        let start = out.len();
        for n in (1..=64).filter(|n| set >> (n - 1) & 1 == 1) {
            if out.len() > start {
                out.push(' ');
            }
            let name = signal(n);
            out.push_str(name.strip_prefix("SIG").unwrap_or(&name));
        }
        out.push(']');
    }
}

/// The kernel's `struct sigaction`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SigAction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: SigSet,
}

impl SigAction {
    /// `SIG_DFL`.
    pub const DEFAULT: SigAction = SigAction { handler: 0, flags: 0, restorer: 0, mask: SigSet(0) };
    /// `SIG_IGN`.
    pub const IGNORE: SigAction = SigAction { handler: 1, ..SigAction::DEFAULT };

    /// Would children be reaped by the kernel, were this set for SIGCHLD?
    pub fn loses_children(&self) -> bool {
        self.handler == 1 || self.flags & libc::SA_NOCLDWAIT as u64 != 0
    }
}

impl Show for SigAction {
    fn show(&self, out: &mut String) {
        match self.handler {
            0 => out.push_str("{sa_handler=SIG_DFL"),
            1 => out.push_str("{sa_handler=SIG_IGN"),
            address => hexadecimal("{sa_handler=", address as u64, out),
        }
        out.push_str(", sa_mask=");
        self.mask.show(out);
        out.push_str(", sa_flags=");
        bits(self.flags, flags::SA, out);
        out.push('}');
    }
}

/// An `int` that the kernel writes.
#[repr(transparent)]
#[derive(Clone, Copy, Default)]
pub struct Int(pub i32);

impl Show for Int {
    fn show(&self, out: &mut String) {
        signed("[", self.0.into(), out);
        out.push(']');
    }
}

/// The kernel's `siginfo_t`, as far as kill(2), SIGCHLD and the terminal fill it in.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct SigInfo {
    pub signo: i32,
    errno: i32,
    pub code: i32,
    pad: i32,
    pub pid: i32,
    uid: u32,
    status: i32,
    rest: [i32; 25],
}

impl Show for SigInfo {
    fn show(&self, out: &mut String) {
        out.push_str("{si_signo=");
        out.push_str(&signal(self.signo));
        signed(", si_code=", self.code.into(), out);
        let from_user = self.code <= 0;
        if from_user || self.pid != 0 {
            signed(", si_pid=", self.pid.into(), out);
            unsigned(", si_uid=", self.uid.into(), out);
        }
        if !from_user && self.signo == libc::SIGCHLD {
            signed(", si_status=", self.status.into(), out);
            out.push_str(", ...");
        }
        out.push('}');
    }
}

// ---- the state of a process ----

/// `struct __user_cap_header_struct`: capget(2). The kernel writes into it which version it knows, where that is not ours.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CapHeader {
    version: u32,
    pid: i32,
}

impl CapHeader {
    /// Our own process, sets of 64 bits: `_LINUX_CAPABILITY_VERSION_3`.
    pub const SELF: CapHeader = CapHeader { version: 0x2008_0522, pid: 0 };
}

impl Show for CapHeader {
    fn show(&self, out: &mut String) {
        out.push_str("{version=_LINUX_CAPABILITY_VERSION_3, pid=0}");
    }
}

/// `struct __user_cap_data_struct`, twice: bits 0 to 31, then 32 to 63, of each set.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct CapData([CapHalf; 2]);

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapHalf {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

impl CapData {
    /// From three sets, bit n for capability n.
    pub fn new(effective: u64, permitted: u64, inheritable: u64) -> CapData {
        CapData([0, 32].map(|shift| CapHalf {
            effective: (effective >> shift) as u32,
            permitted: (permitted >> shift) as u32,
            inheritable: (inheritable >> shift) as u32,
        }))
    }

    /// The permitted set.
    pub fn permitted(&self) -> u64 {
        u64::from(self.0[1].permitted) << 32 | u64::from(self.0[0].permitted)
    }

    /// The effective set.
    pub fn effective(&self) -> u64 {
        u64::from(self.0[1].effective) << 32 | u64::from(self.0[0].effective)
    }

    /// The inheritable set.
    pub fn inheritable(&self) -> u64 {
        u64::from(self.0[1].inheritable) << 32 | u64::from(self.0[0].inheritable)
    }
}

impl Show for CapData {
    fn show(&self, out: &mut String) {
        out.push_str("{effective=");
        caps(self.effective(), out);
        out.push_str(", permitted=");
        caps(self.permitted(), out);
        out.push_str(", inheritable=");
        caps(self.inheritable(), out);
        out.push('}');
    }
}

/// `1<<CAP_CHOWN|1<<CAP_KILL`, as strace writes a set of capabilities.
fn caps(set: u64, out: &mut String) {
    let start = out.len();
    let mut left = set;
    for (cap, name) in flags::CAPS.iter().filter(|(cap, _)| set >> cap & 1 == 1) {
        left &= !(1 << cap);
        out.push_str(if out.len() > start { "|1<<" } else { "1<<" });
        out.push_str(name);
    }
    if left != 0 || set == 0 {
        hexadecimal(if out.len() > start { "|" } else { "" }, left, out);
    }
}

/// `struct sock_filter`: an instruction of classic BPF, linux/filter.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BpfInstruction {
    pub code: u16,
    /// How many instructions a comparison that holds jumps over; `jf`, where it does not.
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// `struct sock_fprog`: a program of such instructions, at most 65535.
#[repr(C)]
pub struct BpfProgram<'a> {
    len: u16,
    filter: *const BpfInstruction,
    instructions: PhantomData<&'a [BpfInstruction]>,
}

impl BpfProgram<'_> {
    /// As seccomp(2) reads it. What is too long has the length 0, which the kernel refuses.
    pub fn new(instructions: &[BpfInstruction]) -> BpfProgram<'_> {
        let len = u16::try_from(instructions.len()).unwrap_or(0);
        BpfProgram { len, filter: instructions.as_ptr(), instructions: PhantomData }
    }
}

impl Show for BpfProgram<'_> {
    fn show(&self, out: &mut String) {
        unsigned("{len=", self.len.into(), out);
        hexadecimal(", filter=", self.filter as u64, out);
        out.push('}');
    }
}

/// `struct rlimit64`: getrlimit(2).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RLimit {
    pub soft: u64,
    pub hard: u64,
}

impl Show for RLimit {
    fn show(&self, out: &mut String) {
        for (before, n) in [("{rlim_cur=", self.soft), (", rlim_max=", self.hard)] {
            match n {
                u64::MAX => out.push_str(&[before, "RLIM64_INFINITY"].concat()),
                _ if n > 1024 && n % 1024 == 0 => {
                    unsigned(before, n / 1024, out);
                    out.push_str("*1024");
                }
                _ => unsigned(before, n, out),
            }
        }
        out.push('}');
    }
}

/// `struct ifreq` with flags: netdevice(7).
#[repr(C)]
pub struct IfReq {
    name: [u8; libc::IFNAMSIZ],
    flags: i16,
    rest: [u8; 22],
}

impl IfReq {
    /// A request to bring the loopback interface up.
    pub const LOOPBACK_UP: IfReq = IfReq {
        name: *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        flags: libc::IFF_UP as i16,
        rest: [0; 22],
    };
}

impl Show for IfReq {
    fn show(&self, out: &mut String) {
        out.push_str("{ifr_name=");
        let name = self.name.split(|b| *b == 0).next().unwrap_or_default();
        crate::say::show::quote(name, usize::MAX, out);
        out.push_str(", ifr_flags=");
        bits(self.flags as u64, flags::IFF, out);
        out.push('}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn a_structure_is_laid_out_as_the_c_librarys() {
        macro_rules! same {
            ($($ours:ident $theirs:ident: $($our:ident $their:ident)*;)*) => {$(
                assert_eq!(size_of::<$ours>(), size_of::<libc::$theirs>(), stringify!($theirs));
                $(assert_eq!(
                    offset_of!($ours, $our),
                    offset_of!(libc::$theirs, $their),
                    concat!(stringify!($theirs), ".", stringify!($their))
                );)*
            )*};
        }
        same! {
            OpenHow open_how: flags flags mode mode resolve resolve;
            Statx statx: mask stx_mask attributes stx_attributes uid stx_uid gid stx_gid mode stx_mode
                ino stx_ino size stx_size times stx_atime dev_major stx_dev_major
                dev_minor stx_dev_minor mnt_id stx_mnt_id;
            StatxTime statx_timestamp: sec tv_sec nsec tv_nsec;
            StatFs statfs: f_type f_type f_bavail f_bavail f_ffree f_ffree;
            Flock flock: kind l_type whence l_whence start l_start len l_len pid l_pid;
            MountAttr mount_attr: attr_set attr_set attr_clr attr_clr propagation propagation
                userns_fd userns_fd;
            CloneArgs clone_args: flags flags exit_signal exit_signal cgroup cgroup;
            PollFd pollfd: fd fd events events revents revents;
            TimeSpec timespec: sec tv_sec nsec tv_nsec;
            SigInfo siginfo_t: signo si_signo code si_code;
            RLimit rlimit: soft rlim_cur hard rlim_max;
            BpfInstruction sock_filter: code code jt jt jf jf k k;
            IfReq ifreq: name ifr_name flags ifr_ifru;
        }
        assert_eq!(size_of::<BpfProgram>(), size_of::<libc::sock_fprog>());
        assert_eq!(offset_of!(BpfProgram, filter), offset_of!(libc::sock_fprog, filter));
    }
}
