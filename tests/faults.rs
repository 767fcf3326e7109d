//! Each call of a default run fails once: a step that failed is named and COMMAND does not run, and the next run finds
//! nothing that it does not clear.

mod common;

use std::collections::BTreeSet;
use std::path::PathBuf;

use common::house::{House, Who};
use common::strace::{Call, Process, executed, is_run_time, logs, only_looks};
use common::*;

/// The errno that is injected: none that the tools allow somewhere, and none for which they try again.
const ERRNO: &str = "EIO";

/// What COMMAND is: a program that changes nothing.
const COMMAND: &str = "true";

/// td-run with strace before the first of the tools: of the shell's calls none is counted.
struct Faulty {
    house: House,
    /// What td-run takes for the first of the tools, or for the program of all.
    first: PathBuf,
}

impl Faulty {
    #[track_caller]
    fn of(who: Who) -> Faulty {
        let house = House::of(who);
        let tools = house.dir.dir("tools");
        for entry in std::fs::read_dir(bin_dir()).expect("the programs").flatten() {
            std::fs::copy(entry.path(), tools.join(entry.file_name())).expect("a copy");
        }
        let name = if by_td() { "td" } else { "td-lock" };
        house.dir.dir("first");
        let first = house.dir.program(&format!("first/{name}"), "");
        mount([std::path::Path::new("--bind"), &first, &house.bin(name)]);
        chmod(&first, 0o755);
        let faulty = Faulty { house, first };
        faulty.becomes("");
        faulty
    }

    /// A run under strace with these options, and what strace saw.
    #[track_caller]
    fn run(&self, options: &str) -> (Output, Vec<Process>) {
        let dir = TempDir::new();
        self.house.give(dir.path());
        let log = dir.join("log");
        self.becomes(&format!("strace -ff {options} -o {} -- ", text(&log)));
        let output = run(&mut self.house.container(&[], &[COMMAND]));
        self.becomes("");
        let is_empty = std::fs::read_dir(dir.path()).expect("the logs").next().is_none();
        assert!(!is_empty, "strace has written nothing: {output}");
        (output, logs(&dir))
    }

    /// Have that begin with this.
    fn becomes(&self, before: &str) {
        let real = self.house.dir.join("tools").join(self.first.file_name().expect("a name"));
        let script = format!("#!/bin/sh\nexec {before}{} \"$@\"\n", text(&real));
        std::fs::write(&self.first, script).expect("the script");
    }
}

/// Every call of ours that changes something, or that only looks: its name, and the how manieth of that name it is in
/// its process.
fn ours(processes: &[Process], looks: bool) -> BTreeSet<(String, usize)> {
    let mut found = BTreeSet::new();
    for process in processes {
        let calls = &process.calls;
        let last = calls.iter().position(is_command).map_or(calls.len(), |at| at + 1);
        for (at, call) in calls.iter().enumerate().take(last) {
            let same = calls.iter().take(at + 1).filter(|other| other.name == call.name);
            let fails = !is_run_time(call) && !["exit_group", "getpid"].contains(&&*call.name);
            if fails && only_looks(call) == looks {
                found.insert((call.name.clone(), same.count()));
            }
        }
    }
    found
}

fn is_command(call: &Call) -> bool {
    executed(call).is_some_and(|name| name == COMMAND)
}

fn ran(processes: &[Process]) -> bool {
    processes.iter().flat_map(|process| &process.calls).any(is_command)
}

/// The refused call, as strace prints it; nothing if the call was not reached.
fn refused(processes: &[Process], name: &str) -> Vec<String> {
    let calls = processes.iter().flat_map(|process| &process.calls);
    let refused = calls.filter(|call| call.name == name && call.result.ends_with(ERRNO));
    refused.map(Call::to_string).collect()
}

fn sweep(who: Who, looks: bool) {
    let faulty = Faulty::of(who);
    let house = &faulty.house;
    assert_eq!(house.sh(&[], "echo the state is there").ok().out(), "the state is there\n");
    let mounts = own_mountinfo();
    let (output, processes) = faulty.run("");
    output.ok();
    assert!(ran(&processes));
    let faults = ours(&processes, looks);
    let (mut stopped, mut after, mut unreached) = (0, 0, 0);
    for (name, when) in &faults {
        let (output, processes) =
            faulty.run(&format!("-e inject={name}:error={ERRNO}:when={when}"));
        let refused = refused(&processes, name);
        let what = format!("{refused:?}: {output}");
        // How often a cgroup is busy that is removed, depends on the moment.
        if refused.is_empty() {
            unreached += 1;
            assert!(output.code == Some(0) && unreached < 5, "{name} {when}: {what}");
            continue;
        }
        let err = output.err();
        let named = err.contains(&format!("{name}(")) && err.contains(ERRNO);
        if ran(&processes) {
            // COMMAND had ended, and what is left is said; or it was tried again, or could be done otherwise.
            // Or process 1 failed when COMMAND ran already.
            assert!(output.code == Some(0) || named, "{what}");
            let left = !house.cgroups().is_empty() || !house.containers().is_empty();
            assert!(named || !left, "{what}");
            after += 1;
        } else {
            let of_command = refused.iter().any(|call| call.contains(&format!("/{COMMAND}\"")));
            let expected = if name == "execve" && of_command { 126 } else { 125 };
            assert!(output.code == Some(expected) && named, "{what}");
            stopped += 1;
        }
        assert_eq!(own_mountinfo(), mounts, "{what}");
        let next = house.sh(&[], "echo works");
        assert_eq!((next.out(), next.err()), ("works\n".into(), String::new()), "after {what}");
        house.nothing_is_left();
    }
    assert!(stopped > 80 && after > 10, "{stopped} {after}");
}

mod root {
    use super::*;

    #[test]
    fn a_change_that_fails_in_a_run_of_roots_is_named_and_command_does_not_run() {
        sweep(Who::Root, false);
    }

    #[test]
    fn a_change_that_fails_in_a_run_of_a_users_is_named_and_command_does_not_run() {
        sweep(Who::Nobody, false);
    }

    /// A failed read is not the same as an empty result.
    #[test]
    fn a_look_that_fails_in_a_run_of_a_users_is_named_where_command_does_not_run() {
        sweep(Who::Nobody, true);
    }
}
