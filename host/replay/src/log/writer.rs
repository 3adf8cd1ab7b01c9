//! The writer: records into chunks, chunks into segments.

use super::{
    codec::{self, Place},
    error::{LogError, SinkAction},
    format::{
        Frame, FrameKind, Header, IndexEntry, MAX_CHUNKS, MAX_DATA_BYTES, NEEDS, RunId, VERSION,
        encode_index, encode_trailer,
    },
};
use crate::{Entry, Event, Record, RecordSink};
use std::{fmt, io};
use zstd::bulk::Compressor;

/// zstd's level: its default.
const LEVEL: i32 = 3;
/// No chunk is gathered beyond this, whatever [`Sizes`] says: one more record of the largest kind stays below the
/// format's limit.
const MAX_CHUNK_BYTES: usize = 8 << 20;

/// Where segments are written, in order, one at a time.
pub trait Sink: Send {
    /// Begin segment `number`, empty, whatever was there. The one before is complete and synced.
    ///
    /// # Errors
    /// The host's. The writer asks again at the next flush.
    fn begin(&mut self, number: u32) -> io::Result<()>;
    /// Append all of `bytes` to the segment.
    ///
    /// # Errors
    /// The host's. A part may have been written: before it tries again, the writer calls [`Sink::truncate`].
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Cut the segment to its first `bytes` bytes.
    ///
    /// # Errors
    /// The host's.
    fn truncate(&mut self, bytes: u64) -> io::Result<()>;
    /// Make what was appended survive a power cut.
    ///
    /// # Errors
    /// The host's.
    fn sync(&mut self) -> io::Result<()>;
}

/// When the writer closes a chunk and a segment by itself.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// A chunk is closed at this many bytes before compression; at most 8 MiB.
    pub chunk_bytes: usize,
    /// A segment is closed at this many bytes.
    pub segment_bytes: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes { chunk_bytes: 64 << 10, segment_bytes: 64 << 20 }
    }
}

/// Appends records to a log. What was flushed survives `kill -9`; what was synced survives a power cut.
///
/// After an error nothing is lost: records stay in memory, and the next [`LogWriter::flush`] continues where the sink
/// stopped. Whoever gets an error should stop the machine, because memory is all that holds what comes after it.
pub struct LogWriter<S: Sink> {
    sink: S,
    run_id: RunId,
    sizes: Sizes,
    compressor: Compressor<'static>,
    /// Where the log stands, records that are not yet in a frame included. `None` before the first.
    place: Option<Place>,
    /// Encoded records of the open chunk, behind the place at which it begins.
    raw: Vec<u8>,
    raw_records: u32,
    chunk_place: Place,
    segment: SegmentOut,
    /// The oldest reader that understands the records so far.
    needs: u16,
    /// The end was pushed.
    ended: bool,
    /// The last footer was made: all that is left is to write it.
    closed: bool,
}

/// The segment that is being written.
#[derive(Default)]
struct SegmentOut {
    number: u32,
    /// The sink knows of it.
    begun: bool,
    /// Bytes that the sink has, for certain.
    offset: u64,
    /// An append failed: there may be more than `offset` bytes.
    torn: bool,
    /// Bytes that come next.
    unwritten: Vec<u8>,
    unsynced: bool,
    chunks: Vec<IndexEntry>,
    /// Index and trailer are among the unwritten, and another segment comes behind them.
    closing: bool,
}

impl<S: Sink> fmt::Debug for LogWriter<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SegmentOut { number, offset, .. } = self.segment;
        f.debug_struct("LogWriter").field("segment", &number).field("offset", &offset).finish_non_exhaustive()
    }
}

