//! Signals in a run of td-run, with a terminal of the container's own and without, of root and of ordinary users: what
//! reaches COMMAND, and what is left when a process of the run is killed or cannot write.

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use common::house::{House, Who, pipe};
use common::pty::Pty;
use common::*;

/// A run whose COMMAND would sleep ends within this after a signal that ends it, also where nobody reads.
const FEW_SECONDS: Duration = Duration::from_secs(10);

const ENDING: [i32; 5] = [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGUSR1];

/// A shell with a terminal, in which a line runs td-run; and how the terminal was before.
struct Session {
    terminal: Pty,
    running: Running,
    before: String,
}

/// The line of a shell that runs td-run as the user of the house.
fn line(house: &House, options: &[&str], command: &[&str]) -> String {
    let cmd = house.container(options, command);
    let text = words(&cmd).map(|word| word.to_str().expect("a plain word"));
    let quoted = text.map(|word| format!("'{}'", word.replace('\'', "'\\''")));
    let line = quoted.collect::<Vec<_>>().join(" ");
    match house.who {
        Who::Root => line,
        who => format!(
            "env -C '{}' setpriv --reuid {id} --regid {id} --clear-groups {line}",
            house.dir.path().display(),
            id = who.id()
        ),
    }
}

/// A terminal whose session a shell leads that runs this script.
fn shell(script: &str) -> (Pty, Running) {
    let terminal = Pty::new();
    let ctty = format!("--ctty={}", terminal.path);
    let running = start(&mut td("td-exec", [&ctty, "--env=PS1=prompt> ", "sh", "-c", script]));
    (terminal, running)
}

impl Session {
    /// Started; COMMAND has shown "ready" if `waits`.
    #[track_caller]
    fn new(house: &House, options: &[&str], command: &[&str]) -> Session {
        let line = line(house, options, command);
        // A job of its own, so that what is typed does not end this shell.
        let script = format!("stty -g; set -m; {line}; st=$?; set +m; echo \"st $st.\"; stty -g");
        let (mut terminal, running) = shell(&script);
        let before = terminal.shows("\r\n");
        Session { terminal, running, before }
    }

    /// The pid of td-run.
    #[track_caller]
    fn pid(&self) -> i32 {
        // Not the stty before it.
        let is_it = |pid: &i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(2))
                == Some(&pid.to_string())
        };
        wait_for("td-run", || children_of(self.running.pid()).into_iter().find(is_it))
    }

    /// What was shown up to the end of td-run, and its exit status. The terminal is as it was.
    #[track_caller]
    fn end(mut self) -> (String, i32) {
        if let Some(pid) = children_of(self.running.pid()).first() {
            ends_soon(*pid, "a session");
        }
        let shown = self.terminal.shows("st ");
        let status = self.terminal.shows(".\r\n");
        assert_eq!(self.terminal.shows("\r\n"), self.before, "the modes have changed");
        self.running.wait();
        (shown, status.trim_end_matches(".\r\n").parse().expect("a status"))
    }
}

/// A run of td-run: on a terminal, or with pipes.
enum Run {
    Terminal(Session),
    Pipes(Running),
}

impl Run {
    /// COMMAND has shown "ready".
    #[track_caller]
    fn ready(house: &House, tty: bool, command: &[&str]) -> Run {
        let mut run = Run::new(house, tty, command);
        let pid = run.pid();
        match &mut run {
            Run::Terminal(session) => {
                session.terminal.shows("ready");
            }
            Run::Pipes(running) => {
                running.prints("ready");
            }
        }
        if command == SLEEPER {
            sleeps(pid);
        }
        run
    }

    #[track_caller]
    fn new(house: &House, tty: bool, command: &[&str]) -> Run {
        match tty {
            true => Run::Terminal(Session::new(house, &["-t"], command)),
            false => Run::Pipes(start(&mut house.container(&[], command))),
        }
    }

    #[track_caller]
    fn pid(&self) -> i32 {
        match self {
            Run::Terminal(session) => session.pid(),
            Run::Pipes(running) => running.pid(),
        }
    }

    /// What it has printed, and its exit status, as a shell has it.
    #[track_caller]
    fn end(self) -> (String, i32) {
        match self {
            Run::Terminal(session) => session.end(),
            Run::Pipes(running) => {
                let output = running.wait();
                let status = output.code.or(output.signal.map(|n| 128 + n));
                (output.out() + &output.err(), status.expect("a status"))
            }
        }
    }
}

/// COMMAND is td-init of the image, which says of each signal that it has come.
fn counts(house: &House) {
    let place = house.image().join("bin/td-init");
    fs::copy(bin("td-init"), &place).expect("a copy");
    chmod(&place, 0o755);
}

