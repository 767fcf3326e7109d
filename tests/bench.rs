//! scripts/bench: each candidate does its work, what does not is told, and nothing is left. (For time it never fails.)

mod common;

use std::path::Path;
use std::process::Command;

use common::*;

/// scripts/bench with these arguments, and with what it makes in `dir`.
fn bench(dir: &TempDir, args: &[&str]) -> Command {
    let mut cmd = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/bench"));
    cmd.args(args).env("TMPDIR", dir.path()).current_dir("/");
    cmd
}

#[test]
fn an_option_with_a_wrong_value_is_refused() {
    let dir = TempDir::new();
    for args in
        [&["--rounds", "0"][..], &["--rounds", "x"], &["--alive", "-1"], &["--json"], &["--fast"]]
    {
        run(&mut bench(&dir, args)).exits(125).says("bench: --");
    }
    assert!(run(&mut bench(&dir, &["--help"])).ok().out().starts_with("usage: scripts/bench "));
}

mod root {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::{Mutex, MutexGuard};

    use super::*;

    /// One at a time: there are two processors at best.
    fn alone() -> MutexGuard<'static, ()> {
        static ALONE: Mutex<()> = Mutex::new(());
        must_be_root();
        is_built(); // else it would be built while others run it
        ALONE.lock().unwrap_or_else(|other| other.into_inner())
    }

    /// The name of what is made: the directory, and the containers.
    fn made(dir: &TempDir) -> Option<String> {
        let entry = fs::read_dir(dir.path()).expect("a directory").next()?;
        entry.expect("an entry").file_name().into_string().ok()
    }

    /// What of a run is left: directories of its cgroups, and processes that have its directory in their command line.
    fn left(name: &str) -> Vec<String> {
        let find = format!("find /sys/fs/cgroup -name '*{name}*'");
        let mut left: Vec<_> = run(&mut sh(&find)).out().lines().map(String::from).collect();
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(name) && entry.file_name() != std::process::id().to_string().as_str() {
                left.push(line);
            }
        }
        left
    }

    #[test]
    fn each_candidate_of_the_bench_does_its_work_and_nothing_is_left() {
        let _alone = alone();
        let (dir, report) = (TempDir::new(), TempDir::new());
        let (json, svg) = (report.join("json"), report.join("svg"));
        let args = ["--quick", "--json", text(&json), "--svg", text(&svg)];
        let said = run(&mut bench(&dir, &args)).exits(0).out();
        assert_eq!(made(&dir), None);
        for name in [
            "floor",
            "bare floor",
            "td-run, mksh, separate programs",
            "chain alone, td",
            "runc",
            "crun",
            "bwrap",
        ] {
            // Back to back, and cold.
            assert!(said.matches(&format!("\n| {name} | ")).count() >= 2, "{name}\n{said}");
        }
        for title in [
            "Layers",
            "Start of the nth container",
            "Memory of one of 3",
            "Inits that wait",
            "Sizes",
        ] {
            assert!(said.contains(&format!("\n## {title}")), "{title}\n{said}");
        }
        let parse = "import json, sys; t = json.load(open(sys.argv[1]))['tables']; print(t[1]['rows'][0][4])";
        let floor = run(Command::new("python3").args(["-c", parse, text(&json)])).ok().out();
        assert_eq!(floor.trim(), "1.0");
        let parse = "import sys, xml.dom.minidom as x; print(len(x.parse(sys.argv[1]).getElementsByTagName('rect')))";
        let bars = run(Command::new("python3").args(["-c", parse, text(&svg)])).ok().out();
        assert!(bars.trim().parse::<u32>().is_ok_and(|n| n > 10), "{bars}");
    }

    #[test]
    fn a_candidate_that_does_not_do_its_work_is_named() {
        let _alone = alone();
        let (dir, fake) = (TempDir::new(), TempDir::new());
        // It ends well, and nothing has run inside.
        fake.program("bwrap", "#!/bin/sh\nexit 0\n");
        let path = format!("{}:{}", text(fake.path()), std::env::var("PATH").expect("PATH"));
        let output = run(bench(&dir, &["--quick"]).env("PATH", path));
        output.exits(1).says("bench: bwrap ended with 0, not 42: ");
        assert_eq!(made(&dir), None);
    }

    /// Beyond what it does by default td-run mounts a tmpfs here: a change, which the floor does not make.
    #[test]
    fn the_floor_is_held_to_each_call_of_td_run_that_changes_something() {
        let _alone = alone();
        let work = TempDir::new();
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut build = Command::new(checkout.join("scripts/build"));
        run(build.args(["--bench", "--out", text(work.path())])).exits(0);
        for form in ["usual/td", "usual/separate"] {
            work.dir(form);
            for name in programs().iter().map(String::as_str).chain(["td"]) {
                symlink(bin(name), work.join(form).join(name)).expect("a link");
            }
            let td_run = format!("#!/bin/sh\nexec {} --tmpfs /tmp \"$@\"\n", text(&bin("td-run")));
            work.program(&format!("{form}/td-run"), td_run);
        }
        let mut measure = Command::new(work.join("measure"));
        let output = run(measure.args(["--quick", text(work.path())]));
        output
            .exits(1)
            .says("the floor leaves out what td-run (usual/separate) does:\n")
            .says("move_mount(N, \"\", N, \"\", ");
    }

    #[test]
    fn an_interrupted_bench_leaves_nothing() {
        let _alone = alone();
        let mut chance = Chance::new();
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            let dir = TempDir::new();
            let running = start(&mut bench(&dir, &["--quick"]));
            let name = wait_for("the image", || {
                made(&dir).filter(|name| dir.join(name).join("image/bin/true").exists())
            });
            chance.sleep(4_000_000);
            running.kill(signal);
            running.wait().exits(128 + signal);
            assert_eq!(made(&dir), None);
            wait_for("everything to be gone", || left(&name).is_empty().then_some(()));
        }
    }
}
