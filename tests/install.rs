//! scripts/install: what it puts where, and that it works from there.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::*;

const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");

/// scripts/install with these arguments.
fn install<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut cmd = Command::new(Path::new(CHECKOUT).join("scripts/install"));
    cmd.args(args);
    cmd
}

/// Install below this directory.
#[track_caller]
fn install_below(prefix: &Path) -> Output {
    run(install(["--prefix"]).arg(prefix)).ok()
}

/// The modes of the files below a directory, by their paths from there.
#[track_caller]
fn modes(directory: &Path) -> BTreeMap<PathBuf, u32> {
    let mut modes = BTreeMap::new();
    let mut left = vec![directory.to_path_buf()];
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(&path).expect("a directory") {
            let path = entry.expect("an entry").path();
            let mode = path.symlink_metadata().expect("its mode").permissions().mode() & 0o7777;
            if path.is_dir() {
                assert_eq!(mode, 0o755, "{}", path.display());
                left.push(path);
            } else {
                let name = path.strip_prefix(directory).expect("below it").to_path_buf();
                modes.insert(name, mode);
            }
        }
    }
    modes
}

/// The files of a directory of the checkout whose names begin with "td".
fn names(directory: &str) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(Path::new(CHECKOUT).join(directory)).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string());
    names.map(|name| name.expect("UTF-8")).filter(|name| name.starts_with("td"))
}

/// bin/ may come first in PATH: it does not contain the name of another program.
#[test]
fn bin_holds_the_programs_and_the_scripts_for_users_and_nothing_else() {
    let entries = fs::read_dir(bin_dir()).expect("run scripts/build first");
    let names_there = entries.map(|entry| entry.expect("an entry").file_name());
    let there = names_there.map(|name| name.into_string().expect("a plain name"));
    let there: BTreeSet<_> = there.filter(|name| name != ".built").collect();
    let made = names("src/bin").chain(names("scripts")).filter(|name| !name.ends_with(".8"));
    let made: BTreeSet<_> = made.map(|name| name.trim_end_matches(".rs").to_string()).collect();
    assert_eq!(there, made);
    assert!(made.contains("td-exec") && made.contains("td-run"), "{made:?}");
    for name in names("scripts").filter(|name| !name.ends_with(".8")) {
        let (copy, source) = (bin(&name), Path::new(CHECKOUT).join("scripts").join(&name));
        assert!(!copy.is_symlink() && fs::read(&copy).ok() == fs::read(source).ok(), "{name}");
        assert_eq!(copy.metadata().expect("its mode").permissions().mode() & 0o111, 0o111);
    }
}

#[test]
fn every_program_script_and_manual_is_installed_with_its_mode_whatever_the_umask() {
    let dir = TempDir::new();
    let prefix = dir.join("a prefix");
    for mask in ["000", "077"] {
        let mut cmd = sh(&format!("umask {mask}; exec \"$@\""));
        run(cmd.arg("sh").args(words(&install(["--prefix"]))).arg(&prefix)).ok();
        let mut modes = modes(&prefix);
        let mut takes = |name: &str, mode| {
            assert_eq!(modes.remove(Path::new(name)), Some(mode), "{name}");
        };
        for name in names("src/bin").chain(names("src/tools")).chain(names("scripts")) {
            if let Some((_, section @ ("7" | "8"))) = name.rsplit_once('.') {
                takes(&format!("share/man/man{section}/{name}"), 0o644);
            } else {
                takes(&format!("bin/{}", name.trim_end_matches(".rs")), 0o755);
            }
        }
        takes("share/doc/td/README.md", 0o644);
        takes("share/doc/td/docs/from-the-tutorials.md", 0o644);
        takes("share/doc/td/LICENSE", 0o644);
        takes("share/td/rootfs/skeleton/etc/passwd", 0o644);
        let of_images =
            |(path, mode): (&PathBuf, &u32)| path.starts_with("share/td/rootfs") && *mode == 0o644;
        assert!(modes.iter().all(of_images), "{modes:?}");
    }
}

#[test]
fn a_directory_may_stand_for_the_root_meanwhile_and_both_are_named_from_where_the_caller_is() {
    let dir = TempDir::new();
    run(install(["--destdir=package", "--prefix=/usr/"]).current_dir(dir.path())).ok();
    assert!(dir.join("package/usr/bin/td-exec").is_file());
    run(install(["--prefix", "local"]).current_dir(dir.path())).ok();
    assert!(dir.join("local/bin/td-exec").is_file());
}

