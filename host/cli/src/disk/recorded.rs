//! Disks of a recording: what it keeps of them, and how a replay and a pack read them again.

use super::{
    HostDisk, SECTOR,
    base::{Base, Blank},
    block_store::Spill,
    open::Opener,
    overlay::{Overlay, block_len, pieces},
    spec::{DiskSpec, Format},
    watched::Watched,
};
use crate::failure::{Exit, Failure};
use reprise_machine::DISK_BLOCK_BYTES;
use std::{
    io::{self, ErrorKind},
    path::PathBuf,
};

/// No image is larger, whatever its format can say.
const MAX_SIZE_BYTES: u64 = 1 << 56;

/// What a recording says of a disk, enough to make it again: the guest sees all of it but the image's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiskFacts {
    /// Device id of the board; the guest sees it as the serial.
    pub(crate) id: String,
    /// Capacity in bytes.
    pub(crate) size_bytes: u64,
    /// The guest sees a read-only disk.
    pub(crate) read_only: bool,
    /// `None`: a scratch disk, empty at the start.
    pub(crate) image: Option<ImageFacts>,
}

/// The image of a recorded disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageFacts {
    /// Absolute.
    pub(crate) path: PathBuf,
    /// As it was found out then: a replay does not guess.
    pub(crate) format: Format,
    /// Files that a qcow2 image names may be opened.
    pub(crate) backing: bool,
}

/// The blocks of an image that a packed recording holds: gives the content of a block by its number, or nothing if it
/// does not have it.
pub(crate) type BlockSource = Box<dyn FnMut(u64) -> io::Result<Option<Vec<u8>>>>;

impl DiskFacts {
    /// As the command line would have asked for the image, never for a commit.
    fn spec(&self) -> DiskSpec {
        let mut spec = DiskSpec::new(&self.id, "scratch");
        spec.read_only = self.read_only;
        if let Some(image) = &self.image {
            spec.file.clone_from(&image.path);
            spec.format = Some(image.format);
            spec.backing = image.backing;
        }
        spec
    }

    /// The image (or the emptiness of a scratch disk), pinned, without a write to anything.
    fn base(&self) -> Result<Box<dyn Base>, Failure> {
        match &self.image {
            Some(_) => Ok(Box::new(Opener { spec: &self.spec() }.unchanged(self.size_bytes)?)),
            None => {
                self.check_size()?;
                Ok(Box::new(Blank(self.size_bytes)))
            }
        }
    }

    /// Without an image that would contradict, a recording can claim anything.
    fn check_size(&self) -> Result<(), Failure> {
        let size_bytes = self.size_bytes;
        match size_bytes {
            1..=MAX_SIZE_BYTES if size_bytes.is_multiple_of(SECTOR) => Ok(()),
            _ => {
                let what = format!("disk \"{}\" cannot be used as it was", self.id);
                Err(Failure::new(Exit::Corrupt, what).note(format!("a disk of {size_bytes} bytes")))
            }
        }
    }
}

impl HostDisk {
    /// What a recording has to keep of this disk.
    pub(crate) fn facts(&self) -> DiskFacts {
        let inner = self.0.borrow();
        DiskFacts {
            id: inner.spec.id.clone(),
            size_bytes: inner.overlay.size_bytes(),
            read_only: inner.spec.read_only,
            image: inner.image.clone(),
        }
    }

    /// The disk of a recorded run, from its image, for a replay. No file is written, and none is opened for writing:
    /// there is no commit, an interrupted commit is not finished, and what the guest writes stays in memory, all of
    /// it. What the image holds is checked block by block, through [`first_reads`](reprise_machine::Disk::first_reads).
    ///
    /// # Errors
    /// As for [`open`](Self::open); the image has another size now, or a commit to it was interrupted.
    pub(crate) fn replayed(facts: &DiskFacts) -> Result<Self, Failure> {
        Ok(Self::of_recording(facts, facts.base()?))
    }

