//! The core's two edges: the guest, which takes frames, and the host, which has sockets.
//!
//! Both are traits, so that the core runs in tests without either. Nothing here blocks.

use crate::{core::Answer, frame::Header, service::dns::Asker};
use std::net::{IpAddr, SocketAddr};

/// The way to the guest.
pub trait Guest {
    /// Bytes (header and frame) that may be handed over now. The core keeps what does not fit; it calls for more room
    /// by being polled again. Only answers that the guest will ask for again (ARP, RST, ICMP) are dropped.
    fn room(&self) -> usize;

    /// Takes a frame. It is never longer than [`Guest::room`] said.
    fn frame(&mut self, header: &Header, frame: &[u8]);
}

/// What kind of flow an id belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A TCP connection.
    Tcp,
    /// A port of the guest, and the host's socket that speaks for it to anybody.
    Udp,
    /// A port of the host that is forwarded to the guest.
    UdpForward,
    /// An identifier of the guest's echo requests.
    Ping,
}

/// Names a flow for good: a slot and the generation of what lives in it, so that a late event finds nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FlowId(u64);

impl FlowId {
    /// The flow in slot `index`; of `generation`, 28 bits count.
    #[must_use]
    pub fn new(kind: Kind, generation: u32, index: u32) -> Self {
        Self(u64::from(generation & 0x0fff_ffff) << 34 | (kind as u64) << 32 | u64::from(index))
    }

    /// For a poller's token; at most 62 bits.
    #[must_use]
    pub fn token(self) -> u64 {
        self.0
    }

    /// What [`FlowId::token`] returned.
    #[must_use]
    pub fn from_token(token: u64) -> Self {
        Self(token)
    }

    /// What kind of flow it names.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self.0 >> 32 & 3 {
            0 => Kind::Tcp,
            1 => Kind::Udp,
            2 => Kind::UdpForward,
            _ => Kind::Ping,
        }
    }

    /// Tells the flows apart that the slot has had.
    #[must_use]
    pub fn generation(self) -> u32 {
        (self.0 >> 34) as u32
    }

    /// The slot.
    #[must_use]
    pub fn index(self) -> u32 {
        self.0 as u32
    }
}

/// Where a TCP connection of the guest goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An address of the host's network, already translated and allowed.
    Address(SocketAddr),
    /// The same, through the upstream proxy of that name.
    Proxy(String, SocketAddr),
    /// The `guestfwd` with this index in the configuration.
    Service(usize),
    /// The name server, at this address of its own.
    Dns(SocketAddr),
}

/// Why a call or a connection came to nothing. What the guest gets follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("the peer refused")]
    Refused,
    #[error("the peer reset the connection")]
    Reset,
    #[error("the network is unreachable")]
    NetUnreachable,
    #[error("the host is unreachable")]
    HostUnreachable,
    #[error("it is forbidden")]
    Forbidden,
    #[error("the time ran out")]
    TimedOut,
    /// File descriptors, memory, ports.
    #[error("the host has no more resources")]
    Exhausted,
    #[error("the datagram is longer than the path takes, {0} bytes")]
    TooBig(u32),
}

/// What a call that moves bytes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// So many bytes; more than none.
    Bytes(usize),
    /// Nothing now; [`HostEvent::Readable`] or [`HostEvent::Writable`] will say when.
    WouldBlock,
    /// The peer sends nothing more.
    End,
    Failed(Failure),
}

/// Bytes that one train takes at most of the buffer that it is received into.
pub const TRAIN_BYTES: usize = 65_536;

/// Datagrams of one sender that have arrived together: one, or several that are all as long as the first, but for the
/// last, which may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Train {
    /// Where they begin in the buffer.
    pub at: usize,
    /// Of all.
    pub bytes: usize,
    /// Of each but the last.
    pub piece: usize,
    /// Who sent them, as the host sees it.
    pub from: SocketAddr,
}

impl Train {
    /// Each datagram of it. An empty one is one too.
    pub fn pieces<'a>(&self, buffer: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let bytes = &buffer[self.at..self.at + self.bytes];
        let empty = bytes.is_empty().then_some(bytes);
        empty.into_iter().chain(bytes.chunks(self.piece.max(1)))
    }
}

/// A datagram that did not go out after all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsent {
    pub to: SocketAddr,
    pub failure: Failure,
    /// What it carried.
    pub payload: Vec<u8>,
}

