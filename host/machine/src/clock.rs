//! The virtual clock: `vtime = (icount << shift) + idle_ns`, and the time base that the `time` CSR and `mtime` read.

/// Nanoseconds in a second.
const NS_PER_S: u64 = 1_000_000_000;

/// No machine sleeps to this time or beyond, 292 years after power-on: a deadline there never comes. What a guest can
/// still execute after the longest sleep fits behind it.
pub(crate) const END_OF_TIME_NS: u64 = 1 << 63;

/// The machine's time line. Every instruction boundary has its own virtual time.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    // Configuration.
    shift: u8,
    timebase_hz: u64,
    /// Nanoseconds in a tick where that is a whole number: then a tick costs one narrow division.
    tick_ns: Option<u64>,
    // State.
    icount: u64,
    idle_ns: u64,
    time_offset: u64,
}

impl Clock {
    pub(crate) fn new(shift: u8, timebase_hz: u64) -> Clock {
        assert!(shift <= 10, "the board's parser limits shift to 0..=10");
        assert!(
            (1..=NS_PER_S).contains(&timebase_hz),
            "the board's parser limits the time base to 1 Hz..=1 GHz"
        );
        let tick_ns = NS_PER_S.is_multiple_of(timebase_hz).then_some(NS_PER_S / timebase_hz);
        Clock { shift, timebase_hz, tick_ns, icount: 0, idle_ns: 0, time_offset: 0 }
    }

    /// Instructions that all harts attempted.
    pub(crate) fn icount(&self) -> u64 {
        self.icount
    }

    /// Time skipped while every hart waited, in nanoseconds.
    pub(crate) fn idle_ns(&self) -> u64 {
        self.idle_ns
    }

    pub(crate) fn time_offset(&self) -> u64 {
        self.time_offset
    }

    /// Virtual time now, in nanoseconds since power-on.
    pub(crate) fn vtime_ns(&self) -> u64 {
        (self.icount << self.shift) + self.idle_ns
    }

    /// Virtual time at an instruction boundary since the last sleep.
    pub(crate) fn vtime_at(&self, icount: u64) -> u64 {
        (icount << self.shift) + self.idle_ns
    }

    /// Instructions were attempted.
    pub(crate) fn set_icount(&mut self, icount: u64) {
        assert!(icount >= self.icount, "icount ran backwards: {icount} < {}", self.icount);
        self.icount = icount;
    }

    /// Every hart waits: jump to `vtime_ns`. A time in the past moves nothing.
    pub(crate) fn skip_to(&mut self, vtime_ns: u64) {
        self.idle_ns += vtime_ns.saturating_sub(self.vtime_ns());
    }

    pub(crate) fn shift(&self) -> u8 {
        self.shift
    }

    /// Anywhere on the time line, `vtime_ns` not before what so many instructions take.
    pub(crate) fn restore(&mut self, icount: u64, vtime_ns: u64, time_offset: u64) {
        self.icount = icount;
        self.idle_ns = vtime_ns - (icount << self.shift);
        self.time_offset = time_offset;
    }

    pub(crate) fn set_time_offset(&mut self, ticks: u64) {
        self.time_offset = ticks;
    }

    /// The first instruction boundary at which virtual time has reached `deadline_ns`; never in the past.
    pub(crate) fn icount_at(&self, deadline_ns: u64) -> u64 {
        let busy_ns = deadline_ns.saturating_sub(self.idle_ns);
        let mask = (1u64 << self.shift) - 1;
        let boundary = (busy_ns >> self.shift) + u64::from(busy_ns & mask != 0);
        boundary.max(self.icount)
    }

    /// The time base, in ticks, at an instruction boundary.
    pub(crate) fn ticks_at(&self, icount: u64) -> u64 {
        self.ticks((icount << self.shift) + self.idle_ns)
    }

    /// The time base now, in ticks.
    pub(crate) fn ticks_now(&self) -> u64 {
        self.ticks(self.vtime_ns())
    }

    /// When the time base reaches `tick`, in nanoseconds of virtual time; `u64::MAX` if it never does.
    pub(crate) fn ns_at_tick(&self, tick: u64) -> u64 {
        // Counted from now: the time base may have been set back, and raw ticks say nothing about past and future.
        match tick.checked_sub(self.ticks_now()) {
            None | Some(0) => self.vtime_ns(),
            Some(ahead) => self.ns_at_raw(u128::from(self.raw(self.vtime_ns())) + u128::from(ahead)),
        }
    }

