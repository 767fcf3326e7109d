//! Contract 5: a trace has what strace sees. Contract 6: a dry run changes nothing, and prints what the
//! run then does.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::process::Command;

use common::pty::Pty;
use common::strace::*;
use common::*;

/// Command lines with their exit status. `{T}` is a directory of the test's own, see `place`. To have a
/// tool tested, add lines.
const UNSHARE: &[(&str, i32)] = &[
    ("td-unshare true", 0),
    ("td-unshare /bin/true", 0),
    ("td-unshare -m -u -i -n -C true", 0),
    ("td-unshare -m --propagation slave true", 0),
    ("td-unshare -m --propagation shared true", 0),
    ("td-unshare -m --propagation unchanged true", 0),
    ("td-unshare --hostname x --loopback true", 0),
    ("td-unshare --monotonic 100 --boottime 1000 true", 0),
    ("td-unshare -r true", 0),
    ("td-unshare -c true", 0),
    ("td-unshare -U true", 0),
    ("td-unshare -p true", 0),
    ("td-unshare -p false", 1),
    ("td-unshare -p -m -u -i -n -C -T -r --hostname a-name-of-more-than-thirty-two-bytes true", 0),
    ("td-unshare -p -m -c --loopback --monotonic 5 {T}/argument\u{e9}\ttab true", 127),
    ("td-unshare -p {T}/exit3", 3),
    ("td-unshare --rmdir {T}/empty {T}/killed", 128 + libc::SIGKILL),
    ("td-unshare --rmdir {T}/empty {T}/signals", 3),
    ("td-unshare -m td-unshare -p td-unshare -u true", 0),
    ("td-unshare -p td-unshare -p true", 0),
    ("td-unshare nowhere-to-be-found", 127),
    ("td-unshare -p {T}/nowhere", 127),
    ("td-unshare -p {T}", 126),
    ("td-unshare {T}/plain", 126),
    ("td-unshare {T}/script", 126),
    ("td-unshare --remove {T}/tree --rmdir {T}/empty --rmdir {T}/tree true", 0),
    ("td-unshare --boottime 9223372036854775807 true", 125),
    ("td-unshare --map-user 5 --map-group 6 -m true", 0),
    ("td-unshare --map-users 0:700000:9 --map-groups 0:800000:9 -p -m true", 0),
    ("td-unshare -r --map-users 1:7:9 --setgroups deny --remove {T}/tree true", 0),
    ("td-unshare --pid-file {T}/a/b/pid true", 0),
    ("td-unshare --pid-file {T}/a/b/pid -p /nowhere", 127),
    ("td-unshare --pid-file {T}/plain true", 125),
    (
        "td-unshare --pid-file {T}/left --fresh --remove {T}/empty --net={T}/net -u={T}/plain true",
        0,
    ),
];

/// By newuidmap, for a user to whom root has given ids.
const UNSHARE_RANGES: &[(&str, i32)] = &[
    ("td-exec --user ranges td-unshare -r --map-users auto --map-groups auto -m true", 0),
    ("td-exec --user ranges td-unshare -p --map-users auto --map-groups auto true", 0),
];

/// What is in a directory a dry run cannot know once it has taken that to be removed.
const UNSHARE_FRESH: &[(&str, i32)] =
    &[("td-unshare --fresh --remove {T}/tree --pid-file {T}/a/b/pid -p -r true", 0)];

const OVERLAY: &[(&str, i32)] = &[
    ("td-overlay --lower {T}/lower1 {T}/mnt true", 0),
    ("td-overlay --lower {T}/lower1 --lower {T}/lower2 {T}/mnt true", 0),
    ("td-overlay --lower {T}/lower1 --upper {T}/upper --work {T}/work --volatile {T}/mnt true", 0),
    (
        "td-overlay --lower {T}/lower1 --upper {T}/upper --work {T}/work --option index=off {T}/mnt true",
        0,
    ),
    ("td-overlay --lower {T}/lower1 --mkdir --upper {T}/s/u --work {T}/s/w {T}/x/y true", 0),
    ("td-overlay --lower {T}/lower1 --tmpfs=10M {T}/mnt /bin/true", 0),
    (
        "td-overlay --lower {T}/lower1 --mkdir --upper {T}/s/u --work {T}/s/w --volatile {T}/x/y {T}/nowhere",
        127,
    ),
    ("td-overlay --lower {T}/lower1 --lower {T}/lower1 {T}/mnt true", 125),
    ("td-overlay --lower {T}/lower1 --upper {T}/upper --work {T}/upper {T}/mnt true", 125),
    ("td-overlay --lower {T}/lower1 --lower {T}/lower2 --option nonsense {T}/mnt true", 125),
    ("td-unshare -U td-overlay --lower {T}/lower1 --tmpfs {T}/mnt true", 125),
    ("td-overlay --lower {T}/nowhere {T}/mnt true", 125),
];

/// A dry run enters no user namespace, and so does not see that this overlay will be `userxattr`.
const OVERLAY_OF_A_USER: &[(&str, i32)] =
    &[("td-unshare -r -m td-overlay --lower {T}/lower1 --tmpfs --mkdir {T}/x true", 0)];
