//! A network card for smoltcp in the guest's role: IP packets inside, messages of a net port outside.

use super::{harness, parse::GUEST_MAC};
use crate::{
    Network,
    core::{checksum::Sum, packet::UDP},
    frame::{GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, HEADER_BYTES, Header, NEEDS_CSUM},
};
use smoltcp::{
    phy::{self, ChecksumCapabilities, DeviceCapabilities, Medium},
    time::Instant,
};
use std::{collections::VecDeque, net::IpAddr, num::NonZeroUsize};

/// The guest's network card.
pub(crate) struct Card {
    pub(crate) ingress: VecDeque<Vec<u8>>,
    pub(crate) egress: Vec<Vec<u8>>,
    mtu: usize,
    tso: bool,
    csum: bool,
}

impl Card {
    pub(crate) fn new(mtu: usize, tso: bool, csum: bool) -> Self {
        Self { ingress: VecDeque::new(), egress: Vec::new(), mtu, tso, csum }
    }

    /// Makes a message of an IP packet.
    pub(crate) fn message(&self, mut packet: Vec<u8>) -> Vec<u8> {
        let v6 = packet[0] >> 4 == 6;
        let ip_bytes = if v6 { 40 } else { 20 };
        if !v6 {
            let sum = Sum::default().add(&packet[..20]).finished();
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        let (source, destination): (IpAddr, IpAddr) = if v6 {
            let at = |at: usize| <[u8; 16]>::try_from(&packet[at..at + 16]).unwrap().into();
            (at(8), at(24))
        } else {
            let at = |at: usize| <[u8; 4]>::try_from(&packet[at..at + 4]).unwrap().into();
            (at(12), at(16))
        };
        let pseudo = Sum::pseudo(source, destination, 6, packet.len() - ip_bytes);
        let mut header = Header::default();
        let sum = if self.csum {
            header =
                Header { flags: NEEDS_CSUM, csum_start: 14 + ip_bytes as u16, csum_offset: 16, ..header };
            pseudo.folded()
        } else {
            pseudo.add(&packet[ip_bytes..]).finished()
        };
        packet[ip_bytes + 16..ip_bytes + 18].copy_from_slice(&sum.to_be_bytes());
        if packet.len() > self.mtu {
            header.gso_type = if v6 { GSO_TCPV6 } else { GSO_TCPV4 };
            header.gso_size = 1400;
        }
        let mut message = header.encode().to_vec();
        message.extend(Network::default().mac);
        message.extend(GUEST_MAC);
        message.extend(if v6 { [0x86, 0xdd] } else { [8, 0] });
        message.extend(packet);
        message
    }
}

pub(crate) struct Rx(Vec<u8>);

impl phy::RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

pub(crate) struct Tx<'a>(&'a mut Vec<Vec<u8>>);

impl phy::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, bytes: usize, f: F) -> R {
        let mut packet = vec![0; bytes];
        let result = f(&mut packet);
        self.0.push(packet);
        result
    }
}

impl phy::Device for Card {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        Some((Rx(self.ingress.pop_front()?), Tx(&mut self.egress)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        (self.egress.len() < 64).then_some(Tx(&mut self.egress))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.checksum = ChecksumCapabilities::ignored();
        caps.max_transmission_unit = if self.tso { 65_535 } else { self.mtu };
        if self.tso {
            caps.segmentation.tcpv4 = NonZeroUsize::new(65_535);
            caps.segmentation.tcpv6 = caps.segmentation.tcpv4;
        }
        caps
    }
}

/// The IP packet in a frame; `None` if it holds none.
pub(crate) fn packet_of(frame: &[u8]) -> Option<Vec<u8>> {
    let length = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    match frame[12..14] {
        [8, 0] => Some(frame[14..14 + length(16)].to_vec()),
        [0x86, 0xdd] => Some(frame[14..54 + length(18)].to_vec()),
        _ => None,
    }
}

/// A datagram of the guest's, in frames of at most 1500 bytes of IPv4.
pub(crate) fn udp_frames(from: &str, to: &str, data: &[u8]) -> Vec<Vec<u8>> {
    let (head, payload) = harness::datagram(from, to, data);
    let last = payload.len().div_ceil(1480) - 1;
    let pieces = payload.chunks(1480).enumerate();
    let piece = |(number, piece): (usize, &[u8])| {
        let mut frame = harness::frame(&head, piece);
        let parts = ((number * 1480 / 8) as u16) | (u16::from(number < last) << 13);
        head.write(&mut frame[14..], piece.len(), 77, parts);
        frame
    };
    pieces.map(piece).collect()
}

/// A message with a datagram of the guest's, or with a train of datagrams of `piece` bytes unless that is 0.
pub(crate) fn udp_message(from: &str, to: &str, data: &[u8], piece: usize) -> Vec<u8> {
    let (head, mut payload) = harness::datagram(from, to, data);
    let mut header = Header::default();
    if piece > 0 {
        let sum = Sum::pseudo(head.source, head.destination, UDP, payload.len()).folded();
        payload[6..8].copy_from_slice(&sum.to_be_bytes());
        header = Header {
            flags: NEEDS_CSUM,
            gso_type: GSO_UDP_L4,
            gso_size: piece as u16,
            hdr_len: (14 + head.bytes() + 8) as u16,
            csum_start: (14 + head.bytes()) as u16,
            csum_offset: 6,
            ..header
        };
    }
    let mut message = header.encode().to_vec();
    message.extend(harness::frame(&head, &payload));
    message
}

#[test]
fn a_message_of_the_card_is_one() {
    let card = Card::new(1500, false, false);
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 2, 15, 1, 2, 3, 4];
    packet.extend([0; 20]);
    assert_eq!(card.message(packet).len(), HEADER_BYTES + 14 + 40);
}
