//! A board with a few registers, and as much of an assembler as the tests need.

use std::rc::Rc;

use crate::{AccessFault, Bus, Cluster, Entry, ExitReason, GuestRam, HartConfig, Observation};

pub(super) const BASE: u64 = 0x8000_0000;
/// A device register that reads 0x42.
pub(super) const PORT: u64 = 0x1000_0000;
/// Where machine-mode traps go, unless a test says otherwise.
pub(super) const HANDLER: u64 = BASE + 0x3000;

/// What the devices of the board do.
#[derive(Default)]
pub(super) struct Board {
    /// Stores seen: address, value, icount.
    pub(super) stores: Vec<(u64, u64, u64)>,
    /// A store to `PORT` is answered with this DMA.
    pub(super) dma: Option<(Rc<GuestRam>, u64, Vec<u8>)>,
    pub(super) attention: bool,
    /// What harts were seen to do.
    pub(super) observed: Vec<Observation>,
}

impl Bus for Board {
    fn load(&mut self, gpa: u64, size: u8, icount: u64) -> Result<u64, AccessFault> {
        match gpa {
            PORT => Ok(0x42 & (u64::MAX >> (64 - 8 * u32::from(size)))),
            // Reads as the position of the reader.
            _ if gpa == PORT + 8 => Ok(icount),
            _ => Err(AccessFault),
        }
    }

    fn store(&mut self, gpa: u64, _size: u8, value: u64, icount: u64) -> Result<(), AccessFault> {
        if !(PORT..PORT + 0x100).contains(&gpa) {
            return Err(AccessFault);
        }
        self.stores.push((gpa, value, icount));
        if let Some((ram, at, bytes)) = &self.dma {
            ram.write(*at, bytes).unwrap();
        }
        Ok(())
    }

    fn time(&mut self, icount: u64) -> u64 {
        icount / 10
    }

    fn attention(&self) -> bool {
        self.attention
    }

    fn observed(&mut self, what: &Observation) {
        self.observed.push(*what);
    }
}

/// A linear congruential generator's upper bits.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// A handler that goes on behind what trapped, by way of x30, and leaves a trace of these registers in x31.
pub(super) fn tracing_handler(registers: impl IntoIterator<Item = u32>) -> Vec<u32> {
    let mut handler = vec![csrrs(30, 0x341, 0), addi(30, 30, 4), csrrw(0, 0x341, 30)];
    handler.extend(registers.into_iter().map(|register| r(0x33, 0, 0, 31, 31, register)));
    handler.push(MRET);
    handler
}

/// Harts over 1 MiB of RAM.
pub(super) struct Bench {
    pub(super) ram: Rc<GuestRam>,
    pub(super) cluster: Cluster,
    pub(super) board: Board,
    pub(super) icount: u64,
}

impl Bench {
    pub(super) fn new(code: &[u32]) -> Bench {
        Bench::with(1, HartConfig::default(), code)
    }

    /// All harts start at `BASE` with their number in a0 and traps going to `HANDLER`.
    pub(super) fn with(harts: usize, config: HartConfig, code: &[u32]) -> Bench {
        let ram = GuestRam::new(BASE, 1 << 20).unwrap();
        let cluster = Cluster::new(config, harts, ram.clone());
        let mut bench = Bench { ram, cluster, board: Board::default(), icount: 0 };
        bench.put(BASE, code);
        for hart in 0..harts {
            bench.cluster.reset(hart, Entry { pc: BASE, a0: hart as u64, ..Entry::default() });
            bench.set_field(hart, "mtvec", HANDLER);
        }
        bench
    }

    pub(super) fn put(&self, at: u64, code: &[u32]) {
        let bytes: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.ram.write(at, &bytes).unwrap();
    }

    pub(super) fn put_u64(&self, at: u64, value: u64) {
        self.ram.write(at, &value.to_le_bytes()).unwrap();
    }