const EXEC: &[(&str, i32)] = &[
    ("td-exec true", 0),
    ("td-init true", 0),
    ("td-init {T}/exit3", 3),
    ("td-init -g -w -p TERM -e 3=4 -r USR1:0 --grace 1 {T}/exit3", 4),
    ("td-unshare -p td-init -g --grace 1 --default-signals {T}/exit3", 3),
    ("td-init {T}/killed", 128 + libc::SIGKILL),
    ("td-exec td-init {T}/signals", 3),
    ("td-unshare -p td-exec --user 7 td-init {T}/exit3", 3),
    ("td-exec --chdir / --env A=b --unset HOME --argv0 name --home true", 0),
    ("td-exec --clear-env --env PATH=/usr/bin:/bin true", 0),
    ("td-exec --user 12345:54321 --groups 7,8,9 true", 0),
    ("td-exec --user root true", 0),
    ("td-exec --cap-keep none --no-new-privs true", 0),
    ("td-exec --cap-keep chown,kill true", 0),
    ("td-exec --user 12345 --groups 7 --cap-keep chown --ambient true", 0),
    ("td-exec --rlimit nofile=64:128 --rlimit core=0 true", 0),
    ("td-exec --setsid --session-keyring --cap-keep kill td-init true", 0),
    ("td-exec --no-new-privs --seccomp default true", 0),
    ("td-exec --no-new-privs --seccomp default --cap-keep none td-init {T}/exit3", 3),
    ("td-exec --seccomp default --user 12345 --cap-keep kill true", 0),
    ("td-exec --no-new-privs --seccomp {T}/plain true", 125),
    ("td-exec --no-new-privs --seccomp-fd 77 true", 125),
    ("td-exec --no-new-privs --seccomp unconfined true", 0),
    ("td-exec --keep-fd 99 true", 0),
    ("td-exec --keep-fd 77 true", 125),
    ("td-init td-exec --ctty=/dev/null true", 125),
    ("td-exec --ctty={T}/nowhere td-init true", 125),
    ("td-init --on-exit poweroff true", 125),
    ("td-exec --chdir {T}/nowhere true", 125),
    ("td-tty {T}/exit3", 3),
    ("td-tty nowhere-to-be-found", 127),
    ("td-exec --setsid --keep-fd 99 td-tty --inside 99 true", 125),
    ("td-exec --user nobody-of-this-name true", 125),
];

/// What the terminal begins with comes over a socket, which a dry run does not have.
const TTY: &[(&str, i32)] =
    &[("td-tty --fd 9 td-unshare -p td-exec --keep-fd 9 --setsid td-tty --inside 9 {T}/exit3", 3)];

/// reboot(2) ends the namespace, and its process 1 by a signal.
const ON_EXIT: &[(&str, i32)] = &[
    ("td-unshare -p td-init --on-exit poweroff {T}/exit3", 128 + libc::SIGINT),
    ("td-unshare -p td-init --on-exit halt --nonsense", 128 + libc::SIGINT),
    ("td-unshare -p td-init --on-exit reboot {T}/killed", 128 + libc::SIGHUP),
];

// In a namespace of its own, for td-pivot changes the root of all that is in it.
const PIVOT: &[(&str, i32)] = &[
    ("td-unshare -m td-pivot {T}/mounted /bin/true", 0),
    ("td-unshare -m td-pivot --put-old /root {T}/mounted /bin/true", 0),
    ("td-unshare -m -p td-pivot {T}/mounted td-exec td-init /bin/true", 0),
    ("td-unshare -m td-pivot --no-bind {T}/image true", 125),
    ("td-unshare -m td-pivot {T}/image /nowhere", 127),
    ("td-unshare -m td-pivot {T}/nowhere true", 125),
    ("td-unshare -m td-pivot --move /dev,/proc {T}/mounted /bin/true", 0),
    ("td-unshare -m td-pivot --move /dev,/nowhere {T}/mounted true", 125),
    ("td-unshare -m td-pivot --free-initramfs {T}/mounted true", 125),
    ("td-unshare -m --propagation shared td-pivot {T}/image true", 125),
    ("td-unshare -m td-pivot {T}/image false", 1), // no mount point: bound on itself after a failure
];

const ENTER: &[(&str, i32)] = &[
    ("td-enter true", 0),
    ("td-enter td-unshare -u {T}/exit3", 3),
    ("td-enter -u=/proc/self/ns/uts --net=/proc/self/ns/net -w=/bin true", 0),
    ("td-enter --pid=/proc/self/ns/pid {T}/exit3", 3),
    ("td-enter --pid=/proc/self/ns/pid {T}/killed", 128 + libc::SIGKILL),
    ("td-enter -m=/proc/self/ns/mnt -r={T}/image -w=/etc /bin/true", 0),
    ("td-enter -r={T}/image td-exec --env A=b /bin/true", 0),
    ("td-unshare -p td-enter -t 1 -a true", 125),
    ("td-enter -t 2147483647 -a true", 125),
    ("td-enter -u={T}/plain true", 125),
    ("td-enter -u=/proc/self/ns/net true", 125),
    ("td-enter -U=/proc/self/ns/user true", 125),
    ("td-enter -U={T}/nowhere true", 125),
    ("td-enter -r={T}/image -w={T} true", 125),
    ("td-enter --state {T} --name none true", 125),
    ("td-enter nowhere-to-be-found", 127),
];

