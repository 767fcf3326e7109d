//! Text in bytes: its lines and fields. `[u8]::split` has code of its own for each caller's closure.

/// The lines of a text. Behind a newline at the end there is an empty one.
pub fn lines(text: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    split(text, b'\n')
}

/// A path up to its last slash, which may be nothing, and the name after that.
pub fn split_name(path: &[u8]) -> (&[u8], &[u8]) {
    path.split_at(path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1))
}

/// What is between separators, or before the first, or after the last: one field at least.
pub fn split(text: &[u8], separator: u8) -> impl DoubleEndedIterator<Item = &[u8]> {
    text.split(move |byte| *byte == separator)
}

/// Is one of the fields `word`?
pub fn has(text: &[u8], separator: u8, word: &[u8]) -> bool {
    split(text, separator).any(|field| field == word)
}

/// What is before and after the first separator. `None`: there is none.
pub fn pair(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let position = text.iter().position(|byte| *byte == separator)?;
    let (before, behind) = text.split_at_checked(position)?;
    Some((before, behind.get(1..)?))
}
