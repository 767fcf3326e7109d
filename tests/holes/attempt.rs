//! attempt: what hostile code does. A static program that the tests build and put into an image as `try`. It prints
//! what came back, one line an attempt: `ok`, the name of an error, or what was found.

use std::collections::BTreeSet;
use std::ffi::{CString, c_int, c_long};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn ioctl(fd: c_int, request: u64, ...) -> c_int;
    fn fork() -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn _exit(status: c_int) -> !;
    fn setsid() -> c_int;
    fn chroot(path: *const std::ffi::c_char) -> c_int;
    fn posix_openpt(flags: c_int) -> c_int;
    fn unlockpt(fd: c_int) -> c_int;
    fn ptsname_r(fd: c_int, name: *mut std::ffi::c_char, size: usize) -> c_int;
}

const O_NOCTTY: c_int = 0o400;
const O_PATH: c_int = 0o10000000;

/// The numbers that differ: keyctl(2) and its kin, name_to_handle_at(2), open_by_handle_at(2), ptrace(2), renameat2(2).
#[cfg(target_arch = "x86_64")]
mod nr {
    pub const PTRACE: i64 = 101;
    pub const ADD_KEY: i64 = 248;
    pub const REQUEST_KEY: i64 = 249;
    pub const KEYCTL: i64 = 250;
    pub const NAME_TO_HANDLE_AT: i64 = 303;
    pub const OPEN_BY_HANDLE_AT: i64 = 304;
    pub const RENAMEAT2: i64 = 316;
}
#[cfg(target_arch = "aarch64")]
mod nr {
    pub const PTRACE: i64 = 117;
    pub const ADD_KEY: i64 = 217;
    pub const REQUEST_KEY: i64 = 218;
    pub const KEYCTL: i64 = 219;
    pub const NAME_TO_HANDLE_AT: i64 = 264;
    pub const OPEN_BY_HANDLE_AT: i64 = 265;
    pub const RENAMEAT2: i64 = 276;
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["call", ref calls @ ..] => calls.split(|word| *word == ",").for_each(call),
        ["write", ref files @ ..] => {
            files.iter().for_each(|f| say(f, open(f, OpenOptions::new().write(true))))
        }
        ["read", ref files @ ..] => files.iter().for_each(|f| say(f, read(f))),
        ["reopen", file] => reopen(file),
        ["ptrace", pid] => ptrace(number(pid)),
        ["handle", file] => handle(file),
        ["terminal", ref whats @ ..] => whats.iter().for_each(|what| terminal(what)),
        ["pty", ref command @ ..] => pty(command),
        ["chroot", seen] => escape(seen),
        ["listen", name] => listen(name),
        ["connect", name] => say("connect", connect(name)),
        ["swap", a, b] => swap(a, b),
        ["scan", count] => scan(number(count)),
        ["key", "add", name, value] => println!("{}", add_for_a_while(name, value).unwrap_or_else(fail)),
        ["key", "session", name, value, program, ref args @ ..] => {
            in_session(name, value, Command::new(program).args(args))
        }
        ["key", "unlink", serial] => say("unlink", keyctl(9, number(serial), USER, 0, 0)),
        ["key", "value", serial] => {
            say("session", possess());
            say("value", key(number(serial)));
        }
        ["keys", name, serial, uid] => keys(name, number(serial), number(uid)),
        _ => fail(io::Error::other("there is no such attempt")),
    }
}

fn fail<T>(error: io::Error) -> T {
    eprintln!("attempt: {error}");
    std::process::exit(2)
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or_else(|_| fail(io::Error::other(format!("{text} is not a number"))))
}

/// One line: what was tried, and what came back.
fn say<T: std::fmt::Display>(what: &str, result: io::Result<T>) {
    let said = result.map_or_else(|e| name_of(&e), |value| value.to_string());
    println!("{what} {said}");
}

