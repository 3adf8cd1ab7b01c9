//! Timers on the EXTERNAL clock, sans I/O.

use std::collections::BTreeMap;

/// Names a timer. Ids are the caller's: an index into a table of what waits.
pub type TimerId = u32;

/// Armed timers. Equal deadlines expire in the order in which they were armed, as on the machine's own side.
#[derive(Debug, Default)]
pub struct ExternalTimers {
    /// By (deadline, arm order).
    queue: BTreeMap<(u64, u64), TimerId>,
    /// The key in `queue` of each armed timer.
    armed: BTreeMap<TimerId, (u64, u64)>,
    next_order: u64,
}

impl ExternalTimers {
    /// Arm `id` for `deadline_ns` of the EXTERNAL clock. If it is armed already, it moves. A deadline in the past
    /// expires at the next poll.
    pub fn arm(&mut self, id: TimerId, deadline_ns: u64) {
        self.cancel(id);
        let key = (deadline_ns, self.next_order);
        self.next_order += 1;
        self.queue.insert(key, id);
        self.armed.insert(id, key);
    }

    /// Disarm `id`; nothing happens if it is not armed.
    pub fn cancel(&mut self, id: TimerId) {
        if let Some(key) = self.armed.remove(&id) {
            self.queue.remove(&key);
        }
    }

    /// The next timer that has expired at `now_ns`, disarmed; call until `None`.
    pub fn poll(&mut self, now_ns: u64) -> Option<TimerId> {
        let (&key, &id) = self.queue.first_key_value()?;
        if key.0 > now_ns {
            return None;
        }
        self.queue.remove(&key);
        self.armed.remove(&id);
        Some(id)
    }

    /// When [`ExternalTimers::poll`] will next have something.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.queue.keys().next().map(|&(deadline_ns, _)| deadline_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expired(timers: &mut ExternalTimers, now_ns: u64) -> Vec<TimerId> {
        std::iter::from_fn(|| timers.poll(now_ns)).collect()
    }

    #[test]
    fn equal_deadlines_expire_in_arm_order() {
        let mut timers = ExternalTimers::default();
        for id in [7, 3, 5] {
            timers.arm(id, 100);
        }
        timers.arm(9, 50);
        assert_eq!(timers.next_deadline(), Some(50));
        assert_eq!(expired(&mut timers, 99), [9]);
        assert_eq!(expired(&mut timers, 100), [7, 3, 5]);
        assert_eq!(timers.next_deadline(), None);
    }

    #[test]
    fn arming_again_moves_to_the_end_of_the_line() {
        let mut timers = ExternalTimers::default();
        timers.arm(1, 10);
        timers.arm(2, 10);
        timers.arm(1, 10);
        assert_eq!(expired(&mut timers, 10), [2, 1]);
    }

    #[test]
    fn cancelled_timers_stay_silent_and_late_ones_expire() {
        let mut timers = ExternalTimers::default();
        timers.arm(1, 10);
        timers.arm(2, 0);
        timers.cancel(1);
        timers.cancel(1);
        assert_eq!(expired(&mut timers, 1000), [2]);
    }
}
