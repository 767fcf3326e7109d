//! A call that a filter of system calls refuses: it is named, and nothing else is blamed; nor is a filter that merely
//! is there.

mod common;

use std::collections::BTreeSet;
use std::process::Command;

use common::chmod;
use common::*;
use libc::*;

/// The calls that td makes, by name and number, but for those without which nothing can be said (write), no program
/// starts (execve), or that cannot fail.
const CALLS: &[(&str, c_long)] = &[
    ("capget", SYS_capget),
    ("capset", SYS_capset),
    ("chdir", SYS_chdir),
    ("chroot", SYS_chroot),
    ("clone", SYS_clone),
    ("clone3", SYS_clone3),
    ("close_range", SYS_close_range),
    ("dup3", SYS_dup3),
    ("execveat", SYS_execveat),
    ("faccessat2", SYS_faccessat2),
    ("fchdir", SYS_fchdir),
    ("fchmod", SYS_fchmod),
    ("fchown", SYS_fchown),
    ("fchownat", SYS_fchownat),
    ("fcntl", SYS_fcntl),
    ("flock", SYS_flock),
    ("fsconfig", SYS_fsconfig),
    ("fsmount", SYS_fsmount),
    ("fsopen", SYS_fsopen),
    ("fstatfs", SYS_fstatfs),
    ("getcwd", SYS_getcwd),
    ("getdents64", SYS_getdents64),
    ("getpgid", SYS_getpgid),
    ("getsid", SYS_getsid),
    ("ioctl", SYS_ioctl),
    ("keyctl", SYS_keyctl),
    ("kill", SYS_kill),
    ("memfd_create", SYS_memfd_create),
    ("mkdirat", SYS_mkdirat),
    ("mknodat", SYS_mknodat),
    ("mount", SYS_mount),
    ("mount_setattr", SYS_mount_setattr),
    ("move_mount", SYS_move_mount),
    ("open_tree", SYS_open_tree),
    ("openat", SYS_openat),
    ("openat2", SYS_openat2),
    ("pidfd_open", SYS_pidfd_open),
    ("pivot_root", SYS_pivot_root),
    ("ppoll", SYS_ppoll),
    ("prctl", SYS_prctl),
    ("pread64", SYS_pread64),
    ("prlimit64", SYS_prlimit64),
    ("read", SYS_read),
    ("readlinkat", SYS_readlinkat),
    ("reboot", SYS_reboot),
    ("recvfrom", SYS_recvfrom),
    ("recvmsg", SYS_recvmsg),
    ("renameat2", SYS_renameat2),
    ("rt_sigpending", SYS_rt_sigpending),
    ("rt_sigtimedwait", SYS_rt_sigtimedwait),
    ("seccomp", SYS_seccomp),
    ("sendfile", SYS_sendfile),
    ("sendmsg", SYS_sendmsg),
    ("sendto", SYS_sendto),
    ("setgroups", SYS_setgroups),
    ("sethostname", SYS_sethostname),
    ("setns", SYS_setns),
    ("setpgid", SYS_setpgid),
    ("setresgid", SYS_setresgid),
    ("setresuid", SYS_setresuid),
    ("setsid", SYS_setsid),
    ("signalfd4", SYS_signalfd4),
    ("socket", SYS_socket),
    ("socketpair", SYS_socketpair),
    ("statfs", SYS_statfs),
    ("statx", SYS_statx),
    ("symlinkat", SYS_symlinkat),
    ("umount2", SYS_umount2),
    ("unlinkat", SYS_unlinkat),
    ("unshare", SYS_unshare),
    ("wait4", SYS_wait4),
];

fn refuse(cmd: &mut Command, number: c_long, errno: i32) {
    refuse_calls(cmd, Box::leak(Box::new([number])), errno);
}

/// It is static: a loader would make calls of its own.
const PROG: &str = "/bin/busybox";

mod root {
    use super::*;

    /// Command lines that make most of the calls of td, each of which goes well. PROG is a tool, for a shell needs
    /// calls of its own.
    fn steps(dir: &TempDir) -> Vec<Command> {
        let image = dir.join("image");
        let root = text(&image);
        let [upper, work, over] = ["upper", "work", "over"].map(|name| dir.dir(name));
        let end = ["td-exec", "--no-new-privs", PROG];
        let unshare = |words: &[&str]| td("td-unshare", words.iter().copied().chain(end));
        vec![
            unshare(&["--mount", "--uts", "--ipc", "--hostname", "x"]),
            unshare(&["--user", "--map-root-user", "--mount"]),
            unshare(&["--map-users", "0:0:9", "--map-groups", "0:0:9", "--pid", "--mount"]),
            unshare(&["--pid", "--net", "--loopback"]),
            unshare(&["--time", "--monotonic", "5"]),
            td(
                "td-unshare",
                ["--mount", "--pid", "td-mount", "--proc", "--dev", root, "td-pivot", root, PROG],
            ),
            td(
                "td-unshare",
                [
                    "--mount",
                    "td-overlay",
                    "--lower",
                    root,
                    "--upper",
                    text(&upper),
                    "--work",
                    text(&work),
                    text(&over),
                    PROG,
                ],
            ),
            td(
                "td-exec",
                [
                    "--user",
                    "7:7",
                    "--groups",
                    "8",
                    "--cap-keep",
                    "kill",
                    "--ambient",
                    "--setsid",
                    PROG,
                ],
            ),
            td(
                "td-exec",
                [
                    "--session-keyring",
                    "--seccomp",
                    "default",
                    "--rlimit",
                    "core=0",
                    "--chdir",
                    "/",
                    PROG,
                ],
            ),
            td("td-lock", [text(&dir.join("lock")), PROG]),
            td("td-init", [PROG]),
            td("td-tty", [PROG]),
        ]
    }

