//! The threaded interpreter: each instruction of a decoded block is 16 bytes that begin with the function which
//! executes it, and that function ends with a call of the next one's. The optimiser makes these calls jumps.
//!
//! The functions are made from the bodies in [`crate::exec`], as [`crate::run::execute`] is, which is the reference.
//! They do what is usual, from their 16 bytes and with few of the host's registers; the rest (a miss of the TLB, a
//! device, a CSR, a trap) is a body's that gets the whole [`Op`], out of line ([`perform`]).
//!
//! A function gets the steps from its own to the end of the block, so their number is that of the instructions not yet
//! attempted. A block is charged for when it is entered: what is left of the budget, and that number, say the exact
//! count at every instruction. A block that does not fit the budget is the reference's.
//!
//! Tail calls are not guaranteed: tests look for them in the released program. Builds with debug assertions come back
//! to [`Threaded::execute`] after each instruction instead.

mod handlers;

use crate::block::Arena;
use crate::hart::Hart;
use crate::isa::{Kind, Op, Reg};
use crate::ram::GuestRam;
use crate::run::{self, After, BODIES, Body, Pause};
use crate::shared::Cx;
use crate::tlb::{MAX_BLOCK, Span};

/// Executes the first of some steps, which lie in the block at an address, and all that follows; what is left of the
/// budget is charged with all of them. What stops it is in the [`Run`].
type Handler = for<'a> fn(&'a [Step], &mut Hart, &mut Run<'a, '_>, u64, u64);

/// One instruction, made from the [`Op`] of the same place in the arena.
#[derive(Clone, Copy)]
struct Step {
    handler: Handler,
    /// The immediate; of a floating-point instruction, which has none, the bits.
    imm: i32,
    rd: Reg,
    rs1: Reg,
    rs2: Reg,
    /// Distance of the instruction from the start of its block in bytes, and in bit 0 whether it has four bytes.
    place: u8,
}

const _: () = assert!(size_of::<Step>() == 16);
// `place` holds the distance of a block's last instruction.
const _: () = assert!((MAX_BLOCK - 1) * 4 < 1 << 8);

impl Step {
    /// Of an instruction that `next` may follow in its block.
    fn of(op: &Op, next: Option<&Op>) -> Step {
        let handler = next.and_then(|next| handlers::fused(op.kind, next.kind));
        Step {
            handler: handler.unwrap_or_else(|| handlers::of(op.kind)),
            imm: if handlers::wants_word(op.kind) { op.word as i32 } else { op.imm },
            rd: op.rd,
            rs1: op.rs1,
            rs2: op.rs2,
            place: op.off << 1 | u8::from(op.len == 4),
        }
    }

    /// As much of the `Op` as a body looks at.
    #[inline(always)]
    fn op(&self, kind: Kind) -> Op {
        let (rd, rs1, rs2, len) = (self.rd, self.rs1, self.rs2, 2 + 2 * (self.place & 1));
        Op { kind, rd, rs1, rs2, len, off: self.place >> 1, idx: 0, imm: self.imm, word: self.imm as u32 }
    }

    /// Its address in the block at `block`.
    #[inline(always)]
    fn pc(&self, block: u64) -> u64 {
        block.wrapping_add(u64::from(self.place & !1))
    }

    /// The address of what follows it.
    #[inline(always)]
    fn behind(&self, block: u64) -> u64 {
        self.pc(block).wrapping_add(2 + 2 * u64::from(self.place & 1))
    }
}

/// What all steps share, and where they stopped.
struct Run<'a, 'c> {
    steps: &'a [Step],
    /// What they were made from, by the same places.
    ops: &'a [Op],
    ram: &'a GuestRam,
    cx: &'a mut Cx<'c>,
    /// Where the budget ends.
    limit: u64,
    /// The block that is executed, if no other can be at its address yet.
    whole: &'a [Step],
    /// Something may have to be done first; the hart is at an instruction boundary with everything in place. Otherwise
    /// the start of a block was reached that is not known or does not fit.
    paused: bool,
    /// That block's address.
    block: u64,
    /// What is left of the budget there.
    left: u64,
    /// What to call next, with `block` and `left`, where that is not called at once.
    next: Option<&'a [Step]>,
}

/// Goes on with the block at an address, which may well be the one that is executed.
#[inline(always)]
fn branch<'a>(h: &mut Hart, run: &mut Run<'a, '_>, block: u64, pc: u64, left: u64) {
    let len = run.whole.len() as u64;
    if pc == block && len <= left && len != 0 {
        return dispatch(run.whole, h, run, pc, left - len);
    }
    enter(h, run, pc, left);
}

/// Goes on with the block at an address, if it is known and fits.
#[inline(always)]
fn enter<'a>(h: &mut Hart, run: &mut Run<'a, '_>, pc: u64, left: u64) {
    match find(h, run, pc, left) {
        Some(steps) => dispatch(steps, h, run, pc, left - steps.len() as u64),
        None => leave(run, pc, left),
    }
}

/// The block at an address, if it is known and fits.
#[inline(always)]
fn find<'a>(h: &Hart, run: &mut Run<'a, '_>, pc: u64, left: u64) -> Option<&'a [Step]> {
    let Span { start, len } = h.caches.block(pc)?;
    if u64::from(len) > left {
        return None;
    }
    let steps = run.steps.get(start as usize..)?.get(..len as usize)?;
    run.whole = steps;
    Some(steps)
}

