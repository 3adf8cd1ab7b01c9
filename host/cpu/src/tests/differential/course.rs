//! How a program is run: in which pieces, by which hart, with which interrupts. A function of the seed.

use super::dice::Dice;
use super::program::Program;
use super::world::Meddle;
use crate::Engine;

/// A piece of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) hart: usize,
    /// Levels of the wires: a bit for each.
    pub(super) wires: u64,
    /// The machine's count of instructions at its end.
    pub(super) end: u64,
    /// What is done to the tested machine before it.
    pub(super) meddle: Meddle,
}

/// The steps of a run.
pub(super) struct Course {
    dice: Dice,
    harts: usize,
    length: u64,
    /// Instructions of a step, and how many such steps are left.
    quantum: u64,
    left: u64,
    noisy: bool,
    meddles: bool,
}

impl Course {
    pub(super) fn of(program: &Program) -> Course {
        let Program { seed, harts, length, .. } = *program;
        let mut dice = Dice::new(!seed);
        let (noisy, meddles) = (dice.one_in(3), dice.one_in(3));
        let course = Course { dice, harts, length, quantum: 0, left: 0, noisy, meddles };
        match program.in_one {
            true => Course { quantum: length, left: u64::MAX, noisy: false, meddles: false, ..course },
            false => course,
        }
    }

    /// The step from this instruction on; none at the end.
    pub(super) fn step(&mut self, icount: u64) -> Option<Step> {
        if icount >= self.length {
            return None;
        }
        if self.left == 0 {
            self.choose_quantum();
        }
        self.left -= 1;
        let dice = &mut self.dice;
        let hart = dice.below(self.harts as u64) as usize;
        let wires = if self.noisy && dice.one_in(4) { dice.below(32) } else { 0 };
        let meddle = if self.meddles && dice.one_in(6) { dice.pick(&MEDDLES) } else { Meddle::Nothing };
        Some(Step { hart, wires, end: (icount + self.quantum).min(self.length), meddle })
    }

    /// Long pieces make code hot; short ones cut it in odd places while it is.
    fn choose_quantum(&mut self) {
        let dice = &mut self.dice;
        (self.quantum, self.left) = match dice.below(8) {
            0 => (1, dice.between(1, 20)),
            1 => (3, dice.between(1, 20)),
            2 => (17, dice.between(1, 20)),
            3 => (100, dice.between(1, 10)),
            4 | 5 => (1000, dice.between(1, 4)),
            6 => (dice.between(1, 3000), 1),
            _ => (1_000_000, 1),
        };
    }
}

const MEDDLES: [Meddle; 7] = [
    Meddle::DropCaches,
    Meddle::SaveAndLoad,
    Meddle::TakeDirty,
    Meddle::TakeDirty,
    Meddle::Engine(Engine::Interp),
    Meddle::Engine(Engine::Threaded),
    Meddle::Engine(Engine::Jit),
];
