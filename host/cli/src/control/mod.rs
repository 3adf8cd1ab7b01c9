//! Control of a running machine from other processes and from its own terminal: QMP on a unix socket, and a monitor
//! for people.
//!
//! Whatever needs the machine is an [`Order`](order::Order): it waits in the [`Hub`] until the machine's thread stands
//! between two instructions, is carried out there, and answered. Stopping the machine is an order too: its thread then
//! serves orders until one lets it go on. The rest is answered at once from what the hub knows.
//!
//! ```text
//! client ── Server (thread "control") ─┐                     ┌─ Order ──> the machine's thread (Hub::drive)
//! Ctrl-A c ─ monitor (I/O thread) ─────┴─ command ─> Hub ────┤
//!                                                            └─ Reach ──> buttons, quit
//! ```

mod client;
mod driven;
mod facts;
mod folder;
mod hub;
pub(crate) mod monitor;
mod network;
mod order;
mod qmp;
mod server;
mod wire;

pub(crate) use client::{CallArgs, FlightCommand, MonitorArgs, NamedArgs, PsArgs, ReloadArgs, StatusArgs};
pub(crate) use driven::Driven;
pub(crate) use facts::{Facts, What};
pub(crate) use hub::{Hub, Reach};
pub(crate) use order::{Answer, Refusal, Reply};

use crate::{failure::Failure, run};
use folder::Wish;
use server::Server;
use std::sync::Arc;

/// The control of one run. Dropping it closes the socket.
pub(crate) struct Control {
    hub: Arc<Hub>,
    _server: Option<Server>,
}

impl Control {
    /// Listen where `--control` says. A socket that nobody asked for and that cannot be had costs a warning.
    pub(crate) fn open(wish: Option<&str>, facts: Facts) -> Result<Self, Failure> {
        let hub = Hub::new(facts);
        let wish = Wish::of(wish);
        let server = match wish.bind().and_then(|bound| match bound {
            Some(bound) => Server::start(bound, Arc::clone(&hub)).map(Some),
            None => Ok(None),
        }) {
            Ok(server) => server,
            Err(failure) if wish.is_explicit() => return Err(failure),
            Err(failure) => {
                let why = failure.to_string();
                let why = why.strip_prefix("error: ").unwrap_or(&why);
                run::say(&format!("warning: this machine has no control socket: {why}"));
                None
            }
        };
        Ok(Self { hub, _server: server })
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.hub.ended(None);
    }
}
