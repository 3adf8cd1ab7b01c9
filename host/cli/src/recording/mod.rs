//! Recordings on disk: a folder with a manifest, the log, and what the machine was made of.
//!
//! `docs/recording-format.md` says what is in it. Everything read from one is hostile input.

mod archive;
mod args;
mod beginning;
mod blocks;
mod events;
mod folder;
mod info;
mod manifest;
mod pack;
mod queue;
mod recorder;
mod scan;
mod store;

pub(crate) use args::{InfoArgs, LogArgs, PackArgs, UnpackArgs, facts, moved_disks};
pub(crate) use events::{Filter, log};
pub(crate) use folder::check_source;
pub(crate) use info::info;
pub(crate) use manifest::{
    DeviceRow, DiskRow, EndRow, FORMAT, FORMAT_OF_START, ImageRow, Images, Manifest, ParentRow, PluginRow,
    StartRow,
};
pub(crate) use pack::touched_blocks;
pub(crate) use recorder::Recorder;
pub(crate) use scan::damage;
pub(crate) use store::{Segments, Store};

use crate::failure::{Exit, Failure};
use std::{fmt, path::Path};

/// The name of the manifest in a recording.
const MANIFEST: &str = "manifest.toml";

/// blake3 of some content, as its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, std::hash::Hash)]
pub(crate) struct Hash(pub(crate) [u8; 32]);

impl Hash {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// From 64 hex digits in lower case: one content has one name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(|hash| Self(*hash.as_bytes())).filter(|h| h.to_string() == text)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl serde::Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not the 64 hex digits of a blake3 hash"))
    }
}

/// A recording that is damaged.
fn corrupt(place: &Path, why: impl Into<String>) -> Failure {
    Failure::new(Exit::Corrupt, "the recording is damaged").at(place.display()).note(why)
}

/// The snapshots of a recording.
pub(crate) const SNAPSHOTS: &str = "snapshots";
/// The one in which it begins, if that is not power-on.
pub(crate) const START: &str = "start";

/// The file of the snapshot in which it begins.
fn start_name() -> String {
    format!("{SNAPSHOTS}/{START}.snap")
}

/// A pack of objects that this snapshot needs, in a packed recording: numbers are from 1.
fn start_pack_name(number: u32) -> String {
    format!("{SNAPSHOTS}/packs/{number:06}.pack")
}

fn segment_name(number: u32) -> String {
    format!("log/{number:06}.seg")
}

fn blob_name(hash: &Hash) -> String {
    format!("blobs/{hash}")
}

fn packed_blob_name(hash: &Hash) -> String {
    format!("blobs/{hash}.zst")
}

fn blocks_name(disk: &DiskRow) -> String {
    format!("disks/{}.{}.blocks", disk.device, disk.port)
}

#[cfg(test)]
mod tests;
