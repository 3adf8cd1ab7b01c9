//! Integer instructions, memory, atomics, control, CSRs.

use super::super::assembler::{Fields, add, encode, store};
use super::{BORDER, Loop, Round, SUM, TEMPORARY, VALUES, compare, takes};
use crate::isa::{ROWS, Row};
use crate::tests::differential::program::Program;
use crate::tests::support::{PORT, addi, i};

/// Register classes: host registers hold some of the guest's and not others.
const PINNED: [u32; 9] = [10, 11, 12, 13, 14, 15, 8, 9, 2];
const OTHERS: [u32; 6] = [5, 6, 7, 28, 29, 16];

/// The choices of registers for rd, rs1 and rs2: of each class, x0, and equal to one another.
fn choices(row: &Row) -> Vec<[u32; 3]> {
    let turn = row.kind as usize;
    let pinned = |index: usize| PINNED[(turn + index) % PINNED.len()];
    let other = |index: usize| OTHERS[(turn + index) % OTHERS.len()];
    let mut all = Vec::new();
    for rd in [pinned(0), other(0), 0] {
        for rs1 in [pinned(1), other(1), 0, rd] {
            for rs2 in [pinned(2), other(2), 0, rd, rs1] {
                if !all.contains(&[rd, rs1, rs2]) {
                    all.push([rd, rs1, rs2]);
                }
            }
        }
    }
    all
}

/// Those for instructions that have no rs2.
fn choices_of_two(row: &Row) -> Vec<[u32; 2]> {
    let mut all: Vec<[u32; 2]> = choices(row).into_iter().map(|[rd, rs1, _]| [rd, rs1]).collect();
    all.dedup();
    all
}

fn pairs() -> Vec<Round> {
    let pair = |a: u64| VALUES.map(move |b| [a, b, a.rotate_left(17) ^ !b, b.wrapping_mul(3)]);
    VALUES.into_iter().flat_map(pair).collect()
}

/// A piece: operands, the instruction, its result.
fn piece(body: &mut Loop, row: &Row, [rd, rs1, rs2]: [u32; 3], filling: u32) {
    body.operand(rd, 2);
    body.operand(rs1, 0);
    body.operand(rs2, 1);
    body.code.word(encode(row, Fields { rd, rs1, rs2, ..Fields::default() }, filling));
    body.take(rd);
}

fn three_registers(row: &'static Row) -> Program {
    let mut body = Loop::new();
    for registers in choices(row) {
        piece(&mut body, row, registers, 0);
    }
    body.finish(1, &pairs())
}

/// Immediates or shift amounts, as the bits of an I-type.
fn immediates(row: &'static Row) -> Program {
    let mut body = Loop::new();
    for [rd, rs1] in choices_of_two(row) {
        for imm in [0, 1, 5, 31, 32, 63, 255, 2047, -1, -2048] {
            piece(&mut body, row, [rd, rs1, 0], ((imm as u32) & 0xfff) << 20);
        }
    }
    let rounds: Vec<Round> = VALUES.into_iter().cycle().take(60).map(|value| [value, 0, !value, 0]).collect();
    body.finish(1, &rounds)
}

fn upper_immediates(row: &'static Row) -> Program {
    let mut body = Loop::new();
    for [rd, _] in choices_of_two(row) {
        for imm in [0, 1, 0x7_ffff, 0x8_0000, 0xf_ffff] {
            piece(&mut body, row, [rd, 0, 0], imm << 12);
            // And what is computed from it.
            body.code.words(&[i(0x1b, 0, rd, rd, -1), addi(rd, rd, 2047)]);
            body.take(rd);
        }
    }
    body.finish(1, &vec![[0; 4]; 80])
}

#[test]
fn computation_in_all_registers() {
    compare(ROWS.iter().filter_map(|row| {
        Some((
            row.name,
            match row.operands {
                "d,s,t" | "d,s" => three_registers(row),
                "d,s,j" | "d,s,>" | "d,s,<" => immediates(row),
                "d,u" => upper_immediates(row),
                _ => return None,
            },
        ))
    }));
}

