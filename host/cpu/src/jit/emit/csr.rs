//! Templates of CSR accesses that are a few moves: the values that trap handlers juggle, and the interrupt enables.

use super::super::asm::{Alu, Cc, Gpr, Rm, Shift, Unary, Width};
use super::super::layout::{self, MIE, MSTATUS, PENDING, PRIVILEGE, plain_csr, readable_csr};
use super::Emitter;
use crate::csr::{SATP, SSTATUS_READABLE};
use crate::hart::{Privilege, mstatus};
use crate::isa::{Kind, Op, Reg};

use Gpr::{Rax, Rcx, Rdx};
use Width::{D, Q};

const SSTATUS: u16 = 0x100;
const MSTATUS_NUMBER: u16 = 0x300;

/// What an access does with the old value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Replace,
    Set,
    Clear,
}

/// With what.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Register(Reg),
    Immediate(u8),
}

impl Emitter<'_> {
    /// Whether there is a template for this access: then it is emitted.
    pub(super) fn csr(&mut self, op: &Op) -> bool {
        let immediate = Source::Immediate(op.rs1 as u8);
        let (change, source) = match op.kind {
            Kind::csrrw => (Change::Replace, Source::Register(op.rs1)),
            Kind::csrrs => (Change::Set, Source::Register(op.rs1)),
            Kind::csrrc => (Change::Clear, Source::Register(op.rs1)),
            Kind::csrrwi => (Change::Replace, immediate),
            Kind::csrrsi => (Change::Set, immediate),
            Kind::csrrci => (Change::Clear, immediate),
            _ => return false,
        };
        let number = op.imm as u16;
        let reads_only = change != Change::Replace && op.rs1 as u8 == 0;
        match (number, plain_csr(number), readable_csr(number)) {
            (_, Some((at, _)), _) | (_, _, Some(at)) if reads_only => self.read(op, at),
            (_, Some((at, writable)), _) => self.exchange(op, at, writable, change, source),
            (SSTATUS | MSTATUS_NUMBER, ..) if reads_only => self.read_status(op),
            (SSTATUS | MSTATUS_NUMBER, ..) => return self.switch_interrupts(op, change, source),
            (SATP, ..) if reads_only => self.read_satp(op),
            _ => return false,
        }
        true
    }

    /// Leaves it to the body if the privilege is too low, as the number says. Privileged, "CSR Address Mapping
    /// Conventions".
    fn demand_privilege(&mut self, level: u8) {
        if self.privilege < level {
            self.a.cmp_byte(PRIVILEGE, level);
            let from = self.a.branch_ahead(Cc::Below);
            self.refused.push(from);
            self.privilege = level;
        }
    }

    fn level(op: &Op) -> u8 {
        (op.imm as u16 >> 8 & 3) as u8
    }

    fn read(&mut self, op: &Op, at: Rm) {
        self.demand_privilege(Emitter::level(op));
        let target = self.target(op.rd, Rax);
        self.a.mov(Q, target, at);
        self.put(op.rd, target);
        self.perform_refused(op);
    }

    fn read_satp(&mut self, op: &Op) {
        // S-mode may be kept from it.
        self.demand_privilege(Privilege::Machine as u8);
        self.a.mov(Q, Rax, layout::SATP);
        self.put(op.rd, Rax);
        self.perform_refused(op);
    }

    fn exchange(&mut self, op: &Op, at: Rm, writable: u64, change: Change, source: Source) {
        self.demand_privilege(Emitter::level(op));
        self.a.mov(Q, Rax, at);
        let new = self.changed(change, source);
        let new = if writable == !0 {
            new
        } else {
            self.a.copy(Rcx, new);
            self.a.alu_imm(Alu::And, Q, Rcx, writable as i32);
            Rcx
        };
        self.a.store(Q, at, new);
        self.put(op.rd, Rax);
        self.perform_refused(op);
    }

    /// A register with the new value, made of the old one in rax.
    fn changed(&mut self, change: Change, source: Source) -> Gpr {
        match (change, source) {
            (Change::Replace, Source::Register(reg)) => return self.get(reg, Rcx),
            (Change::Replace, Source::Immediate(bits)) => self.a.mov_imm(Rcx, bits.into()),
            (Change::Set, Source::Register(reg)) => {
                self.load(Rcx, reg);
                self.a.alu(Alu::Or, Q, Rcx, Rax);
            }
            (Change::Clear, Source::Register(reg)) => {
                self.load(Rcx, reg);
                self.a.unary(Unary::Not, Q, Rcx);
                self.a.alu(Alu::And, Q, Rcx, Rax);
            }
            (Change::Set, Source::Immediate(bits)) => {
                self.a.copy(Rcx, Rax);
                self.a.alu_imm(Alu::Or, Q, Rcx, bits.into());
            }
            (Change::Clear, Source::Immediate(bits)) => {
                self.a.copy(Rcx, Rax);
                self.a.alu_imm(Alu::And, Q, Rcx, !i32::from(bits));
            }
        }
        Rcx
    }

    /// rax = `mstatus` or `sstatus`. SD is FS all ones: one more carries into the bit above it, as XS is always off.
    fn status(&mut self, number: u16) {
        const CARRY: u32 = (mstatus::FS << 1 & !mstatus::FS) as u32;
        self.a.mov(Q, Rax, MSTATUS);
        self.a.lea(D, Rcx, Rm::Mem(Rax, (mstatus::FS & mstatus::FS.wrapping_neg()) as i32));
        self.a.alu_imm(Alu::And, D, Rcx, CARRY as i32);
        self.a.shift(Shift::Shl, Q, Rcx, (mstatus::SD / u64::from(CARRY)).trailing_zeros() as u8);
        self.a.alu(Alu::Or, Q, Rax, Rcx);
        if number == SSTATUS {
            self.a.mov_imm(Rcx, SSTATUS_READABLE);
            self.a.alu(Alu::And, Q, Rax, Rcx);
        }
    }

    fn read_status(&mut self, op: &Op) {
        self.demand_privilege(Emitter::level(op));
        self.status(op.imm as u16);
        self.put(op.rd, Rax);
        self.perform_refused(op);
    }

    /// Sets or clears nothing but interrupt enables; all other changes are the body's.
    fn switch_interrupts(&mut self, op: &Op, change: Change, source: Source) -> bool {
        let number = op.imm as u16;
        let enables = mstatus::SIE | if number == MSTATUS_NUMBER { mstatus::MIE } else { 0 };
        if change == Change::Replace
            || matches!(source, Source::Immediate(bits) if u64::from(bits) & !enables != 0)
        {
            return false;
        }
        self.demand_privilege(Emitter::level(op));
        if let Source::Register(reg) = source {
            let value = self.get(reg, Rdx);
            self.a.test_imm(Q, value, !(enables as i32));
            let others = self.a.branch_ahead(Cc::NotEqual);
            self.refused.push(others);
        }
        if change == Change::Set {
            // One that is pending may be taken now.
            self.a.mov(Q, Rcx, PENDING[0]);
            self.a.alu(Alu::Or, Q, Rcx, PENDING[1]);
            self.a.alu(Alu::Or, Q, Rcx, PENDING[2]);
            self.a.test(Q, MIE, Rcx);
            let pending = self.a.branch_ahead(Cc::NotEqual);
            self.refused.push(pending);
        }
        if op.rd != Reg::Sink {
            self.status(number);
        }
        match (change, source) {
            (Change::Set, Source::Immediate(bits)) => self.a.alu_imm(Alu::Or, Q, MSTATUS, bits.into()),
            (_, Source::Immediate(bits)) => self.a.alu_imm(Alu::And, Q, MSTATUS, !i32::from(bits)),
            (Change::Set, Source::Register(reg)) => {
                let value = self.get(reg, Rdx);
                self.a.alu_to(Alu::Or, Q, MSTATUS, value);
            }
            (_, Source::Register(reg)) => {
                self.load(Rdx, reg);
                self.a.unary(Unary::Not, Q, Rdx);
                self.a.alu_to(Alu::And, Q, MSTATUS, Rdx);
            }
        }
        self.put(op.rd, Rax);
        self.perform_refused(op);
        true
    }

    /// What was refused since the last call is the body's.
    fn perform_refused(&mut self, op: &Op) {
        while let Some(from) = self.refused.pop() {
            self.perform_if(from, op);
        }
    }
}
