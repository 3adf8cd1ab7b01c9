//! The flight recorder of a run: what entered lately, kept in memory from a place on where the machine is known, and
//! saved as a recording when something happens.
//!
//! The run goes through a recording gate whose sink is a [`Ring`] of at most two *epochs*. Each begins with a snapshot
//! in memory. When the last one has taken its half of the budget, or of the reach, the one before it is forgotten and
//! another begins. So at any time there is something to save, and once the first epochs have passed it is between half
//! and all of what the budget holds.
//!
//! What a snapshot costs is what the guest has written since: the pages that it does not share with the machine any
//! more. One copy of the guest's memory comes on top, as soon as an epoch begins that is not the run's first.

mod plan;
mod ring;
mod save;

pub(crate) use plan::Plan;

use crate::{
    control::{Refusal, Reply},
    disk::{self, DiskSpec, HostDisk},
    ending::{End, Stand},
    failure::{Failure, reason},
    io::EndReason as HostReason,
    rebuild::Start,
    record,
    run::Parts,
};
use reprise_machine::{
    Checkpoint, Gate, Machine, PAGE_BYTES, Stop, StopHandle,
    board::Board,
    replay::{EndReason, RecordSink},
};
use ring::Ring;
use save::{Contents, Saved, Source};
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

/// Instructions between two looks at what an epoch has come to. A guest that does nothing but fill memory needs 512 and
/// more for a page, so the budget is not passed unseen.
const INSTRUCTIONS_PER_PAGE: usize = 512;
/// And their bounds.
const STEPS: std::ops::RangeInclusive<u64> = 100_000..=20_000_000;
/// Recordings that a guest which resets itself again and again leaves behind.
const RESETS: u32 = 3;

/// Why something is saved while the run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// Somebody asked.
    Command,
    /// A signal asked.
    Signal,
    /// The guest has reset its machine: a kernel that panics does, if it is told to.
    Reset,
}

impl Occasion {
    fn words(self) -> &'static str {
        match self {
            Self::Command => "as asked",
            Self::Signal => "SIGUSR1",
            Self::Reset => "the guest has reset the machine",
        }
    }
}

/// Something is to be saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) occasion: Occasion,
    /// Where to; otherwise it gets a name of its own.
    pub(crate) path: Option<PathBuf>,
}

/// Tells the user.
type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// The flight recorder of one run.
pub(crate) struct Flight {
    ring: Ring,
    memory_bytes: usize,
    reach: u64,
    board: Board,
    source: Arc<Source>,
    /// Where the last epoch begins, in instructions.
    begin: u64,
    machine: Option<(StopHandle, Tell)>,
    /// The thread that has written a recording, or is about to.
    saving: Option<JoinHandle<()>>,
    /// It is still at it.
    busy: Arc<AtomicBool>,
    /// How often the guest has reset its machine.
    resets: u32,
}

impl Flight {
    /// Of a run of these parts. Returns its gate, too.
    pub(crate) fn prepare(plan: &Plan, parts: &Parts) -> Result<(Self, Gate), Failure> {
        check_folder(plan)?;
        let manifest = record::manifest_of(parts, None);
        let contents = Contents::keep(record::contents_of(&manifest, parts))?;
        let start = parts.start.clone();
        let begin = start.as_ref().map_or(0, |start| start.icount);
        let ring = Ring::new(start, plan.memory_bytes / 2);
        let sink: Box<dyn RecordSink> = ring.sink();
        let gate = match &parts.start {
            Some(start) => Gate::record_from(&start.stand, start.vtime_ns, sink),
            None => Gate::record(parts.seed, sink),
        };
        let source = Arc::new(Source { manifest, contents, folder: plan.folder.clone() });
        let flight = Self {
            ring,
            memory_bytes: plan.memory_bytes,
            reach: plan.reach,
            board: parts.board.clone(),
            source,
            begin,
            machine: None,
            saving: None,
            busy: Arc::default(),
            resets: 0,
        };
        Ok((flight, gate))
    }

    /// The machine is there, and somebody who tells the user.
    pub(crate) fn attach(&mut self, stop: StopHandle, tell: impl Fn(&str) + Send + Sync + 'static) {
        self.ring.attach(stop.clone());
        self.machine = Some((stop, Arc::new(tell)));
    }

