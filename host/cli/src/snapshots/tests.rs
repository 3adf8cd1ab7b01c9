//! Whole stores in folders of their own.

mod blobs;
mod crashes;
mod garbage;
mod hostile;

use super::{
    Checked, Facts, RecordingRow, Report, Row, Saver, Store, StoreWriter, collect::Collected,
    trouble::Damage, writer::Saved,
};
use crate::{
    disk::loaded_block,
    failure::Exit,
    recording::{DiskRow, Hash, ImageRow, Images, PluginRow},
};
use reprise_machine::{DiskChanges, PAGE_BYTES, RamImage, Snapshot};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

/// A folder in a recording, which goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("reprise-snapshots-{test}-{}-{number}", std::process::id());
        let above = std::env::temp_dir().join(name);
        let _none_left = fs::remove_dir_all(&above);
        // As in a recording, which has what the machine was booted from.
        fs::create_dir_all(above.join("blobs")).unwrap();
        fs::write(above.join("blobs").join(Hash::of(b"x").to_string()), b"x").unwrap();
        Self(above.join("snapshots"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(self.0.parent().unwrap());
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    /// Some of it compresses, some of it does not.
    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let noisy = self.below(2) == 0;
        let words = (0..length.div_ceil(8)).map(|_| if noisy { self.next() } else { self.next() & 0xff });
        words.flat_map(u64::to_le_bytes).take(length).collect()
    }

    fn page(&mut self) -> Arc<[u8; PAGE_BYTES]> {
        Arc::new(self.bytes(PAGE_BYTES).try_into().unwrap())
    }

    fn change_ram(&mut self, ram: &mut RamImage, changes: usize) {
        for _ in 0..changes {
            let at = self.below(ram.pages());
            let page = match self.below(4) {
                0 => None,
                // The content of another page, as other memory.
                1 => ram.page(self.below(ram.pages())).map(|page| Arc::new(**page)),
                _ => Some(self.page()),
            };
            ram.set(at, page);
        }
    }

    fn change_disk(&mut self, disk: &mut DiskChanges, changes: usize) {
        let blocks = Arc::make_mut(&mut disk.blocks);
        for _ in 0..changes {
            // Far apart and near one another.
            let block = self.next() % 60 * 9 + self.next() % 3 * 1_000_000_000_000;
            match self.below(4) {
                0 => drop(blocks.remove(&block)),
                _ => drop(blocks.insert(block, loaded_block(self.bytes(16384)))),
            }
        }
        let zeroes = Arc::make_mut(&mut disk.zeroes);
        let start = zeroes.last_key_value().map_or(0, |(_, end)| *end) + self.next() % 100;
        zeroes.insert(start, start + 1 + self.next() % 9);
        Arc::make_mut(&mut disk.first_reads).insert(self.next() % 1000, self.next() | 1);
    }

    /// What a machine may be a while later.
    fn change(&mut self, snapshot: &mut Snapshot, changes: usize) {
        self.change_ram(&mut snapshot.ram, changes);
        for index in 0..snapshot.disks.len() {
            // Some disks stay as they are.
            if self.below(2) == 0 {
                self.change_disk(&mut snapshot.disks[index].1, changes / 4 + 1);
            }
        }
        for (_, record) in &mut snapshot.sections {
            let length = self.below(300);
            *record = self.bytes(length);
        }
    }

    fn snapshot(&mut self, pages: usize, changes: usize) -> Snapshot {
        let sections = ["clock", "hart0", "empty", "device.uart0"];
        let mut snapshot = Snapshot {
            sections: sections.into_iter().map(|name| (name.to_owned(), Vec::new())).collect(),
            ram: RamImage::zeroed(pages),
            disks: vec![
                ("disk0.blk".to_owned(), DiskChanges::default()),
                ("disk1.blk".to_owned(), DiskChanges::default()),
            ],
        };
        self.change(&mut snapshot, changes);
        snapshot.sections[2].1.clear();
        snapshot
    }
}

