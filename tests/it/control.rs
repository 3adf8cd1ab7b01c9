//! The control socket of a running machine: the protocol, what stops leave behind (nothing), and QEMU's own client.

use crate::{
    qmp::Qmp,
    reprise::{Reprise, Scratch, Started, guest, root},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{Read, Write},
    net::Shutdown,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// A guest that waits for the reset button or for `q`, with a socket of its own.
fn waiting(scratch: &Scratch) -> (Started, String) {
    let socket = scratch.path("control");
    let started = Reprise::new(["run", "--control", &socket, "-bios", &guest("reset.elf")]).start();
    started.wait_for("@reset waits");
    (started, socket)
}

/// `reprise verify` finds the same run.
fn identical(recording: &str) {
    let ended = Reprise::new(["verify", recording]).end().success();
    assert!(ended.console.starts_with("identical"), "{}", ended.console);
}

#[test]
fn the_protocol_is_qmp() {
    let scratch = Scratch::new("qmp");
    let (started, socket) = waiting(&scratch);
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let mut silent = Qmp::greeted(&socket);
    assert_eq!(silent.refused("{\"execute\":\"stop\"}").0, "CommandNotFound");
    let (mut client, mut other) = (Qmp::connect(&socket), Qmp::connect(&socket));
    assert_eq!(client.status(), "running");
    // Two at once, nothing between them; ids of any kind.
    client.send(b"{\"execute\":\"query-name\",\"id\":[1,null]}{\"id\":2,\"execute\":\"query-cpus-fast\"}");
    assert_eq!(client.answer(), json!({ "return": { "name": "virt" }, "id": [1, null] }));
    assert_eq!(client.answer()["return"][0]["target"], "riscv64");
    let commands = client.execute("query-commands");
    for command in ["stop", "quit", "query-replay", "system_powerdown", "human-monitor-command"] {
        assert!(commands.as_array().unwrap().contains(&json!({ "name": command })), "no {command}");
    }
    assert_eq!(client.execute("query-replay")["mode"], "none");
    assert!(client.execute("query-chardev").to_string().contains("uart0.serial"));
    // Everybody hears of a stop; the event comes before the answer.
    client.send(b"{\"execute\":\"stop\"}");
    assert_eq!(client.receive()["event"], "STOP");
    assert_eq!(client.receive(), json!({ "return": {} }));
    other.event("STOP");
    assert_eq!((client.status(), other.status()), ("paused".into(), "paused".into()));
    let at = client.icount();
    assert!(at > 0);
    client.execute("stop");
    assert!(client.human("info registers").contains("x31/t6"));
    assert!(client.human("xp /2xw 0x80000000").starts_with("0000000080000000: 0x"));
    assert_eq!(other.icount(), at, "time went on while the machine stood still");
    other.execute("cont");
    other.event("RESUME");
    client.event("RESUME");
    assert_eq!(client.human("info status"), "VM status: running\n");
    while client.icount() == at {}
    client.execute("quit");
    for client in [&mut client, &mut other] {
        assert_eq!(client.event("SHUTDOWN"), json!({ "guest": false, "reason": "host-qmp-quit" }));
        assert_eq!(client.next(), None);
    }
    assert_eq!(silent.next(), None, "no event before the negotiation");
    assert_eq!(started.end().code, Some(0));
    assert!(!Path::new(&socket).exists());
}

#[test]
fn hostile_clients_get_errors_and_cost_the_others_nothing() {
    let scratch = Scratch::new("hostile");
    let (started, socket) = waiting(&scratch);
    let mut good = Qmp::connect(&socket);
    let mut bad = Qmp::connect(&socket);
    for wrong in ["nonsense", "{\"execute\":}", "[]", "{\"execute\":\"stop\"}}", "\u{0}\u{7f}", "{\"a\":1}"] {
        bad.send(format!("{wrong}\n").as_bytes());
        let errors = if wrong.ends_with("}}") { bad.answer()["return"].is_object() } else { true };
        assert!(errors && bad.answer()["error"]["class"] == "GenericError", "{wrong}");
    }
    good.execute("cont");
    let deep = bad.refused(&("{\"execute\":".to_owned() + &"[".repeat(50_000)));
    assert!(deep.1.contains("recursion limit"), "{deep:?}");
    let long = bad.refused(&("{\"execute\":\"".to_owned() + &"x".repeat(1 << 20) + "\"}"));
    assert!(long.1.contains("longer than"), "{long:?}");
    assert_eq!(bad.status(), "running");
    // One that asks and does not read is not read either; the machine and the others go on.
    let mut deaf = Qmp::connect(&socket);
    deaf.stream().set_nonblocking(true).unwrap();
    let question = b"{\"execute\":\"query-commands\"}\n";
    let mut asked = 0;
    while let Ok(written) = deaf.stream().write(&question.repeat(100)) {
        asked += written;
        assert!(asked < 64 << 20, "everything is taken from somebody who reads nothing");
        assert_eq!(good.status(), "running");
    }
    deaf.stream().set_nonblocking(false).unwrap();
    for _ in 0..asked / question.len() {
        assert!(deaf.answer()["return"].is_array());
    }
    // Whoever has said everything still gets the answers.
    let mut brief = Qmp::connect(&socket);
    brief.send(b"{\"execute\":\"stop\"}{\"execute\":\"cont\"}{\"execute\":\"query-name\",\"id\":9}");
    brief.stream().shutdown(Shutdown::Write).unwrap();
    let last = std::iter::from_fn(|| brief.next()).last().unwrap();
    assert_eq!(last["id"], 9);
    // There is room for 16.
    let mut crowd: Vec<Qmp> = (0..13).map(|_| Qmp::connect(&socket)).collect();
    let mut text = String::new();
    std::os::unix::net::UnixStream::connect(&socket).unwrap().read_to_string(&mut text).unwrap();
    assert!(text.contains("no room for more"), "{text}");
    assert_eq!(crowd[12].status(), "running");
    drop(crowd);
    drop(deaf);
    good.execute("quit");
    assert_eq!(started.end().code, Some(0));
}

/// Numbers that look random, from one seed: what fails can be done again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[test]
fn stops_leave_a_recording_as_it_would_be() {
    let scratch = Scratch::new("stops");
    let (socket, recording) = (scratch.path("control"), scratch.path("run.rec"));
    let firmware = guest("lively.elf");
    let record =
        ["record", "-o", &recording, "--digest-every", "1M", "--control", &socket, "-bios", &firmware];
    let mut started = Reprise::new(record).start();
    let mut client = Qmp::connect(&socket);
    let mut chance = Chance(1);
    let mut stops = 0;
    // It ends by itself, at a moment that is not ours: then the last command has no answer.
    let ends = |answer: Option<Value>| answer.is_none_or(|message| message["error"].is_object());
    'run: loop {
        for command in ["stop", "query-replay", "query-replay", "cont"] {
            let command = json!({ "execute": command }).to_string();
            if client.stream().write_all(command.as_bytes()).is_err() {
                break 'run;
            }
            let mut icounts = Vec::new();
            loop {
                let Some(message) = client.next() else { break 'run };
                if message["event"] == "SHUTDOWN" || ends(Some(message.clone())) {
                    break 'run;
                }
                if message.get("return").is_some() {
                    icounts.extend(message["return"]["icount"].as_u64());
                    break;
                }
            }
            assert!(icounts.windows(2).all(|pair| pair[0] == pair[1]));
        }
        stops += 1;
        if chance.below(3) == 0 {
            started.press("a line of text\n");
        }
        std::thread::sleep(Duration::from_micros(chance.below(4000)));
    }
    let ended = started.end().success();
    assert!(ended.console.contains(" ok"), "{}", ended.console);
    assert!(stops >= 20, "only {stops} stops: nothing was tried");
    identical(&recording);
}

#[test]
fn a_paced_machine_neither_runs_away_nor_catches_up() {
    let scratch = Scratch::new("paced");
    let run = |socket: &str| Reprise::bare("paced", "wfi.elf").args(["--control", socket]);
    let undisturbed = run("none").end().success().position_and_digest();
    let socket = scratch.path("control");
    let begun = Instant::now();
    let started = run(&socket).start();
    let mut client = Qmp::connect(&socket);
    let mut stood_still = Duration::ZERO;
    for _ in 0..4 {
        client.execute("stop");
        let since = Instant::now();
        let at = client.icount();
        std::thread::sleep(Duration::from_millis(150));
        assert_eq!(client.icount(), at);
        stood_still += since.elapsed();
        client.execute("cont");
        std::thread::sleep(Duration::from_millis(20));
    }
    let ended = started.end().success();
    let took = begun.elapsed();
    assert_eq!(ended.position_and_digest(), undisturbed, "the guest could tell");
    let vtime = Duration::from_nanos(undisturbed.1);
    assert!(took >= vtime + stood_still, "{took:?} for {vtime:?} of the guest and {stood_still:?} of stops");
    // The stops are nobody's time: the summary counts what the machine ran.
    let ran = Duration::from_secs_f64(ended.summary("host_seconds").as_f64().unwrap());
    assert!(ran + stood_still <= took, "{ran:?} of {took:?}");
}

#[test]
fn buttons_are_inputs_and_so_recorded() {
    let scratch = Scratch::new("buttons");
    let (socket, recording) = (scratch.path("control"), scratch.path("run.rec"));
    let firmware = guest("reset.elf");
    let record = |output: &str| {
        let args = ["record", "--force", "-o", output, "--control", &socket, "-bios", &firmware];
        let started = Reprise::new(args).start();
        started.wait_for("@reset waits");
        started
    };
    let started = record(&recording);
    let mut client = Qmp::connect(&socket);
    let replay = client.execute("query-replay");
    assert_eq!((&replay["mode"], &replay["filename"]), (&json!("record"), &json!(recording)));
    // It enters when the machine goes on.
    client.execute("stop");
    client.execute("system_reset");
    client.event("STOP");
    client.execute("cont");
    client.event("RESUME");
    assert_eq!(client.event("RESET"), json!({ "guest": false, "reason": "host-qmp-system-reset" }));
    assert_eq!(client.event("SHUTDOWN"), json!({ "guest": true, "reason": "guest-shutdown" }));
    // The socket closes last: everything is written then.
    assert_eq!(client.next(), None);
    identical(&recording);
    started.end().success().says("@R reset boots=3 ok");
    let ended = Reprise::new(["replay", "--control", "none", &recording]).end().success();
    ended.says("@reset boot 3");
    let started = record(&scratch.path("off.rec"));
    let mut client = Qmp::connect(&socket);
    // Presses are not collected without end.
    client.execute("stop");
    client.event("STOP");
    for _ in 0..16 {
        client.execute("system_powerdown");
    }
    let refused = client.refused("{\"execute\":\"system_powerdown\"}");
    assert!(refused.1.contains("16 presses wait"), "{refused:?}");
    client.execute("cont");
    client.event("RESUME");
    assert_eq!(client.event("SHUTDOWN")["guest"], false);
    started.end().success();
    identical(&scratch.path("off.rec"));
}

#[test]
fn a_replay_can_be_stopped_and_takes_nothing() {
    let scratch = Scratch::new("replayed");
    let (socket, recording) = (scratch.path("control"), scratch.path("run.rec"));
    Reprise::new(["record", "-o", &recording, "-bios", &guest("lively.elf")]).end().success();
    // Nobody reads what it says yet, so it cannot be over before we have come.
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&[b'.'; 64 << 10]).unwrap();
    let mut child = Command::new(crate::reprise::build_folder().join("reprise"))
        .args(["replay", &recording, "--control", &socket])
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut client = Qmp::connect(&socket);
    client.send(b"{\"execute\":\"stop\"}");
    let mut start = vec![0; 64 << 10];
    reader.read_exact(&mut start).unwrap();
    assert_eq!(client.answer(), json!({ "return": {} }));
    client.event("STOP");
    let at = client.icount();
    assert_eq!(client.execute("query-replay")["mode"], "play");
    let refused = client.refused("{\"execute\":\"system_reset\"}");
    assert!(refused.1.contains("its log has what entered"), "{refused:?}");
    assert!(client.human("info replay").contains(&recording));
    assert_eq!(client.icount(), at);
    client.execute("cont");
    client.event("RESUME");
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("@R lively"), "{rest}");
    assert!(client.event("SHUTDOWN").is_object());
    assert!(child.wait().unwrap().success());
}

