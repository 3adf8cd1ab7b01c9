//! A machine that programs are run on, one after the other: harts, RAM and devices that hide nothing.

use super::program::{Program, RAM_SIZE};
use crate::hart::Hart;
use crate::tests::support::{BASE, PORT};
use crate::{
    AccessFault, Bus, Cluster, Engine, Exit, F_NAMES, Follower, GuestRam, HartConfig, Irq, Observation,
    Refused, X_NAMES,
};
use std::rc::Rc;

/// Ticks of `time` in an instruction.
const TICK: u64 = 10;

/// An access that a device saw: what, where, how much, at which instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Access {
    what: char,
    gpa: u64,
    size: u8,
    value: u64,
    icount: u64,
}

/// One device of many registers. Every access counts, so one too many is seen by all that follow.
pub(super) struct Devices {
    ram: Rc<GuestRam>,
    accesses: Vec<Access>,
    attention: bool,
    dma_address: u64,
    wires: u64,
    /// What harts were seen to do: instructions in blocks, accesses, exceptions.
    pub(super) seen: [u64; 3],
}

impl Devices {
    fn note(&mut self, what: char, gpa: u64, size: u8, value: u64, icount: u64) {
        self.accesses.push(Access { what, gpa, size, value, icount });
    }
}

impl Bus for Devices {
    fn load(&mut self, gpa: u64, size: u8, icount: u64) -> Result<u64, AccessFault> {
        let offset = gpa.wrapping_sub(PORT);
        if offset >= 0x400 {
            return Err(AccessFault);
        }
        let value = (icount + self.accesses.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ gpa;
        let value = value >> (64 - 8 * u32::from(size));
        self.note('L', gpa, size, value, icount);
        self.attention |= offset & !7 == 0x200;
        Ok(value)
    }

    fn store(&mut self, gpa: u64, size: u8, value: u64, icount: u64) -> Result<(), AccessFault> {
        let offset = gpa.wrapping_sub(PORT);
        if offset >= 0x400 {
            return Err(AccessFault);
        }
        self.note('S', gpa, size, value, icount);
        match offset & !7 {
            0x200 => self.attention = true,
            // By any of its addresses.
            0x210 => self.dma_address = BASE + value % RAM_SIZE,
            0x218 => {
                // Outside RAM it is written nowhere.
                let _ = self.ram.write(self.dma_address, &value.to_le_bytes()[..size.into()]);
            }
            0x220 => {
                self.wires = value;
                self.attention = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn time(&mut self, icount: u64) -> u64 {
        icount / TICK
    }

    fn attention(&self) -> bool {
        self.attention
    }

    fn refused(&mut self, access: Refused) {
        self.note('R', access.gpa, access.size, access.pc, access.icount);
    }

    fn observed(&mut self, what: &Observation) {
        match what {
            Observation::Block(run) => self.seen[0] += run.instructions,
            Observation::Access(_) => self.seen[1] += 1,
            Observation::Return(_) => {}
            Observation::Trap(trap) => self.seen[2] += u64::from(trap.cause >> 63 == 0),
        }
    }
}

/// What must not matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Meddle {
    Nothing,
    DropCaches,
    SaveAndLoad,
    TakeDirty,
    Engine(Engine),
}

/// One machine.
pub(super) struct World {
    pub(super) ram: Rc<GuestRam>,
    pub(super) cluster: Cluster,
    pub(super) devices: Devices,
    pub(super) icount: u64,
    pub(super) engine: Engine,
    /// The fields of each hart after a reset.
    pristine: Vec<Vec<(String, Vec<u8>)>>,
    memory: Vec<u8>,
}

impl World {
    /// `engine`: what it runs on; where the host has it not, on the interpreter.
    pub(super) fn new(config: HartConfig, harts: usize, engine: Engine) -> World {
        let ram = GuestRam::new(BASE, RAM_SIZE).unwrap();
        let mut cluster = Cluster::new(config, harts, ram.clone());
        let engine = if cluster.set_engine(engine).is_ok() { engine } else { Engine::Interp };
        let pristine = (0..harts).map(|hart| cluster.save(hart)).collect();
        let devices = Devices {
            ram: ram.clone(),
            accesses: Vec::new(),
            attention: false,
            dma_address: BASE,
            wires: 0,
            seen: [0; 3],
        };
        World { ram, cluster, devices, icount: 0, engine, pristine, memory: vec![0; RAM_SIZE as usize] }
    }

    /// Forgets everything, and has the program.
    pub(super) fn load(&mut self, program: &Program) {
        self.ram.write(BASE, &program.ram).unwrap();
        for hart in 0..self.cluster.harts() {
            let mut fields = self.pristine[hart].clone();
            for (name, bytes) in &mut fields {
                let words = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
                match name.as_str() {
                    "x" => *bytes = words(&program.x[hart]),
                    "f" => *bytes = words(&program.f[hart]),
                    // The last entry allows everything.
                    "pmpcfg" => bytes[15] = 0x1f,
                    "pmpaddr" => bytes[15 * 8..].copy_from_slice(&(!0_u64 >> 10).to_le_bytes()),
                    name => {
                        let number = program.numbers.iter().find(|(other, _)| *other == name);
                        number.inspect(|(_, number)| *bytes = words(&[*number]));
                    }
                }
            }
            self.cluster.load(hart, &fields).unwrap();
            self.set_wires(hart, 0);
        }
        self.cluster.drop_caches();
        self.cluster.set_engine(self.engine).unwrap();
        self.devices.accesses.clear();
        self.devices.attention = false;
        self.devices.wires = 0;
        self.devices.dma_address = BASE;
        self.icount = 0;
    }

    fn set_wires(&mut self, hart: usize, wires: u64) {
        for (bit, line) in [Irq::Ssip, Irq::Msip, Irq::Mtip, Irq::Seip, Irq::Meip].into_iter().enumerate() {
            self.cluster.set_irq(hart, line, wires >> bit & 1 != 0);
        }
    }

    pub(super) fn meddle(&mut self, how: Meddle) {
        match how {
            Meddle::Nothing => {}
            Meddle::DropCaches => self.cluster.drop_caches(),
            Meddle::TakeDirty => self.ram.take_dirty(Follower::Digest, |_| {}),
            Meddle::SaveAndLoad => {
                for hart in 0..self.cluster.harts() {
                    let fields = self.cluster.save(hart);
                    self.cluster.load(hart, &fields).unwrap();
                }
            }
            Meddle::Engine(engine) if self.engine != Engine::Interp => {
                self.cluster.set_engine(engine).unwrap()
            }
            Meddle::Engine(_) => {}
        }
    }

    /// Runs a hart up to an instruction, or to where it leaves before; what the board does at such a place is done
    /// first.
    pub(super) fn run(&mut self, hart: usize, wires: u64, limit: u64) -> Exit {
        self.devices.attention = false;
        self.set_wires(hart, wires ^ self.devices.wires);
        for hart in 0..self.cluster.harts() {
            self.cluster.set_time(hart, self.icount / TICK);
        }
        let deadline = self.cluster.stimecmp(hart).map_or(u64::MAX, |ticks| ticks.saturating_mul(TICK));
        let limit = if deadline > self.icount { limit.min(deadline) } else { limit };
        let exit = self.cluster.run(hart, &mut self.devices, self.icount, limit);
        assert!(exit.icount <= limit, "ran past the limit: {exit:?}, {limit}");
        self.icount = exit.icount;
        exit
    }

    fn read_memory(&mut self) -> &[u8] {
        self.ram.read(BASE, &mut self.memory).unwrap();
        &self.memory
    }
}

/// Whether what changes all the time is the same.
fn alike(a: &Hart, b: &Hart) -> bool {
    (a.pc, a.privilege, a.fcsr, a.mstatus) == (b.pc, b.privilege, b.fcsr, b.mstatus)
        && a.registers() == b.registers()
        && (&a.csr, &a.counters, &a.interrupts) == (&b.csr, &b.counters, &b.interrupts)
}

/// What one has and the other has not, in words. `thoroughly`: also what takes long to compare, as memory does.
pub(super) fn differences(a: &mut World, b: &mut World, thoroughly: bool) -> Vec<String> {
    let mut found = Vec::new();
    let harts = 0..a.cluster.harts();
    for hart in harts.filter(|&hart| thoroughly || !alike(a.cluster.hart(hart), b.cluster.hart(hart))) {
        for ((name, x), (_, y)) in
            a.cluster.save(hart).iter().zip(&b.cluster.save(hart)).filter(|(x, y)| x != y)
        {
            let words = x.chunks(8).zip(y.chunks(8)).enumerate().filter(|(_, (x, y))| x != y);
            found.extend(words.map(|(index, (x, y))| {
                let name = match name.as_str() {
                    "x" => format!("x{index} ({})", X_NAMES[index]),
                    "f" => format!("f{index} ({})", F_NAMES[index]),
                    name => name.to_owned(),
                };
                format!("hart {hart} {name}: {:#x}, not {:#x}", word(y), word(x))
            }));
        }
    }
    let (x, y) = (&a.devices.accesses, &b.devices.accesses);
    if x.len() != y.len() || x.last() != y.last() || (thoroughly && x != y) {
        let at = x.iter().zip(y).position(|(x, y)| x != y).unwrap_or(x.len().min(y.len()));
        found.push(format!("access {at} of devices: {:x?}, not {:x?}", y.get(at), x.get(at)));
    }
    if thoroughly && a.read_memory() != b.read_memory() {
        let words = a.memory.chunks(8).zip(b.memory.chunks(8)).enumerate().filter(|(_, (x, y))| x != y);
        found.extend(words.take(8).map(|(at, (x, y))| {
            format!("memory at {:#x}: {:#x}, not {:#x}", BASE + at as u64 * 8, word(y), word(x))
        }));
    }
    found
}

fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}
