//! Names of flag bits and of numbered constants, as the kernel's headers and strace write them.

/// A set of named values. Where one name covers the bits of others, it stands before them.
pub type Table = &'static Names;

/// Values, and their names in one string with blanks between them: a list of pairs would take as many
/// bytes again for each name's address and length.
pub struct Names {
    pub values: &'static [u32],
    pub names: &'static str,
}

impl Names {
    /// Each value with its name.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &'static str)> {
        self.values.iter().map(|value| u64::from(*value)).zip(self.names.split(' '))
    }
}

/// Tables of constants, each under its own name: those of `libc`, and with a number those that it has not.
macro_rules! tables {
    ($($doc:literal $table:ident: $($name:ident $(= $value:literal)?)*;)*) => {
        $(#[doc = $doc] pub const $table: Table = &Names {
            values: &[$(tables!(@value $name $($value)?)),*],
            names: concat!($(stringify!($name), " "),*),
        };)*

        /// Every table, for whoever has to turn names back into numbers.
        pub const ALL: &[Table] = &[$($table),*];
    };
    (@value $name:ident) => { fitting(libc::$name as u64) };
    (@value $name:ident $value:literal) => { $value };
}

/// A value as a table has it, where an int below 0 is the unsigned one with the same bits. What does not fit is an
/// error when td is built.
pub const fn fitting(value: u64) -> u32 {
    assert!(value as u32 as u64 == value || value as i32 as u64 == value);
    value as u32
}

