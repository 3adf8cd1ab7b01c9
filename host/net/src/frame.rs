//! What a port of kind `net` carries: the 12-byte header of virtio-net (virtio 1.2 §5.1.6), then an Ethernet frame.

/// Bytes of the header, always with `num_buffers` (VIRTIO_F_VERSION_1).
pub const HEADER_BYTES: usize = 12;

/// The longest frame that either side may send: an Ethernet header and the longest IP packet.
pub const MAX_FRAME_BYTES: usize = 14 + 65_535;

/// `flags`: the checksum from `csum_start` on is the receiver's to finish (VIRTIO_NET_HDR_F_NEEDS_CSUM).
pub const NEEDS_CSUM: u8 = 1;
/// `flags`: checksums have been verified (VIRTIO_NET_HDR_F_DATA_VALID).
pub const DATA_VALID: u8 = 2;

/// `gso_type` of a frame that is one packet (VIRTIO_NET_HDR_GSO_NONE).
pub const GSO_NONE: u8 = 0;
/// `gso_type`: TCP over IPv4, to be cut into segments (VIRTIO_NET_HDR_GSO_TCPV4).
pub const GSO_TCPV4: u8 = 1;
/// `gso_type`: UDP, to be cut into IP fragments (VIRTIO_NET_HDR_GSO_UDP); never offered.
pub const GSO_UDP: u8 = 3;
/// `gso_type`: TCP over IPv6 (VIRTIO_NET_HDR_GSO_TCPV6).
pub const GSO_TCPV6: u8 = 4;
/// `gso_type`: UDP, to be cut into datagrams (VIRTIO_NET_HDR_GSO_UDP_L4).
pub const GSO_UDP_L4: u8 = 5;
/// A bit of `gso_type`: the segment carries ECN's CWR (VIRTIO_NET_HDR_GSO_ECN).
pub const GSO_ECN: u8 = 0x80;

/// `struct virtio_net_hdr`, in host order. All zero is a whole frame with its checksums in place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub flags: u8,
    pub gso_type: u8,
    /// Bytes of all headers, for a frame that is to be cut; a hint.
    pub hdr_len: u16,
    /// Payload bytes of each piece.
    pub gso_size: u16,
    /// Where the checksum begins, from the frame's start.
    pub csum_start: u16,
    /// Where it goes, from `csum_start`.
    pub csum_offset: u16,
    /// Of receive buffers; the device fills it in.
    pub num_buffers: u16,
}

impl Header {
    /// As it stands before the frame: little endian.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = self.flags;
        bytes[1] = self.gso_type;
        let words = [self.hdr_len, self.gso_size, self.csum_start, self.csum_offset, self.num_buffers];
        for (at, word) in bytes[2..].chunks_exact_mut(2).zip(words) {
            at.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The header of a message and the frame behind it; `None` if it is shorter than a header.
    #[must_use]
    pub fn decode(message: &[u8]) -> Option<(Self, &[u8])> {
        let (bytes, frame) = message.split_first_chunk::<HEADER_BYTES>()?;
        let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let header = Self {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
            num_buffers: word(10),
        };
        Some((header, frame))
    }

    /// The kind of cutting that is asked for, without the ECN bit.
    #[must_use]
    pub fn gso(&self) -> u8 {
        self.gso_type & !GSO_ECN
    }
}

/// What the guest takes, by the features that its driver negotiated. The default is a device without any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Frames whose checksum is still to be finished (VIRTIO_NET_F_GUEST_CSUM).
    pub csum: bool,
    /// TCP segments of up to 64 KiB (VIRTIO_NET_F_GUEST_TSO4, GUEST_TSO6).
    pub tso4: bool,
    pub tso6: bool,
    /// Trains of UDP datagrams (VIRTIO_NET_F_GUEST_USO4, GUEST_USO6).
    pub uso4: bool,
    pub uso6: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_little_endian_and_comes_back() {
        let header = Header {
            flags: NEEDS_CSUM,
            gso_type: GSO_TCPV4 | GSO_ECN,
            hdr_len: 0x0102,
            gso_size: 0x0304,
            csum_start: 0x0506,
            csum_offset: 0x0708,
            num_buffers: 0x090a,
        };
        let mut message = header.encode().to_vec();
        assert_eq!(message, [1, 0x81, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9]);
        message.extend([0xaa, 0xbb]);
        assert_eq!(Header::decode(&message), Some((header, &[0xaa, 0xbb][..])));
        assert_eq!(header.gso(), GSO_TCPV4);
        assert_eq!(Header::decode(&message[..11]), None);
    }
}
