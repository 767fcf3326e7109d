//! The properties of fuzz/src/parsers.rs, for bytes that are the same in each run; and what scripts/fuzz has found.

#[path = "../fuzz/src/parsers.rs"]
mod parsers;

use std::fs;
use std::path::Path;

/// Numbers that look random, the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % below.max(1)
    }
}

/// What the parsers are made for: files of real machines, and words of a command line.
fn seeds() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = fs::read_dir(root.join("tests/fixtures")).expect("fixtures");
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    paths.push(root.join("rootfs/default.policy"));
    let mut seeds: Vec<_> = paths.iter().map(|path| fs::read(path).expect("a file")).collect();
    let own = fs::read("/proc/self/exe").expect("this program");
    seeds.push(own[..1024].to_vec());
    let words =
        ["#!/bin/sh -e\n", "18446744073709551616", "9223372036854775807", "0x7fff", "1.5", "64M"];
    let more = [
        "0 1000 1\n1 100000 65536\n",
        "a:x:0:0::/:/bin/sh\n",
        "\\040\\134\x01",
        "7:pids,cpu:/a/..\n0::/\n",
    ];
    seeds.extend(words.iter().chain(&more).map(|word| word.as_bytes().to_vec()));
    seeds
}

/// One of them, changed in a few places: a byte, a part left out or repeated, a part of another put in.
fn changed(seeds: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = seeds[numbers.below(seeds.len())].clone();
    let start = numbers.below(bytes.len());
    bytes.drain(..start);
    bytes.truncate(1 + numbers.below(1500));
    for _ in 0..numbers.below(6) {
        let at = numbers.below(bytes.len());
        let end = (at + 1 + numbers.below(40)).min(bytes.len());
        match numbers.below(4) {
            0 if !bytes.is_empty() => bytes[at] = numbers.below(256) as u8,
            1 => drop(bytes.drain(at..end)),
            2 => bytes.extend_from_within(at..end),
            _ => {
                let other = &seeds[numbers.below(seeds.len())];
                let from = numbers.below(other.len());
                let to = (from + numbers.below(40)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
        }
    }
    bytes
}

#[test]
fn parsers_of_bytes_from_outside_keep_their_properties() {
    let (seeds, mut numbers) = (seeds(), Numbers(14));
    for seed in &seeds {
        parsers::all(seed);
        // Cut at each of the first places.
        (0..seed.len().min(200)).for_each(|end| parsers::all(&seed[..end]));
    }
    for _ in 0..4000 {
        let bytes = changed(&seeds, &mut numbers);
        if let Err(panic) = std::panic::catch_unwind(|| parsers::all(&bytes)) {
            println!("bytes: {}", bytes.escape_ascii());
            std::panic::resume_unwind(panic);
        }
    }
}
