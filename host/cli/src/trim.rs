//! `reprise trim`: a part of a recording as a recording of its own, which needs nothing of the one it was cut from.

use crate::{
    args::RecordingArgs,
    ending::End,
    failure::Failure,
    place::Place,
    plugins::Plugins,
    rebuild::{Replica, Start, unusable},
    record::Recording,
    replay::{Replay, find},
    run,
    unplugged::Show,
};
use reprise_machine::{Stop, Until, replay::EndReason};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(crate) struct TrimArgs {
    #[command(flatten)]
    recording: RecordingArgs,
    /// The new recording: a new folder
    #[arg(short, long, value_name = "NEW.rec")]
    output: PathBuf,
    /// Where it begins: icount:N, vtime:1.5s, 50%, event:N, line:N
    #[arg(long, value_name = "POS", value_parser = Place::parse)]
    from: Option<Place>,
    /// Where it ends
    #[arg(long, value_name = "POS", value_parser = Place::parse)]
    to: Option<Place>,
    /// Replace a recording that is there
    #[arg(long)]
    force: bool,
}

/// Why there is no cut: a mistake, or the exit code of whoever was interrupted.
enum No {
    Failure(Failure),
    Interrupted(u8),
}

impl From<Failure> for No {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// Cut what the command line says.
pub(crate) fn trim(args: &TrimArgs, catalog: &Plugins) -> Result<u8, Failure> {
    match cut(args, catalog) {
        Ok(words) => {
            run::say(&words);
            Ok(0)
        }
        Err(No::Interrupted(code)) => Ok(code),
        Err(No::Failure(failure)) => Err(failure),
    }
}

/// Returns what there is to say.
fn cut(args: &TrimArgs, catalog: &Plugins) -> Result<String, No> {
    let replica = Replica::open(&args.recording, catalog)?;
    let from = args.from.map(|place| Ok::<_, Failure>((place, find(place, &replica)?))).transpose()?;
    let to = args.to.map(|place| Ok::<_, Failure>((place, find(place, &replica)?))).transpose()?;
    let cut = match from {
        Some((place, until)) => Some(beginning(args, &replica, place, until)?),
        None => None,
    };
    let every = replica.store().manifest().digest_every;
    let start = cut.as_ref().or(replica.start());
    let (mut recording, sink) = Recording::again(&args.output, args.force, &replica, None, every, start)?;
    let made = Replay::again(&replica, &args.recording, sink, cut.clone()).map_err(No::from);
    let made = made.and_then(|mut replay| {
        recording.begin()?;
        if cut.is_some() || replica.start().is_some() {
            recording.branch(replica.store(), replay.machine.status())?;
        }
        let stop = go(&mut replay, to)?;
        Ok((replay, stop))
    });
    let (mut replay, stop) = match made {
        Ok(made) => made,
        Err(no) => {
            recording.discard();
            return Err(no);
        }
    };
    let end = End::Machine(stop);
    let stand = replay.stand();
    let log_error = replay.machine.log_error().map(ToString::to_string);
    drop(replay);
    Ok(recording.seal(&end, &stand, log_error)?.words)
}

/// The machine's state where the new recording begins.
fn beginning(args: &TrimArgs, replica: &Replica, place: Place, until: Option<Until>) -> Result<Start, No> {
    let show = Show { port: None, level: None };
    let mut replay = Replay::start(replica, &args.recording, show, None)?;
    replay.set_until(until);
    reach(&mut replay, replica, place)?;
    let start = replay.machine.snapshot();
    let start = Start::at(replica.board(), start).and_then(|start| start.as_beginning());
    Ok(start.map_err(|error| unusable(&error))?)
}

fn reach(replay: &mut Replay<'_>, replica: &Replica, place: Place) -> Result<(), No> {
    match replay.run() {
        Stop::Until => Ok(()),
        stop @ Stop::Requested => Err(No::Interrupted(replay.end(stop).code())),
        stop => match replay.failure(&stop, false) {
            Some(failure) => Err(failure.into()),
            None => Err(Failure::usage(format!("nothing of the recorded run lies behind {place}"))
                .at(replica.store().path().display())
                .into()),
        },
    }
}

/// Let the replay go on to where the new recording ends, and end it there. Returns how it ended.
fn go(replay: &mut Replay<'_>, to: Option<(Place, Option<Until>)>) -> Result<Stop, No> {
    let begin = replay.machine.status();
    replay.set_until(to.and_then(|(_, until)| until));
    if let Some((place, Some(_))) = to
        && replay.machine.has_arrived()
    {
        return Err(Failure::usage(format!("the new recording would end at {place}, before it begins"))
            .note(format!("it begins at icount {}", begin.icount))
            .into());
    }
    let stop = replay.run();
    if let Some(failure) = replay.failure(&stop, true) {
        return Err(failure.into());
    }
    match (stop, to) {
        (stop @ Stop::Requested, _) => Err(No::Interrupted(replay.end(stop).code())),
        (Stop::Until | Stop::OutOfRecords(_), _) => {
            replay.end_own_log(EndReason::Stopped);
            Ok(Stop::Until)
        }
        (_, Some((place, Some(_)))) => {
            Err(Failure::usage(format!("the recorded run ended before {place}")).into())
        }
        (stop, Some((_, None)) | None) => {
            if replay.breaks_off(&stop).is_some() {
                // The log that is cut does not say that the run ended so; the new one does.
                End::Machine(stop.clone())
                    .recorded()
                    .into_iter()
                    .for_each(|reason| replay.end_own_log(reason));
            }
            Ok(stop)
        }
    }
}
