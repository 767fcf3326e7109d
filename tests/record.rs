//! The record of a container's cgroups: what td-cgroup creates by it, td-unshare uses, and whoever comes later
//! finds and removes.

mod common;

use common::cgroups::cgroup;
use common::*;

/// A value that is not accepted ends it before it looks at anything: this needs no privilege.
#[test]
fn what_does_not_go_together_is_refused() {
    let refuses = |args: &[&str], why: &str| run(&mut cgroup(args)).exits(125).says(why);
    refuses(&["--record", "/r", "/td-test-refused", "true"], "--record needs --leaf");
    refuses(&["--state", "/", "/td-test-refused", "true"], "--state DIR needs --record");
    let line = ["--kill", "--record", "/elsewhere/cgroups", "--state", "/state"];
    refuses(&line, "with FILE below DIR");
    refuses(&["--stat", "--record", "/r", "true"], "exclude each other");
    let both = ["--cgroup-record", "/r", "--into-cgroup", "/x", "true"];
    let says = "--cgroup-record cannot be combined with --into-cgroup or --remove-cgroup";
    run(&mut td("td-unshare", both)).exits(125).says(says);
}

mod root {
    use std::fs;
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;
    use crate::common::cgroups::{Cgroup, directories};
    use crate::common::house::{HOLD, House, hierarchies, hold};
    use crate::common::strace::under_strace;

    /// The cgroups of a process.
    fn cgroups_of(pid: i32) -> String {
        fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroups")
    }

    #[test]
    fn the_record_is_what_proc_says_of_the_containers_processes() {
        let house = House::new();
        for options in [&[][..], &["--pids", "30", "-m", "64M"]] {
            let held = house.hold(options, HOLD);
            let [parent, first, _] = held.processes();
            let record = fs::read_to_string(house.record()).expect("the record");
            let sorted = |text: &str| {
                let mut lines: Vec<String> = text.lines().map(String::from).collect();
                lines.sort();
                lines
            };
            assert_eq!(sorted(&record), sorted(&cgroups_of(first)));
            assert_eq!(cgroups_of(parent), cgroups_of(std::process::id() as i32));
            held.go_on().ok();
            assert!(!house.record().exists());
            house.nothing_is_left();
        }
    }

    #[test]
    fn a_cgroup_that_exists_and_is_in_no_record_stays_unless_fresh_is_asked() {
        private_mounts();
        let dir = TempDir::new();
        let own = Cgroup::new("taken");
        let record = dir.join("record");
        let run_in = |fresh: &[&str]| {
            let mut cmd = cgroup(fresh);
            cmd.arg("--record").arg(&record).args(["--leaf", "leaf", "--pids", "9", "--stay"]);
            run(cmd.args([&*own.0, "cat"]).arg(&record))
        };
        run(&mut cgroup(["--pids", "9", &own.below("theirs")])).ok();
        let theirs = || directories(&own.below("theirs")).iter().any(|theirs| theirs.is_dir());
        assert!(theirs());
        let output = run_in(&[]).exits(125);
        assert_eq!(output.out(), "");
        output
            .says("EEXIST")
            .says("already exists, and no record lists it")
            .says("--fresh removes it");
        assert!(theirs() && !record.exists());
        let listed = run_in(&["--fresh"]).ok().out();
        assert!(listed.contains(&format!("{}/leaf\n", own.0)) && !theirs(), "{listed}");
        run(&mut cgroup(["--remove", "--record", text(&record)])).ok();
    }

    /// Else the container would have limits of its own in place of the caller's.
    #[test]
    fn without_a_limit_the_cgroup_is_below_the_callers_and_with_one_below_the_parent() {
        let house = House::new();
        let own = Cgroup::new("caller");
        let mut cmd = cgroup(["--pids", "50", "--leaf", "caller", &own.0]);
        cmd.args(words(&house.container(&["-m", "64M"], &["sh", "-c", HOLD])));
        let held = hold(&mut cmd);
        let first = cgroups_of(held.processes()[1]);
        let below_own = format!("{}/leaf", house.below(&own.below("caller")));
        let below_parent = format!("{}/leaf", house.below("/td"));
        let place = |controller: &str| {
            let line = first.lines().find(|line| line.contains(controller));
            line.and_then(|line| line.rsplit(':').next()).expect("a line")
        };
        match hierarchies().len() {
            1 => assert_eq!(place("0::"), below_parent),
            _ => assert_eq!([place(":memory:"), place(":pids:")], [&below_parent, &below_own]),
        }
        held.go_on().ok();
        house.nothing_is_left();
    }

