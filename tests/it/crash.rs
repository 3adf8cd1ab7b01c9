//! Recordings that are interrupted: by `kill -9` at any moment, and by a disk that is full.

use crate::reprise::{Ended, Reprise, Scratch, build_folder, guest};
use serde_json::Value;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Kills in one run of the tests. `tests/crash N` asks for more.
const POINTS: u32 = 100;
/// What the guest has said so long before the kill must come out of the recording. Ten times what the recorder
/// promises: on a loaded machine its thread may have to wait for its turn.
const RECORDED_AFTER: Duration = Duration::from_secs(1);
/// A run that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(60);
const READY: &str = "@echo ready";

/// splitmix64: points that are drawn again from the same seed.
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % limit
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(1000 * from + self.below(1000 * (to - from)))
    }
}

/// A recording in the making, and what its guest has said, with times.
struct Recording {
    child: Child,
    keys: ChildStdin,
    said: Arc<Mutex<Vec<u8>>>,
    /// When so much had been said.
    marks: JoinHandle<Vec<(Instant, usize)>>,
    errors: JoinHandle<String>,
}

impl Recording {
    /// Of the guest that echoes what is typed. A write beyond a limit of its files fails instead of killing it.
    fn start(folder: &str, more: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(build_folder().join("reprise"));
        command
            .args(["record", "-o", folder, "-bios", &guest("echo.elf"), "--digest-every", "1000"])
            .args(more);
        command.env_remove("REPRISE_PLUGIN_PATH");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut from = child.stdout.take().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&said);
        let marks = std::thread::spawn(move || {
            let (mut chunk, mut marks) = ([0; 4096], Vec::new());
            while let Ok(length @ 1..) = from.read(&mut chunk) {
                let mut said = to.lock().unwrap();
                said.extend_from_slice(&chunk[..length]);
                marks.push((Instant::now(), said.len()));
            }
            marks
        });
        let mut from = child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            from.read_to_string(&mut text).unwrap();
            text
        });
        Self { keys: child.stdin.take().unwrap(), child, said, marks, errors }
    }

    /// Types at random moments until then. A guest that has gone takes nothing more, which is no mistake here.
    fn type_until(&mut self, end: Instant, draw: &mut Draw) {
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let text: Vec<u8> = (0..=draw.below(8)).map(|_| b'a' + draw.below(16) as u8).collect();
            let _gone = self.keys.write_all(&text);
            std::thread::sleep(draw.millis(1, 20).min(left));
        }
    }

    /// Waits until the guest has said this.
    fn wait_for(&mut self, words: &str) {
        let limit = Instant::now() + TIMEOUT;
        while !String::from_utf8_lossy(&self.said.lock().unwrap()).contains(words) {
            assert!(Instant::now() < limit, "the guest never says {words:?}");
            assert!(self.child.try_wait().unwrap().is_none(), "it ended before the guest said {words:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What the guest said, and how much of it had been said at `before`.
    fn killed(mut self, before: impl Fn(Instant) -> Instant) -> (Vec<u8>, usize) {
        let now = Instant::now();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let marks = self.marks.join().unwrap();
        self.errors.join().unwrap();
        let early = marks.iter().take_while(|(at, _)| *at < before(now)).last();
        let said = std::mem::take(&mut *self.said.lock().unwrap());
        (said, early.map_or(0, |(_, length)| *length))
    }

    /// Waits until it ends by itself: exit code and errors.
    fn ended(mut self) -> (Option<i32>, String) {
        let limit = Instant::now() + TIMEOUT;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > limit => {
                    self.child.kill().unwrap();
                    panic!("it hangs");
                }
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        (status.code(), self.errors.join().unwrap())
    }

    /// From now on no file of it may become longer.
    fn limit_files(&self, bytes: u64) {
        let limit = format!("--fsize={bytes}:");
        let pid = self.child.id().to_string();
        assert!(Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success());
    }
}

fn reprise<'a>(words: impl IntoIterator<Item = &'a str>) -> Ended {
    Reprise::new(words).end()
}

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.console).unwrap_or_else(|error| panic!("{error}:\n{}", ended.console))
}

