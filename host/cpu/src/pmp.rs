//! Physical memory protection. Privileged §3.7. Grain 4 bytes; no Smepmp.

use crate::hart::Privilege;
use crate::mmu::Access;

const READ: u8 = 1;
const WRITE: u8 = 2;
const EXECUTE: u8 = 4;
const MODE: u8 = 3 << 3;
const LOCK: u8 = 1 << 7;
const TOR: u8 = 1 << 3;
const NA4: u8 = 2 << 3;
const NAPOT: u8 = 3 << 3;

/// `pmpaddr` holds bits 55:2 of an address.
const ADDRESS: u64 = (1 << 54) - 1;

/// The protection entries of one hart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Pmp {
    /// Entries that exist: 0 to 16. With none, nothing is checked.
    count: usize,
    cfg: [u8; 16],
    addr: [u64; 16],
    /// Entries that match something, in order of priority: first byte, last byte, configuration.
    active: Vec<(u64, u64, u8)>,
    /// Ranges all of which one entry decides, or none: first byte, last byte, configuration. The widest come first,
    /// as what is asked for lies in RAM nearly always, and one range has most of that.
    decided: Vec<(u64, u64, Option<u8>)>,
}

impl Pmp {
    pub(crate) fn new(count: usize) -> Pmp {
        let decided = vec![(0, u64::MAX, None)];
        Pmp { count: count.min(16), cfg: [0; 16], addr: [0; 16], active: Vec::new(), decided }
    }

