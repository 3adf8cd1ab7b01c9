//! Frames as a cable carries them: what a guest left to do is done here, for peers that cannot.

use crate::frame::{GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, Header, NEEDS_CSUM};

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// EtherType of a VLAN tag. IEEE 802.1Q.
const ETHERTYPE_VLAN: [u8; 2] = [0x81, 0x00];
/// Bytes of UDP's header. RFC 768.
const UDP: usize = 8;
/// Bytes of IPv6's header. RFC 8200.
const IPV6: usize = 40;
/// TCP's FIN and PSH, which belong to the last segment. RFC 9293, §3.1.
const LAST_ONLY: u8 = 0x01 | 0x08;
/// TCP's CWR, which belongs to the first. RFC 3168, §6.1.2.
const FIRST_ONLY: u8 = 0x80;

/// Segments of one frame. The smallest that Linux sends, of 48 bytes with all options (`tcp_min_snd_mss`), are 1366 of
/// the longest packet; a guest that asks for segments of a byte gets none, instead of 50 bytes of headers for each.
const MOST: usize = 2048;

/// Hand every frame that `frame` stands for to `cable`, whole. Returns false, and hands over nothing, if the header
/// asks for what cannot be, or for more segments than any system makes.
#[must_use]
pub fn segment(header: &Header, frame: &[u8], mut cable: impl FnMut(&[u8])) -> bool {
    if header.gso_type == GSO_NONE {
        if header.flags & NEEDS_CSUM == 0 {
            cable(frame);
            return true;
        }
        let mut whole = frame.to_vec();
        let done = finish_checksum(header, &mut whole);
        if done {
            cable(&whole);
        }
        return done;
    }
    let Some(layout) = Layout::of(header, frame) else { return false };
    let (heads, payload) = frame.split_at(layout.payload);
    let size = usize::from(header.gso_size);
    let pieces = payload.chunks(size).enumerate();
    let count = payload.len().div_ceil(size);
    for (index, piece) in pieces {
        let mut whole = [heads, piece].concat();
        layout.patch(&mut whole, index, size, index + 1 == count);
        cable(&whole);
    }
    true
}

/// Add to a sum of 16-bit words. RFC 1071.
fn sum(mut total: u64, data: &[u8]) -> u64 {
    let (pairs, last) = data.as_chunks::<2>();
    total += pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum::<u64>();
    total + last.first().map_or(0, |byte| u64::from(*byte) << 8)
}

fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total >> 16) + (total & 0xffff);
    }
    !(total as u16)
}

/// The place holds the sum of the pseudo header.
fn finish_checksum(header: &Header, frame: &mut [u8]) -> bool {
    let start = usize::from(header.csum_start);
    let at = start + usize::from(header.csum_offset);
    if at + 2 > frame.len() {
        return false;
    }
    put(frame, at, not_zero(fold(sum(0, &frame[start..]))));
    true
}

/// In UDP, zero says that there is no checksum; in TCP both zeroes are the same.
fn not_zero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

fn put(frame: &mut [u8], at: usize, value: u16) {
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn get(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

/// Where the headers of a frame of several segments are, in bytes.
struct Layout {
    ip: usize,
    transport: usize,
    payload: usize,
    is_ipv6: bool,
    is_udp: bool,
}

impl Layout {
    /// `None`: the frame is not what its header says.
    fn of(header: &Header, frame: &[u8]) -> Option<Self> {
        let tagged = frame.get(12..14)? == ETHERTYPE_VLAN;
        let ip = if tagged { ETHERNET + 4 } else { ETHERNET };
        let transport = usize::from(header.csum_start);
        let version = frame.get(ip)? >> 4;
        let (is_ipv6, is_udp) = match header.gso_type & !GSO_ECN {
            GSO_TCPV4 => (false, false),
            GSO_TCPV6 => (true, false),
            GSO_UDP_L4 => (version == 6, true),
            _ => return None,
        };
        let least = ip + if is_ipv6 { IPV6 } else { 4 * usize::from(frame.get(ip)? & 0xf) };
        // TCP's length is in the upper half of its byte 12, in words of 4 bytes.
        let length = if is_udp { UDP } else { 4 * usize::from(frame.get(transport + 12)? >> 4) };
        let shortest = if is_udp { UDP } else { 20 };
        let payload = transport + length;
        let fits = version == (if is_ipv6 { 6 } else { 4 })
            && least >= ip + 20
            && (if is_ipv6 { transport >= least } else { transport == least })
            && length >= shortest
            && payload < frame.len()
            && header.gso_size > 0
            && (frame.len() - payload).div_ceil(usize::from(header.gso_size)) <= MOST;
        fits.then_some(Self { ip, transport, payload, is_ipv6, is_udp })
    }

    /// Make the headers those of segment number `index`, of `size` bytes each.
    fn patch(&self, frame: &mut [u8], index: usize, size: usize, is_last: bool) {
        let (ip, transport) = (self.ip, self.transport);
        let length = (frame.len() - transport) as u16;
        if self.is_ipv6 {
            put(frame, ip + 4, (frame.len() - ip - IPV6) as u16);
        } else {
            put(frame, ip + 2, (frame.len() - ip) as u16);
            let id = get(frame, ip + 4).wrapping_add(index as u16);
            put(frame, ip + 4, id);
            put(frame, ip + 10, 0);
            let checksum = fold(sum(0, &frame[ip..transport]));
            put(frame, ip + 10, checksum);
        }
        let at = if self.is_udp {
            put(frame, transport + 4, length);
            transport + 6
        } else {
            let [a, b, c, d] = [4, 5, 6, 7].map(|byte| frame[transport + byte]);
            let sequence = u32::from_be_bytes([a, b, c, d]).wrapping_add((index * size) as u32);
            frame[transport + 4..transport + 8].copy_from_slice(&sequence.to_be_bytes());
            let not_here = (if is_last { 0 } else { LAST_ONLY }) | (if index == 0 { 0 } else { FIRST_ONLY });
            frame[transport + 13] &= !not_here;
            transport + 16
        };
        put(frame, at, 0);
        let checksum = fold(sum(self.pseudo(frame, length), &frame[transport..]));
        put(frame, at, not_zero(checksum));
    }

    /// The sum of the pseudo header. RFC 9293, §3.1; RFC 8200, §8.1.
    fn pseudo(&self, frame: &[u8], length: u16) -> u64 {
        let ip = self.ip;
        let addresses = if self.is_ipv6 { &frame[ip + 8..ip + 40] } else { &frame[ip + 12..ip + 20] };
        let protocol = if self.is_udp { 17 } else { 6 };
        sum(protocol + u64::from(length), addresses)
    }
}

#[cfg(test)]
mod tests;
