//! The interpreter: from one instruction boundary to the next, never past the limit.
//!
//! Interrupts are sampled when a run begins and directly after an instruction that may make one takeable; nothing
//! else can. So how a run is cut into pieces, and how code is cut into blocks, changes nothing.

use crate::block::{Arena, HOT};
use crate::bus::{Attempt, Refused};
use crate::cluster::ExitReason;
use crate::exec;
use crate::hart::{Hart, Waiting};
use crate::isa::{Kind, Op, for_each_insn};
use crate::mmu::{Access, translate};
use crate::observe;
use crate::ram::PAGE_SIZE;
use crate::shared::Cx;
use crate::tiers::Tiers;
use crate::tlb::Span;
use crate::trap::Trap;

/// Why a block is left after, or at, an instruction that is no jump.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// The instruction is done, but what follows it in the block may be stale, or the run must end.
    Leave,
    /// The instruction trapped.
    Trap(Trap),
}

impl From<Trap> for Stop {
    #[inline(always)]
    fn from(trap: Trap) -> Stop {
        Stop::Trap(trap)
    }
}

/// Why [`execute`] came back. The hart is at an instruction boundary with everything in place.
pub(crate) enum Pause {
    /// No block is known for the pc.
    Miss,
    /// The block at the pc has run often enough to be translated. Only where this is asked for.
    Hot(Span),
    /// The limit is reached.
    Limit,
    /// Something may have to be done before the next instruction.
    Check,
}

/// Runs `h` to `cx.limit` or until it must stop earlier.
pub(crate) fn run(h: &mut Hart, cx: &mut Cx<'_>, arena: &mut Arena, tiers: &mut Tiers) -> ExitReason {
    cx.enter(h);
    let reason = if wakes(h, cx) { run_awake(h, cx, arena, tiers) } else { ExitReason::Wfi };
    cx.leave(h);
    reason
}

/// Ends a wait that is over, at the hart's next instruction: a run of none changes nothing. False if the hart goes on
/// waiting.
fn wakes(h: &mut Hart, cx: &Cx<'_>) -> bool {
    let lost = h.waiting == Waiting::Reservation && cx.shared.reservations[h.id].is_none();
    if h.waiting == Waiting::No || lost || h.interrupts.pending() != 0 {
        if cx.icount < cx.limit {
            h.waiting = Waiting::No;
        }
        return true;
    }
    false
}

fn run_awake(h: &mut Hart, cx: &mut Cx<'_>, arena: &mut Arena, tiers: &mut Tiers) -> ExitReason {
    let limit = cx.limit;
    loop {
        if let Some(reason) = cx.exit.take() {
            return reason;
        }
        if cx.icount >= limit {
            return ExitReason::Limit;
        }
        if std::mem::take(&mut h.sample)
            && let Some(bit) = h.takeable_interrupt()
        {
            cx.clear_reservation(h.id);
            let from = h.privilege;
            h.take_interrupt(bit);
            if cx.observed.traps {
                observe::tell_trap(h, cx, from, cx.icount);
            }
        }
        cx.stale = false;
        cx.reconsider = false;
        let mut watched = false;
        if h.triggers.watch_execution() {
            if let Err(trap) = h.check_execute_triggers(h.pc) {
                not_fetched(h, cx, trap);
                continue;
            }
            cx.limit = cx.icount + 1;
            watched = true;
        }
        let pause = if watched { tiers.execute_plainly(h, cx, arena) } else { tiers.execute(h, cx, arena) };
        cx.limit = limit;
        if let Pause::Miss = pause
            && let Err(trap) = find_block(h, cx, arena)
        {
            not_fetched(h, cx, trap);
        }
    }
}

/// Takes a trap that kept the instruction at the pc from being executed.
#[cold]
fn not_fetched(h: &mut Hart, cx: &mut Cx<'_>, trap: Trap) {
    let from = h.privilege;
    trapped(h, cx, trap, h.pc, 1);
    observe::tell_trap(h, cx, from, cx.icount - 1);
}

/// Takes a trap of the instruction at `pc`, the last of `attempted` ones. The run may have to end all the same: a
/// device that refuses an access may have asked for attention.
#[cold]
#[inline(never)]
pub(crate) fn trapped(h: &mut Hart, cx: &mut Cx<'_>, trap: Trap, pc: u64, attempted: u64) {
    cx.icount += attempted;
    if let Some((gpa, size, attempt)) = cx.refused.take() {
        cx.bus.refused(Refused { gpa, size, attempt, pc, icount: cx.icount - 1 });
    }
    cx.clear_reservation(h.id);
    h.take_trap(trap, pc);
}

/// A block is about to run: counts it. Whether it is hot.
#[inline(always)]
fn warm(heat: &mut u8) -> bool {
    if *heat == HOT {
        return true;
    }
    *heat = heat.saturating_add(u8::from(*heat < HOT));
    false
}

