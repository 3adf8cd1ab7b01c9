//! `reprise log`: the records of a recording, one a line.

use super::{
    Hash, Store,
    scan::{Names, scan},
};
use crate::{failure::Failure, inspect::out, place::Place};
use clap::ValueEnum;
use reprise_machine::{
    PortChange,
    replay::{Control, Entry, Event, Record, log::Tail},
};
use serde_json::{Value, json};
use std::fmt::Write;

/// Kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    Input,
    PortChange,
    Control,
    WriteMemory,
    WriteRegister,
    BottomHalf,
    HostClock,
    DiskBlock,
    Digest,
    Seed,
    End,
}

impl Kind {
    pub(crate) fn of(entry: &Entry) -> Self {
        match entry {
            Entry::Event(Event::Input { .. }) => Self::Input,
            Entry::Event(Event::PortChange { .. }) => Self::PortChange,
            Entry::Event(Event::Control(_)) => Self::Control,
            Entry::Event(Event::WriteMemory { .. }) => Self::WriteMemory,
            Entry::Event(Event::WriteRegister { .. }) => Self::WriteRegister,
            Entry::Event(Event::BottomHalf { .. }) => Self::BottomHalf,
            Entry::Event(Event::HostClock { .. }) => Self::HostClock,
            Entry::DiskBlock { .. } => Self::DiskBlock,
            Entry::Digest(_) => Self::Digest,
            Entry::Seed(_) => Self::Seed,
            Entry::End { .. } => Self::End,
        }
    }

    /// As on the command line and in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::PortChange => "port-change",
            Self::Control => "control",
            Self::WriteMemory => "write-memory",
            Self::WriteRegister => "write-register",
            Self::BottomHalf => "bottom-half",
            Self::HostClock => "host-clock",
            Self::DiskBlock => "disk-block",
            Self::Digest => "digest",
            Self::Seed => "seed",
            Self::End => "end",
        }
    }
}

/// Which records are shown.
#[derive(Debug, clap::Args)]
pub(crate) struct Filter {
    /// Only records of this kind; may be given several times
    #[arg(long, value_enum, value_name = "KIND")]
    kind: Vec<Kind>,
    /// Only records of this device
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// Only records from there on: icount:N, vtime:1.5s, 50%, event:N
    #[arg(long, value_name = "POS", value_parser = Place::parse_logged)]
    from: Option<Place>,
    /// Only records before there
    #[arg(long, value_name = "POS", value_parser = Place::parse_logged)]
    to: Option<Place>,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

/// How far the walk is.
struct Walk {
    icount: u64,
    vtime_ns: u64,
    /// Number of the event.
    event: u64,
    /// Where the log begins.
    first_icount: u64,
    /// Instructions of the whole log, if a filter wants to know.
    whole_icount: u64,
}

impl Walk {
    fn has_reached(&self, place: Place) -> bool {
        match place {
            Place::Icount(icount) => self.icount >= icount,
            Place::Vtime(vtime_ns) => self.vtime_ns >= vtime_ns,
            Place::Share(share) => {
                let passed = u128::from(self.icount.saturating_sub(self.first_icount));
                passed * u128::from(crate::place::WHOLE) >= u128::from(self.whole_icount) * u128::from(share)
            }
            Place::Event(event) => self.event >= event,
            // `Place::parse_logged` refuses lines.
            Place::Line(_) | Place::End => false,
        }
    }
}

/// Lines are handed on in pieces of about this size.
const PIECE_BYTES: usize = 64 << 10;

/// `reprise log REC`.
pub(crate) fn log(path: &std::path::Path, filter: &Filter, as_json: bool) -> Result<u8, Failure> {
    let store = Store::open(path)?;
    let names = Names(&store);
    let first_icount = store.manifest().start.as_ref().map_or(0, |start| start.icount);
    let whole_icount = whole_icount(&store, filter)?.saturating_sub(first_icount);
    let mut walk = Walk { icount: 0, vtime_ns: 0, event: 0, first_icount, whole_icount };
    let (mut text, mut shown) = (String::new(), 0);
    let tail = scan(&store, |record| {
        (walk.icount, walk.vtime_ns) = (record.icount, record.position.vtime_ns);
        if filter.to.is_some_and(|place| walk.has_reached(place)) {
            return Ok(false);
        }
        let number = matches!(record.entry, Entry::Event(_)).then_some(walk.event);
        if filter.takes(record, &walk, &names) {
            let line = match as_json {
                true => to_json(record, number, &names).to_string(),
                false => to_text(record, number, &names),
            };
            text += &line;
            text.push('\n');
            shown += 1;
        }
        walk.event += u64::from(number.is_some());
        if text.len() >= PIECE_BYTES {
            out(&std::mem::take(&mut text))?;
        }
        Ok(filter.limit.is_none_or(|limit| shown < limit))
    })?;
    out(&text)?;
    if let Some(tail @ Tail::Torn { .. }) = tail {
        crate::run::say(&format!("reprise: the log was not closed: {tail}\n"));
    }
    Ok(0)
}

fn whole_icount(store: &Store, filter: &Filter) -> Result<u64, Failure> {
    let mut icount = 0;
    if [filter.from, filter.to].iter().flatten().any(|place| matches!(place, Place::Share(_))) {
        scan(store, |record| {
            icount = record.icount;
            Ok(true)
        })?;
    }
    Ok(icount)
}

impl Filter {
    fn takes(&self, record: &Record, walk: &Walk, names: &Names<'_>) -> bool {
        let kind = Kind::of(&record.entry);
        let device = match &record.entry {
            Entry::Event(event) => names.device_of(event),
            Entry::DiskBlock { device, .. } => Some(names.device(*device)),
            Entry::Seed(_) | Entry::Digest(_) | Entry::End { .. } => None,
        };
        (self.kind.is_empty() || self.kind.contains(&kind))
            && self.device.as_ref().is_none_or(|wanted| device.as_ref() == Some(wanted))
            && self.from.is_none_or(|place| walk.has_reached(place))
    }
}

fn to_json(record: &Record, number: Option<u64>, names: &Names<'_>) -> Value {
    let mut line = json!({
        "kind": Kind::of(&record.entry).name(),
        "vtime_ns": record.position.vtime_ns,
        "order": record.position.order,
        "icount": record.icount,
    });
    if let Some(number) = number {
        line["event"] = number.into();
    }
    let more = match &record.entry {
        Entry::Event(event) => event_json(event, names),
        Entry::DiskBlock { device, port, block, hash } => {
            json!({ "port": names.port(*device, *port), "block": block, "blake3": Hash(*hash).to_string() })
        }
        Entry::Digest(digest) => json!({ "digest": Hash(digest.whole).to_string(), "parts": digest.parts }),
        Entry::Seed(seed) => json!({ "seed": Hash(seed.0).to_string() }),
        Entry::End { reason, chain } => {
            json!({ "reason": reason.to_string(), "chain": Hash(*chain).to_string() })
        }
    };
    if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
        line.extend(more);
    }
    line
}

