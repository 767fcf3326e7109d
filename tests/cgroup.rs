//! td-cgroup.

mod common;

use std::fs;
use std::process::Command;

use common::cgroups::*;
use common::*;

/// A value that is not accepted ends it before it looks at anything: this needs no privilege.
#[track_caller]
fn refuses(args: &[&str], why: &str) {
    let output = run(&mut td("td-cgroup", args)).exits(125).says(why);
    assert_eq!(output.out(), "", "PROG must not run");
}

#[test]
fn a_value_out_of_range_is_refused_with_the_range() {
    for (args, why) in [
        (["-m", "1"], "--memory 1: must be a SIZE from 64k to 8388607t, or -1 for no limit"),
        (["--memory", "64MM"], "--memory 64MM: must be a SIZE"),
        (["--cpus", "0.001"], "--cpus 0.001: must be a number from 0.01 to 100000"),
        (["--cpu-shares", "1"], "--cpu-shares 1: must be a number from 2 to 262144"),
        (["--pids", "many"], "--pids many: must be a number from 1 to 4194304, or 0 or -1"),
        (["--cpuset-cpus", ""], "--cpuset-cpus \"\": must be a list of existing processors"),
        (["--set", "memory.max"], "--set memory.max: must be FILE=VALUE"),
        (["--set", "a/b.c=1"], "--set a/b.c: must be CONTROLLER.NAME=VALUE"),
        (["--set", ".x=1"], "--set .x: must be CONTROLLER.NAME=VALUE"),
        (["--delegate", "1000"], "--delegate 1000: must be UID:GID, two numbers"),
        (["--delegate", "ann:ann"], "--delegate ann:ann: must be UID:GID, two numbers"),
        (["--delegate", "4294967295:1"], "--delegate 4294967295:1: must be UID:GID"),
    ] {
        refuses(&[args[0], args[1], "/td-test-refused", "echo", "run"], why);
    }
}

#[test]
fn memory_swap_is_the_sum_and_needs_memory() {
    refuses(&["--memory-swap", "1m", "/td-test-refused", "echo"], "--memory-swap needs --memory");
    let args = ["-m", "2m", "--memory-swap", "1m", "/td-test-refused", "echo"];
    refuses(&args, "--memory-swap 1m: must be a SIZE for memory and swap together, at least");
}

#[test]
fn what_does_not_go_together_is_refused() {
    let together = "--stat exclude each other, and what is for a new cgroup: a limit, --leaf, PROG";
    refuses(&["--remove", "/td-test-refused", "echo", "run"], together);
    refuses(&["--stat", "--pids", "1", "/td-test-refused"], together);
    refuses(&["--kill", "--fresh", "/td-test-refused"], together);
    refuses(&["--remove", "--delegate", "1:1", "/td-test-refused"], together);
    refuses(&["--stay", "/td-test-refused"], "--stay needs PROG");
    refuses(&["--kill", "--remove", "/td-test-refused"], together);
    refuses(&["--wait-empty", "--stat", "/td-test-refused"], together);
    refuses(&["--kill", "--json", "/td-test-refused"], "--json needs --stat");
    refuses(&["--pids", "1"], "PATH is missing");
}

mod root {
    use super::*;

    #[test]
    fn prog_is_in_it_wherever_a_limit_was_asked() {
        let own = Cgroup::new("in");
        let args = ["-m", "64M", "--pids", "9", &own.0, "cat", "/proc/self/cgroup"];
        let out = run(&mut cgroup(args)).ok().out();
        let places = out.lines().filter(|line| line.ends_with(&own.0));
        let expected = own.found().len();
        assert_eq!(places.count(), expected, "{out}");
        assert!(expected >= 1);
        // A second run finds it, and the limits hold though it does not ask for them.
        let again = run(&mut cgroup([&own.0, "cat", "/proc/self/cgroup"])).ok().out();
        assert_eq!(out, again);
    }

    #[test]
    fn stay_makes_it_and_moves_nothing() {
        let own = Cgroup::new("stay");
        let before = fs::read_to_string("/proc/self/cgroup").expect("our own");
        let args = ["--pids", "9", "--stay", &own.0, "cat", "/proc/self/cgroup"];
        assert_eq!(run(&mut cgroup(args)).ok().out(), before);
        assert_eq!(read(&own.0, "pids.max"), "9");
    }

    #[test]
    fn a_child_of_td_unshare_is_created_in_it() {
        let own = Cgroup::new("created");
        // How many hierarchies have it.
        let found = || {
            run(&mut cgroup(["-m", "64M", "--pids", "9", &own.0])).ok();
            let found = own.found().len();
            run(&mut cgroup(["--remove", &own.0])).ok();
            found
        };
        let mut args = vec!["-m", "64M", "--pids", "9", "--stay", &own.0, "td-unshare"];
        args.extend([
            "--into-cgroup",
            &own.0,
            "--remove-cgroup",
            &own.0,
            "cat",
            "/proc/self/cgroup",
        ]);
        let out = run(&mut cgroup(args)).ok().out();
        let places = out.lines().filter(|line| line.ends_with(&own.0)).count();
        assert_eq!(places, found(), "{out}");
        assert!(own.is_gone());
    }

    #[test]
    fn a_name_without_a_slash_is_below_ones_own() {
        let own = Cgroup::new("relative");
        let args = ["--pids", "9", &own.0, "td-cgroup", "--stay", "below", "true"];
        run(&mut cgroup(args)).ok();
        assert!(own.found().iter().any(|directory| directory.join("below").is_dir()));
    }

    #[test]
    fn a_path_of_the_file_system_names_the_same_cgroup() {
        let own = Cgroup::new("path");
        let first = directories(&own.0).remove(0);
        run(&mut cgroup(["--pids".as_ref(), "7".as_ref(), first.as_os_str()])).ok();
        assert_eq!(read(&own.0, "pids.max"), "7");
        run(&mut cgroup(["--remove".as_ref(), first.as_os_str()])).ok();
        assert!(own.is_gone());
    }

