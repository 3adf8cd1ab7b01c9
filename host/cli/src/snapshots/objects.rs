//! Where every object is: an index over all packs, in memory.

use super::{
    pack::{Pack, Source, Unpacker},
    trouble::{Damage, Trouble},
};
use crate::recording::Hash;
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

/// An object's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) pack: u32,
    pub(super) frame: u32,
    /// In the decompressed group.
    pub(super) start: u32,
    pub(super) length: u32,
}

/// All packs, and what is in them.
pub(super) struct Objects<S> {
    pub(super) packs: BTreeMap<u32, Pack<S>>,
    places: HashMap<Hash, Place>,
}

impl<S> Default for Objects<S> {
    fn default() -> Self {
        Self { packs: BTreeMap::new(), places: HashMap::new() }
    }
}

impl<S: Source> Objects<S> {
    /// Add a pack. Packs come in the order of their numbers: of two copies of an object the later one counts, as it was
    /// written because the earlier one was damaged or is about to go.
    pub(super) fn add(&mut self, number: u32, file: &Path, source: S) -> Result<(), Trouble> {
        let places = &mut self.places;
        let pack = Pack::scan(file, source, |frame, entries| {
            for entry in entries {
                let place = Place { pack: number, frame, start: entry.start, length: entry.length };
                places.insert(entry.hash, place);
            }
        })?;
        self.packs.insert(number, pack);
        Ok(())
    }

    pub(super) fn place(&self, hash: &Hash) -> Option<Place> {
        self.places.get(hash).copied()
    }

    /// An object that is about to be written there.
    pub(super) fn insert(&mut self, hash: Hash, place: Place) {
        self.places.insert(hash, place);
    }

    pub(super) fn places(&self) -> impl Iterator<Item = (&Hash, &Place)> {
        self.places.iter()
    }

    /// A pack has only its first frames.
    pub(super) fn forget(&mut self, number: u32, frames: usize) {
        self.places.retain(|_, place| place.pack != number || (place.frame as usize) < frames);
        if let Some(pack) = self.packs.get_mut(&number) {
            pack.truncate(frames);
        }
    }

    /// Objects of these frames are not to be found here.
    pub(super) fn distrust(&mut self, number: u32, frames: &[u32]) {
        self.places.retain(|_, place| place.pack != number || !frames.contains(&place.frame));
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// To read what `user`, a file, needs.
    pub(super) fn reading<'a>(&'a self, user: &'a Path) -> Reading<'a, S> {
        Reading { objects: self, user, unpack: Unpacker::new(), unpacked: None }
    }
}

/// Reads objects.
pub(super) struct Reading<'a, S> {
    objects: &'a Objects<S>,
    user: &'a Path,
    unpack: Unpacker,
    /// Pack and frame of what is unpacked.
    unpacked: Option<(u32, u32)>,
}

impl<'a, S: Source> Reading<'a, S> {
    /// Show each of these objects to `visit`, checked, in no order that means anything. Each group is read once.
    pub(super) fn read(
        &mut self,
        wanted: impl IntoIterator<Item = Hash>,
        mut visit: impl FnMut(Hash, &[u8]) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let mut found = Vec::new();
        for hash in wanted {
            let place = self.objects.place(&hash).ok_or_else(|| missing(self.user, &hash))?;
            found.push((place, hash));
        }
        found.sort_unstable();
        found.dedup();
        for group in found.chunk_by(|(a, _), (b, _)| (a.pack, a.frame) == (b.pack, b.frame)) {
            let (first, _) = group[0];
            let pack = &self.objects.packs[&first.pack];
            let here = Some((first.pack, first.frame));
            if self.unpacked != here {
                self.unpacked = None;
                pack.unpack(first.frame, &mut self.unpack)?;
                self.unpacked = here;
            }
            for (place, hash) in group {
                let object = &self.unpack.raw()[place.start as usize..][..place.length as usize];
                if Hash::of(object) != *hash {
                    return Err(pack.damage(first.frame, format!("object {hash} has another hash")));
                }
                visit(*hash, object)?;
            }
        }
        Ok(())
    }

    /// There has to be an object of this length.
    pub(super) fn expect(&self, hash: &Hash, bytes: u64) -> Result<(), Trouble> {
        let place = self.objects.place(hash).ok_or_else(|| missing(self.user, hash))?;
        if u64::from(place.length) == bytes {
            return Ok(());
        }
        let what = format!("object {hash} has {} bytes and has to have {bytes}", place.length);
        Err(Trouble::damage(self.user, None, what))
    }

    /// The file that needs them.
    pub(super) fn user(&self) -> &'a Path {
        self.user
    }
}

fn missing(user: &Path, hash: &Hash) -> Trouble {
    Trouble::Missing(Damage::new(user, None, format!("it needs object {hash}, which is in no pack")))
}
