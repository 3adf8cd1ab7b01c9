//! From a recording to a machine that replays it.

use crate::{
    args::{EngineArgs, RecordingArgs},
    disk::{DiskFacts, HostDisk, ImageBlocks},
    failure::{Exit, Failure, reason},
    foreign::OtherBuilds,
    origin::{Choices, Found, Origin},
    plugins::{Installed, Plugins},
    record,
    recording::{self, DiskRow, Hash, PluginRow, Segments, Store, damage, moved_disks, touched_blocks},
    report::{self, OtherBuild},
    run,
    setup::{BootFiles, PortKey},
    tape::{Counted, Counter, Undigested},
    unplugged::ReplayOutside,
};
use reprise_machine::{
    BuildError, EngineError, Gate, Machine, Outside, RestoreError, Setup, Snapshot,
    board::Board,
    desc::PortKind,
    plugin::Plugin,
    replay::{RecordSink, RecordSource, Stand, log::LogReader},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    rc::Rc,
};

/// A recording, and everything that is needed to build its machine any number of times.
pub(crate) struct Replica {
    store: Rc<Store>,
    made: Made,
    /// What it was recorded with, if that is another build of a plugin and here too.
    recorded: Option<Made>,
    files: BootFiles,
    disks: Vec<ReplayedDisk>,
    /// If it does not begin at power-on.
    start: Option<Start>,
    engine: EngineArgs,
    chaos_seed: Option<u64>,
}

/// Where a recording begins that does not begin at power-on.
#[derive(Clone)]
pub(crate) struct Start {
    pub(crate) snapshot: Snapshot,
    pub(crate) stand: Stand,
    pub(crate) icount: u64,
    pub(crate) vtime_ns: u64,
}

impl Start {
    fn of(store: &Store, board: &Board, snapshot: Snapshot) -> Result<Self, Failure> {
        let failed = |error: &RestoreError| unusable(error).at(store.path().display());
        Self::at(board, snapshot).map_err(|error| failed(&error))
    }

    /// The same as the beginning of a log, which is not what a replay of the old log goes on from.
    pub(crate) fn as_beginning(&self) -> Result<Self, RestoreError> {
        Ok(Self { snapshot: self.snapshot.as_beginning()?, ..self.clone() })
    }

    /// Where a machine stood that had this board.
    pub(crate) fn at(board: &Board, snapshot: Snapshot) -> Result<Self, RestoreError> {
        let stand = snapshot.stand()?;
        let (icount, vtime_ns) = snapshot.place(board.machine.shift)?;
        Ok(Self { snapshot, stand, icount, vtime_ns })
    }
}

/// A machine that cannot be had.
pub(crate) fn not_built(error: &BuildError) -> Failure {
    let failure = Failure::config(error.to_string());
    match error {
        BuildError::Engine { why, .. } => {
            let failure = match why {
                EngineError::Architecture(_) => failure.note(why.to_string()),
                EngineError::Memory(cause) => failure.note(why.to_string()).note(reason(cause)),
            };
            failure.help("without --engine it is the fastest one that can be had")
        }
        BuildError::Ram(_)
        | BuildError::Create { .. }
        | BuildError::NoSuchDiskPort { .. }
        | BuildError::Boot(_) => failure,
    }
}

/// A snapshot that no machine of its kind can load.
pub(crate) fn unusable(error: &RestoreError) -> Failure {
    match error {
        RestoreError::Build(error) => not_built(error),
        RestoreError::Section(_)
        | RestoreError::Missing(_)
        | RestoreError::Unknown(_)
        | RestoreError::Duplicate(_)
        | RestoreError::Ram { .. }
        | RestoreError::Disk { .. }
        | RestoreError::Log(_) => {
            Failure::new(Exit::Corrupt, "the snapshot cannot be loaded").note(error.to_string())
        }
    }
}

/// What a machine is made of.
struct Made {
    board: Board,
    plugins: BTreeMap<String, Used>,
}

/// A plugin, without the bytes of its file.
struct Used {
    plugin: Plugin,
    file: PathBuf,
    row: PluginRow,
}

struct ReplayedDisk {
    key: PortKey,
    row: DiskRow,
    facts: DiskFacts,
    /// Its blocks are in the recording, and no other place was named.
    packed: bool,
}

/// What one machine has that another of the same recording may have otherwise.
pub(crate) struct Build {
    pub(crate) outside: Box<dyn Outside>,
    /// Where the replay is recorded again.
    pub(crate) sink: Option<Box<dyn RecordSink>>,
    /// The machine goes on from there, not from the beginning of the recording, and the sink's log begins there.
    pub(crate) cut: Option<Start>,
    /// Of the recorded builds of its plugins, where they are others.
    recorded: bool,
    /// The digests of the log are not compared.
    undigested: bool,
    /// For what follows the replay.
    pub(crate) digest_every: Option<u64>,
    pub(crate) icount_limit: Option<u64>,
    pub(crate) counter: Counter,
}

