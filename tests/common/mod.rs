//! What the tests share: programs that run under a time limit, a mount namespace and a directory of a
//! test's own, an image, what the kernel says of a process, cgroups (module [`cgroups`]), hostile words (module
//! [`bytes`]), containers (module [`house`]), and strace (module [`strace`]).

// Each test program uses a part of it.
#![allow(dead_code)]

pub mod bytes;
pub mod caller;
pub mod cgroups;
pub mod house;
pub mod pty;
pub mod strace;

pub use caller::as_usual;

use std::collections::hash_map::RandomState;
use std::ffi::{CStr, CString, OsStr};
use std::fmt::Display;
use std::fs;
use std::hash::BuildHasher;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// What takes longer hangs, also where the processor is emulated.
pub const LIMIT: Duration = Duration::from_secs(300);

/// How long what a process leaves behind may go on printing.
const SOON: Duration = Duration::from_secs(5);

/// What a shell sees of its session: it leads it, and the foreground process group of its terminal; and
/// where its standard streams go.
pub const SESSION: &str = "read -r text </proc/$$/stat; set -- ${text##*) }; \
    echo $(($3 == $$)) $(($4 == $$)) $(($6 == $$)); readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2";

// ---- programs ----

/// The program `name`, built by scripts/build. TD_BIN names another directory than bin/.
pub fn bin(name: &str) -> PathBuf {
    let path = bin_dir().join(name);
    assert!(path.is_file(), "{} is missing: run scripts/build first", path.display());
    path
}

/// Where the programs are.
pub fn bin_dir() -> PathBuf {
    match std::env::var_os("TD_BIN") {
        Some(dir) => dir.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("bin"),
    }
}

/// Are the programs links to `td`, which has all tools?
pub fn is_one_program() -> bool {
    fs::read_link(bin("td-exec")).is_ok_and(|to| to == Path::new("td"))
}

/// Does td-run become `td`, which it has beside it?
pub fn by_td() -> bool {
    bin_dir().join("td").exists()
}

/// What is in bin/ must have been built of the sources that are there: no test runs an older build. (What TD_BIN names
/// is another's to build.)
#[track_caller]
pub fn is_built() {
    static SAID: OnceLock<String> = OnceLock::new();
    let said = SAID.get_or_init(|| {
        let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/build");
        let output = Command::new(build).arg("--check").stdin(Stdio::null()).output();
        let output = output.expect("scripts/build");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), said.is_empty(), "{said}");
        said
    });
    // One who has failed for this already cleans up.
    assert!(said.is_empty() || thread::panicking(), "{said}");
}

/// The programs there that are no scripts and have one tool, in order.
pub fn programs() -> Vec<String> {
    let entries = fs::read_dir(bin_dir()).expect("run scripts/build first");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF")))
        .map(|path| path.file_name().and_then(OsStr::to_str).expect("a plain name").to_string())
        .filter(|name| name != "td")
        .collect();
    names.sort();
    assert!(!names.is_empty(), "run scripts/build first");
    names
}

/// A command that runs the program `name` with `args`.
pub fn td<S: AsRef<std::ffi::OsStr>>(name: &str, args: impl IntoIterator<Item = S>) -> Command {
    let mut cmd = Command::new(bin(name));
    cmd.args(args);
    cmd
}

/// `sh -c SCRIPT`: the shell of this machine.
pub fn sh(script: &str) -> Command {
    let mut cmd = Command::new("/bin/sh");
    cmd.args(["-c", script]);
    cmd
}

/// A command that runs a script with `args`: by the shell that TD_SHELL names (`/bin/busybox sh`), else by that of
/// its first line. scripts/test runs the tests of the scripts once with each shell.
pub fn script<S: AsRef<OsStr>>(path: &str, args: impl IntoIterator<Item = S>) -> Command {
    let shell = std::env::var("TD_SHELL").unwrap_or_default();
    let mut words = shell.split_whitespace().chain([path]);
    let mut cmd = Command::new(words.next().expect("at least the script"));
    cmd.args(words).args(args);
    cmd
}

/// Is `name` the shell that runs the scripts? Some can do less than others.
pub fn shell_is(name: &str) -> bool {
    let shell = std::env::var("TD_SHELL").unwrap_or_default();
    shell.split_whitespace().next().is_some_and(|path| Path::new(path).ends_with(name))
}

