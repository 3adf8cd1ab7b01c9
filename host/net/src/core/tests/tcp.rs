//! Connections, segment by segment.

use super::harness::Bench;
use crate::{
    DropReason, Failure, FlowId, HostEvent, Target,
    frame::{GSO_TCPV4, Header, NEEDS_CSUM, Offload},
};
use std::net::SocketAddr;

pub(super) fn segment(
    ends: (SocketAddr, SocketAddr),
    numbers: (u32, u32),
    flags: u8,
    window: u16,
    options: &[u8],
    payload: &[u8],
) -> (crate::core::packet::IpHead, Vec<u8>) {
    let (seq, ack) = numbers;
    let fields = crate::core::tcp::Segment {
        ports: [0; 2],
        seq,
        ack,
        flags,
        window,
        options,
        payload,
        header_bytes: 0,
    };
    super::harness::segment(ends.0, ends.1, &fields)
}

pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
const PSH: u8 = 8;
pub(super) const ACK: u8 = 16;

/// What the guest got, taken apart by the other parser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Got {
    pub(super) seq: u32,
    ack: u32,
    pub(super) flags: u8,
    window: u16,
    pub(super) payload: Vec<u8>,
    header: Header,
}

/// A guest that does exactly what the test says.
pub(super) struct Peer {
    pub(super) bench: Bench,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    options: Vec<u8>,
}

impl Peer {
    pub(super) fn new(to: &str) -> Self {
        Self::on(Bench::new(), to)
    }

    pub(super) fn on(bench: Bench, to: &str) -> Self {
        let to: SocketAddr = to.parse().unwrap();
        let from = if to.is_ipv4() { "10.0.2.15:40000" } else { "[fd00::15]:40000" };
        Self { bench, from: from.parse().unwrap(), to, options: vec![2, 4, 5, 0xb4, 1, 3, 3, 2] }
    }

    pub(super) fn send(&mut self, seq: u32, ack: u32, flags: u8, window: u16, payload: &[u8]) {
        let options = if flags & SYN != 0 { &self.options[..] } else { &[] };
        let (head, tcp) = segment((self.from, self.to), (seq, ack), flags, window, options, payload);
        self.bench.packet(&head, &tcp);
        self.bench.poll();
    }

    pub(super) fn got(&mut self) -> Option<Got> {
        let (header, frame) = self.bench.wire.frames.pop_front()?;
        let packet = etherparse::SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(etherparse::TransportSlice::Tcp(tcp)) = packet.transport else { panic!("{frame:02x?}") };
        assert_eq!((tcp.source_port(), tcp.destination_port()), (self.to.port(), self.from.port()));
        Some(Got {
            seq: tcp.sequence_number(),
            ack: tcp.acknowledgment_number(),
            flags: tcp.header_slice()[13],
            window: tcp.window_size(),
            payload: tcp.payload().to_vec(),
            header,
        })
    }

    pub(super) fn all(&mut self) -> Vec<Got> {
        std::iter::from_fn(|| self.got()).collect()
    }

    fn id(&self) -> FlowId {
        self.bench.host.only()
    }

    /// Opens a connection; returns the sequence number that the other side will send next. The guest's is 1001.
    pub(super) fn open(&mut self) -> u32 {
        self.send(1000, 0, SYN, 65_535, &[]);
        let id = self.id();
        self.bench.event(HostEvent::Connected(id));
        self.bench.poll();
        let syn_ack = self.got().expect("a SYN|ACK");
        assert_eq!((syn_ack.flags, syn_ack.ack), (SYN | ACK, 1001));
        let seq = syn_ack.seq.wrapping_add(1);
        self.send(1001, seq, ACK, 16_000, &[]);
        assert_eq!(self.all(), []);
        seq
    }

    pub(super) fn host_sends(&mut self, bytes: &[u8]) {
        let id = self.id();
        self.bench.host.sock(id).inbox.extend(bytes);
        self.bench.event(HostEvent::Readable(id));
        self.bench.poll();
    }

    pub(super) fn host_ends(&mut self) {
        let id = self.id();
        self.bench.host.sock(id).peer_ended = true;
        self.bench.event(HostEvent::Readable(id));
        self.bench.poll();
    }
}

