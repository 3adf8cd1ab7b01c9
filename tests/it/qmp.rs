//! A client of a control socket, as simple as one can be: what goes over the wire is in the tests.

use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

/// As for whole runs: a loaded machine is slow, and a hang is a failure.
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection.
pub(crate) struct Qmp {
    reader: BufReader<UnixStream>,
    /// What came while something else was awaited.
    pub(crate) events: Vec<Value>,
}

impl Qmp {
    /// Connected, greeted, and no more. The machine may still be on its way up.
    pub(crate) fn greeted(path: &str) -> Self {
        let end = Instant::now() + PATIENCE;
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < end, "{path}: {error}"),
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut client = Self { reader: BufReader::new(stream), events: Vec::new() };
        let greeting = client.receive();
        assert!(greeting["QMP"]["version"]["qemu"]["major"].is_u64(), "{greeting}");
        assert_eq!(greeting["QMP"]["capabilities"], json!([]));
        client
    }

    /// Ready for commands.
    pub(crate) fn connect(path: &str) -> Self {
        let mut client = Self::greeted(path);
        assert_eq!(client.execute("qmp_capabilities"), json!({}));
        client
    }

    pub(crate) fn stream(&self) -> &UnixStream {
        self.reader.get_ref()
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream().write_all(bytes).unwrap();
    }

    /// The next message; none if the other end is closed.
    pub(crate) fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        let length = match self.reader.read_line(&mut line) {
            // It was closed with a command in it that nobody had read.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            length => length.expect("an answer in time"),
        };
        (length > 0).then(|| serde_json::from_str(&line).unwrap())
    }

    pub(crate) fn receive(&mut self) -> Value {
        self.next().expect("the other end is open")
    }

    /// The next message that is no event.
    pub(crate) fn answer(&mut self) -> Value {
        loop {
            let message = self.receive();
            if message.get("event").is_none() {
                return message;
            }
            self.events.push(message);
        }
    }

    /// What the command returns; it has to.
    pub(crate) fn execute(&mut self, command: &str) -> Value {
        self.execute_with(command, json!({}))
    }

    pub(crate) fn execute_with(&mut self, command: &str, arguments: Value) -> Value {
        let message = json!({ "execute": command, "arguments": arguments, "id": command });
        self.send(message.to_string().as_bytes());
        let mut answer = self.answer();
        assert_eq!(answer["id"], command);
        answer.get_mut("return").unwrap_or_else(|| panic!("{command}: no return")).take()
    }

    /// The class of the error that the command is answered with, and what it says.
    pub(crate) fn refused(&mut self, message: &str) -> (String, String) {
        self.send(format!("{message}\n").as_bytes());
        let answer = self.answer();
        let text = |key: &str| answer["error"][key].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        (text("class"), text("desc"))
    }

    /// The next event, which has this name: its data.
    pub(crate) fn event(&mut self, name: &str) -> Value {
        let mut event = match self.events.is_empty() {
            true => self.receive(),
            false => self.events.remove(0),
        };
        assert_eq!(event["event"], name, "{event}");
        let timestamp = &event["timestamp"];
        assert!(timestamp["seconds"].is_u64() && timestamp["microseconds"].is_u64(), "{event}");
        event["data"].take()
    }

    pub(crate) fn status(&mut self) -> String {
        let status = self.execute("query-status");
        assert_eq!(status["running"], status["status"] == "running", "{status}");
        status["status"].as_str().unwrap().to_owned()
    }

    pub(crate) fn icount(&mut self) -> u64 {
        self.execute("query-replay")["icount"].as_u64().unwrap()
    }

    pub(crate) fn human(&mut self, line: &str) -> String {
        let text = self.execute_with("human-monitor-command", json!({ "command-line": line }));
        text.as_str().unwrap().to_owned()
    }
}
