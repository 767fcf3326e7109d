//! `td-run -it`, used as a person uses it: what is typed and shown, job control, sizes, and what is left.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use common::house::{self, House};
use common::pty::Pty;
use common::*;

/// With a `#`, without which mksh has another for root.
const PROMPT: &str = "inside# ";

/// That of the shell outside.
const OUTER: &str = "outer# ";

/// The shells that a person may have, and that run td-run.
const SHELLS: [&str; 5] = ["dash", "bash", "busybox sh", "mksh", "yash"];

/// A command as a shell takes it.
fn typed(cmd: &Command) -> String {
    let quoted = words(cmd).map(|word| format!("'{}'", word.to_str().expect("a plain word")));
    quoted.collect::<Vec<_>>().join(" ")
}

/// A session of the house's user on a terminal of 33 rows and 99 columns, in which a shell runs `script`.
#[track_caller]
fn session(house: &House, script: &str) -> (Pty, Running) {
    session_of(house, &mut sh(script))
}

#[track_caller]
fn session_of(house: &House, cmd: &mut Command) -> (Pty, Running) {
    let terminal = Pty::new();
    terminal.resizes(33, 99);
    house.who.runs(cmd);
    cmd.current_dir(house.dir.path()).env("PS1", OUTER).env("TERM", "dumb");
    let running = start_with(terminal.controls(cmd));
    (terminal, running)
}

/// A session whose shell runs td-run once, and shows the modes of the terminal before and after, and the status.
struct Once {
    terminal: Pty,
    running: Running,
    before: String,
}

impl Once {
    #[track_caller]
    fn new(house: &House, options: &[&str], command: &[&str]) -> Once {
        let prompt = format!("PS1={PROMPT}");
        let options = [&["-it", "-e", &prompt], options].concat();
        let line = typed(&house.container(&options, command));
        let (mut terminal, running) =
            session(house, &format!("stty -g; {line}; echo \"st $?\"; stty -g"));
        let before = terminal.shows("\r\n");
        Once { terminal, running, before }
    }

    /// It ends with this status, and the modes of the terminal are what they were. Returns what was shown.
    #[track_caller]
    fn ends(mut self, status: i32) -> String {
        let shown = self.terminal.shows(&format!("st {status}\r\n"));
        assert_eq!(self.terminal.shows("\r\n"), self.before, "{shown}");
        self.running.wait().ok();
        shown
    }
}

/// An image of the programs of this machine, and the options that it needs.
#[track_caller]
fn host_image(house: &House) -> Vec<String> {
    let image = house.dir.dir("state/images/host");
    for name in ["dev", "etc", "proc", "root", "run", "sys", "tmp", "var"] {
        fs::create_dir(image.join(name)).expect("a directory");
    }
    fs::write(image.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("passwd");
    let prompt = format!("PS1='{PROMPT}'\n");
    fs::write(image.join("root/.yashrc"), prompt).expect("a file"); // yash takes none of its environment
    let mut options = vec!["--image=host".to_string()];
    for name in ["usr", "bin", "sbin", "lib", "lib64"] {
        let path = Path::new("/").join(name);
        match fs::read_link(&path) {
            Ok(to) => symlink(to, image.join(name)).expect("a link"),
            Err(_) if path.is_dir() => {
                fs::create_dir(image.join(name)).expect("a directory");
                options.push(format!("--volume=/{name}:/{name}:ro"));
            }
            Err(_) => {}
        }
    }
    options
}

/// The processes below this one.
fn all_below(pid: i32) -> Vec<i32> {
    let mut all = children_of(pid);
    let mut next = 0;
    while next < all.len() {
        all.extend(children_of(all[next]));
        next += 1;
    }
    all
}

/// Wait until a process of this name is in the foreground of its terminal: what is typed is for it.
#[track_caller]
fn has_in_foreground(running: &Running, name: &str) {
    let is_it = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(begin, fields)| {
            let fields: Vec<&str> = fields.split(' ').collect();
            begin.ends_with(&format!("({name}")) && fields[2] == fields[5]
        })
    };
    let looks = || all_below(running.pid()).iter().any(is_it).then_some(());
    wait_for(&format!("{name} in the foreground"), looks);
}

