//! `reprise replay`: a recording run again, with the console on standard output; and `--live`, which goes on from it.

mod travel;

use crate::{
    args::{RecordingArgs, ReplayArgs},
    control::{Control, Facts, Reach, What},
    ending::{End, Stand, Summary},
    failure::{Exit, Failure},
    io::{EndReason as HostReason, HostOutside, IoThread, PortPlan, counted, grouped},
    network, observe,
    place::{self, Place},
    plugins::Plugins,
    progress::{Progress, Whole},
    rebuild::{Build, Replica, Start, unusable},
    record::{Log, Recording},
    recording::damage,
    reload::Sources,
    report::{self, Departure},
    run::{self, Running},
    setup::{self, PortKey},
    shelf::Shelf,
    snapshots::{self, RecordingRow},
    tape::{self, Counter, Course},
    timeline::{Keeping, Past},
    unplugged::{Desk, ReplayOutside, Show},
};
use reprise_machine::{
    ControlInput, Input, Machine, PortChange, Status, Stop, StopHandle, Until,
    replay::{
        EndReason, Position,
        log::{LogError, Tail},
    },
};
use std::{
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// Replay what the command line says. Returns the exit code: that of the recorded guest, if its run came to an end.
pub(crate) fn replay(args: &ReplayArgs, catalog: &Plugins) -> Result<u8, Failure> {
    let watchers = args.observe.find(catalog)?;
    let replica = Replica::open(&args.recording, catalog)?;
    let until = until(args, &replica)?;
    let at = args.at.map(|place| find(place, &replica)).transpose()?;
    let port = shown(args, &replica)?;
    let live = args.live.then(|| Live::of(args, &replica, catalog)).transpose()?;
    let summary = Summary::create(args.summary.as_deref())?;
    let path = replica.store().path();
    let facts = Facts::of(replica.board(), &[], What::Replay, Some(path));
    // A replay opens nothing that nobody asked for.
    let unasked = if args.live || args.paused { "auto" } else { "none" };
    let control = Control::open(Some(args.control.as_deref().unwrap_or(unasked)), facts)?;
    let (mut recording, sink) = new_recording(args, &replica, live.as_ref())?.unzip();
    let show = Show { port, level: Some(run::log_level(args.recording.verbose)) };
    let started = Replay::start(&replica, &args.recording, show, Some((args, sink, control)));
    let begun =
        started.and_then(|replay| recording.as_mut().map_or(Ok(()), Recording::begin).map(|()| replay));
    let mut replay = match begun {
        Ok(replay) => replay,
        Err(failure) => return Err(given_up(recording, failure)),
    };
    // Without somebody who could ask for it there is no way back, and nothing to pay for.
    let asked = args.paused || args.control.as_deref().is_some_and(|control| control != "none");
    if recording.is_none() && (asked || at.is_some()) {
        replay.keep(args.keeping.keeping());
    }
    replay.shelf = Some(shelf(args, &replica, &replica.store().manifest().run_id));
    if args.paused
        && let Some(control) = &replay.control
    {
        control.hub().begin_paused();
    }
    let skipped = match at.map(|at| replay.skip(at)).transpose() {
        Ok(skipped) => skipped.flatten(),
        Err(failure) => return Err(given_up(recording, failure)),
    };
    if let Err(failure) = observe::attach(&watchers, &mut replay.machine) {
        return Err(given_up(recording, failure));
    }
    replay.to = until;
    let stop = skipped.unwrap_or_else(|| replay.run());
    if let Some(failure) = replay.failure(&stop, !args.recording.no_search) {
        return failed(replay, stop, recording, summary, failure);
    }
    match (live, recording) {
        (Some(live), Some(recording)) => live.go(args, replay, stop, recording, summary),
        (_, recording) => ended(replay, stop, recording, summary),
    }
}

/// Snapshots of this machine, which is at some place of a recording.
fn shelf<'b>(args: &ReplayArgs, replica: &'b Replica, run_id: &str) -> Shelf<'b> {
    let manifest = replica.store().manifest();
    let (console, images) = (manifest.console.clone(), manifest.images.clone());
    let rows = (replica.plugin_rows(), replica.disk_rows());
    let facts = snapshots::Facts::of(replica.board(), console, images, rows.0, rows.1);
    let recording = Some(RecordingRow { run_id: run_id.to_owned(), records: 0 });
    let facts = snapshots::Facts { recording, ..facts };
    Shelf::new(args.snapshots.as_deref(), facts, move |needed| {
        needed.iter().map(|hash| Ok((*hash, replica.content(hash)?))).collect()
    })
}

