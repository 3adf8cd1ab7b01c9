//! Where the guest's traffic may go: what an address means on the host, and the egress policy's word on it.

use super::network::{Network, Place};
use crate::edges::Target;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

/// What kind of traffic asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    Tcp,
    Udp,
    Icmp,
}

/// What the policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to this address, which may be another form of the one that was asked for.
    Allow(IpAddr),
    /// It comes to nothing, and the guest is told.
    Reject,
    /// The guest hears nothing.
    Drop,
    /// Through the upstream proxy of that name. Only TCP goes there.
    Proxy(String),
}

/// The egress policy, asked about the final address: the host's loopback address if the guest said "gateway".
pub trait Egress: Send {
    /// Decides. For ICMP the port is none.
    fn decide(&self, transport: Transport, to: SocketAddr) -> Verdict;
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
        let ip = match network.place(to.ip()) {
            Place::Gateway(host) => host,
            Place::World(ip) => ip,
            Place::Dns => return Err(Refusal::Tell),
            Place::Nobody | Place::Multicast => return Err(Refusal::Silent),
        };
        match self.egress.decide(Transport::Tcp, SocketAddr::new(ip, to.port())) {
            Verdict::Allow(ip) => Ok(Target::Address(SocketAddr::new(ip, to.port()))),
            Verdict::Proxy(name) => Ok(Target::Proxy(name, SocketAddr::new(ip, to.port()))),
            Verdict::Reject => Err(Refusal::Tell),
            Verdict::Drop => Err(Refusal::Silent),
        }
    }

    /// Where a datagram (or an echo request, to port 0) goes. The gateway's and the name server's own are not for here.
    pub(super) fn datagram(&self, transport: Transport, to: SocketAddr) -> Result<SocketAddr, Refusal> {
        match self.egress.decide(transport, to) {
            Verdict::Allow(ip) => Ok(SocketAddr::new(ip, to.port())),
            Verdict::Reject | Verdict::Proxy(_) => Err(Refusal::Tell),
            Verdict::Drop => Err(Refusal::Silent),
        }
    }
}
