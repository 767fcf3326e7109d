//! td-rootfs --tar: an image out of an archive, also of one that is made to do harm.

mod common;

use std::ffi::{CString, OsStr};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::house::pipe;
use common::{Output, Running, TempDir, bin, chmod, run, script, sh, start_with, wait_for, words};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bin/td-rootfs");

// ---- archives ----

/// An entry of an archive: tar(5), the ustar format with pax headers.
#[derive(Clone)]
struct Entry {
    kind: u8,
    name: Vec<u8>,
    target: Vec<u8>,
    mode: u32,
    owner: (u32, u32),
    device: (u32, u32),
    content: Vec<u8>,
    pax: Vec<(String, Vec<u8>)>,
}

impl Entry {
    fn new(kind: u8, name: impl AsRef<[u8]>) -> Entry {
        Entry {
            kind,
            name: name.as_ref().to_vec(),
            target: Vec::new(),
            mode: 0o755,
            owner: (0, 0),
            device: (0, 0),
            content: Vec::new(),
            pax: Vec::new(),
        }
    }

    fn mode(self, mode: u32) -> Entry {
        Entry { mode, ..self }
    }

    fn owner(self, uid: u32, gid: u32) -> Entry {
        Entry { owner: (uid, gid), ..self }
    }

    fn pax(mut self, key: &str, value: impl AsRef<[u8]>) -> Entry {
        self.pax.push((key.to_string(), value.as_ref().to_vec()));
        self
    }

    fn xattr(self, key: &str, value: impl AsRef<[u8]>) -> Entry {
        self.pax(&format!("SCHILY.xattr.{key}"), value)
    }

    /// The blocks, a pax header before them where there is something to say in one.
    fn blocks(&self) -> Vec<u8> {
        let mut pax = self.pax.clone();
        for (key, value) in [("path", &self.name), ("linkpath", &self.target)] {
            if value.len() > 100 && !pax.iter().any(|(k, _)| k == key) {
                pax.push((key.to_string(), value.clone()));
            }
        }
        let mut blocks = Vec::new();
        if !pax.is_empty() {
            let records = pax.iter().flat_map(|(key, value)| record(key, value)).collect();
            blocks.extend(Entry { content: records, ..Entry::new(b'x', "pax") }.blocks());
        }
        blocks.extend(self.header(self.content.len()));
        blocks.extend(&self.content);
        blocks.resize(blocks.len().next_multiple_of(512), 0);
        blocks
    }

    fn header(&self, size: usize) -> [u8; 512] {
        let mut header = [0; 512];
        let mut put = |at: usize, room: usize, bytes: &[u8]| {
            let length = bytes.len().min(room);
            header[at..at + length].copy_from_slice(&bytes[..length]);
        };
        put(0, 100, &self.name);
        put(100, 8, format!("{:07o}", self.mode).as_bytes());
        put(108, 8, format!("{:07o}", self.owner.0).as_bytes());
        put(116, 8, format!("{:07o}", self.owner.1).as_bytes());
        put(124, 12, format!("{size:011o}").as_bytes());
        put(136, 12, b"14524661400");
        put(156, 1, &[self.kind]);
        put(157, 100, &self.target);
        put(257, 8, b"ustar\x0000");
        put(329, 8, format!("{:07o}", self.device.0).as_bytes());
        put(337, 8, format!("{:07o}", self.device.1).as_bytes());
        put(148, 8, b"        ");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        header
    }
}

/// A record of a pax header: it begins with its own length.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let length =
        (1..).map(|digits| rest.len() + digits).find(|n| n.to_string().len() + rest.len() == *n);
    [length.expect("a length").to_string().as_bytes(), &rest].concat()
}

