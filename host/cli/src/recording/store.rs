//! Reading a recording.

use super::{
    DiskRow, Hash, MANIFEST, Manifest, SNAPSHOTS, START, archive::Archive, blob_name, blocks::PackedBlocks,
    blocks_name, corrupt, packed_blob_name, segment_name, start_name, start_pack_name,
};
use crate::{
    failure::{Exit, Failure},
    snapshots::{self, Facts},
};
use reprise_machine::{Snapshot, replay::log::SegmentSource};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, ErrorKind, Read, Seek},
    path::{Path, PathBuf},
};

/// No manifest is longer.
const MAX_MANIFEST_BYTES: u64 = 16 << 20;
/// No snapshot's file is longer.
const MAX_START_BYTES: u64 = 256 << 20;
/// No boot image or plugin is longer.
const MAX_BLOB_BYTES: u64 = 8 << 30;

/// A recording, open for reading. It may still be growing.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    path: PathBuf,
    body: Body,
    manifest: Manifest,
}

/// Where its contents are.
#[derive(Clone, Debug)]
enum Body {
    Folder(PathBuf),
    Packed(Archive),
}

impl Body {
    fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error: &io::Error| Failure::io("cannot open the recording", error).at(path.display());
        let kind = std::fs::metadata(path).map_err(|e| failed(&e))?.file_type();
        if kind.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        if kind.is_file() {
            return Archive::open(path).map(Self::Packed);
        }
        Err(no_recording(path, "it is neither a folder nor a regular file"))
    }

    fn reader(&self, name: &str) -> io::Result<Option<io::Take<File>>> {
        match self {
            Self::Folder(path) => Ok(open(&path.join(name))?.map(|file| file.take(u64::MAX))),
            Self::Packed(archive) => archive.reader(name),
        }
    }

    fn length(&self, name: &str) -> Option<u64> {
        match self {
            Self::Folder(path) => std::fs::metadata(path.join(name)).ok().map(|meta| meta.len()),
            Self::Packed(archive) => archive.length(name),
        }
    }

    fn read(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(reader) = self.reader(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        reader.take(limit).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }
}

fn no_recording(path: &Path, why: &str) -> Failure {
    Failure::new(Exit::Corrupt, "this is not a recording")
        .at(path.display())
        .note(why)
        .help("`reprise record -o RUN.rec` makes one")
}

impl Store {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let body = Body::open(path)?;
        let file = path.join(MANIFEST);
        let text = match body.read(MANIFEST, MAX_MANIFEST_BYTES) {
            Ok(Some(bytes)) => String::from_utf8(bytes).map_err(|_| corrupt(&file, "it is not text"))?,
            Ok(None) => return Err(no_recording(path, "there is no manifest.toml in it")),
            Err(error) => return Err(Failure::io("cannot open the recording", &error).at(file.display())),
        };
        let manifest = Manifest::from_text(&text, &file)?;
        Ok(Self { path: path.to_owned(), body, manifest })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The log.
    pub(crate) fn segments(&self) -> Segments {
        Segments(self.body.clone())
    }

    /// Bytes of the log, all segments.
    pub(crate) fn log_bytes(&self) -> u64 {
        (0..).map_while(|number| self.body.length(&segment_name(number))).sum()
    }

    /// An image or a plugin by its hash, checked.
    pub(crate) fn blob(&self, hash: &Hash) -> Result<Vec<u8>, Failure> {
        let name = blob_name(hash);
        let place = self.path.join(&name);
        let damaged = |why: &str| corrupt(&place, why);
        let size_bytes =
            self.manifest.size_of(hash).ok_or_else(|| damaged("the manifest does not have it"))?;
        let cannot =
            |error: &io::Error| Failure::io("cannot read from the recording", error).at(place.display());
        // One byte more, so that what is too long is not taken for what was cut.
        let limit = size_bytes.min(MAX_BLOB_BYTES) + 1;
        let bytes = match &self.body {
            Body::Folder(_) => self.body.read(&name, limit).map_err(|e| cannot(&e))?,
            Body::Packed(_) => match self.body.reader(&packed_blob_name(hash)).map_err(|e| cannot(&e))? {
                Some(packed) => {
                    let mut bytes = Vec::new();
                    let plain = zstd::stream::read::Decoder::new(packed).map_err(|e| cannot(&e))?;
                    plain
                        .take(limit)
                        .read_to_end(&mut bytes)
                        .map_err(|_| damaged("it cannot be decompressed"))?;
                    Some(bytes)
                }
                None => None,
            },
        };
        let bytes = bytes.ok_or_else(|| damaged("it is missing"))?;
        if Hash::of(&bytes) != *hash {
            return Err(damaged("its content has another hash than its name"));
        }
        Ok(bytes)
    }

