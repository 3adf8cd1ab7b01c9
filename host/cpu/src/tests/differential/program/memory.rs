//! Statements that reach memory and devices.

use super::super::assembler::{Fields, add, andi, encode, store};
use super::{Author, Kind};
use crate::isa::{ROWS, Row};
use crate::tests::support::{addi, i, r};
use std::sync::LazyLock;

/// Loads and stores with an offset, integer and floating-point.
static ACCESSES: LazyLock<Vec<&Row>> = LazyLock::new(|| {
    let offset = ["d,j(s)", "t,q(s)", "D,j(s)", "T,q(s)"];
    ROWS.iter().filter(|row| offset.contains(&row.operands) && !row.ends_block).collect()
});
static INTEGER_ACCESSES: LazyLock<Vec<&Row>> =
    LazyLock::new(|| ACCESSES.iter().filter(|row| row.operands.starts_with(['d', 't'])).copied().collect());
static ATOMICS: LazyLock<Vec<&Row>> =
    LazyLock::new(|| ROWS.iter().filter(|row| ["d,t,(s)", "d,(s)"].contains(&row.operands)).collect());
static BLOCKS: LazyLock<Vec<&Row>> =
    LazyLock::new(|| ROWS.iter().filter(|row| row.operands == "(s)").collect());

/// Registers of devices, by their offset: see `Devices`.
const ATTENTION: i32 = 0x200;
const DMA_ADDRESS: i32 = 0x210;
const DMA_VALUE: i32 = 0x218;
const WIRES: i32 = 0x220;
const REFUSES: i32 = 0x400;

/// The bits of a 12-bit offset in both places where one can be.
fn offset_bits(offset: i32, is_store: bool) -> u32 {
    if is_store { store(0, 0, 0, 0, offset) } else { (offset as u32) << 20 }
}

impl Author {
    /// The offset of an access: mostly aligned, some not, some over the end of a line or page.
    pub(super) fn offset(&mut self) -> i32 {
        let offset = self.dice.below(4096) as i32 - 2048;
        match self.dice.below(6) {
            0 => offset,
            1 => self.dice.pick(&[-9, -7, -4, -3, -2, -1, 0, 1, 60, 61, 63, -2048, 2047, 2040]),
            _ => offset & !7,
        }
    }

    fn access(&mut self, row: &Row, base: u32, offset: i32) {
        let is_store = row.operands.starts_with(['t', 'T']);
        let is_float = row.operands.starts_with(['D', 'T']);
        let any = self.dice.below(32) as u32;
        let rd = if is_float { any } else { self.target() };
        let rs2 = if is_float { any } else { self.source() };
        let fields = Fields { rd, rs1: base, rs2, ..Fields::default() };
        self.code.word(encode(row, fields, offset_bits(offset, is_store)));
    }

    pub(super) fn memory(&mut self) {
        match self.dice.below(10) {
            0 => self.indexed(),
            1 => self.compressed_access(),
            2 => self.pair(),
            3 | 4 => self.neighbours(),
            _ => {
                let (row, base, offset) = (self.dice.pick(&ACCESSES), self.data_pointer(), self.offset());
                self.access(row, base, offset);
            }
        }
    }

    /// At an address that is computed; the destination of a load may be what holds it.
    fn indexed(&mut self) {
        let (at, by, base) = (self.scratch(), self.source(), self.data_pointer());
        self.code.words(&[andi(at, by, self.dice.pick(&[0x7f8, 0x3f, 0x7ff])), add(at, at, base)]);
        let row = self.dice.pick(&INTEGER_ACCESSES);
        let rd = if self.dice.one_in(3) { at } else { self.target() };
        let fields = Fields { rd, rs1: at, rs2: self.source(), ..Fields::default() };
        let is_store = row.operands.starts_with('t');
        let offset = self.offset() / 64;
        self.code.word(encode(row, fields, offset_bits(offset, is_store)));
    }

    /// A store and a load of what it wrote, or of a part.
    fn pair(&mut self) {
        let (base, offset) = (self.data_pointer(), self.offset());
        let (written, read) = (self.dice.below(4) as u32, self.dice.below(7) as u32);
        let (rs2, rd) = (self.source(), self.target());
        self.code.words(&[store(0x23, written, rs2, base, offset), i(0x03, read, rd, base, offset)]);
    }

