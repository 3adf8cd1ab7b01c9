//! Stores that somebody sent.

use super::*;
use crate::snapshots::{
    objects::Objects,
    root::{self, seal},
    tree,
    trouble::Trouble,
};

/// A small store with everything in it, in memory.
fn small(random: &mut Random) -> (Snapshot, Vec<u8>, Vec<u8>) {
    let folder = Folder::new("small");
    let mut store = StoreWriter::create(&folder.0).unwrap();
    let mut snapshot = random.snapshot(600, 0);
    for at in [0, 1, 2, 511, 513] {
        snapshot.ram.set(at, Some(random.page()));
    }
    let blocks = Arc::make_mut(&mut snapshot.disks[0].1.blocks);
    blocks.clear();
    blocks.insert(3, loaded_block(vec![7; 100]));
    blocks.insert(300, loaded_block(vec![8; 100]));
    Arc::make_mut(&mut snapshot.disks[1].1.blocks).clear();
    store.save("a", &snapshot, &facts(1)).unwrap();
    let read = |name: &str| fs::read(folder.0.join(name)).unwrap();
    (snapshot, read("packs/000001.pack"), read("a.snap"))
}

fn load(pack: Vec<u8>, file: &[u8]) -> Result<(Facts, Snapshot), Trouble> {
    let mut objects = Objects::default();
    objects.add(1, Path::new("1.pack"), pack)?;
    let path = Path::new("a.snap");
    let (facts, root) = root::decode(file, path)?;
    let mut reading = objects.reading(path);
    let reachable = tree::reachable(&mut reading, &root).map(drop);
    let loaded = tree::load(&mut reading, &root);
    // What can be loaded is also found to be whole. The other way round contents were not looked at.
    assert!(reachable.is_ok() || loaded.is_err());
    Ok((facts, loaded?))
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(2) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len());
        match random.below(5) {
            0 | 1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, random.next() as u8),
            // A number somewhere: small, large, or none.
            _ => {
                let number = [0, 1, 0xff, 0x1000, 0x10_0000, 0x7fff_ffff, u32::MAX][random.below(7)];
                let end = bytes.len().min(at + 4);
                bytes[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
            }
        }
    }
}

/// Make the checksums of a pack fit again, as far as its lengths can be followed.
fn seal_pack(bytes: &mut [u8]) {
    let put = |bytes: &mut [u8], at: usize, from: std::ops::Range<usize>| {
        let crc = crc32c::crc32c(&bytes[from]);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    };
    if bytes.len() < 16 {
        return;
    }
    put(bytes, 12, 0..12);
    let mut at = 16;
    while at + 28 <= bytes.len() {
        let number =
            |offset: usize| u32::from_le_bytes(bytes[at + offset..at + offset + 4].try_into().unwrap());
        let directory_end = at + 28 + number(4) as usize * 36;
        let end = directory_end + number(8) as usize;
        if end <= bytes.len() {
            put(bytes, at + 16, at + 28..directory_end);
            put(bytes, at + 20, directory_end..end);
        }
        put(bytes, at + 24, at..at + 24);
        at = end;
    }
}

/// Whatever is in a store: an error or the snapshot that was saved, never a panic.
#[test]
fn a_hundred_thousand_damaged_stores() {
    let mut random = Random(31);
    let (good, pack, file) = small(&mut random);
    assert!(same(&load(pack.clone(), &file).unwrap().1, &good));
    let (mut refused, mut loaded, mut other) = (0, 0, 0);
    for round in 0..100_000 {
        let (mut bad_pack, mut bad_file) = (pack.clone(), file.clone());
        let sealed = round % 4 >= 2;
        if round % 2 == 0 {
            mutate(&mut random, &mut bad_pack);
            if sealed {
                seal_pack(&mut bad_pack);
            }
        } else {
            mutate(&mut random, &mut bad_file);
            if sealed {
                seal(&mut bad_file);
            }
        }
        match load(bad_pack, &bad_file) {
            Err(trouble) => {
                refused += 1;
                let failure = crate::failure::Failure::from(trouble);
                assert_eq!(failure.exit, Exit::Corrupt, "{failure}");
            }
            Ok((_, snapshot)) if same(&snapshot, &good) => loaded += 1,
            // Somebody else's snapshot, under a hash of its own.
            Ok(_) => {
                assert!(sealed && round % 2 == 1, "round {round} loads another snapshot");
                other += 1;
            }
        }
    }
    assert!(
        refused > 60_000 && loaded > 500 && other > 100,
        "{refused} refused, {loaded} loaded, {other} others"
    );
}

