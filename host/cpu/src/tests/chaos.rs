//! Random programs, run whole, in pieces, with caches dropped, and through save and load: always to the same end.

use super::support::*;
use crate::isa::ROWS;
use crate::{Engine, Entry, ExitReason, GuestRam, HartConfig, Irq};

const INSTRUCTIONS: u64 = 60_000;
const PAGE: usize = 4096;
/// Instructions that are done again when going back.
const STRETCH: u64 = 500;
/// Instructions of a hart's turn; wires move at its ends.
const TURN: u64 = 100;
const CODE_SIZE: u64 = 0x1000;
const DATA: u64 = BASE + 0x8000;
const TABLES: u64 = BASE + 0x10000;
/// Of a second address space.
const OTHER_TABLES: u64 = BASE + 0x14000;

/// xorshift64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// Registers that keep pointing at something: code, data, the leaf table. The handler restores them.
const CODE_REG: u32 = 8;
const DATA_REG: u32 = 9;
const TABLE_REG: u32 = 18;
/// Where the handler continues, and what it counts.
const RESUME: u32 = 30;

fn random_word(dice: &mut Dice) -> u32 {
    let pointer = [CODE_REG, DATA_REG, DATA_REG, TABLE_REG][dice.roll(4) as usize];
    let near = dice.roll(0x300) as i32;
    let destination = 10 + dice.roll(8) as u32;
    let source = 10 + dice.roll(8) as u32;
    match dice.roll(16) {
        0..=4 => {
            let row = &ROWS[dice.roll(ROWS.len() as u64) as usize];
            let filling = dice.roll(1 << 32) as u32;
            // Registers x10 to x17, so that pointers live.
            let filling = filling & !(31 << 7) | destination << 7;
            row.encoding.bits | filling & !row.encoding.mask
        }
        5 => branch(
            [0, 1, 4, 5, 6, 7][dice.roll(6) as usize],
            source,
            destination,
            (dice.roll(64) as i32 - 24) & !1,
        ),
        6 => jal(if dice.roll(2) == 0 { 0 } else { 1 }, (dice.roll(256) as i32 - 64) & !1),
        7 | 8 => sd(source, pointer, near),
        9 => sw(source, pointer, near),
        10 | 11 => ld(destination, pointer, near),
        12 => {
            r(0x2f, 2 + (near as u32 & 1), [2, 3, 0, 1][dice.roll(4) as usize] << 2, destination, pointer, 0)
        }
        13 => {
            let csr =
                [0x300, 0x304, 0x344, 0x100, 0x104, 0x144, 0xb00, 0xb02, 0xc01, 0x14d, 0x320, 0x003, 0x30a];
            let csr = csr[dice.roll(13) as usize];
            [
                csrrw(destination, csr, source),
                csrrs(destination, csr, source),
                csrrc(destination, csr, source),
            ][dice.roll(3) as usize]
        }
        14 => [ECALL, MRET, SRET, WFI, 0x1200_0073, 0x0000_100f][dice.roll(6) as usize],
        // Two compressed instructions, or the halves of something.
        _ => dice.roll(1 << 32) as u32 & !0x0003_0000 | (dice.roll(3) as u32) << 16,
    }
}

/// M-mode handler: restores the pointers, closes with a mode and an address that depend on how often it ran.
fn handler() -> Vec<u32> {
    let point = |register, address: u64| [lui(register, (address >> 13) as u32), slli(register, register, 1)];
    let mut code = vec![addi(RESUME, RESUME, 38)];
    code.extend(point(CODE_REG, BASE));
    code.extend(point(DATA_REG, DATA));
    code.extend(point(TABLE_REG, TABLES + 0x2000));
    code.extend([
        // mepc = code + (count & 0x7fe)
        i(0x13, 7, 31, RESUME, 0x7fe),
        r(0x33, 0, 0, 31, 31, CODE_REG),
        csrrw(0, 0x341, 31),
        // mstatus = count << 8: the mode, and whatever else; and MPIE
        slli(31, RESUME, 8),
        i(0x13, 6, 31, 31, 0x80),
        csrrw(0, 0x300, 31),
        // satp: the one in x29, or the other, which x28 makes of it; and interrupts enabled, so that they come
        i(0x13, 5, 31, RESUME, 6),
        i(0x13, 7, 31, 31, 1),
        r(0x33, 0, 0x20, 31, 0, 31),
        r(0x33, 7, 0, 31, 31, 28),
        r(0x33, 4, 0, 31, 31, 29),
        csrrw(0, 0x180, 31),
        addi(31, 0, -1),
        csrrw(0, 0x304, 31),
        MRET,
    ]);
    code
}

