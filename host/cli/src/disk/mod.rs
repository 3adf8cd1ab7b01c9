//! Disks of the host: a pinned image, an overlay for what the guest writes, and a commit on purpose only.

mod base;
mod commit;
mod overlay;
mod qcow2_header;
mod spec;
mod sys;

pub(crate) use spec::{DiskSpec, Format};

use crate::failure::{Exit, Failure, reason};
use base::{Base, Pinned, Qcow, Raw};
use overlay::Overlay;
use reprise_machine::{Disk, DiskError};
use std::{
    cell::RefCell,
    fs::File,
    io::{self, ErrorKind, Seek, SeekFrom},
    os::unix::fs::{FileExt, FileTypeExt},
    rc::Rc,
};

/// What disks count in.
const SECTOR: u64 = 512;

/// A disk that the command line gave, for the machine and, at the end, for its commit.
#[derive(Clone)]
pub(crate) struct HostDisk(Rc<RefCell<Inner>>);

struct Inner {
    spec: DiskSpec,
    overlay: Overlay,
    target: Option<Target>,
}

/// The image for the commit, opened and locked from the start so that the end holds no surprise.
struct Target {
    image: commit::Target,
    /// Another handle of the same file.
    file: File,
    identity: sys::Identity,
}

impl HostDisk {
    /// Open an image: locked, checked, its base pinned.
    pub(crate) fn open(spec: &DiskSpec) -> Result<Self, Failure> {
        let opener = Opener { spec };
        let file = opener.file(spec.commit)?;
        opener.lock(&file)?;
        let format = opener.format(&file)?;
        opener.settle_journal(&file, format)?;
        let size_bytes = opener.size(&file)?;
        let base = opener.base(format, size_bytes)?;
        opener.check_size(base.size_bytes())?;
        if spec.commit {
            opener.journal_place()?;
        }
        let target = match spec.commit {
            true => Some(Target {
                image: opener.target(format)?,
                file: opener.clone_of(&file)?,
                identity: sys::Identity::of(&file).map_err(|e| opener.io(&e))?,
            }),
            false => None,
        };
        // The base keeps the file, and with it the lock.
        let pinned = Pinned::new(base, file).map_err(|e| opener.io(&e))?;
        Ok(Self::over(spec.clone(), Box::new(pinned), target))
    }

    /// An empty disk that lasts for one run.
    pub(crate) fn scratch(id: &str, size_bytes: u64) -> Self {
        Self::over(DiskSpec::new(id, "scratch"), Box::new(base::Blank(size_bytes)), None)
    }

    fn over(spec: DiskSpec, base: Box<dyn Base>, target: Option<Target>) -> Self {
        Self(Rc::new(RefCell::new(Inner { spec, overlay: Overlay::new(base), target })))
    }

    /// Write the overlay back if the command line asked for that. Returns whether anything was written.
    pub(crate) fn commit(&self) -> Result<bool, Failure> {
        let inner = self.0.borrow();
        let Some(target) = &inner.target else { return Ok(false) };
        if inner.overlay.is_empty() {
            return Ok(false);
        }
        let failed = |error: &io::Error| {
            Failure::io(format!("cannot commit disk \"{}\"", inner.spec.id), error)
                .at(inner.spec.file.display())
                .help("if a journal (.reprise-commit) was left beside the image, the next run finishes the commit")
        };
        let now = sys::Identity::of(&target.file).map_err(|e| failed(&e))?;
        if now != target.identity {
            return Err(failed(&io::Error::other(
                "somebody changed the image while the machine was running on it",
            )));
        }
        let inode = target.identity.inode;
        commit::commit(&inner.spec.file, inode, &inner.overlay, &target.image).map_err(|e| failed(&e))?;
        Ok(true)
    }

    /// The device that it is for.
    pub(crate) fn id(&self) -> String {
        self.0.borrow().spec.id.clone()
    }
}

/// The steps of opening, and how each one's failure is told.
struct Opener<'a> {
    spec: &'a DiskSpec,
}

