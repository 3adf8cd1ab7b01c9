//! Where a guest's writes go: blocks over a base that stays as it was.

use super::{base::Base, sys};
use reprise_machine::DISK_BLOCK_BYTES;
use std::{collections::BTreeMap, fs::File, io, os::unix::fs::FileExt};

/// A block is what is copied up at a guest's first write to it. Small enough for 4 KiB file system blocks, large enough
/// that the table of a full disk stays at one thousandth of it. What recordings pin of an image has the same unit, as
/// a copy reads a whole block.
pub(super) const BLOCK: usize = 16 << 10;
const BLOCK_U64: u64 = BLOCK as u64;
const _: () = assert!(BLOCK_U64 == DISK_BLOCK_BYTES);
/// Blocks kept in memory before the rest goes to a file: 16 MiB, for the whole disk and its life.
const MEMORY_BLOCKS: u32 = 1024;

/// Where the blocks go that are too many for [`MEMORY_BLOCKS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spill {
    /// Into a file without a name.
    File,
    /// Nowhere, all stay in memory: a replay opens no file for writing, and so costs as much memory as the guest writes
    /// blocks.
    Never,
}

/// A base with the guest's writes over it.
pub(super) struct Overlay {
    base: Box<dyn Base>,
    size_bytes: u64,
    /// Which slot holds a block. A block here hides zero ranges and the base.
    slots: BTreeMap<u64, u32>,
    /// Blocks that read as zeroes, as start → end. They hide the base.
    zeroes: BTreeMap<u64, u64>,
    store: Store,
}

/// What an overlay has in place of the base.
pub(super) enum Change<'a> {
    /// New content at an offset.
    Data(u64, &'a [u8]),
    /// Zeroes at an offset, of a length.
    Zeroes(u64, u64),
}

impl Overlay {
    pub(super) fn new(base: Box<dyn Base>, spill: Spill) -> Self {
        let size_bytes = base.size_bytes();
        Self { base, size_bytes, slots: BTreeMap::new(), zeroes: BTreeMap::new(), store: Store::new(spill) }
    }

    /// As [`Base::first_reads`].
    pub(super) fn first_reads(&mut self) -> Vec<(u64, [u8; 32])> {
        self.base.first_reads()
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.zeroes.is_empty()
    }

    pub(super) fn read(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        for piece in pieces(offset, into.len()) {
            let part = &mut into[piece.from..piece.from + piece.len];
            match self.slots.get(&piece.block) {
                Some(&slot) => self.store.read(slot, piece.within, part)?,
                None if self.is_zero(piece.block) => part.fill(0),
                None => self.base.read(piece.block * BLOCK_U64 + piece.within as u64, part)?,
            }
        }
        Ok(())
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        for piece in pieces(offset, data.len()) {
            self.write_piece(&piece, &data[piece.from..piece.from + piece.len])?;
        }
        Ok(())
    }

    /// The range reads as zeroes afterwards.
    pub(super) fn zero(&mut self, offset: u64, len: u64) -> io::Result<()> {
        let end = offset + len;
        let first = offset.div_ceil(BLOCK_U64);
        // The last block of a disk may be short, and is then whole all the same.
        let last = if end == self.size_bytes { end.div_ceil(BLOCK_U64) } else { end / BLOCK_U64 };
        if first >= last {
            return self.write_zero_bytes(offset, end);
        }
        self.write_zero_bytes(offset, first * BLOCK_U64)?;
        self.write_zero_bytes(end.min(last * BLOCK_U64), end)?;
        self.zero_blocks(first, last);
        Ok(())
    }