/// Does that shell pass on these bytes? yash turns an argument that is not text into an empty one, and reports it.
pub fn shell_takes(bytes: &[u8]) -> bool {
    bytes.is_ascii() || !shell_is("yash")
}

/// The program and the arguments of a command, for one that runs them.
pub fn words(cmd: &Command) -> impl Iterator<Item = &OsStr> {
    std::iter::once(cmd.get_program()).chain(cmd.get_args())
}

/// What a program printed, and how it ended.
#[derive(Debug)]
pub struct Output {
    /// The command, for messages.
    pub command: String,
    /// The exit status; `None` where a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// It must have ended with this exit status.
    #[track_caller]
    pub fn exits(self, code: i32) -> Output {
        assert!(self.code == Some(code), "it should exit with {code}: {self:#}");
        self
    }

    /// It must have gone well: exit status 0, and nothing on standard error.
    #[track_caller]
    pub fn ok(self) -> Output {
        let output = self.exits(0);
        assert!(output.stderr.is_empty(), "nothing should be on stderr: {output:#}");
        output
    }

    /// Standard error must have `text` in it.
    #[track_caller]
    pub fn says(self, text: &str) -> Output {
        assert!(self.err().contains(text), "stderr should say {text:?}: {self:#}");
        self
    }
}

impl Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        writeln!(f, "{}", self.command)?;
        writeln!(f, "exit status {:?}, signal {:?}", self.code, self.signal)?;
        writeln!(f, "stdout: {}", self.out())?;
        write!(f, "stderr: {}", self.err())
    }
}

/// Run a command to its end, with nothing on its standard input. What hangs is killed, and the test
/// fails.
#[track_caller]
pub fn run(cmd: &mut Command) -> Output {
    start(cmd).wait()
}

/// Start a command as [`run`] does, and go on.
#[track_caller]
pub fn start(cmd: &mut Command) -> Running {
    start_with(cmd.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))
}

/// Start a command with the standard streams that it has been given; those that are pipes are read.
#[track_caller]
pub fn start_with(cmd: &mut Command) -> Running {
    is_built();
    as_usual();
    let command: String = format!("{cmd:?}").chars().take(2000).collect();
    let _writes_no_program = SPAWN.lock();
    let mut child = cmd.spawn().unwrap_or_else(|e| panic!("{command}: {e}"));
    let stdout = Reader::new(child.stdout.take());
    let stderr = Reader::new(child.stderr.take());
    Running { command, child, stdout, stderr, ended: false }
}

/// A child that is being spawned holds our descriptors until it executes its program. If one of them is
/// open for writing to a program, that cannot be executed meanwhile (ETXTBSY).
static SPAWN: Mutex<()> = Mutex::new(());

/// A program that runs. It is killed when this is dropped.
pub struct Running {
    command: String,
    child: Child,
    stdout: Reader,
    stderr: Reader,
    ended: bool,
}

impl Running {
    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Send it a signal.
    pub fn kill(&self, signal: i32) {
        kill(self.pid(), signal);
    }

