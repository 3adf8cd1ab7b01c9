//! The same arithmetic on the host's floats, where result *and* flags are known to be the same.
//!
//! Rust's `+ - * /` and `sqrt` on `f32` and `f64` round to nearest, ties to even, exactly as IEEE 754 says, on
//! every host; NaN bits and exception flags are not specified. So each function here declines (`None`, and `env`
//! untouched) unless the mode is RNE and the result is out of reach of overflow and underflow. Then the only flag
//! left is NX: either it is already sticky, or the operands are plain ([`is_plain`]) and it follows from an error
//! term that is itself computed exactly.

use std::ops::{Add, Div, Mul, Sub};

use super::{Env, F16, F32, F64, Format, Round, flag, is_negative, is_zero, magnitude};

/// What a format's host arithmetic can do; by default nothing.
pub(crate) trait Host: Sized {
    fn host_add(_a: u64, _b: u64, _env: &mut Env) -> Option<u64> {
        None
    }
    fn host_mul(_a: u64, _b: u64, _env: &mut Env) -> Option<u64> {
        None
    }
    fn host_div(_a: u64, _b: u64, _env: &mut Env) -> Option<u64> {
        None
    }
    fn host_sqrt(_a: u64, _env: &mut Env) -> Option<u64> {
        None
    }
    fn host_fma(_a: u64, _b: u64, _c: u64, _env: &mut Env) -> Option<u64> {
        None
    }
}

impl Host for F16 {}

impl Host for F32 {
    #[inline]
    fn host_add(a: u64, b: u64, env: &mut Env) -> Option<u64> {
        add::<Self, f32>(a, b, env)
    }
    #[inline]
    fn host_mul(a: u64, b: u64, env: &mut Env) -> Option<u64> {
        mul::<Self, f32>(a, b, env)
    }
    #[inline]
    fn host_div(a: u64, b: u64, env: &mut Env) -> Option<u64> {
        div::<Self, f32>(a, b, env)
    }
    #[inline]
    fn host_sqrt(a: u64, env: &mut Env) -> Option<u64> {
        sqrt::<Self, f32>(a, env)
    }
    #[inline]
    fn host_fma(a: u64, b: u64, c: u64, env: &mut Env) -> Option<u64> {
        fma_by_f64(a, b, c, env)
    }
}

impl Host for F64 {
    #[inline]
    fn host_add(a: u64, b: u64, env: &mut Env) -> Option<u64> {
        add::<Self, f64>(a, b, env)
    }
    #[inline]
    fn host_mul(a: u64, b: u64, env: &mut Env) -> Option<u64> {
        mul::<Self, f64>(a, b, env)
    }
    #[inline]
    fn host_div(a: u64, b: u64, env: &mut Env) -> Option<u64> {
        div::<Self, f64>(a, b, env)
    }
    #[inline]
    fn host_sqrt(a: u64, env: &mut Env) -> Option<u64> {
        sqrt::<Self, f64>(a, env)
    }
    #[inline]
    fn host_fma(a: u64, b: u64, c: u64, env: &mut Env) -> Option<u64> {
        fma_native(a, b, c, env)
    }
}

/// A float type of the host.
trait Native:
    Copy + PartialEq + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    const ZERO: Self;
    fn of(bits: u64) -> Self;
    fn bits(self) -> u64;
    fn root(self) -> Self;
}

impl Native for f32 {
    const ZERO: Self = 0.0;
    fn of(bits: u64) -> Self {
        Self::from_bits(bits as u32)
    }
    fn bits(self) -> u64 {
        self.to_bits().into()
    }
    fn root(self) -> Self {
        self.sqrt()
    }
}

impl Native for f64 {
    const ZERO: Self = 0.0;
    fn of(bits: u64) -> Self {
        Self::from_bits(bits)
    }
    fn bits(self) -> u64 {
        self.to_bits()
    }
    fn root(self) -> Self {
        self.sqrt()
    }
}

