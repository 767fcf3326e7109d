//! As tests/bytes.rs, of the scripts: by each shell, whatever a word holds, it is printed escaped.

mod common;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use common::bytes::*;
use common::*;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts");

/// The words that this shell passes on unchanged: yash itself reports words that are not text.
fn words_for_shell() -> impl Iterator<Item = OsString> {
    let words = [OsStr::from_bytes(HOSTILE), "\x1b[31m\x07\x7f\r\nforged\n".as_ref()];
    words.map(OsStr::to_os_string).into_iter().filter(|word| shell_takes(word.as_bytes())).take(1)
}

/// A script of the checkout.
fn start_of(name: &str) -> Command {
    script(&format!("{SCRIPTS}/{name}"), [""; 0])
}

/// Every line of a script, with `before` on each and `behind` at its end.
#[track_caller]
fn each_line(name: &str, before: &[&OsStr], behind: &[&OsStr], leave_out: &[&str]) {
    let mut options = options_of(&run(start_of(name).arg("--help")).ok().out());
    options.retain(|option| !leave_out.contains(&option.as_str()));
    let mut refused = 0;
    for word in words_for_shell() {
        for line in lines(&[], &options, &word) {
            let dir = TempDir::new();
            let mut cmd = start_of(name);
            cmd.args(before).args(line).args(behind).current_dir(dir.path());
            refused += usize::from(prints_plainly(&mut cmd).code != Some(0));
        }
    }
    assert!(refused > options.len(), "{refused} lines were refused");
    let long = long_word();
    if shell_takes(long.as_bytes()) {
        let first = [joined("--", &long, "=x"), "--".into()];
        for first in first.iter().filter(|first| !leave_out.iter().any(|left| first == left)) {
            prints_plainly(start_of(name).args(before).arg(first).arg(&long).args(behind));
        }
    }
}

#[test]
fn td_run_prints_no_byte_that_is_not_plain() {
    let dir = TempDir::new();
    image(&dir.dir("images/default"));
    let options = [OsStr::new("--dry-run"), OsStr::new("--state"), dir.path().as_os_str()];
    each_line("td-run", &options, &["name".as_ref(), "true".as_ref()], &["--reclaim"]);
    each_line("td-run", &options, &[], &["--reclaim"]);
    for word in words_for_shell() {
        let path = format!("{SCRIPTS}/td-run");
        prints_plainly(script(&path, ["--reclaim"]).arg(&word)).exits(125);
        prints_plainly(script(&path, ["--reclaim", "--state"]).arg(dir.path().join(&word)));
        let mut cmd = script(&path, ["--dry-run", "name", "true"]);
        cmd.env_clear().envs(["PATH", "HOME", "XDG_DATA_HOME", "TERM"].map(|name| (name, &word)));
        prints_plainly(&mut cmd);
    }
}

#[test]
fn td_rootfs_prints_no_byte_that_is_not_plain() {
    let empty = TempDir::new();
    let archive = empty.file("archive", [0; 1024]);
    each_line("td-rootfs", &["--busybox=/none".as_ref()], &[], &[]);
    each_line("td-rootfs", &["--tar".as_ref(), archive.as_os_str()], &[], &[]);
}

#[test]
fn td_mkinitramfs_prints_no_byte_that_is_not_plain() {
    // It looks for its tools when it has read the line, and before it does anything.
    each_line("td-mkinitramfs", &["--tools".as_ref(), "/none".as_ref()], &[], &[]);
    for word in words_for_shell() {
        let dir = TempDir::new();
        let tool = dir.program("td-exec", "a tool");
        let added = joined("td-exec:", &word, "");
        let lines = [
            vec![word.as_os_str()],
            vec!["--add".as_ref(), &added, &word],
            vec!["--image".as_ref(), &word, &word],
            vec!["--init".as_ref(), &word, &word],
            vec!["--kernel-modules".as_ref(), &word, &word],
        ];
        for line in lines {
            let mut cmd = start_of("td-mkinitramfs");
            cmd.arg("--tools").arg(dir.path()).arg("--busybox").arg(&tool);
            prints_plainly(cmd.args(line).current_dir(dir.path()));
        }
    }
}

#[test]
fn the_scripts_of_the_checkout_print_no_byte_that_is_not_plain() {
    // With the last word each of them refuses the line before it does anything.
    let wrong = ["--no-such-option".as_ref()];
    for name in ["bench", "build", "fuzz", "install", "test-vm"] {
        each_line(name, &[], &wrong, &[]);
    }
    // Behind `--` the last word would be one more filter: all tests would be built, and their log be that of the run
    // to which this test belongs.
    each_line("test", &[], &wrong, &["--"]);
    for word in words_for_shell() {
        let dir = TempDir::new();
        let mut cmd = script(&format!("{SCRIPTS}/install"), ["--prefix"]);
        prints_plainly(cmd.arg(dir.path().join(&word).join("x"))).ok();
        let mut cmd = script(&format!("{SCRIPTS}/install"), ["--uninstall", "--prefix"]);
        prints_plainly(cmd.arg(dir.path().join(&word).join("x"))).ok();
    }
}

#[test]
fn a_script_is_called_by_any_name() {
    for word in words_for_shell().filter(|word| word.len() < 200) {
        let dir = TempDir::new();
        let ours = ["bench", "build", "fuzz", "install", "test", "test-vm"];
        for name in ["td-run", "td-rootfs", "td-mkinitramfs", "td-doctor"].iter().chain(&ours) {
            let copy = dir.path().join(&word);
            fs::copy(format!("{SCRIPTS}/{name}"), &copy).expect("a copy");
            let mut cmd = script(&format!("{SCRIPTS}/{name}"), ["none"]);
            let shell: Vec<_> = words(&cmd).map(OsStr::to_os_string).collect();
            let path = Path::new(SCRIPTS).join(name);
            let line =
                shell.iter().map(|w| if Path::new(w) == path { copy.as_os_str() } else { w });
            let line: Vec<_> = line.collect();
            cmd = Command::new(line[0]);
            prints_plainly(cmd.args(&line[1..]).current_dir(dir.path()));
        }
    }
}

