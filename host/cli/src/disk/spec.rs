//! `--disk ID=FILE[,ro][,commit][,format=F][,backing]` and QEMU's `-drive`.

use crate::failure::Failure;
use std::path::PathBuf;

/// A disk as the command line asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiskSpec {
    /// Device id of the board, or for `-drive` without an id, empty: the next free disk device.
    pub(crate) id: String,
    pub(crate) file: PathBuf,
    /// `None`: qcow2 if the magic number says so, else raw.
    pub(crate) format: Option<Format>,
    pub(crate) read_only: bool,
    pub(crate) commit: bool,
    /// Files that a qcow2 image names may be opened.
    pub(crate) backing: bool,
}

/// An image format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Raw,
    Qcow2,
}

impl Format {
    /// By its name.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "raw" => Ok(Self::Raw),
            "qcow2" => Ok(Self::Qcow2),
            _ => Err(format!("no image format \"{text}\"; there are raw and qcow2")),
        }
    }

    /// The name that [`parse`](Self::parse) takes.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

const DISK_FORM: &str = "write --disk ID=FILE[,ro][,commit][,format=raw|qcow2][,backing]";
const DRIVE_FORM: &str =
    "write -drive file=FILE[,id=ID][,if=none|virtio][,format=raw|qcow2][,readonly=on][,commit=on]";

impl DiskSpec {
    /// From the value of `--disk`.
    pub(crate) fn parse_disk(argument: &str) -> Result<Self, Failure> {
        let bad = |why: String| Failure::usage(why).at(format!("--disk {argument}")).help(DISK_FORM);
        let (id, rest) = argument.split_once('=').ok_or_else(|| bad("no `ID=` before the file".into()))?;
        let mut parts = split(rest).into_iter();
        let file = parts.next().unwrap_or_default();
        let mut disk = Self::new(id, &file);
        for part in parts {
            match part.as_str() {
                "ro" => disk.read_only = true,
                "commit" => disk.commit = true,
                "backing" => disk.backing = true,
                other => match other.strip_prefix("format=") {
                    Some(format) => disk.format = Some(Format::parse(format).map_err(bad)?),
                    None => return Err(bad(format!("no disk option \"{other}\""))),
                },
            }
        }
        if id.is_empty() {
            return Err(bad("the device's id is empty".into()));
        }
        disk.checked().map_err(bad)
    }

    /// From the value of `-drive`.
    pub(crate) fn parse_drive(argument: &str) -> Result<Self, Failure> {
        let bad = |why: String| Failure::usage(why).at(format!("-drive {argument}")).help(DRIVE_FORM);
        let mut disk = Self::new("", "");
        for part in split(argument) {
            let (key, value) = part.split_once('=').ok_or_else(|| bad(format!("no `=` in \"{part}\"")))?;
            match key {
                "file" => disk.file = value.into(),
                "id" => disk.id = value.to_owned(),
                "format" => disk.format = Some(Format::parse(value).map_err(bad)?),
                "readonly" | "read-only" => disk.read_only = on_off(key, value).map_err(bad)?,
                "commit" => disk.commit = on_off(key, value).map_err(bad)?,
                // Writes go to an overlay in any case.
                "snapshot" => drop(on_off(key, value).map_err(bad)?),
                "if" if matches!(value, "none" | "virtio") => (),
                // How the host caches cannot be seen by the guest.
                "cache" | "aio" | "discard" => (),
                _ => return Err(bad(format!("no drive option \"{part}\""))),
            }
        }
        disk.checked().map_err(bad)
    }

    /// Whether a clean end of the run changes the image: then the run cannot be replayed from it.
    pub(crate) fn commits(&self) -> bool {
        self.commit
    }

    pub(super) fn new(id: &str, file: &str) -> Self {
        Self {
            id: id.to_owned(),
            file: file.into(),
            format: None,
            read_only: false,
            commit: false,
            backing: false,
        }
    }

    fn checked(self) -> Result<Self, String> {
        if self.file.as_os_str().is_empty() {
            return Err("the file's name is empty".into());
        }
        if self.read_only && self.commit {
            return Err("a disk cannot be read-only and committed to".into());
        }
        Ok(self)
    }
}

fn on_off(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("`{key}` is on or off")),
    }
}

/// Parts between commas; `,,` is a comma in a file's name, as in QEMU.
pub(crate) fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let last = parts.last_mut().expect("never empty");
        match c {
            ',' if rest.next_if_eq(&',').is_some() => last.push(','),
            ',' => parts.push(String::new()),
            c => last.push(c),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_and_drives() {
        let disk = DiskSpec::parse_disk("disk0=a,,b.img,commit,format=raw").unwrap();
        assert_eq!((disk.id.as_str(), disk.file.to_str()), ("disk0", Some("a,b.img")));
        assert_eq!((disk.commits(), disk.read_only, disk.format), (true, false, Some(Format::Raw)));
        let drive = DiskSpec::parse_drive("file=x=y.qcow2,if=none,id=hd0,format=qcow2,readonly=on").unwrap();
        assert_eq!((drive.id.as_str(), drive.file.to_str()), ("hd0", Some("x=y.qcow2")));
        assert_eq!((drive.read_only, drive.format), (true, Some(Format::Qcow2)));
        assert!(!drive.commits());
        for format in [Format::Raw, Format::Qcow2] {
            assert_eq!(Format::parse(format.name()), Ok(format));
        }
    }

    #[test]
    fn mistakes_name_what_can_be_had() {
        for (bad, expected) in [
            ("disk0", "no `ID=`"),
            ("=x", "id is empty"),
            ("disk0=", "name is empty"),
            ("disk0=x,rw", "no disk option \"rw\""),
            ("disk0=x,format=vmdk", "raw and qcow2"),
            ("disk0=x,ro,commit", "cannot be read-only and committed to"),
        ] {
            let text = DiskSpec::parse_disk(bad).unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        }
        assert!(DiskSpec::parse_drive("file=x,if=scsi").is_err());
        assert!(DiskSpec::parse_drive("x").is_err());
    }
}
