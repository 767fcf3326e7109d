//! The known holes of those who did this before: runc, crun, docker with containerd and buildkit, podman, LXC,
//! bubblewrap and flatpak, util-linux. Each is tried again by whoever may run a container; `table.rs` says what is
//! tried, what must come back, and how the attempt is known to succeed where the hole is open.

mod calls;
mod cgroups;
#[path = "../common/mod.rs"]
mod common;
mod table;

use std::cell::OnceCell;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use common::house::*;
use common::*;

/// A known hole.
pub struct Hole {
    /// The number by which it is known, or where it is written down.
    pub known: &'static str,
    /// What is tried.
    pub tried: &'static str,
    pub attempt: Attempt,
    pub back: Back,
    pub control: Control,
}

/// How it is tried. A script has the words of [`PRELUDE`] and the variables of [`Caller::shell`]; inside, `try` is
/// `attempt.rs`.
pub enum Attempt {
    /// System calls of a process in a container: name, number, arguments as `try call` takes them.
    Calls(&'static [(&'static str, i64, &'static str)]),
    /// A script in a container with these options.
    Inside(&'static [&'static str], &'static str),
    /// A script of the caller.
    Outside(&'static str),
}

/// What must come back, all that is printed; of [`Attempt::Calls`], of each call.
#[derive(Clone, Copy)]
pub enum Back {
    All(&'static str),
    /// To root, to a user with ranges, to a user with one id.
    Each([Comes; 3]),
}

#[derive(Clone, Copy)]
pub enum Comes {
    Is(&'static str),
    /// It does not apply to this caller, for this reason.
    NotHere(&'static str),
}

/// The proof that the attempt would succeed: what comes back under these options of td-run.
pub enum Control {
    /// For every caller.
    With(&'static [&'static str], &'static str),
    /// For root; in a user namespace the kernel refuses the same.
    Root(&'static [&'static str], &'static str),
    /// What shows it instead, or why nothing can.
    Without(&'static str),
}

/// What the scripts of the table say.
const PRELUDE: &str = r#"
exec 2>&1
# run OPTION... NAME COMMAND...: td-run, in the state of the test.
run() { "$td_run" --state "$state" $open "$@"; }
# enter PROG...: td-enter, into the container.
enter() { "$bin/td-enter" --state "$state" --name "$name" "$@"; }
# refused TEXT COMMAND...: a td program must end with 125, and say this.
refused() {
  text=$1 status=0
  shift
  said=$("$@" 2>&1) || status=$?
  case $status:$said in
    125:*"$text"*) echo refused ;;
    *) printf '%s: %s\n' "$status" "$said" ;;
  esac
}
# hold OPTION...: start the container in the background; it waits until `release`.
hold() {
  mkfifo hold
  run "$@" "$name" sh -c 'echo ready; read x || :' <hold >held 2>&1 &
  exec 9>hold
  holds
}
# What runs in the background has printed "ready" into `held`.
holds() {
  tries=0
  until grep -q ready held 2>/dev/null; do
    tries=$((tries + 1))
    [ "$tries" -lt 3000 ] && kill -0 "$!" 2>/dev/null || { cat held; exit 1; }
    sleep 0.02
  done
}
release() { exec 9>&-; wait "$!"; }
"#;

/// Who tries it, with what is needed.
struct Caller {
    house: House,
    work: PathBuf,
    /// `attempt.rs`, on the host; nothing where the rows do without it.
    attempt: PathBuf,
}

impl Caller {
    fn new(who: Who) -> Caller {
        Caller::without_attempt(who).with_attempt()
    }

    /// For the virtual machines, which have no compiler.
    fn without_attempt(who: Who) -> Caller {
        let house = House::of(who);
        let work = house.dir.dir("work");
        let node = house.image().join("node");
        run(Command::new("mknod").args(["-m", "666"]).arg(&node).args(["c", "1", "5"])).ok();
        house.dir.file("secret", "of the host\n");
        house.dir.dir("work/outside");
        house.dir.file("work/outside/file", "of the host\n");
        house.give(&work);
        house.give(&house.state());
        Caller { house, work, attempt: PathBuf::new() }
    }

    fn with_attempt(mut self) -> Caller {
        let program = std::fs::read(attempt()).expect("attempt");
        self.attempt = self.house.dir.program("attempt", program);
        std::fs::copy(&self.attempt, self.house.image().join("bin/try")).expect("try");
        self
    }

    /// A script of the table, with these options for each container.
    fn shell(&self, script: &str, open: &[&str]) -> Command {
        let mut cmd = sh(&format!("{PRELUDE}{script}"));
        let house = &self.house;
        cmd.current_dir(&self.work).env("open", open.join(" "));
        cmd.env("td_run", house.bin("td-run"));
        let bin = house.bin("td-exec");
        cmd.env("bin", bin.parent().expect("a directory"));
        cmd.env("state", house.state()).env("name", &house.name).env("image", house.image());
        cmd.env("attempt", &self.attempt).env("work", &self.work).env("dir", house.dir.path());
        cmd.env("uid", house.who.id().to_string());
        house.who.runs(&mut cmd);
        cmd
    }

    /// What came back.
    fn tries(&self, attempt: &Attempt, open: &[&str]) -> String {
        let output = match attempt {
            Attempt::Outside(script) => run(&mut self.shell(script, open)),
            Attempt::Inside(options, script) => self.inside(options, script, open),
            Attempt::Calls(calls) => {
                let calls =
                    calls.iter().map(|(name, number, args)| format!("{name} {number} {args}"));
                let script = format!("try call {}", calls.collect::<Vec<_>>().join(" , "));
                self.inside(&[], &script, open)
            }
        };
        // What an ordinary user has with --net host, td-mount says.
        let said = "td-mount: a new sysfs is refused";
        let out = output.out();
        let came = out.split_inclusive('\n').filter(|line| !line.starts_with(said));
        came.collect()
    }

    fn inside(&self, options: &[&str], script: &str, open: &[&str]) -> Output {
        let words = "run \"$@\"";
        let mut cmd = self.shell(words, open);
        cmd.arg("sh").args(options).arg(&self.house.name);
        run(cmd.args(["sh", "-c", &format!("exec 2>&1\n{script}")]))
    }

    /// Why this hole is not known to be closed.
    fn fault_of(&self, hole: &Hole, caller: fn(Who) -> Caller) -> Option<String> {
        let expected = match hole.back {
            Back::All(text) => text,
            Back::Each(each) => match each[self.house.who.place()] {
                Comes::Is(text) => text,
                Comes::NotHere(_) => return None,
            },
        };
        let fault = |came: String, wanted: &str, options: &[&str]| {
            Some(format!("with {options:?} came\n{came}\nand not\n{wanted}"))
        };
        let came = self.tries(&hole.attempt, &[]);
        if !hole.attempt.each_is(&came, |part| part == expected) {
            return fault(came, expected, &[]);
        }
        let (options, opened) = match hole.control {
            Control::With(options, back) => (options, back),
            Control::Root(options, back) if self.house.who == Who::Root => (options, back),
            _ => return None,
        };
        let came = match hole.attempt {
            // In a state and an image that the attempt has not seen.
            Attempt::Outside(_) => caller(self.house.who).tries(&hole.attempt, options),
            _ => self.tries(&hole.attempt, options),
        };
        let succeeds = hole.attempt.each_is(&came, |part| match hole.attempt {
            Attempt::Calls(_) => part != expected, // the kernel itself has seen it
            _ => part == opened,
        });
        if succeeds { None } else { fault(came, opened, options) }
    }
}

impl Attempt {
    /// Is all that came back like this; of calls, the result of each?
    fn each_is(&self, came: &str, good: impl Fn(&str) -> bool) -> bool {
        let result = |line: &str| line.split_once(' ').is_some_and(|(_, result)| good(result));
        match self {
            Attempt::Calls(_) => !came.is_empty() && came.lines().all(result),
            _ => good(came.trim_end()),
        }
    }
}

impl Who {
    /// Where [`Back::Each`] has it.
    fn place(self) -> usize {
        match self {
            Who::Root => 0,
            Who::Made => 1,
            Who::Nobody => 2,
        }
    }
}

/// `attempt.rs`, built once: a static program, for an image has no loader.
fn attempt() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("attempt");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/holes/attempt.rs");
        let options = "--edition 2024 -C opt-level=s -C panic=abort -C strip=symbols \
            -C target-feature=+crt-static -D warnings -o";
        let mut rustc = Command::new("rustc");
        rustc.args(options.split_whitespace()).args([text(&out), source]);
        run(&mut rustc).ok();
        assert!(is_static(&out), "{} is not static", out.display());
        out
    })
}

/// Every row as this caller.
#[track_caller]
fn all_are_closed(who: Who, lists: &[&[Hole]], caller: fn(Who) -> Caller) {
    must_be_root();
    // What runs in a container changes nothing for the next row.
    let inside = OnceCell::new();
    let mut open = Vec::new();
    for hole in lists.iter().copied().flatten() {
        let fault = match hole.attempt {
            // A thread, whose mount namespace ends with it.
            Attempt::Outside(_) => std::thread::scope(|scope| {
                let row = scope.spawn(|| caller(who).fault_of(hole, caller));
                row.join().unwrap_or_else(|_| Some("the test failed, see above".into()))
            }),
            _ => inside.get_or_init(|| caller(who)).fault_of(hole, caller),
        };
        open.extend(fault.map(|fault| format!("{}: {}: {fault}", hole.known, hole.tried)));
    }
    assert!(open.is_empty(), "{} holes, as {who:?}:\n{}", open.len(), open.join("\n\n"));
}

#[test]
fn what_cannot_be_tried_is_in_no_row() {
    let numbers = |text: &'static str| {
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .filter(|n| n.starts_with("CVE-"))
    };
    let rows = table::HOLES.iter().chain(calls::CALLS).chain(cgroups::CGROUPS);
    let tried: Vec<&str> = rows.flat_map(|hole| numbers(hole.known)).collect();
    for (known, reason) in table::ELSEWHERE {
        assert!(!reason.is_empty() && numbers(known).all(|n| !tried.contains(&n)), "{known}");
    }
}

mod root {
    use super::*;

    const ALL: &[&[Hole]] = &[table::HOLES, calls::CALLS];

    /// On whichever versions there are.
    fn none_of_cgroups() {
        for who in [Who::Root, Who::Made, Who::Nobody] {
            all_are_closed(who, &[cgroups::CGROUPS], Caller::without_attempt);
        }
    }

    mod v1 {
        #[test]
        fn no_known_hole_of_cgroups_is_open() {
            super::none_of_cgroups();
        }
    }

    mod v2 {
        #[test]
        fn no_known_hole_of_cgroups_is_open() {
            super::none_of_cgroups();
        }
    }

    #[test]
    fn no_known_hole_is_open_to_a_container_of_root() {
        all_are_closed(Who::Root, ALL, Caller::new);
    }

    #[test]
    fn no_known_hole_is_open_to_a_container_of_a_user_with_ranges() {
        all_are_closed(Who::Made, ALL, Caller::new);
    }

    #[test]
    fn no_known_hole_is_open_to_a_container_of_a_user_with_one_id() {
        all_are_closed(Who::Nobody, ALL, Caller::new);
    }
}
