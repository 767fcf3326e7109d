//! Any image, any path: layers, volumes and names as they come from elsewhere, through the whole flow.

mod common;

use std::fs;

use common::house::*;
use common::*;

#[test]
fn nothing_is_mounted_on_the_root_or_in_proc_sys_and_dev() {
    let dir = TempDir::new();
    let refuses = |option: &str, value: &str, says: &str| {
        let mut cmd = td_run(["--state"]);
        run(cmd.arg(dir.path()).args([option, value, "c", "true"]))
            .exits(125)
            .says(&format!("td-run: {option} {value}: {says}"));
    };
    for dst in ["/", "//", "/.", "/..", "/a/..", "/a/b//../../.", "/../.."] {
        refuses("-v", &format!("/src:{dst}"), "this is the root of the container");
    }
    let says = "nothing can be mounted in /proc, /sys or /dev, which the kernel fills";
    for dst in ["/proc", "/sys/", "//dev/", "/proc/1/x", "/./proc/", "/a/../proc", "/../dev/shm"] {
        refuses("-v", &format!("/src:{dst}"), says);
        refuses("--tmpfs", &format!("{dst}:size=1m"), says);
    }
    refuses("--tmpfs", "dev/shm", says); // a path in the root, with or without the slash
    refuses("--tmpfs", ".", "this is the root of the container");
    assert_eq!(fs::read_dir(dir.path()).expect("the state").count(), 0, "something was made");
}

