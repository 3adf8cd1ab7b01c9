//! Is this a whole shared library for this machine? Asked before the dynamic linker maps it: a file that ends inside a
//! segment would kill the process with SIGBUS, which nothing can catch in time.

use thiserror::Error;

/// Why not.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum ElfProblem {
    #[error("not a shared library: no ELF header")]
    NotElf,
    #[error("not a 64-bit little-endian ELF file")]
    WrongFormat,
    #[error("not a shared library: ELF type {0}")]
    NotShared(u16),
    #[error("built for another machine: ELF machine {found}, this host is {expected}")]
    WrongMachine { found: u16, expected: u16 },
    #[error("truncated: {what} reaches to byte {end}, the file has {len}")]
    Truncated { what: &'static str, end: u64, len: u64 },
    #[error("malformed program headers")]
    BadProgramHeaders,
}

// ELF-64 Object File Format, version 1.5, §3 (header) and §6 (program header).
const EHDR_SIZE: usize = 64;
const PHDR_SIZE: u64 = 56;
const ELFCLASS64: u8 = 2;
const ELFDATA2LSB: u8 = 1;
const ET_DYN: u16 = 3;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;

const fn host_machine() -> u16 {
    if cfg!(target_arch = "aarch64") {
        183 // EM_AARCH64
    } else if cfg!(target_arch = "riscv64") {
        243 // EM_RISCV
    } else {
        62 // EM_X86_64
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(*bytes[at..].first_chunk().expect("inside the header"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("inside the header"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("inside the header"))
}

pub(super) fn check(file: &[u8]) -> Result<(), ElfProblem> {
    if !file.starts_with(b"\x7fELF") {
        return Err(ElfProblem::NotElf);
    }
    let Some(header) = file.get(..EHDR_SIZE) else {
        return Err(truncated("the header", EHDR_SIZE as u64, file));
    };
    if header[4] != ELFCLASS64 || header[5] != ELFDATA2LSB {
        return Err(ElfProblem::WrongFormat);
    }
    let (kind, machine) = (u16_at(header, 16), u16_at(header, 18));
    if machine != host_machine() {
        return Err(ElfProblem::WrongMachine { found: machine, expected: host_machine() });
    }
    if kind != ET_DYN {
        return Err(ElfProblem::NotShared(kind));
    }
    let mut dynamic = false;
    for segment in program_headers(file, header)?.chunks_exact(PHDR_SIZE as usize) {
        let segment_kind = u32_at(segment, 0);
        if segment_kind == PT_LOAD || segment_kind == PT_DYNAMIC {
            reaches(file, "a segment", u64_at(segment, 8), u64_at(segment, 32))?;
        }
        dynamic |= segment_kind == PT_DYNAMIC;
    }
    // A position-independent program has one too, and is refused for what it lacks, later.
    if dynamic { Ok(()) } else { Err(ElfProblem::BadProgramHeaders) }
}

fn program_headers<'a>(file: &'a [u8], header: &[u8]) -> Result<&'a [u8], ElfProblem> {
    let (offset, entry, count) = (u64_at(header, 32), u16_at(header, 54), u16_at(header, 56));
    if u64::from(entry) != PHDR_SIZE || count == 0 {
        return Err(ElfProblem::BadProgramHeaders);
    }
    let len = PHDR_SIZE * u64::from(count);
    reaches(file, "the table of program headers", offset, len)?;
    // `reaches` put both within the file's length, which is a usize.
    Ok(&file[offset as usize..(offset + len) as usize])
}

fn reaches(file: &[u8], what: &'static str, offset: u64, len: u64) -> Result<(), ElfProblem> {
    let end = offset.checked_add(len).ok_or(ElfProblem::BadProgramHeaders)?;
    if end <= file.len() as u64 { Ok(()) } else { Err(truncated(what, end, file)) }
}

fn truncated(what: &'static str, end: u64, file: &[u8]) -> ElfProblem {
    ElfProblem::Truncated { what, end, len: file.len() as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header, one PT_LOAD and one PT_DYNAMIC, and 16 bytes that they cover.
    fn library() -> Vec<u8> {
        let mut file = vec![0; EHDR_SIZE];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[16..18].copy_from_slice(&ET_DYN.to_le_bytes());
        file[18..20].copy_from_slice(&host_machine().to_le_bytes());
        file[32..40].copy_from_slice(&(EHDR_SIZE as u64).to_le_bytes());
        file[54..58].copy_from_slice(&[56, 0, 2, 0]);
        let data_at = EHDR_SIZE as u64 + 2 * PHDR_SIZE;
        for (kind, len) in [(PT_LOAD, 16u64), (PT_DYNAMIC, 8)] {
            let at = file.len();
            file.resize(at + PHDR_SIZE as usize, 0);
            file[at..at + 4].copy_from_slice(&kind.to_le_bytes());
            file[at + 8..at + 16].copy_from_slice(&data_at.to_le_bytes());
            file[at + 32..at + 40].copy_from_slice(&len.to_le_bytes());
        }
        file.resize(file.len() + 16, 0);
        file
    }

    fn with(at: usize, bytes: &[u8]) -> Result<(), ElfProblem> {
        let mut file = library();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        check(&file)
    }

    #[test]
    fn a_whole_library_passes() {
        assert_eq!(check(&library()), Ok(()));
    }

    #[test]
    fn every_truncation_is_found() {
        let file = library();
        for len in 0..file.len() {
            assert!(check(&file[..len]).is_err(), "{len} bytes passed");
        }
        let cut = check(&file[..file.len() - 1]).unwrap_err();
        assert_eq!(cut.to_string(), "truncated: a segment reaches to byte 192, the file has 191");
    }

    #[test]
    fn other_files_are_named_for_what_they_are() {
        assert_eq!(check(b"#!/bin/sh\n"), Err(ElfProblem::NotElf));
        assert_eq!(with(4, &[1]), Err(ElfProblem::WrongFormat));
        assert_eq!(with(5, &[2]), Err(ElfProblem::WrongFormat));
        assert_eq!(with(16, &[2, 0]), Err(ElfProblem::NotShared(2)));
        let expected = host_machine();
        assert_eq!(with(18, &[8, 0]), Err(ElfProblem::WrongMachine { found: 8, expected }));
    }

    #[test]
    fn lying_program_headers_are_refused() {
        assert_eq!(with(54, &[55]), Err(ElfProblem::BadProgramHeaders));
        assert_eq!(with(56, &[0]), Err(ElfProblem::BadProgramHeaders));
        assert!(matches!(with(32, &u64::MAX.to_le_bytes()), Err(ElfProblem::BadProgramHeaders)));
        assert!(matches!(with(56, &[0xff, 0xff]), Err(ElfProblem::Truncated { .. })));
        let file_size_of_first = EHDR_SIZE + 32;
        assert_eq!(with(file_size_of_first, &[0xff; 8]), Err(ElfProblem::BadProgramHeaders));
        assert_eq!(with(EHDR_SIZE + 56, &[0]), Err(ElfProblem::BadProgramHeaders), "no PT_DYNAMIC");
    }
}
