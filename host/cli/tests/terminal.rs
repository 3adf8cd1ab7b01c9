//! The terminal is as it was after every way out; signals end a run cleanly.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "a test of a process: it opens terminals, starts processes and waits for them"
)]

use rustix::{
    fs::{Mode, OFlags, open},
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, tcgetattr},
};
use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A user at a terminal: the master side, and the slave kept open to look at its modes.
struct User {
    master: File,
    slave: OwnedFd,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl User {
    fn new() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave =
            open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let master = File::from(master);
        let mut reader = master.try_clone().unwrap();
        let (sender, screen) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len) = reader.read(&mut bytes) {
                if sender.send(bytes[..len].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { master, slave, screen, seen: String::new() }
    }

    /// Start `reprise` with this terminal as the controlling one of a new session.
    fn start(&self, args: &[&str]) -> Child {
        let end = || Stdio::from(self.slave.try_clone().unwrap());
        let mut command = Command::new("setsid");
        command.arg("-c").arg(env!("CARGO_BIN_EXE_reprise")).args(args);
        command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("util-linux has setsid")
    }

    fn press(&mut self, keys: &[u8]) {
        self.master.write_all(keys).unwrap();
    }

    fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.seen.contains(text) {
            let left = end.saturating_duration_since(Instant::now());
            let more =
                self.screen.recv_timeout(left).unwrap_or_else(|_| panic!("no {text:?} in {:?}", self.seen));
            self.seen += &String::from_utf8_lossy(&more);
        }
    }

    fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.slave).unwrap().local_modes;
        !modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    fn wait_until_raw(&self) {
        let end = Instant::now() + PATIENCE;
        while !self.is_raw() {
            assert!(Instant::now() < end, "the terminal never became raw: {:?}", self.seen);
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn wait(child: &mut Child) -> ExitStatus {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > end {
            child.kill().unwrap();
            panic!("it did not end");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A raw firmware image of these instructions.
fn guest(name: &str, code: &[u32]) -> String {
    // Tests at once write the same bytes; none sees a part of them.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let new = path.with_extension(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let bytes: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
    std::fs::write(&new, bytes).unwrap();
    std::fs::rename(&new, &path).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A program that waits for an interrupt for ever: `wfi; j -4`.
fn idle_guest() -> String {
    guest("idle.bin", &[0x1050_0073, 0xffdf_f06f])
}

/// A program that says what it is told: `lui t0,0x10000; lbu t1,5(t0); andi t1,t1,1; beqz t1,-8; lbu t2,0(t0);
/// sb t2,0(t0); j -20`.
fn echo_guest() -> String {
    let code = [0x1000_02b7, 0x0052_c303, 0x0013_7313, 0xfe03_0ce3, 0x0002_c383, 0x0072_8023, 0xfedf_f06f];
    guest("echo.bin", &code)
}

/// A board without devices but a UART, from plugins that are built beside the binary.
fn has_plugins() -> bool {
    let folder = PathBuf::from(env!("CARGO_BIN_EXE_reprise"));
    folder.with_file_name("libreprise_plugin_virtio_console.so").exists()
}

fn ends(how: impl FnOnce(&mut User, Pid), expected: Option<i32>) -> User {
    ends_with(&idle_guest(), how, expected)
}

fn ends_with(guest: &str, how: impl FnOnce(&mut User, Pid), expected: Option<i32>) -> User {
    assert!(has_plugins(), "build the plugins first: cargo build");
    let mut user = User::new();
    let before = tcgetattr(&user.slave).unwrap();
    let mut child = user.start(&["run", "--firmware", guest]);
    user.wait_until_raw();
    how(&mut user, Pid::from_child(&child));
    let status = wait(&mut child);
    assert_eq!(status.code(), expected, "{:?}", user.seen);
    let after = tcgetattr(&user.slave).unwrap();
    assert_eq!(after.local_modes, before.local_modes);
    assert_eq!(after.input_modes, before.input_modes);
    assert_eq!(after.output_modes, before.output_modes);
    user
}

#[test]
fn ctrl_a_x_ends_with_0() {
    ends(|user, _| user.press(b"\x01x"), Some(0));
}

#[test]
fn ctrl_a_h_helps() {
    ends(
        |user, _| {
            user.press(b"\x01h");
            user.wait_for("Ctrl-A x    end the run");
            user.press(b"\x01x");
        },
        Some(0),
    );
}

#[test]
fn ctrl_a_c_is_the_monitor_and_back() {
    ends_with(
        &echo_guest(),
        |user, _| {
            user.press(b"first");
            user.wait_for("first");
            user.press(b"\x01c");
            user.wait_for("type 'help' for more information\r\n(reprise) ");
            user.press(b"info stx\x7fatus\r");
            user.wait_for("VM status: running\r\n(reprise) ");
            // In one go: what is typed waits for the answer before it.
            user.press(b"stop\rinfo status\rinfo registers\r");
            user.wait_for("VM status: paused\r\n(reprise) ");
            user.wait_for("x31/t6");
            user.press(b"nonsense\x15info version\r");
            user.wait_for("(reprise)\r\n");
            // To a guest that stands still: it waits there, and an echo now would be the monitor's.
            user.press(b"\x03second\x01cinfo name\r");
            user.wait_for("virt\r\n(reprise) ");
            assert!(!user.seen.contains("second"), "{:?}", user.seen);
            user.press(b"cont\r\x04");
            user.wait_for("second");
            user.press(b"\x01x");
        },
        Some(0),
    );
}

#[test]
fn the_monitor_ends_a_run_also_while_it_stands_still() {
    ends(|user, _| user.press(b"\x01cquit\r"), Some(0));
    ends(|user, _| user.press(b"\x01cstop\rq\r"), Some(0));
    let stopped = |user: &mut User| {
        user.press(b"\x01cstop\rinfo status\r");
        user.wait_for("VM status: paused");
    };
    ends(
        |user, _| {
            stopped(user);
            user.press(b"\x01x");
        },
        Some(0),
    );
    ends(
        |user, pid| {
            stopped(user);
            kill_process(pid, Signal::TERM).unwrap();
        },
        Some(143),
    );
}

#[test]
fn ending_signals_end_with_128_and_their_number() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129), (Signal::QUIT, 131)] {
        ends(|_, pid| kill_process(pid, signal).unwrap(), Some(code));
    }
}

#[test]
fn suspending_gives_the_terminal_back_and_continuing_takes_it() {
    ends(
        |user, pid| {
            kill_process(pid, Signal::TSTP).unwrap();
            let end = Instant::now() + PATIENCE;
            while user.is_raw() {
                assert!(Instant::now() < end, "still raw");
                thread::sleep(Duration::from_millis(5));
            }
            kill_process(pid, Signal::CONT).unwrap();
            user.wait_until_raw();
            user.press(b"\x01x");
        },
        Some(0),
    );
}

#[test]
fn without_a_terminal_ctrl_c_ends_with_a_summary() {
    let summary = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("summary.json");
    drop(std::fs::remove_file(&summary));
    let mut child = Command::new(env!("CARGO_BIN_EXE_reprise"))
        .args(["run", "--firmware", &idle_guest(), "--summary", summary.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let end = Instant::now() + PATIENCE;
    while !summary.exists() && Instant::now() < end {
        thread::sleep(Duration::from_millis(5));
    }
    // Opened before the signals are registered, which is done before the guest runs.
    thread::sleep(Duration::from_millis(700));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(wait(&mut child).code(), Some(130));
    let text = std::fs::read_to_string(&summary).unwrap();
    assert!(text.contains("\"reason\":\"signal\"") && text.contains("\"exit\":130"), "{text}");
}

#[test]
fn with_nobody_outside_an_idle_guest_ends_the_run() {
    let output = Command::new(env!("CARGO_BIN_EXE_reprise"))
        .args(["run", "--firmware", &idle_guest()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{words}");
    assert!(words.contains("waits for an interrupt that nothing can raise"), "{words}");
}
