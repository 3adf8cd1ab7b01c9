//! Datagrams: mappings, filters, fragments, errors, forwards.

use super::harness::{Bench, Chance, datagram, setup};
use crate::{
    DropReason, Failure, FlowId, HostEvent, IcmpError, Kind, Unsent,
    core::packet::IpHead,
    frame::{GSO_UDP_L4, Header, NEEDS_CSUM, Offload},
};
use std::net::SocketAddr;

/// The UDP datagram in a frame: (from, to, data).
pub(super) fn parts(frame: &[u8]) -> (String, String, Vec<u8>) {
    let packet = etherparse::SlicedPacket::from_ethernet(frame).unwrap();
    let Some(etherparse::TransportSlice::Udp(udp)) = packet.transport else { panic!("{frame:02x?}") };
    let (from, to): (std::net::IpAddr, std::net::IpAddr) = match packet.net.unwrap() {
        etherparse::NetSlice::Ipv4(ip) => {
            (ip.header().source_addr().into(), ip.header().destination_addr().into())
        }
        etherparse::NetSlice::Ipv6(ip) => {
            (ip.header().source_addr().into(), ip.header().destination_addr().into())
        }
        other => panic!("{other:?}"),
    };
    let from = SocketAddr::new(from, udp.source_port()).to_string();
    (from, SocketAddr::new(to, udp.destination_port()).to_string(), udp.payload().to_vec())
}

pub(super) fn arrives(bench: &mut Bench, id: FlowId, from: &str, data: &[u8]) {
    bench.host.sock(id).arrives(from, data.to_vec());
    bench.event(HostEvent::Readable(id));
    bench.poll();
}

#[test]
fn a_port_has_one_socket_for_everybody() {
    for (guest, first, second, stranger) in [
        ("10.0.2.15:5000", "192.0.2.1:53", "198.51.100.9:123", "203.0.113.5:53"),
        ("[fd00::15]:5000", "[2001:db8::1]:53", "[2001:db8::2]:123", "[2001:db8::3]:53"),
    ] {
        let mut bench = Bench::new();
        bench.udp(guest, first, b"one");
        bench.udp(guest, second, b"two");
        let id = bench.host.only();
        let sent = &bench.host.sock(id).sent_datagrams;
        assert_eq!(sent[0], (first.parse().unwrap(), 63, b"one".to_vec()));
        assert_eq!(sent[1], (second.parse().unwrap(), 63, b"two".to_vec()));
        arrives(&mut bench, id, first, b"answer");
        assert_eq!(parts(&bench.next_frame().unwrap()), (first.into(), guest.into(), b"answer".to_vec()));
        // Another port of somebody known may answer (TFTP does); a stranger may not.
        let mut other: SocketAddr = second.parse().unwrap();
        other.set_port(999);
        arrives(&mut bench, id, &other.to_string(), b"");
        assert_eq!(parts(&bench.next_frame().unwrap()), (other.to_string(), guest.into(), vec![]));
        arrives(&mut bench, id, stranger, b"let me in");
        assert_eq!((bench.next_frame(), bench.dropped(DropReason::Unsolicited)), (None, 1));
    }
}

#[test]
fn the_gateway_is_the_hosts_own_address() {
    let mut bench = Bench::new();
    bench.udp("10.0.2.15:5000", "10.0.2.2:53", b"x");
    let id = bench.host.only();
    assert_eq!(bench.host.sock(id).sent_datagrams[0].0.to_string(), "127.0.0.1:53");
    arrives(&mut bench, id, "127.0.0.1:53", b"y");
    assert_eq!(parts(&bench.next_frame().unwrap()).0, "10.0.2.2:53");
}

