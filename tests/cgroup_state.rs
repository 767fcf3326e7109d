//! td-cgroup: what processes are in is frozen, killed, waited for, removed; and limits hold.

mod common;

use std::ffi::CString;
use std::fs;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::cgroups::*;
use common::*;

/// A value that is not accepted ends it before it looks at anything: this needs no privilege.
#[test]
fn a_value_out_of_range_is_refused_with_the_range() {
    for (option, value, why) in [
        ("--memory-high", "1", "--memory-high 1: must be a SIZE from 64k to 8388607t"),
        ("--memory-low", "x", "--memory-low x: must be a SIZE from 64k to 8388607t, 0, or"),
        ("--cpu-weight", "0", "--cpu-weight 0: must be a number from 1 to 10000"),
        (
            "--io-max",
            "8:0",
            "--io-max 8:0: must be DEV,rbps=N,wbps=N,riops=N,wiops=N, at least one",
        ),
        ("--io-max", "8:0,rbps=0", "--io-max 8:0,rbps=0: must be DEV,"),
        ("--io-max", "8:0,rbps=8388608t", "--io-max 8:0,rbps=8388608t: must be DEV,"),
        ("--hugetlb", "2M,8388608t", "--hugetlb 2M,8388608t: must be SIZE,LIMIT"),
        ("--hugetlb", "2M,3M", "--hugetlb 2M,3M: must be SIZE,LIMIT, such as 2M,64M"),
        (
            "--move-to-leaf",
            "a/b",
            "--move-to-leaf a/b: must be a single name that is not part of PATH",
        ),
        (
            "--move-to-leaf",
            "..",
            "--move-to-leaf ..: must be a single name that is not part of PATH",
        ),
        ("--move-to-leaf", "td-test-refused", "must be a single name that is not part of PATH"),
    ] {
        let args = [option, value, "/td-test-refused", "echo", "run"];
        let output = run(&mut td("td-cgroup", args)).exits(125).says(why);
        assert_eq!(output.out(), "", "PROG must not run");
    }
    let output = run(&mut td("td-cgroup", ["--wait-empty=x", "/td-test-refused"])).exits(125);
    output.says("x: not a number of seconds");
    let output = run(&mut td("td-cgroup", ["--freeze", "/td-test-refused", "echo"])).exits(125);
    output.says("--stat exclude each other, and what is for a new cgroup: a limit, --leaf, PROG");
}

mod root {
    use super::*;

    /// A line of `--stat`, which may say what version 2 does not count there.
    #[track_caller]
    fn stat(name: &str, key: &str) -> String {
        let out = run(&mut cgroup(["--stat", name])).exits(0).out();
        let value = out.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {key}: {out}")).to_string()
    }

    #[track_caller]
    fn number(name: &str, key: &str) -> u64 {
        stat(name, key).parse().expect("a number")
    }

    /// td-cgroup with options in the cgroup `name`, running a script.
    fn shell(options: &[&str], name: &str, script: &str) -> Command {
        cgroup(options.iter().copied().chain([name, "sh", "-c", script]))
    }

    // ---- frozen ----

    /// What is known of mounts ends with each wait: during one, a look whether PROG is frozen finds out about them.
    #[test]
    fn a_cgroup_is_removed_where_it_is_mounted_by_the_time_that_prog_has_ended() {
        private_mounts();
        let (own, dir) = (Cgroup::new("moved"), TempDir::new());
        run(&mut cgroup([&own.0])).ok();
        assert!(!own.found().is_empty());
        let script = "td=$1 cgroup=$2
            $td --pid --into-cgroup $cgroup --remove-cgroup $cgroup sh -c 'trap : TERM; echo on >on; sleep 1; exit 3' &
            while ! [ -s on ]; do sleep 0.01; done
            kill -TERM $!; sleep 0.3
            mkdir cg; mount --move /sys/fs/cgroup cg
            status=0; wait $! || status=$?
            mount --move cg /sys/fs/cgroup; exit $status";
        let mut cmd = Command::new("sh");
        cmd.args(["-c", script, "sh"]).arg(bin("td-unshare")).arg(&own.0);
        let output = run(cmd.current_dir(dir.path())).exits(3);
        assert_eq!(output.err(), "", "{output}");
        assert!(own.found().is_empty(), "{:?}", own.found());
    }

    #[test]
    fn what_is_frozen_stops_and_what_is_thawed_goes_on() {
        let own = Cgroup::new("freeze");
        let running =
            start(&mut shell(&[], &own.below("a"), "while :; do echo x; sleep 0.01; done"));
        running.prints("x");
        for _ in 0..2 {
            run(&mut cgroup(["--freeze", &own.0])).ok();
            run(&mut cgroup(["--freeze", &own.0])).ok();
            assert_eq!(stat(&own.0, "frozen"), "1");
            std::thread::sleep(Duration::from_millis(100)); // what it printed before comes through
            let before = running.out();
            std::thread::sleep(Duration::from_millis(300));
            assert_eq!(running.out(), before);
            run(&mut cgroup(["--thaw", &own.0])).ok();
            assert_eq!(stat(&own.0, "frozen"), "0");
            wait_for("more of it", || (running.out() != before).then_some(()));
        }
    }

