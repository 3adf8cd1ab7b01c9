//! The outside's share of virtual time, and the user network that lives on it.
//!
//! DESIGN §3 calls it the EXTERNAL attribute: time as the machine publishes it, which advances at the guest's speed
//! and stands still while the machine is stopped. What runs on it is outside the replayed guest: it is not recorded and
//! must not change guest state. That holds by construction here, because nothing in this crate has a way to reach the
//! machine: a timer that expires is an id that [`ExternalTimers::poll`] returns, and frames go out by a trait.

#![forbid(unsafe_code)]

mod address;
pub mod capture;
mod clock;
pub mod config;
mod core;
mod edges;
pub mod frame;
#[cfg(test)]
mod fuzz;
mod host;
pub mod policy;
mod segment;
pub mod service;
mod timers;
pub mod upstream;

pub use address::{AddressError, Cidr, Mac};
pub use clock::ExternalClock;
pub use config::{Config, Problem};
pub use core::{
    Answer, Core, DropReason, Egress, Family, Network, Prefix, Request, Services, Setup, Stats, TcpInfo,
    UdpInfo, Verdict,
};
pub use edges::{
    EchoReply, Failure, FlowId, Guest, Host, HostEvent, IcmpError, Kind, Moved, TRAIN_BYTES, Target, Train,
    Unsent,
};
pub use host::{Error, ForwardInfo, Handle, Info, Log, UserNet};
pub use segment::segment;
pub use timers::{ExternalTimers, TimerId};
