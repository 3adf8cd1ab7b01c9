//! The inside ends of ports: what came through the gate and waits for the device to take it.

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

/// One port.
#[derive(Debug)]
pub(crate) struct PortSlot {
    pub(crate) name: String,
    pub(crate) queue: Queue,
}

impl PortSlot {
    pub(crate) fn new(name: &str, kind: PortKind) -> PortSlot {
        let queue = match kind {
            PortKind::Net => Queue::Frames(VecDeque::new()),
            PortKind::Chr | PortKind::Blk | PortKind::Display | PortKind::Input => {
                Queue::Bytes(VecDeque::new())
            }
        };
        PortSlot { name: name.to_owned(), queue }
    }

    /// Bytes or one frame came through the gate.
    pub(crate) fn push(&mut self, data: &[u8]) {
        match &mut self.queue {
            Queue::Bytes(bytes) => bytes.extend(data),
            Queue::Frames(frames) => frames.push_back(data.to_vec()),
        }
    }

    /// The device takes bytes, or one frame cut to `into`. Returns the length given and how much of the queue went.
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
                (len, 1)
            }
        }
    }

    /// For the saved state.
    pub(crate) fn save(&self, out: &mut crate::section::Section) {
        out.u64(self.pending() as u64);
        match &self.queue {
            // In one piece: where the ring is cut is nobody's state.
            Queue::Bytes(bytes) => {
                out.bytes(&bytes.iter().copied().collect::<Vec<u8>>());
            }
            Queue::Frames(frames) => frames.iter().for_each(|frame| {
                out.bytes(frame);
            }),
        }
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
        chr.push(b"abc");
        chr.push(b"d");
        let mut four = [0; 3];
        assert_eq!(chr.read(&mut four), (3, 3));
        assert_eq!((&four, chr.pending()), (b"abc", 1));
        let mut net = PortSlot::new("net", PortKind::Net);
        net.push(b"frame1");
        net.push(b"f2");
        assert_eq!(net.read(&mut four), (3, 1));
        assert_eq!(net.read(&mut four), (2, 1));
        assert_eq!(net.read(&mut four), (0, 0));
    }
}