#[test]
fn a_syn_waits_for_the_hosts_connection() {
    for to in ["192.0.2.1:80", "[2001:db8::1]:80"] {
        let mut peer = Peer::new(to);
        peer.send(1000, 0, SYN, 65_535, &[]);
        peer.send(1000, 0, SYN, 65_535, &[]);
        assert_eq!(peer.all(), [], "no answer before the host knows");
        let id = peer.id();
        assert_eq!(peer.bench.host.sock(id).target, Some(Target::Address(to.parse().unwrap())));
        assert!(peer.bench.core.external_work_pending(peer.bench.now + 3_600_000_000_000));
        peer.bench.event(HostEvent::Connected(id));
        peer.bench.poll();
        let answers = peer.all();
        assert_eq!(answers.len(), 1);
        assert_eq!((answers[0].flags, answers[0].ack, answers[0].window), (SYN | ACK, 1001, 65_535));
    }
}

#[test]
fn addresses_become_what_they_mean_on_the_host() {
    let cases = [
        ("10.0.2.2:80", Target::Address("127.0.0.1:80".parse().unwrap())),
        ("[fd00::2]:80", Target::Address("[::1]:80".parse().unwrap())),
        ("192.0.2.1:3", Target::Proxy("proxy".into(), "192.0.2.1:3".parse().unwrap())),
        ("10.0.2.100:80", Target::Service(5)),
    ];
    for (to, target) in cases {
        let mut peer = Peer::new(to);
        peer.send(1000, 0, SYN, 65_535, &[]);
        let id = peer.id();
        assert_eq!(peer.bench.host.sock(id).target, Some(target), "{to}");
    }
}

#[test]
fn a_refusal_reaches_the_guest_in_its_own_way() {
    // By policy: told, or not.
    for (to, told) in [
        ("192.0.2.1:1", true),
        ("192.0.2.1:2", false),
        ("10.0.2.3:80", true),
        ("10.0.2.77:80", false),
        // A `guestfwd` stands there, behind another port.
        ("10.0.2.100:85", true),
    ] {
        let mut peer = Peer::new(to);
        peer.send(1000, 0, SYN, 65_535, &[]);
        let answers = peer.all();
        assert_eq!(answers.len(), usize::from(told), "{to}");
        assert!(answers.iter().all(|answer| (answer.flags, answer.ack) == (RST | ACK, 1001)));
        assert_eq!((peer.bench.host.open.len(), peer.bench.dropped(DropReason::Policy)), (0, 1));
    }
    // By the host, at once or later.
    for at_once in [false, true] {
        for (failure, icmp_code) in [
            (Failure::Refused, None),
            (Failure::NetUnreachable, Some(0)),
            (Failure::HostUnreachable, Some(1)),
            (Failure::TimedOut, Some(1)),
            (Failure::Exhausted, None),
        ] {
            let mut peer = Peer::new("192.0.2.1:80");
            peer.bench.host.refuse = at_once.then_some(failure);
            peer.send(1000, 0, SYN, 65_535, &[]);
            if !at_once {
                let id = peer.id();
                peer.bench.host.open.clear();
                peer.bench.event(HostEvent::Failed(id, failure));
            }
            let frame = peer.bench.next_frame().expect("an answer");
            match icmp_code {
                Some(code) => {
                    assert_eq!((frame[23], frame[34], frame[35]), (1, 3, code), "{failure:?}");
                    // The guest's own header and ports are quoted.
                    assert_eq!(frame[54..58], [10, 0, 2, 15]);
                    assert_eq!(frame[62..66], [0x9c, 0x40, 0, 80]);
                }
                None => assert_eq!((frame[23], frame[47]), (6, RST | ACK), "{failure:?}"),
            }
            assert!(peer.bench.core.tcp_info().is_empty());
            assert!(!peer.bench.core.external_work_pending(peer.bench.now));
        }
    }
}