    /// What it has printed on standard output so far.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout.so_far()).into_owned()
    }

    /// What it has printed on standard error so far.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr.so_far()).into_owned()
    }

    /// Wait until it has printed `text` on standard output; return all of that.
    #[track_caller]
    pub fn prints(&self, text: &str) -> String {
        let printed = || Some(self.out()).filter(|out| out.contains(text));
        // What it leaves behind may print, but not for ever.
        let after = || ended_within(self.pid(), Duration::ZERO).then(|| within(SOON, printed));
        within(LIMIT, || printed().map(Some).or_else(after)).flatten().unwrap_or_else(|| {
            let (what, err) = (&self.command, self.err());
            panic!("waited in vain for {what} to print {text:?}\nstderr: {err}")
        })
    }

    /// Wait for its end.
    #[track_caller]
    pub fn wait(mut self) -> Output {
        if !ended_within(self.pid(), LIMIT) {
            self.stop();
            panic!(
                "it hangs, and was killed: {}\nstdout: {}\nstderr: {}",
                self.command,
                self.out(),
                self.err()
            );
        }
        let status = self.child.wait().expect("wait");
        self.ended = true;
        // A process that it left behind may hold the pipes open.
        let (stdout, stderr) = (self.stdout.all(), self.stderr.all());
        let command = self.command.clone();
        Output { command, code: status.code(), signal: status.signal(), stdout, stderr }
    }

    fn stop(&mut self) {
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
            self.ended = true;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A thread that reads a pipe to its end.
struct Reader {
    bytes: Arc<Mutex<Vec<u8>>>,
    end: Receiver<()>,
    /// What proc(5) calls the pipe.
    name: PathBuf,
}

impl Reader {
    fn new(pipe: Option<impl Read + AsRawFd + Send + 'static>) -> Reader {
        let link = |pipe| fs::read_link(format!("/proc/self/fd/{}", AsRawFd::as_raw_fd(pipe)));
        let name = pipe.as_ref().and_then(|pipe| link(pipe).ok()).unwrap_or_default();
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (ended, end) = mpsc::channel();
        let into = Arc::clone(&bytes);
        thread::spawn(move || {
            let Some(mut pipe) = pipe else { return };
            let mut buffer = [0; 65536];
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                into.lock().expect("no reader panics").extend(&buffer[..n]);
            }
            drop(ended);
        });
        Reader { bytes, end, name }
    }

    fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().expect("no reader panics").clone()
    }

    #[track_caller]
    fn all(&self) -> Vec<u8> {
        if self.end.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
            panic!("a pipe is held open by {:?}: {:?}", self.holders(), self.so_far());
        }
        self.so_far()
    }

    /// The pids and command lines of those who have the pipe open.
    fn holders(&self) -> Vec<(PathBuf, String)> {
        let entries = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten();
        let is_it = |fd: fs::DirEntry| fs::read_link(fd.path()).is_ok_and(|to| to == self.name);
        entries("/proc".into())
            .map(|process| process.path())
            .filter(|process| entries(process.join("fd")).any(is_it))
            .map(|process| (fs::read(process.join("cmdline")).unwrap_or_default(), process))
            .map(|(line, process)| (process, String::from_utf8_lossy(&line).into_owned()))
            .collect()
    }
}

/// Is the process at its end (it need not be reaped) before the time is over?
pub fn ended_within(pid: i32, time: Duration) -> bool {
    // SAFETY: it takes numbers and returns a descriptor that is nobody else's.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as i32;
    if fd < 0 {
        return true; // it was not ours, and has been reaped
    }
    // SAFETY: see above.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd that outlives the call.
    unsafe { libc::poll(&mut poll, 1, time.as_millis() as i32) == 1 }
}

/// Wait until `look` finds something.
#[track_caller]
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(LIMIT, look).unwrap_or_else(|| panic!("waited in vain for {what}"))
}

/// What `look` finds before the time is over.
pub fn within<T>(time: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if start.elapsed() > time {
            return None;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Send a signal to a process, or with a negative number to a process group.
#[track_caller]
pub fn kill(pid: i32, signal: i32) {
    assert!(!(-1..=1).contains(&pid), "kill({pid})");
    // SAFETY: two numbers.
    let result = unsafe { libc::kill(pid, signal) };
    assert_eq!(result, 0, "kill({pid}, {signal}): {}", io::Error::last_os_error());
}

/// Let the child process do something before it executes the program. Only async-signal-safe calls:
/// no allocation, no lock.
pub fn before_exec(cmd: &mut Command, act: impl FnMut() -> io::Result<()> + Send + Sync + 'static) {
    // SAFETY: the closures of the tests make system calls only.
    unsafe {
        cmd.pre_exec(act);
    }
}

/// Let a command have `file` as its descriptor `fd`.
pub fn give_fd(cmd: &mut Command, fd: i32, file: impl AsRawFd + Send + Sync + 'static) {
    before_exec(cmd, move || {
        // SAFETY: numbers. By chance it has that number here; then dup2(2) would leave it close-on-exec.
        check(unsafe {
            match file.as_raw_fd() {
                same if same == fd => libc::fcntl(fd, libc::F_SETFD, 0),
                other => libc::dup2(other, fd),
            }
        })
        .map(drop)
    });
}

/// Let the system calls `numbers` fail with `errno` in the program, and in all that it starts. Only who is not root
/// has no_new_privs then.
pub fn refuse_calls(cmd: &mut Command, numbers: &'static [libc::c_long], errno: i32) {
    let code = |class: u32, k: u32, jt: usize| libc::sock_filter {
        code: class as u16,
        jt: jt as u8,
        jf: 0,
        k,
    };
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let mut program = vec![code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)]; // the number of the call
    let tests = numbers.iter().enumerate();
    program.extend(tests.map(|(i, number)| code(equal, *number as u32, numbers.len() - i)));
    let answer = libc::BPF_RET | libc::BPF_K;
    program.push(code(answer, libc::SECCOMP_RET_ALLOW, 0));
    program.push(code(answer, libc::SECCOMP_RET_ERRNO | errno as u32, 0));
    before_exec(cmd, move || {
        let list =
            libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
        // SAFETY: numbers; a program that outlives the call.
        let load =
            || unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &list) };
        if load() < 0 {
            // SAFETY: numbers.
            check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
            check(load())?;
        }
        Ok(())
    });
}