/// Errors by name, those that a refusal may have.
fn name_of(error: &io::Error) -> String {
    let names = [
        (1, "EPERM"),
        (2, "ENOENT"),
        (3, "ESRCH"),
        (5, "EIO"),
        (6, "ENXIO"),
        (9, "EBADF"),
        (13, "EACCES"),
        (14, "EFAULT"),
        (16, "EBUSY"),
        (19, "ENODEV"),
        (20, "ENOTDIR"),
        (22, "EINVAL"),
        (25, "ENOTTY"),
        (26, "ETXTBSY"),
        (30, "EROFS"),
        (38, "ENOSYS"),
        (40, "ELOOP"),
        (97, "EAFNOSUPPORT"),
        (111, "ECONNREFUSED"),
        (116, "ESTALE"),
        (126, "ENOKEY"),
    ];
    let name = names.iter().find(|(number, _)| error.raw_os_error() == Some(*number));
    name.map_or_else(|| error.to_string(), |(_, name)| name.to_string())
}

fn check(result: c_long) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn text(word: &str) -> CString {
    CString::new(word).unwrap_or_else(|e| fail(e.into()))
}

/// `NAME NUMBER ARG...`: a system call, made by a child. An argument is a number, `s:TEXT` (a string) or `b:SIZE`
/// (that many zero bytes).
fn call(words: &[&str]) {
    let [name, call, args @ ..] = words else { fail(io::Error::other("call what?")) };
    let mut memory: Vec<Vec<u8>> = Vec::new();
    let mut values = [0_i64; 6];
    for (value, arg) in values.iter_mut().zip(args) {
        let bytes = match arg.split_once(':') {
            Some(("s", string)) => text(string).into_bytes_with_nul(),
            Some(("b", size)) => vec![0; number(size) as usize],
            _ => {
                *value = number(arg);
                continue;
            }
        };
        *value = bytes.as_ptr() as i64;
        memory.push(bytes);
    }
    let [a, b, c, d, e, f] = values;
    // SAFETY: what the arguments point to outlives the call; the child makes this one call and ends.
    unsafe {
        let child = fork();
        if child == 0 {
            let result = check(syscall(number(call), a, b, c, d, e, f));
            // 0 of a clone: the new process.
            let is_new = name.starts_with("clone") && matches!(result, Ok(0));
            if !is_new {
                say(name, result.map(|_| "ok"));
            }
            _exit(0);
        }
        waitpid(child, std::ptr::null_mut(), 0);
    }
}

fn open(file: &str, how: &mut OpenOptions) -> io::Result<&'static str> {
    how.custom_flags(O_NOCTTY).open(file).map(|_| "ok")
}

fn read(file: &str) -> io::Result<&'static str> {
    let mut byte = [0];
    let n = File::open(file)?.read(&mut byte)?;
    Ok(if n == 0 { "empty" } else { "ok" })
}

/// Write access to a program that runs: by its name, and by a descriptor that names it.
fn reopen(file: &str) {
    say("open", open(file, OpenOptions::new().write(true)));
    match OpenOptions::new().read(true).custom_flags(O_PATH).open(file) {
        Ok(fd) => {
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            say("reopen", open(&path, OpenOptions::new().write(true)));
        }
        Err(error) => say::<&str>("reopen", Err(error)),
    }
}

/// PTRACE_SEIZE, then detach.
fn ptrace(pid: i64) {
    // SAFETY: numbers.
    let result = check(unsafe { syscall(nr::PTRACE, 0x4206_i64, pid, 0_i64, 0_i64) });
    say("ptrace", result.map(|_| "ok"));
}

