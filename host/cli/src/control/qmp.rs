//! QMP: the commands of QEMU's machine protocol, without the socket.

use super::{
    hub::{Hub, RunState},
    monitor, network,
    order::{Answer, Order, Refusal, Reply},
    wire::Splitter,
};
use crate::{
    flight::Occasion,
    place::Place,
    reload,
    shelf::{Tag, Wish},
};
use reprise_machine::ControlInput;
use serde_json::{Map, Value, json};
use std::sync::Arc;

type Object = Map<String, Value>;

/// What a client may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Capabilities,
    Version,
    Commands,
    Status,
    Name,
    Replay,
    Cpus,
    Chardev,
    Stop,
    Cont,
    Press(ControlInput),
    Digest,
    Seek,
    Break,
    DeleteBreak,
    Save,
    Load,
    Delete,
    Snapshots,
    Flight,
    Reload,
    Networks,
    NetworkTable,
    Forward,
    Unforward,
    Quit,
    Human,
}

/// Every command: its name, what it is, and the arguments that it takes. A new one is a row here and an arm of
/// [`execute`]; what needs the machine is an [`Order`].
const COMMANDS: [(&str, Command, &[&str]); 29] = [
    ("qmp_capabilities", Command::Capabilities, &["enable"]),
    ("query-version", Command::Version, &[]),
    ("query-commands", Command::Commands, &[]),
    ("query-status", Command::Status, &[]),
    ("query-name", Command::Name, &[]),
    ("query-replay", Command::Replay, &[]),
    ("query-cpus-fast", Command::Cpus, &[]),
    ("query-chardev", Command::Chardev, &[]),
    ("stop", Command::Stop, &[]),
    ("cont", Command::Cont, &[]),
    ("system_reset", Command::Press(ControlInput::Reset), &[]),
    ("system_powerdown", Command::Press(ControlInput::PowerOff), &[]),
    ("inject-nmi", Command::Press(ControlInput::Nmi), &[]),
    ("query-digest", Command::Digest, &[]),
    ("replay-seek", Command::Seek, &["icount", "at"]),
    ("replay-break", Command::Break, &["icount"]),
    ("replay-delete-break", Command::DeleteBreak, &[]),
    ("snapshot-save", Command::Save, &SNAPSHOT),
    ("snapshot-load", Command::Load, &SNAPSHOT),
    ("snapshot-delete", Command::Delete, &SNAPSHOT),
    ("query-snapshots", Command::Snapshots, &["folder"]),
    ("flight-save", Command::Flight, &["filename"]),
    ("x-plugin-reload", Command::Reload, &["device", "filename"]),
    ("query-usernet", Command::Networks, &[]),
    ("x-query-usernet", Command::NetworkTable, &[]),
    ("hostfwd-add", Command::Forward, &["id", "hostfwd"]),
    ("hostfwd-remove", Command::Unforward, &["id", "hostfwd"]),
    ("quit", Command::Quit, &[]),
    ("human-monitor-command", Command::Human, &["command-line", "cpu-index"]),
];

/// QEMU's, of which only the tag says something here, and the folder of ours.
const SNAPSHOT: [&str; 5] = ["tag", "folder", "job-id", "vmstate", "devices"];

/// One client's conversation.
#[derive(Default)]
pub(super) struct Session {
    pub(super) input: Splitter,
    negotiated: bool,
}

/// What becomes of a message.
pub(super) enum Step {
    /// Said at once.
    Say(Value),
    /// To be executed; the answer gets this id.
    Execute(Execution, Option<Value>),
}

/// A command that may begin.
pub(super) struct Execution {
    command: Command,
    arguments: Object,
}

/// The first thing that a client sees.
pub(super) fn greeting() -> Value {
    json!({ "QMP": { "version": version(), "capabilities": [] } })
}

