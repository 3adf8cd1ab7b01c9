//! A replay that does what was recorded agrees; any other is told so.

use super::*;
use crate::log::{Corruption, LogReader, LogWriter, RunId, Sizes, tests::Memory};
use std::sync::{Arc, Mutex};

fn reset() -> Event {
    Event::Control(crate::Control::Reset)
}

#[test]
fn positions_are_unique_and_ordered() {
    let mut gate = Gate::live(Seed::from_number(1));
    let got: Vec<Position> = [5, 5, 5, 9, 9].iter().map(|&at| gate.admit(at, &reset())).collect();
    assert_eq!(got.iter().map(|p| p.order).collect::<Vec<_>>(), [0, 1, 2, 0, 1]);
    assert!(got.windows(2).all(|w| w[0] < w[1]));
}

#[test]
#[should_panic(expected = "backwards")]
fn time_cannot_run_backwards() {
    let mut gate = Gate::live(Seed::from_number(1));
    gate.admit(5, &reset());
    gate.admit(4, &reset());
}

#[test]
fn the_host_clock_is_an_event() {
    let mut gate = Gate::live(Seed::from_number(1));
    assert_eq!(gate.host_clock(3, || 77), 77);
    assert_eq!(gate.admitted(), 1);
}

/// What a run does at the gate, each at a virtual time; icount is a tenth of it.
#[derive(Clone, Debug)]
enum Step {
    /// From outside, in record; from the log, in replay.
    Input(Event),
    BottomHalf(u32),
    /// What the host's clock says in record.
    Clock(u64),
    Digest(u8),
    /// A block of a disk is read first, and this is in it.
    Block(u8),
    End(EndReason),
}

fn key(byte: u8) -> Event {
    Event::Input { device: 1, port: 0, data: vec![byte] }
}

/// Some of everything, also several at one time.
fn script() -> Vec<(u64, Step)> {
    let mut steps = vec![(0, Step::BottomHalf(3)), (0, Step::Input(key(b'a'))), (0, Step::Input(key(b'b')))];
    for at in 1..20 {
        steps.push((at * 100, Step::Digest(at as u8)));
        steps.push((at * 100, Step::BottomHalf(1)));
        steps.push((at * 100, Step::BottomHalf(2)));
        steps.push((at * 100 + 30, Step::Clock(1_000_000 + at)));
        steps.push((at * 100 + 50, Step::Input(key(at as u8))));
        steps.push((at * 100 + 50, Step::Input(reset())));
    }
    steps.push((2500, Step::Digest(99)));
    steps.push((2500, Step::End(EndReason::PowerOff { code: 3 })));
    steps
}

/// What the machine saw of the outside.
type Seen = Vec<String>;

fn go(gate: &mut Gate, steps: &[(u64, Step)]) -> Seen {
    let mut seen = Seen::new();
    for (at_ns, step) in steps {
        gate.set_icount(at_ns / 10);
        match step {
            Step::Input(event) if !gate.is_replaying() => {
                gate.admit(*at_ns, event);
                seen.push(event.to_string());
            }
            Step::Input(_) => seen.extend(gate.take_due(*at_ns).map(|event| event.to_string())),
            Step::BottomHalf(bh) => {
                gate.bottom_half(*at_ns, 4, *bh, false);
            }
            Step::Clock(value_ns) => seen.push(gate.host_clock(*at_ns, || *value_ns).to_string()),
            Step::Digest(byte) => {
                gate.digest(*at_ns, StateDigest { whole: [*byte; 32], parts: vec![u32::from(*byte)] })
            }
            Step::Block(byte) => gate.disk_block(*at_ns, 4, 1, 77, [*byte; 32]),
            Step::End(reason) => gate.end(*at_ns, *reason),
        }
    }
    seen
}

fn writer(memory: &Memory) -> Box<dyn RecordSink> {
    Box::new(
        LogWriter::create(memory.clone(), RunId([1; 16]), Sizes { chunk_bytes: 50, segment_bytes: 500 })
            .unwrap(),
    )
}

