//! From a recording to a machine that replays it.

use crate::{
    args::RecordingArgs,
    disk::{DiskFacts, HostDisk},
    failure::{Exit, Failure},
    plugins::{Installed, Plugins},
    record,
    recording::{self, DiskRow, Hash, ImageRow, PluginRow, Segments, Store, damage, moved_disks},
    report, run,
    setup::{self, BootFiles, Content, PortKey, Reader},
    tape::{Counted, Counter},
    unplugged::ReplayOutside,
};
use reprise_machine::{
    Gate, Machine, Outside, Setup,
    board::{self, Board, Catalog, CatalogError},
    desc::{ConfigError, DeviceDesc, PortKind},
    plugin::Plugin,
    replay::{RecordSink, RecordSource, log::LogReader},
};
use std::{collections::BTreeMap, path::PathBuf, rc::Rc};

/// As much as a message has room for: plugins of a recording that are not here.
const SHOWN: usize = 4;

/// A recording, and everything that is needed to build its machine any number of times.
pub(crate) struct Replica {
    store: Rc<Store>,
    board: Board,
    plugins: BTreeMap<String, Used>,
    files: BootFiles,
    disks: Vec<ReplayedDisk>,
    chaos_seed: Option<u64>,
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
    /// For what follows the replay.
    pub(crate) digest_every: Option<u64>,
    pub(crate) icount_limit: Option<u64>,
    pub(crate) counter: Counter,
}

impl Build {
    /// A replay and nothing else.
    pub(crate) fn replay(outside: Box<dyn Outside>) -> Self {
        Self { outside, sink: None, digest_every: None, icount_limit: None, counter: Counter::default() }
    }
}

impl Replica {
    /// Find everything. Nothing is built yet.
    ///
    /// # Errors
    /// Something of the recording is not here: it is named, and what to do about it.
    pub(crate) fn open(args: &RecordingArgs, catalog: &Plugins) -> Result<Self, Failure> {
        setup::check_engine(&args.engine)?;
        let store = Rc::new(Store::open(&args.recording)?);
        Self::of(store, args, catalog)
    }

    /// As [`open`](Self::open), of a recording that was opened already.
    pub(crate) fn of(store: Rc<Store>, args: &RecordingArgs, catalog: &Plugins) -> Result<Self, Failure> {
        let choices = Choices::of(args)?;
        let plugins = find_plugins(&store, &choices, catalog)?;
        let board = board(&store, &plugins)?;
        let plugins =
            plugins.into_iter().map(|(name, found)| (name.clone(), Used::of(&name, found))).collect();
        let files = boot_files(&store);
        let disks = find_disks(&store, &board, &moved_disks(&args.disk, &store.manifest().disks)?)?;
        Ok(Self { store, board, plugins, files, disks, chaos_seed: args.chaos_seed })
    }

    pub(crate) fn store(&self) -> &Rc<Store> {
        &self.store
    }

    pub(crate) fn board(&self) -> &Board {
        &self.board
    }

    /// The port that had the terminal: device and port index.
    pub(crate) fn console(&self) -> Option<(usize, usize)> {
        let (id, name) = self.store.manifest().console.as_deref()?.split_once('.')?;
        let device = self.board.device(id)?;
        let port = self.board.devices[device].desc.ports.iter().position(|port| port.name == name)?;
        Some((device, port))
    }

