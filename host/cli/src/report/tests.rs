use super::{
    history::tests::Memory,
    search::{Apart, Bracket, Outcome, search},
    *,
};
use reprise_machine::{
    Gate, Input, LogRecord, Outside, Seed, Setup, Status, Stop, Until,
    board::{DiskTiming, IdlePolicy, IsaSpec, MachineSpec, Mmu},
    boot::{Placement, Symbol},
    replay::{EndReason, Event, Record, StateDigest},
};
use std::{borrow::Cow, cell::Cell, collections::BTreeMap};

const RAM: u64 = 0x8000_0000;

/// Nobody.
struct Silence;

impl Outside for Silence {
    fn realtime_ns(&mut self) -> u64 {
        0
    }
    fn host_clock_ns(&mut self) -> u64 {
        0
    }
    fn poll(&mut self, _inbox: &mut Vec<Input>) {}
    fn wait(&mut self, _timeout_ns: Option<u64>) {}
    fn can_answer(&self) -> bool {
        false
    }
    fn port_write(&mut self, _device: &str, _port: &str, _data: &[u8]) {}
    fn port_taken(&mut self, _device: &str, _port: &str, _taken: usize) {}
    fn publish(&mut self, _vtime_ns: u64, _running: bool) {}
    fn progress(&mut self, _status: Status) {}
    fn log(&mut self, _record: &LogRecord) {}
}

fn board() -> Board {
    Board {
        machine: MachineSpec {
            name: "test".into(),
            harts: 1,
            ram_base: RAM,
            ram_size: 1 << 20,
            shift: 0,
            timebase_hz: 10_000_000,
            idle: IdlePolicy::Auto,
            align: false,
            quantum: 10_000,
            schedule_seed: 0,
            seed: None,
            isa: IsaSpec { svadu: true, sstc: true, zfh: true, mmu: Mmu::Sv57 },
            disk: DiskTiming { latency_ns: 0, bytes_per_second: 1 },
            nmi_vector: None,
            bootargs: None,
        },
        devices: Vec::new(),
        wires: Vec::new(),
        links: Vec::new(),
        networks: Vec::new(),
    }
}

/// `addi a1,a1,1; addi a2,a2,1; j -8`.
fn machine(records: &[Record]) -> Machine {
    let code: [u32; 3] = [0x0015_8593, 0x0016_0613, 0xff9f_f06f];
    let bytes: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
    let boot = move || {
        Ok(Placement {
            chunks: vec![(RAM, Cow::Owned(bytes.clone()))],
            entry: RAM,
            dtb_gpa: 0,
            fw_dynamic_gpa: None,
            symbols: vec![Symbol { address: RAM, name: "spin".into(), is_function: true }],
        })
    };
    let setup = Setup {
        board: board(),
        plugins: BTreeMap::new(),
        boot: Box::new(boot),
        disks: BTreeMap::new(),
        outside: Box::new(Silence),
        gate: Gate::replay(source(records)).unwrap(),
        digest_every: None,
        icount_limit: None,
        engine: None,
        chaos_seed: None,
    };
    Machine::new(setup).unwrap()
}

fn source(records: &[Record]) -> Box<dyn RecordSource> {
    Box::new(Memory(records.to_vec().into()))
}

/// A record at this instruction.
fn record(icount: u64, order: u32, entry: Entry) -> Record {
    Record { position: Position { vtime_ns: icount, order }, icount, entry }
}

fn set_t0(value: u64) -> Entry {
    Entry::Event(Event::WriteRegister { hart: 0, register: 5, value })
}

/// A run of a million instructions, with what enters it.
fn log(middle: &[Record]) -> Vec<Record> {
    let mut records = vec![record(0, 0, Entry::Seed(Seed([7; 32])))];
    records.extend_from_slice(middle);
    records.push(record(1_000_000, 0, Entry::End { reason: EndReason::Stopped, chain: [0; 32] }));
    records
}

fn digest_at(records: &[Record], icount: u64) -> StateDigest {
    let mut machine = machine(records);
    machine.set_until(Some(Until::Icount(icount)));
    assert_eq!(machine.run(), Stop::Until);
    let (whole, parts) = machine.digest_parts();
    StateDigest { whole, parts }
}

/// Replays these logs in turn, as a recording would that does not replay the same.
struct Turns {
    logs: Vec<Vec<Record>>,
    made: Cell<usize>,
    changed: Vec<String>,
}

impl Turns {
    fn new(logs: &[Vec<Record>]) -> Self {
        Self { logs: logs.to_vec(), made: Cell::new(0), changed: Vec::new() }
    }

    /// How the first of its machines leaves its log.
    fn departure(&self) -> Departure {
        let mut machine = machine(&self.logs[0]);
        assert_eq!(machine.run(), Stop::Diverged);
        Departure::of(&mut machine).unwrap()
    }
}

