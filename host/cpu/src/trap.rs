//! Exceptions and interrupts: causes, delegation, entry and return. Privileged §3.1.6 to §3.1.9, §3.1.15, §3.3.2,
//! §3.5, §12.1.

use crate::hart::{Hart, Privilege, Waiting, envcfg, mstatus};
use crate::isa::Op;

/// Synchronous exceptions, by their `mcause` code. Privileged, table "Machine cause register (mcause) values". There
/// is no 0: with compressed instructions every target is aligned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Exception {
    /// Instruction fetch from where nothing may be executed.
    FetchAccess = 1,
    /// The instruction does not exist or may not be executed here.
    IllegalInstruction = 2,
    /// `ebreak`, or a debug trigger.
    Breakpoint = 3,
    /// Misaligned load that is not supported (LR).
    LoadMisaligned = 4,
    /// Load refused by PMP or by the bus.
    LoadAccess = 5,
    /// Misaligned SC or AMO.
    StoreMisaligned = 6,
    /// Store or AMO refused by PMP or by the bus.
    StoreAccess = 7,
    /// `ecall` from U-mode.
    EcallU = 8,
    /// `ecall` from S-mode.
    EcallS = 9,
    /// `ecall` from M-mode.
    EcallM = 11,
    /// Instruction fetch refused by the page tables.
    FetchPage = 12,
    /// Load refused by the page tables.
    LoadPage = 13,
    /// Store or AMO refused by the page tables.
    StorePage = 15,
}

/// A synchronous exception about to be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Trap {
    /// What `mcause` will say.
    pub(crate) cause: Exception,
    /// What `mtval` will say.
    pub(crate) tval: u64,
}

impl Trap {
    /// An illegal instruction: `tval` is its bits, the 16 of them if it is compressed.
    #[cold]
    pub(crate) fn illegal(op: &Op) -> Trap {
        Trap { cause: Exception::IllegalInstruction, tval: op.word.into() }
    }
}

/// Wires into a hart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Irq {
    /// Supervisor software interrupt: a rising level sets `mip.SSIP`, which software clears (ACLINT SSWI).
    Ssip,
    /// Machine software interrupt.
    Msip,
    /// Machine timer.
    Mtip,
    /// Machine external interrupt.
    Meip,
    /// Supervisor external interrupt; ORed with the bit that software writes.
    Seip,
}

pub(crate) const SSIP: u64 = 1 << 1;
pub(crate) const MSIP: u64 = 1 << 3;
pub(crate) const STIP: u64 = 1 << 5;
pub(crate) const MTIP: u64 = 1 << 7;
pub(crate) const SEIP: u64 = 1 << 9;
pub(crate) const MEIP: u64 = 1 << 11;
/// Interrupts that can be delegated to S-mode.
pub(crate) const SUPERVISOR: u64 = SSIP | STIP | SEIP;
/// All interrupts there are.
pub(crate) const ALL: u64 = SUPERVISOR | MSIP | MTIP | MEIP;
/// Exceptions that can be delegated to S-mode: all but `ecall` from M-mode.
pub(crate) const DELEGABLE: u64 = 0xb3ff;

const INTERRUPT: u64 = 1 << 63;
/// Privileged §3.1.9: simultaneous interrupts are taken in this order.
const PRIORITY: [u64; 6] = [MEIP, MSIP, MTIP, SEIP, SSIP, STIP];

/// Interrupt state of a hart: what software wrote, what wires say, what the timer says.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Interrupts {
    /// Bits of `mip` that software holds: SSIP, STIP (without Sstc), SEIP.
    pub(crate) software: u64,
    /// Levels of the wires.
    pub(crate) wires: u64,
    /// STIP as `stimecmp` has it, while `menvcfg.STCE` is set.
    pub(crate) timer: u64,
    pub(crate) mie: u64,
    pub(crate) mideleg: u64,
}

impl Interrupts {
    /// `mip` as it reads.
    #[inline]
    pub(crate) fn mip(&self) -> u64 {
        self.software | self.wires | self.timer
    }

    /// Pending and enabled in `mie`: what wakes a hart.
    #[inline]
    pub(crate) fn pending(&self) -> u64 {
        self.mip() & self.mie
    }

    /// Everything but the wires, which belong to their drivers.
    pub(crate) fn reset(&mut self) {
        *self = Interrupts { wires: self.wires, ..Interrupts::default() };
    }

    /// Sets the level of a wire.
    pub(crate) fn set_wire(&mut self, irq: Irq, high: bool) {
        let bit = match irq {
            Irq::Ssip => {
                self.software |= if high { SSIP } else { 0 };
                return;
            }
            Irq::Msip => MSIP,
            Irq::Mtip => MTIP,
            Irq::Meip => MEIP,
            Irq::Seip => SEIP,
        };
        self.wires = if high { self.wires | bit } else { self.wires & !bit };
    }
}

