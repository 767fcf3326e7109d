//! td-overlay.

mod common;

use common::*;

#[test]
fn wrong_use_is_refused_in_a_sentence() {
    for (line, sentence) in [
        ("T true", "--lower is missing"),
        ("--lower l --upper u T true", "--upper needs --work"),
        ("--lower l --work w T true", "--work needs --upper"),
        ("--lower l --tmpfs --upper u --work w T true", "--tmpfs cannot be combined with --upper"),
        ("--lower l --volatile T true", "--volatile needs --upper or --tmpfs"),
        ("--lower l --tmpfs=1x T true", "--tmpfs=1x: not a size"),
        ("--lower l --tmpfs=-1% T true", "--tmpfs=-1%: not a size"),
        ("--lower l --tmpfs=18446744073709551615 T true", "15: not a size"),
        ("--lower l --tmpfs=16777216t T true", "--tmpfs=16777216t: not a size"),
        ("--lower l --tmpfs=4294967295% T true", "--tmpfs=4294967295%: not a size"),
        ("--lower l", "TARGET is missing"),
        ("--lower l T", "PROG is missing"),
    ] {
        run(&mut td("td-overlay", line.split(' '))).exits(125).says(sentence);
    }
}

mod root {
    use std::ffi::{CString, OsStr, OsString};
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    use std::path::Path;
    use std::process::Command;

    use super::common::strace::*;
    use super::common::*;

    /// Not knowing whether userxattr is needed is no reason to leave it out.
    #[test]
    fn a_user_namespace_that_cannot_be_looked_at_is_a_failure() {
        let dir = TempDir::new();
        let words =
            ["--dry-run", "--lower", "/etc", dir.path().to_str().expect("a plain path"), "true"];
        let only = ["-P", "/proc/self/ns/user", "--inject=statx:error=EIO"];
        let (output, _) = strace(&only, &td("td-overlay", words));
        output.exits(125).says("/proc/self/ns/user").says("EIO");
    }

    /// A directory on a file system of its own, with two lower layers.
    fn place() -> TempDir {
        private_mounts();
        let dir = TempDir::new();
        // Before Linux 6.6 a tmpfs has no attributes of users.
        match linux_is(6, 6) {
            true => {
                mount([OsStr::new("-t"), "tmpfs".as_ref(), "tmpfs".as_ref(), dir.path().as_ref()])
            }
            false => mount(["--bind".as_ref(), dir.path(), dir.path()]),
        }
        for name in ["l1", "l2", "u", "w", "T"] {
            dir.dir(name);
        }
        dir.file("l1/a", "first");
        dir.file("l2/a", "second");
        dir.file("l2/b", "below");
        dir
    }

    /// td-overlay with the words of a line, then `sh -c SCRIPT`, in the directory `dir`.
    fn overlay(dir: &TempDir, line: &str, script: &str) -> Command {
        let mut cmd = td("td-overlay", line.split(' '));
        cmd.args(["/bin/sh", "-c", script]).current_dir(dir.path());
        cmd
    }

    /// What makes strace stand for Linux 6.1, whose fsconfig(2) refuses the first directory. The calls
    /// before that one are for a tmpfs.
    fn old(cmd: &Command) -> String {
        let words: Vec<String> =
            cmd.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
        let count = |word: &str| words.iter().filter(|w| *w == word).count();
        let before = match count("--tmpfs") == 1 || count("--lower") == 1 && count("--upper") == 0 {
            true => 3,
            false => 0,
        };
        format!("inject=fsconfig:error=EOPNOTSUPP:when={}", before + 1)
    }

    /// Run a command as on Linux 6.1.
    #[track_caller]
    fn run_old(cmd: &Command) -> Output {
        let (output, processes) = strace(&["-e", &old(cmd)], cmd);
        let is_refused =
            |call: &Call| call.args[2] == "\"lowerdir+\"" && call.result == "-1 EOPNOTSUPP";
        let mut calls = processes.iter().flat_map(|process| &process.calls);
        assert!(calls.any(|call| call.name == "fsconfig" && is_refused(call)), "{output}");
        output
    }

    /// Run a line both ways: it must fail, say the sentence, execute nothing, and leave the directory and
    /// the mounts as they were.
    #[track_caller]
    fn refuses(dir: &TempDir, line: &str, sentence: &str) {
        let before = state(dir);
        let cmd = overlay(dir, line, "touch executed");
        for output in [strace(&[], &cmd).0, strace(&["-e", &old(&cmd)], &cmd).0] {
            output.exits(125).says(sentence);
            assert_eq!(before, state(dir), "{line}");
        }
    }

    /// All of a tree but times of access: names, types, modes, owners, sizes, times, links and contents.
    #[track_caller]
    fn tree(path: &Path) -> String {
        let script = r#"find . -printf '%P %y %m %U %G %s %T@ %l\n' | sort
            find . -type f -exec md5sum {} + | sort"#;
        run(sh(script).current_dir(path)).ok().out()
    }

    /// What a step that fails leaves as it was: the files, but for what the kernel itself keeps in a work
    /// directory that was there, and the mounts.
    #[track_caller]
    fn state(dir: &TempDir) -> String {
        let script = "find . -path './w*/work' -prune -o -printf '%p %y %m %U %G %s\\n' | grep -v '^./w2* d' | sort";
        run(sh(script).current_dir(dir.path())).ok().out() + &own_mountinfo()
    }

    fn text(path: impl AsRef<Path>) -> String {
        fs::read_to_string(path).expect("a file")
    }

    #[test]
    fn the_first_lower_wins_and_writes_go_to_the_upper_alone() {
        for old in [false, true] {
            let dir = place();
            let (l1, l2) = (tree(&dir.join("l1")), tree(&dir.join("l2")));
            let script = "cat T/a T/b; echo new >T/c; echo over >T/a; rm T/b; cat T/b 2>&1";
            let line = "--lower l1 --lower l2 --upper u --work w T";
            let cmd = &mut overlay(&dir, line, script);
            let output = if old { run_old(cmd) } else { run(cmd) };
            assert!(output.out().starts_with("firstbelow"), "{output}");
            assert!(output.out().contains("T/b: No such file"), "{output}");
            assert_eq!((l1, l2), (tree(&dir.join("l1")), tree(&dir.join("l2"))));
            assert_eq!(
                (text(dir.join("u/a")), text(dir.join("u/c"))),
                ("over\n".into(), "new\n".into())
            );
        }
    }