#[test]
fn own_services_answer_for_themselves() {
    let mut bench = Bench::new();
    bench.udp("10.0.2.15:5000", "10.0.2.2:7", b"ping");
    assert_eq!(
        parts(&bench.next_frame().unwrap()),
        ("10.0.2.2:7".into(), "10.0.2.15:5000".into(), b"ping".to_vec())
    );
    // No service: the name server has no other ports.
    bench.udp("10.0.2.15:5000", "10.0.2.3:99", b"ping");
    let frame = bench.next_frame().unwrap();
    assert_eq!((frame[23], frame[34], frame[35]), (1, 3, 3));
    for to in ["10.0.2.255:137", "255.255.255.255:68", "224.0.0.251:5353", "10.0.2.77:53"] {
        bench.udp("10.0.2.15:5000", to, b"x");
    }
    bench.udp("[fe80::15]:5353", "[ff02::fb]:5353", b"x");
    assert_eq!(
        (bench.next_frame(), bench.host.open.len(), bench.dropped(DropReason::Multicast)),
        (None, 0, 5)
    );
}

#[test]
fn the_policy_is_asked_for_each_datagram() {
    let mut bench = Bench::new();
    bench.udp("10.0.2.15:5000", "192.0.2.1:53", b"x");
    let id = bench.host.only();
    bench.udp("10.0.2.15:5000", "192.0.2.1:1", b"x");
    let frame = bench.next_frame().expect("told");
    assert_eq!((frame[34], frame[35], &frame[44..46]), (3, 13, &[0, 29][..]));
    bench.udp("10.0.2.15:5000", "192.0.2.1:2", b"x");
    assert_eq!((bench.next_frame(), bench.dropped(DropReason::Policy)), (None, 2));
    assert_eq!(bench.host.sock(id).sent_datagrams.len(), 1);
}

#[test]
fn long_datagrams_come_in_fragments_and_leave_whole() {
    for (guest, peer, mtu) in [
        ("10.0.2.15:5000", "192.0.2.1:53", 1500),
        ("10.0.2.15:5000", "192.0.2.1:53", 576),
        ("[fd00::15]:5000", "[2001:db8::1]:53", 1280),
    ] {
        let mut setup = setup();
        setup.network.mtu = mtu;
        let mut bench = Bench::with(setup);
        let mut chance = Chance::new(3);
        for bytes in [1, 1464, 1472, 1473, 9000, 65_507] {
            let data: Vec<u8> = (0..bytes).map(|_| chance.next() as u8).collect();
            let (head, whole) = datagram(guest, peer, &data);
            // The guest's fragments, last first.
            let mut pieces: Vec<_> = whole.chunks(1000).enumerate().collect();
            pieces.reverse();
            let last = whole.len().div_ceil(1000) - 1;
            for (number, piece) in pieces {
                let more = u16::from(number < last);
                let head_bytes = head.bytes();
                let mut frame =
                    super::harness::frame(&head, &vec![0; piece.len() + (head_bytes - 20) / 20 * 8]);
                let at = (number * 1000) as u16;
                if head_bytes == 20 {
                    head.write(&mut frame[14..], piece.len(), bytes as u16, (at / 8) | (more << 13));
                    frame[34..].copy_from_slice(piece);
                } else {
                    IpHead { protocol: 44, ..head }.write(&mut frame[14..], piece.len() + 8, 0, 0);
                    frame[54..58].copy_from_slice(&[17, 0, (at >> 8) as u8, at as u8 | more as u8]);
                    frame[58..62].copy_from_slice(&(bytes as u32).to_be_bytes());
                    frame[62..].copy_from_slice(piece);
                }
                bench.frame(&frame);
            }
            let id = bench.host.only();
            assert!(
                bench.host.sock(id).sent_datagrams.pop().unwrap().2 == data,
                "{bytes} bytes from {guest}"
            );
            arrives(&mut bench, id, peer, &data);
            assert!(reassembled(&mut bench) == whole_of(peer, guest, &data), "{bytes} bytes to {guest}");
        }
    }
}

fn whole_of(from: &str, to: &str, data: &[u8]) -> Vec<u8> {
    datagram(from, to, data).1
}

