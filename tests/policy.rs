//! The system call policy: what the default allows, against a table of docker's, and by real calls.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::process::Command;

use common::*;
use td::ids::policy::calls::{self, Arch};
use td::ids::policy::compile::program;
use td::ids::policy::program::{Data, Program, answer};
use td::say::flags;

/// See there.
const DOCKER: &str = include_str!("fixtures/docker.calls");

const EPERM: u32 = answer::ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = answer::ERRNO | libc::ENOSYS as u32;

const TIOCSTI: u64 = libc::TIOCSTI;
const TIOCLINUX: u64 = libc::TIOCLINUX;

/// What td refuses and docker allows: the call, or the call with the value of an argument, and why. Whoever changes
/// the policy reviews this list.
const STRICTER: &[(&str, &str)] = &[
    ("ioctl TIOCSTI", "types into a terminal that the container shares with the caller"),
    ("ioctl TIOCLINUX", "pastes into the console"),
    ("epoll_ctl_old", "no kernel has it"),
    ("epoll_wait_old", "no kernel has it"),
    ("get_thread_area", "no 64-bit kernel has it"),
    ("set_thread_area", "no 64-bit kernel has it"),
];

fn compiled(caps: u64, arch: Arch) -> Program {
    program("default", b"default", arch, caps).expect("it compiles").expect("it refuses something")
}

/// The number of a capability.
fn capability(name: &str) -> u64 {
    let found = flags::CAPS.iter().find(|(_, known)| *known == name);
    found.unwrap_or_else(|| panic!("no capability {name}")).0
}

/// The sets of capabilities: none, td-run's, each one that a condition names, all.
fn capability_sets() -> Vec<u64> {
    let named = DOCKER.lines().filter_map(|line| line.split(' ').find(|w| w.starts_with("CAP_")));
    let named: BTreeSet<u64> = named.map(capability).collect();
    assert_eq!(named.len(), 14, "{named:?}");
    let own = "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP SETFCAP NET_BIND_SERVICE NET_RAW \
        SYS_CHROOT AUDIT_WRITE";
    let own = own.split(' ').map(|cap| 1 << capability(&format!("CAP_{cap}"))).sum();
    [0, own, u64::MAX].into_iter().chain(named.into_iter().map(|cap| 1 << cap)).collect()
}

/// Docker's conditions, a list for each call: any of them is enough.
fn docker() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut table: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in DOCKER.lines().filter(|line| !line.starts_with('#')) {
        let (name, condition) = line.split_once(' ').unwrap_or((line, ""));
        table.entry(name).or_default().push(condition);
    }
    table
}

/// Does docker allow a call? Its arguments are taken as the kernel reads them.
fn docker_allows(conditions: &[&str], caps: u64, call: &calls::Call, args: &[u64; 6]) -> bool {
    conditions.iter().any(|condition| {
        let words: Vec<&str> = condition.split(' ').collect();
        let number = |text: &str| match text.strip_prefix("0x") {
            Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16).expect(condition),
            None => text.parse().expect(condition),
        };
        let argument = |name: &str| {
            let index: u8 = name.strip_prefix("arg").expect(condition).parse().expect(condition);
            args[usize::from(index)] & call.width(index)
        };
        match words[..] {
            [""] => true,
            [cap] => caps >> capability(cap) & 1 == 1,
            [arg, "<", value] => argument(arg) < number(value),
            [arg, ">", value] => argument(arg) > number(value),
            [arg, "=", value] => argument(arg) == number(value),
            [arg, "&", mask, "=", value] => argument(arg) & number(mask) == number(value),
            _ => panic!("{condition}"),
        }
    })
}

/// Arguments that tell something, of each call.
fn telling(name: &str) -> Vec<[u64; 6]> {
    let first: Vec<u64> = match name {
        "socket" => (0..48).chain([0x7fff_ffff, 0xffff_ffff]).collect(),
        "personality" => vec![0, 1, 2, 8, 9, 0x20000, 0x20008, 0x4_0000, 0x800_0000, 0xffff_ffff],
        "clone" => (0..32).map(|bit| 1 << bit).chain([0, 17, 0x7e02_0000, 0x3d_0f00]).collect(),
        _ => vec![0, 1, 0xffff_ffff],
    };
    let second: &[u64] = match name {
        "ioctl" => {
            &[0, TIOCSTI, TIOCLINUX, libc::TCGETS, 0x5411, 0x5413, 0x541b, 0x541d, 0xffff_ffff]
        }
        _ => &[0, 2],
    };
    let mut all = vec![[u64::MAX; 6]];
    for first in first {
        for second in second {
            // In the high bits of an int there may be anything.
            for high in [0, 1 << 32, 0xffff_ffff << 32] {
                all.push([high | first, high | second, 0, high, high, high]);
            }
        }
    }
    all
}

