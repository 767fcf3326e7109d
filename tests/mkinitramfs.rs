//! td-mkinitramfs: what is in the archive and what never is, where it goes, and that it comes out the same.

mod common;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::*;

const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");

fn script_in(checkout: &Path) -> Command {
    script(text(&checkout.join("bin/td-mkinitramfs")), [""; 0])
}

/// mkinitramfs in a directory, with a tool and a busybox of a few bytes, for speed.
fn mkinitramfs<S: AsRef<OsStr>>(dir: &TempDir, args: impl IntoIterator<Item = S>) -> Command {
    fs::create_dir_all(dir.join("small")).expect("a directory");
    let tool = dir.program("small/td-exec", elf(None, None));
    let mut cmd = script_in(Path::new(CHECKOUT));
    cmd.arg("--tools").arg(dir.join("small")).arg("--busybox").arg(tool);
    cmd.args(args).current_dir(dir.path());
    cmd
}

/// The words of `--add FILE:PATH`, but for the first.
fn pair(file: impl AsRef<OsStr>, path: &str) -> OsString {
    let mut pair = file.as_ref().to_owned();
    pair.push(":");
    pair.push(path);
    pair
}

/// Unpack an archive into the new directory `name`.
#[track_caller]
fn unpacked(dir: &TempDir, archive: impl AsRef<Path>, name: &str) -> PathBuf {
    let tree = dir.dir(name);
    let mut cmd = sh("gzip -dc \"$0\" | cpio --quiet -id");
    run(cmd.arg(dir.join(archive)).current_dir(&tree)).ok();
    tree
}