/// What a person does in an interactive shell. It ends with 5.
#[track_caller]
fn has_all_that_a_person_uses(terminal: &mut Pty, running: &Running) {
    let sleep = "sh -c 'echo be''gun; exec sleep 1000'\n";
    terminal.types("tty; stty size\n");
    terminal.shows("/dev/pts/0\r\n33 99\r\n");
    terminal.shows(PROMPT);
    terminal.types("sh -c 'trap \"stty size\" WINCH; echo be''gun; while :; do sleep 0.1; done'\n");
    terminal.shows("begun\r\n");
    terminal.resizes(22, 88);
    terminal.shows("22 88\r\n");
    terminal.types("\x03");
    terminal.shows(PROMPT);
    terminal.types(sleep);
    terminal.shows("begun\r\n");
    terminal.types("\x1a");
    terminal.shows(PROMPT);
    terminal.types("jobs; echo d''one\n");
    let jobs = terminal.shows("done\r\n");
    assert!(jobs.contains("Stopped") || jobs.contains("Suspended"), "{jobs}");
    terminal.shows(PROMPT);
    terminal.types("bg; jobs; echo d''one\n");
    let jobs = terminal.shows("done\r\n");
    assert!(jobs.contains("Running"), "{jobs}");
    terminal.shows(PROMPT);
    terminal.types("fg\n");
    has_in_foreground(running, "sleep");
    terminal.types("\x03");
    terminal.shows(PROMPT);
    for (key, signal) in [("\x03", "INT"), ("\x1c", "QUIT")] {
        terminal.types("sleep 1000 | cat\n");
        for name in ["sleep", "cat"] {
            has_in_foreground(running, name);
        }
        terminal.types(key);
        terminal.shows(PROMPT);
        // yash has other numbers.
        terminal.types("echo \"status $(kill -l $?)\"\n");
        terminal.shows(&format!("status {signal}\r\n"));
        terminal.shows(PROMPT);
    }
    terminal.types("(exit 5)\n");
    terminal.shows(PROMPT);
    terminal.types("\x04");
}

mod root {
    use super::*;

    #[test]
    fn a_shell_has_job_control_and_all_keys_and_sizes() {
        for house in House::each() {
            let mut once = Once::new(&house, &[], &["sh"]);
            let begin = once.terminal.shows(PROMPT);
            assert!(!begin.contains("job control"), "{begin}");
            has_all_that_a_person_uses(&mut once.terminal, &once.running);
            once.ends(5);
            house.nothing_is_left();
        }
    }

    #[test]
    fn every_shell_has_them() {
        let house = House::new();
        let options = host_image(&house);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        for shell in SHELLS {
            let command: Vec<&str> = shell.split(' ').chain(["-i"]).collect();
            let mut once = Once::new(&house, &options, &command);
            let begin = once.terminal.shows(PROMPT);
            assert!(!begin.contains("job control"), "{shell}: {begin}");
            has_all_that_a_person_uses(&mut once.terminal, &once.running);
            once.ends(5);
        }
        house.nothing_is_left();
    }

