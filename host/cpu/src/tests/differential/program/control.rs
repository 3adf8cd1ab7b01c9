//! What a program's statements are, and how they nest: loops, branches, calls, jumps by table.

use super::super::assembler::{Fields, Label, add, andi, encode, jalr};
use super::patch::vary_twin;
use super::{Author, CODE_PAGES, Kind, PAGE};
use crate::compressed;
use crate::disasm;
use crate::isa::{ROWS, Reg, Row};
use crate::tests::support::{ECALL, addi, i, ld, sd, slli};
use std::sync::LazyLock;

/// Loops in loops, outside functions.
pub(super) const DEPTH: usize = 3;
/// Of all loops around a statement, so that the whole program runs within its length.
const MAX_ROUNDS: u64 = 150;
/// The operands of what computes in integer registers and does nothing else.
const COMPUTE: [&str; 6] = ["d,u", "d,s,j", "d,s,>", "d,s,<", "d,s,t", "d,s"];

static COMPUTE_ROWS: LazyLock<Vec<&Row>> =
    LazyLock::new(|| ROWS.iter().filter(|row| COMPUTE.contains(&row.operands)).collect());
static COMPRESSED_ROWS: LazyLock<Vec<&compressed::CRow>> =
    LazyLock::new(|| compressed::ROWS.iter().filter(|row| computes(row.bits | 0x1ffc & !row.mask)).collect());

/// Whether these bits are an instruction that computes in integer registers.
fn computes(word: u32) -> bool {
    disasm::decode(word).kind.row().is_some_and(|row| COMPUTE.contains(&row.operands))
}

impl Author {
    /// The whole code: an entry, the main part, the functions, and back to the entry.
    pub(super) fn write_code(&mut self) -> Vec<u8> {
        let main = self.code.label();
        let entry = self.code.bound();
        self.code.jal(0, main);
        // Near the end of a page, so that it goes over to the next.
        let start = PAGE - self.dice.pick(&[16, 64, 256, 1024, 3000]);
        self.code.skip_to(start as usize);
        self.code.bind(main);
        self.prologue();
        if !self.dice.one_in(6) {
            self.code.word(ECALL);
        }
        self.budget = 60;
        self.rounds = 1;
        for _ in 0..self.dice.between(3, 7) {
            self.statement(0);
            self.repeat(0);
        }
        self.pay_all();
        self.code.jal(0, entry);
        self.in_function = true;
        // Called from loops.
        self.rounds = MAX_ROUNDS / 60;
        while let Some(function) = self.functions.pop() {
            self.gap();
            self.function(function);
        }
        assert!(self.code.here() as u64 <= CODE_PAGES * PAGE, "{} bytes of code", self.code.here());
        let slots = self.write_twin();
        let mut code = std::mem::take(&mut self.code).finish();
        vary_twin(&mut code, &slots);
        code
    }

    /// Between functions: nothing, a halfword, or all but the last bytes of the page.
    fn gap(&mut self) {
        let here = self.code.here();
        let next_page = (here | 0xfff) + 1;
        match self.dice.below(4) {
            0 if next_page - here < 1200 => {
                let before = self.dice.pick(&[2, 4, 6, 8, 30]);
                self.code.skip_to((next_page - before).max(here));
            }
            1 => self.code.half(0),
            _ => {}
        }
    }

    pub(super) fn statements(&mut self, count: u64, depth: usize) {
        (0..count).for_each(|_| self.statement(depth));
    }

