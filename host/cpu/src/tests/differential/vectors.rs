//! Every instruction of the table on operands and in registers where something may change: in loops that become hot,
//! on both engines.
//!
//! A program is a loop over a table of operands. Its body has a piece for each choice of registers, which loads the
//! operands, executes the instruction and adds what it left to a sum. The loop is run twice, so that what the first
//! operands give is computed by hot code too.

mod float;
mod integer;

use super::assembler::{Code, Label, add};
use super::program::{PAGE, Program, RAM_SIZE};
use super::{Pair, TESTED, World};
use crate::isa::Row;
use crate::tests::support::{BASE, MRET, WFI, addi, csrrs, csrrw, i, jal, ld};
use crate::{Engine, HartConfig};

/// Registers of the loop.
const AT: u32 = 26;
const END: u32 = 27;
const PASS: u32 = 25;
const SUM: u32 = 24;
const TEMPORARY: u32 = 23;
/// What the handler uses.
const HANDLER_REGISTER: u32 = 31;

const HANDLER: u64 = BASE + 12 * PAGE;
/// Where operands lie: four words for each round.
const TABLE: u64 = BASE + 13 * PAGE;
const ROUND_BYTES: u64 = 32;
/// Where loads and stores go: between two pages.
const BORDER: u64 = BASE + 31 * PAGE;

/// Long enough for every loop here; they end asleep.
const LENGTH: u64 = 100_000_000;

/// Operands of a round.
type Round = [u64; 4];

/// Integer values where something changes.
const VALUES: [u64; 14] = [
    0,
    1,
    2,
    63,
    64,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    i64::MAX as u64,
    i64::MIN as u64,
    u64::MAX,
    -2_i64 as u64,
    0x0123_4567_89ab_cdef,
    0xffff_ffff_8000_0000,
];

/// A loop in the making.
struct Loop {
    code: Code,
    top: Label,
    second: Label,
}

impl Loop {
    fn new() -> Loop {
        let mut code = Code::default();
        code.word(addi(PASS, 0, 2));
        let second = code.bound();
        code.li(AT, TABLE);
        let top = code.bound();
        Loop { code, top, second }
    }

    /// Loads an operand of the round.
    fn operand(&mut self, register: u32, index: i32) {
        self.code.word(ld(register, AT, 8 * index));
    }

    /// Adds a register to the sum, so that later ones do not cancel it.
    fn take(&mut self, register: u32) {
        // rori
        self.code.words(&[i(0x13, 5, SUM, SUM, 0x60c), add(SUM, SUM, register)]);
    }

    /// Closes the loop over these rounds and makes a program of it.
    fn finish(mut self, seed: u64, rounds: &[Round]) -> Program {
        let code = &mut self.code;
        code.word(addi(AT, AT, ROUND_BYTES as i32));
        let (done, asleep) = (code.label(), code.label());
        code.branch(0, AT, END, done);
        code.jal(0, self.top);
        code.bind(done);
        code.word(addi(PASS, PASS, -1));
        code.branch(0, PASS, 0, asleep);
        code.jal(0, self.second);
        code.bind(asleep);
        code.words(&[WFI, jal(0, -4)]);
        program(seed, self.code.finish(), rounds)
    }
}

fn program(seed: u64, code: Vec<u8>, rounds: &[Round]) -> Program {
    let mut ram = vec![0; RAM_SIZE as usize];
    let mut put = |gpa: u64, bytes: &[u8]| ram[(gpa - BASE) as usize..][..bytes.len()].copy_from_slice(bytes);
    assert!(BASE + code.len() as u64 <= HANDLER, "{} bytes of code", code.len());
    put(BASE, &code);
    let a = HANDLER_REGISTER;
    let handler = [csrrs(a, 0x341, 0), addi(a, a, 4), csrrw(0, 0x341, a), add(SUM, SUM, a), MRET];
    put(HANDLER, &handler.map(u32::to_le_bytes).concat());
    let table: Vec<u8> = rounds.iter().flatten().flat_map(|word| word.to_le_bytes()).collect();
    let end = TABLE + table.len() as u64;
    assert!(end <= BORDER - PAGE, "{} rounds", rounds.len());
    put(TABLE, &table);
    let x = std::array::from_fn(|register| match register as u32 {
        0 => 0,
        END => end,
        register => 0x1111_1111_1111_1111_u64.wrapping_mul(register.into()),
    });
    let f = std::array::from_fn(|register| 0x3ff0_0000_0000_0000 + register as u64);
    let numbers = vec![
        ("pc", BASE),
        ("mtvec", HANDLER),
        ("mstatus", 2 << 32 | 2 << 34 | 3 << 13),
        ("mcounteren", 7),
        ("scounteren", 7),
        ("menvcfg", 1 << 63 | 0xf0),
    ];
    Program { seed, harts: 1, ram, numbers, x: vec![x], f: vec![f], length: LENGTH, in_one: true }
}

/// Runs programs on all engines; every difference is reported, up to a screenful.
fn compare(programs: impl IntoIterator<Item = (&'static str, Program)>) {
    let mut pairs = TESTED.map(|engine| Pair::new(1, engine));
    let mut reports = Vec::new();
    for (name, program) in programs {
        for pair in &mut pairs {
            match pair.run(&program, u64::MAX) {
                Ok(()) => assert_eq!(pair.reference.icount, LENGTH, "{name} goes to sleep"),
                Err(found) => reports.push(format!("{name}: {}", pair.report(&program, found))),
            }
        }
    }
    let shown = reports.len().min(8);
    assert!(reports.is_empty(), "{} differ\n{}", reports.len(), reports[..shown].join("\n"));
}

/// Whether the row's operands are these.
fn takes(row: &Row, operands: &str) -> bool {
    row.operands == operands
}

/// The sum that a program leaves, on the interpreter.
fn sum(program: &Program) -> u64 {
    let mut world = World::new(HartConfig::default(), 1, Engine::Interp);
    world.load(program);
    world.run(0, 0, LENGTH);
    world.cluster.x(0, SUM as usize)
}

#[test]
fn a_vector_that_is_off_is_seen() {
    let of = |value: u64| {
        let mut body = Loop::new();
        body.operand(5, 0);
        body.take(5);
        body.finish(1, &[[1, 0, 0, 0], [value, 0, 0, 0], [3, 0, 0, 0]])
    };
    assert_eq!(sum(&of(2)), sum(&of(2)));
    assert_ne!(sum(&of(2)), sum(&of(3)));
}
