//! Running a machine: its parts gathered, connected to the outside, let go until it ends, and everything put away.
//! `reprise run` is that; `record` and `replay --live` do it with a recorder at the gate.

use crate::{
    args::RunArgs,
    control::{Answer, Control, Driven, Facts, Refusal, Reply, What},
    disk::{DiskSpec, HostDisk},
    ending::{End, Stand, Summary},
    failure::{Exit, Failure},
    flight::{self, Flight},
    foreign::OtherBuilds,
    from,
    io::{HostOutside, IoThread, Link, PortPlan},
    observe::{self, Watcher},
    plugins::{Installed, Plugins},
    rebuild::{Start, not_built},
    record::{self, Recording, Sealed},
    recording::{Hash, Manifest, ParentRow, PluginRow},
    reload::{self, Sources},
    setup::{self, BootFiles, BootImages, PortKey},
    shelf::{Contents, Shelf, Tag, Wish},
    snapshots::{self, RecordingRow},
    timeline::Leg,
    trail::Trail,
};
use reprise_machine::{
    BootSource, Disk, Gate, LogLevel, Machine, Seed, Setup, Status, Stop,
    board::{Board, CatalogError},
    plugin::Plugin,
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

/// Run the machine of this command line. Returns the exit code.
pub(crate) fn run(args: &RunArgs, catalog: &Plugins) -> Result<u8, Failure> {
    let plan = args.flight_recorder.as_ref();
    let parts = match from::snapshot_of(args)? {
        Some(taken) => taken.parts(args, catalog, plan.is_some())?,
        None => {
            let board = setup::board_of(args, catalog)?;
            let open = if plan.is_some() { flight::open_disk } else { HostDisk::open };
            Parts::gather(args, catalog, board, BootFiles::from_args(args)?, open)?
        }
    };
    let (flight, gate) = match (plan, &parts.start) {
        (Some(plan), _) => Flight::prepare(plan, &parts).map(|(flight, gate)| (Some(flight), gate))?,
        (None, Some(start)) => (None, Gate::live_from(&start.stand)),
        (None, None) => (None, Gate::live(parts.seed)),
    };
    let running = parts.connect(args, gate, None, None)?;
    let ended = running.finish(flight.map_or(Keeper::Nobody, |flight| Keeper::Flight(Box::new(flight))))?;
    say(&ended.words);
    Ok(ended.code)
}

/// Tell the user. A terminal that is gone is no reason to fail.
pub(crate) fn say(words: &str) {
    drop(std::io::stderr().write_all(words.as_bytes()));
}

/// What a run is made of, opened and checked. Nothing is connected yet.
pub(crate) struct Parts {
    pub(crate) board: Board,
    pub(crate) plugins: BTreeMap<String, Installed>,
    pub(crate) images: BootImages,
    /// Where the images are read again.
    pub(crate) files: BootFiles,
    pub(crate) boot: BootSource,
    pub(crate) disks: BTreeMap<PortKey, HostDisk>,
    pub(crate) plans: Vec<PortPlan>,
    pub(crate) seed: Seed,
    pub(crate) clock_ns: Option<u64>,
    pub(crate) summary: Option<Summary>,
    /// Where it begins, if not at power-on.
    pub(crate) start: Option<Start>,
    /// Plugins that are not of the build that was there.
    pub(crate) others: OtherBuilds,
    /// The recording that it was in there.
    pub(crate) parent: Option<ParentRow>,
    /// Who watches it.
    pub(crate) watchers: Vec<Watcher>,
}

impl Parts {
    /// Those of a resolved board and a command line. `open`: how disks are opened.
    pub(crate) fn gather(
        args: &RunArgs,
        catalog: &Plugins,
        board: Board,
        files: BootFiles,
        open: fn(&DiskSpec) -> Result<HostDisk, Failure>,
    ) -> Result<Self, Failure> {
        let watchers = args.observe.find(catalog)?;
        let clock_ns = setup::fixed_clock(&args.rtc)?;
        let plans = setup::ports(&board, &args.port, &args.net, catalog)?;
        let specs = setup::disk_specs(&board, args)?;
        let seed = setup::seed(&board, args.seed.as_deref())?;
        let summary = Summary::create(args.summary.as_deref())?;
        let plugins = load_plugins(&board, catalog)?;
        let images = files.read()?;
        let boot = files.clone().source(&board, &seed, &images)?;
        let disks = setup::open_disks(&board, &specs, args.scratch_disk, open)?;
        Ok(Self {
            board,
            plugins,
            images,
            files,
            boot,
            disks,
            plans,
            seed,
            clock_ns,
            summary,
            start: None,
            others: OtherBuilds::default(),
            parent: None,
            watchers,
        })
    }

    /// Connect the ports and build the machine. `recording`: where it is recorded.
    pub(crate) fn connect(
        self,
        args: &RunArgs,
        gate: Gate,
        digest_every: Option<u64>,
        recording: Option<&Recording>,
    ) -> Result<Running<'static>, Failure> {
        let shelf = self.shelf(args, recording.map(Recording::manifest));
        let recording = recording.map(Recording::path);
        let sources = Sources::of(&self.plugins);
        let Self { board, plugins, boot, disks, plans, clock_ns, summary, start, others, watchers, .. } =
            self;
        let what = if recording.is_some() { What::Record } else { What::Run };
        let mut facts = Facts::of(&board, &plans, what, recording);
        facts.has_flight_recorder = args.flight_recorder.is_some();
        let control = Control::open(args.control.as_deref(), facts)?;
        let io = IoThread::start(&plans, args.status, Arc::clone(control.hub()))?;
        let outside = HostOutside::new(io.link().clone(), log_level(args.verbose), clock_ns);
        let setup = Setup {
            board,
            plugins: loaded(plugins),
            boot,
            disks: boxed(&disks),
            outside: Box::new(outside),
            gate,
            digest_every,
            icount_limit: args.icount_limit,
            engine: args.engine.asked,
            chaos_seed: args.chaos_seed,
        };
        let mut machine = match start {
            None => Machine::new(setup).map_err(|error| not_built(&error))?,
            Some(start) => {
                let board = setup.board.clone();
                Machine::restored(setup, &start.snapshot).map_err(|error| others.judge(&error, &board))?
            }
        };
        observe::attach(&watchers, &mut machine)?;
        io.link().attach(machine.stop_handle());
        control.hub().attach(io.link().clone());
        Ok(Running { machine, io, control, disks, summary, shelf, sources })
    }

    /// Snapshots of this machine. What they need is read again for each, rather than kept beside the guest's RAM.
    fn shelf(&self, args: &RunArgs, recording: Option<&Manifest>) -> Shelf<'static> {
        let (board, console) = (&self.board, record::console(&self.plans));
        let (images, plugins) = match recording {
            // It has taken the bytes.
            Some(manifest) => (manifest.images.clone(), manifest.plugins.clone()),
            None => (record::image_rows(&self.images), record::plugin_rows(&self.plugins)),
        };
        let recording =
            recording.map(|manifest| RecordingRow { run_id: manifest.run_id.clone(), records: 0 });
        let disks = record::disk_rows(&self.disks);
        let facts = snapshots::Facts::of(board, console, images, plugins, disks);
        let facts = snapshots::Facts { recording, ..facts };
        // The bytes that were loaded may be gone: their hashes are in the rows.
        let file = |row: &PluginRow| Some((row.blake3, self.plugins.get(&row.name)?.file.clone()));
        let (files, plugins) =
            (self.files.clone(), facts.plugins.iter().filter_map(file).collect::<Vec<_>>());
        Shelf::new(args.snapshots.as_deref(), facts, move |needed| contents(&files, &plugins, needed))
    }
}

