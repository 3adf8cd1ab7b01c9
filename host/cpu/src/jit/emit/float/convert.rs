//! Templates of moves and conversions: between the register files, between formats, to and from memory.

use super::super::super::asm::{Alu, Cc, Gpr, Precision, Rm, Width};
use super::super::super::layout::{READ, WRITE, float_home, pinned_float};
use super::super::Emitter;
use super::{BOXING, rounds_somehow, rounds_to_nearest};
use crate::isa::{Kind, Op, Reg};

use Gpr::{Rax, Rcx, Rdx};
use Precision::{Double, Single};
use Width::{D, Q};

/// The integer type of a conversion.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Integer {
    Signed(Width),
    Unsigned(Width),
}

use Integer::{Signed, Unsigned};

/// The largest number of this precision that is an integer of this unsigned type or is below the next power of two, and
/// that no rounding takes above it; as bits. The host has 64 signed bits to convert to.
fn limit(of: Precision, width: Width) -> u64 {
    match (of, width) {
        (Double, D) => f64::from(u32::MAX).to_bits(),
        (Double, Q) => 9_223_372_036_854_774_784.0_f64.to_bits(),
        (Single, D) => 4_294_967_040.0_f32.to_bits().into(),
        (Single, Q) => 9_223_371_487_098_961_920.0_f32.to_bits().into(),
    }
}