    pub(super) fn get_u64(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.ram.read(at, &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    }

    /// Attempts `count` instructions, or fewer if the hart leaves.
    pub(super) fn step(&mut self, count: u64) -> ExitReason {
        self.step_hart(0, count)
    }

    /// Attempts exactly `count` instructions, however often the hart asks for attention.
    pub(super) fn steps(&mut self, count: u64) {
        let end = self.icount + count;
        while self.icount < end {
            let left = end - self.icount;
            assert_ne!(self.step(left), ExitReason::Wfi);
        }
    }

    /// Attempts as many instructions as it takes to have attempted `end`, so many at a time at most.
    pub(super) fn run_in_slices(&mut self, end: u64, slice: u64) {
        while self.icount < end {
            let left = (end - self.icount).min(slice);
            self.steps(left);
        }
    }

    pub(super) fn step_hart(&mut self, hart: usize, count: u64) -> ExitReason {
        let exit = self.cluster.run(hart, &mut self.board, self.icount, self.icount + count);
        assert!(exit.icount <= self.icount + count, "ran past the limit");
        assert!(
            exit.reason != ExitReason::Limit || exit.icount == self.icount + count,
            "stopped short of the limit"
        );
        self.icount = exit.icount;
        exit.reason
    }

    pub(super) fn x(&self, register: usize) -> u64 {
        self.cluster.x(0, register)
    }

    /// A saved field that is one number.
    pub(super) fn field(&self, name: &str) -> u64 {
        let fields = self.cluster.save(0);
        let (_, bytes) = fields.into_iter().find(|(field, _)| field == name).unwrap();
        u64::from_le_bytes(bytes.try_into().unwrap())
    }

    /// The last PMP entry lets hart 0 reach everything from every mode.
    pub(super) fn allow_everything(&mut self) {
        let mut fields = self.cluster.save(0);
        for (name, bytes) in &mut fields {
            match name.as_str() {
                "pmpcfg" => bytes[15] = 0x1f,
                "pmpaddr" => bytes[15 * 8..].copy_from_slice(&(!0_u64 >> 10).to_le_bytes()),
                _ => {}
            }
        }
        self.cluster.load(0, &fields).unwrap();
    }

    pub(super) fn set_field(&mut self, hart: usize, name: &str, value: u64) {
        let mut fields = self.cluster.save(hart);
        let field = fields.iter_mut().find(|(field, _)| field == name).unwrap();
        field.1 = value.to_le_bytes().to_vec();
        self.cluster.load(hart, &fields).unwrap();
    }
}

// An assembler of the formats.

pub(super) fn r(opcode: u32, funct3: u32, funct7: u32, rd: u32, rs1: u32, rs2: u32) -> u32 {
    opcode | rd << 7 | funct3 << 12 | rs1 << 15 | rs2 << 20 | funct7 << 25
}
pub(super) fn i(opcode: u32, funct3: u32, rd: u32, rs1: u32, imm: i32) -> u32 {
    opcode | rd << 7 | funct3 << 12 | rs1 << 15 | (imm as u32) << 20
}
pub(super) fn addi(rd: u32, rs1: u32, imm: i32) -> u32 {
    i(0x13, 0, rd, rs1, imm)
}
pub(super) fn lui(rd: u32, imm: u32) -> u32 {
    0x37 | rd << 7 | imm << 12
}
pub(super) fn slli(rd: u32, rs1: u32, by: i32) -> u32 {
    i(0x13, 1, rd, rs1, by)
}
pub(super) fn ld(rd: u32, rs1: u32, imm: i32) -> u32 {
    i(0x03, 3, rd, rs1, imm)
}
fn store(funct3: u32, rs2: u32, rs1: u32, imm: i32) -> u32 {
    let imm = imm as u32;
    0x23 | (imm & 31) << 7 | funct3 << 12 | rs1 << 15 | rs2 << 20 | (imm >> 5) << 25
}
pub(super) fn sw(rs2: u32, rs1: u32, imm: i32) -> u32 {
    store(2, rs2, rs1, imm)
}
pub(super) fn sd(rs2: u32, rs1: u32, imm: i32) -> u32 {
    store(3, rs2, rs1, imm)
}
pub(super) fn branch(funct3: u32, rs1: u32, rs2: u32, imm: i32) -> u32 {
    let imm = imm as u32;
    let low = (imm >> 1 & 15) << 8 | (imm >> 11 & 1) << 7;
    0x63 | low | funct3 << 12 | rs1 << 15 | rs2 << 20 | (imm >> 5 & 63) << 25 | (imm >> 12 & 1) << 31
}
pub(super) fn jal(rd: u32, imm: i32) -> u32 {
    let imm = imm as u32;
    let high = (imm >> 1 & 0x3ff) << 21 | (imm >> 20 & 1) << 31;
    0x6f | rd << 7 | (imm >> 12 & 0xff) << 12 | (imm >> 11 & 1) << 20 | high
}
pub(super) fn csrrw(rd: u32, csr: u32, rs1: u32) -> u32 {
    i(0x73, 1, rd, rs1, csr as i32)
}
pub(super) fn csrrs(rd: u32, csr: u32, rs1: u32) -> u32 {
    i(0x73, 2, rd, rs1, csr as i32)
}
pub(super) fn csrrc(rd: u32, csr: u32, rs1: u32) -> u32 {
    i(0x73, 3, rd, rs1, csr as i32)
}
pub(super) const ECALL: u32 = 0x0000_0073;
pub(super) const MRET: u32 = 0x3020_0073;
pub(super) const SRET: u32 = 0x1020_0073;
pub(super) const WFI: u32 = 0x1050_0073;
pub(super) const NOP: u32 = 0x0000_0013;
/// Jump to self.
pub(super) const SPIN: u32 = 0x0000_006f;
