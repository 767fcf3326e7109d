//! The system call policy, as td-exec loads it: real processes, and the kernel's answer.

mod common;

use std::process::Command;

use common::*;
use td::ids::policy::calls::Arch;
use td::ids::policy::compile::program;

/// What PROG, a shell script, prints under td-exec with these options (words without blanks).
fn prog(options: &str, script: &str) -> Command {
    let mut cmd = td("td-exec", options.split_whitespace());
    cmd.args(["sh", "-c", script]);
    cmd
}

#[track_caller]
fn refused(options: &str, why: &str) {
    let output = run(&mut prog(options, "echo PROG ran; exit 3")).exits(125).says(why);
    assert_eq!(output.out(), "");
}

/// PROG, a shell script, under td-exec with this policy in a file.
fn under(policy: &str, options: &str, script: &str) -> Output {
    let dir = TempDir::new();
    let file = dir.file("policy", policy);
    let mut cmd = td("td-exec", ["--seccomp", text(&file)]);
    cmd.args(options.split_whitespace()).args(["sh", "-c", script]);
    run(&mut cmd)
}

const SECCOMP: &str = "grep -h ^Seccomp: /proc/self/status";

#[test]
fn a_policy_holds_for_prog_and_all_that_it_executes() {
    let mut cmd =
        td("td-exec", "--cap-keep none --no-new-privs --seccomp default sh -c".split(' '));
    let output =
        run(cmd
            .arg(format!("{SECCOMP}; sh -c '{SECCOMP}'; unshare -U true 2>/dev/null || echo no")));
    assert_eq!(output.ok().out(), "Seccomp:\t2\nSeccomp:\t2\nno\n");
    let mut cmd = td("td-exec", ["--seccomp", "unconfined", "sh", "-c", SECCOMP]);
    assert_eq!(run(&mut cmd).ok().out(), "Seccomp:\t0\n");
    let script = "mkdir /tmp/none || echo $?";
    under("default\nENOSYS mkdir mkdirat", "--no-new-privs", script)
        .exits(0)
        .says("not implemented");
    under("unconfined\nkill getppid", "--no-new-privs td-init", "echo $PPID")
        .exits(128 + libc::SIGSYS);
}

#[test]
fn a_policy_that_is_wrong_is_named_by_file_line_and_word() {
    let policy = "# a comment\nallow read\nallow raed\n";
    let output = under(policy, "--no-new-privs", "echo PROG ran").exits(125);
    assert!(output.err().contains("/policy, line 3: raed: not a system call"), "{output:#}");
    assert_eq!(output.out(), "");
    refused("--seccomp /nowhere", "ENOENT");
    refused("--seccomp /dev", "/dev: not a regular file");
    refused("--seccomp /dev/null", "/dev/null: not a regular file");
    refused("--seccomp-fd 77", "descriptor 77 is not open");
    refused("--seccomp-fd x", "x: not a file descriptor");
    let many: String = (0..5000).map(|n| format!("EPERM mmap if arg2 = {n}\n")).collect();
    under(&many, "--no-new-privs", "true").exits(125).says("more than the 4096 instructions");
}

