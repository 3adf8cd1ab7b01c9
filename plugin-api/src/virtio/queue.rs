//! A split virtqueue from the device's side. §2.7.

use super::{features, memory};
use crate::{Ctx, DeviceState, DmaError};

/// Longest ring. §2.7.
pub const MAX_QUEUE_SIZE: u16 = 1 << 15;

/// The chain goes on at `next`. §2.7.5.
const DESC_F_NEXT: u16 = 1;
/// The buffer is for the device to write. §2.7.5.
const DESC_F_WRITE: u16 = 2;
/// The buffer is a table of descriptors. §2.7.5.3.
const DESC_F_INDIRECT: u16 = 4;
/// Bytes of a descriptor. §2.7.5.
const DESC_SIZE: u64 = 16;
/// The driver does not want to be interrupted. §2.7.6.
const AVAIL_F_NO_INTERRUPT: u16 = 1;
/// Where the ring starts in the driver area and in the device area: after flags and index. §2.7.6, §2.7.8.
const RING: u64 = 4;
/// Where the index is in both. §2.7.6, §2.7.8.
const INDEX: u64 = 2;
/// Bytes of an element of the used ring. §2.7.8.
const USED_SIZE: u64 = 8;
/// Longest chain in bytes. §2.7.4.
const MAX_CHAIN_BYTES: u64 = 1 << 32;