    #[test]
    fn a_kernel_that_knows_layers_by_text_alone_gets_them_by_number_too() {
        let dir = place(); // Linux 6.5 to 6.12
        let cmd = overlay(&dir, "--lower l1 --lower l2 T", "cat T/a");
        let output = strace(&["-e", "inject=fsconfig:error=EINVAL:when=1"], &cmd).0.ok();
        assert_eq!(output.out(), "first");
    }

    #[test]
    fn without_an_upper_it_is_read_only_with_one_layer_and_with_two() {
        for line in ["--lower l1 T", "--lower l1 --lower l2 T"] {
            for old in [false, true] {
                let dir = place();
                let before = tree(&dir.join("l1"));
                let cmd = &mut overlay(&dir, line, "cat T/a; touch T/x");
                let output = if old { run_old(cmd) } else { run(cmd) };
                let output = output.exits(1).says("Read-only file system");
                assert_eq!(output.out(), "first", "{line}");
                assert_eq!(before, tree(&dir.join("l1")));
            }
        }
    }

    #[test]
    fn on_a_tmpfs_nothing_written_is_left_and_the_work_directory_is_not_reachable() {
        let dir = place();
        let (before, mounts) = (tree(dir.path()), own_mountinfo());
        let script = "touch T/x T/a; ls -A T; stat -f -c %b T; find T -name work";
        let line = "--lower l1 --tmpfs=1m T";
        let mut cmd = td("td-unshare", ["-m", "td-overlay"]);
        cmd.args(line.split(' ')).args(["/bin/sh", "-c", script]).current_dir(dir.path());
        assert_eq!(run(&mut cmd).ok().out(), "a\nx\n256\n");
        assert_eq!((before, mounts), (tree(dir.path()), own_mountinfo()));
        let size = "--lower l1 --tmpfs=50% T";
        run(&mut overlay(&dir, size, "touch T/x")).ok();
    }

    #[test]
    fn every_byte_may_stand_in_a_path() {
        let all: Vec<u8> = (1..=255).filter(|b| *b != b'/').collect();
        for old in [false, true] {
            let dir = place();
            // A name has at most 255 bytes.
            let odd = dir.join(OsStr::from_bytes(&all[..200])).join(OsStr::from_bytes(&all[200..]));
            let path = |name: &str| odd.join(format!(" {name}:,\\\n\"=")).into_os_string();
            for name in ["lower1", "lower2", "upper", "work", "target"] {
                fs::create_dir_all(path(name)).expect("a directory");
            }
            fs::write(Path::new(&path("lower1")).join("a"), "first").expect("a file");
            let mut args: Vec<OsString> = Vec::new();
            for (option, name) in [
                ("--lower", "lower1"),
                ("--lower", "lower2"),
                ("--upper", "upper"),
                ("--work", "work"),
            ] {
                args.extend([option.into(), path(name)]);
            }
            args.push(path("target"));
            let mut cmd = td("td-unshare", ["-m", "td-overlay"]);
            cmd.args(args)
                .args(["/bin/sh", "-c", "cat \"$0\"/a; touch \"$0\"/x"])
                .arg(path("target"));
            let output = if old { run_old(&cmd) } else { run(&mut cmd) };
            assert_eq!(output.ok().out(), "first");
            assert!(Path::new(&path("upper")).join("x").exists());
        }
    }

    #[test]
    fn five_hundred_layers_work_and_the_five_hundred_and_first_is_named() {
        let dir = place();
        let mut args: Vec<String> = Vec::new();
        for i in 0..500 {
            dir.file(&format!("{}/f{i}", dir.dir(&format!("layer{i}")).display()), "");
            args.extend(["--lower".into(), format!("layer{i}")]);
        }
        let command = |more: &[&str], script: &str| {
            let mut cmd = td("td-overlay", more);
            cmd.args(&args).args(["T", "/bin/sh", "-c", script]).current_dir(dir.path());
            cmd
        };
        let mut cmd = command(&["--upper", "u", "--work", "w"], "ls T | wc -l");
        assert_eq!(run(&mut cmd).ok().out(), "500\n");
        assert_eq!(run_old(&cmd).ok().out(), "500\n");
        let mut cmd = command(&["--lower", "l1"], "echo executed");
        let sentence = "there are 501 lower layers, and an overlay has at most 500";
        for output in [run(&mut cmd), run_old(&cmd)] {
            assert_eq!(output.exits(125).says(sentence).out(), "");
        }
    }

    #[test]
    fn mkdir_makes_what_is_missing_for_us_alone_but_the_root_as_the_image_has_it() {
        let dir = place();
        chown(dir.join("l1"), Some(7), Some(8)).expect("chown");
        chmod(dir.join("l1"), 0o2751);
        let line = "--lower l1 --mkdir --upper s/t/u/ --work s/t/w x/y/T";
        let mut cmd = overlay(&dir, line, "stat -c '%a %u %g' x/y/T");
        before_exec(&mut cmd, || {
            // SAFETY: a number.
            unsafe { libc::umask(0o777) };
            Ok(())
        });
        assert_eq!(run(&mut cmd).ok().out(), "2751 7 8\n");
        let mode =
            |name: &str| fs::metadata(dir.join(name)).expect(name).permissions().mode() & 0o7777;
        for name in ["s", "s/t", "s/t/w", "x", "x/y"] {
            assert_eq!(mode(name), 0o700, "{name}");
        }
        let upper = fs::metadata(dir.join("s/t/u")).expect("the upper");
        assert_eq!((upper.mode() & 0o7777, upper.uid(), upper.gid()), (0o2751, 7, 8));
        let mut cmd = overlay(&dir, "--lower l1 --tmpfs T", "stat -c '%a %u %g' T");
        assert_eq!(run(&mut cmd).ok().out(), "2751 7 8\n");
        chmod(dir.join("u"), 0o705);
        run(&mut overlay(&dir, "--lower l1 --mkdir --upper u --work w T", "true")).ok();
        assert_eq!(mode("u"), 0o705, "an upper that was there stays as it is");
    }

