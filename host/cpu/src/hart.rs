//! One hart: its architectural state and its private caches.

use crate::config::HartConfig;
use crate::isa::{Op, Reg};
use crate::pmp::Pmp;
use crate::tlb::{Bank, Caches};
use crate::trap::{Interrupts, Trap};
use crate::trigger::Triggers;

/// Fields of `mstatus`. Privileged §3.1.6.
pub(crate) mod mstatus {
    pub(crate) const SIE: u64 = 1 << 1;
    pub(crate) const MIE: u64 = 1 << 3;
    pub(crate) const SPIE: u64 = 1 << 5;
    pub(crate) const MPIE: u64 = 1 << 7;
    pub(crate) const SPP: u64 = 1 << 8;
    pub(crate) const MPP_SHIFT: u32 = 11;
    pub(crate) const MPP: u64 = 3 << MPP_SHIFT;
    pub(crate) const FS: u64 = 3 << 13;
    pub(crate) const MPRV: u64 = 1 << 17;
    pub(crate) const SUM: u64 = 1 << 18;
    pub(crate) const MXR: u64 = 1 << 19;
    pub(crate) const TVM: u64 = 1 << 20;
    pub(crate) const TW: u64 = 1 << 21;
    pub(crate) const TSR: u64 = 1 << 22;
    /// Both widths are 64 and stay it.
    pub(crate) const UXL_SXL: u64 = 2 << 32 | 2 << 34;
    pub(crate) const SD: u64 = 1 << 63;
}

/// Fields of `menvcfg` and `senvcfg`. Privileged §3.1.18.
pub(crate) mod envcfg {
    pub(crate) const FIOM: u64 = 1;
    pub(crate) const CBIE: u64 = 3 << 4;
    pub(crate) const CBCFE: u64 = 1 << 6;
    pub(crate) const CBZE: u64 = 1 << 7;
    pub(crate) const ADUE: u64 = 1 << 61;
    pub(crate) const PBMTE: u64 = 1 << 62;
    pub(crate) const STCE: u64 = 1 << 63;
}

/// Privilege modes, by their encoding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Privilege {
    /// U-mode.
    User = 0,
    /// S-mode.
    Supervisor = 1,
    /// M-mode.
    Machine = 3,
}

impl Privilege {
    /// The mode with this encoding; 2 is reserved.
    pub(crate) fn from_bits(bits: u64) -> Option<Privilege> {
        match bits {
            0 => Some(Privilege::User),
            1 => Some(Privilege::Supervisor),
            3 => Some(Privilege::Machine),
            _ => None,
        }
    }
}

/// What a hart that executed `wfi` or `wrs.nto` waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waiting {
    No,
    /// An interrupt that is pending and enabled in `mie`.
    Interrupt,
    /// That, or the loss of the reservation.
    Reservation,
}

/// The CSRs that are nothing but a value.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Csrs {
    pub(crate) medeleg: u64,
    pub(crate) mtvec: u64,
    pub(crate) mscratch: u64,
    pub(crate) mepc: u64,
    pub(crate) mcause: u64,
    pub(crate) mtval: u64,
    pub(crate) mcounteren: u64,
    pub(crate) menvcfg: u64,
    pub(crate) stvec: u64,
    pub(crate) sscratch: u64,
    pub(crate) sepc: u64,
    pub(crate) scause: u64,
    pub(crate) stval: u64,
    pub(crate) scounteren: u64,
    pub(crate) senvcfg: u64,
    pub(crate) satp: u64,
    pub(crate) stimecmp: u64,
}

/// `mcycle` and `minstret`. Privileged §3.1.10.
///
/// Both are kept as a distance from counts that always run, so that reading them needs no bookkeeping per instruction.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Counters {
    /// Instructions attempted by this hart, up to the start of the current run.
    pub(crate) attempts: u64,
    /// Those of them that trapped.
    pub(crate) traps: u64,
    /// `mcountinhibit`: bit 0 CY, bit 2 IR.
    pub(crate) inhibit: u64,
    /// `mcycle` minus attempts, or `mcycle` itself while inhibited.
    pub(crate) cycle: u64,
    /// `minstret` minus retired instructions, or `minstret` itself while inhibited.
    pub(crate) instret: u64,
}

/// One hart.
pub(crate) struct Hart {
    x: [u64; 33],
    f: [u64; 33],
    /// `frm << 5 | fflags`.
    pub(crate) fcsr: u32,
    pub(crate) mstatus: u64,
    pub(crate) pc: u64,
    pub(crate) privilege: Privilege,
    pub(crate) csr: Csrs,
    pub(crate) interrupts: Interrupts,
    pub(crate) pmp: Pmp,
    pub(crate) triggers: Triggers,
    pub(crate) counters: Counters,
    pub(crate) waiting: Waiting,
    // Configuration.
    pub(crate) id: usize,
    pub(crate) config: HartConfig,
    // Derived; dropping any of it changes nothing.
    pub(crate) caches: Caches,
    /// Attempts of this hart minus the machine's icount, while it runs.
    pub(crate) attempts_offset: u64,
    /// An interrupt may have become takeable: sample before the next instruction.
    pub(crate) sample: bool,
}

