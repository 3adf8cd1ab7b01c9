//! Every guest recorded, and replayed to the same state at the same instruction.

use crate::recording::{Recording, hex, records};
use crate::reprise::{Reprise, Scratch};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Quietly, with chaos in the replay, in the run, and in both.
fn replays(run: impl Fn() -> Reprise) -> Recording {
    let quiet = Recording::of(run());
    quiet.is_identical().is_identical_in_chaos(["1", "2", "3"]).shows_the_same();
    for seed in ["4", "5"] {
        let disturbed = Recording::of(run().args(["--chaos-seed", seed]));
        disturbed.is_identical().is_identical_in_chaos(["6"]);
    }
    quiet
}

fn record(guest_name: &str) -> Reprise {
    Reprise::record("release", "record").of(guest_name)
}

#[test]
fn guests_that_nobody_talks_to() {
    for guest in ["wfi.elf", "smc.elf", "irqstorm.elf", "paging.elf", "smp.elf"] {
        replays(|| record(guest));
    }
    replays(|| record("smp.elf").args(["-smp", "4"]));
}

#[test]
fn a_guest_that_asks_every_device() {
    let scratch = Scratch::new("recorded-disk");
    let image = scratch.path("disk.img");
    std::fs::write(&image, vec![0xa5; 1 << 20]).unwrap();
    let recording = replays(|| record("demo.elf").args(["--disk", &format!("disk0={image}")]));
    // It writes 8 sectors of one block, the rest of which comes from the image.
    assert!(!recording.records(&["disk-block"]).is_empty());
    assert_eq!(recording.records(&["host-clock"]).len(), 1);
    let empty = replays(|| record("demo.elf").args(["--scratch-disk"]));
    assert!(empty.records(&["disk-block"]).is_empty(), "an empty disk has no image");
}

#[test]
fn a_guest_that_reads_the_clock_and_its_console() {
    let recording = replays(|| record("lively.elf").input_after("@lively ready", "words, then q"));
    // What it echoes is in the same line.
    let rounds = recording.ended.console.split_once("@R lively rounds=").unwrap().1;
    let rounds = rounds.split(' ').next().unwrap();
    let clocks = recording.records(&["host-clock"]);
    assert_eq!(clocks.len().to_string(), rounds, "it reads the clock once a round");
    assert!(clocks.iter().map(|record| record["value_ns"].as_u64().unwrap()).is_sorted());
    assert_eq!(recording.input("uart0.serial"), hex("words, then q"));
    let events = recording.verify("release", &[])["events"].as_u64().unwrap();
    let logged = recording.records(&[]).iter().filter(|record| record.get("event").is_some()).count();
    assert_eq!(events, logged as u64);
}

#[test]
fn a_reset_and_its_bottom_half() {
    let recording = replays(|| record("reset.elf").input_after("@reset waits", "xyq"));
    let halves = recording.records(&["bottom-half"]);
    assert_eq!(halves.len(), 1, "{halves:?}");
    assert_eq!(halves[0]["device"], "plic");
}

#[test]
fn a_day_of_idle_takes_seconds() {
    let start = Instant::now();
    let recording = Recording::bare("sleep.elf", &["--port", "uart0=null"]);
    assert!(start.elapsed() < Duration::from_secs(10), "nothing can answer, and it waited");
    assert!(recording.ended.summary("vtime_ns").as_u64().unwrap() >= 86_400_000_000_000);
    let start = Instant::now();
    recording.is_identical();
    assert!(start.elapsed() < Duration::from_secs(10), "a replay waited");
}

#[test]
fn a_guest_that_somebody_could_talk_to_sleeps_in_host_time() {
    let start = Instant::now();
    let recording = Recording::bare("wfi.elf", &[]);
    assert!(start.elapsed() > Duration::from_millis(500), "it overtook the host by {:?}", start.elapsed());
    recording.is_identical();
}

