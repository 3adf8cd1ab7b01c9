//! Other builds of a plugin: made by cargo from changed copies of its source, in a folder outside this workspace.

use crate::reprise::root;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// What is copied of the repository: what plugins are built from.
const FOLDERS: [&str; 5] =
    ["plugin-api", "plugins/gpio", "plugins/ns16550a", "plugins/sdcard", "tests/broken/src"];

/// A change of a source: file, what is there, and what takes its place.
pub(crate) type Edit<'a> = (&'a str, &'a str, &'a str);

/// Builds `package` with these changes; `library` is the file that comes of it, and `name` that of the copy which is
/// returned. One after the other, also of several processes: all have one folder, so that cargo builds only what is
/// new.
pub(crate) fn build(package: &str, library: &str, name: &str, edits: &[Edit<'_>]) -> PathBuf {
    let folder = root().join("target/builds");
    let checkout = folder.join("checkout");
    fs::create_dir_all(&checkout).unwrap();
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let mut edits = edits.to_vec();
    edits.extend([
        ("Cargo.toml", r#""host/*", "plugin-api", "#, r#""plugin-api", "#),
        (
            "Cargo.toml",
            r#""tests", "tests/broken", "tests/plugins/bad", "tests/plugins/links", "tests/plugins/metronome","#,
            r#""tests/broken","#,
        ),
    ]);
    for place in FOLDERS {
        copy(Path::new(place), &checkout, &edits);
    }
    for file in ["Cargo.toml", "Cargo.lock", "tests/broken/Cargo.toml"] {
        copy(Path::new(file), &checkout, &edits);
    }
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "-p", package])
        .current_dir(&checkout)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .output()
        .unwrap();
    // What a change leaves unused is no matter, so warnings are for failures only.
    let errors = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{package} is not built with {edits:?}:\n{errors}");
    let copy = folder.join(format!("{package}-{name}"));
    fs::copy(folder.join("target/debug").join(library), &copy).unwrap();
    copy
}

/// A file or a folder of the repository, with its edits. What is there already and the same keeps its time, by which
/// cargo knows what is new.
fn copy(place: &Path, checkout: &Path, edits: &[Edit<'_>]) {
    let from = root().join(place);
    if from.is_dir() {
        for entry in fs::read_dir(from).unwrap() {
            copy(&place.join(entry.unwrap().file_name()), checkout, edits);
        }
        return;
    }
    let mut text = fs::read_to_string(&from).unwrap();
    for (file, old, new) in edits.iter().filter(|(file, ..)| Path::new(file) == place) {
        assert!(text.contains(old), "{file} has no {old:?} any more");
        text = text.replace(old, new);
    }
    let to = checkout.join(place);
    if fs::read_to_string(&to).is_ok_and(|there| there == text) {
        return;
    }
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::write(to, text).unwrap();
}
