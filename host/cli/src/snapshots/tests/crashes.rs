//! Writers that end anywhere.

use super::*;
use crate::snapshots::pack::Pack;
use std::fs::File;

const PACK: &str = "packs/000001.pack";

/// A store with one snapshot, and what a writer would have added for another.
struct Scene {
    a: Snapshot,
    b: Snapshot,
    a_file: Vec<u8>,
    b_file: Vec<u8>,
    /// The pack with both.
    pack: Vec<u8>,
    /// Where it ended with one.
    a_bytes: usize,
    borders: Vec<usize>,
}

fn scene(random: &mut Random) -> Scene {
    let folder = Folder::new("scene");
    let mut store = StoreWriter::create(&folder.0).unwrap();
    let a = random.snapshot(700, 100);
    store.save("a", &a, &facts(1)).unwrap();
    let a_bytes = fs::read(folder.0.join(PACK)).unwrap().len();
    let mut b = a.clone();
    random.change(&mut b, 200);
    store.save("b", &b, &facts(2)).unwrap();
    let path = folder.0.join(PACK);
    let scanned = Pack::scan(&path, File::open(&path).unwrap(), |_, _| ()).unwrap();
    let borders = scanned.frames().iter().map(|frame| usize::try_from(frame.offset).unwrap()).collect();
    let read = |name: &str| fs::read(folder.0.join(name)).unwrap();
    Scene { a, b, a_file: read("a.snap"), b_file: read("b.snap"), pack: read(PACK), a_bytes, borders }
}

impl Scene {
    /// The store as a crash may have left it.
    fn lay_out(&self, folder: &Folder, pack: &[u8]) {
        let _none = fs::remove_dir_all(&folder.0);
        fs::create_dir_all(folder.0.join("packs")).unwrap();
        fs::write(folder.0.join(PACK), pack).unwrap();
        fs::write(folder.0.join("a.snap"), &self.a_file).unwrap();
        fs::write(folder.0.join("b.snap.new"), &self.b_file[..self.b_file.len() / 2]).unwrap();
    }

    fn goes_on(&self, folder: &Folder, pack: &[u8], what: &str) {
        self.lay_out(folder, pack);
        let mut reader = Store::open(&folder.0).unwrap();
        assert!(same(&reader.load("a").unwrap().1, &self.a), "{what}");
        assert_eq!(reader.list().unwrap().len(), 1);
        let mut store = StoreWriter::open(&folder.0).unwrap();
        assert!(!folder.0.join("b.snap.new").exists());
        store.save("b", &self.b, &facts(2)).unwrap_or_else(|failure| panic!("{what}: {failure}"));
        assert_loads(&store, "a", &self.a);
        assert_loads(&store, "b", &self.b);
        drop(store);
        let mut reader = Store::open(&folder.0).unwrap();
        assert!(same(&reader.load("a").unwrap().1, &self.a), "{what}");
        assert!(same(&reader.load("b").unwrap().1, &self.b), "{what}");
    }
}

#[test]
fn a_pack_that_was_cut_anywhere_goes_on() {
    let mut random = Random(21);
    let scene = scene(&mut random);
    let folder = Folder::new("cut");
    let behind = |at: &usize| *at >= scene.a_bytes && *at <= scene.pack.len();
    let mut cuts: Vec<usize> = scene.borders.iter().flat_map(|&at| [at, at + 1, at + 27, at + 28]).collect();
    cuts.extend((0..60).map(|_| scene.a_bytes + random.below(scene.pack.len() - scene.a_bytes)));
    cuts.push(scene.pack.len());
    cuts.retain(behind);
    assert!(cuts.len() > 60);
    for cut in cuts {
        scene.goes_on(&folder, &scene.pack[..cut], &format!("cut at {cut}"));
        assert_whole(&folder.0);
        let pack = fs::read(folder.0.join(PACK)).unwrap();
        assert!(!folder.0.join("packs/000002.pack").exists() && pack.len() >= cut.min(scene.a_bytes));
    }
}

/// What a power cut leaves: a length without content, or other content.
#[test]
fn a_tail_of_zeroes_or_garbage_is_not_believed() {
    let mut random = Random(22);
    let scene = scene(&mut random);
    let folder = Folder::new("tails");
    for round in 0..40 {
        let kept = scene.a_bytes + random.below(scene.pack.len() - scene.a_bytes);
        let mut pack = scene.pack.clone();
        let zeroes = round % 2 == 0;
        let tail = if zeroes { vec![0; pack.len() - kept] } else { random.bytes(pack.len() - kept) };
        pack[kept..].copy_from_slice(&tail);
        scene.goes_on(&folder, &pack, &format!("{kept} bytes kept"));
        // What is wrong stays until it is collected, with all that is behind it.
        let mut store = StoreWriter::open(&folder.0).unwrap();
        store.delete("b").unwrap();
        store.collect().unwrap();
        store.save("c", &scene.b, &facts(3)).unwrap();
        assert_loads(&store, "a", &scene.a);
        assert_loads(&store, "c", &scene.b);
    }
}

