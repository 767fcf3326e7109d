//! td-doctor: each line, provoked and beside it not; what is left behind; and whose words it takes.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::*;

/// Is there this line?
#[track_caller]
fn has(output: &Output, answer: &str, what: &str) {
    let start = format!("{answer:<6}  {what}");
    let found = output.out().lines().any(|line| line == start);
    assert!(found, "no line {start:?}: {output}");
}

/// What stands below the line of `what`.
fn below(output: &Output, what: &str) -> String {
    let out = output.out();
    let lines = out.lines().skip_while(|line| line.get(8..).is_none_or(|text| text != what));
    lines.skip(1).take_while(|line| line.starts_with("        ")).collect::<Vec<_>>().join("\n")
}

/// td-doctor with a state directory.
fn doctor(state: &Path) -> Command {
    let mut cmd = script(text(&bin("td-doctor")), ["--state"]);
    cmd.arg(state);
    cmd
}

/// What td-doctor leaves in this directory.
fn left_in(state: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(state).expect("the state");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.to_string_lossy().contains(".td-doctor")).collect()
}

#[test]
fn a_wrong_line_is_refused_before_anything_is_created() {
    let dir = TempDir::new();
    for (args, says) in [
        (&["x"][..], "td-doctor takes no operand without --run"),
        (&["--state"], "--state needs a value"),
        (&["--state="], "--state needs a directory"),
        (&["--run", "--help"], "--run: --help runs no container"),
        (&["--run", "-m", "1M", "--reclaim"], "--run: --reclaim runs no container"),
    ] {
        let mut cmd = script(text(&bin("td-doctor")), args);
        run(cmd.current_dir(dir.path())).exits(125).says(says);
    }
    let mut cmd = script(text(&bin("td-doctor")), [""; 0]);
    // (As root the state is that of the machine.)
    run(cmd.env("HOME", "").env_remove("XDG_DATA_HOME").args(["--run", "--version"])).exits(125);
    let copy = dir.program("td-doctor", std::fs::read(bin("td-doctor")).expect("the script"));
    run(&mut script(text(&copy), [""; 0]))
        .exits(125)
        .says("td's programs and td-run are not beside");
}

mod root {
    use std::fs;
    use std::os::unix::process::CommandExt;

    use super::*;
    use common::house::{HOLD, House, Who, cgroups, hold};

    /// A state directory that another user may use, if the tools of `house` are his.
    struct Place {
        house: House,
    }

    impl Place {
        fn new(who: Who) -> Place {
            private_mounts();
            Place { house: House::of(who) }
        }

        fn state(&self) -> PathBuf {
            self.house.state()
        }

        /// td-doctor, as that user.
        fn doctor(&self) -> Command {
            let mut cmd = script(text(&self.house.bin("td-doctor")), ["--state"]);
            cmd.arg(self.state());
            self.house.who.runs(&mut cmd);
            cmd
        }

        /// Nothing is there that was not before.
        #[track_caller]
        fn nothing_is_left(&self) {
            let left = || Some(left_in(&self.state())).filter(Vec::is_empty);
            assert!(
                within(std::time::Duration::from_secs(20), left).is_some(),
                "{:?}",
                left_in(&self.state())
            );
            assert!(!self.state().join("containers/doctor").exists());
        }
    }

    #[test]
    fn root_can_run_containers_here_and_nothing_is_left() {
        let place = Place::new(Who::Root);
        let before = own_mountinfo();
        let output = run(&mut place.doctor()).ok();
        assert!(output.out().lines().all(|line| line.starts_with("ok ")), "{output}");
        has(&output, "ok", "a container of td-run");
        assert!(output.out().ends_with("ok      td-run works here\n"), "{output}");
        assert_eq!(output.err(), "");
        place.nothing_is_left();
        assert_eq!(own_mountinfo(), before);
    }

    #[test]
    fn a_user_without_other_ids_or_cgroups_is_told_so_and_can_run_containers() {
        let place = Place::new(Who::Nobody);
        let output = run(&mut place.doctor()).ok();
        has(&output, "not ok", "subordinate ids");
        assert!(
            below(&output, "subordinate ids").contains("nobody has no ids in /etc/subuid"),
            "{output}"
        );
        has(&output, "ok", "td-run works here");
        place.nothing_is_left();

        let place = Place::new(Who::Made);
        let output = run(&mut place.doctor()).ok();
        has(&output, "ok", "subordinate ids");
        has(&output, "ok", "td-run works here");
        place.nothing_is_left();
    }

