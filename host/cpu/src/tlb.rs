//! What a hart remembers of address translation: soft TLB and jump cache.
//!
//! Both only repeat what the page tables, PMP and `mstatus` say at this moment. Whatever changes one of these drops
//! what was derived from it at once, so their content can never be seen (DESIGN §5).

use crate::hart::Privilege;
use crate::last_tables::LastTables;

/// Slots of each bank for loads, and as many for stores.
pub(crate) const SLOTS: usize = 2048;
/// Slots of each bank for instruction fetch.
const FETCH_SLOTS: usize = 128;
/// Slots of the jump cache.
const JUMP_SLOTS: usize = 8192;
/// Slots of the jump cache of translated code.
pub(crate) const NATIVE_SLOTS: usize = 4096;
/// Address spaces whose user translations are kept while others are in use, by the value of `satp`.
const SPACES: usize = 7;
const PAGE: u64 = 4096;

// Banks of slots: two that all spaces share, then those of each space.
const SUPERVISOR: usize = 0;
const MACHINE: usize = 1;
const DATA_BANKS: usize = 2 + 2 * SPACES;
const FETCH_BANKS: usize = 2 + SPACES;

/// A view of memory: what a privilege mode may reach. Switching between banks costs nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bank {
    User,
    Supervisor,
    /// S-mode with `mstatus.SUM`: user pages can be read and written.
    SupervisorSum,
    Machine,
}

/// A virtual page and where it lies in the host's memory. Translated code reads it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Slot {
    pub(crate) tag: u64,
    pub(crate) host: u64,
}

/// What loads and what stores may reach directly, by page number.
#[derive(Clone)]
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

static EMPTY: [Slot; SLOTS] = empty();
static EMPTY_FETCH: [Slot; FETCH_SLOTS] = empty();

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
pub(crate) const MAX_BLOCK: usize = 63;
const LEN_BITS: u32 = 6;
/// Ops that a span can address.
pub(crate) const MAX_ARENA: usize = 1 << (32 - LEN_BITS);

/// A run of ops in the arena.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

/// The page of a device that was reached last.
#[derive(Clone, Copy)]
struct DeviceSlot {
    /// The bank it is for, or none.
    bank: usize,
    va: u64,
    pa: u64,
}

impl DeviceSlot {
    const EMPTY: DeviceSlot = DeviceSlot { bank: usize::MAX, va: 0, pa: 0 };
}

/// The private caches of one hart.
pub(crate) struct Caches {
    data: Box<[DataBank; DATA_BANKS]>,
    fetch: Box<[[Slot; FETCH_SLOTS]; FETCH_BANKS]>,
    jumps: Box<[JumpSlot; JUMP_SLOTS]>,
    /// Jump cache of translated code, in place because that code finds it by its distance from the registers.
    pub(crate) natives: [JumpSlot; NATIVE_SLOTS],
    /// Where offset 0 of translated code runs.
    pub(crate) code_base: u64,
    /// The virtual page of the translated code that runs, where that does not know it.
    pub(crate) code_page: u64,
    /// The host's address of guest RAM.
    ram_host: u64,
    /// The banks that loads and stores, and fetches, use.
    data_bank: usize,
    fetch_bank: usize,
    /// Keys of the two jump caches now, and of each fetch bank. A bank's new key empties its part of the cache.
    key: u32,
    pub(crate) native_key: u32,
    keys: [u32; FETCH_BANKS],
    native_keys: [u32; FETCH_BANKS],
    next_key: u32,
    /// `satp` of each space, and which one is in use. One that was never used is empty, so that any value is right.
    spaces: [u64; SPACES],
    space: usize,
    /// The space that was taken last for a new value.
    newest: usize,
    /// Banks in which something was installed since they were last flushed.
    data_used: [bool; DATA_BANKS],
    fetch_used: [bool; FETCH_BANKS],
    pub(crate) last_tables: LastTables,
    /// For loads, and for stores.
    devices: [DeviceSlot; 2],
    /// The supervisor's bank knows something of the lower half of the address space, which each space has for itself.
    supervisor_low: bool,
}

/// Whether an address lies in the half of the address space that kernels map alike everywhere.
fn is_upper(va: u64) -> bool {
    va >> 63 != 0
}

impl Caches {
    /// Over RAM that lies at `ram_host` in the host's memory.
    pub(crate) fn new(ram_host: u64) -> Caches {
        let data = vec![DataBank { read: EMPTY, write: EMPTY }; DATA_BANKS].into_boxed_slice();
        let mut caches = Caches {
            data: data.try_into().unwrap_or_else(|_| unreachable!("as many as were asked for")),
            fetch: Box::new([EMPTY_FETCH; FETCH_BANKS]),
            jumps: Box::new([JumpSlot::EMPTY; JUMP_SLOTS]),
            natives: [JumpSlot::EMPTY; NATIVE_SLOTS],
            code_base: 0,
            code_page: 0,
            ram_host,
            data_bank: MACHINE,
            fetch_bank: MACHINE,
            key: 0,
            native_key: 0,
            keys: [0; FETCH_BANKS],
            native_keys: [0; FETCH_BANKS],
            next_key: 0,
            spaces: [0; SPACES],
            space: 0,
            newest: 0,
            data_used: [false; DATA_BANKS],
            fetch_used: [false; FETCH_BANKS],
            last_tables: LastTables::new(),
            devices: [DeviceSlot::EMPTY; 2],
            supervisor_low: false,
        };
        caches.flush();
        caches
    }

