//! td-rootfs: images made of a busybox and of this machine's programs.

mod common;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{LIMIT, as_usual, script, shell_takes, words};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bin/td-rootfs");
const ROOTFS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/rootfs");

/// A directory of its own for one test, removed after it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name =
            format!("td-rootfs-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes an executable file.
    fn program(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// What is in the directory, also under names that begin with a dot.
    fn names(&self) -> Vec<OsString> {
        let mut names: Vec<_> =
            fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn td_rootfs<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    script(SCRIPT, args)
}

fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let output = output(command);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {stderr}", output.status);
    assert_eq!(stderr, "", "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Ends with 125, and each line of its own on standard error begins with its name.
#[track_caller]
fn refuses(command: &mut Command, sentence: &str) {
    let output = output(command);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{command:?}: {stderr}");
    let said =
        stderr.lines().any(|line| line.starts_with("td-rootfs: ") && line.contains(sentence));
    assert!(said, "{command:?}: not said: {sentence}: {stderr}");
}

fn mode(path: impl AsRef<Path>) -> u32 {
    path.as_ref().symlink_metadata().unwrap().mode() & 0o7777
}

/// The file that a process whose root is `image` finds at `path`.
fn inside(image: &Path, path: impl AsRef<Path>) -> PathBuf {
    let mut real = image.to_path_buf();
    for component in path.as_ref().components() {
        match component {
            Component::ParentDir => assert!(real != image && real.pop()),
            Component::Normal(name) => match fs::read_link(real.join(name)) {
                Ok(target) if target.is_absolute() => real = inside(image, target),
                Ok(target) => real = inside(image, real.strip_prefix(image).unwrap().join(target)),
                Err(_) => real.push(name),
            },
            _ => {}
        }
    }
    real
}

/// Everything that tells two images apart, but times: mode, owner, and content or target, by path.
fn tree(image: &Path) -> BTreeMap<PathBuf, (u32, u32, u32, u64)> {
    let mut tree = BTreeMap::new();
    let mut left = vec![image.to_path_buf()];
    while let Some(path) = left.pop() {
        let stat = path.symlink_metadata().unwrap();
        let mut hasher = DefaultHasher::new();
        if stat.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if stat.is_symlink() {
            fs::read_link(&path).unwrap().hash(&mut hasher);
        } else {
            fs::read(&path).unwrap().hash(&mut hasher);
        }
        let name = path.strip_prefix(image).unwrap().to_path_buf();
        tree.insert(name, (stat.mode(), stat.uid(), stat.gid(), hasher.finish()));
    }
    tree
}

/// A program that needs a loader.
fn dynamic_program() -> Vec<u8> {
    let cat = fs::read("/bin/cat").unwrap();
    let libraries = output(Command::new("ldd").arg("/bin/cat")).stdout;
    assert!(
        String::from_utf8_lossy(&libraries).contains("libc.so"),
        "/bin/cat is not dynamically linked"
    );
    cat
}

#[test]
fn a_busybox_image_has_its_content_and_modes_whatever_the_umask() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    let mut masked = Command::new("sh");
    masked.args(["-c", "umask 077; exec \"$@\"", "sh"]);
    succeeds(masked.args(words(&td_rootfs(["--busybox"]))).arg(&image));

    for (path, expected) in [
        ("", 0o755),
        ("dev", 0o755),
        ("etc", 0o755),
        ("etc/group", 0o644),
        ("etc/hosts", 0o644),
        ("etc/nsswitch.conf", 0o644),
        ("etc/passwd", 0o644),
        ("etc/profile", 0o644),
        ("home/user", 0o755),
        ("mnt", 0o755),
        ("proc", 0o555),
        ("root", 0o700),
        ("run", 0o755),
        ("sys", 0o555),
        ("tmp", 0o1777),
        ("usr/bin", 0o755),
        ("var/tmp", 0o1777),
    ] {
        assert_eq!(mode(image.join(path)), expected, "/{path}");
    }
    let busybox = inside(&image, "/bin/busybox");
    assert_eq!(mode(&busybox), 0o755);
    let applets = succeeds(Command::new("busybox").arg("--list-full"));
    assert!(applets.lines().count() > 50);
    for applet in applets.lines() {
        let path = if applet.contains('/') { applet.into() } else { format!("bin/{applet}") };
        assert_eq!(inside(&image, &path), busybox, "{applet}");
    }
    let passwd = fs::read_to_string(image.join("etc/passwd")).unwrap();
    for user in ["root:x:0:0:", "user:x:1000:1000:", "nobody:x:65534:65534:"] {
        assert!(passwd.lines().any(|line| line.starts_with(user)), "{user}");
    }
    assert!(fs::read_to_string(image.join("etc/group")).unwrap().contains("\ntty:x:5:\n"));
    assert_eq!(scratch.names(), ["image"]);
}

#[test]
fn libraries_and_loader_are_where_the_loader_looks() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    succeeds(td_rootfs(["--host"]).arg(&image).args(["bash", "ls"]));
    let mut count = 0;
    for line in succeeds(Command::new("ldd").args(["/bin/bash", "/bin/ls"])).lines() {
        let Some(path) =
            line.split_whitespace().find(|word| word.starts_with('/') && !word.ends_with(':'))
        else {
            continue;
        };
        assert_eq!(fs::read(inside(&image, path)).unwrap(), fs::read(path).unwrap(), "{path}");
        count += 1;
    }
    assert!(count > 4, "{count} libraries");
    for program in ["/bin/bash", "/bin/ls", "/bin/sh"] {
        assert_eq!(
            fs::read(inside(&image, program)).unwrap(),
            fs::read(program).unwrap(),
            "{program}"
        );
    }
    for top in ["bin", "lib", "lib64", "sbin"] {
        let here = Path::new("/").join(top);
        if here.is_symlink() {
            assert_eq!(
                inside(&image, top),
                image.join(here.canonicalize().unwrap().strip_prefix("/").unwrap())
            );
        }
    }
}

#[test]
fn libraries_are_not_taken_from_the_environment() {
    let scratch = Scratch::new();
    let lines = succeeds(Command::new("ldd").arg("/bin/ls"));
    let libc = lines
        .split_whitespace()
        .find(|word| word.starts_with('/') && word.contains("/libc.so"))
        .unwrap();
    fs::create_dir(scratch.path("lib")).unwrap();
    fs::copy(libc, scratch.path("lib").join(Path::new(libc).file_name().unwrap())).unwrap();
    let image = scratch.path("image");
    succeeds(
        td_rootfs(["--host"]).arg(&image).arg("ls").env("LD_LIBRARY_PATH", scratch.path("lib")),
    );
    assert!(inside(&image, libc).is_file());
    assert!(!inside(&image, scratch.path("lib")).exists());
}

#[test]
fn without_a_program_the_host_image_has_the_usual_ones() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    succeeds(td_rootfs(["--host"]).arg(&image));
    for program in ["bash", "sh", "ls", "cat", "ps", "mount", "mkdir", "rm", "id", "sed"] {
        assert_eq!(mode(inside(&image, Path::new("/bin").join(program))), 0o755, "{program}");
    }
}

