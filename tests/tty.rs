//! td-tty: a terminal of PROG's own, used as a person would.

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use common::pty::{Pty, number};
use common::*;

/// PROG, a shell script, under td-tty.
fn prog(script: &str) -> Command {
    td("td-tty", ["sh", "-c", script])
}

/// What a command prints that gets these bytes through a pipe, which then ends.
#[track_caller]
fn piped(mut cmd: Command, input: Vec<u8>) -> Output {
    let (reads, mut writes) = house::pipe();
    let typist = thread::spawn(move || drop(writes.write_all(&input)));
    cmd.stdin(reads).stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = start_with(&mut cmd);
    drop(cmd);
    let output = running.wait();
    typist.join().expect("a thread");
    output
}

/// A session on a terminal, whose shell runs `script` with the programs in PATH.
#[track_caller]
fn session(script: &str) -> (Pty, Running) {
    let terminal = Pty::new();
    terminal.resizes(33, 99);
    let ctty = format!("--ctty={}", terminal.path);
    let mut cmd = td("td-exec", [&ctty, "--env=PS1=prompt> ", "sh", "-c", script]);
    let path = std::env::var("PATH").expect("PATH");
    cmd.env("PATH", format!("{}:{path}", bin_dir().display()));
    let running = start(&mut cmd);
    (terminal, running)
}

#[track_caller]
fn dies(pid: i32) {
    assert!(ended_within(pid, Duration::from_secs(1)), "process {pid} lives");
}

#[test]
fn prog_leads_a_session_on_a_terminal_of_its_own_and_td_tty_ends_as_it_ends() {
    let output = run(&mut prog(&format!("{SESSION}; exit 7"))).exits(7).out();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], "1 1 1");
    assert!(lines[1].starts_with("/dev/pts/"), "{output}");
    assert_eq!(lines[1..], [lines[1]; 3]);
    run(&mut prog("kill -TERM $$")).exits(128 + libc::SIGTERM);
    // Its terminal is there already, and shows why it is not executed.
    let output = run(&mut td("td-tty", ["/nowhere"])).exits(127).out();
    assert!(output.contains("/nowhere does not exist"), "{output}");
    run(&mut td("td-tty", ["td-exec", "td-init", "sh", "-c", "exit 9"])).exits(9);
}

#[test]
fn a_closed_standard_input_is_one_that_has_ended() {
    let script = format!("exec {} cat <&-", bin("td-tty").display());
    assert_eq!(run(&mut sh(&script)).ok().out(), "");
}

/// It has filled the pipe behind it, and what is typed finds no reader.
#[test]
fn a_relay_with_nowhere_to_write_sleeps_when_prog_closes_its_terminal() {
    let script =
        "stty raw -echo; head -c 70000 /dev/zero; sleep 0.5; exec <&- >&- 2>&-; exec sleep 1000";
    let mut cmd = prog(script);
    cmd.stdin(File::open("/dev/zero").expect("/dev/zero")).stdout(Stdio::piped());
    let running = cmd.stderr(Stdio::piped()).spawn().expect("td-tty");
    let pid = running.id() as i32;
    let closed = || {
        let prog = children_of(pid).first().copied()?;
        let comm = fs::read_to_string(format!("/proc/{prog}/comm")).ok()?;
        let open = fs::read_dir(format!("/proc/{prog}/fd")).ok()?.count();
        (comm.trim() == "sleep" && open == 0).then_some(())
    };
    wait_for("PROG to close its terminal", closed);
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a stat");
        let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
        [fields[11], fields[12]].map(|n| n.parse::<u64>().expect("a number")).iter().sum::<u64>()
    };
    let before = ticks();
    thread::sleep(Duration::from_secs(2));
    let spent = ticks() - before;
    kill(pid, libc::SIGKILL);
    drop(running);
    assert!(spent < 20, "{spent} of 200 ticks");
}

