//! Both tiers against `rustc_apfloat`, in every rounding mode, flags included.
//!
//! What that library does differently is not compared loosely but computed another way. Overflow and underflow
//! come from the same operation in a format with the same precision and a wider exponent, which is how IEEE 754
//! §7.4 and §7.5 (after rounding) define them. NaN rules are spelled out here. Square roots, which the library
//! lacks, are checked against their definition in exact binary128 products.

mod oracle;

use super::*;
use oracle::{Op, Oracle, expect_from_int, expect_op, expect_resize, expect_to_int, order, sqrt_is_right};

const MODES: [Round; 5] = [Round::Rne, Round::Rtz, Round::Rdn, Round::Rup, Round::Rmm];
const INTS: [Int; 4] = [Int::I32, Int::U32, Int::I64, Int::U64];
const OPS: [Op; 5] = [Op::Add, Op::Sub, Op::Mul, Op::Div, Op::Fma];

fn env(rm: Round) -> Env {
    Env { rm, flags: 0 }
}

fn one<F: Format>() -> u64 {
    (F::EMAX as u64) << F::FRAC_BITS
}

/// SplitMix64: test vectors must be the same on every run.
pub(crate) struct Vectors(pub(crate) u64);

impl Vectors {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.bits() % n
    }

    /// Any sign, an exponent field in reach of `near` or at an edge of the format, a fraction with structure.
    pub(crate) fn value<F: Format>(&mut self, near: u64) -> u64 {
        let fields = 1 << F::EXP_BITS;
        let biased = match self.below(8) {
            0 => self.below(4),
            1 => fields - 1 - self.below(4),
            2 => F::EMAX as u64 + self.below(9) - 4,
            3 => (fields / 4) * (1 + 2 * self.below(2)) + self.below(5) - 2,
            4 | 5 => ((near & F::INF) >> F::FRAC_BITS).wrapping_add(self.below(2 * 56)).wrapping_sub(56),
            _ => self.bits(),
        } % fields;
        let random = self.bits() & F::FRAC_MASK;
        let shift = self.below(u64::from(F::FRAC_BITS));
        let fraction = match self.below(6) {
            0 => random >> shift,
            1 => random << shift,
            2 => (F::FRAC_MASK << shift) ^ self.below(2),
            3 => (F::FRAC_MASK >> shift) ^ self.below(2),
            4 => (1 << shift) ^ self.below(2),
            _ => random,
        } & F::FRAC_MASK;
        (self.bits() & F::SIGN) | (biased << F::FRAC_BITS) | fraction
    }
}

/// The values around which something changes, with both signs.
pub(crate) fn landmarks<F: Format>() -> Vec<u64> {
    let ulp_in_exponent = |exp: i32| ((exp + F::EMAX) as u64) << F::FRAC_BITS;
    let p = F::FRAC_BITS as i32;
    let mut values = vec![0, 1, 2, 3, F::MIN_NORMAL >> 1, F::MIN_NORMAL - 2, F::MIN_NORMAL - 1];
    values.extend([F::MIN_NORMAL, F::MIN_NORMAL + 1, 2 * F::MIN_NORMAL - 1, 2 * F::MIN_NORMAL]);
    values.extend([
        one::<F>() - 1,
        one::<F>(),
        one::<F>() + 1,
        one::<F>() | F::QUIET,
        one::<F>() + F::MIN_NORMAL,
    ]);
    values.extend([one::<F>() | (0x1_999a_9999_9999 & F::FRAC_MASK), one::<F>() - F::MIN_NORMAL]);
    values.extend([ulp_in_exponent(p), ulp_in_exponent(p) + 1, ulp_in_exponent(-p), ulp_in_exponent(-p - 1)]);
    values.extend([ulp_in_exponent(F::EMIN / 2), ulp_in_exponent(F::EMAX / 2) + 1]);
    values.extend([F::INF - F::MIN_NORMAL, F::INF - 2, F::INF - 1, F::INF]);
    values.extend([F::CANONICAL_NAN, F::CANONICAL_NAN | 5, F::INF | 1, F::INF | (F::QUIET - 1)]);
    for exp in [31, 32, 63, 64] {
        if exp <= F::EMAX {
            values.extend([ulp_in_exponent(exp) - 1, ulp_in_exponent(exp), ulp_in_exponent(exp) + 1]);
        }
    }
    values.iter().flat_map(|&v| [v, v | F::SIGN]).collect()
}

fn run<F: Format>(op: Op, [a, b, c]: [u64; 3], env: &mut Env) -> u64 {
    match op {
        Op::Add => add::<F>(a, b, env),
        Op::Sub => sub::<F>(a, b, env),
        Op::Mul => mul::<F>(a, b, env),
        Op::Div => div::<F>(a, b, env),
        Op::Fma => fma::<F>(a, b, c, env),
    }
}

