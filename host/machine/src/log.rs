//! Log lines, and the limit on those that a guest can cause.

/// Severity of a [`LogRecord`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something cannot go on as it should.
    Error,
    /// The guest did something odd. Rate-limited.
    Warn,
    /// Worth knowing.
    Info,
    /// For the author of a device.
    Debug,
}

/// A line for people. Not part of the guest's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Severity.
    pub level: LogLevel,
    /// Device id, or `None` for the machine itself.
    pub device: Option<String>,
    /// The line.
    pub text: String,
    /// Virtual time in nanoseconds.
    pub vtime_ns: u64,
}

/// Warnings that pass in one window of virtual time; a guest that misbehaves in a loop must not flood the terminal.
const BURST: u32 = 10;
/// Length of that window: 1 s of virtual time, so that the same run prints the same lines on every host.
const WINDOW_NS: u64 = 1_000_000_000;

/// Lets the first [`BURST`] warnings of each window pass and counts the rest.
#[derive(Debug, Default)]
pub(crate) struct RateLimit {
    window: u64,
    passed: u32,
    suppressed: u64,
}

/// What to do with a warning.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Print it.
    Pass,
    /// Print it, and say before it how many were left out since the last one printed.
    PassAfter(u64),
    /// Count it only.
    Suppress,
}

impl RateLimit {
    /// How many were left out since the last that passed; they are then accounted for.
    pub(crate) fn take_suppressed(&mut self) -> u64 {
        std::mem::take(&mut self.suppressed)
    }

    /// For the saved state.
    pub(crate) fn state(&self) -> [u64; 3] {
        [self.window, self.passed.into(), self.suppressed]
    }

    /// Back to what [`RateLimit::state`] gave. False if no limit can be there.
    pub(crate) fn restore(&mut self, [window, passed, suppressed]: [u64; 3]) -> bool {
        match u32::try_from(passed).ok().filter(|&passed| passed <= BURST) {
            Some(passed) => {
                *self = RateLimit { window, passed, suppressed };
                true
            }
            None => false,
        }
    }

    pub(crate) fn check(&mut self, vtime_ns: u64) -> Verdict {
        let window = vtime_ns / WINDOW_NS;
        if window != self.window {
            self.window = window;
            self.passed = 0;
        }
        if self.passed == BURST {
            self.suppressed += 1;
            return Verdict::Suppress;
        }
        self.passed += 1;
        match std::mem::take(&mut self.suppressed) {
            0 => Verdict::Pass,
            n => Verdict::PassAfter(n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let mut limit = RateLimit::default();
        let passed = (0..100).filter(|_| limit.check(5) != Verdict::Suppress).count();
        assert_eq!(passed, BURST as usize);
        assert_eq!(limit.check(WINDOW_NS), Verdict::PassAfter(100 - u64::from(BURST)));
        assert_eq!(limit.check(WINDOW_NS + 1), Verdict::Pass);
    }
}
