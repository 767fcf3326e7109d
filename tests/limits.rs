//! What a process may have little of: descriptors, memory, stack. Whatever is missing, a step is done, or it ends with
//! 125 and says what failed; no tool panics, and no signal ends it.

mod common;

use std::path::Path;
use std::process::Command;

use common::house::House;
use common::*;

const KIB: u64 = 1024;

/// Command lines that make few changes or, being dry, none. `{T}` is a directory of the test's own, with a directory
/// `mnt` and an image `img`.
const STEPS: &[&str] = &[
    "td-mount --dry-run --tmpfs /mnt / {P}",
    "td-mount --dry-run --proc --dev --sys --bind /etc /a/b {T}/mnt td-pivot {T}/mnt td-exec td-init {P}",
    "td-unshare --dry-run --map-root-user --mount --net --loopback --pid {P}",
    "td-overlay --dry-run --lower /etc --upper {T}/u --work {T}/w {T}/mnt {P}",
    "td-cgroup --dry-run --pids 5 /td-limits {P}",
    "td-lock {T}/lock {P}",
    "td-lock --mkdir --key word {T}/d/lock {P}",
    "td-exec {P}",
    "td-exec --user root --env A=B {P}",
    "td-enter {P}",
];

/// The same of steps that are for root, in a mount namespace of the test's own.
const ROOTS: &[&str] = &[
    "td-unshare --mount td-mount --dev --tmpfs /a --bind /etc /b --mask /b/passwd {T}/mnt {P}",
    "td-unshare --mount --pid td-mount --proc --dev --sys {T}/img td-pivot {T}/img td-exec --user root \
     --seccomp default --cap-keep chown --no-new-privs td-init /bin/prog --version",
    "td-unshare --mount td-overlay --lower /etc --lower {T}/mnt {T}/mnt {P}",
    "td-unshare --map-root-user --mount --uts --hostname x {P}",
    "td-unshare --pid --fresh --remove {T}/run {P}",
    "td-exec --seccomp default --groups 1,2 --session-keyring --setsid {P}",
];

struct Room {
    dir: TempDir,
}

impl Room {
    #[track_caller]
    fn new() -> Room {
        let dir = TempDir::new();
        dir.dir("mnt");
        image(&dir.dir("img"));
        // It takes less than other programs do.
        dir.program("img/bin/prog", std::fs::read(bin("td-exec")).expect("a program"));
        Room { dir }
    }

    /// The command of a line, with `more` arguments for PROG.
    fn command(&self, line: &str, more: &[String]) -> Command {
        let line = line.replace("{P}", "{T}/img/bin/prog --version");
        let line = line.replace("{T}", text(self.dir.path()));
        let mut words = line.split_whitespace();
        let mut cmd = td(words.next().expect("a tool"), words);
        cmd.args(more).env_clear().env("PATH", "/bin:/usr/bin");
        cmd
    }
}

/// Let a command have no more than this of a resource.
fn limit(cmd: &mut Command, resource: u32, most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    before_exec(cmd, move || {
        // SAFETY: a number, and a structure that outlives the call.
        check(unsafe { libc::setrlimit(resource as _, &limit) }).map(drop)
    });
}

/// It has done its step, or has failed as a tool does, with an errno of `named`. Has it done it?
#[track_caller]
fn is_done(output: Output, named: &[&str], what: &str) -> bool {
    let err = output.err();
    if output.code == Some(0) && err.is_empty() {
        return true;
    }
    assert_eq!(output.code, Some(125), "{what}: {output}");
    assert!(err.lines().all(|line| line.starts_with("td-")), "{what}: {output}");
    assert!(named.iter().any(|name| err.contains(name)), "{what}: {output}");
    false
}

/// Each line with fewer descriptors than it needs, up to so many that it is done.
#[track_caller]
fn sweep_descriptors(lines: &[&str]) {
    let room = Room::new();
    for line in lines {
        let mut refused = 0;
        let done = (3..64).find(|most| {
            let mut cmd = room.command(line, &[]);
            limit(&mut cmd, libc::RLIMIT_NOFILE, *most);
            let done = is_done(
                run(&mut cmd),
                &["EMFILE (Too many open files)", "RLIMIT_NOFILE is"],
                &format!("{most} descriptors"),
            );
            refused += usize::from(!done);
            done
        });
        assert!(done.is_some(), "{line}: it needs more than 64 descriptors");
        assert!(refused > 0 || line.starts_with("td-exec "), "{line}: it needs no descriptor");
    }
}

/// The smallest multiple of 16 KiB with which the kernel starts each program: one that it cannot map it kills.
fn floor(resource: u32) -> u64 {
    let starts = |program: &Path, most: u64| {
        let mut cmd = Command::new(program);
        limit(cmd.arg("--version").env_clear(), resource, most);
        run(&mut cmd).signal.is_none()
    };
    let mut most = 16 * KIB;
    for program in programs() {
        while !starts(&bin(&program), most) {
            most += 16 * KIB;
        }
    }
    // What the arguments of a test take is on the stack, too.
    most + 16 * KIB
}