impl Emitter<'_> {
    /// Whether there is a template for this instruction here: then it is emitted.
    pub(super) fn conversion(&mut self, op: &Op) -> bool {
        match op.kind {
            Kind::fmv_x_d | Kind::fmv_x_w => self.move_to_integer(op),
            Kind::fmv_d_x => self.move_from_integer(op, Double),
            Kind::fmv_w_x => self.move_from_integer(op, Single),
            Kind::fcvt_w_s => return self.float_to_integer(op, Single, Signed(D)),
            Kind::fcvt_wu_s => return self.float_to_integer(op, Single, Unsigned(D)),
            Kind::fcvt_l_s => return self.float_to_integer(op, Single, Signed(Q)),
            Kind::fcvt_lu_s => return self.float_to_integer(op, Single, Unsigned(Q)),
            Kind::fcvt_w_d => return self.float_to_integer(op, Double, Signed(D)),
            Kind::fcvt_wu_d => return self.float_to_integer(op, Double, Unsigned(D)),
            Kind::fcvt_l_d => return self.float_to_integer(op, Double, Signed(Q)),
            Kind::fcvt_lu_d => return self.float_to_integer(op, Double, Unsigned(Q)),
            Kind::fcvt_s_w => return self.integer_to_float(op, Single, Signed(D)),
            Kind::fcvt_s_wu => return self.integer_to_float(op, Single, Unsigned(D)),
            Kind::fcvt_s_l => return self.integer_to_float(op, Single, Signed(Q)),
            Kind::fcvt_s_lu => return self.integer_to_float(op, Single, Unsigned(Q)),
            Kind::fcvt_d_w => return self.integer_to_float(op, Double, Signed(D)),
            Kind::fcvt_d_wu => return self.integer_to_float(op, Double, Unsigned(D)),
            Kind::fcvt_d_l => return self.integer_to_float(op, Double, Signed(Q)),
            Kind::fcvt_d_lu => return self.integer_to_float(op, Double, Unsigned(Q)),
            Kind::fcvt_s_d if rounds_to_nearest(op) => self.resize(op, Double, Single),
            Kind::fcvt_d_s if rounds_somehow(op) => self.resize(op, Single, Double),
            _ => return false,
        }
        true
    }

    /// Raw: the low bits, boxed or not, sign-extended.
    fn move_to_integer(&mut self, op: &Op) {
        self.load_floats(op);
        if op.kind == Kind::fmv_x_w {
            self.load_bits(Rax, op.rs1);
            self.put_word(op.rd, Rax);
        } else {
            let target = self.target(op.rd, Rax);
            self.load_bits(target, op.rs1);
            self.put(op.rd, target);
        }
    }

    fn move_from_integer(&mut self, op: &Op, of: Precision) {
        self.load_floats(op);
        if of == Single {
            self.load_word(Rax, op.rs1);
            self.put_single_bits(op.rd, Rax);
        } else {
            let value = self.get(op.rs1, Rax);
            self.put_bits(op.rd, Double, value);
        }
    }

    /// `rd` = the single in `value`, whose upper half is zero, boxed. Uses rcx.
    fn put_single_bits(&mut self, rd: Reg, value: Gpr) {
        self.a.mov_imm(Rcx, BOXING);
        self.a.alu(Alu::Or, Q, Rcx, value);
        self.put_bits(rd, Single, Rcx);
    }

    fn float_to_integer(&mut self, op: &Op, of: Precision, to: Integer) -> bool {
        let truncate = op.rm() == 1;
        let nearest = rounds_to_nearest(op);
        match to {
            Signed(width) if truncate || nearest => self.convert_to_signed(op, of, width, None),
            Signed(width) if matches!(op.rm(), 2 | 3) && std::arch::is_x86_feature_detected!("sse4.1") => {
                self.convert_to_signed(op, of, width, Some(op.rm() == 3));
            }
            Unsigned(width) if truncate || nearest => self.convert_to_unsigned(op, of, width),
            Signed(_) | Unsigned(_) => return false,
        }
        true
    }

    /// `up`: rounded up or down, if in neither of the host's ways.
    fn convert_to_signed(&mut self, op: &Op, of: Precision, width: Width, up: Option<bool>) {
        let truncate = op.rm() == 1;
        self.operands(op, of, &[op.rs1]);
        let source = float_home(op.rs1);
        match up {
            None => self.a.float_to_integer(of, width, truncate, Rax, source),
            Some(up) => {
                self.a.round_quietly(of, up, super::X0, source);
                self.a.float_to_integer(of, width, truncate, Rax, super::X0.into());
            }
        }
        // What does not fit is the body's. It is invalid for the host, too.
        self.a.alu_imm(Alu::Cmp, width, Rax, 1);
        let from = self.a.branch_ahead(Cc::Overflow);
        if up.is_some() {
            // Inexact is what truncation is, too; and that fits if this does.
            self.a.float_to_integer(of, width, true, Rcx, source);
        }
        self.put_width(op.rd, Rax, width);
        self.perform_if(from, op);
    }

    fn convert_to_unsigned(&mut self, op: &Op, of: Precision, width: Width) {
        self.operands(op, of, &[op.rs1]);
        // Asked first: the host would raise other flags. Negative numbers are above all.
        self.load_bits(Rax, op.rs1);
        match of {
            Double => {
                self.a.mov_imm(Rcx, limit(of, width));
                self.a.alu(Alu::Cmp, Q, Rax, Rcx);
            }
            Single => self.a.alu_imm(Alu::Cmp, D, Rax, limit(of, width) as i32),
        }
        let from = self.a.branch_ahead(Cc::Above);
        self.a.float_to_integer(of, Q, op.rm() == 1, Rax, float_home(op.rs1));
        self.put_width(op.rd, Rax, width);
        self.perform_if(from, op);
    }

    fn integer_to_float(&mut self, op: &Op, to: Precision, from: Integer) -> bool {
        let exact = to == Double && matches!(from, Signed(D) | Unsigned(D));
        if !(rounds_to_nearest(op) || exact && rounds_somehow(op)) {
            return false;
        }
        self.load_floats(op);
        let (source, width) = match from {
            Unsigned(D) => {
                self.load_word(Rax, op.rs1);
                (Rax, Q)
            }
            Signed(width) | Unsigned(width) => (self.get(op.rs1, Rax), width),
        };
        let refused = (from == Unsigned(Q)).then(|| {
            self.a.test(Q, source, source);
            self.a.branch_ahead(Cc::Less)
        });
        let work = self.fresh(op.rd, to);
        self.a.integer_to_float(to, width, work, source);
        self.put_float(op.rd, to, work);
        if let Some(refused) = refused {
            self.perform_if(refused, op);
        }
        true
    }

    /// A register to compute `rd` in, whose upper lanes are those of a result.
    fn fresh(&mut self, rd: Reg, of: Precision) -> super::Xmm {
        let work = pinned_float(rd).unwrap_or(super::X0);
        match of {
            Double => self.a.lanes(super::Lanes::Xor, work, work),
            Single => self.a.ones(work),
        }
        work
    }

    fn resize(&mut self, op: &Op, from: Precision, to: Precision) {
        self.operands(op, from, &[op.rs1]);
        let source = self.get_float(op.rs1, super::X1);
        let work = if op.rd == op.rs1 { self.fresh(Reg::Sink, to) } else { self.fresh(op.rd, to) };
        self.a.resize(from, work, source);
        self.put_result(op.rd, to, work);
    }

    /// Loads and stores.
    pub(super) fn float_memory(&mut self, op: &Op) -> bool {
        match op.kind {
            Kind::fld => self.load_double(op),
            Kind::flw => self.load_single(op),
            Kind::fsd => self.store_float(op, 8),
            Kind::fsw => self.store_float(op, 4),
            _ => return false,
        }
        true
    }

    fn load_double(&mut self, op: &Op) {
        self.load_floats(op);
        let from = self.translated(op, op.imm, 8, READ);
        let at = Rm::Indexed(Rcx, Rax, 0);
        match pinned_float(op.rd) {
            Some(host) => {
                self.a.load_xmm(Double, host, at);
                self.put_float(op.rd, Double, host);
            }
            None => {
                self.a.mov(Q, Rax, at);
                self.put_bits(op.rd, Double, Rax);
            }
        }
        self.perform_if(from, op);
    }

    fn load_single(&mut self, op: &Op) {
        self.load_floats(op);
        let from = self.translated(op, op.imm, 4, READ);
        let at = Rm::Indexed(Rcx, Rax, 0);
        match pinned_float(op.rd) {
            Some(host) => {
                self.a.load_xmm(Single, super::X0, at);
                self.a.ones(host);
                self.a.merge_single(host, super::X0);
                self.put_float(op.rd, Single, host);
            }
            None => {
                self.a.mov(D, Rax, at);
                self.put_single_bits(op.rd, Rax);
            }
        }
        self.perform_if(from, op);
    }

    /// Raw: the low bytes, boxed or not.
    fn store_float(&mut self, op: &Op, size: u64) {
        self.load_floats(op);
        let from = self.translated(op, op.imm, size, WRITE);
        let at = Rm::Indexed(Rcx, Rax, 0);
        let (of, width) = if size == 8 { (Double, Q) } else { (Single, D) };
        match float_home(op.rs2) {
            Rm::Xmm(host) => self.a.store_xmm(of, at, host),
            memory => {
                self.a.mov(width, Rdx, memory);
                self.a.store(width, at, Rdx);
            }
        }
        self.perform_if(from, op);
    }
}