    /// `pmpcfg0` or `pmpcfg2`: eight entries from `first`.
    pub(crate) fn read_cfg(&self, first: usize) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|i| self.cfg[first + i]))
    }

    /// Writes eight configurations. Locked and absent entries keep theirs; so do those that would get the reserved W
    /// without R.
    pub(crate) fn write_cfg(&mut self, first: usize, value: u64) {
        for (i, new) in value.to_le_bytes().into_iter().enumerate() {
            let index = first + i;
            let reserved = new & (READ | WRITE) == WRITE;
            if index < self.count && self.cfg[index] & LOCK == 0 && !reserved {
                self.cfg[index] = new & (READ | WRITE | EXECUTE | MODE | LOCK);
            }
        }
        self.rebuild();
    }

    pub(crate) fn read_addr(&self, index: usize) -> u64 {
        self.addr[index]
    }

    /// Writes an address register, unless its entry is locked, or bounds a locked TOR entry above it.
    pub(crate) fn write_addr(&mut self, index: usize, value: u64) {
        let locked = self.cfg[index] & LOCK != 0;
        let bounds_locked =
            self.cfg.get(index + 1).is_some_and(|next| next & LOCK != 0 && next & MODE == TOR);
        if index < self.count && !locked && !bounds_locked {
            self.addr[index] = value & ADDRESS;
            self.rebuild();
        }
    }

    /// For restoring: everything as it was saved.
    pub(crate) fn restore(&mut self, cfg: [u8; 16], addr: [u64; 16]) {
        self.cfg = cfg;
        self.addr = addr.map(|addr| addr & ADDRESS);
        self.rebuild();
    }

    /// For saving.
    pub(crate) fn saved(&self) -> (&[u8; 16], &[u64; 16]) {
        (&self.cfg, &self.addr)
    }

    fn rebuild(&mut self) {
        self.active.clear();
        for index in 0..self.count {
            if let Some((first, last)) = self.range(index) {
                self.active.push((first, last, self.cfg[index]));
            }
        }
        self.decide();
    }

    /// Cuts the address space where an entry begins or ends.
    fn decide(&mut self) {
        let mut cuts: Vec<u64> = self.active.iter().flat_map(|&(first, last, _)| [first, last + 1]).collect();
        cuts.push(0);
        cuts.sort_unstable();
        cuts.dedup();
        let ends = cuts[1..].iter().map(|cut| cut - 1).chain([u64::MAX]);
        let decides = |at: u64| self.active.iter().find(|&&(first, last, _)| first <= at && at <= last);
        let ranges =
            cuts.iter().zip(ends).map(|(&first, last)| (first, last, decides(first).map(|entry| entry.2)));
        self.decided = ranges.collect();
        self.decided.sort_by_key(|&(first, last, _)| first.wrapping_sub(last));
    }

    fn range(&self, index: usize) -> Option<(u64, u64)> {
        let addr = self.addr[index];
        match self.cfg[index] & MODE {
            TOR => {
                let below = if index == 0 { 0 } else { self.addr[index - 1] };
                (below < addr).then(|| (below << 2, (addr << 2) - 1))
            }
            NA4 => Some((addr << 2, (addr << 2) + 3)),
            NAPOT => {
                // The trailing ones give the size: 8 bytes for none of them.
                let size = addr ^ (addr + 1);
                let first = (addr & !size) << 2;
                Some((first, first + (size << 2 | 3)))
            }
            _ => None,
        }
    }

    /// Whether all of `len` bytes at `addr` may be accessed. The entry of highest priority that matches any of them
    /// decides, and must match all of them.
    #[inline]
    pub(crate) fn allows(&self, addr: u64, len: u64, access: Access, privilege: Privilege) -> bool {
        let last = addr + (len - 1);
        let decided = self.decided.iter().find(|&&(from, to, _)| from <= addr && last <= to);
        match decided {
            Some(&(_, _, cfg)) => self.permits(cfg, access, privilege),
            None => self.allows_across(addr, last, access, privilege),
        }
    }

    /// The same of bytes that more than one entry may concern.
    #[cold]
    fn allows_across(&self, addr: u64, last: u64, access: Access, privilege: Privilege) -> bool {
        let first_match = self.active.iter().find(|&&(from, to, _)| from <= last && addr <= to);
        let whole = first_match.is_none_or(|&(from, to, _)| from <= addr && last <= to);
        whole && self.permits(first_match.map(|entry| entry.2), access, privilege)
    }

    /// What an entry's configuration permits, or that there is none.
    #[inline]
    fn permits(&self, cfg: Option<u8>, access: Access, privilege: Privilege) -> bool {
        let Some(cfg) = cfg else { return privilege == Privilege::Machine || self.count == 0 };
        let unchecked = privilege == Privilege::Machine && cfg & LOCK == 0;
        let need = match access {
            Access::Load => READ,
            Access::Store => WRITE,
            Access::Fetch => EXECUTE,
        };
        unchecked || cfg & need != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const U: Privilege = Privilege::User;
    const M: Privilege = Privilege::Machine;

    fn pmp(entries: &[(u8, u64)]) -> Pmp {
        let mut pmp = Pmp::new(16);
        for (i, &(cfg, addr)) in entries.iter().enumerate() {
            pmp.write_addr(i, addr);
            let old = pmp.read_cfg(i & 8);
            pmp.write_cfg(i & 8, old | u64::from(cfg) << (8 * (i & 7)));
        }
        pmp
    }

    #[test]
    fn nothing_set_means_machine_mode_only() {
        let none = pmp(&[]);
        assert!(none.allows(0x8000_0000, 8, Access::Store, M));
        assert!(!none.allows(0x8000_0000, 8, Access::Load, U));
        assert!(Pmp::new(0).allows(0x8000_0000, 8, Access::Load, U));
    }

    #[test]
    fn napot_na4_and_tor_cover_exactly_their_bytes() {
        let napot = pmp(&[(NAPOT | READ, (0x8000_0000 >> 2) | 0x1ff)]); // 4 KiB
        assert!(napot.allows(0x8000_0ff8, 8, Access::Load, U));
        assert!(!napot.allows(0x8000_0ffc, 8, Access::Load, U), "partly outside");
        assert!(!napot.allows(0x8000_0000, 8, Access::Store, U));
        let na4 = pmp(&[(NA4 | READ | WRITE, 0x1000 >> 2)]);
        assert!(na4.allows(0x1000, 4, Access::Store, U));
        assert!(!na4.allows(0x1000, 8, Access::Store, U));
        let tor = pmp(&[(0, 0x1000 >> 2), (TOR | EXECUTE, 0x3000 >> 2)]);
        assert!(tor.allows(0x1000, 2, Access::Fetch, U) && tor.allows(0x2ffe, 2, Access::Fetch, U));
        assert!(!tor.allows(0xffe, 2, Access::Fetch, U) && !tor.allows(0x3000, 2, Access::Fetch, U));
        let all = pmp(&[(NAPOT | READ | WRITE | EXECUTE, u64::MAX)]);
        assert!(all.allows((1 << 56) - 8, 8, Access::Store, U));
    }

    /// The text's own words, byte by byte. Privileged §3.7.1, "Priority and Matching Logic".
    fn by_definition(pmp: &Pmp, addr: u64, len: u64, access: Access, privilege: Privilege) -> bool {
        let matches = |index: usize, byte: u64| pmp.range(index).is_some_and(|(a, b)| a <= byte && byte <= b);
        let bytes = || addr..addr + len;
        let Some(index) = (0..pmp.count).find(|&index| bytes().any(|byte| matches(index, byte))) else {
            return privilege == M || pmp.count == 0;
        };
        let free = privilege == M && pmp.cfg[index] & LOCK == 0;
        let right = pmp.cfg[index] & [EXECUTE, READ, WRITE][access as usize] != 0;
        bytes().all(|byte| matches(index, byte)) && (free || right)
    }

    #[test]
    fn many_entries_decide_as_the_text_says() {
        let mut state = 1_u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for _ in 0..2_000 {
            let mut pmp = Pmp::new(16);
            for index in 0..16 {
                pmp.write_addr(index, draw(64) | if draw(8) == 0 { u64::MAX << 6 } else { 0 });
            }
            for first in [0, 8] {
                pmp.write_cfg(first, u64::from_le_bytes(std::array::from_fn(|_| draw(256) as u8)));
            }
            for _ in 0..50 {
                let (addr, len) = (draw(320), 1 << draw(5));
                let access = [Access::Fetch, Access::Load, Access::Store][draw(3) as usize];
                let privilege = [U, M][draw(2) as usize];
                let expected = by_definition(&pmp, addr, len, access, privilege);
                assert_eq!(
                    pmp.allows(addr, len, access, privilege),
                    expected,
                    "{pmp:?} {addr:#x} {len} {access:?}"
                );
            }
        }
    }

    #[test]
    fn first_match_decides_and_lock_binds_machine_mode() {
        let layered = pmp(&[(NAPOT, 0x1ff), (NAPOT | READ | WRITE | EXECUTE, u64::MAX)]);
        assert!(!layered.allows(0, 4, Access::Load, U));
        assert!(layered.allows(0, 4, Access::Load, M), "an unlocked entry does not bind M-mode");
        assert!(layered.allows(0x1000, 4, Access::Load, U));
        assert!(!layered.allows(0xffc, 8, Access::Load, M), "the match is partial");
        let locked = pmp(&[(NAPOT | LOCK | READ, 0x1ff)]);
        assert!(locked.allows(0, 4, Access::Load, M) && !locked.allows(0, 4, Access::Store, M));
    }

    #[test]
    fn registers_are_warl_and_locks_hold() {
        let mut pmp = pmp(&[(0, 0x400), (TOR | LOCK | READ, 0x800)]);
        pmp.write_addr(0, 1);
        pmp.write_addr(1, 1);
        assert_eq!((pmp.read_addr(0), pmp.read_addr(1)), (0x400, 0x800));
        pmp.write_cfg(0, 0);
        assert_eq!(pmp.read_cfg(0), u64::from(TOR | LOCK | READ) << 8);
        pmp.write_cfg(8, 0x62);
        assert_eq!(pmp.read_cfg(8), 0, "W without R is reserved");
        pmp.write_cfg(8, 0x7f);
        assert_eq!(pmp.read_cfg(8), 0x1f, "bits 5 and 6 do not exist");
        pmp.write_addr(2, u64::MAX);
        assert_eq!(pmp.read_addr(2), ADDRESS);
        let mut few = Pmp::new(1);
        few.write_addr(1, 1);
        few.write_cfg(0, 0x1f1f);
        assert_eq!((few.read_addr(1), few.read_cfg(0)), (0, 0x1f));
    }
}
