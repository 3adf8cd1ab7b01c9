//! What the device looks at in a frame.

use reprise_plugin_api::net::{self, Header, VLAN_TAG_BYTES};

/// An Ethernet address.
pub(crate) type Mac = [u8; 6];
/// Everybody.
pub(crate) const BROADCAST: Mac = [0xff; 6];

/// EtherType of a VLAN tag. IEEE 802.1Q.
const ETHERTYPE_VLAN: u16 = 0x8100;
/// EtherType of IPv6. RFC 2464.
const ETHERTYPE_IPV6: u16 = 0x86dd;

pub(crate) fn is_multicast(mac: Mac) -> bool {
    mac[0] & 1 != 0
}

/// `None`: it has no Ethernet header.
pub(crate) fn destination(ethernet: &[u8]) -> Option<Mac> {
    if ethernet.len() < net::ETHERNET_BYTES {
        return None;
    }
    ethernet.first_chunk().copied()
}

fn word(ethernet: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*ethernet.get(at)?, *ethernet.get(at + 1)?]))
}

/// The VLAN id, of a frame that has one.
pub(crate) fn vlan(ethernet: &[u8]) -> Option<u16> {
    let tagged = word(ethernet, 12)? == ETHERTYPE_VLAN;
    tagged.then(|| word(ethernet, 14)).flatten().map(|tag| tag & 0xfff)
}

/// Bytes before the packet.
pub(crate) fn ethernet_bytes(ethernet: &[u8]) -> usize {
    net::ETHERNET_BYTES + if vlan(ethernet).is_some() { VLAN_TAG_BYTES } else { 0 }
}

/// Whether the packet in it is of IPv6.
pub(crate) fn is_ipv6(ethernet: &[u8]) -> bool {
    word(ethernet, ethernet_bytes(ethernet) - 2) == Some(ETHERTYPE_IPV6)
}

/// What is wrong with a header, whoever made it.
pub(crate) fn fault(header: &Header, frame_len: usize) -> Option<&'static str> {
    let checksum = header.flags & net::NEEDS_CSUM != 0;
    if checksum && header.checksum_at(frame_len).is_none() {
        return Some("a checksum outside the frame");
    }
    if header.gso_type == net::GSO_NONE {
        return None;
    }
    match header.gso_type & !net::GSO_ECN {
        net::GSO_TCPV4 | net::GSO_TCPV6 => (),
        net::GSO_UDP_L4 if header.gso_type & net::GSO_ECN == 0 => (),
        _ => return Some("an unknown kind of segments"),
    }
    if !checksum {
        return Some("segments without a checksum to make");
    }
    (header.gso_size == 0).then_some("segments of no bytes")
}