fn event_json(event: &Event, names: &Names<'_>) -> Value {
    match event {
        Event::Input { device, port, data } => {
            json!({ "port": names.port(*device, *port), "bytes": data.len(), "data": hex(data) })
        }
        Event::PortChange { device, port, change } => {
            json!({ "port": names.port(*device, *port), "change": change_name(*change) })
        }
        Event::Control(control) => json!({ "control": control_name(*control) }),
        Event::WriteMemory { gpa, data } => json!({ "gpa": gpa, "bytes": data.len(), "data": hex(data) }),
        Event::WriteRegister { hart, register, value } => {
            json!({ "hart": hart, "register": register, "value": value })
        }
        Event::BottomHalf { device, bh, oneshot } => {
            json!({ "device": names.device(*device), "bottom_half": bh, "oneshot": oneshot })
        }
        Event::HostClock { value_ns } => json!({ "value_ns": value_ns }),
    }
}

fn to_text(record: &Record, number: Option<u64>, names: &Names<'_>) -> String {
    let Record { position, icount, entry } = record;
    let (s, ns) = (position.vtime_ns / 1_000_000_000, position.vtime_ns % 1_000_000_000);
    let number = number.map_or_else(String::new, |number| number.to_string());
    let kind = Kind::of(entry).name();
    let mut line = format!("{number:>7} {s:5}.{ns:09} {icount:>14} {kind:<14} ");
    // Writing to a string does not fail.
    let _ok = match entry {
        Entry::Event(event) => write!(line, "{}", event_text(event, names)),
        Entry::DiskBlock { device, port, block, hash } => {
            write!(line, "{} block {block}, {:.16}…", names.port(*device, *port), Hash(*hash).to_string())
        }
        Entry::Digest(digest) => write!(line, "{}", Hash(digest.whole)),
        Entry::Seed(seed) => write!(line, "{}", Hash(seed.0)),
        Entry::End { reason, .. } => write!(line, "{reason}"),
    };
    line
}

fn event_text(event: &Event, names: &Names<'_>) -> String {
    match event {
        Event::Input { device, port, data } => {
            format!("{} {} bytes {}", names.port(*device, *port), data.len(), quoted(data))
        }
        Event::PortChange { device, port, change } => {
            format!("{} {}", names.port(*device, *port), change_name(*change))
        }
        Event::Control(control) => control_name(*control).to_owned(),
        Event::WriteMemory { gpa, data } => format!("{gpa:#x} {} bytes {}", data.len(), quoted(data)),
        Event::WriteRegister { hart, register, value } => {
            format!("hart {hart}, register {register} = {value:#x}")
        }
        Event::BottomHalf { device, bh, oneshot } => {
            let oneshot = if *oneshot { ", one-shot" } else { "" };
            format!("{} bottom half {bh}{oneshot}", names.device(*device))
        }
        Event::HostClock { value_ns } => format!("{value_ns} ns since 1970"),
    }
}

fn change_name(change: PortChange) -> &'static str {
    match change {
        PortChange::Opened => "opened",
        PortChange::Closed => "closed",
        PortChange::Break => "break",
    }
}

fn control_name(control: Control) -> &'static str {
    match control {
        Control::Reset => "reset",
        Control::PowerOff => "power-off",
        Control::Nmi => "nmi",
    }
}

/// The beginning of some data, for people.
fn quoted(data: &[u8]) -> String {
    const SHOWN: usize = 60;
    let more = if data.len() > SHOWN { "…" } else { "" };
    format!("\"{}\"{more}", data[..data.len().min(SHOWN)].escape_ascii())
}

fn hex(data: &[u8]) -> String {
    data.iter().fold(String::with_capacity(2 * data.len()), |mut text, byte| {
        let _ok = write!(text, "{byte:02x}");
        text
    })
}