#[test]
fn the_first_pack_may_have_no_header() {
    let mut random = Random(23);
    let snapshot = random.snapshot(5, 5);
    let folder = Folder::new("headless");
    for bytes in 0..16 {
        let mut store = StoreWriter::create(&folder.0).unwrap();
        store.save("x", &snapshot, &facts(1)).unwrap();
        store.delete("x").unwrap();
        drop(store);
        let file = File::options().write(true).open(folder.0.join(PACK)).unwrap();
        file.set_len(bytes).unwrap();
        let mut store = StoreWriter::open(&folder.0).unwrap();
        store.save("a", &snapshot, &facts(1)).unwrap();
        assert_loads(&store, "a", &snapshot);
        assert_whole(&folder.0);
        fs::remove_dir_all(&folder.0).unwrap();
    }
    // Its maker came no further.
    fs::create_dir(&folder.0).unwrap();
    StoreWriter::open(&folder.0).unwrap().save("a", &snapshot, &facts(1)).unwrap();
    assert_whole(&folder.0);
}

/// An interrupted collection: new packs without their names, with them, and with some old ones gone.
#[test]
fn a_collection_may_end_anywhere() {
    let mut random = Random(24);
    let folder = Folder::new("half-collected");
    let mut store = StoreWriter::create(&folder.0).unwrap();
    let a = random.snapshot(700, 100);
    store.save("x", &random.snapshot(900, 800), &facts(1)).unwrap();
    store.save("a", &a, &facts(1)).unwrap();
    store.delete("x").unwrap();
    let old = fs::read(folder.0.join(PACK)).unwrap();
    assert_eq!(store.collect().unwrap().packs, 1);
    drop(store);
    let new = folder.0.join("packs/000002.pack");
    let named = fs::read(&new).unwrap();
    for state in 0..3 {
        let _gone = fs::remove_file(&new);
        fs::write(folder.0.join(PACK), &old).unwrap();
        match state {
            0 => fs::write(folder.0.join("packs/000002.pack.new"), &named[..named.len() / 2]).unwrap(),
            1 => fs::write(&new, &named).unwrap(),
            _ => {
                fs::write(&new, &named).unwrap();
                fs::remove_file(folder.0.join(PACK)).unwrap();
            }
        }
        assert!(same(&Store::open(&folder.0).unwrap().load("a").unwrap().1, &a));
        let mut store = StoreWriter::open(&folder.0).unwrap();
        assert_loads(&store, "a", &a);
        store.collect().unwrap();
        assert_loads(&store, "a", &a);
        assert_whole(&folder.0);
        assert!(!folder.0.join("packs/000002.pack.new").exists() && !folder.0.join(PACK).exists());
    }
}

#[test]
fn a_snapshot_that_was_cut_is_refused() {
    let mut random = Random(25);
    let scene = scene(&mut random);
    let folder = Folder::new("snap");
    scene.lay_out(&folder, &scene.pack);
    let mut store = Store::open(&folder.0).unwrap();
    for bytes in 0..scene.b_file.len() {
        fs::write(folder.0.join("b.snap"), &scene.b_file[..bytes]).unwrap();
        assert_eq!(store.load("b").unwrap_err().exit, Exit::Corrupt, "cut at {bytes}");
    }
    assert!(same(&store.load("a").unwrap().1, &scene.a));
    // Published without its objects: not even that is believed.
    fs::write(folder.0.join("b.snap"), &scene.b_file).unwrap();
    fs::write(folder.0.join(PACK), &scene.pack[..scene.a_bytes]).unwrap();
    let failure = Store::open(&folder.0).unwrap().load("b").unwrap_err();
    assert!(failure.exit == Exit::Corrupt && failure.to_string().contains("is in no pack"), "{failure}");
    let mut writer = StoreWriter::open(&folder.0).unwrap();
    assert_eq!(writer.collect().unwrap_err().exit, Exit::Corrupt);
}

/// The host cannot read a block of the guest's in the middle of saving. The next snapshot shares objects with the one
/// that failed, and must not miss them.
#[test]
fn a_save_that_fails_leaves_nothing_behind() {
    struct Broken;
    impl reprise_machine::BlockContent for Broken {
        fn read(&self, _: usize, _: &mut [u8]) -> Result<(), reprise_machine::DiskError> {
            Err(reprise_machine::DiskError("the cable is out".to_owned()))
        }

        fn write(&mut self, _: usize, _: &[u8]) -> Result<(), reprise_machine::DiskError> {
            panic!("nobody writes to a block of a snapshot");
        }
    }
    let folder = Folder::new("fails");
    let mut random = Random(26);
    let mut store = StoreWriter::create(&folder.0).unwrap();
    let before = random.snapshot(700, 100);
    store.save("before", &before, &facts(1)).unwrap();
    let end = fs::metadata(folder.0.join(PACK)).unwrap().len();
    let mut snapshot = before.clone();
    random.change(&mut snapshot, 500);
    let mut broken = snapshot.clone();
    Arc::make_mut(&mut broken.disks[1].1.blocks).insert(u64::MAX, Arc::new(Broken));
    let failure = store.save("broken", &broken, &facts(2)).unwrap_err();
    assert!(failure.exit == Exit::Io && failure.to_string().contains("the cable is out"), "{failure}");
    assert_eq!(fs::metadata(folder.0.join(PACK)).unwrap().len(), end, "what was written of it is cut off");
    assert!(store.load("broken").unwrap_err().to_string().contains("no snapshot"));
    store.save("after", &snapshot, &facts(3)).unwrap();
    assert_loads(&store, "before", &before);
    assert_loads(&store, "after", &snapshot);
    assert_whole(&folder.0);
    assert_eq!(store.store().list().unwrap().len(), 2);
}
