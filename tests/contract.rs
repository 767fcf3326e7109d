//! What every tool keeps to, whatever its step is: contracts 1, 2, 4, 7, 8 and 9.

mod common;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::*;

/// A command line up to PROG, and what is true of it. Each program in bin/ has at least one.
#[derive(Debug)]
struct Tool {
    /// Which tool it is that executes PROG.
    name: &'static str,
    /// `{T}` is a directory of the test's own, with an empty directory `mnt`, and where `root` says so
    /// with an image.
    line: &'static str,
    /// The directory below `{T}` that is PROG's root; empty where the root stays.
    root: &'static str,
    /// Does PROG find descriptors above 2 open that the caller had?
    keeps_descriptors: bool,
    /// Does it find one more, which the step is for?
    adds_descriptor: bool,
}

const UNSHARE: Tool = Tool {
    name: "td-unshare",
    line: "",
    root: "",
    keeps_descriptors: true,
    adds_descriptor: false,
};
const EXEC: Tool = Tool { name: "td-exec", keeps_descriptors: false, ..UNSHARE };
const INIT: Tool = Tool { name: "td-init", ..UNSHARE };
const PIVOT: Tool = Tool { name: "td-pivot", root: "image", ..EXEC };
const ENTER: Tool = Tool { name: "td-enter", ..EXEC };
const LOCK: Tool = Tool { name: "td-lock", adds_descriptor: true, ..UNSHARE };
const MOUNT: Tool = Tool { name: "td-mount", ..UNSHARE };
const OVERLAY: Tool = Tool { name: "td-overlay", ..UNSHARE };

const TOOLS: &[Tool] = &[
    Tool { line: "td-unshare", ..UNSHARE },
    Tool { line: "td-unshare -m -u --", ..UNSHARE },
    Tool { line: "td-unshare -p", ..UNSHARE },
    Tool { line: "td-unshare -c", ..UNSHARE },
    Tool { line: "td-unshare -m td-unshare -i", ..UNSHARE },
    Tool { line: "td-unshare --rmdir {T}/none", ..UNSHARE },
    Tool { line: "td-lock {T}/lock", ..LOCK },
    Tool { line: "td-lock --shared --key word -- {T}/lock", ..LOCK },
    Tool { line: "td-exec", ..EXEC },
    Tool { line: "td-exec --", ..EXEC },
    Tool { line: "td-init", ..INIT },
    Tool { line: "td-unshare -p td-init --", ..INIT },
    Tool { line: "td-unshare -p td-exec td-init", keeps_descriptors: false, ..INIT },
    Tool { line: "td-enter", ..ENTER },
    Tool { line: "td-enter -m=/proc/self/ns/mnt --pid=/proc/self/ns/pid --", ..ENTER },
    Tool { line: "td-enter -p=/proc/self/ns/pid -r={T}/image", root: "image", ..ENTER },
    Tool { line: "td-unshare -m td-mount --tmpfs /tmp {T}/mnt", ..MOUNT },
    Tool { line: "td-unshare -m td-overlay --lower /etc {T}/mnt", ..OVERLAY },
    Tool { line: "td-unshare -m td-pivot {T}/image", ..PIVOT },
    Tool { line: "td-unshare -m td-pivot -- {T}/image", ..PIVOT },
    Tool { line: "td-unshare -m td-pivot {T}/image td-exec", root: "image", ..EXEC },
    Tool {
        line: "td-unshare -m -p td-pivot {T}/image td-exec td-init",
        root: "image",
        keeps_descriptors: false,
        ..INIT
    },
];

/// Where PROG would run in a cgroup of the machine, or on other standard streams than the caller's: these have tests of
/// their own.
const NOT_HERE: [&str; 2] = ["td-cgroup", "td-tty"];

/// A line of TOOLS with options of its first tool, and PROG behind it.
fn line<S: AsRef<OsStr>>(
    tool: &Tool,
    options: &[&str],
    dir: &TempDir,
    prog: &[S],
) -> Vec<OsString> {
    let line = tool.line.replace("{T}", dir.path().to_str().expect("a plain path"));
    let (first, words) = line.split_once(' ').unwrap_or((&line, ""));
    let mut line = vec![bin(first).into_os_string()];
    line.extend(options.iter().map(OsString::from));
    line.extend(words.split_whitespace().map(OsString::from));
    line.extend(prog.iter().map(|word| word.as_ref().to_os_string()));
    line
}

