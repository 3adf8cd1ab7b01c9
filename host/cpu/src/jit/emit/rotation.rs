//! Rotations, which code without Zbb spells as two shifts and an `or`.
//!
//! A shift that is half of one is delayed: its register is owed the result, until somebody reads it or what it is made
//! of goes. The `or` then is a rotation of the common source, and the halves are mostly overwritten before anybody
//! asked.

use super::super::asm::{Asm, Gpr, Rm, Shift, Widen, Width};
use super::super::layout::Homes;
use super::Emitter;
use crate::isa::{Kind, Op, Reg};

use Width::{D, Q};

/// Delayed shifts at a time.
const ROOM: usize = 8;

/// A shift by a constant.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Half {
    rd: Reg,
    src: Reg,
    left: bool,
    by: u8,
    width: Width,
}

impl Half {
    /// Of an instruction that leaves its source alone.
    fn of(op: &Op) -> Option<Half> {
        let (left, width) = match op.kind {
            Kind::slli => (true, Q),
            Kind::srli => (false, Q),
            Kind::slliw => (true, D),
            Kind::srliw => (false, D),
            _ => return None,
        };
        let by = op.imm as u8 & (bits(width) - 1);
        let possible = by != 0 && op.rd != op.rs1 && op.rd != Reg::Sink && op.rs1 != Reg::X0;
        possible.then_some(Half { rd: op.rd, src: op.rs1, left, by, width })
    }

    /// How far the two turn their source to the right.
    fn rotates(a: Half, b: Half) -> Option<u8> {
        let right = if a.left { b } else { a };
        let whole = a.by + b.by == bits(a.width);
        (a.left != b.left && a.src == b.src && a.width == b.width && whole).then_some(right.by)
    }

    /// Puts the result in place, by way of rdx.
    fn pay(self, a: &mut Asm, homes: &Homes) {
        let shift = if self.left { Shift::Shl } else { Shift::Shr };
        a.mov(self.width, Gpr::Rdx, homes.place(self.src));
        a.shift(shift, self.width, Gpr::Rdx, self.by);
        if self.width == D {
            a.widen(Widen::S32, Gpr::Rdx, Gpr::Rdx);
        }
        match homes.place(self.rd) {
            Rm::Reg(host) => a.copy(host, Gpr::Rdx),
            memory => a.store(Q, memory, Gpr::Rdx),
        }
    }
}

fn bits(width: Width) -> u8 {
    if width == Q { 64 } else { 32 }
}

/// Whether the instruction puts the halves of a rotation of this width together: they have no bit in common.
fn joins(op: &Op, width: Width) -> bool {
    matches!(op.kind, Kind::or | Kind::xor | Kind::add) || op.kind == Kind::addw && width == D
}

pub(super) fn writes_integer(op: &Op) -> bool {
    op.kind.row().is_some_and(|row| row.operands.starts_with('d'))
}

/// Whether the instruction reads this integer register. Its fields may be part of an immediate.
pub(super) fn reads(op: &Op, reg: Reg) -> bool {
    let names =
        |field, letter| field == reg && op.kind.row().is_some_and(|row| row.operands.contains(letter));
    names(op.rs1, 's') || names(op.rs2, 't')
}

/// Shifts whose results the registers are owed.
#[derive(Clone, Copy)]
pub(super) struct Delayed {
    halves: [Option<Half>; ROOM],
}

impl Delayed {
    pub(super) const NONE: Delayed = Delayed { halves: [None; ROOM] };

    pub(super) fn is_none(&self) -> bool {
        self.halves.iter().all(Option::is_none)
    }

    pub(super) fn pay(&self, a: &mut Asm, homes: &Homes) {
        for half in self.halves.iter().flatten() {
            half.pay(a, homes);
        }
    }

    fn of(&self, reg: Reg) -> Option<Half> {
        self.halves.into_iter().flatten().find(|half| half.rd == reg)
    }