    #[test]
    fn what_is_empty_is_frozen_and_thawed_too() {
        let own = Cgroup::new("freezeempty");
        run(&mut cgroup([&own.0])).ok();
        for (option, frozen) in [("--freeze", "1"), ("--thaw", "0"), ("--thaw", "0")] {
            run(&mut cgroup([option, &own.0])).ok();
            assert_eq!(stat(&own.0, "frozen"), frozen, "{option}");
        }
    }

    #[test]
    fn what_is_below_a_frozen_cgroup_stays_frozen_and_that_one_is_named() {
        let own = Cgroup::new("frozenabove");
        let _running = sleeper(&own.below("a/b"));
        run(&mut cgroup(["--freeze", &own.0])).ok();
        run(&mut cgroup(["--freeze", &own.below("a/b")])).ok();
        let output = run(&mut cgroup(["--thaw", &own.below("a/b")])).exits(125);
        let output = output.says("/a/b stays frozen, because ");
        output.says("td-cgroup --thaw ").says(&own.0);
        run(&mut cgroup(["--thaw", &own.0])).ok();
        // As it was before it could not be thawed.
        assert_eq!(stat(&own.below("a/b"), "frozen"), "1");
        // On version 1 who is frozen does not die.
        run(&mut cgroup(["--thaw", &own.below("a/b")])).ok();
    }

    #[test]
    fn what_does_not_freeze_is_named_and_goes_on() {
        let own = Cgroup::new("freezefail");
        let running = sleeper(&own.0);
        let mut cmd = Command::new("strace");
        // The writes are not made, of which version 1 has one each time that it looks; and time passes at once.
        let is_v2 = points().iter().any(|point| point.1 == "cgroup2");
        let write = if is_v2 { "write:retval=6:when=1" } else { "write:retval=6:when=1..5001" };
        for inject in [write, "ppoll:retval=0:when=1..6000", "clock_nanosleep:retval=0"] {
            cmd.args(["-e", &format!("inject={inject}")]);
        }
        // Version 1 has thousands of looks: only these calls are stopped.
        cmd.args(["-f", "--seccomp-bpf", "-e", "trace=write,ppoll,clock_nanosleep"]);
        let output =
            run(cmd.args(["-o", "/dev/null"]).arg(bin("td-cgroup")).args(["--freeze", &own.0]));
        let says = format!("is not frozen after 10 seconds, its processes: {} (", running.pid());
        output.exits(125).says(&says);
        assert_eq!(stat(&own.0, "frozen"), "0");
    }

    #[test]
    fn a_process_does_not_freeze_kill_or_wait_for_itself() {
        let own = Cgroup::new("itself");
        let tool = bin("td-cgroup");
        let tool = tool.to_str().expect("a plain path");
        for option in ["--freeze", "--kill", "--wait-empty"] {
            let args = [&own.below("a"), "sh", "-c", "\"$@\"; exit", "sh", tool, option, &own.0];
            let output = run(&mut cgroup(args)).exits(125);
            output
                .says(": this process is in that cgroup or below it")
                .says("run td-cgroup from outside it");
        }
    }

    // ---- killed ----

    /// Lines of processes, each of which ends as soon as it has forked the next: who reads their pids is late.
    const RUNNERS: &str = "f() { (f) & }; for i in 1 2 3 4 5; do f; done; echo in; exec sleep 1000";

    #[test]
    fn kill_outruns_processes_that_fork_all_the_time() {
        let own = Cgroup::new("runners");
        let running = start(&mut shell(&["--pids", "60"], &own.below("a"), RUNNERS));
        running.prints("in");
        run(&mut cgroup(["--kill", &own.0])).ok();
        assert_eq!(stat(&own.0, "populated"), "0");
        assert_eq!(running.wait().signal, Some(libc::SIGKILL));
        run(&mut cgroup(["--remove", &own.0])).ok();
        assert!(own.is_gone());
    }

    #[test]
    fn kill_ends_what_is_frozen() {
        let own = Cgroup::new("killfrozen");
        let running = [sleeper(&own.0), sleeper(&own.below("a/b"))];
        run(&mut cgroup(["--freeze", &own.below("a/b")])).ok();
        run(&mut cgroup(["--freeze", &own.0])).ok();
        run(&mut cgroup(["--kill", &own.0])).ok();
        for process in running {
            assert_eq!(process.wait().signal, Some(libc::SIGKILL));
        }
    }

    // ---- gone ----

    #[test]
    fn wait_empty_returns_when_the_last_process_has_ended_and_looks_seldom() {
        let own = Cgroup::new("wait");
        let running = [sleeper(&own.0), sleeper(&own.below("a/b"))];
        let waiting = start(&mut cgroup(["--trace", "--wait-empty", &own.0]));
        let looked = |err: String| err.contains("cgroup.events") || err.contains("pidfd_open(");
        wait_for("its first look", || looked(waiting.err()).then_some(()));
        std::thread::sleep(Duration::from_secs(2));
        for process in &running {
            assert!(is_alive(waiting.pid()));
            process.kill(libc::SIGKILL);
        }
        let output = waiting.wait().exits(0);
        assert_eq!(stat(&own.0, "populated"), "0");
        let polls = output.err().matches("ppoll(").count();
        assert!(polls < 12, "{polls} in some 2 seconds: {output}");
        drop(running);
        run(&mut cgroup(["--wait-empty", &own.0])).ok();
    }