fn version() -> Value {
    let mut numbers = env!("CARGO_PKG_VERSION").split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    let (major, minor, micro) = (next(), next(), next());
    // The field's name is the protocol's.
    json!({
        "qemu": { "major": major, "minor": minor, "micro": micro },
        "package": concat!("reprise ", env!("CARGO_PKG_VERSION")),
    })
}

/// An answer on the wire.
pub(super) fn response(answer: Answer, id: Option<Value>) -> Value {
    let mut response = match answer {
        Ok(value) => json!({ "return": value }),
        Err(refusal) => json!({ "error": refusal.to_json() }),
    };
    if let Some(id) = id {
        response["id"] = id;
    }
    response
}

impl Session {
    /// Only those who have negotiated hear events.
    pub(super) fn hears_events(&self) -> bool {
        self.negotiated
    }

    /// The next message, if a whole one has arrived.
    pub(super) fn step(&mut self) -> Option<Step> {
        let mut message = match self.input.next()? {
            Ok(message) => message,
            Err(why) => return Some(Step::Say(response(Err(Refusal::new(why)), None))),
        };
        let id = message.remove("id");
        Some(match self.command(message) {
            Ok(execution) => Step::Execute(execution, id),
            Err(refusal) => Step::Say(response(Err(refusal), id)),
        })
    }

    fn command(&mut self, mut message: Object) -> Result<Execution, Refusal> {
        let name = message.remove("execute");
        let arguments = message.remove("arguments");
        if let Some(member) = message.keys().next() {
            return Err(Refusal::new(format!("QMP input member '{member}' is unexpected")));
        }
        let name = match name {
            Some(Value::String(name)) => name,
            Some(_) => return Err(Refusal::new("QMP input member 'execute' must be a string")),
            None => return Err(Refusal::new("QMP input lacks member 'execute'")),
        };
        let arguments = match arguments {
            Some(Value::Object(arguments)) => arguments,
            Some(_) => return Err(Refusal::new("QMP input member 'arguments' must be an object")),
            None => Object::new(),
        };
        if !self.negotiated && name != "qmp_capabilities" {
            return Err(Refusal::not_found("Expecting capabilities negotiation with 'qmp_capabilities'"));
        }
        let row = COMMANDS.iter().find(|(known, ..)| *known == name);
        let Some((_, command, known)) = row else {
            return Err(Refusal::not_found(format!("The command {name} has not been found")));
        };
        if let Some(argument) = arguments.keys().find(|argument| !known.contains(&argument.as_str())) {
            return Err(Refusal::new(format!("Parameter '{argument}' is unexpected")));
        }
        if *command == Command::Capabilities {
            self.negotiate(&arguments)?;
        }
        Ok(Execution { command: *command, arguments })
    }

    fn negotiate(&mut self, arguments: &Object) -> Result<(), Refusal> {
        if self.negotiated {
            let why = "Capabilities negotiation is already complete, command ignored";
            return Err(Refusal::not_found(why));
        }
        match arguments.get("enable") {
            None => (),
            Some(Value::Array(wanted)) if wanted.is_empty() => (),
            Some(Value::Array(_)) => return Err(Refusal::new("none of these capabilities was offered")),
            Some(_) => return Err(Refusal::new("Parameter 'enable' must be an array")),
        }
        self.negotiated = true;
        Ok(())
    }
}

