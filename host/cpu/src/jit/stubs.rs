//! The code that every translation shares: in, out, and the call of an instruction's body.

pub(super) mod float;

use super::asm::{Alu, Asm, Cc, Gpr, Rm, Width};
use super::body::{self, Frame};
use super::layout::{
    CODE_BASE, CODE_PAGE, KEY, NATIVE_SHIFT, NATIVES, PC, PINNED, SLOT_KEY, SLOT_PC, SLOT_PLACE, saved,
};
use super::memory::CodeMemory;
use crate::ram::PAGE_SIZE;
use crate::tlb::NATIVE_SLOTS;

/// Why translated code was left.
pub(super) enum Exit {
    /// An instruction said so; pc and count are in place.
    Left,
    /// Nothing is translated for the pc.
    Unknown,
    /// This translation is void, and was not begun.
    Dead(u32),
    /// This translation does not fit the budget. It is charged and not begun.
    Budget(u32),
    /// Nothing is translated for where this link leads.
    Link(u32),
}

// What is in rax at an exit: a link's index, or one of these.
const LEFT: u32 = u32::MAX;
const UNKNOWN: u32 = u32::MAX - 1;
const DEAD: u32 = u32::MAX - 2;
const BUDGET: u32 = u32::MAX - 3;

/// Registers that the System V ABI has a function preserve, of those that are used.
const PRESERVED: [Gpr; 6] = [Gpr::Rbx, Gpr::Rbp, Gpr::R12, Gpr::R13, Gpr::R14, Gpr::R15];

/// Offsets of the shared code.
pub(super) struct Stubs {
    enter: u32,
    /// Leaves with the reason in rax.
    pub(super) exit: u32,
    /// Leaves for the address in rax, which the jump cache does not know.
    pub(super) unknown: u32,
    /// Leaves for want of budget, with the translation's index in rax.
    pub(super) budget: u32,
    dead: u32,
    /// Calls the body of an instruction: its number in the arena in rax, the translation's in rdx. Returns if the next
    /// instruction of the block is to follow.
    pub(super) perform: u32,
    /// As `perform`, where the floating-point state is known to be loaded and to stay fit for it.
    pub(super) perform_loaded: u32,
    /// As `perform`, of an instruction and all that follow it in its block. Does not return.
    pub(super) finish: u32,
    /// Loads the floating-point state, or does as `finish`.
    pub(super) load_floats: u32,
}

impl Stubs {
    pub(super) fn new(memory: &mut CodeMemory) -> Stubs {
        let mut a = Asm::new(memory.used());
        let enter = a.here();
        enter_code(&mut a);
        let save_floats = a.here();
        float::save_code(&mut a);
        let exit = a.here();
        exit_code(&mut a, save_floats);
        let unknown = a.here();
        a.store(Width::Q, PC, Gpr::Rax);
        a.mov_imm(Gpr::Rax, UNKNOWN.into());
        a.jump(exit);
        let [budget, dead] = [BUDGET, DEAD].map(|reason| {
            let at = a.here();
            a.mov(Width::Q, Gpr::Rcx, Rm::Mem(Gpr::Rsp, 0));
            a.store(Width::D, Rm::Mem(Gpr::Rcx, Frame::NATIVE), Gpr::Rax);
            a.mov_imm(Gpr::Rax, reason.into());
            a.jump(exit);
            at
        });
        let go = a.here();
        indirect(&mut a, unknown);
        let [perform, perform_loaded, finish] =
            [(body::address(), false), (body::address(), true), (body::finish_address(), false)].map(
                |(body, loaded)| {
                    let at = a.here();
                    perform_code(&mut a, Shared { exit, go, save_floats }, body, loaded);
                    at
                },
            );
        let load_floats = a.here();
        float::load_code(&mut a, finish);
        memory.append(a.bytes());
        Stubs { enter, exit, unknown, budget, dead, perform, perform_loaded, finish, load_floats }
    }

    /// What stands at the entry of a void translation.
    pub(super) fn tombstone(&self, entry: u32, native: u32) -> Vec<u8> {
        let mut a = Asm::new(entry);
        a.mov_imm(Gpr::Rax, native.into());
        a.jump(self.dead);
        a.bytes().to_vec()
    }

    /// Runs the code at `entry` with `left` instructions to go.
    pub(super) fn enter(&self, memory: &CodeMemory, frame: &mut Frame, entry: u32, left: i64) -> Exit {
        type Enter = unsafe extern "sysv64" fn(*mut Frame, *const u8, i64) -> u64;
        // SAFETY: the stub is code of that signature: `enter_code`.
        let enter: Enter = unsafe { std::mem::transmute(memory.base().wrapping_add(self.enter as usize)) };
        // SAFETY: `entry` is that of a translation, which keeps to the map of registers and leaves by `exit_code`;
        // the frame holds what it reaches: hart, banks and RAM, all of which outlive the call.
        let reason = unsafe { enter(frame, memory.base().wrapping_add(entry as usize), left) };
        match reason as u32 {
            LEFT => Exit::Left,
            UNKNOWN => Exit::Unknown,
            DEAD => Exit::Dead(frame.native()),
            BUDGET => Exit::Budget(frame.native()),
            link => Exit::Link(link),
        }
    }
}

fn spill(a: &mut Asm) {
    for (reg, host) in PINNED {
        a.store(Width::Q, saved(reg), host);
    }
}

fn fill(a: &mut Asm) {
    for (reg, host) in PINNED {
        a.mov(Width::Q, host, saved(reg));
    }
}