const COUNTER: [&str; 5] = [
    "td-init",
    "-v",
    "sh",
    "-c",
    "trap 'sleep 0.2; exit 7' TERM INT QUIT HUP USR1; echo ready; while :; do sleep 0.1; done",
];
const SLEEPER: [&str; 3] = ["sh", "-c", "echo ready; exec sleep 1000"];

/// The shell of [`SLEEPER`] has become sleep: a shell catches SIGINT, and loses it when it executes a program.
#[track_caller]
fn sleeps(pid: i32) {
    let line = |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let sleeps = || all_below(pid).iter().any(|pid| line(pid).starts_with(b"sleep\0"));
    wait_for("sleep", || sleeps().then_some(()));
}

/// How often it has come.
fn times(shown: &str, signal: &str) -> usize {
    shown.matches(&format!("td-init: {signal}: PROG ")).count()
}

/// Nothing is left, the mounts are as they were, and the next run of NAME works.
#[track_caller]
fn is_cleaned_up(house: &House, mounts: &str) {
    assert_eq!(own_mountinfo(), mounts, "a mount is left");
    house.nothing_is_left();
    house.sh(&[], "exit 5").exits(5);
}

/// Nothing is left but what `--reclaim` or the next run of NAME removes, and nobody lives.
#[track_caller]
fn can_be_reclaimed(house: &House, mounts: &str, reclaims: bool) {
    let gone = within(FEW_SECONDS, || house.processes().is_empty().then_some(()));
    assert!(gone.is_some(), "these live on: {:?}", house.processes());
    assert_eq!(own_mountinfo(), mounts, "a mount is left");
    if reclaims {
        run(&mut house.run(["--reclaim"])).ok();
        house.nothing_is_left();
    }
    house.sh(&[], "exit 5").exits(5);
    house.nothing_is_left();
}

/// A process and all below it.
fn all_below(pid: i32) -> Vec<i32> {
    let mut all = vec![pid];
    let mut next = 0;
    while next < all.len() {
        all.extend(children_of(all[next]));
        next += 1;
    }
    all
}

#[track_caller]
fn ends_soon(pid: i32, what: &str) {
    if !ended_within(pid, FEW_SECONDS) {
        let how: Vec<String> = all_below(pid).into_iter().map(shown).collect();
        panic!("{what}: process {pid} did not end: {how:#?}");
    }
}

/// Does it execute nothing any more? (The kernel may take a moment more to unmount what was mounted there.)
fn has_no_memory(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.is_empty()) || !is_alive(pid)
}

/// What a process is doing.
fn shown(pid: i32) -> String {
    let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let status = read("status");
    let fields = ["State:", "SigPnd:", "ShdPnd:", "SigBlk:"];
    let lines = status.lines().filter(|line| fields.iter().any(|field| line.starts_with(field)));
    let (line, call) = (read("cmdline").replace('\0', " "), read("syscall"));
    format!("{pid} {} {call} {:?}", &line[..line.len().min(60)], lines.collect::<Vec<_>>())
}

/// A pipe of one page, which takes a line, or a line and the rest of another, and then nothing.
fn narrow_pipe() -> (OwnedFd, File) {
    let (reader, writer) = pipe();
    // SAFETY: numbers.
    check(unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) }).expect("a size");
    (reader, writer)
}

mod root {
    use super::*;

    #[track_caller]
    fn reaches_command_once(house: House) {
        counts(&house);
        let mounts = own_mountinfo();
        for (tty, signal) in [false, true].iter().flat_map(|tty| ENDING.map(|n| (*tty, n))) {
            let what = format!("{:?}, terminal: {tty}, signal {signal}", house.who);
            let run = Run::ready(&house, tty, &COUNTER);
            kill(run.pid(), signal);
            let (shown, status) = run.end();
            let name = match signal {
                libc::SIGTERM => "SIGTERM",
                libc::SIGINT => "SIGINT",
                libc::SIGQUIT => "SIGQUIT",
                libc::SIGHUP => "SIGHUP",
                _ => "SIGUSR1",
            };
            // Where the terminal is hung up, nobody sees what is shown there.
            let hung_up = tty && signal == libc::SIGHUP;
            assert!(hung_up || times(&shown, name) == 1, "{what}: {shown}");
            assert_eq!(status, 7, "{what}: {shown}");

            let run = Run::ready(&house, tty, &SLEEPER);
            kill(run.pid(), signal);
            assert_eq!(run.end().1, 128 + signal, "{what}");
            is_cleaned_up(&house, &mounts);
        }
    }

