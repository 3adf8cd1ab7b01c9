//! Any place of a recording, from anywhere: the same place is the same state.

use crate::crash::Draw;
use crate::recording::{info, records};
use crate::reprise::{Reprise, Scratch, guest};
use serde_json::Value;

/// Instructions and digest of an answer.
pub(crate) type There = (u64, String);

/// The guests that a bare machine has, and what they need beside it.
pub(crate) const GUESTS: [(&str, &[&str]); 6] = [
    ("wfi.elf", &[]),
    ("smc.elf", &[]),
    ("irqstorm.elf", &[]),
    ("paging.elf", &[]),
    ("demo.elf", &["--scratch-disk"]),
    ("smp.elf", &["-smp", "4", "--set", "machine.schedule_seed=5"]),
];

pub(crate) fn record(scratch: &Scratch, name: &str, args: &[&str]) -> String {
    let recording = scratch.path(&format!("{name}.rec"));
    let run = ["record", "-o", &recording, "--digest-every", "1M", "-bios", &guest(name)];
    Reprise::new(run.into_iter().chain(args.iter().copied())).end().success();
    recording
}

/// The states at these places, one after the other in one process.
pub(crate) fn ask(recording: &str, places: &[String]) -> Vec<There> {
    let mut args = vec!["ask", recording, "digest", "--json"];
    places.iter().for_each(|place| args.extend(["--at", place]));
    let ended = Reprise::new(args).end().success();
    let answers = ended.console.lines().map(|line| {
        let answer: Value = serde_json::from_str(line).unwrap();
        (answer["icount"].as_u64().unwrap(), answer["digest"].as_str().unwrap().to_owned())
    });
    answers.collect()
}

pub(crate) fn end_of(recording: &str) -> u64 {
    ask(recording, &["end".into()])[0].0
}

#[test]
fn a_place_is_the_same_from_wherever_one_comes() {
    let scratch = Scratch::new("seek");
    let mut draw = Draw(1);
    for (name, args) in GUESTS {
        let recording = record(&scratch, name, args);
        let end = end_of(&recording);
        let mut places: Vec<u64> = (0..35).map(|_| draw.below(end)).collect();
        places.sort_unstable();
        let named = |places: &[u64]| places.iter().map(|at| format!("icount:{at}")).collect::<Vec<_>>();
        let forwards = ask(&recording, &named(&places));
        let back_and_forth: Vec<usize> = (0..70).map(|_| draw.below(35) as usize).collect();
        let there: Vec<u64> = back_and_forth.iter().map(|&index| places[index]).collect();
        for (answer, index) in ask(&recording, &named(&there)).into_iter().zip(back_and_forth) {
            assert_eq!(answer, forwards[index], "{name} at {}", places[index]);
        }
    }
}

#[test]
fn one_instruction_back_and_forward_again_is_where_one_was() {
    let scratch = Scratch::new("back");
    let mut draw = Draw(2);
    for (name, args) in GUESTS {
        let recording = record(&scratch, name, args);
        let end = end_of(&recording);
        let mut places: Vec<u64> = (0..170).map(|_| 1 + draw.below(end - 1)).collect();
        places.sort_unstable();
        let steps = places.iter().flat_map(|at| [*at, at - 1, *at]).map(|at| format!("icount:{at}"));
        let answers = ask(&recording, &steps.collect::<Vec<_>>());
        for (answers, at) in answers.chunks(3).zip(places) {
            let [there, back, again] = answers else { panic!("three answers for a place") };
            assert_eq!(there, again, "{name} at {at}");
            assert_ne!(
                there.1, back.1,
                "{name} at {at}: an instruction leaves a trace, if only in the count"
            );
        }
    }
}

#[test]
fn places_have_many_names() {
    let scratch = Scratch::new("places");
    let recording = record(&scratch, "demo.elf", &["--scratch-disk"]);
    let at = |place: &str| ask(&recording, &[place.to_owned()]).remove(0);
    let (end, _) = at("end");
    assert_eq!(at("50%"), at(&format!("icount:{}", end / 2)));
    assert_eq!(at("100%").0, end);
    // The demo says on its first lines which machine it is; the third line stands where its line feed was written.
    let (line, _) = at("line:3");
    let shown = |args: &[&str]| {
        let all = ["replay", &recording].into_iter().chain(args.iter().copied());
        Reprise::new(all).end().console
    };
    let until = shown(&["--until", "line:3"]);
    assert_eq!((until.lines().count(), until.ends_with('\n')), (3, true), "{until:?}");
    let rest = shown(&["--at", &format!("icount:{line}")]);
    assert_eq!(until + &rest, shown(&[]), "what is seen from there on is the rest");
    assert!(at("event:0").0 < end && at("vtime:1ms").0 > 0);
}