#[test]
fn bytes_go_both_ways() {
    let mut peer = Peer::new("192.0.2.1:80");
    let seq = peer.open();
    peer.send(1001, seq, ACK | PSH, 16_000, b"question");
    let answers = peer.all();
    assert_eq!(answers.len(), 1);
    assert_eq!((answers[0].flags, answers[0].ack), (ACK, 1009));
    let id = peer.id();
    assert_eq!(peer.bench.host.sock(id).got, b"question");
    peer.host_sends(b"answer");
    let answers = peer.all();
    assert_eq!((answers.len(), answers[0].seq, &answers[0].payload[..]), (1, seq, &b"answer"[..]));
    let info = peer.bench.core.tcp_info();
    assert_eq!((info[0].from_guest_bytes, info[0].to_guest_bytes), (8, 6));
    assert_eq!(info[0].waiting_bytes, (0, 6));
}

#[test]
fn the_guest_may_end_first() {
    let mut peer = Peer::new("192.0.2.1:80");
    let seq = peer.open();
    peer.send(1001, seq, ACK | FIN, 16_000, b"all");
    assert_eq!(peer.all().last().map(|got| (got.flags, got.ack)), Some((ACK, 1005)));
    let id = peer.id();
    let sock = peer.bench.host.sock(id);
    assert_eq!((&sock.got[..], sock.shutdown), (&b"all"[..], true));
    // The other direction goes on.
    peer.host_sends(&[7; 3000]);
    assert_eq!(peer.all().iter().map(|got| got.payload.len()).sum::<usize>(), 3000);
    peer.send(1005, seq + 3000, ACK, 16_000, &[]);
    peer.host_ends();
    assert_eq!(peer.all().last().map(|got| (got.flags, got.seq)), Some((ACK | FIN, seq + 3000)));
    assert!(peer.bench.host.closed.is_empty());
    peer.send(1005, seq + 3001, ACK, 16_000, &[]);
    assert_eq!(peer.bench.host.closed.len(), 1);
    assert!(!peer.bench.host.closed[0].1, "not a reset");
    assert!(peer.bench.core.tcp_info().is_empty());
}

#[test]
fn the_host_may_end_first_and_a_lost_last_answer_is_repeated() {
    let mut peer = Peer::new("192.0.2.1:80");
    let seq = peer.open();
    peer.host_sends(b"bye");
    peer.host_ends();
    assert_eq!(peer.all().last().map(|got| got.flags & FIN), Some(FIN));
    peer.send(1001, seq + 4, ACK, 16_000, &[]);
    peer.send(1001, seq + 4, ACK, 16_000, &[9; 1000]);
    let id = peer.id();
    assert_eq!(peer.bench.host.sock(id).got.len(), 1000, "the guest's direction goes on");
    peer.all();
    peer.send(2001, seq + 4, ACK | FIN, 16_000, &[]);
    let last = peer.all();
    assert_eq!(last.last().map(|got| (got.flags, got.ack)), Some((ACK, 2002)));
    assert_eq!(peer.bench.host.closed.len(), 1);
    assert!(peer.bench.host.closed[0].2.shutdown && !peer.bench.host.closed[0].1);
    // Again, as if the answer had been lost.
    peer.send(2001, seq + 4, ACK | FIN, 16_000, &[]);
    assert_eq!(peer.all().last().map(|got| (got.flags, got.ack, got.seq)), Some((ACK, 2002, seq + 4)));
    // After a second nobody remembers.
    peer.bench.pass(1_500_000_000);
    peer.send(2001, seq + 4, ACK | FIN, 16_000, &[]);
    assert_eq!(peer.all().last().map(|got| (got.flags, got.seq)), Some((RST, seq + 4)));
}

#[test]
fn a_port_is_free_again_at_once() {
    let mut peer = Peer::new("192.0.2.1:80");
    let seq = peer.open();
    peer.host_ends();
    peer.send(1001, seq + 1, ACK | FIN, 16_000, &[]);
    peer.all();
    assert_eq!(peer.bench.host.closed.len(), 1);
    peer.send(9000, 0, SYN, 65_535, &[]);
    let id = peer.id();
    peer.bench.event(HostEvent::Connected(id));
    peer.bench.poll();
    assert_eq!(peer.all().last().map(|got| (got.flags, got.ack)), Some((SYN | ACK, 9001)));
}

