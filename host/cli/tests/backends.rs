//! Every chr backend carries bytes both ways, for a guest that echoes what its UART gets.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "a test of a process: it opens sockets, starts processes and waits for them"
)]

use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Echo for ever: `1: lbu t1, 5(t0); andi t1, t1, 1; beqz t1, 1b; lbu t1, 0(t0); sb t1, 0(t0); j 1b`, `t0` = UART.
const ECHO: [u32; 7] =
    [0x1000_02b7, 0x0052_c303, 0x0013_7313, 0xfe03_0ce3, 0x0002_c303, 0x0062_8023, 0xfedf_f06f];

struct Machine(Child);

impl Machine {
    fn start(test: &str, args: &[&str]) -> Self {
        let guest = file(test, "echo.bin");
        fs::write(&guest, ECHO.map(u32::to_le_bytes).concat()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_reprise"))
            .args(["run", "--firmware", guest.to_str().unwrap()])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn end(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        let status = self.0.wait().unwrap();
        assert_eq!(status.code(), Some(143));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A test that failed; one that did not has waited for it.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn file(test: &str, name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("backends").join(test);
    fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

fn patiently<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Some(done) => return done,
            None => assert!(Instant::now() < end, "patience is over"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn echoes(mut stream: impl Read + Write, text: &[u8]) {
    stream.write_all(text).unwrap();
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, text);
}

#[test]
fn stdio_loses_nothing() {
    let mut machine = Machine::start("stdio", &[]);
    let mut input = machine.0.stdin.take().unwrap();
    let mut output = machine.0.stdout.take().unwrap();
    // More than all the queues on the way hold, so that each of them has to hold back its source.
    let sent: Vec<u8> = (0..400_000u32).map(|n| (n % 251) as u8).collect();
    let expected = sent.clone();
    let writer = thread::spawn(move || input.write_all(&sent).map(|()| input));
    let mut back = vec![0; expected.len()];
    output.read_exact(&mut back).unwrap();
    assert!(
        back == expected,
        "first difference at {:?}",
        back.iter().zip(&expected).position(|(a, b)| a != b)
    );
    writer.join().unwrap().unwrap();
    machine.end();
}

#[test]
fn a_unix_socket_takes_one_peer_after_the_other() {
    let path = file("unix", "socket");
    // What a killed run leaves behind is no obstacle.
    drop(fs::remove_file(&path));
    drop(UnixListener::bind(&path).unwrap());
    let machine = Machine::start("unix", &["--port", &format!("uart0=unix:{}", path.display())]);
    for text in [b"first", b"again"] {
        let stream = patiently(|| UnixStream::connect(&path).ok());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        echoes(stream, text);
    }
    machine.end();
    assert!(!path.exists(), "the socket's name goes with the run");
}

#[test]
fn a_unix_client_calls_until_somebody_listens_and_again() {
    let path = file("client", "socket");
    drop(fs::remove_file(&path));
    let machine = Machine::start("client", &["--port", &format!("uart0=unix:{},connect", path.display())]);
    thread::sleep(Duration::from_millis(300));
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    for text in [b"first", b"again"] {
        let (stream, _) = patiently(|| listener.accept().ok());
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        echoes(stream, text);
    }
    machine.end();
}

#[test]
fn tcp_carries_bytes() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let machine = Machine::start("tcp", &["--port", &format!("uart0=tcp:127.0.0.1:{port}")]);
    let stream = patiently(|| TcpStream::connect(("127.0.0.1", port)).ok());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    echoes(stream, b"over tcp");
    machine.end();
}

#[test]
fn a_pty_is_named_and_does_not_echo_by_itself() {
    let mut machine = Machine::start("pty", &["--port", "uart0=pty"]);
    let mut errors = BufReader::new(machine.0.stderr.take().unwrap());
    let mut line = String::new();
    errors.read_line(&mut line).unwrap();
    let name = line.trim().strip_prefix("uart0.serial is at ").expect("the name is told");
    for text in [&b"one\r\n"[..], b"two\x03\n"] {
        echoes(fs::OpenOptions::new().read(true).write(true).open(name).unwrap(), text);
    }
    machine.end();
}

#[test]
fn a_file_gets_all_of_the_output() {
    let log = file("file", "log");
    let summary = file("file", "summary.json");
    let status = Command::new(env!("CARGO_BIN_EXE_reprise"))
        .args([
            "run",
            "--firmware",
            concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo.elf"),
            "--scratch-disk",
        ])
        .args(["--port", &format!("uart0=file:{}", log.display()), "--summary", summary.to_str().unwrap()])
        .stdin(Stdio::null())
        .status()
        .unwrap();
    let text = fs::read_to_string(&log).unwrap();
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(text.contains("0 failed; powering off"), "{text}");
    let summary: serde_json::Value = serde_json::from_str(&fs::read_to_string(&summary).unwrap()).unwrap();
    assert_eq!((&summary["exit"], &summary["reason"]), (&0.into(), &"power-off".into()));
    assert_eq!(summary["digest"].as_str().map(str::len), Some(64));
    assert!(summary["icount"].as_u64() >= summary["instret"].as_u64());
}

#[test]
fn a_closed_standard_output_ends_the_run() {
    let mut machine = Machine::start("closed", &[]);
    drop(machine.0.stdout.take());
    machine.0.stdin.take().unwrap().write_all(b"anybody there?").unwrap();
    let status = machine.0.wait().unwrap();
    let mut text = String::new();
    machine.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(status.code(), Some(6), "{text}");
    assert!(text.contains("cannot write to standard output"), "{text}");
}
