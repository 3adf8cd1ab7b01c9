//! Writing an overlay back, so that a crash at any moment leaves the disk as it was or as it was to be.
//!
//! A redo journal beside the image is written and made durable first; then it is applied, and removed. Whoever opens
//! the image next and finds a complete journal applies it again, which changes nothing that was applied already; an
//! incomplete one is removed, for then the image has not been touched.

use super::{
    base::Qcow,
    overlay::{Change, Overlay},
};
use crate::durable;
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, ErrorKind, Read, Seek, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Format 1. Header: magic, inode of the image, size of the disk. Records: offset, length, kind; data after
/// [`DATA`]. End: a record of kind [`END`] and blake3 of all before it. Numbers are little-endian u64.
const MAGIC: &[u8; 8] = b"RPRCMT01";
const HEADER_LEN: usize = 24;
const RECORD_LEN: usize = 24;
const DATA: u64 = 1;
const ZEROES: u64 = 2;
const END: u64 = 3;
/// Longer data records are not written, so they are not read either.
const MAX_DATA: u64 = super::overlay::BLOCK as u64;

/// Where an interrupted commit of `image` left its journal, if one was.
pub(super) fn journal_path(image: &Path) -> PathBuf {
    let mut name = OsString::from(image);
    name.push(".reprise-commit");
    name.into()
}

/// An image opened for writing.
pub(super) enum Target {
    Raw(File),
    Qcow(Qcow),
}

impl Target {
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        match self {
            Self::Raw(file) => file.write_all_at(data, offset),
            Self::Qcow(image) => image.write(offset, data),
        }
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> io::Result<()> {
        match self {
            Self::Raw(file) => zero_raw(file, offset, len),
            Self::Qcow(image) => image.write_zeroes(offset, len),
        }
    }

    fn sync(&self) -> io::Result<()> {
        match self {
            Self::Raw(file) => file.sync_all(),
            Self::Qcow(image) => image.sync(),
        }
    }
}

fn zero_raw(file: &File, offset: u64, len: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    if fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len).is_ok() {
        return Ok(());
    }
    // Not every file system can punch holes.
    let zeroes = vec![0; 1 << 20];
    let mut at = offset;
    while at < offset + len {
        let piece = (offset + len - at).min(zeroes.len() as u64);
        file.write_all_at(&zeroes[..usize::try_from(piece).expect("at most 1 MiB")], at)?;
        at += piece;
    }
    Ok(())
}

/// Write `overlay` into `target`. On an error before the journal is durable the image has not been touched and the
/// journal is gone.
pub(super) fn commit(image: &Path, inode: u64, overlay: &Overlay, target: &Target) -> io::Result<()> {
    let path = journal_path(image);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    if let Err(error) = write_journal(file, &path, inode, overlay) {
        // Torn anyway, and so harmless if it stays.
        drop(fs::remove_file(&path));
        return Err(error);
    }
    finish(image, &path, inode, overlay.size_bytes(), target)
}

/// Apply the complete journal at `path`.
fn finish(image: &Path, path: &Path, inode: u64, size: u64, target: &Target) -> io::Result<()> {
    apply(&mut open_journal(path)?, inode, size, target)?;
    target.sync()?;
    fs::remove_file(path)?;
    durable::sync_folder(durable::folder_of(image))
}

/// What was found beside an image.
pub(super) enum Found {
    /// A whole journal: the commit must be finished before the image is used.
    Complete,
    /// The beginning of one: the image is as it was.
    Torn,
}

/// Look for a journal.
pub(super) fn find(image: &Path) -> io::Result<Option<Found>> {
    let path = journal_path(image);
    let mut file = match open_journal(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match verify(&mut file) {
        Ok(()) => Ok(Some(Found::Complete)),
        Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData) => {
            Ok(Some(Found::Torn))
        }
        Err(error) => Err(error),
    }
}

/// Finish what [`find`] found.
pub(super) fn recover(image: &Path, inode: u64, size: u64, target: &Target) -> io::Result<()> {
    finish(image, &journal_path(image), inode, size, target)
}

/// Remove a torn journal.
pub(super) fn discard(image: &Path) -> io::Result<()> {
    fs::remove_file(journal_path(image))
}

