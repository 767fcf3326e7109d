//! td-run by another shell (see `script`): what it becomes, with each of its options, is what it becomes by
//! sh. So what a container then is, no shell can change, and the tests of that need but one.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use common::*;
use std::os::unix::process::CommandExt;

/// td-run beside a td-lock that prints, as the kernel has them, its arguments, its environment and the descriptors
/// that td-run opens; and a state with images.
fn place() -> TempDir {
    let dir = TempDir::new();
    chmod(dir.path(), 0o755);
    dir.program("td-run", fs::read(bin("td-run")).expect("td-run"));
    dir.program("td-unshare", "");
    dir.file("policy", "");
    chmod(dir.join("policy"), 0o644);
    dir.program(
        "td-lock",
        "#!/bin/sh\ncat /proc/$$/cmdline\nprintf '\\n\\0'\ncat /proc/$$/environ\n\
        for fd in 7 8 9; do printf '%s\\0' \"$fd=$(readlink /proc/$$/fd/$fd)\"; done\n",
    );
    for image in ["default", "other", "with space"] {
        dir.dir(&format!("state/images/{image}"));
    }
    dir
}

/// What a shell adds of its own; what differs with the working directory of the test; and what cargo sets, whose names
/// are not those of variables of a shell: not every shell hands them on.
const OF_THE_SHELL: [&str; 6] = ["_=", "SHLVL=", "PWD=", "OLDPWD=", "TD_SHELL=", "CARGO_BIN_EXE_"];

/// What `cmd` becomes as the user `uid`: the words, the environment, the status and the messages.
#[derive(Debug)]
struct Becomes {
    words: Vec<String>,
    environment: BTreeSet<String>,
    code: Option<i32>,
    said: String,
}

impl Becomes {
    #[track_caller]
    fn of(mut cmd: Command, uid: u32, args: &[&str], dir: &TempDir) -> Becomes {
        if uid != 0 {
            cmd.uid(uid).gid(uid);
        }
        cmd.arg("--state").arg(dir.join("state")).args(args).current_dir(dir.path());
        let output = run(cmd.env("TERM", "vt100").env("FOO", "of the caller"));
        let (out, said) = (output.out(), output.err());
        let (words, environment) = out.split_once("\n\0").unwrap_or((&out, ""));
        let is_the_callers = |word: &&str| !OF_THE_SHELL.iter().any(|name| word.starts_with(name));
        Becomes {
            words: words.trim_end_matches('\0').split('\0').map(String::from).collect(),
            environment: environment.split('\0').filter(is_the_callers).map(String::from).collect(),
            code: output.code,
            said,
        }
    }
}

/// The arguments of td-run: each option, alone and with others, and what is refused.
const LINES: &[&[&str]] = &[
    &["name"],
    &["name", "sh", "-c", "exit 7"],
    &["name", "--", "-x", "", "two words", "*", "$HOME", "a'b\"c\\d", "new\nline", "tab\t", "~"],
    &["--image", "other", "name", "true"],
    &["--image", "other", "--image", "with space", "--image=default", "name", "true"],
    &["--image", "./state/images/other", "name", "true"],
    &["-i", "name", "true"],
    &["-t", "name", "true"],
    &["-it", "-ti", "name", "true"],
    &["--interactive", "name", "true"],
    &["--tty", "name", "true"],
    &[
        "-e",
        "A=1",
        "--env",
        "B=two words",
        "-eC=3",
        "--env=D=a=b",
        "-e",
        "FOO",
        "-e",
        "E=",
        "name",
        "true",
    ],
    &["-e", "A=x\ny", "-e", "0", "-e", "1", "--env", "N=0\n1\n2", "name", "0", "1", "2"],
    &["-w", "/tmp", "name", "pwd"],
    &["--workdir=/a b", "name", "pwd"],
    &["-u", "1000", "name", "id"],
    &["--user", "1000:100", "name", "id"],
    &[
        "-u",
        "0",
        "--volume=/src:/dst",
        "-v",
        "/a b:/c d:ro",
        "-v/x:/y:rw",
        "-v",
        "/:/:/",
        "name",
        "true",
    ],
    &["-v", "./rel:/dst", "-v", "/with:colon:/dst", "name", "true"],
    &[
        "--tmpfs",
        "/tmp",
        "--tmpfs=/run:size=1M,mode=700",
        "-v",
        "/a:/b",
        "--tmpfs",
        "/z",
        "name",
        "true",
    ],
    &["--tmp-overlay", "name", "true"],
    &["--keep", "--tmp-overlay=1 M", "name", "true"],
    &["--tmp-overlay=1M", "--rm", "name", "true"],
    &["-h", "host", "name", "true"],
    &["--hostname", "", "name", "true"],
    &["--net", "host", "name", "true"],
    &["--network=none", "name", "true"],
    &[
        "-m",
        "64M",
        "--memory-swap",
        "-1",
        "--memory-high=32M",
        "--memory-low",
        "1M",
        "name",
        "true",
    ],
    &[
        "--memory",
        "1G",
        "--cpus",
        "0.5",
        "--cpu-shares",
        "512",
        "--cpu-weight",
        "50",
        "name",
        "true",
    ],
    &["--cpuset-cpus", "0-1", "--cpuset-mems", "0", "--io-max", "/dev/x rbps=1", "name", "true"],
    &["--pids", "20", "--pids-limit=30", "--cgroup-parent", "/other place", "name", "true"],
    &["--pid-file", "/tmp/pid file", "name", "true"],
    &["--ready", "1", "name", "true"],
    &["--ready", "99", "name", "true"],
    &["--reclaim", "name"],
    &["--read-only", "--keep", "name", "true"],
    &["--keep", "--rm", "name", "true"],
    &["--no-init", "--privileged", "name", "true"],
    &["--cgroups", "disabled", "name", "true"],
    &["--cgroups=enabled", "name"],
    &["--security-opt", "seccomp=unconfined", "name", "true"],
    &["--security-opt=seccomp=./policy", "name", "true"],
    &["--security-opt", "no-new-privileges=false", "--security-opt=no-new-privileges=true", "name"],
    &["--trace", "name", "true"],
    &["--trace=2", "--dry-run", "name", "true"],
    &["--version"],
    &["--help"],
    // Refused.
    &[],
    &["--"],
    &["--state", "", "name"],
    &["--image", "none", "name"],
    &["--image", "/no/such", "name"],
    &["--image", "it's not", "name"],
    &["-u", "nobody", "name"],
    &["-e", "image", "name"],
    &["-d", "name"],
    &["--publish=80:80", "name"],
    &["--name=x"],
    &["--keep=yes", "name"],
    &["--cgroups=disabled", "-m", "64M", "name"],
    &["--cgroups", "none", "name"],
    &["--security-opt", "seccomp=/no/such", "name"],
    &["--security-opt", "apparmor=x", "name"],
    &["--memory"],
    &["--nothing", "name"],
    &["-v", "src", "name"],
    &["-v", "/src:/a/../proc/x", "name"],
    &["--tmpfs", "//", "name"],
    &["--net", "bridge", "name"],
    &["a b"],
    &["-name"],
];