fn reader(segments: Vec<Vec<u8>>) -> Box<dyn RecordSource> {
    Box::new(LogReader::open(Memory::of(segments)).unwrap())
}

fn record(steps: &[(u64, Step)]) -> (Vec<Vec<u8>>, Seen) {
    let memory = Memory::default();
    let mut gate = Gate::record(Seed::from_number(7), writer(&memory));
    let seen = go(&mut gate, steps);
    assert!(gate.halt(9999).is_none(), "{:?}", gate.halt(9999));
    (memory.take(), seen)
}

fn replay(recorded: &[(u64, Step)], replayed: &[(u64, Step)]) -> Divergence {
    let mut gate = Gate::replay(reader(record(recorded).0)).unwrap();
    go(&mut gate, replayed);
    gate.take_due(9999);
    let divergence = gate.divergence().expect("they differ").clone();
    assert!(matches!(gate.halt(9999), Some(Halt::Diverged(_))));
    divergence
}

#[test]
fn a_replay_sees_what_the_recording_saw() {
    let (segments, seen) = record(&script());
    let mut gate = Gate::replay(reader(segments)).unwrap();
    assert_eq!(gate.random_stream().seed(), Seed::from_number(7));
    assert_eq!(go(&mut gate, &script()), seen);
    assert_eq!(gate.divergence(), None);
    assert!(
        matches!(gate.halt(2500), Some(Halt::Ended(EndReason::PowerOff { code: 3 }))),
        "{:?}",
        gate.halt(2500)
    );
}

#[test]
fn a_disk_that_changed_is_told_by_its_block() {
    let mut recorded = script();
    let at = recorded.iter().position(|(_, step)| matches!(step, Step::Clock(_))).unwrap();
    recorded.insert(at, (recorded[at].0, Step::Block(9)));
    let mut other = recorded.clone();
    other[at].1 = Step::Block(200);
    let divergence = replay(&recorded, &other);
    assert_eq!(divergence.kind, DivergenceKind::Disk);
    assert!(divergence.to_string().contains("block 77"), "{divergence}");
    other.remove(at);
    assert_eq!(replay(&recorded, &other).kind, DivergenceKind::Different, "the clock is asked in its place");
}

fn records_of(segments: Vec<Vec<u8>>) -> Vec<Record> {
    let mut source = reader(segments);
    std::iter::from_fn(|| match source.next().unwrap() {
        Next::Record(record) => Some(record),
        Next::Tail(_) => None,
    })
    .collect()
}

struct Records(Vec<Record>, usize);

impl RecordSource for Records {
    fn next(&mut self) -> Result<Next, LogError> {
        self.1 += 1;
        Ok(self.0.get(self.1 - 1).cloned().map_or(Next::Tail(Tail::Closed), Next::Record))
    }

    fn seek(&mut self, record: u64) -> Result<(), LogError> {
        self.1 = usize::try_from(record).unwrap();
        Ok(())
    }
}

/// A stranger takes a digest out of the log, and out of the replay's sight; the end tells.
#[test]
fn the_end_knows_every_digest() {
    let records = records_of(record(&script()).0);
    let is_digest = |record: &Record| matches!(record.entry, Entry::Digest(_));
    let first = records.iter().position(is_digest).unwrap();
    let mut less = records.clone();
    less.remove(first);
    let mut without = script();
    without.remove(without.iter().position(|(_, step)| matches!(step, Step::Digest(_))).unwrap());
    let mut gate = Gate::replay(Box::new(Records(less, 0))).unwrap();
    go(&mut gate, &without);
    let divergence = gate.divergence().expect("the chain lacks one").clone();
    assert!(matches!(divergence.expected.unwrap().entry, Entry::End { .. }));
}

#[test]
fn a_log_of_format_1_has_less_to_compare() {
    let mut records = records_of(record(&script()).0);
    for record in &mut records {
        match &mut record.entry {
            Entry::Digest(digest) => digest.parts.clear(),
            Entry::End { chain, .. } => *chain = [0; 32],
            Entry::Event(_) | Entry::Seed(_) | Entry::DiskBlock { .. } => {}
        }
    }
    let mut gate = Gate::replay(Box::new(Records(records, 0))).unwrap();
    go(&mut gate, &script());
    assert_eq!(gate.divergence(), None);
}

