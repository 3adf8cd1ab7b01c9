//! Zba, Zbb, Zbc, Zbs and Zicond. Unprivileged, "B" extension and "Zicond".

use super::{register, register_immediate, register_register, sext32};

/// The low word, zero-extended.
#[inline(always)]
fn word(value: u64) -> u64 {
    value & 0xffff_ffff
}

/// The 128-bit carry-less product.
fn carryless(a: u64, b: u64) -> u128 {
    (0..64).filter(|i| b >> i & 1 != 0).fold(0, |product, i| product ^ (u128::from(a) << i))
}

/// 0xff for each byte that is not zero.
fn or_combine(value: u64) -> u64 {
    u64::from_le_bytes(value.to_le_bytes().map(|byte| if byte == 0 { 0 } else { 0xff }))
}

register_register! {
    add_uw = |a, b| word(a).wrapping_add(b);
    sh1add = |a, b| (a << 1).wrapping_add(b);
    sh2add = |a, b| (a << 2).wrapping_add(b);
    sh3add = |a, b| (a << 3).wrapping_add(b);
    sh1add_uw = |a, b| (word(a) << 1).wrapping_add(b);
    sh2add_uw = |a, b| (word(a) << 2).wrapping_add(b);
    sh3add_uw = |a, b| (word(a) << 3).wrapping_add(b);
    andn = |a, b| a & !b;
    orn = |a, b| a | !b;
    xnor = |a, b| !(a ^ b);
    min = |a, b| (a as i64).min(b as i64) as u64;
    minu = |a, b| a.min(b);
    max = |a, b| (a as i64).max(b as i64) as u64;
    maxu = |a, b| a.max(b);
    rol = |a, b| a.rotate_left(b as u32 & 63);
    ror = |a, b| a.rotate_right(b as u32 & 63);
    rolw = |a, b| sext32((a as u32).rotate_left(b as u32 & 31));
    rorw = |a, b| sext32((a as u32).rotate_right(b as u32 & 31));
    clmul = |a, b| carryless(a, b) as u64;
    clmulr = |a, b| (carryless(a, b) >> 63) as u64;
    clmulh = |a, b| (carryless(a, b) >> 64) as u64;
    bclr = |a, b| a & !(1 << (b & 63));
    bext = |a, b| a >> (b & 63) & 1;
    binv = |a, b| a ^ 1 << (b & 63);
    bset = |a, b| a | 1 << (b & 63);
    czero_eqz = |a, b| if b == 0 { 0 } else { a };
    czero_nez = |a, b| if b == 0 { a } else { 0 };
}

register_immediate! {
    slli_uw = |a, imm| word(a) << (imm & 63);
    rori = |a, imm| a.rotate_right(imm as u32 & 63);
    roriw = |a, imm| sext32((a as u32).rotate_right(imm as u32 & 31));
    bclri = |a, imm| a & !(1 << (imm & 63));
    bexti = |a, imm| a >> (imm & 63) & 1;
    binvi = |a, imm| a ^ 1 << (imm & 63);
    bseti = |a, imm| a | 1 << (imm & 63);
}

register! {
    clz = |a| a.leading_zeros().into();
    ctz = |a| a.trailing_zeros().into();
    cpop = |a| a.count_ones().into();
    clzw = |a| (a as u32).leading_zeros().into();
    ctzw = |a| (a as u32).trailing_zeros().into();
    cpopw = |a| (a as u32).count_ones().into();
    sext_b = |a| i64::from(a as i8) as u64;
    sext_h = |a| i64::from(a as i16) as u64;
    zext_h = |a| a & 0xffff;
    orc_b = |a| or_combine(a);
    rev8 = |a| a.swap_bytes();
}
