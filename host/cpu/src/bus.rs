//! The way out of this crate: everything a hart reaches that is neither RAM nor itself.

use crate::observe::Observation;

/// The bus refuses an access; the hart raises an access fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no device answers")]
pub struct AccessFault;

/// What a [`Refused`] access was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attempt {
    /// A load.
    Load,
    /// A store.
    Store,
    /// An instruction fetch: only RAM can be executed.
    Fetch,
}

/// An access that the bus refused, for a message: the hart raises the access fault all the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Guest physical address.
    pub gpa: u64,
    /// Bytes: 1, 2, 4 or 8.
    pub size: u8,
    /// What it was for.
    pub attempt: Attempt,
    /// Where the instruction is, in guest virtual memory.
    pub pc: u64,
    /// The machine's count of instructions attempted before it.
    pub icount: u64,
}

/// What lies around the harts.
///
/// `icount` is the machine's count of instructions attempted before the one that causes the call. The methods may
/// write RAM through [`crate::GuestRam`]; the hart looks at what they wrote before it goes on.
pub trait Bus {
    /// Reads `size` (1, 2, 4 or 8) bytes at `gpa`, naturally aligned and not RAM, zero-extended.
    fn load(&mut self, gpa: u64, size: u8, icount: u64) -> Result<u64, AccessFault>;

    /// Writes the low `size` (1, 2, 4 or 8) bytes of `value` at `gpa`, naturally aligned and not RAM.
    fn store(&mut self, gpa: u64, size: u8, value: u64, icount: u64) -> Result<(), AccessFault>;

    /// What the `time` CSR reads at that instruction boundary, in ticks.
    fn time(&mut self, icount: u64) -> u64;

    /// Asked after each load and store: something is queued (a wire moved, a deadline changed, a stop), so the run
    /// must end before the next instruction.
    fn attention(&self) -> bool;

    /// Told after a load or store that the bus refused, or a fetch from where no RAM is. It must change nothing that
    /// the guest can see.
    fn refused(&mut self, access: Refused) {
        let _ = access;
    }

    /// Told what harts did, as far as [`crate::Cluster::set_observed`] says. It must change nothing that the guest can
    /// see.
    fn observed(&mut self, what: &Observation) {
        let _ = what;
    }
}
