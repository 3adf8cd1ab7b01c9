//! `reprise plugin check`: each rule has a plugin that breaks it and no other, and good plugins pass.

use crate::abi::Builds;
use crate::builds::{Edit, build};
use crate::reprise::{Scratch, build_folder, root};
use reprise_check::RULES;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Once;
use std::time::{Duration, Instant};

/// Library, kind and rule. Rules about a whole library have one of their own.
const BAD: &[(&str, &str, &str)] = &[
    ("loads", "loads", "R001"),
    ("devices", "describes", "R002"),
    ("devices", "defaults", "R003"),
    ("devices", "refuses", "R004"),
    ("devices", "creates", "R005"),
    ("imports", "imports", "R006"),
    ("devices", "panics", "R007"),
    ("devices", "survives", "R008"),
    ("devices", "returns", "R009"),
    ("devices", "declared", "R010"),
    ("devices", "timer-storm", "R011"),
    ("devices", "bh-storm", "R012"),
    ("devices", "tokens", "R013"),
    ("devices", "outside", "R014"),
    ("devices", "float", "R015"),
    ("clock", "clock", "R016"),
    ("randomness", "randomness", "R017"),
    ("threads", "threads", "R018"),
    ("files", "files", "R019"),
    ("sockets", "sockets", "R020"),
    ("environment", "environment", "R021"),
    ("prints", "prints", "R022"),
    ("waits", "waits", "R023"),
    ("signals", "signals", "R024"),
    ("code", "code", "R025"),
    ("devices", "counter", "R026"),
    ("devices", "twice", "R027"),
    ("devices", "processes", "R028"),
    ("devices", "instances", "R029"),
    ("devices", "statics", "R030"),
    ("devices", "looking", "R031"),
    ("devices", "windows", "R032"),
    ("devices", "dirty", "R033"),
    ("devices", "watched", "R034"),
    ("devices", "rings", "R035"),
    ("devices", "record", "R036"),
    ("devices", "fixpoint", "R037"),
    ("devices", "reload", "R038"),
    ("devices", "isolated", "R039"),
    ("devices", "overwrites", "R040"),
    ("devices", "garbage", "R041"),
    ("devices", "impossible", "R042"),
    ("devices", "versions", "R043"),
    ("devices", "complete", "R044"),
    ("devices", "resets", "R045"),
    ("devices", "reset-pins", "R046"),
    ("devices", "reset-timers", "R047"),
    ("devices", "failed-create", "R048"),
    ("devices", "leaks", "R049"),
];

/// The same where only the words of a link's protocol lead to the mistake.
const BAD_TOO: &[(&str, &str, &str)] = &[
    ("devices", "link-panics", "R007"),
    ("devices", "link-resets", "R045"),
    ("devices", "link-lined", "R007"),
    ("devices", "link-credited", "R007"),
    ("devices", "link-stingy", "R045"),
    // And where there is more static memory than can be looked at behind each call.
    ("vast", "vast", "R030"),
];

/// The library of an example of `tests/plugins/bad`, which is built once.
fn library(name: &str) -> PathBuf {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--offline", "--release", "-p", "reprise-plugin-bad", "--examples"]);
        assert!(cargo.current_dir(root()).status().unwrap().success());
    });
    build_folder().join(format!("examples/lib{name}.so"))
}

/// `reprise plugin check`, and what it printed.
pub(crate) fn check(plugin: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(build_folder().join("reprise"));
    // No settings but those given.
    command.current_dir(std::env::temp_dir()).args(["plugin", "check"]).arg(plugin).args(args);
    command.output().unwrap()
}

