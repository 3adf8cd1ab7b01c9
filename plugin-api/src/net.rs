//! What flows through a net port: a 12-byte header and an Ethernet frame, in both directions. Virtio 1.2 §5.1.6.
//!
//! The header says what whoever sent the frame left to do: a checksum, or cutting one long frame into segments. A
//! device that takes no offloads gets headers of zeroes and sends such.

use reprise_abi::hot;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 12;
/// Bytes of an Ethernet header without a VLAN tag.
pub const ETHERNET_BYTES: usize = 14;
/// Bytes of a VLAN tag. IEEE 802.1Q.
pub const VLAN_TAG_BYTES: usize = 4;
/// Longest frame with its header: an IP packet of 65535 bytes in a tagged frame.
pub const MAX_BYTES: usize = HEADER_BYTES + ETHERNET_BYTES + VLAN_TAG_BYTES + 65_535;

/// [`Header::flags`]: the checksum is the sum of the pseudo header, and the rest is left to do.
pub const NEEDS_CSUM: u8 = 1;
/// [`Header::flags`]: the checksum has been checked.
pub const DATA_VALID: u8 = 2;

/// [`Header::gso_type`]: one frame.
pub const GSO_NONE: u8 = 0;
/// [`Header::gso_type`]: TCP over IPv4.
pub const GSO_TCPV4: u8 = 1;
/// [`Header::gso_type`]: TCP over IPv6.
pub const GSO_TCPV6: u8 = 4;
/// [`Header::gso_type`]: UDP datagrams of equal length, but for the last.
pub const GSO_UDP_L4: u8 = 5;
/// [`Header::gso_type`], added to TCP's: the first segment has CWR.
pub const GSO_ECN: u8 = 0x80;

/// `struct virtio_net_hdr`. §5.1.6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// [`NEEDS_CSUM`], [`DATA_VALID`].
    pub flags: u8,
    /// `GSO_*`.
    pub gso_type: u8,
    /// Bytes of all headers that each segment gets; a hint.
    pub hdr_len: u16,
    /// Payload bytes of a segment.
    pub gso_size: u16,
    /// Where the checksum begins to sum, in bytes of the frame.
    pub csum_start: u16,
    /// Where it goes, in bytes behind `csum_start`.
    pub csum_offset: u16,
    /// Receive buffers that the frame takes. Means something between device and driver only.
    pub num_buffers: u16,
}

impl Header {
    /// From its bytes.
    #[must_use]
    pub fn from_bytes(raw: [u8; HEADER_BYTES]) -> Self {
        let [flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1, n0, n1] = raw;
        Self {
            flags,
            gso_type,
            hdr_len: u16::from_le_bytes([h0, h1]),
            gso_size: u16::from_le_bytes([g0, g1]),
            csum_start: u16::from_le_bytes([s0, s1]),
            csum_offset: u16::from_le_bytes([o0, o1]),
            num_buffers: u16::from_le_bytes([n0, n1]),
        }
    }

    /// As bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let [h0, h1] = self.hdr_len.to_le_bytes();
        let [g0, g1] = self.gso_size.to_le_bytes();
        let [s0, s1] = self.csum_start.to_le_bytes();
        let [o0, o1] = self.csum_offset.to_le_bytes();
        let [n0, n1] = self.num_buffers.to_le_bytes();
        [self.flags, self.gso_type, h0, h1, g0, g1, s0, s1, o0, o1, n0, n1]
    }

    /// Header and frame, if `data` has a whole header.
    #[must_use]
    pub fn split(data: &[u8]) -> Option<(Self, &[u8])> {
        let (raw, frame) = data.split_first_chunk()?;
        Some((Self::from_bytes(*raw), frame))
    }

    /// Where the checksum is in the frame, if one is to be made and its place lies in the frame.
    #[must_use]
    pub fn checksum_at(&self, frame_len: usize) -> Option<usize> {
        let at = usize::from(self.csum_start) + usize::from(self.csum_offset);
        (self.flags & NEEDS_CSUM != 0 && at + 2 <= frame_len).then_some(at)
    }

    /// Make the checksum that was left to do. Nothing happens where none was, or where its place is outside.
    pub fn complete_checksum(&mut self, frame: &mut [u8]) {
        if let Some(at) = self.checksum_at(frame.len()) {
            let sum = checksum(&frame[usize::from(self.csum_start)..]);
            // UDP's zero means that there is none. RFC 768.
            let sum = if sum == 0 { 0xffff } else { sum };
            frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        (self.flags, self.csum_start, self.csum_offset) = (self.flags & !NEEDS_CSUM, 0, 0);
    }
}

