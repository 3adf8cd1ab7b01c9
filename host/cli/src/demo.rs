//! `reprise demo`: our own guest on the embedded `virt`, with a scratch disk: recorded, replayed, verified, explained.

use crate::{
    args::{DemoArgs, Interval, RecordArgs, RecordingArgs, RunArgs, TrailArgs},
    board,
    ending::{Stand, hex},
    failure::Failure,
    io::{counted, grouped},
    plugins::Plugins,
    rebuild::Replica,
    record,
    replay::Replay,
    run::{self, Ended},
    setup::{self, BootFiles},
    tape::Passed,
    unplugged::Show,
};
use reprise_machine::{LogLevel, Stop};
use std::path::{Path, PathBuf};

/// `tests/guests/demo`, built; a test there checks that the source still builds to these bytes.
const GUEST: &[u8] = include_bytes!("../assets/demo.elf");
/// Close together: the demonstration is short.
const DIGEST_EVERY: u64 = 100_000;
/// Any number: where the disturbed replay is stopped must not matter.
const CHAOS_SEED: u64 = 1;

/// Run the demonstration. Returns the guest's exit code: the number of its checks that failed.
pub(crate) fn demo(args: &DemoArgs, catalog: &Plugins) -> Result<u8, Failure> {
    let place = Place::of(args.keep.as_deref());
    let record_args = RecordArgs {
        output: place.path.clone(),
        force: false,
        digest_every: Interval(Some(DIGEST_EVERY)),
        trail: TrailArgs::default(),
        run: RunArgs {
            summary: args.summary.clone(),
            rtc: "host".into(),
            scratch_disk: true,
            control: Some("none".into()),
            ..RunArgs::default()
        },
    };
    let board = board::load(&record_args.run.machine, catalog)?;
    let plugins: Vec<&str> = setup::plugin_names(&board).into_iter().collect();
    run::say(&introduction(&board.machine.name, board.devices.len(), &plugins));
    let files = BootFiles::embedded("the embedded demo guest", GUEST);
    let ended = record::record_board(&record_args, catalog, board, files)?;
    if ended.interrupted {
        return Ok(ended.code);
    }
    run::say(&recorded(&ended));
    for chaos_seed in [None, Some(CHAOS_SEED)] {
        match replayed(&place.path, chaos_seed, catalog)? {
            Ok((stand, passed)) => run::say(&verified(&stand, &passed, chaos_seed.is_some())),
            Err(interrupted) => return Ok(interrupted),
        }
    }
    run::say(&place.farewell());
    Ok(ended.code)
}

/// Where the recording lies.
struct Place {
    path: PathBuf,
    keep: bool,
}

impl Place {
    fn of(keep: Option<&Path>) -> Self {
        let temporary = || std::env::temp_dir().join(format!("reprise-demo-{}.rec", std::process::id()));
        Self { path: keep.map_or_else(temporary, Path::to_owned), keep: keep.is_some() }
    }

    fn farewell(&self) -> String {
        let record = "reprise: to record Linux: reprise record -o linux.rec --kernel Image --initrd initramfs.cpio \
                      --append console=ttyS0\n";
        match self.keep {
            true => {
                format!("reprise: to see the recording: reprise replay {}\n{record}", self.path.display())
            }
            false => record.to_owned(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.keep {
            // It may not be there: nothing was recorded.
            drop(std::fs::remove_dir_all(&self.path));
        }
    }
}

/// Replay the recording and compare everything; the exit code if the user has seen enough.
fn replayed(
    path: &Path,
    chaos_seed: Option<u64>,
    catalog: &Plugins,
) -> Result<Result<(Stand, Passed), u8>, Failure> {
    let args = RecordingArgs { recording: path.to_owned(), chaos_seed, ..RecordingArgs::default() };
    let replica = Replica::open(&args, catalog)?;
    let show = Show { port: None, level: Some(LogLevel::Warn) };
    let mut replay = Replay::start(&replica, &args, show, None)?;
    let stop = replay.run();
    if let Some(failure) = replay.failure(&stop, true) {
        return Err(failure);
    }
    Ok(match stop {
        Stop::Requested => Err(replay.end(stop).code()),
        _ => Ok((replay.stand(), replay.counter.passed())),
    })
}

fn introduction(machine: &str, devices: usize, plugins: &[&str]) -> String {
    format!(
        "reprise: running our own guest on the embedded board `{machine}`: {devices} devices, each a plugin that was\n\
         reprise: loaded just now ({}).\n\
         reprise: It reads the device tree, tries what it finds, uses a scratch disk, and powers off.\n\n",
        plugins.join(", ")
    )
}

fn recorded(ended: &Ended) -> String {
    format!(
        "\nreprise: recorded: the guest ended with code {}, after {} instructions and {:.3} s of virtual time,\n\
         reprise: {:.2} s of host time. The log has {} bytes: what came from outside (it read the host's clock), and\n\
         reprise: digests of the whole state to compare with.\n",
        ended.code,
        grouped(ended.status.icount),
        ended.status.vtime_ns as f64 / 1e9,
        ended.host_time.as_secs_f64(),
        grouped(ended.log_bytes),
    )
}

fn verified(stand: &Stand, passed: &Passed, disturbed: bool) -> String {
    let how = match disturbed {
        false => "replayed and verified",
        true => "once more, stopped and robbed of its caches at random instructions",
    };
    format!(
        "reprise: {how}: identical.\n\
         reprise:   {}, {}, {:.2} s; state at the end {:.16}…\n",
        counted(passed.events, "event"),
        counted(passed.digests, "digest"),
        stand.host_time.as_secs_f64(),
        hex(&stand.digest),
    )
}