/// The recording of what is replayed, if one is wanted, and the gate's side of it.
fn new_recording(
    args: &ReplayArgs,
    replica: &Replica,
    live: Option<&Live>,
) -> Result<Option<(Recording, Log)>, Failure> {
    let Some(path) = args.rerecord.as_ref().or(args.output.as_ref()) else { return Ok(None) };
    let every = match live {
        Some(_) => args.digest_every.0,
        None => replica.store().manifest().digest_every,
    };
    let plans = live.map(|live| live.plans.as_slice());
    Recording::again(path, args.force, replica, plans, every, replica.start()).map(Some)
}

fn given_up(recording: Option<Recording>, failure: Failure) -> Failure {
    recording.into_iter().for_each(Recording::discard);
    failure
}

/// A machine that replays, and the user who looks on.
pub(crate) struct Replay<'b> {
    replica: &'b Replica,
    pub(crate) machine: Machine,
    desk: Rc<Desk>,
    pub(crate) counter: Counter,
    pub(crate) host_time: Duration,
    /// What `reprise replay` listens to.
    control: Option<Control>,
    /// Snapshots to go back to; none where the replay is recorded, which has no way back.
    past: Option<Past>,
    /// Where it is to stop; `None`: where the log ends.
    to: Option<Until>,
    /// Snapshots that are saved by name.
    shelf: Option<Shelf<'b>>,
    /// The icount before which it is to stand still.
    breakpoint: Option<u64>,
    /// It came to its end here, and cannot go on.
    over: Option<Stop>,
    /// A divergence is looked into.
    explains: bool,
}

/// What `reprise replay` can do beside replaying, where the replay is recorded, and who may ask for what.
type More<'a> = (&'a ReplayArgs, Option<Log>, Control);

/// A machine that takes nothing but a wish to stop.
struct Watched(StopHandle);

impl Reach for Watched {
    fn call(&self) {
        self.0.request();
    }

    fn press(&self, _button: ControlInput) -> Result<(), String> {
        Err("a replay takes nothing from outside: its log has what entered".to_owned())
    }

    fn quit(&self) {
        self.0.request();
    }
}

impl<'b> Replay<'b> {
    /// Build the machine.
    pub(crate) fn start(
        replica: &'b Replica,
        args: &RecordingArgs,
        show: Show,
        more: Option<More<'_>>,
    ) -> Result<Self, Failure> {
        Self::build(replica, args, show, more, |_| ())
    }

    /// Build a machine that is recorded again. `cut`: it, and the recording, begin there.
    pub(crate) fn again(
        replica: &'b Replica,
        args: &RecordingArgs,
        sink: Log,
        cut: Option<Start>,
    ) -> Result<Self, Failure> {
        let show = Show { port: None, level: Some(run::log_level(args.verbose)) };
        Self::build(replica, args, show, None, |build| (build.sink, build.cut) = (Some(sink), cut))
    }

