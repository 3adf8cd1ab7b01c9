//! F, D, Zfh and Zfhmin: one function per instruction, over the arithmetic of [`crate::fp`].
//!
//! Loads and stores of floating-point registers are memory instructions and live in `exec/mem.rs`.
//!
//! Every function begins by asking whether floating point is on. Those with a rounding mode then resolve it, also
//! where the result is always exact (`fcvt.d.w`): a reserved mode is an illegal instruction all the same. Nothing is
//! written before all that can trap has been asked.

use crate::fp::{self, Env, F16, F32, F64, Format, Int, Round};
use crate::hart::Hart;
use crate::isa::Op;
use crate::trap::Trap;

/// A register's value as an operand: one that is not NaN boxed counts as the canonical NaN. D §"NaN Boxing of
/// Narrower Values".
#[inline(always)]
fn unboxed<F: Format>(register: u64) -> u64 {
    if F::WIDTH == 64 {
        return register;
    }
    let boxing = u64::MAX << (F::WIDTH % 64);
    if register & boxing == boxing { register & !boxing } else { F::CANONICAL_NAN }
}

/// A result as a register holds it.
#[inline(always)]
fn boxed<F: Format>(value: u64) -> u64 {
    if F::WIDTH == 64 { value } else { value | u64::MAX << (F::WIDTH % 64) }
}

/// The surroundings of an operation that rounds.
#[inline(always)]
fn rounding_env(h: &Hart, op: &Op) -> Result<Env, Trap> {
    let rm = Round::from_bits(h.rounding(op)?).expect("Hart::rounding refuses the reserved modes");
    Ok(Env { rm, ..exact_env(h) })
}

/// The surroundings of an operation that never rounds.
#[inline(always)]
fn exact_env(h: &Hart) -> Env {
    Env { rm: Round::Rne, flags: (h.fcsr & 0x1f) as u8 }
}

/// Raises what is new: a flag that was set already is no change of state, so it does not make FS dirty.
#[inline(always)]
fn accrue(h: &mut Hart, env: &Env) {
    h.raise_fp(u32::from(env.flags) & !h.fcsr);
}

/// What an operation gives: none where it declines, as those of [`fp::quick`] may.
trait Given {
    fn given(self) -> Option<u64>;
}

impl Given for u64 {
    #[inline(always)]
    fn given(self) -> Option<u64> {
        Some(self)
    }
}

impl Given for Option<u64> {
    #[inline(always)]
    fn given(self) -> Option<u64> {
        self
    }
}

#[inline(always)]
fn binary<F: Format, G: Given>(h: &mut Hart, op: &Op, f: fn(u64, u64, &mut Env) -> G) -> Result<(), Trap> {
    h.require_fp(op)?;
    let mut env = rounding_env(h, op)?;
    let value = f(unboxed::<F>(h.f(op.rs1)), unboxed::<F>(h.f(op.rs2)), &mut env);
    finish::<F>(h, op, &env, value)
}

#[inline(always)]
fn unary<F: Format, G: Given>(h: &mut Hart, op: &Op, f: fn(u64, &mut Env) -> G) -> Result<(), Trap> {
    convert::<F, F, G>(h, op, f)
}

/// Writes the result, or has nothing done and says so in whatever way.
#[inline(always)]
fn finish<F: Format>(h: &mut Hart, op: &Op, env: &Env, value: impl Given) -> Result<(), Trap> {
    let value = value.given().ok_or_else(|| Trap::illegal(op))?;
    accrue(h, env);
    h.set_f(op.rd, boxed::<F>(value));
    Ok(())
}

#[inline(always)]
fn convert<From: Format, To: Format, G: Given>(
    h: &mut Hart,
    op: &Op,
    f: fn(u64, &mut Env) -> G,
) -> Result<(), Trap> {
    h.require_fp(op)?;
    let mut env = rounding_env(h, op)?;
    let value = f(unboxed::<From>(h.f(op.rs1)), &mut env);
    finish::<To>(h, op, &env, value)
}

#[inline(always)]
fn fused<F: Format, G: Given>(
    h: &mut Hart,
    op: &Op,
    f: fn(u64, u64, u64, &mut Env) -> G,
) -> Result<(), Trap> {
    h.require_fp(op)?;
    let mut env = rounding_env(h, op)?;
    let [a, b, c] = [op.rs1, op.rs2, op.rs3()].map(|reg| unboxed::<F>(h.f(reg)));
    let value = f(a, b, c, &mut env);
    finish::<F>(h, op, &env, value)
}