    #[test]
    fn a_signal_to_td_run_reaches_command_once() {
        reaches_command_once(House::new());
    }

    #[test]
    fn a_signal_to_td_run_of_a_user_with_one_id_reaches_command_once() {
        reaches_command_once(House::of(Who::Nobody));
    }

    #[test]
    fn a_signal_to_td_run_of_a_user_with_many_ids_reaches_command_once() {
        reaches_command_once(House::of(Who::Made));
    }

    /// COMMAND writes to a volume, for its terminal is hung up.
    #[test]
    fn a_hangup_reaches_command_once() {
        for closes in [false, true] {
            let house = House::new();
            counts(&house);
            let seen = house.dir.dir("seen");
            let volume = format!("{}:/seen", seen.display());
            let script = format!("exec td-init -v sh -c \"{}\" 2>/seen/signals", COUNTER[4]);
            let session = Session::new(&house, &["-t", "-v", &volume], &["sh", "-c", &script]);
            let Session { mut terminal, running, .. } = session;
            terminal.shows("ready");
            let all = all_below(running.pid());
            match closes {
                true => drop(terminal),
                false => kill(all[1], libc::SIGHUP),
            }
            all[1..].iter().for_each(|pid| ends_soon(*pid, "SIGHUP"));
            let shown = fs::read_to_string(seen.join("signals")).expect("what has come");
            assert_eq!(times(&shown, "SIGHUP"), 1, "closes: {closes}: {shown}");
            house.nothing_is_left();
        }
    }

    #[test]
    fn what_is_typed_to_end_a_job_reaches_command_once() {
        for house in House::each() {
            counts(&house);
            let mounts = own_mountinfo();
            for (options, key, name) in [&[][..], &["-t"]]
                .iter()
                .flat_map(|options| [(*options, "\x03", "SIGINT"), (*options, "\x1c", "SIGQUIT")])
            {
                let what = format!("{:?} {options:?} {name}", house.who);
                let mut session = Session::new(&house, options, &COUNTER);
                session.terminal.shows("ready");
                session.terminal.types(key);
                let (shown, status) = session.end();
                assert_eq!((times(&shown, name), status), (1, 7), "{what}: {shown}");

                let mut session = Session::new(&house, options, &SLEEPER);
                session.terminal.shows("ready");
                sleeps(session.pid());
                session.terminal.types(key);
                let signal = if name == "SIGINT" { libc::SIGINT } else { libc::SIGQUIT };
                assert_eq!(session.end().1, 128 + signal, "{what}");
                is_cleaned_up(&house, &mounts);
            }
        }
    }

    /// As when the window of tmux(1) or of a terminal emulator is closed: td-run is a job of a shell, or leads the
    /// session.
    #[test]
    fn a_terminal_that_is_closed_ends_the_container() {
        for house in House::each() {
            let mounts = own_mountinfo();
            for options in [&[][..], &["-t"]] {
                for before in ["", "exec "] {
                    let line = line(&house, options, &SLEEPER);
                    let (mut terminal, running) = shell("PS1='prompt> ' exec sh -i");
                    terminal.shows("prompt> ");
                    terminal.types(&format!("{before}{line}\n"));
                    terminal.shows("ready\r\n");
                    let all = all_below(running.pid());
                    assert!(all.len() >= 3, "{all:?}");
                    drop(terminal);
                    let what = format!("{:?} {options:?} {before}", house.who);
                    all.iter().for_each(|pid| ends_soon(*pid, &what));
                    drop(running);
                    is_cleaned_up(&house, &mounts);
                }
            }
        }
    }

    #[track_caller]
    fn each_process_is_killed(house: House) {
        let mounts = own_mountinfo();
        for tty in [false, true] {
            let least = if tty { 4 } else { 3 };
            let mut next = 0;
            loop {
                let run = Run::ready(&house, tty, &SLEEPER);
                let all = all_below(run.pid());
                assert!(all.len() >= least, "{all:?}");
                kill(all[next], libc::SIGKILL);
                let what = format!("{:?}, terminal: {tty}, process {next} of {all:?}", house.who);
                // What waits outside removes directories.
                let waits = all.len() - 3;
                for pid in all.iter().skip(if next > waits { waits + 1 } else { 0 }) {
                    let dies = within(Duration::from_secs(1), || has_no_memory(*pid).then_some(()));
                    assert!(dies.is_some(), "{what}: it lives: {}", super::shown(*pid));
                }
                match run {
                    // The modes are the shell's to mend then.
                    Run::Terminal(session) if next == 0 => drop(session),
                    other => assert_eq!(other.end().1, 128 + libc::SIGKILL, "{what}"),
                }
                can_be_reclaimed(&house, &mounts, next % 2 == 0);
                next += 1;
                if next == all.len() {
                    break;
                }
            }
        }
    }

