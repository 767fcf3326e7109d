//! td-pivot: the root changes, the old one goes, and nothing of it is left to hold on to.

mod common;

use std::fs;
use std::process::Command;

use common::*;

#[test]
fn new_root_and_prog_must_be_there() {
    run(&mut td("td-pivot", [""; 0])).exits(125).says("NEW_ROOT is missing");
    run(&mut td("td-pivot", ["/"])).exits(125).says("PROG is missing");
    run(&mut td("td-pivot", ["--keep-fd", "x", "/", "true"]))
        .exits(125)
        .says("not a file descriptor");
}

#[test]
fn what_goes_along_is_given_by_absolute_paths() {
    for list in ["", "proc", "/proc,", "/proc,dev", "/proc,,/dev"] {
        run(&mut td("td-pivot", ["--move", list, "/", "true"]))
            .exits(125)
            .says("not an absolute path");
    }
}

mod root {
    use std::os::unix::fs::symlink;

    use super::common::strace::strace;
    use super::*;

    /// A directory on a tmpfs of the test's own, with an image in `img`, which is not a mount point, and the
    /// same image mounted on `mnt`.
    struct Place(TempDir);

    impl Place {
        #[track_caller]
        fn new() -> Place {
            Place(image_on_tmpfs("mnt"))
        }

        fn path(&self, name: &str) -> String {
            text(&self.0.join(name)).to_string()
        }

        /// `td-unshare -m LINE`, in which `{T}` is this directory.
        fn td(&self, line: &str) -> Command {
            let line = line.replace("{T}", text(self.0.path()));
            let mut cmd = td("td-unshare", ["-m"]);
            cmd.args(line.split(' '));
            cmd
        }

        /// A shell script as PID 1 of a pid namespace, in a mount namespace with its own /proc. In it,
        /// `$T` is this directory and td's programs are first in PATH.
        fn sh(&self, script: &str) -> Command {
            let script = format!("mount -t proc proc /proc && {script}");
            let mut cmd = td("td-unshare", ["-m", "-p", "sh", "-c", &script]);
            let path = std::env::var("PATH").unwrap_or_default();
            cmd.env("T", self.0.path()).env("PATH", format!("{}:{path}", text(&bin_dir())));
            cmd
        }
    }

    const REFUSED: &str = "this is the mount namespace of PID 1";

    /// By a process other than PID 1: PID 1 itself may do it, and a new namespace belongs to its caller.
    #[test]
    fn who_mounts_in_the_mount_namespace_of_pid_1_is_told_in_one_line() {
        let dir = Place::new();
        let mounts = [
            "td-mount --tmpfs /tmp / true",
            "td-mount --bind /etc /tmp / true",
            "td-overlay --lower /etc --tmpfs /tmp true",
        ];
        for mount in mounts {
            let output = run(&mut dir.sh(&format!("{mount}; exit"))).exits(0).says(REFUSED);
            assert_eq!(output.err().lines().count(), 1, "{output}");
            for quiet in ["exec ", "td-unshare --mount ", "exec td-unshare --mount "] {
                run(&mut dir.sh(&format!("{quiet}{mount}"))).ok();
            }
            let dry = mount.replacen(' ', " --dry-run ", 1);
            assert_eq!(run(&mut dir.sh(&format!("{dry}; exit"))).exits(0).err(), "");
        }
        run(&mut dir.sh("td-mount --dir /tmp / true; exit")).ok();
    }

    // ---- what PROG sees ----

    #[test]
    fn the_root_is_the_images_from_any_working_directory() {
        let place = Place::new();
        chmod(place.path("img"), 0o751);
        let mut names: Vec<String> = fs::read_dir(place.path("img"))
            .expect("the image")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .collect();
        names.sort();
        let expected = format!("{}\n751\n/\n", names.join("\n"));
        let script = "ls -A /; stat -c %a /; pwd";
        for (from, new_root) in
            [("/", place.path("img")), ("", "img".into()), ("", "mnt".into()), ("img", ".".into())]
        {
            for chain in [&["td-pivot"][..], &["-p", "td-pivot"]] {
                let mut cmd = td("td-unshare", ["-m"]);
                cmd.args(chain).args([&new_root, "sh", "-c", script]);
                let out = run(cmd.current_dir(place.0.join(from))).ok().out();
                assert_eq!(out, expected, "{new_root} from {from}");
            }
        }
    }