fn run_soft<F: Format>(op: Op, [a, b, c]: [u64; 3], env: &mut Env) -> u64 {
    match op {
        Op::Add => soft::add::<F>(a, b, env),
        Op::Sub => soft::add::<F>(a, b ^ F::SIGN, env),
        Op::Mul => soft::mul::<F>(a, b, env),
        Op::Div => soft::div::<F>(a, b, env),
        Op::Fma => soft::fma::<F>(a, b, c, env),
    }
}

/// `soft` and the tiered entry, the latter with NX clear and already set.
fn check_op<F: Oracle>(op: Op, operands: [u64; 3], rm: Round) {
    let expected = expect_op::<F>(op, operands, rm);
    let mut soft = env(rm);
    let mut clear = env(rm);
    let mut sticky = Env { rm, flags: flag::NX };
    let results = [
        run_soft::<F>(op, operands, &mut soft),
        run::<F>(op, operands, &mut clear),
        run::<F>(op, operands, &mut sticky),
    ];
    let context = || format!("{op:?} {operands:x?} {rm:?} in {} bits", F::WIDTH);
    assert_eq!((results[0], soft.flags), expected, "soft {}", context());
    assert_eq!((results[1], clear.flags), expected, "NX clear {}", context());
    assert_eq!((results[2], sticky.flags), (expected.0, expected.1 | flag::NX), "NX set {}", context());
}

fn check_unary<F: Oracle>(a: u64, rm: Round) {
    let mut soft = env(rm);
    let mut clear = env(rm);
    let mut sticky = Env { rm, flags: flag::NX };
    let root = soft::sqrt::<F>(a, &mut soft);
    assert!(sqrt_is_right::<F>(a, root, soft.flags, rm), "sqrt {a:#x} {rm:?}: {root:#x} {:#x}", soft.flags);
    assert_eq!((sqrt::<F>(a, &mut clear), clear.flags), (root, soft.flags), "sqrt {a:#x}");
    assert_eq!((sqrt::<F>(a, &mut sticky), sticky.flags), (root, soft.flags | flag::NX), "sqrt {a:#x}");
    for kind in INTS {
        let mut env = env(rm);
        let got = to_int::<F>(a, kind, &mut env);
        assert_eq!((got, env.flags), expect_to_int::<F>(a, kind, rm), "{a:#x} to {kind:?} {rm:?}");
    }
    check_resize::<F, F16>(a, rm);
    check_resize::<F, F32>(a, rm);
    check_resize::<F, F64>(a, rm);
}

fn check_resize<From: Oracle, To: Oracle>(a: u64, rm: Round) {
    let mut env = env(rm);
    let got = resize::<From, To>(a, &mut env);
    assert_eq!((got, env.flags), expect_resize::<From, To>(a, rm), "{a:#x}: {}→{}", From::WIDTH, To::WIDTH);
}

fn check_order<F: Oracle>(a: u64, b: u64) {
    let with_env = |f: fn(u64, u64, &mut Env) -> bool| {
        let mut env = env(Round::Rne);
        (f(a, b, &mut env), env.flags)
    };
    let picked = |f: fn(u64, u64, &mut Env) -> u64| {
        let mut env = env(Round::Rne);
        (f(a, b, &mut env), env.flags)
    };
    let expected = order::<F>(a, b);
    assert_eq!(with_env(eq::<F>), expected.eq, "{a:#x} = {b:#x}");
    assert_eq!(with_env(lt::<F>), expected.lt, "{a:#x} < {b:#x}");
    assert_eq!(with_env(le::<F>), expected.le, "{a:#x} <= {b:#x}");
    assert_eq!(picked(min::<F>), expected.min, "min {a:#x} {b:#x}");
    assert_eq!(picked(max::<F>), expected.max, "max {a:#x} {b:#x}");
}

fn directed<F: Oracle>() {
    let values = landmarks::<F>();
    for &a in &values {
        assert_eq!(classify::<F>(a), oracle::class::<F>(a), "class of {a:#x}");
        for rm in MODES {
            check_unary::<F>(a, rm);
        }
        for &b in &values {
            check_order::<F>(a, b);
            for rm in MODES {
                for op in [Op::Add, Op::Sub, Op::Mul, Op::Div] {
                    check_op::<F>(op, [a, b, 0], rm);
                }
            }
            // Every third addend, a different third for each pair.
            for &c in values.iter().skip((a ^ b) as usize % 3).step_by(3) {
                check_op::<F>(Op::Fma, [a, b, c], MODES[(a ^ b ^ c) as usize % 5]);
            }
        }
    }
}

