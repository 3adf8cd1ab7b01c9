//! The decoded-block cache, shared by all harts and keyed by physical address.
//!
//! A block is a run of instructions in one page that is entered at its first one. It goes on behind conditional
//! branches forwards and ends with a branch backwards, a jump, an instruction that may change the rules, at
//! [`MAX_BLOCK`] instructions, or at the end of the page. Stores drop blocks with the precision of a byte, found by way
//! of a bitmap of 64-byte lines, so that data beside code costs little.

use crate::decode::Decoder;
use crate::isa::{Kind, Op};
use crate::ram::{GuestRam, PAGE_SIZE};
use crate::tlb::{MAX_ARENA, MAX_BLOCK, Span};

/// Ops kept before everything is dropped and decoded afresh: 16 bytes each.
const CAPACITY: usize = 1 << 20;
const HEADS: usize = 1 << 16;
const NONE: u32 = u32::MAX;
const LINE: u64 = 64;

const _: () = assert!(CAPACITY + MAX_BLOCK < MAX_ARENA);

/// How often a block runs before it is translated: about what a translation costs. Tests have short programs.
pub(crate) const HOT: u8 = if cfg!(test) { 8 } else { 50 };
/// The heat of a block that is not to be translated.
const NEVER: u8 = u8::MAX;

#[derive(Clone, Copy)]
struct Record {
    gpa: u64,
    bytes: u16,
    len: u16,
    start: u32,
    next_in_hash: u32,
    next_in_page: u32,
}

/// Where blocks are. The ops themselves lie in the [`Arena`].
pub(crate) struct Blocks {
    records: Vec<Record>,
    heads: Vec<u32>,
    /// First record of each page of RAM.
    pages: Vec<u32>,
    /// For each page of RAM, which of its 64-byte lines code was decoded from.
    lines: Vec<u64>,
    /// Starts of blocks that were dropped, until [`Blocks::take_dead`].
    dead: Vec<u32>,
}

/// The ops of all blocks.
pub(crate) struct Arena {
    pub(crate) ops: Vec<Op>,
    /// For the first op of each block: how often it ran, up to [`HOT`].
    pub(crate) heat: Vec<u8>,
    /// Guest physical addresses of blocks, by the index of their first op, in ascending order of it.
    places: Vec<(u32, u64)>,
    /// How often everything was dropped.
    generation: u64,
    decoder: Decoder,
}

