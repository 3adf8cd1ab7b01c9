//! The user network, sans I/O: frames of the guest in, calls to the host's sockets out, and the other way.
//!
//! All decisions follow from (time, inputs, seed), so the same inputs give the same frames. Times are nanoseconds of
//! the EXTERNAL clock. One call does a bounded amount of work.

mod arp;
mod checksum;
mod icmp;
mod network;
mod output;
mod packet;
mod reassembly;
mod route;
mod slab;
mod stats;
mod tcp;
mod udp;

pub use network::{Network, Prefix};
pub use route::{Egress, Verdict};
pub use stats::{DropReason, Stats};
pub use tcp::TcpInfo;
pub use udp::UdpInfo;

use crate::{
    config::Limits,
    edges::{FlowId, Guest, Host, HostEvent, Kind},
    frame::{GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, Header, NEEDS_CSUM, Offload},
    policy::Transport,
    service::{dns, ra},
};
use arp::{Asked, ETHERTYPE_ARP};
use checksum::Sum;
use icmp::{Pings, Unreachable};
use network::Mac;
use output::{ETHERNET_BYTES, Output, ethertype};
use packet::{ICMP, ICMPV6, IpHead, Packet, TCP, UDP};
use reassembly::Reassembly;
use route::Router;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, Ipv6Addr, SocketAddr},
};
use tcp::Tcp;
use udp::Udp;

/// Bytes that the longest datagram takes beyond itself when it is sent in fragments over the smallest MTU.
const FRAGMENTS_BYTES: usize = 128 * 64;
/// The longest datagram.
const MAX_DATAGRAM_BYTES: usize = 65_507;
/// No link is narrower (RFC 791), whatever a driver says.
const MTU_LEAST: u16 = 576;
/// Datagrams in a train: as many as Linux puts into one (UDP_MAX_SEGMENTS). Each is a call of the host's.
const TRAIN: usize = 128;
/// Flows that have a turn in one call.
const POLL_TURNS: usize = 64;
const SWEEP_NS: u64 = 10_000_000_000;
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

