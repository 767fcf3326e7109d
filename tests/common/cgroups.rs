//! What the tests of cgroups share: cgroups of a test's own, and where the machine has them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::*;

/// A name of a cgroup of this test's own. What is in it is killed, and it is removed from every
/// hierarchy, also when the test fails.
pub struct Cgroup(pub String);

impl Cgroup {
    /// A new one.
    #[track_caller]
    pub fn new(label: &str) -> Cgroup {
        must_be_root();
        let cgroup = Cgroup(format!("/td-test-{label}-{}", std::process::id()));
        assert_eq!(cgroup.found(), Vec::<PathBuf>::new(), "it is new");
        cgroup
    }

    /// The name of one below it.
    pub fn below(&self, name: &str) -> String {
        format!("{}/{name}", self.0)
    }

    /// Its directories.
    pub fn found(&self) -> Vec<PathBuf> {
        directories(&self.0).into_iter().filter(|path| path.is_dir()).collect()
    }

    /// Does no hierarchy have it?
    pub fn is_gone(&self) -> bool {
        self.found().is_empty()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for directory in self.found() {
            let path = directory.to_str().expect("a plain path").to_string();
            // What is being killed may still fork or hold the directory for a moment.
            let script = "find \"$1\" -depth -type d | while read -r d; do
                while read -r p; do kill -9 \"$p\"; done <\"$d/cgroup.procs\"; rmdir \"$d\"; done
                test ! -d \"$1\"";
            let gone = within(LIMIT, || {
                let mut cmd = Command::new("sh");
                let output = run(cmd.args(["-c", script, "sh", &path]));
                (output.code == Some(0)).then_some(())
            });
            assert!(gone.is_some() || std::thread::panicking(), "{path} is left");
        }
    }
}

/// The mount points of the hierarchies, each with its type and its options.
pub fn points() -> Vec<(PathBuf, String, Vec<String>)> {
    let mounts = host_mountinfo();
    let cgroups = mounts.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let (kind, rest) = after.split_once(' ')?;
        let options = rest.split(' ').nth(1)?.split(',').map(String::from).collect();
        let point = before.split(' ').nth(4)?.into();
        kind.starts_with("cgroup").then(|| (point, kind.to_string(), options))
    });
    cgroups.collect()
}

/// Where a cgroup would be in each.
pub fn directories(name: &str) -> Vec<PathBuf> {
    points().iter().map(|(point, ..)| point.join(name.trim_start_matches('/'))).collect()
}

/// The mount point of the version 1 hierarchy that has a controller.
pub fn v1(controller: &str) -> PathBuf {
    let all = points();
    let found = all.iter().find(|p| p.1 == "cgroup" && p.2.iter().any(|o| o == controller));
    found.unwrap_or_else(|| panic!("{controller} is not on version 1 here")).0.clone()
}

/// The mount point of version 2.
pub fn v2() -> PathBuf {
    let all = points();
    all.iter().find(|p| p.1 == "cgroup2").expect("version 2 is mounted here").0.clone()
}

/// What a file of a cgroup says, in the hierarchy that has it.
#[track_caller]
pub fn read(name: &str, file: &str) -> String {
    let found = directories(name).into_iter().find_map(|d| fs::read_to_string(d.join(file)).ok());
    found.unwrap_or_else(|| panic!("{name} has no {file}")).trim().to_string()
}

/// Options that have processor time counted: version 1 does that in a hierarchy of its own.
pub fn counting_time() -> &'static [&'static str] {
    let has = points().iter().any(|point| point.2.iter().any(|option| option == "cpuacct"));
    if has { &["--set", "cpuacct.usage=0"] } else { &[] }
}

/// td-cgroup.
pub fn cgroup<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    td("td-cgroup", args)
}

/// A process in a cgroup, until it is dropped.
pub fn sleeper(name: &str) -> Running {
    let running = start(&mut cgroup([name, "sh", "-c", "echo in; exec sleep 1000"]));
    running.prints("in");
    running
}

/// The tools in a place that an ordinary user may reach.
pub fn tools() -> TempDir {
    let dir = TempDir::new();
    for name in ["td-cgroup", "td-unshare"] {
        dir.program(name, fs::read(bin(name)).expect("the tool"));
    }
    chmod(dir.path(), 0o755);
    dir
}

pub const AS_USER: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

/// A tool as an ordinary user.
pub fn as_user<'a>(dir: &TempDir, tool: &str, args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut cmd = Command::new(AS_USER[0]);
    cmd.args(&AS_USER[1..]).arg(dir.join(tool)).args(args);
    cmd
}

/// hugetlb is the one controller of version 2 that a machine with both may have. It is turned off again at the root as
/// soon as no test of ours needs it.
pub fn restore_hugetlb() {
    for (point, ..) in points() {
        let _ = fs::write(point.join("cgroup.subtree_control"), "-hugetlb"); // another may use it
    }
}
