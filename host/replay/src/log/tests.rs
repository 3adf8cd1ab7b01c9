//! A log gives back what was put in, or says where it cannot.

use super::{
    codec::{self, Place},
    format::{FRAME_BYTES, Frame, FrameKind, HEADER_BYTES, Header, MAX_BODY_BYTES, MAX_RAW_BYTES},
    *,
};
use crate::{
    Control, EndReason, Entry, Event, PortChange, Position, RandomStream, Record, Seed, StateDigest,
};
use std::{
    io,
    sync::{Arc, Mutex},
};

const RUN: RunId = RunId(*b"a run of 16 byte");

/// Segments in memory, and a host that fails.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) segments: Arc<Mutex<Vec<Vec<u8>>>>,
    /// Operations until one fails; `None` never.
    countdown: Option<u64>,
    /// Whether all later ones fail as well.
    for_ever: bool,
}

impl Memory {
    pub(crate) fn of(segments: Vec<Vec<u8>>) -> Memory {
        Memory { segments: Arc::new(Mutex::new(segments)), ..Memory::default() }
    }

    pub(crate) fn take(&self) -> Vec<Vec<u8>> {
        self.segments.lock().unwrap().clone()
    }

    fn operate(&mut self) -> io::Result<()> {
        match &mut self.countdown {
            None => return Ok(()),
            Some(0) => {}
            Some(left) => {
                *left -= 1;
                return Ok(());
            }
        }
        if !self.for_ever {
            self.countdown = None;
        }
        Err(io::ErrorKind::StorageFull.into())
    }
}

impl Sink for Memory {
    fn begin(&mut self, number: u32) -> io::Result<()> {
        self.operate()?;
        let mut segments = self.segments.lock().unwrap();
        assert_eq!(segments.len(), number as usize);
        segments.push(Vec::new());
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let outcome = self.operate();
        let bytes = if outcome.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        self.segments.lock().unwrap().last_mut().unwrap().extend_from_slice(bytes);
        outcome
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.operate()?;
        let mut segments = self.segments.lock().unwrap();
        let segment = segments.last_mut().unwrap();
        assert!(segment.len() as u64 >= bytes, "what was appended is still there");
        segment.truncate(usize::try_from(bytes).unwrap());
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.operate()
    }
}

impl SegmentSource for Memory {
    type Read = io::Cursor<Vec<u8>>;

    fn open(&mut self, number: u32) -> io::Result<Option<Self::Read>> {
        Ok(self.segments.lock().unwrap().get(number as usize).cloned().map(io::Cursor::new))
    }
}

struct Draw(RandomStream);

impl Draw {
    fn new(seed: u64) -> Draw {
        Draw(RandomStream::new(Seed::from_number(seed)))
    }

    fn below(&mut self, limit: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes) % limit
    }

    /// Mostly small, sometimes of any size.
    fn number(&mut self) -> u64 {
        let bits = self.below(64);
        self.below(u64::MAX) >> bits
    }

    fn small(&mut self) -> u32 {
        let bits = self.below(32);
        u32::try_from(self.number() >> 32).unwrap() >> bits
    }

    fn data(&mut self) -> Vec<u8> {
        let bits = self.below(9);
        let mut data = vec![0; usize::try_from(self.below(1 << bits)).unwrap()];
        self.0.fill(&mut data);
        data
    }

    fn entry(&mut self) -> Entry {
        let (device, port) = (self.small(), self.small());
        match self.below(8) {
            0 => Entry::Event(Event::WriteMemory { gpa: self.number(), data: self.data() }),
            1 => {
                let value = self.number();
                Entry::Event(Event::WriteRegister { hart: device, register: port, value })
            }
            2 => Entry::DiskBlock { device, port, block: self.number(), hash: [3; 32] },
            3 if self.below(4) == 0 => Entry::Event(Event::Control(Control::Nmi)),
            _ => self.entry_of_1(),
        }
    }

    /// What format 1 had.
    fn entry_of_1(&mut self) -> Entry {
        let (device, port) = (self.small(), self.small());
        Entry::Event(match self.below(8) {
            0 => Event::Input { device, port, data: self.data() },
            1 => {
                let changes = [PortChange::Opened, PortChange::Closed, PortChange::Break];
                Event::PortChange { device, port, change: changes[usize::try_from(self.below(3)).unwrap()] }
            }
            2 => Event::Control(if self.below(2) == 0 { Control::Reset } else { Control::PowerOff }),
            3 => Event::HostClock { value_ns: self.number() },
            4 => {
                let mut hash = [0; 32];
                self.0.fill(&mut hash);
                return Entry::Digest(StateDigest { whole: hash, parts: vec![1, u32::MAX] });
            }
            _ => Event::BottomHalf { device, bh: port, oneshot: self.below(2) == 0 },
        })
    }
}

