//! The snapshots that a timeline keeps, within bounds.

use reprise_machine::{Snapshot, Status, Until};
use std::ops::Range;

/// Snapshots, whatever they cost: the list is searched and thinned.
const MOST: usize = 2000;

/// A place, and what is needed to be there.
pub(super) struct KeptSnapshot {
    icount: u64,
    vtime_ns: u64,
    /// Lines that the console has seen.
    lines: u64,
    pub(super) snapshot: Snapshot,
}

impl KeptSnapshot {
    pub(super) fn place(&self) -> (u64, u64) {
        (self.icount, self.vtime_ns)
    }
}

/// Snapshots in the order of their places. The first one, of the beginning, always stays.
pub(super) struct Kept {
    snapshots: Vec<KeptSnapshot>,
    /// What they may cost, in bytes.
    memory_bytes: usize,
    bytes: usize,
}

impl Kept {
    pub(super) fn new(memory_bytes: usize) -> Self {
        Self { snapshots: Vec::new(), memory_bytes, bytes: 0 }
    }

    /// The last one that lies before a place, for certain: there may be more than one state at an instruction, as time
    /// passes while all harts wait.
    ///
    /// # Panics
    /// If there is none at all.
    pub(super) fn before(&self, to: Option<Until>) -> &KeptSnapshot {
        let behind = self.snapshots.partition_point(|kept| {
            let status = Status { icount: kept.icount, instret: 0, vtime_ns: kept.vtime_ns };
            is_before(status, kept.lines, to)
        });
        &self.snapshots[behind.saturating_sub(1)]
    }

    /// Whether one lies within so many instructions.
    pub(super) fn has_near(&self, status: Status, instructions: u64) -> bool {
        let at =
            self.snapshots.partition_point(|kept| kept.icount < status.icount.saturating_sub(instructions));
        self.snapshots.get(at).is_some_and(|kept| kept.icount <= status.icount.saturating_add(instructions))
    }

    /// Keep one. If they cost too much, others go: those near each other, and of these those far from this one.
    pub(super) fn insert(&mut self, status: Status, lines: u64, snapshot: Snapshot) {
        let Status { icount, vtime_ns, .. } = status;
        let at = self.snapshots.partition_point(|kept| kept.place() < (icount, vtime_ns));
        self.snapshots.insert(at, KeptSnapshot { icount, vtime_ns, lines, snapshot });
        self.bytes += self.cost(at);
        while self.snapshots.len() > 2 && (self.bytes > self.memory_bytes || self.snapshots.len() > MOST) {
            self.thin(icount);
        }
    }

    /// What goes if one goes.
    fn cost(&self, at: usize) -> usize {
        let snapshot = &self.snapshots[at].snapshot;
        let sections = snapshot.sections.iter().map(|(_, record)| record.len()).sum::<usize>();
        let before = at.checked_sub(1).map(|before| &self.snapshots[before].snapshot.ram);
        let after = self.snapshots.get(at + 1).map(|after| &after.snapshot.ram);
        let pages = match (before, after) {
            (Some(before), after) => snapshot.ram.alone(before, after),
            // The first one never goes.
            (None, _) => 0,
        };
        sections + pages * reprise_machine::PAGE_BYTES
    }

    /// Drop the one that is missed least.
    fn thin(&mut self, here: u64) {
        let least = least_missed(1..self.snapshots.len() - 1, |at| self.snapshots[at].icount, here);
        self.bytes = self.bytes.saturating_sub(self.cost(least));
        self.snapshots.remove(least);
    }
}

/// Which of some snapshots is missed least by somebody who works `here`: gaps grow with the distance from there.
/// `place` says where one stands, for those behind and before the `candidates` too.
///
/// # Panics
/// If there are no candidates.
pub(crate) fn least_missed(candidates: Range<usize>, place: impl Fn(usize) -> u64, here: u64) -> usize {
    let gap = |at: usize| (place(at + 1) - place(at.saturating_sub(1))) as f64;
    let missed = |at: &usize| gap(*at) / (place(*at).abs_diff(here) as f64 + 1.0);
    let least = candidates.min_by(|a, b| missed(a).total_cmp(&missed(b)));
    least.expect("there is one")
}

/// Whether a place lies ahead of where a machine stands, for certain.
pub(super) fn is_before(status: Status, lines: u64, to: Option<Until>) -> bool {
    match to {
        None => true,
        Some(Until::Icount(icount)) => status.icount < icount,
        Some(Until::Position(position)) => status.vtime_ns < position.vtime_ns,
        Some(Until::Lines { lines: wanted, .. }) => lines < wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reprise_machine::RamImage;
    use std::sync::Arc;

    fn status(icount: u64) -> Status {
        Status { icount, instret: 0, vtime_ns: icount }
    }

    /// Each with a page of its own.
    fn snapshot(number: u64) -> Snapshot {
        let mut ram = RamImage::zeroed(4);
        ram.set(1, Some(Arc::new([number as u8; reprise_machine::PAGE_BYTES])));
        Snapshot { sections: Vec::new(), ram, disks: Vec::new() }
    }

    #[test]
    fn the_nearest_before_a_place_is_found() {
        let mut kept = Kept::new(1 << 30);
        for icount in [0, 300, 100, 200] {
            kept.insert(status(icount), icount / 100, snapshot(icount));
        }
        let at = |to| kept.before(to).icount;
        assert_eq!(at(None), 300);
        assert_eq!([0, 1, 100, 101, 999].map(|n| at(Some(Until::Icount(n)))), [0, 0, 0, 100, 300]);
        let line = |lines| at(Some(Until::Lines { device: 0, port: 0, lines }));
        assert_eq!([1, 2, 3, 4].map(line), [0, 100, 200, 300]);
        assert!(kept.has_near(status(150), 50) && !kept.has_near(status(150), 49));
    }

    #[test]
    fn what_is_kept_is_bounded_and_thins_with_the_distance() {
        let mut kept = Kept::new(40 * reprise_machine::PAGE_BYTES);
        (0..500).for_each(|number| kept.insert(status(number * 1000), 0, snapshot(number)));
        assert!(kept.snapshots.len() <= 42, "{}", kept.snapshots.len());
        assert_eq!((kept.snapshots[0].icount, kept.before(None).icount), (0, 499_000));
        let gaps: Vec<u64> = kept.snapshots.windows(2).map(|pair| pair[1].icount - pair[0].icount).collect();
        let half = gaps.len() / 2;
        let mean = |gaps: &[u64]| gaps.iter().sum::<u64>() / gaps.len() as u64;
        assert!(mean(&gaps[..half]) > 3 * mean(&gaps[half..]), "{gaps:?}");
    }
}
