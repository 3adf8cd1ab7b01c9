//! Frames on a stream, as QEMU's `-netdev stream` has them: each behind its length, four bytes, big endian. They are
//! whole Ethernet frames; the header of a net port stays on this side.

use reprise_net::{
    frame::{HEADER_BYTES, Header},
    segment,
};
use std::mem;

/// Bytes of a length.
const LENGTH: usize = 4;
/// The longest frame that a peer may send: QEMU's own limit.
const MAX_FRAME: usize = 4096 + 65_536;

/// What a net port sent, for a stream. Empty if it stands for no frame at all.
pub(super) fn encode(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len());
    if let Some((header, frame)) = Header::decode(message) {
        let put = |whole: &[u8]| {
            out.extend((whole.len() as u32).to_be_bytes());
            out.extend(whole);
        };
        // A device checks its driver's headers: what is refused here is a frame that only claims to be TCP or UDP, or
        // that would be a flood.
        let _sent = segment(&header, frame, put);
    }
    out
}

/// A peer sent a length that no frame has: it speaks something else.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoFrame(pub(super) usize);

/// Frames out of what a stream brings in pieces.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// A length and as much of its frame as has come.
    partial: Vec<u8>,
}

impl Assembler {
    /// The messages for a net port that `piece` completes.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> Result<Vec<Vec<u8>>, NoFrame> {
        let mut messages = Vec::new();
        loop {
            let missing = LENGTH.saturating_sub(self.partial.len()).min(piece.len());
            self.partial.extend(&piece[..missing]);
            piece = &piece[missing..];
            let Some(length) = self.partial.first_chunk::<LENGTH>() else { return Ok(messages) };
            let length = u32::from_be_bytes(*length) as usize;
            if length > MAX_FRAME {
                return Err(NoFrame(length));
            }
            let missing = LENGTH + length - self.partial.len();
            if piece.len() < missing {
                self.partial.extend(piece);
                return Ok(messages);
            }
            let (rest, behind) = piece.split_at(missing);
            let mut message = Vec::with_capacity(HEADER_BYTES + length);
            message.extend([0; HEADER_BYTES]);
            message.extend(&self.partial[LENGTH..]);
            message.extend(rest);
            self.partial.clear();
            if length > 0 {
                messages.push(message);
            }
            piece = behind;
        }
    }

    /// Another peer begins anew.
    pub(super) fn reset(&mut self) {
        drop(mem::take(&mut self.partial));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(frames: &[&[u8]]) -> Vec<u8> {
        frames.iter().flat_map(|f| [&(f.len() as u32).to_be_bytes()[..], f].concat()).collect()
    }

    #[test]
    fn frames_survive_any_pieces() {
        let long: Vec<u8> = (0..MAX_FRAME).map(|at| at as u8).collect();
        let frames: [&[u8]; 4] = [b"one", b"", &long, &[7; 60]];
        let bytes = wire(&frames);
        for piece in [1, 2, 3, 5, 1500, 65_536, bytes.len()] {
            let mut assembler = Assembler::default();
            let mut got = Vec::new();
            bytes.chunks(piece).for_each(|piece| got.extend(assembler.push(piece).unwrap()));
            assert_eq!(got.len(), 3, "one is no frame");
            for (message, frame) in got.iter().zip([frames[0], frames[2], frames[3]]) {
                assert!(message[..12] == [0; 12] && &message[12..] == frame, "pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_peer_that_speaks_something_else_is_noticed_and_forgotten() {
        let mut assembler = Assembler::default();
        assert_eq!(assembler.push(b"GET / HTTP/1.1\r\n"), Err(NoFrame(0x4745_5420)));
        assembler.reset();
        assert_eq!(assembler.push(&wire(&[b"x"])).unwrap().len(), 1);
    }

    #[test]
    fn what_goes_out_is_whole() {
        assert_eq!(encode(&[&[0; 12][..], b"frame"].concat()), wire(&[b"frame"]));
        assert_eq!(encode(b"short"), b"");
        let mut claims = [0; 100];
        // Says that it is TCP and is nothing.
        (claims[0], claims[1], claims[4]) = (1, 1, 9);
        assert_eq!(encode(&claims), b"");
    }
}