    fn statement(&mut self, depth: usize) {
        self.pay();
        let kind = self.dice.weighted(&self.weights);
        let is_spent = self.budget == 0;
        self.budget = self.budget.saturating_sub(1);
        match kind {
            Kind::Loop | Kind::If | Kind::Call | Kind::Switch if is_spent => self.compute(),
            Kind::Loop if depth >= DEPTH => self.compute(),
            // What is on the stack is an address in one mode.
            Kind::Call | Kind::Mode if self.in_function => self.compute(),
            Kind::Loop => self.repeat(depth),
            Kind::If => self.choose(depth),
            Kind::Call => self.call(),
            Kind::Switch => self.jump_by_table(depth),
            Kind::Compute => self.compute(),
            Kind::Compressed => self.compressed(),
            Kind::Memory => self.memory(),
            Kind::Atomic => self.atomic(),
            Kind::Float => self.float(),
            Kind::FloatState => self.float_state(),
            Kind::Device => self.device(),
            Kind::Counter => self.counter(),
            Kind::System => self.control_register(),
            Kind::Table => self.edit_table(),
            Kind::Fence => self.fence(),
            Kind::Patch => self.patch(),
            Kind::Mode => self.change_mode(),
            Kind::Garbage => self.garbage(),
        }
    }

    pub(super) fn compute(&mut self) {
        let row = self.dice.pick(&COMPUTE_ROWS);
        let fields =
            Fields { rd: self.target(), rs1: self.source(), rs2: self.source(), ..Fields::default() };
        // Often the destination is an operand.
        let fields = match self.dice.below(6) {
            0 => Fields { rs1: fields.rd, ..fields },
            1 => Fields { rs2: fields.rd, ..fields },
            2 => return self.constant(),
            _ => fields,
        };
        let filling = self.dice.bits() as u32;
        self.code.word(encode(row, fields, filling));
    }

    /// A constant, and what is computed from it alone.
    fn constant(&mut self) {
        let (from, to, value) = (self.scratch(), self.target(), self.dice.value());
        self.code.li(from, value);
        let imm = self.dice.bits() as i32 >> self.dice.between(20, 31);
        self.code.word(match self.dice.below(3) {
            0 => i(0x1b, 0, to, from, imm),
            1 => slli(to, from, imm & 63),
            _ => addi(to, from, imm),
        });
    }

    /// A compressed one, if the dice soon find one that writes what may be written.
    pub(super) fn compressed(&mut self) {
        for _ in 0..20 {
            let row = self.dice.pick(&COMPRESSED_ROWS);
            let half = row.bits | self.dice.bits() as u32 & 0xffff & !row.mask;
            let rd = disasm::decode(half).rd;
            let is_free =
                rd == Reg::Sink || self.roles.scratch.iter().any(|&register| Reg::of(register) == rd);
            if is_free && computes(half) {
                self.code.half(half as u16);
                return;
            }
        }
        self.code.half(1);
    }

    /// A loop: many are short, and some run often enough to be worth translation at once.
    fn repeat(&mut self, depth: usize) {
        let counter = self.roles.counters[depth];
        let most = (MAX_ROUNDS / self.rounds).max(2);
        let rounds = self.dice.pick(&[2, 3, 5, 20, 60, 75, 120]).min(most);
        self.rounds *= rounds;
        self.code.word(addi(counter, 0, rounds as i32));
        let top = self.code.bound();
        let count = self.dice.between(2, 7);
        self.statements(count, depth + 1);
        self.close_loop(counter, top);
        self.rounds /= rounds;
    }

    fn close_loop(&mut self, counter: u32, top: Label) {
        let is_near = (8..16).contains(&counter) && self.code.since(top) < 240;
        if is_near && self.dice.one_in(2) {
            self.code.half((0x107d | counter << 7) as u16);
            let distance = -(self.code.since(top) as i32);
            self.code.half(c_bnez(counter, distance));
            return;
        }
        self.code.word(addi(counter, counter, -1));
        if self.code.since(top) > 4000 {
            let out = self.code.label();
            self.code.branch(0, counter, 0, out);
            self.code.jal(0, top);
            self.code.bind(out);
            return;
        }
        match self.dice.below(3) {
            0 => self.code.branch(4, 0, counter, top),
            1 => self.code.branch(6, 0, counter, top),
            _ => self.code.branch(1, counter, 0, top),
        }
    }