    #[test]
    fn a_value_that_the_kernel_refuses_leaves_nothing() {
        let own = Cgroup::new("value");
        for (option, value) in
            [("--cpuset-cpus", "5000"), ("--cpuset-cpus", "x"), ("--cpuset-mems", "900")]
        {
            let args = ["--pids", "9", option, value, &own.below("a"), "echo", "run"];
            let output = run(&mut cgroup(args)).exits(125);
            let output = output.says(&format!("{option} takes a list of")).says("cpuset.");
            assert_eq!(output.out(), "");
            assert!(own.is_gone(), "{output}");
        }
    }

    #[test]
    fn a_refused_value_gives_the_others_back_what_they_were() {
        let own = Cgroup::new("back");
        run(&mut cgroup(["--pids", "9", "-m", "64M", "--memory-swap", "96M", &own.0])).ok();
        let state = || ["--stat", &own.0].map(String::from);
        let before = run(&mut cgroup(state())).ok().out();
        let args =
            ["--pids", "8", "-m", "128M", "--memory-swap", "256M", "--set", "pids.max=x", &own.0];
        run(&mut cgroup(args)).exits(125).says("EINVAL").says("pids.max");
        assert_eq!(run(&mut cgroup(state())).ok().out(), before);
    }

    #[test]
    fn a_prog_that_is_not_found_leaves_nothing() {
        let own = Cgroup::new("noprog");
        for path in [own.0.clone(), own.below("a/b")] {
            run(&mut cgroup(["--pids", "9", &path, "nowhere-to-be-found"])).exits(127);
            assert!(own.is_gone());
            run(&mut cgroup(["--pids", "9", "--stay", &path, "/"])).exits(126);
            assert!(own.is_gone());
        }
    }

    #[test]
    fn what_was_there_before_stays() {
        let own = Cgroup::new("reused");
        run(&mut cgroup(["--pids", "9", &own.0])).ok();
        run(&mut cgroup(["--pids", "7", &own.below("a"), "nowhere-to-be-found"])).exits(127);
        assert_eq!(read(&own.0, "pids.max"), "9");
        assert!(!own.found().iter().any(|directory| directory.join("a").exists()));
    }

    #[test]
    fn what_was_there_before_gets_its_values_back() {
        let own = Cgroup::new("values");
        run(&mut cgroup(["--pids", "9", "-m", "64M", &own.0])).ok();
        for options in [["--pids", "7"], ["--set", "pids.max=7"]] {
            let nowhere = [own.0.as_str(), "nowhere-to-be-found"];
            run(&mut cgroup(options.into_iter().chain(nowhere))).exits(127);
            assert_eq!(read(&own.0, "pids.max"), "9");
        }
    }

    #[test]
    fn a_dry_run_waits_for_nobody() {
        let own = Cgroup::new("drywait");
        run(&mut cgroup(["--pids", "9", &own.0])).ok();
        let running = sleeper(&own.0);
        for action in ["--wait-empty", "--kill", "--freeze"] {
            run(&mut cgroup(["--dry-run", action, &own.0])).ok();
        }
        // A frozen process does not reach its sleep.
        wait_for("the process to sleep", || {
            status_of(running.pid(), "State").starts_with('S').then_some(())
        });
    }

    #[test]
    fn root_of_a_user_namespace_is_not_told_to_have_a_cgroup_given_to_it() {
        let own = Cgroup::new("userns");
        let dir = tools();
        let mut cmd = as_user(&dir, "td-unshare", ["-r", "td-cgroup", "--pids", "9", &own.0]);
        let output = run(&mut cmd).exits(125).says("belongs to uid 65534");
        assert!(!output.err().contains("--delegate"), "{output}");
    }

    #[test]
    fn memory_and_swap_are_raised_and_lowered() {
        let own = Cgroup::new("swap");
        for (memory, swap) in
            [("64M", "96M"), ("256M", "512M"), ("1M", "2M"), ("-1", "-1"), ("1M", "1M")]
        {
            run(&mut cgroup(["-m", memory, "--memory-swap", swap, &own.0])).ok();
            let bytes = memory.strip_suffix('M').map(|n| n.parse::<u64>().expect("a number") << 20);
            let expected = bytes.map_or("max".into(), |n| n.to_string());
            let out = run(&mut cgroup(["--stat", &own.0])).ok().out();
            assert!(out.contains(&format!("memory.max {expected}\n")), "{memory}: {out}");
        }
    }

    #[test]
    fn kill_ends_what_is_in_it_and_below_it() {
        let own = Cgroup::new("kill");
        run(&mut cgroup(["--pids", "9", &own.0])).ok();
        let running = [sleeper(&own.0), sleeper(&own.below("a/b"))];
        run(&mut cgroup(["--kill", &own.0])).ok();
        for process in running {
            assert_eq!(process.wait().signal, Some(libc::SIGKILL));
        }
        run(&mut cgroup(["--kill", &own.0])).ok();
        run(&mut cgroup(["--remove", &own.0])).ok();
        assert!(own.is_gone());
    }

    #[test]
    fn remove_goes_depth_first_and_names_what_is_left() {
        let own = Cgroup::new("remove");
        run(&mut cgroup(["--pids", "9", &own.below("a/b")])).ok();
        let running = sleeper(&own.below("a/c"));
        let left = format!("still has processes: {} (sleep)", running.pid());
        wait_for("sleep", || {
            fs::read_to_string(format!("/proc/{}/comm", running.pid()))
                .ok()
                .filter(|c| c == "sleep\n")
        });
        run(&mut cgroup(["--remove", &own.0])).exits(125).says("EBUSY").says(&left);
        drop(running);
        run(&mut cgroup(["--remove", &own.0])).ok();
        assert!(own.is_gone());
    }

    #[test]
    fn remove_waits_for_what_is_dying() {
        let own = Cgroup::new("dying");
        let running = sleeper(&own.0);
        let remove = start(&mut cgroup(["--trace", "--remove", &own.0]));
        wait_for("its first try", || remove.err().contains("EBUSY").then_some(()));
        running.kill(libc::SIGKILL);
        remove.wait().exits(0);
        assert!(own.is_gone());
    }

    #[test]
    fn there_is_nothing_to_remove_kill_or_look_at() {
        let own = Cgroup::new("nothing");
        for option in ["--remove", "--kill", "--stat"] {
            let says = format!("{}: no hierarchy has this cgroup", own.0);
            run(&mut cgroup([option, &own.0])).exits(125).says(&says);
        }
    }

