//! A cgroup that is frozen, on version 1 and version 2: who enters it would stop for ever, and who waits would be deaf.

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use common::*;

mod root {
    use super::common::cgroups::{Cgroup, cgroup, points};
    use super::common::house::{HOLD, House};
    use super::*;

    /// A hierarchy that can freeze: where it is mounted, and whether it is version 2.
    struct Freezer(PathBuf, bool);

    impl Freezer {
        /// All that this machine has.
        #[track_caller]
        fn all() -> Vec<Freezer> {
            let can = |kind: &str, options: &[String]| {
                kind == "cgroup2" || options.iter().any(|option| option == "freezer")
            };
            let found: Vec<Freezer> = points()
                .into_iter()
                .filter(|(_, kind, options)| can(kind, options))
                .map(|(point, kind, _)| Freezer(point, kind == "cgroup2"))
                .collect();
            assert!(!found.is_empty(), "no cgroup can be frozen here");
            found
        }

        fn directory(&self, name: &str) -> PathBuf {
            self.0.join(&name[1..])
        }

        /// Make a cgroup, in this hierarchy alone.
        #[track_caller]
        fn make(&self, name: &str) {
            fs::create_dir_all(self.directory(name)).expect("a cgroup");
        }

        /// Freeze or thaw one, and wait until all in it are.
        #[track_caller]
        fn freeze(&self, name: &str, frozen: bool) {
            let directory = self.directory(name);
            let (file, values) = match self.1 {
                true => ("cgroup.freeze", ["0", "1"]),
                false => ("freezer.state", ["THAWED", "FROZEN"]),
            };
            fs::write(directory.join(file), values[usize::from(frozen)]).expect("frozen");
            wait_for("it to be so", || (self.is_frozen(name) == frozen).then_some(()));
        }

        fn is_frozen(&self, name: &str) -> bool {
            let file = if self.1 { "cgroup.events" } else { "freezer.state" };
            let text = fs::read_to_string(self.directory(name).join(file)).expect("its state");
            text.contains("frozen 1") || text.starts_with("FROZEN")
        }

        /// Move a process to a cgroup, or with `/` to the root.
        #[track_caller]
        fn enter(&self, name: &str, pid: i32) {
            let procs = self.directory(name).join("cgroup.procs");
            fs::write(procs, pid.to_string()).expect("moved");
        }
    }

    /// A command that ends by itself says that the cgroup `frozen` is so, with a way out that is taken.
    #[track_caller]
    fn refuses(cmd: &mut Command, frozen: &str) {
        let output =
            run(cmd).exits(125).says(&format!("{frozen} is frozen: no process in it runs"));
        assert_eq!(output.out(), "", "PROG has run");
        output.says(&format!("td-cgroup --thaw {frozen}\n"));
    }

    #[test]
    fn a_cgroup_that_is_frozen_is_refused_and_the_way_out_works() {
        for freezer in Freezer::all() {
            let own = Cgroup::new("frozen");
            let inside = own.below("a/b");
            // In version 2 as well, which is what td-cgroup would thaw first.
            run(&mut cgroup(["--stay", &inside, "true"])).ok();
            freezer.make(&inside);
            let before = own.found();
            let above = own.below("a");
            for frozen in [&inside, &above, &own.0] {
                let prog = ["echo", "run"];
                let into = ["--into-cgroup", &inside];
                let ways = || {
                    let unshare = |options: &[&str]| {
                        let mut cmd = td("td-unshare", options);
                        cmd.args(into).args(prog);
                        cmd
                    };
                    [
                        cgroup([&inside].into_iter().map(String::as_str).chain(prog)),
                        cgroup(["--leaf", "leaf", &inside].into_iter().chain(prog)),
                        unshare(&[]),
                        unshare(&["--pid", "--pid-file", "/tmp/td-test-frozen-pid"]),
                    ]
                };
                freezer.freeze(frozen, true);
                ways().iter_mut().for_each(|cmd| refuses(cmd, frozen));
                assert_eq!(own.found(), before);
                run(&mut cgroup(["--thaw", frozen])).ok();
                for mut cmd in ways() {
                    assert_eq!(run(&mut cmd).ok().out(), "run\n");
                }
                let leaf = own.below("a/b/leaf");
                run(&mut cgroup(["--remove", &leaf])).ok();
            }
        }
    }