    #[test]
    fn wait_empty_ends_with_124_when_the_time_is_over_and_says_who_is_there() {
        let own = Cgroup::new("waitover");
        let running = sleeper(&own.below("a"));
        for seconds in ["0", "0.3", "1.2"] {
            let start = Instant::now();
            let output = run(&mut cgroup([format!("--wait-empty={seconds}"), own.0.clone()]));
            output.exits(124).says(" still has processes: ").says(&running.pid().to_string());
            let least = Duration::from_secs_f64(seconds.parse().expect("seconds"));
            assert!(start.elapsed() >= least, "{seconds} {:?}", start.elapsed());
        }
        let output = run(&mut cgroup(["--wait-empty=1", &own.below("none")])).exits(125);
        output.says("no hierarchy has this cgroup");
    }

    // ---- removed ----

    /// Make `depth` directories, each in the one before, with names of 200 bytes.
    fn dig(top: &Path, depth: usize) {
        let name = CString::new("d".repeat(200)).expect("a name");
        let open = |at: i32, path: &CString| {
            let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
            // SAFETY: a string that ends with a zero byte; the descriptor is nobody else's.
            unsafe {
                OwnedFd::from_raw_fd(check(libc::openat(at, path.as_ptr(), flags)).expect("open"))
            }
        };
        let top = CString::new(top.as_os_str().as_bytes()).expect("a path");
        let mut here = open(libc::AT_FDCWD, &top);
        for _ in 0..depth {
            // SAFETY: a string that ends with a zero byte.
            check(unsafe { libc::mkdirat(here.as_raw_fd(), name.as_ptr(), 0o755) }).expect("mkdir");
            here = open(here.as_raw_fd(), &name);
        }
    }

    #[test]
    fn remove_reaches_what_no_path_reaches_with_few_descriptors() {
        let own = Cgroup::new("deep");
        run(&mut cgroup(["--pids", "9", &own.below("a")])).ok();
        for directory in own.found() {
            dig(&directory, 40); // 8000 bytes, where a path has at most 4096
            dig(&directory.join("a"), 25);
        }
        assert_eq!(stat(&own.0, "populated"), "0");
        run(&mut cgroup(["--kill", &own.0])).ok();
        let remove = "ulimit -n 12; exec \"$@\"";
        let tool = bin("td-cgroup");
        let args = ["-c", remove, "sh", tool.to_str().expect("a plain path"), "--remove", &own.0];
        run(Command::new("sh").args(args)).ok();
        assert!(own.is_gone());
    }

    // ---- limits hold ----

    #[test]
    fn who_takes_more_memory_than_the_limit_is_killed_and_it_is_counted() {
        let own = Cgroup::new("oom");
        let script = "x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo survived";
        let options = ["-m", "24M", "--memory-swap", "24M"];
        let output = run(&mut shell(&options, &own.0, script));
        assert_eq!((output.signal, output.out().as_str()), (Some(libc::SIGKILL), ""), "{output}");
        assert!(number(&own.0, "memory.oom_kill") >= 1);
        assert!(number(&own.0, "memory.peak") <= 24 << 20);
    }

    #[test]
    fn who_forks_more_than_the_limit_is_refused_and_it_is_counted() {
        let own = Cgroup::new("pids");
        let script = "i=0; while [ $i -lt 30 ]; do i=$((i + 1)); sleep 1000 >/dev/null 2>&1 & done; echo all";
        let output = run(&mut shell(&["--pids", "8"], &own.0, script));
        assert!(output.code != Some(0) && output.out().is_empty(), "{output}");
        assert!((1..=8).contains(&number(&own.0, "pids.current")));
        assert!(number(&own.0, "pids.refused") >= 1);
        run(&mut cgroup(["--kill", &own.0])).ok();
    }

    /// A number in a file of keys and numbers.
    #[track_caller]
    fn count(name: &str, file: &str, key: &str) -> u64 {
        let text = read(name, file);
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {key}: {text}")).parse().expect("a number")
    }

    /// The processor time that a cgroup has used, in seconds.
    #[track_caller]
    fn time_used(name: &str) -> f64 {
        if counting_time().is_empty() {
            return count(name, "cpu.stat", "usage_usec") as f64 / 1e6;
        }
        read(name, "cpuacct.usage").parse::<f64>().expect("nanoseconds") / 1e9
    }

    #[test]
    fn busy_loops_get_the_time_of_half_a_processor_and_no_more() {
        let own = Cgroup::new("cpus");
        // On one processor, for the kernel looks at each only now and then; several and with all the weight there is,
        // so that they are not kept from it by others.
        let options = ["--cpus", "0.5", "--cpuset-cpus", "0", "--cpu-shares", "262144"];
        let options = [&options, counting_time()].concat();
        let script = "for i in 1 2 3; do while :; do :; done & done; echo in; while :; do :; done";
        let running = start(&mut shell(&options, &own.0, script));
        running.prints("in");
        wait_for("a time in which they have half of a processor", || {
            let (begin, before) = (Instant::now(), time_used(&own.0));
            // Much longer than a virtual machine is kept waiting at once: what it misses is counted as theirs, and they
            // make up for it later.
            std::thread::sleep(Duration::from_secs(5));
            let share = (time_used(&own.0) - before) / begin.elapsed().as_secs_f64();
            assert!(share <= 0.55, "they have {share} of a processor");
            (share >= 0.45).then_some(())
        });
        assert!(number(&own.0, "cpu.nr_throttled") >= 1);
        assert!(number(&own.0, "cpu.throttled_usec") > 0);
    }

