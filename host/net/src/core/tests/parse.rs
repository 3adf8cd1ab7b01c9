//! What must be true of every frame that leaves, by a parser that is not ours.

use crate::frame::{GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, Header, NEEDS_CSUM, Offload};
use etherparse::{NetSlice, SlicedPacket, TcpOptionElement, TcpSlice, TransportSlice, UdpSlice};

pub(crate) const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

fn one_sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], *w.get(1).unwrap_or(&0)])));
    let sum = words.fold(0u32, |sum, word| {
        let sum = sum + word;
        (sum & 0xffff) + (sum >> 16)
    });
    sum as u16
}

/// Panics if the frame is not one that a guest with these offloads may get.
pub(crate) fn check(header: &Header, frame: &[u8], offload: Offload, mtu: usize) {
    assert!(frame.len() >= 60, "a frame of {} bytes", frame.len());
    assert_eq!(frame[6..12], crate::Network::default().mac, "source");
    assert_eq!(header.num_buffers, 0);
    let packet = SlicedPacket::from_ethernet(frame).unwrap_or_else(|error| panic!("{error}: {frame:02x?}"));
    let used = match packet.net.as_ref().expect("a network layer") {
        NetSlice::Ipv4(ip) => {
            let head = ip.header();
            assert_eq!(head.to_header().calc_header_checksum(), head.header_checksum());
            usize::from(head.total_len())
        }
        NetSlice::Ipv6(ip) => 40 + usize::from(ip.header().payload_length()),
        NetSlice::Arp(arp) => arp.slice().len(),
    };
    assert!(frame[14 + used..].iter().all(|byte| *byte == 0), "padding");
    assert!(frame.len() == 60.max(14 + used), "{} bytes hold a packet of {used}", frame.len());
    if header.gso_type == GSO_NONE {
        assert!(used <= mtu, "{used} bytes on a link of {mtu}");
        assert_eq!((header.gso_size, header.hdr_len), (0, 0));
    }
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => check_tcp(header, frame, &packet, tcp, offload, mtu),
        Some(TransportSlice::Udp(udp)) if header.gso_type == GSO_UDP_L4 => {
            check_train(header, frame, &packet, udp, offload, mtu);
        }
        other => {
            assert_eq!(*header, Header::default());
            check_other(&packet, other.as_ref());
        }
    }
}

fn check_other(packet: &SlicedPacket<'_>, transport: Option<&TransportSlice<'_>>) {
    match (packet.net.as_ref(), transport) {
        (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) => {
            let sum = udp.to_header().calc_checksum_ipv4(&ip.header().to_header(), udp.payload()).unwrap();
            assert_eq!(sum, udp.checksum());
        }
        (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Udp(udp))) => {
            let sum = udp.to_header().calc_checksum_ipv6(&ip.header().to_header(), udp.payload()).unwrap();
            assert_eq!(sum, udp.checksum());
        }
        (_, Some(TransportSlice::Icmpv4(icmp))) => {
            assert_eq!(icmp.header().icmp_type.calc_checksum(icmp.payload()), icmp.checksum());
        }
        (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp))) => {
            assert!(icmp.is_checksum_valid(ip.header().source(), ip.header().destination()));
        }
        // ARP, and fragments.
        _ => {}
    }
}

fn check_train(
    header: &Header,
    frame: &[u8],
    packet: &SlicedPacket<'_>,
    udp: &UdpSlice<'_>,
    offload: Offload,
    mtu: usize,
) {
    let zero = etherparse::UdpHeader { checksum: 0, ..udp.to_header() };
    let (sum, ip_bytes, takes) = match packet.net.as_ref() {
        Some(NetSlice::Ipv4(ip)) => {
            let head = ip.header().to_header();
            assert!(!ip.is_payload_fragmented());
            (zero.calc_checksum_ipv4(&head, udp.payload()), 20, offload.uso4)
        }
        Some(NetSlice::Ipv6(ip)) => {
            (zero.calc_checksum_ipv6(&ip.header().to_header(), udp.payload()), 40, offload.uso6)
        }
        other => panic!("UDP over {other:?}"),
    };
    let (udp_bytes, piece) = (8 + udp.payload().len(), usize::from(header.gso_size));
    assert!(offload.csum && takes && header.flags == NEEDS_CSUM);
    assert_eq!((usize::from(header.csum_start), header.csum_offset), (14 + ip_bytes, 6));
    assert_eq!(usize::from(header.hdr_len), 14 + ip_bytes + 8);
    assert_eq!(usize::from(udp.length()), udp_bytes);
    // The guest adds what is there, its field included.
    assert_eq!(!one_sum(&frame[14 + ip_bytes..]), sum.unwrap());
    assert!(piece > 0 && ip_bytes + 8 + piece <= mtu, "datagrams of {piece} bytes");
    let count = udp.payload().len().div_ceil(piece);
    assert!((2..=64).contains(&count), "a train of {count}");
}

fn check_tcp(
    header: &Header,
    frame: &[u8],
    packet: &SlicedPacket<'_>,
    tcp: &TcpSlice<'_>,
    offload: Offload,
    mtu: usize,
) {
    let (sum, ip_bytes, gso, takes) = match packet.net.as_ref() {
        Some(NetSlice::Ipv4(ip)) => {
            let head = ip.header();
            (tcp.calc_checksum_ipv4(head.source(), head.destination()), 20, GSO_TCPV4, offload.tso4)
        }
        Some(NetSlice::Ipv6(ip)) => {
            let head = ip.header();
            (tcp.calc_checksum_ipv6(head.source(), head.destination()), 40, GSO_TCPV6, offload.tso6)
        }
        other => panic!("TCP over {other:?}"),
    };
    let sum = sum.unwrap();
    if header.flags == NEEDS_CSUM {
        assert!(offload.csum);
        assert_eq!((usize::from(header.csum_start), header.csum_offset), (14 + ip_bytes, 16));
        // The guest adds what is there, its field included.
        assert_eq!(!one_sum(&frame[14 + ip_bytes..14 + ip_bytes + tcp.slice().len()]), sum);
    } else {
        assert_eq!((header.flags, header.csum_start, header.csum_offset), (0, 0, 0));
        assert_eq!(tcp.checksum(), sum);
    }
    let head_bytes = ip_bytes + tcp.header_slice().len();
    if header.gso_type != GSO_NONE {
        assert!(takes && offload.csum && header.flags == NEEDS_CSUM);
        assert_eq!(header.gso_type, gso);
        assert_eq!(usize::from(header.hdr_len), 14 + head_bytes);
        assert!(usize::from(header.gso_size) + head_bytes <= mtu);
        assert!(tcp.payload().len() > usize::from(header.gso_size) && header.gso_size > 0);
        assert!(!tcp.syn());
    }
    for option in tcp.options_iterator() {
        match option.expect("an option") {
            TcpOptionElement::MaximumSegmentSize(mss) => {
                assert!(tcp.syn());
                assert_eq!(usize::from(mss), mtu - ip_bytes - 20);
            }
            TcpOptionElement::WindowScale(shift) => assert!(tcp.syn() && shift <= 14),
            _ => {}
        }
    }
}
