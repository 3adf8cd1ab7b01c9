//! Floating point, by every engine: the same to the bit, flags and all.

use super::support::*;
use crate::fp::tests::{Vectors, landmarks};
use crate::fp::{F16, F32, F64, Format};
use crate::isa::{Extension, ROWS, Row};
use crate::{Engine, ExitReason};

const INPUTS: u64 = BASE + 0x1_0000;
const OUTPUTS: u64 = BASE + 0x8_0000;
const IN: u32 = 10;
const OUT: u32 = 11;
const END: u32 = 13;
const DEVICE: u32 = 16;
const TEMPORARY: u32 = 5;
/// An integer operand's or result's register: one that lives in a host register, one that does not, none.
const INTEGERS: [u32; 3] = [12, 28, 0];
/// Floating-point registers of both kinds, few enough to coincide.
const FLOATS: [u32; 6] = [10, 11, 3, 20, 21, 0];
const CASE_SIZE: u64 = 32;
const RESULT_SIZE: u64 = 24;
const FCSR: u32 = 3;
const MSTATUS: u32 = 0x300;
const FS: u64 = 3 << 13;

fn fld(rd: u32, rs1: u32, imm: i32) -> u32 {
    i(0x07, 3, rd, rs1, imm)
}

fn fsd(rs2: u32, rs1: u32, imm: i32) -> u32 {
    sd(rs2, rs1, imm) | 4
}

/// Skips what trapped.
fn skip() -> [u32; 4] {
    [csrrs(31, 0x341, 0), addi(31, 31, 4), csrrw(0, 0x341, 31), MRET]
}

fn bench(code: &[u32]) -> Bench {
    let mut bench = Bench::new(code);
    bench.put(HANDLER, &skip());
    bench.set_field(0, "mstatus", bench.field("mstatus") | FS);
    bench
}

/// Three operands, and `fcsr`.
type Case = [u64; 4];

/// Which registers an instruction works on.
#[derive(Clone, Copy, Debug)]
struct Registers {
    d: u32,
    sources: [u32; 3],
    /// For what is an integer register.
    integer: [u32; 2],
}

impl Registers {
    fn random(dice: &mut Vectors) -> Registers {
        let mut pick = |of: &[u32]| of[dice.below(of.len() as u64) as usize];
        let sources = [(); 3].map(|()| pick(&FLOATS));
        let integer = [(); 2].map(|()| pick(&INTEGERS));
        Registers { d: pick(&FLOATS), sources, integer }
    }
}

fn is_float(row: &Row) -> bool {
    matches!(row.extension, Extension::F | Extension::D | Extension::Zfh | Extension::Zfhmin)
}

/// Neither load nor store.
fn computes(row: &Row) -> bool {
    is_float(row) && !row.operands.contains('(')
}

/// The instruction with these registers; `rm` where it has one.
fn encode(row: &Row, rm: u32, registers: Registers) -> u32 {
    let Registers { d, sources: [s, t, r], integer: [id, is] } = registers;
    let d = if row.operands.starts_with('d') { id } else { d };
    let s = if row.operands.contains('s') { is } else { s };
    let fields = d << 7 | rm << 12 | s << 15 | t << 20 | r << 27;
    row.encoding.bits | fields & !row.encoding.mask
}

/// A loop over the cases: operands and `fcsr` in, results and `fcsr` out.
fn program(instruction: u32, registers: Registers) -> Vec<u32> {
    let Registers { d, sources: [s, t, r], integer: [id, is] } = registers;
    let mut code = vec![
        fld(s, IN, 0),
        fld(t, IN, 8),
        fld(r, IN, 16),
        ld(is, IN, 0),
        ld(TEMPORARY, IN, 24),
        csrrw(0, FCSR, TEMPORARY),
        instruction,
        fsd(d, OUT, 0),
        sd(id, OUT, 8),
        csrrs(TEMPORARY, FCSR, 0),
        sd(TEMPORARY, OUT, 16),
        addi(IN, IN, CASE_SIZE as i32),
        addi(OUT, OUT, RESULT_SIZE as i32),
    ];
    code.push(branch(1, IN, END, -4 * code.len() as i32));
    code.push(SPIN);
    code
}