#[test]
fn a_place_that_is_not_there_is_told() {
    let scratch = Scratch::new("no-place");
    let recording = record(&scratch, "wfi.elf", &[]);
    let ended = Reprise::new(["ask", &recording, "digest", "--at", "icount:999G"]).end();
    assert_eq!(ended.code, Some(2), "{}", ended.errors);
    assert!(
        ended.errors.contains("icount:999000000000") && ended.errors.contains("ends at"),
        "{}",
        ended.errors
    );
}

/// The records of a recording but for the digests, which also vouch for its snapshots.
fn undigested(recording: &str) -> Vec<Value> {
    let all = records(recording).into_iter().filter(|record| record["kind"] != "digest");
    all.map(|mut record| {
        let record = record.as_object_mut().unwrap();
        ["number", "chain"].iter().for_each(|key| drop(record.remove(*key)));
        Value::Object(record.clone())
    })
    .collect()
}

/// A snapshot after every 10 ms of guest time, or 40 of them in a guest that lives for less: the run is the same.
#[test]
fn a_snapshot_every_so_often_changes_nothing() {
    let scratch = Scratch::new("often");
    let same = |name: &str, least: usize, run: &dyn Fn(Reprise) -> Reprise| {
        let recorded = |every: &str| {
            let recording = scratch.path(&format!("{name}-{every}.rec"));
            let words = ["record", "-o", &recording, "--snapshot-every", every, "--rtc", "1700000000"];
            run(Reprise::new(words)).end().success();
            recording
        };
        let without = recorded("off");
        let every_ns = (info(&without)["vtime_ns"].as_u64().unwrap() / 40).min(10_000_000);
        let with = recorded(&format!("vtime:{every_ns}ns"));
        assert_eq!(undigested(&with), undigested(&without), "{name}");
        let ended = |recording: &str| ask(recording, &["end".into()]);
        assert_eq!(ended(&with), ended(&without), "{name}");
        let digests = |recording: &str| info(recording)["events"]["digest"].as_u64().unwrap() as usize;
        let taken = digests(&with) - digests(&without);
        assert!(taken >= least, "{name}: {taken} snapshots");
    };
    for (name, more) in GUESTS {
        let image = guest(name);
        let args: Vec<&str> = ["-bios", &image].into_iter().chain(more.iter().copied()).collect();
        same(name, 10, &|run| run.args(args.iter().copied()));
    }
    same("debian", 80, &|run| run.of_debian("reprise.test=boot reprise.poweroff"));
}

/// Snapshots that were dropped while recording: they are there, nothing else is different, and a seek is as exact.
#[test]
fn a_trail_of_snapshots_changes_nothing() {
    let scratch = Scratch::new("trail");
    let recorded = |name: &str, every: &str| {
        let recording = scratch.path(&format!("{name}.rec"));
        let run = ["record", "-o", &recording, "--snapshot-every", every, "--rtc", "1700000000"];
        let run = Reprise::new(run).of_debian("reprise.test=boot reprise.poweroff");
        run.args(["--port", "uart0=null"]).end().success();
        recording
    };
    let without = recorded("without", "off");
    assert!(!std::path::Path::new(&format!("{without}/snapshots")).exists());
    let places: Vec<String> = ["70%", "95%", "30%", "end"].map(str::to_owned).into();
    let expected = ask(&without, &places);
    // By the host's time a slow host leaves out all but the first, so that they stay within their share of it.
    for (name, every, least) in [("host", "20", 1), ("guest", "vtime:20ms", 40)] {
        let with = recorded(name, every);
        assert_eq!(undigested(&with), undigested(&without), "{name}");
        let dropped = trail(&with);
        assert!(dropped.len() >= least, "{name}: {dropped:?}");
        assert_eq!(ask(&with, &places), expected, "{name}");
    }
    let with = scratch.path("guest.rec");
    // A snapshot that is damaged is no snapshot, and no reason to fail.
    for entry in std::fs::read_dir(format!("{with}/snapshots")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::write(path, "no snapshot").unwrap();
        }
    }
    assert_eq!(ask(&with, &places[1..2]), ask(&without, &places[1..2]));
}

/// The names of the snapshots that were dropped into a recording.
fn trail(recording: &str) -> Vec<String> {
    let entries = std::fs::read_dir(format!("{recording}/snapshots")).expect("there are some");
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("auto-")).collect()
}
