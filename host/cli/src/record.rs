//! `reprise record`: a run whose gate writes down everything that enters, and what the recording is made of.

use crate::{
    args::RecordArgs,
    disk::{DiskSpec, HostDisk},
    ending::{End, Stand},
    failure::{Exit, Failure},
    from,
    io::{BackendSpec, PortPlan, grouped},
    plugins::{Installed, Plugins},
    rebuild::{self, Replica, Start},
    recording::{
        DeviceRow, DiskRow, EndRow, FORMAT, Hash, ImageRow, Images, Manifest, ParentRow, PluginRow, Recorder,
        Store, check_source, damage,
    },
    run::{self, Ended, Keeper, Parts},
    setup::{self, BootFiles, BootImages, Content, PortKey},
    tape::Course,
    trail::{Pace, Trail},
};
use reprise_machine::{
    Gate, Status, Stop, StopHandle,
    board::{self, Board},
    plugin::Plugin,
    replay::{EndReason, RecordSink},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    rc::Rc,
    sync::{Arc, OnceLock},
    time::{SystemTime, UNIX_EPOCH},
};

/// Record the run of this command line. Returns the exit code.
pub(crate) fn record(args: &RecordArgs, catalog: &Plugins) -> Result<u8, Failure> {
    if args.run.flight_recorder.is_some() {
        return Err(Failure::usage(
            "a run that is recorded needs no flight recorder: the recording has all of it",
        )
        .at("--flight-recorder")
        .help("leave it out, or write `run` for `record -o RUN.rec`"));
    }
    let ended = match from::snapshot_of(&args.run)? {
        Some(taken) => record_parts(args, taken.parts(&args.run, catalog, true)?)?,
        None => {
            let board = setup::board_of(&args.run, catalog)?;
            record_board(args, catalog, board, BootFiles::from_args(&args.run)?)?
        }
    };
    run::say(&ended.words);
    Ok(ended.code)
}

/// Record a run of a resolved board.
pub(crate) fn record_board(
    args: &RecordArgs,
    catalog: &Plugins,
    board: Board,
    files: BootFiles,
) -> Result<Ended, Failure> {
    record_parts(args, Parts::gather(&args.run, catalog, board, files, open_disk)?)
}

/// Record the run of a machine that is ready.
fn record_parts(args: &RecordArgs, mut parts: Parts) -> Result<Ended, Failure> {
    let digest_every = args.digest_every.0;
    let manifest = manifest_of(&parts, digest_every);
    // Their bytes are needed no more: what boots has them, and what is loaded is.
    let contents = taken(&mut parts.images, &mut parts.plugins);
    let contents = hashes(&manifest).into_iter().zip(contents).collect();
    let start = parts.start.as_ref();
    let (mut recording, sink) = Recording::create(&args.output, args.force, manifest, contents, start)?;
    let gate = match start {
        Some(start) => Gate::record_from(&start.stand, start.vtime_ns, sink),
        None => Gate::record(parts.seed, sink),
    };
    recording.lay_trail(args.trail.pace());
    let begun = recording.begin();
    match begun.and_then(|()| parts.connect(&args.run, gate, digest_every, Some(&recording))) {
        Ok(running) => {
            recording.attach(running.machine.stop_handle());
            running.finish(Keeper::Recording(Box::new(recording)))
        }
        Err(failure) => {
            recording.discard();
            Err(failure)
        }
    }
}

/// An image that is committed to is not what the run began with.
fn open_disk(spec: &DiskSpec) -> Result<HostDisk, Failure> {
    match spec.commits() {
        false => HostDisk::open_watched(spec),
        true => {
            Err(Failure::usage("a run that commits to a disk cannot be recorded: it could not be replayed")
                .at(spec.file.display())
                .help(
                    "record without `,commit`; to keep what the guest writes, run it again without recording",
                ))
        }
    }
}

/// The gate's side of a recording.
pub(crate) type Log = Box<dyn RecordSink>;

/// A recording that is being made.
pub(crate) struct Recording {
    recorder: Recorder,
    path: PathBuf,
    /// Of the machine, once there is one.
    stop: Arc<OnceLock<StopHandle>>,
    /// The snapshots that are dropped into it.
    pub(crate) trail: Option<Trail>,
}

/// A recording that is complete.
pub(crate) struct Sealed {
    /// For the user.
    pub(crate) words: String,
    pub(crate) log_bytes: u64,
}

impl Recording {
    fn begin_at(&mut self, start: &Start) -> Result<(), Failure> {
        let beginning = start.snapshot.as_beginning();
        let beginning = beginning.map_err(|error| rebuild::unusable(&error).at(self.path.display()))?;
        self.recorder.start(&beginning, start.icount, start.vtime_ns)
    }

