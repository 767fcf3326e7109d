//! What the peers are told, so that they do the same as far as they can.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use td::ids::policy::calls::{self, Arch};
use td::ids::policy::program::{Data, Program};
use td::root::restrict;
use td::sys::{self, Cx, proc};

use crate::candidates::found;
use crate::place::{self, Place};
use crate::{Result, said};

const CAPS: [&str; 13] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "SETFCAP",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SYS_CHROOT",
    "AUDIT_WRITE",
];

/// A mount namespace where /sys/fs/cgroup is of version 2; `None` where it is so here.
pub fn only_v2(cx: &Cx) -> Result<Option<OwnedFd>> {
    let mounts = place::read("/proc/self/mountinfo")?;
    let v2 = mounts
        .lines()
        .find(|line| line.contains(" - cgroup2 "))
        .and_then(|line| line.split(' ').nth(4));
    let v2 = v2.ok_or("cgroups of version 2 are not mounted")?;
    if v2 == "/sys/fs/cgroup" {
        return Ok(None);
    }
    let (told, tell) = sys::socketpair(cx, 0).map_err(said)?;
    let pid = sys::clone3(cx, libc::CLONE_NEWNS as u64, None).map_err(said)?;
    if pid == 0 {
        let done =
            sys::mount(cx, Some(&proc::path(&[v2])), c"/sys/fs/cgroup", None, libc::MS_BIND, None);
        done.iter().for_each(|()| drop(sys::write(cx, tell.as_fd(), b"1")));
        drop(told);
        let _ = sys::read(cx, tell.as_fd(), &mut [0]);
        sys::exit(cx, 0);
    }
    drop(tell);
    let bound = sys::read(cx, told.as_fd(), &mut [0]).map_err(said)?;
    let namespace = proc::path(&["/proc/", &pid.to_string(), "/ns/mnt"]);
    let namespace = sys::openat(cx, None, &namespace, libc::O_RDONLY).map_err(said)?;
    drop(told);
    sys::wait4(cx, pid, 0).map_err(said)?;
    if bound == 1 {
        Ok(Some(namespace))
    } else {
        Err(format!("{v2} could not be bound on /sys/fs/cgroup"))
    }
}

/// A bundle for each command, with limits and without: where there is no controller, a limit is refused.
pub fn bundles(place: &Place) -> Result<()> {
    let policy = policy(place)?;
    let limits = r#""resources": {"memory": {"limit": 67108864}, "pids": {"limit": 99}},"#;
    for (kind, limits) in [("limits", limits), ("no-limits", "")] {
        for what in ["true", "probe", "eat"] {
            let dir = place.bundles.join(kind).join(what);
            place::make(&dir, 0o700)?;
            let args = if what == "true" {
                "\"/bin/true\"".into()
            } else {
                format!("\"/bin/true\", \"{what}\"")
            };
            place::write(&dir.join("config.json"), config(place, &args, &policy, limits))?;
        }
    }
    Ok(())
}

fn config(place: &Place, args: &str, policy: &str, limits: &str) -> String {
    let caps = list(CAPS.map(|cap| format!("CAP_{cap}")));
    let paths =
        |all: &[&std::ffi::CStr]| list(all.iter().map(|path| path.to_string_lossy().into_owned()));
    let (image, name) = (place.image.display(), &place.name);
    let (masked, read_only) = (paths(restrict::MASKED), paths(restrict::READ_ONLY));
    let namespaces = ["mount", "pid", "network", "ipc", "uts", "cgroup"]
        .map(|kind| format!("{{\"type\": \"{kind}\"}}"));
    let mount = |target: &str, kind: &str, options: &str| {
        let options = list(options.split(',').map(String::from));
        format!(
            "{{\"destination\": \"{target}\", \"type\": \"{kind}\", \"source\": \"{kind}\", \"options\": {options}}}"
        )
    };
    let mounts = [
        mount("/proc", "proc", "nosuid,noexec,nodev"),
        mount("/dev", "tmpfs", "nosuid,mode=755,size=65536k"),
        mount("/dev/pts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
        mount("/dev/shm", "tmpfs", "nosuid,noexec,nodev,mode=1777,size=65536k"),
        mount("/dev/mqueue", "mqueue", "nosuid,noexec,nodev"),
        mount("/sys", "sysfs", "nosuid,noexec,nodev,ro"),
    ];
    let (namespaces, mounts) = (namespaces.join(", "), mounts.join(",\n    "));
    format!(
        r#"{{
  "ociVersion": "1.0.2", "hostname": "{name}", "root": {{"path": "{image}"}},
  "process": {{"user": {{"uid": 0, "gid": 0}}, "args": [{args}], "cwd": "/", "noNewPrivileges": true,
    "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
    "capabilities": {{"bounding": {caps}, "effective": {caps}, "permitted": {caps}}}}},
  "mounts": [{mounts}],
  "linux": {{"namespaces": [{namespaces}], "maskedPaths": {masked}, "readonlyPaths": {read_only},
    {limits} "seccomp": {policy}}}
}}
"#
    )
}

