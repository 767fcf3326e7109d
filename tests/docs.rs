//! What is written agrees with what is there: help, manuals, parsers, README, and the house as a whole.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{bin, run};

// ---- the programs ----

/// A program with help and manual: a tool, or a script.
struct Program {
    name: String,
    source: PathBuf,
    manual: PathBuf,
}

impl Program {
    fn is_tool(&self) -> bool {
        self.source.extension().is_some_and(|e| e == "rs")
    }

    /// What it prints for `--help`.
    fn help(&self) -> String {
        let program = if self.is_tool() { bin(&self.name) } else { self.source.clone() };
        run(Command::new(program).arg("--help")).ok().out()
    }

    fn options_in_help(&self) -> BTreeSet<String> {
        let help = self.help();
        let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
        lines.flat_map(names_before_the_text).collect()
    }

    /// Its manual; empty if it does not exist, which a test reports.
    fn manual(&self) -> String {
        fs::read_to_string(&self.manual).unwrap_or_default()
    }

    fn options_in_manual(&self) -> BTreeSet<String> {
        let text = self.manual();
        let items = section(&text, "OPTIONS").lines().filter(|line| line.starts_with(".It Fl"));
        items.flat_map(flags).collect()
    }

    fn options_in_parser(&self) -> BTreeSet<String> {
        let source = read(&self.source);
        if !self.is_tool() {
            return case_patterns(&source);
        }
        let mut options = option_literals(&source);
        options.extend(option_literals(&read(&root().join("src/cli.rs"))));
        for (table, room) in [
            ("LIMITS", "src/cgroup/limits.rs"),
            ("namespaces::of_option", "src/process/namespaces.rs"),
            ("waiting_parent::", "src/process/waiting_parent.rs"),
        ] {
            if source.contains(table) {
                options.extend(option_literals(&read(&root().join(room))));
            }
        }
        options
    }

    /// Everything that its messages may come from.
    fn sources(&self) -> String {
        let mut files = vec![self.source.clone()];
        if self.is_tool() {
            files.extend(rooms());
        }
        files.iter().map(|file| joined(&read(file))).collect()
    }
}

/// Every tool, and every script that has a manual.
fn programs() -> Vec<Program> {
    let tools = files_in("src/tools", ".rs").into_iter();
    let tools = tools.map(|source| (format!("td-{}", stem(&source)), source));
    let scripts = files_in("scripts", "").into_iter().filter(|path| path.extension().is_none());
    let scripts = scripts.map(|source| (stem(&source), source));
    let programs = tools.chain(scripts.filter(|(name, _)| name.starts_with("td-")));
    let programs = programs.map(|(name, source)| {
        let manual = source.with_file_name(format!("{name}.8"));
        Program { name, source, manual }
    });
    programs.collect()
}

/// The name of a file, short of what follows the last dot.
fn stem(path: &Path) -> String {
    path.file_stem().expect("a name").to_string_lossy().into_owned()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The files of a directory of the checkout whose names end so, in order.
fn files_in(directory: &str, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(directory)).expect("a directory of the checkout");
    let paths = entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file());
    let mut paths: Vec<_> = paths.filter(|path| path.to_string_lossy().ends_with(end)).collect();
    paths.sort();
    paths
}

/// The files of the library that no tool has for itself.
fn rooms() -> Vec<PathBuf> {
    let mut rooms = Vec::new();
    let mut directories = vec![root().join("src")];
    while let Some(directory) = directories.pop() {
        rooms.extend(files_in(directory.to_str().expect("UTF-8"), ".rs"));
        let entries = fs::read_dir(&directory).expect("a directory of the checkout");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        directories.extend(paths.filter(|path| path.is_dir() && !path.ends_with("tools")));
    }
    rooms.sort();
    rooms
}

// ---- options ----

/// `-m, --memory SIZE  bytes` has `-m` and `--memory`.
fn names_before_the_text(line: &str) -> Vec<String> {
    let mut names = Vec::new();
    for word in line.split(' ') {
        let name = word.split(['=', '[', ',']).next().unwrap_or_default();
        names.push(name.to_string());
        if !word.ends_with(',') {
            break;
        }
    }
    names
}

/// The options that a line of mdoc names: `Fl m , -mount`, `Fl -remove | -kill`, and `Fl mu`, which is two.
fn flags(line: &str) -> Vec<String> {
    let mut options = Vec::new();
    let mut in_flag = false;
    for word in line.split_whitespace() {
        match word {
            "Fl" => in_flag = true,
            "," | "|" => {}
            _ if !in_flag || is_macro(word) || word.starts_with(['=', '"']) => in_flag = false,
            _ if word.starts_with('-') => options.push(format!("-{word}")),
            _ => options.extend(word.chars().map(|letter| format!("-{letter}"))),
        }
    }
    options
}