    /// Two busy loops in two cgroups, each with its options, have the processor that they share in the proportion
    /// 1 : `expected`.
    #[track_caller]
    fn have_one_processor(label: &str, options: [[&str; 2]; 2], expected: f64) {
        let own = Cgroup::new(label);
        let names = [own.below("a"), own.below("b")];
        let begin = |(name, weight): (&String, [&str; 2])| {
            let options = [&weight, &["--cpuset-cpus", "0"], counting_time()].concat();
            let running = start(&mut shell(&options, name, "echo in; while :; do :; done"));
            running.prints("in");
            running
        };
        let _running: Vec<Running> = names.iter().zip(options).map(begin).collect();
        let mut seen = Vec::new();
        let found = within(LIMIT, || {
            let before = names.each_ref().map(|name| time_used(name));
            std::thread::sleep(Duration::from_secs(2));
            let after = names.each_ref().map(|name| time_used(name));
            let proportion = (after[1] - before[1]) / (after[0] - before[0]);
            seen.push(proportion);
            (expected * 0.9..=expected * 1.1).contains(&proportion).then_some(())
        });
        assert!(found.is_some(), "1 : {expected} was asked, and they have 1 : {seen:?}");
    }

    #[test]
    fn busy_loops_that_share_a_processor_have_it_by_their_shares() {
        // Version 2 has weights, to which shares are converted: 100 and 240.
        let is_v1 = points().iter().any(|point| point.2.iter().any(|option| option == "cpu"));
        let options = [["--cpu-shares", "1024"], ["--cpu-shares", "3072"]];
        have_one_processor("shares", options, if is_v1 { 3.0 } else { 2.4 });
    }

    #[test]
    fn a_cpuset_is_all_that_a_process_may_run_on() {
        let own = Cgroup::new("cpuset2");
        for prog in [&["cat", "/proc/self/status"][..], &["td-unshare", "cat", "/proc/self/status"]]
        {
            let args = ["--cpuset-cpus", "0", &own.0];
            let out = run(&mut cgroup(args.iter().chain(prog))).ok().out();
            assert!(out.contains("Cpus_allowed_list:\t0\n"), "{out}");
        }
    }

    /// A block device that a file lies on, or that can be read as it is: its number, and what is to be read.
    fn device(dir: &TempDir) -> (String, PathBuf) {
        let file = dir.file("data", vec![b'x'; 4 << 20]);
        let device = fs::metadata(&file).expect("the file").dev();
        let number = format!("{}:{}", libc::major(device), libc::minor(device));
        if Path::new("/sys/dev/block").join(&number).exists() {
            return (number, file);
        }
        let disks = fs::read_dir("/sys/block").expect("/sys").map(|e| e.expect("an entry").path());
        let found = disks.into_iter().find_map(|disk| {
            let number = fs::read_to_string(disk.join("dev")).ok()?;
            let path = Path::new("/dev").join(disk.file_name()?);
            let mut start = [0; 4096];
            fs::File::open(&path).ok()?.read_exact(&mut start).ok()?;
            Some((number.trim().to_string(), path))
        });
        found.expect("a block device is needed: modprobe brd")
    }

    /// The limits of a device, as either version says them.
    fn limits_of(name: &str, number: &str) -> Vec<String> {
        let files =
            ["io.max", "blkio.throttle.read_bps_device", "blkio.throttle.write_iops_device"];
        let texts = directories(name).into_iter().flat_map(|d| files.map(|file| d.join(file)));
        let texts = texts.filter_map(|file| fs::read_to_string(file).ok());
        let lines: String = texts.collect();
        lines.lines().filter_map(|l| Some(l.strip_prefix(number)?.trim().to_string())).collect()
    }

    #[test]
    fn a_device_is_read_no_faster_than_its_limit() {
        let own = Cgroup::new("iomax");
        let dir = TempDir::new();
        let (number, path) = device(&dir);
        let limit = format!("{number},rbps=1m,wiops=100");
        let begin = Instant::now();
        let from = format!("if={}", path.display());
        let dd = ["dd", &from, "of=/dev/null", "bs=256k", "count=10", "iflag=direct"];
        let output = run(&mut cgroup(["--io-max", &limit, &own.0].into_iter().chain(dd)));
        output.exits(0);
        assert!(begin.elapsed() > Duration::from_secs(1), "{:?}", begin.elapsed());
        let limits = limits_of(&own.0, &number).join(" ");
        assert!(limits.contains("1048576") && limits.contains("100"), "{limits}");
        // Another refused leaves it as it was; max takes it away.
        let limit = format!("{number},rbps=5,wiops=7");
        let args = ["--io-max", &limit, "--io-max", "8:255,rbps=1", &own.0, "echo", "run"];
        let output = run(&mut cgroup(args)).exits(125).says("ENODEV");
        let output = output.says("block device 8:255 does not exist");
        assert_eq!((output.out(), limits_of(&own.0, &number).join(" ")), (String::new(), limits));
        run(&mut cgroup(["--io-max", &format!("{number},rbps=max,wiops=max"), &own.0])).ok();
        assert_eq!(limits_of(&own.0, &number), [] as [&str; 0]);
        let out = run(&mut cgroup(["--stat", &own.0])).ok().out();
        assert!(out.contains("io.rbytes "), "{out}");
    }

