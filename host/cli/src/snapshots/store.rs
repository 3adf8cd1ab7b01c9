//! Reading a store.

use super::{
    facts::Facts,
    files,
    objects::Objects,
    pack::Part,
    root::{self, MAX_FILE_BYTES, Root},
    tree,
    trouble::Trouble,
};
use crate::failure::Failure;
use reprise_machine::Snapshot;
use std::{
    fs::File,
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// How often packs are looked for again, if a collection takes them away meanwhile.
const TRIES: usize = 5;

/// A folder of snapshots, open for reading. Somebody may be adding to it.
pub(crate) struct Store {
    pub(super) path: PathBuf,
    pub(super) objects: Objects<File>,
}

/// A snapshot of a store.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// What it says of itself, or why it cannot.
    pub(crate) facts: Result<Facts, Failure>,
}

impl Store {
    /// Reads what is in the packs, and none of the content.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let objects = read_packs(path)?;
        Ok(Self { path: path.to_owned(), objects })
    }

    /// All snapshots, in the order of their names.
    pub(crate) fn list(&self) -> Result<Vec<Row>, Failure> {
        let names = files::snapshots(&self.path)?;
        let row = |name: String| Row { facts: self.root(&name).map(|(facts, _)| facts), name };
        Ok(names.into_iter().map(row).collect())
    }

    /// A snapshot by its name, checked.
    pub(crate) fn load(&mut self, name: &str) -> Result<(Facts, Snapshot), Failure> {
        match self.try_load(name)? {
            Ok(loaded) => Ok(loaded),
            // It may be younger than what we know of the packs.
            Err(Trouble::Missing(_)) => {
                self.objects = read_packs(&self.path)?;
                Ok(self.try_load(name)??)
            }
            Err(trouble) => Err(trouble.into()),
        }
    }

    /// As [`Store::load`], with the packs that are known. The outer failure is the snapshot's file.
    pub(super) fn try_load(&self, name: &str) -> Result<Result<(Facts, Snapshot), Trouble>, Failure> {
        let file = files::snapshot_file(&self.path, name)?;
        let (facts, root) = self.root(name)?;
        Ok(tree::load(&mut self.objects.reading(&file), &root).map(|snapshot| (facts, snapshot)))
    }

    /// The content of a snapshot's file.
    pub(super) fn root(&self, name: &str) -> Result<(Facts, Root), Failure> {
        let file = files::snapshot_file(&self.path, name)?;
        self.try_root(&file).map_err(|trouble| match trouble {
            Trouble::Io { error, .. } if error.kind() == ErrorKind::NotFound => no_snapshot(name, &self.path),
            trouble => trouble.into(),
        })
    }

    pub(super) fn try_root(&self, file: &Path) -> Result<(Facts, Root), Trouble> {
        let bytes =
            files::read_file(file, MAX_FILE_BYTES).map_err(Trouble::io("cannot read the snapshot", file))?;
        if bytes.len() > MAX_FILE_BYTES {
            return Err(Trouble::damage(file, None, "it is longer than any snapshot"));
        }
        root::decode(&bytes, file)
    }
}

/// A snapshot that lies in another file, as that one's content `root`, with its packs by name.
pub(crate) fn load_parts(
    file: &Path,
    root: &[u8],
    packs: Vec<(PathBuf, Part)>,
) -> Result<(Facts, Snapshot), Failure> {
    let (facts, root) = root::decode(root, file)?;
    let mut objects = Objects::default();
    for (number, (name, pack)) in (1..).zip(packs) {
        objects.add(number, &name, pack)?;
    }
    let snapshot = tree::load(&mut objects.reading(file), &root)?;
    Ok((facts, snapshot))
}

pub(super) fn no_snapshot(name: &str, store: &Path) -> Failure {
    Failure::usage(format!("there is no snapshot \"{name}\"")).at(store.display())
}

/// What is in all packs.
pub(super) fn read_packs(store: &Path) -> Result<Objects<File>, Trouble> {
    let folder = files::packs_folder(store);
    for _ in 0..TRIES {
        if let Some(objects) = try_read_packs(&folder)? {
            return Ok(objects);
        }
    }
    Err(Trouble::damage(&folder, None, "packs come and go faster than they can be opened"))
}

/// Nothing if a pack is gone between listing and opening.
fn try_read_packs(folder: &Path) -> Result<Option<Objects<File>>, Trouble> {
    let mut objects = Objects::default();
    for number in files::packs(folder)? {
        let path = files::pack_file(folder, number, "");
        match files::open_file(&path, false) {
            Ok(file) => objects.add(number, &path, file)?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Trouble::io("cannot open the pack", &path)(error)),
        }
    }
    Ok(Some(objects))
}
