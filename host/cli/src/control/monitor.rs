//! The monitor for people: a line is a command, its answer is text. QEMU's names and forms.

use super::{
    hub::{Hub, RunState},
    network,
    order::{Answer, Examine, Form, Order},
};
use crate::{
    failure::printable,
    flight::Occasion,
    io::grouped,
    place::Place,
    reload,
    shelf::{Tag, Wish},
};
use reprise_machine::ControlInput;
use std::sync::Arc;

pub(crate) const PROMPT: &str = "(reprise) ";

/// What is said where somebody enters.
pub(crate) const BANNER: &str =
    concat!("reprise ", env!("CARGO_PKG_VERSION"), " monitor - type 'help' for more information\n");

const HELP: &str = "\
    help                 this help\n\
    info status          whether the machine runs\n\
    info replay          what is recorded or replayed, and where it is\n\
    info registers [N]   registers of hart N, or of all\n\
    info cpus            the harts\n\
    info mtree           the address map\n\
    info chardev         ports and what they are connected to\n\
    info usernet         user networks: flows, forwards, what was dropped\n\
    info name            the machine's name\n\
    info digest          the digest of the machine's state\n\
    info version         the version\n\
    stop, cont           let the machine stand still, and go on: the guest cannot tell\n\
    system_reset         press the reset button\n\
    system_powerdown     press the power button\n\
    nmi                  raise a non-maskable interrupt, where the board has a handler\n\
    savevm NAME          save a snapshot: the machine hardly stops, and the answer comes when it is written\n\
    loadvm NAME          become what it says; a recorded run cannot\n\
    delvm NAME           delete it\n\
    info snapshots       those that there are\n\
    plugin_reload DEVICE [FILE.so]   go on with another build of its plugin; a recorded run cannot\n\
    flight_save [FILE]   save what the flight recorder keeps, as a recording; the machine goes on\n\
    replay_seek PLACE    go there in a replay and stand still: an icount, vtime:1.5s, 50%, event:N, line:N\n\
    replay_break ICOUNT  stand still there when a replay comes by\n\
    replay_delete_break  no more\n\
    hostfwd_add [ID] FORWARD     forward a port of the host: tcp::2222-:22, udp:127.0.0.1:53-:53, unix:/P-:80\n\
    hostfwd_remove [ID] FORWARD  no more\n\
    xp /FMT ADDR         memory at a physical address: /8xg, /16xb, /4dw; x d u o c, b h w g\n\
    quit                 end the run\n";

/// Values that one `xp` shows, at most.
const EXAMINED: usize = 4096;

/// Where the answer goes: text of whole lines, maybe none.
pub(crate) type Screen = Box<dyn FnOnce(String) + Send>;