impl Build {
    /// A replay and nothing else.
    pub(crate) fn replay(outside: Box<dyn Outside>) -> Self {
        Self {
            outside,
            sink: None,
            cut: None,
            recorded: false,
            undigested: false,
            digest_every: None,
            icount_limit: None,
            counter: Counter::default(),
        }
    }
}

impl Replica {
    /// Find everything. Nothing is built yet.
    ///
    /// # Errors
    /// Something of the recording is not here: it is named, and what to do about it.
    pub(crate) fn open(args: &RecordingArgs, catalog: &Plugins) -> Result<Self, Failure> {
        let store = Rc::new(Store::open(&args.recording)?);
        Self::of(store, args, catalog)
    }

    /// As [`open`](Self::open), of a recording that was opened already.
    pub(crate) fn of(store: Rc<Store>, args: &RecordingArgs, catalog: &Plugins) -> Result<Self, Failure> {
        let origin = Origin::recorded(&store);
        let moved = moved_disks(&args.disk, &store.manifest().disks, origin.what)?;
        let choices = Choices::of(&args.plugins)?;
        let (made, files) = Made::of(origin.find(&choices, catalog)?);
        // Only what somebody has named can be here beside the recorded one.
        let recorded = match made.others(&store).next() {
            Some(_) => origin.find(&choices.as_recorded(), catalog).ok().map(|found| Made::of(found).0),
            None => None,
        };
        let disks = find_disks(&store, &made.board, &moved)?;
        let start =
            store.start()?.map(|(_, snapshot)| Start::of(&store, &made.board, snapshot)).transpose()?;
        let (engine, chaos_seed) = (args.engine, args.chaos_seed);
        Ok(Self { store, made, recorded, files, disks, start, engine, chaos_seed })
    }

    pub(crate) fn store(&self) -> &Rc<Store> {
        &self.store
    }

    pub(crate) fn board(&self) -> &Board {
        &self.made.board
    }

    /// The port that had the terminal: device and port index.
    pub(crate) fn console(&self) -> Option<(usize, usize)> {
        let (id, name) = self.store.manifest().console.as_deref()?.split_once('.')?;
        let device = self.made.board.device(id)?;
        let port = self.made.board.devices[device].desc.ports.iter().position(|port| port.name == name)?;
        Some((device, port))
    }

    /// For a recording of this machine's own.
    pub(crate) fn plugin_rows(&self) -> Vec<PluginRow> {
        self.made.plugins.values().map(|used| used.row.clone()).collect()
    }

    /// For a recording of this machine's own: where the images are now.
    pub(crate) fn disk_rows(&self) -> Vec<DiskRow> {
        self.disks.iter().map(|disk| disk_row(&disk.key, &disk.facts)).collect()
    }

    /// A boot image, or the file of a plugin that the machine is built with.
    ///
    /// # Errors
    /// It has changed, or gone.
    pub(crate) fn content(&self, hash: &Hash) -> Result<Vec<u8>, Failure> {
        let plugin = self.made.plugins.values().find(|used| used.row.blake3 == *hash);
        let ours = self.store.manifest().plugins.iter().any(|row| row.blake3 == *hash);
        let Some(plugin) = plugin.filter(|_| !ours) else { return self.store.blob(hash) };
        let failed = |error| Failure::io("cannot read a plugin again", &error).at(plugin.file.display());
        let bytes = std::fs::read(&plugin.file).map_err(failed)?;
        match Hash::of(&bytes) == *hash {
            true => Ok(bytes),
            false => Err(failed(std::io::Error::other("it was changed just now"))),
        }
    }

    /// A reader of the log, at its beginning.
    pub(crate) fn log(&self) -> Result<Log, Failure> {
        open_log(&self.store)
    }

    /// Where it begins, if not at power-on.
    pub(crate) fn start(&self) -> Option<&Start> {
        self.start.as_ref()
    }