    /// When the time base wraps to 0, which makes what was pending by it not pending any more; `None` if a guest has
    /// not set it so that this comes.
    pub(crate) fn wraps_ns(&self) -> Option<u64> {
        let wraps_at = self.time_offset.wrapping_neg();
        let comes = self.time_offset != 0 && self.raw(self.vtime_ns()) < wraps_at;
        comes.then(|| self.ns_at_raw(u128::from(wraps_at))).filter(|&at_ns| at_ns != u64::MAX)
    }

    fn ticks(&self, vtime_ns: u64) -> u64 {
        self.raw(vtime_ns).wrapping_add(self.time_offset)
    }

    /// Ticks since power-on.
    fn raw(&self, vtime_ns: u64) -> u64 {
        match self.tick_ns {
            Some(tick_ns) => vtime_ns / tick_ns,
            None => narrow(u128::from(vtime_ns) * u128::from(self.timebase_hz) / u128::from(NS_PER_S)),
        }
    }

    /// The first nanosecond of a tick since power-on.
    fn ns_at_raw(&self, raw: u128) -> u64 {
        narrow(match self.tick_ns {
            Some(tick_ns) => raw * u128::from(tick_ns),
            None => (raw * u128::from(NS_PER_S)).div_ceil(u128::from(self.timebase_hz)),
        })
    }
}

fn narrow(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_fall_on_the_first_boundary_not_before_them() {
        let mut clock = Clock::new(3, 10_000_000);
        assert_eq!(
            (clock.icount_at(0), clock.icount_at(1), clock.icount_at(8), clock.icount_at(9)),
            (0, 1, 1, 2)
        );
        clock.set_icount(5);
        clock.skip_to(1000);
        assert_eq!(clock.vtime_ns(), 1000);
        assert_eq!(clock.icount_at(1000), 5);
        assert_eq!(clock.icount_at(1001), 6);
        clock.skip_to(3);
        assert_eq!(clock.vtime_ns(), 1000, "a jump into the past moves nothing");
    }

    #[test]
    fn a_tick_is_reached_exactly_when_the_counter_shows_it() {
        for hz in [1, 3, 32_768, 10_000_000, 24_000_000, 1_000_000_000] {
            let mut clock = Clock::new(0, hz);
            for tick in [1, 2, 7, 1000] {
                let at = clock.ns_at_tick(tick);
                assert!(clock.ticks_at(at) >= tick, "{hz} Hz, tick {tick}");
                assert!(at == 0 || clock.ticks_at(at - 1) < tick, "{hz} Hz, tick {tick}");
            }
            clock.set_time_offset(5);
            assert_eq!(clock.ns_at_tick(5), 0, "already shown");
            assert_eq!(clock.ns_at_tick(u64::MAX).min(1), 1);
        }
    }

    /// As after a warm reset, which clears `mtime`: the far future must not be taken for the past.
    #[test]
    fn a_time_base_set_back_keeps_the_future_ahead() {
        for hz in [32_768, 10_000_000] {
            let mut clock = Clock::new(0, hz);
            clock.set_icount(1_000_000_000);
            clock.set_time_offset(0u64.wrapping_sub(clock.ticks_now()));
            assert_eq!(clock.ticks_now(), 0);
            for tick in [u64::MAX, u64::MAX - 5] {
                assert_eq!(clock.ns_at_tick(tick), u64::MAX, "{hz} Hz, {tick:#x}");
            }
            assert!(clock.ns_at_tick(1) > clock.vtime_ns());
            assert_eq!(clock.wraps_ns(), None);
        }
    }

    #[test]
    fn a_time_base_near_its_end_wraps_when_the_counter_shows_it() {
        for hz in [3, 32_768, 10_000_000] {
            let mut clock = Clock::new(0, hz);
            assert_eq!(clock.wraps_ns(), None, "not in our time");
            clock.set_time_offset(u64::MAX - 2);
            let at = clock.wraps_ns().unwrap();
            assert_eq!((clock.ticks_at(at - 1), clock.ticks_at(at)), (u64::MAX, 0), "{hz} Hz");
            clock.set_icount(at);
            assert_eq!(clock.wraps_ns(), None);
        }
    }
}
