//! td-exec: the state in which PROG finds itself.

mod common;

use std::process::Command;

use common::pty::Pty;
use common::*;

/// What PROG, a shell script, prints under td-exec with these options (words without blanks).
fn prog(options: &str, script: &str) -> Command {
    let mut cmd = td("td-exec", options.split_whitespace());
    cmd.args(["sh", "-c", script]);
    cmd
}

#[track_caller]
fn out(options: &str, script: &str) -> String {
    run(&mut prog(options, script)).ok().out()
}

#[track_caller]
fn refused(options: &str, why: &str) {
    run(&mut prog(options, "echo PROG ran; exit 3")).exits(125).says(why);
}

#[test]
fn the_working_directory_is_the_one_that_is_named() {
    assert_eq!(out("--chdir /usr/bin", "pwd"), "/usr/bin\n");
    assert_eq!(out("-C /", "pwd"), "/\n");
    let mut relative = td("td-exec", ["-C", "/bin", "./sh", "-c", "echo here"]);
    assert_eq!(run(&mut relative).ok().out(), "here\n");
    refused("-C /nowhere/at/all", "/nowhere does not exist in this root");
    refused("-C /etc/passwd", "/etc/passwd is not a directory");
}

#[test]
fn pwd_is_the_working_directory_that_was_named_and_never_another() {
    let pwd = |options: &str| {
        let mut cmd = td("td-exec", options.split_whitespace());
        cmd.args(["/usr/bin/env"]).env_clear().env("PWD", "/stale").current_dir("/usr");
        run(&mut cmd).ok().out()
    };
    assert_eq!(pwd(""), "PWD=/stale\n");
    assert_eq!(pwd("--chdir /usr/bin"), "PWD=/usr/bin\n");
    assert_eq!(pwd("-i -C /usr/../bin"), "PWD=/usr/../bin\n");
    assert_eq!(pwd("-C bin"), "");
    assert_eq!(pwd("-C / --env PWD=/x"), "PWD=/x\n");
    assert_eq!(pwd("--unset PWD -C /"), "");
}

#[test]
fn the_environment_is_changed_in_the_order_of_the_options() {
    let env = |options: &str| {
        let mut cmd = td("td-exec", options.split_whitespace());
        cmd.arg("/usr/bin/env").env_clear().env("A", "1").env("B", "2").env("AB", "3");
        let mut lines: Vec<String> = run(&mut cmd).ok().out().lines().map(String::from).collect();
        lines.sort();
        lines.join(" ")
    };
    assert_eq!(env(""), "A=1 AB=3 B=2");
    assert_eq!(env("--unset A"), "AB=3 B=2");
    assert_eq!(env("--env A=x --env A=y=z"), "A=y=z AB=3 B=2");
    assert_eq!(env("--env A=x --unset A"), "AB=3 B=2");
    assert_eq!(env("--unset A --env A=x"), "A=x AB=3 B=2");
    assert_eq!(env("-i"), "");
    assert_eq!(env("--env C=4 -i"), "C=4");
    assert_eq!(env("-i --env A --env NOT_SET --env C="), "A=1 C=");
    assert_eq!(env("--env A=x --env A"), "A=1 AB=3 B=2");
    refused("--env =x", "--env needs NAME or NAME=VALUE");
}

#[test]
fn a_bare_prog_is_looked_up_in_the_path_that_was_set() {
    let dir = TempDir::new();
    dir.program("hello", "#!/bin/sh\necho hello\n");
    let set = format!("PATH={}", dir.path().display());
    let mut cmd = td("td-exec", ["--env", &set, "hello"]);
    assert_eq!(run(&mut cmd).ok().out(), "hello\n");
    let mut cmd = td("td-exec", ["-i", "sh", "-c", "echo by default"]);
    assert_eq!(run(cmd.env("PATH", "/nowhere")).ok().out(), "by default\n");
    run(&mut td("td-exec", ["--env", &set, ""])).exits(127);
}

/// That name is a program's: a tool is told by its own which it is.
#[test]
fn a_name_that_is_given_makes_no_other_tool_of_a_tool() {
    let dir = TempDir::new();
    let lock = dir.join("lock");
    for name in ["x", "td-exec"] {
        let line = ["--argv0", name, "td-lock", text(&lock), "echo", "locked"];
        assert_eq!(run(&mut td("td-exec", line)).ok().out(), "locked\n");
    }
}