    fn build(
        replica: &'b Replica,
        args: &RecordingArgs,
        show: Show,
        more: Option<More<'_>>,
        change: impl FnOnce(&mut Build),
    ) -> Result<Self, Failure> {
        let progress = Progress::new(args.progress, show.port.is_some(), || whole(replica));
        let desk = Desk::new(progress).map_err(|error| Failure::io("cannot handle signals", &error))?;
        let counter = Counter::default();
        let outside = ReplayOutside::new(show, Rc::clone(&desk));
        let mut build = Build::replay(Box::new(outside));
        build.counter = counter.clone();
        let mut control = None;
        if let Some((args, sink, listening)) = more {
            desk.show_to(Arc::clone(listening.hub()));
            control = Some(listening);
            build.sink = sink;
            build.digest_every = args.digest_every.0;
            build.icount_limit = args.icount_limit;
        }
        change(&mut build);
        let machine = replica.machine(build)?;
        desk.attach(machine.stop_handle());
        if let Some(control) = &control {
            control.hub().attach(Arc::new(Watched(machine.stop_handle())));
        }
        Ok(Self {
            replica,
            machine,
            desk,
            counter,
            host_time: Duration::ZERO,
            control,
            past: None,
            to: None,
            shelf: None,
            breakpoint: None,
            over: None,
            explains: !args.no_search,
        })
    }

    /// Where to stop; `None`: at the end of the log.
    pub(crate) fn set_until(&mut self, to: Option<Until>) {
        self.to = to;
        self.machine.set_until(to);
    }

    /// Keep snapshots along the way, so that it can go back.
    pub(crate) fn keep(&mut self, keeping: Keeping) {
        self.past = Some(Past::new(keeping, self.replica, &mut self.machine));
    }

    /// Replay until the machine stops, and compare how the run ends with how it ended.
    pub(crate) fn run(&mut self) -> Stop {
        let (hub, desk) =
            (self.control.as_ref().map(|control| Arc::clone(control.hub())), Rc::clone(&self.desk));
        let started = Instant::now();
        let (stop, host_time) = match hub {
            Some(hub) => hub.drive(self, &|| desk.is_over()),
            None => {
                let stop = self.leg();
                (stop, started.elapsed())
            }
        };
        self.host_time = host_time;
        self.desk.clear();
        stop
    }

    /// The log that is replayed cannot be read any further.
    fn is_unreadable(&self) -> bool {
        match self.machine.log_error() {
            None | Some(LogError::Sink { .. } | LogError::Oversized { .. }) => false,
            Some(
                LogError::Corrupt { .. }
                | LogError::Source { .. }
                | LogError::Refused { .. }
                | LogError::NoSeed
                | LogError::NoRecord { .. },
            ) => true,
        }
    }

    /// How the recording breaks off, if this stop is where it does: its log does not say that the run ended.
    pub(crate) fn breaks_off(&self, stop: &Stop) -> Option<Tail> {
        match stop {
            Stop::OutOfRecords(tail) => Some(*tail),
            stop if is_over(stop) => self.machine.log_breaks_off(),
            _ => None,
        }
    }

    /// Replay to a place without showing anything. The stop, if it did not get there.
    fn skip(&mut self, to: Option<Until>) -> Result<Option<Stop>, Failure> {
        self.desk.look_away(true);
        self.enter(to)?;
        self.to = to;
        let stop = self.run();
        self.desk.look_away(false);
        Ok(Some(stop).filter(|stop| *stop != Stop::Until))
    }

    /// The recording.
    pub(crate) fn replica(&self) -> &Replica {
        self.replica
    }

    /// Where it stands.
    pub(crate) fn stand(&mut self) -> Stand {
        let Self { machine, host_time, .. } = self;
        Stand { status: machine.status(), host_time: *host_time, digest: machine.digest() }
    }

    /// What went wrong with the replay, if it did: told with everything that can be found out.
    pub(crate) fn failure(&mut self, stop: &Stop, search: bool) -> Option<Failure> {
        match stop {
            Stop::Diverged => {
                self.desk.close();
                let left = Departure::of(&mut self.machine)?;
                let report = report::explain(&left, self.replica, search);
                Some(Failure::told(Exit::Diverged, report.to_string(), report.to_json()))
            }
            Stop::LogFailed => Some(match self.machine.log_error()? {
                error @ (LogError::Sink { .. } | LogError::Oversized { .. }) => {
                    Failure::new(Exit::Io, "the new recording cannot be written").note(error.to_string())
                }
                error => damage(self.replica.store(), error),
            }),
            Stop::DiskFailed(_) => End::Machine(stop.clone()).failure(),
            Stop::BadRecord(why) => {
                let place = self.replica.store().path().display();
                let what = "the log has what cannot be of this machine";
                Some(Failure::new(Exit::Corrupt, what).at(place).note(why.clone()))
            }
            Stop::PowerOff { .. }
            | Stop::Limit
            | Stop::Requested
            | Stop::Deadlock
            | Stop::PluginFault(_)
            | Stop::ResetFailed(_)
            | Stop::Until
            | Stop::ReplayEnded(_)
            | Stop::OutOfRecords(_) => None,
        }
    }

