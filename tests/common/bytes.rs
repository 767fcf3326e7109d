//! Words that would do harm where they were printed as they are, and every place where a command line has one.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Command;

use super::{Output, run, words};

/// What does harm to a terminal: escapes of 7 and of 8 bits, also as UTF-8; bytes that are not text; and lines that
/// would pass for those of others.
pub const HOSTILE: &[u8] = b"\x1b[31mx\x07\x08\r\nforged\n\x9b31m\xc2\x9b\xff\x7f\\'\"";

/// Words of every kind that a message may repeat.
pub fn words_of_others() -> Vec<OsString> {
    [HOSTILE, b"\nforged", b"\xff"].map(|word| OsString::from_vec(word.to_vec())).into()
}

/// One of 64 KiB. Of two processes that write so much into one pipe, one may come into the middle of the other's line.
pub fn long_word() -> OsString {
    OsString::from_vec([0x1b, 0x9b, b'\n', 0xff].repeat(16384))
}

/// What was printed is printable ASCII, in lines that the program began.
#[track_caller]
pub fn is_plain(output: &Output, what: &str) {
    for (stream, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        let odd = bytes.iter().find(|byte| !matches!(byte, b' '..=b'~' | b'\n'));
        let shown: String = String::from_utf8_lossy(bytes).chars().take(500).collect();
        assert!(odd.is_none(), "{what}: {stream} has {odd:?}: {shown:?}");
        let forged = bytes.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"forged"));
        assert!(!forged, "{what}: {stream} has a line of others: {shown:?}");
    }
}

/// `before`, the word, `after`: in one.
pub fn joined(before: &str, word: &OsStr, after: &str) -> OsString {
    let parts = [before.as_bytes(), word.as_bytes(), after.as_bytes()];
    OsString::from_vec(parts.concat())
}

/// The options of a program, as its `--help` has them.
pub fn options_of(help: &str) -> Vec<String> {
    let mut options = Vec::new();
    for line in help.lines().filter_map(|line| line.strip_prefix("  ")) {
        let named = line.trim_start().split("  ").next().unwrap_or_default();
        for word in named.split([' ', ',', '|']).filter(|word| word.starts_with('-')) {
            let end = word.find(['[', '=']).unwrap_or(word.len());
            options.push(word[..end].to_string());
        }
    }
    assert!(!options.is_empty(), "{help}");
    options
}

/// The command lines, short of the program, in which `word` stands at every place of one that `prefix` begins.
pub fn lines(prefix: &[&str], options: &[String], word: &OsStr) -> Vec<Vec<OsString>> {
    let prefix = || prefix.iter().map(OsString::from).collect::<Vec<_>>();
    let mut lines = Vec::new();
    let mut add = |words: &[&OsStr]| {
        let words = words.iter().map(|word| word.to_os_string());
        lines.push(prefix().into_iter().chain(words).collect());
    };
    let true_ = OsStr::new("true");
    add(&[word]);
    add(&[word, word]);
    add(&[word, word, word]);
    for named in ["--", "-"].map(|dashes| joined(dashes, word, "")) {
        add(&[&named]);
        add(&[&named, true_]);
        add(&[&joined("", &named, "=x"), true_]);
    }
    for option in options {
        let name = OsStr::new(option);
        add(&[name, word]);
        add(&[name, word, word]);
        add(&[name, word, true_, true_]);
        add(&[&joined(&format!("{option}="), word, ""), word, word]);
        add(&[&joined(&format!("{option}=a"), word, ":b=c"), true_]);
        add(&[&joined(&format!("{option}=1:"), word, ",2"), true_]);
        if !option.starts_with("--") {
            add(&[&joined(option, word, ""), true_]);
        }
    }
    lines
}

/// Run a command and look at what it prints.
#[track_caller]
pub fn prints_plainly(cmd: &mut Command) -> Output {
    let mut output = run(cmd);
    // On the terminal of PROG a line ends with a carriage return too.
    if cmd.get_program().as_bytes().ends_with(b"td-tty") {
        let lines = output.stdout.split(|byte| *byte == b'\n');
        let lines: Vec<_> = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
        output.stdout = lines.join(&b'\n');
    }
    let line: String = format!("{:?}", words(cmd).collect::<Vec<_>>()).chars().take(300).collect();
    is_plain(&output, &line);
    output
}