/// `{P}` is a process in namespaces of its own.
const ENTER_A_PROCESS: &[(&str, i32)] = &[
    ("td-enter -t {P} -a true", 0),
    ("td-enter -t {P} -un --join-cgroup td-unshare -u false", 1),
    ("td-enter -t {P} -mprw td-exec td-init true", 0),
    ("td-enter -t {P} -r /bin/true", 0),
];

const LOCK: &[(&str, i32)] = &[
    ("td-lock {T}/lock true", 0),
    ("td-lock --key word {T}/plain /bin/true", 0),
    ("td-lock -n {T}/tree td-exec true", 0),
    ("td-lock -s --mkdir {T}/a/b/lock td-unshare -p true", 0),
    ("td-lock {T}/plain td-lock --key word {T}/lock td-lock --wait=1 {T}/plain {T}/exit3", 3),
    ("td-lock {T}/lock td-unshare --rmdir {T}/empty td-lock --wait=0.01 {T}/lock true", 125),
    ("td-lock --key word {T}/lock td-unshare -p td-lock -n --key word {T}/lock true", 125),
    ("td-lock {T}/lock td-lock --key word {T}/lock td-exec td-init {T}/exit3", 3),
    ("td-lock {T}/lock td-enter --pid=/proc/self/ns/pid td-exec true", 0),
    ("td-lock {T}/lock td-unshare -m td-pivot {T}/image true", 125),
    ("td-lock --mkdir {T}/x/y/ true", 125),
    ("td-lock -s --key word {T}/tree true", 125),
    ("td-lock {T}/lock nowhere-to-be-found", 127),
];

/// `{N}` is a name that nobody else uses. Each line leaves no cgroup behind.
const CGROUP: &[(&str, i32)] = &[
    ("td-cgroup --stay /{N} td-unshare -p -C --into-cgroup /{N} --remove-cgroup /{N} true", 0),
    (
        "td-cgroup --pids 9 -m 64M --stay /{N} td-unshare --into-cgroup /{N} --remove-cgroup /{N} false",
        1,
    ),
    ("td-cgroup --pids 9 --cpus 1.5 --cpuset-cpus 0 -m 1g --memory-swap -1 /{N} nowhere", 127),
    ("td-cgroup --pids 9 --cpuset-cpus 5000 /{N} true", 125),
    ("td-cgroup --set nonsense.x=1 /{N} true", 125),
    ("td-cgroup --delegate 65534:65534 --pids 9 --leaf in /{N} nowhere-to-be-found", 127),
    ("td-cgroup --io-max 8:255,rbps=1m --pids 9 /{N} true", 125),
    ("td-cgroup --kill /{N}", 125),
    ("td-cgroup --freeze /{N}", 125),
    ("td-cgroup --stat /{N}", 125),
];

/// A dry run of td-unshare cannot see the cgroups that one of td-cgroup did not make.
const CGROUP_LEAF: &[(&str, i32)] = &[
    (
        "td-cgroup --pids 9 --leaf in --stay /{N} td-unshare -C --into-cgroup /{N}/in --remove-cgroup /{N} true",
        0,
    ),
    ("td-cgroup --stay /{N} td-unshare --remove-cgroup /{N} td-cgroup --freeze /{N}", 0),
    ("td-cgroup --stay /{N} td-unshare --remove-cgroup /{N} td-cgroup --thaw /{N}", 0),
    ("td-cgroup --stay /{N} td-unshare --remove-cgroup /{N} td-cgroup --kill /{N}", 0),
    ("td-cgroup --stay /{N}/a/b td-unshare --remove-cgroup /{N} td-cgroup --wait-empty=1 /{N}", 0),
    ("td-cgroup --stay /{N}/a/b td-unshare --remove-cgroup /{N} td-cgroup --stat --json /{N}", 0),
    (
        "td-cgroup --delegate 1:1 --stay /{N}/a td-cgroup --fresh -m 64M --stay /{N} td-unshare --into-cgroup /{N} --remove-cgroup /{N} true",
        0,
    ),
];

