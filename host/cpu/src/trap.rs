//! Exceptions and interrupts: causes, delegation, entry and return. Privileged §3.1.15, §3.3, §10.1.

use crate::isa::Op;

/// Synchronous exceptions, by their `mcause` code. Privileged, table "Machine cause register (mcause) values".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exception {
    /// Target of a jump or branch is not aligned to an instruction.
    FetchMisaligned = 0,
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
    /// Misaligned store or AMO that is not supported.
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
pub struct Trap {
    /// What `mcause` will say.
    pub cause: Exception,
    /// What `mtval` will say.
    pub tval: u64,
}

impl Trap {
    /// An illegal instruction: `tval` is its bits, the 16 of them if it is compressed.
    #[cold]
    pub(crate) fn illegal(op: &Op) -> Trap {
        Trap { cause: Exception::IllegalInstruction, tval: op.word.into() }
    }
}