    /// The machine stands still: begin another epoch if it is time, and have it come back for the next look.
    pub(crate) fn look(&mut self, machine: &mut Machine) {
        let icount = machine.status().icount;
        let (mut bytes, mut passed) = (self.bytes(machine), icount - self.begin);
        if bytes >= self.memory_bytes / 2 || passed >= self.reach / 2 {
            self.begin_epoch(machine, bytes);
            (bytes, passed) = (0, 0);
        }
        let room = (self.memory_bytes / 2).saturating_sub(bytes) / PAGE_BYTES;
        let step = (room * INSTRUCTIONS_PER_PAGE) as u64;
        let step = step.clamp(*STEPS.start(), *STEPS.end()).min(self.reach / 2 - passed);
        machine.set_checkpoint(Some(Checkpoint::Icount(icount.saturating_add(step.max(1)))));
    }

    /// What the last epoch takes, in bytes: its records, and the pages that its snapshot will not share with the next.
    fn bytes(&self, machine: &Machine) -> usize {
        let last = self.ring.last();
        let pages = last.start.map_or(0, |start| machine.pages_apart(&start.snapshot.ram));
        last.bytes + pages * PAGE_BYTES
    }

    /// `bytes`: what the last one takes. If it alone is more than there may be, it is forgotten, too.
    fn begin_epoch(&mut self, machine: &mut Machine, bytes: usize) {
        let Some((stop, _)) = &self.machine else { return };
        // Before the next snapshot takes memory.
        self.ring.forget_but(usize::from(bytes <= self.memory_bytes));
        let start = machine.begin_anew().and_then(|snapshot| Start::at(&self.board, snapshot));
        let start = start.expect("a machine can be what it says that it is");
        self.begin = start.icount;
        self.ring.begin(start, stop.clone());
    }

    /// Save what is kept, and let the run go on. `reply` is called from another thread, when it is on the disk.
    pub(crate) fn save(&mut self, wish: Wish, machine: &mut Machine, reply: Reply) {
        let Wish { occasion, path } = wish;
        let thread = match self.admit(occasion) {
            Ok(thread) => thread,
            Err(refusal) => {
                // A guest that resets itself for ever is told of once.
                if occasion != Occasion::Reset || self.resets <= RESETS + 1 {
                    let words = occasion.words();
                    self.tell(&format!("warning: {words}: the flight recorder saves nothing: {refusal}\n"));
                }
                return reply(Err(refusal));
            }
        };
        machine.vouch();
        let cut = self.ring.cut(Some(EndReason::Stopped));
        let (to, digest) = (machine.status(), machine.digest());
        let end =
            record::end_row(EndReason::Stopped, &Stand { status: to, host_time: Duration::ZERO, digest });
        let source = Arc::clone(&self.source);
        let tell = self.machine.as_ref().map(|(_, tell)| Arc::clone(tell));
        let busy = Arc::clone(&self.busy);
        busy.store(true, Ordering::Release);
        self.saving = thread.begin(move || {
            let saved = source.save(&cut, path, to, Some(end));
            // It holds memory.
            drop(cut);
            // Whoever has the answer may ask again.
            busy.store(false, Ordering::Release);
            let words = match &saved {
                Ok(saved) => saved.words(occasion.words()),
                Err(failure) => failure.to_string(),
            };
            tell.into_iter().for_each(|tell| tell(&words));
            reply(saved.map(|saved| answer(&saved)).map_err(Refusal::from));
        });
    }

    /// The thread that is to write, if one may.
    fn admit(&mut self, occasion: Occasion) -> Result<Thread, Refusal> {
        if occasion == Occasion::Reset {
            self.resets += 1;
            if self.resets > RESETS {
                return Err(Refusal::new(format!(
                    "from now on, as it has saved {RESETS} resets of this run"
                )));
            }
        }
        if self.busy.load(Ordering::Acquire) {
            return Err(Refusal::new("what was asked for before is still being written"));
        }
        // It has written, and is about to say so.
        self.saving.take().into_iter().for_each(|saving| drop(saving.join()));
        Thread::start().map_err(|error| Refusal::new(format!("cannot start to write: {}", reason(&error))))
    }

    fn tell(&self, text: &str) {
        self.machine.iter().for_each(|(_, tell)| tell(text));
    }

