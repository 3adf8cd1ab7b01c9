//! Where a guest's writes go: blocks over a base that stays as it was.

use super::{
    base::Base,
    block_store::{BlockStore, Spill},
};
use reprise_machine::{BlockContent, DISK_BLOCK_BYTES, DiskChanges, DiskError};
use std::{collections::BTreeMap, io, sync::Arc};

/// A block is what is copied up at a guest's first write to it. Small enough for 4 KiB file system blocks, large enough
/// that the table of a full disk stays at one thousandth of it. What recordings pin of an image has the same unit, as
/// a copy reads a whole block.
pub(super) const BLOCK: usize = 16 << 10;
const BLOCK_U64: u64 = BLOCK as u64;
const _: () = assert!(BLOCK_U64 == DISK_BLOCK_BYTES);
/// A base with the guest's writes over it.
pub(super) struct Overlay {
    base: Box<dyn Base>,
    size_bytes: u64,
    /// By number. A block here hides zero ranges and the base. Snapshots share map and blocks.
    blocks: Arc<BTreeMap<u64, Arc<dyn BlockContent>>>,
    /// Blocks that read as zeroes, as start → end. They hide the base.
    zeroes: Arc<BTreeMap<u64, u64>>,
    store: BlockStore,
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
        Self {
            base,
            size_bytes,
            blocks: Arc::default(),
            zeroes: Arc::default(),
            store: BlockStore::new(spill),
        }
    }

    /// As [`Base::first_reads`].
    pub(super) fn first_reads(&mut self) -> Vec<(u64, [u8; 32])> {
        self.base.first_reads()
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.zeroes.is_empty()
    }

    pub(super) fn read(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        for piece in pieces(offset, into.len()) {
            let part = &mut into[piece.from..piece.from + piece.len];
            match self.blocks.get(&piece.block) {
                Some(block) => block.read(piece.within, part).map_err(other)?,
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
        for (&start, &end) in &*self.zeroes {
            let offset = start * BLOCK_U64;
            visit(Change::Zeroes(offset, (end * BLOCK_U64).min(self.size_bytes) - offset))?;
        }
        let mut content = vec![0; BLOCK];
        for (&index, block) in &*self.blocks {
            let offset = index * BLOCK_U64;
            let len = block_len(self.size_bytes, index);
            block.read(0, &mut content[..len]).map_err(other)?;
            visit(Change::Data(offset, &content[..len]))?;
        }
        Ok(())
    }

    /// What is not in the base, for a snapshot.
    pub(super) fn changes(&self) -> DiskChanges {
        let (blocks, zeroes) = (Arc::clone(&self.blocks), Arc::clone(&self.zeroes));
        DiskChanges { blocks, zeroes, first_reads: self.base.seen() }
    }

    /// Exactly these changes. They may come from a file that somebody sent.
    pub(super) fn set_changes(&mut self, changes: &DiskChanges) -> Result<(), String> {
        let blocks = self.size_bytes.div_ceil(BLOCK_U64);
        let outside = |block: u64| format!("block {block} lies outside the disk, which has {blocks}");
        if let Some((&block, _)) = changes.blocks.last_key_value().filter(|(block, _)| **block >= blocks) {
            return Err(outside(block));
        }
        let mut before = 0;
        for (&start, &end) in &*changes.zeroes {
            if start < before || end <= start {
                return Err(format!("the zeroes from block {start} to {end} overlap others, or are none"));
            }
            if end > blocks {
                return Err(outside(end - 1));
            }
            before = end;
        }
        if let Some((&word, _)) =
            changes.first_reads.last_key_value().filter(|(word, _)| **word >= blocks.div_ceil(64))
        {
            return Err(outside(word.saturating_mul(64)));
        }
        self.blocks = Arc::clone(&changes.blocks);
        self.zeroes = Arc::clone(&changes.zeroes);
        self.base.set_seen(Arc::clone(&changes.first_reads));
        Ok(())
    }

    fn is_zero(&self, block: u64) -> bool {
        self.zeroes.range(..=block).next_back().is_some_and(|(_, &end)| block < end)
    }

    fn write_piece(&mut self, piece: &Piece, data: &[u8]) -> io::Result<()> {
        let mut content = vec![0; BLOCK];
        let len = block_len(self.size_bytes, piece.block);
        let zero = self.is_zero(piece.block);
        match Arc::make_mut(&mut self.blocks).get_mut(&piece.block) {
            Some(block) => match Arc::get_mut(block) {
                Some(ours) => return ours.write(piece.within, data).map_err(other),
                // A snapshot has it too.
                None => block.read(0, &mut content).map_err(other)?,
            },
            None if piece.len < len && !zero => {
                self.base.read(piece.block * BLOCK_U64, &mut content[..len])?;
            }
            None => (),
        }
        content[piece.within..piece.within + data.len()].copy_from_slice(data);
        let block = self.store.block(content)?;
        Arc::make_mut(&mut self.blocks).insert(piece.block, block);
        Ok(())
    }

    fn write_zero_bytes(&mut self, offset: u64, end: u64) -> io::Result<()> {
        let len = usize::try_from(end.saturating_sub(offset)).expect("less than two blocks");
        if len > 0 { self.write(offset, &vec![0; len]) } else { Ok(()) }
    }

    fn zero_blocks(&mut self, first: u64, last: u64) {
        let hidden: Vec<u64> = self.blocks.range(first..last).map(|(&block, _)| block).collect();
        if !hidden.is_empty() {
            let blocks = Arc::make_mut(&mut self.blocks);
            hidden.iter().for_each(|block| drop(blocks.remove(block)));
        }
        let zeroes = Arc::make_mut(&mut self.zeroes);
        // Merge with every range that overlaps or touches.
        let (mut start, mut end) = (first, last);
        while let Some((&s, &e)) = zeroes.range(..=end).next_back().filter(|&(_, &e)| e >= start) {
            zeroes.remove(&s);
            (start, end) = (start.min(s), end.max(e));
        }
        zeroes.insert(start, end);
    }
}

fn other(error: DiskError) -> io::Error {
    io::Error::other(error.0)
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

#[cfg(test)]
#[path = "overlay_tests.rs"]
mod tests;
