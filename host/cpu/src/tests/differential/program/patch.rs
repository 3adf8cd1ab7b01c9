//! Code that changes: instructions that are patched, data beside code, code that is copied.

use super::super::assembler::{FENCE_I, Label, add, and, jalr, store, xor};
use super::{Author, PAGE, RAM_SIZE, SPARE_PAGE};
use crate::tests::support::{addi, i, ld, lui, sd, sw};

impl Author {
    /// Writes an instruction that is owed, now and then.
    pub(super) fn pay(&mut self) {
        if !self.owed.is_empty() && self.dice.one_in(2) {
            self.pay_one();
        }
    }

    pub(super) fn pay_all(&mut self) {
        while !self.owed.is_empty() {
            self.pay_one();
        }
    }

    fn pay_one(&mut self) {
        if let Some(slot) = self.owed.pop() {
            self.slot(slot);
        }
    }

    /// An instruction, or two compressed ones, that stay instructions of the same registers with some bits flipped.
    fn slot(&mut self, label: Label) {
        self.code.bind(label);
        self.slots.push(label);
        let (rd, rs1) = (self.scratch(), self.source());
        if self.dice.one_in(3) {
            // Two of c.addi.
            let other = self.scratch();
            self.code.half((0x0015 | rd << 7) as u16);
            self.code.half((0x000d | other << 7) as u16);
        } else {
            self.code.word(addi(rd, rs1, self.dice.below(64) as i32));
        }
    }

    /// `register` = the bits of an instruction that a slot may hold.
    pub(super) fn slot_instruction(&mut self, register: u32) {
        let rd = self.scratch();
        let word = addi(rd, rd, self.dice.below(2048) as i32);
        self.code.li(register, word as i32 as u64);
    }

    pub(super) fn patch(&mut self) {
        match self.dice.below(6) {
            0 => self.data_beside_code(),
            1 => self.copied_code(),
            _ => self.flip(),
        }
    }

    /// Flips bits of an instruction near by or far away, in front or behind, at times of the very block that runs.
    fn flip(&mut self) {
        let slot = match self.slots.last() {
            Some(_) if !self.dice.one_in(3) => self.dice.pick(&self.slots),
            _ => {
                let slot = self.code.label();
                self.owed.push(slot);
                slot
            }
        };
        let at = self.scratch();
        let word = self.scratch_but(&[at]);
        let mask = self.scratch_but(&[at, word]);
        self.code.address(at, slot);
        if self.dice.one_in(4) {
            // The second half only: bits of an immediate in both forms of a slot.
            self.code.words(&[i(0x03, 1, word, at, 2), addi(mask, 0, self.dice.pick(&[0x10, 0x20, 0x30]))]);
            self.code.words(&[xor(word, word, mask), store(0x23, 1, word, at, 2)]);
        } else {
            self.code.words(&[i(0x03, 2, word, at, 0), lui(mask, self.dice.pick(&[0x100, 0x200, 0x300, 4]))]);
            self.code.words(&[xor(word, word, mask), sw(word, at, 0)]);
        }
        if self.owed.last() == Some(&slot) && self.dice.one_in(2) {
            // At once: in the same block.
            self.pay_one();
        }
        if self.dice.one_in(4) {
            self.code.word(FENCE_I);
        }
    }

    /// A word in the midst of code that is written all the time.
    fn data_beside_code(&mut self) {
        let (data, over) = (self.code.label(), self.code.label());
        let (at, value, rd) = (self.scratch(), self.source(), self.target());
        self.code.address(at, data);
        self.code.words(&[sd(value, at, 0), ld(rd, at, 0)]);
        self.code.jal(0, over);
        self.code.bind(data);
        self.code.words(&[0, 0]);
        self.code.bind(over);
    }

    /// A function of a few instructions is copied elsewhere and called there.
    fn copied_code(&mut self) {
        let (from, over) = (self.code.label(), self.code.label());
        let link = self.roles.links[1];
        let at = self.scratch();
        let word = self.scratch_but(&[at]);
        let to = self.scratch_but(&[at, word]);
        self.code.jal(0, over);
        self.code.bind(from);
        (0..3).for_each(|_| self.compute());
        self.code.word(jalr(0, link, 0));
        self.code.bind(over);
        self.code.address(at, from);
        // To a spare page in the space that this runs in.
        let place = SPARE_PAGE * PAGE + self.dice.below(64) * 64 + self.dice.pick(&[0, 2, 56]);
        self.code.words(&[lui(word, (!(RAM_SIZE - 1) >> 12) as u32), and(to, at, word)]);
        self.code.li(word, place);
        self.code.word(add(to, to, word));
        for offset in (0..16).step_by(8) {
            self.code.words(&[ld(word, at, offset), sd(word, to, offset)]);
        }
        if self.dice.one_in(2) {
            self.code.word(FENCE_I);
        }
        self.code.word(jalr(link, to, 0));
    }
}