fn is_macro(word: &str) -> bool {
    matches!(word.as_bytes(), [first, second]
        if first.is_ascii_uppercase() && second.is_ascii_lowercase())
}

/// `"-m"` and `"--mount"` in Rust: strings that are an option, whole.
fn option_literals(source: &str) -> BTreeSet<String> {
    source.split('"').filter(|text| is_option(text)).map(str::to_string).collect()
}

fn is_option(text: &str) -> bool {
    let name = text.strip_prefix("--").filter(|name| name.len() > 1);
    let name = name.or_else(|| text.strip_prefix('-').filter(|name| name.len() == 1));
    name.is_some_and(|name| {
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    })
}

/// The options in a script's case patterns, but for those that are there to be refused.
fn case_patterns(source: &str) -> BTreeSet<String> {
    let source = joined(source);
    let arms = source.lines().filter_map(|line| line.trim_start().split_once(')'));
    let taken = arms.filter(|(_, body)| !body.trim_start().starts_with("fail "));
    let patterns = taken.flat_map(|(patterns, _)| patterns.split('|'));
    let names = patterns.map(|pattern| pattern.trim().split('=').next().unwrap_or_default());
    names.filter(|name| is_option(name)).map(str::to_string).collect()
}

/// The text with lines that a backslash continues in one piece, and what is filled in later cut out.
fn joined(source: &str) -> String {
    let mut text = String::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let mut line = line.to_string();
        while let Some(start) = line.strip_suffix('\\') {
            let next = lines.next().unwrap_or_default();
            line = format!("{start}{}", next.trim_start());
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// A test finds all that is wrong before it fails.
#[track_caller]
fn none(faults: Vec<String>) {
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn help_manual_and_parser_have_the_same_options() {
    let mut faults = Vec::new();
    for program in programs() {
        let parser = program.options_in_parser();
        assert!(parser.contains("--help") && parser.contains("--version"), "{}", program.name);
        let places =
            [("--help", program.options_in_help()), ("the manual", program.options_in_manual())];
        for (place, options) in places {
            let missing = parser.difference(&options);
            let extra = options.difference(&parser);
            faults.extend(missing.map(|o| format!("{}: {o} is not in {place}", program.name)));
            faults.extend(extra.map(|o| format!("{}: {o} is only in {place}", program.name)));
        }
    }
    none(faults);
}

#[test]
fn a_synopsis_names_no_option_that_is_not_explained() {
    let mut faults = Vec::new();
    for program in programs() {
        let text = program.manual();
        let synopsis: BTreeSet<_> = section(&text, "SYNOPSIS").lines().flat_map(flags).collect();
        let explained = program.options_in_manual();
        faults.extend(synopsis.difference(&explained).map(|o| format!("{}: {o}", program.name)));
    }
    none(faults);
}

#[test]
fn help_fits_a_screen_of_80_columns() {
    let mut faults = Vec::new();
    for program in programs() {
        let help = program.help();
        assert!(help.starts_with(&format!("usage: {} ", program.name)), "{help}");
        let bad = help.lines().filter(|line| line.chars().count() > 80 || line.starts_with('-'));
        faults.extend(bad.map(|line| format!("{}: {line}", program.name)));
    }
    none(faults);
}

// ---- manuals ----

/// What stands under a heading of a manual.
fn section<'a>(manual: &'a str, heading: &str) -> &'a str {
    let text = manual.split_once(&format!("\n.Sh {heading}\n")).map_or("", |parts| parts.1);
    text.split("\n.Sh ").next().unwrap_or_default()
}

#[test]
fn manuals_have_the_sections_of_the_house_in_its_order() {
    let house = [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "OPTIONS",
        "EXIT STATUS",
        "EXAMPLES",
        "DIAGNOSTICS",
        "SEE ALSO",
    ];
    // A manual may have others as well, where mandoc(1) takes them.
    let mut faults = Vec::new();
    for program in programs() {
        let text = program.manual();
        let headings = text.lines().filter_map(|line| line.strip_prefix(".Sh "));
        let headings: Vec<_> = headings.filter(|heading| house.contains(heading)).collect();
        if headings != house {
            faults.push(format!("{}: {headings:?}", program.manual.display()));
        }
    }
    none(faults);
}

#[test]
fn a_manual_refers_only_to_tools_that_have_one() {
    let names: Vec<String> = programs().into_iter().map(|program| program.name).collect();
    for manual in
        files_in("src/tools", ".7").into_iter().chain(programs().into_iter().map(|p| p.manual))
    {
        let text = read(&manual);
        for reference in text.split("Xr ").skip(1).filter(|text| text.starts_with("td-")) {
            let mut words = reference.split_whitespace();
            let (name, volume) = (words.next().unwrap_or_default(), words.next());
            assert!(names.iter().any(|other| other == name), "{}: {name}", manual.display());
            assert_eq!(volume, Some("8"), "{}: {name}", manual.display());
        }
    }
    // And each to td(7), which has what is common to them, and which refers to each.
    let common = read(&root().join("src/tools/td.7"));
    for program in programs() {
        assert!(
            section(&program.manual(), "SEE ALSO").contains(".Xr td 7 ,\n"),
            "{}",
            program.name
        );
        let reference = format!(".Xr {} 8", program.name);
        assert!(section(&common, "SEE ALSO").contains(&reference), "td(7): {reference}");
    }
}

/// The longest part of a message that is always the same: in a manual, what stands between the words in
/// capitals; in a source, what stands between the things filled in.
fn distinctive(parts: impl Iterator<Item = String>) -> String {
    parts.max_by_key(String::len).unwrap_or_default()
}

/// The words of a message in a manual, with "\0" for each that varies: a word in capitals, an option, "...",
/// and what is put in by a macro.
fn plain_words(line: &str) -> String {
    let varies = |word: &str| {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let first = bare.split('/').next().unwrap_or_default();
        let in_capitals = !first.is_empty() && !first.contains(|c: char| c.is_lowercase());
        in_capitals || is_macro(word) || word.starts_with('-') || word.contains("...")
    };
    let line = line.replace('"', "");
    let words = line.split_whitespace().map(|word| if varies(word) { "\0" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// The messages that a manual's DIAGNOSTICS lists, without the lists inside.
fn diagnostics(manual: &str) -> Vec<String> {
    let items = section(manual, "DIAGNOSTICS").lines().filter_map(|line| line.strip_prefix(".It "));
    items.map(str::to_string).collect()
}

#[test]
fn every_message_of_a_manual_is_in_the_sources() {
    let mut faults = Vec::new();
    for program in programs() {
        let sources = program.sources();
        let messages = diagnostics(&program.manual());
        if messages.is_empty() {
            faults.push(format!("{}: nothing in DIAGNOSTICS", program.name));
        }
        for message in messages {
            let words = plain_words(&message);
            let parts = words.split('\0').map(|part| part.trim_matches([' ', ':', ',', '(', ')']));
            let part = distinctive(parts.map(str::to_string));
            if part.is_empty() || !sources.contains(&part) {
                faults.push(format!("{}: {message}: {part:?}", program.name));
            }
        }
    }
    none(faults);
}

/// What follows each `.because(` and `.because(format_args!(` that is a string.
fn reasons(source: &str) -> Vec<String> {
    let source = joined(source);
    let after = source.split(".because(").skip(1).map(|text| {
        let text = text.trim_start();
        let formatted = ["format_args!(", "format!("].iter().find_map(|f| text.strip_prefix(f));
        formatted.unwrap_or(text).trim_start()
    });
    let strings = after.filter_map(|text| text.strip_prefix('"')?.split('"').next());
    strings.map(str::to_string).collect()
}

/// The part of a reason that is always the same.
fn constant(reason: &str) -> String {
    let parts = reason.split('{').map(|part| part.split_once('}').map_or(part, |p| p.1));
    distinctive(parts.map(|part| part.trim_matches([' ', ':', ',', '(', ')']).to_string()))
}

/// DIAGNOSTICS of a manual, as it is read.
fn text_of_diagnostics(program: &Program) -> String {
    let manual = program.manual();
    let words = section(&manual, "DIAGNOSTICS").split_whitespace();
    words.filter(|word| !is_macro(word)).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_reason_that_a_tool_gives_is_in_its_manual() {
    let mut faults = Vec::new();
    for program in programs().iter().filter(|program| program.is_tool()) {
        let text = text_of_diagnostics(program);
        let reasons = reasons(&read(&program.source)).into_iter();
        let missing = reasons.filter(|reason| !text.contains(&constant(reason)));
        faults.extend(missing.map(|reason| format!("{}: {reason}", program.name)));
    }
    none(faults);
}

#[test]
fn every_reason_that_tools_share_is_in_a_manual() {
    let text: String = programs().iter().map(text_of_diagnostics).collect();
    let mut faults = Vec::new();
    for room in rooms() {
        let missing = reasons(&read(&room)).into_iter();
        let missing = missing.filter(|reason| !text.contains(&constant(reason)));
        faults.extend(missing.map(|reason| format!("{}: {reason}", room.display())));
    }
    none(faults);
}

// ---- the README ----

fn readme() -> String {
    read(&root().join("README.md"))
}

/// Its code blocks of one kind, ```` ```sh ```` or ```` ```text ````.
fn blocks(kind: &str) -> Vec<String> {
    blocks_in(&readme(), kind)
}

/// The code blocks of one kind in a page.
fn blocks_in(text: &str, kind: &str) -> Vec<String> {
    let start = format!("```{kind}\n");
    let blocks = text.split(&start).skip(1).filter_map(|text| text.split("```").next());
    blocks.map(str::to_string).collect()
}

/// The pages of Markdown, with what is in them.
fn pages() -> Vec<(PathBuf, String)> {
    let pages = files_in("docs", ".md").into_iter().chain([root().join("README.md")]);
    pages.map(|page| (page.clone(), read(&page))).collect()
}

#[test]
fn the_readme_lists_every_program_with_its_manual() {
    let text = readme();
    for program in programs() {
        let manual = program.manual.strip_prefix(root()).expect("below the root").display();
        let link = format!("[{}(8)]({manual})", program.name);
        let start = format!("| `{}` |", program.name);
        let is_there = text.lines().any(|row| row.starts_with(&start) && row.contains(&link));
        assert!(is_there, "{}: no row with {link}", program.name);
    }
}

#[test]
fn the_pages_link_to_what_is_there_and_the_readme_to_each_page() {
    let mut linked = BTreeSet::new();
    for (page, text) in pages() {
        for link in text.split("](").skip(1).filter_map(|text| text.split(')').next()) {
            let path = page.with_file_name(link);
            assert!(path.exists(), "{}: {link}", page.display());
            linked.insert(path);
        }
    }
    for (page, _) in pages().iter().filter(|(page, _)| !page.ends_with("README.md")) {
        assert!(linked.contains(page), "nothing links to {}", page.display());
    }
}

#[test]
fn the_pages_give_the_programs_options_that_they_have() {
    for (_, text) in pages() {
        options_that_the_programs_have(text.split('`'));
        options_that_the_programs_have(blocks_in(&text, "sh").iter().map(String::as_str));
    }
}

/// Each long option behind a program's name must be one that the program has.
#[track_caller]
fn options_that_the_programs_have<'a>(codes: impl Iterator<Item = &'a str>) {
    let programs = programs();
    for code in codes {
        let mut options = BTreeSet::new();
        for word in code.split_whitespace() {
            let name = word.rsplit('/').next().unwrap_or_default();
            if let Some(program) = programs.iter().find(|program| program.name == name) {
                options = program.options_in_help();
            } else if word == "--" || word.starts_with("scripts/") {
                options.clear(); // what follows is for PROG, or for a script of the house alone
            } else if is_option(word) && !options.is_empty() && word.starts_with("--") {
                assert!(options.contains(word), "{word} in {code}");
            }
        }
    }
}

#[test]
fn the_readme_says_which_rust_is_needed() {
    let manifest = read(&root().join("Cargo.toml"));
    let version =
        manifest.split("rust-version = \"").nth(1).and_then(|text| text.split('"').next());
    let sentence = format!("Rust {}", version.expect("rust-version"));
    assert!(readme().contains(&sentence), "{sentence}");
}

// ---- lists of calls ----

/// Does the trace's line have the call of a list, in which `...` stands for anything? One that has failed does not.
fn is_call(listed: &str, line: &str) -> bool {
    let Some((call, result)) = line.rsplit_once(" = ") else { return false };
    let mut parts = listed.split("...");
    let start = parts.next().unwrap_or_default();
    let Some(mut rest) = call.strip_prefix(start) else { return false };
    let mut parts: Vec<_> = parts.collect();
    let last = parts.pop();
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    !result.starts_with("-1 ") && last.map_or(rest.is_empty(), |last| rest.ends_with(last))
}

/// Is it the line with which a process of the trace becomes this tool?
fn becomes(tool: &str, line: &str) -> bool {
    line.starts_with(&format!("prctl(PR_SET_NAME, \"{tool}\")"))
        || line.starts_with("execve") && line.contains(&format!("[\"{tool}\","))
}

/// The calls of a trace, without pids. A process prints a call that has returned, and a child may be quicker than the
/// parent that has made it: so what makes a child comes right behind the call that its process made before.
fn in_order(trace: &str) -> Vec<&str> {
    let mut calls: Vec<(&str, &str)> = Vec::new();
    for line in trace.lines() {
        let child = line.strip_prefix("[pid ").and_then(|rest| rest.split_once("] "));
        let (pid, call) = child.unwrap_or(("", line));
        let before = calls.iter().rposition(|(other, _)| *other == pid);
        let makes_a_child = call.starts_with("clone");
        let at = before.filter(|_| makes_a_child).map_or(calls.len(), |i| i + 1);
        calls.insert(at, (pid, call));
    }
    calls.into_iter().map(|(_, call)| call).collect()
}

/// The first line of a list of calls that the trace does not have behind those before it. A line like `// td-mount` is
/// of the tool that makes what follows: the trace must show where it begins, or it was typed in the block, or before in
/// the list.
fn first_missing(listed: &str, trace: &str, block: &str) -> Option<String> {
    let lines = in_order(trace);
    let (mut at, mut seen) = (0, BTreeSet::new());
    for line in listed.lines() {
        let tool = line.strip_prefix("// ").map(|text| text.split(',').next().unwrap_or_default());
        let found = lines[at..].iter().position(|traced| match tool {
            Some(tool) => becomes(tool, traced),
            None => is_call(line, traced),
        });
        let is_known =
            tool.is_some_and(|tool| !seen.insert(tool) || block.contains(&format!("bin/{tool} ")));
        match found {
            Some(i) => at += i + 1,
            None if is_known => {}
            None => return Some(line.to_string()),
        }
    }
    None
}

#[test]
fn a_call_that_is_not_made_or_elsewhere_or_by_another_tool_is_found_in_a_list() {
    let trace = "mkdirat(3, \"a\", 0700) = -1 EEXIST (File exists)\nmount(NULL, \"/\", NULL) = 0\n\
        [pid 1] execve(\"/bin/td-pivot\", [\"td-pivot\", \"/[pid 9] x\"], 0x1 /* 2 vars */) = ?\n\
        [pid 1] pivot_root(\".\", \".\") = 0\n[pid 1] umount2(\".\", MNT_DETACH) = 0\n\
        [pid 2] setsid() = 2\n[pid 1] clone3({flags=0}, 88) = 2\n";
    let missing = |listed: &str| first_missing(listed, trace, "bin/td-mount /");
    let all = "// td-mount\nmount(NULL, ...\n// td-pivot\npivot_root(...)\numount2(\".\", ...H)\nclone3(...)\nsetsid()";
    assert_eq!(missing(all), None);
    for (listed, first) in [
        ("mount(NULL, \"/\", NULL", "mount(NULL, \"/\", NULL"), // not the whole call
        ("mkdirat(3, \"a\", 0700)", "mkdirat(3, \"a\", 0700)"), // it failed
        ("mount(..., MS_REC)", "mount(..., MS_REC)"),
        ("umount2(...)\npivot_root(...)", "pivot_root(...)"),
        ("mount(...)\nmount(...)", "mount(...)"),
        ("// td-pivot\nmount(...)", "mount(...)"),
        ("pivot_root(...)\n// td-pivot", "// td-pivot"),
        ("// td-exec\nmount(...)", "// td-exec"),
        ("ount(...)", "ount(...)"),
        ("setsid()\nclone3(...)", "clone3(...)"),
    ] {
        assert_eq!(missing(listed).as_deref(), Some(first), "{listed}");
    }
}

// ---- the house ----

/// Every file of the checkout, but for what git ignores.
fn all_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![root().to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory of the checkout") {
            let path = entry.expect("an entry").path();
            let ignored = [".git", "bin", "target"].map(|name| root().join(name));
            if path.is_dir() && !ignored.contains(&path) {
                directories.push(path);
            } else if path.is_file() {
                files.push(path);
            }
        }
    }
    files
}

#[test]
fn no_file_names_a_place_of_one_machine() {
    let hosts = ["github.com/", "rustup.rs"];
    let users = ["user", "ann"]; // of images
    for file in all_files() {
        let text = String::from_utf8_lossy(&fs::read(&file).expect("a file")).into_owned();
        // In two pieces, for this file is looked at too.
        for place in [concat!("/wo", "rk/ma"), concat!("/wo", "rk/sh"), concat!("/ro", "ot/.")] {
            assert!(!text.contains(place), "{}: {place}", file.display());
        }
        for home in text.split(concat!("/ho", "me/")).skip(1) {
            let is_ours = users.iter().any(|user| home.starts_with(user));
            assert!(is_ours, "{}: a home directory", file.display());
        }
        for host in text.split(concat!("http", "s://")).skip(1) {
            let is_known = hosts.iter().any(|known| host.starts_with(known));
            assert!(is_known, "{}: a host", file.display());
        }
    }
}

mod root {
    use std::os::fd::AsRawFd;

    use super::*;
    use common::{Output, TempDir, mount, own_mountinfo, private_mounts, sh};

    /// A block without what builds the programs, which are there.
    fn built(text: &str) -> String {
        text.replace("scripts/build --small --out", "cp -R bin").replace("scripts/build\n", "")
    }

    /// Run text of the README at the top of the checkout, as if pasted. The programs are built already.
    fn paste(text: &str, dir: &TempDir) -> Output {
        let mut cmd = sh(&format!("set -e\n{}", built(text)));
        run(cmd.current_dir(root()).env("TMPDIR", dir.path())).exits(0)
    }

    /// A mount over the checkout of what git has of it, and of the directory that cargo builds in.
    struct FreshCheckout;

    impl FreshCheckout {
        fn new(dir: &TempDir) -> FreshCheckout {
            let fresh = dir.dir("fresh");
            dir.dir("fresh/target");
            for file in all_files() {
                let name = file.strip_prefix(root()).expect("below it").to_path_buf();
                let mut cmd = Command::new("cp");
                run(cmd.args(["-a", "--parents"]).arg(name).arg(&fresh).current_dir(root())).ok();
            }
            let target = fs::File::open(root().join("target")).expect("what cargo has built");
            mount([Path::new("--bind"), &fresh, root()]);
            // By its descriptor, for its path leads to the empty one now.
            let target = format!("/proc/{}/fd/{}", std::process::id(), target.as_raw_fd());
            let over = root().join("target");
            mount(["-c", "--bind", &target, over.to_str().expect("a plain path")]);
            FreshCheckout
        }
    }

    impl Drop for FreshCheckout {
        fn drop(&mut self) {
            // Before the temporary directory is removed: these are in it.
            run(Command::new("umount").arg("-l").arg(root().join("target")));
            run(Command::new("umount").arg("-l").arg(root()));
        }
    }

    #[test]
    fn the_first_block_of_the_readme_can_be_pasted_in_a_fresh_checkout() {
        private_mounts();
        let dir = TempDir::new();
        dir.dir("tmp");
        let fresh = FreshCheckout::new(&dir);
        assert!(!root().join("bin").exists(), "it is fresh");
        let mut cmd = sh(&format!("set -e\n{}", blocks("sh")[0]));
        let output = run(cmd.current_dir(root()).env("TMPDIR", dir.join("tmp"))).exits(0);
        let words: Vec<_> = output.out().split_whitespace().map(String::from).collect();
        let has = |wanted: &[&str]| words.windows(wanted.len()).any(|words| words == wanted);
        assert!(has(&["1", "root", "td-init"]) && has(&["dev", "etc"]), "{output}");
        assert!(root().join("bin/td-run").is_file(), "it was built");
        drop(fresh);
        let left: Vec<_> = fs::read_dir(dir.join("tmp")).expect("the directory").collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn an_error_is_what_the_readme_shows() {
        private_mounts();
        let dir = TempDir::new();
        common::image(&dir.dir("image"));
        dir.dir("image/mnt");
        mount(["--make-rshared", "/"]);
        let image = dir.join("image");
        let image = image.to_str().expect("a plain path");
        // There, the root of the machine is what /tmp is on.
        let point = run(Command::new("stat").args(["-c", "%m", image])).ok().out();
        let shown = [blocks("text")[1].as_str(), blocks("text")[2].as_str()].concat();
        let shown = shown.replace(", /, is", &format!(", {}, is", point.trim()));
        let shown = shown.replace("/tmp/image", image);
        let mut lines = shown.lines().peekable();
        let mut tried = 0;
        while let Some(line) = lines.next() {
            let typed = line.strip_prefix("$ ").expect("a command");
            let mut expected = String::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
                expected += line;
                expected.push('\n');
            }
            let path = std::env::var("PATH").expect("PATH");
            let path = format!("{}:{path}:/usr/sbin:/sbin", common::bin_dir().display());
            let output = run(sh(typed).env("PATH", path).env("LC_ALL", "C"));
            assert_eq!(output.err(), expected, "{output}");
            assert_ne!(output.code, Some(0));
            tried += 1;
        }
        assert_eq!(tried, 2);
    }

    /// What a program finds: ids, capabilities, which namespaces are not the caller's, and how /proc is mounted.
    const PROBE: &str = "grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs):' /proc/self/status
        for name in cgroup ipc mnt net pid user uts; do
            eval \"[ \\$$name = $(readlink /proc/self/ns/$name) ]\" || echo \"its own $name\"
        done
        grep ' /proc ' /proc/self/mountinfo | tail -n 1 | cut -d ' ' -f 5-6
        echo $$ | grep -x 1 || :\n";

    #[test]
    fn the_rows_of_util_linux_do_what_those_of_td_do() {
        private_mounts();
        let dir = TempDir::new();
        common::chmod(dir.path(), 0o755); // for the user 1000
        let (probe, file) = (dir.file("probe", PROBE), dir.file("file", ""));
        let probe = format!(" sh {}", probe.display());
        let path = std::env::var("PATH").expect("PATH");
        let path = format!("{}:{path}", common::bin_dir().display());
        let mut compared = 0;
        for row in readme().lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<_> = row.split('`').collect();
            let elder = cells[1].split(' ').next().unwrap_or_default();
            if !["flock", "setpriv", "unshare"].contains(&elder) {
                continue;
            }
            let found = [cells[1], cells[3]].map(|typed| {
                let line = typed.strip_suffix(" sh").or(typed.strip_suffix(" PROG"));
                let line = line.expect(typed).replace("FILE", &file.display().to_string()) + &probe;
                let mut cmd = sh(&line);
                for name in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
                    cmd.env(name, common::ns("thread-self", name));
                }
                run(cmd.env("PATH", &path)).ok().out()
            });
            assert!(found[0].contains("NoNewPrivs"), "{}", found[0]);
            assert_eq!(found[0], found[1], "{row}");
            compared += 1;
        }
        assert_eq!(compared, 6);
    }

    #[test]
    fn each_block_of_the_readme_works_when_pasted() {
        private_mounts();
        let dir = TempDir::new();
        let shown = [
            "td-init\n",
            "from the layer above\n",
            "td-exec 0.1.0\n",
            "\nhello\r\n",
            "hello from process 2\n",
            " /mnt ",
        ];
        let blocks = blocks("sh");
        assert_eq!(blocks.len(), shown.len());
        for (block, shown) in blocks.iter().zip(shown) {
            let output = paste(block, &dir);
            assert!(output.out().contains(shown), "{shown}: {output}");
            if block.contains("/sbin/tini") {
                let lines: Vec<_> = output.out().lines().map(str::to_string).collect();
                assert!(
                    lines[1].starts_with("    1 ") && lines[1].ends_with(" td-init"),
                    "{output}"
                );
            }
        }
        let left: Vec<_> = fs::read_dir(dir.path()).expect("the directory").collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// A docker that has the image busybox, in which a program of td-rootfs stands for what it would download.
    fn docker(dir: &TempDir) -> String {
        let tree = dir.join("tree");
        run(Command::new(bin("td-rootfs")).arg(&tree)).ok();
        let text = format!(
            "#!/bin/sh\nset -eu\ncase $* in\n'create busybox') echo 0123 ;;\n\
            'export 0123') exec tar -C {} -c . ;;\n'rm 0123') echo \"$2\" ;;\n*) exit 1 ;;\nesac\n",
            tree.display()
        );
        dir.dir("path");
        dir.program("path/docker", text);
        format!("{}:{}", dir.join("path").display(), std::env::var("PATH").expect("PATH"))
    }

    /// A block in which the first line of each tool traces into a file.
    fn with_a_trace(block: &str, file: &Path) -> String {
        let mut block = format!("exec 9>>{}\n{block}", file.display());
        for program in programs().iter().filter(|p| p.options_in_help().contains("--trace")) {
            let name = format!("bin/{} ", program.name);
            block = block.replacen(&name, &format!("{name}--trace=9 "), 1);
        }
        block
    }

    #[test]
    fn each_line_for_a_tutorial_prints_and_calls_what_the_page_says() {
        private_mounts();
        let page = read(&root().join("docs/from-the-tutorials.md"));
        let mut pasted = 0;
        for part in page.split("\n## ").skip(1) {
            let one = |kind| {
                let blocks = blocks_in(part, kind);
                assert_eq!(blocks.len(), 1, "blocks of {kind} in {part}");
                blocks[0].clone()
            };
            let block = one("sh");
            let mut listed = one("c");
            if !common::linux_is(6, 13) {
                let is_there = |line: &&str| {
                    !["FSCONFIG_SET_FD", "\"overlay\""].iter().any(|word| line.contains(word))
                };
                listed = listed.lines().filter(is_there).collect::<Vec<_>>().join("\n");
            }
            let texts = blocks_in(part, "text"); // what the tutorial types, and what is printed
            assert_eq!(texts.len(), 2, "{part}");
            let (dir, tmp) = (TempDir::new(), TempDir::new());
            let (path, file) = (docker(&dir), dir.join("trace"));
            let before = own_mountinfo();
            for block in [block.clone(), with_a_trace(&block, &file)] {
                let mut cmd = sh(&format!("set -e\n{}", built(&block)));
                cmd.current_dir(root()).env("TMPDIR", tmp.path()).env("PATH", &path);
                assert_eq!(run(&mut cmd).ok().out(), texts[1], "{block}");
            }
            let trace = fs::read_to_string(file).expect("a trace");
            assert_eq!(first_missing(&listed, &trace, &block), None, "{trace}");
            assert_eq!(own_mountinfo(), before);
            let left: Vec<_> = fs::read_dir(tmp.path()).expect("the directory").collect();
            assert!(left.is_empty(), "{left:?}");
            pasted += 1;
        }
        assert_eq!(pasted, 5);
    }

    /// The literal blocks of a manual, as they are read.
    fn literal(manual: &str) -> Vec<String> {
        let parts = manual.split("\n.Bd -literal").skip(1);
        let parts = parts.map(|part| part.split("\n.Ed\n").next().unwrap_or_default());
        let texts = parts.map(|part| part.split_once('\n').expect("more than a line").1);
        texts.map(|text| text.replace("\\e", "\\")).collect()
    }

    #[test]
    fn each_block_of_td_7_works_when_pasted() {
        private_mounts();
        mount(["-t", "tmpfs", "none", "/var/lib"]); // for the state
        let dir = TempDir::new();
        common::chmod(dir.path(), 0o755); // for a user
        run(Command::new("cp").args(["-R", "bin"]).arg(dir.path()).current_dir(root())).ok();
        let image = dir.join("image");
        run(Command::new(bin("td-rootfs")).arg(&image)).ok();
        let path = std::env::var("PATH").expect("PATH");
        let path = format!("{}:{path}", dir.join("bin").display());
        // What is typed into a shell, and what is printed: here, its end.
        let shown = [
            ("echo $$", "2\n"),
            ("", "SOME TEXT\n"),
            ("", "0\n"),
            ("", "2\n"),
            ("", " vars */)\n"),
        ];
        let blocks = literal(&read(&root().join("src/tools/td.7")));
        assert_eq!(blocks.len(), shown.len());
        for (block, (typed, shown)) in blocks.iter().zip(shown) {
            let block = block.replace("/srv/image", image.to_str().expect("a plain path"));
            let script = format!("set -e\necho '{typed}' | {{\n{block}\n}}");
            let mut cmds = vec![sh(&script)];
            if block.contains("--map-root-user") {
                let mut user = Command::new("setpriv");
                user.args([
                    "--reuid=65534",
                    "--regid=65534",
                    "--clear-groups",
                    "sh",
                    "-c",
                    &script,
                ]);
                cmds.push(user);
            }
            for cmd in &mut cmds {
                let output = run(cmd.env("PATH", &path).current_dir("/"));
                assert!(output.code == Some(0) && output.out().ends_with(shown), "{output}");
            }
        }
        let typed = &blocks[3].replace("echo $$", "exit 3");
        run(sh(typed).env("PATH", &path)).exits(3);
        run(&mut common::td("td-cgroup", ["--stat", "/td/example"])).exits(125);
    }

    #[test]
    fn the_demo_prints_what_the_readme_shows() {
        private_mounts();
        // Its state is the machine's, of which it gets one of its own.
        mount(["-t", "tmpfs", "none", "/var/lib"]);
        let dir = TempDir::new();
        std::os::unix::fs::symlink(root().join("scripts/demo"), dir.join("link")).expect("a link");
        let demo = run(&mut Command::new(dir.join("link"))).exits(0);
        let printed = demo.out() + &demo.err();
        for line in blocks("text")[0].lines() {
            assert!(printed.contains(&format!("{line}\n")), "{line}: {demo}");
        }
    }
}
