//! A real TCP in the guest (smoltcp's own, in another role) against a host that does its worst: refuses, stalls, takes
//! a byte at a time, ends, resets. What arrives must be what was sent, and nothing may be left behind.

use super::{
    card::Card,
    harness::{Bench, Chance, rounds, setup},
    parse::GUEST_MAC,
};
use crate::{Failure, FlowId, HostEvent, Network, core::checksum::Sum, frame::Offload};
use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    socket::tcp,
    time::Instant,
    wire::{HardwareAddress, IpCidr},
};
use std::net::{IpAddr, SocketAddr};

/// One connection, from the guest's view and the test's.
struct Line {
    socket: SocketHandle,
    guest: SocketAddr,
    /// Of the host's peer: found when the core connects.
    id: Option<FlowId>,
    number: usize,
    /// Bytes that each side wants to send, has sent, and has got.
    guest_sends: usize,
    guest_sent: usize,
    guest_got: usize,
    guest_ended: bool,
    peer_sends: usize,
    peer_sent: usize,
    peer_ends: bool,
    inbound: bool,
    broken: bool,
}

fn byte(number: usize, direction: usize, at: usize) -> u8 {
    (at.wrapping_mul(31) ^ (at >> 8) ^ (at >> 16)).wrapping_add(number * 7 + direction * 101) as u8
}