    /// A machine where the recording begins, which replays the log.
    ///
    /// # Errors
    /// Something has gone since [`Replica::open`], or the log cannot be read.
    pub(crate) fn machine(&self, build: Build) -> Result<Machine, Failure> {
        let Build { outside, sink, cut, recorded, undigested, digest_every, icount_limit, counter } = build;
        let Made { board, plugins } = self.recorded.as_ref().filter(|_| recorded).unwrap_or(&self.made);
        let source: Box<dyn RecordSource> = match undigested {
            true => Box::new(Undigested(self.log()?)),
            false => Box::new(Counted::new(self.log()?, counter)),
        };
        let start = cut.as_ref().or(self.start.as_ref());
        let gate = match (&cut, start, sink) {
            (Some(cut), _, Some(sink)) => Gate::cut_from(&cut.stand, cut.vtime_ns, source, sink),
            (_, Some(start), sink) => {
                Gate::replay_from(&start.stand, start.vtime_ns, source).map(|gate| again(gate, sink))
            }
            (_, None, sink) => Gate::replay(source).map(|gate| again(gate, sink)),
        };
        let gate = gate.map_err(|error| damage(&self.store, &error))?;
        let images = self.files.read()?;
        let boot = self.files.clone().source(board, &gate.seed(), &images)?;
        let disks = self.disks.iter().map(|disk| Ok((disk.key.clone(), self.disk(disk)?)));
        let setup = Setup {
            board: board.clone(),
            plugins: plugins.iter().map(|(name, used)| (name.clone(), used.plugin.clone())).collect(),
            boot,
            disks: run::boxed(&disks.collect::<Result<_, Failure>>()?),
            outside,
            gate,
            digest_every,
            icount_limit,
            engine: self.engine.asked,
            chaos_seed: self.chaos_seed,
        };
        let built = match start {
            None => Machine::new(setup).map_err(|error| not_built(&error)),
            Some(start) => {
                let mut others = self.other_builds();
                if recorded {
                    others.plugins.clear();
                }
                return Machine::restored(setup, &start.snapshot)
                    .map_err(|error| others.judge(&error, board));
            }
        };
        built.map_err(|failure| failure.at(self.store.path().display()))
    }

    fn other_builds(&self) -> OtherBuilds {
        let at = self.store.path().to_owned();
        let plugins = self.made.others(&self.store).map(|(name, _)| name.to_owned()).collect();
        OtherBuilds { plugins, recorded: self.recorded.as_ref().map(|made| made.board.clone()), at }
    }

    fn disk(&self, disk: &ReplayedDisk) -> Result<HostDisk, Failure> {
        let blocks = if disk.packed { self.store.disk_blocks(&disk.row)? } else { None };
        match blocks {
            Some(mut blocks) => HostDisk::packed(&disk.facts, Box::new(move |block| blocks.read(block))),
            None => HostDisk::replayed(&disk.facts).map_err(|failure| {
                failure.help(format!("if the image is elsewhere now: --disk {}=FILE", disk.row.device))
            }),
        }
    }

    /// Whether every block of every image that the run has read is what it was. A pack checks its own.
    pub(crate) fn has_recorded_disks(&self) -> bool {
        let Ok((touched, _)) = touched_blocks(&self.store) else { return false };
        self.disks.iter().filter(|disk| !disk.packed && disk.facts.image.is_some()).all(|disk| {
            let Some(blocks) = touched.get(&disk.key) else { return true };
            let Ok(mut image) = ImageBlocks::open(&disk.facts) else { return false };
            let same = |(&block, hash): (&u64, &Hash)| image.read(block).is_ok_and(|b| Hash::of(&b) == *hash);
            blocks.iter().all(same)
        })
    }

    /// The disks of which there is only what the recorded run has read.
    pub(crate) fn partial_disks(&self) -> impl Iterator<Item = &str> {
        let partial = |disk: &&ReplayedDisk| disk.packed && disk.facts.image.is_some();
        self.disks.iter().filter(partial).map(|disk| disk.key.0.as_str())
    }
}

impl Made {
    fn of(Found { board, plugins, files }: Found) -> (Self, BootFiles) {
        let used = plugins.into_iter().map(|(name, found)| (name.clone(), Used::of(&name, found)));
        (Self { board, plugins: used.collect() }, files)
    }

    /// Its plugins that are not what a recording was made with.
    fn others<'a>(&'a self, store: &'a Store) -> impl Iterator<Item = (&'a str, &'a Used)> {
        store.manifest().plugins.iter().filter_map(|row| {
            let here = self.plugins.get(&row.name).filter(|here| here.row.blake3 != row.blake3)?;
            Some((row.name.as_str(), here))
        })
    }
}

impl Used {
    fn of(name: &str, Installed { plugin, file, bytes }: Installed) -> Self {
        let row = record::plugin_row(name, &plugin, &bytes);
        Self { plugin, file, row }
    }
}

/// The board has a place for a disk that was kept. `kept` names where.
pub(crate) fn check_place(row: &DiskRow, board: &Board, kept: &Path) -> Result<(), Failure> {
    let device = board.devices.iter().find(|device| device.id == row.device);
    let mut ports = device.into_iter().flat_map(|device| &device.desc.ports);
    if ports.any(|port| port.name == row.port && port.kind == PortKind::Blk) {
        return Ok(());
    }
    let what = format!("the board has no place for the recorded disk \"{}.{}\"", row.device, row.port);
    Err(Failure::config(what).at(kept.display()))
}

