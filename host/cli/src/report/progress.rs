//! How far a search is, on a terminal.

use super::search::Progress;
use super::text::seconds;
use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

/// How often the line is refreshed, in host time.
const EVERY: Duration = Duration::from_millis(200);

/// One line that stays in place and is gone at the end. Nothing where standard error is no terminal.
pub(super) struct ProgressLine {
    due: Option<Instant>,
    shown: bool,
}

impl ProgressLine {
    pub(super) fn new() -> Self {
        Self { due: io::stderr().is_terminal().then(Instant::now), shown: false }
    }

    pub(super) fn show(&mut self, progress: Progress) {
        let now = Instant::now();
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        self.due = Some(now + EVERY);
        self.shown = true;
        let Progress { pass, of, vtime_ns } = progress;
        let text = format!("\rsearching: pass {pass} of {of}, vtime {}\x1b[K", seconds(vtime_ns));
        // A terminal that is gone is no reason to stop.
        drop(io::stderr().write_all(text.as_bytes()));
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.shown {
            drop(io::stderr().write_all(b"\r\x1b[K"));
        }
    }
}
