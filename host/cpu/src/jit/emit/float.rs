//! Templates of F and D, where they are what the host does: arithmetic to nearest, comparisons, sign injection.
//!
//! The host's flags are the guest's, bit for bit, with two differences that templates see to. A NaN result is the
//! canonical one; `0 × ∞ + NaN` is invalid. Singles are computed in the lowest lane of a register whose next lane, all
//! ones, is their boxing: operations on the lowest lane keep it.

mod convert;

use super::super::asm::{Alu, Bit, Cc, Fused, Gpr, Lanes, Precision, Rm, Scalar, Shift, Unary, Width, Xmm};
use super::super::layout::{float_home, pinned_float};
use super::super::stubs;
use super::{Cold, Emitter};
use crate::fp::{F32, F64, Format};
use crate::isa::{Kind, Op, Reg};

use Precision::{Double, Single};
use Xmm::{X0, X1};

/// The upper half of a register that holds a single.
pub(super) const BOXING: u64 = !0 << 32;

/// Whether a sign comes from the second operand as it is, inverted, or as a product with the first's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    Plain,
    Inverted,
    Product,
}

/// `rm` asks for rounding to nearest, as a loaded state has it.
pub(super) fn rounds_to_nearest(op: &Op) -> bool {
    matches!(op.rm(), 0 | 7)
}

/// `rm` is no reserved one: for what is exact in all modes.
pub(super) fn rounds_somehow(op: &Op) -> bool {
    matches!(op.rm(), 0..=4 | 7)
}