/// `{T}/lower1` is empty, so that all targets are made.
const MOUNT: &[(&str, i32)] = &[
    ("td-mount --proc --dev --sys {T}/image true", 0),
    (
        "td-mount --proc --dev --sys --tmpfs /a --options size=1M,mode=700,ro,noexec {T}/lower1 true",
        0,
    ),
    ("td-mount --bind {T}/tree /x/y --ro-bind {T}/plain /x/z {T}/lower1 true", 0),
    (
        "td-mount --mask /var --mask /no {T}/image td-unshare -u td-mount --tmpfs /tmp {T}/image true",
        0,
    ),
    (
        "td-mount --proc --dev --mask /proc/cmdline --remount-ro /proc/sys --tmpfs /etc/passwd {T}/image true",
        125,
    ),
    ("td-mount --dev --bind {T}/plain /new/x --tmpfs /new/y {T}/image nowhere-to-be-found", 127),
    ("td-mount --mask /etc/passwd {T}/image true", 125),
    ("td-mount --bind {T}/tree /a --options rw,dev,noatime {T}/image true", 0),
    ("td-mount --tmpfs / {T}/image true", 125),
    ("td-mount --sys-rw --dir /a/b --symlink ../x /a/c {T}/lower1 true", 0),
    ("td-mount --fs tmpfs none /a --options ro,size=1M --move {T}/noexec /b {T}/lower1 true", 0),
    ("td-mount --dir /new --move {T}/noexec /b {T}/image nowhere-to-be-found", 127),
    ("td-mount --dir /new --move {T}/tree /b {T}/image true", 125),
    ("td-mount --fs ext4 /dev/null /a {T}/image true", 125),
    ("td-mount --fs nosuch none /a {T}/image true", 125),
    ("td-mount --symlink x /etc/passwd {T}/image true", 125),
    ("td-unshare -r -m td-mount --devtmpfs {T}/image true", 125),
    ("td-mount --tmpfs /a --options size=x {T}/image true", 125),
    ("td-unshare -r -m td-mount --proc {T}/image true", 125),
];

/// A fallback comes after a failure, and a path may be one of a mount just made: there a dry run cannot
/// show what the run does.
const MOUNT_BEYOND: &[(&str, i32)] = &[
    (
        "td-mount --bind /etc /etc --options noexec --remount-ro /etc --remount-ro /no {T}/image true",
        0,
    ),
    (
        "td-mount --proc --dev --mask /proc/cmdline --mask /proc/irq --remount-ro /proc/sys {T}/image true",
        0,
    ),
    ("td-unshare -r -m -p td-mount --proc --dev --sys {T}/image true", 0),
    ("td-mount --sys --cgroup --options ro {T}/image true", 0),
    ("td-mount --devtmpfs --dir /etc/passwd {T}/image true", 125), // what it has made is removed
    ("td-mount --symlink /etc /etc2 --symlink /etc /etc2 {T}/image true", 0),
    ("td-unshare -r -m td-mount --bind {T}/noexec /var --options exec {T}/image true", 125),
    ("td-mount --proc --tmpfs /linked/a {T}/image true", 125),
    ("td-mount --tmpfs /run --tmpfs /var/run/x {T}/image true", 0),
    ("td-unshare -r -m -p -i -n td-mount --proc --dev --sys {T}/image true", 0),
];

/// What strace(1) prints is the C library's.
#[test]
#[cfg(target_env = "gnu")]
fn an_errno_has_the_name_and_the_words_of_the_c_library() {
    use std::ffi::{CStr, c_char, c_int};
    unsafe extern "C" {
        fn strerrorname_np(errno: c_int) -> *const c_char;
    }
    let mut known = 0;
    for number in 1..512 {
        let said = td::say::show::errno(syscalls::Errno::new(number));
        // SAFETY: they take a number, and return a string, or null for a name that is not known.
        let (name, words) = unsafe {
            let name = strerrorname_np(number);
            let words = CStr::from_ptr(libc::strerror(number)).to_str().expect("ASCII").to_string();
            ((!name.is_null()).then(|| CStr::from_ptr(name).to_str().expect("ASCII")), words)
        };
        match name {
            Some(name) => {
                known += 1;
                assert_eq!(said, format!("{name} ({words})"));
            }
            None => assert_eq!(said, format!("errno {number}")),
        }
    }
    assert!(known > 130, "{known}");
}

mod root {
    use super::common::house::{HOLD, House};
    use super::*;

    #[test]
    fn td_enter_traces_what_strace_sees() {
        traces_what_strace_sees(ENTER);
    }

    #[test]
    fn a_dry_run_of_td_enter_changes_nothing_and_prints_what_the_run_does() {
        dry_run_is_true(ENTER);
    }

    /// `{N}` is the directory of the programs.
    const BY_DESCRIPTOR: &[(&str, i32)] = &[
        ("/dev/fd/{N}/td-enter -r={T}/image /bin/true", 0),
        ("/dev/fd/{N}/td-enter td-unshare -u {T}/exit3", 3),
        ("/dev/fd/{N}/td-exec td-exec true", 0),
        ("/dev/fd/{N}/td-unshare -m td-pivot {T}/mounted td-exec td-init /bin/true", 0),
    ];

