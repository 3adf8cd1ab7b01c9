//! Packets that stand for what passed through the host's sockets. A socket shows bytes, and no segments: those here are
//! made up, with numbers and checksums as they must be, so that a reader of captures can follow the streams.

use super::Way;
use crate::{
    core::{
        checksum::Sum,
        packet::{ICMP, ICMPV6, IpHead, TCP, UDP},
    },
    edges::IcmpError,
};
use std::net::{IpAddr, SocketAddr};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// The longest payload of either family that a packet has room for.
const SEGMENT_BYTES: usize = 65_535 - 60;
/// Maximum segment size, then a window scale of 14, so that no window is ever full (RFC 9293 §3.2, RFC 7323 §2.2).
const SYN_OPTIONS: [u8; 8] = [2, 4, 0xff, 0xc3, 3, 3, 14, 1];
const HOPS: u8 = 64;

/// A packet of these addresses; `None` if they are of two families, or it would be too long.
fn packet(from: IpAddr, to: IpAddr, protocol: u8, hops: u8, payload: &[u8]) -> Option<Vec<u8>> {
    let (source, destination) = (from.to_canonical(), to.to_canonical());
    if source.is_ipv4() != destination.is_ipv4() {
        return None;
    }
    let head = IpHead { source, destination, protocol, hops };
    // IPv6 does not count its header in the length.
    let (at, counted) = (head.bytes(), if source.is_ipv4() { head.bytes() } else { 0 });
    if counted + payload.len() > 65_535 {
        return None;
    }
    let mut packet = vec![0; at + payload.len()];
    head.write(&mut packet, payload.len(), 0, 0);
    packet[at..].copy_from_slice(payload);
    let place = match protocol {
        TCP => 16,
        UDP => 6,
        _ => 2,
    };
    let pseudo = match protocol {
        ICMP => Sum::default(),
        _ => Sum::pseudo(source, destination, protocol, payload.len()),
    };
    let sum = pseudo.add(&packet[at..]);
    let sum = if protocol == UDP { sum.finished_udp() } else { sum.finished() };
    packet[at + place..at + place + 2].copy_from_slice(&sum.to_be_bytes());
    Some(packet)
}

/// A UDP datagram.
pub(crate) fn datagram(from: SocketAddr, to: SocketAddr, hops: u8, data: &[u8]) -> Option<Vec<u8>> {
    packet(from.ip(), to.ip(), UDP, hops, &udp([from.port(), to.port()], data))
}

fn udp(ports: [u16; 2], data: &[u8]) -> Vec<u8> {
    let mut udp = Vec::with_capacity(8 + data.len());
    for word in [ports[0], ports[1], u16::try_from(8 + data.len()).unwrap_or(0), 0] {
        udp.extend(word.to_be_bytes());
    }
    udp.extend(data);
    udp
}

/// An echo request, or with `reply` its answer.
pub(crate) fn echo(
    [from, to]: [IpAddr; 2],
    reply: bool,
    hops: u8,
    numbers: [u16; 2],
    data: &[u8],
) -> Option<Vec<u8>> {
    let protocol = icmp_of(to);
    packet(from, to, protocol, hops, &echo_message(protocol, reply, numbers, data))
}

fn icmp_of(address: IpAddr) -> u8 {
    if address.to_canonical().is_ipv4() { ICMP } else { ICMPV6 }
}

