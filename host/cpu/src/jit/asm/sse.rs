//! Scalar floating point: SSE2, and FMA3 where the host has it.

use super::{Asm, Gpr, Rm, Width};

/// Vector registers, by their encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(in crate::jit) enum Xmm {
    X0,
    X1,
    X2,
    X3,
    X4,
    X5,
    X6,
    X7,
    X8,
    X9,
    X10,
    X11,
    X12,
    X13,
    X14,
    X15,
}

impl From<Xmm> for Rm {
    fn from(reg: Xmm) -> Rm {
        Rm::Xmm(reg)
    }
}

/// Formats, by the prefix of instructions on one number of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(in crate::jit) enum Precision {
    Double = 0xf2,
    Single = 0xf3,
}

/// Arithmetic on the lowest lane, by opcode; the other lanes of the destination stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(in crate::jit) enum Scalar {
    Sqrt = 0x51,
    Add = 0x58,
    Mul = 0x59,
    Sub = 0x5c,
    Min = 0x5d,
    Div = 0x5e,
    Max = 0x5f,
}

/// Logic on all lanes, by opcode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(in crate::jit) enum Lanes {
    And = 0x54,
    /// `!dst & src`
    AndNot = 0x55,
    Or = 0x56,
    Xor = 0x57,
}

/// `±(dst * factor) ± addend`, rounded once, by opcode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(in crate::jit) enum Fused {
    MulAdd = 0xa9,
    MulSub = 0xab,
    /// `-(dst * factor) + addend`
    NegMulAdd = 0xad,
    /// `-(dst * factor) - addend`
    NegMulSub = 0xaf,
}

impl Precision {
    /// Some instructions tell the formats by the prefix of packed ones.
    fn packed(self) -> Option<u8> {
        match self {
            Precision::Double => Some(0x66),
            Precision::Single => None,
        }
    }
}

impl Asm {
    fn sse(&mut self, prefix: impl Into<Option<u8>>, opcode: u8, reg: u8, rm: impl Into<Rm>) {
        self.encode(prefix.into(), Width::D, &[0x0f, opcode], reg, rm.into(), false);
    }

    pub(in crate::jit) fn scalar(&mut self, op: Scalar, of: Precision, dst: Xmm, src: impl Into<Rm>) {
        self.sse(of as u8, op as u8, dst as u8, src);
    }

    pub(in crate::jit) fn lanes(&mut self, op: Lanes, dst: Xmm, src: Xmm) {
        self.sse(None, op as u8, dst as u8, src);
    }

    /// The whole register.
    pub(in crate::jit) fn copy_xmm(&mut self, dst: Xmm, src: Xmm) {
        if dst != src {
            self.sse(None, 0x28, dst as u8, src);
        }
    }

    /// The lowest lane of `dst` = that of `src`; the other lanes stay.
    pub(in crate::jit) fn merge_single(&mut self, dst: Xmm, src: Xmm) {
        self.sse(Precision::Single as u8, 0x10, dst as u8, src);
    }

    /// From memory; the rest of the register becomes zero.
    pub(in crate::jit) fn load_xmm(&mut self, of: Precision, dst: Xmm, src: Rm) {
        self.sse(of as u8, 0x10, dst as u8, src);
    }

    /// To memory.
    pub(in crate::jit) fn store_xmm(&mut self, of: Precision, dst: Rm, src: Xmm) {
        self.sse(of as u8, 0x11, src as u8, dst);
    }

    pub(in crate::jit) fn xmm_from_gpr(&mut self, width: Width, dst: Xmm, src: Gpr) {
        self.encode(Some(0x66), width, &[0x0f, 0x6e], dst as u8, src.into(), false);
    }

    pub(in crate::jit) fn gpr_from_xmm(&mut self, width: Width, dst: Gpr, src: Xmm) {
        self.encode(Some(0x66), width, &[0x0f, 0x7e], src as u8, dst.into(), false);
    }