/// The plugins without their files.
pub(crate) fn loaded(plugins: BTreeMap<String, Installed>) -> BTreeMap<String, Plugin> {
    plugins.into_iter().map(|(name, installed)| (name, installed.plugin)).collect()
}

/// The disks, for a machine.
pub(crate) fn boxed(disks: &BTreeMap<PortKey, HostDisk>) -> BTreeMap<PortKey, Box<dyn Disk>> {
    let boxed = |(key, disk): (&PortKey, &HostDisk)| (key.clone(), Box::new(disk.clone()) as Box<dyn Disk>);
    disks.iter().map(boxed).collect()
}

/// What a machine was booted from, and its plugins, as they were then; of the plugins those that are needed.
fn contents(
    files: &BootFiles,
    plugins: &[(Hash, PathBuf)],
    needed: &BTreeSet<Hash>,
) -> Result<Contents, Failure> {
    let BootImages { firmware, kernel, initrd } = files.read()?;
    let mut all: Vec<(String, Vec<u8>)> = [firmware, kernel, initrd].into_iter().flatten().collect();
    for (_, file) in plugins.iter().filter(|(hash, _)| needed.contains(hash)) {
        let bytes = std::fs::read(file);
        let bytes = bytes.map_err(|e| Failure::io("cannot read a plugin again", &e).at(file.display()))?;
        all.push((file.display().to_string(), bytes));
    }
    let hashed = |(name, bytes): (String, Vec<u8>)| match Hash::of(&bytes) {
        hash if needed.contains(&hash) => Ok((hash, bytes)),
        _ => Err(Failure::config("this was changed since the machine was powered on").at(name)),
    };
    all.into_iter().map(hashed).collect()
}

