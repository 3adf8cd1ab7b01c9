use super::*;
use crate::{
    board::IdlePolicy,
    chaos::splitmix,
    machine::Setup,
    run::tests::{RAM, Script, board, machine_at, setup_at, sleeper_loop},
    snapshot::Snapshot,
};
use reprise_replay::{Entry, Gate, Record, RecordSink, RecordSource, Seed, log::Next, log::Tail};
use std::sync::{Arc, Mutex};

type Records = Arc<Mutex<Vec<Record>>>;

struct ToMemory(Records);

impl RecordSink for ToMemory {
    fn push(&mut self, record: Record) -> Result<(), LogError> {
        self.0.lock().unwrap().push(record);
        Ok(())
    }
}

struct FromMemory(Vec<Record>, usize);

impl RecordSource for FromMemory {
    fn next(&mut self) -> Result<Next, LogError> {
        self.1 += 1;
        Ok(self.0.get(self.1 - 1).cloned().map_or(Next::Tail(Tail::Closed), Next::Record))
    }

    fn seek(&mut self, record: u64) -> Result<(), LogError> {
        self.1 = usize::try_from(record).ok().filter(|&at| at <= self.0.len()).ok_or(LogError::NoSeed)?;
        Ok(())
    }
}

pub(crate) fn source_of(records: &[Record]) -> Box<dyn RecordSource> {
    Box::new(FromMemory(records.to_vec(), 0))
}

pub(crate) fn replay_of(records: &[Record]) -> Gate {
    Gate::replay(source_of(records)).unwrap()
}

/// Goes on from a snapshot and records it; gives the log, and where it ended.
pub(crate) fn recorded_from(
    snapshot: &Snapshot,
    gate: impl FnOnce(Box<dyn RecordSink>) -> Gate,
) -> (Vec<Record>, [u8; 32]) {
    let records = Records::default();
    let gate = gate(Box::new(ToMemory(records.clone())));
    let board = board(0, IdlePolicy::Pace);
    let setup = setup_at(&sleeper_loop(), 0, board, script(77), None, gate, Some(10_000));
    let mut m = Machine::restored(setup, snapshot).unwrap();
    assert_eq!(m.run(), Stop::Limit);
    m.end(EndReason::Limit);
    let records = records.lock().unwrap().clone();
    (records, m.digest())
}

pub(crate) fn replaying_from(snapshot: &Snapshot, gate: Gate) -> Machine {
    let board = board(0, IdlePolicy::Auto);
    let setup = setup_at(&sleeper_loop(), 0, board, Script::default(), Some(2), gate, None);
    Machine::restored(Setup { icount_limit: None, ..setup }, snapshot).unwrap()
}

/// The guest's word of memory that is added up for ever.
const WORD: u64 = RAM + 0x1018;

/// Writes to memory and registers, at the moments when the machine happens to ask.
fn script(seed: u64) -> Script {
    let mut state = seed;
    let batches = (0..400)
        .map(|_| match splitmix(&mut state) % 4 {
            0 => vec![Input::WriteMemory { gpa: WORD, data: splitmix(&mut state).to_le_bytes().to_vec() }],
            1 => {
                let value = splitmix(&mut state);
                vec![
                    Input::WriteRegister { hart: 0, register: 18, value },
                    Input::WriteMemory { gpa: WORD, data: value.to_le_bytes().to_vec() },
                ]
            }
            _ => vec![],
        })
        .collect();
    Script { batches, slow_ns: 777, answers: true, ..Script::default() }
}

/// Records a run and gives its log, and where it ended.
pub(crate) fn recorded(idle: IdlePolicy, seed: u64, chaos: Option<u64>) -> (Vec<Record>, [u8; 32]) {
    let records = Records::default();
    let gate = Gate::record(Seed::from_number(seed), Box::new(ToMemory(records.clone())));
    let mut m = machine_at(&sleeper_loop(), 0, board(0, idle), script(seed), chaos, gate, Some(10_000));
    assert_eq!(m.run(), Stop::Limit);
    m.end(EndReason::Limit);
    let records = records.lock().unwrap().clone();
    (records, m.digest())
}

