//! The way to what td makes and removes: a state, or another directory, that somebody else can change.

mod common;

mod root {
    use std::ffi::CString;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{MetadataExt, chown, lchown, symlink};
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use crate::common::house::*;
    use crate::common::*;

    /// Someone who is neither root nor the user.
    const OTHER: u32 = 4711;

    fn give(path: &Path, uid: u32) {
        lchown(path, Some(uid), Some(uid)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    // ---- a state ----

    /// What a state has, and a kept container in it.
    const PARTS: [&str; 11] = [
        "",
        "lock",
        "images",
        "images/default",
        "containers",
        "containers/NAME",
        "containers/NAME/run",
        "containers/NAME/pid",
        "containers/NAME/upper",
        "containers/NAME/work",
        "containers/NAME/root",
    ];

    /// Files that a run would remove or change if it came there.
    fn bystander(house: &House) -> PathBuf {
        let dir = house.dir.dir("bystander");
        for name in ["run", "upper", "work/work", "root", "NAME/run", "NAME/upper", "default/bin"] {
            let below = dir.join(name.replace("NAME", &house.name));
            fs::create_dir_all(&below).expect("a directory");
            fs::write(below.join("precious"), "x").expect("a file");
        }
        house.give(&dir);
        dir
    }

    /// Run, with and without --keep, and reclaim, and see that what `bystander` has is as it was.
    #[track_caller]
    fn all_are_refused(house: &House, bystander: &Path, part: &str, says: &str) {
        let before = tree(bystander);
        for options in [&["--keep"][..], &[]] {
            let output = house.sh(options, "echo it runs; echo x >/precious");
            let what = format!("{part:?} {options:?}: {output:#}");
            assert_eq!(tree(bystander), before, "{what}");
            // What is kept is not looked at where nothing is, and the other way round.
            let kept = part.contains("NAME/") && !part.ends_with("pid");
            if !kept || part.ends_with("run") == options.is_empty() {
                assert!(output.code == Some(125) && output.out().is_empty(), "{what}");
                assert!(output.err().contains(says), "{says} {what}");
            }
        }
        let output = run(&mut house.run(["--reclaim"]));
        assert_eq!(tree(bystander), before, "{part:?} --reclaim: {output:#}");
    }

    #[test]
    fn no_part_of_a_state_may_be_a_link() {
        for house in House::each() {
            let other = if house.who == Who::Root { 65534 } else { OTHER };
            let bystander = bystander(&house);
            house.sh(&["--keep"], "echo kept >/kept").ok();
            for part in &PARTS[1..] {
                let name = part.replace("NAME", &house.name);
                let path = house.state().join(&name);
                let (there, aside) = (path.exists(), house.dir.join("aside"));
                if there {
                    fs::rename(&path, &aside).expect("a move");
                }
                let to = match *part {
                    "lock" => bystander.join("new"),
                    "containers/NAME/pid" => bystander.join("run/precious"),
                    "containers/NAME/run" => bystander.join("run"),
                    "images/default" => bystander.join("default"),
                    _ => bystander.clone(),
                };
                symlink(&to, &path).expect("a link");
                // Where another has made it, and where chown -R has made it the user's own.
                for owner in [other, house.who.id()] {
                    give(&path, owner);
                    let shown = format!("/{name}");
                    all_are_refused(&house, &bystander, part, &shown);
                }
                fs::remove_file(&path).expect("the link");
                if there {
                    fs::rename(&aside, &path).expect("a move back");
                }
            }
            assert_eq!(house.sh(&["--keep"], "cat /kept").ok().out(), "kept\n");
        }
    }

    #[test]
    fn no_directory_of_a_state_may_belong_to_another_or_be_writable_by_others() {
        for house in House::each() {
            let (own, other) = (house.who.id(), if house.who == Who::Root { 65534 } else { OTHER });
            let bystander = bystander(&house);
            house.sh(&["--keep"], "echo kept >/kept").ok();
            for part in ["", "images", "containers", "containers/NAME"] {
                let path = house.state().join(part.replace("NAME", &house.name));
                let shown = text(&path).trim_end_matches('/');
                // Images are looked for in the container's user namespace, where another's directory looks like root's.
                if part != "images" || house.who == Who::Root {
                    give(&path, other);
                    let belongs = format!("{shown} belongs to uid {other}");
                    all_are_refused(&house, &bystander, part, &belongs);
                    give(&path, own);
                }
                for mode in [0o777, 0o702, 0o2770] {
                    if mode == 0o2770 {
                        chown(&path, None, Some(other)).expect("another group");
                    }
                    chmod(&path, mode);
                    let says = format!("others can write to {shown}");
                    all_are_refused(&house, &bystander, part, &says);
                    chmod(&path, 0o700);
                    give(&path, own);
                }
                // The group of this user alone.
                chmod(&path, 0o770);
                house.sh(&[], "echo it runs").ok();
                chmod(&path, 0o700);
            }
            assert_eq!(house.sh(&["--keep"], "cat /kept").ok().out(), "kept\n");
        }
    }

    #[test]
    fn a_state_may_be_reached_by_links_that_nobody_else_can_change() {
        for house in House::each() {
            let way = house.dir.dir("way");
            symlink("../state", way.join("relative")).expect("a link");
            symlink(house.dir.path(), way.join("absolute")).expect("a link");
            for link in ["relative", "absolute/state", "absolute/way/../way//./relative/."] {
                let path = way.join(link);
                let mut cmd = house.run(["--state", text(&path)]);
                cmd.args([&house.name, "sh", "-c", "echo it runs"]);
                assert_eq!(run(&mut cmd).ok().out(), "it runs\n", "{link}");
                house.nothing_is_left();
            }
            // Of another's, in a directory that only the user can change, and the other way round.
            let other = if house.who == Who::Root { 65534 } else { OTHER };
            for path in ["relative", "."] {
                give(&way.join(path), other);
                let state = way.join("relative");
                let mut cmd = house.run(["--state", text(&state)]);
                let output = run(cmd.args([&house.name, "true"])).exits(125);
                output.says(&format!("belongs to uid {other}"));
                give(&way.join(path), 0);
            }
        }
    }

    /// In a directory where everybody may make files, somebody else has listed the cgroups of others.
    #[test]
    fn a_record_of_cgroups_is_the_callers_or_roots() {
        let dir = TempDir::new();
        chmod(dir.path(), 0o1777);
        let own = cgroups::Cgroup::new("listed");
        let bystander = cgroups::sleeper(&own.0);
        let all = fs::read_to_string(format!("/proc/{}/cgroup", bystander.pid())).expect("lines");
        let list = |line: &str| line.ends_with(&own.0).then(|| format!("{line}/leaf\n"));
        let record = dir.join("record");
        fs::write(&record, all.lines().filter_map(list).collect::<String>()).expect("a record");
        let acts = || {
            ["--stat", "--freeze", "--thaw", "--remove", "--kill"]
                .map(|action| td("td-cgroup", [action, "--record", text(&record)]))
        };
        give(&record, OTHER);
        let says = format!("record belongs to uid {OTHER}, whom uid 0 does not trust");
        for mut act in acts() {
            run(&mut act).exits(125).says(&says);
        }
        let unshare = ["--pid", "--cgroup-record", text(&record), "echo", "it runs"];
        assert_eq!(run(&mut td("td-unshare", unshare)).exits(125).says(&says).out(), "");
        assert!(is_alive(bystander.pid()) && !own.is_gone());
        give(&record, 0);
        let [stat, .., kill] = &mut acts();
        assert!(run(stat).exits(0).out().contains("populated 1\n"));
        run(kill).exits(0);
        assert!(ended_within(bystander.pid(), LIMIT));
    }

    #[test]
    fn an_image_may_belong_to_anybody() {
        for house in House::each() {
            give(&house.image(), OTHER);
            chmod(house.image(), 0o777);
            assert_eq!(house.sh(&["--keep"], "echo it runs").ok().out(), "it runs\n");
            assert_eq!(house.sh(&["--keep"], "echo it runs").ok().out(), "it runs\n");
        }
    }

    // ---- the tools ----

    #[test]
    fn each_tool_refuses_a_way_that_others_can_change_before_it_does_anything() {
        private_mounts();
        let dir = TempDir::new();
        let (hostile, target) = (dir.dir("hostile"), dir.dir("target"));
        dir.dir("target/tree/sub");
        dir.dir("lower");
        symlink(&target, hostile.join("link")).expect("a link");
        symlink(&target, dir.join("link")).expect("a link");
        dir.dir("hostile/tree");
        give(&hostile, 65534);
        give(&dir.join("link"), 65534);
        let trees = || [&hostile, &target].map(|dir| tree(dir));
        let before = trees();
        for way in ["hostile/link", "hostile", "link"] {
            let here = dir.join(way);
            let p = |name: &str| text(&here.join(name)).to_owned();
            let overlay = |upper: &str, work: &str, target: &str| {
                let [lower, upper, work] = [dir.join("lower"), dir.join(upper), dir.join(work)];
                let mut cmd = td("td-overlay", ["--mkdir", "--lower"]);
                cmd.arg(lower).arg("--upper").arg(upper).arg("--work").arg(work);
                cmd.arg(dir.join(target));
                cmd
            };
            let inside = |name: &str| format!("{way}/{name}");
            for mut cmd in [
                td("td-lock", ["--mkdir", &p("lock")]),
                td("td-lock", ["--mkdir", "--key", "k", &p("new/lock")]),
                td("td-unshare", ["--pid-file", &p("pid")]),
                td("td-unshare", ["--pid-file", &p("tree/pid")]),
                td("td-unshare", ["--remove", &p("tree")]),
                td("td-unshare", ["--fresh", "--remove", &p("tree")]),
                td("td-unshare", ["--rmdir", &p("tree")]),
                td("td-unshare", ["-r", "--remove", &p("tree/sub")]),
                overlay(&inside("u"), "w", "m"),
                overlay("u", &inside("w"), "m"),
                overlay("u", "w", &inside("m")),
                overlay("u", "w", &inside("tree/sub")),
            ] {
                let output = run(cmd.args(["echo", "PROG ran"])).exits(125);
                assert_eq!(output.out(), "", "{output:#}");
                let output = output.says("belongs to uid 65534, whom uid 0 does not trust");
                output.says("choose a directory that belongs to root");
                assert_eq!(trees(), before, "{way}");
                for name in ["u", "w", "m"] {
                    assert!(!dir.join(name).exists(), "{name} is left");
                }
            }
        }
        chmod(dir.join("target"), 0o757);
        let removed = dir.join("target/tree");
        let line = ["--remove", text(&removed), "echo", "PROG ran"];
        let output = run(&mut td("td-unshare", line)).exits(125);
        let way_out = format!("chmod go-w {}", target.display());
        output.says(&format!("others can write to {}", target.display())).says(&way_out);
        // The way out is one.
        run(&mut sh(&way_out)).ok();
        run(&mut td("td-unshare", line)).ok();
        assert!(!removed.exists());
    }

    #[test]
    fn below_a_state_no_link_is_followed_however_it_is_spelt() {
        private_mounts();
        let dir = TempDir::new();
        let (state, other) = (dir.dir("state"), dir.dir("other"));
        symlink(&other, state.join("link")).expect("a link");
        let state = text(&state);
        let parent = text(dir.path());
        for spelt in
            [state.into(), format!("{state}/"), format!("{state}/."), format!("{parent}//state")]
        {
            for path in [
                format!("{state}/link"),
                format!("{state}//link"),
                format!("{parent}/./state/link"),
            ] {
                for option in ["--remove", "--rmdir", "--pid-file", "--cgroup-record"] {
                    dir.dir("other/x");
                    dir.file("other/x/file", "");
                    let x = format!("{path}/x");
                    let line = ["--state", &spelt, option, &x, "--fresh", "echo", "PROG ran"];
                    let output = run(&mut td("td-unshare", line)).exits(125);
                    output.says("/link is a symbolic link, which is not followed here");
                    assert!(dir.join("other/x/file").exists(), "{spelt} {x}");
                    fs::remove_dir_all(dir.join("other/x")).expect("it");
                }
            }
        }
        // What would not be protected is refused.
        dir.dir("other/x");
        for path in [
            format!("{parent}/other/x"),
            format!("{parent}/state2/x"),
            format!("{parent}/other/../state/link/x"),
        ] {
            for option in ["--remove", "--rmdir", "--cgroup-record"] {
                let line = ["--state", state, option, &path, "echo", "PROG ran"];
                let output = run(&mut td("td-unshare", line)).exits(125);
                output.says("not below the directory of --state");
                assert!(dir.join("other/x").exists());
            }
        }
    }

    #[test]
    fn without_mkdir_an_overlay_and_a_lock_go_where_the_user_says() {
        private_mounts();
        let dir = TempDir::new();
        for name in ["lower", "theirs/u", "theirs/w", "m"] {
            dir.dir(name);
        }
        give(&dir.join("theirs"), 65534);
        symlink("theirs", dir.join("link")).expect("a link");
        let line = "--lower lower --upper link/u --work theirs/w m echo PROG ran";
        let mut cmd = td("td-overlay", line.split(' '));
        assert_eq!(run(cmd.current_dir(dir.path())).ok().out(), "PROG ran\n");
        let mut cmd = td("td-lock", ["link/lock", "echo", "PROG ran"]);
        assert_eq!(run(cmd.current_dir(dir.path())).ok().out(), "PROG ran\n");
    }

    /// Of a directory of many, as /tmp.
    #[test]
    fn a_directory_with_the_sticky_bit_may_be_passed_through() {
        private_mounts();
        let dir = TempDir::new();
        let many = dir.dir("many");
        chmod(&many, 0o1777);
        let lock = many.join("a/b/lock");
        run(&mut td("td-lock", ["--mkdir", text(&lock), "true"])).ok();
        assert_eq!(fs::metadata(many.join("a")).expect("a directory").mode() & 0o7777, 0o700);
        symlink(dir.path(), many.join("link")).expect("a link");
        run(&mut td("td-lock", ["--mkdir", text(&many.join("link/lock")), "true"])).ok();
        for name in ["a", "link"] {
            give(&many.join(name), 65534);
            let lock = many.join(name).join("lock");
            let output = run(&mut td("td-lock", ["--mkdir", text(&lock), "true"])).exits(125);
            output.says(&format!("{} belongs to uid 65534", many.join(name).display()));
        }
    }

    // ---- races ----

    /// Somebody who makes and removes directories and links at `path`, as often as possible, until told to stop.
    /// Returns how often.
    fn swap(path: PathBuf, target: PathBuf, mut chance: Chance, stop: Arc<AtomicBool>) -> u32 {
        let c = |path: &Path| CString::new(path.as_os_str().as_bytes()).expect("a path");
        let (path, inside, target) = (c(&path), c(&path.join("run")), c(&target));
        // SAFETY: numbers. The raw call changes the ids of this thread alone.
        check(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) } as i32)
            .expect("another user");
        let mut swaps = 0;
        while !stop.load(Ordering::Relaxed) {
            // SAFETY: strings that outlive the calls.
            unsafe {
                if chance.below(2) == 0 {
                    swaps += u32::from(libc::symlink(target.as_ptr(), path.as_ptr()) == 0);
                } else {
                    swaps += u32::from(libc::mkdir(path.as_ptr(), 0o777) == 0);
                    libc::mkdir(inside.as_ptr(), 0o777);
                }
                for _ in 0..chance.below(0x800) {
                    std::hint::spin_loop();
                }
                libc::rmdir(inside.as_ptr());
                libc::rmdir(path.as_ptr());
                libc::unlink(path.as_ptr());
            }
        }
        swaps
    }

