//! Datagrams towards the guest: in trains, if its driver takes them (virtio 1.2 §5.1.6, VIRTIO_NET_HDR_GSO_UDP_L4).

use super::{
    checksum::Sum,
    output::{ETHERNET_BYTES, Output, ethertype},
    packet::{IpHead, UDP},
    stats::DropReason,
};
use crate::{
    edges::Guest,
    frame::{GSO_UDP_L4, Header, NEEDS_CSUM},
};

/// Datagrams in a train, at most: as many as every Linux takes apart.
const MOST: usize = 64;
/// The longest IP packet.
const MAX_IP_BYTES: usize = 65_535;
const UDP_BYTES: usize = 8;

/// Datagrams of one flow that may become one frame: all as long as the first, the last one perhaps shorter.
#[derive(Default)]
struct Run<'a> {
    pieces: Vec<&'a [u8]>,
    bytes: usize,
}

impl<'a> Run<'a> {
    fn takes(&self, piece: &[u8], head_bytes: usize) -> bool {
        let (Some(first), Some(last)) = (self.pieces.first(), self.pieces.last()) else { return true };
        first.len() == last.len()
            && (1..=first.len()).contains(&piece.len())
            && self.pieces.len() < MOST
            && head_bytes + self.bytes + piece.len() <= MAX_IP_BYTES
    }

    fn push(&mut self, piece: &'a [u8]) {
        self.bytes += piece.len();
        self.pieces.push(piece);
    }
}

impl Output {
    /// Datagrams towards the guest, in this order. `head` is that of each.
    pub(super) fn datagrams<'a>(
        &mut self,
        guest: &mut dyn Guest,
        head: &IpHead,
        ports: [u16; 2],
        pieces: impl Iterator<Item = &'a [u8]>,
    ) {
        let head_bytes = head.bytes() + UDP_BYTES;
        let mut run = Run::default();
        for piece in pieces {
            // IPv6 does not count its header in the length.
            let counted = if head.destination.is_ipv4() { head_bytes } else { UDP_BYTES };
            if counted + piece.len() > MAX_IP_BYTES {
                // A datagram of IPv6 that IPv4 cannot carry.
                self.stats.dropped(DropReason::Malformed);
                continue;
            }
            if !run.takes(piece, head_bytes) {
                self.run(guest, head, ports, &std::mem::take(&mut run));
            }
            run.push(piece);
        }
        self.run(guest, head, ports, &run);
    }

    fn takes_trains(&self, head: &IpHead, longest: usize) -> bool {
        let offload = self.offload;
        let takes = if head.destination.is_ipv6() { offload.uso6 } else { offload.uso4 };
        offload.csum && takes && head.bytes() + UDP_BYTES + longest <= usize::from(self.network.mtu)
    }

    fn run(&mut self, guest: &mut dyn Guest, head: &IpHead, ports: [u16; 2], run: &Run<'_>) {
        match run.pieces.first() {
            Some(first) if run.pieces.len() > 1 && self.takes_trains(head, first.len()) => {
                self.train(guest, head, ports, run, first.len());
            }
            _ => run.pieces.iter().for_each(|piece| self.datagram(guest, head, ports, piece)),
        }
    }

    /// One frame: headers as of one long datagram, whose checksum covers the pseudo header only (as Linux has them).
    fn train(&mut self, guest: &mut dyn Guest, head: &IpHead, ports: [u16; 2], run: &Run<'_>, piece: usize) {
        let ip_bytes = head.bytes();
        let bytes = ip_bytes + UDP_BYTES + run.bytes;
        let room = Self::has_room(guest, ETHERNET_BYTES + bytes);
        let Some(mac) = self.neighbours.get(head.destination).filter(|_| room) else {
            self.stats.dropped_many(DropReason::NoRoom, run.pieces.len());
            return;
        };
        let ident = self.idents(run.pieces.len());
        let packet = self.payload_mut(bytes);
        packet[..ip_bytes].fill(0);
        let udp = UDP_BYTES + run.bytes;
        head.write(packet, udp, ident, 0);
        let sum = Sum::pseudo(head.source, head.destination, UDP, udp).folded();
        for (at, word) in [ports[0], ports[1], udp as u16, sum].into_iter().enumerate() {
            packet[ip_bytes + 2 * at..][..2].copy_from_slice(&word.to_be_bytes());
        }
        let mut at = ip_bytes + UDP_BYTES;
        for part in &run.pieces {
            packet[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        let header = Header {
            flags: NEEDS_CSUM,
            gso_type: GSO_UDP_L4,
            gso_size: piece as u16,
            hdr_len: (ETHERNET_BYTES + ip_bytes + UDP_BYTES) as u16,
            csum_start: (ETHERNET_BYTES + ip_bytes) as u16,
            csum_offset: 6,
            ..Header::default()
        };
        self.send(guest, mac, ethertype(head.destination), bytes, &header);
    }
}