/// What is left to do for a socket of datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Idle,
    More,
    /// No room towards the guest, or nobody knows where it is.
    Stalled,
}

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

    /// An address that the guest has or would be given.
    fn guest_address(&self, now: u64) -> Option<IpAddr>;

    /// The guest is another one now, whose time goes on from `now`: from an earlier one, maybe.
    fn reset(&mut self, now: u64);
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
    buffer: Vec<u8>,
    answers: Vec<Answer>,
    next_sweep: u64,
    /// When those that stalled are tried again; at once if they stalled for room and there is some.
    next_retry: u64,
    was_full: bool,
    /// The guest's driver is there: it has sent something.
    heard: bool,
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
            buffer: vec![0; MAX_DATAGRAM_BYTES],
            answers: Vec::new(),
            next_sweep: 0,
            next_retry: 0,
            was_full: false,
            heard: false,
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

    fn frame(&mut self, message: &[u8], turn: &mut Turn<'_>) -> Result<(), DropReason> {
        let (header, frame) = Header::decode(message).ok_or(DropReason::Truncated)?;
        let (ethernet, _) = frame.split_first_chunk::<ETHERNET_BYTES>().ok_or(DropReason::Truncated)?;
        let source: Mac = std::array::from_fn(|i| ethernet[6 + i]);
        let ours = ethernet[..6] == self.out.network.mac;
        if !ours && ethernet[0] & 1 == 0 {
            return Err(DropReason::NotForUs);
        }
        if source[0] & 1 != 0 || source == self.out.network.mac || source == [0; 6] {
            return Err(DropReason::Spoofed);
        }
        let finished = finish_checksum(&header, frame)?;
        let frame = finished.as_deref().unwrap_or(frame);
        let bytes = &frame[ETHERNET_BYTES..];
        let packet = match u16::from_be_bytes([ethernet[12], ethernet[13]]) {
            ETHERTYPE_ARP => {
                let news = self.out.arp(turn.guest, source, bytes)?;
                self.learnt(news);
                return Ok(());
            }
            0x0800 => Packet::v4(bytes)?,
            0x86dd => Packet::v6(bytes)?,
            _ => return Err(DropReason::NotForUs),
        };
        self.check_source(&packet)?;
        let verified = header.flags & NEEDS_CSUM != 0 && finished.is_none();
        if packet.fragment.is_none() {
            return self.packet(&packet, &header, source, verified, turn);
        }
        if header.gso() != GSO_NONE {
            return Err(DropReason::BadOffload);
        }
        if let Some(payload) = self.reassembly.add(turn.now, &packet)? {
            let whole = tcp::plain(&packet, &payload);
            let whole = if packet.source.is_ipv4() { Packet::v4(&whole) } else { Packet::v6(&whole) }?;
            self.packet(&whole, &Header::default(), source, false, turn)?;
        }
        Ok(())
    }

    fn learnt(&mut self, news: bool) {
        if news {
            self.tcp.resolved();
            self.retry_stalled();
        }
    }

    /// A guest may send from its own addresses, and from none while it asks for one.
    fn check_source(&self, packet: &Packet<'_>) -> Result<(), DropReason> {
        let asks = packet.source.is_unspecified()
            && (packet.protocol == ICMPV6
                || packet.protocol == UDP && packet.payload.starts_with(&[0, 68, 0, 67]));
        if asks || self.out.network.is_guests(packet.source) { Ok(()) } else { Err(DropReason::Spoofed) }
    }

    fn packet(
        &mut self,
        packet: &Packet<'_>,
        header: &Header,
        source: Mac,
        verified: bool,
        turn: &mut Turn<'_>,
    ) -> Result<(), DropReason> {
        check_gso(header, packet)?;
        if !packet.source.is_unspecified() && packet.protocol != ICMPV6 {
            let news = self.out.neighbours.learn(packet.source, source);
            self.learnt(news);
        }
        match packet.protocol {
            TCP => {
                check(verified || packet.checksum_holds(true), DropReason::Checksum)?;
                if packet.header_bytes > 40 && packet.source.is_ipv6() {
                    let whole = tcp::plain(packet, packet.payload);
                    self.tcp.segment(&Packet::v6(&whole)?, &self.router, turn, &mut self.out);
                } else {
                    self.tcp.segment(packet, &self.router, turn, &mut self.out);
                }
            }
            UDP => return self.datagrams(packet, header, source, verified, turn),
            ICMP if packet.source.is_ipv4() => {
                check(packet.checksum_holds(false), DropReason::Checksum)?;
                self.pings.message(packet, &self.router, turn, &mut self.out);
            }
            ICMPV6 if packet.source.is_ipv6() => {
                check(packet.checksum_holds(true), DropReason::Checksum)?;
                return self.icmpv6(packet, source, turn);
            }
            _ => {
                if self.out.network.place(packet.destination) != network::Place::Multicast {
                    self.out.unreachable(turn.guest, packet, Unreachable::Protocol);
                }
                return Err(DropReason::Protocol);
            }
        }
        Ok(())
    }

    fn icmpv6(&mut self, packet: &Packet<'_>, source: Mac, turn: &mut Turn<'_>) -> Result<(), DropReason> {
        const DISCOVERY: std::ops::RangeInclusive<u8> = 133..=137;
        if !packet.payload.first().is_some_and(|kind| DISCOVERY.contains(kind)) {
            check(!packet.source.is_unspecified(), DropReason::Spoofed)?;
            let news = self.out.neighbours.learn(packet.source, source);
            self.learnt(news);
            self.pings.message(packet, &self.router, turn, &mut self.out);
            return Ok(());
        }
        let (news, asked) = self.out.neighbour_discovery(turn.guest, source, packet)?;
        self.learnt(news);
        if let (Asked::Router, IpAddr::V6(from)) = (asked, packet.source)
            && let Some(advertisement) = self.services.solicited(from, packet.payload)
        {
            self.advertise(&advertisement, turn);
        }
        Ok(())
    }

    fn advertise(&mut self, advertisement: &ra::Advertisement, turn: &mut Turn<'_>) {
        let head = IpHead {
            source: advertisement.from.into(),
            destination: advertisement.to.into(),
            protocol: ICMPV6,
            hops: 255,
        };
        self.out.packet(turn.guest, &head, &advertisement.message);
    }

    /// One datagram, or a train of them.
    fn datagrams(
        &mut self,
        packet: &Packet<'_>,
        header: &Header,
        source: Mac,
        verified: bool,
        turn: &mut Turn<'_>,
    ) -> Result<(), DropReason> {
        let (head, data) = packet.payload.split_first_chunk::<8>().ok_or(DropReason::Truncated)?;
        let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let (ports, bytes) = ([word(0), word(2)], usize::from(word(4)));
        let train = header.gso() == GSO_UDP_L4;
        check(ports[0] != 0 && ports[1] != 0 && (train || bytes >= 8), DropReason::Malformed)?;
        let data = match train {
            true => data,
            false => data.get(..bytes - 8).ok_or(DropReason::Truncated)?,
        };
        let unchecked = word(6) == 0 && packet.source.is_ipv4();
        check(verified || unchecked || packet.checksum_holds(true), DropReason::Checksum)?;
        let piece = if train { usize::from(header.gso_size).max(1) } else { data.len().max(1) };
        check(data.len().div_ceil(piece) <= TRAIN, DropReason::BadOffload)?;
        if data.is_empty() {
            self.datagram(packet, ports, source, data, turn);
        }
        for data in data.chunks(piece) {
            self.datagram(packet, ports, source, data, turn);
        }
        Ok(())
    }

    fn datagram(
        &mut self,
        packet: &Packet<'_>,
        ports: [u16; 2],
        source: Mac,
        data: &[u8],
        turn: &mut Turn<'_>,
    ) {
        use network::Place;
        let place = self.out.network.place(packet.destination);
        if place == Place::Dns && ports[1] == dns::PORT {
            let (from, to) = (packet.source, packet.destination);
            let asker = dns::Asker {
                guest: SocketAddr::new(from, ports[0]),
                server: SocketAddr::new(to, ports[1]),
                transport: dns::Transport::Udp,
            };
            return turn.host.question(asker, data);
        }
        if matches!(place, Place::Gateway | Place::Host | Place::Dns | Place::Multicast) {
            let request = Request {
                mac: source,
                from: SocketAddr::new(packet.source, ports[0]),
                to: SocketAddr::new(packet.destination, ports[1]),
                data,
            };
            let served = self.services.request(turn.now, &request, &mut self.answers);
            self.send_answers(turn);
            if served {
                return;
            }
        }
        if packet.source.is_unspecified() {
            return self.out.stats.dropped(DropReason::NoService);
        }
        self.udp.datagram(packet, ports, data, &self.router, turn, &mut self.out);
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
        let room = || Output::has_room(turn.guest, MAX_DATAGRAM_BYTES + FRAGMENTS_BYTES);
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
        let buffer = &mut self.buffer[..];
        let next = match id.kind() {
            Kind::Udp => self.udp.poll(id, turn, &mut self.out, buffer),
            Kind::UdpForward => {
                let guest = self.services.guest_address(turn.now);
                self.udp.poll_forward(id, guest, &self.router, turn, &mut self.out, buffer)
            }
            Kind::Ping => self.pings.poll(id, turn, &mut self.out, buffer),
            Kind::Tcp => Next::Idle,
        };
        match next {
            Next::Idle => drop(self.queued.remove(&id)),
            Next::More => self.readable.push_back(id),
            Next::Stalled => {
                self.was_full |= !Output::has_room(turn.guest, MAX_DATAGRAM_BYTES + FRAGMENTS_BYTES);
                self.stalled.push(id);
            }
        }
    }

    fn sweep(&mut self, turn: &mut Turn<'_>) {
        self.tcp.sweep(turn, &mut self.out);
        self.udp.sweep(turn);
        self.pings.sweep(turn);
        for _ in 0..self.reassembly.expire(turn.now) {
            self.out.stats.dropped(DropReason::Fragments);
        }
        self.next_sweep = turn.now.saturating_add(SWEEP_NS);
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

    /// An address of the guest, for forwards that name none.
    #[must_use]
    pub fn guest_address(&self, now: u64) -> Option<IpAddr> {
        self.services.guest_address(now)
    }

    /// The guest was replaced by one of another time (a restore): all its flows are dropped. Segments of theirs are
    /// answered with RST from now on, so that it recovers at once. Forwards stay.
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

fn check(holds: bool, otherwise: DropReason) -> Result<(), DropReason> {
    if holds { Ok(()) } else { Err(otherwise) }
}

/// If the guest leaves a checksum to us that is not its packet's own (that of a packet inside a tunnel's), finishes
/// it: it goes out as payload. Its packet's own is left alone; the host's socket makes another.
fn finish_checksum(header: &Header, frame: &[u8]) -> Result<Option<Vec<u8>>, DropReason> {
    if header.flags & NEEDS_CSUM == 0 {
        return Ok(None);
    }
    let (start, offset) = (usize::from(header.csum_start), usize::from(header.csum_offset));
    check(start >= ETHERNET_BYTES && start + offset + 2 <= frame.len(), DropReason::BadOffload)?;
    let outer = match frame[ETHERNET_BYTES..] {
        [first, ..] if first >> 4 == 4 => ETHERNET_BYTES + usize::from(first & 15) * 4,
        _ => frame
            .get(ETHERNET_BYTES..)
            .and_then(|bytes| Packet::v6(bytes).ok())
            .map_or(0, |packet| ETHERNET_BYTES + packet.header_bytes),
    };
    if start == outer && (offset == 16 || offset == 6) {
        return Ok(None);
    }
    check(header.gso() == GSO_NONE, DropReason::BadOffload)?;
    let mut frame = frame.to_vec();
    let sum = Sum::default().add(&frame[start..]).finished_udp();
    frame[start + offset..start + offset + 2].copy_from_slice(&sum.to_be_bytes());
    Ok(Some(frame))
}

/// A frame to be cut is what it says it is.
fn check_gso(header: &Header, packet: &Packet<'_>) -> Result<(), DropReason> {
    let v6 = ethertype(packet.source) == 0x86dd;
    let fits = match header.gso() {
        GSO_NONE => true,
        GSO_TCPV4 => packet.protocol == TCP && !v6 && header.gso_size > 0,
        GSO_TCPV6 => packet.protocol == TCP && v6 && header.gso_size > 0,
        GSO_UDP_L4 => packet.protocol == UDP && header.gso_size > 0,
        _ => false,
    };
    check(fits, DropReason::BadOffload)
}

#[cfg(test)]
pub(crate) mod tests;
