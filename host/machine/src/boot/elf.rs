//! ELF64 for RISC-V, as far as loading needs it. System V ABI, chapters 4 and 5. Every number in the file is hostile.

use super::Symbol;
use std::ops::Range;
use thiserror::Error;

/// Why an ELF file cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ElfError {
    /// The file ends inside a structure.
    #[error("the file ends inside its {0}")]
    Truncated(&'static str),
    /// Not 64-bit.
    #[error("it is a 32-bit ELF file, and the harts are RV64")]
    Class,
    /// Not little-endian.
    #[error("it is a big-endian ELF file")]
    Endian,
    /// For another machine.
    #[error("it is an ELF file for {0}, not for RISC-V")]
    Machine(String),
    /// An object file, a core dump.
    #[error("it is {0}, not an executable")]
    Type(&'static str),
    /// Program headers of another size.
    #[error("its program headers have {0} bytes each instead of 56")]
    HeaderSize(u16),
    /// Nothing to load.
    #[error("it has no segment to load")]
    NoSegments,
    /// A segment contradicts itself.
    #[error("its segment {index} {why}")]
    Segment {
        /// Program header.
        index: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// Two segments at one address.
    #[error("two of its segments overlap at {0:#x}")]
    Overlap(u64),
    /// It starts where nothing is loaded.
    #[error("its entry point {0:#x} is in no segment")]
    Entry(u64),
}

impl ElfError {
    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Class => Some("build it with -march=rv64gc -mabi=lp64d"),
            Self::Machine(_) | Self::Endian => Some("build it with a riscv64 cross compiler"),
            Self::Type(_) | Self::NoSegments => {
                Some("link it: riscv64-linux-gnu-ld -T script.ld -o program.elf program.o")
            }
            Self::Truncated(_) | Self::Segment { .. } => Some("was the download or the build cut short?"),
            Self::Overlap(_) | Self::Entry(_) | Self::HeaderSize(_) => {
                Some("check its linker script with readelf -lW")
            }
        }
    }
}

const EHDR_SIZE: usize = 64;
const PHDR_SIZE: u16 = 56;
const SHDR_SIZE: u16 = 64;
const SYM_SIZE: usize = 24;
const EM_RISCV: u16 = 243;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const PT_LOAD: u32 = 1;
const SHT_SYMTAB: u32 = 2;
const SHF_EXECINSTR: u64 = 4;
const STT_OBJECT: u8 = 1;
const STT_FUNC: u8 = 2;
/// Longer names are mangled beyond reading.
const MAX_NAME: usize = 512;

/// A checked file header.
pub(super) struct Elf<'a> {
    bytes: &'a [u8],
    entry: u64,
    position_independent: bool,
    segments: Vec<Segment>,
}

struct Segment {
    index: usize,
    vaddr: u64,
    paddr: u64,
    memory_size: u64,
    file: Range<usize>,
}

/// Where everything goes.
pub(super) struct Layout {
    pub(super) segments: Vec<Load>,
    /// Physical.
    pub(super) entry: u64,
    /// From the first to the last byte.
    pub(super) span: Range<u64>,
    /// Added to the addresses of symbols.
    pub(super) bias: u64,
}

pub(super) struct Load {
    pub(super) range: Range<u64>,
    pub(super) file: Range<usize>,
}