    /// The run has ended, and the machine, which has put the end into its log, is gone. What there is to say.
    pub(crate) fn finish(self, end: &End, stand: &Stand) -> Result<String, Failure> {
        self.saving.into_iter().for_each(|saving| drop(saving.join()));
        let Some(why) = why(end) else { return Ok(String::new()) };
        let row = end.recorded().map(|reason| record::end_row(reason, stand));
        let saved = self.source.save(&self.ring.cut(None), None, stand.status, row)?;
        Ok(saved.words(&why))
    }
}

/// Why an end is one to look at, if it is: the guest failed, or something did, or a signal that does not say that all
/// is well.
pub(crate) fn why(end: &End) -> Option<String> {
    match end {
        End::Machine(Stop::PowerOff { code: 0 } | Stop::Requested | Stop::Until)
        | End::Host(HostReason::Keys | HostReason::Quit) => None,
        End::Machine(Stop::PowerOff { code }) => Some(format!("the guest ended with code {code}")),
        End::Machine(Stop::Limit) => Some("the limit was reached".into()),
        End::Machine(Stop::Deadlock) => Some("the guest waits for ever".into()),
        End::Machine(Stop::PluginFault(fault)) => Some(format!("device \"{}\" failed", fault.device)),
        End::Machine(Stop::ResetFailed(_)) => Some("a reset failed".into()),
        End::Machine(Stop::DiskFailed(_)) => Some("a disk failed".into()),
        End::Machine(
            Stop::ReplayEnded(_)
            | Stop::OutOfRecords(_)
            | Stop::Diverged
            | Stop::LogFailed
            | Stop::BadRecord(_),
        ) => unreachable!("nothing is replayed, and memory takes every record"),
        End::Host(HostReason::Signal(number)) => Some(format!("signal {number}")),
        End::Host(HostReason::Output { what, .. }) => Some(format!("{what} failed")),
    }
}

/// Where there is no flight recorder.
pub(crate) fn none() -> Refusal {
    Refusal::new("this machine has no flight recorder: it is begun with run --flight-recorder SIZE")
}

fn answer(saved: &Saved) -> serde_json::Value {
    let Saved { path, from: (icount, vtime_ns), to, log_bytes } = saved;
    // Whoever asked may be elsewhere.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
    json!({
        "filename": path.display().to_string(), "from-icount": icount, "from-vtime-ns": vtime_ns,
        "icount": to.icount, "vtime-ns": to.vtime_ns, "log-bytes": log_bytes,
    })
}

/// A mistake is better told before the run than when there is something to save.
fn check_folder(plan: &Plan) -> Result<(), Failure> {
    let folder = match plan.folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => &plan.folder,
    };
    let failed = |error: std::io::Error| {
        Failure::io("the flight recorder cannot save there", &error)
            .at(folder.display())
            .help("name a folder that exists: --flight-recorder SIZE,dir=DIR")
    };
    let meta = std::fs::metadata(folder).map_err(failed)?;
    if !meta.is_dir() {
        return Err(failed(std::io::ErrorKind::NotADirectory.into()));
    }
    disk::check_writable(folder).map_err(failed)
}

/// As for a recording: an image that is committed to is not what the run began with.
pub(crate) fn open_disk(spec: &DiskSpec) -> Result<HostDisk, Failure> {
    match spec.commits() {
        false => HostDisk::open_watched(spec),
        true => Err(Failure::usage(
            "with a flight recorder no disk can be committed to: what it saves could not be replayed",
        )
        .at(spec.file.display())
        .help("leave out `,commit`, or --flight-recorder")),
    }
}

/// A thread that waits for its work: whoever cannot have one still has what the work would have needed.
struct Thread {
    work: mpsc::Sender<Box<dyn FnOnce() + Send>>,
    thread: JoinHandle<()>,
}

impl Thread {
    fn start() -> std::io::Result<Self> {
        let (work, works) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let run = move || works.into_iter().for_each(|work| work());
        let thread = std::thread::Builder::new().name("reprise-flight".into()).spawn(run)?;
        Ok(Self { work, thread })
    }

    fn begin(self, work: impl FnOnce() + Send + 'static) -> Option<JoinHandle<()>> {
        self.work.send(Box::new(work)).ok().map(|()| self.thread)
    }
}
