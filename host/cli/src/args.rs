//! The command line.

use crate::{
    check::CheckArgs,
    control::{CallArgs, FlightCommand, MonitorArgs, PsArgs, ReloadArgs, StatusArgs},
    failure::Failure,
    flight,
    new::NewArgs,
    observe::ObserveArgs,
    place::Place,
    recording::{InfoArgs, LogArgs, PackArgs, UnpackArgs},
    timeline::Keeping,
    trail::{Every, Pace},
};
use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
    error::ErrorKind,
};
use reprise_machine::Engine;
use std::{ffi::OsString, path::PathBuf, time::Duration};

/// A deterministic full-system RISC-V emulator: machines are composed in TOML, every device is a plugin.
#[derive(Debug, Parser)]
#[command(name = "reprise", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// Folders (or files) with plugins, before all other places
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) plugin_path: Vec<PathBuf>,
    /// How errors are written to standard error
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub(crate) error_format: ErrorFormat,
    #[command(subcommand)]
    pub(crate) action: Action,
}

/// How errors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ErrorFormat {
    /// For people
    Text,
    /// One JSON object on one line
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Run a machine
    Run(Box<RunArgs>),
    /// Run a machine and record everything that enters it
    Record(Box<RecordArgs>),
    /// Run a recording again, exactly
    Replay(Box<ReplayArgs>),
    /// Replay a recording at full speed and compare it with what was recorded
    Verify(VerifyArgs),
    /// Ask what the machine of a recording was like at a place
    Ask(crate::ask::AskArgs),
    /// Run the embedded demonstration guest on `virt`
    Demo(DemoArgs),
    /// Say what a recording is
    Info(InfoArgs),
    /// List the records of a recording
    Log(LogArgs),
    /// Say how two recordings differ, and where their machines part
    Diff(DiffArgs),
    /// Make one file of a recording that needs nothing else
    Pack(PackArgs),
    /// Make a folder of a packed recording
    Unpack(UnpackArgs),
    /// Make a recording of a part of another one
    Trim(crate::trim::TrimArgs),
    /// List the running machines
    Ps(PsArgs),
    /// Say whether a machine runs, and where it is
    Status(StatusArgs),
    /// List, delete, check and compare snapshots
    Snapshot(crate::snapshots::SnapshotCommand),
    /// Save what the flight recorder of a running machine keeps
    Flight(FlightCommand),
    /// Let a running machine stand still; the guest cannot tell
    Stop(CallArgs),
    /// Let it go on
    Cont(CallArgs),
    /// Give commands to a running machine
    Monitor(MonitorArgs),
    /// Check and show machines
    Machine(MachineCommand),
    /// Show plugins
    Plugin(PluginCommand),
}

/// What a machine is made of.
#[derive(Debug, Default, Args)]
pub(crate) struct MachineArgs {
    /// The board; the embedded `virt` if left out
    #[arg(value_name = "BOARD.toml")]
    pub(crate) board: Option<PathBuf>,
    /// RAM: 512M, 2G; a plain number is MiB [QEMU: -m]
    #[arg(short = 'm', long = "memory", value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// Harts [QEMU: -smp]
    #[arg(long, value_name = "N")]
    pub(crate) smp: Option<String>,
    /// Kernel command line [QEMU: -append]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) append: Option<String>,
    /// Change one value of the board: machine.shift=1, device.uart0.pins.irq=plic.irq.11
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// QEMU's -machine; only `virt`
    #[arg(long, short = 'M', value_name = "NAME", hide = true)]
    pub(crate) machine: Option<String>,
}

/// How instructions are executed. No machine can tell, and no recording says it.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct EngineArgs {
    /// How instructions are executed; default: the fastest engine that this host has
    #[arg(long = "engine", value_name = "ENGINE", value_parser = engine())]
    pub(crate) asked: Option<Engine>,
}

/// The name of an engine.
fn engine() -> impl TypedValueParser<Value = Engine> {
    PossibleValuesParser::new(Engine::ALL.map(Engine::name)).try_map(|name| name.parse::<Engine>())
}