/// `reprise` with its sockets in this folder.
fn at(folder: &str, args: &[&str]) -> crate::reprise::Ended {
    Reprise::new(args.iter().copied()).env("REPRISE_RUNTIME_DIR", folder).end()
}

fn listed(folder: &str) -> Vec<Value> {
    let ended = at(folder, &["ps", "--json"]).success();
    serde_json::from_str::<Value>(&ended.console).unwrap().as_array().unwrap().clone()
}

#[test]
fn running_machines_are_found_and_told_apart() {
    let scratch = Scratch::new("ps");
    let folder = scratch.path("runtime");
    let firmware = guest("reset.elf");
    let run = |args: &[&str]| {
        let started = Reprise::new(args.iter().copied())
            .args(["-bios", &firmware])
            .env("REPRISE_RUNTIME_DIR", &folder)
            .start();
        started.wait_for("@reset waits");
        started
    };
    at(&folder, &["ps"]).success().says("no machine is running");
    let recording = scratch.path("run.rec");
    let (mut first, second) = (run(&["run"]), run(&["record", "-o", &recording]));
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    let all = listed(&folder);
    assert_eq!(all.len(), 2, "{all:?}");
    let [one, two] = [&first, &second].map(|run| all.iter().find(|row| row["pid"] == run.pid()).unwrap());
    assert_eq!((&one["what"], &two["what"]), (&json!("run"), &json!("record")));
    assert_eq!((&one["machine"], &two["recording"]), (&json!("virt"), &json!(recording)));
    let [one, two] = [first.pid(), second.pid()].map(|pid| pid.to_string());
    // Which one?
    let ended = at(&folder, &["stop"]);
    assert_eq!(ended.code, Some(2));
    for expected in ["2 machines are running", &format!("{one}: run virt"), &format!("{two}: record virt")] {
        assert!(ended.errors.contains(expected), "no {expected:?} in {}", ended.errors);
    }
    at(&folder, &["stop", &one]).success();
    at(&folder, &["status", &one]).success().says("paused: run virt, icount ");
    at(&folder, &["status", &two]).success().says("running: record virt");
    at(&folder, &["ps"]).success().says("paused");
    at(&folder, &["cont", &one]).success();
    at(&folder, &["monitor", &one, "info", "status"]).success().says("VM status: running");
    // The dead leave their socket, and it is taken away.
    first.kill();
    assert_eq!(first.end().code, None);
    assert!(Path::new(&folder).join(format!("{one}.sock")).exists());
    assert_eq!(listed(&folder).len(), 1);
    assert!(!Path::new(&folder).join(format!("{one}.sock")).exists());
    at(&folder, &["status"]).success().says("running: record virt");
    at(&folder, &["monitor", &two, "quit"]).success();
    assert_eq!(second.end().code, Some(0));
    assert!(listed(&folder).is_empty());
    identical(&recording);
}

