//! Comparisons, minimum and maximum, and classification: exact operations that raise nothing but NV.

use super::soft::invalid;
use super::{Env, Format, flag, is_inf, is_nan, is_negative, is_signaling, is_zero, magnitude};

/// a = b. Quiet: only a signaling NaN is invalid.
pub(crate) fn eq<F: Format>(a: u64, b: u64, env: &mut Env) -> bool {
    if is_nan::<F>(a) || is_nan::<F>(b) {
        if is_signaling::<F>(a) || is_signaling::<F>(b) {
            env.raise(flag::NV);
        }
        return false;
    }
    a == b || (is_zero::<F>(a) && is_zero::<F>(b))
}

/// a < b. Signaling: any NaN is invalid.
pub(crate) fn lt<F: Format>(a: u64, b: u64, env: &mut Env) -> bool {
    if is_nan::<F>(a) || is_nan::<F>(b) {
        env.raise(flag::NV);
        return false;
    }
    below::<F>(a, b) && !(is_zero::<F>(a) && is_zero::<F>(b))
}

/// a ≤ b. Signaling: any NaN is invalid.
pub(crate) fn le<F: Format>(a: u64, b: u64, env: &mut Env) -> bool {
    if is_nan::<F>(a) || is_nan::<F>(b) {
        env.raise(flag::NV);
        return false;
    }
    !below::<F>(b, a) || (is_zero::<F>(a) && is_zero::<F>(b))
}

/// Order of two numbers in which -0 is below +0.
fn below<F: Format>(a: u64, b: u64) -> bool {
    match (is_negative::<F>(a), is_negative::<F>(b)) {
        (false, false) => a < b,
        (true, true) => a > b,
        (a_negative, _) => a_negative,
    }
}

/// IEEE 754-2019 minimumNumber, with -0 < +0.
pub(crate) fn min<F: Format>(a: u64, b: u64, env: &mut Env) -> u64 {
    pick_number::<F>(a, b, env).unwrap_or(if below::<F>(b, a) { b } else { a })
}

/// IEEE 754-2019 maximumNumber, with -0 < +0.
pub(crate) fn max<F: Format>(a: u64, b: u64, env: &mut Env) -> u64 {
    pick_number::<F>(a, b, env).unwrap_or(if below::<F>(a, b) { b } else { a })
}

/// The answer of `min` and `max` if there is a NaN: the operand that is a number, else the canonical NaN.
fn pick_number<F: Format>(a: u64, b: u64, env: &mut Env) -> Option<u64> {
    if is_signaling::<F>(a) || is_signaling::<F>(b) {
        invalid::<F>(env);
    }
    match (is_nan::<F>(a), is_nan::<F>(b)) {
        (false, false) => None,
        (false, true) => Some(a),
        (true, false) => Some(b),
        (true, true) => Some(F::CANONICAL_NAN),
    }
}

/// The `fclass` mask: one bit of -∞, -normal, -subnormal, -0, +0, +subnormal, +normal, +∞, sNaN, qNaN.
pub(crate) fn classify<F: Format>(a: u64) -> u64 {
    if is_nan::<F>(a) {
        return 1 << if is_signaling::<F>(a) { 8 } else { 9 };
    }
    let rank = if is_inf::<F>(a) {
        3
    } else if is_zero::<F>(a) {
        0
    } else if magnitude::<F>(a) < F::MIN_NORMAL {
        1
    } else {
        2
    };
    1 << if is_negative::<F>(a) { 3 - rank } else { 4 + rank }
}