#[derive(Debug, Default, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    /// Firmware: OpenSBI's fw_dynamic.bin, or an ELF file to run bare in M-mode [QEMU: -bios]
    #[arg(long, alias = "bios", value_name = "FILE")]
    pub(crate) firmware: Option<PathBuf>,
    /// Kernel: a Linux Image or an ELF file [QEMU: -kernel]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) kernel: Option<PathBuf>,
    /// Initial RAM disk [QEMU: -initrd]
    #[arg(long, value_name = "FILE")]
    pub(crate) initrd: Option<PathBuf>,
    /// Disk image of a device: ID=FILE[,ro][,commit][,format=raw|qcow2][,backing]
    #[arg(long, value_name = "ID=FILE")]
    pub(crate) disk: Vec<String>,
    /// Disk image as QEMU has it: file=FILE[,id=ID][,format=F][,readonly=on]
    #[arg(long, value_name = "OPTIONS")]
    pub(crate) drive: Vec<String>,
    /// Connect a port: DEVICE[.PORT]=stdio|null|pty|file:P|unix:P|tcp:HOST:PORT
    #[arg(long, value_name = "PORT=BACKEND")]
    pub(crate) port: Vec<String>,
    /// Connect the next network device: user[,hostfwd=tcp::2222-:22,…], unix:P, tcp:HOST:PORT, null [QEMU: -nic]
    #[arg(long, alias = "nic", alias = "netdev", value_name = "NETWORK")]
    pub(crate) net: Vec<String>,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// End after this many instructions (of all harts)
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) icount_limit: Option<u64>,
    /// Write how the run ended to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) summary: Option<PathBuf>,
    /// Status line on standard error: speed, virtual time, instructions
    #[arg(long)]
    pub(crate) status: bool,
    /// Where the run can be controlled: a socket's path, `auto` (PID.sock in the runtime folder, the default) or `none`
    #[arg(long, value_name = "PATH")]
    pub(crate) control: Option<String>,
    /// Where snapshots of the running machine go that are saved by name; default: reprise/snapshots in the state folder
    #[arg(long, value_name = "DIR")]
    pub(crate) snapshots: Option<PathBuf>,
    /// What chance may decide: a number, 64 hex digits, or `random`
    #[arg(long, value_name = "SEED")]
    pub(crate) seed: Option<String>,
    /// What the guest's wall clock shows: `host`, or a fixed number of seconds since 1970
    #[arg(long, value_name = "CLOCK", default_value = "host")]
    pub(crate) rtc: String,
    /// Show more log lines; twice for those that are for authors of devices
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// QEMU's -nographic: there are no graphics
    #[arg(long, hide = true)]
    pub(crate) nographic: bool,
    /// QEMU's -device: says which drive a disk device of the board has
    #[arg(long, hide = true)]
    pub(crate) device: Vec<String>,
    /// Stop, drop caches and, without --engine, change the engine at random instructions: nothing may change
    #[arg(long, value_name = "SEED", hide = true)]
    pub(crate) chaos_seed: Option<u64>,
    /// Give the first disk device without a disk an empty one, for this run
    #[arg(long)]
    pub(crate) scratch_disk: bool,
    /// Keep the last stretch of the run in so much memory, and save it as a recording when the guest fails, by SIGUSR1
    /// or by `reprise flight save`: SIZE[,reach=N][,dir=DIR]
    #[arg(long, value_name = "SIZE", value_parser = flight::Plan::parse)]
    pub(crate) flight_recorder: Option<flight::Plan>,
    /// Begin where this snapshot was taken, with its machine: FOLDER/NAME
    #[arg(long, value_name = "SNAPSHOT")]
    pub(crate) from: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) observe: ObserveArgs,
    #[command(flatten, next_help_heading = "With --from")]
    pub(crate) plugins: PluginArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    /// The recording: a new folder
    #[arg(short, long, value_name = "RUN.rec")]
    pub(crate) output: PathBuf,
    /// Replace a recording that is there
    #[arg(long)]
    pub(crate) force: bool,
    /// Put a digest of the state into the log after so many instructions; off: at the end only
    #[arg(long, value_name = "N", value_parser = interval, default_value_t = Interval::DEFAULT)]
    pub(crate) digest_every: Interval,
    #[command(flatten)]
    pub(crate) trail: TrailArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// The snapshots that are dropped into a recording.
