//! How far a replay is: a line on standard error.

use crate::io::mips;
use reprise_machine::Status;
use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

/// How often a line on a terminal is drawn anew, in host time.
const REDRAW: Duration = Duration::from_millis(100);
/// How often a line is written where nothing can be drawn anew.
const REPEAT: Duration = Duration::from_secs(2);
/// A replay that ends before this needs no line.
const PATIENCE: Duration = Duration::from_millis(300);
/// Cells of the bar.
const BAR_CELLS: usize = 24;

/// The line, and when it is due.
pub(crate) struct Progress {
    whole: Whole,
    started: Instant,
    due: Instant,
    in_place: bool,
    drawn: bool,
}

/// What is to be replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Whole {
    /// Instructions.
    pub(crate) icount: u64,
    /// Virtual time in nanoseconds.
    pub(crate) vtime_ns: u64,
}

impl Progress {
    /// A line on a terminal that does not show the guest's output too (`shows_output`: standard output does), or
    /// wherever one was `asked` for.
    pub(crate) fn new(asked: bool, shows_output: bool, whole: impl FnOnce() -> Whole) -> Option<Self> {
        let terminal = io::stderr().is_terminal();
        let alone = !(shows_output && io::stdout().is_terminal());
        let in_place = terminal && alone;
        if !(asked || in_place) {
            return None;
        }
        let started = Instant::now();
        Some(Self { whole: whole(), started, due: started + PATIENCE, in_place, drawn: false })
    }

    /// Draw the line if it is due.
    pub(crate) fn tick(&mut self, status: Status) {
        let now = Instant::now();
        if now < self.due {
            return;
        }
        self.due = now + if self.in_place { REDRAW } else { REPEAT };
        let text = line(status, self.whole, now - self.started);
        let text = if self.in_place { format!("\r{text}\x1b[K") } else { format!("{text}\n") };
        self.drawn = self.in_place;
        write(&text);
    }

    /// Take the line away, before something else is written.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            write("\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn write(text: &str) {
    // Nobody is left to be told.
    drop(io::stderr().write_all(text.as_bytes()));
}

/// The part that is done, from 0 to 1: of the instructions, or of the time if there are none.
fn share(status: Status, whole: Whole) -> f64 {
    let (done, all) = match whole.icount {
        0 => (status.vtime_ns, whole.vtime_ns),
        icount => (status.icount, icount),
    };
    if all == 0 { 1.0 } else { (done as f64 / all as f64).min(1.0) }
}

fn line(status: Status, whole: Whole, passed: Duration) -> String {
    let share = share(status, whole);
    let cells = ((share * BAR_CELLS as f64) as usize).min(BAR_CELLS);
    let bar = "#".repeat(cells) + &"-".repeat(BAR_CELLS - cells);
    let seconds = passed.as_secs_f64();
    let left = match share > 0.0 {
        true => format!(", {} left", clock(seconds / share - seconds)),
        false => String::new(),
    };
    format!(
        "[{bar}] {:3.0}%, vtime {:.1} s, {:.0} MIPS{left}",
        share * 100.0,
        status.vtime_ns as f64 / 1e9,
        mips(status.icount, passed)
    )
}

/// Seconds as 1:02:03 or 2:03.
fn clock(seconds: f64) -> String {
    let all = seconds.round() as u64;
    let (h, m, s) = (all / 3600, all / 60 % 60, all % 60);
    if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m}:{s:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(icount: u64, vtime_ns: u64) -> Status {
        Status { icount, instret: icount, vtime_ns }
    }

    #[test]
    fn says_how_far_how_fast_and_how_long_yet() {
        let whole = Whole { icount: 4_000_000_000, vtime_ns: 9_000_000_000 };
        let text = line(status(1_000_000_000, 2_000_000_000), whole, Duration::from_secs(10));
        assert_eq!(text, "[######------------------]  25%, vtime 2.0 s, 100 MIPS, 0:30 left");
        let text = line(status(0, 0), whole, Duration::from_secs(1));
        assert!(text.contains("  0%") && !text.contains("left"), "{text}");
        // A log that says less than the machine has done does not lead beyond the end.
        let text = line(status(5_000_000_000, 0), whole, Duration::from_secs(1));
        assert!(text.contains("100%") && text.contains("0:00 left"), "{text}");
    }

    #[test]
    fn time_counts_where_no_instruction_does() {
        assert_eq!(share(status(0, 5), Whole { icount: 0, vtime_ns: 10 }).to_string(), "0.5");
        assert_eq!(share(status(0, 0), Whole::default()).to_string(), "1");
        assert_eq!(clock(3723.4), "1:02:03");
    }
}
