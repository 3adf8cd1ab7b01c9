//! TCP segments, read and made by hand where no socket is there to do it.

use crate::core::{
    checksum::Sum,
    output::Output,
    packet::{IpHead, Packet, TCP},
};
use crate::edges::Guest;

pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const PSH: u8 = 8;
pub(super) const ACK: u8 = 16;

/// The fields of a segment whose header is whole.
#[derive(Clone, Copy, Debug)]
pub(in crate::core) struct Segment<'a> {
    pub(in crate::core) ports: [u16; 2],
    pub(in crate::core) seq: u32,
    pub(in crate::core) ack: u32,
    pub(in crate::core) flags: u8,
    pub(in crate::core) window: u16,
    pub(in crate::core) options: &'a [u8],
    pub(in crate::core) payload: &'a [u8],
    pub(in crate::core) header_bytes: usize,
}

impl<'a> Segment<'a> {
    /// Reads a segment; `None` if it is shorter than its header.
    pub(in crate::core) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (head, _) = bytes.split_first_chunk::<20>()?;
        let header_bytes = usize::from(head[12] >> 4) * 4;
        if header_bytes < 20 || header_bytes > bytes.len() {
            return None;
        }
        let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let long = |at: usize| u32::from(word(at)) << 16 | u32::from(word(at + 2));
        Some(Self {
            ports: [word(0), word(2)],
            seq: long(4),
            ack: long(8),
            flags: head[13],
            window: word(14),
            options: &bytes[20..header_bytes],
            payload: &bytes[header_bytes..],
            header_bytes,
        })
    }

    pub(in crate::core) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// What it takes of the sequence space.
    pub(in crate::core) fn space(&self) -> u32 {
        self.payload.len() as u32 + u32::from(self.has(SYN)) + u32::from(self.has(FIN))
    }

    /// The body of option `kind`, and where it stands in the options.
    pub(in crate::core) fn option(&self, kind: u8) -> Option<(usize, &'a [u8])> {
        let mut at = 0;
        while let Some(&here) = self.options.get(at) {
            let length = match here {
                0 => return None,
                1 => 1,
                _ => usize::from(*self.options.get(at + 1)?).max(2),
            };
            if here == kind && here > 1 {
                return Some((at, self.options.get(at + 2..at + length)?));
            }
            at += length;
        }
        None
    }
}

/// A segment without payload that we make ourselves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bare {
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
}

/// What RFC 9293 §3.10.7.1 answers to a segment that belongs to no connection.
pub(super) fn reset_for(segment: &Segment<'_>) -> Bare {
    match segment.has(ACK) {
        true => Bare { seq: segment.ack, ack: 0, flags: RST, window: 0 },
        false => {
            let ack = segment.seq.wrapping_add(segment.space());
            Bare { seq: 0, ack, flags: RST | ACK, window: 0 }
        }
    }
}

/// Sends one; `head` goes towards the guest.
pub(super) fn send_bare(out: &mut Output, guest: &mut dyn Guest, head: &IpHead, ports: [u16; 2], bare: Bare) {
    let mut bytes = [0; 20];
    bytes[..2].copy_from_slice(&ports[0].to_be_bytes());
    bytes[2..4].copy_from_slice(&ports[1].to_be_bytes());
    bytes[4..8].copy_from_slice(&bare.seq.to_be_bytes());
    bytes[8..12].copy_from_slice(&bare.ack.to_be_bytes());
    bytes[12] = 5 << 4;
    bytes[13] = bare.flags;
    bytes[14..16].copy_from_slice(&bare.window.to_be_bytes());
    let sum = Sum::pseudo(head.source, head.destination, TCP, 20).add(&bytes).finished();
    bytes[16..18].copy_from_slice(&sum.to_be_bytes());
    out.packet(guest, head, &bytes);
}

/// The header of an answer to `packet`.
pub(super) fn back(packet: &Packet<'_>) -> IpHead {
    IpHead { source: packet.destination, destination: packet.source, protocol: TCP, hops: 64 }
}
