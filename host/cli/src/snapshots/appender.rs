//! Adding objects to packs, in groups.

use super::{
    files,
    frame::{Group, pack_header},
    objects::{Objects, Place},
    pack::{Tail, Unpacker},
    tree::Put,
    trouble::Trouble,
};
use crate::{durable, recording::Hash};
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};
use zstd::bulk::Compressor;

/// zstd's level. A guest waits for nothing here, but the disk and the other core are also somebody's.
const LEVEL: i32 = 1;
/// A pack that has become longer gets no more groups. Collecting copies at most a pack's live half at a time.
const PACK_BYTES: u64 = 128 << 20;

/// Writes to the last pack of a folder.
pub(super) struct Appender {
    packs: PathBuf,
    /// Behind the names of the files that it makes.
    suffix: &'static str,
    /// Of the last pack.
    number: u32,
    /// Whether the last pack may be added to.
    goes_on: bool,
    /// As [`PACK_BYTES`], but in tests.
    pub(super) pack_bytes: u64,
    /// Frames of the last pack that are on the disk for certain.
    synced_frames: usize,
    group: Group,
    frame: Vec<u8>,
    zstd: Compressor<'static>,
}

/// What was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) objects: u64,
    pub(super) raw_bytes: u64,
    pub(super) bytes: u64,
}

impl Appender {
    /// Begins a new pack, behind `number`.
    pub(super) fn new(packs: &Path, number: u32, suffix: &'static str) -> Result<Self, Trouble> {
        let zstd = Compressor::new(LEVEL).map_err(Trouble::io("cannot compress snapshots", packs))?;
        Ok(Self {
            packs: packs.to_owned(),
            suffix,
            number,
            goes_on: false,
            pack_bytes: PACK_BYTES,
            synced_frames: 0,
            group: Group::default(),
            frame: Vec::new(),
            zstd,
        })
    }

    /// Goes on where the last writer was interrupted. Nobody has waited for the last pack to reach the disk, so it is
    /// looked at: an object that is damaged is written again.
    pub(super) fn resume(packs: &Path, objects: &mut Objects<File>) -> Result<Self, Trouble> {
        let mut appender = Self::new(packs, 0, "")?;
        let Some((&number, pack)) = objects.packs.last_key_value() else { return Ok(appender) };
        appender.number = number;
        let mut unpack = Unpacker::new();
        let mut damaged = Vec::new();
        for frame in (0_u32..).take(pack.frames().len()) {
            if !pack.is_whole(frame, &mut unpack)? {
                damaged.push(frame);
            }
        }
        appender.synced_frames = pack.frames().len();
        // Behind damage there may be something: it stays as it is.
        let is_damaged = !damaged.is_empty() || matches!(pack.tail(), Tail::Damaged(_));
        objects.distrust(number, &damaged);
        if !is_damaged && let Some(pack) = objects.packs.get_mut(&number) {
            let failed = Trouble::io("cannot go on with the pack", pack.file());
            // Until now it could only be read.
            let file = files::open_file(pack.file(), true).map_err(&failed)?;
            if *pack.tail() == Tail::Torn {
                file.set_len(pack.end()).map_err(&failed)?;
            }
            file.sync_all().map_err(&failed)?;
            drop(failed);
            appender.goes_on = pack.end() > 0;
            pack.is_ours(file);
        }
        Ok(appender)
    }

    /// To add to `objects`, which are those of this folder.
    pub(super) fn adding<'a>(&'a mut self, objects: &'a mut Objects<File>, to: &'a Path) -> Adding<'a> {
        Adding { appender: self, objects, to, added: Added::default() }
    }

    /// After a failure: what is not on the disk for certain goes, and later objects get a new pack.
    pub(super) fn abandon(&mut self, objects: &mut Objects<File>) {
        self.group.clear();
        objects.forget(self.number, self.synced_frames);
        if let Some(pack) = objects.packs.get(&self.number) {
            // If this fails, too, they stay, and are not needed.
            let _cut = pack.source().set_len(pack.end());
        }
        self.goes_on = false;
    }

    fn begin_pack(&mut self, objects: &mut Objects<File>) -> Result<(), Trouble> {
        self.sync(objects)?;
        let number = self
            .number
            .checked_add(1)
            .ok_or_else(|| Trouble::damage(&self.packs, None, "a pack has the last number that there is"))?;
        // If it cannot be made, the next try is another one.
        (self.number, self.goes_on, self.synced_frames) = (number, false, 0);
        let path = files::pack_file(&self.packs, number, self.suffix);
        let failed = Trouble::io("cannot make a pack of snapshots", &path);
        let file = durable::make_file(&path).map_err(&failed)?;
        file.write_all_at(&pack_header(), 0).map_err(&failed)?;
        durable::sync_folder(&self.packs).map_err(&failed)?;
        objects.add(number, &path, file)?;
        self.goes_on = true;
        Ok(())
    }

    /// Wait for the last pack to reach the disk.
    fn sync(&mut self, objects: &Objects<File>) -> Result<(), Trouble> {
        let Some(pack) = objects.packs.get(&self.number).filter(|_| self.goes_on) else { return Ok(()) };
        if self.synced_frames < pack.frames().len() {
            pack.source().sync_data().map_err(Trouble::io("cannot write the pack", pack.file()))?;
            self.synced_frames = pack.frames().len();
        }
        Ok(())
    }
}

/// Adds objects.
pub(super) struct Adding<'a> {
    appender: &'a mut Appender,
    objects: &'a mut Objects<File>,
    /// The file that they are for; for messages.
    to: &'a Path,
    added: Added,
}

impl Put for Adding<'_> {
    fn put(&mut self, object: &[u8]) -> Result<Hash, Trouble> {
        let hash = Hash::of(object);
        if self.objects.place(&hash).is_some() {
            return Ok(hash);
        }
        if self.appender.group.is_full_for(object.len()) {
            self.flush()?;
        }
        let Appender { number, goes_on, pack_bytes, .. } = *self.appender;
        let full = || self.objects.packs.get(&number).is_none_or(|pack| pack.end() >= pack_bytes);
        if self.appender.group.is_empty() && (!goes_on || full()) {
            self.appender.begin_pack(self.objects)?;
        }
        let pack = self.appender.number;
        let frame = u32::try_from(self.objects.packs[&pack].frames().len()).expect("a pack is bounded");
        let entry = self.appender.group.push(hash, object);
        let place = Place { pack, frame, start: entry.start, length: entry.length };
        self.objects.insert(hash, place);
        self.added.objects += 1;
        self.added.raw_bytes += object.len() as u64;
        Ok(hash)
    }

    fn failed(&self, what: String) -> Trouble {
        Trouble::io("cannot save the snapshot", self.to)(io::Error::other(what))
    }
}

impl Adding<'_> {
    fn flush(&mut self) -> Result<(), Trouble> {
        let Appender { group, frame, zstd, number, .. } = &mut *self.appender;
        if group.is_empty() {
            return Ok(());
        }
        let pack = self.objects.packs.get_mut(number).expect("the group was begun for it");
        let failed = Trouble::io("cannot write the pack", pack.file());
        let header = group.encode(zstd, frame).map_err(&failed)?;
        pack.source().write_all_at(frame, pack.end()).map_err(&failed)?;
        drop(failed);
        pack.push(header);
        group.clear();
        self.added.bytes += frame.len() as u64;
        Ok(())
    }

    /// Everything that was added is on the disk.
    pub(super) fn finish(mut self) -> Result<Added, Trouble> {
        self.flush()?;
        self.appender.sync(self.objects)?;
        Ok(self.added)
    }
}