/// What each case gives: the floating-point result, the integer one, `fcsr`.
fn results(code: &[u32], cases: &[Case], engine: Engine) -> Vec<[u64; 3]> {
    assert!(INPUTS + cases.len() as u64 * CASE_SIZE <= OUTPUTS, "too many cases");
    let mut bench = bench(code);
    bench.cluster.set_engine(engine).unwrap();
    for (address, word) in (INPUTS..).step_by(8).zip(cases.as_flattened()) {
        bench.put_u64(address, *word);
    }
    let end = INPUTS + cases.len() as u64 * CASE_SIZE;
    for (register, value) in [(IN, INPUTS), (OUT, OUTPUTS), (END, end)] {
        bench.cluster.set_x(0, register as usize, value);
    }
    // A trap takes five more.
    bench.steps(cases.len() as u64 * (code.len() as u64 + 5));
    assert_eq!(bench.cluster.pc(0), BASE + 4 * (code.len() as u64 - 1), "the loop is over");
    let at = |case: u64, field: u64| bench.get_u64(OUTPUTS + case * RESULT_SIZE + field * 8);
    (0..cases.len() as u64).map(|case| [0, 1, 2].map(|field| at(case, field))).collect()
}

/// Numbers of one format as registers hold them, and some that are not boxed.
fn operands<F: Format>() -> Vec<u64> {
    let boxing = if F::WIDTH == 64 { 0 } else { u64::MAX << (F::WIDTH % 64) };
    let mut values: Vec<u64> = landmarks::<F>().iter().map(|value| value | boxing).collect();
    if boxing != 0 {
        let one = ((F::EMAX as u64) << F::FRAC_BITS) | boxing;
        values.extend([one ^ 1 << 32, one ^ 1 << 63, one & !boxing]);
    }
    values
}

/// Around what integer types hold, between integers, and what is not boxed.
fn doubles() -> Vec<u64> {
    let limits = [31, 32, 63, 64].map(|bits| 2f64.powi(bits));
    let near =
        limits.iter().flat_map(|limit| [-1.0, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75].map(|by| limit + by));
    let small = [0.25, 0.5, 0.75, 1.5, 2.5, 3.5, 1e300, 1e-300, 2f64.powi(-512), 2f64.powi(-511) * 1.1];
    // Nearest singles: overflow, the smallest normal, ties below it.
    let singles =
        [f64::from(f32::MAX) * (1.0 + 2f64.powi(-25)), f64::from(f32::MAX) * (1.0 + 2f64.powi(-24))];
    let tiny = [1.0 - 2f64.powi(-25), 1.0 - 2f64.powi(-26), 0.5, 2f64.powi(-24)];
    let tiny = tiny.map(|by| f64::from(f32::MIN_POSITIVE) * by);
    let all = near.chain(small).chain(singles).chain(tiny);
    all.flat_map(|value| [value.to_bits(), (-value).to_bits()]).chain(operands::<F64>()).collect()
}

fn singles() -> Vec<u64> {
    let more = [0.25f32, 0.5, 0.75, 1.5, 2.5, 3.5, 2_147_483_520.0, 4_294_967_040.0, 1.1e-19, 9.3e-20];
    let more = more.iter().flat_map(|value| [value.to_bits(), (-value).to_bits()]);
    more.map(|bits| u64::from(bits) | !0 << 32).chain(operands::<F32>()).collect()
}

const INTEGER_VALUES: [u64; 14] = [
    0,
    1,
    u64::MAX,
    1 << 24,
    (1 << 24) + 1,
    (1 << 53) + 1,
    (1 << 54) + 3,
    i32::MAX as u64,
    1 << 31,
    u32::MAX as u64,
    i64::MAX as u64,
    1 << 63,
    (1 << 63) + 1024,
    0xffff_fbff_ffff_ffff,
];

