//! The reader: forward, from the first segment, with or without footers.

mod seek;

use super::{
    codec::{self, Input, Place},
    error::{Corruption, LogError},
    format::{
        FRAME_BYTES, Frame, FrameKind, HEADER_BYTES, Header, HeaderFault, IndexEntry, RunId, TRAILER_BYTES,
        encode_index, encode_trailer,
    },
};
use crate::{Entry, Record, RecordSource};
use std::{
    fmt,
    io::{self, Read},
};
use zstd::bulk::Decompressor;

/// So many zeroes at the end of a damaged last frame are taken for blocks that a power cut left unwritten.
const UNWRITTEN_BYTES: usize = 16;

/// Where segments are read.
pub trait SegmentSource: Send {
    /// What reads one.
    type Read: Read + Send;
    /// Segment `number`, from its first byte; `None` if there is none.
    ///
    /// # Errors
    /// The host's.
    fn open(&mut self, number: u32) -> io::Result<Option<Self::Read>>;
}

/// How a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// The writer closed it.
    Closed,
    /// The writer was interrupted. Every complete record has been read.
    Torn {
        /// Segment in which it breaks off.
        segment: u32,
        /// Where the incomplete part begins, in bytes from the segment's start.
        offset: u64,
        /// What is incomplete.
        reason: TornReason,
    },
}

/// What is incomplete at a torn tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TornReason {
    /// The segment that should follow does not exist.
    NoSegment,
    /// The segment's header.
    Header,
    /// Nothing but the footer is missing.
    NoFooter,
    /// The header of a frame.
    FrameHeader,
    /// The body of a frame.
    Body,
    /// The trailer behind the index.
    Trailer,
    /// Blocks that were never written: zeroes to the end.
    Unwritten,
}

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tail::Torn { segment, offset, reason } = self else {
            return f.write_str("the log was closed");
        };
        let what = match reason {
            TornReason::NoSegment => "the segment is missing",
            TornReason::Header => "the segment header is incomplete",
            TornReason::NoFooter => "the segment was not closed",
            TornReason::FrameHeader => "a frame header is incomplete",
            TornReason::Body => "a frame is incomplete",
            TornReason::Trailer => "the trailer is incomplete",
            TornReason::Unwritten => "the rest was never written",
        };
        write!(f, "log segment {segment:06}, offset {offset}: {what}")
    }
}

/// What comes next in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A record.
    Record(Record),
    /// No more records.
    Tail(Tail),
}

/// Reads a log forward, and finds what it has read again. Memory: one frame, at most 33 MiB, and the places of chunks.
pub struct LogReader<S: SegmentSource> {
    source: S,
    decompressor: Decompressor<'static>,
    run_id: Option<RunId>,
    /// Format of the segment that is being read.
    version: u16,
    /// Where the log stands, once a chunk has been seen.
    place: Option<Place>,
    segment: SegmentIn<S::Read>,
    /// The records of the current chunk.
    raw: Vec<u8>,
    raw_read: usize,
    raw_records: u32,
    ended: bool,
    tail: Option<Tail>,
    failed: bool,
    /// What was read, for the way back.
    seen: seek::Map,
}

struct SegmentIn<R> {
    number: u32,
    /// `None` before the first one is open.
    read: Option<R>,
    /// Bytes taken from `read`.
    offset: u64,
    chunk_offset: u64,
    chunks: Vec<IndexEntry>,
}

impl<S: SegmentSource> fmt::Debug for LogReader<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SegmentIn { number, offset, .. } = self.segment;
        f.debug_struct("LogReader").field("segment", &number).field("offset", &offset).finish_non_exhaustive()
    }
}

impl<S: SegmentSource> LogReader<S> {
    /// Open a log and read the header of its first segment.
    ///
    /// # Errors
    /// [`LogError::Refused`], [`LogError::Corrupt`], [`LogError::Source`]. A log that breaks off in its very header is
    /// no error: its tail says so.
    pub fn open(source: S) -> Result<Self, LogError> {
        let segment = SegmentIn { number: 0, read: None, offset: 0, chunk_offset: 0, chunks: Vec::new() };
        let mut reader = LogReader {
            source,
            decompressor: Decompressor::new().expect("zstd makes a context"),
            run_id: None,
            version: 0,
            place: None,
            segment,
            raw: Vec::new(),
            raw_read: 0,
            raw_records: 0,
            ended: false,
            tail: None,
            failed: false,
            seen: seek::Map::default(),
        };
        reader.tail = reader.open_segment(0)?;
        Ok(reader)
    }

    /// The run's id, unless the log breaks off before it.
    pub fn run_id(&self) -> Option<RunId> {
        self.run_id
    }