    #[test]
    fn no_mount_of_the_old_root_stays() {
        let place = Place::new();
        for new_root in ["img", "mnt"] {
            let mut cmd = td("td-unshare", ["-m", "-p", "td-pivot", &place.path(new_root)]);
            cmd.args(["td-exec", "td-init", "sh", "-c"]);
            cmd.arg("mount -t proc p /proc; cut -d' ' -f5 /proc/self/mountinfo; ls -A /..");
            let out = run(&mut cmd).ok().out();
            assert!(out.starts_with("/\n/proc\nbin\n"), "{new_root}: {out}");
        }
    }

    #[test]
    fn the_mounts_below_new_root_come_along() {
        let place = Place::new();
        for new_root in ["img", "mnt"] {
            let below = place.path(&format!("{new_root}/tmp"));
            mount(["-t", "tmpfs", "tmpfs", &below]);
            fs::write(format!("{below}/file"), "here").expect("a file");
            let out = run(&mut place.td(&format!("td-pivot {{T}}/{new_root} cat /tmp/file"))).ok();
            assert_eq!(out.out(), "here");
        }
    }

    #[test]
    fn the_callers_mounts_stay_as_they_are() {
        let place = Place::new();
        let before = own_mountinfo();
        run(&mut place.td("td-pivot {T}/img true")).ok();
        assert_eq!(own_mountinfo(), before);
    }

    #[test]
    fn letting_go_of_a_shared_old_root_unmounts_nothing_of_its_peers() {
        let place = Place::new();
        mount(["--make-rshared", "/"]);
        for name in ["private", "canary"] {
            mount(["-t", "tmpfs", name, text(&place.0.dir(name))]);
        }
        mount(["--make-private", &place.path("private")]);
        let new_root = place.0.dir("private/new");
        image(&new_root);
        mount(["--bind", text(&new_root), text(&new_root)]);
        mount(["--make-private", text(&new_root)]);
        let before = own_mountinfo();
        run(&mut place.td("--propagation unchanged td-pivot {T}/private/new true")).ok();
        assert_eq!(own_mountinfo(), before);
        mount(["--make-rprivate", "/"]);
    }

    #[test]
    fn prog_has_the_standard_descriptors_and_those_that_are_kept() {
        let place = Place::new();
        for (options, expected) in [("", "0\n1\n2\n"), ("--keep-fd 77 ", "0\n1\n2\n77\n")] {
            let line = format!("-p td-pivot {options}{{T}}/img td-exec {options}sh -c");
            let mut cmd = place.td(&line);
            cmd.arg("mount -t proc p /proc; ls /proc/1/fd; true");
            for fd in [77, 78] {
                give_fd(&mut cmd, fd, fs::File::open("/").expect("the host's root"));
            }
            assert_eq!(run(&mut cmd).ok().out(), expected);
        }
        run(&mut place.td("td-pivot --keep-fd 77 {T}/img true"))
            .exits(125)
            .says("descriptor 77 is not open");
    }

    #[test]
    fn a_directory_on_a_standard_stream_is_refused() {
        let place = Place::new();
        for fd in 0..3 {
            let script = format!("touch $T/stderr; exec td-pivot $T/img touch /ran {fd}</");
            let output = run(&mut place.sh(&script)).exits(125);
            if fd < 2 {
                output.says(&format!("descriptor {fd} is a directory, which leads out"));
            }
            assert!(!place.0.join("img/ran").exists());
        }
        run(&mut place.sh("exec td-pivot $T/img touch /ran 0<&-")).ok();
        assert!(place.0.join("img/ran").exists());
    }

    #[test]
    fn a_block_device_on_a_standard_stream_is_refused_and_a_pipe_from_it_is_not() {
        let place = Place::new();
        let device = block_device(&place.0);
        for fd in 0..3 {
            let redirected = format!("exec td-pivot $T/img touch /ran {fd}<\"$0\"");
            let output = run(place.sh(&redirected).arg(&device)).exits(125);
            if fd < 2 {
                output
                    .says(&format!("descriptor {fd} is a block device, which can be opened"))
                    .says("pass its content through a pipe: ");
            }
            assert!(!place.0.join("img/ran").exists());
        }
        // It opens the pipe itself: then it has its libraries, which are not in the new root.
        let piped = "mkfifo $T/p; exec 3<\"$0\"; dd of=$T/p <&3 2>/dev/null & \
            exec td-pivot $T/img touch /ran <$T/p";
        run(place.sh(piped).arg(&device)).ok();
        assert!(place.0.join("img/ran").exists());
    }

