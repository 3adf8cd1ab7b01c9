//! A hostile guest: frames that are nearly right, and TCP segments out of any order.

use super::{
    corpus::{self, Case},
    harness::{Bench, Chance, datagram, echo, frame, rounds, segment, setup},
    parse::GUEST_MAC,
    sequence::{self, Player, Step, World},
};
use crate::{
    Config, DropReason, FlowId, HostEvent, Kind, Network,
    core::{checksum::Sum, packet::IpHead, tcp::Segment},
    frame::{Header, NEEDS_CSUM, Offload},
    host::services::OwnServices,
};
use std::net::SocketAddr;

fn fields<'a>(numbers: (u32, u32), flags: u8, options: &'a [u8], payload: &'a [u8]) -> Segment<'a> {
    let (seq, ack) = numbers;
    Segment { ports: [0; 2], seq, ack, flags, window: 9000, options, payload, header_bytes: 0 }
}

/// Frames of every kind that the core and its services read, by what they are.
pub(super) fn samples() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let own = OWN_LINKS.into_iter().map(|(name, guest, peer, gateway)| (name, over_ip(guest, peer, gateway)));
    let mut all: Vec<_> = own.collect();
    all.extend([("arp", arp()), ("ndp", ndp()), ("fragments", fragments()), ("services", services())]);
    all
}

/// Name, guest, a peer, the gateway or whoever is there on a link.
const OWN_LINKS: [(&str, &str, &str, &str); 3] = [
    ("ipv4", "10.0.2.15", "192.0.2.1", "10.0.2.2"),
    ("ipv6", "fd00::15", "2001:db8::1", "fd00::2"),
    ("link-local", "fe80::15", "fe80::5055:aff:fe00:202", "ff02::2"),
];

fn arp() -> Vec<Vec<u8>> {
    let mut arp = vec![0xff; 6];
    arp.extend(GUEST_MAC);
    arp.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp.extend(GUEST_MAC);
    arp.extend([10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2]);
    vec![arp]
}

fn over_ip(guest: &str, peer: &str, gateway: &str) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let at = |ip: &str, port: u16| SocketAddr::new(ip.parse().unwrap(), port);
    let mut push = |(head, payload): (IpHead, Vec<u8>)| all.push(frame(&head, &payload));
    for to in [peer, gateway] {
        for port in [7, 53, 67, 547, 69, 999] {
            push(datagram(&at(guest, 5000).to_string(), &at(to, port).to_string(), &[3; 40]));
        }
        let options = [2, 4, 5, 0xb4, 1, 3, 3, 7, 1, 1, 4, 2];
        push(segment(at(guest, 4000), at(to, 80), &fields((1000, 0), 2, &options, &[])));
        push(segment(at(guest, 4000), at(to, 80), &fields((1001, 7), 16, &[], &[5; 600])));
        let sack = [1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2];
        push(segment(at(guest, 4000), at(to, 80), &fields((1001, 7), 17, &sack, &[])));
        let kind = if guest.contains(':') { 128 } else { 8 };
        push(echo(guest, to, kind, 7, 1, &[4; 30]));
    }
    all
}

fn ndp() -> Vec<Vec<u8>> {
    let one = |kind| {
        let (mut head, mut message) = echo("fe80::15", "ff02::1:ff00:2", kind, 0, 0, &[0; 32]);
        head.hops = 255;
        message[8..24].copy_from_slice(&Network::default().link_local.octets());
        frame(&head, &message)
    };
    [133, 134, 135, 136, 137].map(one).to_vec()
}