impl Recorded for Turns {
    fn board(&self) -> &Board {
        static BOARD: std::sync::LazyLock<Board> = std::sync::LazyLock::new(board);
        &BOARD
    }
    fn machine(&self) -> Result<Machine, Failure> {
        let turn = self.made.replace(self.made.get() + 1) % self.logs.len();
        Ok(machine(&self.logs[turn]))
    }
    fn records(&self) -> Result<Box<dyn RecordSource>, Failure> {
        Ok(source(&self.logs[0]))
    }
    fn changed(&self) -> Vec<String> {
        self.changed.clone()
    }
    fn other_builds(&self) -> Vec<OtherBuild> {
        Vec::new()
    }
    fn builds(&self) -> Option<Result<[Machine; 2], Failure>> {
        None
    }
}

#[test]
fn machines_part_where_something_else_enters() {
    let event = |value| record(123_457, 1, set_t0(value));
    let before = record(123_457, 0, set_t0(1));
    let logs = [log(&[before.clone(), event(5)]), log(&[before, event(6)])];
    let fresh = || Ok::<_, Failure>(Twins::new(machine(&logs[0]), machine(&logs[1])));
    let end = Position { vtime_ns: 1_000_000, order: 0 };
    let Outcome::Apart(Apart { bracket, exact, moves, finding, .. }) =
        part(fresh, &|| Some(source(&logs[0])), end).unwrap()
    else {
        panic!("the machines are the same")
    };
    assert!(exact && !moves);
    let at = |order| Position { vtime_ns: 123_457, order };
    assert_eq!(bracket, Bracket { same: Some(at(1)), other: at(2) });
    assert_eq!(finding.a.icount, 123_457);
    let [only] = finding.differences.as_slice() else { panic!("{:?}", finding.differences) };
    assert_eq!((only.what.as_str(), only.a.as_str(), only.b.as_str()), ("hart0.t0", "0x5", "0x6"));
    assert_eq!(finding.culprit(), None, "no instruction did it");
}