/// Numbers that look random: another sequence in each run, for what is found by chance is to be found some day, and the
/// one of `TD_SEED` where that is set. The output of a test that fails says which it was.
pub struct Chance(u64);

impl Chance {
    /// A new sequence.
    #[track_caller]
    pub fn new() -> Chance {
        let seed = match std::env::var("TD_SEED") {
            Ok(seed) => seed.parse().expect("TD_SEED is a number"),
            Err(_) => RandomState::new().hash_one(0),
        };
        println!("TD_SEED={seed}");
        Chance(seed)
    }

    /// The next number, from 0 on and below this.
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % below
    }

    /// Sleep for less than so many microseconds.
    pub fn sleep(&mut self, below: u64) {
        std::thread::sleep(Duration::from_micros(self.below(below)));
    }
}

/// Start a command with a pipe as its descriptor `fd`, and something to read on its standard input as long as the
/// returned end is open. What is read from it, up to the end of file.
pub fn told_on(fd: i32, mut cmd: Command) -> (String, Running, fs::File) {
    let (reader, writer) = house::pipe();
    give_fd(&mut cmd, fd, writer);
    let (input, held) = house::pipe();
    cmd.stdin(Stdio::from(input)).stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = start_with(&mut cmd);
    drop(cmd); // with our writing end
    let mut text = String::new();
    fs::File::from(reader).read_to_string(&mut text).expect("a pipe");
    (text, running, held)
}

/// The writing end of a pipe that nobody reads.
pub fn broken_pipe() -> OwnedFd {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors, which are nobody else's afterwards.
    unsafe {
        check(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC)).expect("a pipe");
        drop(OwnedFd::from_raw_fd(ends[0]));
        OwnedFd::from_raw_fd(ends[1])
    }
}

/// The result of a call of the C library.
pub fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

// ---- what the kernel says ----

/// The namespace `kind` (`mnt`, `pid` ...) of a process: `mnt:[4026531841]`. `pid` may be a word:
/// `thread-self` is the calling thread.
#[track_caller]
pub fn ns(pid: impl Display, kind: &str) -> String {
    let path = format!("/proc/{pid}/ns/{kind}");
    let link = fs::read_link(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    link.to_string_lossy().into_owned()
}

/// The mounts that a process sees.
#[track_caller]
pub fn mountinfo_of(pid: impl Display) -> String {
    let path = format!("/proc/{pid}/mountinfo");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    // The only cgroup2 of the machine is used by a test of td-mount at this time.
    text.replace(",nsdelegate", "")
}

/// The mounts of the machine: those of the main thread, which enters no namespace.
pub fn host_mountinfo() -> String {
    mountinfo_of("self")
}

/// The mounts of the calling thread and of what it starts.
pub fn own_mountinfo() -> String {
    mountinfo_of("thread-self")
}

/// A line of `/proc/PID/status`, without its name: `field(pid, "CapEff")`.
#[track_caller]
pub fn status_of(pid: impl Display, field: &str) -> String {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let line = text.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{path} has no {field}")).trim().to_string()
}

/// When a process started, in clock ticks: field 22 of proc_pid_stat(5).
#[track_caller]
pub fn start_of(pid: i32) -> u64 {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let fields = stat.rsplit(") ").next().expect("fields behind the name");
    fields.split(' ').nth(22 - 3).expect("22 fields").parse().expect("a number")
}

/// What a pid file says of a process.
pub fn pid_text(pid: i32) -> String {
    format!("{pid}\nstart={}\n", start_of(pid))
}

/// Is this Linux MAJOR.MINOR or newer?
pub fn linux_is(major: u32, minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
    (numbers.next().expect("major"), numbers.next().expect("minor")) >= (major, minor)
}

/// The children of a process.
pub fn children_of(pid: i32) -> Vec<i32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect()
}