    #[test]
    fn the_mount_is_nodev_and_has_what_was_asked_for() {
        for old in [false, true] {
            let dir = place();
            let line =
                "--lower l1 --upper u --work w --volatile --option index=on --option xino=off T";
            let script =
                "find w -name volatile; grep ' overlay overlay ' /proc/self/mountinfo; pwd";
            let cmd = &mut overlay(&dir, line, script);
            let output = if old { run_old(cmd) } else { run(cmd) }.ok().out();
            assert!(output.starts_with("w/work/incompat/volatile\n"), "{output}");
            assert!(output.ends_with(&format!("{}\n", dir.path().display())), "{output}");
            let line = output.lines().nth(1).expect("a mount");
            assert!(line.contains("/T rw,nodev,"), "{output}");
            assert!(line.contains("index=on"), "{output}");
            // Nothing of the fallback is left.
            assert_eq!(own_mountinfo().lines().filter(|line| line.contains("/T ")).count(), 1);
        }
    }

    #[test]
    fn the_mounts_of_the_host_stay_as_they_are() {
        let before = host_mountinfo();
        let dir = place();
        run(&mut overlay(&dir, "--lower l1 --tmpfs T", "touch T/x")).ok();
        assert_eq!(before, host_mountinfo());
    }

    #[test]
    fn what_it_made_goes_again_when_prog_cannot_be_executed() {
        for line in [
            "--lower l1 --mkdir --upper s/u --work s/w --volatile x/T /nowhere",
            "--lower l1 --upper u --work w --volatile T /nowhere",
            "--lower l1 --mkdir --tmpfs x/T /nowhere",
            "--lower l1 T /nowhere",
        ] {
            let dir = place();
            let before = state(&dir);
            let mut cmd = td("td-overlay", line.split(' '));
            cmd.current_dir(dir.path());
            for output in [run(&mut cmd), run_old(&cmd)] {
                let output = output.exits(127).says("/nowhere does not exist");
                assert_eq!(output.err().lines().count(), 2, "{output}");
                assert_eq!(before, state(&dir), "{line}");
            }
        }
    }

    #[test]
    fn what_it_made_goes_again_whichever_call_fails() {
        let line = "--lower l1 --mkdir --upper s/u --work s/w --volatile x/T";
        let tmpfs = "--lower l1 --mkdir --tmpfs x/T";
        let fails = |line: &str, call: &str, when: u32, before_6_13: bool| {
            let dir = place();
            let before = state(&dir);
            let cmd = overlay(&dir, line, "touch executed");
            let mut options = vec!["-e".into(), format!("inject={call}:error=EIO:when={when}")];
            if before_6_13 {
                options.extend(["-e".into(), old(&cmd)]);
            }
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            strace(&options, &cmd).0.exits(125).says("EIO");
            assert_eq!(before, state(&dir), "{line}: {options:?}");
        };
        for (line, call, when) in [
            (line, "fsopen", 1),
            (line, "fstatfs", 1),
            (line, "move_mount", 1),
            (line, "mkdirat", 5),
            (line, "fchmod", 3),
            (tmpfs, "fsopen", 2),
            (tmpfs, "mkdirat", 4),
            (tmpfs, "move_mount", 2),
        ] {
            fails(line, call, when, false);
        }
        let new = [("fsconfig", 2), ("fsconfig", 5), ("fsmount", 1)];
        for (call, when) in new.into_iter().filter(|_| linux_is(6, 13)) {
            fails(line, call, when, false);
        }
        for (call, when) in [("mount", 1), ("open_tree", 1), ("chdir", 1), ("move_mount", 2)] {
            fails(line, call, when, true);
        }
    }

    #[test]
    fn names_a_layer_that_is_missing_or_no_directory() {
        let dir = place();
        refuses(&dir, "--lower no T", "--lower no does not exist");
        refuses(&dir, "--lower l1/a T", "--lower l1/a is not a directory");
        refuses(&dir, "--lower l1 --upper no --work w T", "create it: --mkdir");
        refuses(&dir, "--lower l1 --upper u --work no T", "--work no does not exist");
        refuses(&dir, "--lower l1 no", "TARGET no does not exist");
        refuses(&dir, "--lower l1 l1/a", "TARGET l1/a is not a directory");
    }

    #[test]
    fn names_a_file_system_where_no_upper_can_be() {
        let dir = place();
        dir.dir("o/u");
        dir.dir("o/w");
        let below = dir.dir("below");
        mount(["-t", "overlay", "overlay", "-o"].map(OsString::from).into_iter().chain([
            format!("lowerdir={0}/o,upperdir={0}/u,workdir={0}/w", dir.path().display()).into(),
            below.into(),
        ]));
        let sentence = "--upper below/u is on an overlay, which cannot hold upper or work";
        refuses(&dir, "--lower l1 --upper below/u --work below/w T", sentence);
        let sentence = "--upper /proc/1 is on procfs, which cannot hold upper or work";
        refuses(&dir, "--lower l1 --upper /proc/1 --work /proc/1/fd T", sentence);
        // One overlay on another is fine, a third is not.
        let line = "--lower below --lower l2 T /bin/sh -c";
        let mut cmd = td("td-overlay", line.split(' '));
        run(cmd.arg("cat T/b").current_dir(dir.path())).ok();
        dir.dir("T2");
        let sentence = "--lower T is on an overlay, and overlays nest at most two deep";
        refuses(&dir, "--lower T --lower l1 T2", sentence);
        let sentence = "--lower /proc is on procfs, which cannot be a layer";
        refuses(&dir, "--lower /proc --lower l1 T2", sentence);
    }

