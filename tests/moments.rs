//! At any moment a process of a container is killed, a signal arrives, the disk is full, or others start.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::house::House;
use common::*;

/// How often each kind of process is killed, and each signal sent.
const TIMES: u32 = 200;

/// Nothing lives on: COMMAND would, for 1000 seconds, and what ends at once takes less than ten on a machine that is
/// slow. The mounts of the host are as they were; the next run works and leaves nothing. Returns how long the
/// processes lived on.
#[track_caller]
fn all_is_well(house: &House, what: &str, mounts: &str, since: Instant) -> Duration {
    wait_for("the end of the container", || house.processes().is_empty().then_some(()));
    let lived = since.elapsed();
    assert!(lived < Duration::from_secs(10), "{what}: the container lived on for {lived:?}");
    assert_eq!(own_mountinfo(), mounts, "{what}: a mount is left");
    house.sh(&[], "echo works").ok();
    house.nothing_is_left();
    lived
}

mod root {
    use super::*;

    /// Start containers, each for some milliseconds of work, and kill one process of each at a random
    /// moment: the one that `whom` names, when it is there.
    #[track_caller]
    fn kill_many(what: &str, options: &[&str], whom: impl Fn(i32) -> Option<i32>) {
        let house = House::new();
        let mounts = own_mountinfo();
        let mut chance = Chance::new();
        let longest = (0..TIMES).map(|time| {
            let work = ["sh", "-c", "for i in 1 2 3; do echo $i >/file; done; sleep 1000"];
            let container = start(&mut house.container(options, &work));
            // What is to be killed may be gone, or yet to come, at the moment that chance has chosen.
            let victim = wait_for(what, || whom(container.pid()));
            chance.sleep(25_000);
            let since = Instant::now();
            kill(victim, libc::SIGKILL);
            let what = format!("{what} killed, time {time}");
            // A process that is ending shows no command line any more, and holds its lock a moment longer.
            container.wait();
            all_is_well(&house, &what, &mounts, since)
        });
        println!("{what}: at most {:?}", longest.max());
    }

    #[test]
    fn td_run_or_the_waiting_parent_is_killed_at_any_moment() {
        kill_many("td-run", &[], Some);
    }

    #[test]
    fn process_1_is_killed_at_any_moment() {
        kill_many("process 1", &[], |parent| children_of(parent).first().copied());
    }

    #[test]
    fn the_command_is_killed_at_any_moment() {
        let command = |parent| children_of(*children_of(parent).first()?).first().copied();
        kill_many("COMMAND", &[], command);
    }

    #[test]
    fn a_container_that_keeps_its_layer_is_killed_at_any_moment_and_the_layer_stays() {
        let house = House::new();
        house.sh(&["--keep"], "echo old >/kept").ok();
        let mounts = own_mountinfo();
        let mut chance = Chance::new();
        for time in 0..TIMES {
            let container = start(&mut house.container(&["--keep"], &["sleep", "2"]));
            chance.sleep(30_000);
            container.kill(libc::SIGKILL);
            container.wait();
            // At once: what is still dying is waited for.
            assert_eq!(house.sh(&["--keep"], "cat /kept").ok().out(), "old\n", "time {time}");
        }
        assert_eq!(own_mountinfo(), mounts);
        assert_eq!(house.cgroups(), [] as [std::path::PathBuf; 0]);
    }