#[test]
fn a_script_brings_its_interpreter() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    let direct = scratch.program("direct", "#! /bin/cat -u\n");
    let by_env = scratch.program("by-env", "#!/usr/bin/env -S bash -e\n");
    succeeds(td_rootfs(["--host"]).arg(&image).args([&direct, &by_env]));
    for path in
        [Path::new("/bin/cat"), Path::new("/usr/bin/env"), Path::new("/bin/bash"), &direct, &by_env]
    {
        assert!(inside(&image, path).is_file(), "{path:?}");
    }
    let orphan = scratch.program("orphan", "#!/nowhere/interpreter\n");
    refuses(
        td_rootfs(["--host"]).arg(scratch.path("other")).arg(orphan),
        "/nowhere/interpreter: not found",
    );
}

#[test]
fn no_setuid_bit_comes_into_an_image() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    let program = scratch.program("program", dynamic_program());
    fs::set_permissions(&program, Permissions::from_mode(0o6755)).unwrap();
    let data = scratch.path("data");
    fs::write(&data, "data").unwrap();
    fs::set_permissions(&data, Permissions::from_mode(0o600)).unwrap();
    succeeds(td_rootfs(["--host"]).arg(&image).args([&program, &data]));
    assert_eq!(mode(inside(&image, program)), 0o755);
    assert_eq!(mode(inside(&image, data)), 0o644);
}