    #[test]
    fn names_a_read_only_mount_and_mounts_that_differ() {
        let dir = place();
        let path = |name: &str| dir.dir(name).into_os_string();
        for name in ["fs/u", "fs/w"] {
            dir.dir(name);
        }
        for name in ["bind", "ro"] {
            mount([OsString::from("--bind"), path("fs"), path(name)]);
        }
        mount([OsString::from("-o"), "remount,bind,ro".into(), path("ro")]);
        let sentence = "--upper ro/u is on a read-only mount";
        refuses(&dir, "--lower l1 --upper ro/u --work ro/w T", sentence);
        let sentence = "--work ro/w is on a read-only mount";
        refuses(&dir, "--lower l1 --upper fs/u --work ro/w T", sentence);
        let sentence = "--upper bind/u and --work fs/w are on different mounts";
        refuses(&dir, "--lower l1 --upper bind/u --work fs/w T", sentence);
    }

    /// As in `td-overlay`, but mounted by mount(8) with absolute paths, on a directory of that name.
    fn other_overlay(dir: &TempDir, name: &str, options: &str) {
        let at = |option: &str| match option.split_once('=') {
            Some((key @ ("lowerdir" | "upperdir" | "workdir"), path)) => {
                format!("{key}={}", dir.join(path).display())
            }
            _ => option.to_string(),
        };
        let options: Vec<String> = options.split(',').map(at).collect();
        let point = dir.dir(name);
        mount(["-t", "overlay", "overlay", "-o", &options.join(","), text_of(&point)]);
    }

    fn text_of(path: &Path) -> &str {
        path.to_str().expect("a plain path")
    }

    /// The step then works, and its overlay is gone again.
    #[track_caller]
    fn then_works(dir: &TempDir, line: &str) {
        run(&mut overlay(dir, line, "umount T")).ok();
    }

    #[test]
    fn an_overlay_is_a_lower_layer_at_one_level_and_not_blamed_there() {
        let dir = place();
        for name in ["one", "two", "l1/in", "p"] {
            dir.dir(name);
        }
        other_overlay(&dir, "one", "lowerdir=l1,upperdir=u,workdir=w");
        then_works(&dir, "--lower one --lower l2 T");
        // It is there, and the cause is another one.
        let dir = &dir;
        let deep = "nest at most two deep";
        dir.dir("u2");
        dir.dir("w2");
        for (line, sentence) in [
            (
                "--lower one --upper u2 --work u2 T",
                "--upper u2 and --work u2 are the same directory",
            ),
            (
                "--lower one --lower l2 --option metacopy=on --option redirect_dir=nofollow T",
                "--option metacopy=on and --option redirect_dir=nofollow exclude each other",
            ),
        ] {
            let output = run(&mut overlay(dir, line, "true")).exits(125).says(sentence);
            assert!(!output.err().contains(deep), "{output}");
        }
        other_overlay(dir, "two", "lowerdir=one,upperdir=u2,workdir=w2");
        let output = run(&mut overlay(dir, "--lower one --lower two T", "true")).exits(125);
        if !linux_is(6, 13) {
            // Without descriptors of layers there is no way to try one alone.
            output.says("perhaps --lower one or --lower two is on an overlay, and overlays nest");
            return;
        }
        assert!(!output.err().contains("--lower one"), "{output}");
        output.says("--lower two is on an overlay, and overlays nest at most two deep");
    }

    #[test]
    fn names_options_that_exclude_each_other_before_any_layer_is_blamed() {
        let dir = place();
        let line = |options: &str, upper: &str| {
            let options: Vec<String> =
                options.split(' ').map(|option| format!("--option {option}")).collect();
            format!("--lower l1 --lower l2 {} {upper}T", options.join(" "))
        };
        let upper = "--upper u --work w ";
        for (options, upper) in [
            ("nfs_export=on index=off", upper),
            ("nfs_export=on metacopy=on", upper),
            ("metacopy=on redirect_dir=follow", upper),
            ("metacopy=on redirect_dir=nofollow", ""),
        ] {
            let (one, other) = options.split_once(' ').expect("two");
            let sentence = format!("--option {one} and --option {other} exclude each other");
            refuses(&dir, &line(options, upper), &sentence);
            // Each of the two by itself is no conflict: the way out.
            then_works(&dir, &line(one, upper));
        }
        // Without an upper the kernel leaves these out, so they are not what is wrong with an overlay that fails.
        for options in [
            "nfs_export=on index=off",
            "nfs_export=on metacopy=on",
            "metacopy=on redirect_dir=follow",
        ] {
            then_works(&dir, &line(options, ""));
            let twice = line(options, "").replace("--lower l2", "--lower l1");
            let output = run(&mut overlay(&dir, &twice, "true")).exits(125);
            assert!(!output.err().contains("exclude each other"), "{output}");
            output.says("--lower l1 and --lower l1 are the same directory");
        }
        let output = run(&mut overlay(&dir, &line("userxattr metacopy=on", ""), "true")).exits(125);
        let output = output.says("--option metacopy=on cannot be combined with userxattr");
        assert!(!output.err().contains("a user namespace needs"), "{output}");
    }

    #[test]
    fn names_the_overlay_that_uses_a_directory() {
        let dir = place();
        for name in ["u2", "w2"] {
            dir.dir(name);
        }
        other_overlay(&dir, "one", "lowerdir=l1,upperdir=u,workdir=w");
        let by = format!("is in use by the overlay on {}", dir.join("one").display());
        let index = "--option index=on T";
        for (line, what) in [
            ("--lower l1 --upper u --work w2", "--upper u"),
            ("--lower l1 --upper u2 --work w", "--work w"),
            ("--lower u --upper u2 --work w2", "--lower u"),
        ] {
            refuses(&dir, &format!("{line} {index}"), &format!("{what} {by}"));
        }
        // A step that is refused leaves the directory of the other one alone.
        refuses(&dir, &format!("--lower l1 --volatile --upper u2 --work w {index}"), "--work w");
        fs::write(dir.join("one/a"), "over").expect("the other overlay still copies up");
        then_works(&dir, &format!("--lower l2 --upper u2 --work w2 {index}"));
        run(Command::new("umount").arg(dir.join("one"))).ok();
        dir.dir("w3");
        then_works(&dir, &format!("--lower l1 --upper u --work w3 {index}"));
    }

