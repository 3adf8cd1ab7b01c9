//! Wires: from a device's output pin to input pins and hart lines.

use crate::board::{Wire, WireEnd};

/// Levels of all output pins, and the edges that have not been delivered yet.
#[derive(Debug)]
pub(crate) struct Wires {
    /// `levels[d][p]`: level of output pin `p` of device `d`.
    levels: Vec<Vec<bool>>,
    /// `routes[d][p]`: indices into `ends`, in configuration order.
    routes: Vec<Vec<Vec<usize>>>,
    ends: Vec<WireEnd>,
    queue: Vec<(usize, bool)>,
}

impl Wires {
    /// `outputs[d]` is how many output pins device `d` has.
    pub(crate) fn new(outputs: &[usize], wires: &[Wire]) -> Wires {
        let mut routes: Vec<Vec<Vec<usize>>> = outputs.iter().map(|&n| vec![Vec::new(); n]).collect();
        for (index, wire) in wires.iter().enumerate() {
            routes[wire.from_device][wire.from_pin as usize].push(index);
        }
        Wires {
            levels: outputs.iter().map(|&n| vec![false; n]).collect(),
            routes,
            ends: wires.iter().map(|wire| wire.to).collect(),
            queue: Vec::new(),
        }
    }

    /// How many output pins a device declared.
    pub(crate) fn declared(&self, device: usize) -> usize {
        self.levels[device].len()
    }

    /// What a device drives a pin to, if it declared it.
    #[inline(always)]
    pub(crate) fn level(&self, device: usize, pin: u32) -> Option<bool> {
        self.levels[device].get(pin as usize).copied()
    }

    /// A device has so many output pins now: the ones that it had, and maybe more, which no wire begins at.
    pub(crate) fn declare(&mut self, device: usize, outputs: usize) {
        assert!(outputs >= self.levels[device].len(), "a pin that is gone may be wired");
        self.levels[device].resize(outputs, false);
        self.routes[device].resize(outputs, Vec::new());
    }

    /// A device drives a pin. Returns whether an edge was queued.
    pub(crate) fn set(&mut self, device: usize, pin: u32, high: bool) -> bool {
        let level = &mut self.levels[device][pin as usize];
        if *level == high {
            return false;
        }
        *level = high;
        self.queue.extend(self.routes[device][pin as usize].iter().map(|&wire| (wire, high)));
        !self.queue.is_empty()
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.queue.is_empty()
    }

    /// Take the queued edges: by wire in configuration order (a claim order must not depend on which device code
    /// path drove its pin first), the edges of one wire in the order they happened.
    pub(crate) fn take(&mut self, into: &mut Vec<(WireEnd, bool)>) {
        self.queue.sort_by_key(|&(wire, _)| wire);
        into.extend(self.queue.drain(..).map(|(wire, high)| (self.ends[wire], high)));
    }

    /// Levels of all pins by device, with nothing on its way.
    pub(crate) fn restore(&mut self, levels: Vec<Vec<bool>>) {
        self.queue.clear();
        self.levels = levels;
    }

    /// All levels, for the saved state.
    pub(crate) fn levels(&self) -> &[Vec<bool>] {
        &self.levels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(from_device: usize, from_pin: u32, pin: u32) -> Wire {
        Wire { from_device, from_pin, to: WireEnd::Device { device: 9, pin } }
    }

    #[test]
    fn edges_come_in_configuration_order_and_pulses_survive() {
        let mut wires = Wires::new(&[1, 1], &[wire(1, 0, 10), wire(0, 0, 20), wire(0, 0, 30)]);
        assert!(wires.set(0, 0, true));
        assert!(wires.set(0, 0, false));
        assert!(wires.set(1, 0, true));
        wires.set(1, 0, true);
        let mut edges = Vec::new();
        wires.take(&mut edges);
        let got: Vec<(u32, bool)> = edges
            .iter()
            .map(|(end, high)| match end {
                WireEnd::Device { pin, .. } => (*pin, *high),
                WireEnd::Hart { .. } => panic!("no hart in this test"),
            })
            .collect();
        assert_eq!(got, [(10, true), (20, true), (20, false), (30, true), (30, false)]);
        assert!(wires.is_quiet());
    }
}
