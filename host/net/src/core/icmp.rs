//! ICMP and ICMPv6: echo, and errors in both directions, so that ping and traceroute work.

use super::{
    Next, Turn,
    network::Place,
    output::Output,
    packet::{ICMP, ICMPV6, IpHead, Packet, UDP},
    route::{Refusal, Router},
    slab::Slab,
    stats::DropReason,
};
use crate::edges::{Failure, FlowId, Guest, IcmpError, Kind};
use crate::policy::Transport;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

const V4_ECHO: [u8; 2] = [8, 0];
const V6_ECHO: [u8; 2] = [128, 129];
const IDLE_NS: u64 = 30_000_000_000;
/// Replies that one turn takes from one socket.
const TURN_REPLIES: usize = 32;
/// The longest error message of ICMPv6 (RFC 4443 §2.4 c): the smallest MTU.
const V6_ERROR_BYTES: usize = 1280;
/// What an error message of ICMP quotes beyond the header (RFC 792); routers quote more, which nobody needs here.
const V4_QUOTED_BYTES: usize = 8;

/// Why something could not be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreachable {
    Net,
    Host,
    Protocol,
    Port,
    Prohibited,
}

impl Unreachable {
    /// Type and code.
    fn numbers(self, v6: bool) -> [u8; 2] {
        match (self, v6) {
            (Self::Net, false) => [3, 0],
            (Self::Host, false) => [3, 1],
            (Self::Protocol, false) => [3, 2],
            (Self::Port, false) => [3, 3],
            (Self::Prohibited, false) => [3, 13],
            (Self::Net, true) => [1, 0],
            (Self::Host, true) => [1, 3],
            (Self::Protocol, true) => [4, 1],
            (Self::Port, true) => [1, 4],
            (Self::Prohibited, true) => [1, 1],
        }
    }
}

impl Output {
    /// An error message about `quoted`, a packet of the guest.
    fn icmp_error(
        &mut self,
        guest: &mut dyn Guest,
        from: IpAddr,
        quoted: &[u8],
        numbers: [u8; 2],
        info: u32,
    ) {
        let v6 = from.is_ipv6();
        let destination = match (v6, Packet::v4(quoted), Packet::v6(quoted)) {
            (false, Ok(packet), _) | (true, _, Ok(packet)) => packet.source,
            _ => return,
        };
        let mut message = vec![numbers[0], numbers[1], 0, 0];
        // ICMP's MTU has 16 bits (RFC 1191 §4), ICMPv6's 32.
        let info = if v6 { info } else { info.min(0xffff) };
        message.extend(info.to_be_bytes());
        let most = if v6 { V6_ERROR_BYTES - 48 } else { usize::from(quoted[0] & 15) * 4 + V4_QUOTED_BYTES };
        message.extend(&quoted[..quoted.len().min(most)]);
        let protocol = if v6 { ICMPV6 } else { ICMP };
        self.icmp(guest, &IpHead { source: from, destination, protocol, hops: 64 }, &mut message);
    }

    /// Tells the guest that its packet could not be delivered. Nothing is said about fragments, errors and multicast.
    pub(super) fn unreachable(&mut self, guest: &mut dyn Guest, packet: &Packet<'_>, why: Unreachable) {
        let v6 = packet.source.is_ipv6();
        let numbers = why.numbers(v6);
        // A parameter problem points to the protocol's number.
        let info = if numbers == [4, 1] { 6 } else { 0 };
        self.error_about(guest, packet, numbers, info);
    }

    /// Tells the guest that its packet's hop limit has run out here.
    pub(super) fn hops_exceeded(&mut self, guest: &mut dyn Guest, packet: &Packet<'_>) {
        let numbers = if packet.source.is_ipv6() { [3, 0] } else { [11, 0] };
        self.error_about(guest, packet, numbers, 0);
    }

    fn error_about(&mut self, guest: &mut dyn Guest, packet: &Packet<'_>, numbers: [u8; 2], info: u32) {
        let quiet = packet.destination.is_multicast() || packet.source.is_unspecified();
        if let (Some(gateway), false) = (self.network.gateway_for(packet.source), quiet) {
            self.icmp_error(guest, gateway, packet.bytes, numbers, info);
        }
    }

