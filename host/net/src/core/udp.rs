//! UDP: a socket of the host for each port of the guest, whoever it speaks to (RFC 4787: endpoint-independent mapping);
//! only those may answer to whose address the guest has sent (address-dependent filtering). And forwards inwards.

use super::Next;
use super::{
    Inbox, Turn,
    icmp::{Unreachable, udp_quote},
    network::Place,
    output::Output,
    packet::{IpHead, Packet, UDP},
    route::{Refusal, Router},
    slab::Slab,
    stats::DropReason,
};
use crate::edges::{FlowId, IcmpError, Kind, Unsent};
use crate::policy::Transport;
use serde::Serialize;
use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
};

const IDLE_NS: u64 = 120_000_000_000;
/// Of a port that was never answered.
const ONE_WAY_NS: u64 = 30_000_000_000;
/// Peers whose answers a port takes.
const MAX_PEERS: usize = 64;
/// Between two questions where a forward's guest is.
const ASK_NS: u64 = 1_000_000_000;
const MAX_FORWARD_PEERS: usize = 1024;
/// Datagrams that one turn takes from one socket, and those that came together with the last of them.
const TURN_DATAGRAMS: usize = 64;

#[derive(Debug)]
struct Map {
    id: FlowId,
    guest: SocketAddr,
    /// Addresses on the host's side that the guest has sent to, the latest last.
    peers: VecDeque<IpAddr>,
    last_ns: u64,
    answered: bool,
}

/// A port of the host's that is forwarded to the guest.
#[derive(Debug)]
struct Forward {
    /// `None`: wherever the guest is.
    guest: Option<IpAddr>,
    port: u16,
    asked_ns: Option<u64>,
}

#[derive(Debug)]
struct ForwardPeer {
    id: FlowId,
    /// As the host sees it.
    peer: SocketAddr,
    last_ns: u64,
}

type ForwardPeers = BTreeMap<(SocketAddr, SocketAddr), ForwardPeer>;

#[derive(Debug)]
pub(super) struct Udp {
    maps: Slab<Map>,
    by_guest: BTreeMap<SocketAddr, FlowId>,
    limit: usize,
    forwards: Slab<Forward>,
    /// By (guest, peer as the guest sees it): what came in by a forward, and what answers it.
    forward_peers: ForwardPeers,
}

/// What is known about a port of the guest, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UdpInfo {
    pub guest: SocketAddr,
    /// Peers that it may hear from.
    pub peers: usize,
    pub answered: bool,
}

