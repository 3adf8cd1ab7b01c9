//! The device that smoltcp believes to have: one packet of the guest in, segments out into frames.
//!
//! With TSO its MTU is as large as IP's, and what is longer than the link becomes a GSO frame here. smoltcp's own
//! `gso_size` is not used: 0.14 leaves it out for IPv6, and drops there what is longer than its MTU.

use super::{
    guard::Guard,
    segment::{SYN, Segment},
};
use crate::{
    core::{
        checksum::Sum,
        network::Mac,
        output::{ETHERNET_BYTES, Output, ethertype},
        packet::TCP,
    },
    edges::Guest,
    frame::{GSO_TCPV4, GSO_TCPV6, Header, NEEDS_CSUM},
};
use smoltcp::{
    phy::{self, ChecksumCapabilities, DeviceCapabilities, Medium},
    time::Instant,
};
use std::{net::IpAddr, num::NonZeroUsize};

/// The longest IP packet, and what a GSO frame may hold.
const MAX_IP_BYTES: usize = 65_535;

/// What an interface is made with. It remembers them, so a change of offloads makes new ones.
pub(super) fn capabilities(out: &Output, v6: bool) -> DeviceCapabilities {
    let tso = takes_tso(out, v6);
    let mut caps = DeviceCapabilities::default();
    caps.medium = Medium::Ip;
    caps.max_transmission_unit = if tso { MAX_IP_BYTES } else { usize::from(out.network.mtu) };
    // Both directions are done here, where it is known who has to.
    caps.checksum = ChecksumCapabilities::ignored();
    if tso {
        caps.segmentation.tcpv4 = NonZeroUsize::new(MAX_IP_BYTES);
        caps.segmentation.tcpv6 = caps.segmentation.tcpv4;
    }
    caps
}

fn takes_tso(out: &Output, v6: bool) -> bool {
    out.offload.csum && if v6 { out.offload.tso6 } else { out.offload.tso4 }
}

/// For one step of one flow.
pub(super) struct Device<'a> {
    pub(super) ingress: Option<&'a [u8]>,
    pub(super) out: &'a mut Output,
    pub(super) guest: &'a mut dyn Guest,
    pub(super) guard: &'a mut Guard,
    pub(super) to: Mac,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// The longest segment that the guest takes, by its SYN.
    pub(super) guest_mss: u16,
    /// How many frames went out.
    pub(super) sent: usize,
    /// A frame was wanted, and there was no room.
    pub(super) starved: bool,
}

impl Device<'_> {
    fn packet_bytes(&self) -> usize {
        let v6 = self.destination.is_ipv6();
        if takes_tso(self.out, v6) { MAX_IP_BYTES } else { usize::from(self.out.network.mtu) }
    }

    /// Finishes the packet of so many bytes that smoltcp has written.
    fn finish(&mut self, bytes: usize) {
        let v6 = self.destination.is_ipv6();
        let ip_bytes = if v6 { 40 } else { 20 };
        let mtu = usize::from(self.out.network.mtu);
        let csum = self.out.offload.csum;
        let packet = self.out.payload_mut(bytes);
        let (ip, tcp) = packet.split_at_mut(ip_bytes);
        if !v6 {
            let sum = Sum::default().add(ip).finished();
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        let Some(segment) = Segment::read(tcp) else { return };
        self.guard.emitted(&segment);
        let (header_bytes, payload_bytes) = (segment.header_bytes, segment.payload.len());
        let options = header_bytes - 20;
        if segment.has(SYN)
            && let Some((at, _)) = segment.option(2)
        {
            let mss = (mtu - ip_bytes - 20) as u16;
            tcp[20 + at + 2..20 + at + 4].copy_from_slice(&mss.to_be_bytes());
        }
        let piece = usize::from(self.guest_mss).min(mtu - ip_bytes - 20).saturating_sub(options).max(1);
        let mut header = Header::default();
        if payload_bytes > piece {
            header.gso_type = if v6 { GSO_TCPV6 } else { GSO_TCPV4 };
            header.gso_size = piece as u16;
            header.hdr_len = (ETHERNET_BYTES + ip_bytes + header_bytes) as u16;
        }
        tcp[16..18].fill(0);
        let pseudo = Sum::pseudo(self.source, self.destination, TCP, tcp.len());
        let sum = if csum {
            header.flags = NEEDS_CSUM;
            header.csum_start = (ETHERNET_BYTES + ip_bytes) as u16;
            header.csum_offset = 16;
            pseudo.folded()
        } else {
            pseudo.add(tcp).finished()
        };
        self.out.payload_mut(bytes)[ip_bytes + 16..ip_bytes + 18].copy_from_slice(&sum.to_be_bytes());
        self.out.send(self.guest, self.to, ethertype(self.destination), bytes, &header);
        self.sent += 1;
    }
}

pub(super) struct Ingress<'a>(&'a [u8]);

impl phy::RxToken for Ingress<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

pub(super) struct Egress<'b, 'a>(&'b mut Device<'a>);

impl phy::TxToken for Egress<'_, '_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, bytes: usize, f: F) -> R {
        // An answer to a segment asks for no room beforehand; without any it is lost, and will be asked for again.
        let room = Output::has_room(self.0.guest, ETHERNET_BYTES + bytes);
        let result = f(self.0.out.payload_mut(bytes));
        if room {
            self.0.finish(bytes);
        } else {
            self.0.starved = true;
        }
        result
    }
}

impl<'a> phy::Device for Device<'a> {
    type RxToken<'b>
        = Ingress<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Egress<'b, 'a>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(Ingress<'_>, Egress<'_, 'a>)> {
        Some((Ingress(self.ingress.take()?), Egress(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Egress<'_, 'a>> {
        if !Output::has_room(self.guest, ETHERNET_BYTES + self.packet_bytes()) {
            self.starved = true;
            return None;
        }
        Some(Egress(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.out, self.destination.is_ipv6())
    }
}

/// What an interface sees when it is made: nothing but capabilities.
pub(super) struct Blueprint(pub(super) DeviceCapabilities);

pub(super) struct Never;

impl phy::RxToken for Never {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&[])
    }
}

impl phy::TxToken for Never {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, bytes: usize, f: F) -> R {
        f(&mut vec![0; bytes])
    }
}

impl phy::Device for Blueprint {
    type RxToken<'a> = Never;
    type TxToken<'a> = Never;

    fn receive(&mut self, _: Instant) -> Option<(Never, Never)> {
        None
    }

    fn transmit(&mut self, _: Instant) -> Option<Never> {
        None
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.0.clone()
    }
}
