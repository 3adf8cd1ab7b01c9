//! What the network itself answers. Each service is pure: (configuration, state, time, request) to replies, in whole
//! payloads of UDP or ICMPv6. Sockets, clocks and files are the caller's.
//!
//! Times are nanoseconds of a clock that never goes back.

pub mod dhcp4;
pub mod dhcp6;
pub mod dns;
mod names;
mod numbered;
pub mod ra;
mod reader;
pub mod tftp;

/// Nanoseconds in a second.
const SECOND_NS: u64 = 1_000_000_000;