/// Do what a line says. `screen` may be called later and on another thread.
pub(crate) fn execute(hub: &Arc<Hub>, line: &str, screen: Screen) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let text = match words.as_slice() {
        [] => String::new(),
        ["help" | "?"] => HELP.to_owned(),
        ["info", rest @ ..] => return info(hub, rest, screen),
        ["stop" | "s"] => return hub.submit(Order::Stop, in_words(screen)),
        ["cont" | "c"] => return hub.submit(Order::Cont, in_words(screen)),
        ["system_reset"] => words_of(hub.press(ControlInput::Reset)),
        ["system_powerdown"] => words_of(hub.press(ControlInput::PowerOff)),
        ["nmi"] => words_of(hub.press(ControlInput::Nmi)),
        ["savevm", name] => return hub.submit(Order::Shelf(Wish::Save(tag(name))), quietly(screen)),
        ["loadvm", name] => return hub.submit(Order::Load(tag(name)), quietly(screen)),
        ["delvm", name] => return hub.submit(Order::Shelf(Wish::Delete(tag(name))), quietly(screen)),
        ["flight_save"] => return hub.save_flight(Occasion::Command, None, said_flight(screen)),
        ["flight_save", path] => {
            return hub.save_flight(Occasion::Command, Some(path.into()), said_flight(screen));
        }
        ["plugin_reload", device] => return plugin_reload(hub, device, None, screen),
        ["plugin_reload", device, file] => return plugin_reload(hub, device, Some(file), screen),
        ["plugin_reload", ..] => "usage: plugin_reload DEVICE [FILE.so]\n".to_owned(),
        ["savevm" | "loadvm" | "delvm", ..] => format!("usage: {} NAME\n", words[0]),
        ["replay_seek", place] => {
            match place.parse().map_or_else(|_| Place::parse(place), |n| Ok(Place::Icount(n))) {
                Ok(place) => return hub.submit(Order::Seek(place), in_words(screen)),
                Err(why) => format!("Error: {why}\n"),
            }
        }
        ["replay_break", icount] => match icount.parse() {
            Ok(icount) => return hub.submit(Order::Break(Some(icount)), in_words(screen)),
            Err(_) => format!("Error: no number of instructions: '{}'\n", printable(icount)),
        },
        ["replay_delete_break"] => return hub.submit(Order::Break(None), in_words(screen)),
        ["hostfwd_add" | "hostfwd_remove", rest @ ..] => forward(hub, words[0], rest),
        ["quit" | "q"] => {
            hub.quit();
            String::new()
        }
        ["xp", rest @ ..] => match examine(rest) {
            Ok(wanted) => return hub.submit(Order::Examine(wanted), in_words(screen)),
            Err(why) => format!("Error: {why}\n"),
        },
        ["replay_seek" | "replay_break"] => format!("usage: {} PLACE\n", words[0]),
        [
            "stop"
            | "s"
            | "cont"
            | "c"
            | "quit"
            | "q"
            | "system_reset"
            | "system_powerdown"
            | "nmi"
            | "help"
            | "?"
            | "flight_save"
            | "replay_seek"
            | "replay_break"
            | "replay_delete_break",
            ..,
        ] => {
            format!("{}: extraneous characters at the end of line\n", words[0])
        }
        [unknown, ..] => format!("unknown command: '{}'\n", printable(unknown)),
    };
    screen(text);
}

fn info(hub: &Arc<Hub>, words: &[&str], screen: Screen) {
    let text = match words {
        ["status"] => match hub.run_state() {
            RunState::Running => "VM status: running\n".to_owned(),
            RunState::Paused => "VM status: paused\n".to_owned(),
            RunState::Shutdown => "VM status: shutdown\n".to_owned(),
        },
        ["replay"] => replay(hub),
        ["registers"] => return hub.submit(Order::Registers(None), in_words(screen)),
        ["registers", hart] => match hart.parse() {
            Ok(hart) => return hub.submit(Order::Registers(Some(hart)), in_words(screen)),
            Err(_) => "Error: the number of a hart is missing\n".to_owned(),
        },
        ["digest"] => {
            let show = |answer: Answer| screen(words_of(answer.map(|answer| said_digest(&answer))));
            return hub.submit(Order::Digest, Box::new(show));
        }
        ["snapshots"] => {
            let show = |answer: Answer| screen(words_of(answer.map(|answer| said_snapshots(&answer))));
            return hub.submit(Order::Shelf(Wish::List(None)), Box::new(show));
        }
        ["cpus"] => (0..hub.facts().harts).map(|hart| format!("  CPU #{hart}: riscv64\n")).collect(),
        ["mtree"] => hub.facts().map,
        ["chardev"] => {
            let line = |(label, to): (String, String)| format!("{label}: filename={}\n", printable(&to));
            hub.facts().ports.into_iter().map(line).collect()
        }
        ["usernet"] => network::table(hub),
        ["name"] => hub.facts().machine + "\n",
        ["version"] => concat!(env!("CARGO_PKG_VERSION"), " (reprise)\n").to_owned(),
        [] => "info what? `help` lists what there is\n".to_owned(),
        [unknown, ..] => format!("unknown command: 'info {}'\n", printable(unknown)),
    };
    screen(text);
}

