//! Ethernet, ARP, neighbour discovery, anti-spoofing, echo.

use super::{
    harness::{Bench, frame, setup},
    parse::GUEST_MAC,
};
use crate::{
    DropReason, Network,
    core::{
        checksum::Sum,
        packet::{ICMP, ICMPV6, IpHead, UDP},
    },
    frame::{Header, NEEDS_CSUM},
};

fn arp(operation: u8, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(GUEST_MAC);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(GUEST_MAC);
    frame.extend(sender);
    frame.extend([0; 6]);
    frame.extend(target);
    frame
}

fn icmp(source: &str, destination: &str, hops: u8, message: &[u8]) -> (IpHead, Vec<u8>) {
    let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
    let head = IpHead { source, destination, protocol: if source.is_ipv4() { ICMP } else { ICMPV6 }, hops };
    let mut message = message.to_vec();
    let sum = match source.is_ipv4() {
        true => Sum::default(),
        false => Sum::pseudo(source, destination, ICMPV6, message.len()),
    };
    let sum = sum.add(&message).finished();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    (head, message)
}

#[test]
fn arp_answers_for_our_addresses_alone() {
    let mut bench = Bench::new();
    // The last one is a `guestfwd`.
    for ours in [[10, 0, 2, 2], [10, 0, 2, 3], [10, 0, 2, 100]] {
        bench.frame(&arp(1, [10, 0, 2, 15], ours));
        let answer = bench.next_frame().expect("an answer");
        assert_eq!(answer[..6], GUEST_MAC);
        assert_eq!(answer[20..22], [0, 2]);
        assert_eq!((&answer[22..28], &answer[28..32]), (&Network::default().mac[..], &ours[..]));
        assert_eq!(answer[38..42], [10, 0, 2, 15]);
    }
    // A probe has no address; it must learn that ours are taken.
    bench.frame(&arp(1, [0; 4], [10, 0, 2, 2]));
    assert!(bench.next_frame().is_some());
    for (sender, target) in
        [([10, 0, 2, 15], [10, 0, 2, 99]), ([10, 0, 2, 15], [10, 0, 2, 15]), ([0; 4], [10, 0, 2, 15])]
    {
        bench.frame(&arp(1, sender, target));
        assert_eq!(bench.next_frame(), None, "{target:?}");
    }
    assert_eq!(bench.dropped(DropReason::Spoofed), 0);
    bench.frame(&arp(1, [10, 0, 2, 2], [10, 0, 2, 3]));
    bench.frame(&arp(1, [192, 168, 0, 1], [10, 0, 2, 3]));
    bench.frame(&arp(1, [10, 0, 2, 100], [10, 0, 2, 3]));
    assert_eq!((bench.next_frame(), bench.dropped(DropReason::Spoofed)), (None, 3));
}

#[test]
fn neighbours_and_routers_are_found() {
    let mut bench = Bench::new();
    let solicit = |target: &str| {
        let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
        message.extend(target.parse::<std::net::Ipv6Addr>().unwrap().octets());
        message
    };
    for (source, target, flags) in [
        ("fe80::15", "fe80::5055:aff:fe00:202", 0xe0),
        ("fd00::15", "fd00::2", 0xe0),
        ("::", "fd00::3", 0xa0),
    ] {
        let (head, message) = icmp(source, "ff02::1:ff00:2", 255, &solicit(target));
        bench.packet(&head, &message);
        let answer = bench.next_frame().expect(target);
        assert_eq!((answer[54], answer[58]), (136, flags), "{target}");
        assert_eq!(answer[80..86], Network::default().mac);
    }
    // Not ours: somebody checks whether an address is free.
    let (head, message) = icmp("::", "ff02::1:ff00:15", 255, &solicit("fd00::15"));
    bench.packet(&head, &message);
    // From another link: RFC 4861 §7.1.1.
    let (head, message) = icmp("fe80::15", "ff02::1:ff00:2", 254, &solicit("fe80::5055:aff:fe00:202"));
    bench.packet(&head, &message);
    assert_eq!((bench.next_frame(), bench.dropped(DropReason::Malformed)), (None, 1));
    let (head, message) = icmp("fe80::15", "ff02::2", 255, &[133, 0, 0, 0, 0, 0, 0, 0]);
    bench.packet(&head, &message);
    let answer = bench.next_frame().expect("an advertisement");
    assert_eq!((answer[54], answer[21], &answer[38..54]), (134, 255, &octets(head.source)[..]));
}

