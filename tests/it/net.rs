//! Networks: Debian's own driver on `virtio-net`, recorded, and replayed with the network unplugged.

use crate::qmp::Qmp;
use crate::recording::Recording;
use crate::reprise::{Reprise, Scratch, root};
use crate::seek::ask;
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

/// How much is sent each way.
const BYTES: usize = 2_000_000;

/// What one of two guests on a cable is told.
fn words(tests: &str, mine: u8, other: u8) -> String {
    let addresses = format!("reprise.address=10.9.0.{mine}/24 reprise.peer=10.9.0.{other}");
    format!("reprise.test={tests} {addresses} reprise.bytes={BYTES} reprise.poweroff")
}

/// A recorded guest with an interface, on a network.
fn guest(test: &str, words: &str, network: &str, mac: u8) -> Reprise {
    let board = root().join("configs/net.toml");
    Reprise::record("release", test)
        .args([board.to_str().unwrap(), "--net", network])
        .args(["--set", &format!("device.net0.mac=02:00:00:00:00:{mac:02x}")])
        .of_debian(words)
}

/// Two guests on one cable, of which one serves what the other gets and sends back.
fn pair(test: &str, more: [&[&str]; 2]) -> [Recording; 2] {
    let scratch = Scratch::new(test);
    let wire = scratch.path("wire");
    let server =
        guest(test, &words("link,serve", 1, 2), &format!("unix:{wire}"), 1).args(more[0].iter().copied());
    let client = guest(test, &words("link,fetch", 2, 1), &format!("unix:{wire},connect"), 2)
        .args(more[1].iter().copied());
    let (server, client) = (server.start(), client.start());
    let recordings = [Recording::of_started(server), Recording::of_started(client)];
    let sum = recordings[0].ended.line("@served ").to_owned();
    assert_eq!(recordings[1].ended.line("@fetched "), sum);
    for (recording, end) in recordings.iter().zip(["@serve ok", "@fetch ok"]) {
        assert!(recording.ended.console.contains(end), "{}", recording.ended.console);
    }
    recordings
}

#[test]
fn two_guests_on_a_cable_replay_unplugged() {
    for recording in pair("pair", [&[], &[]]) {
        // Every frame to the guest is an input: at least as many bytes as were sent.
        let bytes: u64 =
            recording.records(&["input"]).iter().map(|r| r["data"].as_str().unwrap().len() as u64 / 2).sum();
        assert!(bytes > BYTES as u64, "{bytes}");
        recording.is_identical();
    }
}

#[test]
fn two_guests_under_chaos() {
    for recording in pair("pair-chaos", [&["--chaos-seed", "3"], &["--chaos-seed", "4"]]) {
        recording.is_identical();
    }
}

#[test]
fn guests_without_offloads_understand_those_with_them() {
    let plain: &[&str] = &["--set", "device.net0.offloads=false"];
    for more in [[plain, &[]], [&[], plain]] {
        for recording in pair("pair-plain", more) {
            recording.is_identical();
        }
    }
}

#[test]
fn any_place_of_a_transfer_is_the_same_from_wherever_one_comes() {
    let often: &[&str] = &["--snapshot-every", "vtime:40ms"];
    for recording in pair("pair-seek", [often, often]) {
        let places = ["95%", "60%", "95%", "80%", "60%", "99%", "80%"].map(str::to_owned);
        let answers = ask(&recording.path(), &places);
        for (first, again) in [(0, 2), (1, 4), (3, 6)] {
            assert_eq!(answers[first], answers[again], "{}", places[first]);
        }
    }
}

#[test]
fn a_stop_in_the_middle_of_a_transfer_is_no_more_than_a_slow_peer() {
    let scratch = Scratch::new("pair-stop");
    let (wire, socket) = (scratch.path("wire"), scratch.path("control"));
    let bytes = format!("reprise.bytes={}", 10 * BYTES);
    let server =
        guest("pair-stop", &format!("{} {bytes}", words("link,serve", 1, 2)), &format!("unix:{wire}"), 1);
    let client = guest("pair-stop", &words("link,fetch", 2, 1), &format!("unix:{wire},connect"), 2);
    let (server, client) = (server.start(), client.args(["--control", &socket]).start());
    server.wait_for("@served");
    client.wait_for("@fetch begin");
    let mut control = Qmp::connect(&socket);
    let before = control.icount();
    while control.icount() < before + 300_000_000 {}
    control.execute("stop");
    assert!(!client.said().contains("@fetched"), "the transfer was over before the stop");
    // Longer than the peer's first few retransmissions.
    thread::sleep(Duration::from_secs(10));
    control.execute("cont");
    let (server, client) = (Recording::of_started(server), Recording::of_started(client));
    assert_eq!(client.ended.line("@fetched "), server.ended.line("@served "));
    server.is_identical();
    client.is_identical();
}

