//! The host process: the only place that opens files and sockets, spawns threads, prints, and reads the environment
//! (besides the socket loop of `host/net`). What it finds out goes to the machine as values.
//!
//! `docs/cli.md` describes the commands; [`main`] runs one.

#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this crate is the outside: clocks, files, sockets, threads and the terminal are its business"
)]

mod args;
mod ask;
mod board;
mod check;
mod control;
mod demo;
mod device_page;
mod diff;
mod disk;
mod durable;
mod ending;
mod failure;
mod flight;
mod foreign;
mod from;
mod inspect;
mod io;
mod network;
mod new;
mod observe;
mod options;
mod origin;
mod place;
mod plugins;
mod progress;
mod rebuild;
mod record;
mod recording;
mod reload;
mod replay;
mod report;
mod run;
mod setup;
mod shelf;
mod snapshots;
mod state_diff;
mod tape;
mod terminal;
mod timeline;
mod trail;
mod trim;
mod unplugged;
mod verify;

use args::{Action, Cli, ErrorFormat};
use failure::Failure;
use std::process::ExitCode;

/// A bug of ours. As in `sysexits.h`.
const INTERNAL_ERROR: u8 = 70;

/// Run the command of this process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    terminal::install_panic_hook();
    // The hook has said what happened.
    std::panic::catch_unwind(command).unwrap_or(ExitCode::from(INTERNAL_ERROR))
}

fn command() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    let format = args::error_format(&words);
    let result = match args::parse(words) {
        Ok(cli) => dispatch(cli),
        Err(args::Refused::Answer(text)) => {
            // To a pipe that nobody reads any more there is nothing to say.
            drop(std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()));
            Ok(0)
        }
        Err(args::Refused::Mistake(failure)) => Err(failure),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => report(&failure, format),
    }
}

fn dispatch(cli: Cli) -> Result<u8, Failure> {
    let catalog = plugins::Plugins::new(&cli.plugin_path);
    match cli.action {
        Action::Run(args) => run::run(&args, &catalog),
        Action::Record(args) => record::record(&args, &catalog),
        Action::Replay(args) => replay::replay(&args, &catalog),
        Action::Verify(args) => verify::verify(&args, &catalog),
        Action::Ask(args) => ask::ask(&args, &catalog),
        Action::Diff(args) => diff::diff(&args, &catalog),
        Action::Demo(args) => demo::demo(&args, &catalog),
        Action::Info(args) => args.run(),
        Action::Log(args) => args.run(),
        Action::Pack(args) => args.run(),
        Action::Unpack(args) => args.run(),
        Action::Snapshot(args) => args.run(),
        Action::Trim(args) => trim::trim(&args, &catalog),
        Action::Ps(args) => args.run(),
        Action::Status(args) => args.run(),
        Action::Flight(args) => args.run(),
        Action::Stop(args) => args.run("stop"),
        Action::Cont(args) => args.run("cont"),
        Action::Monitor(args) => args.run(),
        Action::Machine(args) => inspect::machine(&args, &catalog),
        Action::Plugin(args) => inspect::plugin(&args, &catalog, &cli.plugin_path),
    }
}

fn report(failure: &Failure, format: ErrorFormat) -> ExitCode {
    let text = match format {
        ErrorFormat::Text => failure.to_string(),
        ErrorFormat::Json => format!("{}\n", failure.to_json()),
    };
    drop(std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()));
    ExitCode::from(failure.exit as u8)
}