#[test]
fn the_gateway_answers_echoes_itself() {
    let mut bench = Bench::new();
    for (source, to, kinds) in [
        ("10.0.2.15", "10.0.2.2", [8, 0]),
        ("10.0.2.15", "10.0.2.3", [8, 0]),
        ("fd00::15", "fd00::2", [128, 129]),
        ("fe80::15", "fe80::5055:aff:fe00:202", [128, 129]),
    ] {
        let (head, message) = icmp(source, to, 1, &[kinds[0], 0, 0, 0, 1, 2, 3, 4, b'h', b'i']);
        bench.packet(&head, &message);
        let answer = bench.next_frame().expect(to);
        let at = 14 + head.bytes();
        assert_eq!((answer[at], &answer[at + 4..at + 10]), (kinds[1], &[1, 2, 3, 4, b'h', b'i'][..]));
    }
    assert!(bench.host.open.is_empty());
}

#[test]
fn nobody_else_may_speak() {
    let cases = [
        ("10.0.2.2:5", "192.0.2.1:9"),
        ("192.0.2.7:5", "192.0.2.1:9"),
        ("10.0.2.255:5", "192.0.2.1:9"),
        ("127.0.0.1:5", "192.0.2.1:9"),
        ("0.0.0.0:5", "192.0.2.1:9"),
        ("[fd00::2]:5", "[2001:db8::1]:9"),
        ("[2001:db8::7]:5", "[2001:db8::1]:9"),
        ("[ff02::1]:5", "[2001:db8::1]:9"),
    ];
    for (from, to) in cases {
        let mut bench = Bench::new();
        bench.udp(from, to, b"x");
        assert_eq!((bench.dropped(DropReason::Spoofed), bench.host.open.len()), (1, 0), "{from}");
    }
    let mut bench = Bench::new();
    let head =
        IpHead { source: [10, 0, 2, 15].into(), destination: [1, 2, 3, 4].into(), protocol: UDP, hops: 64 };
    let good = frame(&head, &[0; 20]);
    for (at, bytes) in
        [(6, Network::default().mac), (6, [0; 6]), (6, [1, 2, 3, 4, 5, 6]), (0, [2, 2, 2, 2, 2, 2])]
    {
        let mut bad = good.clone();
        bad[at..at + 6].copy_from_slice(&bytes);
        bench.frame(&bad);
    }
    assert_eq!((bench.dropped(DropReason::Spoofed), bench.dropped(DropReason::NotForUs)), (3, 1));
}

#[test]
fn what_is_malformed_is_counted_and_nothing_else() {
    let (head, udp) = super::harness::datagram("10.0.2.15:5", "192.0.2.1:9", b"hello");
    let good = frame(&head, &udp);
    let mut cases: Vec<(&str, DropReason, Vec<u8>)> = Vec::new();
    let mut case = |name, why, edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bad = good.clone();
        edit(&mut bad);
        let sum = Sum::default().add(&{
            let mut head = bad[14..34].to_vec();
            head[10..12].fill(0);
            head
        });
        if why != DropReason::Checksum {
            bad[24..26].copy_from_slice(&sum.finished().to_be_bytes());
        }
        cases.push((name, why, bad));
    };
    case("version", DropReason::Malformed, &|f| f[14] = 0x55);
    case("IHL", DropReason::Malformed, &|f| f[14] = 0x44);
    case("total length below the header", DropReason::Malformed, &|f| f[17] = 19);
    case("total length beyond the frame", DropReason::Truncated, &|f| f[17] = 200);
    case("header checksum", DropReason::Checksum, &|f| f[24] ^= 1);
    case("UDP length beyond the packet", DropReason::Truncated, &|f| f[39] = 14);
    case("UDP length below its header", DropReason::Malformed, &|f| f[39] = 7);
    case("UDP port 0", DropReason::Malformed, &|f| f[37] = 0);
    case("protocol", DropReason::Protocol, &|f| f[23] = 132);
    for (name, why, bad) in cases {
        let mut bench = Bench::new();
        bench.frame(&bad);
        let counted: Vec<_> = DropReason::ALL.iter().filter(|why| bench.dropped(**why) > 0).collect();
        assert_eq!(counted, [&why], "{name}");
        assert!(bench.host.open.is_empty(), "{name}");
    }
    let mut bench = Bench::new();
    let mut bad = good.clone();
    bad[45] ^= 1;
    bench.frame(&bad);
    assert_eq!(bench.dropped(DropReason::Checksum), 1);
    bench.frame(&good[..30]);
    bench.message(&good[..7]);
    assert_eq!(bench.dropped(DropReason::Truncated), 2);
}

