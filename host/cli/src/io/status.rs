//! The status line: speed, virtual time, instructions.

use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

/// How often the line is refreshed, in host time.
const EVERY: Duration = Duration::from_secs(1);

/// The line and when it is due.
pub(super) struct StatusLine {
    due: Instant,
    last: (Instant, u64),
    in_place: bool,
}

impl StatusLine {
    /// `icount`: instructions so far.
    pub(super) fn new(icount: u64) -> Self {
        let now = Instant::now();
        // Beside the guest's output each status is a line; alone on a terminal it stays in place.
        let in_place = io::stderr().is_terminal() && !io::stdout().is_terminal();
        Self { due: now + EVERY, last: (now, icount), in_place }
    }

    /// How long until it is due.
    pub(super) fn wait(&self) -> Duration {
        self.due.saturating_duration_since(Instant::now())
    }

    /// The line, if it is due.
    pub(super) fn tick(&mut self, icount: u64, vtime_ns: u64) -> Option<String> {
        let now = Instant::now();
        if now < self.due {
            return None;
        }
        let (then, before) = std::mem::replace(&mut self.last, (now, icount));
        self.due = now + EVERY;
        let mips = mips(icount.saturating_sub(before), now - then);
        let text =
            format!("[{mips:.1} MIPS, vtime {:.3} s, icount {}]", vtime_ns as f64 / 1e9, grouped(icount));
        Some(if self.in_place { format!("\r{text}\x1b[K") } else { format!("{text}\n") })
    }
}

/// Million instructions per second of host time.
pub(crate) fn mips(instructions: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 { instructions as f64 / seconds / 1e6 } else { 0.0 }
}

/// 1234567 as 1,234,567.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// So many of something: "1 event", "1,000 events".
pub(crate) fn counted(number: u64, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {what}{s}", grouped(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(counted(1, "event") + ", " + &counted(0, "digest"), "1 event, 0 digests");
    }

    #[test]
    fn says_nothing_before_its_time() {
        let mut line = StatusLine::new(0);
        assert_eq!(line.tick(5, 5), None);
        line.due = Instant::now();
        line.in_place = false;
        let text = line.tick(2_000, 1_500_000_000).unwrap();
        assert!(text.ends_with("vtime 1.500 s, icount 2,000]\n"), "{text}");
        assert_eq!(line.tick(5, 5), None);
    }
}
