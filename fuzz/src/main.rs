//! Bytes of libFuzzer's to every parser: scripts/fuzz.

#![no_main]

mod parsers;

libfuzzer_sys::fuzz_target!(|data: &[u8]| parsers::all(data));