    #[test]
    fn what_is_no_block_device_or_only_a_part_of_one_is_said() {
        private_mounts();
        let own = Cgroup::new("iodev");
        let output = run(&mut cgroup(["--io-max", "/dev/null,rbps=1", &own.0, "echo", "run"]));
        let output = output.exits(125).says("/dev/null is not a block device");
        assert_eq!(output.out(), "");
        let output = run(&mut cgroup(["--io-max", "/dev/none,rbps=1", &own.0])).exits(125);
        output.says("statx(").says("ENOENT");
        // What /sys says of a partition, of which the kernel says that there is no such device.
        mount(["-t", "tmpfs", "tmpfs", "/sys/dev/block"]);
        fs::create_dir_all("/sys/dev/block/8:255/partition").expect("a partition");
        let output = run(&mut cgroup(["--io-max", "8:255,rbps=1", &own.0])).exits(125);
        output.says("8:255 is a partition; limits apply to whole disks");
        run(Command::new("umount").arg("/sys/dev/block")).ok();
        assert!(own.is_gone());
    }

    #[test]
    fn huge_pages_are_limited_by_their_size_and_the_sizes_that_are_there_are_named() {
        let own = Cgroup::new("hugetlb");
        run(&mut cgroup(["--hugetlb", "2M,64M", &own.0])).ok();
        let files = ["hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes"];
        let read = |file: &str| {
            let mut found =
                directories(&own.0).into_iter().map(|d| fs::read_to_string(d.join(file)));
            found.find_map(Result::ok)
        };
        let value = files.iter().find_map(|file| read(file)).expect("a limit");
        assert_eq!(value, "67108864\n");
        let output = run(&mut cgroup(["--hugetlb", "4M,64M", &own.0])).exits(125).says("ENOENT");
        let output =
            output.says("there are no huge pages of this size, only").says(" hugetlb.2MB.");
        assert!(!output.err().contains("rsvd"), "{output}");
        drop(own);
        restore_hugetlb();
    }

    #[test]
    fn nothing_is_written_to_a_plain_file_that_lies_over_one_of_the_kernels() {
        private_mounts();
        let own = Cgroup::new("plain");
        run(&mut cgroup(["--pids", "7", &own.0])).ok();
        let dir = TempDir::new();
        let plain = dir.file("plain", "7\n");
        let mut found = own.found().into_iter();
        let limited = found.find(|path| path.join("pids.max").exists()).expect("a limit");
        // A process that enters a cgroup of version 1 writes to tasks.
        let entered = if limited.join("tasks").exists() { "tasks" } else { "cgroup.procs" };
        for file in ["pids.max", entered] {
            let over = limited.join(file);
            mount(["--bind", text(&plain), text(&over)]);
            let output = run(&mut cgroup(["--pids", "9", &own.0, "echo", "run"]));
            run(Command::new("umount").arg(&over)).ok();
            let says = format!("/{file}: another file system covers the cgroups here");
            assert_eq!(output.exits(125).says(&says).out(), "");
            assert_eq!(fs::read_to_string(&plain).expect("the file"), "7\n");
            assert_eq!(read(&own.0, "pids.max"), "7");
        }
    }

    /// Where version 1 is, alone or beside version 2.
    mod v1 {
        use super::*;

        #[test]
        fn limits_that_only_version_2_has_are_refused_by_name() {
            let own = Cgroup::new("onlyv2");
            let says = "memory is on version 1 here, which has no such limit";
            for option in ["--memory-high", "--memory-low"] {
                let output = run(&mut cgroup([option, "64M", &own.0, "echo", "run"])).exits(125);
                assert_eq!(output.says(&format!("{option}: {says}")).out(), "");
            }
            let output = run(&mut cgroup(["--cpu-weight", "50", &own.0])).exits(125);
            let output = output.says("--cpu-weight: cpu is on version 1 here");
            output.says("--cpu-shares N");
            assert!(own.is_gone());
        }

        #[test]
        fn a_cgroup_that_only_another_hierarchy_has_cannot_be_frozen() {
            let own = Cgroup::new("nofreezer");
            fs::create_dir(v1("pids").join(&own.0[1..])).expect("a cgroup made by hand");
            let output = run(&mut cgroup(["--freeze", &own.0])).exits(125);
            output.says(": this cgroup is neither in version 2 nor in the freezer of version 1");
        }

        #[test]
        fn kill_ends_what_is_in_one_hierarchy_only() {
            let own = Cgroup::new("oneonly");
            let directory = v1("pids").join(&own.0[1..]);
            fs::create_dir(&directory).expect("a cgroup made by hand");
            let running = start(Command::new("sleep").arg("1000"));
            fs::write(directory.join("tasks"), running.pid().to_string()).expect("moved");
            let waiting = start(&mut cgroup(["--wait-empty", &own.0]));
            run(&mut cgroup(["--kill", &own.0])).ok();
            assert_eq!(running.wait().signal, Some(libc::SIGKILL));
            waiting.wait().ok();
        }
    }

    /// Where version 2 is alone.
    mod v2 {
        use super::*;