pub(crate) fn replaying(gate: Gate, chaos: Option<u64>) -> Machine {
    let mut m =
        machine_at(&sleeper_loop(), 0, board(0, IdlePolicy::Auto), Script::default(), chaos, gate, None);
    m.icount_limit = None;
    m
}

fn inputs(records: &[Record]) -> usize {
    records.iter().filter(|record| matches!(record.entry, Entry::Event(_))).count()
}

#[test]
fn a_replay_ends_in_the_state_of_its_recording() {
    for idle in [IdlePolicy::Auto, IdlePolicy::Pace, IdlePolicy::Warp] {
        for seed in 1..4 {
            let (records, digest) = recorded(idle, seed, None);
            assert!(inputs(&records) > 50, "{idle:?}: {} inputs", inputs(&records));
            for chaos in [None, Some(seed), Some(seed + 77)] {
                let mut m = replaying(replay_of(&records), chaos);
                assert_eq!(m.run(), Stop::ReplayEnded(EndReason::Limit), "{:?}", m.divergence());
                assert_eq!(m.digest(), digest, "{idle:?}, seed {seed}, chaos {chaos:?}");
            }
        }
    }
}

#[test]
fn a_recording_under_chaos_replays() {
    for chaos in 1..6 {
        let (records, digest) = recorded(IdlePolicy::Pace, 9, Some(chaos));
        let mut m = replaying(replay_of(&records), None);
        assert_eq!(m.run(), Stop::ReplayEnded(EndReason::Limit), "{:?}", m.divergence());
        assert_eq!(m.digest(), digest, "chaos {chaos}");
    }
}

#[test]
fn a_replay_recorded_again_gives_the_same_records() {
    let (records, _) = recorded(IdlePolicy::Pace, 5, None);
    let again = Records::default();
    let gate = replay_of(&records).recorded_again(Box::new(ToMemory(again.clone())));
    assert_eq!(replaying(gate, Some(3)).run(), Stop::ReplayEnded(EndReason::Limit));
    assert_eq!(*again.lock().unwrap(), records);
}

#[test]
fn a_log_that_breaks_off_replays_to_its_last_record() {
    let (records, _) = recorded(IdlePolicy::Pace, 6, None);
    for length in [1, 2, 10, records.len() - 1] {
        let mut m = replaying(replay_of(&records[..length]), None);
        assert_eq!(m.run(), Stop::OutOfRecords(Tail::Closed));
        assert_eq!(m.status().icount, records[length - 1].icount, "{length} records");
    }
}

#[test]
fn stops_anywhere_in_a_replay_change_nothing() {
    let (records, digest) = recorded(IdlePolicy::Pace, 7, None);
    let mut m = replaying(replay_of(&records), None);
    let mut state = 1;
    loop {
        let status = m.status();
        let until = match splitmix(&mut state) % 3 {
            0 => Until::Icount(status.icount + splitmix(&mut state) % 500),
            1 => {
                let vtime_ns = status.vtime_ns + splitmix(&mut state) % 20_000;
                Until::Position(Position { vtime_ns, order: 0 })
            }
            _ => Until::Position(records[(splitmix(&mut state) % records.len() as u64) as usize].position),
        };
        m.set_until(Some(until));
        match m.run() {
            Stop::Until => {}
            Stop::ReplayEnded(reason) => break assert_eq!(reason, EndReason::Limit),
            stop => panic!("{stop:?}: {:?}", m.divergence()),
        }
    }
    assert_eq!(m.digest(), digest);
}