    /// In a directory of many another makes what td makes there too, or a link to what is root's.
    #[test]
    fn nobody_wins_a_race_for_a_directory_that_td_makes() {
        private_mounts();
        let dir = TempDir::new();
        chmod(dir.path(), 0o755);
        let (many, target) = (dir.dir("many"), dir.dir("target"));
        chmod(&many, 0o1777);
        dir.dir("target/run/precious");
        dir.dir("lower");
        let before = tree(&target);
        let chance = Chance::new();
        let (path, stop) = (many.join("a"), Arc::new(AtomicBool::new(false)));
        let hostile = {
            let (path, target, stop) = (path.clone(), target.clone(), Arc::clone(&stop));
            thread::spawn(move || swap(path, target, chance, stop))
        };
        let p = |name: &str| text(&path.join(name)).to_owned();
        let (mut ran, mut refused) = (0, 0);
        for round in 0..3000 {
            let mut cmd = match round % 3 {
                0 => td("td-lock", ["--mkdir", &p("lock"), "true"]),
                1 => td(
                    "td-unshare",
                    ["--fresh", "--remove", &p("run"), "--pid-file", &p("pid"), "true"],
                ),
                _ => {
                    let mut cmd =
                        td("td-overlay", ["--mkdir", "--lower", text(&dir.join("lower"))]);
                    cmd.args(["--upper", &p("upper"), "--work", &p("work"), &p("root"), "true"]);
                    cmd
                }
            };
            let output = run(&mut cmd);
            match output.code {
                Some(0) => ran += 1,
                Some(125) => refused += 1,
                _ => panic!("{output:#}"),
            }
            assert_eq!(tree(&target), before, "{output:#}");
            // What was created belongs to root, and the other user may start again.
            run(Command::new("umount").arg(path.join("root")));
            run(Command::new("rm").arg("-rf").arg(&path));
            if ran >= 30 && refused >= 30 {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        let swaps = hostile.join().expect("the other thread");
        println!("{swaps} swaps, {ran} runs, {refused} refused");
        assert!(
            swaps > 100 && ran >= 30 && refused >= 30,
            "nothing raced: {swaps}, {ran}, {refused}"
        );
    }
}
