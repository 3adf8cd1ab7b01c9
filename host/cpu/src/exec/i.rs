//! RV64I: integer computation and control transfer. Unprivileged, "RV32I Base Integer Instruction Set" and "RV64I".

use super::{register_immediate, register_register, sext_imm, sext32};
use crate::hart::Hart;
use crate::isa::Op;

/// rd = upper immediate
#[inline(always)]
pub(crate) fn lui(h: &mut Hart, op: &Op) {
    h.set_x(op.rd, sext_imm(op.imm));
}

/// rd = pc + upper immediate
#[inline(always)]
pub(crate) fn auipc(h: &mut Hart, op: &Op, pc: u64) {
    h.set_x(op.rd, pc.wrapping_add(sext_imm(op.imm)));
}

/// rd = return address; jump to pc + imm
#[inline(always)]
pub(crate) fn jal(h: &mut Hart, op: &Op, pc: u64) -> u64 {
    h.set_x(op.rd, pc.wrapping_add(op.len.into()));
    pc.wrapping_add(sext_imm(op.imm))
}

/// rd = return address; jump to rs1 + imm with bit 0 cleared
#[inline(always)]
pub(crate) fn jalr(h: &mut Hart, op: &Op, pc: u64) -> u64 {
    let target = h.x(op.rs1).wrapping_add(sext_imm(op.imm)) & !1;
    h.set_x(op.rd, pc.wrapping_add(op.len.into()));
    target
}

/// rs1 == rs2
#[inline(always)]
pub(crate) fn beq(h: &Hart, op: &Op) -> bool {
    h.x(op.rs1) == h.x(op.rs2)
}

/// rs1 != rs2
#[inline(always)]
pub(crate) fn bne(h: &Hart, op: &Op) -> bool {
    h.x(op.rs1) != h.x(op.rs2)
}

/// rs1 < rs2, signed
#[inline(always)]
pub(crate) fn blt(h: &Hart, op: &Op) -> bool {
    (h.x(op.rs1) as i64) < h.x(op.rs2) as i64
}

/// rs1 >= rs2, signed
#[inline(always)]
pub(crate) fn bge(h: &Hart, op: &Op) -> bool {
    h.x(op.rs1) as i64 >= h.x(op.rs2) as i64
}

/// rs1 < rs2, unsigned
#[inline(always)]
pub(crate) fn bltu(h: &Hart, op: &Op) -> bool {
    h.x(op.rs1) < h.x(op.rs2)
}

/// rs1 >= rs2, unsigned
#[inline(always)]
pub(crate) fn bgeu(h: &Hart, op: &Op) -> bool {
    h.x(op.rs1) >= h.x(op.rs2)
}

register_immediate! {
    addi = |a, imm| a.wrapping_add(sext_imm(imm));
    slti = |a, imm| u64::from((a as i64) < i64::from(imm));
    sltiu = |a, imm| u64::from(a < sext_imm(imm));
    xori = |a, imm| a ^ sext_imm(imm);
    ori = |a, imm| a | sext_imm(imm);
    andi = |a, imm| a & sext_imm(imm);
    slli = |a, imm| a << (imm & 63);
    srli = |a, imm| a >> (imm & 63);
    srai = |a, imm| ((a as i64) >> (imm & 63)) as u64;
    addiw = |a, imm| sext32((a as u32).wrapping_add(imm as u32));
    slliw = |a, imm| sext32((a as u32) << (imm & 31));
    srliw = |a, imm| sext32((a as u32) >> (imm & 31));
    sraiw = |a, imm| sext32(((a as i32) >> (imm & 31)) as u32);
}

register_register! {
    add = |a, b| a.wrapping_add(b);
    sub = |a, b| a.wrapping_sub(b);
    sll = |a, b| a << (b & 63);
    slt = |a, b| u64::from((a as i64) < b as i64);
    sltu = |a, b| u64::from(a < b);
    xor = |a, b| a ^ b;
    srl = |a, b| a >> (b & 63);
    sra = |a, b| ((a as i64) >> (b & 63)) as u64;
    or = |a, b| a | b;
    and = |a, b| a & b;
    addw = |a, b| sext32((a as u32).wrapping_add(b as u32));
    subw = |a, b| sext32((a as u32).wrapping_sub(b as u32));
    sllw = |a, b| sext32((a as u32) << (b & 31));
    srlw = |a, b| sext32((a as u32) >> (b & 31));
    sraw = |a, b| sext32(((a as i32) >> (b & 31)) as u32);
}
