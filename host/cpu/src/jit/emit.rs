//! From a decoded block to code: the frame around the templates.

mod csr;
mod float;
mod integer;
mod loops;
mod memory;
mod rotation;

use super::asm::{Alu, Asm, Cc, Fixup, Gpr, Precision, Rm, Widen, Width};
use super::layout::{CODE_PAGE, Homes, NATIVE_SHIFT, NATIVES};
use super::stubs::{self, Stubs};
use crate::isa::{Extension, Kind, Op, Reg};
use crate::ram::PAGE_SIZE;
use crate::tlb::Caches;
use rotation::Delayed;

/// A set of integer registers, by their numbers.
type Words = u64;

fn bit(reg: Reg) -> Words {
    1 << reg as u8
}

fn last_writes(ops: &[Op]) -> [u8; 33] {
    let mut last = [0; 33];
    for op in ops {
        if rotation::writes_integer(op) {
            last[op.rd as usize] = op.idx;
        }
    }
    last
}

fn in_page(place: i64) -> bool {
    (0..PAGE_SIZE as i64).contains(&place)
}

/// What is made while a block is translated, in memory that serves one after the other.
pub(super) struct Draft {
    pub(super) a: Asm,
    /// Sites of jumps, and where in the page they lead, that are not yet connected: they leave with their number among
    /// all links.
    pub(super) links: Vec<(u32, u64)>,
    cold: Vec<Cold>,
    /// Jumps of the instruction in the making to where its body does it all.
    refused: Vec<Fixup>,
}

impl Draft {
    pub(super) fn new() -> Draft {
        Draft { a: Asm::new(0), links: Vec::new(), cold: Vec::new(), refused: Vec::new() }
    }
}

/// Puts the upper half of `reg` in place, by way of `scratch` if it is in memory. Flags stay.
fn sign_extend(a: &mut Asm, homes: &Homes, reg: Reg, scratch: Gpr) {
    match homes.pinned(reg) {
        Some(host) => a.widen(Widen::S32, host, host),
        None => {
            a.widen(Widen::S32, scratch, homes.place(reg));
            a.store(Width::Q, homes.place(reg), scratch);
        }
    }
}

/// Values of registers that are known and not yet in place.
#[derive(Clone, Copy)]
struct Owed {
    /// Registers of which only the low half is in place: the value is that, sign-extended.
    words: Words,
    /// Registers that shifts were to write.
    delayed: Delayed,
}

impl Owed {
    const NOTHING: Owed = Owed { words: 0, delayed: Delayed::NONE };

    fn is_nothing(&self) -> bool {
        self.words == 0 && self.delayed.is_none()
    }

    /// Puts everything in place, by way of rdx.
    fn pay(&self, a: &mut Asm, homes: &Homes) {
        self.delayed.pay(a, homes);
        let mut words = self.words;
        while words != 0 {
            sign_extend(a, homes, Reg::of(words.trailing_zeros()), Gpr::Rdx);
            words &= words - 1;
        }
    }
}

/// Something that happens rarely, emitted behind the block.
#[derive(Clone, Copy)]
enum Cold {
    /// The body of `op` does it all; then on at `back`. `loaded`: the floating-point state is and stays it.
    Perform { from: Fixup, op: u32, loaded: bool, owed: Owed, back: u32 },
    /// The floating-point state is to be loaded, or `op` and what follows it are their bodies'.
    LoadFloats { from: Fixup, op: u32, owed: Owed, back: u32 },
    /// `op` and what follows it are their bodies'.
    Finish { from: Fixup, op: u32, owed: Owed },
    /// The result of an operation on floating-point numbers is no number.
    NotANumber { from: Fixup, rd: Reg, of: Precision, back: u32 },
    /// Accesses to neighbouring places that are not all known: each looks for itself, then on at `back`.
    OneByOne { from: Fixup, first: u8, count: u8, floats: bool, owed: Owed, back: u32 },
    /// A branch is taken with `spare` instructions charged and not attempted.
    Side { from: Fixup, target: i64, spare: i32, owed: Owed },
    /// The block does not fit the budget.
    Budget { from: Fixup },
}

/// At which addresses a translation is right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct At {
    /// The virtual page, or none: any page, and [`CODE_PAGE`] says which one.
    pub(super) page: Option<u64>,
    /// The block's distance from the start of the page.
    pub(super) offset: u64,
}