impl Udp {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            maps: Slab::new(Kind::Udp),
            by_guest: BTreeMap::new(),
            limit,
            forwards: Slab::new(Kind::UdpForward),
            forward_peers: BTreeMap::new(),
        }
    }

    /// A datagram of the guest that leaves the link, whose checksum holds.
    pub(super) fn datagram(
        &mut self,
        packet: &Packet<'_>,
        ports: [u16; 2],
        data: &[u8],
        router: &Router,
        turn: &mut Turn<'_>,
        out: &mut Output,
    ) {
        let guest = SocketAddr::new(packet.source, ports[0]);
        let to = SocketAddr::new(packet.destination, ports[1]);
        if let Some(peer) = self.forward_peers.get_mut(&(guest, to)) {
            peer.last_ns = turn.now;
            let (id, peer) = (peer.id, peer.peer);
            if let Err(failure) = turn.host.udp_send(id, peer, 64, data) {
                out.host_failed(turn.guest, packet, failure);
            }
            return;
        }
        let place = out.network.place(to.ip());
        match place {
            Place::Host | Place::World => {}
            Place::Gateway | Place::Dns => {
                out.stats.dropped(DropReason::NoService);
                return out.unreachable(turn.guest, packet, Unreachable::Port);
            }
            Place::Nobody | Place::Multicast => return out.stats.dropped(DropReason::Multicast),
        }
        if packet.hops <= 1 && place == Place::World {
            out.stats.dropped(DropReason::Hops);
            return out.hops_exceeded(turn.guest, packet);
        }
        let to = match router.datagram(Transport::Udp, to) {
            Ok(to) => to,
            Err(refusal) => {
                out.stats.dropped(DropReason::Policy);
                if refusal == Refusal::Tell {
                    out.unreachable(turn.guest, packet, Unreachable::Prohibited);
                }
                return;
            }
        };
        let Some(id) = self.map(guest, &to.ip(), turn, out) else { return };
        if let Some(map) = self.maps.get_mut(id) {
            map.last_ns = turn.now;
            if map.peers.back() != Some(&to.ip()) {
                map.peers.retain(|peer| *peer != to.ip());
                map.peers.push_back(to.ip());
                if map.peers.len() > MAX_PEERS {
                    map.peers.pop_front();
                }
            }
        }
        if let Err(failure) = turn.host.udp_send(id, to, packet.hops.saturating_sub(1).max(1), data) {
            out.host_failed(turn.guest, packet, failure);
        }
    }

    fn map(
        &mut self,
        guest: SocketAddr,
        to: &IpAddr,
        turn: &mut Turn<'_>,
        out: &mut Output,
    ) -> Option<FlowId> {
        if let Some(&id) = self.by_guest.get(&guest) {
            return Some(id);
        }
        if self.maps.len() >= self.limit {
            let oldest = self.maps.values().min_by_key(|map| map.last_ns)?.id;
            self.close(oldest, turn);
            out.stats.dropped(DropReason::Limit);
        }
        let now = turn.now;
        let id =
            self.maps.insert(|id| Map { id, guest, peers: VecDeque::new(), last_ns: now, answered: false });
        if turn.host.udp_open(id, to).is_err() {
            out.stats.dropped(DropReason::HostFailed);
            self.maps.remove(id);
            return None;
        }
        self.by_guest.insert(guest, id);
        Some(id)
    }

    fn close(&mut self, id: FlowId, turn: &mut Turn<'_>) {
        if let Some(map) = self.maps.remove(id) {
            self.by_guest.remove(&map.guest);
            turn.host.close(id, false);
        }
    }

    /// Datagrams that have arrived for a port of the guest.
    pub(super) fn poll(
        &mut self,
        id: FlowId,
        turn: &mut Turn<'_>,
        out: &mut Output,
        inbox: &mut Inbox,
    ) -> Next {
        let Some(map) = self.maps.get_mut(id) else { return Next::Idle };
        let (to, now) = (map.guest, turn.now);
        drain(id, to, turn, out, inbox, |from, out| {
            if !map.peers.contains(&from.ip().to_canonical()) && !map.peers.contains(&from.ip()) {
                return Err(DropReason::Unsolicited);
            }
            map.last_ns = now;
            map.answered = true;
            Ok(out.network.seen(from, to.ip()))
        })
    }

    /// The host could not send a datagram after all.
    pub(super) fn unsent(&mut self, id: FlowId, unsent: &Unsent, turn: &mut Turn<'_>, out: &mut Output) {
        let forward = || {
            let is_it = |peer: &ForwardPeer| (peer.id, peer.peer) == (id, unsent.to);
            self.forward_peers.iter().find_map(|(names, peer)| is_it(peer).then_some(*names))
        };
        let names = match self.maps.get(id) {
            Some(map) => out.network.seen(unsent.to, map.guest.ip()).map(|to| (map.guest, to)),
            None => forward(),
        };
        let Some((guest, to)) = names.filter(|(guest, to)| guest.is_ipv4() == to.is_ipv4()) else { return };
        let quote = udp_quote([guest.port(), to.port()], &unsent.payload);
        let head = IpHead { source: guest.ip(), destination: to.ip(), protocol: UDP, hops: 64 };
        let mut bytes = vec![0; head.bytes() + quote.len()];
        head.write(&mut bytes, quote.len(), 0, 0);
        bytes[head.bytes()..].copy_from_slice(&quote);
        let packet = if guest.is_ipv4() { Packet::v4(&bytes) } else { Packet::v6(&bytes) };
        if let Ok(packet) = packet {
            out.host_failed(turn.guest, &packet, unsent.failure);
        }
    }

    /// What a router or the peer said about a datagram.
    pub(super) fn error(&mut self, id: FlowId, error: &IcmpError, turn: &mut Turn<'_>, out: &mut Output) {
        let Some(map) = self.maps.get(id) else { return };
        let quote = udp_quote([map.guest.port(), error.to.port()], &error.payload);
        out.relay_error(turn.guest, map.guest.ip(), UDP, &quote, error);
    }

    /// A port of the host's is forwarded to `guest` from now on.
    pub(super) fn forward(&mut self, guest: Option<IpAddr>, port: u16) -> FlowId {
        self.forwards.insert(|_| Forward { guest, port, asked_ns: None })
    }

    /// It is no longer.
    pub(super) fn forward_ends(&mut self, id: FlowId, turn: &mut Turn<'_>) {
        if self.forwards.remove(id).is_some() {
            self.forward_peers.retain(|_, peer| peer.id != id);
            turn.host.close(id, false);
        }
    }

    /// Datagrams that have arrived for a forward. `guest` is where the guest is, if that is known.
    pub(super) fn poll_forward(
        &mut self,
        id: FlowId,
        guest: Option<IpAddr>,
        router: &Router,
        turn: &mut Turn<'_>,
        out: &mut Output,
        inbox: &mut Inbox,
    ) -> Next {
        let Some(forward) = self.forwards.get_mut(id) else { return Next::Idle };
        let Some(guest) = forward.guest.or(guest) else { return Next::Stalled };
        let guest = SocketAddr::new(guest, forward.port);
        if out.neighbours.get(guest.ip()).is_none() {
            // They wait in the socket until the guest has said where it is; it is asked once a second.
            if forward.asked_ns.is_none_or(|asked| turn.now.saturating_sub(asked) >= ASK_NS) {
                forward.asked_ns = Some(turn.now);
                out.ask_neighbour(turn.guest, guest.ip());
            }
            return Next::Stalled;
        }
        let (peers, now) = (&mut self.forward_peers, turn.now);
        drain(id, guest, turn, out, inbox, |from, out| {
            if !router.egress.admits(Transport::Udp, from.ip(), guest.port()) {
                return Err(DropReason::Policy);
            }
            let Some(seen) = out.network.seen(from, guest.ip()) else { return Ok(None) };
            let seen = name(peers, (id, from), guest, seen);
            know(peers, (guest, seen), ForwardPeer { id, peer: from, last_ns: now });
            Ok(Some(seen))
        })
    }

    pub(super) fn sweep(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        let idle = |map: &&Map| {
            let life = if map.answered { IDLE_NS } else { ONE_WAY_NS };
            now.saturating_sub(map.last_ns) > life
        };
        let late: Vec<FlowId> = self.maps.values().filter(idle).map(|map| map.id).collect();
        for id in late {
            self.close(id, turn);
        }
        self.forward_peers.retain(|_, peer| now.saturating_sub(peer.last_ns) <= IDLE_NS);
    }

    /// Drops what the guest had; forwards stay.
    pub(super) fn reset(&mut self, turn: &mut Turn<'_>) {
        let all: Vec<FlowId> = self.maps.values().map(|map| map.id).collect();
        for id in all {
            self.close(id, turn);
        }
        self.forward_peers.clear();
        self.forwards.values_mut().for_each(|forward| forward.asked_ns = None);
    }

    pub(super) fn len(&self) -> usize {
        self.maps.len() + self.forward_peers.len()
    }

    pub(super) fn is_pending(&self, now: u64, recent_ns: u64) -> bool {
        let recent = |last_ns: u64| now.saturating_sub(last_ns) < recent_ns;
        self.maps.values().any(|map| recent(map.last_ns))
            || self.forward_peers.values().any(|peer| recent(peer.last_ns))
    }

    pub(super) fn info(&self) -> Vec<UdpInfo> {
        let info = |map: &Map| UdpInfo { guest: map.guest, peers: map.peers.len(), answered: map.answered };
        self.maps.values().map(info).collect()
    }
}

