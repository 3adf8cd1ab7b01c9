//! `reprise ask`: what the machine of a recording was like at a place, or at several in turn.

use crate::{
    args::{KeepingArgs, RecordingArgs},
    ending::hex,
    failure::Failure,
    inspect::out,
    io::{counted, grouped},
    place::Place,
    plugins::Plugins,
    rebuild::Replica,
    replay::{Replay, find},
    run, timeline,
    unplugged::Show,
};
use clap::ValueEnum;
use reprise_machine::Stop;
use serde_json::{Map, Value, json};
use std::time::Instant;

#[derive(Debug, clap::Args)]
pub(crate) struct AskArgs {
    #[command(flatten)]
    recording: RecordingArgs,
    /// What to tell
    #[arg(value_enum)]
    question: Question,
    /// Where: icount:N, vtime:1.5s, 50%, event:N, line:N, end; may be given several times, in any order
    #[arg(long, value_name = "POS", value_parser = Place::parse, default_value = "end")]
    at: Vec<Place>,
    /// With `state`: only fields whose name begins so, as hart0.pc or device.uart0
    #[arg(long, value_name = "PREFIX", default_value = "")]
    field: String,
    #[command(flatten)]
    keeping: KeepingArgs,
    /// For programs: one object a line
    #[arg(long)]
    json: bool,
}

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Question {
    /// The digest of the whole state
    Digest,
    /// Registers, fields of devices and of the host, by name
    State,
    /// What each hart does next
    Next,
    /// What snapshots cost from there on, in memory and on the disk
    Cost,
}

/// `reprise ask REC QUESTION --at POS`.
pub(crate) fn ask(args: &AskArgs, catalog: &Plugins) -> Result<u8, Failure> {
    let replica = Replica::open(&args.recording, catalog)?;
    let show = Show { port: None, level: Some(run::log_level(args.recording.verbose)) };
    let mut replay = Replay::start(&replica, &args.recording, show, None)?;
    replay.keep(args.keeping.keeping());
    for place in &args.at {
        let until = find(*place, &replica)?;
        let started = Instant::now();
        match replay.seek(until)? {
            Stop::Until => (),
            Stop::Requested => return Ok(replay.end(Stop::Requested).code()),
            _ if *place == Place::End => (),
            _ => return Err(not_there(*place, &replica, &mut replay)),
        }
        let seek_ms = started.elapsed().as_secs_f64() * 1e3;
        let answer = answer(args, &mut replay)?;
        let status = replay.machine.status();
        let events = replay.counter.passed().events;
        let text = match args.json {
            true => {
                let mut object = Map::new();
                object.insert("at".into(), place.to_string().into());
                object.insert("icount".into(), status.icount.into());
                object.insert("vtime_ns".into(), status.vtime_ns.into());
                object.insert("events".into(), events.into());
                object.insert("seek_ms".into(), seek_ms.into());
                object.extend(answer);
                format!("{}\n", Value::Object(object))
            }
            false => format!(
                "{place}: icount {}, vtime {:.9} s, behind {}\n{}",
                grouped(status.icount),
                status.vtime_ns as f64 / 1e9,
                counted(events, "event"),
                words(answer)
            ),
        };
        out(&text)?;
    }
    Ok(0)
}

fn not_there(place: Place, replica: &Replica, replay: &mut Replay<'_>) -> Failure {
    let icount = replay.machine.status().icount;
    Failure::usage(format!("the recorded run has no place {place}"))
        .at(replica.store().path().display())
        .help(format!("it ends at icount {}", grouped(icount)))
}

fn answer(args: &AskArgs, replay: &mut Replay<'_>) -> Result<Map<String, Value>, Failure> {
    if args.question == Question::Cost {
        return cost(replay);
    }
    let machine = &mut replay.machine;
    Ok(match args.question {
        Question::Cost => unreachable!("answered above"),
        Question::Digest => [("digest".to_owned(), hex(&machine.digest()).into())].into_iter().collect(),
        Question::State => {
            let fields = machine.fields().into_iter().filter(|(name, _)| name.starts_with(&args.field));
            let fields: Map<String, Value> = fields.map(|(name, value)| (name, value.into())).collect();
            [("state".to_owned(), json!(fields))].into_iter().collect()
        }
        Question::Next => {
            let harts = (0..machine.harts()).map(|hart| machine.upcoming(hart).to_string());
            let harts: Vec<String> = harts.collect();
            [("next".to_owned(), json!(harts))].into_iter().collect()
        }
    })
}

/// In a folder that goes with us.
fn cost(replay: &mut Replay<'_>) -> Result<Map<String, Value>, Failure> {
    let folder = std::env::temp_dir().join(format!("reprise-cost-{}", std::process::id()));
    let answer = timeline::cost(replay, &folder);
    // It may not have been made.
    drop(std::fs::remove_dir_all(&folder));
    answer
}

/// For people: a line each.
fn words(answer: Map<String, Value>) -> String {
    let line = |name: &str, value: &Value| match value {
        Value::String(text) => format!("  {name} {text}\n"),
        other => format!("  {name} {other}\n"),
    };
    let lines = answer.iter().map(|(name, value)| match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| line(name, value)).collect(),
        Value::Array(items) => {
            items.iter().enumerate().map(|(hart, value)| line(&format!("hart{hart}"), value)).collect()
        }
        other => line(name, other),
    });
    lines.collect()
}