/// The internet checksum. RFC 1071.
#[must_use]
pub fn checksum(data: &[u8]) -> u16 {
    let (pairs, last) = data.as_chunks::<2>();
    let sum: u64 = pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum();
    let mut sum = sum + last.first().map_or(0, |byte| u64::from(*byte) << 8);
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

/// What a device takes from a net port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offload {
    /// Frames whose checksum is left to do, or is known to be good.
    pub checksum: bool,
    /// TCP segments of IPv4 as one frame.
    pub tso4: bool,
    /// TCP segments of IPv6 as one frame.
    pub tso6: bool,
    /// Such frames may carry ECN's CWR.
    pub ecn: bool,
    /// UDP datagrams of IPv4 as one frame.
    pub uso4: bool,
    /// UDP datagrams of IPv6 as one frame.
    pub uso6: bool,
    /// Longest packet behind the Ethernet header, in bytes, where it is not one of the above.
    pub mtu: u32,
}

impl Offload {
    /// Nothing but plain frames.
    #[must_use]
    pub fn none(mtu: u32) -> Self {
        Self::from_bits(0, mtu)
    }

    /// From the bits of the ABI.
    #[must_use]
    pub fn from_bits(bits: u32, mtu: u32) -> Self {
        let has = |bit| bits & bit != 0;
        Self {
            checksum: has(hot::NET_CSUM),
            tso4: has(hot::NET_TSO4),
            tso6: has(hot::NET_TSO6),
            ecn: has(hot::NET_ECN),
            uso4: has(hot::NET_USO4),
            uso6: has(hot::NET_USO6),
            mtu,
        }
    }

    /// As the ABI has it.
    #[must_use]
    pub fn bits(&self) -> u32 {
        let bit = |has: bool, bit: u32| if has { bit } else { 0 };
        bit(self.checksum, hot::NET_CSUM)
            | bit(self.tso4, hot::NET_TSO4)
            | bit(self.tso6, hot::NET_TSO6)
            | bit(self.ecn, hot::NET_ECN)
            | bit(self.uso4, hot::NET_USO4)
            | bit(self.uso6, hot::NET_USO6)
    }

    /// Whether a frame of this `gso_type` is taken. A UDP frame is taken if it is of either family's: which one it is
    /// stands in the frame.
    #[must_use]
    pub fn takes(&self, gso_type: u8) -> bool {
        match gso_type {
            GSO_NONE => true,
            GSO_UDP_L4 => self.uso4 || self.uso6,
            _ if gso_type & !GSO_ECN == GSO_TCPV4 => self.tso4 && (self.ecn || gso_type & GSO_ECN == 0),
            _ if gso_type & !GSO_ECN == GSO_TCPV6 => self.tso6 && (self.ecn || gso_type & GSO_ECN == 0),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_its_bytes() {
        let raw = [1, 0x81, 54, 0, 0xb4, 5, 34, 0, 16, 0, 3, 0];
        let header = Header::from_bytes(raw);
        assert_eq!((header.flags, header.gso_type, header.hdr_len), (NEEDS_CSUM, GSO_TCPV4 | GSO_ECN, 54));
        assert_eq!((header.gso_size, header.csum_start, header.csum_offset), (1460, 34, 16));
        assert_eq!((header.num_buffers, header.to_bytes()), (3, raw));
        assert_eq!(Header::split(&raw), Some((header, &[][..])));
        assert_eq!(Header::split(&raw[..11]), None);
    }

    #[test]
    fn checksums_as_in_rfc_1071() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(checksum(&[0x12]), !0x1200);
        assert_eq!(checksum(&[]), 0xffff);
        assert_eq!(checksum(&[0xff; 100_000]), 0);
    }

    #[test]
    fn a_checksum_that_was_left_is_made_where_it_belongs() {
        let mut header = Header { flags: NEEDS_CSUM, csum_start: 2, csum_offset: 2, ..Header::default() };
        let mut frame = [9, 9, 1, 2, 0, 5, 3];
        header.complete_checksum(&mut frame);
        assert_eq!((header, checksum(&frame[2..])), (Header::default(), 5), "the 5 was the pseudo header's");
        let mut outside = Header { flags: NEEDS_CSUM, csum_start: 6, csum_offset: 0, ..Header::default() };
        let before = frame;
        outside.complete_checksum(&mut frame);
        assert_eq!((frame, outside), (before, Header::default()));
        // 0 is no checksum.
        let mut header = Header { flags: NEEDS_CSUM, ..Header::default() };
        let mut zero = [0, 0, 0xff, 0xff];
        header.complete_checksum(&mut zero);
        assert_eq!(zero, [0xff; 4]);
    }

    #[test]
    fn what_is_taken_goes_there_and_back() {
        for bits in 0..64 {
            let offload = Offload::from_bits(bits, 1400);
            assert_eq!((offload.bits(), offload.mtu), (bits, 1400));
        }
        let all = Offload::from_bits(0x3f, 1500);
        let taken = [0, 1, 2, 3, 4, 5, 0x81, 0x84, 0x85].map(|gso| all.takes(gso));
        assert_eq!(taken, [true, true, false, false, true, true, true, true, false]);
        let plain = Offload { ecn: false, ..all };
        assert!(plain.takes(GSO_TCPV4) && !plain.takes(GSO_TCPV4 | GSO_ECN));
        assert!(Offload::none(1500).takes(GSO_NONE) && !Offload::none(1500).takes(GSO_UDP_L4));
    }
}