/// A block in the making.
pub(super) struct Emitter<'a> {
    a: &'a mut Asm,
    stubs: &'a Stubs,
    /// The translation's number.
    native: u32,
    /// The number of its first link.
    first_link: u32,
    at: At,
    /// The number of its first instruction in the arena.
    start: u32,
    ops: &'a [Op],
    cold: &'a mut Vec<Cold>,
    links: &'a mut Vec<(u32, u64)>,
    owed: Owed,
    /// Where guest registers live.
    homes: Homes,
    /// Where the next round of a loop begins that has homes of its own.
    again: Option<u32>,
    /// What was owed before the instruction in the making.
    owed_before: Owed,
    /// Shifts that are to be delayed, by their numbers: their results are but halves of a rotation.
    halves: u64,
    /// Registers whose value is the sign extension of its low half, whether that is in place or not.
    narrow: Words,
    /// For each integer register, the number of the last instruction that writes it.
    last_write: [u8; 33],
    /// The number of the instruction in the making.
    index: u8,
    /// What registers are known to hold.
    known: [Option<u64>; 33],
    /// The privilege is at least this: nothing in a block lowers it and goes on.
    privilege: u8,
    /// The floating-point state is loaded.
    floats: bool,
    /// For each floating-point register, whether it is known to hold a boxed single.
    boxed: [bool; 33],
    /// Jumps of the instruction in the making to where its body does it all.
    refused: &'a mut Vec<Fixup>,
}