/// A run as a gate would stamp it: a seed, `count` entries, perhaps an end.
fn run(seed: u64, count: usize) -> Vec<Record> {
    run_of(seed, count, Draw::entry)
}

fn run_of(seed: u64, count: usize, entry: fn(&mut Draw) -> Entry) -> Vec<Record> {
    let mut draw = Draw::new(seed);
    let mut place = Place::default();
    let mut records = Vec::new();
    let mut put = |vtime_ns, icount, entry| {
        let order = if vtime_ns == place.vtime_ns { place.order } else { 0 };
        let record = Record { position: Position { vtime_ns, order }, icount, entry };
        codec::encode(&record, &mut place, &mut Vec::new());
        records.push(record);
    };
    let (mut vtime_ns, mut icount) = (0, 0);
    put(0, 0, Entry::Seed(Seed::from_number(seed)));
    for _ in 0..count {
        if draw.below(3) > 0 {
            vtime_ns += draw.number() >> 16;
            icount += draw.number() >> 16;
        }
        put(vtime_ns, icount, entry(&mut draw));
    }
    let reasons = [
        EndReason::PowerOff { code: draw.small() },
        EndReason::Stopped,
        EndReason::Limit,
        EndReason::Deadlock,
        EndReason::PluginFault,
        EndReason::ResetFailed,
    ];
    if let Some(&reason) = reasons.get(usize::try_from(draw.below(7)).unwrap()) {
        put(vtime_ns, icount, Entry::End { reason, chain: [9; 32] });
    }
    records
}

fn write(records: &[Record], sizes: Sizes) -> Vec<Vec<u8>> {
    let mut writer = LogWriter::create(Memory::default(), RUN, sizes).unwrap();
    records.iter().for_each(|record| writer.push(record).unwrap());
    writer.close().unwrap();
    writer.into_sink().take()
}

/// Everything up to the tail or the error.
fn read(segments: Vec<Vec<u8>>) -> (Vec<Record>, Result<Tail, LogError>) {
    let mut records = Vec::new();
    let mut reader = match LogReader::open(Memory::of(segments)) {
        Ok(reader) => reader,
        Err(error) => return (records, Err(error)),
    };
    loop {
        match reader.next() {
            Ok(Next::Record(record)) => records.push(record),
            Ok(Next::Tail(tail)) => return (records, Ok(tail)),
            Err(error) => {
                let again = reader.next();
                assert!(
                    matches!(again, Err(LogError::Corrupt { what: Corruption::AfterError, .. })),
                    "{again:?}"
                );
                return (records, Err(error));
            }
        }
    }
}

fn tiny(chunk_bytes: usize, segment_bytes: u64) -> Sizes {
    Sizes { chunk_bytes, segment_bytes }
}

#[test]
fn what_goes_in_comes_out() {
    for seed in 0..300 {
        let mut draw = Draw::new(seed + 1000);
        let count = usize::try_from(draw.below(400)).unwrap();
        let sizes = tiny(usize::try_from(draw.below(3000)).unwrap(), 100 + draw.below(8000));
        let records = run(seed, count);
        let (back, tail) = read(write(&records, sizes));
        assert_eq!(back, records, "seed {seed}");
        assert_eq!(tail.unwrap(), Tail::Closed, "seed {seed}");
    }
}

#[test]
fn an_empty_log_is_a_log() {
    let (records, tail) = read(write(&[], Sizes::default()));
    assert_eq!((records.len(), tail.unwrap()), (0, Tail::Closed));
    let (records, tail) = read(Vec::new());
    let tail = tail.unwrap();
    assert!(records.is_empty());
    assert!(matches!(tail, Tail::Torn { segment: 0, offset: 0, reason: TornReason::NoSegment }), "{tail}");
}

/// A log whose first record has some later position: what a recording that begins in the middle of a run needs.
#[test]
fn a_log_may_begin_in_the_middle_of_a_run() {
    let mut records = run(5, 50);
    records.drain(..20);
    let (back, _) = read(write(&records, tiny(100, 300)));
    assert_eq!(back, records);
}

