//! Loads or stores side by side from one base, which translated code looks up together: in a page, across its end, in
//! devices, with a base that a load replaces, with words whose upper half is not yet in place.

use super::support::*;
use crate::{Engine, Entry, HartConfig};

const DATA: u64 = BASE + 0x8000;
const BASE_REG: u32 = 9;
/// Counts the turns of the loop.
const TURNS: u32 = 20;

fn access(dice: &mut Dice, stores: bool, near: i32) -> u32 {
    // Pinned registers and others; sometimes the base itself, sometimes x0.
    let register = [10, 11, 12, 15, 8, 5, 6, 18, 28, 0, BASE_REG][dice.roll(11) as usize];
    let at = near + dice.roll(96) as i32;
    if stores {
        let funct3 = dice.roll(4) as u32;
        let imm = at as u32;
        0x23 | (imm & 31) << 7 | funct3 << 12 | BASE_REG << 15 | register << 20 | (imm >> 5) << 25
    } else {
        i(0x03, dice.roll(7) as u32, register, BASE_REG, at)
    }
}

/// Words in some registers, then loads or stores side by side, then more of it, in a loop.
fn program(seed: u64) -> Vec<u32> {
    let mut dice = Dice(seed);
    let mut code = vec![addi(TURNS, 0, 100)];
    let start = code.len();
    // The base: the same each turn, within a page, near its end, or a device.
    let place = [0, 0, 0x800, 0xfc8, 0xff0, PORT.wrapping_sub(DATA)][dice.roll(6) as usize];
    let base = DATA.wrapping_add(place);
    code.extend([
        lui(BASE_REG, (base >> 13) as u32),
        slli(BASE_REG, BASE_REG, 1),
        lui(31, 1),
        addi(31, 31, (base & 0xfff) as i32 - 0x1000),
        r(0x33, 0, 0, BASE_REG, BASE_REG, 31),
    ]);
    for _ in 0..3 {
        for register in [10, 11, 5, 6, 18] {
            // addw: a word that waits for its upper half.
            code.push(r(0x3b, 0, 0, register, register, TURNS));
        }
        let (stores, near) = (dice.roll(2) == 0, dice.roll(64) as i32);
        for _ in 0..2 + dice.roll(6) {
            code.push(access(&mut dice, stores, near));
        }
    }
    code.push(addi(TURNS, TURNS, -1));
    let back = (start as i32 - code.len() as i32) * 4;
    code.push(branch(1, TURNS, 0, back));
    code.push(SPIN);
    code
}

/// The hart, memory, and what the device was told.
type Sight = (Vec<(String, Vec<u8>)>, Vec<u8>, Vec<(u64, u64, u64)>);

/// Everything that can be seen after runs of so many instructions.
fn outcome(seed: u64, slice: u64, engine: Engine) -> Sight {
    let mut bench = Bench::with(1, HartConfig::default(), &program(seed));
    bench.cluster.set_engine(engine).unwrap();
    // A handler that goes on behind what trapped.
    bench.put(HANDLER, &[csrrs(30, 0x341, 0), addi(30, 30, 4), csrrw(0, 0x341, 30), MRET]);
    bench.cluster.reset(0, Entry { pc: BASE, ..Entry::default() });
    bench.set_field(0, "mtvec", HANDLER);
    for register in 0..32 {
        bench.put_u64(DATA + 0xf80 + register * 8, register.wrapping_mul(0x8123_4567_89ab_cdef));
    }
    bench.run_in_slices(8_000, slice);
    let mut memory = vec![0; 0x3000];
    bench.ram.read(DATA - 0x1000, &mut memory).unwrap();
    (bench.cluster.save(0), memory, bench.board.stores)
}

#[test]
fn accesses_side_by_side_are_those_one_by_one() {
    for seed in 0..400 {
        let interpreted = outcome(seed, 8_000, Engine::Interp);
        for (slice, engine) in [(8_000, Engine::Jit), (37, Engine::Jit), (8_000, Engine::Threaded)] {
            assert_eq!(outcome(seed, slice, engine), interpreted, "seed {seed}, slices of {slice}, {engine}");
        }
    }
}
