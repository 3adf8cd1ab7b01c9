//! Adding snapshots to a store and taking them away.

use super::{
    appender::{Added, Appender},
    facts::Facts,
    files,
    objects::Objects,
    root::{self, Root},
    store::{Store, no_snapshot, read_packs},
    tree::{self, Remembered},
    trouble::Trouble,
};
use crate::{
    durable,
    failure::{Exit, Failure},
    recording::Hash,
};
use reprise_machine::Snapshot;
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, ErrorKind},
    path::Path,
};

/// A folder of snapshots, to add to. There is one at a time.
pub(crate) struct StoreWriter {
    pub(super) store: Store,
    pub(super) appender: Appender,
    /// The snapshot that was saved last, by its name. Holds its memory.
    pub(super) last: Option<(String, Remembered)>,
    /// Contents that snapshots to come need.
    pub(super) kept: BTreeSet<Hash>,
    /// Keeps others out.
    _lock: File,
}

/// What a snapshot cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    /// Objects that no snapshot had before.
    pub(crate) objects: u64,
    /// Their content.
    pub(crate) raw_bytes: u64,
    /// What went to the disk.
    pub(crate) bytes_written: u64,
}

impl StoreWriter {
    /// Make the folder, for the user alone.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let made = files::make_folder(path)
            .and_then(|()| files::make_folder(&files::packs_folder(path)))
            .and_then(|()| durable::sync_folder(path));
        made.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                Failure::usage("the snapshots would overwrite something").at(path.display())
            }
            _ => Failure::io("cannot make the folder for snapshots", &error).at(path.display()),
        })?;
        Self::open(path)
    }

    /// Go on with a folder. What an interrupted writer has left goes.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let lock = files::lock(path)?;
        let packs = files::packs_folder(path);
        let cannot = |error: &io::Error| Failure::io("cannot open the snapshots", error).at(path.display());
        if !packs.is_dir() {
            // Its maker may have been interrupted; another folder is not taken for one of snapshots.
            let is_empty = fs::read_dir(path).map_err(|e| cannot(&e))?.next().is_none();
            if !is_empty {
                return Err(Failure::new(Exit::Corrupt, "this is no folder of snapshots").at(path.display()));
            }
            files::make_folder(&packs).map_err(|e| cannot(&e))?;
        }
        let mut store = Store { path: path.to_owned(), objects: Objects::default() };
        for folder in [path, &packs, &store.blobs_folder()] {
            if folder.is_dir() {
                files::remove_unpublished(folder).map_err(|e| cannot(&e))?;
            }
        }
        store.objects = read_packs(path)?;
        let appender = Appender::resume(&packs, &mut store.objects)?;
        Ok(Self { store, appender, last: None, kept: BTreeSet::new(), _lock: lock })
    }

    /// To read from. What is saved later is in it, too.
    #[cfg(test)]
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// A snapshot by its name, checked.
    #[cfg(test)]
    pub(crate) fn load(&self, name: &str) -> Result<(Facts, Snapshot), Failure> {
        Ok(self.store.try_load(name)??)
    }

    /// Save a snapshot under a name that no other has. It is on the disk when this returns; before that it is not
    /// there at all. What it shares with the one saved before costs nothing.
    pub(crate) fn save(&mut self, name: &str, snapshot: &Snapshot, facts: &Facts) -> Result<Saved, Failure> {
        let file = files::snapshot_file(&self.store.path, name)?;
        if fs::symlink_metadata(&file).is_ok() {
            return Err(Failure::usage(format!("there is a snapshot \"{name}\" already"))
                .at(self.store.path.display())
                .help("choose another name, or delete that one"));
        }
        let last = self.last.take().map(|(_, last)| last);
        let (root, last, added) = match self.add(snapshot, last, &file) {
            Ok(added) => added,
            Err(trouble) => {
                self.appender.abandon(&mut self.store.objects);
                return Err(trouble.into());
            }
        };
        let content = root::encode(facts, &root)
            .map_err(|why| Failure::config("cannot save the snapshot").at(file.display()).note(why))?;
        durable::publish(&file, &content)
            .and_then(|()| durable::sync_folder(&self.store.path))
            .map_err(|error| Failure::io("cannot save the snapshot", &error).at(file.display()))?;
        self.last = Some((name.to_owned(), last));
        let bytes_written = added.bytes + content.len() as u64;
        Ok(Saved { objects: added.objects, raw_bytes: added.raw_bytes, bytes_written })
    }

    fn add(
        &mut self,
        snapshot: &Snapshot,
        last: Option<Remembered>,
        file: &Path,
    ) -> Result<(Root, Remembered, Added), Trouble> {
        let mut adding = self.appender.adding(&mut self.store.objects, file);
        let (root, last) = tree::save(snapshot, last, &mut adding)?;
        Ok((root, last, adding.finish()?))
    }

    /// Take a snapshot away. Its objects stay until [`StoreWriter::collect`].
    pub(crate) fn delete(&mut self, name: &str) -> Result<(), Failure> {
        let file = files::snapshot_file(&self.store.path, name)?;
        if self.last.as_ref().is_some_and(|(last, _)| last == name) {
            // Nothing holds its objects any more.
            self.last = None;
        }
        let removed = fs::remove_file(&file).and_then(|()| durable::sync_folder(&self.store.path));
        removed.map_err(|error| match error.kind() {
            ErrorKind::NotFound => no_snapshot(name, &self.store.path),
            _ => Failure::io("cannot delete the snapshot", &error).at(file.display()),
        })
    }
}
