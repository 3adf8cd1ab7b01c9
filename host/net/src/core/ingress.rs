//! Frames of the guest: what they are, whether they may be, and whom they are for.

use super::{
    Core, Turn,
    arp::{Asked, ETHERTYPE_ARP},
    checksum::Sum,
    icmp::Unreachable,
    network::{Mac, Place},
    output::{ETHERNET_BYTES, ethertype},
    packet::{ICMP, ICMPV6, IpHead, Packet, TCP, UDP},
    services::Request,
    stats::DropReason,
    tcp,
};
use crate::{
    frame::{GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, Header, NEEDS_CSUM},
    service::{dns, ra},
};
use std::net::{IpAddr, SocketAddr};

/// Datagrams in a train: as many as Linux puts into one (UDP_MAX_SEGMENTS). Each is a call of the host's.
const TRAIN: usize = 128;
/// Multicast listener discovery, versions 1 and 2 (RFC 2710, RFC 3810), and what IPv4 has for it (RFC 3376).
const MLD: [u8; 4] = [130, 131, 132, 143];
const IGMP: u8 = 2;

impl Core {
    pub(super) fn frame(&mut self, message: &[u8], turn: &mut Turn<'_>) -> Result<(), DropReason> {
        let (header, frame) = Header::decode(message).ok_or(DropReason::Truncated)?;
        let (ethernet, _) = frame.split_first_chunk::<ETHERNET_BYTES>().ok_or(DropReason::Truncated)?;
        let source: Mac = std::array::from_fn(|i| ethernet[6 + i]);
        let ours = ethernet[..6] == self.out.network.mac;
        if !ours && ethernet[0] & 1 == 0 {
            return Err(DropReason::NotForUs);
        }
        if source[0] & 1 != 0 || source == self.out.network.mac || source == [0; 6] {
            return Err(DropReason::Spoofed);
        }
        let finished = finish_checksum(&header, frame)?;
        let frame = finished.as_deref().unwrap_or(frame);
        let bytes = &frame[ETHERNET_BYTES..];
        let packet = match u16::from_be_bytes([ethernet[12], ethernet[13]]) {
            ETHERTYPE_ARP => {
                let news = self.out.arp(turn.guest, source, bytes)?;
                self.learnt(news);
                return Ok(());
            }
            0x0800 => Packet::v4(bytes)?,
            0x86dd => Packet::v6(bytes)?,
            _ => return Err(DropReason::NotForUs),
        };
        self.check_source(&packet)?;
        let verified = header.flags & NEEDS_CSUM != 0 && finished.is_none();
        if packet.fragment.is_none() {
            return self.packet(&packet, &header, source, verified, turn);
        }
        if header.gso() != GSO_NONE {
            return Err(DropReason::BadOffload);
        }
        if let Some(payload) = self.reassembly.add(turn.now, &packet)? {
            let whole = tcp::plain(&packet, &payload);
            let whole = if packet.source.is_ipv4() { Packet::v4(&whole) } else { Packet::v6(&whole) }?;
            self.packet(&whole, &Header::default(), source, false, turn)?;
        }
        Ok(())
    }

    fn learnt(&mut self, news: bool) {
        if news {
            self.tcp.resolved();
            self.retry_stalled();
        }
    }

    /// A guest may send from its own addresses, and from none while it asks for one.
    fn check_source(&self, packet: &Packet<'_>) -> Result<(), DropReason> {
        let asks = packet.source.is_unspecified()
            && (packet.protocol == ICMPV6
                || packet.protocol == UDP && packet.payload.starts_with(&[0, 68, 0, 67]));
        if asks || self.out.network.is_guests(packet.source) { Ok(()) } else { Err(DropReason::Spoofed) }
    }