#[test]
fn the_end_of_a_pipe_ends_the_input_of_prog() {
    for input in ["", "a line\n", "no end of a line", "a line\nand none"] {
        let output = piped(td("td-tty", ["cat"]), input.into()).ok();
        assert_eq!(output.out(), input.replace('\n', "\r\n"));
    }
    let output = piped(td("td-tty", ["sh"]), b"stty size\nexit 5\n".to_vec()).exits(5);
    assert!(output.out().contains("0 0\r\n"), "{output}");
    // Nothing is typed where standard input is closed.
    let mut cmd = sh("exec \"$@\" <&-");
    assert_eq!(run(cmd.arg("sh").arg(bin("td-tty")).args(["echo", "ran"])).ok().out(), "ran\r\n");
}

#[test]
fn no_byte_is_lost_in_either_direction() {
    // Lines of all lengths that a terminal takes, and of the letters that have no meaning to it.
    let mut chance = Chance::new();
    let mut input = Vec::new();
    while input.len() < 4 << 20 {
        let length = chance.below(4000);
        input.extend((0..length).map(|_| b' ' + chance.below(95) as u8));
        input.push(b'\n');
    }
    let output = piped(prog("stty -opost; cat"), input.clone()).ok();
    assert!(output.stdout == input, "{} bytes of {}", output.stdout.len(), input.len());

    let size = 100 << 20;
    let script = format!("stty -opost; yes abcdefghijklmno | head -c {size}");
    let mut cmd = sh("\"$@\" | cksum; yes abcdefghijklmno | head -c \"$0\" | cksum");
    let mut cmd = run(cmd.arg(size.to_string()).arg(bin("td-tty")).args(["sh", "-c", &script]));
    cmd = cmd.ok();
    let (text, sums) = (cmd.out(), cmd.out());
    let sums: Vec<&str> = sums.lines().collect();
    assert_eq!(sums[0], sums[1], "{text}");
}

#[test]
fn a_pipe_that_nobody_reads_hangs_up_the_terminal_and_keeps_no_signal_out() {
    let mut cmd = sh("{ \"$@\"; echo \"status $?\" >&2; } | head -n 1");
    let output = run(cmd.arg("sh").arg(bin("td-tty")).arg("yes")).exits(0);
    assert_eq!((output.out(), output.err()), ("y\r\n".into(), "status 129\n".into()));

    let (_reads, running) = with_a_full_pipe(td("td-tty", ["yes"]));
    running.kill(libc::SIGTERM);
    running.wait().exits(128 + libc::SIGTERM);
}

/// A signal that PROG takes is no reason to lose what it has shown; one that comes after its end is.
#[test]
fn what_prog_shows_at_a_signal_is_not_lost_where_it_is_read_later() {
    let script = "trap 'echo bye; exit 3' TERM; stty -opost; yes | head -c 6000; while :; do sleep 0.1; done";
    for again in [false, true] {
        let (mut reads, running) = with_a_full_pipe(prog(script));
        running.kill(libc::SIGTERM);
        wait_for("the end of PROG", || children_of(running.pid()).is_empty().then_some(()));
        if again {
            running.kill(libc::SIGTERM);
            running.wait().exits(3);
            continue;
        }
        assert!(!ended_within(running.pid(), Duration::from_millis(200)));
        let mut shown = String::new();
        reads.read_to_string(&mut shown).expect("text");
        assert!(shown.len() == 6004 && shown.ends_with("y\nbye\n"), "{} bytes", shown.len());
        running.wait().exits(3);
    }
}