/// The transport of the packet whose fragments wait on the wire.
fn reassembled(bench: &mut Bench) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(frame) = bench.next_frame() {
        if frame[12] == 8 {
            let parts = u16::from_be_bytes([frame[20], frame[21]]);
            assert_eq!(usize::from(parts & 0x1fff) * 8, whole.len());
            let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
            whole.extend(&frame[34..14 + total]);
            assert_eq!(parts & 0x2000 == 0, bench.wire.frames.is_empty());
        } else if frame[20] == 44 {
            let parts = u16::from_be_bytes([frame[56], frame[57]]);
            assert_eq!(usize::from(parts & 0xfff8), whole.len());
            whole.extend(&frame[62..54 + usize::from(u16::from_be_bytes([frame[18], frame[19]]))]);
            assert_eq!(parts & 1 == 0, bench.wire.frames.is_empty());
        } else {
            whole.extend(&frame[54..54 + usize::from(u16::from_be_bytes([frame[18], frame[19]]))]);
        }
    }
    whole
}

#[test]
fn a_train_of_datagrams_is_taken_apart() {
    let mut bench = Bench::new();
    let data: Vec<u8> = (0..2500u32).map(|i| i as u8).collect();
    let (head, mut udp) = datagram("10.0.2.15:5000", "192.0.2.1:443", &data);
    udp[6..8].copy_from_slice(&[0xde, 0xad]);
    let mut header = Header {
        flags: NEEDS_CSUM,
        gso_type: GSO_UDP_L4,
        gso_size: 1000,
        csum_start: 34,
        csum_offset: 6,
        ..Header::default()
    };
    let mut message = header.encode().to_vec();
    message.extend(super::harness::frame(&head, &udp));
    bench.message(&message);
    let id = bench.host.only();
    let sizes: Vec<_> = bench.host.sock(id).sent_datagrams.iter().map(|(_, _, data)| data.len()).collect();
    assert_eq!(sizes, [1000, 1000, 500]);
    for kind in [1, 3, 4, 9] {
        header.gso_type = kind;
        message[..12].copy_from_slice(&header.encode());
        bench.message(&message);
    }
    assert_eq!(bench.dropped(DropReason::BadOffload), 4);
    // No more at a time than Linux makes: each is a call of the host's.
    for (piece, sent) in [(19, 3), (20, 3 + 125)] {
        (header.gso_type, header.gso_size) = (GSO_UDP_L4, piece);
        message[..12].copy_from_slice(&header.encode());
        bench.message(&message);
        assert_eq!(bench.host.sock(id).sent_datagrams.len(), sent, "pieces of {piece}");
    }
    assert_eq!(bench.dropped(DropReason::BadOffload), 5);
}

#[test]
fn hops_run_out_here_or_on_the_way() {
    for (guest, peer, exceeded, quoted) in [
        ("10.0.2.15:5000", "192.0.2.1:33434", [11, 0], 34 + 8),
        ("[fd00::15]:5000", "[2001:db8::1]:33434", [3, 0], 54 + 8),
    ] {
        let mut bench = Bench::new();
        let (mut head, udp) = datagram(guest, peer, b"trace");
        head.hops = 1;
        bench.packet(&head, &udp);
        let frame = bench.next_frame().expect("the gateway is the first hop");
        assert_eq!(frame[quoted - 8..quoted - 6], exceeded);
        assert!(bench.host.open.is_empty());
        head.hops = 2;
        bench.packet(&head, &udp);
        let id = bench.host.only();
        assert_eq!(bench.host.sock(id).sent_datagrams[0].1, 1);
        let router = if head.source.is_ipv4() { "203.0.113.1" } else { "2001:db8:1::1" };
        let error = IcmpError {
            from: router.parse().unwrap(),
            icmp_type: exceeded[0],
            code: 0,
            info: 0,
            to: peer.parse().unwrap(),
            payload: b"trace".to_vec(),
        };
        bench.event(HostEvent::Icmp(id, error));
        let frame = bench.next_frame().expect("the second hop");
        let source = quoted - 8 - head.bytes() + if head.source.is_ipv4() { 12 } else { 8 };
        let router: std::net::IpAddr = router.parse().unwrap();
        match router {
            std::net::IpAddr::V4(router) => assert_eq!(frame[source..source + 4], router.octets()),
            std::net::IpAddr::V6(router) => assert_eq!(frame[source..source + 16], router.octets()),
        }
        // The quoted datagram is the guest's own: its ports.
        assert_eq!(frame[quoted + head.bytes()..][..4], [0x13, 0x88, 0x82, 0x9a]);
    }
}

