//! What each operation has to give, by means that share nothing with `soft` and `host`.

use std::cmp::Ordering;

use rustc_apfloat::ieee::{DoubleS, HalfS, IeeeFloat, QuadS, Semantics, SingleS};
use rustc_apfloat::{Category, Float, FloatConvert, Round as ApRound, Status, StatusAnd};

use super::super::{F16, F32, F64, Format, Int, Round, flag};

type Ap<F> = IeeeFloat<<F as Oracle>::Same>;
type ApWide<F> = IeeeFloat<<F as Oracle>::Wide>;

/// A format as the library has it, and one of the same precision whose exponent does not end where results do.
pub(super) trait Oracle: Format {
    type Same: Semantics;
    type Wide: Semantics;
}

pub(super) struct WideHalf;
impl Semantics for WideHalf {
    const BITS: usize = 11 + 12;
    const EXP_BITS: usize = 12;
}
pub(super) struct WideSingle;
impl Semantics for WideSingle {
    const BITS: usize = 24 + 14;
    const EXP_BITS: usize = 14;
}
pub(super) struct WideDouble;
impl Semantics for WideDouble {
    const BITS: usize = 53 + 15;
    const EXP_BITS: usize = 15;
}

impl Oracle for F16 {
    type Same = HalfS;
    type Wide = WideHalf;
}
impl Oracle for F32 {
    type Same = SingleS;
    type Wide = WideSingle;
}
impl Oracle for F64 {
    type Same = DoubleS;
    type Wide = WideDouble;
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Add,
    Sub,
    Mul,
    Div,
    Fma,
}

fn ap_round(rm: Round) -> ApRound {
    match rm {
        Round::Rne => ApRound::NearestTiesToEven,
        Round::Rtz => ApRound::TowardZero,
        Round::Rdn => ApRound::TowardNegative,
        Round::Rup => ApRound::TowardPositive,
        Round::Rmm => ApRound::NearestTiesToAway,
    }
}

fn ap<F: Oracle>(a: u64) -> Ap<F> {
    Ap::<F>::from_bits(a.into())
}

fn widened<S: Semantics, T: Semantics>(a: IeeeFloat<S>) -> IeeeFloat<T> {
    let mut loses_info = false;
    let wide = a.convert(&mut loses_info).value;
    assert!(!loses_info, "the wide format holds every operand");
    wide
}

fn apply<S: Semantics>(op: Op, [a, b, c]: [IeeeFloat<S>; 3], rm: Round) -> StatusAnd<IeeeFloat<S>> {
    let rm = ap_round(rm);
    match op {
        Op::Add => a.add_r(b, rm),
        Op::Sub => a.sub_r(b, rm),
        Op::Mul => a.mul_r(b, rm),
        Op::Div => a.div_r(b, rm),
        Op::Fma => a.mul_add_r(b, c, rm),
    }
}

/// Result and flags. `wide` is the same result with an exponent that has no bounds: it decides OF and UF.
fn outcome<F: Oracle>(narrow: StatusAnd<Ap<F>>, wide: ApWide<F>) -> (u64, u8) {
    let result = narrow.value;
    if result.is_nan() {
        assert_eq!(narrow.status, Status::INVALID_OP);
        return (F::CANONICAL_NAN, flag::NV);
    }
    if narrow.status == Status::DIV_BY_ZERO {
        return (result.to_bits() as u64, flag::DZ);
    }
    let mut flags = 0;
    if narrow.status.contains(Status::INEXACT) {
        flags |= flag::NX;
        let magnitude = wide.abs();
        if magnitude < widened(Ap::<F>::smallest_normalized()) {
            flags |= flag::UF;
        }
        if magnitude > widened(Ap::<F>::largest()) {
            flags |= flag::OF;
        }
    }
    (result.to_bits() as u64, flags)
}

fn nan_outcome<F: Oracle>(invalid: bool) -> (u64, u8) {
    (F::CANONICAL_NAN, if invalid { flag::NV } else { 0 })
}

pub(super) fn expect_op<F: Oracle>(op: Op, operands: [u64; 3], rm: Round) -> (u64, u8) {
    let used = if matches!(op, Op::Fma) { 3 } else { 2 };
    let values = operands.map(ap::<F>);
    if values[..used].iter().any(|v| v.is_nan()) {
        let [a, b, _] = values;
        let zero_times_infinity = (a.is_zero() && b.is_infinite()) || (a.is_infinite() && b.is_zero());
        let signaling = values[..used].iter().any(|v| v.is_signaling());
        return nan_outcome::<F>(signaling || (used == 3 && zero_times_infinity));
    }
    let wide = values.map(|v| if v.is_nan() { ApWide::<F>::ZERO } else { widened(v) });
    outcome::<F>(apply(op, values, rm), apply(op, wide, rm).value)
}

pub(super) fn expect_resize<From: Oracle, To: Oracle>(a: u64, rm: Round) -> (u64, u8) {
    let value = ap::<From>(a);
    if value.is_nan() {
        return nan_outcome::<To>(value.is_signaling());
    }
    let mut loses_info = false;
    let narrow: StatusAnd<Ap<To>> = value.convert_r(ap_round(rm), &mut loses_info);
    let wide: StatusAnd<ApWide<To>> = value.convert_r(ap_round(rm), &mut loses_info);
    outcome::<To>(narrow, wide.value)
}

fn is_signed(kind: Int) -> bool {
    matches!(kind, Int::I32 | Int::I64)
}

fn bits_of(kind: Int) -> usize {
    if matches!(kind, Int::I32 | Int::U32) { 32 } else { 64 }
}