    /// td-doctor by root of a user namespace of its own, where this sysctl below /proc/sys/user is `value`.
    fn with_sysctl(place: &Place, name: &str, value: u32) -> Output {
        let line = format!("echo {value} >/proc/sys/user/{name} && exec \"$@\"");
        let mut cmd = td(
            "td-unshare",
            ["-m", "--map-users=0:0:65536", "--map-groups=0:0:65536", "sh", "-c", &line, "sh"],
        );
        run(cmd.args(words(&place.doctor())))
    }

    #[test]
    fn each_namespace_that_is_used_up_is_named_and_no_other() {
        let place = Place::new(Who::Root);
        for (kind, name) in [
            ("user", "max_user_namespaces"),
            ("mount", "max_mnt_namespaces"),
            ("pid", "max_pid_namespaces"),
            ("net", "max_net_namespaces"),
            ("ipc", "max_ipc_namespaces"),
            ("uts", "max_uts_namespaces"),
            ("cgroup", "max_cgroup_namespaces"),
            ("time", "max_time_namespaces"),
        ] {
            let what = format!("{kind} namespace");
            let output = with_sysctl(&place, name, 0);
            has(&output, "not ok", &what);
            assert!(below(&output, &what).contains(name), "{output}");
            let other = if kind == "uts" { "ipc namespace" } else { "uts namespace" };
            has(&output, "ok", other);
            // A container of root's needs neither: but all others.
            let works = ["user", "time"].contains(&kind);
            assert_eq!(
                output.out().ends_with("not ok  td-run does not work here\n"),
                !works,
                "{output}"
            );
            assert_eq!(output.code, Some(i32::from(!works)), "{output}");
            let output = with_sysctl(&place, name, 1000);
            has(&output, "ok", &what);
        }
        place.nothing_is_left();
    }