#[test]
fn an_error_in_the_other_familys_numbers_is_not_told() {
    let mut bench = Bench::new();
    // To the host, such a destination is one of IPv4.
    bench.udp("[fd00::15]:5000", "[2001:db8::1]:53", b"x");
    let id = bench.host.only();
    let error = |to: &str| IcmpError {
        from: "203.0.113.1".parse().unwrap(),
        icmp_type: 3,
        code: 1,
        info: 0,
        to: to.parse().unwrap(),
        payload: vec![],
    };
    bench.event(HostEvent::Icmp(id, error("192.0.2.1:53")));
    assert_eq!(bench.next_frame(), None, "a host unreachable, which would be \"time exceeded\" in IPv6");
    bench.event(HostEvent::Icmp(id, error("[2001:db8::1]:53")));
    assert!(bench.next_frame().is_some());
}

#[test]
fn what_the_host_refuses_is_told() {
    for (failure, numbers) in [
        (Failure::NetUnreachable, Some([3, 0])),
        (Failure::HostUnreachable, Some([3, 1])),
        (Failure::Refused, Some([3, 3])),
        (Failure::Forbidden, Some([3, 13])),
        (Failure::TooBig(1400), Some([3, 4])),
        (Failure::Exhausted, None),
    ] {
        let mut bench = Bench::new();
        bench.udp("10.0.2.15:5000", "192.0.2.1:53", b"x");
        bench.host.refuse = Some(failure);
        bench.udp("10.0.2.15:5000", "192.0.2.1:53", b"x");
        let frame = bench.next_frame();
        assert_eq!(frame.as_ref().map(|frame| [frame[34], frame[35]]), numbers, "{failure:?}");
        if let Failure::TooBig(mtu) = failure {
            assert_eq!(frame.unwrap()[38..42], mtu.to_be_bytes());
        }
        assert_eq!(bench.dropped(DropReason::HostFailed), 1);
    }
}

#[test]
fn echoes_go_through_a_socket_of_the_host() {
    for (guest, peer, kinds) in
        [("10.0.2.15", "192.0.2.1", [8u8, 0]), ("fd00::15", "2001:db8::1", [128, 129])]
    {
        let mut bench = Bench::new();
        let (head, message) = super::harness::echo(guest, peer, kinds[0], 0x1234, 7, b"payload");
        bench.packet(&head, &message);
        let id = bench.host.only();
        assert_eq!(id.kind(), Kind::Ping);
        assert_eq!(bench.host.sock(id).pings, [(peer.parse().unwrap(), 63, 7, b"payload".to_vec())]);
        bench.host.sock(id).replies.push_back((peer.parse().unwrap(), 7, b"payload".to_vec()));
        bench.event(HostEvent::Readable(id));
        bench.poll();
        let frame = bench.next_frame().expect("a reply");
        let at = 14 + head.bytes();
        assert_eq!((frame[at], &frame[at + 4..at + 15]), (kinds[1], &b"\x12\x34\x00\x07payload"[..]));
        let error = IcmpError {
            from: if head.source.is_ipv4() { "203.0.113.1" } else { "2001:db8:1::1" }.parse().unwrap(),
            icmp_type: if head.source.is_ipv4() { 11 } else { 3 },
            code: 0,
            info: 0,
            to: SocketAddr::new(peer.parse().unwrap(), 9),
            payload: vec![],
        };
        bench.event(HostEvent::Icmp(id, error));
        let frame = bench.next_frame().expect("a relayed error");
        let quoted = at + 8 + head.bytes();
        assert_eq!(frame[quoted + 4..quoted + 8], [0x12, 0x34, 0, 9]);
    }
}

