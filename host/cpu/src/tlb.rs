//! What a hart remembers of address translation: soft TLB and jump cache.
//!
//! Both only repeat what the page tables, PMP and `mstatus` say at this moment. Whatever changes one of these drops
//! what was derived from it at once, so their content can never be seen (DESIGN §5).

use crate::hart::Privilege;

/// Slots of each bank for loads, and as many for stores.
const SLOTS: usize = 512;
/// Slots of each bank for instruction fetch.
const FETCH_SLOTS: usize = 128;
/// Slots of the jump cache.
const JUMP_SLOTS: usize = 8192;
const BANKS: usize = 4;
const PAGE: u64 = 4096;

/// A view of memory: what a privilege mode may reach. Switching between banks costs nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub(crate) enum Bank {
    User,
    Supervisor,
    /// S-mode with `mstatus.SUM`: user pages can be read and written.
    SupervisorSum,
    Machine,
}

impl Bank {
    fn of_fetch(privilege: Privilege) -> Bank {
        match privilege {
            Privilege::User => Bank::User,
            Privilege::Supervisor => Bank::Supervisor,
            Privilege::Machine => Bank::Machine,
        }
    }
}

/// A virtual page and where it lies in RAM, as an offset from its base.
#[derive(Clone, Copy)]
struct Slot {
    tag: u64,
    offset: u64,
}

impl Slot {
    /// A slot that no address that selects it can match.
    const fn empty(index: usize) -> Slot {
        Slot { tag: (index as u64 ^ 1) * PAGE, offset: 0 }
    }

    /// The offset of `size` bytes at `va` if they lie in this slot's page.
    #[inline(always)]
    fn hit(self, va: u64, size: u64) -> Option<u64> {
        let within = va ^ self.tag;
        (within <= PAGE - size).then(|| self.offset.wrapping_add(within))
    }
}

const fn empty<const N: usize>() -> [Slot; N] {
    let mut slots = [Slot { tag: 0, offset: 0 }; N];
    let mut index = 0;
    while index < N {
        slots[index] = Slot::empty(index);
        index += 1;
    }
    slots
}

static EMPTY: [Slot; SLOTS] = empty();
static EMPTY_FETCH: [Slot; FETCH_SLOTS] = empty();

/// Where the decoded block for a virtual pc lies.
#[derive(Clone, Copy)]
struct JumpSlot {
    pc: u64,
    /// Valid only while it equals the hart's current key.
    key: u32,
    /// Start in the op arena and number of ops: `start << LEN_BITS | len`.
    span: u32,
}

/// Ops of a block, at most.
pub(crate) const MAX_BLOCK: usize = 32;
const LEN_BITS: u32 = 6;
/// Ops that a span can address.
pub(crate) const MAX_ARENA: usize = 1 << (32 - LEN_BITS);

/// A run of ops in the arena.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

/// The private caches of one hart.
pub(crate) struct Caches {
    read: Box<[Slot; SLOTS * BANKS]>,
    write: Box<[Slot; SLOTS * BANKS]>,
    fetch: Box<[Slot; FETCH_SLOTS * BANKS]>,
    jumps: Box<[JumpSlot; JUMP_SLOTS]>,
    /// First slot of the bank that loads and stores use.
    data_base: usize,
    fetch_base: usize,
    /// Current key, and the key of each bank. Giving a bank a new key empties its part of the jump cache.
    key: u32,
    keys: [u32; BANKS],
    next_key: u32,
    /// Banks in which something was installed since they were last flushed.
    used: [bool; BANKS],
}

impl Caches {
    pub(crate) fn new() -> Caches {
        let mut caches = Caches {
            read: Box::new([Slot::empty(0); SLOTS * BANKS]),
            write: Box::new([Slot::empty(0); SLOTS * BANKS]),
            fetch: Box::new([Slot::empty(0); FETCH_SLOTS * BANKS]),
            jumps: Box::new([JumpSlot { pc: 0, key: 0, span: 0 }; JUMP_SLOTS]),
            data_base: 0,
            fetch_base: 0,
            key: 0,
            keys: [0; BANKS],
            next_key: 0,
            used: [true; BANKS],
        };
        caches.flush();
        caches
    }

    /// Chooses the banks for fetch and for data.
    #[inline]
    pub(crate) fn select(&mut self, privilege: Privilege, data: Bank) {
        let fetch = Bank::of_fetch(privilege);
        self.data_base = data as usize * SLOTS;
        self.fetch_base = fetch as usize * FETCH_SLOTS;
        self.key = self.keys[fetch as usize];
    }

    #[inline(always)]
    fn slot(&self, va: u64) -> usize {
        (((va / PAGE) as usize & (SLOTS - 1)) + self.data_base) & (SLOTS * BANKS - 1)
    }

    fn fetch_slot(&self, va: u64) -> usize {
        (((va / PAGE) as usize & (FETCH_SLOTS - 1)) + self.fetch_base) & (FETCH_SLOTS * BANKS - 1)
    }

    /// RAM offset of a load, if it is known and lies in one page.
    #[inline(always)]
    pub(crate) fn load(&self, va: u64, size: u64) -> Option<u64> {
        self.read[self.slot(va)].hit(va, size)
    }