#[track_caller]
fn read(path: impl AsRef<Path>) -> Vec<u8> {
    let path = path.as_ref();
    fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What is in a directory.
fn names(directory: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(directory).expect("a directory");
    let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
    names.sort();
    names
}

// ---- what is in it ----

#[test]
fn it_holds_the_tools_td_run_busybox_under_its_names_and_init() {
    let dir = TempDir::new();
    let mut cmd = script_in(Path::new(CHECKOUT));
    run(cmd.arg("out.gz").current_dir(dir.path())).ok();
    let tree = unpacked(&dir, "out.gz", "tree");
    for tool in programs() {
        assert_eq!(read(tree.join("bin").join(&tool)), read(bin(&tool)), "{tool:?}");
    }
    assert!(is_static(tree.join("bin/busybox")));
    for applet in run(Command::new(busybox()).arg("--list")).ok().out().lines() {
        let path = tree.join("bin").join(applet);
        let target = if applet == "busybox" { path } else { path.with_file_name("busybox") };
        assert_eq!(fs::canonicalize(tree.join("bin").join(applet)).expect("it"), target);
    }
    let checkout = Path::new(CHECKOUT);
    for script in ["td-run", "td-rootfs"] {
        let of_checkout = read(checkout.join("scripts").join(script));
        assert_eq!(read(tree.join("bin").join(script)), of_checkout);
    }
    assert_eq!(read(tree.join("init")), read(checkout.join("rootfs/init")));
    let mode = |name: &str| tree.join(name).metadata().expect("its mode").mode() & 0o7777;
    assert_eq!((mode("init"), mode("tmp"), mode("proc")), (0o755, 0o1777, 0o755));
}

#[test]
fn an_image_an_init_files_and_directories_are_taken_along() {
    let dir = TempDir::new();
    let image = dir.dir("image");
    common::image(&image);
    dir.dir("data");
    dir.file("data/one", "one");
    let (init, colon) = (dir.file("own", "#!/bin/sh\n: an init"), dir.file("a:b", "a colon"));
    let mut cmd = mkinitramfs(&dir, ["--image=image", "--init", "own", "--add", "data:/srv/data"]);
    run(cmd.args(["--add=a:b:srv/c", "--", "out.gz"])).ok();
    let tree = unpacked(&dir, "out.gz", "tree");
    let taken = tree.join("var/lib/td/images/default");
    assert_eq!(names(&taken), names(&image));
    assert_eq!(read(taken.join("bin/busybox")), read(image.join("bin/busybox")));
    assert_eq!(read(tree.join("init")), read(&init));
    assert_eq!(read(tree.join("srv/data/one")), b"one");
    assert_eq!(read(tree.join("srv/c")), read(&colon));
}

#[test]
fn names_of_any_bytes_are_taken_along() {
    let dir = TempDir::new();
    dir.dir("image");
    dir.file("image/new\nline", "image");
    dir.file("image/-n *", "options");
    dir.file("two\nlines", "file");
    let mut cmd = mkinitramfs(&dir, ["--image", "image", "--add", "two\nlines:/a\nb/c\n"]);
    run(cmd.arg("out\n.gz")).ok();
    let tree = unpacked(&dir, "out\n.gz", "tree");
    let image = tree.join("var/lib/td/images/default");
    assert_eq!(names(&image), ["-n *", "new\nline"]);
    assert_eq!(read(image.join("new\nline")), b"image");
    assert_eq!(read(tree.join("a\nb/c\n")), b"file");
}

#[test]
fn the_modules_come_in_the_order_in_which_they_load() {
    let dir = TempDir::new();
    let modules = dir.dir("any name/kernel");
    fs::write(modules.join("ext4.ko"), "\0depends=jbd2\0").expect("a module");
    fs::write(modules.join("jbd2.ko"), "\0depends=\0").expect("a module");
    fs::write(modules.join("other.ko"), "\0depends=\0").expect("a module");
    for (number, path) in
        ["any name", "any name/", "any name/.", "any name/kernel/.."].iter().enumerate()
    {
        run(&mut mkinitramfs(&dir, ["--kernel-modules", path, "out.gz"])).ok();
        let tree = unpacked(&dir, "out.gz", &format!("tree{number}"));
        assert_eq!(read(tree.join("lib/modules/order")), b"jbd2.ko\next4.ko\n", "{path}");
        assert_eq!(names(&tree.join("lib/modules")), ["ext4.ko", "jbd2.ko", "order"]);
    }
    dir.dir("empty");
    let mut cmd = mkinitramfs(&dir, ["--kernel-modules", "empty", "none.gz"]);
    run(&mut cmd).exits(125).says("empty contains none of the modules");
    assert!(!dir.join("none.gz").exists());
}

// ---- what is never in it, nor written ----

#[test]
fn a_file_takes_the_place_of_a_link_and_what_it_led_to_stays() {
    let dir = TempDir::new();
    let (host, mine) = (dir.file("host", "host"), dir.program("mine", elf(None, None)));
    symlink(&host, dir.dir("image").join("link")).expect("a link");
    dir.dir("over");
    dir.file("over/link", "over");
    let mut cmd = mkinitramfs(&dir, ["--add", "mine:/bin/sh", "--image", "image"]);
    run(cmd.args(["--add", "over:var/lib/td/images/default", "out.gz"])).ok();
    let tree = unpacked(&dir, "out.gz", "tree");
    assert_eq!(read(tree.join("bin/sh")), read(&mine));
    assert_eq!(read(tree.join("bin/busybox")), elf(None, None));
    assert_eq!(read(tree.join("var/lib/td/images/default/link")), b"over");
    assert_eq!(read(&host), b"host");
}

#[test]
fn no_path_leads_through_a_link_out_of_the_archive() {
    let dir = TempDir::new();
    let host = dir.dir("host");
    dir.dir("image/etc/deep");
    dir.file("host/passwd", "host");
    symlink(&host, dir.join("image/etc/link")).expect("a link");
    dir.dir("over/link");
    dir.file("over/link/passwd", "evil");
    let image = "var/lib/td/images/default/etc";
    for (file, path, sentence) in [
        ("over/link/passwd", "link/passwd", "etc/link is a link in the archive"),
        ("over/link/passwd", "/./link//new/passwd", "link is a link in the archive"),
        ("over/link", "link", "etc/link is a link in the archive"),
        ("over/link", "link/", "etc/link is a link in the archive"),
        ("over", "", "cannot overwrite non-directory"),
    ] {
        let add = pair(file, &format!("{image}/{path}"));
        let mut cmd = mkinitramfs(&dir, ["--image", "image", "--add"]);
        run(cmd.arg(add).arg("out.gz")).exits(125).says(sentence);
        assert_eq!(names(&host), ["passwd"], "{path}");
        assert_eq!(read(host.join("passwd")), b"host", "{path}");
    }
    assert!(!dir.join("out.gz").exists());
}

/// The machine of an ELF program, EM_RISCV, EM_386 and that of another that td is built for.
const RISCV: Option<u16> = Some(243);
const I386: Option<u16> = Some(3);
const OTHER: Option<u16> = Some(if cfg!(target_arch = "x86_64") { 183 } else { 62 });

#[test]
fn the_tools_and_busybox_are_static_programs_of_one_machine() {
    let dir = TempDir::new();
    dir.program("dynamic", elf(None, Some("/lib/ld.so")));
    dir.program("foreign", elf(OTHER, None));
    dir.program("script", "#!/bin/sh\n");
    dir.file("text", "text");
    dir.file("empty", "");
    let other = if OTHER == Some(183) { "aarch64" } else { "x86-64" };
    for (file, sentence) in [
        ("dynamic", "dynamic is dynamically linked, and an initramfs needs a static program"),
        ("script", "script is a script, and an initramfs needs"),
        ("text", "text is not a program, and an initramfs needs"),
        ("empty", "empty is not a program, and an initramfs needs"),
        ("foreign", &*format!("foreign is a program for {other}, and td's tools are for ")),
    ] {
        let output = run(&mut mkinitramfs(&dir, ["--busybox", file, "out.gz"])).exits(125);
        output.says(sentence).says("busybox-static, or name another by --busybox FILE");
        // Of the tools, td-exec is looked at first.
        let tool = dir.join("small/td-mount");
        fs::copy(dir.join(file), &tool).expect("a copy");
        let mut cmd = mkinitramfs(&dir, ["out.gz"]);
        if file == "script" {
            run(&mut cmd).ok();
            fs::remove_file(dir.join("out.gz")).expect("the archive");
        } else {
            let sentence = sentence.replacen(file, "td-mount", 1);
            run(&mut cmd).exits(125).says(&sentence).says("scripts/build builds static ones");
        }
        fs::remove_file(tool).expect("the tool");
        assert!(!dir.join("out.gz").exists(), "{file}");
    }
    // This machine's need not be those of the archive.
    dir.dir("others");
    dir.program("others/td-exec", elf(OTHER, None));
    run(&mut mkinitramfs(&dir, ["--tools", "others", "--busybox", "foreign", "out.gz"])).ok();
    let tree = unpacked(&dir, "out.gz", "tree");
    assert_eq!(read(tree.join("bin/td-exec")), elf(OTHER, None));
    run(&mut mkinitramfs(&dir, ["--tools", "others", "no.gz"])).exits(125).says("is a program for");
}

#[test]
fn a_program_of_the_host_that_is_dynamic_is_refused_by_its_name() {
    // No small one of the tests: as the machine's own compiler has made it.
    let dir = TempDir::new();
    let program = fs::canonicalize("/bin/ls").expect("ls");
    assert!(!is_static(&program));
    let path = text(&program);
    let output = run(&mut mkinitramfs(&dir, ["--busybox", path, "out.gz"])).exits(125);
    output.says(&format!("{path} is dynamically linked, and an initramfs needs a static program"));
    let add = format!("{path}:/bin/ls");
    let output = run(&mut mkinitramfs(&dir, ["--add", &add, "out.gz"])).exits(125);
    let output = output.says("/bin/ls is dynamically linked and needs /lib");
    // With the loader that it names it is taken.
    let loader = output.err().split_once("needs ").expect("the loader").1.to_string();
    let loader = loader.split(',').next().expect("the loader");
    run(&mut mkinitramfs(&dir, ["--add", &add, "--add", &format!("{loader}:{loader}"), "out.gz"]))
        .ok();
}

#[test]
fn every_program_that_is_packed_can_be_started() {
    let dir = TempDir::new();
    dir.program("dynamic", elf(None, Some("/lib/ld.so")));
    dir.program("foreign", elf(RISCV, None));
    dir.program("script", "#! /usr/bin/python3 -x\n");
    dir.program("relative", "#!bin/sh\n");
    dir.program("text", "text");
    dir.program("empty", "");
    dir.program("loader", elf(None, None));
    dir.file("no-program", elf(RISCV, None));
    dir.dir("tree/deep/.er");
    dir.program("tree/deep/.er/it", elf(None, Some("/lib/ld.so")));
    dir.program("tree/..hidden", "#!/bin/sh\n");
    let needs = |what: &str| {
        format!("{what} and needs /lib/ld.so, which is not an executable file in the archive")
    };
    let python =
        "is a script and needs /usr/bin/python3, which is not an executable file in the archive";
    let (dynamic, deep) =
        (needs("/x is dynamically linked"), needs("/x/deep/.er/it is dynamically linked"));
    let init = needs("/init is dynamically linked");
    for (args, sentence) in [
        (&["--add", "dynamic:/x"][..], &*dynamic),
        (&["--add", "tree:/x"], &deep),
        (&["--add", "dynamic:/x", "--add", "no-program:/lib/ld.so"], &dynamic),
        (&["--init", "dynamic"], &init),
        (
            &["--add", "foreign:/x"],
            "/x is a program for machine 243 of elf(5), which does not run where",
        ),
        (&["--init", "foreign"], "/init is a program for machine 243"),
        (&["--add", "script:/x"], &format!("/x {python}")),
        (&["--init", "script"], &format!("/init {python}")),
        (&["--init", "text"], "text is not a program: it has no #! line and is not an ELF program"),
        (
            &["--init", "empty"],
            "empty is not a program: it has no #! line and is not an ELF program",
        ),
        (
            &["--add", "no-program:/bin/sh"],
            "is a script and needs /bin/sh, which is not an executable file in the archive",
        ),
    ] {
        run(mkinitramfs(&dir, args).arg("out.gz")).exits(125).says(sentence);
        assert!(!dir.join("out.gz").exists(), "{args:?}");
    }
    for args in [
        &["--add", "dynamic:/x", "--add", "loader:/lib/ld.so"][..],
        &["--add", "tree:/x", "--add", "loader:/lib/ld.so"],
        &["--init", "dynamic", "--add", "loader:/lib/ld.so"],
        &["--init", "loader"],
        &["--init", "relative"],
        &["--add", "script:/x", "--add", "loader:/usr/bin/python3"],
        // Files that are not programs are not checked, and an image has its own root.
        &["--add", "no-program:/x", "--add", "text:/y", "--add", "empty:/z"],
        &["--image", "tree"],
    ] {
        run(mkinitramfs(&dir, args).arg("out.gz")).ok();
    }
}

/// The links that lead to a loader lead where they would in the archive, not here.
#[test]
fn a_loader_is_looked_for_by_way_of_the_links_of_the_archive() {
    let dir = TempDir::new();
    dir.program("dynamic", elf(None, Some("/lib/ld.so")));
    let loader = dir.program("loader", elf(None, None));
    for (name, target) in [
        ("absolute", "/usr/lib"),
        ("relative", "usr/lib"),
        ("above", "../../usr/./lib"),
        ("circle", "/lib"),
        ("host", text(dir.path())),
    ] {
        symlink(target, dir.dir(name).join("lib")).expect("a link");
        let add = ["--add", &format!("{name}:/"), "--add", "dynamic:/x"].map(String::from);
        let needs = "/x is dynamically linked and needs /lib/ld.so";
        // Where the host has a file there, the archive has none.
        fs::copy(&loader, dir.join("ld.so")).expect("a copy");
        run(mkinitramfs(&dir, &add).arg("out.gz")).exits(125).says(needs);
        let with = ["--add", "loader:/usr/lib/ld.so"];
        let cmd = &mut mkinitramfs(&dir, &add);
        let output = run(cmd.args(with).arg("out.gz"));
        match name {
            "circle" | "host" => output.exits(125).says(needs),
            _ => output.ok(),
        };
    }
}

#[test]
fn a_program_of_32_bits_runs_on_a_kernel_of_64() {
    let dir = TempDir::new();
    let mut bytes = elf(I386, None);
    bytes[4] = 1; // the class: no program headers
    bytes[44..46].copy_from_slice(&[0, 0]);
    dir.program("i386", bytes);
    let output = run(&mut mkinitramfs(&dir, ["--add", "i386:/x", "out.gz"]));
    if cfg!(target_arch = "x86_64") {
        output.ok();
    } else {
        output.exits(125).says("/x is a program for 32-bit x86");
    }
    run(&mut mkinitramfs(&dir, ["--busybox", "i386", "out.gz"])).exits(125).says("32-bit x86");
}

#[test]
fn no_path_leads_above_the_archive() {
    let dir = TempDir::new();
    dir.file("file", "file");
    let tmp = dir.dir("tmp");
    for path in ["../../x", "/../x", "bin/../../../x", "..", "bin/.."] {
        let mut cmd = mkinitramfs(&dir, ["--add"]);
        cmd.arg(pair("file", path)).arg("out.gz").env("TMPDIR", &tmp);
        run(&mut cmd).exits(125).says("a path in the archive must not contain ..");
        assert_eq!(names(&tmp), [""; 0], "{path}");
    }
    run(mkinitramfs(&dir, ["--add", "file:/..x/y..", "out.gz"]).env("TMPDIR", &tmp)).ok();
    assert_eq!(read(unpacked(&dir, "out.gz", "tree").join("..x/y..")), b"file");
}

#[test]
fn a_file_takes_no_directorys_place() {
    let dir = TempDir::new();
    dir.file("file", "file");
    for path in ["/bin", "/bin/", "/"] {
        let mut cmd = mkinitramfs(&dir, ["--add"]);
        run(cmd.arg(pair("file", path)).arg("out.gz"))
            .exits(125)
            .says("cannot overwrite directory");
    }
}

// ---- where it goes ----

#[test]
fn the_end_of_its_name_says_how_it_is_compressed() {
    let dir = TempDir::new();
    for (name, magic) in [
        ("out", b"\x1f\x8b" as &[u8]),
        ("out.gz", b"\x1f\x8b"),
        ("out.xz", b"\xfd7zXZ"),
        ("out.zst", b"\x28\xb5\x2f\xfd"),
    ] {
        run(&mut mkinitramfs(&dir, [name])).ok();
        assert!(read(dir.join(name)).starts_with(magic), "{name}");
    }
}

#[test]
fn a_link_is_written_to_and_stays() {
    let dir = TempDir::new();
    let file = dir.file("file", "old");
    symlink("file", dir.join("link")).expect("a link");
    run(&mut mkinitramfs(&dir, ["link"])).ok();
    assert_eq!(fs::read_link(dir.join("link")).expect("a link"), Path::new("file"));
    assert!(read(&file).starts_with(b"\x1f\x8b"));

    // As /dev/stdout is.
    symlink("/proc/self/fd/1", dir.join("stdout")).expect("a link");
    let output = run(&mut mkinitramfs(&dir, ["stdout"])).ok();
    assert!(dir.join("stdout").is_symlink());
    assert!(output.stdout == read(&file));
}

#[test]
fn a_pipe_is_written_to_and_stays() {
    let dir = TempDir::new();
    run(Command::new("mkfifo").arg(dir.join("pipe"))).ok();
    let reader = start(Command::new("cat").arg(dir.join("pipe")));
    run(&mut mkinitramfs(&dir, ["pipe"])).ok();
    assert!(reader.wait().ok().stdout.starts_with(b"\x1f\x8b"));
    assert!(dir.join("pipe").symlink_metadata().expect("it").file_type().is_fifo());
}

#[test]
fn a_directory_is_refused_and_a_missing_one_is_said_before_the_work() {
    let dir = TempDir::new();
    dir.dir("full");
    symlink("full", dir.join("link")).expect("a link");
    for (dest, sentence) in [
        ("full", "full is a directory"),
        ("link", "link is a directory"),
        ("", " is a directory"),
        ("none/out.gz", "none, the directory of DEST, does not exist"),
        ("none/", "none, the directory of DEST, does not exist"),
    ] {
        // The work would find that this is not there.
        run(&mut mkinitramfs(&dir, ["--add", "nothing:/x", dest])).exits(125).says(sentence);
    }
    assert_eq!(names(dir.path()), ["full", "link", "small"]);
}

// ---- how it is made ----

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let dir = TempDir::new();
    dir.dir("image/etc");
    for name in ["a", "B", "\u{e4}", "z"] {
        dir.file(&format!("image/etc/{name}"), name);
    }
    let (tmp, home) = (dir.dir("tmp"), dir.dir("home"));
    for end in ["gz", "xz", "zst"] {
        let (first, second) = (format!("first.{end}"), format!("second.{end}"));
        run(&mut mkinitramfs(&dir, ["--image", "image", "--add", "image:/x", &first])).ok();
        let path = dir.path().display();
        let (image, add) = (format!("{path}/image/."), format!("{path}/image:x"));
        let there =
            mkinitramfs(&dir, ["--add", &add, "--image", &image, &format!("{path}/{second}")]);
        let mut cmd = sh("umask 077; exec \"$0\" \"$@\"");
        cmd.args(words(&there)).current_dir("/").env("TMPDIR", &tmp).env("HOME", &home);
        run(cmd.env("LC_ALL", "C.UTF-8").env("TZ", "Asia/Tokyo")).ok();
        assert!(read(dir.join(&first)) == read(dir.join(&second)), "{end}");
    }
}

