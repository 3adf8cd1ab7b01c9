//! Where the guest's floating-point state is: in the hart, or loaded into the host's registers.
//!
//! While it is loaded, MXCSR holds the guest's flags, and [`FLOATS`] its registers. It is loaded by the first template
//! that needs it, only if FS is dirty and the rounding mode is to nearest: so no template asks for either, or marks
//! anything. It is saved before anything but templates runs: that sees it in the hart, and cannot raise a flag in it.

use super::super::asm::{Alu, Asm, Cc, Gpr, Precision, Rm, Shift, Unary, Widen, Width};
use super::super::layout::{FCSR, FLOATS, MSTATUS, saved_float};
use crate::fp::flag;
use crate::hart::mstatus;

/// Zero while the state is loaded, from rsp.
const SAVED: i32 = 8;
/// Bytes on the stack above the frame's address for that, keeping alignment.
const ROOM: i32 = 16;
/// Rounding to nearest, nothing trapping, no flag: what Rust wants.
const MXCSR: u32 = 0x1f80;
/// Flags of MXCSR, with those of `fcsr` that mean the same. "Denormal operand" means nothing.
const FLAGS: [(u32, u8); 5] =
    [(1 << 0, flag::NV), (1 << 2, flag::DZ), (1 << 3, flag::OF), (1 << 4, flag::UF), (1 << 5, flag::NX)];

/// MXCSR by `fcsr`.
static TO_HOST: [u32; 32] = {
    let mut table = [MXCSR; 32];
    let mut index = 0;
    while index < 32 * FLAGS.len() {
        let (host, guest) = FLAGS[index / 32];
        if (index % 32) & guest as usize != 0 {
            table[index % 32] |= host;
        }
        index += 1;
    }
    table
};

/// `fcsr` by the flags of MXCSR.
static TO_GUEST: [u8; 64] = {
    let mut table = [0; 64];
    let mut index = 0;
    while index < 64 * FLAGS.len() {
        let (host, guest) = FLAGS[index / 64];
        if (index % 64) & host as usize != 0 {
            table[index % 64] |= guest;
        }
        index += 1;
    }
    table
};

fn address<T>(table: &'static T) -> u64 {
    std::ptr::from_ref(table).expose_provenance() as u64
}

/// Before the frame's address is pushed: the state is in the hart.
pub(super) fn reserve(a: &mut Asm) {
    a.alu_imm(Alu::Sub, Width::Q, Gpr::Rsp, ROOM);
    a.store_imm(Width::D, Rm::Mem(Gpr::Rsp, SAVED - 8), 1);
}

/// After the frame's address is popped.
pub(super) fn release(a: &mut Asm) {
    a.alu_imm(Alu::Add, Width::Q, Gpr::Rsp, ROOM);
}

/// ZF = the state is loaded, in code of a translation.
pub(in crate::jit) fn test(a: &mut Asm) {
    a.alu_imm(Alu::Cmp, Width::D, Rm::Mem(Gpr::Rsp, SAVED), 0);
}

/// Saves the state if it is loaded, by the code at `save`. `above`: bytes on the stack above the frame's address.
pub(super) fn settle(a: &mut Asm, save: u32, above: i32) {
    let saved = Rm::Mem(Gpr::Rsp, SAVED + above);
    a.alu_imm(Alu::Cmp, Width::D, saved, 0);
    let in_place = a.branch_ahead(Cc::NotEqual);
    a.call(save);
    a.store_imm(Width::D, saved, 1);
    a.bind(in_place);
}

/// A function that saves the state. Uses rcx, and rdi, which is spilled.
pub(super) fn save_code(a: &mut Asm) {
    // Below the stack's end nobody writes meanwhile: the red zone of the System V ABI.
    let scratch = Rm::Mem(Gpr::Rsp, -8);
    a.store_mxcsr(scratch);
    for (reg, host) in FLOATS {
        a.store_xmm(Precision::Double, saved_float(reg), host);
    }
    a.mov(Width::D, Gpr::Rcx, scratch);
    a.alu_imm(Alu::And, Width::D, Gpr::Rcx, TO_GUEST.len() as i32 - 1);
    a.mov_imm(Gpr::Rdi, address(&TO_GUEST));
    a.widen(Widen::U8, Gpr::Rcx, Rm::Indexed(Gpr::Rdi, Gpr::Rcx, 0));
    a.store(Width::D, FCSR, Gpr::Rcx);
    a.mov_imm(Gpr::Rdi, address(&TO_HOST));
    a.load_mxcsr(Rm::Mem(Gpr::Rdi, 0));
    a.ret();
}

/// Loads the state, which the caller knows may be. Uses rcx and rdx.
pub(super) fn load(a: &mut Asm, above: i32) {
    a.mov(Width::D, Gpr::Rcx, FCSR);
    a.alu_imm(Alu::And, Width::D, Gpr::Rcx, TO_HOST.len() as i32 - 1);
    a.shift(Shift::Shl, Width::D, Gpr::Rcx, 2);
    a.mov_imm(Gpr::Rdx, address(&TO_HOST));
    a.load_mxcsr(Rm::Indexed(Gpr::Rdx, Gpr::Rcx, 0));
    for (reg, host) in FLOATS {
        a.load_xmm(Precision::Double, host, saved_float(reg));
    }
    a.store_imm(Width::D, Rm::Mem(Gpr::Rsp, SAVED + above), 0);
}

/// A function that loads the state if it may be, or goes to `finish` with everything as it was.
pub(super) fn load_code(a: &mut Asm, finish: u32) {
    a.mov(Width::D, Gpr::Rcx, MSTATUS);
    a.unary(Unary::Not, Width::D, Gpr::Rcx);
    a.test_imm(Width::D, Gpr::Rcx, mstatus::FS as i32);
    a.branch(Cc::NotEqual, finish);
    // The rounding mode is above the flags.
    a.alu_imm(Alu::Cmp, Width::D, FCSR, TO_HOST.len() as i32);
    a.branch(Cc::AboveEqual, finish);
    load(a, 8);
    a.ret();
}
