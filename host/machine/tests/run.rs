//! The run loop on a machine without devices: limits, idle time, stops and chaos.

use reprise_machine::{
    Gate, Input, LogRecord, Machine, Outside, Seed, Setup, Stop,
    board::{Board, DiskTiming, IdlePolicy, IsaSpec, MachineSpec, Mmu},
    boot::Placement,
};
use std::{borrow::Cow, cell::RefCell, collections::BTreeMap, rc::Rc};

const RAM: u64 = 0x8000_0000;

/// An outside in which nothing ever happens, and host time passes only while somebody waits.
#[derive(Default)]
struct Quiet {
    now_ns: u64,
    answers: bool,
    waited_ns: u64,
    /// Host time that a wait takes at most: somebody wakes us for nothing.
    woken_every_ns: Option<u64>,
    /// Asked for again a millisecond after it came.
    alarm_ns: Option<u64>,
    published: Rc<RefCell<Vec<u64>>>,
}

impl Outside for Quiet {
    fn realtime_ns(&mut self) -> u64 {
        self.now_ns
    }
    fn host_clock_ns(&mut self) -> u64 {
        0
    }
    fn poll(&mut self, _inbox: &mut Vec<Input>) {}
    fn wait(&mut self, timeout_ns: Option<u64>) {
        let timeout_ns = timeout_ns.expect("this test never waits for ever");
        let timeout_ns = timeout_ns.min(self.woken_every_ns.unwrap_or(u64::MAX));
        self.now_ns += timeout_ns;
        self.waited_ns += timeout_ns;
        assert!(self.waited_ns < 10_000_000_000, "paced far too long");
    }
    fn can_answer(&self) -> bool {
        self.answers
    }
    fn port_write(&mut self, _device: &str, _port: &str, _data: &[u8]) {}
    fn port_taken(&mut self, _device: &str, _port: &str, _taken: usize) {}
    fn publish(&mut self, vtime_ns: u64, _running: bool) {
        self.published.borrow_mut().push(vtime_ns);
        self.alarm_ns =
            self.alarm_ns.map(|at_ns| if at_ns <= vtime_ns { vtime_ns + 1_000_000 } else { at_ns });
    }
    fn alarm_ns(&self) -> Option<u64> {
        self.alarm_ns
    }
    fn log(&mut self, record: &LogRecord) {
        panic!("unexpected log line: {record:?}");
    }
}

