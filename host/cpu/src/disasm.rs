//! Bits to text, derived from the instruction table.

use std::fmt::Write as _;
use std::sync::LazyLock;

use crate::config::HartConfig;
use crate::csr;
use crate::decode::Decoder;
use crate::isa::{Op, ROWS, Reg};

/// ABI names of the integer registers.
pub const X_NAMES: [&str; 32] = [
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5", "a6",
    "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
];
/// ABI names of the floating-point registers.
pub const F_NAMES: [&str; 32] = [
    "ft0", "ft1", "ft2", "ft3", "ft4", "ft5", "ft6", "ft7", "fs0", "fs1", "fa0", "fa1", "fa2", "fa3", "fa4",
    "fa5", "fa6", "fa7", "fs2", "fs3", "fs4", "fs5", "fs6", "fs7", "fs8", "fs9", "fs10", "fs11", "ft8",
    "ft9", "ft10", "ft11",
];

/// The text of the instruction `word` at `pc`: mnemonic and operands without aliases, a compressed one as what it
/// stands for. Bits that are no instruction become `.insn`.
pub fn disassemble(word: u32, pc: u64) -> String {
    text(&decode(word), pc)
}

/// The instruction with these bits, on a hart that has everything.
pub(crate) fn decode(word: u32) -> Op {
    static DECODER: LazyLock<Decoder> = LazyLock::new(|| Decoder::new(&HartConfig::default()));
    DECODER.decode(word)
}

/// The mnemonics of all instructions of the table, in its order: what test data and documentation have to cover.
pub fn mnemonics() -> impl Iterator<Item = String> {
    ROWS.iter().map(|row| row.name.replace('_', "."))
}

pub(crate) fn text(op: &Op, pc: u64) -> String {
    let Some(row) = op.kind.row() else {
        return format!(".insn {}, {:#x}", op.len, op.word);
    };
    let mut text = row.name.replace('_', ".");
    if op.word & 0x7f == 0x2f {
        text.push_str(["", ".rl", ".aq", ".aqrl"][(op.word >> 25 & 3) as usize]);
    }
    for (i, operand) in row.operands.chars().enumerate() {
        text.push_str(if i == 0 { " " } else { "" });
        push_operand(&mut text, operand, op, pc);
    }
    text
}

fn push_operand(text: &mut String, operand: char, op: &Op, pc: u64) {
    let x = |reg: Reg| X_NAMES[reg as usize % 33 % 32];
    let f = |reg: Reg| F_NAMES[reg as usize % 32];
    let target = pc.wrapping_add_signed(op.imm.into());
    let written = match operand {
        'd' => write!(text, "{}", if op.rd == Reg::Sink { "zero" } else { x(op.rd) }),
        's' => write!(text, "{}", x(op.rs1)),
        't' => write!(text, "{}", x(op.rs2)),
        'D' => write!(text, "{}", f(op.rd)),
        'S' => write!(text, "{}", f(op.rs1)),
        'T' => write!(text, "{}", f(op.rs2)),
        'R' => write!(text, "{}", f(op.rs3())),
        'm' => {
            write!(text, "{}", [",rne", ",rtz", ",rdn", ",rup", ",rmm", ",rm5", ",rm6", ""][op.rm() as usize])
        }
        'j' | 'q' | '>' | '<' => write!(text, "{}", op.imm),
        'p' | 'a' => write!(text, "{target:#x}"),
        'u' => write!(text, "{:#x}", op.imm as u32 >> 12),
        'E' => match csr::name(op.imm as u16) {
            Some(name) => write!(text, "{name}"),
            None => write!(text, "{:#x}", op.imm),
        },
        'Z' => write!(text, "{}", op.rs1 as u8),
        'P' => write!(text, "{},{}", fence_set(op.word >> 24), fence_set(op.word >> 20)),
        literal => write!(text, "{literal}"),
    };
    written.expect("a String takes every write");
}

fn fence_set(bits: u32) -> String {
    let set: String =
        "iorw".chars().enumerate().filter(|(i, _)| bits >> (3 - i) & 1 != 0).map(|(_, c)| c).collect();
    if set.is_empty() { "0".into() } else { set }
}

#[cfg(test)]
mod tests {
    use super::disassemble;

    #[test]
    fn every_kind_of_operand_is_printed() {
        let cases = [
            (0x0000_0013, "addi zero,zero,0"),
            (0xfff5_0513, "addi a0,a0,-1"),
            (0x0085_3783, "ld a5,8(a0)"),
            (0xfef5_3c23, "sd a5,-8(a0)"),
            (0x1234_52b7, "lui t0,0x12345"),
            (0xfe05_1ee3, "bne a0,zero,0x80000ffc"),
            (0x0080_00ef, "jal ra,0x80001008"),
            (0x3004_20f3, "csrrs ra,mstatus,s0"),
            (0x3002_d073, "csrrwi zero,mstatus,5"),
            (0x0ff0_000f, "fence iorw,iorw"),
            (0x0100_000f, "fence w,0"),
            (0x1005_252f, "lr.w a0,(a0)"),
            (0x0eb5_352f, "amoswap.d.aqrl a0,a1,(a0)"),
            (0x02b5_7553, "fadd.d fa0,fa0,fa1"),
            (0x6ac5_f543, "fmadd.d fa0,fa1,fa2,fa3"),
            (0xc205_1553, "fcvt.w.d a0,fa0,rtz"),
            (0x1205_0073, "sfence.vma a0,zero"),
            (0x4501, "addi a0,zero,0"),
            (0x9002, "ebreak"),
            (0x0000, ".insn 2, 0x0"),
            (0xffff_ffff, ".insn 4, 0xffffffff"),
        ];
        for (word, text) in cases {
            assert_eq!(disassemble(word, 0x8000_1000), text);
        }
    }
}
