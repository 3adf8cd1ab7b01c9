//! `--from SNAPSHOT`: a run that begins where a snapshot was taken. The snapshot says what the machine is.

use crate::{
    args::RunArgs,
    disk::HostDisk,
    ending::Summary,
    failure::Failure,
    foreign::OtherBuilds,
    origin::{Choices, Found, Origin},
    plugins::Plugins,
    rebuild::{self, Start},
    recording::{self, ParentRow, moved_disks},
    run::Parts,
    setup,
    snapshots::{Facts, Store},
};
use reprise_machine::Snapshot;
use std::path::{Path, PathBuf};

/// A snapshot that was loaded, and where from.
pub(crate) struct Taken {
    path: PathBuf,
    store: Store,
    facts: Facts,
    snapshot: Snapshot,
}

/// The snapshot of `--from`, if there is one.
///
/// # Errors
/// It cannot be loaded, or the command line says what only the snapshot can say.
pub(crate) fn snapshot_of(args: &RunArgs) -> Result<Option<Taken>, Failure> {
    let plugins = &args.plugins;
    let Some(path) = &args.from else {
        let given = [
            ("--plugin", !plugins.plugin.is_empty()),
            ("--other-plugins", plugins.other_plugins),
            ("--trust-plugins", plugins.trust_plugins),
        ];
        return match given.into_iter().find(|(_, given)| *given) {
            None => Ok(None),
            Some((option, _)) => Err(Failure::usage("this is for machines that were kept")
                .at(option)
                .help("a run has the plugins that are installed: --plugin-path DIR; or begin with --from")),
        };
    };
    refuse(args)?;
    let (store, facts, snapshot) = load(path)?;
    Ok(Some(Taken { path: path.clone(), store, facts, snapshot }))
}

/// A snapshot by its path, `FOLDER/NAME` or the file's.
pub(crate) fn load(path: &Path) -> Result<(Store, Facts, Snapshot), Failure> {
    let no_name =
        || Failure::usage("this is not where a snapshot is").at(path.display()).help("write FOLDER/NAME");
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(no_name)?;
    let name = name.strip_suffix(".snap").unwrap_or(name);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut store = Store::open(folder.unwrap_or(Path::new(".")))?;
    let (facts, snapshot) = store.load(name)?;
    Ok((store, facts, snapshot))
}

/// What would be another machine, or another run.
fn refuse(args: &RunArgs) -> Result<(), Failure> {
    let RunArgs { machine, firmware, kernel, initrd, drive, device, seed, scratch_disk, .. } = args;
    let given = [
        ("a board", machine.board.is_some()),
        ("-m", machine.memory.is_some()),
        ("--smp", machine.smp.is_some()),
        ("--append", machine.append.is_some()),
        ("--set", !machine.set.is_empty()),
        ("--machine", machine.machine.is_some()),
        ("--firmware", firmware.is_some()),
        ("--kernel", kernel.is_some()),
        ("--initrd", initrd.is_some()),
        ("--drive", !drive.is_empty()),
        ("--device", !device.is_empty()),
        ("--seed", seed.is_some()),
        ("--scratch-disk", *scratch_disk),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((option, _)) => {
            Err(Failure::usage(format!("with --from the snapshot says what the machine is, not {option}"))
                .help("where the image of a disk is now: --disk ID=FILE")
                .help("leave it out, or run from power-on without --from"))
        }
    }
}

impl Taken {
    /// What the run is made of, opened and checked. `watched`: it is recorded.
    pub(crate) fn parts(self, args: &RunArgs, catalog: &Plugins, watched: bool) -> Result<Parts, Failure> {
        let Self { path, store, facts, snapshot } = self;
        let moved = moved_disks(&args.disk, &facts.disks, "snapshot")?;
        let (rows, disk_rows) = (facts.plugins.clone(), facts.disks.clone());
        let run = facts.recording.clone();
        let origin = Origin::saved(path.clone(), store, facts);
        let choices = Choices::of(&args.plugins)?;
        let Found { board, plugins, files } = origin.find(&choices, catalog)?;
        let names = rows.iter().filter(|row| plugins.get(&row.name).is_some_and(|p| p.hash() != row.blake3));
        let others: Vec<String> = names.map(|row| row.name.clone()).collect();
        // Only what somebody has named can be here beside the one that was saved.
        let recorded = match others.is_empty() {
            true => None,
            false => origin.find(&choices.as_recorded(), catalog).ok().map(|found| found.board),
        };
        let others = OtherBuilds { plugins: others, recorded, at: path.clone() };
        let start = Start::at(&board, snapshot);
        // A log that begins there has to say what it depends on.
        let start = start.and_then(|start| if watched { start.as_beginning() } else { Ok(start) });
        let start = start.map_err(|error| rebuild::unusable(&error).at(path.display()))?;
        let watchers = args.observe.find(catalog)?;
        let clock_ns = setup::fixed_clock(&args.rtc)?;
        let plans = setup::ports(&board, &args.port, &args.net, catalog)?;
        let summary = Summary::create(args.summary.as_deref())?;
        let images = files.read()?;
        let seed = start.stand.seed;
        let boot = files.clone().source(&board, &seed, &images)?;
        let disks = disk_rows.iter().map(|row| {
            rebuild::check_place(row, &board, &path)?;
            let facts = recording::facts(row, moved.get(&row.device))?;
            let disk = HostDisk::resumed(&facts, watched).map_err(|failure| {
                failure.help(format!("if the image is elsewhere now: --disk {}=FILE", row.device))
            })?;
            Ok(((row.device.clone(), row.port.clone()), disk))
        });
        let disks = disks.collect::<Result<_, Failure>>()?;
        let parent =
            run.map(|run| ParentRow { run_id: run.run_id, icount: start.icount, vtime_ns: start.vtime_ns });
        let start = Some(start);
        Ok(Parts {
            watchers,
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
            start,
            others,
            parent,
        })
    }
}
