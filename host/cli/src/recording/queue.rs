//! Records on their way to the disk: a bounded queue, and the thread behind it that writes the log.
//!
//! The machine's thread waits only when the queue is full. What is in the queue for longer than [`FLUSH_AFTER`] is on
//! its way to the operating system, so `kill -9` costs no more than that.

use reprise_machine::replay::{
    Entry, Event, Record, RecordSink,
    log::{LogError, LogWriter, Sink},
};
use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Records in the queue before the machine waits.
const MAX_RECORDS: usize = 4096;
/// Bytes of inputs in the queue before the machine waits.
const MAX_BYTES: usize = 16 << 20;
/// A record reaches the operating system this long after it was made.
const FLUSH_AFTER: Duration = Duration::from_millis(100);
/// And the disk, so that a power cut costs no more than this.
const SYNC_AFTER: Duration = Duration::from_secs(2);

/// The machine's end.
pub(crate) struct QueueSink(Arc<Shared>);

/// The owner's end: waits for the thread.
pub(super) struct Writing {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<(), LogError>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    records: VecDeque<Record>,
    bytes: usize,
    /// The first records are on the disk.
    begun: bool,
    /// The machine is gone.
    closed: bool,
    /// Writing failed.
    failure: Option<LogError>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, for_at_most: Option<Duration>) -> MutexGuard<'a, State> {
        match for_at_most {
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(time) => self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0,
        }
    }
}

/// Start the thread that writes. `failed` is called once, from that thread, when it no longer can.
pub(super) fn start<S: Sink + 'static>(
    writer: LogWriter<S>,
    failed: impl FnOnce() + Send + 'static,
) -> io::Result<(QueueSink, Writing)> {
    let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
    let theirs = Arc::clone(&shared);
    let thread = std::thread::Builder::new().name("reprise-log".into()).spawn(move || {
        let (begun, unflushed, unsynced) = (false, None, None);
        Thread { shared: theirs, writer, begun, unflushed, unsynced }.run(failed)
    })?;
    Ok((QueueSink(Arc::clone(&shared)), Writing { shared, thread }))
}

impl RecordSink for QueueSink {
    fn push(&mut self, record: Record) -> Result<(), LogError> {
        let bytes = data_bytes(&record);
        let mut state = self.0.state();
        loop {
            if let Some(failure) = &state.failure {
                return Err(again(failure));
            }
            let room = state.records.len() < MAX_RECORDS && state.bytes + bytes <= MAX_BYTES;
            if room || state.records.is_empty() {
                break;
            }
            state = self.0.wait(state, None);
        }
        state.bytes += bytes;
        state.records.push_back(record);
        drop(state);
        self.0.changed.notify_all();
        Ok(())
    }
}

impl Drop for QueueSink {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.changed.notify_all();
    }
}

/// Waits for the log's beginning.
pub(super) struct Waiter(Arc<Shared>);

impl Waiter {
    /// Wait until the first records that were pushed, the seed among them, are on the disk.
    pub(super) fn begun(&self) -> Result<(), LogError> {
        let mut state = self.0.state();
        loop {
            match &state.failure {
                Some(failure) => return Err(again(failure)),
                // Without a machine nothing will come.
                None if state.begun || state.closed => return Ok(()),
                None => state = self.0.wait(state, None),
            }
        }
    }
}

impl Writing {
    /// For whoever waits for the log's beginning.
    pub(super) fn waiter(&self) -> Waiter {
        Waiter(Arc::clone(&self.shared))
    }

    /// Why writing stopped, if it did.
    pub(super) fn failure(&self) -> Option<LogError> {
        self.shared.state().failure.as_ref().map(again)
    }

