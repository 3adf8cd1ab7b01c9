//! Loops of one block, which translated code gives host registers of their own: entered from translated code and left
//! by every way there is.

use super::support::*;
use crate::{Engine, Entry, HartConfig};

/// Counters of the loop outside and of the one that is meant.
const OUTER: u32 = 20;
const INNER: u32 = 21;
const DATA_REG: u32 = 22;
const DATA: u64 = BASE + 0x8000;
/// Registers that usually live in host registers.
const USUAL: [u32; 9] = [2, 8, 9, 10, 11, 12, 13, 14, 15];
/// Some that do not.
const OTHERS: [u32; 9] = [5, 6, 7, 16, 17, 18, 19, 28, 29];

fn register(dice: &mut Dice) -> u32 {
    let (usual, other) = (USUAL[dice.roll(9) as usize], OTHERS[dice.roll(9) as usize]);
    if dice.roll(4) == 0 { usual } else { other }
}

fn statement(dice: &mut Dice) -> u32 {
    let (rd, a, b) = (register(dice), register(dice), register(dice));
    match dice.roll(16) {
        0..4 => r(0x33, dice.roll(8) as u32, 0, rd, a, b),
        4 | 5 => r(0x3b, 0, 0, rd, a, b),
        6 => r(0x33, dice.roll(8) as u32, 1, rd, a, b),
        7 => addi(rd, a, dice.roll(4096) as i32 - 2048),
        8 => i(0x1b, 5, rd, a, dice.roll(32) as i32),
        9 | 10 => i(0x03, 3, rd, DATA_REG, 8 * dice.roll(16) as i32),
        11 => sd(a, DATA_REG, 8 * dice.roll(16) as i32),
        // Somewhere: mostly a fault.
        12 if dice.roll(4) == 0 => i(0x03, 3, rd, a, 0),
        // Forward over the next one, or out of the block.
        13 => branch([1, 4, 7][dice.roll(3) as usize], a, b, if dice.roll(2) == 0 { 8 } else { 0x400 }),
        14 => csrrs(rd, 0x340, a),
        // A counter, which no template reads.
        15 if dice.roll(4) == 0 => csrrs(rd, 0xb02, 0),
        _ => addi(rd, a, 1),
    }
}

fn program(seed: u64) -> Vec<u32> {
    let mut dice = Dice(seed);
    let mut code = vec![addi(OUTER, 0, 120)];
    let outer = code.len();
    // All change, so that what memory has of them is old.
    code.extend(USUAL.iter().chain(&OTHERS).map(|&register| addi(register, register, dice.roll(99) as i32)));
    code.push(addi(INNER, 0, 1 + dice.roll(6) as i32));
    let inner = code.len();
    for _ in 0..4 + dice.roll(12) {
        code.push(statement(&mut dice));
    }
    code.push(addi(INNER, INNER, -1));
    let back = |from: usize, to: usize| (to as i32 - from as i32) * 4;
    code.push(branch([1, 5, 7][dice.roll(3) as usize], INNER, 0, back(code.len(), inner)));
    code.extend(USUAL.iter().chain(&OTHERS).map(|&register| r(0x33, 0, 0, 31, 31, register)));
    code.push(addi(OUTER, OUTER, -1));
    code.extend([branch(1, OUTER, 0, back(code.len(), outer)), SPIN]);
    code
}

/// The hart and memory after runs of so many instructions.
fn outcome(seed: u64, slice: u64, engine: Engine) -> (Vec<(String, Vec<u8>)>, Vec<u8>) {
    let mut bench = Bench::with(1, HartConfig::default(), &program(seed));
    bench.cluster.set_engine(engine).unwrap();
    let registers = || USUAL.into_iter().chain(OTHERS);
    bench.put(HANDLER, &tracing_handler(registers()));
    // What lies around the loop is passed through, and begins it anew.
    bench.put(BASE + 0x400, &[NOP; 0x100]);
    bench.put(BASE + 0x7fc, &[jal(0, 0x804 - 0x1000)]);
    bench.cluster.reset(0, Entry { pc: BASE, ..Entry::default() });
    bench.set_field(0, "mtvec", HANDLER);
    bench.cluster.set_x(0, DATA_REG as usize, DATA);
    for register in registers() {
        let value = (seed + u64::from(register)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bench.cluster.set_x(0, register as usize, value);
        bench.put_u64((DATA + u64::from(register) * 4) & !7, value.rotate_left(17));
    }
    bench.run_in_slices(20_000, slice);
    let mut memory = vec![0; 0x100];
    bench.ram.read(DATA, &mut memory).unwrap();
    (bench.cluster.save(0), memory)
}

#[test]
fn a_loop_with_homes_of_its_own_is_a_loop() {
    for seed in 0..400 {
        let interpreted = outcome(seed, 20_000, Engine::Interp);
        for slice in [20_000, 47] {
            assert_eq!(outcome(seed, slice, Engine::Jit), interpreted, "seed {seed}, slices of {slice}");
        }
    }
}