    /// Passes on what a router said about something that the guest has sent from `source`: `transport` is its own, as
    /// it was sent.
    pub(super) fn relay_error(
        &mut self,
        guest: &mut dyn Guest,
        source: IpAddr,
        protocol: u8,
        transport: &[u8],
        error: &IcmpError,
    ) {
        let [from, to] =
            [SocketAddr::new(error.from, 0), error.to].map(|address| self.network.seen(address, source));
        // The numbers are those of the host's family.
        let (Some(from), Some(to), true) = (from, to, error.to.is_ipv4() == source.is_ipv4()) else { return };
        let known = match source {
            IpAddr::V4(_) => [3, 11, 12].contains(&error.icmp_type),
            IpAddr::V6(_) => (1..=4).contains(&error.icmp_type),
        };
        if !known {
            return;
        }
        let head = IpHead { source, destination: to.ip(), protocol, hops: 1 };
        let bytes = head.bytes();
        let mut quoted = vec![0; bytes + transport.len()];
        head.write(&mut quoted, transport.len(), 0, 0);
        quoted[bytes..].copy_from_slice(transport);
        let numbers = [error.icmp_type, error.code];
        let needs = numbers == [3, 4] || source.is_ipv6() && error.icmp_type == 2;
        self.icmp_error(guest, from.ip(), &quoted, numbers, if needs { error.info } else { 0 });
    }
}

/// The first bytes of a UDP datagram, as an error message quotes them.
pub(super) fn udp_quote(ports: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + payload.len());
    for word in [ports[0], ports[1], (8 + payload.len()) as u16, 0] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend(payload);
    bytes
}

/// An identifier of the guest's echo requests, and the socket that speaks for it.
#[derive(Debug)]
struct Ping {
    id: FlowId,
    guest: IpAddr,
    identifier: u16,
    last_ns: u64,
}

/// All echo requests under way.
#[derive(Debug)]
pub(super) struct Pings {
    flows: Slab<Ping>,
    by_key: BTreeMap<(IpAddr, u16), FlowId>,
    limit: usize,
}

impl Pings {
    /// For so many identifiers at a time.
    pub(super) fn new(limit: usize) -> Self {
        Self { flows: Slab::new(Kind::Ping), by_key: BTreeMap::new(), limit }
    }

    /// A message of ICMP or ICMPv6 (but of neighbour discovery), whose checksum holds.
    pub(super) fn message(
        &mut self,
        packet: &Packet<'_>,
        router: &Router,
        turn: &mut Turn<'_>,
        out: &mut Output,
    ) {
        let v6 = packet.source.is_ipv6();
        let [request, reply] = if v6 { V6_ECHO } else { V4_ECHO };
        let Some((head, data)) = packet.payload.split_first_chunk::<8>() else {
            return out.stats.dropped(DropReason::Truncated);
        };
        if head[..2] != [request, 0] {
            // Errors about our packets change nothing; other messages have no meaning here.
            return out.stats.dropped(DropReason::Protocol);
        }
        match out.network.place(packet.destination) {
            Place::Gateway | Place::Host | Place::Dns => {
                let mut answer = packet.payload.to_vec();
                answer[0] = reply;
                let head = IpHead {
                    source: packet.destination,
                    destination: packet.source,
                    protocol: packet.protocol,
                    hops: 64,
                };
                return out.icmp(turn.guest, &head, &mut answer);
            }
            Place::World => {}
            Place::Nobody | Place::Multicast => return out.stats.dropped(DropReason::Multicast),
        }
        if packet.hops <= 1 {
            out.stats.dropped(DropReason::Hops);
            return out.hops_exceeded(turn.guest, packet);
        }
        let to = match router.datagram(Transport::Icmp, SocketAddr::new(packet.destination, 0)) {
            Ok(to) => to.ip(),
            Err(refusal) => {
                out.stats.dropped(DropReason::Policy);
                if refusal == Refusal::Tell {
                    out.unreachable(turn.guest, packet, Unreachable::Prohibited);
                }
                return;
            }
        };
        let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let Some(id) = self.socket(packet.source, word(4), &to, turn, out) else { return };
        if let Err(failure) = turn.host.ping_send(id, to, packet.hops - 1, word(6), data) {
            out.host_failed(turn.guest, packet, failure);
        }
    }

    fn socket(
        &mut self,
        guest: IpAddr,
        identifier: u16,
        to: &IpAddr,
        turn: &mut Turn<'_>,
        out: &mut Output,
    ) -> Option<FlowId> {
        let now = turn.now;
        if let Some(&id) = self.by_key.get(&(guest, identifier)) {
            self.flows.get_mut(id)?.last_ns = now;
            return Some(id);
        }
        if self.flows.len() >= self.limit {
            let oldest = self.flows.values().min_by_key(|ping| ping.last_ns)?.id;
            self.close(oldest, turn);
            out.stats.dropped(DropReason::Limit);
        }
        let id = self.flows.insert(|id| Ping { id, guest, identifier, last_ns: now });
        if turn.host.ping_open(id, to).is_err() {
            out.stats.dropped(DropReason::HostFailed);
            self.flows.remove(id);
            return None;
        }
        self.by_key.insert((guest, identifier), id);
        Some(id)
    }

