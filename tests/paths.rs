//! Every path that a user names: where a call fails on it, the part that failed is named, and nothing else is.

mod common;

use std::os::unix::fs::symlink;
use std::process::Command;

use common::*;

/// Each tool with a path: what is run for `{P}`, in a directory `{D}`.
const POSITIONS: &[&str] = &[
    "td-mount --dir /x {P} true",
    "td-mount --bind {P} /m {D}/image true",
    "td-mount --ro-bind {P} /m {D}/image true",
    "td-mount --dev-bind {P} /m {D}/image true",
    "td-mount --move {P} /m {D}/image true",
    "td-overlay --lower {P} {D}/new true",
    "td-overlay --lower {D}/lower --upper {P} --work {D}/work {D}/new true",
    "td-overlay --lower {D}/lower --upper {D}/upper --work {P} {D}/new true",
    "td-overlay --lower {D}/lower {P} true",
    "td-pivot {P} true",
    "td-exec --chdir {P} true",
    "td-exec --seccomp {P} true",
    "td-exec --ctty={P} true",
    "td-enter --mount={P} true",
    "td-enter --root={P} true",
    "td-enter --wd={P} true",
    "td-lock {P} true",
    "td-lock --key k {P} true",
];

/// Those that create directories that are missing.
const MAKING: &[&str] = &[
    "td-overlay --mkdir --lower {D}/lower {P} true",
    "td-lock --mkdir {P} true",
    "td-unshare -p --pid-file {P} true",
    "td-unshare -p --record 9:{P} true",
    "td-unshare --remove {P} true",
    "td-unshare --rmdir {P} true",
    "td-unshare --cgroup-record {P} true",
];

/// What each kind of failure is told by. Only the one that is meant may be printed.
const MARKS: &[&str] = &[
    "does not exist",
    "is not a directory",
    "is a symbolic link to",
    "leads to itself",
    "too many symbolic links",
    "a name in the path has",
    ": the path has",
    "may not search",
    "an empty path",
    "read-only",
    "is free on",
    "a quota",
    "immutable",
    "append-only",
    "is executed by",
    "sticky",
];

mod root {
    use super::*;

    fn place() -> TempDir {
        private_mounts();
        let dir = TempDir::new();
        for name in ["image/proc", "upper", "work", "lower", "closed", "new"] {
            std::fs::create_dir_all(dir.join(name)).expect(name);
        }
        chmod(dir.path(), 0o711);
        chmod(dir.join("closed"), 0o700);
        dir.file("file", "");
        symlink("gone/x", dir.join("dangling")).expect("a link");
        symlink("circle", dir.join("loop")).expect("a link");
        symlink("loop", dir.join("circle")).expect("a link");
        dir
    }

    fn command(line: &str, path: &str, dir: &TempDir, user: bool) -> Command {
        let line = line.replace("{D}", text(dir.path()));
        let words = line.split(' ').map(|word| word.replace("{P}", path));
        let before = if user { &["td-exec", "--user", "65534"][..] } else { &[] };
        let words: Vec<String> = before.iter().map(|word| word.to_string()).chain(words).collect();
        // Each in mounts of its own: what is mounted or moved where there is no failure is gone with it.
        td("td-unshare", ["-m"].into_iter().map(String::from).chain(words))
    }

    /// What is wrong with the messages of one run, where `says` is printed and of the marks those in `marks`.
    fn fault(cmd: &mut Command, says: &str, marks: &[&str]) -> Option<String> {
        let output = run(cmd);
        let text = output.err();
        // The call itself shows the path, and no cause.
        let causes: Vec<&str> = text.lines().skip(1).collect();
        let causes = causes.join("\n");
        let wrong = MARKS.iter().filter(|mark| causes.contains(*mark) && !marks.contains(mark));
        let wrong: Vec<_> = wrong.collect();
        let is_right = text.contains(says) && wrong.is_empty() && output.code == Some(125);
        (!is_right).then(|| format!("{cmd:?}\n  should say {says:?}, not {wrong:?}:\n{text}"))
    }

    #[track_caller]
    fn none(faults: Vec<String>) {
        assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    }

