//! The gate itself.

mod divergence;
mod stand;

use crate::{
    EndReason, Entry, Event, Position, RandomStream, Record, Seed, StateDigest,
    log::{LogError, Next, Tail},
};
pub use divergence::{Divergence, DivergenceKind, Found};
pub use stand::Stand;
use std::fmt;

/// Where a recording gate puts its records: a [`crate::log::LogWriter`], or a bounded queue before one, which blocks
/// when it is full.
pub trait RecordSink: Send {
    /// Take a record.
    ///
    /// # Errors
    /// Recording cannot go on. The gate keeps the first error and pushes nothing more.
    fn push(&mut self, record: Record) -> Result<(), LogError>;
}

/// Where a replaying gate gets its records: a [`crate::log::LogReader`], or a queue behind one.
pub trait RecordSource: Send {
    /// The next record, or how the log ends.
    ///
    /// # Errors
    /// The log cannot be read further. The gate does not ask again.
    fn next(&mut self) -> Result<Next, LogError>;

    /// Go to where the next record is the one with this number, counted from 0. Forwards or back.
    ///
    /// # Errors
    /// The log cannot be read there, or has fewer records.
    fn seek(&mut self, record: u64) -> Result<(), LogError>;
}

/// Stamps what enters with its position, and is the only source of what the host's clock and chance say.
///
/// Live mode: every event passes. In record every event, and every mark, is also pushed to a sink. In replay the log
/// answers instead of the outside: inputs come from [`Gate::take_due`], and whatever the machine computes again (bottom
/// halves, digests, its end) is checked against the log. Nothing else in the machine changes.
///
/// A gate never fails in the middle of an instruction: the machine asks [`Gate::halt`] at each safe point.
pub struct Gate {
    last: Position,
    admitted: u64,
    icount: u64,
    random: RandomStream,
    clock_ns: u64,
    /// blake3 over the digests so far: the log without one of them is another log.
    chain: [u8; 32],
    /// Records of the log that lie behind us.
    records: u64,
    /// Where the log begins: the seed's place.
    begin: Position,
    /// The chain of the log that is written, if it begins later than the one that is replayed.
    cut: Option<[u8; 32]>,
    sink: Option<Box<dyn RecordSink>>,
    replay: Option<Replay>,
    divergence: Option<Divergence>,
    failure: Option<LogError>,
}

struct Replay {
    source: Box<dyn RecordSource>,
    head: Head,
    /// The end was reached and agreed on.
    ended: Option<EndReason>,
}

/// What the log has next.
enum Head {
    Record(Record),
    Tail(Tail),
    Unreadable,
}

/// Why the machine must not go on. It stands where the recording, as far as it is usable, stood.
#[derive(Clone, Copy, Debug)]
pub enum Halt<'a> {
    /// The replay left the recording.
    Diverged(&'a Divergence),
    /// The log can no longer be written, or read.
    Failed(&'a LogError),
    /// The recording was ended here.
    Ended(EndReason),
    /// The log has no more records although the recording was not ended: it was interrupted.
    OutOfRecords(Tail),
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("last", &self.last)
            .field("admitted", &self.admitted)
            .field("recording", &self.sink.is_some())
            .field("replaying", &self.replay.is_some())
            .finish_non_exhaustive()
    }
}

impl Gate {
    /// A gate that passes everything, with the run's seed.
    #[must_use]
    pub fn live(seed: Seed) -> Gate {
        Gate {
            last: Position::default(),
            admitted: 0,
            icount: 0,
            random: RandomStream::new(seed),
            clock_ns: 0,
            chain: [0; 32],
            records: 0,
            begin: Position::default(),
            cut: None,
            sink: None,
            replay: None,
            divergence: None,
            failure: None,
        }
    }

    /// A gate that passes everything and records it, beginning with the seed.
    #[must_use]
    pub fn record(seed: Seed, sink: Box<dyn RecordSink>) -> Gate {
        let mut gate = Gate::live(seed);
        gate.sink = Some(sink);
        gate.log(Position::default(), Entry::Seed(seed));
        gate
    }

    /// A gate that replays a log from its beginning, with the seed that is recorded there.
    ///
    /// # Errors
    /// [`LogError::NoSeed`] if the first record is no seed at power-on, and whatever reading gives.
    pub fn replay(mut source: Box<dyn RecordSource>) -> Result<Gate, LogError> {
        let Next::Record(Record { position, icount: 0, entry: Entry::Seed(seed) }) = source.next()? else {
            return Err(LogError::NoSeed);
        };
        if position != Position::default() {
            return Err(LogError::NoSeed);
        }
        let mut gate = Gate::live(seed);
        gate.records = 1;
        let head = gate.fetch(source.as_mut());
        gate.replay = Some(Replay { source, head, ended: None });
        Ok(gate)
    }

