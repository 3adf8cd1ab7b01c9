//! Rotations in two shifts and an `or`, of which translated code makes one: with halves that are read all the same,
//! sources that go, and ways out of the block while a half is owed.

use super::support::*;
use crate::{Engine, Entry, HartConfig};

/// Counts the turns of the loop.
const TURNS: u32 = 20;
const DATA_REG: u32 = 9;
const DATA: u64 = BASE + 0x8000;
/// Registers of the host's and others.
const REGISTERS: [u32; 7] = [10, 11, 15, 5, 6, 18, 28];

fn register(dice: &mut Dice) -> u32 {
    REGISTERS[dice.roll(7) as usize]
}

/// `slli`, `srli`, `slliw`, `srliw`.
fn shift(left: bool, word: bool, rd: u32, rs: u32, by: u32) -> u32 {
    i(if word { 0x1b } else { 0x13 }, if left { 1 } else { 5 }, rd, rs, by as i32)
}

/// What puts halves together, and what must not.
fn join(dice: &mut Dice, rd: u32, a: u32, b: u32) -> u32 {
    match dice.roll(6) {
        0 | 1 => r(0x33, 6, 0, rd, a, b),
        2 => r(0x33, 4, 0, rd, a, b),
        3 => r(0x33, 0, 0, rd, a, b),
        4 => r(0x3b, 0, 0, rd, a, b),
        _ => r(0x33, 7, 0, rd, a, b),
    }
}

fn between(dice: &mut Dice, code: &mut Vec<u32>) {
    let (rd, a, b) = (register(dice), register(dice), register(dice));
    code.push(match dice.roll(13) {
        0 => r(0x3b, 0, 0, rd, a, b),
        1 => addi(rd, a, 0),
        2 => i(0x1b, 0, rd, a, 0),
        3 => i(0x03, 3, rd, DATA_REG, 8 * dice.roll(8) as i32),
        4 => sd(a, DATA_REG, 8 * dice.roll(8) as i32),
        // Somewhere: mostly a fault.
        5 => i(0x03, 3, rd, a, 0),
        // Forward over the next one.
        6 => branch(dice.roll(2) as i32 as u32, a, b, 8),
        7 => csrrs(rd, 0x340, a),
        8 => r(0x33, 1, 1, rd, a, b),
        9..12 => lui(rd, dice.roll(1 << 20) as u32),
        _ => NOP,
    });
}

fn program(seed: u64) -> Vec<u32> {
    let mut dice = Dice(seed);
    let mut code = vec![addi(TURNS, 0, 100)];
    let start = code.len();
    for _ in 0..2 + dice.roll(5) {
        let word = dice.roll(2) == 0;
        let bits = if word { 32 } else { 64 };
        let by = [1, 7, bits / 2, bits - 1, dice.roll(bits)][dice.roll(5) as usize];
        let other = if dice.roll(8) == 0 { dice.roll(bits) } else { (bits - by) % bits };
        let (first, source) = (register(&mut dice), register(&mut dice));
        let second = register(&mut dice);
        let left = dice.roll(2) == 0;
        code.push(shift(left, word, first, source, by as u32));
        if dice.roll(2) == 0 {
            between(&mut dice, &mut code);
        }
        let also_word = word ^ (dice.roll(12) == 0);
        let other = if also_word { other % 32 } else { other };
        code.push(shift(
            !left,
            also_word,
            second,
            if dice.roll(8) == 0 { first } else { source },
            other as u32,
        ));
        if dice.roll(2) == 0 {
            between(&mut dice, &mut code);
        }
        let rd = if dice.roll(3) == 0 { register(&mut dice) } else { first };
        let (a, b) = if dice.roll(2) == 0 { (first, second) } else { (second, first) };
        code.push(join(&mut dice, rd, a, b));
        while dice.roll(2) == 0 {
            between(&mut dice, &mut code);
        }
    }
    code.push(addi(TURNS, TURNS, -1));
    let back = (start as i32 - code.len() as i32) * 4;
    code.extend([branch(1, TURNS, 0, back), SPIN]);
    code
}

/// The hart and memory after runs of so many instructions.
fn outcome(seed: u64, slice: u64, engine: Engine) -> (Vec<(String, Vec<u8>)>, Vec<u8>) {
    let mut bench = Bench::with(1, HartConfig::default(), &program(seed));
    bench.cluster.set_engine(engine).unwrap();
    bench.put(HANDLER, &tracing_handler(REGISTERS));
    bench.cluster.reset(0, Entry { pc: BASE, ..Entry::default() });
    bench.set_field(0, "mtvec", HANDLER);
    bench.cluster.set_x(0, DATA_REG as usize, DATA);
    for (n, register) in REGISTERS.into_iter().enumerate() {
        bench.cluster.set_x(0, register as usize, (seed + n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        bench.put_u64(DATA + n as u64 * 8, (seed ^ n as u64).wrapping_mul(0x8123_4567_89ab_cdef));
    }
    bench.run_in_slices(6_000, slice);
    let mut memory = vec![0; 0x100];
    bench.ram.read(DATA, &mut memory).unwrap();
    (bench.cluster.save(0), memory)
}

#[test]
fn a_rotation_is_two_shifts_and_what_joins_them() {
    for seed in 0..600 {
        let interpreted = outcome(seed, 6_000, Engine::Interp);
        for slice in [6_000, 31] {
            assert_eq!(outcome(seed, slice, Engine::Jit), interpreted, "seed {seed}, slices of {slice}");
        }
    }
}

/// What a register held before the rotation is not what it holds behind it.
#[test]
fn a_rotation_into_a_register_with_a_constant() {
    let code = [
        lui(10, 5),
        shift(false, true, 11, 15, 8),
        shift(true, true, 12, 15, 24),
        r(0x33, 6, 0, 10, 11, 12),
        addi(28, 10, 1),
        addi(TURNS, TURNS, 1),
        jal(0, -24),
    ];
    let mut bench = Bench::new(&code);
    bench.cluster.set_engine(Engine::Jit).unwrap();
    bench.cluster.set_x(0, 15, 0x1234_5678);
    bench.steps(7 * 100);
    assert_eq!(bench.x(28), 0x7812_3457);
}
