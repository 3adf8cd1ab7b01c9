//! A recording that can be looked at anywhere: a machine that replays it, and snapshots that it drops along the way.

mod cost;
mod kept;
mod stored;

pub(crate) use cost::cost;
pub(crate) use kept::least_missed;

use crate::{failure::Failure, rebuild::Replica};
use kept::Kept;
use reprise_machine::{Checkpoint, Machine, RestoreError, Stop, Until};
use std::time::{Duration, Instant};
use stored::Trail;

/// Instructions before the first look at how long they take.
const FIRST_STEP: u64 = 5_000_000;
/// Instructions between two snapshots, at least: below it a snapshot costs more than it saves.
const SMALLEST_STEP: u64 = 200_000;

/// And at most, so that a host that was stopped for a while does not make a gap for ever.
const LARGEST_STEP: u64 = 1 << 32;
/// So many instructions before the goal of a seek there is a snapshot: who goes somewhere wants to go back a little.
const NEAR: u64 = 20_000;

/// How many snapshots are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keeping {
    /// Host time between two: what a seek to a place between them costs at most, beside the snapshot itself. `None`:
    /// there is only the one of the beginning.
    pub(crate) every: Option<Duration>,
    /// Memory that they may take, in bytes, beside what the machine has.
    pub(crate) memory_bytes: usize,
}

/// Why a machine came back.
pub(crate) enum Leg {
    Stop(Stop),
    /// The breakpoint was reached.
    Break,
}

/// The snapshots behind a machine.
pub(crate) struct Past {
    kept: Kept,
    /// Those that were dropped while the run was recorded.
    trail: Trail,
    every: Option<Duration>,
    /// The port whose lines are counted: device and port index.
    console: Option<(usize, usize)>,
    /// Instructions between two snapshots.
    step: u64,
}

impl Past {
    /// It begins where the machine stands.
    pub(crate) fn new(keeping: Keeping, replica: &Replica, machine: &mut Machine) -> Self {
        let mut kept = Kept::new(keeping.memory_bytes);
        let console = replica.console();
        kept.insert(machine.status(), lines(machine, console), machine.snapshot());
        Self { kept, trail: Trail::of(replica.store()), every: keeping.every, console, step: FIRST_STEP }
    }

    /// Stand before the place, as near as possible. `on`: the machine can go on from where it stands.
    pub(crate) fn enter(
        &mut self,
        replica: &Replica,
        machine: &mut Machine,
        to: Option<Until>,
        on: bool,
    ) -> Result<(), Failure> {
        let nearest = self.kept.before(to);
        let here = machine.status();
        let on = on && kept::is_before(here, lines(machine, self.console), to);
        // From the disk only what saves more than it costs.
        let near = nearest.place().0.max(if on { here.icount } else { 0 }) + self.step;
        if let Some(snapshot) = self.trail.before(replica, to, near) {
            machine.restore(&snapshot).map_err(|error| broken(&error))?;
            self.kept.insert(machine.status(), lines(machine, self.console), snapshot);
            return Ok(());
        }
        if on && (here.icount, here.vtime_ns) >= nearest.place() {
            return Ok(());
        }
        machine.restore(&nearest.snapshot).map_err(|error| broken(&error))
    }

    fn keep(&mut self, machine: &mut Machine, to: Option<Until>) {
        let status = machine.status();
        let reach = if is_near(status.icount, to) { NEAR / 2 } else { self.step / 2 };
        if !self.kept.has_near(status, reach) {
            let lines = lines(machine, self.console);
            self.kept.insert(status, lines, machine.snapshot());
        }
    }

    /// Where the next snapshot is wanted.
    fn next(&self, icount: u64, to: Option<Until>) -> Option<u64> {
        self.every.map(|_| next_checkpoint(icount, self.step, to))
    }

    /// How many instructions fit between two snapshots, going by what the last leg took. A short one tells nothing.
    fn pace(&mut self, instructions: u64, took: Duration) {
        let Some(every) = self.every.filter(|_| instructions >= SMALLEST_STEP) else { return };
        let wanted = u128::from(instructions) * every.as_nanos() / took.as_nanos().max(1);
        let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
        self.step = wanted.clamp(SMALLEST_STEP.max(self.step / 2), LARGEST_STEP.min(self.step * 2));
    }
}

/// Let a machine go on until it stops, there at the latest (`None`: nowhere), and keep snapshots along the way.
/// `breakpoint`: the icount to come back at before.
pub(crate) fn go(
    machine: &mut Machine,
    mut past: Option<&mut Past>,
    to: Option<Until>,
    breakpoint: Option<u64>,
) -> Leg {
    machine.set_until(to);
    let leg = loop {
        let (started, from) = (Instant::now(), machine.status().icount);
        let snapshot = past.as_ref().and_then(|past| past.next(from, to));
        let checkpoint = snapshot.into_iter().chain(breakpoint).min();
        machine.set_checkpoint(checkpoint.map(Checkpoint::Icount));
        let stop = machine.run();
        let icount = machine.status().icount;
        if let Some(past) = &mut past {
            past.pace(icount - from, started.elapsed());
        }
        if stop != Stop::Until || machine.has_arrived() {
            break Leg::Stop(stop);
        }
        if breakpoint.is_some_and(|at| icount >= at) {
            break Leg::Break;
        }
        if let Some(past) = &mut past {
            past.keep(machine, to);
        }
    };
    machine.set_checkpoint(None);
    leg
}

/// Whether a machine has a place before it, for certain.
pub(crate) fn is_ahead(machine: &Machine, replica: &Replica, to: Option<Until>) -> bool {
    kept::is_before(machine.status(), lines(machine, replica.console()), to)
}

/// Lines that the console has seen.
fn lines(machine: &Machine, console: Option<(usize, usize)>) -> u64 {
    console.map_or(0, |(device, port)| machine.lines(device, port))
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
