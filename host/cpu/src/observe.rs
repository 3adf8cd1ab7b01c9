//! Watching harts: what they do is told to the bus, and nothing that they do is different for it.
//!
//! Nobody pays for it who does not ask: whoever does gets a tier of its own, which executes the bodies of
//! [`crate::run`] one by one. A test for it where traps are taken and left would be some 3 instructions of the host's
//! for each of a guest that traps all the time.

use crate::block::Arena;
use crate::hart::{Hart, Privilege};
use crate::isa::{Kind, Op, Reg};
use crate::run::{self, After, Pause};
use crate::shared::Cx;

/// What of the harts' doings is told to [`crate::Bus::observed`]. By default nothing; otherwise instructions are
/// executed by a slower tier.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Interest {
    /// Stretches of instructions.
    pub blocks: bool,
    /// Loads and stores.
    pub accesses: bool,
    /// Exceptions, interrupts, and the returns from both.
    pub traps: bool,
}

impl Interest {
    /// Whether anything is wanted: the usual tiers tell nothing.
    pub(crate) fn is_any(self) -> bool {
        self.blocks || self.accesses || self.traps
    }
}

/// Something that a hart did. The parts of a block are told before the block, which ends only then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Observation {
    /// Instructions that lie behind one another.
    Block(BlockRun),
    /// A load or a store.
    Access(MemoryAccess),
    /// An exception or an interrupt.
    Trap(TrapTaken),
    /// A return from one.
    Return(TrapReturn),
}

/// Instructions that lie behind one another and were attempted in succession. An attempt whose fetch failed is in none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockRun {
    /// The hart.
    pub hart: usize,
    /// The machine's count of instructions attempted before the first.
    pub icount: u64,
    /// Virtual address of the first.
    pub pc: u64,
    /// From there to behind the last, in bytes.
    pub bytes: u64,
    /// How many were attempted; the last one may have trapped.
    pub instructions: u64,
    /// The mode that they were attempted in.
    pub privilege: Privilege,
    /// `satp` there; 0 in M-mode.
    pub satp: u64,
    /// What the last one did.
    pub end: BlockEnd,
}

/// What the last instruction of a block did. Calls and returns are told from other jumps by the registers that they
/// use: Unprivileged, table "Return-address stack prediction hints encoded in the register operands of a JALR".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockEnd {
    /// What lies behind it is next.
    Next,
    /// It went elsewhere.
    Jump,
    /// It went elsewhere, and what lies behind it is where a return comes back to.
    Call,
    /// It came back from a call.
    Return,
    /// It trapped.
    Trap,
    /// It came back from a trap.
    TrapReturn,
}

/// What an access did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessKind {
    /// A load, also a reserved one.
    Load,
    /// A store, also a conditional one that did.
    Store,
    /// Both in one, by an atomic instruction.
    Atomic,
}

/// A load or a store of an instruction that did not trap. Page-table walks and fetches are none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryAccess {
    /// The hart.
    pub hart: usize,
    /// The machine's count of instructions attempted before it.
    pub icount: u64,
    /// Virtual address of the instruction.
    pub pc: u64,
    /// What it did.
    pub kind: AccessKind,
    /// Virtual address of the first byte.
    pub va: u64,
    /// Bytes: 1, 2, 4 or 8, and the 64 of `cbo.zero`.
    pub size: u64,
    /// What was loaded or stored, zero-extended; of an atomic instruction, what was there before.
    pub value: u64,
}

/// A trap that was just taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrapTaken {
    /// The hart.
    pub hart: usize,
    /// The machine's count of instructions attempted before the one that trapped, or that was not attempted yet.
    pub icount: u64,
    /// `mcause` or `scause`, with its upper bit for an interrupt.
    pub cause: u64,
    /// Virtual address of that instruction.
    pub epc: u64,
    /// `mtval` or `stval`.
    pub tval: u64,
    /// The mode that it was taken in.
    pub from: Privilege,
    /// The mode that it was taken to.
    pub to: Privilege,
    /// Virtual address of the handler.
    pub handler: u64,
}