#[test]
fn a_signal_in_the_middle_leaves_nothing_and_is_the_status() {
    for (signal, status) in [(libc::SIGHUP, 129), (libc::SIGINT, 130), (libc::SIGTERM, 143)] {
        let dir = TempDir::new();
        dir.dir("path");
        let tmp = dir.dir("tmp");
        dir.program("path/gzip", "#!/bin/sh\necho packing >&2\nread -r line <\"${0%/*}/go\"\n");
        run(Command::new("mkfifo").arg(dir.join("path/go"))).ok();
        let mut path = dir.join("path").into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").expect("PATH"));
        let running = start(mkinitramfs(&dir, ["out.gz"]).env("PATH", path).env("TMPDIR", &tmp));
        wait_for("gzip", || running.err().contains("packing").then_some(()));
        assert_eq!(names(&tmp).len(), 1);
        running.kill(signal);
        dir.file("path/go", "\n");
        running.wait().exits(status);
        assert_eq!(names(&tmp), [""; 0]);
        assert_eq!(names(dir.path()), ["path", "small", "tmp"]);
    }
}

#[test]
fn wrong_usage_is_named() {
    let dir = TempDir::new();
    dir.file("file", "file");
    for (args, sentence) in [
        (&[] as &[&str], "DEST is missing, or there is more than one"),
        (&["one", "two"], "DEST is missing, or there is more than one"),
        (&["out", "--add", "file:/x"], "DEST is missing, or there is more than one"),
        (&["--add", "file:/x"], "DEST is missing, or there is more than one"),
        (&["--images", "x", "out"], "--images: no such option"),
        (&["-x", "out"], "-x: no such option"),
        (&["--image"], "--image needs a value"),
        (&["--image="], "--image needs a value"),
        (&["--add", "file:/x", "--add"], "--add needs a value"),
        (&["--add", "file", "out"], "--add file: must be FILE:PATH"),
        (&["--add", "file:", "out"], "--add file:: must be FILE:PATH"),
        (&["--add", "none:/x", "out"], "none does not exist"),
        (&["--image", "none", "out"], "none does not exist"),
        (&["--init", "none", "out"], "none does not exist"),
        (&["--busybox", "none", "out"], "none does not exist"),
        (&["--tools", "none", "out"], "td's tools are not in"),
    ] {
        run(&mut mkinitramfs(&dir, args)).exits(125).says(sentence);
    }
    assert_eq!(names(dir.path()), ["file", "small"]);
}

