//! What all harts share besides RAM: decoded code, watched page tables, reservations, and news of changes to them.

use crate::block::{Arena, Blocks};
use crate::bus::{Attempt, Bus};
use crate::cluster::ExitReason;
use crate::hart::Hart;
use crate::isa::Op;
use crate::observe::Interest;
use crate::ram::{GuestRam, PAGE_CODE, PAGE_RESERVED, PAGE_SIZE, PAGE_TABLE};
use crate::run::Stop;

/// Bytes of a reservation. LR/SC work on naturally aligned lines of physical memory.
pub(crate) const LINE: u64 = 64;

/// Something that was derived from memory is stale. The running hart hears at once, the others when they run next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum News {
    /// A page-table entry changed in a way that may concern everything.
    Translations,
    /// The leaf entry of one page changed.
    Page { va: u64, executable: bool },
    /// Decoded code was dropped.
    Code,
    /// All translated code was dropped.
    Natives,
    /// The page at this RAM offset became watched: stores to it must not take the fast path.
    Watched(u64),
}

/// After so much unread news a hart starts from nothing instead.
const NEWS: usize = 128;

/// A page that entries were read from, packed in a word.
///
/// Bit 0: it is one. Bit 1: a change concerns everything (a table above the leaves, or one that is reached at several
/// addresses). Bits 2 to 11: stores to it since it was last read. Bits 12 up: the address its entry 0 maps.
#[derive(Clone, Copy, PartialEq, Eq)]
struct TablePage(u64);

impl TablePage {
    const USED: u64 = 1;
    const WIDE: u64 = 2;
    const STORE: u64 = 4;
    const STORES: u64 = 0xffc;

    fn read_as(self, leaf_va: Option<u64>) -> TablePage {
        let base = leaf_va.map_or(0, |va| va & !0x1f_ffff);
        let wide =
            if leaf_va.is_none() || (self.0 & Self::USED != 0 && self.va() != base) { Self::WIDE } else { 0 };
        TablePage(base | self.0 & Self::WIDE | wide | Self::USED)
    }

    fn is_wide(self) -> bool {
        self.0 & Self::WIDE != 0
    }

    fn va(self) -> u64 {
        self.0 & !0xfff
    }
}

/// State shared by the harts.
pub(crate) struct Shared {
    pub(crate) blocks: Blocks,
    /// For each page of RAM: was a page-table entry read from it?
    tables: Vec<TablePage>,
    /// For each hart: the line it holds reserved. Architectural.
    pub(crate) reservations: Vec<Option<u64>>,
    news: Vec<News>,
    /// Number of the first entry in `news`, counted from the beginning.
    news_base: u64,
    /// For each hart: up to where it has read.
    read: Vec<u64>,
    /// For each hart: `GuestRam::clears` when it last ran.
    clears: Vec<u64>,
}

impl Shared {
    pub(crate) fn new(pages: usize, harts: usize) -> Shared {
        Shared {
            blocks: Blocks::new(pages),
            tables: vec![TablePage(0); pages],
            reservations: vec![None; harts],
            news: Vec::new(),
            news_base: 0,
            read: vec![0; harts],
            clears: vec![0; harts],
        }
    }

    fn publish(&mut self, news: News) {
        if self.news.len() >= NEWS {
            self.news_base += self.news.len() as u64;
            self.news.clear();
        }
        self.news.push(news);
    }

    fn watch(&mut self, ram: &GuestRam, page: usize, reason: u8) {
        if !ram.is_watched(page) {
            self.publish(News::Watched(page as u64 * PAGE_SIZE));
        }
        ram.watch(page, reason);
    }

    /// While its hart does not look, stores to a reserved line must be noticed.
    pub(crate) fn guard_reservation(&mut self, ram: &GuestRam, hart: usize) {
        if let Some(line) = self.reservations[hart] {
            self.watch(ram, ram.page_of(line), PAGE_RESERVED);
        }
    }

    /// Its hart looks again, or the reservation is about to go. Another hart's reservation in the page keeps the page
    /// guarded.
    pub(crate) fn unguard_reservation(&mut self, ram: &GuestRam, hart: usize) {
        if let Some(line) = self.reservations[hart] {
            self.release_page(ram, ram.page_of(line), Some(hart));
        }
    }

    fn release_page(&mut self, ram: &GuestRam, page: usize, except: Option<usize>) {
        let holds = |(hart, line): (usize, &Option<u64>)| {
            Some(hart) != except && line.is_some_and(|line| ram.page_of(line) == page)
        };
        if !self.reservations.iter().enumerate().any(holds) {
            ram.unwatch(page, PAGE_RESERVED);
        }
    }

    /// Drops all decoded code.
    pub(crate) fn drop_code(&mut self, ram: &GuestRam, arena: &mut Arena) {
        for page in self.blocks.pages_with_code() {
            ram.unwatch(page, PAGE_CODE);
        }
        arena.clear(&mut self.blocks);
        self.publish(News::Code);
    }