/// A machine that is connected to the outside.
pub(crate) struct Running<'a> {
    pub(crate) machine: Machine,
    pub(crate) io: IoThread,
    pub(crate) control: Control,
    pub(crate) disks: BTreeMap<PortKey, HostDisk>,
    pub(crate) summary: Option<Summary>,
    pub(crate) shelf: Shelf<'a>,
    /// Where its plugins are loaded from again.
    pub(crate) sources: Sources,
}

/// Who keeps what enters.
pub(crate) enum Keeper {
    Nobody,
    /// All of it.
    Recording(Box<Recording>),
    /// The last stretch.
    Flight(Box<Flight>),
}

/// How a run ended.
pub(crate) struct Ended {
    pub(crate) code: u8,
    /// For the user; may be empty.
    pub(crate) words: String,
    pub(crate) status: Status,
    pub(crate) host_time: Duration,
    /// The user ended it, not the guest.
    pub(crate) interrupted: bool,
    /// Of its recording, if it was recorded.
    pub(crate) log_bytes: u64,
}

impl Running<'_> {
    /// Let the machine go on until it ends, and put everything away. `keeper`: whom its gate records for.
    pub(crate) fn finish(self, keeper: Keeper) -> Result<Ended, Failure> {
        let (mut recording, flight) = match keeper {
            Keeper::Nobody => (None, None),
            Keeper::Recording(recording) => (Some(*recording), None),
            Keeper::Flight(flight) => (None, Some(*flight)),
        };
        // The socket goes last: whoever waits for its end finds everything put away.
        let Self { machine, io, control, disks, summary, shelf, sources } = self;
        let trail = recording.as_mut().and_then(|recording| recording.trail.take());
        let failed = || recording.as_ref().is_some_and(Recording::has_failed);
        let over = || io.link().end_reason().is_some() || failed();
        let mut driven = Driving::of(machine, trail, shelf, Arc::clone(io.link()), recording.is_some());
        driven.sources = sources;
        driven.flight = flight.map(|flight| attached(flight, &driven.machine, &io));
        let (stop, host_time) = control.hub().drive(&mut driven, &over);
        let Driving { mut machine, trail, shelf, flight, .. } = driven;
        // Everybody who waits for a snapshot gets an answer.
        drop(shelf);
        trail.into_iter().for_each(Trail::finish);
        let end = End::of(stop, io.link().end_reason());
        control.hub().ended(Some(&end));
        let keeps = recording.is_some() || flight.is_some() && flight::why(&end).is_some();
        if keeps && let Some(reason) = end.recorded() {
            machine.end(reason);
        }
        let status = machine.status();
        let wants_digest = summary.is_some() || keeps;
        let digest = if wants_digest { machine.digest() } else { [0; 32] };
        let stand = Stand { status, host_time, digest };
        let log_error = machine.log_error().map(ToString::to_string);
        let unseen = observe::finish(&mut machine);
        drop(machine);
        let recorded = match (recording, flight) {
            (Some(recording), _) => recording.seal(&end, &stand, log_error).map(Some),
            (None, Some(flight)) => land(flight, &end, &stand).map(Some),
            (None, None) => Ok(None),
        };
        // Everything that the guest said is out, and the terminal as it was, before we speak.
        drop(io);
        let written = write(&end, &stand, &disks, summary, recorded);
        let Sealed { words, log_bytes } = written.map_err(|failure| failure.beside(unseen.as_ref()))?;
        match end.failure() {
            Some(failure) => {
                say(&words);
                Err(failure.beside(unseen.as_ref()))
            }
            None => {
                let words = observe::tell(unseen, end.code(), words)?;
                let interrupted = matches!(end, End::Host(_));
                Ok(Ended { code: end.code(), words, status, host_time, interrupted, log_bytes })
            }
        }
    }
}