/// The bytes of each record, which no change may move without a new version. `docs/log-format.md` shows the same.
#[test]
fn the_encoding_is_frozen() {
    let event = Entry::Event;
    let cases: &[(u64, u64, Entry, &[u8])] = &[
        (0, 0, event(Event::Control(Control::Reset)), &[0xc2, 0]),
        (300, 30, event(Event::Control(Control::PowerOff)), &[0x02, 0xac, 2, 30, 1]),
        (
            300,
            30,
            event(Event::Input { device: 2, port: 1, data: b"hi".into() }),
            &[0xc0, 2, 1, 2, b'h', b'i'],
        ),
        (
            301,
            30,
            event(Event::PortChange { device: 2, port: 0, change: PortChange::Opened }),
            &[0x81, 1, 2, 0, 0],
        ),
        (
            301,
            31,
            event(Event::PortChange { device: 2, port: 0, change: PortChange::Closed }),
            &[0x41, 1, 2, 0, 1],
        ),
        (
            301,
            31,
            event(Event::PortChange { device: 2, port: 0, change: PortChange::Break }),
            &[0xc1, 2, 0, 2],
        ),
        (302, 32, event(Event::BottomHalf { device: 4, bh: 1, oneshot: false }), &[0x03, 1, 1, 4, 1]),
        (302, 32, event(Event::BottomHalf { device: 4, bh: 1, oneshot: true }), &[0xc4, 4, 1]),
        (302, 32, event(Event::HostClock { value_ns: 1000 }), &[0xc5, 0xd0, 0x0f]),
        (302, 32, event(Event::HostClock { value_ns: 999 }), &[0xc5, 1]),
        (302, 32, event(Event::WriteMemory { gpa: 300, data: vec![5] }), &[0xc9, 0xac, 2, 1, 5]),
        (302, 32, event(Event::Control(Control::Nmi)), &[0xc2, 2]),
        (302, 32, event(Event::WriteRegister { hart: 1, register: 32, value: 7 }), &[0xca, 1, 32, 7]),
    ];
    let mut place = Place::default();
    for (vtime_ns, icount, entry, bytes) in cases {
        let order = if *vtime_ns == place.vtime_ns { place.order } else { 0 };
        let position = Position { vtime_ns: *vtime_ns, order };
        let mut out = Vec::new();
        codec::encode(&Record { position, icount: *icount, entry: entry.clone() }, &mut place, &mut out);
        assert_eq!(out, *bytes, "{entry}");
    }
    let digest = StateDigest { whole: [7; 32], parts: vec![1, 0x0403_0201] };
    let end = Entry::End { reason: EndReason::PowerOff { code: 130 }, chain: [7; 32] };
    let block = Entry::DiskBlock { device: 4, port: 0, block: 200, hash: [7; 32] };
    for (entry, before, behind) in [
        (Entry::Seed(Seed([7; 32])), &[0xc6][..], &[][..]),
        (block, &[0xcb, 4, 0, 0xc8, 1], &[]),
        (Entry::Digest(digest), &[0xcc], &[2, 1, 0, 0, 0, 1, 2, 3, 4]),
        (end, &[0xcd, 0, 0x82, 1], &[]),
    ] {
        let mut out = Vec::new();
        let record = Record { position: Position::default(), icount: 0, entry };
        codec::encode(&record, &mut Place::default(), &mut out);
        assert_eq!(out, [before, &[7; 32], behind].concat());
    }
    let header = Header { version: 1, needs: 1, segment: 2, run_id: RunId([0x11; 16]) }.encode();
    let start = [&b"\x8dREPLOG\n\x01\0\x01\0\x02\0\0\0"[..], &[0x11; 16], &[0; 12]].concat();
    assert_eq!(header[..44], start);
}

#[test]
fn cut_anywhere_a_log_gives_a_prefix() {
    let records = run(11, 250);
    let whole = write(&records, tiny(200, 1500));
    assert!(whole.len() > 3, "{}", whole.len());
    let mut got_before = 0;
    for (number, segment) in whole.iter().enumerate() {
        for length in 0..=segment.len() {
            let mut cut = whole[..=number].to_vec();
            cut[number].truncate(length);
            let (got, tail) = read(cut);
            assert_eq!(got, records[..got.len()], "segment {number} cut at {length}");
            assert!(got.len() >= got_before, "a longer log gives no less: segment {number} cut at {length}");
            got_before = got.len();
            let tail = tail.unwrap_or_else(|error| panic!("segment {number} cut at {length}: {error}"));
            let complete = number + 1 == whole.len() && length == segment.len();
            assert_eq!(tail == Tail::Closed, complete, "segment {number} cut at {length}: {tail}");
        }
    }
    assert_eq!(got_before, records.len());
}

