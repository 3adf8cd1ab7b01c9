//! The recording log: what [`LogWriter`] appends, [`LogReader`] gives back, to the last complete record.
//!
//! The bytes and the rules for versions and refusals are in `docs/log-format.md`. Nothing here opens a file: the writer
//! appends to a [`Sink`], the reader reads from a [`SegmentSource`].

mod codec;
mod error;
mod format;
mod reader;
mod writer;

pub use error::{Corruption, LogError, Refusal, SinkAction};
pub use format::{MAX_DATA_BYTES, RunId, VERSION, readable_by};
pub use reader::{LogReader, Next, SegmentSource, Tail, TornReason};
pub use writer::{LogWriter, Sink, Sizes};

#[cfg(test)]
pub(crate) mod tests;
