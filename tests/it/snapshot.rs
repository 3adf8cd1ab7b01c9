//! Snapshots on disk: a run goes on from one in another process, and a recording may begin in one.

use crate::crash::Draw;
use crate::recording::{Recording, info};
use crate::reprise::{Ended, Reprise, Scratch, guest};
use crate::seek::GUESTS;
use serde_json::Value;

/// The guests read the clock of day; `Reprise::run` has the same.
const CLOCK: [&str; 2] = ["--rtc", "1700000000"];

fn reprise(words: &[&str]) -> Ended {
    Reprise::new(words.iter().copied()).end()
}

fn json(words: &[&str]) -> Value {
    let ended = reprise(words).success();
    serde_json::from_str(&ended.console).unwrap_or_else(|error| panic!("{error}:\n{}", ended.console))
}

fn verified(recording: &str) -> Value {
    let found = json(&["verify", recording, "--json"]);
    assert_eq!(found["result"], "identical", "{recording}: {found}");
    found
}

/// The snapshot that a recording begins in.
fn start_of(recording: &str) -> String {
    format!("{recording}/snapshots/start")
}

/// The part of a recording behind this icount, as a recording of its own.
fn cut_from(recording: &Recording, cut: &str, at: u64) {
    let from = format!("icount:{at}");
    recording.command("release", "trim", &["-o", cut, "--from", &from]).end().success();
}

