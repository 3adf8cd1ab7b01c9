//! Disks of the host: a pinned image, an overlay for what the guest writes, and a commit on purpose only.

mod base;
mod block_store;
mod commit;
mod open;
mod overlay;
mod qcow2_header;
mod recorded;
mod spec;
mod sys;
mod watched;

pub(crate) use block_store::loaded_block;
pub(crate) use recorded::ImageBlocks;
pub(crate) use recorded::{DiskFacts, ImageFacts};
pub(crate) use spec::DiskSpec;
pub(crate) use spec::Format;

use crate::failure::{Failure, reason};
use base::{Base, Blank};
use block_store::Spill;
use open::{Opened, Opener, Target};
use overlay::Overlay;
use reprise_machine::{Disk, DiskChanges, DiskError};
pub(crate) use spec::split;
use std::{cell::RefCell, io, rc::Rc};
pub(crate) use sys::{check_writable, unnamed_file};
use watched::Watched;

/// What disks count in.
const SECTOR: u64 = 512;

/// A disk that the command line gave, for the machine and, at the end, for its commit.
#[derive(Clone)]
pub(crate) struct HostDisk(Rc<RefCell<Inner>>);

struct Inner {
    spec: DiskSpec,
    /// `None`: there is none, the disk began empty.
    image: Option<ImageFacts>,
    overlay: Overlay,
    target: Option<Target>,
}

impl HostDisk {
    /// Open an image: locked, checked, its base pinned.
    pub(crate) fn open(spec: &DiskSpec) -> Result<Self, Failure> {
        Self::opened(spec, |base| base)
    }

    /// As [`open`](Self::open), for a run that is recorded: [`Disk::first_reads`] tells what was read of the image.
    pub(crate) fn open_watched(spec: &DiskSpec) -> Result<Self, Failure> {
        Self::opened(spec, |base| Box::new(Watched::new(base)))
    }

    fn opened(spec: &DiskSpec, wrap: impl FnOnce(Box<dyn Base>) -> Box<dyn Base>) -> Result<Self, Failure> {
        let opener = Opener { spec };
        let Opened { base, format, target } = opener.opened()?;
        let image = ImageFacts { path: opener.absolute()?, format, backing: spec.backing };
        let overlay = Overlay::new(wrap(Box::new(base)), Spill::File);
        Ok(Self::over(spec.clone(), Some(image), overlay, target))
    }

    /// An empty disk that lasts for one run.
    pub(crate) fn scratch(id: &str, size_bytes: u64) -> Self {
        let overlay = Overlay::new(Box::new(Blank(size_bytes)), Spill::File);
        Self::over(DiskSpec::new(id, "scratch"), None, overlay, None)
    }

    fn over(spec: DiskSpec, image: Option<ImageFacts>, overlay: Overlay, target: Option<Target>) -> Self {
        Self(Rc::new(RefCell::new(Inner { spec, image, overlay, target })))
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

    fn first_reads(&mut self, tell: &mut dyn FnMut(u64, [u8; 32])) {
        let first_reads = self.0.borrow_mut().overlay.first_reads();
        first_reads.into_iter().for_each(|(block, hash)| tell(block, hash));
    }

    fn changes(&mut self) -> DiskChanges {
        self.0.borrow().overlay.changes()
    }

    fn set_changes(&mut self, changes: &DiskChanges) -> Result<(), String> {
        let mut inner = self.0.borrow_mut();
        let none = changes.blocks.is_empty() && changes.zeroes.is_empty();
        if inner.spec.read_only && !none {
            return Err("the disk is read-only, and the snapshot has writes to it".to_owned());
        }
        inner.overlay.set_changes(changes)
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
mod recorded_tests;
#[cfg(test)]
mod tests;