    #[test]
    fn stat_has_a_key_and_a_value_a_line() {
        let own = Cgroup::new("stat");
        let options = [&["-m", "64M", "--pids", "9"], counting_time(), &[&own.0]].concat();
        run(&mut cgroup(options)).ok();
        let out = run(&mut cgroup(["--stat", &own.0])).ok().out();
        let keys: Vec<&str> =
            out.lines().map(|l| l.split_once(' ').expect("two words").0).collect();
        let expected = ["memory.current", "memory.peak", "memory.max", "memory.swap.current"];
        let expected = [&expected[..], &["memory.anon", "memory.file", "memory.oom_kill"]].concat();
        let usage = ["cpu.usage_usec", "cpu.user_usec", "cpu.system_usec"];
        let pids = ["pids.current", "pids.max", "pids.refused", "frozen", "populated"];
        for key in [&expected[..], &usage, &pids].concat() {
            assert_eq!(keys.iter().filter(|k| **k == key).count(), 1, "{key}: {out}");
        }
        assert!(out.contains("memory.max 67108864\n") && out.contains("pids.max 9\n"), "{out}");
        assert!(out.ends_with("frozen 0\npopulated 0\n"), "{out}");
        let _running = sleeper(&own.0);
        let out = run(&mut cgroup(["--stat", &own.0])).ok().out();
        assert!(out.contains("pids.current 1\n") && out.ends_with("populated 1\n"), "{out}");
    }

    #[test]
    fn stat_as_json_has_the_same_keys_and_values_and_numbers_are_numbers() {
        let own = Cgroup::new("json");
        run(&mut cgroup(["-m", "64M", "--pids", "-1", &own.0])).ok();
        let text = run(&mut cgroup(["--stat", &own.0])).ok().out();
        let member = |line: &str| {
            let (key, value) = line.split_once(' ').expect("two words");
            let quote = if value.parse::<f64>().is_ok() { "" } else { "\"" };
            format!("\"{key}\": {quote}{value}{quote}")
        };
        let members: Vec<String> = text.lines().map(member).collect();
        assert!(members.contains(&"\"pids.max\": \"max\"".to_string()), "{text}");
        assert!(members.contains(&"\"memory.max\": 67108864".to_string()), "{text}");
        let json = run(&mut cgroup(["--stat", "--json", &own.0])).ok().out();
        assert_eq!(json, format!("{{{}}}\n", members.join(", ")));
    }

    #[test]
    fn stat_that_cannot_be_written_is_a_failure() {
        let own = Cgroup::new("full");
        run(&mut cgroup(["--pids", "9", &own.0])).ok();
        let full = fs::File::options().write(true).open("/dev/full").expect("/dev/full");
        let mut cmd = cgroup(["--stat", &own.0]);
        cmd.stdout(full).stderr(std::process::Stdio::piped());
        start_with(&mut cmd).wait().exits(125).says("ENOSPC");
    }

    #[test]
    fn a_dry_run_makes_nothing() {
        let own = Cgroup::new("dry");
        let mut args = vec!["--dry-run", "--fresh", "--delegate", "1:2", "-m", "64M"];
        args.extend(["--cpuset-cpus", "0", &own.0]);
        args.extend(["td-unshare", "--into-cgroup", &own.0, "true"]);
        let out = run(&mut cgroup(args)).ok().out();
        for part in ["mkdirat(", "/cgroup.procs\", 1, 2, AT_", "\"67108864\"", "clone3(", "execve("]
        {
            assert!(out.contains(part), "{part}: {out}");
        }
        assert!(own.is_gone());
    }

    #[test]
    fn without_proc_it_fails_by_name() {
        private_mounts();
        let own = Cgroup::new("noproc");
        mount(["-t", "tmpfs", "tmpfs", "/proc"]);
        let output = td("td-cgroup", [own.0.as_str(), "echo", "run"]).output();
        let output = output.expect("it runs");
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{err}");
        assert!(err.contains("cgroups are found through /proc, which must be mounted"), "{err}");
        run(Command::new("umount").arg("/proc")).ok();
    }

    #[test]
    fn an_ordinary_user_is_told_whose_it_is_and_the_way_out() {
        let own = Cgroup::new("user");
        let dir = tools();
        let mut cmd = as_user(&dir, "td-cgroup", ["--pids", "9", &own.0, "echo", "run"]);
        let output = run(&mut cmd).exits(125);
        let output =
            output.says("EACCES").says("belongs to uid 0").says("this process has uid 65534");
        let output = output.says("as root: td-cgroup --delegate 65534:65534 /td/u-65534");
        assert_eq!(output.out(), "");
        run(&mut cgroup(["--pids", "9", &own.0])).ok();
        let output = run(&mut cmd).exits(125);
        output
            .says("pids.max\", O_WRONLY")
            .says("belongs to uid 0")
            .says("this process has uid 65534");
    }

    #[test]
    fn what_cannot_be_given_away_is_taken_back() {
        let own = Cgroup::new("back2");
        let owners = || {
            use std::os::unix::fs::MetadataExt;
            let mut all = Vec::new();
            for directory in own.found() {
                for file in [".", "cgroup.procs", "tasks", "cgroup.subtree_control"] {
                    if let Ok(stat) = fs::metadata(directory.join(file)) {
                        all.push((directory.join(file), stat.uid(), stat.gid()));
                    }
                }
            }
            all
        };
        let args = ["--delegate", "65534:65534", "--stay", &own.0, "nowhere-to-be-found"];
        run(&mut cgroup(args)).exits(127);
        assert!(own.is_gone());
        run(&mut cgroup(["--delegate", "12345:54321", &own.0])).ok();
        let before = owners();
        assert!(before.iter().all(|(_, uid, gid)| (*uid, *gid) == (12345, 54321)), "{before:?}");
        run(&mut cgroup(args)).exits(127);
        assert_eq!(owners(), before);
        // A process without the right to give away its own files.
        let dir = tools();
        run(&mut cgroup(["--delegate", "65534:65534", &own.0])).ok();
        let below = own.below("x");
        let args = ["--delegate", "12345:54321", &below, "echo", "run"];
        let output = run(&mut as_user(&dir, "td-cgroup", args)).exits(125).says("fchownat(");
        let output = output
            .says("EPERM")
            .says("only root may delegate a cgroup; this process has uid 65534");
        assert_eq!(output.out(), "");
        assert!(!own.found().iter().any(|directory| directory.join("x").exists()));
    }