/// Open the root of the file system that holds `file`, whatever is mounted, by its handle (shocker).
fn handle(file: &str) {
    let mut handle = [0_u32; 34];
    handle[0] = 128;
    let (mut mount, path) = (0_i32, text(file));
    // SAFETY: a string, room for a handle of 128 bytes behind its size and type, and for a number.
    let named = check(unsafe {
        syscall(nr::NAME_TO_HANDLE_AT, -100_i64, path.as_ptr(), &mut handle, &mut mount, 0_i64)
    });
    if let Err(error) = named {
        return say::<&str>("name", Err(error));
    }
    if handle[..2] == [8, 1] {
        handle[2..4].copy_from_slice(&[2, 0]); // inode and generation, as ext4 has them
    }
    let Ok(fd) = File::open(file) else { return println!("open no") };
    // SAFETY: a descriptor, and a handle that outlives the call.
    let opened =
        check(unsafe { syscall(nr::OPEN_BY_HANDLE_AT, i64::from(fd.as_raw_fd()), &handle, 0_i64) });
    say("handle", opened.map(|_| "ok"));
}

/// Input for the terminal on descriptor 0: typed, pasted; and that terminal as our own.
fn terminal(what: &str) {
    let byte = b'x';
    let mut paste = 3_u8; // TIOCL_PASTESEL
    // SAFETY: a byte that outlives the call, or a number.
    let result = unsafe {
        match what {
            "type" => ioctl(0, 0x5412, &byte),
            "paste" => ioctl(0, 0x541c, &mut paste),
            _ => ioctl(0, 0x540e, 0),
        }
    };
    say(what, check(result.into()).map(|_| "ok"));
}

/// Run a command with a new terminal on its standard streams, which controls its session after `-c`; print what it
/// prints there.
fn pty(command: &[&str]) {
    let (controls, command) = match command {
        ["-c", rest @ ..] => (true, rest),
        all => (false, all),
    };
    let [program, args @ ..] = command else { fail(io::Error::other("run what?")) };
    let mut name = [0; 64];
    // SAFETY: a descriptor that is nobody else's, and room for a name.
    let mut master = unsafe {
        let master = File::from_raw_fd(posix_openpt(0o2 | O_NOCTTY | 0o2000000));
        unlockpt(master.as_raw_fd());
        ptsname_r(master.as_raw_fd(), name.as_mut_ptr(), name.len());
        master
    };
    let path: String = name.iter().take_while(|c| **c != 0).map(|c| *c as u8 as char).collect();
    let slave = || {
        let mut how = OpenOptions::new();
        how.read(true).write(true).custom_flags(O_NOCTTY).open(&path).unwrap_or_else(fail)
    };
    let mut cmd = Command::new(program);
    cmd.args(args).stdin(slave()).stdout(slave()).stderr(slave());
    if controls {
        // SAFETY: two system calls.
        unsafe {
            cmd.pre_exec(|| {
                setsid();
                check(ioctl(0, 0x540e, 0).into()).map(drop)
            });
        }
    }
    let mut child = cmd.spawn().unwrap_or_else(fail);
    drop(cmd);
    let mut printed = Vec::new();
    let _ = master.read_to_end(&mut printed); // EIO: nobody has it open any more
    printed.retain(|byte| *byte != b'\r');
    let _ = io::stdout().write_all(&printed);
    let _ = child.wait();
}

/// Out of a chroot by a directory above the new root; is `seen`, a file of the host, to be seen there?
fn escape(seen: &str) {
    let _ = fs::create_dir("/tmp/below");
    let below = text("/tmp/below");
    // SAFETY: strings.
    let result = check(unsafe { chroot(below.as_ptr()) }.into());
    if let Err(error) = result {
        return say::<&str>("chroot", Err(error));
    }
    for _ in 0..64 {
        let _ = std::env::set_current_dir("..");
    }
    // SAFETY: a string.
    unsafe { chroot(c".".as_ptr()) };
    println!("{}", if Path::new(seen).exists() { "escaped" } else { "inside" });
}

/// An address in the abstract name space of sockets.
fn address(name: &str) -> io::Result<std::os::unix::net::SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    std::os::unix::net::SocketAddr::from_abstract_name(name)
}

fn listen(name: &str) {
    let socket = address(name).and_then(|at| std::os::unix::net::UnixListener::bind_addr(&at));
    let socket = socket.unwrap_or_else(fail);
    println!("ready");
    while socket.accept().is_ok() {}
}

