//! What can be wrong with a log, always with segment and offset.

use std::io;

/// Why a log cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The log is whole but not ours to read.
    #[error("log segment {segment:06}: refused: {refusal}")]
    Refused {
        /// Number of the segment.
        segment: u32,
        /// Why, by name.
        refusal: Refusal,
    },
    /// The bytes are not what a writer wrote.
    #[error("log segment {segment:06}, offset {offset}: {what}")]
    Corrupt {
        /// Number of the segment.
        segment: u32,
        /// Where the damaged header, frame or trailer begins, in bytes from the segment's start.
        offset: u64,
        /// What is wrong.
        what: Corruption,
    },
    /// The sink failed. Nothing that was pushed is lost: the next flush tries again from here.
    #[error("log segment {segment:06}, offset {offset}: cannot {action}: {source}")]
    Sink {
        /// Number of the segment.
        segment: u32,
        /// Up to here the segment is whole.
        offset: u64,
        /// What was tried.
        action: SinkAction,
        /// What the sink said.
        source: io::Error,
    },
    /// The source failed.
    #[error("log segment {segment:06}, offset {offset}: cannot read: {source}")]
    Source {
        /// Number of the segment.
        segment: u32,
        /// Where reading began, in bytes.
        offset: u64,
        /// What the source said.
        source: io::Error,
    },
    /// One record carries more than the format allows. It was not taken; the log is as before.
    #[error("an input of {bytes} bytes is longer than a log record may be ({limit} bytes)")]
    Oversized {
        /// Its data, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The seed, which is the first record of every log, is not there.
    #[error("the log does not begin with the seed of a run: there is nothing to replay")]
    NoSeed,
    /// The log breaks off before a record that was asked for.
    #[error("the log has {records} records, and record {record} is asked for")]
    NoRecord {
        /// Number of the record, from 0.
        record: u64,
        /// How many there are.
        records: u64,
    },
}

/// What was asked of the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkAction {
    /// Begin a segment.
    Begin,
    /// Append bytes.
    Append,
    /// Cut off what a failed append left behind.
    Truncate,
    /// Make it durable.
    Sync,
}

impl std::fmt::Display for SinkAction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SinkAction::Begin => "begin it",
            SinkAction::Append => "append",
            SinkAction::Truncate => "truncate",
            SinkAction::Sync => "sync",
        })
    }
}

/// Why a log of another version is refused. Nothing of it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A later program wrote it in a way that this one would misread.
    #[error("log-too-new: format {written} needs a reader of format {needs}, this one reads {reader}")]
    TooNew {
        /// Format version of the log.
        written: u16,
        /// Oldest reader that understands it.
        needs: u16,
        /// Ours.
        reader: u16,
    },
    /// An earlier program wrote it and this one no longer reads that.
    #[error("log-too-old: format {written}, this reader begins at format {oldest}")]
    TooOld {
        /// Format version of the log.
        written: u16,
        /// The oldest we read.
        oldest: u16,
    },
}

/// How bytes differ from what a writer writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Corruption {
    /// The magic is missing.
    #[error("not a log segment")]
    NotALog,
    /// The segment's header fails its CRC, or contradicts itself.
    #[error("the segment header is damaged")]
    Header,
    /// The header belongs to another segment of the log.
    #[error("this is segment {found:06}: segments are missing or mixed up")]
    WrongSegment {
        /// Number in the header.
        found: u32,
    },
    /// The header belongs to another run.
    #[error("this segment belongs to another run")]
    OtherRun,
    /// A frame's header fails its CRC or has no magic.
    #[error("the frame header is damaged")]
    FrameHeader,
    /// A frame is larger than any writer makes.
    #[error("a frame claims {bytes} bytes, the limit is {limit}")]
    TooLong {
        /// What it claims, in bytes.
        bytes: u32,
        /// What is allowed, in bytes.
        limit: u32,
    },
    /// A frame's body fails its CRC.
    #[error("the frame's body is damaged")]
    Body,
    /// A body with a good CRC is not a zstd frame of the promised length.
    #[error("the frame cannot be decompressed to its {bytes} bytes")]
    Compression {
        /// Promised length, in bytes.
        bytes: u32,
    },
    /// What was decompressed fails its CRC.
    #[error("the decompressed records are damaged")]
    Records,
    /// A record breaks the encoding.
    #[error("record {index}: {why}")]
    Record {
        /// Which record of the log, from 0.
        index: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// A chunk does not begin where the one before it ended.
    #[error("a chunk is missing, doubled or out of order before this one")]
    OutOfSequence,
    /// The index differs from the segment that it describes.
    #[error("the index does not describe this segment")]
    Index,
    /// The trailer behind the index is damaged.
    #[error("the trailer is damaged")]
    Trailer,
    /// Something follows the place where the log says it ends.
    #[error("something follows the end of the log")]
    AfterEnd,
    /// This segment breaks off although a later one exists.
    #[error("the segment breaks off although the log goes on in the next")]
    BrokenOff,
    /// Reading went on after an error.
    #[error("nothing behind an earlier error can be trusted")]
    AfterError,
}
