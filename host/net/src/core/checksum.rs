//! The Internet checksum (RFC 1071).

use std::net::IpAddr;

/// A sum on its way, in whatever byte order the host adds fastest; folding puts it right.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sum(u64);

impl Sum {
    /// What the pseudo header of TCP, UDP and ICMPv6 adds.
    pub(crate) fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, bytes: usize) -> Self {
        let mut sum = Self::default();
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                sum = sum.add(&source.octets()).add(&destination.octets());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                sum = sum.add(&source.octets()).add(&destination.octets());
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
        }
        sum.add(&(bytes as u32).to_be_bytes()).add(&[0, protocol])
    }

    /// Adds bytes. An odd number of them only at the end of everything.
    #[must_use]
    pub(crate) fn add(self, bytes: &[u8]) -> Self {
        let mut sum = self.0;
        let (words, rest) = bytes.as_chunks::<4>();
        for word in words {
            sum += u64::from(u32::from_ne_bytes(*word));
        }
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        Self(sum + u64::from(u32::from_ne_bytes(last)))
    }

    /// Folded into 16 bits, not complemented: what a checksum field holds that the receiver will finish.
    pub(crate) fn folded(self) -> u16 {
        let mut sum = self.0;
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::from_be(sum as u16)
    }

    /// The checksum.
    pub(crate) fn finished(self) -> u16 {
        !self.folded()
    }

    /// UDP's, in which none is written as all ones.
    pub(crate) fn finished_udp(self) -> u16 {
        match self.finished() {
            0 => 0xffff,
            sum => sum,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Word by word, as the RFC has it.
    fn slow(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn it_is_what_the_rfc_says() {
        assert_eq!(Sum::default().add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]).folded(), 0xddf2);
        let bytes: Vec<u8> = (0..70_000u32).map(|i| ((i * 31) >> 3) as u8 | 0x80).collect();
        for len in [0, 1, 2, 3, 4, 5, 7, 20, 1459, 1460, 65_535, 70_000] {
            assert_eq!(Sum::default().add(&bytes[..len]).folded(), slow(&bytes[..len]), "{len} bytes");
        }
        let (head, tail) = bytes.split_at(38);
        assert_eq!(Sum::default().add(head).add(tail).folded(), slow(&bytes));
    }
}
