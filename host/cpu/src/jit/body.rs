//! What translated code calls: the interpreter's body of one instruction.

use std::any::Any;
use std::mem::offset_of;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::{Native, layout};
use crate::block::Arena;
use crate::hart::Hart;
use crate::isa::Op;
use crate::run::{self, After};
use crate::shared::Cx;
use crate::tlb::DataBank;

/// The next instruction of the block follows.
const NEXT: u32 = 0;
/// The run of translated code is over; pc and count are in place.
pub(super) const LEAVE: u32 = 1;
/// What follows is at the hart's pc.
const GO: u32 = 2;

/// What translated code and the bodies share while it runs. References are taken from it one call at a time.
#[repr(C)]
pub(super) struct Frame {
    /// The hart's integer registers, biased.
    hart_registers: *mut u8,
    bank: *const DataBank,
    left: i64,
    native: u32,
    hart: *mut Hart,
    /// A `Cx` of a lifetime that ends after the run.
    cx: *mut Cx<'static>,
    ops: *const [Op],
    natives: *const [Native],
    limit: u64,
    panic: Option<Box<dyn Any + Send>>,
}

impl Frame {
    pub(super) const HART: i32 = offset_of!(Frame, hart_registers) as i32;
    pub(super) const BANK: i32 = offset_of!(Frame, bank) as i32;
    pub(super) const LEFT: i32 = offset_of!(Frame, left) as i32;
    pub(super) const NATIVE: i32 = offset_of!(Frame, native) as i32;

    /// Of a run that ends at `limit`. What it is made of must outlive it untouched by others.
    pub(super) fn new(h: &mut Hart, cx: &mut Cx<'_>, arena: &Arena, natives: &[Native], limit: u64) -> Frame {
        let hart: *mut Hart = h;
        Frame {
            hart_registers: hart.cast::<u8>().wrapping_add(Hart::X).wrapping_add(layout::BIAS as usize),
            bank: h.caches.data(),
            left: 0,
            native: 0,
            hart,
            cx: std::ptr::from_mut(cx).cast(),
            ops: arena.ops.as_slice(),
            natives,
            limit,
            panic: None,
        }
    }

    pub(super) fn native(&self) -> u32 {
        self.native
    }

    /// What is left of the budget. Goes on with a panic of ours that an instruction's body ended in.
    pub(super) fn finish(self) -> i64 {
        match self.panic {
            Some(panic) => resume_unwind(panic),
            None => self.left,
        }
    }
}

/// Where [`perform`] is.
pub(super) fn address() -> u64 {
    (perform as *const ()).expose_provenance() as u64
}

/// Where [`finish`] is.
pub(super) fn finish_address() -> u64 {
    (finish as *const ()).expose_provenance() as u64
}

/// Executes instruction `op` of the arena, which belongs to a translation that has charged for all of its instructions;
/// `left` is what is left.
///
/// # Safety
/// `frame` is the one that translated code was entered with, and nobody uses what it points to meanwhile.
unsafe extern "sysv64" fn perform(frame: *mut Frame, native: u32, op: u32, left: i64) -> u32 {
    // SAFETY: as the caller says.
    unsafe { with_hart(frame, native, left, |h, cx, ops, _, block| step(h, cx, &ops[op as usize], block)) }
}

/// As [`perform`], of `op` and what follows it in its block: the block is over.
///
/// # Safety
/// That of [`perform`].
#[cold]
unsafe extern "sysv64" fn finish(frame: *mut Frame, native: u32, op: u32, left: i64) -> u32 {
    let rest = |h: &mut Hart, cx: &mut Cx<'_>, ops: &[Op], len: u8, block: u64| {
        let count = usize::from(len - ops[op as usize].idx);
        let ops = &ops[op as usize..][..count];
        let out = ops.iter().map(|op| step(h, cx, op, block)).find(|&outcome| outcome != NEXT);
        out.unwrap_or_else(|| {
            let last = &ops[count - 1];
            h.pc = block.wrapping_add(u64::from(last.off) * 2 + u64::from(last.len));
            cx.icount += u64::from(len);
            GO
        })
    };
    // SAFETY: as the caller says.
    unsafe { with_hart(frame, native, left, rest) }
}

/// Has `act` done with the hart at an exact count, that of the start of the block; it is told of the block how many
/// instructions it has and where it is.
///
/// # Safety
/// That of [`perform`].
#[inline(always)]
unsafe fn with_hart(
    frame: *mut Frame,
    native: u32,
    left: i64,
    act: impl FnOnce(&mut Hart, &mut Cx<'_>, &[Op], u8, u64) -> u32,
) -> u32 {
    // SAFETY: as the caller says.
    let frame = unsafe { &mut *frame };
    // SAFETY: as `Frame::new` was told: these live, and translated code, which alone may use them, waits.
    let (h, cx, ops, natives) = unsafe { (&mut *frame.hart, &mut *frame.cx, &*frame.ops, &*frame.natives) };
    let native = &natives[native as usize];
    let (len, block) = (native.len, native.pc(h));
    cx.icount = frame.limit.wrapping_sub(left as u64).wrapping_sub(len.into());
    // No frame of translated code can be unwound: a panic goes around it.
    let outcome = catch_unwind(AssertUnwindSafe(|| act(h, cx, ops, len, block)));
    frame.bank = h.caches.data();
    match outcome {
        Ok(outcome) => {
            frame.left = frame.limit.wrapping_sub(cx.icount) as i64;
            outcome
        }
        Err(panic) => {
            frame.panic = Some(panic);
            LEAVE
        }
    }
}

#[inline(always)]
fn step(h: &mut Hart, cx: &mut Cx<'_>, op: &Op, block: u64) -> u32 {
    match run::step(h, cx, op, block) {
        After::Next => NEXT,
        After::Check => LEAVE,
        After::Go => GO,
    }
}
