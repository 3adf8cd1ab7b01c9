//! Runs bare ELF files on harts with nothing around them but a UART that prints, a CLINT, a test finisher and
//! `tohost`: riscv-tests and benchmarks without a machine.
//!
//! `cargo run --release -p reprise-cpu --example bare -- [OPTION]... ELF...`
//!
//! `--engine E` chooses what runs them, `--slice N` ends each run after at most N instructions, `--drop N` drops all
//! caches about every N instructions, `--stack KIB` is the size of the stack they are run on: none of it may change
//! anything. `--quiet` is silent about what ends well. The exit code is the number of files that did not.
#![expect(
    clippy::disallowed_methods,
    reason = "a tool for developers: it reads files, arguments and the clock"
)]
#![expect(clippy::print_stdout, reason = "a tool for developers: it prints")]

use std::io::Write as _;
use std::rc::Rc;
use std::time::Instant;

use reprise_cpu::{AccessFault, Bus, Cluster, Engine, Entry, ExitReason, GuestRam, HartConfig, Irq};

const RAM_BASE: u64 = 0x8000_0000;
const RAM_SIZE: u64 = 256 << 20;
const UART: u64 = 0x1000_0000;
const FINISHER: u64 = 0x10_0000;
const CLINT: u64 = 0x200_0000;
const MTIMECMP: u64 = CLINT + 0x4000;
const MTIME: u64 = CLINT + 0xbff8;
/// As QEMU's: 10 MHz, at one instruction per nanosecond.
const TICK: u64 = 100;
/// No test is longer; a benchmark may be.
const PATIENCE: u64 = 20_000_000_000;

struct Board {
    quiet: bool,
    msip: bool,
    mtimecmp: u64,
    /// What the finisher was told.
    finished: Option<u64>,
    attention: bool,
}

impl Bus for Board {
    fn load(&mut self, gpa: u64, _size: u8, icount: u64) -> Result<u64, AccessFault> {
        match gpa {
            CLINT => Ok(self.msip.into()),
            MTIMECMP => Ok(self.mtimecmp),
            MTIME => Ok(icount / TICK),
            // Line status: both transmitter bits.
            _ if gpa == UART + 5 => Ok(0x60),
            UART..=0x1000_00ff => Ok(0),
            _ => Err(AccessFault),
        }
    }

    fn store(&mut self, gpa: u64, _size: u8, value: u64, _icount: u64) -> Result<(), AccessFault> {
        match gpa {
            CLINT => self.msip = value & 1 != 0,
            MTIMECMP => self.mtimecmp = value,
            FINISHER => self.finished = Some(value),
            UART if self.quiet => {}
            UART => std::io::stdout().write_all(&[value as u8]).expect("stdout takes output"),
            0x1000_0001..=0x1000_00ff => {}
            _ => return Err(AccessFault),
        }
        self.attention = gpa != UART;
        Ok(())
    }

    fn time(&mut self, icount: u64) -> u64 {
        icount / TICK
    }

    fn attention(&self) -> bool {
        self.attention
    }
}

/// What a loader needs of a 64-bit little-endian ELF file.
struct Elf {
    bytes: Vec<u8>,
}

impl Elf {
    fn word(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.bytes[at as usize..][..8].try_into().expect("eight bytes"))
    }

    fn half(&self, at: u64) -> u64 {
        self.word(at) & 0xffff
    }

    fn load(&self, ram: &GuestRam) -> u64 {
        for header in (0..self.half(56)).map(|i| self.word(32) + i * self.half(54)) {
            let (offset, addr, size) =
                (self.word(header + 8), self.word(header + 24), self.word(header + 32));
            if self.word(header) & 0xffff_ffff == 1 {
                ram.write(addr, &self.bytes[offset as usize..][..size as usize]).expect("a segment in RAM");
            }
        }
        self.word(24)
    }

    /// The value of the symbol `tohost`.
    fn tohost(&self) -> Option<u64> {
        let sections: Vec<u64> = (0..self.half(60)).map(|i| self.word(40) + i * self.half(58)).collect();
        for &table in sections.iter().filter(|&&at| self.word(at + 4) & 0xffff_ffff == 2) {
            let names = self.word(sections[self.half(table + 40) as usize] + 24);
            let (start, size) = (self.word(table + 24), self.word(table + 32));
            for symbol in (start..start + size).step_by(24) {
                let name = names + (self.word(symbol) & 0xffff_ffff);
                if self.bytes[name as usize..].starts_with(b"tohost\0") {
                    return Some(self.word(symbol + 8));
                }
            }
        }
        None
    }
}

