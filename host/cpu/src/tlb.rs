//! What a hart remembers of address translation: soft TLB and jump cache.
//!
//! Both only repeat what the page tables, PMP and `mstatus` say at this moment. Whatever changes one of these drops
//! what was derived from it at once, so their content can never be seen (DESIGN §5).

use crate::hart::Privilege;

/// Slots of each bank for loads, and as many for stores.
pub(crate) const SLOTS: usize = 512;
/// Slots of each bank for instruction fetch.
const FETCH_SLOTS: usize = 128;
/// Slots of the jump cache.
const JUMP_SLOTS: usize = 8192;
/// Slots of the jump cache of translated code.
pub(crate) const NATIVE_SLOTS: usize = 4096;
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

/// A virtual page and where it lies in the host's memory. Translated code reads it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Slot {
    pub(crate) tag: u64,
    pub(crate) host: u64,
}

/// What loads and what stores may reach directly, by page number.
#[repr(C)]
pub(crate) struct DataBank {
    pub(crate) read: [Slot; SLOTS],
    pub(crate) write: [Slot; SLOTS],
}

impl Slot {
    /// A slot that no address that selects it can match.
    const fn empty(index: usize) -> Slot {
        Slot { tag: (index as u64 ^ 1) * PAGE, host: 0 }
    }

    /// The host's address of `size` bytes at `va` if they lie in this slot's page.
    #[inline(always)]
    fn hit(self, va: u64, size: u64) -> Option<u64> {
        let within = va ^ self.tag;
        (within <= PAGE - size).then(|| self.host.wrapping_add(within))
    }
}

const fn empty<const N: usize>() -> [Slot; N] {
    let mut slots = [Slot { tag: 0, host: 0 }; N];
    let mut index = 0;
    while index < N {
        slots[index] = Slot::empty(index);
        index += 1;
    }
    slots
}

const EMPTY: [Slot; SLOTS] = empty();
const EMPTY_FETCH: [Slot; FETCH_SLOTS] = empty();

/// Where the decoded block, or the translated code, for a virtual pc lies. Translated code reads the latter.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct JumpSlot {
    pub(crate) pc: u64,
    /// Valid only while it equals the hart's current key.
    pub(crate) key: u32,
    /// Start in the op arena and number of ops: `start << LEN_BITS | len`. Or the offset of translated code.
    pub(crate) place: u32,
}

impl JumpSlot {
    const EMPTY: JumpSlot = JumpSlot { pc: 0, key: 0, place: 0 };
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
    data: Box<[DataBank; BANKS]>,
    fetch: Box<[Slot; FETCH_SLOTS * BANKS]>,
    jumps: Box<[JumpSlot; JUMP_SLOTS]>,
    /// Jump cache of translated code, in place because that code finds it by its distance from the registers.
    pub(crate) natives: [JumpSlot; NATIVE_SLOTS],
    /// Where offset 0 of translated code runs.
    pub(crate) code_base: u64,
    /// The host's address of guest RAM.
    ram_host: u64,
    /// The bank that loads and stores use.
    data_bank: usize,
    fetch_base: usize,
    /// Current key, and the key of each bank. Giving a bank a new key empties its part of the jump caches.
    pub(crate) key: u32,
    keys: [u32; BANKS],
    next_key: u32,
    /// Banks in which something was installed since they were last flushed.
    used: [bool; BANKS],
}

