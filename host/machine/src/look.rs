//! What a monitor or a debugger may look at. Looking changes nothing: no device runs, no accessed bit is set.

use crate::machine::Machine;

/// The general registers by their ABI names, x0 to x31.
const NAMES: [&str; 32] = [
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5", "a6",
    "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
];

impl Machine {
    /// The general registers of a hart with their ABI names, x0 to x31.
    #[must_use]
    pub fn registers(&self, hart: usize) -> Vec<(&'static str, u64)> {
        NAMES.iter().enumerate().map(|(number, name)| (*name, self.cluster.x(hart, number))).collect()
    }

    /// Whether a hart waits for an interrupt.
    #[must_use]
    pub fn is_waiting(&self, hart: usize) -> bool {
        self.cluster.is_waiting(hart)
    }

    /// The letter of the privilege mode of a hart's next instruction: M, S or U.
    #[must_use]
    pub fn privilege(&self, hart: usize) -> char {
        match self.cluster.privilege(hart) {
            reprise_cpu::Privilege::Machine => 'M',
            reprise_cpu::Privilege::Supervisor => 'S',
            reprise_cpu::Privilege::User => 'U',
        }
    }

    /// Guest memory at a physical address; `None` where not all of it is RAM.
    #[must_use]
    pub fn memory(&self, gpa: u64, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.services.ram.read(gpa, &mut bytes).ok().map(|()| bytes)
    }
}