/// `fn(frame: rdi, code: rsi, left: rdx)`. The frame's address is the top of the stack while translated code runs, with
/// what [`float`] keeps behind it, and the stack is aligned to 16 bytes.
fn enter_code(a: &mut Asm) {
    for reg in PRESERVED {
        a.push(reg);
    }
    float::reserve(a);
    a.push(Gpr::Rdi);
    a.copy(Gpr::R15, Gpr::Rdx);
    a.copy(Gpr::Rax, Gpr::Rsi);
    a.mov(Width::Q, Gpr::Rbp, Rm::Mem(Gpr::Rdi, Frame::HART));
    a.mov(Width::Q, Gpr::R14, Rm::Mem(Gpr::Rdi, Frame::BANK));
    fill(a);
    a.jump_to(Gpr::Rax);
}

/// Returns rax.
fn exit_code(a: &mut Asm, save_floats: u32) {
    spill(a);
    float::settle(a, save_floats, 0);
    a.pop(Gpr::Rdi);
    a.store(Width::Q, Rm::Mem(Gpr::Rdi, Frame::LEFT), Gpr::R15);
    float::release(a);
    for reg in PRESERVED.into_iter().rev() {
        a.pop(reg);
    }
    a.ret();
}

/// Jumps to the translation for the address in rax.
pub(super) fn indirect(a: &mut Asm, unknown: u32) {
    // An instruction's address is even, so bit 0 is not part of the slot's number.
    a.mov(Width::D, Gpr::Rcx, Gpr::Rax);
    a.shift(super::asm::Shift::Shl, Width::D, Gpr::Rcx, NATIVE_SHIFT - 1);
    a.alu_imm(Alu::And, Width::D, Gpr::Rcx, ((NATIVE_SLOTS - 1) << NATIVE_SHIFT) as i32);
    let slot = |part| Rm::Indexed(Gpr::Rbp, Gpr::Rcx, NATIVES + part);
    find_by_slot(a, slot, unknown);
    a.alu_imm(Alu::And, Width::Q, Gpr::Rax, -(PAGE_SIZE as i32));
    a.store(Width::Q, CODE_PAGE, Gpr::Rax);
    a.jump_to(Gpr::Rdx);
}

/// Jumps to the translation for the address in rax, if the slot is for it; from and to code that is for one page only.
pub(super) fn jump_by_slot(a: &mut Asm, slot: impl Fn(i32) -> Rm, unknown: u32) {
    find_by_slot(a, slot, unknown);
    a.jump_to(Gpr::Rdx);
}

/// rdx = where the translation for the address in rax is, if the slot is for it.
fn find_by_slot(a: &mut Asm, slot: impl Fn(i32) -> Rm, unknown: u32) {
    a.alu(Alu::Cmp, Width::Q, Gpr::Rax, slot(SLOT_PC));
    a.branch(Cc::NotEqual, unknown);
    a.mov(Width::D, Gpr::Rdx, slot(SLOT_KEY));
    a.alu(Alu::Cmp, Width::D, Gpr::Rdx, KEY);
    a.branch(Cc::NotEqual, unknown);
    a.mov(Width::D, Gpr::Rdx, slot(SLOT_PLACE));
    a.alu(Alu::Add, Width::Q, Gpr::Rdx, CODE_BASE);
}

/// Code that [`perform_code`] goes to.
#[derive(Clone, Copy)]
struct Shared {
    exit: u32,
    go: u32,
    save_floats: u32,
}

/// Calls `body`, [`body::perform`] or its like, with everything in place, and does what it says. `loaded`: the
/// floating-point state is loaded again if the next instruction is to follow.
fn perform_code(a: &mut Asm, Shared { exit, go, save_floats }: Shared, body: u64, loaded: bool) {
    spill(a);
    float::settle(a, save_floats, 8);
    // The return address is above the frame's.
    a.mov(Width::Q, Gpr::Rdi, Rm::Mem(Gpr::Rsp, 8));
    a.copy(Gpr::Rsi, Gpr::Rdx);
    a.copy(Gpr::Rdx, Gpr::Rax);
    a.copy(Gpr::Rcx, Gpr::R15);
    a.alu_imm(Alu::Sub, Width::Q, Gpr::Rsp, 8);
    a.mov_imm(Gpr::Rax, body);
    a.call_to(Gpr::Rax);
    a.alu_imm(Alu::Add, Width::Q, Gpr::Rsp, 8);
    fill_and_bank(a, 8);
    a.test(Width::D, Gpr::Rax, Gpr::Rax);
    let not_next = a.branch_ahead(Cc::NotEqual);
    if loaded {
        float::load(a, 8);
    }
    a.ret();
    a.bind(not_next);
    a.pop(Gpr::Rcx);
    a.mov(Width::Q, Gpr::Rcx, Rm::Mem(Gpr::Rsp, 0));
    a.mov(Width::Q, Gpr::R15, Rm::Mem(Gpr::Rcx, Frame::LEFT));
    a.alu_imm(Alu::Cmp, Width::D, Gpr::Rax, body::LEAVE as i32);
    let jumps = a.branch_ahead(Cc::NotEqual);
    a.mov_imm(Gpr::Rax, LEFT.into());
    a.jump(exit);
    a.bind(jumps);
    a.mov(Width::Q, Gpr::Rax, PC);
    a.jump(go);
}

/// `above`: bytes on the stack above the frame's address.
fn fill_and_bank(a: &mut Asm, above: i32) {
    a.mov(Width::Q, Gpr::Rcx, Rm::Mem(Gpr::Rsp, above));
    a.mov(Width::Q, Gpr::R14, Rm::Mem(Gpr::Rcx, Frame::BANK));
    fill(a);
}