    fn packet(
        &mut self,
        packet: &Packet<'_>,
        header: &Header,
        source: Mac,
        verified: bool,
        turn: &mut Turn<'_>,
    ) -> Result<(), DropReason> {
        check_gso(header, packet)?;
        if !packet.source.is_unspecified() && packet.protocol != ICMPV6 {
            let news = self.out.neighbours.learn(packet.source, source);
            self.learnt(news);
        }
        match packet.protocol {
            TCP => {
                check(verified || packet.checksum_holds(true), DropReason::Checksum)?;
                if packet.header_bytes > 40 && packet.source.is_ipv6() {
                    let whole = tcp::plain(packet, packet.payload);
                    self.tcp.segment(&Packet::v6(&whole)?, &self.router, turn, &mut self.out);
                } else {
                    self.tcp.segment(packet, &self.router, turn, &mut self.out);
                }
            }
            UDP => return self.datagrams(packet, header, source, verified, turn),
            ICMP if packet.source.is_ipv4() => {
                check(packet.checksum_holds(false), DropReason::Checksum)?;
                self.pings.message(packet, &self.router, turn, &mut self.out);
            }
            ICMPV6 if packet.source.is_ipv6() => {
                check(packet.checksum_holds(true), DropReason::Checksum)?;
                return self.icmpv6(packet, source, turn);
            }
            IGMP if packet.source.is_ipv4() && packet.destination.is_multicast() => {}
            _ => {
                if self.out.network.place(packet.destination) != Place::Multicast {
                    self.out.unreachable(turn.guest, packet, Unreachable::Protocol);
                }
                return Err(DropReason::Protocol);
            }
        }
        Ok(())
    }

    fn icmpv6(&mut self, packet: &Packet<'_>, source: Mac, turn: &mut Turn<'_>) -> Result<(), DropReason> {
        const DISCOVERY: std::ops::RangeInclusive<u8> = 133..=137;
        if !packet.payload.first().is_some_and(|kind| DISCOVERY.contains(kind)) {
            // Which groups somebody listens to matters to nobody here: the link has them all.
            if packet.payload.first().is_some_and(|kind| MLD.contains(kind)) {
                return Ok(());
            }
            check(!packet.source.is_unspecified(), DropReason::Spoofed)?;
            let news = self.out.neighbours.learn(packet.source, source);
            self.learnt(news);
            self.pings.message(packet, &self.router, turn, &mut self.out);
            return Ok(());
        }
        let (news, asked) = self.out.neighbour_discovery(turn.guest, source, packet)?;
        self.learnt(news);
        if let (Asked::Router, IpAddr::V6(from)) = (asked, packet.source)
            && let Some(advertisement) = self.services.solicited(from, packet.payload)
        {
            self.advertise(&advertisement, turn);
        }
        Ok(())
    }

    pub(super) fn advertise(&mut self, advertisement: &ra::Advertisement, turn: &mut Turn<'_>) {
        let head = IpHead {
            source: advertisement.from.into(),
            destination: advertisement.to.into(),
            protocol: ICMPV6,
            hops: 255,
        };
        self.out.packet(turn.guest, &head, &advertisement.message);
    }

    /// One datagram, or a train of them.
    fn datagrams(
        &mut self,
        packet: &Packet<'_>,
        header: &Header,
        source: Mac,
        verified: bool,
        turn: &mut Turn<'_>,
    ) -> Result<(), DropReason> {
        let (head, data) = packet.payload.split_first_chunk::<8>().ok_or(DropReason::Truncated)?;
        let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let (ports, bytes) = ([word(0), word(2)], usize::from(word(4)));
        let train = header.gso() == GSO_UDP_L4;
        check(ports[0] != 0 && ports[1] != 0 && (train || bytes >= 8), DropReason::Malformed)?;
        let data = match train {
            true => data,
            false => data.get(..bytes - 8).ok_or(DropReason::Truncated)?,
        };
        let unchecked = word(6) == 0 && packet.source.is_ipv4();
        check(verified || unchecked || packet.checksum_holds(true), DropReason::Checksum)?;
        let piece = if train { usize::from(header.gso_size).max(1) } else { data.len().max(1) };
        check(data.len().div_ceil(piece) <= TRAIN, DropReason::BadOffload)?;
        if data.is_empty() {
            self.datagram(packet, ports, source, data, turn);
        }
        for data in data.chunks(piece) {
            self.datagram(packet, ports, source, data, turn);
        }
        Ok(())
    }