    /// Record the replay again, from its beginning. The log it gives has the same records.
    ///
    /// # Panics
    /// If anything of the log but its seed has passed the gate: a log is recorded again as a whole.
    #[must_use]
    pub fn recorded_again(mut self, sink: Box<dyn RecordSink>) -> Gate {
        assert!(self.records <= 1 && self.sink.is_none(), "a log is recorded again as a whole");
        self.sink = Some(sink);
        self.records = 0;
        self.log(self.begin, Entry::Seed(self.random.seed()));
        self
    }

    /// Say where the machine stands, before anything is asked at another instruction. Every record carries it.
    ///
    /// # Panics
    /// If it runs backwards.
    pub fn set_icount(&mut self, icount: u64) {
        assert!(icount >= self.icount, "the gate saw instructions run backwards: {icount} < {}", self.icount);
        self.icount = icount;
    }

    /// The next logged position, which the machine must not run past. `None` unless replaying.
    ///
    /// That of every record, not of inputs alone: an entry that nothing asks for is then found at the next instruction.
    /// Behind the last record it is that of the last event, where [`Gate::halt`] says why to stop.
    #[must_use]
    pub fn next_position(&self) -> Option<Position> {
        match &self.replay.as_ref()?.head {
            Head::Record(record) => Some(record.position),
            Head::Tail(_) | Head::Unreadable => Some(self.last),
        }
    }

    /// After how many instructions the next record was logged. A hart that runs past it has missed it, whatever the
    /// record's time: a log that contradicts itself must not let it run on. `None` where there is no next record.
    #[must_use]
    pub fn next_icount(&self) -> Option<u64> {
        match &self.replay.as_ref()?.head {
            Head::Record(record) => Some(record.icount),
            Head::Tail(_) | Head::Unreadable => None,
        }
    }

    /// In replay: how the log ends, if all of it was replayed and none of it says that the run ended.
    #[must_use]
    pub fn breaks_off(&self) -> Option<Tail> {
        match (self.head()?, self.replay.as_ref()?.ended) {
            (Head::Tail(tail), None) => Some(*tail),
            (Head::Tail(_), Some(_)) | (Head::Record(_) | Head::Unreadable, _) => None,
        }
    }

    /// In replay, the input logged next if it is due at `vtime_ns`: it has passed the gate and must take effect now.
    /// Ask until there is none, at each safe point, behind the safe point's own work. `None` unless replaying.
    pub fn take_due(&mut self, vtime_ns: u64) -> Option<Event> {
        let entry = match self.head()? {
            Head::Record(Record { position, entry, .. }) if position.vtime_ns == vtime_ns => entry.clone(),
            Head::Record(Record { position, icount, .. })
                if position.vtime_ns < vtime_ns || *icount < self.icount =>
            {
                self.passed(vtime_ns);
                return None;
            }
            Head::Record(_) | Head::Tail(_) | Head::Unreadable => return None,
        };
        let Entry::Event(event) = entry else { return None };
        if !event.is_input() {
            return None;
        }
        self.admit(vtime_ns, &event);
        self.divergence.is_none().then_some(event)
    }

    /// Let an event in at `vtime_ns`, and say which position it got. In replay it must be what the log has there.
    pub fn admit(&mut self, vtime_ns: u64, event: &Event) -> Position {
        let position = self.stamp(vtime_ns);
        if self.sink.is_some() || self.replay.is_some() {
            self.pass(position, Found::Entry(Entry::Event(event.clone())));
        }
        position
    }

    /// A bottom half that may change the guest is about to run at `vtime_ns`.
    pub fn bottom_half(&mut self, vtime_ns: u64, device: u32, bh: u32, oneshot: bool) -> Position {
        self.admit(vtime_ns, &Event::BottomHalf { device, bh, oneshot })
    }

    /// The host's wall clock as the guest may see it; `ask` reads it and is not called in replay.
    ///
    /// Where the log has no answer (divergence, torn tail) this is the last one, and the machine is about to halt.
    pub fn host_clock(&mut self, vtime_ns: u64, ask: impl FnOnce() -> u64) -> u64 {
        if self.replay.is_some() {
            let position = self.stamp(vtime_ns);
            self.pass(position, Found::HostClock);
        } else {
            self.clock_ns = ask();
            self.admit(vtime_ns, &Event::HostClock { value_ns: self.clock_ns });
        }
        self.clock_ns
    }

