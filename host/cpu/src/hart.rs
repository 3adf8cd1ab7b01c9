//! One hart: registers and CSRs.

use crate::isa::{Op, Reg};
use crate::trap::Trap;

/// `mstatus.FS`. Privileged §3.1.6.6.
pub(crate) const MSTATUS_FS: u64 = 3 << 13;

/// One hart's architectural state and its private caches.
pub(crate) struct Hart {
    x: [u64; 33],
    f: [u64; 33],
    /// `frm << 5 | fflags`.
    pub(crate) fcsr: u32,
    pub(crate) mstatus: u64,
}

impl Hart {
    /// An integer register.
    #[inline(always)]
    pub(crate) fn x(&self, reg: Reg) -> u64 {
        self.x[reg as usize]
    }

    /// Writes an integer register. The decoder has turned a destination of `x0` into `Reg::Sink`.
    #[inline(always)]
    pub(crate) fn set_x(&mut self, reg: Reg, value: u64) {
        self.x[reg as usize] = value;
    }

    /// A floating-point register, NaN boxed.
    #[inline(always)]
    pub(crate) fn f(&self, reg: Reg) -> u64 {
        self.f[reg as usize]
    }

    /// Writes a floating-point register and marks the floating-point state dirty.
    #[inline(always)]
    pub(crate) fn set_f(&mut self, reg: Reg, value: u64) {
        self.f[reg as usize] = value;
        self.mark_fs_dirty();
    }

    /// Floating point is switched off by `mstatus.FS`.
    #[inline(always)]
    pub(crate) fn fs_off(&self) -> bool {
        self.mstatus & MSTATUS_FS == 0
    }

    /// Floating-point state was written.
    #[inline(always)]
    pub(crate) fn mark_fs_dirty(&mut self) {
        self.mstatus |= MSTATUS_FS;
    }

    /// Every floating-point instruction is illegal while FS is off.
    #[inline(always)]
    pub(crate) fn require_fp(&self, op: &Op) -> Result<(), Trap> {
        if self.fs_off() { Err(Trap::illegal(op)) } else { Ok(()) }
    }

    /// The rounding mode of `op`: 0 RNE, 1 RTZ, 2 RDN, 3 RUP, 4 RMM. Reserved ones are illegal, also in `frm`. F §"Rounding modes".
    #[inline(always)]
    pub(crate) fn rounding(&self, op: &Op) -> Result<u32, Trap> {
        let rm = if op.rm() == 7 { (self.fcsr >> 5) & 7 } else { op.rm() };
        if rm > 4 { Err(Trap::illegal(op)) } else { Ok(rm) }
    }

    /// Accrues exception flags (NV 16, DZ 8, OF 4, UF 2, NX 1).
    #[inline(always)]
    pub(crate) fn raise_fp(&mut self, flags: u32) {
        if flags != 0 {
            self.fcsr |= flags;
            self.mark_fs_dirty();
        }
    }
}
