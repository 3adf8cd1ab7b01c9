//! Going to places of a recording through the control socket of its replay, and what only a replay can do.

use crate::{
    crash::Draw,
    qmp::Qmp,
    reprise::{Reprise, Scratch, Started, guest},
    seek::{ask, end_of, record},
};
use serde_json::json;

/// A replay that stands still at its beginning.
fn paused<'a>(scratch: &Scratch, recording: &'a str, more: &[&'a str]) -> (Started, Qmp) {
    let socket = scratch.path("control");
    let args = ["replay", recording, "--paused", "--control", &socket];
    let started = Reprise::new(args).args(more.iter().copied()).start();
    let mut client = Qmp::connect(&socket);
    // Answered when it stands still; whether somebody heard of that before is chance.
    client.execute("stop");
    assert_eq!(client.status(), "paused");
    client.events.clear();
    (started, client)
}

/// Instructions and digest.
fn here(client: &mut Qmp) -> (u64, String) {
    let answer = client.execute("query-digest");
    let replay = client.execute("query-replay");
    assert_eq!((&replay["icount"], &replay["vtime-ns"]), (&answer["icount"], &answer["vtime-ns"]));
    (answer["icount"].as_u64().unwrap(), answer["digest"].as_str().unwrap().to_owned())
}

fn seek(client: &mut Qmp, icount: u64) -> (u64, String) {
    assert_eq!(client.execute_with("replay-seek", json!({ "icount": icount })), json!({}));
    assert_eq!(client.status(), "paused");
    here(client)
}

fn no_seek(client: &mut Qmp, at: &str) -> String {
    let command = json!({ "execute": "replay-seek", "arguments": { "at": at } });
    let (class, desc) = client.refused(&command.to_string());
    assert_eq!(class, "GenericError");
    desc
}

#[test]
fn a_live_replay_is_what_ask_says_wherever_one_seeks() {
    let scratch = Scratch::new("steer");
    let mut draw = Draw(3);
    let guests: [(&str, &[&str]); 3] = [
        ("irqstorm.elf", &[]),
        ("demo.elf", &["--scratch-disk"]),
        ("smp.elf", &["-smp", "4", "--set", "machine.schedule_seed=5"]),
    ];
    for ((name, args), keeping) in guests.into_iter().zip(["1", "off", "250"]) {
        let recording = record(&scratch, name, args);
        let whole = Reprise::new(["replay", &recording]).end().success().console;
        let end = end_of(&recording);
        let places: Vec<u64> = (0..25).map(|_| draw.below(end)).collect();
        let named: Vec<String> = places.iter().map(|at| format!("icount:{at}")).collect();
        let (started, mut client) = paused(&scratch, &recording, &["--snapshot-every", keeping]);
        for (at, expected) in places.iter().zip(ask(&recording, &named)) {
            assert_eq!(seek(&mut client, *at), expected, "{name} at {at}");
        }
        // By other names, also through the monitor; to the end, and back to the beginning.
        let named = ["50%", "line:1", "end"].map(str::to_owned);
        for (at, expected) in named.iter().zip(ask(&recording, &named)) {
            assert_eq!(client.human(&format!("replay_seek {at}")), "");
            assert_eq!(here(&mut client), expected, "{name} at {at}");
        }
        seek(&mut client, 0);
        client.execute("cont");
        client.event("RESUME");
        assert_eq!(client.event("SHUTDOWN")["guest"], true);
        let ended = started.end().success();
        assert_eq!(ended.console, whole, "what was passed on the way is not seen");
    }
}

