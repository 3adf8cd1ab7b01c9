//! Bottom halves: device work deferred to the next safe point, in the order it was asked for.

use std::collections::VecDeque;

/// One invocation that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) device: usize,
    pub(crate) bh: u32,
    /// `None`: queued (at most one waits). `Some`: a one-shot with its payload.
    pub(crate) payload: Option<Vec<u8>>,
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct BottomHalves {
    /// How many each device declared.
    declared: Vec<usize>,
    queue: VecDeque<Pending>,
}

impl BottomHalves {
    /// `declared[d]` is how many bottom halves device `d` has.
    pub(crate) fn new(declared: Vec<usize>) -> Self {
        Self { declared, queue: VecDeque::new() }
    }

    pub(crate) fn declared(&self, device: usize) -> usize {
        self.declared[device]
    }

    /// A device has so many now: the ones that it had, and maybe more.
    pub(crate) fn declare(&mut self, device: usize, bhs: usize) {
        assert!(bhs >= self.declared[device], "a bottom half that is gone may be queued");
        self.declared[device] = bhs;
    }

    /// Queue `bh`; one that waits already keeps its place. Returns whether none did.
    pub(crate) fn schedule(&mut self, device: usize, bh: u32) -> bool {
        let waits = |p: &Pending| p.device == device && p.bh == bh && p.payload.is_none();
        let is_new = !self.queue.iter().any(waits);
        if is_new {
            self.queue.push_back(Pending { device, bh, payload: None });
        }
        is_new
    }

    /// Queue one invocation with its own payload.
    pub(crate) fn oneshot(&mut self, device: usize, bh: u32, payload: Vec<u8>) {
        self.queue.push_back(Pending { device, bh, payload: Some(payload) });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// What waits now. What is queued while these run belongs to the next safe point.
    pub(crate) fn take(&mut self) -> VecDeque<Pending> {
        std::mem::take(&mut self.queue)
    }

    /// Forget what a device asked for: it is being reset.
    pub(crate) fn cancel_device(&mut self, device: usize) {
        self.queue.retain(|p| p.device != device);
    }

    /// Exactly these, in this order.
    pub(crate) fn restore(&mut self, waiting: Vec<Pending>) {
        self.queue = waiting.into();
    }

    /// The queue, for the saved state.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.queue.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queued_ones_collapse_and_one_shots_do_not() {
        let mut bhs = BottomHalves::new(vec![8; 8]);
        bhs.schedule(0, 1);
        bhs.oneshot(0, 1, vec![7]);
        bhs.schedule(0, 1);
        bhs.oneshot(0, 1, vec![8]);
        bhs.schedule(1, 1);
        let got: Vec<_> = bhs.take().into_iter().map(|p| (p.device, p.payload)).collect();
        assert_eq!(got, [(0, None), (0, Some(vec![7])), (0, Some(vec![8])), (1, None)]);
    }
}