struct World {
    bench: Bench,
    chance: Chance,
    card: Card,
    iface: Interface,
    sockets: SocketSet<'static>,
    lines: Vec<Line>,
    v6: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let mut setup = setup();
        setup.network.mtu = chance.pick(&[576, 1280, 1500, 9000]);
        let v6 = setup.network.mtu >= 1280 && chance.percent(40);
        let mtu = usize::from(setup.network.mtu);
        if chance.percent(10) {
            setup.limits.buffer_bytes = 100_000;
        }
        let mut bench = Bench::with(setup);
        let csum = chance.percent(60);
        let tso = csum && chance.percent(60);
        bench.offload(Offload { csum, tso4: tso, tso6: tso, ..Offload::default() });
        bench.wire.room = chance.pick(&[70_000, 200_000, 1 << 20]);
        bench.host.chunk = chance.pick(&[0, 0, 1000, 7]);
        let mut card = Card::new(mtu, tso, csum);
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = chance.next();
        let mut iface = Interface::new(config, &mut card, Instant::ZERO);
        let (own, gateway): (IpAddr, IpAddr) = match v6 {
            true => ("fd00::15".parse().unwrap(), "fd00::2".parse().unwrap()),
            false => ("10.0.2.15".parse().unwrap(), "10.0.2.2".parse().unwrap()),
        };
        iface.update_ip_addrs(|all| all.push(IpCidr::new(own.into(), if v6 { 64 } else { 24 })).unwrap());
        match gateway {
            IpAddr::V4(gateway) => iface.routes_mut().add_default_ipv4_route(gateway).unwrap(),
            IpAddr::V6(gateway) => iface.routes_mut().add_default_ipv6_route(gateway).unwrap(),
        };
        let sockets = SocketSet::new(vec![]);
        Self { bench, chance, card, iface, sockets, lines: Vec::new(), v6 }
    }

    fn instant(&self) -> Instant {
        Instant::from_micros(self.bench.now as i64 / 1000)
    }

    fn guest_socket(&mut self) -> tcp::Socket<'static> {
        let size = self.chance.pick(&[2048, 16_384, 65_536, 300_000]);
        let buffer = || tcp::SocketBuffer::new(vec![0; size]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        if self.chance.percent(50) {
            socket.set_ack_delay(None);
        }
        socket
    }

    fn open(&mut self) {
        let number = self.lines.len();
        let inbound = self.chance.percent(30);
        let ip: IpAddr = if self.v6 { "fd00::15".parse() } else { "10.0.2.15".parse() }.unwrap();
        let guest = SocketAddr::new(ip, 40_000 + number as u16);
        let mut socket = self.guest_socket();
        let mut id = None;
        if inbound {
            socket.listen(guest.port()).unwrap();
            let peer =
                SocketAddr::new(if self.v6 { "2001:db8::9" } else { "192.0.2.9" }.parse().unwrap(), 5000);
            let mut peer = peer;
            peer.set_port(5000 + number as u16);
            id = self.bench.core.accept(self.bench.now, peer, guest);
            let sock = super::harness::Sock { room: usize::MAX, ..Default::default() };
            self.bench.host.open.insert(id.unwrap(), sock);
        } else {
            let to: IpAddr = if self.v6 { "2001:db8::1" } else { "192.0.2.1" }.parse().unwrap();
            socket.connect(self.iface.context(), (to, 80), guest.port()).unwrap();
        }
        let socket = self.sockets.add(socket);
        let amount = |chance: &mut Chance| {
            let most = chance.pick(&[0, 1, 3000, 100_000, 400_000]);
            chance.below(most + 1) as usize
        };
        let (guest_sends, peer_sends) = (amount(&mut self.chance), amount(&mut self.chance));
        self.lines.push(Line {
            socket,
            guest,
            id,
            number,
            guest_sends,
            guest_sent: 0,
            guest_got: 0,
            guest_ended: false,
            peer_sends,
            peer_sent: 0,
            peer_ends: false,
            inbound,
            broken: false,
        });
    }

    /// Lets the guest's TCP have its frames, and the core the guest's.
    fn exchange(&mut self) {
        let most = self.chance.below(40) as usize;
        for _ in 0..most {
            let Some((_, frame)) = self.bench.wire.frames.pop_front() else { break };
            let packet = match &frame[12..14] {
                [8, 6] => {
                    self.answer_arp();
                    continue;
                }
                [8, 0] => frame[14..14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]))].to_vec(),
                _ if frame[20] == 58 => {
                    self.answer_ndp(&frame);
                    continue;
                }
                _ => frame[14..54 + usize::from(u16::from_be_bytes([frame[18], frame[19]]))].to_vec(),
            };
            self.card.ingress.push_back(packet);
        }
        let now = self.instant();
        while !self.card.ingress.is_empty() {
            self.iface.poll_ingress_single(now, &mut self.card, &mut self.sockets);
        }
        for _ in 0..self.chance.below(30) + 1 {
            self.iface.poll_egress(now, &mut self.card, &mut self.sockets);
        }
        for packet in std::mem::take(&mut self.card.egress) {
            let message = self.card.message(packet);
            self.bench.message(&message);
        }
    }

    fn answer_arp(&mut self) {
        let mut frame = vec![0xff; 6];
        frame.extend(GUEST_MAC);
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
        frame.extend(GUEST_MAC);
        frame.extend([10, 0, 2, 15]);
        frame.extend(Network::default().mac);
        frame.extend([10, 0, 2, 2]);
        self.bench.frame(&frame);
    }

    fn answer_ndp(&mut self, asked: &[u8]) {
        if asked[54] != 135 {
            // An error about its SYN: the guest's stack does not care.
            return;
        }
        let mut message = vec![136, 0, 0, 0, 0x60, 0, 0, 0];
        message.extend(&asked[62..78]);
        message.extend([2, 1]);
        message.extend(GUEST_MAC);
        let head = super::IpHead {
            source: <[u8; 16]>::try_from(&asked[62..78]).unwrap().into(),
            destination: "fe80::5055:aff:fe00:202".parse().unwrap(),
            protocol: 58,
            hops: 255,
        };
        let sum = Sum::pseudo(head.source, head.destination, 58, message.len()).add(&message).finished();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        self.bench.packet(&head, &message);
    }

    /// One step of one line's guest side.
    fn guest_turn(&mut self, line: usize) {
        let budget = self.chance.below(50_000) as usize;
        let line = &mut self.lines[line];
        let socket = self.sockets.get_mut::<tcp::Socket<'static>>(line.socket);
        let mut taken = 0;
        while socket.can_recv() && taken < budget {
            taken += socket
                .recv(|bytes| {
                    let count = bytes.len().min(budget);
                    for (i, got) in bytes[..count].iter().enumerate() {
                        assert_eq!(
                            *got,
                            byte(line.number, 1, line.guest_got + i),
                            "byte {}",
                            line.guest_got + i
                        );
                    }
                    line.guest_got += count;
                    (count, count)
                })
                .unwrap();
        }
        assert!(line.guest_got <= line.peer_sent, "more than was sent");
        if socket.can_send() && line.guest_sent < line.guest_sends {
            let count = budget.min(line.guest_sends - line.guest_sent);
            let bytes: Vec<u8> = (0..count).map(|i| byte(line.number, 0, line.guest_sent + i)).collect();
            line.guest_sent += socket.send_slice(&bytes).unwrap();
        }
        if line.guest_sent == line.guest_sends && socket.may_send() && !line.guest_ended {
            line.guest_ended = true;
            socket.close();
        }
    }

    /// One step of one line's host side.
    fn host_turn(&mut self, at: usize, hostile: bool) {
        let line = &mut self.lines[at];
        if line.id.is_none() {
            let found = self.bench.core.tcp_info().iter().any(|info| info.guest == line.guest);
            if !found {
                return;
            }
            let used: Vec<FlowId> = self.lines.iter().filter_map(|line| line.id).collect();
            let Some(id) = self.bench.host.open.keys().copied().find(|id| !used.contains(id)) else { return };
            self.lines[at].id = Some(id);
            if hostile && self.chance.percent(10) {
                self.bench.host.open.remove(&id);
                self.lines[at].broken = true;
                let why = self.chance.pick(&[Failure::Refused, Failure::HostUnreachable, Failure::TimedOut]);
                return self.bench.event(HostEvent::Failed(id, why));
            }
            return self.bench.event(HostEvent::Connected(id));
        }
        let Some(id) = line.id else { return };
        let Some(sock) = self.bench.host.open.get_mut(&id) else { return };
        let most = self.chance.pick(&[0, 100, 20_000, 100_000]);
        let count = (self.chance.below(most + 1) as usize).min(line.peer_sends - line.peer_sent);
        sock.inbox.extend((0..count).map(|i| byte(line.number, 1, line.peer_sent + i)));
        line.peer_sent += count;
        if line.peer_sent == line.peer_sends && !line.peer_ends && self.chance.percent(30) {
            (line.peer_ends, sock.peer_ended) = (true, true);
        }
        if hostile && self.chance.percent(1) {
            (sock.broken, line.broken) = (true, true);
        }
        sock.room = if self.chance.percent(20) { 0 } else { self.chance.below(100_000) as usize };
        self.bench.event(HostEvent::Readable(id));
        self.bench.event(HostEvent::Writable(id));
    }

    fn step(&mut self, hostile: bool) {
        self.exchange();
        for line in 0..self.lines.len() {
            self.guest_turn(line);
            self.host_turn(line, hostile);
        }
        self.bench.core.poll(self.bench.now, &mut self.bench.host, &mut self.bench.wire);
        self.bench.now += self.chance.pick(&[1000, 50_000, 1_000_000, 40_000_000]);
    }

    fn check_got(&self) {
        let ended = self.bench.host.closed.iter().map(|(id, _, sock)| (*id, sock));
        for (id, sock) in self.bench.host.open.iter().map(|(id, sock)| (*id, sock)).chain(ended) {
            let Some(line) = self.lines.iter().find(|line| line.id == Some(id)) else { continue };
            assert!(sock.got.len() <= line.guest_sent);
            for (i, got) in sock.got.iter().enumerate() {
                assert_eq!(*got, byte(line.number, 0, i), "byte {i} of line {}", line.number);
            }
        }
    }

    /// Whether everything that was to be sent has arrived on both sides.
    fn done(&self) -> bool {
        self.lines.iter().all(|line| {
            let closed = self.bench.host.closed.iter().find(|(id, _, _)| Some(*id) == line.id);
            line.broken || closed.is_some() && line.guest_got == line.peer_sends
        })
    }
}