/// From each of these places, in percent, the run goes on to the end that it had: replayed, run, and recorded.
fn goes_on(recording: &Recording, places: &[u64]) {
    let end = recording.ended.position_and_digest();
    for at in places.iter().map(|place| end.0 * place / 100 + place) {
        let cut = recording.file(&format!("cut-{at}.rec"));
        cut_from(recording, &cut, at);
        let found = verified(&cut);
        assert_eq!(
            (&found["icount"], &found["digest"]),
            (&end.0.into(), &end.2.as_str().into()),
            "from {at}"
        );

        let from = start_of(&cut);
        let run = Reprise::run("from").args(["--from", &from]);
        assert_eq!(run.end().success().position_and_digest(), end, "run from {at}");
        let again = recording.file(&format!("again-{at}.rec"));
        let words = ["record", "-o", &again, "--from", &from, "--digest-every", "100k"];
        Reprise::new(words).args(CLOCK).end().success();
        assert_eq!(verified(&again)["digest"], end.2.as_str(), "recorded from {at}");
        assert_eq!(info(&again)["parent"]["icount"], info(&cut)["start"]["icount"]);
        for path in [cut, again] {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
}

#[test]
fn bare_guests_go_on_in_another_process() {
    for (name, more) in GUESTS {
        goes_on(&Recording::bare(name, &[more, &CLOCK].concat()), &[3, 41, 88]);
    }
}

/// At 50 random safe points a guest: saved by one process, loaded by another, which comes to the same end. Under chaos
/// half of them also stop, drop caches and run in other slices behind the load.
#[test]
fn bare_guests_go_on_from_anywhere() {
    let mut draw = Draw(0x5afe);
    for (name, more) in GUESTS {
        let recording = Recording::bare(name, &[more, &CLOCK].concat());
        let end = recording.ended.position_and_digest();
        for round in 0..50 {
            let at = draw.below(end.0);
            let cut = recording.file("cut.rec");
            cut_from(&recording, &cut, at);
            let seed = draw.below(1 << 32).to_string();
            let chaos: &[&str] = if round % 2 == 0 { &[] } else { &["--chaos-seed", &seed] };
            let run = Reprise::run("anywhere").args(["--from", &start_of(&cut)]);
            let ended = run.args(chaos.iter().copied()).end().success();
            assert_eq!(ended.position_and_digest(), end, "{name} from {at}, {chaos:?}");
            std::fs::remove_dir_all(cut).unwrap();
        }
    }
}

/// With a disk: blocks that were read before are told again, and writes come with the snapshot.
#[test]
fn debian_goes_on_in_another_process() {
    let images = Scratch::new("debian-from");
    let image = images.path("root.ext4");
    std::fs::copy(guest("debian.ext4"), &image).unwrap();
    let words = "reprise.test=disk reprise.poweroff";
    let run = Reprise::record("release", "debian-from").of_debian(words).args(CLOCK);
    let recording = Recording::of(run.args(["--disk", &format!("disk0={image}")]));
    goes_on(&recording, &[75]);
}

#[test]
fn a_part_is_a_recording_of_its_own() {
    let recording = Recording::bare("demo.elf", &["--scratch-disk", "--digest-every", "50k"]);
    let path = recording.path();
    let digest = |at: &str| json(&["ask", &path, "digest", "--at", at, "--json"])["digest"].clone();
    let [part, head, inner] = ["part.rec", "head.rec", "inner.rec"].map(|name| recording.file(name));
    reprise(&["trim", &path, "-o", &part, "--from", "icount:200k", "--to", "icount:500k"]).success();
    reprise(&["trim", &path, "-o", &head, "--to", "icount:500k"]).success();
    reprise(&["trim", &part, "-o", &inner, "--from", "50%"]).success();
    for cut in [&part, &head, &inner] {
        let found = verified(cut);
        assert_eq!((&found["icount"], &found["digest"]), (&500_000.into(), &digest("icount:500k")), "{cut}");
        assert_eq!(info(cut)["end"]["reason"], "stopped from outside");
    }
    assert_eq!(
        [&part, &head, &inner].map(|cut| info(cut)["start"]["icount"].clone()),
        [200_000.into(), Value::Null, 350_000.into()]
    );
    // Everything that a recording can do.
    let there = |at: &str| json(&["ask", &part, "digest", "--at", at, "--json"])["digest"].clone();
    for at in ["icount:450k", "icount:200k", "icount:200_001", "end", "icount:321_123"] {
        let whole = if at == "end" { "icount:500k" } else { at };
        assert_eq!(there(at), digest(whole), "{at}");
    }
    let [pack, back, again, live] =
        ["p.pack", "back.rec", "again.rec", "live.rec"].map(|n| recording.file(n));
    reprise(&["pack", &part, "-o", &pack]).success();
    reprise(&["unpack", &pack, "-o", &back]).success();
    reprise(&["replay", &part, "--rerecord", &again]).success();
    reprise(&["replay", &pack, "--until", "50%", "--live", "-o", &live]).success();
    for cut in [&pack, &back, &again] {
        assert_eq!(verified(cut)["digest"], digest("icount:500k"), "{cut}");
    }
    assert_eq!(
        verified(&live)["digest"],
        *recording.ended.summary("digest"),
        "it goes on to the guest's end"
    );
    reprise(&["diff", &part, &again]).success();
}

#[test]
fn a_part_that_is_none_is_refused() {
    let recording = Recording::bare("demo.elf", &["--scratch-disk"]);
    let (path, cut, bad) = (recording.path(), recording.file("cut.rec"), recording.file("bad.rec"));
    reprise(&["trim", &path, "-o", &cut, "--from", "icount:300k"]).success();
    let refused = |words: &[&str], code: i32, what: &str| {
        let ended = reprise(words);
        assert_eq!(ended.code, Some(code), "{words:?}: {}", ended.errors);
        assert!(ended.errors.contains(what), "{words:?}: {}", ended.errors);
        assert!(!std::path::Path::new(&bad).exists(), "{words:?} left something");
    };
    let trim = |recording: &str, more: &[&str], what: &str| {
        refused(&[&["trim", recording, "-o", &bad], more].concat(), 2, what);
    };
    trim(&path, &["--from", "50%", "--to", "10%"], "before it begins");
    trim(&path, &["--from", "icount:99G"], "nothing of the recorded run");
    trim(&path, &["--to", "icount:99G"], "ended before");
    trim(&cut, &["--from", "icount:299_999"], "begins at icount 300,000");
    refused(&["ask", &cut, "digest", "--at", "vtime:1us"], 2, "begins at icount 300,000");
    refused(&["replay", &cut, "--until", "line:1"], 2, "begins at icount 300,000");

    let from = start_of(&cut);
    let options =
        ["-m 1G", "-smp 2", "--set machine.harts=2", "-bios x", "-kernel x", "--seed 3", "--scratch-disk"];
    for option in options {
        let words: Vec<&str> = ["run", "--from", &from].into_iter().chain(option.split(' ')).collect();
        refused(&words, 2, "with --from the snapshot says what the machine is");
    }
    refused(&["run", "--from", &from, "--disk", "disk7=x"], 2, "no such disk");
    refused(&["run", "--from", &start_of(&path)], 6, "");

    // Whatever is damaged of the snapshot is told.
    let pack = format!("{cut}/snapshots/packs/000001.pack");
    let mut bytes = std::fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&pack, bytes).unwrap();
    refused(&["verify", &cut], 5, "damaged");
    refused(&["run", "--from", &from], 5, "damaged");
    refused(&["snapshot", "check", &format!("{cut}/snapshots")], 5, "");
}

#[test]
fn snapshots_are_listed_checked_compared_and_deleted() {
    let recording = Recording::bare("demo.elf", &["--scratch-disk"]);
    let [early, late] = ["early.rec", "late.rec"].map(|name| recording.file(name));
    for (cut, at) in [(&early, "icount:300k"), (&late, "icount:300_001")] {
        recording.command("release", "trim", &["-o", cut, "--from", at]).end().success();
    }
    let folder = format!("{early}/snapshots");
    let rows = json(&["snapshot", "list", &folder, "--json"]);
    assert_eq!((&rows[0]["name"], &rows[0]["icount"]), (&"start".into(), &300_000.into()), "{rows}");
    let whole = json(&["snapshot", "check", &folder, "--json"]);
    assert_eq!((&whole["snapshots"], &whole["damage"]), (&1.into(), &Value::Array(Vec::new())));

    let [a, b] = [&early, &late].map(|cut| start_of(cut));
    reprise(&["snapshot", "diff", &a, &a]).success();
    let differ = reprise(&["snapshot", "diff", &a, &b, "--json"]);
    assert_eq!(differ.code, Some(4), "{}", differ.errors);
    let rows: Vec<Value> = serde_json::from_str(&differ.console).unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["what"].as_str().unwrap()).collect();
    assert!(names.contains(&"hart0.pc") && names.contains(&"clock.icount"), "{names:?}");
    // One instruction changes little, and its memory has an address.
    assert!(names.len() < 20, "{names:?}");

    reprise(&["snapshot", "delete", &folder, "start"]).success();
    assert_eq!(json(&["snapshot", "list", &folder, "--json"]), Value::Array(Vec::new()));
    assert_eq!(reprise(&["verify", &early]).code, Some(5));
}