fn json(plugin: &Path, args: &[&str]) -> Value {
    let output = check(plugin, &[args, &["--json"]].concat());
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn findings(report: &Value) -> Vec<&Value> {
    let devices = report["devices"].as_array().unwrap().iter();
    let tests = devices.flat_map(|device| device["tests"].as_array().unwrap());
    std::iter::once(&report["load"])
        .chain(tests)
        .flat_map(|test| test["findings"].as_array().unwrap())
        .collect()
}

#[test]
fn every_rule_has_a_plugin_that_breaks_it_and_no_other() {
    let rules: Vec<String> = RULES.iter().map(|text| text.rule.to_string()).collect();
    let covered: Vec<&str> = BAD.iter().map(|(_, _, rule)| *rule).collect();
    assert_eq!(rules, covered, "a row for each rule, in order");
    let mut wrong = Vec::new();
    for (library_name, kind, rule) in BAD.iter().chain(BAD_TOO) {
        let args = ["--kind", kind, "--seeds", "4", "--steps", "600", "--timeout", "15"];
        let report = json(&library(library_name), &args);
        let found: BTreeSet<&str> = findings(&report).iter().map(|f| f["rule"].as_str().unwrap()).collect();
        if found != BTreeSet::from([*rule]) {
            wrong.push(format!("{kind} breaks {rule}, and is caught by {found:?}: {:#?}", findings(&report)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_has_a_chapter() {
    let page = std::fs::read_to_string(root().join("docs/plugins/rules.md")).unwrap();
    let chapters: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let rules: Vec<String> = RULES.iter().map(|text| format!("{}: {}", text.rule, text.title)).collect();
    assert_eq!(chapters, rules);
}

#[test]
fn good_plugins_pass() {
    let shipped = std::fs::read_dir(build_folder()).unwrap().map(|entry| entry.unwrap().path());
    let is_plugin = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("libreprise_plugin_") && name.ends_with(".so")
    };
    let mut plugins: Vec<PathBuf> = shipped.filter(is_plugin).collect();
    assert!(plugins.len() >= 10, "{plugins:?}");
    plugins.push(library("unusual"));
    // In C, and built against the ABI as it was at first.
    let builds = Builds::new("check-builds");
    plugins.extend(["c", "abi-1.0", "abi-1.2"].map(|build| PathBuf::from(builds.file(build))));
    for plugin in plugins {
        let output = check(&plugin, &[]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("nothing found"), "{text}");
        assert!(!text.contains("not run"), "{text}");
    }
}

#[test]
fn devices_of_boards_pass_with_their_options() {
    let virt = root().join("configs/virt.toml");
    let gpio = json(&build_folder().join("libreprise_plugin_gpio.so"), &["--board", virt.to_str().unwrap()]);
    assert_eq!(gpio["good"], true, "{gpio:#}");
    assert!(gpio["devices"][0]["from"].as_str().unwrap().contains("virt.toml"), "{gpio:#}");
    let broken = root().join("tests/broken/boards/broken.toml");
    let uart = build_folder().join("libreprise_plugin_virtio_net.so");
    let output = check(&uart, &["--board", broken.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

#[test]
fn a_uart_is_checked_in_ten_seconds() {
    let started = Instant::now();
    assert!(check(&build_folder().join("libreprise_plugin_ns16550a.so"), &[]).status.success());
    assert!(started.elapsed() <= Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn a_finding_says_where_and_what_and_comes_again() {
    let devices = library("devices");
    let report = json(&devices, &["--kind", "reload", "--seeds", "3"]);
    let [finding] = findings(&report)[..] else { panic!("{report:#}") };
    for key in ["what", "step", "op", "field", "expected", "found", "fix", "title"] {
        assert!(!finding[key].is_null(), "no {key} in {finding:#}");
    }
    assert_eq!(finding["field"], "value read");
    let seed = finding["seed"].to_string();
    let again = json(&devices, &["--kind", "reload", "--seeds", "1", "--test", "reload", "--seed", &seed]);
    let [same] = findings(&again)[..] else { panic!("{again:#}") };
    assert_eq!(same, finding);
    // Stated for people too.
    let output = check(&devices, &["--kind", "reload"]);
    assert_eq!(output.status.code(), Some(7));
    let text = String::from_utf8(output.stdout).unwrap();
    for words in
        ["R038", "differs   value read", "again: --test reload --seed 1", "test reload has to pass first"]
    {
        assert!(text.contains(words), "no {words:?} in:\n{text}");
    }
}

/// There is not a look behind each call, and the step is told all the same.
#[test]
fn a_change_in_much_static_memory_is_found_with_its_step() {
    for seed in ["1", "2", "3"] {
        let report = json(&library("vast"), &["--seeds", "1", "--seed", seed, "--test", "statics"]);
        let [finding] = findings(&report)[..] else { panic!("{report:#}") };
        let (op, what) = (finding["op"].as_str().unwrap(), finding["what"].as_str().unwrap());
        assert!(op.starts_with("write ") && what.contains("HEAP"), "seed {seed}: {finding:#}");
    }
}

#[test]
fn settings_switch_rules_and_tests_and_give_options() {
    let scratch = Scratch::new("check-settings");
    let file = scratch.path("check.toml");
    let with = |text: &str, args: &[&str]| {
        std::fs::write(&file, text).unwrap();
        check(&library("devices"), &[&["--settings", &file], args].concat())
    };
    let off = with("[rules]\nR030 = false\n[tests]\nrelay = false\n", &["--kind", "statics"]);
    let text = String::from_utf8(off.stdout).unwrap();
    assert!(off.status.success() && text.contains("not run relay"), "{text}");
    let options = with("[options.defaults]\ndivider = 3\n", &["--kind", "defaults"]);
    assert!(options.status.success(), "{}", String::from_utf8_lossy(&options.stdout));
    let mistake = with("[rules]\nR999 = false\n", &[]);
    assert_eq!(mistake.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&mistake.stderr).contains("there is no rule \"R999\""), "{mistake:?}");
}

#[test]
fn junit_has_each_test_and_finding() {
    let scratch = Scratch::new("check-junit");
    let file = scratch.path("report.xml");
    let output = check(&library("devices"), &["--kind", "panics", "--junit", &file]);
    assert_eq!(output.status.code(), Some(7));
    let xml = std::fs::read_to_string(&file).unwrap();
    for text in [
        "<testsuite name=\"panics\"",
        "name=\"drive\"",
        "<failure type=\"R007\"",
        "<skipped message=\"test drive",
    ] {
        assert!(xml.contains(text), "no {text:?} in:\n{xml}");
    }
    assert_eq!(xml.matches("<testcase ").count(), xml.matches("</testcase>").count());
}

/// Mistakes in states of the SD card that only whole commands lead to: what is there, what takes its place, and the
/// rule that it breaks.
const DEEP: &[(&str, Edit<'_>, &str)] = &[
    // The third block of a write.
    ("wrote", (SDCARD, "self.written.wrapping_add(1)", "[1, 2][self.written as usize]"), "R007"),
    // A read that is two blocks ahead is saved, and then taken for too much.
    ("ahead", (SDCARD, "self.output.len() > MOST_OUTPUT", "self.output.len() > MOST_OUTPUT / 2"), "R037"),
    // The blocks of an erasure.
    (
        "erase",
        (SDCARD, "    erase_first: Option<u32>,", "    #[state(config)]\n    erase_first: Option<u32>,"),
        "R038",
    ),
    // Its size, in the CSD.
    (
        "csd",
        (
            "plugins/sdcard/src/registers.rs",
            "(units(disk).unwrap_or(1) - 1) as u32",
            "3 - units(disk).unwrap_or(1) as u32",
        ),
        "R007",
    ),
    // How far it has come outlives a reset.
    (
        "mode",
        (
            SDCARD,
            "token: self.token, ..Self::default() };\n    }",
            "token: self.token, mode: self.mode, ..Self::default() };\n    }",
        ),
        "R045",
    ),
];
const SDCARD: &str = "plugins/sdcard/src/lib.rs";

fn sdcard_phrases() -> String {
    root().join("plugins/sdcard/sdcard.phrases").to_str().unwrap().to_owned()
}

/// With what the card understands the check finds them all, and without it none: what it drives then is a card that
/// nobody has brought up.
#[test]
fn phrases_lead_to_states_that_random_steps_do_not_reach() {
    let phrases = sdcard_phrases();
    for (name, edit, rule) in DEEP {
        let library = "libreprise_plugin_sdcard.so";
        let file = build("reprise-plugin-sdcard", library, &format!("{name}.so"), &[*edit]);
        let found = |args: &[&str]| -> BTreeSet<String> {
            let report = json(&file, args);
            findings(&report).iter().map(|f| f["rule"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(found(&[]), BTreeSet::new(), "{name}, without phrases");
        assert_eq!(found(&["--phrases", &phrases]), BTreeSet::from([(*rule).to_owned()]), "{name}");
        // Who sees a finding again needs them, too.
        if *name == "csd" {
            let told = check(&file, &["--phrases", &phrases]).stdout;
            let again = format!("again: --test drive --seed 1 --phrases {phrases}\n");
            assert!(String::from_utf8_lossy(&told).contains(&again), "{}", String::from_utf8_lossy(&told));
        }
    }
    let good = build_folder().join("libreprise_plugin_sdcard.so");
    let output = check(&good, &["--phrases", &phrases]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("nothing found") && !text.contains("not run"), "{text}");
}

#[test]
fn phrases_are_named_by_settings_and_their_mistakes_are_told() {
    let scratch = Scratch::new("check-phrases");
    let (settings, phrases) = (scratch.path("check.toml"), scratch.path("x.phrases"));
    std::fs::write(&settings, "phrases = [\"x.phrases\"]\n").unwrap();
    let plugin = build_folder().join("libreprise_plugin_sdcard.so");
    let told = |text: &str| {
        std::fs::write(&phrases, text).unwrap();
        let output = check(&plugin, &["--settings", &settings, "--test", "options"]);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(told("device sdcard\n[open]\nselect bus low\n").0, Some(0));
    for (text, said) in [
        ("device sdcard\n[open]\nspi bas ff\n", "line 3: the device has no link \"bas\""),
        ("device mmc\n[open]\nnext\n", "the plugin has no device of kind \"mmc\""),
        ("[open]\nnext\n", "line 1: it does not say for which device it is"),
    ] {
        let (code, errors) = told(text);
        assert!(code == Some(3) && errors.contains(said) && errors.contains(&phrases), "{text}: {errors}");
    }
    // Those that the default options have, and these do not: nothing is passed over.
    std::fs::write(&settings, "phrases = [\"x.phrases\"]\n[options.gpio]\npins = 2\n").unwrap();
    std::fs::write(&phrases, "device gpio\n[open]\npin in.3 high\n").unwrap();
    let gpio = build_folder().join("libreprise_plugin_gpio.so");
    let report = json(&gpio, &["--settings", &settings]);
    let what = "its phrases are for other options: line 3: the device has no input pin \"in.3\"";
    assert_eq!(findings(&report)[0]["what"], what, "{report:#}");
    std::fs::remove_file(&phrases).unwrap();
    let output = check(&plugin, &["--settings", &settings]);
    assert_eq!(output.status.code(), Some(6), "{output:?}");
}