#[test]
fn source_routes_are_refused() {
    for (kind, refused) in [(131, 1), (137, 1), (7, 0)] {
        let mut bench = Bench::new();
        let (head, udp) = super::harness::datagram("10.0.2.15:5", "192.0.2.1:9", b"hello");
        let mut packet = vec![0; 20];
        head.write(&mut packet, udp.len() + 8, 0, 0);
        packet[0] = 0x47;
        packet.extend([kind, 7, 4, 192, 0, 2, 9, 0]);
        packet[10..12].fill(0);
        let sum = Sum::default().add(&packet).finished();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(udp);
        let mut whole = good_ethernet();
        whole.extend(packet);
        bench.frame(&whole);
        assert_eq!(bench.dropped(DropReason::Options), refused, "option {kind}");
        assert_eq!(bench.host.open.len() as u64, 1 - refused);
    }
}

fn octets(address: std::net::IpAddr) -> [u8; 16] {
    match address {
        std::net::IpAddr::V6(address) => address.octets(),
        std::net::IpAddr::V4(_) => panic!("IPv4"),
    }
}

fn good_ethernet() -> Vec<u8> {
    let mut whole = Network::default().mac.to_vec();
    whole.extend(GUEST_MAC);
    whole.extend([8, 0]);
    whole
}

#[test]
fn a_checksum_inside_a_tunnel_is_finished() {
    let mut bench = Bench::new();
    // The inner datagram of 12 bytes, its checksum (at 6) holding the pseudo header's sum.
    let mut inner = vec![0, 1, 0, 2, 0, 12, 0, 0, 1, 2, 3, 4];
    inner[6..8].copy_from_slice(&0x1234u16.to_be_bytes());
    let (head, mut udp) = super::harness::datagram("10.0.2.15:5", "192.0.2.1:9", &inner);
    // The guest's stack knows what the outer sum will be once the inner one is in place.
    let finished = Sum::default().add(&inner).finished_udp();
    let mut done = inner.clone();
    done[6..8].copy_from_slice(&finished.to_be_bytes());
    let (_, outer) = super::harness::datagram("10.0.2.15:5", "192.0.2.1:9", &done);
    udp[6..8].copy_from_slice(&outer[6..8]);
    let header = Header { flags: NEEDS_CSUM, csum_start: 14 + 20 + 8, csum_offset: 6, ..Header::default() };
    let mut message = header.encode().to_vec();
    message.extend(frame(&head, &udp));
    bench.message(&message);
    let id = bench.host.only();
    assert_eq!(bench.host.sock(id).sent_datagrams[0].2, done);
    for (start, offset) in [(13, 6), (14, 4000), (9000, 6)] {
        let header =
            Header { flags: NEEDS_CSUM, csum_start: start, csum_offset: offset, ..Header::default() };
        message[..12].copy_from_slice(&header.encode());
        bench.message(&message);
    }
    assert_eq!(bench.dropped(DropReason::BadOffload), 3);
}

/// Every Linux guest says so when it comes up.
#[test]
fn what_groups_a_guest_listens_to_is_no_mistake() {
    let mut bench = Bench::new();
    let report =
        [&[143, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0][..], &octets("ff02::1:ff12:3456".parse().unwrap())].concat();
    for source in ["::", "fe80::15"] {
        let (head, message) = icmp(source, "ff02::16", 1, &report);
        // Hop-by-hop options: a router alert.
        let mut payload = vec![ICMPV6, 0, 5, 2, 0, 0, 1, 0];
        payload.extend(&message);
        bench.packet(&IpHead { protocol: 0, ..head }, &payload);
        for version_1 in [131, 132] {
            let (head, message) =
                icmp(source, "ff02::2", 1, &[&[version_1, 0, 0, 0, 0, 0, 0, 0], &report[12..]].concat());
            bench.packet(&head, &message);
        }
    }
    let source = "10.0.2.15".parse().unwrap();
    let head = IpHead { source, destination: "224.0.0.22".parse().unwrap(), protocol: 2, hops: 1 };
    bench.packet(&head, &[0x22, 0, 0xf9, 2, 0, 0, 0, 1, 4, 0, 0, 0, 224, 0, 0, 251]);
    let dropped: u64 = DropReason::ALL.iter().map(|why| bench.dropped(*why)).sum();
    assert_eq!((bench.next_frame(), dropped), (None, 0));
    // It means nothing elsewhere.
    bench.packet(&IpHead { destination: "192.0.2.1".parse().unwrap(), ..head }, &[0x22, 0, 0xf9, 2]);
    assert_eq!(bench.dropped(DropReason::Protocol), 1);
}

#[test]
fn a_family_that_is_off_is_silent() {
    let mut setup = setup();
    setup.network.v6 = None;
    let mut bench = Bench::with(setup);
    let (head, message) = icmp("fe80::15", "fe80::5055:aff:fe00:202", 64, &[128, 0, 0, 0, 0, 1, 0, 1]);
    bench.packet(&head, &message);
    assert_eq!((bench.next_frame(), bench.dropped(DropReason::Spoofed)), (None, 1));
}