#[test]
fn limits_drop_who_was_idle_longest() {
    let mut setup = setup();
    setup.limits.udp_maps = 3;
    let mut bench = Bench::with(setup);
    for port in [1000, 1001, 1002, 1000, 1003] {
        bench.now += 1000;
        bench.udp(&format!("10.0.2.15:{port}"), "192.0.2.1:53", b"x");
    }
    assert_eq!((bench.host.open.len(), bench.host.closed.len()), (3, 1));
    let guests: Vec<_> = bench.core.udp_info().iter().map(|info| info.guest.port()).collect();
    assert_eq!(guests, [1000, 1003, 1002]);
    for identifier in 0..300 {
        bench.now += 1000;
        let (head, message) = super::harness::echo("10.0.2.15", "192.0.2.1", 8, identifier, 1, b"");
        bench.packet(&head, &message);
    }
    assert_eq!(bench.host.open.keys().filter(|id| id.kind() == Kind::Ping).count(), 256);
    // Everything ends by itself.
    bench.pass(200_000_000_000);
    assert!(bench.host.open.is_empty());
    assert_eq!(bench.core.next_deadline(), None);
}

#[test]
fn forwards_bring_datagrams_in() {
    let mut bench = Bench::new();
    let id = bench.core.forward_udp(Some("10.0.2.15".parse().unwrap()), 5353);
    bench.host.open.insert(id, super::harness::Sock::default());
    arrives(&mut bench, id, "127.0.0.1:700", b"early");
    // They wait until the guest is found.
    assert_eq!(bench.next_frame().map(|frame| [frame[12], frame[13]]), Some([8, 6]));
    bench.pass(2_500_000_000);
    assert_eq!(bench.wire.frames.drain(..).map(|(_, frame)| frame[13]).collect::<Vec<_>>(), [6, 6]);
    bench.udp("10.0.2.15:9", "10.0.2.2:7", b"");
    bench.poll();
    bench.next_frame();
    assert_eq!(
        parts(&bench.next_frame().unwrap()),
        ("10.0.2.2:700".into(), "10.0.2.15:5353".into(), b"early".to_vec())
    );
    bench.udp("10.0.2.15:5353", "10.0.2.2:700", b"back");
    assert_eq!(
        bench.host.sock(id).sent_datagrams,
        [("127.0.0.1:700".parse().unwrap(), 64, b"back".to_vec())]
    );
    arrives(&mut bench, id, "198.51.100.4:800", b"far");
    assert_eq!(parts(&bench.next_frame().unwrap()).0, "198.51.100.4:800");
    let (now, bench) = (bench.now, &mut bench);
    bench.core.forward_udp_ends(now, id, &mut bench.host, &mut bench.wire);
    assert_eq!(bench.host.closed.len(), 1);
}

#[test]
fn a_driver_that_takes_less_than_the_network_gets_fragments() {
    for (guest, peer, least) in
        [("10.0.2.15:5000", "192.0.2.1:53", 576), ("[fd00::15]:5000", "[2001:db8::1]:53", 1280)]
    {
        let mut setup = setup();
        setup.network.mtu = 9000;
        let mut bench = Bench::with(setup);
        bench.udp(guest, peer, b"x");
        let id = bench.host.only();
        // What the driver says, and the longest packet that it gets.
        for (mtu, longest) in [(1500, 1500), (u32::MAX, 9000), (least, least), (1, least.min(576))] {
            bench.wire.mtu = longest as usize;
            bench.core.set_offload(bench.wire.offload, mtu);
            arrives(&mut bench, id, peer, &vec![7; 20_000]);
            let lengths: Vec<_> = bench.wire.frames.drain(..).map(|(_, frame)| frame.len() - 14).collect();
            let least = longest as usize - 8;
            assert!(lengths.iter().max().unwrap() >= &least, "{lengths:?}");
        }
    }
}

#[test]
fn peers_of_a_forward_that_look_alike_are_told_apart() {
    let mut bench = Bench::new();
    bench.udp("10.0.2.15:9", "10.0.2.2:7", b"");
    bench.wire.frames.clear();
    let id = bench.core.forward_udp(Some("10.0.2.15".parse().unwrap()), 53);
    bench.host.open.insert(id, super::harness::Sock::default());
    let mut names = Vec::new();
    for peer in ["127.0.0.1:700", "127.0.0.2:700", "127.0.0.1:700", "127.0.0.2:700", "10.0.2.77:700"] {
        arrives(&mut bench, id, peer, b"asks");
        let name = parts(&bench.next_frame().unwrap()).0;
        bench.udp("10.0.2.15:53", &name, b"hears");
        assert_eq!(bench.host.sock(id).sent_datagrams.pop().unwrap().0.to_string(), peer);
        names.push(name);
    }
    assert_eq!(names[..2], ["10.0.2.2:700", "10.0.2.2:49152"]);
    assert_eq!((&names[2..4], &names[4][..]), (&names[..2], "10.0.2.2:49153"));
}

