//! The blocks of a disk's image that a recorded run read, for packs: a sorted table and the blocks behind it.
//!
//! Header of 32 bytes: magic, version (u32), zero (u32), size of the disk in bytes (u64), number of blocks (u64).
//! A row of 56 bytes for each: number of the block (u64), blake3, offset in the file (u64), length (u32), length of
//! what it decompresses to (u32). blake3 of all that. Then the blocks, each a zstd frame, or plain if its two lengths
//! are equal. Integers are little-endian.

use super::Hash;
use std::{
    collections::BTreeMap,
    io::{self, Read, Seek, SeekFrom, Write},
};

const MAGIC: [u8; 8] = *b"\x8dREPBLK\n";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 32;
const ROW_BYTES: usize = 56;
/// zstd's default.
const LEVEL: i32 = 3;
/// No block is longer.
const MAX_BLOCK_BYTES: u32 = 1 << 20;

#[derive(Clone, Copy, Debug)]
struct Row {
    hash: Hash,
    offset: u64,
    length: u32,
    raw_length: u32,
}

/// Writes `blocks` in ascending order; `read` gives the content of each. Returns the length of the file.
pub(super) fn write<F: Write + Seek>(
    out: &mut F,
    size_bytes: u64,
    blocks: &BTreeMap<u64, Hash>,
    mut read: impl FnMut(u64) -> io::Result<Vec<u8>>,
) -> io::Result<u64> {
    let table_bytes = HEADER_BYTES + blocks.len() * ROW_BYTES;
    let mut offset = (table_bytes + 32) as u64;
    out.seek(SeekFrom::Start(offset))?;
    let mut table = Vec::with_capacity(table_bytes);
    table.extend_from_slice(&MAGIC);
    table.extend_from_slice(&VERSION.to_le_bytes());
    table.extend_from_slice(&[0; 4]);
    table.extend_from_slice(&size_bytes.to_le_bytes());
    table.extend_from_slice(&(blocks.len() as u64).to_le_bytes());
    for (&block, hash) in blocks {
        let raw = read(block)?;
        let packed = zstd::bulk::compress(&raw, LEVEL)?;
        let content = if packed.len() < raw.len() { &packed } else { &raw };
        out.write_all(content)?;
        table.extend_from_slice(&block.to_le_bytes());
        table.extend_from_slice(&hash.0);
        table.extend_from_slice(&offset.to_le_bytes());
        for length in [content.len(), raw.len()] {
            let length = u32::try_from(length).map_err(|_| io::Error::other("a block is too long"))?;
            table.extend_from_slice(&length.to_le_bytes());
        }
        offset += content.len() as u64;
    }
    out.rewind()?;
    out.write_all(&table)?;
    out.write_all(&Hash::of(&table).0)?;
    out.seek(SeekFrom::Start(offset))
}

/// Blocks in a file.
pub(crate) struct PackedBlocks<F> {
    file: F,
    /// Where the blocks' file begins in `file`.
    start: u64,
    rows: BTreeMap<u64, Row>,
}

impl<F: Read + Seek> PackedBlocks<F> {
    /// Read the table of a file that lies at `start` of `file` and is `length` bytes long.
    pub(super) fn open(mut file: F, start: u64, length: u64) -> io::Result<Self> {
        let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, format!("blocks of a disk: {why}"));
        file.seek(SeekFrom::Start(start))?;
        let mut header = [0; HEADER_BYTES];
        file.read_exact(&mut header)?;
        if header[..8] != MAGIC || header[8..12] != VERSION.to_le_bytes() {
            return Err(bad("another format"));
        }
        let count = u64_at(&header, 24);
        let table_bytes = count.checked_mul(ROW_BYTES as u64).filter(|&bytes| bytes <= length);
        let table_bytes = table_bytes.ok_or_else(|| bad("the table is longer than the file"))?;
        let mut table = header.to_vec();
        (&mut file).take(table_bytes).read_to_end(&mut table)?;
        let mut hash = [0; 32];
        file.read_exact(&mut hash)?;
        if Hash::of(&table).0 != hash {
            return Err(bad("the table is damaged"));
        }
        let rows = table[HEADER_BYTES..].chunks_exact(ROW_BYTES).map(|row| {
            let mut hash = [0; 32];
            hash.copy_from_slice(&row[8..40]);
            let (length, raw_length) = (u32_at(row, 48), u32_at(row, 52));
            (u64_at(row, 0), Row { hash: Hash(hash), offset: u64_at(row, 40), length, raw_length })
        });
        Ok(Self { file, start, rows: rows.collect() })
    }

    /// Look at the content of every block.
    pub(super) fn check(&mut self) -> io::Result<()> {
        let blocks: Vec<u64> = self.rows.keys().copied().collect();
        blocks.into_iter().try_for_each(|block| self.read(block).map(drop))
    }

    /// The content of a block, checked; nothing if it is not there.
    pub(crate) fn read(&mut self, block: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(&row) = self.rows.get(&block) else { return Ok(None) };
        let bad = |why: &str| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the recording is damaged: block {block} {why}"),
            )
        };
        if row.length > MAX_BLOCK_BYTES || row.raw_length > MAX_BLOCK_BYTES {
            return Err(bad("is too long"));
        }
        let offset = self.start.checked_add(row.offset).ok_or_else(|| bad("lies nowhere"))?;
        self.file.seek(SeekFrom::Start(offset))?;
        let mut content = vec![0; row.length as usize];
        self.file.read_exact(&mut content)?;
        if row.length != row.raw_length {
            content = zstd::bulk::decompress(&content, row.raw_length as usize)
                .map_err(|_| bad("cannot be decompressed"))?;
        }
        if Hash::of(&content) != row.hash {
            return Err(bad("has another hash"));
        }
        Ok(Some(content))
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn content(block: u64) -> Vec<u8> {
        match block % 2 {
            0 => vec![block as u8; 16384],
            _ => (0..16384u64).map(|i| (i.wrapping_mul(2_654_435_761 + block) >> 13) as u8).collect(),
        }
    }

    fn file() -> Vec<u8> {
        let blocks = [3, 4, 900].map(|block| (block, Hash::of(&content(block)))).into();
        let mut out = Cursor::new(Vec::new());
        let length = write(&mut out, 1 << 30, &blocks, |block| Ok(content(block))).unwrap();
        assert_eq!(length, out.get_ref().len() as u64);
        out.into_inner()
    }

    #[test]
    fn blocks_come_back() {
        let file = file();
        let shifted = [&[9; 77][..], &file].concat();
        let mut blocks = PackedBlocks::open(Cursor::new(shifted), 77, file.len() as u64).unwrap();
        for block in [900, 3, 4] {
            assert_eq!(blocks.read(block).unwrap(), Some(content(block)));
        }
        assert_eq!(blocks.read(5).unwrap(), None);
    }

    #[test]
    fn damage_is_told() {
        let good = file();
        for at in (0..good.len()).step_by(7) {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            let Ok(mut blocks) = PackedBlocks::open(Cursor::new(bytes), 0, good.len() as u64) else {
                continue;
            };
            let told = [3, 4, 900].into_iter().any(|block| blocks.read(block).is_err());
            assert!(told, "byte {at}");
        }
        for length in (0..good.len()).step_by(11) {
            let cut = Cursor::new(good[..length].to_vec());
            let Ok(mut blocks) = PackedBlocks::open(cut, 0, length as u64) else { continue };
            assert!(blocks.read(900).is_err(), "cut at {length}");
        }
    }
}