fn random<F: Oracle>(seed: u64, count: u32) {
    let mut vectors = Vectors(seed);
    for _ in 0..count {
        let a = vectors.value::<F>(one::<F>());
        let b = vectors.value::<F>(a);
        let product = soft::mul::<F>(a, b, &mut env(Round::Rtz));
        let c = match vectors.below(3) {
            // Cancellation against the product, to the last bit or nearly.
            0 => product.wrapping_add(vectors.below(5)).wrapping_sub(2) & (F::SIGN | (F::SIGN - 1)) ^ F::SIGN,
            _ => vectors.value::<F>(product),
        };
        let rm = MODES[vectors.below(5) as usize];
        for op in OPS {
            check_op::<F>(op, [a, b, c], rm);
            check_op::<F>(op, [a, b, c], Round::Rne);
        }
        check_order::<F>(a, b);
        check_unary::<F>(a, rm);
    }
}

#[test]
fn directed_f16() {
    directed::<F16>();
}

#[test]
fn directed_f32() {
    directed::<F32>();
}

#[test]
fn directed_f64() {
    directed::<F64>();
}

#[test]
fn random_f16() {
    random::<F16>(16, 100_000);
}

#[test]
fn random_f32() {
    random::<F32>(32, 100_000);
}

#[test]
fn random_f64() {
    random::<F64>(64, 100_000);
}

#[test]
fn every_f16_alone() {
    for a in 0..=0xffff {
        assert_eq!(classify::<F16>(a), oracle::class::<F16>(a), "class of {a:#x}");
        for rm in MODES {
            check_unary::<F16>(a, rm);
        }
    }
}

/// Integers around every power of two, and anywhere.
#[test]
fn from_integers() {
    let mut vectors = Vectors(7);
    let edges = (0..64).flat_map(|n| (0..5u64).map(move |d| (1u64 << n).wrapping_add(d).wrapping_sub(2)));
    let anywhere: Vec<u64> = (0..20_000).map(|_| vectors.bits() >> vectors.below(64)).collect();
    for x in edges.chain(anywhere).flat_map(|x| [x, x.wrapping_neg()]) {
        for kind in INTS {
            for rm in MODES {
                check_from_int::<F16>(x, kind, rm);
                check_from_int::<F32>(x, kind, rm);
                check_from_int::<F64>(x, kind, rm);
            }
        }
    }
}

fn check_from_int<F: Oracle>(x: u64, kind: Int, rm: Round) {
    let mut env = env(rm);
    let got = from_int::<F>(x, kind, &mut env);
    assert_eq!((got, env.flags), expect_from_int::<F>(x, kind, rm), "{kind:?} {x:#x} to {} {rm:?}", F::WIDTH);
}

/// The fast path that never fires would pass every other test.
#[test]
fn ordinary_operands_take_the_host_path() {
    let mut vectors = Vectors(9);
    let mut declined = [0; 4];
    for _ in 0..10_000 {
        let ordinary = |bits: u64| ((bits % 64 + 991) << 52) | (bits >> 12);
        let (a, b, c) = (ordinary(vectors.bits()), ordinary(vectors.bits()), ordinary(vectors.bits()));
        for flags in [0, flag::NX] {
            let mut env = Env { rm: Round::Rne, flags };
            declined[0] += u32::from(F64::host_add(a, b, &mut env).is_none());
            declined[1] += u32::from(F64::host_mul(a, b, &mut env).is_none());
            declined[2] += u32::from(F64::host_div(a, b, &mut env).is_none());
            let [a, b, c] = [a, b, c].map(|x| resize::<F64, F32>(x, &mut env));
            declined[3] += u32::from(F32::host_fma(a, b, c, &mut env).is_none());
        }
    }
    assert_eq!(declined, [0; 4]);
}

/// All pairs of binary16 against binary64, where sums and products are exact and [`resize`] rounds them.
#[test]
#[ignore = "takes minutes; run with --release"]
fn every_pair_of_f16() {
    let wide = |a: u64| f64::from_bits(resize::<F16, F64>(a, &mut env(Round::Rne)));
    let numbers: Vec<(u64, f64)> =
        (0..=0xffff).filter(|&a| !is_nan::<F16>(a)).map(|a| (a, wide(a))).collect();
    for (index, &(a, x)) in numbers.iter().enumerate() {
        let rm = MODES[index % 5];
        for &(b, y) in &numbers[..=index] {
            let (mut got, mut expected) = (env(rm), env(rm));
            if x + y != 0.0 && !(x + y).is_nan() {
                let sum = add::<F16>(a, b, &mut got);
                assert_eq!(
                    sum,
                    resize::<F64, F16>((x + y).to_bits(), &mut expected),
                    "{a:#x} + {b:#x} {rm:?}"
                );
            }
            if !(x * y).is_nan() {
                let product = mul::<F16>(a, b, &mut got);
                assert_eq!(
                    product,
                    resize::<F64, F16>((x * y).to_bits(), &mut expected),
                    "{a:#x} * {b:#x} {rm:?}"
                );
            }
            assert_eq!(got.flags, expected.flags, "{a:#x} {b:#x} {rm:?}");
        }
    }
}