#[test]
fn without_room_datagrams_wait_in_their_socket() {
    let mut bench = Bench::new();
    bench.udp("10.0.2.15:5000", "192.0.2.1:53", b"x");
    let id = bench.host.only();
    bench.wire.room = 92_000;
    for _ in 0..100 {
        bench.host.sock(id).arrives("192.0.2.1:53", vec![1; 1400]);
    }
    bench.event(HostEvent::Readable(id));
    let mut total = 0;
    for _ in 0..60 {
        bench.core.poll(bench.now, &mut bench.host, &mut bench.wire);
        total += bench.wire.frames.drain(..).count();
    }
    assert_eq!((total, bench.dropped(DropReason::NoRoom)), (100, 0));
}

/// Every datagram of a frame that may be a train.
fn all_parts((header, frame): &(Header, Vec<u8>)) -> Vec<(String, Vec<u8>)> {
    let (from, _, data) = parts(frame);
    let piece = if header.gso_type == GSO_UDP_L4 { usize::from(header.gso_size) } else { data.len().max(1) };
    match data.is_empty() {
        true => vec![(from, data)],
        false => data.chunks(piece).map(|piece| (from.clone(), piece.to_vec())).collect(),
    }
}

const TRAINS: Offload = Offload { csum: true, tso4: false, tso6: false, uso4: true, uso6: true };

/// A guest with these offloads and a socket of its own; what arrives: (sender, length of each datagram, of all).
fn arrive(offload: Offload, v6: bool, arrivals: &[(&str, usize, usize)]) -> Vec<(Header, Vec<u8>)> {
    let (guest, peers) = match v6 {
        false => ("10.0.2.15:5000", ["192.0.2.1:53", "192.0.2.1:54"]),
        true => ("[fd00::15]:5000", ["[2001:db8::1]:53", "[2001:db8::1]:54"]),
    };
    let mut bench = Bench::new();
    bench.offload(offload);
    bench.udp(guest, peers[0], b"hello");
    let id = bench.host.only();
    let mut wanted = Vec::new();
    for (number, (from, piece, bytes)) in arrivals.iter().enumerate() {
        let from = peers[usize::from(*from == "other")];
        let data: Vec<u8> = (0..*bytes).map(|at| (at * 7 + number) as u8).collect();
        let pieces: Vec<&[u8]> = if data.is_empty() { vec![&[]] } else { data.chunks(*piece).collect() };
        wanted.extend(pieces.into_iter().map(|piece| (from.to_owned(), piece.to_vec())));
        bench.host.sock(id).datagrams.push_back((from.parse().unwrap(), *piece, data));
    }
    bench.event(HostEvent::Readable(id));
    let mut frames = Vec::new();
    for _ in 0..100 {
        bench.poll();
        frames.extend(bench.wire.frames.drain(..));
    }
    let got: Vec<_> = frames.iter().flat_map(all_parts).collect();
    assert_eq!(got.len(), wanted.len());
    assert!(got == wanted, "what arrived is what was sent, in order");
    frames
}

#[test]
fn a_train_stays_one_if_the_guest_takes_them() {
    for v6 in [false, true] {
        // Equal ones, and a shorter last one.
        for (piece, bytes) in [(1400, 1400 * 45), (1400, 1400 * 44 + 1), (1, 64), (1452, 1453)] {
            let frames = arrive(TRAINS, v6, &[("one", piece, bytes)]);
            assert_eq!(frames.len(), 1, "{piece} of {bytes}");
            let header = frames[0].0;
            assert_eq!((header.gso_type, usize::from(header.gso_size)), (GSO_UDP_L4, piece));
        }
        for offload in
            [Offload::default(), Offload { csum: false, ..TRAINS }, Offload { uso4: v6, uso6: !v6, ..TRAINS }]
        {
            let frames = arrive(offload, v6, &[("one", 1400, 1400 * 44 + 1)]);
            assert_eq!(frames.len(), 45);
        }
    }
}