fn echo_message(protocol: u8, reply: bool, [identifier, sequence]: [u16; 2], data: &[u8]) -> Vec<u8> {
    let kind = match (protocol, reply) {
        (ICMP, false) => 8,
        (ICMP, true) => 0,
        (_, false) => 128,
        (_, true) => 129,
    };
    let mut message = vec![kind, 0, 0, 0];
    message.extend(identifier.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.extend(data);
    message
}

/// What a router or peer said about a datagram of `ours`, or with `echo` about an echo request, whose identifier is its
/// port.
pub(crate) fn error(ours: SocketAddr, echo: bool, error: &IcmpError) -> Option<Vec<u8>> {
    let protocol = icmp_of(error.to.ip());
    let quoted = match echo {
        true => echo_message(protocol, false, [ours.port(), error.to.port()], &error.payload),
        false => udp([ours.port(), error.to.port()], &error.payload),
    };
    let quoted = packet(ours.ip(), error.to.ip(), if echo { protocol } else { UDP }, HOPS, &quoted)?;
    let mut message = vec![error.icmp_type, error.code, 0, 0];
    message.extend(error.info.to_be_bytes());
    message.extend(quoted);
    packet(error.from, ours.ip(), protocol, HOPS, &message)
}

/// A connection, as segments.
#[derive(Debug)]
pub(crate) struct Stream {
    /// Ours, and the peer's.
    ends: [SocketAddr; 2],
    /// The number of the next byte of each, and whether it has ended.
    next: [u32; 2],
    ended: [bool; 2],
    /// Both have said SYN.
    is_open: bool,
    /// Nothing follows any more.
    is_over: bool,
}

/// Who sends what goes this way: 0 for us, 1 for the peer.
fn sender(way: Way) -> usize {
    match way {
        Way::Out => 0,
        Way::In => 1,
    }
}

fn back(way: Way) -> Way {
    match way {
        Way::Out => Way::In,
        Way::In => Way::Out,
    }
}

impl Stream {
    pub(crate) fn new(ours: SocketAddr, peer: SocketAddr) -> Self {
        Self { ends: [ours, peer], next: [0; 2], ended: [false; 2], is_open: false, is_over: false }
    }

    fn segment(&mut self, way: Way, flags: u8, payload: &[u8], see: &mut dyn FnMut(Way, &[u8])) {
        let (from, to) = (sender(way), sender(back(way)));
        let options = if flags & SYN == 0 { &[][..] } else { &SYN_OPTIONS[..] };
        let ack = if flags & ACK == 0 { 0 } else { self.next[to] };
        let mut tcp = Vec::with_capacity(20 + options.len() + payload.len());
        tcp.extend(self.ends[from].port().to_be_bytes());
        tcp.extend(self.ends[to].port().to_be_bytes());
        tcp.extend(self.next[from].to_be_bytes());
        tcp.extend(ack.to_be_bytes());
        tcp.extend([((20 + options.len()) * 4) as u8, flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(options);
        tcp.extend(payload);
        let space = payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
        self.next[from] = self.next[from].wrapping_add(space);
        if let Some(packet) = packet(self.ends[from].ip(), self.ends[to].ip(), TCP, HOPS, &tcp) {
            see(way, &packet);
        }
    }

    /// Who calls, calls: `Out` if we do.
    pub(crate) fn calls(&mut self, way: Way, see: &mut dyn FnMut(Way, &[u8])) {
        self.segment(way, SYN, &[], see);
    }

    /// The call that went this way is answered.
    pub(crate) fn opens(&mut self, way: Way, see: &mut dyn FnMut(Way, &[u8])) {
        if !self.is_open && !self.is_over {
            self.is_open = true;
            self.segment(back(way), SYN | ACK, &[], see);
            self.segment(way, ACK, &[], see);
        }
    }

    pub(crate) fn bytes(&mut self, way: Way, bytes: &[u8], see: &mut dyn FnMut(Way, &[u8])) {
        if self.is_open && !self.is_over {
            bytes.chunks(SEGMENT_BYTES).for_each(|part| self.segment(way, PSH | ACK, part, see));
        }
    }

    /// Nothing more comes this way. Said twice, it is heard once.
    pub(crate) fn ends(&mut self, way: Way, see: &mut dyn FnMut(Way, &[u8])) {
        if self.is_open && !self.is_over && !self.ended[sender(way)] {
            self.ended[sender(way)] = true;
            self.segment(way, FIN | ACK, &[], see);
            if self.ended == [true; 2] {
                self.segment(back(way), ACK, &[], see);
                self.is_over = true;
            }
        }
    }

    /// The sender of this way breaks it off, or refuses what it was asked for.
    pub(crate) fn breaks(&mut self, way: Way, see: &mut dyn FnMut(Way, &[u8])) {
        if !self.is_over {
            self.is_over = true;
            self.segment(way, RST | ACK, &[], see);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    const ENDS: [[&str; 2]; 2] =
        [["192.0.2.1:4000", "198.51.100.2:80"], ["[2001:db8::1]:4000", "[2001:db8::2]:80"]];

    /// Parses with checksums compared, by a parser that is not ours.
    pub(crate) fn parsed(packet: &[u8]) -> SlicedPacket<'_> {
        let sliced = SlicedPacket::from_ip(packet).unwrap();
        let zero = |udp: &etherparse::UdpSlice<'_>| etherparse::UdpHeader { checksum: 0, ..udp.to_header() };
        match (sliced.net.as_ref().unwrap(), sliced.transport.as_ref().unwrap()) {
            (NetSlice::Ipv4(ip), transport) => {
                let head = ip.header();
                assert_eq!(head.to_header().calc_header_checksum(), head.header_checksum());
                assert_eq!(usize::from(head.total_len()), packet.len());
                let (there, made) = match transport {
                    TransportSlice::Tcp(tcp) => {
                        (tcp.checksum(), tcp.calc_checksum_ipv4(head.source(), head.destination()).unwrap())
                    }
                    TransportSlice::Udp(udp) => {
                        let made = zero(udp).calc_checksum_ipv4(&head.to_header(), udp.payload());
                        (udp.checksum(), made.unwrap())
                    }
                    TransportSlice::Icmpv4(icmp) => {
                        (icmp.checksum(), icmp.header().icmp_type.calc_checksum(icmp.payload()))
                    }
                    other => panic!("{other:?}"),
                };
                assert_eq!(there, made);
            }
            (NetSlice::Ipv6(ip), transport) => {
                let head = ip.header();
                assert_eq!(40 + usize::from(head.payload_length()), packet.len());
                match transport {
                    TransportSlice::Tcp(tcp) => {
                        let made = tcp.calc_checksum_ipv6(head.source(), head.destination()).unwrap();
                        assert_eq!(tcp.checksum(), made);
                    }
                    TransportSlice::Udp(udp) => {
                        let made = zero(udp).calc_checksum_ipv6(&head.to_header(), udp.payload()).unwrap();
                        assert_eq!(udp.checksum(), made);
                    }
                    TransportSlice::Icmpv6(icmp) => {
                        assert!(icmp.is_checksum_valid(head.source(), head.destination()));
                    }
                    other => panic!("{other:?}"),
                }
            }
            other => panic!("{other:?}"),
        }
        sliced
    }

    /// What an independent parser sees of a segment: flags as letters, sequence number, acknowledgement, payload.
    fn seen(packet: &[u8]) -> (String, u32, u32, usize) {
        let sliced = parsed(packet);
        let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { panic!("{packet:02x?}") };
        let flags =
            [(tcp.syn(), 'S'), (tcp.fin(), 'F'), (tcp.rst(), 'R'), (tcp.psh(), 'P'), (tcp.ack(), 'A')];
        let flags = flags.iter().filter(|(set, _)| *set).map(|(_, letter)| letter).collect();
        (flags, tcp.sequence_number(), tcp.acknowledgment_number(), tcp.payload().len())
    }

    #[test]
    fn a_connection_is_one_to_whoever_reads_it() {
        for [ours, peer] in ENDS {
            let mut all = Vec::new();
            let mut see = |way, packet: &[u8]| all.push((way, seen(packet)));
            let mut stream = Stream::new(ours.parse().unwrap(), peer.parse().unwrap());
            stream.calls(Way::Out, &mut see);
            stream.bytes(Way::Out, b"too early", &mut see);
            stream.opens(Way::Out, &mut see);
            stream.bytes(Way::Out, &[1; 10], &mut see);
            stream.bytes(Way::In, &vec![2; SEGMENT_BYTES + 1], &mut see);
            stream.ends(Way::In, &mut see);
            stream.ends(Way::In, &mut see);
            stream.bytes(Way::Out, &[1; 3], &mut see);
            stream.ends(Way::Out, &mut see);
            stream.bytes(Way::Out, b"too late", &mut see);
            stream.breaks(Way::Out, &mut see);
            let long = SEGMENT_BYTES as u32;
            let wanted = [
                (Way::Out, "S", 0, 0, 0),
                (Way::In, "SA", 0, 1, 0),
                (Way::Out, "A", 1, 1, 0),
                (Way::Out, "PA", 1, 1, 10),
                (Way::In, "PA", 1, 11, SEGMENT_BYTES),
                (Way::In, "PA", long + 1, 11, 1),
                (Way::In, "FA", long + 2, 11, 0),
                (Way::Out, "PA", 11, long + 3, 3),
                (Way::Out, "FA", 14, long + 3, 0),
                (Way::In, "A", long + 3, 15, 0),
            ];
            let wanted: Vec<_> =
                wanted.map(|(way, flags, seq, ack, bytes)| (way, (flags.to_owned(), seq, ack, bytes))).into();
            assert_eq!(all, wanted);
        }
    }

    #[test]
    fn a_refusal_and_a_break_are_resets() {
        let [ours, peer] = ENDS[0].map(|end| end.parse().unwrap());
        let mut all = Vec::new();
        let mut see = |way, packet: &[u8]| all.push((way, seen(packet)));
        let mut refused = Stream::new(ours, peer);
        refused.calls(Way::Out, &mut see);
        refused.breaks(Way::In, &mut see);
        let mut broken = Stream::new(ours, peer);
        broken.calls(Way::In, &mut see);
        broken.opens(Way::In, &mut see);
        broken.breaks(Way::Out, &mut see);
        let flags: Vec<_> = all.iter().map(|(way, (flags, ..))| (*way, flags.as_str())).collect();
        let (i, o) = (Way::In, Way::Out);
        assert_eq!(flags, [(o, "S"), (i, "RA"), (i, "S"), (o, "SA"), (i, "A"), (o, "RA")]);
        assert_eq!((all[1].1.1, all[1].1.2, all[5].1.1), (0, 1, 1));
    }

    #[test]
    fn datagrams_and_messages_are_whole() {
        for ends in ENDS {
            let [ours, peer]: [SocketAddr; 2] = ends.map(|end| end.parse().unwrap());
            for bytes in [0, 1, 1400, 65_507] {
                let packet = datagram(ours, peer, 7, &vec![3; bytes]).unwrap();
                let sliced = parsed(&packet);
                let Some(TransportSlice::Udp(udp)) = &sliced.transport else { panic!() };
                let ports = (udp.source_port(), udp.destination_port());
                assert_eq!((udp.payload().len(), ports), (bytes, (4000, 80)));
            }
            assert_eq!(datagram(ours, peer, 7, &[0; 65_528]), None);
            let reply = echo([peer.ip(), ours.ip()], true, 64, [5, 6], b"abc").unwrap();
            parsed(&reply);
            assert!(reply.ends_with(b"\0\x05\0\x06abc"));
            let (to, payload) = (SocketAddr::new(peer.ip(), 9), b"lost".to_vec());
            let icmp_type = if peer.is_ipv4() { 3 } else { 1 };
            let said = IcmpError { from: peer.ip(), icmp_type, code: 1, info: 0, to, payload };
            let about = error(ours, false, &said).unwrap();
            parsed(&about);
            assert!(about.ends_with(&datagram(ours, to, HOPS, b"lost").unwrap()));
            let about = error(ours, true, &said).unwrap();
            assert!(about.ends_with(&echo([ours.ip(), to.ip()], false, HOPS, [4000, 9], b"lost").unwrap()));
        }
        let [ours, peer] = [ENDS[0][0], ENDS[1][1]].map(|end| end.parse().unwrap());
        assert_eq!(datagram(ours, peer, 1, b""), None, "of two families");
    }
}