impl<'a> Elf<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, ElfError> {
        if bytes.len() < EHDR_SIZE {
            return Err(ElfError::Truncated("header"));
        }
        let short = |at| u16_at(bytes, at).expect("inside the header");
        let long = |at| u64_at(bytes, at).expect("inside the header");
        match (bytes[4], bytes[5]) {
            (2, 1) => {}
            (2, _) => return Err(ElfError::Endian),
            // The machine is at the same place in both classes: name the greater mistake.
            (_, 1) if short(18) == EM_RISCV => return Err(ElfError::Class),
            (_, _) => return Err(ElfError::Machine(machine_name(short(18)))),
        }
        if short(18) != EM_RISCV {
            return Err(ElfError::Machine(machine_name(short(18))));
        }
        let position_independent = match short(16) {
            ET_EXEC => false,
            ET_DYN => true,
            1 => return Err(ElfError::Type("an object file")),
            4 => return Err(ElfError::Type("a core dump")),
            _ => return Err(ElfError::Type("of an unknown type")),
        };
        let segments = program_headers(bytes, long(32), short(54), short(56))?;
        Ok(Self { bytes, entry: long(24), position_independent, segments })
    }

    /// Physical addresses as the file says. A position-independent file that is linked below RAM (OpenSBI's, at 0) is
    /// moved to its start and relocates itself.
    pub(super) fn layout(&self, ram_start: u64) -> Result<Layout, ElfError> {
        let lowest = self.segments.iter().map(|s| s.paddr).min().ok_or(ElfError::NoSegments)?;
        let bias = if self.position_independent && lowest < ram_start { ram_start - lowest } else { 0 };
        let mut segments = Vec::with_capacity(self.segments.len());
        for segment in &self.segments {
            let beyond = ElfError::Segment { index: segment.index, why: "wraps around the address space" };
            let start = segment.paddr.checked_add(bias);
            let range = start.and_then(|start| Some(start..start.checked_add(segment.memory_size)?));
            segments.push(Load { range: range.ok_or(beyond)?, file: segment.file.clone() });
        }
        let entry = self
            .physical_entry()
            .and_then(|entry| entry.checked_add(bias))
            .ok_or(ElfError::Entry(self.entry))?;
        segments.sort_by_key(|load| load.range.start);
        if let Some(pair) = segments.windows(2).find(|pair| pair[1].range.start < pair[0].range.end) {
            return Err(ElfError::Overlap(pair[1].range.start));
        }
        let end = segments.last().map_or(0, |load| load.range.end);
        Ok(Layout { span: lowest + bias..end, segments, entry, bias })
    }

    /// The entry point is virtual; harts start without translation.
    fn physical_entry(&self) -> Option<u64> {
        let home = |segment: &&Segment| {
            self.entry.checked_sub(segment.vaddr).is_some_and(|offset| offset < segment.memory_size)
        };
        let segment = self.segments.iter().find(home)?;
        segment.paddr.checked_add(self.entry - segment.vaddr)
    }

    /// Named addresses. A broken symbol table costs only names in messages.
    pub(super) fn symbols(&self, bias: u64) -> Vec<Symbol> {
        self.symbol_table().map(|table| table.read(bias)).unwrap_or_default()
    }

    fn symbol_table(&self) -> Option<SymbolTable<'a>> {
        let table_offset = usize::try_from(u64_at(self.bytes, 40)?).ok()?;
        if u16_at(self.bytes, 58)? != SHDR_SIZE {
            return None;
        }
        let section = |index: usize| {
            let start = table_offset.checked_add(index.checked_mul(SHDR_SIZE.into())?)?;
            self.bytes.get(start..start.checked_add(SHDR_SIZE.into())?)
        };
        let count = usize::from(u16_at(self.bytes, 60)?);
        let symtab = (0..count).filter_map(section).find(|s| u32_at(s, 4) == Some(SHT_SYMTAB))?;
        let strings = section(usize::try_from(u32_at(symtab, 40)?).ok()?)?;
        let code = (0..count).map(|index| section(index).and_then(code).unwrap_or_default()).collect();
        Some(SymbolTable { symbols: self.content(symtab)?, strings: self.content(strings)?, code })
    }

    fn content(&self, section: &[u8]) -> Option<&'a [u8]> {
        file_range(self.bytes, u64_at(section, 24)?, u64_at(section, 32)?).map(|range| &self.bytes[range])
    }
}

