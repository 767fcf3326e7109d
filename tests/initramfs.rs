//! td-pivot where the root is the initramfs. Every machine has one: the kernel's first mount, on which all
//! others are. A test gets there in a mount namespace of its own, by taking away what covers it.

mod common;

mod root {
    use std::ffi::{CStr, CString};
    use std::fs::{self, File};
    use std::io;
    use std::os::fd::AsRawFd;
    use std::process::Command;

    use crate::common::*;

    /// A directory on a tmpfs: td's programs in `td`, an image in `img`, the same image mounted on `new`.
    struct Place(TempDir);

    impl Place {
        #[track_caller]
        fn new() -> Place {
            let dir = image_on_tmpfs("new");
            mount(["--rbind", text(&bin_dir()), text(&dir.dir("td"))]);
            Place(dir)
        }

        /// A shell script in the initramfs. There `$T` is that directory; nothing else is mounted.
        fn sh(&self, script: &str) -> Command {
            self.sh_in(None, script)
        }

        /// The same in a copy of another mount namespace.
        fn sh_in(&self, namespace: Option<File>, script: &str) -> Command {
            let script = format!("T=$PWD PATH=$PWD/td:$PWD/img/bin:/bin; {script}");
            let mut cmd = Command::new("img/bin/busybox");
            cmd.args(["sh", "-c", &script]).env_clear();
            let dir = CString::new(self.0.path().to_str().expect("a path")).expect("a path");
            before_exec(&mut cmd, move || enter_initramfs(&dir, namespace.as_ref()));
            cmd
        }
    }

