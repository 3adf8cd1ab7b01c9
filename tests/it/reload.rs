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
    // A build that does not take the state is told apart from a damaged snapshot, with what changed.
    let state = uart("field-kept.so", &[(CHIP, "thre_interrupt", "thre_waits")]);
    let ended = from("before", &["--plugin", &format!("uart0={state}")]);
    assert_eq!(ended.code, Some(4), "{}", ended.errors);
    let removed =
        "field `chip.thre_interrupt`: removed: records that have it are refused for an unknown field";
    assert!(ended.errors.contains(removed), "{}", ended.errors);
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
    // A script is told the cause by the exit code.
    let socket = scratch.path("control");
    let exits = [
        ("uart9", timer.as_str(), 2),
        ("uart0", timer.as_str(), 3),
        ("uart0", "Cargo.toml", 3),
        ("uart0", "/nonexistent.so", 3),
        ("uart0", state.as_str(), 4),
    ];
    for (device, file, code) in exits {
        let ended = Reprise::new(["plugin", "reload", device, &socket, "--file", file]).end();
        assert_eq!(ended.code, Some(code), "{device}, {file}: {}", ended.errors);
    }
    assert_eq!(digest(&mut client), before);
    client.execute("cont");
    started.press("q");
    started.end().success().says("@R reset boots=2 ok");
    // Nobody is there.
    let ended = Reprise::new(["plugin", "reload", "uart0", &socket, "--file", &wide]).end();
    assert_eq!(ended.code, Some(6), "{}", ended.errors);
}

/// The UART, with an outside half in the same file. It holds a lock while it is open, and keeps a diary of that and of
/// what the guest says. That of build B gives keys.
const WITH_HALF: &str = r#"export_devices!(Uart);
    mod half {
        use reprise_plugin_api::outside::{Backend, Clock, Outside};
        use std::{fs::{self, File, OpenOptions}, io::Write};
        #[derive(reprise_plugin_api::DeviceConfig)]
        pub struct Options {
            /// Where the diary is.
            #[config(default = "")]
            pub path: String,
        }
        pub struct Half(String, File);
        impl Backend for Half {
            type Config = Options;
            fn name() -> &'static str { "ns16550a" }
            fn summary() -> &'static str { "a diary" }
            fn open(options: Options) -> Result<Self, String> {
                let path = options.path;
                File::create_new(format!("{path}.lock")).map_err(|error| format!("locked: {error}"))?;
                let mut diary = OpenOptions::new().append(true).create(true).open(&path).unwrap();
                diary.write_all(b"\nopen BUILD\n").unwrap();
                Ok(Self(path, diary))
            }
            fn poll(&mut self, cx: &mut Outside<'_>) {
                cx.connected(true);
                let mut bytes = [0; 256];
                while let count @ 1.. = cx.take(&mut bytes) {
                    self.1.write_all(&bytes[..count]).unwrap();
                }
                if "BUILD" == "B" {
                    cx.give(b"q");
                    cx.arm(Clock::Realtime, cx.now_ns(Clock::Realtime) + 10_000_000);
                }
            }
        }
        impl Drop for Half {
            fn drop(&mut self) {
                self.1.write_all(b"\nclose BUILD\n").unwrap();
                fs::remove_file(format!("{}.lock", self.0)).unwrap();
            }
        }
        reprise_plugin_api::export_backend!(Half);
    }"#;

fn with_half(name: &str, option: &str) -> String {
    let code = WITH_HALF.replace("BUILD", name).replace("pub path: String", &format!("pub {option}: String"));
    let code = code.replace("options.path", &format!("options.{option}"));
    uart(&format!("half-{name}.so"), &[(UART, "export_devices!(Uart);", &code)])
}

/// The half on the I/O thread goes with the device: it gives back what it holds, and the new one begins with the same
/// options; one that does not take them leaves all as it was.
#[test]
fn the_outside_half_of_a_plugin_begins_anew() {
    let scratch = Scratch::new("reload-half");
    let builds = [("A", "path"), ("B", "path"), ("C", "place")].map(|(name, option)| with_half(name, option));
    let without = build_folder().join("libreprise_plugin_ns16550a.so");
    let (diary, installed) = (scratch.path("diary"), scratch.path("libreprise_plugin_ns16550a.so"));
    std::fs::copy(&builds[0], &installed).unwrap();
    let socket = scratch.path("control");
    let port = format!("uart0.serial=plugin:ns16550a,path={diary}");
    let run = Reprise::new(["--plugin-path", &installed, "run", "--port", &port, "--control", &socket]);
    let started = run.args(["-bios", &guest("reset.elf")]).start();
    let mut client = Qmp::connect(&socket);
    client.execute("stop");
    let before = digest(&mut client);
    let why = refused(&mut client, "uart0", &builds[2]);
    let refusal = "the new build's backend of port uart0.serial cannot be opened: path: unknown option";
    assert!(why.starts_with(refusal) && !why.contains("nor does"), "{why}");
    let why = refused(&mut client, "uart0", without.to_str().unwrap());
    assert_eq!(why, "the new build has no backend for ports, and uart0.serial has the old one's");
    assert_eq!(digest(&mut client), before);
    let answer = reload(&mut client, "uart0", Some(&builds[1]));
    assert_eq!((&answer["devices"], &answer["ports"]), (&json!(["uart0"]), &json!(["uart0.serial"])));
    let said = client.human(&format!("plugin_reload uart0 {}", builds[1]));
    assert!(
        said.ends_with("plugin \"ns16550a\" of uart0; its backend of uart0.serial began anew\n"),
        "{said}"
    );
    client.execute("cont");
    started.end().success();
    let kept = std::fs::read_to_string(&diary).unwrap();
    let is_about_itself = |line: &&str| line.starts_with("open ") || line.starts_with("close ");
    let lines: Vec<&str> = kept.lines().filter(is_about_itself).collect();
    let expected = ["open A", "close A", "open A", "close A", "open B", "close B", "open B", "close B"];
    assert_eq!(lines, expected, "{kept}");
    let last = kept.rsplit_once("open B").unwrap().1;
    assert!(last.contains("@R reset boots=2 ok"), "{kept}");
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
