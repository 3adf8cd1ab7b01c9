//! Where translated code finds things: distances from rbp, and which guest registers live in host registers.

use std::mem::offset_of;

use super::asm::{Gpr, Rm, Xmm};
use crate::hart::Hart;
use crate::isa::Reg;
use crate::tlb::{DataBank, JumpSlot};

/// rbp points so far behind the integer registers that all of them are reached by a short displacement.
pub(super) const BIAS: i32 = 128;

/// A field of the hart, by its distance from the start.
const fn field(offset: usize) -> Rm {
    Rm::Mem(Gpr::Rbp, offset as i32 - Hart::X as i32 - BIAS)
}

pub(super) const PRIVILEGE: Rm = field(offset_of!(Hart, privilege));
pub(super) const MSTATUS: Rm = field(offset_of!(Hart, mstatus));
pub(super) const SATP: Rm = field(offset_of!(Hart, csr.satp));
pub(super) const MIE: Rm = field(offset_of!(Hart, interrupts.mie));
/// What `mip` is the union of.
pub(super) const PENDING: [Rm; 3] = [
    field(offset_of!(Hart, interrupts.software)),
    field(offset_of!(Hart, interrupts.wires)),
    field(offset_of!(Hart, interrupts.timer)),
];
pub(super) const FCSR: Rm = field(offset_of!(Hart, fcsr));
pub(super) const PC: Rm = field(offset_of!(Hart, pc));
pub(super) const KEY: Rm = field(offset_of!(Hart, caches.native_key));
/// The virtual page of the code that runs, if that is right for any page.
pub(super) const CODE_PAGE: Rm = field(offset_of!(Hart, caches.code_page));
pub(super) const CODE_BASE: Rm = field(offset_of!(Hart, caches.code_base));

/// Where a CSR lies that is nothing but a value, and which of its bits a write changes.
pub(super) fn plain_csr(number: u16) -> Option<(Rm, u64)> {
    let (offset, writable) = match number {
        0x140 => (offset_of!(Hart, csr.sscratch), !0),
        0x141 => (offset_of!(Hart, csr.sepc), !1),
        0x142 => (offset_of!(Hart, csr.scause), !0),
        0x143 => (offset_of!(Hart, csr.stval), !0),
        0x340 => (offset_of!(Hart, csr.mscratch), !0),
        0x341 => (offset_of!(Hart, csr.mepc), !1),
        0x342 => (offset_of!(Hart, csr.mcause), !0),
        0x343 => (offset_of!(Hart, csr.mtval), !0),
        _ => return None,
    };
    Some((field(offset), writable))
}

/// Where a CSR lies that reads as what is there, and whose writes are not so simple.
pub(super) fn readable_csr(number: u16) -> Option<Rm> {
    let offset = match number {
        0x105 => offset_of!(Hart, csr.stvec),
        0x106 => offset_of!(Hart, csr.scounteren),
        0x302 => offset_of!(Hart, csr.medeleg),
        0x303 => offset_of!(Hart, interrupts.mideleg),
        0x304 => offset_of!(Hart, interrupts.mie),
        0x305 => offset_of!(Hart, csr.mtvec),
        0x306 => offset_of!(Hart, csr.mcounteren),
        0xf14 => offset_of!(Hart, id),
        _ => return None,
    };
    Some(field(offset))
}

/// The jump cache.
pub(super) const NATIVES: i32 = offset_of!(Hart, caches.natives) as i32 - Hart::X as i32 - BIAS;
/// Bytes of a slot of the jump cache, as a power of two.
pub(super) const NATIVE_SHIFT: u8 = 4;
const _: () = assert!(size_of::<JumpSlot>() == 1 << NATIVE_SHIFT);
pub(super) const SLOT_PC: i32 = offset_of!(JumpSlot, pc) as i32;
pub(super) const SLOT_KEY: i32 = offset_of!(JumpSlot, key) as i32;
pub(super) const SLOT_PLACE: i32 = offset_of!(JumpSlot, place) as i32;

/// Slots for loads and for stores, from r14.
pub(super) const READ: i32 = offset_of!(DataBank, read) as i32;
pub(super) const WRITE: i32 = offset_of!(DataBank, write) as i32;

/// Guest integer registers that live in host registers: those that compiled code uses most.
pub(super) const PINNED: [(Reg, Gpr); 9] = [
    (Reg::X10, Gpr::Rdi),
    (Reg::X11, Gpr::Rsi),
    (Reg::X12, Gpr::Rbx),
    (Reg::X13, Gpr::R8),
    (Reg::X14, Gpr::R9),
    (Reg::X15, Gpr::R10),
    (Reg::X8, Gpr::R11),
    (Reg::X9, Gpr::R12),
    (Reg::X2, Gpr::R13),
];

/// Memory of a guest integer register.
pub(super) fn saved(reg: Reg) -> Rm {
    Rm::Mem(Gpr::Rbp, reg as i32 * 8 - BIAS)
}

/// For each guest integer register, where it lives.
#[derive(Clone, Copy)]
pub(super) struct Homes([Option<Gpr>; 33]);

impl Homes {
    /// As [`PINNED`] has it: everywhere but in loops that have their own.
    pub(super) const USUAL: Homes = {
        let mut homes = [None; 33];
        let mut index = 0;
        while index < PINNED.len() {
            homes[PINNED[index].0 as usize] = Some(PINNED[index].1);
            index += 1;
        }
        Homes(homes)
    };

    /// The host register of a guest integer register, if it has one.
    pub(super) fn pinned(&self, reg: Reg) -> Option<Gpr> {
        self.0[reg as usize]
    }

    /// Where a guest integer register lives.
    pub(super) fn place(&self, reg: Reg) -> Rm {
        self.pinned(reg).map_or_else(|| saved(reg), Rm::Reg)
    }

    /// These registers live in host registers instead of as many others, which must be pinned.
    pub(super) fn exchange(&mut self, others: &[Reg], these: &[Reg]) {
        for (&other, &this) in others.iter().zip(these) {
            self.0[this as usize] = self.0[other as usize].take();
        }
    }
}

/// Guest floating-point registers that live in host registers while the floating-point state is loaded: arguments and
/// temporaries. The lowest two are for templates.
pub(super) const FLOATS: [(Reg, Xmm); 14] = [
    (Reg::X10, Xmm::X2),
    (Reg::X11, Xmm::X3),
    (Reg::X12, Xmm::X4),
    (Reg::X13, Xmm::X5),
    (Reg::X14, Xmm::X6),
    (Reg::X15, Xmm::X7),
    (Reg::X16, Xmm::X8),
    (Reg::X17, Xmm::X9),
    (Reg::X0, Xmm::X10),
    (Reg::X1, Xmm::X11),
    (Reg::X2, Xmm::X12),
    (Reg::X3, Xmm::X13),
    (Reg::X4, Xmm::X14),
    (Reg::X5, Xmm::X15),
];

/// The host register of a guest floating-point register, if it has one.
pub(super) fn pinned_float(reg: Reg) -> Option<Xmm> {
    FLOATS.into_iter().find_map(|(guest, host)| (guest == reg).then_some(host))
}

/// Memory of a guest floating-point register.
pub(super) fn saved_float(reg: Reg) -> Rm {
    Rm::Mem(Gpr::Rbp, (Hart::F - Hart::X) as i32 + reg as i32 * 8 - BIAS)
}

/// Where a guest floating-point register lives while the state is loaded.
pub(super) fn float_home(reg: Reg) -> Rm {
    pinned_float(reg).map_or_else(|| saved_float(reg), Rm::Xmm)
}