    #[test]
    fn fresh_waits_for_what_is_dying() {
        let own = Cgroup::new("freshdying");
        let running = sleeper(&own.0);
        let mut args = vec!["--trace", "--fresh", "--pids", "7", &own.0];
        args.extend(["echo", "run"]);
        let fresh = start(&mut cgroup(args));
        let looked = |err: String| err.contains("cgroup.events") || err.contains("pidfd_open(");
        wait_for("its first look", || looked(fresh.err()).then_some(()));
        running.kill(libc::SIGKILL);
        assert_eq!(fresh.wait().exits(0).out(), "run\n");
        assert_eq!(read(&own.0, "pids.max"), "7");
    }

    #[test]
    fn fresh_leaves_all_where_something_lives() {
        let own = Cgroup::new("freshalive");
        run(&mut cgroup(["-m", "64M", "--pids", "9", &own.below("empty")])).ok();
        run(&mut cgroup(["-m", "64M", &own.below("a/b")])).ok();
        let running = sleeper(&own.below("a/b"));
        let tree = || {
            let found = own.found();
            run(Command::new("find").args(found).args(["-type", "d"])).ok().out()
        };
        let before = tree();
        let output = run(&mut cgroup(["--fresh", &own.0, "echo", "run"])).exits(125);
        let output = output.says(&format!(" still has processes: {} (", running.pid()));
        let output = output.says(&format!("td-cgroup --kill {} ends them", own.0));
        assert_eq!(output.out(), "");
        assert_eq!(tree(), before);
    }

    #[test]
    fn a_name_of_a_file_of_the_kernel_is_refused() {
        let own = Cgroup::new("file");
        run(&mut cgroup(["--pids", "9", &own.0])).ok();
        let path = own.below("cgroup.procs");
        run(&mut cgroup(["--pids", "9", &path])).exits(125).says("is a control file");
    }

    /// Where version 1 is, alone or beside version 2.
    mod v1 {
        use super::*;

        #[test]
        fn a_dry_run_fills_no_cpuset_that_has_processors() {
            let own = Cgroup::new("drycpuset");
            run(&mut cgroup(["--cpuset-cpus", "0", &own.0])).ok();
            let below = own.below("x");
            let said = run(&mut cgroup(["--dry-run", "--cpuset-cpus", "0", &below, "true"])).ok();
            let file = |cgroup: &str| format!("{cgroup}/cpuset.cpus");
            assert!(said.out().contains(&file(&below)), "{said}");
            assert!(!said.out().contains(&file(&own.0)), "{said}");
        }

        #[test]
        fn memory_above_memory_and_swap_is_explained() {
            let own = Cgroup::new("memsw");
            run(&mut cgroup(["-m", "1M", "--memory-swap", "2M", &own.0])).ok();
            let output = run(&mut cgroup(["-m", "64M", &own.0])).exits(125).says("EINVAL");
            let most = "it cannot exceed memory.memsw.limit_in_bytes, which is 2097152";
            output.says(most).says("memory.limit_in_bytes");
            assert_eq!(read(&own.0, "memory.limit_in_bytes"), "1048576");
        }

        #[test]
        fn less_memory_than_is_used_is_explained() {
            let own = Cgroup::new("used");
            // Memory of the shell itself, which is not to go to a swap that the machine may have.
            let script =
                "x=$(head -c 20000000 /dev/zero | tr '\\0' x); echo in; sleep 1000; echo $x";
            let args = ["-m", "256M", "--memory-swap", "256M", "--set", "memory.swappiness=0"];
            let prog = [own.0.as_str(), "sh", "-c", script];
            let running = start(&mut cgroup(args.iter().chain(&prog)));
            running.prints("in");
            let output = run(&mut cgroup(["-m", "1M", "--memory-swap", "256M", &own.0])).exits(125);
            output.says("EBUSY").says("bytes, of which too few can be freed");
        }

        #[test]
        fn a_period_that_was_longer_is_shortened_with_its_quota() {
            let own = Cgroup::new("period");
            let below = own.below("a");
            run(&mut cgroup(["--cpus", "1", &own.0])).ok();
            let long = ["--set", "cpu.cfs_period_us=1000000", "--set", "cpu.cfs_quota_us=500000"];
            run(&mut cgroup(long.into_iter().chain([below.as_str()]))).ok();
            run(&mut cgroup(["--cpus", "0.5", &below, "nowhere-to-be-found"])).exits(127);
            assert_eq!(read(&below, "cpu.cfs_quota_us"), "500000");
            assert_eq!(read(&below, "cpu.cfs_period_us"), "1000000");
            run(&mut cgroup(["--cpus", "0.5", &below])).ok();
            assert_eq!(read(&below, "cpu.cfs_quota_us"), "50000");
            assert_eq!(read(&below, "cpu.cfs_period_us"), "100000");
        }

        #[test]
        fn more_time_than_above_is_explained_by_the_level_that_has_less() {
            let own = Cgroup::new("time");
            run(&mut cgroup(["--cpus", "1", &own.0])).ok();
            let output = run(&mut cgroup(["--cpus", "2", &own.below("a/b")])).exits(125);
            let level = v1("cpu").join(&own.0[1..]).join("cpu.cfs_quota_us");
            let output =
                output.says("EINVAL").says(&format!("{} allows only 100000", level.display()));
            assert!(!output.err().contains("it takes"), "{output}");
        }

        /// The path of a file of a cgroup.
        fn file(controller: &str, cgroup: &str, file: &str) -> String {
            v1(controller).join(&cgroup[1..]).join(file).display().to_string()
        }