    // ---- nothing half done ----

    #[test]
    fn a_pivot_that_fails_never_executes_prog() {
        let place = Place::new();
        let faults = [
            "pivot_root:error=EPERM",
            "pivot_root:error=EBUSY",
            "umount2:error=EPERM",
            "mount_setattr:error=EPERM",
            "move_mount:error=EPERM",
            "open_tree:error=EPERM",
            "chdir:error=EACCES:when=1",
            "chdir:error=EACCES:when=2",
            "fchdir:error=EACCES",
            "open_tree:error=EMFILE:when=1",
            "mount_setattr:error=ENOMEM:when=1",
            "close_range:error=EINVAL",
            "execveat:error=EPERM",
        ];
        let of_a_copy = [
            "memfd_create:error=ENFILE",
            "sendfile:error=EIO",
            "sendfile:retval=0",
            "fcntl:error=EINVAL",
            "fcntl:error=EBUSY",
        ];
        let faults = faults.map(|fault| (fault, &[][..])).into_iter();
        for (fault, more) in faults.chain(of_a_copy.map(|fault| (fault, &["-e", NO_MOUNT][..]))) {
            let cmd = place.td("td-pivot {T}/img td-exec touch /ran");
            let inject = format!("inject={fault}");
            let (output, _) = strace(&[more, &["-e", &inject]].concat(), &cmd);
            let call = fault.split(':').next().expect("a name");
            let made = if fault.ends_with("retval=0") { "was truncated" } else { call };
            output.exits(125).says(made);
            assert!(!place.0.join("img/ran").exists(), "{fault}");
        }
    }

    #[test]
    fn a_bind_that_was_of_no_use_is_undone() {
        let place = Place::new();
        let script = "\
            cat /proc/self/mountinfo >$T/before; td-pivot $T/img touch /ran; echo $?; \
            cat /proc/self/mountinfo >$T/after";
        for fault in ["inject=pivot_root:error=EBUSY", "inject=fchdir:error=EACCES"] {
            let mut cmd = td("td-unshare", ["-m", "sh", "-c", script]);
            let path = format!("{}:/usr/bin:/bin", text(&bin_dir()));
            cmd.env("T", place.0.path()).env("PATH", path);
            let (output, _) = strace(&["-e", fault], &cmd);
            assert_eq!(output.out(), "125\n", "{output}");
            let read = |name| fs::read_to_string(place.0.join(name)).expect(name);
            assert_eq!(read("before"), read("after"), "{fault}");
            assert!(!place.0.join("img/ran").exists());
        }
    }

    #[test]
    fn a_prog_that_is_not_in_the_new_root_ends_with_127() {
        let place = Place::new();
        let path = place.0.join("img").join("img");
        run(&mut place.td(&format!("td-pivot {{T}}/img {}", text(&path))))
            .exits(127)
            .says("in this root");
        run(&mut place.td("td-pivot {T}/img mandoc-is-not-there")).exits(127).says("not found in");
    }

    // ---- no way to a file of the host ----

    /// As where a filter knows no open_tree(2), which td-pivot first calls for a mount of the tool.
    const NO_MOUNT: &str = "inject=open_tree:error=ENOSYS:when=1";

    /// It would run with all that we may.
    #[test]
    fn a_tool_behind_it_is_never_a_program_of_the_image() {
        let place = Place::new();
        for name in programs().iter().chain(&["td".to_string()]) {
            place.0.program(&format!("img/bin/{name}"), "#!/bin/busybox sh\necho of the image\n");
        }
        // Nor one that it has where a proc would be.
        fs::create_dir_all(place.0.join("img/proc/self")).expect("a directory");
        place.0.program("img/proc/self/exe", "#!/bin/busybox sh\necho of the image\n");
        for line in [
            "td-pivot {T}/img td-lock /lock td-exec echo ours",
            "td-pivot {T}/img td-lock /lock td-unshare -u td-exec --clear-env /bin/echo ours",
            "td-pivot {T}/img td-lock /lock td-unshare -r td-exec --clear-env /bin/echo ours",
        ] {
            let output = run(&mut place.td(line));
            assert!(!output.out().contains("of the image"), "{line}: {output}");
            if is_one_program() && !line.contains(" -r ") {
                assert_eq!(output.ok().out(), "ours\n", "{line}");
            } else {
                output.exits(125); // nothing lies beside it in this root
            }
        }
    }

