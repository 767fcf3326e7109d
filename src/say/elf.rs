//! The headers of an ELF program, as far as execve(2) reads them: elf(5), fs/binfmt_elf.c. Any bytes may be in them.

/// What the header of an ELF file says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Elf {
    /// The machine that it is for, `EM_…`.
    pub machine: u16,
    /// Of 32 bits?
    pub is_32: bool,
    /// `ET_…`.
    kind: u16,
    /// Where the program headers are, the size of each, and their number.
    headers: [u64; 3],
}

/// Why the kernel does not execute an ELF file of a machine that it knows.
#[derive(Debug, PartialEq)]
pub struct Damage(pub &'static str);

const TRUNCATED: Damage =
    Damage(" is truncated: its program headers would begin or end behind its last byte");

impl Elf {
    /// The header at the beginning of a file. Where the file has no more bytes, the kernel sees zeros.
    pub fn of(head: &[u8]) -> Option<Elf> {
        let head = head.strip_prefix(b"\x7fELF").map(|_| head)?;
        let is_32 = head.get(4) == Some(&1); // ELFCLASS32
        let is_big = head.get(5) == Some(&2); // ELFDATA2MSB
        let field = |(at, size)| {
            let bytes = head.get(at..).unwrap_or_default();
            number(bytes.get(..size).unwrap_or_default(), is_big).unwrap_or(0)
        };
        // e_phoff, e_phentsize, e_phnum
        let headers = if is_32 { [(28, 4), (42, 2), (44, 2)] } else { [(32, 8), (54, 2), (56, 2)] };
        let [kind, machine] = [(16, 2), (18, 2)].map(|at| field(at) as u16);
        Some(Elf { machine, is_32, kind, headers: headers.map(field) })
    }

    /// What the kernel finds wrong before it reads the program headers; `size` is that of the file. In its order.
    pub fn damage(&self, size: u64) -> Option<Damage> {
        let [_, entry, count] = self.headers;
        let [header, expected] = if self.is_32 { [52, 32] } else { [64, 56] };
        Some(if size < header {
            Damage(" is truncated: it has fewer bytes than the header of an ELF program")
        } else {
            match self.kind {
                1 => Damage(" is an object file, which is executed only after ld(1) has linked it"),
                4 => Damage(" is a core dump, not a program"),
                2 | 3 if count == 0 => Damage(" is not a program: it has no program headers"),
                2 | 3 if entry != expected || entry * count > 65536 => Damage(
                    " is damaged: the size or the number of its program headers is not valid",
                ),
                2 | 3 if self.end()? > size => TRUNCATED,
                2 | 3 => return None,
                _ => Damage(" is damaged: its type is not that of a program"),
            }
        })
    }

    /// The end of the program headers in the file. `None`: behind every file.
    fn end(&self) -> Option<u64> {
        let [at, entry, count] = self.headers;
        at.checked_add(entry * count).or(Some(u64::MAX))
    }

    /// Where the program headers are, and how many bytes they take; no more than the kernel reads.
    pub fn table(&self) -> (u64, usize) {
        let [at, entry, count] = self.headers;
        (at, (entry * count).min(65536) as usize)
    }

    /// Where the name of its loader is, and how long that is, by its program headers: its PT_INTERP, of our own byte
    /// order. `None`: it has none.
    pub fn loader(&self, table: &[u8]) -> Option<(u64, u64)> {
        // p_offset, p_filesz
        let (entry, [offset, filesz]) =
            if self.is_32 { (32, [(4, 4), (16, 4)]) } else { (56, [(8, 8), (32, 8)]) };
        let header = table.chunks_exact(entry).find(|header| {
            header.get(..4).and_then(|kind| number(kind, false)) == Some(libc::PT_INTERP.into())
        })?;
        let field = |(at, size)| number(header.get(at..)?.get(..size)?, false);
        Some((field(offset)?, field(filesz)?))
    }
}

/// What is wrong with the name of a loader, of which `name` was read at `at` and which should have `size` bytes.
pub fn loader_damage(name: &[u8], size: u64) -> Option<Damage> {
    Some(if !(2..=libc::PATH_MAX as u64).contains(&size) {
        Damage(" is damaged: the length of its loader's name is not valid")
    } else if (name.len() as u64) < size {
        Damage(" is truncated: the name of its loader would end behind its last byte")
    } else if name.last() != Some(&0) {
        Damage(" is damaged: the name of its loader does not end with a zero byte")
    } else {
        return None;
    })
}

/// A number of at most eight bytes. `None`: there are none.
fn number(bytes: &[u8], is_big: bool) -> Option<u64> {
    let add = |n: u64, byte: &u8| n << 8 | u64::from(*byte);
    match bytes {
        [] => None,
        _ if is_big => Some(bytes.iter().fold(0, add)),
        _ => Some(bytes.iter().rev().fold(0, add)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF program of a class (1: 32 bits, 2: 64) with one program header, PT_INTERP, and its loader's name at 200.
    pub fn elf(class: u8, loader: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 512];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &[0x7f, b'E', b'L', b'F', class, 1]);
        put(16, &[2, 0, 62, 0]);
        let ([phoff, phentsize, phnum], [offset, filesz], entry) = match class {
            1 => ([28, 42, 44], [4, 16], 32),
            _ => ([32, 54, 56], [8, 32], 56),
        };
        put(phoff, &[128]);
        put(phentsize, &[entry]);
        put(phnum, &[1]);
        put(128, &[3]);
        put(128 + offset, &[200]);
        put(128 + filesz, &[loader.len() as u8]);
        put(200, loader);
        file
    }

    fn loader(file: &[u8]) -> Option<(u64, u64)> {
        let elf = Elf::of(file)?;
        let (at, size) = elf.table();
        let table = file.get(usize::try_from(at).ok()?..)?;
        elf.loader(&table[..size.min(table.len())])
    }

    #[test]
    fn a_program_is_sound_and_names_its_loader() {
        for class in [1, 2] {
            let file = elf(class, b"/lib/ld.so\0");
            let read = Elf::of(&file).expect("ELF");
            assert_eq!((read.machine, read.is_32), (62, class == 1));
            assert_eq!(read.damage(512), None);
            assert_eq!(loader(&file), Some((200, 11)));
        }
        assert_eq!(Elf::of(b"\x7fELG"), None);
        assert_eq!(Elf::of(b"#!/bin/sh"), None);
    }

    #[test]
    fn the_machine_is_read_in_the_byte_order_of_the_file() {
        let mut file = elf(2, b"");
        (file[5], file[18], file[19]) = (2, 0, 22);
        assert_eq!(Elf::of(&file).expect("ELF").machine, 22);
    }

    #[test]
    fn each_damage_has_its_words_and_what_is_sound_has_none() {
        let changed = |at: usize, bytes: &[u8]| {
            let mut file = elf(2, b"/lib/ld.so\0");
            file[at..at + bytes.len()].copy_from_slice(bytes);
            Elf::of(&file).expect("ELF").damage(512).map(|damage| damage.0)
        };
        for (at, bytes, says) in [
            (16, &[1_u8][..], "an object file"),
            (16, &[4], "a core dump"),
            (16, &[9], "its type"),
            (56, &[0], "no program headers"),
            (54, &[32], "the size or the number"),
            (56, &[255, 255], "the size or the number"),
            (56, &[40], "behind its last byte"),
            (32, &[0xff; 8], "behind its last byte"),
        ] {
            let damage = changed(at, bytes).expect(says);
            assert!(damage.contains(says), "{damage}");
        }
        for (at, bytes) in [(16, 3), (18, 40), (6, 9)] {
            assert_eq!(changed(at, &[bytes]), None);
        }
        assert!(Elf::of(b"\x7fELF").expect("ELF").damage(4).is_some());
    }

    #[test]
    fn a_loaders_name_is_whole_or_damaged() {
        assert_eq!(loader_damage(b"/ld\0", 4), None);
        for (name, size) in
            [(&b"/ld"[..], 4), (b"/ldx", 4), (b"", 0), (b"\0", 1), (b"", 4097), (b"", u64::MAX)]
        {
            assert!(loader_damage(name, size).is_some(), "{size}");
        }
    }

    #[test]
    fn wild_bytes_are_no_panic() {
        let file = elf(2, b"/lib/ld.so\0");
        for length in 0..file.len() {
            if let Some(elf) = Elf::of(&file[..length]) {
                elf.damage(length as u64);
                loader(&file[..length]);
            }
        }
        for class in [1, 2] {
            let file = elf(class, b"/lib/ld.so\0");
            for at in 4..220 {
                for byte in [0, 1, 0x7f, 0xff] {
                    let mut wild = file.clone();
                    let end = (at + 8).min(wild.len());
                    wild[at..end].fill(byte);
                    let elf = Elf::of(&wild).expect("ELF");
                    elf.damage(512);
                    elf.table();
                    elf.loader(&wild);
                    loader(&wild);
                }
            }
        }
    }
}