/// Branches, taken and not, to two places.
fn branches(row: &'static Row) -> Program {
    let mut body = Loop::new();
    for [_, rs1, rs2] in choices(row) {
        body.operand(rs1, 0);
        body.operand(rs2, 1);
        // Over one instruction.
        let word = encode(row, Fields { rs1, rs2, ..Fields::default() }, 8 << 7);
        body.code.words(&[word, addi(SUM, SUM, 1)]);
        body.take(rs1);
    }
    body.finish(1, &pairs())
}

/// Jumps to an address in a register, which may be the link, with an offset that may be odd.
fn jumps(row: &'static Row) -> Program {
    let mut body = Loop::new();
    for [rd, rs1] in choices_of_two(row).into_iter().filter(|[_, rs1]| *rs1 != 0) {
        for offset in [0, 1, 4, -2047, 2046] {
            let there = body.code.label();
            body.code.address(rs1, there);
            // An odd sum loses its last bit.
            body.code.word(addi(rs1, rs1, -(offset & !1)));
            body.code.word(encode(
                row,
                Fields { rd, rs1, ..Fields::default() },
                ((offset as u32) & 0xfff) << 20,
            ));
            body.code.words(&[0, 0]);
            body.code.bind(there);
            body.take(rd);
        }
    }
    body.finish(1, &vec![[0; 4]; 80])
}

fn direct_jumps(row: &'static Row) -> Program {
    let mut body = Loop::new();
    for [rd, _] in choices_of_two(row) {
        let there = body.code.label();
        body.code.jal(rd, there);
        body.code.words(&[0, 0]);
        body.code.bind(there);
        body.take(rd);
    }
    body.finish(1, &vec![[0; 4]; 80])
}

#[test]
fn control_in_all_registers() {
    compare(ROWS.iter().filter_map(|row| {
        Some((
            row.name,
            match row.operands {
                "s,t,p" => branches(row),
                "d,j(s)" if row.ends_block => jumps(row),
                "d,a" => direct_jumps(row),
                _ => return None,
            },
        ))
    }));
}

/// Addresses: aligned and not, over the end of a page, in a device, nowhere.
fn places() -> Vec<Round> {
    let near = [0, 8, 64, 1, 2, 4, 7, 63, -1, -2, -3, -4, -7, -8]
        .map(|offset: i64| BORDER.wrapping_add_signed(offset));
    let beyond = [BORDER + 0xff8, BORDER + 0xffc, BORDER + 0xfff, BORDER + 0x1000];
    let elsewhere = [PORT, PORT + 8, PORT + 1, PORT + 0x400, 0, u64::MAX, u64::MAX - 6, 1 << 63];
    // Often enough that code gets hot on those that do not trap as on those that do.
    let all = near.into_iter().chain(beyond).chain(elsewhere).cycle().take(400).enumerate();
    all.map(|(index, at)| [at, VALUES[index % VALUES.len()], index as u64, at.wrapping_sub(16)]).collect()
}

/// An access through registers of all classes. `offset`: has it one?
fn accesses(row: &'static Row, offset: bool) -> Program {
    let mut body = Loop::new();
    let is_store = row.operands.starts_with(['t', 'T']);
    let is_float = row.operands.contains(['D', 'T']);
    // Atomics use what stores have found.
    body.code.li(TEMPORARY, BORDER);
    body.code.words(&[store(0x23, 3, SUM, TEMPORARY, 256), store(0x23, 3, SUM, TEMPORARY, -256)]);
    for [rd, rs1, rs2] in choices(row).into_iter().filter(|[_, rs1, _]| *rs1 != 0) {
        // With an offset of 16 at times.
        let far = offset && (rd + rs2) % 2 == 1;
        let bits = if is_store { store(0, 0, 0, 0, 16) } else { 16 << 20 };
        body.operand(rd, 2);
        body.operand(if is_float { TEMPORARY } else { rs2 }, 1);
        body.operand(rs1, if far { 3 } else { 0 });
        if is_float {
            body.code.word(encode_move(rd, TEMPORARY));
        }
        body.code.word(encode(row, Fields { rd, rs1, rs2, ..Fields::default() }, if far { bits } else { 0 }));
        if is_float {
            body.code.word(0xe200_0053 | TEMPORARY << 7 | rd << 15);
            body.take(TEMPORARY);
        } else {
            body.take(rd);
        }
        // What is in memory now, where there is some.
        body.code.li(TEMPORARY, BORDER - 8);
        body.code.words(&[i(0x03, 3, TEMPORARY, TEMPORARY, 8), add(SUM, SUM, TEMPORARY)]);
    }
    body.finish(1, &places())
}

