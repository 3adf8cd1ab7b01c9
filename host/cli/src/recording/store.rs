//! Reading a recording.

use super::{Hash, MANIFEST, Manifest, blob_name, corrupt, segment_name};
use crate::failure::{Exit, Failure};
use reprise_machine::replay::log::SegmentSource;
use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
};

/// No manifest is longer.
const MAX_MANIFEST_BYTES: u64 = 16 << 20;
/// No boot image or plugin is longer.
const MAX_BLOB_BYTES: u64 = 1 << 40;

/// A recording, open for reading. It may still be growing.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    path: PathBuf,
    manifest: Manifest,
}

impl Store {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error: &io::Error| Failure::io("cannot open the recording", error).at(path.display());
        let meta = std::fs::metadata(path).map_err(|e| failed(&e))?;
        let none = |why: &str| {
            Failure::new(Exit::Corrupt, "this is not a recording")
                .at(path.display())
                .note(why)
                .help("`reprise record -o RUN.rec` makes one")
        };
        if !meta.is_dir() {
            return Err(none("it is not a folder"));
        }
        let file = path.join(MANIFEST);
        let text = match read(&file, MAX_MANIFEST_BYTES) {
            Ok(Some(bytes)) => String::from_utf8(bytes).map_err(|_| corrupt(&file, "it is not text"))?,
            Ok(None) => return Err(none("there is no manifest.toml in it")),
            Err(error) => return Err(failed(&error)),
        };
        let manifest = Manifest::from_text(&text, &file)?;
        Ok(Self { path: path.to_owned(), manifest })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The log.
    pub(crate) fn segments(&self) -> Segments {
        Segments { path: self.path.clone() }
    }

    /// Bytes of the log, all segments.
    pub(crate) fn log_bytes(&self) -> u64 {
        let length = |number| std::fs::metadata(self.path.join(segment_name(number))).ok().map(|m| m.len());
        (0..).map_while(length).sum()
    }

    /// Content by its hash, checked.
    pub(crate) fn blob(&self, hash: &Hash) -> Result<Vec<u8>, Failure> {
        let path = self.path.join(blob_name(hash));
        let bytes = read(&path, MAX_BLOB_BYTES)
            .map_err(|error| Failure::io("cannot read from the recording", &error).at(path.display()))?
            .ok_or_else(|| corrupt(&path, "it is missing"))?;
        if Hash::of(&bytes) != *hash {
            return Err(corrupt(&path, "its content has another hash than its name"));
        }
        Ok(bytes)
    }
}

/// The segments of a recording's log.
pub(crate) struct Segments {
    path: PathBuf,
}

impl SegmentSource for Segments {
    type Read = File;

    fn open(&mut self, number: u32) -> io::Result<Option<File>> {
        open(&self.path.join(segment_name(number)))
    }
}

/// A regular file, or nothing if there is none. Whatever else has its name is refused: a FIFO would wait for ever.
fn open(path: &Path) -> io::Result<Option<File>> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() => File::open(path).map(Some),
        Ok(_) => Err(io::Error::other("it is not a regular file")),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn read(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = open(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