    #[test]
    fn who_uses_a_directory_is_left_open_where_it_cannot_be_seen() {
        let dir = place();
        for name in ["u2", "w2"] {
            dir.dir(name);
        }
        // By paths of which nobody knows where they begin.
        let options = "lowerdir=l1,upperdir=u,workdir=w";
        let mut cmd = Command::new("mount");
        cmd.args(["-t", "overlay", "overlay", "-o", options, "T"]).current_dir(dir.path());
        run(&mut cmd).ok();
        let line = "--lower l1 --upper u --work w2 --option index=on u2";
        let output = run(&mut overlay(&dir, line, "true")).exits(125);
        let output = output.says("the kernel's log: overlayfs: upperdir is in-use");
        assert!(!output.err().contains("is in use by the overlay on"), "{output}");
        output.says("unmount the other overlay, or use other directories");
        cover_the_kernels_log();
        let who =
            "perhaps --upper u, --work w2 or a --lower is the upper or work of another overlay";
        run(&mut overlay(&dir, line, "true")).exits(125).says(who);
        run(Command::new("umount").arg(dir.join("T"))).ok();
        run(&mut overlay(&dir, line, "true")).ok();
    }

    /// Nothing is read there any more.
    fn cover_the_kernels_log() {
        mount(["--bind", "/dev/null", "/dev/kmsg"]);
    }

    #[test]
    fn an_upper_that_was_used_with_another_lower_is_refused_by_the_index() {
        let line = "--lower l2 --upper u --work w --option index=on T";
        let used = || {
            let dir = place();
            then_works(&dir, &line.replace("l2", "l1"));
            dir
        };
        let dir = used();
        let way_out = "use a new --upper and --work, or --option index=off";
        let output = run(&mut overlay(&dir, line, "true")).exits(125).says(way_out);
        output.says("the kernel's log: overlayfs: failed to verify upper root origin");
        then_works(&dir, &line.replace("index=on", "index=off"));
        dir.dir("u2");
        dir.dir("w2");
        then_works(&dir, &line.replace("--upper u --work w", "--upper u2 --work w2"));
        let dir = used();
        dir.dir("u2");
        let line = line.replace("--upper u", "--upper u2");
        let output = run(&mut overlay(&dir, &line, "true")).exits(125);
        output.says("the kernel's log: overlayfs: failed to verify index dir 'upper' xattr");
        cover_the_kernels_log();
        let output = run(&mut overlay(&dir, &line, "true")).exits(125).says(way_out);
        output.says(
            "perhaps --upper u2 was used with another --lower, or --work w with another --upper",
        );
    }

    #[test]
    fn the_kernels_own_lines_about_this_call_are_shown_where_they_can_be_read() {
        let dir = place();
        let line = "--lower l1 --lower l1 --upper u --work w --volatile T";
        let failed = || run(&mut overlay(&dir, line, "true")).exits(125);
        let output = failed().says("the kernel's log: overlayfs: conflicting lowerdir path");
        // The mark of the first attempt is not what the second one finds.
        assert!(!output.err().contains("volatile"), "{output}");
        assert_eq!(output.err().matches("the kernel's log").count(), 1, "{output}");
        let looks = |line: &str| {
            let (_, processes) = strace(&[], &overlay(&dir, line, "true"));
            let mut calls = processes.into_iter().flat_map(|process| process.calls);
            calls.any(|call| call.args.iter().any(|arg| arg.contains("kmsg")))
        };
        assert!(looks(line));
        assert!(!looks("--lower l1 --upper u --work w --volatile T"), "nothing has failed");
        run(Command::new("umount").arg(dir.join("T"))).ok();
        fs::remove_dir_all(dir.join("w/work")).expect("the mark");
        cover_the_kernels_log();
        let output = failed().says("--lower l1 and --lower l1 are the same directory");
        assert!(!output.err().contains("the kernel's log"), "{output}");
    }

    #[test]
    fn names_layers_that_overlap_through_a_bind_mount() {
        let dir = place();
        for name in ["l1/in/deep", "bound", "l2/in"] {
            dir.dir(name);
        }
        let bind = |from: &str, to: &str| {
            mount(["--bind", text_of(&dir.join(from)), text_of(&dir.join(to))]);
        };
        bind("l1/in", "bound");
        let sentence = "--lower bound is inside --lower l1";
        refuses(&dir, "--lower l1 --lower bound T", sentence);
        let sentence = "--lower bound/deep is inside --lower l1";
        refuses(&dir, "--lower bound/deep --lower l1 T", sentence);
        run(Command::new("umount").arg(dir.join("bound"))).ok();
        // What is mounted in a layer is not inside it: another pair overlaps.
        bind("u", "l2/in");
        then_works(&dir, "--lower l2 --lower l2/in T");
        let output =
            run(&mut overlay(&dir, "--lower l2/in --lower l2 --lower l1 --lower l1 T", "true"));
        let output = output.exits(125).says("--lower l1 and --lower l1 are the same directory");
        assert!(!output.err().contains("is inside"), "{output}");
    }

    #[test]
    fn work_on_another_mount_is_not_said_to_be_inside_the_upper() {
        let dir = place();
        dir.dir("u/bound");
        dir.dir("w/x");
        mount(["--bind", text_of(&dir.join("w")), text_of(&dir.join("u/bound"))]);
        let output = run(&mut overlay(&dir, "--lower l1 --upper u --work u/bound/x T", "true"));
        let output =
            output.exits(125).says("--upper u and --work u/bound/x are on different mounts");
        assert!(!output.err().contains("is inside"), "{output}");
    }

