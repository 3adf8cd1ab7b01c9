//! Those who watch see what happens, exactly, and nothing that happens is different for it.

use crate::recording::Recording;
use crate::reprise::{Ended, Reprise, Scratch, build_folder, guest};
use crate::seek::GUESTS;
use serde_json::Value;
use std::collections::BTreeMap;

/// Instructions by stack.
fn folded(path: &str) -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(path).unwrap();
    let line = |line: &str| {
        let (stack, count) = line.rsplit_once(' ').unwrap();
        (stack.to_owned(), count.parse().unwrap())
    };
    text.lines().map(line).collect()
}

fn calls() -> Recording {
    Recording::bare("calls.elf", &[])
}

/// An observer that wants everything, and what it does.
fn blind(at: &str, after: u64) -> String {
    let file = build_folder().join("libreprise_broken.so");
    format!("{},at={at},after={after}", file.display())
}

#[test]
fn the_profile_has_every_instruction_once() {
    let recording = calls();
    let watched = |name: &str, more: &[&str]| {
        let out = recording.file(name);
        let words = ["--observe", &format!("hot,out={out}")].map(str::to_owned);
        let words: Vec<&str> = words.iter().map(String::as_str).chain(more.iter().copied()).collect();
        recording.is_identical_on("release", &words);
        folded(&out)
    };
    let stacks = watched("hot", &[]);
    let icount = recording.ended.summary("icount").as_u64().unwrap();
    assert_eq!(stacks.values().sum::<u64>(), icount, "{stacks:?}");
    // Its third call of `leaf` is the last thing that `branch` does: a jump, from where `main` called.
    let leaf = |stack: &str| stacks[stack] / stacks["M;_start;main;[interrupt_3];trap_entry;on_trap;leaf"];
    assert_eq!((leaf("M;_start;main;branch;leaf"), leaf("M;_start;main;leaf")), (20, 10));
    assert!(stacks.contains_key("M;_start;main;print;put_number;put_char"), "{stacks:?}");
    // By its own names and by those of the file; quietly, and stopped and cut up at random.
    let elf = format!("hot,out={},elf={}", recording.file("elf"), guest("calls.elf"));
    recording.is_identical_on("release", &["--observe", &elf]);
    assert_eq!(folded(&recording.file("elf")), stacks);
    assert_eq!(watched("chaos", &["--chaos-seed", "5"]), stacks);
}

/// Functions by their source file and name, lines by file and number: how often each was executed.
fn tracefile(path: &str) -> (BTreeMap<String, u64>, BTreeMap<(String, u32), u64>) {
    let (mut functions, mut lines) = (BTreeMap::new(), BTreeMap::new());
    let text = std::fs::read_to_string(path).unwrap();
    let mut file = String::new();
    for line in text.lines() {
        let (kind, rest) = line.split_once(':').unwrap_or((line, ""));
        let pair = rest.split_once(',');
        match (kind, pair) {
            ("SF", _) => file = rest.rsplit('/').next().unwrap().to_owned(),
            ("FNDA", Some((count, name))) => {
                functions.insert(format!("{file}:{name}"), count.parse().unwrap());
            }
            ("DA", Some((line, count))) => {
                lines.insert((file.clone(), line.parse().unwrap()), count.parse().unwrap());
            }
            _ => {}
        }
    }
    (functions, lines)
}