    /// Make the folder. Returns the gate's side of it too. `start`: where it begins, if not at power-on.
    pub(crate) fn create(
        path: &Path,
        force: bool,
        manifest: Manifest,
        contents: Vec<(Hash, Vec<u8>)>,
        start: Option<&Start>,
    ) -> Result<(Self, Log), Failure> {
        let stop: Arc<OnceLock<StopHandle>> = Arc::default();
        let failed = {
            let stop = Arc::clone(&stop);
            move || stop.get().into_iter().for_each(StopHandle::request)
        };
        let (recorder, sink) = Recorder::create(path, manifest, contents, force, failed)?;
        let mut recording = Self { recorder, path: path.to_owned(), stop, trail: None };
        if let Some(start) = start
            && let Err(failure) = recording.begin_at(start)
        {
            drop(sink);
            recording.discard();
            return Err(failure);
        }
        Ok((recording, Box::new(sink)))
    }

    /// Of a replay, from its beginning or from `start`. `plans`: what it is connected to when it leaves the log.
    pub(crate) fn again(
        path: &Path,
        force: bool,
        replica: &Replica,
        plans: Option<&[PortPlan]>,
        digest_every: Option<u64>,
        start: Option<&Start>,
    ) -> Result<(Self, Log), Failure> {
        check_source(replica.store().path(), path, force)?;
        let old = replica.store().manifest();
        let manifest = Manifest {
            digest_every,
            console: plans.map_or_else(|| old.console.clone(), console),
            images: old.images.clone(),
            plugins: replica.plugin_rows(),
            disks: replica.disk_rows(),
            parent: old.parent.clone(),
            ..manifest(replica.board(), &[])
        };
        let hashes = hashes(&manifest);
        let contents = hashes.iter().map(|hash| Ok((*hash, replica.content(hash)?)));
        let contents = contents.collect::<Result<Vec<_>, Failure>>()?;
        Self::create(path, force, manifest, contents, start)
    }

    /// The gate is there: from now on it is a recording, also if nothing ends it.
    pub(crate) fn begin(&mut self) -> Result<(), Failure> {
        self.recorder.begin()
    }

    /// Snapshots are dropped into it from here on, if they are wanted.
    fn lay_trail(&mut self, pace: Option<Pace>) {
        let begin = |pace| Trail::begin(&self.path, self.recorder.manifest(), pace);
        self.trail = pace.map(begin);
    }

    /// The machine that stops when nothing more can be written.
    pub(crate) fn attach(&self, stop: StopHandle) {
        let stop = self.stop.get_or_init(|| stop);
        if self.recorder.failure().is_some() {
            stop.request();
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        self.recorder.manifest()
    }

    /// Nothing more can be written.
    pub(crate) fn has_failed(&self) -> bool {
        self.recorder.failure().is_some()
    }

    /// From here on it is another run than its parent.
    pub(crate) fn branch(&mut self, parent: &Store, at: Status) -> Result<(), Failure> {
        let run_id = parent.manifest().run_id.clone();
        self.recorder.branch(ParentRow { run_id, icount: at.icount, vtime_ns: at.vtime_ns })
    }

    /// As if it had never been; what it was to replace stays. The machine is gone.
    pub(crate) fn discard(self) {
        self.recorder.discard();
    }

    /// The run has ended; the machine is gone.
    pub(crate) fn seal(self, end: &End, stand: &Stand, log_error: Option<String>) -> Result<Sealed, Failure> {
        let Self { recorder, path, .. } = self;
        let failed = recorder.failure().or_else(|| {
            log_error
                .map(|why| Failure::new(Exit::Io, "the recording cannot go on").at(path.display()).note(why))
        });
        let reason = match end {
            // The log has said it already.
            End::Machine(Stop::ReplayEnded(reason)) => Some(*reason),
            end => end.recorded(),
        };
        let row = reason.filter(|_| failed.is_none()).map(|reason| end_row(reason, stand));
        let finished = recorder.finish(row);
        if let Some(failure) = failed {
            return Err(with_extent(failure, &path));
        }
        let log_bytes = finished.map_err(|failure| with_extent(failure, &path))?.log_bytes;
        let words = format!(
            "reprise: recorded to {}: {} bytes of log for {} instructions, {:.3} s of virtual time\n\
             reprise: to see it again: reprise replay {0}\n",
            path.display(),
            grouped(log_bytes),
            grouped(stand.status.icount),
            stand.status.vtime_ns as f64 / 1e9,
        );
        Ok(Sealed { words, log_bytes })
    }
}

/// How far a recording goes that could not be finished.
fn with_extent(failure: Failure, path: &Path) -> Failure {
    let course = Store::open(path).and_then(|store| {
        let mut log = rebuild::open_log(&store)?;
        Course::of(&mut log).map_err(|error| damage(&store, &error))
    });
    match course {
        Ok(course) => failure.note(format!(
            "everything up to icount {}, vtime {:.6} s is recorded, and replays",
            grouped(course.icount),
            course.last.vtime_ns as f64 / 1e9
        )),
        // Then the first failure is not the only one; it is the one to tell.
        Err(_) => failure,
    }
}

/// What the recording of a run says that is made of these parts.
pub(crate) fn manifest_of(parts: &Parts, digest_every: Option<u64>) -> Manifest {
    Manifest {
        digest_every,
        images: image_rows(&parts.images),
        plugins: plugin_rows(&parts.plugins),
        disks: disk_rows(&parts.disks),
        parent: parts.parent.clone(),
        ..manifest(&parts.board, &parts.plans)
    }
}

/// What a recording says of a machine, but for what it is made of.
fn manifest(board: &Board, plans: &[PortPlan]) -> Manifest {
    // A clock before 1970 is not set.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Manifest {
        format: FORMAT,
        run_id: String::new(),
        reprise: env!("CARGO_PKG_VERSION").to_owned(),
        created_unix_s: now.as_secs(),
        digest_every: None,
        console: console(plans),
        board: board::print(board),
        end: None,
        parent: None,
        start: None,
        images: Images::default(),
        devices: device_rows(board),
        plugins: Vec::new(),
        disks: Vec::new(),
    }
}

