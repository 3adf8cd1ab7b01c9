use super::*;
use crate::{
    board::{Board, DiskTiming, IsaSpec, MachineSpec, Mmu},
    boot::Placement,
    log::LogRecord,
    machine::Setup,
    outside::{ControlInput, Input, Outside},
};
use reprise_replay::{Gate, Seed};
use std::{borrow::Cow, cell::RefCell, collections::BTreeMap, rc::Rc};

pub(crate) const RAM: u64 = 0x8000_0000;

/// `menvcfg.STCE` on, `mie.STIE` on: `li t0,1; slli t0,t0,63; csrw menvcfg,t0; li t0,32; csrw mie,t0`.
const SSTC: [u32; 5] = [0x0010_0293, 0x03f2_9293, 0x30a2_9073, 0x0200_0293, 0x3042_9073];
/// `csrw stimecmp,a1`.
const SET_STIMECMP: u32 = 0x14d5_9073;
/// `wfi`.
const WFI: u32 = 0x1050_0073;

/// What arrives, in batches: one for each time that the machine asks. Host time passes only while somebody waits.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) batches: Vec<Vec<Input>>,
    pub(crate) now_ns: u64,
    /// Host time that passes at each question.
    pub(crate) slow_ns: u64,
    pub(crate) answers: bool,
    pub(crate) lines: Rc<RefCell<Vec<(u64, String)>>>,
}

impl Outside for Script {
    fn realtime_ns(&mut self) -> u64 {
        self.now_ns
    }
    fn host_clock_ns(&mut self) -> u64 {
        0
    }
    fn poll(&mut self, inbox: &mut Vec<Input>) {
        self.now_ns += self.slow_ns;
        if !self.batches.is_empty() {
            inbox.append(&mut self.batches.remove(0));
        }
    }
    fn wait(&mut self, timeout_ns: Option<u64>) {
        self.now_ns += timeout_ns.expect("this test never waits for ever");
    }
    fn can_answer(&self) -> bool {
        self.answers
    }
    fn port_write(&mut self, _device: &str, _port: &str, _data: &[u8]) {}
    fn port_taken(&mut self, _device: &str, _port: &str, _taken: usize) {}
    fn publish(&mut self, _vtime_ns: u64, _running: bool) {}
    fn log(&mut self, record: &LogRecord) {
        self.lines.borrow_mut().push((record.vtime_ns, record.text.clone()));
    }
}

