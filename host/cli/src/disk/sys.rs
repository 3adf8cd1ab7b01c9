//! The operating system's part of disks: files without names, locks, identities.

use rustix::fs::{Access, FlockOperation, Mode, OFlags, access, flock, open};
use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// A scratch file that no crash can leave behind.
pub(crate) fn unnamed_file() -> io::Result<File> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for folder in scratch_folders() {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match open(&folder, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => return Ok(File::from(fd)),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

/// `/tmp` is often memory, and the point of the file is to spare that.
fn scratch_folders() -> Vec<PathBuf> {
    let chosen = std::env::var_os("TMPDIR").map(PathBuf::from);
    chosen.into_iter().chain(["/var/tmp".into(), "/tmp".into()]).collect()
}

/// Open without waiting for anybody: a FIFO would block.
pub(super) fn open_image(path: &Path, writable: bool) -> io::Result<File> {
    let mode = if writable { OFlags::RDWR } else { OFlags::RDONLY };
    Ok(File::from(open(path, mode | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?))
}

/// Lock against other runs: readers share, a writer is alone. Released when the file is closed.
pub(super) fn lock(file: &File, exclusive: bool) -> io::Result<()> {
    let how = if exclusive {
        FlockOperation::NonBlockingLockExclusive
    } else {
        FlockOperation::NonBlockingLockShared
    };
    Ok(flock(file, how)?)
}

/// What changes when somebody writes to a file or puts another in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Identity {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        Ok(Self::from(&file.metadata()?))
    }
}

impl From<&Metadata> for Identity {
    fn from(data: &Metadata) -> Self {
        Self {
            device: data.dev(),
            inode: data.ino(),
            size: data.len(),
            modified: (data.mtime(), data.mtime_nsec()),
        }
    }
}

/// Whether files can be made in a folder.
pub(crate) fn check_writable(folder: &Path) -> io::Result<()> {
    Ok(access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
}
