//! The files of the library use one another in one direction.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The wings, from the bottom up: a file uses those of its own wing and of the ones before it.
const WINGS: [&str; 8] = ["say", "sys", "cli", "ids", "root", "cgroup", "process", "tools"];

/// Each file, by its path in the crate, with the files that it uses.
type Graph = BTreeMap<String, BTreeSet<String>>;

fn files_below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory of the checkout") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("src/bin") {
            files_below(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// What follows each `crate::` and `super::` of a file: paths, of which a group has one for each name in it.
fn paths_of(text: &str, module: &str) -> Vec<Vec<String>> {
    let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or("")).collect();
    let code = code.join("\n");
    let code = code.split("#[cfg(test)]").next().expect("a first part");
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let is_end = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':');
    let mut paths = Vec::new();
    for (word, before) in [("crate::", ""), ("super::", parent)] {
        for (at, _) in code.match_indices(word) {
            let rest = &code[at + word.len()..];
            let end = rest.find(is_end).unwrap_or(rest.len());
            let base = [before, &rest[..end]].join("::");
            let base: Vec<String> =
                base.split("::").filter(|name| !name.is_empty()).map(String::from).collect();
            if rest[end..].starts_with('{') {
                let group = rest[end..].split(';').next().expect("a first part");
                for name in group.split(|c: char| is_end(c)) {
                    let names = name.split("::").filter(|name| !name.is_empty());
                    paths.push(base.iter().cloned().chain(names.map(String::from)).collect());
                }
            }
            paths.push(base);
        }
    }
    paths
}

fn graph() -> Graph {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    files_below(&src, &mut files);
    let name = |file: &Path| {
        let path = file.strip_prefix(&src).expect("below src").with_extension("");
        path.to_str().expect("UTF-8").replace('/', "::")
    };
    let all: BTreeSet<String> =
        files.iter().map(|file| name(file)).filter(|n| n != "lib").collect();
    // What `sys` gives out is of the files below it: to everybody else it is one.
    let outside =
        |name: &str| if name.starts_with("sys") { "sys".into() } else { name.to_string() };
    let mut graph = Graph::new();
    for file in files.iter().filter(|file| all.contains(&name(file))) {
        let module = name(file);
        let used = graph.entry(outside(&module)).or_default();
        for path in paths_of(&fs::read_to_string(file).expect("a file"), &module) {
            let lengths = (1..=path.len()).rev();
            let found = lengths.map(|n| path[..n].join("::")).find(|known| all.contains(known));
            used.extend(found.map(|found| outside(&found)).filter(|n| *n != outside(&module)));
        }
    }
    graph
}

/// The allocator is made for one thread, and so are the cells of a run.
#[test]
fn no_file_starts_a_thread() {
    let mut files = Vec::new();
    files_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files.len() > 50);
    for file in files {
        let text = fs::read_to_string(&file).expect("a file");
        assert!(!text.contains("thread::") && !text.contains("use std::thread"), "{file:?}");
    }
}

/// Of descriptors and addresses `sys` alone makes what the compiler then trusts.
#[test]
fn only_sys_makes_an_owner_of_a_number() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    files_below(&src, &mut files);
    for file in files.iter().filter(|file| !file.starts_with(src.join("sys"))) {
        let text = fs::read_to_string(file).expect("a file");
        for word in ["from_raw_fd", "borrow_raw", "allow(unsafe_code)"] {
            assert!(!text.contains(word) || file.ends_with("src/sys.rs"), "{word} in {file:?}");
        }
    }
}

#[test]
fn no_wing_uses_one_above_it() {
    let rank = |name: &str| {
        let wing = name.split("::").next().expect("a first part");
        WINGS.iter().position(|known| *known == wing).unwrap_or_else(|| panic!("{wing}"))
    };
    let graph = graph();
    assert!(graph.len() > 50 && graph["tools::pivot"].contains("sys"), "{graph:?}");
    let arrows = graph.iter().flat_map(|(file, used)| used.iter().map(move |other| (file, other)));
    let up: Vec<_> = arrows.filter(|(file, other)| rank(file) < rank(other)).collect();
    assert!(up.is_empty(), "{up:?}");
}

#[test]
fn no_file_uses_one_that_uses_it() {
    let mut graph = graph();
    // A module that uses no remaining module is not in a cycle.
    while let Some(file) =
        graph.iter().find(|(_, used)| used.is_empty()).map(|(file, _)| file.clone())
    {
        graph.remove(&file);
        graph.values_mut().for_each(|used| _ = used.remove(&file));
    }
    // A module that no other uses is not in a cycle either.
    loop {
        let used: BTreeSet<String> = graph.values().flatten().cloned().collect();
        let Some(file) = graph.keys().find(|file| !used.contains(*file)).cloned() else { break };
        graph.remove(&file);
    }
    assert!(graph.is_empty(), "{graph:#?}");
}
