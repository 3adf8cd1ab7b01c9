//! Chaos mode: stops, cache drops and changes of the engine at seeded random instructions. None of it may be visible to
//! the guest.

use reprise_cpu::Engine;

/// Mean distance between two disturbances, in instructions.
const MEAN: u64 = 20_000;

/// One step of the SplitMix64 generator (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014).
pub(crate) fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What to do to a machine that must not notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disturbance {
    /// Forget every TLB entry and decoded block.
    DropCaches,
    /// Execute instructions by another engine from here on, or by the same.
    Engine(Engine),
    /// Stop, and continue.
    Stop,
}

/// When the next disturbance comes.
#[derive(Debug)]
pub(crate) struct Chaos {
    state: u64,
    next: u64,
    /// Nobody has asked for one engine.
    changes_engine: bool,
}

impl Chaos {
    pub(crate) fn new(seed: u64, changes_engine: bool) -> Chaos {
        let mut chaos = Chaos { state: seed, next: 0, changes_engine };
        chaos.plan(0);
        chaos
    }

    /// The icount that a hart must not pass.
    pub(crate) fn next_icount(&self) -> u64 {
        self.next
    }

    /// What happens at `icount`, if anything does.
    pub(crate) fn at(&mut self, icount: u64) -> Option<Disturbance> {
        if icount < self.next {
            return None;
        }
        self.plan(icount);
        let draw = splitmix(&mut self.state);
        let kinds = if self.changes_engine { 4 } else { 2 };
        Some(match draw % kinds {
            0 => Disturbance::DropCaches,
            1 => Disturbance::Stop,
            _ => Disturbance::Engine(Engine::ALL[(draw >> 2) as usize % Engine::ALL.len()]),
        })
    }

    /// The machine was taken to another place.
    pub(crate) fn moved(&mut self, icount: u64) {
        self.plan(icount);
    }

    fn plan(&mut self, icount: u64) {
        // One in eight comes within a few instructions of the last, where blocks and traps are cut in odd places.
        let draw = splitmix(&mut self.state);
        let span = if draw & 7 == 0 { 8 } else { 2 * MEAN };
        self.next = icount + 1 + (draw >> 3) % span;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disturbances(changes_engine: bool) -> Vec<Disturbance> {
        let mut chaos = Chaos::new(3, changes_engine);
        let mut next = || {
            let icount = chaos.next_icount();
            chaos.at(icount)
        };
        (0..1000).map(|_| next().expect("it is due")).collect()
    }

    #[test]
    fn everything_happens_often() {
        let all = disturbances(true);
        let of = |wanted: Disturbance| all.iter().filter(|found| **found == wanted).count();
        assert!(of(Disturbance::DropCaches) > 200 && of(Disturbance::Stop) > 200);
        assert!(
            Engine::ALL
                .into_iter()
                .all(|engine| of(Disturbance::Engine(engine)) > 500 / Engine::ALL.len() / 2)
        );
    }

    #[test]
    fn an_engine_that_was_asked_for_stays() {
        let all = disturbances(false);
        assert!(!all.iter().any(|found| matches!(found, Disturbance::Engine(_))));
    }
}