    /// Brings a hart's caches up to date.
    fn catch_up(&mut self, h: &mut Hart) {
        let end = self.news_base + self.news.len() as u64;
        let seen = std::mem::replace(&mut self.read[h.id], end);
        if seen == end {
            return;
        }
        if seen < self.news_base {
            h.caches.flush();
        } else {
            for news in &self.news[(seen - self.news_base) as usize..] {
                match *news {
                    News::Translations => h.caches.flush_translations(),
                    News::Page { va, executable } => h.caches.flush_page(va, executable),
                    News::Code => h.caches.drop_blocks(),
                    News::Natives => h.caches.drop_natives(),
                    News::Watched(offset) => h.caches.forbid_stores_to(offset),
                }
            }
        }
        h.update_context();
    }
}

/// What an instruction needs besides its hart.
pub(crate) struct Cx<'a> {
    pub(crate) ram: &'a GuestRam,
    pub(crate) shared: &'a mut Shared,
    pub(crate) bus: &'a mut dyn Bus,
    /// The machine's count of attempted instructions, at the start of the current block.
    pub(crate) icount: u64,
    /// Where the run ends.
    pub(crate) limit: u64,
    /// `icount_of` the CSR instruction that executes.
    pub(crate) now: u64,
    /// The run must end before the next instruction.
    pub(crate) exit: Option<ExitReason>,
    /// The rest of the current block may be stale.
    pub(crate) stale: bool,
    /// What is told to the bus.
    pub(crate) observed: Interest,
    /// The run loop must choose anew how to run.
    pub(crate) reconsider: bool,
    /// The bus refused this access (address, size, purpose); whoever takes the trap knows the pc and tells the bus.
    pub(crate) refused: Option<(u64, u8, Attempt)>,
}

