//! Containers that td-run makes, each in a state of its own.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A script that goes on when [`Held::go_on`] says so.
pub const HOLD: &str = "echo ready; read x || :";

/// td-run with these arguments.
pub fn td_run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    script(text(&bin("td-run")), args)
}

/// Who runs td-run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Who {
    Root,
    /// An ordinary user who has no id but his own.
    Nobody,
    /// An ordinary user with subordinate ids, whom `/etc` of the test's own mount namespace knows.
    Made,
}

impl Who {
    /// User and group.
    pub fn id(self) -> u32 {
        match self {
            Who::Root => 0,
            Who::Nobody => 65534,
            Who::Made => 4242,
        }
    }

    /// Have `cmd` run as this user, with nothing of root's.
    pub fn runs(self, cmd: &mut Command) {
        if self != Who::Root {
            cmd.uid(self.id()).gid(self.id());
        }
    }
}

/// A state of the test's own with an image, and a name that no other container has.
pub struct House {
    pub dir: TempDir,
    pub name: String,
    pub who: Who,
}

impl House {
    /// Root's, in a mount namespace of the test's own.
    #[track_caller]
    pub fn new() -> House {
        private_mounts();
        House::in_these_mounts()
    }

    /// One after the other, of root, of a user with one id and of a user with many.
    pub fn each() -> impl Iterator<Item = House> {
        [Who::Root, Who::Nobody, Who::Made].into_iter().map(House::of)
    }

    /// The same of ordinary users.
    pub fn each_user() -> impl Iterator<Item = House> {
        [Who::Nobody, Who::Made].into_iter().map(House::of)
    }

    /// In a mount namespace of the test's own, with all that is in it belonging to the user.
    #[track_caller]
    pub fn of(who: Who) -> House {
        let mut house = House::new();
        house.who = who;
        if who == Who::Root {
            return house;
        }
        // The checkout may be where an ordinary user does not come.
        chmod(house.dir.path(), 0o711);
        let checkout = house.dir.dir("td");
        mount([Path::new("--bind"), Path::new(env!("CARGO_MANIFEST_DIR")), &checkout]);
        if who == Who::Made {
            house.make_known();
        }
        house.give(&house.state());
        house
    }

    /// Let a file or a directory, with all it holds, belong to the user.
    #[track_caller]
    pub fn give(&self, path: &Path) {
        let owner = format!("{0}:{0}", self.who.id());
        run(Command::new("chown").args(["-R", &owner]).arg(path)).ok();
    }

    /// The command that runs `cmd` under strace as the user, who must be able to trace it: newuidmap(1)
    /// has no privilege then.
    pub fn under_strace(&self, options: &[&str], cmd: &Command, dir: &TempDir) -> Command {
        self.give(dir.path());
        let mut strace = strace::under_strace(options, cmd, dir);
        self.who.runs(&mut strace);
        strace
    }

    /// Where the user finds the program `name`.
    pub fn bin(&self, name: &str) -> PathBuf {
        match self.who {
            Who::Root => bin(name),
            _ => self.dir.join("td").join(below_checkout(&bin_dir())).join(name),
        }
    }

    /// Let `/etc` name the user, and say which ids are his.
    #[track_caller]
    fn make_known(&self) {
        let passwd = fs::read_to_string("/etc/passwd").expect("users");
        let id = self.who.id();
        let passwd = format!("{passwd}made:x:{id}:{id}::{}:/bin/sh\n", self.dir.path().display());
        let range = "made:100000:65536\n";
        for (name, text) in [("passwd", &*passwd), ("subuid", range), ("subgid", range)] {
            let file = self.dir.file(name, text);
            chmod(&file, 0o644);
            let place = Path::new("/etc").join(name);
            assert!(place.exists(), "{} is missing: install uidmap", place.display());
            mount([Path::new("--bind"), &file, &place]);
        }
    }

    /// In the mount namespace that the test has made.
    #[track_caller]
    pub fn in_these_mounts() -> House {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{}-{number}", std::process::id());
        let house = House { dir: TempDir::new(), name, who: Who::Root };
        image(&house.image());
        house
    }

    /// Its directory.
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The image that td-run takes without being told.
    pub fn image(&self) -> PathBuf {
        self.dir.join("state/images/default")
    }

    /// td-run in this state, with these options.
    pub fn run<S: AsRef<OsStr>>(&self, options: impl IntoIterator<Item = S>) -> Command {
        let mut cmd = match self.who {
            Who::Root => td_run(["--state"]),
            who => {
                let mut cmd = script(text(&self.bin("td-run")), ["--state"]);
                who.runs(&mut cmd);
                cmd.current_dir(self.dir.path());
                cmd
            }
        };
        cmd.arg(self.state()).args(options);
        cmd
    }

    /// A command in the container.
    pub fn container(&self, options: &[&str], command: &[&str]) -> Command {
        let mut cmd = self.run(options);
        cmd.arg(&self.name).args(command);
        cmd
    }

    /// A script in the container, run to its end.
    #[track_caller]
    pub fn sh(&self, options: &[&str], script: &str) -> Output {
        run(&mut self.container(options, &["sh", "-c", script]))
    }

    /// A script in the container that is at a `read`, having printed "ready".
    #[track_caller]
    pub fn hold(&self, options: &[&str], script: &str) -> Held {
        hold(&mut self.container(options, &["sh", "-c", script]))
    }

