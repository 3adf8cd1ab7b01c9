//! `reprise run`: build the machine, let it go, say how it ended.

use crate::{
    args::RunArgs,
    disk::HostDisk,
    failure::{Exit, Failure, printable},
    io::{EndReason, HostOutside, IoThread, mips},
    plugins::Plugins,
    setup::{self, BootFiles, PortKey},
};
use reprise_machine::{
    Disk, Gate, LogLevel, Machine, Setup, Status, Stop,
    board::{Board, CatalogError},
    plugin::Plugin,
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

/// Shells say 128 + N of what signal N ended.
const SIGNAL_BASE: u8 = 128;

/// Run the machine of this command line. Returns the exit code.
pub(crate) fn run(args: &RunArgs, catalog: &Plugins) -> Result<u8, Failure> {
    setup::check_engine(&args.engine)?;
    let board = setup::board_of(args, catalog)?;
    let files = BootFiles::from_args(args)?;
    let ended = run_board(args, catalog, board, files)?;
    say(&ended.words);
    Ok(ended.code)
}

/// Tell the user. A terminal that is gone is no reason to fail.
pub(crate) fn say(words: &str) {
    drop(std::io::stderr().write_all(words.as_bytes()));
}

/// How a run ended.
pub(crate) struct Ended {
    pub(crate) code: u8,
    /// For the user; may be empty.
    pub(crate) words: String,
    pub(crate) status: Status,
    pub(crate) host_time: Duration,
}

/// Run a resolved board.
pub(crate) fn run_board(
    args: &RunArgs,
    catalog: &Plugins,
    board: Board,
    files: BootFiles,
) -> Result<Ended, Failure> {
    let clock = setup::fixed_clock(&args.rtc)?;
    let plans = setup::ports(&board, &args.port)?;
    let specs = setup::disk_specs(&board, args)?;
    let seed = setup::seed(&board, args.seed.as_deref())?;
    let mut summary = args.summary.as_deref().map(|path| setup::create(path, "summary")).transpose()?;
    let plugins = load_plugins(&board, catalog)?;
    let boot = files.source(&board, &seed)?;
    let disks = setup::open_disks(&board, &specs, args.scratch_disk)?;
    let io = IoThread::start(&plans, args.status)?;
    let level = log_level(args.verbose);
    let outside = Box::new(HostOutside::new(io.link().clone(), level, clock));
    let boxed = |(key, disk): (&PortKey, &HostDisk)| (key.clone(), Box::new(disk.clone()) as Box<dyn Disk>);
    let setup = Setup {
        board,
        plugins,
        boot,
        disks: disks.iter().map(boxed).collect(),
        outside,
        gate: Gate::live(seed),
        digest_every: None,
        icount_limit: args.icount_limit,
        chaos_seed: args.chaos_seed,
    };
    let mut machine = Machine::new(setup).map_err(|error| Failure::config(error.to_string()))?;
    io.link().attach(machine.stop_handle());

    let started = Instant::now();
    let stop = machine.run();
    let host_time = started.elapsed();
    let status = machine.status();
    let end = End::of(stop, io.link().end_reason());
    let digest = summary.is_some().then(|| machine.digest());
    drop(machine);
    // Everything that the guest said is out, and the terminal as it was, before we speak.
    drop(io);
    // What the guest wrote comes first: whatever fails after it, it is on the disk.
    let committed = commit(&disks, &end);
    if let (Some(file), Some(digest)) = (&mut summary, digest) {
        write_summary(file, args.summary.as_deref(), &end, status, host_time, &digest)?;
    }
    let words = end.words() + &committed?;
    match end.failure() {
        Some(failure) => Err(failure),
        None => Ok(Ended { code: end.code(), words, status, host_time }),
    }
}

fn load_plugins(board: &Board, catalog: &Plugins) -> Result<BTreeMap<String, Plugin>, Failure> {
    let load = |name: &str| {
        let plugin = catalog.load(name).map_err(|error| plugin_failure(name, &error))?;
        Ok((name.to_owned(), plugin))
    };
    setup::plugin_names(board).into_iter().map(load).collect()
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

fn log_level(verbose: u8) -> LogLevel {
    match verbose {
        0 => LogLevel::Warn,
        1 => LogLevel::Info,
        _ => LogLevel::Debug,
    }
}

/// What the machine's stop means, together with what the host wanted.
enum End {
    Machine(Stop),
    Host(EndReason),
}

impl End {
    fn of(stop: Stop, reason: Option<EndReason>) -> Self {
        match (stop, reason) {
            (Stop::Requested, Some(reason)) => Self::Host(reason),
            // What the machine did by itself counts, also if somebody asked at the same moment.
            (stop, _) => Self::Machine(stop),
        }
    }

    /// For programs.
    fn name(&self) -> &'static str {
        match self {
            Self::Machine(Stop::PowerOff { .. }) => "power-off",
            Self::Machine(Stop::Limit) => "limit",
            Self::Machine(Stop::Requested) | Self::Host(EndReason::Keys) => "requested",
            Self::Machine(Stop::Deadlock) => "deadlock",
            Self::Machine(Stop::PluginFault(_)) => "plugin-fault",
            Self::Machine(Stop::ResetFailed(_)) => "reset-failed",
            Self::Machine(Stop::Until) => "until",
            Self::Machine(Stop::ReplayEnded(_)) => "end-of-log",
            Self::Machine(Stop::OutOfRecords(_)) => "torn-log",
            Self::Machine(Stop::Diverged) => "diverged",
            Self::Machine(Stop::LogFailed | Stop::BadRecord(_)) => "log-failed",
            Self::Machine(Stop::DiskFailed(_)) => "disk-failed",
            Self::Host(EndReason::Signal(_)) => "signal",
            Self::Host(EndReason::Output { .. }) => "output-failed",
        }
    }

    /// The guest decided.
    fn is_clean(&self) -> bool {
        match self {
            Self::Machine(
                Stop::PowerOff { .. }
                | Stop::Limit
                | Stop::Requested
                | Stop::Deadlock
                | Stop::Until
                | Stop::ReplayEnded(_)
                | Stop::OutOfRecords(_),
            )
            | Self::Host(EndReason::Keys | EndReason::Signal(_)) => true,
            Self::Machine(
                Stop::PluginFault(_)
                | Stop::ResetFailed(_)
                | Stop::Diverged
                | Stop::LogFailed
                | Stop::DiskFailed(_)
                | Stop::BadRecord(_),
            )
            | Self::Host(EndReason::Output { .. }) => false,
        }
    }

    fn code(&self) -> u8 {
        match self {
            // A process has 8 bits for what the finisher gives 16.
            Self::Machine(Stop::PowerOff { code }) => u8::try_from(*code).unwrap_or(u8::MAX),
            Self::Machine(
                Stop::Limit
                | Stop::Requested
                | Stop::Deadlock
                | Stop::Until
                | Stop::ReplayEnded(_)
                | Stop::OutOfRecords(_),
            )
            | Self::Host(EndReason::Keys) => 0,
            Self::Machine(Stop::Diverged) => Exit::Diverged as u8,
            Self::Machine(Stop::LogFailed | Stop::BadRecord(_)) => Exit::Corrupt as u8,
            Self::Machine(Stop::DiskFailed(_)) => Exit::Io as u8,
            Self::Machine(Stop::PluginFault(_)) => Exit::Plugin as u8,
            Self::Machine(Stop::ResetFailed(_)) | Self::Host(EndReason::Output { .. }) => Exit::Io as u8,
            Self::Host(EndReason::Signal(number)) => {
                u8::try_from(*number).map_or(u8::MAX, |n| SIGNAL_BASE + n)
            }
        }
    }

    /// What the summary says of the exit: the guest's own code is not cut to 8 bits.
    fn full_code(&self) -> u32 {
        match self {
            Self::Machine(Stop::PowerOff { code }) => *code,
            _ => self.code().into(),
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Machine(Stop::Deadlock) => {
                "reprise: the guest waits for an interrupt that nothing can raise any more; ended\n".into()
            }
            _ => String::new(),
        }
    }

    fn failure(&self) -> Option<Failure> {
        match self {
            Self::Machine(Stop::PluginFault(fault)) => Some(
                Failure::new(
                    Exit::Plugin,
                    format!("device \"{}\" failed in {}", fault.device, fault.callback),
                )
                .note(printable(&fault.message))
                .help("this is a bug of the plugin; the guest cannot cause it in a correct one"),
            ),
            Self::Machine(Stop::ResetFailed(why)) => Some(
                Failure::new(Exit::Io, "the guest asked for a reset, and it cannot be done")
                    .note(why.clone()),
            ),
            Self::Host(EndReason::Output { what, why }) => {
                Some(Failure::new(Exit::Io, format!("cannot write to {what}")).note(why.clone()))
            }
            Self::Machine(_) | Self::Host(_) => None,
        }
    }
}

fn write_summary(
    file: &mut File,
    path: Option<&Path>,
    end: &End,
    status: Status,
    host_time: Duration,
    digest: &[u8; 32],
) -> Result<(), Failure> {
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let summary = json!({
        "exit": end.full_code(),
        "reason": end.name(),
        "icount": status.icount,
        "instret": status.instret,
        "vtime_ns": status.vtime_ns,
        "digest": digest,
        "host_seconds": host_time.as_secs_f64(),
        "mips": mips(status.icount, host_time),
    });
    let path = path.unwrap_or(Path::new("")).display();
    writeln!(file, "{summary}").map_err(|error| Failure::io("cannot write the summary", &error).at(path))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        let code = |stop, reason| End::of(stop, reason).code();
        assert_eq!(code(Stop::PowerOff { code: 42 }, None), 42);
        assert_eq!(code(Stop::PowerOff { code: 256 }, None), 255, "never a good end by accident");
        assert_eq!(code(Stop::PowerOff { code: 1 }, Some(EndReason::Keys)), 1);
        assert_eq!(code(Stop::Requested, Some(EndReason::Signal(15))), 143);
        assert_eq!(code(Stop::Requested, Some(EndReason::Keys)), 0);
        assert_eq!(code(Stop::Limit, None), 0);
        assert_eq!(code(Stop::ResetFailed(String::new()), None), 6);
    }
}