    #[test]
    fn td_pivot_itself_is_sealed_before_it_executes_a_prog_of_the_new_root() {
        let place = Place::new();
        mount(["-t", "proc", "proc", &place.path("mnt/proc")]);
        place.0.program("mnt/evil", "#!/proc/self/exe --help\n");
        let err = run(&mut place.td("td-pivot --trace {T}/mnt /evil")).exits(0).err();
        let at = |call: &str| err.find(call).unwrap_or_else(|| panic!("no {call} in {err}"));
        assert!(at("OPEN_TREE_CLONE") < at("attr_set=MOUNT_ATTR_RDONLY"));
        assert!(at("attr_set=MOUNT_ATTR_RDONLY") < at("execveat("));
        assert!(at("execveat(") < at("pivot_root(\".\", \".\") = 0"));
        assert!(at("pivot_root(\".\", \".\") = 0") < at("execve(\"/evil\""));
    }

    #[test]
    fn a_kernel_without_mfd_exec_is_asked_again() {
        let place = Place::new();
        let cmd = place.td("td-pivot --trace {T}/img td-exec echo done");
        let faults = ["-e", NO_MOUNT, "-e", "inject=memfd_create:error=EINVAL:when=1"];
        let (output, _) = strace(&faults, &cmd);
        let output = output.exits(0);
        assert_eq!(output.out(), "done\n");
        let creates: Vec<String> =
            output.err().lines().filter(|l| l.contains("memfd_create")).map(String::from).collect();
        assert!(creates[0].ends_with("|MFD_EXEC) = -1 EINVAL (Invalid argument)"), "{creates:?}");
        assert!(creates[1].contains("MFD_CLOEXEC|MFD_ALLOW_SEALING) = "), "{creates:?}");
    }

    #[test]
    fn a_page_that_the_kernel_holds_for_a_moment_hinders_nobody() {
        let place = Place::new();
        let cmd = place.td("td-pivot {T}/img td-exec echo done");
        // The third in a row succeeds; strace counts those of each process.
        let faults = ["-e", NO_MOUNT, "-e", "inject=fcntl:error=EBUSY:when=1..2"];
        let (output, processes) = strace(&faults, &cmd);
        assert_eq!(output.exits(0).out(), "done\n");
        let calls = processes.iter().flat_map(|process| &process.calls);
        let seals: Vec<String> =
            calls.filter(|call| call.name == "fcntl").map(|call| call.to_string()).collect();
        assert_eq!(seals.len(), 3, "{seals:?}");
    }

    #[test]
    fn where_the_tool_can_be_neither_on_a_mount_nor_in_memory_nothing_is_executed() {
        let place = Place::new();
        let cmd = place.td("td-pivot {T}/img td-exec touch /ran");
        // The latter as with vm.memfd_noexec=2, since Linux 6.3.
        let both =
            ["-e", "inject=open_tree:error=ENOSYS", "-e", "inject=memfd_create:error=EACCES"];
        let (output, _) = strace(&both, &cmd);
        let output = output.exits(125).says("open_tree(AT_FDCWD, ").says("ENOSYS");
        output.says("and it cannot be copied: memfd_create(");
        assert!(!place.0.join("img/ran").exists());
    }

    // ---- the namespace of PID 1 ----

    #[test]
    fn the_mount_namespace_of_pid_1_is_refused() {
        let place = Place::new();
        let before = "ls / >$T/before; ";
        let after = "; echo $?; ls / | cmp - $T/before";
        let script = format!("{before}td-pivot $T/img touch /ran{after}");
        let output = run(&mut place.sh(&script)).says(REFUSED).says("use --host-namespace");
        assert_eq!(output.out(), "125\n");
        assert!(!place.0.join("img/ran").exists());
    }

