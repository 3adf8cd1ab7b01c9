//! `reprise ps`, `status`, `stop`, `cont`, `monitor`: the other end of the socket.

use super::{folder, monitor::PROMPT};
use crate::{
    failure::{Exit, Failure},
    inspect,
    io::grouped,
    reload,
};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::{
    io::{self, BufRead, BufReader, IsTerminal, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

/// A machine answers between two instructions; a process that is stopped does not at all.
const PATIENCE: Duration = Duration::from_secs(60);
/// For a list of many.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);
/// The longest line that a machine may send.
const LINE_BYTES: u64 = 16 << 20;

/// `reprise ps`
#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// For programs
    #[arg(long)]
    json: bool,
}

/// `reprise stop`, `reprise cont`
#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    /// The process, or the path of its socket; may be left out if one machine is running
    #[arg(value_name = "PID|SOCKET")]
    machine: Option<String>,
}

/// `reprise status`
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    call: CallArgs,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// `reprise snapshot save`, `reprise snapshot load`
#[derive(Debug, Args)]
pub(crate) struct NamedArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    call: CallArgs,
    /// The folder that it is in; default: the machine's own
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// `reprise flight`
#[derive(Debug, Args)]
pub(crate) struct FlightCommand {
    #[command(subcommand)]
    action: FlightAction,
}

#[derive(Debug, Subcommand)]
enum FlightAction {
    /// Save what the flight recorder of a running machine keeps; returns when it is on the disk
    Save {
        #[command(flatten)]
        call: CallArgs,
        /// The recording: a new folder; default: a name of its own, where --flight-recorder says
        #[arg(short, long, value_name = "NEW.rec")]
        output: Option<PathBuf>,
    },
}

/// `reprise plugin reload`
#[derive(Debug, Args)]
pub(crate) struct ReloadArgs {
    /// A device of the board; all devices of its plugin go on with the new build
    #[arg(value_name = "DEVICE")]
    device: String,
    #[command(flatten)]
    call: CallArgs,
    /// The new build; default: the file that the plugin was loaded from
    #[arg(long, value_name = "FILE.so")]
    file: Option<PathBuf>,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// `reprise monitor`
#[derive(Debug, Args)]
pub(crate) struct MonitorArgs {
    #[command(flatten)]
    call: CallArgs,
    /// One command of the monitor; left out: read commands from standard input
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// A machine, as its process describes it.
struct Row {
    what: String,
    status: String,
    icount: u64,
    machine: String,
    recording: Value,
}

impl PsArgs {
    pub(crate) fn run(&self) -> Result<u8, Failure> {
        let mut rows = Vec::new();
        for (pid, path) in folder::sockets()? {
            if folder::is_stale(&path) {
                folder::sweep(pid, &path);
                continue;
            }
            let row = Peer::connect(&path, SHORT_PATIENCE).and_then(|mut peer| peer.row());
            // It may have ended since, or not answer: in a list that is no failure.
            rows.push((pid, row.ok(), path));
        }
        rows.retain(|(_, row, path)| row.is_some() || path.exists());
        if self.json {
            let all: Value =
                rows.iter().map(|(pid, row, path)| to_json(Some(*pid), row.as_ref(), path)).collect();
            return inspect::out(&format!("{all}\n"));
        }
        if rows.is_empty() {
            return inspect::out("no machine is running\n");
        }
        let mut text = format!(
            "{:>8}  {:<7} {:<9} {:>16}  {:<12} SOCKET\n",
            "PID", "WHAT", "STATUS", "ICOUNT", "MACHINE"
        );
        for (pid, row, path) in &rows {
            let path = path.display();
            text += &match row {
                Some(Row { what, status, icount, machine, .. }) => {
                    let icount = grouped(*icount);
                    format!("{pid:>8}  {what:<7} {status:<9} {icount:>16}  {machine:<12} {path}\n")
                }
                None => format!("{pid:>8}  {:<7} {:<9} {:>16}  {:<12} {path}\n", "-", "no answer", "-", "-"),
            };
        }
        inspect::out(&text)
    }
}

fn to_json(pid: Option<u32>, row: Option<&Row>, path: &Path) -> Value {
    json!({
        "pid": pid,
        "machine": row.map(|row| &row.machine),
        "what": row.map(|row| &row.what),
        "status": row.map(|row| &row.status),
        "icount": row.map(|row| row.icount),
        "recording": row.map(|row| &row.recording),
        "socket": path.display().to_string(),
    })
}

impl StatusArgs {
    pub(crate) fn run(&self) -> Result<u8, Failure> {
        let path = self.call.socket()?;
        let row = Peer::connect(&path, PATIENCE)?.row()?;
        if self.json {
            let pid = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            return inspect::out(&format!("{}\n", to_json(pid, Some(&row), &path)));
        }
        let recording = row.recording.as_str().map_or_else(String::new, |path| format!(" {path}"));
        inspect::out(&format!(
            "{}: {} {}{recording}, icount {}\n",
            row.status,
            row.what,
            row.machine,
            grouped(row.icount)
        ))
    }
}

impl CallArgs {
    /// `reprise stop`, `reprise cont`: returns when it is done.
    pub(crate) fn run(&self, command: &str) -> Result<u8, Failure> {
        Peer::connect(&self.socket()?, PATIENCE)?.execute(command, &json!({}))?;
        Ok(0)
    }