    /// The log of this replay's own recording ends here, whatever follows in the one that is replayed.
    pub(crate) fn end_own_log(&mut self, reason: EndReason) {
        self.machine.go_live(Box::new(ReplayOutside::silent()));
        self.machine.end(reason);
    }

    /// What the stop means: a signal may be behind it.
    pub(crate) fn end(&self, stop: Stop) -> End {
        let end = End::of(stop, self.desk.signal().map(HostReason::Signal));
        if let Some(control) = &self.control {
            control.hub().ended(Some(&end));
        }
        end
    }
}

/// How much there is to replay. What the manifest does not say of a run that was interrupted, the log does.
fn whole(replica: &Replica) -> Whole {
    if let Some(end) = &replica.store().manifest().end {
        return Whole { icount: end.icount, vtime_ns: end.vtime_ns };
    }
    let course = replica.log().ok().and_then(|mut log| Course::of(&mut log).ok());
    course
        .map_or_else(Whole::default, |course| Whole { icount: course.icount, vtime_ns: course.last.vtime_ns })
}

/// What there is to say of a replay that stopped although the run went on. `torn`: the recording breaks off here.
pub(crate) fn stopped(replica: &Replica, stop: &Stop, torn: Option<Tail>, at: Status, events: u64) -> String {
    let place = format!("icount {}, vtime {:.9} s", grouped(at.icount), at.vtime_ns as f64 / 1e9);
    match (stop, torn) {
        (_, Some(tail)) => format!(
            "reprise: the recording was interrupted and breaks off here: {place}, behind {}\n\
             reprise: {}: {tail}\n",
            counted(events, "event"),
            replica.store().path().display(),
        ),
        (Stop::Until, None) => format!("reprise: stopped at {place}, behind {}\n", counted(events, "event")),
        (_, None) => String::new(),
    }
}

/// The run ended with this: nothing follows in its log.
fn is_over(stop: &Stop) -> bool {
    stop.own_end().is_some() || matches!(stop, Stop::ReplayEnded(_))
}

/// The replay is not what was recorded, or cannot be: another recording of it would say the wrong thing.
fn failed(
    mut replay: Replay<'_>,
    stop: Stop,
    recording: Option<Recording>,
    summary: Option<Summary>,
    failure: Failure,
) -> Result<u8, Failure> {
    let stand = replay.stand();
    let unseen = observe::finish(&mut replay.machine);
    run::say(&observe::tell(unseen, failure.exit as u8, String::new())?);
    let end = replay.end(stop);
    let _closes_last = replay.control.take();
    drop(replay);
    let failure = given_up(recording, failure);
    if let Some(summary) = summary {
        summary.write(&end, Some(failure.exit as u8), &stand)?;
    }
    Err(failure)
}