impl Opener<'_> {
    fn io(&self, error: &io::Error) -> Failure {
        self.place(Failure::io(format!("cannot open disk \"{}\"", self.spec.id), error))
    }

    fn bad(&self, why: impl Into<String>) -> Failure {
        self.place(Failure::config(format!("disk \"{}\" cannot be used", self.spec.id)).note(why))
    }

    fn place(&self, failure: Failure) -> Failure {
        failure.at(self.spec.file.display())
    }

    fn file(&self, writable: bool) -> Result<File, Failure> {
        let file = sys::open_image(&self.spec.file, writable).map_err(|error| match error.kind() {
            ErrorKind::IsADirectory => self.bad("it is a directory"),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem if writable => {
                self.io(&error).help("without `,commit` the image need not be writable")
            }
            _ => self.io(&error),
        })?;
        let kind = file.metadata().map_err(|e| self.io(&e))?.file_type();
        match kind {
            kind if kind.is_dir() => Err(self.bad("it is a directory")),
            kind if kind.is_file() || kind.is_block_device() => Ok(file),
            _ => Err(self.bad("it is neither a regular file nor a block device")),
        }
    }

    fn clone_of(&self, file: &File) -> Result<File, Failure> {
        file.try_clone().map_err(|e| self.io(&e))
    }

    fn lock(&self, file: &File) -> Result<(), Failure> {
        sys::lock(file, self.spec.commit).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock if self.spec.commit => {
                let busy = Failure::new(Exit::Io, format!("disk \"{}\" is in use", self.spec.id));
                self.place(busy.note("another process runs on this image; to commit, this run must be alone"))
                    .help("wait for it, or leave out `,commit`")
            }
            ErrorKind::WouldBlock => {
                let busy = Failure::new(Exit::Io, format!("disk \"{}\" is in use", self.spec.id));
                self.place(busy.note("another process may commit to this image"))
                    .help("wait for it, or copy the image")
            }
            _ => self.io(&error),
        })
    }

    fn format(&self, file: &File) -> Result<Format, Failure> {
        let head = self.head(file)?;
        let is_qcow2 = head.starts_with(&qcow2_header::MAGIC);
        match self.spec.format {
            Some(Format::Qcow2) if !is_qcow2 => {
                Err(self.bad("it is not a qcow2 image: the magic number is missing"))
            }
            Some(format) => Ok(format),
            None if is_qcow2 => Ok(Format::Qcow2),
            None => Ok(Format::Raw),
        }
    }

    fn head(&self, file: &File) -> Result<Vec<u8>, Failure> {
        let mut head = vec![0; qcow2_header::HEADER_LEN];
        let mut len = 0;
        while len < head.len() {
            match file.read_at(&mut head[len..], len as u64).map_err(|e| self.io(&e))? {
                0 => break,
                n => len += n,
            }
        }
        head.truncate(len);
        Ok(head)
    }

    /// The file's length, which is the size of a raw disk.
    fn size(&self, file: &File) -> Result<u64, Failure> {
        let mut handle = file;
        handle.seek(SeekFrom::End(0)).map_err(|e| self.io(&e))
    }

    fn check_size(&self, size_bytes: u64) -> Result<(), Failure> {
        if size_bytes == 0 {
            return Err(self.bad("it is empty").help("make one: `truncate -s 1G FILE`"));
        }
        if !size_bytes.is_multiple_of(SECTOR) {
            let why = format!("its size, {size_bytes} bytes, is not a multiple of {SECTOR}");
            let whole = size_bytes.next_multiple_of(SECTOR);
            return Err(self.bad(why).help(format!("pad it: `truncate -s {whole} FILE`")));
        }
        Ok(())
    }

    fn base(&self, format: Format, size_bytes: u64) -> Result<Box<dyn Base>, Failure> {
        let file = self.file(false)?;
        match format {
            Format::Raw => Ok(Box::new(Raw { file, size_bytes })),
            Format::Qcow2 => Ok(Box::new(self.qcow2(file, false)?)),
        }
    }

    fn qcow2(&self, file: File, writable: bool) -> Result<Qcow, Failure> {
        let head = self.head(&file)?;
        let facts = qcow2_header::check(&head, self.size(&file)?).map_err(|why| self.bad(why))?;
        if facts.has_backing && !self.spec.backing {
            return Err(self
                .bad("the image names another file as its backing file")
                .help("if you trust it to name the right one, add `,backing`"));
        }
        if self.spec.commit && (facts.has_snapshots || facts.dirty) {
            let why = if facts.dirty { "it was not closed cleanly" } else { "it has internal snapshots" };
            return Err(self
                .bad(format!("{why}, and so cannot be committed to"))
                .help("leave out `,commit`"));
        }
        Qcow::open(file, &self.spec.file, writable, self.spec.backing).map_err(|error| {
            match error.raw_os_error() {
                Some(_) => self.io(&error),
                None => self.bad(format!("the qcow2 image is damaged: {}", reason(&error))),
            }
        })
    }

    fn target(&self, format: Format) -> Result<commit::Target, Failure> {
        let file = self.file(true)?;
        match format {
            Format::Raw => Ok(commit::Target::Raw(file)),
            Format::Qcow2 => Ok(commit::Target::Qcow(self.qcow2(file, true)?)),
        }
    }

    /// The commit needs a journal beside the image: better said now than when the guest's work is to be saved.
    fn journal_place(&self) -> Result<(), Failure> {
        let folder = sys::folder_of(&self.spec.file);
        sys::check_writable(folder).map_err(|error| {
            Failure::io(format!("disk \"{}\" cannot be committed to", self.spec.id), &error)
                .at(folder.display())
                .help("the folder of the image has to be writable, for a journal; or leave out `,commit`")
        })
    }

    /// A commit that was interrupted is finished before anybody reads the image.
    fn settle_journal(&self, file: &File, format: Format) -> Result<(), Failure> {
        let journal = commit::journal_path(&self.spec.file);
        let failed = |error: io::Error| {
            Failure::io(format!("disk \"{}\": a commit was interrupted and cannot be finished", self.spec.id), &error)
                .at(journal.display())
                .help("finish it with a run that may write to the image, or remove the journal if you do not want it")
        };
        let Some(found) = commit::find(&self.spec.file).map_err(failed)? else { return Ok(()) };
        // Alone, so that the journal is not somebody's who is about to apply it.
        sys::lock(file, true).map_err(failed)?;
        match found {
            commit::Found::Torn => commit::discard(&self.spec.file).map_err(failed)?,
            commit::Found::Complete => {
                let target = self.target(format)?;
                let size = self.base(format, self.size(file)?)?.size_bytes();
                let inode = sys::Identity::of(file).map_err(failed)?.inode;
                commit::recover(&self.spec.file, inode, size, &target).map_err(failed)?;
            }
        }
        sys::lock(file, self.spec.commit).map_err(failed)
    }
}

