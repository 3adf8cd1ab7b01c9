//! Code that changes: instructions that are patched, data beside code, code that is copied.

use super::super::assembler::{FENCE_I, Label, add, and, andi, jalr, store, xor};
use super::control::DEPTH;
use super::{ALIAS_TABLES, Author, PAGE, RAM_SIZE, RAM_TABLES, SPARE_PAGE, TWIN_PAGES};
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
        match self.dice.below(9) {
            0 => self.data_beside_code(),
            1 => self.copied_code(),
            2 => self.swap_twins(),
            3 | 4 => self.call_twin(),
            5 | 6 => self.flip(),
            _ => {
                // Seldom, so that what is patched is hot each time.
                let over = self.code.label();
                let (by, counter) = (self.scratch(), self.dice.pick(&self.roles.counters));
                self.code.word(andi(by, counter, self.dice.pick(&[1, 31, 63])));
                self.code.branch(1, by, 0, over);
                self.flip();
                self.code.bind(over);
            }
        }
    }

    fn call_twin(&mut self) {
        let twin = match self.twin {
            Some(twin) => twin,
            None => *self.twin.insert(self.code.label()),
        };
        let link = self.roles.links[1];
        self.code.far(link, link, twin);
    }

    /// Another page is seen in the place of the function that has a twin, in one space or the other.
    fn swap_twins(&mut self) {
        let (table, at) = (self.roles.table, self.scratch());
        let word = self.scratch_but(&[at]);
        let distance = if self.dice.one_in(2) { 0 } else { ALIAS_TABLES[1] - RAM_TABLES[1] };
        self.code.words(&[lui(at, distance as u32), add(at, at, table)]);
        let offset = 8 * TWIN_PAGES[0] as i32;
        self.code.words(&[ld(word, at, offset), i(0x13, 4, word, word, 0x400), sd(word, at, offset)]);
    }

    /// The function with a twin: some blocks in one page. Returns where its slots are.
    pub(super) fn write_twin(&mut self) -> Vec<usize> {
        let Some(twin) = self.twin else { return Vec::new() };
        self.code.skip_to((TWIN_PAGES[0] * PAGE) as usize);
        self.code.bind(twin);
        let first = self.slots.len();
        let end = self.code.label();
        let counter = self.roles.counters[DEPTH];
        self.code.word(addi(counter, 0, self.dice.pick(&[1, 2, 5])));
        let top = self.code.bound();
        for _ in 0..self.dice.between(1, 3) {
            let (slot, skip) = (self.code.label(), self.code.label());
            let (rs1, rs2) = (self.source(), self.source());
            self.slot(slot);
            self.code.branch(self.dice.pick(&[0, 1, 4, 5]), rs1, rs2, skip);
            self.compute();
            self.code.bind(skip);
        }
        self.code.branch(5, 0, counter, end);
        self.code.word(addi(counter, counter, -1));
        self.code.jal(0, top);
        self.code.bind(end);
        self.code.word(jalr(0, self.roles.links[1], 0));
        assert!(self.code.here() as u64 <= TWIN_PAGES[1] * PAGE, "the function lies in one page");
        self.slots.split_off(first).into_iter().map(|slot| self.code.offset(slot)).collect()
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

/// The other page: the same but for bits of the slots.
pub(super) fn vary_twin(code: &mut Vec<u8>, slots: &[usize]) {
    if slots.is_empty() {
        return;
    }
    let [first, second] = TWIN_PAGES.map(|page| (page * PAGE) as usize);
    code.resize(second, 0);
    code.extend_from_within(first..second);
    for slot in slots {
        // An immediate in both forms.
        code[slot - first + second + 2] ^= 0x10;
    }
}