/// The replay came to its end, or to where it was to stop.
fn ended(
    mut replay: Replay<'_>,
    stop: Stop,
    recording: Option<Recording>,
    summary: Option<Summary>,
) -> Result<u8, Failure> {
    let torn = replay.breaks_off(&stop);
    let events = replay.counter.passed().events;
    let mut words = stopped(replay.replica, &stop, torn, replay.machine.status(), events);
    let break_line = replay.desk.break_line().to_owned();
    let end = replay.end(stop);
    let in_the_middle = match &end {
        End::Machine(Stop::Until | Stop::OutOfRecords(_) | Stop::Requested | Stop::Limit) | End::Host(_) => {
            true
        }
        End::Machine(_) => false,
    };
    if recording.is_some() && in_the_middle {
        // Its own log ends here, and on purpose.
        replay.end_own_log(EndReason::Stopped);
    } else if let (Some(_), Some(_), Some(reason)) = (&recording, torn, end.recorded()) {
        // The log that was replayed does not say that the run ended so; its own does.
        replay.end_own_log(reason);
    }
    let stand = replay.stand();
    let log_error = replay.machine.log_error().map(ToString::to_string);
    let unseen = observe::finish(&mut replay.machine);
    let _closes_last = replay.control.take();
    drop(replay);
    let sealed = recording.map(|recording| recording.seal(&end, &stand, log_error)).transpose();
    let written = sealed.and_then(|sealed| {
        summary.map_or(Ok(()), |summary| summary.write(&end, None, &stand)).map(|()| sealed)
    });
    let sealed = written.map_err(|failure| failure.beside(unseen.as_ref()))?;
    words += sealed.as_ref().map_or("", |sealed| &sealed.words);
    words = break_line + &end.words() + &words;
    match end.failure() {
        Some(failure) => {
            run::say(&words);
            Err(failure.beside(unseen.as_ref()))
        }
        None => {
            run::say(&observe::tell(unseen, end.code(), words)?);
            Ok(end.code())
        }
    }
}

/// What a replay is connected to where it leaves the log.
struct Live {
    plans: Vec<PortPlan>,
    /// Where networks are captured, if not where the board says.
    captures: String,
    clock_ns: Option<u64>,
    level: reprise_machine::LogLevel,
    status: bool,
}

impl Live {
    fn of(args: &ReplayArgs, replica: &Replica, catalog: &Plugins) -> Result<Self, Failure> {
        if let Some(id) = replica.partial_disks().next() {
            return Err(Failure::usage(format!(
                "the recording has only a part of disk \"{id}\": what its run read"
            ))
            .at(replica.store().path().display())
            .help(format!("to go on from it, name the whole image: --disk {id}=FILE")));
        }
        let mut plans = setup::ports(replica.board(), &args.port, &args.net, catalog)?;
        let captures = network::spare_captures(&mut plans);
        Ok(Self {
            plans,
            captures,
            clock_ns: setup::fixed_clock(&args.rtc)?,
            level: run::log_level(args.recording.verbose),
            status: args.status,
        })
    }

    /// Connect everything and let the machine go on.
    fn go(
        self,
        args: &ReplayArgs,
        replay: Replay<'_>,
        stop: Stop,
        mut recording: Recording,
        summary: Option<Summary>,
    ) -> Result<u8, Failure> {
        let Replay { replica, mut machine, desk, counter, control, .. } = replay;
        let control = control.expect("`reprise replay` opens it");
        let status = machine.status();
        let connected = match may_go_on(replica, &stop, desk.signal()) {
            Ok(()) => {
                let hub = Arc::clone(control.hub());
                IoThread::start(&self.plans, self.status, hub).map_err(Err)
            }
            Err(no) => Err(no),
        };
        let io = match connected.and_then(|io| match recording.branch(replica.store(), status) {
            Ok(()) => Ok(io),
            Err(failure) => Err(Err(failure)),
        }) {
            Ok(io) => io,
            Err(no) => {
                let end = End::of(stop, desk.signal().map(HostReason::Signal));
                control.hub().ended(Some(&end));
                let unseen = observe::finish(&mut machine);
                drop(machine);
                recording.discard();
                return match no {
                    Ok(code) => {
                        run::say(&observe::tell(unseen, code, String::new())?);
                        Ok(code)
                    }
                    Err(failure) => Err(failure.beside(unseen.as_ref())),
                };
            }
        };
        io.link().notice(&format!(
            "{}reprise: live from icount {}, vtime {:.9} s\n{}",
            desk.break_line(),
            grouped(status.icount),
            status.vtime_ns as f64 / 1e9,
            self.captures
        ));
        machine.go_live(Box::new(HostOutside::new(io.link().clone(), self.level, self.clock_ns)));
        hang_up(&mut machine, replica, &counter);
        machine.set_until(None);
        io.link().attach(machine.stop_handle());
        let path = Some(recording.path());
        control.hub().set_facts(Facts::of(replica.board(), &self.plans, What::Record, path));
        control.hub().attach(io.link().clone());
        recording.attach(machine.stop_handle());
        let shelf = shelf(args, replica, &recording.manifest().run_id);
        // Signals are the I/O thread's now.
        drop(desk);
        // What is recorded reloads no plugin.
        let sources = Sources::default();
        let ended = Running { machine, io, control, disks: BTreeMap::new(), summary, shelf, sources }
            .finish(run::Keeper::Recording(Box::new(recording)))?;
        run::say(&ended.words);
        Ok(ended.code)
    }
}