#[test]
fn a_policy_comes_from_a_descriptor_as_text_or_compiled_and_prog_does_not_have_it() {
    let compiled = program("x", b"default\nEPERM getpid getppid\n", Arch::OWN, 0);
    let compiled = compiled.expect("a policy").expect("a program").to_bytes();
    let dir = TempDir::new();
    for bytes in [&b"default\nEPERM getpid getppid\n"[..], &compiled] {
        let file = dir.file("policy", bytes);
        for pipe in [false, true] {
            let mut cmd =
                prog("--no-new-privs --seccomp-fd 77", &format!("{SECCOMP}; ls /proc/self/fd"));
            if pipe {
                let (reader, mut writer) = common::house::pipe();
                give_fd(&mut cmd, 77, reader);
                std::io::Write::write_all(&mut writer, bytes).expect("a policy fits into a pipe");
            } else {
                // Its offset is not where the policy begins.
                let mut opened = std::fs::File::open(&file).expect("the policy");
                std::io::Seek::seek(&mut opened, std::io::SeekFrom::End(0)).expect("its end");
                give_fd(&mut cmd, 77, opened);
            }
            assert_eq!(run(&mut cmd).ok().out(), "Seccomp:\t2\n0\n1\n2\n3\n");
        }
    }
    let with = |bytes: &[u8], why: &str| {
        let mut cmd = prog("--no-new-privs --seccomp-fd 77", "echo PROG ran");
        give_fd(&mut cmd, 77, std::fs::File::open(dir.file("wrong", bytes)).expect("the policy"));
        assert_eq!(run(&mut cmd).exits(125).says(why).out(), "");
    };
    with(&compiled[..compiled.len() - 1], "its size is not a multiple of 8 bytes");
    with(&compiled[..compiled.len() - 8], "is not valid");
    with(&[0; 16], "seccomp(2) does not accept instruction");
    let mut odd = compiled.clone();
    // What is never run on the way of what td checks, the kernel sees: an instruction of eBPF at the end.
    odd.extend([0xb7, 0, 0, 0, 0, 0, 0, 0]);
    with(&odd, "instructions is not valid");
}

#[test]
fn without_a_right_to_it_no_policy_is_loaded() {
    let why = "this process has neither no_new_privs nor CAP_SYS_ADMIN";
    let mut cmd = td("td-exec", ["--seccomp", "default", "true"]);
    if status_of("self", "CapEff").trim_start_matches('0').is_empty() {
        run(&mut cmd).exits(125).says("EACCES").says(why);
    } else {
        let options =
            ["--user", "12345", "--cap-keep", "none", "td-exec", "--seccomp", "default", "true"];
        run(&mut td("td-exec", options)).exits(125).says("EACCES").says(why);
    }
}

#[test]
fn policies_that_are_too_long_together_and_one_that_refuses_seccomp_are_named() {
    let long: String = (0..750).map(|n| format!("EPERM move_pages if arg1 = {n}\n")).collect();
    let dir = TempDir::new();
    let file = dir.file("policy", format!("unconfined\n{long}"));
    let nested = ["td-exec", "--no-new-privs", "--seccomp", text(&file)];
    let words: Vec<&str> =
        nested.iter().copied().cycle().take(nested.len() * 9).skip(1).chain(["true"]).collect();
    let output = run(&mut td("td-exec", words)).exits(125).says("ENOMEM");
    output.says("policies are already loaded; together they may have at most 32768 instructions");

    let file = dir.file("no-seccomp", "default\nEPERM seccomp");
    let words = [
        "--no-new-privs",
        "--seccomp",
        text(&file),
        "td-exec",
        "--no-new-privs",
        "--seccomp",
        "default",
        "true",
    ];
    run(&mut td("td-exec", words))
        .exits(125)
        .says("a seccomp filter of this process refuses seccomp(2)");
}

