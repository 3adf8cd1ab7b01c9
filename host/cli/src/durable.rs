//! Files that are there as a whole or not at all, and on the disk when we say so.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Behind the name of a file that is not published yet.
pub(crate) const UNPUBLISHED: &str = ".new";

/// A new file, its owner's alone: what was typed, or a guest's memory, may be in it.
pub(crate) fn make_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// A file with this content, under its name only when all of it is on the disk. Its folder is the caller's to sync.
pub(crate) fn publish(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(UNPUBLISHED);
    let temporary = Path::new(&temporary);
    let _none_left = fs::remove_file(temporary);
    let mut file = make_file(temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(temporary, path)
}

/// Make names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The folder that a file is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
