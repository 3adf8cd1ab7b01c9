//! Where a gate stands, as a value: what a snapshot keeps of it, and how a gate goes on from there.

use super::{Gate, Head, RecordSink, RecordSource, Replay};
use crate::{
    Entry, Position, RandomStream, Record, Seed,
    log::{LogError, Next},
};

/// Where a gate stands between two events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stand {
    /// The position of the last event.
    pub last: Position,
    /// Events admitted so far.
    pub admitted: u64,
    /// Instructions attempted when it was asked last.
    pub icount: u64,
    /// The seed of the run's random stream.
    pub seed: Seed,
    /// How much of that stream was drawn, in bytes: a multiple of 4.
    pub drawn_bytes: u64,
    /// What the host's clock said last, in nanoseconds since 1970.
    pub clock_ns: u64,
    /// blake3 over the digests so far.
    pub chain: [u8; 32],
    /// Records of the log that lie before this place, the seed among them; 0 if there is no log.
    pub records: u64,
}

impl Stand {
    /// The first record of a log that begins here, at `vtime_ns`: its seed.
    #[must_use]
    pub fn seed_record(&self, vtime_ns: u64) -> Record {
        let position = Gate::live_from(self).position_at(vtime_ns);
        Record { position, icount: self.icount, entry: Entry::Seed(self.seed) }
    }
}

impl Gate {
    /// Where the gate stands.
    #[must_use]
    pub fn stand(&self) -> Stand {
        Stand {
            last: self.last,
            admitted: self.admitted,
            icount: self.icount,
            seed: self.random.seed(),
            drawn_bytes: self.random.drawn_bytes(),
            clock_ns: self.clock_ns,
            chain: self.chain,
            records: self.records,
        }
    }

    /// Go to where this gate, or another of the same run, once stood. In replay the log is read from there.
    ///
    /// # Errors
    /// The log cannot be read there, or breaks off before it. The gate must not be used again.
    ///
    /// # Panics
    /// If a log is being written: it would have a gap, or say something twice.
    pub fn go_to(&mut self, stand: &Stand) -> Result<(), LogError> {
        assert!(self.sink.is_none(), "a log that is written has no way back");
        self.take_stand(stand);
        self.divergence = None;
        self.failure = None;
        if let Some(Replay { mut source, .. }) = self.replay.take() {
            source.seek(stand.records)?;
            let head = self.fetch(source.as_mut());
            self.replay = Some(Replay { source, head, ended: None });
        }
        Ok(())
    }

    /// A gate that passes everything, from where another stood.
    #[must_use]
    pub fn live_from(stand: &Stand) -> Gate {
        let mut gate = Gate::live(stand.seed);
        gate.take_stand(stand);
        gate.begin();
        gate
    }

    /// A gate that passes everything and records it, from where another stood at `vtime_ns`. The log has nothing of
    /// what was before, and whoever replays it needs the machine of that place.
    #[must_use]
    pub fn record_from(stand: &Stand, vtime_ns: u64, sink: Box<dyn RecordSink>) -> Gate {
        let mut gate = Gate::live_from(stand);
        gate.sink = Some(sink);
        let position = gate.position_at(vtime_ns);
        gate.log(position, Entry::Seed(stand.seed));
        gate
    }

    /// A gate that replays a log which [`Gate::record_from`] began at this place.
    ///
    /// # Errors
    /// [`LogError::NoSeed`] if the log does not begin there with the same seed, and whatever reading gives.
    pub fn replay_from(
        stand: &Stand,
        vtime_ns: u64,
        mut source: Box<dyn RecordSource>,
    ) -> Result<Gate, LogError> {
        let mut gate = Gate::live_from(stand);
        if source.next()? != Next::Record(stand.seed_record(vtime_ns)) {
            return Err(LogError::NoSeed);
        }
        gate.records = 1;
        gate.begin = gate.position_at(vtime_ns);
        let head = gate.fetch(source.as_mut());
        gate.replay = Some(Replay { source, head, ended: None });
        Ok(gate)
    }

    /// A gate that goes on with a replay from where another gate of it stood at `vtime_ns`, and records from there: the
    /// log is as [`Gate::record_from`] would have begun it.
    ///
    /// # Errors
    /// The log cannot be read there, or breaks off before it.
    pub fn cut_from(
        stand: &Stand,
        vtime_ns: u64,
        source: Box<dyn RecordSource>,
        sink: Box<dyn RecordSink>,
    ) -> Result<Gate, LogError> {
        let mut gate = Gate::live(stand.seed);
        gate.replay = Some(Replay { source, head: Head::Unreadable, ended: None });
        gate.go_to(stand)?;
        gate.sink = Some(sink);
        gate.cut = Some([0; 32]);
        let position = gate.position_at(vtime_ns);
        gate.log(position, Entry::Seed(stand.seed));
        Ok(gate)
    }

    fn take_stand(&mut self, stand: &Stand) {
        let Stand { last, admitted, icount, seed, drawn_bytes, clock_ns, chain, records } = *stand;
        (self.last, self.admitted, self.icount) = (last, admitted, icount);
        self.random = RandomStream::at(seed, drawn_bytes);
        (self.clock_ns, self.chain, self.records) = (clock_ns, chain, records);
    }

    /// A log that begins here has nothing before it.
    fn begin(&mut self) {
        self.chain = [0; 32];
        self.records = 0;
    }
}