impl Hart {
    /// The interrupt to take now, if any: its bit.
    pub(crate) fn takeable_interrupt(&self) -> Option<u64> {
        let pending = self.interrupts.pending();
        if pending == 0 {
            return None;
        }
        let machine_on = self.privilege != Privilege::Machine || self.mstatus & mstatus::MIE != 0;
        let supervisor_on = match self.privilege {
            Privilege::Machine => false,
            Privilege::Supervisor => self.mstatus & mstatus::SIE != 0,
            Privilege::User => true,
        };
        let to_machine = pending & !self.interrupts.mideleg;
        let to_supervisor = pending & self.interrupts.mideleg;
        let taken = match (machine_on, supervisor_on) {
            (true, _) if to_machine != 0 => to_machine,
            (_, true) => to_supervisor,
            _ => 0,
        };
        PRIORITY.into_iter().find(|bit| taken & bit != 0)
    }

    /// Enters the handler of the interrupt with this bit of `mip`.
    pub(crate) fn take_interrupt(&mut self, bit: u64) {
        let code = u64::from(bit.trailing_zeros());
        let delegated = self.interrupts.mideleg & bit != 0;
        self.enter(INTERRUPT | code, 0, self.pc, delegated);
    }

    /// Enters M-mode at `vector` for a non-maskable interrupt. Privileged §3.5, "Non-Maskable Interrupts": whatever the
    /// interrupt enables say, with the interrupted instruction in `mepc`, and in `mcause` the Interrupt bit and code
    /// 0, that of hardware which does not tell its sources apart. The text names no other register; `mstatus` and
    /// `mtval` are written as by any trap into M-mode, or a handler could not return with `mret`. A trap handler that
    /// had not saved its registers loses them, as the text says.
    pub(crate) fn take_nmi(&mut self, vector: u64) {
        self.enter(INTERRUPT, 0, self.pc, false);
        self.pc = vector;
        self.interrupts_changed();
    }

    /// Enters the handler of an exception of the instruction at `pc`.
    pub(crate) fn take_trap(&mut self, trap: Trap, pc: u64) {
        self.counters.traps += 1;
        let cause = trap.cause as u64;
        let delegated = self.privilege != Privilege::Machine && self.csr.medeleg >> cause & 1 != 0;
        self.enter(cause, trap.tval, pc, delegated);
    }

    fn enter(&mut self, cause: u64, tval: u64, pc: u64, delegated: bool) {
        let tvec = if delegated {
            (self.csr.scause, self.csr.stval, self.csr.sepc) = (cause, tval, pc);
            let previous = if self.privilege == Privilege::User { 0 } else { mstatus::SPP };
            self.push_status(mstatus::SIE, mstatus::SPIE, mstatus::SPP, previous);
            self.privilege = Privilege::Supervisor;
            self.csr.stvec
        } else {
            (self.csr.mcause, self.csr.mtval, self.csr.mepc) = (cause, tval, pc);
            let previous = (self.privilege as u64) << mstatus::MPP_SHIFT;
            self.push_status(mstatus::MIE, mstatus::MPIE, mstatus::MPP, previous);
            self.privilege = Privilege::Machine;
            self.csr.mtvec
        };
        let vectored = tvec & 1 != 0 && cause & INTERRUPT != 0;
        self.pc = (tvec & !3).wrapping_add(if vectored { (cause & !INTERRUPT) * 4 } else { 0 });
        self.waiting = Waiting::No;
        self.update_context();
    }

    /// xPIE = xIE, xIE = 0, xPP = `previous`.
    fn push_status(&mut self, ie: u64, pie: u64, pp: u64, previous: u64) {
        let enabled = if self.mstatus & ie != 0 { pie } else { 0 };
        self.mstatus = self.mstatus & !(ie | pie | pp) | enabled | previous;
    }

    /// xIE = xPIE, xPIE = 1, xPP = U.
    fn pop_status(&mut self, ie: u64, pie: u64, pp: u64) {
        let enabled = if self.mstatus & pie != 0 { ie } else { 0 };
        self.mstatus = self.mstatus & !(ie | pp) | enabled | pie;
    }

    /// `mret`: back to the mode in MPP. Returns the pc.
    pub(crate) fn return_from_machine(&mut self) -> u64 {
        self.privilege = self.mpp();
        self.pop_status(mstatus::MIE, mstatus::MPIE, mstatus::MPP);
        self.returned();
        self.csr.mepc
    }

    /// `sret`: back to the mode in SPP. Returns the pc.
    pub(crate) fn return_from_supervisor(&mut self) -> u64 {
        let to_user = self.mstatus & mstatus::SPP == 0;
        self.privilege = if to_user { Privilege::User } else { Privilege::Supervisor };
        self.pop_status(mstatus::SIE, mstatus::SPIE, mstatus::SPP);
        self.returned();
        self.csr.sepc
    }

    fn returned(&mut self) {
        // Privileged §3.1.6.4: returning to a less privileged mode ends MPRV.
        if self.privilege != Privilege::Machine {
            self.mstatus &= !mstatus::MPRV;
        }
        self.update_context();
        self.interrupts_changed();
    }

    /// Recomputes STIP from `stimecmp` at `time`. Privileged §12.1.1 (Sstc).
    pub(crate) fn update_timer(&mut self, time: u64) {
        let enabled = self.csr.menvcfg & envcfg::STCE != 0;
        self.interrupts.timer = if enabled && time >= self.csr.stimecmp { STIP } else { 0 };
        self.interrupts_changed();
    }
}
