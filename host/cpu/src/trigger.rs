//! Debug triggers: address match (types 2 and 6) that raises a breakpoint. Debug 1.0 §5.
//!
//! Modelled: match of the address of an execution, load or store, before it happens, in the chosen privilege modes;
//! equal, napot, at least, less. Not modelled: data match, chains, `timing` after, debug mode (there is no debugger
//! in the hart).

use crate::hart::{Hart, Privilege};
use crate::mmu::Access;
use crate::trap::{Exception, Trap};

/// `tdata1.type`.
const TYPE_SHIFT: u32 = 60;
const MCONTROL: u64 = 2;
const MCONTROL6: u64 = 6;
const DISABLED: u64 = 15;

// Bits that mcontrol and mcontrol6 have in common.
const LOAD: u64 = 1;
const STORE: u64 = 1 << 1;
const EXECUTE: u64 = 1 << 2;
const USER: u64 = 1 << 3;
const SUPERVISOR: u64 = 1 << 4;
const MACHINE: u64 = 1 << 6;
const MATCH_SHIFT: u32 = 7;
const MATCH: u64 = 15 << MATCH_SHIFT;
const WRITABLE: u64 = LOAD | STORE | EXECUTE | USER | SUPERVISOR | MACHINE;

/// `tinfo`: version 1, types 2, 6 and 15.
pub(crate) const TINFO: u64 = 1 << 24 | 1 << MCONTROL | 1 << MCONTROL6 | 1 << DISABLED;

/// One trigger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Trigger {
    tdata1: u64,
    tdata2: u64,
}

impl Trigger {
    fn fires(&self, kind: u64, privilege: Privilege, addr: u64, len: u64) -> bool {
        let mode = match privilege {
            Privilege::User => USER,
            Privilege::Supervisor => SUPERVISOR,
            Privilege::Machine => MACHINE,
        };
        if self.tdata1 & kind == 0 || self.tdata1 & mode == 0 {
            return false;
        }
        match (self.tdata1 & MATCH) >> MATCH_SHIFT {
            // Any byte of the access may be the one that is watched.
            0 => self.tdata2.wrapping_sub(addr) < len,
            1 => {
                let size = self.tdata2 ^ self.tdata2.wrapping_add(1);
                addr & !size == self.tdata2 & !size
            }
            2 => addr >= self.tdata2,
            _ => addr < self.tdata2,
        }
    }
}

/// The triggers of one hart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Triggers {
    select: usize,
    list: Vec<Trigger>,
    /// Some trigger watches execution; some trigger watches data.
    execute: bool,
    data: bool,
}

impl Triggers {
    pub(crate) fn new(count: usize) -> Triggers {
        let disabled = Trigger { tdata1: DISABLED << TYPE_SHIFT, tdata2: 0 };
        Triggers { select: 0, list: vec![disabled; count.min(16)], execute: false, data: false }
    }

    pub(crate) fn tselect(&self) -> u64 {
        self.select as u64
    }

    /// WARL: only triggers that exist can be selected.
    pub(crate) fn select(&mut self, value: u64) {
        if value < self.list.len() as u64 {
            self.select = value as usize;
        }
    }

    pub(crate) fn tdata1(&self) -> u64 {
        self.list.get(self.select).map_or(0, |trigger| trigger.tdata1)
    }

    pub(crate) fn tdata2(&self) -> u64 {
        self.list.get(self.select).map_or(0, |trigger| trigger.tdata2)
    }

    /// Whether there are triggers at all.
    pub(crate) fn exist(&self) -> bool {
        !self.list.is_empty()
    }

    /// WARL: a type that does not exist becomes 15 (disabled), a match that does not exist becomes equality.
    pub(crate) fn set_tdata1(&mut self, value: u64) {
        let kind = value >> TYPE_SHIFT;
        let Some(trigger) = self.list.get_mut(self.select) else { return };
        trigger.tdata1 = if kind == MCONTROL || kind == MCONTROL6 {
            let matching = match (value & MATCH) >> MATCH_SHIFT {
                known @ 0..=3 => known,
                _ => 0,
            };
            kind << TYPE_SHIFT | matching << MATCH_SHIFT | value & WRITABLE
        } else {
            DISABLED << TYPE_SHIFT
        };
        self.rebuild();
    }

    pub(crate) fn set_tdata2(&mut self, value: u64) {
        if let Some(trigger) = self.list.get_mut(self.select) {
            trigger.tdata2 = value;
        }
    }

