//! td-enter: what PROG is in, what it may do there, and what no process inside can get.

mod common;

use std::fs;
use std::process::Command;
use std::time::Duration;

use common::pty::Pty;
use common::*;
use td::ids::policy::calls::Arch;

#[track_caller]
fn refuses(line: &str, text: &str) {
    run(&mut td("td-enter", line.split(' '))).exits(125).says(text);
}

#[test]
fn a_command_line_that_means_nothing_is_refused() {
    refuses("-t x -a true", "--target x: not a process id");
    refuses("-t 0 -a true", "--target 0: not a process id");
    refuses("-t -1 -a true", "--target -1: not a process id");
    refuses("-t 1 --name c true", "--target and --name cannot be combined");
    let needs =
        "--target needs --all, --join-cgroup, or a namespace, --root or --wd without a value";
    refuses("-t 1 true", needs);
    refuses("-t 1 -w=/ -n=/proc/1/ns/net true", needs);
    for line in ["-n true", "--all true", "-r true", "--wd true", "--join-cgroup true"] {
        refuses(line, "--target PID is missing");
    }
    for line in ["-n", "-a", "--uts=/x", "--root", "--root=/", "--join-cgroup"] {
        refuses(
            &format!("--name c {line} true"),
            "--name can be combined only with --wd, --state and --tty",
        );
    }
    for name in ["", ".", "..", "a/b", "../a", "-a", "a\nb"] {
        let mut cmd = td("td-enter", ["--name", name, "true"]);
        run(&mut cmd).exits(125).says("not a valid container name");
    }
}

#[test]
fn without_options_it_becomes_prog() {
    let mut cmd = td("td-enter", ["sh", "-c", "echo $$; ls /proc/$$/fd; exit 7"]);
    give_fd(&mut cmd, 77, fs::File::open("/").expect("a directory"));
    let running = start(&mut cmd);
    let pid = running.pid();
    assert_eq!(running.wait().exits(7).out(), format!("{pid}\n0\n1\n2\n"));
}

mod root {
    use std::io::Write;
    use std::path::PathBuf;
    use std::process::Stdio;

    use super::common::house::{HOLD, Held, House, Who, pipe};
    use super::*;

    const KINDS: [(&str, &str, &str); 8] = [
        ("-m", "--mount", "mnt"),
        ("-u", "--uts", "uts"),
        ("-i", "--ipc", "ipc"),
        ("-n", "--net", "net"),
        ("-p", "--pid", "pid"),
        ("-C", "--cgroup", "cgroup"),
        ("-U", "--user", "user"),
        ("-T", "--time", "time"),
    ];

    /// A process that sleeps, at the end of a chain, and is no tool any more.
    struct Target {
        _running: Running,
        pid: i32,
    }

    /// Start it; what the chain makes as children is followed to the last.
    #[track_caller]
    fn target(cmd: &mut Command) -> Target {
        let running = start(cmd);
        let pid = wait_for("the process that sleeps", || {
            assert!(is_alive(running.pid()), "{}", running.err());
            let mut pid = running.pid();
            while let [child] = children_of(pid)[..] {
                pid = child;
            }
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            (comm == "sleep\n").then_some(pid)
        });
        Target { _running: running, pid }
    }

    fn td_unshare(line: &str) -> Command {
        td("td-unshare", line.split(' ').chain(["sleep", "1000"]))
    }

    /// td-enter with the target, with these options, and a shell script.
    fn enter(target: &Target, options: &str, script: &str) -> Command {
        let mut cmd = td("td-enter", ["-t", &target.pid.to_string()]);
        cmd.args(options.split(' ')).args(["sh", "-c", script]);
        cmd
    }

    /// Its namespaces, one a line.
    const SPACES: &str =
        "for k in mnt uts ipc net pid cgroup user time; do readlink /proc/self/ns/$k; done";

    fn spaces(pid: i32) -> String {
        KINDS.map(|(.., kind)| ns(pid, kind) + "\n").concat()
    }

    /// In `host` all that a process of this thread is in; in `target` that of the target, for this kind.
    fn expected(target: &Target, kinds: &[&str]) -> String {
        let of = |kind: &str| match kinds.contains(&kind) {
            true => ns(target.pid, kind),
            false => ns("thread-self", kind),
        };
        KINDS.map(|(.., kind)| of(kind) + "\n").concat()
    }

    // ---- namespaces ----

    #[test]
    fn each_option_joins_its_namespace_and_no_other() {
        private_mounts();
        let target = target(&mut td_unshare("-m -u -i -n -p -C -U -T"));
        for (letter, long, kind) in KINDS.iter().filter(|(.., kind)| *kind != "user") {
            for option in [letter, long] {
                let out = run(&mut enter(&target, option, SPACES)).ok().out();
                assert_eq!(out, expected(&target, &[kind]), "{option}");
            }
        }
        for line in ["-uni", "-u -ni", "--uts -in"] {
            let out = run(&mut enter(&target, line, SPACES)).ok().out();
            assert_eq!(out, expected(&target, &["uts", "net", "ipc"]), "{line}");
        }
        let mut cmd = td("td-enter", ["-unt", &target.pid.to_string(), "sh", "-c", SPACES]);
        assert_eq!(run(&mut cmd).ok().out(), expected(&target, &["uts", "net"]));
        let all = KINDS.map(|(.., kind)| kind);
        for line in ["-a", "--all", "-muinpCUT"] {
            let out = run(&mut enter(&target, line, SPACES)).ok().out();
            assert_eq!(out, expected(&target, &all), "{line}");
        }
    }

    #[test]
    fn prog_is_where_nsenter_would_have_put_it() {
        private_mounts();
        let script = format!("{SPACES}; id -u; id -g; pwd; ls -di /; cat /proc/self/comm");
        for line in
            ["-m -u -i -n -p -C -T td-mount --proc /", "-r -m -u -i -n -p -C -T td-mount --proc /"]
        {
            let target = target(&mut td_unshare(line));
            let mut nsenter = Command::new("nsenter");
            nsenter.args(["-t", &target.pid.to_string(), "-a", "sh", "-c", &script]);
            let theirs = run(&mut nsenter).ok().out();
            let ours = run(&mut enter(&target, "-a", &script)).ok().out();
            assert_eq!(ours, theirs, "{line}");
            assert!(ours.starts_with(&spaces(target.pid)), "{ours}");
        }
    }

    #[test]
    fn a_namespace_that_is_shared_already_is_left_alone() {
        private_mounts();
        let target = target(Command::new("sleep").arg("1000"));
        let output = run(&mut enter(&target, "--trace -a", "pwd; echo $$"));
        let output = output.exits(0);
        assert!(!output.err().contains("setns("), "{output}");
        assert!(!output.err().contains("clone3("), "{output}");
        let here = std::env::current_dir().expect("a working directory");
        assert!(output.out().starts_with(&format!("{}\n", here.display())), "{output}");
    }

    #[test]
    fn a_file_holds_a_namespace_when_its_processes_have_ended() {
        private_mounts();
        let dir = TempDir::new();
        let names = ["uts", "ipc", "net", "cgroup", "time"].map(|kind| (kind, dir.file(kind, "")));
        let (options, links): (Vec<String>, Vec<String>) = {
            let target = target(&mut td_unshare("-u -i -n -C -T"));
            let pinned = |(kind, file): &(&str, std::path::PathBuf)| {
                mount(["--bind", &format!("/proc/{}/ns/{kind}", target.pid), text(file)]);
                (format!("--{kind}={}", text(file)), ns(target.pid, kind))
            };
            names.iter().map(pinned).unzip()
        };
        let script = "for k in uts ipc net cgroup time; do readlink /proc/self/ns/$k; done";
        let out = run(td("td-enter", &options).args(["sh", "-c", script])).ok().out();
        assert_eq!(out.lines().collect::<Vec<_>>(), links);

        // In a cluster; and it goes before that of a process.
        let net = format!("-un={}", text(&names[2].1));
        let own = Target { pid: std::process::id() as i32, _running: start(&mut sh("")) };
        let out = run(&mut enter(&own, &net, "readlink /proc/self/ns/net")).ok().out();
        assert_eq!(out.trim(), links[2]);
        let all = format!("-a {}", net.replace('u', ""));
        let out = run(&mut enter(&own, &all, "readlink /proc/self/ns/net")).ok().out();
        assert_eq!(out.trim(), links[2]);
    }

