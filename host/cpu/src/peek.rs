//! A look at what a hart is about to do, for messages. Touches nothing: no accessed bit, no cache, no device.

use crate::cluster::Cluster;
use crate::disasm;
use crate::hart::{Hart, Privilege};
use crate::isa::Op;
use crate::mmu;
use crate::ram::GuestRam;

/// The instruction that a hart attempts next, unless an interrupt comes before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upcoming {
    /// Its address.
    pub pc: u64,
    /// Mnemonic and operands, as [`crate::disassemble`] writes them.
    pub text: String,
    /// The guest physical address of the memory that it names, if it names any and that is mapped.
    pub operand_gpa: Option<u64>,
}

impl Cluster {
    /// What the hart attempts next; `None` if there is no RAM at its pc.
    pub fn upcoming(&self, hart: usize) -> Option<Upcoming> {
        let h = self.hart(hart);
        let ram = self.ram();
        let pc = h.pc;
        let halfword = |va: u64| {
            let mut bytes = [0; 2];
            ram.read(physical(h, ram, va, h.privilege)?, &mut bytes).ok()?;
            Some(u32::from(u16::from_le_bytes(bytes)))
        };
        let low = halfword(pc)?;
        let word = if low & 3 == 3 { low | halfword(pc.wrapping_add(2))? << 16 } else { low };
        let op = disasm::decode(word);
        let operand_gpa = operand(h, &op).and_then(|va| physical(h, ram, va, h.data_privilege()));
        Some(Upcoming { pc, text: disasm::text(&op, pc), operand_gpa })
    }
}

/// The address in the brackets of the instruction's text, if it is one of memory.
fn operand(h: &Hart, op: &Op) -> Option<u64> {
    let row = op.kind.row()?;
    let (before, _) = row.operands.split_once("(s)")?;
    // `jalr` jumps there. Atomics and cache-block operations have no offset.
    let jumps = row.ends_block;
    let offset = if before.ends_with(['j', 'q']) { op.imm } else { 0 };
    (!jumps).then(|| h.registers().0[op.rs1 as usize].wrapping_add_signed(offset.into()))
}

/// Where `va` leads in this mode, whatever the rights are.
fn physical(h: &Hart, ram: &GuestRam, va: u64, privilege: Privilege) -> Option<u64> {
    if privilege == Privilege::Machine { Some(va) } else { mmu::peek(h, ram, va) }
}