/// QEMU's `hostfwd_add [ID] FORWARD` and `hostfwd_remove`.
fn forward(hub: &Hub, command: &str, words: &[&str]) -> String {
    let (id, spec) = match words {
        [spec] => (None, spec),
        [id, spec] => (Some(*id), spec),
        _ => return format!("usage: {command} [ID] FORWARD, as in {command} tcp::2222-:22\n"),
    };
    words_of(match command {
        "hostfwd_add" => network::forward(hub, id, spec).map(|answer| network::said_forwards(&answer)),
        _ => network::unforward(hub, id, spec),
    })
}

fn tag(name: &str) -> Tag {
    Tag { name: name.to_owned(), folder: None }
}

/// For what says nothing if it is done.
fn quietly(screen: Screen) -> Box<dyn FnOnce(Answer) + Send> {
    Box::new(move |answer| screen(words_of(answer.map(|_| serde_json::Value::Null))))
}

fn plugin_reload(hub: &Arc<Hub>, device: &str, file: Option<&str>, screen: Screen) {
    let wish = reload::Wish { device: device.to_owned(), file: file.map(Into::into) };
    let show = |answer: Answer| screen(words_of(answer.map(|answer| reload::said(&answer).into())));
    hub.submit(Order::Reload(wish), Box::new(show));
}

fn said_flight(screen: Screen) -> Box<dyn FnOnce(Answer) + Send> {
    let said = |answer: serde_json::Value| {
        let path = printable(answer["filename"].as_str().unwrap_or_default());
        let [from, to] = ["from-icount", "icount"].map(|name| grouped(answer[name].as_u64().unwrap_or(0)));
        format!("{path}: from icount {from} to {to}\n").into()
    };
    Box::new(move |answer: Answer| screen(words_of(answer.map(said))))
}

fn said_snapshots(answer: &serde_json::Value) -> serde_json::Value {
    let row = |row: &serde_json::Value| {
        let tag = row["tag"].as_str().unwrap_or_default();
        match (row["icount"].as_u64(), row["vtime-ns"].as_u64()) {
            (Some(icount), Some(vtime_ns)) => {
                format!("{tag:<20} icount {:>16}  vtime {:.6} s\n", grouped(icount), vtime_ns as f64 / 1e9)
            }
            _ => format!("{tag:<20} {}\n", printable(row["error"].as_str().unwrap_or_default())),
        }
    };
    let rows: String = answer.as_array().into_iter().flatten().map(row).collect();
    if rows.is_empty() { "There is no snapshot available.\n".into() } else { rows.into() }
}

fn said_digest(answer: &serde_json::Value) -> serde_json::Value {
    let digest = answer["digest"].as_str().unwrap_or_default();
    format!("{digest} at icount {}\n", answer["icount"]).into()
}

fn replay(hub: &Hub) -> String {
    let facts = hub.facts();
    let what = match (facts.what.mode(), &facts.recording) {
        ("record", Some(path)) => format!("Recording execution '{}'", printable(path)),
        ("play", Some(path)) => format!("Replaying execution '{}'", printable(path)),
        _ => "Neither recording nor replaying".to_owned(),
    };
    let seconds = hub.vtime_ns() as f64 / 1e9;
    format!("{what}: instruction count = {}, virtual time = {seconds:.9} s\n", grouped(hub.icount()))
}

fn in_words(screen: Screen) -> Box<dyn FnOnce(Answer) + Send> {
    Box::new(move |answer| screen(words_of(answer)))
}

fn words_of(answer: Answer) -> String {
    match answer {
        Ok(serde_json::Value::String(text)) => text,
        Ok(_) => String::new(),
        Err(refusal) => format!("Error: {}\n", refusal.desc),
    }
}