#[test]
fn a_replay_that_goes_live_writes_on_in_its_log() {
    let (segments, _) = record(&script());
    let memory = Memory::default();
    let mut gate = Gate::replay(reader(segments.clone())).unwrap().recorded_again(writer(&memory));
    let fork = script().len() / 2;
    go(&mut gate, &script()[..fork]);
    gate.go_live();
    assert!(gate.is_recording() && !gate.is_replaying() && gate.halt(9999).is_none());
    let rest =
        [(5000, Step::Input(key(b'!'))), (6000, Step::Clock(5)), (7000, Step::End(EndReason::Stopped))];
    go(&mut gate, &rest);
    let whole = [&script()[..fork], &rest].concat();
    assert_eq!(records_of(memory.take()), records_of(record(&whole).0));
}

#[test]
#[should_panic(expected = "only a good replay goes live")]
fn a_replay_that_left_its_recording_cannot_go_live() {
    let mut gate = Gate::replay(reader(record(&script()).0)).unwrap();
    gate.bottom_half(0, 9, 9, false);
    gate.go_live();
}

#[test]
fn what_is_due_is_told_before_it_is_taken() {
    let mut gate = Gate::replay(reader(record(&script()).0)).unwrap();
    assert!(!gate.input_due(0) && !gate.digest_due(0), "a bottom half comes first");
    go(&mut gate, &script()[..1]);
    assert!(gate.input_due(0) && !gate.input_due(1));
    go(&mut gate, &script()[1..3]);
    assert!(gate.digest_due(100) && !gate.digest_due(99));
}

#[test]
fn the_log_says_how_far_to_run() {
    let (segments, _) = record(&script());
    let mut gate = Gate::replay(reader(segments)).unwrap();
    let at = |vtime_ns, order| Some(Position { vtime_ns, order });
    assert_eq!(gate.next_position(), at(0, 0));
    assert_eq!(gate.take_due(0), None, "the bottom half comes first");
    gate.bottom_half(0, 4, 3, false);
    assert_eq!(gate.take_due(0), Some(key(b'a')));
    assert_eq!(gate.next_position(), at(0, 2));
    assert_eq!(gate.take_due(0), Some(key(b'b')));
    assert_eq!(gate.take_due(0), None);
    assert_eq!(gate.next_position(), at(100, 0), "a digest is a place to stop as well");
    assert_eq!(gate.take_due(99), None);
    assert!(gate.halt(99).is_none() && gate.divergence().is_none());
    assert_eq!(Gate::live(Seed::from_number(1)).next_position(), None);
}

#[test]
fn a_replay_records_the_same_log() {
    let (segments, _) = record(&script());
    let again = Memory::default();
    let mut gate = Gate::replay(reader(segments.clone())).unwrap().recorded_again(writer(&again));
    go(&mut gate, &script());
    assert_eq!(again.take(), segments);
}

/// A recording that somebody stopped: nothing inside says when, so the log does.
#[test]
fn a_stop_from_outside_is_found_in_the_log() {
    let mut steps = script();
    let last = steps.len() - 1;
    steps[last].1 = Step::End(EndReason::Stopped);
    let mut gate = Gate::replay(reader(record(&steps).0)).unwrap();
    go(&mut gate, &steps[..last]);
    assert_eq!(gate.next_position().unwrap().vtime_ns, 2500);
    assert!(gate.halt(2499).is_none());
    assert!(matches!(gate.halt(2500), Some(Halt::Ended(EndReason::Stopped))));
    gate.end(2500, EndReason::Stopped);
    assert!(matches!(gate.halt(2500), Some(Halt::Ended(EndReason::Stopped))));
    assert_eq!(gate.divergence(), None);
}

