//! Memory for translated code: one file without a name, mapped twice, so that no address can be both written and
//! executed.

use std::io;

use memmap2::{Mmap, MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

/// Code by offset: written through one mapping, run through the other.
pub(super) struct CodeMemory {
    write: MmapRaw,
    run: Mmap,
    used: u32,
}

impl CodeMemory {
    pub(super) fn new(size: u32) -> io::Result<CodeMemory> {
        let file = memfd_create("reprise-code", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, size.into())?;
        let write = MmapOptions::new().len(size as usize).map_raw(&file)?;
        // SAFETY: the file has no name and is closed here: nobody but `write` can change it, and code is appended, or
        // patched while none of it runs.
        let run = unsafe { MmapOptions::new().len(size as usize).map_exec(&file)? };
        Ok(CodeMemory { write, run, used: 0 })
    }

    /// Where the code at offset 0 runs.
    pub(super) fn base(&self) -> *const u8 {
        self.run.as_ptr()
    }

    /// Offset of what is appended next.
    pub(super) fn used(&self) -> u32 {
        self.used
    }

    /// Bytes that can be appended.
    pub(super) fn room(&self) -> usize {
        self.run.len() - self.used as usize
    }

    /// Appends code that was made for the offset [`CodeMemory::used`].
    pub(super) fn append(&mut self, code: &[u8]) {
        let at = self.used;
        self.used += code.len() as u32;
        self.patch(at, code);
    }

    /// The number that was appended as four bytes at this offset.
    pub(super) fn number(&self, at: u32) -> u32 {
        let at = at as usize;
        u32::from_le_bytes(*self.run[at..].first_chunk().expect("code does not end in a number"))
    }

    /// Forgets everything behind `offset`.
    pub(super) fn truncate(&mut self, offset: u32) {
        self.used = offset;
    }

    /// Overwrites code, none of which is being run.
    pub(super) fn patch(&mut self, at: u32, code: &[u8]) {
        let at = at as usize;
        assert!(at + code.len() <= self.used as usize, "code is patched where there is code");
        // SAFETY: the range lies in the mapping, which nothing else refers to as Rust memory.
        unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), self.write.as_mut_ptr().add(at), code.len()) };
    }
}