#[test]
fn resets_pass_in_both_directions() {
    let mut peer = Peer::new("192.0.2.1:80");
    let seq = peer.open();
    peer.send(1001, seq, RST, 0, &[]);
    assert_eq!(peer.all(), []);
    assert!(peer.bench.host.closed[0].1, "the host's peer is reset");
    assert!(peer.bench.core.tcp_info().is_empty());

    let mut peer = Peer::new("192.0.2.1:80");
    let seq = peer.open();
    let id = peer.id();
    peer.bench.host.sock(id).broken = true;
    peer.bench.event(HostEvent::Readable(id));
    peer.bench.poll();
    let got = peer.all();
    assert_eq!((got.len(), got[0].flags & RST, got[0].seq), (1, RST, seq));
    assert!(peer.bench.host.closed[0].1);

    // While the host still connects.
    let mut peer = Peer::new("192.0.2.1:80");
    peer.send(1000, 0, SYN, 65_535, &[]);
    peer.send(1001, 0, RST, 0, &[]);
    assert!(peer.bench.host.closed[0].1);
    assert_eq!(peer.all(), []);
}

#[test]
fn what_belongs_to_nothing_is_reset() {
    let mut peer = Peer::new("192.0.2.1:80");
    peer.bench.udp("10.0.2.15:9", "10.0.2.2:7", b"");
    peer.bench.wire.frames.clear();
    peer.send(5, 77, ACK, 100, b"abc");
    peer.send(5, 0, FIN, 100, b"abc");
    peer.send(5, 77, RST, 100, &[]);
    peer.send(5, 77, SYN | ACK, 100, &[]);
    let got: Vec<_> = peer.all().iter().map(|got| (got.flags, got.seq, got.ack)).collect();
    assert_eq!(got, [(RST, 77, 0), (RST | ACK, 0, 9), (RST, 77, 0)]);
    // Nonsense is not even answered.
    for flags in [SYN | FIN, SYN | RST, FIN | RST, 0, PSH] {
        peer.send(5, 77, flags, 100, &[]);
    }
    peer.from.set_port(0);
    peer.send(5, 77, SYN, 100, &[]);
    assert_eq!((peer.all(), peer.bench.dropped(DropReason::Malformed)), (vec![], 6));
    assert!(peer.bench.host.open.is_empty());
    // Nobody is who everybody is.
    for to in ["224.0.0.1:80", "10.0.2.255:80", "255.255.255.255:80"] {
        let mut peer = Peer::new(to);
        peer.bench.udp("10.0.2.15:9", "10.0.2.2:7", b"");
        peer.bench.wire.frames.clear();
        peer.send(5, 77, ACK, 100, b"abc");
        assert_eq!((peer.all(), peer.bench.dropped(DropReason::Multicast)), (vec![], 1), "{to}");
    }
}

#[test]
fn a_slow_host_closes_the_window_and_nothing_is_lost() {
    let mut peer = Peer::new("192.0.2.1:80");
    let seq = peer.open();
    let id = peer.id();
    peer.bench.host.sock(id).room = 0;
    peer.bench.event(HostEvent::Writable(id));
    let mut sent = 0u32;
    let bytes: Vec<u8> = (0..1_100_000u32).map(|i| (i % 251) as u8).collect();
    let mut edge = 1001 + 65_535u32;
    while sent < 1_000_000 {
        let room = edge - (1001 + sent);
        if room == 0 {
            break;
        }
        let count = room.min(1460);
        let from = sent as usize;
        peer.send(1001 + sent, seq, ACK, 16_000, &bytes[from..from + count as usize]);
        sent += count;
        for got in peer.all() {
            edge = edge.max(got.ack + (u32::from(got.window) << 5));
        }
    }
    assert!(sent > 200_000, "windows are scaled: {sent}");
    // Beyond the window: a byte to probe, and a lot. Each is answered, none is taken.
    let full = edge - (1001 + sent);
    if full == 0 {
        peer.send(1001 + sent, seq, ACK, 16_000, &[1]);
        assert_eq!(peer.all().last().map(|got| got.ack), Some(1001 + sent));
    }
    assert_eq!(peer.bench.host.sock(id).got, b"");
    peer.bench.host.sock(id).room = usize::MAX;
    peer.bench.event(HostEvent::Writable(id));
    peer.bench.poll();
    assert_eq!(peer.bench.host.sock(id).got, bytes[..sent as usize]);
    assert!(peer.all().iter().any(|got| got.window > 0), "the guest must hear that the window is open");
}