    /// All bits of all lanes set.
    pub(in crate::jit) fn ones(&mut self, dst: Xmm) {
        self.sse(0x66, 0x76, dst as u8, dst);
    }

    /// In lanes of 64 bits.
    pub(in crate::jit) fn shift_left(&mut self, dst: Xmm, by: u8) {
        self.sse(0x66, 0x73, 6, dst);
        self.byte(by);
    }

    /// In lanes of 64 bits.
    pub(in crate::jit) fn shift_right(&mut self, dst: Xmm, by: u8) {
        self.sse(0x66, 0x73, 2, dst);
        self.byte(by);
    }

    /// Flags of an unsigned comparison; all of ZF, PF and CF if there is a NaN, which is invalid if it signals.
    pub(in crate::jit) fn compare_quietly(&mut self, of: Precision, a: Xmm, b: impl Into<Rm>) {
        self.sse(of.packed(), 0x2e, a as u8, b);
    }

    /// As [`Asm::compare_quietly`], and every NaN is invalid.
    pub(in crate::jit) fn compare_signaling(&mut self, of: Precision, a: Xmm, b: impl Into<Rm>) {
        self.sse(of.packed(), 0x2f, a as u8, b);
    }

    /// To the other format; the rest of the register stays.
    pub(in crate::jit) fn resize(&mut self, from: Precision, dst: Xmm, src: impl Into<Rm>) {
        self.sse(from as u8, 0x5a, dst as u8, src);
    }

    /// By the rounding mode, or towards zero. What does not fit is invalid, and only the highest bit set.
    pub(in crate::jit) fn float_to_integer(
        &mut self,
        of: Precision,
        width: Width,
        truncate: bool,
        dst: Gpr,
        src: Rm,
    ) {
        let opcode = if truncate { 0x2c } else { 0x2d };
        self.encode(Some(of as u8), width, &[0x0f, opcode], dst as u8, src, false);
    }

    /// To an integer, down or up, without a flag for what is lost. Needs SSE4.1.
    pub(in crate::jit) fn round_quietly(&mut self, of: Precision, up: bool, dst: Xmm, src: Rm) {
        let opcode = if of == Precision::Double { 0x0b } else { 0x0a };
        self.encode(Some(0x66), Width::D, &[0x0f, 0x3a, opcode], dst as u8, src, false);
        self.byte(if up { 10 } else { 9 });
    }

    /// The rest of the register stays.
    pub(in crate::jit) fn integer_to_float(&mut self, of: Precision, width: Width, dst: Xmm, src: Gpr) {
        self.encode(Some(of as u8), width, &[0x0f, 0x2a], dst as u8, src.into(), false);
    }

    /// Needs FMA3.
    pub(in crate::jit) fn fused(&mut self, op: Fused, of: Precision, dst: Xmm, factor: Xmm, addend: Rm) {
        let (x, b) = match addend {
            Rm::Reg(r) => (0, r as u8 >> 3),
            Rm::Xmm(r) => (0, r as u8 >> 3),
            Rm::Mem(base, _) => (0, base as u8 >> 3),
            Rm::Indexed(base, index, _) => (index as u8 >> 3, base as u8 >> 3),
        };
        // VEX.66.0F38; R, X, B and the second operand are inverted.
        let double = u8::from(of == Precision::Double);
        self.byte(0xc4);
        self.byte((!(dst as u8 >> 3) & 1) << 7 | (!x & 1) << 6 | (!b & 1) << 5 | 2);
        self.byte(double << 7 | (!(factor as u8) & 15) << 3 | 1);
        self.byte(op as u8);
        self.operands(dst as u8 & 7, addend);
    }

    pub(in crate::jit) fn load_mxcsr(&mut self, src: Rm) {
        self.sse(None, 0xae, 2, src);
    }

    pub(in crate::jit) fn store_mxcsr(&mut self, dst: Rm) {
        self.sse(None, 0xae, 3, dst);
    }
}