#[test]
fn until_an_event_is_before_that_event() {
    let (records, _) = recorded(IdlePolicy::Pace, 8, None);
    let twins = records.windows(2).filter(|w| w[0].position.vtime_ns == w[1].position.vtime_ns);
    let second = twins.map(|w| &w[1]).find(|record| matches!(record.entry, Entry::Event(_))).unwrap();
    let mut m = replaying(replay_of(&records), None);
    m.set_until(Some(Until::Position(second.position)));
    assert_eq!(m.run(), Stop::Until);
    assert_eq!(m.services.gate.next_position(), Some(second.position));
    assert_eq!(m.run(), Stop::Until, "a place that is reached stays reached");
}

#[test]
fn a_replay_that_goes_live_is_a_recording_of_its_own() {
    let (records, _) = recorded(IdlePolicy::Pace, 4, None);
    let child = Records::default();
    let gate = replay_of(&records).recorded_again(Box::new(ToMemory(child.clone())));
    let mut m = replaying(gate, None);
    let fork = records[records.len() / 2].position;
    m.set_until(Some(Until::Position(fork)));
    assert_eq!(m.run(), Stop::Until);
    m.set_until(None);
    m.go_live(Box::new(script(99)));
    m.icount_limit = Some(m.status().icount + 100_000);
    assert_eq!(m.run(), Stop::Limit);
    m.end(EndReason::Limit);
    let digest = m.digest();
    let child = child.lock().unwrap().clone();
    let common = records.iter().zip(&child).take_while(|(a, b)| a == b).count();
    assert!(common >= records.len() / 2 && common < records.len(), "{common} of {}", records.len());
    let mut m = replaying(replay_of(&child), Some(1));
    assert_eq!(m.run(), Stop::ReplayEnded(EndReason::Limit), "{:?}", m.divergence());
    assert_eq!(m.digest(), digest);
}

/// Every digest that is not the machine's is told. An input that was changed is told by a later digest, unless another
/// hid it before the guest looked.
#[test]
fn an_edited_log_is_found_out() {
    let (records, digest) = recorded(IdlePolicy::Pace, 3, None);
    let (mut found, mut hidden) = (0, 0);
    for at in 1..records.len() - 1 {
        let mut edited = records.clone();
        let must_tell = match &mut edited[at].entry {
            Entry::Digest(digest) => {
                digest.whole[0] ^= 1;
                true
            }
            Entry::Event(Event::WriteMemory { data, .. }) => {
                data[0] ^= 1;
                false
            }
            Entry::Event(_) | Entry::Seed(_) | Entry::DiskBlock { .. } | Entry::End { .. } => continue,
        };
        let mut m = replaying(replay_of(&edited), None);
        match m.run() {
            Stop::Diverged => found += 1,
            stop => {
                assert_eq!((stop, must_tell), (Stop::ReplayEnded(EndReason::Limit), false), "record {at}");
                assert_eq!(m.digest(), digest, "record {at}");
                hidden += 1;
            }
        }
    }
    assert!(found > 100, "{found} found, {hidden} hidden");
}

#[test]
fn a_log_may_name_what_the_machine_has_not() {
    for event in [
        Event::Input { device: 0, port: 0, data: vec![1] },
        Event::PortChange { device: 7, port: u32::MAX, change: PortChange::Opened },
        Event::WriteMemory { gpa: u64::MAX, data: vec![1, 2] },
        Event::WriteRegister { hart: 1, register: 0, value: 0 },
        Event::WriteRegister { hart: 0, register: 33, value: 0 },
        Event::Control(Button::Nmi),
    ] {
        let entry = Entry::Event(event);
        let seed = Record { position: Position::default(), icount: 0, entry: Entry::Seed(Seed([0; 32])) };
        let position = Position { vtime_ns: 5, order: 0 };
        let log = [seed, Record { position, icount: 5, entry }];
        let mut m = replaying(replay_of(&log), None);
        assert!(matches!(m.run(), Stop::BadRecord(_)));
    }
}