    #[test]
    fn a_tool_that_was_started_by_descriptor_traces_what_strace_sees() {
        private_mounts();
        let directory = fs::File::open(bin_dir()).expect("the programs");
        let fd = directory.as_raw_fd();
        for (line, status) in BY_DESCRIPTOR {
            let line = line.replace("{N}", &fd.to_string());
            let stays_open = |cmd: &mut Command| {
                before_exec(cmd, move || {
                    // SAFETY: numbers.
                    check(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }).map(drop)
                });
            };
            let (trace, processes) = run_traced_as(&line, *status, &place(), stays_open);
            compare(&line, &trace, &processes);
            assert!(trace.contains("\"/proc/self/exe\""), "{trace}");
        }
    }

    /// A process for td-enter, and its pid in the place of `{P}`.
    fn with_a_process(options: &[&str], test: impl Fn(&[(&str, i32)])) {
        private_mounts();
        let running = start(td("td-unshare", options).args(["sleep", "1000"]));
        let pid = wait_for("a process to enter", || {
            let pid = *children_of(running.pid()).first()?;
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            (name == "sleep\n").then(|| pid.to_string())
        });
        for (line, status) in ENTER_A_PROCESS {
            test(&[(&line.replace("{P}", &pid), *status)]);
        }
    }

    #[test]
    fn td_enter_traces_what_strace_sees_of_its_way_into_a_process() {
        with_a_process(&["-muinpCT"], traces_what_strace_sees);
        with_a_process(&["-rmuinpCT"], traces_what_strace_sees);
    }

    #[test]
    fn a_dry_run_of_td_enter_changes_nothing_and_prints_the_way_into_a_process() {
        with_a_process(&["-muinpCT"], dry_run_is_true);
        with_a_process(&["-rmuinpCT"], dry_run_is_true);
    }

    #[test]
    fn td_enter_of_a_container_traces_what_strace_sees_and_its_dry_run_prints_it() {
        let house = House::new();
        let held = house.hold(&[], HOLD);
        let file = house.state().join("containers").join(&house.name).join("pid");
        wait_for("the pid file", || file.exists().then_some(()));
        let line = format!("td-enter --state {} --name {}", text(&house.state()), house.name);
        traces_what_strace_sees(&[(&format!("{line} td-exec td-init sh -c false"), 1)]);
        dry_run_is_true(&[(&format!("{line} /bin/true"), 0)]);
        held.go_on().exits(0);
        house.nothing_is_left();
    }

    #[test]
    fn td_overlay_traces_what_strace_sees() {
        traces_what_strace_sees(OVERLAY);
        traces_what_strace_sees(OVERLAY_OF_A_USER);
    }

    #[test]
    fn a_dry_run_of_td_overlay_changes_nothing_and_prints_what_the_run_does() {
        dry_run_is_true(OVERLAY);
    }

    #[test]
    fn td_mount_traces_what_strace_sees() {
        traces_what_strace_sees(MOUNT);
        traces_what_strace_sees(MOUNT_BEYOND);
    }

    #[test]
    fn a_dry_run_of_td_mount_changes_nothing_and_prints_what_the_run_does() {
        dry_run_is_true(MOUNT);
    }

    #[test]
    fn td_unshare_traces_what_strace_sees() {
        traces_what_strace_sees(UNSHARE);
        traces_what_strace_sees(UNSHARE_FRESH);
        private_mounts();
        let _etc = give_ids("ranges:700000:65536\n");
        traces_what_strace_sees(UNSHARE_RANGES);
    }

    #[test]
    fn the_clone_in_place_of_a_refused_clone3_is_in_the_trace() {
        private_mounts();
        let cgroup = format!("/td-test-trace-{}", std::process::id());
        let line = |tool| format!("td-cgroup --leaf leaf --stay {cgroup} {tool}");
        let unshare = format!("td-unshare --into-cgroup {cgroup}/leaf --remove-cgroup {cgroup}");
        let lines = [
            ("td-unshare -muinpCUT true".into(), 0),
            ("td-unshare -r -p /nowhere".into(), 127),
            ("td-exec td-init true".into(), 0),
            ("td-enter --pid=/proc/self/ns/pid {T}/exit3".into(), 3),
            (line(&format!("{unshare} -p -C -r {{T}}/exit3")), 3),
        ];
        for (line, status) in lines {
            let no_clone3 = |cmd: &mut Command| {
                refuse_calls(cmd, &[libc::SYS_clone3], libc::ENOSYS);
            };
            let (trace, processes) = run_traced_as(&line, status, &place(), no_clone3);
            compare(&line, &trace, &processes);
            let of = |name: &str| processes.iter().flat_map(|p| &p.calls).any(|c| c.name == name);
            assert!(of("clone3") && of("clone"), "{line}");
        }
    }

    /// The lines of a trace: what separates the step from the looking, and the call before it.
    fn separators(line: &str, status: i32) -> Vec<(String, String)> {
        let output = run(&mut as_words(line)).exits(status).err();
        let lines: Vec<&str> = output.lines().collect();
        let found = lines.windows(2).filter(|pair| is_separator(pair[1]));
        found.map(|pair| (pair[0].to_string(), pair[1].to_string())).collect()
    }

    fn as_words(line: &str) -> Command {
        let mut words = line.split(' ');
        td(words.next().expect("a tool"), words)
    }

    #[test]
    fn a_line_separates_the_step_from_what_looks_for_the_cause() {
        private_mounts();
        let cause = |tool: &str| format!("--- {tool}: looking for the cause ---");
        for (line, tool, call, status) in [
            (
                "td-unshare -m td-mount --trace --bind /nowhere /a / true",
                "td-mount",
                "openat(",
                125,
            ),
            ("td-lock --trace /nowhere/x true", "td-lock", "openat(", 125),
            ("td-exec --trace nothing-of-this-name", "td-exec", "faccessat2(", 127),
            ("td-exec --trace /etc/passwd", "td-exec", "rt_sigaction(SIGPIPE", 126),
            ("td-enter --trace --net=/etc/passwd true", "td-enter", "setns(", 125),
        ] {
            let found = separators(line, status);
            assert_eq!(found.len(), 1, "{line}: {found:?}");
            assert!(found[0].0.starts_with(call), "{line}: {found:?}");
            assert_eq!(found[0].1, cause(tool), "{line}");
        }
        // Where a fallback follows, the step goes on.
        let dir = image_on_tmpfs("mnt");
        let line = format!("td-unshare -m td-pivot --trace {} true", text(&dir.join("img")));
        let found = separators(&line, 0);
        assert!(found.len() == 2 && found[0].0.starts_with("pivot_root("), "{found:?}");
        assert_eq!(found[0].1, cause("td-pivot"));
        assert_eq!(found[1].1, "--- td-pivot: back to the step ---");
        // A failure that is expected, or that calls for no look, has no such line.
        let line = format!("td-unshare -m td-pivot --trace {} true", text(&dir.join("mnt")));
        assert_eq!(separators(&line, 0), []);
        assert_eq!(separators("td-exec --trace --chdir=/ --user root true", 0), []);
    }

    #[test]
    fn td_cgroup_traces_what_strace_sees() {
        traces_what_strace_sees(CGROUP);
        traces_what_strace_sees(CGROUP_LEAF);
    }

    #[test]
    fn a_dry_run_of_td_cgroup_changes_nothing_and_prints_what_the_run_does() {
        dry_run_is_true(CGROUP);
    }

    #[test]
    fn a_dry_run_of_td_unshare_changes_nothing_and_prints_what_the_run_does() {
        dry_run_is_true(UNSHARE);
    }

    #[test]
    fn td_exec_traces_what_strace_sees() {
        traces_what_strace_sees(EXEC);
        traces_what_strace_sees(TTY);
    }

    #[test]
    fn a_dry_run_of_td_exec_changes_nothing_and_prints_what_the_run_does() {
        dry_run_is_true(EXEC);
    }

    #[test]
    fn td_exec_traces_what_strace_sees_of_a_terminal_and_its_dry_run_prints_it() {
        let terminal = Pty::new();
        let _open = terminal.open();
        let line = format!("td-init td-exec --ctty={} true", terminal.path);
        traces_what_strace_sees(&[(&line, 0)]);
        dry_run_is_true(&[(&line, 0)]);
    }

    #[test]
    fn td_exec_as_process_1_traces_what_strace_sees() {
        traces_what_strace_sees(ON_EXIT);
    }

    #[test]
    fn td_lock_traces_what_strace_sees() {
        traces_what_strace_sees(LOCK);
    }

    #[test]
    fn a_dry_run_of_td_lock_changes_nothing_and_prints_what_the_run_does() {
        dry_run_is_true(LOCK);
    }

    #[test]
    fn td_pivot_traces_what_strace_sees() {
        traces_what_strace_sees(PIVOT);
    }

    #[test]
    fn a_dry_run_of_td_pivot_changes_nothing_and_prints_what_the_run_does() {
        dry_run_is_true(PIVOT);
    }
}