#[derive(Debug, Default, Args)]
pub(crate) struct TrailArgs {
    /// Drop a snapshot into the recording each time after so many milliseconds of host time, or `off`, or after so much
    /// guest time (vtime:10ms); default: one after 3000, then every 350
    #[arg(long, value_name = "MS", value_parser = distance)]
    snapshot_every: Option<Distance>,
    /// What the snapshots may take of the disk: 512M, 2G; default: 1G
    #[arg(long, value_name = "SIZE", value_parser = count)]
    snapshot_disk: Option<u64>,
}

impl TrailArgs {
    /// The usual distance, in milliseconds of host time: a place is reached in as long, on the average in half of it.
    const EVERY_MS: u64 = 350;
    /// What is shorter replays as fast as a snapshot is loaded.
    const FIRST_MS: u64 = 3000;
    /// The usual share of the disk.
    const DISK_BYTES: u64 = 1_000_000_000;

    /// None: no snapshots are wanted.
    pub(crate) fn pace(&self) -> Option<Pace> {
        let host = |first, every| {
            let [first, every] = [first, every].map(Duration::from_millis);
            Every::Host { first, every }
        };
        let every = match self.snapshot_every {
            None => host(Self::FIRST_MS, Self::EVERY_MS),
            Some(Distance::Host(Milliseconds(every))) => host(every?, every?),
            Some(Distance::Guest(every_ns)) => Every::Guest(every_ns),
        };
        let disk_bytes = self.snapshot_disk.unwrap_or(Self::DISK_BYTES);
        Some(Pace { every, disk_bytes })
    }
}

/// A time between two things, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Milliseconds(pub(crate) Option<u64>);

/// How far two snapshots in a recording are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Distance {
    Host(Milliseconds),
    /// In nanoseconds.
    Guest(u64),
}

/// Host time as [`milliseconds`] has it, or guest time: `vtime:10ms`.
fn distance(text: &str) -> Result<Distance, String> {
    if !text.starts_with("vtime:") {
        return milliseconds(text).map(Distance::Host);
    }
    match Place::parse(text)? {
        Place::Vtime(0) => Err("no time is no distance; `off` turns it off".to_owned()),
        Place::Vtime(every_ns) => Ok(Distance::Guest(every_ns)),
        _ => unreachable!("it says that it is a virtual time"),
    }
}

/// A number of milliseconds, or `off`.
pub(crate) fn milliseconds(text: &str) -> Result<Milliseconds, String> {
    match text {
        "off" => Ok(Milliseconds(None)),
        _ => match count(text)? {
            0 => Err("0 ms is no distance; `off` turns it off".to_owned()),
            every => Ok(Milliseconds(Some(every))),
        },
    }
}

/// Which plugins a machine gets that was kept, in a recording or with a snapshot.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct PluginArgs {
    /// Use this file for a plugin of the machine, or for that of a device, whatever is in it
    #[arg(long, value_name = "NAME=FILE.so")]
    pub(crate) plugin: Vec<String>,
    /// Use the installed plugins although they are not those that were kept
    #[arg(long)]
    pub(crate) other_plugins: bool,
    /// Load the plugins that were kept with the machine: this runs code from there
    #[arg(long, conflicts_with = "other_plugins")]
    pub(crate) trust_plugins: bool,
}