impl Caches {
    /// Over RAM that lies at `ram_host` in the host's memory.
    pub(crate) fn new(ram_host: u64) -> Caches {
        let mut caches = Caches {
            data: Box::new([const { DataBank { read: EMPTY, write: EMPTY } }; BANKS]),
            fetch: Box::new([Slot::empty(0); FETCH_SLOTS * BANKS]),
            jumps: Box::new([JumpSlot::EMPTY; JUMP_SLOTS]),
            natives: [JumpSlot::EMPTY; NATIVE_SLOTS],
            code_base: 0,
            ram_host,
            data_bank: 0,
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
        self.data_bank = data as usize;
        self.fetch_base = fetch as usize * FETCH_SLOTS;
        self.key = self.keys[fetch as usize];
    }

    #[inline(always)]
    fn slot(va: u64) -> usize {
        (va / PAGE) as usize & (SLOTS - 1)
    }

    /// The bank that loads and stores use.
    #[inline(always)]
    pub(crate) fn data(&self) -> &DataBank {
        &self.data[self.data_bank & (BANKS - 1)]
    }

    #[inline(always)]
    fn data_mut(&mut self) -> &mut DataBank {
        &mut self.data[self.data_bank & (BANKS - 1)]
    }

    fn fetch_slot(&self, va: u64) -> usize {
        (((va / PAGE) as usize & (FETCH_SLOTS - 1)) + self.fetch_base) & (FETCH_SLOTS * BANKS - 1)
    }

    /// RAM offset of a load, if it is known and lies in one page.
    #[inline(always)]
    pub(crate) fn load(&self, va: u64, size: u64) -> Option<u64> {
        let host = self.data().read[Caches::slot(va)].hit(va, size)?;
        Some(host.wrapping_sub(self.ram_host))
    }

    /// RAM offset of a store, if it is known, lies in one page and nobody watches the page.
    #[inline(always)]
    pub(crate) fn store(&self, va: u64, size: u64) -> Option<u64> {
        let host = self.data().write[Caches::slot(va)].hit(va, size)?;
        Some(host.wrapping_sub(self.ram_host))
    }

    /// RAM offset of the halfword at `pc`, if it is known.
    pub(crate) fn fetch(&self, pc: u64) -> Option<u64> {
        let host = self.fetch[self.fetch_slot(pc)].hit(pc, 2)?;
        Some(host.wrapping_sub(self.ram_host))
    }

    fn page(&self, va: u64, offset: u64) -> Slot {
        Slot { tag: va & !(PAGE - 1), host: self.ram_host.wrapping_add(offset & !(PAGE - 1)) }
    }

    /// The current bank may load from the page of `va`, which lies at `offset`'s page.
    pub(crate) fn install_load(&mut self, va: u64, offset: u64) {
        self.data_mut().read[Caches::slot(va)] = self.page(va, offset);
        self.used[self.data_bank] = true;
    }

    /// The current bank may store to the page of `va`.
    pub(crate) fn install_store(&mut self, va: u64, offset: u64) {
        self.data_mut().write[Caches::slot(va)] = self.page(va, offset);
        self.used[self.data_bank] = true;
    }

    /// The current bank may fetch from the page of `va`.
    pub(crate) fn install_fetch(&mut self, va: u64, offset: u64) {
        let slot = self.fetch_slot(va);
        self.fetch[slot] = self.page(va, offset);
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
        hit.then_some(Span { start: slot.place >> LEN_BITS, len: slot.place & ((1 << LEN_BITS) - 1) })
    }

    /// Remembers the block at `pc` for the current privilege.
    pub(crate) fn install_block(&mut self, pc: u64, span: Span) {
        let slot = JumpSlot { pc, key: self.key, place: span.start << LEN_BITS | span.len };
        self.jumps[Caches::jump_slot(pc)] = slot;
    }

    /// The slot of translated code for this pc.
    #[inline(always)]
    pub(crate) fn native_slot(pc: u64) -> usize {
        (pc >> 1) as usize & (NATIVE_SLOTS - 1)
    }

    /// The offset of the translated code for `pc`, if it is known.
    #[inline(always)]
    pub(crate) fn native(&self, pc: u64) -> Option<u32> {
        let slot = &self.natives[Caches::native_slot(pc)];
        (slot.pc == pc && slot.key == self.key).then_some(slot.place)
    }

    /// Remembers the translated code for `pc` for the current privilege.
    pub(crate) fn install_native(&mut self, pc: u64, code: u32) {
        self.natives[Caches::native_slot(pc)] = JumpSlot { pc, key: self.key, place: code };
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
                self.data[bank].read = EMPTY;
                self.data[bank].write = EMPTY;
                self.fetch[bank * FETCH_SLOTS..][..FETCH_SLOTS].copy_from_slice(&EMPTY_FETCH);
            }
        }
        self.drop_blocks();
    }

    /// Drops what was derived from the leaf page-table entry of one page. `executable`: instructions may have come
    /// from it.
    pub(crate) fn flush_page(&mut self, va: u64, executable: bool) {
        for bank in [Bank::User, Bank::Supervisor, Bank::SupervisorSum] {
            let index = Caches::slot(va);
            self.data[bank as usize].read[index] = Slot::empty(index);
            self.data[bank as usize].write[index] = Slot::empty(index);
            let index = (va / PAGE) as usize & (FETCH_SLOTS - 1);
            self.fetch[bank as usize * FETCH_SLOTS + index] = Slot::empty(index);
        }
        if executable {
            self.drop_blocks();
        }
    }

    /// No store may reach the page at this RAM offset by the fast path any more.
    pub(crate) fn forbid_stores_to(&mut self, offset: u64) {
        let page = self.ram_host.wrapping_add(offset & !(PAGE - 1));
        for bank in &mut *self.data {
            for (index, slot) in bank.write.iter_mut().enumerate() {
                if slot.host == page {
                    *slot = Slot::empty(index);
                }
            }
        }
    }

    /// No store may use the fast path any more.
    pub(crate) fn forbid_stores(&mut self) {
        for bank in &mut *self.data {
            bank.write = EMPTY;
        }
    }

    /// Empties the jump cache.
    pub(crate) fn drop_blocks(&mut self) {
        if self.next_key > u32::MAX - 8 {
            // Keys are about to repeat: forget the old ones for real.
            self.jumps.fill(JumpSlot::EMPTY);
            self.natives.fill(JumpSlot::EMPTY);
            self.next_key = 0;
        }
        for key in &mut self.keys {
            self.next_key += 1;
            *key = self.next_key;
        }
        self.key = self.keys[self.fetch_base / FETCH_SLOTS];
    }
}
