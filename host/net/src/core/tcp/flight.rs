//! What is on its way to the guest, and when the guest has said that it will never have it.
//!
//! The wire loses nothing, but guests do: one that is short of memory drops what it had promised to take, closes its
//! window and opens it again, without a word on what was dropped (Linux does whenever the memory of the segments is
//! more than their bytes). smoltcp 0.14 then waits for its timeout of a second, or for ever if it was probing the
//! window: it looks at no selective acknowledgement, and counts none as a duplicate whose window differs. So it is
//! looked at here when something is lost, and smoltcp made to forget that it was sent (`Flow::take_back`).

use super::segment::{ACK, RST, SYN, Segment};

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flight {
    /// What the guest has acknowledged.
    acked: Option<u32>,
    /// Behind the last byte that smoltcp counts as sent; without the FIN, which it sends whatever the window is.
    end: Option<u32>,
    /// The guest's window was 0: a byte that is sent now is a probe, and smoltcp does not count it.
    closed: bool,
    /// What was on its way when something was last found lost. Until it is acknowledged, blocks tell of the same loss.
    recovers: Option<u32>,
}

fn later(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

impl Flight {
    /// A segment of ours goes out.
    pub(super) fn emitted(&mut self, segment: &Segment<'_>) {
        let bytes = segment.payload.len() as u32;
        if bytes == 0 || self.closed && bytes == 1 {
            return;
        }
        let end = segment.seq.wrapping_add(bytes);
        if self.end.is_none_or(|known| later(end, known)) {
            self.end = Some(end);
        }
    }

    /// A segment of the guest comes in; `next` is what we have last asked for. Returns whether what is on its way must
    /// be taken back, because the guest drops it or misses something.
    pub(super) fn loses(&mut self, segment: &Segment<'_>, next: u32) -> bool {
        let old = later(next, segment.seq) || self.acked.is_some_and(|acked| later(acked, segment.ack));
        if segment.has(SYN) || segment.has(RST) || !segment.has(ACK) || old {
            return false;
        }
        self.acked = Some(segment.ack);
        self.closed = segment.window == 0;
        let Some(end) = self.end.filter(|end| later(*end, segment.ack)) else { return false };
        let known = self.recovers.is_some_and(|point| later(point, segment.ack));
        let lost = self.closed || !known && has_hole(segment, end);
        if lost {
            (self.recovers, self.end) = (Some(end), Some(segment.ack));
        }
        lost
    }
}

/// Whether the guest has some of what lies between its acknowledgement and `end` (RFC 2018). As nothing overtakes
/// on the wire, it has dropped what is before.
fn has_hole(segment: &Segment<'_>, end: u32) -> bool {
    let Some((_, blocks)) = segment.option(5) else { return false };
    let (blocks, _) = blocks.as_chunks::<8>();
    blocks.iter().any(|&[a, b, c, d, e, f, g, h]| {
        let (left, right) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        later(left, segment.ack) && later(right, left) && !later(right, end)
    })
}