/// An `mret` or `sret`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrapReturn {
    /// The hart.
    pub hart: usize,
    /// The machine's count of instructions attempted before it.
    pub icount: u64,
    /// Virtual address that it goes to.
    pub pc: u64,
    /// The mode that it was executed in.
    pub from: Privilege,
    /// The mode that it goes to.
    pub to: Privilege,
}

/// An exception or an interrupt was taken: told, if it is wanted.
#[cold]
#[inline(never)]
pub(crate) fn tell_trap(h: &Hart, cx: &mut Cx<'_>, from: Privilege, icount: u64) {
    if !cx.observed.traps {
        return;
    }
    let csr = &h.csr;
    let (cause, epc, tval) = match h.privilege {
        Privilege::Machine => (csr.mcause, csr.mepc, csr.mtval),
        Privilege::Supervisor | Privilege::User => (csr.scause, csr.sepc, csr.stval),
    };
    let (hart, to, handler) = (h.id, h.privilege, h.pc);
    cx.bus.observed(&Observation::Trap(TrapTaken { hart, icount, cause, epc, tval, from, to, handler }));
}

/// As [`run::execute`], and tells of it.
pub(crate) fn execute(h: &mut Hart, cx: &mut Cx<'_>, arena: &Arena) -> Pause {
    loop {
        let left = cx.limit - cx.icount;
        if left == 0 {
            return Pause::Limit;
        }
        let Some(span) = h.caches.block(h.pc) else { return Pause::Miss };
        let block = &arena.ops[span.start as usize..][..span.len as usize];
        let fits = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if let After::Check = run_block(h, cx, &block[..fits]) {
            return Pause::Check;
        }
    }
}

/// Executes instructions that lie behind one another, until one of them goes elsewhere.
fn run_block(h: &mut Hart, cx: &mut Cx<'_>, ops: &[Op]) -> After {
    let (pc, privilege) = (h.pc, h.privilege);
    let satp = if privilege == Privilege::Machine { 0 } else { h.csr.satp };
    let (icount, traps) = (cx.icount, h.counters.traps);
    let (mut after, mut behind, mut last) = (After::Next, pc, None);
    for op in ops {
        last = Some(op);
        let place = pc.wrapping_add(u64::from(op.off) * 2);
        behind = place.wrapping_add(op.len.into());
        let (at, from) = (cx.icount_of(op), h.privilege);
        after = if cx.observed.accesses { step(h, cx, op, pc) } else { run::step(h, cx, op, pc) };
        if h.counters.traps != traps {
            tell_trap(h, cx, from, at);
        } else if matches!(op.kind, Kind::mret | Kind::sret) {
            tell_return(h, cx, from, at);
        }
        match after {
            After::Next => {}
            After::Check | After::Go => break,
        }
    }
    if let After::Next = after {
        h.pc = behind;
        cx.icount += ops.len() as u64;
    }
    if cx.observed.blocks {
        let (bytes, instructions) = (behind.wrapping_sub(pc), cx.icount - icount);
        let trapped = h.counters.traps != traps;
        let end = if trapped {
            BlockEnd::Trap
        } else {
            last.map_or(BlockEnd::Next, |op| end_of(op, h.pc == behind))
        };
        let run = BlockRun { hart: h.id, icount, pc, bytes, instructions, privilege, satp, end };
        cx.bus.observed(&Observation::Block(run));
    }
    after
}

/// A return from a trap is done: told, if it is wanted.
fn tell_return(h: &Hart, cx: &mut Cx<'_>, from: Privilege, icount: u64) {
    if cx.observed.traps {
        let (hart, pc, to) = (h.id, h.pc, h.privilege);
        cx.bus.observed(&Observation::Return(TrapReturn { hart, icount, pc, from, to }));
    }
}

