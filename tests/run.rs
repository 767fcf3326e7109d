//! td-run, and with it the whole flow: real containers, and the kernel's answer.

mod common;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::house::*;
use common::pty::Pty;
use common::*;

const MANUAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/td-run.8");

/// It must be refused with these words, before anything is made.
#[track_caller]
fn refuses(args: &[&str], text: &str) {
    let dir = TempDir::new();
    let output = run(td_run(["--state"]).arg(dir.path()).args(args)).exits(125).says(text);
    assert!(output.err().lines().all(|line| line.starts_with("td-run: ")), "{output:#}");
    assert_eq!(fs::read_dir(dir.path()).expect("the state").count(), 0, "something was made");
}

#[test]
fn a_name_that_is_none_is_refused() {
    let names = ["", ".a", "-a", "_a", "a/b", "../a", "a b", "a\nb", "ä"];
    for name in names.into_iter().filter(|name| shell_takes(name.as_bytes())) {
        refuses(&["--", name, "true"], "NAME must consist of letters, digits, '.', '_' and '-'");
    }
    refuses(&[&"a".repeat(65)], "NAME may have at most 64 bytes");
    refuses(&[&"a".repeat(64)], "images/default does not exist");
    refuses(&["A1._-"], "images/default does not exist");
    refuses(&[], "NAME is missing");
}

#[test]
fn no_descriptor_that_is_named_is_one_that_td_run_opens() {
    for (fd, option) in (3..=11).flat_map(|fd| [(fd, "--trace"), (fd, "--ready")]) {
        // The policy would be the first of them.
        let seccomp = concat!("seccomp=", env!("CARGO_MANIFEST_DIR"), "/rootfs/default.policy");
        let dir = TempDir::new();
        let image = dir.dir("image");
        let options = [&format!("{option}={fd}"), "--security-opt", seccomp, "--image"];
        let mut cmd = td_run(["--state"]);
        cmd.arg(dir.path()).args(options).arg(image).args(["c", "true"]);
        let output = run(&mut cmd).exits(125).says(&format!("descriptor {fd} is not open"));
        assert!(!output.err().contains(" = "), "a line of a trace: {output:#}");
        assert!(!dir.join("lock").exists(), "{output:#}");
    }
}

/// The arguments of td-exec that set variables, and those of td-mount that mount, as a dry run prints them. (It cuts a
/// list after 32.)
#[track_caller]
fn handed_on(args: &[&str]) -> String {
    let dir = TempDir::new();
    image(&dir.dir("images/default"));
    let strace = dir.join("calls");
    let mut cmd = Command::new("strace");
    cmd.args(["-s", "99999", "-e", "trace=execve", "-e", "abbrev=none", "-o", text(&strace)]);
    let td_run = td_run(["--state", text(dir.path()), "--dry-run", "--cgroups", "disabled"]);
    run(cmd.args(words(&td_run)).args(args)).exits(0);
    let calls = fs::read(&strace).expect("calls");
    let calls = String::from_utf8_lossy(&calls);
    calls.lines().find(|line| line.contains("\"--key\", ")).expect("the chain").into()
}

