//! The virtual clock as the machine publishes it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// Virtual time for those outside: one writer (the machine's thread), any number of readers.
///
/// Between two publications it stands still, so it never overtakes the guest.
#[derive(Clone, Debug)]
pub struct ExternalClock(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    now_ns: AtomicU64,
    running: AtomicBool,
    alarm_ns: AtomicU64,
}

impl Default for ExternalClock {
    fn default() -> Self {
        Self(Arc::new(Shared {
            now_ns: AtomicU64::new(0),
            running: AtomicBool::new(false),
            alarm_ns: AtomicU64::new(u64::MAX),
        }))
    }
}

impl ExternalClock {
    /// The machine stands at `vtime_ns`. Returns true once when the alarm is due: then wake the thread that set it.
    ///
    /// # Panics
    /// Virtual time went backwards. (Going back by replay is another run, with another clock.)
    #[must_use]
    pub fn publish(&self, vtime_ns: u64, running: bool) -> bool {
        let before = self.0.now_ns.swap(vtime_ns, Ordering::SeqCst);
        assert!(before <= vtime_ns, "virtual time went from {before} back to {vtime_ns}");
        self.0.running.store(running, Ordering::Release);
        // SeqCst on both sides: either this load sees the alarm or `set_alarm`'s caller sees the new time.
        let alarm_ns = self.0.alarm_ns.load(Ordering::SeqCst);
        alarm_ns <= vtime_ns
            && self
                .0
                .alarm_ns
                .compare_exchange(alarm_ns, u64::MAX, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
    }

    /// The machine became one of another time: of the past, maybe.
    pub fn restart(&self, vtime_ns: u64) {
        self.0.now_ns.store(vtime_ns, Ordering::SeqCst);
    }

    /// Virtual time in nanoseconds, as last published.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.0.now_ns.load(Ordering::SeqCst)
    }

    /// Whether the machine runs, as last published.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.0.running.load(Ordering::Acquire)
    }

    /// Ask [`ExternalClock::publish`] to report when `deadline_ns` has come; `None` asks for nothing. There is one
    /// alarm: its owner is the thread that polls the timers, and it looks at the clock again after setting it.
    ///
    /// A machine whose harts all wait sleeps until [`ExternalClock::alarm`]: if it may be asleep already, wake it.
    pub fn set_alarm(&self, deadline_ns: Option<u64>) {
        self.0.alarm_ns.store(deadline_ns.unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// When the alarm is due.
    #[must_use]
    pub fn alarm(&self) -> Option<u64> {
        Some(self.0.alarm_ns.load(Ordering::SeqCst)).filter(|&at_ns| at_ns != u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_still_until_the_machine_publishes() {
        let clock = ExternalClock::default();
        let reader = clock.clone();
        assert_eq!((reader.now_ns(), reader.is_running()), (0, false));
        assert!(!clock.publish(70, true));
        assert_eq!((reader.now_ns(), reader.is_running()), (70, true));
        assert!(!clock.publish(70, false));
        assert_eq!((reader.now_ns(), reader.is_running()), (70, false));
    }

    #[test]
    fn the_alarm_rings_once() {
        let clock = ExternalClock::default();
        assert_eq!(clock.alarm(), None);
        clock.set_alarm(Some(100));
        assert_eq!(clock.alarm(), Some(100));
        assert!(!clock.publish(99, true));
        assert!(clock.publish(100, true));
        assert!(!clock.publish(101, true));
        clock.set_alarm(Some(150));
        clock.set_alarm(None);
        assert!(!clock.publish(200, true));
    }

    #[test]
    #[should_panic(expected = "back to 4")]
    fn it_does_not_go_back() {
        let clock = ExternalClock::default();
        let _ = clock.publish(5, true);
        let _ = clock.publish(4, true);
    }
}
