//! Frames towards the guest: one buffer, used again and again, and what is in every frame.

use super::{
    checksum::Sum,
    network::{Mac, Network},
    packet::{ICMPV6, IpHead, UDP},
    stats::{DropReason, Stats},
};
use crate::{
    edges::Guest,
    frame::{HEADER_BYTES, Header, MAX_FRAME_BYTES, Offload},
};
use std::{collections::BTreeMap, net::IpAddr};

pub(super) const ETHERNET_BYTES: usize = 14;
/// Without the frame check sequence.
const MIN_FRAME_BYTES: usize = 60;
const ETHERTYPE_V4: u16 = 0x0800;
const ETHERTYPE_V6: u16 = 0x86dd;

/// Which Ethernet address an address of the guest's has: learnt from what it sends.
#[derive(Debug)]
pub(super) struct Neighbours {
    limit: usize,
    known: BTreeMap<IpAddr, (Mac, u64)>,
    uses: u64,
    /// Who was learnt last: mostly, it is the same again.
    last: Option<(IpAddr, Mac)>,
}

impl Neighbours {
    /// Of so many stations; the oldest goes.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, known: BTreeMap::new(), uses: 0, last: None }
    }

    /// Returns whether it is news.
    pub(super) fn learn(&mut self, address: IpAddr, mac: Mac) -> bool {
        if self.last == Some((address, mac)) {
            return false;
        }
        self.last = Some((address, mac));
        self.uses += 1;
        let uses = self.uses;
        if let Some(known) = self.known.get_mut(&address) {
            let news = known.0 != mac;
            *known = (mac, uses);
            return news;
        }
        if self.known.len() >= self.limit {
            let oldest = self.known.iter().min_by_key(|(_, (_, used))| *used).map(|(address, _)| *address);
            oldest.map(|address| self.known.remove(&address));
        }
        self.known.insert(address, (mac, uses));
        true
    }

    pub(super) fn get(&self, address: IpAddr) -> Option<Mac> {
        match address {
            IpAddr::V6(v6) if v6.is_multicast() => {
                let o = v6.octets();
                Some([0x33, 0x33, o[12], o[13], o[14], o[15]])
            }
            IpAddr::V4(v4) if v4.is_broadcast() => Some([0xff; 6]),
            _ => match self.last {
                Some((last, mac)) if last == address => Some(mac),
                _ => self.known.get(&address).map(|(mac, _)| *mac),
            },
        }
    }

    /// Who was heard last of those that are meant, and when, as [`Neighbours::mark`] counts.
    pub(super) fn latest(&self, is_meant: impl Fn(&IpAddr) -> bool) -> Option<(u64, IpAddr)> {
        let meant = self.known.iter().filter(|(address, _)| is_meant(address));
        meant.map(|(address, (_, used))| (*used, *address)).max()
    }

    /// Something happened between what was heard before and what will be.
    pub(super) fn mark(&mut self) -> u64 {
        self.uses += 1;
        self.last = None;
        self.uses
    }

    pub(super) fn forget(&mut self, address: IpAddr) {
        self.known.remove(&address);
        self.last = None;
    }

    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.last = None;
    }
}

/// Everything that a frame towards the guest needs.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) network: Network,
    pub(super) offload: Offload,
    pub(super) neighbours: Neighbours,
    pub(super) stats: Stats,
    /// The frame that is being made; zeroed to its length before it is filled.
    frame: Vec<u8>,
    ident: u16,
}

impl Output {
    pub(super) fn new(network: Network, neighbours: usize) -> Self {
        Self {
            network,
            offload: Offload::default(),
            neighbours: Neighbours::new(neighbours),
            stats: Stats::default(),
            frame: vec![0; MAX_FRAME_BYTES],
            ident: 0,
        }
    }

    /// Room for a frame of `bytes`, an Ethernet header in front.
    pub(super) fn has_room(guest: &dyn Guest, bytes: usize) -> bool {
        guest.room() >= HEADER_BYTES + bytes.max(MIN_FRAME_BYTES)
    }

    /// A frame of an Ethernet header and `bytes` more, which `fill` writes.
    pub(super) fn ethernet(
        &mut self,
        guest: &mut dyn Guest,
        to: Mac,
        ethertype: u16,
        bytes: usize,
        fill: impl FnOnce(&mut [u8]),
    ) {
        if !Self::has_room(guest, ETHERNET_BYTES + bytes) {
            self.stats.dropped(DropReason::NoRoom);
            return;
        }
        let frame = &mut self.frame[..ETHERNET_BYTES + bytes];
        frame.fill(0);
        fill(&mut frame[ETHERNET_BYTES..]);
        self.send(guest, to, ethertype, bytes, &Header::default());
    }

