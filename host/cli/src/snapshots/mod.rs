//! Snapshots on disk: a folder of content-addressed objects, and a file for each snapshot that names them.
//!
//! `docs/snapshot-format.md` says what is in it. Everything read from one is hostile input. A snapshot is published by
//! the last of its writes, a rename, and objects are never changed, so whatever kills the process leaves the snapshots
//! before it whole.

mod appender;
mod args;
mod blobs;
mod check;
mod collect;
mod facts;
mod files;
mod frame;
mod objects;
mod pack;
mod root;
mod saver;
mod store;
mod tree;
mod trouble;
mod writer;

pub(crate) use args::SnapshotCommand;
pub(crate) use check::Checked;
pub(crate) use facts::{Facts, RecordingRow};
pub(crate) use pack::Part;
pub(crate) use saver::{Report, Saver};
pub(crate) use store::{Row, Store, load_parts};
pub(crate) use writer::StoreWriter;

#[cfg(test)]
mod tests;