        #[test]
        fn less_time_than_below_is_explained_by_the_cgroup_that_has_more() {
            let own = Cgroup::new("lesstime");
            let (middle, below) = (own.below("a"), own.below("a/b"));
            run(&mut cgroup(["--cpus", "2", &own.0])).ok();
            run(&mut cgroup(["--cpus", "0.5", &below])).ok();
            // The one between them has no limit.
            assert_eq!(read(&middle, "cpu.cfs_quota_us"), "-1");
            let quota = |cgroup: &str| file("cpu", cgroup, "cpu.cfs_quota_us");
            let why = format!("below it, {} is more: 50000 in a period of 100000", quota(&below));
            for options in [["--cpus", "0.2"], ["--set", "cpu.cfs_quota_us=20000"]] {
                let args = options.into_iter().chain([own.0.as_str()]);
                let output = run(&mut cgroup(args)).exits(125).says("EINVAL").says(&why);
                let output = output.says("lower that first, or ask for more");
                assert!(!output.err().contains("allows only"), "{output}");
            }
            // The one above has a limit too, which is not what is in the way.
            let output = run(&mut cgroup(["--cpus", "0.2", &middle])).exits(125).says(&why);
            assert!(!output.err().contains("allows only"), "{output}");
            // In a period of another length it is not more.
            let fits = ["--set", "cpu.cfs_period_us=10000", "--set", "cpu.cfs_quota_us=5000"];
            run(&mut cgroup(fits.into_iter().chain([below.as_str()]))).ok();
            run(&mut cgroup(["--cpus", "0.5", &own.0])).ok();
            run(&mut cgroup(["--cpus", "0.1", &below])).ok();
            run(&mut cgroup(["--cpus", "0.2", &own.0])).ok();
            let output = run(&mut cgroup(["--cpus", "0.3", &below])).exits(125);
            let why = format!("{} allows only 20000 in a period of 100000", quota(&own.0));
            output.says(&why).says("raise that first, or ask for less");
            run(&mut cgroup(["--cpus", "0.3", &own.0])).ok();
            run(&mut cgroup(["--cpus", "0.3", &below])).ok();
        }

        #[test]
        fn a_quota_or_a_period_out_of_range_blames_no_other_cgroup() {
            let own = Cgroup::new("range");
            run(&mut cgroup(["--cpus", "1", &own.0])).ok();
            let below = own.below("a");
            run(&mut cgroup(["--cpus", "1", &below])).ok();
            for (set, why) in [
                ("cpu.cfs_period_us=999", "a period has from 1000 to 1000000 microseconds"),
                ("cpu.cfs_period_us=1000001", "a period has from 1000 to 1000000 microseconds"),
                ("cpu.cfs_quota_us=999", "a quota has at least 1000 microseconds, or is -1"),
            ] {
                let output = run(&mut cgroup(["--set", set, &below])).exits(125).says("EINVAL");
                let output = output.says(why);
                assert!(!output.err().contains(" only "), "{output}");
            }
            run(&mut cgroup(["--set", "cpu.cfs_quota_us=1000", &below])).ok();
            // A shorter period is more time.
            run(&mut cgroup(["--cpus", "1", &below])).ok();
            let output = run(&mut cgroup(["--set", "cpu.cfs_period_us=10000", &below])).exits(125);
            output.says(&format!("{} allows only 100000", file("cpu", &own.0, "cpu.cfs_quota_us")));
        }

        #[test]
        fn time_for_real_time_scheduling_is_that_of_the_cgroup_above() {
            let own = Cgroup::new("rt");
            let none = run(&mut cgroup(["--set", "cpu.rt_runtime_us=0", &own.0]));
            if !v1("cpu").join("cpu.rt_runtime_us").exists() {
                // A kernel without RT_GROUP_SCHED.
                none.exits(125).says("cpu is on version 1 here, which has no such file");
                return;
            }
            none.ok();
            let below = own.below("a");
            let output = run(&mut cgroup(["--set", "cpu.rt_runtime_us=1000", &below])).exits(125);
            let level = file("cpu", &own.0, "cpu.rt_runtime_us");
            output.says("EINVAL").says(&format!("{level} allows only 0 in a period of 1000000"));
            let output =
                run(&mut cgroup(["--set", "cpu.rt_runtime_us=1000001", &own.0])).exits(125);
            output.says("cpu.rt_runtime_us cannot exceed cpu.rt_period_us");
        }

        #[test]
        fn processors_are_explained_by_the_cgroup_above_or_below() {
            let own = Cgroup::new("cpus");
            let one = own.below("a");
            let cpus = |cgroup: &str| file("cpuset", cgroup, "cpuset.cpus");
            run(&mut cgroup(["--cpuset-cpus", "0-1", &own.0])).ok();
            run(&mut cgroup(["--cpuset-cpus", "0-1", &one])).ok();
            let output = run(&mut cgroup(["--cpuset-cpus", "0", &own.0])).exits(125).says("EBUSY");
            let output = output.says(&format!("below it, {} is more: 0-1", cpus(&one)));
            output.says("lower that first, or ask for more");
            run(&mut cgroup(["--cpuset-cpus", "0", &one])).ok();
            run(&mut cgroup(["--cpuset-cpus", "0", &own.0])).ok();
            let output = run(&mut cgroup(["--cpuset-cpus", "1", &one])).exits(125).says("EACCES");
            output.says(&format!("{} allows only 0", cpus(&own.0))).says("raise that first");
            run(&mut cgroup(["--cpuset-cpus", "0-1", &own.0])).ok();
            run(&mut cgroup(["--cpuset-cpus", "1", &one])).ok();
            // What is not a list is not too much.
            let output = run(&mut cgroup(["--cpuset-cpus", "x", &one])).exits(125).says("EINVAL");
            let output = output.says("--cpuset-cpus takes a list of existing processors");
            assert!(!output.err().contains("allows only"), "{output}");
        }

        /// The old one is not visible any more, so no process could move back to it.
        #[test]
        fn nobody_goes_in_where_its_own_cgroup_is_outside_of_what_is_mounted() {
            let own = Cgroup::new("outside");
            run(&mut cgroup(["--pids", "9", &own.0])).ok();
            let dir = TempDir::new();
            let script = "mount --bind \"$1$2\" \"$3\"; umount -l \"$1\"; shift 3; exec \"$@\"";
            let mut cmd = td("td-unshare", ["-m", "sh", "-c", script, "sh"]);
            cmd.arg(v1("pids")).arg(&own.0).arg(dir.path()).arg(bin("td-cgroup"));
            let output = run(cmd.args(["--pids", "5", "/a", "echo", "run"])).exits(125);
            let output = output.says("does not show the cgroup of this process");
            assert_eq!(output.out(), "");
            assert_eq!(directories(&own.below("a")).iter().filter(|path| path.exists()).count(), 0);
        }