#[test]
fn bytes_beyond_the_window_never_count() {
    // The defects of smoltcp 0.14 that the guard is for: more than its buffer, in order and out of it.
    let mut peer = Peer::new("192.0.2.1:80");
    let seq = peer.open();
    let id = peer.id();
    peer.bench.host.sock(id).room = 0;
    peer.bench.event(HostEvent::Writable(id));
    let (head, far) =
        segment((peer.from, peer.to), (1001 + 1_060_000, seq), ACK, 16_000, &[], &[0x55; 40_000]);
    peer.bench.packet(&head, &far);
    for at in (0..1_300_000u32).step_by(50_000) {
        let (head, tcp) = segment((peer.from, peer.to), (1001 + at, seq), ACK, 16_000, &[], &[0x11; 50_000]);
        peer.bench.packet(&head, &tcp);
    }
    peer.bench.poll();
    peer.bench.host.sock(id).room = usize::MAX;
    peer.bench.event(HostEvent::Writable(id));
    peer.bench.poll();
    let got = &peer.bench.host.sock(id).got;
    assert!(got.iter().all(|byte| *byte == 0x11), "bytes that were never sent");
    assert_eq!(got.len(), 65_535, "what the SYN|ACK offered, and no more");
    assert_eq!(peer.bench.dropped(DropReason::Panicked), 0);
    assert!(peer.bench.dropped(DropReason::Window) > 20);
}

#[test]
fn long_segments_become_one_frame_for_a_guest_that_cuts() {
    for (to, head, kind) in
        [("192.0.2.1:80", 40, GSO_TCPV4), ("[2001:db8::1]:80", 60, crate::frame::GSO_TCPV6)]
    {
        let mut peer = Peer::new(to);
        peer.bench.offload(Offload { csum: true, tso4: true, tso6: true, ..Offload::default() });
        let seq = peer.open();
        peer.host_sends(&vec![3; 200_000]);
        let got = peer.all();
        // The window that the guest gave: 16,000 << 2.
        assert_eq!(got.iter().map(|got| got.payload.len()).sum::<usize>(), 64_000);
        assert_eq!(got.len(), 1);
        assert_eq!((got[0].header.gso_type, got[0].header.flags), (kind, NEEDS_CSUM));
        assert_eq!(usize::from(got[0].header.gso_size), 1460.min(1500 - head));
        // A guest with small segments: nothing larger than it said.
        peer.send(1001, seq + 64_000, ACK, 16_000, &[]);
        assert_eq!(peer.all().iter().map(|got| got.payload.len()).sum::<usize>(), 64_000);
    }
    let mut peer = Peer::new("192.0.2.1:80");
    peer.options = vec![2, 4, 2, 0, 1, 3, 3, 2];
    peer.bench.offload(Offload { csum: true, tso4: true, tso6: true, ..Offload::default() });
    peer.open();
    peer.host_sends(&vec![3; 1400]);
    assert_eq!(peer.all()[0].header.gso_size, 512);
}

#[test]
fn without_room_nothing_is_dropped() {
    let mut peer = Peer::new("192.0.2.1:80");
    peer.open();
    peer.bench.wire.room = 5000;
    peer.host_sends(&vec![3; 60_000]);
    let mut total = 0;
    for _ in 0..40 {
        let got = peer.all();
        assert!(got.len() <= 3);
        total += got.iter().map(|got| got.payload.len()).sum::<usize>();
        peer.bench.poll();
    }
    assert_eq!((total, peer.bench.dropped(DropReason::NoRoom)), (60_000, 0));
}

#[test]
fn a_new_syn_on_an_open_connection_is_challenged() {
    let mut peer = Peer::new("192.0.2.1:80");
    let seq = peer.open();
    // A guest that was started anew uses the port again. It answers the challenge with a reset, and asks again.
    peer.send(77_000, 0, SYN, 65_535, &[]);
    let got = peer.all();
    assert_eq!(got.iter().map(|got| (got.flags, got.ack, got.seq)).collect::<Vec<_>>(), [(ACK, 1001, seq)]);
    peer.send(1001, 0, RST, 0, &[]);
    assert!(peer.bench.core.tcp_info().is_empty());
    peer.send(77_000, 0, SYN, 65_535, &[]);
    assert_eq!(peer.bench.core.tcp_info().len(), 1);
}

