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

/// The words that this shell hands on as they are: yash prints itself those that are not text.
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
        for line in [[joined("--", &long, "=x"), long.clone()], ["--".into(), long.clone()]] {
            prints_plainly(start_of(name).args(before).args(line).args(behind));
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
    for name in ["build", "install", "test", "test-vm"] {
        each_line(name, &[], &wrong, &[]);
    }
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
        for name in ["td-run", "td-rootfs", "td-mkinitramfs", "build", "install", "test", "test-vm"]
        {
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

#[test]
fn each_script_that_repeats_a_word_has_the_same_way_to_show_it() {
    let show = |name: &str| {
        let text = fs::read_to_string(format!("{SCRIPTS}/{name}")).expect("a script");
        let start = text.find("\nshow() {\n").unwrap_or_else(|| panic!("{name} shows words"));
        text[start..].split_inclusive("\n}\n").next().expect("a function").to_string()
    };
    for name in ["td-rootfs", "td-mkinitramfs", "build", "install", "test", "test-vm"] {
        assert_eq!(show(name), show("td-run"), "{name}");
    }
}
