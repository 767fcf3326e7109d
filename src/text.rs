//! Text in bytes: its lines and fields. `[u8]::split` has code of its own for each caller's closure.

/// The lines of a text. Behind a newline at the end there is an empty one.
pub fn lines(text: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    split(text, b'\n')
}

/// What is between separators, or before the first, or behind the last: one field at least.
pub fn split(text: &[u8], separator: u8) -> impl DoubleEndedIterator<Item = &[u8]> {
    text.split(move |byte| *byte == separator)
}
