//! Templates of loads, stores and atomic operations: the translation is looked up inline, all else is the body's.

use super::super::asm::{Alu, Cc, Fixup, Gpr, Rm, Widen, Width};
use super::super::layout::{READ, WRITE};
use super::{Emitter, bit};
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

impl Emitter<'_> {
    /// Whether there is a template for this instruction here: then it is emitted.
    pub(super) fn memory(&mut self, op: &Op) -> bool {
        match op.kind {
            Kind::lb => self.load_memory(op, 1, Load::Widen(Widen::S8)),
            Kind::lh => self.load_memory(op, 2, Load::Widen(Widen::S16)),
            Kind::lw => self.load_memory(op, 4, Load::Widen(Widen::S32)),
            Kind::ld => self.load_memory(op, 8, Load::Plain(Q)),
            Kind::lbu => self.load_memory(op, 1, Load::Widen(Widen::U8)),
            Kind::lhu => self.load_memory(op, 2, Load::Widen(Widen::U16)),
            Kind::lwu => self.load_memory(op, 4, Load::Plain(D)),
            Kind::sb => self.store_memory(op, 1),
            Kind::sh => self.store_memory(op, 2),
            Kind::sw => self.store_memory(op, 4),
            Kind::sd => self.store_memory(op, 8),
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
        let at = Rm::Indexed(Rcx, Rax, 0);
        let target = Emitter::target(op.rd, Rax);
        match load {
            Load::Widen(widen) => self.a.widen(widen, target, at),
            Load::Plain(width) => self.a.mov(width, target, at),
        }
        self.put(op.rd, target);
        if !matches!(load, Load::Plain(_)) {
            self.narrow |= bit(op.rd);
        }
        self.perform_if(from, op);
    }

    fn store_memory(&mut self, op: &Op, size: u64) {
        let from = self.translated(op, op.imm, size, WRITE);
        let at = Rm::Indexed(Rcx, Rax, 0);
        let value = self.get_width(op.rs2, Rdx, if size == 8 { Q } else { D });
        match size {
            1 => self.a.store8(at, value),
            2 => self.a.store16(at, value),
            4 => self.a.store(D, at, value),
            _ => self.a.store(Q, at, value),
        }
        self.perform_if(from, op);
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