#[test]
fn help_goes_to_standard_output() {
    let dir = TempDir::new();
    let output = run(&mut mkinitramfs(&dir, ["--help"])).ok();
    assert!(output.out().starts_with("usage: td-mkinitramfs "));
}

/// What only root can try: files of others.
mod root {
    use super::*;

    const NOBODY: u32 = 65534;

    #[test]
    fn a_file_of_another_is_replaced() {
        must_be_root();
        let dir = TempDir::new();
        chmod(dir.dir("all"), 0o1777);
        let file = dir.file("all/out.gz", "old");
        chmod(&file, 0o600);
        std::os::unix::fs::chown(&file, Some(NOBODY), Some(NOBODY)).expect("chown");
        run(&mut mkinitramfs(&dir, ["all/out.gz"])).ok();
        let stat = file.metadata().expect("it");
        assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (0, 0, 0o644));
    }

    /// The checkout may be where only root can read it.
    fn checkout_of_all(dir: &TempDir) -> PathBuf {
        let copy = dir.dir("checkout/bin");
        let checkout = copy.parent().expect("above it");
        let mut cmd = Command::new("cp");
        cmd.arg("-R").args(["bin", "rootfs"].map(|name| Path::new(CHECKOUT).join(name)));
        run(cmd.arg(checkout)).ok();
        run(Command::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(dir.path())).ok();
        checkout.to_path_buf()
    }

    #[test]
    fn what_an_ordinary_user_packs_belongs_to_root() {
        must_be_root();
        let dir = TempDir::new();
        let checkout = checkout_of_all(&dir);
        let home = dir.dir("of-nobody");
        std::os::unix::fs::chown(&home, Some(NOBODY), Some(NOBODY)).expect("chown");
        let mut cmd = script_in(&checkout);
        cmd.args(["--add", "/etc/passwd:/x", "out.gz"]).current_dir(&home).env("TMPDIR", &home);
        let mut cmd_of_nobody = Command::new("setpriv");
        cmd_of_nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).args(words(&cmd));
        run(cmd_of_nobody.current_dir(&home).env("TMPDIR", &home)).ok();
        assert_eq!(names(&home), ["out.gz"]);

        let list =
            run(sh("gzip -dc \"$0\" | cpio --quiet -itvn").arg(home.join("out.gz"))).ok().out();
        assert!(list.lines().count() > 100);
        for line in list.lines() {
            let owners: Vec<_> = line.split_whitespace().skip(2).take(2).collect();
            assert_eq!(owners, ["0", "0"], "{line}");
        }
    }
}