    fn datagram(
        &mut self,
        packet: &Packet<'_>,
        ports: [u16; 2],
        source: Mac,
        data: &[u8],
        turn: &mut Turn<'_>,
    ) {
        let place = self.out.network.place(packet.destination);
        if place == Place::Dns && ports[1] == dns::PORT {
            let (from, to) = (packet.source, packet.destination);
            let asker = dns::Asker {
                guest: SocketAddr::new(from, ports[0]),
                server: SocketAddr::new(to, ports[1]),
                transport: dns::Transport::Udp,
            };
            return turn.host.question(asker, data);
        }
        if matches!(place, Place::Gateway | Place::Host | Place::Dns | Place::Multicast) {
            let request = Request {
                mac: source,
                from: SocketAddr::new(packet.source, ports[0]),
                to: SocketAddr::new(packet.destination, ports[1]),
                data,
            };
            let served = self.services.request(turn.now, &request, &mut self.answers);
            self.send_answers(turn);
            if served {
                self.note_leases(turn.now);
                return;
            }
        }
        if packet.source.is_unspecified() {
            return self.out.stats.dropped(DropReason::NoService);
        }
        self.udp.datagram(packet, ports, data, &self.router, turn, &mut self.out);
    }
}

fn check(holds: bool, otherwise: DropReason) -> Result<(), DropReason> {
    if holds { Ok(()) } else { Err(otherwise) }
}

/// If the guest leaves a checksum to us that is not its packet's own (that of a packet inside a tunnel's), finishes
/// it: it goes out as payload. Its packet's own is left alone; the host's socket makes another.
fn finish_checksum(header: &Header, frame: &[u8]) -> Result<Option<Vec<u8>>, DropReason> {
    if header.flags & NEEDS_CSUM == 0 {
        return Ok(None);
    }
    let (start, offset) = (usize::from(header.csum_start), usize::from(header.csum_offset));
    check(start >= ETHERNET_BYTES && start + offset + 2 <= frame.len(), DropReason::BadOffload)?;
    let outer = match frame[ETHERNET_BYTES..] {
        [first, ..] if first >> 4 == 4 => ETHERNET_BYTES + usize::from(first & 15) * 4,
        _ => frame
            .get(ETHERNET_BYTES..)
            .and_then(|bytes| Packet::v6(bytes).ok())
            .map_or(0, |packet| ETHERNET_BYTES + packet.header_bytes),
    };
    if start == outer && (offset == 16 || offset == 6) {
        return Ok(None);
    }
    check(header.gso() == GSO_NONE, DropReason::BadOffload)?;
    let mut frame = frame.to_vec();
    let sum = Sum::default().add(&frame[start..]).finished_udp();
    frame[start + offset..start + offset + 2].copy_from_slice(&sum.to_be_bytes());
    Ok(Some(frame))
}

/// A frame to be cut is what it says it is.
fn check_gso(header: &Header, packet: &Packet<'_>) -> Result<(), DropReason> {
    let v6 = ethertype(packet.source) == 0x86dd;
    let fits = match header.gso() {
        GSO_NONE => true,
        GSO_TCPV4 => packet.protocol == TCP && !v6 && header.gso_size > 0,
        GSO_TCPV6 => packet.protocol == TCP && v6 && header.gso_size > 0,
        GSO_UDP_L4 => packet.protocol == UDP && header.gso_size > 0,
        _ => false,
    };
    check(fits, DropReason::BadOffload)
}
