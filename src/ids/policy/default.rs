//! The default policy, as the program has it: `rootfs/default.policy` without comments, and with the index of a
//! call for its name, for the names are in the program once already.

use crate::ids::policy::calls::const_position;

const SOURCE: &[u8] = include_bytes!("../../../rootfs/default.policy");

/// The policy.
pub const TEXT: &[u8] = &short::<LENGTH>().0;
const LENGTH: usize = short::<{ SOURCE.len() }>().1;

/// The call whose index a word of that text is: two bytes that no other word has.
pub fn call(word: &[u8]) -> Option<usize> {
    match word {
        [high, low] if *high >= 0x80 => {
            Some(usize::from(high & 0x7f) << 7 | usize::from(low & 0x7f))
        }
        _ => None,
    }
}

/// The text in an array of so many bytes, and its length, which may be less.
#[allow(clippy::indexing_slicing)] // when td is built, an index out of bounds is an error
const fn short<const N: usize>() -> ([u8; N], usize) {
    let mut text = [0; N];
    let (mut length, mut rest) = (0, SOURCE);
    let mut comment = false;
    while let [byte, after @ ..] = rest {
        comment = *byte == b'#' || comment && *byte != b'\n';
        let word = rest.split_at(length_of_word(rest)).0;
        match (comment, const_position(word)) {
            (false, Some(index)) => {
                text[length] = 0x80 | (index >> 7) as u8;
                text[length + 1] = 0x80 | (index & 0x7f) as u8;
                length += 2;
                rest = rest.split_at(word.len()).1;
                continue;
            }
            // Nor an empty line.
            (false, None) if *byte != b'\n' || length > 0 && text[length - 1] != b'\n' => {
                let end = if word.is_empty() { 1 } else { word.len() };
                let mut i = 0;
                while i < end {
                    text[length + i] = rest[i];
                    i += 1;
                }
                length += end;
                rest = rest.split_at(end).1;
            }
            _ => rest = after,
        }
    }
    (text, length)
}

#[allow(clippy::indexing_slicing)] // when td is built, an index out of bounds is an error
const fn length_of_word(text: &[u8]) -> usize {
    let mut length = 0;
    while length < text.len() && !matches!(text[length], b' ' | b'\n' | b'#') {
        length += 1;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::policy::calls::Arch;
    use crate::ids::policy::compile::program;

    #[test]
    fn what_the_program_has_says_the_same_as_the_text() {
        assert!(TEXT.len() < SOURCE.len() / 3, "{} bytes", TEXT.len());
        for arch in [Arch::X86_64, Arch::Aarch64] {
            for caps in [0, u64::MAX].into_iter().chain((0..41).map(|cap| 1 << cap)) {
                let own = program("short", b"default", arch, caps).expect("a policy");
                let text = program("text", SOURCE, arch, caps).expect("a policy");
                assert!(own.is_some() && own == text, "{arch:?} {caps:#x}");
            }
        }
    }
}
