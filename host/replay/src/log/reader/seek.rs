//! Going to a record by its number.

use super::{IndexEntry, LogReader, Next, SegmentIn, SegmentSource};
use crate::log::{LogError, error::Corruption, format::HEADER_BYTES};
use std::io::{self, Read};

/// A chunk that was seen, in any segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    segment: u32,
    chunk: IndexEntry,
}

/// The chunks seen so far, ascending.
#[derive(Debug, Default)]
pub(super) struct Map(Vec<Seen>);

impl Map {
    /// A chunk was entered, for the first time or again.
    pub(super) fn note(&mut self, segment: u32, chunk: IndexEntry) {
        let here = (segment, chunk.offset);
        if self.0.last().is_none_or(|last| (last.segment, last.chunk.offset) < here) {
            self.0.push(Seen { segment, chunk });
        }
    }

    /// The last chunk that begins at or before a record.
    fn before(&self, record: u64) -> Option<Seen> {
        let behind = self.0.partition_point(|seen| seen.chunk.place.records <= record);
        behind.checked_sub(1).map(|index| self.0[index])
    }

    /// The chunks of a segment that lie before an offset.
    fn of(&self, segment: u32, before: u64) -> Vec<IndexEntry> {
        let these = self.0.iter().filter(|seen| seen.segment == segment && seen.chunk.offset < before);
        these.map(|seen| seen.chunk).collect()
    }
}

impl<S: SegmentSource> LogReader<S> {
    /// Go to where the next record is the one with this number, counted from 0. What was read before is found again by
    /// its chunk; what lies ahead is read.
    ///
    /// # Errors
    /// As for [`LogReader::next`]; [`LogError::NoRecord`] if the log has fewer records.
    pub fn seek(&mut self, record: u64) -> Result<(), LogError> {
        let here = self.place.map_or(0, |place| place.records);
        let chunk = self.seen.before(record);
        let nearer = chunk.filter(|seen| record < here || seen.chunk.place.records > here);
        match nearer {
            Some(seen) => self.enter(seen)?,
            None if record < here => self.restart()?,
            None => (),
        }
        loop {
            let here = self.place.map_or(0, |place| place.records);
            if here == record {
                return Ok(());
            }
            if let Next::Tail(_) = self.next()? {
                return Err(LogError::NoRecord { record, records: here });
            }
        }
    }

    /// As just opened.
    fn restart(&mut self) -> Result<(), LogError> {
        self.forget();
        self.place = None;
        self.tail = self.open_segment(0)?;
        Ok(())
    }

    /// Stand before a chunk that was read before.
    fn enter(&mut self, seen: Seen) -> Result<(), LogError> {
        let Seen { segment, chunk } = seen;
        self.forget();
        let run_id = self.run_id;
        // Its header says again which run and format it is.
        self.tail = self.open_segment(segment)?;
        if self.tail.is_some() || self.run_id != run_id {
            return Err(self.corrupt(0, Corruption::WrongSegment { found: segment }));
        }
        let SegmentIn { read, offset, .. } = &mut self.segment;
        let skipped = chunk.offset - HEADER_BYTES as u64;
        let fail = |source| LogError::Source { segment, offset: HEADER_BYTES as u64, source };
        let found = match read {
            Some(read) => io::copy(&mut read.by_ref().take(skipped), &mut io::sink()).map_err(fail)?,
            None => 0,
        };
        if found != skipped {
            return Err(fail(io::Error::from(io::ErrorKind::UnexpectedEof)));
        }
        *offset = chunk.offset;
        self.segment.chunks = self.seen.of(segment, chunk.offset);
        self.place = Some(chunk.place);
        Ok(())
    }

    fn forget(&mut self) {
        self.raw_records = 0;
        self.ended = false;
        self.failed = false;
        self.tail = None;
    }
}