#[test]
fn the_instruction_between_two_places_is_named() {
    // The second machine gets its event one instruction later, and another value.
    let logs = [log(&[record(500_000, 0, set_t0(9))]), log(&[record(500_001, 0, set_t0(8))])];
    let fresh = || Ok::<_, Failure>(Twins::new(machine(&logs[0]), machine(&logs[1])));
    let course = Course { end: Position { vtime_ns: 600_000, order: 0 }, events_at: &|_| 0 };
    let outcome = search(fresh, course, &mut |_| ()).unwrap();
    let Outcome::Apart(Apart { bracket, exact: true, finding, .. }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(bracket.same, Some(Position { vtime_ns: 500_000, order: 0 }));
    let (hart, upcoming) = finding.culprit().unwrap();
    assert_eq!((hart, upcoming.symbol.as_deref()), (0, Some("spin+0x8")));
    assert_eq!(upcoming.text.as_deref(), Some("jal zero,0x80000000"));
}

#[test]
fn replays_that_differ_are_told_with_place_and_values() {
    let good = log(&[record(300_000, 0, set_t0(1))]);
    let agreed = record(200_000, 0, Entry::Digest(digest_at(&good, 200_000)));
    let digest = record(400_000, 0, Entry::Digest(digest_at(&good, 400_000)));
    let bad = |value| log(&[agreed.clone(), record(300_000, 0, set_t0(value)), digest.clone()]);
    let run = Turns::new(&[bad(0xbad), bad(0xbee)]);
    let report = explain(&run.departure(), &run, true);
    let text = report.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() <= 40, "{} lines", lines.len());
    assert!(
        lines[0].starts_with(
            "error: the replay left the recording at icount 400000, vtime 0.000400000 s, PC 0x80000004"
        ) && lines[0].contains("<spin+0x4>"),
        "{}",
        lines[0]
    );
    for part in [
        "last agreed  digest ",
        "at icount 200000, vtime 0.000200000 s  (#1)",
        "differing    hart0\n",
        "first difference: the same at icount 300000, vtime 0.000300000 s\n",
        "hart0.t0",
        "0xbad",
        "0xbee",
        "#2  icount 300000",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    let json = report.to_json();
    assert_eq!(json["kind"], "digest");
    assert_eq!(json["cause"], "not-deterministic");
    assert_eq!(json["sections"][0], "hart0");
    assert_eq!(json["last_agreed"]["number"], 1);
    assert_eq!(json["expected"]["number"], 3);
    assert_eq!(json["first_difference"]["exact"], true);
    assert_eq!(json["first_difference"]["same"]["vtime_ns"], 300_000);
    assert_eq!(json["first_difference"]["differences"][0]["what"], "hart0.t0");
}

#[test]
fn replays_that_agree_with_each_other_blame_what_has_changed() {
    let mut digest = digest_at(&log(&[]), 400_000);
    digest.whole[0] ^= 1;
    digest.parts[0] ^= 1;
    let mut run = Turns::new(&[log(&[record(400_000, 0, Entry::Digest(digest))])]);
    let report = explain(&run.departure(), &run, true);
    assert_eq!(report.to_json()["cause"], "systematic");
    let text = report.to_string();
    assert!(text.contains("those of the recording") && text.contains("no digest that agreed"), "{text}");
    assert!(text.contains("differing    hart0\n"), "{text}");
    run.changed = vec!["plugin \"ns16550a\" is another build".into()];
    let text = explain(&run.departure(), &run, true).to_string();
    assert!(text.contains("another build") && !text.contains("those of the recording"), "{text}");
}

#[test]
fn what_does_not_happen_again_is_said_to() {
    let mut digest = digest_at(&log(&[]), 400_000);
    digest.whole[0] ^= 1;
    let bad = log(&[record(400_000, 0, Entry::Digest(digest))]);
    let departure = Turns::new(&[bad]).departure();
    let report = explain(&departure, &Turns::new(&[log(&[])]), true);
    assert_eq!(report.to_json()["cause"], "not-reproduced");
    let text = report.to_string();
    assert!(text.contains("ended at icount 1000000") && text.contains("not each time"), "{text}");
}

#[test]
fn nothing_is_searched_unasked() {
    let event = record(400_000, 0, Entry::Event(Event::BottomHalf { device: 0, bh: 0, oneshot: false }));
    let run = Turns::new(&[log(&[event])]);
    let report = explain(&run.departure(), &run, false);
    assert_eq!(run.made.get(), 0, "nothing was replayed");
    let text = report.to_string();
    assert!(text.contains("expected     bottom half 0 of device 0, at icount 400000"), "{text}");
    assert!(text.contains("found        nothing"), "{text}");
    assert_eq!(report.to_json()["cause"], "not-searched");
}

#[test]
fn a_changed_image_is_told_without_a_search() {
    let block = |hash| Entry::DiskBlock { device: 3, port: 0, block: 2, hash: [hash; 32] };
    let divergence = Divergence {
        kind: DivergenceKind::Disk,
        position: Position { vtime_ns: 7, order: 0 },
        icount: 7,
        expected: Some(record(7, 0, block(0xaa))),
        found: Found::Entry(block(0xbb)),
    };
    let departure = Departure { divergence, harts: Vec::new(), sections: Vec::new() };
    let run = Turns::new(&[log(&[])]);
    let report = explain(&departure, &run, true);
    assert_eq!(run.made.get(), 0, "nothing was replayed");
    let text = report.to_string();
    assert!(text.contains("disk device 3.port 0 has changed"), "{text}");
    assert!(text.contains("block 2, bytes 32768 to 49152"), "{text}");
    assert!(text.contains(&"aa".repeat(32)) && text.contains(&"bb".repeat(32)), "{text}");
    let json = report.to_json();
    assert_eq!((&json["cause"], &json["disk"]["from_byte"]), (&"disk-changed".into(), &32768.into()));
}

#[test]
fn recordings_are_compared_by_log_and_state() {
    use super::{
        compare::compare,
        diff::{Diff, States, states},
    };
    let diff = |a: Vec<Record>, b: Vec<Record>| {
        let runs = [Turns::new(&[a]), Turns::new(&[b])];
        let [mut left, mut right] = runs.each_ref().map(|run| run.records().unwrap());
        let logs = compare(left.as_mut(), right.as_mut(), [&Names::default(); 2]).unwrap();
        let states = match &logs.parting {
            None => States::NotCompared,
            Some(parting) => states([&runs[0], &runs[1]], parting),
        };
        Diff { names: ["A.rec".into(), "B.rec".into()], manifests: Vec::new(), logs, states }
    };
    let input = |icount, value| record(icount, 0, set_t0(value));
    let same = diff(log(&[input(700, 1)]), log(&[input(700, 1)]));
    assert!(same.is_identical() && same.to_string().starts_with("identical: 3 records"), "{same}");

    let other_input = diff(log(&[input(700, 1)]), log(&[input(700, 2)]));
    assert!(!other_input.is_identical());
    let json = other_input.to_json();
    assert_eq!((&json["states"], &json["log"]["input"]), (&"same".into(), &true.into()));
    let text = other_input.to_string();
    assert!(text.contains("A.rec and B.rec differ") && text.contains("B.rec  #1  icount 700"), "{text}");

    // Digests that no machine has: both leave their own log, and the machines are the same.
    let digest = |hash| {
        let digest = StateDigest { whole: [hash; 32], parts: Vec::new() };
        log(&[record(900, 0, Entry::Digest(digest))])
    };
    let computed = diff(digest(1), digest(2));
    let json = computed.to_json();
    assert_eq!((&json["states"], &json["log"]["input"]), (&"same".into(), &false.into()));
}
