//! What a snapshot says of its machine.

use crate::recording::{DeviceRow, DiskRow, Hash, Images, PluginRow};
use serde::{Deserialize, Serialize};

/// What identifies the machine that a snapshot is of, and where it was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Facts {
    /// Version of reprise that took it.
    pub(crate) reprise: String,
    /// Milliseconds since 1970 at which it was taken. For people.
    pub(crate) created_unix_ms: u64,
    pub(crate) icount: u64,
    pub(crate) vtime_ns: u64,
    /// Digest of the state, if somebody has computed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<Hash>,
    /// The port that was connected to the terminal, as `device.port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) console: Option<String>,
    /// The resolved board, as a board file.
    pub(crate) board: String,
    /// Where it belongs in a recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) recording: Option<RecordingRow>,
    #[serde(default)]
    pub(crate) images: Images,
    #[serde(default)]
    pub(crate) devices: Vec<DeviceRow>,
    #[serde(default)]
    pub(crate) plugins: Vec<PluginRow>,
    #[serde(default)]
    pub(crate) disks: Vec<DiskRow>,
}

/// A place in a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordingRow {
    /// As in the recording's manifest.
    pub(crate) run_id: String,
    /// Records of its log that the machine has passed.
    pub(crate) records: u64,
}