impl Disk for HostDisk {
    fn size_bytes(&self) -> u64 {
        self.0.borrow().overlay.size_bytes()
    }

    fn read_only(&self) -> bool {
        self.0.borrow().spec.read_only
    }

    fn serial(&self) -> [u8; 20] {
        let mut serial = [0; 20];
        serial.iter_mut().zip(self.0.borrow().spec.id.bytes()).for_each(|(slot, byte)| *slot = byte);
        serial
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), DiskError> {
        self.work(|overlay| overlay.read(offset, into))
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        self.work(|overlay| overlay.write(offset, data))
    }

    /// The overlay lives as long as the run: there is nothing to make durable before the commit.
    fn flush(&mut self) -> Result<(), DiskError> {
        Ok(())
    }

    fn discard(&mut self, offset: u64, len: u64) -> Result<(), DiskError> {
        self.work(|overlay| overlay.zero(offset, len))
    }

    fn write_zeroes(&mut self, offset: u64, len: u64) -> Result<(), DiskError> {
        self.work(|overlay| overlay.zero(offset, len))
    }
}

impl HostDisk {
    fn work(&self, work: impl FnOnce(&mut Overlay) -> io::Result<()>) -> Result<(), DiskError> {
        let mut inner = self.0.borrow_mut();
        work(&mut inner.overlay).map_err(|error| {
            DiskError(format!(
                "disk \"{}\" ({}): {}",
                inner.spec.id,
                inner.spec.file.display(),
                reason(&error)
            ))
        })
    }
}

#[cfg(test)]
mod tests;