#[test]
fn a_program_that_runs_and_one_that_is_a_link_are_replaced() {
    let dir = TempDir::new();
    install_below(dir.path());
    let program = dir.join("bin/td-init");
    let before = fs::metadata(&program).expect("td-init").ino();
    let running = start(Command::new(&program).args(["sleep", "1000"]));
    wait_for("td-init to run", || (!children_of(running.pid()).is_empty()).then_some(()));
    // As of one who had linked it to a checkout: it must not be written through.
    let (link, file) = (dir.join("bin/td-run"), dir.file("file", "theirs"));
    fs::remove_file(&link).expect("td-run");
    symlink(&file, &link).expect("a link");

    install_below(dir.path());
    assert!(is_alive(running.pid()));
    assert_ne!(fs::metadata(&program).expect("td-exec").ino(), before, "written over");
    assert!(!link.is_symlink());
    assert_eq!(fs::read(file).expect("the file"), b"theirs");
}

#[test]
fn uninstalling_leaves_what_others_have_put_there() {
    let dir = TempDir::new();
    dir.dir("share/td/rootfs");
    dir.file("share/td/rootfs/recipe", "");
    dir.dir("share/td/images/default/proc");
    dir.dir("bin");
    dir.file("bin/other", "");
    install_below(dir.path());
    // The second time there is nothing to do.
    for _ in 0..2 {
        run(install(["--uninstall", "--prefix"]).arg(dir.path())).ok();
        let left: Vec<PathBuf> = modes(dir.path()).into_keys().collect();
        assert_eq!(left, [Path::new("bin/other"), Path::new("share/td/rootfs/recipe")]);
        assert!(!dir.join("share/doc/td").exists());
        // With --prefix ~/.local, the state is there too.
        assert!(dir.join("share/td/images/default/proc").is_dir());
    }
}

#[test]
fn a_failure_is_named_and_changes_nothing() {
    let dir = TempDir::new();
    // The last to be copied: by then all else has been.
    dir.dir("share/doc/td/LICENSE");
    dir.dir("bin");
    dir.file("bin/td-exec", "old");
    let output = run(install(["--prefix"]).arg(dir.path())).exits(125);
    output.says("share/doc/td/LICENSE is a directory");
    assert_eq!(modes(dir.path()).into_keys().collect::<Vec<_>>(), [Path::new("bin/td-exec")]);
    assert_eq!(fs::read(dir.join("bin/td-exec")).expect("td-exec"), b"old");

    // (In blocks of 512 or 1024 bytes, by shell: less than a program has.)
    let dir = TempDir::new();
    let mut cmd = sh("trap '' XFSZ; ulimit -f 32; exec \"$@\"");
    cmd.arg("sh").args(words(&install(["--prefix"]))).arg(dir.path());
    run(&mut cmd).exits(125).says("File too large");
    assert_eq!(modes(dir.path()).len(), 0);

    let file = dir.file("file", "");
    run(install(["--prefix"]).arg(file.join("below"))).exits(125).says("Not a directory");
}

#[test]
fn a_signal_leaves_nothing() {
    for (signal, status) in [(libc::SIGHUP, 129), (libc::SIGINT, 130), (libc::SIGTERM, 143)] {
        let dir = TempDir::new();
        // Stopped in the middle: its chmod waits for a line.
        let script = "#!/bin/sh\n: >\"$0.started\"\nread -r line <\"$0.go\"\n";
        dir.dir("tools");
        let chmod = dir.program("tools/chmod", script);
        run(Command::new("mkfifo").arg(dir.join("tools/chmod.go"))).ok();
        let path = std::env::var("PATH").expect("PATH");
        let path = format!("{}:{path}", dir.join("tools").display());
        let running = start(install(["--prefix"]).arg(dir.join("prefix")).env("PATH", path));
        wait_for("chmod", || dir.join("tools/chmod.started").exists().then_some(()));
        assert_eq!(modes(&dir.join("prefix")).len(), 1, "a file that is left is no surprise");
        running.kill(signal);
        fs::write(chmod.with_extension("go"), "\n").expect("the pipe");
        running.wait().exits(status);
        assert_eq!(modes(&dir.join("prefix")).len(), 0);
    }
}

#[test]
fn wrong_options_are_named() {
    run(&mut install(["--prefix"])).exits(125).says("--prefix needs a directory");
    run(&mut install(["--destdir="])).exits(125).says("--destdir needs a directory");
    run(&mut install(["--bindir", "/bin"])).exits(125).says("--bindir: no such option");
    let help = run(&mut install(["--help"])).ok().out();
    assert!(help.starts_with("usage: scripts/install "), "{help}");
    assert!(help.lines().all(|line| line.len() <= 80), "{help}");
}