/// `/8xg 0x80000000`; without a format one word in hexadecimal.
fn examine(words: &[&str]) -> Result<Examine, String> {
    let (format, address) = match words {
        [format, address] if format.starts_with('/') => (&format[1..], address),
        [address] => ("", address),
        _ => return Err("usage: xp /FMT ADDR, as in xp /8xg 0x80000000".into()),
    };
    let digits = format.bytes().take_while(u8::is_ascii_digit).count();
    let (count, letters) = format.split_at(digits);
    let count = if count.is_empty() { Ok(1) } else { count.parse() };
    let count = count.ok().filter(|count| (1..=EXAMINED).contains(count));
    let count = count.ok_or_else(|| format!("1 to {EXAMINED} values can be shown"))?;
    let (mut form, mut size) = (Form::Hex, 4);
    for letter in letters.chars() {
        match letter {
            'x' => form = Form::Hex,
            'd' => form = Form::Signed,
            'u' => form = Form::Unsigned,
            'o' => form = Form::Octal,
            'c' => (form, size) = (Form::Char, 1),
            'b' => size = 1,
            'h' => size = 2,
            'w' => size = 4,
            'g' => size = 8,
            other => return Err(format!("no format '{}'", other.escape_default())),
        }
    }
    let gpa = match address.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => address.parse(),
    };
    let gpa = gpa.map_err(|_| format!("no address: '{}'", printable(address)))?;
    Ok(Examine { gpa, count, size, form })
}

/// A line as it is typed: the terminal is raw, so what it shows is ours to say.
#[derive(Debug, Default)]
pub(crate) struct Editor {
    line: Vec<u8>,
    /// Inside of what a function key sends.
    escape: Sequence,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sequence {
    #[default]
    None,
    Escape,
    Csi,
}

/// What typing comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// To be shown.
    Echo(Vec<u8>),
    /// A whole line; its end is shown already.
    Line(String),
    /// Ctrl-C or Ctrl-D.
    Leave,
}

/// The longest line.
const LINE_BYTES: usize = 1024;

impl Editor {
    /// Take keys, until one of them completes a line or leaves. Returns how many were taken.
    pub(crate) fn feed(&mut self, keys: &[u8]) -> (usize, Typed) {
        let mut echo = Vec::new();
        for (index, &key) in keys.iter().enumerate() {
            if self.in_sequence(key) {
                continue;
            }
            match key {
                b'\r' | b'\n' if echo.is_empty() => {
                    let line = std::mem::take(&mut self.line);
                    return (index + 1, Typed::Line(String::from_utf8_lossy(&line).into_owned()));
                }
                3 | 4 if echo.is_empty() => {
                    self.line.clear();
                    return (index + 1, Typed::Leave);
                }
                // First show what led here.
                b'\r' | b'\n' | 3 | 4 => return (index, Typed::Echo(echo)),
                8 | 127 => drop(self.rub_out(&mut echo)),
                0x15 => while self.rub_out(&mut echo) {},
                b' '.. if self.line.len() < LINE_BYTES => {
                    self.line.push(key);
                    echo.push(key);
                }
                _ => (),
            }
        }
        (keys.len(), Typed::Echo(echo))
    }
}

impl Editor {
    /// Inside of what a function key sends nothing is text.
    fn in_sequence(&mut self, key: u8) -> bool {
        let before = self.escape;
        self.escape = match (before, key) {
            (Sequence::None, 0x1b) => Sequence::Escape,
            (Sequence::Escape, b'[' | b'O') => Sequence::Csi,
            (Sequence::Csi, 0x20..=0x3f) => Sequence::Csi,
            _ => Sequence::None,
        };
        before != Sequence::None || self.escape != Sequence::None
    }

    /// Take the last character back. Returns whether there was one.
    fn rub_out(&mut self, echo: &mut Vec<u8>) -> bool {
        let is_middle = |byte: Option<&u8>| byte.is_some_and(|byte| byte & 0xc0 == 0x80);
        while is_middle(self.line.last()) {
            self.line.pop();
        }
        let had = self.line.pop().is_some();
        if had {
            echo.extend_from_slice(b"\x08 \x08");
        }
        had
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Facts, What};
    use std::sync::mpsc::channel;

    fn answer(line: &str) -> String {
        let hub = Hub::new(Facts {
            machine: "virt".into(),
            harts: 2,
            takes_nmi: false,
            has_flight_recorder: false,
            what: What::Replay,
            recording: Some("a.rec".into()),
            ports: vec![("uart0.serial".into(), "pty".into())],
            map: "address-space: memory\n".into(),
        });
        hub.ended(None);
        let (sender, receiver) = channel();
        execute(&hub, line, Box::new(move |text| sender.send(text).unwrap()));
        receiver.recv().unwrap()
    }

