//! The names of a store's files, and the operating system's part of handling them.

use super::trouble::Trouble;
use crate::{durable::UNPUBLISHED, failure::Failure, recording::Hash};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use std::{
    fs::{self, DirBuilder, File},
    io::{self, ErrorKind, Read},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

const PACK: &str = ".pack";
const SNAPSHOT: &str = ".snap";
const LONGEST_NAME: usize = 100;

/// The packs' folder of a store.
pub(super) fn packs_folder(store: &Path) -> PathBuf {
    store.join("packs")
}

pub(super) fn pack_file(packs: &Path, number: u32, suffix: &str) -> PathBuf {
    packs.join(format!("{number:06}{PACK}{suffix}"))
}

/// The file of a snapshot, if there can be one of that name.
pub(super) fn snapshot_file(store: &Path, name: &str) -> Result<PathBuf, Failure> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > LONGEST_NAME || name.starts_with('.') || !name.chars().all(is_plain) {
        return Err(Failure::usage("this is no name for a snapshot").at(name).help(format!(
            "take letters, digits, \"-\", \"_\" and \".\", at most {LONGEST_NAME}, and no \".\" in front"
        )));
    }
    Ok(store.join(format!("{name}{SNAPSHOT}")))
}

/// The names of a folder's files.
pub(super) fn names(folder: &Path) -> io::Result<Vec<String>> {
    // What is not text is none of ours.
    fs::read_dir(folder)?
        .filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose())
        .collect()
}

/// Snapshots that are published, by name.
pub(super) fn snapshots(store: &Path) -> Result<Vec<String>, Trouble> {
    let names = names(store).map_err(Trouble::io("cannot list the snapshots", store))?;
    let is_name = |name: &String| snapshot_file(store, name).is_ok();
    let mut names: Vec<String> = names
        .iter()
        .filter_map(|name| name.strip_suffix(SNAPSHOT))
        .map(str::to_owned)
        .filter(is_name)
        .collect();
    names.sort();
    Ok(names)
}

/// Numbers of the packs, ascending.
pub(super) fn packs(folder: &Path) -> Result<Vec<u32>, Trouble> {
    let names = names(folder).map_err(Trouble::io("cannot list the packs of snapshots", folder))?;
    let number = |name: &String| {
        let number = name.strip_suffix(PACK)?.parse().ok()?;
        (*name == format!("{number:06}{PACK}")).then_some(number)
    };
    let mut numbers: Vec<u32> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Remove what an interrupted writer left in a folder.
pub(super) fn remove_unpublished(folder: &Path) -> io::Result<()> {
    let ours = |name: &&String| {
        name.strip_suffix(UNPUBLISHED).is_some_and(|name| {
            name.ends_with(PACK) || name.ends_with(SNAPSHOT) || Hash::parse(name).is_some()
        })
    };
    names(folder)?.iter().filter(ours).try_for_each(|name| fs::remove_file(folder.join(name)))
}

/// A guest's memory may hold anything: folders are their owner's alone.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// A regular file. Whatever else has its name is refused, without waiting for anybody: a FIFO would wait for ever.
pub(super) fn open_file(path: &Path, writable: bool) -> io::Result<File> {
    let mode = if writable { OFlags::RDWR } else { OFlags::RDONLY };
    let flags = mode | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file = File::from(open(path, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

/// At most so many bytes and one of a file: one more, so that what is too long is not taken for what was cut.
pub(super) fn read_file(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_file(path, false)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// One process at a time adds to a store. The lock goes with the file.
pub(super) fn lock(store: &Path) -> Result<File, Failure> {
    let folder = File::open(store)
        .map_err(|error| Failure::io("cannot open the snapshots", &error).at(store.display()))?;
    match flock(&folder, FlockOperation::NonBlockingLockExclusive).map_err(io::Error::from) {
        Ok(()) => Ok(folder),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            Err(Failure::usage("another process is writing to these snapshots").at(store.display()))
        }
        Err(error) => Err(Failure::io("cannot lock the snapshots", &error).at(store.display())),
    }
}
