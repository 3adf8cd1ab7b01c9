//! Another build of a plugin, given to a machine that runs.

use crate::{
    builds::{Edit, build},
    qmp::Qmp,
    reprise::{Reprise, Scratch, Started, build_folder, guest},
};
use serde_json::{Value, json};

const CHIP: &str = "plugins/ns16550a/src/chip.rs";
const UART: &str = "plugins/ns16550a/src/lib.rs";
/// A UART that sends everything in capitals.
const LOUD: Edit<'static> =
    (UART, "cx.port_write(SERIAL, &[sent]);", "cx.port_write(SERIAL, &[sent.to_ascii_uppercase()]);");

fn uart(name: &str, edits: &[Edit<'_>]) -> String {
    let file = build("reprise-plugin-ns16550a", "libreprise_plugin_ns16550a.so", name, edits);
    file.to_str().unwrap().to_owned()
}

/// A guest that waits for `q`, stopped, and its socket.
fn stopped(scratch: &Scratch, args: &[&str]) -> (Started, Qmp) {
    let (socket, folder) = (scratch.path("control"), scratch.path("kept"));
    let run = Reprise::new(args.iter().copied()).args(["--control", &socket, "--snapshots", &folder]);
    let started = run.args(["-bios", &guest("reset.elf")]).start();
    started.wait_for("@reset waits");
    let mut client = Qmp::connect(&socket);
    client.execute("stop");
    (started, client)
}

fn reload(client: &mut Qmp, device: &str, file: Option<&str>) -> Value {
    let mut arguments = json!({ "device": device });
    if let Some(file) = file {
        arguments["filename"] = file.into();
    }
    client.execute_with("x-plugin-reload", arguments)
}

fn refused(client: &mut Qmp, device: &str, file: &str) -> String {
    let arguments = json!({ "device": device, "filename": file });
    client.refused(&json!({ "execute": "x-plugin-reload", "arguments": arguments }).to_string()).1
}

fn digest(client: &mut Qmp) -> String {
    client.execute("query-digest")["digest"].as_str().unwrap().to_owned()
}

#[test]
fn a_machine_goes_on_with_another_build() {
    let scratch = Scratch::new("reload");
    let loud = uart("loud.so", &[LOUD]);
    let (mut started, mut client) = stopped(&scratch, &["run"]);
    let before = digest(&mut client);
    // The very same, from where it was loaded: nobody can tell.
    let installed = build_folder().join("libreprise_plugin_ns16550a.so");
    let again = reload(&mut client, "uart0", None);
    assert_eq!(again["filename"], installed.to_str().unwrap());
    assert_eq!(digest(&mut client), before);
    // Another one, in the same state; it says so by what it sends from now on.
    let answer = reload(&mut client, "uart0", Some(&loud));
    assert_eq!((&answer["plugin"], &answer["devices"]), (&json!("ns16550a"), &json!(["uart0"])));
    assert_ne!(answer["blake3"], again["blake3"]);
    assert_eq!((digest(&mut client), client.status()), (before, "paused".to_owned()));
    // The monitor, and a process of its own.
    let said = client.human(&format!("plugin_reload uart0 {loud}"));
    assert_eq!(said, format!("{loud}: plugin \"ns16550a\" of uart0\n"));
    let socket = scratch.path("control");
    let ended = Reprise::new(["plugin", "reload", "uart0", &socket, "--file", &loud]).end().success();
    assert_eq!(ended.console, said);
    // All devices of a plugin go together.
    assert_eq!(reload(&mut client, "disk1", None)["devices"], json!(["disk0", "disk1"]));
    client.execute("cont");
    started.press("q");
    started.end().success().says("@R RESET BOOTS=2 OK");
}

#[test]
fn a_snapshot_says_which_build_it_is_of() {
    let scratch = Scratch::new("reload-snapshot");
    let loud = uart("loud-kept.so", &[LOUD]);
    let mine = scratch.path("mine.so");
    std::fs::copy(&loud, &mine).unwrap();
    let (started, mut client) = stopped(&scratch, &["run"]);
    client.execute_with("snapshot-save", json!({ "tag": "before" }));
    reload(&mut client, "uart0", Some(&mine));
    // Whoever builds plugins has another in its place soon.
    std::fs::write(&mine, "half of a libr").unwrap();
    client.execute_with("snapshot-save", json!({ "tag": "after" }));
    // One of before is of another machine now.
    let why = client
        .refused(&json!({ "execute": "snapshot-load", "arguments": { "tag": "before" } }).to_string())
        .1;
    assert!(why.contains("its plugin \"ns16550a\" is not the same"), "{why}");
    client.execute("quit");
    started.end().success();
    let from = |name: &str, args: &[&str]| {
        let snapshot = format!("{}/{name}", scratch.path("kept"));
        let mut started = Reprise::new(["run", "--from", &snapshot]).args(args.iter().copied()).start();
        started.press("q");
        started.end()
    };
    from("before", &[]).success().says("@R reset boots=2 ok");
    let ended = from("after", &[]);
    assert!(ended.errors.contains("plugin \"ns16550a\" is not here as it was recorded"), "{}", ended.errors);
    from("after", &["--trust-plugins"]).success().says("@R RESET BOOTS=2 OK");
    from("after", &["--plugin", &format!("uart0={loud}")]).success().says("@R RESET BOOTS=2 OK");
}

#[test]
fn what_cannot_take_its_place_is_refused_with_the_reason() {
    let scratch = Scratch::new("reload-refused");
    let timer = uart("timer.so", &[(UART, ".timer(\"rx-timeout\")", ".timer(\"timeout\")")]);
    let state = uart("field.so", &[(CHIP, "thre_interrupt", "thre_waits")]);
    let wide = uart("wide.so", &[(UART, "1 | 2 | 4][", "1 | 2][")]);
    let (mut started, mut client) = stopped(&scratch, &["run"]);
    let before = digest(&mut client);
    let why = refused(&mut client, "uart0", &timer);
    assert_eq!(why, "device \"uart0\": its timer 0 was \"rx-timeout\", and is \"timeout\" in the new build");
    let why = refused(&mut client, "uart0", &state);
    let start = "device \"uart0\": the new build's state is another: ";
    let renamed = "field `chip.thre_interrupt`: removed: records that have it are refused for an unknown field; \
                   field `chip.thre_waits`: new, but without";
    assert!(why.starts_with(start) && why.contains(renamed), "{why}");
    // What another board could use, and this one does not, is no change of this machine.
    reload(&mut client, "uart0", Some(&wide));
    let cases = [
        ("uart9", timer.as_str(), "there is no device \"uart9\""),
        ("uart0", "/nonexistent.so", "/nonexistent.so: no such file"),
        ("plic", timer.as_str(), "device \"plic\": the new build does not make it: "),
    ];
    for (device, file, part) in cases {
        let why = refused(&mut client, device, file);
        assert!(why.contains(part), "{device}: {why}");
    }
    assert_eq!(digest(&mut client), before);
    client.execute("cont");
    started.press("q");
    started.end().success().says("@R reset boots=2 ok");
}

#[test]
fn what_is_recorded_or_replayed_has_one_build() {
    let scratch = Scratch::new("reload-recorded");
    let recording = scratch.path("run.rec");
    let (mut started, mut client) = stopped(&scratch, &["record", "-o", &recording]);
    let installed = build_folder().join("libreprise_plugin_ns16550a.so");
    let installed = installed.to_str().unwrap();
    let why = refused(&mut client, "uart0", installed);
    assert!(why.starts_with("this run is recorded, and a recording has one build of a plugin"), "{why}");
    client.execute("cont");
    started.press("q");
    started.end().success();
    Reprise::new(["verify", &recording]).end().success();
    let socket = scratch.path("control");
    let replay = Reprise::new(["replay", "--paused", "--control", &socket, &recording]).start();
    let mut client = Qmp::connect(&socket);
    let why = refused(&mut client, "uart0", installed);
    assert!(why.contains("replay --plugin uart0=FILE.so"), "{why}");
    client.execute("cont");
    replay.end().success();
    std::fs::remove_file(scratch.path("control")).ok();
    // The guest resets itself, which is an occasion to save.
    let plan = format!("16M,dir={}", scratch.path(""));
    let (started, mut client) = stopped(&scratch, &["run", "--flight-recorder", &plan]);
    let why = refused(&mut client, "uart0", installed);
    assert!(why.starts_with("this run has a flight recorder, and"), "{why}");
    client.execute("quit");
    started.end().success();
}