/// Where a replay that has seen every record stands, in instructions.
fn behind_the_last_record(folder: &str) -> u64 {
    let log = reprise(["log", "--json", folder]).success();
    let last: Value = serde_json::from_str(log.console.lines().last().unwrap()).unwrap();
    // The guest reads the clock in the middle of an instruction, and a machine stops behind it.
    last["icount"].as_u64().unwrap() + u64::from(last["kind"] == "host-clock")
}

/// What is left of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    NoFolder,
    NoManifest,
    /// That which was to be replaced.
    Older,
    Truncated,
    Whole,
}

/// Look at what is left. A recording replays to the last record that it has; `said` by the guest, `early` enough.
fn left(folder: &str, older: Option<&str>, said: &[u8], early: usize) -> Left {
    let verified = reprise(["verify", "--json", folder]);
    if !Path::new(folder).exists() {
        assert_eq!(verified.code, Some(6), "{}", verified.errors);
        assert!(verified.errors.contains("no such file or directory"), "{}", verified.errors);
        return Left::NoFolder;
    }
    if !Path::new(folder).join("manifest.toml").exists() {
        assert_eq!((verified.code, early), (Some(5), 0), "{}", verified.errors);
        assert!(verified.errors.contains("this is not a recording"), "{}", verified.errors);
        return Left::NoManifest;
    }
    let verified = json(&verified.success());
    let info = json(&reprise(["info", "--json", folder]).success());
    assert_eq!(verified["icount"], behind_the_last_record(folder), "{verified} {info}");
    let whole = info["complete"] == true;
    assert_eq!(verified["result"], if whole { "identical" } else { "truncated" }, "{verified} {info}");
    if info["run_id"].as_str() == older {
        assert!(whole && early == 0, "{info}");
        return Left::Older;
    }
    let replayed = reprise(["replay", folder]).success().console.into_bytes();
    assert!(
        replayed.len() >= early,
        "{early} bytes were said long before the kill: {replayed:?} of {said:?}"
    );
    // The one was killed before it could say everything, the other before it could write it.
    let both = replayed.len().min(said.len());
    assert_eq!(replayed[..both], said[..both]);
    if whole { Left::Whole } else { Left::Truncated }
}

/// Record, and kill it at a moment that is drawn.
fn point(draw: &mut Draw) -> Left {
    let scratch = Scratch::new("kill");
    let folder = scratch.path("run.rec");
    let kind = draw.below(5);
    let older = (kind == 0).then(|| {
        let limits = ["--icount-limit", "1000", "-bios", &guest("echo.elf")];
        reprise(["record", "-o", &folder].into_iter().chain(limits)).success();
        json(&reprise(["info", "--json", &folder]))["run_id"].as_str().unwrap().to_owned()
    });
    let mut recording = Recording::start(&folder, if older.is_some() { &["--force"] } else { &[] });
    let start = Instant::now();
    match kind {
        // While it begins, perhaps in the place of another.
        0 | 1 => recording.type_until(start + draw.millis(0, 40), draw),
        2 => recording.type_until(start + draw.millis(10, 600), draw),
        3 => recording.type_until(start + draw.millis(1100, 1700), draw),
        // Around its end.
        _ => {
            recording.type_until(start + draw.millis(30, 300), draw);
            let _gone = recording.keys.write_all(b"q");
            std::thread::sleep(draw.millis(0, 20));
        }
    }
    let (said, early) = recording.killed(|now| now.checked_sub(RECORDED_AFTER).unwrap_or(start));
    left(&folder, older.as_deref(), &said, early)
}

