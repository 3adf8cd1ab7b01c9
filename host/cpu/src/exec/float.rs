//! F, D, Zfh and Zfhmin: one function per instruction, over the softfloat of [`crate::fp`].
//!
//! The contract with the instruction table (`isa.rs`, class `fp`):
//!
//! - The function is named as the mnemonic with `.` turned into `_` (`fadd_s`, `fcvt_w_d`, `fmv_x_w`, `fclass_h`) and has the
//!   signature `pub(crate) fn NAME(h: &mut Hart, op: &Op) -> Result<(), Trap>`.
//! - It begins with `h.require_fp(op)?` (illegal instruction while `mstatus.FS` is off) and takes its rounding mode from
//!   `h.rounding(op)?` (static or dynamic; reserved modes are illegal instructions).
//! - Operands: `h.f(op.rs1)` gives the raw 64-bit register (NaN boxed), `op.rs3()` the third source of a fused operation,
//!   `h.x(op.rs1)` an integer register. `h.set_f(op.rd, bits)` writes a register and marks FS dirty; `h.set_x(op.rd, v)` writes
//!   an integer register (`x0` is already redirected by the decoder). `h.raise_fp(flags)` accrues `fflags` (NV 16, DZ 8, OF 4,
//!   UF 2, NX 1) and marks FS dirty.
//! - Bodies that call into softfloat are `#[inline(never)]` so that the dispatch loop stays small; moves and sign injections are `#[inline]`.
//!
//! Loads and stores of floating-point registers are memory instructions and live in `exec/mem.rs`.

use crate::hart::Hart;
use crate::isa::Op;
use crate::trap::Trap;

/// rd = rs1 with the sign of rs2. F §"Single-Precision Floating-Point Conversion and Move Instructions".
#[inline]
pub(crate) fn fsgnj_d(h: &mut Hart, op: &Op) -> Result<(), Trap> {
    h.require_fp(op)?;
    const SIGN: u64 = 1 << 63;
    let value = (h.f(op.rs1) & !SIGN) | (h.f(op.rs2) & SIGN);
    h.set_f(op.rd, value);
    Ok(())
}
