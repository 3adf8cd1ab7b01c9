//! The steps of opening an image, and how each one's failure is told.

use super::{
    SECTOR,
    base::{Base, Pinned, Qcow, Raw},
    commit, qcow2_header,
    spec::{DiskSpec, Format},
    sys,
};
use crate::{
    durable,
    failure::{Exit, Failure, reason},
};
use std::{
    fs::File,
    io::{self, ErrorKind, Seek, SeekFrom},
    os::unix::fs::{FileExt, FileTypeExt},
    path::PathBuf,
};

/// What is opened.
pub(super) struct Opener<'a> {
    pub(super) spec: &'a DiskSpec,
}

/// An image that was opened.
pub(super) struct Opened {
    pub(super) base: Pinned,
    pub(super) format: Format,
    /// For the commit, if one was asked for.
    pub(super) target: Option<Target>,
}

/// The image for the commit, opened and locked from the start so that the end holds no surprise.
pub(super) struct Target {
    pub(super) image: commit::Target,
    /// Another handle of the same file.
    pub(super) file: File,
    pub(super) identity: sys::Identity,
}

impl Opener<'_> {
    /// For a run: locked, checked, its base pinned.
    pub(super) fn opened(&self) -> Result<Opened, Failure> {
        let file = self.file(self.spec.commit)?;
        self.lock(&file)?;
        let format = self.format(&file)?;
        self.settle_journal(&file, format)?;
        let base = self.base(format, self.size(&file)?)?;
        self.check_size(base.size_bytes())?;
        let target = match self.spec.commit {
            true => Some(self.target(format, &file)?),
            false => None,
        };
        Ok(Opened { base: self.pin(base, file)?, format, target })
    }

    /// For a replay: as the image of `size_bytes` that it was, and without a write to anything.
    pub(super) fn unchanged(&self, size_bytes: u64) -> Result<Pinned, Failure> {
        assert!(!self.spec.commit, "a replay never commits");
        let file = self.file(false)?;
        self.lock(&file)?;
        self.refuse_journal()?;
        let format = self.format(&file)?;
        let base = self.base(format, self.size(&file)?)?;
        let now_bytes = base.size_bytes();
        if now_bytes != size_bytes {
            let what = format!("disk \"{}\": the image has changed since the recording", self.spec.id);
            return Err(self
                .place(Failure::config(what))
                .note(format!("it had {size_bytes} bytes, and has {now_bytes} now"))
                .help("put the image back that the run was recorded with"));
        }
        self.check_size(size_bytes)?;
        self.pin(base, file)
    }

    /// The base with all its files locked, each of which must stay as it is. `file` is the image's own.
    fn pin(&self, base: Box<dyn Base>, file: File) -> Result<Pinned, Failure> {
        let own = sys::Identity::of(&file).map_err(|e| self.io(&e))?;
        let mut files = vec![file];
        for path in base.other_files() {
            let failed = |error: io::Error| match error.kind() {
                ErrorKind::WouldBlock => {
                    let what = format!("the backing file of disk \"{}\" is in use", self.spec.id);
                    Failure::new(Exit::Io, what).note("another process may commit to it").at(path.display())
                }
                _ => {
                    let what = format!("cannot open the backing file of disk \"{}\"", self.spec.id);
                    Failure::io(what, &error).at(path.display())
                }
            };
            let other = sys::open_image(&path, false).map_err(failed)?;
            if sys::Identity::of(&other).map_err(failed)? != own {
                sys::lock(&other, false).map_err(failed)?;
                files.push(other);
            }
        }
        Pinned::new(base, files).map_err(|e| self.io(&e))
    }

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

    /// Where the image is, for whoever looks for it from another folder.
    pub(super) fn absolute(&self) -> Result<PathBuf, Failure> {
        std::path::absolute(&self.spec.file).map_err(|e| self.io(&e))
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

    fn target(&self, format: Format, file: &File) -> Result<Target, Failure> {
        self.journal_place()?;
        Ok(Target {
            image: self.writable(format)?,
            file: self.clone_of(file)?,
            identity: sys::Identity::of(file).map_err(|e| self.io(&e))?,
        })
    }

    fn writable(&self, format: Format) -> Result<commit::Target, Failure> {
        let file = self.file(true)?;
        match format {
            Format::Raw => Ok(commit::Target::Raw(file)),
            Format::Qcow2 => Ok(commit::Target::Qcow(self.qcow2(file, true)?)),
        }
    }

    /// The commit needs a journal beside the image: better said now than when the guest's work is to be saved.
    fn journal_place(&self) -> Result<(), Failure> {
        let folder = durable::folder_of(&self.spec.file);
        sys::check_writable(folder).map_err(|error| {
            Failure::io(format!("disk \"{}\" cannot be committed to", self.spec.id), &error)
                .at(folder.display())
                .help("the folder of the image has to be writable, for a journal; or leave out `,commit`")
        })
    }

    /// A commit that was interrupted has changed a part of the image or nothing of it. A replay writes nothing, and so
    /// does not finish it either. The beginning of a journal is harmless: its image is as it was.
    fn refuse_journal(&self) -> Result<(), Failure> {
        let journal = commit::journal_path(&self.spec.file);
        match commit::find(&self.spec.file) {
            Ok(None | Some(commit::Found::Torn)) => Ok(()),
            Ok(Some(commit::Found::Complete)) => {
                let what = format!("disk \"{}\": a commit to the image was interrupted", self.spec.id);
                Err(Failure::config(what)
                    .at(journal.display())
                    .note("the image is not the one of the recording, or only a part of it; a replay changes no file")
                    .help("put the image back that the run was recorded with, and remove the journal"))
            }
            Err(error) => Err(self.io(&error).at(journal.display())),
        }
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
                let target = self.writable(format)?;
                let size = self.base(format, self.size(file)?)?.size_bytes();
                let inode = sys::Identity::of(file).map_err(failed)?.inode;
                commit::recover(&self.spec.file, inode, size, &target).map_err(failed)?;
            }
        }
        sys::lock(file, self.spec.commit).map_err(failed)
    }
}