pub(crate) fn environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[test]
fn a_recording_that_is_killed_replays_to_its_last_record() {
    let points = u32::try_from(environment("REPRISE_CRASH_POINTS", POINTS.into())).unwrap();
    let seed = environment("REPRISE_CRASH_SEED", 1);
    let next = AtomicU32::new(0);
    let found = Mutex::new(Vec::new());
    // Mostly they wait: for a moment to come.
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= points {
                        break;
                    }
                    let left = point(&mut Draw(seed.wrapping_mul(0x1_0000_0001) + u64::from(number)));
                    found.lock().unwrap().push(left);
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    let count = |kind| found.iter().filter(|left| **left == kind).count();
    let all = [Left::NoFolder, Left::NoManifest, Left::Older, Left::Truncated, Left::Whole];
    for kind in all {
        println!("{kind:?}: {} of {points}", count(kind));
    }
    assert_eq!(found.len(), points as usize);
    // The moments were such that there was something to lose.
    assert!(count(Left::Truncated) >= found.len() / 5, "{found:?}");
}

/// A recording becomes one beside the machine, in its first moments.
fn wait_for_manifest(folder: &str) {
    let end = Instant::now() + TIMEOUT;
    while !Path::new(folder).join("manifest.toml").exists() {
        assert!(Instant::now() < end, "no manifest");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Where the last byte fits is where the host says no: in the middle of a frame as well as between two.
#[test]
fn a_full_disk_stops_the_machine_and_keeps_what_was_recorded() {
    for room in [0, 1, 27, 28, 29, 60, 200, 1500] {
        let scratch = Scratch::new("full");
        let folder = scratch.path("run.rec");
        let mut recording = Recording::start(&folder, &[]);
        recording.wait_for(READY);
        recording.keys.write_all(b"hello").unwrap();
        recording.wait_for("hello");
        wait_for_manifest(&folder);
        // It may be looked at while it grows.
        let before = json(&reprise(["info", "--json", &folder]).success());
        recording.limit_files(before["log_bytes"].as_u64().unwrap() + room);
        let (end, mut draw) = (Instant::now() + TIMEOUT, Draw(room));
        while recording.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "nobody notices that the disk is full");
            recording.type_until(Instant::now() + Duration::from_millis(20), &mut draw);
        }
        let (code, errors) = recording.ended();
        assert_eq!(code, Some(6), "{errors}");
        assert!(errors.contains("the recording cannot be written any further"), "{errors}");
        let verified = json(&reprise(["verify", "--json", &folder]).success());
        assert_eq!(verified["result"], "truncated", "{room} bytes: {verified}");
        assert!(verified["icount"].as_u64() >= before["icount"].as_u64(), "{verified} {before}");
        let after = json(&reprise(["info", "--json", &folder]).success());
        let told = errors.split("everything up to icount ").nth(1).unwrap_or_default();
        let told = told.split(", ").next().unwrap_or_default().replace(',', "");
        assert_eq!(told, after["icount"].to_string(), "it says how far it goes: {errors}");
    }
}

#[test]
fn a_disk_that_is_full_at_the_end_costs_the_manifests_last_word_only() {
    let scratch = Scratch::new("full-end");
    let folder = scratch.path("run.rec");
    let mut recording = Recording::start(&folder, &[]);
    recording.wait_for(READY);
    wait_for_manifest(&folder);
    // The log has room, the manifest has not.
    recording.limit_files(3000);
    recording.keys.write_all(b"q").unwrap();
    let (code, errors) = recording.ended();
    assert_eq!(code, Some(6), "{errors}");
    assert!(errors.contains("cannot finish the recording"), "{errors}");
    assert_eq!(left(&folder, None, b"@echo ready", 0), Left::Whole);
}

#[test]
fn a_disk_without_room_for_a_recording_gets_none() {
    let scratch = Scratch::new("full-start");
    let folder = scratch.path("run.rec");
    // The plugins, which are loaded from copies, fit below the limit; the kernel does not.
    let script = "trap '' XFSZ; exec prlimit --fsize=4000000 \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(build_folder().join("reprise"));
    command.args(["record", "-o", &folder, "-bios", &guest("fw_dynamic.bin"), "-kernel", &guest("Image")]);
    let ended = command.output().unwrap();
    let errors = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(6), "{errors}");
    assert!(errors.contains("cannot make the recording"), "{errors}");
    assert!(!Path::new(&folder).exists(), "half a recording is in the way of the next");
}