    /// The disk of a snapshot, for a run that goes on from there. `watched`: as for a run that is recorded.
    ///
    /// # Errors
    /// As for [`open`](Self::open); the image is not of the size that it was, or was taken for another format.
    pub(crate) fn resumed(facts: &DiskFacts, watched: bool) -> Result<Self, Failure> {
        if facts.image.is_none() {
            facts.check_size()?;
            return Ok(Self::scratch(&facts.id, facts.size_bytes));
        }
        let spec = facts.spec();
        let disk = if watched { Self::open_watched(&spec)? } else { Self::open(&spec)? };
        let now_bytes = disk.facts().size_bytes;
        match now_bytes == facts.size_bytes {
            true => Ok(disk),
            false => {
                let what = format!("disk \"{}\": the image has changed since the snapshot", facts.id);
                Err(Failure::config(what)
                    .at(spec.file.display())
                    .note(format!("it had {} bytes, and has {now_bytes} now", facts.size_bytes))
                    .help("put the image back that the machine ran on"))
            }
        }
    }

    /// The disk of a recorded run, from the blocks of a packed recording. As [`replayed`](Self::replayed), but that no
    /// image is looked for.
    ///
    /// # Errors
    /// No disk can have the size that the recording says.
    pub(crate) fn packed(facts: &DiskFacts, blocks: BlockSource) -> Result<Self, Failure> {
        facts.check_size()?;
        let base: Box<dyn Base> = match &facts.image {
            Some(_) => Box::new(Packed { size_bytes: facts.size_bytes, blocks, last: None }),
            None => Box::new(Blank(facts.size_bytes)),
        };
        Ok(Self::of_recording(facts, base))
    }

    fn of_recording(facts: &DiskFacts, base: Box<dyn Base>) -> Self {
        let base = match &facts.image {
            Some(_) => Box::new(Watched::new(base)),
            None => base,
        };
        Self::over(facts.spec(), facts.image.clone(), Overlay::new(base, Spill::Never), None)
    }
}

/// Reads the image of a recorded disk by blocks, for a pack.
pub(crate) struct ImageBlocks(Box<dyn Base>);

impl ImageBlocks {
    /// Open and pin the image.
    ///
    /// # Errors
    /// As for [`HostDisk::replayed`].
    pub(crate) fn open(facts: &DiskFacts) -> Result<Self, Failure> {
        Ok(Self(facts.base()?))
    }

    /// The content of a block, of [`DISK_BLOCK_BYTES`] but at the disk's end. Whether it is what was recorded the
    /// caller knows by its hash.
    ///
    /// # Errors
    /// The block lies outside the disk, the host could not read, or somebody changes the image meanwhile.
    pub(crate) fn read(&mut self, block: u64) -> io::Result<Vec<u8>> {
        let size_bytes = self.0.size_bytes();
        if block >= size_bytes.div_ceil(DISK_BLOCK_BYTES) {
            let why = format!("block {block} lies outside the disk, which has {size_bytes} bytes");
            return Err(io::Error::new(ErrorKind::InvalidInput, why));
        }
        let mut content = vec![0; block_len(size_bytes, block)];
        self.0.read(block * DISK_BLOCK_BYTES, &mut content)?;
        Ok(content)
    }
}

/// A base of which only some blocks are there: those that the recorded run read, which are all that its replay reads.
struct Packed {
    size_bytes: u64,
    blocks: BlockSource,
    /// A guest reads a block in pieces more often than not.
    last: Option<(u64, Vec<u8>)>,
}

impl Packed {
    fn block(&mut self, block: u64) -> io::Result<&[u8]> {
        if self.last.as_ref().is_none_or(|(last, _)| *last != block) {
            let content = (self.blocks)(block)?.ok_or_else(|| {
                let why = format!(
                    "the recording does not hold block {block}: the run that was recorded did not read it"
                );
                io::Error::new(ErrorKind::NotFound, why)
            })?;
            let expected = block_len(self.size_bytes, block);
            if content.len() != expected {
                let why = format!(
                    "the recording is damaged: block {block} has {} bytes instead of {expected}",
                    content.len()
                );
                return Err(io::Error::new(ErrorKind::InvalidData, why));
            }
            self.last = Some((block, content));
        }
        Ok(self.last.as_ref().map_or(&[], |(_, content)| content))
    }
}

impl Base for Packed {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        for piece in pieces(offset, into.len()) {
            let content = &self.block(piece.block)?[piece.within..piece.within + piece.len];
            into[piece.from..piece.from + piece.len].copy_from_slice(content);
        }
        Ok(())
    }
}