/// Mostly to nearest, with flags set and clear.
fn random_fcsr(dice: &mut Vectors) -> u64 {
    match dice.below(10) {
        0..=4 => 0,
        5 => 1,
        6 | 7 => dice.below(32),
        _ => dice.below(256),
    }
}

/// Up to `count` cases for a row, of what it takes.
fn cases(row: &Row, count: usize, dice: &mut Vectors) -> Vec<Case> {
    let name = row.name;
    let source = name.rsplit('_').next().expect("a suffix");
    let integers = row.operands.contains('s');
    let arity = row.operands.matches(['s', 'S', 'T', 'R']).count();
    // All pairs are tried, so there must not be too many.
    let values = match (source, arity) {
        _ if integers => INTEGER_VALUES.to_vec(),
        ("h", _) => operands::<F16>(),
        ("s", 1) => singles(),
        ("s", _) => operands::<F32>(),
        (_, 1) => doubles(),
        _ => operands::<F64>(),
    };
    let whole = values.len().pow(arity as u32);
    (0..whole.max(400).min(count))
        .map(|case| {
            let mut index = if whole <= count { case as u64 } else { dice.bits() };
            let random = dice.below(4) == 0 && case >= whole;
            let mut near = 0;
            let operands = [(); 3].map(|()| {
                let value = values[(index % values.len() as u64) as usize];
                index /= values.len() as u64;
                near = match (random || whole > count && dice.below(3) == 0, source) {
                    _ if integers => dice.bits() >> dice.below(64),
                    (false, _) => return value,
                    (true, "h") => dice.value::<F16>(near) | !0 << 16,
                    (true, "s") => dice.value::<F32>(near) | !0 << 32,
                    (true, _) => dice.value::<F64>(near),
                };
                if integers && !random { value } else { near }
            });
            [operands[0], operands[1], operands[2], random_fcsr(dice)]
        })
        .collect()
}

/// Every instruction, in every rounding mode, on every kind of operand.
#[test]
fn templates_are_exact() {
    let mut dice = Vectors(1);
    for row in ROWS.iter().filter(|row| computes(row)) {
        let modes: &[u32] = if row.operands.contains('m') { &[0, 1, 2, 3, 4, 5, 7] } else { &[0] };
        for &rm in modes {
            let converts = row.operands.starts_with('d');
            let thorough = (matches!(rm, 0 | 1 | 7) || converts) && !row.name.contains("_h");
            for _ in 0..if thorough { 4 } else { 1 } {
                let cases = cases(row, if thorough { 12_000 } else { 1_000 }, &mut dice);
                let registers = Registers::random(&mut dice);
                check(row, rm, registers, &cases);
            }
        }
    }
}

fn check(row: &Row, rm: u32, registers: Registers, cases: &[Case]) {
    let code = program(encode(row, rm, registers), registers);
    let [expected, others @ ..] = Engine::ALL.map(|engine| results(&code, cases, engine));
    for got in others {
        let wrong = expected.iter().zip(&got).zip(cases).find(|((expected, got), _)| expected != got);
        if let Some(((expected, got), case)) = wrong {
            panic!("{} rm {rm} {registers:?} of {case:x?}: {expected:x?}, not {got:x?}", row.name);
        }
    }
}

