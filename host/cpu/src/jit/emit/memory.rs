//! Templates of loads, stores and atomic operations: the translation is looked up inline, all else is the body's.

use super::super::asm::{Alu, Cc, Fixup, Gpr, Rm, Widen, Width};
use super::super::layout::{READ, WRITE};
use super::{Cold, Emitter, bit};
use crate::isa::{Kind, Op};
use crate::ram::PAGE_SIZE;
use crate::tlb::SLOTS;

use Gpr::{R14, Rax, Rcx, Rdx};
use Width::{D, Q};

/// Bytes of a TLB slot, as a power of two.
const SLOT_SHIFT: u32 = 4;
const _: () = assert!(size_of::<crate::tlb::Slot>() == 1 << SLOT_SHIFT);

/// How a loaded value becomes a register.
#[derive(Clone, Copy)]
enum Load {
    Widen(Widen),
    Plain(Width),
}

/// How far apart neighbours may be, in bytes.
const NEAR: i32 = 512;

fn load_of(kind: Kind) -> Option<(u64, Load)> {
    Some(match kind {
        Kind::lb => (1, Load::Widen(Widen::S8)),
        Kind::lh => (2, Load::Widen(Widen::S16)),
        Kind::lw => (4, Load::Widen(Widen::S32)),
        Kind::ld => (8, Load::Plain(Q)),
        Kind::lbu => (1, Load::Widen(Widen::U8)),
        Kind::lhu => (2, Load::Widen(Widen::U16)),
        Kind::lwu => (4, Load::Plain(D)),
        _ => return None,
    })
}

fn stored_bytes(kind: Kind) -> Option<u64> {
    Some(match kind {
        Kind::sb => 1,
        Kind::sh => 2,
        Kind::sw => 4,
        Kind::sd => 8,
        _ => return None,
    })
}

/// Whether a plain load or store of an integer register is a store, and its bytes.
fn access(op: &Op) -> Option<(bool, u64)> {
    let load = load_of(op.kind).map(|(size, _)| (false, size));
    load.or_else(|| stored_bytes(op.kind).map(|size| (true, size)))
}

