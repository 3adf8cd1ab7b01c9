//! The inside ends of ports: what came through the gate and waits for the device to take it.

use crate::{
    outside::NetOffload,
    section::{Fields, Section, SectionError},
};
use reprise_abi::desc::PortKind;
use std::collections::VecDeque;

/// What waits in one port. Saved state of the host, so that a device need not buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    /// Bytes.
    Bytes(VecDeque<u8>),
    /// Frames, one a read.
    Frames(VecDeque<Vec<u8>>),
}

/// Output of a chr port that waits to be chained, in bytes at most.
const CHAINED: usize = 1024;
/// Of a net port: long pieces are hashed several times faster.
const CHAINED_FRAMES: usize = 16 << 10;

/// Everything that a device wrote to a port, as a count and a hash: how it was cut into calls does not show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Output {
    bytes: u64,
    /// blake3 of the chain before and the next piece.
    chain: [u8; 32],
    /// Written since, less than a piece.
    tail: Vec<u8>,
}

impl Output {
    fn push(&mut self, mut data: &[u8], piece: usize) {
        self.bytes += data.len() as u64;
        while self.tail.len() + data.len() >= piece {
            let (head, rest) = data.split_at(piece - self.tail.len());
            self.tail.extend(head);
            let mut hasher = blake3::Hasher::new();
            hasher.update(&self.chain).update(&self.tail);
            self.chain = *hasher.finalize().as_bytes();
            self.tail.clear();
            data = rest;
        }
        self.tail.extend(data);
    }
}

/// One port.
#[derive(Debug)]
pub(crate) struct PortSlot {
    pub(crate) name: String,
    pub(crate) queue: Queue,
    output: Output,
    /// Line feeds among what was written: for people, who count lines.
    lines: u64,
    /// What the device takes, of a net port.
    offload: NetOffload,
}

impl PortSlot {
    pub(crate) fn new(name: &str, kind: PortKind) -> PortSlot {
        let queue = match kind {
            PortKind::Net => Queue::Frames(VecDeque::new()),
            PortKind::Chr | PortKind::Blk | PortKind::Display | PortKind::Input => {
                Queue::Bytes(VecDeque::new())
            }
        };
        PortSlot {
            name: name.to_owned(),
            queue,
            output: Output::default(),
            lines: 0,
            offload: NetOffload::default(),
        }
    }

    /// Whether what it carries has borders.
    pub(crate) fn takes_frames(&self) -> bool {
        match self.queue {
            Queue::Frames(_) => true,
            Queue::Bytes(_) => false,
        }
    }

    /// Bytes that the device has not taken.
    pub(crate) fn waiting_bytes(&self) -> usize {
        match &self.queue {
            Queue::Bytes(bytes) => bytes.len(),
            Queue::Frames(frames) => frames.iter().map(Vec::len).sum(),
        }
    }

    /// What the device takes, of a net port.
    pub(crate) fn offload(&self) -> NetOffload {
        self.offload
    }

    /// The device said so. Returns whether it is news.
    pub(crate) fn set_offload(&mut self, offload: NetOffload) -> bool {
        std::mem::replace(&mut self.offload, offload) != offload
    }

    /// Bytes or one frame came through the gate.
    pub(crate) fn push(&mut self, data: Vec<u8>) {
        match &mut self.queue {
            Queue::Bytes(bytes) => bytes.extend(data),
            Queue::Frames(frames) => frames.push_back(data),
        }
    }