    /// Not by what a process inside has open; and what types into a terminal types into its own.
    #[test]
    fn the_callers_terminal_cannot_be_reached() {
        let house = House::new();
        let mut once = Once::new(&house, &[], &["sh"]);
        once.terminal.shows(PROMPT);
        once.terminal.types("sleep 1000 & sh -c 'echo be''gun; exec sleep 1000'\n");
        once.terminal.shows("begun\r\n");
        let callers = fs::metadata(&once.terminal.path).expect("a terminal").dev();
        let inside: Vec<i32> = all_below(once.running.pid())
            .into_iter()
            .filter(|pid| ns(pid, "pid") != ns("self", "pid"))
            .collect();
        assert!(inside.len() >= 4, "{inside:?}");
        for pid in &inside {
            let status = status_of(pid, "Name");
            for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors") {
                let path = entry.expect("a descriptor").path();
                let link = fs::read_link(&path).expect("a link");
                let file = fs::metadata(&path).expect("a file");
                let what = format!("{status}: {}: {}", path.display(), link.display());
                assert!(!file.file_type().is_char_device() || file.dev() != callers, "{what}");
                assert!(!text(&link).contains("ptmx"), "{what}");
                assert!(pid == &inside[0] || !file.file_type().is_socket(), "{what}");
            }
        }
        once.terminal.types("\x03");
        once.terminal.shows(PROMPT);
        once.terminal.types("exit 4\n");
        once.ends(4);