/// Does the process exist, and is it not a zombie?
pub fn is_alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status"))
        .is_ok_and(|text| !text.contains("\nState:\tZ") && !text.contains("\nState:\tX"))
}

/// Is it root, as the tests in `mod root` must be?
#[track_caller]
pub fn must_be_root() {
    // SAFETY: it takes and changes nothing.
    assert_eq!(unsafe { libc::geteuid() }, 0, "this test needs root: say --skip root::");
}

// ---- mounts and directories ----

/// Put the calling thread into a mount namespace of its own, in which nothing propagates. What it
/// starts is in it as well.
#[track_caller]
pub fn private_mounts() {
    as_usual();
    must_be_root();
    // SAFETY: numbers, strings that end with a zero byte, and null pointers, as mount(2) allows.
    let done = unsafe {
        check(libc::unshare(libc::CLONE_NEWNS)).and_then(|_| {
            let flags = libc::MS_REC | libc::MS_PRIVATE;
            let null = std::ptr::null();
            check(libc::mount(null, c"/".as_ptr(), null, flags, null.cast()))
        })
    };
    done.unwrap_or_else(|e| panic!("no mount namespace of the test's own: {e}"));
    assert_ne!(ns("thread-self", "mnt"), ns("self", "mnt"), "this is the main thread");
}

/// `mount ARG...`: the mount(8) of this machine, in the namespace of the calling thread, which must be
/// its own.
#[track_caller]
pub fn mount<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) {
    assert_ne!(ns("thread-self", "mnt"), ns("self", "mnt"), "private_mounts() comes first");
    run(Command::new("mount").args(args)).exits(0);
}

/// The id of a user, `ranges`, to whom root has given ids: see [`give_ids`].
pub const RANGES: u32 = 54321;

/// Create such a user, in the mount namespace of the calling thread: an `/etc` in which `lines` are subuid(5) and
/// subgid(5), for as long as the directory is there that is returned.
#[track_caller]
pub fn give_ids(lines: &str) -> TempDir {
    let dir = TempDir::new();
    mount(["-t", "tmpfs", "tmpfs", dir.path().to_str().expect("a plain path")]);
    chmod(dir.path(), 0o755);
    dir.dir("etc");
    let passwd = fs::read_to_string("/etc/passwd").expect("passwd");
    dir.file("etc/passwd", format!("{passwd}ranges:x:{RANGES}:{RANGES}::/:/bin/sh\n"));
    dir.file("etc/subuid", lines);
    dir.file("etc/subgid", lines);
    let lower = format!("lowerdir={}:/etc", dir.join("etc").display());
    mount(["-t", "overlay", "-o", &lower, "overlay", "/etc"]);
    dir
}

/// A directory, removed with all that is in it.
pub struct TempDir(PathBuf);

impl TempDir {
    /// A new one, which only we may enter.
    #[track_caller]
    pub fn new() -> TempDir {
        as_usual();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path =
                std::env::temp_dir().join(format!("td-test-{}-{number}", std::process::id()));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                // A run that was killed had the same pid.
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                made => return TempDir(made.map(|()| path).expect("a temporary directory")),
            }
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// A new directory in it, with those above it.
    #[track_caller]
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }

    /// A new file in it.
    #[track_caller]
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }

    /// A new program in it.
    #[track_caller]
    pub fn program(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let _spawns_nothing = SPAWN.lock();
        let path = self.file(name, text);
        chmod(&path, 0o755);
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // What a test has mounted here is in the thread's own namespace; the topmost mount goes first.
        let mounts = own_mountinfo();
        let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(4));
        for path in points.filter(|path| Path::new(path).starts_with(&self.0)) {
            run(Command::new("umount").args(["-l", path]));
        }
        // rm goes as deep as a tree may be.
        run(Command::new("rm").arg("-rf").arg(&self.0));
    }
}