        #[test]
        fn limits_read_back_from_the_kernel() {
            let own = Cgroup::new("limits2");
            let mut args = vec!["-m", "64M", "--memory-swap", "96M", "--memory-high", "48M"];
            args.extend(["--memory-low", "1M", "--cpus", "0.5", "--cpu-shares", "512"]);
            args.extend(["--cpuset-cpus", "0", "--cpuset-mems", "0", "--pids", "9"]);
            args.extend(["--hugetlb", "2M,2M", "--set", "cgroup.max.depth=3"]);
            args.extend(["--set", "memory.oom.group=1", &own.0]);
            run(&mut cgroup(args)).ok();
            for (file, value) in [
                ("memory.max", "67108864"),
                ("memory.swap.max", "33554432"),
                ("memory.high", "50331648"),
                ("memory.low", "1048576"),
                ("memory.oom.group", "1"),
                ("cpu.max", "50000 100000"),
                ("cpu.weight", "59"),
                ("cpuset.cpus", "0"),
                ("cpuset.mems", "0"),
                ("pids.max", "9"),
                ("hugetlb.2MB.max", "2097152"),
                ("cgroup.max.depth", "3"),
            ] {
                assert_eq!(read(&own.0, file), value, "{file}");
            }
            let mut args = vec!["-m", "-1", "--memory-swap", "-1", "--memory-high", "-1"];
            args.extend(["--memory-low", "0", "--cpus", "-1", "--cpu-weight", "10000", &own.0]);
            run(&mut cgroup(args)).ok();
            for (file, value) in [
                ("memory.max", "max"),
                ("memory.swap.max", "max"),
                ("memory.high", "max"),
                ("memory.low", "0"),
                ("cpu.max", "max 100000"),
                ("cpu.weight", "10000"),
            ] {
                assert_eq!(read(&own.0, file), value, "{file}");
            }
        }

        #[test]
        fn busy_loops_that_share_a_processor_have_it_by_their_weights() {
            let options = [["--cpu-weight", "100"], ["--cpu-weight", "300"]];
            have_one_processor("weights", options, 3.0);
        }

        #[test]
        fn who_takes_more_memory_than_is_high_is_slowed_and_not_killed() {
            let own = Cgroup::new("high");
            let script = "echo in; x=$(head -c 64000000 /dev/zero | tr '\\0' x); echo all";
            let options = ["--memory-high", "32M", "--set", "memory.swap.max=0"];
            let running = start(&mut shell(&options, &own.0, script));
            running.prints("in");
            let is_high = || count(&own.0, "memory.events", "high") > 0;
            wait_for("more memory than that", || is_high().then_some(()));
            // Then it gets little, and ever more slowly.
            for _ in 0..20 {
                std::thread::sleep(Duration::from_millis(100));
                let current = number(&own.0, "memory.current");
                assert!(is_alive(running.pid()) && current < 48 << 20, "{current}");
            }
            assert_eq!(running.out(), "in\n");
            assert_eq!(count(&own.0, "memory.events", "oom_kill"), 0);
        }

        /// A directory of files that are no memory before they are read: `/tmp` may be a tmpfs.
        struct OnDisk(PathBuf);

        impl OnDisk {
            #[track_caller]
            fn new(label: &str) -> OnDisk {
                let path = format!("/var/tmp/td-test-{label}-{}", std::process::id());
                fs::create_dir(&path).expect("a directory");
                OnDisk(path.into())
            }

            /// Read a new file of so many megabytes in a cgroup.
            #[track_caller]
            fn read(&self, megabytes: &str, options: &[&str], name: &str) {
                let file = self.0.join(megabytes);
                let (from, to) = (format!("if={}", text(&file)), format!("of={}", text(&file)));
                let count = format!("count={megabytes}");
                let write = ["if=/dev/zero", &to, &count, "bs=1M", "oflag=direct", "status=none"];
                run(Command::new("dd").args(write)).ok();
                let read = [name, "dd", &from, "of=/dev/null", "bs=1M", "status=none"];
                run(&mut cgroup(options.iter().chain(&read))).ok();
            }
        }

        impl Drop for OnDisk {
            fn drop(&mut self) {
                let _ = fs::remove_dir_all(&self.0);
            }
        }

        #[test]
        fn who_reads_more_than_memory_high_goes_on_and_has_no_more() {
            let (own, disk) = (Cgroup::new("highfile"), OnDisk::new("highfile"));
            disk.read("64", &["--memory-high", "32M"], &own.0);
            let peak = number(&own.0, "memory.peak");
            assert!((16 << 20..40 << 20).contains(&peak), "{peak}");
            assert!(count(&own.0, "memory.events", "high") > 0);
        }

        #[test]
        fn what_is_below_memory_low_stays_when_others_need_memory() {
            let (own, disk) = (Cgroup::new("low"), OnDisk::new("low"));
            run(&mut cgroup(["-m", "64M", &own.0])).ok();
            disk.read("15", &["--memory-low", "24M"], &own.below("kept"));
            disk.read("16", &[], &own.below("lost"));
            let used = || ["kept", "lost"].map(|name| number(&own.below(name), "memory.current"));
            let before = used();
            assert!(before[0] >= 15 << 20 && before[1] >= 16 << 20, "{before:?}");
            disk.read("256", &["--memory-low", "0"], &own.below("other"));
            let after = used();
            assert!(after[0] >= 15 << 20 && after[1] < 12 << 20, "{before:?} {after:?}");
        }

        /// The machine has more huge pages, until this is dropped.
        struct HugePages(u32);

        const HUGE_PAGES: &str = "/proc/sys/vm/nr_hugepages";