    #[test]
    fn lines_are_commands() {
        assert_eq!(answer("  "), "");
        assert!(answer("help").contains("info registers"));
        assert_eq!(answer("info status"), "VM status: shutdown\n");
        assert!(answer("info replay").starts_with("Replaying execution 'a.rec': instruction count = 0,"));
        assert_eq!(answer("info chardev"), "uart0.serial: filename=pty\n");
        assert_eq!(answer("info mtree"), "address-space: memory\n");
        assert_eq!(answer("stop"), "Error: the machine has ended\n");
        assert_eq!(answer("nmi"), "Error: the machine has ended\n");
        assert_eq!(answer("replay_seek 5"), "Error: the machine has ended\n");
        assert_eq!(answer("replay_seek line:2"), "Error: the machine has ended\n");
        assert!(answer("replay_seek soon").contains("write icount:N"));
        assert_eq!(answer("replay_break"), "usage: replay_break PLACE\n");
        assert_eq!(answer("replay_break x"), "Error: no number of instructions: 'x'\n");
        assert_eq!(answer("info digest"), "Error: the machine has ended\n");
        assert_eq!(answer("plugin_reload uart0 /x.so"), "Error: the machine has ended\n");
        assert_eq!(answer("plugin_reload"), "usage: plugin_reload DEVICE [FILE.so]\n");
        assert_eq!(answer("stop now"), "stop: extraneous characters at the end of line\n");
        assert_eq!(answer("launch \x1b[2J"), "unknown command: 'launch'\n");
        assert_eq!(answer("info tea"), "unknown command: 'info tea'\n");
        assert_eq!(answer("info registers x"), "Error: the number of a hart is missing\n");
    }

    #[test]
    fn examinations() {
        let wanted = |line: &str| examine(&line.split(' ').collect::<Vec<_>>());
        let simple = Examine { gpa: 0x10, count: 1, size: 4, form: Form::Hex };
        assert_eq!(wanted("0x10"), Ok(simple));
        assert_eq!(wanted("/8xg 16"), Ok(Examine { count: 8, size: 8, ..simple }));
        assert_eq!(wanted("/c 16"), Ok(Examine { size: 1, form: Form::Char, ..simple }));
        for wrong in
            ["", "/0x 1", "/4097x 1", "/99999999999999999999x 1", "/i 1", "/x", "y", "0xfffffffffffffffff"]
        {
            assert!(wanted(wrong).is_err(), "{wrong}");
        }
    }

    /// The lines that keys come to, and what they show.
    fn typed(keys: &[u8]) -> (Vec<String>, String) {
        let (mut editor, mut lines, mut shown) = (Editor::default(), Vec::new(), Vec::new());
        let mut rest = keys;
        while !rest.is_empty() {
            let (taken, what) = editor.feed(rest);
            rest = &rest[taken..];
            match what {
                Typed::Echo(echo) => shown.extend(echo),
                Typed::Line(line) => lines.push(line),
                Typed::Leave => lines.push("<left>".into()),
            }
        }
        (lines, String::from_utf8(shown).unwrap())
    }

    #[test]
    fn a_line_can_be_corrected_and_left() {
        assert_eq!(typed(b"stop\r"), (vec!["stop".into()], "stop".into()));
        assert_eq!(typed(b"sx\x7ftop\rc\n").0, ["stop", "c"]);
        assert_eq!(typed("a\u{e9}\x08\x08\x08b\r".as_bytes()).0, ["b"]);
        assert_eq!(typed(b"mess\x15help\r").0, ["help"]);
        assert_eq!(typed(b"mess\x03").0, ["<left>"]);
        assert_eq!(typed(b"x\x04y\r").0, ["<left>", "y"]);
        assert_eq!(typed(b"a\x1b[A\x1b[1;5Cb\x1bOP\r"), (vec!["ab".into()], "ab".into()));
        assert_eq!(typed(&[&[b'x'; 2 * LINE_BYTES][..], b"\r"].concat()).0, ["x".repeat(LINE_BYTES)]);
    }
}
