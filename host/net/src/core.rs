//! The user network, sans I/O: frames of the guest in, calls to the host's sockets out, and the other way.
//!
//! All decisions follow from (time, inputs, seed), so the same inputs give the same frames. Times are nanoseconds of
//! the EXTERNAL clock. One call does a bounded amount of work.

mod arp;
pub(crate) mod checksum;
mod icmp;
mod ingress;
mod network;
mod output;
pub(crate) mod packet;
mod reassembly;
mod route;
mod services;
mod slab;
mod stats;
mod tcp;
mod train;
mod udp;

pub use network::{Network, Prefix};
pub use route::{Egress, Verdict};
pub use services::{Answer, Family, Request, Services};
pub use stats::{DropReason, Stats};
pub use tcp::TcpInfo;
pub use udp::UdpInfo;

use crate::{
    config::Limits,
    edges::{FlowId, Guest, Host, HostEvent, Kind, TRAIN_BYTES, Train},
    frame::Offload,
    policy::Transport,
};
use icmp::Pings;
use output::Output;
use packet::{IpHead, UDP};
use reassembly::Reassembly;
use route::Router;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
};
use tcp::Tcp;
use udp::Udp;

/// Bytes that the longest train takes beyond itself when all of it is sent in fragments over the smallest MTU, as
/// 128 datagrams that are each a little longer than it: 252 frames, of 84 bytes of headers at most.
const FRAGMENTS_BYTES: usize = 256 * 84;
/// The longest datagram of IPv4.
const MAX_DATAGRAM_BYTES: usize = 65_507;
/// Trains of datagrams that are received at once.
const TRAINS: usize = 16;
/// No link is narrower (RFC 791), whatever a driver says.
const MTU_LEAST: u16 = 576;
/// Flows that have a turn in one call.
const POLL_TURNS: usize = 64;
const SWEEP_NS: u64 = 10_000_000_000;
/// The same, while some have not had their turn.
const SWEEP_ON_NS: u64 = 1_000_000_000;
/// Between looks at those that wait for a neighbour.
const STALLED_NS: u64 = 1_000_000_000;
/// For so long a datagram may be answered: as long as guests wait before they ask again.
const RECENT_NS: u64 = 5_000_000_000;

/// What a call has at hand.
struct Turn<'a> {
    now: u64,
    host: &'a mut dyn Host,
    guest: &'a mut dyn Guest,
}

/// Where datagrams are received.
struct Inbox {
    buffer: Vec<u8>,
    trains: Vec<Train>,
}

impl Inbox {
    /// Receives as many trains as there is room for towards the guest; `None` if there is none for even one.
    fn fill(&mut self, id: FlowId, turn: &mut Turn<'_>) -> Option<&[Train]> {
        let most = (turn.guest.room() / (TRAIN_BYTES + FRAGMENTS_BYTES)).min(TRAINS);
        if most == 0 {
            return None;
        }
        self.trains.clear();
        turn.host.udp_recv(id, &mut self.buffer[..most * TRAIN_BYTES], &mut self.trains);
        Some(&self.trains)
    }

    /// The datagrams of a few.
    fn pieces<'a>(&'a self, trains: &'a [Train]) -> impl Iterator<Item = &'a [u8]> {
        trains.iter().flat_map(|train| train.pieces(&self.buffer))
    }
}

/// What is left to do for a socket of datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Idle,
    More,
    /// No room towards the guest, or nobody knows where it is.
    Stalled,
}

/// How a core is made.
pub struct Setup {
    pub network: Network,
    pub egress: Box<dyn Egress>,
    pub services: Box<dyn Services>,
    /// Addresses that a `guestfwd` stands behind, by its index.
    pub guest_forwards: BTreeMap<SocketAddr, usize>,
    pub limits: Limits,
}

/// See the module.
pub struct Core {
    out: Output,
    router: Router,
    services: Box<dyn Services>,
    reassembly: Reassembly,
    /// Of the network; a driver may take less.
    mtu: u16,
    tcp: Tcp,
    udp: Udp,
    pings: Pings,
    /// Sockets of datagrams with something to read, in order; and those that could not.
    readable: VecDeque<FlowId>,
    queued: BTreeSet<FlowId>,
    stalled: Vec<FlowId>,
    /// Datagrams are read into it.
    inbox: Inbox,
    answers: Vec<Answer>,
    next_sweep: u64,
    /// When those that stalled are tried again; at once if they stalled for room and there is some.
    next_retry: u64,
    was_full: bool,
    /// The guest's driver is there: it has sent something.
    heard: bool,
    /// The last leases by family, and when they were given in the order of what neighbours say.
    leased: [(u64, Option<IpAddr>); 2],
}