#[test]
fn a_bottom_half_without_an_entry_diverges() {
    let mut steps = script();
    steps.insert(3, (60, Step::BottomHalf(9)));
    let divergence = replay(&script(), &steps);
    assert_eq!(divergence.kind, DivergenceKind::Unlogged);
    let text = divergence.to_string();
    let expected = "the replay did what is not in the log at 60 ns, order 0 (icount 6): \
                    found bottom half 9 of device 4, expected digest 0101";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.ends_with(" at 100 ns, order 0 (icount 10)"), "{text}");
}

#[test]
fn an_entry_without_a_bottom_half_diverges() {
    let mut steps = script();
    steps.remove(5);
    let divergence = replay(&script(), &steps);
    assert_eq!(divergence.kind, DivergenceKind::Missed);
    let text = divergence.to_string();
    let expected = "the replay passed an entry of the log at 130 ns, order 0 (icount 13): \
                    found a read of the host clock, expected bottom half 2 of device 4 at 100 ns, order 1 (icount 10)";
    assert_eq!(text, expected);
    // The same, where nothing is asked of the gate but inputs.
    let divergence = replay(&script(), &script()[..5]);
    assert_eq!((divergence.kind, divergence.found), (DivergenceKind::Missed, Found::Nothing));
    assert_eq!(divergence.position, Position { vtime_ns: 9999, order: 0 });
}

#[test]
fn bottom_halves_in_another_order_diverge() {
    let mut steps = script();
    steps.swap(4, 5);
    let divergence = replay(&script(), &steps);
    assert_eq!(divergence.kind, DivergenceKind::Different);
    let (found, expected) = (divergence.found.to_string(), divergence.expected.unwrap().entry.to_string());
    assert_eq!((&*found, &*expected), ("bottom half 2 of device 4", "bottom half 1 of device 4"));
}

#[test]
fn another_digest_end_or_instruction_count_diverges() {
    let mut steps = script();
    steps[3].1 = Step::Digest(77);
    assert_eq!(replay(&script(), &steps).kind, DivergenceKind::Digest);
    let mut steps = script();
    let last = steps.len() - 1;
    steps[last].1 = Step::End(EndReason::PowerOff { code: 4 });
    assert_eq!(replay(&script(), &steps).kind, DivergenceKind::Different);
    let mut gate = Gate::replay(reader(record(&script()).0)).unwrap();
    go(&mut gate, &script()[..4]);
    gate.set_icount(11);
    gate.bottom_half(100, 4, 1, false);
    let divergence = gate.divergence().unwrap();
    assert_eq!((divergence.kind, divergence.icount), (DivergenceKind::Icount, 11));
    assert_eq!(divergence.expected.as_ref().unwrap().icount, 10);
}

#[test]
fn an_input_that_no_log_brought_diverges() {
    let mut gate = Gate::replay(reader(record(&script()).0)).unwrap();
    gate.admit(0, &key(b'x'));
    assert_eq!(gate.divergence().unwrap().kind, DivergenceKind::Different);
    assert_eq!(gate.take_due(0), None, "the log has no say any more");
}

#[test]
fn a_clock_read_that_differs_diverges() {
    let mut steps = script();
    steps[6].0 = 125;
    assert_eq!(replay(&script(), &steps).kind, DivergenceKind::Unlogged);
    let mut gate = Gate::replay(reader(record(&script()).0)).unwrap();
    let value_ns = gate.host_clock(0, || panic!("nobody asks the host in replay"));
    assert_eq!((value_ns, &gate.divergence().unwrap().found), (0, &Found::HostClock));
}

#[test]
fn nothing_may_happen_behind_the_end() {
    let mut steps = script();
    steps.push((2600, Step::BottomHalf(1)));
    let divergence = replay(&script(), &steps);
    assert_eq!((divergence.kind, divergence.expected), (DivergenceKind::Unlogged, None));
}

/// Only the first counts: all that follows follows from it.
#[test]
fn the_first_divergence_is_kept() {
    let mut steps = script();
    steps[3].1 = Step::Digest(77);
    steps[9].1 = Step::Digest(78);
    assert_eq!(replay(&script(), &steps).position.vtime_ns, 100);
}

