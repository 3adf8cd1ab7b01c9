//! Whose turn it is: harts run round-robin in fixed quanta of instructions, on one thread.

/// The state of the round. Guest-visible and deterministic: a function of the icount and of who waits.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    // Configuration.
    harts: usize,
    quantum: u64,
    // State.
    turn: usize,
    turn_ends: u64,
    /// Generator of a varied schedule; 0 gives every turn the same length.
    seed: u64,
}

impl Schedule {
    pub(crate) fn new(harts: usize, quantum: u64, seed: u64) -> Schedule {
        assert!(harts > 0 && quantum > 0, "the board's parser refuses zero harts and zero quanta");
        let mut schedule = Schedule { harts, quantum, turn: 0, turn_ends: 0, seed };
        schedule.turn_ends = schedule.length();
        schedule
    }

    /// The hart to run at `icount`, and the icount at which its turn ends; `None` if no hart can run.
    pub(crate) fn pick(
        &mut self,
        icount: u64,
        mut runnable: impl FnMut(usize) -> bool,
    ) -> Option<(usize, u64)> {
        if self.harts == 1 {
            // Nobody to take turns with.
            return runnable(0).then_some((0, u64::MAX));
        }
        if icount < self.turn_ends && runnable(self.turn) {
            return Some((self.turn, self.turn_ends));
        }
        let next =
            (1..=self.harts).map(|step| (self.turn + step) % self.harts).find(|&hart| runnable(hart))?;
        self.turn = next;
        self.turn_ends = icount.saturating_add(self.length());
        Some((next, self.turn_ends))
    }

    /// State, for the digest: whose turn, until when, and the generator.
    pub(crate) fn state(&self) -> [u64; 3] {
        [self.turn as u64, self.turn_ends, self.seed]
    }

    /// Back to what [`Schedule::state`] gave. False if no schedule of so many harts can be there.
    pub(crate) fn restore(&mut self, [turn, turn_ends, seed]: [u64; 3]) -> bool {
        match usize::try_from(turn).ok().filter(|&turn| turn < self.harts) {
            Some(turn) => {
                (self.turn, self.turn_ends, self.seed) = (turn, turn_ends, seed);
                true
            }
            None => false,
        }
    }

    /// Length of the next turn, in instructions: the quantum, or with a seed between half of it and one and a half.
    fn length(&mut self) -> u64 {
        if self.seed == 0 || self.quantum < 2 {
            return self.quantum;
        }
        self.quantum / 2 + crate::chaos::splitmix(&mut self.seed) % self.quantum + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_go_round_and_waiting_harts_are_passed_over() {
        let mut s = Schedule::new(3, 100, 0);
        assert_eq!(s.pick(0, |_| true), Some((0, 100)));
        assert_eq!(s.pick(99, |_| true), Some((0, 100)));
        assert_eq!(s.pick(100, |_| true), Some((1, 200)));
        assert_eq!(s.pick(150, |h| h != 1), Some((2, 250)));
        assert_eq!(s.pick(250, |h| h == 2), Some((2, 350)), "alone, it goes on");
        assert_eq!(s.pick(260, |_| false), None);
    }

    #[test]
    fn a_hart_alone_is_never_cut_short() {
        let mut s = Schedule::new(1, 100, 0);
        assert_eq!((s.pick(0, |_| true), s.pick(500, |_| true)), (Some((0, u64::MAX)), Some((0, u64::MAX))));
        assert_eq!(s.pick(500, |_| false), None);
    }

    #[test]
    fn asking_again_changes_nothing() {
        let mut s = Schedule::new(2, 50, 7);
        let first = s.pick(0, |_| true);
        assert_eq!(s.pick(0, |_| true), first);
        assert_eq!(s.pick(10, |_| true), first);
    }

    #[test]
    fn seeds_give_different_schedules() {
        let turns = |seed| {
            let mut s = Schedule::new(2, 1000, seed);
            let mut at = 0;
            (0..20).map(|_| (at = s.pick(at, |_| true).map_or(0, |(_, end)| end), at).1).collect::<Vec<u64>>()
        };
        assert_eq!(turns(1), turns(1));
        assert_ne!(turns(1), turns(2));
    }
}
