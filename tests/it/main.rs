//! Whole machines: the `reprise` binary with its plugins, our own guests and Debian's.
//!
//! `tests/run` makes what these tests need.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "a test program that runs the binary, with a time limit"
)]

mod abi;
mod altered;
mod bare;
mod builds;
mod check;
mod console;
mod control;
mod crash;
mod damage;
mod debian;
mod determinism;
mod divergence;
mod engines;
mod flight;
mod golden;
mod host;
mod i2c;
mod links;
mod net;
mod new;
mod observe;
mod plugins;
mod qmp;
mod record;
mod recording;
mod reload;
mod reprise;
mod seek;
mod shelf;
mod snapshot;
mod spi;
mod steer;
mod swap;
mod travel;