#[test]
fn what_arrives_alone_goes_by_train_with_its_like() {
    let alone = |bytes| ("one", bytes, bytes);
    for (arrivals, frames) in [
        (vec![alone(500); 10], 1),
        // A shorter one ends a train, a longer one begins another; an empty one is none.
        (vec![alone(500), alone(500), alone(400), alone(400), alone(500)], 3),
        (vec![alone(500), alone(0), alone(0), alone(500)], 4),
        (vec![alone(500), ("other", 500, 500), ("other", 500, 500), alone(500)], 3),
        // Several trains that make one, and what is too much for one.
        (vec![("one", 500, 5000), ("one", 500, 4999), alone(500)], 2),
        (vec![("one", 9, 9 * 60), ("one", 9, 9 * 60)], 2),
        (vec![("one", 1400, 1400 * 40), ("one", 1400, 1400 * 40)], 2),
    ] {
        assert_eq!(arrive(TRAINS, false, &arrivals).len(), frames, "{arrivals:?}");
    }
}

#[test]
fn no_train_has_datagrams_that_are_longer_than_the_link_takes() {
    for (piece, v6) in [(1473, false), (1453, true)] {
        let mut bench = Bench::new();
        bench.offload(TRAINS);
        let (guest, peer) = match v6 {
            false => ("10.0.2.15:5000", "192.0.2.1:53"),
            true => ("[fd00::15]:5000", "[2001:db8::1]:53"),
        };
        bench.udp(guest, peer, b"hello");
        let id = bench.host.only();
        bench.host.sock(id).datagrams.push_back((peer.parse().unwrap(), piece, vec![1; 3 * piece]));
        bench.event(HostEvent::Readable(id));
        bench.poll();
        let plain = bench.wire.frames.iter().all(|(header, _)| *header == Header::default());
        assert!(plain && bench.wire.frames.len() == 6, "each in two fragments");
    }
}

/// Room for one train only: the others wait in the socket, and nothing is dropped.
#[test]
fn trains_wait_for_room() {
    let mut bench = Bench::new();
    bench.offload(TRAINS);
    bench.udp("10.0.2.15:5000", "192.0.2.1:53", b"hello");
    let id = bench.host.only();
    bench.wire.room = 100_000;
    for _ in 0..5 {
        bench.host.sock(id).datagrams.push_back(("192.0.2.1:53".parse().unwrap(), 1400, vec![1; 1400 * 40]));
    }
    bench.event(HostEvent::Readable(id));
    for left in (0..5).rev() {
        bench.poll();
        bench.poll();
        assert_eq!((bench.wire.frames.len(), bench.host.sock(id).datagrams.len()), (1, left));
        bench.wire.frames.clear();
    }
    assert_eq!(bench.core.stats().drops(DropReason::NoRoom), 0);
}

#[test]
fn what_could_not_be_sent_is_told_like_what_could_not_be_at_once() {
    for (guest, peer, numbers) in
        [("10.0.2.15:5000", "192.0.2.1:53", [3, 1]), ("[fd00::15]:5000", "[2001:db8::1]:53", [1, 3])]
    {
        let mut bench = Bench::new();
        bench.udp(guest, peer, b"lost");
        let id = bench.host.only();
        let unsent = Unsent {
            to: peer.parse().unwrap(),
            failure: Failure::HostUnreachable,
            payload: b"lost".to_vec(),
        };
        bench.event(HostEvent::Unsent(id, unsent));
        let frame = bench.next_frame().expect("an error message");
        let (at, ip_bytes) = if peer.starts_with('[') { (54, 40) } else { (34, 20) };
        assert_eq!(frame[at..at + 2], numbers);
        let (_, quoted) = datagram(guest, peer, b"lost");
        assert_eq!(frame[at + 8 + ip_bytes..][..6], quoted[..6], "ports and length");
        assert_eq!(bench.dropped(DropReason::HostFailed), 1);
    }
}
