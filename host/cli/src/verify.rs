//! `reprise verify`: a replay at full speed that compares everything and shows nothing.

use crate::{
    args::VerifyArgs,
    ending::{Stand, hex},
    failure::{Exit, Failure},
    inspect,
    io::counted,
    observe,
    plugins::Plugins,
    rebuild::Replica,
    replay::{self, Replay},
    run,
    tape::Passed,
    unplugged::Show,
};
use reprise_machine::{
    Stop,
    replay::log::{LogError, Tail},
};
use serde_json::{Value, json};

/// What a verification has found.
struct Verdict {
    result: &'static str,
    stand: Option<Stand>,
    passed: Passed,
    /// Where it is not as it should be.
    at: Value,
    /// The report of a divergence.
    divergence: Value,
}

/// Replay a recording and say whether it is the same run. Returns the exit code.
pub(crate) fn verify(args: &VerifyArgs, catalog: &Plugins) -> Result<u8, Failure> {
    let watchers = args.observe.find(catalog)?;
    let replica = Replica::open(&args.recording, catalog).map_err(|failure| unstarted(args, failure))?;
    // Also what the replay has no need of: whoever gets the recording may have.
    replica.store().check_contents().map_err(|failure| unstarted(args, failure))?;
    let show = Show { port: None, level: Some(run::log_level(args.recording.verbose)) };
    let started = Replay::start(&replica, &args.recording, show, None);
    let mut replay = started.map_err(|failure| unstarted(args, failure))?;
    observe::attach(&watchers, &mut replay.machine)?;
    let stop = replay.run();
    let unseen = observe::finish(&mut replay.machine);
    let failure = replay.failure(&stop, !args.recording.no_search);
    let breaks_off = replay.breaks_off(&stop);
    let mut verdict = verdict(&mut replay, &stop, breaks_off);
    verdict.divergence = failure.as_ref().and_then(Failure::report).cloned().unwrap_or_default();
    let words = replay::stopped(&replica, &stop, breaks_off, replay.machine.status(), verdict.passed.events);
    let end = replay.end(stop);
    drop(replay);
    match verdict.result {
        "interrupted" => return Ok(end.code()),
        // Nothing is known of the recording.
        "failed" => return failure.map_or(Ok(0), Err),
        _ => (),
    }
    run::say(&words);
    tell(args, &verdict)?;
    let code = failure.as_ref().map_or(0, |failure| failure.exit as u8);
    run::say(&observe::tell(unseen, code, String::new())?);
    failure.map_or(Ok(0), Err)
}

/// Damage, or another build of a plugin, that keeps the machine from being built is an answer too.
fn unstarted(args: &VerifyArgs, failure: Failure) -> Failure {
    let result = match failure.exit {
        Exit::Corrupt => Some("corrupt"),
        // Another build of a plugin that does not take what the recorded one has saved.
        Exit::Diverged => Some("diverged"),
        Exit::Usage | Exit::Config | Exit::Io | Exit::Plugin | Exit::Unknown => None,
    };
    if let Some(result) = result {
        let verdict = Verdict {
            result,
            stand: None,
            passed: Passed::default(),
            at: Value::Null,
            divergence: failure.report().cloned().unwrap_or_default(),
        };
        // The failure is told in any case.
        drop(tell(args, &verdict));
    }
    failure
}

fn verdict(replay: &mut Replay<'_>, stop: &Stop, breaks_off: Option<Tail>) -> Verdict {
    let (result, at) = match stop {
        Stop::PowerOff { .. }
        | Stop::Deadlock
        | Stop::PluginFault(_)
        | Stop::ResetFailed(_)
        | Stop::ReplayEnded(_)
        | Stop::OutOfRecords(_) => match breaks_off {
            // Also where the machine stopped by itself, or by the last record: that the run ended so, nobody wrote.
            Some(tail) => ("truncated", torn(tail)),
            None => ("identical", Value::Null),
        },
        Stop::Diverged => (
            "diverged",
            replay.machine.divergence().map_or(Value::Null, |left| {
                let place = left.position;
                json!({ "icount": left.icount, "vtime_ns": place.vtime_ns, "order": place.order })
            }),
        ),
        Stop::LogFailed | Stop::BadRecord(_) => {
            ("corrupt", replay.machine.log_error().map_or(Value::Null, damage))
        }
        // Of these only the user's wish can be.
        Stop::Requested | Stop::Limit | Stop::Until => ("interrupted", Value::Null),
        Stop::DiskFailed(_) => ("failed", Value::Null),
    };
    Verdict {
        result,
        stand: Some(replay.stand()),
        passed: replay.counter.passed(),
        at,
        divergence: Value::Null,
    }
}

fn damage(error: &LogError) -> Value {
    match error {
        LogError::Corrupt { segment, offset, .. }
        | LogError::Sink { segment, offset, .. }
        | LogError::Source { segment, offset, .. } => json!({ "segment": segment, "offset": offset }),
        LogError::Refused { segment, .. } => json!({ "segment": segment }),
        LogError::Oversized { .. } | LogError::NoSeed | LogError::NoRecord { .. } => Value::Null,
    }
}

fn torn(tail: Tail) -> Value {
    match tail {
        Tail::Closed => Value::Null,
        Tail::Torn { segment, offset, .. } => json!({ "segment": segment, "offset": offset }),
    }
}

fn tell(args: &VerifyArgs, verdict: &Verdict) -> Result<(), Failure> {
    let Verdict { result, stand, passed, at, divergence } = verdict;
    let text = match (args.json, stand) {
        (true, stand) => {
            let of = |value: fn(&Stand) -> Value| stand.as_ref().map_or(Value::Null, value);
            let answer = json!({
                "result": result,
                "icount": of(|stand| stand.status.icount.into()),
                "digest": of(|stand| hex(&stand.digest).into()),
                "at": at,
                "divergence": divergence,
                "vtime_ns": of(|stand| stand.status.vtime_ns.into()),
                "events": passed.events,
                "digests": passed.digests,
                "host_seconds": of(|stand| stand.host_time.as_secs_f64().into()),
            });
            format!("{answer}\n")
        }
        (false, None) => format!("{result}\n"),
        (false, Some(stand)) => format!(
            "{result}: {}, {:.3} s of virtual time, {}, {}; in {:.2} s\n",
            counted(stand.status.icount, "instruction"),
            stand.status.vtime_ns as f64 / 1e9,
            counted(passed.events, "event"),
            counted(passed.digests, "digest"),
            stand.host_time.as_secs_f64(),
        ),
    };
    inspect::out(&text).map(drop)
}
