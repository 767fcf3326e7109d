//! What holds for the parsers of bytes that come from outside, whatever these are. None panics; and what else can be
//! said of each, is checked. Of scripts/fuzz and tests/properties.rs.

use td::cgroup::{hierarchies, proc_pid_cgroup};
use td::ids::{policy, user_namespace};
use td::root::mountinfo;
use td::say::format::{Format, format_of};
use td::say::{number, show, text};

/// Every parser, with these bytes.
pub fn all(data: &[u8]) {
    numbers(data);
    shown(data);
    texts(data);
    programs(data);
    id_maps(data);
    cgroups_and_mounts(data);
    // The policy, as text and, if so marked, as a compiled one: a fault is an error that can be printed.
    if let Err(error) = policy::compiled("policy", data) {
        assert!(!error.what().contains('\n'), "{:?}", error.what());
    }
}

/// Numbers are those of std, but that they have no sign.
fn numbers(data: &[u8]) {
    let word = std::str::from_utf8(data).ok();
    let unsigned = word.filter(|word| word.bytes().all(|b| b.is_ascii_digit()));
    assert_eq!(number::decimal(data), unsigned.and_then(|word| word.parse().ok()));
    assert_eq!(number::int(data), unsigned.and_then(|word| word.parse().ok()));
    assert_eq!(
        number::fixed(data, 0).is_some(),
        number::decimal(data).is_some() || ends_in_point(data)
    );
    let hex = |word: &str| u64::from_str_radix(word, 16).ok();
    let plain = word.filter(|word| word.bytes().all(|b| b.is_ascii_hexdigit())).and_then(hex);
    assert!(plain.is_none() || number::hexadecimal(data) == plain);
    number::fits(data);
    if let Some(size) = word.and_then(number::parse_size) {
        assert!(size <= i64::MAX as u64);
        assert_eq!(number::parse_size(&size.to_string()), Some(size));
    }
}

fn ends_in_point(data: &[u8]) -> bool {
    data.strip_suffix(b".").is_some_and(|digits| number::decimal(digits).is_some())
}

/// Whatever is shown is plain, in one line, and the same bytes can be read back from it.
fn shown(data: &[u8]) {
    let mut out = String::new();
    show::escape(data, b"\"\\", &mut out);
    assert!(out.bytes().all(|b| (0x20..0x7f).contains(&b)), "{out:?}");
    assert_eq!(read_back(out.as_bytes()), data, "{out}");
    assert!(!show::plain(data).contains(|c: char| c.is_ascii_control()));
}

/// What C reads of a string with escapes: a naive reference.
fn read_back(text: &[u8]) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'\\' {
            bytes.push(first);
            continue;
        }
        let octal = rest.iter().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count();
        if octal > 0 {
            let (digits, after) = rest.split_at(octal);
            bytes.push(digits.iter().fold(0u32, |n, d| n * 8 + u32::from(d - b'0')) as u8);
            rest = after;
        } else if let Some((letter, after)) = rest.split_first() {
            let known = [(b'n', b'\n'), (b't', b'\t'), (b'r', b'\r'), (b'v', 0x0b), (b'f', 0x0c)];
            let byte = known.iter().find(|(name, _)| name == letter).map_or(*letter, |(_, b)| *b);
            bytes.push(byte);
            rest = after;
        }
    }
    bytes
}

/// Splitting loses nothing.
fn texts(data: &[u8]) {
    let (directory, name) = text::split_name(data);
    assert!(data.starts_with(directory) && data.ends_with(name) && !name.contains(&b'/'));
    if let Some((before, after)) = text::pair(data, b':') {
        assert_eq!([before, b":", after].concat(), data);
        assert!(!before.contains(&b':'));
    }
    for line in text::lines(data) {
        assert!(!line.contains(&b'\n'));
    }
}

/// What is found in a file lies in it.
fn programs(data: &[u8]) {
    let lies_there = |part: &[u8]| part.is_empty() || data.windows(part.len()).any(|w| w == part);
    match format_of(data) {
        Format::Script(interpreter) => assert!(data.starts_with(b"#!") && lies_there(interpreter)),
        Format::BadLine(_) => assert!(data.starts_with(b"#!")),
        Format::Elf(elf) => {
            assert!(data.starts_with(b"\x7fELF"));
            let damage = elf.damage(data.len() as u64);
            let (at, size) = elf.table();
            let table = usize::try_from(at).ok().and_then(|at| data.get(at..));
            // What is not damaged has all of its program headers.
            assert!(damage.is_some() || table.is_some_and(|table| table.len() >= size));
            elf.loader(table.unwrap_or_default());
            elf.loader(data);
        }
        Format::Unknown => assert!(!data.starts_with(b"#!") && !data.starts_with(b"\x7fELF")),
    }
}

/// The smallest id of a map is mapped, if its line has a count that is not 0.
fn id_maps(data: &[u8]) {
    for id in [0, 1, 1000, 65535, u32::MAX] {
        user_namespace::is_mapped(data, id);
    }
    user_namespace::smallest_mapped(data);
    // A map as the kernel writes it, with the bytes as its numbers.
    let words: Vec<u32> =
        data.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
    let ranges: Vec<[u32; 3]> = words.chunks_exact(3).map(|w| [w[0], w[1], w[2]]).collect();
    let map: String = ranges.iter().map(|[a, b, c]| format!("{a:10} {b:10} {c:10}\n")).collect();
    for id in words {
        let has = |[first, _, count]: &[u32; 3]| {
            id >= *first && u64::from(id) < u64::from(*first) + u64::from(*count)
        };
        assert_eq!(
            user_namespace::is_mapped(map.as_bytes(), id),
            ranges.iter().any(has),
            "{map}{id}"
        );
    }
}

/// The two files from which cgroups are found, one with the other, cut at the first zero byte. (Both are kept for as
/// long as a step runs, so a short one is given.)
fn cgroups_and_mounts(data: &[u8]) {
    let data = data.get(..data.len().min(1024)).unwrap_or_default();
    for line in text::lines(data) {
        if let Some((controllers, _path)) = proc_pid_cgroup::fields(line) {
            assert!(proc_pid_cgroup::names(controllers).all(|name| !name.is_empty()));
        }
    }
    let (own, mounts) = text::pair(data, 0).unwrap_or((data, data));
    let parsed = mountinfo::parse(mounts.to_vec().leak());
    assert!(parsed.len() <= text::lines(mounts).count());
    let found = hierarchies::parse(own.to_vec().leak(), &parsed);
    assert!(found.len() <= text::lines(own).count() * parsed.len().max(1));
}
