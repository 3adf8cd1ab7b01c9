//! Recordings that go elsewhere: packed to a machine that has nothing, and on into another run.

use crate::recording::{Recording, info};
use crate::reprise::{Reprise, Scratch, build_folder};
use std::collections::BTreeMap;
use std::path::Path;

/// What images are pinned by, docs/recording-format.md.
const BLOCK_BYTES: u64 = 16 << 10;

/// The demo with an image of its own.
fn demo_with_disk() -> (Recording, Scratch, String) {
    let scratch = Scratch::new("image");
    let image = scratch.path("disk.img");
    std::fs::write(&image, vec![0xa5; 1 << 20]).unwrap();
    let recording = Recording::bare("demo.elf", &["--disk", &format!("disk0={image}")]);
    (recording, scratch, image)
}

#[test]
fn a_pack_replays_where_nothing_else_is() {
    let (recording, _images, image) = demo_with_disk();
    let pack = recording.file("run.rpk");
    recording.command("release", "pack", &["-o", &pack]).end().success();
    std::fs::remove_file(&image).unwrap();
    std::fs::remove_dir_all(recording.path()).unwrap();
    let elsewhere = Scratch::new("elsewhere");
    let (binary, moved) = (elsewhere.path("reprise"), elsewhere.path("run.rpk"));
    std::fs::copy(build_folder().join("reprise"), &binary).unwrap();
    std::fs::rename(&pack, &moved).or_else(|_| std::fs::copy(&pack, &moved).map(drop)).unwrap();

    let verify = |more: &[&str]| {
        let words = ["verify", "--json", moved.as_str()].into_iter().chain(more.iter().copied());
        Reprise::at(Path::new(&binary), words).end()
    };
    let refused = verify(&[]);
    assert_eq!(refused.code, Some(3), "{}", refused.errors);
    for word in ["aclint", "none is found", "--trust-plugins"] {
        assert!(refused.errors.contains(word), "no {word:?} in:\n{}", refused.errors);
    }
    let found: serde_json::Value =
        serde_json::from_str(&verify(&["--trust-plugins"]).success().console).unwrap();
    assert_eq!(found["result"], "identical");
    assert_eq!(&found["digest"], recording.ended.summary("digest"));

    let folder = elsewhere.path("unpacked.rec");
    Reprise::at(Path::new(&binary), ["unpack", &moved, "-o", &folder]).end().success();
    let words = ["verify", &folder, "--trust-plugins"];
    Reprise::at(Path::new(&binary), words).end().success().says("identical");
}

#[test]
fn a_changed_image_is_named_with_the_block() {
    let (recording, _images, image) = demo_with_disk();
    recording.is_identical();
    let block = recording.records(&["disk-block"])[0]["block"].as_u64().unwrap();
    assert!(block > 0, "the guest works at the end of its disk");
    let mut bytes = std::fs::read(&image).unwrap();
    // What the guest never read may change.
    bytes[0] ^= 1;
    std::fs::write(&image, &bytes).unwrap();
    recording.is_identical();
    bytes[usize::try_from(block * BLOCK_BYTES + BLOCK_BYTES - 1).unwrap()] ^= 1;
    std::fs::write(&image, &bytes).unwrap();
    let ended = recording.command("release", "verify", &[]).end();
    assert_eq!(ended.code, Some(4), "{}", ended.errors);
    for word in ["disk0", &format!("block {block}")] {
        assert!(ended.errors.contains(word), "no {word:?} in:\n{}", ended.errors);
    }
}

/// Every file of a folder.
fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.append(&mut content(&path)),
            false => drop(all.insert(path.display().to_string(), std::fs::read(&path).unwrap())),
        }
    }
    all
}

#[test]
fn a_replay_that_goes_live_is_a_child() {
    let run = Reprise::record("release", "live").of("lively.elf");
    let parent = Recording::of(run.input_after("@lively ready", "abc").input_after("abc", "q"));
    let before = content(Path::new(&parent.path()));
    let child = parent.file("child.rec");
    let typed: Vec<u64> =
        parent.records(&["input"]).iter().map(|record| record["icount"].as_u64().unwrap()).collect();
    let place = typed[typed.len() - 2].midpoint(typed[typed.len() - 1]);
    let until = format!("icount:{place}");
    let live = parent.command("release", "replay", &["--until", &until, "--live", "-o", &child]);
    // Between what was typed and the `q`: the child ends only if it listens.
    let ended = live.input_after("abc", "another q").end().success();
    assert!(ended.console.contains("abcanother q"), "{}", ended.console);
    assert_eq!(content(Path::new(&parent.path())), before, "the parent has changed");
    Reprise::new(["verify", &child]).end().success().says("identical");
    let (of_parent, of_child) = (parent.info(), info(&child));
    assert_ne!(of_child["run_id"], of_parent["run_id"]);
    assert_eq!(of_child["parent"]["run_id"], of_parent["run_id"]);
    assert_eq!(of_child["parent"]["icount"], place);
    parent.is_identical();
}
