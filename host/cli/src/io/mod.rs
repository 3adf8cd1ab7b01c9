//! The I/O thread and what it shares with the machine's thread.
//!
//! One thread waits (mio) for the terminal, sockets, pseudo terminals and signals. Input goes through a bounded inbox:
//! a source is not read while its port has too much that the guest has not taken. Output goes the other way through
//! bounded buffers.

mod backend;
mod escape;
mod frames;
mod half;
mod link;
mod monitor;
mod outside;
mod signals;
mod spec;
mod status;
mod stream;
mod thread;
mod user;

pub(crate) use link::{EndReason, Link};
pub(crate) use outside::{HostOutside, log_line};
pub(crate) use spec::{BackendSpec, FORMS, NET_FORMS, PluginSpec};
pub(crate) use status::{counted, grouped, mips};
pub(crate) use thread::{IoThread, PortPlan};
pub(crate) use user::User;