fn board(harts: u32, idle: IdlePolicy) -> Board {
    Board {
        machine: MachineSpec {
            name: "test".into(),
            harts,
            ram_base: RAM,
            ram_size: 4 << 20,
            shift: 0,
            timebase_hz: 10_000_000,
            idle,
            align: false,
            quantum: 1000,
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

fn machine(code: &'static [u32], board: Board, outside: Quiet, limit: u64, chaos: Option<u64>) -> Machine {
    let bytes: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
    let boot = move || {
        Ok(Placement {
            chunks: vec![(RAM, Cow::Owned(bytes.clone()))],
            entry: RAM,
            dtb_gpa: 0,
            fw_dynamic_gpa: None,
            symbols: Vec::new(),
        })
    };
    let setup = Setup {
        board,
        plugins: BTreeMap::new(),
        boot: Box::new(boot),
        disks: BTreeMap::new(),
        outside: Box::new(outside),
        gate: Gate::live(Seed::from_number(1)),
        digest_every: None,
        icount_limit: Some(limit),
        engine: None,
        chaos_seed: chaos,
    };
    Machine::new(setup).expect("a machine without devices can be built")
}

/// Adds up time, a counter and memory traffic for ever:
/// `1: addi a3,a3,1; rdtime a4; add a5,a5,a4; auipc a6,0; sd a5,256(a6); ld a7,256(a6); bne a3,x0,1b`.
const BUSY: &[u32] =
    &[0x0016_8693, 0xc010_2773, 0x00e7_87b3, 0x0000_0817, 0x10f8_3023, 0x1008_3883, 0xfe06_94e3];

/// Sleeps until `stimecmp`, 1000 ticks later each time: mie.STIE on, menvcfg.STCE on.
/// `li t0,1; slli t0,t0,63; csrw menvcfg,t0; li t0,32; csrw mie,t0; 1: rdtime t1; addi t1,t1,1000; csrw stimecmp,t1;
/// wfi; addi s0,s0,1; j 1b`.
const SLEEPY: &[u32] = &[
    0x0010_0293,
    0x03f2_9293,
    0x30a2_9073,
    0x0200_0293,
    0x3042_9073,
    0xc010_2373,
    0x3e83_0313,
    0x14d3_1073,
    0x1050_0073,
    0x0014_0413,
    0xfedf_f06f,
];

/// As SLEEPY, 1024 × 4096 ticks later each time: `lui t2,1024; add t1,t1,t2` instead of the `addi`.
const LONG_SLEEP: &[u32] = &[
    0x0010_0293,
    0x03f2_9293,
    0x30a2_9073,
    0x0200_0293,
    0x3042_9073,
    0xc010_2373,
    0x0040_03b7,
    0x0073_0333,
    0x14d3_1073,
    0x1050_0073,
    0x0014_0413,
    0xfe9f_f06f,
];

/// `wfi; j .-4` with every interrupt off.
const DEAD: &[u32] = &[0x1050_0073, 0xffdf_f06f];

#[test]
fn the_limit_is_exact_and_the_digest_repeats() {
    let digest = |limit| {
        let mut m = machine(BUSY, board(1, IdlePolicy::Warp), Quiet::default(), limit, None);
        assert_eq!(m.run(), Stop::Limit);
        assert_eq!(m.status().icount, limit);
        m.digest()
    };
    assert_eq!(digest(123_457), digest(123_457));
    assert_ne!(digest(123_457), digest(123_458));
}

#[test]
fn chaos_cannot_be_seen() {
    for (code, harts) in [(BUSY, 1), (BUSY, 3), (SLEEPY, 1), (SLEEPY, 2)] {
        let run = |chaos| {
            let mut m = machine(code, board(harts, IdlePolicy::Warp), Quiet::default(), 300_000, chaos);
            assert_eq!(m.run(), Stop::Limit);
            (m.status(), m.digest())
        };
        let calm = run(None);
        for seed in 1..6 {
            assert_eq!(run(Some(seed)), calm, "{harts} harts, chaos seed {seed}");
        }
    }
}

#[test]
fn harts_share_the_clock_and_take_turns() {
    let mut m = machine(BUSY, board(4, IdlePolicy::Warp), Quiet::default(), 40_000, None);
    m.run();
    assert_eq!(m.status().vtime_ns, 40_000, "virtual time counts all harts' instructions");
}

#[test]
fn other_schedules_are_other_runs_that_repeat() {
    let digest = |seed| {
        let mut b = board(2, IdlePolicy::Warp);
        b.machine.schedule_seed = seed;
        let mut m = machine(BUSY, b, Quiet::default(), 50_000, None);
        m.run();
        m.digest()
    };
    assert_eq!(digest(5), digest(5));
    assert_ne!(digest(5), digest(6));
}

#[test]
fn idle_time_is_jumped_and_costs_no_instructions() {
    let mut m = machine(SLEEPY, board(1, IdlePolicy::Warp), Quiet::default(), 605, None);
    assert_eq!(m.run(), Stop::Limit);
    // 100 rounds of 1000 ticks of 100 ns.
    assert!((10_000_000..10_100_000).contains(&m.status().vtime_ns), "{:?}", m.status());
}

#[test]
fn pacing_changes_host_time_only() {
    let run = |idle, answers| {
        let quiet = Quiet { answers, ..Quiet::default() };
        let mut m = machine(SLEEPY, board(1, idle), quiet, 605, None);
        assert_eq!(m.run(), Stop::Limit);
        let real_ns = m.outside().realtime_ns();
        (m.status(), m.digest(), real_ns)
    };
    let (status, digest, warped_ns) = run(IdlePolicy::Warp, false);
    assert_eq!(warped_ns, 0);
    for (idle, answers) in [(IdlePolicy::Pace, false), (IdlePolicy::Auto, true)] {
        let (paced_status, paced_digest, paced_ns) = run(idle, answers);
        assert_eq!((paced_status, paced_digest), (status, digest));
        assert!(paced_ns + 100_000 > status.vtime_ns, "waited only {paced_ns} ns");
    }
    assert_eq!(run(IdlePolicy::Auto, false).2, 0, "nobody could answer: no reason to wait");
}

#[test]
fn those_outside_see_time_pass_while_every_hart_waits() {
    let run = |woken_every_ns, alarm_ns| {
        let published = Rc::new(RefCell::new(Vec::new()));
        let outside = Quiet {
            answers: true,
            woken_every_ns,
            alarm_ns,
            published: Rc::clone(&published),
            ..Quiet::default()
        };
        let mut m = machine(LONG_SLEEP, board(1, IdlePolicy::Auto), outside, 30, None);
        assert_eq!(m.run(), Stop::Limit);
        let digest = m.digest();
        let published = published.borrow().clone();
        assert!(published.is_sorted(), "time went back");
        // The longest stretch in which those outside saw nothing of the time that passed.
        (digest, published.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap())
    };
    let (digest, gap_ns) = run(None, None);
    assert!(gap_ns > 400_000_000, "{gap_ns}: the guest sleeps for long, and nobody asked to be told of less");
    let (woken, gap_ns) = run(Some(700_000), None);
    assert_eq!(woken, digest, "to be woken for nothing changes nothing");
    assert!(gap_ns <= 700_000, "{gap_ns}");
    let (alarmed, gap_ns) = run(None, Some(5));
    assert_eq!(alarmed, digest, "nor does an alarm");
    assert!(gap_ns <= 1_000_000, "{gap_ns}");
}

#[test]
fn a_machine_that_nothing_can_wake_says_so() {
    let mut m = machine(DEAD, board(2, IdlePolicy::Auto), Quiet::default(), 1_000_000, None);
    assert_eq!(m.run(), Stop::Deadlock);
    assert!(m.status().icount < 10);
}

#[test]
fn a_stop_is_taken_at_a_safe_point_and_leaves_no_trace() {
    let mut straight = machine(BUSY, board(1, IdlePolicy::Warp), Quiet::default(), 350_000, None);
    straight.run();
    let mut stopped = machine(BUSY, board(1, IdlePolicy::Warp), Quiet::default(), 350_000, None);
    stopped.stop_handle().request();
    assert_eq!(stopped.run(), Stop::Requested);
    assert_eq!(stopped.run(), Stop::Limit);
    assert_eq!(stopped.digest(), straight.digest());
}
