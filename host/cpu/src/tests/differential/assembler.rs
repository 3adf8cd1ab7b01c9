//! Code with labels, compressed instructions included.

use crate::isa::Row;
use crate::tests::support::{addi, branch, i, jal, lui, r, slli};

/// A place in the code, perhaps one that comes later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::tests) struct Label(usize);

/// Where a label's distance goes.
#[derive(Clone, Copy)]
enum Fixup {
    Branch,
    Jal,
    /// `auipc`, and the immediate of the I-type instruction behind it.
    Relative,
}

/// Code under construction, from byte 0.
#[derive(Default)]
pub(in crate::tests) struct Code {
    halves: Vec<u16>,
    labels: Vec<Option<usize>>,
    fixups: Vec<(usize, Label, Fixup)>,
}

impl Code {
    /// Bytes so far.
    pub(in crate::tests) fn here(&self) -> usize {
        2 * self.halves.len()
    }

    pub(in crate::tests) fn half(&mut self, half: u16) {
        self.halves.push(half);
    }

    pub(in crate::tests) fn word(&mut self, word: u32) {
        self.halves.extend([word as u16, (word >> 16) as u16]);
    }

    pub(in crate::tests) fn words(&mut self, words: &[u32]) {
        words.iter().for_each(|&word| self.word(word));
    }

    /// Leaves a gap up to this byte.
    pub(in crate::tests) fn skip_to(&mut self, at: usize) {
        assert!(at >= self.here(), "code goes forwards");
        self.halves.resize(at / 2, 0);
    }

    /// A place that comes later: see [`Code::bind`].
    pub(in crate::tests) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The label is here.
    pub(in crate::tests) fn bind(&mut self, label: Label) {
        assert!(self.labels[label.0].is_none(), "a label is in one place");
        self.labels[label.0] = Some(self.here());
    }

    pub(in crate::tests) fn bound(&mut self) -> Label {
        let label = self.label();
        self.bind(label);
        label
    }

    /// Where a label is that is bound.
    pub(in crate::tests) fn offset(&self, label: Label) -> usize {
        self.labels[label.0].expect("the label is bound")
    }

    /// Bytes from a label that is bound to here.
    pub(in crate::tests) fn since(&self, label: Label) -> usize {
        self.here() - self.offset(label)
    }

    pub(in crate::tests) fn branch(&mut self, funct3: u32, rs1: u32, rs2: u32, to: Label) {
        self.fixups.push((self.here(), to, Fixup::Branch));
        self.word(branch(funct3, rs1, rs2, 0));
    }

    pub(in crate::tests) fn jal(&mut self, rd: u32, to: Label) {
        self.fixups.push((self.here(), to, Fixup::Jal));
        self.word(jal(rd, 0));
    }

    /// `rd` = the address of a label.
    pub(in crate::tests) fn address(&mut self, rd: u32, of: Label) {
        self.fixups.push((self.here(), of, Fixup::Relative));
        self.words(&[0x17 | rd << 7, addi(rd, rd, 0)]);
    }

    /// A call or jump by `auipc` and `jalr`.
    pub(in crate::tests) fn far(&mut self, link: u32, by: u32, to: Label) {
        self.fixups.push((self.here(), to, Fixup::Relative));
        self.words(&[0x17 | by << 7, i(0x67, 0, link, by, 0)]);
    }

    /// `rd` = a constant.
    pub(in crate::tests) fn li(&mut self, rd: u32, value: u64) {
        let low = (value << 52) as i64 >> 52;
        let high = value.wrapping_sub(low as u64);
        if value as i32 as u64 == value {
            let upper = (high >> 12) as u32 & 0xf_ffff;
            match upper {
                0 => self.word(addi(rd, 0, low as i32)),
                _ => self.words(&[lui(rd, upper), i(0x1b, 0, rd, rd, low as i32)]),
            }
            return;
        }
        self.li(rd, (high as i64 >> 12) as u64);
        self.words(&[slli(rd, rd, 12), addi(rd, rd, low as i32)]);
    }

