//! The trail of a recording: snapshots that are dropped into it while it is made, so that whoever looks at it later
//! gets anywhere soon. A recording is whole without them.

use crate::timeline::least_missed;
use crate::{
    failure::Failure,
    recording::{Images, Manifest, SNAPSHOTS},
    snapshots::{Facts, Report, Saver, StoreWriter},
};
use reprise_machine::{Checkpoint, Machine};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Snapshots that wait to be written, at most: they hold memory.
const WAITING: usize = 1;
/// Taking snapshots costs at most this part of the machine's time.
const SHARE: u32 = 100;
/// Snapshots that a recording keeps, at most.
const MOST: usize = 256;
/// Instructions before the first look at how fast the machine is.
const FIRST_STEP: u64 = 20_000_000;
/// Between two looks at the clock, at least and at most.
const STEPS: std::ops::RangeInclusive<u64> = 1_000_000..=1 << 32;

/// How far apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Every {
    /// So much host time before the first snapshot, and between two. Those for which there is no time are left out.
    Host { first: Duration, every: Duration },
    /// So much guest time, in nanoseconds: the machine waits until there is room for each.
    Guest(u64),
}

/// How often, and for how much of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    pub(crate) every: Every,
    /// What all of them may take of the disk, in bytes.
    pub(crate) disk_bytes: u64,
}

/// Drops snapshots into a recording.
pub(crate) struct Trail {
    folder: PathBuf,
    saver: Option<Saver>,
    /// What all of them may take of the disk, in bytes.
    disk_bytes: u64,
    facts: Facts,
    /// Of those that are there: number and icount, ascending.
    kept: Vec<(u32, u64)>,
    next: u32,
    written_bytes: Arc<AtomicU64>,
    step: u64,
    /// When the last look at the clock was, and at which icount.
    looked: (Instant, u64),
    due: Due,
}

/// When the next snapshot is due, and how far behind it the one after it.
#[derive(Clone, Copy, Debug)]
enum Due {
    Host {
        at: Instant,
        every: Duration,
    },
    /// Virtual time in nanoseconds.
    Guest {
        at_ns: u64,
        every_ns: u64,
    },
}

impl Trail {
    /// Begin, in a recording that has been made just now.
    pub(crate) fn begin(recording: &Path, manifest: &Manifest, pace: Pace) -> Self {
        let written_bytes = Arc::new(AtomicU64::new(0));
        let now = Instant::now();
        let due = match pace.every {
            Every::Host { first, every } => Due::Host { at: now + first, every },
            Every::Guest(every_ns) => Due::Guest { at_ns: every_ns, every_ns },
        };
        Self {
            folder: recording.join(SNAPSHOTS),
            saver: None,
            disk_bytes: pace.disk_bytes,
            facts: facts(manifest),
            kept: Vec::new(),
            next: 0,
            written_bytes,
            step: FIRST_STEP,
            looked: (now, 0),
            due,
        }
    }

    /// The thread that writes, and the folder, when the first one is there to be written: a short recording has none.
    fn saver(&mut self) -> Result<&Saver, Failure> {
        if self.saver.is_none() {
            let writer = match self.folder.is_dir() {
                true => StoreWriter::open(&self.folder)?,
                false => StoreWriter::create(&self.folder)?,
            };
            let told = Arc::clone(&self.written_bytes);
            let tell = move |report| match report {
                Report::Saved { result: Ok(saved), .. } => {
                    told.fetch_add(saved.bytes_written, Ordering::Relaxed);
                }
                // The recording does not need them. Where the disk is full it says so itself.
                Report::Saved { result: Err(_), .. } | Report::Deleted { .. } | Report::Collected(_) => (),
            };
            let started = Saver::start(writer, WAITING, tell);
            self.saver =
                Some(started.map_err(|error| Failure::io("cannot start to write snapshots", &error))?);
        }
        Ok(self.saver.as_ref().expect("made above"))
    }