impl<'a> Emitter<'a> {
    /// For the block `ops`, which is at `start` in the arena, seen at `at`, as translation `native`. Its links are
    /// numbered from `first_link`.
    pub(super) fn new(
        draft: &'a mut Draft,
        stubs: &'a Stubs,
        native: u32,
        first_link: u32,
        at: At,
        start: u32,
        ops: &'a [Op],
    ) -> Emitter<'a> {
        let mut known = [None; 33];
        known[Reg::X0 as usize] = Some(0);
        let Draft { a, links, cold, refused } = draft;
        links.clear();
        Emitter {
            a,
            stubs,
            native,
            first_link,
            at,
            start,
            ops,
            cold,
            links,
            owed: Owed::NOTHING,
            homes: Homes::USUAL,
            again: None,
            owed_before: Owed::NOTHING,
            halves: rotation::halves(ops),
            narrow: bit(Reg::X0),
            last_write: last_writes(ops),
            index: 0,
            known,
            privilege: 0,
            floats: false,
            boxed: [false; 33],
            refused,
        }
    }

    pub(super) fn block(mut self) {
        let count = self.ops.len() as i32;
        // A tombstone takes ten bytes: as many as these two.
        self.a.alu_imm(Alu::Sub, Width::Q, Gpr::R15, count);
        let from = self.a.branch_ahead(Cc::Less);
        self.cold.push(Cold::Budget { from });
        self.enter_loop();
        let mut rest = self.ops;
        while !rest.is_empty() {
            let (now, then) = rest.split_at(Emitter::neighbours(rest));
            match now {
                [op] => self.op(op),
                _ => self.ops_together(now),
            }
            rest = then;
        }
        let last = self.ops[self.ops.len() - 1];
        if last.kind.row().is_some_and(|row| !row.ends_block) {
            self.pay_all();
            self.go_to(self.place(&last) + i64::from(last.len));
        }
        let mut next = 0;
        while let Some(&cold) = self.cold.get(next) {
            self.cold(cold);
            next += 1;
        }
        self.cold.clear();
    }

    /// Distance of an instruction from the start of the page.
    fn place(&self, op: &Op) -> i64 {
        self.at.offset as i64 + i64::from(op.off) * 2
    }

    /// The address at this distance from the start of the page, if it is always the same.
    fn address(&self, place: i64) -> Option<u64> {
        Some(self.at.page?.wrapping_add(place as u64))
    }

    /// `into` = the address at this distance from the start of the page. Flags may change.
    fn load_address(&mut self, into: Gpr, place: i64) {
        match (self.address(place), i32::try_from(place)) {
            (Some(address), _) => self.a.mov_imm(into, address),
            (None, Ok(place)) => {
                self.a.mov(Width::Q, into, CODE_PAGE);
                self.a.alu_imm(Alu::Add, Width::Q, into, place);
            }
            (None, Err(_)) => {
                self.a.mov_imm(into, place as u64);
                self.a.alu(Alu::Add, Width::Q, into, CODE_PAGE);
            }
        }
    }

    /// rd = the address at this distance from the start of the page.
    fn put_address(&mut self, rd: Reg, place: i64) {
        match self.address(place) {
            Some(address) => self.set_constant(rd, address),
            None if rd == Reg::Sink => {}
            None => {
                let target = self.target(rd, Gpr::Rdx);
                self.load_address(target, place);
                self.put(rd, target);
            }
        }
    }

    fn ops_together(&mut self, ops: &[Op]) {
        self.settle_for(ops);
        self.access_all(ops);
        for op in ops {
            self.known[op.rd as usize] = None;
        }
        self.known[Reg::X0 as usize] = Some(0);
    }

    fn op(&mut self, op: &Op) {
        self.owed_before = self.owed;
        self.index = op.idx;
        if self.rotation(op) {
            return;
        }
        if let Some(value) = self.foreseen(op) {
            self.set_constant(op.rd, value);
            return;
        }
        if op.kind.row().is_some_and(|row| row.extension == Extension::Zicsr) {
            // It may be FS or the rounding mode that changes.
            self.floats = false;
        }
        if !(self.integer(op) || self.memory(op) || self.control(op) || self.csr(op) || self.float(op)) {
            self.perform(op);
            self.written(op.rd);
            self.boxed[op.rd as usize] = false;
        }
        // Of an instruction without an integer destination this forgets too much, which does no harm.
        self.known[op.rd as usize] = None;
        self.known[Reg::X0 as usize] = Some(0);
    }

    /// What the instruction leaves in rd, if that is certain already.
    fn foreseen(&self, op: &Op) -> Option<u64> {
        let imm = i64::from(op.imm) as u64;
        let source = || self.known[op.rs1 as usize];
        Some(match op.kind {
            Kind::lui => imm,
            Kind::auipc => self.address(self.place(op))?.wrapping_add(imm),
            Kind::addi => source()?.wrapping_add(imm),
            Kind::addiw => i64::from((source()? as i32).wrapping_add(op.imm)) as u64,
            Kind::slli => source()? << (imm & 63),
            _ => return None,
        })
    }

    fn set_constant(&mut self, rd: Reg, value: u64) {
        if rd == Reg::Sink {
            return;
        }
        self.known[rd as usize] = Some(value);
        self.written(rd);
        if i32::try_from(value as i64).is_ok() {
            self.narrow |= bit(rd);
        }
        match (self.homes.pinned(rd), i32::try_from(value as i64)) {
            (Some(host), _) => self.a.mov_imm(host, value),
            (None, Ok(value)) => self.a.store_imm(Width::Q, self.homes.place(rd), value),
            (None, Err(_)) => {
                self.a.mov_imm(Gpr::Rax, value);
                self.put(rd, Gpr::Rax);
            }
        }
    }

    /// Where `reg` is, all of it. Flags stay.
    fn home(&mut self, reg: Reg) -> Rm {
        self.extend(reg);
        self.homes.place(reg)
    }

    /// Puts the upper half of `reg` in place.
    fn extend(&mut self, reg: Reg) {
        if self.owed.words & bit(reg) != 0 {
            self.owed.words &= !bit(reg);
            sign_extend(self.a, &self.homes, reg, Gpr::Rdx);
        }
    }

    /// Puts everything in place: what follows leaves the block.
    fn pay_all(&mut self) {
        std::mem::replace(&mut self.owed, Owed::NOTHING).pay(self.a, &self.homes);
    }

    /// All of `reg` was written.
    fn written(&mut self, reg: Reg) {
        self.owed.words &= !bit(reg);
        self.owed.delayed.forget(reg);
        self.narrow &= !bit(reg) | bit(Reg::X0);
    }

    /// A register that holds `reg`: its own, or `scratch` filled with it. Flags may change.
    fn get(&mut self, reg: Reg, scratch: Gpr) -> Gpr {
        match self.homes.pinned(reg) {
            Some(host) => {
                self.extend(reg);
                host
            }
            None => {
                self.load(scratch, reg);
                scratch
            }
        }
    }

    /// The same if only the low half matters.
    fn get_word(&mut self, reg: Reg, scratch: Gpr) -> Gpr {
        self.homes.pinned(reg).unwrap_or_else(|| {
            self.load_word(scratch, reg);
            scratch
        })
    }

    /// `into` = `reg`. Flags may change.
    fn load(&mut self, into: Gpr, reg: Reg) {
        if reg == Reg::X0 {
            self.a.zero(into);
        } else if self.owed.words & bit(reg) != 0 && self.homes.pinned(reg).is_none() {
            self.a.widen(Widen::S32, into, self.homes.place(reg));
        } else if self.home(reg) != Rm::Reg(into) {
            self.a.mov(Width::Q, into, self.homes.place(reg));
        }
    }

    /// `into` = the low half of `reg`, without a sign. Flags may change.
    pub(super) fn load_word(&mut self, into: Gpr, reg: Reg) {
        if reg == Reg::X0 {
            self.a.zero(into);
        } else if self.homes.place(reg) != Rm::Reg(into) {
            self.a.mov(Width::D, into, self.homes.place(reg));
        }
    }

    /// Whether what is to be done with these registers can be done with their low halves, and is better done so.
    fn as_words(&self, a: Reg, b: Reg) -> bool {
        let both = bit(a) | bit(b);
        self.narrow & both == both && self.owed.words & both != 0
    }

    /// Where to compute what goes to `rd`: its register, or `scratch`; [`Emitter::put`] must follow.
    fn target(&self, rd: Reg, scratch: Gpr) -> Gpr {
        self.homes.pinned(rd).unwrap_or(scratch)
    }

    /// `rd` = `value`.
    fn put(&mut self, rd: Reg, value: Gpr) {
        self.written(rd);
        match self.homes.pinned(rd) {
            Some(host) => self.a.copy(host, value),
            None if rd == Reg::Sink => {}
            None => self.a.store(Width::Q, self.homes.place(rd), value),
        }
    }

    /// `rd` = the low half of `value`, sign-extended, when somebody asks for that.
    pub(super) fn put_word(&mut self, rd: Reg, value: Gpr) {
        if rd == Reg::Sink {
            return;
        }
        match self.homes.pinned(rd) {
            Some(host) if host == value => {}
            Some(host) => self.a.mov(Width::D, host, value),
            // In memory, one that stays would have to be loaded for it again.
            None if self.index == self.last_write[rd as usize] => {
                self.a.widen(Widen::S32, Gpr::Rax, value);
                self.put(rd, Gpr::Rax);
                self.narrow |= bit(rd);
                return;
            }
            None => self.a.store(Width::D, self.homes.place(rd), value),
        }
        self.is_word(rd);
    }

    /// The interpreter's body does it, here and now.
    fn perform(&mut self, op: &Op) {
        self.pay_all();
        self.call_body(self.number(op), self.floats);
    }

    /// An instruction's number in the arena.
    fn number(&self, op: &Op) -> u32 {
        self.start + u32::from(op.idx)
    }

    fn call_body(&mut self, op: u32, loaded: bool) {
        self.call_stub(op, if loaded { self.stubs.perform_loaded } else { self.stubs.perform });
    }

    fn call_stub(&mut self, op: u32, stub: u32) {
        self.leave_homes();
        self.a.mov_imm(Gpr::Rax, op.into());
        self.a.mov_imm(Gpr::Rdx, self.native.into());
        self.a.call(stub);
        self.take_homes();
    }

    /// The body does it all if the jump is taken; then it goes on here.
    fn perform_if(&mut self, from: Fixup, op: &Op) {
        let (op, back) = (self.number(op), self.a.here());
        self.cold.push(Cold::Perform { from, op, loaded: self.floats, owed: self.owed_before, back });
    }

    fn control(&mut self, op: &Op) -> bool {
        match op.kind {
            Kind::beq => self.branch(op, Cc::Equal),
            Kind::bne => self.branch(op, Cc::NotEqual),
            Kind::blt => self.branch(op, Cc::Less),
            Kind::bge => self.branch(op, Cc::GreaterEqual),
            Kind::bltu => self.branch(op, Cc::Below),
            Kind::bgeu => self.branch(op, Cc::AboveEqual),
            Kind::auipc => self.put_address(op.rd, self.place(op) + i64::from(op.imm)),
            Kind::jal => {
                self.put_address(op.rd, self.place(op) + i64::from(op.len));
                self.pay_all();
                self.go_to(self.place(op) + i64::from(op.imm));
            }
            Kind::jalr => self.jump_to_register(op),
            _ => return false,
        }
        true
    }

    fn branch(&mut self, op: &Op, cc: Cc) {
        let last = usize::from(op.idx) + 1 == self.ops.len();
        if last {
            // Both ways leave the block: they need it alike.
            self.pay_all();
        }
        self.compare(op.rs1, op.rs2);
        if let (true, Some(again)) = (last, self.again) {
            return self.close_loop(cc, again);
        }
        let from = self.a.branch_ahead(cc);
        let target = self.place(op) + i64::from(op.imm);
        let spare = self.ops.len() as i32 - i32::from(op.idx) - 1;
        self.cold.push(Cold::Side { from, target, spare, owed: self.owed });
    }

    /// Flags of `a - b`. Of words they are those of the sign extensions, also without a sign.
    fn compare(&mut self, a: Reg, b: Reg) {
        let width = if self.as_words(a, b) { Width::D } else { Width::Q };
        if width == Width::Q {
            self.extend(a);
            self.extend(b);
        }
        match (b, self.homes.pinned(a)) {
            (Reg::X0, Some(a)) => self.a.test(width, a, a),
            (Reg::X0, None) if a != Reg::X0 => self.a.alu_imm(Alu::Cmp, width, self.homes.place(a), 0),
            _ => {
                let a = self.get_width(a, Gpr::Rax, width);
                if b == Reg::X0 {
                    self.a.test(width, a, a);
                } else {
                    self.a.alu(Alu::Cmp, width, a, self.homes.place(b));
                }
            }
        }
    }

    fn get_width(&mut self, reg: Reg, scratch: Gpr, width: Width) -> Gpr {
        match width {
            Width::D => self.get_word(reg, scratch),
            Width::Q => self.get(reg, scratch),
        }
    }

    fn jump_to_register(&mut self, op: &Op) {
        self.pay_all();
        let base = self.get(op.rs1, Gpr::Rax);
        self.a.lea(Width::Q, Gpr::Rax, Rm::Mem(base, op.imm));
        self.a.alu_imm(Alu::And, Width::Q, Gpr::Rax, -2);
        if op.rd != Reg::Sink {
            let target = self.target(op.rd, Gpr::Rdx);
            self.load_address(target, self.place(op) + i64::from(op.len));
            self.put(op.rd, target);
        }
        stubs::indirect(self.a, self.stubs.unknown);
    }

    /// On to the block of the guest at this distance from the start of the page.
    fn go_to(&mut self, target: i64) {
        if in_page(target) {
            let from = self.a.jump_ahead();
            self.link(from, target);
            return;
        }
        self.load_address(Gpr::Rax, target);
        match self.address(target) {
            Some(address) => {
                let slot = NATIVES + ((Caches::native_slot(address) as i32) << NATIVE_SHIFT);
                stubs::jump_by_slot(self.a, |part| Rm::Mem(Gpr::Rbp, slot + part), self.stubs.unknown);
            }
            None => stubs::indirect(self.a, self.stubs.unknown),
        }
    }

    /// A jump within the page, until it is connected: it leads to its own exit, which follows here.
    fn link(&mut self, from: Fixup, target: i64) {
        let number = self.first_link + self.links.len() as u32;
        self.links.push((Asm::site(from), target as u64));
        self.a.bind(from);
        self.a.mov_imm(Gpr::Rax, number.into());
        self.a.jump(self.stubs.exit);
    }

    fn cold(&mut self, cold: Cold) {
        match cold {
            Cold::Perform { from, op, loaded, owed, back } => {
                self.a.bind(from);
                owed.pay(self.a, &self.homes);
                self.call_body(op, loaded);
                self.a.jump(back);
            }
            Cold::LoadFloats { from, op, owed, back } => {
                self.a.bind(from);
                owed.pay(self.a, &self.homes);
                self.call_stub(op, self.stubs.load_floats);
                self.a.jump(back);
            }
            Cold::Finish { from, op, owed } => {
                self.a.bind(from);
                owed.pay(self.a, &self.homes);
                self.call_stub(op, self.stubs.finish);
            }
            Cold::OneByOne { from, first, count, floats, owed, back } => {
                self.a.bind(from);
                owed.pay(self.a, &self.homes);
                (self.owed, self.owed_before, self.floats) = (Owed::NOTHING, Owed::NOTHING, floats);
                let ops = self.ops;
                for op in &ops[usize::from(first)..][..usize::from(count)] {
                    self.memory(op);
                }
                self.a.jump(back);
            }
            Cold::NotANumber { from, rd, of, back } => {
                self.a.bind(from);
                self.put_canonical_nan(rd, of);
                self.a.jump(back);
            }
            Cold::Side { from, target, spare: 0, owed } if owed.is_nothing() && in_page(target) => {
                self.link(from, target);
            }
            Cold::Side { from, target, spare, owed } => {
                self.a.bind(from);
                owed.pay(self.a, &self.homes);
                self.leave_homes();
                if spare != 0 {
                    self.a.alu_imm(Alu::Add, Width::Q, Gpr::R15, spare);
                }
                self.go_to(target);
            }
            Cold::Budget { from } => {
                self.a.bind(from);
                self.a.mov_imm(Gpr::Rax, self.native.into());
                self.a.jump(self.stubs.budget);
            }
        }
    }
}