    /// Where a segment is written before [`Output::send`] takes it; not zeroed.
    pub(super) fn payload_mut(&mut self, bytes: usize) -> &mut [u8] {
        &mut self.frame[ETHERNET_BYTES..ETHERNET_BYTES + bytes]
    }

    /// Sends what [`Output::payload_mut`] holds. The caller has seen that there is room.
    pub(super) fn send(
        &mut self,
        guest: &mut dyn Guest,
        to: Mac,
        ethertype: u16,
        bytes: usize,
        header: &Header,
    ) {
        self.frame[..6].copy_from_slice(&to);
        self.frame[6..12].copy_from_slice(&self.network.mac);
        self.frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
        let mut length = ETHERNET_BYTES + bytes;
        if length < MIN_FRAME_BYTES {
            self.frame[length..MIN_FRAME_BYTES].fill(0);
            length = MIN_FRAME_BYTES;
        }
        self.stats.frames_to_guest += 1;
        self.stats.bytes_to_guest += length as u64;
        guest.frame(header, &self.frame[..length]);
    }

    /// The first of so many identifications of packets.
    pub(super) fn idents(&mut self, count: usize) -> u16 {
        let first = self.ident.wrapping_add(1);
        self.ident = self.ident.wrapping_add(count as u16);
        first
    }

    /// An IP packet for an address of the guest's, in fragments if the link is too narrow. `payload` has its checksum.
    pub(super) fn packet(&mut self, guest: &mut dyn Guest, head: &IpHead, payload: &[u8]) {
        let Some(mac) = self.neighbours.get(head.destination) else {
            self.stats.dropped(DropReason::NoRoom);
            return;
        };
        let head_bytes = head.bytes();
        let mtu = usize::from(self.network.mtu);
        let ident = self.idents(1);
        if head_bytes + payload.len() <= mtu {
            self.ethernet(guest, mac, ethertype(head.destination), head_bytes + payload.len(), |to| {
                head.write(to, payload.len(), ident, 0);
                to[head_bytes..].copy_from_slice(payload);
            });
            return;
        }
        let extension = if head.destination.is_ipv6() { 8 } else { 0 };
        let piece = (mtu - head_bytes - extension) & !7;
        for (number, part) in payload.chunks(piece).enumerate() {
            let offset = number * piece;
            let more = offset + part.len() < payload.len();
            let bytes = head_bytes + extension + part.len();
            self.ethernet(guest, mac, ethertype(head.destination), bytes, |to| {
                if extension == 0 {
                    head.write(to, part.len(), ident, (offset / 8) as u16 | u16::from(more) << 13);
                } else {
                    IpHead { protocol: 44, ..*head }.write(to, 8 + part.len(), 0, 0);
                    to[40] = head.protocol;
                    to[42..44].copy_from_slice(&(offset as u16 | u16::from(more)).to_be_bytes());
                    to[46..48].copy_from_slice(&ident.to_be_bytes());
                }
                to[head_bytes + extension..].copy_from_slice(part);
            });
        }
    }

    /// A UDP datagram towards the guest. Its length is at most what IP carries.
    pub(super) fn datagram(&mut self, guest: &mut dyn Guest, head: &IpHead, ports: [u16; 2], data: &[u8]) {
        let mut udp = Vec::with_capacity(8 + data.len());
        for word in [ports[0], ports[1], (8 + data.len()) as u16, 0] {
            udp.extend(word.to_be_bytes());
        }
        udp.extend(data);
        let sum = Sum::pseudo(head.source, head.destination, UDP, udp.len()).add(&udp).finished_udp();
        udp[6..8].copy_from_slice(&sum.to_be_bytes());
        self.packet(guest, &IpHead { protocol: UDP, ..*head }, &udp);
    }

    /// An ICMP or ICMPv6 message, whose checksum is still to be filled in.
    pub(super) fn icmp(&mut self, guest: &mut dyn Guest, head: &IpHead, message: &mut [u8]) {
        let sum = match head.protocol {
            ICMPV6 => Sum::pseudo(head.source, head.destination, ICMPV6, message.len()),
            _ => Sum::default(),
        };
        message[2..4].fill(0);
        let sum = sum.add(message).finished();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        self.packet(guest, head, message);
    }
}

pub(super) fn ethertype(address: IpAddr) -> u16 {
    if address.is_ipv4() { ETHERTYPE_V4 } else { ETHERTYPE_V6 }
}