/// What the reviewed list calls a call.
fn reviewed_as(name: &str, args: &[u64; 6]) -> String {
    match (name, args[1] & 0xffff_ffff) {
        ("ioctl", TIOCSTI) => "ioctl TIOCSTI".into(),
        ("ioctl", TIOCLINUX) => "ioctl TIOCLINUX".into(),
        _ => name.into(),
    }
}

#[test]
fn the_default_allows_nothing_that_docker_refuses_and_refuses_no_more_than_was_reviewed() {
    let docker = docker();
    let known: BTreeSet<String> = (0..calls::COUNT).map(calls::name).collect();
    assert!(docker.keys().all(|name| known.contains(*name)), "a name that td does not know");
    let mut stricter = BTreeSet::new();
    for (arch, caps) in [Arch::X86_64, Arch::Aarch64]
        .into_iter()
        .flat_map(|arch| capability_sets().into_iter().map(move |caps| (arch, caps)))
    {
        let policy = compiled(caps, arch);
        for index in 0..calls::COUNT {
            let (name, call) = (calls::name(index), calls::call(index).expect("a call"));
            let Some(number) = call.number(arch) else { continue };
            let conditions = docker.get(name.as_str()).map_or(&[][..], |list| list);
            for args in telling(&name) {
                let data = Data { number, arch: arch.audit(), args };
                let answer = policy.evaluate(&data).expect("a valid program");
                let allowed = docker_allows(conditions, caps, &call, &args);
                match (answer, allowed) {
                    (answer::ALLOW, true) | (EPERM | ENOSYS, false) => {}
                    (EPERM | ENOSYS, true) => drop(stricter.insert(reviewed_as(&name, &args))),
                    _ => {
                        panic!("{arch:?} {caps:#x} {name} {args:x?}: {answer:#x}, docker {allowed}")
                    }
                }
            }
        }
    }
    let reviewed: BTreeSet<String> = STRICTER.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(stricter, reviewed);
}

#[test]
fn numbers_that_are_no_call_are_refused() {
    for arch in [Arch::X86_64, Arch::Aarch64] {
        let known: BTreeSet<u32> =
            (0..calls::COUNT).filter_map(|i| calls::call(i)?.number(arch)).collect();
        for caps in [0, u64::MAX] {
            let policy = compiled(caps, arch);
            let ask = |number: u32, arch: u32| {
                policy.evaluate(&Data { number, arch, args: [0; 6] }).expect("a valid program")
            };
            let unknown = (0..2000).filter(|number| !known.contains(number));
            for number in unknown.chain([0x3fff_ffff, u32::MAX, 1 << 31]) {
                assert_eq!(ask(number, arch.audit()), ENOSYS, "{arch:?} {number}");
            }
            for number in 0..2000 {
                assert_eq!(ask(number | 0x4000_0000, arch.audit()), ENOSYS, "x32 {number}");
                assert_eq!(ask(number, 0x4000_0003), answer::KILL_PROCESS, "i386 {number}");
                assert_eq!(ask(number, 0x4000_0028), answer::KILL_PROCESS, "arm {number}");
            }
        }
    }
}

// ---- real calls ----

/// What a call returned: 0 for all that is no error.
type Made = (i64, [u64; 6], i32);

/// Make calls in a child process under the policy of these capabilities (`None`: under none), each in a process of its
/// own. Returns the errno of each, 0 where it went well, and 255 where the process was ended.
fn make(calls: &[(i64, [u64; 6])], policy: Option<Program>) -> Vec<Made> {
    let (reader, writer) = common::house::pipe();
    let list = calls.to_vec();
    let filter: Vec<libc::sock_filter> = policy
        .iter()
        .flat_map(|policy| &policy.0)
        .map(|i| libc::sock_filter { code: i.code, jt: i.jt, jf: i.jf, k: i.k })
        .collect();
    let mut cmd = Command::new("/bin/true");
    before_exec(&mut cmd, move || {
        // SAFETY: numbers, and a program that outlives the call. The calls of the list are given no pointer that
        // is one.
        unsafe {
            if !filter.is_empty() {
                let program = libc::sock_fprog {
                    len: filter.len() as u16,
                    filter: filter.as_ptr().cast_mut(),
                };
                check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
                check(
                    libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &program)
                        as i32,
                )?;
            }
            for (number, a) in &list {
                let child = check(libc::fork())?;
                if child == 0 {
                    let result = libc::syscall(*number, a[0], a[1], a[2], a[3], a[4], a[5]);
                    libc::_exit(if result == -1 { *libc::__errno_location() } else { 0 });
                }
                let mut status = 0;
                check(libc::waitpid(child, &mut status, 0))?;
                let ended =
                    [if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 255 } as u8];
                check(libc::write(writer.as_raw_fd(), ended.as_ptr().cast(), 1) as i32)?;
            }
        }
        Ok(())
    });
    let done = run(&mut cmd);
    drop(cmd); // and with it our end of the pipe
    done.ok();
    let mut ended = Vec::new();
    std::fs::File::from(reader).read_to_end(&mut ended).expect("what they returned");
    assert_eq!(ended.len(), calls.len());
    calls.iter().zip(ended).map(|((number, args), errno)| (*number, *args, errno.into())).collect()
}

