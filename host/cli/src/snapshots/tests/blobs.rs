//! Boot images and plugins, kept beside the packs.

use super::{Facts, Folder, Hash, ImageRow, Images, Random, Store, StoreWriter, assert_whole, facts};
use crate::failure::Exit;
use std::{fs, path::Path};

/// Of a machine that was booted from `content`, in no recording.
fn booted(content: &[u8]) -> Facts {
    let kernel =
        ImageRow { name: "Image".to_owned(), size_bytes: content.len() as u64, blake3: Hash::of(content) };
    let images = Images { kernel: Some(kernel), ..Images::default() };
    Facts { recording: None, images, plugins: Vec::new(), ..facts(1) }
}

fn path(store: &Path, content: &[u8]) -> std::path::PathBuf {
    store.join("blobs").join(Hash::of(content).to_string())
}

#[test]
fn contents_are_kept_once_while_a_snapshot_needs_them() {
    let folder = Folder::new("blobs");
    let mut store = StoreWriter::create(&folder.0).unwrap();
    let contents: Vec<(Hash, &[u8])> =
        [&b"first"[..], b"second", b"first"].map(|bytes| (Hash::of(bytes), bytes)).to_vec();
    assert_eq!(store.keep(&contents).unwrap(), 11);
    assert_eq!(store.keep(&contents).unwrap(), 0);
    // They are for snapshots to come.
    store.collect().unwrap();
    let snapshot = Random(3).snapshot(4, 2);
    store.save("a", &snapshot, &booted(b"first")).unwrap();
    drop(store);

    let mut store = StoreWriter::open(&folder.0).unwrap();
    assert_eq!(store.store().blob(&booted(b"first"), &Hash::of(b"first")).unwrap(), b"first");
    assert_eq!(store.collect().unwrap().bytes_freed, 6);
    assert!(path(&folder.0, b"first").exists() && !path(&folder.0, b"second").exists());
    assert_whole(&folder.0);
    store.delete("a").unwrap();
    assert!(store.collect().unwrap().bytes_freed > 5);
    assert!(!path(&folder.0, b"first").exists());
}

#[test]
fn what_is_missing_or_damaged_is_found_and_made_good() {
    let folder = Folder::new("blobs-damaged");
    let mut store = StoreWriter::create(&folder.0).unwrap();
    let first = (Hash::of(b"first"), &b"first"[..]);
    store.keep(&[first]).unwrap();
    store.save("a", &Random(4).snapshot(4, 2), &booted(b"first")).unwrap();
    assert_whole(&folder.0);
    for content in [None, Some(&b"fist"[..]), Some(b"firsts"), Some(b"First"), Some(b"")] {
        fs::remove_file(path(&folder.0, b"first")).unwrap();
        content.into_iter().for_each(|content| fs::write(path(&folder.0, b"first"), content).unwrap());
        let reader = Store::open(&folder.0).unwrap();
        let damage = reader.check().unwrap().damage;
        assert_eq!(damage.len(), 1, "{damage:?}");
        assert!(damage[0].file.ends_with(Hash::of(b"first").to_string()), "{damage:?}");
        assert_eq!(reader.blob(&booted(b"first"), &first.0).unwrap_err().exit, Exit::Corrupt);
        assert_eq!(store.keep(&[first]).unwrap(), 5);
        assert_whole(&folder.0);
    }
    // What was interrupted goes when somebody opens the folder to add to it.
    fs::write(folder.0.join("blobs").join(format!("{}.new", first.0)), "fi").unwrap();
    drop(store);
    let _writer = StoreWriter::open(&folder.0).unwrap();
    assert_eq!(fs::read_dir(folder.0.join("blobs")).unwrap().count(), 1);
}