#[test]
fn an_idle_day_replays_at_once() {
    let day_ns = 86_400_000_000_000;
    let seed = Record { position: Position::default(), icount: 0, entry: Entry::Seed(Seed([0; 32])) };
    let position = Position { vtime_ns: day_ns, order: 0 };
    let code = crate::run::tests::sleeper();
    let event = Event::Control(Button::PowerOff);
    let icount = {
        let gate = Gate::live(Seed([0; 32]));
        let mut m =
            machine_at(&code, u64::MAX, board(0, IdlePolicy::Warp), Script::default(), None, gate, None);
        assert_eq!(m.run(), Stop::Deadlock);
        m.status().icount
    };
    let log = [seed, Record { position, icount, entry: Entry::Event(event) }];
    let gate = replay_of(&log);
    let mut m = machine_at(&code, u64::MAX, board(0, IdlePolicy::Pace), Script::default(), None, gate, None);
    assert_eq!(m.run(), Stop::PowerOff { code: 0 });
    assert_eq!(m.status().vtime_ns, day_ns);
}

/// `addi s3,s3,1; mret`, behind some code, on a board that says so.
fn with_nmi_handler(code: Vec<u32>, idle: IdlePolicy) -> (Vec<u32>, crate::board::Board) {
    let mut board = board(0, idle);
    board.machine.nmi_vector = Some(RAM + 4 * code.len() as u64);
    (code.into_iter().chain([0x0019_8993, 0x3020_0073]).collect(), board)
}

#[test]
fn non_maskable_interrupts_are_recorded_and_replayed() {
    let (code, board) = with_nmi_handler(sleeper_loop(), IdlePolicy::Pace);
    let records = Records::default();
    let gate = Gate::record(Seed::from_number(3), Box::new(ToMemory(records.clone())));
    let batches = (0..200).map(|n| vec![Input::Control(Button::Nmi); usize::from(n % 3 == 0)]).collect();
    let outside = Script { batches, slow_ns: 777, answers: true, ..Script::default() };
    let mut m = machine_at(&code, 0, board.clone(), outside, None, gate, Some(10_000));
    assert_eq!(m.run(), Stop::Limit);
    m.end(EndReason::Limit);
    let records = records.lock().unwrap().clone();
    assert!(inputs(&records) > 50, "{} inputs", inputs(&records));
    assert_eq!(m.cluster.x(0, 19), inputs(&records) as u64, "the handler ran for each of them");
    for chaos in [None, Some(5), Some(6)] {
        let gate = replay_of(&records);
        let mut again = machine_at(&code, 0, board.clone(), Script::default(), chaos, gate, None);
        again.icount_limit = None;
        assert_eq!(again.run(), Stop::ReplayEnded(EndReason::Limit), "{:?}", again.divergence());
        assert_eq!(again.digest(), m.digest(), "chaos {chaos:?}");
    }
}

#[test]
fn a_non_maskable_interrupt_wakes_a_machine_that_sleeps_for_ever() {
    let (code, board) = with_nmi_handler(crate::run::tests::sleeper(), IdlePolicy::Pace);
    let day_ns = 86_400_000_000_000;
    let asleep = {
        let gate = Gate::live(Seed([0; 32]));
        let mut m = machine_at(&code, u64::MAX, board.clone(), Script::default(), None, gate, None);
        assert_eq!(m.run(), Stop::Deadlock);
        m.status().icount
    };
    let record = |vtime_ns, icount, entry| {
        let position = Position { vtime_ns, order: 0 };
        Record { position, icount, entry }
    };
    let button = |button| Entry::Event(Event::Control(button));
    // addi, mret, the jump back, wfi.
    let log = [
        record(0, 0, Entry::Seed(Seed([0; 32]))),
        record(day_ns, asleep, button(Button::Nmi)),
        record(2 * day_ns, asleep + 4, button(Button::PowerOff)),
    ];
    let mut m = machine_at(&code, u64::MAX, board, Script::default(), None, replay_of(&log), None);
    assert_eq!(m.run(), Stop::PowerOff { code: 0 }, "{:?}", m.divergence());
    assert_eq!((m.cluster.x(0, 19), m.status().vtime_ns), (1, 2 * day_ns));
}

