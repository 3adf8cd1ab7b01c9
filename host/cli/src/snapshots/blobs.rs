//! What machines were booted from, and their plugins: whole files beside the packs, each once, under its hash. With
//! them a snapshot is complete but for the images of disks.
//!
//! Snapshots inside a recording need none of their own: it has them.

use super::{facts::Facts, files, store::Store, trouble::Trouble, writer::StoreWriter};
use crate::{durable, failure::Failure, recording::Hash};
use std::{
    collections::BTreeSet,
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// No boot image or plugin is longer.
const MAX_BLOB_BYTES: usize = 8 << 30;

impl StoreWriter {
    /// Have these contents, each under its hash, before the snapshots that need them. They stay while this writer does,
    /// and afterwards as long as a snapshot needs them. Returns how many bytes were written.
    pub(crate) fn keep(&mut self, contents: &[(Hash, &[u8])]) -> Result<u64, Failure> {
        let folder = self.store.blobs_folder();
        let mut written = 0;
        for (hash, bytes) in contents {
            assert_eq!(*hash, Hash::of(bytes), "a content has its own hash");
            self.kept.insert(*hash);
            let path = folder.join(hash.to_string());
            if read(&path, bytes.len()).is_ok_and(|there| there == *bytes) {
                continue;
            }
            make_folder(&folder, &self.store.path)
                .and_then(|()| durable::publish(&path, bytes))
                .map_err(Trouble::io("cannot keep what the machine was booted from", &path))?;
            written += bytes.len() as u64;
        }
        if written > 0 {
            durable::sync_folder(&folder).map_err(Trouble::io("cannot sync the folder", &folder))?;
        }
        Ok(written)
    }

    /// Remove what no snapshot needs. Returns how many bytes that were.
    pub(super) fn collect_blobs(&self, needed: &BTreeSet<Hash>) -> Result<u64, Trouble> {
        let folder = self.store.blobs_folder();
        let mut freed = 0;
        for hash in self.store.blobs()? {
            if needed.contains(&hash) || self.kept.contains(&hash) {
                continue;
            }
            let path = folder.join(hash.to_string());
            let remove = || {
                let bytes = fs::symlink_metadata(&path)?.len();
                fs::remove_file(&path).map(|()| bytes)
            };
            freed += remove().map_err(Trouble::io("cannot remove what no snapshot needs", &path))?;
        }
        Ok(freed)
    }
}

impl Store {
    /// What a machine was booted from, or a plugin, by its hash, checked.
    pub(crate) fn blob(&self, facts: &Facts, hash: &Hash) -> Result<Vec<u8>, Failure> {
        Ok(self.try_blob(facts, hash)?)
    }

    pub(super) fn try_blob(&self, facts: &Facts, hash: &Hash) -> Result<Vec<u8>, Trouble> {
        let ours = self.blobs_folder().join(hash.to_string());
        let mut places = vec![ours.clone()];
        if facts.recording.is_some() {
            places.push(self.path.join("../blobs").join(hash.to_string()));
        }
        let limit = facts.blob_bytes(hash).map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        for path in places {
            match read(&path, limit) {
                Ok(bytes) if Hash::of(&bytes) == *hash => return Ok(bytes),
                Ok(_) => {
                    return Err(Trouble::damage(&path, None, "its content has another hash than its name"));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => (),
                Err(error) => return Err(Trouble::io("cannot read", &path)(error)),
            }
        }
        Err(Trouble::damage(&ours, None, "it is missing"))
    }

    /// The hashes of what is kept, ascending.
    pub(super) fn blobs(&self) -> Result<BTreeSet<Hash>, Trouble> {
        let folder = self.blobs_folder();
        match files::names(&folder) {
            Ok(names) => Ok(names.iter().filter_map(|name| Hash::parse(name)).collect()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(error) => Err(Trouble::io("cannot list", &folder)(error)),
        }
    }

    pub(super) fn blobs_folder(&self) -> PathBuf {
        self.path.join("blobs")
    }
}

impl Facts {
    /// Boot images and plugins, by hash and length.
    fn contents(&self) -> impl Iterator<Item = (Hash, u64)> {
        let plugins = self.plugins.iter().map(|plugin| (plugin.blake3, plugin.size_bytes));
        self.images.iter().map(|image| (image.blake3, image.size_bytes)).chain(plugins)
    }

    /// Boot images and plugins, by hash.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = Hash> {
        self.contents().map(|(hash, _)| hash)
    }

    fn blob_bytes(&self, wanted: &Hash) -> Option<u64> {
        self.contents().find(|(hash, _)| hash == wanted).map(|(_, bytes)| bytes)
    }
}

/// A file's content, and one byte more than it may have if it is longer.
fn read(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    files::read_file(path, limit.min(MAX_BLOB_BYTES))
}

fn make_folder(folder: &Path, store: &Path) -> io::Result<()> {
    match files::make_folder(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| durable::sync_folder(store)),
    }
}
