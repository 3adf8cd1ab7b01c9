//! What will happen at a virtual time: device timers and disk completions, in one stable order.

use std::collections::BTreeMap;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// A device's timer.
    Timer { device: usize, timer: u32 },
    /// A disk request, by its id in flight.
    Disk { request: u64 },
}

/// When something is due: equal deadlines happen in the order in which they were armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct When {
    pub(crate) at_ns: u64,
    pub(crate) order: u64,
}

/// The queue, and each timer's place in it.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    queue: BTreeMap<When, Due>,
    timers: Vec<Vec<Option<When>>>,
    next_order: u64,
}

impl Deadlines {
    /// `timers[d]` is how many timers device `d` declared.
    pub(crate) fn new(timers: &[usize]) -> Deadlines {
        Deadlines { timers: timers.iter().map(|&n| vec![None; n]).collect(), ..Deadlines::default() }
    }

    /// How many timers a device declared.
    pub(crate) fn declared(&self, device: usize) -> usize {
        self.timers[device].len()
    }

    /// A device has so many timers now: the ones that it had, and maybe more.
    pub(crate) fn declare(&mut self, device: usize, timers: usize) {
        assert!(timers >= self.timers[device].len(), "a timer that is gone may be armed");
        self.timers[device].resize(timers, None);
    }

    /// Arm a timer, or move it. Moving gives it a new place among equal deadlines.
    pub(crate) fn arm(&mut self, device: usize, timer: u32, at_ns: u64) {
        self.cancel(device, timer);
        let when = self.push(at_ns, Due::Timer { device, timer });
        *self.slot(device, timer) = Some(when);
    }

    /// Disarm a timer, armed or not.
    pub(crate) fn cancel(&mut self, device: usize, timer: u32) {
        if let Some(when) = self.slot(device, timer).take() {
            self.queue.remove(&when);
        }
    }

    /// When an armed timer is due.
    pub(crate) fn deadline(&mut self, device: usize, timer: u32) -> Option<u64> {
        self.slot(device, timer).map(|when| when.at_ns)
    }

    /// A disk request completes at `at_ns`.
    pub(crate) fn push_disk(&mut self, at_ns: u64, request: u64) {
        self.push(at_ns, Due::Disk { request });
    }

    /// The earliest deadline.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        self.queue.first_key_value().map(|(when, _)| when.at_ns)
    }

    /// The mark that separates what is armed by now from what will be armed later.
    pub(crate) fn mark(&self) -> u64 {
        self.next_order
    }

    /// Take the first thing due by `now_ns` that was armed before `mark`: a timer that re-arms itself in the past
    /// fires at the next safe point, not for ever at this one.
    pub(crate) fn pop(&mut self, now_ns: u64, mark: u64) -> Option<Due> {
        let (&when, _) = self
            .queue
            .iter()
            .take_while(|(when, _)| when.at_ns <= now_ns)
            .find(|(when, _)| when.order < mark)?;
        let due = self.queue.remove(&when)?;
        if let Due::Timer { device, timer } = due {
            *self.slot(device, timer) = None;
        }
        Some(due)
    }

    /// Everything armed, in order: for the saved state.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (When, Due)> + '_ {
        self.queue.iter().map(|(&when, &due)| (when, due))
    }

    /// Disarm a device's timers.
    pub(crate) fn cancel_device(&mut self, device: usize) {
        for timer in 0..self.timers[device].len() {
            self.cancel(device, u32::try_from(timer).expect("timer ids are u32"));
        }
    }

    /// Forget the completions of disk requests that `dropped` names.
    pub(crate) fn cancel_disk(&mut self, dropped: &[u64]) {
        self.queue.retain(|_, due| !matches!(due, Due::Disk { request } if dropped.contains(request)));
    }

    /// Exactly these, armed in this order.
    pub(crate) fn restore(&mut self, due: impl Iterator<Item = (u64, Due)>) {
        self.queue.clear();
        self.timers.iter_mut().for_each(|timers| timers.fill(None));
        for (at_ns, due) in due {
            match due {
                Due::Timer { device, timer } => self.arm(device, timer, at_ns),
                Due::Disk { request } => self.push_disk(at_ns, request),
            }
        }
    }

    fn push(&mut self, at_ns: u64, due: Due) -> When {
        let when = When { at_ns, order: self.next_order };
        self.next_order += 1;
        self.queue.insert(when, due);
        when
    }

    fn slot(&mut self, device: usize, timer: u32) -> &mut Option<When> {
        &mut self.timers[device][timer as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timer(timer: u32) -> Due {
        Due::Timer { device: 0, timer }
    }

    #[test]
    fn equal_deadlines_fire_in_arm_order() {
        let mut d = Deadlines::new(&[3]);
        d.arm(0, 2, 10);
        d.arm(0, 0, 10);
        d.arm(0, 1, 5);
        d.arm(0, 2, 10); // moved behind timer 0
        let mark = d.mark();
        let order: Vec<_> = std::iter::from_fn(|| d.pop(10, mark)).collect();
        assert_eq!(order, [timer(1), timer(0), timer(2)]);
        assert_eq!(d.deadline(0, 2), None, "a fired timer is disarmed");
    }

    #[test]
    fn what_is_armed_in_the_past_waits_for_the_next_safe_point() {
        let mut d = Deadlines::new(&[2]);
        d.arm(0, 0, 10);
        let mark = d.mark();
        assert_eq!(d.pop(10, mark), Some(timer(0)));
        d.arm(0, 0, 3);
        assert_eq!(d.pop(10, mark), None);
        assert_eq!(d.next_ns(), Some(3));
        assert_eq!(d.pop(10, d.mark()), Some(timer(0)));
    }

    #[test]
    fn dropped_disk_requests_never_complete() {
        let mut d = Deadlines::new(&[1]);
        d.push_disk(5, 7);
        d.push_disk(5, 8);
        d.arm(0, 0, 5);
        d.cancel_disk(&[7]);
        let mark = d.mark();
        let order: Vec<_> = std::iter::from_fn(|| d.pop(5, mark)).collect();
        assert_eq!(order, [Due::Disk { request: 8 }, timer(0)]);
    }

    #[test]
    fn cancelling_is_idempotent() {
        let mut d = Deadlines::new(&[1]);
        d.cancel(0, 0);
        d.arm(0, 0, 10);
        d.cancel(0, 0);
        d.cancel(0, 0);
        assert_eq!(d.next_ns(), None);
    }
}
