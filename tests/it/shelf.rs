//! Snapshots of machines that run, by name: saved and loaded through the control socket.

use crate::{
    qmp::Qmp,
    reprise::{Reprise, Scratch, Started, guest},
    seek::{ask, end_of},
};
use serde_json::{Value, json};

fn command(name: &str, tag: &str) -> String {
    json!({ "execute": name, "arguments": { "tag": tag } }).to_string()
}

fn save(client: &mut Qmp, tag: &str) -> Value {
    // With everything that QEMU's command has.
    let arguments = json!({ "job-id": "job0", "tag": tag, "vmstate": "disk0", "devices": ["disk0"] });
    let saved = client.execute_with("snapshot-save", arguments);
    assert_eq!(saved["tag"], tag);
    saved
}

fn load(client: &mut Qmp, tag: &str) {
    assert_eq!(client.execute_with("snapshot-load", json!({ "tag": tag })), json!({}));
}

fn digest(client: &mut Qmp) -> (u64, String) {
    let answer = client.execute("query-digest");
    (answer["icount"].as_u64().unwrap(), answer["digest"].as_str().unwrap().to_owned())
}

fn identical(recording: &str) {
    let ended = Reprise::new(["verify", recording]).end().success();
    assert!(ended.console.starts_with("identical"), "{}", ended.console);
}

/// A machine with a socket and a folder for its snapshots.
fn start(scratch: &Scratch, args: &[&str], name: &str) -> (Started, Qmp) {
    let (socket, folder) = (scratch.path("control"), scratch.path("kept"));
    let run = Reprise::new(args.iter().copied()).args(["--control", &socket, "--snapshots", &folder]);
    let started = run.args(["-bios", &guest(name)]).start();
    let client = Qmp::connect(&socket);
    (started, client)
}

#[test]
fn a_run_goes_on_from_a_snapshot_as_it_did() {
    let scratch = Scratch::new("shelf");
    let undisturbed = Reprise::bare("shelf", "wfi.elf").end().success().position_and_digest();
    let (socket, folder) = (scratch.path("control"), scratch.path("kept"));
    let run = Reprise::bare("shelf", "wfi.elf").args(["--control", &socket, "--snapshots", &folder]);
    let started = run.start();
    let mut client = Qmp::connect(&socket);
    client.execute("stop");
    let first = digest(&mut client);
    let saved = save(&mut client, "first");
    assert_eq!(saved["icount"], first.0);
    client.execute("cont");
    while client.icount() <= first.0 {}
    // While it runs, too; and loaded while it runs, it goes on at once.
    save(&mut client, "second");
    for tag in ["first", "second", "first"] {
        load(&mut client, tag);
        assert_eq!(client.status(), "running");
    }
    client.execute("stop");
    let passed = digest(&mut client);
    load(&mut client, "first");
    assert_eq!((digest(&mut client), client.status()), (first, "paused".into()), "not {passed:?}");
    let refused = client.refused(&command("snapshot-save", "first")).1;
    assert!(refused.contains("there is a snapshot \"first\" already"), "{refused}");
    let refused = client.refused(&command("snapshot-load", "third")).1;
    assert!(refused.contains("there is no snapshot \"third\""), "{refused}");
    let refused = client.refused(&command("snapshot-save", "../x")).1;
    assert!(refused.contains("no name for a snapshot"), "{refused}");
    let listed = client.human("info snapshots");
    assert!(listed.lines().count() == 2 && listed.contains("second"), "{listed}");
    client.execute_with("snapshot-delete", json!({ "tag": "second" }));
    assert_eq!(client.human("delvm first"), "");
    assert_eq!(client.human("info snapshots"), "There is no snapshot available.\n");
    client.execute("cont");
    let ended = started.end().success();
    assert_eq!(ended.position_and_digest(), undisturbed, "the guest could tell");
}

#[test]
fn a_recording_does_not_notice_that_snapshots_are_saved() {
    let scratch = Scratch::new("saved");
    let recording = scratch.path("run.rec");
    let args = ["record", "-o", &recording, "--digest-every", "1M"];
    let (mut started, mut client) = start(&scratch, &args, "lively.elf");
    let mut taken = Vec::new();
    // It ends by itself, at a moment that is not ours: then the last command has no answer.
    loop {
        let tag = format!("s{}", taken.len());
        client.send(command("snapshot-save", &tag).as_bytes());
        let answer = std::iter::from_fn(|| client.next()).find(|message| message.get("event").is_none());
        match answer {
            Some(answer) if answer["return"].is_object() => {
                taken.push((tag, answer["return"]["vtime-ns"].as_u64().unwrap()));
            }
            Some(answer) => {
                let why = answer["error"]["desc"].as_str().unwrap();
                assert!(why.contains("has ended"), "{why}");
                break;
            }
            None => break,
        }
        if taken.len() == 3 {
            let refused = client.refused(&command("snapshot-load", "s0")).1;
            assert!(refused.contains("a log has no way back") && refused.contains("--from"), "{refused}");
            started.press("a line of text\n");
        }
    }
    started.end().success().says(" ok");
    assert!(taken.len() >= 5, "only {} snapshots: nothing was tried", taken.len());
    identical(&recording);
    let folder = scratch.path("kept");
    Reprise::new(["snapshot", "check", &folder]).end().success();
    // From one of them another recording goes on, and verifies.
    let (tag, vtime_ns) = &taken[taken.len() / 2];
    let on = scratch.path("on.rec");
    let from = format!("{folder}/{tag}");
    Reprise::new(["record", "--from", &from, "-o", &on, "--control", "none"]).end().success().says(" ok");
    identical(&on);
    // What was saved is what the recording was there: by its time, as it may have been taken while every hart waited.
    let asked = ask(&recording, &[format!("vtime:{vtime_ns}ns")]);
    assert_eq!(asked, ask(&on, &[format!("vtime:{vtime_ns}ns")]));
}