tables! {
    "open(2), without the access mode." OPEN:
        O_PATH O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_CREAT O_EXCL O_TRUNC O_NONBLOCK O_APPEND O_NOCTTY
        O_WRONLY O_RDWR;
    "The `resolve` field of openat2(2)." RESOLVE:
        RESOLVE_IN_ROOT RESOLVE_BENEATH RESOLVE_NO_SYMLINKS RESOLVE_NO_MAGICLINKS RESOLVE_NO_XDEV;
    "Flags of the *at calls." AT:
        AT_EMPTY_PATH AT_RECURSIVE AT_SYMLINK_NOFOLLOW AT_NO_AUTOMOUNT AT_STATX_DONT_SYNC;
    "unlinkat(2)." UNLINK: AT_REMOVEDIR;
    "lseek(2)." SEEK: SEEK_SET SEEK_CUR SEEK_END;
    "renameat2(2)." RENAME: RENAME_NOREPLACE RENAME_EXCHANGE RENAME_WHITEOUT;
    "faccessat2(2), which shares a bit with AT_REMOVEDIR." ACCESS_AT: AT_EACCESS;
    "The mode of faccessat2(2)." ACCESS: X_OK W_OK R_OK;
    "The `mask` of statx(2), as far as td asks and the kernel adds." STATX:
        STATX_BASIC_STATS STATX_BTIME STATX_MNT_ID;
    "The `stx_attributes` of statx(2), those of usual files and directories." STATX_ATTR:
        STATX_ATTR_IMMUTABLE STATX_ATTR_APPEND STATX_ATTR_MOUNT_ROOT;
    "File types." FILE_TYPE: S_IFSOCK S_IFLNK S_IFREG S_IFBLK S_IFDIR S_IFCHR S_IFIFO;
    "mount(2)." MS:
        MS_RDONLY MS_NOSUID MS_NODEV MS_NOEXEC MS_REMOUNT MS_BIND MS_MOVE MS_REC MS_SILENT
        MS_UNBINDABLE MS_PRIVATE MS_SLAVE MS_SHARED MS_RELATIME;
    "umount2(2)." UMOUNT: MNT_FORCE MNT_DETACH MNT_EXPIRE UMOUNT_NOFOLLOW;
    "fsopen(2)." FSOPEN: FSOPEN_CLOEXEC;
    "fsmount(2)." FSMOUNT: FSMOUNT_CLOEXEC;
    "The command of fsconfig(2)." FSCONFIG:
        FSCONFIG_SET_FLAG FSCONFIG_SET_STRING FSCONFIG_SET_BINARY FSCONFIG_SET_PATH
        FSCONFIG_SET_PATH_EMPTY FSCONFIG_SET_FD FSCONFIG_CMD_CREATE FSCONFIG_CMD_RECONFIGURE;
    "Attributes of a mount: fsmount(2), mount_setattr(2)." MOUNT_ATTR:
        MOUNT_ATTR_RDONLY MOUNT_ATTR_NOSUID MOUNT_ATTR_NODEV MOUNT_ATTR_NOEXEC
        MOUNT_ATTR_NOATIME MOUNT_ATTR_STRICTATIME MOUNT_ATTR_NOSYMFOLLOW;
    "move_mount(2)." MOVE_MOUNT: MOVE_MOUNT_F_EMPTY_PATH MOVE_MOUNT_T_EMPTY_PATH;
    "open_tree(2), beside the AT flags." OPEN_TREE:
        OPEN_TREE_CLONE OPEN_TREE_CLOEXEC AT_EMPTY_PATH AT_RECURSIVE AT_SYMLINK_NOFOLLOW;
    "The command of fcntl(2)." FCNTL:
        F_DUPFD F_GETFD F_SETFD F_GETLK F_SETLK F_SETLKW F_ADD_SEALS F_GET_SEALS;
    "Another, of td-lock alone." FCNTL_DUP: F_DUPFD_CLOEXEC;
    "Another, of td-tty alone." FCNTL_FL: F_SETFL;
    "Flags of signalfd(2)." SFD: SFD_CLOEXEC;
    "Operations of flock(2)." FLOCK: LOCK_SH LOCK_EX LOCK_NB;
    "The `l_type` of a lock." LOCK: F_RDLCK F_WRLCK F_UNLCK;
    "The `l_whence` of a lock." WHENCE: SEEK_SET;
    "Flags of a descriptor." FD: FD_CLOEXEC;
    "Seals of a memfd." SEAL: F_SEAL_SEAL F_SEAL_SHRINK F_SEAL_GROW F_SEAL_WRITE;
    "close_range(2)." CLOSE_RANGE: CLOSE_RANGE_UNSHARE CLOSE_RANGE_CLOEXEC;
    "How rt_sigprocmask(2) changes the mask." SIG_HOW: SIG_BLOCK SIG_UNBLOCK SIG_SETMASK;
    "Signals." SIGNAL:
        SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2
        SIGPIPE SIGALRM SIGTERM SIGSTKFLT SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG
        SIGXCPU SIGXFSZ SIGVTALRM SIGPROF SIGWINCH SIGIO SIGPWR SIGSYS
        SIGRTMIN=32 SIGRT_1=33 SIGRT_2=34 SIGRT_3=35 SIGRT_4=36 SIGRT_5=37 SIGRT_6=38 SIGRT_7=39 SIGRT_8=40
        SIGRT_9=41 SIGRT_10=42 SIGRT_11=43 SIGRT_12=44 SIGRT_13=45 SIGRT_14=46 SIGRT_15=47 SIGRT_16=48 SIGRT_17=49
        SIGRT_18=50 SIGRT_19=51 SIGRT_20=52 SIGRT_21=53 SIGRT_22=54 SIGRT_23=55 SIGRT_24=56 SIGRT_25=57 SIGRT_26=58
        SIGRT_27=59 SIGRT_28=60 SIGRT_29=61 SIGRT_30=62 SIGRT_31=63 SIGRT_32=64;
    "Flags of rt_sigaction(2)." SA: SA_NOCLDSTOP SA_NOCLDWAIT SA_SIGINFO SA_ONSTACK SA_RESTART SA_NODEFER;
    "wait4(2)." WAIT: WNOHANG WSTOPPED WCONTINUED;
    "poll(2)." POLL: POLLIN POLLPRI POLLOUT POLLERR POLLHUP POLLNVAL;
    "prctl(2)." PRCTL:
        PR_SET_PDEATHSIG PR_GET_PDEATHSIG PR_SET_NAME PR_CAPBSET_READ PR_CAPBSET_DROP
        PR_CAP_AMBIENT PR_SET_NO_NEW_PRIVS PR_SET_CHILD_SUBREAPER PR_SET_KEEPCAPS PR_SET_DUMPABLE
        PR_GET_NO_NEW_PRIVS PR_GET_SECCOMP;
    "The second argument of `prctl(PR_CAP_AMBIENT)`." AMBIENT:
        PR_CAP_AMBIENT_CLEAR_ALL PR_CAP_AMBIENT_RAISE PR_CAP_AMBIENT_LOWER PR_CAP_AMBIENT_IS_SET;
    "Operations of seccomp(2)." SECCOMP: SECCOMP_SET_MODE_FILTER;
    "Resources of prlimit(2)." RLIMIT:
        RLIMIT_CPU RLIMIT_FSIZE RLIMIT_DATA RLIMIT_STACK RLIMIT_CORE RLIMIT_RSS RLIMIT_NPROC
        RLIMIT_NOFILE RLIMIT_MEMLOCK RLIMIT_AS RLIMIT_LOCKS RLIMIT_SIGPENDING RLIMIT_MSGQUEUE
        RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_RTTIME;
    "Clocks." CLOCK: CLOCK_REALTIME CLOCK_MONOTONIC CLOCK_BOOTTIME;
    "Requests of ioctl(2)." IOCTL: NS_GET_USERNS NS_GET_NSTYPE NS_GET_OWNER_UID SIOCGIFFLAGS SIOCSIFFLAGS TIOCSCTTY
        TIOCGSID TIOCGETD TIOCGPGRP TIOCSPGRP TIOCSPTLCK TIOCGPTPEER TIOCGWINSZ TIOCSWINSZ TCGETS TCSETS;
    "Flags of a network interface." IFF: IFF_UP IFF_LOOPBACK IFF_RUNNING;
    "Families of socket(2)." AF: AF_UNIX AF_INET;
    "Types of socket(2)." SOCK: SOCK_STREAM SOCK_DGRAM SOCK_NONBLOCK SOCK_CLOEXEC;
    "Protocols of socket(2)." IPPROTO: IPPROTO_IP;
    "Flags of send(2) and recv(2)." MSG: MSG_NOSIGNAL MSG_DONTWAIT MSG_CMSG_CLOEXEC;
    "The first two arguments of reboot(2)." REBOOT_MAGIC: LINUX_REBOOT_MAGIC1 LINUX_REBOOT_MAGIC2;
    "Commands of reboot(2)." REBOOT:
        LINUX_REBOOT_CMD_RESTART LINUX_REBOOT_CMD_HALT LINUX_REBOOT_CMD_POWER_OFF LINUX_REBOOT_CMD_CAD_OFF;
    "Commands of keyctl(2)." KEYCTL: KEYCTL_JOIN_SESSION_KEYRING;
    "The second argument of `prctl(PR_SET_DUMPABLE)`, linux/sched/coredump.h." DUMP:
        SUID_DUMP_DISABLE=0;
    "clone(2), clone3(2), unshare(2)." CLONE:
        CLONE_PARENT CLONE_NEWNS CLONE_NEWCGROUP CLONE_NEWUTS CLONE_NEWIPC CLONE_NEWUSER CLONE_NEWPID CLONE_NEWNET
        CLONE_NEWTIME;
    "Machines that an ELF file may be for: elf(5)." MACHINES:
        EM_386 EM_ARM EM_X86_64 EM_AARCH64 EM_RISCV=243;
    "memfd_create(2)." MEMFD: MFD_CLOEXEC MFD_ALLOW_SEALING MFD_EXEC=0x10;
    "Capabilities, by number: capabilities(7), linux/capability.h." CAPS:
        CAP_CHOWN=0 CAP_DAC_OVERRIDE=1 CAP_DAC_READ_SEARCH=2 CAP_FOWNER=3 CAP_FSETID=4 CAP_KILL=5
        CAP_SETGID=6 CAP_SETUID=7 CAP_SETPCAP=8 CAP_LINUX_IMMUTABLE=9 CAP_NET_BIND_SERVICE=10
        CAP_NET_BROADCAST=11 CAP_NET_ADMIN=12 CAP_NET_RAW=13 CAP_IPC_LOCK=14 CAP_IPC_OWNER=15
        CAP_SYS_MODULE=16 CAP_SYS_RAWIO=17 CAP_SYS_CHROOT=18 CAP_SYS_PTRACE=19 CAP_SYS_PACCT=20
        CAP_SYS_ADMIN=21 CAP_SYS_BOOT=22 CAP_SYS_NICE=23 CAP_SYS_RESOURCE=24 CAP_SYS_TIME=25
        CAP_SYS_TTY_CONFIG=26 CAP_MKNOD=27 CAP_LEASE=28 CAP_AUDIT_WRITE=29 CAP_AUDIT_CONTROL=30
        CAP_SETFCAP=31 CAP_MAC_OVERRIDE=32 CAP_MAC_ADMIN=33 CAP_SYSLOG=34 CAP_WAKE_ALARM=35
        CAP_BLOCK_SUSPEND=36 CAP_AUDIT_READ=37 CAP_PERFMON=38 CAP_BPF=39 CAP_CHECKPOINT_RESTORE=40;
}

/// `clone3` takes a bit that does not fit into the `int` of clone(2), nor into a table.
pub const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A flag of memfd_create(2) as of Linux 6.3: the file may be executed whatever `vm.memfd_noexec` says,
/// short of 2.
pub const MFD_EXEC: u64 = 0x10;

/// The name of one value.
pub fn name(table: Table, value: u64) -> Option<&'static str> {
    table.iter().find(|(known, _)| *known == value).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_value_of_a_table_has_its_name() {
        for table in super::ALL {
            assert_eq!(table.values.len(), table.names.split_ascii_whitespace().count());
        }
        assert_eq!(
            super::name(super::CAPS, crate::ids::caps::CAP_SYS_ADMIN),
            Some("CAP_SYS_ADMIN")
        );
        assert_eq!(super::name(super::OPEN, libc::O_APPEND as u64), Some("O_APPEND"));
    }
}
