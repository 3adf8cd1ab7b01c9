//! Address translation: the walk, and what fills the TLB. Privileged §12.3 to §12.6, Svnapot, Svpbmt, Svade, Svadu.

use crate::config::SatpMode;
use crate::hart::{Hart, Privilege, envcfg, mstatus};
use crate::ram::{GuestRam, PAGE_SIZE};
use crate::shared::Cx;
use crate::trap::{Exception, Trap};

/// Why memory is touched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Fetch,
    Load,
    /// Also AMOs and cache-block operations.
    Store,
}

impl Access {
    pub(crate) fn page_fault(self, va: u64) -> Trap {
        let cause = match self {
            Access::Fetch => Exception::FetchPage,
            Access::Load => Exception::LoadPage,
            Access::Store => Exception::StorePage,
        };
        Trap { cause, tval: va }
    }

    pub(crate) fn access_fault(self, va: u64) -> Trap {
        let cause = match self {
            Access::Fetch => Exception::FetchAccess,
            Access::Load => Exception::LoadAccess,
            Access::Store => Exception::StoreAccess,
        };
        Trap { cause, tval: va }
    }
}

const V: u64 = 1;
const R: u64 = 1 << 1;
const W: u64 = 1 << 2;
const X: u64 = 1 << 3;
const U: u64 = 1 << 4;
const A: u64 = 1 << 6;
const D: u64 = 1 << 7;
const PPN_SHIFT: u32 = 10;
const PPN: u64 = (1 << 44) - 1;
const RESERVED: u64 = 0x7f << 54;
const PBMT_SHIFT: u32 = 61;
const PBMT: u64 = 3 << PBMT_SHIFT;
const N: u64 = 1 << 63;

const MODE_SHIFT: u32 = 60;

/// The paging mode in a value of `satp`: number of levels, 0 for bare. `None` for modes the hart does not have.
pub(crate) fn levels(satp: u64, max: SatpMode) -> Option<u32> {
    match satp >> MODE_SHIFT {
        0 => Some(0),
        8 => Some(3),
        9 if max >= SatpMode::Sv48 => Some(4),
        10 if max >= SatpMode::Sv57 => Some(5),
        _ => None,
    }
}

/// Where an access goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mapped {
    pub(crate) pa: u64,
    /// The same holds for the whole page.
    pub(crate) whole_page: bool,
}

/// Translates and checks `len` bytes at `va`, which lie in one page.
pub(crate) fn translate(
    h: &mut Hart,
    cx: &mut Cx<'_>,
    va: u64,
    len: u64,
    access: Access,
) -> Result<Mapped, Trap> {
    let privilege = if access == Access::Fetch { h.privilege } else { h.data_privilege() };
    let levels =
        levels(h.csr.satp, h.config.max_satp).expect("satp never holds a mode the hart does not have");
    let pa = if privilege == Privilege::Machine || levels == 0 {
        va
    } else {
        walk(h, cx, va, access, privilege, levels)?
    };
    // Physical addresses have 56 bits; beyond them nothing answers.
    if pa >> 56 != 0 {
        return Err(access.access_fault(va));
    }
    // What holds for the page holds for all in it: one question for nearly every access.
    let whole_page = h.pmp.allows(pa & !(PAGE_SIZE - 1), PAGE_SIZE, access, privilege);
    if !whole_page && !h.pmp.allows(pa, len, access, privilege) {
        return Err(access.access_fault(va));
    }
    Ok(Mapped { pa, whole_page })
}