#[test]
fn coverage_counts_calls_and_lines() {
    let recording = calls();
    let (by_name, by_elf) = (recording.file("names"), recording.file("lines"));
    let observers = [
        format!("coverage,out={by_name}"),
        format!("coverage,out={by_elf},elf={}", guest("calls.elf")),
        format!("coverage,out={},mode=S", recording.file("none")),
    ];
    let words: Vec<&str> = observers.iter().flat_map(|observer| ["--observe", observer]).collect();
    recording.is_identical_on("release", &words);
    let (functions, _) = tracefile(&by_name);
    let calls = [("leaf", 31), ("branch", 10), ("on_trap", 1), ("main", 1), ("never", 0), ("die", 0)];
    for (name, count) in calls {
        assert_eq!(functions[&format!("guest:{name}")], count, "{name}");
    }
    for data in ["leaves", "uart_base", "_bss", "_end"] {
        assert!(!functions.contains_key(&format!("guest:{data}")), "{data} is no function");
    }
    let (functions, lines) = tracefile(&by_elf);
    for (name, count) in calls.iter().filter(|(name, _)| *name != "die") {
        assert_eq!(functions[&format!("calls.c:{name}")], *count, "{name}");
    }
    assert_eq!(functions["bare.c:die"], 0);
    let source = std::fs::read_to_string(crate::reprise::root().join("tests/guests/calls/calls.c")).unwrap();
    let at = |text: &str| {
        let number = source.lines().position(|line| line.contains(text)).unwrap() + 1;
        lines[&("calls.c".to_owned(), u32::try_from(number).unwrap())]
    };
    assert_eq!((at("leaves++"), at("  leaf();"), at("  leaves = 0;")), (31, 1, 0));
    let (functions, _) = tracefile(&recording.file("none"));
    assert!(functions.values().all(|&count| count == 0), "nothing of it runs in S-mode");
}