/// A flight recorder that can reach its machine, and the user.
fn attached(mut flight: Flight, machine: &Machine, io: &IoThread) -> Flight {
    let link = Arc::clone(io.link());
    flight.attach(machine.stop_handle(), move |text| link.notice(text));
    flight
}

/// What the flight recorder saves at the end. How the run ended counts more than that it could not.
fn land(flight: Flight, end: &End, stand: &Stand) -> Result<Sealed, Failure> {
    match flight.finish(end, stand) {
        Ok(words) => Ok(Sealed { words, log_bytes: 0 }),
        Err(failure) if end.code() == 0 => Err(failure),
        Err(failure) => Ok(Sealed { words: failure.to_string(), log_bytes: 0 }),
    }
}

/// A machine that is connected to the outside, while it runs.
struct Driving<'a> {
    machine: Machine,
    /// The snapshots that are dropped into its recording.
    trail: Option<Trail>,
    /// Those that are saved by name.
    shelf: Shelf<'a>,
    /// What keeps the last stretch.
    flight: Option<Flight>,
    sources: Sources,
    /// To the I/O thread, and the outside halves of plugins on it.
    link: Arc<Link>,
    is_recorded: bool,
    /// It is of no use any more, for this reason.
    broken: Option<String>,
}

impl<'a> Driving<'a> {
    fn of(
        mut machine: Machine,
        mut trail: Option<Trail>,
        shelf: Shelf<'a>,
        link: Arc<Link>,
        is_recorded: bool,
    ) -> Self {
        if let Some(trail) = &mut trail {
            trail.plan(&mut machine);
        }
        let sources = Sources::default();
        Self { machine, trail, shelf, flight: None, sources, link, is_recorded, broken: None }
    }
}