impl<S: Sink> LogWriter<S> {
    /// Begin a log: its first segment and the header in it.
    ///
    /// # Errors
    /// [`LogError::Sink`].
    pub fn create(sink: S, run_id: RunId, sizes: Sizes) -> Result<Self, LogError> {
        let sizes = Sizes { chunk_bytes: sizes.chunk_bytes.min(MAX_CHUNK_BYTES), ..sizes };
        let mut compressor = Compressor::new(LEVEL).expect("zstd has its default level");
        // Our frames carry length and CRC themselves.
        compressor.include_contentsize(false).expect("a flag of zstd");
        compressor.include_checksum(false).expect("a flag of zstd");
        let mut writer = LogWriter {
            sink,
            run_id,
            sizes,
            compressor,
            place: None,
            raw: Vec::new(),
            raw_records: 0,
            chunk_place: Place::default(),
            segment: SegmentOut::default(),
            needs: NEEDS,
            ended: false,
            closed: false,
        };
        writer.open_segment(0);
        writer.write_out()?;
        Ok(writer)
    }

    /// Take a record. It reaches the sink when its chunk is full, or with the next [`LogWriter::flush`].
    ///
    /// # Errors
    /// [`LogError::Oversized`]: the record was not taken. [`LogError::Sink`]: it was, but the sink no longer takes.
    ///
    /// # Panics
    /// If the record does not follow the one before, or follows the end.
    pub fn push(&mut self, record: &Record) -> Result<(), LogError> {
        assert!(!self.ended && !self.closed, "{record:?} follows the end of the log");
        if let Entry::Event(Event::Input { data, .. }) = &record.entry
            && data.len() > MAX_DATA_BYTES
        {
            return Err(LogError::Oversized { bytes: data.len(), limit: MAX_DATA_BYTES });
        }
        self.require(codec::needs(&record.entry));
        let place = self.place.get_or_insert_with(|| Place::before(record));
        if self.raw_records == 0 {
            self.chunk_place = *place;
            self.raw.clear();
            place.encode(&mut self.raw);
        }
        codec::encode(record, place, &mut self.raw);
        self.raw_records += 1;
        self.ended = matches!(record.entry, Entry::End { .. });
        if self.raw.len() >= self.sizes.chunk_bytes { self.flush() } else { Ok(()) }
    }

    /// What follows is for readers of this format and later. A segment says what it needs before it has a record: one
    /// that said less ends here, so that earlier readers read up to it and are then refused by name.
    fn require(&mut self, needs: u16) {
        if needs <= self.needs {
            return;
        }
        self.needs = needs;
        // One that is being closed already has none of the records that wait.
        if !self.segment.closing {
            self.seal_chunk();
            self.put_footer(false);
        }
    }

    /// Hand everything that was pushed to the sink.
    ///
    /// # Errors
    /// [`LogError::Sink`].
    pub fn flush(&mut self) -> Result<(), LogError> {
        if self.closed {
            return self.write_out();
        }
        self.finish_segment()?;
        self.seal_chunk();
        self.write_out()?;
        if self.segment.offset >= self.sizes.segment_bytes || self.segment.chunks.len() >= MAX_CHUNKS {
            self.put_footer(false);
            self.finish_segment()?;
        }
        Ok(())
    }