/// Set the permission bits.
#[track_caller]
pub fn chmod(path: impl AsRef<Path>, mode: u32) {
    let path = path.as_ref();
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// Set an extended attribute of a file.
#[track_caller]
pub fn set_xattr(path: &Path, name: &CStr, value: &[u8]) {
    let file = CString::new(path.as_os_str().as_bytes()).expect("a path");
    // SAFETY: two strings, and so many bytes, which outlive the call.
    let result = unsafe {
        libc::setxattr(file.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    };
    check(result).unwrap_or_else(|e| panic!("{name:?} of {}: {e}", path.display()));
}

/// A node for a block device of this machine that can be opened.
#[track_caller]
pub fn block_device(dir: &TempDir) -> PathBuf {
    let node = dir.join("device");
    for entry in fs::read_dir("/sys/block").expect("/sys").flatten() {
        let of_the_machine = Path::new("/dev").join(entry.file_name());
        let numbers = fs::read_to_string(entry.path().join("dev")).expect("its number");
        let (major, minor) = numbers.trim().split_once(':').expect("two numbers");
        run(Command::new("mknod").arg(&node).args(["b", major, minor])).ok();
        // If devices do not work in the directory, as on a mount with nodev, use those in /dev.
        let usable = [&node, &of_the_machine].into_iter().find(|d| fs::File::open(d).is_ok());
        if let Some(device) = usable {
            return device.clone();
        }
        fs::remove_file(&node).expect("a node");
    }
    panic!("no block device of /sys/block can be opened");
}

/// A path as a word of a command line.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// A directory on a tmpfs, in a mount namespace of the test's own: with an image in `img`, which is no mount
/// point, and the same image mounted on `mounted`.
#[track_caller]
pub fn image_on_tmpfs(mounted: &str) -> TempDir {
    private_mounts();
    let dir = TempDir::new();
    mount(["-t", "tmpfs", "-o", "mode=755", "tmpfs", text(dir.path())]);
    chmod(dir.path(), 0o755);
    image(&dir.dir("img"));
    mount(["--bind", text(&dir.join("img")), text(&dir.dir(mounted))]);
    dir
}

/// Make the new directory `root` an image: busybox under all its names, and the directories that a
/// container mounts on.
#[track_caller]
pub fn image(root: &Path) {
    for dir in ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var"] {
        fs::create_dir_all(root.join(dir)).unwrap_or_else(|e| panic!("{}: {e}", root.display()));
    }
    chmod(root, 0o755);
    chmod(root.join("tmp"), 0o1777);
    chmod(root.join("root"), 0o700);
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("passwd");
    fs::write(root.join("etc/group"), "root:x:0:\n").expect("group");
    {
        let _spawns_nothing = SPAWN.lock();
        fs::copy(busybox(), root.join("bin/busybox")).expect("a copy of busybox");
    }
    let applets = run(Command::new(busybox()).arg("--list")).exits(0).out();
    for applet in applets.lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(applet)).expect("a link to busybox");
    }
}

/// The static busybox of this machine.
#[track_caller]
pub fn busybox() -> PathBuf {
    let found = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| is_static(path));
    found.expect("install busybox-static: a static busybox is needed").into()
}

/// Has an ELF program no loader (no PT_INTERP in its program headers)?
pub fn is_static(path: impl AsRef<Path>) -> bool {
    let Ok(bytes) = fs::read(path) else { return false };
    let number = |at: usize, size: usize| {
        bytes[at..at + size].iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte))
    };
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    bytes.starts_with(b"\x7fELF") && (0..count).all(|i| number(table + i * size, 4) != 3)
}

/// The head of an ELF program of 64 bits: for this machine or another, with or without a loader.
pub fn elf(machine: Option<u16>, loader: Option<&str>) -> Vec<u8> {
    let mut bytes = fs::read(bin("td-unshare")).expect("a program")[..64].to_vec();
    if let Some(machine) = machine {
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
    }
    // One program header, right behind.
    bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
    bytes[56..58].copy_from_slice(&u16::from(loader.is_some()).to_le_bytes());
    if let Some(loader) = loader {
        let size = loader.len() as u64 + 1;
        bytes.extend([3_u32.to_le_bytes(), 4_u32.to_le_bytes()].concat()); // PT_INTERP, readable
        for number in [120, 0, 0, size, size, 1] {
            bytes.extend(u64::to_le_bytes(number));
        }
        bytes.extend(loader.as_bytes());
        bytes.push(0);
    }
    bytes
}