/// Code that computes, loads, stores, and changes the surroundings of floating point.
fn random_word(dice: &mut Vectors) -> u32 {
    let offset = dice.below(0x100) as i32 * 8;
    let mut float = || FLOATS[dice.below(6) as usize];
    let (a, b) = (float(), float());
    match dice.below(32) {
        0..=5 => fld(a, IN, offset),
        6 => i(0x07, 2, a, IN, offset + 4 * (offset / 8 % 2)),
        7 | 8 => fsd(a, OUT, offset),
        9 => sw(b, OUT, offset) | 4,
        10 => csrrw(TEMPORARY, 1 + dice.below(3) as u32, INTEGERS[dice.below(3) as usize]),
        11 => csrrs(TEMPORARY, 1 + dice.below(3) as u32, 0),
        12 => [csrrw(0, FCSR, 0), csrrs(TEMPORARY, FCSR, TEMPORARY)][dice.below(2) as usize],
        // FS clean, off or dirty: x14 is its lower bit, x15 both.
        13 => [csrrc(0, MSTATUS, 14), csrrc(0, MSTATUS, 15)][usize::from(dice.below(4) == 0)],
        14 | 15 => csrrs(0, MSTATUS, 15),
        16 => branch(dice.below(2) as u32, 12, 28, 8 + 4 * dice.below(6) as i32),
        17 => ld(INTEGERS[dice.below(2) as usize], IN, offset),
        // A device, whose one register reads as the position; and what may cross pages.
        18 => [fld(a, DEVICE, 8), fsd(a, DEVICE, 0)][dice.below(2) as usize],
        19 => [fld(a, IN, offset | 3), fsd(a, OUT, offset | 5)][dice.below(2) as usize],
        _ => loop {
            let row = &ROWS[dice.below(ROWS.len() as u64) as usize];
            if computes(row) {
                let rm = [7, 7, 0, 0, 1, dice.below(8) as u32][dice.below(6) as usize];
                return encode(row, rm, Registers::random(dice));
            }
        },
    }
}

/// A loop of such code, over more and more of a table of numbers.
fn random_program(dice: &mut Vectors) -> Bench {
    let mut code: Vec<u32> = (0..60).map(|_| random_word(dice)).collect();
    code.extend([csrrs(0, MSTATUS, 15); 8]);
    code.extend([addi(IN, IN, 8), addi(0, 0, 0)]);
    code.push(jal(0, -4 * code.len() as i32));
    let mut bench = bench(&code);
    let pools = [singles(), doubles(), operands::<F16>(), INTEGER_VALUES.to_vec()];
    for address in (INPUTS..OUTPUTS).step_by(8) {
        let pool = &pools[[0, 0, 1, 1, 1, 2, 3][dice.below(7) as usize]];
        bench.put_u64(address, pool[dice.below(pool.len() as u64) as usize]);
    }
    let registers = [(IN, INPUTS), (OUT, OUTPUTS), (14, FS & FS >> 1), (15, FS), (DEVICE, PORT)];
    for (register, value) in registers {
        bench.cluster.set_x(0, register as usize, value);
    }
    bench
}

/// Everything that can be seen, at each stop. Stops depend on nothing but the seed.
fn sights(seed: u64, engine: Engine) -> Vec<Vec<(String, Vec<u8>)>> {
    let mut bench = random_program(&mut Vectors(seed));
    bench.cluster.set_engine(engine).unwrap();
    let mut dice = Vectors(!seed);
    let mut sights = Vec::new();
    while bench.icount < 60_000 {
        let count = 1 + if dice.below(3) == 0 { dice.below(50) } else { dice.below(4000) };
        assert_eq!(bench.step(count), ExitReason::Limit);
        let mut sight = bench.cluster.save(0);
        let mut memory = vec![0; 0x1000];
        bench.ram.read(OUTPUTS, &mut memory).unwrap();
        sight.push(("memory".to_owned(), memory));
        let stores = std::mem::take(&mut bench.board.stores).into_iter();
        let stores = stores.flat_map(|store| <[u64; 3]>::from(store).map(u64::to_le_bytes)).flatten();
        sight.push(("stores".to_owned(), stores.collect()));
        sights.push(sight);
    }
    sights
}

#[test]
fn random_programs_agree_at_every_stop() {
    for seed in 1..=150 {
        let [expected, others @ ..] = Engine::ALL.map(|engine| sights(seed, engine));
        for (engine, got) in Engine::ALL[1..].iter().zip(others) {
            for (stop, (expected, got)) in expected.iter().zip(&got).enumerate() {
                let wrong = expected.iter().zip(got).find(|(expected, got)| expected != got);
                assert!(wrong.is_none(), "{engine}, seed {seed}, stop {stop}: {wrong:x?}");
            }
            assert_eq!(expected.len(), got.len());
        }
    }
}
