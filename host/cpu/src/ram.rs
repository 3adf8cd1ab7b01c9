//! Guest RAM: one anonymous mapping, with a byte of flags for each page. The crate's only unsafe island.
//!
//! The mapping is reached through raw pointers only, never through a Rust reference: device windows write it while the
//! hart holds nothing but a `&GuestRam`. Everything runs on one thread, so there are no data races to speak of.
#![expect(
    unsafe_code,
    reason = "guest memory is shared with device windows, which no Rust reference can express"
)]

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use memmap2::{MmapOptions, MmapRaw};

/// Bytes in a page of guest memory.
pub const PAGE_SIZE: u64 = 4096;
/// `page_map` bit: written since [`GuestRam::take_dirty`], by whichever follower.
pub const PAGE_DIRTY: u8 = 1;
/// `page_map` bit: something was derived from the page's content; whoever writes it must say so.
pub const PAGE_WATCHED: u8 = 2;
/// `page_map` bit of this crate: code was decoded from the page.
pub(crate) const PAGE_CODE: u8 = 4;
/// `page_map` bit of this crate: a page-table entry was read from the page.
pub(crate) const PAGE_TABLE: u8 = 8;
/// `page_map` bit of this crate: a hart that does not run holds a reservation in the page.
pub(crate) const PAGE_RESERVED: u8 = 16;

/// `page_map` bits of this crate, one for each [`Follower`]: another one took the page's [`PAGE_DIRTY`], and this one
/// has not seen it yet.
const PAGE_OWED: [u8; 2] = [32, 64];

const REASONS: u8 = PAGE_CODE | PAGE_TABLE | PAGE_RESERVED;

/// Pages whose flags are looked at together.
const SCAN: usize = 64;

/// The host could not give the guest its memory.
#[derive(Debug, thiserror::Error)]
pub enum RamError {
    /// Base or size is not a multiple of the page size, or there is no page, or the end is not addressable.
    #[error("guest RAM of {size:#x} bytes at {base:#x} is not a whole number of addressable 4 KiB pages")]
    Shape {
        /// Guest physical address asked for.
        base: u64,
        /// Bytes asked for.
        size: u64,
    },
    /// The mapping was refused.
    #[error("cannot map {size:#x} bytes of guest RAM")]
    Map {
        /// Bytes asked for.
        size: u64,
        /// The host's reason.
        source: std::io::Error,
    },
}

/// An access by a device or a loader leaves guest RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{len:#x} bytes at {gpa:#x} are not in guest RAM")]
pub struct OutOfRam {
    /// Guest physical address of the access.
    pub gpa: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// Who follows which pages change. Each is told of every written page once, whatever the others took before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Follower {
    /// The state digest.
    Digest,
    /// Snapshots.
    Snapshot,
}

impl Follower {
    fn owed(self) -> u8 {
        PAGE_OWED[self as usize]
    }
}

/// The machine's RAM: `size` bytes from guest physical address `base`, zero at first, backed by the host when touched.
pub struct GuestRam {
    map: MmapRaw,
    base: u64,
    size: u64,
    flags: Box<[Cell<u8>]>,
    /// Ranges of watched pages written from outside the hart; the run loop drains them.
    writes: RefCell<Vec<(u64, u64)>>,
    written: Cell<bool>,
    /// Counts `take_dirty` that cleared something: a hart may keep no fast path for stores across it.
    clears: Cell<u64>,
}

