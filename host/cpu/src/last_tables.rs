//! The tables that map single pages, remembered by what they map: a walk that finds one reads one entry.
//!
//! What led to such a table are entries of tables whose changes concern everything, and they are watched: such a
//! change flushes this cache with all else that was derived from page tables. A change of PMP does so too. So it is as
//! right as a walk.

/// Bytes that one table maps, as a power of two: the same in Sv39, Sv48 and Sv57. Privileged §12.4.
const STRETCH_SHIFT: u32 = 21;
const SLOTS: usize = 64;

#[derive(Clone, Copy)]
struct Slot {
    /// Never 0: that is bare, which has no tables.
    satp: u64,
    stretch: u64,
    table: u64,
}

impl Slot {
    const EMPTY: Slot = Slot { satp: 0, stretch: 0, table: 0 };
}

/// Of one hart.
pub(crate) struct LastTables {
    slots: [Slot; SLOTS],
    used: bool,
}

impl LastTables {
    pub(crate) const fn new() -> LastTables {
        LastTables { slots: [Slot::EMPTY; SLOTS], used: false }
    }

    fn index(stretch: u64) -> usize {
        stretch as usize % SLOTS
    }

    /// Guest physical address of the table for `va`, if it is known. All of it is in RAM, and walks may read it.
    #[inline]
    pub(crate) fn find(&self, satp: u64, va: u64) -> Option<u64> {
        let stretch = va >> STRETCH_SHIFT;
        let slot = &self.slots[LastTables::index(stretch)];
        (slot.stretch == stretch && slot.satp == satp).then_some(slot.table)
    }

    /// A walk by `satp` for `va` came to this table, all of which walks may read.
    pub(crate) fn install(&mut self, satp: u64, va: u64, table: u64) {
        let stretch = va >> STRETCH_SHIFT;
        self.slots[LastTables::index(stretch)] = Slot { satp, stretch, table };
        self.used = true;
    }

    /// An entry above such a table changed, or what may be read did.
    pub(crate) fn flush(&mut self) {
        if std::mem::take(&mut self.used) {
            self.slots = [Slot::EMPTY; SLOTS];
        }
    }
}