    fn rebuild(&mut self) {
        let armed = |what: u64| {
            let modes = USER | SUPERVISOR | MACHINE;
            self.list.iter().any(|trigger| trigger.tdata1 & what != 0 && trigger.tdata1 & modes != 0)
        };
        (self.execute, self.data) = (armed(EXECUTE), armed(LOAD | STORE));
    }

    /// Some trigger watches execution: every instruction must be checked.
    #[inline]
    pub(crate) fn watch_execution(&self) -> bool {
        self.execute
    }

    /// Some trigger watches loads or stores: none of them may take the fast path.
    pub(crate) fn watch_data(&self) -> bool {
        self.data
    }

    /// For saving: `tselect`, then `tdata1` and `tdata2` of each.
    pub(crate) fn saved(&self) -> Vec<u64> {
        let values = self.list.iter().flat_map(|trigger| [trigger.tdata1, trigger.tdata2]);
        std::iter::once(self.select as u64).chain(values).collect()
    }

    /// For restoring. False if there are not as many triggers, or the selection is none of them.
    pub(crate) fn restore(&mut self, saved: &[u64]) -> bool {
        let Some((&select, values)) = saved.split_first() else { return false };
        if values.len() != 2 * self.list.len() || select >= self.list.len().max(1) as u64 {
            return false;
        }
        for (index, pair) in values.chunks_exact(2).enumerate() {
            self.select = index;
            self.set_tdata1(pair[0]);
            self.set_tdata2(pair[1]);
        }
        self.select = select as usize;
        true
    }
}

impl Hart {
    /// Raises a breakpoint if a trigger watches this load or store.
    #[inline]
    pub(crate) fn check_data_triggers(&self, va: u64, len: u64, access: Access) -> Result<(), Trap> {
        if !self.triggers.watch_data() {
            return Ok(());
        }
        let kind = if access == Access::Load { LOAD } else { STORE };
        self.breakpoint_if(kind, self.data_privilege(), va, len)
    }

    /// Raises a breakpoint if a trigger watches the execution of the instruction at `pc`.
    pub(crate) fn check_execute_triggers(&self, pc: u64) -> Result<(), Trap> {
        self.breakpoint_if(EXECUTE, self.privilege, pc, 1)
    }

    fn breakpoint_if(&self, kind: u64, privilege: Privilege, addr: u64, len: u64) -> Result<(), Trap> {
        let fires = self.triggers.list.iter().any(|trigger| trigger.fires(kind, privilege, addr, len));
        if fires { Err(Trap { cause: Exception::Breakpoint, tval: addr }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tdata1_is_warl() {
        let mut triggers = Triggers::new(2);
        assert_eq!(triggers.tdata1(), 15 << 60);
        triggers.set_tdata1(u64::MAX);
        assert_eq!(triggers.tdata1(), 15 << 60, "type 15 has no fields");
        triggers.set_tdata1(2 << 60 | 0xf_ffff_ffff);
        assert_eq!(triggers.tdata1(), 2 << 60 | WRITABLE, "an unknown match becomes equality");
        triggers.set_tdata1(3 << 60 | 1);
        assert_eq!(triggers.tdata1(), 15 << 60, "icount does not exist");
        triggers.select(2);
        assert_eq!(triggers.tselect(), 0);
        triggers.select(1);
        assert_eq!((triggers.tselect(), triggers.tdata1()), (1, 15 << 60));
    }

    #[test]
    fn matching() {
        let trigger = |matching: u64, tdata2| Trigger {
            tdata1: MCONTROL << 60 | matching << MATCH_SHIFT | LOAD | SUPERVISOR,
            tdata2,
        };
        let fires = |trigger: Trigger, addr| trigger.fires(LOAD, Privilege::Supervisor, addr, 4);
        assert!(fires(trigger(0, 0x1002), 0x1000) && !fires(trigger(0, 0x1004), 0x1000));
        assert!(fires(trigger(1, 0x10ff), 0x1000) && !fires(trigger(1, 0x10ff), 0x1200));
        assert!(fires(trigger(2, 0x1000), 0x1000) && !fires(trigger(2, 0x1001), 0x1000));
        assert!(fires(trigger(3, 0x1001), 0x1000) && !fires(trigger(3, 0x1000), 0x1000));
        assert!(!trigger(0, 0x1000).fires(STORE, Privilege::Supervisor, 0x1000, 4));
        assert!(!trigger(0, 0x1000).fires(LOAD, Privilege::Machine, 0x1000, 4));
    }
}