        #[test]
        fn processes_that_a_pid_namespace_hides_are_not_taken_for_none() {
            let own = Cgroup::new("hidden");
            run(&mut cgroup(["--pids", "9", &own.0])).ok();
            let running = sleeper(&own.0);
            // Version 2 would say it.
            let script =
                "while read -r _ point type _; do case $type in cgroup2) umount -l $point; esac
                done </proc/mounts; exec td-mount --proc / td-cgroup --wait-empty=1 \"$0\"";
            let mut cmd = td("td-unshare", ["-p", "-m", "sh", "-c", script, &own.0]);
            let path = format!("{}:{}", bin_dir().display(), std::env::var("PATH").expect("PATH"));
            let output = run(cmd.env("PATH", path)).exits(124);
            output.says("still has processes of another pid namespace");
            assert_eq!(status_of(running.pid(), "State").chars().next(), Some('S'));
        }

        #[test]
        fn empty_cpusets_are_filled_on_the_way() {
            let own = Cgroup::new("cpuset");
            let cpuset = v1("cpuset").join(&own.0[1..]);
            fs::create_dir(&cpuset).expect("a cgroup made by hand, empty");
            let args = ["--cpuset-cpus", "0", &own.below("a/b"), "cat", "/proc/self/cgroup"];
            let out = run(&mut cgroup(args)).ok().out();
            assert!(out.contains(":cpuset:/td-test-cpuset"), "{out}");
            let root = |file| fs::read_to_string(v1("cpuset").join(file)).expect("the root's");
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let made = fs::read_to_string(cpuset.join(file)).expect("the new one's");
                assert_eq!(made, root(file));
            }
            assert_eq!(read(&own.below("a/b"), "cpuset.cpus"), "0");
        }

        #[test]
        fn nothing_is_written_where_another_file_system_lies_over_it() {
            private_mounts();
            let own = Cgroup::new("over");
            let point = v1("pids");
            mount(["-t", "tmpfs", "tmpfs", point.to_str().expect("a plain path")]);
            let output = run(&mut cgroup(["--pids", "9", &own.0, "echo", "run"])).exits(125);
            let output = output.says("another file system covers the cgroups here");
            assert_eq!(output.out(), "");
            let listed = run(Command::new("ls").arg("-A").arg(&point)).ok().out();
            assert_eq!(listed, "", "nothing was made on the other file system");
            run(Command::new("umount").arg(&point)).ok();
            assert!(own.is_gone());
        }

        #[test]
        fn a_second_mount_of_a_part_is_refused_by_name() {
            private_mounts();
            let own = Cgroup::new("second");
            run(&mut cgroup(["--pids", "9", &own.0])).ok();
            let dir = TempDir::new();
            let there = dir.dir("cg");
            let there = there.to_str().expect("a plain path");
            let from = v1("pids").join(&own.0[1..]);
            mount(["--bind", from.to_str().expect("a plain path"), there]);
            let output = run(&mut cgroup([format!("{there}/x")])).exits(125);
            output
                .says("a second mount of its hierarchy")
                .says("name the cgroup from the first mount point");
        }

        #[test]
        fn without_any_hierarchy_it_says_so() {
            private_mounts();
            for (point, ..) in points().iter().rev() {
                run(Command::new("umount").arg(point)).ok();
            }
            let output = run(&mut cgroup(["/td-test-none", "echo", "run"])).exits(125);
            output.says("no cgroup hierarchy is mounted here").says("mount -t cgroup2");
        }

        #[test]
        fn a_user_to_whom_it_is_delegated_makes_limits_below_it_and_cannot_change_its_own() {
            let own = Cgroup::new("delegated");
            let dir = tools();
            run(&mut cgroup(["--delegate", "65534:65534", "--pids", "40", &own.0])).ok();
            let below = own.below("x");
            let mut args = vec!["--memory", "64M", "--pids", "20", "--cpus", "0.5", &below];
            args.extend(["sh", "-c", "cat /proc/self/cgroup; exec sleep 1000"]);
            let running = start(&mut as_user(&dir, "td-cgroup", args));
            running.prints(&format!(":pids:{below}\n"));
            running.prints(&format!(":memory:{below}\n"));
            assert_eq!(read(&below, "pids.max"), "20");
            let io = own
                .found()
                .iter()
                .any(|directory| directory.join("blkio.throttle.read_bps_device").exists());
            assert!(io, "blkio is given as well");
            let limits = ["--pids", "41", &own.0, "echo", "run"];
            let output = run(&mut as_user(&dir, "td-cgroup", limits)).exits(125).says("EACCES");
            let output =
                output.says("pids.max belongs to uid 0 (mode 0644); this process has uid 65534");
            assert_eq!((output.out(), output.err().matches("EACCES").count()), (String::new(), 1));
            // It is done, and does not help.
            assert!(!output.err().contains("--delegate"), "{output}");
            let output = output.says("only the limits of the cgroups below it were delegated");
            drop(output);
            let output = run(&mut as_user(&dir, "td-cgroup", ["--fresh", "--pids", "1", &below]));
            let output = output.exits(125).says(" still has processes: ");
            output
                .says(&running.pid().to_string())
                .says(&format!("td-cgroup --kill {below} ends them"));
            run(&mut as_user(&dir, "td-cgroup", ["--kill", &below])).ok();
            assert_eq!(running.wait().signal, Some(libc::SIGKILL));
            run(&mut as_user(&dir, "td-cgroup", ["--fresh", "--pids", "1", &below])).ok();
            assert_eq!(read(&below, "pids.max"), "1");
            run(&mut as_user(&dir, "td-cgroup", ["--remove", &below])).ok();
            assert_eq!(read(&own.0, "pids.max"), "40");
        }

