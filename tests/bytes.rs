//! No byte of others reaches a terminal: whatever a word holds, every tool and every script prints it escaped, and no
//! word begins a line. Every tool, each of its options, in every position.

mod common;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use common::bytes::*;
use common::*;

/// Of each tool, each option and each place. td-cgroup is tried dry: it would make a cgroup of the machine's.
fn each_line(mode: &[&str], test: &dyn Fn(&str, Vec<OsString>) -> Output) {
    let mut refused = 0;
    let programs = programs();
    for program in &programs {
        let options = options_of(&run(&mut td(program, ["--help"])).ok().out());
        let mode = if program == "td-cgroup" { &[mode, &["--dry-run"]].concat() } else { mode };
        let short = words_of_others().into_iter().flat_map(|word| lines(mode, &options, &word));
        let long = long_word();
        let long = options.iter().map(|option| {
            let mut line: Vec<_> = mode.iter().map(OsString::from).collect();
            line.extend([option.into(), long.clone(), long.clone()]);
            line
        });
        for line in short.chain(long) {
            refused += usize::from(test(program, line).code == Some(125));
        }
    }
    assert!(refused > programs.len() * 50, "{refused} lines were refused");
}

#[test]
fn no_tool_prints_a_byte_that_is_not_plain_for_an_ordinary_user() {
    let dir = TempDir::new();
    chmod(dir.path(), 0o777);
    let copies = dir.dir("bin");
    chmod(&copies, 0o755);
    for program in programs() {
        dir.program(&format!("bin/{program}"), std::fs::read(bin(&program)).expect("a program"));
    }
    each_line(&[], &|program, line| {
        let mut cmd = Command::new(copies.join(program));
        cmd.args(line).current_dir(dir.path());
        // SAFETY: it takes no argument.
        if unsafe { libc::geteuid() } == 0 {
            cmd.uid(65534).gid(65534);
        }
        prints_plainly(&mut cmd)
    });
}

#[test]
fn a_name_of_the_program_and_a_variable_are_escaped_too() {
    let dir = TempDir::new();
    for program in programs() {
        for word in words_of_others().into_iter().chain([long_word()]) {
            let mut cmd = td(&program, ["--no-such-option"]);
            prints_plainly(cmd.arg0(&word)).exits(125);
            for line in [&["none"][..], &["--", "none", "none"], &["--trace", "none"]] {
                let mut cmd = td(&program, line);
                let variables = ["PATH", "HOME", "XDG_DATA_HOME", "TERM"];
                cmd.current_dir(dir.path()).env_clear().envs(variables.map(|name| (name, &word)));
                if program != "td-cgroup" {
                    prints_plainly(&mut cmd);
                }
                prints_plainly(cmd.arg("--dry-run"));
            }
        }
    }
    for word in words_of_others() {
        let mut cmd = td("td-exec", ["none"]);
        let output = prints_plainly(cmd.env("PATH", &word)).exits(127);
        output.says("none: not found in PATH, \"");
        let mut cmd = td("td-enter", ["--name", "none", "true"]);
        cmd.env_remove("XDG_DATA_HOME").env("HOME", &word);
        prints_plainly(&mut cmd).exits(125);
    }
}

#[test]
fn what_a_message_shows_is_the_word_that_was_given() {
    let output = run(&mut td("td-exec", ["--\x1b[31mfoo"])).exits(125);
    output.says("td-exec: \"--\\33[31mfoo\": no such option\n");
    let output = run(&mut td("td-exec", ["-\x1b"])).exits(125);
    output.says("td-exec: \"-\\33\": no such option\n");
    let output = run(&mut td("td-unshare", ["--propagation", "a\nb", "true"])).exits(125);
    output
        .says("td-unshare: --propagation \"a\\nb\": must be private, slave, shared or unchanged\n");
    let output = run(&mut td("td-exec", ["--help=\u{9b}"])).exits(125);
    output.says("td-exec: \"\\302\\233\": this option takes no value\n");
}

mod root {
    use super::*;

    /// Run a command in a mount namespace of its own: what it mounts, and the root that it makes, go with it.
    #[track_caller]
    fn apart(cmd: &mut Command) -> Output {
        before_exec(cmd, || {
            // SAFETY: a number.
            check(unsafe { libc::unshare(libc::CLONE_NEWNS) }).map(drop)
        });
        prints_plainly(cmd)
    }

    #[test]
    fn no_tool_prints_a_byte_that_is_not_plain() {
        private_mounts();
        let dir = TempDir::new();
        each_line(&["--trace"], &|program, line| apart(td(program, line).current_dir(dir.path())));
    }

    /// What the kernel repeats of an option, in the log of a file system that is being configured.
    #[test]
    fn what_the_kernel_says_is_escaped() {
        private_mounts();
        let dir = TempDir::new();
        for word in words_of_others() {
            let mut cmd = td("td-mount", ["--tmpfs", "/", "--options"]);
            prints_plainly(cmd.arg(&word).arg(dir.path()).arg("true")).exits(125);
            let mut cmd = td("td-mount", ["--fs", "tmpfs", "none", "/", "--options"]);
            cmd.arg(joined("", &word, "=1")).arg(dir.path()).arg("true");
            prints_plainly(&mut cmd).exits(125).says("the kernel says: ");
        }
    }

    /// The names that others have given: of a mount, of a process, of a file, and what a link says.
    #[test]
    fn names_that_are_found_are_escaped() {
        private_mounts();
        let dir = TempDir::new();
        for word in words_of_others() {
            let above = dir.dir("above");
            let place = above.join(&word);
            std::fs::create_dir(&place).expect("a directory");
            let shown = |cmd: &mut Command| {
                let script = "mount -t tmpfs x \"$0\" && exec \"$@\"";
                apart(sh(script).arg(&place).args(words(cmd)))
            };
            shown(td("td-unshare", ["--remove"]).arg(&above).arg("true")).says("is mounted");
            shown(td("td-pivot", ["-o", "none"]).arg(&place).arg("true")).exits(125);
            shown(td("td-overlay", ["--lower"]).arg(place.join("none")).arg(&place).arg("true"))
                .exits(125);
            std::fs::remove_dir(&place).expect("it is empty again");
            dir.program("script", joined("#!", &word, "\n").as_encoded_bytes());
            prints_plainly(&mut td("td-exec", [dir.join("script")])).exits(126);
        }
    }
}