fn program_headers(bytes: &[u8], offset: u64, size: u16, count: u16) -> Result<Vec<Segment>, ElfError> {
    if count == 0 {
        return Err(ElfError::NoSegments);
    }
    if size != PHDR_SIZE {
        return Err(ElfError::HeaderSize(size));
    }
    let table = file_range(bytes, offset, u64::from(count) * u64::from(PHDR_SIZE));
    let table = &bytes[table.ok_or(ElfError::Truncated("program headers"))?];
    let mut segments = Vec::new();
    for (index, header) in table.chunks_exact(PHDR_SIZE.into()).enumerate() {
        segments.extend(segment(bytes, index, header)?);
    }
    // A file of a few bytes could ask for the same ones a thousand times.
    let total: usize = segments.iter().map(|segment| segment.file.len()).fold(0, usize::saturating_add);
    if total > bytes.len().saturating_mul(2) {
        return Err(ElfError::Segment { index: 0, why: "and others load the same bytes again and again" });
    }
    if segments.is_empty() { Err(ElfError::NoSegments) } else { Ok(segments) }
}

/// `None` if it occupies no memory.
fn segment(bytes: &[u8], index: usize, header: &[u8]) -> Result<Option<Segment>, ElfError> {
    let long = |at| u64_at(header, at).expect("inside the header");
    let wrong = |why| ElfError::Segment { index, why };
    let (file_size, memory_size) = (long(32), long(40));
    if u32_at(header, 0) != Some(PT_LOAD) || memory_size == 0 {
        return Ok(None);
    }
    if file_size > memory_size {
        return Err(wrong("has more bytes in the file than in memory"));
    }
    let file =
        file_range(bytes, long(8), file_size).ok_or_else(|| wrong("lies beyond the end of the file"))?;
    Ok(Some(Segment { index, vaddr: long(16), paddr: long(24), memory_size, file }))
}

/// Where a section is, if it holds code.
fn code(section: &[u8]) -> Option<Range<u64>> {
    let (flags, start, size) = (u64_at(section, 8)?, u64_at(section, 16)?, u64_at(section, 32)?);
    (flags & SHF_EXECINSTR != 0).then(|| start..start.saturating_add(size))
}

struct SymbolTable<'a> {
    symbols: &'a [u8],
    strings: &'a [u8],
    /// By section; of one without code, nothing.
    code: Vec<Range<u64>>,
}

impl SymbolTable<'_> {
    fn read(&self, bias: u64) -> Vec<Symbol> {
        self.symbols.chunks_exact(SYM_SIZE).filter_map(|symbol| self.symbol(symbol, bias)).collect()
    }

    /// Functions, objects and labels that are defined and have a name for people.
    fn symbol(&self, symbol: &[u8], bias: u64) -> Option<Symbol> {
        let kind = symbol.get(4)? & 0xf;
        let section = u16_at(symbol, 6)?;
        if kind > STT_FUNC || section == 0 {
            return None;
        }
        let name = self.strings.get(usize::try_from(u32_at(symbol, 0)?).ok()?..)?;
        let name = &name[..name.len().min(MAX_NAME)];
        let name = &name[..name.iter().position(|byte| *byte == 0)?];
        // Mapping symbols and local labels would hide the function around them. RISC-V ELF psABI, "Mapping Symbol".
        if name.is_empty() || name.starts_with(b"$") || name.starts_with(b".L") {
            return None;
        }
        let address = u64_at(symbol, 8)?;
        // What assembly defines has no type; what marks an end, as `_etext` does, is behind all code.
        let is_in_code = self.code.get(usize::from(section)).is_some_and(|code| code.contains(&address));
        Some(Symbol {
            address: address.wrapping_add(bias),
            name: String::from_utf8_lossy(name).into_owned(),
            is_function: is_in_code && kind != STT_OBJECT,
        })
    }
}

fn file_range(bytes: &[u8], offset: u64, size: u64) -> Option<Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    (end <= bytes.len()).then_some(start..end)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn machine_name(machine: u16) -> String {
    match machine {
        3 => "x86".to_owned(),
        8 => "MIPS".to_owned(),
        20 | 21 => "PowerPC".to_owned(),
        22 => "s390".to_owned(),
        40 => "Arm".to_owned(),
        62 => "x86-64".to_owned(),
        183 => "AArch64".to_owned(),
        243 => "RISC-V".to_owned(),
        258 => "LoongArch".to_owned(),
        other => format!("machine {other}"),
    }
}