    #[test]
    fn each_process_of_a_run_is_killed_and_the_container_is_dead_within_a_second() {
        each_process_is_killed(House::new());
    }

    #[test]
    fn each_process_of_a_user_with_one_id_is_killed_and_the_container_is_dead_within_a_second() {
        each_process_is_killed(House::of(Who::Nobody));
    }

    #[test]
    fn each_process_of_a_user_with_many_ids_is_killed_and_the_container_is_dead_within_a_second() {
        each_process_is_killed(House::of(Who::Made));
    }

    /// Before the clone, between the clone and COMMAND, while COMMAND runs, and when its directories are removed.
    #[track_caller]
    fn at_any_moment(house: House) {
        let mounts = own_mountinfo();
        let mut chance = Chance::new();
        for time in 0..48 {
            let (tty, ends) = (time % 2 == 1, time % 4 > 1);
            let script = if ends { "echo ready; exit 7" } else { SLEEPER[2] };
            let run = Run::new(&house, tty, &["sh", "-c", script]);
            let victim = run.pid();
            chance.sleep(if tty { 80_000 } else { 60_000 });
            // It may have ended.
            // SAFETY: numbers.
            unsafe { libc::kill(victim, libc::SIGTERM) };
            let what = format!("{:?}, terminal: {tty}, COMMAND ends: {ends}, {time}", house.who);
            ends_soon(victim, &what);
            let (shown, status) = run.end();
            let expected = [128 + libc::SIGTERM, if ends { 7 } else { 128 + libc::SIGTERM }];
            assert!(expected.contains(&status), "{what}: {status}, {shown}");
            can_be_reclaimed(&house, &mounts, time % 3 > 0);
        }
    }

    #[test]
    fn sigterm_at_any_moment_leaves_what_can_be_reclaimed() {
        at_any_moment(House::new());
    }

    #[test]
    fn sigterm_at_any_moment_of_a_user_with_one_id_leaves_what_can_be_reclaimed() {
        at_any_moment(House::of(Who::Nobody));
    }

    #[test]
    fn sigterm_at_any_moment_of_a_user_with_many_ids_leaves_what_can_be_reclaimed() {
        at_any_moment(House::of(Who::Made));
    }

    /// Each step prints its calls, of which a reader takes only so many bytes.
    #[test]
    fn a_step_that_waits_for_the_reader_of_its_trace_ends_by_a_signal() {
        for house in House::each() {
            let mounts = own_mountinfo();
            let whole = house.sh(&["--trace"], "exit 7").exits(7).stderr.len();
            let mut chance = Chance::new();
            // The last lines come when COMMAND has ended.
            for part in 0..5 {
                let taken = whole * part / 6 + chance.below(1000) as usize;
                let what = format!("{:?}, {taken} bytes of {whole}", house.who);
                let (reader, writer) = narrow_pipe();
                let mut cmd = house.container(&["--trace"], &["sh", "-c", "exec sleep 1000"]);
                cmd.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(writer);
                let running = start_with(&mut cmd);
                drop(cmd);
                let mut reader = File::from(reader);
                let _ = (&mut reader).take(taken as u64).read_to_end(&mut Vec::new());
                sleep(Duration::from_millis(200));
                running.kill(libc::SIGTERM);
                ends_soon(running.pid(), &what);
                running.wait();
                drop(reader);
                can_be_reclaimed(&house, &mounts, part % 2 == 0);
            }
        }
    }

    #[test]
    fn a_removal_that_cannot_be_reported_ends_by_a_signal() {
        let house = House::new();
        let mounts = own_mountinfo();
        let (reader, mut writer) = narrow_pipe();
        writer.write_all(&[b'x'; 4096]).expect("room");
        let own = house.state().join("containers").join(&house.name);
        let mut cmd = house.container(&[], &SLEEPER);
        cmd.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(writer);
        let running = start_with(&mut cmd);
        drop(cmd);
        running.prints("ready");
        // A mount of the caller's, which is not removed.
        let busy = own.join("run/root");
        mount(["-t", "tmpfs", "tmpfs", text(&busy)]);
        let all = all_below(running.pid());
        kill(all[2], libc::SIGKILL);
        ends_soon(all[1], "process 1");
        assert!(!ended_within(running.pid(), Duration::from_millis(300)), "it said so nowhere");
        running.kill(libc::SIGTERM);
        ends_soon(running.pid(), "a message");
        running.wait().exits(128 + libc::SIGKILL);
        drop(reader);
        run(Command::new("umount").arg(&busy)).ok();
        can_be_reclaimed(&house, &mounts, true);
    }