/// What an instruction has done that did not trap. `falls`: what lies behind it is next.
fn end_of(op: &Op, falls: bool) -> BlockEnd {
    let is_link = |register: Reg| register == Reg::X1 || register == Reg::X5;
    match op.kind {
        Kind::jal | Kind::jalr if is_link(op.rd) => BlockEnd::Call,
        Kind::jalr if is_link(op.rs1) => BlockEnd::Return,
        Kind::mret | Kind::sret => BlockEnd::TrapReturn,
        _ if falls => BlockEnd::Next,
        _ => BlockEnd::Jump,
    }
}

/// As [`run::step`], and tells of the access.
fn step(h: &mut Hart, cx: &mut Cx<'_>, op: &Op, block: u64) -> After {
    let Some((kind, size)) = access(op.kind) else { return run::step(h, cx, op, block) };
    let (icount, traps) = (cx.icount_of(op), h.counters.traps);
    let pc = block.wrapping_add(u64::from(op.off) * 2);
    let stored = stored(h, op);
    let mut va = h.x(op.rs1).wrapping_add_signed(offset(op).into());
    let after = run::step(h, cx, op, block);
    let failed = is_conditional(op.kind) && h.x(op.rd) != 0;
    if h.counters.traps == traps && !failed {
        let value = match kind {
            AccessKind::Store => stored,
            AccessKind::Load | AccessKind::Atomic => loaded(h, op),
        };
        if size == CACHE_BLOCK {
            va &= !(CACHE_BLOCK - 1);
        }
        let value = if size < 8 { value & ((1 << (8 * size)) - 1) } else { value };
        let access = MemoryAccess { hart: h.id, icount, pc, kind, va, size, value };
        cx.bus.observed(&Observation::Access(access));
    }
    after
}

const CACHE_BLOCK: u64 = crate::exec::mem::CACHE_BLOCK;

/// What an instruction does with memory, and with how many bytes.
fn access(kind: Kind) -> Option<(AccessKind, u64)> {
    use AccessKind::{Atomic, Load, Store};
    Some(match kind {
        Kind::lb | Kind::lbu => (Load, 1),
        Kind::lh | Kind::lhu | Kind::flh => (Load, 2),
        Kind::lw | Kind::lwu | Kind::flw | Kind::lr_w => (Load, 4),
        Kind::ld | Kind::fld | Kind::lr_d => (Load, 8),
        Kind::sb => (Store, 1),
        Kind::sh | Kind::fsh => (Store, 2),
        Kind::sw | Kind::fsw | Kind::sc_w => (Store, 4),
        Kind::sd | Kind::fsd | Kind::sc_d => (Store, 8),
        Kind::cbo_zero => (Store, CACHE_BLOCK),
        Kind::amoswap_w
        | Kind::amoadd_w
        | Kind::amoxor_w
        | Kind::amoand_w
        | Kind::amoor_w
        | Kind::amomin_w
        | Kind::amomax_w
        | Kind::amominu_w
        | Kind::amomaxu_w => (Atomic, 4),
        Kind::amoswap_d
        | Kind::amoadd_d
        | Kind::amoxor_d
        | Kind::amoand_d
        | Kind::amoor_d
        | Kind::amomin_d
        | Kind::amomax_d
        | Kind::amominu_d
        | Kind::amomaxu_d => (Atomic, 8),
        _ => return None,
    })
}

fn is_conditional(kind: Kind) -> bool {
    matches!(kind, Kind::sc_w | Kind::sc_d)
}

/// Atomics and cache-block operations have none.
fn offset(op: &Op) -> i32 {
    let row = op.kind.row();
    let has_offset = row.is_some_and(|row| row.operands.contains(['j', 'q']));
    if has_offset { op.imm } else { 0 }
}

/// What an instruction stores, if it stores.
fn stored(h: &Hart, op: &Op) -> u64 {
    match op.kind {
        Kind::fsh | Kind::fsw | Kind::fsd => h.f(op.rs2),
        Kind::cbo_zero => 0,
        _ => h.x(op.rs2),
    }
}

/// What an instruction has loaded, if it was a load: also where it went to `x0`.
fn loaded(h: &Hart, op: &Op) -> u64 {
    match op.kind {
        Kind::flh | Kind::flw | Kind::fld => h.f(op.rd),
        _ => h.x(op.rd),
    }
}