#[test]
fn no_setgid_bit_of_the_directory_above_comes_into_an_image() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    fs::set_permissions(&scratch.0, Permissions::from_mode(0o2755)).unwrap();
    succeeds(td_rootfs(["--busybox"]).arg(&image));
    for (path, (mode, ..)) in tree(&image) {
        assert_eq!(mode & 0o6000, 0, "{path:?}");
    }
}

#[test]
fn a_program_goes_before_an_applet() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    succeeds(td_rootfs(["--busybox"]).arg(&image).arg("/bin/ls"));
    assert_eq!(fs::read(inside(&image, "/bin/ls")).unwrap(), fs::read("/bin/ls").unwrap());
    assert_eq!(inside(&image, "/bin/cat"), inside(&image, "/bin/busybox"));
}

#[test]
fn without_a_choice_a_static_busybox_goes_before_the_host() {
    let scratch = Scratch::new();
    succeeds(&mut td_rootfs([&scratch.path("busybox")]));
    assert!(inside(&scratch.path("busybox"), "/bin/busybox").is_file());

    let dynamic = scratch.program("bin/busybox", dynamic_program());
    let path =
        format!("{}:{}", dynamic.parent().unwrap().display(), std::env::var("PATH").unwrap());
    succeeds(td_rootfs([&scratch.path("host")]).arg("ls").env("PATH", path));
    assert!(!inside(&scratch.path("host"), "/bin/busybox").exists());
    assert!(inside(&scratch.path("host"), "/bin/ls").is_file());
}

#[test]
fn a_busybox_of_another_name_is_as_good() {
    let scratch = Scratch::new();
    let busybox =
        ["/bin/busybox", "/usr/bin/busybox"].into_iter().find_map(|path| fs::read(path).ok());
    scratch.program("bb", busybox.expect("no busybox on this machine"));
    succeeds(td_rootfs(["--busybox=bb", "image"]).current_dir(&scratch.0));
    let image = scratch.path("image");
    assert_eq!(inside(&image, "/bin/sh"), inside(&image, "/bin/busybox"));
}