/// Extension headers, and fragments of both kinds.
fn fragments() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let (head, udp) = datagram("[fd00::15]:5000", "[2001:db8::1]:53", &[3; 40]);
    for (protocol, extension) in [
        (0, vec![17, 0, 1, 4, 0, 0, 0, 0]),
        (60, vec![43, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0]),
        (44, vec![17, 0, 0, 1, 0, 0, 0, 9]),
        (44, vec![17, 0, 0, 8, 0, 0, 0, 9]),
    ] {
        let mut payload = extension;
        payload.extend(&udp);
        all.push(frame(&IpHead { protocol, ..head }, &payload));
    }
    let (head, udp) = datagram("10.0.2.15:5000", "192.0.2.1:53", &[3; 40]);
    for parts in [0x2000, 3, 0x2006] {
        let mut fragment = frame(&head, &udp);
        head.write(&mut fragment[14..], udp.len(), 9, parts);
        all.push(fragment);
    }
    all
}

/// Questions that the network's own services answer.
fn services() -> Vec<Vec<u8>> {
    let mut dhcp4 = vec![0; 236];
    dhcp4[..8].copy_from_slice(&[1, 1, 6, 0, 9, 9, 9, 9]);
    dhcp4[28..34].copy_from_slice(&GUEST_MAC);
    dhcp4.extend(b"\x63\x82\x53\x63\x35\x01\x01\x37\x04\x01\x03\x06\x0f\xff");
    // Solicit, with a client identifier and an association.
    let mut dhcp6 = vec![1, 9, 9, 9, 0, 1, 0, 10, 0, 3, 0, 1];
    dhcp6.extend(GUEST_MAC);
    dhcp6.extend([0, 3, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    let dns = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x04host\x07reprise\0\0\x01\0\x01";
    // A file that is there, and one that is not.
    let there = b"\0\x01arp\0octet\0blksize\x001468\0tsize\x000\0";
    let not_there = b"\0\x01grub.efi\0octet\0";
    let talks: [(&str, &str, &[u8]); 6] = [
        ("0.0.0.0:68", "255.255.255.255:67", &dhcp4),
        ("[fe80::15]:546", "[ff02::1:2]:547", &dhcp6),
        ("10.0.2.15:5000", "10.0.2.3:53", dns),
        ("[fd00::15]:5000", "[fd00::3]:53", dns),
        ("10.0.2.15:5001", "10.0.2.2:69", there),
        ("[fd00::15]:5001", "[fd00::2]:69", not_there),
    ];
    let one = |(from, to, data)| {
        let (head, payload) = datagram(from, to, data);
        frame(&head, &payload)
    };
    talks.map(one).to_vec()
}

/// Damages a frame.
fn mutate(chance: &mut Chance, frame: &mut Vec<u8>, others: &[Vec<u8>]) {
    for _ in 0..chance.below(4) {
        let at = chance.below(frame.len() as u64) as usize;
        match chance.below(9) {
            0 => frame[at] ^= 1 << chance.below(8),
            1 => frame[at] = chance.next() as u8,
            2 => frame[at] = chance.pick(&[0, 1, 0x7f, 0x80, 0xff]),
            3 => frame.truncate(at.max(1)),
            4 => frame.extend((0..chance.below(100)).map(|i| i as u8)),
            5 => frame.insert(at, chance.next() as u8),
            6 => {
                let other = &others[chance.below(others.len() as u64) as usize];
                let from = chance.below(other.len() as u64) as usize;
                let count = (chance.below(20) as usize).min(other.len() - from).min(frame.len() - at);
                frame[at..at + count].copy_from_slice(&other[from..from + count]);
            }
            // Fields that decide: lengths, offsets, protocols.
            7 => {
                let at = chance.pick(&[12, 14, 16, 17, 18, 20, 21, 23, 38, 39, 46, 47, 48, 54, 57]);
                if let Some(byte) = frame.get_mut(at) {
                    *byte = chance.next() as u8;
                }
            }
            _ => {
                let end = (at + chance.below(300) as usize).min(frame.len());
                let piece = frame[at..end].to_vec();
                frame.extend(piece);
            }
        }
    }
}

/// Makes checksums hold that lie where they usually lie, so that the damage gets deeper.
pub(super) fn fix(frame: &mut [u8]) {
    let v6 = match frame.get(12..15) {
        Some([8, 0, first]) if first >> 4 == 4 => false,
        Some([0x86, 0xdd, _]) => true,
        _ => return,
    };
    let (ip, protocol) =
        if v6 { (40, frame.get(20)) } else { (usize::from(frame[14] & 15) * 4, frame.get(23)) };
    let Some(protocol) = protocol.copied() else { return };
    if frame.len() < 14 + ip || ip < 20 {
        return;
    }
    let word = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    let end = if v6 { 54 + word(18) } else { 14 + word(16) };
    if !v6 {
        frame[24..26].fill(0);
        let sum = Sum::default().add(&frame[14..14 + ip]).finished();
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    let offset = match protocol {
        6 => 16,
        17 => 6,
        1 | 58 => 2,
        _ => return,
    };
    if end > frame.len() || 14 + ip + offset + 2 > end {
        return;
    }
    let address = |at: usize| -> std::net::IpAddr {
        match v6 {
            true => <[u8; 16]>::try_from(&frame[at..at + 16]).unwrap().into(),
            false => <[u8; 4]>::try_from(&frame[at..at + 4]).unwrap().into(),
        }
    };
    let pseudo = match protocol {
        1 => Sum::default(),
        _ if v6 => Sum::pseudo(address(22), address(38), protocol, end - 14 - ip),
        _ => Sum::pseudo(address(26), address(30), protocol, end - 14 - ip),
    };
    let transport = &mut frame[14 + ip..end];
    transport[offset..offset + 2].fill(0);
    let sum = pseudo.add(transport).finished();
    transport[offset..offset + 2].copy_from_slice(&sum.to_be_bytes());
}

fn header(chance: &mut Chance, frame: &[u8]) -> Header {
    if chance.percent(80) {
        return Header::default();
    }
    Header {
        flags: chance.pick(&[0, NEEDS_CSUM, NEEDS_CSUM, 2, 0xff]),
        gso_type: chance.pick(&[0, 1, 3, 4, 5, 0x81, 0x55]),
        hdr_len: chance.next() as u16,
        gso_size: chance.pick(&[0, 1, 100, 1460, 65_535]),
        csum_start: chance.pick(&[0, 14, 34, 54, frame.len() as u16, 65_535]),
        csum_offset: chance.pick(&[0, 6, 16, 65_535]),
        num_buffers: chance.next() as u16,
    }
}

/// Something happens on the host's side.
fn disturb(chance: &mut Chance, bench: &mut Bench) {
    let ids: Vec<FlowId> = bench.host.open.keys().copied().collect();
    if ids.is_empty() {
        return;
    }
    let id = ids[chance.below(ids.len() as u64) as usize];
    let sock = bench.host.sock(id);
    let from: SocketAddr = chance.pick(&["192.0.2.1:53", "[2001:db8::1]:53", "127.0.0.1:9"]).parse().unwrap();
    match chance.below(8) {
        0 => sock.inbox.extend(vec![9; chance.below(5000) as usize]),
        1 => sock.peer_ended = true,
        2 if id.kind() == Kind::Tcp => sock.broken = true,
        3 => sock.room = chance.below(3000) as usize,
        4 => {
            let bytes = chance.below(9000) as usize;
            // Some are trains.
            let piece = if bytes % 4 == 3 { bytes / (bytes % 60 + 1) + 1 } else { bytes };
            sock.datagrams.push_back((from, piece, vec![8; bytes]));
        }
        5 => sock.replies.push_back((from.ip(), 3, vec![8; chance.below(3000) as usize])),
        6 => {
            let icmp_type = chance.pick(&[1, 2, 3, 4, 11, 77]);
            let payload = vec![1; chance.below(2000) as usize];
            let (code, info) = (chance.next() as u8, chance.next() as u32);
            let error = crate::IcmpError { from: from.ip(), icmp_type, code, info, to: from, payload };
            return bench.event(HostEvent::Icmp(id, error));
        }
        _ => {}
    }
    let connecting = bench.core.tcp_info().iter().any(|info| info.state == "CONNECTING");
    match chance.below(4) {
        0 if connecting && id.kind() == Kind::Tcp => bench.event(HostEvent::Connected(id)),
        1 => bench.event(HostEvent::Writable(id)),
        _ => bench.event(HostEvent::Readable(id)),
    }
}

/// The world of a guest: its network, and what happens on the host's side while it sends these messages. The same
/// number and messages are the same run.
pub(super) fn play(world: u64, messages: &[Vec<u8>]) -> Bench {
    let mut chance = Chance::new(world);
    let mut setup = setup();
    setup.network.mtu = chance.pick(&[1280, 1500]);
    setup.limits.udp_maps = 8;
    if chance.percent(50) {
        let mut config = Config::default();
        config.boot.tftp = Some(corpus::folder());
        setup.services = Box::new(OwnServices::new(&config).unwrap());
    }
    let mut bench = Bench::with(setup);
    bench.wire.any_mac = true;
    let csum = chance.percent(50);
    bench.offload(Offload { csum, tso4: csum, tso6: csum, uso4: csum, uso6: csum });
    for message in messages {
        bench.message(message);
        if chance.percent(30) {
            disturb(&mut chance, &mut bench);
        }
        if chance.percent(50) {
            bench.core.poll(bench.now, &mut bench.host, &mut bench.wire);
            bench.now += chance.pick(&[1000, 1_000_000, 2_000_000_000]);
        }
        bench.wire.frames.clear();
    }
    assert_eq!(bench.dropped(DropReason::Panicked), 0, "a flow has panicked");
    assert!(bench.host.open.len() <= 1024 + 8 + 256);
    bench
}

/// What a hostile guest sends.
fn messages(seed: u64, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut chance = Chance::new(!seed);
    let one = |_| {
        let mut frame = frames[chance.below(frames.len() as u64) as usize].clone();
        mutate(&mut chance, &mut frame, frames);
        if chance.percent(85) {
            fix(&mut frame);
        }
        let mut message = header(&mut chance, &frame).encode().to_vec();
        message.extend(frame);
        if chance.percent(1) {
            message.truncate(chance.below(30) as usize);
        }
        message
    };
    (0..100).map(one).collect()
}

/// The messages of one hostile guest.
pub(super) fn singles(seed: u64) -> Vec<Vec<u8>> {
    let frames: Vec<_> = samples().into_iter().flat_map(|(_, frames)| frames).collect();
    messages(seed, &frames)
}

#[test]
fn no_frame_does_harm() {
    for seed in 0..rounds(600) {
        corpus::tried(Case { world: seed, messages: singles(seed) });
    }
}

/// One connection of a guest that obeys nothing: its steps follow from a seed, and from what is answered.
struct Liar<'a> {
    chance: Chance,
    player: Player,
    isn: u32,
    next: u32,
    /// What it has done.
    steps: &'a mut Vec<Step>,
}

fn world(chance: &mut Chance) -> World {
    let csum = chance.percent(70);
    World {
        mtu: chance.pick(&[1280, 1500, 9000]),
        csum,
        tso4: csum && chance.percent(70),
        chunk: chance.pick(&[0, 100, 5000]),
        v6: chance.percent(30),
        called: chance.percent(40),
        isn: chance.next() as u32,
    }
}

impl<'a> Liar<'a> {
    fn begin(chance: Chance, world: &World, steps: &'a mut Vec<Step>) -> Self {
        let (player, isn) = (Player::new(world), world.isn);
        let mut liar = Self { chance, player, isn, next: isn.wrapping_add(1), steps };
        liar.player.bench.poll();
        liar.player.look();
        let (ack, flags) = if world.called { (liar.player.sent, 0x12) } else { (0, 2) };
        liar.send(isn, ack, flags, 0);
        liar.act(Step::Poll);
        liar.act(Step::Wait(0));
        liar
    }

    fn act(&mut self, step: Step) {
        self.steps.push(step);
        self.player.step(&self.steps[self.steps.len() - 1]);
    }

    fn send(&mut self, seq: u32, ack: u32, flags: u8, bytes: usize) {
        let chance = &mut self.chance;
        let mut options = Vec::new();
        if flags & 2 != 0 {
            let mss = if chance.percent(70) { 1460u16 } else { chance.next() as u16 };
            options.extend([2, 4]);
            options.extend(mss.to_be_bytes());
            if chance.percent(80) {
                options.extend([1, 3, 3, chance.below(20) as u8]);
            }
            if chance.percent(60) {
                options.extend([1, 1, 4, 2]);
            }
        } else if chance.percent(10) {
            options.extend((0..chance.below(40)).map(|_| chance.next() as u8));
        }
        let window = match chance.below(4) {
            0 => 0,
            1 => chance.next() as u16,
            2 => 1,
            _ => 65_535,
        };
        let (seq, ack) = (seq.wrapping_sub(self.isn), ack.wrapping_sub(self.player.iss()));
        self.act(Step::Send { seq, ack, flags, window, bytes, options });
    }

    fn lie(&mut self) {
        let (chance, sent, edge) = (&mut self.chance, self.player.sent, self.player.edge);
        let bytes = match chance.percent(30) {
            true => 0,
            false => chance.pick(&[0, 1, 100, 1460, 9000, 40_000, 65_000]),
        };
        let seq = match chance.below(6) {
            0..3 => self.next,
            3 => self.next.wrapping_add(chance.below(2_000_000) as u32),
            4 => self.next.wrapping_sub(chance.below(70_000) as u32),
            _ if chance.percent(50) => chance.next() as u32,
            _ => edge.wrapping_sub(chance.below(3) as u32).wrapping_add(1),
        };
        let ack = match chance.below(5) {
            0..3 => sent,
            3 => sent.wrapping_sub(chance.below(100_000) as u32),
            _ => chance.next() as u32,
        };
        let flags = match chance.below(40) {
            0 => 0x11,
            1 => 0x01,
            2 if chance.percent(20) => 0x14,
            3 => 0x18,
            4 if chance.percent(10) => chance.next() as u8,
            5 if chance.percent(20) => 0x02,
            6 => 0x12,
            _ => 0x10,
        };
        if seq == self.next && flags & 2 == 0 {
            self.next = self.next.wrapping_add(bytes as u32);
        }
        self.send(seq, ack, flags, bytes);
    }

    fn host_turn(&mut self) {
        let chance = &mut self.chance;
        let step = match chance.below(8) {
            0 | 1 => Step::Arrive(chance.below(100_000) as u32),
            2 => Step::Room(0),
            3 => Step::Room(chance.below(200_000) as usize),
            4 if chance.percent(5) => Step::PeerEnds,
            5 if chance.percent(2) => Step::Breaks,
            _ => Step::Room(usize::MAX),
        };
        self.act(step);
        self.act(Step::Ready);
    }

    fn run(&mut self) {
        for _ in 0..self.chance.below(60) + 5 {
            for _ in 0..self.chance.below(5) + 1 {
                self.lie();
            }
            self.host_turn();
            for _ in 0..self.chance.below(4) {
                self.act(Step::Poll);
            }
            let ns = self.chance.pick(&[0, 1000, 2_000_000, 20_000_000, 1_500_000_000, 70_000_000_000]);
            self.act(Step::Wait(ns));
        }
    }
}

/// What the liar of a seed does, and where.
pub(super) fn liars_steps(seed: u64) -> (World, Vec<Step>) {
    let (mut chance, mut steps) = (Chance::new(seed), Vec::new());
    let world = world(&mut chance);
    Liar::begin(chance, &world, &mut steps).run();
    (world, steps)
}

#[test]
fn no_segment_does_harm() {
    for seed in 0..rounds(400) {
        let mut chance = Chance::new(seed);
        let world = world(&mut chance);
        sequence::tried(seed, &world, |steps| Liar::begin(chance, &world, steps).run());
    }
}
