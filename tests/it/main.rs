//! Whole machines: the `reprise` binary with its plugins, our own guests and Debian's.
//!
//! `tests/run` makes what these tests need.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test program that runs the binary, with a time limit"
)]

mod bare;
mod control;
mod debian;
mod determinism;
mod plugins;
mod qmp;
mod reprise;
