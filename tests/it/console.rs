//! A recording of what somebody does at a real terminal.

use crate::recording::{hex, records};
use crate::reprise::{Reprise, Scratch, build_folder, guest};
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(120);

/// A terminal and whoever sits at it.
struct User {
    master: File,
    slave: OwnedFd,
    screen: Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl User {
    fn new() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = open(name.as_c_str(), flags, Mode::empty()).unwrap();
        let master = File::from(master);
        let mut reader = master.try_clone().unwrap();
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { master, slave, screen, seen: Vec::new() }
    }

    /// Waits until the guest has said `text` behind what was waited for before.
    fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + PATIENCE;
        let from = self.seen.len();
        while !String::from_utf8_lossy(&self.seen[from.saturating_sub(text.len())..]).contains(text) {
            let more = self.screen.recv_timeout(end.saturating_duration_since(Instant::now()));
            let more = more.unwrap_or_else(|_| panic!("no {text:?} in {}", self.text()));
            self.seen.extend(more);
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Everything that came to the terminal: nobody else has it open.
    fn leave(self) -> Vec<u8> {
        let Self { master, slave, screen, mut seen } = self;
        drop(slave);
        screen.iter().for_each(|more| seen.extend(more));
        drop(master);
        seen
    }
}

/// Records at a terminal; `keys`: what is typed, and after what. A replay must show what the terminal got, byte for
/// byte.
fn replays_what_the_terminal_got(boot: &[&str], keys: &[(&str, &str)]) {
    let scratch = Scratch::new("terminal");
    let path = scratch.path("run.rec");
    let mut user = User::new();
    let end = || Stdio::from(user.slave.try_clone().unwrap());
    let mut command = Command::new("setsid");
    command.arg("--ctty").arg(build_folder().join("reprise")).args(["record", "-o", &path]).args(boot);
    // Notices go to standard error; what is left on the terminal is the guest's.
    command.env_remove("REPRISE_PLUGIN_PATH").stdin(end()).stdout(end()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    drop(command);
    for (prompt, text) in keys {
        user.wait_for(prompt);
        user.master.write_all(text.as_bytes()).unwrap();
    }
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(0), "{}", user.text());
    let typed: String = keys.iter().map(|(_, text)| hex(text)).collect();
    let input = records(&path).into_iter().filter(|record| record["kind"] == "input");
    let input: String = input.map(|record| record["data"].as_str().unwrap().to_owned()).collect();
    assert_eq!(input, typed);
    let replayed = Reprise::new(["replay", path.as_str()]).end().success();
    // The terminal itself puts a `\r` before every `\n`.
    let expected = replayed.console.replace('\n', "\r\n");
    assert_eq!(expected, String::from_utf8_lossy(&user.leave()));
    Reprise::new(["verify", path.as_str()]).end().success().says("identical");
}

#[test]
fn what_is_typed_to_a_bare_guest() {
    let boot = ["-bios", &guest("lively.elf")];
    replays_what_the_terminal_got(&boot, &[("@lively ready", "some"), ("some", "more\x7f\r\x1b[A\x03q")]);
}

#[test]
fn a_shell_with_corrections_and_interrupts() {
    let files = ["fw_dynamic.bin", "Image", "initramfs.cpio"].map(guest);
    let [firmware, kernel, initrd] = files.each_ref().map(String::as_str);
    let boot = ["-bios", firmware, "-kernel", kernel, "-initrd", initrd, "-m", "512M"];
    let boot = [&boot[..], &["-append", "console=ttyS0"]].concat();
    let keys = [
        ("~ # ", "echo typee\x7fd $((6 * 7))\r"),
        // Only a running command is interrupted: while a line is edited, Ctrl-C is a key.
        ("typed 42", "echo sleeps $((6 * 7 + 1)); sleep 1000\r"),
        ("sleeps 43", "\x03"),
        ("~ # ", "poweroff -f\r"),
    ];
    replays_what_the_terminal_got(&boot, &keys);
}