    /// The segment being read and how far, in bytes: the end of the frame that holds the last record.
    pub fn offset(&self) -> (u32, u64) {
        (self.segment.number, self.segment.offset)
    }

    /// The next record, or the tail, again and again.
    ///
    /// # Errors
    /// [`LogError::Corrupt`], [`LogError::Refused`] (a later segment), [`LogError::Source`]. Records before the error
    /// are good; there are none after it.
    #[expect(clippy::should_implement_trait, reason = "an iterator would have to hide the tail")]
    pub fn next(&mut self) -> Result<Next, LogError> {
        if self.failed {
            return Err(self.corrupt(self.segment.offset, Corruption::AfterError));
        }
        let next = self.advance();
        self.failed = next.is_err();
        next
    }

    fn advance(&mut self) -> Result<Next, LogError> {
        loop {
            if self.raw_records > 0 {
                return self.next_in_chunk().map(Next::Record);
            }
            if let Some(tail) = self.tail {
                return Ok(Next::Tail(tail));
            }
            self.tail = self.next_frame()?;
        }
    }

    fn next_in_chunk(&mut self) -> Result<Record, LogError> {
        let at = self.segment.chunk_offset;
        let place = self.place.as_mut().expect("a chunk begins with its place");
        let index = place.records;
        let mut input = Input::new(&self.raw[self.raw_read..]);
        let record =
            codec::decode(&mut input, place, self.version).and_then(|record| match self.raw_records {
                1 if input.left() > 0 => Err("bytes follow the last record of the chunk"),
                _ => Ok(record),
            });
        self.raw_read = self.raw.len() - input.left();
        self.raw_records -= 1;
        let record = record.map_err(|why| self.corrupt(at, Corruption::Record { index, why }))?;
        if self.ended {
            return Err(self.corrupt(at, Corruption::AfterEnd));
        }
        self.ended = matches!(record.entry, Entry::End { .. });
        Ok(record)
    }

    fn open_segment(&mut self, number: u32) -> Result<Option<Tail>, LogError> {
        let fail = |source| LogError::Source { segment: number, offset: 0, source };
        let read = self.source.open(number).map_err(fail)?;
        let none = read.is_none();
        self.segment = SegmentIn { number, read, offset: 0, chunk_offset: 0, chunks: Vec::new() };
        if none {
            return self.torn(0, TornReason::NoSegment).map(Some);
        }
        let bytes = self.take(HEADER_BYTES)?;
        let Ok(whole) = <[u8; HEADER_BYTES]>::try_from(bytes.as_slice()) else {
            return self.torn(0, TornReason::Header).map(Some);
        };
        match Header::decode(&whole) {
            Ok(header) => self.check_header(header).map(|()| None),
            Err(HeaderFault::Refused(refusal)) => Err(LogError::Refused { segment: number, refusal }),
            Err(HeaderFault::Corrupt(what)) => self.damaged(0, &whole, what),
        }
    }

    fn check_header(&mut self, header: Header) -> Result<(), LogError> {
        if header.segment != self.segment.number {
            return Err(self.corrupt(0, Corruption::WrongSegment { found: header.segment }));
        }
        if *self.run_id.get_or_insert(header.run_id) != header.run_id {
            return Err(self.corrupt(0, Corruption::OtherRun));
        }
        self.version = header.version;
        Ok(())
    }

    /// Read one frame: a chunk, or the index and what follows it.
    fn next_frame(&mut self) -> Result<Option<Tail>, LogError> {
        let at = self.segment.offset;
        let bytes = self.take(FRAME_BYTES)?;
        if bytes.is_empty() {
            return self.torn(at, TornReason::NoFooter).map(Some);
        }
        let Ok(whole) = <[u8; FRAME_BYTES]>::try_from(bytes.as_slice()) else {
            return self.torn(at, TornReason::FrameHeader).map(Some);
        };
        let frame = match Frame::decode(&whole) {
            Ok(frame) => frame,
            Err(what) => return self.damaged(at, &whole, what),
        };
        let body = self.take(frame.body_bytes as usize)?;
        if body.len() < frame.body_bytes as usize {
            return self.torn(at, TornReason::Body).map(Some);
        }
        if crc32c::crc32c(&body) != frame.body_crc {
            return self.damaged(at, &body, Corruption::Body);
        }
        let raw = self.decompressor.decompress(&body, frame.raw_bytes as usize);
        let raw = raw.ok().filter(|raw| raw.len() == frame.raw_bytes as usize);
        let raw = raw.ok_or_else(|| self.corrupt(at, Corruption::Compression { bytes: frame.raw_bytes }))?;
        if crc32c::crc32c(&raw) != frame.raw_crc {
            return Err(self.corrupt(at, Corruption::Records));
        }
        match frame.kind {
            FrameKind::Chunk => self.enter_chunk(at, raw, frame.count).map(|()| None),
            FrameKind::Index => self.leave_segment(at, &raw),
        }
    }