    /// Joined first, the user namespace takes away the rights over what belongs to one further out.
    #[test]
    fn namespaces_of_several_user_namespaces_are_joined_together() {
        private_mounts();
        let dir = TempDir::new();
        let target = target(&mut td_unshare("-n -p td-unshare -r -u -i"));
        let out = run(&mut enter(&target, "-a", SPACES)).ok().out();
        assert_eq!(out, spaces(target.pid));
        let mut cmd = td("td-enter", [""; 0]);
        for (letter, _, kind) in KINDS {
            let file = dir.file(kind, "");
            // A mount namespace cannot be held by one that is not newer.
            if kind != "mnt" {
                mount(["--bind", &format!("/proc/{}/ns/{kind}", target.pid), text(&file)]);
                cmd.arg(format!("{letter}={}", text(&file)));
            }
        }
        assert_eq!(run(cmd.args(["sh", "-c", SPACES])).ok().out(), spaces(target.pid));
    }

    // ---- who one is ----

    /// A directory with an image, and with the programs, for the checkout may be where an ordinary user
    /// does not come.
    fn for_users() -> TempDir {
        private_mounts();
        let dir = TempDir::new();
        chmod(dir.path(), 0o755);
        image(&dir.dir("image"));
        dir.dir("mnt");
        mount(["--bind", text(&bin_dir()), text(&dir.dir("bin"))]);
        dir
    }

    /// The program `name` of td, run by this user, in the groups 4 and 5.
    fn td_as(user: &str, dir: &TempDir, name: &str) -> Command {
        let mut cmd = td("td-exec", ["--user", user, "--groups", "4,5"]);
        cmd.arg(dir.join("bin").join(name));
        cmd
    }

    /// td-unshare, run by this user, that makes a container of the image.
    fn of_user(user: &str, options: &str, dir: &TempDir) -> Command {
        let root = dir.join("mnt");
        let mut cmd = td_as(user, dir, "td-unshare");
        cmd.args(options.split(' '));
        cmd.args(["td-overlay", "--lower", text(&dir.join("image")), "--tmpfs", text(&root)]);
        cmd.args(["td-mount", "--proc", text(&root), "td-pivot", text(&root)]);
        cmd.args(["td-exec", "--cap-keep", "chown,kill", "td-init", "sleep", "1000"]);
        cmd
    }

    /// td-enter as this user.
    fn enter_as(user: &str, dir: &TempDir, target: i32, script: &str) -> Command {
        let mut cmd = td_as(user, dir, "td-enter");
        cmd.args(["-t", &target.to_string(), "-a", "-r", "sh", "-c", script]);
        cmd
    }

    #[test]
    fn in_a_user_namespace_prog_is_root_or_the_smallest_id_that_is_mapped() {
        let dir = for_users();
        for (options, who) in [("-r", "0 0"), ("-c", "65534 65533")] {
            let options = format!("{options} -m -p -n -u -i -C");
            let target = target(&mut of_user("65534:65533", &options, &dir));
            let script = "echo $(id -u) $(id -g); grep ^CapEff /proc/self/status";
            for user in ["0", "65534:65533"] {
                let out = run(&mut enter_as(user, &dir, target.pid, script)).ok().out();
                let caps = if who == "0 0" { "000001ffffffffff" } else { "0000000000000000" };
                assert_eq!(out, format!("{who}\nCapEff:\t{caps}\n"), "{options} {user}");
            }
        }
    }

    #[test]
    fn the_groups_of_root_outside_are_left_outside() {
        let dir = for_users();
        let target = target(&mut of_user("65534:65534", "-r -m -p", &dir));
        let groups = "grep ^Groups /proc/self/status";
        assert_eq!(run(&mut enter_as("0", &dir, target.pid, groups)).ok().out(), "Groups:\t \n");
        // A caller without the right to do that has the groups of the container's processes.
        let out = run(&mut enter_as("65534:65534", &dir, target.pid, groups)).ok().out();
        assert_eq!(out, "Groups:\t65534 65534 \n");
    }

    #[test]
    fn a_user_enters_what_he_has_made_and_nobody_elses() {
        let dir = for_users();
        let target = target(&mut of_user("65534:65534", "-r -m -p -n -u -i -C", &dir));
        let init = fs::read_to_string(format!("/proc/{}/status", target.pid)).expect("status");
        let init = init.lines().find_map(|l| l.strip_prefix("PPid:\t")).expect("a parent");
        let init = init.parse().expect("a pid");
        // Process 1, which is not dumpable.
        let out = run(&mut enter_as("65534:65534", &dir, init, "ps -o comm")).ok().out();
        assert_eq!(out, "COMMAND\ntd-init\nsleep\nps\n");
        run(&mut enter_as("65533:65533", &dir, init, "true"))
            .exits(125)
            .says(&format!("this process may not trace process {init}"))
            .says("enter as root, or as the user who created its user namespace");
    }

    // ---- root, directory, descriptors ----

    #[test]
    fn root_and_working_directory_are_those_of_the_process_or_those_that_are_named() {
        private_mounts();
        let dir = TempDir::new();
        let image_of_test = dir.dir("image");
        image(&image_of_test);
        fs::write(image_of_test.join("here"), "").expect("a file");
        let line = format!("-m td-pivot {} td-exec -C /tmp", text(&image_of_test));
        let target = target(&mut td_unshare(&line));
        let look = "pwd; ls -d /here";
        let named = format!("-r={}", text(&image_of_test));
        for (options, out) in [
            ("-m", "/\n/here\n"),
            ("-r", "/\n/here\n"),
            ("-mrw", "/tmp\n/here\n"),
            ("-r --wd", "/tmp\n/here\n"),
            ("-mr -w=/etc", "/etc\n/here\n"),
            ("--mount --root --wd=/bin", "/bin\n/here\n"),
            ("-m -r=/etc/../", "/\n"),
        ] {
            let output = run(&mut enter(&target, options, look));
            assert_eq!(output.out(), out, "{options}: {output}");
        }
        let mut cmd = td("td-enter", [&named, "-w=/var", "sh", "-c", look]);
        assert_eq!(run(&mut cmd).ok().out(), "/var\n/here\n");
        run(&mut enter(&target, "-mr -w=/nowhere", "true"))
            .exits(125)
            .says("/nowhere does not exist");
    }

    #[test]
    fn pwd_is_the_working_directory_that_was_named_and_never_another() {
        private_mounts();
        let target = target(&mut td_unshare("-m -u"));
        for (options, pwd) in [
            ("-u", "PWD=/stale\n"),
            ("-m", ""),
            ("-m -r", ""),
            ("-u -w", ""),
            ("-m -w=/tmp", "PWD=/tmp\n"),
        ] {
            let mut cmd = td("td-enter", ["-t", &target.pid.to_string()]);
            cmd.args(options.split(' ')).arg("/usr/bin/env").env_clear().env("PWD", "/stale");
            assert_eq!(run(&mut cmd).ok().out(), pwd, "{options}");
        }
        let house = House::new();
        let held = Entered::new(&house, &["-w", "/tmp"], "echo $PWD ready; read x || :");
        assert_eq!(held.held.running.out(), "/tmp ready\n");
        let mut cmd = held.enter(&["env"]);
        assert!(!run(&mut cmd).ok().out().contains("PWD="));
        held.ends();
    }