/// A directory with what the command lines name, on a file system of its own.
fn place() -> TempDir {
    let dir = TempDir::new();
    mount(["-t", "tmpfs", "tmpfs", dir.path().to_str().expect("a plain path")]);
    image(&dir.dir("image"));
    symlink("/proc", dir.join("image/linked")).expect("a link");
    symlink("/run", dir.join("image/var/run")).expect("a link");
    let mounted = dir.dir("mounted");
    mount(["--bind".as_ref(), dir.join("image").as_os_str(), mounted.as_os_str()]);
    for name in ["lower1", "lower2", "upper", "work", "mnt", "empty", "tree/a/b", "tree/c/d/e"] {
        dir.dir(name);
    }
    dir.file("tree/a/file", "");
    mount([
        "-t",
        "tmpfs",
        "-o",
        "noexec",
        "tmpfs",
        dir.dir("noexec").to_str().expect("a plain path"),
    ]);
    dir.file("plain", "no program");
    dir.file("left", "2147483647\n");
    dir.program("script", "no first line");
    dir.program("exit3", "#!/bin/sh\nexit 3\n");
    let signals =
        "#!/bin/sh\ntrap 'exit 3' TERM\nkill -WINCH $PPID\nkill -TERM $PPID\nwhile :; do :; done\n";
    dir.program("signals", signals);
    dir.program("killed", "#!/bin/sh\nkill -KILL $$\n");
    dir
}

/// The command of a line, with options after the first word.
fn command(line: &str, options: &[&str], dir: &TempDir) -> Command {
    let line = line.replace("{T}", dir.path().to_str().expect("a plain path"));
    let name = dir.path().file_name().and_then(|name| name.to_str()).expect("a plain name");
    let line = line.replace("{N}", name);
    let mut words = line.split(' ');
    let mut cmd = td(words.next().expect("a tool"), options);
    cmd.args(words);
    cmd
}

