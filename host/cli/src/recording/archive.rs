//! A packed recording: one plain tar file, read in place.
//!
//! Everybody has a tool that lists it, and nothing has to be unpacked to replay it. What lies in it is compressed by
//! itself.

use super::{Hash, MANIFEST, corrupt, start_name};
use crate::failure::Failure;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};
use tar::{EntryType, Header};

/// Two empty blocks end a tar file.
const END_BYTES: u64 = 1024;
const BLOCK_BYTES: u64 = 512;

/// Where everything is in a packed recording.
#[derive(Clone, Debug)]
pub(super) struct Archive {
    path: PathBuf,
    /// Offset and length by name.
    entries: BTreeMap<String, (u64, u64)>,
}

impl Archive {
    /// Read the names. Nothing but the names of a recording is accepted.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error: &io::Error| Failure::io("cannot open the recording", error).at(path.display());
        let mut file = File::open(path).map_err(|e| failed(&e))?;
        let length = file.metadata().map_err(|e| failed(&e))?.len();
        if !ends_well(&mut file, length).map_err(|e| failed(&e))? {
            return Err(corrupt(path, "it is cut off: the end of a packed recording is missing"));
        }
        file.rewind().map_err(|e| failed(&e))?;
        let mut tar = tar::Archive::new(BufReader::new(file));
        let mut entries = BTreeMap::new();
        let bad = |error: &io::Error| corrupt(path, format!("it is no packed recording: {error}"));
        // Raw: long names and other extensions are entries like any other, and so are refused.
        for entry in tar.entries_with_seek().map_err(|e| bad(&e))?.raw(true) {
            let entry = entry.map_err(|e| bad(&e))?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let refused = |why: &str| corrupt(path, format!("\"{}\" {why}", name.escape_default()));
            if entry.header().entry_type() != EntryType::Regular || !is_name(&name) {
                return Err(refused("has no place in a recording"));
            }
            let place = (entry.raw_file_position(), entry.size());
            if place.0.checked_add(place.1).is_none_or(|end| end > length) {
                return Err(refused("is longer than the file"));
            }
            if entries.insert(name.clone(), place).is_some() {
                return Err(refused("is there twice"));
            }
        }
        Ok(Self { path: path.to_owned(), entries })
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    pub(super) fn length(&self, name: &str) -> Option<u64> {
        self.entries.get(name).map(|(_, length)| *length)
    }

    /// The content with this name, from its first byte.
    pub(super) fn reader(&self, name: &str) -> io::Result<Option<io::Take<File>>> {
        let Some(&(offset, length)) = self.entries.get(name) else { return Ok(None) };
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Some(file.take(length)))
    }
}

fn ends_well(file: &mut File, length: u64) -> io::Result<bool> {
    if length < END_BYTES || !length.is_multiple_of(BLOCK_BYTES) {
        return Ok(false);
    }
    file.seek(SeekFrom::Start(length - END_BYTES))?;
    let mut end = Vec::new();
    file.take(END_BYTES).read_to_end(&mut end)?;
    Ok(end.iter().all(|&byte| byte == 0))
}

/// The names that a recording has.
fn is_name(name: &str) -> bool {
    if name == MANIFEST {
        return true;
    }
    if let Some(number) = name.strip_prefix("log/").and_then(|name| name.strip_suffix(".seg")) {
        return number.len() == 6 && number.bytes().all(|byte| byte.is_ascii_digit());
    }
    if let Some(hash) = name.strip_prefix("blobs/").and_then(|name| name.strip_suffix(".zst")) {
        return Hash::parse(hash).is_some();
    }
    if name == start_name() {
        return true;
    }
    if let Some(number) = name.strip_prefix("snapshots/packs/").and_then(|name| name.strip_suffix(".pack")) {
        return number.len() == 6 && number.bytes().all(|byte| byte.is_ascii_digit());
    }
    let disk = name.strip_prefix("disks/").and_then(|name| name.strip_suffix(".blocks"));
    disk.is_some_and(|disk| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !disk.is_empty() && !disk.starts_with('.') && disk.chars().all(is_plain)
    })
}

/// Writes a packed recording. The same contents in the same order are the same bytes.
pub(super) struct Builder<W: Write>(tar::Builder<W>);

impl<W: Write> Builder<W> {
    pub(super) fn new(out: W) -> Self {
        Self(tar::Builder::new(out))
    }

    pub(super) fn add(&mut self, name: &str, length: u64, content: impl Read) -> io::Result<()> {
        assert!(is_name(name), "{name} is no name of a recording");
        let mut header = Header::new_ustar();
        header.set_path(name)?;
        header.set_size(length);
        header.set_mode(0o600);
        header.set_mtime(0);
        header.set_cksum();
        let mut content = content.take(length);
        self.0.append(&header, &mut content)?;
        match content.limit() {
            0 => Ok(()),
            _ => Err(io::Error::other(format!("{name} became shorter while it was packed"))),
        }
    }

    pub(super) fn finish(self) -> io::Result<W> {
        self.0.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;
    use std::fs;

    fn packed(test: &str) -> (PathBuf, Vec<u8>) {
        let mut builder = Builder::new(Vec::new());
        builder.add(MANIFEST, 5, &b"abcde"[..]).unwrap();
        builder.add("log/000000.seg", 3, &b"xyz"[..]).unwrap();
        builder.add("disks/disk0.disk.blocks", 0, &b""[..]).unwrap();
        let path = std::env::temp_dir().join(format!("reprise-archive-{test}-{}", std::process::id()));
        (path, builder.finish().unwrap())
    }

    #[test]
    fn contents_are_read_in_place() {
        let (path, bytes) = packed("reads");
        fs::write(&path, &bytes).unwrap();
        let archive = Archive::open(&path).unwrap();
        let mut text = String::new();
        archive.reader("log/000000.seg").unwrap().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), archive.length(MANIFEST)), ("xyz", Some(5)));
        assert!(archive.reader("log/000001.seg").unwrap().is_none());
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_that_is_cut_off_is_refused() {
        let (path, bytes) = packed("cut");
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            if let Ok(archive) = Archive::open(&path) {
                panic!("cut at {length} it is still taken: {archive:?}");
            }
        }
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn flipped_bits_in_headers_never_panic() {
        let (path, bytes) = packed("flips");
        let whole: Vec<u8> = bytes.clone();
        for at in 0..3 * 512 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&path, &flipped).unwrap();
            match Archive::open(&path) {
                Ok(archive) => assert!(archive.names().all(is_name)),
                Err(failure) => assert_eq!(failure.exit, Exit::Corrupt),
            }
        }
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn names_are_those_of_a_recording() {
        for bad in [
            "/etc/passwd",
            "../x",
            "log/../manifest.toml",
            "log/1.seg",
            "blobs/..zst",
            "disks/../x.blocks",
            "disks/.blocks",
            "disks/a/b.blocks",
            "manifest.toml/",
            "",
        ] {
            assert!(!is_name(bad), "{bad}");
        }
        let (path, _) = packed("links");
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, MANIFEST, "/etc/passwd").unwrap();
        fs::write(&path, builder.into_inner().unwrap()).unwrap();
        assert!(Archive::open(&path).unwrap_err().to_string().contains("no place"));
        let mut builder = Builder::new(Vec::new());
        builder.add(MANIFEST, 0, &b""[..]).unwrap();
        builder.add(MANIFEST, 0, &b""[..]).unwrap();
        fs::write(&path, builder.finish().unwrap()).unwrap();
        assert!(Archive::open(&path).unwrap_err().to_string().contains("twice"));
        fs::remove_file(path).unwrap();
    }
}