pub(crate) fn board(shift: u8, idle: IdlePolicy) -> Board {
    Board {
        machine: MachineSpec {
            name: "test".into(),
            harts: 1,
            ram_base: RAM,
            ram_size: 1 << 20,
            shift,
            timebase_hz: 10_000_000,
            idle,
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

/// A machine whose hart starts with `a1` in a1.
fn machine(code: &[u32], a1: u64, board: Board, outside: Script, chaos_seed: Option<u64>) -> Machine {
    machine_at(code, a1, board, outside, chaos_seed, Gate::live(Seed::from_number(1)), None)
}

/// The same at a gate of the caller's.
pub(crate) fn machine_at(
    code: &[u32],
    a1: u64,
    board: Board,
    outside: Script,
    chaos_seed: Option<u64>,
    gate: Gate,
    digest_every: Option<u64>,
) -> Machine {
    let setup = setup_at(code, a1, board, outside, chaos_seed, gate, digest_every);
    Machine::new(setup).expect("a machine without devices can be built")
}

/// What such a machine is built from.
pub(crate) fn setup_at(
    code: &[u32],
    a1: u64,
    board: Board,
    outside: Script,
    chaos_seed: Option<u64>,
    gate: Gate,
    digest_every: Option<u64>,
) -> Setup {
    let bytes: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
    let boot = move || {
        Ok(Placement {
            chunks: vec![(RAM, Cow::Owned(bytes.clone()))],
            entry: RAM,
            dtb_gpa: a1,
            fw_dynamic_gpa: None,
            symbols: Vec::new(),
        })
    };
    Setup {
        board,
        plugins: BTreeMap::new(),
        boot: Box::new(boot),
        disks: BTreeMap::new(),
        outside: Box::new(outside),
        gate,
        digest_every,
        icount_limit: Some(300_000),
        engine: None,
        chaos_seed,
    }
}

fn button(button: ControlInput) -> Input {
    Input::Control(button)
}

fn hart_field(m: &Machine, name: &str) -> u64 {
    let fields = m.cluster.save(0);
    let (_, bytes) = fields.iter().find(|(field, _)| field == name).unwrap();
    u64::from_le_bytes(bytes.as_slice().try_into().unwrap())
}

/// Adds a word of memory up, is busy for a while, and sleeps for 5 µs; again and again.
pub(crate) fn sleeper_loop() -> Vec<u32> {
    // auipc s1,1; 1: csrr a1,time; addi a1,a1,50
    // csrw stimecmp,a1; wfi; ld t1,4(s1); add s0,s0,t1
    // li t2,200; 2: addi t2,t2,-1; bnez t2,2b; j 1b
    let body = [
        0x0000_1497,
        0xc010_25f3,
        0x0325_8593,
        SET_STIMECMP,
        WFI,
        0x0044_b303,
        0x0064_0433,
        0x0c80_0393,
        0xfff3_8393,
        0xfe03_9ee3,
        0xfddf_f06f,
    ];
    SSTC.into_iter().chain(body).collect()
}

/// Sets `stimecmp` to a1 and waits for ever.
pub(crate) fn sleeper() -> Vec<u32> {
    // wfi; j .-4
    SSTC.into_iter().chain([SET_STIMECMP, WFI, 0xffdf_f06f]).collect()
}

#[test]
fn a_guest_cannot_sleep_past_the_end_of_time() {
    // The last tick whose time in nanoseconds fits a u64, and some around it.
    let last = u64::MAX / 100;
    for tick in [last - 1, last, last + 1, u64::MAX - 1, u64::MAX, (1 << 63) / 100 + 1] {
        let mut m = machine(&sleeper(), tick, board(0, IdlePolicy::Warp), Script::default(), None);
        assert_eq!(m.run(), Stop::Deadlock, "tick {tick:#x}");
    }
}

#[test]
fn a_guest_may_sleep_nearly_as_long() {
    let tick = (1 << 63) / 100;
    let mut m = machine(&sleeper(), tick, board(10, IdlePolicy::Warp), Script::default(), None);
    // The interrupt is pending from then on, so `wfi` waits no more.
    assert_eq!(m.run(), Stop::Limit);
    assert!(m.status().vtime_ns >= tick * 100);
}

/// `mip` is added up for ever while `mtime` wraps to 0, which takes the timer interrupt back.
#[test]
fn time_that_wraps_is_seen_at_one_instruction() {
    // 1: csrr t1,mip; add s0,s0,t1; j 1b
    let code: Vec<u32> =
        SSTC.into_iter().chain([SET_STIMECMP, 0x3440_2373, 0x0064_0433, 0xff9f_f06f]).collect();
    let run = |chaos| {
        let mut m = machine(&code, 2, board(0, IdlePolicy::Warp), Script::default(), chaos);
        m.services.clock.set_time_offset(u64::MAX - 2000);
        assert_eq!(m.run(), Stop::Limit);
        m.digest()
    };
    let calm = run(None);
    for seed in 1..6 {
        assert_eq!(run(Some(seed)), calm, "chaos seed {seed}");
    }
}

#[test]
fn a_batch_of_inputs_is_the_same_as_one_after_the_other() {
    let after = |batches: Vec<Vec<Input>>| {
        let script = Script { batches, ..Script::default() };
        let mut m = machine(&sleeper(), u64::MAX, board(0, IdlePolicy::Warp), script, None);
        (m.run(), m.run(), m.status())
    };
    let buttons = || vec![button(ControlInput::Reset), button(ControlInput::PowerOff)];
    let batch = after(vec![buttons()]);
    assert_eq!(batch.0, Stop::PowerOff { code: 0 });
    assert_eq!(batch.1, Stop::Deadlock);
    // Nothing behind the button that ends the run is lost.
    let two = vec![button(ControlInput::PowerOff), button(ControlInput::PowerOff)];
    assert_eq!(after(vec![two]).1, Stop::PowerOff { code: 0 });
}

#[test]
fn what_came_before_the_line_went_dead_still_enters() {
    // The first question is at power-on; the button is pressed while the machine falls asleep.
    let batches = vec![vec![], vec![button(ControlInput::PowerOff)]];
    let script = Script { batches, ..Script::default() };
    let mut m = machine(&sleeper(), u64::MAX, board(0, IdlePolicy::Auto), script, None);
    assert_eq!(m.run(), Stop::PowerOff { code: 0 });
}

/// An input that arrives when the next deadline is due enters behind it, asleep as awake.
#[test]
fn inputs_enter_behind_the_safe_point_of_their_position() {
    for idle in [IdlePolicy::Warp, IdlePolicy::Pace] {
        let batches = vec![vec![], vec![button(ControlInput::PowerOff)]];
        let script = Script { batches, slow_ns: 1_000_000_000, answers: true, ..Script::default() };
        let mut m = machine(&sleeper(), 1000, board(0, idle), script, None);
        assert_eq!(m.run(), Stop::PowerOff { code: 0 });
        assert_eq!((m.status().vtime_ns, hart_field(&m, "mip_timer")), (100_000, 1 << 5), "{idle:?}");
    }
}

#[test]
fn warnings_have_the_time_of_their_instruction() {
    // auipc t0,0; addi t0,t0,12; csrw mtvec,t0; ld a5,0(x0): traps to itself for ever.
    let code = [0x0000_0297, 0x00c2_8293, 0x3052_9073, 0x0000_3783];
    let lines = |chaos| {
        let script = Script::default();
        let lines = Rc::clone(&script.lines);
        machine(&code, 0, board(10, IdlePolicy::Warp), script, chaos).run();
        lines.take()
    };
    let calm = lines(None);
    assert_eq!(calm[0].0, 3 << 10);
    assert_eq!(calm[1].0, 4 << 10);
    for seed in 1..4 {
        assert_eq!(lines(Some(seed)), calm, "chaos seed {seed}");
    }
}