/// Trace and strace are of one and the same run, which writes its trace to descriptor 99.
const FD: i32 = 99;

fn traces_what_strace_sees(lines: &[(&str, i32)]) {
    private_mounts();
    for &(line, status) in lines {
        let (trace, processes) = run_traced(line, status, &place());
        compare(line, &trace, &processes);
    }
}

/// Run a line with both; the trace, and strace's logs of the processes that are td's own.
fn run_traced(line: &str, status: i32, dir: &TempDir) -> (String, Vec<Process>) {
    run_traced_as(line, status, dir, |_| {})
}

/// The same under strace as `prepare` has made it.
fn run_traced_as(
    line: &str,
    status: i32,
    dir: &TempDir,
    prepare: impl Fn(&mut Command),
) -> (String, Vec<Process>) {
    let own = TempDir::new();
    let trace = own.file("trace", "");
    let mut cmd = under_strace(&[], &command(line, &["--trace=99"], dir), &own);
    let file = fs::File::options().append(true).open(&trace).expect("the trace");
    give_fd(&mut cmd, FD, file);
    prepare(&mut cmd);
    run(&mut cmd).exits(status);
    let mut processes = logs(&own);
    let first = processes.first().map(|process| process.pid);
    processes.retain(|process| Some(process.pid) == first || is_made_by_td(process));
    (fs::read_to_string(&trace).expect("the trace"), processes)
}

/// A process that td makes asks for its pid, and says so.
fn is_made_by_td(process: &Process) -> bool {
    let calls = process.calls.iter().filter(|call| !is_run_time(call));
    let mut calls = calls.filter(|call| !looks_for_room(call, FD));
    calls.next().is_some_and(|call| call.name == "getpid")
        && calls.next().is_some_and(|call| writes_to(call, FD))
}

fn compare(line: &str, trace: &str, processes: &[Process]) {
    let traced = traced(trace);
    let mut seen: BTreeMap<i32, Vec<Vec<Call>>> = BTreeMap::new();
    for (i, process) in processes.iter().enumerate() {
        let calls = comparable(process, FD);
        let pid = match i {
            0 => 0,
            _ => calls[0].result.parse().expect("getpid() returns a pid"),
        };
        seen.entry(pid).or_default().push(calls);
    }
    let pids = |keys: Vec<&i32>| format!("{keys:?}");
    let (ours, theirs) = (pids(traced.keys().collect()), pids(seen.keys().collect()));
    assert_eq!(ours, theirs, "{line}: the processes");
    for (pid, ours) in &traced {
        let what = format!("{line}: process {pid}");
        match &seen[pid][..] {
            [strace] => assert_same(&what, ours, strace),
            // Each is process 1 of a pid namespace of its own.
            several => assert_merged(&what, ours, several),
        }
    }
}

/// Fail unless the trace has the calls of all the processes, of each in its order.
fn assert_merged(what: &str, ours: &[Call], several: &[Vec<Call>]) {
    let lengths: Vec<usize> = several.iter().map(Vec::len).collect();
    assert_eq!(ours.len(), lengths.iter().sum(), "{what}: how many calls");
    // Each way to have come so far: how many calls of each process are behind it.
    let mut ways = vec![vec![0; several.len()]];
    for call in ours {
        let mut next = Vec::new();
        for way in &ways {
            for (i, process) in several.iter().enumerate() {
                if process.get(way[i]).is_some_and(|strace| same(call, strace)) {
                    let mut way = way.clone();
                    way[i] += 1;
                    next.push(way);
                }
            }
        }
        next.sort();
        next.dedup();
        assert!(!next.is_empty(), "{what}: no process has made this call next: {call}");
        ways = next;
    }
}

fn dry_run_is_true(lines: &[(&str, i32)]) {
    private_mounts();
    for &(line, status) in lines.iter().filter(|(_, status)| *status == 0) {
        let dir = place();
        let (output, processes) = strace(&[], &command(line, &["--dry-run"], &dir));
        let printed = dry(&output.ok().out());
        for call in processes.iter().flat_map(|p| comparable(p, libc::STDOUT_FILENO)) {
            let next_tool = executed(&call).is_some_and(|name| name.starts_with("td-"));
            let harmless = only_looks(&call) || next_tool || call.name == "exit_group";
            assert!(harmless, "{line}: a dry run must not do this: {call}");
        }
        // In the same directory, which the dry run has left as it was.
        let (_, processes) = run_traced(line, status, &dir);
        let comparable = |calls: Vec<Call>| -> Vec<Call> {
            // What a dry run cannot open, because it did not make it, it prints as well.
            let changes = calls.into_iter().filter(|call| !keeps_trace(call) && !only_looks(call));
            changes.map(as_printed).collect()
        };
        let (printed, done) = (comparable(printed), comparable(changes(&processes)));
        assert_same(&format!("{line}: dry run"), &printed, &done);
    }
}