#[test]
fn a_machine_without_non_maskable_interrupts_says_what_to_set() {
    let records = Records::default();
    let gate = Gate::record(Seed::from_number(3), Box::new(ToMemory(records.clone())));
    let outside = Script { answers: true, slow_ns: 777, ..Script::default() };
    let lines = outside.lines.clone();
    let mut m = machine_at(&sleeper_loop(), 0, board(0, IdlePolicy::Warp), outside, None, gate, None);
    m.input(Input::Control(Button::Nmi));
    assert_eq!(m.run(), Stop::Limit);
    assert_eq!(inputs(&records.lock().unwrap()), 0, "what has no effect is not recorded");
    let lines = lines.borrow();
    assert!(lines.iter().any(|(_, text)| text.contains("set machine.nmi_vector")), "{lines:?}");
}

/// The power button ends the machine, and no end of the log says that this was the end of the run.
#[test]
fn a_log_whose_last_record_stops_the_machine_breaks_off_all_the_same() {
    let record = |vtime_ns, entry| {
        let position = Position { vtime_ns, order: 0 };
        Record { position, icount: vtime_ns, entry }
    };
    let button = Entry::Event(Event::Control(Button::PowerOff));
    let torn = [record(0, Entry::Seed(Seed([0; 32]))), record(5, button)];
    let mut m = replaying(replay_of(&torn), None);
    assert_eq!(m.run(), Stop::PowerOff { code: 0 });
    m.end(EndReason::PowerOff { code: 0 });
    assert!(m.divergence().is_none());
    assert_eq!(m.log_breaks_off(), Some(Tail::Closed));

    let records = Records::default();
    let gate = replay_of(&torn).recorded_again(Box::new(ToMemory(records.clone())));
    let mut m = replaying(gate, None);
    m.run();
    m.go_live(Box::new(Script::default()));
    m.end(EndReason::PowerOff { code: 0 });
    let whole = records.lock().unwrap().clone();
    let mut m = replaying(replay_of(&whole), None);
    assert_eq!(m.run(), Stop::PowerOff { code: 0 });
    m.end(EndReason::PowerOff { code: 0 });
    assert!(m.divergence().is_none());
    assert_eq!(m.log_breaks_off(), None, "its end was reached");
}

/// A record whose time lies centuries behind its instruction is missed at the next one: time alone would let the
/// machine run until then. Whatever it is, and also where harts sleep.
#[test]
fn a_record_whose_instruction_has_passed_is_missed_at_once() {
    let (records, _) = recorded(IdlePolicy::Pace, 2, None);
    for at in 1..records.len() {
        let mut edited = records.clone();
        edited[at].position = Position { vtime_ns: 1 << 62, order: 0 };
        edited.truncate(at + 1);
        let missed = edited[at].icount;
        for chaos in [None, Some(4)] {
            let mut m = replaying(replay_of(&edited), chaos);
            assert_eq!(m.run(), Stop::Diverged, "record {at}");
            let left = m.divergence().unwrap();
            assert!(left.icount <= missed + 1, "record {at}: {left}");
            assert_eq!(left.expected.as_ref(), Some(&edited[at]));
        }
    }
    let seed = records[0].clone();
    let place = Position { vtime_ns: (1 << 63) - 1, order: 0 };
    let late = Record { position: place, icount: 0, entry: Entry::Event(Event::Control(Button::Reset)) };
    let mut m = replaying(replay_of(&[seed, late]), None);
    assert_eq!(m.run(), Stop::Diverged);
    let expected =
        "the replay passed an entry of the log at 1 ns, order 0 (icount 1): found nothing, expected ";
    let text = m.divergence().unwrap().to_string();
    assert!(text.starts_with(expected), "{text}");
}