fn hash(gpa: u64) -> usize {
    ((gpa >> 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize & (HEADS - 1)
}

fn lines(gpa: u64, bytes: u64) -> u64 {
    let first = gpa % PAGE_SIZE / LINE;
    let last = ((gpa % PAGE_SIZE) + bytes - 1).min(PAGE_SIZE - 1) / LINE;
    (u64::MAX >> (63 - (last - first))) << first
}

impl Blocks {
    pub(crate) fn new(pages: usize) -> Blocks {
        Blocks {
            records: Vec::new(),
            heads: vec![NONE; HEADS],
            pages: vec![0; pages],
            lines: vec![0; pages],
            dead: Vec::new(),
        }
    }

    /// The block that starts at `gpa`.
    pub(crate) fn find(&self, gpa: u64) -> Option<Span> {
        let mut at = self.heads[hash(gpa)];
        while at != NONE {
            let record = &self.records[at as usize];
            if record.gpa == gpa {
                return Some(Span { start: record.start, len: record.len.into() });
            }
            at = record.next_in_hash;
        }
        None
    }

    fn insert(&mut self, page: usize, gpa: u64, bytes: u64, span: Span) {
        let head = &mut self.heads[hash(gpa)];
        let index = self.records.len() as u32;
        // Page lists hold index + 1, so that their table can start as zeroes, untouched by the host.
        self.records.push(Record {
            gpa,
            bytes: bytes as u16,
            len: span.len as u16,
            start: span.start,
            next_in_hash: *head,
            next_in_page: self.pages[page],
        });
        *head = index;
        self.pages[page] = index + 1;
        self.lines[page] |= lines(gpa, bytes);
    }

    /// Halves of an instruction that straddles pages lie at `gpa` and `second`. Its block is in jump caches only, but
    /// a write to either half must be noticed.
    pub(crate) fn note_halves(&mut self, ram: &GuestRam, gpa: u64, second: u64) {
        for gpa in [gpa, second] {
            let page = ram.page_of(gpa);
            self.records.push(Record {
                gpa,
                bytes: 2,
                len: 0,
                start: 0,
                next_in_hash: NONE,
                next_in_page: self.pages[page],
            });
            self.pages[page] = self.records.len() as u32;
            self.lines[page] |= lines(gpa, 2);
        }
    }

    /// Whether anything decoded from the page is kept.
    pub(crate) fn has_code(&self, page: usize) -> bool {
        self.lines[page] != 0
    }

    /// `len` bytes at `gpa`, all in one page, are written. True if something decoded from them may exist.
    pub(crate) fn invalidate(&mut self, page: usize, gpa: u64, len: u64) -> bool {
        if self.lines[page] & lines(gpa, len) == 0 {
            return false;
        }
        let overlaps = |record: &Record| gpa < record.gpa + u64::from(record.bytes) && record.gpa < gpa + len;
        let (mut dropped, mut kept_lines) = (false, 0);
        let mut link = std::mem::take(&mut self.pages[page]);
        while link != 0 {
            let index = link - 1;
            let record = self.records[index as usize];
            link = record.next_in_page;
            if overlaps(&record) {
                self.unlink(index);
                dropped = true;
            } else {
                kept_lines |= lines(record.gpa, record.bytes.into());
                self.records[index as usize].next_in_page = self.pages[page];
                self.pages[page] = index + 1;
            }
        }
        self.lines[page] = kept_lines;
        dropped
    }

    fn unlink(&mut self, index: u32) {
        let record = self.records[index as usize];
        if record.len == 0 {
            return;
        }
        self.dead.push(record.start);
        let head = hash(record.gpa);
        let mut at = self.heads[head];
        if at == index {
            self.heads[head] = record.next_in_hash;
            return;
        }
        while self.records[at as usize].next_in_hash != index {
            at = self.records[at as usize].next_in_hash;
        }
        self.records[at as usize].next_in_hash = record.next_in_hash;
    }

    /// Pages that something was decoded from.
    pub(crate) fn pages_with_code(&self) -> impl Iterator<Item = usize> {
        self.lines.iter().enumerate().filter(|(_, lines)| **lines != 0).map(|(page, _)| page)
    }

    /// Takes the starts of blocks that were dropped since the last call.
    pub(crate) fn take_dead(&mut self) -> impl Iterator<Item = u32> {
        self.dead.drain(..)
    }

    fn clear(&mut self) {
        self.dead.clear();
        self.records.clear();
        self.heads.fill(NONE);
        self.pages.fill(0);
        self.lines.fill(0);
    }
}

impl Arena {
    pub(crate) fn new(decoder: Decoder) -> Arena {
        Arena { ops: Vec::new(), heat: Vec::new(), places: Vec::new(), generation: 0, decoder }
    }

    /// How often everything was dropped: what was derived from ops is void when it changes.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Guest physical address of the block whose first op is this, if it lies in a page of its own.
    pub(crate) fn gpa(&self, start: u32) -> Option<u64> {
        let at = self.places.binary_search_by_key(&start, |place| place.0).ok()?;
        Some(self.places[at].1)
    }

    /// No room for another block: the caller clears, and drops all jump caches.
    pub(crate) fn is_full(&self) -> bool {
        self.ops.len() >= CAPACITY
    }

    pub(crate) fn clear(&mut self, blocks: &mut Blocks) {
        self.ops.clear();
        self.heat.clear();
        self.places.clear();
        self.generation += 1;
        blocks.clear();
    }

    /// Decodes the block at `gpa`, whose first instruction lies wholly in its page.
    pub(crate) fn build(&mut self, blocks: &mut Blocks, ram: &GuestRam, gpa: u64) -> Span {
        let start = self.ops.len();
        let offset = gpa - ram.base();
        let room = PAGE_SIZE - gpa % PAGE_SIZE;
        let mut bytes = 0;
        while self.ops.len() - start < MAX_BLOCK && bytes < room {
            let low = u16::from_le_bytes(ram.get(offset + bytes));
            let wide = low & 3 == 3;
            if wide && bytes + 2 == room {
                break;
            }
            let high = if wide { u16::from_le_bytes(ram.get(offset + bytes + 2)) } else { 0 };
            let mut op = self.decoder.decode(u32::from(high) << 16 | u32::from(low));
            op.off = (bytes / 2) as u8;
            op.idx = (self.ops.len() - start) as u8;
            bytes += u64::from(op.len);
            self.ops.push(op);
            if ends_block(&op) || closes_loop(&op) {
                break;
            }
        }
        let span = Span { start: start as u32, len: (self.ops.len() - start) as u32 };
        self.heat.resize(self.ops.len(), 0);
        self.places.push((span.start, gpa));
        blocks.insert(ram.page_of(gpa), gpa, bytes, span);
        span
    }

    /// A block of one instruction that no table knows.
    pub(crate) fn single(&mut self, word: u32) -> Span {
        self.ops.push(self.decoder.decode(word));
        self.heat.push(NEVER);
        Span { start: self.ops.len() as u32 - 1, len: 1 }
    }
}

/// A conditional branch backwards is taken more often than not: what is behind it is another block, or each turn of a
/// loop would be charged for it and given it back.
fn closes_loop(op: &Op) -> bool {
    let branches = matches!(op.kind, Kind::beq | Kind::bne | Kind::blt | Kind::bge | Kind::bltu | Kind::bgeu);
    branches && op.imm < 0
}

fn ends_block(op: &Op) -> bool {
    op.kind == Kind::illegal || op.kind.row().is_some_and(|row| row.ends_block)
}
