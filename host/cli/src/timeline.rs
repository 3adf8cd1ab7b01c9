//! A recording that can be looked at anywhere: a machine that replays it, and snapshots that it drops along the way.

mod cost;
mod kept;
mod stored;

use crate::{args::RecordingArgs, failure::Failure, rebuild::Replica, replay::Replay, unplugged::Show};
use kept::Kept;
use reprise_machine::{Machine, RestoreError, Stop, Until};
use std::time::{Duration, Instant};
use stored::Trail;

/// Host time between two snapshots: what a seek to a place between them costs at most, beside the snapshot itself.
const EVERY: Duration = Duration::from_millis(250);
/// Memory that snapshots may take, in bytes, beside what the machine has.
const MEMORY_BYTES: usize = 1 << 30;
/// Instructions before the first look at how long they take.
const FIRST_STEP: u64 = 5_000_000;
/// Instructions between two snapshots, at least: below it a snapshot costs more than it saves.
const SMALLEST_STEP: u64 = 200_000;

/// And at most, so that a host that was stopped for a while does not make a gap for ever.
const LARGEST_STEP: u64 = 1 << 32;
/// So many instructions before the goal of a seek there is a snapshot: who goes somewhere wants to go back a little.
const NEAR: u64 = 20_000;

/// A machine that goes to any place of its recording.
pub(crate) struct Timeline<'r> {
    replay: Replay<'r>,
    kept: Kept,
    /// The port whose lines are counted: device and port index.
    console: Option<(usize, usize)>,
    /// Those that were dropped while the run was recorded.
    trail: Trail<'r>,
    /// A divergence is looked into.
    explains: bool,
    /// Instructions between two snapshots.
    step: u64,
    /// The run came to its end here, and cannot go on.
    over: Option<Stop>,
}

impl<'r> Timeline<'r> {
    /// At the beginning of the recording.
    pub(crate) fn open(replica: &'r Replica, args: &RecordingArgs, show: Show) -> Result<Self, Failure> {
        let mut replay = Replay::start(replica, args, show, None)?;
        let mut kept = Kept::new(MEMORY_BYTES);
        let console = replica.console();
        let lines = console.map_or(0, |(device, port)| replay.machine.lines(device, port));
        kept.insert(replay.machine.status(), lines, replay.machine.snapshot());
        Ok(Self {
            replay,
            kept,
            console,
            trail: Trail::of(replica),
            explains: !args.no_search,
            step: FIRST_STEP,
            over: None,
        })
    }

    /// Go there, forwards or back; `None`: to the end. The same place is the same state, from wherever one comes.
    /// Returns why it stopped: [`Stop::Until`] if the place is there, otherwise how the run ended before it.
    pub(crate) fn seek(&mut self, to: Option<Until>) -> Result<Stop, Failure> {
        self.enter(to)?;
        loop {
            if let Some(over) = &self.over {
                // The very end is a place, too.
                let there = to.is_some() && self.replay.machine.has_arrived();
                return Ok(if there { Stop::Until } else { over.clone() });
            }
            let machine = &mut self.replay.machine;
            machine.set_until(to);
            machine.set_checkpoint(Some(next_checkpoint(machine.status().icount, self.step, to)));
            let (started, from) = (Instant::now(), machine.status().icount);
            let stop = self.replay.run();
            self.pace(self.replay.machine.status().icount - from, started.elapsed());
            match stop {
                Stop::Until if self.replay.machine.has_arrived() => return Ok(Stop::Until),
                Stop::Until => self.keep(to),
                Stop::Requested => return Ok(stop),
                stop => {
                    if let Some(failure) = self.replay.failure(&stop, self.explains) {
                        return Err(failure);
                    }
                    self.over = Some(stop);
                }
            }
        }
    }

    /// The machine, at the place of the last [`Timeline::seek`].
    pub(crate) fn machine(&mut self) -> &mut Machine {
        &mut self.replay.machine
    }

    /// The exit code, if the user has seen enough.
    pub(crate) fn interrupted(&self) -> u8 {
        self.replay.end(Stop::Requested).code()
    }

    /// Events of the log that lie before this place.
    pub(crate) fn events(&self) -> u64 {
        self.replay.counter.passed().events
    }

    /// Stand before the place, as near as possible.
    fn enter(&mut self, to: Option<Until>) -> Result<(), Failure> {
        let lines = self.lines();
        let nearest = self.kept.before(to);
        let here = self.replay.machine.status();
        let on = self.over.is_none() && kept::is_before(here, lines, to);
        self.over = None;
        // From the disk only what saves more than it costs.
        let near = nearest.place().0.max(if on { here.icount } else { 0 }) + self.step;
        if let Some(snapshot) = self.trail.before(to, near) {
            self.replay.machine.restore(&snapshot).map_err(|error| broken(&error))?;
            let lines = self.lines();
            self.kept.insert(self.replay.machine.status(), lines, snapshot);
            return Ok(());
        }
        if on && (here.icount, here.vtime_ns) >= nearest.place() {
            return Ok(());
        }
        self.replay.machine.restore(&nearest.snapshot).map_err(|error| broken(&error))
    }

    fn keep(&mut self, to: Option<Until>) {
        let status = self.replay.machine.status();
        let reach = if is_near(status.icount, to) { NEAR / 2 } else { self.step / 2 };
        if !self.kept.has_near(status, reach) {
            let lines = self.lines();
            self.kept.insert(status, lines, self.replay.machine.snapshot());
        }
    }

    /// Lines that the console has seen.
    fn lines(&self) -> u64 {
        self.console.map_or(0, |(device, port)| self.replay.machine.lines(device, port))
    }

    /// How many instructions fit between two snapshots, going by what the last leg took. A short one tells nothing.
    fn pace(&mut self, instructions: u64, took: Duration) {
        if instructions < SMALLEST_STEP {
            return;
        }
        let wanted = u128::from(instructions) * EVERY.as_nanos() / took.as_nanos().max(1);
        let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
        self.step = wanted.clamp(SMALLEST_STEP.max(self.step / 2), LARGEST_STEP.min(self.step * 2));
    }
}

/// Where the machine stops for a snapshot: regularly, and once shortly before its goal.
fn next_checkpoint(icount: u64, step: u64, to: Option<Until>) -> u64 {
    let regular = icount + step;
    match to {
        Some(Until::Icount(goal)) if icount + 2 * NEAR < goal => regular.min(goal - NEAR),
        Some(Until::Icount(_) | Until::Position(_) | Until::Lines { .. }) | None => regular,
    }
}

fn is_near(icount: u64, to: Option<Until>) -> bool {
    matches!(to, Some(Until::Icount(goal)) if icount + NEAR >= goal)
}

/// A snapshot of this very process cannot be broken.
fn broken(error: &RestoreError) -> Failure {
    Failure::new(crate::failure::Exit::Corrupt, "cannot go back to a snapshot").note(error.to_string())
}