impl GuestRam {
    /// Maps `size` bytes (a multiple of 4096) at guest physical address `base`.
    pub fn new(base: u64, size: u64) -> Result<Rc<GuestRam>, RamError> {
        let shape = RamError::Shape { base, size };
        let whole = base.is_multiple_of(PAGE_SIZE) && size.is_multiple_of(PAGE_SIZE) && size != 0;
        let (Some(_), Ok(len), true) = (base.checked_add(size), usize::try_from(size), whole) else {
            return Err(shape);
        };
        let map = MmapOptions::new().len(len).no_reserve_swap().map_anon();
        let map = MmapRaw::from(map.map_err(|source| RamError::Map { size, source })?);
        #[cfg(target_os = "linux")]
        // Only advice: a host without huge pages runs the same, slower.
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Rc::new(GuestRam {
            map,
            base,
            size,
            flags: vec![Cell::new(0); len / PAGE_SIZE as usize].into(),
            writes: RefCell::default(),
            written: Cell::new(false),
            clears: Cell::new(0),
        }))
    }

    /// Guest physical address of the first byte.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether all of `len` bytes at `gpa` are RAM.
    #[inline]
    pub fn contains(&self, gpa: u64, len: u64) -> bool {
        let offset = gpa.wrapping_sub(self.base);
        offset < self.size && len <= self.size - offset
    }

    fn offset(&self, gpa: u64, len: usize) -> Result<usize, OutOfRam> {
        let len = len as u64;
        if self.contains(gpa, len) { Ok((gpa - self.base) as usize) } else { Err(OutOfRam { gpa, len }) }
    }

    /// Copies guest memory at `gpa` into `into`.
    pub fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), OutOfRam> {
        let offset = self.offset(gpa, into.len())?;
        // SAFETY: `offset` checked the range against the mapping; `into` is exclusive, so it is not the mapping.
        unsafe {
            std::ptr::copy_nonoverlapping(self.map.as_ptr().add(offset), into.as_mut_ptr(), into.len())
        };
        Ok(())
    }

    /// Copies `from` to guest memory at `gpa`, as a device does: marks pages dirty, drops what was derived from them.
    pub fn write(&self, gpa: u64, from: &[u8]) -> Result<(), OutOfRam> {
        let offset = self.offset(gpa, from.len())?;
        // SAFETY: `offset` checked the range; `from` is a shared reference, which never points into the mapping.
        unsafe {
            std::ptr::copy_nonoverlapping(from.as_ptr(), self.map.as_mut_ptr().add(offset), from.len())
        };
        self.note_write(gpa, from.len() as u64);
        Ok(())
    }

    /// Host address of the first byte, for windows of devices. Valid as long as the `GuestRam`.
    pub fn host_base(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// One byte for each page, for windows of devices: [`PAGE_DIRTY`] is theirs to set, and where [`PAGE_WATCHED`] is
    /// set they owe a [`GuestRam::note_write`].
    pub fn page_map(&self) -> *mut u8 {
        self.flags.as_ptr().cast::<u8>().cast_mut()
    }

    /// Somebody wrote `len` bytes at `gpa` past the hart. Parts outside RAM are ignored.
    pub fn note_write(&self, gpa: u64, len: u64) {
        if len == 0 || !self.contains(gpa, len) {
            return;
        }
        let mut watched = 0;
        for page in self.page_of(gpa)..=self.page_of(gpa + len - 1) {
            let flags = self.flags[page].get();
            watched |= flags;
            self.flags[page].set(flags | PAGE_DIRTY);
        }
        if watched & PAGE_WATCHED != 0 {
            self.writes.borrow_mut().push((gpa, len));
            self.written.set(true);
        }
    }

    /// Flags of the page with this index.
    pub fn page_flags(&self, index: usize) -> u8 {
        self.flags[index].get()
    }

    /// Calls `each` with the index of every page that was written since this follower's last call, in ascending order.
    ///
    /// A store after it sets [`PAGE_DIRTY`] anew: harts drop their fast paths for stores when they next run, once for
    /// a call, however many pages it took. Not to be called while a hart runs.
    pub fn take_dirty(&self, follower: Follower, mut each: impl FnMut(usize)) {
        let wanted = PAGE_DIRTY | follower.owed();
        let others = PAGE_OWED.iter().fold(0, |all, bit| all | bit) & !follower.owed();
        let mut cleared = 0;
        for (chunk, pages) in self.flags.chunks(SCAN).enumerate() {
            // Nearly all chunks end here, so it has no branch for each page.
            if pages.iter().fold(0, |all, page| all | page.get()) & wanted == 0 {
                continue;
            }
            for (index, page) in pages.iter().enumerate().filter(|(_, page)| page.get() & wanted != 0) {
                let flags = page.get();
                cleared |= flags & PAGE_DIRTY;
                let owed = if flags & PAGE_DIRTY != 0 { others } else { 0 };
                page.set(flags & !wanted | owed);
                each(chunk * SCAN + index);
            }
        }
        self.clears.set(self.clears.get() + u64::from(cleared));
    }

    /// How many pages [`GuestRam::take_dirty`] would call this follower with.
    pub fn dirty_pages(&self, follower: Follower) -> usize {
        let wanted = PAGE_DIRTY | follower.owed();
        self.flags.iter().map(|page| usize::from(page.get() & wanted != 0)).sum()
    }

    /// Copies the page with this index.
    pub fn page(&self, index: usize, into: &mut [u8; PAGE_SIZE as usize]) {
        let gpa = self.base + index as u64 * PAGE_SIZE;
        self.read(gpa, into).expect("a page index below size / 4096");
    }

    /// Index of the page that holds `gpa`, which is in RAM.
    #[inline]
    pub(crate) fn page_of(&self, gpa: u64) -> usize {
        ((gpa - self.base) / PAGE_SIZE) as usize
    }

    /// How often `take_dirty` cleared something.
    pub(crate) fn clears(&self) -> u64 {
        self.clears.get()
    }

    /// Something watched was written from outside since [`GuestRam::take_writes`].
    #[inline]
    pub(crate) fn has_writes(&self) -> bool {
        self.written.get()
    }

    /// Takes the ranges of watched pages that were written from outside.
    pub(crate) fn take_writes(&self) -> Vec<(u64, u64)> {
        self.written.set(false);
        self.writes.take()
    }

    /// Whether a write that nobody has taken yet touches `len` bytes at `gpa`.
    pub(crate) fn has_write_to(&self, gpa: u64, len: u64) -> bool {
        self.writes.borrow().iter().any(|&(at, n)| at < gpa + len && gpa < at + n)
    }

    /// Watches a page for one of this crate's reasons. True if it was not watched for that reason before.
    pub(crate) fn watch(&self, page: usize, reason: u8) -> bool {
        let flags = self.flags[page].get();
        self.flags[page].set(flags | reason | PAGE_WATCHED);
        flags & reason == 0
    }

    /// Whether something was derived from the page's content.
    #[inline]
    pub(crate) fn is_watched(&self, page: usize) -> bool {
        self.flags[page].get() & PAGE_WATCHED != 0
    }

    /// Drops one reason to watch a page.
    pub(crate) fn unwatch(&self, page: usize, reason: u8) {
        let flags = self.flags[page].get() & !reason;
        self.flags[page].set(if flags & REASONS == 0 { flags & !PAGE_WATCHED } else { flags });
    }

    /// A store by the hart: marks its page.
    pub(crate) fn mark_dirty(&self, page: usize) {
        self.flags[page].set(self.flags[page].get() | PAGE_DIRTY);
    }

    /// Reads `N` bytes at `offset` from the base. The hart's fast path.
    #[inline(always)]
    pub(crate) fn get<const N: usize>(&self, offset: u64) -> [u8; N] {
        assert!(offset <= self.size - N as u64, "offset past the end of RAM");
        // SAFETY: the assertion holds offset + N within the mapping (a mapping has at least a page, so no wrap-around).
        let at = unsafe { self.map.as_ptr().add(offset as usize) };
        // SAFETY: as above; `[u8; N]` has alignment 1.
        unsafe { at.cast::<[u8; N]>().read() }
    }

    /// Writes `N` bytes at `offset` from the base, no questions asked. The hart's fast path.
    #[inline(always)]
    pub(crate) fn put<const N: usize>(&self, offset: u64, bytes: [u8; N]) {
        assert!(offset <= self.size - N as u64, "offset past the end of RAM");
        // SAFETY: the assertion holds offset + N within the mapping (a mapping has at least a page, so no wrap-around).
        let at = unsafe { self.map.as_mut_ptr().add(offset as usize) };
        // SAFETY: as above; `[u8; N]` has alignment 1.
        unsafe { at.cast::<[u8; N]>().write(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_is_checked() {
        for (base, size) in
            [(0x8000_0001, 4096), (0x8000_0000, 0), (0x8000_0000, 4097), (u64::MAX - 4095, 8192)]
        {
            assert!(matches!(GuestRam::new(base, size), Err(RamError::Shape { .. })));
        }
    }

    #[test]
    fn bounds_are_exact() {
        let ram = GuestRam::new(0x8000_0000, 8192).unwrap();
        assert!(ram.write(0x8000_1ff8, &[1; 8]).is_ok());
        assert!(ram.write(0x8000_1ff9, &[1; 8]).is_err());
        assert!(ram.read(0x7fff_ffff, &mut [0; 2]).is_err());
        assert!(!ram.contains(u64::MAX, 2));
        assert_eq!(ram.get::<8>(8184), [1; 8]);
    }

    #[test]
    fn outside_writes_to_watched_pages_are_queued_and_all_writes_mark() {
        let ram = GuestRam::new(0x8000_0000, 4 * 4096).unwrap();
        assert!(ram.watch(2, PAGE_CODE));
        assert!(!ram.watch(2, PAGE_CODE));
        ram.write(0x8000_0000, &[1]).unwrap();
        assert!(!ram.has_writes());
        ram.write(0x8000_1ffc, &[1; 8]).unwrap();
        assert_eq!(ram.take_writes(), [(0x8000_1ffc, 8)]);
        assert!(!ram.has_writes());
        let dirty: Vec<bool> = (0..4).map(|page| ram.page_flags(page) & PAGE_DIRTY != 0).collect();
        assert_eq!(dirty, [true, true, true, false]);
        ram.unwatch(2, PAGE_CODE);
        assert_eq!(ram.page_flags(2), PAGE_DIRTY);
    }

    #[test]
    fn every_follower_is_told_of_every_written_page_once() {
        let ram = GuestRam::new(0x8000_0000, 200 * 4096).unwrap();
        let take = |follower| {
            let mut pages = Vec::new();
            ram.take_dirty(follower, |page| pages.push(page));
            pages
        };
        ram.watch(3, PAGE_CODE);
        [199, 3, 64].into_iter().for_each(|page| ram.mark_dirty(page));
        assert_eq!(take(Follower::Digest), [3, 64, 199]);
        assert_eq!(take(Follower::Digest), []);
        assert_eq!(ram.page_flags(3) & (PAGE_CODE | PAGE_WATCHED | PAGE_DIRTY), PAGE_CODE | PAGE_WATCHED);
        [0, 64].into_iter().for_each(|page| ram.mark_dirty(page));
        assert_eq!(take(Follower::Snapshot), [0, 3, 64, 199]);
        assert_eq!(take(Follower::Snapshot), []);
        assert_eq!(take(Follower::Digest), [0, 64]);
    }

    #[test]
    fn only_a_call_that_took_something_costs_the_harts_their_fast_paths() {
        let ram = GuestRam::new(0x8000_0000, 200 * 4096).unwrap();
        (0..200).for_each(|page| ram.mark_dirty(page));
        for (follower, clears) in [(Follower::Digest, 1), (Follower::Snapshot, 1), (Follower::Digest, 1)] {
            ram.take_dirty(follower, |_| {});
            assert_eq!(ram.clears(), clears, "{follower:?}");
        }
    }
}
