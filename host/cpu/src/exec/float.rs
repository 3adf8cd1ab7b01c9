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

#[inline(always)]
fn binary<F: Format>(h: &mut Hart, op: &Op, f: fn(u64, u64, &mut Env) -> u64) -> Result<(), Trap> {
    h.require_fp(op)?;
    let mut env = rounding_env(h, op)?;
    let value = f(unboxed::<F>(h.f(op.rs1)), unboxed::<F>(h.f(op.rs2)), &mut env);
    accrue(h, &env);
    h.set_f(op.rd, boxed::<F>(value));
    Ok(())
}

#[inline(always)]
fn unary<F: Format>(h: &mut Hart, op: &Op, f: fn(u64, &mut Env) -> u64) -> Result<(), Trap> {
    convert::<F, F>(h, op, f)
}

#[inline(always)]
fn convert<From: Format, To: Format>(h: &mut Hart, op: &Op, f: fn(u64, &mut Env) -> u64) -> Result<(), Trap> {
    h.require_fp(op)?;
    let mut env = rounding_env(h, op)?;
    let value = f(unboxed::<From>(h.f(op.rs1)), &mut env);
    accrue(h, &env);
    h.set_f(op.rd, boxed::<To>(value));
    Ok(())
}

#[inline(always)]
fn fused<F: Format>(h: &mut Hart, op: &Op, f: fn(u64, u64, u64, &mut Env) -> u64) -> Result<(), Trap> {
    h.require_fp(op)?;
    let mut env = rounding_env(h, op)?;
    let [a, b, c] = [op.rs1, op.rs2, op.rs3()].map(|reg| unboxed::<F>(h.f(reg)));
    let value = f(a, b, c, &mut env);
    accrue(h, &env);
    h.set_f(op.rd, boxed::<F>(value));
    Ok(())
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

fn fmsub<F: Format>(a: u64, b: u64, c: u64, env: &mut Env) -> u64 {
    fp::fma::<F>(a, b, c ^ F::SIGN, env)
}

fn fnmsub<F: Format>(a: u64, b: u64, c: u64, env: &mut Env) -> u64 {
    fp::fma::<F>(a ^ F::SIGN, b, c, env)
}

fn fnmadd<F: Format>(a: u64, b: u64, c: u64, env: &mut Env) -> u64 {
    fp::fma::<F>(a ^ F::SIGN, b, c ^ F::SIGN, env)
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

/// `name name name = shape(operation)`: the instruction in half, single and double precision.
macro_rules! in_each_format {
    ($($(#[$meta:meta])* $half:ident $single:ident $double:ident = $shape:ident($($operation:ident)::+);)*) => {$(
        in_each_format!(@one $(#[$meta])* $half F16 $shape $($operation)::+);
        in_each_format!(@one $(#[$meta])* $single F32 $shape $($operation)::+);
        in_each_format!(@one $(#[$meta])* $double F64 $shape $($operation)::+);
    )*};
    (@one $(#[$meta:meta])* $name:ident $format:ident $shape:ident $($operation:ident)::+) => {
        $(#[$meta])*
        pub(crate) fn $name(h: &mut Hart, op: &Op) -> Result<(), Trap> {
            $shape::<$format>(h, op, $($operation)::+::<$format>)
        }
    };
}

// Whatever computes stays out of line: the dispatch loop should be small.
in_each_format! {
    /// rd = rs1 + rs2
    #[inline(never)] fadd_h fadd_s fadd_d = binary(fp::add);
    /// rd = rs1 - rs2
    #[inline(never)] fsub_h fsub_s fsub_d = binary(fp::sub);
    /// rd = rs1 × rs2
    #[inline(never)] fmul_h fmul_s fmul_d = binary(fp::mul);
    /// rd = rs1 / rs2
    #[inline(never)] fdiv_h fdiv_s fdiv_d = binary(fp::div);
    /// rd = √rs1
    #[inline(never)] fsqrt_h fsqrt_s fsqrt_d = unary(fp::sqrt);
    /// rd = rs1 × rs2 + rs3
    #[inline(never)] fmadd_h fmadd_s fmadd_d = fused(fp::fma);
    /// rd = rs1 × rs2 - rs3
    #[inline(never)] fmsub_h fmsub_s fmsub_d = fused(fmsub);
    /// rd = -(rs1 × rs2) + rs3
    #[inline(never)] fnmsub_h fnmsub_s fnmsub_d = fused(fnmsub);
    /// rd = -(rs1 × rs2) - rs3
    #[inline(never)] fnmadd_h fnmadd_s fnmadd_d = fused(fnmadd);

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
        /// rd = rs1 in another format
        #[inline(never)]
        pub(crate) fn $name(h: &mut Hart, op: &Op) -> Result<(), Trap> {
            convert::<$from, $to>(h, op, fp::resize::<$from, $to>)
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