/// Whether a replay that stopped so can go on; else with what the command ends.
fn may_go_on(replica: &Replica, stop: &Stop, signal: Option<i32>) -> Result<(), Result<u8, Failure>> {
    let over = |what: String| {
        let failure = Failure::usage(what).at(replica.store().path().display());
        Err(Err(failure.help("name an earlier place: --until POS")))
    };
    match stop {
        Stop::Until | Stop::OutOfRecords(_) => Ok(()),
        Stop::Requested => Err(Ok(End::of(stop.clone(), signal.map(HostReason::Signal)).code())),
        Stop::Limit => {
            Err(Err(Failure::usage("the limit of --icount-limit lies before the place to go live")))
        }
        Stop::ReplayEnded(reason) => over(format!("the recorded run ended before that place: {reason}")),
        Stop::PowerOff { code } => {
            let reason = EndReason::PowerOff { code: *code };
            over(format!("the recorded run ended before that place: {reason}"))
        }
        Stop::Deadlock
        | Stop::PluginFault(_)
        | Stop::ResetFailed(_)
        | Stop::Diverged
        | Stop::LogFailed
        | Stop::DiskFailed(_)
        | Stop::BadRecord(_) => over("the recorded run ended before that place".to_owned()),
    }
}

/// Whoever was connected in the recorded run is gone.
fn hang_up(machine: &mut Machine, replica: &Replica, counter: &Counter) {
    for (device, port) in counter.passed().open {
        let device = replica.board().devices.get(device as usize);
        let port = device.and_then(|device| device.desc.ports.get(port as usize));
        if let (Some(device), Some(port)) = (device, port) {
            let (device, port) = (device.id.clone(), port.name.clone());
            machine.input(Input::PortEvent { device, port, event: PortChange::Closed });
        }
    }
}

/// Where to stop.
fn until(args: &ReplayArgs, replica: &Replica) -> Result<Option<Until>, Failure> {
    let wanted = find(args.until.unwrap_or(Place::End), replica)?;
    if args.live { before_end(&course(replica)?, wanted, replica) } else { Ok(wanted) }
}

fn course(replica: &Replica) -> Result<Course, Failure> {
    Course::of(&mut replica.log()?).map_err(|error| damage(replica.store(), &error))
}

/// What a place means in this recording; `None`: its end.
pub(crate) fn find(place: Place, replica: &Replica) -> Result<Option<Until>, Failure> {
    let until = translate(place, replica)?;
    let Some(start) = replica.start() else { return Ok(until) };
    let is_before = match until {
        None => false,
        Some(Until::Icount(icount)) => icount < start.icount,
        Some(Until::Position(position)) => position.vtime_ns < start.vtime_ns,
        Some(Until::Lines { device, port, lines }) => {
            let device = &replica.board().devices[device];
            let passed = start.snapshot.lines(&device.id, &device.desc.ports[port].name);
            lines <= passed.map_err(|error| unusable(&error))?
        }
    };
    match is_before {
        false => Ok(until),
        true => Err(Failure::usage(format!("the recording has no place {place}"))
            .at(replica.store().path().display())
            .help(format!(
                "it begins at icount {}, vtime {:.9} s",
                grouped(start.icount),
                start.vtime_ns as f64 / 1e9
            ))),
    }
}