/// The same by TD_SHELL as by sh.
#[track_caller]
fn are_the_same(uid: u32) {
    let dir = place();
    let td_run = dir.join("td-run");
    for args in LINES {
        let mut by_sh = Command::new("/bin/sh");
        by_sh.arg(&td_run);
        let expected = Becomes::of(by_sh, uid, args, &dir);
        // What became nothing has said why; the rest has come to td-lock, or says what was asked, without a word.
        assert_eq!(expected.code == Some(125), !expected.said.is_empty(), "{args:?}: {expected:?}");
        let is_chain = expected.words.iter().any(|word| word == "td-exec");
        assert!(
            is_chain || expected.code == Some(125) || args.len() == 1,
            "{args:?}: {expected:?}"
        );

        let seen = Becomes::of(script(text(&td_run), [""; 0]), uid, args, &dir);
        let pairs = seen.words.iter().zip(&expected.words);
        let differ: Vec<_> = pairs.filter(|(seen, expected)| seen != expected).collect();
        assert!(differ.is_empty(), "{args:?}: {differ:?}");
        assert_eq!(seen.words.len(), expected.words.len(), "{args:?}");
        let differ = seen.environment.symmetric_difference(&expected.environment);
        assert_eq!(differ.collect::<Vec<_>>(), [""; 0], "{args:?}");
        assert_eq!((seen.code, seen.said), (expected.code, expected.said), "{args:?}");
    }
}

#[test]
fn every_option_is_among_them() {
    let help = run(&mut script(text(&bin("td-run")), ["--help"])).ok().out();
    let tried: BTreeSet<&str> =
        LINES.concat().into_iter().map(|word| word.split('=').next().expect("a word")).collect();
    let words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let options = words.filter(|w| w.starts_with('-') && !w.trim_start_matches('-').is_empty());
    let missing: BTreeSet<_> = options.filter(|w| *w != "--state" && !tried.contains(w)).collect();
    assert_eq!(missing, BTreeSet::new());
}

mod root {
    use super::*;

    #[test]
    fn td_run_of_root_becomes_the_same_by_each_shell() {
        must_be_root();
        are_the_same(0);
    }

    #[test]
    fn td_run_of_a_user_becomes_the_same_by_each_shell() {
        must_be_root();
        are_the_same(65534);
    }

    #[test]
    fn it_becomes_the_chain_of_the_tools() {
        let dir = place();
        let args = ["-v", "/a:/b", "name", "sh", "-c", "exit 7"];
        let words = Becomes::of(script(text(&dir.join("td-run")), [""; 0]), 0, &args, &dir).words;
        let tools =
            ["td-lock", "td-cgroup", "td-unshare", "td-overlay", "td-mount", "td-pivot", "td-exec"];
        let chain = words.iter().map(|word| word.rsplit('/').next().expect("a name"));
        assert_eq!(chain.filter(|word| tools.contains(word)).collect::<Vec<_>>(), tools);
        assert!(words.ends_with(&["--", "sh", "-c", "exit 7"].map(String::from)), "{words:?}");
    }
}
