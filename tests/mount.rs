//! td-mount: what it mounts, that no image leads it astray, and that a failure leaves nothing.

mod common;
use common::*;

fn refuses(args: &[&str], text: &str) {
    run(&mut td("td-mount", args)).exits(125).says(text);
}

#[test]
fn options_need_a_mount_before_them() {
    refuses(&["--options", "ro", "/", "true"], "--options must follow the mount");
}

#[test]
fn options_of_a_mount_that_takes_none_are_refused() {
    for option in [&["--mask", "/x"][..], &["--devtmpfs"], &["--dir", "/x"], &["--move", "x", "x"]]
    {
        let line = [option, &["--options", "ro", "/", "true"]].concat();
        refuses(&line, "--options applies to --proc");
    }
}

#[test]
fn a_bind_takes_no_options_of_a_file_system() {
    refuses(
        &["--bind", "/a", "/b", "--options", "ro,size=1", "/", "true"],
        "size=1: this mount has no",
    );
}

#[test]
fn a_mount_with_a_source_needs_all_its_values() {
    for line in [&["--bind", "/a"][..], &["--move", "/a"], &["--fs", "ext4", "/a"]] {
        refuses(line, &format!("{}: this option needs a value", line[0]));
    }
}

/// The kernel would take what is left of it, and no limit for none.
#[test]
fn a_size_that_does_not_fit_is_refused() {
    for (fs, key) in
        [(&["--tmpfs", "/t"][..], "size"), (&["--tmpfs", "/t"], "nr_inodes"), (&["--proc"], "gid")]
    {
        for value in
            ["18446744073709551616", "18446744073709551615", "16E", "0x10000000000000000", "99999%"]
        {
            let word = format!("{key}={value}");
            let list = format!("mode=755,{word}");
            let line = [fs, &["--options", &list, "/", "true"]].concat();
            refuses(&line, &format!("--options {word}: this number is too large"));
        }
    }
}

#[test]
fn root_and_prog_must_be_there() {
    refuses(&["--proc"], "ROOT is missing");
    refuses(&["--proc", "/"], "PROG is missing");
}

mod root {
    use super::common::strace::*;
    use super::common::*;
    use std::ffi::{CStr, CString, OsString};
    use std::fs;
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::sync::{Arc, Mutex};
    use std::thread::{self, JoinHandle};

    /// A directory of the test's own, on a file system of its own, with an image in it.
    struct Place {
        dir: TempDir,
        image: PathBuf,
    }

    fn place() -> Place {
        private_mounts();
        let dir = TempDir::new();
        mount(["-t", "tmpfs", "tmpfs", text(dir.path())]);
        chmod(dir.path(), 0o755);
        let path = dir.dir("image");
        image(&path);
        mount(["-t", "tmpfs", "tmpfs", text(&dir.dir("other"))]);
        Place { dir, image: path }
    }

    impl Place {
        /// td-mount with options, on the image, becoming PROG.
        fn fill(&self, options: &[&str], prog: &[&str]) -> Command {
            let mut cmd = td("td-mount", options);
            cmd.arg(&self.image).args(prog);
            cmd
        }

        /// The same inside new namespaces, with a tmpfs of their own on the image.
        fn fill_in(&self, unshare: &[&str], options: &[&str], prog: &[&str]) -> Command {
            let mut cmd = td("td-unshare", unshare);
            cmd.arg("td-mount").args(options).arg(&self.image).args(prog);
            cmd
        }

        /// `POINT FSTYPE OPTIONS`, a line each, of what is mounted below the image.
        fn mounts(&self, mountinfo: &str) -> Vec<String> {
            let below = format!("{}/", text(&self.image));
            let line = |line: &str| {
                let (mount, fs) = line.split_once(" - ")?;
                let fields: Vec<&str> = mount.split(' ').collect();
                let point = fields[4].strip_prefix(&below)?;
                let fstype = fs.split(' ').next()?;
                Some(format!("{point} {fstype} {}", fields[5].replace(",relatime", "")))
            };
            mountinfo.lines().filter_map(line).collect()
        }

        fn now(&self) -> Vec<String> {
            self.mounts(&own_mountinfo())
        }

        /// All files below the test's directory but those on mounts, with their types and modes.
        fn tree(&self) -> String {
            run(Command::new("find").arg(self.dir.path()).args(["-printf", "%p %y %m %l\n"]))
                .ok()
                .out()
        }

        /// It must fail with `text`, and leave nothing.
        #[track_caller]
        fn fails(&self, options: &[&str], text: &str) {
            let before = (own_mountinfo(), self.tree());
            run(&mut self.fill(options, &["echo", "executed"])).exits(125).says(text).silent();
            assert_eq!(before, (own_mountinfo(), self.tree()), "{options:?} left something");
        }
    }

    trait Silent {
        fn silent(&self);
    }

    impl Silent for Output {
        #[track_caller]
        fn silent(&self) {
            assert_eq!(self.out(), "", "PROG was executed");
        }
    }

    const STANDARD: [&str; 6] = [
        "proc proc rw,nosuid,nodev,noexec",
        "dev tmpfs rw,nosuid",
        "dev/pts devpts rw,nosuid,noexec",
        "dev/shm tmpfs rw,nosuid,nodev,noexec",
        "dev/mqueue mqueue rw,nosuid,nodev,noexec",
        "sys sysfs ro,nosuid,nodev,noexec",
    ];

    #[test]
    fn proc_dev_and_sys_are_exactly_the_documented_mounts() {
        let place = place();
        let host = host_mountinfo();
        run(&mut place.fill(&["--proc", "--dev", "--sys"], &["true"])).ok();
        assert_eq!(place.now(), STANDARD);
        assert_eq!(host, host_mountinfo());
    }

