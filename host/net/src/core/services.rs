//! The network's own services, as the core sees them: datagrams in, answers out.

use crate::service::ra;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// A datagram for one of the network's own services.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub mac: [u8; 6],
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub data: &'a [u8],
}

/// What a service says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A datagram.
    Datagram {
        /// Whom on the link; the guest that has the address `to` if `None`.
        mac: Option<[u8; 6]>,
        from: SocketAddr,
        to: SocketAddr,
        data: Vec<u8>,
    },
    /// A router advertisement.
    Router(ra::Advertisement),
}

/// Of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// The services on the network's own addresses: DHCP, DNS, TFTP and the like.
pub trait Services: Send {
    /// A datagram to one of the network's own addresses, or to everybody. Returns whether a service listens there.
    fn request(&mut self, now: u64, request: &Request<'_>, answers: &mut Vec<Answer>) -> bool;

    /// The answer to a router solicitation.
    fn solicited(&mut self, source: Ipv6Addr, message: &[u8]) -> Option<ra::Advertisement>;

    /// What has become due.
    fn poll(&mut self, now: u64, answers: &mut Vec<Answer>);

    /// When [`Services::poll`] has something to do.
    fn next_deadline(&self) -> Option<u64>;

    /// Whether an answer is on its way that does not depend on the guest.
    fn is_pending(&self) -> bool;

    /// The address of that family that was given last and still holds.
    fn leased(&self, now: u64, family: Family) -> Option<IpAddr>;

    /// The address that a guest would be given that asks for one.
    fn first_address(&self) -> Option<IpAddr>;

    /// The guest is another one now, whose time goes on from `now`: from an earlier one, maybe.
    fn reset(&mut self, now: u64);
}