#[derive(Clone, Copy)]
struct Options {
    engine: Engine,
    slice: u64,
    drop: u64,
    quiet: bool,
}

/// Runs one file. Returns whether it ended well, how, and how many instructions it attempted.
fn run(path: &str, options: &Options) -> (bool, String, u64) {
    let elf = Elf { bytes: std::fs::read(path).expect("a readable file") };
    let ram: Rc<GuestRam> = GuestRam::new(RAM_BASE, RAM_SIZE).expect("guest memory");
    let entry = elf.load(&ram);
    let tohost = elf.tohost();
    let mut cluster = Cluster::new(HartConfig::default(), 1, ram.clone());
    cluster.set_engine(options.engine).expect("an engine that this host has");
    cluster.reset(0, Entry { pc: entry, ..Entry::default() });
    let mut bus =
        Board { quiet: options.quiet, msip: false, mtimecmp: u64::MAX, finished: None, attention: false };
    let mut icount = 0;
    let mut seed = 1u64;
    loop {
        bus.attention = false;
        let time = icount / TICK;
        cluster.set_irq(0, Irq::Msip, bus.msip);
        cluster.set_irq(0, Irq::Mtip, time >= bus.mtimecmp);
        cluster.set_time(0, time);
        let next =
            [bus.mtimecmp, cluster.stimecmp(0).unwrap_or(u64::MAX)].into_iter().filter(|&at| at > time).min();
        let deadline = next.unwrap_or(u64::MAX).saturating_mul(TICK);
        let exit = cluster.run(0, &mut bus, icount, deadline.min(icount.saturating_add(options.slice)));
        icount = exit.icount;
        if let Some(how) = verdict(&bus, tohost, &ram) {
            return (how == "pass", how, icount);
        }
        if exit.reason == ExitReason::Wfi && !cluster.has_pending(0) {
            if deadline == u64::MAX {
                return (false, format!("asleep at {:#x}", cluster.pc(0)), icount);
            }
            icount = deadline;
        }
        if icount > PATIENCE {
            return (false, format!("endless at {:#x}", cluster.pc(0)), icount);
        }
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        if options.drop != 0 && seed.is_multiple_of(options.drop.div_ceil(options.slice)) {
            cluster.drop_caches();
        }
    }
}

fn verdict(bus: &Board, tohost: Option<u64>, ram: &GuestRam) -> Option<String> {
    let mut told = [0; 8];
    if let Some(at) = tohost {
        ram.read(at, &mut told).expect("tohost in RAM");
    }
    match (bus.finished, u64::from_le_bytes(told)) {
        (Some(0x5555), _) | (_, 1) => Some("pass".into()),
        (Some(code), _) => Some(format!("finisher {code:#x}")),
        (_, 0) => None,
        (_, told) => Some(format!("test {}", told >> 1)),
    }
}

/// [`run`] on a stack of so many KiB.
fn run_on_stack(path: &str, options: Options, stack: usize) -> (bool, String, u64) {
    let path = path.to_owned();
    let thread = std::thread::Builder::new().stack_size(stack << 10);
    let thread = thread.spawn(move || run(&path, &options)).expect("a thread");
    thread.join().expect("it does not panic")
}

fn main() {
    let (mut options, mut stack) =
        (Options { engine: Engine::Interp, slice: 1 << 16, drop: 0, quiet: false }, 8192);
    let mut files = Vec::new();
    let mut args = std::env::args().skip(1);
    let number = |text: Option<String>| text.and_then(|text| text.parse().ok()).expect("a number");
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--engine" => options.engine = args.next().and_then(|name| name.parse().ok()).expect("an engine"),
            "--stack" => stack = number(args.next()) as usize,
            "--slice" => options.slice = number(args.next()),
            "--drop" => options.drop = number(args.next()),
            "--quiet" => options.quiet = true,
            _ => files.push(arg),
        }
    }
    let mut bad = 0;
    for path in &files {
        let start = Instant::now();
        let (good, how, icount) = run_on_stack(path, options, stack);
        bad += i32::from(!good);
        if !good || !options.quiet {
            let mips = icount as f64 / start.elapsed().as_secs_f64() / 1e6;
            println!("{path}: {how}, {icount} instructions, {mips:.0} MIPS");
        }
    }
    println!("{} of {} passed", files.len() as i32 - bad, files.len());
    std::process::exit(bad.min(100));
}