fn connect(name: &str) -> io::Result<&'static str> {
    std::os::unix::net::UnixStream::connect_addr(&address(name)?).map(|_| "ok")
}

/// Exchange two names until we are killed (RENAME_EXCHANGE).
fn swap(a: &str, b: &str) {
    let (a, b) = (text(a), text(b));
    loop {
        // SAFETY: strings.
        unsafe { syscall(nr::RENAMEAT2, -100_i64, a.as_ptr(), -100_i64, b.as_ptr(), 2_i64) };
    }
}

/// What can be had of each of so many processes that come while we look, until it has become a program of the image:
/// its descriptors above 2, its root, its memory.
fn scan(count: i64) {
    let processes = || -> BTreeSet<i64> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    };
    let before = processes();
    let (mut seen, mut got) = (BTreeSet::new(), BTreeSet::new());
    println!("ready");
    while (seen.len() as i64) < count {
        for pid in processes().difference(&before) {
            seen.insert(*pid);
            let had = look_into(*pid);
            if !is_of_the_image(*pid) {
                got.extend(had);
            }
        }
    }
    got.iter().for_each(|line| println!("got {line}"));
}

/// Does it run busybox, or has it come to its end, without a program? Of a process that is waited for while the link is
/// read the kernel answers EACCES; whether it is still there tells that from a refusal.
fn is_of_the_image(pid: i64) -> bool {
    match fs::read_link(format!("/proc/{pid}/exe")) {
        Ok(exe) => exe == Path::new("/bin/busybox"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(_) => !Path::new(&format!("/proc/{pid}")).exists(),
    }
}

fn look_into(pid: i64) -> Vec<String> {
    let path = |name: &str| format!("/proc/{pid}/{name}");
    let above_2 = |name: &str| name.parse().is_ok_and(|fd: i32| fd > 2);
    let fds = fs::read_dir(path("fd")).into_iter().flatten().flatten();
    let fds = fds.filter(|fd| above_2(&fd.file_name().to_string_lossy()));
    let fds = fds.filter_map(|fd| fs::read_link(fd.path()).ok());
    let mut had: Vec<String> = fds.map(|to| format!("a descriptor: {}", to.display())).collect();
    for name in ["environ", "maps", "mem"] {
        if File::open(path(name)).is_ok() {
            had.push(name.into());
        }
    }
    let root = fs::read_link(path("root")).ok().filter(|root| root != Path::new("/"));
    had.extend(root.map(|root| format!("a root: {}", root.display())));
    had
}

// ---- keys: the commands of keyctl(2) by their numbers ----

const PROCESS: i64 = -2;
const SESSION: i64 = -3;
const USER: i64 = -4;
const USER_SESSION: i64 = -5;

fn keyctl(command: i64, a: i64, b: i64, c: i64, d: i64) -> io::Result<i64> {
    // SAFETY: numbers, and addresses of what outlives the call.
    check(unsafe { syscall(nr::KEYCTL, command, a, b, c, d) })
}

/// A new key of type user in a keyring.
fn add_key(name: &str, value: &str, ring: i64) -> io::Result<i64> {
    let (kind, name) = (text("user"), text(name));
    // SAFETY: two strings, and so many bytes.
    check(unsafe {
        syscall(nr::ADD_KEY, kind.as_ptr(), name.as_ptr(), value.as_ptr(), value.len(), ring)
    })
}

/// Possess what is in the keyring of our uid, by a session keyring that leads there.
fn possess() -> io::Result<i64> {
    keyctl(1, 0, 0, 0, 0).and_then(|_| keyctl(8, USER, SESSION, 0, 0))
}

/// A key in the keyring of our uid that is gone in ten minutes, whatever becomes of the test.
fn add_for_a_while(name: &str, value: &str) -> io::Result<i64> {
    possess()?;
    let serial = add_key(name, value, USER)?;
    keyctl(15, serial, 600, 0, 0)?;
    Ok(serial)
}

/// Become a program in a session keyring of this name, which every process of the uid may join, with a key of this
/// name in it.
fn in_session(name: &str, value: &str, program: &mut Command) {
    let joined = keyctl(1, text(name).as_ptr() as i64, 0, 0, 0);
    let ring = joined.unwrap_or_else(fail);
    keyctl(5, ring, 0x3f3f_0000, 0, 0).unwrap_or_else(fail); // KEYCTL_SETPERM
    add_key(name, value, SESSION).unwrap_or_else(fail);
    fail(program.exec())
}

/// What a key holds.
fn key(serial: i64) -> io::Result<String> {
    let mut value = [0_u8; 64];
    let n = keyctl(11, serial, value.as_mut_ptr() as i64, value.len() as i64, 0)?;
    Ok(String::from_utf8_lossy(&value[..(n as usize).min(64)]).into_owned())
}

/// Every way to a key of the host: `name` in the keyring of `uid`, whose number is `serial` (0: not known). A way that
/// leads there prints `got`; what is refused prints nothing. Root's persistent keyring would stay when we have asked
/// for it.
fn keys(name: &str, serial: i64, uid: i64) {
    let (kind, wanted) = (text("user"), text(name));
    let search =
        |ring: i64| keyctl(10, ring, kind.as_ptr() as i64, wanted.as_ptr() as i64, 0).ok();
    let got = |way: &str| println!("got it by {way}");
    let is_it = |number: i64| number == serial || serial == 0 && number > 0;
    let found = |ring: i64, way: &str| {
        if search(ring).is_some_and(is_it) {
            got(way);
        }
    };
    for (ring, way) in [
        (PROCESS, "the process keyring"),
        (SESSION, "the session keyring"),
        (USER, "the user keyring"),
        (USER_SESSION, "the user session keyring"),
    ] {
        found(ring, way);
    }
    // SAFETY: two strings and null.
    let requested = unsafe {
        syscall(nr::REQUEST_KEY, kind.as_ptr(), wanted.as_ptr(), std::ptr::null::<u8>(), 0_i64)
    };
    if is_it(requested) {
        got("request_key");
    }
    for (command, way) in [(6, "describe"), (17, "its label")] {
        let mut room = [0_u8; 256];
        if keyctl(command, serial, room.as_mut_ptr() as i64, 256, 0).is_ok_and(|n| n > 1) {
            got(way);
        }
    }
    if fs::read_to_string("/proc/keys").is_ok_and(|keys| keys.contains(name)) {
        got("/proc/keys");
    }
    for ring in [USER, USER_SESSION] {
        for into in [PROCESS, SESSION] {
            if keyctl(8, ring, into, 0, 0).is_ok() {
                found(into, "a link");
            }
        }
    }
    if keyctl(8, serial, SESSION, 0, 0).is_ok() {
        got("a link to it");
    }
    if key(serial).is_ok() {
        got("reading it");
    }
    for id in [-1, uid].into_iter().filter(|_| uid > 0) {
        if let Ok(ring) = keyctl(22, id, SESSION, 0, 0) {
            println!("got a persistent keyring");
            found(SESSION, "a persistent keyring");
            let _ = keyctl(15, ring, 1, 0, 0);
        }
    }
    let names = [name, &format!("_uid_ses.{uid}"), &format!("_uid.{uid}")];
    for (ring, way) in names.into_iter().zip(["its session", "_uid_ses", "_uid"]) {
        if keyctl(1, text(ring).as_ptr() as i64, 0, 0, 0).is_ok() {
            found(SESSION, &format!("joining {way}"));
        }
    }
    if keyctl(2, serial, c"changed".as_ptr() as i64, 7, 0).is_ok() {
        println!("changed it");
    }
    if let Ok(added) = add_key(&format!("{name}-added"), "x", USER) {
        println!("added one to the user keyring");
        let _ = keyctl(9, added, USER, 0, 0);
    }
}