    /// Be in the initramfs, and in a copy of the mount `dir` on a directory of it.
    fn enter_initramfs(dir: &CStr, other: Option<&File>) -> io::Result<()> {
        // SAFETY: numbers, and strings that end with a zero byte.
        unsafe {
            let clone = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_RECURSIVE as u32;
            let tree =
                libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, dir.as_ptr(), clone) as i32;
            check(tree)?;
            let proc = check(libc::open(c"/proc".as_ptr(), libc::O_PATH | libc::O_CLOEXEC))?;
            if let Some(other) = other {
                check(libc::setns(other.as_raw_fd(), libc::CLONE_NEWNS))?;
            }
            check(libc::unshare(libc::CLONE_NEWNS))?;
            let own = c"self/ns/mnt".as_ptr();
            let namespace = check(libc::openat(proc, own, libc::O_CLOEXEC))?;
            // (EINVAL: the tests themselves run in the initramfs. They belong into a root on top of it.)
            check(libc::umount2(c"/".as_ptr(), libc::MNT_DETACH))?;
            check(libc::setns(namespace, libc::CLONE_NEWNS))?;
            // One of these has been left there, or is there by default; or else one is made.
            let places = [c"/root", c"/dev", c"/sysroot", c"/mnt", c"/proc", c"/td-test"];
            let attach = |place: &&CStr| {
                let (from, to) = (c"".as_ptr(), place.as_ptr());
                let flag = libc::MOVE_MOUNT_F_EMPTY_PATH;
                libc::syscall(libc::SYS_move_mount, tree, from, libc::AT_FDCWD, to, flag) == 0
            };
            if !places.iter().any(attach) {
                libc::mkdir(c"/td-test".as_ptr(), 0o700); // another test may be quicker
                check(if attach(&c"/td-test") { 0 } else { -1 })?;
            }
            check(libc::fchdir(tree)).map(drop)
        }
    }

    const SAID: &str = "td-pivot: the root is the initramfs, which cannot be pivoted: ";

    // ---- what PROG sees ----

    #[test]
    fn the_new_root_is_moved_onto_it_and_that_is_said() {
        let place = Place::new();
        let inside = "cd /..; ls; mount -t proc p /proc; cut -d\" \" -f5 /proc/self/mountinfo";
        for new in ["new", "img"] {
            let script = format!("echo $T >&2; exec td-pivot $T/{new} sh -c '{inside}'");
            let output = run(&mut place.sh(&script)).exits(0);
            let expected = "bin\ndev\netc\nproc\nroot\nrun\nsys\ntmp\nvar\n/\n/proc\n";
            assert_eq!(output.out(), expected, "{output}");
            let t = output.err().lines().next().expect("$T").to_string();
            assert_eq!(output.err(), format!("{t}\n{SAID}{t}/{new} was moved onto it\n"));
        }
    }

    #[test]
    fn what_is_mounted_below_the_new_root_comes_along_and_nothing_else_stays() {
        let place = Place::new();
        let running = start(&mut place.sh(
            "mkdir $T/other; mount -t tmpfs canary $T/other; mount -t tmpfs below $T/new/tmp; \
            exec td-pivot $T/new sleep 1000",
        ));
        let pid = running.pid();
        wait_for("sleep", || {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
            line.starts_with("sleep").then_some(())
        });
        let below = |line: &str| line.split(' ').nth(4) == Some("/tmp");
        assert!(mountinfo_of(pid).lines().any(below));
        // The same seen from the initramfs below it, where a test needs its own tools.
        let namespace = fs::File::open(format!("/proc/{pid}/ns/mnt")).expect("a namespace");
        let script =
            "mount -t proc p $T/img/proc; cut -d' ' -f5 $T/img/proc/self/mountinfo | sort; pwd";
        let output = run(&mut place.sh_in(Some(namespace), script)).exits(0).out();
        let t = output.lines().last().expect("pwd");
        assert_eq!(output, format!("/\n{t}\n{t}/img/proc\n{t}/new\n{t}/td\n{t}\n"));
    }

    #[test]
    fn letting_go_of_shared_mounts_unmounts_nothing_of_their_peers() {
        let place = Place::new();
        let script = "\
            mkdir $T/a; mount -t tmpfs t $T/a; mount --make-shared $T/a; mkdir $T/a/b; \
            mount -t tmpfs t $T/a/b; touch $T/a/b/canary; \
            td-unshare -m --propagation unchanged td-pivot $T/new true; ls $T/a/b";
        assert_eq!(run(&mut place.sh(script)).exits(0).out(), "canary\n");
    }

    #[test]
    fn a_second_container_inside_pivots_as_anywhere() {
        let place = Place::new();
        let script = "\
            mount --bind $T/td $T/new/var; mkdir -p $T/new/tmp/r/bin; \
            cp $T/img/bin/busybox $T/new/tmp/r/bin/ls; \
            exec td-pivot $T/new sh -c \
            'mount -t proc p /proc; /var/td-unshare -m td-pivot /tmp/r ls / /.. && ls /proc/self/exe'";
        let output = run(&mut place.sh(script)).exits(0);
        assert_eq!(output.out(), "/:\nbin\n\n/..:\nbin\n/proc/self/exe\n");
        assert_eq!(output.err().matches(SAID).count(), 1, "{output}");
    }

    #[test]
    fn mounts_of_the_old_root_go_along() {
        let place = Place::new();
        let script = "\
            mkdir $T/a $T/b; mkdir -p $T/new$T/a $T/new$T/b; mount -t tmpfs t $T/a; \
            mount -t tmpfs t $T/b; touch $T/a/1 $T/b/2; \
            exec td-pivot --move $T/a --move $T/b $T/new ls $T/a $T/b";
        let output = run(&mut place.sh(script)).exits(0);
        assert!(output.out().contains("/a:\n1\n") && output.out().contains("/b:\n2\n"), "{output}");
    }

    // ---- no way back ----

    #[test]
    fn a_chroot_inside_is_no_way_back() {
        let place = Place::new();
        // Root is /x, the working directory is outside of it: up from there as far as it goes.
        let escape = "mkdir -p /x/bin; cp /bin/busybox /x/bin; \
            nsenter -r/x -w/ /bin/busybox ls ../../../../..; \
            nsenter -r/x -w/ /bin/busybox chroot ../../../../.. /bin/ls /";
        let all = "bin\ndev\netc\nproc\nroot\nrun\nsys\ntmp\nvar\nx\n";
        let script = format!("exec td-pivot $T/new sh -c '{escape}'");
        assert_eq!(run(&mut place.sh(&script)).exits(0).out(), [all, all].concat());
    }

    #[test]
    fn neither_is_a_user_namespace_inside() {
        let place = Place::new();
        let script = "exec td-pivot $T/new sh -c \
            'mount -t proc p /proc; unshare -r -m sh -c \"id -u; umount -l /; ls /\"'";
        let output = run(&mut place.sh(script)).says("umount: can't unmount /: Invalid argument");
        assert_eq!(output.out(), "0\nbin\ndev\netc\nproc\nroot\nrun\nsys\ntmp\nvar\n");
    }

    // ---- why ----

    #[test]
    fn without_proc_a_failure_has_its_cause() {
        let place = Place::new();
        run(&mut place.sh("exec td-pivot --put-old tmp $T/new true"))
            .exits(125)
            .says("pivot_root(\".\", \"tmp\"): EINVAL")
            .says("the current root is the initramfs, which has no parent mount")
            .says("leave out --put-old");
        run(&mut place.sh("mount --make-shared $T; exec td-pivot $T/new true"))
            .exits(125)
            .says("is shared, so the new root would propagate");
        run(&mut place.sh("exec td-pivot --no-bind $T/img true"))
            .exits(125)
            .says("/img is not a mount point\n")
            .says("leave out --no-bind");
    }

    #[test]
    fn in_a_user_namespace_a_locked_new_root_is_copied_unless_that_is_forbidden() {
        let place = Place::new();
        // A new proc is given only to who sees one.
        let proc = "mount -t proc p $T/img/proc; exec td-unshare -U -m -p";
        for new in ["new", "img"] {
            let script = format!("{proc} td-pivot $T/{new} ls -d /tmp /..");
            let output = run(&mut place.sh(&script)).exits(0).says(SAID);
            assert_eq!(output.out(), "/..\n/tmp\n");
        }
        run(&mut place.sh(&format!("{proc} td-pivot --no-bind $T/new true")))
            .exits(125)
            .says("move_mount(")
            .says("perhaps the mount of NEW_ROOT is locked: it was inherited from another user namespace (")
            .says("leave out --no-bind");
        run(&mut place.sh("exec td-unshare -U -m td-pivot $T/new true"))
            .exits(125)
            .says("/proc does not show whether");
    }

    #[test]
    fn without_cap_sys_chroot_it_says_so_and_what_was_moved_is_moved_back() {
        let place = Place::new();
        let script = "\
            mkdir $T/a; mkdir -p $T/new$T/a; mount -t tmpfs t $T/a; mount -t proc p $T/img/proc; \
            cat $T/img/proc/self/mountinfo >$T/before; \
            td-exec --cap-keep sys_admin td-pivot --move $T/a $T/new touch /ran; echo $?; \
            cut -d' ' -f1-5 $T/before | sort >$T/1; \
            cut -d' ' -f1-5 $T/img/proc/self/mountinfo | sort | cmp - $T/1; ls $T/new/ran";
        let output = run(&mut place.sh(script));
        let output = output.says("this process has no CAP_SYS_CHROOT");
        assert_eq!(output.out(), "125\n", "{output}");
        assert!(!output.err().contains("differ"), "{output}");
    }

    // ---- --free-initramfs ----

    #[test]
    fn only_the_machines_pid_1_frees_the_initramfs() {
        let place = Place::new();
        for chain in ["", "td-unshare -m -p "] {
            let script = format!("exec {chain}td-pivot --free-initramfs $T/new touch /ran");
            run(&mut place.sh(&script))
                .exits(125)
                .says(
                    "only PID 1 of the machine may free the initramfs, which other processes need",
                )
                .says("leave out --free-initramfs");
        }
        assert!(!place.0.join("img/ran").exists());
    }

    #[test]
    fn what_lies_on_the_initramfs_is_not_emptied() {
        let place = Place::new();
        let said = " is a directory of the initramfs, and would be emptied";
        run(&mut place.sh("exec td-pivot --free-initramfs / true"))
            .exits(125)
            .says(&format!("NEW_ROOT{said}"));
        let script = "\
            mount --bind / $T/new/tmp; exec td-pivot --free-initramfs $T/new true";
        run(&mut place.sh(script)).exits(125).says(&format!("/new/tmp{said}"));
    }

    #[test]
    fn a_root_that_is_no_initramfs_is_not_freed() {
        let place = Place::new();
        let mut cmd = td("td-unshare", ["-m", "td-pivot", "--free-initramfs"]);
        cmd.arg(place.0.join("new")).args(["touch", "/ran"]);
        run(&mut cmd).exits(125).says("the root is not the initramfs, so there is nothing to free");
        assert!(!place.0.join("img/ran").exists());
    }
}