    #[test]
    fn names_a_layer_whose_mount_is_unbindable() {
        let dir = place();
        let bound = dir.dir("bound");
        mount(["--bind", text_of(&dir.join("l1")), text_of(&bound)]);
        then_works(&dir, "--lower bound --lower l2 T");
        mount(["--make-unbindable", text_of(&bound)]);
        let sentence = "--lower bound is on the mount on ";
        refuses(&dir, "--lower l2 --lower bound T", sentence);
        refuses(&dir, "--lower l2 --lower bound T", "which is unbindable");
        mount(["--make-private", text_of(&bound)]);
        then_works(&dir, "--lower bound --lower l2 T");
    }

    #[test]
    fn names_a_layer_of_another_mount_namespace() {
        let dir = place();
        let other = start(Command::new("unshare").args(["-m", "sh", "-c", "echo; exec sleep 100"]));
        other.prints("\n");
        let lower = format!("/proc/{}/root{}/l1", other.pid(), dir.path().display());
        let line = format!("--lower {lower} --lower l2 T");
        let sentence = format!("--lower {lower} is in another mount namespace");
        run(&mut overlay(&dir, &line, "true")).exits(125).says(&sentence);
        other.kill(libc::SIGKILL);
        let line = format!("--lower {}/l1 --lower l2 T", dir.path().display());
        run(&mut overlay(&dir, &line, "true")).ok();
    }

    #[test]
    fn in_a_user_namespace_lists_the_mounts_below_a_layer() {
        let dir = place();
        for name in ["l1/in", "l1/more/deep", "l2/in", "bound"] {
            dir.dir(name);
        }
        for point in ["l1/in", "l1/more/deep"] {
            mount(["-t", "tmpfs", "tmpfs", text_of(&dir.join(point))]);
        }
        chmod(dir.path(), 0o755);
        let inside = |line: &str| {
            let mut cmd = td("td-unshare", ["-r", "-m", "td-overlay"]);
            cmd.args(line.split(' ')).args(["/bin/sh", "-c", "echo executed"]);
            run(cmd.current_dir(dir.path()))
        };
        let output = inside("--lower l2 --lower l1 T").exits(125);
        let at = dir.path().display();
        let output = output.says(&format!(
            "--lower l1 has mounts below it that this user namespace has inherited, and may not look under: \
             {at}/l1/in, {at}/l1/more/deep"
        ));
        output
            .says("use directories without such mounts, or td-overlay outside the user namespace");
        // Its ways out: another directory, a bind without the mounts, and the other order.
        inside("--lower l2 --lower l1/in T").ok();
        mount(["--bind", text_of(&dir.join("l1")), text_of(&dir.join("bound"))]);
        inside("--lower l2 --lower bound T").ok();
        let line = "--lower l2 --lower l1 T";
        let mut cmd = td("td-overlay", line.split(' '));
        cmd.args(["td-unshare", "-r", "-m", "ls", "T"]).current_dir(dir.path());
        run(&mut cmd).ok();
        run(Command::new("umount").arg(dir.join("T"))).ok();
        // They are there, and not what is wrong: nothing is locked in the namespace that has mounted it.
        then_works(&dir, line);
        let output = run(&mut overlay(&dir, "--lower l1 --lower l1 T", "true")).exits(125);
        assert!(!output.err().contains("below it"), "{output}");
    }

    #[test]
    fn names_directories_that_overlap() {
        let dir = place();
        for name in ["u/in", "l1/in", "w/in"] {
            dir.dir(name);
        }
        for (line, sentence) in [
            ("--lower l1 --upper u --work u T", "--upper u and --work u are the same directory"),
            ("--lower l1 --upper u --work u/in T", "--work u/in is inside --upper u"),
            ("--lower l1 --upper w/in --work w T", "--upper w/in is inside --work w"),
            ("--lower l1 --lower l1 T", "--lower l1 and --lower l1 are the same directory"),
            ("--lower l1 --lower l1/in T", "--lower l1/in is inside --lower l1"),
            ("--lower u/in --upper u --work w T", "--lower u/in is inside --upper u"),
            ("--lower w/in --upper u --work w T", "--lower w/in is inside --work w"),
            ("--lower u --upper u --work w T", "--lower u and --upper u are the same directory"),
        ] {
            refuses(&dir, line, sentence);
        }
    }

    #[test]
    fn a_volatile_upper_is_not_used_twice() {
        let dir = place();
        let line = "--lower l1 --upper u --work w --volatile T";
        run(&mut overlay(&dir, line, "umount T")).ok();
        let sentence =
            "--work w was last used by a --volatile overlay, whose upper may be incomplete";
        refuses(&dir, line, sentence);
    }

    #[test]
    fn a_volatile_overlay_that_failed_leaves_no_mark_and_is_not_taken_for_an_earlier_one() {
        let dir = place();
        for name in ["one", "two", "w/work"] {
            dir.dir(name);
        }
        run(&mut overlay(&dir, "--lower l1 --tmpfs one", "true")).ok();
        run(&mut overlay(&dir, "--lower one --tmpfs two", "true")).ok();
        let deep = "--lower two --upper u --work w --volatile T";
        let twice = "--lower l1 --lower l1 --upper u --work w --volatile T";
        refuses(&dir, deep, "--lower two is on an overlay, and overlays nest at most two deep");
        refuses(&dir, twice, "--lower l1 and --lower l1 are the same directory");
        assert!(!dir.join("w/work").exists());
        run(&mut overlay(&dir, "--lower l1 --upper u --work w --volatile T", "umount T")).ok();
        // A mark that was there before stays.
        let sentence = "--work w was last used by a --volatile overlay";
        for line in [twice, deep, "--lower l1 --upper u --work w T"] {
            refuses(&dir, line, sentence);
        }
    }