    /// What freezes may lie above all that is mounted.
    #[test]
    fn a_cgroup_that_is_frozen_from_above_what_is_mounted_is_refused() {
        private_mounts();
        for freezer in Freezer::all() {
            let own = Cgroup::new("frozenabove");
            freezer.make(&own.below("part/a"));
            let part = freezer.directory(&own.below("part"));
            let dir = TempDir::new();
            let kept = dir.dir("kept");
            mount(["--bind", text(&part), text(&kept)]);
            freezer.freeze(&own.0, true);
            run(Command::new("umount").arg(&freezer.0)).ok();
            let output = run(&mut td("td-unshare", ["--into-cgroup", "/a", "echo", "run"]));
            mount(["--bind", text(&kept), text(&freezer.0)]); // the test's own look, and its end
            let says = format!("{} is frozen: no process in it runs", kept.display());
            let output = output.exits(125).says(&says);
            assert_eq!(output.says("thaw it from outside").out(), "");
            run(Command::new("umount").arg(&freezer.0)).ok();
            let (kind, options) = if freezer.1 { ("cgroup2", "rw") } else { ("cgroup", "freezer") };
            mount(["-t", kind, "-o", options, "cgroup", text(&freezer.0)]);
            freezer.freeze(&own.0, false);
        }
    }

    /// Start `td-unshare ARG... --into-cgroup NAME PROG...`, under a tracer that keeps it from forking for some
    /// seconds.
    fn delayed(dir: &TempDir, options: &[&str], name: &str) -> Running {
        let file = dir.file("trace", "");
        let mut cmd = Command::new("strace");
        cmd.args(["-f", "-o", text(&file), "-e", "trace=pidfd_open,clone3"]);
        cmd.args(["-e", "inject=clone3:delay_enter=3000000:when=1"]).arg(bin("td-unshare"));
        let running = start(cmd.args(options).args(["--into-cgroup", name, "sleep", "1000"]));
        wait_for("it to be about to fork", || {
            fs::read_to_string(&file).is_ok_and(|text| text.contains("pidfd_open(")).then_some(())
        });
        running
    }

    #[test]
    fn a_child_that_is_frozen_before_it_is_prog_leaves_its_parent_to_signals() {
        for freezer in Freezer::all() {
            let own = Cgroup::new("frozencreated");
            let dir = TempDir::new();
            freezer.make(&own.0);
            let pid_file = dir.join("pid");
            // With a file to write the parent waits for a word of the child's first.
            for options in [&["--pid", "--pid-file", text(&pid_file)][..], &["--pid"]] {
                let strace = delayed(&dir, options, &own.0);
                freezer.freeze(&own.0, true);
                let parent = wait_for("the parent", || children_of(strace.pid()).first().copied());
                let child = wait_for("the child", || children_of(parent).first().copied());
                wait_for("it to be frozen there", || {
                    let procs = fs::read_to_string(freezer.directory(&own.0).join("cgroup.procs"));
                    let is_in =
                        procs.expect("a cgroup").lines().any(|pid| pid == child.to_string());
                    (is_in && freezer.is_frozen(&own.0)).then_some(())
                });
                assert!(is_alive(parent));
                kill(parent, libc::SIGTERM);
                assert!(ended_within(parent, LIMIT), "it is deaf");
                freezer.freeze(&own.0, false);
                let output = strace.wait();
                let output = output.says(&format!("process {child} is killed"));
                let output = output.says(&format!("{} is frozen: no process in it runs", own.0));
                let output = output.says(&format!("td-cgroup --thaw {}", own.0));
                let before_prog = options.len() > 1;
                match (freezer.1, before_prog) {
                    (true, false) => {
                        assert!([Some(125), Some(143)].contains(&output.code), "{output}")
                    }
                    (true, true) => drop(output.exits(125)),
                    (false, _) => {
                        let says = format!("process {child} dies when it is thawed");
                        output.exits(125).says(&says);
                    }
                }
                assert!(ended_within(child, LIMIT), "it dies when it is thawed");
                let _ = fs::remove_file(&pid_file);
                run(&mut cgroup(["--wait-empty", &own.0])).ok();
            }
        }
    }

    #[test]
    fn td_enter_refuses_a_frozen_container_and_its_parent_is_not_deaf_in_one() {
        for freezer in Freezer::all() {
            let house = House::new();
            let held = house.hold(&[], HOLD);
            let first = held.processes()[1];
            // The container's own, above the leaf.
            let cgroups = fs::read_to_string(format!("/proc/{first}/cgroup")).expect("its cgroups");
            let field = if freezer.1 { "0::" } else { ":freezer:" };
            let name = cgroups.lines().find_map(|line| Some(line.split_once(field)?.1));
            let name =
                name.and_then(|name| name.strip_suffix("/leaf")).expect("a leaf").to_string();
            let enter = |prog: &[&str]| {
                let mut cmd = td("td-enter", ["--state"]);
                cmd.arg(house.state()).args(["--name", &house.name]).args(prog);
                cmd
            };
            freezer.freeze(&name, true);
            refuses(&mut enter(&["echo", "run"]), &name);
            let pid = first.to_string();
            let join = ["-t", &pid, "-p", "--join-cgroup", "echo", "run"];
            refuses(&mut td("td-enter", join), &name);
            run(&mut cgroup(["--thaw", &name])).ok();
            assert_eq!(run(&mut enter(&["echo", "run"])).ok().out(), "run\n");

            let entered = start(&mut enter(&["sh", "-c", "echo in; exec sleep 1000"]));
            entered.prints("in");
            let prog = children_of(entered.pid())[0];
            freezer.freeze(&name, true);
            entered.kill(libc::SIGTERM);
            assert!(ended_within(entered.pid(), LIMIT), "it is deaf");
            freezer.freeze(&name, false);
            let output = entered.wait().says(&format!("{name} is frozen: no process in it runs"));
            // The first signal is there as well.
            let ended = if freezer.1 { [137, 143] } else { [125; 2] };
            assert!(ended.map(Some).contains(&output.code), "{output}");
            assert!(ended_within(prog, LIMIT), "it dies when it is thawed");
            held.go_on().ok();
            house.nothing_is_left();
        }
    }