/// The command, started, and the pipe that it has filled, of a page.
#[track_caller]
fn with_a_full_pipe(mut cmd: Command) -> (File, Running) {
    use std::os::fd::AsRawFd;
    let (reads, writes) = house::pipe();
    // SAFETY: numbers.
    let sized = unsafe { libc::fcntl(writes.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) };
    check(sized).expect("a size");
    cmd.stdin(Stdio::null()).stdout(writes.try_clone().expect("a copy")).stderr(Stdio::piped());
    let running = start_with(&mut cmd);
    drop(cmd);
    wait_for("the pipe to be full", || {
        let mut poll = libc::pollfd { fd: writes.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
        // SAFETY: one structure, which it writes.
        (unsafe { libc::poll(&mut poll, 1, 0) } == 0).then_some(())
    });
    (reads.into(), running)
}

#[test]
fn it_sleeps_while_nothing_is_typed_or_shown() {
    let switches = |pid: i32| {
        let field = |name| status_of(pid, name).trim().parse::<u64>().expect("a number");
        field("voluntary_ctxt_switches") + field("nonvoluntary_ctxt_switches")
    };
    let running = start(&mut prog("echo ready; exec sleep 1000"));
    running.prints("ready");
    let relay = running.pid();
    let state = || status_of(relay, "State").contains('S').then_some(());
    wait_for("the relay to sleep", state);
    thread::sleep(Duration::from_millis(200));
    let before = switches(relay);
    thread::sleep(Duration::from_millis(1000));
    assert_eq!(switches(relay), before);
}

#[test]
fn a_terminal_that_nobody_has_open_may_be_opened_again() {
    let script = "exec <&- >&- 2>&-; sleep 1; echo again >/dev/tty";
    assert_eq!(run(&mut prog(script)).ok().out(), "again\r\n");
}

#[test]
fn a_shell_in_a_shell_has_job_control_sizes_and_the_modes_come_back() {
    let (mut terminal, running) = session("stty -g; td-tty sh -i; echo \"st $?\"; stty -g");
    let before = terminal.shows("\r\n");
    terminal.has_job_control("prompt> ");
    terminal.shows("st 9\r\n");
    assert_eq!(terminal.shows("\r\n"), before);
    running.wait().ok();

    let (mut terminal, running) = session("td-tty sh -i");
    terminal.shows("prompt> ");
    assert!(terminal.is_raw());
    terminal.types("stty size\n");
    terminal.shows("33 99\r\n");
    terminal.types("trap 'echo re''sized' WINCH; echo tr''apped\n");
    terminal.shows("trapped\r\n");
    terminal.shows("prompt> ");
    terminal.resizes(11, 55);
    // A shell looks for signals between its commands.
    terminal.types("sleep 0.1\n");
    terminal.shows("resized\r\n");
    terminal.types("stty size; exit\n");
    terminal.shows("11 55\r\n");
    running.wait().ok();
}

#[test]
fn every_byte_that_is_typed_reaches_prog() {
    let script =
        "stty raw -echo; echo ready; head -c 255 | od -An -v -tu1 | tr -s \" \\n\" ,; stty sane";
    let (mut terminal, running) = session(&format!("td-tty sh -c '{script}'"));
    terminal.shows("ready");
    let bytes: Vec<u8> = (1..=255).collect();
    // A terminal takes bytes, a text is UTF-8.
    let mut master = terminal.keyboard();
    master.write_all(&bytes).expect("room");
    let expected: Vec<String> = bytes.iter().map(u8::to_string).collect();
    terminal.shows(&format!(",{},", expected.join(",")));
    running.wait().ok();
}

/// Ctrl-Z for a shell of the caller's, with the modes as they were, and `fg`.
#[test]
fn it_stops_as_a_job_with_the_modes_restored_and_continues_with_another_size() {
    let (mut terminal, running) = session("exec sh -i");
    terminal.shows("prompt> ");
    terminal.types("PS1='inner> ' td-tty sh -i\n");
    terminal.shows("\r\n");
    terminal.shows("inner> ");
    assert!(terminal.is_raw());
    terminal.types("kill -TSTP $PPID\n");
    terminal.shows("prompt> ");
    assert!(!terminal.is_raw());
    terminal.resizes(12, 34);
    // In the background it stops as soon as it would touch the terminal.
    terminal.types("bg; sleep 0.3; stty -a | grep -c ' icanon'\n");
    terminal.shows("\r\n1\r\n");
    terminal.shows("prompt> ");
    terminal.types("fg\n");
    wait_for("raw modes", || terminal.is_raw().then_some(()));
    terminal.types("stty size; exit 6\n");
    terminal.shows("12 34\r\n");
    terminal.shows("prompt> ");
    assert!(!terminal.is_raw());
    terminal.types("echo \"st $?\"; exit\n");
    terminal.shows("st 6\r\n");
    running.wait().ok();
}

#[test]
fn the_modes_come_back_on_every_way_out() {
    let line = |prog: &str| format!("stty -g; td-tty {prog}; echo \"st $?\"; stty -g; sleep 1000");
    for (script, status) in [
        ("exit 3", 3),
        ("stty raw; exit 4", 4),
        ("kill -KILL $$", 128 + libc::SIGKILL),
        ("kill -STOP $PPID; kill -CONT $PPID; exit 5", 5),
    ] {
        let (mut terminal, _running) = session(&line(&format!("sh -c '{script}'")));
        let before = terminal.shows("\r\n");
        terminal.shows(&format!("st {status}\r\n"));
        assert_eq!(terminal.shows("\r\n"), before, "{script}");
    }
    let (mut terminal, _running) = session(&line("/nowhere"));
    let before = terminal.shows("\r\n");
    terminal.shows("st 127\r\n");
    assert_eq!(terminal.shows("\r\n"), before);

    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGUSR1] {
        let script = "echo pid $$ and $PPID .; exec sleep 1000";
        let (mut terminal, _running) = session(&line(&format!("sh -c '{script}'")));
        let before = terminal.shows("\r\n");
        let shown = terminal.shows(" .\r\n");
        wait_for("raw modes", || terminal.is_raw().then_some(()));
        kill(number(&shown, "and "), signal);
        terminal.shows(&format!("st {}\r\n", 128 + signal));
        assert_eq!(terminal.shows("\r\n"), before, "signal {signal}");
        dies(number(&shown, "pid "));
    }
}