fn bench(seed: u64, harts: usize) -> Bench {
    let mut dice = Dice(seed * 2 + 1);
    let words: Vec<u32> = (0..CODE_SIZE / 4).map(|_| random_word(&mut dice)).collect();
    let mut bench = Bench::with(harts, HartConfig::default(), &words);
    bench.put(HANDLER, &handler());
    // Sv39: RAM to itself by 4 KiB pages, so that every page's entry can be hit; and once more with other data.
    let data = (DATA - BASE) >> 12..(TABLES - BASE) >> 12;
    for (tables, elsewhere) in [(TABLES, 0), (OTHER_TABLES, 0x40)] {
        bench.put_u64(tables + 2 * 8, (tables + 0x1000) >> 12 << 10 | 1);
        bench.put_u64(tables + 0x1000, (tables + 0x2000) >> 12 << 10 | 1);
        for page in 0..256 {
            // Code and the data beside it go together, or programs get nowhere; in every other one they are U-mode's.
            let user = (if page == 0 || data.contains(&page) { seed % 2 } else { dice.roll(2) }) << 4;
            let there = if data.contains(&page) { page + elsewhere } else { page };
            bench.put_u64(tables + 0x2000 + page * 8, ((BASE >> 12) + there) << 10 | 0xcf | user);
        }
    }
    for hart in 0..harts {
        bench.cluster.reset(hart, Entry { pc: HANDLER, ..Entry::default() });
        bench.set_field(hart, "mtvec", HANDLER);
        bench.cluster.set_x(hart, 29, 8 << 60 | TABLES >> 12);
        bench.cluster.set_x(hart, 28, (TABLES ^ OTHER_TABLES) >> 12);
        bench.cluster.set_x(hart, RESUME as usize, hart as u64 * 0x400);
        super::privileged::open_pmp(&mut bench.cluster, hart);
    }
    bench
}

/// What the variants do between runs that must not matter.
#[derive(Clone, Copy, Debug)]
enum Meddle {
    Nothing,
    DropCaches,
    SaveAndLoad,
    /// The same harts do a stretch again, from what they were at its beginning.
    GoBack,
}

/// A moment to come back to.
struct Moment {
    harts: Vec<Vec<(String, Vec<u8>)>>,
    memory: Vec<u8>,
    icount: u64,
    dice: Dice,
}

impl Moment {
    /// Of everything that goes on from here.
    fn of(bench: &Bench, dice: &Dice) -> Moment {
        let harts = (0..bench.cluster.harts()).map(|hart| bench.cluster.save(hart)).collect();
        Moment { harts, memory: memory(&bench.ram), icount: bench.icount, dice: Dice(dice.0) }
    }

    /// Only what is different is written, as a snapshot does it.
    fn come_back(self, bench: &mut Bench, dice: &mut Dice) {
        for (page, there) in self.memory.chunks(PAGE).zip((BASE..).step_by(PAGE)) {
            let mut here = [0; PAGE];
            bench.ram.read(there, &mut here).unwrap();
            if here != page {
                bench.ram.write(there, page).unwrap();
            }
        }
        for (hart, state) in self.harts.iter().enumerate() {
            bench.cluster.load(hart, state).unwrap();
        }
        (bench.icount, dice.0) = (self.icount, self.dice.0);
    }
}

/// Everything that can be seen of the harts and RAM.
type Sight = (Vec<Vec<(String, Vec<u8>)>>, Vec<u8>);

