//! Conversions between the formats, and to and from integers.

use super::soft::{Parts, invalid, round_pack, round_shift, shift_right_jam};
use super::{Env, Format, flag, is_inf, is_nan, is_negative, is_signaling, is_zero, signed};

/// The integer types of the `fcvt` instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Int {
    I32,
    U32,
    I64,
    U64,
}

impl Int {
    /// Largest magnitude on the positive and on the negative side.
    fn limits(self) -> (u64, u64) {
        match self {
            Self::I32 => (i32::MAX as u64, i32::MIN.unsigned_abs().into()),
            Self::U32 => (u32::MAX.into(), 0),
            Self::I64 => (i64::MAX as u64, i64::MIN.unsigned_abs()),
            Self::U64 => (u64::MAX, 0),
        }
    }

    /// The value as a register holds it: both 32-bit types sign-extended, as the manual's fcvt table has it.
    fn in_register(self, value: u64) -> u64 {
        match self {
            Self::I32 | Self::U32 => value as i32 as u64,
            Self::I64 | Self::U64 => value,
        }
    }

    /// Sign and magnitude of the operand in a register.
    fn of_register(self, x: u64) -> (bool, u64) {
        match self {
            Self::I32 => ((x as i32) < 0, (x as i32).unsigned_abs().into()),
            Self::U32 => (false, (x as u32).into()),
            Self::I64 => ((x as i64) < 0, (x as i64).unsigned_abs()),
            Self::U64 => (false, x),
        }
    }
}

/// From one format to another.
pub(crate) fn resize<From: Format, To: Format>(a: u64, env: &mut Env) -> u64 {
    let negative = is_negative::<From>(a);
    if is_nan::<From>(a) {
        return if is_signaling::<From>(a) { invalid::<To>(env) } else { To::CANONICAL_NAN };
    }
    if is_inf::<From>(a) {
        return signed::<To>(negative, To::INF);
    }
    if is_zero::<From>(a) {
        return signed::<To>(negative, 0);
    }
    let Parts { exp, sig, .. } = Parts::of::<From>(a);
    round_pack::<To>(negative, exp, sig, env)
}

/// To an integer, as the destination register holds it. Out of range saturates with NV; a NaN counts as +∞.
pub(crate) fn to_int<F: Format>(a: u64, kind: Int, env: &mut Env) -> u64 {
    let (positive, negative) = kind.limits();
    let is_below = is_negative::<F>(a) && !is_nan::<F>(a);
    let limit = if is_below { negative } else { positive };
    let (magnitude, inexact) = match rounded_magnitude::<F>(a, env) {
        Some((magnitude, inexact)) if magnitude <= limit => (magnitude, inexact),
        _ => {
            env.raise(flag::NV);
            (limit, false)
        }
    };
    if inexact {
        env.raise(flag::NX);
    }
    kind.in_register(if is_below { magnitude.wrapping_neg() } else { magnitude })
}

/// |a| rounded to an integer as a's sign and the mode want, and whether that lost anything. `None` from 2^64 up.
fn rounded_magnitude<F: Format>(a: u64, env: &Env) -> Option<(u64, bool)> {
    if is_nan::<F>(a) || is_inf::<F>(a) {
        return None;
    }
    if is_zero::<F>(a) {
        return Some((0, false));
    }
    let Parts { negative, exp, sig } = Parts::of::<F>(a);
    match exp {
        64.. => None,
        // No format has more than 53 significant bits, so from here up all is integer.
        62..=63 => Some((sig >> (63 - exp), false)),
        _ => {
            // Two bits below the point: the half, and whether there is anything below it.
            let with_fraction = shift_right_jam(sig, 61u32.saturating_add_signed(-exp));
            Some((round_shift(with_fraction, 2, negative, env.rm), with_fraction & 3 != 0))
        }
    }
}

/// From an integer in a register.
pub(crate) fn from_int<F: Format>(x: u64, kind: Int, env: &mut Env) -> u64 {
    let (negative, magnitude) = kind.of_register(x);
    if magnitude == 0 {
        return 0;
    }
    let shift = magnitude.leading_zeros();
    round_pack::<F>(negative, 63 - shift.cast_signed(), magnitude << shift, env)
}