#[test]
fn prog_dies_with_a_relay_that_is_killed_and_with_a_window_that_is_closed() {
    let script = "td-tty sh -c 'echo pid $$ and $PPID .; exec sleep 1000'";
    let (mut terminal, running) = session(&format!("{script}; echo \"st $?\""));
    let shown = terminal.shows(" .\r\n");
    kill(number(&shown, "and "), libc::SIGKILL);
    dies(number(&shown, "pid "));
    running.wait().ok();

    let (mut terminal, running) = session(&format!("exec {script}"));
    let shown = terminal.shows(" .\r\n");
    drop(terminal);
    dies(number(&shown, "pid "));
    running.wait().exits(128 + libc::SIGHUP);

    // The kernel tells only the process that leads the session.
    let (mut terminal, running) = session("exec td-init sh -c 'echo pid $$ .; exec sleep 1000'");
    let shown = terminal.shows(" .\r\n");
    drop(terminal);
    dies(number(&shown, "pid "));
    running.wait().exits(128 + libc::SIGHUP);
}

#[test]
fn an_engine_receives_the_master_over_its_socket() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("sockets");
    let mut cmd = td("td-exec", ["--setsid", "--keep-fd=55", "td-tty", "--inside=55"]);
    cmd.args([
        "sh",
        "-c",
        &format!("{SESSION}; ls /proc/$$/fd | tr '\\n' ' '; read -r line; exit $line"),
    ]);
    give_fd(&mut cmd, 55, theirs);
    let running = start(&mut cmd);
    let (mut master, name) = common::pty::received(&ours);
    assert_eq!(name, "/dev/ptmx");
    let mut text = String::new();
    wait_for("what is shown", || {
        let mut buffer = [0; 4096];
        let n = master.read(&mut buffer).expect("a terminal");
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
        text.contains("0 1 2 ").then_some(())
    });
    assert!(text.starts_with("1 1 1\r\n/dev/pts/"), "{text}");
    assert!(!text.contains("55"), "{text}");
    master.write_all(b"8\n").expect("a terminal");
    assert_eq!(running.wait().exits(8).out(), "");
}

/// All that a relay has to do is there before it looks: the terminal, what is shown there, and the end of PROG.
#[test]
fn what_a_quick_prog_has_shown_is_not_lost_where_the_relay_is_slow() {
    let dir = TempDir::new();
    let script = "while [ ! -e \"$1\" ]; do sleep 0.1; done; \
        exec \"$0\" --setsid --keep-fd=9 td-tty --inside=9 sh -c 'echo shown; exit 5'";
    let mut cmd = td("td-tty", ["--fd=9", "td-init", "sh", "-c", script]);
    let running = start(cmd.arg(bin("td-exec")).arg(dir.join("go")));
    let child = wait_for("td-init", || children_of(running.pid()).first().copied());
    running.kill(libc::SIGSTOP);
    dir.file("go", "");
    let state = || status_of(child, "State").contains('Z').then_some(());
    wait_for("the end of td-init", state);
    running.kill(libc::SIGCONT);
    assert_eq!(running.wait().exits(5).out(), "shown\r\n");
}