    /// For a recording of this machine's own.
    pub(crate) fn plugin_rows(&self) -> Vec<PluginRow> {
        self.plugins.values().map(|used| used.row.clone()).collect()
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
        let plugin = self.plugins.values().find(|used| used.row.blake3 == *hash);
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

    /// A machine at power-on that replays the log.
    ///
    /// # Errors
    /// Something has gone since [`Replica::open`], or the log cannot be read.
    pub(crate) fn machine(&self, build: Build) -> Result<Machine, Failure> {
        let source = Counted::new(self.log()?, build.counter);
        let gate = Gate::replay(Box::new(source)).map_err(|error| damage(&self.store, &error))?;
        let images = self.files.read()?;
        let boot = self.files.clone().source(&self.board, &gate.seed(), &images)?;
        let gate = match build.sink {
            Some(sink) => gate.recorded_again(sink),
            None => gate,
        };
        let disks = self.disks.iter().map(|disk| Ok((disk.key.clone(), self.disk(disk)?)));
        let setup = Setup {
            board: self.board.clone(),
            plugins: self.plugins.iter().map(|(name, used)| (name.clone(), used.plugin.clone())).collect(),
            boot,
            disks: run::boxed(&disks.collect::<Result<_, Failure>>()?),
            outside: build.outside,
            gate,
            digest_every: build.digest_every,
            icount_limit: build.icount_limit,
            chaos_seed: self.chaos_seed,
        };
        Machine::new(setup)
            .map_err(|error| Failure::config(error.to_string()).at(self.store.path().display()))
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

    /// The disks of which there is only what the recorded run has read.
    pub(crate) fn partial_disks(&self) -> impl Iterator<Item = &str> {
        let partial = |disk: &&ReplayedDisk| disk.packed && disk.facts.image.is_some();
        self.disks.iter().filter(partial).map(|disk| disk.key.0.as_str())
    }
}

impl Used {
    fn of(name: &str, Installed { plugin, file, bytes }: Installed) -> Self {
        let row = record::plugin_row(name, &plugin, &bytes);
        Self { plugin, file, row }
    }
}

/// What the user has said about the parts of the machine.
struct Choices {
    plugins: BTreeMap<String, PathBuf>,
    other_plugins: bool,
    trust_plugins: bool,
}

impl Choices {
    fn of(args: &RecordingArgs) -> Result<Self, Failure> {
        let mut plugins = BTreeMap::new();
        for argument in &args.plugin {
            let bad = |why: &str| {
                Failure::usage(why).at(format!("--plugin {argument}")).help("write --plugin NAME=FILE.so")
            };
            let (name, file) = argument.split_once('=').ok_or_else(|| bad("no `NAME=` before the file"))?;
            if plugins.insert(name.to_owned(), PathBuf::from(file)).is_some() {
                return Err(bad("this plugin is given twice"));
            }
        }
        let (other_plugins, trust_plugins) = (args.other_plugins, args.trust_plugins);
        Ok(Self { plugins, other_plugins, trust_plugins })
    }
}

/// The plugins of a board that is read again.
struct Chosen<'a>(&'a BTreeMap<String, Installed>);

impl Catalog for Chosen<'_> {
    fn find(&self, plugin: &str) -> Result<Vec<DeviceDesc>, CatalogError> {
        let found = self.0.get(plugin).ok_or_else(|| CatalogError::NotFound { searched: Vec::new() })?;
        Ok(found.plugin.kinds().to_vec())
    }

    fn describe_with(&self, plugin: &str, kind: &str, config_json: &str) -> Result<DeviceDesc, ConfigError> {
        match self.0.get(plugin) {
            Some(found) => found.plugin.describe_with(kind, config_json),
            None => {
                Err(ConfigError { path: String::new(), message: "the recording does not name it".into() })
            }
        }
    }