impl Hart {
    /// Distance of the integer registers from the start: translated code reaches everything from there.
    pub(crate) const X: usize = std::mem::offset_of!(Hart, x);
    /// Distance of the floating-point registers from the start.
    pub(crate) const F: usize = std::mem::offset_of!(Hart, f);

    /// `ram_host` is the host's address of guest RAM.
    pub(crate) fn new(id: usize, config: &HartConfig, ram_host: u64) -> Hart {
        let mut hart = Hart {
            x: [0; 33],
            f: [0; 33],
            fcsr: 0,
            mstatus: 0,
            pc: 0,
            privilege: Privilege::Machine,
            csr: Csrs::default(),
            interrupts: Interrupts::default(),
            pmp: Pmp::new(config.pmp_entries),
            triggers: Triggers::new(config.triggers),
            counters: Counters::default(),
            waiting: Waiting::No,
            id,
            config: config.clone(),
            caches: Caches::new(ram_host),
            attempts_offset: 0,
            sample: true,
        };
        hart.reset(0, [0; 3]);
        hart
    }

    /// The power-on state, with `pc` and a0 to a2 as the firmware's convention wants them. Wires keep their levels.
    pub(crate) fn reset(&mut self, pc: u64, args: [u64; 3]) {
        self.x = [0; 33];
        self.f = [0; 33];
        self.x[10..13].copy_from_slice(&args);
        self.fcsr = 0;
        self.mstatus = mstatus::UXL_SXL;
        self.pc = pc;
        self.privilege = Privilege::Machine;
        self.csr = Csrs { stimecmp: u64::MAX, ..Csrs::default() };
        if self.config.svadu && !self.config.svade {
            self.csr.menvcfg = envcfg::ADUE;
        }
        self.interrupts.reset();
        self.pmp = Pmp::new(self.config.pmp_entries);
        self.triggers = Triggers::new(self.config.triggers);
        self.counters =
            Counters { attempts: self.counters.attempts, traps: self.counters.traps, ..Counters::default() };
        self.counters.cycle = self.counters.attempts.wrapping_neg();
        self.counters.instret = self.counters.traps.wrapping_sub(self.counters.attempts);
        self.waiting = Waiting::No;
        self.drop_caches();
    }

    /// Forgets everything that is derived.
    pub(crate) fn drop_caches(&mut self) {
        self.caches.restart(self.csr.satp);
        self.update_context();
        self.sample = true;
    }

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

    /// Both register files, for saving; `x[0]` is always zero.
    pub(crate) fn registers(&self) -> (&[u64; 33], &[u64; 33]) {
        (&self.x, &self.f)
    }

    /// Both register files, for restoring. The caller keeps `x[0]` zero.
    pub(crate) fn registers_mut(&mut self) -> (&mut [u64; 33], &mut [u64; 33]) {
        (&mut self.x, &mut self.f)
    }

    /// Floating point is switched off by `mstatus.FS`.
    #[inline(always)]
    pub(crate) fn fs_off(&self) -> bool {
        self.mstatus & mstatus::FS == 0
    }

    /// Floating-point state was written.
    #[inline(always)]
    pub(crate) fn mark_fs_dirty(&mut self) {
        self.mstatus |= mstatus::FS;
    }

    /// Every floating-point instruction is illegal while FS is off.
    #[inline(always)]
    pub(crate) fn require_fp(&self, op: &Op) -> Result<(), Trap> {
        if self.fs_off() { Err(Trap::illegal(op)) } else { Ok(()) }
    }

    /// The rounding mode of `op`: 0 RNE, 1 RTZ, 2 RDN, 3 RUP, 4 RMM. Reserved ones are illegal, also in `frm`.
    /// Unprivileged, "F" extension, "Floating-Point Control and Status Register".
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

    /// `mstatus` as it reads: SD summarises FS (XS and VS are always off).
    pub(crate) fn read_mstatus(&self) -> u64 {
        let dirty = self.mstatus & mstatus::FS == mstatus::FS;
        self.mstatus | if dirty { mstatus::SD } else { 0 }
    }

    pub(crate) fn mpp(&self) -> Privilege {
        let bits = (self.mstatus & mstatus::MPP) >> mstatus::MPP_SHIFT;
        Privilege::from_bits(bits).expect("mstatus.MPP never holds the reserved mode")
    }

    /// The privilege that loads and stores have.
    pub(crate) fn data_privilege(&self) -> Privilege {
        if self.mstatus & mstatus::MPRV != 0 { self.mpp() } else { self.privilege }
    }

    /// Loads and stores see memory through this bank of the TLB.
    pub(crate) fn data_bank(&self) -> Bank {
        match self.data_privilege() {
            Privilege::Machine => Bank::Machine,
            Privilege::User => Bank::User,
            Privilege::Supervisor if self.mstatus & mstatus::SUM != 0 => Bank::SupervisorSum,
            Privilege::Supervisor => Bank::Supervisor,
        }
    }

    /// To be called after a change of privilege or of `mstatus`: points the fast paths at what now applies.
    #[inline]
    pub(crate) fn update_context(&mut self) {
        let data = self.data_bank();
        self.caches.select(self.privilege, data);
    }

    /// An instruction changed what interrupts are pending, enabled or deliverable.
    #[inline]
    pub(crate) fn interrupts_changed(&mut self) {
        if self.interrupts.pending() != 0 {
            self.sample = true;
        }
    }
}