    /// Chooses the banks for fetch and for data.
    #[inline]
    pub(crate) fn select(&mut self, privilege: Privilege, data: Bank) {
        self.data_bank = match data {
            Bank::Supervisor => SUPERVISOR,
            Bank::Machine => MACHINE,
            Bank::User => 2 + 2 * self.space,
            Bank::SupervisorSum => 3 + 2 * self.space,
        };
        self.fetch_bank = match privilege {
            Privilege::Supervisor => SUPERVISOR,
            Privilege::Machine => MACHINE,
            Privilege::User => 2 + self.space,
        };
        self.use_keys();
    }

    fn use_keys(&mut self) {
        self.key = self.keys[self.fetch_bank];
        self.native_key = self.native_keys[self.fetch_bank];
    }

    #[inline(always)]
    fn slot(va: u64) -> usize {
        (va / PAGE) as usize & (SLOTS - 1)
    }

    fn fetch_slot(va: u64) -> usize {
        (va / PAGE) as usize & (FETCH_SLOTS - 1)
    }

    /// The bank that loads and stores use.
    #[inline(always)]
    pub(crate) fn data(&self) -> &DataBank {
        const _: () = assert!(DATA_BANKS.is_power_of_two());
        &self.data[self.data_bank & (DATA_BANKS - 1)]
    }

    fn data_mut(&mut self, va: u64) -> &mut DataBank {
        self.data_used[self.data_bank] = true;
        self.supervisor_low |= self.data_bank == SUPERVISOR && !is_upper(va);
        &mut self.data[self.data_bank]
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
        let host = self.fetch[self.fetch_bank][Caches::fetch_slot(pc)].hit(pc, 2)?;
        Some(host.wrapping_sub(self.ram_host))
    }

    fn page(&self, va: u64, offset: u64) -> Slot {
        Slot { tag: va & !(PAGE - 1), host: self.ram_host.wrapping_add(offset & !(PAGE - 1)) }
    }

    /// The current bank may load from the page of `va`, which lies at `offset`'s page.
    pub(crate) fn install_load(&mut self, va: u64, offset: u64) {
        self.data_mut(va).read[Caches::slot(va)] = self.page(va, offset);
    }

    /// The current bank may store to the page of `va`.
    pub(crate) fn install_store(&mut self, va: u64, offset: u64) {
        self.data_mut(va).write[Caches::slot(va)] = self.page(va, offset);
    }

    /// The current bank may fetch from the page of `va`.
    pub(crate) fn install_fetch(&mut self, va: u64, offset: u64) {
        self.fetch_used[self.fetch_bank] = true;
        self.supervisor_low |= self.fetch_bank == SUPERVISOR && !is_upper(va);
        self.fetch[self.fetch_bank][Caches::fetch_slot(va)] = self.page(va, offset);
    }

    /// Guest physical address of `va`, if it is in the page of a device that a load, or a store, reached last.
    #[inline]
    pub(crate) fn device(&self, va: u64, store: bool) -> Option<u64> {
        let slot = &self.devices[usize::from(store)];
        let within = va ^ slot.va;
        (within < PAGE && slot.bank == self.data_bank).then_some(slot.pa | within)
    }

    /// The current bank may load from, or store to, the page of `va`, and it is the page of `pa`, which is no RAM.
    pub(crate) fn install_device(&mut self, va: u64, pa: u64, store: bool) {
        self.supervisor_low |= self.data_bank == SUPERVISOR && !is_upper(va);
        let [va, pa] = [va, pa].map(|address| address & !(PAGE - 1));
        self.devices[usize::from(store)] = DeviceSlot { bank: self.data_bank, va, pa };
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
        self.supervisor_low |= self.fetch_bank == SUPERVISOR && !is_upper(pc);
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
        (slot.pc == pc && slot.key == self.native_key).then_some(slot.place)
    }

    /// Remembers the translated code for `pc` for the current privilege.
    pub(crate) fn install_native(&mut self, pc: u64, code: u32) {
        self.natives[Caches::native_slot(pc)] = JumpSlot { pc, key: self.native_key, place: code };
    }

    /// The translated code for `pc` is void.
    pub(crate) fn forget_native(&mut self, pc: u64) {
        self.natives[Caches::native_slot(pc)] = JumpSlot::EMPTY;
    }