/// Do it. `reply` may be called later and on another thread.
pub(super) fn execute(hub: &Arc<Hub>, execution: Execution, reply: Reply) {
    let Execution { command, arguments } = execution;
    let answer = match command {
        Command::Capabilities => Ok(json!({})),
        Command::Version => Ok(version()),
        Command::Commands => Ok(COMMANDS.iter().map(|(name, ..)| json!({ "name": name })).collect()),
        Command::Status => Ok(status(hub)),
        Command::Name => Ok(json!({ "name": hub.facts().machine })),
        Command::Replay => Ok(replay(hub)),
        Command::Cpus => Ok((0..hub.facts().harts).map(hart).collect()),
        Command::Chardev => Ok(hub.facts().ports.into_iter().map(port).collect()),
        Command::Stop => return hub.submit(Order::Stop, reply),
        Command::Cont => return hub.submit(Order::Cont, reply),
        Command::Press(button) => hub.press(button),
        Command::Digest => return hub.submit(Order::Digest, reply),
        Command::Seek => match goal(&arguments) {
            Ok(place) => return hub.submit(Order::Seek(place), reply),
            Err(refusal) => Err(refusal),
        },
        Command::Break => match number(&arguments, "icount") {
            Ok(Some(icount)) => return hub.submit(Order::Break(Some(icount)), reply),
            Ok(None) => Err(Refusal::new("Parameter 'icount' is missing")),
            Err(refusal) => Err(refusal),
        },
        Command::Save | Command::Load | Command::Delete | Command::Snapshots => {
            match shelf(command, &arguments) {
                Ok(order) => return hub.submit(order, reply),
                Err(refusal) => Err(refusal),
            }
        }
        Command::DeleteBreak => return hub.submit(Order::Break(None), reply),
        Command::Flight => match text(&arguments, "filename") {
            Ok(path) => return hub.save_flight(Occasion::Command, path.map(Into::into), reply),
            Err(refusal) => Err(refusal),
        },
        Command::Reload => match reload(&arguments) {
            Ok(wish) => return hub.submit(Order::Reload(wish), reply),
            Err(refusal) => Err(refusal),
        },
        Command::Networks => network::query(hub),
        Command::NetworkTable => Ok(json!({ "human-readable-text": network::table(hub) })),
        Command::Forward | Command::Unforward => hostfwd(hub, command, &arguments),
        Command::Quit => {
            hub.quit();
            Ok(json!({}))
        }
        Command::Human => match arguments.get("command-line") {
            Some(Value::String(line)) => return monitor::execute(hub, line, as_text(reply)),
            Some(_) => Err(Refusal::new("Parameter 'command-line' must be a string")),
            None => Err(Refusal::new("Parameter 'command-line' is missing")),
        },
    };
    reply(answer);
}

/// A number that is no negative one.
fn number(arguments: &Object, name: &str) -> Result<Option<u64>, Refusal> {
    match arguments.get(name) {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            Some(number) => Ok(Some(number)),
            None => Err(Refusal::new(format!("Parameter '{name}' expects a number from 0 on"))),
        },
    }
}

fn text<'a>(arguments: &'a Object, name: &str) -> Result<Option<&'a str>, Refusal> {
    match arguments.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Refusal::new(format!("Parameter '{name}' must be a string"))),
    }
}

fn hostfwd(hub: &Hub, command: Command, arguments: &Object) -> Answer {
    let spec = text(arguments, "hostfwd")?.ok_or_else(|| Refusal::new("Parameter 'hostfwd' is missing"))?;
    let id = text(arguments, "id")?;
    match command {
        Command::Forward => network::forward(hub, id, spec),
        _ => network::unforward(hub, id, spec),
    }
}

fn shelf(command: Command, arguments: &Object) -> Result<Order, Refusal> {
    let folder = text(arguments, "folder")?.map(Into::into);
    if command == Command::Snapshots {
        return Ok(Order::Shelf(Wish::List(folder)));
    }
    let name = text(arguments, "tag")?.ok_or_else(|| Refusal::new("Parameter 'tag' is missing"))?;
    let tag = Tag { name: name.to_owned(), folder };
    Ok(match command {
        Command::Save => Order::Shelf(Wish::Save(tag)),
        Command::Delete => Order::Shelf(Wish::Delete(tag)),
        _ => Order::Load(tag),
    })
}

fn reload(arguments: &Object) -> Result<reload::Wish, Refusal> {
    let device = text(arguments, "device")?.ok_or_else(|| Refusal::new("Parameter 'device' is missing"))?;
    let file = text(arguments, "filename")?.map(Into::into);
    Ok(reload::Wish { device: device.to_owned(), file })
}

