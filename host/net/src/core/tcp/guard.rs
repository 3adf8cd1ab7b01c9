//! What keeps the guest's segments within the window that was really advertised.
//!
//! smoltcp 0.14 takes the window of its SYN for a scaled one, so that it believes to have promised a multiple of its
//! buffer. A guest that sends beyond the buffer then makes it panic, or read bytes that were never sent. So every
//! segment of ours is looked at for the right edge it gives, and what the guest sends beyond is cut off before smoltcp
//! sees it. A well-behaved guest never notices.

use super::flight::Flight;
use super::segment::{ACK, Bare, FIN, PSH, RST, SYN, Segment};

/// What to do with a segment of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    /// Keep so many bytes of its payload, without FIN and PSH; then say again where the window ends, because a BSD
    /// probes a closed window with a byte beyond it.
    Cut(usize),
    /// Nothing of it may pass. Say again where the window ends.
    Beyond,
    /// It makes no sense now.
    Drop,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Guard {
    /// Of our windows, by our SYN.
    shift: u8,
    /// The end of what the guest may send, once a segment of ours has said so.
    right_edge: Option<u32>,
    /// Behind the last byte or flag that we sent.
    sent: Option<u32>,
    /// The last acknowledgement and window that we sent.
    ack: u32,
    window: u16,
    /// Where the guest's bytes begin; how far it has come.
    first: Option<u32>,
    reached: u32,
    wrapped: bool,
    flight: Flight,
}