    /// Whatever a filter refuses, either the step goes another way, or the call is named, and nothing else.
    #[test]
    fn a_call_that_a_filter_refuses_is_named_whichever_it_is() {
        private_mounts();
        let mut wrong = Vec::new();
        let mut named = BTreeSet::new();
        for i in 0..steps(&image_on_tmpfs("image")).len() {
            for (n, (name, number)) in CALLS.iter().enumerate() {
                let dir = image_on_tmpfs("image");
                let mut cmd = steps(&dir).swap_remove(i);
                refuse(&mut cmd, *number, [EPERM, EACCES, ENOSYS][(i + n) % 3]);
                let output = run(&mut cmd);
                if output.code == Some(0) {
                    continue;
                }
                let err = output.err();
                let found = format!("a seccomp filter of this process refuses {name}(2)\n");
                let way_out = format!("let the filter allow {name}(2)\n");
                let call = format!(" {name}(");
                // The arguments of two calls cannot be wrong, so that nothing is certain.
                let alone = *name == "setsid" || err.contains("PR_SET_CHILD_SUBREAPER");
                let is_of_it = |line: &str| {
                    let is = |part: &str| format!("{line}\n").contains(part);
                    is(&found) || is(&way_out) || is(&call)
                };
                if err.lines().all(is_of_it) && err.contains(&found) && err.ends_with(&way_out) {
                    named.insert(*name);
                } else if !(alone && err.contains(&format!("perhaps {found}"))) && *name != "keyctl"
                {
                    wrong.push(output.to_string());
                }
            }
        }
        assert!(wrong.is_empty(), "{}: {}", wrong.len(), wrong.join("\n"));
        assert!(named.len() > 40, "{named:?}");
    }

    /// The way out is followed: the same step under a filter that allows the call.
    #[test]
    fn where_the_filter_allows_the_call_the_step_goes_well() {
        private_mounts();
        for i in 0..steps(&image_on_tmpfs("image")).len() {
            let dir = image_on_tmpfs("image");
            let mut cmd = steps(&dir).swap_remove(i);
            refuse(&mut cmd, SYS_swapon, EPERM);
            run(&mut cmd).ok();
        }
    }

    /// A filter may look at numbers, which the call that is made to find it has too.
    #[test]
    fn a_filter_that_looks_at_arguments_is_found() {
        private_mounts();
        let dir = TempDir::new();
        let policy = |line: &str| dir.file("policy", format!("unconfined\n{line}\n"));
        let under = |line: &str, words: &[&str]| {
            let policy = policy(line);
            run(td("td-exec", ["--seccomp", text(&policy), "--"])
                .args([bin(words[0])])
                .args(&words[1..]))
        };
        let new_mounts = "EPERM unshare if arg0 & 0x20000 = 0x20000";
        under(new_mounts, &["td-unshare", "--mount", "/bin/busybox", "true"])
            .exits(125)
            .says("a seccomp filter of this process refuses unshare(2)");
        under(new_mounts, &["td-unshare", "--uts", "/bin/busybox", "true"]).ok();
        // Of two kinds it refuses one.
        under(new_mounts, &["td-unshare", "--uts", "--mount", "/bin/busybox", "true"])
            .exits(125)
            .says("a seccomp filter of this process refuses unshare(2)");
        let keep = "EACCES prctl if arg0 = 8";
        let ambient =
            ["td-exec", "--user", "7", "--cap-keep", "kill", "--ambient", "/bin/busybox", "true"];
        under(keep, &ambient).exits(125).says("a seccomp filter of this process refuses prctl(2)");
        under("EACCES prctl if arg0 = 7", &ambient).ok();
    }

    /// The kernel's own refusals, under a filter that lets those calls through.
    #[test]
    fn a_filter_that_merely_is_there_is_not_blamed() {
        private_mounts();
        let dir = TempDir::new();
        chmod(dir.path(), 0o700);
        let inside = dir.dir("inside");
        let image = image_on_tmpfs("image");
        chmod(image.path(), 0o755);
        let image = image.join("image");
        let user = |words: &[&str]| {
            let mut cmd = td("td-exec", ["--user", "12345", "--cap-keep", "none", "--"]);
            cmd.arg(bin(words[0])).args(&words[1..]);
            cmd
        };
        let cases = [
            (
                user(&["td-unshare", "--mount", "/bin/busybox", "true"]),
                "this process has no CAP_SYS_ADMIN",
            ),
            (user(&["td-exec", "--chdir", text(&inside), "/bin/busybox", "true"]), "EACCES"),
            (user(&["td-mount", "--tmpfs", "/tmp", "/", "/bin/busybox", "true"]), "EPERM"),
            (
                user(&["td-exec", "--groups", "7", "/bin/busybox", "true"]),
                "this process has no CAP_SETGID",
            ),
            (
                user(&["td-exec", "--user", "7", "/bin/busybox", "true"]),
                "this process has no CAP_SETGID",
            ),
            (
                user(&["td-exec", "--cap-keep", "kill", "/bin/busybox", "true"]),
                "this process has no CAP_SETPCAP",
            ),
            (
                user(&["td-pivot", "--host-namespace", text(&image), "/bin/busybox", "true"]),
                "this process has no CAP_SYS_ADMIN",
            ),
            (td("td-exec", ["/etc/passwd"]), "EACCES"),
        ];
        for (mut cmd, why) in cases {
            refuse(&mut cmd, SYS_swapon, EPERM);
            let output = run(&mut cmd).says(why);
            assert!(!output.err().contains("seccomp"), "{output}");
        }
    }
}