/// Where to go: QEMU's `icount`, or any place by its name.
fn goal(arguments: &Object) -> Result<Place, Refusal> {
    match (number(arguments, "icount")?, arguments.get("at")) {
        (Some(icount), None) => Ok(Place::Icount(icount)),
        (None, Some(Value::String(place))) => Place::parse(place).map_err(Refusal::new),
        (None, Some(_)) => Err(Refusal::new("Parameter 'at' must be a string")),
        (None, None) => Err(Refusal::new("Parameter 'icount' is missing")),
        (Some(_), Some(_)) => Err(Refusal::new("Parameters 'icount' and 'at' name a place each")),
    }
}

fn as_text(reply: Reply) -> monitor::Screen {
    Box::new(move |text| reply(Ok(text.into())))
}

pub(super) fn status(hub: &Hub) -> Value {
    let state = hub.run_state();
    let name = match state {
        RunState::Running => "running",
        RunState::Paused => "paused",
        RunState::Shutdown => "shutdown",
    };
    json!({ "status": name, "running": state == RunState::Running, "singlestep": false })
}

fn replay(hub: &Hub) -> Value {
    let facts = hub.facts();
    let mut replay = json!({
        "mode": facts.what.mode(), "icount": hub.icount(), "vtime-ns": hub.vtime_ns(),
    });
    if let Some(recording) = facts.recording {
        replay["filename"] = recording.into();
    }
    replay
}

fn hart(index: u32) -> Value {
    let props = json!({ "core-id": index });
    let path = format!("/machine/hart{index}");
    // All harts take turns on one thread: it has no number of its own.
    json!({
        "cpu-index": index, "qom-path": path, "thread-id": std::process::id(), "target": "riscv64",
        "props": props,
    })
}