    /// The machine's state at `vtime_ns` has this digest. To be called at positions and, within the safe point, at a
    /// place that configuration and guest alone decide.
    pub fn digest(&mut self, vtime_ns: u64, digest: StateDigest) {
        for chain in [&mut self.chain].into_iter().chain(&mut self.cut) {
            *chain = digest.chained(chain);
        }
        self.mark(vtime_ns, Entry::Digest(digest));
    }

    /// The run ends at `vtime_ns`, and with it the recording. Nothing may enter any more.
    pub fn end(&mut self, vtime_ns: u64, reason: EndReason) {
        self.mark(vtime_ns, Entry::End { reason, chain: self.chain });
    }

    /// Why the machine must not go on from `vtime_ns`. To be asked at a safe point when [`Gate::take_due`] has nothing
    /// more, and after everything by which the machine ends by itself.
    #[must_use]
    pub fn halt(&self, vtime_ns: u64) -> Option<Halt<'_>> {
        if let Some(divergence) = &self.divergence {
            return Some(Halt::Diverged(divergence));
        }
        if let Some(failure) = &self.failure {
            return Some(Halt::Failed(failure));
        }
        let Replay { head, ended, .. } = self.replay.as_ref()?;
        match (head, ended) {
            (_, Some(reason)) => Some(Halt::Ended(*reason)),
            (Head::Record(Record { position, entry: Entry::End { reason, .. }, .. }), None) => {
                (position.vtime_ns <= vtime_ns).then_some(Halt::Ended(*reason))
            }
            (Head::Record(_) | Head::Unreadable, None) => None,
            (Head::Tail(tail), None) => Some(Halt::OutOfRecords(*tail)),
        }
    }

    /// How the replay left its recording, if it did.
    #[must_use]
    pub fn divergence(&self) -> Option<&Divergence> {
        self.divergence.as_ref()
    }

    /// Whether a log speaks in the outside's place.
    #[must_use]
    pub fn is_replaying(&self) -> bool {
        self.replay.is_some()
    }

    /// Fill from the run's random stream.
    pub fn random(&mut self, into: &mut [u8]) {
        self.random.fill(into);
    }

    /// The stream, for the saved state.
    #[must_use]
    pub fn random_stream(&self) -> &RandomStream {
        &self.random
    }

    /// Events admitted so far.
    #[must_use]
    pub fn admitted(&self) -> u64 {
        self.admitted
    }

    /// The seed of the run.
    #[must_use]
    pub fn seed(&self) -> Seed {
        self.random.seed()
    }

    /// blake3 over the digests so far, in their order.
    #[must_use]
    pub fn chain(&self) -> [u8; 32] {
        self.chain
    }

    /// Whether a log is being written.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.sink.is_some()
    }

    /// Whether anything wants what is only checked: digests, and hashes of disk blocks.
    #[must_use]
    pub fn wants_checks(&self) -> bool {
        self.sink.is_some() || self.replay.is_some()
    }

    /// In replay: whether the log has a digest next, and at this time. Then it is to be computed now.
    #[must_use]
    pub fn digest_due(&self, vtime_ns: u64) -> bool {
        self.entry_at(vtime_ns).is_some_and(|entry| matches!(entry, Entry::Digest(_)))
    }

    /// In replay: whether [`Gate::take_due`] has something at this time.
    #[must_use]
    pub fn input_due(&self, vtime_ns: u64) -> bool {
        self.entry_at(vtime_ns).is_some_and(|entry| match entry {
            Entry::Event(event) => event.is_input(),
            Entry::Seed(_) | Entry::Digest(_) | Entry::DiskBlock { .. } | Entry::End { .. } => false,
        })
    }

    /// What the log has next, if it is at this time.
    fn entry_at(&self, vtime_ns: u64) -> Option<&Entry> {
        match self.head()? {
            Head::Record(Record { position, entry, .. }) => (position.vtime_ns == vtime_ns).then_some(entry),
            Head::Tail(_) | Head::Unreadable => None,
        }
    }

    /// A block of a disk's image was read at `vtime_ns` for the first time.
    pub fn disk_block(&mut self, vtime_ns: u64, device: u32, port: u32, block: u64, hash: [u8; 32]) {
        let entry = Entry::DiskBlock { device, port, block, hash };
        if self.cut.is_some() && self.replay.is_some() && !self.has_block_next(device, port, block) {
            // The replayed log has it before the place where the new one begins, and says it once.
            let position = self.position_at(vtime_ns);
            self.log(position, entry);
        } else {
            self.mark(vtime_ns, entry);
        }
    }

    fn has_block_next(&self, device: u32, port: u32, block: u64) -> bool {
        let next = self.head().and_then(|head| match head {
            Head::Record(record) => Some(&record.entry),
            Head::Tail(_) | Head::Unreadable => None,
        });
        matches!(next, Some(Entry::DiskBlock { device: d, port: p, block: b, .. })
            if (*d, *p, *b) == (device, port, block))
    }

    /// Leave the log here: from now on the outside speaks again, and a log that is written goes on.
    ///
    /// # Panics
    /// If nothing is replayed, or the replay has left its recording.
    pub fn go_live(&mut self) {
        assert!(self.replay.is_some() && self.divergence.is_none(), "only a good replay goes live");
        self.replay = None;
        self.failure = None;
    }

    /// The position of the next event at `vtime_ns`.
    fn position_at(&self, vtime_ns: u64) -> Position {
        assert!(
            vtime_ns >= self.last.vtime_ns,
            "the gate saw time run backwards: {vtime_ns} < {:?}",
            self.last
        );
        let first_at_this_time = self.admitted == 0 || vtime_ns > self.last.vtime_ns;
        let order = if first_at_this_time { 0 } else { self.last.order + 1 };
        Position { vtime_ns, order }
    }

    fn stamp(&mut self, vtime_ns: u64) -> Position {
        self.last = self.position_at(vtime_ns);
        self.admitted += 1;
        self.last
    }

    fn mark(&mut self, vtime_ns: u64, entry: Entry) {
        let position = self.position_at(vtime_ns);
        self.pass(position, Found::Entry(entry));
    }

    /// Something is at the door: check it in replay, record it where that is done.
    fn pass(&mut self, position: Position, found: Found) {
        let entry = match (self.head(), found) {
            (Some(_), found) => self.check(position, found),
            (None, Found::Entry(entry)) => Some(entry),
            (None, Found::HostClock | Found::Nothing) => None,
        };
        if let Some(entry) = entry {
            self.log(position, entry);
        }
    }

    /// Take the log's next entry if it is what was found. Behind the end of a torn log nothing is known to be wrong.
    fn check(&mut self, position: Position, found: Found) -> Option<Entry> {
        let icount = self.icount;
        let replay = self.replay.as_mut()?;
        let expected = match &replay.head {
            Head::Record(record) => Some(record),
            Head::Tail(_) if replay.ended.is_some() => None,
            Head::Tail(_) | Head::Unreadable => return None,
        };
        self.divergence = Divergence::between(expected, found, position, icount);
        if self.divergence.is_some() {
            return None;
        }
        self.advance()
    }

    /// Take the log's next entry.
    fn advance(&mut self) -> Option<Entry> {
        let mut replay = self.replay.take()?;
        let next = self.fetch(replay.source.as_mut());
        let Head::Record(Record { entry, .. }) = std::mem::replace(&mut replay.head, next) else {
            unreachable!("only a record is found to be as expected")
        };
        match &entry {
            Entry::End { reason, .. } => replay.ended = Some(*reason),
            Entry::Event(Event::HostClock { value_ns }) => self.clock_ns = *value_ns,
            Entry::Event(_) | Entry::Seed(_) | Entry::DiskBlock { .. } | Entry::Digest { .. } => {}
        }
        self.replay = Some(replay);
        Some(entry)
    }

    fn fetch(&mut self, source: &mut dyn RecordSource) -> Head {
        match source.next() {
            Ok(Next::Record(record)) => Head::Record(record),
            Ok(Next::Tail(tail)) => Head::Tail(tail),
            Err(error) => {
                self.failure.get_or_insert(error);
                Head::Unreadable
            }
        }
    }

    /// What the log has next, unless nothing is replayed or the replay has left it.
    fn head(&self) -> Option<&Head> {
        if self.divergence.is_some() {
            return None;
        }
        self.replay.as_ref().map(|replay| &replay.head)
    }

    /// The log's next entry lies before `vtime_ns`, or before this instruction, and nothing took it.
    fn passed(&mut self, vtime_ns: u64) {
        let position = self.position_at(vtime_ns);
        self.check(position, Found::Nothing);
    }

    fn log(&mut self, position: Position, mut entry: Entry) {
        if let (Some(own), Entry::End { chain, .. }) = (&self.cut, &mut entry) {
            *chain = *own;
        }
        self.records += u64::from(self.sink.is_some() || self.replay.is_some());
        let usable = self.failure.is_none() && self.divergence.is_none();
        if let Some(sink) = self.sink.as_mut().filter(|_| usable) {
            self.failure = sink.push(Record { position, icount: self.icount, entry }).err();
        }
    }
}

#[cfg(test)]
mod tests;