/// What was flushed is there, whatever came after.
#[test]
fn what_was_flushed_survives() {
    let records = run(12, 60);
    let memory = Memory::default();
    let mut writer = LogWriter::create(memory.clone(), RUN, Sizes::default()).unwrap();
    for (index, record) in records.iter().enumerate() {
        writer.push(record).unwrap();
        writer.flush().unwrap();
        let mut killed = memory.take();
        assert_eq!(read(killed.clone()).0.len(), index + 1);
        killed[0].extend_from_slice(&[0; 5000]);
        let (got, tail) = read(killed);
        assert_eq!(got.len(), index + 1);
        assert!(matches!(tail.unwrap(), Tail::Torn { reason: TornReason::Unwritten, .. }));
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let records = run(13, 60);
    let whole = write(&records, tiny(300, 900));
    assert!(whole.len() > 1);
    let mut torn = 0;
    for number in 0..whole.len() {
        for bit in 0..whole[number].len() * 8 {
            let mut flipped = whole.clone();
            flipped[number][bit / 8] ^= 1 << (bit % 8);
            let (got, end) = read(flipped);
            assert_eq!(got, records[..got.len()], "segment {number}, bit {bit}");
            match end {
                Ok(Tail::Torn { .. }) => torn += 1,
                Err(LogError::Corrupt { segment, offset, .. }) => {
                    assert_eq!(segment as usize, number, "bit {bit}");
                    assert!(offset <= bit as u64 / 8, "segment {number}, bit {bit}: blamed {offset}");
                }
                other => panic!("segment {number}, bit {bit}: {other:?}"),
            }
        }
    }
    assert_eq!(torn, 0, "a flipped bit is corruption, not an interrupted writer");
}

/// 64 KiB and more, mostly of what compression leaves as it is.
fn large_log() -> (Vec<Record>, Vec<Vec<u8>>) {
    let mut draw = Draw::new(64);
    let mut records = vec![run(1, 0).remove(0)];
    for at in 1..1100 {
        let mut data = vec![0; usize::try_from(draw.below(200)).unwrap()];
        draw.0.fill(&mut data);
        let entry = match at % 10 {
            0 => Entry::Digest(StateDigest { whole: [at as u8; 32], parts: vec![at as u32; 20] }),
            1 => Entry::Event(Event::BottomHalf { device: 1, bh: 0, oneshot: false }),
            _ => Entry::Event(Event::Input { device: 2, port: 0, data }),
        };
        records.push(Record {
            position: Position { vtime_ns: at * 1000, order: 0 },
            icount: at * 900,
            entry,
        });
    }
    let log = write(&records, tiny(4000, 16_000));
    assert!(log.len() > 3 && log.iter().map(Vec::len).sum::<usize>() >= 64 << 10);
    (records, log)
}

#[test]
fn a_large_log_cut_at_every_byte_gives_a_prefix() {
    let (records, whole) = large_log();
    for (number, segment) in whole.iter().enumerate() {
        for length in 0..segment.len() {
            let mut cut = whole[..=number].to_vec();
            cut[number].truncate(length);
            let (got, tail) = read(cut);
            assert!(got == records[..got.len()], "segment {number} cut at {length}");
            assert!(matches!(tail, Ok(Tail::Torn { .. })), "segment {number} cut at {length}: {tail:?}");
        }
    }
}

#[test]
fn a_hundred_thousand_flipped_bits_give_a_prefix_and_an_error() {
    let (records, mut whole) = large_log();
    let mut draw = Draw::new(65);
    for _ in 0..100_000 {
        let number = usize::try_from(draw.below(whole.len() as u64)).unwrap();
        let at = usize::try_from(draw.below(whole[number].len() as u64)).unwrap();
        let bit = 1 << draw.below(8);
        whole[number][at] ^= bit;
        let (got, end) = read(whole.clone());
        let place = format!("segment {number}, byte {at}, bit {bit:#x}");
        assert!(got == records[..got.len()], "{place}");
        match end {
            Err(LogError::Corrupt { segment, .. } | LogError::Refused { segment, .. }) => {
                assert_eq!(segment as usize, number, "{place}");
            }
            // In the zeroes that a power cut could have left, or a length that now reaches beyond the end.
            Ok(Tail::Torn { segment, .. }) => assert_eq!(segment as usize, number, "{place}"),
            other => panic!("{place}: {other:?}"),
        }
        whole[number][at] ^= bit;
    }
}

#[test]
fn many_flipped_bits_and_noise_never_panic() {
    let records = run(14, 300);
    let whole = write(&records, tiny(500, 3000));
    let mut draw = Draw::new(99);
    for case in 0..3000 {
        let mut bad = whole.clone();
        for _ in 0..=draw.below(20) {
            let number = usize::try_from(draw.below(bad.len() as u64)).unwrap();
            let at = usize::try_from(draw.below(bad[number].len() as u64)).unwrap();
            bad[number][at] = draw.below(256) as u8;
        }
        let (got, _) = read(bad);
        assert_eq!(got, records[..got.len()], "case {case}");
    }
}

fn segment_of(frames: &[(Frame, Vec<u8>)]) -> Vec<Vec<u8>> {
    let mut segment = Header { version: VERSION, needs: 1, segment: 0, run_id: RUN }.encode().to_vec();
    for (frame, body) in frames {
        segment.extend_from_slice(&frame.encode());
        segment.extend_from_slice(body);
    }
    vec![segment]
}

/// A chunk that is whole by all its CRCs and holds what a stranger likes.
fn chunk_of(raw: &[u8], count: u32) -> (Frame, Vec<u8>) {
    let body = zstd::bulk::compress(raw, 3).unwrap();
    let frame = Frame {
        kind: FrameKind::Chunk,
        body_bytes: body.len().try_into().unwrap(),
        raw_bytes: raw.len().try_into().unwrap(),
        count,
        body_crc: crc32c::crc32c(&body),
        raw_crc: crc32c::crc32c(raw),
    };
    (frame, body)
}

fn corruption_of(segments: Vec<Vec<u8>>) -> Corruption {
    match read(segments).1 {
        Err(LogError::Corrupt { what, .. }) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn hostile_frames_are_refused() {
    let (frame, body) = chunk_of(&[0; 100], 1);
    let corruption = |frame: Frame| corruption_of(segment_of(&[(frame, body.clone())]));
    for (bad, bytes, limit) in [
        (Frame { body_bytes: u32::MAX, ..frame }, u32::MAX, MAX_BODY_BYTES),
        (Frame { raw_bytes: MAX_RAW_BYTES + 1, ..frame }, MAX_RAW_BYTES + 1, MAX_RAW_BYTES),
    ] {
        assert_eq!(corruption(bad), Corruption::TooLong { bytes, limit });
    }
    let fewer = Frame { raw_bytes: 99, ..frame };
    assert_eq!(corruption(fewer), Corruption::Compression { bytes: 99 });
    let more = Frame { raw_bytes: 101, ..frame };
    assert_eq!(corruption(more), Corruption::Compression { bytes: 101 });
    assert_eq!(corruption(Frame { raw_crc: 1, ..frame }), Corruption::Records);
    // More comes out of it than any frame may hold.
    let bomb = chunk_of(&vec![0; MAX_RAW_BYTES as usize + 1], 1);
    let bomb = (Frame { raw_bytes: MAX_RAW_BYTES, ..bomb.0 }, bomb.1);
    assert_eq!(corruption_of(segment_of(&[bomb])), Corruption::Compression { bytes: MAX_RAW_BYTES });
    // The longest body that a header may promise, and no byte of it.
    let (_, tail) = read(segment_of(&[(Frame { body_bytes: MAX_BODY_BYTES, ..frame }, Vec::new())]));
    assert!(matches!(tail.unwrap(), Tail::Torn { reason: TornReason::Body, .. }));
}

#[test]
fn hostile_records_are_refused() {
    let place = [0; 5];
    let cases: &[(&[u8], u32, &str)] = &[
        (&[0xc2, 7], 1, "unknown control"),
        (&[0xc1, 0, 0, 3], 1, "unknown change of a port"),
        (&[0xcd, 1, 1], 1, "unknown end"),
        (&[0xc8, 1, 0], 1, "unknown kind of record"),
        (&[0xce], 1, "unknown kind of record"),
        (&[0xc2], 1, "it is cut off"),
        (&[0xc2, 0], 2, "it is cut off"),
        (&[0xc2, 0, 0xc2, 0], 1, "bytes follow the last record of the chunk"),
        (&[0xc0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f], 1, "an input is too long"),
        (&[0xc0, 0, 0, 5, 1, 2], 1, "it is cut off"),
        (&[0xc3, 0xff, 0xff, 0xff, 0xff, 0x1f, 0], 1, "a number is too large"),
        (&[0x82, 0, 0], 1, "a delta of zero is written out"),
        (&[0x82, 0x80, 0, 0], 1, "a number is padded"),
    ];
    for (bytes, count, expected) in cases {
        let corruption = corruption_of(segment_of(&[chunk_of(&[&place, *bytes].concat(), *count)]));
        assert!(matches!(corruption, Corruption::Record { why, .. } if why == *expected), "{corruption:?}");
    }
    // Time, instructions and order at their ends.
    let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    let raw = [&[0][..], &most, &[0, 0, 0], &[0x82, 1, 0]].concat();
    let corruption = corruption_of(segment_of(&[chunk_of(&raw, 1)]));
    assert!(matches!(corruption, Corruption::Record { why: "time runs over", .. }), "{corruption:?}");
    let raw = [&[0, 0, 0][..], &most, &[0], &[0x42, 1, 0]].concat();
    let corruption = corruption_of(segment_of(&[chunk_of(&raw, 1)]));
    assert!(
        matches!(corruption, Corruption::Record { why: "the instruction count runs over", .. }),
        "{corruption:?}"
    );
    let raw = [0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0xc2, 0];
    let corruption = corruption_of(segment_of(&[chunk_of(&raw, 1)]));
    assert!(
        matches!(corruption, Corruption::Record { why: "too many events at one time", .. }),
        "{corruption:?}"
    );
}

#[test]
fn noise_with_good_crcs_is_an_error_or_records() {
    let mut draw = Draw::new(7);
    for _ in 0..5000 {
        let raw = [&[0; 5][..], &draw.data()].concat();
        let count = u32::try_from(draw.below(20)).unwrap();
        let (got, _) = read(segment_of(&[chunk_of(&raw, count)]));
        assert!(got.len() <= count as usize);
    }
}

#[test]
fn nothing_follows_the_end() {
    let mut place = Place::default();
    let mut raw = Vec::new();
    place.encode(&mut raw);
    let end = Entry::End { reason: EndReason::Stopped, chain: [0; 32] };
    for entry in [end, Entry::Digest(StateDigest { whole: [0; 32], parts: Vec::new() })] {
        codec::encode(&Record { position: Position::default(), icount: 0, entry }, &mut place, &mut raw);
    }
    assert_eq!(corruption_of(segment_of(&[chunk_of(&raw, 2)])), Corruption::AfterEnd);
    let records = run(3, 5);
    let mut more = write(&records, Sizes::default());
    more[0].push(0);
    assert_eq!(corruption_of(more), Corruption::AfterEnd);
    let mut more = write(&records, Sizes::default());
    more.push(Vec::new());
    assert_eq!(corruption_of(more), Corruption::AfterEnd);
}

#[test]
fn segments_of_a_log_belong_together() {
    let records = run(21, 200);
    let whole = write(&records, tiny(200, 1000));
    assert!(whole.len() >= 4);
    let mut swapped = whole.clone();
    swapped.swap(1, 2);
    assert_eq!(corruption_of(swapped), Corruption::WrongSegment { found: 2 });
    let mut broken_off = whole.clone();
    broken_off[1].truncate(500);
    assert_eq!(corruption_of(broken_off), Corruption::BrokenOff);
    let mut other = whole.clone();
    other[1][..HEADER_BYTES]
        .copy_from_slice(&Header { version: VERSION, needs: 1, segment: 1, run_id: RunId([1; 16]) }.encode());
    assert_eq!(corruption_of(other), Corruption::OtherRun);
    // The same chunk twice, and one left out.
    let chunk_end = |segment: &[u8], at: usize| {
        let frame = Frame::decode(segment[at..at + FRAME_BYTES].try_into().unwrap()).unwrap();
        at + FRAME_BYTES + frame.body_bytes as usize
    };
    let end = chunk_end(&whole[0], HEADER_BYTES);
    let mut doubled = whole.clone();
    doubled[0].splice(end..end, whole[0][HEADER_BYTES..end].iter().copied());
    assert_eq!(corruption_of(doubled), Corruption::OutOfSequence);
    let mut left_out = whole.clone();
    left_out[0].drain(HEADER_BYTES..end);
    assert_eq!(corruption_of(left_out), Corruption::OutOfSequence);
    // The footer of another segment.
    let other = write(&run(22, 200), tiny(200, 1000));
    let chunks = |segment: &[u8]| {
        let mut at = HEADER_BYTES;
        while segment[at..].starts_with(b"CHNK") {
            at = chunk_end(segment, at);
        }
        at
    };
    let mut footer = whole.clone();
    footer[0] = [&whole[0][..chunks(&whole[0])], &other[0][chunks(&other[0])..]].concat();
    assert_eq!(corruption_of(footer), Corruption::Index);
}

#[test]
fn versions_are_refused_by_name() {
    assert_eq!(readable_by(1, 1, 1), Ok(()));
    assert_eq!(readable_by(9, 1, 1), Ok(()), "a later writer may say that we understand it");
    assert_eq!(readable_by(1, 1, 9), Ok(()));
    assert_eq!(readable_by(2, 2, 1), Err(Refusal::TooNew { written: 2, needs: 2, reader: 1 }));
    assert_eq!(readable_by(0, 0, 1), Err(Refusal::TooOld { written: 0, oldest: 1 }));
    let mut log = write(&run(1, 10), Sizes::default());
    let mut with = |version, needs| {
        let header = Header { version, needs, segment: 0, run_id: RUN };
        log[0][..HEADER_BYTES].copy_from_slice(&header.encode());
        read(log.clone())
    };
    assert_eq!(with(7, 1).1.unwrap(), Tail::Closed);
    let (records, end) = with(7, 7);
    let text = end.unwrap_err().to_string();
    assert!(records.is_empty());
    assert_eq!(
        text,
        "log segment 000000: refused: log-too-new: format 7 needs a reader of format 7, this one reads 3"
    );
    let text = with(0, 0).1.unwrap_err().to_string();
    assert_eq!(text, "log segment 000000: refused: log-too-old: format 0, this reader begins at format 1");
    log[0][0] = b'#';
    let text = read(log).1.unwrap_err().to_string();
    assert_eq!(text, "log segment 000000, offset 0: not a log segment");
}

/// A log says that readers of format 2 understand it up to the first record that they do not.
#[test]
fn only_what_needs_a_later_reader_says_so() {
    let record =
        |vtime_ns, entry| Record { position: Position { vtime_ns, order: 0 }, icount: vtime_ns, entry };
    let control = |vtime_ns, control| record(vtime_ns, Entry::Event(Event::Control(control)));
    let old = vec![record(0, Entry::Seed(Seed([7; 32]))), control(5, Control::Reset)];
    let needs = |segments: &[Vec<u8>]| -> Vec<u16> {
        segments.iter().map(|segment| u16::from_le_bytes([segment[10], segment[11]])).collect()
    };
    let log = write(&old, Sizes::default());
    assert_eq!((needs(&log), u16::from_le_bytes([log[0][8], log[0][9]])), (vec![2], 3));

    let new =
        [old.clone(), vec![control(6, Control::Nmi), control(7, Control::Nmi), control(8, Control::Reset)]];
    let log = write(&new.concat(), Sizes::default());
    assert_eq!(needs(&log), [2, 3], "the second segment begins with the NMI");
    let (back, tail) = read(log.clone());
    assert_eq!((back, tail.unwrap()), (new.concat(), Tail::Closed));
    // An earlier reader reads what is before it.
    let mut cut = log;
    cut[1][..HEADER_BYTES]
        .copy_from_slice(&Header { version: 9, needs: 9, segment: 1, run_id: RUN }.encode());
    let (back, end) = read(cut);
    assert_eq!(back, old);
    assert!(end.unwrap_err().to_string().starts_with("log segment 000001: refused: log-too-new"));
    // Also as the very first record.
    let first = [control(5, Control::Nmi)];
    let log = write(&first, Sizes::default());
    assert_eq!((needs(&log), read(log).0), (vec![2, 3], first.to_vec()));
}

/// The host fails at its n-th operation: once, and the log is as if it never had; for ever, and what is there is good.
#[test]
fn a_failing_host_loses_nothing() {
    let records = run(31, 120);
    let sizes = tiny(150, 700);
    for (nth, for_ever) in (1..200).flat_map(|nth| [(nth, false), (nth, true)]) {
        // Two operations make the log, before which there is nothing to lose.
        let host = Memory { countdown: Some(nth + 1), for_ever, ..Memory::default() };
        let mut writer = LogWriter::create(host, RUN, sizes).unwrap();
        let mut outcomes: Vec<_> = records.iter().map(|record| writer.push(record)).collect();
        outcomes.push(writer.close());
        let again = writer.close();
        let failed = outcomes.iter().any(Result::is_err);
        let (got, tail) = read(writer.into_sink().take());
        assert_eq!(got, records[..got.len()]);
        if !for_ever || !failed {
            again.unwrap();
            assert_eq!(got.len(), records.len(), "operation {nth}");
            assert_eq!(tail.unwrap(), Tail::Closed, "operation {nth}");
        } else {
            let text = again.unwrap_err().to_string();
            assert!(text.starts_with("log segment 0") && text.contains(": cannot "), "{text}");
            tail.unwrap_or_else(|error| panic!("operation {nth}: {error}"));
        }
    }
    // A host that never fails was asked less often than 200 times, so every operation has failed above.
    let mut writer =
        LogWriter::create(Memory { countdown: Some(200), ..Memory::default() }, RUN, sizes).unwrap();
    records.iter().for_each(|record| writer.push(record).unwrap());
    writer.close().unwrap();
}

#[test]
fn an_input_beyond_the_limit_is_not_taken() {
    let mut writer = LogWriter::create(Memory::default(), RUN, Sizes::default()).unwrap();
    let input = |bytes| {
        let event = Event::Input { device: 0, port: 0, data: vec![1; bytes] };
        Record { position: Position::default(), icount: 0, entry: Entry::Event(event) }
    };
    let refused = writer.push(&input(MAX_DATA_BYTES + 1));
    assert!(matches!(refused, Err(LogError::Oversized { .. })), "{refused:?}");
    writer.push(&input(MAX_DATA_BYTES)).unwrap();
    writer.close().unwrap();
    let (got, tail) = read(writer.into_sink().take());
    assert_eq!((got, tail.unwrap()), (vec![input(MAX_DATA_BYTES)], Tail::Closed));
}

/// Bytes per event for what machines do. The bounds are what was measured and a little; run with `--nocapture` to see.
#[test]
fn a_log_is_small() {
    let bottom_half = |i: u64| Event::BottomHalf { device: 4 + (i % 2) as u32, bh: 0, oneshot: i % 2 == 1 };
    let clock = |i: u64| Event::HostClock { value_ns: 1_700_000_000_000_000_000 + i * 1_000_123 };
    let key = |i: u64| Event::Input { device: 1, port: 0, data: vec![b'a' + (i % 26) as u8] };
    type Case<'a> = (&'a str, &'a dyn Fn(u64) -> Event, f64);
    let cases: [Case; 3] =
        [("bottom half", &bottom_half, 7.0), ("host clock", &clock, 6.5), ("key", &key, 7.7)];
    for (name, event, most) in cases {
        let mut draw = Draw::new(5);
        let (mut vtime_ns, mut icount) = (0, 0);
        let mut writer = LogWriter::create(Memory::default(), RUN, Sizes::default()).unwrap();
        let count = 10_000;
        for i in 0..count {
            // Some work, some sleep, as between two requests of a disk.
            let step = 1 + draw.below(100_000);
            icount += step;
            vtime_ns += step + draw.below(1_000_000);
            let position = Position { vtime_ns, order: 0 };
            writer.push(&Record { position, icount, entry: Entry::Event(event(i)) }).unwrap();
        }
        writer.close().unwrap();
        let bytes: usize = writer.into_sink().take().iter().map(Vec::len).sum();
        let each = bytes as f64 / count as f64;
        println!("{name}: {each:.2} bytes per event");
        assert!(each < most, "{name}: {each}");
    }
    let records = run(8, 1000);
    let mut writer = LogWriter::create(Memory::default(), RUN, Sizes::default()).unwrap();
    for record in &records {
        writer.push(record).unwrap();
        writer.flush().unwrap();
    }
    let flushed = writer.segment_bytes();
    let at_once = write(&records, Sizes::default())[0].len() as u64;
    println!("a flush: {} bytes", (flushed - at_once) / records.len() as u64);
    println!("an empty log: {} bytes", write(&[], Sizes::default())[0].len());
}

/// What format 1 wrote on its first day. A reader that no longer gives this back needs a new `OLDEST`.
const FORMAT_1: &str = "\
    8d5245504c4f470a0100010000000000612072756e206f662031362062797465000000000000000000000000b79520e64348\
    4e4b97000000a50000000b000000503ec4d3337939ea7947770d28b52ffd000075040074080000000000c61100428986c4df\
    d5962e01c3000085c195b414d43d02f4c34683f5f3a99ec2010142e10301c7e3804e6ae2d1a0101f71533fed0049b28ff22d\
    f38e98500ef6662e6db53a076c85cda5a59a05bf37c000001d8e4ca6057d88f8eb24cba77f8fae453301e13945a3cfdda0c0\
    607b3c8105ddbaafabc85eaa84be90d86e9106c80300010022e002494e4458110000000800000001000000438508111561c4\
    7687bfb0a428b52ffd0000410000010b300000000000e300000000000000444f4e45b0304ec3\
    ";

#[test]
fn the_first_log_of_format_1_is_still_read() {
    let digit = |at: usize| u8::from_str_radix(&FORMAT_1[at..at + 2], 16).unwrap();
    let segment: Vec<u8> = (0..FORMAT_1.len()).step_by(2).map(digit).collect();
    let (records, tail) = read(vec![segment]);
    assert_eq!(tail.unwrap(), Tail::Closed);
    assert_eq!(records.len(), 11);
    // It had neither parts of a digest nor a chain.
    let mut expected = run_of(17, 9, Draw::entry_of_1);
    for record in &mut expected {
        match &mut record.entry {
            Entry::Digest(digest) => digest.parts.clear(),
            Entry::End { chain, .. } => *chain = [0; 32],
            Entry::Event(_) | Entry::Seed(_) | Entry::DiskBlock { .. } => {}
        }
    }
    assert_eq!(records, expected);
}