fn sysno(name: &str) -> i64 {
    let call = calls::find(name.as_bytes()).unwrap_or_else(|| panic!("no call {name}"));
    call.number(Arch::OWN).unwrap_or_else(|| panic!("no {name} here")).into()
}

#[test]
fn every_call_that_the_default_refuses_is_refused_by_the_kernel() {
    let policy = compiled(0, Arch::OWN);
    let mut list = Vec::new();
    for index in 0..calls::COUNT {
        let Some(number) = calls::call(index).and_then(|call| call.number(Arch::OWN)) else {
            continue;
        };
        let data = Data { number, arch: Arch::OWN.audit(), args: [u64::MAX; 6] };
        // vhangup(2) would take our terminal if it were not refused. uprobe(2), as of Linux 6.18, is made by what the
        // kernel has put into a program that it traces: no policy is asked.
        let odd = ["vhangup", "uprobe"].contains(&calls::name(index).as_str());
        if !odd && !answer::allows(policy.evaluate(&data).expect("valid")) {
            list.push((number.into(), [u64::MAX; 6]));
        }
    }
    assert!(list.len() > 60, "{list:?}");
    for (number, args, errno) in make(&list, Some(compiled(0, Arch::OWN))) {
        let data = Data { number: number as u32, arch: Arch::OWN.audit(), args };
        let answer = policy.evaluate(&data).expect("valid");
        assert_eq!(answer, answer::ERRNO | errno as u32, "{number}");
    }
}

#[test]
fn calls_that_the_default_allows_answer_as_without_it() {
    // These end or hold the process, or what they do depends on the moment.
    let odd = [
        "exit",
        "exit_group",
        "pause",
        "rt_sigreturn",
        "rt_sigsuspend",
        "fork",
        "vfork",
        "clone",
        "msgget",
        "uretprobe",
        "sync",
        "rt_sigtimedwait",
        "seccomp",
        "getrandom",
    ];
    let policy = compiled(0, Arch::OWN);
    let mut list = Vec::new();
    for index in 0..calls::COUNT {
        let Some(number) = calls::call(index).and_then(|call| call.number(Arch::OWN)) else {
            continue;
        };
        let data = Data { number, arch: Arch::OWN.audit(), args: [u64::MAX; 6] };
        let allowed = answer::allows(policy.evaluate(&data).expect("valid"));
        if allowed && !odd.contains(&calls::name(index).as_str()) {
            list.push((number.into(), [u64::MAX; 6]));
        }
    }
    assert!(list.len() > 250, "{list:?}");
    let (with, without) = (make(&list, Some(policy)), make(&list, None));
    for (with, without) in with.iter().zip(&without) {
        assert_eq!(with, without);
    }
}

#[test]
fn tests_of_arguments_hold_in_the_kernel_whatever_is_in_the_high_bits() {
    let (vsock, alg) = (libc::AF_VSOCK as u64, libc::AF_ALG as u64);
    let newuser = libc::CLONE_NEWUSER as u64;
    let mut list = Vec::new();
    for high in [0, 1 << 32, 1 << 63, 0xffff_ffff << 32] {
        for (name, index, value, refused) in [
            ("socket", 0, vsock, true),
            ("socket", 0, alg, true),
            ("socket", 0, 5000, false), // EAFNOSUPPORT
            ("ioctl", 1, TIOCSTI, true),
            ("ioctl", 1, TIOCLINUX, true),
            ("ioctl", 1, libc::TCGETS, false),
            ("clone", 0, newuser, true),
            ("clone", 0, libc::CLONE_NEWNET as u64 | newuser, true),
            ("personality", 0, 0x40000, true),
            ("personality", 0, 0xffff_ffff, false),
            ("unshare", 0, newuser, true),
            ("setns", 1, newuser, true),
            ("clone3", 0, 0, true),
            ("keyctl", 0, 0, true),
            ("io_uring_setup", 0, 1, true),
            ("mount", 3, 0, true),
        ] {
            let mut args = [0; 6];
            args[0] = u64::MAX >> 1; // no descriptor
            args[index] = high | value;
            list.push(((sysno(name), args), name, refused));
        }
    }
    let calls: Vec<_> = list.iter().map(|(call, ..)| *call).collect();
    let made = make(&calls, Some(compiled(0, Arch::OWN)));
    for ((_, name, refused), (_, args, errno)) in list.iter().zip(made) {
        let expected = match (name, refused) {
            (&"clone3", _) => Some(libc::ENOSYS),
            (_, true) => Some(libc::EPERM),
            (_, false) => None,
        };
        match expected {
            Some(expected) => assert_eq!(errno, expected, "{name} {args:x?}"),
            None => {
                assert!(errno != libc::EPERM && errno != libc::ENOSYS, "{name} {args:x?}: {errno}")
            }
        }
    }
}