#[test]
fn another_seed_of_the_schedule_is_another_interleaving() {
    let ends = ["1", "2", "3", "4"].map(|seed| {
        let seed = format!("machine.schedule_seed={seed}");
        let recording = Recording::bare("smp.elf", &["-smp", "4", "--set", &seed]);
        recording.is_identical().is_identical_in_chaos(["1"]);
        recording.ended.position_and_digest()
    });
    assert_eq!(BTreeSet::from(ends.clone()).len(), ends.len(), "{ends:?}");
}

#[test]
fn debug_and_release_builds_replay_each_other() {
    for (recorder, replayer) in [("debug", "release"), ("release", "debug")] {
        let run = |guest: &str| Reprise::record(recorder, "builds").of(guest);
        let typed = |guest: &str, prompt: &str| run(guest).input_after(prompt, "abcq");
        let quiet = ["wfi.elf", "smc.elf", "irqstorm.elf", "paging.elf"].map(run);
        let talking = [
            typed("lively.elf", "@lively ready"),
            typed("reset.elf", "@reset waits"),
            run("demo.elf").args(["--scratch-disk"]),
            run("smp.elf").args(["-smp", "4"]),
            run("sleep.elf").args(["--port", "uart0=null"]),
        ];
        for run in quiet.into_iter().chain(talking) {
            // The plugins of the other build are other files.
            Recording::of(run).is_identical_on(replayer, &["--other-plugins"]);
        }
    }
}

#[test]
fn a_replay_recorded_again_has_the_same_log() {
    let runs = [
        record("lively.elf").input_after("@lively ready", "again q"),
        record("reset.elf").input_after("@reset waits", "q"),
        record("demo.elf").args(["--scratch-disk"]),
        record("smp.elf").args(["-smp", "4"]),
    ];
    for run in runs {
        let recording = Recording::of(run);
        let again = recording.file("again.rec");
        recording.command("release", "replay", &["--rerecord", &again]).end().success();
        let (first, second) = (recording.records(&[]), records(&again));
        for (number, (one, other)) in first.iter().zip(&second).enumerate() {
            assert_eq!(one, other, "record {number}");
        }
        assert_eq!(first.len(), second.len());
    }
}

#[test]
fn debian_with_a_clock_random_numbers_and_a_typed_command() {
    let run = || {
        Reprise::record("release", "debian-typed")
            .of_debian("reprise.test=devices")
            .input_after("~ # ", "echo typed $((6 * 7))\rpoweroff -f\r")
    };
    let recording = Recording::of(run());
    assert!(recording.ended.console.contains("@devices ok"), "{}", recording.ended.console);
    assert!(recording.ended.console.contains("typed 42"));
    recording.is_identical().is_identical_in_chaos(["11"]).shows_the_same();
    assert!(!recording.records(&["host-clock"]).is_empty());
    assert_eq!(recording.input("uart0.serial"), hex("echo typed $((6 * 7))\rpoweroff -f\r"));
    Recording::of(run().args(["--chaos-seed", "12"])).is_identical();
}

#[test]
fn debian_on_four_harts() {
    let words = "reprise.test=smp reprise.harts=4 reprise.poweroff";
    let run = Reprise::record("release", "debian-harts").of_debian(words).args(["-smp", "4"]);
    let recording = Recording::of(run);
    assert!(recording.ended.console.contains("@smp ok"), "{}", recording.ended.console);
    recording.is_identical();
}

#[test]
fn debian_at_work_on_a_disk() {
    let disk = format!("disk0={}", crate::reprise::guest("debian.ext4"));
    let run = Reprise::record("release", "debian-disk").of_debian("reprise.test=disk reprise.poweroff");
    let recording = Recording::of(run.args(["--disk", &disk]));
    assert!(recording.ended.console.contains("@disk ok"), "{}", recording.ended.console);
    assert!(recording.records(&["disk-block"]).len() > 1000, "the payload alone is larger");
    recording.is_identical();
}
