//! What is under an overlay: an image that is only read.

use super::sys::Identity;
use imago::{
    DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder, PermissiveImplicitOpenGate, Storage,
    StorageOpenOptions, file::File as ImagoFile, qcow2::Qcow2,
};
use reprise_machine::FirstReads;
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

/// An image that is only read.
pub(super) trait Base {
    fn size_bytes(&self) -> u64;
    /// Fill `into`; the range lies inside the disk.
    fn read(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()>;
    /// Numbers and hashes of the blocks that were read since the last call and never before.
    fn first_reads(&mut self) -> Vec<(u64, [u8; 32])> {
        Vec::new()
    }
    /// Which blocks were read so far.
    fn seen(&self) -> Arc<FirstReads> {
        Arc::default()
    }
    /// As if exactly these had been read.
    fn set_seen(&mut self, _seen: Arc<FirstReads>) {}
    /// Files besides the image that hold parts of the disk.
    fn other_files(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// A file with the disk's bytes.
pub(super) struct Raw {
    pub(super) file: File,
    pub(super) size_bytes: u64,
}

impl Base for Raw {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }
}

/// No image at all: zeroes.
pub(super) struct Blank(pub(super) u64);

impl Base for Blank {
    fn size_bytes(&self) -> u64 {
        self.0
    }

    fn read(&mut self, _offset: u64, into: &mut [u8]) -> io::Result<()> {
        into.fill(0);
        Ok(())
    }
}

/// A qcow2 image.
pub(super) struct Qcow(FormatAccess<ImagoFile>);

impl Qcow {
    /// `backing`: files that the image names may be opened too.
    pub(super) fn open(file: File, path: &Path, writable: bool, backing: bool) -> io::Result<Self> {
        contained(|| {
            let options = StorageOpenOptions::new().filename(path).write(writable);
            let storage = ImagoFile::from_open_file(file, options.clone())?;
            let builder = Qcow2::<ImagoFile>::builder(storage).storage_open_options(options).write(writable);
            let image = match backing {
                true => builder.open(PermissiveImplicitOpenGate::default())?,
                false => builder.open(DenyImplicitOpenGate::default())?,
            };
            Ok(Self(FormatAccess::new(image)))
        })
    }

    pub(super) fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        contained(|| self.0.write(data, offset))
    }

    pub(super) fn write_zeroes(&self, offset: u64, len: u64) -> io::Result<()> {
        contained(|| self.0.write_zeroes(offset, len))
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        contained(|| {
            self.0.flush()?;
            self.0.sync()
        })
    }
}

impl Base for Qcow {
    fn size_bytes(&self) -> u64 {
        self.0.size()
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        contained(|| self.0.read(into, offset))
    }

    fn other_files(&self) -> Vec<PathBuf> {
        let storages = self.0.inner().collect_storage_dependencies();
        storages.into_iter().filter_map(Storage::get_filename).collect()
    }
}

/// Images are hostile input and the library that reads them is not ours: its panics are errors of the image.
fn contained<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let _quiet = crate::terminal::QuietPanics::begin();
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::InvalidData, "the image contradicts itself")))
}

/// A base that must not change while the machine runs on it: what was read would not be what is read again.
pub(super) struct Pinned {
    base: Box<dyn Base>,
    /// Other handles of the same files, and what they were. The handles keep the locks.
    files: Vec<(File, Identity)>,
}

impl Pinned {
    /// `files`: all that the base reads.
    pub(super) fn new(base: Box<dyn Base>, files: Vec<File>) -> io::Result<Self> {
        let pinned = |file| Identity::of(&file).map(|identity| (file, identity));
        Ok(Self { base, files: files.into_iter().map(pinned).collect::<io::Result<_>>()? })
    }
}

impl Base for Pinned {
    fn size_bytes(&self) -> u64 {
        self.base.size_bytes()
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.base.read(offset, into)?;
        // After the read: a change in between would not be seen before it.
        for (file, identity) in &self.files {
            if Identity::of(file)? != *identity {
                return Err(io::Error::other(
                    "somebody changed the image while the machine was running on it",
                ));
            }
        }
        Ok(())
    }
}
