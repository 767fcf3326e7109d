//! No byte of others reaches a terminal: whatever a word holds, every tool and every script prints it escaped, and no
//! word begins a line. Every tool, each of its options, in every position.

mod common;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::Command;

use common::*;

/// What does harm to a terminal: escapes of 7 and of 8 bits, also as UTF-8; bytes that are not text; and lines that
/// would pass for those of others.
const HOSTILE: &[u8] = b"\x1b[31mx\x07\x08\r\nforged\n\x9b31m\xc2\x9b\xff\x7f\\'\"";

/// Words of every kind that a message may repeat.
fn words_of_others() -> Vec<OsString> {
    [HOSTILE, b"\nforged", b"\xff"].map(|word| OsString::from_vec(word.to_vec())).into()
}

/// One of 64 KiB. Of two processes that write so much into one pipe, one may come into the middle of the other's line.
fn long_word() -> OsString {
    OsString::from_vec([0x1b, 0x9b, b'\n', 0xff].repeat(16384))
}

/// What was printed is printable ASCII, in lines that the program began.
#[track_caller]
fn is_plain(output: &Output, what: &str) {
    for (stream, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        let odd = bytes.iter().find(|byte| !matches!(byte, b' '..=b'~' | b'\n'));
        let shown: String = String::from_utf8_lossy(bytes).chars().take(500).collect();
        assert!(odd.is_none(), "{what}: {stream} has {odd:?}: {shown:?}");
        let forged = bytes.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"forged"));
        assert!(!forged, "{what}: {stream} has a line of others: {shown:?}");
    }
}

/// `before`, the word, `after`: in one.
fn joined(before: &str, word: &OsStr, after: &str) -> OsString {
    let parts = [before.as_bytes(), word.as_bytes(), after.as_bytes()];
    OsString::from_vec(parts.concat())
}

/// The options of a program, as its `--help` has them.
fn options_of(help: &str) -> Vec<String> {
    let mut options = Vec::new();
    for line in help.lines().filter_map(|line| line.strip_prefix("  ")) {
        let named = line.trim_start().split("  ").next().unwrap_or_default();
        for word in named.split([' ', ',', '|']).filter(|word| word.starts_with('-')) {
            let end = word.find(['[', '=']).unwrap_or(word.len());
            options.push(word[..end].to_string());
        }
    }
    assert!(options.len() > 1, "{help}");
    options
}

/// The command lines, short of the program, in which `word` stands at every place of one that `prefix` begins.
fn lines(prefix: &[&str], options: &[String], word: &OsStr) -> Vec<Vec<OsString>> {
    let prefix = || prefix.iter().map(OsString::from).collect::<Vec<_>>();
    let mut lines = Vec::new();
    let mut add = |words: &[&OsStr]| {
        let words = words.iter().map(|word| word.to_os_string());
        lines.push(prefix().into_iter().chain(words).collect());
    };
    let true_ = OsStr::new("true");
    add(&[word]);
    add(&[word, word]);
    add(&[word, word, word]);
    for named in ["--", "-"].map(|dashes| joined(dashes, word, "")) {
        add(&[&named]);
        add(&[&named, true_]);
        add(&[&joined("", &named, "=x"), true_]);
    }
    for option in options {
        let name = OsStr::new(option);
        add(&[name, word]);
        add(&[name, word, word]);
        add(&[name, word, true_, true_]);
        add(&[&joined(&format!("{option}="), word, ""), word, word]);
        add(&[&joined(&format!("{option}=a"), word, ":b=c"), true_]);
        add(&[&joined(&format!("{option}=1:"), word, ",2"), true_]);
        if !option.starts_with("--") {
            add(&[&joined(option, word, ""), true_]);
        }
    }
    lines
}

/// The programs in bin/.
fn programs() -> Vec<String> {
    let entries = std::fs::read_dir(bin_dir()).expect("run scripts/build first");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string());
    let names: Vec<_> = names.map(|name| name.expect("a plain name")).collect();
    assert!(!names.is_empty(), "run scripts/build first");
    names.into_iter().filter(|name| name.starts_with("td")).collect()
}

/// Run a command and look at what it prints.
#[track_caller]
fn prints_plainly(cmd: &mut Command) -> Output {
    let output = run(cmd);
    let line: String = format!("{:?}", words(cmd).collect::<Vec<_>>()).chars().take(300).collect();
    is_plain(&output, &line);
    output
}

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
    output.says("td-exec: \"--\\33[31mfoo\": there is no such option\n");
    let output = run(&mut td("td-exec", ["-\x1b"])).exits(125);
    output.says("td-exec: \"-\\33\": there is no such option\n");
    let output = run(&mut td("td-unshare", ["--propagation", "a\nb", "true"])).exits(125);
    output.says("td-unshare: --propagation \"a\\nb\": private, slave, shared, unchanged\n");
    let output = run(&mut td("td-exec", ["--help=\u{9b}"])).exits(125);
    output.says("td-exec: \"\\302\\233\": this option has no value\n");
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
            dir.program("script", joined("#!", &word, "\n").as_bytes());
            prints_plainly(&mut td("td-exec", [dir.join("script")])).exits(126);
        }
    }
}