fn file(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Entry {
    Entry { content: content.as_ref().to_vec(), ..Entry::new(b'0', name).mode(0o644) }
}

fn dir(name: impl AsRef<[u8]>) -> Entry {
    Entry::new(b'5', name)
}

fn link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Entry {
    Entry { target: target.as_ref().to_vec(), ..Entry::new(b'2', name) }
}

fn hard_link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Entry {
    Entry { target: target.as_ref().to_vec(), ..Entry::new(b'1', name) }
}

fn device(kind: u8, name: &str, major: u32, minor: u32) -> Entry {
    Entry { device: (major, minor), ..Entry::new(kind, name) }
}

/// The entries, and the two blocks of zeros that end an archive.
fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut bytes: Vec<u8> = entries.iter().flat_map(Entry::blocks).collect();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// What docker export writes of a container: busybox, the directories that docker makes, and its mark.
fn export() -> Vec<Entry> {
    let busybox = fs::read(common::busybox()).expect("busybox");
    let mut entries = vec![
        file(".dockerenv", "").mode(0o755),
        dir("bin/"),
        file("bin/busybox", busybox).mode(0o755),
        dir("dev/"),
        file("dev/console", ""),
        dir("etc/"),
        link("etc/mtab", "/proc/mounts"),
        file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
        dir("home/").owner(1000, 5),
    ];
    let applets = ["sh", "ls", "cat", "id", "stat", "mount", "touch"];
    entries.extend(applets.map(|name| hard_link(format!("bin/{name}"), "bin/busybox")));
    entries
}

// ---- a place, and the script in it ----

/// A directory in which DEST is `x/image`, and what an archive may not touch is `host`.
struct Place(TempDir);

impl Place {
    #[track_caller]
    fn new() -> Place {
        let place = Place(TempDir::new());
        chmod(place.0.path(), 0o755);
        for dir in ["bin", "x", "host", "host/sub"] {
            place.0.dir(dir);
            chmod(place.0.join(dir), 0o777); // an ordinary user shall be able to
        }
        place.0.file("host/passwd", "good\n");
        chmod(place.0.join("host/passwd"), 0o666);
        // The checkout may be where only root can read it.
        place.0.program("bin/td-rootfs", fs::read(SCRIPT).expect("the script"));
        place.0.program("bin/td-unshare", fs::read(bin("td-unshare")).expect("td-unshare"));
        place
    }

    fn dest(&self) -> PathBuf {
        self.0.join("x/image")
    }

    /// td-rootfs of an archive that comes by a pipe.
    #[track_caller]
    fn unpack(&self, bytes: &[u8]) -> Output {
        self.unpack_as(None, bytes)
    }

    #[track_caller]
    fn unpack_as(&self, uid: Option<u32>, bytes: &[u8]) -> Output {
        self.start(self.command(), uid, bytes).wait()
    }

    fn command(&self) -> Command {
        script(&self.script(), ["--tar", "-"])
    }

    fn script(&self) -> String {
        self.0.join("bin/td-rootfs").to_str().expect("text").to_string()
    }

    #[track_caller]
    fn start(&self, cmd: Command, uid: Option<u32>, bytes: &[u8]) -> Running {
        let (mut pipe, running) = self.piped(cmd, uid);
        let bytes = bytes.to_vec();
        // It may end before it has read all.
        std::thread::spawn(move || pipe.write_all(&bytes));
        running
    }

    /// A command of a user, and what it reads from.
    #[track_caller]
    fn piped(&self, mut cmd: Command, uid: Option<u32>) -> (fs::File, Running) {
        let (reader, writer) = pipe();
        cmd.arg(self.dest()).current_dir("/");
        cmd.stdin(reader).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(uid) = uid {
            cmd.uid(uid).gid(uid);
        }
        (writer, start_with(&mut cmd))
    }

    /// The path of an entry in the unfinished image, where it is there.
    fn unfinished(&self, name: &str) -> Option<PathBuf> {
        let work = self.names().pop().filter(|name| name.starts_with(".td-rootfs."))?;
        Some(self.0.join("x").join(work).join("root/image").join(name)).filter(|path| path.exists())
    }

    /// The processes that have a root directory or a file of this place.
    fn processes(&self) -> Vec<PathBuf> {
        let is_here =
            |path: PathBuf| fs::read_link(path).is_ok_and(|to| to.starts_with(self.0.path()));
        let processes = fs::read_dir("/proc").expect("/proc").flatten().map(|entry| entry.path());
        let uses = |process: &PathBuf| {
            let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
            files.map(|entry| entry.path()).chain([process.join("root")]).any(is_here)
        };
        processes.filter(uses).collect()
    }

    /// DEST, and the unfinished image, are absent.
    #[track_caller]
    fn nothing_is_left(&self) {
        let left: Vec<_> = self.names();
        assert!(left.is_empty(), "{left:?}");
    }

    /// After a success DEST is there, and is removed; else it is absent.
    #[track_caller]
    fn is_whole_or_absent(&self, output: &Output) {
        if output.code != Some(0) {
            return self.nothing_is_left();
        }
        assert_eq!(self.names(), ["image"], "{output:#}");
        let remove = "chmod -R u+rwx \"$1\" && rm -rf \"$1\"";
        run(sh(remove).arg("sh").arg(self.dest())).exits(0);
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.join("x")).expect("x");
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    /// All that can be seen of the files outside.
    fn host(&self) -> String {
        let paths = ["", "bin", "bin/td-rootfs", "host", "host/sub", "host/passwd"];
        let mut seen = String::new();
        for path in paths.map(|path| self.0.join(path)) {
            let stat = path.symlink_metadata().expect("it is still there");
            let what = match fs::read_dir(&path) {
                Ok(entries) => entries.count().to_string(),
                Err(_) => fs::read_to_string(&path).expect("it can still be read"),
            };
            let facts = (stat.mode(), stat.uid(), stat.gid(), stat.nlink(), stat.mtime());
            seen += &format!("{path:?} {facts:?} {:?} {what}\n", xattr(&path, "user.evil"));
        }
        seen
    }
}

/// Every path in a tree with its type, mode, owner and links.
fn tree(root: &Path) -> Vec<String> {
    let mut tree = Vec::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(path) = left.pop() {
        let stat = path.symlink_metadata().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let target = fs::read_link(&path).unwrap_or_default();
        if stat.is_dir() {
            left.extend(
                fs::read_dir(&path).expect("a directory").map(|e| e.expect("entry").path()),
            );
        }
        let name = path.strip_prefix(root).expect("it is inside");
        // Of a directory that something was put into later, they are no one's choice.
        let (size, time) = if stat.is_dir() { (0, 0) } else { (stat.len(), stat.mtime()) };
        tree.push(format!(
            "{name:?} {:o} {} {} {time} {size} {target:?}",
            stat.mode(),
            stat.uid(),
            stat.gid(),
        ));
    }
    tree.sort();
    tree
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let path = CString::new(path.as_os_str().as_bytes()).expect("a path");
    let name = CString::new(name).expect("a name");
    let mut value = [0u8; 256];
    let room = value.as_mut_ptr().cast();
    // SAFETY: two strings that end with a zero byte, and room for as many bytes as is said.
    let length = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), room, value.len()) };
    usize::try_from(length).ok().map(|length| value[..length].to_vec())
}