/// How the guest knows a peer of a forward: as it is `seen`, unless another one has that name. (All of the host's own
/// addresses look like one to the guest, and answers for one must not go to the other.)
fn name(
    peers: &ForwardPeers,
    (id, peer): (FlowId, SocketAddr),
    guest: SocketAddr,
    seen: SocketAddr,
) -> SocketAddr {
    let is_it = |known: &ForwardPeer| (known.id, known.peer) == (id, peer);
    if peers.get(&(guest, seen)).is_none_or(is_it) {
        return seen;
    }
    let same = |((to, name), known): (&(SocketAddr, SocketAddr), &ForwardPeer)| {
        (*to == guest && name.ip() == seen.ip() && is_it(known)).then_some(*name)
    };
    let free = |name: &SocketAddr| !peers.contains_key(&(guest, *name));
    let others = || (49_152..=u16::MAX).map(|port| SocketAddr::new(seen.ip(), port)).find(free);
    peers.iter().find_map(same).or_else(others).unwrap_or(seen)
}

fn know(peers: &mut ForwardPeers, names: (SocketAddr, SocketAddr), known: ForwardPeer) {
    peers.insert(names, known);
    if peers.len() > MAX_FORWARD_PEERS {
        let oldest = peers.iter().min_by_key(|(_, peer)| peer.last_ns);
        oldest.map(|(key, _)| *key).and_then(|key| peers.remove(&key));
    }
}

/// Takes a turn's share of what has arrived at a socket, for the guest at `to`. `seen` is as whom the guest sees a
/// peer: `None` if it cannot, an error if the peer is not to be heard.
fn drain(
    id: FlowId,
    to: SocketAddr,
    turn: &mut Turn<'_>,
    out: &mut Output,
    inbox: &mut Inbox,
    mut seen: impl FnMut(SocketAddr, &Output) -> Result<Option<SocketAddr>, DropReason>,
) -> Next {
    let mut taken = 0;
    while taken < TURN_DATAGRAMS {
        match inbox.fill(id, turn) {
            None => return Next::Stalled,
            Some([]) => return Next::Idle,
            Some(_) => {}
        }
        for trains in inbox.trains.chunk_by(|a, b| a.from == b.from) {
            let count = inbox.pieces(trains).count();
            taken += count;
            match seen(trains[0].from, out) {
                Ok(Some(from)) => {
                    let head = IpHead { source: from.ip(), destination: to.ip(), protocol: UDP, hops: 63 };
                    out.datagrams(turn.guest, &head, [from.port(), to.port()], inbox.pieces(trains));
                }
                Ok(None) => {}
                Err(why) => out.stats.dropped_many(why, count),
            }
        }
    }
    Next::More
}