#[test]
fn a_panic_in_a_flow_resets_that_flow() {
    let mut peer = Peer::new("192.0.2.1:80");
    let seq = peer.open();
    peer.bench.host.panics = true;
    peer.send(1001, seq, ACK, 16_000, b"boom");
    peer.bench.host.panics = false;
    assert_eq!(peer.bench.dropped(DropReason::Panicked), 1);
    assert_eq!(peer.all().last().map(|got| (got.flags & RST, got.seq)), Some((RST, seq)));
    assert!(peer.bench.host.closed[0].1 && peer.bench.core.tcp_info().is_empty());
    peer.from.set_port(40_001);
    peer.open();
}

#[test]
fn connections_come_in_through_forwards() {
    for (peer_of_host, guest, seen) in [
        ("127.0.0.1:50000", "10.0.2.15:22", "10.0.2.2:50000"),
        ("198.51.100.7:50000", "10.0.2.15:22", "198.51.100.7:50000"),
        ("[2001:db8::7]:50000", "[fd00::15]:22", "[2001:db8::7]:50000"),
    ] {
        let mut peer = Peer::new(seen);
        peer.from = guest.parse().unwrap();
        let id = peer.bench.core.accept(peer.bench.now, peer_of_host.parse().unwrap(), peer.from).unwrap();
        peer.bench.host.open.insert(id, super::harness::Sock { room: usize::MAX, ..Default::default() });
        peer.bench.poll();
        // Nobody knows where the guest is.
        let asked = peer.bench.next_frame().expect("a question");
        assert!(asked[12..14] == [8, 6] || asked[54] == 135);
        peer.bench.udp(
            &SocketAddr::new(peer.from.ip(), 9).to_string(),
            &SocketAddr::new(peer.to.ip(), 9).to_string(),
            b"x",
        );
        peer.bench.poll();
        let udp: Vec<FlowId> = peer.bench.host.open.keys().copied().filter(|open| *open != id).collect();
        udp.iter().for_each(|id| drop(peer.bench.host.open.remove(id)));
        let syn = peer.got().expect("a SYN");
        assert_eq!((syn.flags, syn.ack), (SYN, 0));
        peer.send(500, syn.seq + 1, SYN | ACK, 65_535, &[]);
        assert_eq!(peer.all().last().map(|got| (got.flags, got.ack)), Some((ACK, 501)));
        peer.send(501, syn.seq + 1, ACK, 65_535, b"SSH-2.0");
        assert_eq!(peer.bench.host.sock(id).got, b"SSH-2.0");
        peer.all();
        peer.host_sends(b"hello");
        assert_eq!(peer.all()[0].payload, b"hello");
        assert!(
            peer.bench.core.accept(peer.bench.now, "127.0.0.1:50001".parse().unwrap(), peer.from).is_some()
        );
    }
}

#[test]
fn a_forward_does_not_wait_for_the_end_of_the_guests_time_wait() {
    let mut peer = Peer::new("10.0.2.2:50000");
    peer.bench.udp("10.0.2.15:9", "10.0.2.2:7", b"");
    peer.bench.wire.frames.clear();
    peer.from.set_port(80);
    let id = peer.bench.core.accept(peer.bench.now, "127.0.0.1:50000".parse().unwrap(), peer.from).unwrap();
    peer.bench.host.open.insert(id, super::harness::Sock { room: usize::MAX, ..Default::default() });
    peer.bench.poll();
    let (now, syn) = (peer.bench.now, peer.got().unwrap());
    // What Linux says in TIME-WAIT, or of a connection that it still has, to a SYN that is none for it.
    let elder = syn.seq.wrapping_add(1_000_000);
    peer.send(7000, elder, ACK, 1003, &[]);
    let got = peer.all();
    assert_eq!(got.iter().map(|got| got.flags).collect::<Vec<_>>(), [RST, SYN]);
    assert_eq!(got[0].seq, elder, "Linux takes a reset at this byte only");
    assert_eq!(peer.bench.now, now, "it asks again at once");
    // A guest that never has enough of it is reset each time, and asked again when a SYN would be.
    peer.send(7000, elder, ACK, 1003, &[]);
    assert_eq!(peer.all().iter().map(|got| got.flags).collect::<Vec<_>>(), [RST]);
    let syn = &got[1];
    peer.send(500, syn.seq.wrapping_add(1), SYN | ACK, 65_535, &[]);
    assert_eq!(peer.all().last().map(|got| (got.flags, got.ack)), Some((ACK, 501)));
    peer.send(501, syn.seq.wrapping_add(1), ACK, 65_535, b"hello");
    assert_eq!(peer.bench.host.sock(id).got, b"hello");
}