/// Every script of the checkout.
fn all_scripts() -> Vec<String> {
    let entries = fs::read_dir(SCRIPTS).expect("scripts");
    let names = entries.map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8"));
    let names: Vec<_> = names.filter(|name| !name.contains('.')).collect();
    assert!(names.len() >= 8, "{names:?}");
    names
}

/// From a directory where it would be seen what is made, as a user whose home is there too.
fn from(dir: &TempDir, mut cmd: Command) -> Command {
    cmd.current_dir(dir.path()).env("HOME", dir.path()).env_remove("XDG_DATA_HOME");
    cmd
}

#[test]
fn every_script_says_what_it_does() {
    for name in all_scripts() {
        let dir = TempDir::new();
        let help =
            run(&mut from(&dir, script(&format!("{SCRIPTS}/{name}"), ["--help"]))).ok().out();
        let of_users = name.starts_with("td-");
        let usage =
            if of_users { format!("usage: {name}") } else { format!("usage: scripts/{name}") };
        let first = help.lines().next().unwrap_or_default();
        assert!(first == usage || first.starts_with(&format!("{usage} ")), "{help}");
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{name}: {line}");
        }
        if of_users {
            let version = run(&mut script(&format!("{SCRIPTS}/{name}"), ["--version"])).ok();
            assert_eq!(version.out(), format!("{name} {}\n", env!("CARGO_PKG_VERSION")));
        }
        assert_eq!(fs::read_dir(dir.path()).expect("it").count(), 0, "{name}");
    }
}

#[test]
fn every_script_refuses_what_it_does_not_know_before_it_does_anything() {
    for name in all_scripts() {
        for wrong in ["--no-such-option", "-x", "--help=x"] {
            let dir = TempDir::new();
            let output = run(&mut from(&dir, script(&format!("{SCRIPTS}/{name}"), [wrong])));
            let output = output.exits(125).says(wrong.split('=').next().expect("a word"));
            assert_eq!(output.out(), "", "{name} {wrong}");
            let is_named = |line: &str| line.starts_with(&format!("{name}: "));
            assert!(output.err().lines().all(is_named), "{name} {wrong}: {output}");
            assert_eq!(fs::read_dir(dir.path()).expect("it").count(), 0, "{name} {wrong}");
        }
    }
}

/// What the caller sees of a script that gave up itself; `test` and `test-vm` say by 1 that tests have failed.
#[test]
fn what_a_script_gives_up_for_itself_is_125() {
    for name in all_scripts() {
        // A copy, so that nothing is begun in the checkout if it does not give up.
        let dir = TempDir::new();
        dir.dir("scripts");
        let copy = dir.program(
            &format!("scripts/{name}"),
            fs::read(format!("{SCRIPTS}/{name}")).expect("a script"),
        );
        let words: &[&str] = if name.starts_with("td-") { &["x"] } else { &[] };
        // By sh, which has no applets of its own.
        let mut cmd = Command::new("/bin/sh");
        cmd.arg(&copy).args(words).env("PATH", dir.dir("none"));
        run(&mut from(&dir, cmd)).exits(125);
    }
    // With all that the machine has, but for what the checkout holds, and cargo.
    for (name, says) in [("build", "missing"), ("install", ""), ("test", "cargo is missing")] {
        let dir = TempDir::new();
        dir.dir("scripts");
        let text = fs::read(format!("{SCRIPTS}/{name}")).expect("a script");
        let copy = dir.program(&format!("scripts/{name}"), text);
        let mut cmd = Command::new("/bin/sh");
        cmd.arg(&copy).env("PATH", "/usr/bin:/bin");
        run(&mut from(&dir, cmd)).exits(125).says(says);
    }
}

#[test]
fn a_script_of_the_checkout_knows_where_that_is_also_by_a_link() {
    for name in all_scripts().iter().filter(|name| !name.starts_with("td-")) {
        let text = fs::read_to_string(format!("{SCRIPTS}/{name}")).expect("a script");
        let there = "self=$(readlink -f -- \"$0\")\nCDPATH='' cd -- \"${self%/*}/..\"\n";
        assert_eq!(text.matches(there).count(), 1, "{name}");
        assert!(!text.contains("{0%"), "{name}");
    }
    let dir = TempDir::new();
    let link = dir.join("a link");
    std::os::unix::fs::symlink(format!("{SCRIPTS}/install"), &link).expect("a link");
    let mut cmd = script(text(&link), ["--prefix", "prefix"]);
    run(cmd.current_dir(dir.path())).ok();
    assert!(dir.join("prefix/bin/td-run").is_file());
}

#[test]
fn each_script_that_repeats_a_word_has_the_same_way_to_show_it() {
    let show = |name: &str| {
        let text = fs::read_to_string(format!("{SCRIPTS}/{name}")).expect("a script");
        let start = text.find("\nshow() {\n").unwrap_or_else(|| panic!("{name} shows words"));
        text[start..].split_inclusive("\n}\n").next().expect("a function").to_string()
    };
    let ours = ["bench", "build", "demo", "fuzz", "install", "test", "test-vm"];
    for name in ["td-rootfs", "td-mkinitramfs", "td-doctor"].into_iter().chain(ours) {
        assert_eq!(show(name), show("td-run"), "{name}");
    }
}