    #[test]
    fn the_component_that_failed_is_named_and_nothing_else() {
        let dir = place();
        let d = text(dir.path());
        let (name, dots) = ("x".repeat(300), "./".repeat(2100));
        let closed = format!("uid 65534 may not search {d}/closed, which belongs to uid 0");
        let kinds: &[(&str, String, &[&str], bool)] = &[
            ("gone/x", format!(": {d}/gone does not exist"), &["does not exist"], false),
            ("file/x", format!("{d}/file is not a directory"), &["is not a directory"], false),
            (
                "dangling/y",
                format!("{d}/dangling is a symbolic link to gone/x, and {d}/gone does not exist"),
                &["is a symbolic link to", "does not exist"],
                false,
            ),
            (
                "loop/y",
                format!("{d}/loop is a symbolic link that leads to itself"),
                &["leads to itself"],
                false,
            ),
            (&name, "a name in the path has 300 bytes".into(), &["a name in the path has"], false),
            (&dots, "bytes, and the kernel allows 4095".into(), &[": the path has"], false),
            ("closed/x", closed, &["may not search"], true),
        ];
        let mut faults = Vec::new();
        for line in POSITIONS {
            for (name, says, marks, user) in kinds {
                // td-lock says whose a directory is in other words.
                let is_other = *user && line.starts_with("td-lock");
                let says = if is_other { "/closed belongs to uid 0 (mode 0700)" } else { says };
                let path = format!("{d}/{name}");
                faults.extend(fault(&mut command(line, &path, &dir, *user), says, marks));
            }
        }
        none(faults);
    }

    #[test]
    fn where_the_missing_is_created_the_rest_is_named() {
        let dir = place();
        let d = text(dir.path());
        let name = format!("{}/x", "x".repeat(300));
        let kinds: &[(&str, &str, &[&str])] = &[
            ("file/x", "/file is not a directory", &["is not a directory"]),
            ("loop/y", "too many symbolic links: ", &["too many symbolic links"]),
            (&name, "a name in the path has 300 bytes", &["a name in the path has"]),
        ];
        let mut faults = Vec::new();
        for line in MAKING {
            for (name, says, marks) in kinds {
                let path = format!("{d}/{name}");
                faults.extend(fault(&mut command(line, &path, &dir, false), says, marks));
            }
        }
        none(faults);
    }

    /// Those that create a file or a directory in an existing directory `{P}`.
    const CREATING: &[&str] = &[
        "td-lock {P}/new true",
        "td-lock --key k {P}/new true",
        "td-lock --mkdir {P}/new/lock true",
        "td-unshare -p --pid-file {P}/new true",
        "td-unshare -p --record 9:{P}/new true",
        "td-unshare --uts={P}/new true",
        "td-overlay --mkdir --lower {D}/lower {P}/new true",
        "td-mount --dir /new {P} true",
        "td-mount --symlink to /new {P} true",
        "td-mount --bind {D}/file /new {P} true",
    ];

    /// Where nothing can be created in the directory `path`, all say why.
    #[track_caller]
    fn refuses(dir: &TempDir, path: &str, says: &str, marks: &[&str]) {
        let refused = |line: &&str| fault(&mut command(line, path, dir, false), says, marks);
        none(CREATING.iter().filter_map(refused).collect());
    }

    #[test]
    fn a_mount_that_is_read_only_is_named() {
        let dir = place();
        let path = dir.dir("ro");
        let d = text(&path);
        mount(["-t", "tmpfs", "it", d]);
        mount(["-o", "remount,bind,ro", d]);
        let says = format!("{d} is mounted read-only");
        refuses(&dir, d, &says, &["read-only", "does not exist"]);
        mount(["-o", "remount,ro", d]);
        mount(["-o", "remount,bind,rw", d]);
        let says = format!("{d} (tmpfs) is read-only");
        let says = says.replace(d, &format!("the file system mounted on {d}"));
        refuses(&dir, d, &says, &["read-only", "does not exist"]);
        // Writable again, nothing is said.
        mount(["-o", "remount,rw", d]);
        run(&mut command(CREATING[0], d, &dir, false)).ok();
    }

    #[test]
    fn a_full_file_system_is_named_with_what_it_lacks() {
        let dir = place();
        let path = dir.dir("full");
        let d = text(&path);
        // Its root is the one inode.
        mount(["-t", "tmpfs", "-o", "nr_inodes=1", "it", d]);
        let says = format!("no inode is free on {d} (tmpfs)");
        refuses(&dir, d, &says, &["is free on", "does not exist"]);
        mount(["-o", "remount,nr_inodes=9", d]);
        run(&mut command(CREATING[0], d, &dir, false)).ok();
    }

    #[test]
    fn an_immutable_directory_is_named() {
        let dir = place();
        let path = dir.dir("kept");
        let d = text(&path);
        mount(["-t", "tmpfs", "it", d]);
        run(Command::new("chattr").args(["+i", d])).ok();
        refuses(&dir, d, &format!("{d} is immutable"), &["immutable", "does not exist"]);
        // What is created in an append-only directory stays, and it can be created.
        run(Command::new("chattr").args(["-i", d])).ok();
        run(Command::new("chattr").args(["+a", d])).ok();
        run(&mut command(CREATING[0], d, &dir, false)).ok();
        run(Command::new("chattr").args(["-a", d])).ok();
    }
}
