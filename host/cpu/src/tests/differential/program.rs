//! Random programs that loop: what runs on both engines.
//!
//! A program is one image of RAM: code with structure (loops with counters, calls, jumps by table), handlers that skip
//! what trapped, data full of special values, and page tables through which all of it is seen at several addresses
//! with several rights. Nothing in it keeps it from going astray; then a handler begins it anew.

mod control;
mod float;
mod memory;
mod patch;
mod system;

use super::assembler::{Code, Label};
use super::dice::Dice;
use crate::tests::support::{BASE, PORT};

pub(super) const PAGE: u64 = 4096;
pub(super) const RAM_SIZE: u64 = 32 * PAGE;
/// Pages of RAM by their number.
const CODE_PAGES: u64 = 4;
const HANDLER_PAGE: u64 = 4;
/// What the handlers need: page-table entries as they were, and pointers for each mode.
const HANDLER_DATA_PAGE: u64 = 5;
/// A function that is seen at the first of these pages, or at its place a variant of it in the second.
const TWIN_PAGES: [u64; 2] = [6, 7];
const DATA_PAGE: u64 = 8;
const DATA_PAGES: u64 = 8;
/// Sv39's root, and the tables below it for each address space; above it those of Sv48 and Sv57.
const ROOT_PAGE: u64 = 16;
const RAM_TABLES: [u64; 2] = [17, 18];
const ALIAS_TABLES: [u64; 2] = [19, 20];
const PORT_TABLES: [u64; 2] = [21, 22];
const SV48_PAGE: u64 = 23;
const SV57_PAGE: u64 = 24;
/// Code that programs write themselves.
const SPARE_PAGE: u64 = 25;

/// Where RAM is seen with U = 1; at its own address it is with U = 0.
const ALIAS: u64 = 0x4000_0000;
/// Where a large page shows all of RAM.
const LARGE: u64 = BASE + 0x20_0000;
/// The devices, with U = 1.
const USER_PORT: u64 = PORT + PAGE;

/// Rows of pointers that the handler chooses from.
const MODE_ROWS: u64 = 4;
const MODE_ROW_BYTES: u64 = 64;

fn at_page(page: u64) -> u64 {
    BASE + page * PAGE
}

/// What a register is for, if it is not for anything.
#[derive(Clone)]
struct Roles {
    /// Pointers to data.
    data: [u32; 3],
    /// Pointer to the last level of the page tables of RAM.
    table: u32,
    /// Pointer to the devices.
    port: u32,
    /// Of loops by their depth; the last one is that of functions.
    counters: [u32; 4],
    links: [u32; 2],
    stack: u32,
    handler: [u32; 3],
    /// Counts changes of mode.
    turn: u32,
    /// The modes that follow one another, as `mstatus.MPP` has them.
    modes: [u64; MODE_ROWS as usize],
    scratch: Vec<u32>,
}

impl Roles {
    /// Any register may be anything, so that each is in host registers in one role and in memory in another.
    fn draw(dice: &mut Dice) -> Roles {
        let mut all: Vec<u32> = (1..32).collect();
        dice.shuffle(&mut all);
        let mut take = |wanted: &[u32]| {
            let at = all.iter().position(|register| wanted.contains(register)).unwrap_or(0);
            all.remove(at)
        };
        // Compressed instructions want these here.
        let stack = take(if dice.one_in(4) { &[] } else { &[2] });
        let near = take(if dice.one_in(4) { &[] } else { &[8, 9, 10, 11, 12, 13, 14, 15] });
        let link = take(if dice.one_in(4) { &[] } else { &[1] });
        let mut next = || take(&[]);
        let modes = [3, dice.below(2), dice.below(2), dice.pick(&[0, 0, 1, 3])];
        Roles {
            modes,
            data: [near, next(), next()],
            table: next(),
            port: next(),
            counters: [next(), next(), next(), next()],
            links: [link, next()],
            stack,
            handler: [next(), next(), next()],
            turn: next(),
            scratch: all,
        }
    }
}

/// What a program consists of mostly: weights of the kinds of statements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Compute,
    Compressed,
    Memory,
    Atomic,
    Float,
    FloatState,
    Device,
    Counter,
    System,
    Table,
    Fence,
    Patch,
    Mode,
    Garbage,
    Loop,
    If,
    Call,
    Switch,
}

