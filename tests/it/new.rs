//! `reprise plugin new`: what it makes holds to all that it says of itself, at once.

use crate::reprise::{Scratch, build_folder, root};
use std::path::Path;
use std::process::{Command, Output};

fn new(args: &[&str]) -> Output {
    Command::new(build_folder().join("reprise")).args(["plugin", "new"]).args(args).output().unwrap()
}

/// Runs the crate's own CI script, without a network. `target`: cargo's target folder, if it is told another.
fn passes_its_ci(name: &str, kind: &str, target: Option<&str>) {
    let scratch = Scratch::new(name);
    let folder = scratch.path(name);
    let made = new(&[name, "--kind", kind, "--path", &folder]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut ci = Command::new("./ci");
    ci.current_dir(&folder)
        .env("CARGO_NET_OFFLINE", "true")
        .env("REPRISE", build_folder().join("reprise"))
        .env_remove("CARGO_TARGET_DIR")
        // What it depends on is built once for all of them.
        .env("CARGO_BUILD_BUILD_DIR", root().join("target/generated"));
    ci.envs(target.map(|target| ("CARGO_TARGET_DIR", target)));
    let ci = ci.output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ci.status.success(), "{}\n{}", said(&ci.stdout), said(&ci.stderr));
    for words in ["nothing found", "5 devices", "test result: ok."] {
        assert!(said(&ci.stdout).contains(words), "no {words:?} in:\n{}", said(&ci.stdout));
    }
    assert!(Path::new(&folder).join(target.unwrap_or("target")).join("check.xml").is_file());
}

#[test]
fn a_new_device_passes_its_own_ci() {
    passes_its_ci("acme-metronome", "mmio", None);
}

#[test]
fn a_new_virtio_device_passes_its_own_ci_in_another_target_folder() {
    passes_its_ci("acme-echo", "virtio", Some("elsewhere"));
}

#[test]
fn mistakes_are_told() {
    let scratch = Scratch::new("new-mistakes");
    let folder = scratch.path("there");
    std::fs::create_dir(&folder).unwrap();
    let refused = |args: &[&str], code: i32, words: &str| {
        let output = new(args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(words), "{args:?}: no {words:?} in:\n{text}");
    };
    refused(&["Acme"], 2, "a name begins with a small letter");
    refused(&["a_b"], 2, "'_' cannot be in a name");
    refused(&["a", "--path", &folder], 2, "the folder is there already");
    refused(&["a", "--path", &scratch.path("no/where")], 6, "must be there");
    refused(&["a", "--path", &scratch.path("a"), "--api", "/nowhere"], 2, "there is no reprise-plugin-api");
    refused(&["a", "--kind", "pci"], 2, "mmio, virtio");
    assert!(!Path::new(&scratch.path("a")).exists(), "nothing is left of what did not work");
    let made = new(&["a", "--path", &scratch.path("b"), "--api", "1.2"]);
    assert!(made.status.success());
    let manifest = std::fs::read_to_string(scratch.path("b/Cargo.toml")).unwrap();
    assert!(manifest.contains("reprise-plugin-api = { version = \"1.2\" }"), "{manifest}");
}