fn translate(place: Place, replica: &Replica) -> Result<Option<Until>, Failure> {
    Ok(match place {
        Place::End => None,
        Place::Icount(icount) => Some(Until::Icount(icount)),
        Place::Vtime(vtime_ns) => Some(Until::Position(Position { vtime_ns, order: 0 })),
        Place::Share(share) => {
            let course = course(replica)?;
            let begin = replica.start().map_or((0, 0), |start| (start.icount, start.vtime_ns));
            let part = |begin: u64, end: u64| {
                let all = u128::from(end.saturating_sub(begin));
                let part = all * u128::from(share) / u128::from(place::WHOLE);
                begin + u64::try_from(part).expect("a part is not more than all")
            };
            // A guest that only sleeps has no instructions to count.
            Some(match course.icount == begin.0 {
                true => Until::Position(Position { vtime_ns: part(begin.1, course.last.vtime_ns), order: 0 }),
                false => Until::Icount(part(begin.0, course.icount)),
            })
        }
        Place::Line(lines) => {
            let (device, port) = replica.console().ok_or_else(|| {
                Failure::usage("the recorded machine had no console whose lines could be counted")
                    .at(replica.store().path().display())
            })?;
            Some(Until::Lines { device, port, lines })
        }
        Place::Event(number) => {
            let found = tape::event(&mut replica.log()?, number);
            let found = found.map_err(|error| damage(replica.store(), &error))?;
            Some(Until::Position(found.map_err(|events| {
                let has = match events {
                    0 => "it has none".to_owned(),
                    _ => format!("it has {events}: event:0 to event:{}", events - 1),
                };
                Failure::usage(format!("the recording has no event {number}"))
                    .at(replica.store().path().display())
                    .help(has)
            })?))
        }
    })
}

/// A machine that goes on must not reach the end of its log, where nothing may follow.
fn before_end(course: &Course, wanted: Option<Until>, replica: &Replica) -> Result<Option<Until>, Failure> {
    let Some(end) = course.end else { return Ok(wanted) };
    let earlier = wanted.filter(|wanted| match wanted {
        Until::Icount(icount) => *icount < course.icount,
        Until::Position(position) => *position < course.last,
        // Where that is, only a replay can tell.
        Until::Lines { .. } => true,
    });
    match end {
        _ if earlier.is_some() => Ok(earlier),
        EndReason::Stopped | EndReason::Limit | EndReason::Deadlock => Ok(course.before_end()),
        EndReason::PowerOff { .. } | EndReason::PluginFault | EndReason::ResetFailed => {
            Err(Failure::usage(format!("the recorded run cannot go on behind its end: {end}"))
                .at(replica.store().path().display())
                .help("name an earlier place: --until POS"))
        }
    }
}

/// The port whose output is shown: the one of `--show`, or the one that had the terminal.
fn shown(args: &ReplayArgs, replica: &Replica) -> Result<Option<PortKey>, Failure> {
    let split = |name: &str| {
        let (device, port) = name.split_once('.').unwrap_or((name, ""));
        (device.to_owned(), port.to_owned())
    };
    let Some(name) = &args.show else {
        return Ok(replica.store().manifest().console.as_deref().map(split));
    };
    let (id, wanted) = split(name);
    let board = replica.board();
    let names = |device: &reprise_machine::board::DeviceSpec| -> Vec<PortKey> {
        device.desc.ports.iter().map(|port| (device.id.clone(), port.name.clone())).collect()
    };
    let all: Vec<PortKey> = board.devices.iter().flat_map(names).collect();
    let found = all.iter().find(|(device, port)| *device == id && (wanted.is_empty() || *port == wanted));
    found.cloned().map(Some).ok_or_else(|| {
        let all: Vec<String> = all.iter().map(|(device, port)| format!("{device}.{port}")).collect();
        Failure::usage("the machine has no such port")
            .at(format!("--show {name}"))
            .help(format!("it has: {}", all.join(", ")))
    })
}