    fn socket(&self) -> Result<PathBuf, Failure> {
        if let Some(machine) = &self.machine {
            return Ok(match machine.parse() {
                Ok(pid) => folder::socket_of(&folder::folder(), pid),
                Err(_) => machine.into(),
            });
        }
        let mut live = folder::sockets()?;
        live.retain(|(_, path)| !folder::is_stale(path));
        match live.as_slice() {
            [(_, path)] => Ok(path.clone()),
            [] => Err(Failure::usage("no machine is running")
                .at(folder::folder().display())
                .help("`reprise run` and `record` start one; name its socket if it was given by --control")),
            several => {
                let mut failure = Failure::usage(format!("{} machines are running", several.len()));
                for (pid, path) in several {
                    let row = Peer::connect(path, SHORT_PATIENCE).and_then(|mut peer| peer.row());
                    let row = row.map_or_else(
                        |_| "no answer".to_owned(),
                        |row| format!("{} {}", row.what, row.machine),
                    );
                    failure = failure.note(format!("{pid}: {row}"));
                }
                Err(failure.help("name one of them by its number"))
            }
        }
    }
}

impl NamedArgs {
    /// Returns when it is done.
    pub(crate) fn run(&self, command: &str) -> Result<u8, Failure> {
        let mut arguments = json!({ "tag": self.name });
        if let Some(folder) = &self.folder {
            arguments["folder"] = absolute(folder)?.into();
        }
        let answer = Peer::connect(&self.call.socket()?, PATIENCE)?.execute(command, &arguments)?;
        if let (Some(icount), Some(bytes)) = (answer["icount"].as_u64(), answer["bytes-written"].as_u64()) {
            let (folder, name) = (answer["folder"].as_str().unwrap_or("?"), &self.name);
            let (icount, bytes) = (grouped(icount), grouped(bytes));
            return inspect::out(&format!("{folder}/{name}: icount {icount}, {bytes} bytes written\n"));
        }
        Ok(0)
    }
}

/// The machine's process may be elsewhere.
fn absolute(path: &Path) -> Result<String, Failure> {
    let absolute = std::path::absolute(path);
    let absolute =
        absolute.map_err(|error| Failure::io("cannot name it from anywhere", &error).at(path.display()))?;
    Ok(absolute.display().to_string())
}

impl FlightCommand {
    /// Returns when it is done.
    pub(crate) fn run(&self) -> Result<u8, Failure> {
        let FlightAction::Save { call, output } = &self.action;
        let mut arguments = json!({});
        if let Some(path) = output {
            arguments["filename"] = absolute(path)?.into();
        }
        let answer = Peer::connect(&call.socket()?, PATIENCE)?.execute("flight-save", &arguments)?;
        let path = answer["filename"].as_str().unwrap_or("?");
        let [from, to] = ["from-icount", "icount"].map(|name| grouped(answer[name].as_u64().unwrap_or(0)));
        inspect::out(&format!("{path}: from icount {from} to {to}\n"))
    }
}

impl ReloadArgs {
    /// Returns when it is done.
    pub(crate) fn run(&self) -> Result<u8, Failure> {
        let mut arguments = json!({ "device": self.device });
        if let Some(file) = &self.file {
            arguments["filename"] = absolute(file)?.into();
        }
        let answer = Peer::connect(&self.call.socket()?, PATIENCE)?.execute("x-plugin-reload", &arguments)?;
        inspect::out(&if self.json { format!("{answer}\n") } else { reload::said(&answer) })
    }
}

impl MonitorArgs {
    pub(crate) fn run(&self) -> Result<u8, Failure> {
        let mut peer = Peer::connect(&self.call.socket()?, PATIENCE)?;
        if !self.command.is_empty() {
            let text = peer.human(&self.command.join(" "))?;
            return inspect::out(&text);
        }
        let prompt = if io::stdin().is_terminal() { PROMPT } else { "" };
        let mut lines = io::stdin().lock().lines();
        loop {
            inspect::out(prompt)?;
            let Some(Ok(line)) = lines.next() else { break };
            let ends = ["quit", "q"].contains(&line.trim());
            inspect::out(&peer.human(&line)?)?;
            if ends {
                return Ok(0);
            }
        }
        // Behind the prompt.
        inspect::out(if prompt.is_empty() { "" } else { "\n" })
    }
}

/// A machine at the other end.
struct Peer {
    path: PathBuf,
    reader: io::Take<BufReader<UnixStream>>,
}

impl Peer {
    fn connect(path: &Path, patience: Duration) -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            Failure::io("cannot reach a machine there", &error)
                .at(path.display())
                .help("`reprise ps` lists those that run")
        };
        let stream = UnixStream::connect(path).map_err(failed)?;
        stream.set_read_timeout(Some(patience)).map_err(failed)?;
        stream.set_write_timeout(Some(patience)).map_err(failed)?;
        let mut peer = Self { path: path.to_owned(), reader: io::Read::take(BufReader::new(stream), 0) };
        let greeting = peer.receive()?;
        if greeting.get("QMP").is_none() {
            return Err(peer.refused(&greeting));
        }
        peer.execute("qmp_capabilities", &json!({}))?;
        Ok(peer)
    }

