//! Attacks: what hostile code inside a container tries, and what bad luck does to a clean-up.

mod common;

mod root {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::process::Command;

    use crate::common::house::{HOLD, Held, House, hierarchies, hold};
    use crate::common::*;

    /// Run a script in a container as td-run makes it by default.
    #[track_caller]
    fn inside(name: &str, script: &str) -> String {
        private_mounts();
        let dir = TempDir::new();
        image(&dir.dir("images/default"));
        let mut cmd = std::process::Command::new(bin("td-run"));
        cmd.arg("--state").arg(dir.path()).args([name, "sh", "-c", script]);
        run(cmd.env("SECRET", "of the host")).ok().out()
    }

    /// Its memory has copies of the host's environment.
    #[test]
    fn root_in_a_container_can_neither_read_nor_trace_pid_1() {
        let script = "for f in mem maps environ exe root cwd fd/0; do \
            { head -c 1 /proc/1/$f || readlink /proc/1/$f; } 2>/dev/null && echo $f; \
            { echo >>/proc/1/$f; } 2>/dev/null && echo write $f; done; \
            readlink /proc/$$/exe; cat /proc/1/comm";
        assert_eq!(inside("attack-pid-1", script), "/bin/busybox\ntd-init\n");
    }

    /// What removes it is in no cgroup of the container.
    #[test]
    fn a_directory_of_many_files_is_removed_with_little_memory() {
        private_mounts();
        let dir = TempDir::new();
        let tree = dir.dir("tree");
        for n in 0..20000 {
            fs::File::create(tree.join(format!("{n:0>250}"))).expect("a file");
        }
        let mut cmd = sh("ulimit -v 4000; exec \"$0\" --remove \"$1\" \"$2\" true");
        run(cmd.arg(bin("td-unshare")).arg(&tree).arg(busybox())).ok();
        assert!(!tree.exists());
    }

    /// Else root on the host removes a tree in which hostile code is still at work.
    #[test]
    fn nothing_is_cleaned_up_before_the_child_is_dead() {
        private_mounts();
        let dir = TempDir::new();
        let (tree, log) = (dir.dir("tree"), dir.join("log"));
        let mut cmd = std::process::Command::new("strace");
        cmd.args(["-f", "-e", "inject=rt_sigtimedwait:error=EIO", "-o"]).arg(&log);
        cmd.arg(bin("td-unshare")).args(["--pid", "--remove"]).arg(&tree).args(["sleep", "1000"]);
        run(&mut cmd).exits(125).says("rt_sigtimedwait");
        assert!(!tree.exists());
        let log = fs::read_to_string(log).expect("the log");
        let line = |text: &str| log.lines().position(|line| line.contains(text)).expect(text);
        assert!(line("killed by SIGKILL") < line("unlinkat("), "{log}");
    }

    // ---- cgroups, from a user and a cgroup namespace of the container's own ----

    /// In new user, mount and cgroup namespaces: mount each hierarchy that the kernel lists, and version 2, on
    /// /tmp/NUMBER; print a line `CONTROLLERS INODE` of the root of each; then do what `$1` says there.
    const MOUNT_ALL: &str = "n=0
        { cat /proc/self/cgroup; echo 0::; } | while IFS=: read -r id controllers path; do
            n=$((n + 1)) type=cgroup; mkdir /tmp/$n
            [ $controllers ] || type=cgroup2
            mount -t $type ${controllers:+-o $controllers} cg /tmp/$n 2>/dev/null || continue
            cd /tmp/$n; echo root ${controllers:-2} $(stat -c %i .); eval \"$1\"; cd /
        done";

    /// The container runs this, and goes on when it is told to.
    fn attack(house: &House, options: &[&str], act: &str) -> Held {
        hold(&mut attack_command(house, options, act))
    }

    fn attack_command(house: &House, options: &[&str], act: &str) -> Command {
        let volume = format!("{}:/td:ro", house.bin("td-unshare").parent().expect("bin").display());
        let script = format!(
            "/td/td-unshare -rmC sh -c '{}' sh '{act}'; {HOLD}",
            MOUNT_ALL.replace('\'', "'\\''")
        );
        let unconfined = ["--security-opt", "seccomp=unconfined", "-v", &volume];
        house.container(&[options, &unconfined].concat(), &["sh", "-c", &script])
    }

    /// The roots that the attack has seen: controllers and inodes.
    fn roots(out: &str) -> BTreeMap<String, u64> {
        let words = out.lines().filter_map(|line| line.strip_prefix("root ")?.split_once(' '));
        words.map(|(name, inode)| (name.into(), inode.parse().expect("an inode"))).collect()
    }