fn run(seed: u64) -> u64 {
    let mut world = World::new(seed);
    let hostile = world.chance.percent(50);
    let tight = world.chance.percent(10);
    for _ in 0..world.chance.below(6) + 1 {
        world.open();
    }
    for step in 0..20_000 {
        world.step(hostile);
        if world.done() {
            break;
        }
        let limit_hit = world.bench.dropped(crate::DropReason::Limit) > 0;
        if limit_hit {
            break;
        }
        assert!(step < 19_999 || hostile, "seed {seed}: nothing moves: {:#?}", world.bench.core.tcp_info());
    }
    let _ = tight;
    world.check_got();
    let limit_hit = world.bench.dropped(crate::DropReason::Limit) > 0;
    if !hostile && !limit_hit {
        for (id, reset, sock) in &world.bench.host.closed {
            let line = world.lines.iter().find(|line| line.id == Some(*id)).unwrap();
            assert!(!reset, "seed {seed}: line {} was reset", line.number);
            assert_eq!((sock.got.len(), sock.shutdown), (line.guest_sends, true), "inbound {}", line.inbound);
        }
        assert!(world.bench.host.open.is_empty(), "seed {seed}");
        assert!(world.bench.core.tcp_info().is_empty(), "seed {seed}");
    }
    assert_eq!(world.bench.dropped(crate::DropReason::Panicked), 0, "seed {seed}");
    // The guest is gone: nothing may stay for ever.
    world.bench.wire.room = usize::MAX;
    let ids: Vec<FlowId> = world.bench.host.open.keys().copied().collect();
    for id in ids {
        world.bench.host.sock(id).broken = true;
        world.bench.event(HostEvent::Readable(id));
    }
    world.bench.pass(700_000_000_000);
    world.bench.wire.digest
}

#[test]
fn bytes_arrive_as_they_were_sent() {
    for seed in 0..rounds(200) {
        let first = run(seed);
        if seed % 16 == 0 {
            assert_eq!(first, run(seed), "seed {seed} is not deterministic");
        }
    }
}
