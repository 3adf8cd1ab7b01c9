//! Where an overlay's blocks are: the first ones in memory, the others in a file without a name, so that it goes with
//! us however we end. A block that a snapshot shares is never written again.

use super::{overlay::BLOCK, sys};
use crate::failure::reason;
use reprise_machine::{BlockContent, DiskError};
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

/// Blocks kept in memory before the rest goes to a file: 16 MiB, for the whole disk and its life.
pub(super) const MEMORY_BLOCKS: u32 = 1024;

/// Where the blocks go that are too many for [`MEMORY_BLOCKS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spill {
    /// Into a file without a name.
    File,
    /// Nowhere, all stay in memory: a replay opens no file for writing, and so costs as much memory as the guest writes
    /// blocks.
    Never,
}

/// Makes blocks.
pub(super) struct BlockStore {
    memory_blocks: u32,
    in_memory: Arc<AtomicU32>,
    file: Option<Arc<SpillFile>>,
}

struct SpillFile {
    file: File,
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    next: u32,
    free: Vec<u32>,
}

struct InMemory {
    content: Box<[u8]>,
    in_memory: Arc<AtomicU32>,
}

struct InFile {
    file: Arc<SpillFile>,
    slot: u32,
}

impl BlockStore {
    pub(super) fn new(spill: Spill) -> Self {
        let memory_blocks = match spill {
            Spill::File => MEMORY_BLOCKS,
            Spill::Never => u32::MAX,
        };
        Self { memory_blocks, in_memory: Arc::default(), file: None }
    }

    /// A new block with this content, of [`BLOCK`] bytes.
    pub(super) fn block(&mut self, content: Vec<u8>) -> io::Result<Arc<dyn BlockContent>> {
        assert_eq!(content.len(), BLOCK, "an overlay's block is whole");
        if self.in_memory.load(Ordering::Relaxed) < self.memory_blocks {
            return Ok(in_memory(content, &self.in_memory));
        }
        if self.file.is_none() {
            let file = sys::unnamed_file()?;
            self.file = Some(Arc::new(SpillFile { file, slots: Mutex::default() }));
        }
        let file = Arc::clone(self.file.as_ref().expect("made above"));
        let mut block = InFile { slot: file.allocate(), file };
        block.write_all(0, &content)?;
        Ok(Arc::new(block))
    }

    #[cfg(test)]
    pub(super) fn counts(&self) -> (u32, bool) {
        (self.in_memory.load(Ordering::Relaxed), self.file.is_some())
    }
}

/// A block that comes from a snapshot.
pub(crate) fn loaded_block(mut content: Vec<u8>) -> Arc<dyn BlockContent> {
    // The last of a disk may be short.
    content.resize(BLOCK, 0);
    in_memory(content, &Arc::default())
}

fn in_memory(content: Vec<u8>, count: &Arc<AtomicU32>) -> Arc<dyn BlockContent> {
    count.fetch_add(1, Ordering::Relaxed);
    Arc::new(InMemory { content: content.into_boxed_slice(), in_memory: Arc::clone(count) })
}

impl BlockContent for InMemory {
    fn read(&self, within: usize, into: &mut [u8]) -> Result<(), DiskError> {
        into.copy_from_slice(&self.content[within..within + into.len()]);
        Ok(())
    }

    fn write(&mut self, within: usize, data: &[u8]) -> Result<(), DiskError> {
        self.content[within..within + data.len()].copy_from_slice(data);
        Ok(())
    }
}

impl Drop for InMemory {
    fn drop(&mut self) {
        self.in_memory.fetch_sub(1, Ordering::Relaxed);
    }
}

impl SpillFile {
    fn allocate(&self) -> u32 {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.free.pop().unwrap_or_else(|| {
            slots.next += 1;
            slots.next - 1
        })
    }
}

impl InFile {
    /// Where in the file.
    fn place(&self, within: usize) -> u64 {
        u64::from(self.slot) * BLOCK as u64 + within as u64
    }

    fn write_all(&mut self, within: usize, data: &[u8]) -> io::Result<()> {
        self.file.file.write_all_at(data, self.place(within))
    }
}

impl BlockContent for InFile {
    fn read(&self, within: usize, into: &mut [u8]) -> Result<(), DiskError> {
        self.file.file.read_exact_at(into, self.place(within)).map_err(|error| DiskError(reason(&error)))
    }

    fn write(&mut self, within: usize, data: &[u8]) -> Result<(), DiskError> {
        self.write_all(within, data).map_err(|error| DiskError(reason(&error)))
    }
}

impl Drop for InFile {
    fn drop(&mut self) {
        self.file.slots.lock().unwrap_or_else(PoisonError::into_inner).free.push(self.slot);
    }
}