        #[test]
        fn a_child_of_a_users_td_unshare_is_created_in_what_is_delegated() {
            let own = Cgroup::new("createduser");
            let dir = tools();
            run(&mut cgroup(["--delegate", "65534:65534", &own.0])).ok();
            let (name, leaf) = (own.below("x"), own.below("x/leaf"));
            for (more, root) in [("-p", leaf.as_str()), ("-pC", "/")] {
                let mut args = vec!["--fresh", "--pids", "20", "--leaf", "leaf", "--stay", &name];
                args.extend(["td-unshare", "-r", more, "--into-cgroup", &leaf]);
                args.extend(["--remove-cgroup", &name, "cat", "/proc/self/cgroup"]);
                let out = run(&mut as_user(&dir, "td-cgroup", args)).ok().out();
                assert!(out.contains(&format!(":pids:{root}\n")), "{out}");
                assert!(!own.found().iter().any(|directory| directory.join("x").exists()));
            }
        }
    }

    /// Where version 1 and version 2 are both.
    mod hybrid {
        use super::*;

        #[test]
        fn a_path_where_no_hierarchy_is_mounted_is_refused_and_never_nested() {
            let own = Cgroup::new("nested");
            let path = format!("/sys/fs/cgroup{}", own.0);
            let output = run(&mut cgroup([path.as_str(), "echo", "run"])).exits(125);
            let output = output.says(&format!("{path}: no cgroup hierarchy is mounted there"));
            assert_eq!(output.out(), "");
            assert!(!directories(&path).iter().any(|directory| directory.exists()));
        }

        #[test]
        fn limits_read_back_from_the_kernel() {
            let own = Cgroup::new("limits");
            let mut args =
                vec!["-m", "64M", "--memory-swap", "128M", "--cpus", "0.5", "--cpu-shares"];
            args.extend(["512", "--cpuset-cpus", "0", "--cpuset-mems", "0", "--pids", "9"]);
            args.extend(["--set", "memory.swappiness=10", "--set", "cgroup.max.depth=3", &own.0]);
            run(&mut cgroup(args)).ok();
            for (file, value) in [
                ("memory.limit_in_bytes", "67108864"),
                ("memory.memsw.limit_in_bytes", "134217728"),
                ("memory.swappiness", "10"),
                ("cpu.cfs_period_us", "100000"),
                ("cpu.cfs_quota_us", "50000"),
                ("cpu.shares", "512"),
                ("cpuset.cpus", "0"),
                ("cpuset.mems", "0"),
                ("pids.max", "9"),
                ("cgroup.max.depth", "3"),
            ] {
                assert_eq!(read(&own.0, file), value, "{file}");
            }
        }

        #[test]
        fn a_file_of_the_other_version_is_explained() {
            let own = Cgroup::new("version");
            let output = run(&mut cgroup(["--set", "memory.max=1", &own.0])).exits(125);
            output.says("ENOENT").says("memory is on version 1 here, which has no such file");
            let output = run(&mut cgroup(["--set", "hugetlb.none=1", &own.0])).exits(125);
            output.says("ENOENT").says("hugetlb of this kernel's version 2 has no such file");
            assert!(own.is_gone());
            restore_hugetlb();
        }

        #[test]
        fn a_controller_that_no_cgroup_above_the_namespace_passes_down_is_explained() {
            let own = Cgroup::new("notpassed");
            let below = own.below("a");
            let script = "umount -l \"$1\" && mount -t cgroup2 c \"$1\" && \"$2\" --set hugetlb.2MB.max=0 /x true";
            let inside = || {
                let unshare = ["td-unshare", "--mount", "--cgroup", "--into-cgroup", &below];
                let mut cmd = cgroup(["--stay", &below].into_iter().chain(unshare));
                cmd.args(["sh", "-c", script, "sh"]).arg(v2()).arg(bin("td-cgroup"));
                run(&mut cmd)
            };
            let outside = "a cgroup above it, outside this cgroup namespace, does not pass it down";
            let output = inside().exits(125).says("ENOENT").says("does not offer hugetlb");
            output.says(&format!("td-cgroup: {outside}\n"));
            // It is passed down, and processes are in the way.
            run(&mut cgroup(["--set", "hugetlb.2MB.max=0", &below])).ok();
            let output = inside().exits(125).says("EBUSY").says("has processes of its own");
            assert!(!output.err().contains("does not"), "{output}");
            // One that the kernel does not have is passed down by nobody.
            let script = script.replace("hugetlb.2MB.max=0", "nonsense.x=1");
            let unshare = ["td-unshare", "--mount", "--cgroup", "sh", "-c", &script, "sh"];
            let mut cmd = cgroup(["--stay", &below].into_iter().chain(unshare));
            let output = run(cmd.arg(v2()).arg(bin("td-cgroup"))).exits(125).says("EINVAL");
            assert!(!output.err().contains(outside), "{output}");
            drop(own);
            restore_hugetlb();
        }

        #[test]
        fn a_controller_that_is_not_offered_is_explained() {
            private_mounts();
            let own = Cgroup::new("offered");
            let output = run(&mut cgroup(["--set", "nonsense.x=1", &own.0])).exits(125);
            output.says("EINVAL").says("does not offer nonsense; it offers:");
            assert!(own.is_gone());
            let point = v1("memory");
            run(Command::new("umount").arg(&point)).ok();
            let output = run(&mut cgroup(["-m", "64M", &own.0, "echo", "run"])).exits(125);
            let output = output.says("ENOENT").says("does not offer memory");
            let output = output.says("memory is on a version 1 hierarchy that is not mounted here");
            assert_eq!(output.out(), "");
            assert!(own.is_gone());
            let point = v2();
            run(Command::new("umount").arg(&point)).ok();
            let output = run(&mut cgroup(["-m", "64M", &own.0])).exits(125);
            let output = output.says("memory: no mounted hierarchy has this controller");
            output.says("memory is on a version 1 hierarchy that is not mounted here");
        }

        #[test]
        fn without_version_2_the_freezer_stands_in() {
            private_mounts();
            let own = Cgroup::new("freezer");
            run(Command::new("umount").arg(v2())).ok();
            run(&mut cgroup([&own.0])).ok();
            assert_eq!(own.found(), [v1("freezer").join(&own.0[1..])]);
            let output = run(&mut cgroup(["--set", "cgroup.freeze=1", &own.0])).exits(125);
            output.says("files called cgroup.* are those of version 2, which is not mounted");
            let mut dry = vec!["--dry-run", "--pids", "9", "/td-test-none"];
            dry.extend(["td-unshare", "--into-cgroup", "/td-test-none", "true"]);
            assert!(run(&mut cgroup(dry)).ok().out().contains("clone3("));
            let running = sleeper(&own.0);
            run(&mut cgroup(["--kill", &own.0])).ok();
            assert_eq!(running.wait().signal, Some(libc::SIGKILL));
            run(&mut cgroup(["--remove", &own.0])).ok();
            assert!(own.is_gone());
        }

        #[test]
        fn a_read_only_mount_is_named() {
            private_mounts();
            let own = Cgroup::new("readonly");
            let point = v2();
            mount(["-o", "remount,bind,ro", point.to_str().expect("a plain path")]);
            let says = format!("the cgroups at {} are mounted read-only", point.display());
            run(&mut cgroup(["--pids", "9", &own.0])).exits(125).says("EROFS").says(&says);
            assert!(own.is_gone());
        }

        #[test]
        fn a_limit_of_depth_or_number_is_named() {
            let own = Cgroup::new("depth");
            run(&mut cgroup(["--set", "cgroup.max.depth=1", &own.below("a")])).ok();
            let output = run(&mut cgroup([own.below("a/b/c/d")])).exits(125).says("EAGAIN");
            output.says(&format!("{}/cgroup.max.depth allows 1 levels", own.below("a")));
            let args = ["--set", "cgroup.max.depth=max", "--set", "cgroup.max.descendants=1"];
            run(&mut cgroup(args.iter().copied().chain([own.below("a").as_str()]))).ok();
            let output = run(&mut cgroup([own.below("a/b/c")])).exits(125).says("EAGAIN");
            output.says(&format!("{}/cgroup.max.descendants allows 1", own.below("a")));
            assert!(!v2().join(&own.below("a/b")[1..]).exists(), "what was made is removed");
        }

        #[test]
        fn an_ancestor_that_both_cgroups_share_must_be_ones_own_too() {
            let own = Cgroup::new("common");
            run(&mut cgroup([&own.0])).ok();
            let there = v2().join(&own.0[1..]);
            for path in [there.clone(), there.join("cgroup.procs")] {
                std::os::unix::fs::chown(path, Some(65534), None).expect("delegated");
            }
            let dir = tools();
            let mut cmd = as_user(&dir, "td-cgroup", [own.0.as_str(), "echo", "run"]);
            let output = run(&mut cmd).exits(125).says("EACCES");
            let output =
                output.says("root must start PROG inside it: td-cgroup --leaf NAME PATH PROG");
            let says = "/cgroup.procs belongs to uid 0 (mode 0644); this process has uid 65534";
            let output = output.says(says).says("write(");
            assert!(!output.err().contains(&format!("{}{says}", own.0)), "{output}");
            assert_eq!(output.out(), "");
        }

        #[test]
        fn with_a_leaf_the_user_begins_inside_and_goes_where_it_likes() {
            let own = Cgroup::new("inside");
            let dir = tools();
            let tool = dir.join("td-cgroup");
            let (leaf, below) = (own.below("shell"), own.below("y"));
            let mut args = vec!["--delegate", "65534:65534", "--leaf", "shell", &own.0];
            args.extend(AS_USER);
            args.extend(["sh", "-c", "cat /proc/self/cgroup; echo; \"$@\"", "sh"]);
            args.extend([tool.to_str().expect("a plain path"), "--pids", "9", &below]);
            args.extend(["cat", "/proc/self/cgroup"]);
            let out = run(&mut cgroup(args)).ok().out();
            let (first, second) = out.split_once("\n\n").expect("two lists");
            let places =
                |text: &str, name: &str| text.lines().filter(|l| l.ends_with(name)).count();
            let all = own.found().len();
            assert_eq!((places(first, &leaf), places(second, &below)), (all, 2), "{out}");
            assert!(second.contains(&format!("\n0::{below}")), "{out}");
        }

        #[test]
        fn a_fresh_one_has_nothing_of_an_earlier_run() {
            let own = Cgroup::new("fresh");
            run(&mut cgroup(["-m", "64M", "--pids", "9", &own.below("a/b")])).ok();
            run(&mut cgroup(["--pids", "9", "--cpus", "0.5", &own.0])).ok();
            let before = own.found().len();
            run(&mut cgroup(["--fresh", "--pids", "7", &own.0])).ok();
            assert_eq!(read(&own.0, "pids.max"), "7");
            assert!(own.found().len() < before, "{:?}", own.found());
            assert!(!own.found().iter().any(|directory| directory.join("a").exists()));
            run(&mut cgroup(["--fresh", "--pids", "7", &own.0, "true"])).ok();
        }

        /// Where something is in the way of controllers that are passed down.
        #[test]
        fn processes_and_controllers_in_the_way_of_each_other_are_named() {
            let offered = fs::read_to_string(v2().join("cgroup.controllers")).expect("a list");
            assert!(
                offered.split_whitespace().any(|c| c == "hugetlb"),
                "version 2 has {offered:?}"
            );
            let own = Cgroup::new("way");
            let running = sleeper(&own.0);
            let (set, below) = (["--set", "hugetlb.2MB.max=0"], own.below("a"));
            let args = || set.iter().copied().chain([below.as_str()]);
            let output = run(&mut cgroup(args())).exits(125).says("EBUSY");
            let output = output.says("has processes of its own");
            output.says(&running.pid().to_string());
            assert!(!v2().join(&own.below("a")[1..]).exists());
            drop(running);

            run(&mut cgroup(args())).ok();
            assert_eq!(read(&below, "hugetlb.2MB.max"), "0");
            let output = run(&mut cgroup([own.0.as_str(), "echo", "run"])).exits(125).says("EBUSY");
            let output =
                output.says("passes controllers down (hugetlb), so it cannot have processes");
            assert_eq!(output.out(), "");
            drop(own);
            restore_hugetlb();
        }
    }
}