    #[test]
    fn devices_have_their_numbers_and_modes_under_any_umask() {
        let place = place();
        run(sh("umask 077; exec \"$@\"").args(["sh", text(&bin("td-mount")), "--dev"]).args([
            text(&place.image),
            "sh",
            "-c",
            "test $(umask) = 0077",
        ]))
        .ok();
        let dev = place.image.join("dev");
        let nodes = [
            ("null", 1, 3),
            ("zero", 1, 5),
            ("full", 1, 7),
            ("random", 1, 8),
            ("urandom", 1, 9),
            ("tty", 5, 0),
        ];
        for (name, major, minor) in nodes {
            let node = fs::symlink_metadata(dev.join(name)).expect(name);
            assert!(node.file_type().is_char_device(), "{name}");
            assert_eq!(node.rdev(), libc::makedev(major, minor), "{name}");
            assert_eq!(node.permissions().mode() & 0o7777, 0o666, "{name}");
        }
        for (name, mode) in [("", 0o755), ("pts", 0o755), ("shm", 0o1777), ("mqueue", 0o1777)] {
            let mode_now = fs::metadata(dev.join(name)).expect(name).permissions().mode();
            assert_eq!(mode_now & 0o7777, mode, "{name}");
        }
        let links = [("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("ptmx", "pts/ptmx")];
        for (name, to) in links {
            assert_eq!(fs::read_link(dev.join(name)).expect(name), Path::new(to));
        }
        assert_eq!(fs::read_dir(&dev).expect("dev").count(), 6 + 5 + 3);
        fs::write(dev.join("null"), "x").expect("null is written to");
    }

    #[test]
    fn a_terminal_is_opened_by_ptmx_and_reaches_its_slave() {
        let place = place();
        run(&mut place.fill(&["--dev"], &["true"])).ok();
        opens_a_terminal(&place);
    }

    #[track_caller]
    fn opens_a_terminal(place: &Place) {
        let open = |name: &str| {
            // Else it would be the controlling terminal of a test that leads a session, and end it with the last one.
            let mut options = fs::OpenOptions::new();
            options.read(true).write(true).custom_flags(libc::O_NOCTTY);
            options.open(place.image.join(name)).expect(name)
        };
        let mut master = open("dev/ptmx");
        let mut number = -1;
        // SAFETY: calls on an open descriptor; the last writes an int.
        unsafe {
            check(libc::unlockpt(master.as_raw_fd())).expect("unlockpt");
            check(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number)).expect("ptn");
        }
        assert_eq!(number, 0, "it is the first of a new instance");
        let mut slave = open("dev/pts/0");
        slave.write_all(b"hello").expect("write");
        let mut buffer = [0; 5];
        master.read_exact(&mut buffer).expect("read");
        assert_eq!(&buffer, b"hello");
        let meta = fs::metadata(place.image.join("dev/pts/0")).expect("slave");
        assert_eq!((meta.mode() & 0o777, meta.gid()), (0o620, 5));
    }

    /// The machine's devtmpfs, without what is mounted in it: what a test adds is removed again.
    struct Devtmpfs {
        at: PathBuf,
        before: Vec<OsString>,
        /// Where td-mount mounts it: what it adds is removed only after what is mounted there.
        dev: PathBuf,
    }

    impl Devtmpfs {
        fn new(place: &Place) -> Devtmpfs {
            let at = place.dir.dir("devtmpfs");
            mount(["-t", "devtmpfs", "none", text(&at)]);
            let before = names(&at);
            Devtmpfs { at, before, dev: place.image.join("dev") }
        }
    }

    impl Drop for Devtmpfs {
        fn drop(&mut self) {
            while Command::new("umount")
                .args(["-q", "-R"])
                .arg(&self.dev)
                .status()
                .is_ok_and(|s| s.success())
            {}
            for name in names(&self.at).into_iter().filter(|name| !self.before.contains(name)) {
                let path = self.at.join(name);
                let _ = fs::remove_dir(&path).or_else(|_| fs::remove_file(&path));
            }
        }
    }

    fn names(dir: &Path) -> Vec<OsString> {
        let entries = fs::read_dir(dir).expect("a directory");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_machines_devices_get_terminals_shared_memory_and_links_and_a_failure_leaves_them_alone()
    {
        let place = place();
        let devtmpfs = Devtmpfs::new(&place);
        place.fails(&["--devtmpfs", "--tmpfs", "/etc/passwd"], "etc/passwd is not a directory");
        assert_eq!(names(&devtmpfs.at), devtmpfs.before);
        run(&mut place.fill(&["--devtmpfs"], &["true"])).ok();
        let expected = ["dev devtmpfs rw,nosuid"].iter().chain(&STANDARD[2..5]);
        assert!(place.now().iter().eq(expected), "{:?}", place.now());
        opens_a_terminal(&place);
        let dev = place.image.join("dev");
        for name in ["fd", "stdin", "stdout", "stderr"] {
            let link = fs::read_link(dev.join(name)).expect(name);
            assert!(link.starts_with("/proc/self/fd"), "{name}: {}", link.display());
        }
        fs::write(dev.join("null"), "x").expect("null is written to");
        // Once more, with all of it there.
        run(&mut place.fill(&["--devtmpfs"], &["true"])).ok();
    }

    #[test]
    fn no_user_namespace_gets_the_machines_devices() {
        let (place, _) = nobodys();
        let says =
            ["EPERM", "devtmpfs belongs to the whole machine: a user namespace cannot mount it"];
        nobody_fails(&place, "-r -m", &["--tmpfs", "/run", "--devtmpfs"], &says);
    }

    /// A block device of a file, for as long as it is open.
    struct Loop {
        file: fs::File,
        path: String,
    }

    impl Loop {
        fn new(of: &Path, read_only: bool) -> Loop {
            const GET_FREE: libc::Ioctl = 0x4C82;
            const CONFIGURE: libc::Ioctl = 0x4C0A;
            const READ_ONLY: u32 = 1;
            const AUTOCLEAR: u32 = 4;
            let open = |path: &Path| fs::OpenOptions::new().read(true).write(true).open(path);
            let control = open(Path::new("/dev/loop-control")).expect("loop devices");
            let of = open(of).expect("a file");
            // struct loop_config: the descriptor first, and lo_flags at byte 60.
            let mut config = [0u32; 76];
            config[0] = of.as_raw_fd() as u32;
            config[15] = AUTOCLEAR | if read_only { READ_ONLY } else { 0 };
            wait_for("a loop device that nobody else takes", || {
                // SAFETY: it takes no argument.
                let number = unsafe { libc::ioctl(control.as_raw_fd(), GET_FREE) };
                let path = format!("/dev/loop{}", check(number).ok()?);
                let file = open(Path::new(&path)).ok()?;
                // SAFETY: a struct loop_config, which outlives the call.
                let done = unsafe { libc::ioctl(file.as_raw_fd(), CONFIGURE, config.as_ptr()) };
                check(done).ok().map(|_| Loop { file, path })
            })
        }
    }

    /// A file with a file system, and one with none.
    fn disks(place: &Place) -> [PathBuf; 2] {
        let [ext4, empty] = ["ext4", "empty"].map(|name| {
            let path = place.dir.join(name);
            let file = fs::File::create(&path).expect("a file");
            file.set_len(4 << 20).expect("its size");
            path
        });
        run(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4"]).arg(&ext4)).ok();
        [ext4, empty]
    }

    /// `POINT FSTYPE SRC OPTIONS` of each mount below the image; the options are those of the file system.
    fn file_systems(place: &Place) -> Vec<String> {
        let below = format!("{}/", text(&place.image));
        let mounts = own_mountinfo();
        let lines = mounts.lines().filter_map(|line| {
            let (mount, fs) = line.split_once(" - ")?;
            Some(format!("{} {fs}", mount.split(' ').nth(4)?.strip_prefix(&below)?))
        });
        lines.collect()
    }

    #[test]
    fn a_file_system_is_mounted_from_a_device_and_read_only_is_so_itself() {
        let place = place();
        let [ext4, _] = disks(&place);
        let disk = Loop::new(&ext4, false);
        let fs = ["--fs", "ext4", &disk.path, "/new/a", "--options"];
        run(&mut place.fill(&[&fs[..], &["noexec,data=ordered"]].concat(), &["true"])).ok();
        assert_eq!(place.now(), ["new/a ext4 rw,nodev,noexec"]);
        fs::write(place.image.join("new/a/file"), "text").expect("it is writable");
        run(Command::new("umount").arg(place.image.join("new/a"))).ok();
        drop(disk);
        let disk = Loop::new(&ext4, true);
        let fs = ["--fs", "ext4", &disk.path, "/new/a", "--options", "dev,ro"];
        run(&mut place.fill(&fs, &["true"])).ok();
        assert_eq!(place.now(), ["new/a ext4 ro"]);
        assert_eq!(file_systems(&place), [format!("new/a ext4 {} ro", disk.path)]);
        assert_eq!(fs::read(place.image.join("new/a/file")).expect("the file"), b"text");
    }

    #[test]
    fn a_type_without_a_device_takes_any_word_and_options() {
        let place = place();
        let options = ["--fs", "tmpfs", "a word", "/run", "--options", "size=64k,mode=700,dev"];
        run(&mut place.fill(&options, &["true"])).ok();
        assert_eq!(place.now(), ["run tmpfs rw"]);
        assert!(file_systems(&place)[0].starts_with("run tmpfs a\\040word rw,size=64k,mode=700"));
    }

    #[test]
    fn why_there_is_no_file_system_is_found_by_looking() {
        let place = place();
        let file = place.dir.file("file", "text");
        let file = text(&file);
        let none = "this kernel does not know the file system type nosuch";
        place.fails(&["--fs", "nosuch", "none", "/new"], none);
        for (source, says) in [
            (place.dir.join("none"), " does not exist"),
            (place.dir.join("file/x"), "is not a directory"),
            (PathBuf::from(file), "losetup --find --show "),
            (PathBuf::from("/dev/null"), "/dev/null is not a block device"),
        ] {
            place.fails(&["--fs", "ext4", text(&source), "/new"], says);
        }
        symlink("circle", place.dir.join("circle")).expect("a link");
        let circle = place.dir.join("circle");
        place.fails(
            &["--fs", "ext4", text(&circle), "/new"],
            "circle is a symbolic link that leads to itself",
        );
        let long = format!("size={}65536", "0".repeat(246));
        run(&mut place.fill(&["--tmpfs", "/new", "--options", &long], &["true"])).ok();
        run(Command::new("umount").arg(place.image.join("new"))).ok();
        let long = "x".repeat(256);
        let says = "an option or SRC may have at most 255 bytes";
        place.fails(&["--fs", "ext4", &long, "/new"], says);
        place.fails(&["--tmpfs", "/new", "--options", &format!("size={long}")], says);
        place.fails(&["--tmpfs", "/new", "--options", &long], says);
    }

    #[test]
    fn a_way_to_a_device_that_may_not_be_searched_is_named() {
        let place = place();
        let closed = place.dir.dir("closed");
        chmod(&closed, 0);
        let mut cmd = Command::new("setpriv");
        cmd.args(["--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all"]);
        cmd.arg(bin("td-mount")).args(["--fs", "ext4", text(&closed.join("disk")), "/run"]);
        let says = &format!("uid 0 may not search {}, which", closed.display());
        run(cmd.arg(&place.image).arg("true")).exits(125).says("EACCES").says(says);
    }

    #[test]
    fn why_there_is_no_file_system_of_a_device_is_found_by_looking() {
        let place = place();
        let [ext4, empty] = disks(&place);
        let fails = |disk: &Loop, fstype: &str, says: &str| {
            place.fails(&["--fs", fstype, &disk.path, "/new"], says);
        };
        let nothing = Loop::new(&empty, false);
        let says = format!("{} holds no file system of type ext4", nothing.path);
        fails(&nothing, "ext4", &says);
        // The content of a device that cannot be read is not known.
        let cmd = place.fill(&["--fs", "ext4", &nothing.path, "/new"], &["true"]);
        let (output, _) = strace(&["-P", &nothing.path, "--inject=read:error=EIO"], &cmd);
        assert!(!output.exits(125).err().contains("holds"), "a cause that was not seen");
        let fixed = Loop::new(&ext4, true);
        fails(&fixed, "ext4", &format!("{} is read-only", fixed.path));
        fails(&fixed, "ext4", "--options ro");
        drop(fixed);
        let disk = Loop::new(&ext4, false);
        let marked = place.dir.file("marked", [&b"hsqs"[..], &[0; 65536]].concat());
        let other = Loop::new(&marked, false);
        let says = format!("{} holds another file system: squashfs", other.path);
        fails(&other, "ext4", &says);
        let alone = fs::OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(&disk.path);
        fails(&disk, "ext4", &format!("{} is in use: by a mount elsewhere", disk.path));
        drop(alone.expect("the device"));
        // What another test forks at this moment has the device open until its execve(2).
        wait_for("the device", || {
            let output = run(&mut place.fill(&["--fs", "ext4", &disk.path, "/run"], &["true"]));
            (output.code != Some(125) || !output.err().contains("EBUSY")).then(|| output.ok())
        });
        let fs = ["--fs", "ext4", &disk.path, "/new", "--options", "ro"];
        let says = format!("is mounted on {}: ext4, rw", text(&place.image.join("run")));
        place.fails(&fs, &says);
        run(Command::new("umount").arg(place.image.join("run"))).ok();
        run(Command::new("chown").args(["65534", &disk.path])).ok();
        let mut cmd = place.fill_in(&["-r", "-m"], &fs, &["true"]);
        let says = "a user namespace cannot mount a file system from a device";
        run(&mut cmd).exits(125).says("EPERM").says(says);
        disk.file.sync_all().expect("the device is open");
    }

    #[test]
    fn a_move_takes_the_mount_with_what_is_below_it_and_a_failure_puts_it_back() {
        let place = place();
        source(&place);
        let file = place.dir.file("file", "text");
        mount(["-o", "remount,bind,noexec", text(&place.dir.join("other"))]);
        mount(["--bind", text(&file), text(&file)]);
        let other = place.dir.join("other");
        let options = ["--move", text(&other), "/new/a", "--move", text(&file), "new/b"];
        let sorted = || {
            let mounts = own_mountinfo();
            let mut lines: Vec<String> = mounts.lines().map(str::to_string).collect();
            lines.sort();
            lines
        };
        let before = (sorted(), place.tree());
        let wrong = [&options[..], &["--dir", "/new/c", "--tmpfs", "/etc/passwd"]].concat();
        run(&mut place.fill(&wrong, &["true"])).exits(125).says("etc/passwd is not a directory");
        assert_eq!(before, (sorted(), place.tree()));
        run(&mut place.fill(&options, &["true"])).ok();
        let expected = ["new/a tmpfs rw,noexec", "new/a/source/below tmpfs rw", "new/b tmpfs rw"];
        let mut mounts = place.now();
        mounts.sort();
        assert_eq!(mounts, expected);
        assert_eq!(names(&other).len(), 0, "it has left");
    }

    #[test]
    fn why_a_mount_cannot_be_moved_is_found_by_looking() {
        let (place, source) = nobodys();
        let (dir, other, below) = (place.dir.path(), place.dir.join("other"), source.join("below"));
        place.fails(&["--move", text(&source), "/new"], "other/source is not a mount point");
        let says = format!("the target lies below {} itself", text(dir));
        place.fails(&["--move", text(dir), "/new"], &says);
        place.fails(&["--move", text(&below), "/etc/passwd"], "etc/passwd is not a directory");
        let locked = format!("the mount of {} is locked: it was inherited from", text(&below));
        let move_it = ["--move", text(&below), "/new"];
        nobody_fails(&place, "-r -m", &move_it, &["EINVAL", &format!("td-mount: {locked}")]);
        // With another mount beside it, which may be the locked one, nobody can tell.
        place.dir.dir("other/source/beside");
        mount(["-t", "tmpfs", "tmpfs", text(&source.join("beside"))]);
        nobody_fails(&place, "-r -m", &move_it, &["EINVAL", &format!("perhaps {locked}")]);
        run(Command::new("umount").arg(source.join("beside"))).ok();
        // What it advises.
        let bind = ["--bind", text(&below), "/data"];
        run(&mut fill_as_nobody(&place, "-r -m", &bind, &["true"])).ok();
        let unshared =
            start(&mut td("td-unshare", ["-m", "sh", "-c", "echo there; exec sleep 1000"]));
        unshared.prints("there");
        let theirs = format!("/proc/{}/root", unshared.pid());
        place.fails(&["--move", &theirs, "/new"], "the source is not in this mount namespace");
        mount(["--make-shared", text(&other)]);
        let says = format!("the mount that holds {} is shared", text(&below));
        place.fails(&["--move", text(&below), "/new"], &says);
        let mut cmd = Command::new("setpriv");
        cmd.args(["--bounding-set", "-sys_admin", "--inh-caps", "-all"]).arg(bin("td-mount"));
        cmd.args(["--move", text(&other), "/new"]).arg(&place.image).arg("true");
        run(&mut cmd).exits(125).says("EPERM").says("this process has no CAP_SYS_ADMIN");
    }

    #[test]
    fn directories_and_links_are_made_once_and_stay_in_the_root() {
        let place = place();
        symlink("../../../../../../var", place.image.join("link")).expect("a link");
        let dirs = ["--dir", "/a/b/", "--dir", "link/c", "--dir", "/etc", "--dir", "/"];
        let links = ["--symlink", "../run", "/link/run", "--symlink", "/proc/mounts", "a/d//"];
        let options = [&dirs[..], &links].concat();
        let mut cmd = sh("umask 077; exec \"$@\"");
        cmd.args(["sh", text(&bin("td-mount"))]).args(&options).arg(&place.image).arg("true");
        run(&mut cmd).ok();
        let tree = place.tree();
        run(&mut cmd).ok();
        assert_eq!(tree, place.tree(), "what is there is fine");
        for name in ["a", "a/b", "var/c"] {
            let made = fs::symlink_metadata(place.image.join(name)).expect(name);
            assert!(made.is_dir() && made.mode() & 0o777 == 0o755, "{name}");
        }
        for (name, says) in [("var/run", "../run"), ("a/d", "/proc/mounts")] {
            let link = fs::read_link(place.image.join(name)).expect(name);
            assert_eq!(link, Path::new(says));
        }
    }

    #[test]
    fn a_directory_or_link_whose_place_is_taken_is_refused_and_what_was_made_is_removed() {
        let place = place();
        symlink("/not/there", place.image.join("link")).expect("a link");
        let made = ["--dir", "/new/a", "--symlink", "x", "/new/b/c"];
        let says = "exists and is not that symbolic link";
        for (option, says) in [
            (&["--dir", "/etc/passwd"][..], "etc/passwd is not a directory"),
            (&["--dir", "/etc/passwd/x"], "etc/passwd is not a directory"),
            (&["--dir", "/link"], "is a symbolic link to a file that does not exist"),
            (&["--symlink", "other", "link"], says),
            (&["--symlink", "x", "etc"], says),
            (&["--symlink", "x", "/etc/passwd"], says),
            (&["--symlink", "x", "/new/.."], says),
            (&["--symlink", "x", "link/y"], "is a symbolic link to a file that does not exist"),
            (&["--symlink", "x", "//"], "itself, not a path below it"),
        ] {
            place.fails(&[&made[..], option].concat(), says);
        }
        symlink("/proc", place.image.join("kernel")).expect("a link");
        let says = "leads through a symbolic link to what --proc, --dev or --sys has mounted";
        place.fails(&["--proc", "--symlink", "x", "/kernel/x"], says);
    }

    /// What `/proc/self/cgroup` has of version 1, a list of names each, and whether version 2 is there.
    fn hierarchies() -> (Vec<Vec<String>>, bool) {
        let text = fs::read_to_string("/proc/self/cgroup").expect("/proc/self/cgroup");
        let fields = text.lines().filter_map(|line| line.split(':').nth(1));
        let (v2, v1): (Vec<&str>, Vec<&str>) = fields.partition(|names| names.is_empty());
        let name = |name: &str| name.trim_start_matches("name=").to_string();
        (v1.iter().map(|names| names.split(',').map(name).collect()).collect(), !v2.is_empty())
    }

    /// What `--sys --cgroup` mounts here, and `--cgroup --options ro`.
    fn expected_cgroups(how: &str) -> Vec<String> {
        let attr = format!("{how},nosuid,nodev,noexec");
        let mut expected = vec![STANDARD[5].to_string()];
        let (v1, v2) = hierarchies();
        if v1.is_empty() {
            expected.push(format!("sys/fs/cgroup cgroup2 {attr}"));
            return expected;
        }
        expected.push(format!("sys/fs/cgroup tmpfs {attr}"));
        for names in v1 {
            expected.push(format!("sys/fs/cgroup/{} cgroup {attr}", names.join(",")));
        }
        expected.extend(v2.then(|| format!("sys/fs/cgroup/unified cgroup2 {attr}")));
        expected
    }

    /// The options of version 2, wherever it is mounted: they are one hierarchy's.
    /// Those who look at the options of version 2, of which a machine has one, do so one after the other.
    static VERSION_2: Mutex<()> = Mutex::new(());

    fn options_of_version_2() -> Option<String> {
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").expect("mounts");
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
        line.rsplit(' ').next().map(str::to_string)
    }

    #[test]
    fn cgroups_are_mounted_as_they_are_in_use_and_version_2_keeps_its_options() {
        let _alone = VERSION_2.lock();
        let place = place();
        let before = options_of_version_2();
        for (options, how) in [(&[][..], "rw"), (&["--options", "ro"], "ro")] {
            let options = [&["--sys", "--cgroup"], options].concat();
            run(&mut place.fill(&options, &["true"])).ok();
            assert_eq!(place.now(), expected_cgroups(how));
            for names in hierarchies().0.iter().filter(|names| names.len() > 1) {
                for name in names {
                    let link = fs::read_link(place.image.join("sys/fs/cgroup").join(name));
                    assert_eq!(link.expect(name), Path::new(&names.join(",")));
                }
            }
            run(Command::new("umount").arg("-R").arg(place.image.join("sys"))).ok();
        }
        assert_eq!(options_of_version_2(), before);
    }

    #[test]
    fn in_a_cgroup_namespace_of_a_user_the_cgroups_are_mounted_and_else_it_is_told() {
        let (place, _) = nobodys();
        let cat = ["cat", "/proc/self/mountinfo"];
        let options = ["--sys", "--cgroup"];
        let out = run(&mut fill_as_nobody(&place, "-r -m -n -C", &options, &cat)).ok().out();
        assert_eq!(place.mounts(&out), expected_cgroups("rw"));
        let says = "the cgroup namespace belongs to another user namespace";
        nobody_fails(&place, "-r -m -n", &options, &["EPERM", says, "td-unshare --cgroup"]);
    }

    #[test]
    fn without_sysfs_there_is_no_place_for_the_cgroups() {
        let place = place();
        place.fails(&["--tmpfs", "/sys", "--cgroup"], "sys/fs/cgroup does not exist");
        place.fails(&["--cgroup", "--sys"], "put --sys before --cgroup");
    }

    mod v2 {
        use super::*;

        #[test]
        fn options_of_version_2_are_added_to_those_that_it_has() {
            let _alone = VERSION_2.lock();
            let place = place();
            let before = options_of_version_2().expect("version 2 is mounted");
            let fill = |options: &[&str]| {
                run(&mut place.fill(&[&["--sys", "--cgroup"], options].concat(), &["true"])).ok();
                run(Command::new("umount").arg("-R").arg(place.image.join("sys"))).ok();
                options_of_version_2().expect("version 2 is mounted")
            };
            let delegated = fill(&["--options", "nsdelegate"]);
            let kept = fill(&[]);
            let words = before.replace("rw,", "").replace("rw", "");
            let point = place.dir.dir("cgroup");
            run(Command::new("mount").args(["-t", "cgroup2", "-o", &words, "none"]).arg(point))
                .ok();
            assert!(delegated.contains("nsdelegate"), "{delegated}");
            assert_eq!(kept, delegated);
            assert_eq!(options_of_version_2(), Some(before));
        }
    }

    #[test]
    fn a_tmpfs_takes_size_mode_and_attributes() {
        let place = place();
        let options =
            ["--tmpfs", "/run", "--options", "size=64k,mode=710,noexec,suid", "--tmpfs", "tmp"];
        run(&mut place.fill(&options, &["true"])).ok();
        assert_eq!(place.now(), ["run tmpfs rw,nodev,noexec", "tmp tmpfs rw,nosuid,nodev"]);
        let mode = |name| fs::metadata(place.image.join(name)).expect(name).mode() & 0o7777;
        assert_eq!((mode("run"), mode("tmp")), (0o710, 0o1777));
        let full = fs::write(place.image.join("run/file"), [0; 70000]).expect_err("it is full");
        assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
    }

    #[test]
    fn a_tmpfs_looks_as_the_directory_that_it_covers_unless_its_options_say_otherwise() {
        let place = place();
        for (name, mode, owner) in [("private", 0o700, "4:5"), ("shared", 0o3775, "0:7")] {
            let dir = place.dir.dir(&format!("image/{name}"));
            run(Command::new("chown").arg(owner).arg(&dir)).ok();
            chmod(&dir, mode);
        }
        let looks = |name: &str| {
            let stat = fs::metadata(place.image.join(name)).expect(name);
            format!("{:o} {}:{}", stat.mode() & 0o7777, stat.uid(), stat.gid())
        };
        for (options, name, looking) in [
            (&["--tmpfs", "/private"][..], "private", "700 4:5"),
            (&["--tmpfs", "shared", "--options", "size=64k"], "shared", "3775 0:7"),
            (&["--tmpfs", "/private", "--options", "mode=1777,uid=9"], "private", "1777 9:5"),
            (&["--tmpfs", "/private", "--options", "gid=8"], "private", "700 4:8"),
            (&["--tmpfs", "/new/one"], "new/one", "1777 0:0"),
            (&["--fs", "tmpfs", "x", "/private"], "private", "1777 0:0"),
        ] {
            run(&mut place.fill(options, &["true"])).ok();
            assert_eq!(looks(name), looking, "{options:?}");
            run(Command::new("umount").arg(place.image.join(name))).ok();
        }
    }

    #[test]
    fn in_a_user_namespace_a_tmpfs_has_an_owner_that_is_mapped() {
        let (place, _) = nobodys();
        for (name, owner) in [("mine", "65534:65534"), ("roots", "0:0"), ("mixed", "65534:5")] {
            let dir = place.dir.dir(&format!("image/{name}"));
            run(Command::new("chown").arg(owner).arg(&dir)).ok();
            chmod(&dir, 0o750);
        }
        let options = ["--tmpfs", "/mine", "--tmpfs", "/roots", "--tmpfs", "/mixed"];
        let script = "cd \"$0\" && stat -c '%a %u:%g' mine roots mixed";
        let prog = ["sh", "-c", script, text(&place.image)];
        let out = run(&mut fill_as_nobody(&place, "-r -m", &options, &prog)).ok().out();
        assert_eq!(out, "750 0:0\n".repeat(3));
    }

    #[test]
    fn devices_work_below_a_dev_bind_as_outside() {
        let place = place();
        let source = source(&place);
        run(&mut place.fill(&["--dev-bind", text(&source), "/data"], &["true"])).ok();
        assert_eq!(place.now(), ["data tmpfs rw", "data/below tmpfs rw"]);
        fs::write(place.image.join("data/null"), "x").expect("a device");
    }

    #[test]
    fn sys_can_be_written_to_where_the_options_say_so() {
        let place = place();
        for options in [&["--sys", "--options", "rw"][..], &["--sys-rw"]] {
            run(&mut place.fill(options, &["true"])).ok();
            assert_eq!(place.now(), ["sys sysfs rw,nosuid,nodev,noexec"]);
            run(Command::new("umount").arg(place.image.join("sys"))).ok();
        }
    }

    #[test]
    fn an_option_that_the_file_system_refuses_is_said_in_the_words_of_the_kernel() {
        place().fails(
            &["--proc", "--tmpfs", "/run", "--options", "size=much"],
            "Bad value for 'size'",
        );
    }

    /// A source with a mount below it, a device and a file.
    fn source(place: &Place) -> PathBuf {
        let source = place.dir.dir("other/source");
        mount(["-t", "tmpfs", "tmpfs", text(&place.dir.dir("other/source/below"))]);
        fs::write(source.join("file"), "text").expect("file");
        run(Command::new("mknod").arg(source.join("null")).args(["c", "1", "3"])).ok();
        source
    }

    #[test]
    fn a_bind_is_recursive_private_and_without_devices() {
        let place = place();
        let source = source(&place);
        mount(["--make-rshared", text(&place.dir.join("other"))]);
        run(&mut place.fill(&["--bind", text(&source), "/data"], &["true"])).ok();
        assert_eq!(place.now(), ["data tmpfs rw,nodev", "data/below tmpfs rw,nodev"]);
        fs::write(place.image.join("data/below/new"), "").expect("it is writable");
        let device = fs::File::open(place.image.join("data/null")).expect_err("a device");
        assert_eq!(device.raw_os_error(), Some(libc::EACCES));
        mount(["-t", "tmpfs", "tmpfs", text(&place.image.join("data/below"))]);
        let propagated =
            own_mountinfo().lines().filter(|l| l.contains("/other/source/below ")).count();
        assert_eq!(propagated, 1, "what is mounted inside must not come out");
    }

    #[test]
    fn a_read_only_bind_is_so_in_all_its_depth() {
        let place = place();
        let source = source(&place);
        run(&mut place.fill(&["--ro-bind", text(&source), "/data"], &["true"])).ok();
        assert_eq!(place.now(), ["data tmpfs ro,nodev", "data/below tmpfs ro,nodev"]);
        for name in ["data/new", "data/below/new"] {
            let error = fs::write(place.image.join(name), "").expect_err(name);
            assert_eq!(error.raw_os_error(), Some(libc::EROFS));
        }
        fs::write(source.join("below/new"), "").expect("the source is as it was");
    }

    #[test]
    fn options_of_a_bind_are_attributes_and_its_source_may_be_behind_an_equals_sign() {
        let place = place();
        let from = format!("--bind={}", text(&source(&place)));
        run(&mut place.fill(&[&from, "/data", "--options", "noexec,nosuid,dev"], &["true"])).ok();
        assert_eq!(place.now()[0], "data tmpfs rw,nosuid,noexec");
    }

    #[test]
    fn a_socket_works_where_it_is_bound_and_a_device_if_the_options_say_so() {
        let place = place();
        let socket = place.dir.join("socket");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let binds = ["--bind", text(&socket), "/run/socket", "--bind", "/dev/null", "/run/null"];
        run(&mut place.fill(&[&binds[..], &["--options", "dev"]].concat(), &["true"])).ok();
        let mut stream = UnixStream::connect(place.image.join("run/socket")).expect("connect");
        stream.write_all(b"through").expect("write");
        let mut buffer = [0; 7];
        listener.accept().expect("accept").0.read_exact(&mut buffer).expect("read");
        assert_eq!(&buffer, b"through");
        fs::write(place.image.join("run/null"), "x").expect("the device");
        run(&mut place.fill(&["--bind", "/dev/null", "/run/other"], &["true"])).ok();
        let error = fs::write(place.image.join("run/other"), "x").expect_err("no device");
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    }

    #[test]
    fn what_a_bind_has_from_its_source_goes_where_the_options_say_so() {
        let place = place();
        let source = source(&place);
        let below = source.join("below");
        mount(["-o", "remount,bind,ro,noexec,nosuid,strictatime", text(&below)]);
        let bind = ["--bind", text(&below), "/data", "--options"];
        for (list, expected) in [
            ("nosuid", "ro,nosuid,nodev,noexec"),
            ("rw,exec", "rw,nosuid,nodev"),
            ("rw,suid,exec,noatime", "rw,nodev,noatime"),
            ("rw,ro,dev,suid,nosymfollow", "ro,noexec,nosymfollow"),
        ] {
            run(&mut place.fill(&[&bind[..], &[list]].concat(), &["true"])).ok();
            assert_eq!(place.now(), [format!("data tmpfs {expected}")], "{list}");
            run(Command::new("umount").arg(place.image.join("data"))).ok();
        }
        // And of what is mounted below it.
        let bind = ["--bind", text(&source), "/data", "--options", "rw,exec"];
        run(&mut place.fill(&bind, &["true"])).ok();
        assert_eq!(place.now()[1], "data/below tmpfs rw,nosuid,nodev");
    }

    #[test]
    fn the_order_given_is_kept() {
        let place = place();
        let source = source(&place);
        run(&mut place.fill(&["--tmpfs", "/a", "--bind", text(&source), "/a/b"], &["true"])).ok();
        assert_eq!(fs::read_to_string(place.image.join("a/b/file")).expect("it is seen"), "text");
        run(&mut place.fill(&["--bind", text(&source), "/c/d", "--tmpfs", "/c"], &["true"])).ok();
        assert_eq!(fs::read_dir(place.image.join("c")).expect("c").count(), 0, "it is covered");
    }

    #[test]
    fn what_is_missing_is_made_with_its_modes_under_any_umask() {
        let place = place();
        let source = source(&place);
        let file = source.join("file");
        let mut cmd = sh("umask 077; exec \"$@\"");
        cmd.args(["sh", text(&bin("td-mount")), "--bind", text(&source), "/a/b/../c//d/"]);
        cmd.args(["--bind", text(&file), "e/file", text(&place.image), "true"]);
        run(&mut cmd).ok();
        assert_eq!(
            place.now(),
            ["a/c/d tmpfs rw,nodev", "a/c/d/below tmpfs rw,nodev", "e/file tmpfs rw,nodev"]
        );
        for name in ["a", "a/b", "a/c", "e"] {
            assert_eq!(fs::metadata(place.image.join(name)).expect(name).mode() & 0o777, 0o755);
        }
        run(Command::new("umount").arg(place.image.join("e/file"))).ok();
        let made = fs::metadata(place.image.join("e/file")).expect("a file was made");
        assert_eq!((made.len(), made.mode() & 0o777), (0, 0o644));
    }

    /// Where a hostile link may lead.
    const LINKS: [&str; 5] = ["/etc", "..", "../../../../../../../etc", "/", "etc"];

    #[test]
    fn a_link_in_place_of_proc_dev_or_sys_is_refused_by_name() {
        let place = place();
        for (name, option) in [("proc", "--proc"), ("dev", "--dev"), ("sys", "--sys")] {
            let path = place.image.join(name);
            fs::remove_dir(&path).expect(name);
            for to in LINKS.iter().chain(&[name, "missing"]) {
                symlink(to, &path).expect("a link");
                let says = format!("{} is a symbolic link in the image", path.display());
                place.fails(&["--tmpfs", "/tmp", option], &says);
                fs::remove_file(&path).expect("the link");
            }
            fs::write(&path, "").expect("a file");
            place.fails(&[option], &format!("{} is not a directory", path.display()));
            fs::remove_file(&path).expect("the file");
            fs::create_dir(&path).expect("a directory");
        }
    }

    #[test]
    fn a_volume_whose_target_is_a_link_stays_in_the_root() {
        let place = place();
        let source = source(&place);
        let host = host_mountinfo();
        for (i, to) in ["/etc", "../../../../../../../etc", "etc"].iter().enumerate() {
            let link = format!("link{i}");
            symlink(to, place.image.join(&link)).expect("a link");
            run(&mut place.fill(&["--bind", text(&source), &link], &["true"])).ok();
            let mine = place.now();
            assert_eq!(mine.len(), 2 * (i + 1), "{mine:?}");
            assert!(mine.iter().all(|line| line.starts_with("etc")), "{mine:?}");
        }
        assert_eq!(host, host_mountinfo());
    }

    #[test]
    fn no_link_of_an_image_leads_a_mount_into_proc_dev_or_sys() {
        let place = place();
        let source = source(&place);
        let (dir, file) = (text(&source), text(&source.join("file")).to_string());
        let says = "leads through a symbolic link to what --proc, --dev or --sys has mounted";
        symlink("/proc", place.image.join("chain2")).expect("a link");
        symlink("var/../chain2", place.image.join("chain1")).expect("a link");
        let link = place.image.join("data");
        for to in ["/proc", "/proc/self", "/proc/1", "../../proc", "proc/sys/kernel", "chain1"] {
            symlink(to, &link).expect("a link");
            place.fails(&["--proc", "--bind", dir, "/data"], &format!("image/data {says}"));
            place.fails(&["--proc", "--ro-bind", dir, "data/"], says);
            place.fails(&["--proc", "--tmpfs", "/new/../data"], says);
            place.fails(&["--proc", "--bind", &file, "/data/new"], says);
            fs::remove_file(&link).expect("the link");
        }
        for to in ["/dev", "dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/../kernel"] {
            symlink(to, &link).expect("a link");
            place.fails(&["--dev", "--sys", "--bind", dir, "/data"], says);
            place.fails(&["--dev", "--sys", "--tmpfs", "/data/new/dir"], says);
            fs::remove_file(&link).expect("the link");
        }
        for to in ["/dev/null", "/proc/self/status", "/sys/kernel/profiling"] {
            symlink(to, &link).expect("a link");
            place.fails(&["--dev", "--proc", "--sys", "--bind", &file, "/data"], says);
            fs::remove_file(&link).expect("the link");
        }
        for to in ["/proc/self/root/etc", "/proc/self/cwd"] {
            symlink(to, &link).expect("a link");
            let says = "image/data leads through a magic link (symlink(7))";
            place.fails(&["--proc", "--bind", dir, "/data"], says);
            fs::remove_file(&link).expect("the link");
        }
        // Before they are mounted these are directories like any other.
        symlink("/proc", &link).expect("a link");
        run(&mut place.fill(&["--bind", dir, "/data", "--proc"], &["true"])).ok();
        assert_eq!(place.now()[0], "proc tmpfs rw,nodev");
        assert_eq!(place.now()[2], "proc proc rw,nosuid,nodev,noexec", "it covers the bind");
    }

    #[test]
    fn what_the_caller_writes_out_is_mounted_on_proc_dev_and_sys() {
        let place = place();
        let file = text(&source(&place).join("file")).to_string();
        let options = ["--proc", "--dev", "--sys", "--bind", &file, "/proc/cpuinfo"];
        let more =
            ["--tmpfs", "//dev/./shm", "--options", "size=64k", "--tmpfs", "/sys/../sys/kernel"];
        place
            .fails(&["--proc", "--bind", &file, "/proc/x"], "proc/x does not exist, and is needed");
        run(&mut place.fill(&[&options[..], &more].concat(), &["true"])).ok();
        let expected = [
            "proc/cpuinfo tmpfs rw,nodev",
            "dev/shm tmpfs rw,nosuid,nodev",
            "sys/kernel tmpfs rw,nosuid,nodev",
        ];
        assert_eq!(place.now()[STANDARD.len()..], expected);
    }

    #[test]
    fn a_link_may_lead_to_an_earlier_mount_of_another_kind() {
        let place = place();
        let source = source(&place);
        symlink("/run", place.image.join("var/run")).expect("a link");
        let file = text(&source.join("file")).to_string();
        let options = ["--proc", "--dev", "--sys", "--tmpfs", "/run", "--bind", &file];
        let more = ["/var/run/a/socket", "--bind", text(&source), "/var/run/b"];
        run(&mut place.fill(&[&options[..], &more].concat(), &["true"])).ok();
        let expected = [
            "run tmpfs rw,nosuid,nodev",
            "run/a/socket tmpfs rw,nodev",
            "run/b tmpfs rw,nodev",
            "run/b/below tmpfs rw,nodev",
        ];
        assert_eq!(place.now()[STANDARD.len()..], expected);
    }

    /// How often another thread has done something, and until when it goes on.
    #[derive(Clone, Default)]
    struct Another {
        times: Arc<AtomicU32>,
        stop: Arc<AtomicBool>,
    }

    impl Another {
        /// Have a thread do something again and again, after pauses of any length.
        fn does(act: impl Fn() + Send + 'static) -> (Another, JoinHandle<()>) {
            let mut chance = Chance::new();
            let another = Another::default();
            let ours = another.clone();
            let thread = thread::spawn(move || {
                while !another.stop.load(Ordering::Relaxed) {
                    act();
                    another.times.fetch_add(1, Ordering::Relaxed);
                    (0..chance.below(1 << 14)).for_each(|_| std::hint::spin_loop());
                }
            });
            (ours, thread)
        }

        fn times(&self) -> u32 {
            self.times.load(Ordering::Relaxed)
        }
    }

    impl Drop for Another {
        fn drop(&mut self) {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    /// Exchange two names in one step.
    fn exchange(a: &CStr, b: &CStr) {
        // SAFETY: two strings, which outlive the call.
        let result =
            unsafe { libc::renameat2(-1, a.as_ptr(), -1, b.as_ptr(), libc::RENAME_EXCHANGE) };
        check(result).expect("renameat2");
    }

    fn c(path: &Path) -> CString {
        CString::new(text(path)).expect("a plain path")
    }

    /// td-mount while directories of the image are again and again swapped for links, which name what is
    /// there: it must fail, or mount on the directory, whatever that is called by then.
    #[track_caller]
    fn while_swapped(swapped: &[(&str, &str)], times: u32) {
        let place = place();
        let source = source(&place);
        fs::create_dir(place.image.join("new")).expect("a directory");
        fs::create_dir(place.image.join("data")).expect("a directory");
        let pairs = swapped.iter().map(|(name, to)| {
            let link = place.image.join(format!("{name}.link"));
            symlink(to, &link).expect("a link");
            [c(&place.image.join(name)), c(&link)]
        });
        let pairs: Vec<[CString; 2]> = pairs.collect();
        let outside = (own_mountinfo(), host_mountinfo());
        let swap = move || pairs.iter().for_each(|[a, b]| exchange(a, b));
        let places = [
            "proc proc ",
            "sys sysfs ",
            "data tmpfs ",
            "data/below tmpfs ",
            "new/a/b tmpfs ",
            "new/c tmpfs ",
        ];
        let (another, thread) = Another::does(swap);
        let (mut mounted, mut refused, mut raced) = (0, 0, 0);
        // Enough of each, however the machine lets them meet.
        let enough = |counts: [u32; 3]| counts.iter().all(|count| *count >= 20);
        for round in 0..20 * times {
            if round >= times && enough([mounted, refused, raced]) {
                break;
            }
            let options = ["--dev", "--proc", "--sys", "--bind", text(&source), "/data"];
            let more = ["--tmpfs", "new/a/b", "--tmpfs", "new/../data/../new/c"];
            let options = [&options[..], &more].concat();
            let cat = ["cat", "/proc/self/mountinfo"];
            let before = another.times();
            let output = run(&mut place.fill_in(&["-m"], &options, &cat));
            raced += u32::from(another.times() > before + 1);
            if output.code == Some(125) {
                assert!(output.stdout.is_empty(), "{output:#}");
                refused += 1;
                continue;
            }
            mounted += 1;
            // Behind the four of --dev.
            for mount in &place.mounts(&output.ok().out())[4..] {
                let found = mount.replace(".link", "");
                assert!(places.iter().any(|place| found.starts_with(place)), "{mount}");
            }
        }
        drop(another);
        thread.join().expect("the other thread");
        let counts = [mounted, refused, raced];
        assert!(enough(counts), "nothing raced: mounted, refused, swapped meanwhile: {counts:?}");
        println!("{mounted} mounted, {refused} refused, {raced} while they were swapped");
        assert_eq!(outside, (own_mountinfo(), host_mountinfo()));
    }

    #[test]
    fn directories_that_are_swapped_for_links_meanwhile_lead_no_mount_astray() {
        while_swapped(&[("data", "/proc"), ("new", "../../../dev")], 300);
        while_swapped(&[("proc", "/etc"), ("sys", "../../other")], 100);
    }

    #[test]
    fn a_link_to_what_is_not_there_is_refused_by_name_and_nothing_is_made() {
        let place = place();
        let source = source(&place);
        symlink("/not/there", place.image.join("link")).expect("a link");
        symlink("loop", place.image.join("loop")).expect("a link");
        let says = "link is a symbolic link to a file that does not exist";
        place.fails(&["--bind", text(&source), "/new/../link"], says);
        place.fails(&["--bind", text(&source), "/link/deeper"], says);
        place.fails(&["--bind", text(&source.join("file")), "link"], says);
        place.fails(&["--tmpfs", "loop"], "image/loop is a symbolic link in the image");
        assert!(!Path::new("/not").exists());
    }

    #[test]
    fn a_null_device_that_is_a_link_is_covered_or_refused() {
        let place = place();
        let outside = place.dir.file("outside", "text");
        symlink("../../outside", place.image.join("dev/null")).expect("a link");
        let passwd = "/etc/passwd";
        place.fails(&["--mask", passwd], "dev/null is a symbolic link in the image");
        run(&mut place.fill(&["--dev", "--mask", passwd], &["true"])).ok();
        assert_eq!(fs::read_to_string(place.image.join("etc/passwd")).expect("passwd"), "");
        assert_eq!(fs::read_to_string(outside).expect("outside"), "text");
    }

    #[test]
    fn the_root_itself_is_no_target() {
        let place = place();
        let source = source(&place);
        symlink("..", place.image.join("up")).expect("a link");
        for target in ["/", "..", ".", "up", "etc/../..", "new/.."] {
            place.fails(&["--bind", text(&source), target], "itself, not a path below it");
            place.fails(&["--tmpfs", target], "itself, not a path below it");
        }
        place.fails(&["--mask", "/"], "itself, not a path below it");
        place.fails(&["--remount-ro", "/"], "and it is not a mount point");
    }

    #[test]
    fn a_directory_is_not_mounted_on_a_file_nor_a_file_on_a_directory() {
        let place = place();
        let source = source(&place);
        place.fails(&["--bind", text(&source), "/etc/passwd"], "etc/passwd is not a directory");
        place.fails(&["--bind", text(&source.join("file")), "/etc"], "etc is a directory");
        place.fails(&["--tmpfs", "/etc/passwd"], "etc/passwd is not a directory");
    }

    #[test]
    fn a_masked_directory_is_empty_and_a_masked_file_is_null_and_root_cannot_change_that() {
        let place = place();
        fs::write(place.image.join("var/file"), "text").expect("file");
        chmod(place.image.join("etc/passwd"), 0o4755);
        let options = ["--dev", "--mask", "/var", "--mask", "etc/passwd", "--mask", "/none/such"];
        run(&mut place.fill(&options, &["true"])).ok();
        let mounts = &place.now()[4..];
        assert_eq!(
            mounts,
            ["var tmpfs ro,nosuid,nodev,noexec", "etc/passwd tmpfs ro,nosuid,noexec"]
        );
        assert_eq!(fs::read_dir(place.image.join("var")).expect("var").count(), 0);
        assert_eq!(fs::read(place.image.join("etc/passwd")).expect("passwd"), b"");
        for (name, read_only) in [("var", true), ("etc/passwd", true), ("dev/null", false)] {
            let mode = fs::Permissions::from_mode(0o600);
            let result = fs::set_permissions(place.image.join(name), mode);
            let error = result.err().and_then(|e| e.raw_os_error());
            assert_eq!(error, read_only.then_some(libc::EROFS), "{name}");
        }
        assert!(fs::write(place.image.join("var/new"), "").is_err());
        assert!(!place.image.join("none").exists());
    }

    #[test]
    fn a_file_is_masked_only_with_the_null_device() {
        let place = place();
        place.fails(&["--mask", "/etc/passwd"], "put --dev before --mask");
        fs::write(place.image.join("dev/null"), "").expect("no device");
        place.fails(&["--mask", "/etc/passwd"], "image/dev/null is not the null device");
    }

    #[test]
    fn restrict_is_each_path_that_the_manual_names_masked_or_read_only() {
        let [place, other] = [place(), place()];
        let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tools/td-mount.8");
        let manual = fs::read_to_string(manual).expect("the manual");
        let text =
            manual.split(".It Fl -restrict\n").nth(1).and_then(|s| s.split("Dropping cap").next());
        let (masked, read_only) = text.expect("it").split_once("read-only").expect("both");
        let mut spelt_out: Vec<String> = vec!["--proc".into(), "--dev".into(), "--sys".into()];
        for (option, text) in [("--mask", masked), ("--remount-ro", read_only)] {
            for line in text.lines().filter_map(|line| line.strip_prefix(".Pa ")) {
                for word in line.split([' ', ',', ';', '.']).filter(|word| !word.is_empty()) {
                    let root = if word.starts_with('/') { "" } else { "/proc/" };
                    spelt_out.extend([option.into(), format!("{root}{word}")]);
                }
            }
        }
        assert_eq!(spelt_out.len(), 3 + 2 * 16, "{spelt_out:?}");
        let spelt_out: Vec<&str> = spelt_out.iter().map(String::as_str).collect();
        run(&mut place.fill(&spelt_out, &["true"])).ok();
        let expected = place.now();
        assert!(expected.contains(&"proc/sys proc ro,nosuid,nodev,noexec".into()), "{expected:?}");
        run(&mut other.fill(&["--proc", "--dev", "--sys", "--restrict"], &["true"])).ok();
        assert_eq!(other.now(), expected);
    }

    #[test]
    fn remount_ro_takes_a_mount_alone_and_a_directory_with_all_below_it() {
        let place = place();
        let source = source(&place);
        mount(["--bind", text(&place.image), text(&place.image)]);
        let options =
            ["--proc", "--bind", text(&source), "/data", "--bind", text(&source), "/etc/data"];
        let read_only =
            ["--remount-ro", "/proc/sys", "--remount-ro", "/none", "--remount-ro", "/data"];
        let more = ["--remount-ro", "/etc", "--remount-ro", "/"];
        run(&mut place.fill(&[&options[..], &read_only, &more].concat(), &["true"])).ok();
        let expected = [
            "proc proc rw,nosuid,nodev,noexec",
            "data tmpfs ro,nodev",
            "data/below tmpfs rw,nodev",
            "etc/data tmpfs rw,nodev",
            "etc/data/below tmpfs rw,nodev",
            "proc/sys proc ro,nosuid,nodev,noexec",
            "etc tmpfs ro",
            "etc/data tmpfs ro,nodev",
            "etc/data/below tmpfs ro,nodev",
        ];
        assert_eq!(place.now(), expected);
        let writes = |name: &str| fs::write(place.image.join(name), "").is_ok();
        assert!(!writes("new"), "the root is read-only");
        assert!(!writes("data/new") && writes("data/below/new"), "that mount alone");
        let uts =
            fs::write(place.image.join("proc/sys/kernel/domainname"), "x").expect_err("proc/sys");
        assert_eq!(uts.raw_os_error(), Some(libc::EROFS));
    }

    #[test]
    fn a_failure_undoes_all_and_executes_nothing() {
        let place = place();
        let source = source(&place);
        mount(["-t", "tmpfs", "tmpfs", text(&place.image.join("run"))]);
        let file = source.join("file");
        let options = [
            ["--proc", "--dev"].as_slice(),
            &["--sys", "--remount-ro", "/run"],
            &["--bind", text(&source), "/new/a/b", "--bind", text(&file), "/new/file"],
            &["--remount-ro", "/var", "--mask", "/etc/passwd"],
        ]
        .concat();
        place.fails(
            &[&options[..], &["--tmpfs", "/etc/group"]].concat(),
            "etc/group is not a directory",
        );
        let before = (own_mountinfo(), place.tree());
        for (prog, status) in [("/not/there", 127), ("not-there", 127), (text(&source), 126)] {
            run(&mut place.fill(&options, &[prog])).exits(status);
            assert_eq!(before, (own_mountinfo(), place.tree()), "{prog}");
        }
        run(&mut place.fill(&options, &["true"])).ok();
        assert_ne!(before.0, own_mountinfo(), "the same options, when all goes well");
    }

    /// Let the command have 32 descriptors.
    fn few_descriptors(cmd: &mut std::process::Command) -> &mut std::process::Command {
        before_exec(cmd, || {
            let limit = libc::rlimit { rlim_cur: 32, rlim_max: 32 };
            // SAFETY: a number, and a structure that outlives the call.
            check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }).map(drop)
        });
        cmd
    }

    #[test]
    fn many_mounts_take_few_descriptors_and_are_undone_with_as_few() {
        let place = place();
        let source = source(&place);
        let (from, file) = (text(&source), source.join("file"));
        let mut options = Vec::new();
        for n in 0..100 {
            let options_of = |option: &str, source: &str, name: &str| {
                [option, source, &format!("/{name}/{n}")].map(String::from)
            };
            options.extend(options_of("--bind", from, "volumes"));
            options.extend(options_of("--ro-bind", text(&file), "files"));
            options.extend(options_of("--symlink", "x", "links"));
            options.extend(["--tmpfs".into(), format!("/fs/{n}")]);
            options.extend(["--remount-ro".into(), format!("/fs/{n}")]);
            options.extend(["--mask".into(), format!("/volumes/{n}")]);
        }
        // What is covered by a later mount is found again when that is undone.
        options.extend(["--tmpfs", "/volumes", "--tmpfs", "/volumes/1"].map(String::from));
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let before = (own_mountinfo(), place.tree());
        let mut cmd = place.fill(&options, &["/not/there"]);
        let output = run(few_descriptors(&mut cmd)).exits(127);
        assert!(!output.err().contains("not undone"), "{output:#}");
        assert!(before == (own_mountinfo(), place.tree()), "something is left");
        run(few_descriptors(&mut place.fill(&options, &[text(&busybox()), "true"]))).ok();
        assert_eq!(place.now().iter().filter(|mount| mount.starts_with("files/")).count(), 100);
    }

    /// The owner of a part of the image changes where a path leads, while td-mount waits for the reader of its trace.
    #[test]
    fn what_is_found_in_the_place_of_what_was_done_is_left_alone() {
        use std::io::Read;
        use std::os::fd::AsRawFd;
        let place = place();
        for dir in ["a", "etc/v"] {
            fs::create_dir_all(place.image.join(dir)).expect("a directory");
        }
        let mut options = vec!["--trace=100".into(), "--tmpfs".into(), "/a/v".into()];
        options.extend((0..500).flat_map(|n| ["--dir".into(), format!("/more/{n}")]));
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let mut cmd = place.fill(&options, &["/not/there"]);
        let (reader, writer) = house::pipe();
        // SAFETY: numbers.
        check(unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) })
            .expect("a pipe");
        give_fd(&mut cmd, 100, writer);
        let running = start(&mut cmd);
        drop(cmd);
        let (mut trace, mut read) = (fs::File::from(reader), Vec::new());
        while !String::from_utf8_lossy(&read).contains("move_mount(") {
            let mut piece = [0; 256];
            let n = trace.read(&mut piece).expect("the trace");
            assert!(n > 0, "it has ended");
            read.extend(&piece[..n]);
        }
        fs::rename(place.image.join("a"), place.image.join("b")).expect("renamed");
        std::os::unix::fs::symlink("etc", place.image.join("a")).expect("a link");
        trace.read_to_end(&mut read).expect("the rest");
        let output = running.wait().exits(127);
        for what in ["a/v now leads elsewhere", "a now leads elsewhere"] {
            assert!(output.err().contains(what), "{what}: {output}");
        }
        assert!(place.image.join("etc/v").is_dir(), "it is not td-mount's");
        assert!(!place.image.join("more").exists(), "the rest is undone");
    }

    #[test]
    fn what_cannot_be_undone_is_said() {
        let place = place();
        let cmd = place.fill(&["--tmpfs", "/tmp", "--tmpfs", "/etc/passwd"], &["true"]);
        let (output, _) = strace(&["--inject=umount2:error=EBUSY"], &cmd);
        output.exits(125).says("EBUSY").says("so this step was not undone");
    }

    #[test]
    fn a_path_that_moved_is_looked_up_again_and_not_for_ever() {
        let place = place();
        let cmd = place.fill(&["--tmpfs", "/tmp"], &["true"]);
        let (output, _) = strace(&["--inject=openat2:error=EAGAIN:when=1..3"], &cmd);
        output.exits(0);
        assert_eq!(place.now(), ["tmp tmpfs rw,nosuid,nodev"]);
        let (output, processes) = strace(&["--inject=openat2:error=EAGAIN"], &cmd);
        output.exits(125).says("EAGAIN");
        let tries = processes[0].calls.iter().filter(|call| call.name == "openat2").count();
        assert_eq!(tries, 32);
    }

    #[test]
    fn the_root_may_be_the_callers() {
        let place = place();
        let host = host_mountinfo();
        let script = "grep ' /tmp ' /proc/self/mountinfo; ls -a /tmp; test -e /etc/passwd";
        let mut cmd =
            td("td-unshare", ["-m", "td-mount", "--tmpfs", "/tmp", "/", "sh", "-c", script]);
        let out = run(&mut cmd).ok().out();
        assert!(out.contains("rw,nosuid,nodev"), "{out}");
        assert!(out.ends_with(".\n..\n"), "{out}");
        assert_eq!(host, host_mountinfo());
        drop(place);
    }

    #[test]
    fn in_a_user_namespace_devices_are_bound_and_the_rest_is_the_same() {
        let place = place();
        let script = "cat /proc/self/mountinfo; cd \"$0\"/dev && echo x >null && head -c 3 zero | od -An -c && ls -ln pts/ptmx";
        let options = ["--proc", "--dev", "--sys", "--mask", "/etc/passwd"];
        let mut cmd = td("td-unshare", ["-r", "-m", "-p", "-i", "-n", "td-mount"]);
        cmd.args(options).arg(&place.image).args(["sh", "-c", script, text(&place.image)]);
        let out = run(&mut cmd).ok().out();
        let mounts = place.mounts(&out);
        let nodes: Vec<&String> = mounts
            .iter()
            .filter(|m| m.contains("rw,nosuid,noexec") && !m.contains("pts"))
            .collect();
        assert_eq!(nodes.len(), 6, "{mounts:?}");
        let rest: Vec<&String> = mounts.iter().filter(|m| !nodes.contains(m)).collect();
        assert_eq!(rest[..6], STANDARD, "{out}");
        assert!(rest[6].starts_with("etc/passwd ") && rest.len() == 7, "{rest:?}");
        assert!(out.contains("\\0  \\0  \\0"), "{out}");
        assert!(out.contains("crw-rw-rw-"), "{out}");
    }

    /// td-mount as an ordinary user, root of a user namespace of their own.
    fn fill_as_nobody(place: &Place, unshare: &str, options: &[&str], prog: &[&str]) -> Command {
        let mut cmd = Command::new("setpriv");
        cmd.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(bin("td-unshare"));
        cmd.args(unshare.split(' ')).arg(bin("td-mount")).args(options).arg(&place.image);
        cmd.args(prog);
        cmd
    }

    /// An image of an ordinary user's, and a source.
    fn nobodys() -> (Place, PathBuf) {
        let place = place();
        let source = source(&place);
        run(Command::new("chown").args(["-R", "65534:65534", text(place.dir.path())])).ok();
        (place, source)
    }

    #[test]
    fn an_ordinary_user_mounts_all_that_root_does() {
        let (place, source) = nobodys();
        let before = own_mountinfo();
        let file = source.join("file");
        let options =
            ["--proc", "--dev", "--sys", "--mask", "/proc/version", "--mask", "/sys/firmware"];
        let more =
            ["--remount-ro", "/proc/sys", "--tmpfs", "/run", "--options", "size=64k,mode=750"];
        let binds = ["--bind", text(&source), "/data", "--ro-bind", text(&source), "/etc"];
        let rest = ["--bind", text(&file), "/run/new/file", "--remount-ro", "/var"];
        let script = "cat /proc/self/mountinfo; cd \"$0\" && echo x >dev/null && head -c 3 dev/zero | wc -c
            cat proc/version && echo x >data/new; stat -c '%a %F' dev/null run; (exec 3<>dev/ptmx) && ls dev/pts
            stat -c '%a' dev/pts dev/shm; for f in etc var proc/sys/kernel; do echo x >$f/hostname; done; :";
        let sh = ["sh", "-c", script, text(&place.image)];
        let options = [&options[..], &more, &binds, &rest].concat();
        let output = run(&mut fill_as_nobody(&place, "-r -m -p -i -n", &options, &sh)).exits(0);
        let out = output.out();
        let end = "\n3\n666 character special file\n750 directory\nptmx\n755\n1777\n";
        assert!(out.ends_with(end), "{output:#}");
        assert_eq!(output.err().matches("Read-only file system").count(), 3, "{output:#}");
        assert_eq!(output.err().lines().count(), 3, "{output:#}");

        let mut mounts = place.mounts(&out.replace("devtmpfs", "tmpfs"));
        for node in ["null", "zero", "full", "random", "urandom", "tty"] {
            let expected = format!("dev/{node} ");
            let at = mounts.iter().position(|m| m.starts_with(&expected)).expect(node);
            assert!(mounts.remove(at).ends_with(" rw,nosuid,noexec"), "{out}");
        }
        let expected = [
            "proc/version tmpfs ro,nosuid,noexec",
            "sys/firmware tmpfs ro,nosuid,nodev,noexec",
            "proc/sys proc ro,nosuid,nodev,noexec",
            "run tmpfs rw,nosuid,nodev",
            "data tmpfs rw,nodev",
            "data/below tmpfs rw,nodev",
            "etc tmpfs ro,nodev",
            "etc/below tmpfs ro,nodev",
            "run/new/file tmpfs rw,nodev",
            "var tmpfs ro",
        ];
        assert_eq!(mounts[..6], STANDARD, "{out}");
        assert_eq!(mounts[6..], expected, "{out}");
        assert_eq!(before, own_mountinfo());
    }

    /// As an ordinary user it must fail, saying all of this, and leave nothing.
    #[track_caller]
    fn nobody_fails(place: &Place, unshare: &str, options: &[&str], says: &[&str]) {
        let before = (own_mountinfo(), place.tree());
        let output = run(&mut fill_as_nobody(place, unshare, options, &["echo", "executed"]));
        output.silent();
        let output = says.iter().fold(output.exits(125), |output, text| output.says(text));
        assert!(!output.err().contains("not undone"), "{output:#}");
        assert_eq!(before, (own_mountinfo(), place.tree()), "{options:?} left something");
    }

    #[test]
    fn an_ordinary_user_is_told_what_the_kernel_refuses_and_why() {
        let (place, source) = nobodys();
        let dir = text(&source);
        for options in [&["--tmpfs", "/run"][..], &["--bind", dir, "/data"], &["--proc"]] {
            let says = ["EPERM", "the mount namespace belongs to another user namespace"];
            nobody_fails(&place, "-r", options, &says);
        }
        let foreign = "the pid namespace belongs to another user namespace";
        let options = ["--tmpfs", "/run", "--proc"];
        nobody_fails(&place, "-r -m", &options, &["EPERM", foreign, "td-unshare --pid"]);
        let mut cmd = Command::new("setpriv");
        cmd.args(["--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "-r", "-m", "-p"]);
        cmd.arg(bin("td-mount")).arg("--proc").arg(&place.image).args(["echo", "executed"]);
        run(&mut cmd).exits(125).says("EPERM").says(foreign).says("fork first").silent();
        mount(["--bind", "/dev/zero", "/dev/full"]);
        let says = ["/dev/full is not the expected device", "the caller's is needed"];
        nobody_fails(&place, "-r -m", &["--tmpfs", "/run", "--dev"], &says);
        mount(["-t", "tmpfs", "tmpfs", "/proc/sys"]);
        let says =
            ["EPERM", "what is covered in the existing one: /proc/sys", "--bind /proc /proc"];
        nobody_fails(&place, "-r -m -p", &options, &says);
        run(&mut fill_as_nobody(&place, "-r -m -p", &["--bind", "/proc", "/proc"], &["true"])).ok();
    }

    #[test]
    fn what_is_locked_in_a_user_namespace_is_named_with_its_mount() {
        let (place, source) = nobodys();
        let below = source.join("below");
        place.dir.dir("other/source/below/deep");
        mount(["-o", "remount,bind,strictatime", text(&place.dir.join("other"))]);
        mount(["-o", "remount,bind,ro,nosuid,nodev,noexec", text(&below)]);
        let locked = "which is locked in this user namespace";
        for (list, word) in [
            ("rw", "ro"),
            ("suid", "nosuid"),
            ("dev", "nodev"),
            ("exec", "noexec"),
            ("noatime", "relatime"),
        ] {
            let says = format!("the mount on {} is {word}, {locked}", text(&below));
            for from in [&below, &below.join("deep"), &source] {
                let options = ["--tmpfs", "/run", "--bind", text(from), "/run/data/new"];
                let options = [&options[..], &["--options", list]].concat();
                nobody_fails(&place, "-r -m", &options, &["EPERM", &says]);
            }
        }
        // One that the user has made, and may change, is not blamed.
        let script = format!(
            "mount -t tmpfs -o nodev tmpfs {0}/image/etc && mount --rbind {0}/other/source {0}/image/var && \
             exec \"$@\"",
            text(place.dir.path())
        );
        let mut cmd = fill_as_nobody(&place, "-r -m", &[], &[]);
        let args: Vec<_> = cmd.get_args().map(|arg| arg.to_owned()).collect();
        let at = args.iter().position(|arg| *arg == bin("td-mount")).expect("td-mount");
        cmd = Command::new("setpriv");
        cmd.args(&args[..at]).args(["sh", "-c", &script, "sh"]).arg(bin("td-mount"));
        cmd.args(["--bind", "/", "/data", "--options", "dev"]).arg(&place.image);
        let output = run(cmd.arg("true")).exits(125).says("EPERM").says(locked);
        assert!(!output.err().contains("image/etc"), "{output}");
        output.says("keep the mount flags: --dev-bind SRC DST");
        let cat = ["cat", "/proc/self/mountinfo"];
        let options = ["--dev-bind", "/", "/data"];
        let out = run(&mut fill_as_nobody(&place, "-r -m", &options, &cat)).ok().out();
        let shown = place.mounts(&out);
        let kept = format!("data{} tmpfs ro,nosuid,nodev,noexec", text(&below));
        assert!(shown.contains(&kept), "{shown:?}");
        // What is there already is kept without asking, and more may be added.
        let options = ["--bind", text(&below), "/data", "--options", "ro,nosymfollow"];
        let out = run(&mut fill_as_nobody(&place, "-r -m", &options, &cat)).ok().out();
        assert_eq!(place.mounts(&out), ["data tmpfs ro,nosuid,nodev,noexec,nosymfollow"]);
    }

    /// td-mount as root of a new user namespace and of `namespaces`, on a directory on a tmpfs of the test's own.
    fn inside(dir: &TempDir, namespaces: &str, options: &str) -> Output {
        let root = dir.dir("root");
        let mut cmd = td("td-unshare", ["-r", "-m"]);
        cmd.args(namespaces.split(' ').filter(|word| !word.is_empty())).arg("td-mount");
        cmd.args(options.split(' ')).arg(root).arg("true").current_dir(dir.path());
        run(&mut cmd)
    }

    #[test]
    fn only_the_flag_that_is_locked_is_named() {
        let dir = image_on_tmpfs("image");
        let below = dir.dir("source/below");
        mount(["-t", "tmpfs", "-o", "nosuid", "tmpfs", text(&below)]);
        let after = |script: &str, options: &str| {
            let script = format!("{script} && exec \"$@\"");
            let mut cmd = td("td-unshare", ["-r", "-m", "sh", "-c", &script, "sh"]);
            cmd.arg(bin("td-mount")).args(options.split(' ')).arg(dir.dir("root")).arg("true");
            run(cmd.current_dir(dir.path()))
        };
        let at = text(&below);
        let ro = format!("mount -o remount,bind,ro,nosuid {at}");
        let output = after(&ro, "--bind source /s --options rw,suid").exits(125);
        let locked = "which is locked in this user namespace\n";
        let output = output.says(&format!("the mount on {at} is nosuid, {locked}"));
        output.says("leave out --options suid");
        after(&ro, "--bind source /s --options rw").ok();
        // One that is covered cannot be tried.
        let cover = format!("mount -t tmpfs tmpfs {at} && mount -o remount,bind,ro {at}");
        let output = after(&cover, "--bind source /s --options rw,suid").exits(125);
        output.says(&format!(
            "perhaps the mount on {at} that another one covers is nosuid, {locked}"
        ));
        after(&cover, "--bind source /s --options rw").ok();
    }

    #[test]
    fn what_shows_a_namespace_is_refused_for_that_namespace() {
        let dir = image_on_tmpfs("image");
        // A hierarchy of version 1, if there is one.
        let cgroups = fs::read_to_string("/proc/self/cgroup").expect("cgroups");
        let controllers = cgroups.lines().filter_map(|line| line.split(':').nth(1));
        let mut controllers = controllers.filter(|all| !all.is_empty() && !all.contains('='));
        let controllers = controllers.next().map(|all| format!(" --options {all}"));
        let controllers = controllers.as_deref();
        for (fs, options, name, namespace) in [
            ("proc", "", "pid", "--pid"),
            ("sysfs", "", "net", "--net"),
            ("mqueue", "", "ipc", "--ipc"),
            ("cgroup2", "", "cgroup", "--cgroup"),
        ]
        .into_iter()
        .chain(controllers.into_iter().map(|options| ("cgroup", options, "cgroup", "--cgroup")))
        {
            let line = format!("--fs {fs} none /new{options}");
            let output = inside(&dir, "", &line).exits(125).says("EPERM");
            let why = format!("the {name} namespace belongs to another user namespace\n");
            output.says(&why).says(&format!("run it inside td-unshare {namespace}"));
            inside(&dir, namespace, &line).ok();
            // Without any right it is not the namespace.
            let mut cmd = Command::new("setpriv");
            cmd.args(["--reuid=65534", "--clear-groups"]).arg(bin("td-mount"));
            cmd.args(line.split(' ')).arg(dir.dir("root")).arg("true");
            let output = run(&mut cmd).exits(125).says("EPERM").says("has no CAP_SYS_ADMIN");
            assert!(!output.err().contains("namespace belongs"), "{output}");
        }
        inside(&dir, "", "--fs tmpfs none /new").ok();
    }

    #[test]
    fn what_a_new_sysfs_or_proc_would_show_or_allow_is_named() {
        let dir = image_on_tmpfs("image");
        let (sysfs, proc) = ("--fs sysfs none /new", "--fs proc none /new");
        // What is mounted where sysfs has a directory for that hides nothing.
        assert!(own_mountinfo().contains(" /sys/fs/cgroup "));
        inside(&dir, "--net", sysfs).ok();
        mount(["-t", "tmpfs", "covers", "/sys/firmware"]);
        let output = inside(&dir, "--net", sysfs).exits(125).says("EPERM");
        let output =
            output.says("sysfs would show what is covered in the existing one: /sys/firmware\n");
        output.says("use --bind /sys /sys, or run it where nothing covers /sys");
        inside(&dir, "--net", "--bind /sys /sys").ok();
        run(Command::new("umount").arg("/sys/firmware")).ok();
        mount(["-t", "tmpfs", "covers", "/proc/fs"]);
        let output = inside(&dir, "--pid", proc).exits(125).says("EPERM");
        output.says("proc would show what is covered in the existing one: /proc/fs\n");
        inside(&dir, "--pid", "--bind /proc /proc").ok();
        run(Command::new("umount").arg("/proc/fs")).ok();
        inside(&dir, "--pid", proc).ok();
        for flags in ["ro", "noatime", "ro,noatime"] {
            mount(["-o", &format!("remount,bind,rw,relatime,{flags}"), "/sys"]);
            let output = inside(&dir, "--net", sysfs).exits(125).says("EPERM");
            let why =
                format!("the existing sysfs is {flags}, which is locked in this user namespace");
            let output = output.says(&why).says(&format!("--options {flags}"));
            assert!(!output.err().contains("covered"), "{output}");
            inside(&dir, "--net", &format!("{sysfs} --options {flags}")).ok();
        }
    }

    #[test]
    fn an_id_that_is_not_mapped_is_named_where_the_kernel_refuses_it() {
        let dir = image_on_tmpfs("image");
        for (line, id) in [
            ("--fs devpts none /new --options newinstance,gid=", "gid"),
            ("--fs tmpfs none /new --options uid=", "uid"),
            ("--tmpfs /new --options gid=", "gid"),
        ] {
            let output = inside(&dir, "", &format!("{line}5")).exits(125).says("EINVAL");
            let output = output.says(&format!("{id} 5 is not mapped in this user namespace\n"));
            output.says("leave it out, or use an id that is mapped");
            inside(&dir, "", &format!("{line}0")).ok();
        }
        // It is there, and another option was refused first.
        let output = inside(&dir, "", "--tmpfs /new --options size=x,gid=5").exits(125);
        assert!(!output.err().contains("is not mapped"), "{output}");
        let root = dir.dir("root");
        let words = ["--tmpfs", "/new", "--options", "gid=x", text(&root), "true"];
        let output = run(&mut td("td-mount", words)).exits(125).says("EINVAL");
        assert!(!output.err().contains("is not mapped"), "{output}");
    }

    #[test]
    fn where_group_5_is_not_mapped_a_terminal_has_the_group_of_its_opener() {
        let (place, _) = nobodys();
        let pts = place.image.join("dev/pts");
        let script = "exec 3<>\"$0\"/../ptmx; stat -c '%g %a' \"$0\"/*; cat /proc/self/mountinfo";
        let cmd = fill_as_nobody(&place, "-r -m", &["--dev"], &["sh", "-c", script, text(&pts)]);
        let (output, processes) = strace(&[], &cmd);
        let output = output.exits(0).says("a new mqueue is refused (EPERM)");
        let out = output.out();
        assert!(out.starts_with("0 620\n"), "{out}");
        let line = out.lines().find(|line| line.contains("image/dev/pts")).expect("devpts");
        assert!(!line.contains("gid="), "{line}");
        // Linux 6.1 looks at the group only when the file system is made.
        let calls: Vec<_> = processes.iter().flat_map(|process| &process.calls).collect();
        let gid =
            calls.iter().position(|call| call.name == "fsconfig" && call.args[2] == "\"gid\"");
        let after = calls.iter().skip(gid.expect("the group is asked for"));
        let refused =
            after.take_while(|call| call.name == "fsconfig").any(|call| call.result == "-1 EINVAL");
        assert!(refused, "{output}");
    }

    #[test]
    fn what_an_ordinary_user_may_not_make_in_the_image_of_another_is_named() {
        let place = place();
        let file = text(&source(&place).join("file")).to_string();
        let says = ["EACCES", "image/new does not exist, and is needed"];
        nobody_fails(&place, "-r -m", &["--tmpfs", "/run", "--tmpfs", "/new"], &says);
        nobody_fails(&place, "-r -m", &["--bind", &file, "/new"], &says);
        // On what is there it can be mounted, and what is not there can be had on a tmpfs.
        let options = ["--tmpfs", "/run", "--bind", &file, "/run/new", "--bind", &file];
        let options = [&options[..], &["/etc/passwd"]].concat();
        run(&mut fill_as_nobody(&place, "-r -m", &options, &["true"])).ok();
    }

    #[test]
    fn in_a_user_namespace_the_devices_of_a_root_that_is_covered_still_serve() {
        let _place = place();
        let script = "echo x >/dev/null && test -c /dev/tty && ls /dev/pts";
        let args = ["-r", "-m", "-p", "-i", "td-mount", "--dev", "/", "sh", "-c", script];
        assert_eq!(run(&mut td("td-unshare", args)).ok().out(), "ptmx\n");
    }

    #[test]
    fn what_belongs_to_another_network_or_ipc_namespace_is_bound_read_only_or_left_out() {
        let place = place();
        let cmd = &mut place.fill_in(
            &["-r", "-m", "-p"],
            &["--dev", "--sys"],
            &["cat", "/proc/self/mountinfo"],
        );
        let output = run(cmd).exits(0);
        let said = "td-mount: a new mqueue is refused (EPERM): /dev/mqueue stays empty\n\
                    td-mount: a new sysfs is refused (EPERM): binding the caller's /sys instead, with the cgroups \
                    mounted there\n";
        assert_eq!(output.err(), said);
        let mounts = place.mounts(&output.out());
        assert!(!mounts.iter().any(|m| m.contains("mqueue")), "{mounts:?}");
        let sys: Vec<&String> = mounts.iter().filter(|m| m.starts_with("sys")).collect();
        assert_eq!(*sys[0], STANDARD[5]);
        let hosts = own_mountinfo()
            .lines()
            .filter(|l| l.split(' ').nth(4).is_some_and(|p| Path::new(p).starts_with("/sys")))
            .count();
        assert_eq!(sys.len(), hosts, "recursively");
        assert!(sys.iter().all(|m| m.contains(" ro,")), "{sys:?}");
    }

    #[test]
    fn without_the_right_to_mount_the_error_says_which() {
        let place = place();
        let mut cmd = Command::new("setpriv");
        cmd.args(["--bounding-set", "-sys_admin", "--inh-caps", "-all"]).arg(bin("td-mount"));
        cmd.args(["--tmpfs", "/tmp"]).arg(&place.image).arg("true");
        run(&mut cmd).exits(125).says("EPERM").says("this process has no CAP_SYS_ADMIN");
        let mut cmd = Command::new("setpriv");
        cmd.args(["--bounding-set", "-sys_admin", "--inh-caps", "-all"]).arg(bin("td-mount"));
        cmd.args(["--fs", "ext4", "/not/there", "/tmp"]).arg(&place.image).arg("true");
        run(&mut cmd).exits(125).says("EPERM").says("this process has no CAP_SYS_ADMIN");
        for options in [["--tmpfs", "/tmp"].as_slice(), &["--bind", "/etc", "/tmp"], &["--proc"]] {
            run(&mut place.fill_in(&["-r"], options, &["true"]))
                .exits(125)
                .says("the mount namespace belongs to another user namespace")
                .says("td-unshare --mount");
        }
    }

    #[test]
    fn without_a_pid_namespace_of_ours_the_error_of_proc_says_so() {
        let place = place();
        let foreign = "the pid namespace belongs to another user namespace";
        run(&mut place.fill_in(&["-r", "-m"], &["--proc"], &["true"]))
            .exits(125)
            .says(foreign)
            .says("td-unshare --pid");
        let mut cmd = Command::new("unshare");
        cmd.args(["-r", "-m", "-p"])
            .arg(bin("td-mount"))
            .arg("--proc")
            .arg(&place.image)
            .arg("true");
        run(&mut cmd).exits(125).says(foreign).says("fork first");
    }

    #[test]
    fn where_the_old_proc_is_covered_the_error_says_where() {
        let place = place();
        mount(["-t", "tmpfs", "tmpfs", "/proc/sys"]);
        run(&mut place.fill_in(&["-r", "-m", "-p"], &["--proc"], &["true"]))
            .exits(125)
            .says("what is covered in the existing one: /proc/sys\n")
            .says("--bind /proc /proc");
        let bound =
            &mut place.fill_in(&["-r", "-m", "-p"], &["--bind", "/proc", "/proc"], &["true"]);
        run(bound).ok();
    }

    #[test]
    fn where_there_is_no_proc_root_mounts_one_and_a_user_namespace_is_told() {
        let place = place();
        run(Command::new("umount").args(["-l", "/proc"])).ok();
        let user = run(&mut place.fill_in(&["-U", "-m", "-p"], &["--proc"], &["true"]));
        let exe = place.image.join("proc/self/exe");
        let prog = ["test", "-e", text(&exe)];
        let by_root = run(&mut place.fill(&["--proc", "--dev", "--sys"], &prog));
        let undone =
            run(&mut place.fill(&["--tmpfs", "/run", "--tmpfs", "/etc/passwd"], &["true"]));
        run(Command::new("mount").args(["-t", "proc", "proc", "/proc"])).ok();
        by_root.ok();
        user.exits(125)
            .says("must not show more than an existing one, and perhaps none is mounted");
        let undone = undone.exits(125).err();
        assert!(!undone.contains("not undone"), "{undone}");
        assert!(!place.now().iter().any(|m| m.starts_with("run")), "it was undone without /proc");
    }

    #[test]
    fn a_device_that_can_be_neither_made_nor_bound_is_named() {
        let place = place();
        mount(["--bind", "/dev/zero", "/dev/full"]);
        run(&mut place.fill_in(&["-r", "-m"], &["--dev"], &["true"]))
            .exits(125)
            .says("/dev/full is not the expected device")
            .says("so the caller's is needed");
    }

    #[test]
    fn an_unbindable_source_and_one_of_another_namespace_are_named() {
        let place = place();
        mount(["--make-unbindable", text(&place.dir.join("other"))]);
        place.fails(&["--bind", text(&place.dir.join("other")), "/tmp"], "other is unbindable");
        let other = start(&mut td("td-unshare", ["-m", "sh", "-c", "echo there; exec sleep 1000"]));
        other.prints("there");
        let source = format!("/proc/{}/root/etc", other.pid());
        place.fails(&["--bind", &source, "/tmp"], "the source is not in this mount namespace");
    }

    #[test]
    fn a_target_that_cannot_be_made_is_named() {
        let place = place();
        mount(["--bind", "-o", "ro", text(&place.image), text(&place.image)]);
        place.fails(&["--tmpfs", "/new"], "image/new does not exist, and is needed");
    }

    #[test]
    fn a_dry_run_mounts_and_makes_nothing_also_where_the_root_is_not_there_yet() {
        let place = place();
        let before = (own_mountinfo(), place.tree());
        let options = ["--dry-run", "--proc", "--dev", "--sys", "--bind", "/etc", "/new/dir"];
        let more = [
            "--tmpfs",
            "/new/b",
            "--bind",
            "/not/there",
            "/c",
            "--mask",
            "/etc/passwd",
            "--remount-ro",
            "/",
        ];
        let rest = ["--cgroup", "--fs", "nosuch", "/not/there", "/d", "--dir", "/e/f"];
        let last = ["--symlink", "x", "/e/f/g", "--move", "/not/there/either", "/h"];
        let options = [&options[..], &more, &rest, &last].concat();
        let out = run(&mut place.fill(&options, &["true"])).ok().out();
        assert!(out.contains("mkdirat(") && out.contains("move_mount("), "{out}");
        let mut cmd = td("td-mount", options);
        run(cmd.arg(place.dir.join("not-there")).arg("true")).ok();
        assert_eq!(before, (own_mountinfo(), place.tree()));
    }
}
