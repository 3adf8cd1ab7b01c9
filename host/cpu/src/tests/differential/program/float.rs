//! Floating-point statements.

use super::super::assembler::{Fields, encode};
use super::Author;
use crate::isa::{Extension, ROWS, Row};
use crate::tests::support::{csrrc, csrrs, csrrw, i};
use std::sync::LazyLock;

static FLOATS: LazyLock<Vec<&Row>> = LazyLock::new(|| {
    let float = [Extension::F, Extension::D, Extension::Zfh, Extension::Zfhmin];
    ROWS.iter().filter(|row| float.contains(&row.extension) && !row.operands.contains('(')).collect()
});

const FFLAGS: u32 = 1;
const FRM: u32 = 2;
const FCSR: u32 = 3;

impl Author {
    pub(super) fn float(&mut self) {
        if self.dice.one_in(4) {
            return self.fresh_float();
        }
        let row = self.dice.pick(&FLOATS);
        // Few registers, so that results are operands again.
        let mut any = || self.dice.below(12) as u32 * 2 + self.dice.below(3) as u32;
        let (rd, rs1, rs2, rs3) = (any(), any(), any(), any());
        let operands = row.operands;
        let fields = Fields {
            rd: if operands.contains('d') { self.target() } else { rd },
            rs1: if operands.contains('s') { self.source() } else { rs1 },
            rs2: if self.dice.one_in(6) { rd } else { rs2 },
            rs3,
            rm: self.dice.pick(&[7, 7, 7, 7, 7, 7, 0, 0, 1, 2, 3, 4]),
        };
        let fields = if self.dice.one_in(200) { Fields { rm: 5, ..fields } } else { fields };
        self.code.word(encode(row, fields, 0));
    }

    /// A value from memory: what is computed for long is a NaN in the end.
    fn fresh_float(&mut self) {
        let (base, offset) = (self.data_pointer(), (self.dice.below(500) * 8) as i32 - 2000);
        let rd = self.dice.below(25) as u32;
        self.code.word(i(0x07, self.dice.pick(&[1, 2, 3, 3, 3]), rd, base, offset));
    }

    /// Reads, sets and clears flags and rounding mode.
    pub(super) fn float_state(&mut self) {
        let (rd, rs1) = (self.target(), self.source());
        let imm = self.dice.below(32) as u32;
        let mode = self.dice.pick(&[0, 0, 1, 2, 3, 4, 4, 5]);
        let word = match self.dice.below(9) {
            0 | 1 => csrrs(rd, FFLAGS, 0),
            2 => csrrw(rd, FFLAGS, rs1),
            3 => i(0x73, 5, rd, imm, FFLAGS as i32),
            4 => i(0x73, self.dice.between(6, 7) as u32, rd, imm, FFLAGS as i32),
            5 => csrrc(rd, FFLAGS, rs1),
            6 | 7 => i(0x73, 5, rd, mode, FRM as i32),
            _ => csrrs(rd, FCSR, 0),
        };
        self.code.word(word);
    }
}