    #[test]
    fn an_overlay_that_came_out_read_only_is_a_failure() {
        let dir = place();
        let busy = dir.dir("w/work/busy");
        mount([OsStr::new("-t"), "tmpfs".as_ref(), "tmpfs".as_ref(), busy.as_ref()]);
        let sentence = "the overlay is read-only, though an upper was given";
        refuses(&dir, "--lower l1 --upper u --work w T", sentence);
        refuses(&dir, "--lower l1 --upper u --work w T", "could not empty or create --work w/work");
    }

    #[test]
    fn an_option_that_the_kernel_refuses_is_said_in_its_words() {
        let dir = place();
        let line = |option: &str| format!("--lower l1 --lower l2 --option {option} T");
        let output = |option: &str| run(&mut overlay(&dir, &line(option), "true")).exits(125);
        let (unknown, bad) = match linux_is(6, 13) {
            true => ("overlay: Unknown parameter 'nonsense'", "overlay: Bad value for 'index'"),
            false => ("the kernel's log", "the kernel's log"),
        };
        output("nonsense").says(unknown);
        output("index=maybe").says(bad);
        let long = format!("redirect_dir={}", "x".repeat(256));
        if linux_is(6, 13) {
            output(&long).says("fsconfig(2) takes at most 255 bytes, and this value has 256");
        }
        let many = format!("--lower l1 --lower l2 {}T", "--option redirect_dir=on ".repeat(300));
        let output = run_old(&overlay(&dir, &many, "true")).exits(125);
        output.says("before Linux 6.13 the maximum is 4095");
    }

    #[test]
    fn without_the_right_to_mount_it_says_what_gives_it() {
        let dir = place();
        chmod(dir.path(), 0o755);
        let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
        let as_nobody = |first: &[&str], line: &str, script: &str| {
            let mut cmd = Command::new("setpriv");
            cmd.args(nobody).args(first).arg(bin("td-overlay")).args(line.split(' '));
            cmd.args(["/bin/sh", "-c", script]).current_dir(dir.path());
            run(&mut cmd)
        };
        for line in ["--lower l1 --lower l2 T", "--lower l1 --tmpfs T"] {
            let output = as_nobody(&[], line, "echo executed").exits(125);
            let output = output.says("this process has no CAP_SYS_ADMIN");
            output.says("run it inside td-unshare --map-root-user --mount");
        }
        let unshare = bin("td-unshare");
        let unshare = unshare.to_str().expect("a plain path");
        let output = as_nobody(&[unshare, "-r"], "--lower l1 --lower l2 T", "echo executed");
        output.exits(125).says("the mount namespace belongs to another user namespace");
        // What it says is what helps.
        for name in ["u", "w"] {
            chown(dir.join(name), Some(65534), Some(65534)).expect("chown");
        }
        let script = "echo over >T/a && rm T/b && grep ' overlay overlay ' /proc/self/mountinfo";
        let inside = [unshare, "-r", "-m"];
        let line = "--lower l1 --lower l2 --upper u --work w T";
        chown(dir.join("l1/a"), Some(65534), Some(65534)).expect("chown");
        let output = as_nobody(&inside, line, script);
        assert!(output.ok().out().contains(",userxattr"));
        assert_eq!(text(dir.join("u/a")), "over\n");
        let output = as_nobody(&inside, "--lower l1 --tmpfs --mkdir T", "touch T/x; ls T").ok();
        assert_eq!(output.out(), "a\nx\n");
    }

    #[test]
    fn in_a_user_namespace_it_is_userxattr() {
        let dir = place();
        let script = "rm T/b; mkdir T/d; grep ' overlay overlay ' /proc/self/mountinfo";
        let mut cmd = td("td-unshare", ["-r", "-m", "td-overlay"]);
        let line = "--lower l1 --lower l2 --mkdir --upper s/u --work s/w T";
        cmd.args(line.split(' ')).args(["/bin/sh", "-c", script]).current_dir(dir.path());
        for old in [false, true] {
            let output = if old { run_old(&cmd) } else { run(&mut cmd) };
            assert!(output.ok().out().contains(",userxattr"));
            run(sh("rm -r s").current_dir(dir.path())).ok();
        }
    }

    /// Two layers as from a Dockerfile: above `l2` the layer `l1` removes the file `gone`, and makes the
    /// directory `dir` anew. What hides is a device 0:0, and an xattr of the namespace `xattrs`.
    fn hiding(dir: &TempDir, xattrs: &str) {
        for file in ["l2/gone", "l2/dir/below", "l1/dir/above", "l2/both/below", "l1/both/above"] {
            dir.dir(file.rsplit_once('/').expect("a directory").0);
            dir.file(file, "");
        }
        run(Command::new("mknod").arg(dir.join("l1/gone")).args(["c", "0", "0"])).ok();
        let name = CString::new(format!("{xattrs}.overlay.opaque")).expect("a name");
        set_xattr(&dir.join("l1/dir"), &name, b"y");
    }

    const LOOK: &str =
        "cd T; ls gone; ls dir both; mv both moved; rm moved/below b; rm -r dir; mkdir dir
        ls dir moved";
    const SEEN: &str = "both:\nabove\nbelow\n\ndir:\nabove\ndir:\n\nmoved:\nabove\n";

    #[test]
    fn whiteouts_and_opaque_directories_hide_what_is_below() {
        for old in [false, true] {
            let dir = place();
            hiding(&dir, "trusted");
            let before = [tree(&dir.join("l1")), tree(&dir.join("l2"))];
            let line = "--lower l1 --lower l2 --upper u --work w T";
            let run_it = |cmd: &Command| if old { run_old(cmd) } else { strace(&[], cmd).0 };
            let output = run_it(&overlay(&dir, line, LOOK)).exits(0);
            assert_eq!(output.out(), SEEN);
            assert_eq!(output.err().lines().count(), 1, "the file that is gone: {output:#}");
            // What was deleted is in the upper, and stays deleted.
            run(Command::new("umount").arg(dir.join("T"))).ok();
            let output = run_it(&overlay(&dir, line, "cd T; ls -A . dir moved")).ok();
            assert_eq!(output.out(), ".:\na\ndir\nmoved\n\ndir:\n\nmoved:\nabove\n");
            assert_eq!([tree(&dir.join("l1")), tree(&dir.join("l2"))], before);
        }
    }

