//! Arithmetic in integers: the definition that every faster path has to match.
//!
//! Each operation forms its exact result, or one with all that was lost folded into the lowest bit ("jammed"),
//! and hands it to [`round_pack`], the only place that rounds to a format and raises OF, UF and NX.

use super::{
    Env, Format, Round, flag, is_inf, is_nan, is_negative, is_signaling, is_zero, magnitude, signed,
};

/// A finite nonzero number, ±sig·2^(exp-63), with bit 63 of `sig` set.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    pub(super) negative: bool,
    pub(super) exp: i32,
    pub(super) sig: u64,
}

impl Parts {
    /// Takes a finite nonzero value apart; subnormals come out normalised.
    pub(super) fn of<F: Format>(a: u64) -> Self {
        let frac = a & F::FRAC_MASK;
        let biased = (magnitude::<F>(a) >> F::FRAC_BITS) as i32;
        let significand = if biased == 0 { frac } else { frac | F::MIN_NORMAL };
        let shift = significand.leading_zeros();
        let subnormal_shift = (shift - (63 - F::FRAC_BITS)) as i32;
        Self {
            negative: is_negative::<F>(a),
            exp: biased.max(1) - F::EMAX - subnormal_shift,
            sig: significand << shift,
        }
    }
}

/// A term of a sum, ±sig·2^(exp-126). Bit 126 of `sig` is set, or the term is zero. Bit 127 is room for a carry.
#[derive(Clone, Copy)]
struct Term {
    negative: bool,
    exp: i32,
    sig: u128,
}

impl Term {
    fn of<F: Format>(a: u64) -> Self {
        if is_zero::<F>(a) {
            return Self::zero(is_negative::<F>(a));
        }
        let Parts { negative, exp, sig } = Parts::of::<F>(a);
        Self { negative, exp, sig: u128::from(sig) << 63 }
    }

    /// Zero sorts below every other term and shifts to nothing.
    fn zero(negative: bool) -> Self {
        Self { negative, exp: -(1 << 16), sig: 0 }
    }

    /// The exact product of two finite values: 2·53 bits at most, so that shifting one out loses nothing.
    fn product<F: Format>(a: u64, b: u64) -> Self {
        let negative = is_negative::<F>(a ^ b);
        if is_zero::<F>(a) || is_zero::<F>(b) {
            return Self::zero(negative);
        }
        let (x, y) = (Parts::of::<F>(a), Parts::of::<F>(b));
        let sig = u128::from(x.sig) * u128::from(y.sig);
        let carry = (sig >> 127) as i32;
        Self { negative, exp: x.exp + y.exp + carry, sig: sig >> carry }
    }
}

/// `sig >> shift`, with the lowest bit set if a one was shifted out.
pub(super) fn shift_right_jam(sig: u64, shift: u32) -> u64 {
    if shift > 63 { u64::from(sig != 0) } else { (sig >> shift) | u64::from((sig >> shift) << shift != sig) }
}

fn shift_right_jam_wide(sig: u128, shift: u32) -> u128 {
    if shift > 127 {
        u128::from(sig != 0)
    } else {
        (sig >> shift) | u128::from((sig >> shift) << shift != sig)
    }
}

/// Drops the low `drop` bits (1..=63) of `sig`, rounding what is left.
pub(super) fn round_shift(sig: u64, drop: u32, negative: bool, rm: Round) -> u64 {
    let kept = sig >> drop;
    let lost = sig & ((1 << drop) - 1);
    let half = 1 << (drop - 1);
    let up = match rm {
        Round::Rne => lost > half || (lost == half && kept & 1 != 0),
        Round::Rtz => false,
        Round::Rdn => negative && lost != 0,
        Round::Rup => !negative && lost != 0,
        Round::Rmm => lost >= half,
    };
    kept + u64::from(up)
}

