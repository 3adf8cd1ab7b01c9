//! Who has that address: ARP (RFC 826) and neighbour discovery (RFC 4861).

use super::{
    network::Mac,
    output::Output,
    packet::{ICMPV6, IpHead, Packet},
    stats::DropReason,
};
use crate::edges::Guest;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) const ETHERTYPE_ARP: u16 = 0x0806;
const ROUTER_SOLICITATION: u8 = 133;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REQUEST: u8 = 1;
const REPLY: u8 = 2;

fn arp_message(to: &mut [u8], operation: u8, from: (Mac, Ipv4Addr), whom: (Mac, Ipv4Addr)) {
    to[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, operation]);
    to[8..14].copy_from_slice(&from.0);
    to[14..18].copy_from_slice(&from.1.octets());
    to[18..24].copy_from_slice(&whom.0);
    to[24..28].copy_from_slice(&whom.1.octets());
}

/// What a message of neighbour discovery asks beyond an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Nothing,
    /// A router advertisement.
    Router,
}

impl Output {
    /// Answers an ARP request for one of our addresses, and learns from it. Returns whether a neighbour is new.
    pub(super) fn arp(
        &mut self,
        guest: &mut dyn Guest,
        source: Mac,
        message: &[u8],
    ) -> Result<bool, DropReason> {
        let Some((message, _)) = message.split_first_chunk::<28>() else { return Err(DropReason::Truncated) };
        if message[..7] != [0, 1, 8, 0, 6, 4, 0] || message[8..14] != source {
            return Err(DropReason::Malformed);
        }
        let address =
            |at: usize| Ipv4Addr::new(message[at], message[at + 1], message[at + 2], message[at + 3]);
        let (sender, target) = (address(14), address(24));
        // A probe (RFC 5227) has no address yet: it is answered, and nothing is learnt.
        let probe = sender.is_unspecified();
        if !probe && !self.network.is_guests(sender.into()) {
            return Err(DropReason::Spoofed);
        }
        let news = !probe && self.neighbours.learn(sender.into(), source);
        if message[7] == REQUEST && self.network.is_ours(target.into()) {
            let mac = self.network.mac;
            self.ethernet(guest, source, ETHERTYPE_ARP, 28, |to| {
                arp_message(to, REPLY, (mac, target), (source, sender));
            });
        }
        Ok(news)
    }

    /// Asks for a guest's Ethernet address.
    pub(super) fn ask_neighbour(&mut self, guest: &mut dyn Guest, whom: IpAddr) {
        let mac = self.network.mac;
        match (whom, self.network.v4) {
            (IpAddr::V4(whom), Some(v4)) => {
                self.ethernet(guest, [0xff; 6], ETHERTYPE_ARP, 28, |to| {
                    arp_message(to, REQUEST, (mac, v4.gateway), ([0; 6], whom));
                });
            }
            (IpAddr::V4(_), None) => {}
            (IpAddr::V6(whom), _) => {
                let o = whom.octets();
                let group =
                    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, o[13], o[14], o[15]]);
                let mut message = vec![NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
                message.extend(o);
                message.extend([1, 1]);
                message.extend(mac);
                self.neighbour_message(guest, group, &mut message);
            }
        }
    }

    fn neighbour_message(&mut self, guest: &mut dyn Guest, to: Ipv6Addr, message: &mut [u8]) {
        let head = IpHead {
            source: self.network.link_local.into(),
            destination: to.into(),
            protocol: ICMPV6,
            hops: 255,
        };
        self.icmp(guest, &head, message);
    }

    /// Reads a message of neighbour discovery (types 133 to 137), whose checksum holds. Says whether a neighbour is
    /// new, and what is asked.
    pub(super) fn neighbour_discovery(
        &mut self,
        guest: &mut dyn Guest,
        source: Mac,
        packet: &Packet<'_>,
    ) -> Result<(bool, Asked), DropReason> {
        let message = packet.payload;
        if packet.hops != 255 || message.len() < 8 || message[1] != 0 {
            return Err(DropReason::Malformed);
        }
        let IpAddr::V6(sender) = packet.source else { return Err(DropReason::Malformed) };
        let news = !sender.is_unspecified() && self.neighbours.learn(sender.into(), source);
        if message[0] == ROUTER_SOLICITATION {
            return Ok((news, Asked::Router));
        }
        if message[0] != NEIGHBOUR_SOLICITATION {
            return Ok((news, Asked::Nothing));
        }
        let Some((target, _)) = message[8..].split_first_chunk::<16>() else {
            return Err(DropReason::Truncated);
        };
        if self.network.is_ours(Ipv6Addr::from(*target).into()) {
            // Router, solicited (not towards somebody without an address), override.
            let flags = if sender.is_unspecified() { 0xa0 } else { 0xe0 };
            let mut answer = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
            answer.extend(target);
            answer.extend([2, 1]);
            answer.extend(self.network.mac);
            let to =
                if sender.is_unspecified() { Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1) } else { sender };
            let target = Ipv6Addr::from(*target);
            let head = IpHead { source: target.into(), destination: to.into(), protocol: ICMPV6, hops: 255 };
            self.icmp(guest, &head, &mut answer);
        }
        Ok((news, Asked::Nothing))
    }
}
