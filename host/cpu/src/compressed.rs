//! The compressed instructions (C, with D): a table of what each stands for. Unprivileged, "C" extension.
//!
//! A compressed instruction is decoded by expanding it to its 32-bit equivalent, so it needs no function of its own.

/// One compressed instruction.
pub(crate) struct CRow {
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the table reads better with names, and the tests print them")
    )]
    pub(crate) name: &'static str,
    pub(crate) bits: u32,
    pub(crate) mask: u32,
    /// The equivalent, or `None` where the immediate or register is reserved.
    expand: fn(u32) -> Option<u32>,
}

/// The 32-bit instruction that 16 bits stand for.
pub(crate) fn expand(half: u16) -> Option<u32> {
    let half = u32::from(half);
    let row = ROWS.iter().find(|row| half & row.mask == row.bits)?;
    (row.expand)(half)
}

macro_rules! table {
    ($($name:literal $bits:literal $mask:literal $expand:expr;)*) => {
        pub(crate) static ROWS: &[CRow] = &[$(CRow { name: $name, bits: $bits, mask: $mask, expand: $expand }),*];
    };
}

// More specific rows stand before the rows they are cut out of.
table! {
    // Quadrant 0.
    "c.addi4spn" 0x0000 0xe003 |w| nonzero(w, 0x1fe0, i(0x13, 0, rd_(w), SP, imm_addi4spn(w)));
    "c.fld"      0x2000 0xe003 |w| Some(i(0x07, 3, rd_(w), rs1_(w), imm_d(w)));
    "c.lw"       0x4000 0xe003 |w| Some(i(0x03, 2, rd_(w), rs1_(w), imm_w(w)));
    "c.ld"       0x6000 0xe003 |w| Some(i(0x03, 3, rd_(w), rs1_(w), imm_d(w)));
    "c.fsd"      0xa000 0xe003 |w| Some(s(0x27, 3, rs1_(w), rd_(w), imm_d(w)));
    "c.sw"       0xc000 0xe003 |w| Some(s(0x23, 2, rs1_(w), rd_(w), imm_w(w)));
    "c.sd"       0xe000 0xe003 |w| Some(s(0x23, 3, rs1_(w), rd_(w), imm_d(w)));
    // Quadrant 1.
    "c.addi"     0x0001 0xe003 |w| Some(i(0x13, 0, rd(w), rd(w), imm6(w)));
    "c.addiw"    0x2001 0xe003 |w| nonzero(w, RD, i(0x1b, 0, rd(w), rd(w), imm6(w)));
    "c.li"       0x4001 0xe003 |w| Some(i(0x13, 0, rd(w), 0, imm6(w)));
    "c.addi16sp" 0x6101 0xef83 |w| nonzero(w, 0x107c, i(0x13, 0, SP, SP, imm_addi16sp(w)));
    "c.lui"      0x6001 0xe003 |w| nonzero(w, 0x107c, (imm6(w) as u32) << 12 | rd(w) << 7 | 0x37);
    "c.srli"     0x8001 0xec03 |w| Some(i(0x13, 5, rs1_(w), rs1_(w), shamt(w)));
    "c.srai"     0x8401 0xec03 |w| Some(i(0x13, 5, rs1_(w), rs1_(w), shamt(w) | 0x400));
    "c.andi"     0x8801 0xec03 |w| Some(i(0x13, 7, rs1_(w), rs1_(w), imm6(w)));
    "c.sub"      0x8c01 0xfc63 |w| Some(r(0x33, 0, 0x20, rs1_(w), rs1_(w), rd_(w)));
    "c.xor"      0x8c21 0xfc63 |w| Some(r(0x33, 4, 0, rs1_(w), rs1_(w), rd_(w)));
    "c.or"       0x8c41 0xfc63 |w| Some(r(0x33, 6, 0, rs1_(w), rs1_(w), rd_(w)));
    "c.and"      0x8c61 0xfc63 |w| Some(r(0x33, 7, 0, rs1_(w), rs1_(w), rd_(w)));
    "c.subw"     0x9c01 0xfc63 |w| Some(r(0x3b, 0, 0x20, rs1_(w), rs1_(w), rd_(w)));
    "c.addw"     0x9c21 0xfc63 |w| Some(r(0x3b, 0, 0, rs1_(w), rs1_(w), rd_(w)));
    "c.j"        0xa001 0xe003 |w| Some(jal(0, imm_j(w)));
    "c.beqz"     0xc001 0xe003 |w| Some(branch(0, rs1_(w), imm_b(w)));
    "c.bnez"     0xe001 0xe003 |w| Some(branch(1, rs1_(w), imm_b(w)));
    // Quadrant 2.
    "c.slli"     0x0002 0xe003 |w| Some(i(0x13, 1, rd(w), rd(w), shamt(w)));
    "c.fldsp"    0x2002 0xe003 |w| Some(i(0x07, 3, rd(w), SP, imm_dsp(w)));
    "c.lwsp"     0x4002 0xe003 |w| nonzero(w, RD, i(0x03, 2, rd(w), SP, imm_wsp(w)));
    "c.ldsp"     0x6002 0xe003 |w| nonzero(w, RD, i(0x03, 3, rd(w), SP, imm_dsp(w)));
    "c.jr"       0x8002 0xf07f |w| nonzero(w, RD, i(0x67, 0, 0, rd(w), 0));
    "c.mv"       0x8002 0xf003 |w| Some(r(0x33, 0, 0, rd(w), 0, rs2(w)));
    "c.ebreak"   0x9002 0xffff |_| Some(0x0010_0073);
    "c.jalr"     0x9002 0xf07f |w| Some(i(0x67, 0, 1, rd(w), 0));
    "c.add"      0x9002 0xf003 |w| Some(r(0x33, 0, 0, rd(w), rd(w), rs2(w)));
    "c.fsdsp"    0xa002 0xe003 |w| Some(s(0x27, 3, SP, rs2(w), imm_dsp_store(w)));
    "c.swsp"     0xc002 0xe003 |w| Some(s(0x23, 2, SP, rs2(w), imm_wsp_store(w)));
    "c.sdsp"     0xe002 0xe003 |w| Some(s(0x23, 3, SP, rs2(w), imm_dsp_store(w)));
}

