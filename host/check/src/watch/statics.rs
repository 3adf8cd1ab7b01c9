//! The plugin's writable static memory, looked at after each call.
#![expect(unsafe_code, reason = "reads the memory of a loaded library")]

use super::{Watch, load_bias};
use crate::{
    elf::Elf,
    world::{Breach, World},
};

/// Copies of the writable segments.
pub(crate) struct Statics {
    bias: u64,
    ranges: Vec<(u64, u64)>,
    before: Vec<Vec<u8>>,
    /// The first change: its virtual address in the file.
    pub(crate) changed: Option<u64>,
}

impl Statics {
    /// `None`: the library is not found in this process's memory.
    pub(crate) fn of(elf: &Elf<'_>, file_name: &str) -> Option<Self> {
        let ranges = elf.writable();
        let mut this = Self { bias: load_bias(file_name)?, ranges, before: Vec::new(), changed: None };
        this.before = this.copies();
        Some(this)
    }

    fn copies(&self) -> Vec<Vec<u8>> {
        let copy = |(vaddr, len): &(u64, u64)| {
            let from = (self.bias + vaddr) as *const u8;
            // SAFETY: a writable segment of the library that is loaded there, and no code of it runs now.
            unsafe { core::slice::from_raw_parts(from, *len as usize) }.to_vec()
        };
        self.ranges.iter().map(copy).collect()
    }
}

impl Watch for Statics {
    fn after(&mut self, _world: &World) -> Option<Breach> {
        if self.changed.is_some() {
            return None;
        }
        let after = self.copies();
        for ((now, before), (vaddr, _)) in after.iter().zip(&self.before).zip(&self.ranges) {
            if now != before
                && let Some(at) = now.iter().zip(before).position(|(now, before)| now != before)
            {
                self.changed = Some(vaddr + at as u64);
            }
        }
        None
    }
}