#[test]
fn prog_sees_the_name_that_is_given() {
    let mut cmd = td("td-exec", ["--argv0", "-login", "sh", "-c", "echo $0"]);
    assert_eq!(run(&mut cmd).ok().out(), "-login\n");
}

#[test]
fn limits_are_set() {
    let limits = "ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Ht";
    let options = "--rlimit nofile=64:128 --rlimit core=0 --rlimit CPU=7:1k";
    assert_eq!(out(options, limits), "64\n128\n0\n1024\n");
    assert_eq!(out("--rlimit core=unlimited", "ulimit -Sc"), "unlimited\n");
    for wrong in ["nofile", "nofile=", "nofile=1:", "files=1", "nofile=2:1", "nofile=-1", "=1"] {
        refused(&format!("--rlimit {wrong}"), "NAME=SOFT[:HARD]");
    }
}

#[test]
fn descriptors_above_2_are_closed_unless_kept() {
    for (options, expected) in [("", "0\n1\n2\n"), ("--keep-fd 77", "0\n1\n2\n77\n")] {
        let mut cmd = prog(options, "ls /proc/$$/fd; true");
        for fd in [77, 78] {
            give_fd(&mut cmd, fd, std::fs::File::open("/").expect("a directory"));
        }
        assert_eq!(run(&mut cmd).ok().out(), expected);
    }
    refused("--keep-fd 77", "descriptor 77 is not open");
}

#[test]
fn no_new_privs_is_for_good() {
    let script = "grep ^NoNewPrivs /proc/self/status";
    assert_eq!(out("--no-new-privs", script), "NoNewPrivs:\t1\n");
    // Of the process that stays, too.
    let script = "grep ^NoNewPrivs /proc/self/status /proc/$PPID/status | cut -d: -f2-";
    assert_eq!(out("--no-new-privs td-init", script), "NoNewPrivs:\t1\n".repeat(2));
}

#[test]
fn a_new_session_has_no_terminal_and_its_leader_is_prog() {
    let script = "cut -d' ' -f5,6,7 /proc/$$/stat; echo $$";
    let mut shell = sh("exec \"$0\" td-exec --setsid sh -c \"$1\"");
    let text = run(shell.arg(bin("td-init")).arg(script)).ok().out();
    let (stat, pid) = text.trim().split_once('\n').expect("two lines");
    assert_eq!(stat, format!("{pid} {pid} 0"));
}

#[test]
fn a_process_group_leader_cannot_begin_a_session() {
    let mut cmd = prog("--setsid", "echo PROG ran");
    before_exec(&mut cmd, || {
        // SAFETY: numbers.
        check(unsafe { libc::setpgid(0, 0) }).map(drop)
    });
    let output = run(&mut cmd).exits(125).says("setsid(): EPERM");
    let output = output
        .says("this process is the leader of a process group")
        .says("put td-init before td-exec");
    assert_eq!(output.out(), "");
}

// ---- a terminal ----

#[test]
fn a_terminal_controls_the_session_of_prog_and_is_its_standard_streams() {
    for first in ["", "td-init td-exec "] {
        let mut terminal = Pty::new();
        let options = format!("{first}--ctty={}", terminal.path);
        let running = start(&mut prog(&options, SESSION));
        let expected = format!("1 1 1\r\n{}", format!("{}\r\n", terminal.path).repeat(3));
        assert_eq!(terminal.shows(&expected), expected);
        assert_eq!(running.wait().ok().out(), "");
    }
}

#[test]
fn a_shell_on_a_terminal_has_job_control() {
    for line in ["td-exec --ctty={}", "td-init td-exec --ctty={}", "td-exec --ctty={} td-init"] {
        let mut terminal = Pty::new();
        let line = line.replace("{}", &terminal.path);
        let mut words = line.split(' ');
        let mut cmd = td(words.next().expect("a tool"), words);
        let running = start(cmd.args(["sh", "-i"]).env("PS1", "prompt> "));
        terminal.has_job_control("prompt> ");
        running.wait().exits(9);
    }
}

#[test]
fn what_is_no_terminal_is_named() {
    for (file, call, why) in [
        ("/dev/null", "ioctl(3, TIOCSCTTY, 0): ENOTTY", "/dev/null is not a terminal"),
        ("/etc/passwd", "ioctl(3, TIOCSCTTY, 0): ENOTTY", "/etc/passwd is not a terminal"),
        ("/etc", "EISDIR", "/etc is not a terminal"),
        ("/dev/nowhere", "ENOENT", "/dev/nowhere does not exist"),
        ("/dev/tty", "ENXIO", "the device of /dev/tty does not exist"),
    ] {
        let output = run(&mut prog(&format!("--ctty={file}"), "echo PROG ran")).exits(125);
        assert_eq!(output.says(call).says(why).out(), "");
    }
}