    #[test]
    fn an_action_is_for_the_cgroups_that_the_record_lists() {
        let house = House::new();
        let held = house.hold(&["--pids", "20"], HOLD);
        let out = run(&mut house.act(&["--stat"])).ok().out();
        assert!(out.contains("pids.max 20\n") && out.contains("pids.current 2\n"), "{out}");
        run(&mut house.act(&["--freeze"])).ok();
        assert!(run(&mut house.act(&["--stat"])).ok().out().contains("frozen 1\n"));
        run(&mut house.act(&["--thaw"])).ok();
        let [.., command] = held.processes();
        let says = format!("{command} (sh)");
        run(&mut house.act(&["--remove"])).exits(125).says("still has processes").says(&says);
        run(&mut house.act(&["--kill"])).ok();
        held.go_on().exits(137);
        house.nothing_is_left();
        run(&mut house.act(&["--stat"])).exits(125).says("cgroups does not exist");
    }

    #[test]
    fn two_states_may_have_one_name_and_neither_touches_the_other() {
        let [one, mut two] = [House::new(), House::in_these_mounts()];
        two.name.clone_from(&one.name);
        let held = [&one, &two].map(|house| house.hold(&["--pids", "20"], HOLD));
        let places =
            [&one, &two].map(|house| fs::read_to_string(house.record()).expect("a record"));
        assert!(places[0].lines().all(|line| !places[1].contains(line)), "{places:?}");

        // Killed, and with a copy of the other's record in the place of its own.
        let [first, second] = held;
        second.running.kill(libc::SIGKILL);
        second.running.wait();
        run(&mut two.run(["--reclaim"])).ok();
        assert_eq!(two.containers(), [] as [PathBuf; 0]);
        for reclaim in [true, false] {
            let copy = two.record();
            let directory = copy.parent().expect("a directory");
            fs::create_dir_all(directory).expect("a directory");
            chmod(directory, 0o700);
            chmod(two.state().join("containers"), 0o700);
            fs::copy(one.record(), &copy).expect("a copy");
            match reclaim {
                true => run(&mut two.run(["--reclaim"])).ok(),
                false => two.sh(&["--pids", "20"], "true").ok(),
            };
            assert_eq!(two.containers(), [] as [PathBuf; 0]);
            assert!(is_alive(first.processes()[2]));
            assert_eq!(fs::read_to_string(one.record()).expect("a record"), places[0]);
        }
        assert_eq!(first.go_on().ok().out(), "ready\n");
        one.nothing_is_left();
    }

    /// Each of these calls is the last, one after the other: of those that create, and of those that remove.
    #[test]
    fn what_a_run_that_was_killed_at_any_call_has_left_is_reclaimed() {
        let house = House::new();
        let mut killed = 0;
        for (call, options) in [
            ("mkdirat", ["-m", "64M"]),
            ("renameat2", ["-m", "64M"]),
            ("unlinkat", ["--pids", "9"]),
        ] {
            for time in 1.. {
                let dir = TempDir::new();
                let inject = format!("inject={call}:signal=KILL:when={time}");
                let cmd = house.container(&options, &["true"]);
                let output = run(&mut under_strace(
                    &["-e", &format!("trace={call}"), "-e", &inject],
                    &cmd,
                    &dir,
                ));
                let was_killed = output.code != Some(0);
                killed += u32::from(was_killed);
                run(&mut house.run(["--reclaim"])).ok();
                house.nothing_is_left();
                if !was_killed {
                    break;
                }
            }
        }
        assert!(killed > 10, "{killed}");
    }

    #[test]
    fn a_write_that_is_interrupted_is_made_again() {
        let own = Cgroup::new("eintr");
        let dir = TempDir::new();
        let cmd = cgroup(["-m", "64M", &own.0]);
        // strace counts those of each process: the first write of this one is the limit.
        let options = ["-e", "trace=write", "-e", "inject=write:error=EINTR:when=1..3"];
        run(&mut under_strace(&options, &cmd, &dir)).ok();
        let out = run(&mut cgroup(["--stat", &own.0])).ok().out();
        assert!(out.contains("memory.max 67108864\n"), "{out}");
    }