/// Words are collected in strings, where a line break ends each, and a mark stands for one inside a word.
#[test]
fn many_variables_and_mounts_keep_their_order_whatever_is_in_them() {
    let candidates = "\n\t|~^`#@!;";
    for odd in ["", "\n", "\n\t|", candidates, "<0", "<0>\n<00>\n>\n"] {
        let mut args: Vec<String> = Vec::new();
        let mut expected = String::new();
        let shown = odd.replace('\n', "\\n").replace('\t', "\\t");
        for n in 0..120 {
            let value = format!("* A{n}= {odd}");
            args.extend(["-e".into(), value.clone(), format!("--env=B{n}="), format!("-eC{n}=$x")]);
            args.extend(["-v".into(), format!("/{n} {odd}:/d{n}:ro")]);
            args.extend(["--tmpfs".into(), format!("/t{n}:size={n}")]);
            let value = value.replace(odd, &shown);
            expected += &format!("\"--env={value}\", \"--env=B{n}=\", \"--env=C{n}=$x\", ");
        }
        args.extend(["--tmpfs=/last:".into(), "c".into(), "--env=x".into(), odd.into()]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let chain = handed_on(&args);
        assert!(chain.contains(&expected), "{odd:?}: {chain}");
        assert!(chain.contains(&format!("\"--\", \"--env=x\", \"{shown}\"]")), "{odd:?}: {chain}");
        let mounts = (0..120).map(|n| {
            let volume = format!("\"--ro-bind=/{n} {shown}\", \"/d{n}\"");
            format!("{volume}, \"--tmpfs=/t{n}\", \"--options=size={n}\", ")
        });
        let mounts = mounts.collect::<String>() + "\"--tmpfs=/last\", \"--options=\", ";
        assert!(chain.contains(&mounts), "{odd:?}: {chain}");
    }
}

/// td-run in a directory of a test's own, with these of its tools, changed by `change`.
fn copy_of_td_run(dir: &TempDir, tools: &[&str], change: impl Fn(String) -> String) -> Command {
    for tool in tools {
        fs::copy(bin(tool), dir.join(tool)).expect("a copy");
    }
    let text = change(fs::read_to_string(bin("td-run")).expect("td-run"));
    let path = dir.program("td-run", text);
    let image = dir.dir("image");
    let mut cmd = script(path.to_str().expect("a plain path"), ["--state"]);
    cmd.arg(dir.path()).arg("--image").arg(image).args(["c", "true"]);
    cmd
}

#[test]
fn a_program_of_td_that_is_missing_or_cannot_be_executed_is_a_failure_of_td_run() {
    for kind in ["missing", "not executable"] {
        let dir = TempDir::new();
        let mut cmd = copy_of_td_run(&dir, &["td-unshare"], |text| text);
        if kind == "not executable" {
            dir.file("td-lock", "");
        }
        run(cmd.env("PATH", "/nowhere")).exits(125).says("td's programs are neither beside");
    }
}

/// A directory or an empty file of that name is not taken for it, and one that is all there is needs no other.
#[test]
fn td_run_becomes_td_where_that_lies_beside_it() {
    for (beside, tools, becomes) in [
        ("td", &["td-lock"][..], "td"),
        ("td", &[], "td"),
        ("directory", &["td-lock"], "td-lock"),
        ("empty", &["td-lock"], "td-lock"),
        ("not executable", &["td-lock"], "td-lock"),
        ("nothing", &["td-lock"], "td-lock"),
    ] {
        let dir = TempDir::new();
        let mut cmd = copy_of_td_run(&dir, &[], |text| text);
        for tool in tools {
            dir.program(tool, format!("#!/bin/sh\necho {tool}\n"));
        }
        match beside {
            "td" => drop(dir.program("td", "#!/bin/sh\necho td \"$1\"\n")),
            "directory" => drop(dir.dir("td")),
            "empty" => drop(dir.program("td", "")),
            "not executable" => drop(dir.file("td", "#!/bin/sh\necho td\n")),
            _ => {}
        }
        let expected = if becomes == "td" { "td td-lock\n" } else { "td-lock\n" };
        assert_eq!(run(&mut cmd).ok().out(), expected, "{beside} {tools:?}");
    }
}

/// The mark that stands for a line break inside a word is in no path of the tools, wherever a link leads.
#[test]
fn td_run_called_by_a_link_finds_its_tools_whatever_their_directory_is_called() {
    let dir = TempDir::new();
    dir.dir("m<0>k");
    dir.program("m<0>k/td", "#!/bin/sh\necho \"$0\"\n");
    let text_of = fs::read_to_string(bin("td-run")).expect("td-run");
    dir.program("m<0>k/td-run", text_of);
    std::os::unix::fs::symlink("m<0>k/td-run", dir.join("link")).expect("a link");
    let image = dir.dir("image");
    let mut cmd = script(text(&dir.join("link")), ["-e", "A=x\ny", "--state"]);
    cmd.arg(dir.path()).arg("--image").arg(image).args(["c", "true"]);
    assert_eq!(run(&mut cmd).ok().out(), format!("{}\n", text(&dir.join("m<0>k/td"))));
}

#[test]
fn what_a_shell_gives_up_for_is_a_failure_of_td_run() {
    for fault in [
        "no-such-command",
        ": \"$no_such_variable\"",
        ": \"${no_such_variable:?}\"",
        "exec 9</nowhere/file",
        "cat </nowhere/file",
        ". /nowhere/script",
        "exec /nowhere/program",
        "false",
        "false | false",
    ] {
        // bash and yash run no trap where exec fails.
        if fault.starts_with("exec /") && (shell_is("yash") || shell_is("bash")) {
            continue;
        }
        let dir = TempDir::new();
        let change = |text: String| text.replacen("\numask 022\n", &format!("\n{fault}\n"), 1);
        let mut cmd = copy_of_td_run(&dir, &["td-unshare", "td-lock"], change);
        let output = run(&mut cmd).exits(125);
        assert!(!dir.join("lock").exists(), "{fault}: {output:#}");
    }
}

#[test]
fn td_run_needs_no_program_to_help() {
    let mut cmd = td_run(["--help"]);
    let full = run(&mut cmd).ok().out();
    assert!(full.starts_with("usage: td-run ") && full.ends_with("print the version\n"), "{full}");
    assert_eq!(run(td_run(["--help"]).env("PATH", "/nowhere")).ok().out(), full);
}

#[test]
fn what_docker_has_and_td_does_otherwise_is_refused_by_a_sentence() {
    refuses(&["-d", "c", "true"], "td-run has no daemon");
    refuses(&["--detach", "c", "true"], "td-run NAME COMMAND &");
    refuses(&["-p", "80:80", "c", "true"], "td-run forwards no ports; use --net host");
    refuses(&["--publish=80:80", "c", "true"], "td-run forwards no ports");
    refuses(&["--name", "c", "true"], "the name is the first operand: td-run NAME COMMAND");
    refuses(&["--name=c", "true"], "the name is the first operand");
}

#[test]
fn options_that_are_wrong_are_refused_by_name() {
    refuses(&["--nothing", "c"], "--nothing: no such option");
    refuses(&["--nothing=1", "c"], "--nothing: no such option");
    refuses(&["-x", "c"], "-x: no such option");
    refuses(&["--keep=yes", "c"], "--keep takes no value");
    refuses(&["--memory"], "--memory needs a value");
    refuses(&["--net", "bridge", "c"], "--net bridge: must be none or host");
    refuses(&["--image", "", "c"], "--image : not a name");
    refuses(&["--image", "..", "c"], "--image ..: not a name");
    refuses(&["--image", "/no/such", "c"], "the image /no/such does not exist");
    refuses(&["--state", "", "c"], "--state needs a directory");
}

#[test]
fn a_volume_needs_two_paths() {
    for volume in ["/src", "/src:", "src:/dst", "/src:dst", "/src:/dst:z", "/a:/b:/c:d", ":/dst"] {
        refuses(&["-v", volume, "c"], "must be SRC:DST[:ro]");
    }
}

/// An option stands in one place: the code of each has its text beside it, and --help is made of both.
#[test]
fn help_names_every_option_that_is_parsed() {
    let help = run(&mut td_run(["--help"])).ok().out();
    let script = fs::read_to_string(bin("td-run")).expect("td-run");
    let parser = script.split("  case $td_option in\n").nth(1).expect("the parser");
    let parser = parser.split("\n  esac\n").next().expect("its end");
    let arms = parser.lines().filter_map(|line| line.strip_prefix("    -")?.split_once(')'));
    let arms = arms.map(|(names, code)| (format!("-{names}"), code));
    let (refused, options): (Vec<_>, Vec<_>) =
        arms.partition(|(_, code)| code.trim_start().starts_with("fail "));
    assert!(options.len() > 30 && refused.len() == 4, "{options:?} {refused:?}");
    for (names, code) in options.iter().filter(|(names, _)| names != "--") {
        let (_, text) = code.rsplit_once(" #").unwrap_or_else(|| panic!("{names} has no text"));
        let (value, text) = text.split_once(": ").unwrap_or_else(|| panic!("{names}: {text}"));
        let names = names.replace(" |", ",");
        let is_its =
            |line: &&str| line.trim_start().starts_with(format!("{names} {value}").trim_end());
        let line = help.lines().find(is_its).or_else(|| {
            help.lines().find(|line| line.trim_start().starts_with(&format!("{names}{value}")))
        });
        let line = line.unwrap_or_else(|| panic!("--help does not name {names} {value}:\n{help}"));
        assert!(line.ends_with(&format!("  {text}")), "{line}: {text}");
    }
    assert_eq!(run(&mut td_run(["--version"])).ok().out(), "td-run 0.1.0\n");
}

/// The names of the variables that td-run sets, but for those of a failure, after which nothing is executed.
fn own_variables() -> Vec<String> {
    let script = fs::read_to_string(bin("td-run")).expect("td-run");
    let (before, rest) = script.split_once("\nshow() {\n").expect("show()");
    let script = [before, rest.split_once("\n}\n").expect("its end").1].join("\n");
    let mut names = Vec::new();
    let is_name = |name: &str| {
        let mut chars = name.chars();
        chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let before_a_command =
        ["then", "else", "do", "if", "elif", "while", "{", "(", "&&", "||", "!", "command"];
    for line in script.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut begins = true; // a command, or what it is given in its environment
        for (i, word) in words.iter().enumerate() {
            let behind = words[i + 1..].iter().map(|word| word.trim_end_matches(';'));
            let name = word.split('=').next().unwrap_or_default();
            match *word {
                "for" if begins => names.extend(behind.take(1).map(String::from)),
                "unset" | "read" if begins => {
                    let end = words.iter().skip(i).position(|word| word.ends_with(';'));
                    let behind = behind.take(end.unwrap_or(words.len())).skip(1);
                    names.extend(behind.take_while(|word| is_name(word)).map(String::from));
                }
                // The pattern of a case.
                _ if word.ends_with(')') => {}
                _ if begins && word.contains('=') && is_name(name) => names.push(name.into()),
                _ => begins = false,
            }
            begins |= word.ends_with([';', ')']) || before_a_command.contains(word);
        }
        // ${NAME=VALUE}
        let defaults = line.split("\"${").skip(1).filter_map(|text| text.split_once('='));
        names.extend(defaults.map(|(name, _)| name).filter(|name| is_name(name)).map(String::from));
    }
    names.sort();
    names.dedup();
    names
}

#[test]
fn a_variable_that_td_run_has_itself_is_not_taken_over() {
    for name in ["td_image", "td_", "td_of_the_caller", "IFS"] {
        refuses(
            &["-e", name, "c"],
            &format!(
                "-e {name}: td-run uses this variable itself; give it a value: -e {name}=VALUE"
            ),
        );
    }
    // What is set is taken, whatever its name, and so is one that only looks alike.
    for taken in ["td_image=x", "IFS=", "TD_IMAGE", "td", "image"] {
        refuses(&["-e", taken, "c"], "images/default does not exist");
    }
    let names = own_variables();
    assert!(names.len() > 30, "{names:?}");
    let others: Vec<&String> = names.iter().filter(|name| !name.starts_with("td_")).collect();
    assert_eq!(others, ["IFS", "_"]);
}

mod root {
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Stdio;
    use std::time::Duration;

    use super::strace::{executed, logs, under_strace};
    use super::*;

    /// Mounts the cgroup hierarchies, then a container in the container and an entry into that.
    const NESTED: &str = "set -e
        mount -t tmpfs tmpfs /sys/fs/cgroup
        while IFS=: read -r _ controllers _; do
            case $controllers in
                '') at=unified; set -- -t cgroup2 ;;
                name=*) at=${controllers#*=}; set -- -t cgroup -o none,$controllers ;;
                *) at=$controllers; set -- -t cgroup -o $at ;;
            esac
            mkdir /sys/fs/cgroup/$at
            mount \"$@\" cgroup /sys/fs/cgroup/$at
        done </proc/self/cgroup
        mkfifo /tmp/go
        /td/bin/td-run --state /tmp/state --image /img inner sh -c 'echo inside; cat; exit 3' </tmp/go &
        exec 3>/tmp/go
        until /td/bin/td-enter --state /tmp/state --name inner true 2>/dev/null; do sleep 0.1; done
        /td/bin/td-enter --state /tmp/state --name inner sh -c 'ps -o comm; exit 5' || echo $?
        exec 3>&-
        wait $! || echo $?
        ls /tmp/state/containers";

    #[test]
    fn a_limit_that_the_setup_reaches_is_a_failure_before_command() {
        let house = House::of(Who::Root);
        for limit in ["64k", "128k"] {
            let file = house.dir.file("ready", "");
            let ready = fs::File::options().append(true).open(&file).expect("a file");
            let mut cmd = house.container(&["-m", limit, "--ready", "50"], &["true"]);
            give_fd(&mut cmd, 50, ready);
            let output = run(&mut cmd).exits(125);
            let output = output.says("SIGKILL ended the process before it became PROG");
            let output =
                output.says("the process that was to become PROG was killed by the memory limit");
            output.says("the steps before PROG ran in this cgroup: 2M is enough for them\n");
            assert_eq!(fs::read_to_string(file).expect("a file"), "");
        }
    }

    /// Also with all that td-run can be asked for. And a limit that COMMAND has reached is not one of the steps.
    #[test]
    fn two_megabytes_are_enough_for_the_steps() {
        let house = House::of(Who::Root);
        let all = ["-m2M", "--read-only", "--tmpfs", "/t", "-e", "A=b", "-w", "/tmp", "-u", "5:6"];
        for options in [&["-m2M"][..], &["-m2M", "--no-init"], &["-m2M", "--keep"], &all] {
            let output = run(&mut house.container(options, &["true"])).ok();
            assert_eq!(output.err(), "", "{options:?}");
        }
        let output = house.sh(&["-m2M"], "exec tail -n 1 /dev/zero").exits(137);
        assert_eq!(output.err(), "td-unshare: PROG was killed by the memory limit of 2M\n");
    }

    #[test]
    fn ready_says_whether_command_runs() {
        for house in House::each() {
            for (prog, said, status) in [
                ("/bin/true", "R", 0),
                ("/nowhere", "RF", 127),
                ("no-such", "RF", 127),
                ("/bin", "RF", 126),
            ] {
                let file = house.dir.file("ready", "");
                let ready = fs::File::options().append(true).open(&file).expect("a file");
                let mut cmd = house.container(&["--ready=50"], &[prog]);
                give_fd(&mut cmd, 50, ready);
                run(&mut cmd).exits(status);
                assert_eq!(fs::read_to_string(&file).expect("a file"), said, "{prog}");
            }
            let file = house.dir.file("ready", "");
            let ready = fs::File::options().append(true).open(&file).expect("a file");
            let mut cmd = house.container(&["-w", "/nowhere", "--ready=50"], &["true"]);
            give_fd(&mut cmd, 50, ready);
            run(&mut cmd).exits(125);
            assert_eq!(fs::read_to_string(&file).expect("a file"), "");
        }
    }

    #[test]
    fn the_end_of_file_behind_r_comes_while_command_runs_and_command_has_nothing_of_it() {
        for house in House::each() {
            for options in [&[][..], &["--no-init"], &["--privileged"], &["--trace=54"]] {
                let script = "ls /proc/self/fd; read x; exit 7";
                let options = [&["--ready=50"], options].concat();
                let mut cmd = house.container(&options, &["sh", "-c", script]);
                let null = fs::File::options().write(true).open("/dev/null").expect("a device");
                give_fd(&mut cmd, 54, null); // for the trace
                let (said, running, held) = told_on(50, cmd);
                assert_eq!(said, "R", "{options:?}");
                assert!(!ended_within(running.pid(), Duration::ZERO), "{options:?}: it has ended");
                drop(held);
                let output = running.wait().exits(7);
                assert_eq!(output.out(), "0\n1\n2\n3\n", "{options:?}");
            }
            // Nobody reads, and that is not COMMAND's.
            let mut cmd = house.container(&["--ready", "50"], &["sh", "-c", "echo ran; exit 7"]);
            give_fd(&mut cmd, 50, broken_pipe());
            assert_eq!(run(&mut cmd).exits(7).out(), "ran\n");
            // A dry run says nothing, and shows what it would say.
            let file = house.dir.file("ready", "");
            let ready = fs::File::options().append(true).open(&file).expect("a file");
            let mut cmd = house.container(&["--dry-run", "--ready", "50"], &["sh"]);
            give_fd(&mut cmd, 50, ready);
            assert!(run(&mut cmd).out().contains("write(50, \"R\", 1)"));
            assert_eq!(fs::read_to_string(&file).expect("a file"), "");
        }
    }

    #[test]
    fn a_container_runs_where_a_policy_refuses_to_say_whether_a_file_may_be_used() {
        // A user has no_new_privs then, and newuidmap(1) no privilege.
        for house in [Who::Root, Who::Nobody].map(House::of) {
            let mut cmd = house.container(&[], &["sh", "-c", "exit 7"]);
            refuse_calls(&mut cmd, &[libc::SYS_faccessat2], libc::ENOSYS);
            run(&mut cmd).exits(7);
        }
    }

    #[test]
    fn td_runs_inside_td_where_its_policy_has_no_clone3() {
        let house = House::new();
        let policy = house.dir.file("policy", "unconfined\nENOSYS clone3\n");
        let security = format!("--security-opt=seccomp={}", text(&policy));
        let checkout = concat!(env!("CARGO_MANIFEST_DIR"), ":/td:ro");
        let image = format!("{}:/img:ro", text(&house.image()));
        let options = ["--privileged", &security, "--tmpfs", "/tmp", "-v", checkout, "-v", &image];
        let out = house.sh(&options, NESTED).ok().out();
        assert_eq!(out, "inside\nCOMMAND\ntd-init\nsh\ncat\nsh\nps\n5\n3\n");
        house.nothing_is_left();
    }

    #[test]
    fn a_container_cannot_reach_its_limits_through_a_user_namespace_of_its_own() {
        let house = House::new();
        // Inside, as root of a new user namespace: mount the cgroup file system, and look.
        let lift = "for c in v1 v2; do mkdir /tmp/$c; done
            mount -t cgroup -o pids cg /tmp/v1 2>/tmp/said || mount -t cgroup2 cg /tmp/v2
            find /tmp -name cgroup.procs; find /tmp -name pids.max -exec sh -c 'echo max >{}' ';'";
        let script =
            format!("/td/td-unshare -r -m -C sh -c '{}'; {HOLD}", lift.replace('\'', "\""));
        let volume = format!("{}:/td:ro", bin_dir().display());
        let open = "--security-opt=seccomp=unconfined"; // the default policy has no user namespaces
        let held = house.hold(&["--pids", "20", "-v", &volume, open], &script);
        assert!(held.running.out().contains("cgroup.procs"), "mounted: {}", held.running.out());
        assert_eq!(limit(&house, &["pids.max"]), "20");
        held.go_on().ok();
    }

    // ---- 1 and 2: layers ----

    #[test]
    fn two_containers_at_once_share_an_image_and_nothing_else() {
        for house in House::each() {
            let before = tree(&house.image());
            let run_as = |name: &str, script: &str| {
                let name = format!("{}-{name}", house.name);
                hold(house.run::<&str>([]).arg(name).args(["sh", "-c", script]))
            };
            let one = run_as(
                "hello1",
                "mkdir /test; rm /etc/group; echo x >/etc/passwd; echo ready; read x; ls -d /test",
            );
            let two = run_as(
                "hello2",
                "ls -d /test; cat /etc/group /etc/passwd; mkdir /two; echo ready; read x || :",
            );
            let one = one.go_on().ok().out();
            assert_eq!(one, "ready\n/test\n");
            let two = two.go_on();
            let passwd = "root:x:0:\nroot:x:0:0:root:/root:/bin/sh\n";
            assert_eq!(two.out(), format!("{passwd}ready\n"));
            assert!(two.err().contains("/test: No such file"), "{two:#}");
            assert!(tree(&house.image()) == before, "the image has changed");
            house.nothing_is_left();
            assert_eq!(cgroups(&format!("{}-hello1", house.name)), [] as [PathBuf; 0]);
        }
    }

    #[test]
    fn of_two_images_the_first_is_on_top_and_only_the_upper_layer_is_written_to() {
        for house in House::each() {
            let top = house.dir.dir("top/etc");
            fs::write(top.join("which"), "top\n").expect("a file");
            fs::write(house.image().join("etc/which"), "default\n").expect("a file");
            fs::write(house.image().join("etc/below"), "below\n").expect("a file");
            let layers = [house.dir.join("top"), house.image()];
            layers.iter().for_each(|layer| house.give(layer));
            let before = layers.each_ref().map(|layer| tree(layer));
            let top = text(&layers[0]);
            let script = "cat /etc/which /etc/below; echo new >/etc/which; find / -xdev -name work";
            let out =
                house.sh(&["--keep", "--image", top, "--image", "default"], script).ok().out();
            assert_eq!(out, "top\nbelow\n", "and the work directory is nowhere");
            assert!(layers.each_ref().map(|layer| tree(layer)) == before, "a layer has changed");
            let upper = house.state().join("containers").join(&house.name).join("upper");
            assert_eq!(fs::read_to_string(upper.join("etc/which")).expect("upper"), "new\n");
        }
    }

    // ---- 3: the root ----

    #[test]
    fn the_root_is_that_of_the_image_from_any_working_directory() {
        for house in House::each() {
            chmod(house.image(), 0o751);
            let names = run(Command::new("ls").arg("-A").arg(house.image())).ok().out();
            let script = "ls -A /; stat -c %a /; pwd; ls -A /..";
            let expected = format!("{names}751\n/\n{names}");
            let gone = house.dir.dir("gone/x");
            house.give(&house.dir.join("gone"));
            for directory in [Path::new("/"), Path::new("/proc"), &house.image(), &gone] {
                let mut cmd = house.container(&[], &["sh", "-c", script]);
                cmd.current_dir(directory);
                if directory == gone {
                    let gone = gone.clone();
                    before_exec(&mut cmd, move || fs::remove_dir(&gone));
                }
                let output = run(&mut cmd).exits(0); // a shell may complain of a directory that is gone
                assert_eq!(output.out(), expected, "from {}", directory.display());
            }
        }
    }

    /// Process 1 has its end of the line to its child as well, of which there is no other end any more.
    #[track_caller]
    fn has_standard_streams_alone(pid: i32, is_first: bool) {
        let (mut fds, mut lines) = (Vec::new(), 0);
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors") {
            let entry = entry.expect("one");
            let to = fs::read_link(entry.path()).expect("a link");
            match to.to_string_lossy().starts_with("socket:") {
                true => lines += 1,
                false => fds.push(entry.file_name()),
            }
        }
        fds.sort();
        assert_eq!(fds, ["0", "1", "2"], "of {}", status_of(pid, "Name"));
        assert_eq!(lines, usize::from(is_first), "of {}", status_of(pid, "Name"));
    }

    #[test]
    fn nothing_of_the_host_is_mounted_or_open_inside() {
        for house in House::each() {
            let held = house.hold(&[], HOLD);
            let [_, first, command] = held.processes();
            let hosts: Vec<String> = own_mountinfo()
                .lines()
                .filter_map(|l| l.split(' ').next().map(String::from))
                .collect();
            for pid in [first, command] {
                for mount in mountinfo_of(pid).lines() {
                    let id = mount.split(' ').next().expect("an id");
                    assert!(!hosts.iter().any(|host| host == id), "a mount of the host: {mount}");
                }
                has_standard_streams_alone(pid, pid == first);
                assert_eq!(status_of(pid, "Groups"), "");
                assert!(!held.running.err().contains("pivot"), "{}", held.running.err());
            }
            held.go_on().ok();
        }
    }

    // ---- 4: processes and namespaces ----

    #[test]
    fn a_container_has_its_own_processes_an_init_and_the_command() {
        for house in House::each() {
            let script = "echo $$; cat /proc/[0-9]*/comm; ps -o pid,comm; :";
            let out = house.sh(&[], script).ok().out();
            let words: Vec<&str> = out.split_whitespace().collect();
            // (What is listed is listed before cat begins; ps lists itself.)
            let expected = ["2", "td-init", "sh", "PID", "COMMAND", "1", "td-init", "2", "sh"];
            assert_eq!(words[..9], expected, "{out}");
            assert!(words.len() == 11 && words[10] == "ps", "{out}");

            let alone = house.sh(&["--no-init"], "echo $$; cat /proc/1/comm; :").ok().out();
            assert_eq!(alone, "1\nsh\n");
        }
    }

    #[test]
    fn every_namespace_is_the_containers_own_but_the_network_with_net_host() {
        for house in House::each() {
            let kinds = ["uts", "pid", "mnt", "net", "ipc", "cgroup"];
            let inside = |options: &[&str]| {
                let script = kinds.map(|kind| format!("readlink /proc/self/ns/{kind}")).join("; ");
                let output = house.sh(options, &script).exits(0);
                // A user has no sysfs of a network that is the host's.
                let is_said = output.err().contains("binding the caller's /sys");
                assert_eq!(is_said, house.who != Who::Root && !options.is_empty(), "{output}");
                output.out().lines().map(String::from).collect::<Vec<_>>()
            };
            let host = kinds.map(|kind| ns("thread-self", kind));
            for (own, hosts) in inside(&[]).iter().zip(&host) {
                assert_ne!(own, hosts);
            }
            let shared: Vec<bool> = inside(&["--net", "host"])
                .iter()
                .zip(&host)
                .map(|(own, hosts)| own == hosts)
                .collect();
            assert_eq!(shared, [false, false, false, true, false, false]);
            let net =
                "hostname; ls /sys/class/net; cat /sys/class/net/lo/flags; cat /proc/self/cgroup";
            let out = house.sh(&["-h", "some.host"], net).ok().out();
            assert!(out.starts_with("some.host\nlo\n0x9\n"), "the loopback interface is up: {out}");
            assert!(!out.contains(&house.name), "the cgroup is the root of what is seen: {out}");
            assert_eq!(house.sh(&[], "hostname").ok().out(), format!("{}\n", house.name));
        }
    }

    /// Otherwise a user gets one id, and no message says why.
    #[test]
    fn ids_that_cannot_be_looked_up_are_not_none() {
        let house = House::of(Who::Made);
        house.sh(&[], "true").ok();
        let hidden = house.dir.file("hidden", "");
        chmod(&hidden, 0o600);
        for file in ["/etc/subuid", "/etc/subgid", "/etc/passwd"] {
            mount(["--bind", text(&hidden), file]);
            house.sh(&[], "true").exits(125).says(&format!("{file} cannot be read by uid"));
            run(Command::new("umount").arg(file)).ok();
        }
    }

    /// Else a user is taken for root.
    #[test]
    fn without_proc_a_user_is_a_user() {
        let house = House::of(Who::Made);
        let script = "umount -l /proc && exec setpriv --reuid 65534 --regid 65534 --clear-groups \
            env HOME=/nowhere \"$@\"";
        let td_run = house.dir.join("td/bin/td-run");
        let mut cmd = Command::new("unshare");
        cmd.args(["--mount", "sh", "-c", script, "sh"]);
        cmd.args(words(&common::script(text(&td_run), ["--cgroups", "disabled", "x"])));
        run(&mut cmd).exits(125).says("/nowhere/.local/share/td");
    }

    // ---- 5: mounts ----

    /// The mounts of td-run.8, as `POINT TYPE OPTIONS`.
    fn documented() -> Vec<String> {
        let manual = fs::read_to_string(MANUAL).expect("td-run.8");
        let list = manual.split(".Bd -literal -offset indent -compact\n").nth(1).expect("the list");
        let list = list.split(".Ed").next().expect("its end");
        let join = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        list.lines().map(join).collect()
    }

    /// What `mount` prints, in the same form, less what the file systems say for themselves. An ordinary
    /// user's nodes of /dev, and what masks a file, are mounts of the caller's nodes.
    fn mounts_of(out: &str) -> Vec<String> {
        let nodes = ["null", "zero", "full", "random", "urandom", "tty"];
        let is_node = |point: &str| point.strip_prefix("/dev/").is_some_and(|p| nodes.contains(&p));
        let own = ["rw", "ro", "nosuid", "nodev", "noexec"];
        let line = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            let ["on", point, "type", fs, options] = words[1..] else { panic!("{line}") };
            let options = options.trim_matches(['(', ')']).split(',');
            let options: Vec<&str> = options.filter(|option| own.contains(option)).collect();
            let masks = point.starts_with("/proc/") && fs != "proc";
            let fs = if masks { "tmpfs" } else { fs };
            (!is_node(point)).then(|| format!("{point} {fs} {}", options.join(",")))
        };
        let mut list: Vec<String> = out.lines().filter_map(line).collect();
        list.sort();
        list
    }

    #[test]
    fn mount_shows_exactly_the_list_of_the_manual() {
        for house in House::each() {
            let is_there = |line: &String| {
                let point = line.split(' ').next().expect("a point");
                !point.starts_with("/proc/") && !point.starts_with("/sys/")
                    || Path::new(point).exists()
            };
            let mut list: Vec<String> = documented().into_iter().filter(is_there).collect();
            list.sort();
            assert_eq!(mounts_of(&house.sh(&[], "mount").ok().out()), list);

            let privileged = house.sh(&["--privileged"], "mount").ok().out();
            let lifted = |line: &&String| !line.starts_with("/proc/") && !line.starts_with("/sys");
            let mut list: Vec<String> = list.iter().filter(lifted).cloned().collect();
            list.push(String::from("/sys sysfs rw,nosuid,nodev,noexec"));
            list.sort();
            assert_eq!(mounts_of(&privileged), list);

            let read_only = house.sh(&["--read-only"], "mount; echo x >/x").exits(1);
            assert!(mounts_of(&read_only.out()).contains(&String::from("/ overlay ro,nodev")));
            assert!(read_only.err().contains("Read-only file system"), "{read_only:#}");
        }
    }

    // ---- 6: limits ----

    /// The first of these files that the container's cgroup has.
    #[track_caller]
    fn limit(house: &House, files: &[&str]) -> String {
        let cgroups = house.cgroups();
        let paths = files.iter().flat_map(|file| cgroups.iter().map(move |dir| dir.join(file)));
        let found = paths.filter_map(|path| fs::read_to_string(path).ok()).next();
        found.unwrap_or_else(|| panic!("none of {files:?} in {cgroups:?}")).trim().to_string()
    }

    #[test]
    fn limits_are_the_kernels_and_gone_afterwards() {
        let house = House::new();
        let options = [
            "-m64M",
            "--memory-swap=128M",
            "--cpus",
            "0.5",
            "--cpu-shares",
            "512",
            "--cpuset-cpus",
            "0",
            "--cpuset-mems",
            "0",
            "--pids-limit",
            "33",
        ];
        let held = house.hold(&options, HOLD);
        assert_eq!(limit(&house, &["memory.limit_in_bytes", "memory.max"]), "67108864");
        let quota = limit(&house, &["cpu.cfs_quota_us", "cpu.max"]);
        assert!(["50000", "50000 100000"].contains(&&quota[..]), "{quota}");
        let shares = limit(&house, &["cpu.shares", "cpu.weight"]);
        assert!(["512", "59"].contains(&&shares[..]), "{shares}");
        assert_eq!(limit(&house, &["cpuset.cpus"]), "0");
        assert_eq!(limit(&house, &["cpuset.mems"]), "0");
        assert_eq!(limit(&house, &["pids.max"]), "33");
        // COMMAND is in every one of these cgroups, the waiting parent in none.
        let [parent, first, command] = held.processes();
        for cgroup in house.cgroups() {
            // In a leaf below that of the limits, which is all that a cgroup namespace shows.
            let procs = fs::read_to_string(cgroup.join("leaf/cgroup.procs")).expect("cgroup.procs");
            let mut procs: Vec<i32> = procs.lines().map(|pid| pid.parse().expect("pid")).collect();
            procs.sort_unstable();
            assert_eq!(procs, [first, command], "{}", cgroup.display());
            assert!(!procs.contains(&parent));
        }
        held.go_on().ok();
        house.nothing_is_left();
    }

    /// What takes all the memory that there is. What it has read has no end, and no line either.
    const HOG: &str = "tail -n 1 /dev/zero";

    #[test]
    fn a_command_that_the_memory_limit_has_killed_is_reported() {
        let house = House::new();
        let says = "td-unshare: PROG was killed by the memory limit of 16M\n";
        for init in
            [&["-m16M"][..], &["-m16M", "--no-init"], &["-m", "16384k", "--memory-swap=16m"]]
        {
            let output = house.sh(init, &format!("exec {HOG}")).exits(137);
            assert_eq!(output.err(), says, "{init:?}");
        }
        house.nothing_is_left();
    }

    #[test]
    fn a_process_that_the_memory_limit_has_killed_is_reported_unless_the_command_copes_with_it() {
        let house = House::new();
        let output = house.sh(&["-m16M"], &format!("{HOG} || exit 3")).exits(3);
        let says = "td-unshare: a process of PROG was killed by the memory limit of 16M\n";
        assert!(output.err().ends_with(says), "{output:#}");
        let output = house.sh(&["-m16M"], &format!("{HOG} || exit 0")).exits(0);
        assert!(!output.err().contains("memory"), "{output:#}");
        let output = house.sh(&["-m16M"], "exit 3").exits(3);
        assert_eq!(output.err(), "");
        // Another reason to be killed.
        let output = house.sh(&["-m16M"], "kill -KILL $$").exits(137);
        assert_eq!(output.err(), "");
        house.nothing_is_left();
    }

    #[test]
    fn the_command_is_in_its_cgroup_from_the_beginning_without_a_move_by_cgroup_procs() {
        let house = House::new();
        let dir = TempDir::new();
        let cmd = house.container(&["--pids", "20"], &["cat", "/proc/self/cgroup"]);
        let options = ["-s", "4096", "-e", "trace=openat,openat2,write,clone3,execve,execveat"];
        run(&mut under_strace(&options, &cmd, &dir)).ok();
        let processes = logs(&dir);
        let moves = processes.iter().flat_map(|p| &p.calls).filter(|call| {
            call.name.starts_with("openat")
                && call.args.iter().any(|arg| arg.contains("cgroup.procs"))
        });
        assert_eq!(moves.count(), 0);
        // Nothing is written to a cgroup by PID 1 after its first execve.
        let tools: Vec<String> =
            processes.iter().flat_map(|p| p.calls.iter().filter_map(executed)).collect();
        assert!(!tools.is_empty());
    }

    #[test]
    fn a_limit_that_is_refused_leaves_nothing_and_runs_nothing() {
        for house in House::each() {
            for options in [
                ["--memory", "lots"],
                ["--memory", ""],
                ["--cpus", "-3"],
                ["--pids", "0x"],
                ["--cpuset-cpus", "4000"],
                ["--memory-swap", "64M"],
                ["--cpu-shares", "1"],
            ] {
                let output = house.sh(&options, "echo it runs").exits(125);
                assert_eq!(output.out(), "", "{options:?}");
                assert!(output.err().contains("td-cgroup: "), "{output:#}");
                house.nothing_is_left();
            }
        }
    }

    // ---- 7 and 8: the host's mounts, and a pivot that fails ----

    #[test]
    fn the_mounts_of_the_host_stay_as_they_are_also_where_they_are_shared() {
        for house in House::each() {
            for propagation in ["private", "shared", "slave"] {
                run(Command::new("mount").args([&format!("--make-r{propagation}"), "/"])).ok();
                let before = own_mountinfo();
                let held = house.hold(&["--tmpfs", "/run"], HOLD);
                assert_eq!(own_mountinfo(), before, "{propagation}, during");
                held.go_on().ok();
                assert_eq!(own_mountinfo(), before, "{propagation}, after");
            }
            house.nothing_is_left();
        }
    }

    #[test]
    fn what_fails_on_the_way_never_runs_the_command_and_leaves_nothing() {
        for house in [Who::Root, Who::Nobody].map(House::of) {
            let before = own_mountinfo();
            // A user with one id has no groups to give up.
            let last = if house.who == Who::Root { "setgroups" } else { "keyctl" };
            for call in ["pivot_root", "umount2", "move_mount", "capset", "sethostname", last] {
                let dir = TempDir::new();
                let cmd = house.container(&[], &["echo", "it runs"]);
                let inject = format!("inject={call}:error=EPERM");
                let trace = format!("trace={call}");
                let output =
                    run(&mut house.under_strace(&["-e", &trace, "-e", &inject], &cmd, &dir));
                let output = output.exits(125).says(&format!(": {call}(")).says("EPERM");
                assert_eq!(output.out(), "", "{call}");
                house.nothing_is_left();
                assert_eq!(own_mountinfo(), before);
            }
        }
    }

    // ---- 9: status, arguments, descriptors, signals ----

    #[test]
    fn the_exit_status_is_that_of_the_command() {
        for house in House::each() {
            fs::write(house.image().join("etc/plain"), "").expect("a file");
            for init in [&[][..], &["--no-init"]] {
                for (script, status) in [("exit 0", 0), ("exit 7", 7), ("exit 255", 255)] {
                    house.sh(init, script).exits(status);
                }
                run(&mut house.container(init, &["/etc/plain"]))
                    .exits(126)
                    .says("no execute permission");
                run(&mut house.container(init, &["/etc"])).exits(126);
                run(&mut house.container(init, &["/no/such"])).exits(127);
                run(&mut house.container(init, &["nosuch"])).exits(127).says("not found in PATH");
            }
            house.sh(&[], "kill -KILL $$").exits(137);
            house.sh(&[], "kill -TERM $$").exits(143);
            run(&mut house.container(&["-w", "/no"], &["true"])).exits(125).says("chdir(\"/no\")");
            house.nothing_is_left();
        }
    }

    #[test]
    fn without_a_command_it_is_a_shell() {
        for house in House::each() {
            let held = hold(&mut house.container(&["-i"], &["sh", "-c", "echo ready; exec sh"]));
            use std::io::Write;
            (&held.pipe).write_all(b"echo $((6*7)); exit 5\n").expect("the pipe");
            assert_eq!(held.go_on().exits(5).out(), "ready\n42\n");
            run(&mut house.container(&["-i"], &[])).ok();
            for terminal in ["-t", "-it", "-ti"] {
                let output = run(&mut house.container(&[terminal], &[])).exits(125);
                output.says("-t: standard input is not a terminal\n");
            }
        }
    }

    #[test]
    fn arguments_arrive_whole() {
        for house in House::each() {
            let args: Vec<OsString> = [
                &b"a b"[..],
                b"",
                b"two\nlines\n",
                b"\xff\xfe",
                b"*",
                b"--help",
                b"-x=1\n0\n",
                b"\\ $HOME '\"",
            ]
            .into_iter()
            .filter(|bytes| shell_takes(bytes))
            .map(|bytes| OsString::from_vec(bytes.to_vec()))
            .collect();
            let mut cmd = house.container(&[], &["printf", "[%s]"]);
            let output = run(cmd.args(&args)).ok();
            let expected: Vec<u8> =
                args.iter().flat_map(|arg| [b"[", arg.as_bytes(), b"]"].concat()).collect();
            assert_eq!(output.stdout, expected);
        }
    }

    #[test]
    fn ignored_signals_and_the_mask_arrive_as_they_were() {
        for house in House::each() {
            for sigpipe in [libc::SIG_DFL, libc::SIG_IGN] {
                let grep = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"];
                let seen_by = |mut cmd: Command| {
                    before_exec(&mut cmd, move || {
                        // SAFETY: system calls on a set of our own.
                        unsafe {
                            let mut set: libc::sigset_t = std::mem::zeroed();
                            libc::sigaddset(&mut set, libc::SIGUSR2);
                            libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
                            libc::signal(libc::SIGPIPE, sigpipe);
                            libc::signal(libc::SIGUSR1, libc::SIG_IGN);
                        }
                        Ok(())
                    });
                    run(&mut cmd).ok().out()
                };
                let mut host = Command::new(busybox());
                host.args(grep);
                let mut outside = seen_by(host);
                assert!(outside.starts_with("SigBlk:\t0000000000000800\n"), "{outside}");
                if shell_is("mksh") {
                    outside = outside.replace("800\n", "000\n"); // it unblocks every signal
                }
                assert_eq!(seen_by(house.container(&[], &grep)), outside);
                let ignored = if sigpipe == libc::SIG_IGN { "1200" } else { "0200" };
                assert!(outside.trim_end().ends_with(ignored), "{outside}");
            }
        }
    }

    #[test]
    fn descriptors_inside_are_0_to_2_and_no_terminal_controls() {
        for house in House::each() {
            let secret = house.dir.file("secret", "secret");
            let mut cmd = house.container(&[], &["sh", "-c", HOLD]);
            // td-run has a use for one that is free.
            for fd in 4..=9 {
                let secret = fs::File::open(&secret).expect("secret");
                // SAFETY: numbers; the descriptor is nobody else's.
                let secret = unsafe {
                    let high = libc::fcntl(secret.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 100);
                    OwnedFd::from_raw_fd(check(high).expect("a descriptor"))
                };
                give_fd(&mut cmd, fd, secret);
            }
            let held = hold(&mut cmd);
            let [_, first, command] = held.processes();
            for pid in [first, command] {
                has_standard_streams_alone(pid, pid == first);
            }
            let stat = fs::read_to_string(format!("/proc/{command}/stat")).expect("stat");
            let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split(' ').collect();
            assert_eq!(fields[5], "0", "no controlling terminal: {stat}");
            assert_eq!(fields[4], first.to_string(), "the session of process 1: {stat}");
            assert_eq!(fields[3], command.to_string(), "a process group of its own: {stat}");
            held.go_on().ok();
        }
    }

    // ---- 10 and 11: hostile images, and what a container may not do ----

    #[test]
    fn links_of_an_image_lead_nowhere_outside() {
        for house in House::each() {
            let outside = house.dir.dir("outside");
            fs::write(outside.join("file"), "theirs").expect("a file");
            let data = house.dir.dir("data");
            let volume = format!("{}:/vol/new", text(&data));
            let (before, mounts) = (tree(&outside), own_mountinfo());
            let up = format!("{}{}", "../".repeat(20), text(&outside));
            for target in [text(&outside), &up, "loop", "..", "/", "/etc"] {
                for name in ["proc", "dev", "sys", "dev/null", "vol", "vol/new"] {
                    let path = house.image().join(name);
                    let _ = fs::remove_dir_all(house.image().join("vol"));
                    if name.starts_with("vol/") {
                        fs::create_dir(house.image().join("vol")).expect("a directory");
                    }
                    let _ = fs::remove_dir(&path);
                    let target =
                        if target == "loop" { name.rsplit('/').next().expect("x") } else { target };
                    symlink(target, &path).expect("a link");
                    let image = tree(&house.image());

                    let output =
                        house.sh(&["-v", &volume, "--tmpfs", "/vol/tmp"], "echo x >/vol/new/x");
                    let refused = ["proc", "dev", "sys"].contains(&name);
                    assert!(!refused || output.code == Some(125), "{name} -> {target}: {output:#}");
                    assert_eq!(tree(&outside), before, "{name} -> {target}: {output:#}");
                    assert_eq!(own_mountinfo(), mounts, "{name} -> {target}");
                    assert!(
                        tree(&house.image()) == image,
                        "{name} -> {target}: the image has changed"
                    );
                    house.nothing_is_left();

                    fs::remove_file(&path).expect("the link");
                    if !name.contains('/') && name != "vol" {
                        fs::create_dir(&path).expect("a directory");
                    }
                }
            }
        }
    }

    #[test]
    fn databases_of_an_image_that_are_not_its_own_files_are_refused_by_name() {
        for house in House::each() {
            let passwd = house.image().join("etc/passwd");
            let volume = house.dir.dir("volume");
            fs::write(volume.join("passwd"), "root:x:0:0::/:/bin/sh\n").expect("a file");
            let volume = format!("{}:/mnt", volume.display());
            fs::create_dir(house.image().join("mnt")).expect("a directory");
            let to_another = "is a symbolic link to another mount";
            // Would it be drained? Something is there to be read.
            fs::write("/dev/kmsg", "<7>td: a test of the kernel's log\n")
                .expect("a line in the log");
            for (make, what) in [
                ("mkfifo \"$0\"", "is not a regular file"),
                ("mkdir \"$0\"", "is not a regular file"),
                ("truncate -s 1G \"$0\"", "is larger than 16777216 bytes"),
                ("ln -s /proc/kmsg \"$0\"", to_another),
                ("ln -s ../proc/self/environ \"$0\"", to_another),
                ("ln -s /proc/self/root/etc/group \"$0\"", to_another),
                ("ln -s /proc/1/fd/0 \"$0\"", to_another),
                ("ln -s /sys/kernel/notes \"$0\"", to_another),
                ("ln -s /dev/zero \"$0\"", to_another),
                ("ln -s /mnt/passwd \"$0\"", to_another),
                ("ln -s a \"$0\"; ln -sf /proc/kmsg \"${0%/*}/a\"", to_another),
            ] {
                let unread = unread_of_the_log();
                run(Command::new("rm").arg("-rf").arg(&passwd)).ok();
                run(sh(make).arg(&passwd)).ok();
                let output = house.sh(&["-v", &volume], "echo it runs").exits(125);
                assert_eq!(output.out(), "");
                output.says(&format!("/etc/passwd {what}"));
                house.nothing_is_left();
                assert!(unread_of_the_log() >= unread && unread > 0, "{make}: the log was read");
            }
        }
    }

    /// The number of unread bytes in the kernel's log: syslog(2).
    fn unread_of_the_log() -> i32 {
        const SYSLOG_ACTION_SIZE_UNREAD: i32 = 9;
        // SAFETY: it takes no buffer.
        check(unsafe { libc::klogctl(SYSLOG_ACTION_SIZE_UNREAD, std::ptr::null_mut(), 0) })
            .expect("the size of the log")
    }

    #[test]
    fn databases_of_an_image_may_be_links_in_it_or_mounted_there() {
        let user = "app:x:4001:4002::/srv:/bin/sh\n";
        // A user with only one id cannot become another user.
        for house in [Who::Root, Who::Made].into_iter().map(House::of) {
            let etc = house.image().join("etc");
            let [whole, file] = [house.dir.dir("volume"), house.dir.file("users", user)];
            fs::copy(&file, whole.join("passwd")).expect("a copy");
            house.give(&whole);
            let is_user = |options: &[&str]| {
                let options = [options, &["-u", "app"]].concat();
                assert_eq!(house.sh(&options, "id -u; echo $HOME").ok().out(), "4001\n/srv\n");
            };
            is_user(&["-v", &format!("{}:/etc/passwd:ro", file.display())]);
            is_user(&["-v", &format!("{}:/etc", whole.display())]);
            fs::copy(&file, etc.join("users")).expect("a copy");
            for to in ["users", "/etc/users", "../../etc/./users"] {
                fs::remove_file(etc.join("passwd")).expect("the file");
                symlink(to, etc.join("passwd")).expect("a link");
                is_user(&[]);
            }
            fs::rename(&etc, house.image().join("settings")).expect("a move");
            symlink("settings", &etc).expect("a link");
            is_user(&[]);
        }
    }

    /// It must be refused in a container, and go in one that is privileged.
    #[track_caller]
    fn only_privileged(house: &House, script: &str) {
        let refused = house.sh(&[], script);
        assert!(refused.code != Some(0) && !refused.stderr.is_empty(), "{refused:#}");
        // An ordinary user has no rights to the kernel's own files that could be passed on.
        if house.who == Who::Root {
            house.sh(&["--privileged"], script).ok();
        }
    }

    #[test]
    fn the_kernels_own_files_cannot_be_written_to() {
        for house in House::each() {
            // Opened for writing is enough, and changes nothing where it goes.
            for file in [
                "/proc/sys/kernel/core_pattern",
                "/proc/sys/kernel/hostname",
                "/proc/sysrq-trigger",
                "/sys/kernel/uevent_helper",
                "/sys/class/net/lo/mtu",
                "/proc/irq/default_smp_affinity",
            ] {
                if Path::new(file).exists() {
                    only_privileged(&house, &format!(": >>{file}"));
                }
            }
            let masked =
                house.sh(&[], "cat /proc/keys /proc/timer_list /proc/interrupts; ls /sys/firmware");
            assert_eq!(masked.ok().out(), "");
        }
    }

    /// With every capability, the default policy allows mount(2).
    #[test]
    fn without_cgroups_of_its_own_a_container_has_the_default_policy_and_not_every_capability() {
        for house in House::each() {
            for options in [
                &["--privileged"][..],
                &["--privileged", "--security-opt=seccomp=default"],
                &["--security-opt=seccomp=unconfined"],
                // What a policy of one's own allows, td-run does not see.
                &["--security-opt=seccomp=/etc/passwd"],
            ] {
                let all = [&["--cgroups=disabled"], options].concat();
                let output = house.sh(&all, "echo it runs").exits(125);
                assert_eq!(output.out(), "");
                output.says("--cgroups disabled").says("could change the cgroups of the caller");
            }
            house.nothing_is_left();
        }
    }

    #[test]
    fn nothing_can_be_mounted_and_no_device_made_or_used() {
        for house in House::each() {
            for mount in [
                "mount -t tmpfs none /tmp",
                "mount -t cgroup2 none /tmp",
                "mount -t proc none /tmp",
                "mount --bind /etc /tmp",
                "mount -o remount,rw /sys",
                "umount /dev/shm",
                "mknod /dev/null2 c 1 3",
            ] {
                only_privileged(&house, mount);
            }
            // release_agent is a file of version 1.
            house
                .sh(&[], "mount -t cgroup -o memory none /tmp && echo x >/tmp/release_agent")
                .exits(1);
            house.sh(&[], "unshare -Ur mount -t tmpfs none /tmp").exits(1);
            run(Command::new("mknod").arg(house.image().join("zero")).args(["c", "1", "5"])).ok();
            house.sh(&[], "head -c 1 /zero").exits(1).says("Permission denied");
            house.sh(&[], "head -c 1 /dev/zero >/dev/null; echo x >/dev/tty").exits(1);
        }
    }

    #[test]
    fn a_set_user_id_file_of_the_image_gives_nothing_unless_privileged() {
        let house = House::new();
        let suid = house.image().join("bin/suid");
        fs::copy(bin("td-exec"), &suid).expect("a program");
        chmod(&suid, 0o4755);
        let uids = |options: &[&str]| {
            let options = [options, &["-u", "1000"]].concat();
            let held = hold(&mut house.container(&options, &["suid", "td-init", "sh", "-c", HOLD]));
            let [.., command] = held.processes();
            let uids = status_of(command, "Uid") + " " + &status_of(command, "CapEff");
            held.go_on().ok();
            uids
        };
        assert_eq!(uids(&[]), "1000\t1000\t1000\t1000 0000000000000000");
        assert!(uids(&["--privileged"]).starts_with("1000\t0\t"), "it works at all");
    }

    #[test]
    fn no_process_of_the_container_leads_to_a_file_of_the_host() {
        for house in House::each() {
            // Of several tools it must say which it is.
            let word = if by_td() { "td-lock" } else { "--unset" };
            fs::write(house.image().join("evil"), format!("#!/proc/self/exe {word}\n"))
                .expect("a program");
            chmod(house.image().join("evil"), 0o755);
            let sums = || {
                let mut files = ["td-exec", "td-pivot", "td-unshare"].map(bin).to_vec();
                files.extend(by_td().then(|| bin("td")));
                run(Command::new("cksum").args(files)).ok().out()
            };
            let before = sums();
            let script = "readlink /proc/$PPID/exe; (echo x >>/proc/$PPID/exe) || echo refused; \
                          (exec 5</proc/$PPID/exe; echo x >>/proc/self/fd/5) || echo refused";
            for options in [&[][..], &["--privileged"]] {
                for first in [&["sh", "-c"][..], &["/evil", "td-init", "--", "sh", "-c"]] {
                    let output = run(house.container(options, first).arg(script)).exits(0);
                    let lines: Vec<String> = output.out().lines().map(String::from).collect();
                    // By default the program of PID 1 cannot even be named.
                    let (exe, tried) = lines.split_at(options.len());
                    // It is all that there is of its mount.
                    assert!(exe.iter().all(|exe| exe == "/"), "{output:#}");
                    assert_eq!(tried, ["refused", "refused"], "{output:#}");
                }
            }
            assert_eq!(sums(), before);
        }
    }

    #[test]
    fn pid_1_shows_nothing_of_the_host() {
        for house in House::each() {
            let look = ["sh", "-c", "cat /proc/1/cmdline /proc/1/environ"];
            let refused = "can't open '/proc/1/environ': Permission denied";
            run(&mut house.container(&[], &look)).exits(1).says(refused);
            let mut cmd = house.container(&["--privileged"], &look);
            cmd.env("SECRET_OF_THE_HOST", "x");
            let shown = run(&mut cmd).ok().stdout;
            let words: Vec<&[u8]> =
                shown.split(|b| *b == 0).filter(|word| !word.is_empty()).collect();
            assert_eq!(words, [b"td-init"]);
            let script =
                "ls /proc/1/root/ /proc/1/cwd/; readlink /proc/1/root; readlink /proc/1/cwd; env";
            let mut cmd = house.container(&["--privileged"], &["sh", "-c", script]);
            let out = run(cmd.env("SECRET_OF_THE_HOST", "x").env("TERM", "dumb")).ok().out();
            assert!(!out.contains("SECRET"), "{out}");
            assert!(!out.contains(text(house.dir.path())), "{out}");
        }
    }

    #[test]
    fn a_name_that_is_in_use_is_said_in_words_that_td_run_has() {
        for house in House::each() {
            let held = house.hold(&[], HOLD);
            let output = house.sh(&[], "echo never").exits(125);
            assert!(output.out().is_empty() && !output.err().contains("--"), "{output}");
            let (lock, holder) = (house.state().join("lock"), held.running.pid());
            let what = format!("the name {} of {}", house.name, text(&lock));
            output.says(&format!("{what} is locked by process {holder} (td-unshare)\n"));
            held.go_on().exits(0);
            house.nothing_is_left();
        }
    }

    #[test]
    fn capabilities_are_dockers_less_mknod_and_a_user_has_none() {
        for house in House::each() {
            let script = "grep -E '^(Cap|NoNewPrivs)' /proc/self/status";
            let sets = |cap: &str, user: &str, inh: &str, no_new: u8| {
                format!(
                    "CapInh:\t{inh}\nCapPrm:\t{user}\nCapEff:\t{user}\nCapBnd:\t{cap}\nCapAmb:\t{inh}\nNoNewPrivs:\t{no_new}\n"
                )
            };
            let (default, none) = ("00000000a00425fb", "0000000000000000");
            assert_eq!(default.len(), none.len());
            // 0xa80425fb is docker's; its bit 27 is mknod.
            assert_eq!(0xa804_25fb_u64 & !(1 << 27), 0xa004_25fb);
            assert_eq!(house.sh(&[], script).ok().out(), sets(default, default, none, 1));
            assert_eq!(house.sh(&["-u", "1000"], script).ok().out(), sets(default, none, none, 1));
            let held = house.hold(&[], HOLD);
            let [_, first, _] = held.processes();
            assert_eq!(status_of(first, "CapEff"), default, "PID 1 has no more");
            held.go_on().ok();
        }
    }

    // ---- 12: the waiting parent ----

    #[test]
    fn the_waiting_parent_is_in_no_namespace_of_the_container_and_no_shell_stays() {
        for house in House::each() {
            let held = house.hold(&[], HOLD);
            let [parent, first, command] = held.processes();
            assert_eq!(
                fs::read_link(format!("/proc/{parent}/root")).expect("root"),
                Path::new("/")
            );
            assert_eq!(mountinfo_of(parent), own_mountinfo());
            for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user"] {
                assert_eq!(ns(parent, kind), ns("thread-self", kind));
            }
            let exe = fs::read_link(format!("/proc/{parent}/exe")).expect("exe");
            let tool = if by_td() { "td" } else { "td-unshare" };
            assert_eq!(exe, fs::canonicalize(house.bin(tool)).expect("a program"));
            assert_eq!(children_of(command), [] as [i32; 0]);
            assert_eq!(status_of(first, "NSpid").split_whitespace().last(), Some("1"));
            held.go_on().ok();
        }
    }

    #[test]
    fn signals_reach_the_command_at_once() {
        for house in House::each() {
            let script = "for s in TERM INT HUP USR1; do trap \"echo got $s; exit 3\" $s; done; \
                          sleep 1000 & echo ready; wait";
            let signals = [("TERM", 15), ("INT", 2), ("HUP", 1), ("USR1", 10)];
            for (name, number) in signals {
                let held = house.hold(&[], script);
                held.running.kill(number);
                assert_eq!(held.go_on().exits(3).out(), format!("ready\ngot {name}\n"));
                let held = house.hold(&[], "echo ready; exec sleep 1000");
                held.running.kill(number);
                held.go_on().exits(128 + number);
            }
            house.nothing_is_left();
        }
    }

    #[test]
    fn a_shell_stops_and_continues_a_container_as_its_job() {
        use std::os::unix::process::CommandExt;
        for house in House::each() {
            for options in [&[][..], &["--no-init"]] {
                let script = "sleep 1000 & echo ready; wait";
                let mut cmd = house.container(options, &["sh", "-c", script]);
                // A group of its own, as a shell makes for a job.
                let held = hold(cmd.process_group(0));
                let mut processes = vec![held.running.pid()];
                while let [child] = children_of(processes[processes.len() - 1])[..] {
                    processes.push(child);
                }
                let [parent, .., shell, sleep] = processes[..] else { panic!("{processes:?}") };
                let state = |letter: &str, pids: &[i32]| {
                    let is = |pid: &i32| status_of(pid, "State").starts_with(letter);
                    wait_for(letter, || pids.iter().all(is).then_some(()));
                };
                for _ in 0..2 {
                    kill(-parent, libc::SIGTSTP);
                    state("T", &[parent, shell, sleep]);
                    kill(-parent, libc::SIGCONT);
                    state("S", &[parent, shell, sleep]);
                }
                held.running.kill(libc::SIGTERM);
                let status = if options.is_empty() { 128 + libc::SIGTERM } else { 128 + 9 };
                if !options.is_empty() {
                    kill(shell, libc::SIGKILL); // process 1 itself, which SIGTERM does not end
                }
                held.go_on().exits(status);
            }
            house.nothing_is_left();
        }
    }

    #[test]
    fn a_signal_while_the_container_is_set_up_is_not_lost() {
        for house in [Who::Root, Who::Nobody].map(House::of) {
            // In td-overlay, in td-mount, in td-pivot, in td-exec before and after it forks.
            for call in ["fsopen", "mount_setattr", "pivot_root", "setsid", "capset"] {
                let dir = TempDir::new();
                let delay = format!("inject={call}:delay_enter=300000:when=1");
                let cmd = house.container(&[], &["sleep", "1000"]);
                let strace = start(&mut house.under_strace(&["-e", &delay], &cmd, &dir));
                // strace itself has a child or two before, to find out what it can do.
                let parents = || children_of(strace.pid()).into_iter();
                let has_child = |parent: &i32| !children_of(*parent).is_empty();
                let parent = wait_for("the container", || parents().find(has_child));
                kill(parent, libc::SIGTERM);
                strace.wait().exits(128 + libc::SIGTERM);
            }
            house.nothing_is_left();
        }
    }

    #[test]
    fn an_idle_container_wakes_nobody() {
        for house in House::each() {
            let held = hold(&mut house.container(&[], &["sh", "-c", "echo ready; exec cat"]));
            let processes = held.processes();
            let asleep = |pid: &i32| status_of(pid, "State").starts_with('S');
            wait_for("all to sleep", || processes.iter().all(asleep).then_some(()));
            let wakes = || {
                processes.map(|pid| {
                    status_of(pid, "voluntary_ctxt_switches")
                        + "+"
                        + &status_of(pid, "nonvoluntary_ctxt_switches")
                })
            };
            std::thread::sleep(Duration::from_millis(100));
            let before = wakes();
            std::thread::sleep(Duration::from_secs(1));
            assert_eq!(wakes(), before);
            held.go_on().ok();
        }
    }

    #[test]
    fn when_the_waiting_parent_is_killed_the_container_dies_and_the_next_run_works() {
        for house in House::each() {
            let held = house.hold(&[], HOLD);
            let [parent, first, command] = held.processes();
            kill(parent, libc::SIGKILL);
            for pid in [first, command] {
                wait_for("its end", || (!is_alive(pid)).then_some(()));
            }
            drop(held);
            house.sh(&[], "exit 4").exits(4);
            assert_eq!(house.cgroups(), [] as [PathBuf; 0]);
        }
    }

    // ---- 13: parts of the chain ----

    #[test]
    fn a_private_tmp_is_one_line() {
        private_mounts();
        let before = own_mountinfo();
        let list = |cmd: &mut Command| run(cmd.current_dir("/")).ok().out();
        let script = "ls -A /; ls -A /tmp; grep -c ' /tmp ' /proc/self/mounts; echo x >/tmp/td-x";
        let args = ["-m", "td-mount", "--tmpfs", "/tmp", "/", "sh", "-c", script];
        let inside = list(&mut td("td-unshare", args));
        assert_eq!(inside, list(&mut sh("ls -A /")) + "1\n");
        assert_eq!(own_mountinfo(), before);
        assert!(!Path::new("/tmp/td-x").exists());
    }

    #[test]
    fn a_root_of_the_hosts_programs_is_entered_by_td_pivot() {
        private_mounts();
        let dir = TempDir::new();
        let rootfs = concat!(env!("CARGO_MANIFEST_DIR"), "/bin/td-rootfs");
        let image = dir.join("image");
        run(Command::new(rootfs).arg("--host").arg(&image).args(["ls", "cat", "stat"])).ok();
        let before = tree(&image);
        let args = [OsStr::new("-m"), OsStr::new("td-pivot"), image.as_os_str()];
        let script = "ls -A /; stat -c %a /; cat /etc/group";
        let out = run(td("td-unshare", args).args(["sh", "-c", script])).ok().out();
        let names = run(Command::new("ls").arg("-A").arg(&image)).ok().out();
        let group = fs::read_to_string(image.join("etc/group")).expect("group");
        assert_eq!(out, format!("{names}755\n{group}"));
        assert!(tree(&image) == before);
    }

    // ---- 15: callers that have or give little ----

    #[test]
    fn closed_standard_descriptors_change_nothing() {
        for house in House::each() {
            for closed in ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-"]
            {
                let script = "[ ! -e /proc/self/fd/9 ]; exit 7";
                let cmd = house.container(&[], &["sh", "-c", script]);
                let mut closing = sh(&format!("exec \"$@\" {closed}"));
                house.who.runs(&mut closing);
                let output = run(closing.arg("sh").args(words(&cmd))).exits(7);
                assert_eq!(output.err(), "", "{closed}");
                house.nothing_is_left();
            }
            for stderr in ["2>&-", "2>/dev/full"] {
                let exec = format!("exec \"$@\" {stderr}");
                run(sh(&exec).arg("sh").args(words(&td_run(["-x"])))).exits(125);
                let cmd = house.container(&["--trace"], &["sh", "-c", "exit 6"]);
                let mut closing = sh(&exec);
                house.who.runs(&mut closing);
                run(closing.arg("sh").args(words(&cmd))).exits(6);
            }
        }
    }

    #[test]
    fn an_empty_environment_is_enough() {
        for house in House::each() {
            let mut cmd = house.container(&[], &["env"]);
            cmd.env_clear();
            let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
            let out = run(&mut cmd).ok().out();
            let mut lines: Vec<&str> = out.lines().collect();
            lines.sort_unstable();
            assert_eq!(lines, ["HOME=/root", path]);
        }
    }

    #[test]
    fn without_proc_it_fails_by_name_and_leaves_nothing() {
        for house in House::each() {
            let mut cmd = Command::new("unshare");
            let id = house.who.id();
            let script = format!("umount -l /proc; exec chroot --userspec={id}:{id} / \"$@\"");
            cmd.args(["-m", "sh", "-c", &script, "sh"]);
            cmd.args(words(&house.container(&[], &["echo", "it runs"])));
            let output = run(&mut cmd).exits(125).says("/proc");
            assert_eq!(output.out(), "");
            house.nothing_is_left();
        }
    }

    #[test]
    fn a_caller_that_ignores_sigchld_or_blocks_everything_gets_the_status() {
        for house in House::each() {
            for blocked in [false, true] {
                let mut cmd = house.container(&[], &["sh", "-c", "sleep 0; true | true; exit 9"]);
                before_exec(&mut cmd, move || {
                    // SAFETY: system calls on a set of our own.
                    unsafe {
                        let mut set: libc::sigset_t = std::mem::zeroed();
                        libc::sigfillset(&mut set);
                        if blocked {
                            libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
                        } else {
                            libc::signal(libc::SIGCHLD, libc::SIG_IGN);
                        }
                    }
                    Ok(())
                });
                run(&mut cmd).exits(9);
            }
            house.nothing_is_left();
        }
    }

    // ---- options ----

    #[test]
    fn what_is_kept_is_there_in_the_next_run_and_else_nothing_is() {
        for house in House::each() {
            house.sh(&[], "echo lost >/file").ok();
            house.sh(&[], "cat /file").exits(1);
            house.nothing_is_left();
            house.sh(&["--keep"], "echo kept >/file; rm /etc/group").ok();
            assert_eq!(house.cgroups(), [] as [PathBuf; 0]);
            house.sh(&["--rm", "--keep"], "cat /file; ! ls /etc/group 2>/dev/null").ok();
            // A run that keeps nothing neither sees nor removes it.
            house.sh(&["--keep", "--rm"], "ls /etc/group; ! ls /file 2>/dev/null").ok();
            let out = house.sh(&["--keep"], "cat /file").ok().out();
            assert_eq!(out, "kept\n");
        }
    }

    #[test]
    fn what_is_written_to_memory_is_limited_and_is_in_no_directory_of_the_state() {
        for house in House::each() {
            let script =
                "echo x >/file; rm /etc/group; ls /file; ls /etc/group 2>/dev/null || echo removed
                dd if=/dev/zero of=/big bs=64k count=32 2>/dev/null || echo full
                echo ready; read x || :";
            for (options, last) in
                [(&["--tmp-overlay=1M"][..], "full\nready\n"), (&["--tmp-overlay"], "ready\n")]
            {
                let held = house.hold(options, script);
                assert_eq!(held.running.out(), format!("/file\nremoved\n{last}"));
                let run = house.record().with_file_name("run");
                let names = fs::read_dir(&run)
                    .expect("a directory")
                    .map(|e| e.expect("an entry").file_name());
                let names: BTreeSet<_> = names.collect();
                assert_eq!(names, ["policy", "root"].map(OsString::from).into());
                held.go_on().ok();
                house.nothing_is_left();
            }
            // The last one counts.
            house.sh(&["--keep"], "echo kept >/file").ok();
            house.sh(&["--keep", "--tmp-overlay"], "! ls /file 2>/dev/null").ok();
            assert_eq!(house.sh(&["--tmp-overlay", "--keep"], "cat /file").ok().out(), "kept\n");
            house.sh(&["--tmp-overlay=x"], "echo not reached").exits(125).says("--tmpfs=x");
        }
        let house = House::in_these_mounts();
        let fill = "dd if=/dev/zero of=/big bs=1M count=99 2>/dev/null";
        let output = house.sh(&["--tmp-overlay", "-m", "32M"], fill).exits(128 + libc::SIGKILL);
        output.says("PROG was killed by the memory limit of 32M");
    }

    #[test]
    fn the_state_is_the_owners_alone_whatever_the_umask() {
        for house in House::each() {
            for options in [&[][..], &["--keep"]] {
                let mut cmd =
                    house.container(options, &["sh", "-c", "umask; echo ready; read x || :"]);
                before_exec(&mut cmd, || {
                    // SAFETY: a number.
                    unsafe { libc::umask(0) };
                    Ok(())
                });
                let held = hold(&mut cmd);
                let containers = house.state().join("containers");
                let mut directories = vec![containers.clone(), containers.join(&house.name)];
                if options.is_empty() {
                    directories.push(directories[1].join("run"));
                }
                for directory in &directories {
                    let mode = fs::metadata(directory).expect("a directory").permissions().mode();
                    assert_eq!(mode & 0o7777, 0o700, "{}", directory.display());
                }
                assert_eq!(held.go_on().ok().out(), "0022\nready\n");
            }
        }
    }

    #[test]
    fn volumes_are_files_and_directories_and_may_be_read_only() {
        for house in House::each() {
            let data = house.dir.dir("da:ta");
            house.dir.file("da:ta/file", "data\n");
            let file = house.dir.file("file", "file\n");
            house.give(&data);
            house.give(&file);
            let data = text(&data).to_string();
            let volumes = [
                format!("{data}:/data"),
                format!("{data}:/new/dir:ro"),
                format!("{}:/etc/passwd", text(&file)),
                format!("{}:/new/file:ro", text(&file)),
            ];
            let options: Vec<&str> = volumes.iter().flat_map(|v| ["-v", v]).collect();
            let script = "cat /data/file /new/dir/file /etc/passwd /new/file; echo x >/data/made; \
                          echo y >>/etc/passwd; ! echo z >/new/dir/z; ! echo z >/new/file";
            let output = house.sh(&options, script).exits(0);
            assert_eq!(output.out(), "data\ndata\nfile\nfile\n");
            assert_eq!(output.err().matches("Read-only file system").count(), 2, "{output:#}");
            assert_eq!(fs::read_to_string(house.dir.join("da:ta/made")).expect("made"), "x\n");
            assert_eq!(fs::read_to_string(&file).expect("file"), "file\ny\n");
            // From the working directory; and a set-user-id file or a device of a volume is nothing new.
            let mut cmd = house.container(&["-v", "./file:/f:rw"], &["cat", "/f"]);
            assert_eq!(run(cmd.current_dir(house.dir.path())).ok().out(), "file\ny\n");
            house.sh(&["-v", "/no/such:/x"], "echo it runs").exits(125).says("/no/such");
            house.nothing_is_left();
        }
    }

    #[test]
    fn a_volume_may_have_mounts_below_it_whose_flags_are_locked() {
        for house in House::each() {
            let volume = house.dir.dir("volume");
            let below = house.dir.dir("volume/below");
            mount(["-t", "tmpfs", "-o", "ro,nosuid,nodev,noexec", "tmpfs", text(&below)]);
            for (how, flags) in [("", "ro,nosuid,nodev,noexec"), (":ro", "ro,nosuid,nodev,noexec")]
            {
                let volume = format!("{}:/data{how}", text(&volume));
                let script = "while read -r _ _ _ _ point options _; do \
                    [ $point != /data/below ] || echo $options; done </proc/self/mountinfo";
                let out = house.sh(&["-v", &volume], script).ok().out();
                assert!(out.starts_with(flags), "{:?} {how}: {out}", house.who);
            }
        }
    }

    #[test]
    fn a_tmpfs_has_its_options_and_read_only_leaves_it_writable() {
        for house in House::each() {
            let script = "stat -c %a /run /scratch; df -k /scratch | tail -n 1; echo x >/scratch/x; echo x >/x";
            let options =
                ["--read-only", "--tmpfs", "/run", "--tmpfs", "/scratch:size=64k,mode=750"];
            let output = house.sh(&options, script).exits(1).says("Read-only file system");
            let out = output.out();
            assert!(out.starts_with("755\n750\n"), "{out}"); // as the directory of the image, or as said
            assert_eq!(out.split_whitespace().nth(3), Some("64"), "{out}");
        }
    }

    #[test]
    fn the_environment_is_clean_but_for_what_is_asked() {
        for house in House::each() {
            let mut cmd = house.container(
                &[
                    "-e",
                    "A=1=2",
                    "-eB=two\nlines",
                    "--env=C= ",
                    "-e",
                    "TAKEN",
                    "-e",
                    "MISSING",
                    "-e",
                    "A=3",
                ],
                &["env", "-0"],
            );
            let out =
                run(cmd.env("TAKEN", "over").env("OTHER", "x").env("TERM", "dumb")).ok().stdout;
            let mut vars: Vec<String> = out
                .split(|b| *b == 0)
                .map(|var| String::from_utf8_lossy(var).into_owned())
                .filter(|var| !var.is_empty() && !var.starts_with("PATH="))
                .collect();
            vars.sort();
            assert_eq!(
                vars,
                ["A=3", "B=two\nlines", "C= ", "HOME=/root", "TAKEN=over", "TERM=dumb"]
            );
        }
    }

    #[test]
    fn users_and_groups_are_those_of_the_image() {
        for house in [Who::Root, Who::Made].map(House::of) {
            let passwd = "root:x:0:0::/root:/bin/sh\nann:x:700:701::/home/ann:/bin/sh\n";
            fs::write(house.image().join("etc/passwd"), passwd).expect("passwd");
            fs::write(house.image().join("etc/group"), "root:x:0:\nann:x:701:\nstaff:x:50:ann\n")
                .expect("group");
            let script = "echo $(id -u) $(id -g) $(id -G) $HOME";
            for (user, expected) in [
                ("ann", "700 701 701 50 /home/ann\n"),
                ("ann:staff", "700 50 50 /home/ann\n"),
                ("700", "700 701 701 50 /home/ann\n"),
                ("1234:77", "1234 77 77 /\n"),
                ("root", "0 0 0 /root\n"),
            ] {
                let mut cmd = house.container(&["-u", user, "-w", "/tmp"], &["sh", "-c", script]);
                if house.who == Who::Root {
                    before_exec(&mut cmd, || {
                        // SAFETY: one number, which outlives the call.
                        check(unsafe { libc::setgroups(1, &4242) }).map(drop)
                    });
                }
                assert_eq!(run(&mut cmd).ok().out(), expected, "{user}");
            }
            house.sh(&["-u", "nobody.knows"], "echo it runs").exits(125).says("nobody.knows");
            assert_eq!(house.sh(&["-w", "/etc"], "pwd").ok().out(), "/etc\n");
        }
    }

    #[test]
    fn a_user_logs_to_the_standard_streams_by_their_names() {
        for house in House::each() {
            let script = "echo out >/dev/stdout && echo err >>/proc/self/fd/2";
            for options in [&["-u", "1234:77"][..], &["-u", "1234:77", "--no-init"], &[]] {
                // The pipe is that user's, who runs td-run.
                let mut shell = sh("{ \"$@\" || echo status $?; } 2>&1 | cat");
                let container = house.container(options, &["sh", "-c", script]);
                shell.arg("sh").args(words(&container)).current_dir(house.dir.path());
                house.who.runs(&mut shell);
                assert_eq!(run(&mut shell).ok().out(), "out\nerr\n", "{:?}", house.who);
            }
        }
    }

    #[test]
    fn a_user_with_one_id_is_who_u_says_by_number() {
        let house = House::of(Who::Nobody);
        let script = "echo $(id -u) $(id -g) $HOME; echo x >/file; stat -c '%u %g' /file";
        for (user, expected) in [
            ("1234:77", "1234 77 /\n1234 77\n"),
            ("1234", "1234 0 /\n1234 0\n"),
            ("0", "0 0 /root\n0 0\n"),
        ] {
            assert_eq!(house.sh(&["-u", user], script).ok().out(), expected, "{user}");
        }
        house.sh(&["-u", "root"], "echo it runs").exits(125).says("-u root: must be a number");
        house.nothing_is_left();
    }

    #[test]
    fn a_user_with_subordinate_ids_gives_files_away_and_becomes_others() {
        let house = House::of(Who::Made);
        let script = "echo x >/file; chown 65535:7 /file; stat -c '%u %g' /file; mkdir -m 0 /closed; \
                      chown 7:7 /closed; su -s /bin/sh app -c 'id -u; id -G'";
        fs::write(
            house.image().join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\napp:x:7:8::/:/bin/sh\n",
        )
        .expect("passwd");
        assert_eq!(house.sh(&[], script).ok().out(), "65535 7\n7\n8\n");
        house.nothing_is_left();
        // What was kept belongs to others than the user, and is used again.
        house.sh(&["--keep"], "echo kept >/file; chown 7:7 /file; chmod 600 /file").ok();
        assert_eq!(house.sh(&["--keep"], "cat /file; stat -c %u /file").ok().out(), "kept\n7\n");
    }

    /// A limit is refused to a user, with the way out; what that takes: his ids, and a cgroup for him.
    #[track_caller]
    fn refused_until_delegated(house: &House) -> (String, String) {
        let refused = house.sh(&["--pids", "5"], "echo it runs").exits(125);
        let id = house.who.id();
        let way_out = format!("as root: td-cgroup --delegate {id}:{id} /td/u-{id}");
        assert!(refused.err().contains(&way_out), "{refused}");
        house.nothing_is_left();
        (format!("{id}:{id}"), format!("/td/u-{}", house.name))
    }

    mod v1 {
        use super::*;

        #[test]
        fn a_user_has_a_limit_where_root_has_made_a_cgroup_over_to_him() {
            for house in House::each_user() {
                let (ids, parent) = refused_until_delegated(&house);
                run(&mut td("td-cgroup", ["--delegate", &ids, &parent])).ok();
                let options = ["--cgroup-parent", &parent, "--pids", "5", "-m", "64M"];
                let held = house.hold(&options, HOLD);
                let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", held.processes()[2]));
                let cgroup = cgroup.expect("its cgroups");
                let own = house.below(&parent);
                assert_eq!(cgroups::read(&own, "pids.max"), "5");
                assert_eq!(cgroups::read(&own, "memory.limit_in_bytes"), "67108864");
                for controller in [":pids:", ":memory:"] {
                    let line = cgroup.lines().find(|line| line.contains(controller));
                    assert!(line.is_some_and(|line| line.contains(&own)), "{controller} {cgroup}");
                }
                held.go_on().ok();
                house.nothing_is_left();
                run(&mut td("td-cgroup", ["--remove", &parent])).ok();
            }
        }
    }

    mod v2 {
        use super::*;

        // A process may leave a cgroup only if it may write to the one above both: root starts it inside.
        #[test]
        fn a_user_has_a_limit_where_he_was_started_in_a_cgroup_made_over_to_him() {
            for house in House::each_user() {
                let (ids, parent) = refused_until_delegated(&house);
                let options = ["--cgroup-parent", &parent, "--pids", "5", "-m", "64M"];
                let of_user = house.container(&options, &["sh", "-c", HOLD]);
                let id = house.who.id();
                let mut cmd = td("td-cgroup", ["--delegate", &ids, "--leaf", "shell", &parent]);
                cmd.arg("setpriv").args([format!("--reuid={id}"), format!("--regid={id}")]);
                cmd.arg("--clear-groups").arg(of_user.get_program()).args(of_user.get_args());
                let held = hold(cmd.current_dir(house.dir.path()));
                let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", held.processes()[2]));
                let own = house.below(&parent);
                assert_eq!(cgroup.expect("its cgroup"), format!("0::{own}/leaf\n"));
                assert_eq!(cgroups::read(&own, "pids.max"), "5");
                assert_eq!(cgroups::read(&own, "memory.max"), "67108864");
                held.go_on().ok();
                house.nothing_is_left();
                run(&mut td("td-cgroup", ["--remove", &parent])).ok();
            }
        }
    }

    #[test]
    fn a_missing_image_prints_the_line_that_makes_it() {
        for house in House::each() {
            let state = house.dir.dir("st ate's");
            let mut cmd = td_run(["--state"]);
            let cmd = cmd.arg(&state).arg(&house.name).args(["echo", "it runs"]);
            let output = run(cmd).exits(125).says("images/default does not exist");
            let err = output.err();
            let line = err
                .lines()
                .find_map(|line| line.strip_prefix("td-run: create it: "))
                .expect("the line");
            run(&mut sh(line)).ok();
            assert_eq!(run(cmd).ok().out(), "it runs\n");
            house.nothing_is_left();
        }
    }

    #[test]
    fn a_state_is_named_from_the_working_directory_also_with_a_dash() {
        for house in House::each() {
            fs::rename(house.state(), house.dir.join("--state")).expect("rename");
            for state in ["--state", "./--state"] {
                let mut cmd = house.run(["--state", state, &house.name, "echo", "it runs"]);
                assert_eq!(run(cmd.current_dir(house.dir.path())).ok().out(), "it runs\n");
            }
            assert_eq!(
                fs::read_dir(house.dir.join("--state/containers")).expect("list").count(),
                0
            );
        }
    }

    #[test]
    fn a_state_may_have_any_bytes_in_its_path() {
        for house in House::each() {
            let odd = [&b"a:b,c\\d e\n'\xff"[..], b"a:b,c\\d e\n'"];
            let odd = odd.into_iter().find(|name| shell_takes(name)).expect("a name");
            let odd = house.dir.join(OsStr::from_bytes(odd));
            fs::rename(house.state(), &odd).expect("rename");
            let mut cmd = house.run(["--state"]);
            cmd.arg(&odd).arg(&house.name).args(["sh", "-c", "echo x >/x; cat /x"]);
            assert_eq!(run(&mut cmd).ok().out(), "x\n");
            assert_eq!(fs::read_dir(odd.join("containers")).expect("list").count(), 0);
        }
    }

    #[test]
    fn a_directory_on_a_standard_stream_is_refused() {
        for house in House::each() {
            let mut cmd = house.container(&[], &["echo", "it runs"]);
            cmd.stdin(fs::File::open("/").expect("a directory")).stdout(Stdio::piped());
            let output = start_with(cmd.stderr(Stdio::piped())).wait().exits(125);
            assert_eq!(output.out(), "");
            output.says("descriptor 0 is a directory");
            house.nothing_is_left();
        }
    }

    #[test]
    fn a_block_device_on_a_standard_stream_is_refused() {
        let house = House::new();
        let device = fs::File::open(block_device(&house.dir)).expect("it can be opened");
        let mut cmd = house.container(&[], &["echo", "it runs"]);
        cmd.stdin(device).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = start_with(&mut cmd).wait().exits(125);
        assert_eq!(output.out(), "");
        output
            .says("descriptor 0 is a block device")
            .says("pass its content through a pipe: cat DEV |");
        house.nothing_is_left();
    }

    /// Else it becomes that of a session inside, which could type there.
    #[test]
    fn a_terminal_that_controls_no_session_is_refused_where_no_policy_refuses_to_type() {
        let unconfined = ["--security-opt", "seccomp=unconfined"];
        let typing = fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti");
        let can_type = typing.map_or(true, |value| value == "1\n");
        for house in House::each() {
            let on = |terminal: &Pty, cmd: &mut Command| {
                cmd.stdin(terminal.open()).stdout(terminal.open()).stderr(Stdio::piped());
                start_with(cmd).wait()
            };
            let terminal = Pty::new();
            let output = on(&terminal, &mut house.container(&unconfined, &["true"]));
            if can_type {
                let what = "td-exec: descriptor 0 is a terminal that perhaps controls no session";
                output.exits(125).says(what).says("setsid --ctty");
            } else {
                output.exits(0);
            }
            on(&terminal, &mut house.container(&[], &["true"])).exits(0);
            // One that controls the session of td-run is the usual one.
            let line = house.container(&unconfined, &["true"]);
            let mut cmd = Command::new("setsid");
            house.who.runs(&mut cmd);
            cmd.args(["--ctty", "--wait"]).args(words(&line)).current_dir(house.dir.path());
            on(&Pty::new(), &mut cmd).exits(0);
            house.nothing_is_left();
        }
    }

    #[test]
    fn variables_of_the_caller_change_nothing() {
        for house in House::each() {
            let mut cmd = house.container(
                &[],
                &[
                    "sh",
                    "-c",
                    "hostname; id -u; pwd; mount | grep -c ' / '; echo ready; read x || :",
                ],
            );
            for name in own_variables() {
                cmd.env(name, "1");
            }
            cmd.envs([("IFS", "/"), ("CDPATH", "/"), ("TD_BIN", "/"), ("TD_TRACE", "1")]);
            let held = hold(&mut cmd);
            // Of root's a cgroup in every hierarchy; of a user's in none, for none is the user's own.
            let cgroups = if house.who == Who::Root { cgroups::points().len() } else { 0 };
            assert_eq!(house.cgroups().len(), cgroups, "{:?}", house.cgroups());
            let out = held.go_on().ok().out();
            assert_eq!(out, format!("{}\n0\n/\n1\nready\n", house.name));
            house.nothing_is_left();
        }
    }

    #[test]
    fn trace_shows_every_step_and_dry_run_makes_none() {
        for house in House::each() {
            // (The clone3 of td-unshare may be printed after what its child does.)
            let order = [
                "td-unshare",
                "sethostname(",
                "td-overlay",
                "fsopen(\"overlay\"",
                "td-mount",
                "move_mount(",
                "td-pivot",
                "pivot_root(",
                "td-exec",
                "capset(",
                "\"it runs\"",
            ];
            let in_order = |text: &str| {
                let mut rest = text;
                for word in order {
                    rest = rest
                        .split_once(word)
                        .unwrap_or_else(|| panic!("{word} is missing in:\n{text}"))
                        .1;
                }
            };
            let trace = run(&mut house.container(&["--trace"], &["echo", "it runs"])).exits(0);
            assert_eq!(trace.out(), "it runs\n");
            in_order(&trace.err());
            assert!(trace.err().contains("AT_REMOVEDIR"), "and the cleaning up");
            house.nothing_is_left();

            let before = tree(&house.state());
            let dry = run(&mut house.container(&["--dry-run", "-m", "64M"], &["echo", "it runs"]))
                .exits(0);
            assert_eq!(dry.err(), "");
            in_order(&dry.out());
            assert_eq!(tree(&house.state()), before);
            assert_eq!(house.cgroups(), [] as [PathBuf; 0]);
        }
    }

    #[test]
    fn what_a_shell_might_split_or_expand_arrives_whole() {
        for house in House::each() {
            let file = house.dir.file("file", "file\n");
            let volume = format!("{}:/a dir/file:ro", text(&file));
            let variable = "A=x\ny 'z\"\\";
            let options = ["-e", variable, "-v", &volume, "--tmpfs", "/x *:mode=700", "-w", "/x *"];
            let script = "printf '[%s]' \"$@\" \"$A\"; cat '/a dir/file'; pwd";
            // The first argument behind a script is its $0.
            let words = ["sh", "-c", script, "a b", "", "two\nlines", "*", "--keep"];
            let out = run(&mut house.container(&options, &words)).ok().out();
            assert_eq!(out, "[][two\nlines][*][--keep][x\ny 'z\"\\]file\n/x *\n");
            house.nothing_is_left();
        }
    }

    #[test]
    fn the_demo_works_for_an_ordinary_user() {
        for house in House::each_user() {
            let home = house.dir.dir("home");
            house.give(&home);
            let mut demo = script(text(&house.dir.join("td/scripts/demo")), [""; 0]);
            // What it builds is there already; the toolchain may be where only root comes.
            demo.env_clear().env("HOME", home).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
            demo.current_dir("/");
            house.who.runs(&mut demo);
            let output = run(&mut demo).exits(0);
            for text in ["(exit status 7)", " root     ps\n", "hello1\nlo\n", "image is unchanged"]
            {
                assert!(output.out().contains(text), "{text}: {output}");
            }
        }
    }
}