    /// Wait until everything is written, the machine's end being gone. What failed before is tried once more.
    pub(super) fn finish(self) -> Result<(), LogError> {
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

struct Thread<S: Sink> {
    shared: Arc<Shared>,
    writer: LogWriter<S>,
    /// The first records are on the disk.
    begun: bool,
    /// When the first record came that was not flushed.
    unflushed: Option<Instant>,
    unsynced: Option<Instant>,
}

impl<S: Sink> Thread<S> {
    fn run(mut self, failed: impl FnOnce()) -> Result<(), LogError> {
        let mut failed = Some(failed);
        while let Some(records) = self.next() {
            let written = self.write(&records);
            if let Err(error) = written
                && let Some(failed) = failed.take()
            {
                self.shared.state().failure = Some(error);
                self.shared.changed.notify_all();
                failed();
            }
        }
        // Somebody may have made room by now.
        self.writer.sync()
    }

    /// What came, or nothing yet but something is due. `None`: nothing more will come.
    fn next(&mut self) -> Option<VecDeque<Record>> {
        let mut state = self.shared.state();
        loop {
            if !state.records.is_empty() {
                state.bytes = 0;
                let records = std::mem::take(&mut state.records);
                drop(state);
                self.shared.changed.notify_all();
                return Some(records);
            }
            if state.closed {
                return None;
            }
            let wait = match state.failure {
                Some(_) => None,
                None => self.due_in(),
            };
            if wait == Some(Duration::ZERO) {
                return Some(VecDeque::new());
            }
            state = self.shared.wait(state, wait);
        }
    }

    /// How long until a flush or a sync is due.
    fn due_in(&self) -> Option<Duration> {
        let left =
            |since: Option<Instant>, after: Duration| since.map(|at| after.saturating_sub(at.elapsed()));
        left(self.unflushed, FLUSH_AFTER).into_iter().chain(left(self.unsynced, SYNC_AFTER)).min()
    }

    fn write(&mut self, records: &VecDeque<Record>) -> Result<(), LogError> {
        let mut first_error = None;
        for record in records {
            // After an error they are taken all the same, and wait in memory.
            let pushed = RecordSink::push(&mut self.writer, record.clone());
            first_error = first_error.or(pushed.err());
        }
        if !records.is_empty() {
            self.unflushed.get_or_insert_with(Instant::now);
            self.unsynced.get_or_insert_with(Instant::now);
        }
        match first_error {
            Some(error) => Err(error),
            None if self.begun => self.write_what_is_due(),
            None => self.begin(),
        }
    }

    /// A log without its seed replays nothing, so nobody waits for that.
    fn begin(&mut self) -> Result<(), LogError> {
        self.writer.sync()?;
        (self.unflushed, self.unsynced) = (None, None);
        self.begun = true;
        self.shared.state().begun = true;
        self.shared.changed.notify_all();
        Ok(())
    }

    fn write_what_is_due(&mut self) -> Result<(), LogError> {
        let is_due = |since: Option<Instant>, after: Duration| since.is_some_and(|at| at.elapsed() >= after);
        if is_due(self.unsynced, SYNC_AFTER) {
            (self.unflushed, self.unsynced) = (None, None);
            return self.writer.sync();
        }
        if is_due(self.unflushed, FLUSH_AFTER) {
            self.unflushed = None;
            return self.writer.flush();
        }
        Ok(())
    }
}

fn data_bytes(record: &Record) -> usize {
    match &record.entry {
        Entry::Event(Event::Input { data, .. } | Event::WriteMemory { data, .. }) => data.len(),
        Entry::Event(_) | Entry::Seed(_) | Entry::Digest(_) | Entry::DiskBlock { .. } | Entry::End { .. } => {
            0
        }
    }
}

/// The same error for somebody else: the operating system's cannot be copied.
fn again(error: &LogError) -> LogError {
    let copy = |source: &io::Error| match source.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(source.kind(), source.to_string()),
    };
    match error {
        LogError::Refused { segment, refusal } => LogError::Refused { segment: *segment, refusal: *refusal },
        LogError::Corrupt { segment, offset, what } => {
            LogError::Corrupt { segment: *segment, offset: *offset, what: what.clone() }
        }
        LogError::Sink { segment, offset, action, source } => {
            LogError::Sink { segment: *segment, offset: *offset, action: *action, source: copy(source) }
        }
        LogError::Source { segment, offset, source } => {
            LogError::Source { segment: *segment, offset: *offset, source: copy(source) }
        }
        LogError::Oversized { bytes, limit } => LogError::Oversized { bytes: *bytes, limit: *limit },
        LogError::NoSeed => LogError::NoSeed,
        LogError::NoRecord { record, records } => LogError::NoRecord { record: *record, records: *records },
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