    fn enter_chunk(&mut self, at: u64, raw: Vec<u8>, count: u32) -> Result<(), LogError> {
        let mut input = Input::new(&raw);
        let records = self.place.map_or(0, |place| place.records);
        let place = Place::decode(&mut input)
            .map_err(|why| self.corrupt(at, Corruption::Record { index: records, why }))?;
        // The first chunk says where the run begins; it has nothing before it.
        let follows = self.place.map_or(place.records == 0, |here| here == place);
        if !follows || count == 0 {
            return Err(self.corrupt(at, Corruption::OutOfSequence));
        }
        self.place = Some(place);
        self.raw_read = raw.len() - input.left();
        self.raw = raw;
        self.raw_records = count;
        self.segment.chunk_offset = at;
        let chunk = IndexEntry { offset: at, place };
        self.segment.chunks.push(chunk);
        self.seen.note(self.segment.number, chunk);
        Ok(())
    }

    /// Behind the index: check it against what was read, and the trailer; go on to the next segment or end.
    fn leave_segment(&mut self, at: u64, index: &[u8]) -> Result<Option<Tail>, LogError> {
        let last = index.first() == Some(&1);
        let records = self.place.map_or(0, |place| place.records);
        if index != encode_index(last, records, &self.segment.chunks) {
            return Err(self.corrupt(at, Corruption::Index));
        }
        let trailer_at = self.segment.offset;
        let trailer = self.take(TRAILER_BYTES)?;
        if trailer.len() < TRAILER_BYTES {
            return self.torn(trailer_at, TornReason::Trailer).map(Some);
        }
        if trailer != encode_trailer(at) {
            return self.damaged(trailer_at, &trailer, Corruption::Trailer);
        }
        let end = self.segment.offset;
        if !self.take(1)?.is_empty() {
            return Err(self.corrupt(end, Corruption::AfterEnd));
        }
        match last {
            false => self.open_segment(self.segment.number + 1),
            true if self.next_segment_exists()? => Err(self.corrupt(end, Corruption::AfterEnd)),
            true => Ok(Some(Tail::Closed)),
        }
    }

    /// The log breaks off at `offset`, which only its last segment may do.
    fn torn(&mut self, offset: u64, reason: TornReason) -> Result<Tail, LogError> {
        if self.next_segment_exists()? {
            return Err(self.corrupt(offset, Corruption::BrokenOff));
        }
        Ok(Tail::Torn { segment: self.segment.number, offset, reason })
    }

    /// `bytes`, just read, are not what they should be. A power cut may leave zeroes to the end of the last segment: a
    /// torn tail. Anything else is corruption.
    fn damaged(&mut self, at: u64, bytes: &[u8], what: Corruption) -> Result<Option<Tail>, LogError> {
        let zeroes = bytes.iter().rev().take_while(|byte| **byte == 0).count();
        if zeroes >= UNWRITTEN_BYTES.min(bytes.len()) && self.rest_is_zero()? {
            return self.torn(at, TornReason::Unwritten).map(Some);
        }
        Err(self.corrupt(at, what))
    }

    fn rest_is_zero(&mut self) -> Result<bool, LogError> {
        loop {
            let bytes = self.take(1 << 16)?;
            if bytes.is_empty() {
                return Ok(true);
            }
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
        }
    }

    fn next_segment_exists(&mut self) -> Result<bool, LogError> {
        let Some(segment) = self.segment.number.checked_add(1) else { return Ok(false) };
        let fail = |source| LogError::Source { segment, offset: 0, source };
        self.source.open(segment).map(|read| read.is_some()).map_err(fail)
    }

    /// Up to `count` bytes; fewer only at the end of the segment. A hostile count costs no memory that no byte fills.
    fn take(&mut self, count: usize) -> Result<Vec<u8>, LogError> {
        let SegmentIn { number, read, offset, .. } = &mut self.segment;
        let mut bytes = Vec::new();
        if let Some(read) = read {
            let fail = |source| LogError::Source { segment: *number, offset: *offset, source };
            read.by_ref().take(count as u64).read_to_end(&mut bytes).map_err(fail)?;
        }
        *offset += bytes.len() as u64;
        Ok(bytes)
    }

    fn corrupt(&self, offset: u64, what: Corruption) -> LogError {
        LogError::Corrupt { segment: self.segment.number, offset, what }
    }
}

impl<S: SegmentSource> RecordSource for LogReader<S> {
    fn next(&mut self) -> Result<Next, LogError> {
        LogReader::next(self)
    }

    fn seek(&mut self, record: u64) -> Result<(), LogError> {
        LogReader::seek(self, record)
    }
}