    /// Standard output is a full pipe, and a terminal that nobody reads or that is stopped.
    #[test]
    fn a_relay_whose_output_waits_ends_by_a_signal() {
        let house = House::new();
        let mounts = own_mountinfo();
        // SAFETY: numbers.
        let flow = |file: &File, action| unsafe { libc::tcflow(file.as_raw_fd(), action) };
        let (reader, writer) = pipe();
        for how in ["unread", "stopped", "pipe"] {
            let command = ["sh", "-c", "sleep 0.3; exec yes a line that is somewhat longer"];
            let line = line(&house, &["-t"], &command);
            let terminal = Pty::new();
            let ctty = format!("--ctty={}", terminal.path);
            let to = if how == "pipe" { " >&55" } else { "" };
            let script = format!("exec {line}{to}");
            let mut cmd = td("td-exec", ["--keep-fd=55", &ctty, "bash", "-c", &script]);
            give_fd(&mut cmd, 55, writer.try_clone().expect("a copy"));
            let running = start(&mut cmd);
            let file = terminal.open();
            if how == "stopped" {
                wait_for("COMMAND", || (all_below(running.pid()).len() > 3).then_some(()));
                check(flow(&file, libc::TCOOFF)).expect("a terminal");
            }
            sleep(Duration::from_millis(800));
            running.kill(libc::SIGTERM);
            ends_soon(running.pid(), how);
            running.wait().exits(128 + libc::SIGTERM);
            assert!(!terminal.is_raw(), "{how}: the modes have changed");
            is_cleaned_up(&house, &mounts);
        }
        drop(reader);
    }

    #[test]
    fn a_trace_on_a_terminal_that_is_stopped_by_ctrl_s_keeps_no_signal_out() {
        for house in House::each() {
            let mounts = own_mountinfo();
            let line = line(&house, &["--trace"], &SLEEPER);
            let (mut terminal, running) = shell(&format!("exec {line}"));
            terminal.shows("\nready\r\n");
            terminal.types("\x13");
            sleep(Duration::from_millis(100));
            running.kill(libc::SIGTERM);
            ends_soon(running.pid(), "Ctrl-S");
            drop(running);
            can_be_reclaimed(&house, &mounts, true);
        }
    }

    #[test]
    fn a_full_pipe_of_ready_keeps_no_signal_out() {
        for house in House::each() {
            let mounts = own_mountinfo();
            let (reader, mut writer) = narrow_pipe();
            writer.write_all(&[b'x'; 4096]).expect("room");
            let mut cmd = house.container(&["--ready", "9"], &["sh", "-c", "echo COMMAND ran"]);
            give_fd(&mut cmd, 9, writer);
            let running = start(&mut cmd);
            drop(cmd);
            wait_for("the last step", || (all_below(running.pid()).len() > 2).then_some(()));
            sleep(Duration::from_millis(300));
            running.kill(libc::SIGTERM);
            ends_soon(running.pid(), "--ready");
            assert_eq!(running.wait().exits(128 + libc::SIGTERM).out(), "");
            drop(reader);
            can_be_reclaimed(&house, &mounts, true);
        }
    }
}

/// Every signal is blocked in a child that is process 1, whatever it prints.
#[test]
fn a_help_text_that_nobody_reads_keeps_no_signal_out() {
    let (reader, mut writer) = narrow_pipe();
    writer.write_all(&[b'x'; 4096]).expect("room");
    let mut cmd = td("td-unshare", ["-r", "-p", "td-exec", "--help"]);
    cmd.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
    let running = start_with(&mut cmd);
    drop(cmd);
    sleep(Duration::from_millis(300));
    running.kill(libc::SIGTERM);
    ends_soon(running.pid(), "--help");
    drop(reader);
}

/// As where a terminal emulator hangs: it has room for a part of a line, and then for none.
#[test]
fn a_terminal_that_nobody_reads_keeps_no_signal_out() {
    let script = "exec 'TD' --trace sh -c \"trap '' USR1; echo ready; exec sleep 1000\"";
    let (mut terminal, running) =
        shell(&script.replace("TD", bin("td-init").to_str().expect("a plain path")));
    terminal.shows("ready\r\n");
    for _ in 0..400 {
        running.kill(libc::SIGUSR1);
        sleep(Duration::from_millis(1));
    }
    assert!(is_alive(running.pid()));
    running.kill(libc::SIGTERM);
    ends_soon(running.pid(), "an unread terminal");
    running.wait().exits(128 + libc::SIGTERM);
}