#[test]
fn a_later_format_is_refused_by_name() {
    let mut random = Random(32);
    let (_, pack, file) = small(&mut random);
    let mut later = file.clone();
    later[8..12].copy_from_slice(&2_u32.to_le_bytes());
    let mut later_pack = pack.clone();
    later_pack[8..12].copy_from_slice(&7_u32.to_le_bytes());
    seal_pack(&mut later_pack);
    for (pack, file, format) in [(pack, &later, 2), (later_pack, &file, 7)] {
        let failure = crate::failure::Failure::from(load(pack, file).unwrap_err());
        let text = failure.to_string();
        assert_eq!(failure.exit, Exit::Corrupt);
        assert!(text.contains("snapshot-too-new") && text.contains(&format!("format {format}")), "{text}");
    }
}

/// A check names file and offset of what is damaged, and the snapshots that need it.
#[test]
fn damage_is_named() {
    let mut random = Random(33);
    let folder = Folder::new("named");
    let mut store = StoreWriter::create(&folder.0).unwrap();
    store.save("a", &random.snapshot(300, 200), &facts(1)).unwrap();
    drop(store);
    let path = folder.0.join("packs/000001.pack");
    let good = fs::read(&path).unwrap();
    for _ in 0..200 {
        let mut bad = good.clone();
        let at = random.below(bad.len());
        bad[at] ^= 1 << random.below(8);
        fs::write(&path, &bad).unwrap();
        let mut store = match Store::open(&folder.0) {
            Ok(store) => store,
            Err(failure) => {
                assert!(at < 16 && failure.exit == Exit::Corrupt, "byte {at}: {failure}");
                continue;
            }
        };
        let damage = store.check().unwrap().damage;
        let first = damage.first().unwrap_or_else(|| panic!("byte {at} is not missed"));
        assert!(!first.what.is_empty());
        if first.file == path {
            assert!(first.offset.is_some_and(|offset| offset <= at as u64), "byte {at}: {first}");
        } else {
            // A length that is too long is a torn end; what was behind it is missed.
            assert!(first.file == folder.0.join("a.snap"), "byte {at}: {first}");
        }
        assert_eq!(store.load("a").unwrap_err().exit, Exit::Corrupt, "byte {at}");
    }
}

/// What is not a file is not opened: that might wait for ever.
#[test]
fn only_regular_files_are_read() {
    let mut random = Random(34);
    let folder = Folder::new("fifo");
    let mut store = StoreWriter::create(&folder.0).unwrap();
    store.save("a", &random.snapshot(3, 3), &facts(1)).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, folder.0.join("b.snap"), fifo, mode, 0).unwrap();
    std::os::unix::fs::symlink(folder.0.join("a.snap"), folder.0.join("c.snap")).unwrap();
    for name in ["b", "c"] {
        assert_eq!(store.load(name).unwrap_err().exit, Exit::Io, "{name}");
    }
    rustix::fs::mknodat(rustix::fs::CWD, folder.0.join("packs/000009.pack"), fifo, mode, 0).unwrap();
    assert!(Store::open(&folder.0).is_err());
}

/// Facts that nest without end, or lie about their length, are an error like any other.
#[test]
fn facts_are_bounded() {
    let mut random = Random(35);
    let (_, pack, file) = small(&mut random);
    let length = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let body = &file[52 + length(12)..];
    assert_eq!(body.len(), length(16));
    let deep =
        |open: &str, close: &str| format!("board = {}1{}", open.repeat(200_000), close.repeat(200_000));
    for facts in
        [deep("[", "]"), deep("{a=", "}"), format!("[{}]", "a.".repeat(200_000) + "a"), String::new()]
    {
        let mut bad = file[..52].to_vec();
        bad[12..16].copy_from_slice(&u32::try_from(facts.len()).unwrap().to_le_bytes());
        bad.extend_from_slice(facts.as_bytes());
        bad.extend_from_slice(body);
        seal(&mut bad);
        assert!(matches!(load(pack.clone(), &bad), Err(Trouble::Damage(_))));
    }
    let mut long = file.clone();
    long[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    long[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
    seal(&mut long);
    assert!(matches!(load(pack, &long), Err(Trouble::Damage(_))));
}
