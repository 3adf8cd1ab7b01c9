//! A guest's end of the wire and a host made of queues.

use super::parse::{GUEST_MAC, check};
use crate::{
    Answer, Config, Core, EchoReply, Egress, Failure, Family, FlowId, Guest, Host, HostEvent, Kind, Moved,
    Network, Request, Services, Setup, TRAIN_BYTES, Target, Train, Verdict,
    config::Limits,
    core::{
        checksum::Sum,
        packet::{IpHead, TCP, UDP},
        tcp::Segment,
    },
    frame::{Header, Offload},
    policy::Transport,
    service::{
        dns::Asker,
        ra::{Advertisement, Router},
    },
};
use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

/// xorshift64*, seeded: the tests' own chance.
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit.max(1)
    }

    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// How often a length of `default` is multiplied: `REPRISE_FUZZ` says a number of its own.
pub(super) fn rounds(default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a test that is told how long to run")]
    std::env::var("REPRISE_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The guest's end of the wire. Whatever arrives is checked.
pub(super) struct Wire {
    pub(super) frames: VecDeque<(Header, Vec<u8>)>,
    pub(super) room: usize,
    pub(super) offload: Offload,
    pub(super) mtu: usize,
    /// The guest says to have other addresses.
    pub(super) any_mac: bool,
    /// Over everything that ever arrived.
    pub(super) digest: u64,
}

impl Wire {
    pub(super) fn new() -> Self {
        Self {
            frames: VecDeque::new(),
            room: 1 << 20,
            offload: Offload::default(),
            mtu: 1500,
            any_mac: false,
            digest: 0xcbf2_9ce4_8422_2325,
        }
    }

    fn held(&self) -> usize {
        self.frames.iter().map(|(_, frame)| frame.len() + 12).sum()
    }
}

impl Guest for Wire {
    fn room(&self) -> usize {
        self.room.saturating_sub(self.held())
    }

    fn frame(&mut self, header: &Header, frame: &[u8]) {
        assert!(frame.len() + 12 <= self.room(), "{} bytes, room for {}", frame.len() + 12, self.room());
        check(header, frame, self.offload, self.mtu);
        assert!(self.any_mac || frame[..6] == GUEST_MAC || frame[0] & 1 != 0, "to {:x?}", &frame[..6]);
        for byte in header.encode().iter().chain(frame) {
            self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
        self.frames.push_back((*header, frame.to_vec()));
    }
}

/// A socket of the host.
#[derive(Debug, Default)]
pub(super) struct Sock {
    pub(super) target: Option<Target>,
    /// What the peer sends, and what it got.
    pub(super) inbox: VecDeque<u8>,
    pub(super) got: Vec<u8>,
    /// Bytes that the socket takes before it would block.
    pub(super) room: usize,
    pub(super) peer_ended: bool,
    pub(super) broken: bool,
    pub(super) shutdown: bool,
    pub(super) sent_datagrams: Vec<(SocketAddr, u8, Vec<u8>)>,
    /// What arrives: from whom, how long each datagram is, and all of them.
    pub(super) datagrams: VecDeque<(SocketAddr, usize, Vec<u8>)>,
    pub(super) pings: Vec<(IpAddr, u8, u16, Vec<u8>)>,
    pub(super) replies: VecDeque<(IpAddr, u16, Vec<u8>)>,
}

impl Sock {
    /// A datagram arrives.
    pub(super) fn arrives(&mut self, from: &str, data: Vec<u8>) {
        self.datagrams.push_back((from.parse().unwrap(), data.len(), data));
    }
}

/// All sockets, and how the closed ones ended.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    pub(super) open: BTreeMap<FlowId, Sock>,
    pub(super) closed: Vec<(FlowId, bool, Sock)>,
    /// What the next call that opens something fails with.
    pub(super) refuse: Option<Failure>,
    /// Bytes that one call moves at most; 0: all.
    pub(super) chunk: usize,
    pub(super) panics: bool,
    pub(super) questions: Vec<(Asker, Vec<u8>)>,
}

impl Sockets {
    pub(super) fn sock(&mut self, id: FlowId) -> &mut Sock {
        self.open.get_mut(&id).expect("an open socket")
    }

    pub(super) fn only(&self) -> FlowId {
        assert_eq!(self.open.len(), 1, "{:?}", self.open.keys());
        *self.open.keys().next().unwrap()
    }

    fn insert(&mut self, id: FlowId, sock: Sock) {
        assert!(self.open.insert(id, sock).is_none(), "{id:?} was opened twice");
    }

    fn limit(&self, bytes: usize) -> usize {
        if self.chunk == 0 { bytes } else { bytes.min(self.chunk) }
    }
}

impl Host for Sockets {
    fn tcp_connect(&mut self, flow: FlowId, to: &Target) -> Result<(), Failure> {
        assert_eq!(flow.kind(), Kind::Tcp);
        if let Some(failure) = self.refuse {
            return Err(failure);
        }
        self.insert(flow, Sock { target: Some(to.clone()), room: usize::MAX, ..Sock::default() });
        Ok(())
    }

    fn tcp_send(&mut self, flow: FlowId, bytes: &[u8]) -> Moved {
        assert!(!self.panics, "as the test wants it");
        let count = self.limit(bytes.len());
        let sock = self.sock(flow);
        assert!(!sock.shutdown, "bytes behind the end");
        if sock.broken {
            return Moved::Failed(Failure::Reset);
        }
        let count = count.min(sock.room);
        if count == 0 {
            return Moved::WouldBlock;
        }
        sock.got.extend(&bytes[..count]);
        sock.room -= count;
        Moved::Bytes(count)
    }

    fn tcp_recv(&mut self, flow: FlowId, buffer: &mut [u8]) -> Moved {
        let count = self.limit(buffer.len());
        let sock = self.sock(flow);
        if sock.broken {
            return Moved::Failed(Failure::Reset);
        }
        let count = count.min(sock.inbox.len());
        if count == 0 {
            return if sock.peer_ended { Moved::End } else { Moved::WouldBlock };
        }
        for (to, from) in buffer.iter_mut().zip(sock.inbox.drain(..count)) {
            *to = from;
        }
        Moved::Bytes(count)
    }

    fn tcp_shutdown(&mut self, flow: FlowId) {
        let sock = self.sock(flow);
        assert!(!sock.shutdown, "told twice");
        sock.shutdown = true;
    }

    fn udp_open(&mut self, flow: FlowId, _: &IpAddr) -> Result<(), Failure> {
        assert_eq!(flow.kind(), Kind::Udp);
        if let Some(failure) = self.refuse {
            return Err(failure);
        }
        self.insert(flow, Sock::default());
        Ok(())
    }

    fn udp_send(&mut self, flow: FlowId, to: SocketAddr, hops: u8, bytes: &[u8]) -> Result<(), Failure> {
        if let Some(failure) = self.refuse {
            return Err(failure);
        }
        self.sock(flow).sent_datagrams.push((to, hops, bytes.to_vec()));
        Ok(())
    }

    fn udp_recv(&mut self, flow: FlowId, buffer: &mut [u8], into: &mut Vec<Train>) {
        assert!(buffer.len() >= TRAIN_BYTES && into.is_empty());
        for (place, room) in buffer.chunks_exact_mut(TRAIN_BYTES).enumerate() {
            let Some((from, piece, bytes)) = self.sock(flow).datagrams.pop_front() else { return };
            room[..bytes.len()].copy_from_slice(&bytes);
            into.push(Train { at: place * TRAIN_BYTES, bytes: bytes.len(), piece, from });
        }
    }

    fn ping_open(&mut self, flow: FlowId, _: &IpAddr) -> Result<(), Failure> {
        assert_eq!(flow.kind(), Kind::Ping);
        self.insert(flow, Sock::default());
        Ok(())
    }

    fn ping_send(
        &mut self,
        flow: FlowId,
        to: IpAddr,
        hops: u8,
        sequence: u16,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        self.sock(flow).pings.push((to, hops, sequence, bytes.to_vec()));
        Ok(())
    }

    fn ping_recv(&mut self, flow: FlowId, buffer: &mut [u8]) -> Option<EchoReply> {
        let (from, sequence, bytes) = self.sock(flow).replies.pop_front()?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Some(EchoReply { bytes: bytes.len(), from, sequence })
    }

    fn question(&mut self, asker: Asker, bytes: &[u8]) {
        self.questions.push((asker, bytes.to_vec()));
    }

    fn close(&mut self, flow: FlowId, reset: bool) {
        let sock = self.open.remove(&flow).expect("closed twice");
        self.closed.push((flow, reset, sock));
    }
}

/// A policy by the port: 1 is rejected (inwards too), 2 dropped, 3 goes by a proxy.
pub(super) struct ByPort;

impl Egress for ByPort {
    fn decide(&self, _: Transport, to: SocketAddr) -> Verdict {
        let ip = match to.ip().to_string().as_str() {
            "10.0.2.2" => "127.0.0.1".parse().unwrap(),
            "fd00::2" => "::1".parse().unwrap(),
            _ => to.ip(),
        };
        match to.port() {
            1 => Verdict::Reject,
            2 => Verdict::Drop,
            3 => Verdict::Proxy("proxy".into(), ip),
            _ => Verdict::Allow(ip),
        }
    }

    fn admits(&self, _: Transport, _: IpAddr, guest_port: u16) -> bool {
        guest_port != 1
    }
}

/// A service that answers on port 7, and a router; it knows where the guest is from which time on.
#[derive(Default)]
pub(super) struct Echo(pub(super) Vec<(u64, IpAddr)>);

impl Services for Echo {
    fn request(&mut self, _: u64, request: &Request<'_>, answers: &mut Vec<Answer>) -> bool {
        let serves = request.to.port() == 7 && !request.to.ip().is_multicast();
        if serves {
            let (from, to, data) = (request.to, request.from, request.data.to_vec());
            answers.push(Answer::Datagram { mac: None, from, to, data });
        }
        serves
    }

    fn solicited(&mut self, source: Ipv6Addr, message: &[u8]) -> Option<Advertisement> {
        Router::new(&Config::default(), 0)?.solicited(source, message)
    }

    fn leased(&self, now: u64, family: Family) -> Option<IpAddr> {
        let of_family = |address: &IpAddr| address.is_ipv6() == (family == Family::V6);
        let mut leases = self.0.iter().rev().filter(|(from, address)| *from <= now && of_family(address));
        leases.next().map(|(_, address)| *address)
    }

    fn first_address(&self) -> Option<IpAddr> {
        None
    }

    fn poll(&mut self, _: u64, _: &mut Vec<Answer>) {}

    fn next_deadline(&self) -> Option<u64> {
        None
    }

    fn is_pending(&self) -> bool {
        false
    }

    fn reset(&mut self, _: u64) {}
}

pub(super) fn setup() -> Setup {
    let service: SocketAddr = "10.0.2.100:80".parse().unwrap();
    Setup {
        network: Network { services: [service.ip()].into(), ..Network::default() },
        egress: Box::new(ByPort),
        services: Box::new(Echo::default()),
        guest_forwards: BTreeMap::from([(service, 5)]),
        limits: Limits::default(),
    }
}

/// A core with both its ends.
pub(super) struct Bench {
    pub(super) core: Core,
    pub(super) host: Sockets,
    pub(super) wire: Wire,
    pub(super) now: u64,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(setup())
    }

    pub(super) fn with(setup: Setup) -> Self {
        let mtu = usize::from(setup.network.mtu);
        let core = Core::new(setup, [7; 32]);
        Self { core, host: Sockets::default(), wire: Wire { mtu, ..Wire::new() }, now: 1_000_000 }
    }

    pub(super) fn offload(&mut self, offload: Offload) {
        self.wire.offload = offload;
        self.core.set_offload(offload, self.wire.mtu as u32);
    }

    pub(super) fn message(&mut self, message: &[u8]) {
        self.core.guest_frame(self.now, message, &mut self.host, &mut self.wire);
    }

    pub(super) fn frame(&mut self, frame: &[u8]) {
        let mut message = Header::default().encode().to_vec();
        message.extend(frame);
        self.message(&message);
    }

    pub(super) fn event(&mut self, event: HostEvent) {
        self.core.host_event(self.now, event, &mut self.host, &mut self.wire);
    }

    /// Polls as the host's loop does, until there is nothing to do at once.
    pub(super) fn poll(&mut self) {
        for _ in 0..10_000 {
            self.core.poll(self.now, &mut self.host, &mut self.wire);
            if self.core.next_deadline().is_none_or(|deadline| deadline > self.now) {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// Lets time pass, with all its deadlines.
    pub(super) fn pass(&mut self, ns: u64) {
        let end = self.now + ns;
        for _ in 0..100_000 {
            self.poll();
            match self.core.next_deadline().filter(|deadline| *deadline <= end) {
                Some(deadline) => self.now = self.now.max(deadline),
                None => {
                    self.now = end;
                    return self.poll();
                }
            }
        }
        panic!("it never comes to rest");
    }

    pub(super) fn packet(&mut self, head: &IpHead, payload: &[u8]) {
        self.frame(&frame(head, payload));
    }

    pub(super) fn udp(&mut self, from: &str, to: &str, data: &[u8]) {
        let (head, payload) = datagram(from, to, data);
        self.packet(&head, &payload);
    }

    pub(super) fn dropped(&self, why: crate::DropReason) -> u64 {
        self.core.stats().drops(why)
    }

    /// The next frame that left, as (network layer's protocol payload)…
    pub(super) fn next_frame(&mut self) -> Option<Vec<u8>> {
        self.wire.frames.pop_front().map(|(_, frame)| frame)
    }
}

/// An Ethernet frame of the guest's.
pub(super) fn frame(head: &IpHead, payload: &[u8]) -> Vec<u8> {
    let mut frame = Network::default().mac.to_vec();
    frame.extend(GUEST_MAC);
    frame.extend(if head.source.is_ipv4() { [8, 0] } else { [0x86, 0xdd] });
    frame.resize(14 + head.bytes(), 0);
    head.write(&mut frame[14..], payload.len(), 0, 0);
    frame.extend(payload);
    frame
}

pub(super) fn datagram(from: &str, to: &str, data: &[u8]) -> (IpHead, Vec<u8>) {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let mut udp = Vec::new();
    for word in [from.port(), to.port(), 8 + data.len() as u16, 0] {
        udp.extend(word.to_be_bytes());
    }
    udp.extend(data);
    let sum = Sum::pseudo(from.ip(), to.ip(), UDP, udp.len()).add(&udp).finished_udp();
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    (IpHead { source: from.ip(), destination: to.ip(), protocol: UDP, hops: 64 }, udp)
}

/// A TCP segment with its checksum.
pub(super) fn segment(from: SocketAddr, to: SocketAddr, fields: &Segment<'_>) -> (IpHead, Vec<u8>) {
    let Segment { seq, ack, flags, window, options, payload, .. } = *fields;
    let mut tcp = Vec::new();
    tcp.extend(from.port().to_be_bytes());
    tcp.extend(to.port().to_be_bytes());
    tcp.extend(seq.to_be_bytes());
    tcp.extend(ack.to_be_bytes());
    let options_bytes = options.len().next_multiple_of(4);
    tcp.extend([((20 + options_bytes) * 4) as u8, flags]);
    tcp.extend(window.to_be_bytes());
    tcp.extend([0; 4]);
    tcp.extend(options);
    tcp.resize(20 + options_bytes, 0);
    tcp.extend(payload);
    let sum = Sum::pseudo(from.ip(), to.ip(), TCP, tcp.len()).add(&tcp).finished();
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    (IpHead { source: from.ip(), destination: to.ip(), protocol: TCP, hops: 64 }, tcp)
}

/// An echo request.
pub(super) fn echo(
    from: &str,
    to: &str,
    kind: u8,
    identifier: u16,
    sequence: u16,
    data: &[u8],
) -> (IpHead, Vec<u8>) {
    let (source, destination): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let mut message = vec![kind, 0, 0, 0];
    message.extend(identifier.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.extend(data);
    let (protocol, sum) = match source {
        IpAddr::V4(_) => (1, Sum::default()),
        IpAddr::V6(_) => (58, Sum::pseudo(source, destination, 58, message.len())),
    };
    let sum = sum.add(&message).finished();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    (IpHead { source, destination, protocol, hops: 64 }, message)
}