/// The other end of a cable, as little as answers ARP and pings.
struct Peer {
    stream: UnixStream,
    /// Every frame that has come.
    seen: Vec<Vec<u8>>,
}

const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

impl Peer {
    /// As soon as somebody listens.
    fn plug_in(wire: &str) -> Self {
        let stream = loop {
            match UnixStream::connect(wire) {
                Ok(stream) => break stream,
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        };
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        Self { stream, seen: Vec::new() }
    }

    /// The next frame; `None`: the cable was pulled out.
    fn next(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).ok()?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).ok()?;
        self.seen.push(frame.clone());
        Some(frame)
    }

    fn send(&mut self, frame: &[u8]) {
        let length = (frame.len() as u32).to_be_bytes();
        self.stream.write_all(&[&length[..], frame].concat()).unwrap();
    }

    /// What answers a frame, if it is for us.
    fn answer(frame: &[u8]) -> Option<Vec<u8>> {
        let mut answer = frame.to_vec();
        answer[..6].copy_from_slice(&frame[6..12]);
        answer[6..12].copy_from_slice(&PEER_MAC);
        match (&frame[12..14], frame[23]) {
            ([8, 6], _) if frame[21] == 1 && frame[38..42] == [10, 9, 0, 2] => {
                answer[21] = 2;
                answer[22..28].copy_from_slice(&PEER_MAC);
                answer[28..32].copy_from_slice(&frame[38..42]);
                answer[32..42].copy_from_slice(&frame[22..32]);
                Some(answer)
            }
            ([8, 0], 1) if frame[34] == 8 => {
                answer[26..30].copy_from_slice(&frame[30..34]);
                answer[30..34].copy_from_slice(&frame[26..30]);
                answer[34] = 0;
                // The checksum's own field grows by what the type has shrunk. RFC 1624.
                let checksum = u16::from_be_bytes([frame[36], frame[37]]);
                let (sum, carry) = checksum.overflowing_add(0x0800);
                answer[36..38].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
                Some(answer)
            }
            _ => None,
        }
    }
}

#[test]
fn a_cable_is_plugged_in_while_the_guest_looks() {
    let scratch = Scratch::new("cable");
    let wire = scratch.path("wire");
    let started = guest("cable", &words("link,ping", 1, 2), &format!("unix:{wire}"), 1).start();
    started.wait_for("@no carrier");
    let mut peer = Peer::plug_in(&wire);
    while let Some(frame) = peer.next() {
        if let Some(answer) = Peer::answer(&frame) {
            peer.send(&answer);
        }
    }
    let recording = Recording::of_started(started);
    let console = &recording.ended.console;
    assert!(console.contains("3 packets transmitted, 3 packets received"), "{console}");
    assert!(console.contains("@ping ok"), "{console}");
    let changes = recording.records(&["port-change"]);
    assert!(changes.len() >= 2, "no cable, then one: {changes:?}");
    assert!(peer.seen.iter().all(|frame| frame[6..12] == [2, 0, 0, 0, 0, 1]), "the guest's address");
    assert!(peer.seen.iter().any(|frame| frame[12..14] == [0x86, 0xdd]), "IPv6 looks for neighbours too");
    recording.is_identical();
}

