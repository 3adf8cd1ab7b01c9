//! The gate itself.

use crate::{Event, Position, RandomStream, Seed};

/// Stamps what enters with its position, and is the only source of what the host's clock and chance say.
///
/// Live mode: every event passes. The recorder appends at [`Gate::admit`], [`Gate::bottom_half`] and
/// [`Gate::host_clock`]; the replayer answers there instead of the outside. Nothing else in the machine changes.
#[derive(Debug)]
pub struct Gate {
    last: Position,
    admitted: u64,
    random: RandomStream,
}

impl Gate {
    /// A gate that passes everything, with the run's seed.
    #[must_use]
    pub fn live(seed: Seed) -> Gate {
        Gate { last: Position::default(), admitted: 0, random: RandomStream::new(seed) }
    }

    /// Virtual time of the next logged event, which the machine must not run past. `None` in live mode.
    #[must_use]
    pub fn next_position(&self) -> Option<Position> {
        None
    }

    /// Let an event in at `vtime_ns`, and say which position it got.
    pub fn admit(&mut self, vtime_ns: u64, event: &Event) -> Position {
        let _ = event;
        self.stamp(vtime_ns)
    }

    /// A bottom half that may change the guest is about to run at `vtime_ns`.
    pub fn bottom_half(&mut self, vtime_ns: u64, device: u32, bh: u32, oneshot: bool) -> Position {
        self.admit(vtime_ns, &Event::BottomHalf { device, bh, oneshot })
    }

    /// The host's wall clock as the guest may see it; `ask` reads it and is not called in replay.
    pub fn host_clock(&mut self, vtime_ns: u64, ask: impl FnOnce() -> u64) -> u64 {
        let value_ns = ask();
        self.admit(vtime_ns, &Event::HostClock { value_ns });
        value_ns
    }

    /// Fill from the run's random stream.
    pub fn random(&mut self, into: &mut [u8]) {
        self.random.fill(into);
    }

    /// The stream, for the saved state.
    #[must_use]
    pub fn random_stream(&self) -> &RandomStream {
        &self.random
    }

    /// Events admitted so far.
    #[must_use]
    pub fn admitted(&self) -> u64 {
        self.admitted
    }

    fn stamp(&mut self, vtime_ns: u64) -> Position {
        assert!(
            vtime_ns >= self.last.vtime_ns,
            "the gate saw time run backwards: {vtime_ns} < {:?}",
            self.last
        );
        let first_at_this_time = self.admitted == 0 || vtime_ns > self.last.vtime_ns;
        let order = if first_at_this_time { 0 } else { self.last.order + 1 };
        self.last = Position { vtime_ns, order };
        self.admitted += 1;
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reset() -> Event {
        Event::Control(crate::Control::Reset)
    }

    #[test]
    fn positions_are_unique_and_ordered() {
        let mut gate = Gate::live(Seed::from_number(1));
        let got: Vec<Position> = [5, 5, 5, 9, 9].iter().map(|&at| gate.admit(at, &reset())).collect();
        assert_eq!(got.iter().map(|p| p.order).collect::<Vec<_>>(), [0, 1, 2, 0, 1]);
        assert!(got.windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    #[should_panic(expected = "backwards")]
    fn time_cannot_run_backwards() {
        let mut gate = Gate::live(Seed::from_number(1));
        gate.admit(5, &reset());
        gate.admit(4, &reset());
    }

    #[test]
    fn the_host_clock_is_an_event() {
        let mut gate = Gate::live(Seed::from_number(1));
        assert_eq!(gate.host_clock(3, || 77), 77);
        assert_eq!(gate.admitted(), 1);
    }
}
