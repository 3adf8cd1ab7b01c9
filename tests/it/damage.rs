//! Recordings that were damaged at random: a part of the run, or an error that says where; never a panic, never a hang,
//! never another run.

use crate::crash::{Draw, environment};
use crate::reprise::{Ended, Reprise, Scratch, guest};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Damages in one run of the tests, of folder and pack each. `tests/crash N` asks for four times N.
const DAMAGES: u64 = 300;

fn reprise(words: &[&str]) -> Ended {
    Reprise::new(words.iter().copied()).end()
}

/// A recording with a few events, and what is true of it.
struct Original {
    scratch: Scratch,
    verified: Value,
    log: String,
    console: String,
}

impl Original {
    fn new() -> Self {
        let scratch = Scratch::new("damage");
        let folder = scratch.path("run.rec");
        let args = ["record", "-o", &folder, "-bios", &guest("echo.elf"), "--digest-every", "1000"];
        let recorded = Reprise::new(args).input_after("@echo ready", "seventeen letters, q").end().success();
        let pack = scratch.path("run.tar");
        reprise(&["pack", &folder, "-o", &pack]).success();
        let verified = reprise(&["verify", "--json", &folder]).success().console;
        let log = reprise(&["log", "--json", &folder]).success().console;
        Self { scratch, verified: serde_json::from_str(&verified).unwrap(), log, console: recorded.console }
    }

    /// What may come of a damaged one.
    fn judge(&self, command: &str, ended: &Ended, what: &str) {
        let told = format!("{command} after {what}: {:?}\n{}\n{}", ended.code, ended.console, ended.errors);
        match ended.code {
            Some(0) => self.is_part(command, &ended.console, &told),
            // Damaged; or not readable, or gone.
            Some(5 | 6) => {
                assert!(ended.errors.contains(self.scratch.path("run").as_str()), "no file is named: {told}");
                let log = ended.errors.contains("log segment");
                let place = ["offset", "refused: log-too-"].iter().any(|word| ended.errors.contains(word));
                assert!(!log || place, "no place is named: {told}");
            }
            _ => panic!("{told}"),
        }
    }

    /// What is said of a damaged recording without an error is true of the whole one.
    fn is_part(&self, command: &str, console: &str, told: &str) {
        match command {
            "verify" => {
                let verified: Value = serde_json::from_str(console).unwrap();
                match verified["result"].as_str() {
                    Some("identical") => assert_eq!(verified["digest"], self.verified["digest"], "{told}"),
                    Some("truncated") => {
                        assert!(verified["icount"].as_u64() <= self.verified["icount"].as_u64(), "{told}");
                    }
                    _ => panic!("{told}"),
                }
            }
            "replay" => assert!(self.console.starts_with(console), "{told}"),
            "log" => assert!(self.log.starts_with(console), "{told}"),
            _ => assert!(console.starts_with('{'), "{told}"),
        }
    }
}

/// Damage some bytes, and say how.
fn damage(bytes: &mut Vec<u8>, draw: &mut Draw) -> String {
    let at = draw.below(bytes.len() as u64) as usize;
    let some = (1 + draw.below(40) as usize).min(bytes.len() - at);
    match draw.below(5) {
        0 | 1 => {
            let bit = draw.below(8);
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at} was flipped")
        }
        2 => {
            bytes.truncate(at);
            format!("it was cut at {at}")
        }
        3 => {
            bytes[at..at + some].iter_mut().for_each(|byte| *byte = draw.below(256) as u8);
            format!("{some} bytes at {at} became noise")
        }
        _ => {
            bytes.drain(at..at + some);
            format!("{some} bytes at {at} were taken out")
        }
    }
}

/// Damage one of these files after the other, ask one command after the other about `recording`.
fn many(original: &Original, recording: &str, files: &[PathBuf]) {
    let damages = environment("REPRISE_CRASH_POINTS", 0) * 4;
    let mut draw = Draw(environment("REPRISE_CRASH_SEED", 1));
    let whole: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    for number in 0..if damages == 0 { DAMAGES } else { damages } {
        // The first is damaged as often as all others.
        let file = if number % 2 == 0 { 0 } else { draw.below(files.len() as u64) as usize };
        let mut bytes = whole[file].clone();
        let what = format!("{}: {}", files[file].display(), damage(&mut bytes, &mut draw));
        std::fs::write(&files[file], bytes).unwrap();
        let command = ["verify", "replay", "info", "log"][(number / 2 % 4) as usize];
        let mut words = vec![command, recording];
        words.extend(if command == "replay" { "--no-search" } else { "--json" }.split(' '));
        original.judge(command, &reprise(&words), &what);
        std::fs::write(&files[file], &whole[file]).unwrap();
    }
}

#[test]
fn a_damaged_folder_is_a_part_or_an_error() {
    let original = Original::new();
    let folder = original.scratch.path("run.rec");
    let mut files = vec![Path::new(&folder).join("log/000000.seg"), Path::new(&folder).join("manifest.toml")];
    let blobs = std::fs::read_dir(Path::new(&folder).join("blobs")).unwrap();
    files.extend(blobs.map(|blob| blob.unwrap().path()));
    many(&original, &folder, &files);
}

#[test]
fn a_damaged_pack_is_a_part_or_an_error() {
    let original = Original::new();
    let pack = original.scratch.path("run.tar");
    many(&original, &pack, &[PathBuf::from(&pack)]);
}

/// A log and a manifest of a later version are refused by name, and nothing is run.
#[test]
fn a_later_version_is_refused_by_name() {
    let original = Original::new();
    let folder = original.scratch.path("run.rec");
    let segment = Path::new(&folder).join("log/000000.seg");
    let whole = std::fs::read(&segment).unwrap();
    let mut later = whole.clone();
    // Bytes 8 and 10 are version and the oldest reader that understands it, byte 44 the CRC32C of all before.
    (later[8], later[10]) = (9, 9);
    let crc = crc32c(&later[..44]).to_le_bytes();
    later[44..48].copy_from_slice(&crc);
    std::fs::write(&segment, later).unwrap();
    for command in ["verify", "replay", "info", "log"] {
        let ended = reprise(&[command, &folder]);
        assert_eq!(ended.code, Some(5), "{}", ended.errors);
        assert!(ended.errors.contains("log-too-new: format 9"), "{command}: {}", ended.errors);
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
    })
}