    /// Each kind of call that waits, or that the server of a file system may answer so.
    #[test]
    fn a_call_that_is_interrupted_is_made_again() {
        let dir = TempDir::new();
        let calls = "openat read mkdirat unlinkat fstatfs wait4 rt_sigtimedwait ppoll";
        for call in calls.split(' ') {
            let own = Cgroup::new("interrupted");
            let mut cmd = cgroup(["-m", "64M", "--stay", &own.0, "td-unshare", "--pid"]);
            cmd.args(["--into-cgroup", &own.0, "--remove-cgroup", &own.0, "td-init"]);
            cmd.arg(busybox()).arg("true");
            let options =
                [format!("trace={call}"), format!("inject={call}:error=EINTR:when=1..9+2")];
            let options = ["-e", &*options[0], "-e", &*options[1]];
            run(&mut under_strace(&options, &cmd, &dir)).ok();
            assert!(own.is_gone(), "{call}");
            let interrupted = fs::read_dir(dir.path()).expect("the logs").any(|log| {
                let text = fs::read_to_string(log.expect("a log").path()).expect("its text");
                text.contains("EINTR")
            });
            assert!(interrupted, "{call} was not made");
            fs::read_dir(dir.path()).expect("the logs").for_each(|log| {
                fs::remove_file(log.expect("a log").path()).expect("removed");
            });
        }
    }

    // ---- where cgroups are out of reach ----

    /// `cmd` in a mount namespace that `script` has changed.
    fn where_cgroups_are(script: &str, cmd: &Command) -> Command {
        let mut unshare = Command::new("unshare");
        unshare.args(["-m", "sh", "-c", &format!("{script}; exec \"$@\""), "sh"]).args(words(cmd));
        unshare
    }

    const NOWHERE: &str = "while read -r a b c d point rest; do case $rest in *' - cgroup'*) \
        umount -l \"$point\" || :;; esac; done </proc/self/mountinfo 2>/dev/null";
    const READ_ONLY: &str = "while read -r a b c d point rest; do case $rest in *' - cgroup'*) \
        mount -o remount,bind,ro \"$point\";; esac; done </proc/self/mountinfo";

    #[test]
    fn what_is_not_mounted_is_mounted_nowhere_and_used() {
        let house = House::new();
        for options in [&[][..], &["--pids", "20"]] {
            let mounts = own_mountinfo();
            let cmd = house.container(options, &["sh", "-c", HOLD]);
            let held = hold(&mut where_cgroups_are(NOWHERE, &cmd));
            let all = cgroups::points().len();
            assert_eq!(house.cgroups().len(), all, "{:?}", house.cgroups());
            // The waiting parent has the root of a mount of each open, and none of the step before.
            let [parent, ..] = held.processes();
            let fds = fs::read_dir(format!("/proc/{parent}/fd")).expect("its descriptors");
            let files = fds.filter_map(|fd| fs::read_link(fd.expect("a descriptor").path()).ok());
            let roots = files.filter(|file| file.as_os_str() == "/").count();
            // A hierarchy may be mounted nowhere, and have a line all the same.
            let lines = fs::read_to_string("/proc/self/cgroup").expect("its hierarchies");
            assert!(roots <= lines.lines().count(), "{roots} for {lines}");
            held.go_on().ok();
            house.nothing_is_left();
            assert_eq!(own_mountinfo(), mounts);
        }
    }

    /// `cmd` is refused, and runs without cgroups.
    #[track_caller]
    fn refused_but_for_disabled(says: &str, cmd: impl Fn(&[&str]) -> Command) {
        let output = run(&mut cmd(&[])).exits(125).says(says);
        assert_eq!(output.out(), "");
        output.says("td-run --cgroups disabled creates none");
        assert_eq!(run(&mut cmd(&["--cgroups", "disabled"])).ok().out(), "it runs\n");
    }

    #[test]
    fn cgroups_that_are_read_only_are_refused_and_disabled_is_the_way_out() {
        let house = House::new();
        refused_but_for_disabled("are mounted read-only", |options| {
            where_cgroups_are(READ_ONLY, &house.container(options, &["echo", "it runs"]))
        });
        house.nothing_is_left();
    }

    /// A user who may not mount them cannot check whether the caller's own cgroup belongs to the user; a container
    /// could.
    #[test]
    fn cgroups_that_a_user_cannot_look_at_are_refused_and_disabled_is_the_way_out() {
        for house in House::each_user() {
            let own = Cgroup::new(&format!("unseen-{}", house.name));
            let id = house.who.id();
            refused_but_for_disabled("mounting it takes CAP_SYS_ADMIN", |options| {
                let mut user = Command::new("setpriv");
                user.args([format!("--reuid={id}"), format!("--regid={id}")]).arg("--clear-groups");
                user.args(words(&house.container(options, &["echo", "it runs"])));
                let mut cmd = cgroup(["--pids", "50", &own.0]);
                cmd.args(words(&where_cgroups_are(NOWHERE, &user)));
                cmd.current_dir(house.dir.path());
                cmd
            });
            house.nothing_is_left();
        }
    }