#[test]
fn what_process_1_needs_is_checked_before_the_policy_is_loaded() {
    let needed = [
        "rt_sigtimedwait",
        "wait4",
        "getpgid",
        "getpid",
        "rt_sigprocmask",
        "rt_sigaction",
        "write",
        "exit_group",
        "prctl",
        "getsid",
        "pidfd_open",
        "socketpair",
        "ppoll",
        "fcntl",
        "ioctl",
        "rt_sigpending",
        "close_range",
        "clone clone3",
    ];
    let and_shells = [
        "write",
        "exit_group",
        "rt_sigaction",
        "rt_sigprocmask",
        "getpid",
        "prctl",
        "ppoll",
        "fcntl",
        "ioctl",
        "clone clone3",
    ];
    for (name, answer) in needed.into_iter().flat_map(|name| [(name, "EPERM"), (name, "kill")]) {
        let call = match (name, answer) {
            ("clone clone3", "kill") => "clone3",
            _ => name.split(' ').next().expect("a name"),
        };
        let output = under(
            &format!("unconfined\n{answer} {name}"),
            "--no-new-privs td-init",
            "echo PROG ran",
        );
        let output =
            output.exits(125).says(&format!("the policy refuses {call}(2), which process 1 needs"));
        assert_eq!(output.says("leave out td-init").out(), "");
        if !and_shells.contains(&name) {
            under(&format!("unconfined\n{answer} {name}"), "--no-new-privs", ": only a shell")
                .exits(0);
        }
    }
    for test in ["arg1 = 15", "arg1 > 60", "arg0 > 1"] {
        let policy = format!("unconfined\nEPERM kill if {test}");
        under(&policy, "--no-new-privs td-init", "echo PROG ran")
            .exits(125)
            .says("refuses kill(2)");
    }
    // It does not wait for one child, and does not send signal 0.
    under(
        "unconfined\nEPERM wait4 if arg0 < 0x1000\nEPERM kill if arg1 = 0\nlog getpid",
        "--no-new-privs td-init",
        "exit 7",
    )
    .exits(7);
    // Of what is not allowed the first is not needed without --setsid, and the second has another way.
    under("unconfined\nEPERM setpgid", "--no-new-privs td-init", "exit 7").exits(7);
    under("unconfined\nEPERM clone3", "--no-new-privs td-init", "exit 7").exits(7);
    // Nor does it look at PROG where that would be its end.
    let policy = "unconfined\nkill statx";
    let dir = TempDir::new();
    let file = dir.file("policy", policy);
    let options = ["--no-new-privs", "--seccomp", text(&file), "td-init", "/bin/busybox", "true"];
    run(&mut td("td-exec", options)).ok();
    let policy = "unconfined\nEPERM execve";
    under(policy, "--no-new-privs", "echo PROG ran")
        .exits(125)
        .says("refuses execve(2), which executes PROG");
}

#[test]
fn a_program_of_32_bits_is_refused_before_it_begins() {
    let dir = TempDir::new();
    let code32 = [0xb8, 1, 0, 0, 0, 0xbb, 42, 0, 0, 0, 0xcd, 0x80]; // exit(42), by int 0x80
    let program = dir.program("of32bits", elf32(&code32));
    let script = dir.program("script", format!("#!{} -x\n", text(&program)));
    for file in [&program, &script] {
        let mut cmd = td("td-exec", ["--no-new-privs", "--seccomp", "default", text(file)]);
        let says = format!("{} is a 32-bit program, which the policy refuses", text(&program));
        run(&mut cmd).exits(126).says(&says).says("--seccomp unconfined");
    }
    if cfg!(target_arch = "x86_64") && run(&mut Command::new(&program)).code == Some(42) {
        let mut cmd = td("td-exec", ["--no-new-privs", "--seccomp", "unconfined", text(&program)]);
        run(&mut cmd).exits(42);
        // A program of 64 bits may call the other machine's calls: that ends it.
        let both = dir.program("of64bits", elf64(&code32));
        run(&mut Command::new(&both)).exits(42);
        let mut cmd = td("td-exec", ["--no-new-privs", "--seccomp", "default", text(&both)]);
        assert_eq!(run(&mut cmd).signal, Some(libc::SIGSYS));
    }
}