    #[test]
    fn it_is_refused_also_where_only_its_mounts_can_be_seen() {
        let place = Place::new();
        let script = "td-exec --user 65534 td-pivot --trace $T/img true; echo $?";
        let output = run(&mut place.sh(script)).says(REFUSED);
        let output = output.says("\"../1/mountinfo\"");
        assert_eq!(output.out(), "125\n");
    }

    #[test]
    fn pid_1_of_a_pid_namespace_in_the_mount_namespace_of_another_pid_1_is_refused() {
        let place = Place::new();
        let output = run(&mut place.sh("td-unshare -p td-pivot $T/img true; echo $?"));
        assert_eq!(output.says(REFUSED).out(), "125\n");
    }

    #[test]
    fn pid_1_may_pivot_and_so_may_who_says_host_namespace() {
        let place = Place::new();
        run(&mut place.sh("exec td-pivot $T/img touch /ran1")).ok();
        run(&mut place.sh("td-pivot --host-namespace $T/img touch /ran2")).ok();
        assert!(place.0.join("img/ran1").exists() && place.0.join("img/ran2").exists());
    }

    /// The medium from which a machine was started can be taken out.
    #[test]
    fn where_a_machine_gets_a_new_root_nothing_that_runs_keeps_the_old_one_in_use() {
        let place = Place::new();
        let look = "sh -c 'mount -t proc proc /proc; readlink /proc/self/../$PPID/exe'";
        // PID 1 may also have left the first mount namespace: its root is the machine's.
        let unshared = "exec td-unshare --mount td-pivot";
        for pivot in ["exec td-pivot", "td-pivot --host-namespace", unshared] {
            let out =
                run(&mut place.sh(&format!("{pivot} $T/img td-exec td-init {look}"))).ok().out();
            assert!(out.starts_with("/memfd:td-exec"), "{pivot}: {out}");
        }
        let container = format!("td-unshare -m -p td-pivot $T/img td-exec td-init {look}");
        assert_eq!(run(&mut place.sh(&container)).ok().out(), "/\n");
    }

    #[test]
    fn without_proc_only_pid_1_may_pivot() {
        let place = Place::new();
        run(&mut place.sh("umount -l /proc; umount -l /proc; exec td-pivot $T/img true")).ok();
        // A new proc, which is nowhere, tells who is not PID 1; and not everyone may make one.
        for (user, said) in [("", REFUSED), ("td-exec --user 65534 ", "/proc does not show")] {
            let pivot = format!("{user}td-pivot $T/img true; echo $?");
            let output = run(&mut place.sh(&format!("umount -l /proc; umount -l /proc; {pivot}")));
            assert_eq!(output.says(said).out(), "125\n");
        }
    }

    // ---- --put-old ----

    #[test]
    fn put_old_keeps_the_old_root_there() {
        let place = Place::new();
        let seen = format!("/old{}", place.path("mark"));
        fs::write(place.path("mark"), "host").expect("mark");
        place.0.dir("img/old");
        for new_root in ["img", "mnt"] {
            for old in ["old", "/old", "//old/"] {
                let line = format!("td-pivot --put-old {old} {{T}}/{new_root} cat {seen}");
                assert_eq!(run(&mut place.td(&line)).ok().out(), "host");
            }
        }
    }

    #[test]
    fn put_old_leads_nowhere_else() {
        let place = Place::new();
        symlink("/tmp", place.0.join("img/link")).expect("a link");
        symlink("../../tmp", place.0.join("img/up")).expect("a link");
        fs::write(place.path("img/file"), "").expect("a file");
        for old in ["link", "up", "../tmp", "missing", "file", "tmp/../../tmp"] {
            run(&mut place.td(&format!("td-pivot -o {old} {{T}}/img true")))
                .exits(125)
                .says(&format!("{old} is not a directory inside the new root"));
        }
        for old in ["/", ".", "tmp/.."] {
            run(&mut place.td(&format!("td-pivot -o {old} {{T}}/img true")))
                .exits(125)
                .says("the old root would cover the new one");
        }
    }

    // ---- --move ----