/// The block at `pc`, as far as it fits the budget: an op is an instruction.
#[inline(always)]
fn next_block<const TIERED: bool>(h: &Hart, cx: &Cx<'_>, heat: &mut [u8], pc: u64) -> Result<Span, Pause> {
    let left = cx.limit - cx.icount;
    if left == 0 {
        return Err(Pause::Limit);
    }
    let Some(span) = h.caches.block(pc) else {
        return Err(Pause::Miss);
    };
    if TIERED && warm(&mut heat[span.start as usize]) {
        return Err(Pause::Hot(span));
    }
    Ok(Span { len: span.len.min(left.min(64) as u32), ..span })
}

/// Runs known blocks until something else must happen. THE hot loop. `TIERED`: it counts how often each block runs, and
/// stops at one that ran often.
#[inline(never)]
pub(crate) fn execute<const TIERED: bool>(h: &mut Hart, cx: &mut Cx<'_>, arena: &mut Arena) -> Pause {
    let Arena { ops, heat, .. } = arena;
    let ops = ops.as_slice();
    let mut pc = h.pc;
    'block: loop {
        let (base, block) = match next_block::<TIERED>(h, cx, heat, pc) {
            Ok(Span { start, len }) => (pc, &ops[start as usize..][..len as usize]),
            Err(pause) => {
                h.pc = pc;
                return pause;
            }
        };
        for op in block {
            macro_rules! this {
                (pc) => {
                    base.wrapping_add(u64::from(op.off) * 2)
                };
                (count) => {
                    u64::from(op.idx) + 1
                };
            }
            macro_rules! trap {
                ($trap:expr) => {{
                    trapped(h, cx, $trap, this!(pc), this!(count));
                    pc = h.pc;
                    if cx.exit.is_some() {
                        return Pause::Check;
                    }
                    continue 'block;
                }};
            }
            macro_rules! class {
                (alu $body:path) => {
                    $body(h, op)
                };
                (pcrel $body:path) => {
                    $body(h, op, this!(pc))
                };
                (branch $body:path) => {
                    if $body(h, op) {
                        pc = this!(pc).wrapping_add(i64::from(op.imm) as u64);
                        cx.icount += this!(count);
                        continue 'block;
                    }
                };
                (jump $body:path) => {{
                    pc = $body(h, op, this!(pc));
                    cx.icount += this!(count);
                    continue 'block;
                }};
                (fp $body:path) => {
                    if let Err(trap) = $body(h, op) {
                        trap!(trap);
                    }
                };
                (mem $body:path) => {
                    match $body(h, cx, op) {
                        Ok(()) => {}
                        Err(Stop::Trap(trap)) => trap!(trap),
                        Err(Stop::Leave) => {
                            h.pc = this!(pc).wrapping_add(op.len.into());
                            cx.icount += this!(count);
                            return Pause::Check;
                        }
                    }
                };
                (system $body:path) => {
                    match $body(h, cx, op, this!(pc)) {
                        Ok(next) => {
                            pc = next;
                            cx.icount += this!(count);
                            if h.sample || cx.exit.is_some() || cx.reconsider {
                                h.pc = pc;
                                return Pause::Check;
                            }
                            continue 'block;
                        }
                        Err(trap) => trap!(trap),
                    }
                };
            }
            macro_rules! arms {
                ($($name:ident $class:ident $module:ident $ext:ident $operands:literal $shape:ident $bits:tt;)*) => {
                    match op.kind {
                        Kind::illegal => trap!(Trap::illegal(op)),
                        $(Kind::$name => class!($class exec::$module::$name),)*
                    }
                };
            }
            for_each_insn!(arms);
        }
        let count = block.len();
        let last = &block[count - 1];
        pc = base.wrapping_add(u64::from(last.off) * 2 + u64::from(last.len));
        cx.icount += count as u64;
    }
}

/// What comes after one instruction.
pub(crate) enum Flow {
    /// The one behind it.
    Next,
    /// The one behind it, but not from the same block.
    Leave,
    /// The one at this address.
    Go(u64),
}