/// A static program of 32 bits for x86 with this code.
fn elf32(code: &[u8]) -> Vec<u8> {
    let mut file = b"\x7fELF\x01\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([2, 0, 3, 0, 1, 0, 0, 0]);
    for word in [0x0804_8054_u32, 52, 0, 0] {
        file.extend(word.to_le_bytes()); // e_entry, e_phoff, e_shoff, e_flags
    }
    file.extend([52, 0, 32, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    let size = 84 + code.len() as u32;
    for word in [1, 0, 0x0804_8000, 0x0804_8000, size, size, 5, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

/// The same of 64 bits.
fn elf64(code: &[u8]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for word in [0x40_0078_u64, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    let size = 120 + code.len() as u64;
    for word in [0, 0x40_0000, 0x40_0000, size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

mod root {
    use std::fs;

    use super::common::house::{HOLD, House};
    use super::common::pty::Pty;
    use super::*;

    #[test]
    fn without_no_new_privs_the_policy_lets_ids_and_capabilities_change() {
        let script = format!("{SECCOMP}; id -u; grep -h -e ^NoNew -e ^CapEff /proc/self/status");
        for init in ["", " td-init"] {
            let options = "--user 1000:1000 --cap-keep chown,kill";
            let output = under("default", &[options, init].concat(), &script).ok();
            assert_eq!(
                output.out(),
                "Seccomp:\t2\n1000\nCapEff:\t0000000000000000\nNoNewPrivs:\t0\n"
            );
            let ambient = format!("{options} --ambient{init}");
            let output = under("default", &ambient, &script).ok();
            assert_eq!(
                output.out(),
                "Seccomp:\t2\n1000\nCapEff:\t0000000000000021\nNoNewPrivs:\t0\n"
            );
        }
        for (name, options) in [
            ("setresuid", "--user 1000"),
            ("setresgid", "--user 1000"),
            ("prctl", "--user 1000"),
            ("getppid", "--user 1000"),
            ("prctl", "--cap-keep chown --ambient --user 1000"),
            ("capset", ""),
        ] {
            let policy = format!("unconfined\nEPERM {name}");
            let says = format!("the policy refuses {name}(2), which changes ids and capabilities");
            under(&policy, options, "echo PROG ran").exits(125).says(&says).says("--no-new-privs");
            let options = format!("{options} --no-new-privs");
            under(&policy, &options, "exit 7").exits(7);
        }
    }

    #[test]
    fn without_no_new_privs_the_policy_lets_it_be_told_that_prog_runs() {
        for (policy, name) in [
            ("EPERM write", "write"),
            ("EPERM fcntl", "fcntl"),
            ("EPERM rt_sigaction", "rt_sigaction"),
        ] {
            let dir = TempDir::new();
            let policy = dir.file("policy", format!("unconfined\n{policy}\n"));
            for before in [&["td-exec"][..], &["td-unshare", "-p", "td-exec"]] {
                let mut line = before.to_vec();
                line.extend(Some("--ready=50").filter(|_| before.len() == 1));
                line.extend(["--seccomp", text(&policy)]);
                let told = dir.file("told", "");
                let append = fs::File::options().append(true).open(&told).expect("a file");
                let mut cmd = td(line[0], &line[1..]);
                give_fd(cmd.args(["sh", "-c", "exit 7"]), 50, append);
                let says = format!("the policy refuses {name}(2), which reports that PROG runs");
                run(&mut cmd).exits(125).says(&says).says("--no-new-privs");
                assert_eq!(fs::read(&told).expect("a file"), b"");
                // If it is loaded last, or if there is no reader, it refuses the call only to PROG.
                let mut cmd = td(line[0], &line[1..]);
                cmd.args(["--no-new-privs", "sh", "-c", "exit 7"]);
                if before.len() == 1 {
                    let append = fs::File::options().append(true).open(&told);
                    give_fd(&mut cmd, 50, append.expect("a file"));
                    run(&mut cmd).exits(7);
                    assert_eq!(fs::read(&told).expect("a file"), b"R");
                    let mut cmd = td("td-exec", ["--seccomp", text(&policy)]);
                    run(cmd.args(["sh", "-c", "exit 7"])).exits(7);
                } else {
                    run(&mut cmd).exits(7);
                }
            }
        }
    }

    #[test]
    fn process_1_is_under_the_policy_that_prog_is_under() {
        let script = "grep ^Seccomp: /proc/$PPID/status; echo $PPID";
        for options in ["--no-new-privs", "", "--setsid --cap-keep none --no-new-privs"] {
            let mut cmd = td(
                "td-unshare",
                ["-p", "-m", "td-mount", "--proc", "/", "td-exec", "--seccomp", "default"],
            );
            cmd.args(options.split_whitespace()).args(["td-init", "sh", "-c", script]);
            private_mounts();
            assert_eq!(run(&mut cmd).ok().out(), "Seccomp:\t2\n1\n", "{options}");
        }
    }

    // ---- td-run ----

    const STATE: &str = "grep -h -e ^Seccomp: /proc/1/status /proc/self/status; \
        unshare -U true 2>/dev/null || echo no user namespace";

    #[test]
    fn the_default_policy_is_on_in_every_container_unless_it_is_turned_off() {
        let on = "Seccomp:\t2\nSeccomp:\t2\nno user namespace\n";
        let off = "Seccomp:\t0\nSeccomp:\t0\n";
        for house in House::each() {
            assert_eq!(house.sh(&[], STATE).ok().out(), on);
            assert_eq!(house.sh(&["--no-init"], STATE).ok().out(), on);
            for options in [&["--security-opt", "seccomp=unconfined"][..], &["--privileged"]] {
                assert_eq!(house.sh(options, STATE).ok().out(), off, "{options:?}");
            }
            let policy = ["--privileged", "--security-opt=seccomp=default"];
            assert!(house.sh(&policy, STATE).ok().out().starts_with("Seccomp:\t2\nSeccomp:\t2\n"));
            house.nothing_is_left();
        }
    }

    #[test]
    fn no_new_privs_is_turned_off_and_on_by_dockers_words() {
        let script = "grep -h -e ^NoNewPrivs: -e ^Seccomp: /proc/1/status /proc/self/status";
        for house in House::each() {
            for (options, expected) in [
                (&[][..], [1, 2]),
                (&["--security-opt", "no-new-privileges=false"], [0, 2]),
                (&["--security-opt", "no-new-privileges:false"], [0, 2]),
                (&["--security-opt", "no-new-privileges=true", "--privileged"], [1, 0]),
                (&["--security-opt", "no-new-privileges", "--privileged"], [1, 0]),
                (&["--privileged"], [0, 0]),
            ] {
                let [nnp, mode] = expected;
                let expected = format!("NoNewPrivs:\t{nnp}\nSeccomp:\t{mode}\n").repeat(2);
                assert_eq!(house.sh(options, script).ok().out(), expected, "{options:?}");
            }
        }
    }

    #[test]
    fn a_policy_file_of_the_caller_is_loaded_inside_and_not_seen_there() {
        for house in House::each() {
            let file = house.dir.file("a policy", "default\nENOSYS mkdir mkdirat\n");
            chmod(&file, 0o644);
            let option = format!("seccomp={}", text(&file));
            let script = "mkdir /tmp/x; ls /proc/self/fd; ls /proc/1/fd | wc -l";
            let output = house.sh(&["--security-opt", &option], script).exits(0);
            // ls(1) has the directory open, and process 1 the end of the sockets that lead to its child.
            assert_eq!(output.out(), "0\n1\n2\n3\n4\n");
            output.says("mkdir: can't create directory '/tmp/x': Function not implemented");
        }
        let house = House::in_these_mounts();
        let refused = |option: &str, why: &str| {
            house.sh(&["--security-opt", option], "echo ran").exits(125).says(why);
        };
        refused("seccomp=/no/such", "seccomp=/no/such: this file does not exist");
        refused("seccomp=/", "seccomp=/: this file cannot be read");
        refused("seccomp=", "must be seccomp=default|unconfined|FILE or no-new-privileges");
        refused("apparmor=x", "must be seccomp=default|unconfined|FILE");
        let file = house.dir.file("policy", "default\nEPERM kill if arg1 = 1\n");
        let says = "the policy refuses kill(2), which process 1 needs to start PROG, reap, and forward signals";
        refused(&format!("seccomp={}", text(&file)), says);
        let option = format!("--security-opt=seccomp={}", text(&file));
        house.sh(&["--no-init", &option], "exit 7").exits(7);
        house.nothing_is_left();
    }

    #[test]
    fn the_policy_that_was_loaded_lies_in_the_state_while_the_container_runs() {
        let caps = "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,setfcap,net_bind_service,\
            net_raw,sys_chroot,audit_write";
        let caps = td::ids::caps::parse(caps).expect("capabilities");
        let expected = program("default", b"default", Arch::OWN, caps).expect("a policy");
        for house in House::each() {
            for (options, expected) in [
                (&[][..], expected.as_ref()),
                (&["--keep"], expected.as_ref()),
                (&["--security-opt=seccomp=unconfined"], None),
            ] {
                let held = house.hold(options, HOLD);
                let file = house.state().join("containers").join(&house.name).join("run/policy");
                let bytes = std::fs::read(&file).expect("a record");
                assert_eq!(bytes, expected.map_or(Vec::new(), |program| program.to_bytes()));
                held.go_on().ok();
                assert!(!file.exists());
            }
        }
    }

    /// What is done inside; with the host's programs, whose changes go to the upper layer.
    const DAILY: &str = r#"set -e
        cd /root; export HOME=/root
        apt-get --version | head -1
        apt-get -q -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=/dev/null update
        mkdir -p p/DEBIAN p/usr/share/tdtest; echo 'in a package' >p/usr/share/tdtest/file
        printf 'Package: td-test\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\nDescription: a test\n' >p/DEBIAN/control
        dpkg-deb --build p p.deb >/dev/null; dpkg -i p.deb >/dev/null; cat /usr/share/tdtest/file
        su -s /bin/sh nobody -c 'id -un'
        git init -q r; cd r; echo x >f; git add f
        git -c user.name=x -c user.email=x@x commit -qm one; git gc -q; git log --format=%s; cd ..
        python3 - <<'END'
import asyncio, multiprocessing, subprocess, threading
done = []
thread = threading.Thread(target=lambda: done.append("a thread")); thread.start(); thread.join()
print(done[0], subprocess.run(["echo", "a child"], capture_output=True).stdout)
with multiprocessing.get_context("fork").Pool(2) as pool: print(pool.map(abs, [-1, -2]))
async def main():
    child = await asyncio.create_subprocess_exec("echo", "awaited", stdout=asyncio.subprocess.PIPE)
    print(await child.communicate())
    (await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)).close()
asyncio.run(main())
END
        strace -f -o /dev/null sh -c 'true; echo traced'
        # As far as this machine has them:
        if command -v node >/dev/null; then
            node -e 'require("child_process").exec("echo node", (e, o) => console.log(e, o)); new (require("worker_threads").Worker)("1", {eval: true})'
        fi
        if command -v gdb >/dev/null; then gdb -q -batch -ex run --args true 2>&1 | grep exited; fi"#;

    #[test]
    fn programs_of_daily_use_behave_as_without_a_policy() {
        let house = House::new();
        // The state must not be on the file system that is the image.
        mount(["-t", "tmpfs", "tmpfs", text(&house.state())]);
        let inside = |options: &[&str]| {
            let options: Vec<&str> = ["--image", "/"].iter().chain(options).copied().collect();
            run(&mut house.container(&options, &["sh", "-c", DAILY])).exits(0)
        };
        let (with, without) = (inside(&[]), inside(&["--security-opt", "seccomp=unconfined"]));
        let out = with.out();
        for line in ["in a package", "nobody", "one", "a thread b'a child\\n'", "[1, 2]", "traced"]
        {
            assert!(out.lines().any(|l| l == line), "{line}: {with:#}");
        }
        let exited = |out: String| -> Vec<String> {
            let odd = |line: &&str| !line.starts_with("[Inferior"); // with a pid
            out.lines().filter(odd).map(String::from).collect()
        };
        assert_eq!(exited(out), exited(without.out()));
    }

    #[test]
    fn a_shell_on_a_terminal_has_job_control_under_the_default() {
        let mut terminal = Pty::new();
        let ctty = format!("--ctty={}", terminal.path);
        let mut cmd = td("td-init", ["td-exec", &ctty, "--no-new-privs", "--seccomp", "default"]);
        let running = start(cmd.args(["--env", "PS1=prompt> ", "sh", "-i"]));
        terminal.has_job_control("prompt> ");
        running.wait().exits(9);
    }
}