    /// The same directory as it is called in the new root `img`, where it is made.
    fn twin(place: &Place, name: &str) -> String {
        let path = place.path(name);
        place.0.dir(&format!("img{path}"));
        path
    }

    #[test]
    fn mounts_go_along_to_the_same_paths() {
        let place = Place::new();
        for name in ["one", "two"] {
            mount(["-t", "tmpfs", "tmpfs", text(&place.0.dir(name))]);
            mount(["-t", "tmpfs", "tmpfs", text(&place.0.dir(&format!("{name}/below")))]);
            place.0.file(&format!("{name}/below/{name}"), "");
        }
        let (one, two) = (twin(&place, "one"), twin(&place, "two"));
        for new_root in ["img", "mnt"] {
            let line =
                format!("td-pivot --move {one},{two}/ {{T}}/{new_root} ls {one}/below {two}/below");
            let out = run(&mut place.td(&line)).ok().out();
            assert_eq!(out, format!("{one}/below:\none\n\n{two}/below:\ntwo\n"));
        }
        let line = format!("td-pivot --move {one} --move {two} {{T}}/mnt ls {two}/below");
        assert_eq!(run(&mut place.td(&line)).ok().out(), "two\n");
        let line = format!("td-pivot --put-old var --move {one} {{T}}/mnt ls {one} /var{one}");
        assert_eq!(run(&mut place.td(&line)).ok().out(), format!("{one}:\nbelow\n\n/var{one}:\n"));
    }

    #[test]
    fn what_went_along_is_moved_back_when_the_rest_fails() {
        let place = Place::new();
        for name in ["one", "two"] {
            mount(["-t", "tmpfs", "tmpfs", text(&place.0.dir(name))]);
            twin(&place, name);
        }
        let script = "\
            cut -d' ' -f1-5 /proc/self/mountinfo | sort >$T/before; \
            td-pivot --move $T/one,$T/two,$M $T/img touch /ran; echo $?; \
            cut -d' ' -f1-5 /proc/self/mountinfo | sort | cmp - $T/before";
        let faults = [
            ("pivot_root:error=EPERM", "two", "pivot_root"),
            ("open_tree:error=EPERM", "two", "open_tree"),
            ("move_mount:error=EPERM:when=2", "two", "move_mount"),
            // (A fault that never comes.)
            ("mount:error=EPERM:when=99", "missing", " does not exist"),
        ];
        for (fault, last, said) in faults {
            let script = script.replace(",$T/two,$M", &format!(",$T/{last}"));
            let mut cmd = td("td-unshare", ["-m", "sh", "-c", &script]);
            let path = format!("{}:/usr/bin:/bin", text(&bin_dir()));
            cmd.env("T", place.0.path()).env("PATH", path);
            let (output, _) = strace(&["-e", &format!("inject={fault}")], &cmd);
            assert_eq!(output.out(), "125\n", "{fault}: {output}");
            output.says(said);
            assert!(!place.0.join("img/ran").exists());
        }
    }

    #[test]
    fn what_cannot_be_moved_back_is_said() {
        let place = Place::new();
        mount(["-t", "tmpfs", "tmpfs", text(&place.0.dir("one"))]);
        let one = twin(&place, "one");
        let cmd = place.td(&format!("td-pivot --no-bind --move {one} {{T}}/img true"));
        let (output, _) = strace(&["-e", "inject=move_mount:error=EPERM:when=2"], &cmd);
        output.exits(125).says(&format!("{one} stays in NEW_ROOT")).says("is not a mount point");
    }

