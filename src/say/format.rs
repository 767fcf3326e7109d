//! What kind of program a file is: a script, and by what it is interpreted, or ELF: fs/binfmt_script.c, elf(5).

use crate::say::elf::Elf;

/// What kind of program a file is, by its first bytes.
#[derive(Debug, PartialEq)]
pub enum Format<'a> {
    /// A script, and what interprets it.
    Script(&'a [u8]),
    /// A script whose first line the kernel does not use, in words.
    BadLine(&'static str),
    Elf(Elf),
    Unknown,
}

/// How much of a file the kernel looks at: BINPRM_BUF_SIZE of linux/binfmts.h.
const LINE: usize = 256;

/// What a file is that begins so.
pub fn format_of(head: &[u8]) -> Format<'_> {
    if let Some(elf) = Elf::of(head) {
        return Format::Elf(elf);
    }
    let Some(line) = head.strip_prefix(b"#!") else { return Format::Unknown };
    let line = line.get(..LINE - 2).unwrap_or(line);
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = line.iter().take_while(|byte| is_blank(byte)).count();
    let name = line.get(start..).unwrap_or_default();
    // As the kernel reads it: a carriage return at the end belongs to the name.
    let is_end = |byte: &u8| is_blank(byte) || matches!(byte, b'\n' | 0);
    match name.iter().position(is_end) {
        Some(0) => Format::BadLine("names no interpreter"),
        Some(end) => Format::Script(name.get(..end).unwrap_or_default()),
        None if name.is_empty() => Format::BadLine("names no interpreter"),
        None if line.len() < LINE - 2 => Format::Script(name),
        None => Format::BadLine(
            "is too long: the kernel reads 256 bytes, and the interpreter's name goes on",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_names_its_interpreter_with_or_without_blanks() {
        for head in [
            &b"#!/bin/sh\n"[..],
            b"#! /bin/sh -e\necho",
            b"#!\t/bin/sh\t-x",
            b"#!/bin/sh",
            b"#!/bin/sh\0",
        ] {
            assert_eq!(format_of(head), Format::Script(b"/bin/sh"));
        }
        assert_eq!(format_of(b"#!/bin/sh\r\n"), Format::Script(b"/bin/sh\r"));
        for head in [&b"#!"[..], b"#!\n", b"#! \t", b"#! \n/bin/sh", b"#!\0/bin/sh"] {
            assert_eq!(format_of(head), Format::BadLine("names no interpreter"), "{head:?}");
        }
        for head in [&b"echo"[..], b"", b"#", b" #!/bin/sh\n", b"\x7fEL"] {
            assert_eq!(format_of(head), Format::Unknown);
        }
    }

    #[test]
    fn a_name_has_to_end_in_what_the_kernel_reads() {
        for (length, fits) in [(1, true), (252, true), (253, true), (254, false), (4000, false)] {
            let name = vec![b'a'; length];
            let head = [b"#!", &name[..], b" -x\n"].concat();
            let expected = Format::Script(&name);
            assert_eq!(format_of(&head) == expected, fits, "{length}");
            assert_eq!(matches!(format_of(&head), Format::BadLine(_)), !fits, "{length}");
        }
    }
}