/// Everything that a program has; the harness makes machines of it.
pub(super) struct Program {
    pub(super) seed: u64,
    pub(super) harts: usize,
    pub(super) ram: Vec<u8>,
    /// Saved fields that are one number, for every hart.
    pub(super) numbers: Vec<(&'static str, u64)>,
    /// For each hart.
    pub(super) x: Vec<[u64; 32]>,
    pub(super) f: Vec<[u64; 32]>,
    /// How many instructions of it are run.
    pub(super) length: u64,
    /// In one piece, with nothing from outside.
    pub(super) in_one: bool,
}

/// Writes one program.
struct Author {
    dice: Dice,
    code: Code,
    roles: Roles,
    weights: Vec<(Kind, u64)>,
    /// Functions that are called and have to be written.
    functions: Vec<Label>,
    /// Instructions that are patched and have to be written soon.
    owed: Vec<Label>,
    /// Those that lie there.
    slots: Vec<Label>,
    /// The function that has a twin, once something calls it.
    twin: Option<Label>,
    /// Statements that may still be written: nesting must end.
    budget: u32,
    in_function: bool,
    /// How often the loops around this place go round, altogether.
    rounds: u64,
}

impl Program {
    /// The program of a seed.
    pub(super) fn of(seed: u64) -> Program {
        let mut dice = Dice::new(seed);
        let harts = if dice.one_in(6) { 2 } else { 1 };
        let roles = Roles::draw(&mut dice);
        let mut author = Author::new(dice, roles);
        let mut ram = vec![0; RAM_SIZE as usize];
        let code = author.write_code();
        ram[..code.len()].copy_from_slice(&code);
        let handlers = author.write_handlers();
        put(&mut ram, HANDLER_PAGE * PAGE, &handlers);
        author.fill_data(&mut ram);
        author.fill_tables(&mut ram);
        author.fill_handler_data(&mut ram);
        let numbers = author.initial_numbers();
        let dice = &mut author.dice;
        let length = dice.pick(&[3_000, 6_000, 12_000, 25_000]);
        let x = (0..harts).map(|_| std::array::from_fn(|n| if n == 0 { 0 } else { dice.value() })).collect();
        let f = (0..harts).map(|_| std::array::from_fn(|_| dice.float())).collect();
        Program { seed, harts, ram, numbers, x, f, length, in_one: false }
    }
}

fn put(ram: &mut [u8], at: u64, bytes: &[u8]) {
    ram[at as usize..][..bytes.len()].copy_from_slice(bytes);
}

fn put_u64(ram: &mut [u8], at: u64, value: u64) {
    put(ram, at, &value.to_le_bytes());
}

impl Author {
    fn new(mut dice: Dice, roles: Roles) -> Author {
        use Kind::*;
        let common = [Compute, Compressed, Memory, Float, Device, If, Call, Loop, Switch];
        let rare = [Atomic, FloatState, Counter, System, Table, Fence, Patch, Mode, Garbage];
        let mut weights: Vec<(Kind, u64)> = common.map(|kind| (kind, dice.pick(&[1, 2, 4, 12]))).to_vec();
        // Most programs have little of what ends a block, and some have much.
        weights.extend(rare.map(|kind| (kind, dice.pick(&[0, 0, 0, 1, 1, 6]))));
        Author {
            dice,
            code: Code::default(),
            roles,
            weights,
            functions: Vec::new(),
            owed: Vec::new(),
            slots: Vec::new(),
            twin: None,
            budget: 0,
            in_function: false,
            rounds: 1,
        }
    }

    fn weight(&self, kind: Kind) -> u64 {
        self.weights.iter().find(|(other, _)| *other == kind).map_or(0, |(_, weight)| *weight)
    }

    fn scratch(&mut self) -> u32 {
        self.dice.pick(&self.roles.scratch)
    }

    /// Another one than these.
    fn scratch_but(&mut self, taken: &[u32]) -> u32 {
        loop {
            let register = self.scratch();
            if !taken.contains(&register) {
                return register;
            }
        }
    }

    /// A register to write: one that nothing hangs on.
    fn target(&mut self) -> u32 {
        if self.dice.one_in(24) { 0 } else { self.scratch() }
    }

    /// A register to read: any.
    fn source(&mut self) -> u32 {
        if self.dice.one_in(5) { self.dice.below(32) as u32 } else { self.scratch() }
    }

    fn data_pointer(&mut self) -> u32 {
        self.dice.pick(&self.roles.data)
    }

    /// Data: special values of all formats, small numbers, anything.
    fn fill_data(&mut self, ram: &mut [u8]) {
        let (start, end) = (DATA_PAGE * PAGE, (DATA_PAGE + DATA_PAGES) * PAGE);
        for at in (start..end).step_by(8) {
            let value = match at / PAGE - DATA_PAGE {
                0 | 3 | 4 => self.dice.float(),
                1 | 2 => self.dice.value(),
                _ => at.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            };
            put_u64(ram, at, value);
        }
    }
}
