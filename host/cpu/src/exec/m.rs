//! M: multiplication and division. Division by zero gives all ones and the dividend; overflow wraps. Unprivileged,
//! "M" extension.

use super::{register_register, sext32};

register_register! {
    mul = |a, b| a.wrapping_mul(b);
    mulh = |a, b| ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64;
    mulhsu = |a, b| ((i128::from(a as i64) * i128::from(b)) >> 64) as u64;
    mulhu = |a, b| ((u128::from(a) * u128::from(b)) >> 64) as u64;
    div = |a, b| if b == 0 { !0 } else { (a as i64).wrapping_div(b as i64) as u64 };
    divu = |a, b| a.checked_div(b).unwrap_or(!0);
    rem = |a, b| if b == 0 { a } else { (a as i64).wrapping_rem(b as i64) as u64 };
    remu = |a, b| a.checked_rem(b).unwrap_or(a);
    mulw = |a, b| sext32((a as u32).wrapping_mul(b as u32));
    divw = |a, b| sext32(if b as u32 == 0 { !0 } else { (a as i32).wrapping_div(b as i32) as u32 });
    divuw = |a, b| sext32((a as u32).checked_div(b as u32).unwrap_or(!0));
    remw = |a, b| sext32(if b as u32 == 0 { a as u32 } else { (a as i32).wrapping_rem(b as i32) as u32 });
    remuw = |a, b| sext32((a as u32).checked_rem(b as u32).unwrap_or(a as u32));
}
