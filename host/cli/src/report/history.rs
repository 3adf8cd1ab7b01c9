//! What the log has around a place.

use super::names::Names;
use reprise_machine::replay::{Entry, Position, Record, RecordSource, log::Next};
use std::{cell::RefCell, collections::VecDeque};

/// Records shown before a place.
pub(super) const SHOWN: usize = 10;

/// A record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Its number in the log, from 0.
    pub(crate) number: u64,
    pub(crate) position: Position,
    pub(crate) icount: u64,
    pub(crate) text: String,
}

/// A log up to a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// The last records before it.
    pub(crate) last: Vec<Line>,
    /// The last digest before it.
    pub(crate) digest: Option<Line>,
}

impl Line {
    pub(crate) fn new(number: u64, record: &Record, names: &Names) -> Self {
        let text = names.entry(&record.entry);
        Self { number, position: record.position, icount: record.icount, text }
    }
}

/// Read a log up to a place, or as far as it can be read.
pub(crate) fn before(source: &mut dyn RecordSource, names: &Names, place: Position) -> History {
    let mut last: VecDeque<(u64, Record)> = VecDeque::new();
    let mut digest = None;
    let mut number = 0;
    while let Ok(Next::Record(record)) = source.next() {
        if record.position >= place {
            break;
        }
        match record.entry {
            Entry::Seed(_) => (),
            Entry::Digest(_) => digest = Some((number, record)),
            Entry::Event(_) | Entry::DiskBlock { .. } | Entry::End { .. } => {
                if last.len() == SHOWN {
                    last.pop_front();
                }
                last.push_back((number, record));
            }
        }
        number += 1;
    }
    let line = |(number, record): (u64, Record)| Line::new(number, &record, names);
    History { last: last.into_iter().map(line).collect(), digest: digest.map(line) }
}

/// The number of a record in the log; 0 if it is not there.
pub(super) fn number_of(source: Option<Box<dyn RecordSource>>, record: Option<&Record>) -> u64 {
    let (Some(mut source), Some(record)) = (source, record) else { return 0 };
    let mut number = 0;
    while let Ok(Next::Record(next)) = source.next() {
        if next == *record {
            return number;
        }
        number += 1;
    }
    0
}

/// Opens a log at its beginning.
type Open<'a> = &'a dyn Fn() -> Option<Box<dyn RecordSource>>;

/// Counts the events of single virtual times. Made for questions that mostly go forward: it reads the log along.
pub(crate) struct EventCounter<'a> {
    open: Open<'a>,
    reading: RefCell<Option<Reading>>,
}

struct Reading {
    source: Box<dyn RecordSource>,
    ahead: Option<Record>,
    /// The last time asked for, and the answer.
    last: Option<(u64, u32)>,
}

impl<'a> EventCounter<'a> {
    pub(crate) fn new(open: Open<'a>) -> Self {
        Self { open, reading: RefCell::new(None) }
    }

    /// Events of the log at exactly this time. 0 where the log cannot be read: it is not here that this is told.
    pub(crate) fn at(&self, vtime_ns: u64) -> u32 {
        let mut slot = self.reading.borrow_mut();
        let behind = slot.as_ref().is_some_and(|reading| reading.last.is_some_and(|last| last.0 > vtime_ns));
        if slot.is_none() || behind {
            *slot = (self.open)().map(|source| Reading { source, ahead: None, last: None });
        }
        slot.as_mut().map_or(0, |reading| reading.count(vtime_ns))
    }
}

impl Reading {
    fn count(&mut self, vtime_ns: u64) -> u32 {
        if let Some((_, count)) = self.last.filter(|last| last.0 == vtime_ns) {
            return count;
        }
        let mut count = 0;
        loop {
            let record = match self.ahead.take() {
                Some(record) => record,
                None => match self.source.next() {
                    Ok(Next::Record(record)) => record,
                    Ok(Next::Tail(_)) | Err(_) => break,
                },
            };
            if record.position.vtime_ns > vtime_ns {
                self.ahead = Some(record);
                break;
            }
            if record.position.vtime_ns == vtime_ns && matches!(record.entry, Entry::Event(_)) {
                count = record.position.order + 1;
            }
        }
        self.last = Some((vtime_ns, count));
        count
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use reprise_machine::replay::{
        Control, Event, Seed,
        log::{LogError, Tail},
    };

    /// A log in memory.
    pub(in crate::report) struct Memory(pub(in crate::report) VecDeque<Record>);

    impl RecordSource for Memory {
        fn next(&mut self) -> Result<Next, LogError> {
            Ok(self.0.pop_front().map_or(Next::Tail(Tail::Closed), Next::Record))
        }

        fn seek(&mut self, record: u64) -> Result<(), LogError> {
            panic!("these tests only read on, not to record {record}")
        }
    }

    pub(in crate::report) fn record(vtime_ns: u64, order: u32, entry: Entry) -> Record {
        Record { position: Position { vtime_ns, order }, icount: vtime_ns / 8, entry }
    }

    pub(in crate::report) fn reset() -> Entry {
        Entry::Event(Event::Control(Control::Reset))
    }

    fn log() -> Memory {
        let seed = record(0, 0, Entry::Seed(Seed([0; 32])));
        let events = [(100, 0), (100, 1), (100, 2), (300, 0), (400, 0)];
        let events = events.map(|(vtime_ns, order)| record(vtime_ns, order, reset()));
        let clock = record(300, 1, Entry::Event(Event::HostClock { value_ns: 5 }));
        let mut all = VecDeque::from([seed]);
        all.extend(events);
        all.insert(5, clock);
        Memory(all)
    }

    #[test]
    fn the_events_of_a_time_are_counted_in_any_order() {
        let opened = RefCell::new(0);
        let open = || {
            *opened.borrow_mut() += 1;
            Some(Box::new(log()) as Box<dyn RecordSource>)
        };
        let counter = EventCounter::new(&open);
        for (vtime_ns, count) in
            [(0, 0), (99, 0), (100, 3), (100, 3), (101, 0), (300, 2), (100, 3), (400, 1), (400, 1), (500, 0)]
        {
            assert_eq!(counter.at(vtime_ns), count, "at {vtime_ns}");
        }
        assert_eq!(*opened.borrow(), 2, "once, and once to go back");
    }

    #[test]
    fn history_ends_before_the_place() {
        let history = before(&mut log(), &Names::default(), Position { vtime_ns: 300, order: 1 });
        let numbers: Vec<u64> = history.last.iter().map(|line| line.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
        assert_eq!(history.last[3].text, "reset button");
        assert_eq!(history.digest, None);
    }
}