    #[test]
    fn a_signal_at_any_moment_ends_the_container_as_the_command_says() {
        let house = House::new();
        let mounts = own_mountinfo();
        let mut chance = Chance::new();
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            let trap = format!("trap 'exit 3' {signal}; echo ready; sleep 1000 & wait");
            for time in 0..TIMES {
                let container = start(&mut house.container(&[], &["sh", "-c", &trap]));
                chance.sleep(40_000);
                let since = Instant::now();
                let ready = container.out().contains("ready");
                container.kill(signal);
                let ended = container.wait();
                let what = format!("signal {signal}, time {time}: {ended}");
                // Before there is one who waits, the signal ends td-run itself.
                let ended_by = (ended.code, ended.signal);
                let expected = match ready {
                    true => ended_by == (Some(3), None),
                    false => [(Some(3), None), (Some(128 + signal), None), (None, Some(signal))]
                        .contains(&ended_by),
                };
                assert!(expected, "{what}");
                all_is_well(&house, &what, &mounts, since);
            }
        }
    }

    /// As by Ctrl-Z and fg, a debugger, or a batch system: one process of the run, which goes on as if nothing had
    /// been.
    #[test]
    fn a_process_is_stopped_and_continued_at_any_moment_and_nothing_is_left() {
        let house = House::new();
        let mounts = own_mountinfo();
        let mut chance = Chance::new();
        let mut hit = [0; 3];
        for time in 0..TIMES {
            // A limit of memory is what a signal interrupts.
            let options = ["-m", "64M", "--pids", "20"];
            let work = ["sh", "-c", "for i in 1 2 3; do echo $i >/file; done; echo done; exit 7"];
            let container = start(&mut house.container(&options, &work));
            let whom = chance.below(3) as usize;
            chance.sleep(40_000);
            let mut victim = container.pid();
            for _ in 0..whom {
                victim = children_of(victim).first().copied().unwrap_or(victim);
            }
            // It may have ended by now, and is not reaped by us unless it is td-run.
            // SAFETY: numbers.
            let send = |signal| unsafe { libc::kill(victim, signal) == 0 };
            if send(libc::SIGSTOP) {
                let state = || {
                    let status = fs::read_to_string(format!("/proc/{victim}/stat")).ok()?;
                    status.rsplit(") ").next()?.chars().next()
                };
                let stopped = wait_for("it to stop or end", || match state() {
                    Some('T') => Some(true),
                    None | Some('Z' | 'X') => Some(false),
                    _ => None,
                });
                hit[whom] += usize::from(stopped);
                send(libc::SIGCONT);
            }
            let ended = container.wait();
            assert_eq!(
                (ended.code, ended.out(), ended.err()),
                (Some(7), "done\n".into(), String::new()),
                "{time}"
            );
            assert_eq!(own_mountinfo(), mounts, "{time}");
            house.nothing_is_left();
        }
        assert!(hit.iter().all(|hit| *hit > 0), "too few were stopped: {hit:?}");
    }

    #[test]
    fn fifty_names_started_together_all_end_right() {
        let house = House::new();
        for time in 0..20 {
            let names: Vec<String> = (0..50).map(|i| format!("{}-{i}", house.name)).collect();
            let started = names.iter().map(|name| {
                start(house.run(["--pids", "8"]).args([name, "sh", "-c", "hostname; exit 7"]))
            });
            let started: Vec<Running> = started.collect();
            for (name, running) in names.iter().zip(started) {
                let output = running.wait().exits(7);
                assert_eq!(
                    (output.out(), output.err()),
                    (format!("{name}\n"), String::new()),
                    "{time}"
                );
                assert_eq!(common::house::cgroups(name), [] as [std::path::PathBuf; 0]);
            }
            house.nothing_is_left();
        }
    }

    #[test]
    fn fifty_of_one_name_started_together_run_or_are_told_who_runs() {
        let house = House::new();
        let mut raced = 0;
        for time in 0..20 {
            let command = || start(&mut house.container(&[], &["sh", "-c", "sleep 0.1; exit 7"]));
            let started: Vec<Running> = (0..50).map(|_| command()).collect();
            let pids: Vec<i32> = started.iter().map(Running::pid).collect();
            let outputs: Vec<Output> = started.into_iter().map(Running::wait).collect();
            let (ran, refused): (Vec<&Output>, Vec<&Output>) =
                outputs.iter().partition(|output| output.code == Some(7));
            assert!(!ran.is_empty() && ran.iter().all(|output| output.stderr.is_empty()), "{time}");
            raced += refused.len();
            for output in refused {
                assert_eq!(output.code, Some(125), "{output}");
                let err = output.err();
                let holder = err.split("is locked by process ").nth(1).expect(&err);
                let holder = holder.split(' ').next().and_then(|pid| pid.trim().parse().ok());
                assert!(holder.is_some_and(|pid: i32| pids.contains(&pid)), "{output}");
            }
            house.nothing_is_left();
        }
        assert!(raced > 0, "no two of them met");
    }

    #[test]
    fn a_second_run_of_a_name_changes_nothing_of_the_first() {
        let house = House::new();
        let held = house.hold(&["-m", "64M"], common::house::HOLD);
        let before = common::house::tree(&house.state());
        let limit = |house: &House| -> Vec<String> {
            let files = house.cgroups().into_iter().map(|dir| dir.join("memory.limit_in_bytes"));
            files.filter_map(|file| fs::read_to_string(file).ok()).collect()
        };
        let limits = limit(&house);
        let text = format!("is locked by process {} (td-unshare)", held.running.pid());
        house.sh(&["-m", "32M"], "echo never").exits(125).says(&text);
        assert_eq!(common::house::tree(&house.state()), before);
        assert_eq!(limit(&house), limits);
        assert_eq!(held.go_on().exits(0).out(), "ready\n");
        house.nothing_is_left();
    }

    #[test]
    fn what_killed_runs_have_left_is_reclaimed_for_every_name() {
        let house = House::new();
        let held = house.hold(&[], common::house::HOLD);
        house.run(["--keep"]).args([&format!("{}-kept", house.name), "sh", "-c", "echo x >/kept"]);
        for i in 0..5 {
            let name = format!("{}-{i}", house.name);
            let mut cmd = house.run(["--pids", "8"]);
            let dead = common::house::hold(cmd.args([&*name, "sh", "-c", common::house::HOLD]));
            dead.running.kill(libc::SIGKILL);
            dead.running.wait();
        }
        assert_eq!(house.containers().len(), 6);
        let pid = held.running.pid();
        run(&mut house.run(["--reclaim"])).ok();
        assert_eq!(house.containers().len(), 1, "the one that runs");
        assert!(is_alive(pid));
        for i in 0..5 {
            let cgroups = common::house::cgroups(&format!("{}-{i}", house.name));
            assert_eq!(cgroups, [] as [std::path::PathBuf; 0]);
        }
        held.go_on().exits(0);
        house.nothing_is_left();
    }

    /// It was killed before it had written, or it has just ended.
    #[test]
    fn a_container_without_a_record_of_its_cgroups_is_reclaimed() {
        let house = House::new();
        house.sh(&["--keep"], "echo x >/kept").ok();
        let directory = house.record().with_file_name("");
        run(&mut house.run(["--reclaim"])).ok();
        assert!(directory.join("upper/kept").exists());
        let record = house.record();
        for action in ["--kill", "--remove"] {
            let act = || td("td-cgroup", [action, "--record", record.to_str().expect("a path")]);
            run(&mut act()).exits(125).says("cgroups does not exist");
            assert_eq!(run(act().args(["echo", "it runs"])).ok().out(), "it runs\n");
        }
        fs::remove_dir_all(directory).expect("what is kept");
    }

    /// A state on a file system of its own, with these options.
    fn on_tmpfs(house: &House, options: &str) {
        let state = house.state();
        let kept = house.dir.join("kept");
        fs::rename(state.join("images"), &kept).expect("the images aside");
        mount(["-t", "tmpfs", "-o", options, "tmpfs", state.to_str().expect("a plain path")]);
        let images = house.dir.dir("state/images");
        mount(["--bind", text(&kept), text(&images)]);
    }

    #[test]
    fn a_state_without_room_is_named_and_nothing_is_left() {
        // From none on, each number of inodes and of pages that is not enough for all.
        let few =
            ["nr_inodes", "size"].into_iter().flat_map(|what| (2..14).map(move |n| (what, n)));
        let mut refused = 0;
        for (what, number) in few {
            let house = House::new();
            let options = match what {
                "size" => format!("size={}k", number * 4),
                _ => format!("nr_inodes={number}"),
            };
            on_tmpfs(&house, &options);
            let output =
                house.sh(&[], "dd if=/dev/zero of=/file bs=4k count=1 2>/dev/null || exit 9");
            match output.code {
                Some(0 | 9) => {}
                _ => {
                    refused += 1;
                    let output = output.exits(125);
                    let named = ["ENOSPC", "its file system is full"];
                    assert!(named.iter().any(|text| output.err().contains(text)), "{output}");
                }
            }
            house.nothing_is_left();
        }
        assert!(refused > 5, "{refused}");
    }

    #[test]
    fn a_state_that_is_read_only_is_named_and_nothing_is_left() {
        let house = House::new();
        let state = house.state();
        let state = state.to_str().expect("a plain path");
        mount(["--bind", state, state]);
        mount(["-o", "remount,bind,ro", state]);
        house.sh(&[], "echo never").exits(125).says("EROFS");
        house.nothing_is_left();
    }

    #[test]
    fn a_limit_of_processes_that_is_too_low_is_named_and_nothing_is_left() {
        let house = House::new();
        let says = "--pids 1: process 1 and COMMAND are two processes";
        house.sh(&["--pids", "1"], "echo never").exits(125).says(says).says("--no-init");
        house
            .sh(&["--pids-limit=01"], "echo never")
            .exits(125)
            .says("EAGAIN")
            .says("--pids 1 allows");
        house.nothing_is_left();
        for enough in
            [&["--pids", "2"][..], &["--pids", "1", "--no-init"], &["--pids", "1", "--pids", "0"]]
        {
            assert_eq!(house.sh(enough, "echo works").ok().out(), "works\n");
        }
        house.nothing_is_left();
    }

    /// On version 2 the child is created where it is not counted here, and td-run makes no other.
    mod v1 {
        use super::*;

        #[test]
        fn a_full_cgroup_that_td_run_is_in_is_named_and_nothing_is_left() {
            let house = House::new();
            let above = format!("/td/{}-above", house.name);
            // Each number of processes that is not enough: td-run itself, and the child.
            for most in ["1", "2"] {
                let mut cmd = td("td-cgroup", ["--pids", most, &above]);
                let container = house.container(&[], &["echo", "never"]);
                cmd.arg(container.get_program()).args(container.get_args());
                let output = run(&mut cmd).exits(125);
                assert!(output.err().contains("EAGAIN"), "{output}");
                house.nothing_is_left();
            }
            run(&mut td("td-cgroup", ["--remove", &above])).ok();
        }
    }
}