impl Emitter<'_> {
    /// Whether there is a template for this instruction here: then it is emitted.
    pub(super) fn memory(&mut self, op: &Op) -> bool {
        if let Some((size, load)) = load_of(op.kind) {
            self.load_memory(op, size, load);
            return true;
        }
        if let Some(size) = stored_bytes(op.kind) {
            self.store_memory(op, size);
            return true;
        }
        match op.kind {
            Kind::amoswap_w => self.modify(op, D, None),
            Kind::amoswap_d => self.modify(op, Q, None),
            Kind::amoadd_w => self.modify(op, D, Some(Alu::Add)),
            Kind::amoadd_d => self.modify(op, Q, Some(Alu::Add)),
            Kind::amoxor_w => self.modify(op, D, Some(Alu::Xor)),
            Kind::amoxor_d => self.modify(op, Q, Some(Alu::Xor)),
            Kind::amoand_w => self.modify(op, D, Some(Alu::And)),
            Kind::amoand_d => self.modify(op, Q, Some(Alu::And)),
            Kind::amoor_w => self.modify(op, D, Some(Alu::Or)),
            Kind::amoor_d => self.modify(op, Q, Some(Alu::Or)),
            _ => return false,
        }
        true
    }

    /// rcx + rax = the host's address of `size` bytes at rs1 + `imm`, by the slots at `bank`. The jump is taken if they
    /// do not know it: the body is to do it all.
    pub(super) fn translated(&mut self, op: &Op, imm: i32, size: u64, bank: i32) -> Fixup {
        let base = self.get(op.rs1, Rax);
        let va = if imm == 0 {
            base
        } else {
            self.a.lea(Q, Rax, Rm::Mem(base, imm));
            Rax
        };
        self.a.rotate_into(Rcx, va, (PAGE_SIZE.trailing_zeros() - SLOT_SHIFT) as u8);
        self.a.alu_imm(Alu::And, D, Rcx, ((SLOTS - 1) << SLOT_SHIFT) as i32);
        let tag = Rm::Indexed(R14, Rcx, bank);
        if va == Rax {
            self.a.alu(Alu::Xor, Q, Rax, tag);
        } else {
            self.a.mov(Q, Rax, tag);
            self.a.alu(Alu::Xor, Q, Rax, va);
        }
        self.a.mov(Q, Rcx, Rm::Indexed(R14, Rcx, bank + 8));
        self.a.alu_imm(Alu::Cmp, Q, Rax, (PAGE_SIZE - size) as i32);
        self.a.branch_ahead(Cc::Above)
    }

    fn load_memory(&mut self, op: &Op, size: u64, load: Load) {
        let from = self.translated(op, op.imm, size, READ);
        self.load_from(op, Rm::Indexed(Rcx, Rax, 0), load);
        self.perform_if(from, op);
    }

    /// By way of rax.
    fn load_from(&mut self, op: &Op, at: Rm, load: Load) {
        let target = self.target(op.rd, Rax);
        match load {
            Load::Widen(widen) => self.a.widen(widen, target, at),
            Load::Plain(width) => self.a.mov(width, target, at),
        }
        self.put(op.rd, target);
        if !matches!(load, Load::Plain(_)) {
            self.narrow |= bit(op.rd);
        }
    }

    fn store_memory(&mut self, op: &Op, size: u64) {
        let from = self.translated(op, op.imm, size, WRITE);
        self.store_to(op, Rm::Indexed(Rcx, Rax, 0), size, Rdx);
        self.perform_if(from, op);
    }

    fn store_to(&mut self, op: &Op, at: Rm, size: u64, scratch: Gpr) {
        let value = self.get_width(op.rs2, scratch, if size == 8 { Q } else { D });
        match size {
            1 => self.a.store8(at, value),
            2 => self.a.store16(at, value),
            4 => self.a.store(D, at, value),
            _ => self.a.store(Q, at, value),
        }
    }

    /// How many instructions from here on go to places near each other from one base, as where functions save and
    /// restore registers: loads or stores, with one look at the TLB for all.
    pub(super) fn neighbours(ops: &[Op]) -> usize {
        let Some((stores, _)) = access(&ops[0]) else { return 1 };
        let (mut low, mut high) = (ops[0].imm, ops[0].imm);
        let mut count = 0;
        for op in ops {
            let Some((stores_too, size)) = access(op) else { break };
            (low, high) = (low.min(op.imm), high.max(op.imm + size as i32));
            if stores_too != stores || op.rs1 != ops[0].rs1 || high - low > NEAR {
                break;
            }
            count += 1;
            if !stores && op.rd == op.rs1 {
                break;
            }
        }
        count
    }

    /// Instructions that [`Emitter::neighbours`] has counted, at least two.
    pub(super) fn access_all(&mut self, ops: &'_ [Op]) {
        // No value that is stored needs rdx to be put in place: of what waits in memory, the whole is made on its way.
        let owed = self.owed;
        let (stores, _) = access(&ops[0]).expect("neighbours are loads or stores");
        let low = ops.iter().map(|op| op.imm).min().unwrap_or(0);
        let end = |op: &Op| op.imm + access(op).map_or(0, |(_, size)| size as i32);
        let high = ops.iter().map(end).max().unwrap_or(0);
        let from = self.translated(&ops[0], low, (high - low) as u64, if stores { WRITE } else { READ });
        self.a.lea(Q, Rdx, Rm::Indexed(Rcx, Rax, 0));
        for op in ops {
            let at = Rm::Mem(Rdx, op.imm - low);
            match (access(op), load_of(op.kind)) {
                (_, Some((_, load))) => self.load_from(op, at, load),
                (Some((_, size)), None) => self.store_to(op, at, size, Rax),
                (None, None) => unreachable!("neighbours are loads or stores"),
            }
        }
        let (first, count) = (ops[0].idx, ops.len() as u8);
        self.cold.push(Cold::OneByOne { from, first, count, floats: self.floats, owed, back: self.a.here() });
    }

    /// rd = memory; memory = rs2, or memory `alu` rs2. One hart runs at a time, so there is nothing to lock.
    fn modify(&mut self, op: &Op, width: Width, alu: Option<Alu>) {
        let size = if width == Q { 8 } else { 4 };
        let unknown = self.translated(op, 0, size, WRITE);
        // Aligned, or it traps: pages are, so the offset tells.
        self.a.test_imm(D, Rax, size as i32 - 1);
        let misaligned = self.a.branch_ahead(Cc::NotEqual);
        self.a.lea(Q, Rcx, Rm::Indexed(Rcx, Rax, 0));
        let value = self.get(op.rs2, Rdx);
        let at = Rm::Mem(Rcx, 0);
        match width {
            Q => self.a.mov(Q, Rax, at),
            D => self.a.widen(Widen::S32, Rax, at),
        }
        match alu {
            Some(alu) => self.a.alu_to(alu, width, at, value),
            None => self.a.store(width, at, value),
        }
        self.put(op.rd, Rax);
        self.perform_if(unknown, op);
        self.perform_if(misaligned, op);
    }
}