fn open_journal(path: &Path) -> io::Result<File> {
    let no_follow = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    OpenOptions::new().read(true).custom_flags(no_follow.bits().cast_signed()).open(path)
}

fn write_journal(file: File, path: &Path, inode: u64, overlay: &Overlay) -> io::Result<()> {
    let mut out = Hashing { inner: BufWriter::with_capacity(1 << 20, file), hasher: blake3::Hasher::new() };
    out.write_all(MAGIC)?;
    out.write_all(&inode.to_le_bytes())?;
    out.write_all(&overlay.size_bytes().to_le_bytes())?;
    overlay.for_each_change(|change| match change {
        Change::Data(offset, data) => {
            out.write_all(&record(offset, data.len() as u64, DATA))?;
            out.write_all(data)
        }
        Change::Zeroes(offset, len) => out.write_all(&record(offset, len, ZEROES)),
    })?;
    out.write_all(&record(0, 0, END))?;
    let hash = *out.hasher.finalize().as_bytes();
    out.inner.write_all(&hash)?;
    out.inner.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    durable::sync_folder(durable::folder_of(path))
}

fn record(offset: u64, len: u64, kind: u64) -> [u8; RECORD_LEN] {
    let mut bytes = [0; RECORD_LEN];
    for (slot, value) in bytes.chunks_exact_mut(8).zip([offset, len, kind]) {
        slot.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

struct Hashing<W> {
    inner: W,
    hasher: blake3::Hasher,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let len = self.inner.write(data)?;
        self.hasher.update(&data[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Read a journal from its start; `visit` gets each change. Ends well only if the journal is whole.
fn walk(
    file: &mut File,
    mut header: impl FnMut(u64, u64) -> io::Result<()>,
    mut visit: impl FnMut(Change<'_>) -> io::Result<()>,
) -> io::Result<()> {
    file.rewind()?;
    let mut input = BufReader::with_capacity(1 << 20, file);
    let mut hasher = blake3::Hasher::new();
    let mut head = [0; HEADER_LEN];
    input.read_exact(&mut head)?;
    hasher.update(&head);
    if head[..8] != *MAGIC {
        return Err(ErrorKind::InvalidData.into());
    }
    let size = word(&head, 2);
    header(word(&head, 1), size)?;
    let mut data = vec![0; super::overlay::BLOCK];
    loop {
        let mut bytes = [0; RECORD_LEN];
        input.read_exact(&mut bytes)?;
        hasher.update(&bytes);
        let (offset, len, kind) = (word(&bytes, 0), word(&bytes, 1), word(&bytes, 2));
        let inside = offset.checked_add(len).is_some_and(|end| end <= size);
        match kind {
            DATA if inside && len <= MAX_DATA => {
                let data = &mut data[..usize::try_from(len).expect("at most a block")];
                input.read_exact(data)?;
                hasher.update(data);
                visit(Change::Data(offset, data))?;
            }
            ZEROES if inside => visit(Change::Zeroes(offset, len))?,
            END => break,
            _ => return Err(ErrorKind::InvalidData.into()),
        }
    }
    let mut hash = [0; 32];
    input.read_exact(&mut hash)?;
    if hash == *hasher.finalize().as_bytes() { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
}

fn word(bytes: &[u8], index: usize) -> u64 {
    u64::from_le_bytes(bytes[index * 8..index * 8 + 8].try_into().expect("eight bytes"))
}

fn verify(file: &mut File) -> io::Result<()> {
    walk(file, |_, _| Ok(()), |_| Ok(()))
}

fn apply(file: &mut File, inode: u64, size: u64, target: &Target) -> io::Result<()> {
    // Whole before the first byte goes into the image.
    verify(file)?;
    let same_disk = |of_inode, of_size| match of_inode == inode && of_size == size {
        true => Ok(()),
        false => Err(io::Error::other("the journal beside the image belongs to another image of that name")),
    };
    walk(file, same_disk, |change| match change {
        Change::Data(offset, data) => target.write(offset, data),
        Change::Zeroes(offset, len) => target.write_zeroes(offset, len),
    })
}