#[test]
fn a_guest_that_does_not_listen_refuses() {
    let mut peer = Peer::new("10.0.2.2:50000");
    peer.bench.udp("10.0.2.15:9", "10.0.2.2:7", b"");
    peer.bench.wire.frames.clear();
    peer.from.set_port(22);
    let id = peer.bench.core.accept(peer.bench.now, "127.0.0.1:50000".parse().unwrap(), peer.from).unwrap();
    peer.bench.host.open.insert(id, super::harness::Sock::default());
    peer.bench.poll();
    let syn = peer.got().unwrap();
    peer.send(0, syn.seq + 1, RST | ACK, 0, &[]);
    assert_eq!((peer.bench.host.closed.len(), peer.bench.host.closed[0].1), (1, true));
    // And one that is not there at all.
    let id = peer.bench.core.accept(
        peer.bench.now,
        "127.0.0.1:50000".parse().unwrap(),
        "10.0.2.77:22".parse().unwrap(),
    );
    peer.bench.host.open.insert(id.unwrap(), super::harness::Sock::default());
    peer.bench.pass(60_000_000_000);
    assert_eq!((peer.bench.host.closed.len(), peer.bench.core.tcp_info().len()), (2, 0));
}

#[test]
fn a_restored_guest_recovers_at_once() {
    let mut peer = Peer::new("192.0.2.1:80");
    let seq = peer.open();
    let (now, bench) = (peer.bench.now, &mut peer.bench);
    bench.core.reset(now, &mut bench.host, &mut bench.wire);
    assert!(peer.bench.host.closed[0].1 && peer.all().is_empty());
    peer.send(1001, seq, ACK, 16_000, b"are you there");
    assert_eq!(peer.all().iter().map(|got| (got.flags, got.seq)).collect::<Vec<_>>(), [(RST, seq)]);
}

#[test]
fn a_stop_of_any_length_leaves_a_connection_alone() {
    let mut peer = Peer::new("192.0.2.1:80");
    let seq = peer.open();
    peer.host_sends(b"in flight");
    assert_eq!(peer.all().len(), 1);
    // The EXTERNAL clock stands still: polling changes nothing.
    for _ in 0..1000 {
        peer.bench.poll();
    }
    assert_eq!(peer.all(), []);
    peer.bench.pass(1_500_000_000);
    assert_eq!(peer.all()[0].payload, b"in flight", "sent again after the time of the guest");
    peer.send(1001, seq + 9, ACK, 16_000, &[]);
    assert_eq!(peer.bench.core.tcp_info()[0].waiting_bytes, (0, 0));
}

#[test]
fn nobody_waits_for_ever_for_a_guest_that_is_gone() {
    let mut peer = Peer::new("192.0.2.1:80");
    peer.open();
    peer.host_sends(b"hello?");
    peer.bench.pass(400_000_000_000);
    assert!(peer.bench.core.tcp_info().is_empty() && peer.bench.host.closed[0].1);
}

#[test]
fn urgent_data_is_data() {
    let mut peer = Peer::new("192.0.2.1:80");
    let seq = peer.open();
    let (head, mut tcp) = segment((peer.from, peer.to), (1001, seq), ACK | 32, 16_000, &[], b"urgent");
    tcp[18..20].copy_from_slice(&0xffffu16.to_be_bytes());
    tcp[16..18].fill(0);
    let sum =
        crate::core::checksum::Sum::pseudo(head.source, head.destination, 6, tcp.len()).add(&tcp).finished();
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    peer.bench.packet(&head, &tcp);
    peer.bench.poll();
    let id = peer.id();
    assert_eq!(peer.bench.host.sock(id).got, b"urgent");
}
