//! IP packets of the guest, read with suspicion.

use super::{checksum::Sum, stats::DropReason};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

/// Extension headers in a row that we follow.
const MAX_EXTENSIONS: usize = 8;

/// Which part of a packet this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    pub(super) id: u32,
    pub(super) offset: usize,
    pub(super) more: bool,
}

/// A packet whose headers are consistent. Its transport is not checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: u8,
    pub(super) hops: u8,
    pub(super) fragment: Option<Fragment>,
    /// All of it, without what Ethernet padded.
    pub(super) bytes: &'a [u8],
    /// Where `payload` begins in `bytes`.
    pub(super) header_bytes: usize,
    pub(super) payload: &'a [u8],
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

impl<'a> Packet<'a> {
    /// Reads an IPv4 packet (RFC 791).
    pub(super) fn v4(bytes: &'a [u8]) -> Result<Self, DropReason> {
        if bytes.len() < 20 {
            return Err(DropReason::Truncated);
        }
        let (header_bytes, total) = (usize::from(bytes[0] & 15) * 4, usize::from(word(bytes, 2)));
        if bytes[0] >> 4 != 4 || header_bytes < 20 || total < header_bytes {
            return Err(DropReason::Malformed);
        }
        if total > bytes.len() {
            return Err(DropReason::Truncated);
        }
        if Sum::default().add(&bytes[..header_bytes]).folded() != 0xffff {
            return Err(DropReason::Checksum);
        }
        check_options(&bytes[20..header_bytes])?;
        let parts = word(bytes, 6);
        let fragment = Fragment {
            id: u32::from(word(bytes, 4)),
            offset: usize::from(parts & 0x1fff) * 8,
            more: parts & 0x2000 != 0,
        };
        let address = |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
        Ok(Self {
            source: address(12).into(),
            destination: address(16).into(),
            protocol: bytes[9],
            hops: bytes[8],
            fragment: (fragment.more || fragment.offset != 0).then_some(fragment),
            bytes: &bytes[..total],
            header_bytes,
            payload: &bytes[header_bytes..total],
        })
    }

    /// Reads an IPv6 packet (RFC 8200) up to its transport.
    pub(super) fn v6(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let Some((head, _)) = bytes.split_first_chunk::<40>() else { return Err(DropReason::Truncated) };
        if head[0] >> 4 != 6 {
            return Err(DropReason::Malformed);
        }
        let total = 40 + usize::from(word(head, 4));
        if total > bytes.len() {
            return Err(DropReason::Truncated);
        }
        let address = |at: usize| {
            let octets: [u8; 16] = std::array::from_fn(|i| head[at + i]);
            IpAddr::from(Ipv6Addr::from(octets))
        };
        let mut packet = Self {
            source: address(8),
            destination: address(24),
            protocol: head[6],
            hops: head[7],
            fragment: None,
            bytes: &bytes[..total],
            header_bytes: 40,
            payload: &bytes[40..total],
        };
        packet.skip_extensions()?;
        Ok(packet)
    }

    fn skip_extensions(&mut self) -> Result<(), DropReason> {
        const HOP_BY_HOP: u8 = 0;
        const ROUTING: u8 = 43;
        const FRAGMENT: u8 = 44;
        const DESTINATION: u8 = 60;
        for _ in 0..MAX_EXTENSIONS {
            let header = self.protocol;
            if ![HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION].contains(&header) || self.fragment.is_some() {
                return Ok(());
            }
            let Some((head, _)) = self.payload.split_first_chunk::<8>() else {
                return Err(DropReason::Truncated);
            };
            let bytes = if header == FRAGMENT { 8 } else { (usize::from(head[1]) + 1) * 8 };
            if bytes > self.payload.len() {
                return Err(DropReason::Truncated);
            }
            if header == ROUTING && head[3] != 0 {
                return Err(DropReason::Options);
            }
            if header == FRAGMENT {
                let parts = word(head, 2);
                let id = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
                let fragment = Fragment { id, offset: usize::from(parts & 0xfff8), more: parts & 1 != 0 };
                // An atomic fragment (RFC 6946) is a whole packet.
                self.fragment = (fragment.more || fragment.offset != 0).then_some(fragment);
            }
            self.protocol = head[0];
            self.payload = &self.payload[bytes..];
            self.header_bytes += bytes;
        }
        Err(DropReason::Options)
    }

    /// Whether the transport's checksum holds; it covers the pseudo header if `pseudo`.
    pub(super) fn checksum_holds(&self, pseudo: bool) -> bool {
        let sum = match pseudo {
            true => Sum::pseudo(self.source, self.destination, self.protocol, self.payload.len()),
            false => Sum::default(),
        };
        sum.add(self.payload).folded() == 0xffff
    }
}

/// Source routing would let the guest choose a way around the policy; everything else is ignored.
fn check_options(mut options: &[u8]) -> Result<(), DropReason> {
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;
    while let [kind, rest @ ..] = options {
        match kind {
            0 => return Ok(()),
            1 => options = rest,
            &LOOSE_SOURCE_ROUTE | &STRICT_SOURCE_ROUTE => return Err(DropReason::Options),
            _ => {
                let bytes = usize::from(*rest.first().ok_or(DropReason::Malformed)?);
                if bytes < 2 || bytes > options.len() {
                    return Err(DropReason::Malformed);
                }
                options = &options[bytes..];
            }
        }
    }
    Ok(())
}

/// The header of a packet that we send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IpHead {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) hops: u8,
}

impl IpHead {
    pub(crate) fn bytes(&self) -> usize {
        if self.destination.is_ipv4() { 20 } else { 40 }
    }

    /// Writes the header of a packet with so many bytes of payload. `id` and `parts` are IPv4's fragment words.
    pub(crate) fn write(&self, to: &mut [u8], payload_bytes: usize, id: u16, parts: u16) {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                to[0] = 0x45;
                to[1] = 0;
                to[2..4].copy_from_slice(&((20 + payload_bytes) as u16).to_be_bytes());
                to[4..6].copy_from_slice(&id.to_be_bytes());
                to[6..8].copy_from_slice(&parts.to_be_bytes());
                to[8] = self.hops;
                to[9] = self.protocol;
                to[10..12].fill(0);
                to[12..16].copy_from_slice(&source.octets());
                to[16..20].copy_from_slice(&destination.octets());
                let sum = Sum::default().add(&to[..20]).finished();
                to[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                to[..4].copy_from_slice(&[0x60, 0, 0, 0]);
                to[4..6].copy_from_slice(&(payload_bytes as u16).to_be_bytes());
                to[6] = self.protocol;
                to[7] = self.hops;
                to[8..24].copy_from_slice(&source.octets());
                to[24..40].copy_from_slice(&destination.octets());
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                unreachable!("a packet from {} to {}", self.source, self.destination)
            }
        }
    }
}