#[test]
fn a_terminal_of_another_session_is_named_with_the_process_that_leads_it() {
    let mut terminal = Pty::new();
    let ctty = format!("--ctty={}", terminal.path);
    let owner = start(&mut prog(&ctty, "echo pid $$ ready; exec sleep 1000"));
    let text = terminal.shows(" ready");
    let pid = text.trim_start_matches("pid ").trim_end_matches(" ready");
    let why = format!("{} controls the session of process {pid}\n", terminal.path);
    refused(&ctty, &why);
    drop(owner);
}

mod root {
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use super::common::strace::strace;
    use super::*;

    /// The sets of capabilities in a `status`: inheritable, permitted, effective, bounding, ambient.
    fn sets(status: &str) -> [u64; 5] {
        ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|name| {
            let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(":\t"));
            u64::from_str_radix(line.expect(name), 16).expect("a number")
        })
    }

    fn caps(options: &str) -> [u64; 5] {
        must_be_root();
        sets(&out(options, "cat /proc/self/status"))
    }

    const KILL: u64 = 1 << 5;
    const CHOWN: u64 = 1;

    // ---- capabilities ----

    #[test]
    fn the_kept_capabilities_are_all_that_is_left() {
        let all = caps("")[3];
        assert_eq!(caps("--cap-keep none"), [0; 5]);
        assert_eq!(
            caps("--cap-keep chown,CAP_KILL"),
            [0, CHOWN | KILL, CHOWN | KILL, CHOWN | KILL, 0]
        );
        assert_eq!(caps("--cap-keep all"), [0, all, all, all, 0]);
        refused("--cap-keep chown,fly", "--cap-keep fly: no such capability");
    }

    #[test]
    fn a_capability_that_is_not_held_is_not_kept() {
        must_be_root();
        let inner =
            format!("{} --cap-keep chown,kill cat /proc/self/status", bin("td-exec").display());
        let text = out("--cap-keep kill,setpcap", &inner);
        assert_eq!(sets(&text), [0, KILL, KILL, KILL, 0]);
    }

    #[test]
    fn inheritable_and_ambient_capabilities_are_taken_away() {
        must_be_root();
        let mut cmd = Command::new("setpriv");
        cmd.args(["--inh-caps", "+kill,+chown", "--ambient-caps", "+kill"]).arg(bin("td-exec"));
        let text = run(cmd.args(["cat", "/proc/self/status"])).ok().out();
        let [inheritable, _, _, _, ambient] = sets(&text);
        assert_eq!((inheritable, ambient), (0, 0));
    }

    #[test]
    fn a_user_who_is_not_root_has_capabilities_only_if_ambient_says_so() {
        let user = "--user 4242 --cap-keep kill,chown";
        let both = KILL | CHOWN;
        assert_eq!(caps(user), [0, 0, 0, both, 0]);
        assert_eq!(caps(&format!("{user} --ambient")), [both; 5]);
        assert_eq!(caps("--user 0 --cap-keep kill --ambient"), [0, KILL, KILL, KILL, 0]);
        assert_eq!(caps("--user 4242")[..3], [0, 0, 0]);
        refused("--user 4242 --ambient", "--ambient needs --cap-keep");
    }

    #[test]
    fn without_cap_setpcap_the_bounding_set_stays_and_that_is_said() {
        must_be_root();
        let inner = format!("{} --cap-keep none echo PROG ran", bin("td-exec").display());
        let output = run(&mut prog("--cap-keep kill", &inner)).exits(125);
        let output = output.says("PR_CAPBSET_DROP, CAP_CHOWN): EPERM");
        assert_eq!(output.says("this process has no CAP_SETPCAP").out(), "");
    }

    #[test]
    fn a_capability_that_is_no_longer_permitted_is_named() {
        must_be_root();
        // The kernel's answer to capget(2) is made to lie: a set that is not held is asked for.
        let cmd = td("td-exec", ["echo", "PROG ran"]);
        let mut limited = Command::new(bin("td-exec"));
        limited.args(["--cap-keep", "kill,setpcap", "strace", "-o", "/dev/null", "-e"]);
        limited.arg(
            "inject=capget:poke_exit=@arg2=ffffffffffffffff00000000ffffffffffffffff00000000:when=1",
        );
        limited.arg(cmd.get_program()).args(cmd.get_args());
        let output = run(&mut limited).exits(125).says("capset(").says("EPERM");
        assert_eq!(output.says("not permitted here: CAP_CHOWN, ").out(), "");
    }

    #[test]
    fn an_ambient_capability_that_is_not_inheritable_is_named() {
        must_be_root();
        let cmd = prog("--user 4242 --cap-keep kill --ambient", "echo PROG ran");
        let (output, _) = strace(&["-e", "inject=capset:retval=0"], &cmd);
        let output = output.exits(125).says("PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0): EPERM");
        assert_eq!(output.says("not both permitted and inheritable here: CAP_KILL").out(), "");
    }

    // ---- users ----

    #[test]
    fn a_user_has_the_ids_and_groups_of_the_databases_of_this_root() {
        private_mounts();
        let dir = TempDir::new();
        let passwd = "root:x:0:0::/root:/bin/sh\napp:x:4001:4002::/srv/app:/bin/sh\nodd:x:y:1:::\n";
        let group = "root:x:0:\napp:x:4002:\nmore:x:4003:root,app\n";
        mount(["--bind".as_ref(), dir.file("passwd", passwd).as_os_str(), "/etc/passwd".as_ref()]);
        mount(["--bind".as_ref(), dir.file("group", group).as_os_str(), "/etc/group".as_ref()]);
        let ids = "grep -E '^(Uid|Gid|Groups)' /proc/self/status | tr -s '\\t \\n' ' '; echo $HOME";
        for (options, expected) in [
            ("--user app", "Uid: 4001 4001 4001 4001 Gid: 4002 4002 4002 4002 Groups: 4002 4003 "),
            ("--user 4001", "Uid: 4001 4001 4001 4001 Gid: 4002 4002 4002 4002 Groups: 4002 4003 "),
            ("--user app:more", "Uid: 4001 4001 4001 4001 Gid: 4003 4003 4003 4003 Groups: 4003 "),
            ("--user 7:8", "Uid: 7 7 7 7 Gid: 8 8 8 8 Groups: 8 "),
            ("--user 7", "Uid: 7 7 7 7 Gid: 0 0 0 0 Groups: 0 "),
            (
                "--user app --groups more,9",
                "Uid: 4001 4001 4001 4001 Gid: 4002 4002 4002 4002 Groups: 9 4003 ",
            ),
            ("--groups 5,6", "Uid: 0 0 0 0 Gid: 0 0 0 0 Groups: 5 6 "),
        ] {
            assert_eq!(out(&format!("-i {options}"), ids), format!("{expected}\n"), "{options}");
        }
        let none = run(td("td-exec", ["--groups", "", "sh", "-c"]).arg(ids)).ok().out();
        assert!(none.contains("Groups: "), "{none}");
        assert!(!none.contains("Groups: 0"), "{none}");
        assert_eq!(out("-i --user app --home", "echo $HOME"), "/srv/app\n");
        assert_eq!(out("-i --user 7 --home", "echo $HOME"), "/\n");
        assert_eq!(out("-i --home", "echo $HOME"), "/root\n");
        assert_eq!(out("--env HOME=/x --home", "echo $HOME"), "/x\n");
        refused("--user nobody-here", "the user nobody-here does not exist in /etc/passwd");
        refused("--user app:none", "the group none does not exist in /etc/group");
        refused("--groups none", "the group none does not exist in /etc/group");
        refused("--user odd", "the line of odd in /etc/passwd has no valid ids");
    }

    /// Where PROG runs as this user, it can open its standard streams again, which are pipes of another owner.
    const AGAIN: &str = "cat /dev/stdin >/dev/stdout && echo err >>/dev/stderr && \
        stat -L -c %u /dev/stdin /dev/stdout /dev/stderr";

    /// Run AGAIN under a command, with text from a pipe.
    #[track_caller]
    fn opens_again(cmd: &Command, uid: u32) {
        let mut shell = sh("echo in | \"$@\"");
        shell.arg("sh").args(words(cmd)).args(["sh", "-c", AGAIN]);
        let output = run(&mut shell).exits(0);
        assert_eq!(output.out(), format!("in\n{}", format!("{uid}\n").repeat(3)), "{output}");
        assert_eq!(output.err(), "err\n");
    }

    #[test]
    fn pipes_on_the_standard_streams_are_given_to_the_user_who_can_open_them_again() {
        must_be_root();
        for options in [
            "--user 4242",
            "--user 4242:7 --setsid --cap-keep none --no-new-privs td-init",
            "--user 4242 --seccomp default --ambient --cap-keep kill",
        ] {
            opens_again(&td("td-exec", options.split(' ')), 4242);
        }
        let line = "-r --map-users 1:700000:9 --map-groups 1:700000:9 td-exec --user 5:6";
        opens_again(&td("td-unshare", line.split(' ')), 5);
    }

    #[test]
    fn what_else_is_on_a_standard_stream_stays_its_owners() {
        must_be_root();
        let dir = TempDir::new();
        chmod(dir.path(), 0o755);
        run(Command::new("mkfifo").arg(dir.join("fifo"))).ok();
        let mut options = fs::File::options();
        let options = options.read(true).write(true);
        let terminal = Pty::new();
        let (socket, _other) = std::os::unix::net::UnixStream::pair().expect("sockets");
        let files = [
            options.open(dir.join("fifo")).expect("a FIFO"),
            options.open(dir.file("file", "")).expect("a file"),
            options.open("/dev/null").expect("a device"),
            terminal.open(),
            std::os::fd::OwnedFd::from(socket).into(),
        ];
        for file in &files {
            let before = file.metadata().expect("an owner");
            let mut cmd = td("td-exec", ["--user", "4242", "true"]);
            for fd in 0..3 {
                give_fd(&mut cmd, fd, file.try_clone().expect("a copy"));
            }
            let status = cmd.status().expect("td-exec");
            assert!(status.success(), "{before:?}");
            assert_eq!(file.metadata().expect("an owner").uid(), before.uid(), "{before:?}");
        }
        // Nor are pipes given to the one who has them already, or who is the caller.
        let script = "chown 12345 /dev/stdout; \"$@\"; stat -L -c %u /dev/stdout";
        let mut cmd = sh(script);
        cmd.arg("sh").arg(bin("td-exec")).args(["--user", "0", "true"]);
        assert_eq!(run(&mut cmd).ok().out(), "12345\n");
    }

    #[test]
    fn a_pipe_that_cannot_be_given_away_changes_nothing_else() {
        must_be_root();
        // In a user namespace that does not map its owner.
        let maps = "-r --map-users 1:700000:9 --map-groups 1:700000:9";
        let mut cmd = sh("chown 12345 /dev/stdout /dev/stderr; exec \"$@\" echo PROG ran");
        cmd.arg("sh").arg(bin("td-unshare")).args(maps.split(' '));
        run(cmd.arg(bin("td-exec")).args(["--user", "5:6", "--trace"])).exits(0).says("EPERM");
        // And without CAP_CHOWN.
        let inner = format!("{} --user 5:6 echo PROG ran", bin("td-exec").display());
        assert_eq!(out("--cap-keep setuid,setgid", &inner), "PROG ran\n");
    }

    #[test]
    fn the_working_directory_need_be_open_to_one_of_both_users() {
        must_be_root();
        let dir = TempDir::new();
        chmod(dir.path(), 0o755);
        let make = |name: &str, owner: &str| {
            run(Command::new("install").args(["-d", "-m", "700", "-o", owner]).arg(dir.join(name)))
                .ok();
            dir.dir(&format!("{name}/in"));
            text(&dir.join(name)).to_string()
        };
        let (roots, users, others) = (make("roots", "0"), make("users", "7"), make("others", "8"));
        // Root that has no power over the files of others, as where NFS squashes it.
        let enter = |options: &str, path: &str| {
            let td_exec = bin("td-exec");
            let inner = format!("{} {options} --chdir {path} pwd", td_exec.display());
            run(&mut prog("--cap-keep setuid,setgid", &inner))
        };
        for options in
            ["--user 7", "--user 7 --setsid", "--user 7 --seccomp default --no-new-privs"]
        {
            for path in [&roots, &users, &format!("{users}/in")] {
                assert_eq!(enter(options, path).ok().out(), format!("{path}\n"), "{options}");
            }
            let output = enter(options, &others).exits(125);
            let output = output.says(&format!("chdir(\"{others}\"): EACCES"));
            assert_eq!(
                output
                    .says(&format!("uid 7 may not search {others}, which belongs to uid 8"))
                    .out(),
                ""
            );
            enter(options, &format!("{others}/in"))
                .exits(125)
                .says(&format!("uid 7 may not search {others}, which belongs to uid 8"));
        }
        enter("", &users).exits(125).says(&format!("uid 0 may not search {users}, which"));
        enter("--user 7", "/nowhere").exits(125).says("/nowhere does not exist in this root");
    }

    /// CVE-2016-3697.
    #[test]
    fn a_number_is_never_looked_up_as_a_name() {
        private_mounts();
        let dir = TempDir::new();
        let odd =
            ["0x10", "+1000", "-1000", "-1", "01000", "00", "4294967295", "4294967296", "7up"];
        let line = |name: &str| format!("{name}:x:0:0:::\n");
        let hostile = ["1000", "1001"].into_iter().chain(odd).map(line).collect::<String>();
        for name in ["passwd", "group"] {
            let file = dir.file(name, &hostile);
            mount([Path::new("--bind"), &file, &Path::new("/etc").join(name)]);
        }
        let ids = "grep -E '^(Uid|Gid|Groups)' /proc/self/status | tr -s '\\t \\n' ' '";
        for (options, expected) in [
            ("--user 1000", "Uid: 1000 1000 1000 1000 Gid: 0 0 0 0 Groups: 0 "),
            ("--user 1000:1001", "Uid: 1000 1000 1000 1000 Gid: 1001 1001 1001 1001 Groups: 1001 "),
            ("--groups 1000,1001", "Uid: 0 0 0 0 Gid: 0 0 0 0 Groups: 1000 1001 "),
        ] {
            assert_eq!(out(options, ids), expected, "{options}");
        }
        for word in odd {
            let says = format!("{word} is neither an id nor a name");
            for option in
                [format!("--user={word}"), format!("--user=1:{word}"), format!("--groups=1,{word}")]
            {
                refused(&option, &says);
            }
        }
    }

    #[test]
    fn in_a_user_namespace_of_one_id_the_reasons_are_named() {
        must_be_root();
        let run_in = |options: &str| {
            let mut cmd = td("td-unshare", ["-r", "td-exec"]);
            run(cmd.args(options.split_whitespace()).args(["echo", "PROG", "ran"])).exits(125)
        };
        for output in [run_in("--groups 5"), run_in("--user 0")] {
            let output = output.says("setgroups(").says("EPERM");
            output.says("setgroups(2) is denied in this user namespace");
        }
        // Where setgroups is allowed, the ids are what is missing.
        let maps = "echo 0 0 1 >/proc/$1/uid_map; echo 0 0 1 >/proc/$1/gid_map; echo done";
        for (options, call, id) in [
            ("--groups 5", "setgroups(1, [5])", 5),
            ("--user 0:7 --groups 0", "setresgid(7, 7, 7)", 7),
            ("--user 8:0 --groups 0", "setresuid(8, 8, 8)", 8),
        ] {
            let script = format!(
                "exec 3<&0; unshare -U sh -c 'echo $$; read _; exec \"$0\" {options} echo PROG ran' \
                 \"$1\""
            );
            let mut cmd = sh(&script);
            cmd.arg("sh").arg(bin("td-exec")).stdin(std::process::Stdio::piped());
            cmd.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            let mut child = cmd.spawn().expect("a shell");
            let mut stdin = child.stdin.take().expect("a pipe");
            let mut stdout = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
            let mut pid = String::new();
            std::io::BufRead::read_line(&mut stdout, &mut pid).expect("a pid");
            run(sh(maps).arg("sh").arg(pid.trim())).ok();
            std::io::Write::write_all(&mut stdin, b"go\n").expect("go");
            let output = child.wait_with_output().expect("its end");
            let err = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(125), "{err}");
            assert!(err.contains(&format!("{call}: EINVAL")), "{err}");
            let why = format!("the id {id} is not mapped in this user namespace");
            assert!(err.contains(&why), "{err}");
        }
    }

    #[test]
    fn without_the_capabilities_that_ids_need_it_says_so() {
        must_be_root();
        let td_exec = bin("td-exec");
        for (options, cap) in [
            ("--groups 5", "CAP_SETGID"),
            ("--user 7", "CAP_SETGID"),
            ("--user 0:7 --groups 0", "CAP_SETGID"),
        ] {
            let inner = format!("{} {options} echo PROG ran", td_exec.display());
            let output = run(&mut prog("--cap-keep setuid", &inner)).exits(125).says("EPERM");
            assert_eq!(output.says(&format!("this process has no {cap}")).out(), "");
        }
        let inner = format!("{} --user 7:0 --groups 0 echo PROG ran", td_exec.display());
        run(&mut prog("--cap-keep setgid", &inner))
            .exits(125)
            .says("this process has no CAP_SETUID");
    }

    #[test]
    fn a_prog_that_is_not_this_users_to_execute_is_named() {
        must_be_root();
        let dir = TempDir::new();
        chmod(dir.path(), 0o755);
        let prog = |name: &str, mode: u32| {
            let path = dir.program(name, "#!/bin/sh\n");
            chmod(&path, mode);
            run(td("td-exec", ["--user", "4242"]).arg(path)).exits(126).says("EACCES")
        };
        prog("private", 0o700).says(" may not be executed by this process");
        prog("plain", 0o644).says("/plain has no execute permission");
        run(Command::new("mkfifo").args(["-m", "755"]).arg(dir.join("fifo"))).ok();
        let fifo = run(td("td-exec", ["--user", "4242"]).arg(dir.join("fifo"))).exits(126);
        fifo.says("/fifo is not a regular file");
        chmod(dir.path(), 0o700);
        let hidden = run(td("td-exec", ["--user", "4242"]).arg(dir.join("private"))).exits(126);
        hidden.says(&format!("uid 4242 may not search {}, which", dir.path().display()));
    }

    #[test]
    fn a_hard_limit_that_is_too_low_is_named() {
        must_be_root();
        let inner = format!("{} --rlimit nofile=100:200 echo PROG ran", bin("td-exec").display());
        let output = run(&mut prog("--cap-keep none --rlimit nofile=50:99", &inner)).exits(125);
        let output = output.says("this process has no CAP_SYS_RESOURCE");
        assert_eq!(output.says("the hard limit is 99, and this would raise it").out(), "");
    }

    #[test]
    fn groups_come_before_ids_and_ids_before_capabilities() {
        must_be_root();
        let cmd = prog("--user 7:8 --cap-keep kill --ambient --no-new-privs", "true");
        let (_, processes) = strace(&[], &cmd);
        let names: Vec<String> = processes[0]
            .calls
            .iter()
            .map(|call| match call.name.as_str() {
                "prctl" => format!("prctl {}", call.args[0]),
                name => name.to_string(),
            })
            .collect();
        let at = |name: String| {
            names.iter().rposition(|n| *n == name).unwrap_or_else(|| panic!("{name}: {names:?}"))
        };
        let prctl = |option: i32| at(format!("prctl {option}"));
        let order = [
            prctl(libc::PR_CAPBSET_DROP),
            at("setgroups".into()),
            prctl(libc::PR_SET_NO_NEW_PRIVS),
            prctl(libc::PR_SET_KEEPCAPS),
            at("setresgid".into()),
            at("setresuid".into()),
            at("capset".into()),
            prctl(libc::PR_CAP_AMBIENT),
        ];
        assert!(order.is_sorted(), "{names:?}");
    }

    #[test]
    fn a_step_that_fails_never_goes_on_to_prog() {
        must_be_root();
        let options = "--setsid --session-keyring --user 7 --cap-keep kill --ambient \
            --no-new-privs --rlimit core=0 --chdir / td-init";
        let calls = [
            "close_range:when=1",
            "keyctl",
            "setgroups",
            "fchown",
            "clone3",
            "pidfd_open",
            "setsid",
            "prlimit64",
            "chdir",
            "setresgid",
            "setresuid",
            "getppid",
            "capset",
            "prctl:when=1",
            "prctl:when=2",
            "prctl:when=42",
        ];
        for call in calls {
            let (name, when) = call.split_once(':').unwrap_or((call, "when=1+"));
            let fault = format!("inject={name}:error=EACCES:{when}");
            let (output, _) = strace(&["-e", &fault], &prog(options, "echo PROG ran"));
            let output = output.exits(125);
            assert_eq!(output.out(), "", "{call}: {output}");
        }
        // The same options do work.
        assert_eq!(out(options, "echo PROG ran"), "PROG ran\n");
    }

    // ---- the session keyring ----

    #[test]
    fn the_session_keyring_is_a_new_one() {
        must_be_root();
        let ring = |options: &str| {
            let text = out(options, "grep ' keyring .*_ses' /proc/keys || true");
            text.lines()
                .map(|l| l.split(' ').next().expect("an id").to_string())
                .collect::<Vec<_>>()
        };
        let (first, second) = (ring("--session-keyring"), ring("--session-keyring"));
        assert!(!first.is_empty() && first != second, "{first:?} {second:?}");
    }

    /// A kernel without keyrings says ENOSYS, and so may a filter: then the caller's would be shared.
    #[test]
    fn a_filter_that_says_there_are_no_keyrings_is_not_believed() {
        let cmd = || td("td-exec", ["--session-keyring", "echo", "PROG", "ran"]);
        let mut filtered = cmd();
        refuse_calls(&mut filtered, &[libc::SYS_keyctl], libc::ENOSYS);
        let output = run(&mut filtered).exits(125).says("keyctl(").says("ENOSYS");
        let output = output.says("a filter refuses the call, because this kernel has keyrings");
        assert_eq!(output.out(), "");
        // As on a kernel without keyrings.
        private_mounts();
        mount(["-t", "tmpfs", "none", "/proc/sys/kernel"]);
        let mut alike = cmd();
        refuse_calls(&mut alike, &[libc::SYS_keyctl], libc::ENOSYS);
        assert_eq!(run(&mut alike).ok().out(), "PROG ran\n");
    }

    /// What an image has there is anybody's.
    #[test]
    fn whether_there_are_keyrings_is_asked_of_the_kernel_alone() {
        private_mounts();
        let dir = TempDir::new();
        dir.dir("proc/self");
        dir.dir("proc/sys/kernel");
        dir.file("proc/self/status", "Seccomp:\t0\n");
        mount([Path::new("--bind"), &dir.join("proc"), Path::new("/proc")]);
        let mut cmd = td("td-exec", ["--session-keyring", "echo", "PROG", "ran"]);
        refuse_calls(&mut cmd, &[libc::SYS_keyctl], libc::ENOSYS);
        let output = run(&mut cmd);
        run(Command::new("umount").arg("/proc")).ok();
        output.exits(125).says("/proc does not show whether this kernel has keyrings");
    }

    // ---- the console ----

    #[test]
    fn without_a_name_the_terminal_is_the_last_active_console() {
        private_mounts();
        let mut terminal = Pty::new();
        let dir = TempDir::new();
        let name = terminal.path.strip_prefix("/dev/").expect("a device");
        let active = dir.file("active", format!("tty0 {name}\n"));
        mount(["--bind".as_ref(), active.as_os_str(), "/sys/class/tty/console/active".as_ref()]);
        let running = start(&mut prog("--ctty", SESSION));
        terminal.shows("1 1 1\r\n");
        running.wait().ok();
        fs::write(&active, "\n").expect("a file");
        refused("--ctty", "this machine has no console");
    }

    #[test]
    fn without_sysfs_the_console_is_not_known_and_that_is_said() {
        private_mounts();
        mount(["-t", "tmpfs", "none", "/sys"]);
        let output = run(&mut prog("--ctty", "echo PROG ran")).exits(125);
        let output = output.says("/sys/class/tty/console/active").says("ENOENT");
        let output = output.says("sysfs, which names the console, is not mounted on /sys");
        assert_eq!(output.says("name the terminal: --ctty=/dev/ttyS0").out(), "");
        run(&mut prog("--ctty --dry-run", "true")).ok();
    }

    #[test]
    fn a_trace_goes_on_to_the_next_tool_on_its_own_descriptor() {
        must_be_root();
        for fd in [3, 4, 77] {
            for init in ["", " td-init"] {
                let dir = TempDir::new();
                let trace = dir.file("trace", "");
                let mut cmd = sh(&format!(
                    "exec \"$0\" --trace={fd}{init} td-exec --chdir / true {fd}>>\"$1\""
                ));
                if fd > 9 {
                    cmd = sh(&format!("exec \"$0\" --trace={fd}{init} td-exec --chdir / true"));
                    let file = fs::File::options().append(true).open(&trace).expect("the trace");
                    give_fd(&mut cmd, fd, file);
                }
                run(cmd.arg(bin("td-exec")).arg(&trace)).ok();
                let text = fs::read_to_string(&trace).expect("the trace");
                assert!(text.contains("chdir(\"/\") = 0\n"), "{fd}{init}: {text}");
                assert_eq!(text.contains("exit_group(0)"), !init.is_empty(), "{fd}{init}: {text}");
            }
        }
    }
}