impl Driven for Driving<'_> {
    fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }

    fn go(&mut self) -> Leg {
        if let Some(why) = &self.broken {
            return Leg::Stop(Stop::DiskFailed(why.clone()));
        }
        loop {
            if let Some(flight) = &mut self.flight {
                flight.look(&mut self.machine);
            }
            let stop = self.machine.run();
            let is_checkpoint = stop == Stop::Until && !self.machine.has_arrived();
            match &mut self.trail {
                Some(trail) if is_checkpoint => trail.step(&mut self.machine),
                None if is_checkpoint && self.flight.is_some() => (),
                Some(_) | None => return Leg::Stop(stop),
            }
        }
    }

    fn load(&mut self, tag: Tag) -> Answer {
        if self.is_recorded {
            let why = "this run is recorded, and a log has no way back: begin another with record --from";
            return Err(Refusal::new(why));
        }
        if self.flight.is_some() {
            let why =
                "this run has a flight recorder, and a log has no way back: begin another with run --from";
            return Err(Refusal::new(why));
        }
        let name = tag.name.clone();
        let (_, snapshot) = self.shelf.load(tag)?;
        let before = self.machine.snapshot();
        let Err(error) = self.machine.restore(&snapshot) else { return Ok(json!({})) };
        // A machine that was half restored is none.
        if let Err(error) = self.machine.restore(&before) {
            self.broken = Some(format!("the machine cannot be what it was: {error}"));
        }
        Err(Refusal::new(format!("snapshot \"{name}\" cannot be loaded: {error}")))
    }

    fn reload(&mut self, wish: reload::Wish) -> Answer {
        let keeper = match (self.is_recorded, &self.flight) {
            (true, _) => "this run is recorded",
            (false, Some(_)) => "this run has a flight recorder",
            (false, None) => {
                return self.sources.reload(wish, &mut self.machine, &mut self.shelf, &self.link);
            }
        };
        let why = format!(
            "{keeper}, and a recording has one build of a plugin from its beginning to its end: save a snapshot of a \
             run that is not, and begin with record --from, --plugin NAME=FILE.so"
        );
        Err(Refusal::new(why).with_exit(Exit::Usage))
    }

    fn shelve(&mut self, wish: Wish, reply: Reply) {
        self.shelf.fulfil(wish, &mut self.machine, reply);
    }

    fn save_flight(&mut self, wish: flight::Wish, reply: Reply) {
        match &mut self.flight {
            Some(flight) => flight.save(wish, &mut self.machine, reply),
            None => reply(Err(flight::none())),
        }
    }
}

fn load_plugins(board: &Board, catalog: &Plugins) -> Result<BTreeMap<String, Installed>, Failure> {
    let load = |name: &str| {
        let plugin = catalog.installed(name).map_err(|error| plugin_failure(name, &error))?;
        Ok((name.to_owned(), plugin))
    };
    let plugins = setup::plugin_names(board).into_iter().map(load).collect();
    // Their files are needed no more, but where they are recorded.
    catalog.forget();
    plugins
}

/// A plugin that cannot be had, outside a board.
pub(crate) fn plugin_failure(name: &str, error: &CatalogError) -> Failure {
    let failure = Failure::config(format!("plugin \"{name}\": {error}"));
    match error {
        CatalogError::NotFound { .. } => {
            failure.help("add its folder with --plugin-path or REPRISE_PLUGIN_PATH")
        }
        CatalogError::Broken { help: Some(help), .. } => failure.help(help.clone()),
        CatalogError::Broken { help: None, .. } => failure,
    }
}

pub(crate) fn log_level(verbose: u8) -> LogLevel {
    match verbose {
        0 => LogLevel::Warn,
        1 => LogLevel::Info,
        _ => LogLevel::Debug,
    }
}

/// Write down what is left of a run, whose recording has come to this. Returns all that there is to say.
fn write(
    end: &End,
    stand: &Stand,
    disks: &BTreeMap<PortKey, HostDisk>,
    summary: Option<Summary>,
    recorded: Result<Option<Sealed>, Failure>,
) -> Result<Sealed, Failure> {
    // What the guest wrote comes first: whatever fails after it, it is on the disk.
    let committed = commit(disks, end);
    if let Some(summary) = summary {
        summary.write(end, None, stand)?;
    }
    let words = end.words() + &committed?;
    Ok(match recorded? {
        Some(sealed) => Sealed { words: words + &sealed.words, ..sealed },
        None => Sealed { words, log_bytes: 0 },
    })
}

/// Write overlays back, for those who asked, after a clean end only. A disk that fails does not cost the others theirs.
fn commit(disks: &BTreeMap<PortKey, HostDisk>, end: &End) -> Result<String, Failure> {
    let mut words = String::new();
    let mut first_failure = None;
    for disk in disks.values().filter(|_| end.is_clean()) {
        match disk.commit() {
            Ok(true) => words += &format!("reprise: disk \"{}\" committed\n", disk.id()),
            Ok(false) => (),
            Err(failure) => drop(first_failure.get_or_insert(failure)),
        }
    }
    first_failure.map_or(Ok(words), Err)
}