    /// `satp` is another. `same_upper`: the upper half of the address space is mapped as before. The caller selects
    /// banks afterwards.
    pub(crate) fn enter_space(&mut self, satp: u64, same_upper: bool) {
        if !same_upper || self.supervisor_low {
            self.flush_supervisor();
        }
        self.space = self.spaces.iter().position(|&space| space == satp).unwrap_or_else(|| {
            self.newest = (self.newest + 1) % SPACES;
            self.flush_space(self.newest);
            self.spaces[self.newest] = satp;
            self.newest
        });
    }

    /// The hart's state is another, with this `satp`: drops everything, and whose the spaces were. A space that kept
    /// the old value would be filled for the new one, and be found when the guest comes back to the old. The caller
    /// selects banks afterwards.
    pub(crate) fn restart(&mut self, satp: u64) {
        self.flush();
        self.spaces = [satp; SPACES];
        (self.space, self.newest) = (0, 0);
    }

    /// Drops everything.
    pub(crate) fn flush(&mut self) {
        self.flush_data(MACHINE);
        self.flush_fetch(MACHINE);
        self.flush_translations();
    }

    /// Drops what was derived from page tables.
    pub(crate) fn flush_translations(&mut self) {
        self.last_tables.flush();
        self.flush_supervisor();
        for space in 0..SPACES {
            self.flush_space(space);
        }
    }

    fn flush_supervisor(&mut self) {
        self.supervisor_low = false;
        self.flush_data(SUPERVISOR);
        self.flush_fetch(SUPERVISOR);
    }

    fn flush_space(&mut self, space: usize) {
        self.flush_data(2 + 2 * space);
        self.flush_data(3 + 2 * space);
        self.flush_fetch(2 + space);
    }

    fn flush_data(&mut self, bank: usize) {
        self.devices = [DeviceSlot::EMPTY; 2];
        if std::mem::take(&mut self.data_used[bank]) {
            self.data[bank].read = EMPTY;
            self.data[bank].write = EMPTY;
        }
    }

    fn flush_fetch(&mut self, bank: usize) {
        if std::mem::take(&mut self.fetch_used[bank]) {
            self.fetch[bank] = EMPTY_FETCH;
        }
        self.drop_jumps(bank);
    }

    /// Drops what was derived from the leaf page-table entry of one page. `executable`: instructions may have come
    /// from it.
    pub(crate) fn flush_page(&mut self, va: u64, executable: bool) {
        self.devices = [DeviceSlot::EMPTY; 2];
        let index = Caches::slot(va);
        for bank in (0..DATA_BANKS).filter(|&bank| bank != MACHINE && self.data_used[bank]) {
            self.data[bank].read[index] = Slot::empty(index);
            self.data[bank].write[index] = Slot::empty(index);
        }
        if !executable {
            return;
        }
        let index = Caches::fetch_slot(va);
        for bank in (0..FETCH_BANKS).filter(|&bank| bank != MACHINE) {
            self.fetch[bank][index] = Slot::empty(index);
            // The kernel's jumps stay where its half does.
            if bank != SUPERVISOR || is_upper(va) || self.supervisor_low {
                self.drop_jumps(bank);
            }
        }
    }

    /// No store may reach the page at this RAM offset by the fast path any more.
    pub(crate) fn forbid_stores_to(&mut self, offset: u64) {
        let page = self.ram_host.wrapping_add(offset & !(PAGE - 1));
        for (bank, _) in self.data.iter_mut().zip(self.data_used).filter(|(_, used)| *used) {
            for (index, slot) in bank.write.iter_mut().enumerate() {
                if slot.host == page {
                    *slot = Slot::empty(index);
                }
            }
        }
    }

    /// No store may use the fast path any more.
    pub(crate) fn forbid_stores(&mut self) {
        for (bank, _) in self.data.iter_mut().zip(self.data_used).filter(|(_, used)| *used) {
            bank.write = EMPTY;
        }
    }

    fn new_key(&mut self) -> u32 {
        if self.next_key == u32::MAX {
            // Keys are about to repeat: forget the old ones for real.
            self.jumps.fill(JumpSlot::EMPTY);
            self.natives.fill(JumpSlot::EMPTY);
            self.next_key = 0;
        }
        self.next_key += 1;
        self.next_key
    }

    /// Empties a bank's part of both jump caches.
    fn drop_jumps(&mut self, bank: usize) {
        self.keys[bank] = self.new_key();
        self.native_keys[bank] = self.keys[bank];
        self.use_keys();
    }

    /// Empties the jump cache of decoded blocks. Translated code says itself that it is void.
    pub(crate) fn drop_blocks(&mut self) {
        for bank in 0..FETCH_BANKS {
            self.keys[bank] = self.new_key();
        }
        self.use_keys();
    }

    /// Empties the jump cache of translated code.
    pub(crate) fn drop_natives(&mut self) {
        for bank in 0..FETCH_BANKS {
            self.native_keys[bank] = self.new_key();
        }
        self.use_keys();
    }
}
