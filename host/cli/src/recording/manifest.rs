//! What a recording says of its machine and of how it ended.

use super::{Hash, corrupt};
use crate::failure::{Exit, Failure};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, path::Path};

/// Version of the folder's layout and of the manifest. A field that a reader must not miss is a new version.
/// A recording has the first that knows everything in it: those from power-on have the first.
pub(crate) const FORMAT: u32 = 1;
/// With a `start`.
pub(crate) const FORMAT_OF_START: u32 = 2;
/// The latest.
const LAST_FORMAT: u32 = 2;

/// Behind it stands the hash of everything that follows the line: an edited manifest must not become another machine.
pub(super) const HEADER: &str = "# reprise recording, blake3 ";

/// The manifest of a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) format: u32,
    /// Run id of the log, as 32 hex digits.
    pub(crate) run_id: String,
    /// Version of reprise that recorded.
    pub(crate) reprise: String,
    /// Seconds since 1970 at which recording began. For people.
    pub(crate) created_unix_s: u64,
    /// Instructions between two digests; none if there is one at the end only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) digest_every: Option<u64>,
    /// The port that was connected to the terminal, as `device.port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) console: Option<String>,
    /// The resolved board, as a board file.
    pub(crate) board: String,
    /// How it ended; none while it is being recorded, and for ever if it was interrupted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) end: Option<EndRow>,
    /// The recording that this one branched off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<ParentRow>,
    /// Where it begins; none at power-on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) start: Option<StartRow>,
    pub(crate) images: Images,
    /// Devices in the order of the log's indices.
    #[serde(default)]
    pub(crate) devices: Vec<DeviceRow>,
    #[serde(default)]
    pub(crate) plugins: Vec<PluginRow>,
    #[serde(default)]
    pub(crate) disks: Vec<DiskRow>,
}

/// What was booted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Images {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) firmware: Option<ImageRow>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kernel: Option<ImageRow>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) initrd: Option<ImageRow>,
}

impl Images {
    /// Those that there are.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &ImageRow> {
        let Self { firmware, kernel, initrd } = self;
        [firmware, kernel, initrd].into_iter().flatten()
    }
}

/// One boot image, kept in the recording by its hash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageRow {
    /// The file's name when it was recorded; for messages.
    pub(crate) name: String,
    pub(crate) size_bytes: u64,
    pub(crate) blake3: Hash,
}

/// A device, for names in place of the log's indices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceRow {
    pub(crate) id: String,
    /// Names of its ports, in the order of the log's indices.
    #[serde(default)]
    pub(crate) ports: Vec<String>,
}

/// A plugin, kept in the recording by its hash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PluginRow {
    pub(crate) name: String,
    /// Version of reprise-plugin-api that it was built with.
    pub(crate) api: String,
    pub(crate) size_bytes: u64,
    pub(crate) blake3: Hash,
}

/// A disk. Its image stays where it is; the log has a hash of each block that the guest read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiskRow {
    pub(crate) device: String,
    pub(crate) port: String,
    /// Where the image was, absolute; none for an empty disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    /// `raw` or `qcow2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) format: Option<String>,
    pub(crate) size_bytes: u64,
    pub(crate) read_only: bool,
    /// The image may name other files.
    #[serde(default)]
    pub(crate) backing: bool,
}

/// Where a recording branched off another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ParentRow {
    pub(crate) run_id: String,
    pub(crate) icount: u64,
    pub(crate) vtime_ns: u64,
}

/// The snapshot in which a recording begins, kept in it as [`super::START`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartRow {
    pub(crate) icount: u64,
    pub(crate) vtime_ns: u64,
    /// Of the snapshot's file, which names everything else of it by hash.
    pub(crate) blake3: Hash,
}

/// How a recording ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndRow {
    /// As in the log.
    pub(crate) reason: String,
    /// The guest's exit code, of a power-off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<u32>,
    pub(crate) icount: u64,
    pub(crate) vtime_ns: u64,
    /// Digest of the state at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<Hash>,
}

/// What every version of the manifest has.
#[derive(Deserialize)]
struct Version {
    format: u32,
    reprise: Option<String>,
}

impl Manifest {
    /// The boot images that there are.
    pub(crate) fn images(&self) -> impl Iterator<Item = &ImageRow> {
        self.images.iter()
    }

    /// The images and the plugins, by their hashes.
    pub(super) fn contents(&self) -> BTreeSet<Hash> {
        let plugins = self.plugins.iter().map(|plugin| plugin.blake3);
        self.images().map(|image| image.blake3).chain(plugins).collect()
    }

    /// Length of an image or a plugin.
    pub(super) fn size_of(&self, hash: &Hash) -> Option<u64> {
        let images = self.images().map(|image| (image.blake3, image.size_bytes));
        let mut all = images.chain(self.plugins.iter().map(|plugin| (plugin.blake3, plugin.size_bytes)));
        all.find(|(blake3, _)| blake3 == hash).map(|(_, size_bytes)| size_bytes)
    }

    /// A name that no board and no plugin has. Files are named after them.
    fn bad_name(&self) -> Option<&str> {
        let is_plain = |name: &str, more: &str| {
            name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c) || more.contains(c))
        };
        let devices = self.devices.iter().map(|device| device.id.as_str());
        let ports = self.devices.iter().flat_map(|device| device.ports.iter().map(String::as_str));
        let disks = self.disks.iter();
        let ids = devices.chain(disks.clone().map(|disk| disk.device.as_str()));
        let ids = ids.chain(self.plugins.iter().map(|plugin| plugin.name.as_str()));
        let dotted = ports.chain(disks.map(|disk| disk.port.as_str())).chain(self.console.as_deref());
        let mut bad = ids.filter(|id| !is_plain(id, "")).chain(dotted.filter(|name| !is_plain(name, ".")));
        bad.next()
    }

    pub(super) fn to_text(&self) -> String {
        let body = toml::to_string(self).expect("a manifest has string keys and plain values");
        format!("{HEADER}{}\n{body}", Hash::of(body.as_bytes()))
    }

    /// `path` names it in messages.
    pub(super) fn from_text(text: &str, path: &Path) -> Result<Self, Failure> {
        let (first, body) = text.split_once('\n').unwrap_or((text, ""));
        let Some(hash) = first.strip_prefix(HEADER) else {
            return Err(corrupt(path, "its first line is not that of a manifest"));
        };
        if hash != Hash::of(body.as_bytes()).to_string() {
            return Err(corrupt(path, "the manifest was changed: its hash is another").help(
                "a recording cannot be edited; record again, or `reprise replay --live` to branch off",
            ));
        }
        let version: Version = toml::from_str(body).map_err(|error| corrupt(path, error.message()))?;
        if version.format > LAST_FORMAT {
            return Err(Failure::new(
                Exit::Corrupt,
                "recording-too-new: a later reprise wrote this recording",
            )
            .at(path.display())
            .note(format!(
                "it has format {} (reprise {}), this version reads up to format {LAST_FORMAT}",
                version.format,
                version.reprise.unwrap_or_default()
            ))
            .help("use that version of reprise"));
        }
        let manifest: Self = toml::from_str(body).map_err(|error| corrupt(path, error.message()))?;
        if let Some(name) = manifest.bad_name() {
            let name = name.escape_default();
            return Err(corrupt(path, format!("no board has the name \"{name}\" in it")));
        }
        match manifest.start.is_some() == (manifest.format == FORMAT_OF_START) {
            true => Ok(manifest),
            false => Err(corrupt(path, "its format is not that of a recording which begins as it does")),
        }
    }
}
