//! Floating-point instructions on special values, in all rounding modes, with flags set before and not.

use super::super::assembler::{Fields, encode};
use super::{Loop, Round, TEMPORARY, VALUES, compare};
use crate::isa::{Extension, ROWS, Row};
use crate::tests::differential::dice::Dice;
use crate::tests::differential::program::Program;
use crate::tests::support::{csrrs, i};

const FFLAGS: i32 = 1;
const FRM: i32 = 2;
const DYNAMIC: u32 = 7;

/// A format, by its sizes in bits.
#[derive(Clone, Copy)]
struct Format {
    exponent: u32,
    fraction: u32,
}

const FORMATS: [Format; 3] = [
    Format { exponent: 8, fraction: 23 },
    Format { exponent: 11, fraction: 52 },
    Format { exponent: 5, fraction: 10 },
];

impl Format {
    fn width(self) -> u32 {
        1 + self.exponent + self.fraction
    }

    /// A register that holds these bits.
    fn boxed(self, bits: u64) -> u64 {
        if self.width() == 64 { bits } else { bits | u64::MAX << self.width() }
    }

    /// Zeroes, subnormals, ones, numbers beside powers of two, the largest, infinities, NaNs of both kinds with and
    /// without payloads, of both signs; and registers that hold no value of this format.
    fn values(self) -> Vec<u64> {
        let ones = (1_u64 << self.exponent) - 1;
        let bias = ones / 2;
        let all = (1_u64 << self.fraction) - 1;
        let of = |exponent: u64, fraction: u64| exponent << self.fraction | fraction;
        let magnitudes = [
            of(0, 0),
            of(0, 1),
            of(0, all),
            of(1, 0),
            of(1, 1),
            of(bias - 1, 0),
            of(bias, 0),
            of(bias, 1),
            of(bias, all),
            of(bias + 1, all / 3),
            of(bias + u64::from(self.fraction), 1),
            of(bias - u64::from(self.fraction) - 1, 0),
            of((bias + 31).min(ones - 1), 0),
            of((bias + 63).min(ones - 1), 0),
            of(ones - 1, all),
            of(ones, 0),
            of(ones, 1),
            of(ones, all / 2 + 1),
            of(ones, all),
        ];
        let sign = 1 << (self.width() - 1);
        let signed = magnitudes.into_iter().flat_map(|bits| [bits, bits | sign]).map(|bits| self.boxed(bits));
        signed.chain([of(bias, 0), 0x7ff0_0000_0000_0000, 0xffff_fffe_3f80_0000]).collect()
    }
}

/// The format of an operand: of the instruction's, but conversions name their source in rs2.
fn source_format(row: &Row) -> Format {
    let suffix = row.name.rsplit('_').next().expect("a name has a last part");
    let of = |letter: &str| match letter {
        "d" => FORMATS[1],
        "h" => FORMATS[2],
        _ => FORMATS[0],
    };
    match row.name.split('_').nth(1) {
        // fmv_x_w and the like: whatever lies there.
        Some("x") => of(suffix),
        _ if row.name.starts_with("fcvt") => of(suffix),
        Some(format) => of(format),
        None => of("s"),
    }
}

fn floats() -> impl Iterator<Item = &'static Row> {
    let float = [Extension::F, Extension::D, Extension::Zfh, Extension::Zfhmin];
    ROWS.iter().filter(move |row| float.contains(&row.extension) && !row.operands.contains('('))
}

/// Operands for a row, at most so many rounds: all pairs, or triples and pairs drawn at random.
fn rounds(row: &Row, most: usize) -> Vec<Round> {
    if row.operands.contains('s') {
        let integers =
            VALUES.into_iter().flat_map(|value| [value, value.wrapping_neg(), value >> 11, value << 40]);
        return integers.cycle().take(most.min(112)).map(|value| [value; 4]).collect();
    }
    let values = source_format(row).values();
    let mut dice = Dice::new(row.kind as u64);
    let count = row.operands.matches(['S', 'T', 'R']).count();
    if count == 1 {
        return values.iter().cycle().take(2 * values.len()).map(|&value| [value, 0, 0, 0]).collect();
    }
    let every: Vec<Round> =
        values.iter().flat_map(|&a| values.iter().map(move |&b| [a, b, 0x3ff8_0000_3fc0_3e00, b])).collect();
    let mut drawn = || {
        let [a, b, c, old] = [(); 4].map(|()| dice.pick(&values));
        [a, b, old, c]
    };
    match count == 3 || every.len() > most {
        true => (0..most).map(|_| drawn()).collect(),
        false => every,
    }
}

/// Registers for a piece, and how its rounding and flags are.
#[derive(Clone, Copy)]
struct Setting {
    rd: u32,
    rs: [u32; 3],
    /// In the instruction, and in `frm`.
    rm: (u32, u32),
    flags: u32,
}

fn piece(body: &mut Loop, row: &Row, setting: Setting) {
    let Setting { rd, rs, rm, flags } = setting;
    let (reads_integer, writes_integer) = (row.operands.contains('s'), row.operands.contains('d'));
    let set = |csr: i32, value: u32| i(0x73, 5, 0, value, csr);
    body.code.words(&[set(FRM, rm.1), set(FFLAGS, flags)]);
    // fld: the old value of rd, then the operands.
    for (register, index) in [(rd, 2), (rs[0], 0), (rs[1], 1), (rs[2], 3)] {
        body.code.word(i(0x07, 3, register, super::AT, 8 * index));
    }
    if reads_integer {
        body.operand(rs[0], 0);
    }
    let fields = Fields { rd, rs1: rs[0], rs2: rs[1], rs3: rs[2], rm: rm.0 };
    body.code.word(encode(row, fields, 0));
    if writes_integer {
        body.take(rd);
    } else {
        body.code.word(0xe200_0053 | TEMPORARY << 7 | rd << 15);
        body.take(TEMPORARY);
    }
    body.code.word(csrrs(TEMPORARY, FFLAGS as u32, 0));
    body.take(TEMPORARY);
}

/// Every rounding mode, static and dynamic, with flags clear and set.
fn modes(row: &'static Row) -> Program {
    let mut body = Loop::new();
    let has_mode = row.operands.contains('m');
    let fixed = (0..7).map(|rm| (rm, 0)).chain((0..5).map(|rm| (rm, 2)));
    let dynamic = (0..6).map(|frm| (DYNAMIC, frm));
    let modes: Vec<(u32, u32)> = if has_mode { fixed.chain(dynamic).collect() } else { vec![(0, 0), (0, 5)] };
    for rm in modes {
        for flags in [0, 31] {
            piece(&mut body, row, Setting { rd: 10, rs: [11, 12, 13], rm, flags });
        }
    }
    body.finish(1, &rounds(row, if has_mode { 600 } else { 1700 }))
}

/// Registers that are equal to one another, and of both classes.
fn registers(row: &'static Row) -> Program {
    let mut body = Loop::new();
    for rd in [10, 28] {
        for rs1 in [12, 29, rd] {
            for rs2 in [0, 30, rd, rs1] {
                for rs3 in [5, rd, rs1] {
                    let setting = Setting { rd, rs: [rs1, rs2, rs3], rm: (DYNAMIC, 0), flags: 0 };
                    piece(&mut body, row, setting);
                }
            }
        }
    }
    body.finish(1, &rounds(row, 120))
}

#[test]
fn floats_in_all_modes() {
    compare(floats().map(|row| (row.name, modes(row))));
}

#[test]
fn floats_in_all_registers() {
    compare(floats().map(|row| (row.name, registers(row))));
}