#[test]
fn refuses_a_busybox_that_is_not_static() {
    let scratch = Scratch::new();
    let dynamic = scratch.program("bin/busybox", dynamic_program());
    let script = scratch.program("script", "#!/bin/sh\n");
    let text = scratch.program("text", "text");
    for (file, kind) in [
        (dynamic.clone(), "is dynamically linked"),
        (script, "is a script"),
        (text, "is not a program"),
        (scratch.path("missing"), "is missing"),
    ] {
        let mut option = OsString::from("--busybox=");
        option.push(file);
        refuses(td_rootfs([option]).arg(scratch.path("image")), kind);
    }
    let path =
        format!("{}:{}", dynamic.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut by_path = td_rootfs(["--busybox"]);
    by_path.arg(scratch.path("image")).env("PATH", path);
    refuses(&mut by_path, "busybox is dynamically linked, and an image needs a static busybox");
    refuses(&mut by_path, "apt-get install busybox-static");
    assert_eq!(scratch.names(), ["bin", "script", "text"]);
}

/// Else a dynamic busybox might be packed as a static one.
#[test]
fn a_program_that_cannot_be_read_is_of_no_kind() {
    for nth in [1, 2, 3, 4] {
        let scratch = Scratch::new();
        let count = scratch.path("count");
        let script = format!(
            "#!/bin/sh\necho >>{0}\n[ $(wc -l <{0}) != {nth} ] || exit 1\nPATH=/usr/bin:/bin exec od \"$@\"\n",
            count.display()
        );
        scratch.program("bin/od", script);
        let dest = scratch.path("image");
        let mut cmd = td_rootfs([OsStr::new("--busybox"), dest.as_os_str()]);
        let path = std::env::var("PATH").unwrap();
        cmd.env("PATH", format!("{}:{path}", scratch.path("bin").display()));
        let output = output(&mut cmd);
        assert_eq!(output.status.code(), Some(125), "{nth}: {output:?}");
        assert!(!dest.exists(), "{nth}");
    }
}

#[test]
fn a_missing_program_is_named_and_leaves_nothing() {
    let scratch = Scratch::new();
    for from in ["--busybox", "--host"] {
        for program in ["no-such-program", "/no/such/program", "./no-such-program", ""] {
            let mut command = td_rootfs([from]);
            command.arg(scratch.path("above/image")).args(["ls", program]);
            refuses(&mut command, &format!("{program}: not found"));
            assert_eq!(scratch.names(), [""; 0]);
        }
    }
}

#[test]
fn a_missing_library_is_named_and_leaves_nothing() {
    let scratch = Scratch::new();
    let ldd = scratch.program("bin/ldd", "#!/bin/sh\nprintf '\\tlibgone.so.1 => not found\\n'\n");
    let path = format!("{}:{}", ldd.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut command = td_rootfs(["--host"]);
    command.arg(scratch.path("image")).arg("ls").env("PATH", path);
    refuses(&mut command, "needs a library that was not found on this machine: libgone.so.1");
    assert_eq!(scratch.names(), ["bin"]);
}

#[test]
fn a_command_that_fails_leaves_nothing() {
    let scratch = Scratch::new();
    let ldd = scratch.program("bin/ldd", "#!/bin/sh\necho ldd: full >&2\nexit 1\n");
    let path = format!("{}:{}", ldd.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut command = td_rootfs(["--host"]);
    command.arg(scratch.path("image")).env("PATH", path);
    refuses(&mut command, "DEST was not created, because of the error above");
    assert_eq!(scratch.names(), ["bin"]);
}

#[test]
fn an_existing_dest_is_refused_and_untouched() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.path("full/.hidden")).unwrap();
    fs::create_dir(scratch.path("empty")).unwrap();
    fs::write(scratch.path("file"), "content").unwrap();
    symlink("empty", scratch.path("link")).unwrap();
    symlink("nowhere", scratch.path("dangling")).unwrap();
    let before = tree(&scratch.0);
    for name in ["full", "full/", "file", "link", "dangling"] {
        refuses(
            td_rootfs(["--busybox"]).arg(scratch.path(name)),
            "exists, and is not an empty directory",
        );
    }
    for name in [".", "..", "/", "full/.", ""] {
        refuses(td_rootfs(["--busybox", name]).current_dir(&scratch.0), "DEST must end in a name");
    }
    assert_eq!(tree(&scratch.0), before);
}

#[test]
fn an_empty_dest_is_replaced_and_parents_are_made() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("empty")).unwrap();
    fs::set_permissions(scratch.path("empty"), Permissions::from_mode(0o700)).unwrap();
    for name in ["empty", "one/two/three"] {
        succeeds(td_rootfs(["--busybox"]).arg(scratch.path(name)));
        assert_eq!(mode(scratch.path(name)), 0o755);
        assert!(scratch.path(name).join("etc/passwd").is_file());
    }
    assert_eq!(scratch.names(), ["empty", "one"]);
}

#[test]
fn never_moves_the_image_into_a_directory_that_another_made_meanwhile() {
    let scratch = Scratch::new();
    let dest = scratch.path("image");
    fs::create_dir(&dest).unwrap();
    // The last command before the rename is where the other one comes in.
    let rmdir = scratch.program("bin/rmdir", "#!/bin/sh\nmkdir \"$1/theirs\"\n");
    let path = format!("{}:{}", rmdir.parent().unwrap().display(), std::env::var("PATH").unwrap());
    // (By sh: busybox has a rmdir of its own.)
    let mut command = Command::new(SCRIPT);
    command.arg("--busybox").arg(&dest).env("PATH", path);
    refuses(&mut command, "td-rootfs: mv: ");
    assert_eq!(tree(&dest).len(), 2, "the directory, and theirs");
    assert_eq!(scratch.names(), ["bin", "image"]);
}

#[test]
fn dest_may_have_any_name() {
    let names: [&[u8]; 8] = [
        b"two words",
        b"new\nline",
        b"end\n",
        b"-rf",
        b"*",
        b"'\"$(x)\\",
        b"\xff\xfe",
        "\u{e4}".as_bytes(),
    ];
    let scratch = Scratch::new();
    for name in names.into_iter().filter(|name| shell_takes(name)).map(OsStr::from_bytes) {
        succeeds(td_rootfs(["--busybox", "--"]).arg(name).current_dir(&scratch.0));
        let image = scratch.0.join(name);
        assert!(image.join("etc/passwd").is_file(), "{name:?}");
        fs::remove_dir_all(image).unwrap();
    }
    assert_eq!(scratch.names(), [""; 0]);
    succeeds(td_rootfs(["--busybox", "slashes///"]).current_dir(&scratch.0));
    succeeds(td_rootfs(["--busybox", "new\nparent/-n/image"]).current_dir(&scratch.0));
    assert_eq!(scratch.names(), ["new\nparent", "slashes"]);
}