    /// Whether there was room.
    fn add(&mut self, half: Half) -> bool {
        let free = self.halves.iter_mut().find(|place| place.is_none());
        free.map(|place| *place = Some(half)).is_some()
    }

    /// `reg` is owed nothing.
    pub(super) fn forget(&mut self, reg: Reg) {
        for place in &mut self.halves {
            *place = place.filter(|half| half.rd != reg);
        }
    }
}

/// The shifts in a block that are best delayed, by their numbers: those that nothing but an `or` with the other half
/// reads.
pub(super) fn halves(ops: &[Op]) -> u64 {
    let mut found = 0;
    let mut open: [Option<(Half, u8)>; 33] = [None; 33];
    for op in ops {
        let [a, b] = [op.rs1, op.rs2].map(|source| open[source as usize].take_if(|_| reads(op, source)));
        if let (Some((half, first)), Some((other, second))) = (a, b)
            && joins(op, half.width)
            && Half::rotates(half, other).is_some()
        {
            found |= 1 << first | 1 << second;
        }
        if writes_integer(op) {
            open[op.rd as usize] = None;
            for place in &mut open {
                *place = place.filter(|(half, _)| half.src != op.rd);
            }
        }
        if let Some(half) = Half::of(op) {
            open[op.rd as usize] = Some((half, op.idx));
        }
    }
    found
}

impl Emitter<'_> {
    /// Whether the instruction is part of a rotation: then it is done with. Otherwise all that it reads is in place.
    pub(super) fn rotation(&mut self, op: &Op) -> bool {
        if self.halves == 0 {
            return false;
        }
        if let (Some(a), Some(b)) = (self.owed.delayed.of(op.rs1), self.owed.delayed.of(op.rs2))
            && let Some(by) = Half::rotates(a, b)
            && joins(op, a.width)
        {
            self.rotate(op.rd, a, by);
            return true;
        }
        self.settle_for(std::slice::from_ref(op));
        match Half::of(op) {
            Some(half) if self.halves >> op.idx & 1 != 0 => self.delay(half),
            _ => false,
        }
    }

    /// Puts in place what these instructions read, and what is made of what they write.
    pub(super) fn settle_for(&mut self, ops: &[Op]) {
        for op in ops {
            for half in self.owed.delayed.halves.into_iter().flatten() {
                if reads(op, half.rd) || half.src == op.rd && writes_integer(op) {
                    self.settle(half);
                }
            }
        }
    }

    fn settle(&mut self, half: Half) {
        let shift = if half.left { Shift::Shl } else { Shift::Shr };
        let target = self.target(half.rd, Gpr::Rax);
        self.load_width(target, half.src, half.width);
        self.a.shift(shift, half.width, target, half.by);
        self.put_width(half.rd, target, half.width);
    }

    fn delay(&mut self, half: Half) -> bool {
        if half.width == Q {
            self.extend(half.src);
        }
        let mut delayed = self.owed.delayed;
        delayed.forget(half.rd);
        if !delayed.add(half) {
            return false;
        }
        self.written(half.rd);
        self.known[half.rd as usize] = None;
        self.owed.delayed = delayed;
        true
    }

    /// rd = the source of `half`, rotated right.
    fn rotate(&mut self, rd: Reg, half: Half, by: u8) {
        if rd == Reg::Sink {
            return;
        }
        for other in self.owed.delayed.halves.into_iter().flatten().filter(|other| other.src == rd) {
            self.settle(other);
        }
        let target = self.target(rd, Gpr::Rax);
        let source = match (self.homes.pinned(half.src), half.width) {
            (Some(host), _) => host,
            (None, width) => {
                self.load_width(Gpr::Rax, half.src, width);
                Gpr::Rax
            }
        };
        self.a.rotate_right(half.width, target, source, by);
        self.put_width(rd, target, half.width);
        self.known[rd as usize] = None;
    }
}

const _: () = assert!(crate::tlb::MAX_BLOCK <= 64, "a block's instructions have a bit each");