fn facts(icount: u64) -> Facts {
    let hash = Hash::of(b"x");
    Facts {
        reprise: "0.1.0".to_owned(),
        created_unix_ms: 1_700_000_000_123,
        icount,
        vtime_ns: icount * 2,
        digest: Some(Hash::of(&icount.to_le_bytes())),
        console: None,
        board: "[machine]\nram = \"1M\"\n".to_owned(),
        recording: Some(RecordingRow { run_id: "00".repeat(16), records: 7 }),
        images: Images {
            kernel: Some(ImageRow { name: "Image".to_owned(), size_bytes: 1, blake3: hash }),
            ..Images::default()
        },
        devices: Vec::new(),
        plugins: vec![PluginRow { name: "p".to_owned(), api: "1".to_owned(), size_bytes: 1, blake3: hash }],
        disks: vec![DiskRow {
            device: "disk0".to_owned(),
            port: "blk".to_owned(),
            file: None,
            format: None,
            size_bytes: 1 << 30,
            read_only: false,
            backing: false,
        }],
    }
}

fn block(content: &dyn reprise_machine::BlockContent) -> Vec<u8> {
    let mut bytes = vec![0; 16384];
    content.read(0, &mut bytes).unwrap();
    bytes
}

/// Whether both are the same machine.
fn same(a: &Snapshot, b: &Snapshot) -> bool {
    let disks = |(a, b): (&(String, DiskChanges), &(String, DiskChanges))| {
        let blocks = a.1.blocks.iter().zip(b.1.blocks.iter());
        a.0 == b.0
            && a.1.zeroes == b.1.zeroes
            && a.1.first_reads == b.1.first_reads
            && a.1.blocks.len() == b.1.blocks.len()
            && blocks.into_iter().all(|(a, b)| a.0 == b.0 && block(&**a.1) == block(&**b.1))
    };
    a.sections == b.sections
        && a.ram.pages() == b.ram.pages()
        && (0..a.ram.pages()).all(|at| a.ram.page(at) == b.ram.page(at))
        && a.disks.len() == b.disks.len()
        && a.disks.iter().zip(&b.disks).all(disks)
}

fn assert_loads(store: &StoreWriter, name: &str, expected: &Snapshot) {
    let (_, loaded) = store.load(name).unwrap();
    assert!(same(&loaded, expected), "{name} is another snapshot");
}

fn assert_whole(path: &Path) {
    let Checked { snapshots, objects, damage } = Store::open(path).unwrap().check().unwrap();
    let none: [Damage; 0] = [];
    assert_eq!(damage, none, "{snapshots} snapshots, {objects} objects");
}

#[test]
fn snapshots_come_back() {
    let folder = Folder::new("round");
    let mut random = Random(1);
    let mut store = StoreWriter::create(&folder.0).unwrap();
    // RAM that ends inside a page table, that has one, and that has none.
    for (machine, pages) in [1300, 512, 3, 0].into_iter().enumerate() {
        let mut snapshot = random.snapshot(pages.max(1), 60);
        if pages == 0 {
            snapshot.ram = RamImage::zeroed(0);
        }
        for round in 0..8 {
            let name = format!("m{machine}.{round}");
            store.save(&name, &snapshot, &facts(round)).unwrap();
            let (loaded_facts, loaded) = store.load(&name).unwrap();
            assert_eq!(loaded_facts, facts(round));
            assert!(same(&loaded, &snapshot), "{name}");
            // In a process that knows nothing.
            let (_, loaded) = Store::open(&folder.0).unwrap().load(&name).unwrap();
            assert!(same(&loaded, &snapshot), "{name}");
            if pages > 0 {
                random.change(&mut snapshot, 20);
            }
            if round == 4 {
                drop(store);
                store = StoreWriter::open(&folder.0).unwrap();
            }
        }
    }
    assert_whole(&folder.0);
    let rows = store.store().list().unwrap();
    assert_eq!(rows.len(), 32);
    let Row { name, facts } = &rows[9];
    assert_eq!((name.as_str(), facts.as_ref().unwrap().icount), ("m1.1", 1));
}