/// The devices of a board, for names in place of indices.
pub(crate) fn device_rows(board: &Board) -> Vec<DeviceRow> {
    let device = |device: &board::DeviceSpec| DeviceRow {
        id: device.id.clone(),
        ports: device.desc.ports.iter().map(|port| port.name.clone()).collect(),
    };
    board.devices.iter().map(device).collect()
}

/// The port that has the terminal.
pub(crate) fn console(plans: &[PortPlan]) -> Option<String> {
    let plan = plans.iter().find(|plan| plan.backend == BackendSpec::Stdio)?;
    Some(format!("{}.{}", plan.device, plan.port))
}

/// What a recording says of boot images.
pub(crate) fn image_rows(images: &BootImages) -> Images {
    let row = |content: &Option<Content>| {
        content.as_ref().map(|(name, bytes)| ImageRow {
            name: name.clone(),
            size_bytes: bytes.len() as u64,
            blake3: Hash::of(bytes),
        })
    };
    Images { firmware: row(&images.firmware), kernel: row(&images.kernel), initrd: row(&images.initrd) }
}

/// What a recording says of a plugin.
pub(crate) fn plugin_row(name: &str, plugin: &Plugin, bytes: &[u8]) -> PluginRow {
    PluginRow {
        name: name.to_owned(),
        api: plugin.api_version().to_owned(),
        size_bytes: bytes.len() as u64,
        blake3: Hash::of(bytes),
    }
}

/// What a recording says of plugins.
pub(crate) fn plugin_rows(plugins: &BTreeMap<String, Installed>) -> Vec<PluginRow> {
    let row =
        |(name, installed): (&String, &Installed)| plugin_row(name, &installed.plugin, &installed.bytes);
    plugins.iter().map(row).collect()
}

/// The bytes of all of them, in the order of [`hashes`].
fn taken(images: &mut BootImages, plugins: &mut BTreeMap<String, Installed>) -> Vec<Vec<u8>> {
    let images = [&mut images.firmware, &mut images.kernel, &mut images.initrd].into_iter().flatten();
    let images = images.map(|(_, bytes)| std::mem::take(bytes));
    let plugins =
        plugins.values_mut().map(|installed| Rc::unwrap_or_clone(std::mem::take(&mut installed.bytes)));
    images.chain(plugins).collect()
}

/// What a recording of these parts, of which it says this, keeps by its hash.
pub(crate) fn contents_of<'a>(
    manifest: &Manifest,
    parts: &'a Parts,
) -> impl Iterator<Item = (Hash, &'a [u8])> {
    let BootImages { firmware, kernel, initrd } = &parts.images;
    let images = [firmware, kernel, initrd].into_iter().flatten().map(|(_, bytes)| bytes.as_slice());
    let plugins = parts.plugins.values().map(|installed| installed.bytes.as_slice());
    hashes(manifest).into_iter().zip(images.chain(plugins))
}

/// Everything that a recording keeps by its hash: boot images, then plugins.
fn hashes(manifest: &Manifest) -> Vec<Hash> {
    let Images { firmware, kernel, initrd } = &manifest.images;
    let images = [firmware, kernel, initrd].into_iter().flatten().map(|row| row.blake3);
    images.chain(manifest.plugins.iter().map(|row| row.blake3)).collect()
}

/// What a recording says of disks.
pub(crate) fn disk_rows(disks: &BTreeMap<PortKey, HostDisk>) -> Vec<DiskRow> {
    disks.iter().map(|(key, disk)| rebuild::disk_row(key, &disk.facts())).collect()
}

/// How a recording ended.
pub(crate) fn end_row(reason: EndReason, stand: &Stand) -> EndRow {
    let (name, code, has_state) = match reason {
        EndReason::PowerOff { code } => ("power-off", Some(code), true),
        EndReason::Stopped => ("stopped", None, true),
        EndReason::Limit => ("limit", None, true),
        EndReason::Deadlock => ("deadlock", None, true),
        EndReason::PluginFault => ("plugin-fault", None, false),
        EndReason::ResetFailed => ("reset-failed", None, false),
    };
    EndRow {
        reason: name.to_owned(),
        code,
        icount: stand.status.icount,
        vtime_ns: stand.status.vtime_ns,
        digest: has_state.then_some(Hash(stand.digest)),
    }
}