/// Minimum and maximum: the `rm` field is part of the opcode.
#[inline(always)]
fn pick<F: Format>(h: &mut Hart, op: &Op, f: fn(u64, u64, &mut Env) -> u64) -> Result<(), Trap> {
    h.require_fp(op)?;
    let mut env = exact_env(h);
    let value = f(unboxed::<F>(h.f(op.rs1)), unboxed::<F>(h.f(op.rs2)), &mut env);
    accrue(h, &env);
    h.set_f(op.rd, boxed::<F>(value));
    Ok(())
}

#[inline(always)]
fn compare<F: Format>(h: &mut Hart, op: &Op, f: fn(u64, u64, &mut Env) -> bool) -> Result<(), Trap> {
    h.require_fp(op)?;
    let mut env = exact_env(h);
    let holds = f(unboxed::<F>(h.f(op.rs1)), unboxed::<F>(h.f(op.rs2)), &mut env);
    accrue(h, &env);
    h.set_x(op.rd, holds.into());
    Ok(())
}

#[inline(always)]
fn to_integer<F: Format>(h: &mut Hart, op: &Op, f: fn(u64, &mut Env) -> u64) -> Result<(), Trap> {
    h.require_fp(op)?;
    let mut env = rounding_env(h, op)?;
    let value = f(unboxed::<F>(h.f(op.rs1)), &mut env);
    accrue(h, &env);
    h.set_x(op.rd, value);
    Ok(())
}

#[inline(always)]
fn from_integer<F: Format>(h: &mut Hart, op: &Op, f: fn(u64, &mut Env) -> u64) -> Result<(), Trap> {
    h.require_fp(op)?;
    let mut env = rounding_env(h, op)?;
    let value = f(h.x(op.rs1), &mut env);
    accrue(h, &env);
    h.set_f(op.rd, boxed::<F>(value));
    Ok(())
}

/// Reads a register as an operand and touches no flag.
#[inline(always)]
fn inspect<F: Format>(h: &mut Hart, op: &Op, f: fn(u64) -> u64) -> Result<(), Trap> {
    h.require_fp(op)?;
    h.set_x(op.rd, f(unboxed::<F>(h.f(op.rs1))));
    Ok(())
}

#[inline(always)]
fn inject<F: Format>(h: &mut Hart, op: &Op, f: fn(u64, u64) -> u64) -> Result<(), Trap> {
    h.require_fp(op)?;
    let value = f(unboxed::<F>(h.f(op.rs1)), unboxed::<F>(h.f(op.rs2)));
    h.set_f(op.rd, boxed::<F>(value));
    Ok(())
}

/// Moves are raw: the integer gets the low bits, boxed or not, sign-extended.
#[inline(always)]
fn move_to_x<F: Format>(h: &mut Hart, op: &Op) -> Result<(), Trap> {
    h.require_fp(op)?;
    let unused = 64 - F::WIDTH;
    h.set_x(op.rd, (((h.f(op.rs1) << unused) as i64) >> unused) as u64);
    Ok(())
}

#[inline(always)]
fn move_to_f<F: Format>(h: &mut Hart, op: &Op) -> Result<(), Trap> {
    h.require_fp(op)?;
    h.set_f(op.rd, boxed::<F>(h.x(op.rs1)));
    Ok(())
}

/// The fused operations other than `fma`, over one that is named.
macro_rules! fused_family {
    ($fma:path => $given:ty) => {
        use super::{Env, Format};

        #[inline(always)]
        pub(super) fn fmsub<F: Format>(a: u64, b: u64, c: u64, env: &mut Env) -> $given {
            $fma(a, b, c ^ F::SIGN, env)
        }

        #[inline(always)]
        pub(super) fn fnmsub<F: Format>(a: u64, b: u64, c: u64, env: &mut Env) -> $given {
            $fma(a ^ F::SIGN, b, c, env)
        }

        #[inline(always)]
        pub(super) fn fnmadd<F: Format>(a: u64, b: u64, c: u64, env: &mut Env) -> $given {
            $fma(a ^ F::SIGN, b, c ^ F::SIGN, env)
        }
    };
}

mod exact {
    pub(super) use crate::fp::{add, div, fma, mul, sqrt, sub};
    fused_family!(fma::<F> => u64);
}

mod quick {
    pub(super) use crate::fp::quick::{add, div, fma, mul, sqrt, sub};
    fused_family!(fma::<F> => Option<u64>);
}

fn sign_of<F: Format>(a: u64, b: u64) -> u64 {
    (a & !F::SIGN) | (b & F::SIGN)
}

fn sign_not_of<F: Format>(a: u64, b: u64) -> u64 {
    sign_of::<F>(a, !b)
}

fn sign_product<F: Format>(a: u64, b: u64) -> u64 {
    a ^ (b & F::SIGN)
}