/// Privileged §12.3.2, "Virtual Address Translation Process". The comments name its steps.
fn walk(
    h: &mut Hart,
    cx: &mut Cx<'_>,
    va: u64,
    access: Access,
    privilege: Privilege,
    levels: u32,
) -> Result<u64, Trap> {
    let unused = 64 - (12 + 9 * levels);
    if ((va << unused) as i64 >> unused) as u64 != va {
        return Err(access.page_fault(va));
    }
    let known = h.caches.last_tables.find(h.csr.satp, va);
    let (mut table, mut level) = known.map_or(((h.csr.satp & PPN) * PAGE_SIZE, levels), |table| (table, 1));
    loop {
        level -= 1;
        // Step 2: read the entry, as S-mode would.
        let at = table + (va >> (12 + 9 * level) & 511) * 8;
        if known.is_none() && !readable_table(h, cx, at, 8) {
            return Err(access.access_fault(va));
        }
        let pte = u64::from_le_bytes(cx.ram.get(at - cx.ram.base()));
        cx.watch_table(h, at, (level == 0).then_some(va));
        // Step 3: is it an entry at all?
        let pbmt_off = h.csr.menvcfg & envcfg::PBMTE == 0;
        let reserved = pte & RESERVED != 0 || pte & PBMT == PBMT || pte & PBMT != 0 && pbmt_off;
        if pte & V == 0 || pte & (R | W) == W || reserved {
            return Err(access.page_fault(va));
        }
        let ppn = pte >> PPN_SHIFT & PPN;
        // Step 4: a pointer to the next table.
        if pte & (R | X) == 0 {
            if level == 0 || pte & (A | D | U | PBMT | N) != 0 {
                return Err(access.page_fault(va));
            }
            table = ppn * PAGE_SIZE;
            if level == 1 && readable_table(h, cx, table, PAGE_SIZE) {
                h.caches.last_tables.install(h.csr.satp, va, table);
            }
            continue;
        }
        // Steps 5 and 6: a leaf.
        if !leaf_allows(h, pte, access, privilege) {
            return Err(access.page_fault(va));
        }
        let span = leaf_span(pte, ppn, level).ok_or_else(|| access.page_fault(va))?;
        // Step 9: accessed and dirty.
        let wanted = if access == Access::Store { A | D } else { A };
        if pte & wanted != wanted {
            if h.csr.menvcfg & envcfg::ADUE == 0 {
                return Err(access.page_fault(va));
            }
            if !h.pmp.allows(at, 8, Access::Store, Privilege::Supervisor) {
                return Err(access.access_fault(va));
            }
            cx.store_accessed(h, at, (pte | wanted).to_le_bytes());
        }
        return Ok((ppn * PAGE_SIZE) & !(span - 1) | va & (span - 1));
    }
}

/// Whether a walk may read these bytes: it does so as S-mode would.
fn readable_table(h: &Hart, cx: &Cx<'_>, gpa: u64, len: u64) -> bool {
    cx.ram.contains(gpa, len) && h.pmp.allows(gpa, len, Access::Load, Privilege::Supervisor)
}

/// Whether two values of `satp` surely map the upper half of the address space alike: their root tables say the same
/// there. Both are watched from now on as tables whose entries concern everything.
pub(crate) fn same_upper_half(h: &mut Hart, cx: &mut Cx<'_>, old: u64, new: u64) -> bool {
    const HALF: u64 = PAGE_SIZE / 2;
    let [old_root, new_root] = [old, new].map(|satp| (satp & PPN) * PAGE_SIZE);
    let paged = old >> MODE_SHIFT == new >> MODE_SHIFT && new >> MODE_SHIFT != 0;
    if !paged || [old_root, new_root].into_iter().any(|root| !readable_table(h, cx, root, PAGE_SIZE)) {
        return false;
    }
    let upper = |root| cx.ram.get::<{ HALF as usize }>(root + HALF - cx.ram.base());
    let same = upper(old_root) == upper(new_root);
    if same {
        cx.watch_table(h, old_root, None);
        cx.watch_table(h, new_root, None);
    }
    same
}

/// Where the tables lead, for who only wants to look: no rights are asked for, and nothing is marked.
pub(crate) fn peek(h: &Hart, ram: &GuestRam, va: u64) -> Option<u64> {
    let levels = levels(h.csr.satp, h.config.max_satp)?;
    let mut table = (h.csr.satp & PPN) * PAGE_SIZE;
    for level in (0..levels).rev() {
        let mut pte = [0; 8];
        ram.read(table + (va >> (12 + 9 * level) & 511) * 8, &mut pte).ok()?;
        let pte = u64::from_le_bytes(pte);
        let ppn = pte >> PPN_SHIFT & PPN;
        if pte & V == 0 {
            return None;
        }
        if pte & (R | X) != 0 {
            let span = leaf_span(pte, ppn, level)?;
            return Some((ppn * PAGE_SIZE) & !(span - 1) | va & (span - 1));
        }
        table = ppn * PAGE_SIZE;
    }
    // Bare, or tables that end in a pointer.
    (levels == 0).then_some(va)
}

fn leaf_allows(h: &Hart, pte: u64, access: Access, privilege: Privilege) -> bool {
    let user_page = pte & U != 0;
    let mode_allows = match privilege {
        Privilege::User => user_page,
        _ => !user_page || access != Access::Fetch && h.mstatus & mstatus::SUM != 0,
    };
    let right = match access {
        Access::Fetch => X,
        Access::Load if h.mstatus & mstatus::MXR != 0 => R | X,
        Access::Load => R,
        Access::Store => W,
    };
    mode_allows && pte & right != 0
}

/// Bytes that a leaf maps, or `None` if its address is not aligned to them. Svnapot: N with 1000 below makes 64 KiB.
fn leaf_span(pte: u64, ppn: u64, level: u32) -> Option<u64> {
    if pte & N != 0 {
        return (level == 0 && ppn & 15 == 8).then_some(16 * PAGE_SIZE);
    }
    let pages = 1 << (9 * level);
    (ppn & (pages - 1) == 0).then_some(pages * PAGE_SIZE)
}
