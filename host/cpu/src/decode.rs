//! Bits to [`Op`]: the decoder, derived from the instruction table.

use crate::compressed;
use crate::config::HartConfig;
use crate::isa::{Kind, Op, ROWS, Reg, Row};

/// Which immediate an instruction has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Immediate {
    None,
    I,
    S,
    B,
    U,
    J,
    Shift6,
    Shift5,
    Csr,
}

/// What the decoder keeps of a row.
#[derive(Clone, Copy)]
struct Entry {
    bits: u32,
    mask: u32,
    kind: Kind,
    immediate: Immediate,
    /// rd is an integer register, so a destination of x0 becomes the sink.
    writes_x: bool,
}

/// The decoder of one configuration: the rows whose extension is on, by opcode and funct3.
pub(crate) struct Decoder {
    entries: Vec<Entry>,
    /// For each opcode and funct3, where its candidates lie in `entries`.
    buckets: Vec<(u16, u16)>,
}

const BUCKETS: u32 = 1 << 8;

fn bucket(word: u32) -> usize {
    ((word >> 2 & 31) << 3 | (word >> 12 & 7)) as usize
}

fn immediate_of(row: &Row) -> Immediate {
    let found = row.operands.chars().find_map(|operand| match operand {
        'j' => Some(Immediate::I),
        'q' => Some(Immediate::S),
        'p' => Some(Immediate::B),
        'u' => Some(Immediate::U),
        'a' => Some(Immediate::J),
        '>' => Some(Immediate::Shift6),
        '<' => Some(Immediate::Shift5),
        'E' => Some(Immediate::Csr),
        _ => None,
    });
    found.unwrap_or(Immediate::None)
}

fn extract(word: u32, immediate: Immediate) -> i32 {
    let signed = word as i32;
    match immediate {
        Immediate::None => 0,
        Immediate::I => signed >> 20,
        Immediate::S => (signed >> 25 << 5) | (word >> 7 & 31) as i32,
        Immediate::B => {
            let low = (word >> 7 & 1) << 11 | (word >> 25 & 63) << 5 | (word >> 8 & 15) << 1;
            (signed >> 31 << 12) | low as i32
        }
        Immediate::U => (word & 0xffff_f000) as i32,
        Immediate::J => {
            let low = (word >> 12 & 0xff) << 12 | (word >> 20 & 1) << 11 | (word >> 21 & 0x3ff) << 1;
            (signed >> 31 << 20) | low as i32
        }
        Immediate::Shift6 => (word >> 20 & 63) as i32,
        Immediate::Shift5 => (word >> 20 & 31) as i32,
        Immediate::Csr => (word >> 20) as i32,
    }
}

impl Decoder {
    pub(crate) fn new(config: &HartConfig) -> Decoder {
        let mut rows: Vec<&Row> = ROWS.iter().filter(|row| config.has(row.extension)).collect();
        // The most specific first: the candidates are tried in order.
        rows.sort_by_key(|row| std::cmp::Reverse(row.encoding.mask.count_ones()));
        let (mut entries, mut buckets) = (Vec::new(), Vec::new());
        for index in 0..BUCKETS {
            let probe = (index >> 3) << 2 | 3 | (index & 7) << 12;
            let start = entries.len();
            let fits = |row: &&&Row| (probe ^ row.encoding.bits) & row.encoding.mask & 0x707f == 0;
            entries.extend(rows.iter().filter(fits).map(|row| Entry {
                bits: row.encoding.bits,
                mask: row.encoding.mask,
                kind: row.kind,
                immediate: immediate_of(row),
                writes_x: row.operands.starts_with('d'),
            }));
            buckets.push((start as u16, entries.len() as u16));
        }
        Decoder { entries, buckets }
    }

    /// Decodes an instruction. Of `word` the low 16 bits count if it is compressed. `off` and `idx` are left zero.
    pub(crate) fn decode(&self, word: u32) -> Op {
        if word & 3 == 3 {
            return self.decode_wide(word, 4, word);
        }
        let half = word as u16;
        match compressed::expand(half) {
            Some(expanded) => self.decode_wide(expanded, 2, half.into()),
            None => illegal(half.into(), 2),
        }
    }

    fn decode_wide(&self, word: u32, len: u8, fetched: u32) -> Op {
        let (from, to) = self.buckets[bucket(word)];
        let candidates = &self.entries[from.into()..to.into()];
        let Some(entry) = candidates.iter().find(|entry| word & entry.mask == entry.bits) else {
            return illegal(fetched, len);
        };
        let rd = if entry.writes_x && word >> 7 & 31 == 0 { Reg::Sink } else { Reg::of(word >> 7) };
        Op {
            kind: entry.kind,
            rd,
            rs1: Reg::of(word >> 15),
            rs2: Reg::of(word >> 20),
            len,
            off: 0,
            idx: 0,
            imm: extract(word, entry.immediate),
            word: fetched,
        }
    }
}

fn illegal(word: u32, len: u8) -> Op {
    Op { kind: Kind::illegal, rd: Reg::Sink, rs1: Reg::X0, rs2: Reg::X0, len, off: 0, idx: 0, imm: 0, word }
}

#[cfg(test)]
#[path = "decode/tests.rs"]
mod tests;