/// `fmv.d.x`.
fn encode_move(rd: u32, rs1: u32) -> u32 {
    0xf200_0053 | rd << 7 | rs1 << 15
}

#[test]
fn memory_through_all_registers() {
    compare(ROWS.iter().filter_map(|row| {
        Some((
            row.name,
            match row.operands {
                "d,j(s)" if !row.ends_block => accesses(row, true),
                "t,q(s)" | "D,j(s)" | "T,q(s)" => accesses(row, true),
                "d,t,(s)" | "d,(s)" | "(s)" => accesses(row, false),
                _ => return None,
            },
        ))
    }));
}

/// CSRs whose values may be anything, or a few bits of which matter.
const CSRS: [(u32, u64); 22] = [
    (0x001, !0),
    (0x002, 7),
    (0x003, 0xff),
    (0x100, 0xc_6122),
    (0x104, !0),
    (0x105, !3),
    (0x106, 7),
    (0x140, !0),
    (0x141, !0),
    (0x142, !0),
    (0x143, !0),
    (0x144, 2),
    (0x180, 0),
    (0x300, 0xc_6000 | 0xaa | 1 << 20),
    (0x304, 0xaaa),
    (0x306, 7),
    (0x340, !0),
    (0x341, !0),
    (0x343, !0),
    (0xb00, !0),
    (0xb02, !0),
    (0xc01, 0),
];

fn control_registers(row: &'static Row) -> Vec<Program> {
    let one = |&(csr, mask): &(u32, u64)| {
        let mut body = Loop::new();
        let is_immediate = row.operands == "d,E,Z";
        for [rd, rs1] in choices_of_two(row) {
            body.operand(rd, 2);
            body.operand(TEMPORARY, 3);
            body.operand(if is_immediate { 0 } else { rs1 }, 0);
            if !is_immediate {
                body.code.word(super::super::assembler::and(rs1, rs1, TEMPORARY));
            }
            let imm = if mask == 0 { 0 } else { rs1 & mask as u32 };
            let word = encode(row, Fields { rd, rs1, ..Fields::default() }, csr << 20);
            let word = if is_immediate { word & !(31 << 15) | (imm & 31) << 15 } else { word };
            body.code.word(word);
            body.take(rd);
            body.code.word(i(0x73, 2, TEMPORARY, 0, csr as i32));
            body.take(TEMPORARY);
        }
        let rounds: Vec<Round> =
            VALUES.into_iter().cycle().take(70).map(|value| [value, 0, !value, mask]).collect();
        body.finish(1, &rounds)
    };
    CSRS.iter().map(one).collect()
}

#[test]
fn control_registers_through_all_registers() {
    let rows = ROWS.iter().filter(|row| takes(row, "d,E,s") || takes(row, "d,E,Z"));
    compare(rows.flat_map(|row| control_registers(row).into_iter().map(|program| (row.name, program))));
}

/// What has no operands that matter: each in a loop of its own, some with a way back.
#[test]
fn system_instructions() {
    let rows = ROWS.iter().filter(|row| ["", "s,t", "P"].contains(&row.operands) && !takes(row, "s,t,p"));
    compare(rows.filter(|row| row.name != "wfi").map(|row| {
        let mut body = Loop::new();
        let next = body.code.label();
        body.code.address(TEMPORARY, next);
        body.code.words(&[i(0x73, 1, 0, TEMPORARY, 0x341), i(0x73, 1, 0, TEMPORARY, 0x141)]);
        // Back to M-mode.
        body.code.li(TEMPORARY, 3 << 11);
        body.code.word(i(0x73, 2, 0, TEMPORARY, 0x300));
        if row.name != "sret" {
            body.code.word(encode(row, Fields::default(), 0));
        }
        body.code.bind(next);
        body.operand(5, 0);
        body.take(5);
        (row.name, body.finish(1, &pairs()))
    }));
}