/// Rounds ±sig·2^(exp-63), bit 63 of `sig` set and its lowest bit sticky, to the format.
pub(super) fn round_pack<F: Format>(negative: bool, exp: i32, sig: u64, env: &mut Env) -> u64 {
    if exp > F::EMAX {
        return overflow::<F>(negative, env);
    }
    if exp < F::EMIN {
        return round_pack_tiny::<F>(negative, exp, sig, env);
    }
    let drop = 63 - F::FRAC_BITS;
    let kept = round_shift(sig, drop, negative, env.rm);
    // The leading one, and a carry out of rounding, add to the exponent field.
    let bits = ((u64::from((exp - F::EMIN).cast_unsigned())) << F::FRAC_BITS) + kept;
    if bits >= F::INF {
        return overflow::<F>(negative, env);
    }
    if sig << (64 - drop) != 0 {
        env.raise(flag::NX);
    }
    signed::<F>(negative, bits)
}

/// [`round_pack`] below the normal range, where the spacing no longer shrinks with the exponent.
fn round_pack_tiny<F: Format>(negative: bool, exp: i32, sig: u64, env: &mut Env) -> u64 {
    let drop = 63 - F::FRAC_BITS;
    let aligned = shift_right_jam(sig, F::EMIN.abs_diff(exp));
    let bits = round_shift(aligned, drop, negative, env.rm);
    if aligned << (64 - drop) != 0 {
        // Tininess after rounding: tiny unless, with an unbounded exponent, rounding would reach the normal range.
        let reaches_normal =
            exp == F::EMIN - 1 && round_shift(sig, drop, negative, env.rm) == F::MIN_NORMAL << 1;
        env.raise(if reaches_normal { flag::NX } else { flag::NX | flag::UF });
    }
    signed::<F>(negative, bits)
}

/// [`round_pack`] for ±sig·2^(exp-126), any nonzero `sig`.
fn round_pack_wide<F: Format>(negative: bool, exp: i32, sig: u128, env: &mut Env) -> u64 {
    let shift = sig.leading_zeros();
    let normal = sig << shift;
    let jammed = (normal >> 64) as u64 | u64::from(normal as u64 != 0);
    round_pack::<F>(negative, exp + 1 - shift.cast_signed(), jammed, env)
}

fn overflow<F: Format>(negative: bool, env: &mut Env) -> u64 {
    env.raise(flag::OF | flag::NX);
    let to_infinity = match env.rm {
        Round::Rne | Round::Rmm => true,
        Round::Rtz => false,
        Round::Rdn => negative,
        Round::Rup => !negative,
    };
    signed::<F>(negative, if to_infinity { F::INF } else { F::INF - 1 })
}

pub(super) fn invalid<F: Format>(env: &mut Env) -> u64 {
    env.raise(flag::NV);
    F::CANONICAL_NAN
}

/// The result of an operation with a NaN operand: payloads never propagate.
fn quieted<F: Format>(signaling: bool, env: &mut Env) -> u64 {
    if signaling { invalid::<F>(env) } else { F::CANONICAL_NAN }
}

pub(super) fn add<F: Format>(a: u64, b: u64, env: &mut Env) -> u64 {
    if is_nan::<F>(a) || is_nan::<F>(b) {
        return quieted::<F>(is_signaling::<F>(a) || is_signaling::<F>(b), env);
    }
    match (is_inf::<F>(a), is_inf::<F>(b)) {
        (true, true) if a != b => invalid::<F>(env),
        (true, _) => a,
        (false, true) => b,
        (false, false) => sum::<F>(Term::of::<F>(a), Term::of::<F>(b), env),
    }
}

/// The rounded sum. Why jamming one addend is enough: the larger term has 21 zero bits at its low end, so when
/// the smaller loses bits at all, the two differ by 2^21 or more and the difference keeps its leading bits.
fn sum<F: Format>(x: Term, y: Term, env: &mut Env) -> u64 {
    let (large, small) = if (x.exp, x.sig) >= (y.exp, y.sig) { (x, y) } else { (y, x) };
    let aligned = shift_right_jam_wide(small.sig, large.exp.abs_diff(small.exp));
    let same_sign = x.negative == y.negative;
    let sig = if same_sign { large.sig + aligned } else { large.sig - aligned };
    if sig == 0 {
        // IEEE 754 §6.3: an exact zero from unlike signs is +0, but -0 when rounding down.
        let negative = if same_sign { x.negative } else { env.rm == Round::Rdn };
        return signed::<F>(negative, 0);
    }
    round_pack_wide::<F>(large.negative, large.exp, sig, env)
}