#[test]
fn a_peer_that_speaks_something_else_is_hung_up_on() {
    let scratch = Scratch::new("no-frames");
    let wire = scratch.path("wire");
    let started = guest("no-frames", &words("link,ping", 1, 2), &format!("unix:{wire}"), 1).start();
    started.wait_for("@no carrier");
    let mut peer = Peer::plug_in(&wire);
    peer.stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    while peer.next().is_some() {}
    // The next one is as welcome as the first.
    let mut peer = Peer::plug_in(&wire);
    while let Some(frame) = peer.next() {
        if let Some(answer) = Peer::answer(&frame) {
            peer.send(&answer);
        }
    }
    let recording = Recording::of_started(started);
    let errors = &recording.ended.errors;
    assert!(
        errors.contains("net0.net: the peer sent a frame of 1195725856 bytes, which is none"),
        "{errors}"
    );
    recording.is_identical();
}

/// A web server on this host's loopback, and what it serves.
struct Server {
    process: Child,
    port: u16,
    /// As `sha256sum` writes it.
    sum: String,
    _scratch: Scratch,
}

impl Server {
    fn of(bytes: usize) -> Self {
        let scratch = Scratch::new("server");
        let path = scratch.path("payload");
        let mut payload = vec![0; bytes];
        std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut payload).unwrap();
        std::fs::write(&path, payload).unwrap();
        let sum = sum_of(&path);
        let mut command = Command::new(root().join("tests/net/server"));
        let mut process = command.arg(&path).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut port = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self { process, port: port.trim().parse().unwrap(), sum, _scratch: scratch }
    }

    /// What a guest is told that is to do these tests with it.
    fn words(&self, tests: &str, path: &str) -> String {
        let url = format!("http://10.0.2.2:{}/{path}", self.port);
        format!(
            "reprise.test={tests} reprise.peer=10.0.2.2 reprise.url={url} reprise.bytes={BYTES} reprise.poweroff"
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn sum_of(path: &str) -> String {
    let output = Command::new("sha256sum").stdin(std::fs::File::open(path).unwrap()).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// A user network that reaches this host.
const HOST: &str = "user,profile=host";

#[test]
fn a_guest_gets_an_address_pings_downloads_and_uploads() {
    let server = Server::of(BYTES);
    let words = server.words("dhcp,ping,download,upload", "payload");
    let recording = Recording::of(guest("user", &words, HOST, 1));
    let ended = &recording.ended;
    assert!(ended.line("@lease ").starts_with("10.0.2.15/"), "{}", ended.console);
    assert!(ended.console.contains("3 packets transmitted, 3 packets received"), "{}", ended.console);
    assert_eq!((ended.line("@downloaded "), ended.line("@uploaded ")), (&server.sum[..], &server.sum[..]));
    drop(server);
    recording.is_identical().is_identical_in_chaos(["5"]);
    assert_eq!(crate::host::traces_left(&["verify", &recording.path()]), Vec::<String>::new(), "no socket");
}

#[test]
fn an_idle_network_costs_no_time_and_a_slow_answer_is_waited_for() {
    let server = Server::of(1000);
    let scratch = Scratch::new("idle");
    let console = format!("uart0=file:{}", scratch.path("console"));
    let words = server.words("dhcp,download,nap", "slow");
    let run = guest("idle", &words, HOST, 1).args(["--port", &console]);
    let recording = Recording::of(run);
    let said = std::fs::read_to_string(scratch.path("console")).unwrap();
    assert!(said.contains(&format!("@downloaded {}", server.sum)), "{said}");
    assert!(said.contains("@nap ok"), "{said}");
    let seconds = |field: &str| recording.ended.summary(field).as_f64().unwrap();
    let (host, guest) = (seconds("host_seconds"), seconds("vtime_ns") / 1e9);
    assert!(guest > 103.0, "the server's three seconds and the nap: {guest}");
    assert!(host > 3.0 && host < 90.0, "{host} seconds on the host, {guest} in the guest");
    recording.is_identical();
}

#[test]
fn the_host_reaches_the_guest_through_forwards() {
    let server = Server::of(0);
    let scratch = Scratch::new("forward");
    let socket = scratch.path("control");
    let network = format!("{HOST},hostfwd=tcp:127.0.0.1:0-:80,hostfwd=tcp:127.0.0.1:0-:81");
    let run = guest("forward", &server.words("dhcp,serve", ""), &network, 1).args(["--control", &socket]);
    let started = run.start();
    started.wait_for("@served");
    let mut control = Qmp::connect(&socket);
    let added = control.execute_with("hostfwd-add", json!({ "hostfwd": "tcp:127.0.0.1:0-:82" }));
    let forwards = control.execute("query-usernet")[0]["forwards"].clone();
    let port = |guest_port: u16| {
        let found = forwards.as_array().unwrap().iter().find(|forward| forward["guest_port"] == guest_port);
        found.unwrap_or_else(|| panic!("no {guest_port} in {forwards}"))["listens"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(added[0]["listens"], port(82));
    assert!(control.human("info usernet").contains("HOST_FORWARD"));
    let payload = scratch.path("payload");
    let url = format!("http://{}/payload", port(80));
    let got = Command::new("curl").args(["-sf", "-o", &payload, &url]).status().unwrap();
    assert!(got.success(), "{url}");
    // Back it goes; the guest compares.
    let mut back = TcpStream::connect(port(81)).unwrap();
    back.write_all(&std::fs::read(&payload).unwrap()).unwrap();
    drop(back);
    // The guest listens there when it has compared: until then whoever calls is turned away.
    while !started.said().contains("@done by the host") {
        let mut done = TcpStream::connect(port(82)).unwrap();
        let _refused = done.write_all(b"@done by the host\n");
        let _refused = done.shutdown(Shutdown::Write);
        let _refused = done.read_to_end(&mut Vec::new());
    }
    control.execute_with("hostfwd-remove", json!({ "hostfwd": added[0]["forward"] }));
    let recording = Recording::of_started(started);
    assert_eq!(recording.ended.line("@served "), sum_of(&payload));
    assert!(recording.ended.console.contains("@serve ok"), "{}", recording.ended.console);
    recording.is_identical();
}

/// A server of this host that stops in the middle of each upload until it is told to go on.
struct Staller {
    port: u16,
    sum: String,
    /// An upload has stopped in the middle.
    stalled: mpsc::Receiver<()>,
    /// One may go on.
    go_on: mpsc::Sender<()>,
}

/// More than what lies in buffers between a guest and a server.
const LONG: usize = 20_000_000;

impl Staller {
    fn new(test: &str) -> Self {
        let scratch = Scratch::new(test);
        let path = scratch.path("payload");
        let payload: Vec<u8> =
            (0..LONG as u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
        std::fs::write(&path, &payload).unwrap();
        let sum = sum_of(&path);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ((told, stalled), (go_on, gate)) = (mpsc::channel(), mpsc::channel());
        let (payload, gate) = (Arc::new(payload), Arc::new(Mutex::new(gate)));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (payload, told, gate) = (Arc::clone(&payload), told.clone(), Arc::clone(&gate));
                // A guest that is gone is no error here.
                thread::spawn(move || serve(stream?, &payload, &told, &gate));
            }
        });
        Self { port, sum, stalled, go_on }
    }

    fn words(&self, tests: &str) -> String {
        let url = format!("http://10.0.2.2:{}/payload", self.port);
        format!("reprise.test={tests} reprise.peer=10.0.2.2 reprise.url={url} reprise.poweroff")
    }

    /// The connection of an upload was cut off, and what comes after it works.
    fn recovered(&self, console: &str) {
        let (before, after) = console.split_once("@upload FAILED").unwrap_or_else(|| panic!("{console}"));
        assert!(!before.contains("@uploaded") && !after.contains("@download FAILED"), "{console}");
        assert!(after.contains(&format!("@downloaded {}", self.sum)), "{console}");
    }
}

fn serve(
    stream: TcpStream,
    payload: &[u8],
    stalled: &mpsc::Sender<()>,
    gate: &Mutex<mpsc::Receiver<()>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut request, mut length) = (String::new(), 0);
    reader.read_line(&mut request)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(bytes) = line.strip_prefix("Content-Length: ") {
            length = bytes.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let body = match request.starts_with("POST") {
        false => payload.to_vec(),
        true => {
            let mut got = vec![0; length];
            reader.read_exact(&mut got[..1000])?;
            stalled.send(()).unwrap();
            // The end of the test lets everybody go.
            let _over = gate.lock().unwrap().recv();
            reader.read_exact(&mut got[1000..])?;
            format!("{}\n", if got == payload { "as it was" } else { "something else" }).into_bytes()
        }
    };
    let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    reader.get_mut().write_all(&[head.as_bytes(), &body].concat())
}

#[test]
fn a_stop_in_the_middle_of_an_upload_to_the_host_loses_nothing() {
    let (server, scratch) = (Staller::new("user-stop-server"), Scratch::new("user-stop"));
    let socket = scratch.path("control");
    let run = guest("user-stop", &server.words("dhcp,download,upload"), HOST, 1).args(["--control", &socket]);
    let started = run.start();
    server.stalled.recv().unwrap();
    let mut control = Qmp::connect(&socket);
    control.execute("stop");
    // The host's side goes on meanwhile: as much as there is room for.
    server.go_on.send(()).unwrap();
    thread::sleep(Duration::from_secs(3));
    assert!(!started.said().contains("@uploaded"), "nothing happens in a guest that is stopped");
    control.execute("cont");
    let recording = Recording::of_started(started);
    assert_eq!(recording.ended.line("@downloaded "), server.sum);
    assert_eq!(recording.ended.line("@uploaded "), "as it was");
    recording.is_identical();
}

#[test]
fn a_guest_that_is_restored_in_the_middle_of_an_upload_is_told_and_goes_on() {
    let (server, scratch) = (Staller::new("restored-server"), Scratch::new("restored"));
    let (socket, folder, on) = (scratch.path("control"), scratch.path("kept"), scratch.path("on.rec"));
    let board = root().join("configs/net.toml");
    let run = Reprise::run("restored")
        .args([board.to_str().unwrap(), "--net", HOST, "--control", &socket, "--snapshots", &folder])
        .of_debian(&server.words("dhcp,download,upload,download"));
    let started = run.start();
    server.stalled.recv().unwrap();
    let mut control = Qmp::connect(&socket);
    assert_eq!(control.human("savevm middle"), "");
    assert_eq!(control.human("loadvm middle"), "");
    let ended = started.end().success();
    server.recovered(&ended.console);
    // And in another process, which has never heard of that connection.
    let from = format!("{folder}/middle");
    let ended =
        Reprise::new(["record", "--from", &from, "--net", HOST, "-o", &on, "--control", "none"]).end();
    server.recovered(&ended.success().console);
    Reprise::new(["verify", &on]).end().success();
}

#[test]
fn a_replay_that_goes_live_in_the_middle_of_an_upload_is_told_and_goes_on() {
    let (server, scratch) = (Staller::new("live-server"), Scratch::new("live"));
    let (socket, live) = (scratch.path("control"), scratch.path("live.rec"));
    let run = guest("live", &server.words("dhcp,download,upload,download"), HOST, 1);
    let started = run.args(["--control", &socket]).start();
    server.stalled.recv().unwrap();
    Qmp::connect(&socket).execute("quit");
    let recording = Recording::of_started(started);
    let args = ["replay", &recording.path(), "--live", "-o", &live, "--net", HOST, "--control", "none"];
    let ended = Reprise::new(args).end().success();
    server.recovered(&ended.console);
    Reprise::new(["verify", &live]).end().success();
}

/// In the recording, where it stays away from the network; and in what goes on from there.
#[test]
fn a_machine_that_is_reset_in_the_middle_of_an_upload_leaves_no_connection_behind() {
    let (server, scratch) = (Staller::new("reset-server"), Scratch::new("reset"));
    let (socket, live) = (scratch.path("control"), scratch.path("live.rec"));
    let run =
        guest("reset", &server.words("dhcp,download,upload,download"), HOST, 1).args(["--control", &socket]);
    let started = run.start();
    for round in 0..2 {
        server.stalled.recv().unwrap();
        let mut control = Qmp::connect(&socket);
        let flows = control.execute("query-usernet")[0]["tcp"].clone();
        assert_eq!(flows.as_array().unwrap().len(), 1, "{flows} after {round} resets");
        control.execute(if round == 0 { "system_reset" } else { "quit" });
    }
    let recording = Recording::of_started(started);
    recording.is_identical();
    let args = ["replay", &recording.path(), "--live", "-o", &live, "--net", HOST, "--control", "none"];
    let ended = Reprise::new(args).end().success();
    server.recovered(&ended.console);
    Reprise::new(["verify", &live]).end().success();
}