#[test]
fn what_is_missing_is_said() {
    let refused = |options: &str, why: &str| {
        let mut cmd = td("td-tty", options.split(' '));
        give_fd(&mut cmd, 55, File::open("/dev/null").expect("a device"));
        let output = run(cmd.args(["echo", "PROG ran"])).exits(125);
        assert_eq!(output.says(why).out(), "");
    };
    refused("--fd 2", "--fd 2: not a number above 2");
    refused("--fd 55", "descriptor 55 is already open");
    refused("--fd 9 --inside 55", "--fd and --inside cannot be combined");
    refused("--inside 56", "descriptor 56 is not open");
    let (_ours, theirs) = std::os::unix::net::UnixStream::pair().expect("sockets");
    let mut cmd = td("td-tty", ["--inside=55", "true"]);
    give_fd(&mut cmd, 55, theirs);
    run(&mut cmd).exits(125).says("this process does not lead a session");
    let mut cmd = td("td-exec", ["--setsid", "--keep-fd=55", "td-tty", "--inside=55", "true"]);
    give_fd(&mut cmd, 55, File::open("/dev/null").expect("a device"));
    run(&mut cmd).exits(125).says("descriptor 55 is not a socket");
    let (_, theirs) = std::os::unix::net::UnixStream::pair().expect("sockets");
    let mut cmd = td("td-exec", ["--setsid", "--keep-fd=55", "td-tty", "--inside=55", "true"]);
    give_fd(&mut cmd, 55, theirs);
    run(&mut cmd).exits(125).says("nobody waits for the terminal at its other end");
    if !is_one_program() {
        let output = run(&mut td("td-exec", ["td-tty", "true"])).exits(125);
        output.says("this program contains only td-tty --inside");
    }
    let output = run(&mut td("td-tty", ["--fd=9", "echo", "it", "ran"])).ok();
    assert_eq!(output.out(), "it ran\n"); // a PROG that opens no terminal
}

mod root {
    use super::common::house::House;
    use super::*;

    /// A command as a shell takes it.
    fn typed(cmd: &Command) -> String {
        let quoted = words(cmd).map(|word| format!("'{}'", word.to_str().expect("a plain word")));
        quoted.collect::<Vec<_>>().join(" ")
    }

    /// The steps are in the background of the caller's terminal, where `stty tostop` stops who writes.
    /// td-exec looks through the options of td-tty for td-init, which the policy must not cripple.
    #[test]
    fn a_policy_that_would_cripple_process_1_is_refused_behind_any_option() {
        must_be_root();
        let dir = TempDir::new();
        let policy = dir.file("policy", "default\nEPERM wait4\n");
        for options in ["", "--ready 2", "--signal-mask 0", "--signal-mask=0 --dry-run"] {
            let line = format!(
                "--fd 9 td-unshare -p td-exec --keep-fd 9 --setsid --no-new-privs --seccomp {} \
                td-tty --inside 9 {options} td-init true",
                policy.display()
            );
            let output = run(&mut td("td-tty", line.split_whitespace())).exits(125);
            output.says("the policy refuses wait4(2), which process 1 needs");
        }
    }

    #[test]
    fn what_a_step_says_stops_it_not_even_on_a_terminal_that_says_so() {
        must_be_root();
        let chain = "td-tty --fd 9 td-unshare --trace --pid td-exec --keep-fd 9 --setsid td-tty --inside 9 sh -c 'exit 4'";
        let script = format!("stty tostop; {chain}; echo status $?");
        let (mut terminal, running) = session(&script);
        terminal.shows("clone3(");
        terminal.shows("status 4");
        running.wait().ok();
    }

    #[test]
    fn modes_that_another_program_has_set_meanwhile_are_left() {
        must_be_root();
        let pager =
            "sleep 0.5; stty -icanon min 7 </dev/tty; sleep 1.5; stty -a </dev/tty; echo end";
        let (mut terminal, running) = session(&format!("td-tty sleep 1 | {{ {pager}; }}"));
        let shown = terminal.shows("end");
        assert!(shown.contains("min = 7"), "{shown}");
        running.wait().ok();
    }

