//! IEEE 754-2019 binary16, binary32 and binary64 as RISC-V defines them (unprivileged manual, chapters F, D, Zfh).
//!
//! Values are raw bits in the low end of a `u64`; NaN boxing is the register file's affair. Every NaN result is
//! the canonical one, tininess is detected after rounding, flags accrue in [`Env::flags`].
//!
//! Two tiers: `soft` is integer code and the definition; `host` computes with the host's own floats where the
//! result and its flags are provably the same, and declines otherwise. Nothing a guest can see tells them apart.
#![forbid(unsafe_code)]

mod compare;
mod convert;
mod host;
mod soft;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use compare::{classify, eq, le, lt, max, min};
pub(crate) use convert::{Int, from_int, resize, to_int};

use host::Host;

/// `fflags` bits, section "Floating-Point Control and Status Register".
pub(crate) mod flag {
    pub(crate) const NX: u8 = 1 << 0;
    pub(crate) const UF: u8 = 1 << 1;
    pub(crate) const OF: u8 = 1 << 2;
    pub(crate) const DZ: u8 = 1 << 3;
    pub(crate) const NV: u8 = 1 << 4;
}

/// Rounding mode, with the encoding of `frm` and of an instruction's `rm` field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Round {
    /// To nearest, ties to even.
    Rne = 0,
    /// Towards zero.
    Rtz = 1,
    /// Down, towards minus infinity.
    Rdn = 2,
    /// Up, towards plus infinity.
    Rup = 3,
    /// To nearest, ties to the larger magnitude.
    Rmm = 4,
}

impl Round {
    /// The mode of a `frm` value, or `None` for the reserved 5 and 6 and for 7 (DYN).
    #[inline]
    pub(crate) fn from_bits(frm: u32) -> Option<Self> {
        match frm {
            0 => Some(Self::Rne),
            1 => Some(Self::Rtz),
            2 => Some(Self::Rdn),
            3 => Some(Self::Rup),
            4 => Some(Self::Rmm),
            _ => None,
        }
    }
}

/// What an operation reads and writes besides its operands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Env {
    pub(crate) rm: Round,
    /// Accrued flags. What is set on entry stays set; a sticky NX opens the fast path.
    pub(crate) flags: u8,
}

impl Env {
    fn raise(&mut self, flags: u8) {
        self.flags |= flags;
    }
}

/// A binary interchange format, described by the widths of its fields.
pub(crate) trait Format: Host {
    const EXP_BITS: u32;
    const FRAC_BITS: u32;

    const WIDTH: u32 = 1 + Self::EXP_BITS + Self::FRAC_BITS;
    /// Exponent of the largest binade, and the bias.
    const EMAX: i32 = (1 << (Self::EXP_BITS - 1)) - 1;
    /// Exponent of the smallest normal binade.
    const EMIN: i32 = 1 - Self::EMAX;
    const SIGN: u64 = 1 << (Self::WIDTH - 1);
    const FRAC_MASK: u64 = (1 << Self::FRAC_BITS) - 1;
    const INF: u64 = ((1 << Self::EXP_BITS) - 1) << Self::FRAC_BITS;
    const QUIET: u64 = 1 << (Self::FRAC_BITS - 1);
    const CANONICAL_NAN: u64 = Self::INF | Self::QUIET;
    const MIN_NORMAL: u64 = 1 << Self::FRAC_BITS;
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum F16 {}
#[derive(Clone, Copy, Debug)]
pub(crate) enum F32 {}
#[derive(Clone, Copy, Debug)]
pub(crate) enum F64 {}

impl Format for F16 {
    const EXP_BITS: u32 = 5;
    const FRAC_BITS: u32 = 10;
}
impl Format for F32 {
    const EXP_BITS: u32 = 8;
    const FRAC_BITS: u32 = 23;
}
impl Format for F64 {
    const EXP_BITS: u32 = 11;
    const FRAC_BITS: u32 = 52;
}

fn magnitude<F: Format>(a: u64) -> u64 {
    a & !F::SIGN
}

fn is_negative<F: Format>(a: u64) -> bool {
    a & F::SIGN != 0
}

fn is_nan<F: Format>(a: u64) -> bool {
    magnitude::<F>(a) > F::INF
}

fn is_signaling<F: Format>(a: u64) -> bool {
    is_nan::<F>(a) && a & F::QUIET == 0
}

fn is_inf<F: Format>(a: u64) -> bool {
    magnitude::<F>(a) == F::INF
}

fn is_zero<F: Format>(a: u64) -> bool {
    magnitude::<F>(a) == 0
}

fn signed<F: Format>(negative: bool, magnitude: u64) -> u64 {
    magnitude | if negative { F::SIGN } else { 0 }
}

/// What the host's floats alone can do: `None`, with nothing raised, is for `soft`.
pub(crate) mod quick {
    use super::{Env, Format};

