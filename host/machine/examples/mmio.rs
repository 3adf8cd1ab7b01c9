//! What a plugin costs: a guest reads a UART's line status over and over, once from the plugin `ns16550a` on a
//! machine, and once from a bus that answers by a direct call, on the same harts.
//!
//! `cargo build --release --workspace; cargo run --release -p reprise-machine --example mmio -- [ROUNDS]`
//!
//! Both are timed in turn; what counts is the difference of the medians. It has everything that lies between a hart
//! and a device in a library: the address map, the clock, the context, two calls through tables, and the guard
//! against panics.
#![expect(
    clippy::disallowed_methods,
    reason = "a tool for developers: it reads files, arguments and the clock"
)]
#![expect(clippy::print_stdout, reason = "a tool for developers: it prints")]

use reprise_cpu::{AccessFault, Bus, Cluster, Entry, GuestRam, HartConfig};
use reprise_machine::{
    Gate, Input, LogRecord, Machine, Outside, Seed, Setup, Stop,
    board::{Board, DeviceSpec, DiskTiming, IdlePolicy, IsaSpec, MachineSpec, Mmu},
    boot::Placement,
    plugin::{Plugin, PluginFile},
};
use std::{borrow::Cow, collections::BTreeMap, env, fs, hint::black_box, time::Instant};

const RAM: u64 = 0x8000_0000;
const RAM_BYTES: u64 = 1 << 20;
const UART: u64 = 0x1000_0000;
/// `lui a1,0x10000; 1: lbu a0,5(a1); add a2,a2,a0; addi t0,t0,1; bne t0,x0,1b`.
const CODE: [u32; 5] = [0x1000_05b7, 0x0055_c503, 0x00a6_0633, 0x0012_8293, 0xfe02_9ae3];
const READS: u64 = 4_000_000;
/// The loop has four instructions.
const INSTRUCTIONS: u64 = 4 * READS;

/// Nobody is there.
struct Nobody;

impl Outside for Nobody {
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
    fn alarm_ns(&self) -> Option<u64> {
        None
    }
    fn log(&mut self, record: &LogRecord) {
        panic!("unexpected log line: {record:?}");
    }
}

/// The same registers without a plugin.
#[derive(Default)]
struct Direct {
    reads: u64,
}

impl Direct {
    #[inline(never)]
    fn line_status(&mut self, offset: u64) -> u64 {
        self.reads += 1;
        if offset == 5 { 0x60 } else { 0 }
    }
}

impl Bus for Direct {
    fn load(&mut self, gpa: u64, _size: u8, _icount: u64) -> Result<u64, AccessFault> {
        Ok(self.line_status(black_box(gpa - UART)))
    }

    fn store(&mut self, _gpa: u64, _size: u8, _value: u64, _icount: u64) -> Result<(), AccessFault> {
        Err(AccessFault)
    }

    fn time(&mut self, icount: u64) -> u64 {
        icount
    }

    fn attention(&self) -> bool {
        false
    }
}

fn code() -> Vec<u8> {
    CODE.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn uart(plugin: &Plugin) -> DeviceSpec {
    let kind = plugin.kinds()[0].kind.clone();
    let config_json = "{}".to_owned();
    let desc = plugin.describe_with(&kind, &config_json).expect("its options have defaults");
    let ports = vec![None; desc.ports.len()];
    DeviceSpec {
        id: "uart0".to_owned(),
        plugin: "ns16550a".to_owned(),
        kind,
        desc,
        bases: vec![UART],
        config_json,
        ports,
    }
}

fn board(device: DeviceSpec) -> Board {
    let machine = MachineSpec {
        name: "mmio".to_owned(),
        harts: 1,
        ram_base: RAM,
        ram_size: RAM_BYTES,
        shift: 0,
        timebase_hz: 10_000_000,
        idle: IdlePolicy::Warp,
        align: false,
        quantum: 1000,
        schedule_seed: 0,
        seed: None,
        isa: IsaSpec { svadu: true, sstc: true, zfh: true, mmu: Mmu::Sv57 },
        disk: DiskTiming { latency_ns: 0, bytes_per_second: 1 },
        nmi_vector: None,
        bootargs: None,
    };
    Board { machine, devices: vec![device], wires: Vec::new(), links: Vec::new(), networks: Vec::new() }
}

/// Nanoseconds for one turn of the loop, with the plugin.
fn with_plugin(plugin: &Plugin) -> f64 {
    let boot = || {
        Ok(Placement {
            chunks: vec![(RAM, Cow::Owned(code()))],
            entry: RAM,
            dtb_gpa: 0,
            fw_dynamic_gpa: None,
            symbols: Vec::new(),
        })
    };
    let setup = Setup {
        board: board(uart(plugin)),
        plugins: BTreeMap::from([("ns16550a".to_owned(), plugin.clone())]),
        boot: Box::new(boot),
        disks: BTreeMap::new(),
        outside: Box::new(Nobody),
        gate: Gate::live(Seed::from_number(1)),
        digest_every: None,
        icount_limit: Some(INSTRUCTIONS),
        engine: None,
        chaos_seed: None,
    };
    let mut machine = Machine::new(setup).expect("a machine with a UART");
    let begun = Instant::now();
    assert_eq!(machine.run(), Stop::Limit);
    begun.elapsed().as_nanos() as f64 / READS as f64
}

/// The same with the direct call.
fn direct() -> f64 {
    let ram = GuestRam::new(RAM, RAM_BYTES).expect("guest memory");
    ram.write(RAM, &code()).expect("it has room");
    let mut cluster = Cluster::new(HartConfig::default(), 1, ram);
    cluster.reset(0, Entry { pc: RAM, ..Entry::default() });
    let (mut bus, mut icount) = (Direct::default(), 0);
    let begun = Instant::now();
    while icount < INSTRUCTIONS {
        icount = cluster.run(0, &mut bus, icount, INSTRUCTIONS).icount;
    }
    let took = begun.elapsed().as_nanos() as f64 / READS as f64;
    assert!(bus.reads.abs_diff(READS) < 2, "{}", bus.reads);
    took
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn main() {
    let rounds = env::args().nth(1).map_or(11, |n| n.parse().expect("a number of rounds"));
    let exe = env::current_exe().expect("this file");
    let folder = exe.ancestors().nth(2).expect("the build's folder");
    let file = folder.join("libreprise_plugin_ns16550a.so");
    let plugin = PluginFile::load("ns16550a", &fs::read(file).expect("`cargo build --release --workspace`"));
    let plugin = plugin.expect("a plugin");
    let (mut through, mut without) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        through.push(with_plugin(&plugin));
        without.push(direct());
    }
    let (through, without) = (median(through), median(without));
    println!("ns per turn, medians of {rounds}: plugin {through:.1}, direct call {without:.1}");
    println!("a plugin costs {:.1} ns", through - without);
}
