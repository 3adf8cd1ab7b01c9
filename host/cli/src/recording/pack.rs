//! `reprise pack` and `reprise unpack`: a recording as one file that needs nothing else, and back.

use super::{
    DiskRow, Hash, MANIFEST, SNAPSHOTS, START, Store, archive::Builder, blob_name, blocks, blocks_name,
    folder::Folder, packed_blob_name, scan::scan, segment_name, start_name, start_pack_name,
};
use crate::{
    failure::{Exit, Failure},
    snapshots::StoreWriter,
};
use reprise_machine::replay::{Entry, log::Tail};
use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufWriter, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// zstd's level for images and plugins: they are packed once and sent often.
const LEVEL: i32 = 9;

/// Reads a block of a disk's image.
pub(crate) type ReadBlock<'a> = &'a mut dyn FnMut(&DiskRow, u64) -> Result<Vec<u8>, Failure>;

/// What went into a pack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packed {
    pub(crate) size_bytes: u64,
    /// The log has no end: the recording was interrupted.
    pub(crate) torn: Option<Tail>,
}

/// Write `store` and the blocks of its disks that the run read into one file.
pub(crate) fn pack(store: &Store, out: &Path, force: bool, read: ReadBlock<'_>) -> Result<Packed, Failure> {
    if out.exists() && !force {
        return Err(Failure::usage("the pack would overwrite something")
            .at(out.display())
            .help("choose another name, or replace it with --force"));
    }
    let (touched, torn) = touched_blocks(store)?;
    let half = Half::new(out)?;
    let cannot = |error: &io::Error| Failure::io("cannot write the pack", error).at(out.display());
    let mut builder = Builder::new(BufWriter::new(&half.file));
    add_raw(&mut builder, store, MANIFEST).map_err(|e| cannot(&e))?;
    for number in 0.. {
        if !add_raw(&mut builder, store, &segment_name(number)).map_err(|e| cannot(&e))? {
            break;
        }
    }
    for hash in store.manifest().contents() {
        let packed = zstd::bulk::compress(&store.blob(&hash)?, LEVEL).map_err(|e| cannot(&e))?;
        let added = builder.add(&packed_blob_name(&hash), packed.len() as u64, packed.as_slice());
        added.map_err(|e| cannot(&e))?;
    }
    add_start(&mut builder, store, out)?;
    for disk in store.manifest().disks.iter().filter(|disk| disk.file.is_some()) {
        let none = BTreeMap::new();
        let wanted = touched.get(&(disk.device.clone(), disk.port.clone())).unwrap_or(&none);
        let (length, file) = disk_file(store, disk, wanted, read)?;
        builder.add(&blocks_name(disk), length, file).map_err(|e| cannot(&e))?;
    }
    let file = builder.finish().map_err(|e| cannot(&e))?;
    file.into_inner().map_err(|e| cannot(e.error()))?.sync_all().map_err(|e| cannot(&e))?;
    let size_bytes = half.publish().map_err(|e| cannot(&e))?;
    Ok(Packed { size_bytes, torn })
}

/// The image's blocks that the log names, with their hashes, by device and port; and how the log breaks off.
pub(crate) type Touched = BTreeMap<(String, String), BTreeMap<u64, Hash>>;

pub(crate) fn touched_blocks(store: &Store) -> Result<(Touched, Option<Tail>), Failure> {
    let mut touched = Touched::new();
    let devices = &store.manifest().devices;
    let tail = scan(store, |record| {
        if let Entry::DiskBlock { device, port, block, hash } = &record.entry {
            let row = devices.get(*device as usize);
            let key = row.and_then(|row| Some((row.id.clone(), row.ports.get(*port as usize)?.clone())));
            let key = key.ok_or_else(|| {
                super::corrupt(
                    store.path(),
                    format!("the log has a disk of device {device} that is not there"),
                )
            })?;
            touched.entry(key).or_default().insert(*block, Hash(*hash));
        }
        Ok(true)
    })?;
    Ok((touched, tail.filter(|tail| *tail != Tail::Closed)))
}

/// The blocks' file of a disk, from the image, or as it is if the recording has it already.
fn disk_file(
    store: &Store,
    disk: &DiskRow,
    wanted: &BTreeMap<u64, Hash>,
    read: ReadBlock<'_>,
) -> Result<(u64, Box<dyn Read>), Failure> {
    let cannot = |error: &io::Error| Failure::io("cannot write the pack", error);
    if let Some((length, file)) = store.raw(&blocks_name(disk)).map_err(|e| cannot(&e))? {
        return Ok((length, Box::new(file)));
    }
    let mut failure = None;
    let mut file = crate::disk::unnamed_file().map_err(|e| cannot(&e))?;
    let written = blocks::write(&mut file, disk.size_bytes, wanted, |block| {
        checked_block(disk, block, wanted[&block], &mut *read).map_err(|why| {
            let text = why.to_string();
            failure = Some(why);
            io::Error::other(text)
        })
    });
    if let Some(failure) = failure {
        return Err(failure);
    }
    let length = written.map_err(|e| cannot(&e))?;
    file.rewind().map_err(|e| cannot(&e))?;
    Ok((length, Box::new(file)))
}