/// A recording, and what its machine is made of here.
#[derive(Debug, Default, Args)]
pub(crate) struct RecordingArgs {
    /// The recording: a folder, or a file that `reprise pack` made
    #[arg(value_name = "RUN.rec")]
    pub(crate) recording: PathBuf,
    #[command(flatten)]
    pub(crate) plugins: PluginArgs,
    /// Where the image of a disk is now
    #[arg(long, value_name = "ID=FILE")]
    pub(crate) disk: Vec<String>,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// After a divergence, do not look for the first difference: that replays the recording several times
    #[arg(long)]
    pub(crate) no_search: bool,
    /// Show how far it is, also where standard error is no terminal
    #[arg(long)]
    pub(crate) progress: bool,
    /// Show more log lines; twice for those that are for authors of devices
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Stop, drop caches and, without --engine, change the engine at random instructions: nothing may change
    #[arg(long, value_name = "SEED", hide = true)]
    pub(crate) chaos_seed: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(crate) recording: RecordingArgs,
    /// Begin there, as if only then somebody had begun to look: the same places as for --until
    #[arg(long, value_name = "POS", value_parser = Place::parse, conflicts_with = "rerecord")]
    pub(crate) at: Option<Place>,
    /// Stop there: icount:N, vtime:1.5s, 50%, event:N, line:N, end
    #[arg(long, value_name = "POS", value_parser = Place::parse)]
    pub(crate) until: Option<Place>,
    /// Connect the machine there (default: at the end of the log) and let it go on, as a new recording
    #[arg(long, requires = "output")]
    pub(crate) live: bool,
    /// The recording of `--live`: a new folder
    #[arg(short, long, value_name = "NEW.rec", requires = "live")]
    pub(crate) output: Option<PathBuf>,
    /// Record the replay again: the same log in a new folder
    #[arg(long, value_name = "NEW.rec", conflicts_with = "live")]
    pub(crate) rerecord: Option<PathBuf>,
    /// Replace a recording that is there
    #[arg(long)]
    pub(crate) force: bool,
    /// With --live: connect a port, instead of what the board says, as for `run`
    #[arg(long, value_name = "PORT=BACKEND", requires = "live")]
    pub(crate) port: Vec<String>,
    /// With --live: connect the next network device, as for `run`
    #[arg(long, value_name = "NETWORK", requires = "live")]
    pub(crate) net: Vec<String>,
    /// With --live: as for `record`
    #[arg(long, value_name = "N", value_parser = interval, default_value_t = Interval::DEFAULT)]
    pub(crate) digest_every: Interval,
    /// With --live: end after this many instructions (of all harts), those before it included
    #[arg(long, value_name = "N", value_parser = count, requires = "live")]
    pub(crate) icount_limit: Option<u64>,
    /// With --live: what the guest's wall clock shows, as for `run`
    #[arg(long, value_name = "CLOCK", default_value = "host")]
    pub(crate) rtc: String,
    /// With --live: status line on standard error
    #[arg(long, requires = "live")]
    pub(crate) status: bool,
    /// Where the replay can be controlled: a socket's path, `auto` (PID.sock in the runtime folder) or `none`, which
    /// is the default without --live
    #[arg(long, value_name = "PATH")]
    pub(crate) control: Option<String>,
    /// Where snapshots of the running machine go that are saved by name; default: reprise/snapshots in the state folder
    #[arg(long, value_name = "DIR")]
    pub(crate) snapshots: Option<PathBuf>,
    /// Stand still at the beginning, until a command of the control socket [QEMU: -S]
    #[arg(long)]
    pub(crate) paused: bool,
    #[command(flatten)]
    pub(crate) keeping: KeepingArgs,
    #[command(flatten)]
    pub(crate) observe: ObserveArgs,
    /// Show the output of this port instead of the one that had the terminal
    #[arg(long, value_name = "DEVICE[.PORT]")]
    pub(crate) show: Option<String>,
    /// Write how the replay ended to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) summary: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) recording: RecordingArgs,
    #[command(flatten)]
    pub(crate) observe: ObserveArgs,
    /// For programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// Snapshots that a replay keeps in memory, to go back to.
#[derive(Debug, Args)]
pub(crate) struct KeepingArgs {
    /// Keep a snapshot in memory after so many milliseconds, to go to other places fast; off: only at the beginning
    #[arg(long, value_name = "MS|off", value_parser = milliseconds, default_value = "250")]
    snapshot_every: Milliseconds,
    /// Memory that these snapshots may take; what they share with each other counts once
    #[arg(long, value_name = "SIZE", value_parser = size_bytes, default_value = "1G")]
    snapshot_memory: usize,
}

impl KeepingArgs {
    pub(crate) fn keeping(&self) -> Keeping {
        Keeping {
            every: self.snapshot_every.0.map(Duration::from_millis),
            memory_bytes: self.snapshot_memory,
        }
    }
}

/// What is said of plugins and disks holds for both recordings, as far as they have them.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// A recording: a folder, or a file that `reprise pack` made
    #[arg(value_name = "A.rec")]
    pub(crate) a: PathBuf,
    /// The other one
    #[arg(value_name = "B.rec")]
    pub(crate) b: PathBuf,
    #[command(flatten)]
    pub(crate) plugins: PluginArgs,
    /// Where the image of a disk is now
    #[arg(long, value_name = "ID=FILE")]
    pub(crate) disk: Vec<String>,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// Compare manifests and logs only: looking for where the machines part replays both several times
    #[arg(long)]
    pub(crate) no_search: bool,
    /// For programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// Instructions between two digests, or none but the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval(pub(crate) Option<u64>);

impl Interval {
    /// A digest costs what the guest has written since the one before: some 10 ms where a kernel boots. At this
    /// distance that is less than a twentieth of the time, and a difference is found within two seconds of replay.
    pub(crate) const DEFAULT: Self = Self(Some(250_000_000));
}

impl std::fmt::Display for Interval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            None => f.write_str("off"),
            Some(every) if every.is_multiple_of(1_000_000) => write!(f, "{}M", every / 1_000_000),
            Some(every) => write!(f, "{every}"),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Write how the run ended to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) summary: Option<PathBuf>,
    /// Keep the recording in this folder, which must not exist
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct MachineCommand {
    #[command(subcommand)]
    pub(crate) action: MachineAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MachineAction {
    /// Check a board; says everything that is wrong with it
    Check(ShowArgs),
    /// Print a board with every default written out
    Print(ShowArgs),
    /// Write the device tree (DTB) to standard output or a file
    Dtb {
        #[command(flatten)]
        show: ShowArgs,
        /// Where to write it
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Print the JSON Schema of boards, for editors
    Schema(ShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    /// For programs
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PluginCommand {
    #[command(subcommand)]
    pub(crate) action: PluginAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PluginAction {
    /// Make a crate with a small device that works, to be changed into another
    New(NewArgs),
    /// Find out whether a plugin's devices are deterministic, and what in them is not
    Check(CheckArgs),
    /// A test process of `check`
    #[command(hide = true)]
    CheckPart,
    /// List the plugins that can be found
    List {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Describe a plugin, or all: regions, pins, ports, options, state
    Describe(DescribeArgs),
    /// Say whether a new build of a plugin reads the snapshots of an old one; exit code 4 if not
    StateDiff(StateDiffArgs),
    /// Let a running machine go on with another build of a device's plugin; the guest cannot tell
    Reload(ReloadArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    /// Name of a plugin or of one of its kinds, or a file
    pub(crate) kind: Option<String>,
    /// For programs
    #[arg(long)]
    pub(crate) json: bool,
    /// As a page of a manual
    #[arg(long, conflicts_with = "json")]
    pub(crate) markdown: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StateDiffArgs {
    /// What saved: a plugin's file, or a .json file with what `describe --json` printed
    pub(crate) old: PathBuf,
    /// What is to load, likewise
    pub(crate) new: PathBuf,
    /// For programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// Why there is no command to run.
pub(crate) enum Refused {
    /// `--help`, `--version`: the answer.
    Answer(String),
    /// A mistake.
    Mistake(Failure),
}

/// QEMU's long options with one dash, and whether a value follows.
const QEMU_OPTIONS: [(&str, &str, bool); 12] = [
    ("bios", "--firmware", true),
    ("kernel", "--kernel", true),
    ("initrd", "--initrd", true),
    ("append", "--append", true),
    ("smp", "--smp", true),
    ("drive", "--drive", true),
    ("device", "--device", true),
    ("machine", "--machine", true),
    ("net", "--net", true),
    ("nic", "--net", true),
    ("netdev", "--net", true),
    ("nographic", "--nographic", false),
];

/// Parse a whole command line, program name first.
pub(crate) fn parse(words: Vec<OsString>) -> Result<Cli, Refused> {
    let words = with_two_dashes(words).map_err(Refused::Mistake)?;
    Cli::try_parse_from(words).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Refused::Answer(error.to_string()),
        _ => Refused::Mistake(told(&error)),
    })
}

/// Clap's words in our form.
fn told(error: &clap::Error) -> Failure {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Failure::usage("a command is missing")
            .help("commands: run, record, replay, verify, ask, info, log, diff, pack, unpack, trim, demo")
            .help("for those that run: ps, status, stop, cont, monitor, flight; for what was kept: snapshot")
            .help("and: machine check|print|dtb|schema, plugin new|check|list|describe|state-diff")
            .help("`reprise --help` tells more");
    }
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let what = lines.next().unwrap_or_default();
    let mut failure = Failure::usage(what.strip_prefix("error: ").unwrap_or(what));
    for line in lines {
        failure = match line.strip_prefix("tip: ") {
            Some(tip) => failure.help(tip),
            None if line.starts_with("For more information") => failure.help("`--help` tells more"),
            None => failure.note(line),
        };
    }
    failure
}

/// QEMU's `-kernel F` as `--kernel F`. A value is never taken for an option, nor anything after `--`.
fn with_two_dashes(words: Vec<OsString>) -> Result<Vec<OsString>, Failure> {
    let mut out = Vec::with_capacity(words.len());
    let mut words = words.into_iter();
    out.extend(words.next());
    while let Some(word) = words.next() {
        let Some(name) = word.to_str().and_then(|word| word.strip_prefix('-')) else {
            out.push(word);
            continue;
        };
        if name == "-" {
            out.push(word);
            out.extend(words.by_ref());
            break;
        }
        if let Some((_, ours, has_value)) = QEMU_OPTIONS.iter().find(|(option, ..)| *option == name) {
            push_option(&mut out, ours, has_value.then(|| words.next()).flatten());
            continue;
        }
        if let Some(ours) = name.strip_prefix('-').filter(|name| takes_free_text(name)) {
            push_option(&mut out, &format!("--{ours}"), words.next());
            continue;
        }
        if is_unknown_qemu_option(name) {
            let known: Vec<String> = QEMU_OPTIONS.iter().map(|(name, ..)| format!("-{name}")).collect();
            return Err(Failure::usage(format!("no option \"-{name}\""))
                .note(format!("QEMU's options that exist here: -m {}", known.join(" ")))
                .help("`reprise run --help` lists ours"));
        }
        out.push(word);
    }
    Ok(out)
}

/// One word, so that clap cannot take a value with a dash for an option.
fn push_option(out: &mut Vec<OsString>, option: &str, value: Option<OsString>) {
    let mut word = OsString::from(option);
    if let Some(value) = value {
        word.push("=");
        word.push(value);
    }
    out.push(word);
}

fn takes_free_text(name: &str) -> bool {
    name == "append"
}

/// Three letters and more after one dash: `-m512M` and `-vv` are ours.
fn is_unknown_qemu_option(name: &str) -> bool {
    let letters = name.chars().take_while(char::is_ascii_alphabetic).count();
    let ours = ["m", "k", "M", "o"].iter().any(|short| name.starts_with(short)) && letters < 2;
    letters > 2 && !name.starts_with('-') && !ours && !name.chars().all(|c| c == 'v')
}

/// How errors are wanted, also of a command line that does not parse.
pub(crate) fn error_format(words: &[OsString]) -> ErrorFormat {
    let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
    let json = words.contains(&"--error-format=json")
        || words.windows(2).any(|pair| pair == ["--error-format", "json"]);
    if json { ErrorFormat::Json } else { ErrorFormat::Text }
}

/// The value of `--digest-every`.
fn interval(text: &str) -> Result<Interval, String> {
    if text == "off" {
        return Ok(Interval(None));
    }
    match count(text)? {
        0 => Err("0 is no distance; `off` leaves digests out but for the last".to_owned()),
        every => Ok(Interval(Some(every))),
    }
}

/// A size as QEMU writes it: 512M, 2G.
pub(crate) fn size_bytes(text: &str) -> Result<usize, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'M') => (&text[..text.len() - 1], 20),
        Some(b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number = digits.parse::<usize>().map_err(|_| "write a size: 512M, 2G".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "more than there can be".to_owned())
}

/// A count of instructions: digits, with `_` between them if wanted, and k, M or G behind.
pub(crate) fn count(text: &str) -> Result<u64, String> {
    let (digits, scale) = match text.as_bytes().last() {
        Some(b'k') => (&text[..text.len() - 1], 1_000),
        Some(b'M') => (&text[..text.len() - 1], 1_000_000),
        Some(b'G') => (&text[..text.len() - 1], 1_000_000_000),
        _ => (text, 1),
    };
    let number =
        digits.replace('_', "").parse::<u64>().map_err(|_| "not a number of instructions".to_owned())?;
    number.checked_mul(scale).ok_or_else(|| "more than 2^64".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dashes(line: &str) -> Vec<String> {
        let words = line.split(' ').map(OsString::from).collect();
        with_two_dashes(words).unwrap().into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    fn run(line: &str) -> RunArgs {
        match parse(line.split(' ').map(OsString::from).collect()) {
            Ok(Cli { action: Action::Run(args), .. }) => *args,
            Ok(other) => panic!("{other:?}"),
            Err(Refused::Answer(text)) => panic!("{text}"),
            Err(Refused::Mistake(failure)) => panic!("{failure}"),
        }
    }

    #[test]
    fn qemu_options_get_their_second_dash() {
        assert_eq!(
            dashes("reprise run -kernel K -append -kernel -m 1G"),
            ["reprise", "run", "--kernel=K", "--append=-kernel", "-m", "1G"]
        );
        assert_eq!(
            dashes("reprise run -nographic -- -kernel"),
            ["reprise", "run", "--nographic", "--", "-kernel"]
        );
        assert_eq!(dashes("reprise run --append -x -bios"), ["reprise", "run", "--append=-x", "--firmware"]);
        assert_eq!(dashes("reprise run -m512M -vvv -"), ["reprise", "run", "-m512M", "-vvv", "-"]);
    }

    #[test]
    fn unknown_qemu_options_are_named() {
        let words = ["reprise", "run", "-vga", "none"].map(OsString::from).to_vec();
        let text = with_two_dashes(words).unwrap_err().to_string();
        assert!(text.contains("\"-vga\"") && text.contains("-kernel"), "{text}");
    }

    #[test]
    fn a_qemu_command_line_parses() {
        let args = run(
            "reprise run -M virt -m 256 -smp 4 -nographic -bios none -kernel Image -initrd i.gz -append console=ttyS0 \
             -drive file=d.img,if=none,id=hd0 -device virtio-blk-device,drive=hd0"
                .replace("             ", "")
                .as_str(),
        );
        assert_eq!(args.machine.memory.as_deref(), Some("256"));
        assert_eq!(args.machine.smp.as_deref(), Some("4"));
        assert_eq!(args.firmware, Some("none".into()));
        assert_eq!(args.drive, ["file=d.img,if=none,id=hd0"]);
        assert_eq!(run("reprise run --bios F -k K board.toml").machine.board, Some("board.toml".into()));
    }

    #[test]
    fn counts() {
        assert_eq!(count("1_000"), Ok(1000));
        assert_eq!(count("5M"), Ok(5_000_000));
        assert!(
            count("").is_err()
                && count("k").is_err()
                && count("99999999999G").is_err()
                && count("1é").is_err()
        );
    }

    #[test]
    fn intervals() {
        assert_eq!(interval("off"), Ok(Interval(None)));
        assert_eq!(interval("5M"), Ok(Interval(Some(5_000_000))));
        assert!(interval("0").is_err() && interval("often").is_err());
        for every in [Interval::DEFAULT, Interval(None), Interval(Some(7))] {
            assert_eq!(interval(&every.to_string()), Ok(every));
        }
    }

    #[test]
    fn sizes_and_distances_of_snapshots() {
        assert_eq!(
            (size_bytes("512M"), size_bytes("2G"), size_bytes("7")),
            (Ok(512 << 20), Ok(2 << 30), Ok(7))
        );
        assert!(["", "G", "1T", "-1", "99999999999999G", "1é"].iter().all(|text| size_bytes(text).is_err()));
        assert_eq!(milliseconds("off"), Ok(Milliseconds(None)));
        assert_eq!(milliseconds("40"), Ok(Milliseconds(Some(40))));
        assert_eq!(distance("40"), Ok(Distance::Host(Milliseconds(Some(40)))));
        assert_eq!(distance("vtime:10ms"), Ok(Distance::Guest(10_000_000)));
        assert!(
            distance("vtime:0ns").is_err() && distance("vtime:10").is_err() && distance("icount:3").is_err()
        );
        assert!(["0", "", "x", "-1"].iter().all(|text| milliseconds(text).is_err()));
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