fn command(line: &[OsString]) -> Command {
    let mut cmd = Command::new(&line[0]);
    cmd.args(&line[1..]);
    cmd
}

/// The command line under a shell that redirects something first.
fn redirected(redirection: &str, line: &[OsString]) -> Command {
    let mut cmd = sh(&format!("exec \"$@\" {redirection}"));
    cmd.arg("sh").args(line);
    cmd
}

/// Each line of a message is under the tool's name.
#[track_caller]
fn assert_named(tool: &str, output: &Output) {
    let start = format!("{tool}: ");
    let err = output.err();
    assert!(!err.is_empty(), "nothing is said: {output}");
    assert!(
        err.lines().all(|line| line.starts_with(&start)),
        "not under the tool's name: {output}"
    );
}

#[test]
fn every_program_is_tested_here() {
    for name in programs() {
        let is_here = TOOLS.iter().any(|tool| tool.name == name);
        assert!(is_here || NOT_HERE.contains(&&*name), "{name} has no line in TOOLS");
    }
}

#[test]
fn help_goes_to_standard_output() {
    for name in programs() {
        let out = run(&mut td(&name, ["--help"])).ok().out();
        assert!(out.starts_with(&format!("usage: {name} ")), "{out}");
        for option in ["--trace[=FD]", "--dry-run", "--help", "--version"] {
            assert!(
                out.contains(&format!("\n      {option} ")),
                "{name} --help does not have {option}"
            );
        }
        assert!(out.lines().all(|line| line.chars().count() <= 80), "{name} --help is too wide");
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    for name in programs() {
        let out = run(&mut td(&name, ["--version"])).ok().out();
        assert_eq!(out, format!("{name} {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn wrong_use_ends_with_125_and_the_way_to_the_help() {
    for name in programs() {
        let wrong: [&[&str]; 5] =
            [&[], &["--no-such-option", "true"], &["-%", "true"], &["--trace=x"], &["--trace=-1"]];
        for args in wrong {
            let output = run(&mut td(&name, args)).exits(125).says(&format!("see {name} --help"));
            assert_named(&name, &output);
            assert!(output.stdout.is_empty(), "{output}");
            assert!(!output.err().contains("usage:"), "one line, not the whole help: {output}");
        }
    }
}

#[test]
fn an_option_that_takes_no_value_refuses_one() {
    for name in programs() {
        for option in ["--help=x", "--version=x", "--dry-run=x"] {
            let output = run(&mut td(&name, [option, "true"])).exits(125);
            assert_named(&name, &output);
        }
    }
}

/// The options of a program that name a descriptor of the caller's.
fn descriptor_options(name: &str) -> Vec<String> {
    let help = run(&mut td(name, ["--help"])).ok().out();
    let words = help.lines().filter_map(|line| line.trim_start().split_once(' '));
    let is_one = |option: &str, rest: &str| match option {
        "--ready" => rest.starts_with("FD "),
        // td-tty creates what the one names, and has the other from the caller.
        "--fd" => false,
        "--inside" => rest.starts_with("N "),
        _ => option.ends_with("-fd") && rest.starts_with("N "),
    };
    let named = words.filter(|(option, rest)| is_one(option, rest));
    named.map(|(option, _)| format!("{option}=")).chain(["--trace=".into()]).collect()
}

#[test]
fn a_descriptor_that_is_not_open_is_refused_before_anything_is_opened() {
    let all: Vec<String> = programs().iter().flat_map(|name| descriptor_options(name)).collect();
    let known = ["--keep-fd=", "--seccomp-fd=", "--ready=", "--inside="].map(String::from);
    assert!(known.iter().all(|option| all.contains(option)), "{all:?}");
    for name in programs() {
        for option in descriptor_options(&name) {
            for fd in ["3", "9", "10", "77"] {
                let dir = TempDir::new();
                let option = format!("{option}{fd}");
                let lock = dir.join("lock");
                let line = [option.as_ref(), lock.as_os_str(), "sh".as_ref(), "-c".as_ref()];
                let line = td(&name, line.into_iter().chain(["echo PROG ran".as_ref()]));
                let (output, processes) = strace::strace(&[], &line);
                let says = format!("descriptor {fd} is not open");
                let output = output.exits(125).says(&says);
                assert_named(&name, &output);
                assert_eq!(output.out(), "");
                assert!(!lock.exists(), "{name} {option}");
                let calls = processes.iter().flat_map(|process| &process.calls);
                let calls = calls.filter(|call| !strace::looks_for_room(call, 2));
                let allowed = ["execve", "ppoll", "fcntl", "rt_sigaction", "write", "exit_group"];
                for call in calls.filter(|call| !strace::is_run_time(call)) {
                    assert!(allowed.contains(&&*call.name), "{name} {option}: {call}");
                    assert!(!strace::writes_to(call, fd.parse().expect("a number")), "{call}");
                }
            }
        }
    }
}

#[test]
fn a_closed_standard_stream_is_no_descriptor_that_can_be_named() {
    for name in programs() {
        for option in descriptor_options(&name) {
            for fd in 0..=1 {
                let line: Vec<OsString> = vec![
                    bin(&name).into(),
                    format!("{option}{fd}").into(),
                    "/nowhere/lock".into(),
                    "/nowhere/program".into(),
                ];
                let output = run(&mut redirected(&format!("{fd}<&-"), &line));
                // A trace has nowhere to go, and that changes nothing else.
                let says = match option.as_str() {
                    "--ready=" => format!("--ready {fd}: must be above 2"),
                    _ => format!("descriptor {fd} is not open"),
                };
                let refused = output.err().contains(&says);
                assert_eq!(refused, option != "--trace=", "{output}");
                assert!(!refused || output.code == Some(125), "{output}");
            }
        }
    }
}

#[test]
fn every_program_is_static() {
    for name in programs() {
        assert!(is_static(bin(&name)), "{name} has a loader");
        let program = fs::canonicalize(bin(&name)).expect("a program");
        let file = run(Command::new("file").arg(program)).exits(0).out();
        assert!(file.contains("static"), "{file}");
        let ldd = run(Command::new("ldd").arg(bin(&name)));
        let said = ldd.out() + &ldd.err();
        assert!(said.contains("not a dynamic executable") || said.contains("statically"), "{said}");
    }
}

#[test]
fn a_program_opens_nothing_to_start() {
    for name in programs() {
        let (output, processes) = strace::strace(&[], &td(&name, ["--version"]));
        output.exits(0);
        let calls: Vec<_> =
            processes[0].calls.iter().filter(|call| !strace::is_run_time(call)).collect();
        let calls = calls.into_iter().filter(|call| !strace::looks_for_room(call, 1));
        let names: Vec<&str> = calls.map(|call| call.name.as_str()).collect();
        assert_eq!(names, ["execve", "ppoll", "write", "exit_group"], "{name}");
    }
}

#[test]
fn help_that_cannot_be_written_is_lost_and_no_failure() {
    for name in programs() {
        let line = [bin(&name).into_os_string(), "--help".into()];
        run(&mut redirected(">/dev/full", &line)).ok();
        run(&mut redirected(">&-", &line)).ok();
    }
}

mod root {
    use super::*;

    /// Call `test` with each line of TOOLS.
    fn each(test: impl Fn(&Tool, &TempDir)) {
        private_mounts();
        for tool in TOOLS {
            let dir = TempDir::new();
            dir.dir("mnt");
            if !tool.root.is_empty() {
                let root = dir.dir(tool.root);
                image(&root);
                mount(["--rbind", "/proc", root.join("proc").to_str().expect("a plain path")]);
            }
            test(tool, &dir);
        }
    }

    /// Links to the tool `name`, each in a directory where no other tool is; the last one is not alone there.
    fn links_to(name: &str, dir: &TempDir) -> Vec<PathBuf> {
        let links = dir.dir("li nks/deep");
        let link = |target: &Path, at: &str| {
            let at = links.join(at);
            fs::create_dir_all(at.parent().expect("a directory")).expect("a directory");
            symlink(target, &at).unwrap_or_else(|e| panic!("{}: {e}", at.display()));
            at
        };
        let real = bin(name);
        let absolute = link(&real, name);
        let renamed = link(&real, "another name");
        link(&renamed, "../absolute");
        link(Path::new("../absolute"), "relative");
        let chain = link(Path::new("./relative"), "chain/../first");
        let directory = link(&bin_dir(), "directory").join(name);
        let into = link(&Path::new("directory").join(name), "into");
        // Every tool by a link, as busybox has its names; what they lead to is alone.
        for tool in programs() {
            let alone = dir.dir(&format!("alone/{tool}")).join("program");
            fs::copy(bin(&tool), &alone).expect("a copy");
            link(&alone, &format!("all/{tool}"));
        }
        vec![absolute, renamed, chain, directory, into, links.join("all").join(name)]
    }

    #[test]
    fn a_tool_that_is_called_by_a_link_finds_the_others() {
        each(|tool, dir| {
            // Behind `--` it is a program like any other. Behind a pivot to an image there is none; what leads there
            // has found two.
            let behind = tool.line.ends_with("--")
                || ["td-exec", "td-init"].contains(&tool.name) && !tool.root.is_empty();
            let prog =
                if behind { ["echo", "td-unshare 0.1.0"] } else { ["td-unshare", "--version"] };
            let line = line(tool, &[], dir, &prog);
            let name = Path::new(&line[0]).file_name().and_then(OsStr::to_str).expect("its name");
            for link in links_to(name, dir) {
                let mut by_path = line.clone();
                by_path[0] = link.clone().into();
                assert_eq!(
                    run(&mut command(&by_path)).ok().out(),
                    "td-unshare 0.1.0\n",
                    "{link:?}"
                );

                let (above, last) = (link.parent().expect("above"), link.file_name().expect("it"));
                let mut near = Command::new("sh");
                near.args(["-c", "exec \"./$@\"", "sh"]).arg(last).args(&line[1..]);
                assert_eq!(
                    run(near.current_dir(above)).ok().out(),
                    "td-unshare 0.1.0\n",
                    "{link:?}"
                );
            }
        });
    }

    #[test]
    fn what_is_printed_of_a_chain_has_the_path_that_the_link_leads_to() {
        private_mounts();
        let dir = TempDir::new();
        for link in links_to("td-unshare", &dir) {
            let beside = link.with_file_name("td-exec");
            let wanted = if beside.exists() { beside } else { bin("td-exec") };
            let wanted = fs::canonicalize(wanted).expect("td-exec");
            for option in ["--dry-run", "--trace"] {
                let output = run(Command::new(&link).args([option, "-m", "td-exec", "true"]));
                let printed = output.out() + &output.err();
                let call =
                    printed.split("execve(\"").find(|call| call.contains("\", [\"td-exec\", "));
                let path = call.and_then(|call| call.split('"').next()).unwrap_or_default();
                assert_eq!(fs::canonicalize(path).expect(path), wanted, "{link:?}: {printed}");
            }
        }
    }

    #[test]
    fn a_tool_that_is_nowhere_is_missed_beside_the_name_that_was_called() {
        private_mounts();
        let dir = TempDir::new();
        fs::copy(bin("td-unshare"), dir.dir("real").join("td-unshare")).expect("a copy");
        dir.dir("links");
        symlink("../real/td-unshare", dir.join("links/td-unshare")).expect("a link");
        let missing = format!("{}/links/td-exec does not exist", dir.path().display());
        let output = run(Command::new(dir.join("links/td-unshare")).args(["td-exec", "true"]));
        output.exits(125).says(&missing);
    }

    #[test]
    fn the_exit_status_of_prog_passes_through() {
        each(|tool, dir| {
            for status in [0, 1, 7, 125, 126, 127, 128, 255] {
                let prog = ["sh", "-c", &format!("exit {status}")];
                let output = run(&mut command(&line(tool, &[], dir, &prog))).exits(status);
                assert!(output.stderr.is_empty(), "{output}");
            }
        });
    }

    #[test]
    fn a_signal_that_ends_prog_is_seen_as_by_a_shell() {
        each(|tool, dir| {
            for signal in [libc::SIGTERM, libc::SIGKILL, libc::SIGSEGV, libc::SIGPIPE, 40] {
                // A child of its own, for PROG may be process 1, which no signal of its own ends.
                let script = format!("sh -c 'kill -{signal} $$'; exit $?");
                let prog = ["sh", "-c", &script];
                run(&mut command(&line(tool, &[], dir, &prog))).exits(128 + signal);
            }
        });
    }

    #[test]
    fn arguments_arrive_whole() {
        let mut args: Vec<OsString> =
            ["", "a b", "a\nb", "*", "$HOME", "-", "--", "--help", "--trace"]
                .map(OsString::from)
                .into();
        args.push(OsString::from_vec((1..=255).collect()));
        args.push(OsString::from("x".repeat(100_000)));
        let wanted: Vec<u8> =
            args.iter().flat_map(|arg| [arg.as_encoded_bytes(), b"\0"].concat()).collect();
        each(|tool, dir| {
            let mut prog: Vec<OsString> =
                ["sh", "-c", "printf '%s\\0' \"$@\"", "sh"].map(OsString::from).into();
            prog.extend(args.clone());
            let output = run(&mut command(&line(tool, &[], dir, &prog))).ok();
            assert!(output.stdout == wanted, "{tool:?}");
        });
    }

    #[test]
    fn options_behind_prog_are_progs() {
        each(|tool, dir| {
            let prog = ["sh", "-c", "echo \"$@\"", "--help", "--dry-run", "--trace", "--version"];
            let output = run(&mut command(&line(tool, &[], dir, &prog))).ok();
            assert_eq!(output.out(), "--dry-run --trace --version\n", "{tool:?}");
        });
    }

    #[test]
    fn a_prog_that_is_not_there_ends_with_127() {
        each(|tool, dir| {
            let prog = ["no-such-program-anywhere"];
            let output = run(command(&line(tool, &[], dir, &prog)).env("PATH", "/nowhere:/bin"))
                .exits(127)
                .says("no-such-program-anywhere: not found in PATH, /nowhere:/bin");
            assert_named(tool.name, &output);
            let prog = ["/nowhere/program"];
            let output = run(&mut command(&line(tool, &[], dir, &prog)))
                .exits(127)
                .says("execve(\"/nowhere/program\", [\"/nowhere/program\"], ")
                .says(": ENOENT (No such file or directory)")
                .says(": /nowhere does not exist in this root\n");
            assert_named(tool.name, &output);
        });
    }

    #[test]
    fn a_prog_that_cannot_be_executed_ends_with_126_and_the_reason() {
        each(|tool, dir| {
            for (name, reason) in unexecutable(dir, tool.root) {
                let path =
                    if tool.root.is_empty() { dir.join(name) } else { Path::new("/").join(name) };
                let reason = reason.replace("{}", path.to_str().expect("a plain path"));
                let output =
                    run(&mut command(&line(tool, &[], dir, &[path]))).exits(126).says(&reason);
                assert_named(tool.name, &output);
            }
        });
    }

    /// Programs that cannot be executed, with the sentence that says why.
    fn unexecutable(dir: &TempDir, root: &str) -> Vec<(&'static str, &'static str)> {
        let at =
            |name: &str| Path::new(root).join(name).to_str().expect("a plain path").to_string();
        dir.dir(&at("directory"));
        dir.file(&at("plain"), "#!/bin/sh\n");
        dir.program(&at("text"), "echo no first line\n");
        dir.program(&at("empty"), "");
        dir.program(&at("script"), "#! /nowhere/interpreter -x\n");
        dir.program(&at("crlf"), "#!/bin/sh\r\n");
        dir.program(&at("loader"), elf(None, Some("/nowhere/ld.so")));
        dir.program(&at("foreign"), elf(Some(243), None));
        let noexec = dir.dir(&at("noexec"));
        mount(["-t", "tmpfs", "-o", "noexec", "tmpfs", noexec.to_str().expect("a plain path")]);
        dir.program(&at("noexec/script"), "#!/bin/sh\n");
        vec![
            ("directory", "{} is a directory"),
            ("plain", "{} has no execute permission"),
            ("noexec/script", "{} is on a file system that is mounted noexec"),
            ("script", "{} exists, but its interpreter /nowhere/interpreter does not"),
            ("crlf", "{} exists, but its interpreter \"/bin/sh\\r\" does not"),
            ("loader", "{} exists, but its loader /nowhere/ld.so does not exist in this root"),
            ("text", "{} has no #! line and is not an ELF program"),
            ("text", "if it is a shell script: sh {}"),
            ("empty", "{} is empty"),
            ("foreign", "{} is a program for EM_RISCV, which this machine cannot run"),
        ]
    }

    #[test]
    fn closed_standard_descriptors_stay_closed_and_nothing_is_written_to_another_file() {
        each(|tool, dir| {
            for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
                for (prog, status) in [("exit 7", 7), ("exit 0", 0)] {
                    for options in [&[][..], &["--trace"]] {
                        let line = line(tool, options, dir, &["sh", "-c", prog]);
                        run(&mut redirected(closed, &line)).exits(status);
                    }
                }
                let line = line(tool, &["--trace"], dir, &["/nowhere/program"]);
                let (output, processes) = strace::strace(&[], &redirected(closed, &line));
                output.exits(127);
                let calls: Vec<_> = processes.iter().flat_map(|process| &process.calls).collect();
                assert!(calls.iter().any(|call| strace::writes_to(call, 2)), "{tool:?} {closed}");
                for call in calls {
                    let lost = strace::writes_to(call, 2) && closed.contains("2>&-");
                    let file = call.args.get(1).is_some_and(|path| path != "\"/\"");
                    let low = matches!(call.result.as_str(), "0" | "1" | "2");
                    assert!(!lost || call.result == "-1 EBADF", "{tool:?} {closed}: {call}");
                    assert!(!(call.name == "openat" && file && low), "{tool:?} {closed}: {call}");
                }
            }
        });
    }

    #[test]
    fn what_cannot_be_said_changes_no_exit_status() {
        each(|tool, dir| {
            for (prog, status) in [(&["sh", "-c", "exit 7"][..], 7), (&["/nowhere/program"], 127)] {
                for options in [&[][..], &["--trace"]] {
                    let line = line(tool, options, dir, prog);
                    run(&mut redirected("2>/dev/full", &line)).exits(status);
                    let mut cmd = command(&line);
                    cmd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(broken_pipe());
                    start_with(&mut cmd).wait().exits(status);
                }
            }
        });
    }

    #[test]
    fn an_empty_environment_is_enough_and_arrives_empty() {
        each(|tool, dir| {
            let output = run(command(&line(tool, &[], dir, &["env"])).env_clear()).ok();
            assert_eq!(output.out(), "", "{tool:?}");
        });
    }

    #[test]
    fn the_environment_arrives_as_it_is() {
        each(|tool, dir| {
            let mut cmd = command(&line(tool, &[], dir, &["env", "-0"]));
            let odd = OsString::from_vec(b"\xff\n=x".into());
            cmd.env_clear().env("PATH", "/usr/bin:/bin").env("A", odd).env("EMPTY", "");
            let output = run(&mut cmd).ok();
            let mut vars: Vec<&[u8]> = output.stdout.split(|byte| *byte == 0).collect();
            vars.sort();
            let wanted: [&[u8]; 4] = [b"", b"A=\xff\n=x", b"EMPTY=", b"PATH=/usr/bin:/bin"];
            assert_eq!(vars, wanted, "{tool:?}");
        });
    }

    #[test]
    fn without_proc_it_works_or_says_which_file_is_missing() {
        each(|tool, dir| {
            let line = line(tool, &[], dir, &["sh", "-c", "exit 7"]);
            let mut cmd = Command::new("unshare");
            cmd.args(["-m", "sh", "-c", "umount -l /proc && exec \"$@\"", "sh"]).args(&line);
            let output = run(&mut cmd);
            if output.code != Some(7) {
                assert_named(tool.name, &output);
                output.exits(125).says("/proc");
            }
        });
    }

    /// What a program finds when it begins: its umask, how its signals are set, and which descriptors
    /// are open (and 3, that of the list). Without a shell: dash clears the mask.
    const SIGNALS: [&str; 4] = ["grep", "-E", "^(Umask|Sig(Blk|Ign)):", "/proc/self/status"];
    const DESCRIPTORS: [&str; 2] = ["ls", "/proc/self/fd"];

    /// The same, set as the caller wants it, with a descriptor 50.
    fn state(line: &[OsString], mask: u64, ignored: &[i32]) -> String {
        let mut cmd = command(line);
        give_fd(&mut cmd, 50, fs::File::open("/dev/null").expect("a file"));
        let ignored = ignored.to_vec();
        before_exec(&mut cmd, move || {
            for &signal in &ignored {
                // SAFETY: two numbers, of which one is SIG_IGN.
                unsafe { libc::signal(signal, libc::SIG_IGN) };
            }
            // SAFETY: a mask of 8 bytes that outlives the call.
            unsafe {
                let null = std::ptr::null::<u64>();
                libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &mask, null, 8);
            }
            Ok(())
        });
        run(&mut cmd).exits(0).out()
    }

    #[test]
    fn signals_and_descriptors_arrive_as_they_were() {
        let every = u64::MAX;
        // glibc keeps 32 and 33, musl 34 as well.
        let some = 1 << (libc::SIGUSR1 - 1) | 1 << (libc::SIGTERM - 1) | 0b111 << 31;
        let cases: [(u64, &[i32]); 5] = [
            (0, &[]),
            (some, &[]),
            (every, &[]),
            (0, &[libc::SIGPIPE, libc::SIGINT, libc::SIGCHLD, 40]),
            (every, &[libc::SIGPIPE, libc::SIGCHLD, libc::SIGTERM]),
        ];
        each(|tool, dir| {
            for ((mask, ignored), options) in
                cases.iter().flat_map(|c| [(c, &[][..]), (c, &["--trace"])])
            {
                let direct = state(&SIGNALS.map(OsString::from), *mask, ignored);
                // KILL and STOP cannot be blocked.
                let blocked = mask & !(1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1));
                assert!(direct.contains(&format!("\nSigBlk:\t{blocked:016x}\n")), "{direct}");
                let found = state(&line(tool, options, dir, &SIGNALS), *mask, ignored);
                assert_eq!(found, direct, "{tool:?} {options:?} {mask:#x} {ignored:?}");
            }
            let direct = state(&DESCRIPTORS.map(OsString::from), 0, &[]);
            assert!(direct.contains("\n50\n"), "{direct}");
            let wanted = if tool.keeps_descriptors { &direct } else { "0\n1\n2\n3\n" };
            let found = state(&line(tool, &[], dir, &DESCRIPTORS), 0, &[]);
            let (kept, added): (Vec<&str>, _) =
                found.split_inclusive('\n').partition(|fd| wanted.contains(*fd));
            assert_eq!(kept.concat(), wanted, "{tool:?}");
            assert_eq!(added.len(), usize::from(tool.adds_descriptor), "{tool:?}: {added:?}");
        });
    }
}

#[test]
fn a_dry_run_that_is_traced_prints_the_next_tool_once() {
    let line = ["--trace", "--dry-run", "-u", "td-unshare", "-i", "td-exec", "true"];
    let err = run(&mut td("td-unshare", line)).exits(0).err();
    // In one program the tools follow one another without it.
    let times = if is_one_program() { 1 } else { 3 };
    for (call, times) in
        [("execve(", times), ("unshare(CLONE_NEWUTS)", 1), ("unshare(CLONE_NEWIPC)", 1)]
    {
        assert_eq!(err.matches(call).count(), times, "{call}: {err}");
    }
}
