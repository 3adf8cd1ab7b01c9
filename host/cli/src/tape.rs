//! A recording's log as a replay reads it: what has passed so far, and what it holds to its end.

use reprise_machine::{
    PortChange, Until,
    replay::{
        EndReason, Entry, Event, Position, Record, RecordSource,
        log::{LogError, LogReader, Next, SegmentSource, Tail},
    },
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What has passed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passed {
    /// What entered.
    pub(crate) events: u64,
    /// Digests of the state that were compared.
    pub(crate) digests: u64,
    /// Ports whose far end was connected when the log last spoke of it: device index and port id.
    pub(crate) open: BTreeSet<(u32, u32)>,
}

/// Shares what has passed with whoever started the replay.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter(Arc<Mutex<Passed>>);

impl Counter {
    pub(crate) fn passed(&self) -> Passed {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Passed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records between two counts that are kept: as many are read again, at most, when the log is entered somewhere.
const KEPT_EVERY: u64 = 1024;

/// A log that is counted while it is read.
pub(crate) struct Counted<R> {
    reader: R,
    counter: Counter,
    /// Read, and not passed before the next one is asked for.
    head: Option<Mark>,
    /// Number of the record that is read next.
    next: u64,
    /// What had passed when the record with this number was read next; ascending.
    kept: Vec<(u64, Passed)>,
}

/// What counts of a record.
#[derive(Clone, Copy)]
enum Mark {
    Event,
    Change(u32, u32, PortChange),
    Digest,
    Other,
}

impl<R> Counted<R> {
    pub(crate) fn new(reader: R, counter: Counter) -> Self {
        Self { reader, counter, head: None, next: 0, kept: Vec::new() }
    }
}

impl<R: RecordSource> RecordSource for Counted<R> {
    fn next(&mut self) -> Result<Next, LogError> {
        if let Some(mark) = self.head.take() {
            self.counter.lock().count(mark);
        }
        if self.next.is_multiple_of(KEPT_EVERY) && self.kept.last().is_none_or(|(at, _)| *at < self.next) {
            self.kept.push((self.next, self.counter.passed()));
        }
        let next = self.reader.next()?;
        if let Next::Record(record) = &next {
            self.head = Some(Mark::of(record));
            self.next += 1;
        }
        Ok(next)
    }

    fn seek(&mut self, record: u64) -> Result<(), LogError> {
        let behind = self.kept.partition_point(|(at, _)| *at <= record);
        let (at, passed) = match behind.checked_sub(1) {
            Some(index) => self.kept[index].clone(),
            None => (0, Passed::default()),
        };
        self.reader.seek(at)?;
        (self.head, self.next) = (None, at);
        *self.counter.lock() = passed;
        while self.next < record {
            if let Next::Tail(_) = self.next()? {
                return Err(LogError::NoRecord { record, records: self.next });
            }
        }
        // All of these lie behind us.
        if let Some(mark) = self.head.take() {
            self.counter.lock().count(mark);
        }
        Ok(())
    }
}

/// A log as if nobody had taken digests when it was made: for a machine whose state may be another.
pub(crate) struct Undigested<R>(pub(crate) R);

impl<R: RecordSource> RecordSource for Undigested<R> {
    fn next(&mut self) -> Result<Next, LogError> {
        loop {
            let mut next = self.0.next()?;
            if let Next::Record(record) = &mut next {
                match &mut record.entry {
                    Entry::Digest(_) => continue,
                    Entry::End { chain, .. } => *chain = [0; 32],
                    Entry::Event(_) | Entry::Seed(_) | Entry::DiskBlock { .. } => {}
                }
            }
            return Ok(next);
        }
    }

    /// To the log's beginning only: records have other numbers here.
    fn seek(&mut self, record: u64) -> Result<(), LogError> {
        self.0.seek(record)
    }
}

impl Mark {
    fn of(record: &Record) -> Self {
        match &record.entry {
            Entry::Event(Event::PortChange { device, port, change }) => Self::Change(*device, *port, *change),
            Entry::Event(_) => Self::Event,
            Entry::Digest(_) => Self::Digest,
            Entry::Seed(_) | Entry::DiskBlock { .. } | Entry::End { .. } => Self::Other,
        }
    }
}

impl Passed {
    fn count(&mut self, mark: Mark) {
        match mark {
            Mark::Event => self.events += 1,
            Mark::Change(device, port, change) => {
                self.events += 1;
                match change {
                    PortChange::Opened => drop(self.open.insert((device, port))),
                    PortChange::Closed => drop(self.open.remove(&(device, port))),
                    PortChange::Break => (),
                }
            }
            Mark::Digest => self.digests += 1,
            Mark::Other => (),
        }
    }
}

/// What a log holds, from one end to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Course {
    /// Where its last record is.
    pub(crate) last: Position,
    /// Instructions there.
    pub(crate) icount: u64,
    /// What enters.
    pub(crate) events: u64,
    /// How the run ended, unless the log breaks off.
    pub(crate) end: Option<EndReason>,
    pub(crate) tail: Tail,
}

impl Course {
    /// Read a log to its end.
    ///
    /// # Errors
    /// It cannot be read that far.
    pub(crate) fn of<S: SegmentSource>(reader: &mut LogReader<S>) -> Result<Self, LogError> {
        let (mut last, mut icount, mut events, mut end) = (Position::default(), 0, 0, None);
        loop {
            match reader.next()? {
                Next::Tail(tail) => return Ok(Self { last, icount, events, end, tail }),
                Next::Record(record) => {
                    (last, icount) = (record.position, record.icount);
                    match record.entry {
                        Entry::Event(_) => events += 1,
                        Entry::End { reason, .. } => end = Some(reason),
                        Entry::Seed(_) | Entry::Digest(_) | Entry::DiskBlock { .. } => (),
                    }
                }
            }
        }
    }

    /// Where to stop so that nothing of the log but its end is left.
    pub(crate) fn before_end(&self) -> Option<Until> {
        self.end.map(|_| Until::Position(self.last))
    }
}

/// Where the event of this number is; else how many there are.
///
/// # Errors
/// The log cannot be read that far.
pub(crate) fn event<S: SegmentSource>(
    reader: &mut LogReader<S>,
    number: u64,
) -> Result<Result<Position, u64>, LogError> {
    let mut events = 0;
    loop {
        match reader.next()? {
            Next::Tail(_) => return Ok(Err(events)),
            Next::Record(Record { position, entry: Entry::Event(_), .. }) => {
                if events == number {
                    return Ok(Ok(position));
                }
                events += 1;
            }
            Next::Record(_) => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reprise_machine::Seed;

    struct Records(Vec<Entry>, usize);

    impl RecordSource for Records {
        fn next(&mut self) -> Result<Next, LogError> {
            self.1 += 1;
            Ok(match self.0.get(self.1 - 1).cloned() {
                None => Next::Tail(Tail::Closed),
                Some(entry) => Next::Record(Record { position: Position::default(), icount: 0, entry }),
            })
        }

        fn seek(&mut self, record: u64) -> Result<(), LogError> {
            self.1 = usize::try_from(record).unwrap();
            Ok(())
        }
    }

    #[test]
    fn what_was_only_read_has_not_passed() {
        let change = |change| Entry::Event(Event::PortChange { device: 1, port: 2, change });
        let entries = vec![
            Entry::Seed(Seed::from_number(0)),
            Entry::Event(Event::HostClock { value_ns: 1 }),
            change(PortChange::Opened),
            change(PortChange::Closed),
        ];
        let counter = Counter::default();
        let mut source = Counted::new(Records(entries, 0), counter.clone());
        let mut next = || {
            source.next().unwrap();
            let passed = counter.passed();
            (passed.events, passed.open.len())
        };
        assert_eq!([next(), next(), next(), next(), next()], [(0, 0), (0, 0), (1, 0), (2, 1), (3, 0)]);
    }

    #[test]
    fn counts_are_right_wherever_the_log_is_entered() {
        let event = |number: u64| match number % 3 {
            0 => Entry::Event(Event::PortChange { device: 1, port: 2, change: PortChange::Opened }),
            1 => Entry::Event(Event::HostClock { value_ns: number }),
            _ => Entry::Event(Event::PortChange { device: 1, port: 2, change: PortChange::Closed }),
        };
        let mut entries = vec![Entry::Seed(Seed::from_number(0))];
        entries.extend((0..5000).map(event));
        let counter = Counter::default();
        let mut source = Counted::new(Records(entries, 0), counter.clone());
        for record in [0, 3000, 1, 4999, 1024, 1025, 17, 4097, 5001] {
            source.seek(record).unwrap();
            let passed = counter.passed();
            // The seed is no event.
            let events = record.saturating_sub(1);
            assert_eq!(
                (passed.events, passed.open.len()),
                (events, usize::from(events % 3 == 1 || events % 3 == 2))
            );
            if record < 5001 {
                source.next().unwrap();
            }
        }
        assert!(matches!(source.seek(5002), Err(LogError::NoRecord { .. })));
    }
}