    #[test]
    fn a_cgroup_above_the_root_of_the_namespace_is_refused() {
        let house = House::new();
        let own = Cgroup::new("above");
        // It makes a cgroup namespace there, and leaves that cgroup for the one above.
        let back = format!(
            "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do [ ! -d $d{0} ] || \
            echo 0 >$d/cgroup.procs; done 2>/dev/null; exec \"$@\"",
            own.0
        );
        let mut cmd = cgroup(["--pids", "50", &own.0]);
        cmd.args(["unshare", "-C", "sh", "-c", &back, "sh"]);
        cmd.args(words(&house.container(&[], &["echo", "it runs"])));
        let output = run(&mut cmd).exits(125);
        assert_eq!(output.out(), "");
        output
            .says("this cgroup is outside this cgroup namespace")
            .says("td-run --cgroups disabled");
        house.nothing_is_left();
    }

    #[test]
    fn without_cgroups_goes_neither_a_limit_nor_every_system_call() {
        let house = House::new();
        let refused = |options: &[&str], says: &str| {
            let options = [&["--cgroups", "disabled"], options].concat();
            let output = house.sh(&options, "echo it runs").exits(125).says(says);
            assert_eq!(output.out(), "");
        };
        let needs = "--cgroups disabled cannot be combined with a limit or --cgroup-parent";
        refused(&["-m", "64M"], needs);
        refused(&["--cgroup-parent", "/td"], needs);
        for all in [&["--privileged"][..], &["--security-opt", "seccomp=unconfined"]] {
            refused(all, "the container could change the cgroups of the caller");
        }
        house.sh(&["--cgroups", "none"], "true").exits(125).says("must be enabled or disabled");
        let out = house.sh(&["--cgroups=disabled"], "cat /proc/self/cgroup").ok().out();
        assert!(out.lines().all(|line| line.ends_with(":/")), "{out}");
        house.nothing_is_left();
    }

    mod v1 {
        use super::*;

        #[test]
        fn a_real_time_caller_is_told_what_its_cgroup_has_not() {
            // Where the kernel divides that time up among cgroups: CONFIG_RT_GROUP_SCHED.
            let divided = cgroups::v1("cpu").join("cpu.rt_runtime_us").exists();
            let house = House::new();
            for (option, policy) in [("--fifo", "SCHED_FIFO"), ("--rr", "SCHED_RR")] {
                let mut cmd = Command::new("chrt");
                cmd.args([option, "1"]).args(words(&house.container(&[], &["echo", "it runs"])));
                let output = run(&mut cmd);
                if !divided {
                    assert_eq!(output.ok().out(), "it runs\n");
                    continue;
                }
                let output = output.exits(125).says("EINVAL");
                assert_eq!(output.out(), "");
                let output = output.says(&format!("this process has {policy}, and "));
                output.says("leaf/cpu.rt_runtime_us is 0").says("chrt --other 0");
                house.nothing_is_left();
            }
            let own = Cgroup::new("rt");
            let mut cmd = Command::new("chrt");
            cmd.args(["--fifo", "1"]).args(words(&cgroup(["--cpus", "1", &own.0, "echo", "run"])));
            match divided {
                true => run(&mut cmd).exits(125).says("EINVAL").says("this process has SCHED_FIFO"),
                false => run(&mut cmd).ok(),
            };
        }
    }

    mod v2 {
        use super::*;

        #[test]
        fn what_version_2_does_not_count_is_said_and_a_parent_has_it_counted() {
            let house = House::new();
            let own = Cgroup::new("count");
            let in_own = |options: &[&str]| {
                let mut cmd = cgroup([&*own.0]);
                cmd.args(words(&house.container(options, &["sh", "-c", HOLD])));
                hold(&mut cmd)
            };
            let held = in_own(&[]);
            let stat = run(&mut house.act(&["--stat"])).exits(0);
            assert!(!stat.out().contains("memory.current"), "{stat}");
            stat.says("are not counted").says("passes no controllers down").says("--cgroup-parent");
            held.go_on().ok();
            house.nothing_is_left();

            let held = in_own(&["--cgroup-parent", "/td"]);
            let out = run(&mut house.act(&["--stat"])).ok().out();
            for key in ["memory.current ", "pids.current 2\n", "cpu.usage_usec "] {
                assert!(out.contains(key), "{key}: {out}");
            }
            held.go_on().ok();
            house.nothing_is_left();
            drop(own);
            // The root passes them down to all.
            let held = house.hold(&[], HOLD);
            let out = run(&mut house.act(&["--stat"])).ok().out();
            assert!(out.contains("memory.current ") && out.contains("pids.current 2\n"), "{out}");
            held.go_on().ok();
        }
    }
}