/// Zero, or normal and below 2^(EMAX-2): no NaN, no subnormal, and sums of a few of them stay finite.
#[inline]
fn is_plain<F: Format>(a: u64) -> bool {
    let magnitude = magnitude::<F>(a);
    let span = F::INF - 4 * F::MIN_NORMAL;
    magnitude.wrapping_sub(F::MIN_NORMAL) < span || magnitude == 0
}

/// Finite and above the smallest normal number. That number itself may be a tiny result rounded up, which is UF.
#[inline]
fn is_safe<F: Format>(result: u64) -> bool {
    magnitude::<F>(result).wrapping_sub(F::MIN_NORMAL + 1) < F::INF - F::MIN_NORMAL - 1
}

#[inline]
fn is_nearest(env: &Env) -> bool {
    env.rm == Round::Rne
}

#[inline]
fn is_inexact_sticky(env: &Env) -> bool {
    env.flags & flag::NX != 0
}

#[inline]
fn raise_if(inexact: bool, env: &mut Env) {
    env.flags |= u8::from(inexact) * flag::NX;
}

/// What rounding took from `sum` = x + y, exactly (Knuth's 2Sum; holds for every order of magnitudes without overflow).
#[inline]
fn sum_error<N: Native>(x: N, y: N, sum: N) -> N {
    let y_part = sum - x;
    let x_part = sum - y_part;
    (x - x_part) + (y - y_part)
}

/// Whether a·b is representable, given the rounded, [`is_safe`] product. The product of the significands has
/// 2·FRAC_BITS + 1 bits, or one more if it carried into the exponent, and its trailing zeros are the factors'.
/// (Rounding up into the next binade does not fool it: so many zeros leave nothing to round.)
#[inline]
fn is_exact_product<F: Format>(a: u64, b: u64, product: u64) -> bool {
    let trailing_zeros = |x: u64| (x | F::MIN_NORMAL).trailing_zeros().cast_signed();
    let exponent = |x: u64| (magnitude::<F>(x) >> F::FRAC_BITS) as i32 - F::EMAX;
    let carry = exponent(product) - exponent(a) - exponent(b);
    trailing_zeros(a) + trailing_zeros(b) >= F::FRAC_BITS.cast_signed() + carry
}

/// Once NX is sticky only the result matters: if it is [`is_safe`] the host's is right, whatever the operands were.
#[inline]
fn sticky<F: Format>(result: u64, env: &Env) -> Option<u64> {
    (is_nearest(env) && is_safe::<F>(result)).then_some(result)
}

/// No result check: sums of plain numbers cannot overflow, and a subnormal sum is always exact.
#[inline]
fn add<F: Format, N: Native>(a: u64, b: u64, env: &mut Env) -> Option<u64> {
    if is_inexact_sticky(env) {
        let sum = (N::of(a) + N::of(b)).bits();
        // A sum of zero is exact, and the host knows its sign.
        let zero = is_nearest(env) && is_zero::<F>(sum);
        return if zero { Some(sum) } else { sticky::<F>(sum, env) };
    }
    if !(is_nearest(env) && is_plain::<F>(a) && is_plain::<F>(b)) {
        return None;
    }
    let (x, y) = (N::of(a), N::of(b));
    let sum = x + y;
    raise_if(sum_error(x, y, sum) != N::ZERO, env);
    Some(sum.bits())
}

#[inline]
fn mul<F: Format, N: Native>(a: u64, b: u64, env: &mut Env) -> Option<u64> {
    if is_inexact_sticky(env) {
        let product = (N::of(a) * N::of(b)).bits();
        let zero = is_nearest(env) && is_zero::<F>(product) && (is_zero::<F>(a) || is_zero::<F>(b));
        return if zero { Some(product) } else { sticky::<F>(product, env) };
    }
    if !(is_nearest(env) && is_plain::<F>(a) && is_plain::<F>(b)) {
        return None;
    }
    let product = (N::of(a) * N::of(b)).bits();
    if !is_safe::<F>(product) {
        let exact_zero = is_zero::<F>(a) || is_zero::<F>(b);
        return exact_zero.then_some(product);
    }
    raise_if(!is_exact_product::<F>(a, b, product), env);
    Some(product)
}

