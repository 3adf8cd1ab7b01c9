//! What a snapshot says of its machine.

use crate::{
    record::device_rows,
    recording::{DeviceRow, DiskRow, Hash, Images, Manifest, PluginRow},
};
use reprise_machine::{
    Machine, RestoreError, Snapshot,
    board::{self, Board},
};
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

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

impl Facts {
    /// Of a machine that is at power-on. The rows are those that a recording's manifest has.
    pub(crate) fn of(
        board: &Board,
        console: Option<String>,
        images: Images,
        plugins: Vec<PluginRow>,
        disks: Vec<DiskRow>,
    ) -> Self {
        Self {
            reprise: env!("CARGO_PKG_VERSION").to_owned(),
            created_unix_ms: 0,
            icount: 0,
            vtime_ns: 0,
            digest: None,
            console,
            board: board::print(board),
            recording: None,
            images,
            devices: device_rows(board),
            plugins,
            disks,
        }
    }

    /// Of the machine of a recording, at power-on, with everything that its manifest says.
    pub(crate) fn of_recording(manifest: &Manifest) -> Self {
        Self {
            reprise: manifest.reprise.clone(),
            created_unix_ms: 0,
            icount: 0,
            vtime_ns: 0,
            digest: None,
            console: manifest.console.clone(),
            board: manifest.board.clone(),
            recording: Some(RecordingRow { run_id: manifest.run_id.clone(), records: 0 }),
            images: manifest.images.clone(),
            devices: manifest.devices.clone(),
            plugins: manifest.plugins.clone(),
            disks: manifest.disks.clone(),
        }
    }

    /// Take a snapshot of the machine that these are of, and say where and when it was taken.
    pub(crate) fn taken(&self, machine: &mut Machine) -> Result<(Snapshot, Self), RestoreError> {
        let status = machine.status();
        let snapshot = machine.snapshot();
        let records = snapshot.stand()?.records;
        // A clock before 1970 is not set.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let facts = Self {
            created_unix_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            icount: status.icount,
            vtime_ns: status.vtime_ns,
            recording: self.recording.clone().map(|row| RecordingRow { records, ..row }),
            ..self.clone()
        };
        Ok((snapshot, facts))
    }
}