    #[test]
    fn the_working_directory_need_be_open_before_or_after_the_ids_change() {
        let dir = for_users();
        let target = target(&mut of_user("65534:65534", "-r -m -p", &dir));
        // No process inside has power over the files of an owner who is not mapped.
        for (name, owner) in [("before", "0:5"), ("after", "5:65534"), ("never", "5:5")] {
            let path = dir.dir(name);
            chmod(&path, 0o710);
            run(Command::new("chown").arg(owner).arg(&path)).ok();
            let output = run(&mut enter(&target, &format!("-U -w={}", text(&path)), "pwd"));
            match name {
                "never" => {
                    output.exits(125).says(&format!("uid 0 may not search {}, which", text(&path)));
                }
                _ => assert_eq!(output.ok().out(), format!("{}\n", text(&path))),
            }
        }
    }

    #[test]
    fn no_descriptor_of_the_host_comes_along_but_the_standard_streams() {
        private_mounts();
        let target = target(&mut td_unshare("-m -p"));
        for options in ["-m", "-mp"] {
            let mut cmd = enter(&target, options, "ls /proc/self/fd");
            give_fd(&mut cmd, 77, fs::File::open("/").expect("a directory"));
            assert_eq!(run(&mut cmd).ok().out(), "0\n1\n2\n3\n");
        }
        for fd in 0..3 {
            let redirected = format!("exec \"$@\" {fd}</");
            let mut cmd = sh(&redirected);
            cmd.arg("sh").arg(bin("td-enter")).args(["-t", &target.pid.to_string(), "-m", "true"]);
            let output = run(&mut cmd).exits(125);
            let said = format!("descriptor {fd} is a directory, which leads out of the new root");
            assert!(fd == 2 || output.err().contains(&said), "{output}");
        }
    }

    #[test]
    fn a_block_device_on_a_standard_stream_is_refused() {
        private_mounts();
        let target = target(&mut td_unshare("-m -p"));
        let dir = TempDir::new();
        let mut cmd = enter(&target, "-m", "true");
        cmd.stdin(fs::File::open(block_device(&dir)).expect("it can be opened"));
        cmd.stdout(Stdio::null()).stderr(Stdio::piped());
        start_with(&mut cmd).wait().exits(125).says("descriptor 0 is a block device");
    }

    #[test]
    fn a_terminal_that_controls_no_session_is_refused_where_it_can_be_typed_into() {
        let typing = fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti");
        let status = if typing.is_ok_and(|value| value == "0\n") { 0 } else { 125 };
        let house = House::new();
        let held = house.hold(&["--security-opt", "seccomp=unconfined"], HOLD);
        let terminal = Pty::new();
        let mut cmd =
            td("td-enter", ["--state", text(&house.state()), "--name", &house.name, "true"]);
        cmd.stdin(terminal.open()).stdout(Stdio::null()).stderr(Stdio::piped());
        let output = start_with(&mut cmd).wait().exits(status);
        let said = "td-enter: descriptor 0 is a terminal that perhaps controls no session";
        assert_eq!(output.err().contains(said), status == 125, "{output}");
        held.go_on().exits(0);
    }

    // ---- the child ----

    #[test]
    fn signals_are_passed_on_and_the_status_comes_back() {
        private_mounts();
        let target = target(&mut td_unshare("-p -n"));
        let script =
            "trap 'exit 9' TERM; trap 'exit 8' HUP; echo ready; while :; do sleep 0.01; done";
        for (signal, status) in [(libc::SIGTERM, 9), (libc::SIGHUP, 8), (libc::SIGINT, 130)] {
            let running = start(&mut enter(&target, "-pn", script));
            running.prints("ready");
            running.kill(signal);
            running.wait().exits(status);
        }
    }

    #[test]
    fn prog_dies_with_td_enter() {
        let dir = for_users();
        for user in ["0", "65534:65534"] {
            let target = target(&mut of_user(user, "-r -m -p", &dir));
            // As root: the change of ids has taken the signal away.
            let running =
                start(&mut enter_as("0", &dir, target.pid, "echo ready; exec sleep 1000"));
            running.prints("ready");
            let prog = only_child(running.pid());
            running.kill(libc::SIGKILL);
            assert!(ended_within(prog, LIMIT));
        }
    }

    /// The process that has become PROG, once the one that has joined the namespaces for it has been reaped.
    fn only_child(pid: i32) -> i32 {
        wait_for("one child", || match children_of(pid)[..] {
            [child] => Some(child),
            _ => None,
        })
    }

    #[test]
    fn prog_dies_with_the_parent_that_an_earlier_tool_has_given_it() {
        let dir = for_users();
        let target = target(td_as("65534:65534", &dir, "td-unshare").args(["-r", "sleep", "1000"]));
        let mut cmd = td("td-unshare", ["--rmdir", text(&dir.join("none")), "td-enter", "-t"]);
        cmd.args([&target.pid.to_string(), "-U", "sh", "-c", "echo ready; exec sleep 1000"]);
        let running = start(&mut cmd);
        running.prints("ready");
        let [prog] = children_of(running.pid())[..] else { panic!("one child") };
        running.kill(libc::SIGKILL);
        assert!(ended_within(prog, LIMIT));
    }

    #[test]
    fn the_parent_stays_out_of_the_pid_namespace_and_the_cgroup() {
        let house = House::new();
        let held = Entered::new(&house, &[], HOLD);
        let mut cmd = held.enter(&["sh", "-c", HOLD]);
        let (reader, pipe) = pipe();
        let running = start_with(cmd.stdin(reader).stdout(Stdio::piped()).stderr(Stdio::piped()));
        running.prints("ready");
        let [_, first, _] = held.held.processes();
        let prog = only_child(running.pid());
        let cgroup = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroup");
        assert_eq!(cgroup(prog), cgroup(first));
        assert_eq!(cgroup(running.pid()), cgroup(std::process::id() as i32));
        assert_ne!(cgroup(prog), cgroup(running.pid()));
        assert_eq!(ns(prog, "pid"), ns(first, "pid"));
        assert_eq!(ns(running.pid(), "pid"), ns("self", "pid"));
        let fds = fs::read_dir(format!("/proc/{}/fd", running.pid())).expect("its descriptors");
        assert_eq!(fds.count(), 4, "the standard streams, and the end of the line to its child");
        drop(pipe);
        running.wait().ok();
        held.ends();
    }

    #[test]
    fn the_cgroup_is_joined_without_a_new_process_too() {
        let house = House::new();
        let held = Entered::new(&house, &[], HOLD);
        let [_, first, _] = held.held.processes();
        let mut cmd = td("td-enter", ["-t", &first.to_string(), "--join-cgroup"]);
        let out = run(cmd.args(["cat", "/proc/self/cgroup"])).ok().out();
        let theirs = fs::read_to_string(format!("/proc/{first}/cgroup")).expect("cgroup");
        assert_eq!(out, theirs);
        assert!(theirs.contains(&format!("{}/leaf\n", house.below(""))), "{theirs}");
        held.ends();
    }

    // ---- a container ----

