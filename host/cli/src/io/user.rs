//! User networks: each has a thread of its own, beside the I/O thread.

use super::{link::Link, spec::BackendSpec, thread::PortPlan};
use crate::{failure::Failure, setup};
use reprise_machine::{NetOffload, offload};
use reprise_net::{
    ForwardInfo, Guest, Handle, UserNet,
    config::{Forward, Listen},
    frame::{HEADER_BYTES, Header, Offload},
};
use std::{
    fmt,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// A running user network.
pub(crate) struct User {
    /// The device and its net port that it is connected to.
    device: String,
    port: String,
    /// Its name on the board.
    pub(crate) id: String,
    pub(crate) handle: Handle,
    /// Somebody on the host may begin to talk, so that it is no use to skip the time until then.
    pub(crate) listens: AtomicBool,
}

/// The way to the guest, through the inbox.
struct ToGuest {
    link: Arc<Link>,
    port: usize,
}

impl Guest for ToGuest {
    fn room(&self) -> usize {
        self.link.room(self.port)
    }

    fn frame(&mut self, header: &Header, frame: &[u8]) {
        let mut message = Vec::with_capacity(HEADER_BYTES + frame.len());
        message.extend(header.encode());
        message.extend(frame);
        self.link.frames(self.port, vec![message]);
    }
}

/// Start the user networks of a run.
pub(super) fn start(plans: &[PortPlan], link: &Arc<Link>) -> Result<(), Failure> {
    for (port, plan) in plans.iter().enumerate() {
        let BackendSpec::User { id, config } = &plan.backend else { continue };
        let failed = |why: &dyn fmt::Display| {
            let what = format!("port {}.{} cannot be connected to network \"{id}\"", plan.device, plan.port);
            Failure::config(format!("{what}: {why}"))
        };
        let clock = link.clock.with_own_alarm().ok_or_else(|| failed(&"these are too many user networks"))?;
        let to_guest = Box::new(ToGuest { link: Arc::clone(link), port });
        let (notices, name) = (Arc::clone(link), id.clone());
        let log =
            Box::new(move |line: &str| notices.notice(&format!("warning: network \"{name}\": {line}\n")));
        let listens = AtomicBool::new(!config.forwards.is_empty());
        let seed = setup::random_bytes()?;
        let handle = UserNet::start((**config).clone(), id, clock, seed, to_guest, log);
        let handle = handle.map_err(|error| failed(&error))?;
        let (device, port) = (plan.device.clone(), plan.port.clone());
        let forwards = handle.forward_list().map_err(|error| failed(&error))?;
        link.notice(&chosen(id, &config.forwards, &forwards));
        link.add_user(User { device, port, id: id.clone(), handle, listens });
    }
    Ok(())
}

/// Which ports the host has chosen, for those who were to be told. `forwards` are in the order of `given`, one for each
/// port.
fn chosen(id: &str, given: &[Forward], forwards: &[ForwardInfo]) -> String {
    let (mut left, mut lines) = (forwards.iter(), String::new());
    for forward in given {
        let (count, chosen) = match &forward.listen {
            Listen::Unix { .. } => (1, false),
            Listen::Inet { ports, .. } => (usize::from(ports.last() - ports.first()) + 1, ports.first() == 0),
        };
        let own = left.by_ref().take(count);
        lines.extend(own.filter(|_| chosen).map(|info| format!("network \"{id}\": {}\n", info.forward)));
    }
    lines
}

impl Link {
    fn add_user(&self, user: User) {
        self.users.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(user));
    }

    /// All user networks.
    pub(super) fn all_users(&self) -> Vec<Arc<User>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The one that a port is connected to.
    pub(super) fn user(&self, device: &str, port: &str) -> Option<Arc<User>> {
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.iter().find(|user| user.device == device && user.port == port).cloned()
    }

    /// Their threads end, and let go of this link.
    pub(super) fn end_users(&self) {
        let users = std::mem::take(&mut *self.users.lock().unwrap_or_else(PoisonError::into_inner));
        drop(users);
    }

    /// Whether one of them may still bring something.
    pub(super) fn users_may_answer(&self) -> bool {
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.iter().any(|user| user.listens.load(Ordering::Relaxed) || user.handle.external_work_pending())
    }

    /// The time has come for which somebody has waited.
    pub(super) fn ring(&self) {
        self.wake_io();
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.iter().for_each(|user| user.handle.alarm());
    }

    /// The device of a net port takes other frames now.
    pub(super) fn offload(&self, device: &str, port: &str, offload: NetOffload) {
        if let Some(user) = self.user(device, port) {
            user.handle.set_offload(takes(offload), offload.mtu);
        }
    }
}

/// What a device takes, in the network's words.
fn takes(given: NetOffload) -> Offload {
    let has = |bit: u32| given.bits & bit != 0;
    Offload {
        csum: has(offload::CSUM),
        tso4: has(offload::TSO4),
        tso6: has(offload::TSO6),
        uso4: has(offload::USO4),
        uso6: has(offload::USO6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_the_host_has_chosen_are_told() {
        let given = ["tcp::80-81-:80-81", "tcp::0-:22", "unix:/s-:1", "udp:[::1]:0-:53", "tcp::5-:5"];
        let is = [
            "tcp:127.0.0.1:80-:80",
            "tcp:127.0.0.1:81-:81",
            "tcp:127.0.0.1:40001-:22",
            "unix:/s-:1",
            "udp:[::1]:40002-:53",
            "tcp:127.0.0.1:5-:5",
        ];
        let info = |forward: &str| ForwardInfo {
            forward: forward.to_owned(),
            listens: String::new(),
            guest: None,
            guest_port: 0,
        };
        let told = chosen("lan", &given.map(|text| text.parse().unwrap()), &is.map(info));
        let wanted = "network \"lan\": tcp:127.0.0.1:40001-:22\nnetwork \"lan\": udp:[::1]:40002-:53\n";
        assert_eq!(told, wanted);
    }
}