/// A file capability: cap_net_raw, as ping has it.
fn net_raw() -> Vec<u8> {
    let words: [u32; 5] = [0x0200_0001, 1 << 13, 0, 0, 0];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// `bytes`, compressed by a program of this machine.
#[track_caller]
fn compressed(by: &str, bytes: &[u8]) -> Vec<u8> {
    let (reader, mut writer) = pipe();
    let mut cmd = Command::new(by);
    cmd.args(["-c", "-1"]).stdin(reader).stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = start_with(&mut cmd);
    writer.write_all(bytes).expect("it reads all");
    drop(writer);
    running.wait().ok().stdout
}

// ---- tests ----

#[test]
fn plain_and_compressed_a_file_and_a_pipe_give_the_same_image() {
    let place = Place::new();
    let bytes = archive(&export());
    place.unpack(&bytes).ok();
    let first = tree(&place.dest());
    assert!(first.len() > 15, "{first:?}");
    for by in ["cat", "gzip", "xz", "zstd", "bzip2"] {
        let bytes = if by == "cat" { bytes.clone() } else { compressed(by, &bytes) };
        fs::remove_dir_all(place.dest()).expect("the image");
        place.unpack(&bytes).ok();
        assert_eq!(tree(&place.dest()), first, "{by}, a pipe");
        let file = place.0.file("an archive: x", &bytes);
        for option in
            [vec!["--tar".into(), file.clone()], vec![format!("--tar={}", file.display()).into()]]
        {
            fs::remove_dir_all(place.dest()).expect("the image");
            run(script(SCRIPT, option).arg(place.dest())).ok();
            assert_eq!(tree(&place.dest()), first, "{by}, a file");
        }
    }
}

#[test]
fn a_first_name_that_begins_as_a_compressed_file_does_is_no_compressed_file() {
    for name in [&b"\x1f\x8b"[..], b"BZh9", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"] {
        let place = Place::new();
        place.unpack(&archive(&[file(name, "text")])).ok();
        let path = place.dest().join(OsStr::from_bytes(name));
        assert_eq!(fs::read(path).expect("the file"), b"text");
    }
}

#[test]
fn modes_links_times_and_attributes_are_kept() {
    let place = Place::new();
    let bytes = archive(&[
        dir("d").mode(0o2750),
        file("d/program", "text").mode(0o4755).xattr("user.kept", "value"),
        hard_link("same", "d/program"),
        link("link", "/etc/passwd"),
        link("up", "d/../../.."),
        dir("tmp").mode(0o1777),
        Entry::new(b'6', "fifo").mode(0o600),
    ]);
    place.unpack(&bytes).ok();
    let mode =
        |name: &str| place.dest().join(name).symlink_metadata().expect("a file").mode() & 0o7777;
    assert_eq!(mode(""), 0o755);
    assert_eq!(mode("d"), 0o2750);
    assert_eq!(mode("tmp"), 0o1777);
    assert_eq!(mode("d/program"), 0o4755);
    let program = place.dest().join("d/program").metadata().expect("a file");
    assert_eq!(program.mtime(), 0o14524661400);
    assert_eq!(program.ino(), place.dest().join("same").metadata().expect("a link").ino());
    assert_eq!(xattr(&place.dest().join("same"), "user.kept").expect("kept"), b"value");
    for (name, target) in [("link", "/etc/passwd"), ("up", "d/../../..")] {
        assert_eq!(fs::read_link(place.dest().join(name)).expect("a link"), Path::new(target));
    }
    let fifo = place.dest().join("fifo").metadata().expect("a FIFO");
    assert!(fifo.file_type().is_fifo() && fifo.mode() & 0o7777 == 0o600);
}

#[test]
fn what_an_overlay_reads_of_its_layers_is_not_taken_over() {
    let place = Place::new();
    let bytes = archive(&[
        dir("d")
            .xattr("user.overlay.opaque", "y")
            .xattr("trusted.overlay.opaque", "y")
            .xattr("trusted.overlay.redirect", "/etc"),
        file("kept", "").xattr("user.other", "y"),
    ]);
    place.unpack(&bytes).ok();
    for name in ["user.overlay.opaque", "trusted.overlay.opaque", "trusted.overlay.redirect"] {
        assert_eq!(xattr(&place.dest().join("d"), name), None, "{name}");
    }
    assert_eq!(xattr(&place.dest().join("kept"), "user.other"), Some(b"y".to_vec()));
}

#[test]
fn names_may_have_every_byte() {
    let place = Place::new();
    let mut name: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
    name.rotate_left(31);
    let names =
        [&b"-rf"[..], b"--checkpoint-action=exec=false", b"new\nline", b"end\n", b"\xff", &name];
    place.unpack(&archive(&names.map(|name| file(name, "text")))).ok();
    for name in names.map(OsStr::from_bytes) {
        assert_eq!(fs::read(place.dest().join(name)).expect("a file"), b"text", "{name:?}");
    }
    assert_eq!(fs::read_dir(place.dest()).expect("the image").count(), names.len());
}

#[test]
fn a_name_cannot_pass_for_a_message() {
    let place = Place::new();
    let odd = "x\ntar: y: Cannot mknod: Operation not permitted";
    // A directory under a file: an error, whose line has the name.
    let bytes = archive(&[file(odd, ""), dir(format!("{odd}/d"))]);
    place.unpack(&bytes).exits(125).says("x\\ntar\\: y").says("was not unpacked");
    place.nothing_is_left();
}

#[test]
fn a_sparse_file_stays_sparse() {
    let place = Place::new();
    let script =
        "cd \"$1\" && : >sparse && truncate -s 1G sparse && tar -c --sparse sparse >sparse.tar";
    run(sh(script).arg("sh").arg(place.0.join("host/sub"))).ok();
    place.unpack(&fs::read(place.0.join("host/sub/sparse.tar")).expect("an archive")).ok();
    let stat = place.dest().join("sparse").metadata().expect("the file");
    assert_eq!(stat.len(), 1 << 30);
    assert!(stat.blocks() < 100, "{} blocks", stat.blocks());
}

#[test]
fn an_archive_that_is_cut_anywhere_leaves_nothing() {
    let entries = [file("a", [b'x'; 600]), dir("d"), link("d/l", "/a"), file("d/b", "text")];
    let bytes = archive(&entries);
    let whole = bytes.len() - 1024;
    for length in (0..=whole).step_by(512).chain([1, 511, 513, 1300, whole - 1]) {
        let place = Place::new();
        place.unpack(&bytes[..length]).exits(125).says("was not unpacked");
        place.nothing_is_left();
    }
    // At the end of an entry there is nothing that tar would say.
    Place::new()
        .unpack(&bytes[..whole])
        .says("td-rootfs: the archive is truncated: it has no end mark");
    for by in ["gzip", "xz", "zstd", "bzip2"] {
        let bytes = compressed(by, &bytes);
        for length in [bytes.len() / 2, bytes.len() - 1] {
            let place = Place::new();
            place.unpack(&bytes[..length]).exits(125);
            place.nothing_is_left();
        }
    }
}

#[test]
fn what_comes_after_the_end_mark_is_not_looked_at() {
    for more in [vec![b'x'; 5000], archive(&[file("b", "")])] {
        let place = Place::new();
        place.unpack(&[archive(&[file("a", "")]), more].concat()).ok();
        assert_eq!(tree(&place.dest()).len(), 2);
    }
    let place = Place::new();
    let bytes = [compressed("gzip", &archive(&[file("a", "")])), vec![b'x'; 600]].concat();
    place.unpack(&bytes).exits(125).says("trailing garbage");
    place.nothing_is_left();
}

#[test]
fn what_is_no_archive_is_refused() {
    for bytes in [vec![b'x'; 2000], b"PK\x03\x04".repeat(300), compressed("gzip", &[b'x'; 2000])] {
        let place = Place::new();
        place.unpack(&bytes).exits(125).says("This does not look like a tar archive");
        place.nothing_is_left();
    }
}

#[test]
fn what_is_saved_in_layers_is_refused_with_the_way_out() {
    let manifest =
        file("manifest.json", "[{\"Config\":\"c.json\",\"Layers\":[\"1/layer.tar\"]}]\n");
    let oci = [file("oci-layout", "{}"), file("index.json", "{}"), dir("blobs")];
    for (entries, sentence) in [
        (vec![dir("1"), file("1/layer.tar", ""), manifest], "an image as docker save writes it"),
        (oci.to_vec(), "an OCI image"),
        (vec![dir("etc"), file("etc/.wh.passwd", "")], "one layer of an image: it has whiteouts"),
        (vec![dir("etc"), file("etc/.wh..wh..opq", "")], "one layer of an image: it has whiteouts"),
    ] {
        let place = Place::new();
        let output = place.unpack(&archive(&entries)).exits(125).says(sentence);
        output.says("td-rootfs: docker load; docker create IMAGE; docker export CONTAINER");
        place.nothing_is_left();
    }
}

#[test]
fn a_tree_that_only_looks_a_little_like_layers_is_unpacked() {
    let place = Place::new();
    // A web application may have the first, and a link leads anywhere.
    let entries =
        [file("manifest.json", "{}"), link("oci-layout", "/etc/passwd"), file("index.json", "{}")];
    place.unpack(&archive(&entries)).ok();
}

#[test]
fn a_tar_that_is_not_gnus_is_refused_by_name() {
    for (program, name) in [
        ("#!/bin/sh\nexec busybox tar \"$@\"\n", "tar (busybox)"),
        ("#!/bin/sh\necho 'bsdtar 3.6.2 - libarchive 3.6.2'\n", "bsdtar 3.6.2"),
    ] {
        let place = Place::new();
        let tar = place.0.program("host/sub/tar", program);
        let path = format!("{}:/usr/bin:/bin", tar.parent().expect("a directory").display());
        let mut cmd = place.command();
        cmd.env("PATH", path);
        let output = place.start(cmd, None, &archive(&[])).wait().exits(125);
        output.says(&format!("tar is not GNU tar, which --tar needs: {name}"));
        place.nothing_is_left();
    }
}

#[test]
fn wrong_usage_is_named() {
    let place = Place::new();
    let archive = place.0.file("archive", archive(&[]));
    let archive = archive.to_str().expect("text");
    for (args, sentence) in [
        (&["--tar"] as &[&str], "--tar needs a FILE"),
        (&["--tar", archive], "DEST is missing"),
        (
            &["--tar", archive, "DEST", "ls"],
            "an archive is unpacked unchanged, so ls cannot be added",
        ),
        (&["--tar", "missing", "DEST"], "missing is not a readable file"),
        (&["--tar", "/", "DEST"], "/ is not a readable file"),
        (&["--tar", "", "DEST"], " is not a readable file"),
        (&["--tar", archive, "--host", "DEST"], "use only one of --busybox, --host and --tar"),
        (&["--tar", archive, "--tar", archive, "DEST"], "use only one of"),
    ] {
        let output = run(script(SCRIPT, args).current_dir(place.0.join("x")));
        output.exits(125).says(&format!("td-rootfs: {sentence}"));
        place.nothing_is_left();
    }
    let mut cmd = sh("exec \"$@\" <&-");
    cmd.arg("sh").args(words(&place.command())).arg(place.dest());
    run(&mut cmd).exits(125).says("DEST was not created, because of the error above");
    place.nothing_is_left();
}

#[test]
fn no_variable_changes_what_is_done() {
    let place = Place::new();
    let bytes = compressed("xz", &archive(&[file("a", "")]));
    let mut cmd = place.command();
    cmd.envs([("TAR_OPTIONS", "--keep-old-files --exclude=a -v"), ("XZ_OPT", "--format=raw")]);
    place.start(cmd, None, &bytes).wait().ok();
    assert!(place.dest().join("a").exists());
}

/// An archive with much that cannot be compressed, and then without its end.
fn unfinished() -> Vec<u8> {
    let mut random = Random(1);
    let noise: Vec<u8> = (0..1_000_000).map(|_| random.below(256) as u8).collect();
    let mut bytes = archive(&[file("first", ""), dir("d").mode(0), file("big", noise)]);
    bytes.truncate(bytes.len() - 20_000);
    bytes
}

#[track_caller]
fn a_signal_leaves_nothing(uid: Option<u32>) {
    for (signal, status) in [(libc::SIGHUP, 129), (libc::SIGINT, 130), (libc::SIGTERM, 143)] {
        for program in ["cat", "gzip"] {
            let place = Place::new();
            let (mut pipe, running) = place.piped(place.command(), uid);
            let bytes = unfinished();
            let bytes = if program == "cat" { bytes } else { compressed(program, &bytes) };
            pipe.write_all(&bytes).expect("it reads");
            wait_for("the first file", || place.unfinished("first"));
            running.kill(signal);
            running.wait().exits(status);
            place.nothing_is_left();
            // They are gone before the pipe is closed.
            wait_for("the end of every process", || place.processes().is_empty().then_some(()));
        }
    }
}

#[test]
fn a_signal_while_it_waits_for_the_archive_leaves_no_file_and_no_process() {
    a_signal_leaves_nothing(None);
}

#[test]
fn a_signal_before_the_archive_begins_leaves_nothing() {
    let place = Place::new();
    let (pipe, running) = place.piped(place.command(), None);
    wait_for("who reads the archive", || {
        let is_dd = |process: &PathBuf| fs::read(process.join("comm")).is_ok_and(|c| c == b"dd\n");
        place.processes().into_iter().find(is_dd)
    });
    running.kill(libc::SIGTERM);
    running.wait().exits(143);
    place.nothing_is_left();
    wait_for("the end of every process", || place.processes().is_empty().then_some(()));
    drop(pipe);
}

#[test]
fn a_signal_to_its_process_group_leaves_nothing() {
    let place = Place::new();
    let mut cmd = place.command();
    cmd.process_group(0);
    let (mut pipe, running) = place.piped(cmd, None);
    pipe.write_all(&unfinished()).expect("it reads");
    wait_for("the first file", || place.unfinished("first"));
    common::kill(-running.pid(), libc::SIGINT);
    running.wait().exits(130);
    place.nothing_is_left();
}

/// What shall become of an archive.
enum End {
    Unpacked,
    /// This is said.
    Refused(&'static str),
    /// It depends on the inode numbers that the kernel gives.
    Either,
}

use End::{Either, Refused, Unpacked};

type Archive = (&'static str, Vec<Entry>, End);

/// A file that can be told from those of the host.
fn evil(name: impl AsRef<[u8]>) -> Entry {
    file(name, "evil").mode(0o777).xattr("user.evil", "y")
}

/// Archives whose links lead out.
fn hostile_links(host: &[u8]) -> Vec<Archive> {
    let passwd = [host, b"/passwd"].concat();
    let through = || Refused("Not a directory");
    let steps = [dir("d"), link("d/b", ".."), link("a", "d/b"), link("c", "a/../../host")];
    vec![
        ("a link", vec![link("a", host), evil("a/passwd")], through()),
        ("a relative link", vec![link("a", "../../host"), evil("a/passwd")], through()),
        ("one from above", vec![link("a", "../../../../host"), evil("a/passwd")], through()),
        ("links together", [&steps[..], &[evil("c/passwd")]].concat(), through()),
        (
            "in a pax header",
            vec![link("a", "b").pax("linkpath", host), evil("a/passwd")],
            through(),
        ),
        ("over a directory", vec![dir("a"), link("a", host), evil("a/passwd")], through()),
        ("under a file", vec![link("a", &passwd), evil("a")], Either),
        ("under a directory", vec![link("a", host), dir("a").mode(0), evil("a/passwd")], Either),
        (
            "over one in one",
            vec![dir("a").mode(0o700), dir("a/b").mode(0), link("a/b", host)],
            Unpacked,
        ),
        ("a hard link", vec![hard_link("a", &passwd), evil("a")], Refused("No such file")),
        ("a relative one", vec![hard_link("a", "../../host/passwd")], Refused("No such file")),
        ("a hard link to a link", vec![link("a", &passwd), hard_link("b", "a"), evil("b")], Either),
        (
            "a hard link through a link",
            vec![link("a", host), hard_link("b", "a/passwd"), evil("b")],
            Refused("Cannot hard link"),
        ),
    ]
}

/// Archives whose names lead out, or nowhere.
fn hostile_names(host: &[u8]) -> Vec<Archive> {
    let passwd = [host, b"/passwd"].concat();
    let dots = || Refused("Member name contains '..'");
    let long = || Refused("File name too long");
    let deep = vec!["d".repeat(99); 40].join("/");
    let deeper = dir(format!("s/{}", &deep[..3900])).mode(0);
    let for_all = Entry { content: record("path", b"../../host/passwd"), ..Entry::new(b'g', "g") };
    vec![
        ("..", vec![evil("../../host/passwd")], dots()),
        (".. after a directory", vec![dir("d"), evil("d/../../../host/new")], dots()),
        (".. in a pax header", vec![evil("a").pax("path", "../../host/passwd")], dots()),
        (".. in a pax header for all", vec![for_all, evil("a")], dots()),
        (".. of a volume", vec![Entry::new(b'V', "../../host/passwd"), evil("a")], dots()),
        ("an absolute name", vec![evil(&passwd)], Unpacked),
        ("one in a pax header", vec![evil("a").pax("path", &passwd)], Unpacked),
        ("a name of 5000 bytes", vec![evil("n".repeat(5000))], long()),
        ("a path of 6000 bytes", vec![evil(vec!["n".repeat(99); 60].join("/"))], long()),
        (
            "a path deeper than PATH_MAX",
            vec![dir(&deep), link("s", &deep), deeper, evil("s/f")],
            Unpacked,
        ),
        ("a directory over a file", vec![evil("a"), dir("a"), evil("a/b")], Unpacked),
        ("a file over one", vec![dir("a"), evil("a/b"), evil("a")], Refused("File exists")),
    ]
}

/// Archives whose headers say what cannot be, or is for other uses.
fn hostile_headers() -> Vec<Archive> {
    let with =
        |kind, content: &[u8]| vec![Entry { content: content.to_vec(), ..Entry::new(kind, "a") }];
    let out_of_range = || Refused("out of range");
    vec![
        ("an owner", vec![evil("a").pax("uid", "4294967296")], out_of_range()),
        ("a size", vec![evil("a").pax("size", "99999999999999999999")], out_of_range()),
        ("a negative size", vec![evil("a").pax("size", "-1")], out_of_range()),
        ("a directory of a dump", with(b'D', b"Rhost\0Tnew\0\0"), Unpacked),
        ("a file continued", with(b'M', b"evil"), Refused("continued from another volume")),
        ("a kind that there is not", with(b'@', b"evil"), Unpacked),
        (
            "a sparse file beyond all limits",
            vec![
                evil("a")
                    .pax("GNU.sparse.major", "1")
                    .pax("GNU.sparse.minor", "0")
                    .pax("GNU.sparse.realsize", "9223372036854775807"),
            ],
            Refused("was not unpacked"),
        ),
    ]
}

#[track_caller]
fn hostile_archives_stay_inside(uid: Option<u32>) {
    let place = Place::new();
    let before = place.host();
    let host = place.0.join("host");
    let host = host.as_os_str().as_bytes();
    for (what, entries, end) in
        [hostile_links(host), hostile_names(host), hostile_headers()].into_iter().flatten()
    {
        let output = place.unpack_as(uid, &archive(&entries));
        assert_eq!(place.host(), before, "{what}: {output:#}");
        let as_it_should = match end {
            Unpacked => output.code == Some(0),
            Refused(sentence) => output.code == Some(125) && output.err().contains(sentence),
            Either => matches!(output.code, Some(0 | 125)),
        };
        assert!(as_it_should, "{what}: {output:#}");
        place.is_whole_or_absent(&output);
    }
}

#[test]
fn hostile_archives_stay_inside_dest() {
    hostile_archives_stay_inside(None);
}

/// A generator of numbers that look random (Marsaglia's xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    fn name(&mut self, host: &str) -> String {
        let mut words: Vec<&str> = Vec::new();
        for _ in 0..=self.below(3) {
            words.push(*self.of(&["a", "b", "c", "a", "b", "c", "."]));
        }
        match self.below(20) {
            0 => format!("{host}/passwd"),
            1 => format!("../../host/{}", self.of(&["passwd", "sub", "new"])),
            2..=6 => format!("{}/{}", words.join("/"), self.of(&["passwd", "sub", "host/passwd"])),
            _ => words.join("/"),
        }
    }

    fn target(&mut self, host: &str) -> String {
        match self.below(5) {
            0 => format!("{host}{}", self.of(&["", "/passwd", "/sub"])),
            1 | 2 => {
                let out = ["..", "../..", "../../host", "../../../host", "../host", "/", "."];
                self.of(&out).to_string()
            }
            _ => self.name(host),
        }
    }

    fn entry(&mut self, host: &str) -> Entry {
        let (name, target) = (self.name(host), self.target(host));
        let entry = match self.below(12) {
            0..=2 => dir(name),
            3..=4 => file(name, "evil"),
            5..=8 => link(name, target),
            9..=10 => hard_link(name, target),
            _ => device(*self.of(b"346"), &name, 1, 3),
        };
        let mode = *self.of(&[0, 0o777, 0o4755, 0o700, 0o555, 0o2770]);
        entry.mode(mode).owner(*self.of(&[0, 1000]), 5).xattr("user.evil", "y")
    }
}

#[track_caller]
fn random_archives_stay_inside(uid: Option<u32>) {
    let place = Place::new();
    let before = place.host();
    let host = place.0.join("host").to_str().expect("text").to_string();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut whole = 0;
    for round in 0..40 {
        let entries: Vec<_> = (0..2 + random.below(5)).map(|_| random.entry(&host)).collect();
        let output = place.unpack_as(uid, &archive(&entries));
        assert_eq!(place.host(), before, "round {round}: {output:#}");
        assert!(matches!(output.code, Some(0 | 125)), "round {round}: {output:#}");
        whole += usize::from(output.code == Some(0));
        place.is_whole_or_absent(&output);
    }
    assert!((4..37).contains(&whole), "{whole} archives were unpacked");
}

/// tar makes `l` a link that leads out, then comes to `l/p`, which has been `d/p`, and knows it by its inode number
/// alone. Here the host's file has that number because it is the same file.
#[track_caller]
fn a_host_file_with_the_inode_of_an_entry_stays(uid: Option<u32>) {
    for depth in [0, 2, 3, 4] {
        let place = Place::new();
        let host = match depth {
            0 => place.0.join("host").into_os_string().into_vec(),
            _ => format!("{}host", "../".repeat(depth)).into_bytes(),
        };
        let entries = [
            dir("d"),
            link("l", "d"),
            link("l/p", "/evil"),
            link("l", host),
            file("first", ""),
            file("long", vec![0; 100_000]),
        ];
        let bytes = archive(&entries);
        let (mut pipe, running) = place.piped(place.command(), uid);
        pipe.write_all(&bytes[..50_000]).expect("it reads");
        wait_for("the first file", || place.unfinished("first"));
        let placeholder = place.unfinished("d/p").expect("a placeholder");
        fs::hard_link(placeholder, place.0.join("host/p")).expect("a link");
        pipe.write_all(&bytes[50_000..]).expect("it reads");
        drop(pipe);
        running.wait().ok();
        let stat = place.0.join("host/p").symlink_metadata().expect("it is still there");
        assert!(stat.is_file(), "the archive reached the host, by way of {:?}", entries[3].target);
    }
}

#[test]
fn a_file_of_the_host_with_the_inode_number_of_an_entry_stays() {
    a_host_file_with_the_inode_of_an_entry_stays(None);
}

#[test]
fn random_archives_stay_inside_dest() {
    random_archives_stay_inside(None);
}

#[test]
fn twenty_thousand_entries_are_unpacked() {
    let place = Place::new();
    let header = |i: usize| file(format!("{}/{i}", i / 1000), "").blocks();
    let mut bytes: Vec<u8> = (0..20_000).flat_map(header).collect();
    bytes.resize(bytes.len() + 1024, 0);
    place.unpack(&bytes).ok();
    let count = |dir: PathBuf| fs::read_dir(dir).expect("a directory").count();
    assert_eq!((0..20).map(|i| count(place.dest().join(i.to_string()))).sum::<usize>(), 20_000);
}

#[test]
fn directories_above_dest_are_made_for_the_owner_alone() {
    let place = Place::new();
    let file = place.0.file("archive", archive(&[file("a", "").mode(0o4755)]));
    run(script(SCRIPT, ["--tar"]).arg(file).arg(place.0.join("x/new/image"))).ok();
    let mode = fs::metadata(place.0.join("x/new")).expect("it is made").permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
}

/// What only root can try: other owners, devices, mounts, and being another user.
mod root {
    use super::*;
    use common::{RANGES, give_ids, mount, must_be_root, private_mounts};

    const NOBODY: u32 = 65534;

    #[test]
    fn owners_and_capabilities_are_kept_by_number() {
        must_be_root();
        let place = Place::new();
        let program = file("ping", "").mode(0o755).owner(12345, 54321);
        let program = program.xattr("security.capability", net_raw());
        let named = file("named", "").owner(7, 7).pax("uname", "nobody").pax("gname", "nogroup");
        place.unpack(&archive(&[program, named, dir("./").mode(0o555).owner(3, 4)])).ok();
        let owner = |name: &str| {
            let stat = place.dest().join(name).metadata().expect("a file");
            (stat.uid(), stat.gid(), stat.mode() & 0o7777)
        };
        assert_eq!(owner("ping"), (12345, 54321, 0o755));
        assert_eq!(owner("named"), (7, 7, 0o644));
        assert_eq!(owner(""), (3, 4, 0o555));
        assert_eq!(xattr(&place.dest().join("ping"), "security.capability"), Some(net_raw()));
    }

    /// Every kind of device, also the one that an overlay takes for a whiteout.
    fn devices() -> Vec<u8> {
        archive(&[
            file("a", "text"),
            device(b'3', "null", 1, 3),
            device(b'4', "loop", 7, 0),
            device(b'3', "whiteout", 0, 0),
            hard_link("same", "loop"),
            link("link", "loop"),
        ])
    }

    #[track_caller]
    fn has_no_device(dest: &Path) {
        let mut find = Command::new("find");
        find.arg(dest).args(["(", "-type", "b", "-o", "-type", "c", ")"]);
        assert_eq!(run(&mut find).ok().out(), "");
        assert_eq!(fs::read(dest.join("a")).expect("the rest is there"), b"text");
    }

    #[test]
    fn no_device_is_in_an_image() {
        must_be_root();
        let place = Place::new();
        place.unpack(&devices()).ok();
        has_no_device(&place.dest());
    }

    #[test]
    fn an_ordinary_user_gets_all_but_devices_and_owners() {
        must_be_root();
        let place = Place::new();
        let entries = [
            file("su", "").mode(0o4755),
            dir("home").owner(1000, 1000),
            dir("tmp").mode(0o1777),
            file("ping", "").xattr("security.capability", net_raw()).xattr("user.kept", "y"),
        ];
        place.unpack_as(Some(NOBODY), &archive(&entries)).ok();
        for (name, mode) in [("su", 0o4755), ("home", 0o755), ("tmp", 0o1777), ("ping", 0o644)] {
            let stat = place.dest().join(name).metadata().expect("a file");
            assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (NOBODY, NOBODY, mode));
        }
        assert_eq!(xattr(&place.dest().join("ping"), "user.kept"), Some(b"y".to_vec()));
        // One of his user namespaces: the last word, after five as of any, is the id that is root there.
        let capability = xattr(&place.dest().join("ping"), "security.capability").expect("kept");
        assert_eq!(capability[4..20], net_raw()[4..]);
        assert_eq!(capability[20..], NOBODY.to_le_bytes());
    }

    #[test]
    fn an_ordinary_user_needs_td_unshare_and_a_user_namespace() {
        must_be_root();
        let place = Place::new();
        let bytes = archive(&[file("a", "")]);
        let program = "#!/bin/sh\necho td-unshare: no user namespace >&2\nexit 125\n";
        place.0.program("bin/td-unshare", program);
        let output = place.unpack_as(Some(NOBODY), &bytes).exits(125).says("no user namespace");
        output.says("was not unpacked: tar ended with status 125");
        place.nothing_is_left();
        fs::remove_file(place.0.join("bin/td-unshare")).expect("td-unshare");
        place
            .unpack_as(Some(NOBODY), &bytes)
            .exits(125)
            .says("td-unshare is neither beside td-rootfs");
        place.nothing_is_left();
        let mut cmd = place.command();
        cmd.env("PATH", format!("{}:/usr/bin:/bin", place.0.join("host/sub").display()));
        place.0.program("host/sub/td-unshare", program);
        place.start(cmd, Some(NOBODY), &bytes).wait().exits(125).says("no user namespace");
    }

    #[test]
    fn devices_do_not_stop_an_ordinary_user() {
        must_be_root();
        let place = Place::new();
        let entries = ["dev/null", "./dev/zero", "/dev/full", "dev/a/b"];
        let devices = entries.map(|name| device(b'3', name, 1, 3));
        let bytes =
            [&[file("a", "text"), dir("dev"), device(b'3', "w", 0, 0)], &devices[..]].concat();
        place.unpack_as(Some(NOBODY), &archive(&bytes)).ok();
        has_no_device(&place.dest());
        assert_eq!(fs::read_dir(place.dest().join("dev")).expect("/dev").count(), 0);
    }

    #[test]
    fn a_device_elsewhere_is_refused_to_an_ordinary_user_with_the_reason() {
        must_be_root();
        let place = Place::new();
        let bytes = archive(&[file("a", "text"), device(b'3', "null", 1, 3)]);
        let output = place.unpack_as(Some(NOBODY), &bytes).exits(125);
        output.says("null: Cannot mknod: Operation not permitted\n").says(
            "td-rootfs: perhaps it has a device outside of /dev, which an ordinary user cannot create\n",
        );
        place.nothing_is_left();
        place.unpack(&bytes).ok();
        has_no_device(&place.dest());
    }

    /// A line that tar prints may come out of the archive.
    #[test]
    fn what_tar_prints_is_escaped_and_turns_no_failure_into_a_success() {
        must_be_root();
        let forged = [
            "tar: a: Cannot mknod: Operation not permitted",
            "tar: a: Cannot change ownership to uid 1, gid 1: Invalid argument",
            "tar: Exiting with failure status due to previous errors",
            "tar: Removing leading `/' from member names",
            "block 3: ** Block of NULs **",
            "td-rootfs: forged",
        ];
        for uid in [None, Some(NOBODY)] {
            for key in ["uid", "gid", "size", "mtime", "GNU.sparse.realsize", "GNU.sparse.map"] {
                let place = Place::new();
                let value = format!("x\x1b[31m\x07\r\u{9b}\n{}\n", forged.join("\n"));
                let bytes = archive(&[file("a", "").pax(key, value), file("b", "")]);
                // What it takes for a number in vain it may as well not look at.
                let output = place.unpack_as(uid, &bytes);
                common::bytes::is_plain(&output, key);
                assert!(
                    output.err().lines().all(|line| line.starts_with("td-rootfs: ")),
                    "{output}"
                );
                assert!(!output.err().lines().any(|line| line == "td-rootfs: forged"), "{output}");
                let is_number = matches!(key, "uid" | "gid" | "size" | "mtime");
                assert!(output.code == Some(125) || !is_number, "{key}: {output}");
                place.is_whole_or_absent(&output);
            }
            for odd in ["a\x1b[31m\n\x07", "a\u{9b}31m\r", "../\x1b[31m"] {
                let place = Place::new();
                let odd = file(odd, "").pax("SCHILY.xattr.user.\x1b[31m\nx", "y");
                // One below a file: an error that names both.
                let below = file([&odd.name[..], b"/below"].concat(), "");
                let output = place.unpack_as(uid, &archive(&[odd, below])).exits(125);
                common::bytes::is_plain(&output, "a name");
                place.nothing_is_left();
            }
        }
    }

    #[test]
    fn an_ordinary_user_has_an_image_whose_root_may_not_be_written() {
        must_be_root();
        let place = Place::new();
        for mode in [0o555, 0] {
            place.unpack_as(Some(NOBODY), &archive(&[dir("./").mode(mode), file("a", "")])).ok();
            let stat = place.dest().metadata().expect("the image");
            assert_eq!(stat.mode() & 0o7777, mode | 0o700);
            fs::remove_dir_all(place.dest()).expect("the image");
        }
    }

    #[test]
    fn directories_that_an_ordinary_user_may_not_enter_are_kept_and_on_a_failure_removed() {
        must_be_root();
        let place = Place::new();
        let closed = [dir("d").mode(0), dir("d/e").mode(0), file("d/e/f", "")];
        place.unpack_as(Some(NOBODY), &archive(&closed)).ok();
        assert_eq!(place.dest().join("d/e").metadata().expect("d/e").mode() & 0o7777, 0);
        fs::remove_dir_all(place.dest()).expect("the image");
        let failing = [&closed[..], &[dir("g"), file("d/late", ""), file("../x", "")]].concat();
        place.unpack_as(Some(NOBODY), &archive(&failing)).exits(125).says("contains '..'");
        place.nothing_is_left();
    }

    #[test]
    fn hostile_archives_stay_inside_dest_of_an_ordinary_user() {
        must_be_root();
        hostile_archives_stay_inside(Some(NOBODY));
    }

    #[test]
    fn a_file_of_an_ordinary_user_with_the_inode_number_of_an_entry_stays() {
        must_be_root();
        a_host_file_with_the_inode_of_an_entry_stays(Some(NOBODY));
    }

    #[test]
    fn a_signal_to_that_of_an_ordinary_user_leaves_no_file_and_no_process() {
        must_be_root();
        a_signal_leaves_nothing(Some(NOBODY));
    }

    #[test]
    fn random_archives_stay_inside_dest_of_an_ordinary_user() {
        must_be_root();
        random_archives_stay_inside(Some(NOBODY));
    }

    #[test]
    fn where_one_id_is_mapped_every_file_is_the_callers() {
        must_be_root();
        let place = Place::new();
        let entries = [
            file("mine", ""),
            file("theirs", "").owner(1000, 0),
            dir("also").owner(0, 5),
            file("ping", "").xattr("security.capability", net_raw()),
        ];
        let archive = place.0.file("archive", archive(&entries));
        chmod(&archive, 0o644);
        let mut cmd = Command::new(place.0.join("bin/td-unshare"));
        let td_rootfs = script(&place.script(), ["--tar".as_ref(), archive.as_os_str()]);
        cmd.arg("-r").args(words(&td_rootfs)).arg(place.dest());
        run(cmd.uid(NOBODY).gid(NOBODY).current_dir("/")).ok();
        for name in ["mine", "theirs", "also"] {
            assert_eq!(place.dest().join(name).metadata().expect("a file").uid(), NOBODY);
        }
        assert!(xattr(&place.dest().join("ping"), "security.capability").is_some());
    }

    #[test]
    fn in_a_range_of_ids_owners_and_capabilities_are_kept_for_those_within() {
        private_mounts();
        let place = Place::new();
        let _etc = give_ids("ranges:200000:65536\n");
        let entries = [
            file("root", ""),
            file("within", "").owner(1000, 5),
            file("ping", "").owner(7, 7).xattr("security.capability", net_raw()),
        ];
        let unpack = |entries: &[Entry]| {
            let archive = place.0.file("archive", archive(entries));
            let mut cmd = Command::new(place.0.join("bin/td-unshare"));
            cmd.args(["-r", "--map-users", "auto", "--map-groups", "auto"]);
            cmd.args(words(&script(&place.script(), ["--tar".as_ref(), archive.as_os_str()])));
            run(cmd.arg(place.dest()).uid(RANGES).gid(RANGES).current_dir("/"))
        };
        let output = unpack(&[file("beyond", "").owner(70000, 5)]).exits(125);
        output.says("td-rootfs: perhaps it has an owner whose id is not mapped here: map more ids");
        place.nothing_is_left();
        unpack(&entries).ok();
        let owner = |name: &str| {
            let stat = place.dest().join(name).metadata().expect("a file");
            (stat.uid(), stat.gid())
        };
        assert_eq!(owner("root"), (RANGES, RANGES));
        // The first of the range is 1 there, for 0 is the user.
        assert_eq!(owner("within"), (200_999, 200_004));
        assert_eq!(owner("ping"), (200_006, 200_006));
        assert!(xattr(&place.dest().join("ping"), "security.capability").is_some());
    }

    /// A place where DEST is on a small file system.
    fn small_place(options: &str) -> Place {
        private_mounts();
        let place = Place::new();
        let x = place.0.join("x");
        mount(["-t", "tmpfs", "-o", options, "tmpfs", x.to_str().expect("text")]);
        place
    }

    #[test]
    fn an_archive_without_end_that_fills_the_disk_is_stopped_and_nothing_is_left() {
        let place = small_place("size=8m");
        let header = file("big", "").header(1 << 40);
        let mut cmd = sh("header=$1; shift; cat \"$header\" /dev/zero | \"$@\"");
        cmd.arg("sh").arg(place.0.file("header", header)).args(words(&place.command()));
        let output = run(cmd.arg(place.dest())).exits(125).says("No space left on device");
        output.says("td-rootfs: standard input was not unpacked, for the reason above");
        place.nothing_is_left();
    }

    #[test]
    fn a_disk_without_an_inode_left_is_named_and_nothing_is_left() {
        let place = small_place("size=8m,nr_inodes=60");
        let many: Vec<_> = (0..100).map(|i| file(format!("{i}"), "")).collect();
        place.unpack(&archive(&many)).exits(125).says("No space left on device");
        place.nothing_is_left();
    }

    #[test]
    fn a_disk_that_is_full_from_the_beginning_is_named_and_nothing_is_left() {
        let place = small_place("size=64k");
        place.unpack(&archive(&[file("a", "")])).exits(125).says("No space left on device");
        place.nothing_is_left();
    }

    #[test]
    fn a_compressed_archive_that_fills_the_disk_leaves_nothing() {
        let place = small_place("size=8m");
        let bytes = archive(&[file("big", vec![0; 50 << 20])]);
        for by in ["gzip", "xz", "zstd", "bzip2"] {
            let bytes = compressed(by, &bytes);
            assert!(bytes.len() < 1 << 20);
            place.unpack(&bytes).exits(125).says("No space left on device");
            place.nothing_is_left();
        }
    }

    #[test]
    fn a_program_that_is_missing_to_decompress_is_named() {
        private_mounts();
        for by in ["gzip", "xz", "zstd", "bzip2"] {
            let place = Place::new();
            let bytes = compressed(by, &archive(&[file("a", "")]));
            for path in ["/bin", "/usr/bin", "/usr/local/bin"].map(|dir| Path::new(dir).join(by)) {
                if path.is_file() {
                    mount([OsStr::new("--bind"), OsStr::new("/dev/null"), path.as_os_str()]);
                }
            }
            let output = place.unpack(&bytes).exits(125);
            output.says(&format!("standard input is compressed, and {by} was not found"));
            place.nothing_is_left();
        }
    }

    #[test]
    fn td_run_runs_what_docker_exports_also_without_directories_to_mount_on() {
        private_mounts();
        let place = Place::new();
        place.unpack(&archive(&export())).ok();
        let before = tree(&place.dest());
        let td_run = concat!(env!("CARGO_MANIFEST_DIR"), "/bin/td-run");
        let name = format!("t{}-tar", std::process::id());
        let script = "ls -a /; cat /proc/1/comm; id -u; stat -c %u:%g /home; [ -c /dev/null ] && touch /etc/x";
        let mut cmd = common::script(td_run, ["--state"]);
        cmd.arg(place.0.join("state")).arg("--image").arg(place.dest());
        let out = run(cmd.arg(name).args(["sh", "-c", script])).ok().out();
        for line in [".dockerenv", "bin", "dev", "proc", "sys", "td-init", "0", "1000:5"] {
            assert!(out.lines().any(|l| l == line), "{line}: {out}");
        }
        assert_eq!(tree(&place.dest()), before);
    }
}
