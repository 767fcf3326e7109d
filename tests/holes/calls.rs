//! The rows about system calls, terminals and keys: what the policy refuses.

use libc::*;

use crate::Attempt::{Calls, Inside, Outside};
use crate::Back::All;
use crate::Control::{Root, With, Without};
use crate::Hole;
use crate::table::PRIVILEGED;

/// Without the policy for system calls.
pub const UNCONFINED: &[&str] = &["--security-opt", "seccomp=unconfined"];

pub const CALLS: &[Hole] = &[
    // ---- system calls that the policy refuses ----
    Hole {
        known: "CVE-2016-1576, CVE-2021-3493, CVE-2022-0185, CVE-2021-22555, CVE-2023-0386: user namespaces",
        tried: "a user namespace inside gives every capability over namespaces of its own",
        attempt: Inside(
            &[],
            "unshare -U true 2>/dev/null && echo unshared
            unshare -r -m mount -t tmpfs t /tmp 2>/dev/null && echo mounted
            echo tried",
        ),
        back: All("tried"),
        control: With(UNCONFINED, "unshared\nmounted\ntried"),
    },
    Hole {
        known: "CVE-2013-1858: clone(2) with CLONE_NEWUSER and CLONE_FS, CVE-2022-0185: clone3(2)",
        tried: "the same by clone and unshare, whatever bits stand beside it, and by setns",
        attempt: Calls(&[
            ("clone-user", SYS_clone, "268435473 0 0 0 0"),
            ("clone-user-fs", SYS_clone, "268435985 0 0 0 0"),
            ("clone-user-mount", SYS_clone, "268566545 0 0 0 0"),
            ("clone-user-high", SYS_clone, "4563402769 0 0 0 0"),
            ("unshare-user", SYS_unshare, "268435456"),
            ("unshare-mount", SYS_unshare, "131072"),
            ("unshare-cgroup", SYS_unshare, "33554432"),
            ("setns", SYS_setns, "-1 0"),
        ]),
        back: All("EPERM"),
        control: Root(PRIVILEGED, ""),
    },
    Hole {
        known: "flatpak's GHSA-67h7-w3jq-vh4q (CVE-2021-41133)",
        tried: "the newer calls that mount, which a list of forbidden calls does not know",
        attempt: Calls(&[
            ("mount", SYS_mount, "s:none s:/tmp s:tmpfs 0 0"),
            ("umount2", SYS_umount2, "s:/dev/shm/none 0"),
            ("pivot_root", SYS_pivot_root, "s:/none s:/none"),
            ("fsopen", SYS_fsopen, "s:tmpfs 0"),
            ("fsconfig", SYS_fsconfig, "-1 0 0 0 0"),
            ("fsmount", SYS_fsmount, "-1 0 0"),
            ("fspick", SYS_fspick, "-100 s:/none 0"),
            ("open_tree", SYS_open_tree, "-100 s:/ 0"),
            ("open_tree-clone", SYS_open_tree, "-100 s:/ 1"),
            ("move_mount", SYS_move_mount, "-1 s: -1 s: 4"),
            ("mount_setattr", SYS_mount_setattr, "-1 s: 0 b:32 32"),
        ]),
        back: All("EPERM"),
        control: Root(PRIVILEGED, ""),
    },
    Hole {
        known: "clone3(2), whose flags no filter sees",
        tried: "a new user namespace by clone3",
        attempt: Calls(&[("clone3", SYS_clone3, "b:88 88")]),
        back: All("ENOSYS"),
        control: With(UNCONFINED, ""),
    },
    Hole {
        known: "CVE-2020-8835, CVE-2021-3490 (bpf), CVE-2022-2602 (io_uring), CVE-2013-2094 (perf), \
                userfaultfd (docker)",
        tried: "the calls in which the kernel had its holes",
        attempt: Calls(&[
            ("bpf", SYS_bpf, "0 b:128 128"),
            ("perf_event_open", SYS_perf_event_open, "b:128 0 -1 -1 0"),
            ("userfaultfd", SYS_userfaultfd, "1"),
            ("io_uring_setup", SYS_io_uring_setup, "1 b:120"),
            ("io_uring_enter", SYS_io_uring_enter, "-1 0 0 0 0 0"),
            ("io_uring_register", SYS_io_uring_register, "-1 0 0 0"),
            ("fanotify_init", SYS_fanotify_init, "0 0"),
        ]),
        back: All("EPERM"),
        control: Root(PRIVILEGED, ""),
    },
    Hole {
        known: "AF_VSOCK (docker), AF_ALG",
        tried: "a socket to the machine that runs this one, or to the kernel's cryptography, also with high bits set",
        attempt: Calls(&[
            ("vsock", SYS_socket, "40 1 0"),
            ("vsock-high", SYS_socket, "4294967336 1 0"),
            ("vsock-negative", SYS_socket, "-4294967256 1 0"),
            ("alg", SYS_socket, "38 5 0"),
            ("alg-high", SYS_socket, "4294967334 5 0"),
        ]),
        back: All("EPERM"),
        control: With(UNCONFINED, ""),
    },
    Hole {
        known: "the administrator's calls (docker)",
        tried: "the machine is restarted, its clock set, its modules, its swap, its log, its ports, its quotas changed",
        attempt: Calls(&[
            ("reboot", SYS_reboot, "0 0 0 0"),
            ("kexec_load", SYS_kexec_load, "0 0 0 -1"),
            ("init_module", SYS_init_module, "0 0 s:"),
            ("finit_module", SYS_finit_module, "-1 s: 0"),
            ("delete_module", SYS_delete_module, "s:td-none 2048"),
            ("swapon", SYS_swapon, "s:/td-none 0"),
            ("swapoff", SYS_swapoff, "s:/td-none"),
            ("acct", SYS_acct, "s:/td-none"),
            ("quotactl", SYS_quotactl, "-1 s:/td-none 0 0"),
            ("syslog", SYS_syslog, "10 0 0"),
            ("settimeofday", SYS_settimeofday, "-1 -1"),
            ("clock_settime", SYS_clock_settime, "0 0"),
            ("sethostname", SYS_sethostname, "s:td -1"),
            ("open_by_handle_at", SYS_open_by_handle_at, "-1 b:16 0"),
        ]),
        back: All("EPERM"),
        control: Without("a privileged container would do it to the machine of the test"),
    },
    Hole {
        known: "kcmp(2), pidfd_getfd(2) (docker)",
        tried: "descriptors of process 1, and what it shares",
        attempt: Calls(&[
            ("kcmp", SYS_kcmp, "1 1 0 0 0"),
            ("pidfd_getfd", SYS_pidfd_getfd, "-1 0 0"),
        ]),
        back: All("EPERM"),
        control: Root(PRIVILEGED, ""),
    },
    Hole {
        known: "personality(2) (docker), CVE-2016-0728 (keyrings)",
        tried: "addresses without randomness; keys, whichever",
        attempt: Calls(&[
            ("personality", SYS_personality, "262144"),
            ("add_key", SYS_add_key, "s:user s:td-none 0 0 -2"),
            ("request_key", SYS_request_key, "s:user s:td-none 0 0"),
            ("keyctl", SYS_keyctl, "0 -4 0"),
        ]),
        back: All("EPERM"),
        control: With(UNCONFINED, ""),
    },
    Hole {
        known: "CVE-2017-5226 (bubblewrap), CVE-2016-2779 (runuser), CVE-2023-28100 (flatpak)",
        tried: "what the caller's shell is to read is typed, or pasted, into the terminal",
        attempt: Outside(
            "for controls in -c ''; do
                for what in type paste; do
                    \"$attempt\" pty $controls \"$td_run\" --state \"$state\" $open \"$name\" try terminal $what
                    hold $open
                    \"$attempt\" pty $controls \"$bin/td-enter\" --state \"$state\" --name \"$name\" try terminal $what
                    release
                    rm hold held
                done
            done | sed 's/^x//' | sort | uniq -c | tr -s ' '",
        ),
        back: All(" 4 paste EPERM\n 4 type EPERM"),
        control: Root(PRIVILEGED, " 4 paste ENOTTY\n 4 type ok"),
    },
    Hole {
        known: "ioctl_tty(2): TIOCSCTTY",
        tried: "a terminal that no session controls becomes the container's own, and is typed into",
        attempt: Outside(
            "\"$attempt\" pty \"$td_run\" --state \"$state\" $open \"$name\" \
                try terminal own type | sed 's/^x//' | grep type",
        ),
        back: All("type EPERM"),
        control: Without("the row above, privileged"),
    },
    // ---- keys: they belong to a uid, and to no namespace ----
    Hole {
        known: "docker's keyctl: the keyring of a uid",
        tried: "a key of this uid on the host is searched, linked, read, changed; and its persistent keyring",
        attempt: Outside(
            "as=$uid user=''
            [ \"$uid\" != 0 ] || as=61234 user='-u 61234'
            own() { \"$attempt\" key \"$@\"; }
            [ \"$uid\" != 0 ] || own() { setpriv --reuid $as --regid $as --clear-groups \"$attempt\" key \"$@\"; }
            serial=$(own add \"td-$name\" secret)
            trap 'own unlink \"$serial\"' EXIT
            run $user \"$name\" try keys \"td-$name\" \"$serial\" \"$as\" | sort -u
            own value \"$serial\"",
        ),
        back: All("session 0\nvalue secret\nunlink 0"),
        control: Root(
            UNCONFINED,
            "added one to the user keyring\n\
             changed it\n\
             got a persistent keyring\n\
             got it by a link\n\
             got it by a link to it\n\
             got it by a persistent keyring\n\
             got it by describe\n\
             got it by joining _uid\n\
             got it by joining _uid_ses\n\
             got it by reading it\n\
             got it by the user keyring\n\
             got it by the user session keyring\n\
             session 0\n\
             value changed\n\
             unlink 0",
        ),
    },
    Hole {
        known: "docker's keyctl: root's own",
        tried: "the same of a key of root, who is root inside, by the container and by who enters it",
        attempt: Outside(
            "serial=$(\"$attempt\" key add \"td-$name\" secret)
            trap '\"$attempt\" key unlink \"$serial\"' EXIT
            run \"$name\" try keys \"td-$name\" \"$serial\" -1 | sort -u
            hold
            enter try keys \"td-$name\" \"$serial\" -1 | sort -u
            release
            \"$attempt\" key value \"$serial\"",
        ),
        back: All("session 0\nvalue secret\nunlink 0"),
        control: Root(
            UNCONFINED,
            "added one to the user keyring\n\
             changed it\n\
             got it by a link\n\
             got it by a link to it\n\
             got it by describe\n\
             got it by reading it\n\
             got it by the user keyring\n\
             got it by the user session keyring\n\
             added one to the user keyring\n\
             changed it\n\
             got it by a link\n\
             got it by a link to it\n\
             got it by describe\n\
             got it by reading it\n\
             got it by the user keyring\n\
             got it by the user session keyring\n\
             session 0\n\
             value changed\n\
             unlink 0",
        ),
    },
    Hole {
        known: "docker's keyctl: the session",
        tried: "the caller's session keyring is inherited, or joined by its name",
        attempt: Outside(
            "\"$attempt\" key session \"td-$name\" secret \"$td_run\" --state \"$state\" $open \"$name\" \
                try keys \"td-$name\" 0 -1 | sort -u
            hold
            \"$attempt\" key session \"td-$name\" secret \"$bin/td-enter\" --state \"$state\" --name \"$name\" \
                try keys \"td-$name\" 0 -1 | sort -u
            release
            echo tried",
        ),
        back: All("tried"),
        control: Root(
            UNCONFINED,
            "added one to the user keyring\n\
             got it by joining its session\n\
             added one to the user keyring\n\
             got it by joining its session\n\
             tried",
        ),
    },
];