pub(super) fn mul<F: Format>(a: u64, b: u64, env: &mut Env) -> u64 {
    if is_nan::<F>(a) || is_nan::<F>(b) {
        return quieted::<F>(is_signaling::<F>(a) || is_signaling::<F>(b), env);
    }
    let negative = is_negative::<F>(a ^ b);
    if is_inf::<F>(a) || is_inf::<F>(b) {
        let other_is_zero = is_zero::<F>(a) || is_zero::<F>(b);
        return if other_is_zero { invalid::<F>(env) } else { signed::<F>(negative, F::INF) };
    }
    let product = Term::product::<F>(a, b);
    if product.sig == 0 {
        return signed::<F>(negative, 0);
    }
    round_pack_wide::<F>(negative, product.exp, product.sig, env)
}

pub(super) fn div<F: Format>(a: u64, b: u64, env: &mut Env) -> u64 {
    if is_nan::<F>(a) || is_nan::<F>(b) {
        return quieted::<F>(is_signaling::<F>(a) || is_signaling::<F>(b), env);
    }
    let negative = is_negative::<F>(a ^ b);
    match (is_inf::<F>(a), is_inf::<F>(b)) {
        (true, true) => return invalid::<F>(env),
        (true, false) => return signed::<F>(negative, F::INF),
        (false, true) => return signed::<F>(negative, 0),
        (false, false) => {}
    }
    match (is_zero::<F>(a), is_zero::<F>(b)) {
        (true, true) => return invalid::<F>(env),
        (true, false) => return signed::<F>(negative, 0),
        (false, true) => {
            env.raise(flag::DZ);
            return signed::<F>(negative, F::INF);
        }
        (false, false) => {}
    }
    let (x, y) = (Parts::of::<F>(a), Parts::of::<F>(b));
    // x.sig < 2·y.sig, so the quotient has 62 or 63 bits: far more than the 55 that rounding needs.
    let numerator = u128::from(x.sig) << 62;
    let denominator = u128::from(y.sig);
    let quotient = (numerator / denominator) as u64;
    let jammed = quotient | u64::from(u128::from(quotient) * denominator != numerator);
    let shift = jammed.leading_zeros();
    round_pack::<F>(negative, x.exp - y.exp + 1 - shift.cast_signed(), jammed << shift, env)
}

pub(super) fn sqrt<F: Format>(a: u64, env: &mut Env) -> u64 {
    if is_nan::<F>(a) {
        return quieted::<F>(is_signaling::<F>(a), env);
    }
    if is_zero::<F>(a) {
        return a;
    }
    if is_negative::<F>(a) {
        return invalid::<F>(env);
    }
    if is_inf::<F>(a) {
        return a;
    }
    let Parts { exp, sig, .. } = Parts::of::<F>(a);
    // An even exponent, with sig·2^63 or sig·2^64 in 2^126..2^128, whose root has exactly 64 bits.
    let odd = (exp & 1).cast_unsigned();
    let radicand = u128::from(sig) << (63 + odd);
    let root = radicand.isqrt() as u64;
    let jammed = root | u64::from(u128::from(root) * u128::from(root) != radicand);
    round_pack::<F>(false, exp >> 1, jammed, env)
}

pub(super) fn fma<F: Format>(a: u64, b: u64, c: u64, env: &mut Env) -> u64 {
    let infinite_product = is_inf::<F>(a) || is_inf::<F>(b);
    // RISC-V settles what IEEE 754 §7.2 leaves open: ∞·0 is invalid also when c is a quiet NaN.
    if infinite_product && (is_zero::<F>(a) || is_zero::<F>(b)) {
        return invalid::<F>(env);
    }
    if is_nan::<F>(a) || is_nan::<F>(b) || is_nan::<F>(c) {
        let signaling = is_signaling::<F>(a) || is_signaling::<F>(b) || is_signaling::<F>(c);
        return quieted::<F>(signaling, env);
    }
    let infinity = signed::<F>(is_negative::<F>(a ^ b), F::INF);
    match (infinite_product, is_inf::<F>(c)) {
        (true, true) if c != infinity => invalid::<F>(env),
        (true, _) => infinity,
        (false, true) => c,
        (false, false) => sum::<F>(Term::product::<F>(a, b), Term::of::<F>(c), env),
    }
}