impl Core {
    /// Makes a network. The seed is for what must not be guessed, as sequence numbers.
    #[must_use]
    pub fn new(setup: Setup, seed: [u8; 32]) -> Self {
        let (limits, mtu) = (setup.limits, setup.network.mtu);
        let out = Output::new(setup.network, limits.neighbours as usize);
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| seed[at + i]));
        let tcp = Tcp::new(limits, &out, word(0) ^ word(8).rotate_left(17) ^ word(16) ^ word(24));
        Self {
            tcp,
            mtu,
            out,
            router: Router { egress: setup.egress, services: setup.guest_forwards },
            services: setup.services,
            reassembly: Reassembly::new(limits.fragment_sets as usize, limits.fragment_bytes as usize),
            udp: Udp::new(limits.udp_maps as usize),
            pings: Pings::new(limits.icmp_ids as usize),
            readable: VecDeque::new(),
            queued: BTreeSet::new(),
            stalled: Vec::new(),
            inbox: Inbox { buffer: vec![0; TRAINS * TRAIN_BYTES], trains: Vec::new() },
            answers: Vec::new(),
            next_sweep: 0,
            next_retry: 0,
            was_full: false,
            heard: false,
            leased: [(0, None); 2],
        }
    }

    /// The guest's driver takes these from now on, and besides no packet longer than `mtu` bytes.
    pub fn set_offload(&mut self, offload: Offload, mtu: u32) {
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX).clamp(MTU_LEAST, self.mtu);
        if (self.out.offload, self.out.network.mtu) != (offload, mtu) {
            (self.out.offload, self.out.network.mtu) = (offload, mtu);
            self.tcp.set_offload(&self.out);
        }
    }

    /// A message of the guest: header and frame. What has to follow is done by [`Core::poll`], after one or several.
    pub fn guest_frame(&mut self, now: u64, message: &[u8], host: &mut dyn Host, guest: &mut dyn Guest) {
        let mut turn = Turn { now, host, guest };
        self.heard = true;
        self.out.stats.frames_from_guest += 1;
        self.out.stats.bytes_from_guest += message.len() as u64;
        if let Err(why) = self.frame(message, &mut turn) {
            self.out.stats.dropped(why);
        }
    }

    fn send_answers(&mut self, turn: &mut Turn<'_>) {
        for answer in std::mem::take(&mut self.answers) {
            let (mac, from, to, data) = match answer {
                Answer::Router(advertisement) => {
                    self.advertise(&advertisement, turn);
                    continue;
                }
                Answer::Datagram { mac, from, to, data } => (mac, from, to, data),
            };
            if from.is_ipv4() != to.is_ipv4() {
                continue;
            }
            let head = IpHead { source: from.ip(), destination: to.ip(), protocol: UDP, hops: 64 };
            let known = self.out.neighbours.get(to.ip());
            // Somebody without an address yet is known for this one answer only.
            let guest_mac = mac.filter(|mac| known != Some(*mac));
            guest_mac.map(|mac| self.out.neighbours.learn(to.ip(), mac));
            self.out.datagram(turn.guest, &head, [from.port(), to.port()], &data);
            match (guest_mac, known) {
                (Some(_), Some(known)) => drop(self.out.neighbours.learn(to.ip(), known)),
                (Some(_), None) => self.out.neighbours.forget(to.ip()),
                (None, _) => {}
            }
        }
    }

    /// Something happened on the host's side. What has to follow is done by [`Core::poll`].
    pub fn host_event(&mut self, now: u64, event: HostEvent, host: &mut dyn Host, guest: &mut dyn Guest) {
        let mut turn = Turn { now, host, guest };
        match event {
            HostEvent::Connected(id) => self.tcp.connected(id, &mut turn, &mut self.out),
            HostEvent::Failed(id, failure) => self.tcp.failed(id, failure, &mut turn, &mut self.out),
            HostEvent::Readable(id) | HostEvent::Writable(id) if id.kind() == Kind::Tcp => {
                self.tcp.ready(id, matches!(event, HostEvent::Readable(_)));
            }
            HostEvent::Readable(id) => self.queue(id),
            HostEvent::Say(answer) => {
                self.answers.push(answer);
                self.send_answers(&mut turn);
            }
            HostEvent::Writable(_) => {}
            HostEvent::Unsent(id, unsent) => self.udp.unsent(id, &unsent, &mut turn, &mut self.out),
            HostEvent::Icmp(id, error) => match id.kind() {
                Kind::Udp => self.udp.error(id, &error, &mut turn, &mut self.out),
                Kind::Ping => self.pings.error(id, &error, &mut turn, &mut self.out),
                Kind::Tcp | Kind::UdpForward => {}
            },
        }
    }

    fn queue(&mut self, id: FlowId) {
        if self.queued.insert(id) {
            self.readable.push_back(id);
        }
    }

    fn retry_stalled(&mut self) {
        self.readable.extend(self.stalled.drain(..));
    }

    /// A connection that the host has accepted for the guest's `guest`, from `peer` of the host's network. `None`: it
    /// is refused (the policy, a limit, a family that the network has not). The host then knows it by the id.
    pub fn accept(&mut self, now: u64, peer: SocketAddr, guest: SocketAddr) -> Option<FlowId> {
        if !self.router.egress.admits(Transport::Tcp, peer.ip(), guest.port()) {
            self.out.stats.dropped(DropReason::Policy);
            return None;
        }
        let mut seen = self.out.network.seen(peer, guest.ip())?;
        if seen.port() == 0 || self.tcp.has(guest, seen) {
            // A unix socket has no port; and two peers that are both the gateway now may have the same.
            seen.set_port(
                (49_152..=u16::MAX).find(|port| !self.tcp.has(guest, SocketAddr::new(seen.ip(), *port)))?,
            );
        }
        self.tcp.accept(seen, guest, now, &mut self.out)
    }

    /// A UDP port of the host is forwarded to a port of the guest, at this address or wherever it is: the id that the
    /// host's socket is known by.
    pub fn forward_udp(&mut self, guest: Option<IpAddr>, port: u16) -> FlowId {
        self.udp.forward(guest, port)
    }

    /// It is no longer; the host is told to close the socket.
    pub fn forward_udp_ends(&mut self, now: u64, id: FlowId, host: &mut dyn Host, guest: &mut dyn Guest) {
        self.udp.forward_ends(id, &mut Turn { now, host, guest });
    }

    /// Does what there is to do, within bounds: if there is more, [`Core::next_deadline`] is 0.
    pub fn poll(&mut self, now: u64, host: &mut dyn Host, guest: &mut dyn Guest) {
        let mut turn = Turn { now, host, guest };
        self.tcp.poll(POLL_TURNS, &mut turn, &mut self.out);
        let room = || Output::has_room(turn.guest, TRAIN_BYTES + FRAGMENTS_BYTES);
        if !self.stalled.is_empty() && (now >= self.next_retry || self.was_full && room()) {
            self.retry_stalled();
            self.next_retry = now.saturating_add(STALLED_NS);
            self.was_full = false;
        }
        for _ in 0..POLL_TURNS {
            let Some(id) = self.readable.pop_front() else { break };
            self.turn_of(id, &mut turn);
        }
        if self.heard && self.services.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.services.poll(now, &mut self.answers);
            self.send_answers(&mut turn);
        }
        if now >= self.next_sweep {
            self.sweep(&mut turn);
        }
    }

    fn turn_of(&mut self, id: FlowId, turn: &mut Turn<'_>) {
        let forwarded = (id.kind() == Kind::UdpForward).then(|| self.guest_address(turn.now)).flatten();
        let inbox = &mut self.inbox;
        let next = match id.kind() {
            Kind::Udp => self.udp.poll(id, turn, &mut self.out, inbox),
            Kind::UdpForward => {
                self.udp.poll_forward(id, forwarded, &self.router, turn, &mut self.out, inbox)
            }
            Kind::Ping => {
                let buffer = &mut inbox.buffer[..MAX_DATAGRAM_BYTES];
                self.pings.poll(id, turn, &mut self.out, buffer)
            }
            Kind::Tcp => Next::Idle,
        };
        match next {
            Next::Idle => drop(self.queued.remove(&id)),
            Next::More => self.readable.push_back(id),
            Next::Stalled => {
                self.was_full |= !Output::has_room(turn.guest, TRAIN_BYTES + FRAGMENTS_BYTES);
                self.stalled.push(id);
            }
        }
    }

    fn sweep(&mut self, turn: &mut Turn<'_>) {
        let more = self.tcp.sweep(turn, &mut self.out);
        self.udp.sweep(turn);
        self.pings.sweep(turn);
        for _ in 0..self.reassembly.expire(turn.now) {
            self.out.stats.dropped(DropReason::Fragments);
        }
        let pause_ns = if more { SWEEP_ON_NS } else { SWEEP_NS };
        self.next_sweep = turn.now.saturating_add(pause_ns);
    }

    /// When [`Core::poll`] has something to do; 0 if at once. Room towards the guest, frames and events come besides.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        if !self.readable.is_empty() {
            return Some(0);
        }
        let idle = self.tcp.len() + self.udp.len() + self.pings.len() == 0 && self.reassembly.is_empty();
        let sweep = (!idle).then_some(self.next_sweep);
        let retry = (!self.stalled.is_empty()).then_some(self.next_retry);
        let services = self.services.next_deadline().filter(|_| self.heard);
        [self.tcp.next_deadline(), services, sweep, retry].into_iter().flatten().min()
    }

    /// Whether the outside may yet answer something that the guest waits for, so that its idle time must not be
    /// skipped: a connection is open, or datagrams went out not long ago.
    #[must_use]
    pub fn external_work_pending(&self, now: u64) -> bool {
        self.tcp.len() > 0
            || self.services.is_pending()
            || self.udp.is_pending(now, RECENT_NS)
            || self.pings.is_pending(now, RECENT_NS)
    }

    /// Where the guest is, for forwards that do not say: the address that it was last seen with or given, else the one
    /// that it would get. IPv4 goes first, then what IPv6 routes.
    #[must_use]
    pub fn guest_address(&self, now: u64) -> Option<IpAddr> {
        let is_local = |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let routed = |address: &IpAddr| address.is_ipv6() && !is_local(address);
        self.latest_address(now, Family::V4, IpAddr::is_ipv4)
            .or_else(|| self.latest_address(now, Family::V6, routed))
            .or_else(|| Some(self.out.neighbours.latest(is_local)?.1))
            .or_else(|| self.services.first_address())
    }

    fn latest_address(&self, now: u64, family: Family, is_it: impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
        let leased =
            self.services.leased(now, family).map(|address| (self.leased[family as usize].0, address));
        let (_, address) = self.out.neighbours.latest(is_it).max(leased)?;
        Some(address)
    }

    /// A guest that was given an address may say nothing for a while.
    fn note_leases(&mut self, now: u64) {
        for family in [Family::V4, Family::V6] {
            let address = self.services.leased(now, family);
            let noted = &mut self.leased[family as usize];
            if noted.1 != address {
                *noted = (self.out.neighbours.mark(), address);
            }
        }
    }

    /// The guest was replaced by one of another time (a restore), or begins anew (a reset): all its flows are dropped,
    /// and their peers on the host's side are told. Segments of theirs are answered with RST from now on, so that it
    /// recovers at once. Nothing is sent to it. Forwards stay.
    pub fn reset(&mut self, now: u64, host: &mut dyn Host, guest: &mut dyn Guest) {
        let mut turn = Turn { now, host, guest };
        self.tcp.reset(&mut turn);
        self.udp.reset(&mut turn);
        self.pings.reset(&mut turn);
        self.reassembly.clear();
        self.out.neighbours.clear();
        self.services.reset(now);
        self.heard = false;
        (self.next_sweep, self.next_retry) = (now, now);
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.out.stats
    }

    /// Each connection.
    #[must_use]
    pub fn tcp_info(&self) -> Vec<TcpInfo> {
        self.tcp.info()
    }

    /// Each port of the guest that speaks UDP.
    #[must_use]
    pub fn udp_info(&self) -> Vec<UdpInfo> {
        self.udp.info()
    }

    /// The policy's addresses may have changed.
    pub fn set_egress(&mut self, egress: Box<dyn Egress>) {
        self.router.egress = egress;
    }
}

#[cfg(test)]
pub(crate) mod tests;
