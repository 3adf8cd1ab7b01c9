//! What was built against the plugin ABI by others than this build: `metronome` in C, and as earlier versions built it.

use crate::recording::Recording;
use crate::reprise::{Ended, Reprise, Scratch, build_folder, root};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const FILE: &str = "libreprise_plugin_metronome.so";

/// The device of `tests/plugins`, built in different ways: each in a folder of its own.
pub(crate) struct Builds(Scratch);

impl Builds {
    pub(crate) fn new(test: &str) -> Self {
        let scratch = Scratch::new(test);
        for build in ["now", "c", "abi-1.0", "abi-1.2"] {
            std::fs::create_dir(scratch.path(build)).unwrap();
        }
        let builds = Self(scratch);
        std::fs::copy(build_folder().join("libreprise_metronome.so"), builds.file("now")).unwrap();
        compile(&root().join("tests/plugins/c/metronome.c"), &[], &builds.file("c"));
        for kept in ["abi-1.0", "abi-1.2"] {
            let packed = root().join(format!("tests/data/plugins/metronome-{kept}.so.xz"));
            let unpacked = Command::new("xz").args(["-dc"]).arg(packed).output().unwrap();
            assert!(unpacked.status.success());
            std::fs::write(builds.file(kept), unpacked.stdout).unwrap();
        }
        builds
    }

    pub(crate) fn file(&self, build: &str) -> String {
        self.0.path(&format!("{build}/{FILE}"))
    }

    /// Another file in the same folder.
    fn path(&self, name: &str) -> String {
        self.0.path(name)
    }
}

