//! Where the guest's traffic may go: what an address means on the host, and the egress policy's word on it.

use super::network::{Network, Place};
use crate::{
    edges::Target,
    policy::{self, Direction, Policy, Query, Transport},
    service::dns,
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

/// What the policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to this address, which may be another form of the one that was asked for.
    Allow(IpAddr),
    /// It comes to nothing, and the guest is told.
    Reject,
    /// The guest hears nothing.
    Drop,
    /// Through the upstream proxy of that name, to that address. Only TCP goes there.
    Proxy(String, IpAddr),
}

/// The egress policy.
pub trait Egress: Send {
    /// May the guest send to this address, as it wrote it? For echo requests the port is 0.
    fn decide(&self, transport: Transport, to: SocketAddr) -> Verdict;

    /// May this peer of the host's network come in through a forward to that port of the guest?
    fn admits(&self, transport: Transport, from: IpAddr, guest_port: u16) -> bool;
}

impl Egress for Policy {
    fn decide(&self, transport: Transport, to: SocketAddr) -> Verdict {
        let query = Query { direction: Direction::Out, transport, peer: to.ip(), port: to.port() };
        let decision = Self::decide(self, &query);
        match decision.verdict {
            policy::Verdict::Allow => Verdict::Allow(decision.to),
            policy::Verdict::Drop => Verdict::Drop,
            policy::Verdict::Reject => Verdict::Reject,
            policy::Verdict::Proxy(name) => Verdict::Proxy(name.to_owned(), decision.to),
        }
    }

    fn admits(&self, transport: Transport, from: IpAddr, guest_port: u16) -> bool {
        let query = Query { direction: Direction::In, transport, peer: from, port: guest_port };
        Self::decide(self, &query).verdict == policy::Verdict::Allow
    }
}

/// Why something goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The guest shall know.
    Tell,
    Silent,
}

pub(super) struct Router {
    pub(super) egress: Box<dyn Egress>,
    /// `guestfwd`: addresses behind which a service of the host's stands, whatever the policy.
    pub(super) services: BTreeMap<SocketAddr, usize>,
}

impl Router {
    /// Where a connection of the guest goes.
    pub(super) fn tcp(&self, network: &Network, to: SocketAddr) -> Result<Target, Refusal> {
        if let Some(service) = self.services.get(&to) {
            return Ok(Target::Service(*service));
        }
        match network.place(to.ip()) {
            Place::Host | Place::World => {}
            Place::Dns if to.port() == dns::PORT => return Ok(Target::Dns(to)),
            Place::Gateway | Place::Dns => return Err(Refusal::Tell),
            Place::Nobody if network.services.contains(&to.ip()) => return Err(Refusal::Tell),
            Place::Nobody | Place::Multicast => return Err(Refusal::Silent),
        }
        match self.egress.decide(Transport::Tcp, to) {
            Verdict::Allow(ip) => Ok(Target::Address(SocketAddr::new(ip, to.port()))),
            Verdict::Proxy(name, ip) => Ok(Target::Proxy(name, SocketAddr::new(ip, to.port()))),
            Verdict::Reject => Err(Refusal::Tell),
            Verdict::Drop => Err(Refusal::Silent),
        }
    }

    /// Where a datagram (or an echo request, to port 0) for the host or the world goes.
    pub(super) fn datagram(&self, transport: Transport, to: SocketAddr) -> Result<SocketAddr, Refusal> {
        match self.egress.decide(transport, to) {
            Verdict::Allow(ip) => Ok(SocketAddr::new(ip, to.port())),
            Verdict::Reject | Verdict::Proxy(..) => Err(Refusal::Tell),
            Verdict::Drop => Err(Refusal::Silent),
        }
    }
}