impl Emitter<'_> {
    /// Whether there is a template for this instruction here: then it is emitted.
    pub(super) fn float(&mut self, op: &Op) -> bool {
        self.float_memory(op)
            || self.arithmetic(op)
            || self.fused(op)
            || self.comparison(op)
            || self.injection(op)
            || self.conversion(op)
    }

    /// The floating-point state is loaded from here on.
    pub(super) fn load_floats(&mut self, op: &Op) {
        if !self.floats {
            stubs::float::test(self.a);
            let from = self.a.branch_ahead(Cc::NotEqual);
            let (op, back) = (self.number(op), self.a.here());
            self.cold.push(Cold::LoadFloats { from, op, owed: self.owed_before, back });
            self.floats = true;
        }
    }

    /// As [`Emitter::load_floats`], and `sources` hold numbers of this precision.
    pub(super) fn operands(&mut self, op: &Op, of: Precision, sources: &[Reg]) {
        self.load_floats(op);
        for &reg in sources {
            if of == Double || self.boxed[reg as usize] {
                continue;
            }
            match float_home(reg) {
                Rm::Xmm(host) => {
                    self.a.gpr_from_xmm(Width::Q, Gpr::Rax, host);
                    self.a.shift(Shift::Sar, Width::Q, Gpr::Rax, 32);
                    self.a.alu_imm(Alu::Cmp, Width::D, Gpr::Rax, -1);
                }
                memory => self.a.alu_imm(Alu::Cmp, Width::D, upper_half(memory), -1),
            }
            let from = self.a.branch_ahead(Cc::NotEqual);
            // Not back from there: behind this check it is known.
            self.cold.push(Cold::Finish { from, op: self.number(op), owed: self.owed_before });
            self.boxed[reg as usize] = true;
        }
    }

    /// `into` = `reg`, all 64 bits.
    pub(super) fn load_float(&mut self, into: Xmm, reg: Reg) {
        match float_home(reg) {
            Rm::Xmm(host) => self.a.copy_xmm(into, host),
            memory => self.a.load_xmm(Double, into, memory),
        }
    }

    /// A register that holds `reg`: its own, or `scratch` filled with it.
    pub(super) fn get_float(&mut self, reg: Reg, scratch: Xmm) -> Xmm {
        pinned_float(reg).unwrap_or_else(|| {
            self.load_float(scratch, reg);
            scratch
        })
    }

    /// `rd` = `value`, of this precision, boxed.
    pub(super) fn put_float(&mut self, rd: Reg, of: Precision, value: Xmm) {
        match float_home(rd) {
            Rm::Xmm(host) => self.a.copy_xmm(host, value),
            memory => self.a.store_xmm(Double, memory, value),
        }
        self.boxed[rd as usize] = of == Single;
    }

    /// `into` = all 64 bits of `reg`.
    pub(super) fn load_bits(&mut self, into: Gpr, reg: Reg) {
        match float_home(reg) {
            Rm::Xmm(host) => self.a.gpr_from_xmm(Width::Q, into, host),
            memory => self.a.mov(Width::Q, into, memory),
        }
    }

    /// `rd` = all 64 bits of `value`, in this precision, boxed.
    pub(super) fn put_bits(&mut self, rd: Reg, of: Precision, value: Gpr) {
        match float_home(rd) {
            Rm::Xmm(host) => self.a.xmm_from_gpr(Width::Q, host, value),
            memory => self.a.store(Width::Q, memory, value),
        }
        self.boxed[rd as usize] = of == Single;
    }

    /// As [`Emitter::put_float`], of what may be a NaN.
    pub(super) fn put_result(&mut self, rd: Reg, of: Precision, value: Xmm) {
        self.a.compare_quietly(of, value, value);
        let from = self.a.branch_ahead(Cc::Parity);
        self.put_float(rd, of, value);
        let back = self.a.here();
        self.cold.push(Cold::NotANumber { from, rd, of, back });
    }

    pub(super) fn put_canonical_nan(&mut self, rd: Reg, of: Precision) {
        let bits = match of {
            Double => F64::CANONICAL_NAN,
            Single => F32::CANONICAL_NAN | BOXING,
        };
        self.a.mov_imm(Gpr::Rax, bits);
        self.put_bits(rd, of, Gpr::Rax);
    }

    fn arithmetic(&mut self, op: &Op) -> bool {
        let (of, scalar) = match op.kind {
            Kind::fadd_s => (Single, Scalar::Add),
            Kind::fsub_s => (Single, Scalar::Sub),
            Kind::fmul_s => (Single, Scalar::Mul),
            Kind::fdiv_s => (Single, Scalar::Div),
            Kind::fsqrt_s => (Single, Scalar::Sqrt),
            Kind::fmin_s => return self.pick(op, Single, Scalar::Min),
            Kind::fmax_s => return self.pick(op, Single, Scalar::Max),
            Kind::fadd_d => (Double, Scalar::Add),
            Kind::fsub_d => (Double, Scalar::Sub),
            Kind::fmul_d => (Double, Scalar::Mul),
            Kind::fdiv_d => (Double, Scalar::Div),
            Kind::fsqrt_d => (Double, Scalar::Sqrt),
            Kind::fmin_d => return self.pick(op, Double, Scalar::Min),
            Kind::fmax_d => return self.pick(op, Double, Scalar::Max),
            _ => return false,
        };
        if !rounds_to_nearest(op) {
            return false;
        }
        match scalar {
            Scalar::Sqrt => self.root(op, of),
            Scalar::Add | Scalar::Mul => self.dyadic(op, of, scalar, true),
            _ => self.dyadic(op, of, scalar, false),
        }
        true
    }

    fn root(&mut self, op: &Op, of: Precision) {
        self.operands(op, of, &[op.rs1]);
        let work = pinned_float(op.rd).unwrap_or(X0);
        self.load_float(work, op.rs1);
        self.a.scalar(Scalar::Sqrt, of, work, work);
        self.put_result(op.rd, of, work);
    }

    /// In the destination's register if that is not the second operand, which is still needed.
    fn dyadic(&mut self, op: &Op, of: Precision, scalar: Scalar, commutes: bool) {
        let (mut a, mut b) = (op.rs1, op.rs2);
        self.operands(op, of, &[a, b]);
        if commutes && b == op.rd {
            std::mem::swap(&mut a, &mut b);
        }
        let work = if b == op.rd && a != op.rd { X0 } else { pinned_float(op.rd).unwrap_or(X0) };
        self.load_float(work, a);
        self.a.scalar(scalar, of, work, float_home(b));
        self.put_result(op.rd, of, work);
    }

    /// Minimum and maximum. Of equal numbers the host gives its second operand, which decides a zero's sign: computed
    /// both ways round, and the signs combined.
    fn pick(&mut self, op: &Op, of: Precision, scalar: Scalar) -> bool {
        self.operands(op, of, &[op.rs1, op.rs2]);
        self.load_float(X0, op.rs1);
        self.a.compare_quietly(of, X0, float_home(op.rs2));
        let from = self.a.branch_ahead(Cc::Parity);
        self.load_float(X1, op.rs2);
        self.a.scalar(scalar, of, X0, float_home(op.rs2));
        self.a.scalar(scalar, of, X1, float_home(op.rs1));
        self.a.lanes(if scalar == Scalar::Min { Lanes::Or } else { Lanes::And }, X0, X1);
        self.put_float(op.rd, of, X0);
        self.perform_if(from, op);
        true
    }

    fn fused(&mut self, op: &Op) -> bool {
        let (of, fused) = match op.kind {
            Kind::fmadd_s => (Single, Fused::MulAdd),
            Kind::fmsub_s => (Single, Fused::MulSub),
            Kind::fnmsub_s => (Single, Fused::NegMulAdd),
            Kind::fnmadd_s => (Single, Fused::NegMulSub),
            Kind::fmadd_d => (Double, Fused::MulAdd),
            Kind::fmsub_d => (Double, Fused::MulSub),
            Kind::fnmsub_d => (Double, Fused::NegMulAdd),
            Kind::fnmadd_d => (Double, Fused::NegMulSub),
            _ => return false,
        };
        if !rounds_to_nearest(op) || !std::arch::is_x86_feature_detected!("fma") {
            return false;
        }
        self.operands(op, of, &[op.rs1, op.rs2, op.rs3()]);
        self.load_float(X0, op.rs1);
        let factor = self.get_float(op.rs2, X1);
        self.a.fused(fused, of, X0, factor, float_home(op.rs3()));
        // The body knows what is invalid. The host has raised no flag that the body does not.
        self.a.compare_quietly(of, X0, X0);
        let from = self.a.branch_ahead(Cc::Parity);
        self.put_float(op.rd, of, X0);
        self.perform_if(from, op);
        true
    }

    fn comparison(&mut self, op: &Op) -> bool {
        let (of, cc) = match op.kind {
            Kind::feq_s => (Single, Cc::Equal),
            Kind::flt_s => (Single, Cc::Above),
            Kind::fle_s => (Single, Cc::AboveEqual),
            Kind::feq_d => (Double, Cc::Equal),
            Kind::flt_d => (Double, Cc::Above),
            Kind::fle_d => (Double, Cc::AboveEqual),
            _ => return false,
        };
        self.operands(op, of, &[op.rs1, op.rs2]);
        if cc == Cc::Equal {
            let a = self.get_float(op.rs1, X0);
            self.a.compare_quietly(of, a, float_home(op.rs2));
            // A NaN sets ZF, too.
            self.a.set(Cc::NoParity, Gpr::Rcx);
            self.a.set(Cc::Equal, Gpr::Rax);
            self.a.alu(Alu::And, Width::D, Gpr::Rax, Gpr::Rcx);
            self.a.alu_imm(Alu::And, Width::D, Gpr::Rax, 1);
            self.put(op.rd, Gpr::Rax);
        } else {
            // The other way round, a NaN gives neither.
            let b = self.get_float(op.rs2, X0);
            self.a.compare_signaling(of, b, float_home(op.rs1));
            self.put_flag(op.rd, cc);
        }
        true
    }

    fn injection(&mut self, op: &Op) -> bool {
        let (of, sign) = match op.kind {
            Kind::fsgnj_s => (Single, Sign::Plain),
            Kind::fsgnjn_s => (Single, Sign::Inverted),
            Kind::fsgnjx_s => (Single, Sign::Product),
            Kind::fsgnj_d => (Double, Sign::Plain),
            Kind::fsgnjn_d => (Double, Sign::Inverted),
            Kind::fsgnjx_d => (Double, Sign::Product),
            _ => return false,
        };
        self.operands(op, of, &[op.rs1, op.rs2]);
        if op.rs1 == op.rs2 {
            self.change_sign(op, of, sign);
        } else {
            self.take_sign(op, of, sign);
        }
        true
    }

    /// `into` = the sign bit.
    fn sign_mask(&mut self, of: Precision, into: Xmm) {
        self.a.ones(into);
        self.a.shift_left(into, 63);
        if of == Single {
            self.a.shift_right(into, 32);
        }
    }

    /// A move, a negation, an absolute value.
    fn change_sign(&mut self, op: &Op, of: Precision, sign: Sign) {
        if sign == Sign::Plain {
            let value = self.get_float(op.rs1, X0);
            self.put_float(op.rd, of, value);
            return;
        }
        self.sign_mask(of, X0);
        let value = self.get_float(op.rs1, X1);
        self.a.lanes(if sign == Sign::Inverted { Lanes::Xor } else { Lanes::AndNot }, X0, value);
        self.put_float(op.rd, of, X0);
    }

    /// In integer registers: rare.
    fn take_sign(&mut self, op: &Op, of: Precision, sign: Sign) {
        let width = if of == Double { Width::Q } else { Width::D };
        let top = if of == Double { 63 } else { 31 };
        self.load_bits(Gpr::Rax, op.rs1);
        self.load_bits(Gpr::Rcx, op.rs2);
        if sign == Sign::Inverted {
            self.a.unary(Unary::Not, width, Gpr::Rcx);
        }
        self.a.shift(Shift::Shr, width, Gpr::Rcx, top);
        self.a.shift(Shift::Shl, width, Gpr::Rcx, top);
        if sign == Sign::Product {
            self.a.alu(Alu::Xor, Width::Q, Gpr::Rax, Gpr::Rcx);
        } else {
            self.a.bit_imm(Bit::Reset, Gpr::Rax, top);
            self.a.alu(Alu::Or, Width::Q, Gpr::Rax, Gpr::Rcx);
        }
        self.put_bits(op.rd, of, Gpr::Rax);
    }
}

/// The upper four bytes of a register in memory.
fn upper_half(memory: Rm) -> Rm {
    match memory {
        Rm::Mem(base, at) => Rm::Mem(base, at + 4),
        _ => unreachable!("a register in memory has a base and a displacement"),
    }
}