#[test]
fn the_image_is_the_same_as_one_that_another_shell_makes() {
    let scratch = Scratch::new();
    let program = scratch.program("script", "#!/usr/bin/env bash\n");
    let program = program.to_str().unwrap();
    for (from, programs) in
        [("--busybox", &[] as &[&str]), ("--host", &[]), ("--busybox", &["ls", program])]
    {
        let (one, other) = (scratch.path("one"), scratch.path("other"));
        succeeds(td_rootfs([from]).arg(&one).args(programs));
        succeeds(Command::new("mksh").args([SCRIPT, from]).arg(&other).args(programs));
        assert!(tree(&one) == tree(&other), "{from} {programs:?}");
        for image in [one, other] {
            fs::remove_dir_all(image).unwrap();
        }
        assert_eq!(scratch.names(), ["script"]);
    }
}

/// td-rootfs, stopped in the middle: its ldd waits until the FIFO `go` is written to.
fn started(scratch: &Scratch) -> Child {
    let go = scratch.path("tools/go");
    let ldd = scratch
        .program("tools/ldd", "#!/bin/sh\n: >\"${0%/*}/started\"\nread -r line <\"${0%/*}/go\"\n");
    succeeds(Command::new("mkfifo").arg(&go));
    let path = format!("{}:{}", ldd.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut command = td_rootfs(["--host"]);
    command.arg(scratch.path("above/image")).arg("ls");
    command.env("PATH", path).stderr(Stdio::null()).process_group(0);
    as_usual();
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let deadline = Instant::now() + LIMIT;
    while !scratch.path("tools/started").exists() {
        assert!(Instant::now() < deadline, "it did not come as far as ldd");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(scratch.names().len() > 1, "there is no unfinished image to leave");
    child
}

fn send(signal: &str, target: &str) {
    succeeds(Command::new("sh").args(["-c", "kill -s \"$1\" -- \"$2\"", "sh", signal, target]));
}

#[test]
fn a_signal_in_the_middle_leaves_nothing_and_is_the_status() {
    for (signal, status) in [("HUP", 129), ("INT", 130), ("TERM", 143)] {
        let scratch = Scratch::new();
        let mut child = started(&scratch);
        send(signal, &child.id().to_string());
        fs::write(scratch.path("tools/go"), "\n").unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(status), "{signal}");
        assert_eq!(scratch.names(), ["tools"], "{signal}");
    }
}

#[test]
fn a_signal_to_its_process_group_leaves_nothing() {
    let scratch = Scratch::new();
    let mut child = started(&scratch);
    send("TERM", &format!("-{}", child.id()));
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_eq!(scratch.names(), ["tools"]);
}

#[test]
fn help_and_version_go_to_standard_output() {
    assert!(succeeds(&mut td_rootfs(["--help"])).starts_with("usage: td-rootfs "));
    assert_eq!(succeeds(&mut td_rootfs(["--host", "--version"])), "td-rootfs 0.1.0\n");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_eq!(
        td_rootfs(["--help"]).stdout(full).stderr(Stdio::null()).status().unwrap().code(),
        Some(125)
    );
}

#[test]
fn wrong_usage_is_named() {
    let scratch = Scratch::new();
    for (args, sentence) in [
        (&[] as &[&str], "DEST is missing"),
        (&["--busybox"], "DEST is missing"),
        (&["--hosts", "x"], "--hosts: no such option"),
        (&["--busybox=", "x"], "--busybox=: no such option"),
        (&["-x", "x"], "-x: no such option"),
        (&["--busybox", "--host", "x"], "use only one of --busybox, --host and --tar"),
    ] {
        refuses(td_rootfs(args).current_dir(&scratch.0), sentence);
    }
    assert_eq!(scratch.names(), [""; 0]);
}

#[test]
fn finds_its_rootfs_when_installed_and_through_a_link() {
    let scratch = Scratch::new();
    let script = scratch.program("prefix/bin/td-rootfs", fs::read(SCRIPT).unwrap());
    symlink(&script, scratch.path("link")).unwrap();
    let mut command = Command::new(scratch.path("link"));
    command.arg("--busybox").arg(scratch.path("image"));
    refuses(&mut command, "share/td/rootfs is missing");

    fs::create_dir_all(scratch.path("prefix/share/td")).unwrap();
    succeeds(Command::new("cp").args(["-R", ROOTFS]).arg(scratch.path("prefix/share/td")));
    // As a checkout made under umask 077 has it.
    succeeds(Command::new("chmod").args(["-R", "go="]).arg(scratch.path("prefix/share/td/rootfs")));
    succeeds(&mut command);
    assert_eq!(mode(scratch.path("image/etc")), 0o755);
    assert_eq!(mode(scratch.path("image/etc/passwd")), 0o644);
}

/// What only root can try: another root directory, another user.
mod root {
    use super::*;

    /// Runs a script in the image by chroot, with its /proc, in a mount namespace of its own.
    fn in_image(image: &Path, shell: &str, script: &str) -> String {
        let enter = "mount -t proc proc \"$1/proc\" && exec chroot \"$1\" \"$2\" -c \"$3\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", enter, "sh"]).arg(image);
        command.args([shell, script]).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        succeeds(&mut command)
    }

    #[test]
    fn applets_run() {
        let scratch = Scratch::new();
        let image = scratch.path("image");
        succeeds(td_rootfs(["--busybox"]).arg(&image));
        let said = in_image(&image, "/bin/sh", "mkdir /a && ls -d /a && id -un && ps | head -n 1");
        assert_eq!(said, "/a\nroot\nPID   USER     COMMAND\n");
    }

    #[test]
    fn host_programs_run() {
        let scratch = Scratch::new();
        let image = scratch.path("image");
        succeeds(td_rootfs(["--host"]).arg(&image).args(["bash", "ls", "ps", "id"]));
        let said = in_image(&image, "/bin/bash", "ls -d /etc; ps -o comm= $$; id -un");
        assert_eq!(said, "/etc\nbash\nroot\n");
        assert_eq!(in_image(&image, "/bin/sh", "echo it works"), "it works\n");
    }

    #[test]
    fn each_usual_host_program_finds_its_libraries() {
        let scratch = Scratch::new();
        let image = scratch.path("image");
        succeeds(td_rootfs(["--host"]).arg(&image));
        let script = "for program in /bin/* /usr/bin/*; do \"$program\" --version </etc/passwd 2>&1; done | \
                      grep 'error while loading' || echo none";
        assert_eq!(in_image(&image, "/bin/bash", script), "none\n");
    }

    #[test]
    fn the_owners_are_root_and_the_user_of_its_home() {
        let scratch = Scratch::new();
        let image = scratch.path("image");
        succeeds(td_rootfs(["--busybox"]).arg(&image));
        for (path, (_, uid, gid, _)) in tree(&image) {
            let owner = if path == Path::new("home/user") { 1000 } else { 0 };
            assert_eq!((uid, gid), (owner, owner), "{path:?}");
        }
    }

    #[test]
    fn an_ordinary_user_makes_images_of_his_own() {
        const NOBODY: u32 = 65534;
        let scratch = Scratch::new();
        let script = scratch.program("prefix/bin/td-rootfs", fs::read(SCRIPT).unwrap());
        fs::create_dir_all(scratch.path("prefix/share/td")).unwrap();
        // The checkout may be where only root can read it.
        succeeds(Command::new("cp").args(["-R", ROOTFS]).arg(scratch.path("prefix/share/td")));
        succeeds(Command::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(&scratch.0));
        let home = scratch.path("home");
        fs::create_dir(&home).unwrap();
        std::os::unix::fs::chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
        for from in ["--busybox", "--host"] {
            let image = home.join(from);
            let mut command = Command::new(&script);
            command.arg(from).arg(&image).uid(NOBODY).gid(NOBODY).current_dir("/");
            succeeds(&mut command);
            assert!(inside(&image, "/bin/sh").is_file());
            assert_eq!(mode(image.join("tmp")), 0o1777);
            for (path, (_, uid, gid, _)) in tree(&image) {
                assert_eq!((uid, gid), (NOBODY, NOBODY), "{path:?}");
            }
        }
    }
}