    /// RAM offset of a store, if it is known, lies in one page and nobody watches the page.
    #[inline(always)]
    pub(crate) fn store(&self, va: u64, size: u64) -> Option<u64> {
        self.write[self.slot(va)].hit(va, size)
    }

    /// RAM offset of the halfword at `pc`, if it is known.
    pub(crate) fn fetch(&self, pc: u64) -> Option<u64> {
        self.fetch[self.fetch_slot(pc)].hit(pc, 2)
    }

    /// The current bank may load from the page of `va`, which lies at `offset`'s page.
    pub(crate) fn install_load(&mut self, va: u64, offset: u64) {
        let slot = self.slot(va);
        self.read[slot] = Slot { tag: va & !(PAGE - 1), offset: offset & !(PAGE - 1) };
        self.used[self.data_base / SLOTS] = true;
    }

    /// The current bank may store to the page of `va`.
    pub(crate) fn install_store(&mut self, va: u64, offset: u64) {
        let slot = self.slot(va);
        self.write[slot] = Slot { tag: va & !(PAGE - 1), offset: offset & !(PAGE - 1) };
        self.used[self.data_base / SLOTS] = true;
    }

    /// The current bank may fetch from the page of `va`.
    pub(crate) fn install_fetch(&mut self, va: u64, offset: u64) {
        let slot = self.fetch_slot(va);
        self.fetch[slot] = Slot { tag: va & !(PAGE - 1), offset: offset & !(PAGE - 1) };
        self.used[self.fetch_base / FETCH_SLOTS] = true;
    }

    #[inline(always)]
    fn jump_slot(pc: u64) -> usize {
        (pc >> 1) as usize & (JUMP_SLOTS - 1)
    }

    /// The block at `pc`, if it is known.
    #[inline(always)]
    pub(crate) fn block(&self, pc: u64) -> Option<Span> {
        let slot = &self.jumps[Caches::jump_slot(pc)];
        let hit = slot.pc == pc && slot.key == self.key;
        hit.then_some(Span { start: slot.span >> LEN_BITS, len: slot.span & ((1 << LEN_BITS) - 1) })
    }

    /// Remembers the block at `pc` for the current privilege.
    pub(crate) fn install_block(&mut self, pc: u64, span: Span) {
        let slot = JumpSlot { pc, key: self.key, span: span.start << LEN_BITS | span.len };
        self.jumps[Caches::jump_slot(pc)] = slot;
    }

    /// Drops everything.
    pub(crate) fn flush(&mut self) {
        self.flush_banks(&[Bank::User, Bank::Supervisor, Bank::SupervisorSum, Bank::Machine]);
    }

    /// Drops what was derived from page tables.
    pub(crate) fn flush_translations(&mut self) {
        self.flush_banks(&[Bank::User, Bank::Supervisor, Bank::SupervisorSum]);
    }

    fn flush_banks(&mut self, banks: &[Bank]) {
        for &bank in banks {
            let bank = bank as usize;
            if std::mem::take(&mut self.used[bank]) {
                self.read[bank * SLOTS..][..SLOTS].copy_from_slice(&EMPTY);
                self.write[bank * SLOTS..][..SLOTS].copy_from_slice(&EMPTY);
                self.fetch[bank * FETCH_SLOTS..][..FETCH_SLOTS].copy_from_slice(&EMPTY_FETCH);
            }
        }
        self.drop_blocks();
    }

    /// Drops what was derived from the leaf page-table entry of one page. `executable`: instructions may have come
    /// from it.
    pub(crate) fn flush_page(&mut self, va: u64, executable: bool) {
        for bank in [Bank::User, Bank::Supervisor, Bank::SupervisorSum] {
            let index = (va / PAGE) as usize & (SLOTS - 1);
            self.read[bank as usize * SLOTS + index] = Slot::empty(index);
            self.write[bank as usize * SLOTS + index] = Slot::empty(index);
            let index = (va / PAGE) as usize & (FETCH_SLOTS - 1);
            self.fetch[bank as usize * FETCH_SLOTS + index] = Slot::empty(index);
        }
        if executable {
            self.drop_blocks();
        }
    }

    /// No store may reach the page at this RAM offset by the fast path any more.
    pub(crate) fn forbid_stores_to(&mut self, offset: u64) {
        let page = offset & !(PAGE - 1);
        for (index, slot) in self.write.iter_mut().enumerate() {
            if slot.offset == page {
                *slot = Slot::empty(index & (SLOTS - 1));
            }
        }
    }

    /// No store may use the fast path any more.
    pub(crate) fn forbid_stores(&mut self) {
        for bank in 0..BANKS {
            self.write[bank * SLOTS..][..SLOTS].copy_from_slice(&EMPTY);
        }
    }

    /// Empties the jump cache.
    pub(crate) fn drop_blocks(&mut self) {
        if self.next_key > u32::MAX - 8 {
            // Keys are about to repeat: forget the old ones for real.
            self.jumps.fill(JumpSlot { pc: 0, key: 0, span: 0 });
            self.next_key = 0;
        }
        for key in &mut self.keys {
            self.next_key += 1;
            *key = self.next_key;
        }
        self.key = self.keys[self.fetch_base / FETCH_SLOTS];
    }
}