    /// A container of td-run, whose pid file is there.
    struct Entered<'a> {
        house: &'a House,
        held: Held,
    }

    impl<'a> Entered<'a> {
        #[track_caller]
        fn new(house: &'a House, options: &[&str], script: &str) -> Entered<'a> {
            let held = house.hold(options, script);
            wait_for("the pid file", || pid_file(house).exists().then_some(()));
            Entered { house, held }
        }

        fn enter(&self, prog: &[&str]) -> Command {
            enter_name(self.house, prog)
        }

        #[track_caller]
        fn sh(&self, script: &str) -> Output {
            run(&mut self.enter(&["sh", "-c", script]))
        }

        #[track_caller]
        fn ends(self) {
            self.held.go_on().exits(0);
            self.house.nothing_is_left();
        }
    }

    fn pid_file(house: &House) -> PathBuf {
        house.state().join("containers").join(&house.name).join("pid")
    }

    /// As td-unshare --pid-file does.
    fn write_pid(house: &House, pid: i32) {
        let file = pid_file(house);
        fs::create_dir_all(file.parent().expect("a directory")).expect("the container's");
        fs::write(file, pid_text(pid)).expect("the pid");
    }

    /// td-enter, by the user who runs the container.
    fn enter_name(house: &House, prog: &[&str]) -> Command {
        let mut cmd = Command::new(house.bin("td-enter"));
        cmd.args(["--state", text(&house.state()), "--name", &house.name]).args(prog);
        house.who.runs(&mut cmd);
        cmd.current_dir("/");
        cmd
    }

    /// What a process may do, and what it is in.
    const STATE: &str = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp)' /proc/self/status; pwd; hostname; \
        cat /proc/self/cgroup; ls -di /; ls /sys/class/net; env | sort | grep -v SHLVL";

    #[test]
    fn prog_has_what_the_containers_command_has() {
        let without_groups = |text: &str| {
            let lines = text.lines().filter(|line| !line.starts_with("Groups:"));
            lines.map(String::from).collect::<Vec<_>>()
        };
        for house in House::each() {
            let policy = house.dir.file("policy", "default\nEPERM sethostname\n");
            chmod(&policy, 0o644);
            let file = format!("seccomp={}", text(&policy));
            for options in [
                &[][..],
                &["--privileged"],
                &["--no-init", "-e", "A=b c"],
                &["--net=host"],
                &["--security-opt=seccomp=unconfined"],
                &["--security-opt=no-new-privileges=false"],
                &["--security-opt", &file],
            ] {
                let held = Entered::new(&house, options, &format!("{STATE}; {HOLD}"));
                let theirs = held.held.running.out().replace("ready\n", "");
                let out = held.sh(STATE).ok().out();
                assert_eq!(out, theirs, "{options:?} {:?}", house.who);
                // Root comes into everybody's, and leaves his groups behind.
                let mut cmd = td("td-enter", held.enter(&["sh", "-c", STATE]).get_args());
                let out = without_groups(&run(&mut cmd).ok().out());
                assert_eq!(out, without_groups(&theirs), "{options:?} {:?}", house.who);
                held.ends();
            }
        }
    }

    #[test]
    fn it_works_as_docker_exec_does() {
        let house = House::new();
        let held = Entered::new(&house, &[], HOLD);
        let ps = run(&mut held.enter(&["ps", "-o", "pid,comm"])).ok().out();
        let names: Vec<&str> = ps.lines().map(|l| l.split_whitespace().last().expect(l)).collect();
        assert_eq!(names, ["COMMAND", "td-init", "sh", "ps"], "{ps}");
        for status in [0, 1, 7, 125, 126, 127, 255] {
            held.sh(&format!("exit {status}")).exits(status);
        }
        for signal in [libc::SIGTERM, libc::SIGKILL, libc::SIGSEGV, 40] {
            held.sh(&format!("kill -{signal} $$")).exits(128 + signal);
        }
        run(&mut held.enter(&["/etc/passwd"])).exits(126).says("has no execute permission");
        run(&mut held.enter(&["nothing-such"])).exits(127).says("nothing-such: not found in PATH");
        // Of the host, and not of the image.
        run(&mut held.enter(&[text(&bin("td-exec"))])).exits(127);
        held.ends();
    }

    #[test]
    fn the_standard_streams_are_passed_through() {
        let house = House::new();
        let held = Entered::new(&house, &[], HOLD);
        let (reader, mut pipe) = pipe();
        let mut cmd = held.enter(&["sh", "-c", "read x; echo out $x; echo err $x >&2"]);
        let running = start_with(cmd.stdin(reader).stdout(Stdio::piped()).stderr(Stdio::piped()));
        pipe.write_all(b"words\n").expect("the pipe");
        let output = running.wait().exits(0);
        assert_eq!((output.out(), output.err()), ("out words\n".into(), "err words\n".into()));
        held.ends();
    }

    #[test]
    fn prog_leads_a_session_of_its_own_and_has_no_terminal() {
        let house = House::new();
        let held = Entered::new(&house, &[], HOLD);
        // Process group, session, terminal.
        let out = held.sh("echo $$; cut -d' ' -f5,6,7 /proc/$$/stat").ok().out();
        let (pid, stat) = out.trim().split_once('\n').expect("two lines");
        assert_eq!(stat, format!("{pid} {pid} 0"));
        held.ends();
    }

    #[test]
    fn prog_may_be_one_of_our_tools_which_the_image_does_not_have() {
        let house = House::new();
        let held = Entered::new(&house, &["-e", "A=b"], HOLD);
        let line =
            ["td-exec", "--user", "5:6", "sh", "-c", "echo $(id -u) $(id -g) $A $TD_OF_HOST"];
        let out = run(held.enter(&line).env("TD_OF_HOST", "seen")).ok().out();
        assert_eq!(out, "5 6 b\n");
        held.ends();
    }

    /// A user who is not root, in a container without set-user-id programs, must not become root by an entry of the
    /// administrator's.
    #[test]
    fn a_command_of_another_user_does_not_choose_the_environment_of_root() {
        for option in [&[][..], &["--no-init"]] {
            let house = House::new();
            let options = [option, &["-u", "33", "-e", "LD_PRELOAD=/tmp/x"]].concat();
            let held = Entered::new(&house, &options, &format!("PATH=/tmp exec sh -c '{HOLD}'"));
            let out = held.sh("id -u; env | grep -v -e PWD -e SHLVL").ok().out();
            assert_eq!(out, format!("0\nPATH={}\n", td::process::prog::DEFAULT_PATH), "{option:?}");
            held.ends();
        }
    }

    #[test]
    fn a_user_who_is_mapped_as_another_is_that_one_inside() {
        let house = House::of(Who::Nobody);
        let held = Entered::new(&house, &["-u", "1000:1000", "-e", "A=b"], HOLD);
        let script = "echo $(id -u) $(id -g) $A; grep ^CapEff /proc/self/status";
        let mut root = td("td-enter", held.enter(&["sh", "-c", script]).get_args());
        for cmd in [&mut held.enter(&["sh", "-c", script]), &mut root] {
            assert_eq!(run(cmd).ok().out(), "1000 1000 b\nCapEff:\t0000000000000000\n");
        }
        held.ends();
    }

    #[test]
    fn pipes_are_given_to_who_prog_is_in_another_user_namespace() {
        let dir = for_users();
        let script = "echo out >/proc/self/fd/1 && echo err >>/proc/self/fd/2";
        let target = target(&mut of_user("65534:65533", "-r -m -p", &dir));
        let mut cmds = vec![enter_as("0", &dir, target.pid, script)];
        let houses = [Who::Root, Who::Nobody, Who::Made].map(House::of);
        let held = houses.iter().map(|house| Entered::new(house, &[], HOLD)).collect::<Vec<_>>();
        for held in &held {
            cmds.push(td("td-enter", held.enter(&["sh", "-c", script]).get_args()));
        }
        for mut cmd in cmds {
            let output = run(&mut cmd).exits(0);
            assert_eq!((&*output.out(), &*output.err()), ("out\n", "err\n"), "{output}");
        }
        held.into_iter().for_each(Entered::ends);
    }

    #[test]
    fn containers_are_looked_for_where_td_run_keeps_them() {
        let dir = for_users();
        let says = |user: &str, data: Option<&str>, home: Option<&str>, text: &str| {
            let mut cmd = td_as(user, &dir, "td-enter");
            cmd.args(["--name", "no-such", "true"]).env_remove("XDG_DATA_HOME").env_remove("HOME");
            let variables = [("XDG_DATA_HOME", data), ("HOME", home)].into_iter();
            cmd.envs(variables.filter_map(|(name, value)| Some((name, value?))));
            run(&mut cmd).exits(125).says(text);
        };
        let no = |path: &str| format!("the container {path}/td/containers/no-such does not exist");
        let user = "65534:65534";
        says(user, Some("/x"), Some("/h"), &no("/x"));
        says(user, Some(""), Some("/h"), &no("/h/.local/share"));
        says(user, None, None, "HOME is not set, so the directory of the containers is not known");
        says("0", Some("/x"), Some("/h"), &no("/var/lib"));
        let mut cmd = td("td-enter", ["--state", "/s", "--name", "no-such", "true"]);
        run(&mut cmd).exits(125).says("the container /s/containers/no-such does not exist");
    }

    // ---- what cannot be entered ----

    #[test]
    fn an_environment_without_end_is_refused() {
        let house = House::new();
        let script = "x=$(head -c 120000 /dev/zero | tr '\\0' x); \
            exec env A=$x B=$x C=$x D=$x E=$x F=$x G=$x H=$x I=$x sh -c 'echo ready; read x || :'";
        let held = Entered::new(&house, &[], script);
        let command = held.held.processes()[2];
        let says = format!("the environment of process {command} has more than 1048576 bytes");
        run(&mut held.enter(&["true"])).exits(125).says(&says);
        held.ends();
    }

    /// `cmd` where no hierarchy is mounted.
    fn without_cgroups(cmd: &Command) -> Command {
        let script = "while read -r a b c d point rest; do \
            case $rest in *' - cgroup'*) umount -l \"$point\" || :;; esac; \
            done </proc/self/mountinfo 2>/dev/null; exec \"$@\"";
        let mut unshare = Command::new("unshare");
        unshare.args(["-m", "sh", "-c", script, "sh"]).args(words(cmd));
        unshare
    }

    #[test]
    fn a_cgroup_of_a_hierarchy_that_is_not_mounted_is_joined_and_one_out_of_reach_is_named() {
        let house = House::new();
        let held = Entered::new(&house, &[], HOLD);
        let entry = held.enter(&["sh", "-c", "cat /proc/self/cgroup"]);
        let out = run(&mut without_cgroups(&entry)).ok().out();
        assert!(out.lines().all(|line| line.ends_with(":/")), "all are the container's: {out}");

        let cgroup = format!("{}/leaf", house.below(""));
        let first = held.held.processes()[1].to_string();
        let mut cmd = Command::new("setpriv");
        cmd.args(["--bounding-set", "-sys_admin"]).arg(bin("td-enter"));
        cmd.args(["-t", &first, "--join-cgroup", "true"]);
        run(&mut without_cgroups(&cmd))
            .exits(125)
            .says("EPERM")
            .says(&format!("{cgroup} is not below a cgroup mount point of this mount namespace"));
        held.ends();
    }

    /// Hold the lock of the container's name as td-run does, by a process that then is this command, with the pid
    /// file where td-run has it.
    fn locked(house: &House, command: &[&str]) -> Command {
        let mut cmd = td("td-lock", ["--mkdir", "--key", &house.name]);
        cmd.arg(house.state().join("lock")).args(command);
        cmd
    }

    /// A process in a pid namespace that is named in the pid file, as its process 1, by a parent that has the lock.
    fn running(house: &House, options: &str) -> Target {
        let pid = pid_file(house);
        let mut line = vec!["td-unshare", "--pid-file", text(&pid)];
        line.extend(options.split(' '));
        line.extend(["sleep", "1000"]);
        target(&mut locked(house, &line))
    }

    #[test]
    fn what_does_not_run_is_said() {
        let house = House::new();
        let says = |text: &str| run(&mut enter_name(&house, &["true"])).exits(125).says(text);
        let container = format!("{}/containers/{}", text(&house.state()), house.name);
        says(&format!("the container {container} does not exist\n"));
        fs::create_dir_all(&container).expect("the container's directory");
        for made in [house.state(), house.state().join("containers"), container.clone().into()] {
            chmod(made, 0o700);
        }
        says(&format!("the container {container} is not running\n"));
        for content in ["many\n", "12\nstart=\n", &format!("1{}", "0".repeat(100))] {
            fs::write(pid_file(&house), content).expect("the pid");
            says(&format!("{container}/pid is not a pid file\n"));
        }
        fs::write(pid_file(&house), "12\n").expect("the pid");
        says(&format!("{container}/pid does not say when process 12 started\n"))
            .says("if it is process 1 of the container, enter it: --target 12");
        let mut ended = start(Command::new("sleep").arg("1000"));
        write_pid(&house, ended.pid());
        // Its pid may be that of another process by now.
        says(&format!("process {} is not process 1 of a container\n", ended.pid()));
        ended = start(&mut sh(""));
        write_pid(&house, ended.pid());
        let pid = ended.pid();
        ended.wait().ok();
        says(&format!("process {pid} does not exist\n"));
        says(&format!("the container {container} is not running\n"));
    }

    #[test]
    fn what_is_in_the_place_of_a_file_of_the_state_does_not_hold_an_entry() {
        for name in ["pid", "lock"] {
            let house = House::new();
            let held = Entered::new(&house, &[], HOLD);
            let file = if name == "pid" { pid_file(&house) } else { house.state().join("lock") };
            let aside = house.dir.join("aside");
            fs::rename(&file, &aside).expect("it goes aside");
            run(Command::new("mkfifo").arg(&file)).ok();
            let what =
                if name == "pid" { "pid is not a pid file" } else { "lock is not a regular file" };
            run(&mut held.enter(&["true"])).exits(125).says(what);
            fs::remove_file(&file).expect("it goes");
            std::os::unix::fs::symlink(&aside, &file).expect("a link");
            run(&mut held.enter(&["true"])).exits(125).says("ELOOP");
            fs::rename(&aside, &file).expect("it goes back");
            held.sh("exit 3").exits(3);
            held.ends();
        }
    }

    #[test]
    fn process_1_of_another_container_that_has_got_the_pid_is_not_entered() {
        let house = House::new();
        let other = target(&mut td_unshare("-m -p"));
        let container = pid_file(&house);
        // Its pid, and another time: as if the number had been given again.
        write_pid(&house, other.pid);
        let stale = format!("{}\nstart={}\n", other.pid, start_of(other.pid) - 1);
        fs::write(&container, &stale).expect("the pid");
        let says =
            format!("process {} is not the process that {} names", other.pid, text(&container));
        run(&mut enter_name(&house, &["true"])).exits(125).says(&says).says("is not running");
        // All that the file says holds, but the container does not run.
        write_pid(&house, other.pid);
        run(&mut enter_name(&house, &["true"]))
            .exits(125)
            .says(&format!("no process holds the lock of {}", house.name))
            .says("is not running");
        // It runs, and the file names another's process 1.
        fs::remove_file(&container).expect("the pid file");
        let holder = running(&house, "-p");
        write_pid(&house, other.pid);
        let output = run(&mut enter_name(&house, &["true"])).exits(125);
        output
            .says(&format!(
                "the name {} is locked by process {} (td-unshare)",
                house.name,
                holder._running.pid()
            ))
            .says(&format!("which is not the parent of process {}", other.pid));
    }

    const POLICY: &str = "grep ^Seccomp: /proc/self/status; unshare -U true 2>&1; hostname x 2>&1";

    #[test]
    fn without_the_record_of_its_policy_a_container_is_not_entered() {
        let house = House::new();
        let held = Entered::new(&house, &["--security-opt=seccomp=unconfined"], HOLD);
        assert_eq!(held.sh("grep ^Seccomp: /proc/self/status").ok().out(), "Seccomp:\t0\n");
        let note = pid_file(&house).with_file_name("run").join("policy");
        assert_eq!(fs::read(&note).expect("the policy"), b"");
        fs::remove_file(&note).expect("it goes");
        let unknown = "run/policy does not exist: the policy of the container is not known";
        run(&mut held.enter(&["true"])).exits(125).says(unknown);
        // What is not a file, or not a policy, is not passed over.
        run(Command::new("mkfifo").arg(&note)).ok();
        run(&mut held.enter(&["true"])).exits(125).says("run/policy is not a regular file");
        fs::remove_file(&note).expect("it goes");
        let damaged = "it is compiled, but its size is not a multiple of 8 bytes";
        fs::write(&note, "default\n1").expect("the record");
        run(&mut held.enter(&["true"])).exits(125).says("run/policy").says(damaged);
        fs::write(&note, "default\n").expect("the record");
        let said = "seccomp(2) does not accept instruction 0 of the policy";
        run(&mut held.enter(&["true"])).exits(125).says(said);
        let text = b"default\nEPERM setsid\n";
        let compiled = td::ids::policy::compile::program("policy", text, Arch::OWN, 0);
        let compiled = compiled.expect("a policy").expect("that refuses");
        fs::write(&note, compiled.to_bytes()).expect("the record");
        run(&mut held.enter(&["true"]))
            .exits(125)
            .says("the policy refuses setsid(2), which td-enter needs");
        fs::remove_file(&note).expect("it goes");
        held.ends();
    }

    #[test]
    fn the_policy_of_a_file_is_loaded_into_what_is_brought_in() {
        let house = House::new();
        let policy = house.dir.file("policy", "unconfined\nE2BIG sethostname\n");
        let option = format!("--security-opt=seccomp={}", text(&policy));
        let held = Entered::new(&house, &[&option], HOLD);
        let out = held.sh(POLICY).out();
        assert!(out.starts_with("Seccomp:\t2\n") && out.contains("too long"), "{out}");
        held.ends();
    }

    #[test]
    fn a_pid_file_of_the_callers_is_beside_that_of_the_state() {
        let house = House::new();
        let file = house.dir.join("pid");
        let held = Entered::new(&house, &["--pid-file", text(&file)], HOLD);
        assert_eq!(held.sh("echo in").ok().out(), "in\n");
        let [_, first, _] = held.held.processes();
        for file in [&file, &pid_file(&house)] {
            assert_eq!(fs::read_to_string(file).expect("a pid file"), pid_text(first));
        }
        held.ends();
        assert!(!file.exists());
    }

    /// A user's state that says of the user's container what `pid` says.
    fn lying(house: &House, pid: i32) {
        write_pid(house, pid);
        house.give(&house.state());
        for dir in ["state", "state/containers"] {
            chmod(house.dir.join(dir), 0o755);
        }
        chmod(pid_file(house).parent().expect("a directory"), 0o755);
    }

    /// td-enter by root, of a user's state.
    fn root_enters(house: &House) -> Output {
        let mut cmd = td("td-enter", ["--state", text(&house.state()), "--name", &house.name]);
        run(cmd.args(["sh", "-c", "echo entered"])).exits(125)
    }

    #[test]
    fn what_a_users_state_says_leads_root_to_nobody_else() {
        // To root's container, which runs: its waiting parent holds the lock of another file.
        let roots = House::new();
        let held = Entered::new(&roots, &[], HOLD);
        let [_, first, _] = held.held.processes();
        for house in House::each_user() {
            lying(&house, first);
            root_enters(&house).says("no process holds the lock of");
            // To a process of the host that root has begun with that lock.
            fs::remove_file(pid_file(&house)).expect("the pid file");
            let own = house.dir.join("own.pid");
            let line = ["td-unshare", "-m", "-p", "--pid-file", text(&own), "sleep", "1000"];
            let mut cmd = td("td-lock", ["--key", &house.name]);
            let target = self::target(cmd.arg(house.state().join("lock")).args(line));
            lying(&house, target.pid);
            root_enters(&house)
                .says(&format!("process {} is in the caller's user namespace", target.pid));
        }
        held.held.go_on().exits(0);
    }

    #[test]
    fn a_users_state_does_not_lead_root_to_the_container_of_another_user() {
        let house = House::of(Who::Nobody);
        house.give(&house.state());
        // The other user takes part in it.
        let lock = house.state().join("lock");
        fs::write(&lock, "").expect("the lock");
        for (path, mode) in [(house.state(), 0o755), (lock.clone(), 0o666)] {
            chmod(path, mode);
        }
        let mut cmd = td("td-exec", ["--user", "12345:12345"]);
        cmd.arg(house.dir.join("td/bin/td-lock")).args(["--key", &house.name]).arg(&lock);
        let target = target(cmd.args(["td-unshare", "-r", "-m", "-p", "sleep", "1000"]));
        lying(&house, target.pid);
        chmod(&lock, 0o666);
        root_enters(&house)
            .says(&format!("process {} is in a user namespace of uid 12345", target.pid))
            .says("so it does not belong to a container of uid 65534, the owner of the state directory");
    }

    #[test]
    fn the_links_of_a_user_do_not_lead_root_elsewhere() {
        let roots = House::new();
        let held = Entered::new(&roots, &[], HOLD);
        let house = House::of(Who::Nobody);
        let link = |from: PathBuf, to: PathBuf| {
            std::os::unix::fs::symlink(from, &to).expect("a link");
            run(Command::new("chown").args(["-h", "65534:65534"]).arg(&to)).ok();
        };
        // The container's directory, all of them, and the state.
        house.dir.dir("state/containers");
        house.give(&house.state());
        link(
            roots.state().join("containers").join(&roots.name),
            house.dir.join("state/containers/c"),
        );
        link(roots.state(), house.dir.join("other"));
        let enter = |state: PathBuf, name: &str| {
            let mut cmd = td("td-enter", ["--state", text(&state), "--name", name]);
            run(cmd.arg("true")).exits(125)
        };
        enter(house.state(), "c").says("is a symbolic link, which is not followed here");
        enter(house.dir.join("other"), &roots.name)
            .says("belongs to uid 65534, whom uid 0 does not trust");
        fs::rename(house.dir.join("state/containers"), house.dir.join("aside")).expect("aside");
        link(roots.state().join("containers"), house.dir.join("state/containers"));
        enter(house.state(), &roots.name).says("is a symbolic link, which is not followed here");
        held.ends();
    }

    #[test]
    fn a_lock_that_no_process_of_this_pid_namespace_holds_is_named() {
        let house = House::new();
        let target = running(&house, "-m -p");
        // From a pid namespace in which neither of them is.
        let entry = enter_name(&house, &["true"]);
        let mut cmd = Command::new("unshare");
        cmd.args(["-pf", "--mount-proc"]).arg(entry.get_program()).args(entry.get_args());
        run(&mut cmd).exits(125).says(&format!("process {} does not exist", target.pid));
        // An open file description's.
        let house = House::new();
        let other = self::target(&mut td_unshare("-m -p"));
        write_pid(&house, other.pid);
        let lock = fs::File::create(house.state().join("lock")).expect("the lock");
        // SAFETY: plain numbers.
        let mut whole: libc::flock = unsafe { std::mem::zeroed() };
        whole.l_type = libc::F_WRLCK as i16;
        // SAFETY: a lock that outlives the call.
        let locked = unsafe {
            libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&lock), libc::F_OFD_SETLK, &whole)
        };
        check(locked).expect("the lock");
        run(&mut enter_name(&house, &["true"]))
            .exits(125)
            .says("is locked by an open file description, or from another machine");
    }

    /// It is asked who holds the name's lock, in a file where the caller has a lock of another name.
    #[test]
    fn a_lock_of_the_callers_in_the_state_is_kept_by_the_parent_that_waits() {
        let house = House::new();
        let entered = Entered::new(&house, &[], HOLD);
        let lock = |options: &[&str]| {
            let mut cmd = td("td-lock", options);
            cmd.arg(house.state().join("lock"));
            cmd
        };
        let entry = entered.enter(&["sh", "-c", "echo in; exec sleep 1000"]);
        let mut cmd = lock(&["--key", "other"]);
        let running = start(cmd.arg("td-enter").args(entry.get_args()));
        running.prints("in");
        let says = format!("is locked by process {} (", running.pid());
        run(lock(&["-n", "--key", "other"]).arg("true")).exits(125).says(&says);
        running.kill(libc::SIGTERM);
        running.wait().exits(128 + libc::SIGTERM);
        run(lock(&["-n", "--key", "other"]).arg("true")).ok();
        entered.ends();
    }

    #[test]
    fn before_the_root_is_changed_nobody_enters() {
        let house = House::new();
        let _target = running(&house, "-m -p");
        run(&mut enter_name(&house, &["true"])).exits(125).says("is still being set up");
        let output = run(enter_name(&house, &["true"]).arg("--dry-run"));
        assert_eq!(output.code, Some(125), "{output}");
    }

    /// A chain of tools whose first one outlives strace.
    struct Slow(Running, i32);

    impl Drop for Slow {
        fn drop(&mut self) {
            self.0.kill(libc::SIGKILL);
            kill(self.1, libc::SIGKILL);
        }
    }

    /// A chain of tools in an image, of which a call is held up for so many microseconds.
    fn slow(house: &House, call: &str, init: &[&str]) -> Slow {
        let log = house.dir.join("log");
        let (pid, image) = (pid_file(house), house.image());
        let policy = format!("9:{}/policy", text(&pid.with_file_name("run")));
        let mut line =
            vec!["td-unshare", "--pid-file", text(&pid), "--record", &policy, "-m", "-p"];
        line.extend(["td-mount", "--proc", text(&image), "td-pivot", text(&image)]);
        line.extend(["td-exec", "--cap-keep", "chown", "--no-new-privs", "--env", "A=b"]);
        line.extend(init.iter().chain(&["sleep", "1000"]));
        let locked = locked(house, &line);
        let mut cmd = Command::new("strace");
        cmd.args(["-f", "-e", &format!("inject={call}"), "-o", text(&log)]);
        let running = start(cmd.arg(locked.get_program()).args(locked.get_args()));
        let tool = wait_for("process 1", || {
            let [tool] = children_of(running.pid())[..] else { return None };
            pid.exists().then_some(tool)
        });
        Slow(running, tool)
    }

    #[test]
    fn an_entry_waits_for_a_container_that_is_being_set_up() {
        for init in [&["td-init"][..], &[]] {
            for call in ["umount2", "prctl", "capset", "faccessat2"] {
                let house = House::new();
                mount(["--bind", text(&house.image()), text(&house.image())]);
                let when = if call == "prctl" { ":when=9" } else { ":when=1" };
                let _running = slow(&house, &format!("{call}:delay_enter=700000{when}"), init);
                let script = "grep -E '^(CapEff|NoNewPrivs)' /proc/self/status; echo $A";
                let output = run(&mut enter_name(&house, &["sh", "-c", script])).exits(0);
                let out = "CapEff:\t0000000000000001\nNoNewPrivs:\t1\nb\n";
                assert_eq!(output.out(), out, "{call} {init:?}: {output}");
            }
        }
    }

    #[test]
    fn an_entry_waits_for_two_seconds_and_no_longer() {
        for call in ["umount2", "capset", "faccessat2"] {
            let house = House::new();
            mount(["--bind", text(&house.image()), text(&house.image())]);
            let _running = slow(&house, &format!("{call}:delay_enter=60000000"), &["td-init"]);
            run(&mut enter_name(&house, &["true"])).exits(125).says("is still being set up");
        }
    }

    /// A kernel without keyrings says ENOSYS, and so may a filter: then PROG would have the caller's.
    #[test]
    fn a_filter_that_says_there_are_no_keyrings_is_not_believed() {
        for house in House::each() {
            let held = house.hold(&[], "echo ready; read _ || :");
            let mut cmd = enter_name(&house, &["echo", "PROG ran"]);
            refuse_calls(&mut cmd, &[libc::SYS_keyctl], libc::ENOSYS);
            let output = run(&mut cmd)
                .exits(125)
                .says("a filter refuses the call, because this kernel has keyrings");
            assert_eq!(output.out(), "");
            run(&mut enter_name(&house, &["echo", "PROG ran"])).ok();
            held.go_on().exits(0);
        }
    }

    // ---- what the kernel refuses ----

    #[test]
    fn what_is_no_namespace_or_another_is_named() {
        private_mounts();
        let says = |option: &str, text: &str| {
            run(&mut td("td-enter", [option, "true"])).exits(125).says(": EINVAL").says(text);
        };
        says("--net=/etc/passwd", "/etc/passwd is not a namespace");
        says("--net=/proc/self/ns/uts", "/proc/self/ns/uts is a namespace of type uts, not net");
        let own = "/proc/self/ns/user";
        says("-U=/proc/self/ns/user", &format!("{own} is the user namespace of this process"));
        // An ancestor's.
        let dir = TempDir::new();
        let file = dir.file("pid", "");
        mount(["--bind", "/proc/self/ns/pid", text(&file)]);
        let mut cmd = td("td-unshare", ["-p", "td-enter", &format!("-p={}", text(&file)), "true"]);
        run(&mut cmd).exits(125).says(&format!(
            "{} is neither this process's pid namespace nor one below it",
            text(&file)
        ));
        run(&mut td("td-enter", ["--net=/nowhere", "true"])).exits(125).says("ENOENT");
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        private_mounts();
        let mut ended = start(&mut sh(""));
        let pid = ended.pid().to_string();
        assert!(ended_within(ended.pid(), LIMIT));
        // It has ended, and waits to be reaped.
        let says = format!("process {pid} has ended");
        run(&mut td("td-enter", ["-t", &pid, "-a", "true"])).exits(125).says(&says);
        ended = start(&mut sh(""));
        ended.wait().ok();
        run(&mut td("td-enter", ["-t", "2147483647", "-a", "true"]))
            .exits(125)
            .says("pidfd_open(2147483647, 0): ESRCH")
            .says("process 2147483647 does not exist");
        // It ends while it is being entered.
        let target = target(&mut td_unshare("-n"));
        let cmd = enter(&target, "-n", "true");
        // One that lives has not ended, whatever setns(2) says.
        let (output, _) = strace::strace(&["-e", "inject=setns:error=ESRCH"], &cmd);
        let output = output.exits(125).says("ESRCH (");
        assert!(!output.err().contains("has ended"), "{output}");
        let dir = TempDir::new();
        let late = ["-e", "inject=setns:delay_enter=6000000"];
        let entry = start(&mut strace::under_strace(&late, &cmd, &dir));
        std::thread::sleep(Duration::from_secs(3));
        kill(target.pid, libc::SIGKILL);
        entry.wait().exits(125).says("ESRCH (").says(&format!("/proc/{} has ended", target.pid));
        // A pid of another /proc.
        run(&mut td("td-unshare", ["-p", "td-enter", "-t", "1", "-a", "true"]))
            .exits(125)
            .says("/proc shows another pid namespace");
    }

    #[test]
    fn a_right_that_is_missing_is_named() {
        private_mounts();
        let dir = TempDir::new();
        let target = target(&mut td_unshare("-m -n -u"));
        let entering = |keep: &str, options: &str| {
            let mut cmd =
                td("td-exec", ["--cap-keep", keep, bin("td-enter").to_str().expect("plain")]);
            cmd.args(["-t", &target.pid.to_string()]).args(options.split(' ')).arg("true");
            run(&mut cmd).exits(125)
        };
        entering("sys_ptrace", "-n")
            .says("setns(")
            .says("this process has no CAP_SYS_ADMIN")
            .says("enter its user namespace as well: add --user");
        entering("sys_ptrace,sys_admin", "-m").says("this process has no CAP_SYS_CHROOT");
        entering("sys_admin", "-m").says("this process may not trace process");
        entering("sys_ptrace", "-r").says("chroot(").says("this process has no CAP_SYS_CHROOT");

        // A namespace of the host, from a user namespace below it; and the user namespace of another.
        chmod(dir.path(), 0o755);
        let pinned = |name: &str, kind: &str, pid: i32| {
            let file = dir.file(name, "");
            mount(["--bind", &format!("/proc/{pid}/ns/{kind}"), text(&file)]);
            text(&file).to_string()
        };
        let net = pinned("net", "net", target.pid);
        run(&mut td("td-unshare", ["-r", "td-enter", &format!("--net={net}"), "true"]))
            .exits(125)
            .says(&format!("{net} belongs to another user namespace"));
        let other = self::target(&mut td_unshare("-U"));
        let user = pinned("user", "user", other.pid);
        mount(["--bind", text(&bin_dir()), text(&dir.dir("bin"))]);
        let mut cmd = td_as("65534:65534", &dir, "td-enter");
        run(cmd.args([&format!("-U={user}"), "true"]))
            .exits(125)
            .says(&format!("this process has no CAP_SYS_ADMIN in the user namespace of {user}"))
            .says("enter as root, or as the user who created it");
    }

    /// As CVE-2024-21626: while td-enter has directories of its caller open, a link in `/proc/self/fd` leads there.
    #[test]
    fn no_link_of_the_new_root_leads_to_a_directory_of_the_caller() {
        private_mounts();
        use std::os::unix::fs::symlink;
        let dir = image_on_tmpfs("mnt");
        let image = dir.join("img");
        let mut names = Vec::new();
        for fd in 3..12 {
            for up in ["", "/..", "/../.."] {
                let name = format!("link{}", names.len());
                symlink(format!("/proc/self/fd/{fd}{up}"), image.join(&name)).expect("a link");
                names.push(name);
            }
        }
        chmod(dir.path(), 0o755);
        let target = |options: &str| {
            let mut cmd = td("td-unshare", options.split(' '));
            let mounts = ["--bind", "/proc", "/proc", text(&image)];
            cmd.arg("td-mount").args(mounts).args(["td-pivot", text(&image), "sleep", "1000"]);
            target(&mut cmd)
        };
        for (made, joined) in [("-r -m", "-U -m -r"), ("-m", "-m -r"), ("-r -m -p", "-a -r")] {
            let target = target(made);
            let root = run(&mut enter(&target, &format!("{joined} -w=/"), "ls -di /")).ok().out();
            for name in &names {
                let script = "ls -di / && ls -di ../../../../../../../..";
                let output = run(&mut enter(&target, &format!("{joined} -w=/{name}"), script));
                let inside = output.code == Some(125)
                    || output.out().replace(" ../../../../../../../..", " /") == root.repeat(2);
                assert!(inside, "{joined} {name}: {output}");
            }
            let magic = run(&mut enter(&target, &format!("{joined} -w=/proc/self/root"), "true"));
            magic.exits(125).says("/proc/self/root leads through a magic link (symlink(7))");
        }
    }

    #[test]
    fn a_pid_namespace_without_process_1_takes_nobody() {
        private_mounts();
        let dir = TempDir::new();
        let file = dir.file("pid", "");
        {
            let target = target(&mut td_unshare("-p"));
            mount(["--bind", &format!("/proc/{}/ns/pid", target.pid), text(&file)]);
        }
        wait_for("process 1 to have ended", || {
            // It may have begun to end: then it kills who comes.
            let mut cmd = td("td-enter", [&format!("--pid={}", text(&file)), "true"]);
            let output = run(&mut cmd);
            let said = output.err().contains("process 1 of the pid namespace has ended");
            (output.code == Some(125) && said).then_some(())
        });
    }

    // ---- nothing of the host is got hold of ----

    #[test]
    fn a_prog_that_is_interpreted_by_its_own_executor_gets_the_sealed_copy() {
        let house = House::new();
        let evil = house.image().join("evil");
        fs::write(&evil, "#!/proc/self/exe --help\n").expect("a script");
        chmod(&evil, 0o755);
        let held = Entered::new(&house, &[], HOLD);
        let before = fs::read(bin("td-enter")).expect("td-enter");
        assert!(run(&mut held.enter(&["/evil"])).ok().out().starts_with("usage: td-enter "));
        assert_eq!(fs::read(bin("td-enter")).expect("td-enter"), before);
        held.ends();
    }

    /// An entry whose child is held up before it makes this call for the first time.
    fn held_up(house: &House, call: &str, prog: &[&str]) -> Running {
        let log = house.dir.join("log");
        let mut cmd = Command::new("strace");
        cmd.args(["-f", "-o", text(&log), "-e"]);
        cmd.arg(format!("inject={call}:delay_enter=3000000"));
        let entry = enter_name(house, prog);
        start(cmd.arg(entry.get_program()).args(entry.get_args()))
    }

    /// What root in the container gets of each process that is neither its own nor process 1.
    const ATTACK: &str = "echo ready; while read x; do \
        for p in /proc/[0-9]*; do case ${p#/proc/} in 1|2) continue;; esac; \
          for f in maps environ fd/0 fd/3 ns/mnt exe cwd root; do \
            { head -c 1 $p/$f || readlink $p/$f; } >/dev/null 2>&1 && echo got $f; done; \
          for f in root cwd; do ls $p/$f/ >/dev/null 2>&1 && echo got $f/; done; \
          for f in mem exe fd/0; do { echo -n >>$p/$f; } 2>/dev/null && echo wrote $f; done; \
          readlink $p/exe; grep -E '^(CapPrm|CapBnd|Seccomp)' $p/status && echo saw; done; echo end; done";

    /// What that is while the child of td-enter is held up before `call`.
    #[track_caller]
    fn attack(options: &[&str], call: &str) -> String {
        let house = House::new();
        let mut held = Entered::new(&house, options, ATTACK);
        let running = held_up(&house, call, &["true"]);
        let inside = held.held.processes()[1];
        let is_inside = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        wait_for("the child of td-enter", || {
            let entry = *children_of(running.pid()).first()?;
            let children = children_of(entry);
            children.into_iter().any(|child| is_inside(child) == is_inside(inside)).then_some(())
        });
        held.held.pipe.write_all(b"now\n").expect("the pipe");
        let out = held.held.running.prints("end\n");
        assert!(out.contains("saw"), "{call}: nobody was there any more: {out}");
        running.wait().exits(0);
        held.ends();
        out
    }

    #[test]
    fn who_enters_cannot_be_traced_nor_looked_into_from_inside() {
        for call in ["setsid", "faccessat2"] {
            let out = attack(&[], call);
            assert!(!out.contains("got") && !out.contains("wrote"), "{call}: {out}");
            // It has no right any more that the container has not, and is under the policy.
            assert!(out.contains("Seccomp:\t2\n") && !out.contains("Seccomp:\t0"), "{call}: {out}");
            for set in ["CapPrm", "CapBnd"] {
                assert!(out.contains(&format!("{set}:\t00000000a00425fb\n")), "{call}: {out}");
            }
        }
    }

    #[test]
    fn who_may_trace_everybody_finds_a_sealed_copy_and_no_file_of_the_host() {
        let out = attack(&["--privileged"], "setsid");
        assert!(out.contains("\n/memfd:td-enter (deleted)\n"), "{out}");
        assert!(!out.contains("wrote exe"), "{out}");
    }
}