    /// Everything that differs from the base, by offset. Data comes after zeroes that it hides.
    pub(super) fn for_each_change(
        &self,
        mut visit: impl FnMut(Change<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        for (&start, &end) in &self.zeroes {
            let offset = start * BLOCK_U64;
            visit(Change::Zeroes(offset, (end * BLOCK_U64).min(self.size_bytes) - offset))?;
        }
        let mut block = vec![0; BLOCK];
        for (&index, &slot) in &self.slots {
            let offset = index * BLOCK_U64;
            let len = block_len(self.size_bytes, index);
            self.store.read(slot, 0, &mut block[..len])?;
            visit(Change::Data(offset, &block[..len]))?;
        }
        Ok(())
    }

    fn is_zero(&self, block: u64) -> bool {
        self.zeroes.range(..=block).next_back().is_some_and(|(_, &end)| block < end)
    }

    fn write_piece(&mut self, piece: &Piece, data: &[u8]) -> io::Result<()> {
        if let Some(&slot) = self.slots.get(&piece.block) {
            return self.store.write(slot, piece.within, data);
        }
        let mut block = vec![0; BLOCK];
        let len = block_len(self.size_bytes, piece.block);
        if piece.len < len && !self.is_zero(piece.block) {
            self.base.read(piece.block * BLOCK_U64, &mut block[..len])?;
        }
        block[piece.within..piece.within + data.len()].copy_from_slice(data);
        let slot = self.store.allocate();
        if let Err(error) = self.store.write(slot, 0, &block) {
            self.store.release(slot);
            return Err(error);
        }
        self.slots.insert(piece.block, slot);
        Ok(())
    }

    fn write_zero_bytes(&mut self, offset: u64, end: u64) -> io::Result<()> {
        let len = usize::try_from(end.saturating_sub(offset)).expect("less than two blocks");
        if len > 0 { self.write(offset, &vec![0; len]) } else { Ok(()) }
    }

    fn zero_blocks(&mut self, first: u64, last: u64) {
        let hidden: Vec<(u64, u32)> =
            self.slots.range(first..last).map(|(&block, &slot)| (block, slot)).collect();
        for (block, slot) in hidden {
            self.slots.remove(&block);
            self.store.release(slot);
        }
        // Merge with every range that overlaps or touches.
        let (mut start, mut end) = (first, last);
        while let Some((&s, &e)) = self.zeroes.range(..=end).next_back().filter(|&(_, &e)| e >= start) {
            self.zeroes.remove(&s);
            (start, end) = (start.min(s), end.max(e));
        }
        self.zeroes.insert(start, end);
    }
}

/// How long a block of a disk is: the last one may be short.
pub(super) fn block_len(size_bytes: u64, block: u64) -> usize {
    usize::try_from((size_bytes - block * BLOCK_U64).min(BLOCK_U64)).expect("at most a block")
}

/// The part of a transfer that lies in one block.
pub(super) struct Piece {
    pub(super) block: u64,
    /// Where it begins in the block, and in the transfer.
    pub(super) within: usize,
    pub(super) from: usize,
    pub(super) len: usize,
}

/// Cut a transfer at the borders of blocks.
pub(super) fn pieces(offset: u64, len: usize) -> impl Iterator<Item = Piece> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = offset + from as u64;
        let within = usize::try_from(at % BLOCK_U64).expect("less than a block");
        let piece = Piece { block: at / BLOCK_U64, within, from, len: (BLOCK - within).min(len - from) };
        from += piece.len;
        (piece.len > 0).then_some(piece)
    })
}

/// Slots of one block each: the first ones in memory, the others in a file without a name, so that it goes with us
/// however we end.
struct Store {
    /// Slots below this one are in memory.
    memory_slots: u32,
    memory: Vec<Box<[u8]>>,
    file: Option<File>,
    next: u32,
    free: Vec<u32>,
}

impl Store {
    fn new(spill: Spill) -> Self {
        let memory_slots = match spill {
            Spill::File => MEMORY_BLOCKS,
            Spill::Never => u32::MAX,
        };
        Self { memory_slots, memory: Vec::new(), file: None, next: 0, free: Vec::new() }
    }

    fn allocate(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    fn release(&mut self, slot: u32) {
        self.free.push(slot);
    }

    fn read(&self, slot: u32, within: usize, into: &mut [u8]) -> io::Result<()> {
        if slot < self.memory_slots {
            into.copy_from_slice(&self.memory[slot as usize][within..within + into.len()]);
            return Ok(());
        }
        self.file
            .as_ref()
            .expect("a slot was written before it is read")
            .read_exact_at(into, self.place(slot, within))
    }

    fn write(&mut self, slot: u32, within: usize, data: &[u8]) -> io::Result<()> {
        if slot < self.memory_slots {
            while self.memory.len() <= slot as usize {
                self.memory.push(vec![0; BLOCK].into_boxed_slice());
            }
            self.memory[slot as usize][within..within + data.len()].copy_from_slice(data);
            return Ok(());
        }
        if self.file.is_none() {
            self.file = Some(sys::unnamed_file()?);
        }
        self.file.as_ref().expect("made above").write_all_at(data, self.place(slot, within))
    }

    /// Where in the file.
    fn place(&self, slot: u32, within: usize) -> u64 {
        u64::from(slot - self.memory_slots) * BLOCK_U64 + within as u64
    }
}

#[cfg(test)]
#[path = "overlay_tests.rs"]
mod tests;