    /// If, perhaps with an else.
    fn choose(&mut self, depth: usize) {
        let (other, end) = (self.code.label(), self.code.label());
        let (funct3, rs1, rs2) = (self.dice.pick(&[0, 1, 4, 5, 6, 7]), self.source(), self.source());
        self.code.branch(funct3, rs1, rs2, other);
        let count = self.dice.between(1, 2);
        self.statements(count, depth);
        let has_else = self.dice.one_in(2);
        if has_else {
            self.code.jal(0, end);
        }
        self.code.bind(other);
        if has_else {
            self.statement(depth);
        }
        self.code.bind(end);
    }

    /// A call of a function, of a new one as long as there are few.
    fn call(&mut self) {
        if self.functions.is_empty() || (self.functions.len() < 4 && self.dice.one_in(3)) {
            let function = self.code.label();
            self.functions.push(function);
        }
        let function = self.dice.pick(&self.functions);
        let link = self.roles.links[0];
        match self.dice.below(3) {
            0 => self.code.far(link, link, function),
            1 => {
                let by = self.scratch();
                self.code.address(by, function);
                self.code.word(jalr(link, by, 0));
            }
            _ => self.code.jal(link, function),
        }
    }

    /// A function: a leaf, one that calls another, or one that calls itself.
    fn function(&mut self, name: Label) {
        self.code.bind(name);
        let (link, stack) = (self.roles.links[0], self.roles.stack);
        let is_leaf = self.dice.one_in(2);
        if !is_leaf {
            self.code.words(&[addi(stack, stack, -16), sd(link, stack, 8)]);
            if self.dice.one_in(3) {
                self.recursion(name);
            } else {
                self.leaf_call();
            }
        }
        self.budget = 8;
        if self.dice.one_in(3) {
            self.repeat(DEPTH);
        }
        let count = self.dice.between(1, 4);
        self.statements(count, DEPTH);
        self.pay_all();
        if !is_leaf {
            self.code.words(&[ld(link, stack, 8), addi(stack, stack, 16)]);
        }
        match self.dice.one_in(2) {
            true => self.code.half((0x8002 | link << 7) as u16),
            false => self.code.word(jalr(0, link, 0)),
        }
    }

    /// Calls itself while bits of a register are left.
    fn recursion(&mut self, name: Label) {
        let [link, counter] = self.roles.links;
        let (done, step) = (self.code.label(), self.scratch());
        self.code.words(&[andi(step, counter, 7), addi(counter, counter, 1)]);
        self.code.branch(0, step, 0, done);
        self.code.jal(link, name);
        self.code.bind(done);
    }

    /// Calls a few instructions that lie in the way, with the other link register.
    fn leaf_call(&mut self) {
        let link = self.roles.links[1];
        let (leaf, over) = (self.code.label(), self.code.label());
        self.code.jal(link, leaf);
        self.code.jal(0, over);
        self.code.bind(leaf);
        self.compute();
        self.compute();
        self.code.word(jalr(0, link, 0));
        self.code.bind(over);
    }

    /// A switch over two bits of a register: an indirect jump into a table of jumps.
    fn jump_by_table(&mut self, depth: usize) {
        let (table, end) = (self.code.label(), self.code.label());
        let by = self.scratch();
        let index = self.scratch_but(&[by]);
        let over = if self.dice.one_in(2) { self.roles.counters[depth.min(DEPTH)] } else { self.source() };
        self.code.words(&[andi(index, over, 3), slli(index, index, 2)]);
        self.code.address(by, table);
        self.code.words(&[add(by, by, index), jalr(0, by, 0)]);
        self.code.bind(table);
        let cases = [(); 4].map(|()| self.code.label());
        cases.iter().for_each(|&case| self.code.jal(0, case));
        for case in cases {
            self.code.bind(case);
            self.compute();
            if self.dice.one_in(2) {
                self.code.jal(0, end);
            }
        }
        self.code.bind(end);
    }
}

/// `c.bnez` over a distance that fits.
fn c_bnez(rs1: u32, distance: i32) -> u16 {
    let d = distance as u32;
    let high = (d >> 8 & 1) << 12 | (d >> 3 & 3) << 10;
    let low = (d >> 6 & 3) << 5 | (d >> 1 & 3) << 3 | (d >> 5 & 1) << 2;
    (0xe001 | high | (rs1 - 8) << 7 | low) as u16
}