const SP: u32 = 2;
const RD: u32 = 0xf80;

/// Encodings in which `bits` are all zero are reserved.
fn nonzero(w: u32, bits: u32, expanded: u32) -> Option<u32> {
    (w & bits != 0).then_some(expanded)
}

/// `width` bits of `w` from bit `from`, moved to bit `to`.
fn bits(w: u32, from: u32, width: u32, to: u32) -> i32 {
    (((w >> from) & ((1 << width) - 1)) << to) as i32
}

/// Sign-extends the low `width` bits.
fn sext(value: i32, width: u32) -> i32 {
    value << (32 - width) >> (32 - width)
}

fn rd(w: u32) -> u32 {
    (w >> 7) & 31
}
fn rs2(w: u32) -> u32 {
    (w >> 2) & 31
}
/// The three-bit register at bit 2: rd' of loads, rs2' of stores and arithmetic.
fn rd_(w: u32) -> u32 {
    8 + ((w >> 2) & 7)
}
/// The three-bit register at bit 7: rs1', also rd' of arithmetic.
fn rs1_(w: u32) -> u32 {
    8 + ((w >> 7) & 7)
}

fn imm6(w: u32) -> i32 {
    sext(bits(w, 12, 1, 5) | bits(w, 2, 5, 0), 6)
}
fn shamt(w: u32) -> i32 {
    bits(w, 12, 1, 5) | bits(w, 2, 5, 0)
}
fn imm_addi4spn(w: u32) -> i32 {
    bits(w, 11, 2, 4) | bits(w, 7, 4, 6) | bits(w, 6, 1, 2) | bits(w, 5, 1, 3)
}
fn imm_addi16sp(w: u32) -> i32 {
    sext(bits(w, 12, 1, 9) | bits(w, 6, 1, 4) | bits(w, 5, 1, 6) | bits(w, 3, 2, 7) | bits(w, 2, 1, 5), 10)
}
fn imm_w(w: u32) -> i32 {
    bits(w, 10, 3, 3) | bits(w, 6, 1, 2) | bits(w, 5, 1, 6)
}
fn imm_d(w: u32) -> i32 {
    bits(w, 10, 3, 3) | bits(w, 5, 2, 6)
}
fn imm_wsp(w: u32) -> i32 {
    bits(w, 12, 1, 5) | bits(w, 4, 3, 2) | bits(w, 2, 2, 6)
}
fn imm_dsp(w: u32) -> i32 {
    bits(w, 12, 1, 5) | bits(w, 5, 2, 3) | bits(w, 2, 3, 6)
}
fn imm_wsp_store(w: u32) -> i32 {
    bits(w, 9, 4, 2) | bits(w, 7, 2, 6)
}
fn imm_dsp_store(w: u32) -> i32 {
    bits(w, 10, 3, 3) | bits(w, 7, 3, 6)
}
fn imm_j(w: u32) -> i32 {
    let high = bits(w, 12, 1, 11) | bits(w, 11, 1, 4) | bits(w, 9, 2, 8) | bits(w, 8, 1, 10);
    sext(high | bits(w, 7, 1, 6) | bits(w, 6, 1, 7) | bits(w, 3, 3, 1) | bits(w, 2, 1, 5), 12)
}
fn imm_b(w: u32) -> i32 {
    sext(bits(w, 12, 1, 8) | bits(w, 10, 2, 3) | bits(w, 5, 2, 6) | bits(w, 3, 2, 1) | bits(w, 2, 1, 5), 9)
}

fn r(opcode: u32, funct3: u32, funct7: u32, rd: u32, rs1: u32, rs2: u32) -> u32 {
    opcode | rd << 7 | funct3 << 12 | rs1 << 15 | rs2 << 20 | funct7 << 25
}
fn i(opcode: u32, funct3: u32, rd: u32, rs1: u32, imm: i32) -> u32 {
    opcode | rd << 7 | funct3 << 12 | rs1 << 15 | (imm as u32) << 20
}
fn s(opcode: u32, funct3: u32, rs1: u32, rs2: u32, imm: i32) -> u32 {
    let imm = imm as u32;
    opcode | (imm & 31) << 7 | funct3 << 12 | rs1 << 15 | rs2 << 20 | (imm >> 5) << 25
}
fn branch(funct3: u32, rs1: u32, imm: i32) -> u32 {
    let imm = imm as u32;
    let low = (imm >> 1 & 15) << 8 | (imm >> 11 & 1) << 7;
    0x63 | low | funct3 << 12 | rs1 << 15 | (imm >> 5 & 63) << 25 | (imm >> 12 & 1) << 31
}
fn jal(rd: u32, imm: i32) -> u32 {
    let imm = imm as u32;
    let high = (imm >> 1 & 0x3ff) << 21 | (imm >> 20 & 1) << 31;
    0x6f | rd << 7 | (imm >> 12 & 0xff) << 12 | (imm >> 11 & 1) << 20 | high
}