/// A division by zero is not safe, and so declined.
#[inline]
fn div<F: Format, N: Native>(a: u64, b: u64, env: &mut Env) -> Option<u64> {
    if is_inexact_sticky(env) {
        return sticky::<F>((N::of(a) / N::of(b)).bits(), env);
    }
    if !(is_nearest(env) && is_plain::<F>(a) && is_plain::<F>(b)) {
        return None;
    }
    let quotient = N::of(a) / N::of(b);
    if !is_safe::<F>(quotient.bits()) {
        return None;
    }
    let back = quotient * N::of(b);
    let exact = back.bits() == a && is_exact_product::<F>(quotient.bits(), b, a);
    raise_if(!exact, env);
    Some(quotient.bits())
}

#[inline]
fn sqrt<F: Format, N: Native>(a: u64, env: &mut Env) -> Option<u64> {
    if is_inexact_sticky(env) {
        return sticky::<F>(N::of(a).root().bits(), env);
    }
    if !is_nearest(env) || !is_plain::<F>(a) || is_negative::<F>(a) || is_zero::<F>(a) {
        return None;
    }
    let root = N::of(a).root();
    let exact = (root * root).bits() == a && is_exact_product::<F>(root.bits(), root.bits(), a);
    raise_if(!exact, env);
    Some(root.bits())
}

/// binary32 in f64: the product is exact there, and the sum, rounded to odd, has the bits to be rounded again
/// without harm (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
#[inline]
fn fma_by_f64(a: u64, b: u64, c: u64, env: &mut Env) -> Option<u64> {
    if !(is_nearest(env) && is_plain::<F32>(a) && is_plain::<F32>(b) && is_plain::<F32>(c)) {
        return None;
    }
    let product = f64::from(f32::of(a)) * f64::from(f32::of(b));
    let addend = f64::from(f32::of(c));
    let sum = product + addend;
    let error = sum_error(product, addend, sum);
    let result = round_to_odd(sum, error) as f32;
    if !is_safe::<F32>(result.bits()) && sum != 0.0 {
        return None;
    }
    raise_if(error != 0.0 || f64::from(result) != sum, env);
    Some(result.bits())
}

/// The neighbour of `sum` + `error` whose last bit is odd, or `sum` if there is no error.
#[inline]
fn round_to_odd(sum: f64, error: f64) -> f64 {
    let bits = sum.to_bits();
    if error == 0.0 || bits & 1 != 0 {
        return sum;
    }
    let away_from_zero = (error > 0.0) == (sum > 0.0);
    f64::from_bits(if away_from_zero { bits + 1 } else { bits - 1 })
}

/// binary64: with a sticky NX by the host's fused instruction; before that, as two steps if the product is exact.
#[inline]
fn fma_native(a: u64, b: u64, c: u64, env: &mut Env) -> Option<u64> {
    if is_inexact_sticky(env) {
        return sticky::<F64>(fused(f64::of(a), f64::of(b), f64::of(c))?.bits(), env);
    }
    if !(is_nearest(env) && is_plain::<F64>(a) && is_plain::<F64>(b) && is_plain::<F64>(c)) {
        return None;
    }
    let product = (f64::of(a) * f64::of(b)).bits();
    let exact = is_safe::<F64>(product) && is_plain::<F64>(product) && is_exact_product::<F64>(a, b, product);
    if exact { add::<F64, f64>(product, c, env) } else { None }
}

/// `mul_add`, if the host has it in hardware: the library's way round is slower than `soft`.
#[inline]
fn fused(x: f64, y: f64, z: f64) -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    let in_hardware = std::arch::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    let in_hardware = cfg!(any(target_arch = "aarch64", target_arch = "riscv64"));
    in_hardware.then(|| x.mul_add(y, z))
}
