//! How often code was executed, by address.

use std::collections::{BTreeMap, HashMap};

/// Stretches of code, and how often each was executed.
#[derive(Default)]
pub(crate) struct Counts(HashMap<(u64, u64), u64>);

/// How often every address was executed.
pub(crate) struct Executed {
    /// Where it changes, and to what.
    steps: BTreeMap<u64, u64>,
}

impl Counts {
    /// So many bytes from `pc` on were executed once.
    pub(crate) fn add(&mut self, pc: u64, bytes: u64) {
        *self.0.entry((pc, bytes)).or_default() += 1;
    }

    pub(crate) fn by_address(&self) -> Executed {
        let mut changes = BTreeMap::<u64, (u64, u64)>::new();
        for (&(pc, bytes), &count) in &self.0 {
            changes.entry(pc).or_default().0 += count;
            // One that reaches the last address has no end behind it.
            if let Some(end) = pc.checked_add(bytes) {
                changes.entry(end).or_default().1 += count;
            }
        }
        let mut now = 0;
        let steps = changes.into_iter().map(|(address, (more, fewer))| {
            now = now + more - fewer;
            (address, now)
        });
        Executed { steps: steps.collect() }
    }
}

impl Executed {
    /// How often what is at an address was executed.
    pub(crate) fn at(&self, address: u64) -> u64 {
        self.steps.range(..=address).next_back().map_or(0, |(_, &count)| count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_add_up() {
        let mut counts = Counts::default();
        for (pc, bytes) in [(0x10, 8), (0x10, 8), (0x14, 8), (0x30, 4)] {
            counts.add(pc, bytes);
        }
        let executed = counts.by_address();
        let at = [0xf, 0x10, 0x13, 0x14, 0x17, 0x18, 0x1b, 0x1c, 0x30, 0x34].map(|at| executed.at(at));
        assert_eq!(at, [0, 2, 2, 3, 3, 1, 1, 0, 1, 0]);
    }

    #[test]
    fn a_stretch_may_end_with_the_last_address() {
        let mut counts = Counts::default();
        for (pc, bytes) in [(0, 4), (u64::MAX - 7, 8), (u64::MAX - 3, 4)] {
            counts.add(pc, bytes);
        }
        let executed = counts.by_address();
        let at = [0, 3, 4, u64::MAX - 8, u64::MAX - 7, u64::MAX - 3, u64::MAX].map(|at| executed.at(at));
        assert_eq!(at, [1, 1, 0, 0, 1, 2, 2]);
    }
}