#[test]
fn a_folder_that_others_could_use_is_refused() {
    let scratch = Scratch::new("folders");
    let [open, link, file] = ["open", "link", "file"].map(|name| scratch.path(name));
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(scratch.path("real")).unwrap();
    fs::set_permissions(scratch.path("real"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink(scratch.path("real"), &link).unwrap();
    fs::write(&file, "").unwrap();
    let firmware = guest("wfi.elf");
    for (folder, why) in [(&open, "its mode is 0755"), (&link, "symbolic link"), (&file, "it is no folder")] {
        // Nobody asked for a socket: the run goes on without.
        let ended = at(folder, &["run", "-bios", &firmware]).success();
        assert!(ended.errors.contains("no control socket") && ended.errors.contains(why), "{}", ended.errors);
        let ended = at(folder, &["ps"]);
        assert!(ended.code == Some(6) && ended.errors.contains(why), "{}", ended.errors);
    }
    // Somebody did.
    let socket = scratch.path("control");
    let (started, taken) = waiting(&scratch);
    assert_eq!(socket, taken);
    let ended = Reprise::new(["run", "--control", &socket, "-bios", &firmware]).end();
    assert!(ended.code == Some(2) && ended.errors.contains("another process listens"), "{}", ended.errors);
    let mut client = Qmp::connect(&socket);
    client.execute("quit");
    started.end().success();
    // What a dead process has left is in nobody's way.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    Reprise::new(["run", "--control", &socket, "-bios", &firmware]).end().success();
}

#[test]
fn qemus_own_client_drives_it() {
    let scratch = Scratch::new("peer");
    let (started, socket) = waiting(&scratch);
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    let python = target.join("qmp/bin/python");
    assert!(python.exists(), "{} is missing: run tests/run", python.display());
    let output = Command::new(python).arg(root().join("tests/it/peer.py")).arg(&socket).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        text,
        "greeted\nrunning\nSTOP\npaused\nRESUME\nrunning\nVM status: running\nSHUTDOWN host-qmp-quit\n"
    );
    assert_eq!(started.end().code, Some(0));
}