    fn available(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

fn board(store: &Store, plugins: &BTreeMap<String, Installed>) -> Result<Board, Failure> {
    let text = &store.manifest().board;
    let name = format!("the board in {}", store.path().display());
    board::parse(&name, text, &[], &Chosen(plugins)).map_err(|wrong| Failure::board(wrong, text))
}

/// A plugin that is not here as it was.
struct Missing<'a> {
    part: &'a PluginRow,
    /// What there is under its name.
    here: Result<Installed, CatalogError>,
}

fn find_plugins(
    store: &Store,
    choices: &Choices,
    catalog: &Plugins,
) -> Result<BTreeMap<String, Installed>, Failure> {
    let parts = &store.manifest().plugins;
    if let Some(name) = choices.plugins.keys().find(|name| !parts.iter().any(|part| part.name == **name)) {
        let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        return Err(Failure::usage(format!("the recording has no plugin \"{name}\""))
            .at(format!("--plugin {name}=…"))
            .help(format!("it has: {}", names.join(", "))));
    }
    let mut found = BTreeMap::new();
    let mut missing = Vec::new();
    for part in parts {
        match find_plugin(store, part, choices, catalog)? {
            Ok(plugin) => drop(found.insert(part.name.clone(), plugin)),
            Err(here) => missing.push(Missing { part, here }),
        }
    }
    catalog.forget();
    if missing.is_empty() { Ok(found) } else { Err(other_plugins(store, &missing)) }
}

/// The plugin to use; else what there is in its place.
fn find_plugin(
    store: &Store,
    part: &PluginRow,
    choices: &Choices,
    catalog: &Plugins,
) -> Result<Result<Installed, Result<Installed, CatalogError>>, Failure> {
    if let Some(file) = choices.plugins.get(&part.name) {
        return Installed::read(file).map(Ok).map_err(|error| run::plugin_failure(&part.name, &error));
    }
    if let Some(same) = catalog.with_hash(&part.name, part.blake3) {
        return Ok(Ok(same));
    }
    if choices.trust_plugins {
        let file = store.path().join(&part.name);
        let loaded = Installed::load(file, store.blob(&part.blake3)?);
        return loaded.map(Ok).map_err(|error| run::plugin_failure(&part.name, &error));
    }
    match catalog.installed(&part.name) {
        Ok(other) if choices.other_plugins => Ok(Ok(other)),
        Err(error) if choices.other_plugins => Err(run::plugin_failure(&part.name, &error)),
        here => Ok(Err(here)),
    }
}

fn other_plugins(store: &Store, missing: &[Missing<'_>]) -> Failure {
    let what = match missing {
        [one] => format!("plugin \"{}\" is not here as it was recorded", one.part.name),
        many => format!("{} plugins are not here as they were recorded", many.len()),
    };
    let mut failure = Failure::config(what).at(store.path().display());
    for Missing { part, here } in missing.iter().take(SHOWN) {
        let here = match here {
            Ok(here) => format!(
                "{} is of plugin API {}, blake3 {}",
                here.file.display(),
                here.plugin.api_version(),
                short(&here.hash())
            ),
            Err(CatalogError::NotFound { .. }) => "none is found".to_owned(),
            Err(CatalogError::Broken { message, .. }) => message.clone(),
        };
        let PluginRow { name, api, blake3, .. } = part;
        failure =
            failure.note(format!("{name}: recorded of plugin API {api}, blake3 {}; {here}", short(blake3)));
    }
    if missing.len() > SHOWN {
        failure = failure.note(format!("and {} more", missing.len() - SHOWN));
    }
    let name = &missing[0].part.name;
    failure
        .help(format!("with the plugins of that build: --plugin-path DIR, or --plugin {name}=FILE.so"))
        .help("--other-plugins takes what is installed, and the replay shows whether it is the same")
        .help("--trust-plugins loads what the recording holds: only if you would run a program from there")
}

/// Enough to tell it from others.
fn short(hash: &Hash) -> String {
    format!("{:.16}…", hash.to_string())
}

fn boot_files(store: &Rc<Store>) -> BootFiles {
    let images = &store.manifest().images;
    let reader = |what: &'static str, part: &Option<ImageRow>| -> Option<Reader> {
        let part = part.clone()?;
        let store = Rc::clone(store);
        let read = move || -> Result<Content, Failure> {
            let name = format!("the {what} in {} ({})", store.path().display(), part.name);
            Ok((name, store.blob(&part.blake3)?))
        };
        Some(Rc::new(read))
    };
    BootFiles::recorded([
        reader("firmware", &images.firmware),
        reader("kernel", &images.kernel),
        reader("initrd", &images.initrd),
    ])
}

/// `moved`: where images are now, by device.
fn find_disks(
    store: &Store,
    board: &Board,
    moved: &BTreeMap<String, PathBuf>,
) -> Result<Vec<ReplayedDisk>, Failure> {
    let find = |row: &DiskRow| {
        let device = board.devices.iter().find(|device| device.id == row.device);
        let mut ports = device.into_iter().flat_map(|device| &device.desc.ports);
        if !ports.any(|port| port.name == row.port && port.kind == PortKind::Blk) {
            let what =
                format!("the board has no place for the recorded disk \"{}.{}\"", row.device, row.port);
            return Err(Failure::config(what).at(store.path().display()));
        }
        let moved = moved.get(&row.device);
        let facts = recording::facts(row, moved)?;
        let packed = moved.is_none() && store.disk_blocks(row)?.is_some();
        let key = (row.device.clone(), row.port.clone());
        Ok(ReplayedDisk { key, row: row.clone(), facts, packed })
    };
    store.manifest().disks.iter().map(find).collect()
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
        &self.board
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
        for row in &manifest.plugins {
            let here = self.plugins.get(&row.name).filter(|here| here.row.blake3 != row.blake3);
            changed.extend(
                here.map(|here| format!("plugin \"{}\" is another: {}", row.name, here.file.display())),
            );
        }
        changed
    }
}