    /// The controllers of each hierarchy, `2` for version 2, and the cgroup of a process in it.
    fn cgroups_of(pid: i32) -> BTreeMap<String, String> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroups");
        let fields = text.lines().map(|line| line.splitn(3, ':').collect::<Vec<_>>());
        let key = |name: &str| if name.is_empty() { "2".into() } else { String::from(name) };
        fields.map(|fields| (key(fields[1]), fields[2].into())).collect()
    }

    /// Where the machine has the hierarchies mounted.
    fn point(controllers: &str) -> Option<std::path::PathBuf> {
        let has =
            |options: &[String]| controllers.split(',').all(|c| options.iter().any(|o| o == c));
        let is_it = |kind: &str, options: &[String]| match controllers {
            "2" => kind == "cgroup2",
            _ => kind == "cgroup" && has(options),
        };
        let all = cgroups::points();
        all.into_iter().find(|(_, kind, options)| is_it(kind, options)).map(|(point, ..)| point)
    }

    /// In each hierarchy COMMAND is in a leaf of the container's, which is all that a nested cgroup namespace shows.
    #[test]
    fn a_container_of_roots_sees_nothing_but_its_leaf_of_every_hierarchy() {
        let house = House::new();
        for options in [&[][..], &["--pids", "30"], &["-m", "64M", "--cpus", "1"]] {
            let held = attack(&house, options, ":");
            let cgroups = cgroups_of(held.processes()[2]);
            let leaf = format!("{}/leaf", house.below(""));
            assert!(cgroups.values().all(|cgroup| cgroup.ends_with(&leaf)), "{cgroups:?}");
            assert!(cgroups.contains_key("2"), "{cgroups:?}");
            let roots = roots(&held.running.out());
            assert_eq!(roots.keys().collect::<Vec<_>>(), cgroups.keys().collect::<Vec<_>>());
            for (controllers, inode) in roots {
                let Some(point) = point(&controllers) else { continue };
                let leaf = point.join(&cgroups[&controllers][1..]);
                assert_eq!(fs::metadata(&leaf).expect("the leaf").ino(), inode, "{controllers}");
            }
            held.go_on().ok();
            house.nothing_is_left();
        }
    }

    /// Freezes, throttles, takes memory, and leaves cgroups: all of it is the container's own.
    #[test]
    fn what_a_container_does_to_what_it_sees_of_cgroups_harms_nobody_else() {
        let house = House::new();
        let outside = start(Command::new("sleep").arg("1000"));
        let held = attack(
            &house,
            &["--pids", "30"],
            "mkdir -p a/b; for f in pids.max memory.limit_in_bytes memory.max; do echo 9999999 >$f; done;
             echo 1000 >cpu.cfs_quota_us; echo $$ >a/cgroup.procs; echo FROZEN >a/b/freezer.state;
             echo 1 >a/b/cgroup.freeze; echo 1 >cgroup.subtree_control; ls -d a/b 2>/dev/null || :",
        );
        assert!(
            held.running.out().contains("a/b"),
            "it has done something: {}",
            held.running.out()
        );
        assert_eq!(cgroups::read(&house.below("/td"), "pids.max"), "30");
        let state = status_of(outside.pid(), "State");
        assert!(state.starts_with('S'), "{state}");
        for (controllers, cgroup) in cgroups_of(outside.pid()) {
            let Some(point) = point(&controllers) else { continue };
            let own = point.join(&cgroup[1..]);
            assert!(!own.join("a").exists(), "{}", own.display());
            let frozen = fs::read_to_string(own.join("freezer.state")).unwrap_or("THAWED".into());
            assert_eq!(frozen.trim(), "THAWED");
        }
        held.go_on().exits(0);
        house.nothing_is_left();
    }

    /// Freeze all that is in the leaf, or in a cgroup below it, wherever a hierarchy can do that.
    const FREEZE: &str = "[ ! -e freezer.state ] || echo FROZEN >freezer.state;
        [ ! -e cgroup.freeze ] || echo 1 >cgroup.freeze";
    const FREEZE_BELOW: &str = "mkdir -p a; for p in 1 2; do echo $p >a/cgroup.procs; done; cd a;";

    /// Start a container that freezes itself, and wait until it has.
    fn frozen(house: &House, act: &str) -> Running {
        let volume = format!("{}:/td:ro", house.bin("td-unshare").parent().expect("bin").display());
        let mounts = MOUNT_ALL.replace('\'', "'\\''");
        let script = format!("/td/td-unshare -rmC sh -c '{mounts}' sh '{act}'; exit 7");
        let running = start(&mut house.container(
            &["--security-opt", "seccomp=unconfined", "-v", &volume],
            &["sh", "-c", &script],
        ));
        wait_for("the container to be frozen", || {
            assert!(is_alive(running.pid()), "{}{}", running.out(), running.err());
            let all = house.cgroups();
            let says = |file: &str, text: &str| {
                let tree = all.iter().flat_map(|dir| [dir.join("leaf"), dir.join("leaf/a")]);
                tree.filter_map(|dir| fs::read_to_string(dir.join(file)).ok())
                    .any(|read| read.contains(text))
            };
            (says("freezer.state", "FROZEN") || says("cgroup.events", "frozen 1")).then_some(())
        });
        running
    }

    #[test]
    fn a_container_that_has_frozen_itself_is_ended_by_a_signal_to_td_run() {
        let house = House::new();
        for act in [FREEZE.to_string(), format!("{FREEZE_BELOW} {FREEZE}")] {
            let running = frozen(&house, &act);
            // Once more where it freezes the next hierarchy after that.
            while !ended_within(running.pid(), std::time::Duration::from_millis(500)) {
                running.kill(libc::SIGTERM);
            }
            let ended = running.wait();
            let ends = [libc::SIGTERM, libc::SIGKILL].map(|signal| Some(128 + signal));
            assert!(ends.contains(&ended.code), "{ended}");
            house.nothing_is_left();
        }
    }

    #[test]
    fn a_container_that_was_frozen_when_td_run_was_killed_is_ended_by_the_next_run_and_by_reclaim()
    {
        let house = House::new();
        for reclaim in [false, true] {
            let running = frozen(&house, FREEZE);
            running.kill(libc::SIGKILL);
            assert!(ended_within(running.pid(), LIMIT));
            match reclaim {
                true => run(&mut house.run(["--reclaim"])).ok(),
                false => house.sh(&[], "true").ok(),
            };
            house.nothing_is_left();
            running.wait(); // those who were frozen have held its pipes
        }
    }

    // ---- an ordinary user, who may write to no cgroup but what is his own ----

    /// Whatever namespaces it makes, a process has no more rights over cgroups than the user.
    #[test]
    fn a_users_container_can_change_no_cgroup_that_is_not_the_users() {
        for house in House::each_user() {
            let act = "mkdir x && echo made; for f in freezer.state cgroup.procs tasks cgroup.freeze \
                cpu.shares memory.limit_in_bytes pids.max notify_on_release; do \
                { true >>$f; } 2>/dev/null && echo open $f; done; :";
            let held = attack(&house, &[], act);
            let out = held.running.out();
            let seen = roots(&out).len();
            assert!(seen > 0 && seen >= hierarchies().len(), "it has mounted them: {out}");
            assert!(!out.contains("made") && !out.contains("open"), "{out}");
            assert_eq!(house.cgroups(), [] as [std::path::PathBuf; 0]);
            held.go_on().exits(0);
            house.nothing_is_left();
        }
    }

    /// Where the caller's own cgroup is the user's, the container gets one below it.
    #[test]
    fn a_users_container_sees_nothing_but_its_leaf_where_a_cgroup_is_the_users() {
        for house in House::each_user() {
            let id = house.who.id();
            let own = cgroups::Cgroup::new(&format!("own-{}", house.name));
            let given = format!("{id}:{id}");
            let limits = ["--pids", "40", "--delegate", &given, "--leaf", "shell", &own.0];
            let held = hold(&mut run_in(&house, &limits, &attack_command(&house, &[], ":")));
            let cgroups = cgroups_of(held.processes()[2]);
            let roots = roots(&held.running.out());
            let mut leaves = 0;
            for (controllers, cgroup) in &cgroups {
                if !cgroup.starts_with(&own.0) {
                    continue;
                }
                leaves += 1;
                assert_eq!(*cgroup, format!("{}/leaf", house.below(&own.below("shell"))));
                if let Some(point) = point(controllers) {
                    let leaf = fs::metadata(point.join(&cgroup[1..])).expect("the leaf");
                    assert_eq!(roots[controllers], leaf.ino(), "{controllers}");
                }
            }
            assert!(leaves > 0, "{cgroups:?}");
            held.go_on().ok();
            house.nothing_is_left();
        }
    }

    /// The command of a container, in a cgroup that td-cgroup makes with these options.
    fn run_in(house: &House, limits: &[&str], container: &Command) -> Command {
        let id = house.who.id();
        let mut cmd = cgroups::cgroup(limits);
        cmd.arg("setpriv").args([format!("--reuid={id}"), format!("--regid={id}")]);
        cmd.arg("--clear-groups").args(words(container)).current_dir(house.dir.path());
        cmd
    }
}