        // With no policy, and every capability.
        let mut options = host_image(&house);
        options.push("--privileged".into());
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let script = "import fcntl, os, termios\n\
            more = os.open('/dev/tty', os.O_RDWR), os.open('/dev/console', os.O_RDWR | os.O_NOCTTY)\n\
            for fd in 0, 1, 2, *more:\n    fcntl.ioctl(fd, termios.TIOCSTI, b'x')\n\
            fcntl.ioctl(0, termios.TIOCSTI, b'\\n')\n\
            print('read', input())\n";
        let can_type = fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti");
        let can_type = can_type.map_or(true, |value| value == "1\n");
        let file = house.dir.file("types.py", script);
        let volume = format!("--volume={}:/tmp/types.py", text(&file));
        let options = [&options[..], &["-it", &volume]].concat();
        let line = typed(&house.container(&options, &["/usr/bin/python3", "/tmp/types.py"]));
        let after = "stty -icanon min 0 time 5; echo \"left: $(cat | od -An -tx1)\"";
        let (mut terminal, running) = session(&house, &format!("{line}; echo \"st $?\"; {after}"));
        if can_type {
            terminal.shows("read xxxxx\r\nst 0\r\n");
        } else {
            terminal.shows("st 1\r\n");
        }
        terminal.shows("left: \r\n");
        running.wait().ok();
    }

    #[test]
    fn the_modes_come_back_however_the_container_ends() {
        let house = House::new();
        let policy = |name: &str, line: &str| {
            let file = house.dir.file(name, format!("default\n{line}\n"));
            format!("seccomp={}", text(&file))
        };
        let no_signals = policy("no-signals", "EPERM kill if arg1 = 1");
        let no_terminal = policy("no-terminal", "kill ioctl if arg1 = 0x540e"); // TIOCSCTTY
        let cases: &[(&[&str], &[&str], i32, &str)] = &[
            (&[], &["sh", "-c", "stty raw; exit 3"], 3, ""),
            (&[], &["sh", "-c", "kill -KILL $$"], 128 + libc::SIGKILL, ""),
            (&["--no-init"], &["sh", "-c", "stty raw; exit 3"], 3, ""),
            (&[], &["/nowhere"], 127, "/nowhere does not exist"),
            (&[], &["/etc/passwd"], 126, "/etc/passwd"),
            (&["-v", "/nowhere:/mnt"], &["true"], 125, "/nowhere"),
            (&["-w", "/nowhere"], &["true"], 125, "/nowhere"),
            (&["-u", "nobody-knows"], &["true"], 125, "nobody-knows"),
            (&["--pids", "2"], &["sh", "-c", "sleep 1 & sleep 1"], 2, "fork"),
            (&["-m", "8M", "--memory-swap", "8M"], &["tail", "/dev/zero"], 137, "memory"),
            (
                &["--security-opt", &no_signals],
                &["echo", "COMMAND ran"],
                125,
                "the policy refuses kill(2), which process 1 needs",
            ),
            (
                &["--security-opt", &no_terminal],
                &["echo", "COMMAND ran"],
                125,
                "the policy refuses ioctl(2), which PROG's terminal needs",
            ),
        ];
        for (options, command, status, says) in cases {
            let shown = Once::new(&house, options, command).ends(*status);
            assert!(shown.contains(says), "{options:?}: {shown}");
            assert!(!shown.contains("COMMAND ran"), "{shown}");
            // Every line begins at the left.
            assert_eq!(shown.replace("\r\n", "").find('\n'), None, "{shown:?}");
            house.nothing_is_left();
        }
    }

    #[test]
    fn every_byte_goes_through_in_both_directions() {
        let house = House::new();
        let script = "stty raw -echo; echo begun; head -c 256 | tee /tmp/typed; cksum </tmp/typed; stty sane; echo end";
        let mut once = Once::new(&house, &[], &["sh", "-c", script]);
        once.terminal.shows("begun\n");
        let bytes: Vec<u8> = (0..=255).collect();
        let mut keyboard = once.terminal.keyboard();
        keyboard.write_all(&bytes).expect("room");
        // No byte more: what comes after them is for the terminal to show.
        let (mut shown, mut end) = ([0; 256], 0);
        wait_for("what was typed", || {
            end += keyboard.read(&mut shown[end..]).unwrap_or(0);
            (end == 256).then_some(())
        });
        assert_eq!(shown[..], bytes);
        once.ends(0);
    }

    /// Of busybox.
    #[test]
    fn programs_that_draw_on_the_terminal_start_draw_and_quit() {
        let house = House::new();
        let lines: Vec<String> = (1..100).map(|n| format!("line {n}.\n")).collect();
        fs::write(house.image().join("etc/lines"), lines.concat()).expect("a file");
        let mut once = Once::new(&house, &[], &["sh"]);
        let terminal = &mut once.terminal;
        terminal.shows(PROMPT);
        terminal.types("less /etc/lines\n");
        let shown = terminal.shows("line 32.");
        assert!(shown.contains("line 1."), "{shown}");
        terminal.types("G");
        terminal.shows("line 99.");
        terminal.types("q");
        terminal.shows(PROMPT);
        terminal.types("vi /etc/lines\n");
        terminal.shows("line 32.");
        terminal.shows("\x1b[33;1H"); // its last line
        terminal.types("ddihello ");
        terminal.shows("hello ");
        terminal.types("\x1b");
        terminal.shows("- /etc/lines");
        terminal.types(":wq\n");
        terminal.shows(PROMPT);
        terminal.types("head -n 1 /etc/lines; stty -a | grep -c ' icanon'\n");
        terminal.shows("hello line 2.\r\n1\r\n");
        terminal.shows(PROMPT);
        terminal.types("top\n");
        terminal.shows("Mem:");
        terminal.shows("PID");
        terminal.shows("top");
        terminal.types("q");
        terminal.shows(PROMPT);
        terminal.types("exit 8\n");
        once.ends(8);
        house.nothing_is_left();
    }

    /// The same keys, in a terminal of script(1) and in that of a container.
    #[test]
    fn it_shows_what_script_shows() {
        let house = House::new();
        let options = host_image(&house);
        let options: Vec<&str> = options.iter().map(String::as_str).chain(["-it"]).collect();
        let line = typed(&house.container(&options, &["/bin/sh", "-i"]));
        let shows = |line: &str| {
            let (mut terminal, running) =
                session(&house, &format!("export PS1='{PROMPT}'; {line}; echo \"st $?\""));
            let mut shown = terminal.shows(PROMPT);
            for keys in [
                "stty size; printf 'a\\tb\\n'\n",
                "stty -a\n",
                "mistake\x7f\x7f\x15echo corrected\n",
                "cat\na line\n\x04",
                "\x03",
                "exit 4\n",
            ] {
                terminal.types(keys);
                let end = if keys.starts_with("exit") { "st 4\r\n" } else { PROMPT };
                shown += &terminal.shows(end);
            }
            running.wait().ok();
            shown
        };
        let line = line.replace("'-it'", &format!("'-it' '-e' 'PS1={PROMPT}'"));
        assert_eq!(shows(&line), shows("script -qec '/bin/sh -i' /dev/null"));
    }

    #[test]
    fn command_can_use_the_terminal_as_any_user() {
        let script = "for name in console tty pts/0; do echo \"$name\" >/dev/$name || exit 9; done; id -u; tty";
        for house in House::each() {
            for options in [&[][..], &["-u", "1000"], &["-u", "1000:1000", "--no-init"]] {
                let shown = Once::new(&house, options, &["sh", "-c", script]).ends(0);
                let uid = if options.is_empty() { "0" } else { "1000" };
                let expected = format!("console\r\ntty\r\npts/0\r\n{uid}\r\n/dev/pts/0\r\n");
                assert!(shown.contains(&expected), "{:?} {options:?}: {shown}", house.who);
            }
            house.nothing_is_left();
        }
    }

    /// Whichever shell runs td-run, and whichever a person has.
    #[test]
    fn it_stops_and_continues_as_a_job_of_every_shell() {
        let house = House::new();
        fs::write(house.dir.join(".yashrc"), "").expect("a file");
        for shell in SHELLS {
            let prompt = format!("PS1={PROMPT}");
            let line = typed(&house.container(&["-it", "-e", &prompt], &["sh"]));
            let mut cmd = Command::new("env");
            cmd.args(shell.split(' ')).arg("-i").env("HOME", house.dir.path());
            let (mut terminal, running) = session_of(&house, &mut cmd);
            // What is read at the start may have set another.
            terminal.types("PS1='outer''# '\n");
            terminal.shows(OUTER);
            let before = terminal.modes();
            let line = line.replace("inside", "in''side"); // for it is shown as well
            terminal.types(&format!("{shell} {line}\n"));
            terminal.shows(PROMPT);
            wait_for("raw modes", || terminal.is_raw().then_some(()));
            let [relay] = children_of(running.pid())[..] else { panic!("one child") };
            for signal in [libc::SIGTSTP, libc::SIGSTOP] {
                // As Ctrl-Z would, or as a person from elsewhere.
                kill(if signal == libc::SIGTSTP { -relay } else { relay }, signal);
                terminal.shows(OUTER);
                terminal.types("fg\n");
                has_in_foreground(&running, "td-tty");
                terminal.types("echo re''sumed\n");
                terminal.shows("resumed\r\n");
                terminal.shows(PROMPT);
            }
            terminal.types("sleep 1000\n");
            has_in_foreground(&running, "sleep");
            terminal.types("\x03");
            terminal.shows(PROMPT);
            terminal.types("exit 6\n");
            terminal.shows(OUTER);
            terminal.types("echo \"st $?\"\n");
            terminal.shows("st 6\r\n");
            terminal.shows(OUTER);
            assert_eq!(terminal.modes(), before, "{shell}");
            terminal.types("exit 0\n");
            running.wait().ok();
        }
        house.nothing_is_left();
    }

    #[test]
    fn in_tmux_it_is_drawn_resized_and_interrupted() {
        let house = House::new();
        let socket = house.dir.join("tmux");
        let tmux = |args: &[&str]| {
            let mut cmd = Command::new("tmux");
            run(cmd
                .arg("-S")
                .arg(&socket)
                .args(["-f", "/dev/null"])
                .args(args)
                .env("TERM", "xterm"))
        };
        let prompt = format!("PS1={PROMPT}");
        let line = typed(&house.container(&["-it", "-e", &prompt], &["sh"]));
        let line = format!("{line}; echo \"st $?\"; exec sleep 1000");
        tmux(&["new-session", "-d", "-x", "90", "-y", "20", &line]).ok();
        let shows = |text: &str| {
            wait_for(&format!("tmux to show {text}"), || {
                tmux(&["capture-pane", "-p"]).out().contains(text).then_some(())
            });
        };
        let types = |text: &str, key: &str| drop(tmux(&["send-keys", "--", text, key]).ok());
        shows(PROMPT.trim_end());
        types("stty size", "Enter");
        shows("\n20 90\n");
        tmux(&["resize-window", "-x", "70", "-y", "15"]).ok();
        types("echo; stty size", "Enter");
        shows("\n15 70\n");
        types("sh -c 'echo be''gun; exec sleep 1000'", "Enter");
        shows("\nbegun\n");
        types("", "C-c");
        types("echo \"in $?\"; exit 7", "Enter");
        shows("\nin 130\n");
        shows("\nst 7\n");
        tmux(&["kill-server"]).ok();
        house.nothing_is_left();
    }

    #[test]
    fn without_t_the_streams_are_the_callers() {
        let house = House::new();
        // Pipes: every byte, in both directions, and the end.
        let mut bytes = Vec::new();
        let mut chance = Chance::new();
        while bytes.len() < 10 << 20 {
            bytes.extend(0..=255);
            bytes.push(chance.below(256) as u8);
        }
        let (reads, mut writes) = house::pipe();
        let mut cmd = house.container(&["-i"], &["sh", "-c", "cat; echo end >&2; exit 3"]);
        cmd.stdin(reads).stdout(Stdio::piped()).stderr(Stdio::piped());
        let running = start_with(&mut cmd);
        drop(cmd);
        writes.write_all(&bytes).expect("a pipe");
        drop(writes);
        let output = running.wait().exits(3);
        assert_eq!(output.err(), "end\n");
        assert!(output.stdout == bytes, "{} bytes of {}", output.stdout.len(), bytes.len());
        // And -i changes nothing at all: every call of every step is the same, but for addresses.
        let calls = |options: &[&str]| {
            let options = [&["--dry-run"], options].concat();
            let out = run(&mut house.container(&options, &["true"])).ok().out();
            let mut parts = out.split("0x7");
            let first = parts.next().unwrap_or_default().to_string();
            first
                + &parts
                    .map(|part| part.trim_start_matches(|c: char| c.is_ascii_hexdigit()))
                    .collect::<String>()
        };
        let with = calls(&["-i"]);
        assert!(with == calls(&[]), "{with}");
        assert!(with.contains("execve(") && !with.contains("/dev/ptmx"), "{with}");
        assert!(!with.contains("td-tty") && !with.contains("console"), "{with}");
        house.nothing_is_left();
    }

    #[test]
    fn the_session_of_the_readme_is_what_is_shown() {
        let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"));
        let readme = readme.expect("README.md");
        let (_, block) = readme.split_once("$ bin/td-run -it hello1\n").expect("the session");
        let (block, after) = block.split_once("$ echo $?\n").expect("its end");
        let house = House::new();
        let line = typed(&house.container(&["-it"], &[]));
        let (mut terminal, running) = session(&house, &format!("{line}; echo \"st $?\""));
        let prompt = "/ # ";
        terminal.shows(prompt);
        let mut shown = prompt.to_string();
        for keys in block.lines() {
            match (keys.strip_prefix(prompt), keys.get(..2)) {
                (Some(line), _) => {
                    terminal.types(&format!("{line}\n"));
                    if line.starts_with("sleep") || line == "fg" {
                        has_in_foreground(&running, "sleep");
                        continue;
                    }
                }
                (None, Some("^C")) => terminal.types("\x03"),
                (None, Some("^Z")) => terminal.types("\x1a"),
                _ => continue,
            }
            let end = if keys.contains("exit") { "st " } else { prompt };
            shown += &terminal.shows(end);
        }
        let shown = shown.replace("\r\n", "\n").replace("\x1b[6n", ""); // it asks where the cursor is
        let shown = shown.replace("33 99", "24 80");
        assert_eq!(shown.trim_end_matches("st "), block);
        let (status, _) = after.split_once('\n').expect("a line");
        terminal.shows(&format!("{status}\r\n"));
        running.wait().ok();
    }
}