/// Conversions with the integer type as a constant, so that they fit the shapes above.
mod integer {
    use super::{Env, Format, Int, fp};

    macro_rules! conversions {
        ($($kind:ident: $to:ident $from:ident)*) => {$(
            pub(super) fn $to<F: Format>(a: u64, env: &mut Env) -> u64 {
                fp::to_int::<F>(a, Int::$kind, env)
            }
            pub(super) fn $from<F: Format>(x: u64, env: &mut Env) -> u64 {
                fp::from_int::<F>(x, Int::$kind, env)
            }
        )*};
    }
    conversions! { I32: to_w from_w U32: to_wu from_wu I64: to_l from_l U64: to_lu from_lu }
}

/// What is not quick is not done.
#[inline(always)]
pub(crate) fn no_retry(_: &mut Hart, _: &Op) -> bool {
    false
}

/// `name name name = shape(operation)`: the instruction in half, single and double precision.
macro_rules! in_each_format {
    ($($(#[$meta:meta])* $half:ident $single:ident $double:ident = $shape:ident($($operation:ident)::+);)*) => {$(
        in_each_format!(@one $(#[$meta])* $half F16 $shape $($operation)::+);
        in_each_format!(@one $(#[$meta])* $single F32 $shape $($operation)::+);
        in_each_format!(@one $(#[$meta])* $double F64 $shape $($operation)::+);
    )*};
    (@one $(#[$meta:meta])* $name:ident $format:ident $shape:ident $($operation:ident)::+) => {
        pub(crate) mod $name {
            use super::*;

            #[inline(always)]
            pub(crate) fn quick(h: &mut Hart, op: &Op) -> bool {
                $shape::<$format>(h, op, $($operation)::+::<$format>).is_ok()
            }

            pub(crate) use super::no_retry as retry;
        }

        $(#[$meta])*
        pub(crate) fn $name(h: &mut Hart, op: &Op) -> Result<(), Trap> {
            $shape::<$format>(h, op, $($operation)::+::<$format>)
        }
    };
}

/// The same, of operations of `exact` and of `quick`.
macro_rules! arithmetic {
    ($($(#[$meta:meta])* $half:ident $single:ident $double:ident = $shape:ident($operation:ident);)*) => {$(
        arithmetic!(@one $(#[$meta])* $half F16 $shape $operation);
        arithmetic!(@one $(#[$meta])* $single F32 $shape $operation);
        arithmetic!(@one $(#[$meta])* $double F64 $shape $operation);
    )*};
    (@one $(#[$meta:meta])* $name:ident $format:ident $shape:ident $operation:ident) => {
        pub(crate) mod $name {
            use super::*;

            #[inline(always)]
            pub(crate) fn quick(h: &mut Hart, op: &Op) -> bool {
                // Then no flag can be new, and there is next to nothing to compute but the result.
                h.fcsr & u32::from(fp::flag::NX) != 0 && retry(h, op)
            }

            #[inline(always)]
            pub(crate) fn retry(h: &mut Hart, op: &Op) -> bool {
                $shape::<$format, _>(h, op, super::quick::$operation::<$format>).is_ok()
            }
        }

        $(#[$meta])*
        #[inline(never)]
        pub(crate) fn $name(h: &mut Hart, op: &Op) -> Result<(), Trap> {
            $shape::<$format, _>(h, op, exact::$operation::<$format>)
        }
    };
}

// Whatever computes stays out of line: the dispatch loop should be small. Beside each instruction is a module of the
// same name with `quick`: what takes few instructions of the host. It says false, and has done nothing, if that will
// not do; `retry` takes more.
arithmetic! {
    /// rd = rs1 + rs2
    fadd_h fadd_s fadd_d = binary(add);
    /// rd = rs1 - rs2
    fsub_h fsub_s fsub_d = binary(sub);
    /// rd = rs1 × rs2
    fmul_h fmul_s fmul_d = binary(mul);
    /// rd = rs1 / rs2
    fdiv_h fdiv_s fdiv_d = binary(div);
    /// rd = √rs1
    fsqrt_h fsqrt_s fsqrt_d = unary(sqrt);
    /// rd = rs1 × rs2 + rs3
    fmadd_h fmadd_s fmadd_d = fused(fma);
    /// rd = rs1 × rs2 - rs3
    fmsub_h fmsub_s fmsub_d = fused(fmsub);
    /// rd = -(rs1 × rs2) + rs3
    fnmsub_h fnmsub_s fnmsub_d = fused(fnmsub);
    /// rd = -(rs1 × rs2) - rs3
    fnmadd_h fnmadd_s fnmadd_d = fused(fnmadd);
}

in_each_format! {
    /// rd = minimumNumber(rs1, rs2)
    #[inline(never)] fmin_h fmin_s fmin_d = pick(fp::min);
    /// rd = maximumNumber(rs1, rs2)
    #[inline(never)] fmax_h fmax_s fmax_d = pick(fp::max);
    /// x\[rd] = rs1 = rs2, quietly
    #[inline(never)] feq_h feq_s feq_d = compare(fp::eq);
    /// x\[rd] = rs1 < rs2
    #[inline(never)] flt_h flt_s flt_d = compare(fp::lt);
    /// x\[rd] = rs1 ≤ rs2
    #[inline(never)] fle_h fle_s fle_d = compare(fp::le);
    /// x\[rd] = class mask of rs1
    #[inline(never)] fclass_h fclass_s fclass_d = inspect(fp::classify);

    /// rd = rs1 with the sign of rs2
    #[inline] fsgnj_h fsgnj_s fsgnj_d = inject(sign_of);
    /// rd = rs1 with the opposite of the sign of rs2
    #[inline] fsgnjn_h fsgnjn_s fsgnjn_d = inject(sign_not_of);
    /// rd = rs1 with its sign flipped if rs2 is negative
    #[inline] fsgnjx_h fsgnjx_s fsgnjx_d = inject(sign_product);

    /// x\[rd] = i32(rs1)
    #[inline(never)] fcvt_w_h fcvt_w_s fcvt_w_d = to_integer(integer::to_w);
    /// x\[rd] = u32(rs1), sign-extended like every 32-bit result
    #[inline(never)] fcvt_wu_h fcvt_wu_s fcvt_wu_d = to_integer(integer::to_wu);
    /// x\[rd] = i64(rs1)
    #[inline(never)] fcvt_l_h fcvt_l_s fcvt_l_d = to_integer(integer::to_l);
    /// x\[rd] = u64(rs1)
    #[inline(never)] fcvt_lu_h fcvt_lu_s fcvt_lu_d = to_integer(integer::to_lu);
    /// rd = x\[rs1] as i32
    #[inline(never)] fcvt_h_w fcvt_s_w fcvt_d_w = from_integer(integer::from_w);
    /// rd = x\[rs1] as u32
    #[inline(never)] fcvt_h_wu fcvt_s_wu fcvt_d_wu = from_integer(integer::from_wu);
    /// rd = x\[rs1] as i64
    #[inline(never)] fcvt_h_l fcvt_s_l fcvt_d_l = from_integer(integer::from_l);
    /// rd = x\[rs1] as u64
    #[inline(never)] fcvt_h_lu fcvt_s_lu fcvt_d_lu = from_integer(integer::from_lu);
}

/// `name = From => To`: conversions between formats.
macro_rules! between_formats {
    ($($name:ident = $from:ident => $to:ident;)*) => {$(
        pub(crate) mod $name {
            use super::*;

            #[inline(always)]
            pub(crate) fn quick(h: &mut Hart, op: &Op) -> bool {
                convert::<$from, $to, _>(h, op, fp::resize::<$from, $to>).is_ok()
            }

            pub(crate) use super::no_retry as retry;
        }

        /// rd = rs1 in another format
        #[inline(never)]
        pub(crate) fn $name(h: &mut Hart, op: &Op) -> Result<(), Trap> {
            convert::<$from, $to, _>(h, op, fp::resize::<$from, $to>)
        }
    )*};
}

between_formats! {
    fcvt_s_h = F16 => F32;
    fcvt_d_h = F16 => F64;
    fcvt_h_s = F32 => F16;
    fcvt_d_s = F32 => F64;
    fcvt_h_d = F64 => F16;
    fcvt_s_d = F64 => F32;
}

/// `name = shape Format`: raw moves between the register files.
macro_rules! moves {
    ($($name:ident = $shape:ident $format:ident;)*) => {$(
        pub(crate) mod $name {
            use super::*;

            #[inline(always)]
            pub(crate) fn quick(h: &mut Hart, op: &Op) -> bool {
                $shape::<$format>(h, op).is_ok()
            }

            pub(crate) use super::no_retry as retry;
        }

        /// Bits moved unchanged
        #[inline]
        pub(crate) fn $name(h: &mut Hart, op: &Op) -> Result<(), Trap> {
            $shape::<$format>(h, op)
        }
    )*};
}

moves! {
    fmv_x_h = move_to_x F16;
    fmv_x_w = move_to_x F32;
    fmv_x_d = move_to_x F64;
    fmv_h_x = move_to_f F16;
    fmv_w_x = move_to_f F32;
    fmv_d_x = move_to_f F64;
}