        impl HugePages {
            #[track_caller]
            fn more(count: u32) -> HugePages {
                let read = || fs::read_to_string(HUGE_PAGES).expect("huge pages");
                let number = || read().trim().parse::<u32>().expect("a number");
                let before = HugePages(number());
                fs::write(HUGE_PAGES, (before.0 + count).to_string()).expect("more of them");
                assert_eq!(number(), before.0 + count, "too little memory is in one piece");
                before
            }
        }

        impl Drop for HugePages {
            fn drop(&mut self) {
                let _ = fs::write(HUGE_PAGES, self.0.to_string());
            }
        }

        #[test]
        fn who_takes_more_huge_pages_than_the_limit_is_refused() {
            private_mounts();
            let own = Cgroup::new("hugepages");
            let _pages = HugePages::more(3);
            let dir = TempDir::new();
            mount(["-t", "hugetlbfs", "hugetlbfs", text(dir.path())]);
            let file = dir.join("file");
            let fill = |size| ["fallocate", "-l", size, text(&file)];
            let limited = |size| {
                run(&mut cgroup(["--hugetlb", "2M,4M", &own.0].into_iter().chain(fill(size))))
            };
            limited("6M").exits(1).says("fallocate failed: No space left on device");
            assert!(count(&own.0, "hugetlb.2MB.events", "max") > 0);
            fs::remove_file(&file).expect("what it could take");
            limited("4M").ok();
            assert_eq!(read(&own.0, "hugetlb.2MB.current"), "4194304");
            fs::remove_file(&file).expect("a file");
            // It was not for want of pages.
            run(Command::new("fallocate").args(&fill("6M")[1..])).ok();
        }

        #[test]
        fn nothing_is_written_where_another_file_system_lies_over_it() {
            private_mounts();
            let own = Cgroup::new("over2");
            let point = v2();
            mount(["-t", "tmpfs", "tmpfs", text(&point)]);
            let plain = ["cgroup.procs", "cgroup.subtree_control", "pids.max"];
            for file in plain {
                fs::write(point.join(file), "").expect("a plain file");
            }
            let output = run(&mut cgroup(["--pids", "9", &own.0, "echo", "run"]));
            let size = |file: &str| fs::metadata(point.join(file)).expect("a plain file").len();
            let (sizes, entries) =
                (plain.map(size), fs::read_dir(&point).expect("entries").count());
            run(Command::new("umount").arg(&point)).ok();
            let output = output.exits(125).says("another file system covers the cgroups here");
            assert_eq!((output.out(), sizes, entries), (String::new(), [0; 3], 3));
            assert!(own.is_gone());
        }

        #[test]
        fn stat_has_pressure_and_io_and_what_is_unlimited() {
            let own = Cgroup::new("stat2");
            let unlimited = format!("{},rbps=max", device(&TempDir::new()).0);
            run(&mut cgroup(["-m", "64M", "--cpus", "1", "--io-max", &unlimited, &own.0])).ok();
            for (key, value) in [
                ("memory.high", "max"),
                ("memory.low", "0"),
                ("memory.swap.max", "max"),
                ("cpu.nr_throttled", "0"),
                ("cpu.pressure.some.avg10", "0.00"),
                ("memory.pressure.full.total", "0"),
                ("io.pressure.some.avg300", "0.00"),
            ] {
                assert_eq!(stat(&own.0, key), value, "{key}");
            }
        }

        #[test]
        fn less_memory_than_is_used_is_refused_since_the_kernel_would_kill() {
            let own = Cgroup::new("used2");
            let script =
                "x=$(head -c 20000000 /dev/zero | tr '\\0' x); echo in; sleep 1000; echo $x";
            let running = start(&mut shell(&["-m", "256M"], &own.0, script));
            running.prints("in");
            let output = run(&mut cgroup(["-m", "1M", &own.0])).exits(125);
            output.says(" bytes, more than 1048576").says("its processes would be killed");
            assert_eq!(read(&own.0, "memory.max"), "268435456");
        }

        #[test]
        fn processors_that_the_cgroup_above_does_not_have_are_refused() {
            let own = Cgroup::new("cpuset3");
            run(&mut cgroup(["--cpuset-cpus", "0", &own.below("a")])).ok();
            let args = ["--cpuset-cpus", "0-1", &own.below("a/b"), "echo", "run"];
            let output = run(&mut cgroup(args)).exits(125);
            let output =
                output.says("0-1 was written to ").says("cpuset.cpus.effective, which now reads 0");
            assert_eq!(output.says("--cpuset-cpus takes a list").out(), "");
            assert!(!own.found()[0].join("a/b").exists());
        }

        #[test]
        fn processes_in_the_way_of_a_controller_are_named_and_stay() {
            let own = Cgroup::new("way2");
            let running = sleeper(&own.below("a"));
            for (limit, value) in [("--memory", "64M"), ("--pids", "9")] {
                let args = [limit, value, &own.below("a/b/c"), "echo", "run"];
                let output = run(&mut cgroup(args)).exits(125);
                let says = format!("has processes of its own: {} (", running.pid());
                let output = output.says("/a has processes of its own").says(&says);
                assert_eq!(output.says("--move-to-leaf NAME moves them").out(), "");
                assert!(!own.found()[0].join("a/b").exists());
                assert_eq!(read(&own.below("a"), "cgroup.type"), "domain");
            }
            let output = run(&mut cgroup(["--pids", "9", &own.below("a/b")])).exits(125);
            output.says("/a domain threaded, and cgroups below it invalid");
        }