/// Builds a plugin in C, as `tests/plugins/c/metronome.c` says, with nothing to complain about.
fn compile(source: &Path, more: &[&str], to: &str) {
    let built = Command::new("gcc")
        .args(["-std=c99", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror"])
        .args(["-shared", "-fPIC", "-fvisibility=hidden"])
        .arg(format!("-I{}", root().join("plugin-api/c").display()))
        .args(more)
        .args(["-o", to])
        .arg(source)
        .status()
        .unwrap();
    assert!(built.success());
}

/// A run of the guest that uses all of the device, recorded with this build of it.
fn recorded(builds: &Builds, build: &str) -> Recording {
    let board = root().join("tests/plugins/boards/metronome.toml");
    let run = Reprise::record("release", "metronome")
        .args([board.to_str().unwrap(), "--plugin-path", &builds.file(build), "--digest-every", "1000"])
        .of("metronome.elf")
        .input_after("@type a line", "hello\n");
    let recording = Recording::of(run);
    let ended = &recording.ended;
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.console, ended.errors);
    for line in ["@beats 79", "@stored 79", "@clock 1", "@typed 99162322", "@beats 119", "@R metronome ok"] {
        assert!(ended.console.contains(line), "{build}: no {line:?} in {}", ended.console);
    }
    recording
}

/// Of what another build recorded: the device behaves as there, and its state is the same, byte by byte.
fn verified(recording: &Recording, builds: &Builds, build: &str) {
    let plugin = format!("metronome={}", builds.file(build));
    let verify = Reprise::new(["verify", "--json", "--plugin", &plugin, &recording.path()]);
    let result: Value = serde_json::from_str(&verify.end().success().console).unwrap();
    assert_eq!(result["result"], "identical", "{build}: {result}");
    assert!(result["digests"].as_u64().unwrap() > 100, "{result}");
}

/// The promise of the frozen ABI, and of the header for C.
#[test]
fn all_builds_of_a_device_are_the_same_device() {
    let builds = Builds::new("abi-builds");
    let all = ["now", "c", "abi-1.0", "abi-1.2"];
    for build in all {
        let recording = recorded(&builds, build);
        for other in all {
            verified(&recording, &builds, other);
        }
    }
}

/// A snapshot in the middle of a recording, saved by one build and loaded by another, which comes to the same end.
#[test]
fn a_build_goes_on_from_the_state_of_another() {
    let builds = Builds::new("abi-states");
    let recording = recorded(&builds, "abi-1.0");
    let (icount, _, digest) = recording.ended.position_and_digest();
    let with = |build: &str| format!("metronome={}", builds.file(build));
    for (from, to) in [("abi-1.0", "c"), ("c", "now"), ("now", "abi-1.2"), ("abi-1.2", "abi-1.0")] {
        for percent in [1, 37, 99] {
            let cut = recording.file(&format!("{from}-{to}-{percent}.rec"));
            let at = format!("icount:{}", icount * percent / 100);
            let (saver, loader) = (with(from), with(to));
            let trim = ["-o", cut.as_str(), "--from", &at, "--plugin", &saver];
            recording.command("release", "trim", &trim).end().success();
            let ended = Reprise::new(["verify", "--json", "--plugin", &loader, &cut]).end().success();
            let found: Value = serde_json::from_str(&ended.console).unwrap();
            assert_eq!(found["result"], "identical", "{from} to {to} at {percent} %: {found}");
            assert_eq!(found["digest"], digest.as_str(), "{from} to {to} at {percent} %");
        }
    }
}

fn kinds(described: Ended) -> Vec<Value> {
    serde_json::from_str(&described.success().console).unwrap()
}

/// `state-diff` of real files: a build that does not describe its state cannot be compared, the others are one device.
#[test]
fn states_of_builds_are_compared() {
    let builds = Builds::new("abi-diff");
    let diff = |old: &str, new: &str| Reprise::new(["plugin", "state-diff", old, new, "--json"]).end();
    let same: Value =
        serde_json::from_str(&diff(&builds.file("c"), &builds.file("now")).success().console).unwrap();
    assert_eq!((&same["breaks"], &same["kinds"][0]["changes"]), (&false.into(), &Value::Array(vec![])));
    let unsaid = diff(&builds.file("abi-1.0"), &builds.file("now"));
    assert_eq!(unsaid.code, Some(3), "{}", unsaid.errors);
    assert!(unsaid.errors.contains("does not say what its state is"), "{}", unsaid.errors);

    let mut described = kinds(Reprise::new(["plugin", "describe", &builds.file("now"), "--json"]).end());
    let fields = described[0]["state"]["fields"].as_array_mut().unwrap();
    fields.retain(|field| field["name"] != "beats");
    let file = builds.path("without-beats.json");
    std::fs::write(&file, serde_json::to_string(&described).unwrap()).unwrap();
    let broken = Reprise::new(["plugin", "state-diff", &builds.file("now"), &file]).end();
    assert_eq!(broken.code, Some(4), "{}", broken.errors);
    let text = "BREAKS   field `beats`: removed: records that have it are refused for an unknown field";
    assert!(broken.console.contains(text), "{}", broken.console);
    assert!(broken.console.ends_with("2 changes break old snapshots\n"), "{}", broken.console);

    // What is left out is neither the same nor another, and CI can tell.
    let mut described = kinds(Reprise::new(["plugin", "describe", &builds.file("now"), "--json"]).end());
    for field in described[0]["state"]["fields"].as_array_mut().unwrap() {
        if field["name"] == "beats" {
            field["type"].as_object_mut().unwrap().remove("bits").unwrap();
        }
    }
    let file = builds.path("without-bits.json");
    std::fs::write(&file, serde_json::to_string(&described).unwrap()).unwrap();
    let unknown = diff(&file, &builds.file("now"));
    assert_eq!(unknown.code, Some(8), "{}", unknown.errors);
    let told: Value = serde_json::from_str(&unknown.console).unwrap();
    assert_eq!((&told["verdict"], &told["breaks"]), (&"unknown".into(), &false.into()), "{told}");
    let changes = told["kinds"][0]["changes"].as_array().unwrap();
    let is_it = |change: &&Value| change["verdict"] == "unknown" && change["path"] == "beats";
    assert_eq!(changes.iter().filter(is_it).count(), 1, "{told}");
    let said = Reprise::new(["plugin", "state-diff", &file, &builds.file("now")]).end().console;
    let text = "UNKNOWN  field `beats`: is uint 32, and the old build does not say how many bits it was";
    assert!(said.contains(text) && said.contains("is not known"), "{said}");
}

/// The pages of the manual are what the devices say of themselves. `REPRISE_UPDATE=1` writes them.
#[test]
fn the_pages_of_the_devices_are_current() {
    let folder = root().join("docs/devices");
    let update = std::env::var_os("REPRISE_UPDATE").is_some();
    let mut pages = std::collections::BTreeMap::new();
    let mut index =
        "# Devices\n\nMade by `reprise plugin describe --markdown`; a test says when they are no longer \
                     what the devices say.\n\n| device | |\n|---|---|\n"
            .to_owned();
    for entry in std::fs::read_dir(root().join("plugins")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let file = build_folder().join(format!("libreprise_plugin_{}.so", name.replace('-', "_")));
        let described = Reprise::new(["plugin", "describe", file.to_str().unwrap(), "--markdown"]).end();
        // A plugin may have several kinds, each on a page that begins with its name.
        for page in format!("\n{}", described.success().console).split("\n# ").skip(1) {
            let kind = page.lines().next().unwrap().to_owned();
            pages.insert(kind, format!("# {}\n", page.trim_end()));
        }
    }
    for (kind, page) in &pages {
        let title = page.lines().nth(2).unwrap();
        index += &format!("| [{kind}]({kind}.md) | {title} |\n");
    }
    pages.insert("README".to_owned(), index);
    if update {
        std::fs::create_dir_all(&folder).unwrap();
        pages
            .iter()
            .for_each(|(name, page)| std::fs::write(folder.join(format!("{name}.md")), page).unwrap());
    }
    for (name, page) in &pages {
        let there = std::fs::read_to_string(folder.join(format!("{name}.md"))).unwrap_or_default();
        assert!(
            *page == there,
            "docs/devices/{name}.md is not what the device says; REPRISE_UPDATE=1 writes it"
        );
    }
    let there = std::fs::read_dir(&folder).unwrap().count();
    assert_eq!(there, pages.len(), "a page of a device that is gone");
}
