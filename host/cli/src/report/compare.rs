//! Two logs, record by record.

use super::{
    history::{Line, SHOWN},
    names::Names,
};
use reprise_machine::replay::{
    Entry, Event, Position, Record, RecordSource,
    log::{LogError, Next},
};
use std::collections::VecDeque;

/// How two logs compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// Records that both have, without those that are in [`Comparison::unpaired`].
    pub(crate) common: u64,
    /// The last of them.
    pub(crate) last: Vec<Line>,
    /// Digests at a place where the other log has none: they were taken at another interval.
    pub(crate) unpaired: u64,
    /// The first records that are not the same.
    pub(crate) parting: Option<Parting>,
}

/// Where two logs part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parting {
    /// What the first log has there; `None`: it has ended.
    pub(crate) a: Option<Line>,
    pub(crate) b: Option<Line>,
    /// The earlier of both places.
    pub(crate) position: Position,
    /// Something else came from outside: the machines need not differ before it.
    pub(crate) input: bool,
}

/// A log, and its next record.
struct Side<'a> {
    which: usize,
    source: &'a mut dyn RecordSource,
    next: Option<Record>,
    /// The number of that record.
    number: u64,
}

impl<'a> Side<'a> {
    fn new(which: usize, source: &'a mut dyn RecordSource) -> Result<Self, (usize, LogError)> {
        let mut side = Self { which, source, next: None, number: 0 };
        side.next = side.read()?;
        Ok(side)
    }

    fn read(&mut self) -> Result<Option<Record>, (usize, LogError)> {
        Ok(match self.source.next().map_err(|error| (self.which, error))? {
            Next::Record(record) => Some(record),
            Next::Tail(_) => None,
        })
    }

    fn take(&mut self) -> Result<Option<(u64, Record)>, (usize, LogError)> {
        let next = self.read()?;
        let taken = std::mem::replace(&mut self.next, next);
        self.number += 1;
        Ok(taken.map(|record| (self.number - 1, record)))
    }

    fn line(&self, names: &Names) -> Option<Line> {
        self.next.as_ref().map(|record| Line::new(self.number, record, names))
    }
}

/// Compare two logs up to the first record that differs. `names`: the devices of either.
///
/// # Errors
/// A log cannot be read: the first (0) or the second.
pub(crate) fn compare(
    a: &mut dyn RecordSource,
    b: &mut dyn RecordSource,
    names: [&Names; 2],
) -> Result<Comparison, (usize, LogError)> {
    let (mut a, mut b) = (Side::new(0, a)?, Side::new(1, b)?);
    let (mut common, mut unpaired) = (0, 0);
    let mut last = VecDeque::new();
    loop {
        if is_unpaired_digest(a.next.as_ref(), b.next.as_ref()) {
            unpaired += 1;
            a.take()?;
        } else if is_unpaired_digest(b.next.as_ref(), a.next.as_ref()) {
            unpaired += 1;
            b.take()?;
        } else if a.next.is_none() && b.next.is_none()
            || !same(a.next.as_ref(), b.next.as_ref(), unpaired > 0)
        {
            break;
        } else {
            b.take()?;
            common += 1;
            if last.len() == SHOWN {
                last.pop_front();
            }
            last.extend(a.take()?);
        }
    }
    let heads = [&a.next, &b.next];
    let position = heads.iter().filter_map(|head| head.as_ref()).map(|record| record.position).min();
    let parting = position.map(|position| Parting {
        a: a.line(names[0]),
        b: b.line(names[1]),
        position,
        input: heads
            .iter()
            .filter_map(|head| head.as_ref())
            .any(|record| record.position == position && comes_from_outside(&record.entry)),
    });
    let last = last.iter().map(|(number, record)| Line::new(*number, record, names[0])).collect();
    Ok(Comparison { common, last, unpaired, parting })
}