    /// As docker does it: the container goes on, and with the signal.
    #[test]
    fn a_signal_to_td_run_thaws_its_frozen_container_which_ends_as_it_likes() {
        let house = House::new();
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
            let trap = format!(
                "trap 'echo told; exit 3' {signal}; echo ready; while :; do sleep 0.01; done"
            );
            let running = start(&mut house.container(&[], &["sh", "-c", &trap]));
            running.prints("ready");
            run(&mut house.act(&["--freeze"])).ok();
            running.kill(signal);
            assert_eq!(running.wait().exits(3).out(), "ready\ntold\n");
            house.nothing_is_left();
        }
    }

    /// Start a container below a cgroup of the test's own that td-run itself has left by now, and freeze that cgroup.
    #[track_caller]
    fn frozen_above(freezer: &Freezer, house: &House, own: &Cgroup) -> Running {
        freezer.make(&own.0);
        let enter =
            format!("echo $$ >{}/cgroup.procs; exec \"$@\"", freezer.directory(&own.0).display());
        let container = house.container(&[], &["sh", "-c", "echo ready; exec sleep 1000"]);
        let running = start(sh(&enter).arg("sh").args(words(&container)));
        running.prints("ready");
        freezer.enter("/", running.pid());
        freezer.freeze(&own.0, true);
        running
    }

    #[test]
    fn a_signal_to_td_run_ends_it_where_a_cgroup_above_the_container_is_frozen() {
        for freezer in Freezer::all() {
            let (house, own) = (House::new(), Cgroup::new("frozenrun"));
            let running = frozen_above(&freezer, &house, &own);
            let first = children_of(running.pid())[0];
            running.kill(libc::SIGTERM);
            assert!(ended_within(running.pid(), LIMIT), "it is deaf");
            let frozen = format!("{} is frozen: no process in it runs", own.0);
            if freezer.1 {
                let output = running.wait().says(&frozen);
                assert!([Some(137), Some(143)].contains(&output.code), "{output}");
            } else {
                // What is in the way of the next run is said as well.
                house.sh(&[], "echo never").exits(125).says(&frozen);
                freezer.freeze(&own.0, false);
                let output = running.wait().exits(125).says(&frozen);
                output.says(&format!(
                    "process {first} dies when it is thawed; until then nothing is removed"
                ));
                assert!(ended_within(first, LIMIT));
                assert_eq!(house.sh(&[], "echo works").ok().out(), "works\n");
            }
            house.nothing_is_left();
        }
    }

    mod v1 {
        use super::*;

        #[test]
        fn a_frozen_cgroup_keeps_nobody_out_of_one_that_is_in_another_hierarchy_alone() {
            let freezer = Freezer::all().into_iter().find(|freezer| !freezer.1);
            let freezer = freezer.expect("the freezer of version 1");
            let own = Cgroup::new("elsewhere");
            let inside = own.below("a");
            let other = points().into_iter().find(|(point, kind, options)| {
                kind == "cgroup" && *point != freezer.0 && options.iter().any(|o| o == "pids")
            });
            let (other, ..) = other.expect("the hierarchy of pids");
            fs::create_dir_all(other.join(&inside[1..])).expect("a cgroup");
            freezer.make(&own.0);
            freezer.freeze(&own.0, true);
            let output = run(&mut td("td-unshare", ["--into-cgroup", &inside, "echo", "run"]));
            assert_eq!(output.ok().out(), "run\n");
            freezer.freeze(&own.0, false);
        }
    }

    #[test]
    fn kill_says_what_keeps_processes_of_version_1_from_dying() {
        for freezer in Freezer::all() {
            let own = Cgroup::new("frozenkill");
            let below = own.below("a");
            freezer.make(&below);
            let running = start(Command::new("sleep").arg("1000"));
            freezer.enter(&below, running.pid());
            freezer.freeze(&own.0, true);
            let output = run(&mut cgroup(["--kill", &below]));
            freezer.freeze(&own.0, false);
            match freezer.1 {
                true => drop(output.ok()),
                false => {
                    let output = output.exits(125).says(" still has processes: ");
                    output.says(&format!("td-cgroup --thaw {}", own.0));
                }
            }
            assert_eq!(running.wait().signal, Some(libc::SIGKILL));
        }
    }
}
