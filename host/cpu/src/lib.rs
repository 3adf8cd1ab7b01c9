//! The RISC-V harts of the machine: RV64GC with what RVA22 adds, M, S and U modes, Sv39 to Sv57, exactly.
//!
//! This crate has no clock, no I/O, no thread and knows no device. It leaves only through [`Bus`]; what it computes
//! is a function of its state, RAM and what the bus answers. Every cache in it can be dropped at any instruction
//! boundary without a trace.
//!
//! The clock of everything is `icount`: instructions *attempted*, that is retired ones and those that trapped.
//! Entering an interrupt handler is free. [`Cluster::run`] stops exactly at the instruction it is told to.
//!
//! Not modelled: the hypervisor extension, vectors, instruction fetch from devices (an access fault), big-endian modes.

mod block;
mod bus;
mod cluster;
mod compressed;
mod config;
mod csr;
mod decode;
mod disasm;
mod engine;
mod exec;
mod fp;
mod hart;
mod isa;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod jit;
mod last_tables;
mod mmu;
mod observe;
mod peek;
mod pmp;
mod ram;
mod run;
mod shared;
mod state;
mod threaded;
mod tiers;
mod tlb;
mod trap;
mod trigger;

#[cfg(test)]
mod tests;

pub use bus::{AccessFault, Attempt, Bus, Refused};
pub use cluster::{Cluster, Entry, Exit, ExitReason};
pub use config::{HartConfig, SatpMode};
pub use disasm::{F_NAMES, X_NAMES, disassemble, mnemonics};
pub use engine::{Engine, EngineError, UnknownEngine};
pub use hart::Privilege;
pub use observe::{
    AccessKind, BlockEnd, BlockRun, Interest, MemoryAccess, Observation, TrapReturn, TrapTaken,
};
pub use peek::Upcoming;
pub use ram::{Follower, GuestRam, OutOfRam, PAGE_DIRTY, PAGE_SIZE, PAGE_WATCHED, RamError};
pub use state::StateError;
pub use trap::Irq;
