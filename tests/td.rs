//! td: all tools in one program.

mod common;

use std::fs;
use std::os::unix::fs::symlink;

use common::*;

#[test]
fn a_tool_is_named_by_the_first_word_or_by_the_name_of_the_program() {
    let dir = TempDir::new();
    let link = dir.join("td-lock");
    symlink(fs::canonicalize(bin("td")).expect("td"), &link).expect("a link");
    let lock = dir.join("lock");
    let line = [text(&lock), "echo", "locked"];
    for (program, first) in [(bin("td"), "lock"), (bin("td"), "td-lock"), (link, "")] {
        let mut cmd = std::process::Command::new(program);
        cmd.args([first].iter().filter(|word| !word.is_empty())).args(line);
        assert_eq!(run(&mut cmd).ok().out(), "locked\n", "{first}");
    }
}

#[test]
fn it_says_which_tools_there_are_and_each_of_them_helps() {
    let help = run(&mut td("td", ["--help"])).ok().out();
    let listed: Vec<&str> = help.lines().filter_map(|line| line.strip_prefix("  td-")).collect();
    let mut names: Vec<String> = listed.iter().map(|name| format!("td-{name}")).collect();
    names.sort();
    assert_eq!(names, programs());
    for name in listed {
        let direct = run(&mut td(&format!("td-{name}"), ["--help"])).ok().out();
        assert_eq!(run(&mut td("td", [name, "--help"])).ok().out(), direct);
    }
    let version = format!("td {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(run(&mut td("td", ["--version"])).ok().out(), version);
}

#[test]
fn what_is_not_a_tool_is_refused() {
    for (line, says) in [
        (&[][..], "td: TOOL is missing\n"),
        (&["nope", "true"], "td: nope: not a tool\n"),
        (&["true"], "td: true: not a tool\n"),
        (&["\x1b[31m"], "td: \"\\33[31m\": not a tool\n"),
        (&["run"], "td: run: not a tool\n"),
    ] {
        let output = run(&mut td("td", line)).exits(125);
        assert_eq!(output.err(), format!("{says}td: see td --help\n"));
        assert_eq!(output.out(), "");
    }
}

mod root {
    use super::*;

    #[test]
    fn a_process_has_the_name_of_the_tool_whose_step_it_is_at() {
        private_mounts();
        let dir = TempDir::new();
        let lock = dir.join("lock");
        let line = ["lock", "--key", "x", text(&lock), "td-unshare", "--pid", "sleep", "1000"];
        let running = start(&mut td("td", line));
        let parent = running.pid();
        let name = || fs::read_to_string(format!("/proc/{parent}/comm")).expect("its name");
        wait_for("the second tool", || (name() == "td-unshare\n").then_some(()));
        let exe = fs::read_link(format!("/proc/{parent}/exe")).expect("its program");
        assert_eq!(exe, fs::canonicalize(bin("td")).expect("td"), "no execve(2) lies between");
        running.kill(libc::SIGKILL);
        assert_eq!(running.wait().signal, Some(libc::SIGKILL));
    }

    /// What it opens there would be seen by each step behind, and by PROG.
    #[test]
    fn what_a_step_has_opened_is_closed_when_the_next_begins() {
        private_mounts();
        let dir = TempDir::new();
        let [image, upper, mnt] = ["image", "upper", "mnt"].map(|name| dir.dir(name));
        let work = dir.dir("work");
        let overlay = ["td-overlay", "--lower", text(&image), "--upper", text(&upper), "--work"];
        let mut line = vec!["unshare", "-m", "-p"];
        line.extend(overlay.iter().copied().chain([text(&work), text(&mnt)]));
        line.extend(["td-mount", "--tmpfs", "/tmp", text(&mnt), "td-lock", "--trace", "-n"]);
        let lock = dir.join("lock");
        line.extend([text(&lock), "true"]);
        let err = run(&mut td("td", line)).exits(0).err();
        // So the first that td-lock opens has the first number, but for the parent's and that of --ready.
        let opened = err.lines().find(|call| call.contains("openat(")).expect("its file");
        assert!(opened.ends_with(" = 5"), "{err}");
        // Nor are the calls of the entry told of a process in which they were not made.
        assert!(!err.contains("ppoll("), "{err}");
    }

    #[test]
    fn it_executes_itself_and_not_the_script_that_it_interprets() {
        private_mounts();
        let dir = TempDir::new();
        for name in ["td", "td-lock"] {
            symlink(fs::canonicalize(bin("td")).expect("td"), dir.join(name)).expect("a link");
        }
        let (script, lock) = (dir.join("script"), dir.join("lock"));
        dir.program("script", format!("#!{}\n", text(&dir.join("td-lock"))));
        let mut cmd = std::process::Command::new(script);
        cmd.args(["td-exec", "--chdir", "/", "td-lock", text(&lock), "echo", "locked"]);
        assert_eq!(run(&mut cmd).ok().out(), "locked\n");
        assert!(lock.exists());
    }
}