    /// The directories of the containers' cgroups, in every hierarchy.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        cgroups(&self.name)
    }

    /// The record of the container's cgroups.
    pub fn record(&self) -> PathBuf {
        self.state().join("containers").join(&self.name).join("cgroups")
    }

    /// The container's cgroup below the cgroup `parent`.
    pub fn below(&self, parent: &str) -> String {
        use std::os::unix::fs::MetadataExt;
        let state = fs::metadata(self.state()).expect("the state");
        let (major, minor) = (libc::major(state.dev()), libc::minor(state.dev()));
        format!("{parent}/c-{}-{major}.{minor}-{}", self.name, state.ino())
    }

    /// td-cgroup with this action on the container's cgroups.
    pub fn act(&self, action: &[&str]) -> Command {
        let mut cmd = td("td-cgroup", action);
        cmd.arg("--record").arg(self.record());
        cmd
    }

    /// What the state keeps of containers.
    pub fn containers(&self) -> Vec<PathBuf> {
        let list = fs::read_dir(self.state().join("containers"));
        list.into_iter().flatten().map(|entry| entry.expect("an entry").path()).collect()
    }

    /// The processes that are in the cgroup of the container or have its name among their arguments, zombies left out.
    pub fn processes(&self) -> Vec<i32> {
        let holds = |file: String, text: &str| {
            let text = text.as_bytes();
            fs::read(file).is_ok_and(|bytes| bytes.windows(text.len()).any(|part| part == text))
        };
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let ours = |pid: &i32| {
            holds(format!("/proc/{pid}/cgroup"), &format!("/c-{}-", self.name))
                || holds(format!("/proc/{pid}/cmdline"), &format!("{}\0", self.name))
        };
        pids.filter(ours).filter(|pid| is_alive(*pid)).collect()
    }

    /// No container has left anything.
    #[track_caller]
    pub fn nothing_is_left(&self) {
        assert_eq!(self.cgroups(), [] as [PathBuf; 0], "a cgroup is left");
        assert_eq!(self.containers(), [] as [PathBuf; 0], "a directory is left");
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let record = self.record();
        if record.exists() {
            for action in ["--kill", "--remove"] {
                run(td("td-cgroup", [action, "--record"]).arg(&record));
            }
        }
    }
}

/// A container that goes on when this is told to.
pub struct Held {
    pub running: Running,
    pub pipe: fs::File,
}

/// Start td-run with a script that prints "ready" and is at a `read` then.
#[track_caller]
pub fn hold(cmd: &mut Command) -> Held {
    let (reader, pipe) = pipe();
    let running = start_with(cmd.stdin(reader).stdout(Stdio::piped()).stderr(Stdio::piped()));
    wait_for("the container", || {
        assert!(is_alive(running.pid()), "{}{}", running.out(), running.err());
        running.out().contains("ready").then_some(())
    });
    Held { running, pipe }
}

/// Its reading and its writing end.
pub fn pipe() -> (OwnedFd, fs::File) {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors, which are nobody else's afterwards.
    unsafe {
        check(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC)).expect("a pipe");
        (OwnedFd::from_raw_fd(ends[0]), fs::File::from_raw_fd(ends[1]))
    }
}

impl Held {
    /// The waiting parent, PID 1 and COMMAND, each the only child of the one before.
    #[track_caller]
    pub fn processes(&self) -> [i32; 3] {
        let only = |pid| match children_of(pid)[..] {
            [child] => child,
            ref children => panic!("{pid} has the children {children:?}"),
        };
        let first = only(self.running.pid());
        [self.running.pid(), first, only(first)]
    }

    /// Its end, when the `read` has returned.
    #[track_caller]
    pub fn go_on(self) -> Output {
        drop(self.pipe);
        self.running.wait()
    }
}

/// The hierarchies of the machine, as `/proc/self/cgroup` lists them: the caller's cgroup in each.
pub fn hierarchies() -> Vec<String> {
    let own = fs::read_to_string("/proc/thread-self/cgroup").expect("our own cgroups");
    own.lines().map(String::from).collect()
}

/// The directories of a container's cgroups, wherever they lie in each hierarchy. Their names end with what is their
/// state's own: `-MAJOR.MINOR-INODE`.
pub fn cgroups(name: &str) -> Vec<PathBuf> {
    let mounts = own_mountinfo();
    let of_cgroups = mounts.lines().filter(|line| line.contains(" - cgroup"));
    let mut found = Vec::new();
    for point in of_cgroups.filter_map(|line| line.split(' ').nth(4)) {
        find(Path::new(point), name, &mut found);
    }
    found
}

fn find(directory: &Path, name: &str, found: &mut Vec<PathBuf>) {
    let is_it = |entry: &str| {
        let tag = entry.strip_prefix("c-").and_then(|rest| rest.strip_prefix(name));
        let fields = tag.and_then(|tag| tag.strip_prefix('-')?.split_once('-'));
        fields.is_some_and(|(device, inode)| {
            device.contains('.') && inode.bytes().all(|b| b.is_ascii_digit())
        })
    };
    // It may be removed meanwhile.
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if is_it(&entry.file_name().to_string_lossy()) {
                found.push(entry.path());
            }
            find(&entry.path(), name, found);
        }
    }
}

/// Every file below a directory: name, type, mode, size, times, and what it holds.
#[track_caller]
pub fn tree(dir: &Path) -> String {
    let find = |args: &[&str]| run(Command::new("find").arg(dir).args(args)).ok().out();
    let mut lines: Vec<String> = find(&["-printf", "%p %y %m %U:%G %s %T@ %C@ %l\n"])
        .lines()
        .chain(find(&["-type", "f", "-exec", "cksum", "{}", "+"]).lines())
        .map(String::from)
        .collect();
    lines.sort();
    lines.join("\n")
}

/// A path in the checkout, from there.
fn below_checkout(path: &Path) -> &Path {
    path.strip_prefix(env!("CARGO_MANIFEST_DIR")).expect("a path in the checkout")
}