fn checked_block(disk: &DiskRow, block: u64, hash: Hash, read: ReadBlock<'_>) -> Result<Vec<u8>, Failure> {
    let content = read(disk, block)?;
    if Hash::of(&content) == hash {
        return Ok(content);
    }
    let from = block * reprise_machine::DISK_BLOCK_BYTES;
    Err(Failure::new(
        Exit::Config,
        format!("the image of disk \"{}\" has changed since the recording", disk.device),
    )
    .at(disk.file.as_deref().unwrap_or_default())
    .note(format!("block {block} (bytes {from} to {}) has another content", from + content.len() as u64))
    .help("say where the image is as it was then: --disk ID=FILE"))
}

/// The snapshot in which it begins, with packs that have nothing else.
fn add_start<W: Write>(builder: &mut Builder<W>, store: &Store, out: &Path) -> Result<(), Failure> {
    let Some((facts, snapshot)) = store.start()? else { return Ok(()) };
    let cannot = |error: &io::Error| Failure::io("cannot write the pack", error).at(out.display());
    let folder = Scratch::beside(out);
    StoreWriter::create(&folder.0)?.save(START, &snapshot, &facts)?;
    // Not the one that was made just now, which another version may word otherwise: the manifest has this one's hash.
    add_raw(builder, store, &start_name()).map_err(|e| cannot(&e))?;
    for number in 1.. {
        let name = start_pack_name(number);
        let path = folder.0.join("packs").join(Path::new(&name).file_name().expect("it has one"));
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(cannot(&error)),
        };
        let length = file.metadata().map_err(|e| cannot(&e))?.len();
        builder.add(&name, length, file).map_err(|e| cannot(&e))?;
    }
    Ok(())
}

/// A folder that goes when it is needed no more.
struct Scratch(PathBuf);

impl Scratch {
    fn beside(out: &Path) -> Self {
        let mut name = out.as_os_str().to_owned();
        name.push(format!(".{}.snapshots", std::process::id()));
        Self(PathBuf::from(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing of it is of use; if it cannot be removed, its name says what it is.
        let _left = fs::remove_dir_all(&self.0);
    }
}

fn add_raw<W: Write>(builder: &mut Builder<W>, store: &Store, name: &str) -> io::Result<bool> {
    let Some((length, content)) = store.raw(name)? else { return Ok(false) };
    builder.add(name, length, content)?;
    Ok(true)
}

/// A file that gets its name when it is whole, and goes away otherwise.
struct Half<'a> {
    out: &'a Path,
    path: PathBuf,
    file: File,
    published: bool,
}

impl<'a> Half<'a> {
    fn new(out: &'a Path) -> Result<Self, Failure> {
        let mut name = out.as_os_str().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let path = PathBuf::from(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|e| Failure::io("cannot write the pack", &e).at(path.display()))?;
        Ok(Self { out, path, file, published: false })
    }

    fn publish(mut self) -> io::Result<u64> {
        fs::rename(&self.path, self.out)?;
        self.published = true;
        Ok(self.file.metadata()?.len())
    }
}

impl Drop for Half<'_> {
    fn drop(&mut self) {
        if !self.published {
            // Nothing of it is of use; if it cannot be removed, its name says what it is.
            let _left = fs::remove_file(&self.path);
        }
    }
}

/// Make a folder of a packed recording.
pub(crate) fn unpack(store: &Store, folder: &Path, force: bool) -> Result<(), Failure> {
    let made = Folder::make(folder, force)?;
    match fill(store, folder) {
        Ok(()) => made.keep(),
        Err(failure) => {
            made.discard();
            return Err(failure);
        }
    }
    Ok(())
}

fn fill(store: &Store, folder: &Path) -> Result<(), Failure> {
    let cannot = |error: &io::Error| Failure::io("cannot unpack the recording", error).at(folder.display());
    for part in ["log", "blobs", "disks"] {
        fs::create_dir(folder.join(part)).map_err(|e| cannot(&e))?;
    }
    for number in 0.. {
        if !copy_raw(store, folder, &segment_name(number)).map_err(|e| cannot(&e))? {
            break;
        }
    }
    for hash in store.manifest().contents() {
        let bytes = store.blob(&hash)?;
        fs::write(folder.join(blob_name(&hash)), bytes).map_err(|e| cannot(&e))?;
    }
    if store.manifest().start.is_some() {
        for part in [SNAPSHOTS.to_owned(), format!("{SNAPSHOTS}/packs")] {
            DirBuilder::new().mode(0o700).create(folder.join(part)).map_err(|e| cannot(&e))?;
        }
        copy_raw(store, folder, &start_name()).map_err(|e| cannot(&e))?;
        for number in 1.. {
            if !copy_raw(store, folder, &start_pack_name(number)).map_err(|e| cannot(&e))? {
                break;
            }
        }
    }
    for disk in &store.manifest().disks {
        copy_raw(store, folder, &blocks_name(disk)).map_err(|e| cannot(&e))?;
    }
    // Last: without it the folder is no recording.
    copy_raw(store, folder, MANIFEST).map_err(|e| cannot(&e))?;
    Ok(())
}

fn copy_raw(store: &Store, folder: &Path, name: &str) -> io::Result<bool> {
    let Some((_, mut content)) = store.raw(name)? else { return Ok(false) };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join(name))?;
    io::copy(&mut content, &mut file)?;
    Ok(true)
}