#[test]
fn a_snapshot_of_a_replay_is_loaded_there_and_recorded_on_from() {
    let scratch = Scratch::new("replayed");
    let (recording, other) = (scratch.path("run.rec"), scratch.path("other.rec"));
    for output in [&recording, &other] {
        let args = ["record", "-o", output, "--scratch-disk", "-bios", &guest("demo.elf")];
        Reprise::new(args).end().success();
    }
    let middle = end_of(&recording) / 2;
    let (socket, folder) = (scratch.path("control"), scratch.path("kept"));
    let replay = |recording: &str| {
        let args = ["replay", recording, "--paused", "--control", &socket, "--snapshots", &folder];
        let started = Reprise::new(args).start();
        (started, Qmp::connect(&socket))
    };
    let (started, mut client) = replay(&recording);
    client.execute_with("replay-seek", json!({ "icount": middle }));
    let there = digest(&mut client);
    save(&mut client, "middle");
    client.execute_with("replay-seek", json!({ "at": "end" }));
    let refused = client.refused(&command("snapshot-save", "end")).1;
    assert!(refused.contains("ended here"), "{refused}");
    load(&mut client, "middle");
    assert_eq!(digest(&mut client), there);
    client.execute_with("replay-seek", json!({ "icount": middle / 2 }));
    assert_eq!(client.human("loadvm middle"), "");
    assert_eq!(digest(&mut client), there);
    client.execute("cont");
    started.end().success();
    // In another process it is a place of this recording, and of no other.
    let (started, mut client) = replay(&recording);
    load(&mut client, "middle");
    assert_eq!(digest(&mut client), there);
    client.execute("cont");
    started.end().success();
    let (started, mut client) = replay(&other);
    let refused = client.refused(&command("snapshot-load", "middle")).1;
    assert!(refused.contains("is not of this recording"), "{refused}");
    client.execute("quit");
    started.end().success();
    let (on, from) = (scratch.path("on.rec"), format!("{folder}/middle"));
    Reprise::new(["record", "--from", &from, "-o", &on, "--control", "none"]).end().success();
    identical(&on);
}

#[test]
fn another_machine_is_refused_and_the_command_line_saves_and_loads() {
    let scratch = Scratch::new("others");
    let (folder, socket) = (scratch.path("kept"), scratch.path("control"));
    let with = |more: &[&str], name: &str| {
        let (started, mut client) = start(&scratch, &[&["run"], more].concat(), name);
        client.execute("stop");
        (started, client)
    };
    let (started, mut client) = with(&[], "reset.elf");
    let saved = Reprise::new(["snapshot", "save", "here", &socket]).end().success();
    assert!(saved.console.starts_with(&format!("{folder}/here: icount ")), "{}", saved.console);
    let there = digest(&mut client);
    client.execute("cont");
    while client.icount() == there.0 {}
    client.execute("stop");
    Reprise::new(["snapshot", "load", "here", &socket, "--folder", &folder]).end().success();
    assert_eq!(digest(&mut client), there);
    let ended = Reprise::new(["snapshot", "load", "nowhere", &socket]).end();
    assert!(ended.errors.contains("there is no snapshot \"nowhere\""), "{}", ended.errors);
    Reprise::new(["snapshot", "list", &folder]).end().success().says("here");
    client.execute("quit");
    started.end().success();
    let others: [(&[&str], &str, &str); 2] =
        [(&["-m", "64M"], "reset.elf", "its board"), (&[], "wfi.elf", "its firmware")];
    for (more, name, why) in others {
        let (started, mut client) = with(more, name);
        let before = digest(&mut client);
        let refused = client.refused(&command("snapshot-load", "here")).1;
        assert!(refused.contains("is of another machine") && refused.contains(why), "{refused}");
        assert_eq!(digest(&mut client), before);
        client.execute("quit");
        started.end().success();
    }
}