/// Runs in slices of up to `slice`; wires move at fixed icounts, as a machine's deadlines do; harts take turns.
fn outcome(seed: u64, harts: usize, slice: u64, meddle: Meddle, engine: Engine) -> Sight {
    let mut bench = bench(seed, harts);
    bench.cluster.set_engine(engine).unwrap();
    let mut dice = Dice(seed + slice);
    let (mut moment, mut far) = (None, 0);
    while bench.icount < INSTRUCTIONS {
        if matches!(meddle, Meddle::GoBack) && bench.icount >= far {
            match moment.take() {
                Some(moment) => Moment::come_back(moment, &mut bench, &mut dice),
                None => moment = Some(Moment::of(&bench, &dice)),
            }
            // To where the stretch ends; a moment that was come back to is over.
            far = if moment.is_some() { bench.icount + STRETCH } else { far + 1 };
        }
        let turn = bench.icount / TURN;
        let hart = turn as usize % harts;
        bench.cluster.set_irq(hart, Irq::Mtip, turn % 7 == 1);
        bench.cluster.set_irq(hart, Irq::Seip, turn % 11 == 1);
        bench.cluster.set_time(hart, bench.icount / 10);
        let end = (turn + 1) * TURN;
        let deadline = bench.cluster.stimecmp(hart).map_or(u64::MAX, |ticks| ticks.saturating_mul(10));
        let stop = if deadline > bench.icount { end.min(deadline) } else { end };
        let reason = bench.step_hart(hart, (stop - bench.icount).min(dice.roll(slice) + 1));
        if reason == ExitReason::Wfi {
            bench.icount = end;
        }
        match meddle {
            Meddle::Nothing | Meddle::GoBack => {}
            Meddle::DropCaches => bench.cluster.drop_caches(),
            Meddle::SaveAndLoad => {
                let states: Vec<_> = (0..harts).map(|hart| bench.cluster.save(hart)).collect();
                bench.cluster = crate::Cluster::new(HartConfig::default(), harts, bench.ram.clone());
                bench.cluster.set_engine(engine).unwrap();
                for (hart, state) in states.iter().enumerate() {
                    bench.cluster.load(hart, state).unwrap();
                }
            }
        }
    }
    let harts = (0..harts).map(|hart| bench.cluster.save(hart)).collect();
    (harts, memory(&bench.ram))
}

fn memory(ram: &GuestRam) -> Vec<u8> {
    let mut bytes = vec![0; ram.size() as usize];
    ram.read(ram.base(), &mut bytes).unwrap();
    bytes
}

fn differences(a: &Sight, b: &Sight) -> Vec<String> {
    let harts = a.0.iter().zip(&b.0).enumerate();
    let mut found: Vec<String> = harts
        .flat_map(|(hart, (a, b))| {
            let fields = a.iter().zip(b).filter(|(a, b)| a != b);
            fields
                .map(move |((name, a), (_, b))| format!("hart {hart} {name}: {a:x?} {b:x?}"))
                .collect::<Vec<_>>()
        })
        .collect();
    found.extend(a.1.iter().zip(&b.1).position(|(a, b)| a != b).map(|at| format!("RAM at {at:#x}")));
    found
}

#[test]
fn nothing_invisible_is_seen() {
    let (mut traps, mut retired) = (0, 0);
    for seed in 1..=12 {
        let harts = 1 + (seed % 3 == 0) as usize;
        let whole = outcome(seed, harts, u64::MAX >> 12, Meddle::Nothing, Engine::Interp);
        for (slice, meddle, engine) in [
            (1, Meddle::Nothing, Engine::Interp),
            (7, Meddle::Nothing, Engine::Jit),
            (40, Meddle::Nothing, Engine::Threaded),
            (40, Meddle::DropCaches, Engine::Interp),
            (40, Meddle::Nothing, Engine::Jit),
            (100, Meddle::DropCaches, Engine::Threaded),
            (300, Meddle::SaveAndLoad, Engine::Threaded),
            (300, Meddle::Nothing, Engine::Jit),
            (300, Meddle::GoBack, Engine::Interp),
            (300, Meddle::GoBack, Engine::Jit),
            (u64::MAX >> 12, Meddle::Nothing, Engine::Threaded),
            (u64::MAX >> 12, Meddle::Nothing, Engine::Jit),
        ] {
            let other = outcome(seed, harts, slice, meddle, engine);
            let found = differences(&whole, &other);
            assert!(found.is_empty(), "seed {seed}, slices of {slice}, {meddle:?}, {engine}: {found:#?}");
        }
        let number = |name: &str| {
            let (_, bytes) = whole.0[0].iter().find(|(field, _)| field == name).unwrap();
            u64::from_le_bytes(bytes.clone().try_into().unwrap())
        };
        traps += number("traps");
        retired += number("attempts") - number("traps");
    }
    // The programs must do both: get somewhere, and fail.
    assert!(traps > 5_000 && retired > 100_000, "{traps} traps, {retired} retired");
}