/// What td changes on its way to PROG: where it clones, the way goes on in the child.
fn changes(processes: &[Process]) -> Vec<Call> {
    let mut changes = Vec::new();
    for process in processes {
        for call in comparable(process, FD) {
            let cloned =
                ["clone", "clone3"].contains(&&*call.name) && !call.result.starts_with('-');
            // What fails changes nothing.
            let failed = call.result.starts_with('-');
            if !failed && !only_looks(&call) && call.name != "exit_group" {
                changes.push(call);
            }
            if cloned {
                break;
            }
        }
    }
    changes
}

/// Does it leave the descriptor of the trace open for PROG?
fn keeps_trace(call: &Call) -> bool {
    call.name == "fcntl" && call.args.first() == Some(&FD.to_string())
}

/// Without what differs between a run and a dry run: results, where the environment lies, and the
/// options that are handed on.
fn as_printed(mut call: Call) -> Call {
    call.result.clear();
    if call.name == "socketpair" {
        call.args.truncate(3); // what the kernel writes
    }
    if call.name == "seccomp" {
        call.args.truncate(2); // where the program lies
    }
    for arg in &mut call.args {
        if arg.ends_with(" */") {
            *arg = arg.split_once(' ').expect("an address").1.to_string();
        }
        *arg = arg.replace(" \"--trace=99\",", "").replace(" \"--dry-run\",", "");
        *arg = without_pid(arg);
    }
    call
}

/// `"--trace=99,PID"` of a child.
fn without_pid(arg: &str) -> String {
    match arg.split_once(" \"--trace=99,") {
        Some((before, after)) => {
            before.to_string() + after.split_once(',').map_or("", |(_, rest)| rest)
        }
        None => arg.to_string(),
    }
}

/// A comparison that finds everything equal proves nothing.
mod comparison {
    use super::common::strace::*;

    #[test]
    fn flags_modes_and_sets_are_compared_by_value() {
        for (a, b) in [
            (
                r#"mount(NULL, "/", NULL, MS_REC|MS_PRIVATE, NULL) = 0"#,
                r#"mount(NULL, "/", NULL, 0x44000, NULL) = 0"#,
            ),
            (
                r#"mkdirat(AT_FDCWD, "a|MS_REC", 0755) = 0"#,
                r#"mkdirat(AT_FDCWD, "a|MS_REC", 493)   = 0"#,
            ),
            (
                "rt_sigprocmask(SIG_BLOCK, ~[KILL STOP], [HUP RT_1], 8) = 0",
                "rt_sigprocmask(0, ~[STOP KILL], [RT_1 HUP], 8) = 0 (x)",
            ),
            (
                "f({effective=1<<CAP_CHOWN|1<<CAP_KILL, b=8*1024}) = 1",
                "f({effective=0x21, b=8192 /* eight */}) = 1",
            ),
            (r#"open("a") = -1 ENOENT (No such file)"#, r#"open("a") = -1 ENOENT"#),
        ] {
            assert_eq!(call(a), call(b));
        }
    }

    #[test]
    fn what_differs_is_seen() {
        for (a, b) in [
            (r#"f("a", 1) = 0"#, r#"f("b", 1) = 0"#),
            (r#"f("a", 1) = 0"#, r#"f("a"..., 1) = 0"#),
            (r#"f("MS_REC", 1) = 0"#, r#"f("16384", 1) = 0"#),
            ("f(MS_REC) = 0", "f(MS_REC|MS_BIND) = 0"),
            ("f(MS_WHAT) = 0", "f(0) = 0"),
            ("f([]) = 0", "f(~[]) = 0"),
            ("f([]) = 0", "f(NULL) = 0"),
            ("f(1) = 0", "f(1) = -1 EPERM (No)"),
            ("f(1) = -1 ENOENT (No)", "f(1) = -1 EPERM (No)"),
            ("f({a=1, ...}) = 0", "f({a=2, b=1}) = 0"),
            ("f({a=1, ...}) = 0", "f({a=1}) = 0"),
            ("f({a=1, b=2}) = 0", "f({a=1, ...}) = 0"),
            ("f(1, 0x1 /* 3 vars */) = 0", "f(1, 0x1 /* 4 vars */) = 0"),
        ] {
            assert!(!same(&call(a), &call(b)), "{a} and {b}");
        }
        assert!(same(&call("f({a=1, ...}) = 0"), &call("f({a=1, b=2}) = 0")));
    }

    #[test]
    #[should_panic = "the trace is empty"]
    fn an_empty_trace_is_a_failure() {
        assert_same("x", &[], &[call("f() = 0")]);
    }

    #[test]
    #[should_panic = "call 1 differs"]
    fn a_missing_call_is_a_failure() {
        assert_same("x", &[call("f() = 0")], &[call("f() = 0"), call("g() = 0")]);
    }

    #[test]
    fn a_failed_execve_is_put_together() {
        let text =
            "execve(\"a\", []) = ?\n[pid 1] getpid() = 1\n<... execve resumed>) = -1 ENOENT (No)\n";
        let calls = traced(text);
        assert_eq!(calls[&0], [call("execve(\"a\", []) = -1 ENOENT")]);
        assert_eq!(calls[&1], [call("getpid() = 1")]);
    }
}
