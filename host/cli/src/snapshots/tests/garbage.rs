//! Deleting and collecting.

use super::*;

fn packs_bytes(folder: &Path) -> u64 {
    fs::read_dir(folder.join("packs")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn what_nobody_needs_goes_and_everything_else_stays() {
    let folder = Folder::new("collect");
    let mut random = Random(11);
    let mut store = StoreWriter::create(&folder.0).unwrap();
    let mut snapshot = random.snapshot(300, 300);
    let mut kept: Vec<(String, Snapshot)> = Vec::new();
    let mut freed = 0;
    for round in 0..60 {
        let name = format!("s{round}");
        store.save(&name, &snapshot, &facts(round)).unwrap();
        kept.push((name, snapshot.clone()));
        random.change(&mut snapshot, 40);
        while kept.len() > 4 {
            let (name, _) = kept.remove(random.below(kept.len()));
            store.delete(&name).unwrap();
        }
        if round % 7 == 6 {
            freed += store.collect().unwrap().bytes_freed;
            assert_whole(&folder.0);
        }
        if round % 20 == 19 {
            drop(store);
            store = StoreWriter::open(&folder.0).unwrap();
        }
        kept.iter().for_each(|(name, snapshot)| assert_loads(&store, name, snapshot));
    }
    assert!(freed > packs_bytes(&folder.0), "{freed} bytes freed");
    for (name, _) in kept {
        store.delete(&name).unwrap();
    }
    let collected = store.collect().unwrap();
    assert_eq!((collected.copied, packs_bytes(&folder.0)), (0, 0));
    assert_eq!(store.collect().unwrap(), Collected::default());
    // What was remembered is gone, too.
    store.save("again", &snapshot, &facts(1)).unwrap();
    assert_loads(&store, "again", &snapshot);
    assert_whole(&folder.0);
}

#[test]
fn what_is_mostly_needed_stays() {
    let folder = Folder::new("needed");
    let mut random = Random(12);
    let mut store = StoreWriter::create(&folder.0).unwrap();
    let mut snapshot = random.snapshot(1500, 300);
    store.save("a", &snapshot, &facts(1)).unwrap();
    random.change_ram(&mut snapshot.ram, 5);
    store.save("b", &snapshot, &facts(2)).unwrap();
    store.delete("a").unwrap();
    assert_eq!(store.collect().unwrap(), Collected::default());
    assert_loads(&store, "b", &snapshot);
}

/// The last snapshot's file goes without us, and with the collection its objects.
#[test]
fn a_snapshot_that_was_removed_by_hand_is_not_remembered() {
    let folder = Folder::new("by-hand");
    let mut store = StoreWriter::create(&folder.0).unwrap();
    let snapshot = Random(13).snapshot(100, 50);
    store.save("a", &snapshot, &facts(1)).unwrap();
    fs::remove_file(folder.0.join("a.snap")).unwrap();
    store.collect().unwrap();
    store.save("b", &snapshot, &facts(2)).unwrap();
    assert_loads(&store, "b", &snapshot);
}

#[test]
fn a_damaged_store_is_not_collected() {
    let folder = Folder::new("damaged");
    let mut random = Random(14);
    let mut store = StoreWriter::create(&folder.0).unwrap();
    let snapshot = random.snapshot(100, 50);
    store.save("a", &random.snapshot(1000, 500), &facts(1)).unwrap();
    store.save("b", &snapshot, &facts(2)).unwrap();
    store.save("c", &snapshot, &facts(3)).unwrap();
    store.delete("a").unwrap();
    let file = folder.0.join("c.snap");
    let mut bytes = fs::read(&file).unwrap();
    bytes[100] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let before = packs_bytes(&folder.0);
    let failure = store.collect().unwrap_err();
    assert!(failure.exit == Exit::Corrupt && failure.to_string().contains("c.snap"), "{failure}");
    assert_eq!(packs_bytes(&folder.0), before);
    assert_eq!(store.store().check().unwrap().damage.len(), 1);
    let rows = store.store().list().unwrap();
    assert!(rows[0].facts.is_ok() && rows[1].facts.is_err());
    store.delete("c").unwrap();
    assert!(store.collect().unwrap().bytes_freed > before / 2);
    assert_loads(&store, "b", &snapshot);
}

/// Somebody sent a pack behind which there is no number.
#[test]
fn the_last_number_is_told() {
    let folder = Folder::new("numbers");
    let snapshot = Random(15).snapshot(4, 4);
    let mut store = StoreWriter::create(&folder.0).unwrap();
    store.save("a", &snapshot, &facts(1)).unwrap();
    store.delete("a").unwrap();
    drop(store);
    fs::rename(folder.0.join("packs/000001.pack"), folder.0.join(format!("packs/{}.pack", u32::MAX)))
        .unwrap();
    let mut store = StoreWriter::open(&folder.0).unwrap();
    // It is gone on with as long as it is not full.
    store.save("b", &snapshot, &facts(1)).unwrap();
    store.save("x", &Random(16).snapshot(90, 90), &facts(1)).unwrap();
    store.delete("x").unwrap();
    let failure = store.collect().unwrap_err();
    assert!(failure.exit == Exit::Corrupt && failure.to_string().contains("last number"), "{failure}");
    assert_loads(&store, "b", &snapshot);
}

/// Packs are full again and again, and go one by one.
#[test]
fn many_packs() {
    let folder = Folder::new("many");
    let mut random = Random(17);
    let mut store = StoreWriter::create(&folder.0).unwrap();
    let mut snapshot = random.snapshot(1500, 300);
    let mut most = 0;
    for round in 0..30 {
        store.appender.pack_bytes = 300_000;
        store.save(&format!("s{round}"), &snapshot, &facts(round)).unwrap();
        assert_loads(&store, &format!("s{round}"), &snapshot);
        random.change(&mut snapshot, 200);
        if round >= 3 {
            store.delete(&format!("s{}", round - 3)).unwrap();
        }
        most = most.max(fs::read_dir(folder.0.join("packs")).unwrap().count());
        match round % 5 {
            2 => {
                store.collect().unwrap();
                assert_whole(&folder.0);
            }
            4 => {
                drop(store);
                store = StoreWriter::open(&folder.0).unwrap();
            }
            _ => {}
        }
    }
    assert!(most > 10, "{most} packs");
    for round in 27..30 {
        store.load(&format!("s{round}")).unwrap();
    }
    assert_whole(&folder.0);
}