#[test]
fn the_trace_is_on_guest_time() {
    let recording = calls();
    let out = recording.file("trace");
    recording.is_identical_on("release", &["--observe", &format!("trace,out={out}")]);
    let trace: Value = serde_json::from_str(&std::fs::read_to_string(&out).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let named = |kind: &str, name: &str| -> Vec<&Value> {
        events.iter().filter(|event| event["ph"] == kind && event["name"] == name).collect()
    };
    // Nothing sleeps: an instruction is a nanosecond.
    let vtime_us = recording.ended.summary("vtime_ns").as_f64().unwrap() / 1000.0;
    let timed: Vec<f64> = events.iter().filter_map(|event| event["ts"].as_f64()).collect();
    assert!(timed.len() > 40 && timed.iter().all(|&ts| (0.0..=vtime_us).contains(&ts)), "{timed:?}");
    for event in events.iter().filter(|event| event["ts"].is_number() && event["ph"] != "C") {
        let icount = event["args"]["icount"].as_f64().unwrap();
        assert_eq!(event["ts"].as_f64().unwrap() * 1000.0, icount, "{event}");
    }
    let [handler] = named("X", "M: MSIP interrupt")[..] else { panic!("one interrupt") };
    let [back] = named("X", "M")[..] else { panic!("one way back") };
    let end = handler["ts"].as_f64().unwrap() + handler["dur"].as_f64().unwrap();
    assert!((end - back["ts"].as_f64().unwrap()).abs() < 1e-9, "{handler}, {back}");
    let levels: Vec<_> =
        named("C", "hart0 MSIP").iter().map(|event| event["args"]["level"].clone()).collect();
    assert_eq!(levels, [1, 0]);
    let said: String =
        named("i", "serial out").iter().map(|event| event["args"]["data"].as_str().unwrap()).collect();
    assert_eq!(said, "@P leaves 31\r\n");
}

/// Alone, and with three others, from the beginning of a run and after the fact: it is the same run.
#[test]
fn nobody_can_tell_that_it_is_watched() {
    for (name, args) in GUESTS {
        let unwatched = Reprise::bare("unwatched", name).args(args.iter().copied()).end().success();
        let scratch = Scratch::new("watched");
        let files = ["coverage", "hot", "trace"].map(|it| format!("{it},out={}", scratch.path(it)));
        // Our guests have no names for coverage.
        let mut watchers = vec![blind("never", 0)];
        watchers.extend(files[1..].iter().cloned());
        let words: Vec<&str> = watchers.iter().flat_map(|it| ["--observe", it.as_str()]).collect();
        let watched = Reprise::bare("watched", name).args(args.iter().copied()).args(words.iter().copied());
        let watched = watched.end().success();
        assert_eq!(watched.position_and_digest(), unwatched.position_and_digest(), "{name}");
        assert_eq!(watched.console, unwatched.console, "{name}");
        let recording = Recording::bare(name, args);
        recording.is_identical_on("release", &words);
    }
}

/// A run that was recorded while it was watched is a recording as any other.
#[test]
fn a_recording_knows_nothing_of_who_watched() {
    let watch = blind("never", 0);
    let recording = Recording::bare("irqstorm.elf", &["--observe", &watch]);
    recording.is_identical();
    let manifest = std::fs::read_to_string(format!("{}/manifest.toml", recording.path())).unwrap();
    assert!(!manifest.contains("libreprise_broken"), "{manifest}");
}

#[test]
fn a_replay_is_watched_from_where_it_begins() {
    let recording = calls();
    let out = recording.file("tail");
    let watch = format!("hot,out={out}");
    let replay = recording.command("release", "replay", &["--at", "icount:500", "--observe", &watch]);
    replay.end().success();
    let icount = recording.ended.summary("icount").as_u64().unwrap();
    assert_eq!(folded(&out).values().sum::<u64>(), icount - 500);
}

#[test]
fn an_observer_that_fails_harms_nobody_but_itself() {
    let good = Reprise::bare("unharmed", "irqstorm.elf").end().success();
    let failed = |at: &str| -> Ended {
        let scratch = Scratch::new("failed");
        let hot = format!("hot,out={}", scratch.path("hot"));
        let run = Reprise::bare("failed", "irqstorm.elf");
        let ended = run.args(["--observe", &blind(at, 1000), "--observe", &hot]).end();
        if at != "create" {
            assert_eq!(ended.position_and_digest(), good.position_and_digest(), "{at}");
            let seen: u64 = folded(&scratch.path("hot")).values().sum();
            assert_eq!(seen, good.summary("icount").as_u64().unwrap(), "{at}: the other one sees everything");
        }
        ended
    };
    for (at, why) in [
        ("event", "it panicked: it fails at an event at "),
        ("error", "its disk is full"),
        ("finish", "it panicked: it fails at the end at "),
    ] {
        let ended = failed(at);
        assert_eq!(ended.code, Some(7), "{at}: {}", ended.errors);
        assert!(
            ended.errors.contains(why) && ended.errors.contains("the machine was not affected"),
            "{}",
            ended.errors
        );
    }
    let ended = failed("create");
    assert_eq!(ended.code, Some(3));
    assert!(ended.errors.contains("the plugin panicked: it fails when it is created"), "{}", ended.errors);
    // A verification still has its verdict.
    let recording = Recording::bare("irqstorm.elf", &[]);
    let ended = recording.command("release", "verify", &["--json", "--observe", &blind("event", 5)]).end();
    assert_eq!(ended.code, Some(7));
    let verdict: Value = serde_json::from_str(&ended.console).unwrap();
    assert_eq!(verdict["result"], "identical");
}

#[test]
fn mistakes_are_named() {
    let recording = calls();
    for (watch, code, why) in [
        ("nobody", 3, "observer \"nobody\": not found"),
        ("gpio", 3, "there is no observer in it"),
        ("hot,ouut=x", 2, "no option \"ouut\""),
        ("hot,elf=/nonexistent", 3, "observer \"hot\": elf: /nonexistent: No such file"),
        ("trace,only=nothing", 3, "observer \"trace\": only: \"nothing\" is none of traps, mmio"),
    ] {
        let ended = recording.command("release", "verify", &["--observe", watch]).end();
        assert_eq!(ended.code, Some(code), "{watch}: {}", ended.errors);
        assert!(
            ended.errors.contains(why) && ended.errors.contains(&format!("--observe {watch}")),
            "{}",
            ended.errors
        );
    }
}