    #[test]
    fn td_run_gives_command_a_terminal_of_the_container_and_the_modes_come_back() {
        let house = House::new();
        for options in [&["-it"][..], &["-i", "-t", "--no-init"], &["-t", "-u", "1000:1000"]] {
            let options = [options, &["-e", "PS1=prompt> "]].concat();
            let line = typed(&house.container(&options, &["sh", "-i"]));
            let (mut terminal, running) =
                session(&format!("stty -g; {line}; echo \"st $?\"; stty -g"));
            let before = terminal.shows("\r\n");
            terminal.shows("prompt> ");
            terminal.types("tty; stty size; readlink /dev/console; echo to >/dev/console\n");
            terminal.shows("/dev/pts/0\r\n33 99\r\npts/0\r\nto\r\n");
            terminal.resizes(22, 88);
            terminal.types("\n");
            terminal.has_job_control("prompt> ");
            terminal.shows("st 9\r\n");
            assert_eq!(terminal.shows("\r\n"), before, "{options:?}");
            running.wait().ok();
        }
        // Without -t the streams are the caller's, and with it there must be a terminal.
        assert_eq!(house.sh(&["-i"], "tty; echo \"$?\"").ok().out(), "not a tty\n1\n");
        for options in ["-t", "-it", "-ti"] {
            let output = house.sh(&[options], "echo COMMAND ran").exits(125);
            assert_eq!(output.says("-t: standard input is not a terminal").out(), "");
        }
    }

    #[test]
    fn a_container_with_a_terminal_dies_with_its_relay_and_with_its_window() {
        let house = House::new();
        let line = typed(&house.container(&["-it"], &["sh", "-c", "echo re''ady; sleep 1000"]));
        for closes in [false, true] {
            let (mut terminal, running) = session(&format!("exec {line}"));
            terminal.shows("ready\r\n");
            wait_for("raw modes", || terminal.is_raw().then_some(()));
            let mut all = vec![running.pid()];
            let mut next = 0;
            while next < all.len() {
                all.extend(children_of(all[next]));
                next += 1;
            }
            assert!(all.len() >= 4, "{all:?}");
            if closes {
                drop(terminal);
            } else {
                running.kill(libc::SIGKILL);
            }
            all[1..].iter().for_each(|pid| dies(*pid));
            drop(running);
        }
    }

    /// A session in a new root, as an ordinary user.
    #[test]
    fn as_steps_it_gives_a_user_in_a_new_root_a_terminal_of_that_root() {
        private_mounts();
        let dir = image_on_tmpfs("mnt");
        let root = dir.join("mnt");
        let root = text(&root);
        let line = format!(
            "td-tty --fd 9 td-unshare -m -p td-mount --proc --dev --symlink pts/0 /dev/console {root} \
             td-pivot --keep-fd 9 {root} td-exec --keep-fd 9 --user 1000:1000 --setsid --clear-env \
             --env PATH=/bin --env \"PS1=prompt> \" td-tty --inside 9 td-init -- sh -i"
        );
        let (mut terminal, running) = session(&format!("stty -g; {line}; echo \"st $?\"; stty -g"));
        let before = terminal.shows("\r\n");
        terminal.shows("prompt> ");
        terminal.types("tty; stty size; id -u; stat -c %U%u /dev/pts/0; echo to >/dev/console\n");
        terminal.shows("/dev/pts/0\r\n33 99\r\n1000\r\n");
        terminal.shows("1000\r\nto\r\n");
        // Nothing of the caller's is left.
        terminal.types("ls -l /proc/self/fd | grep -v -e pts/0 -e /dev/tty -e /proc | wc -l\n");
        terminal.shows("\r\n");
        terminal.types("\n");
        terminal.has_job_control("prompt> ");
        terminal.shows("st 9\r\n");
        assert_eq!(terminal.shows("\r\n"), before);
        running.wait().ok();
        assert_eq!(fs::read_dir(root).map(|entries| entries.count() > 0).ok(), Some(true));
    }
}