/// What a driver did that has no answer in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A ring or a buffer is where no RAM is.
    #[error("{len} bytes at {gpa:#x} are not all RAM")]
    NotRam {
        /// Guest physical address.
        gpa: u64,
        /// Length in bytes.
        len: u64,
    },
    /// QueueNum is zero, no power of two or above QueueNumMax.
    #[error("queue size {0} is not a power of two up to what the device offers")]
    QueueSize(u32),
    /// A ring is not aligned to 16 (descriptors), 2 (driver area) or 4 (device area) bytes.
    #[error("ring at {0:#x} is not aligned")]
    Alignment(u64),
    /// The available index ran away.
    #[error("available index is {ahead} ahead in a ring of {size}")]
    AvailableIndex {
        /// How far it is ahead of what the device has taken.
        ahead: u16,
        /// Queue size.
        size: u32,
    },
    /// More chains taken than there are descriptors: some are in flight twice.
    #[error("more chains in flight than the {0} descriptors of the queue")]
    InFlight(u32),
    /// A descriptor index beyond its table.
    #[error("descriptor {index} is not in its table of {size}")]
    DescriptorIndex {
        /// The index.
        index: u32,
        /// Descriptors in the table.
        size: u32,
    },
    /// A chain of more descriptors than the queue may have: a loop, most likely.
    #[error("descriptor chain longer than {0}: a loop?")]
    ChainLength(u32),
    /// A chain of more than 4 GiB.
    #[error("descriptor chain of more than 4 GiB")]
    ChainBytes,
    /// A buffer without a byte.
    #[error("descriptor of length zero")]
    ZeroLength,
    /// A readable buffer after a writable one.
    #[error("device-readable descriptor after a device-writable one")]
    Order,
    /// INDIRECT was not negotiated, is combined with NEXT, or stands in an indirect table.
    #[error("indirect descriptor where none may be")]
    Indirect,
    /// An indirect table whose length is not a multiple of 16.
    #[error("indirect table of {0} bytes")]
    IndirectLength(u32),
    /// A chain too short for the device's request format.
    #[error("descriptor chain too short: {0}")]
    Short(&'static str),
    /// What the chain asks for is nothing that the driver may ask.
    #[error("request against the protocol: {0}")]
    Request(&'static str),
}

impl From<DmaError> for Violation {
    fn from(error: DmaError) -> Self {
        Self::NotRam { gpa: error.gpa, len: error.len }
    }
}

/// A buffer in guest memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, DeviceState)]
pub struct Segment {
    /// Guest physical address.
    pub gpa: u64,
    /// Length in bytes, not zero.
    pub len: u32,
}

/// A chain that the device took from the ring. Can be kept and saved until it is completed.
#[derive(Clone, Debug, Default, PartialEq, Eq, DeviceState)]
pub struct Chain {
    head: u16,
    /// The device-readable segments, then the device-writable ones.
    segments: Vec<Segment>,
    readable: usize,
}

impl Chain {
    /// The descriptor that heads it: what [`super::complete`] wants.
    #[must_use]
    pub fn head(&self) -> u16 {
        self.head
    }

    fn split(&self) -> (&[Segment], &[Segment]) {
        self.segments.split_at(self.readable.min(self.segments.len()))
    }

    /// Buffers in it.
    #[must_use]
    pub fn buffers(&self) -> usize {
        self.segments.len()
    }

    /// Bytes that the device may read.
    #[must_use]
    pub fn readable_len(&self) -> u64 {
        total(self.split().0)
    }

    /// Bytes that the device may write.
    #[must_use]
    pub fn writable_len(&self) -> u64 {
        total(self.split().1)
    }

    /// Copy from the readable part, `offset` bytes into it.
    ///
    /// # Errors
    /// It is shorter than that, or not in RAM.
    pub fn read(&self, cx: &mut Ctx<'_>, offset: u64, into: &mut [u8]) -> Result<(), Violation> {
        let mut at = 0;
        for piece in pieces(self.split().0, offset, into.len())? {
            let end = at + piece.len as usize;
            memory::read(cx, piece.gpa, &mut into[at..end])?;
            at = end;
        }
        Ok(())
    }

    /// Copy to the writable part, `offset` bytes into it.
    ///
    /// # Errors
    /// It is shorter than that, or not in RAM: then some of the data may have been written.
    pub fn write(&self, cx: &mut Ctx<'_>, offset: u64, data: &[u8]) -> Result<(), Violation> {
        let mut at = 0;
        for piece in pieces(self.split().1, offset, data.len())? {
            let end = at + piece.len as usize;
            memory::write(cx, piece.gpa, &data[at..end])?;
            at = end;
        }
        Ok(())
    }
}

fn total(segments: &[Segment]) -> u64 {
    segments.iter().map(|segment| u64::from(segment.len)).sum()
}

/// The parts of `segments` that cover `len` bytes from `offset` on.
fn pieces(segments: &[Segment], offset: u64, len: usize) -> Result<Vec<Segment>, Violation> {
    let (mut skip, mut left) = (offset, len as u64);
    let mut out = Vec::new();
    for segment in segments {
        if left == 0 {
            break;
        }
        let here = u64::from(segment.len).saturating_sub(skip).min(left);
        if let Ok(part) = u32::try_from(here)
            && part > 0
        {
            out.push(Segment { gpa: segment.gpa.wrapping_add(skip), len: part });
        }
        skip = skip.saturating_sub(u64::from(segment.len));
        left -= here;
    }
    if left == 0 { Ok(out) } else { Err(Violation::Short("less data than the request names")) }
}

/// A queue's registers and positions. Which fields the driver may write when is the transport's business.
#[derive(Clone, Debug, Default, DeviceState)]
pub(super) struct Queue {
    /// QueueNumMax.
    #[state(config)]
    pub(super) max: u16,
    /// QueueNum as written; valid once `ready`.
    pub(super) size: u32,
    pub(super) ready: bool,
    pub(super) desc: u64,
    pub(super) driver: u64,
    pub(super) device: u64,
    /// Index of the next element of the available ring to take.
    next_avail: u16,
    /// Index of the next element of the used ring to fill.
    next_used: u16,
    /// `next_used` when the driver was last considered for an interrupt.
    signalled: u16,
}

impl Queue {
    pub(super) fn new(max: u16) -> Self {
        Self { max, size: u32::from(max), ..Self::default() }
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new(self.max);
    }

    /// Start at the beginning of rings that the driver has set up.
    pub(super) fn enable(&mut self) -> Result<(), Violation> {
        self.check()?;
        (self.next_avail, self.next_used, self.signalled) = (0, 0, 0);
        self.ready = true;
        Ok(())
    }

    /// Whether size and addresses are such that a ready queue may have. §2.7.
    pub(super) fn check(&self) -> Result<(), Violation> {
        if !self.size.is_power_of_two() || self.size > u32::from(self.max) {
            return Err(Violation::QueueSize(self.size));
        }
        for (gpa, align) in [(self.desc, 16), (self.driver, 2), (self.device, 4)] {
            if gpa % align != 0 {
                return Err(Violation::Alignment(gpa));
            }
        }
        Ok(())
    }

    /// The position of ring index `index`.
    fn slot(&self, index: u16) -> u64 {
        u64::from(u32::from(index) & (self.size - 1))
    }

    /// Where the driver says from which used index on it wants an interrupt. §2.7.7.
    fn used_event_gpa(&self) -> u64 {
        self.driver.wrapping_add(RING + 2 * u64::from(self.size))
    }

    /// Where the device says from which available index on it wants to be notified. §2.7.10.
    fn avail_event_gpa(&self) -> u64 {
        self.device.wrapping_add(RING + USED_SIZE * u64::from(self.size))
    }

    /// Take the next chain, if there is one.
    pub(super) fn pop(&mut self, cx: &mut Ctx<'_>, negotiated: u64) -> Result<Option<Chain>, Violation> {
        let available = memory::read_u16(cx, self.driver.wrapping_add(INDEX))?;
        let ahead = available.wrapping_sub(self.next_avail);
        if ahead == 0 {
            if negotiated & features::RING_EVENT_IDX != 0 {
                memory::write_u16(cx, self.avail_event_gpa(), self.next_avail)?;
            }
            return Ok(None);
        }
        if u32::from(ahead) > self.size {
            return Err(Violation::AvailableIndex { ahead, size: self.size });
        }
        if u32::from(self.next_avail.wrapping_sub(self.next_used)) >= self.size {
            return Err(Violation::InFlight(self.size));
        }
        let head = memory::read_u16(cx, self.driver.wrapping_add(RING + 2 * self.slot(self.next_avail)))?;
        let chain = Walk::new(self, negotiated).chain(cx, head)?;
        self.next_avail = self.next_avail.wrapping_add(1);
        Ok(Some(chain))
    }

    /// Give a chain back.
    pub(super) fn push(&mut self, cx: &mut Ctx<'_>, head: u16, written: u32) -> Result<(), Violation> {
        let mut element = [0; USED_SIZE as usize];
        element[..4].copy_from_slice(&u32::from(head).to_le_bytes());
        element[4..].copy_from_slice(&written.to_le_bytes());
        memory::write(cx, self.device.wrapping_add(RING + USED_SIZE * self.slot(self.next_used)), &element)?;
        self.next_used = self.next_used.wrapping_add(1);
        memory::write_u16(cx, self.device.wrapping_add(INDEX), self.next_used)?;
        Ok(())
    }

    /// Whether what was pushed since the last call deserves an interrupt. §2.7.7.
    pub(super) fn take_signal(&mut self, cx: &mut Ctx<'_>, negotiated: u64) -> Result<bool, Violation> {
        let (old, new) = (self.signalled, self.next_used);
        if old == new {
            return Ok(false);
        }
        self.signalled = new;
        if negotiated & features::RING_EVENT_IDX != 0 {
            let event = memory::read_u16(cx, self.used_event_gpa())?;
            return Ok(crossed(event, old, new));
        }
        Ok(memory::read_u16(cx, self.driver)? & AVAIL_F_NO_INTERRUPT == 0)
    }
}

/// Whether the step from `old` to `new` used index `event`, in arithmetic modulo 2^16. §2.7.7.1.
fn crossed(event: u16, old: u16, new: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

struct Descriptor {
    gpa: u64,
    len: u32,
    flags: u16,
    next: u16,
}

/// Following one chain through the descriptor table and, at its end, through one indirect table.
struct Walk {
    table: u64,
    table_len: u32,
    indirect: bool,
    may_indirect: bool,
    /// Longest chain. The queue's maximum, not its present size: drivers size indirect tables by what the device
    /// offers (`seg_max`) also when they take a smaller ring.
    limit: u32,
}

impl Walk {
    fn new(queue: &Queue, negotiated: u64) -> Self {
        Self {
            table: queue.desc,
            table_len: queue.size,
            indirect: false,
            may_indirect: negotiated & features::RING_INDIRECT_DESC != 0,
            limit: u32::from(queue.max),
        }
    }

    fn descriptor(&self, cx: &mut Ctx<'_>, index: u16) -> Result<Descriptor, Violation> {
        if u32::from(index) >= self.table_len {
            return Err(Violation::DescriptorIndex { index: u32::from(index), size: self.table_len });
        }
        let mut raw = [0; DESC_SIZE as usize];
        memory::read(cx, self.table.wrapping_add(DESC_SIZE * u64::from(index)), &mut raw)?;
        let [g0, g1, g2, g3, g4, g5, g6, g7, l0, l1, l2, l3, f0, f1, n0, n1] = raw;
        Ok(Descriptor {
            gpa: u64::from_le_bytes([g0, g1, g2, g3, g4, g5, g6, g7]),
            len: u32::from_le_bytes([l0, l1, l2, l3]),
            flags: u16::from_le_bytes([f0, f1]),
            next: u16::from_le_bytes([n0, n1]),
        })
    }

    /// Go on in the table that `desc` refers to; its WRITE flag means nothing. §2.7.5.3.2.
    fn enter(&mut self, desc: &Descriptor) -> Result<(), Violation> {
        if self.indirect || !self.may_indirect || desc.flags & DESC_F_NEXT != 0 {
            return Err(Violation::Indirect);
        }
        if desc.len == 0 || u64::from(desc.len) % DESC_SIZE != 0 {
            return Err(Violation::IndirectLength(desc.len));
        }
        self.indirect = true;
        self.table = desc.gpa;
        self.table_len = desc.len / DESC_SIZE as u32;
        Ok(())
    }

    fn chain(mut self, cx: &mut Ctx<'_>, head: u16) -> Result<Chain, Violation> {
        let mut chain = Chain { head, segments: Vec::new(), readable: 0 };
        let mut bytes = 0;
        let mut index = head;
        loop {
            let desc = self.descriptor(cx, index)?;
            if desc.flags & DESC_F_INDIRECT != 0 {
                self.enter(&desc)?;
                index = 0;
                continue;
            }
            if chain.segments.len() >= self.limit as usize {
                return Err(Violation::ChainLength(self.limit));
            }
            bytes += u64::from(desc.len);
            if bytes > MAX_CHAIN_BYTES {
                return Err(Violation::ChainBytes);
            }
            append(&mut chain, &desc)?;
            if desc.flags & DESC_F_NEXT == 0 {
                return Ok(chain);
            }
            index = desc.next;
        }
    }
}

fn append(chain: &mut Chain, desc: &Descriptor) -> Result<(), Violation> {
    if desc.len == 0 {
        return Err(Violation::ZeroLength);
    }
    if desc.gpa.checked_add(u64::from(desc.len)).is_none() {
        return Err(Violation::NotRam { gpa: desc.gpa, len: u64::from(desc.len) });
    }
    let writable = desc.flags & DESC_F_WRITE != 0;
    if !writable {
        if chain.readable < chain.segments.len() {
            return Err(Violation::Order);
        }
        chain.readable += 1;
    }
    chain.segments.push(Segment { gpa: desc.gpa, len: desc.len });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_crossed_also_where_the_index_wraps() {
        assert!(crossed(0, 0, 1));
        assert!(!crossed(1, 0, 1));
        assert!(crossed(0xffff, 0xffff, 0));
        assert!(crossed(0, 0xfffe, 1));
        assert!(!crossed(1, 0xfffe, 1));
        assert!(!crossed(0xfffd, 0xfffe, 1));
    }

    #[test]
    fn pieces_cut_at_both_ends() {
        let segments =
            [Segment { gpa: 100, len: 10 }, Segment { gpa: 200, len: 10 }, Segment { gpa: 300, len: 10 }];
        assert_eq!(pieces(&segments, 15, 5).unwrap(), [Segment { gpa: 205, len: 5 }]);
        assert_eq!(
            pieces(&segments, 5, 20).unwrap(),
            [Segment { gpa: 105, len: 5 }, Segment { gpa: 200, len: 10 }, Segment { gpa: 300, len: 5 }]
        );
        assert_eq!(pieces(&segments, 30, 0).unwrap(), []);
        assert!(pieces(&segments, 25, 6).is_err());
        assert!(pieces(&segments, 31, 1).is_err());
    }
}
