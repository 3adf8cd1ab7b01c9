//! The virtual clock as the machine publishes it.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

/// Virtual time for those outside: one writer (the machine's thread), any number of readers.
///
/// Between two publications it stands still, so it never overtakes the guest.
///
/// It has a few alarms, one for each thread that has timers: [`ExternalClock::with_own_alarm`].
#[derive(Clone, Debug)]
pub struct ExternalClock {
    shared: Arc<Shared>,
    alarm: usize,
}

/// Alarms of one clock: the console's thread and some networks.
const ALARMS: usize = 8;

#[derive(Debug)]
struct Shared {
    now_ns: AtomicU64,
    running: AtomicBool,
    alarms_ns: [AtomicU64; ALARMS],
    /// How many alarms have an owner.
    owned: AtomicUsize,
    sleeper: OnceLock<Sleeper>,
}

/// Wakes the machine's thread.
struct Sleeper(Box<dyn Fn() + Send + Sync>);

impl fmt::Debug for Sleeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sleeper")
    }
}

impl Default for ExternalClock {
    fn default() -> Self {
        let shared = Arc::new(Shared {
            now_ns: AtomicU64::new(0),
            running: AtomicBool::new(false),
            alarms_ns: std::array::from_fn(|_| AtomicU64::new(u64::MAX)),
            owned: AtomicUsize::new(1),
            sleeper: OnceLock::new(),
        });
        Self { shared, alarm: 0 }
    }
}

impl ExternalClock {
    /// The same clock for another thread, with an alarm of its own; `None` if all of them have owners.
    #[must_use]
    pub fn with_own_alarm(&self) -> Option<Self> {
        let alarm = self.shared.owned.fetch_add(1, Ordering::SeqCst);
        (alarm < ALARMS).then(|| Self { shared: Arc::clone(&self.shared), alarm })
    }

    /// The machine stands at `vtime_ns`. Returns true once when an alarm is due: then wake all threads that have one.
    ///
    /// # Panics
    /// Virtual time went backwards. (Going back by replay is another run, with another clock.)
    #[must_use]
    pub fn publish(&self, vtime_ns: u64, running: bool) -> bool {
        let before = self.shared.now_ns.swap(vtime_ns, Ordering::SeqCst);
        assert!(before <= vtime_ns, "virtual time went from {before} back to {vtime_ns}");
        self.shared.running.store(running, Ordering::Release);
        // SeqCst on both sides: either this load sees the alarm or `set_alarm`'s caller sees the new time.
        let mut rings = false;
        for alarm in &self.shared.alarms_ns {
            let alarm_ns = alarm.load(Ordering::SeqCst);
            rings |= alarm_ns <= vtime_ns
                && alarm.compare_exchange(alarm_ns, u64::MAX, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        }
        rings
    }

    /// The machine became one of another time: of the past, maybe.
    pub fn restart(&self, vtime_ns: u64) {
        self.shared.now_ns.store(vtime_ns, Ordering::SeqCst);
    }

    /// Virtual time in nanoseconds, as last published.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.shared.now_ns.load(Ordering::SeqCst)
    }

    /// Whether the machine runs, as last published.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.shared.running.load(Ordering::Acquire)
    }

    /// Ask [`ExternalClock::publish`] to report when `deadline_ns` has come; `None` asks for nothing. Its owner
    /// is the thread that polls the timers, and it looks at the clock again after setting it.
    pub fn set_alarm(&self, deadline_ns: Option<u64>) {
        let first_ns = self.alarm();
        self.shared.alarms_ns[self.alarm].store(deadline_ns.unwrap_or(u64::MAX), Ordering::SeqCst);
        let is_sooner = deadline_ns.is_some_and(|at_ns| first_ns.is_none_or(|first_ns| at_ns < first_ns));
        if is_sooner && let Some(Sleeper(wake)) = self.shared.sleeper.get() {
            wake();
        }
    }

    /// When the first alarm is due.
    #[must_use]
    pub fn alarm(&self) -> Option<u64> {
        let alarms = self.shared.alarms_ns.iter().map(|alarm| alarm.load(Ordering::SeqCst));
        alarms.min().filter(|&at_ns| at_ns != u64::MAX)
    }

    /// `wake` is called when an alarm is set that comes before all others: a machine whose harts all wait sleeps until
    /// the first one. Only the first such call counts.
    pub fn when_sooner(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _first = self.shared.sleeper.set(Sleeper(Box::new(wake)));
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
        clock.set_alarm(Some(100));
        assert!(!clock.publish(99, true));
        assert!(clock.publish(100, true));
        assert!(!clock.publish(101, true));
        clock.set_alarm(Some(150));
        clock.set_alarm(None);
        assert!(!clock.publish(200, true));
    }

    #[test]
    fn each_owner_has_its_alarm() {
        let clock = ExternalClock::default();
        let other = clock.with_own_alarm().unwrap();
        clock.set_alarm(Some(100));
        other.set_alarm(Some(50));
        assert!(!clock.publish(49, true));
        assert!(clock.publish(50, true));
        assert!(!clock.publish(99, true));
        assert!(clock.publish(100, true));
        assert_eq!(other.now_ns(), 100);
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        clock.when_sooner(move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        assert_eq!(clock.alarm(), None);
        for (owner, at_ns, first_ns, wakes) in [
            (&clock, Some(300), Some(300), 1),
            (&other, Some(400), Some(300), 1),
            (&other, Some(200), Some(200), 2),
            (&other, None, Some(300), 2),
            (&clock, Some(350), Some(350), 2),
        ] {
            owner.set_alarm(at_ns);
            assert_eq!((clock.alarm(), woken.load(Ordering::SeqCst)), (first_ns, wakes));
        }
        assert_eq!((0..20).filter_map(|_| clock.with_own_alarm()).count(), ALARMS - 2);
    }

    #[test]
    #[should_panic(expected = "back to 4")]
    fn it_does_not_go_back() {
        let clock = ExternalClock::default();
        let _ = clock.publish(5, true);
        let _ = clock.publish(4, true);
    }
}