    /// Have the machine come back when the next look at the clock is due.
    pub(crate) fn plan(&mut self, machine: &mut Machine) {
        let status = machine.status();
        self.looked = (Instant::now(), status.icount);
        machine.set_checkpoint(Some(match self.due {
            Due::Host { .. } => Checkpoint::Icount(status.icount.saturating_add(self.step)),
            Due::Guest { at_ns, .. } => Checkpoint::Vtime(at_ns),
        }));
    }

    /// The machine has come back: drop a snapshot if it is time.
    pub(crate) fn step(&mut self, machine: &mut Machine) {
        let status = machine.status();
        match self.due {
            Due::Host { at, every } => {
                let (looked, icount) = self.looked;
                self.adapt(status.icount.saturating_sub(icount), looked.elapsed(), every);
                if Instant::now() >= at && self.saver.as_ref().is_none_or(Saver::has_room) {
                    let began = Instant::now();
                    self.drop_one(machine);
                    // The first one copies all of RAM, and says nothing of the others.
                    let cost = if self.next <= 1 { Duration::ZERO } else { began.elapsed() };
                    self.due = Due::Host { at: Instant::now() + every.max(cost * SHARE), every };
                }
            }
            Due::Guest { at_ns, every_ns } if status.vtime_ns >= at_ns => {
                self.saver.iter().for_each(Saver::wait_for_room);
                self.drop_one(machine);
                // Also if none was dropped: the machine would come back at once, for ever.
                self.due = Due::Guest { at_ns: status.vtime_ns.saturating_add(every_ns), every_ns };
            }
            Due::Guest { .. } => (),
        }
        self.plan(machine);
    }

    /// Look four times in the time between two snapshots.
    fn adapt(&mut self, instructions: u64, took: Duration, every: Duration) {
        let wanted = u128::from(instructions) * (every / 4).as_nanos() / took.as_nanos().max(1);
        let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
        self.step = wanted.clamp(*STEPS.start(), (*STEPS.end()).min(self.step * 2));
    }

    fn drop_one(&mut self, machine: &mut Machine) {
        // The log says what the state is here: nobody has to believe the snapshot.
        machine.vouch();
        let Ok((snapshot, facts)) = self.facts.taken(machine) else { return };
        let icount = facts.icount;
        let number = self.next;
        match self.saver().map(|saver| saver.try_save(name(number), snapshot, facts)) {
            Ok(taken) if taken => {
                self.kept.push((number, icount));
                self.next += 1;
            }
            // A recording is whole without them.
            Ok(_) | Err(_) => (),
        }
        self.thin();
    }

    /// Within bounds, the further back the further apart.
    fn thin(&mut self) {
        let too_much = self.written_bytes.load(Ordering::Relaxed) > self.disk_bytes;
        if self.kept.len() <= 2 || !too_much && self.kept.len() <= MOST {
            return;
        }
        let here = self.kept.last().map_or(0, |(_, icount)| *icount);
        let place = |at: usize| self.kept[at].1;
        let least = least_missed(0..self.kept.len() - 1, place, here);
        let (number, _) = self.kept.remove(least);
        let Some(saver) = &self.saver else { return };
        saver.delete(name(number));
        if too_much {
            saver.collect();
            // What is left is not known before it is done; it is counted anew from here.
            self.written_bytes.store(self.disk_bytes / 2, Ordering::Relaxed);
        }
    }

    /// Wait until what was dropped is on the disk.
    pub(crate) fn finish(self) {
        self.saver.into_iter().for_each(|saver| drop(saver.finish()));
    }
}

fn name(number: u32) -> String {
    format!("auto-{number:06}")
}

/// What all of them say alike. The rest is in the recording's manifest.
pub(crate) fn facts(manifest: &Manifest) -> Facts {
    Facts {
        images: Images::default(),
        devices: Vec::new(),
        plugins: Vec::new(),
        disks: Vec::new(),
        ..Facts::of_recording(manifest)
    }
}