/// Each line with less memory than it needs, up to so much that it is done.
#[track_caller]
fn sweep_memory(resource: u32, lines: &[&str]) {
    let room = Room::new();
    let floor = floor(resource);
    let mut refused = 0;
    for line in lines {
        let done = (0..256).map(|n| floor + n * 16 * KIB).find(|most| {
            let mut cmd = room.command(line, &[]);
            limit(&mut cmd, resource, *most);
            let done = is_done(
                run(&mut cmd),
                &["ENOMEM (Cannot allocate memory)"],
                &format!("{most} bytes"),
            );
            refused += usize::from(!done);
            done
        });
        assert!(done.is_some(), "{line}: it needs more than 4 MiB");
    }
    assert!(refused > 0, "no line was short of memory");
}

/// With a stack of 32 KiB everything works, also where arguments take most of it.
#[track_caller]
fn with_a_small_stack(lines: &[&str]) {
    let room = Room::new();
    for line in lines {
        for many in [0, 1000] {
            let more: Vec<String> = (0..many).map(|n: u32| n.to_string()).collect();
            let mut cmd = room.command(line, &more);
            limit(&mut cmd, libc::RLIMIT_STACK, 32 * KIB);
            run(&mut cmd).ok();
        }
    }
}

#[test]
fn few_descriptors_are_said() {
    sweep_descriptors(STEPS);
}

#[test]
fn little_address_space_is_said() {
    sweep_memory(libc::RLIMIT_AS, STEPS);
}

#[test]
fn little_memory_is_said() {
    sweep_memory(libc::RLIMIT_DATA, STEPS);
}

#[test]
fn a_stack_of_32_kib_suffices() {
    with_a_small_stack(STEPS);
}

/// What is copied at the start may already be more than there is.
#[test]
fn arguments_for_which_memory_does_not_suffice_are_said() {
    let room = Room::new();
    let more = vec!["x".repeat(60_000); 20];
    let mut cmd = room.command("td-exec {P}", &more);
    limit(&mut cmd, libc::RLIMIT_DATA, 300 * KIB);
    assert!(!is_done(run(&mut cmd), &["ENOMEM (Cannot allocate memory)"], "300 KiB"));
    // Nobody reads it: that is a lost line.
    cmd.stdin(std::process::Stdio::null()).stdout(broken_pipe()).stderr(broken_pipe());
    assert_eq!(cmd.status().expect("it runs").code(), Some(125));
}

mod root {
    use super::*;

    #[test]
    fn few_descriptors_are_said_by_steps_for_root() {
        private_mounts();
        sweep_descriptors(ROOTS);
    }

    #[test]
    fn little_memory_is_said_by_steps_for_root() {
        private_mounts();
        sweep_memory(libc::RLIMIT_DATA, ROOTS);
    }

    #[test]
    fn a_stack_of_32_kib_suffices_for_steps_for_root() {
        private_mounts();
        with_a_small_stack(ROOTS);
    }

    /// A whole container, whose shell needs 13 descriptors itself.
    #[test]
    fn few_descriptors_are_said_by_td_run() {
        let house = House::new();
        let mut refused = 0;
        let done = (13..64).find(|most| {
            let mut cmd = house.container(&["-m", "64M", "-v", "/etc:/mnt"], &["true"]);
            limit(&mut cmd, libc::RLIMIT_NOFILE, *most);
            let named = ["EMFILE (Too many open files)", "RLIMIT_NOFILE is"];
            let done = is_done(run(&mut cmd), &named, &format!("{most} descriptors"));
            refused += usize::from(!done);
            done
        });
        assert!(done.is_some() && refused > 0, "done with {done:?}");
        house.nothing_is_left();
    }

    /// A step that runs out of memory in its middle undoes what it did.
    #[test]
    fn what_was_done_before_memory_ran_out_is_undone() {
        private_mounts();
        let room = Room::new();
        let mounts = own_mountinfo();
        let floor = floor(libc::RLIMIT_DATA);
        let (mut line, mut refused) = (String::from("td-mount"), 0);
        for n in 0..300 {
            line += &format!(" --tmpfs /{n}");
        }
        line += " {T}/mnt {P}";
        for n in 0.. {
            let mut cmd = room.command(&line, &[]);
            limit(&mut cmd, libc::RLIMIT_DATA, floor + n * 64 * KIB);
            let output = run(&mut cmd);
            let said = output.err();
            if is_done(output, &["ENOMEM (Cannot allocate memory)"], "little memory") {
                break;
            }
            refused += 1;
            assert!(own_mountinfo() == mounts, "{n}: {said}");
            assert_eq!(std::fs::read_dir(room.dir.join("mnt")).expect("ROOT").count(), 0);
        }
        assert!(refused > 1, "it was never short of memory");
    }
}