fn list(words: impl IntoIterator<Item = String>) -> String {
    let words: Vec<_> = words.into_iter().map(|word| format!("\"{word}\"")).collect();
    format!("[{}]", words.join(", "))
}

/// Calls whose arguments the default policy looks at.
const BY_ARGUMENT: [&str; 4] = ["clone", "ioctl", "personality", "socket"];

/// Those that the default policy allows whatever their arguments are, and those that it says do not exist.
fn answers(place: &Place) -> Result<[Vec<String>; 2]> {
    let bytes = fs::read(&place.policy).map_err(|e| format!("{}: {e}", place.policy.display()))?;
    let program = Program::from_bytes(&bytes).ok_or("the policy was cut")?;
    let (mut allowed, mut missing) = (Vec::new(), Vec::new());
    for (index, call) in (0..).map_while(|index| calls::call(index).map(|call| (index, call))) {
        let name = calls::name(index);
        let number = call.number(Arch::OWN).filter(|_| !BY_ARGUMENT.contains(&&*name));
        match number.map(|number| program.evaluate(&Data::own(number, &[]))) {
            Some(Ok(libc::SECCOMP_RET_ALLOW)) => allowed.push(name),
            Some(Ok(answer)) if answer & 0xffff == libc::ENOSYS as u32 => missing.push(name),
            _ => {}
        }
    }
    Ok([allowed, missing])
}

/// The default policy in their language, that on ioctl(2) and socket(2) as far as libseccomp can say it: one condition.
fn policy(place: &Place) -> Result<String> {
    let [allowed, missing] = answers(place)?;
    let arg = |index: u32, value: u32, op: &str| {
        format!("{{\"index\": {index}, \"value\": {value}, \"op\": \"SCMP_CMP_{op}\"}}")
    };
    let allow = |name: &str, args: String| {
        format!("{{\"names\": [\"{name}\"], \"action\": \"SCMP_ACT_ALLOW\", \"args\": [{args}]}}")
    };
    // No flag of a namespace: 0x7e020000.
    let clone = r#"{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}"#;
    let enosys = libc::ENOSYS;
    let mut rules = vec![
        format!("{{\"names\": {}, \"action\": \"SCMP_ACT_ALLOW\"}}", list(allowed)),
        format!(
            "{{\"names\": {}, \"action\": \"SCMP_ACT_ERRNO\", \"errnoRet\": {enosys}}}",
            list(missing)
        ),
        allow("clone", clone.into()),
        allow("ioctl", arg(1, 0x5412, "NE")),
        allow("socket", arg(0, 40, "NE")),
    ];
    let domains = [0, 8, 0x20000, 0x20008, 0xffff_ffff];
    rules.extend(domains.map(|value| allow("personality", arg(0, value, "EQ"))));
    let arch = if cfg!(target_arch = "x86_64") { "SCMP_ARCH_X86_64" } else { "SCMP_ARCH_AARCH64" };
    let rules = rules.join(",\n      ");
    Ok(format!(
        "{{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"architectures\": [\"{arch}\"], \"syscalls\": [\n      {rules}]}}"
    ))
}

/// bwrap's command line, with the compiled policy on a descriptor.
pub fn bwrap(place: &Place, policy: i32) -> Result<Vec<String>> {
    let (image, policy) = (place.image.display().to_string(), policy.to_string());
    let mut words = vec![found("bwrap")?];
    words.extend(
        ["--unshare-all", "--hostname", &place.name, "--new-session", "--die-with-parent"]
            .map(String::from),
    );
    words.extend(["--bind", &image, "/", "--proc", "/proc", "--dev", "/dev"].map(String::from));
    words.extend(
        ["--mqueue", "/dev/mqueue", "--ro-bind", "/sys", "/sys", "--seccomp", &policy]
            .map(String::from),
    );
    words.extend(["--cap-drop", "ALL"].map(String::from));
    words.extend(CAPS.iter().flat_map(|cap| ["--cap-add".into(), format!("CAP_{cap}")]));
    words.extend(["--", "@"].map(String::from));
    Ok(words)
}