/// Cut anywhere, a recording replays to its last complete record without a complaint, and then says why it stops.
#[test]
fn a_torn_log_replays_to_its_last_record() {
    let (segments, seen) = record(&script());
    let mut seen_before = 0;
    for (number, segment) in segments.iter().enumerate() {
        for length in 0..segment.len() {
            let mut cut = segments[..=number].to_vec();
            cut[number].truncate(length);
            let mut gate = match Gate::replay(reader(cut)) {
                Ok(gate) => gate,
                Err(LogError::NoSeed) => {
                    assert_eq!(number, 0);
                    continue;
                }
                Err(error) => panic!("segment {number} cut at {length}: {error}"),
            };
            let got = go(&mut gate, &script());
            // Behind the last record there are no inputs, and the clock repeats what it said last.
            let right = got.iter().zip(&seen).take_while(|(got, seen)| got == seen).count();
            assert!(right >= seen_before, "a longer log replays no less: segment {number} cut at {length}");
            seen_before = right;
            assert!(got[right..].iter().all(|entry| entry.parse::<u64>().is_ok()), "{:?}", &got[right..]);
            assert_eq!(gate.divergence(), None, "segment {number} cut at {length}");
            let halt = gate.halt(2500);
            assert!(matches!(halt, Some(Halt::OutOfRecords(_) | Halt::Ended(_))), "{halt:?}");
        }
    }
    assert_eq!(seen_before, seen.len());
}

#[test]
fn a_damaged_log_halts_the_replay_where_it_is_damaged() {
    let (mut segments, _) = record(&script());
    let last = segments.len() - 1;
    segments[last][60] ^= 1;
    let mut gate = Gate::replay(reader(segments)).unwrap();
    go(&mut gate, &script());
    let Some(Halt::Failed(LogError::Corrupt { segment, what, .. })) = gate.halt(2500) else {
        panic!("{:?}", gate.halt(2500))
    };
    assert_eq!((*segment as usize, what), (last, &Corruption::FrameHeader));
    assert_eq!(gate.divergence(), None);
}

/// Takes so many records and then has no more room.
#[derive(Clone)]
struct Full {
    room: usize,
    taken: Arc<Mutex<Vec<Record>>>,
}

impl RecordSink for Full {
    fn push(&mut self, record: Record) -> Result<(), LogError> {
        let mut taken = self.taken.lock().unwrap();
        assert!(taken.len() <= self.room, "nothing is pushed after an error");
        taken.push(record);
        match taken.len() > self.room {
            true => Err(LogError::Oversized { bytes: 2, limit: 1 }),
            false => Ok(()),
        }
    }
}

#[test]
fn a_full_disk_halts_the_recording() {
    let full = Full { room: 5, taken: Arc::default() };
    let mut gate = Gate::record(Seed::from_number(7), Box::new(full.clone()));
    go(&mut gate, &script()[..4]);
    assert!(gate.halt(100).is_none());
    go(&mut gate, &script()[4..]);
    assert!(matches!(gate.halt(2500), Some(Halt::Failed(LogError::Oversized { .. }))));
    assert_eq!(full.taken.lock().unwrap().len(), 6);
}

#[test]
fn what_is_no_recording_is_refused() {
    let nothing = Gate::replay(Box::new(LogReader::open(Memory::default()).unwrap()));
    assert!(matches!(nothing, Err(LogError::NoSeed)));
    let memory = Memory::default();
    let mut sink = writer(&memory);
    let end = Entry::End { reason: EndReason::Limit, chain: [0; 32] };
    sink.push(Record { position: Position::default(), icount: 0, entry: end }).unwrap();
    assert!(matches!(Gate::replay(reader(memory.take())), Err(LogError::NoSeed)));
}