        #[test]
        fn processes_in_the_way_are_moved_to_a_leaf_when_asked() {
            let own = Cgroup::new("moved");
            let running = [sleeper(&own.below("a")), sleeper(&own.below("a"))];
            let leaf = ["--move-to-leaf", "leaf"];
            let limits = ["--pids", "9", "-m", "64M"];
            let path = own.below("a/b");
            let args = leaf.iter().chain(&limits).copied().chain([path.as_str()]);
            let out = run(&mut cgroup(args.chain(["cat", "/proc/self/cgroup"]))).ok().out();
            assert_eq!(out, format!("0::{path}\n"));
            for process in &running {
                let there = fs::read_to_string(format!("/proc/{}/cgroup", process.pid()));
                assert_eq!(there.expect("alive"), format!("0::{}\n", own.below("a/leaf")));
            }
            assert_eq!(read(&path, "pids.max"), "9");
        }

        #[test]
        fn who_was_moved_to_a_leaf_is_moved_back_when_a_later_step_fails() {
            let own = Cgroup::new("movedback");
            let running = sleeper(&own.below("a"));
            let path = own.below("a/b");
            let limits = ["--pids", "9", "-m", "64M"];
            for (last, prog, code) in
                [("pids.max=x", "true", 125), ("pids.max=9", "nowhere-to-be-found", 127)]
            {
                let args = ["--move-to-leaf", "leaf", "--set", last];
                let args = args.iter().chain(&limits).copied().chain([path.as_str(), prog]);
                run(&mut cgroup(args)).exits(code);
                let there = fs::read_to_string(format!("/proc/{}/cgroup", running.pid()));
                assert_eq!(there.expect("alive"), format!("0::{}\n", own.below("a")));
                assert_eq!(read(&own.below("a"), "cgroup.subtree_control"), "");
                let left = fs::read_dir(own.found()[0].join("a")).expect("a cgroup");
                let left = left.filter(|e| e.as_ref().expect("an entry").path().is_dir()).count();
                assert_eq!(left, 0);
            }
        }

        /// A script that has the cgroup file system to itself, as in a container: `$@` is td-cgroup.
        fn in_namespace(own: &Cgroup, script: &str) -> Command {
            let script = format!(
                "umount -l /sys/fs/cgroup && mount -t cgroup2 c /sys/fs/cgroup && {script}"
            );
            let tool = bin("td-cgroup");
            let unshare = ["td-unshare", "--mount", "--cgroup", "--into-cgroup", &own.0];
            let args = ["--stay", &own.0].into_iter().chain(unshare);
            let mut cmd = cgroup(args);
            cmd.args(["sh", "-c", &script, "sh"]).arg(tool);
            cmd
        }

        #[test]
        fn in_a_cgroup_namespace_the_root_has_processes_which_are_moved_when_asked() {
            let own = Cgroup::new("namespace");
            let output = run(&mut in_namespace(&own, "\"$@\" -m 64M /x echo run")).exits(125);
            let output = output.says("has processes of its own: ");
            assert_eq!(output.out(), "");
            let script = "\"$@\" -m 64M --pids 9 --move-to-leaf init /x cat /proc/self/cgroup;
                cat /proc/self/cgroup /sys/fs/cgroup/x/memory.max; \"$@\" --remove /x";
            let out = run(&mut in_namespace(&own, script)).ok().out();
            assert_eq!(out, "0::/x\n0::/init\n67108864\n");
            // PROG is not found: back in the leaf, and from there where it was.
            drop(own);
            let own = Cgroup::new("namespace2");
            let script = "\"$@\" --pids 9 --move-to-leaf init x nowhere; cat /proc/self/cgroup; ls -d \
                /sys/fs/cgroup/*/ || exit 3";
            let output = run(&mut in_namespace(&own, script)).exits(3);
            assert_eq!(output.out(), "0::/\n", "{output}");
        }

        #[test]
        fn an_ordinary_user_limits_freezes_kills_and_removes_in_what_is_delegated() {
            let own = Cgroup::new("user2");
            let dir = tools();
            let tool = dir.join("td-cgroup");
            let (shell, below) = (own.below("shell"), own.below("y"));
            let script = "cat /proc/self/cgroup
                \"$1\" -m 64M --pids 9 --cpus 0.5 --cpuset-cpus 0 \"$2\" cat /proc/self/cgroup
                \"$1\" \"$2\" sleep 1000 & \"$1\" --freeze \"$2\"
                \"$1\" --stat \"$2\" | grep -e frozen -e memory.max; \"$1\" --kill \"$2\"
                \"$1\" --wait-empty=60 \"$2\" && \"$1\" --remove \"$2\" && \"$1\" -m 8M \"$3\" echo run";
            let mut args =
                vec!["--delegate", "65534:65534", "--pids", "40", "--leaf", "shell", &own.0];
            args.extend(AS_USER);
            let tool = tool.to_str().expect("a plain path");
            args.extend(["sh", "-c", script, "sh", tool, &below, &own.0]);
            let output = run(&mut cgroup(args)).exits(125);
            let expected = format!("0::{shell}\n0::{below}\nmemory.max 67108864\nfrozen 1\n");
            assert_eq!(output.out(), expected, "{output}");
            output.says("memory.max belongs to uid 0 (mode 0644); this process has uid 65534");
        }
    }
}