    #[test]
    fn a_filter_that_refuses_a_step_is_told_from_a_machine_that_cannot() {
        let place = Place::new(Who::Root);
        let with: [(&'static [libc::c_long], &str, &str); 3] = [
            (&[libc::SYS_pivot_root], "root directory", "pivot_root"),
            (&[libc::SYS_seccomp], "system call policy", "seccomp"),
            (&[libc::SYS_fsopen], "overlay in a user namespace", "fsopen"),
        ];
        for (calls, what, call) in with {
            let mut cmd = place.doctor();
            refuse_calls(&mut cmd, calls, libc::EPERM);
            let output = run(&mut cmd).exits(1);
            has(&output, "not ok", what);
            assert!(below(&output, what).contains(&format!("{call}(")), "{output}");
            has(&output, "ok", "uts namespace");
            has(&output, "not ok", "td-run does not work here");
        }
        // A filter of another call is no reason for anything.
        let mut cmd = place.doctor();
        refuse_calls(&mut cmd, &[libc::SYS_ptrace], libc::EPERM);
        has(&run(&mut cmd).ok(), "ok", "td-run works here");
        place.nothing_is_left();
    }

    #[test]
    fn a_state_directory_that_cannot_be_used_is_named_and_the_rest_is_tried() {
        let place = Place::new(Who::Root);
        let what = format!("state directory {}", place.state().display());
        chmod(place.state(), 0o777);
        let output = run(&mut place.doctor());
        has(&output, "not ok", &what);
        assert!(below(&output, &what).contains("others can write to"), "{output}");
        has(&output.exits(1), "not ok", "td-run does not work here");
        chmod(place.state(), 0o755);
        has(&run(&mut place.doctor()).ok(), "ok", &what);

        let path = text(&place.state()).to_string();
        mount(["--bind", &path, &path]);
        mount(["-o", "remount,bind,ro", &path]);
        let output = run(&mut place.doctor()).exits(1);
        has(&output, "not ok", &what);
        assert!(below(&output, &what).contains("EROFS"), "{output}");
        has(&output, "--", "a container of td-run");
        has(&output, "ok", "uts namespace");
        run(Command::new("umount").arg(&path)).ok();

        // Where another user cannot create anything.
        let other = Place { house: House::of(Who::Nobody) };
        let mut cmd = script(text(&other.house.bin("td-doctor")), ["--state", "/root-only"]);
        other.house.who.runs(&mut cmd);
        let output = run(&mut cmd).exits(1);
        has(&output, "not ok", "state directory /root-only");
        assert!(below(&output, "state directory /root-only").contains("EACCES"), "{output}");
    }

    #[test]
    fn a_state_that_does_not_exist_is_not_created() {
        let place = Place::new(Who::Root);
        let state = place.house.dir.join("not/yet");
        has(&run(&mut doctor(&state)).ok(), "ok", "td-run works here");
        assert!(!place.house.dir.join("not").exists());
        assert_eq!(left_in(place.house.dir.path()).len(), 0);
    }

    #[test]
    fn a_state_on_an_overlay_is_named() {
        let place = Place::new(Who::Root);
        let merged = place.house.dir.dir("merged");
        place.house.dir.dir("lower/state");
        let (upper, work) = (place.house.dir.dir("up"), place.house.dir.dir("work"));
        let lower = place.house.dir.join("lower");
        let options =
            format!("lowerdir={},upperdir={},workdir={}", text(&lower), text(&upper), text(&work));
        mount(["-t", "overlay", "-o", &options, "overlay", text(&merged)]);
        let state = merged.join("state");
        let what = format!("overlay on the file system of {}", state.display());
        let output = run(&mut doctor(&state)).exits(1);
        has(&output, "not ok", &what);
        assert!(below(&output, &what).contains("EINVAL"), "{output}");
        has(&output, "ok", "overlay in a user namespace");
        let beside = format!("overlay on the file system of {}", place.state().display());
        has(&run(&mut place.doctor()).ok(), "ok", &beside);
    }

    #[test]
    fn a_masked_proc_and_a_missing_terminal_are_named() {
        let place = Place::new(Who::Nobody);
        let what = "proc, /dev and /sys of a container";
        has(&run(&mut place.doctor()).ok(), "ok", what);
        mount(["-t", "tmpfs", "tmpfs", "/proc/bus"]);
        let output = run(&mut place.doctor()).exits(1);
        has(&output, "not ok", what);
        assert!(below(&output, what).contains("/proc/bus"), "{output}");
        run(Command::new("umount").arg("/proc/bus")).ok();

        has(&run(&mut place.doctor()).ok(), "ok", "terminal");
        mount(["--bind", "/dev/null", "/dev/ptmx"]);
        let output = run(&mut place.doctor());
        run(Command::new("umount").arg("/dev/ptmx")).ok();
        has(&output, "not ok", "terminal");
        assert!(below(&output, "terminal").contains("td-tty: "), "{output}");
    }

    #[test]
    fn memory_that_must_not_be_executed_is_named_by_what_needs_it() {
        if !Path::new("/proc/sys/vm/memfd_noexec").exists() {
            println!("before Linux 6.3 there is no memfd_noexec");
            return;
        }
        let place = Place::new(Who::Nobody);
        let doctor = |value: u32| {
            let line = format!("echo {value} >/proc/sys/vm/memfd_noexec && exec \"$@\"");
            let mut cmd = td(
                "td-unshare",
                ["-m", "-p", "td-mount", "--proc", "/", "td-init", "--", "sh", "-c", &line, "sh"],
            );
            cmd.args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
            run(cmd.args(words(&place.doctor())))
        };
        let output = doctor(2);
        has(&output, "not ok", "td-enter");
        assert!(below(&output, "td-enter").contains("memfd_create"), "{output}");
        has(&output, "ok", "td-run works here");
        has(&doctor(0), "ok", "td-enter");
    }

    #[test]
    fn an_old_kernel_is_named_and_no_reason() {
        let place = Place::new(Who::Root);
        let mut cmd = place.doctor();
        before_exec(&mut cmd, || {
            // SAFETY: a number: UNAME26, for uname(2) to say that this is Linux 2.6.
            check(unsafe { libc::personality(0x0020000) }).map(drop)
        });
        let output = run(&mut cmd).ok();
        let line = output.out().lines().next().unwrap_or_default().to_string();
        assert!(line.starts_with("not ok  Linux 2.6."), "{output}");
        has(&output, "ok", "td-run works here");
        let line = run(&mut place.doctor()).ok().out();
        assert!(line.starts_with("ok      Linux "), "{line}");
    }

    #[test]
    fn variables_and_programs_of_the_caller_change_nothing() {
        let place = Place::new(Who::Root);
        let expected = run(&mut place.doctor()).ok().out();
        let dir = TempDir::new();
        dir.dir("bin");
        let names = [
            "mktemp", "uname", "rm", "rmdir", "mkdir", "sed", "cat", "sleep", "printf", "sh", "td",
            "readlink",
        ];
        for name in names.into_iter().chain(["td-unshare", "td-exec", "td-run"]) {
            dir.program(&format!("bin/{name}"), "#!/bin/sh\necho forged >&2; exit 0\n");
        }
        let path =
            format!("{}:{}", dir.join("bin").display(), std::env::var("PATH").expect("PATH"));
        let mut cmd = place.doctor();
        cmd.env("PATH", path)
            .env("IFS", "/to")
            .env("TMPDIR", "/none")
            .env("CDPATH", "/")
            .env("run", "yes");
        cmd.env("state", "/etc")
            .env("all", "/bin/true")
            .env("tools", "/bin/")
            .env("uid", "7")
            .env("own", "/etc");
        cmd.env("missing", "/etc")
            .env("user_namespace", "-x")
            .env("no_state", "x")
            .env("parent", "/x");
        cmd.env("works", "1").env("v2", "/etc").env("LC_ALL", "C.UTF-8");
        assert_eq!(run(&mut cmd).ok().out(), expected);
    }

    /// The cgroups in which limits are tried.
    fn limits() -> Vec<PathBuf> {
        let above = common::cgroups::directories("/td").into_iter();
        let found = above.flat_map(|above| fs::read_dir(above).into_iter().flatten().flatten());
        let names =
            found.filter(|entry| entry.file_name().to_string_lossy().starts_with("doctor-"));
        names.map(|entry| entry.path()).collect()
    }

    #[test]
    fn nothing_is_left_of_one_that_is_killed_at_any_moment() {
        let place = Place::new(Who::Root);
        let mut chance = Chance::new();
        let mut killed = 0;
        for round in 0..24 {
            let mut cmd = place.doctor();
            cmd.process_group(0);
            let running = start(&mut cmd);
            chance.sleep(300_000);
            let (whom, signal) = match round % 3 {
                0 => (running.pid(), libc::SIGKILL),
                1 => (-running.pid(), libc::SIGKILL),
                _ => (running.pid(), libc::SIGTERM),
            };
            kill(whom, signal);
            killed += usize::from(running.wait().code.is_none_or(|code| code > 128));
            place.nothing_is_left();
        }
        assert!(killed > 5, "only {killed} were killed before their end");
        let gone = || Some(()).filter(|()| cgroups("doctor").is_empty() && limits().is_empty());
        wait_for("the cgroups to go", gone);
    }

    #[test]
    fn a_line_of_td_run_is_answered_as_td_run_itself_would() {
        let place = Place::new(Who::Root);
        let state = place.state();
        let answer = |line: &[&str]| {
            let mut cmd = script(text(&bin("td-doctor")), ["--run", "--state"]);
            run(cmd.arg(&state).args(line))
        };
        let pid_file = place.house.dir.join("pid");
        for line in [
            &["one"][..],
            &["-e", "A=B", "--rm", "one", "sh", "-c", "exit 7"],
            &["--keep", "-w", "/tmp", "-u", "1000", "one", "ls", "--help"],
            &["--pid-file", text(&pid_file), "--ready=9", "--read-only", "--", "one", "ls"],
            &["--tmpfs=/x:size=64k", "-h", "name", "one"],
        ] {
            answer(line).ok();
        }
        assert!(!pid_file.exists());
        for (line, says) in [
            (&["--image", "none", "one"][..], "the image "),
            (&["-w", "/nowhere", "one", "ls"], "/nowhere does not exist in this root"),
            (&["-v", "/nowhere:/x", "one", "ls"], "/nowhere"),
            (&["-u", "nobody-here", "one", "ls"], "nobody-here"),
            (&["-m", "64k", "one", "ls"], "was killed by the memory limit of 64K"),
            (&["-t", "one"], "-t: standard input is not a terminal"),
            (&["-m"], "-m needs a value"),
            (&["--no-such", "one"], "--no-such: no such option"),
            (&["one/two"], "NAME must consist of"),
            (&[], "NAME is missing"),
        ] {
            let output = answer(line).exits(1);
            assert!(output.out().contains(says), "{says}: {output}");
            assert!(output.out().contains("\nnot ok  td-run "), "{output}");
        }
        place.nothing_is_left();
        assert!(!state.join("containers").exists());
    }

    #[test]
    fn a_container_of_that_name_is_not_touched() {
        let place = Place::new(Who::Root);
        let held = hold(&mut place.house.container(&[], &["sh", "-c", HOLD]));
        let before = (place.house.cgroups(), place.house.containers());
        let mut cmd = script(text(&bin("td-doctor")), ["--run", "--state"]);
        run(cmd.arg(place.state()).args(["--keep", &place.house.name, "true"])).ok();
        run(&mut place.doctor()).ok();
        assert_eq!((place.house.cgroups(), place.house.containers()), before);
        held.go_on().ok();
        place.nothing_is_left();
    }

    mod v1 {
        use super::*;

        #[test]
        fn a_limit_whose_hierarchy_cannot_be_written_to_is_named() {
            let place = Place::new(Who::Root);
            let pids = common::cgroups::v1("pids");
            has(&run(&mut place.doctor()).ok(), "ok", "cgroup limit pids on version 1");
            mount(["--bind", text(&pids), text(&pids)]);
            mount(["-o", "remount,bind,ro", text(&pids)]);
            let output = run(&mut place.doctor());
            has(&output, "not ok", "cgroup limit pids on version 1");
            assert!(below(&output, "cgroup limit pids on version 1").contains("EROFS"), "{output}");
            has(&output, "ok", "cgroup limit cpu on version 1");
        }
    }
}