fn port((label, filename): (String, String)) -> Value {
    json!({ "label": label, "filename": filename, "frontend-open": true })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Facts, What};
    use std::sync::mpsc::channel;

    fn hub() -> Arc<Hub> {
        Hub::new(Facts {
            machine: "virt".into(),
            harts: 2,
            takes_nmi: false,
            has_flight_recorder: false,
            what: What::Record,
            recording: Some("a.rec".into()),
            ports: vec![("uart0.serial".into(), "stdio".into())],
            map: String::new(),
        })
    }

    /// What a conversation without a machine comes to.
    fn talk(input: &str) -> Vec<Value> {
        let (hub, mut session) = (hub(), Session::default());
        hub.ended(None);
        session.input.feed(input.as_bytes());
        let mut out = Vec::new();
        while let Some(step) = session.step() {
            out.push(match step {
                Step::Say(value) => value,
                Step::Execute(execution, id) => {
                    let (sender, receiver) = channel();
                    execute(&hub, execution, Box::new(move |answer| sender.send(answer).unwrap()));
                    response(receiver.recv().unwrap(), id)
                }
            });
        }
        out
    }

    const BEGIN: &str = "{\"execute\":\"qmp_capabilities\"}";

    fn error(text: &str) -> (String, String) {
        let out = talk(&format!("{BEGIN}\n{text}\n"));
        assert_eq!(out.len(), 2, "{out:?}");
        let error = &out[1]["error"];
        (error["class"].as_str().unwrap().into(), error["desc"].as_str().unwrap().into())
    }

    #[test]
    fn nothing_goes_before_the_negotiation_and_that_only_once() {
        let out = talk("{\"execute\":\"query-status\",\"id\":7}");
        assert_eq!(out[0]["error"]["class"], "CommandNotFound");
        assert_eq!(out[0]["id"], 7);
        assert_eq!(talk(BEGIN), [json!({ "return": {} })]);
        assert_eq!(error(BEGIN).0, "CommandNotFound");
        let oob = talk("{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}");
        assert_eq!(oob[0]["error"]["class"], "GenericError");
    }

    #[test]
    fn queries_are_answered_and_ids_come_back() {
        let ask = |name: &str| {
            let out = talk(&format!("{BEGIN}{{\"execute\":\"{name}\",\"id\":{{\"n\":[1]}}}}"));
            assert_eq!(out[1]["id"], json!({ "n": [1] }));
            out[1]["return"].clone()
        };
        let status = json!({ "status": "shutdown", "running": false, "singlestep": false });
        assert_eq!(ask("query-status"), status);
        let replay = json!({ "mode": "record", "filename": "a.rec", "icount": 0, "vtime-ns": 0 });
        assert_eq!(ask("query-replay"), replay);
        assert_eq!(ask("query-name"), json!({ "name": "virt" }));
        assert_eq!(ask("query-cpus-fast"), json!([hart(0), hart(1)]));
        assert_eq!(ask("query-commands").as_array().unwrap().len(), COMMANDS.len());
        assert_eq!(ask("query-chardev")[0]["label"], "uart0.serial");
        assert!(ask("query-version")["qemu"]["major"].is_u64());
    }

    #[test]
    fn mistakes_have_their_class() {
        let cases = [
            ("{\"execute\":\"no-such\"}", "CommandNotFound", "no-such"),
            ("{\"execute\":5}", "GenericError", "must be a string"),
            ("{}", "GenericError", "lacks member 'execute'"),
            ("{\"execute\":\"stop\",\"args\":{}}", "GenericError", "'args' is unexpected"),
            ("{\"execute\":\"stop\",\"arguments\":[]}", "GenericError", "must be an object"),
            ("{\"execute\":\"stop\",\"arguments\":{\"now\":1}}", "GenericError", "'now' is unexpected"),
            ("{\"execute\":\"stop\"}", "GenericError", "has ended"),
            ("{\"execute\":\"system_reset\"}", "GenericError", "has ended"),
            ("{\"execute\":\"human-monitor-command\"}", "GenericError", "'command-line' is missing"),
            ("{\"execute\":\"inject-nmi\"}", "GenericError", "has ended"),
            ("{\"execute\":\"replay-seek\"}", "GenericError", "'icount' is missing"),
            (
                "{\"execute\":\"replay-seek\",\"arguments\":{\"icount\":-1}}",
                "GenericError",
                "a number from 0 on",
            ),
            ("{\"execute\":\"replay-seek\",\"arguments\":{\"at\":\"7\"}}", "GenericError", "write icount:N"),
            (
                "{\"execute\":\"replay-seek\",\"arguments\":{\"at\":7}}",
                "GenericError",
                "'at' must be a string",
            ),
            (
                "{\"execute\":\"replay-seek\",\"arguments\":{\"at\":\"end\",\"icount\":1}}",
                "GenericError",
                "a place each",
            ),
            ("{\"execute\":\"replay-break\"}", "GenericError", "'icount' is missing"),
            ("{\"execute\":\"replay-break\",\"arguments\":{\"icount\":1.5}}", "GenericError", "a number"),
            ("{\"execute\":\"snapshot-save\"}", "GenericError", "'tag' is missing"),
            ("{\"execute\":\"snapshot-load\",\"arguments\":{\"tag\":1}}", "GenericError", "must be a string"),
            (
                "{\"execute\":\"snapshot-delete\",\"arguments\":{\"job-id\":\"j\",\"tag\":\"a\",\"devices\":[]}}",
                "GenericError",
                "has ended",
            ),
            ("{\"execute\":\"x-plugin-reload\"}", "GenericError", "'device' is missing"),
            ("[1]", "GenericError", "must be a JSON object"),
            ("{\"execute\"", "GenericError", "JSON parse error"),
        ];
        for (text, class, desc) in cases {
            let text = if text.ends_with('"') { format!("{text} }}") } else { text.to_owned() };
            let found = error(&text);
            assert!(found.0 == class && found.1.contains(desc), "{text}: {found:?}");
        }
    }
}