#[test]
fn large_contents_go_in_pieces() {
    let folder = Folder::new("pieces");
    let mut random = Random(2);
    let mut store = StoreWriter::create(&folder.0).unwrap();
    let mut snapshot = random.snapshot(4, 4);
    for length in [(1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5 << 20] {
        snapshot.sections[0].1 = random.bytes(length);
        store.save(&format!("s{length}"), &snapshot, &facts(1)).unwrap();
        assert_loads(&store, &format!("s{length}"), &snapshot);
    }
    assert_whole(&folder.0);
}

#[test]
fn what_is_there_costs_nothing() {
    let folder = Folder::new("dedupe");
    let mut random = Random(3);
    let mut store = StoreWriter::create(&folder.0).unwrap();
    let mut snapshot = Snapshot {
        sections: vec![("a".to_owned(), vec![1; 50]), ("b".to_owned(), vec![1; 50])],
        ram: RamImage::zeroed(5000),
        disks: Vec::new(),
    };
    let page = random.page();
    for at in 0..2000 {
        // One content, half of it as one memory.
        snapshot.ram.set(at, Some(if at % 2 == 0 { Arc::clone(&page) } else { Arc::new(*page) }));
    }
    // One section, one page, and two tables: of 512 pages and of those behind.
    assert_eq!(store.save("first", &snapshot, &facts(1)).unwrap().objects, 4);
    assert_eq!(store.save("second", &snapshot, &facts(2)).unwrap().objects, 0);
    snapshot.ram.set(4999, Some(Arc::new(*page)));
    assert_eq!(store.save("third", &snapshot, &facts(3)).unwrap().objects, 1, "a table");
    snapshot.ram.set(700, Some(random.page()));
    assert_eq!(store.save("fourth", &snapshot, &facts(4)).unwrap().objects, 2, "a page and its table");
    snapshot.ram.set(4999, None);
    snapshot.ram.set(700, Some(page));
    let mut store = StoreWriter::open(&folder.0).map_or_else(
        |failure| {
            assert!(failure.to_string().contains("another process"), "{failure}");
            store
        },
        |_| panic!("two write to one store"),
    );
    let Saved { objects, raw_bytes, bytes_written } = store.save("fifth", &snapshot, &facts(5)).unwrap();
    assert_eq!((objects, raw_bytes), (0, 0), "as it was");
    assert_eq!(bytes_written, fs::metadata(folder.0.join("fifth.snap")).unwrap().len());
    drop(store);
    let mut store = StoreWriter::open(&folder.0).unwrap();
    assert_eq!(
        store.save("sixth", &snapshot, &facts(6)).unwrap().objects,
        0,
        "nothing is remembered, all found"
    );
    for name in ["first", "second", "fifth", "sixth"] {
        assert_loads(&store, name, &snapshot);
    }
}

/// Equal memory is not even looked at: a page that is changed behind our back has its old hash.
#[test]
fn shared_memory_is_not_hashed_again() {
    struct Counted(AtomicUsize);
    impl reprise_machine::BlockContent for Counted {
        fn read(&self, _: usize, into: &mut [u8]) -> Result<(), reprise_machine::DiskError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            into.fill(7);
            Ok(())
        }

        fn write(&mut self, _: usize, _: &[u8]) -> Result<(), reprise_machine::DiskError> {
            panic!("nobody writes to a block of a snapshot");
        }
    }
    let folder = Folder::new("shared");
    let mut store = StoreWriter::create(&folder.0).unwrap();
    let counted = Arc::new(Counted(0.into()));
    let mut snapshot = Random(4).snapshot(9, 9);
    let blocks = Arc::make_mut(&mut snapshot.disks[0].1.blocks);
    blocks.insert(5, Arc::clone(&counted) as Arc<dyn reprise_machine::BlockContent>);
    store.save("a", &snapshot, &facts(1)).unwrap();
    let reads = || counted.0.load(Ordering::Relaxed);
    assert_eq!(reads(), 1);
    store.save("b", &snapshot, &facts(1)).unwrap();
    assert_eq!(reads(), 1, "the map is the same memory");
    Arc::make_mut(&mut snapshot.disks[0].1.blocks).insert(6, loaded_block(vec![1]));
    store.save("c", &snapshot, &facts(1)).unwrap();
    assert_eq!(reads(), 1, "the block is the same memory");
    assert_loads(&store, "c", &snapshot);
    drop(store);
    let mut store = StoreWriter::open(&folder.0).unwrap();
    let before = reads();
    store.save("d", &snapshot, &facts(1)).unwrap();
    assert_eq!(reads(), before + 1, "nothing is remembered");
}

