//! What kind of program a file is: a script, or for which machine, and by what it is interpreted: elf(5).

use crate::say::text::lines;

/// What kind of program a file is, by its first bytes.
#[derive(Debug, PartialEq)]
pub enum Format<'a> {
    /// A script, and what interprets it.
    Script(&'a [u8]),
    /// An ELF program: its machine, and its loader if it is dynamic.
    Elf(u16, Option<&'a [u8]>),
    Unknown,
}

/// What a file is that begins so.
pub fn format_of(head: &[u8]) -> Format<'_> {
    if head.starts_with(b"\x7fELF") {
        return Format::Elf(elf_machine(head), elf_interpreter(head));
    }
    let Some(line) = head.strip_prefix(b"#!") else { return Format::Unknown };
    // As the kernel reads it: a carriage return at the end belongs to the name.
    let line = lines(line).next().unwrap_or_default();
    let mut words = line.split(|b| b" \t".contains(b)).filter(|word| !word.is_empty());
    Format::Script(words.next().unwrap_or_default())
}

/// The PT_INTERP of an ELF file of our own byte order: elf(5).
fn elf_interpreter(head: &[u8]) -> Option<&[u8]> {
    let number = |at: usize, size: usize| -> Option<usize> {
        let bytes = head.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b)))
    };
    // Of the header: e_phoff, e_phentsize, e_phnum. Of a program header: p_offset, p_filesz.
    let (word, [phoff, phentsize, phnum], [offset, filesz]) = match head.get(4)? {
        1 => (4, [28, 42, 44], [4, 16]), // ELFCLASS32
        _ => (8, [32, 54, 56], [8, 32]),
    };
    let (table, entry_size, count) =
        (number(phoff, word)?, number(phentsize, 2)?, number(phnum, 2)?);
    (0..count).find_map(|i| {
        let entry = table.checked_add(i * entry_size)?;
        if number(entry, 4)? != libc::PT_INTERP as usize {
            return None;
        }
        let start = number(entry + offset, word)?;
        head.get(start..start.checked_add(number(entry + filesz, word)?)?)?.strip_suffix(b"\0")
    })
}

/// The machine of an ELF file, in its own byte order.
fn elf_machine(head: &[u8]) -> u16 {
    let bytes = [head.get(18), head.get(19)].map(|b| b.copied().unwrap_or(0));
    match head.get(5) {
        Some(2) => u16::from_be_bytes(bytes), // ELFDATA2MSB
        _ => u16::from_le_bytes(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file of a class (1: 32 bits, 2: 64) and byte order (1: little, 2: big) for `machine`, with
    /// one program header, PT_INTERP.
    fn elf(class: u8, order: u8, machine: u16, interpreter: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 512];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &[0x7f, b'E', b'L', b'F', class, order]);
        put(18, &if order == 1 { machine.to_le_bytes() } else { machine.to_be_bytes() });
        let (phoff, phnum, offset, filesz) =
            if class == 1 { (28, 44, 4, 16) } else { (32, 56, 8, 32) };
        put(phoff, &[128]);
        put(phnum, &[1]);
        put(128, &[3]);
        put(128 + offset, &[200]);
        put(128 + filesz, &[interpreter.len() as u8]);
        put(200, interpreter);
        file
    }

    #[test]
    fn a_script_names_its_interpreter_with_or_without_blanks() {
        for head in [&b"#!/bin/sh\n"[..], b"#! /bin/sh -e\necho", b"#!\t/bin/sh\t-x", b"#!/bin/sh"]
        {
            assert_eq!(format_of(head), Format::Script(b"/bin/sh"));
        }
        assert_eq!(format_of(b"#!"), Format::Script(b""));
        assert_eq!(format_of(b"echo"), Format::Unknown);
        assert_eq!(format_of(b""), Format::Unknown);
    }

    #[test]
    fn an_elf_program_names_its_machine_and_its_loader() {
        let interpreter = Some(&b"/lib/ld.so"[..]);
        for (class, machine) in [(2, libc::EM_X86_64), (1, libc::EM_386), (2, libc::EM_AARCH64)] {
            let file = elf(class, 1, machine, b"/lib/ld.so\0");
            assert_eq!(format_of(&file), Format::Elf(machine, interpreter));
        }
        assert_eq!(elf_machine(&elf(2, 2, 22, b"")), 22);
    }

    #[test]
    fn an_elf_program_with_wild_numbers_has_no_loader() {
        let file = elf(2, 1, libc::EM_X86_64, b"/lib/ld.so\0");
        for at in [32, 136, 160] {
            let mut wild = file.clone();
            wild.splice(at..at + 8, [0xff; 8]);
            assert_eq!(format_of(&wild), Format::Elf(libc::EM_X86_64, None), "{at}");
        }
        for length in 0..file.len() {
            format_of(&file[..length]);
        }
        assert_eq!(format_of(b"\x7fELF"), Format::Elf(0, None));
    }
}