fn later(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

impl Guard {
    /// A segment of ours goes out. Segments of a guest that takes no window scaling have no such option.
    pub(super) fn emitted(&mut self, segment: &Segment<'_>) {
        if segment.has(RST) {
            return;
        }
        if segment.has(SYN) {
            self.shift = match segment.option(3) {
                Some((_, &[shift])) => shift.min(14),
                _ => 0,
            };
        }
        let end = segment.seq.wrapping_add(segment.space());
        if self.sent.is_none_or(|sent| later(end, sent)) {
            self.sent = Some(end);
        }
        self.flight.emitted(segment);
        if !segment.has(ACK) {
            return;
        }
        (self.ack, self.window) = (segment.ack, segment.window);
        let shift = if segment.has(SYN) { 0 } else { self.shift };
        let edge = segment.ack.wrapping_add(u32::from(segment.window) << shift);
        if self.right_edge.is_none_or(|known| later(edge, known)) {
            self.right_edge = Some(edge);
        }
    }

    /// The guest did not answer our SYN with window scaling, so our windows are not scaled.
    pub(super) fn unscaled(&mut self) {
        self.shift = 0;
    }

    /// A segment of the guest that passes: whether what is on its way must be taken back first.
    pub(super) fn loses(&mut self, segment: &Segment<'_>) -> bool {
        self.flight.loses(segment, self.ack)
    }

    /// Whether it answers something that was not our SYN, which is all that we have sent.
    pub(super) fn is_of_another(&self, segment: &Segment<'_>) -> bool {
        let plain = !segment.has(SYN) && !segment.has(RST) && segment.has(ACK);
        plain && self.sent.is_some_and(|sent| segment.ack != sent)
    }

    /// A segment of the guest comes in. `awaits_syn`: our own SYN was sent and not yet answered.
    pub(super) fn verdict(&mut self, segment: &Segment<'_>, awaits_syn: bool) -> Verdict {
        if segment.has(SYN) {
            // SYN on an open connection is answered elsewhere; payload of a SYN|ACK is not taken.
            return if awaits_syn && segment.has(ACK) { Verdict::Pass } else { Verdict::Drop };
        }
        if segment.has(RST) && segment.payload.is_empty() {
            return Verdict::Pass;
        }
        let Some(edge) = self.right_edge else { return Verdict::Drop };
        let end = segment.seq.wrapping_add(segment.payload.len() as u32);
        let verdict = match later(end, edge) {
            false => Verdict::Pass,
            true => {
                let over = end.wrapping_sub(edge) as usize;
                let keep = segment.payload.len().checked_sub(over);
                keep.map_or(Verdict::Beyond, Verdict::Cut)
            }
        };
        if verdict != Verdict::Beyond {
            let kept = if later(end, edge) { edge } else { end };
            let first = *self.first.get_or_insert(self.ack);
            let reached = kept.wrapping_sub(first);
            if later(kept, first.wrapping_add(self.reached)) {
                // Numbers begin again every 4 GiB; what was touched stays so.
                self.wrapped |= reached < self.reached;
                self.reached = reached;
            }
        }
        verdict
    }

    /// Bytes of the receive buffer that the guest may have touched, were it endless.
    pub(super) fn reached(&self) -> usize {
        if self.wrapped { usize::MAX } else { self.reached as usize }
    }

    /// An acknowledgement that says nothing new.
    pub(super) fn repeat(&self) -> Option<Bare> {
        Some(Bare { seq: self.sent?, ack: self.ack, flags: ACK, window: self.window })
    }

    /// A reset that the guest will accept.
    pub(super) fn reset(&self) -> Option<Bare> {
        Some(Bare { seq: self.sent?, ack: self.ack, flags: RST | ACK, window: 0 })
    }
}

/// Cuts the payload of a packet in place; the segment's header begins at `at`.
pub(super) fn cut(packet: &mut Vec<u8>, at: usize, header_bytes: usize, keep: usize) {
    packet.truncate(at + header_bytes + keep);
    packet[at + 13] &= !(FIN | PSH);
    let v6 = packet[0] >> 4 == 6;
    let (field, length) = if v6 { (4, packet.len() - 40) } else { (2, packet.len()) };
    packet[field..field + 2].copy_from_slice(&(length as u16).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(seq: u32, ack: u32, flags: u8, window: u16, payload: &[u8]) -> Segment<'_> {
        Segment { ports: [1, 2], seq, ack, flags, window, options: &[], payload, header_bytes: 20 }
    }

    fn after_syn_ack() -> Guard {
        let mut guard = Guard::default();
        let syn = Segment { options: &[1, 3, 3, 4], ..segment(500, 1000, SYN | ACK, 65_535, &[]) };
        guard.emitted(&syn);
        guard
    }

    #[test]
    fn the_window_of_a_syn_is_not_scaled() {
        let mut guard = after_syn_ack();
        let bytes = vec![0; 65_535];
        assert_eq!(guard.verdict(&segment(1000, 501, ACK, 9, &bytes), false), Verdict::Pass);
        assert_eq!(guard.verdict(&segment(1001, 501, ACK, 9, &bytes), false), Verdict::Cut(65_534));
        assert_eq!(guard.verdict(&segment(66_535, 501, ACK, 9, &[1]), false), Verdict::Cut(0));
        assert_eq!(guard.verdict(&segment(66_536, 501, ACK, 9, &[1]), false), Verdict::Beyond);
        guard.emitted(&segment(501, 66_535, ACK, 100, &[]));
        assert_eq!(guard.verdict(&segment(66_535, 501, ACK, 9, &bytes[..1600]), false), Verdict::Pass);
        assert_eq!(guard.verdict(&segment(66_535, 501, ACK, 9, &bytes[..1601]), false), Verdict::Cut(1600));
        assert_eq!(guard.reached(), 65_535 + 1600);
    }

    #[test]
    fn what_was_touched_stays_so_when_numbers_begin_again() {
        let mut guard = after_syn_ack();
        let mut seq = 1000u32;
        for round in 0..5 {
            for _ in 0..0x4000 {
                guard.emitted(&segment(501, seq, ACK, 0xffff, &[]));
                seq = seq.wrapping_add(0x1_0000);
                guard.verdict(&segment(seq, 501, ACK, 9, &[]), false);
            }
            assert!(guard.reached() >= 0x3fff_0000, "{} after {} GiB", guard.reached(), round + 1);
        }
    }

    #[test]
    fn the_edge_never_moves_back_and_wraps() {
        let mut guard = Guard::default();
        guard.emitted(&segment(1, u32::MAX - 10, ACK, 20, &[]));
        guard.emitted(&segment(1, u32::MAX - 10, ACK, 5, &[]));
        assert_eq!(guard.verdict(&segment(u32::MAX - 10, 1, ACK, 9, &[0; 20]), false), Verdict::Pass);
        assert_eq!(guard.verdict(&segment(u32::MAX - 10, 1, ACK, 9, &[0; 21]), false), Verdict::Cut(20));
    }

    #[test]
    fn nothing_but_an_answered_syn_passes_before_there_is_a_window() {
        let mut guard = Guard::default();
        guard.emitted(&segment(7, 0, SYN, 65_535, &[]));
        assert_eq!(guard.verdict(&segment(1, 8, ACK, 9, &[]), true), Verdict::Drop);
        assert_eq!(guard.verdict(&segment(1, 0, SYN, 9, &[]), true), Verdict::Drop);
        assert_eq!(guard.verdict(&segment(1, 8, SYN | ACK, 9, &[]), true), Verdict::Pass);
        assert_eq!(guard.verdict(&segment(1, 8, RST, 9, &[]), true), Verdict::Pass);
        assert_eq!(after_syn_ack().verdict(&segment(1, 8, SYN, 9, &[]), false), Verdict::Drop);
    }

    #[test]
    fn a_cut_packet_is_consistent() {
        let mut packet = vec![0; 20 + 20 + 100];
        packet[0] = 0x45;
        packet[33] = FIN | PSH | ACK;
        cut(&mut packet, 20, 20, 60);
        assert_eq!((packet.len(), &packet[2..4], packet[33]), (100, &[0, 100][..], ACK));
        let mut packet = vec![0; 40 + 20 + 100];
        packet[0] = 0x60;
        cut(&mut packet, 40, 20, 0);
        assert_eq!((packet.len(), &packet[4..6]), (60, &[0, 20][..]));
    }
}