mod root {
    use std::ffi::{OsStr, OsString};
    use std::io::Read;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::os::unix::fs::{OpenOptionsExt, chown, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::*;

    // ---- paths ----

    /// Every byte that a name may have, in two names, for one has at most 255 bytes.
    fn every_byte_but(left_out: &[u8]) -> PathBuf {
        let all: Vec<u8> = (1..=255).filter(|b| *b != b'/' && !left_out.contains(b)).collect();
        let (first, second) = all.split_at(all.len() / 2);
        PathBuf::from(OsString::from_vec([first, b"/", second].concat()))
    }

    /// State, image, the source of a volume, where that is mounted, and the working directory are all at
    /// such a path: the command must be there, and reach the volume. `below` is without a colon.
    #[track_caller]
    fn reaches_a_volume(locale: &str, name: &Path, below: &Path) {
        let house = House::new();
        let odd = house.dir.join(name);
        let (state, image, source) = (odd.join("state"), odd.join("image"), odd.join("source"));
        fs::create_dir_all(&source).expect("a directory");
        fs::write(source.join("file"), "volume\n").expect("a file");
        fs::rename(house.state(), &state).expect("rename");
        fs::rename(state.join("images/default"), &image).expect("rename");
        let dst = Path::new("/").join(below);
        let volume = [source.as_os_str().as_bytes(), b":", dst.as_os_str().as_bytes()].concat();
        let script = "pwd; cat file && echo written >\"$1\"/new && echo x >\"$1\"/tmpfs/x";
        let mut cmd = td_run(["--state"]);
        cmd.env("LC_ALL", locale).arg(&state).arg("--image").arg(&image);
        cmd.arg("-v").arg(OsStr::from_bytes(&volume)).arg("--tmpfs").arg(dst.join("tmpfs"));
        cmd.arg("-w").arg(&dst).arg(&house.name).args(["sh", "-c", script, "sh"]).arg(&dst);
        let output = run(&mut cmd).ok();
        assert_eq!(output.stdout, [dst.as_os_str().as_bytes(), b"\nvolume\n"].concat());
        assert_eq!(fs::read(source.join("new")).expect("the file"), b"written\n");
        assert_eq!(fs::read_dir(state.join("containers")).expect("the state").count(), 0);
    }

    #[test]
    fn every_byte_may_stand_in_a_path() {
        let left_out: Vec<u8> = (1..=255).filter(|byte| !shell_takes(&[*byte])).collect();
        let name = every_byte_but(&left_out);
        let below = every_byte_but(&[&left_out[..], b":"].concat());
        reaches_a_volume("C", &name, &below);
        let letters = "\u{e9}\u{20ac}\u{1f600}"; // in this locale each is one, also for yash
        reaches_a_volume("C.UTF-8", &name.join(letters), &below.join(letters));
    }

    #[test]
    fn a_path_may_look_like_an_option_and_end_in_a_newline() {
        let house = House::new();
        let at = |name: &str| house.dir.join(name);
        fs::rename(house.image(), at("--image\n")).expect("rename");
        fs::create_dir(at("-src\n")).expect("a directory");
        let odd =
            ["--state=--keep\n", "--image", "--image\n/", "-v", "-src\n/:/--dst\n", "-w--dst\n"];
        let mut cmd = td_run(odd);
        cmd.args([&house.name, "sh", "-c", "pwd; echo x >x"]).current_dir(house.dir.path());
        assert_eq!(run(&mut cmd).ok().out(), "/--dst\n\n");
        assert_eq!(fs::read(at("-src\n/x")).expect("a file"), b"x\n");
        assert_eq!(fs::read_dir(at("--keep\n/containers")).expect("the state").count(), 0);
    }

    // ---- layers ----

    /// A layer that is to be put above the image, with what a Dockerfile makes of it: a removed file, and a
    /// directory that was made anew.
    fn layer(house: &House) -> PathBuf {
        let layer = house.dir.dir("layer");
        run(Command::new("mknod")
            .arg(house.dir.dir("layer/etc").join("group"))
            .args(["c", "0", "0"]))
        .ok();
        for (dir, file) in [(house.image().join("opt"), "below"), (layer.join("opt"), "above")] {
            fs::create_dir(&dir).expect("a directory");
            fs::write(dir.join(file), "").expect("a file");
        }
        set_xattr(&layer.join("opt"), c"trusted.overlay.opaque", b"y");
        layer
    }

    #[test]
    fn a_layer_hides_files_and_directories_of_the_one_below() {
        let house = House::new();
        let layer = layer(&house);
        let options = ["--image", text(&layer), "--image", "default"];
        let script = "ls /etc /opt; mv /opt /opt2 && ls /opt2; rm /opt2/above; mkdir /opt; ls /opt";
        assert_eq!(house.sh(&options, script).ok().out(), "/etc:\npasswd\n\n/opt:\nabove\nabove\n");
        // In the other order it is the image that hides, and has nothing to hide.
        let options = ["--image", "default", "--image", text(&layer)];
        assert_eq!(
            house.sh(&options, "ls /etc /opt").ok().out(),
            "/etc:\ngroup\npasswd\n\n/opt:\nabove\nbelow\n"
        );
        house.nothing_is_left();
    }

    #[test]
    fn what_a_container_deletes_stays_deleted_with_keep() {
        let house = House::new();
        let layer = layer(&house);
        let before = [tree(&layer), tree(&house.image())];
        let options = ["--keep", "--image", text(&layer), "--image", "default"];
        let script =
            "rm /etc/passwd /bin/ls; rm -r /opt; mkdir /opt; echo x >/opt/new; rm -r /root";
        house.sh(&options, script).ok();
        let look = "busybox ls -A / /etc /opt; echo x >/etc/passwd; rm /opt/new";
        let (root, rest) =
            ("bin\ndev\netc\nopt\nproc\nrun\nsys\ntmp\nvar\n", "\n/etc:\n\n/opt:\nnew\n");
        assert_eq!(house.sh(&options, look).ok().out(), format!("/:\n{root}{rest}"));
        assert_eq!(house.sh(&options, "cat /etc/passwd; busybox ls -A /opt").ok().out(), "x\n");
        assert_eq!([tree(&layer), tree(&house.image())], before, "a layer has changed");
    }

    #[test]
    fn five_hundred_layers_are_an_image_and_one_more_is_refused_by_number() {
        let house = House::new();
        let mut options = Vec::new();
        for i in 1..500 {
            let layer = house.dir.dir(&format!("a layer/{i}"));
            fs::write(layer.join(format!("file{i}")), "").expect("a file");
            options.extend([String::from("--image"), text(&layer).to_string()]);
        }
        options.extend(["--image", "default"].map(String::from));
        let mut cmd = house.run(&options);
        cmd.arg(&house.name).args(["sh", "-c", "set -- /file*; echo $#; echo x >/file7"]);
        assert_eq!(run(&mut cmd).ok().out(), "499\n");
        let more = house.dir.dir("more");
        let mut cmd = house.run(&options);
        cmd.args(["--image", text(&more), &house.name, "echo", "it runs"]);
        let says = "there are 501 lower layers, and an overlay has at most 500";
        assert_eq!(run(&mut cmd).exits(125).says(says).out(), "");
        house.nothing_is_left();
    }

    // ---- volumes ----

    #[test]
    fn a_volume_goes_on_a_file_a_directory_a_link_and_where_nothing_is() {
        let house = House::new();
        let dir = house.dir.dir("dir");
        let file = house.dir.file("file", "data\n");
        house.dir.file("dir/inside", "inside\n");
        symlink("/etc", house.image().join("link")).expect("a link");
        symlink("../../../../etc/passwd", house.image().join("up")).expect("a link");
        let before = tree(&house.image());
        let (dir, file) = (text(&dir), text(&file));
        let ls = |dst: &str, source: &str, script: &str| {
            house.sh(&["-v", &format!("{source}:{dst}")], script).ok().out()
        };
        assert_eq!(ls("/etc/passwd", file, "cat /etc/passwd; ls /etc"), "data\ngroup\npasswd\n");
        assert_eq!(ls("/etc", dir, "ls /etc"), "inside\n");
        assert_eq!(ls("/link", dir, "ls /etc; readlink /link"), "inside\n/etc\n");
        assert_eq!(ls("/link/new/", dir, "ls /etc/new"), "inside\n");
        assert_eq!(ls("/up", file, "cat /etc/passwd"), "data\n");
        let made = "stat -c '%a %u:%g %F' /new /new/a /new/a/b; cat /new/a/b";
        let directories = "755 0:0 directory\n755 0:0 directory\n";
        let expected = format!("{directories}644 0:0 regular file\ndata\n");
        assert_eq!(ls("/new//a/./b", file, made), expected);
        // One volume in another, and the second of two on one path.
        let two = ["-v", &format!("{dir}:/d:ro"), "-v", &format!("{file}:/d/inside")];
        assert_eq!(house.sh(&two, "cat /d/inside; ! touch /d/x 2>/d/inside").ok().out(), "data\n");
        assert_eq!(tree(&house.image()), before, "the image has changed");
        house.nothing_is_left();
    }

    #[test]
    fn a_volume_that_does_not_fit_is_refused_by_name_and_leaves_nothing() {
        let house = House::new();
        let dir = house.dir.dir("dir");
        let file = house.dir.file("file", "data\n");
        let missing = house.dir.join("missing");
        symlink("/not/there", house.image().join("dangling")).expect("a link");
        symlink(&missing, house.dir.join("link")).expect("a link");
        let before = tree(&house.image());
        for (source, dst, says) in [
            (&dir, "/etc/passwd", "etc/passwd is not a directory"),
            (&file, "/etc", "etc is a directory: a file cannot be mounted on it"),
            (&dir, "/etc/passwd/x", "ENOTDIR"),
            (&dir, "/dangling", "dangling is a symbolic link to a file that does not exist"),
            (&missing, "/made/here", text(&missing)),
            (&house.dir.join("link"), "/made/here", text(&house.dir.join("link"))),
        ] {
            let volume = format!("{}:{dst}", text(source));
            let output = house.sh(&["-v", &volume], "echo it runs").exits(125).says(says);
            assert_eq!(output.out(), "");
            house.nothing_is_left();
        }
        assert_eq!(tree(&house.image()), before, "the image has changed");
    }

    #[test]
    fn a_volume_is_read_only_in_all_its_depth_and_private() {
        let house = House::new();
        let source = house.dir.dir("source");
        mount(["-t", "tmpfs", "tmpfs", text(&source)]);
        mount(["--make-shared", text(&source)]);
        for name in ["below", "later"] {
            house.dir.dir(&format!("source/{name}"));
        }
        mount(["-t", "tmpfs", "tmpfs", text(&source.join("below"))]);
        let volume = format!("{}:/ro:ro", text(&source));
        let other = format!("{}:/rw", text(&source));
        let script = "echo x >/rw/below/x; echo x >/ro/x; echo x >/ro/below/x
            echo ready; read x; ls /ro/later /rw/later; mount | grep -c ' /r[ow]'";
        let held = house.hold(&["-v", &volume, "-v", &other], script);
        mount(["-t", "tmpfs", "tmpfs", text(&source.join("later"))]);
        house.dir.file("source/later/file", "");
        let output = held.go_on().exits(0);
        assert_eq!(output.err().matches("Read-only file system").count(), 2, "{output:#}");
        assert_eq!(output.out(), "ready\n/ro/later:\n\n/rw/later:\n4\n");
        assert!(source.join("below/x").exists(), "the source itself is as it was");
    }

    #[test]
    fn a_source_may_be_any_file_and_a_link_is_followed_in_the_host() {
        let house = House::new();
        let socket = house.dir.join("socket");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let fifo = house.dir.join("fifo");
        run(Command::new("mkfifo").arg(&fifo)).ok();
        let mut reader = fs::OpenOptions::new();
        let mut reader =
            reader.read(true).custom_flags(libc::O_NONBLOCK).open(&fifo).expect("the fifo");
        let host = house.dir.dir("etc");
        house.dir.file("etc/passwd", "the host's\n");
        symlink("etc", house.dir.join("link")).expect("a link");
        drop(host);
        let volume = |name: &str, dst: &str| format!("{}:{dst}", text(&house.dir.join(name)));
        let volumes = [
            volume("socket", "/s"),
            volume("fifo", "/f"),
            volume("link", "/l"),
            "/dev/null:/n".into(),
        ];
        let options: Vec<&str> = volumes.iter().flat_map(|volume| ["-v", volume]).collect();
        let script = "test -S /s && echo through >/f && cat /l/passwd; test -c /n && echo x >/n";
        let output = house.sh(&options, script).exits(1).says("/n: Permission denied");
        assert_eq!(output.out(), "the host's\n");
        let mut read = String::new();
        reader.read_to_string(&mut read).expect("the fifo");
        assert_eq!(read, "through\n");
        drop(listener);
    }

    #[test]
    fn no_link_of_an_image_leads_a_volume_into_proc_dev_or_sys() {
        let house = House::new();
        let source = house.dir.dir("source");
        symlink("data", house.image().join("chain")).expect("a link");
        let says = "leads through a symbolic link to what --proc, --dev or --sys has mounted";
        for to in ["/proc", "/proc/self", "../../proc/1", "/dev", "/dev/shm", "/sys/kernel"] {
            symlink(to, house.image().join("data")).expect("a link");
            for dst in ["/data", "/chain", "/chain/new"] {
                let volume = format!("{}:{dst}", text(&source));
                let output = house.sh(&["-v", &volume], "echo it runs").exits(125).says(says);
                assert_eq!(output.out(), "");
                house.sh(&["--tmpfs", dst], "echo it runs").exits(125).says(says);
            }
            fs::remove_file(house.image().join("data")).expect("the link");
        }
        house.nothing_is_left();
        assert_eq!(fs::read_dir(&source).expect("the source").count(), 0);
    }

    // ---- images ----

    #[test]
    fn an_image_needs_no_directories_for_what_is_mounted() {
        let house = House::new();
        for name in ["proc", "dev", "sys", "run", "tmp", "root", "var"] {
            fs::remove_dir(house.image().join(name)).expect(name);
        }
        chmod(house.image(), 0o711);
        chown(house.image(), Some(12), Some(34)).expect("chown");
        let before = tree(&house.image());
        let script = "stat -c '%a %u:%g' / /proc /dev /sys; test -r /proc/1/stat && test -c /dev/null; echo $?; echo x >/x";
        let expected = "711 12:34\n555 0:0\n755 0:0\n555 0:0\n0\n";
        assert_eq!(house.sh(&[], script).ok().out(), expected);
        let output = house.sh(&["--read-only"], script).exits(1).says("Read-only file system");
        assert_eq!(output.out(), expected);
        assert_eq!(tree(&house.image()), before, "the image has changed");
        house.nothing_is_left();
    }

    #[test]
    fn an_image_may_be_read_only_and_on_an_overlay_and_a_link_outside_the_state() {
        let house = House::new();
        let at = |name: &str| house.dir.dir(name);
        let (bound, one, two) = (at("bound"), at("one"), at("two"));
        mount(["--bind", text(&house.image()), text(&bound)]);
        mount(["-o", "remount,bind,ro", text(&bound)]);
        let overlay = |lower: &Path, target: &Path| {
            let mut cmd = td("td-overlay", ["--lower"]);
            run(cmd.arg(lower).arg("--tmpfs").arg(target).arg("true")).ok();
        };
        overlay(&bound, &one);
        overlay(&one, &two);
        fs::write(one.join("one"), "").expect("a file");
        symlink("../../bound", house.dir.join("state/images/link")).expect("a link");
        symlink("one", house.dir.join("link")).expect("a link");
        let script = "echo x >/x; mkdir /made; rm /etc/group; ls -d /one || :; ls /etc";
        for (image, out) in [
            (text(&bound), "passwd\n"),
            (text(&one), "/one\npasswd\n"),
            (text(&house.dir.join("link")), "/one\npasswd\n"),
        ] {
            let output = house.sh(&["--image", image], script).exits(0);
            assert_eq!(output.out(), out, "{image}");
        }
        let says = "state/images/link is a symbolic link, which is not followed here";
        house.sh(&["--image", "link"], "echo it runs").exits(125).says(says);
        let says = "is on an overlay, and overlays nest at most two deep";
        house.sh(&["--image", text(&two)], "echo it runs").exits(125).says(says);
        house.nothing_is_left();
    }

    #[test]
    fn a_state_on_an_overlay_is_named_and_nothing_is_left() {
        let house = House::new();
        let state = house.dir.dir("state2");
        let mut cmd = td("td-overlay", ["--lower", text(&house.state()), "--tmpfs"]);
        run(cmd.arg(&state).arg("true")).ok();
        let mut cmd = td_run(["--state", text(&state), &house.name, "echo", "it runs"]);
        run(&mut cmd).exits(125).says("is on an overlay, which cannot hold upper or work");
        assert_eq!(fs::read_dir(state.join("containers")).expect("the state").count(), 0);
    }
}