/// Executes the first of these steps and what follows.
#[inline(always)]
fn dispatch<'a>(steps: &'a [Step], h: &mut Hart, run: &mut Run<'a, '_>, block: u64, left: u64) {
    let Some(first) = steps.first() else { return };
    if cfg!(debug_assertions) {
        (run.next, run.block, run.left) = (Some(steps), block, left);
    } else {
        (first.handler)(steps, h, run, block, left);
    }
}

/// Stops at the start of a block.
#[cold]
#[inline(never)]
fn leave(run: &mut Run<'_, '_>, pc: u64, left: u64) {
    (run.block, run.left) = (pc, left);
}

/// Has the first of these steps done by its body, at an exact count and whatever it takes.
#[inline(always)]
fn act<'a>(
    steps: &'a [Step],
    h: &mut Hart,
    run: &mut Run<'a, '_>,
    block: u64,
    left: u64,
    body: impl FnOnce(&Op) -> Body,
) -> After {
    let at = run.steps.element_offset(&steps[0]).expect("a step of the run's");
    let op = &run.ops[at];
    // Address translation may be another behind it.
    run.whole = &[];
    run.cx.icount = run.limit - left - steps.len() as u64 - u64::from(op.idx);
    run::step_by(body(op), h, run.cx, op, block)
}

/// As [`act`], and goes on.
#[inline(always)]
fn perform<'a>(
    steps: &'a [Step],
    h: &mut Hart,
    run: &mut Run<'a, '_>,
    block: u64,
    left: u64,
    body: impl FnOnce(&Op) -> Body,
) {
    match act(steps, h, run, block, left, body) {
        After::Next if steps.len() == 1 => fall(steps, h, run, block, left),
        After::Next => dispatch(&steps[1..], h, run, block, left),
        After::Check => run.paused = true,
        After::Go => {
            let (pc, left) = (h.pc, run.limit - run.cx.icount);
            enter(h, run, pc, left);
        }
    }
}

/// The handler of what is not usual for an instruction. What it calls has results in memory of its own, so that the
/// optimiser would not turn a last call into a jump: it goes on by a return.
#[cold]
#[inline(never)]
fn unusual<'a>(steps: &'a [Step], h: &mut Hart, run: &mut Run<'a, '_>, block: u64, left: u64) {
    let Some(first) = steps.first() else { return };
    let (pc, left) = match act(steps, h, run, block, left, |op| BODIES[op.kind as usize]) {
        After::Next if steps.len() > 1 => {
            (run.next, run.block, run.left) = (Some(&steps[1..]), block, left);
            return;
        }
        After::Next => (first.behind(block), left),
        After::Check => {
            run.paused = true;
            return;
        }
        After::Go => (h.pc, run.limit - run.cx.icount),
    };
    match find(h, run, pc, left) {
        Some(steps) => (run.next, run.block, run.left) = (Some(steps), pc, left - steps.len() as u64),
        None => leave(run, pc, left),
    }
}

/// Goes on behind the last step of a block that no jump ends.
#[inline(never)]
fn fall<'a>(last: &'a [Step], h: &mut Hart, run: &mut Run<'a, '_>, block: u64, left: u64) {
    let Some(step) = last.first() else { return };
    enter(h, run, step.behind(block), left);
}

/// The engine.
#[derive(Default)]
pub(crate) struct Threaded {
    /// By the place of the op in the arena.
    steps: Vec<Step>,
    /// The arena's when it was last looked at.
    generation: u64,
}

impl Threaded {
    /// As [`run::execute`].
    pub(crate) fn execute(&mut self, h: &mut Hart, cx: &mut Cx<'_>, arena: &mut Arena) -> Pause {
        self.catch_up(arena);
        let (pc, limit, left) = (h.pc, cx.limit, cx.limit - cx.icount);
        let mut run = Run {
            steps: &self.steps,
            ops: &arena.ops,
            ram: cx.ram,
            cx,
            limit,
            whole: &[],
            paused: false,
            block: pc,
            left,
            next: None,
        };
        enter(h, &mut run, pc, left);
        while let Some(steps) = run.next.take() {
            let (block, left) = (run.block, run.left);
            (steps[0].handler)(steps, h, &mut run, block, left);
        }
        if run.paused {
            return Pause::Check;
        }
        h.pc = run.block;
        cx.icount = limit - run.left;
        run::execute::<false>(h, cx, arena)
    }

    /// Makes steps of what was decoded since the last time.
    fn catch_up(&mut self, arena: &Arena) {
        if self.generation != arena.generation() {
            self.generation = arena.generation();
            self.steps.clear();
        }
        let ops = &arena.ops[self.steps.len()..];
        for (op, next) in ops.iter().zip(ops.iter().skip(1).map(Some).chain([None])) {
            self.steps.push(Step::of(op, next.filter(|next| next.idx != 0)));
        }
    }
}

/// Whether one handler executes both of these in succession.
#[cfg(test)]
pub(crate) fn is_pair(first: Kind, second: Kind) -> bool {
    handlers::fused(first, second).is_some()
}