/// Whether `record` is a digest that the other log does not have because it has none at that place.
fn is_unpaired_digest(record: Option<&Record>, other: Option<&Record>) -> bool {
    let (Some(record), Some(other)) = (record, other) else { return false };
    let is_digest = |record: &Record| matches!(record.entry, Entry::Digest(_));
    is_digest(record)
        && (record.position < other.position || record.position == other.position && !is_digest(other))
}

/// The parts of a digest and, where digests are unpaired, their chain may differ.
fn same(a: Option<&Record>, b: Option<&Record>, unpaired: bool) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return false };
    let entries = match (&a.entry, &b.entry) {
        (Entry::Digest(a), Entry::Digest(b)) => a.whole == b.whole,
        (Entry::End { reason, .. }, Entry::End { reason: other, .. }) if unpaired => reason == other,
        (a, b) => a == b,
    };
    entries && a.position == b.position && a.icount == b.icount
}

/// Not computed by the machine.
fn comes_from_outside(entry: &Entry) -> bool {
    match entry {
        Entry::Event(event) => match event {
            Event::Input { .. }
            | Event::PortChange { .. }
            | Event::Control(_)
            | Event::HostClock { .. }
            | Event::WriteMemory { .. }
            | Event::WriteRegister { .. } => true,
            Event::BottomHalf { .. } => false,
        },
        Entry::Seed(_) | Entry::DiskBlock { .. } => true,
        // Why a run ended was somebody's wish as a rule; a guest that powered off is caught by its digest.
        Entry::End { .. } => true,
        Entry::Digest(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::history::tests::{Memory, record, reset},
        *,
    };
    use reprise_machine::replay::{EndReason, StateDigest};

    fn digest(hash: u8) -> Entry {
        Entry::Digest(StateDigest { whole: [hash; 32], parts: vec![hash.into()] })
    }

    fn end(chain: u8) -> Entry {
        Entry::End { reason: EndReason::Limit, chain: [chain; 32] }
    }

    fn compared(a: &[Record], b: &[Record]) -> Comparison {
        let log = |records: &[Record]| Memory(records.to_vec().into());
        compare(&mut log(a), &mut log(b), [&Names::default(); 2]).unwrap()
    }

    #[test]
    fn logs_that_are_the_same_do_not_part() {
        let log = [record(8, 0, reset()), record(16, 0, digest(1)), record(24, 0, end(1))];
        let all = compared(&log, &log);
        assert_eq!((all.common, all.unpaired, all.last.len(), all.parting), (3, 0, 3, None));
    }

    #[test]
    fn another_interval_of_digests_is_no_difference() {
        let a = [
            record(8, 0, digest(1)),
            record(16, 0, digest(2)),
            record(24, 0, digest(3)),
            record(24, 0, end(1)),
        ];
        let b = [record(16, 0, digest(2)), record(24, 0, digest(3)), record(24, 0, end(2))];
        for (a, b) in [(a.as_slice(), b.as_slice()), (&b, &a)] {
            let all = compared(a, b);
            assert_eq!((all.common, all.unpaired, all.parting), (3, 1, None));
        }
        // But another digest is.
        let b = [record(16, 0, digest(9)), record(24, 0, digest(3)), record(24, 0, end(2))];
        let parting = compared(&a, &b).parting.unwrap();
        assert_eq!((parting.position.vtime_ns, parting.input), (16, false));
        assert_eq!((parting.a.unwrap().number, parting.b.unwrap().number), (1, 0));
    }

    #[test]
    fn the_first_record_that_differs_is_found() {
        let a = [record(8, 0, reset()), record(16, 0, reset()), record(24, 0, end(1))];
        let late = [record(8, 0, reset()), record(20, 0, reset()), record(24, 0, end(1))];
        let parting = compared(&late, &a).parting.unwrap();
        assert_eq!((parting.position.vtime_ns, parting.input), (16, true));
        let short = [record(8, 0, reset())];
        let parting = compared(&a, &short).parting.unwrap();
        assert_eq!((parting.a.map(|line| line.number), parting.b), (Some(1), None));
        let mut other = a.clone();
        other[0].icount += 1;
        assert_eq!(compared(&a, &other).common, 0, "the icount counts");
    }
}