#[test]
fn the_manuals_can_be_read_from_there() {
    let dir = TempDir::new();
    install_below(dir.path());
    for section in ["7", "8"] {
        let manuals = fs::read_dir(dir.join(format!("share/man/man{section}")));
        for entry in manuals.expect("the manuals") {
            let path = entry.expect("an entry").path();
            let name = path.file_stem().expect("a name").to_string_lossy().to_uppercase();
            let text = run(Command::new("mandoc").args(["-T", "ascii"]).arg(&path)).ok().out();
            assert!(text.starts_with(&format!("{name}({section})")), "{text}");
        }
    }
}

/// The ways to call an installed program: by its path, by a link, by a link to that, by a directory that is a
/// link, and by its name.
fn calls(dir: &TempDir, prefix: &Path, name: &str) -> Vec<Command> {
    let program = prefix.join("bin").join(name);
    let links = dir.dir("li nks");
    symlink(&program, links.join("one")).expect("a link");
    symlink("one", links.join("two")).expect("a link");
    symlink(prefix.join("bin"), links.join("bin")).expect("a link");
    let path = std::env::var("PATH").expect("PATH");
    let mut by_name = Command::new(name);
    by_name.env("PATH", format!("{}:{path}", prefix.join("bin").display()));
    let paths = [program, links.join("one"), links.join("two"), links.join("bin").join(name)];
    paths.into_iter().map(Command::new).chain([by_name]).collect()
}

#[test]
fn an_image_is_made_from_there_however_td_rootfs_is_called() {
    let dir = TempDir::new();
    let prefix = dir.join("a prefix");
    install_below(&prefix);
    for (number, mut cmd) in calls(&dir, &prefix, "td-rootfs").into_iter().enumerate() {
        let image = dir.join(format!("image-{number}"));
        run(cmd.arg("--busybox").arg(&image)).ok();
        assert!(image.join("etc/passwd").is_file(), "{cmd:?}");
    }
}

#[test]
fn an_initramfs_is_made_from_there_however_td_mkinitramfs_is_called() {
    let dir = TempDir::new();
    let prefix = dir.join("a prefix");
    install_below(&prefix);
    let mut archives = Vec::new();
    for (number, mut cmd) in calls(&dir, &prefix, "td-mkinitramfs").into_iter().enumerate() {
        let archive = dir.join(format!("archive-{number}.gz"));
        run(cmd.arg(&archive)).ok();
        archives.push(fs::read(archive).expect("an archive"));
    }
    // That of the checkout has the same in it.
    let archive = dir.join("archive.gz");
    run(Command::new(bin("td-mkinitramfs")).arg(&archive)).ok();
    let expected = fs::read(archive).expect("an archive");
    assert!(archives.iter().all(|archive| *archive == expected));
}

mod root {
    use std::os::unix::process::CommandExt;

    use super::*;

    #[test]
    fn a_container_runs_from_there_however_td_run_is_called() {
        private_mounts();
        let dir = TempDir::new();
        let prefix = dir.join("a prefix");
        install_below(&prefix);
        image(&dir.dir("state/images/default"));
        let name = format!("installed-{}", std::process::id());
        for mut cmd in calls(&dir, &prefix, "td-run") {
            cmd.arg("--state").arg(dir.join("state")).args([&name, "echo", "it runs"]);
            assert_eq!(run(&mut cmd).ok().out(), "it runs\n");
        }
    }

    #[test]
    fn an_ordinary_user_installs_below_his_home() {
        const NOBODY: u32 = 65534;
        let dir = TempDir::new();
        // The checkout may be where only root can read it.
        let copy = dir.dir("checkout");
        let parts = [
            "Cargo.lock",
            "Cargo.toml",
            "README.md",
            "LICENSE",
            "docs",
            "rootfs",
            "scripts",
            "src",
        ];
        let parts = parts.map(|part| Path::new(CHECKOUT).join(part));
        run(Command::new("cp").arg("-R").args(parts).arg(&copy)).ok();
        run(Command::new("cp").arg("-R").arg(bin_dir()).arg(copy.join("bin"))).ok();
        let home = dir.dir("home");
        run(Command::new("chown").args(["-R", "65534:65534"]).arg(dir.path())).ok();
        let as_user = |program: PathBuf| {
            let mut cmd = Command::new(program);
            cmd.uid(NOBODY).gid(NOBODY).current_dir("/").env("HOME", &home);
            cmd
        };
        let local = home.join(".local");
        run(as_user(copy.join("scripts/install")).arg("--prefix").arg(&local)).ok();
        let image = local.join("share/td/images/default");
        run(as_user(local.join("bin/td-rootfs")).arg("--busybox").arg(&image)).ok();
        let out = run(as_user(local.join("bin/td-run")).args(["c", "id", "-u"])).ok().out();
        assert_eq!(out, "0\n");
    }
}