impl Cx<'_> {
    /// Count of instructions attempted before `op`.
    pub(crate) fn icount_of(&self, op: &Op) -> u64 {
        self.icount + u64::from(op.idx)
    }

    /// A hart begins to run: everything that happened meanwhile is applied.
    pub(crate) fn enter(&mut self, h: &mut Hart) {
        h.attempts_offset = h.counters.attempts.wrapping_sub(self.icount);
        self.apply_outside_writes(h);
        if std::mem::replace(&mut self.shared.clears[h.id], self.ram.clears()) != self.ram.clears() {
            h.caches.forbid_stores();
        }
        self.shared.unguard_reservation(self.ram, h.id);
        self.shared.catch_up(h);
        h.sample = true;
    }

    /// A hart stops running at this icount.
    pub(crate) fn leave(&mut self, h: &mut Hart) {
        h.counters.attempts = self.icount.wrapping_add(h.attempts_offset);
        self.guard_reservation(h);
        self.shared.catch_up(h);
    }

    fn guard_reservation(&mut self, h: &mut Hart) {
        self.shared.guard_reservation(self.ram, h.id);
        self.shared.catch_up(h);
    }

    /// Drops a hart's reservation.
    #[inline]
    pub(crate) fn clear_reservation(&mut self, hart: usize) {
        self.shared.reservations[hart] = None;
    }

    /// Before a device is called: it may write the line that this hart has reserved.
    #[inline]
    pub(crate) fn before_bus(&mut self, h: &mut Hart) {
        if self.shared.reservations[h.id].is_some() {
            self.guard_reservation(h);
        }
    }

    /// After a device was called: applies what it wrote, and notes whether it wants the run to end.
    pub(crate) fn after_bus(&mut self, h: &mut Hart) {
        if self.ram.has_writes() {
            self.apply_outside_writes(h);
        }
        if self.shared.reservations[h.id].is_some() {
            self.shared.unguard_reservation(self.ram, h.id);
        }
        if self.bus.attention() {
            self.exit = Some(ExitReason::Attention);
        }
    }

    /// The arena is full.
    pub(crate) fn drop_code(&mut self, h: &mut Hart, arena: &mut Arena) {
        self.shared.drop_code(self.ram, arena);
        self.shared.catch_up(h);
    }

    /// Translated code was dropped: no hart may remember where it was.
    pub(crate) fn forget_natives(&mut self, h: &mut Hart) {
        self.shared.publish(News::Natives);
        self.shared.catch_up(h);
    }

    /// Code was decoded from the page of `gpa`.
    pub(crate) fn watch_code(&mut self, h: &mut Hart, gpa: u64) {
        self.shared.watch(self.ram, self.ram.page_of(gpa), PAGE_CODE);
        self.shared.catch_up(h);
    }

    /// An entry was read at `gpa`: of a table whose entries map 4 KiB pages and that was reached for `leaf_va`, or of
    /// another one.
    pub(crate) fn watch_table(&mut self, h: &mut Hart, gpa: u64, leaf_va: Option<u64>) {
        let page = self.ram.page_of(gpa);
        let table = self.shared.tables[page].read_as(leaf_va);
        if self.shared.tables[page] != table {
            self.shared.tables[page] = table;
            self.shared.watch(self.ram, page, PAGE_TABLE);
            self.shared.catch_up(h);
        }
    }

    /// Devices wrote watched pages.
    fn apply_outside_writes(&mut self, h: &mut Hart) {
        for (gpa, len) in self.ram.take_writes() {
            let mut at = gpa;
            while at < gpa + len {
                let end = (gpa + len).min((at | (PAGE_SIZE - 1)) + 1);
                let page = self.ram.page_of(at);
                let flags = self.ram.page_flags(page);
                if flags & PAGE_TABLE != 0 {
                    self.forget_table(page);
                }
                self.written(flags, None, at, end - at);
                at = end;
            }
        }
        self.shared.catch_up(h);
    }

    /// A store by the hart within one page of RAM, past the fast path.
    #[inline]
    pub(crate) fn store(&mut self, h: &mut Hart, gpa: u64, bytes: &[u8]) {
        if self.ram.is_watched(self.ram.page_of(gpa)) {
            self.store_watched(h, gpa, bytes);
        } else {
            self.put_slice(gpa, bytes);
        }
    }

    /// An instruction that left the fast path is done. Must the block end after it?
    #[inline]
    pub(crate) fn finish(&mut self) -> Result<(), Stop> {
        if self.stale || self.exit.is_some() { Err(Stop::Leave) } else { Ok(()) }
    }

    fn store_watched(&mut self, h: &mut Hart, gpa: u64, bytes: &[u8]) {
        let page = self.ram.page_of(gpa);
        let flags = self.ram.page_flags(page);
        if flags & PAGE_TABLE != 0 {
            self.change_table(page, gpa, bytes.len() as u64);
        }
        self.put_slice(gpa, bytes);
        self.written(flags, Some(h.id), gpa, bytes.len() as u64);
        self.shared.catch_up(h);
    }

    /// The walk sets accessed and dirty bits of the entry at `gpa`. It takes no right away, so nothing derived from
    /// the entry is stale; but the page may also hold code, or somebody's reservation.
    pub(crate) fn store_accessed(&mut self, h: &mut Hart, gpa: u64, entry: [u8; 8]) {
        let flags = self.ram.page_flags(self.ram.page_of(gpa));
        self.put_slice(gpa, &entry);
        self.written(flags, Some(h.id), gpa, 8);
        self.shared.catch_up(h);
    }

    fn put_slice(&self, gpa: u64, bytes: &[u8]) {
        let offset = gpa - self.ram.base();
        for (i, &byte) in bytes.iter().enumerate() {
            self.ram.put(offset + i as u64, [byte]);
        }
        self.ram.mark_dirty(self.ram.page_of(gpa));
    }

    /// Consequences of a write for code and reservations. `by` is the hart that did it.
    fn written(&mut self, flags: u8, by: Option<usize>, gpa: u64, len: u64) {
        if flags & PAGE_CODE != 0 && self.shared.blocks.invalidate(self.ram.page_of(gpa), gpa, len) {
            if !self.shared.blocks.has_code(self.ram.page_of(gpa)) {
                self.ram.unwatch(self.ram.page_of(gpa), PAGE_CODE);
            }
            self.shared.publish(News::Code);
            self.stale = true;
        }
        if flags & PAGE_RESERVED != 0 {
            for (hart, reservation) in self.shared.reservations.iter_mut().enumerate() {
                let hit = reservation.is_some_and(|line| gpa < line + LINE && line < gpa + len);
                if hit && by != Some(hart) {
                    *reservation = None;
                }
            }
            self.shared.release_page(self.ram, self.ram.page_of(gpa), None);
        }
    }

    /// Before a store to a page that entries were read from: finds out what it changes.
    fn change_table(&mut self, page: usize, gpa: u64, len: u64) {
        let table = self.shared.tables[page];
        let mut entry = gpa & !7;
        while entry < gpa + len {
            let old = u64::from_le_bytes(self.ram.get(entry - self.ram.base()));
            // Nothing is ever derived from an invalid entry.
            if old & 1 != 0 {
                if table.is_wide() {
                    return self.forget_table(page);
                }
                let va = table.va() + (entry % PAGE_SIZE) / 8 * PAGE_SIZE;
                let executable = old & 8 != 0;
                self.shared.publish(News::Page { va, executable });
                self.stale |= executable;
            }
            entry += 8;
        }
        let stored = TablePage(self.shared.tables[page].0 + TablePage::STORE);
        if stored.0 & TablePage::STORES == TablePage::STORES {
            // Much written and never read: probably a table no more.
            return self.forget_table(page);
        }
        self.shared.tables[page] = stored;
    }

    /// Drops all translations, after which the page need not be watched for their sake.
    fn forget_table(&mut self, page: usize) {
        self.shared.tables[page] = TablePage(0);
        self.ram.unwatch(page, PAGE_TABLE);
        self.shared.publish(News::Translations);
        self.stale = true;
    }
}