    #[test]
    fn what_cannot_go_along_is_named_with_its_cause() {
        let place = Place::new();
        mount(["-t", "tmpfs", "tmpfs", text(&place.0.dir("one"))]);
        place.0.file("file", "");
        let refused = |options: &str, list: &str, why: &str| {
            let line = format!("{options}td-pivot --move {list} {{T}}/img touch /ran");
            let output = run(&mut place.td(&line)).exits(125).says(why);
            assert!(!place.0.join("img/ran").exists());
            output
        };
        refused("", &place.path("missing"), " does not exist");
        refused("", &place.path("file"), "/file is not a directory");
        place.0.dir("plain");
        refused("", &twin(&place, "plain"), "/plain is not a mount point");
        refused("", &place.path("one"), "NEW_ROOT has no directory ");
        symlink("/tmp", place.0.join("img/link")).expect("a link");
        let above = twin(&place, "one");
        let link = place.0.join(format!("img{above}"));
        fs::remove_dir(&link).expect("the directory");
        symlink("/tmp", &link).expect("a link");
        refused("", &above, "that is reached without symbolic links");
        fs::remove_file(&link).expect("the link");
        fs::create_dir(&link).expect("the directory");
        refused("-r ", &above, "perhaps the mount of ").says("bind it instead");
        let dir = place.path("");
        let dir = dir.trim_end_matches('/');
        mount(["--make-shared", dir]);
        let shared = format!("the mount that holds {dir}/one is shared");
        refused("--propagation unchanged ", &above, &shared).says("td-unshare --mount");
        mount(["--make-private", dir]);
        let place_of_it = twin(&place, "");
        refused("", &place_of_it, " itself").says("the target lies below ");
    }

    #[test]
    fn a_dry_run_takes_the_mounts_for_there() {
        let place = Place::new();
        let line = "--dry-run td-pivot --move /missing {T}/img true";
        assert!(run(&mut place.td(line)).ok().out().contains("move_mount("));
    }

    // ---- why ----

    #[test]
    fn without_cap_sys_admin_it_says_so() {
        let place = Place::new();
        run(&mut place.td("td-exec --user 65534 td-pivot {T}/img true"))
            .exits(125)
            .says("pivot_root(\".\", \".\"): EPERM")
            .says("this process has no CAP_SYS_ADMIN");
    }

    #[test]
    fn in_a_mount_namespace_of_another_user_namespace_it_says_so() {
        let place = Place::new();
        run(&mut place.td("td-unshare -r td-pivot {T}/img true"))
            .exits(125)
            .says("pivot_root(\".\", \".\"): EPERM")
            .says("belongs to another user namespace");
    }

    #[test]
    fn a_new_root_that_cannot_be_entered_is_named() {
        let place = Place::new();
        fs::write(place.path("file"), "").expect("a file");
        symlink("loop", place.0.join("loop")).expect("a link");
        chmod(place.0.dir("closed"), 0o700);
        for (name, errno, why) in [
            ("missing", "ENOENT", " does not exist"),
            ("file", "ENOTDIR", "/file is not a directory"),
            ("file/x", "ENOTDIR", "is not a directory"),
            ("loop", "ELOOP", "/loop is a symbolic link that leads to itself"),
            ("closed", "EACCES", "uid 65534 may not search "),
            ("closed/x", "EACCES", "/closed, which belongs to uid 0, gid 0 (mode 0700)"),
        ] {
            run(&mut place.td(&format!("td-exec --user 65534 td-pivot {{T}}/{name} true")))
                .exits(125)
                .says(errno)
                .says(why);
        }
    }

    #[test]
    fn a_shared_mount_is_named() {
        let place = Place::new();
        let dir = place.path("");
        let dir = dir.trim_end_matches('/');
        let pivot = "--propagation unchanged td-pivot {T}/mnt true";
        mount(["--make-shared", dir]);
        run(&mut place.td(pivot)).exits(125).says("EINVAL").says(&format!(
            "the parent mount of {dir}/mnt, {dir}, is shared, so the new root would propagate"
        ));
        run(&mut place.td("--propagation unchanged td-pivot {T}/img true"))
            .exits(125)
            .says(&format!("the mount of {dir}/img, {dir}, is shared"));
        mount(["--make-private", dir]);
        mount(["--make-shared", &place.path("mnt")]);
        run(&mut place.td(pivot))
            .exits(125)
            .says("EINVAL")
            .says(&format!("the mount of {dir}/mnt, {dir}/mnt, is shared"));
        mount(["--make-private", &place.path("mnt")]);
        mount(["-t", "tmpfs", "tmpfs", &place.path("mnt/tmp")]);
        mount(["--make-shared", &place.path("mnt/tmp")]);
        place.0.dir("mnt/tmp/old");
        run(&mut place.td("--propagation unchanged td-pivot -o tmp/old {T}/mnt true"))
            .exits(125)
            .says(&format!("the mount of --put-old, {dir}/mnt/tmp, is shared"));
    }