    fn receive(&mut self) -> Result<Value, Failure> {
        let mut line = String::new();
        self.reader.set_limit(LINE_BYTES);
        let read = self.reader.read_line(&mut line);
        let what = match read {
            Ok(0) => "the machine has ended".to_owned(),
            Ok(_) => match serde_json::from_str(&line) {
                Ok(value) => return Ok(value),
                Err(_) => "what answers there does not speak QMP".to_owned(),
            },
            Err(error) if [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind()) => {
                "the machine does not answer".to_owned()
            }
            Err(error) => return Err(Failure::io("the machine is gone", &error).at(self.path.display())),
        };
        Err(Failure::new(Exit::Io, what).at(self.path.display()))
    }

    fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value, Failure> {
        let message = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        let sent = self.reader.get_mut().get_mut().write_all(message.as_bytes());
        sent.map_err(|error| Failure::io("the machine is gone", &error).at(self.path.display()))?;
        loop {
            let mut answer = self.receive()?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if answer.get("event").is_none() {
                return Err(self.refused(&answer));
            }
        }
    }

    fn refused(&self, answer: &Value) -> Failure {
        let why = answer["error"]["desc"].as_str().unwrap_or("what answers there does not speak QMP");
        let exit = answer["error"]["x-exit"].as_u64().and_then(Exit::of).unwrap_or(Exit::Io);
        Failure::new(exit, format!("the machine refuses: {why}")).at(self.path.display())
    }

    fn human(&mut self, line: &str) -> Result<String, Failure> {
        let text = self.execute("human-monitor-command", &json!({ "command-line": line }))?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    fn row(&mut self) -> Result<Row, Failure> {
        let nothing = json!({});
        let [name, status, replay] =
            ["query-name", "query-status", "query-replay"].map(|query| self.execute(query, &nothing));
        let (name, status, mut replay) = (name?, status?, replay?);
        let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        let what = match replay["mode"].as_str() {
            Some("record") => "record",
            Some("play") => "replay",
            _ => "run",
        };
        Ok(Row {
            what: what.to_owned(),
            status: text(&status["status"]),
            icount: replay["icount"].as_u64().unwrap_or(0),
            machine: text(&name["name"]),
            recording: replay["filename"].take(),
        })
    }
}
