//! What entered lately: records in epochs, of which each begins where the whole machine is known.

use crate::rebuild::Start;
use reprise_machine::{
    StopHandle,
    replay::{EndReason, Entry, Event, Record, RecordSink, log::LogError},
};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The kept epochs, and the gate's end of them.
pub(super) struct Ring(Arc<Mutex<State>>);

struct State {
    /// The oldest first. There is always one, and every record goes to the last.
    epochs: VecDeque<Epoch>,
    /// Bytes of records in one epoch at which the machine is called.
    most_bytes: usize,
    /// The machine, unless it has been called in this epoch already.
    stop: Option<StopHandle>,
}

/// A stretch of the run.
struct Epoch {
    /// The machine at its beginning; `None`: it was built, and at power-on.
    start: Option<Arc<Start>>,
    /// Records that somebody shares with us.
    shared: Vec<Arc<Vec<Record>>>,
    fresh: Vec<Record>,
    bytes: usize,
}

impl Epoch {
    fn new(start: Option<Arc<Start>>) -> Self {
        Self { start, shared: Vec::new(), fresh: Vec::new(), bytes: 0 }
    }

    fn push(&mut self, record: Record) {
        self.bytes += size_of::<Record>() + beside(&record.entry);
        self.fresh.push(record);
    }

    /// Its records, which nobody changes any more.
    fn records(&mut self) -> impl Iterator<Item = Arc<Vec<Record>>> {
        if !self.fresh.is_empty() {
            self.shared.push(Arc::new(std::mem::take(&mut self.fresh)));
        }
        self.shared.iter().map(Arc::clone)
    }
}

/// Bytes that an entry has beside itself.
fn beside(entry: &Entry) -> usize {
    match entry {
        Entry::Event(Event::Input { data, .. } | Event::WriteMemory { data, .. }) => data.len(),
        Entry::Digest(digest) => size_of_val(digest.parts.as_slice()),
        Entry::Event(_) | Entry::Seed(_) | Entry::DiskBlock { .. } | Entry::End { .. } => 0,
    }
}

/// What the last epoch has come to.
pub(super) struct Last {
    pub(super) start: Option<Arc<Start>>,
    /// Of its records.
    pub(super) bytes: usize,
}

impl Ring {
    /// With one epoch, which begins with the run. `most_bytes`: of records, at which the machine is called.
    pub(super) fn new(start: Option<Start>, most_bytes: usize) -> Self {
        let epochs = VecDeque::from([Epoch::new(start.map(Arc::new))]);
        Self(Arc::new(Mutex::new(State { epochs, most_bytes, stop: None })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The gate's end.
    pub(super) fn sink(&self) -> Box<dyn RecordSink> {
        Box::new(Sink(Arc::clone(&self.0)))
    }

    /// Have this machine come to a safe point when an epoch has become too large.
    pub(super) fn attach(&self, stop: StopHandle) {
        self.state().stop = Some(stop);
    }

    pub(super) fn last(&self) -> Last {
        let state = self.state();
        let last = state.epochs.back().expect("there is always one");
        Last { start: last.start.clone(), bytes: last.bytes }
    }

    /// Forget what is older than the last epochs, so many of them. Those that are left can still be saved, if any are.
    pub(super) fn forget_but(&self, epochs: usize) {
        let mut state = self.state();
        while state.epochs.len() > epochs {
            state.epochs.pop_front();
        }
    }

    /// From here on it is another epoch.
    pub(super) fn begin(&self, start: Start, stop: StopHandle) {
        let seed = start.stand.seed_record(start.vtime_ns);
        let mut epoch = Epoch::new(Some(Arc::new(start)));
        epoch.push(seed);
        let mut state = self.state();
        state.epochs.push_back(epoch);
        state.stop = Some(stop);
    }

    /// Everything that is kept, as a log. `end`: it has not ended yet, and does so here, behind a mark.
    pub(super) fn cut(&self, end: Option<EndReason>) -> Cut {
        let mut state = self.state();
        let last = state.epochs.back().and_then(|epoch| epoch.fresh.last()).cloned();
        let end = end.zip(last).map(|(reason, last)| {
            Arc::new(vec![Record { entry: Entry::End { reason, chain: [0; 32] }, ..last }])
        });
        let records = state.epochs.iter_mut().flat_map(Epoch::records).chain(end).collect();
        Cut { start: state.epochs[0].start.clone(), records }
    }
}

struct Sink(Arc<Mutex<State>>);

impl RecordSink for Sink {
    fn push(&mut self, record: Record) -> Result<(), LogError> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let most_bytes = state.most_bytes;
        let last = state.epochs.back_mut().expect("there is always one");
        last.push(record);
        if last.bytes >= most_bytes
            && let Some(stop) = state.stop.take()
        {
            stop.request();
        }
        Ok(())
    }
}

/// A log, and where it begins. Nothing changes it any more.
pub(super) struct Cut {
    /// `None`: at power-on.
    pub(super) start: Option<Arc<Start>>,
    records: Vec<Arc<Vec<Record>>>,
}

impl Cut {
    /// Hand over the records as a log that begins with the first of them has them.
    pub(super) fn for_each<E>(&self, mut take: impl FnMut(Record) -> Result<(), E>) -> Result<(), E> {
        let mut chain = [0; 32];
        let mut told = BTreeSet::new();
        for (index, record) in self.records.iter().flat_map(|records| records.iter()).enumerate() {
            let mut record = record.clone();
            match &mut record.entry {
                // A later epoch has them again, for when it is the first.
                Entry::Seed(_) if index > 0 => continue,
                Entry::DiskBlock { device, port, block, .. } if !told.insert((*device, *port, *block)) => {
                    continue;
                }
                Entry::Digest(digest) => chain = digest.chained(&chain),
                Entry::End { chain: whole, .. } => *whole = chain,
                Entry::Seed(_) | Entry::DiskBlock { .. } | Entry::Event(_) => (),
            }
            take(record)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
