//! Recordings of earlier versions, in `tests/golden`, replayed by this one.

use crate::engines::ENGINES;
use crate::reprise::{Reprise, root};
use serde_json::Value;

/// The folders of recordings, with what their manifests say of the end.
fn golden() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for format in std::fs::read_dir(root().join("tests/golden")).unwrap() {
        let format = format.unwrap().path();
        for recording in std::fs::read_dir(&format).into_iter().flatten() {
            let path = recording.unwrap().path().to_str().unwrap().to_owned();
            let info = Reprise::new(["info", "--json", &path]).end().success();
            found.push((path, serde_json::from_str(&info.console).unwrap()));
        }
    }
    found
}

#[test]
fn recordings_of_earlier_versions_replay() {
    let golden = golden();
    assert!(golden.len() >= 4, "{golden:?}");
    for (path, info) in &golden {
        let engines = ENGINES.iter().map(|engine| vec!["--engine", engine]);
        for more in engines.chain([vec![], vec!["--chaos-seed", "1"]]) {
            let verify =
                Reprise::new(["verify", "--json", "--other-plugins", path]).args(more.iter().copied());
            let verified: Value = serde_json::from_str(&verify.end().success().console).unwrap();
            assert_eq!(verified["result"], "identical", "{path}: {verified}");
            for field in ["icount", "vtime_ns"] {
                assert_eq!(verified[field], info[field], "{path}: {field}");
            }
            assert_eq!(verified["digest"], info["end"]["digest"], "{path}");
            assert_eq!(verified["digests"], info["events"]["digest"], "{path}");
        }
    }
}

/// They bring no plugins. Without being told so, nothing else is taken in their place.
#[test]
fn their_plugins_are_not_silently_others() {
    for (path, _) in golden() {
        let ended = Reprise::new(["verify", &path]).end();
        // Good only with the very build that recorded.
        if ended.code != Some(0) {
            assert_eq!(ended.code, Some(3), "{path}: {}", ended.errors);
            assert!(ended.errors.contains("--other-plugins"), "{path}: {}", ended.errors);
        }
    }
}