/// `moved`: where images are now, by device.
fn find_disks(
    store: &Store,
    board: &Board,
    moved: &BTreeMap<String, PathBuf>,
) -> Result<Vec<ReplayedDisk>, Failure> {
    let find = |row: &DiskRow| {
        check_place(row, board, store.path())?;
        let moved = moved.get(&row.device);
        let facts = recording::facts(row, moved)?;
        let packed = moved.is_none() && store.disk_blocks(row)?.is_some();
        let key = (row.device.clone(), row.port.clone());
        Ok(ReplayedDisk { key, row: row.clone(), facts, packed })
    };
    store.manifest().disks.iter().map(find).collect()
}

fn again(gate: Gate, sink: Option<Box<dyn RecordSink>>) -> Gate {
    match sink {
        Some(sink) => gate.recorded_again(sink),
        None => gate,
    }
}

/// What a recording says of a disk.
pub(crate) fn disk_row((device, port): &PortKey, facts: &DiskFacts) -> DiskRow {
    let image = facts.image.as_ref();
    DiskRow {
        device: device.clone(),
        port: port.clone(),
        // A name that is not UTF-8 has to be given again with --disk.
        file: image.map(|image| image.path.display().to_string()),
        format: image.map(|image| image.format.name().to_owned()),
        size_bytes: facts.size_bytes,
        read_only: facts.read_only,
        backing: image.is_some_and(|image| image.backing),
    }
}

/// The log's reader.
pub(crate) type Log = LogReader<Segments>;

/// The reader of a recording's log, which must be of the same run as the manifest.
pub(crate) fn open_log(store: &Store) -> Result<Log, Failure> {
    let log = LogReader::open(store.segments()).map_err(|error| damage(store, &error))?;
    let id = log.run_id().map(|id| id.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    match id {
        Some(id) if id != store.manifest().run_id => {
            Err(Failure::new(Exit::Corrupt, "the log is not that of this recording's manifest")
                .at(store.path().display())
                .note(format!("the log is of run {id}, the manifest of run {}", store.manifest().run_id)))
        }
        // A log that breaks off before its first segment has a header is of no run yet.
        Some(_) | None => Ok(log),
    }
}

impl report::Recorded for Replica {
    fn board(&self) -> &Board {
        &self.made.board
    }

    fn machine(&self) -> Result<Machine, Failure> {
        Replica::machine(self, Build::replay(Box::new(ReplayOutside::silent())))
    }

    fn records(&self) -> Result<Box<dyn RecordSource>, Failure> {
        Ok(Box::new(self.log()?))
    }

    fn changed(&self) -> Vec<String> {
        let manifest = self.store.manifest();
        let mut changed = Vec::new();
        let ours = env!("CARGO_PKG_VERSION");
        if manifest.reprise != ours {
            changed.push(format!("the recording was made by reprise {}, this is {ours}", manifest.reprise));
        }
        let others = self.made.others(&self.store);
        changed.extend(
            others.map(|(name, here)| format!("plugin \"{name}\" is another: {}", here.file.display())),
        );
        changed
    }

    fn other_builds(&self) -> Vec<OtherBuild> {
        let build = |(name, here): (&str, &Used)| {
            let devices = self.made.board.devices.iter().filter(|device| device.plugin == name);
            OtherBuild {
                plugin: name.to_owned(),
                devices: devices.map(|device| device.id.clone()).collect(),
                file: here.file.display().to_string(),
            }
        };
        self.made.others(&self.store).map(build).collect()
    }

    fn builds(&self) -> Option<Result<[Machine; 2], Failure>> {
        self.recorded.as_ref()?;
        let build = |recorded| {
            let build = Build::replay(Box::new(ReplayOutside::silent()));
            Replica::machine(self, Build { recorded, undigested: true, ..build })
        };
        Some(build(true).and_then(|a| Ok([a, build(false)?])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reprise_machine::Engine;
    use std::io;

    #[test]
    fn an_engine_that_cannot_be_had_is_told_with_its_cause() {
        let why = EngineError::Memory(io::Error::from_raw_os_error(1));
        let failure = not_built(&BuildError::Engine { engine: Engine::Jit, why });
        assert_eq!(failure.exit, Exit::Config);
        assert_eq!(
            failure.to_string(),
            "error: the engine `jit` cannot be had here\n  = note: the host gives no memory for translated code\n  \
             = note: operation not permitted\n  = help: without --engine it is the fastest one that can be had\n"
        );
    }
}