    fn close(&mut self, id: FlowId, turn: &mut Turn<'_>) {
        if let Some(ping) = self.flows.remove(id) {
            self.by_key.remove(&(ping.guest, ping.identifier));
            turn.host.close(id, false);
        }
    }

    /// Replies that have arrived.
    pub(super) fn poll(
        &mut self,
        id: FlowId,
        turn: &mut Turn<'_>,
        out: &mut Output,
        buffer: &mut [u8],
    ) -> Next {
        let Some(ping) = self.flows.get_mut(id) else { return Next::Idle };
        for _ in 0..TURN_REPLIES {
            if !Output::has_room(turn.guest, buffer.len() + super::FRAGMENTS_BYTES) {
                return Next::Stalled;
            }
            let Some(reply) = turn.host.ping_recv(id, buffer) else {
                return Next::Idle;
            };
            ping.last_ns = turn.now;
            let v6 = ping.guest.is_ipv6();
            let Some(from) = out.network.seen(SocketAddr::new(reply.from, 0), ping.guest) else { continue };
            let mut message = vec![if v6 { V6_ECHO[1] } else { V4_ECHO[1] }, 0, 0, 0];
            message.extend(ping.identifier.to_be_bytes());
            message.extend(reply.sequence.to_be_bytes());
            message.extend(&buffer[..reply.bytes.min(buffer.len())]);
            let head = IpHead {
                source: from.ip(),
                destination: ping.guest,
                protocol: if v6 { ICMPV6 } else { ICMP },
                hops: 63,
            };
            out.icmp(turn.guest, &head, &mut message);
        }
        Next::More
    }

    /// What a router said about one of the requests.
    pub(super) fn error(&mut self, id: FlowId, error: &IcmpError, turn: &mut Turn<'_>, out: &mut Output) {
        let Some(ping) = self.flows.get(id) else { return };
        let (request, protocol) = match ping.guest {
            IpAddr::V4(_) => (V4_ECHO[0], ICMP),
            IpAddr::V6(_) => (V6_ECHO[0], ICMPV6),
        };
        let mut transport = vec![request, 0, 0, 0];
        transport.extend(ping.identifier.to_be_bytes());
        transport.extend(error.to.port().to_be_bytes());
        transport.extend(&error.payload);
        out.relay_error(turn.guest, ping.guest, protocol, &transport, error);
    }

    pub(super) fn sweep(&mut self, turn: &mut Turn<'_>) {
        let idle = |ping: &&Ping| turn.now.saturating_sub(ping.last_ns) > IDLE_NS;
        let late: Vec<FlowId> = self.flows.values().filter(idle).map(|ping| ping.id).collect();
        for id in late {
            self.close(id, turn);
        }
    }

    pub(super) fn reset(&mut self, turn: &mut Turn<'_>) {
        let all: Vec<FlowId> = self.flows.values().map(|ping| ping.id).collect();
        for id in all {
            self.close(id, turn);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    pub(super) fn is_pending(&self, now: u64, recent_ns: u64) -> bool {
        self.flows.values().any(|ping| now.saturating_sub(ping.last_ns) < recent_ns)
    }
}

impl Output {
    /// What the guest hears when the host would not send its datagram.
    pub(super) fn host_failed(&mut self, guest: &mut dyn Guest, packet: &Packet<'_>, failure: Failure) {
        self.stats.dropped(DropReason::HostFailed);
        let v6 = packet.source.is_ipv6();
        let why = match failure {
            Failure::NetUnreachable => Unreachable::Net,
            Failure::HostUnreachable => Unreachable::Host,
            Failure::Refused if packet.protocol == UDP => Unreachable::Port,
            Failure::Forbidden => Unreachable::Prohibited,
            Failure::TooBig(mtu) => {
                let numbers = if v6 { [2, 0] } else { [3, 4] };
                return self.error_about(guest, packet, numbers, mtu);
            }
            // Lost, as datagrams are.
            Failure::Refused | Failure::Reset | Failure::TimedOut | Failure::Exhausted => return,
        };
        self.unreachable(guest, packet, why);
    }
}