/// Wherever the gate stood, it can go there again, from anywhere, and sees the same from there on.
#[test]
fn a_replay_goes_back_and_forth() {
    let steps = script();
    let (segments, seen) = record(&steps);
    assert!(segments.len() > 2, "the way back leads through segments");
    let mut gate = Gate::replay(reader(segments)).unwrap();
    let mut places = Vec::new();
    let mut so_far = 0;
    for at in 0..steps.len() {
        places.push((gate.stand(), so_far));
        so_far += go(&mut gate, &steps[at..=at]).len();
    }
    let mut random = RandomStream::new(Seed::from_number(3));
    for _ in 0..200 {
        let mut draw = [0; 2];
        random.fill(&mut draw);
        let from = usize::from(draw[0]) % steps.len();
        let to = (from + usize::from(draw[1]) % 9).min(steps.len());
        let (stand, before) = &places[from];
        gate.go_to(stand).unwrap();
        assert_eq!(gate.stand(), *stand);
        let now = go(&mut gate, &steps[from..to]);
        assert_eq!(now, seen[*before..*before + now.len()], "from {from} to {to}");
        assert_eq!(gate.divergence(), None);
    }
    assert!(matches!(
        gate.go_to(&Stand { records: 999, ..places[0].0.clone() }),
        Err(LogError::NoRecord { .. })
    ));
}

/// A log may begin in the middle of a run, and replays from there.
#[test]
fn a_log_begins_anywhere() {
    let steps = script();
    let (old, seen) = record(&steps);
    for from in [1, 4, 17, steps.len() - 1] {
        let mut whole = Gate::live(Seed::from_number(7));
        let before = go(&mut whole, &steps[..from]).len();
        let (stand, here_ns) = (whole.stand(), steps[from - 1].0);
        let memory = Memory::default();
        let mut gate = Gate::record_from(&stand, here_ns, writer(&memory));
        assert_eq!(go(&mut gate, &steps[from..]), seen[before..]);
        let segments = memory.take();
        let mut gate = Gate::replay_from(&stand, here_ns, reader(segments.clone())).unwrap();
        assert_eq!(go(&mut gate, &steps[from..]), seen[before..]);
        assert_eq!(gate.divergence(), None);
        assert!(matches!(gate.halt(9999), Some(Halt::Ended(_))));
        let mut replay = Gate::replay(reader(old.clone())).unwrap();
        go(&mut replay, &steps[..from]);
        let source = reader(old.clone());
        let memory = Memory::default();
        let cut = Gate::cut_from(&replay.stand(), here_ns, source, writer(&memory));
        let mut cut = cut.unwrap();
        assert_eq!(go(&mut cut, &steps[from..]), seen[before..]);
        assert_eq!(cut.divergence(), None);
        assert_eq!(records_of(memory.take()), records_of(segments.clone()), "cut at step {from}");
        let elsewhere = Stand { icount: stand.icount + 1, ..stand };
        let refused = Gate::replay_from(&elsewhere, here_ns, reader(segments));
        assert!(matches!(refused, Err(LogError::NoSeed)));
    }
}

/// What a log had said before the cut is news to the one that begins there.
#[test]
fn a_cut_tells_again_which_blocks_are_read() {
    let steps = script();
    let (old, _) = record(&steps);
    let mut replay = Gate::replay(reader(old.clone())).unwrap();
    go(&mut replay, &steps[..4]);
    let (stand, here_ns) = (replay.stand(), steps[3].0);
    let memory = Memory::default();
    let mut cut = Gate::cut_from(&stand, here_ns, reader(old.clone()), writer(&memory)).unwrap();
    cut.disk_block(here_ns, 4, 1, 99, [5; 32]);
    go(&mut cut, &steps[4..]);
    assert_eq!(cut.divergence(), None);
    drop(cut);
    let new = records_of(memory.take());
    let told = Entry::DiskBlock { device: 4, port: 1, block: 99, hash: [5; 32] };
    assert_eq!(new[1].entry, told);
    // The seed of the old log lies before the cut, and so does what it had by then.
    let behind = usize::try_from(stand.records).unwrap();
    assert_eq!(new.len(), records_of(old).len() - behind + 2);
}