    /// [`LogWriter::flush`], and make it survive a power cut.
    ///
    /// # Errors
    /// [`LogError::Sink`].
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.flush()?;
        self.sync_sink()
    }

    /// Flush, write the index that says that the log ends here, and sync. After an error it may be called again.
    ///
    /// # Errors
    /// [`LogError::Sink`].
    pub fn close(&mut self) -> Result<(), LogError> {
        if !self.closed {
            self.flush()?;
            self.put_footer(true);
            self.closed = true;
        }
        self.write_out()?;
        self.sync_sink()
    }

    /// Give the sink back. What was not flushed is dropped.
    pub fn into_sink(self) -> S {
        self.sink
    }

    /// Bytes that are in the sink or on their way, in the segment being written.
    pub fn segment_bytes(&self) -> u64 {
        self.segment.end()
    }

    fn open_segment(&mut self, number: u32) {
        let header = Header { version: VERSION, needs: self.needs, segment: number, run_id: self.run_id };
        let unwritten = header.encode().to_vec();
        self.segment = SegmentOut { number, unwritten, ..SegmentOut::default() };
    }

    /// The open chunk becomes a frame that waits for the sink.
    fn seal_chunk(&mut self) {
        if self.raw_records == 0 {
            return;
        }
        let entry = IndexEntry { offset: self.segment.end(), place: self.chunk_place };
        let raw = std::mem::take(&mut self.raw);
        self.put_frame(FrameKind::Chunk, &raw, self.raw_records);
        self.raw = raw;
        self.raw_records = 0;
        self.segment.chunks.push(entry);
    }

    fn put_footer(&mut self, last: bool) {
        let index_offset = self.segment.end();
        let records = self.place.map_or(0, |place| place.records);
        let raw = encode_index(last, records, &self.segment.chunks);
        let count = u32::try_from(self.segment.chunks.len()).expect("MAX_CHUNKS is less");
        self.put_frame(FrameKind::Index, &raw, count);
        self.segment.unwritten.extend_from_slice(&encode_trailer(index_offset));
        self.segment.closing = !last;
    }

    fn put_frame(&mut self, kind: FrameKind, raw: &[u8], count: u32) {
        let body =
            self.compressor.compress(raw).expect("zstd compresses any bytes into a buffer of its bound");
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("frames are below 17 MiB");
        let frame = Frame {
            kind,
            body_bytes: length(&body),
            raw_bytes: length(raw),
            count,
            body_crc: crc32c::crc32c(&body),
            raw_crc: crc32c::crc32c(raw),
        };
        self.segment.unwritten.extend_from_slice(&frame.encode());
        self.segment.unwritten.extend_from_slice(&body);
    }

    /// If the segment is being closed, finish that and begin the next.
    fn finish_segment(&mut self) -> Result<(), LogError> {
        if !self.segment.closing {
            return Ok(());
        }
        self.write_out()?;
        self.sync_sink()?;
        self.open_segment(self.segment.number + 1);
        self.write_out()
    }

    /// Bring the sink to where it should be, from wherever an error left it.
    fn write_out(&mut self) -> Result<(), LogError> {
        let Self { sink, segment, .. } = self;
        if !segment.begun {
            sink.begin(segment.number).map_err(|e| segment.error(SinkAction::Begin, e))?;
            segment.begun = true;
        }
        if segment.torn {
            sink.truncate(segment.offset).map_err(|e| segment.error(SinkAction::Truncate, e))?;
            segment.torn = false;
        }
        if segment.unwritten.is_empty() {
            return Ok(());
        }
        segment.torn = true;
        sink.append(&segment.unwritten).map_err(|e| segment.error(SinkAction::Append, e))?;
        segment.torn = false;
        segment.unsynced = true;
        segment.offset = segment.end();
        segment.unwritten.clear();
        Ok(())
    }

    fn sync_sink(&mut self) -> Result<(), LogError> {
        if self.segment.unsynced {
            self.sink.sync().map_err(|e| self.segment.error(SinkAction::Sync, e))?;
            self.segment.unsynced = false;
        }
        Ok(())
    }
}

impl SegmentOut {
    /// Its length when all that waits is written.
    fn end(&self) -> u64 {
        self.offset + self.unwritten.len() as u64
    }

    fn error(&self, action: SinkAction, source: io::Error) -> LogError {
        LogError::Sink { segment: self.number, offset: self.offset, action, source }
    }
}

impl<S: Sink> RecordSink for LogWriter<S> {
    /// [`LogWriter::push`]; the end also closes the log, because a gate has nothing to say after it.
    fn push(&mut self, record: Record) -> Result<(), LogError> {
        LogWriter::push(self, &record)?;
        if self.ended { self.close() } else { Ok(()) }
    }
}