    /// The device takes bytes, or one frame cut to `into`. Returns the length given and how many bytes left the queue.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> (usize, usize) {
        match &mut self.queue {
            Queue::Bytes(bytes) => {
                let len = into.len().min(bytes.len());
                for (slot, byte) in into.iter_mut().zip(bytes.drain(..len)) {
                    *slot = byte;
                }
                (len, len)
            }
            Queue::Frames(frames) => {
                let Some(frame) = frames.pop_front() else { return (0, 0) };
                let len = into.len().min(frame.len());
                into[..len].copy_from_slice(&frame[..len]);
                (len, frame.len())
            }
        }
    }

    /// The device wrote bytes, or one frame: part of the state, so that a replay which says something else is found.
    pub(crate) fn wrote(&mut self, data: &[u8]) {
        if self.takes_frames() {
            self.output.push(&(data.len() as u64).to_le_bytes(), CHAINED_FRAMES);
            self.output.push(data, CHAINED_FRAMES);
        } else {
            self.output.push(data, CHAINED);
            self.lines += data.iter().filter(|&&byte| byte == b'\n').count() as u64;
        }
    }

    /// Line feeds written.
    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    pub(crate) fn set_lines(&mut self, lines: u64) {
        self.lines = lines;
    }

    /// For the saved state.
    pub(crate) fn save(&self, device: &str, out: &mut Section<'_, '_>) {
        let name = |field: &str| format!("{device}.{}.{field}", self.name);
        match &self.queue {
            // In one piece: where the ring is cut is nobody's state.
            Queue::Bytes(bytes) => {
                out.bytes(&name("waiting"), bytes.iter().copied());
            }
            Queue::Frames(frames) => {
                frames.iter().enumerate().for_each(|(index, frame)| {
                    out.bytes(&name(&format!("waiting[{index}]")), frame.iter().copied());
                });
                out.u64(&name("offload"), self.offload.bits.into())
                    .u64(&name("mtu"), self.offload.mtu.into());
            }
        }
        out.u64(&name("written_bytes"), self.output.bytes);
        out.bytes(&name("written"), self.output.chain);
        out.bytes(&name("written_last"), self.output.tail.iter().copied());
    }

    /// Back to what [`PortSlot::save`] wrote.
    pub(crate) fn load(&mut self, device: &str, fields: &mut Fields<'_>) -> Result<(), SectionError> {
        let prefix = format!("{device}.{}.", self.name);
        let name = |field: &str| format!("{prefix}{field}");
        match &mut self.queue {
            Queue::Bytes(bytes) => *bytes = fields.bytes(&name("waiting"))?.iter().copied().collect(),
            Queue::Frames(frames) => {
                frames.clear();
                while fields.has(&name(&format!("waiting[{}]", frames.len()))) {
                    let frame = fields.bytes(&name(&format!("waiting[{}]", frames.len())))?;
                    frames.push_back(frame.to_vec());
                }
                self.offload =
                    NetOffload { bits: fields.u32(&name("offload"))?, mtu: fields.u32(&name("mtu"))? };
            }
        }
        let bytes = fields.u64(&name("written_bytes"))?;
        let chain = fields.array(&name("written"))?;
        let tail = fields.bytes(&name("written_last"))?.to_vec();
        if tail.len() >= if self.takes_frames() { CHAINED_FRAMES } else { CHAINED } {
            return Err(fields.impossible(&name("written_last")));
        }
        self.output = Output { bytes, chain, tail };
        Ok(())
    }

    /// Bytes or frames that wait.
    pub(crate) fn pending(&self) -> usize {
        match &self.queue {
            Queue::Bytes(bytes) => bytes.len(),
            Queue::Frames(frames) => frames.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_flow_and_frames_keep_their_borders() {
        let mut chr = PortSlot::new("serial", PortKind::Chr);
        chr.push(b"abc".to_vec());
        chr.push(b"d".to_vec());
        let mut four = [0; 3];
        assert_eq!(chr.read(&mut four), (3, 3));
        assert_eq!((&four, chr.pending()), (b"abc", 1));
        let mut net = PortSlot::new("net", PortKind::Net);
        net.push(b"frame1".to_vec());
        net.push(b"f2".to_vec());
        assert_eq!((net.pending(), net.waiting_bytes()), (2, 8));
        assert_eq!(net.read(&mut four), (3, 6));
        assert_eq!(net.read(&mut four), (2, 2));
        assert_eq!(net.read(&mut four), (0, 0));
    }

    #[test]
    fn a_net_port_is_loaded_as_it_was_saved() {
        let mut net = PortSlot::new("net", PortKind::Net);
        net.push(b"frame".to_vec());
        net.push(Vec::new());
        net.wrote(&[7; 20_000]);
        assert!(net.set_offload(NetOffload { bits: 5, mtu: 9000 }));
        assert!(!net.set_offload(NetOffload { bits: 5, mtu: 9000 }), "that was known");
        let save = |port: &PortSlot| crate::section::encode(|out| port.save("net0", out));
        let saved = save(&net);
        let mut other = PortSlot::new("net", PortKind::Net);
        let mut fields = Fields::parse("ports", &saved).unwrap();
        other.load("net0", &mut fields).unwrap();
        fields.finish().unwrap();
        assert!(save(&other) == saved);
        assert_eq!((other.offload(), other.waiting_bytes()), (NetOffload { bits: 5, mtu: 9000 }, 5));
    }

    #[test]
    fn output_is_chained_whatever_its_pieces_are() {
        let data: Vec<u8> = (0..5000u32).map(|byte| byte as u8).collect();
        let written = |data: &[u8], piece: usize| {
            let mut port = PortSlot::new("serial", PortKind::Chr);
            data.chunks(piece).for_each(|piece| port.wrote(piece));
            port.output
        };
        for piece in [1, 7, 1023, 1024, 1025, 4096] {
            assert_eq!(written(&data, piece), written(&data, 5000), "pieces of {piece} bytes");
        }
        assert_eq!((written(&data, 7).bytes, written(&data, 7).tail.len()), (5000, 5000 % 1024));
        for place in [0, 1023, 1024, 4999] {
            let mut other = data.clone();
            other[place] ^= 1;
            assert_ne!(written(&other, 7), written(&data, 7), "byte {place}");
        }
    }

    #[test]
    fn the_borders_of_written_frames_count() {
        let written = |frames: &[&[u8]]| {
            let mut port = PortSlot::new("net", PortKind::Net);
            frames.iter().for_each(|frame| port.wrote(frame));
            port.output
        };
        assert_ne!(written(&[b"ab", b"c"]), written(&[b"a", b"bc"]));
        assert_ne!(written(&[b"ab"]), written(&[b"ab", b""]));
    }
}
