//! Recordings that somebody has altered with care: each frame of the log is a good one, and the whole is not.

use crate::recording::Recording;
use crate::reprise::{Ended, Reprise};
use reprise_replay::{
    Control, Entry, Event, Position, Record,
    log::{LogReader, LogWriter, Next, RunId, SegmentSource, Sink, Sizes},
};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The only segment of a short log.
struct Segment(PathBuf);

impl SegmentSource for Segment {
    type Read = File;

    fn open(&mut self, number: u32) -> io::Result<Option<File>> {
        if number == 0 { File::open(&self.0).map(Some) } else { Ok(None) }
    }
}

impl Sink for Segment {
    fn begin(&mut self, _number: u32) -> io::Result<()> {
        File::create(&self.0).map(drop)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        File::options().append(true).open(&self.0)?.write_all(bytes)
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        File::options().write(true).open(&self.0)?.set_len(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn recorded() -> Recording {
    let run = Reprise::record("release", "altered").of("echo.elf");
    let recording = Recording::of(run.input_after("@echo ready", "seventeen letters, q"));
    recording.is_identical();
    recording
}

fn segment(recording: &Recording, number: u32) -> PathBuf {
    Path::new(&recording.path()).join(format!("log/{number:06}.seg"))
}

fn log(recording: &Recording) -> (RunId, Vec<Record>) {
    let mut reader = LogReader::open(Segment(segment(recording, 0))).unwrap();
    let mut records = Vec::new();
    while let Next::Record(record) = reader.next().unwrap() {
        records.push(record);
    }
    (reader.run_id().unwrap(), records)
}

/// Write a log anew, without the footer of one that was closed.
fn rewrite(recording: &Recording, run_id: RunId, records: &[Record]) {
    let mut writer = LogWriter::create(Segment(segment(recording, 0)), run_id, Sizes::default()).unwrap();
    records.iter().for_each(|record| writer.push(record).unwrap());
    writer.flush().unwrap();
}

/// Up to the first input, which the guest is in the middle of its run for.
fn up_to_an_input(records: &[Record]) -> &[Record] {
    let is_input = |record: &Record| matches!(record.entry, Entry::Event(Event::Input { .. }));
    &records[..=records.iter().position(is_input).unwrap()]
}

fn verify(path: &str) -> (Ended, Value) {
    let ended = Reprise::new(["verify", "--json", path]).end();
    let answer = serde_json::from_str(&ended.console).unwrap_or_else(|_| panic!("{}", ended.errors));
    (ended, answer)
}

/// The power button was the last thing written: the machine stops there, and nobody wrote that the run has ended.
#[test]
fn a_log_that_breaks_off_at_the_power_button_is_truncated() {
    let recording = recorded();
    let (run_id, records) = log(&recording);
    let mut torn = up_to_an_input(&records).to_vec();
    let last = torn.last().unwrap().clone();
    let position = Position { order: last.position.order + 1, ..last.position };
    torn.push(Record { position, entry: Entry::Event(Event::Control(Control::PowerOff)), ..last });
    rewrite(&recording, run_id, &torn);
    let (ended, answer) = verify(&recording.path());
    assert_eq!((ended.code, &answer["result"]), (Some(0), &"truncated".into()), "{}", ended.errors);
    assert_eq!(answer["icount"], last.icount);
    let words = "the recording was interrupted and breaks off here";
    assert!(ended.errors.contains(words), "{}", ended.errors);
    let again = recording.file("again.rec");
    let replayed = recording.command("release", "replay", &["--rerecord", &again]).end().success();
    assert!(replayed.errors.contains(words), "{}", replayed.errors);
    // The new one is whole: it says itself how it ended.
    let (ended, answer) = verify(&again);
    assert_eq!((ended.code, &answer["result"]), (Some(0), &"identical".into()), "{}", ended.errors);
}

#[test]
fn a_segment_behind_the_end_is_damage() {
    let recording = recorded();
    fs::copy(segment(&recording, 0), segment(&recording, 1)).unwrap();
    let (ended, answer) = verify(&recording.path());
    assert_eq!((ended.code, &answer["result"]), (Some(5), &"corrupt".into()), "{}", ended.errors);
    assert!(ended.errors.contains("log segment"), "{}", ended.errors);
    assert_eq!(answer["at"]["segment"], 0, "{answer}");
    for command in ["replay", "info", "log"] {
        assert_eq!(recording.command("release", command, &[]).end().code, Some(5), "{command}");
    }
}

/// A replay has plugins of its own: what it does not need is looked at all the same.
#[test]
fn contents_that_are_not_what_the_manifest_says_are_damage() {
    let recording = recorded();
    let pack = recording.file("run.tar");
    recording.command("release", "pack", &["-o", &pack]).end().success();
    let blobs = fs::read_dir(Path::new(&recording.path()).join("blobs")).unwrap();
    let mut blobs: Vec<PathBuf> = blobs.map(|blob| blob.unwrap().path()).collect();
    blobs.sort();
    let is_damage = |path: &str, blob: &Path| {
        let name = blob.file_name().unwrap().to_str().unwrap();
        let (ended, answer) = verify(path);
        assert_eq!((ended.code, &answer["result"]), (Some(5), &"corrupt".into()), "{}", ended.errors);
        assert!(ended.errors.contains(name), "{name} is not named: {}", ended.errors);
    };
    let packed = fs::read(&pack).unwrap();
    for blob in &blobs {
        let whole = fs::read(blob).unwrap();
        fs::write(blob, [&whole[..], b"x"].concat()).unwrap();
        is_damage(&recording.path(), blob);
        fs::write(blob, &whole).unwrap();

        let name = format!("blobs/{}", blob.file_name().unwrap().to_str().unwrap());
        let header = packed.windows(name.len()).position(|bytes| bytes == name.as_bytes()).unwrap();
        let mut damaged = packed.clone();
        // Behind the header of the archive, in the middle of a frame of zstd.
        damaged[header + 512 + 40] ^= 0x55;
        fs::write(&pack, damaged).unwrap();
        is_damage(&pack, blob);
    }
    fs::write(&pack, packed).unwrap();
    for path in [&recording.path(), &pack] {
        assert_eq!(verify(path).1["result"], "identical");
    }
}

/// Its time is centuries ahead, its instruction is the first: the replay must not run until then.
#[test]
fn a_record_at_an_impossible_place_is_a_divergence_at_once() {
    let recording = recorded();
    let (run_id, records) = log(&recording);
    let impossible = Record {
        position: Position { vtime_ns: (1 << 63) - 1, order: 0 },
        icount: 0,
        entry: Entry::Event(Event::Control(Control::Reset)),
    };
    rewrite(&recording, run_id, &[records[0].clone(), impossible]);
    let (ended, answer) = verify(&recording.path());
    assert_eq!((ended.code, &answer["result"]), (Some(4), &"diverged".into()), "{}", ended.errors);
    let report = &answer["divergence"];
    assert_eq!((&report["kind"], &report["icount"]), (&"missed".into(), &1.into()), "{}", ended.errors);
    let words = "expected     reset button, at icount 0, vtime 9223372036.854775807 s";
    assert!(ended.errors.contains(words), "{}", ended.errors);
}