/// Executes one instruction, which lies at the given address: the same bodies as [`execute`], for callers that have no
/// template for it. `cx.icount` is that of the start of its block.
pub(crate) type Body = fn(&mut Hart, &mut Cx<'_>, &Op, u64) -> Result<Flow, Trap>;

macro_rules! define_bodies {
    ($($name:ident $class:ident $module:ident $ext:ident $operands:literal $shape:ident $bits:tt;)*) => {
        /// By [`Kind`].
        pub(crate) static BODIES: &[Body] = &[
            |_, _, op, _| Err(Trap::illegal(op)),
            $(body!($class exec::$module::$name)),*
        ];
    };
}
macro_rules! body {
    (alu $body:path) => {
        |h, _, op, _| {
            $body(h, op);
            Ok(Flow::Next)
        }
    };
    (pcrel $body:path) => {
        |h, _, op, pc| {
            $body(h, op, pc);
            Ok(Flow::Next)
        }
    };
    (branch $body:path) => {
        |h, _, op, pc| {
            Ok(if $body(h, op) { Flow::Go(pc.wrapping_add(i64::from(op.imm) as u64)) } else { Flow::Next })
        }
    };
    (jump $body:path) => {
        |h, _, op, pc| Ok(Flow::Go($body(h, op, pc)))
    };
    (fp $body:path) => {
        |h, _, op, _| $body(h, op).map(|()| Flow::Next)
    };
    (mem $body:path) => {
        |h, cx, op, _| match $body(h, cx, op) {
            Ok(()) => Ok(Flow::Next),
            Err(Stop::Leave) => Ok(Flow::Leave),
            Err(Stop::Trap(trap)) => Err(trap),
        }
    };
    (system $body:path) => {
        |h, cx, op, pc| $body(h, cx, op, pc).map(Flow::Go)
    };
}
for_each_insn!(define_bodies);

/// What comes after [`step`].
pub(crate) enum After {
    /// The instruction behind it, of the same block; the count is still that of the block's start.
    Next,
    /// Something may have to be done first. The hart is at an instruction boundary with everything in place.
    Check,
    /// What is at the hart's pc, where everything is in place.
    Go,
}

/// Executes one instruction of the block at `block`, at whose start `cx.icount` is.
#[inline(always)]
pub(crate) fn step(h: &mut Hart, cx: &mut Cx<'_>, op: &Op, block: u64) -> After {
    step_by(BODIES[op.kind as usize], h, cx, op, block)
}

/// As [`step`], where its body is known.
#[inline(always)]
pub(crate) fn step_by(body: Body, h: &mut Hart, cx: &mut Cx<'_>, op: &Op, block: u64) -> After {
    let pc = block.wrapping_add(u64::from(op.off) * 2);
    let done = u64::from(op.idx) + 1;
    match body(h, cx, op, pc) {
        Ok(Flow::Next) => After::Next,
        Ok(Flow::Leave) => {
            h.pc = pc.wrapping_add(op.len.into());
            cx.icount += done;
            After::Check
        }
        Ok(Flow::Go(next)) => {
            h.pc = next;
            cx.icount += done;
            if h.sample || cx.exit.is_some() || cx.reconsider { After::Check } else { After::Go }
        }
        Err(trap) => {
            trapped(h, cx, trap, pc, done);
            if cx.exit.is_some() { After::Check } else { After::Go }
        }
    }
}

/// Finds or decodes the block at the pc and enters it into the jump cache.
#[cold]
#[inline(never)]
fn find_block(h: &mut Hart, cx: &mut Cx<'_>, arena: &mut Arena) -> Result<(), Trap> {
    if arena.is_full() {
        cx.drop_code(h, arena);
    }
    let pc = h.pc;
    let gpa = match h.caches.fetch(pc) {
        Some(offset) => cx.ram.base() + offset,
        None => {
            let mapped = fetch_page(h, cx, pc)?;
            if !mapped.1 {
                return fetch_single(h, cx, arena, mapped.0);
            }
            mapped.0
        }
    };
    let low = u16::from_le_bytes(cx.ram.get(gpa - cx.ram.base()));
    if low & 3 == 3 && gpa % PAGE_SIZE == PAGE_SIZE - 2 {
        return fetch_single(h, cx, arena, gpa);
    }
    let span = match cx.shared.blocks.find(gpa) {
        Some(span) => span,
        None => {
            let span = arena.build(&mut cx.shared.blocks, cx.ram, gpa);
            cx.watch_code(h, gpa);
            span
        }
    };
    h.caches.install_block(pc, span);
    Ok(())
}

/// Translates a halfword of code: its address, and whether the same holds for the rest of its page.
fn fetch_page(h: &mut Hart, cx: &mut Cx<'_>, pc: u64) -> Result<(u64, bool), Trap> {
    let mapped = translate(h, cx, pc, 2, Access::Fetch)?;
    if !cx.ram.contains(mapped.pa, 2) {
        cx.refused = Some((mapped.pa, 2, Attempt::Fetch));
        return Err(Access::Fetch.access_fault(pc));
    }
    if mapped.whole_page {
        h.caches.install_fetch(pc, mapped.pa - cx.ram.base());
    }
    Ok((mapped.pa, mapped.whole_page))
}

/// An instruction that straddles pages, or lies in a page that PMP divides: a block of its own, known to this hart
/// only until any code changes.
fn fetch_single(h: &mut Hart, cx: &mut Cx<'_>, arena: &mut Arena, gpa: u64) -> Result<(), Trap> {
    let pc = h.pc;
    let low = u16::from_le_bytes(cx.ram.get(gpa - cx.ram.base()));
    let (mut high, mut second) = (0, gpa);
    if low & 3 == 3 {
        // The fault of the second half is reported at its own address.
        second = fetch_page(h, cx, pc.wrapping_add(2))?.0;
        high = u16::from_le_bytes(cx.ram.get(second - cx.ram.base()));
    }
    cx.shared.blocks.note_halves(cx.ram, gpa, second);
    cx.watch_code(h, gpa);
    cx.watch_code(h, second);
    let span = arena.single(u32::from(high) << 16 | u32::from(low));
    h.caches.install_block(pc, span);
    Ok(())
}