    #[test]
    fn a_new_root_that_is_no_mount_point_is_bound_unless_that_is_forbidden() {
        let place = Place::new();
        run(&mut place.td("td-pivot --no-bind {T}/mnt true")).ok();
        run(&mut place.td("td-pivot --no-bind {T}/img true"))
            .exits(125)
            .says("EINVAL")
            .says("/img is not a mount point\n")
            .says("leave out --no-bind");
        run(&mut place.td("td-pivot --no-bind / true"))
            .exits(125)
            .says("EBUSY")
            .says("/ is not a mount point, but lies on the mount of the current root");
        run(&mut place.td("td-pivot / true")).ok();
    }

    #[test]
    fn a_locked_new_root_is_bound_unless_that_is_forbidden() {
        let place = Place::new();
        let dir = place.path("");
        let why = format!(
            "the mount of {dir}mnt is locked: it was inherited from another user namespace (mount_namespaces(7))"
        );
        let no_bind = "-r td-pivot --no-bind {T}/mnt true";
        let output = run(&mut place.td(no_bind)).exits(125).says("EINVAL");
        output.says(&format!("td-pivot: {why}")).says("leave out --no-bind");
        // Where another mount beside it may be the one that is locked, nobody can tell.
        mount(["-t", "tmpfs", "tmpfs", text(&place.0.dir("beside"))]);
        run(&mut place.td(no_bind)).exits(125).says(&format!("td-pivot: perhaps {why}"));
        run(Command::new("umount").arg(place.path("beside"))).ok();
        // One of its own is not locked.
        let pivot = bin("td-pivot");
        let pivot = text(&pivot);
        let script = format!("mount --bind {dir}img {dir}mnt && {pivot} --no-bind {dir}mnt true");
        run(place.td("-r sh -c").arg(script)).ok();
        run(&mut place.td("-r td-pivot {T}/mnt true")).ok();
        run(&mut place.td("-r td-pivot {T}/img true")).ok();
    }

    #[test]
    fn in_a_chroot_it_says_so() {
        let place = Place::new();
        fs::copy(bin("td-pivot"), place.path("img/bin/td-pivot")).expect("a copy");
        mount(["-t", "proc", "proc", &place.path("img/proc")]);
        mount(["-t", "tmpfs", "tmpfs", &place.path("img/tmp")]);
        run(&mut place.td("chroot {T}/img /bin/td-pivot /tmp true"))
            .exits(125)
            .says("EINVAL")
            .says("the current root is not a mount point: this process is in a chroot(2)")
            .says("run td-pivot before the chroot");
        run(&mut place.td("td-pivot {T}/img true")).ok();
    }

    #[test]
    fn a_shared_mount_above_the_root_is_not_seen_and_perhaps_the_cause() {
        let place = Place::new();
        fs::copy(bin("td-pivot"), place.path("mnt/bin/td-pivot")).expect("a copy");
        for (fs, at) in [("proc", "mnt/proc"), ("tmpfs", "mnt/tmp")] {
            mount(["-t", fs, fs, &place.path(at)]);
        }
        image(&place.0.dir("mnt/tmp/new"));
        mount(["--bind", &place.path("mnt/tmp/new"), &place.path("mnt/tmp/new")]);
        let pivot = "--propagation unchanged chroot {T}/mnt /bin/td-pivot --no-bind /tmp/new true";
        run(&mut place.td(pivot)).ok();
        mount(["--make-shared", place.path("").trim_end_matches('/')]);
        let output = run(&mut place.td(pivot)).exits(125).says("EINVAL");
        output.says("td-pivot: perhaps the mount that holds the current root is shared\n");
    }

    #[test]
    fn a_new_root_in_another_mount_namespace_is_not_taken_for_a_locked_one() {
        let place = Place::new();
        let other =
            start(Command::new("unshare").args(["-m", "sh", "-c", "echo there; exec sleep 100"]));
        other.prints("there");
        let theirs = format!("/proc/{}/root{}/mnt", other.pid(), text(place.0.path()));
        let output = run(&mut place.td(&format!("td-pivot --no-bind {theirs} true"))).exits(125);
        let output =
            output.says("EINVAL").says(&format!("{theirs} is not below the current root\n"));
        assert!(!output.err().contains("locked"), "{output}");
        other.kill(libc::SIGKILL);
    }
}
