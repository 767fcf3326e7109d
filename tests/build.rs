//! scripts/build: what it puts into bin/, by a toolchain that is a script here. (What Rust builds, every other test
//! runs.)

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::*;

const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");

/// Where the source of std is.
const STD: &str = "tools/rust/lib/rustlib/src/rust/library";

/// A checkout with two programs, and a toolchain whose programs say what their sources are.
struct House(TempDir);

impl House {
    fn new() -> House {
        let dir = TempDir::new();
        dir.dir("scripts");
        for name in ["build", "td-run", "td-run.8"] {
            let text = fs::read(Path::new(CHECKOUT).join("scripts").join(name)).expect("a file");
            dir.program(&format!("scripts/{name}"), text);
        }
        dir.file("Cargo.toml", "rust-version = \"1.85\"\n");
        dir.file("Cargo.lock", "");
        dir.dir("rootfs");
        dir.file("rootfs/default.policy", "");
        dir.dir("src/bin");
        dir.file("src/bin/td-one.rs", "one");
        dir.file("src/bin/td-two.rs", "two");
        dir.dir("tools");
        dir.program(
            "tools/rustc",
            "#!/bin/sh\ncase $* in --version) echo rustc 1.99.0 ;; *) echo \"${0%/*}/rust\" ;; esac\n",
        );
        dir.program(
            "tools/cargo",
            "#!/bin/sh\n[ \"$1\" = build ] || { echo cargo 1.99.0; exit; }\n\
            for to do\n\
              case $before in --target-dir) dir=$to ;; --target) target=$to ;; esac\n\
              before=$to\n\
            done\n\
            mkdir -p \"$dir/$target/release/examples\"\n\
            case $* in *--examples*)\n\
              for name in floor inside measure; do echo $name >\"$dir/$target/release/examples/$name\"; done\n\
              exit ;;\n\
            esac\n\
            for file in src/bin/*.rs; do\n\
              name=${file##*/} name=${name%.rs}\n\
              cp \"$file\" \"$dir/$target/release/$name\"\n\
              chmod 755 \"$dir/$target/release/$name\"\n\
            done\n",
        );
        dir.program("tools/rustup", "#!/bin/sh\nexit 1\n");
        let machine = run(Command::new("uname").arg("-m")).ok().out();
        dir.dir(&format!("tools/rust/lib/rustlib/{}-unknown-linux-musl", machine.trim()));
        dir.dir(STD);
        House(dir)
    }

    fn build(&self, args: &[&str]) -> Command {
        let mut cmd = script(text(&self.0.join("scripts/build")), args);
        cmd.env("PATH", self.search_path()).current_dir("/");
        cmd
    }

    fn search_path(&self) -> String {
        let path = std::env::var("PATH").expect("PATH");
        format!("{}:{path}", self.0.join("tools").display())
    }

    /// What is in a directory, but for what is hidden.
    fn names(&self, directory: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(self.0.join(directory)).expect("a directory");
        let names = entries.map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8"));
        names.filter(|name| !name.starts_with('.')).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| name.to_string()).collect()
}

#[test]
fn all_that_belongs_into_path_is_put_there_and_nothing_else_stays() {
    let house = House::new();
    house.0.dir("bin");
    for left in ["td-gone", "install", "test"] {
        house.0.program(&format!("bin/{left}"), "of yesterday");
    }
    let said = run(&mut house.build(&[])).ok().out();
    assert_eq!(said, "bin/td-one\nbin/td-two\nbin/td-run\n");
    assert_eq!(house.names("bin"), set(&["td-one", "td-run", "td-two"]));
    assert_eq!(fs::read(house.path("bin/td-one")).expect("it"), b"one");
    let td_run = fs::read(house.path("scripts/td-run")).expect("td-run");
    assert!(fs::read(house.path("bin/td-run")).expect("td-run") == td_run);
}

/// And never into bin/, which is what scripts/install installs.
#[test]
fn what_scripts_bench_measures_with_goes_to_a_directory_that_is_named() {
    let house = House::new();
    run(&mut house.build(&[])).ok();
    run(&mut house.build(&["--bench"])).exits(125).says("build: --bench needs --out DIR");
    run(&mut house.build(&["--bench", "--out", text(&house.path("apart"))])).ok();
    assert_eq!(house.names("apart"), set(&["floor", "inside", "measure"]));
    assert_eq!(house.names("bin"), set(&["td-one", "td-run", "td-two"]));
    run(&mut house.build(&["--check"])).ok();
}

#[test]
fn std_is_built_with_the_programs_where_its_source_is_to_be_had() {
    let house = House::new();
    let cargo = fs::read_to_string(house.path("tools/cargo")).expect("cargo");
    let says = cargo.replacen('\n', "\necho \"$*\" >\"${0%/*}/said\"\n", 1);
    house.0.program("tools/cargo", &says);
    let is_built = || {
        let said = fs::read_to_string(house.path("tools/said")).expect("what was called");
        said.contains("-Zbuild-std=std,panic_abort")
    };
    run(&mut house.build(&[])).ok();
    assert!(is_built());

    fs::remove_dir(house.path(STD)).expect("the source");
    let output = run(&mut house.build(&[]));
    let missing = "build: the source of Rust's std, or of a package in it, is missing";
    output.exits(0).says(missing);
    assert!(!is_built());
    run(&mut house.build(&["--small", "--out", "/tmp"]))
        .exits(125)
        .says("rustup component add rust-src failed");

    // Where there is a rustup that can get it.
    house.0.program("tools/rustup", format!("#!/bin/sh\nmkdir -p {}\n", text(&house.path(STD))));
    run(house.build(&[]).env("RUSTFLAGS", "-Ctheirs")).ok();
    assert!(is_built());

    // Where a package in it is missing.
    let fetches = says.replacen('\n', "\n[ \"$1\" != fetch ] || exit 101\n", 1);
    house.0.program("tools/cargo", fetches);
    run(&mut house.build(&[])).exits(0).says(missing);
    assert!(!is_built());
}

