//! td-enter --tty: a terminal of the container's own, used as a person would.

mod common;

use std::fs;
use std::os::unix::fs::chown;
use std::process::Command;
use std::time::Duration;

use common::house::{HOLD, Held, House, Who};
use common::pty::{Pty, number};
use common::*;

/// A command as a shell takes it.
fn typed(cmd: &Command) -> String {
    let quoted = words(cmd).map(|word| format!("'{}'", word.to_str().expect("a plain word")));
    quoted.collect::<Vec<_>>().join(" ")
}

/// A session of this user on a terminal, whose shell runs `script`.
#[track_caller]
fn session(who: Who, script: &str) -> (Pty, Running) {
    let terminal = Pty::new();
    terminal.resizes(33, 99);
    chown(&terminal.path, Some(who.id()), None).expect("the terminal");
    let ctty = format!("--ctty={}", terminal.path);
    let user = format!("--user={0}:{0}", who.id());
    let mut cmd =
        td("td-exec", [&ctty, &user, "--chdir=/", "--env=PS1=prompt> ", "sh", "-c", script]);
    let running = start(&mut cmd);
    (terminal, running)
}

#[test]
fn what_docker_takes_leads_to_what_td_takes() {
    for line in ["-it c1 sh", "-ti c1 sh", "-i -t c1 sh", "-t c1 -i sh"] {
        let output = run(&mut td("td-enter", line.split(' '))).exits(125);
        output.says("not a process id").says("td-enter --tty --name NAME PROG");
    }
    let output = run(&mut td("td-enter", ["--tty", "echo", "PROG ran"])).exits(125);
    let output = output.says("--tty: standard input is not a terminal").says("leave out --tty");
    assert_eq!(output.out(), "");
}

mod root {
    use super::*;