#[test]
fn a_replay_stands_still_where_it_was_told_to() {
    let scratch = Scratch::new("breaks");
    let recording = record(&scratch, "demo.elf", &["--scratch-disk"]);
    let end = end_of(&recording);
    let (started, mut client) = paused(&scratch, &recording, &[]);
    let middle = end / 2;
    client.execute_with("replay-break", json!({ "icount": middle }));
    client.execute("cont");
    client.event("RESUME");
    client.event("STOP");
    assert_eq!(here(&mut client), ask(&recording, &[format!("icount:{middle}")])[0]);
    // What is behind us comes no more, and a place that is not there costs us nothing.
    let past = json!({ "execute": "replay-break", "arguments": { "icount": middle - 1 } });
    assert!(client.refused(&past.to_string()).1.contains("in the past"));
    let there = here(&mut client);
    let desc = no_seek(&mut client, "icount:999G");
    assert!(desc.contains("cannot seek to icount:999000000000") && desc.contains("ends at icount"), "{desc}");
    assert!(no_seek(&mut client, "event:999999").contains("has no event 999999"));
    assert!(no_seek(&mut client, "soon").contains("write icount:N"));
    assert_eq!((here(&mut client), client.status()), (there, "paused".into()));
    // A breakpoint holds once, can be taken back, and goes with a seek.
    assert_eq!(client.human(&format!("replay_break {}", middle + 1000)), "");
    assert_eq!(client.human("replay_delete_break"), "");
    client.execute_with("replay-break", json!({ "icount": middle + 2000 }));
    seek(&mut client, middle / 2);
    client.execute("cont");
    client.event("RESUME");
    assert!(client.event("SHUTDOWN").is_object());
    started.end().success();
}

#[test]
fn only_a_replay_that_is_not_recorded_goes_back() {
    let scratch = Scratch::new("no-way-back");
    let recording = record(&scratch, "demo.elf", &["--scratch-disk"]);
    let middle = end_of(&recording) / 2;
    let again = scratch.path("again.rec");
    let (started, mut client) = paused(&scratch, &recording, &["--rerecord", &again]);
    seek(&mut client, middle);
    let desc = no_seek(&mut client, "icount:0");
    assert!(desc.contains("a log has no way back"), "{desc}");
    assert_eq!(client.icount(), middle);
    client.execute("cont");
    started.end().success();
    let verified = Reprise::new(["verify", &again]).end().success();
    assert!(verified.console.starts_with("identical"), "{}", verified.console);
    // What replays nothing goes nowhere.
    let socket = scratch.path("control");
    let started = Reprise::new(["run", "--control", &socket, "-bios", &guest("reset.elf")]).start();
    let mut client = Qmp::connect(&socket);
    assert!(no_seek(&mut client, "icount:5").contains("replay must be enabled to seek"));
    let desc = client.refused("{\"execute\":\"replay-delete-break\"}").1;
    assert!(desc.contains("only in play mode"), "{desc}");
    assert!(client.human("replay_break 5").contains("only in play mode"));
    let desc = client.refused("{\"execute\":\"inject-nmi\"}").1;
    assert!(desc.contains("does not provide NMIs"), "{desc}");
    client.execute("quit");
    started.end().success();
}

#[test]
fn a_replay_that_seeks_can_be_ended() {
    let scratch = Scratch::new("ended");
    let recording = record(&scratch, "demo.elf", &["--scratch-disk"]);
    let (started, mut client) = paused(&scratch, &recording, &["--snapshot-every", "off"]);
    let mut other = Qmp::connect(&scratch.path("control"));
    let end = end_of(&recording);
    client.send(
        &json!({ "execute": "replay-seek", "arguments": { "icount": end - 1 } }).to_string().into_bytes(),
    );
    other.execute("quit");
    // Either it was there already, or it never came.
    let answer = client.answer();
    assert!(answer["return"].is_object() || answer["error"]["desc"].is_string(), "{answer}");
    assert_eq!(other.event("SHUTDOWN")["reason"], "host-qmp-quit");
    started.end().success();
}

#[test]
fn a_non_maskable_interrupt_is_an_input() {
    let scratch = Scratch::new("nmi");
    let (socket, recording) = (scratch.path("control"), scratch.path("run.rec"));
    // The handler is where the guest begins, which takes hart 0 for another one then.
    let firmware = guest("reset.elf");
    let args = ["record", "-o", &recording, "--control", &socket, "-bios", &firmware];
    let started = Reprise::new(args).args(["--set", "machine.nmi_vector=0x80000000"]).start();
    started.wait_for("@reset waits");
    let mut client = Qmp::connect(&socket);
    client.execute("inject-nmi");
    while !client.human("info registers 0").contains("(waits)") {}
    assert_eq!(client.human("nmi"), "");
    client.execute("quit");
    let ended = started.end().success();
    let verified = Reprise::new(["verify", &recording]).end().success();
    assert!(verified.console.starts_with("identical"), "{}\n{}", verified.console, ended.console);
    Reprise::new(["log", &recording]).end().success().says("nmi");
}
