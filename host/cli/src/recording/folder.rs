//! The folder of a recording that is to be made, and the older recording whose place it takes.

use super::{MANIFEST, SNAPSHOTS, manifest::HEADER};
use crate::failure::Failure;
use std::{
    fs::{self, DirBuilder, File},
    io::{self, ErrorKind, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

/// A folder that was made. The older recording lies beside it until it is known what becomes of the new one.
pub(super) struct Folder {
    path: PathBuf,
    replaced: Option<PathBuf>,
}

impl Folder {
    /// `force`: an older recording may make room, and nothing else.
    pub(super) fn make(path: &Path, force: bool) -> Result<Self, Failure> {
        let failed = |error: &io::Error| Failure::io("cannot make the recording", error).at(path.display());
        let replaced = match force && fs::symlink_metadata(path).is_ok() {
            true => Some(set_aside(path)?),
            false => None,
        };
        let mut folder = Self { path: path.to_owned(), replaced };
        let Err(error) = builder().create(path) else { return Ok(folder) };
        folder.put_back();
        Err(match error.kind() {
            ErrorKind::AlreadyExists => overwrites(path),
            ErrorKind::NotFound => failed(&error).help("the folder that it is to lie in has to exist"),
            _ => failed(&error),
        })
    }

    /// The new one is there: the older one goes.
    pub(super) fn keep(mut self) {
        if let Some(old) = self.replaced.take() {
            // First: what is left of it when something goes wrong must not look like a recording that was interrupted.
            let gone = fs::remove_file(old.join(MANIFEST)).and_then(|()| fs::remove_dir_all(&old));
            // If it cannot be removed, its name says what it is.
            drop(gone);
        }
    }

    /// The new one does not come to be. Half a recording is none, and would be in the way of the next try.
    pub(super) fn discard(mut self) {
        drop(fs::remove_dir_all(&self.path));
        self.put_back();
    }

    fn put_back(&mut self) {
        if let Some(old) = self.replaced.take() {
            drop(fs::rename(old, &self.path));
        }
    }
}

fn overwrites(path: &Path) -> Failure {
    Failure::usage("the recording would overwrite something")
        .at(path.display())
        .help("choose another name; `--force` replaces an older recording, and nothing but a recording")
}

/// Move an older recording out of the way. Returns where it is.
fn set_aside(path: &Path) -> Result<PathBuf, Failure> {
    if let Some(found) = stranger(path).unwrap_or_else(|error| Some(crate::failure::reason(&error))) {
        return Err(overwrites(path).note(found));
    }
    let Some(name) = path.file_name() else { return Err(overwrites(path).note("it has no name of its own")) };
    let mut aside = std::ffi::OsString::from(".");
    aside.push(name);
    aside.push(format!(".replaced-{}", std::process::id()));
    let aside = path.with_file_name(aside);
    let moved = fs::rename(path, &aside);
    moved.map_err(|e| Failure::io("cannot replace the older recording", &e).at(path.display()))?;
    Ok(aside)
}

/// What is there that is not a recording, if anything.
fn stranger(path: &Path) -> io::Result<Option<String>> {
    let kind = fs::symlink_metadata(path)?.file_type();
    if !kind.is_dir() {
        let what = if kind.is_symlink() { "a symbolic link" } else { "no folder" };
        return Ok(Some(format!("it is {what}")));
    }
    let manifest = path.join(MANIFEST);
    let mut first = Vec::new();
    if fs::symlink_metadata(&manifest).is_ok_and(|meta| meta.is_file()) {
        File::open(&manifest)?.take(HEADER.len() as u64).read_to_end(&mut first)?;
    }
    if first != HEADER.as_bytes() {
        return Ok(Some(format!("it has no {MANIFEST} of a recording")));
    }
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        let own = [MANIFEST, "manifest.toml.new", "log", "blobs", SNAPSHOTS, "disks"];
        if !own.iter().any(|own| name == *own) {
            let name = name.to_string_lossy();
            return Ok(Some(format!("\"{}\" in it is no part of a recording", name.escape_default())));
        }
    }
    Ok(None)
}

/// By force, a recording must not take the place of the one that it is made from.
pub(crate) fn check_source(source: &Path, target: &Path, force: bool) -> Result<(), Failure> {
    let (Ok(from), Ok(to)) = (fs::metadata(source), fs::metadata(target)) else { return Ok(()) };
    match force && (from.dev(), from.ino()) == (to.dev(), to.ino()) {
        true => Err(Failure::usage("the recording would replace the one that it is made from")
            .at(target.display())
            .note(format!("it is the same as {}", source.display()))
            .help("choose another name")),
        false => Ok(()),
    }
}

/// What was typed is in a recording: it is its owner's.
pub(super) fn builder() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}