/// An echo reply that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoReply {
    /// Bytes behind identifier and sequence number.
    pub bytes: usize,
    pub from: IpAddr,
    pub sequence: u16,
}

/// The host's sockets. Each call returns at once.
///
/// A flow's sockets exist from `tcp_connect`, `udp_open` or `ping_open` (or the accepting of a forward) to `close`.
pub trait Host {
    /// Begins to connect. What comes of it is told by [`HostEvent::Connected`] or [`HostEvent::Failed`].
    ///
    /// # Errors
    /// It came to nothing at once; there is no socket to close.
    fn tcp_connect(&mut self, flow: FlowId, to: &Target) -> Result<(), Failure>;
    fn tcp_send(&mut self, flow: FlowId, bytes: &[u8]) -> Moved;
    fn tcp_recv(&mut self, flow: FlowId, buffer: &mut [u8]) -> Moved;
    /// The guest sends nothing more.
    fn tcp_shutdown(&mut self, flow: FlowId);

    /// Opens a socket of the family of `to`, with a port of its own.
    ///
    /// # Errors
    /// There is no socket to close.
    fn udp_open(&mut self, flow: FlowId, family: &IpAddr) -> Result<(), Failure>;
    /// Sends a datagram with this hop limit, now or soon, in the order of these calls. If the socket has no room it is
    /// lost, as datagrams are; if it turns out that it cannot be sent, [`HostEvent::Unsent`] says so.
    ///
    /// # Errors
    /// The host knows that it cannot arrive.
    fn udp_send(&mut self, flow: FlowId, to: SocketAddr, hops: u8, bytes: &[u8]) -> Result<(), Failure>;
    /// The next datagrams, each train at its own [`TRAIN_BYTES`] of `buffer`; none until [`HostEvent::Readable`].
    fn udp_recv(&mut self, flow: FlowId, buffer: &mut [u8], into: &mut Vec<Train>);

    /// Opens a socket for echo requests.
    ///
    /// # Errors
    /// There is no socket to close. [`Failure::Forbidden`] if the host lets this user have none.
    fn ping_open(&mut self, flow: FlowId, family: &IpAddr) -> Result<(), Failure>;
    /// Sends an echo request with this hop limit and sequence number.
    ///
    /// # Errors
    /// The host knows that it cannot arrive.
    fn ping_send(
        &mut self,
        flow: FlowId,
        to: IpAddr,
        hops: u8,
        sequence: u16,
        bytes: &[u8],
    ) -> Result<(), Failure>;
    /// The next reply, cut to `buffer`; `None` until [`HostEvent::Readable`].
    fn ping_recv(&mut self, flow: FlowId, buffer: &mut [u8]) -> Option<EchoReply>;

    /// A datagram of the guest for the name server; an answer comes by [`HostEvent::Say`].
    fn question(&mut self, asker: Asker, bytes: &[u8]);

    /// Ends the flow's sockets. `reset`: without the ceremony, so that a TCP peer notices.
    fn close(&mut self, flow: FlowId, reset: bool);
}

/// An error message that a router or the peer sent about a datagram or an echo request of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// Who says so.
    pub from: IpAddr,
    /// ICMP's or ICMPv6's own numbers, by the family of `to`.
    pub icmp_type: u8,
    pub code: u8,
    /// The MTU, for "fragmentation needed" and "packet too big".
    pub info: u32,
    /// Where the datagram was going; of an echo request, the port is its sequence number.
    pub to: SocketAddr,
    /// As much of what the datagram carried as the message has.
    pub payload: Vec<u8>,
}

/// What happened to a flow on the host's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostEvent {
    Connected(FlowId),
    /// A connection that was begun came to nothing.
    Failed(FlowId, Failure),
    /// Something may have arrived: bytes, an end, an error.
    Readable(FlowId),
    /// There may be room again.
    Writable(FlowId),
    Icmp(FlowId, IcmpError),
    /// Of a socket for UDP.
    Unsent(FlowId, Unsent),
    /// A service that lives on the host's side answers.
    Say(Answer),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_keeps_its_three_parts() {
        for kind in [Kind::Tcp, Kind::Udp, Kind::UdpForward, Kind::Ping] {
            let id = FlowId::new(kind, 0x0fff_fffe, 0xffff_fffd);
            assert_eq!((id.kind(), id.generation(), id.index()), (kind, 0x0fff_fffe, 0xffff_fffd));
            assert_eq!(FlowId::from_token(id.token()), id);
            assert!(id.token() < 1 << 62);
        }
    }
}
