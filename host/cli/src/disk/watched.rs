//! Which blocks of an image a run has read, and what was in them: so a recording pins what it depends on, and no more.

use super::{
    base::Base,
    overlay::{block_len, pieces},
};
use reprise_machine::{DISK_BLOCK_BYTES, FirstReads};
use std::{io, path::PathBuf, sync::Arc};

/// A base under a recording or a replay: every block is hashed whole at its first read, however little of it was asked
/// for. The order and the set depend on the guest's requests alone. Reading a whole block instead of a part costs
/// little, as a file system comes back for the rest, which is not hashed again.
pub(super) struct Watched {
    base: Box<dyn Base>,
    seen: Arc<FirstReads>,
    /// Not yet told.
    first_reads: Vec<(u64, [u8; 32])>,
    /// For blocks of which only a part is asked for.
    whole: Vec<u8>,
}

impl Watched {
    pub(super) fn new(base: Box<dyn Base>) -> Self {
        Self { base, seen: Arc::default(), first_reads: Vec::new(), whole: Vec::new() }
    }

    /// Read a block for the first time; `part` of it, which begins at `within`, was asked for.
    fn read_first(&mut self, block: u64, within: usize, part: &mut [u8]) -> io::Result<()> {
        let (start, len) = (block * DISK_BLOCK_BYTES, block_len(self.base.size_bytes(), block));
        let hash = if part.len() == len {
            self.base.read(start, part)?;
            blake3::hash(part)
        } else {
            self.whole.resize(len, 0);
            self.base.read(start, &mut self.whole)?;
            part.copy_from_slice(&self.whole[within..within + part.len()]);
            blake3::hash(&self.whole)
        };
        // Not before: a block that could not be read was not read.
        insert(Arc::make_mut(&mut self.seen), block);
        self.first_reads.push((block, *hash.as_bytes()));
        Ok(())
    }
}

impl Base for Watched {
    fn size_bytes(&self) -> u64 {
        self.base.size_bytes()
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        for piece in pieces(offset, into.len()) {
            let part = &mut into[piece.from..piece.from + piece.len];
            if contains(&self.seen, piece.block) {
                self.base.read(offset + piece.from as u64, part)?;
            } else {
                self.read_first(piece.block, piece.within, part)?;
            }
        }
        Ok(())
    }

    fn first_reads(&mut self) -> Vec<(u64, [u8; 32])> {
        std::mem::take(&mut self.first_reads)
    }

    fn seen(&self) -> Arc<FirstReads> {
        Arc::clone(&self.seen)
    }

    fn set_seen(&mut self, seen: Arc<FirstReads>) {
        self.seen = seen;
        self.first_reads.clear();
    }

    fn other_files(&self) -> Vec<PathBuf> {
        self.base.other_files()
    }
}

fn contains(seen: &FirstReads, block: u64) -> bool {
    seen.get(&(block / 64)).is_some_and(|word| word & 1 << (block % 64) != 0)
}

fn insert(seen: &mut FirstReads, block: u64) {
    *seen.entry(block / 64).or_default() |= 1 << (block % 64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_blocks_holds_what_was_put_in() {
        let some = [0, 1, 63, 64, 4095, 4096, 1 << 42, u64::MAX];
        let mut blocks = FirstReads::default();
        for block in some {
            assert!(!contains(&blocks, block), "{block}");
            insert(&mut blocks, block);
            assert!(contains(&blocks, block), "{block}");
        }
        for absent in [2, 62, 65, 4097, 8191, u64::MAX - 1] {
            assert!(!contains(&blocks, absent), "{absent}");
        }
    }
}
