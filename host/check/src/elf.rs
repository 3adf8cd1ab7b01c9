//! What the dynamic linker sees of a plugin: writable segments, and the slots that hold the addresses of imports.

/// A plugin's file, already known to be a whole ELF library for this machine.
pub(crate) struct Elf<'a> {
    bytes: &'a [u8],
    segments: Vec<Segment>,
}

struct Segment {
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    file_size: u64,
    memory_size: u64,
}

/// A place in memory that holds the address of an imported function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) name: String,
    pub(crate) vaddr: u64,
}

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PF_W: u32 = 2;
const SYMBOL_BYTES: u64 = 24;
const RELA_BYTES: u64 = 24;
// Tags of the dynamic section.
const STRTAB: u64 = 5;
const SYMTAB: u64 = 6;
const RELA: u64 = 7;
const RELA_SIZE: u64 = 8;
const PLT_RELA_SIZE: u64 = 2;
const PLT_RELA: u64 = 23;

/// Relocations that put a symbol's address in a slot: plain, GOT, PLT.
#[cfg(target_arch = "x86_64")]
const ADDRESS_KINDS: [u32; 3] = [1, 6, 7];
#[cfg(not(target_arch = "x86_64"))]
const ADDRESS_KINDS: [u32; 3] = [257, 1025, 1026];

impl<'a> Elf<'a> {
    /// `None`: it is not what it was when it was loaded.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let at = usize::try_from(u64_at(bytes, 32)?).ok()?;
        let count = usize::from(u16_at(bytes, 56)?);
        let segment = |index: usize| {
            let head = bytes.get(at + 56 * index..at + 56 * (index + 1))?;
            Some(Segment {
                kind: u32_at(head, 0)?,
                flags: u32_at(head, 4)?,
                offset: u64_at(head, 8)?,
                vaddr: u64_at(head, 16)?,
                file_size: u64_at(head, 32)?,
                memory_size: u64_at(head, 40)?,
            })
        };
        let segments = (0..count).map(segment).collect::<Option<Vec<_>>>()?;
        Some(Self { bytes, segments })
    }

    /// Virtual address and length of the memory that the plugin's code may write.
    pub(crate) fn writable(&self) -> Vec<(u64, u64)> {
        let writable = |s: &&Segment| s.kind == PT_LOAD && s.flags & PF_W != 0;
        self.segments.iter().filter(writable).map(|s| (s.vaddr, s.memory_size)).collect()
    }

    fn at(&self, vaddr: u64) -> Option<&'a [u8]> {
        let holds = |s: &&Segment| {
            s.kind == PT_LOAD && vaddr.checked_sub(s.vaddr).is_some_and(|inside| inside < s.file_size)
        };
        let segment = self.segments.iter().find(holds)?;
        self.bytes.get(usize::try_from(vaddr - segment.vaddr + segment.offset).ok()?..)
    }

    fn dynamic(&self, wanted: u64) -> Option<u64> {
        let segment = self.segments.iter().find(|s| s.kind == PT_DYNAMIC)?;
        let from = usize::try_from(segment.offset).ok()?;
        let entries = self.bytes.get(from..from + usize::try_from(segment.file_size).ok()?)?;
        entries.chunks_exact(16).find(|entry| u64_at(entry, 0) == Some(wanted)).and_then(|e| u64_at(e, 8))
    }

    /// Every slot with the address of a symbol that other libraries define.
    pub(crate) fn import_slots(&self) -> Vec<Slot> {
        let tables = [(RELA, RELA_SIZE), (PLT_RELA, PLT_RELA_SIZE)];
        tables.iter().flat_map(|(table, size)| self.slots_of(*table, *size).unwrap_or_default()).collect()
    }

    fn slots_of(&self, table: u64, size: u64) -> Option<Vec<Slot>> {
        let size = self.dynamic(size)?;
        let rela = self.at(self.dynamic(table)?)?.get(..usize::try_from(size).ok()?)?;
        let (symbols, strings) = (self.dynamic(SYMTAB)?, self.dynamic(STRTAB)?);
        let slot = |entry: &[u8]| {
            let (vaddr, info) = (u64_at(entry, 0)?, u64_at(entry, 8)?);
            if !ADDRESS_KINDS.contains(&(info as u32)) {
                return None;
            }
            let symbol = self.at(symbols + SYMBOL_BYTES * (info >> 32))?;
            let undefined = u16_at(symbol, 6)? == 0;
            let name = self.at(strings + u64::from(u32_at(symbol, 0)?))?;
            let end = name.iter().position(|byte| *byte == 0)?;
            let name = String::from_utf8_lossy(&name[..end]).into_owned();
            (undefined && !name.is_empty()).then_some(Slot { name, vaddr })
        };
        Some(rela.chunks_exact(RELA_BYTES as usize).filter_map(slot).collect())
    }

    /// The name of the static at a virtual address, if the file has its symbols.
    pub(crate) fn symbol_at(&self, vaddr: u64) -> Option<String> {
        let table = usize::try_from(u64_at(self.bytes, 40)?).ok()?;
        let count = usize::from(u16_at(self.bytes, 60)?);
        let section = |index: usize| self.bytes.get(table + 64 * index..table + 64 * (index + 1));
        let content = |head: &[u8]| {
            let from = usize::try_from(u64_at(head, 24)?).ok()?;
            self.bytes.get(from..from + usize::try_from(u64_at(head, 32)?).ok()?)
        };
        const SHT_SYMTAB: u32 = 2;
        let head = (0..count).filter_map(section).find(|head| u32_at(head, 4) == Some(SHT_SYMTAB))?;
        let names = content(section(usize::try_from(u32_at(head, 40)?).ok()?)?)?;
        content(head)?.chunks_exact(SYMBOL_BYTES as usize).find_map(|symbol| {
            let (start, size) = (u64_at(symbol, 8)?, u64_at(symbol, 16)?);
            if u16_at(symbol, 6)? == 0 || vaddr.checked_sub(start).is_none_or(|inside| inside >= size) {
                return None;
            }
            let name = names.get(usize::try_from(u32_at(symbol, 0)?).ok()?..)?;
            let end = name.iter().position(|byte| *byte == 0)?;
            Some(demangled(&String::from_utf8_lossy(&name[..end])))
        })
    }
}

/// The path in a mangled name, as far as its parts are spelt out in it.
fn demangled(name: &str) -> String {
    let Some(mut rest) = name.strip_prefix("_ZN").or_else(|| name.strip_prefix("_RN")) else {
        return name.to_owned();
    };
    let mut parts = Vec::new();
    while let Some(from) = rest.find(|c: char| c.is_ascii_digit()) {
        let digits = rest[from..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - from);
        let Ok(len) = rest[from..from + digits].parse::<usize>() else { break };
        let Some(part) = rest.get(from + digits..from + digits + len) else { break };
        let is_hash = part.len() == 17 && part.starts_with('h');
        if !is_hash && len > 0 {
            parts.push(part.trim_start_matches('_'));
        }
        rest = &rest[from + digits + len..];
        if rest.starts_with('E') {
            break;
        }
    }
    if parts.is_empty() { name.to_owned() } else { parts.join("::") }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_le_bytes(*chunk))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use super::demangled;

    #[test]
    fn names_are_made_readable() {
        assert_eq!(demangled("_ZN3bad6sharer4HITS17h0123456789abcdefE"), "bad::sharer::HITS");
        assert_eq!(demangled("counter"), "counter");
    }
}