    /// A container that waits, and its end.
    struct Entered<'a> {
        house: &'a House,
        held: Held,
    }

    impl<'a> Entered<'a> {
        #[track_caller]
        fn new(house: &'a House, options: &[&str], script: &str) -> Entered<'a> {
            let held = house.hold(options, script);
            let pid = house.state().join("containers").join(&house.name).join("pid");
            wait_for("the pid file", || pid.exists().then_some(()));
            Entered { house, held }
        }

        /// td-enter by the user who runs the container.
        fn enter(&self, options: &[&str], prog: &[&str]) -> String {
            let mut cmd = Command::new(self.house.bin("td-enter"));
            cmd.args(["--state", text(&self.house.state()), "--name", &self.house.name]);
            typed(cmd.arg("--tty").args(options).args(prog))
        }

        /// What is shown when such an entry fails, with its exit status.
        #[track_caller]
        fn fails(&self, status: i32) -> String {
            let line = self.enter(&[], &["echo", "PROG ran"]);
            let (mut terminal, running) = session(self.house.who, &format!("{line}; echo st $?."));
            let shown = terminal.shows(&format!("st {status}.\r\n"));
            running.wait().ok();
            assert!(status == 0 || !shown.contains("PROG ran"), "{shown}");
            shown
        }

        #[track_caller]
        fn ends(self) {
            self.held.go_on().exits(0);
            self.house.nothing_is_left();
        }
    }

    /// Descriptors of a shell which are not its terminal. (In a pipeline it would have a pipe for a moment.)
    const STRANGE: &str = "ls -l /proc/$$/fd >/fds; grep -c -v -e /dev/pts/0 -e /dev/tty -e 'total 0' -e '> /fds' /fds";

    #[test]
    fn a_shell_has_a_terminal_of_the_container_with_job_control_and_the_modes_come_back() {
        for house in House::each() {
            let held = Entered::new(&house, &[], HOLD);
            let line = held.enter(&[], &["env", "PS1=prompt> ", "sh", "-i"]);
            let (mut terminal, running) =
                session(house.who, &format!("stty -g; {line}; echo \"st $?\"; stty -g"));
            let before = terminal.shows("\r\n");
            terminal.shows("prompt> ");
            assert!(terminal.is_raw());
            terminal.types("tty; stty size; echo tty >/dev/tty; echo pts >/dev/pts/0\n");
            terminal.shows("/dev/pts/0\r\n33 99\r\ntty\r\npts\r\n");
            // Process group, session, and the device 136:0.
            terminal.types(
                "read -r s </proc/$$/stat; set -- $s; echo $(($5 == $$)) $(($6 == $$)) $7\n",
            );
            terminal.shows("1 1 34816\r\n");
            terminal.types(&format!("{STRANGE}; ls -d /dev/console\n"));
            terminal.shows("\r\n0\r\n");
            terminal.shows("No such file");
            terminal.resizes(22, 88);
            terminal.types("stty size; echo\n");
            terminal.shows("22 88\r\n");
            terminal.has_job_control("prompt> ");
            terminal.shows("st 9\r\n");
            assert_eq!(terminal.shows("\r\n"), before, "{:?}", house.who);
            running.wait().ok();
            held.ends();
        }
    }

    #[test]
    fn the_container_keeps_its_console_and_a_second_entry_has_another_terminal() {
        let house = House::new();
        let cmd = house.container(&["-it"], &["sh", "-c", "echo ready; read x; echo $x; read x"]);
        let (mut first, container) = session(Who::Root, &typed(&cmd));
        first.shows("ready\r\n");
        let held = Entered {
            house: &house,
            held: Held { running: container, pipe: fs::File::open("/dev/null").expect("it") },
        };
        let line =
            held.enter(&[], &["sh", "-c", "tty; echo from >/dev/console; readlink /dev/console"]);
        let (mut second, entry) = session(Who::Root, &line);
        second.shows("/dev/pts/1\r\npts/0\r\n");
        entry.wait().ok();
        first.shows("from\r\n");
        first.types("typed\n");
        first.shows("typed\r\n");
        first.types("\n");
        held.ends();
    }

    #[test]
    fn with_a_target_the_terminal_is_of_the_root_that_is_entered() {
        let house = House::new();
        let held = Entered::new(&house, &[], HOLD);
        let target = held.held.processes()[1].to_string();
        for options in [&["-a"][..], &["-m"], &["-m", "-p"], &["-r"], &["-u"]] {
            let mut cmd = td("td-enter", ["-t", &target, "--tty"]);
            cmd.args(options).args(["sh", "-c", "echo \"at $(tty)\"; echo >/dev/tty; exit 6"]);
            let (mut terminal, running) =
                session(Who::Root, &format!("{}; echo \"st $?\"", typed(&cmd)));
            let shown = terminal.shows("st 6\r\n");
            let inside = options != ["-u"];
            assert_eq!(shown.contains("at /dev/pts/0\r\n"), inside, "{options:?}: {shown}");
            assert!(shown.contains("at /dev/pts/"), "{options:?}: {shown}");
            running.wait().ok();
        }
        held.ends();
    }

    /// A file system of terminals whose multiplexer is for nobody, as a machine has it, with the device beside it.
    #[test]
    fn an_ordinary_user_opens_the_device_where_the_multiplexer_is_for_nobody() {
        private_mounts();
        let dir = TempDir::new();
        mount(["-t", "tmpfs", "-o", "mode=755", "tmpfs", text(dir.path())]);
        let make = |name: &str, kind: &[&str]| {
            let file = dir.join(name);
            let _ = fs::remove_file(&file); // of the time before
            run(Command::new("mknod").args(["-m", "666", text(&file)]).args(kind)).ok();
        };
        make("null", &["c", "1", "3"]);
        make("ptmx", &["c", "5", "2"]);
        let options = "newinstance,ptmxmode=000";
        mount(["-t", "devpts", "-o", options, "devpts", text(&dir.dir("pts"))]);
        mount(["--rbind", text(dir.path()), "/dev"]);
        let as_user = |prog: &[&str]| {
            let mut cmd = td("td-tty", prog);
            Who::Nobody.runs(&mut cmd);
            run(cmd.current_dir("/"))
        };
        let output = as_user(&["sh", "-c", "tty; stat -c %u /dev/pts/0"]);
        assert_eq!(output.ok().out(), "/dev/pts/0\r\n65534\r\n");
        for kind in [&["c", "1", "3"][..], &["p"]] {
            make("ptmx", kind);
            assert_eq!(as_user(&["echo", "PROG ran"]).exits(125).says("EACCES").out(), "");
        }
    }

    #[test]
    fn td_enter_ends_with_prog_with_its_window_and_by_signals_and_prog_with_it() {
        let house = House::new();
        let held = Entered::new(&house, &[], HOLD);
        let children = || children_of(held.held.processes()[1]);
        for (script, status) in [("exit 7", 7), ("kill -KILL $$", 137), ("stty raw; exit 4", 4)] {
            let line = held.enter(&[], &["sh", "-c", script]);
            let line = format!("stty -g; {line}; echo \"st $?\"; stty -g");
            let (mut terminal, running) = session(Who::Root, &line);
            let before = terminal.shows("\r\n");
            terminal.shows(&format!("st {status}\r\n"));
            assert_eq!(terminal.shows("\r\n"), before, "{script}");
            running.wait().ok();
        }
        let line = held.enter(&[], &["sh", "-c", "echo re''ady; exec sleep 1000"]);
        for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGKILL, 0] {
            let line = format!("echo pid $$ .; exec {line}");
            let (mut terminal, running) = session(Who::Root, &line);
            let entry = number(&terminal.shows(" .\r\n"), "pid ");
            terminal.shows("ready\r\n");
            wait_for("raw modes", || terminal.is_raw().then_some(()));
            let [prog] = children_of(entry)[..] else { panic!("PROG alone is its child") };
            match signal {
                0 => drop(terminal),
                _ => kill(entry, signal),
            }
            assert!(ended_within(prog, Duration::from_secs(1)), "{signal}: PROG lives");
            match signal {
                0 => _ = running.wait().exits(128 + libc::SIGHUP),
                libc::SIGKILL => drop(running),
                _ => _ = running.wait().exits(128 + signal),
            }
        }
        assert_eq!(children().len(), 1);
        held.ends();
    }

    #[test]
    fn it_stops_as_a_job_and_continues() {
        let house = House::new();
        let held = Entered::new(&house, &[], HOLD);
        let (mut terminal, running) = session(Who::Root, "exec sh -i");
        terminal.shows("prompt> ");
        terminal.types("echo pid $$ e''nd\n");
        let shell = number(&terminal.shows(" end\r\n"), "pid ");
        terminal.shows("prompt> ");
        let line = held.enter(&[], &["env", "PS1=inner> ", "sh", "-i"]);
        terminal.types(&format!("{line}\n"));
        terminal.shows("inner> ");
        wait_for("raw modes", || terminal.is_raw().then_some(()));
        let [entry] = children_of(shell)[..] else { panic!("one job") };
        kill(entry, libc::SIGTSTP);
        terminal.shows("prompt> ");
        assert!(!terminal.is_raw());
        terminal.resizes(12, 34);
        terminal.types("fg\n");
        wait_for("raw modes", || terminal.is_raw().then_some(()));
        terminal.types("stty size; exit 6\n");
        terminal.shows("12 34\r\n");
        terminal.shows("prompt> ");
        terminal.types("echo \"st $?\"; exit\n");
        terminal.shows("st 6\r\n");
        running.wait().ok();
        held.ends();
    }

    #[test]
    fn a_prog_that_is_not_executed_is_reported_and_a_tool_may_follow() {
        let house = House::new();
        let held = Entered::new(&house, &[], HOLD);
        let line = held.enter(&[], &["nothing-such"]);
        let (mut terminal, running) = session(Who::Root, &format!("{line}; echo \"st $?\""));
        let shown = terminal.shows("st 127\r\n");
        assert!(shown.contains("nothing-such: not found in PATH"), "{shown}");
        running.wait().ok();
        let line =
            held.enter(&["--wd=/etc"], &["td-exec", "--user=5:6", "sh", "-c", "tty; pwd; id -u"]);
        let (mut terminal, running) = session(Who::Root, &line);
        terminal.shows("/dev/pts/0\r\n/etc\r\n5\r\n");
        running.wait().ok();
        held.ends();
    }

    /// What root in the container has put where a terminal is opened.
    #[test]
    fn nothing_that_stands_in_the_place_of_a_terminal_is_opened() {
        let house = House::new();
        let no_devpts = "/dev/pts is not a devpts";
        let no_directory = "ENOTDIR";
        let is_mounted = "something else is mounted on /dev/pts/ptmx";
        let bare = "umount /dev/pts && rmdir /dev/pts";
        for (script, why) in [
            ("rm /dev/ptmx; mkfifo /dev/ptmx".into(), None),
            ("ln -sf /proc/self/fd/0 /dev/ptmx".into(), None),
            ("umount /dev/pts; mkfifo /dev/pts/ptmx".into(), Some(no_devpts)),
            (format!("{bare}; mkfifo /dev/pts"), Some(no_directory)),
            (format!("{bare}; echo text >/dev/pts"), Some(no_directory)),
            (format!("{bare}; ln -s /proc/self/fd/0 /dev/pts"), Some("/dev/pts")),
            (format!("{bare}; ln -s /etc /dev/pts"), Some(no_devpts)),
            (bare.into(), Some("/dev/pts does not exist in this root")),
            ("mkfifo /f; mount --bind /f /dev/pts/ptmx".into(), Some(is_mounted)),
            ("mount --bind /dev/null /dev/pts/ptmx".into(), Some(is_mounted)),
            ("mount --bind /host /dev/pts/ptmx".into(), Some(is_mounted)),
            ("mount -t proc proc /dev/pts".into(), Some(no_devpts)),
        ] {
            let options = ["--privileged", "-v", "/dev/ptmx:/host"];
            let held = Entered::new(&house, &options, &format!("{script} || exit 1; {HOLD}"));
            let shown = held.fails(if why.is_some() { 125 } else { 0 });
            assert!(shown.contains(why.unwrap_or("PROG ran")), "{script}: {shown}");
            held.ends();
        }
    }

    #[test]
    fn a_policy_is_loaded_after_the_terminal_was_opened_or_refused_before_anything_is_done() {
        let house = House::new();
        let policy = |calls: &str| {
            let file = house.dir.file("policy", format!("unconfined\n{calls}\n"));
            format!("--security-opt=seccomp={}", text(&file))
        };
        // What td-enter calls before.
        let option = policy("EPERM openat2 fstatfs sendmsg dup3");
        let held = Entered::new(&house, &[&option], HOLD);
        assert!(held.fails(0).contains("PROG ran"));
        held.ends();
        for (calls, privileges, call) in [
            ("EPERM ioctl", &[][..], "ioctl"),
            ("EPERM sendmsg", &["--security-opt=no-new-privileges=false"], "sendmsg"),
            ("kill openat2", &["--security-opt=no-new-privileges=false"], "openat2"),
        ] {
            let option = policy(calls);
            let options = [&[&*option, "--no-init"][..], privileges].concat();
            let held = Entered::new(&house, &options, HOLD);
            let said = format!("the policy refuses {call}(2), which PROG's terminal needs");
            let shown = held.fails(125);
            assert!(shown.contains(&said), "{shown}");
            held.held.go_on();
        }
        // The container's own terminal is opened under the policy.
        let option = policy("EPERM sendmsg");
        let line = typed(&house.container(&["-it", &option], &["echo", "COMMAND ran"]));
        let (mut terminal, running) = session(Who::Root, &format!("{line}; echo \"st $?\""));
        let shown = terminal.shows("st 125\r\n");
        running.wait().ok();
        assert!(
            shown.contains("the policy refuses sendmsg(2), which PROG's terminal needs"),
            "{shown}"
        );
        assert!(!shown.contains("COMMAND ran"), "{shown}");
    }

    /// What a privileged container gets of who enters, before that becomes PROG.
    #[test]
    fn no_process_inside_ever_has_the_callers_terminal() {
        let house = House::new();
        let script = "echo ready; read x; for p in /proc/[0-9]*; do case ${p#/proc/} in 1 | 2 | $$) continue ;; esac; \
             for fd in 0 1 2; do echo \"$fd is $(readlink $p/fd/$fd)\"; done; \
             read -r s <$p/stat; set -- ${s##*) }; echo \"terminal $5\"; done; echo end; read x || :";
        let mut held = Entered::new(&house, &["--privileged"], script);
        let first = held.held.processes()[1];
        let log = house.dir.join("log");
        let inject = "inject=setsid:delay_enter=2000000";
        let line = held.enter(&[], &["true"]);
        let line = format!("strace -f -o '{}' -e {inject} {line}", text(&log));
        let (_terminal, running) = session(Who::Root, &line);
        let space = fs::read_link(format!("/proc/{first}/ns/pid")).expect("a process");
        wait_for("a process inside", || {
            let entry = children_of(*children_of(running.pid()).last()?);
            let mut all: Vec<i32> = entry.iter().flat_map(|pid| children_of(*pid)).collect();
            all.extend(entry);
            let is_inside = |pid: &i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
            all.iter().any(|pid| is_inside(pid).as_ref() == Some(&space)).then_some(())
        });
        std::io::Write::write_all(&mut held.held.pipe, b"now\n").expect("the pipe");
        let out = held.held.running.prints("end\n");
        assert!(
            out.contains("0 is /dev/pts/0\n1 is /dev/pts/0\n2 is /dev/pts/0\nterminal 0\n"),
            "{out}"
        );
        running.wait().ok();
        held.ends();
    }
}
