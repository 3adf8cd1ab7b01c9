//! The plugin's writable static memory, looked at after calls.
#![expect(unsafe_code, reason = "reads the memory of a loaded library")]

use super::{Watch, load_bias};
use crate::{
    elf::Elf,
    world::{Breach, World},
};

/// A change that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    /// Its virtual address in the file.
    pub(crate) vaddr: u64,
    /// The call behind which it was found, from 1 on.
    pub(crate) call: u64,
}

/// Behind which calls to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Looks {
    /// One in so many.
    Every(u64),
    /// Each, from this one on.
    From(u64),
}

impl Looks {
    fn includes(self, call: u64) -> bool {
        match self {
            Self::Every(calls) => call.is_multiple_of(calls),
            Self::From(first) => call >= first,
        }
    }
}

/// Copies of the writable segments.
pub(crate) struct Statics {
    bias: u64,
    ranges: Vec<(u64, u64)>,
    before: Vec<Vec<u8>>,
    looks: Looks,
    calls: u64,
    /// The first change.
    pub(crate) changed: Option<Changed>,
}

impl Statics {
    /// `None`: the library is not found in this process's memory.
    pub(crate) fn of(elf: &Elf<'_>, file_name: &str, looks: Looks) -> Option<Self> {
        let (bias, ranges) = (load_bias(file_name)?, elf.writable());
        let mut this = Self { bias, ranges, before: Vec::new(), looks, calls: 0, changed: None };
        this.before = (0..this.ranges.len()).map(|range| this.now(range).to_vec()).collect();
        Some(this)
    }

    /// A segment as it is.
    fn now(&self, range: usize) -> &[u8] {
        let (vaddr, len) = self.ranges[range];
        // SAFETY: a writable segment of the library that is loaded there, and no code of it runs while this is
        // borrowed.
        unsafe { core::slice::from_raw_parts((self.bias + vaddr) as *const u8, len as usize) }
    }

    /// Look now.
    pub(crate) fn look(&mut self) {
        let first = (0..self.ranges.len()).find_map(|range| {
            let (now, before) = (self.now(range), self.before[range].as_slice());
            // All at once first: it is mostly the same, and byte by byte is slow.
            let differs = now != before;
            let at = differs.then(|| now.iter().zip(before).position(|(now, before)| now != before))??;
            Some(self.ranges[range].0 + at as u64)
        });
        self.changed = self.changed.or(first.map(|vaddr| Changed { vaddr, call: self.calls }));
    }
}

impl Watch for Statics {
    fn after(&mut self, _world: &World) -> Option<Breach> {
        self.calls += 1;
        if self.changed.is_none() && self.looks.includes(self.calls) {
            self.look();
        }
        None
    }
}