fn sign_extended(kind: Int, value: i128) -> u64 {
    if bits_of(kind) == 32 { value as i32 as u64 } else { value as u64 }
}

pub(super) fn expect_to_int<F: Oracle>(a: u64, kind: Int, rm: Round) -> (u64, u8) {
    let value = ap::<F>(a);
    let bits = bits_of(kind);
    let (low, high): (i128, i128) =
        if is_signed(kind) { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) };
    if value.is_nan() {
        return (sign_extended(kind, high), flag::NV);
    }
    let rounded = value.round_to_integral(ap_round(rm)).value;
    let mut exact = false;
    let integer = rounded.to_i128_r(127, ApRound::TowardZero, &mut exact);
    if integer.status == Status::INVALID_OP || !(low..=high).contains(&integer.value) {
        return (sign_extended(kind, if value.is_negative() { low } else { high }), flag::NV);
    }
    (sign_extended(kind, integer.value), if rounded == value { 0 } else { flag::NX })
}

pub(super) fn expect_from_int<F: Oracle>(x: u64, kind: Int, rm: Round) -> (u64, u8) {
    let value = match kind {
        Int::I32 => i128::from(x as i32),
        Int::U32 => i128::from(x as u32),
        Int::I64 => i128::from(x as i64),
        Int::U64 => i128::from(x),
    };
    let narrow = Ap::<F>::from_i128_r(value, ap_round(rm));
    outcome::<F>(narrow, ApWide::<F>::from_i128_r(value, ap_round(rm)).value)
}

/// What the comparisons give, each with its flags.
pub(super) struct Expected {
    pub(super) eq: (bool, u8),
    pub(super) lt: (bool, u8),
    pub(super) le: (bool, u8),
    pub(super) min: (u64, u8),
    pub(super) max: (u64, u8),
}

pub(super) fn order<F: Oracle>(a: u64, b: u64) -> Expected {
    let (x, y) = (ap::<F>(a), ap::<F>(b));
    let quiet = if x.is_signaling() || y.is_signaling() { flag::NV } else { 0 };
    let signaling = if x.is_nan() || y.is_nan() { flag::NV } else { 0 };
    let ordering = x.partial_cmp(&y);
    let b_is_less = match ordering {
        Some(Ordering::Equal) => y.is_negative(),
        _ => ordering == Some(Ordering::Greater),
    };
    let (min, max) = match (x.is_nan(), y.is_nan()) {
        (true, true) => (F::CANONICAL_NAN, F::CANONICAL_NAN),
        (true, false) => (b, b),
        (false, true) => (a, a),
        (false, false) if b_is_less => (b, a),
        (false, false) => (a, b),
    };
    Expected {
        eq: (ordering == Some(Ordering::Equal), quiet),
        lt: (ordering == Some(Ordering::Less), signaling),
        le: (matches!(ordering, Some(Ordering::Less | Ordering::Equal)), signaling),
        min: (min, quiet),
        max: (max, quiet),
    }
}

/// F, table "Format of result of fclass instruction".
pub(super) fn class<F: Oracle>(a: u64) -> u64 {
    let value = ap::<F>(a);
    let bit = match (value.category(), value.is_negative()) {
        (Category::Infinity, true) => 0,
        (Category::Normal, true) if !value.is_denormal() => 1,
        (Category::Normal, true) => 2,
        (Category::Zero, true) => 3,
        (Category::Zero, false) => 4,
        (Category::Normal, false) if value.is_denormal() => 5,
        (Category::Normal, false) => 6,
        (Category::Infinity, false) => 7,
        (Category::NaN, _) if value.is_signaling() => 8,
        (Category::NaN, _) => 9,
    };
    1 << bit
}

/// Whether `root` and `flags` are those of √a: squares of roots and of the midpoints between roots are exact in
/// binary128, so the definition of each rounding mode can be asked directly.
pub(super) fn sqrt_is_right<F: Oracle>(a: u64, root: u64, flags: u8, rm: Round) -> bool {
    let value = ap::<F>(a);
    if value.is_nan() {
        return (root, flags) == nan_outcome::<F>(value.is_signaling());
    }
    if value.is_negative() && !value.is_zero() {
        return (root, flags) == nan_outcome::<F>(true);
    }
    if value.is_zero() || value.is_infinite() {
        return (root, flags) == (a, 0);
    }
    let quad = |bits: u64| widened::<F::Same, QuadS>(ap::<F>(bits));
    let exactly = |result: StatusAnd<IeeeFloat<QuadS>>| {
        assert_eq!(result.status, Status::OK);
        result.value
    };
    let square = |x: IeeeFloat<QuadS>| exactly(x.mul_r(x, ApRound::TowardZero));
    let half = IeeeFloat::<QuadS>::from_u128(1).value.scalbn(-1);
    let midpoint = |low: u64| {
        let sum = exactly(quad(low).add_r(quad(low + 1), ApRound::TowardZero));
        exactly(sum.mul_r(half, ApRound::TowardZero))
    };
    let radicand = quad(a);
    let exact = square(quad(root)) == radicand;
    let right = match rm {
        // A root is never a midpoint: its square would need twice the digits of the radicand.
        Round::Rne | Round::Rmm => square(midpoint(root - 1)) < radicand && radicand < square(midpoint(root)),
        Round::Rtz | Round::Rdn => square(quad(root)) <= radicand && radicand < square(quad(root + 1)),
        Round::Rup => square(quad(root - 1)) < radicand && radicand <= square(quad(root)),
    };
    right && flags == if exact { 0 } else { flag::NX }
}