    /// Look at everything that the manifest names and that the recording has itself: images, plugins, blocks of disks.
    ///
    /// # Errors
    /// The first that is missing or damaged.
    pub(crate) fn check_contents(&self) -> Result<(), Failure> {
        let images: BTreeSet<Hash> = self.manifest.images().map(|image| image.blake3).collect();
        for hash in self.manifest.contents() {
            let name = match &self.body {
                Body::Folder(_) => blob_name(&hash),
                Body::Packed(_) => packed_blob_name(&hash),
            };
            // A recording may come without its plugins: whoever replays it says by which others.
            if images.contains(&hash) || self.body.length(&name).is_some() {
                self.blob(&hash)?;
            }
        }
        for disk in &self.manifest.disks {
            if let Some(mut blocks) = self.disk_blocks(disk)? {
                let place = self.path.join(blocks_name(disk));
                blocks.check().map_err(|error| corrupt(&place, error.to_string()))?;
            }
        }
        Ok(())
    }

    /// The snapshot in which it begins, if that is not power-on.
    pub(crate) fn start(&self) -> Result<Option<(Facts, Snapshot)>, Failure> {
        let Some(row) = &self.manifest.start else { return Ok(None) };
        let place = self.path.join(start_name());
        let damaged = |why: &str| corrupt(&place, why);
        let cannot =
            |error: &io::Error| Failure::io("cannot read from the recording", error).at(place.display());
        let root = self.body.read(&start_name(), MAX_START_BYTES).map_err(|e| cannot(&e))?;
        let root = root.ok_or_else(|| damaged("it is missing"))?;
        if Hash::of(&root) != row.blake3 {
            return Err(damaged("it is another snapshot than that of the manifest"));
        }
        let (facts, snapshot) = match &self.body {
            Body::Folder(path) => snapshots::Store::open(&path.join(SNAPSHOTS))?.load(START)?,
            Body::Packed(archive) => {
                let parts = (1..).map_while(|number| {
                    let name = start_pack_name(number);
                    let part = archive.reader(&name).and_then(|reader| reader.map(part).transpose());
                    part.map(|part| Some((self.path.join(&name), part?))).transpose()
                });
                let parts = parts.collect::<io::Result<_>>().map_err(|e| cannot(&e))?;
                snapshots::load_parts(&place, &root, parts)?
            }
        };
        match (facts.icount, facts.vtime_ns) == (row.icount, row.vtime_ns) {
            true => Ok(Some((facts, snapshot))),
            false => Err(damaged("it is not of the place where the recording begins")),
        }
    }

    /// The blocks of a disk's image, if they are in the recording.
    pub(crate) fn disk_blocks(&self, disk: &DiskRow) -> Result<Option<PackedBlocks<File>>, Failure> {
        let name = blocks_name(disk);
        let place = self.path.join(&name);
        let damaged = |error: &io::Error| corrupt(&place, error.to_string());
        let Some(reader) = self.body.reader(&name).map_err(|e| damaged(&e))? else { return Ok(None) };
        let length = self.body.length(&name).unwrap_or_default();
        let mut file = reader.into_inner();
        let start = file.stream_position().map_err(|e| damaged(&e))?;
        PackedBlocks::open(file, start, length).map(Some).map_err(|e| damaged(&e))
    }

    /// A content of the recording as it lies there, and its length.
    pub(super) fn raw(&self, name: &str) -> io::Result<Option<(u64, io::Take<File>)>> {
        let Some(reader) = self.body.reader(name)? else { return Ok(None) };
        Ok(self.body.length(name).map(|length| (length, reader)))
    }
}

/// The segments of a recording's log.
pub(crate) struct Segments(Body);

impl SegmentSource for Segments {
    type Read = io::Take<File>;

    fn open(&mut self, number: u32) -> io::Result<Option<Self::Read>> {
        self.0.reader(&segment_name(number))
    }
}

fn part(reader: io::Take<File>) -> io::Result<snapshots::Part> {
    let length = reader.limit();
    let mut file = reader.into_inner();
    Ok(snapshots::Part { start: file.stream_position()?, file, length })
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
