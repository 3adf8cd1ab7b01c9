//! Garbage collection: what no snapshot needs any more goes, once that is most of a pack.

use super::{
    appender::Appender,
    files,
    objects::Objects,
    pack::{Pack, Tail, Unpacker},
    store::read_packs,
    tree::{self, Put},
    trouble::Trouble,
    writer::StoreWriter,
};
use crate::{
    durable::{self, UNPUBLISHED},
    failure::Failure,
    recording::Hash,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs::{self, File},
    path::Path,
};

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Collected {
    /// Packs that went.
    pub(crate) packs: usize,
    /// Objects of them that are needed, and so were copied.
    pub(crate) copied: u64,
    /// How much smaller the store is.
    pub(crate) bytes_freed: u64,
}

impl StoreWriter {
    /// Rewrite the packs of which no snapshot needs the larger part. At every moment all snapshots are whole: the new
    /// packs are there before the old ones go. Boot images and plugins of no snapshot go, too. A store with a damaged
    /// snapshot is left as it is.
    pub(crate) fn collect(&mut self) -> Result<Collected, Failure> {
        let (live, blobs) = self.live()?;
        let blob_bytes_freed = self.collect_blobs(&blobs)?;
        let objects = &self.store.objects;
        let victims = victims(objects, &live);
        if victims.is_empty() {
            return Ok(Collected { bytes_freed: blob_bytes_freed, ..Collected::default() });
        }
        let packs = files::packs_folder(&self.store.path);
        let last = objects.packs.keys().next_back().copied().unwrap_or_default();
        // A collection that failed may have left some.
        files::remove_unpublished(&packs).map_err(Trouble::io("cannot make packs", &packs))?;
        let mut copies = Objects::default();
        let mut appender = Appender::new(&packs, last, UNPUBLISHED)?;
        let mut adding = appender.adding(&mut copies, &self.store.path);
        for number in &victims {
            copy(objects, *number, &live, &mut adding)?;
        }
        let copied = adding.finish()?.objects;
        let before = bytes(objects);
        // What is known of the packs does not hold any more, however far this comes.
        let replaced = publish(&packs, &copies).and_then(|()| remove(&packs, &victims));
        self.look_again()?;
        replaced?;
        let bytes_freed = blob_bytes_freed + before.saturating_sub(bytes(&self.store.objects));
        Ok(Collected { packs: victims.len(), copied, bytes_freed })
    }

    fn look_again(&mut self) -> Result<(), Trouble> {
        // If this fails, nothing is known, and so nothing is taken for saved that has gone.
        self.store.objects = Objects::default();
        let last = self.last.take();
        let mut objects = read_packs(&self.store.path)?;
        self.appender = Appender::resume(&files::packs_folder(&self.store.path), &mut objects)?;
        self.store.objects = objects;
        self.last = last;
        Ok(())
    }

    /// Everything that a snapshot needs: objects, and what its machine was booted from.
    fn live(&mut self) -> Result<(HashSet<Hash>, BTreeSet<Hash>), Failure> {
        let names = files::snapshots(&self.store.path)?;
        // Somebody may have removed its file by hand.
        self.last = self.last.take().filter(|(last, _)| names.contains(last));
        let (mut live, mut blobs) = (HashSet::new(), BTreeSet::new());
        for name in names {
            let file = files::snapshot_file(&self.store.path, &name)?;
            let (facts, root) = self.store.root(&name)?;
            blobs.extend(facts.blobs());
            live.extend(tree::reachable(&mut self.store.objects.reading(&file), &root)?);
        }
        Ok((live, blobs))
    }
}

/// Packs that are mostly dead, ascending.
fn victims(objects: &Objects<File>, live: &HashSet<Hash>) -> Vec<u32> {
    let mut live_bytes: BTreeMap<u32, u64> = BTreeMap::new();
    for (_, place) in objects.places().filter(|(hash, _)| live.contains(hash)) {
        *live_bytes.entry(place.pack).or_default() += u64::from(place.length);
    }
    let is_victim = |(number, pack): &(&u32, &Pack<File>)| {
        let live = live_bytes.get(number).copied().unwrap_or_default();
        // What is behind damage cannot be needed: every snapshot was looked through.
        live * 2 < pack.raw_bytes() || live == 0 || matches!(pack.tail(), Tail::Damaged(_))
    };
    objects.packs.iter().filter(is_victim).map(|(number, _)| *number).collect()
}

/// Copy what is needed of a pack.
fn copy(
    objects: &Objects<File>,
    number: u32,
    live: &HashSet<Hash>,
    to: &mut impl Put,
) -> Result<(), Trouble> {
    let pack = &objects.packs[&number];
    let mut unpack = Unpacker::new();
    for frame in (0_u32..).take(pack.frames().len()) {
        let is_here = |hash: &Hash| {
            objects.place(hash).is_some_and(|place| (place.pack, place.frame) == (number, frame))
        };
        let mut wanted = pack.directory(frame)?;
        wanted.retain(|entry| live.contains(&entry.hash) && is_here(&entry.hash));
        if wanted.is_empty() {
            continue;
        }
        pack.unpack(frame, &mut unpack)?;
        for entry in wanted {
            let copied = to.put(&unpack.raw()[entry.start as usize..][..entry.length as usize])?;
            if copied != entry.hash {
                return Err(pack.damage(frame, format!("object {} has another hash", entry.hash)));
            }
        }
    }
    Ok(())
}

/// Give the copies their names.
fn publish(packs: &Path, copies: &Objects<File>) -> Result<(), Trouble> {
    for (number, pack) in &copies.packs {
        let path = files::pack_file(packs, *number, "");
        fs::rename(pack.file(), &path).map_err(Trouble::io("cannot name the pack", &path))?;
    }
    durable::sync_folder(packs).map_err(Trouble::io("cannot name packs", packs))
}

fn remove(packs: &Path, victims: &[u32]) -> Result<(), Trouble> {
    for number in victims {
        let path = files::pack_file(packs, *number, "");
        fs::remove_file(&path).map_err(Trouble::io("cannot remove the pack", &path))?;
    }
    durable::sync_folder(packs).map_err(Trouble::io("cannot remove packs", packs))
}

fn bytes(objects: &Objects<File>) -> u64 {
    objects.packs.values().map(Pack::end).sum()
}