    #[test]
    fn a_directory_of_a_lower_layer_is_renamed_with_redirect_dir_alone() {
        let dir = place();
        hiding(&dir, "trusted");
        let line = |option: &str| format!("--lower l1 --lower l2 --upper u --work w {option}T");
        let rename = || fs::rename(dir.join("T/both"), dir.join("T/renamed"));
        run(&mut overlay(&dir, &line("--option redirect_dir=nofollow "), "true")).ok();
        let error = rename().expect_err("it is in two layers");
        assert_eq!(error.raw_os_error(), Some(libc::EXDEV));
        run(Command::new("umount").arg(dir.join("T"))).ok();
        run(&mut overlay(&dir, &line("--option redirect_dir=on "), "true")).ok();
        rename().expect("it is renamed");
        run(Command::new("umount").arg(dir.join("T"))).ok();
        let mut cmd =
            overlay(&dir, &line("--option redirect_dir=on "), "cd T; ls both; ls renamed");
        assert_eq!(run(&mut cmd).out(), "above\nbelow\n");
    }

    /// td-overlay as an ordinary user, root of a user namespace of their own.
    fn overlay_as_nobody(dir: &TempDir, line: &str, script: &str) -> Command {
        run(Command::new("chown").args(["-R", "65534:65534"]).arg(dir.path())).ok();
        let mut cmd = Command::new("setpriv");
        cmd.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(bin("td-unshare"));
        cmd.args(["-r", "-m"]).arg(bin("td-overlay")).args(line.split(' '));
        cmd.args(["/bin/sh", "-c", script]).current_dir(dir.path());
        cmd
    }

    #[test]
    fn in_a_user_namespace_whiteouts_and_opaque_directories_are_those_of_a_user() {
        let line = "--lower l1 --lower l2 --upper u --work w T";
        for old in [false, true] {
            let dir = place();
            hiding(&dir, "user");
            let run_it = |cmd: &Command| if old { run_old(cmd) } else { strace(&[], cmd).0 };
            let output = run_it(&overlay_as_nobody(&dir, line, LOOK)).exits(0);
            assert_eq!(output.out(), SEEN);
            assert_eq!(output.err().lines().count(), 1, "the file that is gone: {output:#}");
            let output = run_it(&overlay_as_nobody(&dir, line, "cd T; ls -A . dir moved")).ok();
            assert_eq!(output.out(), ".:\na\ndir\nmoved\n\ndir:\n\nmoved:\nabove\n");
        }
        // Those of root it does not see.
        let dir = place();
        hiding(&dir, "trusted");
        let output = run(&mut overlay_as_nobody(&dir, line, "cd T; ls gone; ls dir")).exits(0);
        assert_eq!(output.out(), "above\nbelow\n");
    }

    #[test]
    fn a_file_is_a_whiteout_by_an_xattr_since_linux_6_7() {
        let dir = place();
        dir.file("l1/b", "");
        set_xattr(&dir.join("l1/b"), c"user.overlay.whiteout", b"y");
        set_xattr(&dir.join("l1"), c"user.overlay.opaque", b"x");
        let line = "--lower l1 --lower l2 --upper u --work w T";
        let hidden = run(&mut overlay_as_nobody(&dir, line, "cat T/b")).code == Some(1);
        assert_eq!(hidden, linux_is(6, 7));
    }

    #[test]
    fn in_a_user_namespace_no_directory_of_a_lower_layer_is_renamed() {
        let dir = place();
        hiding(&dir, "user");
        let line = "--lower l1 --lower l2 --upper u --work w T";
        let (output, processes) = strace(&[], &overlay_as_nobody(&dir, line, "mv T/both T/moved"));
        output.ok();
        let calls = processes.iter().flat_map(|process| &process.calls);
        let mut renames = calls.filter(|call| call.name.starts_with("rename"));
        assert!(renames.any(|call| call.result == "-1 EXDEV"), "mv has copied it");
        let why = "cannot be combined with userxattr, which a user namespace needs";
        for option in ["redirect_dir=on", "metacopy=on"] {
            let line = format!("--lower l1 --lower l2 --option {option} T");
            let output = run(&mut overlay_as_nobody(&dir, &line, "echo executed")).exits(125);
            assert_eq!(output.says(&format!("--option {option} {why}")).out(), "");
        }
    }

    #[test]
    fn proc_is_needed_only_before_linux_6_13() {
        let dir = place();
        let script = format!(
            "mount -t tmpfs tmpfs /proc && exec {} --lower l1 --lower l2 T cat T/b",
            bin("td-overlay").display()
        );
        let mut cmd = td("td-unshare", ["-m", "sh", "-c", &script]);
        cmd.current_dir(dir.path());
        if linux_is(6, 13) {
            assert_eq!(run(&mut cmd).ok().out(), "below");
        }
        let sentence = "before Linux 6.13, layers are passed through /proc";
        run_old(&cmd).exits(125).says(sentence);
    }

    #[test]
    fn a_dry_run_takes_what_earlier_steps_would_have_made_to_be_there() {
        let dir = place();
        let before = (tree(dir.path()), own_mountinfo());
        let line = "--dry-run --mkdir --lower no/image --upper s/u --work s/w no/T";
        let output = run(&mut overlay(&dir, line, "touch executed")).ok().out();
        // By a descriptor each.
        let made =
            output.lines().filter_map(|line| line.strip_prefix("mkdirat(")?.split_once(", "));
        let made: Vec<_> = made.map(|(_, made)| made).collect();
        assert_eq!(made, ["no", "T", "s", "u", "w"].map(|name| format!("\"{name}\", 0700)")));
        assert_eq!(before, (tree(dir.path()), own_mountinfo()));
    }
}
