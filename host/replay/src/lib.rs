//! The gate: the one door by which anything nondeterministic enters the machine, and the log behind it.
//!
//! This crate knows ids and bytes, never a device or a file. It owns what an event is, where it stands in time, and the
//! log's format and version. [`Gate::live`] stamps and passes, [`Gate::record`] appends what it stamped to a log,
//! [`Gate::replay`] lets the log speak in the outside's place, until [`Gate::go_live`] sends the log away.

#![warn(missing_docs)]

mod event;
mod gate;
pub mod log;
mod random;
mod record;

pub use event::{Control, Event, PortChange, Position};
pub use gate::{Divergence, DivergenceKind, Found, Gate, Halt, RecordSink, RecordSource, Stand};
pub use random::{RandomStream, Seed};
pub use record::{EndReason, Entry, Record, StateDigest};