    /// The bytes, with every distance in its place.
    pub(in crate::tests) fn finish(mut self) -> Vec<u8> {
        for (at, label, fixup) in std::mem::take(&mut self.fixups) {
            let to = self.labels[label.0].expect("a label that is used is bound");
            let distance = to as i32 - at as i32;
            match fixup {
                Fixup::Branch => {
                    assert!((-4096..4096).contains(&distance), "a branch does not reach {distance} bytes");
                    self.patch(at, branch(0, 0, 0, distance) & !0x63);
                }
                Fixup::Jal => self.patch(at, jal(0, distance) & !0x6f),
                Fixup::Relative => {
                    let upper = (distance + 0x800) >> 12;
                    self.patch(at, (upper as u32) << 12);
                    self.patch(at + 4, ((distance - (upper << 12)) as u32) << 20);
                }
            }
        }
        self.halves.iter().flat_map(|half| half.to_le_bytes()).collect()
    }

    fn patch(&mut self, at: usize, bits: u32) {
        self.halves[at / 2] |= bits as u16;
        self.halves[at / 2 + 1] |= (bits >> 16) as u16;
    }
}

/// Registers and rounding mode of an instruction; those that the row has no place for are left out.
#[derive(Clone, Copy, Default)]
pub(in crate::tests) struct Fields {
    pub(in crate::tests) rd: u32,
    pub(in crate::tests) rs1: u32,
    pub(in crate::tests) rs2: u32,
    pub(in crate::tests) rs3: u32,
    pub(in crate::tests) rm: u32,
}

/// The instruction of a row with these fields. Immediates are taken from `filling`.
pub(in crate::tests) fn encode(row: &Row, fields: Fields, filling: u32) -> u32 {
    let has = |operands: [char; 2]| row.operands.contains(operands);
    let mut free = !row.encoding.mask;
    let mut word = row.encoding.bits;
    let mut put = |present: bool, shift: u32, width: u32, value: u32| {
        if present {
            let mask = ((1 << width) - 1) << shift;
            word |= value << shift & mask & !row.encoding.mask;
            free &= !mask;
        }
    };
    put(has(['d', 'D']), 7, 5, fields.rd);
    put(has(['s', 'S']), 15, 5, fields.rs1);
    put(has(['t', 'T']), 20, 5, fields.rs2);
    put(row.operands.contains('R'), 27, 5, fields.rs3);
    put(row.operands.contains('m'), 12, 3, fields.rm);
    word | filling & free
}

/// S-type.
pub(in crate::tests) fn store(opcode: u32, funct3: u32, rs2: u32, rs1: u32, imm: i32) -> u32 {
    let imm = imm as u32;
    opcode | (imm & 31) << 7 | funct3 << 12 | rs1 << 15 | rs2 << 20 | (imm >> 5 & 127) << 25
}

pub(in crate::tests) fn add(rd: u32, rs1: u32, rs2: u32) -> u32 {
    r(0x33, 0, 0, rd, rs1, rs2)
}
pub(in crate::tests) fn xor(rd: u32, rs1: u32, rs2: u32) -> u32 {
    r(0x33, 4, 0, rd, rs1, rs2)
}
pub(in crate::tests) fn and(rd: u32, rs1: u32, rs2: u32) -> u32 {
    r(0x33, 7, 0, rd, rs1, rs2)
}
pub(in crate::tests) fn andi(rd: u32, rs1: u32, imm: i32) -> u32 {
    i(0x13, 7, rd, rs1, imm)
}
pub(in crate::tests) fn srli(rd: u32, rs1: u32, by: i32) -> u32 {
    i(0x13, 5, rd, rs1, by)
}
pub(in crate::tests) fn jalr(rd: u32, rs1: u32, imm: i32) -> u32 {
    i(0x67, 0, rd, rs1, imm)
}
pub(in crate::tests) const FENCE_I: u32 = 0x0000_100f;
pub(in crate::tests) const SFENCE_VMA: u32 = 0x1200_0073;