#[test]
fn names_and_modes() {
    let folder = Folder::new("names");
    let snapshot = Random(5).snapshot(4, 4);
    let mut store = StoreWriter::create(&folder.0).unwrap();
    assert_eq!(StoreWriter::create(&folder.0).map(drop).unwrap_err().exit, Exit::Usage);
    let long = "x".repeat(101);
    for bad in ["", ".", "..", ".hidden", "a/b", "../a", "a b", "a\n", "ä", long.as_str()] {
        assert_eq!(store.save(bad, &snapshot, &facts(1)).unwrap_err().exit, Exit::Usage, "{bad:?}");
        assert_eq!(store.load(bad).unwrap_err().exit, Exit::Usage, "{bad:?}");
        assert_eq!(store.delete(bad).unwrap_err().exit, Exit::Usage, "{bad:?}");
    }
    for good in ["a", "before-boot_2.x", "a.snap.new", &long[1..]] {
        store.save(good, &snapshot, &facts(1)).unwrap();
        assert_loads(&store, good, &snapshot);
    }
    assert!(store.save("a", &snapshot, &facts(2)).unwrap_err().to_string().contains("already"));
    assert!(store.load("b").unwrap_err().to_string().contains("no snapshot \"b\""));
    assert!(store.delete("b").unwrap_err().to_string().contains("no snapshot \"b\""));
    drop(store);
    assert_eq!(StoreWriter::open(&folder.0).unwrap().store().list().unwrap().len(), 4);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder.0), mode(&folder.0.join("packs"))), (0o700, 0o700));
    assert_eq!((mode(&folder.0.join("a.snap")), mode(&folder.0.join("packs/000001.pack"))), (0o600, 0o600));
    // Another folder is none, and stays as it is.
    let other = Folder::new("other");
    fs::create_dir(&other.0).unwrap();
    fs::write(other.0.join("x"), "").unwrap();
    assert_eq!(StoreWriter::open(&other.0).map(drop).unwrap_err().exit, Exit::Corrupt);
    assert!(Store::open(&other.0).is_err() && !other.0.join("packs").exists());
}

#[test]
fn a_reader_sees_what_is_saved_later() {
    let folder = Folder::new("reader");
    let mut random = Random(6);
    let mut store = StoreWriter::create(&folder.0).unwrap();
    let mut reader = Store::open(&folder.0).unwrap();
    let mut snapshot = random.snapshot(900, 50);
    for round in 0..3 {
        store.save(&format!("s{round}"), &snapshot, &facts(round)).unwrap();
        assert!(same(&reader.load(&format!("s{round}")).unwrap().1, &snapshot));
        random.change(&mut snapshot, 5);
    }
    // What it has open stays, also when it is collected meanwhile.
    let (_, expected) = reader.load("s2").unwrap();
    store.delete("s0").unwrap();
    store.delete("s1").unwrap();
    store.collect().unwrap();
    assert!(same(&reader.load("s2").unwrap().1, &expected));
}

#[test]
fn saving_beside_the_machine() {
    let folder = Folder::new("saver");
    let mut random = Random(7);
    let store = StoreWriter::create(&folder.0).unwrap();
    let (gate, held) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let mut first = true;
    let saver = Saver::start(store, 2, move |report| {
        tell.send(report).unwrap();
        // The first one takes until the test has looked.
        if std::mem::take(&mut first) {
            let _closed = held.recv();
        }
    })
    .unwrap();
    let mut snapshot = random.snapshot(600, 40);
    assert!(saver.try_save("s0".to_owned(), snapshot.clone(), facts(0)));
    assert!(matches!(told.recv().unwrap(), Report::Saved { name, result: Ok(_) } if name == "s0"));
    // It is out of the queue, and two may wait.
    let mut taken = Vec::new();
    for round in 1..5 {
        random.change(&mut snapshot, 5);
        let room = saver.has_room();
        assert_eq!(saver.try_save(format!("s{round}"), snapshot.clone(), facts(round)), room);
        if room {
            taken.push((format!("s{round}"), snapshot.clone()));
        }
    }
    assert_eq!(taken.len(), 2);
    saver.delete("s0".to_owned());
    saver.delete("s9".to_owned());
    saver.collect();
    drop(gate);
    let store = saver.finish();
    let reports: Vec<Report> = told.iter().collect();
    assert!(matches!(&reports[0], Report::Saved { name, result: Ok(_) } if name == "s1"));
    assert!(matches!(&reports[2], Report::Deleted { name, result: Ok(()) } if name == "s0"));
    assert!(matches!(&reports[3], Report::Deleted { name, result: Err(_) } if name == "s9"));
    assert!(matches!(&reports[4], Report::Collected(Ok(Collected { .. }))));
    assert_eq!(reports.len(), 5);
    for (name, snapshot) in &taken {
        assert_loads(&store, name, snapshot);
    }
    assert_eq!(store.store().list().unwrap().len(), 2);
}