#[test]
fn it_is_called_by_a_link_as_well() {
    let house = House::new();
    let dir = TempDir::new();
    symlink(house.path("scripts/build"), dir.join("build")).expect("a link");
    symlink("build", dir.join("other")).expect("a link");
    let mut cmd = script(text(&dir.join("other")), [""; 0]);
    run(cmd.env("PATH", house.search_path())).ok();
    assert_eq!(house.names("bin"), set(&["td-one", "td-run", "td-two"]));
}

#[test]
fn what_has_changed_is_replaced_and_the_rest_stays_as_it_is() {
    let house = House::new();
    run(&mut house.build(&[])).ok();
    let inode = |name: &str| house.path(name).metadata().expect("it").ino();
    let before = ["bin/td-one", "bin/td-two", "bin/td-run"].map(inode);
    assert_eq!(run(&mut house.build(&[])).ok().out(), "");
    assert_eq!(["bin/td-one", "bin/td-two", "bin/td-run"].map(inode), before);

    house.0.file("src/bin/td-one.rs", "another");
    fs::write(house.path("scripts/td-run"), "#!/bin/sh\n").expect("td-run");
    assert_eq!(run(&mut house.build(&[])).ok().out(), "bin/td-one\nbin/td-run\n");
    let after = ["bin/td-one", "bin/td-two", "bin/td-run"].map(inode);
    assert!(after[0] != before[0] && after[1] == before[1] && after[2] != before[2]);
    assert_eq!(fs::read(house.path("bin/td-run")).expect("td-run"), b"#!/bin/sh\n");
}

#[test]
fn what_was_built_of_other_sources_is_found_out_whatever_the_times_are() {
    let house = House::new();
    let check = |what: &str| {
        // Neither a toolchain nor the tools of one are needed.
        let output = run(house.build(&["--check"]).env("PATH", "/usr/bin:/bin"));
        match what {
            "" => drop(output.ok()),
            _ => drop(output.exits(1).says("build: bin/ was not built from these sources\n")),
        }
    };
    check("nothing is built");
    run(&mut house.build(&[])).ok();
    check("");
    let sources =
        ["src/bin/td-one.rs", "scripts/td-run", "scripts/build", "Cargo.toml", "Cargo.lock"];
    for name in [&sources[..], &["rootfs/default.policy", "bin/td-two", "bin/td-run"]].concat() {
        let path = house.path(name);
        let (text, stat) = (fs::read(&path).expect("a file"), path.metadata().expect("a file"));
        fs::write(&path, [&text[..], b"\n# another\n"].concat()).expect("a file");
        run(Command::new("touch").arg("-d@0").arg(&path)).ok();
        check(name);
        // With the same text it is the same source, however new.
        fs::write(&path, &text).expect("a file");
        assert!(path.metadata().expect("a file").mtime() >= stat.mtime());
        check("");
    }
    house.0.file("src/more.rs", "");
    check("one more");
    run(&mut house.build(&[])).ok();
    check("");
    fs::remove_file(house.path("src/more.rs")).expect("a file");
    check("one less");
    run(&mut house.build(&[])).ok();
    // A manual is not built, and a build in another directory says nothing about bin/.
    house.0.file("scripts/td-run.8", "another");
    house.0.file("src/td.7", "another");
    run(house.build(&["--out", "out"]).current_dir(house.0.path())).ok();
    check("");
    house.0.file("src/bin/td-one.rs", "another");
    run(house.build(&["--out", "out"]).current_dir(house.0.path())).ok();
    check("another");
}

#[test]
fn what_changes_while_it_is_built_is_found_out() {
    let house = House::new();
    let cargo = fs::read_to_string(house.path("tools/cargo")).expect("cargo");
    let edits = format!("{cargo}[ \"$1\" != build ] || echo edited >>src/bin/td-one.rs\n");
    house.0.program("tools/cargo", edits);
    run(&mut house.build(&[])).ok();
    run(&mut house.build(&["--check"])).exits(1).says("bin/ was not built from these sources");
    house.0.program("tools/cargo", cargo);
    run(&mut house.build(&[])).ok();
    run(&mut house.build(&["--check"])).ok();
}

#[test]
fn another_directory_gets_the_programs_alone_and_keeps_what_it_has() {
    let house = House::new();
    house.0.dir("out");
    house.0.file("out/td-theirs", "theirs");
    run(house.build(&["--out", "out"]).current_dir(house.0.path())).ok();
    assert_eq!(house.names("out"), set(&["td-one", "td-theirs", "td-two"]));
    assert!(!house.path("bin").exists());
}
