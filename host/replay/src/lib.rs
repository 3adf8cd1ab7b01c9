//! The gate: the one door by which anything nondeterministic enters the machine.
//!
//! This crate knows ids and bytes, never a device. It owns what an event is, where it stands in time, and (with the
//! recorder) the log format and its version. In this version the gate is live: it stamps and passes.

mod event;
mod gate;
mod random;

pub use event::{Control, Event, PortChange, Position};
pub use gate::Gate;
pub use random::{RandomStream, Seed};