    /// a + b
    #[inline(always)]
    pub(crate) fn add<F: Format>(a: u64, b: u64, env: &mut Env) -> Option<u64> {
        F::host_add(a, b, env)
    }

    /// a - b
    #[inline(always)]
    pub(crate) fn sub<F: Format>(a: u64, b: u64, env: &mut Env) -> Option<u64> {
        // A NaN's sign is never looked at, so flipping b's is safe for every operand.
        F::host_add(a, b ^ F::SIGN, env)
    }

    /// a * b
    #[inline(always)]
    pub(crate) fn mul<F: Format>(a: u64, b: u64, env: &mut Env) -> Option<u64> {
        F::host_mul(a, b, env)
    }

    /// a / b
    #[inline(always)]
    pub(crate) fn div<F: Format>(a: u64, b: u64, env: &mut Env) -> Option<u64> {
        F::host_div(a, b, env)
    }

    /// Square root of a
    #[inline(always)]
    pub(crate) fn sqrt<F: Format>(a: u64, env: &mut Env) -> Option<u64> {
        F::host_sqrt(a, env)
    }

    /// a * b + c, rounded once. The other three of the family flip signs of a and c.
    #[inline(always)]
    pub(crate) fn fma<F: Format>(a: u64, b: u64, c: u64, env: &mut Env) -> Option<u64> {
        F::host_fma(a, b, c, env)
    }
}

/// a + b
#[inline]
pub(crate) fn add<F: Format>(a: u64, b: u64, env: &mut Env) -> u64 {
    quick::add::<F>(a, b, env).unwrap_or_else(|| soft::add::<F>(a, b, env))
}

/// a - b
#[inline]
pub(crate) fn sub<F: Format>(a: u64, b: u64, env: &mut Env) -> u64 {
    quick::sub::<F>(a, b, env).unwrap_or_else(|| soft::add::<F>(a, b ^ F::SIGN, env))
}

/// a * b
#[inline]
pub(crate) fn mul<F: Format>(a: u64, b: u64, env: &mut Env) -> u64 {
    quick::mul::<F>(a, b, env).unwrap_or_else(|| soft::mul::<F>(a, b, env))
}

/// a / b
#[inline]
pub(crate) fn div<F: Format>(a: u64, b: u64, env: &mut Env) -> u64 {
    quick::div::<F>(a, b, env).unwrap_or_else(|| soft::div::<F>(a, b, env))
}

/// Square root of a
#[inline]
pub(crate) fn sqrt<F: Format>(a: u64, env: &mut Env) -> u64 {
    quick::sqrt::<F>(a, env).unwrap_or_else(|| soft::sqrt::<F>(a, env))
}

/// a * b + c, rounded once. The other three of the family flip signs of a and c.
#[inline]
pub(crate) fn fma<F: Format>(a: u64, b: u64, c: u64, env: &mut Env) -> u64 {
    quick::fma::<F>(a, b, c, env).unwrap_or_else(|| soft::fma::<F>(a, b, c, env))
}