    /// Several loads or stores side by side, as where a function saves registers: all in a page, or over its end, or
    /// the last one into the base.
    fn neighbours(&mut self) {
        let (base, start) = (self.data_pointer(), self.offset());
        let base = if self.dice.one_in(6) { self.roles.stack } else { base };
        let is_store = self.dice.one_in(2);
        let letter = if is_store { 't' } else { 'd' };
        for index in 0..self.dice.between(2, 7) as i32 {
            let row = self.dice.pick(&INTEGER_ACCESSES);
            let row = if row.operands.starts_with(letter) && !self.dice.one_in(8) {
                row
            } else {
                self.dice.pick(&ACCESSES)
            };
            let near = self.dice.pick(&[8 * index, 8 * index, -8 * index, 3 * index, 0]);
            self.access(row, base, (start + near).clamp(-2048, 2047));
        }
        if self.dice.one_in(4) {
            // Into a copy of the base, which is gone then.
            let copy = self.scratch();
            let (first, second) = (self.dice.between(0, 6) as u32, self.dice.between(0, 6) as u32);
            let near = (start + 8).clamp(-2048, 2047);
            self.code.words(&[
                addi(copy, base, 0),
                i(0x03, first, copy, copy, start),
                i(0x03, second, copy, copy, near),
            ]);
        }
    }

    /// A compressed load or store, with another halfword behind it: what traps is skipped as four bytes.
    fn compressed_access(&mut self) {
        let (base, any) = (self.roles.data[0], self.scratch());
        let float = 8 + self.dice.below(8) as u32;
        let near = |register: u32| (8..16).contains(&register);
        let imm = (self.dice.below(8) << 10 | self.dice.below(4) << 5) as u32;
        let of = |bits: u32, register: u32| (bits | imm | (base - 8) << 7 | (register - 8) << 2) as u16;
        if near(base) && near(any) {
            self.code.half(of(self.dice.pick(&[0x4000, 0x6000, 0xc000, 0xe000]), any));
        } else if near(base) {
            self.code.half(of(self.dice.pick(&[0x2000, 0xa000]), float));
        } else {
            // c.ldsp, c.lwsp, c.sdsp, c.swsp: whatever is at the stack pointer.
            let words = [0x6002 | any << 7, 0x4002 | any << 7, 0xe002 | any << 2, 0xc002 | any << 2];
            self.code.half(self.dice.pick(&words) as u16);
        }
        self.compressed();
    }

    /// An atomic at an address with and without the right alignment; LR and SC with whatever between them.
    pub(super) fn atomic(&mut self) {
        let (at, base) = (self.scratch(), self.data_pointer());
        let offset = if self.dice.one_in(8) { self.offset() } else { self.offset() & !7 };
        self.code.word(addi(at, base, offset));
        match self.dice.below(8) {
            0 | 1 => self.reserve(at),
            2 => {
                let row = self.dice.pick(&BLOCKS);
                self.code.word(encode(row, Fields { rs1: at, ..Fields::default() }, 0));
            }
            _ => {
                let row = self.dice.pick(&ATOMICS);
                let rd = if self.dice.one_in(4) { at } else { self.target() };
                let fields = Fields { rd, rs1: at, rs2: self.source(), ..Fields::default() };
                let ordering = self.dice.bits() as u32 & 3 << 25;
                self.code.word(encode(row, fields, ordering));
            }
        }
    }

    fn reserve(&mut self, at: u32) {
        let (old, new) = (self.scratch_but(&[at]), self.scratch_but(&[at]));
        let size = self.dice.between(2, 3) as u32;
        self.code.words(&[r(0x2f, size, 2 << 2, old, at, 0), addi(new, old, 1)]);
        match self.dice.below(4) {
            0 => self.code.word(store(0x23, 3, old, at, self.dice.pick(&[0, 8, 56, 64]))),
            1 => self.compressed_access(),
            2 if self.weight(Kind::Device) > 0 => self.device(),
            _ => {}
        }
        let other = if self.dice.one_in(8) { self.data_pointer() } else { at };
        self.code.word(r(0x2f, size, 3 << 2, old, other, new));
    }

    /// An access to a device: of any size, with effects on the run, refused, or a transfer to memory.
    pub(super) fn device(&mut self) {
        let port = self.roles.port;
        let row = self.dice.pick(&INTEGER_ACCESSES);
        let offset = match self.dice.below(12) {
            0 => ATTENTION,
            1 => return self.transfer(),
            2 => REFUSES,
            3 => self.dice.pick(&[1, 2, 3, 4, 6, 7]),
            4 => WIRES,
            _ => (self.dice.below(32) * 8) as i32,
        };
        self.access(row, port, offset);
    }

    /// The device writes to memory: to data, or to code that is patched.
    fn transfer(&mut self) {
        let (port, at) = (self.roles.port, self.scratch());
        if self.dice.one_in(3) && !self.slots.is_empty() {
            let slot = self.dice.pick(&self.slots);
            let value = self.scratch_but(&[at]);
            self.code.address(at, slot);
            self.slot_instruction(value);
            self.code.words(&[store(0x23, 3, at, port, DMA_ADDRESS), store(0x23, 2, value, port, DMA_VALUE)]);
            return;
        }
        let (base, offset, value) = (self.data_pointer(), self.offset(), self.source());
        let size = self.dice.between(2, 3) as u32;
        self.code.words(&[
            addi(at, base, offset),
            store(0x23, 3, at, port, DMA_ADDRESS),
            store(0x23, size, value, port, DMA_VALUE),
        ]);
    }
}
